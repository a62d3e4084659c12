"""Cyclic systems of any rank and scenarios of any shape: against the closed forms of rank 4, and published values."""

import itertools
import math

import numpy as np
import pytest

import ncsim
from tests.support import reference_statistics as reference


def ring_of(table):
    """A1 B1, B1 A2, A2 B2, B2 A1."""
    table = np.asarray(table)
    turned = table.swapaxes(-1, -2)
    return np.stack(
        [table[..., 0, 0, :, :], turned[..., 1, 0, :, :], table[..., 1, 1, :, :], turned[..., 0, 1, :, :]], -3
    )


def test_rank_4_is_chsh():
    """With equal totals and others, to the last bit."""
    generator = np.random.default_rng(1)
    counts = generator.integers(0, 6, (2_000, 2, 2, 2, 2))
    counts[:1_000, ..., 1, 1] = 16 - counts[:1_000].reshape(-1, 2, 2, 4)[..., :3].sum(axis=-1)
    found, expected = ncsim.cyclic_statistics(ring_of(counts)), ncsim.chsh_statistics(counts)
    for name in ("s_odd", "influence", "contextuality"):
        assert np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=True), name
    order = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]).T
    np.testing.assert_array_equal(found.correlator, expected.correlator[:, *order])


def test_the_pentagon():
    """Klyachko, Can, Binicioglu and Shumovsky 2008: the sum of five correlators is 5 - 4 sqrt 5 = -3.944, local -3."""
    both = 1 / math.sqrt(5)  # P(answer is 1), never of two neighbours
    ring = np.tile([[1 - 2 * both, both], [both, 0]], (5, 1, 1))
    found = ncsim.cyclic_statistics(ring)
    assert found.correlator.sum() == pytest.approx(5 - 4 * math.sqrt(5))
    assert found.influence == pytest.approx(0, abs=1e-12)
    assert found.contextuality == pytest.approx(4 * math.sqrt(5) - 8)
    contexts = [(k, (k + 1) % 5) for k in range(5)]
    assert ncsim.contextual_fraction(contexts, list(ring)) == pytest.approx((4 * math.sqrt(5) - 8) / 2, abs=1e-8)


@pytest.mark.parametrize("size", [10**5, 10**7, 10**8, 10**9])
def test_the_least_contextuality_is_not_the_solver_s_tolerance(size):
    """CHSH sums of 2 + 2 / size without signalling: both are 1 / size, of which 1e-7 is what HiGHS overlooks by itself."""
    same = np.array([[3 * size + 1, size - 1], [size - 1, 3 * size + 1]])
    contexts, tables = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")], [same, same, same, same[::-1]]
    assert ncsim.contextual_fraction(contexts, tables) == pytest.approx(1 / size, rel=1e-6, abs=1e-12)
    assert ncsim.excess_mismatch(contexts, tables) == pytest.approx(1 / size, rel=1e-6, abs=1e-12)
    local = [np.array([[3, 1], [1, 3]])] * 3 + [np.array([[1, 3], [3, 1]])]
    assert ncsim.contextual_fraction(contexts, local) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rank", [2, 3, 5, 6])
def test_delta_is_twice_the_contextual_fraction_where_nothing_signals(rank):
    """In random systems whose answers have one mean each: mixtures of a box and of a local one."""
    generator = np.random.default_rng(rank)
    contexts = [(k, (k + 1) % rank) if rank > 2 else ((0, 1), (1, 0))[k] for k in range(rank)]
    seen = set()
    for share in (0.01, 0.6, 0.9):
        box = np.tile([[0.5, 0], [0, 0.5]], (rank, 1, 1))
        box[-1] = box[-1][::-1]
        p = generator.random(rank)
        local = np.stack([np.outer((1 - p[k], p[k]), (1 - p[(k + 1) % rank], p[(k + 1) % rank])) for k in range(rank)])
        ring = share * box + (1 - share) * local
        delta = float(ncsim.cyclic_statistics(ring).contextuality)
        seen.add(delta > 0)
        assert ncsim.contextual_fraction(contexts, list(ring)) == pytest.approx(max(delta, 0) / 2, abs=1e-8)
    assert seen == ({True} if rank == 2 else {True, False})


@pytest.mark.parametrize("size", [5e-324, 1.0, 1e300, 1.7e308])
def test_weights_of_any_size(size):
    """What adds up to more than a float holds had a fraction of 1, whatever it was."""
    same, other = size * np.eye(2), size * np.eye(2)[::-1]
    contexts = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
    for last, expected in ((same, 0), (other, 1)):
        tables = [same, same, same, last]
        assert ncsim.contextual_fraction(contexts, tables) == pytest.approx(expected, abs=1e-9)
        assert ncsim.excess_mismatch(contexts, tables) == pytest.approx(expected, abs=1e-9)
        ring = ncsim.cyclic_statistics(ring_of(np.array(tables).reshape(2, 2, 2, 2)))
        assert ring.contextuality == 2 * expected
        assert ring.correlator.tolist() == [1, 1, 1 - 2 * expected, 1]


@pytest.mark.parametrize("size", [1e-300, 3.0, 2.0**1001, 2.9e307])
def test_shares_of_tables_are_those_of_weights_of_any_size(size):
    """Where four cells add up to no float, accuracies were 0, correlators NaN and the visibility of a signalling table 2."""
    shares = np.array([[[[3, 1], [2, 10]], [[3, 0], [0, 9]]], [[[4, 1], [1, 10]], [[1, 6], [5, 4]]]]) / 1.75
    table = size * shares
    expected = ncsim.chsh_statistics(shares)
    for name, values in ncsim.chsh_statistics(table)._asdict().items():
        np.testing.assert_allclose(values, getattr(expected, name), rtol=1e-12, atol=1e-15, err_msg=name)
    assert ncsim.chsh_inequality().value(table) == pytest.approx(float(expected.s), rel=1e-14)
    measures, alike = (ncsim.contextuality_measures(each) for each in (table, shares))
    assert measures.contextual_fraction == pytest.approx(alike.contextual_fraction, abs=1e-12)
    with pytest.raises(ValueError, match="it signals"):
        ncsim.npa_visibility(table)


def test_a_ring_by_every_coupling():
    """Delta by the definition: s_odd over all odd choices of signs."""
    generator = np.random.default_rng(7)
    for rank in (2, 3, 4, 5):
        counts = generator.integers(0, 5, (50, rank, 2, 2)) + 1
        found = ncsim.cyclic_statistics(counts)
        signs = [s for s in itertools.product((1, -1), repeat=rank) if np.prod(s) == -1]
        sums = np.max([found.correlator @ np.array(s) for s in signs], axis=0)
        np.testing.assert_allclose(found.s_odd, sums, atol=1e-12)
        total = counts.sum(axis=(-1, -2))
        first = (counts.sum(axis=-1)[..., 1] - counts.sum(axis=-1)[..., 0]) / total
        second = (counts.sum(axis=-2)[..., 1] - counts.sum(axis=-2)[..., 0]) / total
        influence = np.abs(first - np.roll(second, 1, axis=-1)).sum(axis=-1)
        np.testing.assert_allclose(found.influence, influence, atol=1e-12)
        np.testing.assert_allclose(found.contextuality, sums - (rank - 2) - influence, atol=1e-12)


def test_published_contextual_fractions():
    """Abramsky, Barbosa and Mansfield 2017: 1 for the PR box and GHZ; (2 sqrt 2 - 2) / 2 for Tsirelson's table."""
    pairs = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
    assert ncsim.contextual_fraction(pairs, list(reference.PR_BOX.reshape(4, 2, 2))) == pytest.approx(1)
    c = np.array([1, 1, 1, -1]) / math.sqrt(2)
    tsirelson = [np.array([[1 + k, 1 - k], [1 - k, 1 + k]]) / 4 for k in c]
    assert ncsim.contextual_fraction(pairs, tsirelson) == pytest.approx(math.sqrt(2) - 1, abs=1e-8)
    # GHZ: X X X has an even number of 1, X Y Y and its like an odd one.
    names = [("Xa", "Xb", "Xc"), ("Xa", "Yb", "Yc"), ("Ya", "Xb", "Yc"), ("Ya", "Yb", "Xc")]
    parity = np.indices((2, 2, 2)).sum(axis=0) % 2
    assert ncsim.contextual_fraction(names, [parity == 0, *[parity == 1] * 3]) == pytest.approx(1)
    # Without X X X something local is left; a measurement by itself is not contextual.
    assert ncsim.contextual_fraction(names[1:], [parity == 1] * 3) == pytest.approx(0, abs=1e-9)
    assert ncsim.contextual_fraction([("X",)], [[3, 1]]) == pytest.approx(0, abs=1e-9)


def test_the_square_of_peres_and_mermin():
    """Three rows and three columns of nine observables, whose products are 1 but for one column: no assignment at all."""
    contexts = [tuple((row, column) for column in range(3)) for row in range(3)]
    contexts += [tuple((row, column) for row in range(3)) for column in range(3)]
    even = np.indices((2, 2, 2)).sum(axis=0) % 2 == 0
    assert ncsim.contextual_fraction(contexts, [even] * 5 + [~even]) == pytest.approx(1)
    assert ncsim.contextual_fraction(contexts, [even] * 6) == pytest.approx(0, abs=1e-9)


def test_outcomes_of_any_number():
    """Three outcomes: perfectly equal answers everywhere but one context, where they are shifted."""
    shift = np.roll(np.eye(3), 1, axis=1)
    pairs = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
    assert ncsim.contextual_fraction(pairs, [np.eye(3)] * 3 + [shift]) == pytest.approx(1)
    assert ncsim.contextual_fraction(pairs, [np.eye(3)] * 4) == pytest.approx(0, abs=1e-9)


def test_refusals():
    for contexts, tables, words in [
        ([], [], "0 for 0 contexts"),
        ([("A",)], [], "0 for 1 contexts"),
        ([("A", "A")], [np.eye(2)], "different names"),
        ([("A",)], [np.eye(2)], "an axis for each"),
        ([("A",), ("A",)], [[1, 1], [1, 1, 1]], "A has 2 outcomes and 3"),
        ([("A",)], [[0, 0]], "no items"),
        ([("A",)], [[1, -1]], "no count"),
        ([tuple(range(17))], [np.ones((2,) * 17)], "131072 assignments; allowed: 65536"),
    ]:
        with pytest.raises(ValueError, match=words):
            ncsim.contextual_fraction(contexts, tables)
    for counts, words in [
        (np.ones((1, 2, 2)), "2 or more"),
        (np.ones((2, 2)), "shape"),
        (-np.ones((2, 2, 2)), "-1.0 at"),
    ]:
        with pytest.raises(ValueError, match=words):
            ncsim.cyclic_statistics(counts)
    assert np.isnan(ncsim.cyclic_statistics(np.zeros((3, 2, 2), int)).contextuality)
