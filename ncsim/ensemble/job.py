"""What one call asks for, and its parts: trained, stored and recorded, by this process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from ncsim import signals
from ncsim.cluster.shards import Shard
from ncsim.cluster.tasks import checked_pool
from ncsim.config.ensemble import (
    EXECUTORS,
    EnsembleConfig,
    fingerprint,
    network_steps,
    program_of,
    refusal,
    swept_fields,
)
from ncsim.config.fields import shown
from ncsim.config.given import all_configs
from ncsim.config.recording import Recording
from ncsim.config.tasks import Tasks
from ncsim.ensemble.trainer import trainer
from ncsim.ensemble.work import Work
from ncsim.errors import ConfigError, StoreError
from ncsim.executors.devices import arithmetic_settings, checked_device_count, device_description, prepare_jax
from ncsim.forks import check_not_forked
from ncsim.machine import check_system
from ncsim.records.members import MemberRecords, joined
from ncsim.storage.environment import recorded_executors, trained_as_recorded
from ncsim.storage.run_folder import ConfiguredFolder, RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.writer import Background
from ncsim.terminal import ProgressListener

Folder = TypeVar("Folder", bound=ConfiguredFolder[Any])


@dataclasses.dataclass(frozen=True)
class Job:
    """What one call of `run_ensemble` asks for, under the names of its arguments; and the records of the first members of each
    cell, where they are `held` already."""

    configs: list[EnsembleConfig]
    devices: int | None
    progress: ProgressListener | None
    executor: str
    recording: Recording | None
    out: str | os.PathLike[str] | None = None
    resume: bool = True
    shard: Shard | None = None
    held: Sequence[MemberRecords] = ()

    def check(self, check_tasks: Callable[[Tasks], object]) -> None:
        """Refuse what can be refused without a device and before a folder is made; `check_tasks` raises for tasks of another kind."""
        check_system()
        for config in all_configs(self.configs):
            check_tasks(config.tasks)
            problem = refusal(config)  # a config that was read from a run folder may have one
            if problem is not None:
                raise ConfigError(problem)
        swept_fields(self.configs)
        if self.executor not in EXECUTORS:
            raise ConfigError(f"--executor: {self.executor}; allowed: {', '.join(EXECUTORS)}")
        if not isinstance(self.resume, bool):
            raise ConfigError(f"resume: {shown(self.resume)}; allowed: True or False")

    def check_place(self) -> None:
        """Refuse a shard of a run that has no folder."""
        if self.out is None and self.shard is not None:
            raise ConfigError("--shard: needs a run folder that the shards have in common; allowed: with out=FOLDER")

    def check_pool(self, pool: Executor | str | None) -> None:
        """Refuse what no pool can train, and what takes no tasks. Without one also optimisers; else a first task asks for them, as that
        needs JAX."""
        if pool is None:
            from ncsim.training.optimizers import validate_optimizers

            prepare_jax(checked_device_count(self.devices))  # some options are tried
            validate_optimizers(self.configs)
            return
        if self.out is None or self.shard is not None:
            raise ConfigError(
                "pool: needs a run folder, and shares out all of it; allowed: with out=FOLDER, without shard"
            )
        if not isinstance(pool, str):
            checked_pool(pool)

    def check_executor(self) -> None:
        """Refuse what an executor that was asked for cannot train, before a folder is made."""
        if self.recorded_executors() is None and self.executor in ("cuda", "pallas", "native"):
            self.executors()

    def executors(self) -> list[str]:
        """The executor of each cell: the one that a stored run began with, else what is asked for on these devices."""
        check_not_forked()
        return self.recorded_executors() or trainer(self.devices).executors(self.configs, self.executor)

    def recorded_executors(self) -> list[str] | None:
        """The executor that each cell of a stored run began with; None for a new run.

        Raises:
            ConfigError: another one is asked for.
        """
        begun = None if self.out is None else recorded_executors(self.out, self.configs)
        if begun is None:
            return None
        if self.executor != "auto" and set(begun) != {self.executor}:
            words = " and ".join(sorted(set(begun)))
            raise ConfigError(
                f"--executor: {self.executor}; {self.out} was begun with {words}, and members differ between the two; "
                f"allowed: {words + ', ' if len(set(begun)) == 1 else ''}auto, or a new folder"
            )
        return begun

    def environment(self) -> dict[str, Any]:
        """What config.json says of a new run's devices and executors."""
        by_cell = {fingerprint(config): name for config, name in zip(self.configs, self.executors(), strict=True)}
        return {"device": device_description(self.devices), "executor": by_cell} | arithmetic_settings()

    def steps(self, work: Sequence[Work]) -> int:
        """Network-steps of these parts."""
        return sum(len(ids) * network_steps(self.configs[cell]) for cell, ids in work)

    def complete_folder(self, kind: type[Folder]) -> Folder | None:
        """The folder that is asked for, if it holds all of this run, and all that is to be recorded of it: it may be one that cannot
        be written to."""
        assert self.out is not None
        try:
            folder = kind.open(self.out)
            trajectories = TrajectoryFolder(folder)
            recording = trajectories.recording()
            complete = (
                self.resume
                and set(folder.configs) == set(self.configs)  # in whatever order the run was begun with
                and not any(folder.missing(config) for config in self.configs)
                and self.recording in (None, recording)
                and (recording is None or not any(trajectories.missing(config) for config in self.configs))
            )
        except (StoreError, OSError):
            return None
        return folder if complete else None

    # -- parts --------------------------------------------------------------------------------------------------

    def store(self, folder: ConfiguredFolder[Any], work: Sequence[Work], writing: Background) -> None:
        """Train and store these parts, recorded along training where the job records: then no trajectories are there of their members
        (`TrajectoryFolder.discard`) but those that such a call had begun, which are written again."""
        for (cell, ids), batches in self.trained(work):
            config = self.configs[cell]
            if self.recording is not None:
                batches = TrajectoryFolder(folder).stored(config, self.recording, batches, writing, ids)
            # Trajectories come first: members that no part holds have none that counts.
            writing.do(functools.partial(folder.write_part, config, joined(list(batches))))
        writing.finish()

    def record(self, folder: RunFolder, work: Sequence[Work], writing: Background) -> None:
        """Train members that were stored without trajectories once more, to record them."""
        assert self.recording is not None
        trajectories = TrajectoryFolder(folder)
        parts = {cell: folder.parts(self.configs[cell], ids) for cell, ids in _spans(work).items()}
        for (cell, _), batches in self.trained(work):
            again = trajectories.agreeing(self.configs[cell], parts[cell], batches)
            for _ in trajectories.stored(self.configs[cell], self.recording, again, writing):
                pass
        writing.finish()

    def trained(self, work: Sequence[Work]) -> Iterator[tuple[Work, Iterator[Any]]]:
        """Each part with its results in batches, which are trained as they are asked for: `MemberRecords`, or pairs of them
        and `MemberTrajectories` where the job records. Without parts no device starts."""
        if not work:
            return
        check_not_forked()
        feeder, progress = trainer(self.devices), self.progress
        executors = self.executors()
        if progress is not None:
            left = [(cell, self._beside_held(cell, ids)[1]) for cell, ids in work]
            progress.start(sum(len(ids) for _, ids in left), self.steps(left))
        try:
            with signals.deferred():
                for together in self._together(work, executors):
                    beside = [self._beside_held(cell, ids) for cell, ids in together]
                    pieces = [(self.configs[cell], rest) for (cell, _), (_, rest) in zip(together, beside, strict=True)]
                    name = executors[together[0][0]]
                    if self.recording is None:
                        results: Any = feeder.train(pieces, progress, name)
                    else:
                        results = feeder.train_recorded(pieces, progress, name, self.recording)
                    with contextlib.closing(self._told(results)) as results:
                        for part, (known, rest) in zip(together, beside, strict=True):
                            yield part, itertools.chain(known, _of(rest, results))
                        next(results, None)  # there are none; it ends
        finally:
            if progress is not None:
                progress.close()

    def _told(self, results: Iterator[Any]) -> Generator[Any, None, None]:
        """The results; a folder's run is told by what it was begun."""
        with trained_as_recorded(self.out):
            yield from results

    def _together(self, work: Sequence[Work], executors: Sequence[str]) -> list[list[Work]]:
        """The parts in runs that follow one another on the devices: of one program, so that nothing is compiled between them."""

        def program(part: Work) -> tuple[Any, ...]:
            config = self.configs[part[0]]
            return executors[part[0]], config.members, config.steps, program_of(config)

        return [list(parts) for _, parts in itertools.groupby(work, program)]

    def _beside_held(self, cell: int, ids: range) -> tuple[list[MemberRecords], range]:
        """The records that are held of some members, and the ids that are left. What is to be recorded is trained again."""
        held, first = self.held[cell] if self.held else None, self.configs[cell].first_member
        if held is None or self.recording is not None or ids.start >= first + held.size:
            return [], ids
        left = range(min(first + held.size, ids.stop), ids.stop)
        return [held.take(slice(ids.start - first, left.start - first))], left


def _spans(work: Sequence[Work]) -> dict[int, range]:
    """By cell, the ids from the first to the last of these parts."""
    found: dict[int, range] = {}
    for cell, ids in work:
        known = found.get(cell, ids)
        found[cell] = range(min(known.start, ids.start), max(known.stop, ids.stop))
    return found


def _of(ids: range, results: Iterator[Any]) -> Iterator[Any]:
    """The batches of these members, which come next."""
    done = ids.start
    while done < ids.stop:
        batch = next(results)
        records = batch[0] if isinstance(batch[0], MemberRecords) else batch
        done += records.size
        yield batch
