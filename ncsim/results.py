"""A run's results as a user holds them, in memory or in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import shown, whole_number
from ncsim.errors import ConfigError, StoreError
from ncsim.exports import CellArrays, data_set, of_records, of_statistics, of_trajectories, package
from ncsim.formatting import counted
from ncsim.records.members import MemberRecords, concatenated
from ncsim.records.trajectories import MemberTrajectories
from ncsim.records.trajectories import concatenated as joined
from ncsim.statistics.cell import Cell
from ncsim.statistics.training_curves import NOT_RECORDED, TrajectoryStatistics, statistics_of, trajectory_statistics
from ncsim.storage.arrow_tables import axis_columns, signed, to_flat_table, to_table
from ncsim.storage.environment import recorded_executors
from ncsim.storage.files import LocalStorage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.summaries import cell_of
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.until_file import read_until


class Run:
    """A run's results, in memory or in a folder: joint counts, records, a table, statistics.

    `run_ensemble` and `open_run` make it.

    Args:
        configs: the cells of the grid.
        source: the run's folder, or the records of each cell.
        trajectories: what was recorded along training of each cell; empty where nothing was.
        executors: what trained each cell of a run in memory; a folder has it on record.
        until: how a run in memory ended that was to be precise; a folder has it on record.

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
        >>> run.executors, run.until
        (['xla', 'xla'], None)
        >>> run.records(cell=1).size, [part.size for part in run.batches(cell=1)]
        (130, [80, 50])
        >>> run.members([129, 3], cell=1).member.tolist()
        [129, 3]
        >>> run.table().num_rows
        260
        >>> run.to_pandas().groupby("learning_rate")["S"].mean().index.tolist()
        [0.01, 0.05]
        >>> run.to_polars().filter(run.to_polars()["S"] > 4).height
        0
        >>> dict(run.to_xarray().training_loss.sizes)
        {'learning_rate': 2, 'member': 130, 'i': 2, 'j': 2}
        >>> sorted(open_run("recorded-run").to_datatree().children)
        ['records', 'statistics', 'trajectories']
        >>> [part.step.tolist() for part in open_run("recorded-run").trajectories()]
        [[0, 20, 40], [0, 20, 40]]
    """

    def __init__(
        self,
        configs: Sequence[EnsembleConfig],
        source: RunFolder | Sequence[MemberRecords],
        trajectories: Sequence[Sequence[MemberTrajectories]] = (),
        executors: Sequence[str] | None = None,
        until: dict[str, Any] | None = None,
    ) -> None:
        self._trajectories = trajectories
        self.configs = tuple(configs)
        self.swept = swept_fields(self.configs)
        self._source = source
        self.storage = source.storage if isinstance(source, RunFolder) else None
        self.location = source.location if isinstance(source, RunFolder) else None
        self.path = self.storage.root if isinstance(self.storage, LocalStorage) else None
        self._executors = executors
        self._until = until

    @property
    def executors(self) -> Sequence[str] | None:
        """The executor of each cell, since members differ between executors; None where there is no record."""
        return self._executors if self.location is None else recorded_executors(self.location, self.configs)

    @property
    def until(self) -> dict[str, Any] | None:
        """Of a run that was to be precise (`until` of `run_ensemble`): what was to be reached, the looks on the way, and once it
        has ended the number of members and whether it `stopped` as "precise" or at the most "members". None of others."""
        return self._until if self.storage is None else read_until(self.storage, self.configs)

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

    def _cell(self, cell: int = 0) -> Cell:
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
            `MemberTrajectories`; `trajectory_statistics` adds them up.

        Raises:
            StoreError: a part is torn or foreign.
        """
        if isinstance(self._source, RunFolder):
            yield from TrajectoryFolder(self._source).read(self.configs[cell])
        elif self._trajectories:
            yield from self._trajectories[cell]

    def trajectory_statistics(self, cell: int = 0, windows: Sequence[tuple[int, int]] = ()) -> TrajectoryStatistics:
        """Statistics along training of a cell's members, as `ncsim.trajectory_statistics` gives them. Of a stored run they are read
        off what its parts add up to, which is kept beside them, and no member is read.

        Args:
            cell: number of the cell in `configs`, from 0.
            windows: first and last step of the windows to give mu_gradS of; the recorded steps nearest to them bound it.

        Raises:
            ValueError: the run was made without a recording, or no stored member has one, or a window lies between two recorded
                steps.
            StoreError: a part is torn or foreign.

        Example:
            >>> run = open_run("recorded-run")  # any run that was recorded along training
            >>> found = run.trajectory_statistics(windows=[(0, 40)])
            >>> found.step.tolist(), found.s.mean.shape, found.slopes[0].last
            ([0, 20, 40], (3,), 40)
        """
        if not isinstance(self._source, RunFolder):
            return trajectory_statistics(self.trajectories(cell), self.configs[cell].tasks.rows, windows)
        found = self._stored_along_training(cell, windows)
        if found is None:
            begun = TrajectoryFolder(self._source).recording() is not None
            raise ValueError(
                f"{self.location}: no member that is stored has a recording; resume the run" if begun else NOT_RECORDED
            )
        return found[0]

    def _unrecorded(self, known: Mapping[int, int]) -> int:
        """How many members are stored and still to be recorded, of a run that records; `known`: of some cells by number, as
        `_along_training` gives it. Raises StoreError as `complete`."""
        left = [config for cell, config in enumerate(self.configs) if cell not in known]
        more = TrajectoryFolder(self._source).without(left) if left and isinstance(self._source, RunFolder) else 0
        return sum(known.values()) + more

    def _along_training(self, cell: int = 0) -> tuple[TrajectoryStatistics, int] | None:
        """The same with mu_gradS over the whole recording, and how many members have none; None where nothing was recorded. Raises as
        it does."""
        windows = [(0, self.configs[cell].steps)]
        if isinstance(self._source, RunFolder):
            return self._stored_along_training(cell, windows)
        return (self.trajectory_statistics(cell, windows), 0) if self._trajectories else None

    def _stored_along_training(
        self, cell: int, windows: Sequence[tuple[int, int]]
    ) -> tuple[TrajectoryStatistics, int] | None:
        assert isinstance(self._source, RunFolder)
        found = TrajectoryFolder(self._source).tally(self.configs[cell], windows)
        return None if found is None else (statistics_of(found.tally, windows), found.without)

    def records(self, cell: int = 0) -> MemberRecords:
        """All records of one cell, in the order of member ids.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign.
        """
        return concatenated(list(self.batches(cell)))

    def members(self, ids: Sequence[int], cell: int = 0) -> MemberRecords:
        """The records of some members, in the order in which they are asked for; only the parts that hold them are read.

        Args:
            ids: ids of members, each at most once.
            cell: number of the cell in `configs`, from 0.

        Raises:
            ConfigError: a member or a cell is not there, or an id is given twice.
            StoreError: a part is torn or foreign.
        """
        if whole_number(cell) is None or not 0 <= cell < len(self.configs):
            raise ConfigError(f"cell: {shown(cell)}; allowed: a whole number from 0 to {len(self.configs) - 1}")
        wanted = list(map(whole_number, ids))
        if not wanted or None in wanted or len(set(wanted)) != len(wanted):
            raise ConfigError(f"members: {shown(list(ids))}; allowed: ids of members, one or more, each once")
        config, found = self.configs[cell], []
        if isinstance(self._source, RunFolder):
            parts = self._source.parts(config)
            holding = [part for part in parts if any(number in part.ids for number in wanted)]
            found = [self._source.read_part(config, part.name) for part in holding]
        else:
            found = [self._source[cell]]
        records = concatenated(found)
        place = {int(member): row for row, member in enumerate(records.member)}
        for number in wanted:
            if number not in place:
                last = config.member_ids[-1]
                raise ConfigError(
                    f"members: {number} is not stored; allowed: what is, of {config.first_member} to {last}"
                )
        return records.take(np.array([place[number] for number in wanted if number is not None]))

    def missing(self) -> int:
        """Members, over all cells, that are still to be trained."""
        if isinstance(self._source, RunFolder):
            return sum(len(gap) for config in self.configs for gap in self._source.missing(config))
        return 0

    @property
    def counts(self) -> np.ndarray:
        """Joint counts, int32[members, 2, 2, 2, 2]; for a grid [cells, members, 2, 2, 2, 2].

        Raises:
            StoreError: cells hold different members, because the run is not complete.
        """
        cells = [self.records(cell) for cell in range(len(self.configs))]
        if not all(np.array_equal(cell.member, cells[0].member) for cell in cells):
            raise StoreError(f"{self.location}: cells hold different members; resume the run, or use records(cell)")
        return np.stack([cell.joint for cell in cells]) if self.swept else cells[0].joint

    def statistics(self) -> Any:
        """`ChshStatistics` of `counts`, per member. A diverged context makes its member's statistics NaN."""
        from ncsim.statistics.chsh import chsh_statistics

        return chsh_statistics(self.counts)

    def table(self) -> pa.Table:
        """All records as a pyarrow table: the swept fields, and a list per member and column in the order of the contexts, signed.
        `to_pandas` and `to_polars` have a column per number, and S. Where `loss` is swept, the final loss is `training_loss`."""
        tables = []
        for config, records in self._stored():
            table = signed(to_table(records))
            if "loss" in self.swept:
                table = table.rename_columns({"loss": "training_loss"})
            for name, values in reversed(axis_columns(config, self.swept, table.num_rows).items()):
                table = table.add_column(0, name, values)
            tables.append(table)
        return pa.concat_tables(tables)

    def _flat_table(self) -> pa.Table:
        return pa.concat_tables([to_flat_table(records, config, self.swept) for config, records in self._stored()])

    def _alike(self, records: MemberRecords) -> MemberRecords:
        """Records with the columns that all cells have together: where some trained on some rows only, each has training counts.
        Those of members that trained on all rows are the counts of all."""
        lacks = records.training_counts is None and any(config.training_rows for config in self.configs)
        return records._replace(training_counts=records.counts) if lacks else records

    def _stored(self) -> list[tuple[EnsembleConfig, MemberRecords]]:
        """The cells that have members; the first where none has."""
        cells = [(config, self._alike(self.records(cell))) for cell, config in enumerate(self.configs)]
        return [cell for cell in cells if cell[1].size] or cells[:1]

    def to_pandas(self) -> Any:
        """A pandas DataFrame, a row per member: the swept fields in their own types, `member`, `S`, `S_factorised`,
        `influence`, `Delta`, `solved_11` and so on, `counts_11_00` and so on, `loss_11`, `margin_11`, `diverged_11`,
        `undecided_alice_11`, `undecided_bob_11`, `decided_product_11`. S and what follows it are NaN where a network diverged.

        Raises:
            ConfigError: pandas is not installed.
            StoreError: a part is torn or foreign.
        """
        package("pandas", "to_pandas")
        return self._flat_table().to_pandas()

    def to_polars(self) -> Any:
        """A polars DataFrame with the columns of `to_pandas`. S and what follows it are null where a network diverged.

        Raises:
            ConfigError: polars is not installed.
            StoreError: a part is torn or foreign.
        """
        return package("polars", "to_polars").from_arrow(self._flat_table())

    def to_xarray(self, incomplete: str = "refuse") -> Any:
        """An xarray Dataset of records and statistics. Its dimensions are the swept fields, `member`, Alice's task `i` and
        Bob's task `j`, both 1 and 2; counts also have the outcomes `a` and `b`, -1 and 1.

        Args:
            incomplete: "refuse" a run with members that are still to be trained, or whose cells are no full grid, or fill it with
                "nan", which makes whole numbers and booleans float64. Members that no cell has are not in it.

        Raises:
            ConfigError: the run is not complete, or xarray is not installed.
            StoreError: a part is torn or foreign.
        """
        return self._data_set(
            lambda records, config: of_records(records, config) | of_statistics(records, config),
            incomplete,
            "to_xarray",
        )

    def to_datatree(self, incomplete: str = "refuse") -> Any:
        """An xarray DataTree, as ArviZ 1 takes it: groups `records`, `statistics` and, of a run that was recorded along
        training, `trajectories`, which have the dimension `step` as well. There `member` is what ArviZ calls a sample dimension.

        Args:
            incomplete: as for `to_xarray`.

        Raises:
            ConfigError: the run is not complete, or xarray is not installed.
            StoreError: a part is torn or foreign.
        """
        xarray = package("xarray", "to_datatree")
        groups = {
            "records": self._data_set(of_records, incomplete, "to_datatree"),
            "statistics": self._data_set(of_statistics, incomplete, "to_datatree"),
        }
        recorded = [list(self.trajectories(cell)) for cell in range(len(self.configs))]
        some = next((parts[0] for parts in recorded if parts), None)
        if some is not None:
            cells = []
            for config, parts in zip(self.configs, recorded, strict=True):
                whole = joined(parts or [some.take(slice(0))])
                own = {"member": whole.member.astype(np.int64), "step": whole.step}
                cells.append(CellArrays(config, of_trajectories(whole), own))
            groups["trajectories"] = data_set(cells, incomplete, "to_datatree")
        return xarray.DataTree.from_dict(groups)

    def _data_set(self, variables: Callable[[MemberRecords, EnsembleConfig], Any], incomplete: str, method: str) -> Any:
        if incomplete == "refuse" and (missing := self.missing()):
            raise ConfigError(
                f"{method}: {counted(missing, 'member is', 'members are')} still to be trained; allowed: incomplete='nan', or a complete run"
            )
        cells = []
        for cell, config in enumerate(self.configs):
            records = self._alike(self.records(cell))
            cells.append(CellArrays(config, variables(records, config), {"member": records.member.astype(np.int64)}))
        return data_set(cells, incomplete, method)


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
