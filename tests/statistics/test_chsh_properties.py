"""The CHSH kernel: reference points, invariances, theorems, precision, and what it refuses."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ncsim.records.joint_counts import joint_counts, merge_counts
from ncsim.statistics.chsh import SIGNS, chsh_statistics
from tests.support import reference_statistics as reference

EXAMPLES = settings(max_examples=60, deadline=None)

tables = hnp.arrays(np.int64, (2, 2, 2, 2), elements=st.integers(0, 40)).filter(
    lambda t: (t.sum(axis=(2, 3)) > 0).all()
)
means = st.floats(-1, 1, allow_subnormal=False)
INVARIANT = ("s_odd", "influence", "contextuality", "cnt2", "ncnt2")


def assert_same_invariants(table, other):
    one, two = chsh_statistics(table), chsh_statistics(other)
    for name in INVARIANT:
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-12, err_msg=name)
    np.testing.assert_allclose(np.sort(one.s_variants), np.sort(two.s_variants), atol=1e-12)


def test_reference_points():
    box, quantum = chsh_statistics(reference.PR_BOX), chsh_statistics(reference.TSIRELSON_TABLE)
    assert (box.s, box.influence, box.contextuality, box.cnt2) == (4, 0, 2, 0.5)
    np.testing.assert_allclose(quantum.s, 2 * math.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(quantum.contextuality, 2 * math.sqrt(2) - 2, atol=1e-12)
    np.testing.assert_allclose(quantum.cnt2, 0.2071, atol=5e-5)


def test_every_local_strategy_is_at_the_edge():
    found = chsh_statistics(np.stack(list(reference.local_strategies())))
    assert found.s.shape == (16,)
    assert set(np.abs(found.s)) == {2.0}
    np.testing.assert_array_equal(found.contextuality, 0)
    assert found.degenerate.all()
    np.testing.assert_array_equal(found.pearson, 0)


def test_signs_are_the_odd_ones_and_the_paper_s_is_first():
    assert SIGNS[0] == (1, 1, 1, -1)
    every = [tuple(1 - 2 * bit for bit in bits) for bits in np.ndindex(2, 2, 2, 2)]
    assert sorted(SIGNS) == sorted(signs for signs in every if math.prod(signs) == -1)


@EXAMPLES
@given(tables)
def test_agrees_with_exact_fractions(table):
    found = chsh_statistics(table)
    expected = reference.statistics_of_moments(*reference.moments(table))
    for name, value in expected.items():
        got = np.sort(found.s_variants) if name == "s_variants" else getattr(found, name)
        np.testing.assert_allclose(got, np.array(value, float), atol=1e-12, err_msg=name)
    for i, j in np.ndindex(2, 2):
        assert found.pearson[i, j] == pytest.approx(reference.pearson(table[i, j]), abs=1e-12)


@EXAMPLES
@given(tables)
def test_ncnt2_is_at_most_the_smallest_cell(table):
    found = chsh_statistics(table)
    smallest = (table / table.sum(axis=(2, 3), keepdims=True)).min()
    expected = max(min(-float(found.contextuality) / 4, smallest), 0)
    assert found.ncnt2 == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(tables, st.integers(0, 1), st.integers(0, 1))
def test_relabelling_outcomes_settings_and_parties(table, party, setting):
    flipped = table.copy()
    where = (setting,) if party == 0 else (slice(None), setting)
    flipped[where] = np.flip(table[where], axis=(-2, -1)[party])
    assert_same_invariants(table, flipped)
    assert_same_invariants(table, np.flip(table, axis=party))
    assert_same_invariants(table, table.transpose(1, 0, 3, 2))


@EXAMPLES
@given(st.lists(tables, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_members_are_treated_alike_and_alone(members, random):
    order = random.sample(range(len(members)), len(members))
    together, permuted = chsh_statistics(np.stack(members)), chsh_statistics(np.stack([members[n] for n in order]))
    for name, column in together._asdict().items():
        np.testing.assert_array_equal(getattr(permuted, name), column[order], err_msg=name)


@EXAMPLES
@given(tables, tables)
def test_merge_of_counts_is_the_whole(one, other):
    pooled = merge_counts(np.stack([one, other]))
    np.testing.assert_array_equal(pooled, one + other)
    # The same from outcomes, item by item: contexts are cut to the items that the shortest has.
    outcomes = [_outcomes(one), _outcomes(other)]
    whole = joint_counts(np.concatenate(outcomes, axis=-1))
    np.testing.assert_array_equal(whole, merge_counts(np.stack([joint_counts(part) for part in outcomes])))


def _outcomes(table):
    items = int(table.sum(axis=(2, 3)).min())
    found = np.empty((2, 2, 2, items), np.int8)
    for i, j in np.ndindex(2, 2):
        cells = np.repeat(np.arange(4), table[i, j].ravel())[:items]
        found[i, j, 0], found[i, j, 1] = 2 * (cells // 2) - 1, 2 * (cells % 2) - 1
    return found


@EXAMPLES
@given(hnp.arrays(float, (2, 2), elements=means), hnp.arrays(float, (2, 2), elements=means))
def test_theorem_1_factorised_contexts_are_never_contextual(a, b):
    found = chsh_statistics(reference.table_of_moments(a, b, a * b))
    assert found.contextuality <= 1e-12
    np.testing.assert_allclose(found.s, found.s_factorised, atol=1e-12)


@EXAMPLES
@given(tables)
def test_theorem_2_a_marginal_near_certainty_leaves_no_room(table):
    found = chsh_statistics(table)
    largest = max(np.abs(2 * found.accuracy_alice - 1).max(), np.abs(2 * found.accuracy_bob - 1).max())
    assert found.contextuality <= 2 * (1 - largest) + 1e-12


@EXAMPLES
@given(tables, st.integers(0, 3))
def test_theorem_2_a_head_that_is_always_right(table, context):
    table[context // 2, context % 2, 0] = 0
    assume((table.sum(axis=(2, 3)) > 0).all())
    assert chsh_statistics(table).contextuality <= 1e-12


@EXAMPLES
@given(hnp.arrays(np.int64, (2, 2), elements=st.integers(0, 40)).filter(lambda cells: cells.sum() > 0))
def test_theorem_3_three_perfect_contexts(cells):
    table = np.zeros((2, 2, 2, 2), np.int64)
    table[:, :, 1, 1] = 7
    table[1, 1] = cells
    found = chsh_statistics(table)
    a, b, c = 2 * found.accuracy_alice[1, 1] - 1, 2 * found.accuracy_bob[1, 1] - 1, found.correlator[1, 1]
    assert found.contextuality == pytest.approx(a + b - 1 - c, abs=1e-12)
    assert found.contextuality <= 1e-12


@EXAMPLES
@given(hnp.arrays(np.int64, (2, 2, 2, 2), elements=st.integers(0, 10**12 // 4)))
def test_large_counts_are_exact_to_a_millionth(table):
    assume((table.sum(axis=(2, 3)) > 0).all())
    assert_exact(table)


@EXAMPLES
@given(hnp.arrays(np.int64, (2, 2, 3), elements=st.integers(0, 9)), st.integers(6, 12))
def test_rare_errors_among_many_items_are_exact_too(errors, digits):
    table = np.empty((2, 2, 4), np.int64)
    table[..., :3], table[..., 3] = errors, 10**digits - errors.sum(axis=-1)
    assert_exact(table.reshape(2, 2, 2, 2))


def assert_exact(table):
    found = chsh_statistics(table)
    expected = reference.statistics_of_moments(*reference.moments(table))
    for name in ("s", "s_odd", "s_factorised", "influence", "contextuality", "cnt2", "ncnt2"):
        np.testing.assert_allclose(getattr(found, name), float(expected[name]), atol=1e-6, err_msg=name)
    for i, j in np.ndindex(2, 2):
        assert found.pearson[i, j] == pytest.approx(reference.pearson(table[i, j]), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint64])
def test_narrow_and_unsigned_counts_do_not_wrap_around(dtype):
    largest = min(np.iinfo(dtype).max, 10**12)
    table = np.array([largest, largest - 1, largest - 2, largest - 3] * 4, dtype).reshape(2, 2, 2, 2)
    np.testing.assert_array_equal(chsh_statistics(table).correlator, chsh_statistics(table.astype(np.int64)).correlator)


def test_float32_under_jit_is_right_to_its_promise():
    tables = np.stack([t for n, t in enumerate(reference.random_systems(60, seed=4)) if n % 3 == 2]).astype(np.int32)
    inside = jax.jit(chsh_statistics)(tables)
    outside = chsh_statistics(tables)
    for name, column in outside._asdict().items():
        np.testing.assert_allclose(np.asarray(getattr(inside, name)), column, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("context", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_context_without_items_is_nan_and_leaves_the_others_alone(context):
    table = np.full((2, 2, 2, 2), 3)
    table[context] = 0
    found = chsh_statistics(table)
    for name in ("accuracy_alice", "accuracy_bob", "correlator", "pearson"):
        column = getattr(found, name)
        assert np.isnan(column[context]), name
        assert np.isnan(column).sum() == 1, name
    for name in ("s", "s_odd", "s_factorised", "influence", "contextuality", "cnt2", "ncnt2", "s_pearson"):
        assert np.isnan(getattr(found, name)), name
    assert np.isnan(found.s_variants).all()
    assert not found.degenerate[context]


def test_pooling_members_without_contextuality_can_make_a_pr_box():
    # Both right in three contexts and Alice alone wrong in 22; the other member has every outcome reversed.
    one = np.zeros((2, 2, 2, 2), int)
    one[:, :, 1, 1] = 8
    one[1, 1] = [[0, 8], [0, 0]]
    other = np.flip(one, axis=(-2, -1))
    np.testing.assert_array_equal(chsh_statistics(np.stack([one, other])).contextuality, [0, 0])
    pooled = chsh_statistics(merge_counts(np.stack([one, other])))
    assert (pooled.s, pooled.influence, pooled.contextuality) == (4, 0, 2)


def test_no_members_give_no_statistics():
    assert chsh_statistics(np.zeros((0, 2, 2, 2, 2), np.int32)).s.shape == (0,)


def test_refusals_name_the_axis_and_the_value():
    good = np.ones((3, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(3, 2, 2, 4\)"):
        chsh_statistics(good.reshape(3, 2, 2, 4))
    for value, text in ((-1.0, r"-1\.0"), (np.nan, "nan"), (np.inf, "inf")):
        bad = good.copy()
        bad[1, 0, 1, 0, 1] = value
        with pytest.raises(ValueError, match=rf"{text} at \(\.\.\., i, j, a, b\) = \(1, 0, 1, 0, 1\)"):
            chsh_statistics(bad)
    with pytest.raises(ValueError, match="type"):
        chsh_statistics(np.full((2, 2, 2, 2), "1"))


def test_pearson_s_of_joint_distributions_exceeds_2_and_not_5_halves():
    generator = np.random.default_rng(7)
    strategies = np.stack(list(reference.local_strategies()))
    weights = generator.dirichlet(np.full(16, 0.15), size=20_000)
    largest = chsh_statistics(np.tensordot(weights, strategies, 1)).s_pearson.max()
    assert 2.05 < largest <= 2.5 + 1e-9
    # Where 5/2 is reached: three of the sixteen strategies (A1, A2, B1, B2), equally often.
    chosen = [8 * a1 + 4 * a2 + 2 * b1 + b2 for a1, a2, b1, b2 in ((0, 1, 0, 0), (1, 0, 0, 1), (1, 1, 1, 1))]
    found = chsh_statistics(strategies[chosen].sum(axis=0))
    assert found.s_pearson == pytest.approx(2.5, abs=1e-12)
    assert found.s == pytest.approx(2, abs=1e-12)
    assert found.contextuality <= 1e-12
