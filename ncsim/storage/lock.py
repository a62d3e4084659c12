"""A folder of this machine held against other writers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ncsim.errors import StoreError, reason
from ncsim.storage.attempts import persistently


@contextlib.contextmanager
def hold(folder: Path, exclusively: bool = True) -> Iterator[None]:
    """Hold a folder of this machine against any other writer, or beside others that do not hold it exclusively. The
    operating system lets go of it when the process ends.

    Raises:
        StoreError: another process holds it, or it cannot be written to.
    """
    import fcntl

    try:
        handle = persistently(lambda: os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written to ({reason(error)})") from None

    def locked() -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        try:
            ours = persistently(locked)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be locked ({reason(error)})") from None
        if not ours:
            raise StoreError(f"{folder}: another process is writing to it; wait for it or end it")
        yield
    finally:
        with contextlib.suppress(OSError):  # nothing was written to it: it is let go of in any case
            os.close(handle)
