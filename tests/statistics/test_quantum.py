"""Quantum or not: closed forms against vectors and against the hierarchy, edges decided by counts, published bounds."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import ncsim
from ncsim.statistics.locality_tests import STRATEGIES
from ncsim.statistics.quantum_bounds import correlator_bound
from tests.support import reference_statistics as reference

#: <A1 B1> ... as P(0 0) and P(0): local 0, two qubits 1/4, quantum 0.25087... (Collins and Gisin 2004; Pal and Vertesi 2010).
I3322 = [[0, -1, 0, 0], [-2, 1, 1, 1], [-1, 1, 1, -1], [0, 1, -1, 0]]


def of_means(a, b, c):
    """The table [i, j, a, b] of means a[i], b[j] and correlators c[i, j]."""
    values = np.ones((3, 3))
    values[1:, 0], values[0, 1:], values[1:, 1:] = a, b, c
    return ncsim.from_correlators(values)


def of_state(state, alice, bob):
    """The table of a two-qubit state under measurements in directions of the plane, at these angles."""

    def projectors(angle):
        observable = np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])
        return [(np.eye(2) + sign * observable) / 2 for sign in (-1, 1)]

    table = np.empty((len(alice), len(bob), 2, 2))
    for (i, x), (j, y) in itertools.product(enumerate(alice), enumerate(bob)):
        for (a, p), (b, q) in itertools.product(enumerate(projectors(x)), enumerate(projectors(y))):
            table[i, j, a, b] = state @ np.kron(p, q) @ state
    return table


def random_state_tables(number, seed):
    generator = np.random.default_rng(seed)
    for _ in range(number):
        state = generator.normal(size=4)
        angles = generator.uniform(0, 2 * np.pi, (2, 2))
        yield of_state(state / np.linalg.norm(state), *angles)


def test_no_table_of_a_quantum_state_is_excluded():
    tables = np.stack(list(random_state_tables(500, seed=1)))
    found = ncsim.quantum_statistics(np.round(tables * 1e7).astype(int))
    assert found.quantum_correlators.mean() > 0.999
    assert np.max(found.arcsine_excess) < 1e-3
    # Rounded counts signal, so level 1 is asked of tables without: by the hierarchy, below.
    pure = ncsim.quantum_statistics(np.stack([of_means((0, 0), (0, 0), 0.9999 * np.cos(t)) for t in crosses(200)]))
    assert pure.level_1.all()
    assert pure.quantum_correlators.all()


def crosses(number):
    """Angles between vectors of a plane, [i, j]."""
    generator = np.random.default_rng(2)
    for _ in range(number):
        alice, bob = generator.uniform(0, 2 * np.pi, (2, 2))
        yield alice[:, None] - bob


@pytest.mark.parametrize("seed", [3])
def test_arcsines_and_landau_s_form_agree(seed):
    """In fractions of any size, and not only where totals are equal; on no table is one inside and the other far out."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 7, (4_000, 2, 2, 2, 2)) * generator.integers(1, 4, (4_000, 2, 2, 1, 1)) + 1
    counts[::2, [0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0]] = 0
    found = ncsim.quantum_statistics(counts)
    assert np.array_equal(found.quantum_correlators[np.abs(found.arcsine_excess) > 1e-9], (found.arcsine_excess < 0)[np.abs(found.arcsine_excess) > 1e-9])  # fmt: skip
    assert 20 < np.sum(~found.quantum_correlators) < 2_000
    assert np.array_equal(found.signalling, ncsim.chsh_statistics(counts).influence > 0)


def test_a_table_on_the_edge_is_inside():
    """Where the sum of arcsines is pi in theory, floating point says either; Landau's form in whole numbers does not."""
    rows = 60
    for k in range(rows + 1):
        c = np.array([[rows, rows], [k, k]]) / rows  # asin 1 + asin 1 + asin c - asin c
        table = np.round(of_means((0, 0), (0, 0), c) * 4 * rows).astype(int)
        found = ncsim.quantum_statistics(table)
        assert found.quantum_correlators
        assert found.level_1
        assert found.local
        c[1, 1] = (k - 1) / rows
        beyond = ncsim.quantum_statistics(np.round(of_means((0, 0), (0, 0), c) * 4 * rows).astype(int))
        assert not beyond.quantum_correlators
        assert not beyond.level_1
        assert not beyond.local


def test_noisy_pr_boxes_leave_at_2_sqrt_2():
    """v of a PR box and 1 - v of noise: quantum up to v = 1 / sqrt 2, S = 2 sqrt 2 to 1e-6; local up to 1 / 2."""
    scale = 4 * 10**7
    for v, kinds in [
        (Fraction(1, 2), (True, True)),
        (Fraction(5_000_001, 10**7), (False, True)),
        (Fraction(7_071_067, 10**7), (False, True)),
        (Fraction(7_071_068, 10**7), (False, False)),
        (Fraction(1), (False, False)),
    ]:
        table = [[[[0] * 2 for _ in range(2)] for _ in range(2)] for _ in range(2)]
        for i, j, a, b in itertools.product(range(2), repeat=4):
            sign = (1 if a == b else -1) * (-1 if i == j == 1 else 1)
            table[i][j][a][b] = int(scale * (1 + sign * v) / 4)
        found = ncsim.quantum_statistics(table)
        assert (found.local, found.quantum_correlators) == kinds, v
        assert found.level_1 == found.quantum_correlators
        assert not found.signalling
        s = float(ncsim.chsh_statistics(np.array(table)).s)
        assert s == pytest.approx(float(4 * v))
        if kinds[1]:
            assert s <= 2 * math.sqrt(2)
    assert float(4 * Fraction(7_071_068, 10**7)) - 2 * math.sqrt(2) < 1e-6


def test_level_1_is_stronger_where_accuracies_are_not_one_half():
    """Correlators that a quantum state has, with means that leave it no room (level 1, Navascues, Pironio and Acin 2007)."""
    c = np.full((2, 2), 0.6)
    c[1, 1] = -0.55
    scale = 10**6
    narrow = np.round(of_means((0.2, 0.2), (0.2, 0.2), c) * scale).astype(int)
    found = ncsim.quantum_statistics(narrow)
    assert found.quantum_correlators
    assert not found.signalling
    level = ncsim.quantum_statistics(np.round(of_means((0.3, 0.2), (0.3, 0.2), c) * scale).astype(int))
    centred = (c - np.outer((0.3, 0.2), (0.3, 0.2))) / np.sqrt(
        np.outer(1 - np.square((0.3, 0.2)), 1 - np.square((0.3, 0.2)))
    )
    angles = np.arcsin(centred)
    excess = max(abs(angles.sum() - 2 * angle) for angle in angles.ravel()) - np.pi
    assert bool(level.level_1) == (excess <= 0)


def test_whatever_is_empty_or_signals_is_neither():
    empty = np.ones((2, 2, 2, 2), int)
    empty[0, 1] = 0
    found = ncsim.quantum_statistics(empty)
    assert not any((found.signalling, found.local, found.quantum_correlators, found.level_1))
    assert np.isnan(found.arcsine_excess)
    with pytest.raises(ValueError, match="-1 at"):
        ncsim.quantum_statistics(empty - 1)
    with pytest.raises(ValueError, match="shape"):
        ncsim.quantum_statistics(np.ones((2, 2, 2)))


@pytest.mark.parametrize("concentration", [1.0, 0.05, 0.002])
def test_probabilities_of_one_joint_law_are_local(concentration):
    """Their marginals differ in the last bits alone, and with few strategies they lie on faces and vertices."""
    weights = np.random.default_rng(10).dirichlet(np.full(16, concentration), 500)
    found = ncsim.quantum_statistics(np.tensordot(weights, STRATEGIES, 1))
    assert not found.signalling.any()
    assert found.local.all()
    assert found.level_1.all()
    assert found.quantum_correlators.all()
    assert found.arcsine_excess.max() < 2e-4


def test_probabilities_of_quantum_states_are_quantum():
    tables = [*random_state_tables(500, seed=11)]
    # Nearly certain answers, where roots lose most digits; and Tsirelson's table, which is on the edge.
    state = np.array([1, 1e-4, 1e-4, 1e-3])
    tables += [of_state(state / np.linalg.norm(state), angles, angles) for angles in ((0, 1e-5), (0, np.pi), (1e-4, 1))]
    tables.append(of_means((0, 0), (0, 0), np.array([[1, 1], [1, -1]]) / math.sqrt(2)))
    found = ncsim.quantum_statistics(np.stack(tables))
    assert not found.signalling.any()
    assert found.level_1.all()
    assert found.quantum_correlators.all()
    assert np.sum(~found.local) > 0


@pytest.mark.parametrize(("off", "inside"), [(2e-10, True), (1e-8, False)])
def test_probabilities_are_decided_to_the_stated_tolerance(off, inside):
    box, noise = np.asarray(reference.PR_BOX, float), np.full((2, 2, 2, 2), 0.25)
    local = ncsim.quantum_statistics((0.5 + off) * box + (0.5 - off) * noise)
    assert (bool(local.local), bool(local.level_1), bool(local.signalling)) == (inside, True, False)
    quantum = ncsim.quantum_statistics((math.sqrt(0.5) + off) * box + (1 - math.sqrt(0.5) - off) * noise)
    assert (bool(quantum.quantum_correlators), bool(quantum.level_1)) == (inside, inside)
    moved = noise.copy()
    moved[0, 1, 1] += off / 2  # Alice's accuracy with Bob's second setting
    moved[0, 1, 0] -= off / 2
    assert bool(ncsim.quantum_statistics(moved).signalling) != inside


@pytest.mark.parametrize(
    "pair",
    [
        np.eye(2, dtype=np.int64) * 2**53,
        np.eye(2, dtype=np.int64) * 2**62,
        np.eye(2, dtype=np.uint64) * np.uint64(2**63),
        *(np.eye(2) * size for size in (1e10 + 0.5, 1e20, 1e308, 1e-10, 1e-310)),
    ],
    ids=str,
)
def test_the_size_of_weights_does_not_matter(pair):
    found = ncsim.quantum_statistics(np.tile(pair, (2, 2, 1, 1)))
    assert (bool(found.signalling), bool(found.local), bool(found.level_1)) == (False, True, True)
    assert found.arcsine_excess == 0


def test_counts_are_exact_at_any_size_and_beside_probabilities():
    """One item in 10^17 signals; and a batch decides each of its tables by itself."""
    counts = np.full((2, 2, 2, 2), 10**17)
    counts[0, 1] += np.array([[-1, -1], [1, 1]])
    assert ncsim.quantum_statistics(counts).signalling
    counts = np.full((2, 2, 2, 2), 1_000_000_000.0)
    counts[0, 1] += np.array([[-1, -1], [1, 1]])  # of probabilities it would be none
    both = ncsim.quantum_statistics(np.stack([counts, counts / 7, counts / 7 * 0]))
    assert both.signalling.tolist() == [True, False, False]
    assert both.local.tolist() == [False, True, False]
    assert np.isnan(both.arcsine_excess).tolist() == [False, False, True]


# ------------------------------------------------------------------------------------------------------ notations


@pytest.mark.parametrize("settings", [(2, 2), (3, 2), (2, 2, 2)])
def test_notations_there_and_back(settings):
    generator = np.random.default_rng(4)
    parties = len(settings)
    # A mixture of products of what each party does does not signal.
    table = np.zeros((*settings, *(2,) * parties))
    for _ in range(5):
        product, weight = np.ones(()), generator.random()
        for m in settings:
            p = generator.random(m)
            product = np.multiply.outer(product, np.stack([p, 1 - p], axis=-1))
        order = [*range(0, 2 * parties, 2), *range(1, 2 * parties, 2)]
        table += weight * product.transpose(order)
    table /= table.sum(axis=tuple(range(parties, 2 * parties)), keepdims=True)
    coefficients = generator.normal(size=table.shape)
    inequality = ncsim.LinearInequality("any", coefficients)
    for to, back, own in [
        (ncsim.to_collins_gisin, ncsim.from_collins_gisin, inequality.collins_gisin),
        (ncsim.to_correlators, ncsim.from_correlators, inequality.correlators),
    ]:
        np.testing.assert_allclose(back(to(table)), table, atol=1e-12)
        assert np.sum(own * to(table)) == pytest.approx(float(inequality.value(table)))
    zeros = ncsim.to_collins_gisin(table)
    assert zeros[(1,) * parties] == pytest.approx(table[(0,) * 2 * parties])
    alone = table[(0, 1, *(0,) * (parties - 2), slice(None), 0)]  # the second party's outcome 0 in its second setting
    assert zeros[(0, 2, *(0,) * (parties - 2))] == pytest.approx(alone.sum())
    again = ncsim.collins_gisin_inequality("again", inequality.collins_gisin)
    assert float(again.value(table)) == pytest.approx(float(inequality.value(table)))


def test_notations_of_one_setting_for_a_party():
    """By hand: P(a = 0) = 0.3, P(b = 0) = 0.6 and P(a = b = 0) = 0.2, and means of outcomes -1 (0) and +1 (1)."""
    zeros, means = [[1, 0.6], [0.3, 0.2]], [[1, -0.2], [0.4, 0.2 + 0.3 - 0.1 - 0.4]]
    for values, back in ((zeros, ncsim.from_collins_gisin), (means, ncsim.from_correlators)):
        np.testing.assert_allclose(back(values), [[[[0.2, 0.1], [0.4, 0.3]]]], atol=1e-15)
    np.testing.assert_allclose(ncsim.from_collins_gisin([1, 0.3]), [[0.3, 0.7]], atol=1e-15)
    np.testing.assert_allclose(ncsim.from_correlators([1, 0.4]), [[0.3, 0.7]], atol=1e-15)


def test_a_table_that_signals_has_no_such_notation():
    table = np.full((2, 2, 2, 2), 4)
    table[0, 1] = [[8, 0], [8, 0]]
    with pytest.raises(ValueError, match=r"^table: it signals"):
        ncsim.to_collins_gisin(table)
    for wrong, words in [
        (np.ones((2, 2, 2)), "shape"),
        (-table, "allowed: 0 or above"),
        (table * 0, r"no items at settings \(0, 0\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            ncsim.to_correlators(wrong)
    for wrong in ([[1.0]], 1.0, [[1, np.nan], [0, 0]]):
        with pytest.raises(ValueError, match=r"^values: "):
            ncsim.from_correlators(wrong)


# --------------------------------------------------------------------------------------------------------- bounds


def test_quantum_bounds_are_computed():
    """Against closed forms (Tsirelson 1980; Wehner 2006 for chained; Mermin 1990; Svetlichny 1987)."""
    assert ncsim.chsh_inequality().quantum_bound == pytest.approx(2 * math.sqrt(2), abs=1e-9)
    for m in (2, 3, 5):
        assert ncsim.chained_inequality(m).quantum_bound == pytest.approx(2 * m * math.cos(math.pi / (2 * m)), abs=1e-8)
    assert ncsim.mermin_inequality().quantum_bound == pytest.approx(4, abs=1e-12)
    assert ncsim.svetlichny_inequality().quantum_bound == pytest.approx(4 * math.sqrt(2), abs=1e-12)
    assert ncsim.correlator_inequality("one party", [1, -2]).quantum_bound == 3
    assert ncsim.correlator_inequality("nothing", np.zeros((2, 2))).quantum_bound == 0
    assert ncsim.correlator_inequality("three settings, three parties", np.ones((3, 3, 3))).quantum_bound is None
    assert correlator_bound(np.array([[1.0, 1], [1, 0.5]])) == pytest.approx(3.5, abs=1e-9)  # classical answers do best


def test_bounds_without_signalling():
    i3322 = ncsim.collins_gisin_inequality("I3322", I3322)
    assert i3322.classical_bound == pytest.approx(0, abs=1e-12)
    assert i3322.no_signalling_bound == pytest.approx(1)
    assert ncsim.chsh_inequality().no_signalling_bound == pytest.approx(4)
    assert ncsim.chained_inequality(3).no_signalling_bound == pytest.approx(6)
    assert ncsim.mermin_inequality().no_signalling_bound == pytest.approx(4)
    assert ncsim.svetlichny_inequality().no_signalling_bound == pytest.approx(8)


def test_the_hierarchy_s_levels_of_i3322():
    """Pal and Vertesi 2010, and Navascues, Pironio and Acin 2008: 3/8, 0.251470, 0.250939."""
    i3322 = ncsim.collins_gisin_inequality("I3322", I3322)
    for level, value in [(1, 0.375), ("1+ab", 0.251470), (2, 0.250939)]:
        assert ncsim.npa_bound(i3322, level) == pytest.approx(value, abs=2e-6)


@pytest.mark.thorough
def test_the_third_level_of_i3322():
    assert ncsim.npa_bound(ncsim.collins_gisin_inequality("I3322", I3322), 3) == pytest.approx(0.250875, abs=2e-6)


def test_the_hierarchy_agrees_with_the_other_bounds():
    generator = np.random.default_rng(5)
    for shape, level in [((2, 3), 1), ((3, 3), 1), ((2, 2, 2), "1+ab+ac+bc")]:
        inequality = ncsim.correlator_inequality("any", generator.normal(size=shape))
        assert ncsim.npa_bound(inequality, level) == pytest.approx(inequality.quantum_bound, abs=2e-5)
    assert ncsim.npa_bound(ncsim.mermin_inequality(), "1+ab+ac+bc") == pytest.approx(4, abs=1e-5)


@pytest.mark.parametrize("settings", [2, 4, 8])
def test_the_hierarchy_s_bound_is_one(settings):
    """Level 1 of correlators is exact (Tsirelson 1987). What the solver leaves undone may make a bound larger, and never smaller, than the value
    that vectors reach: with eight settings its own number was 2e-6 below that."""
    generator = np.random.default_rng(settings)
    for weights in (generator.normal(size=(settings,) * 2), generator.choice([-1.0, 1.0], (settings,) * 2)):
        inequality = ncsim.correlator_inequality("any", weights)
        over = (ncsim.npa_bound(inequality, 1) - inequality.quantum_bound) / np.abs(weights).max()
        assert -1e-9 < over < 1e-6


def test_the_hierarchy_s_bound_is_never_above_the_sum_of_coefficients():
    chained, mermin = ncsim.chained_inequality(3), ncsim.mermin_inequality()
    assert 6 * math.cos(math.pi / 6) <= ncsim.npa_bound(chained, 1) < 6 * math.cos(math.pi / 6) + 1e-6
    assert 4 - 1e-9 < ncsim.npa_bound(mermin, "1+ab+ac+bc") <= 4


def test_visibility_is_that_of_the_closed_forms():
    assert ncsim.npa_visibility(reference.PR_BOX) == pytest.approx(math.sqrt(0.5), abs=1e-5)
    tsirelson = of_means((0, 0), (0, 0), np.array([[1, 1], [1, -1]]) / math.sqrt(2))
    assert ncsim.npa_visibility(tsirelson) == pytest.approx(1, abs=1e-5)
    for table in random_state_tables(3, seed=6):
        assert ncsim.npa_visibility(table) >= 1 - 1e-5
    # Level 1 with means: where its closed form changes, by the whole numbers and by the programme.
    c = np.array([[0.8, 0.7], [0.75, -0.5]])
    table = of_means((0.1, 0.05), (0.1, 0.05), c)
    v = ncsim.npa_visibility(table, 1)
    for share, inside in [(v - 1e-4, True), (v + 1e-4, False)]:
        assert bool(ncsim.quantum_statistics(share * table + (1 - share) / 4).level_1) == inside
    signals = np.full((2, 2, 2, 2), 4)
    signals[0, 1] = [[8, 0], [8, 0]]
    with pytest.raises(ValueError, match="signals"):
        ncsim.npa_visibility(signals)


@pytest.mark.parametrize("size", [1e-300, 1e-10, 1e-8, 0.3, 1e6, 1e9, 1e20, 1e300])
def test_bounds_are_in_proportion_to_the_coefficients(size):
    """Solvers stop at fixed differences, which are large or small only as coefficients are."""
    chsh = ncsim.correlator_inequality("CHSH", size * np.array([[1, 1], [1, -1]]))
    assert chsh.classical_bound / size == pytest.approx(2)
    assert chsh.quantum_bound / size == pytest.approx(2 * math.sqrt(2), abs=1e-9)
    assert chsh.no_signalling_bound / size == pytest.approx(4, abs=1e-9)
    assert ncsim.npa_bound(chsh) / size == pytest.approx(2 * math.sqrt(2), abs=1e-6)
    assert chsh.standard_error(np.ones((2, 2, 2, 2))) / size == pytest.approx(1)
    i3322 = ncsim.collins_gisin_inequality("I3322", size * np.array(I3322))
    assert i3322.no_signalling_bound / size == pytest.approx(1, abs=1e-9)
    assert ncsim.npa_bound(i3322) / size == pytest.approx(0.251470, abs=2e-6)
    three = ncsim.mermin_inequality().correlators[1:, 1:, 1:]
    assert correlator_bound(size * three) / size == pytest.approx(4, abs=1e-9)
    assert correlator_bound(size * np.array([1, -2])) / size == pytest.approx(3)


@pytest.mark.parametrize("constant", [0.0, -7.0, 1e6])
def test_a_constant_moves_bounds_and_makes_them_no_worse(constant):
    moved = ncsim.LinearInequality("moved", ncsim.chsh_inequality().coefficients + constant / 4)
    assert ncsim.npa_bound(moved) - constant == pytest.approx(2 * math.sqrt(2), abs=1e-6)
    assert moved.no_signalling_bound - constant == pytest.approx(4, abs=1e-9)
    alone = ncsim.LinearInequality("alone", np.full((2, 2, 2, 2), constant / 4))
    assert ncsim.npa_bound(alone) == pytest.approx(constant)
    assert alone.no_signalling_bound == pytest.approx(constant)


@pytest.mark.parametrize("level", ["", "0", "1+", "ab", "1+ac", "1.5", "1+ab "])
def test_levels_that_are_none(level):
    with pytest.raises(ValueError, match=r"^level: "):
        ncsim.npa_bound(ncsim.chsh_inequality(), level)


def test_a_level_without_a_mean_of_all_parties_is_refused():
    with pytest.raises(ValueError, match="no mean of 3 parties"):
        ncsim.npa_bound(ncsim.mermin_inequality(), 1)


def test_without_cvxpy_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"^ncsim.npa_bound: cvxpy is not installed; .*pip install '\.\[quantum\]'$"):
        ncsim.npa_bound(ncsim.chsh_inequality())
