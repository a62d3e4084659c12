"""A run's results as a user holds them, in memory or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.errors import StoreError
from ncsim.records.members import MemberRecords, concatenated
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.cell import Cell
from ncsim.storage.arrow_tables import to_table
from ncsim.storage.files import LocalStorage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.summaries import cell_of
from ncsim.storage.trajectory_folder import TrajectoryFolder


class Run:
    """A run's results, in memory or in a folder: joint counts, records, a table, statistics.

    `run_ensemble` and `open_run` make it.

    Args:
        configs: the cells of the grid.
        source: the run's folder, or the records of each cell.
        trajectories: what was recorded along training of each cell; empty where nothing was.

    Attributes:
        configs: the cells of the grid, one where nothing was swept.
        swept: the names of the fields in which the cells differ.
        location: where it is stored, a path or an address; None for a run in memory.
        path: the folder on this machine; None for a run in memory or in an object store.
        storage: what reads and writes the folder; None for a run in memory.

    Example:
        >>> run = open_run("grid-run")  # the folder of any run; this one has two learning rates and 130 members
        >>> run.swept, run.counts.shape, run.missing()
        (['learning_rate'], (2, 130, 2, 2, 2, 2), 0)
        >>> run.statistics().s.shape
        (2, 130)
        >>> run.records(cell=1).size, [part.size for part in run.batches(cell=1)]
        (130, [80, 50])
        >>> run.table().num_rows
        260
        >>> [part.step.tolist() for part in open_run("recorded-run").trajectories()]
        [[0, 20, 40], [0, 20, 40]]
    """

    def __init__(
        self,
        configs: Sequence[EnsembleConfig],
        source: RunFolder | Sequence[MemberRecords],
        trajectories: Sequence[Sequence[MemberTrajectories]] = (),
    ) -> None:
        self._trajectories = trajectories
        self.configs = tuple(configs)
        self.swept = swept_fields(self.configs)
        self._source = source
        self.storage = source.storage if isinstance(source, RunFolder) else None
        self.location = source.location if isinstance(source, RunFolder) else None
        self.path = self.storage.root if isinstance(self.storage, LocalStorage) else None

    def batches(self, cell: int = 0) -> Iterator[MemberRecords]:
        """The records of a cell part by part, in the order of member ids, however many there are.

        Args:
            cell: number of the cell in `configs`, from 0.

        Yields:
            `MemberRecords`; memory holds one part at a time.

        Raises:
            StoreError: a part is torn or foreign.
        """
        if isinstance(self._source, RunFolder):
            yield from self._source.read(self.configs[cell])
        else:
            yield self._source[cell]

    def cell(self, cell: int = 0) -> Cell:
        """A cell as a report sees it: of a stored run from the summaries of its parts, which are made where they are missing.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign, or records contradict themselves.
        """
        config = self.configs[cell]
        if isinstance(self._source, RunFolder):
            return cell_of([(self._source, config)])
        try:
            return Cell.of_records(self.batches(cell), config.tasks.rows, config.common_initialization)
        except ValueError as error:
            raise StoreError(f"{self.location}: {error}") from None

    def trajectories(self, cell: int = 0) -> Iterator[MemberTrajectories]:
        """What was recorded along training of a cell's members, part by part; nothing where the run does not record.

        Args:
            cell: number of the cell in `configs`, from 0.

        Yields:
            `MemberTrajectories`, as `ncsim.trajectory_statistics` takes them.

        Raises:
            StoreError: a part is torn or foreign.
        """
        if isinstance(self._source, RunFolder):
            yield from TrajectoryFolder(self._source).read(self.configs[cell])
        elif self._trajectories:
            yield from self._trajectories[cell]

    def records(self, cell: int = 0) -> MemberRecords:
        """All records of one cell, in the order of member ids.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign.
        """
        return concatenated(list(self.batches(cell)))

    def missing(self) -> int:
        """Members, over all cells, that are still to be trained."""
        if isinstance(self._source, RunFolder):
            return sum(len(gap) for config in self.configs for gap in self._source.missing(config))
        return 0

    @property
    def counts(self) -> np.ndarray:
        """Joint counts, int32[members, 2, 2, 2, 2]; for a grid [cells, members, 2, 2, 2, 2].

        Raises:
            StoreError: cells hold different numbers of members, because the run is not complete.
        """
        cells = [self.records(cell).joint for cell in range(len(self.configs))]
        if len({len(cell) for cell in cells}) > 1:
            raise StoreError(
                f"{self.location}: cells hold different numbers of members; resume the run, or use records(cell)"
            )
        return np.stack(cells) if self.swept else cells[0]

    def statistics(self) -> Any:
        """`ChshStatistics` of `counts`, per member. A diverged context makes its member's statistics NaN."""
        from ncsim.statistics.chsh import chsh_statistics

        return chsh_statistics(self.counts)

    def table(self) -> pa.Table:
        """All records as a pyarrow table with the swept fields as columns; `.to_pandas()` where pandas is installed."""
        tables = []
        for cell, config in enumerate(self.configs):
            table = to_table(self.records(cell))
            for name in reversed(self.swept):
                table = table.add_column(0, name, pa.array([getattr(config, name)] * table.num_rows))
            tables.append(table)
        return pa.concat_tables(tables)


def open_run(path: str | os.PathLike[str]) -> Run:
    """The run stored in a folder or under an address (s3://, gs://), complete or not (`Run.missing` tells).

    Args:
        path: a run folder on this machine, or an address in an object store.

    Returns:
        The run; its parts are read when they are asked for.

    Raises:
        StoreError: no run is there, or a part of it is torn or foreign.

    Example:
        >>> open_run("grid-run").counts.shape  # the folder of any run
        (2, 130, 2, 2, 2, 2)
    """
    folder = RunFolder.open(path)
    for config in folder.configs:
        folder.parts(config)
    return Run(folder.configs, folder)
