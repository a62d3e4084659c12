"""Many members: on which devices, in which blocks, in which parts. Only this file knows devices."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ncsim import signals, workers
from ncsim.claims import Claims
from ncsim.config import EXECUTORS, ConfigError, EnsembleConfig, swept_fields
from ncsim.description import recorded_environment
from ncsim.devices import (
    DeviceError,
    device_description,
    devices_to_use,
    failing_in_one_line,
    out_of_memory,
    validate_device_count,
)
from ncsim.devices import prepare_jax as prepare_jax
from ncsim.records import MemberRecords, concatenated
from ncsim.runs import Run
from ncsim.storage import LocalStorage
from ncsim.store import RunFolder, fingerprint
from ncsim.tasks import CONTEXTS
from ncsim.workers import Shard, Work

#: Blocks that one call may train on a device. A larger buffer only costs memory; a call uses as many as fill CALL_SECONDS.
BLOCKS = 128
#: Fewest networks a block, where devices have no memory for more: what a program of a kernel takes, by platform.
SMALLEST_LANES = {"cpu": 64, "gpu": 128, "tpu": 1_024}
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
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    devices: int | None = None,
    progress: ProgressListener | None = None,
    executor: str = "auto",
    shard: tuple[int, int] | None = None,
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
        progress: told how it goes on; `ncsim.progress.Progress` prints it.
        executor: "xla", "pallas" (one kernel for the whole training, for GPUs and TPUs; interpreted on CPUs), "native"
            (C made from the training step and compiled here, for CPUs with a C compiler), or "auto": the fastest here. A stored run keeps the one that it was begun with, since members differ between them.
        shard: (3, 16) makes this the third of sixteen workers that share the folder: it begins with its sixteenth, helps
            with what is left, and comes back when all of it is there.

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
    _validate_optimizers(configs)
    if out is None and shard is not None:
        raise ConfigError("--shard: needs a run folder that the workers share; allowed: with out=FOLDER")
    if out is None:
        everything = [(cell, c.member_ids) for cell, c in enumerate(configs)]
        trained = _trained(
            configs, everything, everything, devices, progress, lambda: _trainer(devices).executors(configs, executor)
        )
        return Run(configs, [concatenated(list(batches)) for _, batches in trained])
    validate_device_count(devices)
    recorded = _recorded_executors(out, configs, executor)
    if recorded is None and executor in ("pallas", "native"):
        _trainer(devices).executors(configs, executor)  # what it cannot train is refused before a folder is made

    def chosen() -> list[str]:
        return _recorded_executors(out, configs, executor) or _trainer(devices).executors(configs, executor)

    def environment() -> dict[str, Any]:
        by_cell = {fingerprint(c): name for c, name in zip(configs, chosen(), strict=True)}
        return {"device": device_description(devices), "executor": by_cell}

    folder = RunFolder.create(out, configs, resume, environment)
    with _to_train(folder, shard, devices) as (todo, work):
        for cell, batches in _trained(configs, todo, work, devices, progress, chosen):
            folder.write_part(configs[cell], concatenated(list(batches)))
    return Run(configs, folder)


@contextlib.contextmanager
def _to_train(
    folder: RunFolder, shard: tuple[int, int] | None, devices: int | None
) -> Iterator[tuple[Sequence[Work], Iterable[Work]]]:
    """What a folder lacks, and what of it is for this process as it goes. A local folder is one process's own, unless it
    is one of several workers; an object store, where nothing can be locked, always has workers."""
    if shard is None and isinstance(folder.storage, LocalStorage):
        with folder.exclusive():
            workers.refuse_beside_workers(folder)
            todo = missing_parts(folder)
            yield todo, todo
        return
    with folder.shared(), Claims(folder.storage) as claims:
        todo = missing_parts(folder)
        if todo:
            workers.say_differences(folder, device_description(devices))
        place = Shard(*shard) if shard else Shard(1, 1)
        yield todo, workers.claimed(folder, place, claims, lambda: missing_parts(folder))


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
) -> Iterator[tuple[int, Iterator[MemberRecords]]]:
    """Each piece of work, (cell, ids), with its records in batches. `todo` is what there is to do, by whomever."""
    if not todo:
        return  # a run that is complete starts no device
    trainer = _trainer(devices)
    executors = chosen()
    if progress is not None:
        steps = sum(len(ids) * network_steps(configs[cell]) for cell, ids in todo)
        progress.start(sum(len(ids) for _, ids in todo), steps)
    try:
        with signals.deferred():
            for cell, ids in work:
                yield cell, trainer.train(configs[cell], ids, progress, executors[cell])
    finally:
        if progress is not None:
            progress.close()


def network_steps(config: EnsembleConfig) -> int:
    """Optimiser steps that one member takes, over its contexts."""
    return len(CONTEXTS) * config.steps


def missing_parts(folder: RunFolder) -> list[Work]:
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


def _validate_optimizers(configs: Sequence[EnsembleConfig]) -> None:
    """An optimiser option that does not exist is found before anything is made or trained."""
    from ncsim.train import make_optimizer

    for config in {(config.optimizer, config.optimizer_options): config for config in configs}.values():
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

        self._devices = devices_to_use(devices)
        self._mesh = jax.make_mesh((len(self._devices),), (xla.MEMBERS,), devices=self._devices)
        self._seconds_a_block: dict[tuple[str, EnsembleConfig], float] = {}
        self._executors: dict[tuple[Any, ...], str] = {}
        self._blocks = BLOCKS
        self._lanes: dict[str, int] = {}  # of executors whose own width is too much for the devices

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
        """The records of members with these consecutive ids, in batches, in order; in smaller blocks, which change no
        member, where the devices have no memory for these."""
        first = members.start
        while first < members.stop:
            try:
                with failing_in_one_line(unless=out_of_memory):
                    for records in self._batches(config, range(first, members.stop), progress, executor):
                        first += records.size
                        yield records
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._make_smaller(config, executor)

    def _batches(
        self, config: EnsembleConfig, members: range, progress: ProgressListener | None, executor: str
    ) -> Iterator[MemberRecords]:
        import jax

        from ncsim.executors import choice

        program = choice.program(executor, config, self._mesh, self._blocks, self._lanes.get(executor))
        cost = (executor, _same_cost(config))
        pending: tuple[range, np.ndarray, Any, float] | None = None
        first = members.start
        while first < members.stop or pending is not None:
            issued = None
            if first < members.stop:
                blocks = self._blocks_a_call(cost)
                batch = range(first, min(first + blocks * program.lanes * len(self._devices), members.stop))
                ids, used, position = self._layout(batch, program)
                with jax.enable_x64(config.precision == "float64"):
                    result = program.run(config.root_seed, ids, used, config.learning_rate, config.steps)
                issued = (batch, position, result, time.perf_counter())
                first = batch.stop
            if pending is not None:
                batch, position, result, started = pending
                fields = [np.asarray(leaf).reshape(-1, *leaf.shape[2:])[position] for leaf in result]
                # With one call always waiting behind another, the time between two results is the time of one call.
                self._note_speed(cost, started, -(-len(batch) // (program.lanes * len(self._devices))))
                records = MemberRecords(np.arange(batch.start, batch.stop, dtype=np.uint64), *fields)
                if progress is not None:
                    progress.advance(len(batch), len(batch) * network_steps(config))
                yield records
                signals.check()
            pending = issued

    def _make_smaller(self, config: EnsembleConfig, executor: str) -> None:
        """Fewer blocks in a buffer, then narrower ones."""
        from ncsim.executors import choice

        lanes = choice.program(executor, config, self._mesh, 1, self._lanes.get(executor)).lanes
        if self._blocks == BLOCKS and not self._lanes:
            workers.say("a device has no memory left: training in smaller blocks, which changes no member")
        if self._blocks > 1:
            self._blocks = max(self._blocks // 8, 1)
        elif lanes // 2 >= SMALLEST_LANES.get(self._devices[0].platform, 1_024):
            self._lanes[executor] = lanes // 2
        else:
            raise DeviceError(
                f"a device has no memory for {lanes} networks of {config.hidden} hidden units; what is stored is whole, "
                "and the same command resumes on other devices"
            ) from None

    def _layout(self, batch: range, program: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids [D * B, lanes], blocks used a device [D], and where each member of the batch ends up, flat."""
        devices, lanes = len(self._devices), program.lanes
        needed = -(-len(batch) // lanes)
        used = np.array([needed // devices + (d < needed % devices) for d in range(devices)], np.int32)
        rows = np.concatenate([d * program.blocks + np.arange(count) for d, count in enumerate(used)])
        ids = np.zeros((devices * program.blocks, lanes), np.uint32)
        # The last block is padded with ids that follow; what they come to is dropped.
        ids[rows] = (batch.start + np.arange(needed * lanes, dtype=np.int64)).astype(np.uint32).reshape(needed, lanes)
        position = (rows[:, None] * lanes + np.arange(lanes)).reshape(-1)[: len(batch)]
        return ids, used, position

    def _blocks_a_call(self, cost: tuple[str, EnsembleConfig]) -> int:
        seconds = self._seconds_a_block.get(cost)
        return 1 if seconds is None else int(min(max(CALL_SECONDS / seconds, 1), self._blocks))

    def _note_speed(self, cost: tuple[str, EnsembleConfig], started: float, blocks: int) -> None:
        # Latest reading counts most, and the first contains warming up.
        now = time.perf_counter()
        begun = max(started, getattr(self, "_last_result", started))
        self._last_result = now
        reading = max(now - begun, 1e-6) / blocks
        known = self._seconds_a_block.get(cost, reading)
        self._seconds_a_block[cost] = 0.5 * known + 0.5 * reading


def forget_programs() -> None:
    """Forget what this process has compiled and chosen: the next run costs what it would in a process of its own."""
    import jax

    from ncsim.executors import choice

    _trainer.cache_clear()
    choice.forget_programs()
    jax.clear_caches()


def _same_cost(config: EnsembleConfig) -> EnsembleConfig:
    return dataclasses.replace(config, members=1, first_member=0, root_seed=0)
