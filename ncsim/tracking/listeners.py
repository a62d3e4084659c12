"""Who is told the numbers of a run while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import shown
from ncsim.errors import ConfigError
from ncsim.statistics.intervals import Estimate


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
        >>> grid = ncsim.config_grid(learning_rate=[0.01, 0.02], hidden=2, members=20, steps=5)
        >>> run = ncsim.run_ensemble(grid, executor="xla", listeners=[Printing()])
        2 cells
        0 20 21 0.95
        1 20 21 0.95
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
