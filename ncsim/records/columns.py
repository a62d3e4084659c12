"""A batch of records by context: each count of a context contiguous over members, in as few bytes as hold sums of them.

Statistics that add up members read these once, in place of copies of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncsim.records.members import MemberRecords


class Columns(NamedTuple):
    """Records of M members by context, in the order 11, 12, 21, 22.

    Attributes:
        counts: rows, int16 or int64[context, 4, M], as (a, b) = 00, 01, 10, 11.
        undecided_alice: of the same type, [context, M], as in `MemberRecords`; so are the next two.
        undecided_bob: likewise.
        decided_product: likewise.
        diverged: bool[context, M].
    """

    counts: np.ndarray
    undecided_alice: np.ndarray
    undecided_bob: np.ndarray
    decided_product: np.ndarray
    diverged: np.ndarray

    @property
    def items(self) -> np.ndarray:
        """Rows of each context, [context, M]."""
        return np.asarray(self.counts[:, 0] + self.counts[:, 1] + self.counts[:, 2] + self.counts[:, 3])

    @property
    def outcome_sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As the function of this name gives them, [context, M] each."""
        return outcome_sums(self.counts)


def outcome_sums(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over a context's rows of Alice's outcome, of Bob's, and of their product, [context, ...] each, of signed counts
    [context, 4, ...]."""
    neither, bob, alice, both = counts.swapaxes(0, 1)
    return alice + both - neither - bob, bob + both - neither - alice, both + neither - alice - bob


#: With at most so many items in a context, sums over all contexts with any signs fit in 16 bits.
_SMALL = 2_000


def by_context(records: MemberRecords) -> Columns:
    """The columns of a batch of records that statistics read."""
    others = (records.undecided_alice, records.undecided_bob, records.decided_product)
    narrow = all(each.min(initial=0) >= -_SMALL and each.max(initial=0) <= _SMALL for each in (records.counts, *others))
    kind = np.int16 if narrow else np.int64
    counts = records.counts.reshape(-1, 16).T.astype(kind, order="C").reshape(4, 4, -1)
    alice, bob, product = (column.T.astype(kind, order="C") for column in others)
    return Columns(counts, alice, bob, product, np.ascontiguousarray(records.diverged.T))


def group_sums(values: np.ndarray, groups: int, first: int) -> np.ndarray:
    """Sums [..., groups] of members' whole numbers [..., M] by group; the first of them is member `first` of all, and member n
    is in group n modulo `groups`."""
    before = first % groups
    behind = -(before + values.shape[-1]) % groups
    padded = np.zeros((*values.shape[:-1], before + values.shape[-1] + behind), values.dtype)
    padded[..., before : before + values.shape[-1]] = values
    return np.asarray(padded.reshape(*values.shape[:-1], -1, groups).sum(axis=-2, dtype=np.int64))
