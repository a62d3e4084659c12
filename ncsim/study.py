"""Several stored runs as one study: cells told apart by what differs, members of the same cell added up."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from ncsim.config.ensemble import EnsembleConfig, field_specs, fingerprint, from_dict, to_dict
from ncsim.config.tasks import Tasks
from ncsim.errors import StoreError, reason
from ncsim.statistics.cell import Cell
from ncsim.statistics.training_curves import TrajectoryStatistics, statistics_of
from ncsim.storage.config_file import CONFIG
from ncsim.storage.files import LocalStorage, Storage, open_storage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.summaries import cell_of
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.terminal import say


class Study:
    """Several run folders as one, for reports. Where two have the same cell, its members are those of both.

    Args:
        paths: run folders on this machine, or addresses in an object store, two or more.
        out: a folder for the report, which holds no run; None for none.

    Attributes:
        configs: the cells of all, each once; `members` is how many ids all the runs together ask for.
        swept: the names of the fields in which the cells differ.
        location: `out`.
        locations: of the runs.
        tasks: what the tasks of each run are called here, by its location.
        storage: what writes to `out`; None without it.

    Raises:
        StoreError: a run is not there or is there twice, or two have members in common; `out` holds a run, or cannot be written to.

    Example:
        >>> study = Study(["grid-run", "recorded-run"])  # the folders of any runs
        >>> len(study.configs), "learning_rate" in study.swept
        (3, True)
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> None:
        folders = [RunFolder.open(path) for path in paths]
        self.locations = [folder.location for folder in folders]
        _check_different([folder.storage for folder in folders])
        self._folders = folders
        self._sources: dict[str, list[tuple[RunFolder, EnsembleConfig]]] = {}
        for folder in folders:
            for config in folder.configs:
                self._sources.setdefault(fingerprint(config), []).append((folder, config))
        self.configs = tuple(_joined([config for _, config in sources]) for sources in self._sources.values())
        apart = [name for name in field_specs() if name not in ("members", "first_member")]
        self.swept = [name for name in apart if len({getattr(config, name) for config in self.configs}) > 1]
        self._task_names = _told_apart(config.tasks for config in self.configs)
        self.tasks = {folder.location: self._task_names[folder.configs[0].tasks] for folder in folders}
        self.storage: Storage | None = None if out is None else open_storage(out)
        self.location = None if self.storage is None else self.storage.location
        if self.storage is not None:
            _make(self.storage)
        self.path = self.storage.root if isinstance(self.storage, LocalStorage) else None

    def _cell(self, cell: int = 0) -> Cell:
        """A cell of the study as a report sees it.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign, or two runs have the same members of the cell.
        """
        return cell_of(self._sources[fingerprint(self.configs[cell])])

    def _along_training(self, cell: int = 0) -> tuple[TrajectoryStatistics, int] | None:
        """What was recorded of a cell along training, of the members of all runs that recorded them, with mu_gradS over all of it,
        and how many members have none; None where none did, or not all at the same steps, which is then said in one line. One line
        says how many members have none, where others do.

        Args:
            cell: number of the cell in `configs`, from 0.

        Raises:
            StoreError: a part is torn or foreign.
        """
        config = self.configs[cell]
        windows = [(0, config.steps)]
        found = {
            folder.location: TrajectoryFolder(folder).tally(own, windows)
            for folder, own in self._sources[fingerprint(config)]
        }
        tallies = {location: tally for location, tally in found.items() if tally is not None}
        if not tallies:
            return None
        (first, (total, without)), *others = tallies.items()
        for location, recorded in others:
            without += recorded.without
            try:
                total.merge(recorded.tally)
            except ValueError:
                what = json.dumps(cell_values(self, cell)) if self.swept else "members"
                say(f"{first} and {location} recorded {what} differently, so the report says nothing of that training")
                return None
        if len(tallies) < len(found):
            without += self._say_without(cell, found.keys() - tallies.keys())
        return statistics_of(total, windows), without

    def _say_without(self, cell: int, locations: Collection[str]) -> int:
        """Say in one line how many members of a cell the runs there have, which recorded none of them, and give it. Others speak for
        themselves (`TrajectoryFolder.tally`)."""
        held = {
            folder.location: sum(part.members for part in folder.parts(own))
            for folder, own in self._sources[fingerprint(self.configs[cell])]
        }
        without = {location: members for location, members in held.items() if members and location in locations}
        if without:
            of = f" of {json.dumps(cell_values(self, cell))}" if self.swept else ""
            say(
                f"{', '.join(without)}: {sum(without.values()):,} of {sum(held.values()):,} members{of} have no recording, and what is "
                "said of training is of the others"
            )
        return sum(without.values())


def _check_different(storages: Sequence[Storage]) -> None:
    """Raise StoreError where a folder is there twice, by whatever path."""
    seen = set()
    for storage in storages:
        place = os.path.realpath(storage.root) if isinstance(storage, LocalStorage) else storage.location
        if place in seen:
            raise StoreError(f"{storage.location}: is there twice; allowed: each folder once")
        seen.add(place)


def _make(storage: Storage) -> None:
    """Make the folder of a report. Raises StoreError where it holds a run, or cannot be written to."""
    try:
        if storage.exists(CONFIG):
            raise StoreError(f"--out: {storage.location} holds a run; allowed: another folder")
        storage.prepare()
    except OSError as error:
        raise StoreError(
            f"--out: {storage.location} cannot be written to ({reason(error)}); allowed: a folder that can"
        ) from None


def _joined(configs: Sequence[EnsembleConfig]) -> EnsembleConfig:
    """One cell of the same cell in several folders. Ids that two of them ask for, as shards in folders of their own do, are asked
    for once."""
    members, beyond = 0, 0
    for ids in sorted((config.member_ids for config in configs), key=lambda ids: ids.start):
        members += max(ids.stop - max(ids.start, beyond), 0)
        beyond = max(beyond, ids.stop)
    first = min(config.first_member for config in configs)
    # As `from_dict` reads it: the runs are stored, and may be of options that no new run may have together.
    return from_dict(to_dict(configs[0]) | {"members": members, "first_member": first})


def _told_apart(every: Iterable[Tasks]) -> dict[Tasks, str]:
    """A name for each of some tasks, no two the same: its own, and a number behind it where tasks before it have that name, as the
    default name "custom"."""
    distinct = dict.fromkeys(every)
    own = {tasks.name for tasks in distinct}
    names: dict[str, Tasks] = {}
    for tasks in distinct:
        name, number = tasks.name, 1
        while name in names or (number > 1 and name in own):  # "custom 2" may be the own name of others
            number += 1
            name = f"{tasks.name} {number}"
        names[name] = tasks
    return {tasks: name for name, tasks in names.items()}


class Cells(Protocol):
    """A run or a study, as far as it is cells."""

    configs: tuple[EnsembleConfig, ...]
    swept: list[str]


def cell_values(run: Cells, cell: int, fields: Sequence[str] | None = None) -> dict[str, Any]:
    """The values that tell a cell apart, as JSON holds them; tasks by a name that no other tasks of the study have.

    Args:
        run: a run, whose cells have the same tasks, or a study.
        cell: number of the cell in its `configs`, from 0.
        fields: names of fields; all that are swept where not given.
    """
    values = {name: getattr(run.configs[cell], name) for name in (run.swept if fields is None else fields)}
    names = run._task_names if isinstance(run, Study) else {}
    return {name: names[value] if isinstance(value, Tasks) else value for name, value in values.items()}
