"""The columns of a part as Arrow tables, and back: of members, and of their trajectories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig
from ncsim.records.members import COLUMNS, OPTIONAL, Column, MemberRecords
from ncsim.records.trajectories import COUNTS, MemberTrajectories, of_contexts


def _arrow_type(column: Column) -> pa.DataType:
    kind = pa.from_numpy_dtype(column.stored)
    return pa.list_(kind, math.prod(column.shape)) if column.shape else kind


#: The columns of a part. `counts` is in (i, j, a, b) order, the others in the order of the contexts.
SCHEMA = pa.schema([(name, _arrow_type(column)) for name, column in COLUMNS.items() if name not in OPTIONAL])
#: And of one whose members trained on some rows only: the counts on those, in the order of `counts`.
TRAINING_SCHEMA = pa.schema([(name, _arrow_type(column)) for name, column in COLUMNS.items()])


def schema(config: EnsembleConfig) -> pa.Schema:
    """The columns of this config's parts."""
    return TRAINING_SCHEMA if config.training_rows else SCHEMA


def to_table(records: MemberRecords) -> pa.Table:
    """Records as the columns of SCHEMA, or of TRAINING_SCHEMA."""
    fields = SCHEMA if records.training_counts is None else TRAINING_SCHEMA
    return pa.Table.from_arrays(
        [_to_array(getattr(records, field.name), field.type) for field in fields], schema=fields
    )


def _to_array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values, kind)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def from_table(table: pa.Table) -> MemberRecords:
    """The inverse of `to_table`."""
    there = {name: column for name, column in COLUMNS.items() if name not in OPTIONAL or name in table.column_names}
    return MemberRecords(**{name: _from_array(table[name].combine_chunks(), column) for name, column in there.items()})


def _from_array(values: pa.Array, column: Column) -> np.ndarray:
    flat = values.flatten() if column.shape else values
    return flat.to_numpy(zero_copy_only=False).astype(column.dtype).reshape(-1, *column.shape)


def trajectories_to_table(trajectories: MemberTrajectories) -> pa.Table:
    """A row for every member and step, a column for every number. Lists would be fewer columns, and take three times as
    long to write."""
    members, points = trajectories.counts.shape[:2]
    columns = {
        "member": pa.array(np.repeat(trajectories.member, points), pa.uint64()),
        "step": pa.array(np.tile(trajectories.step.astype(np.uint32), members), pa.uint32()),
    }
    numbers = [(COUNTS, trajectories.counts, pa.uint16())]
    numbers += [(of_contexts(name), values, pa.float32()) for name, values in trajectories.values.items()]
    for names, values, kind in numbers:
        by_column = np.ascontiguousarray(values.reshape(members * points, len(names)).T)
        columns |= {name: pa.array(column, kind) for name, column in zip(names, by_column, strict=True)}
    return pa.table(columns)


def trajectories_from_table(table: pa.Table, steps: np.ndarray, observed: Sequence[str]) -> MemberTrajectories:
    """The inverse of `trajectories_to_table`, of these steps and observed numbers. Formats 1 and 2 had one column of lists
    for all columns of a name."""
    lists = {field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)}

    def columns(name: str, names: Sequence[str]) -> np.ndarray:
        if name in lists:
            flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        else:
            flat = np.stack([table[each].to_numpy() for each in names], axis=-1)
        return flat.reshape(-1, steps.size, len(names))

    if np.any(columns("step", ["step"])[..., 0] != steps):
        raise ValueError("its steps are not those of its footer")
    return MemberTrajectories(
        member=columns("member", ["member"])[:, 0, 0],
        step=steps,
        counts=columns("counts", COUNTS).astype(np.uint16, copy=False).reshape(-1, steps.size, 4, 4),
        values={name: columns(name, of_contexts(name)).astype(np.float32, copy=False) for name in observed},
    )
