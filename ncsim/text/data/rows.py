"""Rows of the five data sets, and of a user's own, read from their official formats and checked line by line.

Files are UTF-8. Tab-separated ones have one row a line and no quoting: a quotation mark is a character of the text. Only the
translated files of PAWS-X are quoted as CSV is: a cell with marks is wrapped in marks, and its own are doubled.
Lines end at newlines only (texts may hold other characters that Unicode calls line ends).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ncsim.errors import DataError
from ncsim.text.data.sources import SourceFile

#: What PAWS-X has in place of a sentence that was not translated.
NOT_TRANSLATED = "NS"


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
    for where, row in _json_lines(file):
        try:
            stem, choices = row["question"]["stem"], row["question"]["choices"]
            texts = {choice["label"]: choice["text"] for choice in choices}
            answer, key = row["answerKey"], row["id"]
        except (KeyError, TypeError, IndexError):
            raise DataError(f"{where}: is not a question with id, answerKey, stem and choices") from None
        if list(texts) != list("ABCDE") or not all(isinstance(text, str) for text in (stem, key, *texts.values())):
            raise DataError(f"{where}: its choices are labelled {', '.join(map(str, texts))}; allowed: A, B, C, D, E")
        if answer not in texts:
            raise DataError(f"{where}: answerKey is {answer!r}; allowed: A, B, C, D, E")
        options = tuple(_filled(text, "choice", where) for text in texts.values())
        yield Question(key, _filled(stem, "stem", where), options, "ABCDE".index(answer))


def math_qa(file: SourceFile) -> Iterator[Question | LeftOut]:
    """MathQA, `{train,dev,test}.json`: one JSON array. The id is the number of the row.

    A row whose options are not five, or of which one is empty, is left out.
    """
    for number, (where, row) in enumerate(_json_array(file)):
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


def own(file: SourceFile) -> Iterator[Labelled]:
    """A user's own file: columns (TSV) or keys (JSON lines) `text`, `label` (0 or 1), and where wanted `text2` and `id`.

    Without ids, a row's is its number; ids are then those of this file only, and pair with no other file's.
    """
    if file.shown.endswith((".jsonl", ".json")):
        rows: Iterator[tuple[str, dict[str, Any]]] = _own_json(file)
    else:
        rows = ((where, row) for where, row in _own_table(file))
    for number, (where, row) in enumerate(rows):
        second = row.get("text2") or ""
        if not isinstance(second, str):
            raise DataError(f"{where}: text2 is not a text")
        key = str(row["id"]) if row.get("id") not in (None, "") else str(number)
        yield Labelled(key, _filled(row["text"], "text", where), second, _binary(str(row["label"]), where))


def has_ids(file: SourceFile) -> bool:
    """Whether a user's own file has ids, by which its rows can be those of another file."""
    head = file.text().split("\n", 1)[0]
    if not file.shown.endswith((".jsonl", ".json")):
        return "id" in head.rstrip("\r").split("\t")
    return "id" in next(_json_lines(file), ("", {}))[1]


def read_rows(name: str, file: SourceFile) -> tuple[list[Row], Counter[str]]:
    """All rows of a data set's file, and how many were left out, by reason.

    Raises:
        DataError: a broken row, an id that two rows have, or no row at all.
    """
    kept: dict[str, Row] = {}
    left_out: Counter[str] = Counter()
    for row in READERS[name](file):
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
    "file": own,
}


def _lines(file: SourceFile) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.text().split("\n"), start=1):
        if line.strip():
            yield f"{file.shown}, line {number}", line.removesuffix("\r")


def _table(file: SourceFile, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    header = None
    for where, line in _lines(file):
        cells = line.split("\t")
        if header is None:
            header = cells
            if tuple(cells) != tuple(columns):
                raise DataError(f"{where}: columns are {', '.join(cells)[:80]}; allowed: {', '.join(columns)}")
        elif len(cells) != len(columns):
            raise DataError(f"{where}: has {len(cells)} columns; allowed: {len(columns)} ({', '.join(columns)})")
        else:
            yield where, cells


def _own_table(file: SourceFile) -> Iterator[tuple[str, dict[str, Any]]]:
    header: list[str] = []
    for where, line in _lines(file):
        cells = line.split("\t")
        if not header:
            header = cells
            _check_keys(header, where)
        elif len(cells) != len(header):
            raise DataError(f"{where}: has {len(cells)} columns; allowed: {len(header)} ({', '.join(header)})")
        else:
            yield where, dict(zip(header, cells, strict=True))


def _own_json(file: SourceFile) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in _json_lines(file):
        if not isinstance(row, dict):
            raise DataError(f"{where}: is not an object")
        _check_keys(list(row), where)
        yield where, row


def _check_keys(keys: Sequence[str], where: str) -> None:
    allowed = ("text", "text2", "label", "id")
    if not {"text", "label"} <= set(keys) <= set(allowed) or len(set(keys)) != len(keys):
        raise DataError(
            f"{where}: columns are {', '.join(keys)[:80]}; allowed: text and label, and where wanted text2 and id"
        )


def _json_lines(file: SourceFile) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(file):
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: is not JSON ({_said(error)})") from None


def _json_array(file: SourceFile) -> Iterator[tuple[str, Any]]:
    """Objects of an array one by one, so that each has the line that it begins on."""
    text, decoder, line, counted = file.text(), json.JSONDecoder(), 1, 0
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise DataError(f"{file.shown}, line 1: is not a JSON array")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        where = f"{file.shown}, line {line}"
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            place = f"{file.shown}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else where
            raise DataError(f"{place}: is not JSON ({_said(error)})") from None
        yield where, row
        at = _skip(text, end)
        if text[at : at + 1] not in (",", "]"):
            raise DataError(
                f"{file.shown}, line {text.count(chr(10), 0, at) + 1}: is not JSON (the array does not end)"
            )
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _said(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"


def _filled(text: Any, column: str, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {column} is empty or no text")
    return text.strip()


def _binary(label: str, where: str) -> int:
    if label.strip() not in ("0", "1"):
        raise DataError(f"{where}: label is {label[:40]!r}; allowed: 0, 1")
    return int(label)
