"""Who is told the numbers of a run while it trains.

Numbers are of what is stored: the folder is looked at between two batches of the training, in whatever process it goes on. Listeners
and what they are told cost a tenth of the time at most, and what a listener raises ends no run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import shown
from ncsim.errors import ConfigError, StoreError, one_line
from ncsim.results import Run, open_run
from ncsim.statistics.cell import Cell
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.until import NUMBERS, whole_names
from ncsim.storage.files import open_storage
from ncsim.terminal import ProgressListener, say

#: Seconds between two looks at a folder, at least, and how many times as long as the last look took.
FEWEST_SECONDS, REST = 5.0, 9.0


class RunListener:
    """Told the numbers of a run: `ncsim.run_ensemble(..., listeners=[LISTENER])`. A listener of one's own has the methods that it
    needs; the others do nothing. What it raises ends no run.

    Example:
        >>> import ncsim
        >>> class Printing(ncsim.RunListener):
        ...     def began(self, configs, location):
        ...         super().began(configs, location)
        ...         print(len(configs), "cells")
        ...
        ...     def progressed(self, cell, members, numbers):
        ...         super().progressed(cell, members, numbers)
        ...         print(cell, members, len(numbers), numbers["mean S, single shot"].level)
        ...
        ...     def ended(self, status):
        ...         super().ended(status)
        ...         print(status)
        >>> grid = ncsim.config_grid(learning_rate=[0.01, 0.02], members=50, steps=5)
        >>> run = ncsim.run_ensemble(grid, listeners=[Printing()])
        2 cells
        0 50 21 0.95
        1 50 21 0.95
        finished
    """

    def began(self, configs: Sequence[EnsembleConfig], location: str | None) -> None:
        """A run begins, or goes on.

        Args:
            configs: of its cells.
            location: its folder or address; None in memory.
        """

    def progressed(self, cell: int, members: int, numbers: Mapping[str, Estimate]) -> None:
        """More members of a cell are there; of a run in memory all of them, at its end.

        Args:
            cell: its number in `configs`.
            members: that are there.
            numbers: of all of them, by the names that `--until` has for them. Empty where no network is left.
        """

    def ended(self, status: str) -> None:
        """The last that is told.

        Args:
            status: "finished", "failed" or "stopped".
        """


def checked_listeners(listeners: Any) -> list[RunListener]:
    """Listeners that can be told.

    Raises:
        ConfigError: one is none.
    """
    found = list(listeners) if isinstance(listeners, Sequence) and not isinstance(listeners, str) else [listeners]
    for each in found:
        if not isinstance(each, RunListener):
            raise ConfigError(f"listeners: {shown(each)}; allowed: a list of objects of ncsim.RunListener")
    return found


def numbers_of(cell: Cell) -> dict[str, Estimate]:
    """What listeners are told of a cell."""
    return {name: NUMBERS[name](cell) for name in whole_names()} if cell.networks else {}


@contextlib.contextmanager
def listening(
    listeners: Sequence[RunListener],
    configs: Sequence[EnsembleConfig],
    out: str | None,
    progress: ProgressListener | None,
) -> Iterator[Listening]:
    """Tell listeners that a run begins, what `Listening` sees, and how it ends."""
    told = Listening(listeners, out, progress)
    told.tell("began", tuple(configs), out)
    status = "failed"
    try:
        yield told
        status = "finished"
    except Exception:
        raise
    except BaseException:
        status = "stopped"
        raise
    finally:
        told.tell("ended", status)


class Listening:
    """Listens to the progress of a training, and tells listeners of a run in turn what its folder holds by then."""

    def __init__(self, listeners: Sequence[RunListener], out: str | None, progress: ProgressListener | None) -> None:
        self._listeners, self._out, self._progress = list(listeners), out, progress
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
        found = run._cell(cell)
        if found.size and found.size != self._members.get(cell):
            self._members[cell] = found.size
            self.tell("progressed", cell, found.size, numbers_of(found))
