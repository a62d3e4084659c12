"""What laws of protocols ask of a part of members, in at most a third of its columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import StoreError, one_line
from ncsim.statistics.outcomes import LossesAndTables
from ncsim.storage.arrow_tables import flat_names
from ncsim.storage.buffers import numbers_of


def losses_and_tables(
    content: bytes, config: EnsembleConfig, contexts: Sequence[int], found: LossesAndTables | None = None
) -> LossesAndTables:
    """Of a part of members, which is whole, what laws of protocols ask for of some contexts.

    Args:
        content: the whole file.
        config: that it is of.
        contexts: their numbers.
        found: where to put it, if there is a place of its size.

    Raises:
        StoreError: it does not have them.
    """
    try:
        reader = pq.ParquetFile(pa.BufferReader(content))
        lists = "counts" in reader.schema_arrow.names
        diverged, loss = (_by_column(reader, name, lists, contexts) for name in ("diverged", "loss"))
        counts = _by_column(reader, "counts", lists, [4 * context + cell for context in contexts for cell in (1, 2, 3)])
        found = LossesAndTables.empty(len(contexts), len(loss[0])) if found is None else found
        for columns, places in ((diverged, found.diverged), (loss, found.loss)):
            for own, column in zip(places, columns, strict=True):
                own[:] = column
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(f"is torn ({one_line(error)})") from None
    base = np.int32(config.tasks.rows + 1)
    for place, own in enumerate(found.code):
        bob, alice, both = counts[3 * place : 3 * place + 3]
        np.multiply(bob, base, out=own, dtype=np.int32)
        own += alice
        own *= base
        own += both
    return found


def _by_column(reader: pq.ParquetFile, name: str, lists: bool, wanted: Sequence[int]) -> list[np.ndarray]:
    """The numbers of a column of members, one array for each that is wanted of its contexts and cells; `lists`: as parts had
    them before they were flat."""
    if not lists:
        names = [flat_names(name)[each] for each in wanted]
        table = reader.read(columns=names, use_threads=False)
        return [numbers_of(_in_one(table[each])) for each in names]
    table = reader.read(columns=[name], use_threads=False)
    flat = numbers_of(_in_one(table[name]).flatten()).reshape(-1, table.schema.field(name).type.list_size)
    return [flat[:, each] for each in wanted]


def _in_one(column: pa.ChunkedArray) -> pa.Array:
    # Of one chunk, as columns of parts have, `combine_chunks` makes a copy (findings/pyarrow_combine_chunks_of_one_chunk.sh).
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
