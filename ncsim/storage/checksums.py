"""A file that holds the SHA-256 of itself, so that any changed bit of it shows.

The digest is of the file with zeros where the digest stands. It stands in the file, and not beside it, so that a file
and its checksum cannot come apart: they are written, moved and copied as one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ncsim.formatting import json_text

_MARK = b"sha256:"
_DIGITS = 64
_NEAR = 1 << 16
#: What a file is written with before it is sealed.
UNSEALED = (_MARK + b"0" * _DIGITS).decode()
#: What is said of a file that is not as it was written.
TORN = "is torn (its checksum is not that of its content)"


def seal(content: memoryview) -> None:
    """Write the content's digest in the place of UNSEALED, which it must hold. As in `is_whole`, the last mark counts."""
    start = _digits(content)
    if start is None or content[start - len(_MARK) : start + _DIGITS] != UNSEALED.encode():
        raise ValueError("a file is sealed where it holds UNSEALED")
    content[start : start + _DIGITS] = _digest(content, start)


def sealed(content: bytes) -> bytes:
    """The same, as a copy."""
    copy = bytearray(content)
    seal(memoryview(copy))
    return bytes(copy)


def sealed_json(stored: dict[str, Any]) -> bytes:
    """A description as sealed JSON, with its digest under "checksum"."""
    return sealed(json_text(stored | {"checksum": UNSEALED}, 2).encode())


def is_whole(content: bytes) -> bool | None:
    """Whether a sealed file is as it was written; None where it holds no digest."""
    view = memoryview(content)
    start = _digits(view)
    return None if start is None else view[start : start + _DIGITS] == _digest(view, start)


def _digits(content: memoryview) -> int | None:
    """Where the digest stands: behind the last mark. It is near the end of a file of megabytes, of which no copy is made."""
    size = _NEAR
    while True:
        tail = bytes(content[-size:])
        if (found := tail.rfind(_MARK)) >= 0:
            return len(content) - len(tail) + found + len(_MARK)
        if size >= len(content):
            return None
        size *= 16


def _digest(content: memoryview, start: int) -> bytes:
    digest = hashlib.sha256(content[:start])
    digest.update(b"0" * _DIGITS)
    digest.update(content[start + _DIGITS :])
    return digest.hexdigest().encode()
