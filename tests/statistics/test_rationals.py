"""Yes and no about S and Delta follow from whole numbers: against fractions, for every number of rows."""

from fractions import Fraction

import jax
import numpy as np
import pytest

import ncsim
from ncsim.records.members import MemberRecords
from ncsim.statistics.chsh import SIGNS
from ncsim.statistics.inequalities import chained_inequality, chsh_inequality, correlator_inequality
from ncsim.statistics.protocols import LatticeLaw
from ncsim.statistics.rationals import nearest, sum_of_fractions, whole_numbers
from ncsim.statistics.trajectory_tally import LATTICES


def tables(totals, seed, concentration=0.3):
    """Joint counts with these totals, int64[..., 2, 2, 2, 2] of totals [..., 2, 2]; many cells are empty, as where heads learned."""
    generator = np.random.default_rng(seed)
    totals = np.asarray(totals)
    chances = generator.dirichlet([concentration] * 4, totals.shape)
    return generator.multinomial(totals, chances).reshape(*totals.shape, 2, 2)


def in_fractions(table):
    """S's variants, influence and Delta of one table."""
    a, b, c = {}, {}, {}
    for place in np.ndindex(2, 2):
        (neither, bob), (alice, both) = table[place].tolist()
        n = neither + bob + alice + both
        a[place] = Fraction(alice + both - neither - bob, n)
        b[place] = Fraction(bob + both - neither - alice, n)
        c[place] = Fraction(both + neither - alice - bob, n)
    variants = [sum(sign * c[place] for sign, place in zip(signs, np.ndindex(2, 2), strict=True)) for signs in SIGNS]
    influence = sum(abs(a[i, 0] - a[i, 1]) + abs(b[0, i] - b[1, i]) for i in (0, 1))
    factorised = sum(sign * a[place] * b[place] for sign, place in zip(SIGNS[0], np.ndindex(2, 2), strict=True))
    return variants, influence, max(variants) - 2 - influence, factorised


def test_every_number_of_rows_gives_the_nearest_floats():
    counts = np.concatenate([tables(np.full((40, 2, 2), rows), rows) for rows in range(1, 65)])
    found = ncsim.chsh_statistics(counts)
    assert np.array_equal(ncsim.chsh_statistics(counts.astype(float)).s, found.s)
    inside = jax.jit(ncsim.chsh_statistics)(counts.astype(np.int32))
    for m, table in enumerate(counts):
        variants, influence, delta, factorised = in_fractions(table)
        assert found.s_variants[m].tolist() == [float(s) for s in variants]
        assert (found.s[m], found.s_odd[m]) == (float(variants[0]), float(max(variants)))
        assert (found.influence[m], found.contextuality[m]) == (float(influence), float(delta))
        assert found.s_factorised[m] == float(factorised)
        assert (found.cnt2[m] > 0) == (delta > 0)
    expected = [in_fractions(table) for table in counts]
    assert np.array_equal(inside.s > 2, [variants[0] > 2 for variants, *_ in expected])
    assert np.array_equal(inside.contextuality > 0, [delta > 0 for _, _, delta, _ in expected])
    assert sum(delta == 0 for _, _, delta, _ in expected) > 20  # the property can fail
    assert sum(variants[0] == 2 for variants, *_ in expected) > 20


@pytest.mark.parametrize("largest", [12, 300, 10**5, 10**9])
def test_unequal_totals(largest):
    counts = tables(np.random.default_rng(largest).integers(1, largest, (60, 2, 2)), largest)
    found = ncsim.chsh_statistics(counts)
    values = chsh_inequality().value(counts)
    for m, table in enumerate(counts):
        variants, influence, delta, _ = in_fractions(table)
        assert (found.s[m], found.influence[m], found.contextuality[m]) == tuple(
            float(x) for x in (variants[0], influence, delta)
        )
        assert values[m] == float(variants[0])


def test_a_deterministic_strategy_over_any_totals_has_delta_0_and_s_2():
    """The fault was found at twelve rows; here no two totals are alike, with primes of text runs' size."""
    totals = np.array([[4999, 5003], [5009, 12]])
    counts = np.zeros((2, 2, 2, 2), int)
    counts[..., 1, 1] = totals
    counts[0, :, 1, 1] -= totals[0] // 3
    counts[0, :, 0, 0] = totals[0] // 3
    found = ncsim.chsh_statistics(counts)
    assert found.s == 2
    assert in_fractions(counts)[2] == Fraction(found.contextuality.item()).limit_denominator(10**12)
    assert (found.contextuality > 0) == (in_fractions(counts)[2] > 0)


def test_what_a_float_cannot_tell_from_2_is_on_the_right_side_of_it():
    denominator = np.array([10**30], object)
    assert nearest(2 * denominator + 1, denominator)[0] > 2
    assert nearest(2 * denominator, denominator)[0] == 2
    assert nearest(2 * denominator - 1, denominator)[0] < 2
    assert np.isnan(sum_of_fractions([1, 1], [0, 3]))


def test_other_inequalities():
    inequality = chained_inequality(3)
    counts = np.zeros((3, 3, 2, 2), int)
    counts[..., 1, 1], counts[..., 0, 1] = 5, 1  # each correlator 2/3
    assert inequality.value(counts) == float(4 * Fraction(2, 3))
    counts[..., 0, 1] = 0
    assert inequality.value(counts) == inequality.classical_bound


@pytest.mark.parametrize("coefficient", [2.0**32, 3e15, 1e20, 1e300])
@pytest.mark.parametrize("items", [5, 2**32, 10**17])
def test_large_coefficients_and_counts_do_not_wrap_around(coefficient, items):
    """Against fractions; what is added up is above 2^63, the largest of int64."""
    inequality = correlator_inequality("large", coefficient * np.array([[1, 1], [1, -1]]))
    counts = np.zeros((2, 2, 2, 2), int)
    counts[..., 0, 0], counts[..., 0, 1] = items, 1
    counts[0, 0, 1, 1] = 7  # unequal totals
    other = int(coefficient) * (Fraction(items + 6, items + 8) + Fraction(items - 1, items + 1))
    assert inequality.value(counts) == float(other)
    assert inequality.value(np.stack([counts, counts])).tolist() == [float(other)] * 2


@pytest.mark.parametrize("size", [2**53, 2**60, 2**62, 1e19, 1e20, 1e300])
def test_large_counts_do_not_wrap_around_in_s_and_delta(size):
    """Local tables, whose S is 2 and whose influence is 0; sums of int64 counts pass its largest, and so do floats."""
    counts = np.tile(np.eye(2, dtype=type(size)) * size, (2, 2, 1, 1))
    counts[0, 1] = np.diag([size, size // 2])
    counts[1, 1] = np.diag([size, size // 2])
    found = ncsim.chsh_statistics(counts)
    assert (found.s, found.correlator.tolist()) == (2, [[1, 1], [1, 1]])
    a, third = Fraction(0), Fraction(int(size // 2) - int(size), int(size // 2) + int(size))
    influence = 2 * abs(a - third)  # Alice's accuracy is one half with Bob's first task
    assert (found.influence, found.contextuality) == (float(influence), float(-influence))
    assert found.s_factorised == float(third**2 - third**2)
    ring = ncsim.cyclic_statistics(np.stack([counts[0, 0], counts[1, 0], counts[1, 1], counts[0, 1]]))
    assert (ring.s_odd, ring.influence, ring.contextuality) == (2, float(influence), float(-influence))


def test_counts_beside_probabilities_are_exact():
    """Delta of 0 was 1e-16 where another table of the batch was of probabilities, and so was above 0; S likewise."""
    ring = np.array([[[2, 0], [0, 3]], [[4, 0], [0, 5]], [[5, 0], [0, 5]], [[3, 1], [1, 5]]])
    means = [Fraction(1, 5), Fraction(1, 9), Fraction(0), Fraction(1, 5)]  # of both answers of a context
    influence = sum(abs(means[k] - means[k - 1]) for k in range(4))
    assert 1 + 1 + 1 - Fraction(6, 10) - 2 - influence == 0  # by hand
    thirds = np.array([[6, 1], [1, 4]])  # a correlator of 2/3
    counts = np.stack([[thirds, thirds], [thirds, np.array([[4, 2], [2, 4]])]])
    for other in (0.5, 0.25 / 3):
        rings, batch = np.full((3, 4, 2, 2), other), np.full((3, 2, 2, 2, 2), other)
        rings[1], batch[1] = ring, counts
        found = ncsim.cyclic_statistics(rings)
        assert found.contextuality[1] == ncsim.cyclic_statistics(ring).contextuality == 0
        assert found.influence[1] == float(influence)
        assert found.contextuality[0] == found.contextuality[2] == pytest.approx(-2, abs=1e-15)
        assert chsh_inequality().value(batch)[1] == float(3 * Fraction(2, 3) - Fraction(1, 3))
        assert ncsim.chsh_statistics(batch).s[1] == float(Fraction(5, 3))
    generator = np.random.default_rng(4)
    counts = tables(generator.integers(1, 12, (400, 2, 2)), 4)
    alone, beside = (chsh_inequality().value(each) for each in (counts, [*counts, np.full((2, 2, 2, 2), 0.5)]))
    assert np.array_equal(beside[:-1], alone)


def test_a_ring_of_many_items_has_the_nearest_floats():
    """Means that differ by less than a float can tell, whose difference was taken off and put on again."""
    size = 2**40
    ring = np.array(
        [np.diag([1, size - 1]), np.diag([1, size])]
    )  # all equal answers; means 1 - 2 / size and a little more
    found = ncsim.cyclic_statistics(ring)
    influence = 2 * (Fraction(2, size) - Fraction(2, size + 1))
    assert (found.s_odd, found.influence, found.contextuality) == (0, float(influence), -float(influence))
    generator = np.random.default_rng(3)
    for items in (2**27, 2**50, 2**60):
        given = generator.integers(items // 4, items, (3, 2, 2))
        ring = given.astype(object)
        total = [sum(context.ravel()) for context in ring]
        c = [Fraction(t[0, 0] + t[1, 1] - t[0, 1] - t[1, 0], n) for t, n in zip(ring, total, strict=True)]
        one = [Fraction(sum(t[1]) - sum(t[0]), n) for t, n in zip(ring, total, strict=True)]
        other = [Fraction(sum(t[:, 1]) - sum(t[:, 0]), n) for t, n in zip(ring, total, strict=True)]
        odd = [signs for signs in np.ndindex(2, 2, 2) if sum(signs) % 2]
        s_odd = max(sum(x * (1 - 2 * sign) for x, sign in zip(c, signs, strict=True)) for signs in odd)
        influence = sum(abs(one[k] - other[k - 1]) for k in range(3))
        found = ncsim.cyclic_statistics(given)
        assert found.correlator.tolist() == [float(x) for x in c]
        expected = (float(s_odd), float(influence), float(s_odd - 1 - influence))
        assert (found.s_odd, found.influence, found.contextuality) == expected


def test_sums_of_no_fractions_are_0():
    assert sum_of_fractions(np.zeros((3, 0)), np.zeros((3, 0))).tolist() == [0, 0, 0]


def test_ncnt2_is_0_where_a_cell_is_empty():
    counts = tables(np.full((500, 2, 2), 12), 3)
    found = ncsim.chsh_statistics(counts)
    empty = (counts == 0).any(axis=(1, 2, 3, 4)) & (found.contextuality < 0)
    assert empty.sum() > 100
    assert not found.ncnt2[empty].any()


@pytest.mark.parametrize("rows", range(1, 65))
def test_bins_and_laws_have_the_values_that_members_have(rows):
    law = LatticeLaw(rows, np.full(4 * rows + 1, 1 / (4 * rows + 1)))
    expected = [float(Fraction(2 * n, rows) - 4) for n in range(4 * rows + 1)]
    assert law.values.tolist() == expected
    values = LATTICES["s"].values(rows)
    assert (values / rows).tolist() == expected
    assert LATTICES["s"].place(values, rows).tolist() == list(range(LATTICES["s"].size(rows)))


@pytest.mark.parametrize("rows", [3, 7, 12, 49])
def test_undecided_conventions_decide_by_whole_numbers(rows):
    counts = tables(np.full((400, 4), rows), rows).reshape(400, 4, 4)
    zeros = np.zeros((400, 4), np.int32)
    products = counts @ np.array([1, -1, -1, 1])
    records = MemberRecords(
        member=np.arange(400),
        counts=counts.astype(np.int32),
        loss=zeros.astype(np.float32),
        margin=zeros.astype(np.float32),
        diverged=zeros.astype(bool),
        undecided_alice=zeros,
        undecided_bob=zeros,
        decided_product=products.astype(np.int32),
    )
    found = ncsim.undecided_conventions(records)
    share = np.mean(products @ [1, 1, 1, -1] > 2 * rows)
    assert found.above_two.value == found.above_two_decided.value == share
    assert found.range_above_two == (share, share)


def test_counts_of_half_precision_are_counts():
    """2^53 is infinite there: counts were compared with that, and a warning said so."""
    with np.errstate(all="raise"):
        found = whole_numbers(np.float16([3, 65504]))
    assert found.tolist() == [3, 65504]
