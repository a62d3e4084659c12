"""A run whose parts are trained by the tasks of an executor (`concurrent.futures`): other processes, on other machines.

A task opens the folder, trains its part and stores it. Nothing passes between it and the driver but names and words. The
driver holds the folder and starts no device: a first task says what trains there and on what kind of machine. It shows one
progress for all, and hands out again what is lost with a process or a machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar

from ncsim.cluster.tasks import Task, answer, check_kind, first_task, hand_out, place_for_tasks, results
from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import named_values
from ncsim.config.recording import Recording
from ncsim.ensemble.job import Job
from ncsim.ensemble.kinds import for_record, kind_here, say_differences, with_processor
from ncsim.ensemble.work import Work, missing_parts, working_on
from ncsim.records.members import MemberRecords, concatenated
from ncsim.results import Run
from ncsim.storage.run_folder import ConfiguredFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.writer import Background

# ------------------------------------------------------------------------------------------------------- in the workers


class Order(NamedTuple):
    """What every task of a run is told."""

    location: str
    executor: str
    devices: int | None
    recording: Recording | None
    kind: dict[str, Any]
    folder: type[ConfiguredFolder[Any]]


def begin(job: Job) -> tuple[str, Any]:
    """What trains where a task runs, by cell, and its kind of machine; or an error, as `answer` gives it."""

    def look() -> dict[str, Any]:
        _prepare(job.devices)
        from ncsim.training.observation import OBSERVED
        from ncsim.training.optimizers import validate_optimizers

        validate_optimizers(job.configs)
        return {"environment": job.environment(), "kind": _kind(job.devices), "observed": OBSERVED}

    return answer(look)


#: A part as a task is told of it: its cell, which the folder may have at another place of its grid than the driver, and its members.
OfCell = tuple[EnsembleConfig, range]


def train(order: Order, work: Sequence[OfCell], again: bool) -> tuple[str, Any]:
    """Train parts and store them, unless they are there: those of members, or those of trajectories of members that are
    trained again. An error is given as by `answer`, since not every engine brings exceptions home."""
    return answer(functools.partial(_train, order, work, again))


def _train(order: Order, work: Sequence[OfCell], again: bool) -> None:
    _prepare(order.devices)
    check_kind(_kind(order.devices), order.kind)
    folder = order.folder.open(order.location)
    parts: Any = TrajectoryFolder(folder) if again else folder
    for config, ids in work:
        if not folder.storage.exists(parts.part(config, ids.start, len(ids))):
            job = Job([config], order.devices, None, order.executor, order.recording, order.location)
            store: Any = job.record if again else job.store
            with Background() as writing:
                store(folder, [(0, ids)], writing)


def look(job: Job) -> tuple[str, Any]:
    """The records of all members of a job's one cell, which are not stored. An error is given as by `answer`."""

    def train() -> MemberRecords:
        _prepare(job.devices)
        trained = job.trained([(0, job.configs[0].member_ids)])
        return concatenated([batch for _, batches in trained for batch in batches])

    return answer(train)


@functools.cache
def _prepare(devices: int | None) -> None:
    """One core a task, unless more are asked for; on accelerators all that the engine lets the task see."""
    from ncsim.executors.devices import devices_to_use, prepare_jax

    prepare_jax(devices or 1)
    with contextlib.suppress(RuntimeError):  # a plug-in that is broken is named when it is used
        import jax

        jax.local_devices()
    devices_to_use(devices)


@functools.cache
def _kind(devices: int | None) -> dict[str, Any]:
    return with_processor(kind_here(devices))


# ------------------------------------------------------------------------------------------------------- in the driver


Folder = TypeVar("Folder", bound=ConfiguredFolder[Any])


def store_by(pool: Executor, job: Job, kind: type[Folder]) -> Folder:
    """Have the parts that a folder, of an ensemble or of a scenario, lacks trained by a pool.

    Raises:
        ConfigError, StoreError, DeviceError: as `ncsim.run_ensemble`, in the words of a task where one could not train.
    """
    assert job.out is not None
    there = dataclasses.replace(job, progress=None, out=place_for_tasks(pool, job.out), held=())
    first = functools.cache(lambda: first_task(pool, begin, there))
    if job.recorded_executors() is None:
        first()  # what cannot be trained there is refused before a folder is made
    folder = kind.create(job.out, job.configs, job.resume, lambda: first()["environment"])
    trajectories: Any = None if kind.of_scenarios else TrajectoryFolder(folder)
    recording = None if trajectories is None else job.recording or trajectories.recording()
    with working_on(folder, None):
        for again in (False, True) if recording else (False,):
            missing = missing_parts(trajectories if again else folder, recording if again else None, None)
            if not missing:
                continue
            say_differences(folder, for_record(first()["kind"]))
            if recording is not None:
                trajectories.check(recording, tuple(first()["observed"]))
                if not again:
                    trajectories.discard(missing)
            order = Order(str(there.out), job.executor, job.devices, recording, first()["kind"], kind)
            _hand_out(pool, job, order, missing, again)
    return folder


def look_by(pool: Executor, job: Job) -> Run:
    """Have all members of a job trained by a pool, one cell per task, and keep them in memory. Raises as `store_by`."""
    out = None if job.out is None else place_for_tasks(pool, job.out)
    cells = [dataclasses.replace(job, configs=[config], progress=None, out=out) for config in job.configs]
    tasks = [Task(f"a look at cell {number}", look, (cell,)) for number, cell in enumerate(cells)]
    found = {task.words: records for task, records in results(pool, tasks, job.progress)}
    return Run(job.configs, [found[task.words] for task in tasks])


def _hand_out(pool: Executor, job: Job, order: Order, missing: Sequence[Work], again: bool) -> None:
    """Have parts trained, several per task where the pool wants it."""
    together = getattr(pool, "parts_a_task", 1)
    tasks = (
        Task(
            _words(job, work),
            train,
            (order, _of_cells(job, work), again),
            sum(len(ids) for _, ids in work),
            job.steps(work),
        )
        for work in (missing[at : at + together] for at in range(0, len(missing), together))
    )
    hand_out(pool, tasks, sum(len(ids) for _, ids in missing), job.steps(missing), job.progress)


def _of_cells(job: Job, work: Sequence[Work]) -> list[OfCell]:
    return [(job.configs[cell], ids) for cell, ids in work]


def _words(job: Job, work: Sequence[Work]) -> str:
    """Parts in words: the first of them and, of a grid, its cell."""
    cell, ids = work[0]
    where = named_values({name: getattr(job.configs[cell], name) for name in swept_fields(job.configs)})
    return ", ".join(filter(None, [f"members {ids.start:,} to {ids.stop - 1:,}", where]))
