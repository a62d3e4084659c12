"""The run of an ensemble or a grid: what is asked is checked, then trained in memory or into a run folder."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ncsim import signals
from ncsim.cluster.workers import Shard, Work
from ncsim.config.ensemble import EXECUTORS, EnsembleConfig, fingerprint, network_steps, refusal, swept_fields
from ncsim.config.fields import shown
from ncsim.config.recording import Recording
from ncsim.ensemble.trainer import trainer
from ncsim.ensemble.work import Share, Worker, working_on
from ncsim.errors import ConfigError, StoreError
from ncsim.executors.devices import arithmetic_settings, device_description, validate_device_count
from ncsim.forks import check_not_forked
from ncsim.jax_settings import own_settings
from ncsim.machine import check_system
from ncsim.records.members import concatenated
from ncsim.results import Run
from ncsim.storage.environment import recorded_executors
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.writer import Background
from ncsim.terminal import ProgressListener
from ncsim.training.optimizers import validate_optimizers


def run_ensemble(
    config: EnsembleConfig | Sequence[EnsembleConfig],
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    devices: int | None = None,
    progress: ProgressListener | None = None,
    executor: str = "auto",
    shard: tuple[int, int] | None = None,
    recording: Recording | None = None,
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
            core, and more devices than cores may be asked for.
        progress: told how the run goes on; `ncsim.terminal.Progress` prints it.
        executor: the program that trains: "xla", "native" (C code made from the training step and compiled here, for CPUs
            with a C compiler), "cuda" (a kernel made from the training step, for NVIDIA's GPUs), "pallas" (one kernel for
            the whole training, for GPUs and TPUs; on CPUs it is interpreted), or "auto", the fastest of them here. Members
            differ between executors: a stored run keeps the one it began with.
        shard: (number, workers), with number from 1 to workers; only with `out`. (3, 16) makes this process the third of
            sixteen that share the folder: it begins with the third sixteenth, helps with the rest, and returns when
            every part is stored.
        recording: the steps of training at which all members are recorded, for `Run.trajectories`. Recording changes the
            result of no member. None goes on recording in a stored run that records, and records nothing elsewhere.

    Returns:
        The run: the results of all members in memory, or opened from the folder.

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
    configs = [config] if isinstance(config, EnsembleConfig) else list(config)
    shard = shard if shard is None else Shard.checked(shard)
    job = Job(configs, devices, progress, executor, recording, out, resume, shard)
    _check(job)
    with own_settings():
        return _in_memory(job) if out is None else _into_folder(job)


@dataclasses.dataclass(frozen=True)
class Job:
    """What one call of `run_ensemble` asks for, under the names of its arguments."""

    configs: list[EnsembleConfig]
    devices: int | None
    progress: ProgressListener | None
    executor: str
    recording: Recording | None
    out: str | os.PathLike[str] | None
    resume: bool
    shard: tuple[int, int] | None

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


def _check(job: Job) -> None:
    """Refuse what can be refused without a device and before a folder is made."""
    check_system()
    if not job.configs:
        raise ConfigError("config: no config; allowed: one or more")
    for config in job.configs:
        if not isinstance(config, EnsembleConfig):
            raise ConfigError(f"config: {shown(config)}; allowed: an ncsim.EnsembleConfig, or several")
        problem = refusal(config)  # a config that was read from a run folder may have one
        if problem is not None:
            raise ConfigError(problem)
    swept_fields(job.configs)
    if job.executor not in EXECUTORS:
        raise ConfigError(f"--executor: {job.executor}; allowed: {', '.join(EXECUTORS)}")
    if not isinstance(job.resume, bool):
        raise ConfigError(f"resume: {shown(job.resume)}; allowed: True or False")
    if job.recording is not None and not isinstance(job.recording, Recording):
        raise ConfigError(f"recording: {shown(job.recording)}; allowed: an ncsim.Recording, or None")
    validate_device_count(job.devices)
    validate_optimizers(job.configs)
    if job.recording is not None:
        for config in job.configs:
            job.recording.steps(config.steps)  # raises if they are too many
    if job.out is None and job.shard is not None:
        raise ConfigError("--shard: needs a run folder that the workers share; allowed: with out=FOLDER")


def _in_memory(job: Job) -> Run:
    """Train everything and keep it."""
    everything = Share([(cell, config.member_ids) for cell, config in enumerate(job.configs)])
    trained = (list(batches) for _, batches in _trained(job, everything))
    if job.recording is None:
        return Run(job.configs, [concatenated(records) for records in trained])
    cells = [tuple(zip(*batches, strict=True)) for batches in trained]
    return Run(job.configs, [concatenated(records) for records, _ in cells], [seen for _, seen in cells])


def _into_folder(job: Job) -> Run:
    """Train what the folder lacks. A run that is complete is given also from a folder that cannot be written to."""
    try:
        return _trained_into_folder(job)
    except StoreError:
        folder = _complete(job)
        if folder is None:
            raise
        return Run(job.configs, folder)


def _complete(job: Job) -> RunFolder | None:
    """The folder that is asked for, if it holds all of this run, and all that is to be recorded of it."""
    assert job.out is not None
    try:
        folder = RunFolder.open(job.out)
        trajectories = TrajectoryFolder(folder)
        recording = trajectories.recording()
        complete = (
            job.resume
            and list(folder.configs) == job.configs
            and not any(folder.missing(config) for config in job.configs)
            and job.recording in (None, recording)
            and (recording is None or not any(trajectories.missing(config) for config in job.configs))
        )
    except (StoreError, OSError):
        return None
    return folder if complete else None


def _trained_into_folder(job: Job) -> Run:
    """Train what the folder lacks, part by part."""
    folder = _made_folder(job)
    if job.recording is None:
        # A run that records goes on recording.
        job = dataclasses.replace(job, recording=TrajectoryFolder(folder).recording())
    writing = Background()
    with working_on(folder, job.shard, job.devices, writing) as worker, writing:
        if job.recording is None:
            _store(job, worker)
        else:
            _store_and_record(job, worker, job.recording)
    return Run(job.configs, folder)


def _made_folder(job: Job) -> RunFolder:
    assert job.out is not None
    if job.recorded_executors() is None and job.executor in ("cuda", "pallas", "native"):
        job.executors()  # what they cannot train is refused before a folder is made
    return RunFolder.create(job.out, job.configs, job.resume, job.environment)


def _store(job: Job, worker: Worker) -> None:
    """Train and store the parts of this process."""
    for (cell, _), batches in _trained(job, worker.share(worker.folder)):
        records = concatenated(list(batches))
        worker.writing.do(functools.partial(worker.folder.write_part, job.configs[cell], records))


def _store_and_record(job: Job, worker: Worker, recording: Recording) -> None:
    """Train, store and record the parts of this process; then record members that were stored without trajectories."""
    from ncsim.training.observation import OBSERVED

    folder, writing = worker.folder, worker.writing
    trajectories = TrajectoryFolder(folder)
    trajectories.check(recording, OBSERVED)
    for (cell, ids), batches in _trained(job, worker.share(worker.folder)):
        config = job.configs[cell]
        trajectories.discard(config, ids)
        # In this order: members that no part holds have no trajectory that counts.
        records = concatenated(list(trajectories.stored(config, recording, batches, writing)))
        writing.do(functools.partial(folder.write_part, config, records))
    writing.finish()
    share = worker.share(trajectories, recording)
    parts = {cell: folder.parts(job.configs[cell]) for cell in {cell for cell, _ in share.missing}}
    for (cell, _), batches in _trained(job, share):
        config = job.configs[cell]
        again = trajectories.agreeing(config, parts.get(cell) or folder.parts(config), batches)
        for _ in trajectories.stored(config, recording, again, writing):
            pass


def _trained(job: Job, share: Share) -> Iterator[tuple[Work, Iterator[Any]]]:
    """Each part of this process with its results in batches, which are trained as they are asked for: `MemberRecords`, or
    pairs of them and `MemberTrajectories` where the run records. A run that is complete starts no device."""
    missing, progress = share.missing, job.progress
    if not missing:
        return
    check_not_forked()
    feeder = trainer(job.devices)
    executors = job.executors()
    if progress is not None:
        steps = sum(len(ids) * network_steps(job.configs[cell]) for cell, ids in missing)
        progress.start(sum(len(ids) for _, ids in missing), steps)
    try:
        with signals.deferred():
            for cell, ids in share.mine():
                config, name = job.configs[cell], executors[cell]
                if job.recording is None:
                    yield (cell, ids), feeder.train(config, ids, progress, name)
                else:
                    yield (cell, ids), feeder.train_recorded(config, ids, progress, name, job.recording)
    finally:
        if progress is not None:
            progress.close()


def forget_programs() -> None:
    """Forget what this process has compiled and chosen: the next run costs what it would in a process of its own."""
    import jax

    from ncsim.executors import choice

    trainer.cache_clear()
    choice.forget_programs()
    jax.clear_caches()
