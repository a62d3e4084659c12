"""One part of a run as a sealed Parquet file, and back again: records of members, or their trajectories.

A part's footer holds its stamp: its format, its config's fingerprint, its first member, and how many there are. The stamp
of trajectories also says at which steps what was recorded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig, fingerprint, network_steps
from ncsim.config.recording import Recording
from ncsim.errors import StoreError, one_line
from ncsim.records.members import MemberRecords
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.outcomes import LossesAndTables
from ncsim.storage.arrow_tables import from_table, schema, to_table, trajectories_from_table, trajectories_to_table
from ncsim.storage.buffers import numbers_of
from ncsim.storage.checksums import UNSEALED, is_whole, sealed

_CHECKSUM = b"ncsim-checksum"

Kept = TypeVar("Kept", MemberRecords, MemberTrajectories)
Stamp = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PartKind(Generic[Kept]):
    """What parts of one kind have of their own.

    Attributes:
        folder: the folder of all of them.
        words: what they are parts of.
        key: the name of the stamp in the footer.
        format: of a new part. Those from 1 on are read; only 1 had no checksum of the whole file.
        options: of the Parquet writer.
        stamped: what its stamp says besides what every stamp says, with what reads each.
        to_table: gives the columns.
        from_table: the inverse, of a table, its stamp and its config. It raises StoreError where the numbers cannot be.
    """

    folder: str
    words: str
    key: bytes
    format: int
    options: Mapping[str, Any]
    stamped: Mapping[str, Callable[[Any], Any]]
    to_table: Callable[[Kept], pa.Table]
    from_table: Callable[[pa.Table, Stamp, EnsembleConfig], Kept]


def to_bytes(kind: PartKind[Kept], kept: Kept, config: EnsembleConfig, **stamp: Any) -> bytes:
    """What is kept of members with consecutive ids as the file of one part. The same gives the same bytes with one version
    of pyarrow, so that a part that two workers write is one part. `stamp` has what this kind says besides."""
    ids = {"first": int(kept.member[0]), "count": len(kept.member)}
    stamp = {"format": kind.format, "fingerprint": fingerprint(config), **ids, **stamp}
    table, sink = kind.to_table(kept), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, **kind.options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({kind.key: json.dumps(stamp), _CHECKSUM: UNSEALED})
    return sealed(sink.getvalue().to_pybytes())


def stamp_of(kind: PartKind[Any], content: bytes, name: str, config: EnsembleConfig) -> Stamp:
    """What a part says of itself, from its name and footer. `content` may be the end of it that holds the footer.

    Raises:
        StoreError: it is torn, is no part, is of another config, or does not hold what its name says; without the name.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    foreign = f"is not a part of {kind.words}"
    try:
        stamp = json.loads((metadata.metadata or {}).get(kind.key, b"{}"))
        if not isinstance(stamp, dict) or stamp.get("format") not in range(1, kind.format + 1):
            raise StoreError(foreign)
        first, count, of = operator.index(stamp["first"]), operator.index(stamp["count"]), stamp["fingerprint"]
        stamp |= {field: read(stamp[field]) for field, read in kind.stamped.items()}
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        # Parts of text runs have a stamp of the same name as parts of members, with other fields.
        raise StoreError(foreign if kind is MEMBERS else f"is torn ({one_line(error)})") from None
    if of != fingerprint(config):
        raise StoreError("is of another config")
    # The footer has the checksum of all, so that this tells any two parts apart.
    stamp["footer"] = footer_digest(content)
    rows = count * len(stamp.get("steps", [0]))
    if name.rpartition("/")[2] != part_name(first, count) or metadata.num_rows != rows:
        raise StoreError("does not hold what its name says")
    return stamp


def footer_digest(content: bytes) -> str:
    """What tells a part from any other, from the end of it that holds its footer: hexadecimal digits."""
    return hashlib.sha256(content[-int.from_bytes(content[-8:-4], "little") - 8 :]).hexdigest()


def from_bytes(kind: PartKind[Kept], content: bytes, name: str, config: EnsembleConfig) -> tuple[Kept, bool]:
    """What a part holds, checked, and whether it has a checksum, which parts of old versions do not have.

    Args:
        kind: what it is to be.
        content: the whole file.
        name: its name, which says what members it holds.
        config: that it is to be of.

    Raises:
        StoreError: as `stamp_of`, or a bit of it has changed, or its counts do not add up.
    """
    whole = is_whole(content)
    if whole is False:
        raise StoreError("is torn (its checksum is not that of its content)")
    stamp = stamp_of(kind, content, name, config)
    if whole is None and stamp["format"] != 1:
        raise StoreError("is torn (its checksum is gone)")
    try:
        reader = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        return kind.from_table(reader.read(use_threads=False), stamp, config), whole is True
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None


def losses_and_tables(content: bytes, config: EnsembleConfig) -> LossesAndTables:
    """Of a part of members, which is whole, what laws of protocols ask for: a third of its columns.

    Raises:
        StoreError: it does not have them.
    """
    try:
        reader = pq.ParquetFile(pa.BufferReader(content))
        names = ["counts", "diverged", "loss"]
        table = reader.read(columns=names, use_threads=False)
        counts, diverged, loss = (numbers_of(table[name].combine_chunks().flatten()) for name in names)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    base = config.tasks.rows + 1
    counts = counts.reshape(-1, 4, 4)
    code = np.empty((4, len(counts)), np.int32)
    for context in range(4):
        bob, alice, both = (counts[:, context, cell].astype(np.int32) for cell in (1, 2, 3))
        code[context] = (bob * base + alice) * base + both
    return LossesAndTables(
        code, np.ascontiguousarray(diverged.reshape(-1, 4).T), np.ascontiguousarray(loss.reshape(-1, 4).T)
    )


def _members(table: pa.Table, stamp: Stamp, config: EnsembleConfig) -> MemberRecords:
    records = from_table(table.cast(schema(config)))
    if not _are_stamped(records.member, stamp):
        raise StoreError("has members that are not those of its name")
    if np.any(records.counts.sum(axis=2) != np.where(records.diverged, 0, config.tasks.rows)):
        raise StoreError("has counts that do not add up")
    trained = records.training_counts
    if trained is not None:
        expected = np.where(records.diverged, 0, config.training_rows)
        if np.any(trained.sum(axis=2) != expected) or np.any(trained > records.counts):
            raise StoreError("has training counts that do not add up")
    return records


def _trajectories(table: pa.Table, stamp: Stamp, config: EnsembleConfig) -> MemberTrajectories:
    trajectories = trajectories_from_table(table, stamp["steps"], stamp["observed"])
    totals = trajectories.counts.sum(axis=-1)
    if not _are_stamped(trajectories.member, stamp) or np.any((totals != 0) & (totals != config.tasks.rows)):
        raise StoreError("does not hold what its name says")
    return trajectories


def _are_stamped(members: np.ndarray, stamp: Stamp) -> bool:
    return np.array_equal(members, np.arange(stamp["first"], stamp["first"] + stamp["count"], dtype=np.uint64))


#: Format 1 had no checksum.
MEMBERS = PartKind(
    "parts", "an ncsim run", b"ncsim", 2, {"compression": "zstd"}, {}, to_table=to_table, from_table=_members
)
#: Format 1 had no checksum, and 1 and 2 had lists for columns.
#: A recording has many numbers, and is written while the devices train: neither repetitions are looked for in what was
#: observed nor smallest and largest values, and snappy takes half the time of zstd for a seventh more bytes.
TRAJECTORIES = PartKind(
    "trajectories",
    "ncsim trajectories",
    b"ncsim-trajectories",
    3,
    {"compression": "snappy", "use_dictionary": ["member", "step"], "write_statistics": ["member", "step"]},
    {
        "recording": Recording.stored,
        "steps": lambda steps: np.asarray(steps, np.int32),
        "observed": lambda names: tuple(map(str, names)),
    },
    to_table=trajectories_to_table,
    from_table=_trajectories,
)


# ------------------------------------------------------------------------------------------ which members are in a part

#: Work in one part of a run folder, in network-steps at three hidden units: some seconds of training, which is what a
#: kill can cost. Derived from the config alone, so that the same run is always cut into the same parts.
PART_WORK = 2.0e8
PART_MEMBERS = (512, 262_144)
#: Members times recorded steps in one part of trajectories: about 20 MB in memory. Twice as many take a tenth longer to write.
PART_ROWS = 2**17


def part_name(first: int, count: int) -> str:
    """File name of a part; ids are padded so that names sort."""
    return f"members-{first:010d}-{count}.parquet"


def part_size(config: EnsembleConfig) -> int:
    """Members per part: a power of two, from the work per member of the config alone."""
    work = network_steps(config) * max(config.hidden / 3, 1)
    members = min(max(PART_WORK / work, PART_MEMBERS[0]), PART_MEMBERS[1])
    return 2 ** int(np.log2(members))


def trajectory_part_size(points: int) -> int:
    """Members per part of trajectories of so many recorded steps: a power of two."""
    return 2 ** int(np.log2(max(PART_ROWS / points, 1)))


def cut(members: range, size: int) -> Iterator[range]:
    """Cut ids at the multiples of a size, so that parts are the same whichever of them were there already."""
    first = members.start
    while first < members.stop:
        stop = min((first // size + 1) * size, members.stop)
        yield range(first, stop)
        first = stop


class Part(NamedTuple):
    """One whole part: members `first` to `first + members - 1` of a cell."""

    name: str  # relative to the run folder
    first: int
    members: int

    @property
    def ids(self) -> range:
        """The ids of its members."""
        return range(self.first, self.first + self.members)


def gaps(config: EnsembleConfig, parts: Iterable[Part]) -> list[range]:
    """The config's members that are in none of these parts, which are in ascending order, as ranges of ids."""
    found, cursor, end = [], config.first_member, config.first_member + config.members
    for part in parts:
        found.append(range(cursor, min(part.first, end)))
        cursor = max(cursor, part.ids.stop)
    return [gap for gap in [*found, range(cursor, end)] if gap]
