"""What trajectories of a cell's members add up to, step by step: all that is said of training, as sums that merge by addition.

What was counted is kept as whole numbers: members by S, influence and Delta, networks by accuracy, and products of S at any two steps.
What was observed (losses, margins, gradients) are floats, of which number, sum and sum of squares are kept, and losses by bin.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ncsim.records.columns import outcome_sums
from ncsim.records.trajectories import MemberTrajectories, by_column
from ncsim.statistics import compiled
from ncsim.statistics.member_statistics import PIECE, s_influence_contextuality, signed_sum

#: Losses are counted in bins of equal ratio, from 1e-8 to 1e4: a quantile is right to 2.4 %.
LOSS_BINS = 600
_LOWEST, _WIDTH = -8, 1 / 50  # in decades
#: Sums between any two recorded steps are kept of so many steps; where more are recorded, of so many that are spread evenly.
MOST_PAIRED = 256
#: What is said of members that cannot be added.
OTHERWISE = "members were recorded otherwise"
_OF_ONE_THREAD = 2**18


class Lattice(NamedTuple):
    """The values that something counted can have: whole numbers over the rows, from `low` to `high`, `apart` rows apart."""

    low: int
    high: int
    apart: int
    of_networks: bool = False  # of each context; else of whole members

    def size(self, rows: int) -> int:
        """How many there are."""
        return (self.high - self.low) * rows // self.apart + 1

    def place(self, values: np.ndarray, rows: int) -> np.ndarray:
        """Of values times the rows."""
        return (values - self.low * rows) // self.apart

    def values(self, rows: int) -> np.ndarray:
        """All of them, times the rows."""
        return self.low * rows + self.apart * np.arange(self.size(rows))


LATTICES = {
    "s": Lattice(-4, 4, 2),
    "influence": Lattice(0, 8, 2),
    "contextuality": Lattice(-10, 2, 2),
    "accuracy_alice": Lattice(0, 1, 1, of_networks=True),
    "accuracy_bob": Lattice(0, 1, 1, of_networks=True),
}


class TrajectoryTally:
    """Sums over members of one cell at R recorded steps, added part by part or merged.

    Attributes:
        step: optimiser steps taken, int32[R].
        rows: of a context.
        observed: the names of what was observed, and "conflict" with "cosine".
        paired: places of the P steps between which there are sums, ascending.
        sums: arrays by name. Of each of LATTICES how many members have each value, int64[R, bins], or how many networks, [R, 4, bins];
            "solved", networks with every answer right, int64[R, 4]; "s_factorised number", "first" and "second", the sums of S had
            every correlator been a product of means, times the square of the rows, and of its square, int64[R]; the same of what was
            observed, as "margin number", whole or float64[R, 4]; "loss_alice bins", networks by loss, int64[R, 4, LOSS_BINS];
            and of members that are whole at both of two steps, "pairs number", "first", "square" and "product": how many, and the
            sums of S at the first, of its square, and of its product with S at the second, times the rows, int64[P, P].
    """

    def __init__(
        self, step: np.ndarray, rows: int, observed: Sequence[str], windows: Sequence[tuple[int, int]] = ()
    ) -> None:
        points = len(step)
        self.step, self.rows, self.observed = step, rows, tuple(observed)
        self.paired = np.unique([*_spread(points), *np.ravel([places_of(step, window) for window in windows])]).astype(
            np.int64
        )
        counted = {
            name: np.zeros((points, *((4,) if each.of_networks else ()), each.size(rows)), np.int64)
            for name, each in LATTICES.items()
        }
        moments = _moments("s_factorised", (points,), np.int64)
        for name in observed:
            moments |= _moments(name, (points, 4), np.float64)
            if name.startswith("loss"):
                counted[f"{name} bins"] = np.zeros((points, 4, LOSS_BINS), np.int64)
        pairs = {
            f"pairs {name}": np.zeros((len(self.paired),) * 2, np.int64)
            for name in ("number", "first", "square", "product")
        }
        self.sums = counted | {"solved": np.zeros((points, 4), np.int64)} | moments | pairs

    @classmethod
    def like(
        cls, trajectories: MemberTrajectories, rows: int, windows: Sequence[tuple[int, int]] = ()
    ) -> TrajectoryTally:
        """One to which such trajectories can be added, and which has sums between the ends of these windows. Raises as
        `places_of`."""
        return cls(trajectories.step, rows, _observed(trajectories), windows)

    def add(self, trajectories: MemberTrajectories) -> None:
        """Add some members, recorded at the same steps.

        Raises:
            ValueError: they were recorded otherwise; or counts of a network are neither all zero nor of all rows, and the sums are of
                no use then.
        """
        if not np.array_equal(trajectories.step, self.step) or _observed(trajectories) != self.observed:
            raise ValueError(OTHERWISE)
        size = max(2 * PIECE // len(self.step), 1)
        used = compiled.library(trajectories.counts.shape[0] * len(self.step))
        for first in range(0, len(trajectories.member), size):
            part = trajectories.take(slice(first, first + size))
            s, whole = self._add_piece(part) if used is None else self._add_compiled(used, part)
            self._add_pairs(s[:, self.paired], whole[:, self.paired])

    def _add_compiled(self, used: compiled.Library, part: MemberTrajectories) -> tuple[np.ndarray, np.ndarray]:
        """As `_add_piece`, with the same bits."""
        s, whole, there = compiled.outcomes(used, part, self.rows, self.sums)
        for name in self.observed:
            compiled.observed(used, name, part.value(name), there, self.sums, _edges())
        return s, whole

    def _add_piece(self, part: MemberTrajectories) -> tuple[np.ndarray, np.ndarray]:
        """Add all but what is of two steps; gives S times the rows, and whether members are whole, [M, R] each."""
        shape = part.counts.shape[:2]
        # With 64 rows at most, sums over contexts with any signs fit in 16 bits, and those of products in 32.
        counts = by_column(part.counts).astype(np.int16)
        total = counts.sum(axis=1)
        if ((total != 0) & (total != self.rows)).any():
            raise ValueError(f"trajectories: counts that are neither all zero nor of {self.rows} rows")
        a, b, c = outcome_sums(counts)
        s, influence, delta = s_influence_contextuality(a, b, c, self.rows)
        networks = np.asarray(counts.any(axis=1))
        whole = np.asarray(networks.all(axis=0))
        for name, values in (("s", s), ("influence", influence), ("contextuality", delta)):
            self._count(name, values, whole)
        for name, alone in (("accuracy_alice", 2), ("accuracy_bob", 1)):
            self._count(name, counts[:, alone] + counts[:, 3], networks)
        self.sums["solved"] += (counts[:, 3] == self.rows).reshape(4, *shape).sum(axis=1).T
        factorised = signed_sum(a.astype(np.int32) * b).astype(np.int64)
        self._add_moments("s_factorised", factorised.reshape(shape), whole.reshape(shape))
        self._add_observed(part, np.ascontiguousarray(networks.T).reshape(*shape, 4))
        return s.reshape(shape), whole.reshape(shape)

    def _count(self, name: str, values: np.ndarray, there: np.ndarray) -> None:
        """Count values times the rows, [N] or [4, N], of members that are there; N goes over members and steps."""
        lattice, points = LATTICES[name], len(self.step)
        before = np.arange(points)
        if lattice.of_networks:
            before = 4 * before + np.arange(4)[:, None, None]
        shape = (*values.shape[:-1], -1, points)
        index = lattice.place(values, self.rows).reshape(shape) + lattice.size(self.rows) * before
        _add_counts(self.sums[name], index, there.reshape(shape))

    def _add_observed(self, part: MemberTrajectories, networks: np.ndarray) -> None:
        # In the order of values, which lie context by context: to add numbers in two orders takes ten times as long.
        places = np.asfortranarray(LOSS_BINS * np.arange(4 * len(self.step)).reshape(-1, 4))
        for name in self.observed:
            values = part.value(name).astype(np.float64)
            with np.errstate(invalid="ignore"):  # infinities of both signs
                first = values.sum(axis=0)  # finite where all are, as nearly always
            there = networks if np.isfinite(first).all() else networks & np.isfinite(values)
            self._add_moments(name, values, there, first)
            if f"{name} bins" in self.sums:
                bins = loss_bins(values)
                bins += places
                _add_counts(self.sums[f"{name} bins"], bins, there)

    def _add_moments(self, name: str, values: np.ndarray, there: np.ndarray, first: np.ndarray | None = None) -> None:
        """Add values that are there; `first` is the sum of all."""
        every = there.all()
        kept = values if every else np.where(there, values, 0)
        self.sums[f"{name} number"] += len(there) if every else there.sum(axis=0)
        self.sums[f"{name} first"] += first if every and first is not None else kept.sum(axis=0)
        self.sums[f"{name} second"] += np.einsum("m...,m...->...", kept, kept)

    def _add_pairs(self, s: np.ndarray, whole: np.ndarray) -> None:
        values = np.where(whole, s, 0).astype(np.float64)
        self.sums["pairs product"] += _product(values, values)
        if whole.all():  # then all are whole at the second step, and one product of four is left
            self.sums["pairs number"] += len(s)
            for name, power in (("first", values), ("square", values**2)):
                self.sums[f"pairs {name}"] += power.sum(axis=0).astype(np.int64)[:, None]
            return
        known = whole.astype(np.float64)
        for name, one in (("number", known), ("first", values), ("square", values**2)):
            self.sums[f"pairs {name}"] += _product(one, known)

    def merge(self, other: TrajectoryTally) -> None:
        """Add what other members of the cell add up to.

        Raises:
            ValueError: something else was recorded of them, or at other steps.
        """
        alike = (np.array_equal(getattr(self, name), getattr(other, name)) for name in ("step", "paired", "observed"))
        if not all(alike):
            raise ValueError(OTHERWISE)
        for name, sums in self.sums.items():
            sums += other.sums[name]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, as `from_arrays` takes it."""
        return {"step": self.step, "rows": np.array([self.rows]), "paired": self.paired} | self.sums

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TrajectoryTally:
        """The inverse of `arrays`. Raises KeyError where one is missing."""
        last = " second"
        observed = [name.removesuffix(last) for name in arrays if name.endswith(last) and name != f"s_factorised{last}"]
        tally = cls(arrays["step"], int(arrays["rows"][0]), observed)
        tally.paired = arrays["paired"]
        tally.sums = {name: arrays[name] for name in tally.sums}
        return tally

    def has_windows(self, windows: Sequence[tuple[int, int]]) -> bool:
        """Whether there are sums between the ends of all these windows. Raises as `places_of`."""
        return all(np.isin(places_of(self.step, window), self.paired).all() for window in windows)


def _observed(trajectories: MemberTrajectories) -> tuple[str, ...]:
    return (*trajectories.values, *(["conflict"] if "cosine" in trajectories.values else []))


def places_of(step: np.ndarray, window: tuple[int, int]) -> tuple[int, int]:
    """The recorded steps nearest to the ends of a window.

    Raises:
        ValueError: it lies between two recorded steps.
    """
    first, last = (int(np.abs(step - end).argmin()) for end in window)
    if first >= last:
        raise ValueError(f"windows: {tuple(window)}; allowed: from one recorded step to a later one")
    return first, last


def loss_bins(losses: np.ndarray) -> np.ndarray:
    """The bin of each loss, float64; of one outside of all, the nearest."""
    bins = np.fmax(losses, 10.0**_LOWEST)
    np.log10(bins, out=bins)
    bins -= _LOWEST
    bins /= _WIDTH
    np.minimum(bins, LOSS_BINS - 1, out=bins)
    found: np.ndarray = bins.astype(np.int64)
    return found


@functools.cache
def _edges() -> tuple[np.ndarray, np.ndarray]:
    """The bin of the lowest float32 with each 16 upper bits, int16[65536], of which none has two edges of bins within; and the lowest
    of each bin, with infinity at the end, float32[LOSS_BINS + 1]."""
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    infinite = np.float32(np.inf).view(np.uint32)
    numbers = np.where(upper & infinite == infinite, infinite, upper).view(np.float32)
    lowest = loss_bins(numbers.astype(np.float64)).astype(np.int16)
    low = np.full(LOSS_BINS - 1, np.float32(0).view(np.uint32))
    high = np.full(LOSS_BINS - 1, infinite)
    while (high - low > 1).any():  # what is at `low` is in a lower bin, what is at `high` is not
        middle = (low + high) // 2
        below = loss_bins(middle.view(np.float32).astype(np.float64)) < np.arange(1, LOSS_BINS)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return lowest, np.concatenate([[0], high.view(np.float32), [np.inf]]).astype(np.float32)


def loss_values() -> np.ndarray:
    """The middle of each bin, float64[LOSS_BINS]."""
    return np.asarray(10.0 ** (_LOWEST + _WIDTH * (np.arange(LOSS_BINS) + 0.5)))


def _spread(points: int) -> np.ndarray:
    return np.rint(np.linspace(0, points - 1, min(points, MOST_PAIRED))).astype(np.int64)


def _moments(name: str, shape: tuple[int, ...], kind: type) -> dict[str, np.ndarray]:
    return {
        f"{name} {which}": np.zeros(shape, np.int64 if which == "number" else kind)
        for which in ("number", "first", "second")
    }


def _add_counts(histogram: np.ndarray, index: np.ndarray, there: np.ndarray) -> None:
    """Count those that are there by their places in a histogram."""
    kept = index.ravel(order="K") if there.all() else index[there]
    histogram += np.bincount(kept, minlength=histogram.size).reshape(histogram.shape)


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The product over members of whole numbers as floats [M, P], exact below 2^53. In pieces that BLAS takes one thread for: it waits
    for its threads, which takes fifty times as long where a run trains on all processors."""
    pieces = -(-one.shape[0] * one.shape[1] * other.shape[1] // _OF_ONE_THREAD)
    pairs = zip(np.array_split(one, pieces), np.array_split(other, pieces), strict=True)
    return np.sum([(a.T @ b).astype(np.int64) for a, b in pairs], axis=0)
