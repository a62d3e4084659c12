"""Bootstrap intervals: the mean over members, from a histogram, and the mean S over members and items at once.

Sources: Efron 1987 (bias-corrected and accelerated, BCa); Hesterberg 2015 (widening for small samples); McCullagh
2000, Owen and Eckles 2012 (crossed arrays); Clopper and Pearson 1934 (what an all but constant sample can exclude);
Hoeffding 1963.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ncsim.config.fields import shown
from ncsim.records.joint_counts import array_of
from ncsim.statistics import arguments
from ncsim.statistics.arguments import check_flag, checked_level, resamples_and_seed
from ncsim.statistics.intervals import Estimate, clopper_pearson, unseen_share
from ncsim.statistics.quantum_bounds import in_units

RESAMPLES = 4_000

#: With fewer values off the most common one, and that one being at least half, resampling says too little.
FEWEST_OFF_MODE = 20

#: Members of a histogram, which int64 adds up.
MOST_MEMBERS = 2.0**62

#: With fewer members than this, resampling alone misses the rare ones too often.
FEWEST_MEMBERS = 100

#: The smallest mean, on a scale from 0 to 1, that Hoeffding's interval looks at.
SMALLEST = 1e-300

#: Means of values of about 1 that differ by less differ by rounding: steps of a lattice over members and rows are larger.
TIED = 1e-12
#: Values that differ by less, beside the largest one, are one value that was rounded in several ways.
ROUNDING = 16 * float(np.finfo(np.float64).eps)

#: float64 numbers of one block of resampled histograms, or of weights by items.
BLOCK = 2**22


def bootstrap_mean(
    values: Any,
    members: Any = None,
    level: float = 0.95,
    support: tuple[float, float] = (-4.0, 4.0),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Interval for the mean of the law that members were drawn from, by BCa bootstrap of their histogram.

    The cost is that of the histogram, not of the members: 10^9 of them on 65 lattice points take no longer than 50.
    Where fewer than 20 members are off the most common value, and at least half are on it, a resampled sample cannot
    know what was missed; above all when all are equal. Then the interval is the range of means that the law can have if
    values off the most common one have no more than their exact (Clopper-Pearson) upper limit of probability, wherever
    in `support` they lie: conservative, also where either of two values may be the most common one, and wide when members
    are few. With fewer than 100 members the limits of any other sample are moved outwards by what so few may have missed, as
    independent errors add. With more they are not: where a kind of member so rare that the sample may lack it moves the mean by more
    than the error, the interval misses, and `hoeffding_mean` holds. No sample tells whether there is such a kind: one interval that
    holds in any case reaches as far as 3.7 / members of the way to the end of the support, whatever the members are like.

    Args:
        values: numbers, [K]; one a member, or one a bin of the histogram.
        members: how many members have each value, [K]; one each if not given.
        level: probability with which the interval should hold the mean.
        support: the smallest and the largest value that a member can have; S is in [-4, 4].
        resamples: bootstrap samples, one in each tail or more (40 for a level of 0.95) to 10,000,000.
        seed: of the resampling, 0 or above; the same seed gives the same interval.

    Returns:
        The sample's mean and its interval (Efron 1987). Without members, NaN and the support.

    Raises:
        ValueError: numbers that are not finite or outside the support, members that are not whole and 0 or above or are 2^62 in
            all, shapes that differ, or another argument that is not as above.

    Example:
        >>> print(bootstrap_mean([1.5, 2.0, 2.5], members=[100, 200, 100]))
        2.000 [1.966, 2.035]
    """
    bins, count = _histogram(values, members, support)
    level = checked_level(level, 0.5)
    resamples, seed = resamples_and_seed(resamples, seed, level)
    total = int(count.sum())
    if total == 0:
        return Estimate(math.nan, *support, "no members", level)
    if _near_constant(count):
        return _near_constant_interval(bins, count, level, support)
    bins, unit = in_units(bins)  # whose cubes a float can hold
    mean = float(count @ bins / total)
    resampled = _resampled_means(bins, count, resamples, np.random.default_rng(seed))
    deviation = bins - mean
    acceleration = float(count @ deviation**3) / (6 * float(count @ deviation**2) ** 1.5)
    low, high = _bca_limits(resampled, mean, acceleration, total - 1, level)
    mean, low, high = unit * mean, unit * min(low, mean), unit * max(high, mean)
    if total >= FEWEST_MEMBERS:
        return Estimate(mean, low, high, "BCa bootstrap", level)
    unseen = unseen_share(total, 1, level)
    low = mean - math.hypot(mean - low, unseen * (mean - support[0]))
    high = mean + math.hypot(high - mean, unseen * (support[1] - mean))
    low, high = max(low, support[0]), min(high, support[1])
    return Estimate(mean, low, high, "BCa bootstrap, widened for unseen members", level)


def hoeffding_mean(
    values: Any, members: Any = None, level: float = 0.95, support: tuple[float, float] = (-4.0, 4.0)
) -> Estimate:
    """Interval for the mean of a bounded law that holds for any number of members and any law: wide, and always valid.

    All means m whose n KL(sample mean || m) is at most log(2 / (1 - level)), both rescaled to [0, 1] and KL being that of
    two coins (Hoeffding 1963, theorem 1). For where `bootstrap_mean` is not to be relied on: fewer than 100 members.

    Args:
        values: numbers, [K]; one per member, or one per bin of the histogram.
        members: how many members have each value, [K]; one each if not given.
        level: probability with which the interval should hold the mean.
        support: the smallest and the largest value that a member can have.

    Returns:
        The sample's mean and its interval.

    Raises:
        ValueError: as for `bootstrap_mean`.

    Example:
        >>> print(hoeffding_mean([1.5, 2.0, 2.5]))
        2.000 [-3.242, 3.994]
    """
    from scipy.optimize import brentq
    from scipy.special import rel_entr

    bins, count = _histogram(values, members, support)
    level = checked_level(level, 0.5)
    total = int(count.sum())
    if total == 0:
        return Estimate(math.nan, *support, "no members", level)
    width = support[1] - support[0]
    mean = float(count @ bins / total)
    share = min(max((mean - support[0]) / width, 0.0), 1.0)

    def limit(share: float) -> float:
        """The smallest m, found on a scale from 0 so that it keeps its digits however small."""

        def excess(m: float) -> float:
            return float(rel_entr(share, m) + rel_entr(1 - share, 1 - m)) - math.log(2 / (1 - level)) / total

        # KL grows without limit towards 0, but from a share next to 0 so slowly that no number is small enough.
        return float(brentq(excess, SMALLEST, share)) if share > SMALLEST and excess(SMALLEST) > 0 else 0.0

    low, high = limit(share), 1 - limit(1 - share)
    low, high = support[0] + width * low, support[0] + width * high
    return Estimate(mean, min(low, mean), max(high, mean), "Hoeffding, conservative", level)


def crossed_bootstrap_mean_s(
    outcomes: Any,
    level: float = 0.95,
    same_items: bool = True,
    resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """Interval for the mean S over members *and* items, both being samples: the pigeonhole bootstrap.

    All members answer the same items, so that an item that is hard is hard for all of them: more members do not make
    up for few items. Members and items are resampled each on their own and crossed. That overstates the variance of
    what is particular to a member and an item up to threefold, and is conservative where that is the larger part. With fewer than
    100 members, or items, the limits are moved outwards by what so few may have missed, as in `bootstrap_mean`.

    Args:
        outcomes: +1/-1 with axes (member, i, j, party, item).
        level: probability with which the interval should hold the mean.
        same_items: whether item n is the same in all four contexts; otherwise each context's are resampled alone.
        resamples: bootstrap samples, as for `bootstrap_mean`.
        seed: of the resampling, 0 or above.

    Returns:
        The sample's mean S and its interval (Owen 2007).

    Raises:
        ValueError: another shape, fewer than 2 members or items, a value other than -1 and +1, or another argument that is not as
            above.

    Example:
        >>> import numpy as np
        >>> right = np.ones((3, 2, 2, 2, 4), int)  # three members, four items, all right
        >>> float(crossed_bootstrap_mean_s(right, resamples=50).value)
        2.0
    """
    signs = _checked_signs(outcomes)
    level = checked_level(level, 0.5)
    check_flag("same_items", same_items)
    resamples, seed = resamples_and_seed(resamples, seed, level)
    agree = (signs[..., 0, :] * signs[..., 1, :]).astype(np.float32)
    agree[:, 1, 1] *= -1
    members, items = signs.shape[0], signs.shape[-1]
    # Each part is a sample of items of its own: [members, items of the part].
    parts = [agree.sum(axis=(1, 2))] if same_items else [agree[:, i, j] for i in (0, 1) for j in (0, 1)]
    mean = float(sum(part.sum(dtype=np.float64) for part in parts)) / (signs.shape[0] * signs.shape[-1])
    generator = np.random.default_rng(seed)
    resampled = np.empty(resamples)
    step = max(1, BLOCK // max(members, items))
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        # Whole numbers, which float32 adds up exactly.
        weight = generator.multinomial(members, np.full(members, 1 / members), size).astype(np.float32)
        s = np.zeros(size)
        for part in parts:
            chosen = generator.multinomial(items, np.full(items, 1 / items), size)
            s += np.einsum("rn,rn->r", weight @ part, chosen, dtype=np.float64)
        resampled[first : first + size] = s / (members * items)
    low, high = _bca_limits(resampled, mean, 0.0, min(members, items) - 1, level)
    samples = [(np.asarray(sum(part.sum(axis=1) for part in parts)) / items, 4.0)]
    samples += [(part.sum(axis=0) / members, 4.0 / len(parts)) for part in parts]
    return _widened_for_unseen(Estimate(mean, min(low, mean), max(high, mean), "", level), samples)


def _widened_for_unseen(found: Estimate, samples: list[tuple[np.ndarray, float]]) -> Estimate:
    """Limits by resampling, moved outwards by what samples of members and of items, each with its bound, may have missed."""
    # Few of either, as in `bootstrap_mean`: as independent errors add.
    few = [
        (unseen_share(len(means), 1, found.level), float(means.mean()), bound)
        for means, bound in samples
        if len(means) < FEWEST_MEMBERS
    ]
    low = found.value - math.hypot(found.value - found.low, *(share * (mean + bound) for share, mean, bound in few))
    high = found.value + math.hypot(found.high - found.value, *(share * (bound - mean) for share, mean, bound in few))
    # Resampling cannot show the kind of member, or of item, that all but a few of those at hand are not.
    members, *items = (_unseen_reach(means, bound, found.level) for means, bound in samples)
    for below, above in (members, _sum_of_reaches(items)):
        low, high = min(low, found.value - below), max(high, found.value + above)
    method = "members x items bootstrap" + (", widened for unseen members or items" if few else "")
    if any(below or above for below, above in (members, *items)):
        method = "members x items bootstrap, widened for unseen members or items: conservative"
    return Estimate(found.value, max(low, -4.0), min(high, 4.0), method, found.level)


def _checked_signs(outcomes: Any) -> np.ndarray:
    """Outcomes of members and items. Raises ValueError."""
    signs = array_of("outcomes", outcomes)
    if signs.ndim != 5 or signs.shape[1:4] != (2, 2, 2) or signs.shape[0] < 2 or signs.shape[4] < 2:
        raise ValueError(
            f"outcomes: shape {signs.shape}; allowed: [member, i=2, j=2, party=2, item], 2 members and 2 items or more"
        )
    wrong = (signs != 1) & (signs != -1)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(f"outcomes: {signs[place]} at {place}; allowed: -1 or +1")
    return signs


def _unseen_reach(means: np.ndarray, bound: float, level: float) -> tuple[float, float]:
    """How far below and above the sample's mean the mean may lie where all but few of the values are the same."""
    bins, count = np.unique(means, return_counts=True)
    if not _near_constant(count):
        return 0.0, 0.0
    interval = _near_constant_interval(bins, count, level, (-bound, bound))
    return interval.value - interval.low, interval.high - interval.value


def _sum_of_reaches(reaches: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(below for below, _ in reaches), sum(above for _, above in reaches)


def _histogram(values: Any, members: Any, support: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, float64[K], and how many members have each, int64[K]."""
    numbers = arguments.numbers("values", values)
    weights = np.ones(numbers.shape, np.int64) if members is None else array_of("members", members)
    ends = arguments.numbers("support", support)
    if ends.shape != (2,) or not np.isfinite(ends).all() or ends[0] >= ends[1]:
        raise ValueError(f"support: {shown(support)}; allowed: two finite numbers, the smaller first")
    if numbers.ndim != 1 or weights.shape != numbers.shape:
        raise ValueError(
            f"values, members: shapes {numbers.shape}, {weights.shape}; allowed: one axis, the same length"
        )
    whole = weights.dtype.kind in "iuf" and bool((weights == np.floor(weights)).all() and (weights >= 0).all())
    if not whole or weights.sum(dtype=np.float64) >= MOST_MEMBERS:
        raise ValueError(f"members: {shown(weights[:8])}; allowed: whole numbers, 0 or above, below 2^62 in all")
    bad = ~((numbers >= support[0]) & (numbers <= support[1]))
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(f"values: {numbers[place]} at {place}; allowed: {support[0]} to {support[1]}")
    bins, which = np.unique(numbers, return_inverse=True)
    count = np.zeros(len(bins), np.int64)
    np.add.at(count, which, weights.astype(np.int64))
    kept = count > 0
    return _without_rounding(bins[kept], count[kept])


def _without_rounding(bins: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours that differ by rounding as the lowest of them: as several values, equal members would look like a sample that differs."""
    apart = np.diff(bins) > ROUNDING * np.abs(bins).max(initial=0.0)
    first = np.flatnonzero(np.concatenate([np.ones(min(len(bins), 1), bool), apart]))
    return (bins, count) if len(first) == len(bins) else (bins[first], np.add.reduceat(count, first))


def _near_constant(count: np.ndarray) -> bool:
    off_mode = int(count.sum() - count.max())
    return off_mode < FEWEST_OFF_MODE and 2 * off_mode <= int(count.sum())


def _near_constant_interval(
    bins: np.ndarray, count: np.ndarray, level: float, support: tuple[float, float]
) -> Estimate:
    total, mode = int(count.sum()), int(np.argmax(count))
    share = _share_off_mode(total - int(count[mode]), total, level)
    value = float(bins[mode])
    low, high = value - share * (value - support[0]), value + share * (support[1] - value)
    method = "few values off the most common one: exact, conservative"
    return Estimate(float(count @ bins / total), low, high, method, level)


def _share_off_mode(off_mode: int, total: int, level: float) -> float:
    """Upper limit of the probability of all other values than the most common one.

    One-sided: it is this limit alone that the interval rests on. But which value is the most common is not known beforehand. Of two
    equally likely ones either may be, and may be so too often: what the other one may miss is taken from this one's part.
    """
    from scipy.special import betainc

    tail = 1 - level
    others = 0.0
    if math.ldexp(1.0, -total) < tail:  # fewer members show no value to be rarer than half
        either = clopper_pearson(float(off_mode), float(total), level).high
        most = min(total // 2, FEWEST_OFF_MODE - 1)
        # At most so many of all: the binomial law by its integral, of which SciPy's own is NaN from 2^31 on.
        others = min(float(betainc(float(total - most), float(most + 1), min(either, 0.5))), tail / 2)
    return clopper_pearson(float(off_mode), float(total), 1 - 2 * (tail - others)).high


def _resampled_means(bins: np.ndarray, count: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    total = int(count.sum())
    step = max(1, BLOCK // len(bins))
    sizes = [min(step, resamples - first) for first in range(0, resamples, step)]
    return np.concatenate([generator.multinomial(total, count / total, size) @ bins / total for size in sizes])


def _bca_limits(
    resampled: np.ndarray, value: float, acceleration: float, freedom: int, level: float
) -> tuple[float, float]:
    """BCa quantiles, their normal deviates widened to Student's t with n / (n - 1) for the plug-in variance."""
    from scipy.special import ndtr, ndtri, stdtrit

    # Resampled means on a lattice tie with the value itself: half of the ties count as below.
    tied = np.abs(resampled - value) <= TIED
    below = np.mean((resampled < value) & ~tied) + np.mean(tied) / 2
    few = 0.5 / len(resampled)
    bias = float(ndtri(min(max(below, few), 1 - few)))
    reach = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt((freedom + 1) / freedom)
    limits = []
    for deviate in (bias - reach, bias + reach):
        room = 1 - acceleration * deviate
        # Past the pole the corrected deviate is beyond every resample.
        corrected = bias + deviate / room if room > 0 else math.copysign(math.inf, deviate)
        limits.append(float(np.quantile(resampled, ndtr(corrected))))
    return limits[0], limits[1]
