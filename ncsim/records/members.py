"""What is kept of every member: its joint counts and, per context, how its training ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.records.joint_counts import from_context_order


class MemberRecords(NamedTuple):
    """Records of M members, in the order of their ids. Contexts are in the order 11, 12, 21, 22.

    A network that diverged has zero counts in its context; it is never counted as wrong.
    """

    member: np.ndarray  # uint64[M]
    counts: np.ndarray  # int32[M, 4, 4]: context, then (a, b) as 00, 01, 10, 11
    loss: np.ndarray  # float32[M, 4]: final training loss
    margin: np.ndarray  # float32[M, 4]: smallest logit in favour of the right answer over rows and heads
    diverged: np.ndarray  # bool[M, 4]
    undecided_alice: np.ndarray  # int32[M, 4]: rows whose logit is within the tolerance of 0
    undecided_bob: np.ndarray  # int32[M, 4]
    decided_product: np.ndarray  # int32[M, 4]: sum of A B over the rows that both heads decided
    training_counts: np.ndarray | None = None  # as counts, of the rows trained on; None where those were all

    @property
    def training_joint(self) -> np.ndarray:
        """Joint counts of the rows that each member trained on, int32[M, 2, 2, 2, 2]; those of all rows where it
        trained on all."""
        return self.joint if self.training_counts is None else from_context_order(self.training_counts)

    @property
    def held_out_joint(self) -> np.ndarray:
        """Joint counts of the rows that each member did not train on, int32[M, 2, 2, 2, 2]."""
        return self.joint - self.training_joint

    @property
    def joint(self) -> np.ndarray:
        """Joint counts, int32[M, 2, 2, 2, 2]."""
        return from_context_order(self.counts)

    def take(self, index: slice | np.ndarray) -> MemberRecords:
        """The records of some members: a slice, a mask, or positions."""
        columns: list[Any] = [None if column is None else column[index] for column in self]
        return MemberRecords(*columns)

    @property
    def size(self) -> int:
        """Number of members, M."""
        return len(self.member)

    def undecided(self) -> np.ndarray:
        """bool[M, 4]: contexts with at least one undecided answer."""
        return (self.undecided_alice > 0) | (self.undecided_bob > 0)


def concatenated(records: Sequence[MemberRecords]) -> MemberRecords:
    """Records one after another; none give records of no member."""
    if not records:
        return empty_records()
    together = zip(*records, strict=True)
    columns: list[Any] = [None if column[0] is None else np.concatenate(column) for column in together]
    return MemberRecords(*columns)


def empty_records() -> MemberRecords:
    """Records of no member."""
    return MemberRecords(
        np.zeros(0, np.uint64),
        np.zeros((0, 4, 4), np.int32),
        np.zeros((0, 4), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((0, 4), bool),
        *(np.zeros((0, 4), np.int32) for _ in range(3)),
    )
