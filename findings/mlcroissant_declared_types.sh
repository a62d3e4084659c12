#!/usr/bin/env bash
# mlcroissant 1.1.1: what a field is declared to be is applied to pandas' guess: "007" of a JSON Lines file is b'7', "false" is True.
#
# A Croissant field has a data type: sc:Text, sc:Boolean, sc:Integer. mlcroissant hands the file to pandas without it, and calls the type on what comes
# out: bytes of `str`, `bool`, `int`. So:
#   text      of CSV and of JSON Lines, where it stands in quotes: if a whole column looks like numbers, it is numbers: 007 is 7, 1e3 is 1000.0, and
#             12 beside a missing cell 12.0. In CSV the words NA, None, null, nan and n/a are None: an answer that a question may have.
#   Boolean   is bool of a string: "false", "no", "F" and "0 of 4" are True. CSV with nothing but true and false, or 1 and 0, and JSON's own true are right.
#   Integer   beside a null of any kind of file goes through float64: 9007199254740993 is ...992; ids of 64 bits (hashes, times in ns) come to this
#   Float     of JSON Lines is off in the last two digits, as pandas reads it without precise_float; of JSON and CSV it is right
# There is no warning, and records have the declared types. The same records described as one JSON file (by jsonPath) keep text and numbers, so that two
# descriptions of one data set differ. What to do: give such a column one cell that is no number, write flags as JSON booleans, and fill
# nulls; or read the file that the description names by oneself.
#
# Seen with mlcroissant 1.1.1, pandas 3.1.1, pyarrow 26.0.1, Python 3.11, fields id and answer (Text), fair (Boolean), n (Integer), x (Float):
#   {"id": "007", "answer": "1e3", "fair": "false", "n": 9007199254740993, "x": 0.1234567890123456789}, {"id": "010", "answer": "2", "fair": "true", "n": null, "x": 1}
#     JSON Lines       b'7', b'1000.0', True, 9007199254740992, 0.12345678901234501
#     JSON             b'007', b'1e3', True, 9007199254740992, 0.12345678901234568
#   007,12,no,9007199254740993 and 010,None,yes, as CSV:
#                      b'7', b'12.0', True, 9007199254740992; b'10', None, True, None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mlcroissant==1.1.1 pandas==3.1.1 numpy==2.4.6 pyarrow==26.0.1
cat > "$work/run.py" <<'PY'
import hashlib
import io
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlcroissant as mlc
import pyarrow as pa
import pyarrow.parquet as pq

print("mlcroissant", version("mlcroissant"), "pandas", version("pandas"))
folder = Path(tempfile.mkdtemp(dir=Path(__file__).parent))
TYPES = {
    "id": mlc.DataType.TEXT,
    "answer": mlc.DataType.TEXT,
    "fair": mlc.DataType.BOOL,
    "n": mlc.DataType.INTEGER,
    "x": mlc.DataType.FLOAT,
}


def records(data, kind, names, *, by_path=False):
    """The records of one file, with the fields `names` of the types above: tuples of values."""
    (folder / "data").write_bytes(data)
    file = mlc.FileObject(
        id="data", name="data", content_url="data", encoding_formats=[kind], sha256=hashlib.sha256(data).hexdigest()
    )

    def field(name):
        where = mlc.Extract(json_path=f"$[*].{name}") if by_path else mlc.Extract(column=name)
        return mlc.Field(
            id=f"all/{name}",
            name=f"all/{name}",
            data_types=[TYPES[name]],
            source=mlc.Source(file_object="data", extract=where),
        )

    described = mlc.Metadata(
        name="answers",
        conforms_to="http://mlcommons.org/croissant/1.0",
        distribution=[file],
        record_sets=[mlc.RecordSet(id="all", name="all", fields=[field(name) for name in names])],
    )
    (folder / "croissant.json").write_text(json.dumps(described.to_json(), default=str))
    return [tuple(record.values()) for record in mlc.Dataset(str(folder / "croissant.json")).records("all")]


TRIED = [
    '{"id": "007", "answer": "1e3", "fair": "false", "n": 9007199254740993, "x": 0.1234567890123456789}',
    '{"id": "010", "answer": "2", "fair": "true", "n": null, "x": 1}',
]
lines = records("\n".join(TRIED).encode(), "application/jsonlines", TYPES)
print("JSON Lines", *lines)
assert lines == [
    (b"7", b"1000.0", True, 9007199254740992, 0.12345678901234501),
    (b"10", b"2.0", True, None, 1.0),
], "JSON Lines are read in another way"
whole = records(f"[{','.join(TRIED)}]".encode(), "application/json", TYPES, by_path=True)
print("JSON", *whole)
assert whole == [
    (b"007", b"1e3", True, 9007199254740992, 0.1234567890123456789),
    (b"010", b"2", True, None, 1.0),
], "JSON is read in another way"

cells = records(
    b"id,answer,fair,n\n007,12,no,9007199254740993\n010,None,yes,\n", "text/csv", ["id", "answer", "fair", "n"]
)
print("CSV", *cells)
assert cells == [(b"7", b"12.0", True, 9007199254740992), (b"10", None, True, None)], "CSV is read in another way"
flags = [value for value, in records(b"fair\nT\nF\n", "text/csv", ["fair"])]
words = [value for value, in records(b"fair\ntrue\nfalse\n", "text/csv", ["fair"])]
print("T, F:", flags, "true, false:", words)
assert flags == [True, True] and words == [True, False]

stored = io.BytesIO()
pq.write_table(pa.table({"n": pa.array([2**53 + 1, None], pa.int64())}), stored)
numbers = [value for value, in records(stored.getvalue(), "application/x-parquet", ["n"])]
stored = io.BytesIO()
pq.write_table(pa.table({"n": pa.array([2**53 + 1, 1], pa.int64())}), stored)
without = [value for value, in records(stored.getvalue(), "application/x-parquet", ["n"])]
print("Parquet, 2^53 + 1 beside a null:", numbers, "without one:", without)
assert numbers == [2**53, None] and without == [2**53 + 1, 1]
PY
"$work/venv/bin/python" -W ignore "$work/run.py" 2> "$work/log" || { cat "$work/log"; exit 1; }
echo "as recorded"
