"""One part of what a run recorded along training: trajectories of members as a sealed Parquet file, and back again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.records.joint_counts import from_context_order


class MemberTrajectories(NamedTuple):
    """M members at R recorded steps, in the order of their ids. Contexts are in the order 11, 12, 21, 22.

    In memory a context's number is a column of members and steps, as in a file (`by_column`).

    Attributes:
        member: ids, uint64[M].
        step: optimiser steps taken, int32[R], ascending from 0.
        counts: rows of the truth table, uint16[M, R, 4, 4]: context, then (a, b); zero where the network has diverged.
        values: the observed numbers by name, float32[M, R, 4] each.

    Example:
        >>> from ncsim import open_run
        >>> part = next(open_run("recorded-run").trajectories())  # any run that was recorded along training
        >>> part.step.tolist(), part.joint.shape, part.value("conflict").shape
        ([0, 20, 40], (40, 3, 2, 2, 2, 2), (40, 3, 4))
        >>> part.take(slice(2)).copied().member.tolist()
        [0, 1]
    """

    member: np.ndarray
    step: np.ndarray
    counts: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def joint(self) -> np.ndarray:
        """Joint counts, int32[M, R, 2, 2, 2, 2]; differences of unsigned ones would wrap around."""
        return from_context_order(self.counts.astype(np.int32))

    def value(self, name: str) -> np.ndarray:
        """One observed number, float32[M, R, 4], or one that follows from them: "conflict", 1 where the cosine is
        negative, and "magnitude_similarity", 2 |a| |b| / (|a|^2 + |b|^2), 0 where a norm is 0
        (`ncsim.training.gradients`).

        Args:
            name: a key of `values`, "conflict" or "magnitude_similarity".

        Raises:
            KeyError: nothing of that name was observed.
        """
        if name == "conflict" and "cosine" in self.values:
            return (self.values["cosine"] < 0).astype(np.float32)
        if name == "magnitude_similarity" and "cosine" in self.values:
            alice, bob = self.values["alice_norm"], self.values["bob_norm"]
            larger, smaller = np.maximum(alice, bob), np.minimum(alice, bob)
            ratio = smaller / np.where(larger == 0, 1, larger)
            return (2 * ratio / (1 + ratio**2)).astype(np.float32)
        if name not in self.values:
            raise KeyError(f"{name}: not recorded; there are {', '.join(self.values)}")
        return self.values[name]

    def take(self, index: slice) -> MemberTrajectories:
        """The trajectories of some members.

        Args:
            index: a slice of the M members.
        """
        values = {name: each[index] for name, each in self.values.items()}
        return self._replace(member=self.member[index], counts=self.counts[index], values=values)

    def copied(self) -> MemberTrajectories:
        """The same in memory of its own, and in the same order there."""
        values = {name: each.copy(order="K") for name, each in self.values.items()}
        return self._replace(counts=self.counts.copy(order="K"), values=values)


def by_column(array: np.ndarray) -> np.ndarray:
    """Arrays [M, R, ...] of trajectories as columns [..., M R]: as they lie in memory, so that nothing is copied."""
    members, points, *numbers = array.shape
    columns: np.ndarray = np.moveaxis(array, (0, 1), (-2, -1)).reshape(*numbers, members * points)
    return columns


def by_member(columns: np.ndarray) -> np.ndarray:
    """The inverse, of columns [..., M, R]."""
    found: np.ndarray = np.moveaxis(columns, (-2, -1), (0, 1))
    return found


def concatenated(trajectories: Sequence[MemberTrajectories]) -> MemberTrajectories:
    """Trajectories of the same steps, one after another."""
    first = trajectories[0]
    if len(trajectories) == 1:
        return first
    return MemberTrajectories(
        np.concatenate([each.member for each in trajectories]),
        first.step,
        np.concatenate([each.counts for each in trajectories]),
        {name: np.concatenate([each.values[name] for each in trajectories]) for name in first.values},
    )


def of_contexts(name: str) -> list[str]:
    """The columns of an observed number: loss_alice_11 is that of context 11."""
    return list(context_names(name + "_{i}{j}"))


#: counts_12_01: in context 12, how many rows Alice has wrong and Bob right.
COUNTS = [f"{name}_{a}{b}" for name in of_contexts("counts") for a in (0, 1) for b in (0, 1)]
