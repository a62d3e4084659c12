"""Calls that are on the devices, and those that nobody waits for any more because Ctrl-C ended the wait.

A call on a device cannot be taken back. Generated C looks at a flag and ends within a moment; what XLA and kernels have
begun they train to its end. The next call waits for that, and says so.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ncsim import signals
from ncsim.executors.native.program import ask_to_end
from ncsim.terminal import say

#: How long a call that was asked to end may take before a word is said.
MOMENT_SECONDS = 1.0
#: Results of calls that nobody waits for, and how many trainings there are, in whatever threads. The flag is of the process: it is
#: set where nothing trains, so that no training ends another.
_left: list[Any] = []
_at_work = 0
_lock = threading.Lock()

_Kept = TypeVar("_Kept")


class InFlight:
    """The calls of one training. Use it as a context: what is still on the devices at its end is asked to end."""

    def __init__(self) -> None:
        self._results: list[Any] = []

    def __enter__(self) -> InFlight:
        _begin()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _at_work
        with _lock:
            _at_work -= 1
            _left.extend(self._results)
            if _left and not _at_work:
                ask_to_end(True)

    def add(self, result: Any) -> Any:
        """A call that was just made, by its result, still being computed: arrays in a tree."""
        self._results.append(result)
        return result

    def kept(self, result: Any, take: Callable[[Any], _Kept], meanwhile: Callable[[], object] | None) -> _Kept:
        """What `take` keeps of a call's result, once it is there.

        Raises:
            Stopped, KeyboardInterrupt: as `signals.answering`.
        """
        kept = signals.answering(lambda: take(result), meanwhile)
        self._results = [other for other in self._results if other is not result]
        return kept


def _begin() -> None:
    """Wait until the devices are free of what nobody waits for, and begin."""
    global _at_work
    while True:
        with _lock:
            if not _left:
                ask_to_end(False)
                _at_work += 1
                return
            left = list(_left)
        _wait_for(left)
        with _lock:
            _left[:] = [each for each in _left if not any(each is other for other in left)]


def _wait_for(left: list[Any]) -> None:
    """Wait for the end of calls that nobody waits for."""
    import jax

    soon = time.monotonic() + MOMENT_SECONDS
    while not (ready := all(leaf.is_ready() for leaf in jax.tree.leaves(left))) and time.monotonic() < soon:
        time.sleep(MOMENT_SECONDS / 20)
    if not ready:
        say("the devices are still training what was interrupted; waiting for its end")
    for each in left:
        with contextlib.suppress(Exception):  # calls that were asked to end have failed
            signals.answering(functools.partial(jax.block_until_ready, each))
