"""Many members: on which devices, in which blocks, in which parts. Only this file knows devices."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ncsim.config import EXECUTORS, ConfigError, EnsembleConfig, swept_fields
from ncsim.recording import Recording
from ncsim.records import MemberRecords, concatenated
from ncsim.runs import Run
from ncsim.store import RunFolder, fingerprint, recorded_environment
from ncsim.tasks import CONTEXTS
from ncsim.trajectory_parts import MemberTrajectories, TrajectoryFolder

#: Blocks that one call may train on a device. A larger buffer only costs memory; a call uses as many as fill CALL_SECONDS.
BLOCKS = 128
#: Blocks times recorded steps of one call on a device, which bounds what has to be held of trajectories.
RECORDED_POINTS = 1024
#: Wanted length of one call: long enough that dispatching it is nothing, short enough for a lively progress bar.
CALL_SECONDS = 0.5
#: Work in one part of a run folder, in network-steps at three hidden units: some seconds of training, which is what a
#: kill can cost. Derived from the config alone, so that the same run is always cut into the same parts.
PART_WORK = 2.0e8
PART_MEMBERS = (512, 262_144)


@runtime_checkable
class ProgressListener(Protocol):
    """Told what there is to train and, after every batch, what has been."""

    def start(self, members: int, network_steps: int) -> None:
        """Members to train over all cells, and their network-steps; what is stored already is not among them."""

    def advance(self, members: int, network_steps: int) -> None:
        """A batch is done."""

    def close(self) -> None:
        """Everything is done, or has been given up."""


def run_ensemble(
    config: EnsembleConfig | Sequence[EnsembleConfig],
    out: str | Path | None = None,
    resume: bool = True,
    devices: int | None = None,
    progress: ProgressListener | None = None,
    executor: str = "auto",
    recording: Recording | None = None,
) -> Run:
    """Train every member of one config, or of the cells of a grid (`ncsim.config_grid`), and give the results.

    A member's joint counts depend on its config, the root seed and its id alone: not on `out`, `devices`, on who is
    trained beside it, or on what was resumed (on one kind of processor and one version of the program).

    Args:
        config: one config, or several that differ in any fields but `members`, `first_member` and `tasks`.
        out: a run folder to store to as it goes, and to resume from; None keeps everything in memory.
        resume: take up a run that the folder holds; if False such a folder is refused.
        devices: how many devices to use; None uses all. On a CPU a device is a core, and more may be asked for.
        progress: told how it goes on; `ncsim.progress.Progress` prints it.
        executor: "xla", "pallas" (one kernel for the whole training, for GPUs and TPUs; interpreted on CPUs), "native"
            (C made from the training step and compiled here, for CPUs with a C compiler), or "auto": the fastest here. A stored run keeps the one that it was begun with, since members differ between them.
        recording: steps at which members are recorded as they train, for `Run.trajectories`; no member's result changes.

    Raises:
        ConfigError: fewer than one or too many devices, cells that do not make a grid, an executor that cannot train
            them or is not the one that the stored run was begun with.
        StoreError: the folder holds another run, has a damaged part, or cannot be written to.
    """
    configs = [config] if isinstance(config, EnsembleConfig) else list(config)
    if not configs:
        raise ConfigError("config: no config; allowed: one or more")
    swept_fields(configs)
    if executor not in EXECUTORS:
        raise ConfigError(f"--executor: {executor}; allowed: {', '.join(EXECUTORS)}")
    _validate_optimizers(configs)
    if recording is not None:
        for each in configs:
            recording.steps(each.steps)  # too many are refused before a folder is made
    if out is None:
        work = [(cell, c.member_ids) for cell, c in enumerate(configs)]
        trained = _trained(
            configs, work, devices, progress, lambda: _trainer(devices).executors(configs, executor), recording
        )
        if recording is None:
            return Run(configs, [concatenated(list(batches)) for _, batches in trained])
        cells = [tuple(zip(*batches, strict=True)) for _, batches in trained]
        return Run(configs, [concatenated(records) for records, _ in cells], [seen for _, seen in cells])
    _validate_device_count(devices)
    recorded = _recorded_executors(out, configs, executor)
    if recorded is None and executor in ("pallas", "native"):
        _trainer(devices).executors(configs, executor)  # what it cannot train is refused before a folder is made

    def chosen() -> list[str]:
        return recorded or _trainer(devices).executors(configs, executor)

    def environment() -> dict[str, Any]:
        by_cell = {fingerprint(c): name for c, name in zip(configs, chosen(), strict=True)}
        return {"device": device_description(devices), "executor": by_cell}

    folder = RunFolder.create(out, configs, resume, environment)
    with folder.exclusive():
        if recording is None:
            for cell, batches in _trained(configs, missing_parts(folder), devices, progress, chosen):
                folder.write_part(configs[cell], concatenated(list(batches)))
        else:
            _train_recorded(
                folder, recording, lambda work: _trained(configs, work, devices, progress, chosen, recording)
            )
    return Run(configs, folder)


def _train_recorded(folder: RunFolder, recording: Recording, trained: Callable[..., Any]) -> None:
    """Train what a run folder lacks, and record; then record what it had before it was asked to."""
    from ncsim.observation import OBSERVED

    trajectories = TrajectoryFolder(folder)
    trajectories.check(recording, OBSERVED)
    trajectories.discard_unfinished()
    for cell, batches in trained(missing_parts(folder)):
        config = folder.configs[cell]
        folder.write_part(config, concatenated(list(trajectories.stored(config, recording, batches))))
    gaps = [(cell, gap) for cell, config in enumerate(folder.configs) for gap in trajectories.missing(config)]
    for cell, batches in trained(gaps):
        config = folder.configs[cell]
        for _ in trajectories.stored(config, recording, trajectories.agreeing(config, batches)):
            pass


def _recorded_executors(out: str | Path, configs: Sequence[EnsembleConfig], requested: str) -> list[str] | None:
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
    work: Sequence[tuple[int, range]],
    devices: int | None,
    progress: ProgressListener | None,
    chosen: Callable[[], list[str]],
    recording: Recording | None = None,
) -> Iterator[tuple[int, Iterator[Any]]]:
    """Each piece of work, (cell, ids), with its records in batches: `MemberRecords`, and where the run records pairs
    of them with `MemberTrajectories`."""
    if not work:
        return  # a run that is complete starts no device
    trainer = _trainer(devices)
    executors = chosen()
    if progress is not None:
        steps = sum(len(ids) * network_steps(configs[cell]) for cell, ids in work)
        progress.start(sum(len(ids) for _, ids in work), steps)
    try:
        for cell, ids in work:
            if recording is None:
                yield cell, trainer.train(configs[cell], ids, progress, executors[cell])
            else:
                yield cell, trainer.train_recorded(configs[cell], ids, progress, executors[cell], recording)
    finally:
        if progress is not None:
            progress.close()


def network_steps(config: EnsembleConfig) -> int:
    """Optimiser steps that one member takes, over its contexts."""
    return len(CONTEXTS) * config.steps


def missing_parts(folder: RunFolder) -> list[tuple[int, range]]:
    """What a run folder still lacks: the cell's number and the ids of each part to train."""
    gaps = ((cell, gap) for cell, config in enumerate(folder.configs) for gap in folder.missing(config))
    return [(cell, part) for cell, gap in gaps for part in part_ranges(folder.configs[cell], gap)]


def part_size(config: EnsembleConfig) -> int:
    """Members a part: a power of two, from the config's work a member alone."""
    work = network_steps(config) * max(config.hidden / 3, 1)
    members = min(max(PART_WORK / work, PART_MEMBERS[0]), PART_MEMBERS[1])
    return 2 ** int(np.log2(members))


def part_ranges(config: EnsembleConfig, members: range) -> Iterator[range]:
    """Cut ids at the multiples of the part size, so that parts are the same whichever of them were there already."""
    size = part_size(config)
    first = members.start
    while first < members.stop:
        stop = min((first // size + 1) * size, members.stop)
        yield range(first, stop)
        first = stop


def prepare_jax(devices: int | None = None) -> None:
    """Set what must be set before JAX starts its backends: a CPU device a core, and whole-loop compilation.

    Where JAX has started already, or the user has set these, what is there is used.
    """
    from ncsim.executors import xla

    xla.set_cpu_flags()
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # raised once backends are there
        jax.config.update("jax_num_cpu_devices", devices or len(os.sched_getaffinity(0)))


def device_description(devices: int | None = None) -> str:
    """The devices that a run would use, in words for config.json."""
    used = _devices(devices)
    return f"{len(used)} x {used[0].platform} ({used[0].device_kind})"


def _devices(count: int | None) -> list[Any]:
    _validate_device_count(count)
    prepare_jax(count)
    import jax

    available = jax.devices()
    if count is not None and count > len(available):
        raise ConfigError(f"--devices: {count}; allowed: 1 to {len(available)}, the devices that JAX has started with")
    return available[:count]


def _validate_device_count(devices: int | None) -> None:
    if devices is not None and (isinstance(devices, bool) or not isinstance(devices, int) or not 1 <= devices <= 4096):
        raise ConfigError(f"--devices: {devices!r}; allowed: a whole number from 1 to 4096")


def _validate_optimizers(configs: Sequence[EnsembleConfig]) -> None:
    """An optimiser option that does not exist is found before anything is made or trained."""
    from ncsim.train import make_optimizer

    for config in configs:
        try:
            make_optimizer(config, config.learning_rate)
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"--optimizer-options: {config.optimizer_options!r}; {config.optimizer}: {error}"
            ) from None


@functools.lru_cache(maxsize=8)
def _trainer(devices: int | None) -> _Trainer:
    return _Trainer(devices)


class _Trainer:
    """Feeds ranges of member ids to the devices, one call ahead of what it hands back."""

    def __init__(self, devices: int | None) -> None:
        import jax

        from ncsim.executors import xla

        self._devices = _devices(devices)
        self._mesh = jax.make_mesh((len(self._devices),), (xla.MEMBERS,), devices=self._devices)
        self._seconds_a_block: dict[tuple[Any, ...], float] = {}
        self._executors: dict[tuple[Any, ...], str] = {}

    def executors(self, configs: Sequence[EnsembleConfig], requested: str) -> list[str]:
        """The executor of each cell. What "auto" comes to is decided cell by cell: a member must not depend on the grid
        that its config stands in."""
        groups = [[config] for config in configs] if requested == "auto" else [list(configs)] * len(configs)
        return [self._executor(group, requested) for group in groups]

    def _executor(self, configs: Sequence[EnsembleConfig], requested: str) -> str:
        """Asked again, the answer is the same: it may rest on timings."""
        from ncsim.executors import choice

        key = (requested, *map(_same_cost, configs))
        if key not in self._executors:
            self._executors[key] = choice.choose(requested, configs, self._mesh, BLOCKS)
        return self._executors[key]

    def train(
        self, config: EnsembleConfig, members: range, progress: ProgressListener | None, executor: str
    ) -> Iterator[MemberRecords]:
        """The records of members with these consecutive ids, in batches, in order."""
        for batch, result in self._results(config, members, progress, executor, None):
            yield MemberRecords(_ids(batch), *result)

    def train_recorded(
        self,
        config: EnsembleConfig,
        members: range,
        progress: ProgressListener | None,
        executor: str,
        recording: Recording,
    ) -> Iterator[tuple[MemberRecords, MemberTrajectories]]:
        """As `train`, each batch with what was recorded of it along training."""
        from ncsim.observation import OBSERVED

        steps = recording.steps(config.steps)
        for batch, (last, seen) in self._results(config, members, progress, executor, steps):
            ids = _ids(batch)
            values = {name: seen.values[name] for name in OBSERVED}
            yield MemberRecords(ids, *last), MemberTrajectories(ids, steps, seen.counts, values)

    def _results(
        self,
        config: EnsembleConfig,
        members: range,
        progress: ProgressListener | None,
        executor: str,
        recorded: np.ndarray | None,
    ) -> Iterator[tuple[range, Any]]:
        """What a program gives of these members, in batches: a tree of arrays [members of the batch, ...]."""
        import jax

        from ncsim.executors import choice

        points = None if recorded is None else len(recorded)
        most = BLOCKS if points is None else min(max(RECORDED_POINTS // points, 1), BLOCKS)
        program = choice.program(executor, config, self._mesh, most, points)
        cost = (executor, _same_cost(config), points)
        pending: tuple[range, np.ndarray, Any, float] | None = None
        first = members.start
        while first < members.stop or pending is not None:
            issued = None
            if first < members.stop:
                blocks = self._blocks_a_call(cost, most)
                batch = range(first, min(first + blocks * program.lanes * len(self._devices), members.stop))
                ids, used = self._layout(batch, program)
                with jax.enable_x64(config.precision == "float64"):
                    steps = config.steps if recorded is None else recorded
                    result = program.run(config.root_seed, ids, used, config.learning_rate, steps)
                issued = (batch, used, result, time.perf_counter())
                first = batch.stop
            if pending is not None:
                batch, used, result, started = pending
                kept = jax.tree.map(functools.partial(_of_members, used=used, members=len(batch)), result)
                # With one call always waiting behind another, the time between two results is the time of one call.
                self._note_speed(cost, started, -(-len(batch) // (program.lanes * len(self._devices))))
                if progress is not None:
                    progress.advance(len(batch), len(batch) * network_steps(config))
                yield batch, kept
            pending = issued

    def _layout(self, batch: range, program: Any) -> tuple[np.ndarray, np.ndarray]:
        """Ids [D * B, lanes], and blocks used a device [D]."""
        devices, lanes = len(self._devices), program.lanes
        needed = -(-len(batch) // lanes)
        used = np.array([needed // devices + (d < needed % devices) for d in range(devices)], np.int32)
        rows = np.concatenate([d * program.blocks + np.arange(count) for d, count in enumerate(used)])
        ids = np.zeros((devices * program.blocks, lanes), np.uint32)
        # The last block is padded with ids that follow; what they come to is dropped.
        ids[rows] = (batch.start + np.arange(needed * lanes, dtype=np.int64)).astype(np.uint32).reshape(needed, lanes)
        return ids, used

    def _blocks_a_call(self, cost: tuple[Any, ...], most: int) -> int:
        seconds = self._seconds_a_block.get(cost)
        return 1 if seconds is None else int(min(max(CALL_SECONDS / seconds, 1), most))

    def _note_speed(self, cost: tuple[Any, ...], started: float, blocks: int) -> None:
        # Latest reading counts most, and the first contains warming up.
        now = time.perf_counter()
        begun = max(started, getattr(self, "_last_result", started))
        self._last_result = now
        reading = max(now - begun, 1e-6) / blocks
        known = self._seconds_a_block.get(cost, reading)
        self._seconds_a_block[cost] = 0.5 * known + 0.5 * reading


def _of_members(leaf: Any, used: np.ndarray, members: int) -> np.ndarray:
    """The first members of a result [D * B, lanes, ...], of which each device has filled so many blocks."""
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    blocks = [np.asarray(shard.data)[:count] for shard, count in zip(shards, used, strict=True)]
    return np.concatenate(blocks).reshape(-1, *leaf.shape[2:])[:members]


def _ids(batch: range) -> np.ndarray:
    return np.arange(batch.start, batch.stop, dtype=np.uint64)


def _same_cost(config: EnsembleConfig) -> EnsembleConfig:
    return dataclasses.replace(config, members=1, first_member=0, root_seed=0)
