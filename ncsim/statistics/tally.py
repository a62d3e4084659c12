"""What the members of a cell add up to: all that a report says of it but what hangs on the order of losses, as whole numbers.

A network's outcome is one table of a context's counts, of which few are different (969 for sixteen rows). Members of each table
are counted by group of the jackknife; what is said of whole members, as S above 2, is counted by its value. Tallies of members
that follow one another merge by addition, so that each part of a run can carry its own, and a report need not read members.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ncsim.records.columns import Columns, by_context
from ncsim.records.members import MemberRecords
from ncsim.statistics import compiled
from ncsim.statistics.loss_order import ordered_bits
from ncsim.statistics.member_statistics import PIECE, s_influence_contextuality
from ncsim.statistics.signalling_tests import AccuracyDifferences
from ncsim.statistics.undecided import UndecidedTally

GROUPS = 32  # of the jackknife: enough for a stable error, few enough to recompute a law for each
#: Of a loss, that tell no bin of `LossBins`.
_LOWER_BITS = 19
#: So many tables are counted at their place; more are sorted.
_DENSE = 2**20


class Tables(NamedTuple):
    """The different tables of counts that networks of one context have.

    Attributes:
        code: what tells them apart, int64[T], ascending.
        members: how many networks have each, by group of the jackknife, int64[T, GROUPS].
    """

    code: np.ndarray
    members: np.ndarray

    def cells(self, rows: int) -> np.ndarray:
        """The counts of each table, int64[T, 4], as (a, b) = 00, 01, 10, 11."""
        rest, both = np.divmod(self.code, rows + 1)
        bob, alice = np.divmod(rest, rows + 1)
        return np.stack([rows - bob - alice - both, bob, alice, both], axis=-1)


class LossBins:
    """Networks of each context by the upper bits of their loss, sixteen bins for each power of two: where any of them is in the
    order of losses is known but for a bin.

    Attributes:
        members: int64[4, 8192], by the upper 13 bits of `ordered_bits`.
    """

    def __init__(self) -> None:
        self.members = np.zeros((4, 1 << 32 - _LOWER_BITS), np.int64)

    def add(self, loss: np.ndarray, diverged: np.ndarray) -> None:
        """Add some members: float32[4, M] and bool[4, M]."""
        for context in range(4):
            bits = ordered_bits(loss[context][~diverged[context]]) >> np.uint32(_LOWER_BITS)
            self.members[context] += np.bincount(bits, minlength=self.members.shape[1])

    def limit(self, context: int, count: int) -> int:
        """What `ordered_bits` of so many networks, the first in the order of losses, are below."""
        return (int(np.searchsorted(np.cumsum(self.members[context]), count)) + 1) << _LOWER_BITS

    def within(self, context: int, span: tuple[int, int]) -> int:
        """How many networks are from one such limit, or 0, to another."""
        return int(self.members[context, span[0] >> _LOWER_BITS : span[1] >> _LOWER_BITS].sum())

    def spans(self, context: int, limit: int, most: int) -> list[tuple[int, int]]:
        """Spans from 0 to such a limit with so many networks each at most, or with one bin where that has more."""
        ends = np.cumsum(self.members[context, : limit >> _LOWER_BITS])
        found, first = [], 0
        while first < len(ends):
            seen = ends[first - 1] if first else 0
            stop = max(int(np.searchsorted(ends, seen + most, side="right")), first + 1)
            found.append((first << _LOWER_BITS, stop << _LOWER_BITS))
            first = stop
        return found


class Tally:
    """Sums over members of one cell, added batch by batch or merged.

    Attributes:
        rows: of a context.
        members: that were added. Member n of all is in group n modulo GROUPS.
        diverged: networks of each context that diverged, int64[4].
        members_diverged: members with such a network.
        tables: of each context, the networks that did not diverge.
        s: whole members by S = -4 + 2 n / rows and group, int64[4 rows + 1, GROUPS].
        contextuality: whole members by Delta = -10 + n / rows, int64[12 rows + 1].
        differences: for the tests of signalling across members.
        undecided: for undecided answers.
        losses: networks by loss.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.members = self.members_diverged = 0
        self.diverged = np.zeros(4, np.int64)
        self.tables = [Tables(np.zeros(0, np.int64), np.zeros((0, GROUPS), np.int64))] * 4
        self.s = np.zeros((4 * rows + 1, GROUPS), np.int64)
        self.contextuality = np.zeros(12 * rows + 1, np.int64)
        self.differences = AccuracyDifferences(rows)
        self.undecided = UndecidedTally(GROUPS)
        self.losses = LossBins()

    def add(self, records: MemberRecords) -> None:
        """Add a batch of members.

        Raises:
            ValueError: records that contradict themselves.
        """
        found = compiled.tally(records, self.rows, GROUPS, self.members % GROUPS, PIECE, _LOWER_BITS)
        if found is not None:
            self._add_compiled(found)
            return
        for first in range(0, records.size, PIECE):
            self._add_piece(records.take(slice(first, first + PIECE)))

    def _add_compiled(self, found: dict[str, Any]) -> None:
        """As `_add_piece`, of what members add up to."""
        lost, whole = found["numbers"][:2].tolist()
        self.members += lost + whole
        self.members_diverged += lost
        self.diverged += found["diverged"]
        for context, size in enumerate(found["found"]):
            order = np.argsort(found["codes"][context, :size])
            tables = (found[name][context, order].astype(np.int64) for name in ("codes", "tables"))
            self.tables[context] = _merged(self.tables[context], Tables(*tables))
        self.s += found["s"]
        self.contextuality += found["contextuality"]
        self.differences.histogram += found["differences"]
        self.losses.members += found["losses"]
        self.undecided.add_compiled(found, self.rows)

    def _add_piece(self, records: MemberRecords) -> None:
        columns = by_context(records)
        _, bob, alice, both = np.moveaxis(columns.counts, 1, 0)
        self.differences.add_columns(alice + both, bob + both, columns.items, columns.diverged)
        self.undecided.add_columns(columns, records)
        self.losses.add(records.loss.T, columns.diverged)
        self.add_networks(columns)

    def add_networks(self, columns: Columns) -> None:
        """As `add`, of all that protocols ask for: neither differences nor undecided answers, which want whole records."""
        size = columns.diverged.shape[1]
        group = (np.arange(size) + self.members) % GROUPS
        lost = np.asarray(columns.diverged.any(axis=0))
        codes = table_codes(columns, self.rows)
        for context, code in enumerate(codes):
            kept = None if not columns.diverged[context].any() else ~columns.diverged[context]
            found = _counted(_of(code, kept), _of(group, kept), self.rows)
            self.tables[context] = _merged(self.tables[context], found)
        self._add_whole(columns, None if not lost.any() else ~lost, group)
        self.diverged += columns.diverged.sum(axis=1)
        self.members_diverged += int(lost.sum())
        self.members += size

    def _add_whole(self, columns: Columns, whole: np.ndarray | None, group: np.ndarray) -> None:
        a, b, c = (_of(sums, whole) for sums in columns.outcome_sums)
        s, _, delta = s_influence_contextuality(a, b, c, self.rows)
        index = (s.astype(np.int64) + 4 * self.rows) // 2 * GROUPS + _of(group, whole)
        self.s += np.bincount(index, minlength=self.s.size).reshape(self.s.shape)
        self.contextuality += np.bincount(delta + 10 * self.rows, minlength=self.contextuality.size)

    def merge(self, other: Tally) -> None:
        """Add what other members of the cell, which come after these, add up to."""
        shift = self.members % GROUPS
        for context, tables in enumerate(other.tables):
            rolled = Tables(tables.code, np.roll(tables.members, shift, axis=1))
            self.tables[context] = _merged(self.tables[context], rolled)
        self.s += np.roll(other.s, shift, axis=1)
        self.contextuality += other.contextuality
        self.differences.histogram += other.differences.histogram
        self.undecided.merge(other.undecided)
        self.losses.members += other.losses.members
        self.diverged += other.diverged
        self.members_diverged += other.members_diverged
        self.members += other.members

    @property
    def networks(self) -> np.ndarray:
        """Networks of each context that did not diverge, int64[4]."""
        return np.asarray(self.members - self.diverged)

    @property
    def whole(self) -> int:
        """Members of which no network diverged."""
        return self.members - self.members_diverged

    @property
    def counts(self) -> np.ndarray:
        """Joint counts added up by group, int64[GROUPS, context, 4]."""
        return np.stack([tables.members.T @ tables.cells(self.rows) for tables in self.tables], axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, as `from_arrays` takes it."""
        found = {
            "members": np.array([self.rows, self.members, self.members_diverged], np.int64),
            "diverged": self.diverged,
            "s": self.s,
            "contextuality": self.contextuality,
            "differences": self.differences.histogram,
        }
        for context, tables in enumerate(self.tables):
            found |= {f"tables_{context}": tables.code, f"table_members_{context}": tables.members}
            there = np.flatnonzero(self.losses.members[context])
            found |= {f"losses_{context}": there, f"loss_members_{context}": self.losses.members[context, there]}
        return found | {f"undecided_{name}": each for name, each in self.undecided.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Tally:
        """The inverse of `arrays`."""
        tally = cls(int(arrays["members"][0]))
        tally.members, tally.members_diverged = map(int, arrays["members"][1:])
        tally.diverged, tally.s, tally.contextuality = (arrays[name] for name in ("diverged", "s", "contextuality"))
        tally.differences.histogram = arrays["differences"]
        tally.tables = [Tables(arrays[f"tables_{n}"], arrays[f"table_members_{n}"]) for n in range(4)]
        for context in range(4):
            tally.losses.members[context, arrays[f"losses_{context}"]] = arrays[f"loss_members_{context}"]
        prefix = "undecided_"
        tally.undecided = UndecidedTally.from_arrays(
            {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}
        )
        return tally


def table_codes(columns: Columns, rows: int) -> np.ndarray:
    """A whole number for each network's table of counts, int32[context, M]: three of the four counts tell it."""
    counts = columns.counts.astype(np.int32)
    return np.asarray((counts[:, 1] * (rows + 1) + counts[:, 2]) * (rows + 1) + counts[:, 3])


def _counted(code: np.ndarray, group: np.ndarray, rows: int) -> Tables:
    """How many of some networks have each table, by group."""
    if (rows + 1) ** 3 <= _DENSE:
        there = np.flatnonzero(np.bincount(code, minlength=1))
        place = np.zeros(int(code.max(initial=0)) + 1, np.int64)
        place[there] = np.arange(len(there))
        table = place[code]
    else:
        there, table = np.unique(code, return_inverse=True)
    members = np.bincount(table * GROUPS + group, minlength=len(there) * GROUPS)
    return Tables(there.astype(np.int64), members.reshape(-1, GROUPS)[: len(there)])


def _of(values: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """Those of some members; of all, without a copy, where none is left out."""
    return values if kept is None else values[..., kept]


def _merged(one: Tables, other: Tables) -> Tables:
    if np.array_equal(one.code, other.code):
        return Tables(one.code, one.members + other.members)
    code = np.sort(np.concatenate([one.code, other.code]))
    code = code[np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]]
    members = np.zeros((len(code), GROUPS), np.int64)
    for tables in (one, other):
        members[np.searchsorted(code, tables.code)] += tables.members
    return Tables(code, members)
