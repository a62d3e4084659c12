"""Listeners of a run are told its numbers while it trains.

Numbers are of what is stored: the folder is looked at between two batches of the training, in whatever process it goes on. Listeners
and what they are told cost a tenth of the time at most, and what a listener raises ends no run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ncsim import signals
from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.ensemble.job import Job
from ncsim.errors import StoreError, one_line
from ncsim.results import Run, open_run
from ncsim.statistics.until import numbers_of
from ncsim.storage.files import open_storage
from ncsim.terminal import ProgressListener, say
from ncsim.tracking.listeners import RunListener

#: Seconds between two looks at a folder, at least, and how many times as long as the last look took.
FEWEST_SECONDS, REST = 5.0, 9.0


def listening(listeners: Sequence[RunListener], job: Job, train: Callable[[Job], Run]) -> Run:
    """Train a job, and tell listeners that it begins, what is seen of it on the way, and how it ends. Raises as `train`."""
    if not listeners:
        return train(job)
    out = None if job.out is None else os.fspath(job.out)
    told, status = Listening(listeners, job.configs, out, job.progress), "failed"
    told.tell("began", tuple(job.configs), out)
    try:
        run = train(dataclasses.replace(job, progress=told))
        told.finished(run)
        status = "finished"
        return run
    except (KeyboardInterrupt, signals.Stopped):
        status = "stopped"
        raise
    finally:
        told.tell("ended", status)


class Listening:
    """Listens to the progress of a training, and tells listeners of a run in turn what its folder holds by then."""

    def __init__(
        self,
        listeners: Sequence[RunListener],
        configs: Sequence[EnsembleConfig],
        out: str | None,
        progress: ProgressListener | None,
    ) -> None:
        self._listeners, self._out, self._progress = list(listeners), out, progress
        # A folder has its cells in the order in which its run was begun, which need not be that of this call.
        self._numbers = {fingerprint(config): number for number, config in enumerate(configs)}
        self._parts: list[str] | None = None
        self._members: dict[int, int] = {}
        self._next = time.monotonic() + FEWEST_SECONDS

    def tell(self, method: str, *arguments: Any) -> None:
        """Tell all; who fails is told no more."""
        for listener in list(self._listeners):
            try:
                getattr(listener, method)(*arguments)
            except Exception as error:
                say(f"{type(listener).__name__}: {one_line(error)}; it is told no more of this run, which goes on")
                self._listeners.remove(listener)

    def finished(self, run: Run) -> None:
        """Tell of all that is there at the end."""
        for cell in range(len(run.configs)):
            self._tell_cell(run, cell)

    # -- as a listener of the training ---------------------------------------------------------------------------------

    def start(self, members: int, network_steps: int) -> None:
        if self._progress is not None:
            self._progress.start(members, network_steps)

    def advance(self, members: int, network_steps: int) -> None:
        if self._progress is not None:
            self._progress.advance(members, network_steps)
        if self._out is not None and self._listeners and time.monotonic() >= self._next:
            begun = time.monotonic()
            with contextlib.suppress(StoreError, OSError):  # whoever trains says so
                self._look()
            self._next = time.monotonic() + max(FEWEST_SECONDS, REST * (time.monotonic() - begun))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()

    def _look(self) -> None:
        assert self._out is not None
        now = open_storage(self._out).names("parts")
        if now == self._parts:
            return
        self._parts, run = now, open_run(self._out)
        for cell in range(len(run.configs)):
            self._tell_cell(run, cell)

    def _tell_cell(self, run: Run, cell: int) -> None:
        found, number = run._cell(cell), self._numbers[fingerprint(run.configs[cell])]
        if found.size and found.size != self._members.get(number):
            self._members[number] = found.size
            self.tell("progressed", number, found.size, numbers_of(found))
