"""Ctrl-C and SIGTERM while training: the call that is on the devices ends, what is whole is stored, then the command does.

A handler of our own, because a KeyboardInterrupt is raised wherever Python happens to be, which may be a callback that
swallows it (JAX's garbage collection has one). Here it is a flag that training looks at between two calls.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to end. `status` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.status = 128 + number


_asked: int | None = None
_deferring = 0


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped`: at once, or within `deferred` where it calls `check`. A second one ends the
    process. In a thread that is not the main one, which cannot have handlers, nothing changes."""
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Put a signal off to the next `check`, or to the end."""
    global _deferring
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
    check()


def asked() -> bool:
    """Whether a signal has come that the next `check` raises: what is to be stored first can be."""
    return _asked is not None


def check() -> None:
    """Raise `Stopped` if a signal has come."""
    if _asked is not None:
        raise Stopped(_asked)


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not None:
        os._exit(128 + number)
    _asked = number
    if not _deferring:
        raise Stopped(number)
    again = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
    os.write(2, f"\nncsim: stopping after the block that is being trained{again}\n".encode())
