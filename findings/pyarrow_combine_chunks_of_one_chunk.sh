#!/usr/bin/env bash
# pyarrow: a column of one chunk is copied by its own combine_chunks, and is not by its table's.
#
# `ParquetFile.read` of one row group gives columns of one chunk. `table.combine_chunks()` hands such a column on as it is:
# the numbers stay at their address. `table["x"].combine_chunks()`, of the same column, allocates as many bytes again and copies
# all of them, although there is nothing to combine. The remedy: `column.chunk(0)` where `column.num_chunks == 1`.
#
# Seen with pyarrow 26.0.1, CPython 3.11, Linux x86_64, of 1,000,000 numbers of 8 bytes:
#   of the table: the same address, 0 bytes allocated
#   of the column: another address, 8000000 bytes allocated
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.3.5
cat > "$work/look.py" <<'P'
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"x": np.arange(1_000_000)}), "numbers.parquet")
table = pq.ParquetFile("numbers.parquet").read()
assert table["x"].num_chunks == 1


def told(what, combine):
    before, place = pa.total_allocated_bytes(), table["x"].chunk(0).buffers()[1].address
    found = combine()
    where = "the same address" if found.buffers()[1].address == place else "another address"
    print(f"of the {what}: {where}, {pa.total_allocated_bytes() - before} bytes allocated")


told("table", lambda: table.combine_chunks()["x"].chunk(0))
told("column", lambda: table["x"].combine_chunks())
P
cd "$work"
said=$("$work/venv/bin/python" look.py)
echo "$said"
test "$said" = "of the table: the same address, 0 bytes allocated
of the column: another address, 8000000 bytes allocated"
echo "as recorded"
