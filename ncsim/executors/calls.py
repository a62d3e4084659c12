"""Calls that are on the devices, and those that nobody waits for any more because Ctrl-C ended the wait.

A call on a device cannot be taken back. Generated C looks at a flag and ends within a moment; what XLA and kernels have
begun they train to its end. The next call waits for that, and says so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ncsim import signals
from ncsim.executors.native.program import ask_to_end
from ncsim.terminal import say

#: How long a call that was asked to end may take before a word is said.
MOMENT_SECONDS = 1.0
#: Results of calls that nobody waits for.
_left: list[Any] = []

_Kept = TypeVar("_Kept")


class InFlight:
    """The calls of one training. Use it as a context: what is still on the devices at its end is asked to end."""

    def __init__(self) -> None:
        self._results: list[Any] = []

    def __enter__(self) -> InFlight:
        _wait_for_left()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._results:
            _left.extend(self._results)
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


def _wait_for_left() -> None:
    """Wait until the devices are free of what nobody waits for."""
    import jax

    if not _left:
        return
    soon = time.monotonic() + MOMENT_SECONDS
    while not (ready := all(leaf.is_ready() for leaf in jax.tree.leaves(_left))) and time.monotonic() < soon:
        time.sleep(MOMENT_SECONDS / 20)
    if not ready:
        say("the devices are still training what was interrupted; waiting for its end")
    while _left:
        with contextlib.suppress(Exception):  # calls that were asked to end have failed
            signals.answering(lambda: jax.block_until_ready(_left[0]))
        _left.pop(0)
    ask_to_end(False)
