"""Implicit sensing as a detection problem: does one head's loss trace tell which task the other head trains on?

Section 4.3 of arXiv:2603.04451: "an observer confined to a single top-layer neuron could infer that the other top-layer
neuron is attempting to optimize a more difficult training task by monitoring oscillations in its local training cost
function". Here the observer is a logistic regression on stated features of the trace, trained on some members and
tested on others. It answers with an AUC, the probability that a trace of the one class has the higher score than one of
the other, and with bits. Both are of this observer: a better one may sense more, none can sense less.

A member gives one trace of each class (its contexts (i, 1) and (i, 2)), so that traces are not independent: intervals
are over members. References: DeLong, DeLong and Clarke-Pearson 1988; Obuchowski 1997 (their variance for clusters);
Miller 1955 (bias of plug-in information).
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ncsim.statistics.intervals import NO_INTERVAL, Estimate, unseen_share

#: Where levels are read, as shares of the window; slopes are taken between neighbours.
PLACES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: Bands of the detrended spectrum, as shares of its frequencies from low to high.
BANDS = (0.0, 0.1, 1 / 3, 1.0)
#: Losses and powers below this are taken as this before their logarithm.
FLOOR = 1e-12
#: Points that a window must have.
FEWEST = 8
FEATURES = (
    *(f"log loss at {place:.0%}" for place in PLACES),
    *(f"slope {a:.0%} to {b:.0%}" for a, b in itertools.pairwise(PLACES)),
    "log detrended variance",
    "sign changes",
    "peak frequency",
    "log peak power",
    *(f"log power in band {number}" for number in range(1, len(BANDS))),
)
BINS = 20


def trace_features(traces: Float[np.ndarray, "*axes steps"]) -> Float[np.ndarray, "*axes F"]:
    """FEATURES of loss traces at evenly spaced steps: the logarithm (base 10) of the loss at PLACES and its slopes
    between them, per recorded point; of the loss itself about its least-squares line, the variance, the
    share of differences that change sign, the spectral peak and the power in BANDS (squares of loss, base 10 logarithms).

    Raises:
        ValueError: fewer than FEWEST points.
    """
    traces = np.asarray(traces, np.float64)
    steps = traces.shape[-1]
    if steps < FEWEST:
        raise ValueError(f"traces: {steps} points; allowed: {FEWEST} or more")
    places = np.round(np.array(PLACES) * (steps - 1)).astype(int)
    levels = _log(traces[..., places])
    slopes = np.diff(levels, axis=-1) / np.diff(places)
    found = oscillation(traces)
    power = periodogram(detrended(traces))
    cuts = np.round(np.array(BANDS) * power.shape[-1]).astype(int)
    bands = [power[..., low : max(high, low + 1)].sum(-1) for low, high in itertools.pairwise(cuts)]
    single = [
        _log(found.detrended_variance),
        found.sign_changes / (steps - 2),
        found.peak_frequency,
        _log(found.peak_power),
        *(_log(band) for band in bands),
    ]
    return np.concatenate([levels, slopes, np.stack(single, axis=-1)], axis=-1)


def _log(values: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(values, FLOOR))


class Detection(NamedTuple):
    """How well an observer tells two classes of traces apart, on members that it was not trained on."""

    auc: Estimate  # 0.5: not at all; 1: always
    bits_from_log_loss: Estimate  # 1 - held-out log loss: in expectation a lower bound of the mutual information
    bits_from_bins: (
        Estimate  # plug-in information of the binned score, less its bias; also of the observer, not the trace
    )
    trained: int  # members
    tested: int
    excluded: int  # members with a trace that is not finite


def detect(one: Float[np.ndarray, "M F"], other: Float[np.ndarray, "M F"], level: float = 0.95) -> Detection:
    """Train an observer on every second member and test it on the rest; row m of both is member m.

    The observer is scikit-learn's StandardScaler and LogisticRegression at their defaults (a ridge penalty of 1).

    Raises:
        ValueError: fewer than 8 members with finite features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    whole = np.all(np.isfinite(one) & np.isfinite(other), axis=1)
    features = np.stack([one[whole], other[whole]], axis=1)  # [M, class, F]
    if len(features) < 8:
        raise ValueError(f"members: {len(features)} with finite traces; allowed: 8 or more")
    training, testing = features[0::2], features[1::2]
    observer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    width = features.shape[-1]
    observer.fit(training.reshape(-1, width), np.tile([0, 1], len(training)))

    def scores(of: np.ndarray) -> np.ndarray:
        return observer.decision_function(of.reshape(-1, width)).reshape(-1, 2)

    tested = scores(testing)
    return Detection(
        auc=auc_estimate(tested, level),
        bits_from_log_loss=bits_from_log_loss(tested, scores(training), level),
        bits_from_bins=bits_from_bins(tested, scores(training), level),
        trained=len(training),
        tested=len(testing),
        excluded=int(np.sum(~whole)),
    )


def auc_estimate(scores: Float[np.ndarray, "M 2"], level: float = 0.95) -> Estimate:
    """The probability that a trace of class 1 has a higher score than one of class 0, ties counting half, where each of
    M members gives a score of either class.

    The interval is DeLong's with Obuchowski's variance for clusters, on the scale of the logit. Where the classes do not
    overlap at all, or all scores tie, that variance is 0: the interval is always at least what M members cannot exclude,
    the share 1 - tail^(1/M) of a kind of member that none of them is.
    """
    members = len(scores)
    zeros, ones = np.sort(scores[:, 0]), np.sort(scores[:, 1])
    placements = (
        _share_below(scores[:, 1], zeros) + 1 - _share_below(scores[:, 0], ones)
    )  # of both of a member's scores
    value = float(np.mean(placements) / 2)
    if members < 2:
        return Estimate(value, 0.0, 1.0, NO_INTERVAL, level)
    variance = float(np.sum((placements - 2 * value) ** 2)) / (members * (members - 1))
    return _auc_interval(value, variance, members, "DeLong, clustered by member (Obuchowski), logit scale", level)


def auc_between(zeros: Float[np.ndarray, " M"], ones: Float[np.ndarray, " N"], level: float = 0.95) -> Estimate:
    """As `auc_estimate`, for scores of two groups of members; NaN, and the interval [0, 1], where one has fewer than two."""
    if min(len(zeros), len(ones)) < 2:
        return Estimate(math.nan, 0.0, 1.0, "a group of fewer than two", level)
    of_ones = _share_below(ones, np.sort(zeros))
    of_zeros = 1 - _share_below(zeros, np.sort(ones))
    variance = float(of_ones.var(ddof=1) / len(ones) + of_zeros.var(ddof=1) / len(zeros))
    fewest = min(len(zeros), len(ones))
    return _auc_interval(float(of_ones.mean()), variance, fewest, "DeLong, logit scale", level)


def _share_below(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of a sorted array that each value exceeds, ties counting half."""
    return (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / (2 * len(among))


def _auc_interval(value: float, variance: float, members: int, method: str, level: float) -> Estimate:
    from scipy.special import ndtri

    low = high = value
    if 0 < value < 1:
        reach = float(ndtri((1 + level) / 2)) * math.sqrt(variance) / (value * (1 - value))
        logit = math.log(value / (1 - value))
        low, high = (1 / (1 + math.exp(-(logit + sign * reach))) for sign in (-1, 1))
    unseen = unseen_share(members, 1, level)
    low, high = min(low, value * (1 - unseen)), max(high, value + (1 - value) * unseen)
    return Estimate(value, low, high, method, level)


def bits_from_log_loss(
    scores: Float[np.ndarray, "M 2"], limit_from: Float[np.ndarray, "N 2"], level: float = 0.95
) -> Estimate:
    """Mutual information of trace and class in bits, from below: 1 (the entropy of two equally frequent classes) less the
    observer's mean log loss, base 2, on members that it was not trained on. The bound holds for the expectation; below 0
    it says nothing. Scores are log odds.

    Scores further from 0 than any of other members, or than M members can bear out (ln(M + 1)), are taken for that far: an
    observer that says so is as good a one, and none of its losses is then beyond all bounds. The interval is of the bound, by the
    error of a mean over members, widened for a kind of member that none of these is: a certain observer that is wrong once in a
    thousand loses most of its bits by traces that few members show.
    """
    from scipy.special import stdtrit

    limit = min(float(np.abs(limit_from).max()), math.log(len(scores) + 1))
    scores = np.clip(scores, -limit, limit)
    losses = (np.logaddexp(0, scores[:, 0]) + np.logaddexp(0, -scores[:, 1])) / (2 * math.log(2))
    value = 1 - float(losses.mean())
    reach = float(stdtrit(len(losses) - 1, (1 + level) / 2)) * float(losses.std(ddof=1)) / math.sqrt(len(losses))
    reach = math.hypot(reach, limit / math.log(2) * unseen_share(len(losses), 1, level))  # how far losses may be apart
    method = "1 - held-out log loss, Student's t over members, widened for unseen members"
    return Estimate(value, value - reach, min(value + reach, 1.0), method, level)  # no loss is below 0


def bits_from_bins(
    scores: Float[np.ndarray, "M 2"], edges_from: Float[np.ndarray, "N 2"], level: float = 0.95, groups: int = 50
) -> Estimate:
    """Mutual information in bits of the class and the score in BINS bins, cut at quantiles of other members' scores.

    Plug-in, less its bias of (BINS - 1) / (2 traces ln 2) (Miller; fewer where a bin is empty). That is the bias where each class may
    fall into each bin. Classes that are told apart do not, and it takes too much of theirs: the upper limit is of what is left by the
    bins into which each class fell. The interval is a delete-a-group jackknife's over members.
    """
    from scipy.special import stdtrit

    edges = np.unique(np.quantile(edges_from, np.linspace(0, 1, BINS + 1)[1:-1]))
    group_of = np.arange(len(scores)) % min(groups, len(scores))
    place = np.searchsorted(edges, scores)
    counts = np.zeros((group_of.max() + 1, 2, len(edges) + 1))
    for label in (0, 1):
        np.add.at(counts[:, label], (group_of, place[:, label]), 1)
    total = counts.sum(axis=0)
    value = _information(total)
    left_out = np.array([_information(total - group) for group in counts])
    number = len(left_out)
    error = math.sqrt((number - 1) / number * float(np.sum((left_out - left_out.mean()) ** 2)))
    reach = float(stdtrit(number - 1, (1 + level) / 2)) * error
    method = f"plug-in on {len(edges) + 1} bins, Miller's correction, delete-a-group jackknife"
    reach = math.hypot(reach, unseen_share(len(scores), 1, level))  # of a class, no trace tells more than 1 bit
    # The correction can leave a value below 0, which no information is; that of a class is at most 1 bit.
    low, high = max(value - reach, min(value, 0.0)), min(max(value + _overtaken(total) + reach, 0.0), 1.0)
    return Estimate(value, low, max(high, value), method, level)


def _information(counts: np.ndarray) -> float:
    """Bits between the axes of a table of counts [classes, bins], less Miller's bias."""
    joint = counts / counts.sum()
    apart = joint.sum(axis=0, keepdims=True) * joint.sum(axis=1, keepdims=True)
    there = joint > 0
    bits = float(np.sum(joint[there] * np.log2(joint[there] / apart[there])))
    filled = int(np.sum(joint.sum(axis=0) > 0))
    return bits - (filled - 1) * (len(counts) - 1) / (2 * counts.sum() * math.log(2))


def _overtaken(counts: np.ndarray) -> float:
    """Bits that Miller's bias is above that of counts [classes, bins] where empty cells stay empty; 0 or above."""
    filled, of_class = (counts.sum(axis=0) > 0).sum(), (counts > 0).sum(axis=1)
    return float(((filled - of_class).sum()) / (2 * counts.sum() * math.log(2)))


class Oscillation(NamedTuple):
    """How a trace oscillates about its trend. Leading axes are the traces'; a straight line has zeros everywhere."""

    detrended_variance: np.ndarray  # mean square about the least-squares line, in squares of the trace's unit
    sign_changes: np.ndarray  # int: of successive differences; a difference of 0 keeps the sign before it
    peak_frequency: np.ndarray  # of the detrended trace's periodogram, cycles a recorded point, above 0 to 0.5
    peak_power: np.ndarray  # the detrended variance that lies at that frequency


def oscillation(traces: Float[np.ndarray, "*axes steps"]) -> Oscillation:
    """Oscillation of loss traces at evenly spaced steps, in float64. The periodogram has no window, so that its sum is
    the detrended variance (Parseval).

    Raises:
        ValueError: fewer than four points.
    """
    traces = np.asarray(traces, np.float64)
    if traces.shape[-1] < 4:
        raise ValueError(f"traces: {traces.shape[-1]} points; allowed: 4 or more")
    residual = detrended(traces)
    power = periodogram(residual)
    peak = np.argmax(power, axis=-1)
    height = np.take_along_axis(power, peak[..., None], -1)[..., 0]
    # What rounding leaves of a straight line is no oscillation.
    flat = height <= (1e-12 * np.max(np.abs(traces), axis=-1)) ** 2
    return Oscillation(
        detrended_variance=np.where(flat, 0.0, np.mean(residual**2, axis=-1)),
        sign_changes=sign_changes(traces),
        peak_frequency=np.where(flat, 0.0, (peak + 1) / traces.shape[-1]),
        peak_power=np.where(flat, 0.0, height),
    )


def detrended(traces: np.ndarray) -> np.ndarray:
    """Traces [..., steps] less their least-squares lines."""
    steps = traces.shape[-1]
    time = np.arange(steps) - (steps - 1) / 2
    slope = traces @ time / (time @ time)
    return traces - traces.mean(axis=-1, keepdims=True) - slope[..., None] * time


def periodogram(residual: np.ndarray) -> np.ndarray:
    """Mean square of [..., steps] at frequencies 1/steps, 2/steps, ... to one half: [..., steps // 2]."""
    steps = residual.shape[-1]
    power = 2 * np.abs(np.fft.rfft(residual, axis=-1)[..., 1:]) ** 2 / steps**2
    if steps % 2 == 0:
        power[..., -1] /= 2
    return power


def sign_changes(traces: np.ndarray) -> np.ndarray:
    """How often the differences of [..., steps] change sign; a difference of 0 keeps the sign before it."""
    signs = np.sign(np.diff(traces, axis=-1))
    place = np.where(signs != 0, np.arange(signs.shape[-1]), 0)
    kept = np.take_along_axis(signs, np.maximum.accumulate(place, axis=-1), -1)
    return np.sum(kept[..., 1:] * kept[..., :-1] < 0, axis=-1)
