"""The parts of one kind in a run folder: what is there, what is missing, and each part read, checked and written.

`run_folder` has those of members, `trajectory_folder` those of trajectories.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import spelled
from ncsim.errors import StoreError, reason, report_command
from ncsim.storage.config_file import FLAT, FORMAT
from ncsim.storage.files import Storage
from ncsim.storage.parts import Kept, Part, PartKind, Stamp, from_bytes, gaps, ids_of, part_name, stamp_of, to_bytes

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: As much of a part's end as holds its footer, if not thousands of steps stand there.
FOOTER_BYTES = 1 << 16


class PartFolder(Generic[Kept]):
    """The parts of one kind that a run folder has of each of its cells."""

    kind: PartKind[Kept]

    def __init__(self, storage: Storage, configs: Sequence[EnsembleConfig], form: int = FORMAT) -> None:
        self.storage = storage
        self.location = storage.location
        self.configs = tuple(configs)
        self.swept = swept_fields(self.configs)
        self.form = form  # of config.json, which decides how parts are written
        self._held: tuple[str, Kept] | None = None  # the part that `of_members` has read last

    @property
    def flat(self) -> bool:
        """Whether parts are written with flat columns, of which some are the swept fields."""
        return self.form >= FLAT

    def cell_name(self, config: EnsembleConfig) -> str:
        """Where a cell's parts are, relative to the run folder. Where the swept fields are no columns, the folders are hive
        partitions; where they are, those would stand against the columns, as texts."""
        sign = "-" if self.flat else "="
        cells: list[str] = [f"{name}{sign}{_partition_value(getattr(config, name))}" for name in self.swept]
        return "/".join([self.kind.folder, *cells])

    def part(self, config: EnsembleConfig, first: int, members: int) -> str:
        """The name of a part, relative to the run folder, whether it is there or not."""
        return f"{self.cell_name(config)}/{part_name(first, members)}"

    def part_names(self, config: EnsembleConfig) -> list[str]:
        """The names of the files in a cell's folder that are called as parts are, whatever they hold.

        Raises:
            StoreError: the folder cannot be read.
        """
        cell = self.cell_name(config)
        with self.naming(cell):
            names = [name for name in self.storage.names(cell) if name.rpartition("/")[0] == cell]
        return [name for name in names if name.endswith(".parquet") and not name.rpartition("/")[2].startswith(".")]

    def parts(self, config: EnsembleConfig, ids: range | None = None) -> list[Part]:
        """The cell's parts by first member, from their names and footers; with `ids` those that have one of these members, and no other
        is read.

        Raises:
            StoreError: a part is torn, foreign, of another config, or overlaps another.
        """
        return [part for part, _ in self.stamped(config, ids)]

    def stamped(self, config: EnsembleConfig, ids: range | None = None) -> list[tuple[Part, Stamp]]:
        """As `parts`, each with what it says of itself."""
        found = []
        names = [name for name in self.part_names(config) if ids is None or _overlap(ids_of(name), ids)]
        for name, footer in zip(names, ahead(self._footer, names, self.storage.at_once), strict=True):
            with self.naming(name):
                stamp = stamp_of(self.kind, footer(), name, config)
                found.append((Part(name, stamp["first"], stamp["count"]), stamp))
        found.sort(key=lambda each: each[0].first)
        for (before, _), (after, _) in itertools.pairwise(found):
            if before.ids.stop > after.first:
                with self.naming(after.name):
                    raise StoreError(f"overlaps {before.name.rpartition('/')[2]}")
        return found

    def _footer(self, name: str) -> bytes:
        tail = self.storage.read_tail(name, FOOTER_BYTES)
        size = int.from_bytes(tail[-8:-4], "little") + 8
        return tail if size <= len(tail) else self.storage.read_tail(name, size)

    def missing(self, config: EnsembleConfig) -> list[range]:
        """The config's members that no part holds yet, as ranges of ids. Raises as `parts`."""
        return gaps(config, self.parts(config))

    def read(self, config: EnsembleConfig) -> Iterator[Kept]:
        """What is kept of the cell's members, part by part, in the order of their ids.

        Raises:
            StoreError: a part that is torn, foreign, or does not hold what its name says.
        """
        for part in self.parts(config):
            yield self.read_part(config, part.name)

    def read_part(self, config: EnsembleConfig, name: str) -> Kept:
        """What one part holds. Raises as `read`."""
        with self.naming(name):
            return self.checked_part(config, name)[0]

    def of_members(self, config: EnsembleConfig, parts: Sequence[Part], ids: range) -> list[Kept]:
        """What these parts of a cell hold of these members, part by part. The part that was read last stays in memory.
        Raises as `read`."""
        found = []
        for part in parts:
            if _overlap(part.ids, ids):
                if self._held is None or self._held[0] != part.name:
                    self._held = part.name, self.read_part(config, part.name)
                found.append(self._held[1].take(slice(max(ids.start - part.first, 0), ids.stop - part.first)))
        return found

    def checked_part(self, config: EnsembleConfig, name: str) -> tuple[Kept, bool]:
        """What a part holds, and whether it has a checksum.

        Raises:
            StoreError: what is wrong with it, without its name.
            OSError: it cannot be read.
        """
        return from_bytes(self.kind, self.storage.read(name), name, config)

    def write_part(self, config: EnsembleConfig, kept: Kept, **stamp: Any) -> str:
        """Store what is kept of members with consecutive ids as one part, and give its name. `stamp` has what this kind of
        part says of itself besides.

        Raises:
            StoreError: it cannot be written; what was stored before it is whole.
        """
        name = self.part(config, int(kept.member[0]), len(kept.member))
        content = to_bytes(self.kind.layout(self.form), self.kind.key, kept, config, self.swept, **stamp)
        try:
            self.storage.write(name, content)
        except OSError as error:
            raise StoreError(
                f"{self.location}/{name}: cannot be written ({reason(error)}); what was stored before it is whole, and "
                "the same command resumes"
            ) from None
        self.note_stored(config, kept, name, content)
        return name

    def note_stored(self, config: EnsembleConfig, kept: Kept, name: str, content: memoryview) -> None:
        """What is to be done when a part is stored: nothing."""

    @contextlib.contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Turn what is wrong with a file of the run into one line that names it and says what to do."""
        place = f"{self.location}/{name}"
        remedy = f"`{report_command('--repair', self.location)}` moves it aside and trains it again"
        try:
            yield
        except StoreError as error:
            if error.place:  # it is named already, as what cannot be read now, which no repair puts right
                raise
            raise StoreError(error.problem, place, remedy) from None
        except OSError as error:
            raise StoreError(f"cannot be read ({reason(error)})", place) from None


def ahead(action: Callable[[_In], _Out], items: Iterable[_In], most: int) -> Iterator[Callable[[], _Out]]:
    """What gives or raises what an action makes of each item, in their order; so many of them at once, so that memory does not grow with
    their number."""
    if most == 1:
        yield from (functools.partial(action, item) for item in items)
        return
    with ThreadPoolExecutor(most) as threads:
        waiting = collections.deque[Future[_Out]]()
        try:
            for item in items:
                waiting.append(threads.submit(action, item))
                if len(waiting) > most:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result
        finally:
            for each in waiting:
                each.cancel()


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _partition_value(value: Any) -> str:
    return (
        urllib.parse.quote(spelled(value), safe="") or "none"
    )  # an empty name would read as a null, which pandas cannot take
