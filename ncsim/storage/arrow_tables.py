"""The columns of a part as Arrow tables, and back: of members, and of their trajectories.

A new part is flat: a column is one signed number per row, the swept fields of its cell are columns, and members have their
statistics beside their counts, so that a query of any reader needs no folder name and no list. Parts of folders that were
begun before have lists (SCHEMA) and, in trajectories, unsigned numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig, field_specs
from ncsim.errors import StoreError
from ncsim.records.members import COLUMNS, OPTIONAL, Column, MemberRecords
from ncsim.records.trajectories import COUNTS, MemberTrajectories, by_column, by_member, of_contexts
from ncsim.statistics.member_statistics import MEMBER_STATISTICS, PIECE, member_statistics


def _arrow_type(column: Column) -> pa.DataType:
    kind = pa.from_numpy_dtype(column.stored)
    return pa.list_(kind, math.prod(column.shape)) if column.shape else kind


#: The columns of a part with lists. `counts` is in (i, j, a, b) order, the others in the order of the contexts.
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


def signed(table: pa.Table) -> pa.Table:
    """A table as users are given it: whole numbers are signed, and so wide that differences and sums of a few of them fit. On disk counts
    are in 16 bits without a sign, where 1 - 2 is 65535."""
    return table.cast(pa.schema([field.with_type(_signed(field.type)) for field in table.schema]))


def _signed(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_signed(kind.value_type), kind.list_size)
    if pa.types.is_unsigned_integer(kind):
        return pa.int32() if kind.bit_width < 32 else pa.int64()
    return pa.int32() if pa.types.is_int16(kind) else kind


def from_table(table: pa.Table) -> MemberRecords:
    """The inverse of `to_table`."""
    there = {name: column for name, column in COLUMNS.items() if name not in OPTIONAL or name in table.column_names}
    return MemberRecords(**{name: _from_array(table[name].combine_chunks(), column) for name, column in there.items()})


def _from_array(values: pa.Array, column: Column) -> np.ndarray:
    flat = values.flatten() if column.shape else values
    return flat.to_numpy(zero_copy_only=False).astype(column.dtype).reshape(-1, *column.shape)


# -------------------------------------------------------------------------------------------------------- flat parts

#: Types of flat columns: signed, and wide enough that a reader's own sums, differences and products of counts fit.
_FLAT: dict[Any, pa.DataType] = {np.uint64: pa.int64(), np.uint16: pa.int32(), np.int16: pa.int32()}


def flat_names(name: str) -> list[str]:
    """The flat columns of a column of COLUMNS: member; loss_11 and so on; counts_11_00 and so on."""
    shape = COLUMNS[name].shape
    if not shape:
        return [name]
    return (
        of_contexts(name)
        if len(shape) == 1
        else [f"{each}_{a}{b}" for each in of_contexts(name) for a in (0, 1) for b in (0, 1)]
    )


def axis_columns(config: EnsembleConfig, swept: Sequence[str], rows: int) -> dict[str, pa.Array]:
    """The cell's values of the swept fields, each in its own type, on every row."""
    return {name: pa.repeat(_scalar(getattr(config, name)), rows) for name in swept}


def _scalar(value: Any) -> pa.Scalar:
    """A value in its own type; a seed that is too large for a signed number in an unsigned one."""
    return pa.scalar(value, pa.uint64()) if isinstance(value, int) and value >= 2**63 else pa.scalar(value)


def to_flat_table(records: MemberRecords, config: EnsembleConfig, swept: Sequence[str]) -> pa.Table:
    """Records of a cell as flat columns: the swept fields, member, statistics (null where a network diverged), and all else."""
    columns = axis_columns(config, swept, records.size) | {"member": pa.array(records.member.astype(np.int64))}
    statistics = member_statistics(records.counts, config.tasks.rows)
    columns |= {name: pa.array(values, mask=np.isnan(values)) for name, values in statistics.items()}
    for name, column in COLUMNS.items():
        values = getattr(records, name)
        if column.shape and values is not None:
            kind = _FLAT.get(column.stored, pa.from_numpy_dtype(column.stored))
            by_column = _transposed(values.reshape(-1, math.prod(column.shape)))
            columns |= {each: pa.array(flat, kind) for each, flat in zip(flat_names(name), by_column, strict=True)}
    return pa.table(columns)


def _transposed(values: np.ndarray) -> np.ndarray:
    """Numbers [M, N] as N columns, each contiguous; in pieces that stay in the cache, twice as fast."""
    found = np.empty(values.shape[::-1], values.dtype)
    for first in range(0, len(values), PIECE):
        found[:, first : first + PIECE] = values[first : first + PIECE].T
    return found


def from_flat_table(table: pa.Table, config: EnsembleConfig) -> MemberRecords:
    """The inverse of `to_flat_table`.

    Raises:
        StoreError: its statistics are not those of its counts, or its swept fields not those of the config.
        KeyError: a column is missing.
    """
    arrays: dict[str, Any] = {}
    for name, column in COLUMNS.items():
        if name in OPTIONAL and not config.training_rows:
            continue
        flat = [table[each].to_numpy() for each in flat_names(name)]
        arrays[name] = np.stack(flat, axis=-1).astype(column.dtype).reshape(-1, *column.shape)
    records = MemberRecords(**arrays)
    for name, values in member_statistics(records.counts, config.tasks.rows).items():
        if not np.array_equal(table[name].to_numpy(), values, equal_nan=True):
            raise StoreError("has statistics that are not those of its counts")
    check_axes(table, config)
    return records


def check_filled(table: pa.Table) -> None:
    """Raise StoreError where a cell is empty that has a value in every part: comparisons leave it out, and as a number it is NaN or 0.
    Statistics alone may be, of a member that diverged."""
    for name in table.column_names:
        for chunk in () if name in MEMBER_STATISTICS else table[name].chunks:
            values = chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk
            if chunk.null_count or values.null_count:
                raise StoreError(f"has no {name} in some row")


def check_axes(table: pa.Table, config: EnsembleConfig) -> None:
    """Raise StoreError where a column of a swept field has another value than the config."""
    swept = set(table.column_names) & set(field_specs())
    if not swept:
        return
    import pyarrow.compute as pc  # a fiftieth of a second, which most reports do without

    for name in swept:
        if not pc.all(pc.equal(table[name], _scalar(getattr(config, name)))).as_py():
            raise StoreError(f"has another {name} than its config")


#: Of a part that is sealed, each page's own checksum says nothing that the seal does not, and takes a fifth of the writer's time.
WITHOUT_PAGES_CHECKSUMS = {"write_page_checksum": False}
#: The columns of numbers that training gives, by their beginning.
_OF_TRAINING = ("loss_", "margin_")


def flat_options(schema: pa.Schema) -> dict[str, Any]:
    """Of the Parquet writer, for parts of members: numbers of training are as good as random but for their upper bytes, ids
    count up, counts are small whole numbers, and all else repeats. As dictionaries, counts would be a tenth of a part smaller and
    take twice as long to write; compressed by zstd, what is packed already would be a twentieth smaller and take a fifth longer."""
    options = _options(schema, [field.name for field in schema if pa.types.is_int32(field.type)])
    codecs = {name: "zstd" if name.startswith(_OF_TRAINING) else "snappy" for name in schema.names}
    return options | {"compression": codecs} | WITHOUT_PAGES_CHECKSUMS


def bounded(columns: pa.Schema) -> list[str]:
    """The columns of which a Parquet file may say the smallest and the largest: those of numbers leave NaN out, and DuckDB and pyarrow
    then find none of what diverged (findings/parquet_nan_behind_statistics.sh)."""
    return [field.name for field in columns if not pa.types.is_floating(field.type)]


def dictionary_options(schema: pa.Schema) -> dict[str, Any]:
    """The same as folders that were begun before have it: counts as dictionaries."""
    return _options(schema, [])


def _options(schema: pa.Schema, packed: list[str]) -> dict[str, Any]:
    """Options, with these columns in as few bits as their differences take. Of a few columns only it is worth to say the
    smallest and largest value."""
    split = [name for name in schema.names if name.startswith(_OF_TRAINING)]
    packed = [*packed, "member"]
    others = [name for name in schema.names if name not in (*split, *packed)]
    encoding = dict.fromkeys(split, "BYTE_STREAM_SPLIT") | dict.fromkeys(packed, "DELTA_BINARY_PACKED")
    known = [name for name in schema.names if name == "member" or name in MEMBER_STATISTICS]
    return {
        **{"compression": "zstd", "use_dictionary": others, "column_encoding": encoding, "write_statistics": known},
        "store_schema": False,  # Arrow's own copy of the types, of half the footer, says nothing that Parquet does not
    }


# ------------------------------------------------------------------------------------------------------ trajectories


def trajectories_to_table(trajectories: MemberTrajectories) -> pa.Table:
    """As folders that were begun before have them: unsigned, without the swept fields."""
    return _trajectories_to_table(trajectories, {}, (pa.uint64(), pa.uint32(), pa.uint16()))


def trajectories_to_flat_table(
    trajectories: MemberTrajectories, config: EnsembleConfig, swept: Sequence[str]
) -> pa.Table:
    """A row for every member and step, with the swept fields."""
    axes = axis_columns(config, swept, trajectories.counts.shape[0] * trajectories.counts.shape[1])
    return _trajectories_to_table(trajectories, axes, (pa.int64(), pa.int32(), pa.int32()))


def _trajectories_to_table(
    trajectories: MemberTrajectories, axes: dict[str, pa.Array], kinds: tuple[pa.DataType, ...]
) -> pa.Table:
    """A row for every member and step, a column for every number. Lists would be fewer columns, and take three times as
    long to write."""
    members, points = trajectories.counts.shape[:2]
    of_member, of_step, of_counts = kinds
    columns = axes | {
        "member": pa.array(np.repeat(trajectories.member, points), pa.uint64()).cast(of_member),
        "step": pa.array(np.tile(trajectories.step, members)).cast(of_step),
    }
    numbers = [(COUNTS, trajectories.counts, of_counts)]
    numbers += [(of_contexts(name), values, pa.float32()) for name, values in trajectories.values.items()]
    for names, values, kind in numbers:
        flat = by_column(values).reshape(len(names), members * points)
        columns |= {name: pa.array(column, kind) for name, column in zip(names, flat, strict=True)}
    return pa.table(columns)


def trajectories_from_table(
    table: pa.Table, steps: np.ndarray, observed: Sequence[str], config: EnsembleConfig
) -> MemberTrajectories:
    """The inverse of both ways to write them, of these steps and observed numbers. Formats 1 and 2 had one column of lists
    for all columns of a name."""
    lists = {field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)}

    def columns(name: str, names: Sequence[str], kind: type) -> np.ndarray:
        if name in lists:
            flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(-1, steps.size, len(names)).astype(kind, copy=False)
        found = np.empty((len(names), table.num_rows), kind)
        for column, each in zip(found, names, strict=True):
            column[...] = table[each].to_numpy()
        return by_member(found.reshape(len(names), -1, steps.size))

    if np.any(columns("step", ["step"], np.int64)[..., 0] != steps):
        raise ValueError("its steps are not those of its footer")
    check_axes(table, config)
    return MemberTrajectories(
        member=columns("member", ["member"], np.uint64)[:, 0, 0],
        step=steps,
        counts=columns("counts", COUNTS, np.uint16).reshape(-1, steps.size, 4, 4),
        values={name: columns(name, of_contexts(name), np.float32) for name in observed},
    )
