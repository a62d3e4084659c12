"""Intervals: for fractions of members, and for what a protocol makes of them. Every interval names its method.

References: Clopper and Pearson 1934; Korn and Graubard 1998 (Clopper-Pearson with an effective sample size);
Efron 1982 (the delete-a-group jackknife).
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np

from ncsim.formatting import significant
from ncsim.statistics.arguments import checked_level, numbers, one_number


class Estimate(NamedTuple):
    """A number with its interval. `low <= value <= high`, never NaN where `value` is a number.

    Attributes:
        value: the estimate; NaN where there was nothing to estimate from.
        low: lower limit, in the unit of `value`.
        high: upper limit.
        method: how the limits were found, in words.
        level: probability with which the interval should hold the number, between 0 and 1.

    Example:
        >>> estimate = Estimate(2.125, 2.0, 2.25, "bootstrap")
        >>> print(estimate, estimate.level)
        2.125 [2.000, 2.250] 0.95
    """

    value: float
    low: float
    high: float
    method: str
    level: float = 0.95

    def __str__(self) -> str:
        return f"{significant(self.value)} [{significant(self.low)}, {significant(self.high)}]"


def beta_quantile(a: Any, b: Any, probability: float) -> np.ndarray:
    """Quantiles of beta laws; `a` and `b` may be arrays.

    SciPy's are wrong where one parameter is exactly 1000 and the other above 1e8 (findings/scipy_beta_ppf_of_a_thousand.sh). The next
    float has the same quantile, to a share of 1e-12.
    """
    from scipy.special import betaincinv

    first, second = (np.where(np.equal(x, 1000), np.nextafter(1000, 1001), x) for x in (a, b))
    return np.asarray(betaincinv(first, second, probability))


def clopper_pearson(successes: float, trials: float, level: float = 0.95) -> Estimate:
    """Exact interval of a fraction, conservative. Fractional counts are taken (effective sample sizes); 0 trials: [0, 1].

    Args:
        successes: 0 to `trials`.
        trials: 0 or more; need not be whole.
        level: probability with which the interval should hold the fraction, between 0 and 1.

    Returns:
        The fraction and its limits (Clopper and Pearson 1934).

    Raises:
        ValueError: successes not between 0 and trials, several numbers in place of one, or a level that is not between 0 and 1.

    Example:
        >>> print(clopper_pearson(0, 100))
        0.000 [0.000, 0.036]
    """
    for name, value in (("successes", successes), ("trials", trials)):
        if (several := numbers(name, value)).ndim:
            raise ValueError(f"{name}: {several.size} numbers; allowed: one, so call it for each")
    # In float64: in the type of a small integer of NumPy, 255 + 1 is 0.
    successes, trials = one_number("successes", successes), one_number("trials", trials)
    if not 0 <= successes <= trials < math.inf:
        raise ValueError(f"successes: {successes:.15g}; allowed: 0 to {trials:.15g} trials")
    level = checked_level(level)
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0, "Clopper-Pearson", level)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta_quantile(successes, trials - successes + 1, tail))
    if low <= sys.float_info.min:  # which SciPy gives of counts like 1e-7, where the limit is no float
        low = 0.0
    high = 1.0 if successes == trials else float(beta_quantile(successes + 1, trials - successes, 1 - tail))
    return Estimate(successes / trials, low, high, "Clopper-Pearson", level)


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error from the values with each of G groups left out: sqrt((G - 1) / G * sum (x_g - mean)^2)."""
    groups = len(left_out)
    return float(math.sqrt((groups - 1) / groups * np.sum((left_out - np.mean(left_out)) ** 2)))


def log_ratio(inside: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """Logarithm of a ratio of sums over groups, each [G], and its jackknife error; -inf where nothing is inside, and an infinite
    error there and where all is in one group."""
    left = inside.sum() - inside
    value = math.log(inside.sum() / total.sum()) if inside.sum() > 0 else -math.inf
    if not np.all(left > 0):
        return value, math.inf
    return value, jackknife_error(np.log(left / (total.sum() - total)))


def ratio_estimate(inside: np.ndarray, total: np.ndarray, level: float = 0.95) -> Estimate:
    """Interval of a probability that is a ratio of sums over independent groups, each [G], on the scale of its logarithm: Student's
    t times the jackknife's error. From 0 to 1 where that error is not known."""
    from scipy.special import stdtrit

    method = "delete-a-group jackknife of the logarithm"
    value, error = log_ratio(inside, total)
    if math.isinf(error):
        return Estimate(math.exp(value), 0.0, 1.0, method, level)
    reach = float(stdtrit(len(inside) - 1, (1 + level) / 2)) * error
    return Estimate(math.exp(value), math.exp(value - reach), min(math.exp(value + reach), 1.0), method, level)


#: With fewer networks than this several contexts may well lack an outcome at once.
FEWEST_NETWORKS = 100
#: And with fewer than this for each try: the tries find for sure what a hundred networks may lack.
FEWEST_PER_TRY = 6

#: Said where nothing is known of how members differ; the interval is then all that is possible.
NO_INTERVAL = "one member: no interval"


def mean_estimate(
    value: float,
    left_out: np.ndarray,
    networks: int,
    tries: int = 1,
    level: float = 0.95,
    *,
    support: tuple[float, float] = (-4.0, 4.0),
    span: float = 2.0,
    contexts: int = 1,
    freedom: int | None = None,
) -> Estimate:
    """Interval of a smooth function of the ensemble: jackknife standard error and Student's t over the groups.

    Widened by what the ensemble cannot show, as in `fraction_estimate`. That adds as independent errors do: it is all
    of the reach where all members are equal, and what a rare outcome that some members have lacks otherwise.

    Args:
        value: of the whole ensemble.
        left_out: with each of G groups of members left out, [G].
        networks: members, or networks of the context that has fewest.
        tries: networks that a run looks at.
        level: probability with which the interval should hold what `value` estimates.
        support: the smallest and the largest possible value.
        span: how far it moves, at most, for each unit of probability that an outcome which no network has takes. In
            one of several independent contexts that is 2 for a correlator, and so for S.
        contexts: how many independent contexts it is a sum over; see `unseen_reach`.
        freedom: degrees of freedom; G - 1 if not given.

    Returns:
        The value and its interval; all of the support without a degree of freedom.
    """
    from scipy.special import stdtrit

    freedom = len(left_out) - 1 if freedom is None else freedom
    if freedom < 1:
        return Estimate(value, *support, NO_INTERVAL, level)
    reach = float(stdtrit(freedom, (1 + level) / 2)) * jackknife_error(left_out)
    reach = math.hypot(reach, unseen_reach(span, networks, tries, level, contexts))
    low, high = max(value - reach, support[0]), min(value + reach, support[1])
    return Estimate(
        value, min(low, value), max(high, value), "delete-a-group jackknife, widened for unseen outcomes", level
    )


def mean_reach(error: Any, members: Any, span: float = 0.0, level: float = 0.95) -> Any:
    """Half the interval of means over members: Student's t times the standard error.

    Widened, as independent errors add, by `span` (the largest distance between two members' values, where it is known)
    times the share of members, at most, of a kind that none of these is. Arrays broadcast; infinite for fewer than two
    members.
    """
    from scipy.special import stdtrit

    members = np.asarray(members)
    tail = (1 - level) / 2
    unseen = np.where(members > 0, 1 - tail ** (1 / np.maximum(members, 1)), 1.0)
    reach = np.hypot(stdtrit(np.maximum(members - 1, 1), 1 - tail) * error, span * unseen)
    return np.where(members > 1, reach, np.inf)


def mean_over_members(values: np.ndarray, support: tuple[float, float], level: float = 0.95) -> Estimate:
    """Mean of members' values [M] in a known range, with `mean_reach` and no limit outside the range."""
    value = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 2:
        return Estimate(value, *support, NO_INTERVAL, level)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(mean_reach(error, len(values), support[1] - support[0], level))
    low, high = max(value - reach, support[0]), min(value + reach, support[1])
    return Estimate(value, min(low, value), max(high, value), "Student's t, widened for unseen members", level)


def unseen_share(networks: int, tries: float, level: float) -> float:
    """The probability, at most, that a run which looks at `tries` networks meets an outcome that none of these has.

    Tries are drawn from the law, not from the stored networks: there may be more of them than of those.
    """
    return 1.0 if networks == 0 else 1 - ((1 - level) / 2) ** (tries / networks)


def unseen_reach(span: float, networks: int, tries: int, level: float, contexts: int) -> float:
    """How far outcomes that no network has move a sum over independent contexts, at most.

    Most ensembles lack one in a single context. Of few networks, or of few for each try, several contexts may each lack one that is not even rare, and
    that more tries than networks find for sure: then all of them lack so much that together it is as rare.

    Args:
        span: as for `mean_estimate`, of one context.
        networks: of the context that has fewest.
        tries: networks that a run looks at.
        level: probability with which the interval should hold.
        contexts: of the sum.
    """
    parts = contexts if networks < max(FEWEST_NETWORKS, FEWEST_PER_TRY * tries) else 1
    return parts * span * unseen_share(networks, tries / parts, level)


def fraction_estimate(
    value: float,
    left_out: np.ndarray,
    networks: int,
    tries: int,
    level: float = 0.95,
    *,
    runs: float = math.inf,
    freedom: int | None = None,
) -> Estimate:
    """Interval of a probability that was computed from a stored ensemble, not counted in runs.

    Clopper-Pearson at the effective number of runs, value (1 - value) / error^2 with the jackknife's error and its
    degrees of freedom, at most `networks`; then widened for what the ensemble cannot show: an outcome that none of its
    `networks` has may still be met by a run that looks at `tries` of them, with a probability of up to
    1 - tail^(tries / networks).

    Args:
        value: of the whole ensemble, 0 to 1.
        left_out: with each of G groups of members left out, [G].
        networks: of the context that has fewest.
        tries: networks that a run looks at.
        level: probability with which the interval should hold what `value` estimates.
        runs: drawn from the stored networks where `value` is their share, and not exact. Their error is added.
        freedom: degrees of freedom; G - 1 if not given.

    Returns:
        The value and its interval; [0, 1] without networks.
    """
    from scipy.special import stdtrit

    value = min(max(value, 0.0), 1.0)
    if networks == 0:
        return Estimate(value, 0.0, 1.0, "no network", level)
    freedom = len(left_out) - 1 if freedom is None else freedom
    error, effective = jackknife_error(left_out), float(networks)
    if freedom < 1:
        effective = 1.0
    elif error > 0 and 0 < value < 1:
        ratio = stdtrit(max(networks - 1, 1), (1 + level) / 2) / stdtrit(freedom, (1 + level) / 2)
        effective = min(max(value * (1 - value) / error**2 * ratio**2, 1.0), float(networks))
    effective = 1 / (1 / effective + 1 / runs)
    interval = clopper_pearson(value * effective, effective, level)
    unseen = unseen_share(networks, tries, level)
    low, high = min(interval.low, value * (1 - unseen)), max(interval.high, value + (1 - value) * unseen)
    return Estimate(value, low, high, "Korn-Graubard, widened for unseen outcomes", level)
