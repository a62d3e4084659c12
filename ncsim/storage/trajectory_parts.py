"""Trajectories of members as a sealed Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.errors import ConfigError, StoreError, one_line
from ncsim.records.trajectories import MemberTrajectories
from ncsim.storage.arrow_tables import trajectories_from_lists, trajectories_from_table, trajectories_to_table
from ncsim.storage.checksums import UNSEALED, is_whole, sealed
from ncsim.storage.parts import part_name

#: Format of a part. Still read are 1, without a checksum, and 2, with lists for columns.
FORMAT = 3
#: Members times recorded steps in one part: about 20 MB in memory. Twice as many take a tenth longer to write.
PART_ROWS = 2**17
_STAMP, _CHECKSUM = b"ncsim-trajectories", b"ncsim-checksum"


def part_members(points: int) -> int:
    """Members in one part of trajectories of so many recorded steps: a power of two."""
    return 2 ** int(np.log2(max(PART_ROWS / points, 1)))


def part_pieces(members: range, points: int) -> Iterator[range]:
    """Consecutive ids, cut where parts of trajectories of so many recorded steps are."""
    size, first = part_members(points), members.start
    while first < members.stop:
        stop = min((first // size + 1) * size, members.stop)
        yield range(first, stop)
        first = stop


def to_bytes(trajectories: MemberTrajectories, recording: Recording, fingerprint: str) -> bytes:
    """Trajectories of members with consecutive ids as the file of one part; the same ones give the same bytes."""
    stamp = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "first": int(trajectories.member[0]),
        "count": trajectories.member.size,
        "recording": recording.to_dict(),
        "steps": trajectories.step.tolist(),
        "observed": list(trajectories.values),
    }
    table, sink = trajectories_to_table(trajectories), pa.BufferOutputStream()
    # A recording has many numbers, and is written while the devices train: neither repetitions are looked for in what was
    # observed nor smallest and largest values, and snappy takes half the time of zstd for a seventh more bytes.
    keys = ["member", "step"]
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="snappy",
        write_page_checksum=True,
        use_dictionary=keys,
        write_statistics=keys,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_STAMP: json.dumps(stamp), _CHECKSUM: UNSEALED})
    return sealed(sink.getvalue().to_pybytes())


def from_bytes(content: bytes, name: str, fingerprint: str, config: EnsembleConfig) -> tuple[MemberTrajectories, bool]:
    """The trajectories of a part, checked, and whether it has a checksum, which parts of old versions do not have.

    Args:
        content: the whole file.
        name: its name, which says what members it holds.
        fingerprint: of this config.
        config: that it is to be of.

    Raises:
        StoreError: as `stamp_of`, or a bit of it has changed, or it does not hold what its name says.
    """
    whole = is_whole(content)
    if whole is False:
        raise StoreError("is torn (its checksum is not that of its content)")
    stamp = stamp_of(content, name, fingerprint)
    if whole is None and stamp["format"] != 1:
        raise StoreError("is torn (its checksum is gone)")
    try:
        reader = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = reader.read(use_threads=False)
        trajectories = (
            trajectories_from_table(table, stamp)
            if stamp["format"] == FORMAT
            else trajectories_from_lists(table, stamp)
        )
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    ids = np.arange(stamp["first"], stamp["first"] + stamp["count"], dtype=np.uint64)
    totals = trajectories.counts.sum(axis=-1)
    if not np.array_equal(trajectories.member, ids) or np.any((totals != 0) & (totals != config.tasks.rows)):
        raise StoreError("does not hold what its name says")
    return trajectories, whole is True


def stamp_of(content: bytes, name: str, fingerprint: str) -> dict[str, Any]:
    """What a part says of itself, from its name and footer. `content` may be the end of it that holds the footer.

    Raises:
        StoreError: it is torn, is no part, is of another config, or does not hold what its name says; without the name.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        stamp = json.loads((metadata.metadata or {}).get(_STAMP, b"{}"))
        if not isinstance(stamp, dict) or stamp.get("format") not in (1, 2, FORMAT):
            raise StoreError("is not a part of ncsim trajectories")
        if stamp["fingerprint"] != fingerprint:
            raise StoreError("is of another config")
        whole = part_name(stamp["first"], stamp["count"]) == name.rpartition("/")[2]
        if not whole or metadata.num_rows != stamp["count"] * len(stamp["steps"]):
            raise StoreError("does not hold what its name says")
        Recording.stored(stamp["recording"])
        stamp["observed"] = [str(each) for each in stamp["observed"]]
        return stamp
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
