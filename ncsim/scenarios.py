"""Runs of scenarios as users hold them: what was trained, in memory or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.exports import package
from ncsim.records.members import joined
from ncsim.records.scenarios import ScenarioRecords
from ncsim.storage.environment import recorded_executors
from ncsim.storage.files import LocalStorage
from ncsim.storage.scenario_folder import ScenarioFolder, flat_table


class ScenarioRun:
    """What `ncsim.run_scenario` and `ncsim.open_scenario` give: records of one config, or of every cell of a grid.

    A member is a network per context, as in arXiv:2603.04451, section 4.2.

    Attributes:
        configs: the cells.
        swept: the fields in which they differ.
        location: where it is stored; None in memory.

    Example:
        >>> import ncsim
        >>> config = ncsim.EnsembleConfig(hidden=2, members=20, steps=30, tasks=ncsim.chained_tasks(3))
        >>> run = ncsim.run_scenario(config, executor="xla")
        >>> run.counts.shape, run.configs[0].tasks.context_names[:2]
        ((20, 6, 2, 2), ('12', '13'))
        >>> int(run.counts[0, 0].sum()), run.records().size, run.missing()  # 16 rows
        (16, 20, 0)
        >>> run.executors, run.path, [batch.take(slice(0, 5)).size for batch in run.batches()]
        (['xla'], None, [5])
        >>> run.to_pandas()[["member", "counts_12_11", "loss_12"]].shape
        (20, 3)
    """

    def __init__(
        self,
        configs: Sequence[EnsembleConfig],
        source: ScenarioFolder | Sequence[ScenarioRecords],
        executors: Sequence[str] | None = None,
    ) -> None:
        self.configs = tuple(configs)
        self.swept = swept_fields(self.configs)
        self._source = source
        self.storage = source.storage if isinstance(source, ScenarioFolder) else None
        self.location = source.location if isinstance(source, ScenarioFolder) else None
        self._executors = executors

    @property
    def path(self) -> Path | None:
        """The folder on this machine; None in memory or in an object store."""
        return self.storage.root if isinstance(self.storage, LocalStorage) else None

    @property
    def executors(self) -> Sequence[str] | None:
        """The executor of each cell; None where there is no record."""
        return self._executors if self.location is None else recorded_executors(self.location, self.configs)

    def batches(self, cell: int = 0) -> Iterator[ScenarioRecords]:
        """The records of a cell part by part, in the order of member ids.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign.
        """
        if isinstance(self._source, ScenarioFolder):
            yield from self._source.read(self.configs[cell])
        else:
            yield self._source[cell]

    def records(self, cell: int = 0) -> ScenarioRecords:
        """All records of a cell.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign, or nothing is stored yet.
        """
        found = list(self.batches(cell))
        return joined(found) if found else empty(self.configs[cell])

    def to_pandas(self) -> Any:
        """A pandas DataFrame, a row per member of every cell: the swept fields, `member`, and the columns of the stored parts, as `counts_12_01`,
        `loss_12`, `margin_12`, `diverged_12` and `undecided_12_A`.

        Raises:
            ConfigError: pandas is not installed.
            StoreError: a part is torn or foreign.
        """
        package("pandas", "to_pandas")
        return flat_table([(config, self.records(n)) for n, config in enumerate(self.configs)], self.swept).to_pandas()

    @property
    def counts(self) -> np.ndarray:
        """Joint counts of the first cell, int32[M, contexts, 2, ..., 2], an axis of outcomes per party."""
        return self.records().joint

    def missing(self) -> int:
        """Members that are asked for and not stored, over all cells."""
        if not isinstance(self._source, ScenarioFolder):
            return 0
        return sum(len(gap) for config in self.configs for gap in self._source.missing(config))


def empty(config: EnsembleConfig) -> ScenarioRecords:
    """Records of no member."""
    shape = (0, len(config.tasks.contexts))
    flat, heads = np.zeros(shape, np.float32), np.zeros((*shape, config.tasks.parties), np.int32)
    counts = np.zeros((*shape, 2**config.tasks.parties), np.int32)
    return ScenarioRecords(np.zeros(0, np.uint64), counts, flat, flat, flat > 0, heads)


def open_scenario(path: str | os.PathLike[str]) -> ScenarioRun:
    """The run of a scenario that is stored in a folder, or in an object store.

    Args:
        path: the run folder, or its address.

    Returns:
        The run, of which nothing is read yet; contexts are as in arXiv:2603.04451, section 4.2.

    Raises:
        StoreError: no run of a scenario is there.

    Example:
        >>> import ncsim
        >>> config = ncsim.EnsembleConfig(hidden=1, members=20, steps=10, tasks=ncsim.chained_tasks(3))
        >>> run = ncsim.run_scenario(config, "memory://chained", executor="xla")
        >>> bool((open_scenario("memory://chained").counts == run.counts).all())
        True
    """
    folder = ScenarioFolder.open(path)
    return ScenarioRun(folder.configs, folder)
