"""Statistics along training: S(t), accuracies, P(S > 2), contextuality, what is solved, losses, with bands over members.

A member is one network in each context, so that S(t) here is that of a single shot. Members that have diverged at a step
are left out of that step. All is read off sums (`trajectory_tally.py`), so that memory does not grow with the number of members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.intervals import clopper_pearson, mean_reach
from ncsim.statistics.trajectory_tally import LATTICES, TrajectoryTally, loss_values, places_of

#: Of the bands over members.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NOT_RECORDED = "no trajectories: the run was made without a recording"
#: The smallest and largest possible value of what is observed; a loss and a norm are 0 or more, the rest any number.
OBSERVED_RANGES = {
    "margin": (-np.inf, np.inf),
    "cosine": (-1.0, 1.0),
    **dict.fromkeys(("conflict", "neurons_in_conflict"), (0.0, 1.0)),
}


class Series(NamedTuple):
    """A quantity at R recorded steps, of each context where it has contexts: `*C` is nothing or 4.

    Attributes:
        mean: over members, float64[R, *C]; NaN where all have diverged.
        low: lower limit of an interval of the mean: Student's t over members, or Clopper-Pearson for a fraction; none is
            outside of what is possible.
        high: upper limit, likewise.
        quantiles: 5, 25, 50, 75 and 95 % over members, [5, R, *C]; None for fractions.

    Example:
        >>> import numpy as np
        >>> Series(np.array([0.0, 1.5]), np.array([-0.5, 1.0]), np.array([0.5, 2.0])).mean.tolist()
        [0.0, 1.5]
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    quantiles: np.ndarray | None = None


class Slope(NamedTuple):
    """mu_gradS of section 5.3: the mean of the slopes of S over a window, per thousand steps, with its interval.

    The mean of the slopes between equally spaced steps is the slope between the first and the last.

    Attributes:
        first: recorded step at which the window begins, in optimiser steps.
        last: recorded step at which it ends.
        mean: change of S per thousand steps, in the mean over members.
        low: lower limit of its interval, in the same unit.
        high: upper limit.

    Example:
        >>> Slope(first=0, last=1000, mean=1.5, low=1.2, high=1.8).mean
        1.5
    """

    first: int
    last: int
    mean: float
    low: float
    high: float


class TrajectoryStatistics(NamedTuple):
    """What members do along training (arXiv:2603.04451, section 5.3). NaN where every member has diverged.

    Attributes:
        step: optimiser steps taken, int32[R].
        members: how many have not diverged in any context, int64[R].
        s: S, -4 to 4.
        s_factorised: S had every correlator been a product of means.
        influence: direct influence, 0 to 8.
        contextuality: Delta, at most 2.
        above_2: fraction of members with S > 2.
        contextual: fraction of members with Delta > 0.
        solved: fraction of networks with every answer right, by context.
        accuracy_alice: fraction of rows that Alice's head got right, by context.
        accuracy_bob: likewise of Bob's head.
        observed: losses, margin and gradients by name and context, of networks of which they are finite numbers: on the way to
            divergence these may be few; "conflict" is the share whose cosine is negative.
        slopes: mu_gradS of each window.

    Example:
        >>> from ncsim import open_run
        >>> run = open_run("recorded-run")  # the folder of any run that was recorded along training
        >>> found = trajectory_statistics(run.trajectories(), rows=16)
        >>> found.members.tolist(), found.s.mean.shape, found.solved.mean.shape
        ([64, 64, 64], (3,), (3, 4))
    """

    step: np.ndarray
    members: np.ndarray
    s: Series
    s_factorised: Series
    influence: Series
    contextuality: Series
    above_2: Series
    contextual: Series
    solved: Series
    accuracy_alice: Series
    accuracy_bob: Series
    observed: dict[str, Series]
    slopes: tuple[Slope, ...]


def trajectory_statistics(
    trajectories: Iterable[MemberTrajectories], rows: int, windows: Sequence[tuple[int, int]] = ()
) -> TrajectoryStatistics:
    """Statistics of the trajectories of one cell (`Run.trajectories`), trained on `rows` rows. `Run.trajectory_statistics` gives the
    same of a run, and of a stored one without reading its members again.

    Args:
        trajectories: batches of one cell, as `Run.trajectories` gives them; read once.
        rows: rows of the truth table that members were trained on (16 for the paper's tasks).
        windows: first and last step of the windows to give mu_gradS of; the recorded steps nearest to them bound it.

    Returns:
        Series over the recorded steps: S, accuracies, P(S > 2), contextuality, what is solved, losses with bands.
        mu_gradS is as in arXiv:2603.04451, section 5.3.

    Raises:
        ValueError: no trajectory, or a window that lies between two recorded steps.

    Example:
        >>> from ncsim import open_run
        >>> run = open_run("recorded-run")  # the folder of any run that was recorded along training
        >>> found = trajectory_statistics(run.trajectories(), rows=16, windows=[(0, 40)])
        >>> found.step.tolist(), found.slopes[0].last
        ([0, 20, 40], 40)
    """
    tally: TrajectoryTally | None = None
    for part in trajectories:
        tally = tally or TrajectoryTally.like(part, rows, windows)
        tally.add(part)
    if tally is None:
        raise ValueError(NOT_RECORDED)
    return statistics_of(tally, windows)


def statistics_of(tally: TrajectoryTally, windows: Sequence[tuple[int, int]] = ()) -> TrajectoryStatistics:
    """The same of what trajectories add up to, in which these windows are."""
    sums, whole = tally.sums, tally.sums["s"].sum(axis=-1)
    # S = -4 + 2 n / rows, and Delta = -10 + 2 n / rows.
    above, contextual = (
        sums[name][:, n * tally.rows + 1 :].sum(axis=-1) for name, n in (("s", 3), ("contextuality", 5))
    )
    series = {name: _of_lattice(tally, name) for name in LATTICES}
    return TrajectoryStatistics(
        step=tally.step,
        members=whole,
        s_factorised=_of_moments(tally, "s_factorised", (-4, 4), tally.rows**2),
        above_2=_fraction_series(above, whole),
        contextual=_fraction_series(contextual, whole),
        solved=_fraction_series(sums["solved"], sums["accuracy_alice"].sum(axis=-1)),
        observed={name: _of_observed(tally, name) for name in tally.observed},
        slopes=tuple(_slope(tally, window) for window in windows),
        **series,
    )


def _of_lattice(tally: TrajectoryTally, name: str) -> Series:
    lattice, members = LATTICES[name], tally.sums[name]
    values = lattice.values(tally.rows)
    # Delta is at least -8, although its terms allow for -10.
    low = -8 if name == "contextuality" else lattice.low
    found = _series(members.sum(axis=-1), members @ values, members @ values**2, (low, lattice.high), tally.rows)
    return found._replace(quantiles=_quantiles(members, values / tally.rows))


def _of_observed(tally: TrajectoryTally, name: str) -> Series:
    found = _of_moments(tally, name, OBSERVED_RANGES.get(name, (0, np.inf)))
    bins = tally.sums.get(f"{name} bins")
    return found if bins is None else found._replace(quantiles=_quantiles(bins, loss_values()))


def _of_moments(tally: TrajectoryTally, name: str, support: tuple[float, float], unit: int = 1) -> Series:
    number, first, second = (tally.sums[f"{name} {which}"] for which in ("number", "first", "second"))
    return _series(number, first, second, support, unit)


def _slope(tally: TrajectoryTally, window: tuple[int, int]) -> Slope:
    """Of members that are whole at both ends: the sum of (s' - s)^2 is that of s'^2 + s^2 - 2 s s'."""
    first, last = places_of(tally.step, window)
    ends = int(tally.step[first]), int(tally.step[last])
    between = (ends[1] - ends[0]) / 1000
    a, b = np.searchsorted(tally.paired, [first, last])
    number, one, square, product = (tally.sums[f"pairs {name}"] for name in ("number", "first", "square", "product"))
    change, second = one[b, a] - one[a, b], square[b, a] + square[a, b] - 2 * product[a, b]
    found = _series(number[a, b], change, second, (-8 / between, 8 / between), tally.rows * between)
    return Slope(*ends, *(float(value) for value in found[:3]))


def _series(
    number: np.ndarray, first: np.ndarray, second: np.ndarray, support: tuple[float, float], unit: float
) -> Series:
    """Of sums over members of what is times `unit`, and of its square, [R, *C]."""
    known = np.where(number > 0, number, np.nan)
    mean = first / unit / known
    variance = np.maximum(second / unit**2 / known - mean**2, 0) * known / np.maximum(known - 1, 1)
    low, high = support
    span = high - low if np.isfinite(high - low) else 0.0
    reach = mean_reach(np.sqrt(variance / known), number, span)
    return Series(mean, np.maximum(mean - reach, low), np.minimum(mean + reach, high))


def _quantiles(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of values [bins] that so many members have, [R, *C, bins]."""
    cumulative = np.cumsum(members, axis=-1)
    # Whole per cent: 0.05 x 140 members are 7, and in floating point a little more.
    levels = np.rint(100 * np.array(QUANTILES)).astype(np.int64).reshape(-1, *[1] * cumulative.ndim)
    place = (100 * cumulative < levels * cumulative[..., -1:]).sum(axis=-1)  # the first bin that reaches the level
    return np.where(cumulative[..., -1] > 0, values[np.minimum(place, len(values) - 1)], np.nan)


def _fraction_series(events: np.ndarray, known: np.ndarray) -> Series:
    found = [clopper_pearson(int(k), int(n)) for k, n in zip(events.reshape(-1), known.reshape(-1), strict=True)]
    return Series(*(np.array([each[field] for each in found]).reshape(events.shape) for field in range(3)))
