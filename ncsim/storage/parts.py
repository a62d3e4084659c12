"""One part of a run: member records as a sealed Parquet file, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig, network_steps
from ncsim.errors import StoreError, one_line
from ncsim.records.members import MemberRecords
from ncsim.storage.arrow_tables import from_table, schema, to_table
from ncsim.storage.checksums import UNSEALED, is_whole, sealed

#: Format of a part: 1 had no checksum of the whole file, and is still read.
PART_FORMAT = 2
#: As much of a part's end as holds its footer.
FOOTER_BYTES = 1 << 16
_STAMP, _CHECKSUM = b"ncsim", b"ncsim-checksum"


def part_name(first: int, count: int) -> str:
    """File name of a part; ids are padded so that names sort."""
    return f"members-{first:010d}-{count}.parquet"


def to_bytes(records: MemberRecords, fingerprint: str) -> bytes:
    """Records with consecutive ids as the file of one part. The same records give the same bytes with one version of
    pyarrow, so that a part that two workers write is one part."""
    stamp = {"format": PART_FORMAT, "fingerprint": fingerprint, "first": int(records.member[0]), "count": records.size}
    sink = pa.BufferOutputStream()
    table = to_table(records)
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_STAMP: json.dumps(stamp), _CHECKSUM: UNSEALED})
    return sealed(sink.getvalue().to_pybytes())


def stamp_of(content: bytes, name: str, fingerprint: str) -> tuple[int, int]:
    """First member and number of members of a part, from its name and footer. `content` may be its last FOOTER_BYTES.

    Raises:
        StoreError: it is torn, is no part, is of another config, or does not hold what its name says; without the name.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    stamp = _stamp(metadata.metadata)
    if stamp is None:
        raise StoreError("is not a part of an ncsim run")
    if stamp["fingerprint"] != fingerprint:
        raise StoreError("is of another config")
    first, count = stamp["first"], stamp["count"]
    if name.rpartition("/")[2] != part_name(first, count) or metadata.num_rows != count:
        raise StoreError("does not hold what its name says")
    return first, count


def from_bytes(content: bytes, name: str, fingerprint: str, config: EnsembleConfig) -> tuple[MemberRecords, bool]:
    """The records of a part, checked, and whether it has a checksum, which parts of old versions do not have.

    Args:
        content: the whole file.
        name: its name, which says what members it holds.
        fingerprint: of this config.
        config: that it is to be of.

    Raises:
        StoreError: as `stamp_of`, or a bit of it has changed, or its counts do not add up.
    """
    whole = is_whole(content)
    if whole is False:
        raise StoreError("is torn (its checksum is not that of its content)")
    first, count = stamp_of(content, name, fingerprint)
    try:
        reader = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if whole is None and (_stamp(reader.metadata.metadata) or {}).get("format") != 1:
            raise StoreError("is torn (its checksum is gone)")
        records = from_table(reader.read(use_threads=False).cast(schema(config)))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    if not np.array_equal(records.member, np.arange(first, first + count, dtype=np.uint64)):
        raise StoreError("has members that are not those of its name")
    if np.any(records.counts.sum(axis=2) != np.where(records.diverged, 0, config.tasks.rows)):
        raise StoreError("has counts that do not add up")
    trained = records.training_counts
    if trained is not None:
        expected = np.where(records.diverged, 0, config.training_rows)
        if np.any(trained.sum(axis=2) != expected) or np.any(trained > records.counts):
            raise StoreError("has training counts that do not add up")
    return records, whole is True


def _stamp(metadata: dict[bytes, bytes] | None) -> dict[str, Any] | None:
    try:
        stamp = json.loads((metadata or {})[_STAMP])
        whole = stamp["format"] in (1, PART_FORMAT) and isinstance(stamp["fingerprint"], str)
        return stamp if whole and type(stamp["first"]) is int and type(stamp["count"]) is int else None
    except (KeyError, ValueError, TypeError):
        return None


#: Work in one part of a run folder, in network-steps at three hidden units: some seconds of training, which is what a
#: kill can cost. Derived from the config alone, so that the same run is always cut into the same parts.
PART_WORK = 2.0e8
PART_MEMBERS = (512, 262_144)


def part_size(config: EnsembleConfig) -> int:
    """Members a part: a power of two, from the config's work a member alone."""
    work = network_steps(config) * max(config.hidden / 3, 1)
    members = min(max(PART_WORK / work, PART_MEMBERS[0]), PART_MEMBERS[1])
    return 2 ** int(np.log2(members))


def part_ranges(config: EnsembleConfig, members: range) -> Iterator[range]:
    """Cut ids at the multiples of the part size, so that parts are the same whichever of them were there already."""
    size = part_size(config)
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


def gaps(config: EnsembleConfig, held: Iterable[range]) -> list[range]:
    """The config's members that are in none of these ranges, which are in ascending order, as ranges of ids."""
    found, cursor, end = [], config.first_member, config.first_member + config.members
    for ids in held:
        if ids.start > cursor:
            found.append(range(cursor, min(ids.start, end)))
        cursor = max(cursor, ids.stop)
    if cursor < end:
        found.append(range(cursor, end))
    return [gap for gap in found if len(gap)]
