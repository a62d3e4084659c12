"""A folder of this machine held against other writers."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from ncsim.errors import StoreError, reason
from ncsim.formatting import duration
from ncsim.storage.attempts import persistently
from ncsim.terminal import say

#: Seconds that a lock is waited for without a word, and between two looks whether it is free.
MOMENT_SECONDS, SECONDS_BETWEEN_LOOKS = 10.0, 0.02
#: Seconds after which who holds it for a moment is taken to be stopped for good.
MOST_SECONDS = 300.0


@contextlib.contextmanager
def hold(folder: Path, exclusively: bool = True, name: str = ".lock", waiting: bool = False) -> Iterator[None]:
    """Hold a folder of this machine against any other writer, or beside others that do not hold it exclusively. The
    operating system lets go of it when the process ends.

    Args:
        folder: what is held.
        exclusively: whether nobody else may hold it.
        name: of the file in it by which it is held.
        waiting: for whoever holds it, which is for a moment, and said where it is not; after five minutes, and without this at once,
            that is an error.

    Raises:
        StoreError: another process holds it, or it cannot be written to.
    """
    import fcntl

    try:
        handle = persistently(lambda: os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666))
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
            begun = time.monotonic()
            tell = begun + MOMENT_SECONDS
            while waiting and not ours:
                if time.monotonic() >= begun + MOST_SECONDS:
                    raise StoreError(
                        f"{folder}: {_holder(handle)} has held {name} for {duration(MOST_SECONDS)}; let it go on, or end it"
                    )
                if time.monotonic() >= tell:
                    say(f"{folder}: waiting for another process, which holds {name}; was it stopped?")
                    tell = math.inf
                time.sleep(SECONDS_BETWEEN_LOOKS)
                ours = persistently(locked)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be locked ({reason(error)})") from None
        if ours and waiting:
            _say_who(handle)
        if not ours:
            raise StoreError(f"{folder}: another process is writing to it; wait for it or end it")
        yield
    finally:
        with contextlib.suppress(OSError):  # nothing was written to it: it is let go of in any case
            os.close(handle)


def _say_who(handle: int) -> None:
    """Put into the file that is held which process holds it, for those who wait."""
    with contextlib.suppress(OSError):  # a full disk: they are told of some process
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} of {platform.node()}".encode(errors="replace"), 0)


def _holder(handle: int) -> str:
    """Who holds the file, as it says."""
    with contextlib.suppress(OSError):
        found = os.pread(handle, 200, 0).decode(errors="replace")
        if found.startswith("process ") and found.isprintable():
            return found
    return "another process"
