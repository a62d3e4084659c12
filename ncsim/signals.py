"""Ctrl-C and SIGTERM: what is being stored is finished, then the process ends, wherever it waits.

A handler of our own, because a KeyboardInterrupt is raised wherever Python happens to be, which may be a callback that
swallows it (JAX's garbage collection has one). While training it is a flag, which `answering` and `check` look at.

Python runs handlers in the main thread only, and not while that waits in a library: for a compiler, a download, other
processes. So a thread is told of signals as well (`signal.set_wakeup_fd`). It ends a process that does not end by itself.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

#: Signals that ask a process to end.
STOPPING = (signal.SIGINT, signal.SIGTERM)
#: How long the main thread may take to end by itself where nothing is being stored.
PATIENCE_SECONDS = 0.4
#: How often a wait looks for signals, and how often it tells that it still waits.
LOOK_SECONDS, TELL_SECONDS = 0.1, 30.0

_Result = TypeVar("_Result")


class Stopped(BaseException):
    """The process was asked to end. `status` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.status = 128 + number


#: What would be lost if the process ended now, in words; "" for nothing.
at_stake = ""
_asked: int | None = None
_deferring = 0
_finishing = 0
_lock = threading.Lock()
_cleanups: list[Callable[[], object]] = []
_cleaning = False


@contextlib.contextmanager
def handled(end: Callable[[int], object] | None = None) -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped`: at once, or within `deferred` where it calls `check`. A second one ends the
    process. In a thread that is not the main one, which cannot have handlers, nothing changes.

    What is raised at once may be raised in a callback of Python's own, which swallows it. Then the process is ended from outside,
    and whatever comes of its scratch folders being gone is no error of its own.

    Args:
        end: says that the process ends and ends it, given the exit status, where the main thread does not come to do so.
    """
    global _asked, _cleaning, at_stake
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    at_stake, _cleaning = "", False
    before = {number: signal.signal(number, _handle) for number in STOPPING}
    told, tells = socket.socketpair()
    tells.setblocking(False)
    fd_before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(told, end or os._exit), name="ncsim-signals", daemon=True).start()
    hook_before = sys.unraisablehook
    sys.unraisablehook = lambda told: None if told.exc_type is Stopped else hook_before(told)
    try:
        try:
            yield
        except Exception:
            check()
            raise
        check()
    finally:
        sys.unraisablehook = hook_before
        signal.set_wakeup_fd(fd_before)
        tells.close()
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


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """What is done in here is finished before a first signal ends the process, as storing what was trained."""
    global _finishing
    with _lock:
        _finishing += 1
    try:
        yield
    finally:
        with _lock:
            _finishing -= 1


@contextlib.contextmanager
def cleaned_up(action: Callable[[], object]) -> Iterator[None]:
    """`action` at the end of the context, and also where a signal ends the process within it. Raises Stopped where one does so
    already."""
    with _lock:
        late = _cleaning
        if not late:
            _cleanups.append(action)
    if late:
        action()
        raise Stopped(_asked or signal.SIGTERM)
    try:
        yield
    finally:
        _cleanups.remove(action)
        action()


@contextlib.contextmanager
def scratch(prefix: str, folder: Path | None = None) -> Iterator[Path]:
    """A temporary folder that is gone at the end, also where a signal ends the process. Raises OSError."""
    made = tempfile.mkdtemp(prefix=prefix, dir=folder)
    with cleaned_up(lambda: shutil.rmtree(made, ignore_errors=True)):
        yield Path(made)


def answering(
    action: Callable[[], _Result], meanwhile: Callable[[], object] | None = None, patience: float = 0.0
) -> _Result:
    """The result of something that waits in a library, such as for a device; signals are answered meanwhile.

    It is done in a thread, and goes on in there where a signal ends the wait. It must not depend on settings of a thread.

    Args:
        action: what waits.
        meanwhile: told again and again that it still waits, every TELL_SECONDS.
        patience: seconds that the wait goes on after a signal.

    Raises:
        Stopped: a signal has come, in a command. KeyboardInterrupt: Ctrl-C, elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    done: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def act() -> None:
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=act, name="ncsim-waiting", daemon=True).start()
    tell, give_up = time.monotonic() + TELL_SECONDS, float("inf")
    while not concurrent.futures.wait([done], LOOK_SECONDS).done:
        now = time.monotonic()
        if asked():
            give_up = min(give_up, now + patience)
            if now >= give_up:
                check()
        if meanwhile is not None and now >= tell:
            tell = now + TELL_SECONDS
            meanwhile()
    return done.result()


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
        return  # `_watch` ends the process
    _asked = number
    if not _deferring:
        raise Stopped(number)
    _say_stopping(number)


def _say_stopping(number: int) -> None:
    again = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
    os.write(2, f"\nncsim: stopping once what is being stored is stored{again}\n".encode())


def _watch(told: socket.socket, end: Callable[[int], object]) -> None:
    """End the process after a signal, unless `handled` is left first; at once after a second one."""
    with told:
        number = _signal(told, None)
        patient_until, said = time.monotonic() + PATIENCE_SECONDS, False
        cleaning: threading.Thread | None = None
        while number:
            second = _signal(told, LOOK_SECONDS / 2)
            if second is not None:
                if second:
                    os._exit(128 + second)
                return
            if time.monotonic() < patient_until:
                continue
            if _finishing:
                if not said and _asked is None:
                    _say_stopping(number)
                said = True
            elif cleaning is None:
                cleaning = threading.Thread(target=_clean_up, daemon=True)
                cleaning.start()
                patient_until = time.monotonic() + PATIENCE_SECONDS / 4
            else:
                end(128 + number)
                return


def _signal(told: socket.socket, seconds: float | None) -> int | None:
    """The number of a stopping signal that has come; 0 where there will be none; None where none came in time."""
    told.settimeout(seconds)  # and no `select`, which refuses the files of a process that has a thousand open
    with contextlib.suppress(TimeoutError):
        while True:
            number = (told.recv(1) or b"\0")[0]
            if number in (0, *STOPPING):
                return number
    return None


def _clean_up() -> None:
    global _cleaning
    with _lock:
        _cleaning, actions = True, _cleanups[::-1]
    for action in actions:
        with contextlib.suppress(Exception):
            action()
