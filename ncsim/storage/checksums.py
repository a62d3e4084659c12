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
#: What a file is written with before it is sealed.
UNSEALED = (_MARK + b"0" * _DIGITS).decode()
#: What is said of a file that is not as it was written.
TORN = "is torn (its checksum is not that of its content)"


def sealed(content: bytes) -> bytes:
    """The content with its digest in the place of UNSEALED, which it must hold. As in `is_whole`, the last mark counts, which is near
    the end of a file of megabytes."""
    start = content.rfind(_MARK) + len(_MARK)
    if not content.startswith(UNSEALED.encode(), start - len(_MARK)):
        raise ValueError("a file is sealed where it holds UNSEALED")
    view = memoryview(content)
    return b"".join((view[:start], _digest(content, start), view[start + _DIGITS :]))


def sealed_json(stored: dict[str, Any]) -> bytes:
    """A description as sealed JSON, with its digest under "checksum"."""
    return sealed(json_text(stored | {"checksum": UNSEALED}, 2).encode())


def is_whole(content: bytes) -> bool | None:
    """Whether a sealed file is as it was written; None where it holds no digest."""
    start = content.rfind(_MARK)
    if start < 0:
        return None
    start += len(_MARK)
    return content[start : start + _DIGITS] == _digest(content, start)


def _digest(content: bytes, start: int) -> bytes:
    view = memoryview(content)  # a part may have tens of megabytes, of which no copies are made
    digest = hashlib.sha256(view[:start])
    digest.update(b"0" * _DIGITS)
    digest.update(view[start + _DIGITS :])
    return digest.hexdigest().encode()
