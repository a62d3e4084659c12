"""Statistics along training: S(t), accuracies, P(S > 2), contextuality, what is solved, losses, with bands over members.

A member is one network in each context, so that S(t) here is that of a single shot. Members that have diverged at a step
are left out of that step. Everything is summed part by part, so that memory does not grow with the number of members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson, mean_reach

#: Of the bands over members.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Losses are counted in bins of equal ratio, from 1e-8 to 1e4: a quantile is right to 2.4 %.
LOSS_BINS_A_DECADE, LOSS_DECADES = 50, (-8, 4)
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
        observed: losses, margin and gradients by name and context; "conflict" is the share whose cosine is negative.
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
    """Statistics of the trajectories of one cell (`Run.trajectories`), trained on `rows` rows.

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
    tally: _Tally | None = None
    for part in trajectories:
        tally = tally or _Tally(part, rows, windows)
        tally.add(part)
    if tally is None:
        raise ValueError("no trajectories: the run was made without a recording")
    return tally.result()


class _Tally:
    """Sums over members of everything, at every step."""

    def __init__(self, like: MemberTrajectories, rows: int, windows: Sequence[tuple[int, int]]) -> None:
        self._rows, self._step, self._observed = (
            rows,
            like.step,
            (*like.values, *(("conflict",) if "cosine" in like.values else ())),
        )
        self._windows = [tuple(int(np.abs(like.step - end).argmin()) for end in window) for window in windows]
        for (first, last), window in zip(self._windows, windows, strict=True):
            if first >= last:
                raise ValueError(f"windows: {window}; allowed: from one recorded step to a later one")
        self._sums: dict[str, _Sums] = {}
        self._fractions: dict[str, np.ndarray] = {}
        self._members = np.zeros(len(like.step), np.int64)

    def add(self, part: MemberTrajectories) -> None:
        there: Any = chsh_statistics(part.joint)
        whole = ~np.isnan(there.s)
        self._members += whole.sum(axis=0)
        self._sum("s", there.s, (-4, 4), _Lattice(-4, 4, 2, self._rows))
        self._sum("s_factorised", there.s_factorised, (-4, 4))
        self._sum("influence", there.influence, (0, 8), _Lattice(0, 8, 2, self._rows))
        self._sum("contextuality", there.contextuality, (-8, 2), _Lattice(-10, 2, 2, self._rows))
        self._count("above_2", there.s > 2, whole)
        self._count("contextual", there.contextuality > 0, whole)
        networks = np.any(part.counts, axis=-1)
        self._count("solved", np.equal(part.counts[..., 3], self._rows), networks)
        for name, accuracy in (("accuracy_alice", there.accuracy_alice), ("accuracy_bob", there.accuracy_bob)):
            self._sum(name, accuracy.reshape(networks.shape), (0, 1), _Lattice(0, 1, 1, self._rows))
        for name in self._observed:
            self._sum(
                f"observed {name}",
                np.where(networks, part.value(name), np.nan),
                OBSERVED_RANGES.get(name, (0, np.inf)),
                _LogBins() if name.startswith("loss") else None,
            )
        for number, (first, last) in enumerate(self._windows):
            between = (int(self._step[last]) - int(self._step[first])) / 1000
            self._sum(f"slope {number}", (there.s[:, last] - there.s[:, first]) / between, (-8 / between, 8 / between))

    def _sum(self, name: str, values: np.ndarray, support: tuple[float, float], bins: _Bins | None = None) -> None:
        if name not in self._sums:
            self._sums[name] = _Sums(values.shape[1:], support, bins)
        self._sums[name].add(values)

    def _count(self, name: str, event: np.ndarray, known: np.ndarray) -> None:
        held = self._fractions.setdefault(name, np.zeros((2, *event.shape[1:]), np.int64))
        held += np.stack([(event & known).sum(axis=0), known.sum(axis=0)])

    def result(self) -> TrajectoryStatistics:
        given: dict[str, Any] = {name: sums.series() for name, sums in self._sums.items()}
        given |= {name: _fraction_series(*held) for name, held in self._fractions.items()}
        observed = {name: given.pop(f"observed {name}") for name in self._observed}
        slopes = []
        for number, (first, last) in enumerate(self._windows):
            slope = given.pop(f"slope {number}")
            ends = (int(self._step[first]), int(self._step[last]))
            slopes.append(Slope(*ends, *(float(value) for value in slope[:3])))
        return TrajectoryStatistics(
            step=self._step, members=self._members, observed=observed, slopes=tuple(slopes), **given
        )


class _Lattice:
    """Bins that are the fractions of so many rows from `low` to `high`, `step` rows apart."""

    def __init__(self, low: int, high: int, step: int, rows: int) -> None:
        self.low, self.step, self.rows = low, step, rows
        self.count = (high - low) * rows // step + 1

    def place(self, values: np.ndarray) -> np.ndarray:
        return np.rint((values - self.low) * self.rows / self.step)

    def value(self, place: np.ndarray) -> np.ndarray:
        # A whole number over the rows, so that it is the float that a member's value is.
        return np.asarray((self.low * self.rows + self.step * place) / self.rows)


class _LogBins:
    """Bins of equal ratio; a value is its bin's middle."""

    low, step, count = LOSS_DECADES[0], 1 / LOSS_BINS_A_DECADE, LOSS_BINS_A_DECADE * (LOSS_DECADES[1] - LOSS_DECADES[0])

    def place(self, values: np.ndarray) -> np.ndarray:
        logarithms = np.log10(np.maximum(values, 10.0 ** LOSS_DECADES[0]))
        return np.clip(np.floor((logarithms - self.low) / self.step), 0, self.count - 1)

    def value(self, place: np.ndarray) -> np.ndarray:
        return 10.0 ** (self.low + self.step * (place + 0.5))


_Bins = _Lattice | _LogBins


class _Sums:
    """Number, sum, sum of squares and histogram over members, at each place of an array."""

    def __init__(self, shape: tuple[int, ...], support: tuple[float, float], bins: _Bins | None) -> None:
        self._support, self._bins = support, bins
        self._number, self._first, self._second = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        self._histogram = np.zeros((*shape, bins.count), np.int64) if bins else None

    def add(self, values: np.ndarray) -> None:
        values = values.astype(np.float64)
        there = np.isfinite(values)
        kept = np.where(there, values, 0)
        self._number += there.sum(axis=0)
        self._first += kept.sum(axis=0)
        self._second += (kept**2).sum(axis=0)
        if self._bins is not None and self._histogram is not None:
            places = self._histogram.size // self._bins.count
            index = self._bins.place(kept).astype(np.int64) + self._bins.count * np.arange(places).reshape(
                kept.shape[1:]
            )
            self._histogram += np.bincount(index[there], minlength=self._histogram.size).reshape(self._histogram.shape)

    def series(self) -> Series:
        number = np.where(self._number > 0, self._number, np.nan)
        mean = self._first / number
        variance = np.maximum(self._second / number - mean**2, 0) * number / np.maximum(number - 1, 1)
        low, high = self._support
        span = high - low if np.isfinite(high - low) else 0.0
        reach = mean_reach(np.sqrt(variance / number), self._number, span)
        return Series(mean, np.maximum(mean - reach, low), np.minimum(mean + reach, high), self._quantiles())

    def _quantiles(self) -> np.ndarray | None:
        if self._bins is None or self._histogram is None:
            return None
        cumulative = np.cumsum(self._histogram, axis=-1)
        # Whole per cent: 0.05 x 140 members are 7, and in floating point a little more.
        levels = np.rint(100 * np.array(QUANTILES)).astype(np.int64).reshape(-1, *[1] * cumulative.ndim)
        place = (100 * cumulative < levels * self._number[..., None]).sum(
            axis=-1
        )  # the first bin that reaches the level
        values = self._bins.value(np.minimum(place, self._bins.count - 1))
        return np.where(self._number > 0, values, np.nan)


def _fraction_series(events: np.ndarray, known: np.ndarray) -> Series:
    found = [clopper_pearson(int(k), int(n)) for k, n in zip(events.reshape(-1), known.reshape(-1), strict=True)]
    return Series(*(np.array([each[field] for each in found]).reshape(events.shape) for field in range(3)))
