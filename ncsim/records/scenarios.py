"""What is kept of every member of a scenario: joint counts of any number of heads, and how each context's training ended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ScenarioRecords(NamedTuple):
    """Records of M members in the C contexts of a scenario with k parties, in the order of their ids.

    A network that diverged has zero counts in its context; it is never counted as wrong.

    Attributes:
        member: ids, uint64[M].
        counts: rows, int32[M, C, 2^k]; a cell's number has the parties' outcomes as bits, the first party's the highest.
        loss: final training loss, float32[M, C].
        margin: smallest logit in favour of the right answer over rows and heads, float32[M, C].
        diverged: whether training left the finite numbers, bool[M, C].
        undecided: rows whose logit is within the tolerance of 0, int32[M, C, k].

    Example:
        >>> import numpy as np
        >>> flat = np.zeros((5, 6), np.float32)
        >>> two = np.zeros((5, 6, 2), np.int32)
        >>> records = ScenarioRecords(np.arange(5), np.zeros((5, 6, 4), np.int32), flat, flat, flat > 0, two)
        >>> records.size, records.parties, records.joint.shape, records.take(records.member > 2).member.tolist()
        (5, 2, (5, 6, 2, 2), [3, 4])
    """

    member: np.ndarray
    counts: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    diverged: np.ndarray
    undecided: np.ndarray

    @property
    def size(self) -> int:
        """Number of members, M."""
        return len(self.member)

    @property
    def parties(self) -> int:
        """Heads of a network, k."""
        return int(self.undecided.shape[2])

    @property
    def joint(self) -> np.ndarray:
        """Joint counts with an axis per party, int32[M, C, 2, ..., 2]."""
        return self.counts.reshape(*self.counts.shape[:2], *(2,) * self.parties)

    def take(self, index: slice | np.ndarray) -> ScenarioRecords:
        """The records of some members.

        Args:
            index: a slice, a mask bool[M], or positions.
        """
        return ScenarioRecords(*(column[index] for column in self))
