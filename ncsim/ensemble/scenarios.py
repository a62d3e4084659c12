"""The run of a scenario: more than two tasks per party, or more than two parties, trained in memory or into a run folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Executor

from ncsim.cluster.ray_pool import ray_pool
from ncsim.cluster.shards import Shard
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.given import all_configs
from ncsim.config.scenarios import ScenarioTasks
from ncsim.config.tasks import Tasks
from ncsim.ensemble.job import Job
from ncsim.ensemble.kinds import kind_here, say_differences
from ncsim.ensemble.pool import store_by
from ncsim.ensemble.work import missing_parts, working_on
from ncsim.errors import ConfigError, StoreError
from ncsim.executors.devices import checked_device_count
from ncsim.executors.own_programs import own_programs
from ncsim.records.members import joined
from ncsim.scenarios import ScenarioRun
from ncsim.storage.scenario_folder import ScenarioFolder
from ncsim.storage.writer import Background
from ncsim.terminal import ProgressListener


def run_scenario(
    config: EnsembleConfig | Sequence[EnsembleConfig],
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    devices: int | None = None,
    progress: ProgressListener | None = None,
    executor: str = "auto",
    shard: tuple[int, int] | None = None,
    pool: Executor | str | None = None,
) -> ScenarioRun:
    """Train every member of a scenario, one network per context, as `ncsim.run_ensemble` trains the four of the paper.

    Training, executors, keys and run folders are those of `run_ensemble`: context c of member m starts from the same key, so that
    `chained_tasks(2)` gives the counts of `run_ensemble`, bit for bit.

    Args:
        config: one config, or a grid of them, whose `tasks` are a scenario's (`ncsim.chained_tasks`, `ncsim.three_party_tasks`,
            `ncsim.scenario_tasks`).
        out: a run folder or an address, as for `run_ensemble`; None keeps everything in memory.
        resume: as for `run_ensemble`.
        devices: as for `run_ensemble`.
        progress: told how the run goes on.
        executor: as for `run_ensemble`. Generated C takes up to 16 rows, CUDA up to 64.
        shard: (number, shards), only with `out`.
        pool: what trains the parts in place of this process, as for `run_ensemble`; only with `out`.

    Returns:
        The run. Each head's outcome on a row is whether it was right, as in arXiv:2603.04451, section 4.1.

    Raises:
        ConfigError: tasks of two by two, a field that a scenario has not, or as for `run_ensemble`.
        StoreError: as for `run_ensemble`.
        DeviceError: as for `run_ensemble`.

    Example:
        >>> import ncsim
        >>> tasks = ncsim.three_party_tasks(shared=True)
        >>> config = ncsim.EnsembleConfig(hidden=2, members=20, steps=30, tasks=tasks)
        >>> run_scenario(config, executor="xla").counts.shape
        (20, 8, 2, 2, 2)
    """
    configs = all_configs(config)
    place = None if shard is None else Shard.checked(shard)
    devices = checked_device_count(devices)
    job = Job(configs, devices, progress, executor, None, out, resume, place)
    _check(job, pool)
    if out is None:
        with own_programs():
            executors = job.executors()
            everything = [(cell, each.member_ids) for cell, each in enumerate(configs)]
            records = [joined(list(batches)) for _, batches in job.trained(everything)]
            return ScenarioRun(configs, records, executors)
    with ray_pool(pool, devices) if isinstance(pool, str) else contextlib.nullcontext(pool) as executor_of_tasks:
        return ScenarioRun(configs, _into_folder(job, executor_of_tasks))


def _check(job: Job, pool: Executor | str | None) -> None:
    """Refuse what can be refused without a device and before a folder is made."""
    job.check(_check_tasks)
    job.check_place()
    job.check_pool(pool)


def _check_tasks(tasks: Tasks) -> None:
    if not isinstance(tasks, ScenarioTasks):
        raise ConfigError(f"--tasks: {tasks.name}, two of two parties; allowed here: an ncsim.ScenarioTasks")


def _into_folder(job: Job, pool: Executor | None) -> ScenarioFolder:
    """Train what the folder lacks. A run that is complete is given also from a folder that cannot be written to."""
    try:
        if pool is not None:
            return store_by(pool, job, ScenarioFolder)
        with own_programs():
            return _stored(job)
    except StoreError:
        folder = job.complete_folder(ScenarioFolder)
        if folder is None:
            raise
        return folder


def _stored(job: Job) -> ScenarioFolder:
    """Train what the folder lacks, part by part, of this process's share."""
    assert job.out is not None
    job.check_executor()
    folder = ScenarioFolder.create(job.out, job.configs, job.resume, job.environment)
    writing = Background()
    with working_on(folder, job.shard), writing:
        if missing := missing_parts(folder, None, job.shard):
            say_differences(folder, kind_here(job.devices))
            job.store(folder, missing, writing)
    return folder
