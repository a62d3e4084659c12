"""A user's own table as other programs write it: CSV and TSV, JSON in lines or in an array, Parquet, each also gzipped.

What a file is, its content says and not its name alone. Cells of a table are read as CSV quotes them where the file was
written so; a file that is quoted in part is refused, since half of its marks would be nobody's text. Rows of a table are
read one after another: what is not an item's is not kept.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.errors import DataError, one_line
from ncsim.text.data.json_rows import json_array, json_lines
from ncsim.text.data.sources import MAX_FILE, SourceFile

#: Labels that need no explanation, and what they are.
LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}
#: A cell as CSV's quoting has it, and what ends it.
_CELL = re.compile(r'(?:"(?:[^"]|"")*"|[^"\t\r\n]*)(?:\t|\r\n|\n|\r|\Z)')
#: Rows of a Parquet file that are in memory at once.
PARQUET_ROWS = 4096
_ALLOWED = "a CSV or TSV with a head, JSON lines, a JSON array of objects, or Parquet"


class Columns(NamedTuple):
    """Which columns a file's items are in, and what a label of 1 is called.

    Attributes:
        text: column of the texts.
        text2: column of the second texts; a file without it has single texts.
        label: column of the labels.
        id: column of the ids; a file without it has numbers.
        right: labels that are 1, every other is 0; empty: 0 and 1, or false and true.

    Example:
        >>> Columns(text="premise", right=("yes",)).right
        ('yes',)
    """

    text: str = "text"
    text2: str = "text2"
    label: str = "label"
    id: str = "id"
    right: tuple[str, ...] = ()


#: Where items are if nothing is said.
USUAL = Columns()


class OwnTable(NamedTuple):
    """A file's rows, with where each stands, and what is to be told of it, which is complete once all rows are read."""

    rows: Iterable[tuple[str, Mapping[str, Any]]]
    names: Sequence[str]
    notes: list[str]


def own_table(file: SourceFile, wanted: Sequence[str]) -> OwnTable:
    """A file's rows, whichever of the formats it has. They may be read once, and raise where they are broken.

    Args:
        file: the file.
        wanted: the columns that are asked for; others may be left out of the rows.

    Raises:
        DataError: it is of none of them, or broken; names the line.
    """
    content = _unpacked(file)
    if content[:4] == b"PAR1":
        return _parquet(file.shown, content, wanted)
    plain = SourceFile(file.shown, content)
    text = plain.text()
    first = text.lstrip()[:1]
    if first in ("[", "{"):
        return _objects(file.shown, json_array(plain) if first == "[" else json_lines(plain))
    return _cells(file.shown, text)


def label_of(value: Any, columns: Columns, where: str) -> int:
    """A cell's label as 0 or 1.

    Raises:
        DataError: it is neither, and `right` does not say what it is.
    """
    word = label_word(value)
    if columns.right:
        if not word:
            raise DataError(f"{where}: {columns.label} is empty; allowed: {', '.join(columns.right)}, or another class")
        return int(word in map(label_word, columns.right))
    found = LABELS.get(word.lower())
    if found is None:
        raise DataError(
            f"{where}: label is {word[:40]!r}; allowed: 0, 1 (or false, true), or right = [...] in the suite, the classes that "
            "are 1"
        )
    return found


def label_word(value: Any) -> str:
    """A cell as text: 1.0 is 1 and True is true; empty where there is nothing, as NaN is in a column of numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    text = "" if value is None else str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    # Numbers are floats where a program had gaps in the column, and have two places where it wrote decimals.
    whole = re.fullmatch(r"(-?\d+)\.0+", text)
    return ("0" if whole[1] == "-0" else whole[1]) if whole else text


def _unpacked(file: SourceFile) -> bytes:
    if file.content[:2] != b"\x1f\x8b":
        return file.content
    try:
        with gzip.open(io.BytesIO(file.content)) as handle:
            content = handle.read(MAX_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.shown}: is not a gzip file that can be read ({one_line(error)})") from None
    if len(content) > MAX_FILE:
        raise DataError(f"{file.shown}: unpacks to more than {MAX_FILE} bytes; allowed: at most that")
    return content


def _parquet(shown: str, content: bytes, wanted: Sequence[str]) -> OwnTable:
    def refused(error: Exception) -> DataError:
        return DataError(f"{shown}: is not a Parquet file that can be read ({one_line(error)})")

    try:
        opened = pq.ParquetFile(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refused(error) from None
    names = opened.schema_arrow.names

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        numbers = itertools.count(1)
        try:
            for batch in opened.iter_batches(PARQUET_ROWS, columns=[name for name in wanted if name in names]):
                for row in batch.to_pylist():
                    yield f"{shown}, row {next(numbers)}", row
        except (pa.ArrowException, OSError, ValueError) as error:
            raise refused(error) from None

    return OwnTable(rows(), names, [])


def _objects(shown: str, objects: Iterator[tuple[str, Any]]) -> OwnTable:
    rows: list[tuple[str, Mapping[str, Any]]] = []
    names: dict[str, None] = {}
    for where, row in objects:
        if not isinstance(row, dict):
            raise DataError(f"{where}: is not an object; allowed: {_ALLOWED}")
        rows.append((where, row))
        names |= dict.fromkeys(row)
    return OwnTable(rows, tuple(names), [])


def _cells(shown: str, text: str) -> OwnTable:
    # The first line that is not blank, however lines end: commas of a text are none of the head's.
    every = (line.group() for line in re.finditer(r"[^\r\n]+", text))
    head = next((line for line in every if re.search(r"[^\s,;]", line)), "")
    delimiter = max("\t,;", key=head.count) if any(mark in head for mark in "\t,;") else ","
    quoted, notes = _quoting(shown, text, delimiter)
    # Lines as they end in the file, as `csv` wants them; io.StringIO would hold four bytes a character.
    lines = (line.group() for line in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text))
    # A quotation mark that does not close is an error, not a cell of all that follows.
    reader = csv.reader(
        lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    records = _records(shown, reader, notes)
    begins, first = next(records, (shown, []))
    names = [cell.strip() for cell in first]
    if len(set(names)) != len(names):
        raise DataError(f"{begins}: columns are {', '.join(names)[:80]}; allowed: each name once")

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for where, record in records:
            if len(record) != len(names):
                raise DataError(f"{where}: has {len(record)} columns; allowed: {len(names)} ({', '.join(names)[:80]})")
            yield where, dict(zip(names, record, strict=True))

    return OwnTable(rows(), names, notes)


def _records(shown: str, reader: Any, notes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A table's lines that are not blank, with where each begins. Blank ones are noted at the end."""
    blank, begins = 0, 1
    try:
        for record in reader:
            where, begins = f"{shown}, line {begins}", reader.line_num + 1
            if any(cell.strip() for cell in record):
                yield where, record
            else:
                blank += 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{shown}, line {begins}: a cell has more than {csv.field_size_limit():,} characters, or a quotation mark does not close; "
                "allowed: shorter ones, or longer texts as JSON lines or in Parquet"
            ) from None
        raise DataError(f"{shown}: does not read as written with quoting ({error}); allowed: {_ALLOWED}") from None
    if blank:
        notes.append(f"{blank} blank lines left out")


def _quoting(shown: str, text: str, delimiter: str) -> tuple[bool, list[str]]:
    """Whether a table was written with CSV's quoting: then every cell with a mark in it is wrapped, and its own are doubled.

    A comma-separated file always is. A tab-separated one is where all its cells with marks agree. Where some are wrapped
    with doubled marks and others hold a bare one, no reading is right for both.

    Raises:
        DataError: the file is quoted in part.
    """
    if '"' not in text or delimiter != "\t":
        return True, []
    lines = [line.split("\t") for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    cells = [cell for line in lines for cell in line]
    if not _every_mark_is_csv(text):
        doubled = sum(re.fullmatch(r'"(?:[^"]|"")*""(?:[^"]|"")*"', cell) is not None for cell in cells)
        if doubled:
            raise DataError(
                f"{shown}: is written with quoting in part ({doubled} cells are wrapped with their marks doubled, others hold "
                "a bare one); allowed: a file written one way"
            )
        return False, []
    # A cell that begins with a mark and does not end with one is a text, unless a line break or a tab cuts it.
    if len({len(line) for line in lines}) == 1 and any((cell[:1] == '"') != (cell[-1:] == '"') for cell in cells):
        return False, []
    return True, ["read as written with quoting"]


def _every_mark_is_csv(text: str) -> bool:
    at = 0
    while at < len(text):
        cell = _CELL.match(text, at)
        if cell is None:
            return False
        at = cell.end()
    return True
