"""JSON as data files have it: a value on each line, or one array; every value with the line that it begins on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ncsim.errors import DataError
from ncsim.text.data.sources import SourceFile


def lines(file: SourceFile) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, and where they are. Lines end at newlines only; one of tabs is a row of empty cells."""
    for number, line in enumerate(file.text().split("\n"), start=1):
        if line.strip(" \r"):
            yield f"{file.shown}, line {number}", line.removesuffix("\r")


def json_lines(file: SourceFile) -> Iterator[tuple[str, Any]]:
    """A value on each line.

    Raises:
        DataError: a line is no JSON.
    """
    for where, line in lines(file):
        if not line.strip():
            continue
        try:
            yield where, _whole(json.loads(line), line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: is not JSON ({_said(error)})") from None


def json_array(file: SourceFile) -> Iterator[tuple[str, Any]]:
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
        yield where, _whole(row, text[at:end])
        at = _skip(text, end)
        if text[at : at + 1] not in (",", "]"):
            raise DataError(
                f"{file.shown}, line {text.count(chr(10), 0, at) + 1}: is not JSON (the array does not end)"
            )
        if text[at] == ",":
            at = _skip(text, at + 1)
    after = _skip(text, at + 1)
    if after < len(text):  # a second array, as of two files written one behind the other, would be lost
        line = text.count("\n", 0, after) + 1
        raise DataError(
            f"{file.shown}, line {line}: is not JSON (something stands behind the array); allowed: one array"
        )


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _said(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"


def _whole(value: Any, written: str) -> Any:
    """A value without halves of surrogate pairs, which JSON can write and UTF-8 cannot: U+FFFD in their place."""
    if "\\u" not in written:
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(one, written) for one in value]
    if isinstance(value, dict):
        return {_whole(name, written): _whole(one, written) for name, one in value.items()}
    return value
