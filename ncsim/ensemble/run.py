"""Many members: on which devices, in which blocks, in which parts. Only this file knows devices."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ncsim import signals
from ncsim.cluster.workers import Work
from ncsim.config.ensemble import EXECUTORS, EnsembleConfig, fingerprint, network_steps, swept_fields
from ncsim.config.recording import Recording
from ncsim.ensemble.trainer import trainer
from ncsim.ensemble.work import Share, _shares, missing_parts
from ncsim.errors import ConfigError
from ncsim.executors.devices import device_description, validate_device_count
from ncsim.records.members import concatenated
from ncsim.results import Run
from ncsim.storage.environment import recorded_environment
from ncsim.storage.parts import part_ranges
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.trajectory_parts import part_pieces
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
    """Train every member of one config, or of the cells of a grid (`ncsim.config_grid`), and give the results.

    A member's joint counts depend on its config, the root seed and its id alone: not on `out`, `devices`, on who is
    trained beside it, or on what was resumed (on one kind of processor and one version of the program).

    Args:
        config: one config, or several that differ in any fields but `members`, `first_member` and `tasks`.
        out: a run folder, or an address in an object store (s3://, gs://), to store to as it goes, and to resume from;
            None keeps everything in memory.
        resume: take up a run that the folder holds; if False such a folder is refused.
        devices: how many devices to use; None uses all. On a CPU a device is a core, and more may be asked for.
        progress: told how it goes on; `ncsim.terminal.Progress` prints it.
        executor: "xla", "pallas" (one kernel for the whole training, for GPUs and TPUs; interpreted on CPUs), "native"
            (C made from the training step and compiled here, for CPUs with a C compiler), or "auto": the fastest here. A stored run keeps the one that it was begun with, since members differ between them.
        shard: (3, 16) makes this the third of sixteen workers that share the folder: it begins with its sixteenth, helps
            with what is left, and comes back when all of it is there.
        recording: steps at which members are recorded as they train, for `Run.trajectories`; no member's result changes.
            None records at the steps of a stored run that records, and nowhere else.

    Raises:
        ConfigError: fewer than one or too many devices, cells that do not make a grid, an executor that cannot train
            them or is not the one that the stored run was begun with.
        StoreError: the folder holds another run, has a damaged part, or cannot be written to.
        DeviceError: a device does not start, fails, or has no memory for the smallest blocks.
    """
    configs = [config] if isinstance(config, EnsembleConfig) else list(config)
    if not configs:
        raise ConfigError("config: no config; allowed: one or more")
    swept_fields(configs)
    if executor not in EXECUTORS:
        raise ConfigError(f"--executor: {executor}; allowed: {', '.join(EXECUTORS)}")
    validate_optimizers(configs)
    if recording is not None:
        for each in configs:
            recording.steps(each.steps)  # too many are refused before a folder is made
    if out is None and shard is not None:
        raise ConfigError("--shard: needs a run folder that the workers share; allowed: with out=FOLDER")
    if out is None:
        everything: list[Work] = [(cell, c.member_ids) for cell, c in enumerate(configs)]
        trained = _trained(
            configs,
            everything,
            everything,
            devices,
            progress,
            lambda: trainer(devices).executors(configs, executor),
            recording,
        )
        if recording is None:
            return Run(configs, [concatenated(list(batches)) for _, batches in trained])
        cells = [tuple(zip(*batches, strict=True)) for _, batches in trained]
        return Run(configs, [concatenated(records) for records, _ in cells], [seen for _, seen in cells])
    validate_device_count(devices)
    recorded = _recorded_executors(out, configs, executor)
    if recorded is None and executor in ("pallas", "native"):
        trainer(devices).executors(configs, executor)  # what it cannot train is refused before a folder is made

    def chosen() -> list[str]:
        return _recorded_executors(out, configs, executor) or trainer(devices).executors(configs, executor)

    def environment() -> dict[str, Any]:
        by_cell = {fingerprint(c): name for c, name in zip(configs, chosen(), strict=True)}
        return {"device": device_description(devices), "executor": by_cell}

    folder = RunFolder.create(out, configs, resume, environment)
    if recording is None:
        recording = TrajectoryFolder(folder).recording()  # a run that records goes on recording
    everyone = functools.partial(_trained, configs, devices=devices, progress=progress, chosen=chosen)
    writing = Background()
    with _shares(folder, shard, devices, writing) as share, writing:
        if recording is None:
            for cell, batches in everyone(*share(lambda: missing_parts(folder))):
                records = concatenated(list(batches))
                writing.do(functools.partial(folder.write_part, configs[cell], records))
        else:
            _train_recorded(folder, recording, share, functools.partial(everyone, recording=recording), writing)
    return Run(configs, folder)


def _train_recorded(
    folder: RunFolder,
    recording: Recording,
    share: Share,
    trained: Callable[..., Iterator[tuple[int, Iterator[Any]]]],
    writing: Background,
) -> None:
    """Train what a run folder lacks, and record; then record what it had before it was asked to."""
    from ncsim.training.observation import OBSERVED

    trajectories = TrajectoryFolder(folder)
    trajectories.check(recording, OBSERVED)

    def unfinished(work: Iterable[Work]) -> Iterator[Work]:
        for cell, ids in work:
            trajectories.discard(folder.configs[cell], ids)
            yield cell, ids

    def unrecorded() -> list[Work]:
        return [
            (cell, piece)
            for cell, config in enumerate(folder.configs)
            for gap in trajectories.missing(config)
            for part in part_ranges(config, gap)
            for piece in part_pieces(part, recording.steps(config.steps).size)
        ]

    todo, work = share(lambda: missing_parts(folder))
    for cell, batches in trained(todo, unfinished(work)):
        config = folder.configs[cell]
        # In this order: members that no part holds have no trajectory that counts.
        records = concatenated(list(trajectories.stored(config, recording, batches, writing)))
        writing.do(functools.partial(folder.write_part, config, records))
    writing.finish()
    todo, work = share(unrecorded, trajectories.part)
    parts = {cell: folder.parts(folder.configs[cell]) for cell in {cell for cell, _ in todo}}
    for cell, batches in trained(todo, work):
        config = folder.configs[cell]
        again = trajectories.agreeing(config, parts.get(cell) or folder.parts(config), batches)
        for _ in trajectories.stored(config, recording, again, writing):
            pass


def _recorded_executors(
    out: str | os.PathLike[str], configs: Sequence[EnsembleConfig], requested: str
) -> list[str] | None:
    """The executor that a stored run's cells were begun with, one a config; None for a new run."""
    recorded = recorded_environment(out)
    by_cell = recorded.get("executor") if recorded else None
    if not isinstance(by_cell, dict):
        return None
    begun = [str(by_cell.get(fingerprint(config), "xla")) for config in configs]
    if requested != "auto" and set(begun) != {requested}:
        words = " and ".join(sorted(set(begun)))
        raise ConfigError(
            f"--executor: {requested}; {out} was begun with {words}, and members differ between the two; "
            f"allowed: {words + ', ' if len(set(begun)) == 1 else ''}auto, or a new folder"
        )
    return begun


def _trained(
    configs: Sequence[EnsembleConfig],
    todo: Sequence[Work],
    work: Iterable[Work],
    devices: int | None,
    progress: ProgressListener | None,
    chosen: Callable[[], list[str]],
    recording: Recording | None = None,
) -> Iterator[tuple[int, Iterator[Any]]]:
    """Each piece of work, (cell, ids), with its records in batches: `MemberRecords`, and where the run records pairs of
    them with `MemberTrajectories`. `todo` is what there is to do, by whomever."""
    if not todo:
        return  # a run that is complete starts no device
    feeder = trainer(devices)
    executors = chosen()
    if progress is not None:
        steps = sum(len(ids) * network_steps(configs[cell]) for cell, ids in todo)
        progress.start(sum(len(ids) for _, ids in todo), steps)
    try:
        with signals.deferred():
            for cell, ids in work:
                if recording is None:
                    yield cell, feeder.train(configs[cell], ids, progress, executors[cell])
                else:
                    yield cell, feeder.train_recorded(configs[cell], ids, progress, executors[cell], recording)
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
