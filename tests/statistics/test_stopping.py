"""The rule that ends a run: what it trains next, and 2,000 studies each of what its interval holds, what it costs and its bias."""

import math

import numpy as np
import pytest

from ncsim.statistics.intervals import clopper_pearson
from ncsim.statistics.outcomes import Ensemble
from ncsim.statistics.protocols import Protocol, ProtocolLaw
from ncsim.statistics.stopping import GROWTH, PILOT, Look, next_stage
from ncsim.statistics.tally import GROUPS, Tables, Tally
from tests.support.cases import first_fast

STUDIES = 2_000
#: Members of a part of a run of 3,000 steps, and more members than any study needs.
PART, MOST = 16_384, 10**7
Z = 1.959964


def test_the_pilot_comes_first_and_the_most_bounds_all():
    assert next_stage([], 0.01, MOST) == (PILOT, False)
    assert next_stage([], 0.01, 700) == (700, False)
    assert next_stage([Look(700, (0.1,))], 0.01, 700) == (700, True)
    assert next_stage([Look(PILOT, (0.1,))], 0.01, 3_000) == (3_000, False)
    assert next_stage([Look(PILOT, (0.1,)), Look(3_000, (0.08,))], 0.01, 3_000) == (3_000, True)


def test_a_cell_without_a_number_is_trained_to_the_end():
    looks = [Look(PILOT, (math.inf, 0.001))]
    assert next_stage(looks, 0.01, MOST) == (GROWTH * PILOT, False)
    assert next_stage([Look(MOST, (math.inf,))], 0.01, MOST) == (MOST, True)
    assert looks[0].reach_at(4 * PILOT) == (math.inf, 0.0005)


@pytest.mark.parametrize("precision", [1e-160, 5e-324])
def test_a_precision_that_no_number_of_members_reaches(precision):
    """The square of how many times too far an interval reaches is beyond float64."""
    look = Look(PILOT, (0.03,))
    assert look.needed(precision) == math.inf
    assert next_stage([look], precision, MOST) == (GROWTH * PILOT, False)
    assert next_stage([Look(MOST, (0.001,))], precision, MOST) == (MOST, True)


def test_a_precise_pilot_is_all():
    assert next_stage([Look(PILOT, (0.01,))], 0.01, MOST) == (PILOT, True)
    assert next_stage([Look(PILOT, (0.0001,))], 0.01, MOST) == (PILOT, True)


def test_the_least_precise_cell_decides():
    assert next_stage([Look(PILOT, (0.001, 0.015))], 0.01, MOST) == (PILOT * 3 // 2, False)


def test_the_look_that_comes_near_decides_whatever_it_shows():
    """Another look would end sooner where it happens to see a small error."""
    near = Look(1_000, (0.02,))
    assert next_stage([near, Look(2_000, (0.03,))], 0.01, MOST) == (18_000, True)
    assert next_stage([near, Look(2_000, (0.001,))], 0.01, MOST) == (2_000, True)


@pytest.mark.parametrize("first", [0, 5_000, PART])
def test_long_stages_end_with_a_whole_part(first):
    """A stage that is looked at is stored only so: whatever comes after it extends the folder by whole parts."""
    looks, ended = [], []
    while not (stage := next_stage(looks, 0.001, MOST, first, PART)).last:
        looks.append(Look(stage.members, (math.sqrt(0.6 / stage.members),)))
        ended.append((first + stage.members) % PART)
    assert ended[2:]
    assert not any(ended[2:])
    assert stage.members == pytest.approx(600_000, abs=2)
    assert [look.members for look in looks] == sorted({look.members for look in looks})


def reach_of(estimate):
    return max(estimate.high - estimate.value, estimate.value - estimate.low)


def studied(grow, interval, truth, precision):
    """Of many studies by the rule: their members in the mean, how often their interval holds the truth, and the bias."""
    found = []
    for _ in range(STUDIES):
        looks, seen = [], None
        while not (stage := next_stage(looks, precision, MOST, 0, PART)).last:
            seen = grow(seen, stage.members)
            looks.append(Look(stage.members, (reach_of(interval(seen)),)))
        seen = grow(seen, stage.members)
        found.append((stage.members, interval(seen).value, *looks[-1].reach_at(stage.members)))
    members, value, reach = np.array(found).T
    assert reach.max() <= precision
    return members.mean(), np.mean(np.abs(value - truth) <= reach), value.mean() - truth


def fixed_size(grow, interval, precision):
    """The members of a study of a fixed size whose interval reaches as far as the precision, in the mean of 20 studies."""
    low, high = 256, MOST
    while high > 1.005 * low:
        middle = int(math.sqrt(low * high))
        reach = np.mean([reach_of(interval(grow(None, middle))) for _ in range(20)])
        low, high = (middle, high) if reach > precision else (low, middle)
    return high


@pytest.mark.parametrize(
    ("share", "precision"), [(0.1, 0.002), (0.5, 0.005), (0.9, 0.01), (0.3, 0.02), (0.01, 0.0005), (0.001, 0.0005)]
)
def test_a_share_of_members(share, precision):
    """Within a quarter of the ideal p (1 - p) (z / d)^2; where that expects 15 members only, of what the exact interval asks."""
    generator = np.random.default_rng(20261128)

    def grow(seen, members):
        before, count = seen or (0, 0)
        return members, count + generator.binomial(members - before, share)

    def interval(seen):
        return clopper_pearson(seen[1], seen[0])

    members, held, bias = studied(grow, interval, share, precision)
    assert held >= 0.94
    assert members == pytest.approx(fixed_size(grow, interval, precision), rel=0.25)
    ideal = share * (1 - share) * (Z / precision) ** 2
    if share * ideal > 100:
        assert members == pytest.approx(ideal, rel=0.25)
    assert abs(bias) < 0.1 * precision


# ---------------------------------------------------------------------- numbers that are computed from laws of protocols

#: Kinds of networks of each context (bob, alice, both right of 16) with their shares: near Figure 2's at three hidden units.
KINDS = (
    ([(0, 0, 16), (2, 2, 10), (1, 3, 8)], [0.62, 0.23, 0.15]),
    ([(0, 0, 16), (4, 1, 11), (2, 0, 14)], [0.45, 0.35, 0.20]),
    ([(0, 0, 16), (3, 3, 9)], [0.66, 0.34]),
    ([(0, 0, 16), (6, 5, 4), (3, 4, 7)], [0.12, 0.50, 0.38]),
)


def grown(seen, members, generator):
    """A tally of more members than before, in the groups of the jackknife."""
    before = 0 if seen is None else seen.members
    tally = Tally(16)
    tally.members = members
    size = [len(range(g, members, GROUPS)) - len(range(g, before, GROUPS)) for g in range(GROUPS)]
    for context, (cells, shares) in enumerate(KINDS):
        code = np.array([(bob * 17 + alice) * 17 + both for bob, alice, both in cells])
        number = generator.multinomial(size, shares).T
        order = np.argsort(code)
        known = 0 if seen is None else seen.tables[context].members
        tally.tables[context] = Tables(code[order], number[order] + known)
    return tally


def population():
    """A tally of the population itself: so many networks that their shares are those of KINDS."""
    tally = Tally(16)
    for context, (cells, shares) in enumerate(KINDS):
        code = np.array([(bob * 17 + alice) * 17 + both for bob, alice, both in cells])
        order = np.argsort(code)
        whole = np.rint(np.array(shares) * 2**27).astype(np.int64)[order]
        tally.tables[context] = Tables(code[order], np.tile(whole[:, None], (1, GROUPS)))
    tally.members = int(tally.tables[0].members.sum())
    return tally


@pytest.mark.parametrize(
    ("protocol", "number", "precision"),
    first_fast(
        [
            (Protocol("single"), "above 2", 0.004),
            (Protocol("single"), "mean", 0.01),
            (Protocol("best_accuracy", 20), "mean", 0.01),
            (Protocol("retry", 20), "above 2", 0.01),
        ],
        fast=0,
        slow=0,
    ),
)
def test_a_number_of_a_protocol(protocol, number, precision):
    """Within a quarter of a study of a fixed size whose reported interval is so precise."""
    generator = np.random.default_rng(20261129)

    def interval(tally):
        law = ProtocolLaw(protocol, Ensemble(tally, False))
        return law.mean if number == "mean" else law.above(2.0)

    def grow(seen, members):
        return grown(seen, members, generator)

    members, held, bias = studied(grow, interval, interval(population()).value, precision)
    ideal = fixed_size(grow, interval, precision)
    error = np.std([interval(grow(None, PART)).value for _ in range(STUDIES)]) * math.sqrt(PART)
    known = (Z * error / precision) ** 2  # of who knows the error and believes in the normal law
    print(
        f"\n{protocol.label}, {number}: mean {members:,.0f}, of a fixed size {members / ideal:.3f}, of a known error ",
        end="",
    )
    print(f"{members / known:.3f}, held {held:.4f}, bias {bias / precision:+.3f} of the precision")
    assert held >= 0.94
    assert members == pytest.approx(ideal, rel=0.25)
    assert abs(bias) < 0.1 * precision
