"""What is kept of every member: its joint counts and, per context, how its training ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ncsim.records.joint_counts import from_context_order
from ncsim.records.scenarios import ScenarioRecords


class Column(NamedTuple):
    """A column of the records: its type in memory and on disk (counts are small there), and its shape per member."""

    dtype: type
    stored: type
    shape: tuple[int, ...]


#: Every column of `MemberRecords`, in its order. The folder's files follow this table (`storage/arrow_tables.py`).
COLUMNS = {
    "member": Column(np.uint64, np.uint64, ()),
    "counts": Column(np.int32, np.uint16, (4, 4)),
    "loss": Column(np.float32, np.float32, (4,)),
    "margin": Column(np.float32, np.float32, (4,)),
    "diverged": Column(np.bool_, np.bool_, (4,)),
    "undecided_alice": Column(np.int32, np.uint16, (4,)),
    "undecided_bob": Column(np.int32, np.uint16, (4,)),
    "decided_product": Column(np.int32, np.int16, (4,)),
    "training_counts": Column(np.int32, np.uint16, (4, 4)),
}
#: Columns that are None where they say nothing, and that older parts lack.
OPTIONAL = ("training_counts",)


class MemberRecords(NamedTuple):
    """Records of M members, in the order of their ids. Contexts are in the order 11, 12, 21, 22.

    A network that diverged has zero counts in its context; it is never counted as wrong.

    Attributes:
        member: ids, uint64[M].
        counts: rows of the truth table, int32[M, 4, 4]: context, then (a, b) as 00, 01, 10, 11.
        loss: final training loss, float32[M, 4].
        margin: smallest logit in favour of the right answer over rows and heads, float32[M, 4].
        diverged: whether training left the finite numbers, bool[M, 4].
        undecided_alice: rows whose logit of Alice's is within the tolerance of 0, int32[M, 4].
        undecided_bob: likewise of Bob's, int32[M, 4].
        decided_product: sum of A B over the rows that both heads decided, int32[M, 4].
        training_counts: as `counts`, of the rows trained on, int32[M, 4, 4]; None where those were all.

    Example:
        >>> from ncsim import open_run
        >>> records = open_run("grid-run").records()  # any run; this one trained on 3 of the 16 rows
        >>> records.size, records.joint.shape, records.undecided().shape
        (130, (130, 2, 2, 2, 2), (130, 4))
        >>> int(records.training_joint[0, 0, 0].sum()), int(records.held_out_joint[0, 0, 0].sum())
        (3, 13)
        >>> records.take(records.member > 127).member.tolist()
        [128, 129]
    """

    member: np.ndarray
    counts: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    diverged: np.ndarray
    undecided_alice: np.ndarray
    undecided_bob: np.ndarray
    decided_product: np.ndarray
    training_counts: np.ndarray | None = None

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
        """The records of some members.

        Args:
            index: a slice, a mask bool[M], or positions.
        """
        columns: list[Any] = [None if column is None else column[index] for column in self]
        return MemberRecords(*columns)

    @property
    def size(self) -> int:
        """Number of members, M."""
        return len(self.member)

    def undecided(self) -> np.ndarray:
        """bool[M, 4]: contexts with at least one undecided answer."""
        return (self.undecided_alice > 0) | (self.undecided_bob > 0)


_Records = TypeVar("_Records", MemberRecords, ScenarioRecords)


def concatenated(records: Sequence[MemberRecords]) -> MemberRecords:
    """Joins records. An empty list gives an empty record."""
    return joined(records) if records else empty_records()


def joined(records: Sequence[_Records]) -> _Records:
    """Joins records of one kind, of which there is at least one."""
    together = zip(*records, strict=True)
    columns: list[Any] = [None if column[0] is None else np.concatenate(column) for column in together]
    return type(records[0])(*columns)


def empty_records() -> MemberRecords:
    """Records of no member."""
    empty: dict[str, Any] = {
        name: np.zeros((0, *column.shape), column.dtype) for name, column in COLUMNS.items() if name not in OPTIONAL
    }
    return MemberRecords(**empty)
