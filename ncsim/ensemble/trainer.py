"""Ranges of member ids fed to the devices: how many blocks a call takes, on which devices, with how much memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ncsim import signals
from ncsim.config.ensemble import EnsembleConfig, network_steps, program_of
from ncsim.config.recording import Recording
from ncsim.config.scenarios import ScenarioTasks
from ncsim.errors import DeviceError
from ncsim.executors.devices import devices_to_use, failing_in_one_line, out_of_memory
from ncsim.records.members import MemberRecords
from ncsim.records.scenarios import ScenarioRecords
from ncsim.records.trajectories import MemberTrajectories, by_member
from ncsim.terminal import ProgressListener, say, telling, waiting

if TYPE_CHECKING:
    from ncsim.executors.calls import InFlight
    from ncsim.executors.xla import Network, Twins

#: Blocks that one call may train on a device. A larger buffer only costs memory; a call uses as many as fill CALL_SECONDS.
BLOCKS = 128
#: And at least, used or not. With a buffer of one XLA makes other code of the same steps: of 300 members 45 had another last bit in
#: their loss (sm3, squared error, some rows trained on; jax 0.10.2).
FEWEST_BLOCKS = 2
#: Blocks times recorded steps of one call on a device, which bounds what has to be held of trajectories.
RECORDED_POINTS = 1024
#: Fewest networks a block, where devices have no memory for more: what a program of a kernel takes, by platform.
SMALLEST_LANES = {"cpu": 64, "gpu": 128, "tpu": 1_024}
#: Wanted length of one call: long enough that dispatching it is nothing, short enough for a lively progress bar.
CALL_SECONDS = 0.5


#: Members of a cell with consecutive ids, as a part has them.
Piece = tuple[EnsembleConfig, range]


@functools.lru_cache(maxsize=8)
def trainer(devices: int | None) -> Trainer:
    """The trainer of so many devices, the same one each time: it remembers what it has compiled and timed."""
    return Trainer(devices)


class _Call(NamedTuple):
    """One call of a program that is on the devices: its members, the blocks that each device has of them, what it will give, what
    its time is known by, and when it was made."""

    config: EnsembleConfig
    batch: range
    used: np.ndarray
    result: Any
    cost: tuple[Any, ...]
    started: float


class Trainer:
    """Feeds ranges of member ids to the devices, one call ahead of what it hands back."""

    def __init__(self, devices: int | None) -> None:
        import jax

        from ncsim.executors import xla

        self._devices = devices_to_use(devices)
        self._mesh = jax.make_mesh((len(self._devices),), (xla.MEMBERS,), devices=self._devices)
        self._seconds_a_block: dict[tuple[Any, ...], float] = {}
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

    def train(self, pieces: Sequence[Piece], progress: ProgressListener | None, executor: str) -> Iterator[Any]:
        """The records of members with consecutive ids, piece by piece, in batches, in order: `MemberRecords`, of a scenario
        `ScenarioRecords`. No batch has members of two pieces, and no device waits between them."""
        for config, batch, result in self._results(pieces, progress, executor, None):
            kind: Any = ScenarioRecords if isinstance(config.tasks, ScenarioTasks) else MemberRecords
            yield kind(_ids(batch), **result._asdict())

    def train_recorded(
        self, pieces: Sequence[Piece], progress: ProgressListener | None, executor: str, recording: Recording
    ) -> Iterator[tuple[MemberRecords, MemberTrajectories]]:
        """As `train`, each batch with what was recorded of it along training."""
        from ncsim.training.observation import OBSERVED

        for config, batch, (last, seen) in self._results(pieces, progress, executor, recording):
            ids, steps = _ids(batch), recording.steps(config.steps)
            counts, *values = (by_member(each) for each in (seen.counts, *(seen.values[name] for name in OBSERVED)))
            along = MemberTrajectories(ids, steps, counts, dict(zip(OBSERVED, values, strict=True)))
            yield MemberRecords(ids, **last._asdict()), along

    def train_kept(self, config: EnsembleConfig, members: np.ndarray, executor: str) -> tuple[MemberRecords, Network]:
        """The records of members with any ids, and their trained networks: arrays [M, context, ...]."""
        with failing_in_one_line(unless=lambda error: False):
            program = self._program(executor, config, FEWEST_BLOCKS, kept=True)
            records, networks = self._block_by_block(program, config, members, config.steps)
        return MemberRecords(members.astype(np.uint64), **records._asdict()), networks

    def train_twins(
        self, config: EnsembleConfig, members: np.ndarray, steps: np.ndarray, contexts: tuple[int, ...], apart: float
    ) -> Twins:
        """Members with any ids at these steps, trained with twins that start so far away: arrays [M, context, R, ...]."""
        import jax

        from ncsim.executors import xla

        with failing_in_one_line(unless=lambda error: False), jax.enable_x64(True):
            program = xla.twin_program(program_of(config), self._mesh, len(steps), contexts, apart)
            return self._block_by_block(program, config, members, steps)

    def _block_by_block(self, program: Any, config: EnsembleConfig, members: np.ndarray, steps: Any) -> Any:
        """What a program gives of members with any ids, a block per device and call: a tree of arrays [M, ...]."""
        import jax

        from ncsim.executors.calls import InFlight

        devices, used = len(self._devices), np.ones(len(self._devices), np.int32)
        found = []
        with jax.enable_x64(config.precision == "float64"), InFlight() as calls:
            for first in range(0, len(members), devices * program.lanes):
                batch = members[first : first + devices * program.lanes]
                ids = np.zeros((devices * program.blocks, program.lanes), np.uint32)
                ids[:: program.blocks] = np.resize(batch, devices * program.lanes).reshape(devices, program.lanes)
                result = calls.add(program.run(config.root_seed, ids, used, config.learning_rate, steps))
                take = functools.partial(_of_members, used=used, members=len(batch))
                found.append(calls.kept(result, functools.partial(jax.tree.map, take), None))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

    def _results(
        self, pieces: Sequence[Piece], progress: ProgressListener | None, executor: str, recording: Recording | None
    ) -> Iterator[tuple[EnsembleConfig, range, Any]]:
        """What a program gives of these members, in batches: a tree of arrays [members of the batch, ...]. In smaller
        blocks, which change no member, where the devices have no memory for these."""
        left = [(config, ids, ids.start) for config, ids in pieces if ids]
        while left:
            _say_at_stake(left[0][1])
            try:
                with failing_in_one_line(unless=out_of_memory):
                    rest = [(config, range(first, ids.stop)) for config, ids, first in left]
                    for config, batch, result in self._calls(rest, progress, executor, recording):
                        left[0] = (config, left[0][1], batch.stop)
                        yield config, batch, result
                        if batch.stop == left[0][1].stop:
                            del left[0]
                            _say_at_stake(left[0][1] if left else None)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._make_smaller(left[0][0], executor)

    def _calls(
        self, pieces: Sequence[Piece], progress: ProgressListener | None, executor: str, recording: Recording | None
    ) -> Iterator[tuple[EnsembleConfig, range, Any]]:
        from ncsim.executors.calls import InFlight

        pending: _Call | None = None
        with InFlight() as calls:
            for issued in itertools.chain(self._issued(pieces, progress, executor, recording, calls), [None]):
                if pending is not None:
                    config, batch, used = pending.config, pending.batch, pending.used
                    take = functools.partial(_taken, used=used, members=len(batch), recorded=recording is not None)
                    kept = calls.kept(pending.result, take, waiting(progress))
                    # With one call always waiting behind another, the time between two results is that of one call.
                    self._note_speed(pending.cost, pending.started, int(used.max()))
                    if progress is not None:
                        progress.advance(len(batch), len(batch) * network_steps(config))
                    first = batch.start
                    for members, of_device in kept:
                        yield config, range(first, first + members), of_device
                        first += members
                    signals.check()
                pending = issued

    def _issued(
        self,
        pieces: Sequence[Piece],
        progress: ProgressListener | None,
        executor: str,
        recording: Recording | None,
        calls: InFlight,
    ) -> Iterator[_Call]:
        """The calls for these pieces, each of which is on the devices when it is given."""
        import jax

        for config, ids in pieces:
            steps: Any = config.steps if recording is None else recording.steps(config.steps)
            points = None if recording is None else len(steps)
            most = self._blocks if points is None else min(max(RECORDED_POINTS // points, FEWEST_BLOCKS), self._blocks)
            with telling("compiling the training" if progress is not None else None):
                program = self._program(executor, config, most, points)
            cost = (executor, _same_cost(config), points)
            first = ids.start
            while first < ids.stop:
                blocks = self._blocks_a_call(cost, most)
                batch = range(first, min(first + blocks * program.lanes * len(self._devices), ids.stop))
                members, used = self._layout(batch, program)
                with jax.enable_x64(config.precision == "float64"):
                    result = calls.add(program.run(config.root_seed, members, used, config.learning_rate, steps))
                yield _Call(config, batch, used, result, cost, time.perf_counter())
                first = batch.stop

    def _program(
        self, executor: str, config: EnsembleConfig, blocks: int, points: int | None = None, kept: bool = False
    ) -> Any:
        """As `choice.program`, in blocks that the devices have memory for. What was too wide for one cell says nothing of another whose own
        blocks are narrower, as those of wide networks are: half of 262,144 would be eight times their 16,384."""
        from ncsim.executors import choice

        program = choice.program(executor, config, self._mesh, blocks, points=points, kept=kept)
        lanes = self._lanes.get(executor, program.lanes)
        if program.lanes <= lanes:
            return program
        return choice.program(executor, config, self._mesh, blocks, lanes, points, kept)

    def _make_smaller(self, config: EnsembleConfig, executor: str) -> None:
        """Fewer blocks in a buffer, then narrower ones."""
        lanes = self._program(executor, config, FEWEST_BLOCKS).lanes
        if self._blocks == BLOCKS and not self._lanes:
            say("a device has no memory left: training in smaller blocks, which changes no member")
        if self._blocks > FEWEST_BLOCKS:
            self._blocks = max(self._blocks // 8, FEWEST_BLOCKS)
        elif lanes // 2 >= SMALLEST_LANES.get(self._devices[0].platform, 1_024):
            self._lanes[executor] = lanes // 2
        else:
            raise DeviceError(
                f"a device has no memory for {lanes} networks of {config.hidden} hidden units; what is stored is whole, "
                "and the same command resumes on other devices"
            ) from None

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
    return np.concatenate([_of_device(blocks[:count], 0) for blocks, count in _by_device(leaf, used)])[:members]


def _by_device(leaf: Any, used: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """What each device has of a result [D * B, ...], and how many of its blocks it has filled."""
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return ((np.asarray(shard.data), int(count)) for shard, count in zip(shards, used, strict=True) if count)


def _of_device(blocks: np.ndarray, axis: int) -> np.ndarray:
    """Blocks [B, ..., lanes, ...], of which lanes are at this axis of one block, as [..., B * lanes, ...]; one block, and blocks whose
    lanes come first, without a copy."""
    moved = np.moveaxis(blocks, 0, axis)
    return moved.reshape(*moved.shape[:axis], -1, *moved.shape[axis + 2 :])


def _taken(result: Any, used: np.ndarray, members: int, recorded: bool) -> list[tuple[int, Any]]:
    """What each device gives of a call's result, with or without what was recorded along training: how many members, and a tree of
    arrays [members, ...], of what was recorded [..., members, R]. It is the device's own memory where members lie together there and
    fill a quarter of it."""
    import jax

    lanes, counts = jax.tree.leaves(result)[0].shape[1], used[used > 0]
    there = [
        min(int(count) * lanes, members - int(before) * lanes)
        for count, before in zip(counts, np.cumsum(counts) - counts, strict=True)
    ]

    def take(leaf: Any, along: bool) -> list[np.ndarray]:
        found = []
        for (blocks, count), size in zip(_by_device(leaf, used), there, strict=True):
            axis = blocks.ndim - 3 if along else 0
            taken = _of_device(blocks[:count], axis)[(slice(None),) * axis + (slice(size),)]
            found.append(taken if 4 * taken.size >= blocks.size else taken.copy(order="K"))
        return found

    parts = result if recorded else (result,)
    leaves = [take(leaf, place > 0) for place, part in enumerate(parts) for leaf in jax.tree.leaves(part)]
    structure = jax.tree.structure(result)
    return [
        (size, jax.tree.unflatten(structure, each)) for size, each in zip(there, zip(*leaves, strict=True), strict=True)
    ]


def _say_at_stake(ids: range | None) -> None:
    # Nothing of a part in work is stored, so that parts do not depend on when a run was interrupted.
    signals.at_stake = "" if ids is None else f"the training of members {ids.start:,} to {ids.stop - 1:,}"


def _ids(batch: range) -> np.ndarray:
    return np.arange(batch.start, batch.stop, dtype=np.uint64)


def _same_cost(config: EnsembleConfig) -> EnsembleConfig:
    return dataclasses.replace(config, members=1, first_member=0, root_seed=0)
