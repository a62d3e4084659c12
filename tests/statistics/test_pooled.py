"""Intervals of pooled statistics: against each linear form by itself, with each group left out, one at a time."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ncsim import chsh_statistics
from ncsim.statistics.intervals import NO_INTERVAL
from ncsim.statistics.pooled import POSSIBLE, pooled_estimates, pooled_s

GROUPS = 5
PLACES = list(itertools.product((0, 1), repeat=2))
ODD = [signs for signs in itertools.product((1, -1), repeat=4) if math.prod(signs) == -1]


def groups_of_counts(seed, items=40, spread=0.4):
    generator = np.random.default_rng(seed)
    return generator.multinomial(items, generator.dirichlet([spread] * 4, 4), (GROUPS, 4))


def means(table):
    """Alice's, Bob's and the product's mean of counts [context, (a, b)], by context."""
    found = {}
    for place, (neither, bob, alice, both) in zip(PLACES, table.tolist(), strict=True):
        n = neither + bob + alice + both
        found[place] = (
            (alice + both - neither - bob) / n,
            (bob + both - neither - alice) / n,
            (neither + both - bob - alice) / n,
        )
    return found


def s_forms(table):
    found = means(table)
    return np.array([[sum(s * found[place][2] for s, place in zip(signs, PLACES, strict=True))] for signs in ODD])


def influence_forms(table):
    m = means(table)
    gaps = [m[0, 0][0] - m[0, 1][0], m[1, 0][0] - m[1, 1][0], m[0, 0][1] - m[1, 0][1], m[0, 1][1] - m[1, 1][1]]
    return np.array([[np.dot(t, gaps)] for t in itertools.product((1, -1), repeat=4)])


def delta_forms(table):
    return s_forms(table) - influence_forms(table).T - 2


def first_s(table):
    m = means(table)
    return m[0, 0][2] + m[0, 1][2] + m[1, 0][2] - m[1, 1][2]


FORMS = {
    "s": lambda table: np.array([[first_s(table)]]),
    "s_odd": s_forms,
    "influence": influence_forms,
    "contextuality": delta_forms,
}
#: How far each moves, at most, for each unit of probability in one context, and with all four at once.
SPANS = {"s": (2, 8), "s_odd": (2, 8), "influence": (4, 16), "contextuality": (4, 16)}


def slow_interval(counts, name, networks, together, level):
    """The largest over the first axis of the smallest over the second, each form moved by its own reach."""
    total = counts.sum(axis=0)
    forms = FORMS[name](total)
    left_out = np.array([FORMS[name](total - group) for group in counts])
    error = np.sqrt((GROUPS - 1) / GROUPS * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    # Of few networks each of four independent contexts may lack something; else one does.
    parts = 4 if networks < 100 and not together else 1
    ends = []
    for sign, number in ((-1, forms.shape[0]), (1, forms.shape[1])):
        tail = (1 - level) / 2 / number
        unseen = parts * SPANS[name][together] * (1 - tail ** (1 / parts / networks))
        reach = np.hypot(stats.t.ppf(1 - tail, GROUPS - 1) * error, unseen)
        ends.append((forms + sign * reach).min(axis=1).max())
    value, (least, most) = forms.min(axis=1).max(), POSSIBLE[name]
    return value, max(ends[0], least), min(ends[1], most)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("networks", [60, 99, 100, 5_000])
def test_intervals_are_those_of_the_forms(networks, together):
    for seed, level in ((1, 0.95), (2, 0.95), (3, 0.8)):
        counts = groups_of_counts(seed)
        found = pooled_estimates(counts, networks, together, level)
        assert list(found) == list(POSSIBLE)
        for name in FORMS:
            value, low, high = slow_interval(counts, name, networks, together, level)
            estimate = found[name]
            assert (estimate.value, estimate.low, estimate.high) == pytest.approx((value, low, high), abs=1e-12), name
            assert estimate.level == level


def test_values_are_those_of_one_table():
    """The statistics of all counts together, whatever the groups are."""
    for seed in range(20):
        counts = groups_of_counts(seed, items=7 + seed)
        one = chsh_statistics(counts.sum(axis=0).reshape(2, 2, 2, 2))
        for name, estimate in pooled_estimates(counts, 200).items():
            assert estimate.value == pytest.approx(float(getattr(one, name)), abs=1e-12), (seed, name)
            assert estimate.low <= estimate.value <= estimate.high
            assert POSSIBLE[name][0] <= estimate.low < estimate.high <= POSSIBLE[name][1]


def test_relabelling_changes_no_interval():
    """Alice's outcomes, both parties, and which task is first: all but S itself are the same."""
    counts = groups_of_counts(9).reshape(GROUPS, 2, 2, 2, 2)
    expected = pooled_estimates(counts.reshape(GROUPS, 4, 4), 300)
    for other in (counts[:, ::-1], counts[:, :, ::-1], counts[..., ::-1, :], counts.transpose(0, 2, 1, 4, 3)):
        found = pooled_estimates(other.reshape(GROUPS, 4, 4), 300)
        for name in ("s_odd", "influence", "contextuality"):
            assert found[name][:3] == pytest.approx(expected[name][:3], abs=1e-12), name


def test_groups_without_items_are_no_degrees_of_freedom():
    counts = groups_of_counts(4)
    more = np.concatenate([counts, np.zeros((3, 4, 4), int)])
    for name, estimate in pooled_estimates(more, 300).items():
        assert estimate[:3] == pytest.approx(pooled_estimates(counts, 300)[name][:3], abs=1e-12)
    lacking = counts.copy()
    lacking[1:, 3] = 0  # context 22 has items in one group
    for name, estimate in pooled_estimates(lacking, 300).items():
        assert (estimate.low, estimate.high) == POSSIBLE[name]
        assert estimate.method == NO_INTERVAL


def test_s_of_products_is_that_of_counts():
    counts = groups_of_counts(6)
    products = counts @ [1, -1, -1, 1]
    for networks in (60, 5_000):
        for together in (False, True):
            expected = pooled_estimates(counts, networks, together)["s"]
            assert pooled_s(products, counts.sum(axis=2), networks, together)[:3] == pytest.approx(expected[:3])
