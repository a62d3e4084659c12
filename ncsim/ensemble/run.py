"""The run of an ensemble or a grid: what is asked is checked, then trained in memory or into a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from concurrent.futures import Executor

from ncsim.cluster.ray_pool import ray_pool
from ncsim.cluster.shards import Shard
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import shown
from ncsim.config.given import all_configs
from ncsim.config.recording import Recording
from ncsim.config.scenarios import two_by_two
from ncsim.ensemble.job import Job
from ncsim.ensemble.kinds import kind_here, say_differences
from ncsim.ensemble.listening import listening
from ncsim.ensemble.pool import look_by, store_by
from ncsim.ensemble.trainer import trainer
from ncsim.ensemble.until import checked_until, train_until
from ncsim.ensemble.work import missing_parts, working_on
from ncsim.errors import ConfigError, StoreError
from ncsim.executors.devices import checked_device_count
from ncsim.executors.own_programs import own_programs
from ncsim.records.members import concatenated
from ncsim.results import Run
from ncsim.statistics.until import Until
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.writer import Background
from ncsim.terminal import ProgressListener
from ncsim.tracking.listeners import RunListener, checked_listeners


def run_ensemble(
    config: EnsembleConfig | Sequence[EnsembleConfig],
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    devices: int | None = None,
    progress: ProgressListener | None = None,
    executor: str = "auto",
    shard: tuple[int, int] | None = None,
    recording: Recording | None = None,
    pool: Executor | str | None = None,
    until: str | Until | None = None,
    listeners: Sequence[RunListener] = (),
) -> Run:
    """Train every member of one config, or of every cell of a grid (arXiv:2603.04451, section 4.2; `ncsim.config_grid`).

    The joint counts of a member depend on its config, the root seed and its id, and on nothing else: `out`, `devices`,
    the members trained beside it and a resumed run do not change them. This holds on one kind of processor and with
    one version of the program.

    Args:
        config: one config, or one or more configs, which may differ in any fields but `members`, `first_member` and `tasks`.
        out: a run folder, or an address in an object store (s3://, gs://). Parts are stored there while the run goes on,
            and a run that was stopped goes on from them. None keeps everything in memory.
        resume: True continues the run that the folder holds; False refuses such a folder.
        devices: number of devices to use, 1 to 4096, and no more than JAX starts with; None uses all. On a CPU one device is one
            core, and more devices than cores may be asked for. With `pool`: devices of each task; None uses one core, or all
            accelerators that the task sees.
        progress: told how the run goes on; `ncsim.terminal.Progress` prints it.
        executor: the program that trains: "xla", "native" (C code made from the training step and compiled here, for CPUs
            with a C compiler), "cuda" (a kernel made from the training step, for NVIDIA's GPUs), "pallas" (one kernel for
            the whole training, for TPUs; on CPUs it is interpreted), or "auto", the fastest of them here: on CPUs native, wherever it can train the
            config. Members differ between executors: a stored run keeps the one it began with.
        shard: (number, shards), with number from 1 to shards; only with `out`. (3, 16) trains the third sixteenth of the parts
            of the run, and leaves the others to the other shards.
        recording: the steps of training at which all members are recorded, for `Run.trajectories`. Recording changes the
            result of no member. None goes on recording in a stored run that records, and records nothing elsewhere.
        pool: what trains the parts, one per task, in place of this process; only with `out`, a folder that all tasks see. A
            `concurrent.futures.Executor` of processes, as `ProcessPoolExecutor` or Dask's `client.get_executor()`; or Ray:
            "ray" for one on this machine that is started and stopped, "auto" or "ray://HOST:PORT" for a cluster that runs.
        until: a number of the report and its precision, as "P(S > 2) +- 0.002": members are trained until its 95 % interval
            reaches no further in any cell, and `members` of them at most. Not with `shard`. `Run.until` says how it ended, and
            `ncsim.statistics.stopping` by which rule.
        listeners: told the numbers of each cell as members are stored, as `ncsim.tracker("wandb")`; see `ncsim.RunListener`.

    Returns:
        The run: the results of all members in memory, or opened from the folder. One of several shards gives the run as it
        is when its own parts are stored.

    Raises:
        ConfigError: too few or too many devices, configs that do not make a grid, an executor that cannot train them or
            that the stored run did not begin with, or a value outside the ranges above.
        StoreError: the folder holds another run, has a damaged part, or cannot be written to.
        DeviceError: a device does not start, fails, or has no memory for the smallest blocks; or this process was forked
            from one that had started JAX.

    Example:
        >>> from ncsim import EnsembleConfig, run_ensemble
        >>> run_ensemble(EnsembleConfig(hidden=2, members=4, steps=10)).counts.shape
        (4, 2, 2, 2, 2)
    """
    configs = all_configs(config)
    shard = shard if shard is None else Shard.checked(shard)
    place = None if out is None else os.fspath(out)
    devices = checked_device_count(devices)
    job = Job(configs, devices, progress, executor, recording, place, resume, shard)
    _check(job, pool)
    wanted = None if until is None else checked_until(until, job)
    told = checked_listeners(listeners)
    with ray_pool(pool, devices) if isinstance(pool, str) else contextlib.nullcontext(pool) as executors:
        return listening(told, job, functools.partial(_until, wanted, executors))


def _until(wanted: Until | None, pool: Executor | None, job: Job) -> Run:
    """All that a job asks for, or as much as makes a number precise."""
    train = functools.partial(_trained, pool)
    if wanted is None:
        return train(job)
    return train_until(job, wanted, train, _in_memory if pool is None else functools.partial(look_by, pool))


def _trained(pool: Executor | None, job: Job) -> Run:
    """All that a job asks for."""
    return _in_memory(job) if job.out is None else _into_folder(job, pool)


def _check(job: Job, pool: Executor | str | None) -> None:
    """Refuse what can be refused without a device and before a folder is made."""
    job.check(two_by_two)
    if job.recording is not None and not isinstance(job.recording, Recording):
        raise ConfigError(f"recording: {shown(job.recording)}; allowed: an ncsim.Recording, or None")
    if job.recording is not None:
        for config in job.configs:
            job.recording.steps(config.steps)  # raises if they are too many
    job.check_place()
    job.check_pool(pool)


def _in_memory(job: Job) -> Run:
    """Train everything and keep it."""
    everything = [(cell, config.member_ids) for cell, config in enumerate(job.configs)]
    with own_programs():
        executors = job.executors()
        trained = [list(batches) for _, batches in job.trained(everything)]
    if job.recording is None:
        return Run(job.configs, [concatenated(records) for records in trained], executors=executors)
    cells = [tuple(zip(*batches, strict=True)) for batches in trained]
    # Else the devices' buffers were kept, and could not be written to.
    along = [[each.copied() for each in seen] for _, seen in cells]
    return Run(job.configs, [concatenated(records) for records, _ in cells], along, executors)


def _into_folder(job: Job, pool: Executor | None) -> Run:
    """Train what the folder lacks. A run that is complete is given also from a folder that cannot be written to."""
    try:
        if pool is not None:
            return Run(job.configs, store_by(pool, job, RunFolder))
        with own_programs():
            return Run(job.configs, _store(job))
    except StoreError:
        folder = job.complete_folder(RunFolder)
        if folder is None:
            raise
        return Run(job.configs, folder)


def _store(job: Job) -> RunFolder:
    """Train what the folder lacks, part by part, of this process's share."""
    folder = _made_folder(job)
    trajectories = TrajectoryFolder(folder)
    if job.recording is None:
        # A run that records goes on recording.
        job = dataclasses.replace(job, recording=trajectories.recording())
    writing = Background()
    with working_on(folder, job.shard), writing:
        if job.recording is not None:
            from ncsim.training.observation import OBSERVED

            trajectories.check(job.recording, OBSERVED)
        if missing := missing_parts(folder, None, job.shard):
            say_differences(folder, kind_here(job.devices))
            if job.recording is not None:
                trajectories.discard(missing)
            job.store(folder, missing, writing)
        if job.recording is not None and (missing := missing_parts(trajectories, job.recording, job.shard)):
            say_differences(folder, kind_here(job.devices))
            job.record(folder, missing, writing)
    return folder


def _made_folder(job: Job) -> RunFolder:
    assert job.out is not None
    job.check_executor()
    return RunFolder.create(job.out, job.configs, job.resume, job.environment)


def forget_programs() -> None:
    """Forget what this process has compiled and chosen: the next run costs what it would in a process of its own."""
    import jax

    from ncsim.executors import choice

    trainer.cache_clear()
    choice.forget_programs()
    jax.clear_caches()
