"""An ensemble as restart protocols see it: how many networks have each outcome, and which have the lower loss.

Networks that diverged take no part: laws are given that training ended with finite numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.machine import cores
from ncsim.records.columns import by_context
from ncsim.records.members import MemberRecords
from ncsim.statistics import compiled
from ncsim.statistics.loss_order import EXACT, best_of_laws, first_of, ordered_bits, packed
from ncsim.statistics.tally import GROUPS, Tables, Tally, table_codes

#: NumPy lets others compute beside it. More threads than contexts would have nothing to do, and more than processors only memory of their own.
THREADS = min(4, cores())


class TableKinds(NamedTuple):
    """What the distinct tables of counts of a context say, one number each for T tables."""

    solved: np.ndarray  # bool: all heads right on every row
    right: np.ndarray  # right answers, all heads together
    alice_right: np.ndarray  # right answers of Alice's head
    alice_solved: np.ndarray  # bool: her head right on every row

    @classmethod
    def of(cls, cells: np.ndarray, rows: int) -> TableKinds:
        """Of tables of two heads, [T, 4]."""
        right, alice = (cells @ weights for weights in ([0, 1, 1, 2], [0, 0, 1, 1]))
        return cls(cells[:, 3] == rows, right, alice, alice == rows)


@dataclass(frozen=True, eq=False)
class ContextOutcomes:
    """The networks of one context that did not diverge, in the order of their losses."""

    member: np.ndarray  # uint32: where each stands in the ensemble
    bits: np.ndarray  # uint32: its loss as `ordered_bits`, ascending
    table: np.ndarray  # int32: which of the context's distinct tables of counts
    kinds: TableKinds  # of those tables

    @cached_property
    def number(self) -> np.ndarray:
        """Networks with each table, int64[T]."""
        return np.bincount(self.table, minlength=len(self.kinds.right))

    def take(self, kept: np.ndarray) -> ContextOutcomes:
        """Those of some networks, bool[M]."""
        return ContextOutcomes(self.member[kept], self.bits[kept], self.table[kept], self.kinds)


class LossesAndTables(NamedTuple):
    """What protocols ask of M members in four contexts, or in some of them: codes of their tables of counts, int32[4, M]; whether
    a network diverged, bool[4, M]; final training losses, float32[4, M]."""

    code: np.ndarray
    diverged: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, records: MemberRecords, rows: int) -> LossesAndTables:
        """Those of a batch of records."""
        columns = by_context(records)
        return cls(table_codes(columns, rows), columns.diverged, np.ascontiguousarray(records.loss.T))

    @classmethod
    def empty(cls, contexts: int, members: int) -> LossesAndTables:
        """Room for so many."""
        shape = contexts, members
        return cls(np.empty(shape, np.int32), np.empty(shape, bool), np.empty(shape, np.float32))

    @classmethod
    def joined(cls, batches: Sequence[LossesAndTables]) -> LossesAndTables:
        """Those of batches of members, one after another."""
        return cls(*(np.concatenate(each, axis=1) for each in zip(cls.empty(4, 0), *batches, strict=True)))

    def between(self, start: int, stop: int) -> LossesAndTables:
        """Those of some members, in the same memory."""
        return LossesAndTables(*(each[:, start:stop] for each in self))

    def put(self, others: LossesAndTables) -> None:
        """Overwrite them by those of as many others."""
        for own, other in zip(self, others, strict=True):
            own[:] = other

    def packed(self, row: int, span: tuple[int, int], places: np.ndarray, before: int) -> np.ndarray:
        """The networks of a row, which is a context's, whose `ordered_bits` are in a span, as `packed` has them; `before`
        members come before these, and `places` are of tables by code."""
        given = self.loss[row], self.diverged[row], self.code[row], places
        found = compiled.within(*given, span, before, GROUPS)
        if found is not None:
            return found
        bits, (low, high) = ordered_bits(self.loss[row]), span
        kept = np.flatnonzero(~self.diverged[row] & (bits >= low) & (bits < high))
        return packed(bits[kept], places[self.code[row, kept]], (kept + before) % GROUPS)


def dense_places(tables: Tables) -> np.ndarray:
    """Which table a code is, at its place: int32, 0 where there is no such table."""
    place = np.zeros(int(tables.code.max(initial=0)) + 1, np.int32)
    place[tables.code] = np.arange(len(tables.code))
    return place


class Ensemble:
    """An ensemble as the laws of protocols see it: what its members add up to, and the laws that hang on the order of losses.

    Attributes:
        tally: what the members add up to.
        common_initialization: whether the four networks of a member start alike.
    """

    def __init__(self, tally: Tally, common_initialization: bool) -> None:
        self.tally = tally
        self.common_initialization = common_initialization

    def best_of_laws(self, tries: int) -> list[np.ndarray]:
        """The laws of each context's tables under the best of so many by loss, float64[1 + GROUPS, T]: of all networks, and with
        each group of members left out."""
        raise NotImplementedError

    def share_with_loss(self, context: int, least: np.ndarray) -> np.ndarray:
        """The share of a context's networks whose loss is at least so much, for each of `least`, of its shape."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Rows of a context."""
        return self.tally.rows

    @property
    def size(self) -> int:
        """Number of members."""
        return self.tally.members

    @property
    def unequal(self) -> list[np.ndarray]:
        """Of each context, k of its different tables, int64[T]."""
        return [tables.cells(self.rows)[:, 1:3].sum(axis=1) for tables in self.tally.tables]

    @property
    def networks(self) -> int:
        """Networks in the context that has fewest; whole members where all contexts of a member start alike."""
        return self.tally.whole if self.common_initialization else int(self.tally.networks.min())

    def solved_fraction(self, context: int) -> tuple[int, int]:
        """Networks that solved a context, and all that did not diverge in it."""
        tables = self.tally.tables[context]
        solved = tables.cells(self.rows)[:, 3] == self.rows
        return int(tables.members[solved].sum()), int(tables.members.sum())


class Outcomes(Ensemble):
    """An ensemble whose networks are held in the order of their losses, some seventy bytes per member. Takes `Run.batches`,
    however long they are.

    Attributes:
        whole: bool[size], no context diverged.
        contexts: four `ContextOutcomes`.
    """

    def __init__(self, batches: Iterable[MemberRecords], config: EnsembleConfig) -> None:
        tally, kept = Tally(config.tasks.rows), []
        for batch in batches:
            tally.add_networks(by_context(batch))
            kept.append(LossesAndTables.of(batch, tally.rows))
        self._take(tally, config.common_initialization, kept)

    @classmethod
    def of(cls, tally: Tally, common_initialization: bool, batches: Iterable[LossesAndTables]) -> Outcomes:
        """The same of members whose tally is known."""
        found = cls.__new__(cls)
        found._take(tally, common_initialization, list(batches))
        return found

    def _take(self, tally: Tally, common_initialization: bool, kept: list[LossesAndTables]) -> None:
        Ensemble.__init__(self, tally, common_initialization)
        code, diverged, loss = kept[0] if len(kept) == 1 else LossesAndTables.joined(kept)
        self.whole = ~diverged.any(axis=0)
        with ThreadPoolExecutor(THREADS) as pool:
            self.contexts = list(pool.map(self._context, range(4), code, diverged, loss))

    def _context(self, context: int, code: np.ndarray, diverged: np.ndarray, loss: np.ndarray) -> ContextOutcomes:
        tables = self.tally.tables[context]
        places, kinds = dense_places(tables), TableKinds.of(tables.cells(self.rows), self.rows)
        found = compiled.in_order(loss, diverged, code, places)
        if found is not None:
            bits, member, table = found
            return ContextOutcomes(member, bits, table, kinds)
        member = np.flatnonzero(~diverged).astype(np.uint32)
        # Sorted as whole numbers, losses before places: quicker than the places alone by their losses.
        key = ordered_bits(loss if len(member) == len(loss) else loss[member]).astype(np.uint64)
        key <<= np.uint64(32)
        key |= member
        key.sort()
        bits, member = (key >> np.uint64(32)).astype(np.uint32), key.astype(np.uint32)
        return ContextOutcomes(member, bits, places[code[member]], kinds)

    def best_of_laws(self, tries: int) -> list[np.ndarray]:
        def law(context: ContextOutcomes, tables: Tables) -> np.ndarray:
            order = compiled.packed(context.bits, context.table, context.member, GROUPS)
            if order is None:
                order = packed(context.bits, context.table, context.member % np.uint32(GROUPS))
            total = int(tables.members.sum())
            return best_of_laws([order if total <= EXACT else first_of(order, tries, total)], tries, tables.members)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(law, self.contexts, self.tally.tables))

    @np.errstate(under="ignore")
    def share_with_loss(self, context: int, least: np.ndarray) -> np.ndarray:
        bits = self.contexts[context].bits
        # The least number in float32 that is not below it: stored losses are float32.
        bound = np.asarray(least, np.float32)
        bound = np.where(bound < least, np.nextafter(bound, np.float32(np.inf)), bound)
        return np.asarray(1 - np.searchsorted(bits, ordered_bits(bound)) / max(len(bits), 1))
