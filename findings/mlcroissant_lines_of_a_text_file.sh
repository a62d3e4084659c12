#!/usr/bin/env bash
# mlcroissant 1.1.1: the "lines" of a text file are read as CSV: of a line with a comma the last cell is left, of one without it nothing.
#
# A Croissant description can take its records from the lines of a text/plain file (`"fileProperty": "lines"`). mlcroissant reads
# such a file by pandas.read_csv with one column name. The first line decides what becomes of the file:
#   the first line has commas      of each line what stands behind the last comma comes out: of "First, second." it is " second.". Lines with fewer
#                                  commas than the first are None, one with more is an error.
#   it has none, a later one has   an error that speaks of CSV; the lucky case
#   none has a comma               blank lines are missing, so the line numbers behind them are too small; NA, None, null, nan and n/a
#                                  are None; quotes go, and a line that begins with one joins the next ones until it is closed; if all
#                                  lines are numbers, 007 is 7, and beside an NA 12 is 12.0
# There is no warning in any of them. Sentences have commas, and one sentence, one label or one number a line is what text data are mostly kept in.
# `"fileProperty": "content"` of the same file is the file; records from `content.decode().split("\n")` are what "lines" promises.
#
# Seen with mlcroissant 1.1.1, pandas 3.1.1, Python 3.11:
#   "First, second." / "Yes, it is." / "No comma here."     b' second.', b' it is.', None
#   "a, b, c" / "d, e" / "f"                                b' c', None, None
#   "one" / "" / "NA" / "None" / "five"                     lines 0 to 3: b'one', None, None, b'five'
#   "\"Who?" / "Me.\"" / "They."                            b'Who?\nMe.', b'They.'
#   "007" / "010"                                           b'7', b'10'
#   "012" / "NA"                                            b'12.0', None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mlcroissant==1.1.1 pandas==3.1.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlcroissant as mlc

print("mlcroissant", version("mlcroissant"), "pandas", version("pandas"))
folder = Path(tempfile.mkdtemp(dir=Path(__file__).parent))


def records(rows, **properties):
    """What mlcroissant reads from a text file of these lines, a tuple a record."""
    data = "".join(line + "\n" for line in rows).encode()
    (folder / "corpus.txt").write_bytes(data)
    file = mlc.FileObject(
        id="corpus",
        name="corpus",
        content_url="corpus.txt",
        encoding_formats=["text/plain"],
        sha256=hashlib.sha256(data).hexdigest(),
    )
    fields = [
        mlc.Field(
            id=f"read/{name}",
            name=f"read/{name}",
            data_types=[kind],
            source=mlc.Source(file_object="corpus", extract=mlc.Extract(file_property=name)),
        )
        for name, kind in properties.items()
    ]
    described = mlc.Metadata(
        name="corpus",
        conforms_to="http://mlcommons.org/croissant/1.0",
        distribution=[file],
        record_sets=[mlc.RecordSet(id="read", name="read", fields=fields)],
    )
    (folder / "croissant.json").write_text(json.dumps(described.to_json(), default=str))
    return [tuple(record.values()) for record in mlc.Dataset(str(folder / "croissant.json")).records("read")]


TEXT, WHOLE = mlc.DataType.TEXT, mlc.DataType.INTEGER
cases = [
    (["First, second.", "Yes, it is.", "No comma here."], [b" second.", b" it is.", None]),
    (["a, b, c", "d, e", "f"], [b" c", None, None]),
    (["one", "", "NA", "None", "five"], [b"one", None, None, b"five"]),
    (['"Who?', 'Me."', "They."], [b"Who?\nMe.", b"They."]),
    (["007", "010"], [b"7", b"10"]),
    (["012", "NA"], [b"12.0", None]),
]
for lines, expected in cases:
    found = [line for line, in records(lines, lines=TEXT)]
    print(f"{lines!s:55} {found}")
    assert found == expected, "these lines are read in another way now"
    whole, = records(lines, content=TEXT)
    assert whole[0].decode().split("\n")[:-1] == lines
numbered = records(["one", "", "NA", "None", "five"], lines=TEXT, lineNumbers=WHOLE)
print("with their numbers:", numbered)
assert numbered[-1] == (b"five", 3), "the fifth line has the number 4 now"
try:
    records(["No comma here.", "Yes, it is."], lines=TEXT)
except Exception as error:
    told = f"{error} {error.__cause__}"
    print("a comma from the second line on:", type(error).__name__)
    assert "Expected 1 fields in line 2, saw 2" in told, told
else:
    raise AssertionError("a comma behind the first line is read now")
plain = records(["one", "two", "three"], lines=TEXT)
assert plain == [(b"one",), (b"two",), (b"three",)]
PY
"$work/venv/bin/python" -W ignore "$work/run.py" 2> "$work/log" || { cat "$work/log"; exit 1; }
echo "as recorded"
