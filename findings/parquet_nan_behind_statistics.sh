#!/usr/bin/env bash
# Parquet: pyarrow and DuckDB do not find the NaN of a file that pyarrow wrote, by filters that find it in a table or without statistics.
#
# A row group's smallest and largest number leave NaN out, as the format asks. Both readers then conclude that all of the row group
# lies between the two. So filters that are true of NaN drop rows that are there, and others that are false of it keep them:
#   pyarrow 26.0.1: `is_null(nan_is_null=True)`, `isin([nan])`, `~(x <= 2)` and other negations find no NaN; where all other numbers
#     are one (a column of 1 and NaN), `is_nan()` and `x != 1` do not either, and count_rows of `~is_nan()` counts them as numbers.
#   DuckDB 2.0.1: `isnan(x)` is false for each of them, `max(x)` is a number, and `x > 2` misses what `order by x desc` shows first (NaN is the
#     largest number there). Its reader has `can_have_nan`, which is false unless set.
# polars finds them. A diverged training run writes NaN among numbers, and the question "how many diverged?" is answered by 0. Ask
# once all is in memory, or write with write_statistics=False. (Both trackers know of cases: arrow 34162, duckdb 25521, open in 2026.)
#
# Seen with pyarrow 26.0.1, DuckDB 2.0.1, polars 2.1.0, of 1, NaN, 0.5, NaN, NaN, 2; with statistics, and without:
#   pyarrow isin([nan])            0, 3        pyarrow ~(x <= 2)        0, 3        pyarrow is_null(nan_is_null=True)   0, 3
#   DuckDB isnan(x)                0, 3        DuckDB x > 2             0, 3        DuckDB max(x)                       2, nan
# and of 1, NaN: pyarrow is_nan() 0, 1; x != 1 0, 1; count_rows of ~is_nan() 2, 1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "DuckDB", duckdb.__version__, "polars", pl.__version__)
nan, x = float("nan"), pc.field("x")
for name, numbers in (("losses", [1.0, nan, 0.5, nan, nan, 2.0]), ("ones", [1.0, nan])):
    table = pa.table({"x": numbers})
    pq.write_table(table, f"{name}.parquet")
    pq.write_table(table, f"{name}.bare.parquet", write_statistics=False)


def both(what, name, ask):
    """Answers for the file with statistics and the one without, as text."""
    found = [str(ask(f"{name}{end}")) for end in (".parquet", ".bare.parquet")]
    print(f"{name:6} {what:36}", *found)
    return found


def rows(what, name, condition):
    in_memory = pq.read_table(f"{name}.parquet").filter(condition).num_rows
    found = both(f"pyarrow {what}", name, lambda path: pq.read_table(path, filters=condition).num_rows)
    assert found[1] == str(in_memory)
    return found


def sql(what, query):
    return both(f"DuckDB {what}", "losses", lambda path: duckdb.sql(query.format(f"'{path}'")).fetchall()[0][0])


assert rows("isin([nan])", "losses", x.isin([nan])) == ["0", "3"]
assert rows("~(x <= 2)", "losses", ~(x <= 2)) == ["0", "3"]
assert rows("is_null(nan_is_null=True)", "losses", x.is_null(nan_is_null=True)) == ["0", "3"]
assert rows("is_nan()", "losses", x.is_nan()) == ["3", "3"]  # right
assert rows("is_nan()", "ones", x.is_nan()) == ["0", "1"]
assert rows("x != 1", "ones", x != 1) == ["0", "1"]
counted = both("pyarrow count_rows of ~is_nan()", "ones", lambda path: ds.dataset(path).count_rows(filter=~x.is_nan()))
assert counted == ["2", "1"]
assert sql("isnan(x)", "select count(*) from {} where isnan(x)") == ["0", "3"]
assert sql("x > 2", "select count(*) from {} where x > 2") == ["0", "3"]
assert sql("max(x)", "select max(x) from {}") == ["2.0", "nan"]
assert sql("order by x desc", "select x from {} order by x desc limit 1") == ["nan", "nan"]
found = both("polars is_nan()", "losses", lambda path: pl.scan_parquet(path).filter(pl.col("x").is_nan()).collect().height)
assert found == ["3", "3"]
PY
cd "$work"
venv/bin/python run.py
echo "as recorded"
