"""What the parts of a run add up to, each in a sealed file beside it, so that a report need not read members.

    runs/figure2/summaries/hidden-3/members-0000000000-16384.parquet    of the part of that name
    runs/figure2/summaries/hidden-3/cell.parquet                        of a cell of many members, with what hangs on losses
    runs/figure2/summaries/trajectories/hidden-3/...                    the same two of what was recorded of these members along training

They are made from parts and made again at any time: what is missing, torn, or of another file than the part that is there is
made anew by the next report. Each is a Parquet file of one row, a list per histogram.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import StoreError
from ncsim.records.members import MemberRecords
from ncsim.statistics.cell import MOST_IN_ORDER, Cell
from ncsim.statistics.outcomes import LossesAndTables
from ncsim.statistics.tally import Tally
from ncsim.storage.buffers import array_of, bytes_of, numbers_of
from ncsim.storage.checksums import TORN, UNSEALED, is_whole, seal
from ncsim.storage.files import Storage
from ncsim.storage.losses import losses_and_tables
from ncsim.storage.part_folder import PartFolder, ahead
from ncsim.storage.parts import MEMBERS, footer_digest

FOLDER = "summaries"
FORMAT = 1
_KEY, _CHECKSUM = b"ncsim-summary", b"ncsim-checksum"
#: Parts that are read at once; NumPy, Arrow and hashes compute beside one another.
THREADS = 4
#: From so many members on what hangs on losses is kept, too: of fewer it is made in no time.
MANY = 2**16
#: Of cells: those of before had not all that counts of the laws of the best by loss, where very many networks have one loss.
_CELLS = " 2"

#: A part: its name, the digest of its footer, and how many members it has.
Place = tuple[str, str, int]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Sums(Protocol):
    """What members add up to."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse."""


_Sums = TypeVar("_Sums", bound=Sums)


class _Source(NamedTuple):
    """A part of a cell in one of the folders that have parts of it."""

    folder: PartFolder[MemberRecords]
    config: EnsembleConfig
    name: str
    first: int
    members: int
    footer: str


def summary_name(part: str) -> str:
    """Where the summary of a part is; both names are relative to the run folder. That of members is in no folder of its own."""
    return f"{FOLDER}/{part.removeprefix(f'{MEMBERS.folder}/')}"


def write_summary(storage: Storage, name: str, of: str, sums: Sums) -> None:
    """Store what members add up to, and what it is of. What cannot be stored is left to the next report."""
    with contextlib.suppress(OSError):
        storage.write(name, _to_bytes(sums.arrays(), of))


def kept_or_made(storage: Storage, name: str, of: str, kind: type[_Sums], make: Callable[[], _Sums]) -> _Sums:
    """What a summary holds; where it is missing, torn or of something else, it is made and stored."""
    arrays = _read(storage, name, of)
    if arrays is not None:
        with contextlib.suppress(KeyError):
            return kind.from_arrays(arrays)
    made = make()
    write_summary(storage, name, of, made)
    return made


def digest_of(places: Sequence[Place]) -> str:
    """What tells these parts, together, from any others: hexadecimal digits."""
    return hashlib.sha256("\n".join(f"{name} {footer}" for name, footer, _ in places).encode()).hexdigest()


def kept_cell(
    folder: PartFolder[Any],
    config: EnsembleConfig,
    places: Sequence[Place],
    kind: type[_Sums],
    make: Callable[[], _Sums],
    version: str = "",
) -> _Sums:
    """What a cell adds up to, kept where it has many members. `places` are its parts; of another version it is made anew."""
    if sum(members for *_, members in places) < MANY:
        return make()
    name = f"{summary_name(folder.cell_name(config) + '/')}cell.parquet"
    return kept_or_made(folder.storage, name, digest_of(places) + version, kind, make)


def cell_of(sources: Sequence[tuple[PartFolder[MemberRecords], EnsembleConfig]]) -> Cell:
    """A cell as a report sees it, of the members that some folders have of it.

    Raises:
        StoreError: a part is torn, foreign, holds records that contradict themselves, or has members that another has.
    """
    places = _places(sources)
    folder, config = sources[0]
    if len(sources) > 1:
        return _made(config, places)
    parts = [(each.name, each.footer, each.members) for each in places]
    return kept_cell(folder, config, parts, Cell, lambda: _made(config, places), _CELLS)


def _places(sources: Sequence[tuple[PartFolder[MemberRecords], EnsembleConfig]]) -> list[_Source]:
    """The parts of a cell in the order of their members."""
    places = [
        _Source(folder, config, part.name, part.first, part.members, stamp["footer"])
        for folder, config in sources
        for part, stamp in folder.stamped(config)
    ]
    places.sort(key=lambda each: each.first)
    for before, after in itertools.pairwise(places):
        if before.first + before.members > after.first:
            raise StoreError(
                f"{after.folder.location}/{after.name}: has members that {before.folder.location}/{before.name} has; "
                "allowed: folders with different members of a cell"
            )
    return places


def _made(config: EnsembleConfig, places: Sequence[_Source]) -> Cell:
    size = sum(each.members for each in places)
    tally, few = Tally(config.tasks.rows), size <= MOST_IN_ORDER
    held = LossesAndTables.empty(4, size if few else 0)
    starts = itertools.accumulate((each.members for each in places), initial=0)

    def look(given: tuple[_Source, int]) -> Tally:
        (place, start), read = given, list[MemberRecords]()

        def make() -> Tally:
            read.append(place.folder.read_part(place.config, place.name))
            own = Tally(config.tasks.rows)
            try:
                own.add(read[0])
            except ValueError as error:  # records that no training gives, as of a part that was edited
                raise StoreError(f"{place.folder.location}: {error}") from None
            return own

        own = kept_or_made(place.folder.storage, summary_name(place.name), place.footer, Tally, make)
        if few:
            there = held.between(start, start + place.members)
            if read:
                there.put(LossesAndTables.of(read[0], config.tasks.rows))
            else:
                _losses_and_tables(place, range(4), found=there)
        return own

    for own in in_turn(look, zip(places, starts, strict=False)):
        tally.merge(own)
    if few:
        return Cell.of_ordered(tally, config.common_initialization, [held])
    seen: set[str] = set()  # parts that were found to be whole, and need not be looked at again for another context

    def read(contexts: Sequence[int]) -> Iterator[LossesAndTables]:
        return in_turn(lambda place: _losses_and_tables(place, contexts, seen), places)

    return Cell.of_many(tally, config.common_initialization, read)


def _losses_and_tables(
    place: _Source, contexts: Sequence[int], seen: set[str] | None = None, found: LossesAndTables | None = None
) -> LossesAndTables:
    with place.folder.naming(place.name):
        content = place.folder.storage.read(place.name)
        # The footer's digest tells the file, with its checksum, from any other of that name.
        if seen is None or place.footer not in seen or footer_digest(content) != place.footer:
            if is_whole(content) is False:
                raise StoreError(TORN)
            if seen is not None:
                seen.add(place.footer)
        return losses_and_tables(content, place.config, contexts, found)


def in_turn(action: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """What an action makes of items, in their order; a few of them at once."""
    return (made() for made in ahead(action, items, THREADS))


# --------------------------------------------------------------------------------------------------------- their files


def _to_bytes(arrays: Mapping[str, np.ndarray], of: str) -> memoryview:
    """Arrays as a sealed file that says what they are of."""
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    columns = {name: _one_row(array) for name, array in arrays.items()}
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays(list(columns.values()), list(columns))
    # A dictionary of one list's numbers takes as long as all else, and saves a fortieth.
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        stamp = {"format": FORMAT, "of": of, "arrays": shapes}
        writer.add_key_value_metadata({_KEY: json.dumps(stamp), _CHECKSUM: UNSEALED})
    content = bytes_of(sink)
    seal(content)
    return content


def _one_row(array: np.ndarray) -> pa.Array:
    """All numbers as one list, whole ones in as few bytes as hold them."""
    flat = array.reshape(-1)
    if flat.dtype.kind in "iu" and flat.size:
        flat = flat.astype(np.promote_types(np.min_scalar_type(flat.min()), np.min_scalar_type(flat.max())))
    return pa.ListArray.from_arrays(array_of(np.array([0, flat.size], np.int32)), array_of(flat))


def _read(storage: Storage, name: str, of: str) -> dict[str, np.ndarray] | None:
    """The arrays of a summary; None where there is none, or it is torn, or of something else."""
    try:
        if not storage.exists(name):
            return None
        content = storage.read(name)
        if not is_whole(content):
            return None
        reader = pq.ParquetFile(pa.BufferReader(content))
        stamp = json.loads(reader.metadata.metadata[_KEY])
        if (stamp["format"], stamp["of"]) != (FORMAT, of):
            return None
        table = reader.read(use_threads=False)
        return {
            name: numbers_of(table[name].chunk(0).flatten()).astype(dtype).reshape(shape)
            for name, (dtype, shape) in stamp["arrays"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def torn_summaries(storage: Storage) -> list[str]:
    """The names of summaries that are not as they were written. Raises OSError."""
    return [name for name in storage.names(FOLDER) if name.endswith(".parquet") and not is_whole(storage.read(name))]
