"""Rows of the five data sets, and of a user's own, read from their official formats and checked line by line.

Files are UTF-8. Tab-separated ones have one row a line and no quoting: a quotation mark is a character of the text. Only the
translated files of PAWS-X are quoted as CSV is: a cell with marks is wrapped in marks, and its own are doubled.
Lines end at newlines only (texts may hold other characters that Unicode calls line ends).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from ncsim.config.fields import shown
from ncsim.errors import DataError
from ncsim.text.data.json_rows import json_array, json_lines, lines
from ncsim.text.data.own_files import USUAL, Columns, OwnTable, label_of, label_word, own_table
from ncsim.text.data.sources import SourceFile

#: What PAWS-X has in place of a sentence that was not translated.
NOT_TRANSLATED = "NS"
#: A whole number as a program writes it that had gaps in its column.
WHOLE = re.compile(r"-?[0-9]+\.0")
#: Floats below this are whole numbers without rounding.
EXACT = 2**53


class Labelled(NamedTuple):
    """One text, or two (`second` is empty where there is one), with a label of 0 or 1."""

    id: str
    first: str
    second: str
    label: int


class Question(NamedTuple):
    """One question with five options, of which number `answer` (0 to 4) is right."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: int


class LeftOut(NamedTuple):
    """A row of an official file that is no item, and why; how many there are is told."""

    reason: str


Row = Labelled | Question


def sst2(file: SourceFile) -> Iterator[Labelled]:
    """GLUE's SST-2, `train.tsv` or `dev.tsv`: sentence and label. The id is the number of the row."""
    for row, (where, (sentence, label)) in enumerate(_table(file, ("sentence", "label"))):
        yield Labelled(str(row), _filled(sentence, "sentence", where), "", _binary(label, where))


def mrpc(file: SourceFile) -> Iterator[Labelled]:
    """The Microsoft Research Paraphrase Corpus, `msr_paraphrase_{train,test}.txt`. The id is both strings' ids."""
    columns = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
    for where, (label, one, two, first, second) in _table(file, columns):
        texts = _filled(first, "#1 String", where), _filled(second, "#2 String", where)
        yield Labelled(f"{one}-{two}", *texts, _binary(label, where))


def paws_x(file: SourceFile) -> Iterator[Labelled | LeftOut]:
    """PAWS-X of one language. Rows that were not translated ("NS" or nothing for a sentence) are left out."""
    for where, (row, first, second, label) in _table(file, ("id", "sentence1", "sentence2", "label")):
        value = _binary(label, where)
        first, second = _unquoted(first), _unquoted(second)
        if {first.strip(), second.strip()}.isdisjoint((NOT_TRANSLATED, "")):
            yield Labelled(_filled(row, "id", where), first.strip(), second.strip(), value)
        else:
            yield LeftOut("not translated")


def _unquoted(cell: str) -> str:
    """A cell as it was before it was quoted. Only one with marks of its own is quoted; others that are wrapped in marks were
    written so, as in the English file, which is not quoted."""
    return cell[1:-1].replace('""', '"') if re.fullmatch(r'"[^"]*(""[^"]*)+"', cell) else cell


def commonsense_qa(file: SourceFile) -> Iterator[Question]:
    """CommonsenseQA, `{train,dev}_rand_split.jsonl`."""
    for where, row in json_lines(file):
        try:
            stem, choices = row["question"]["stem"], row["question"]["choices"]
            texts = [(choice["label"], choice["text"]) for choice in choices]
            answer, key = row["answerKey"], row["id"]
        except (KeyError, TypeError, IndexError):
            raise DataError(f"{where}: is not a question with id, answerKey, stem and choices") from None
        labels, options = [label for label, _ in texts], [text for _, text in texts]
        if labels != list("ABCDE"):
            raise DataError(
                f"{where}: its choices are labelled {', '.join(map(str, labels))[:80]}; allowed: A, B, C, D, E"
            )
        if not all(isinstance(text, str) for text in (stem, key, *options)):
            raise DataError(f"{where}: id, stem and choices are not all texts")
        if answer not in labels:
            raise DataError(f"{where}: answerKey is {answer!r}; allowed: A, B, C, D, E")
        five = tuple(_filled(text, "choice", where) for text in options)
        yield Question(key, _filled(stem, "stem", where), five, "ABCDE".index(answer))


def math_qa(file: SourceFile) -> Iterator[Question | LeftOut]:
    """MathQA, `{train,dev,test}.json`: one JSON array. The id is the number of the row.

    A row whose options are not five, or of which one is empty, is left out.
    """
    for number, (where, row) in enumerate(json_array(file)):
        try:
            problem, options, answer = row["Problem"], row["options"], row["correct"]
        except (KeyError, TypeError):
            raise DataError(f"{where}: is not a problem with Problem, options and correct") from None
        if not (isinstance(problem, str) and isinstance(options, str) and isinstance(answer, str)):
            raise DataError(f"{where}: Problem, options and correct are not all texts")
        if answer not in tuple("abcde"):
            raise DataError(f"{where}: correct is {answer!r}; allowed: a, b, c, d, e")
        stem, five = _filled(problem, "Problem", where), math_options(options)
        yield Question(str(number), stem, five, "abcde".index(answer)) if five else LeftOut("not five options")


def math_options(text: str) -> tuple[str, ...] | None:
    """The five options of a MathQA row, from the string that the files hold them in.

    Most are `a ) 38 , b ) 27.675 , c ) 30 , d ) 27 , e ) none`; some are a printed Python list,
    `['a ) 4', 'b ) 8', ...]`; some repeat the letter, `a ) a ) 3 , b ) b ) 2 , ...`. None where there are not five
    with these letters in this order, or one of them is empty.
    """
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = re.sub(r"""['"]\s*,\s*['"](?=\s*[b-e]\s*\))""", " , ", inner[1:-1].strip()[1:-1])
    options = []
    for letter, following in zip("abcde", "bcde ", strict=True):
        start = re.match(rf"\s*{letter}\s*\)(?:\s*{letter}\s*\))?", inner)
        if start is None:
            return None
        inner = inner[start.end() :]
        stop = re.search(rf",\s*(?={following}\s*\))", inner) if letter != "e" else None
        options.append((inner[: stop.start()] if stop else inner).strip())
        inner = inner[stop.end() :] if stop else ""
    return tuple(options) if all(options) else None


class OwnRows(NamedTuple):
    """Rows of a user's own file, whether they have ids by which they can be those of another file, what is to be told, and the
    labels as they are written."""

    rows: list[Row]
    has_ids: bool
    notes: list[str]
    labels: Collection[str]


def read_own(file: SourceFile, columns: Columns = USUAL, known: Collection[str] = ()) -> OwnRows:
    """A user's own file, as `own_files` reads it: a text, a label, and where wanted a second text and an id.

    Without ids, a row's is its number; ids are then those of this file only, and pair with no other file's.

    Args:
        file: the file.
        columns: what its columns and labels are called.
        known: labels of the file that is trained on, where this one is to test on: of these alone, none need be 1.

    Raises:
        DataError: as `read_rows`; or columns that are not there, ids of some rows alone, or no label that is 1.
    """
    table = own_table(file, columns[:4])
    if table.names and not {columns.text, columns.label} <= set(table.names):
        raise DataError(
            f"{file.shown}: columns are {', '.join(table.names)[:80]}; allowed: {columns.text} and {columns.label}, "
            f"and where wanted {columns.text2} and {columns.id}, or other names in the suite (text = ...)"
        )
    labels: dict[str, None] = {}
    with_ids: set[bool] = set()
    rows, _ = _collected(file, _own_rows(table, columns, labels, with_ids))
    if all(WHOLE.fullmatch(row.id) for row in rows):
        rows = [row._replace(id=row.id.removesuffix(".0")) for row in rows]
    unread = [name for name in table.names if name not in columns[:4]]
    notes = [*table.notes, *([f"columns that are not read: {', '.join(unread)[:80]}"] if unread else [])]
    return OwnRows(rows, True in with_ids, [*notes, *_never_found(file, columns, labels, known)], labels)


def _never_found(file: SourceFile, columns: Columns, labels: Collection[str], known: Collection[str]) -> list[str]:
    """A note where no row has a class that is to be 1. One that is spelled otherwise would make all rows 0.

    Raises:
        DataError: no row has any of them, and labels are not all among those that are known.
    """
    never = [one for one in columns.right if label_word(one) not in labels]
    if never and len(never) == len(columns.right) and not set(labels) <= set(known):
        raise DataError(
            f"{file.shown}: {columns.label} is never {' or '.join(never)[:80]}; allowed: right = [...] of its classes, which are "
            f"{', '.join(sorted(labels))[:80]}"
        )
    return [f"no row has the class {', '.join(never)[:80]}"] if never else []


def _own_rows(table: OwnTable, columns: Columns, labels: dict[str, None], with_ids: set[bool]) -> Iterator[Labelled]:
    """The rows, and into `labels` the labels as they are written, into `with_ids` whether rows have an id."""
    for number, (where, row) in enumerate(table.rows):
        second, key = ("" if row.get(name) is None else row[name] for name in (columns.text2, columns.id))
        if not isinstance(second, str):
            raise DataError(f"{where}: {columns.text2} is not a text")
        key = _key(key, columns, where)
        with_ids.add(key != "")
        if len(with_ids) > 1:
            # The number of a row beside ids would be taken for an id, also that of a row of another file.
            raise DataError(
                f"{where}: {columns.id} is {shown(key) if key else 'empty'}; allowed: an id in every row, or in none"
            )
        first = _filled(row.get(columns.text), columns.text, where)
        named = key or str(number)
        labels[label_word(row.get(columns.label))] = None
        yield Labelled(named, first, second.strip(), label_of(row.get(columns.label), columns, where))


def _key(value: Any, columns: Columns, where: str) -> str:
    """An id as text; empty where there is none. Whole numbers are floats, and empty ones NaN, where a program had gaps."""
    if isinstance(value, float) and (math.isnan(value) or (value.is_integer() and abs(value) < EXACT)):
        return label_word(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {columns.id} is {shown(value)}; allowed: a text or a whole number")
    return str(value).strip()


def read_rows(name: str, file: SourceFile) -> tuple[list[Row], Counter[str]]:
    """All rows of a data set's file, and how many were left out, by reason.

    Raises:
        DataError: a broken row, an id that two rows have, or no row at all.
    """
    return _collected(file, READERS[name](file))


def _collected(file: SourceFile, rows: Iterator[Row | LeftOut]) -> tuple[list[Row], Counter[str]]:
    kept: dict[str, Row] = {}
    left_out: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, LeftOut):
            left_out[row.reason] += 1
        elif row.id in kept:
            raise DataError(f"{file.shown}: two rows have the id {row.id!r}")
        else:
            kept[row.id] = row
    if not kept:
        raise DataError(f"{file.shown}: has no rows")
    return list(kept.values()), left_out


READERS: dict[str, Callable[[SourceFile], Iterator[Any]]] = {
    "sst2": sst2,
    "mrpc": mrpc,
    "paws_x": paws_x,
    "commonsense_qa": commonsense_qa,
    "math_qa": math_qa,
    "file": lambda file: iter(read_own(file).rows),  # with the usual names of columns
}


def _table(file: SourceFile, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    header = None
    for where, line in lines(file):
        cells = line.split("\t")
        if header is None:
            header = cells
            if tuple(cells) != tuple(columns):
                raise DataError(f"{where}: columns are {', '.join(cells)[:80]}; allowed: {', '.join(columns)}")
        elif len(cells) != len(columns):
            raise DataError(f"{where}: has {len(cells)} columns; allowed: {len(columns)} ({', '.join(columns)})")
        else:
            yield where, cells


def _filled(text: Any, column: str, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {column} is empty or no text")
    return text.strip()


def _binary(label: str, where: str) -> int:
    if label.strip() not in ("0", "1"):
        raise DataError(f"{where}: label is {label[:40]!r}; allowed: 0, 1")
    return int(label)
