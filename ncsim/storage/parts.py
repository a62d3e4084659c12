"""One part of a run as a sealed Parquet file, and back again: records of members, or their trajectories.

A part's footer holds its stamp: its format, its config's fingerprint, its first member, and how many there are. The stamp
of trajectories also says at which steps what was recorded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig, fingerprint, network_steps
from ncsim.config.recording import Recording
from ncsim.errors import StoreError, one_line
from ncsim.records.members import MemberRecords
from ncsim.records.scenarios import ScenarioRecords
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.member_statistics import MEMBER_STATISTICS
from ncsim.storage.arrow_tables import (
    WITHOUT_PAGES_CHECKSUMS,
    check_filled,
    dictionary_options,
    flat_options,
    from_flat_table,
    from_table,
    schema,
    to_flat_table,
    to_table,
    trajectories_from_table,
    trajectories_to_flat_table,
    trajectories_to_table,
)
from ncsim.storage.buffers import bytes_of
from ncsim.storage.checksums import TORN, UNSEALED, is_whole, seal
from ncsim.storage.config_file import FLAT, FORMAT

_CHECKSUM = b"ncsim-checksum"

Kept = TypeVar("Kept", MemberRecords, MemberTrajectories, ScenarioRecords)
Stamp = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout(Generic[Kept]):
    """How parts are written.

    Attributes:
        format: what their stamps say. All from 1 on are read; only 1 had no checksum of the whole file.
        to_table: gives the columns of what is kept, in a cell of these swept fields.
        options: of the Parquet writer, for these columns.
        required: whether columns say that no value of theirs is missing, but for statistics, which diverged members do not have.
            To look whether one is takes the writer up to a quarter of its time.
    """

    format: int
    to_table: Callable[[Kept, EnsembleConfig, Sequence[str]], pa.Table]
    options: Callable[[pa.Schema], Mapping[str, Any]]
    required: bool = False

    def table(self, kept: Kept, config: EnsembleConfig, swept: Sequence[str]) -> pa.Table:
        """The columns as they are written."""
        table = self.to_table(kept, config, swept)
        if not self.required:
            return table
        fields = [field.with_nullable(field.name in MEMBER_STATISTICS) for field in table.schema]
        return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))


@dataclasses.dataclass(frozen=True)
class PartKind(Generic[Kept]):
    """What parts of one kind have of their own.

    Attributes:
        folder: the folder of all of them.
        words: what they are parts of.
        key: the name of the stamp in the footer.
        stamped: what its stamp says besides what every stamp says, with what reads each.
        layouts: how a part is written, by the format of its folder: that of the folder's, or the last before it.
        from_table: the inverse, of a table, its stamp and its config. It raises StoreError where the numbers cannot be.
    """

    folder: str
    words: str
    key: bytes
    stamped: Mapping[str, Callable[[Any], Any]]
    layouts: Mapping[int, Layout[Kept]]
    from_table: Callable[[pa.Table, Stamp, EnsembleConfig], Kept]

    def layout(self, form: int = FORMAT) -> Layout[Kept]:
        """How a part of a folder of this format is written; of a new folder, if not said."""
        return self.layouts[max(first for first in self.layouts if first <= form)]


def to_bytes(
    layout: Layout[Kept], key: bytes, kept: Kept, config: EnsembleConfig, swept: Sequence[str], **stamp: Any
) -> memoryview:
    """What is kept of members with consecutive ids as the file of one part. The same gives the same bytes with one version
    of pyarrow, so that a part that two workers write is one part.

    Args:
        layout: how it is written.
        key: of the stamp, as the kind of part has it.
        kept: of members with consecutive ids.
        config: the cell.
        swept: the fields in which the cells of its run differ.
        stamp: what this kind of part says of itself besides.
    """
    ids = {"first": int(kept.member[0]), "count": len(kept.member)}
    stamp = {"format": layout.format, "fingerprint": fingerprint(config), **ids, **stamp}
    table, sink = layout.table(kept, config, swept), pa.BufferOutputStream()
    options = {"write_page_checksum": True, **layout.options(table.schema)}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({key: json.dumps(stamp), _CHECKSUM: UNSEALED})
    content = bytes_of(sink)
    seal(content)
    return content


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
        if not isinstance(stamp, dict) or stamp.get("format") not in range(1, kind.layout().format + 1):
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


def footer_digest(content: bytes | memoryview) -> str:
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
        raise StoreError(TORN)
    stamp = stamp_of(kind, content, name, config)
    if whole is None and stamp["format"] != 1:
        raise StoreError("is torn (its checksum is gone)")
    try:
        reader = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = reader.read(use_threads=False)
        check_filled(table)
        return kind.from_table(table, stamp, config), whole is True
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None


def _members(table: pa.Table, stamp: Stamp, config: EnsembleConfig) -> MemberRecords:
    flat = stamp["format"] >= MEMBERS.layout(FLAT).format
    records = from_flat_table(table, config) if flat else from_table(table.cast(schema(config)))
    if not are_stamped(records.member, stamp):
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
    trajectories = trajectories_from_table(table, stamp["steps"], stamp["observed"], config)
    totals = trajectories.counts.sum(axis=-1)
    if not are_stamped(trajectories.member, stamp) or np.any((totals != 0) & (totals != config.tasks.rows)):
        raise StoreError("does not hold what its name says")
    return trajectories


def are_stamped(members: np.ndarray, stamp: Stamp) -> bool:
    """Whether members are those that a stamp says."""
    return np.array_equal(members, np.arange(stamp["first"], stamp["first"] + stamp["count"], dtype=np.uint64))


def _with_lists(records: MemberRecords, *_: Any) -> pa.Table:
    return to_table(records)


def _unsigned(trajectories: MemberTrajectories, *_: Any) -> pa.Table:
    return trajectories_to_table(trajectories)


#: Format 1 had no checksum, 1 and 2 have lists for columns, and 3 has dictionaries of whole numbers.
MEMBERS = PartKind(
    "parts",
    "an ncsim run",
    b"ncsim",
    {},
    {
        1: Layout(2, _with_lists, lambda _: {"compression": "zstd"}),
        FLAT: Layout(3, to_flat_table, dictionary_options),
        4: Layout(4, to_flat_table, flat_options, required=True),
    },
    from_table=_members,
)


#: The columns of what is observed that do not repeat, by their beginning.
_AS_GOOD_AS_RANDOM = ("loss_", "margin_", "alice_norm_", "bob_norm_", "cosine_")


def _trajectory_options(schema: pa.Schema) -> dict[str, Any]:
    repeated = schema.names[: schema.names.index("step") + 1]
    return {"compression": "snappy", "use_dictionary": repeated, "write_statistics": ["member", "step"]}


def _flat_trajectory_options(schema: pa.Schema) -> dict[str, Any]:
    return _trajectory_options(schema) | {"store_schema": False}


def _newest_trajectory_options(schema: pa.Schema) -> dict[str, Any]:
    """Numbers as good as random are not compressed, which takes a quarter of the writer's time for a fiftieth of the bytes; and all
    rows are written at once."""
    random = [name for name in schema.names if name.startswith(_AS_GOOD_AS_RANDOM)]
    codecs = dict.fromkeys(schema.names, "snappy") | dict.fromkeys(random, "none")
    options = _flat_trajectory_options(schema) | {"compression": codecs, "write_batch_size": PART_ROWS}
    return options | WITHOUT_PAGES_CHECKSUMS


#: Format 1 had no checksum, 1 and 2 had lists for columns, 3 has unsigned numbers and no swept fields, and 4 does not say that no
#: number is missing.
#: A recording has many numbers, and is written while the devices train: neither repetitions are looked for in what was
#: observed nor smallest and largest values, and snappy takes half the time of zstd for a seventh more bytes.
TRAJECTORIES = PartKind(
    "trajectories",
    "ncsim trajectories",
    b"ncsim-trajectories",
    {
        "recording": Recording.stored,
        "steps": lambda steps: np.asarray(steps, np.int32),
        "observed": lambda names: tuple(map(str, names)),
    },
    {
        1: Layout(3, _unsigned, _trajectory_options),
        FLAT: Layout(4, trajectories_to_flat_table, _flat_trajectory_options),
        4: Layout(5, trajectories_to_flat_table, _newest_trajectory_options, required=True),
    },
    from_table=_trajectories,
)


# ------------------------------------------------------------------------------------------ which members are in a part

#: Work in one part of a run folder, in network-steps at three hidden units: some seconds of training, which is what a
#: kill can cost. Derived from the config alone, so that the same run is always cut into the same parts.
PART_WORK = 2.0e8
PART_MEMBERS = (512, 262_144)
#: Members times recorded steps in one part of trajectories: about 20 MB in memory. Twice as many take a tenth longer to write.
PART_ROWS = 2**17
_NAME = re.compile(r"members-(\d{10})-(\d{1,10})\.parquet")


def part_name(first: int, count: int) -> str:
    """File name of a part; ids are padded so that names sort."""
    return f"members-{first:010d}-{count}.parquet"


def ids_of(name: str) -> range:
    """The members that a part has by its name; none where it is called otherwise."""
    there = _NAME.fullmatch(name.rpartition("/")[2])
    if there is None:
        return range(0)
    first, count = map(int, there.groups())
    return range(first, first + count)


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
    return gaps_between(config.member_ids, parts)


def gaps_between(ids: range, parts: Iterable[Part]) -> list[range]:
    """The same of any consecutive ids."""
    found, cursor = [], ids.start
    for part in parts:
        found.append(range(cursor, min(part.first, ids.stop)))
        cursor = max(cursor, part.ids.stop)
    return [gap for gap in [*found, range(cursor, ids.stop)] if gap]
