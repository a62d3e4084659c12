"""Work done beside the training: a part is written while the devices train the next one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ncsim import signals


class Background:
    """Does one thing at a time in a thread of its own, in the order given. Use it as a context: at its end everything is
    done, or what could not be done is raised.

    Only one thing waits to be done, so that no more than two parts are held in memory.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ncsim-writer")
        self._last: Future[Any] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._thread.shutdown()  # waits: what was begun is ended before others may have the folder

    def do(self, action: Callable[[], object]) -> None:
        """Have something done after all that was given before. Raises what the thing before it raised, and does not do
        this one then."""
        self.finish()
        self._last = self._thread.submit(_finished, action)

    def finish(self) -> None:
        """Wait until all is done. Raises what the last thing raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


def _finished(action: Callable[[], object]) -> None:
    with signals.finishing():
        action()
