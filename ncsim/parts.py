"""One part of a run on disk: a Parquet file of member records, and how a file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.config import EnsembleConfig
from ncsim.records import MemberRecords

_LISTS = {
    "loss": pa.float32(),
    "margin": pa.float32(),
    "diverged": pa.bool_(),
    "undecided_alice": pa.uint16(),
    "undecided_bob": pa.uint16(),
    "decided_product": pa.int16(),
}
#: The columns of a part. `counts` is in (i, j, a, b) order, the others in the order of the contexts.
SCHEMA = pa.schema(
    [("member", pa.uint64()), ("counts", pa.list_(pa.uint16(), 16))]
    + [(name, pa.list_(kind, 4)) for name, kind in _LISTS.items()]
)
#: And of one whose members trained on some rows only: the counts on those, in the order of `counts`.
TRAINING_SCHEMA = SCHEMA.append(pa.field("training_counts", pa.list_(pa.uint16(), 16)))


def schema(config: EnsembleConfig) -> pa.Schema:
    """The columns of this config's parts."""
    return TRAINING_SCHEMA if config.training_rows else SCHEMA


def part_name(first: int, count: int) -> str:
    """File name of a part; ids are padded so that names sort."""
    return f"members-{first:010d}-{count}.parquet"


def to_table(records: MemberRecords) -> pa.Table:
    """Records as the columns of SCHEMA, or of TRAINING_SCHEMA."""

    def lists(values: np.ndarray, kind: pa.DataType, width: int) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
        return pa.FixedSizeListArray.from_arrays(flat, width)

    columns = [pa.array(records.member, pa.uint64()), lists(records.counts, pa.uint16(), 16)]
    columns += [lists(getattr(records, name), kind, 4) for name, kind in _LISTS.items()]
    if records.training_counts is None:
        return pa.Table.from_arrays(columns, schema=SCHEMA)
    columns.append(lists(records.training_counts, pa.uint16(), 16))
    return pa.Table.from_arrays(columns, schema=TRAINING_SCHEMA)


def from_table(table: pa.Table) -> MemberRecords:
    """The inverse of `to_table`."""

    def array(name: str, dtype: Any, *shape: int) -> np.ndarray:
        column = table[name].combine_chunks()
        flat = column.flatten() if shape else column
        return flat.to_numpy(zero_copy_only=False).astype(dtype).reshape(-1, *shape)

    return MemberRecords(
        member=array("member", np.uint64).reshape(-1),
        counts=array("counts", np.int32, 4, 4),
        loss=array("loss", np.float32, 4),
        margin=array("margin", np.float32, 4),
        diverged=array("diverged", bool, 4),
        undecided_alice=array("undecided_alice", np.int32, 4),
        undecided_bob=array("undecided_bob", np.int32, 4),
        decided_product=array("decided_product", np.int32, 4),
        training_counts=array("training_counts", np.int32, 4, 4) if "training_counts" in table.column_names else None,
    )


def write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    """A file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
