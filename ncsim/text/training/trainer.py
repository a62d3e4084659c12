"""Groups of adapters trained on devices: how many at once, in calls of which length, with which checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ncsim import signals
from ncsim.errors import ConfigError, DeviceError, StoreError
from ncsim.executors.devices import arithmetic_settings, failing_in_one_line, out_of_memory
from ncsim.formatting import counted
from ncsim.storage.environment import environment
from ncsim.terminal import ProgressListener, say, telling, waiting
from ncsim.text.checkpoint_file import Checkpoint
from ncsim.text.config import TextConfig
from ncsim.text.data.prepare import PreparedSuite
from ncsim.text.model.adapter_files import adapter_contents
from ncsim.text.model.sizes import BertConfig
from ncsim.text.records import SPLITS, AdapterId, Evaluation
from ncsim.text.run_folder import TextFolder
from ncsim.text.training.attention import attention_for
from ncsim.text.training.devices import free_memory, held_by_devices, slow_precision, vectors_of
from ncsim.text.training.finetune import GroupState, Setting, all_adapters, grouped
from ncsim.text.training.profiles import group_profiles
from ncsim.text.training.programs import ADAPTERS, GroupProgram, group_program
from ncsim.text.training.regrouping import regrouped
from ncsim.text.training.shapes import best_microbatch, frozen, joined, setting_of

#: Adapters trained at once where nothing is said: on a CPU, where several are no faster (benchmarks/notes-text.md), one.
AT_ONCE = {"cpu": 1}
AT_ONCE_ELSEWHERE = 16
#: Wanted length of one call to the device, and how often a group's state is stored.
CALL_SECONDS = 2.0
CHECKPOINT_SECONDS = 60.0
#: How long a call that is on the devices may take after a signal, so that its steps are in the checkpoint.
PATIENCE_SECONDS = 5 * CALL_SECONDS
#: Share of a device's free memory that a program may ask for.
MEMORY_SHARE = 0.85


class Trainer:
    """Feeds groups of adapters to the devices."""

    def __init__(
        self, config: TextConfig, bert: BertConfig, parameters: Any, prepared: PreparedSuite, mesh: Mesh
    ) -> None:
        self._config, self._bert, self._mesh = config, bert, mesh
        self._told: dict[int, int] = {}  # items of each group's training that are done, as a listener knows
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec(ADAPTERS))
        if words := slow_precision(config.precision, mesh.devices.flat[0].platform):
            say(words)
        with held_by_devices("the model"):
            self._backbone = jax.device_put(frozen(parameters, config, bert), self._everywhere)
            jax.block_until_ready(self._backbone)
        tokens, self._pairs = joined(prepared)
        self._lengths = tokens.lengths
        with held_by_devices("the items"):
            self._tokens = jax.device_put(tokens, self._everywhere)
            jax.block_until_ready(self._tokens)
        self._attention = attention_for(config, bert, self._setting(all_adapters(config)).row, mesh)

    def plan(self, at_once: int | None) -> dict[str, Any]:
        """Groups and microbatch such that the largest group fits into memory, for config.json."""
        chosen, microbatch = self._fitting(at_once)
        return {
            "groups": [list(map(list, group)) for group in grouped(all_adapters(self._config), chosen)],
            "microbatch": microbatch,
            "device": self._device_words(),
            "environment": environment() | self._settings() | vectors_of(self._mesh),
        }

    def _fitting(self, at_once: int | None) -> tuple[int, int]:
        """How many adapters at once, and rows of a step at a time, fit into memory; it is said where they are fewer than wanted."""
        devices, platform = self._mesh.devices.size, self._mesh.devices.flat[0].platform
        chosen = at_once or AT_ONCE.get(platform, AT_ONCE_ELSEWHERE)
        wanted = chosen = -(-chosen // devices) * devices
        adapters = all_adapters(self._config)
        setting = self._setting(adapters)
        microbatch = best = best_microbatch(setting, self._lengths, chosen // devices, platform)
        free = free_memory(self._mesh) * MEMORY_SHARE
        while True:
            groups = [_filled(group, devices) for group in grouped(adapters, chosen)]
            # The one that needs most: the widest of the longest.
            largest = max(groups, key=lambda group: (len(group), group[-1].rank))
            with telling("compiling for the largest group of adapters"):
                needed = self._program(largest, microbatch).memory()
            if needed <= free or (microbatch == 1 and chosen == devices):
                break
            if microbatch > 2 or chosen == devices:
                microbatch = -(-microbatch // 2)
            else:
                chosen = max(chosen // 2 // devices, 1) * devices
        if microbatch < best or chosen < wanted:
            say(
                f"memory for {counted(chosen, 'adapter')} at once and {microbatch} x {setting.row} tokens of a step at a time"
            )
        return chosen, microbatch

    def _device_words(self) -> str:
        first = self._mesh.devices.flat[0]
        return f"{self._mesh.devices.size} x {first.platform} ({first.device_kind})"

    def kind(self) -> dict[str, Any]:
        """The kind of machine that trains here."""
        return environment() | {"device": self._device_words()} | self._settings() | vectors_of(self._mesh)

    def _settings(self) -> dict[str, list[str]]:
        """What changes arithmetic and is not as usual, {} where nothing is."""
        found = arithmetic_settings()
        fused = [] if self._attention == "xla" else [f"attention={self._attention}"]
        return {"settings": [*found.get("settings", []), *fused]} if fused else found

    def regroup(self, folder: TextFolder, at_once: int) -> None:
        """Take up a run with other groups than it was begun with, as --at-once asks.

        Complete groups stay. Adapters that have not begun are grouped anew; those in training are divided where they are
        more than `at_once`, each with its state.
        """
        size = -(-at_once // self._mesh.devices.size) * self._mesh.devices.size
        complete = [folder.complete(n) for n in range(len(folder.groups))]
        begun = [not done and self._resumable(folder, n) is not None for n, done in enumerate(complete)]
        if regrouped(folder.groups, complete, begun, size) is None:
            return
        fitting, microbatch = self._fitting(at_once)
        size = min(size, fitting)
        if (anew := regrouped(folder.groups, complete, begun, size)) is None:
            return
        folder.regroup([*anew.staying, *anew.new], anew.moved)
        say(
            f"--at-once {at_once}: what is left is trained in {counted(len(anew.new), 'group')} of at most {counted(size, 'adapter')}"
        )
        folder.replan(microbatch=microbatch)

    def train(self, folder: TextFolder, work: Sequence[int], progress: ProgressListener | None) -> None:
        """Train groups, by number, each from its last checkpoint."""
        if not work:
            return
        items = self._pairs["train"].shape[1]
        checkpoints = {n: self._resumable(folder, n) for n in work}
        batch = min(self._config.batch_size, items)
        for n, begun in checkpoints.items():
            self._told[n] = begun.epoch * items + min(begun.step * batch, items) if begun else 0
        if progress is not None:
            left = sum(2 * (self._config.epochs * items - self._told[n]) * len(folder.groups[n]) for n in work)
            progress.start(sum(len(folder.groups[n]) for n in work), left)
        try:
            with signals.deferred():
                for n in work:
                    self._train_group(folder, n, checkpoints[n], progress)
                    signals.check()
        finally:
            if progress is not None:
                progress.close()

    def _resumable(self, folder: TextFolder, number: int) -> Checkpoint | None:
        """A group's checkpoint; one that is damaged is said and given up: the group begins anew. Raises StoreError where it cannot
        be read now, as hours of training may be in it."""
        with folder.reading(folder.checkpoint_name(number)):
            try:
                return folder.checked_checkpoint(number)
            except StoreError as error:
                say(f"{error}; its {len(folder.groups[number])} adapters begin anew")
                return None

    def _train_group(
        self, folder: TextFolder, number: int, begun: Checkpoint | None, progress: ProgressListener | None
    ) -> None:
        group = folder.groups[number]
        while True:
            microbatch = int(folder.description["microbatch"])
            try:
                with failing_in_one_line(unless=out_of_memory):
                    program = self._program(_filled(group, self._mesh.devices.size), microbatch)
                    self._run_group(folder, number, program, begun, progress)
                return
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if microbatch == 1:
                    raise DeviceError(
                        f"a device has no memory for {counted(len(group), 'adapter')} at once and one row of a step at a time; what is "
                        "stored is whole, and the same command resumes with a smaller --at-once, or with --remat true"
                    ) from None
                folder.halve(microbatch)
                say(
                    f"out of device memory: on with {counted(folder.description['microbatch'], 'row')} of a step at a time"
                )
                begun = self._resumable(folder, number)

    def _run_group(
        self,
        folder: TextFolder,
        number: int,
        program: GroupProgram,
        begun: Checkpoint | None,
        progress: ProgressListener | None,
    ) -> None:
        config, group = self._config, folder.groups[number]
        run = _GroupRun(folder, number, program)
        if begun is not None:
            run.go_on(begun, self._restored(run.state, begun))
        if not run.evaluations:
            run.evaluate(progress, self._check_untrained)
        else:
            run.write_part()  # a kill may have come between checkpoint and part
        run.stored = time.monotonic()
        signals.at_stake = "what was trained after the last checkpoint"
        calls = _CallLength()
        while run.epoch < config.epochs:
            self._train_epoch(run, calls, progress)
            if run.epoch in config.evaluated_epochs:
                run.evaluate(progress)
            if run.epoch < config.epochs:
                run.store_if_due()
        for place, adapter in enumerate(group):
            tree = jax.tree.map(lambda leaf, n=place: np.asarray(leaf[n]), run.state.adapters)
            contents = adapter_contents(
                tree, rank=adapter.rank, alpha=config.alpha, dropout=config.dropout, base_model=config.model,
                model_type=self._bert.model_type, seal=folder.sealed,
            )  # fmt: skip
            folder.write_adapter(adapter, contents)
        folder.drop_checkpoint(number)
        signals.at_stake = ""
        if progress is not None:
            progress.advance(len(group), 0)

    def _check_untrained(self, group: Sequence[AdapterId], found: dict[str, np.ndarray]) -> None:
        """Refuse a model that answers nothing before the first step: training could not mend it.

        Raises:
            ConfigError: naming the context.
        """
        diverged = np.argwhere(found["diverged"])
        if len(diverged):
            split, place = diverged[0]
            raise ConfigError(
                f"--model: before the first step its logits are not finite on the {SPLITS[split]} pairs of context "
                f"{group[place].context_name} (--precision {self._config.precision}); allowed: a model whose weights, "
                "positions and segments fit its tokeniser's ids"
            )

    def _train_epoch(self, run: _GroupRun, calls: _CallLength, progress: ProgressListener | None) -> None:
        """Train what is left of a group's epoch, in calls of a few seconds."""
        items = self._pairs["train"].shape[1]
        batch = min(self._config.batch_size, items)
        order = run.program.order(run.epoch)
        while run.step < run.program.steps:
            first, stop = run.step, min(run.step + calls.steps, run.program.steps)
            with calls:
                run.state, losses = run.program.train(run.state, order, run.epoch, first, stop)
                with signals.finishing():
                    signals.answering(losses.block_until_ready, waiting(progress), PATIENCE_SECONDS)
            calls.note(stop - first)
            # What was done before memory was short, and is done again from the checkpoint, is not told twice.
            reached = run.epoch * items + min(stop * batch, items)
            done = max(reached - self._told[run.number], 0)
            self._told[run.number] += done
            if progress is not None:
                progress.advance(0, 2 * done * len(run.group))
            run.step = stop
            run.store_if_due()
        run.epoch, run.step = run.epoch + 1, 0

    def _restored(self, like: GroupState, begun: Checkpoint) -> GroupState:
        leaves, structure = jax.tree.flatten(like)
        # A group that was divided has no fillers of devices. Ranks may have been padded to another width, with zeros.
        filled = len(leaves[0]) - len(begun.leaves[0])
        stored = [np.concatenate([leaf, *[leaf[-1:]] * max(filled, 0)]) for leaf in begun.leaves]
        if len(stored) == len(leaves) and all(old.ndim == leaf.ndim for old, leaf in zip(stored, leaves, strict=True)):
            begun = begun._replace(leaves=[_resized(old, leaf.shape) for old, leaf in zip(stored, leaves, strict=True)])
        if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(leaf.shape, leaf.dtype) for leaf in begun.leaves]:
            raise ConfigError(
                f"--devices: {self._mesh.devices.size}; the run in training was begun with another number, "
                "which its checkpoint is made for; allowed: that number"
            )
        state: GroupState = jax.device_put(jax.tree.unflatten(structure, begun.leaves), self._spread)
        return state

    def _program(self, group: Sequence[AdapterId], microbatch: int) -> GroupProgram:
        setting = self._setting(group)._replace(microbatch=microbatch, attention=self._attention)
        return group_program(setting, self._mesh, self._backbone, self._tokens, self._pairs, group)

    def _setting(self, group: Sequence[AdapterId]) -> Setting:
        width = max(adapter.rank for adapter in group)
        return setting_of(self._config, self._bert, self._lengths, self._pairs["train"].shape[1], width)


class _GroupRun:
    """A group in training: its state, how far it is, what was evaluated, and all of this put into the run's folder."""

    def __init__(self, folder: TextFolder, number: int, program: GroupProgram) -> None:
        self.program, self.group = program, folder.groups[number]
        self.state = program.begin()
        self.epoch, self.step = 0, 0
        self.evaluations: list[dict[str, np.ndarray]] = []  # an evaluated epoch each
        self.stored = time.monotonic()
        self._folder, self.number = folder, number

    def go_on(self, begun: Checkpoint, state: GroupState) -> None:
        """Be where a checkpoint was written, with its state on the devices."""
        self.state = state
        self.epoch, self.step = begun.epoch, begun.step
        self.evaluations = [
            {name: values[n] for name, values in begun.evaluations.items()}
            for n in range(len(begun.evaluations["counts"]))
        ]

    def evaluate(
        self,
        progress: ProgressListener | None,
        check: Callable[[Sequence[AdapterId], dict[str, np.ndarray]], None] | None = None,
    ) -> None:
        """Evaluate both splits, and write the part with it, unless `check` raises. Where a signal ends it, the epoch
        before it is stored."""
        found = [self.program.evaluate(self.state, split) for split in SPLITS]
        size = len(self.group)

        def numbers() -> dict[str, np.ndarray]:
            counted = {n: np.stack([np.asarray(getattr(each, n))[:size] for each in found]) for n in Evaluation._fields}
            recorded = self._folder.config.record_entanglement
            return counted | (group_profiles(self.state.adapters, size) if recorded else {})

        try:
            evaluation = signals.answering(numbers, waiting(progress))
        except (signals.Stopped, KeyboardInterrupt):
            if self.epoch:
                self._store(self.epoch - 1, self.program.steps)
            raise
        if check is not None:
            check(self.group, evaluation)
        self.evaluations.append(evaluation)
        self.write_part()

    def write_part(self) -> None:
        """Write all evaluations so far."""
        self._folder.write_part(self.number, self._stacked())

    def store_if_due(self) -> None:
        """Write a checkpoint where the last one is old or a signal has come; then obey the signal."""
        if signals.asked() or time.monotonic() - self.stored > CHECKPOINT_SECONDS:
            self._store(self.epoch, self.step)
            signals.check()

    def _store(self, epoch: int, step: int) -> None:
        """Write a checkpoint of so many steps of an epoch."""
        with signals.finishing():
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.state)]
            self._folder.write_checkpoint(self.number, Checkpoint(epoch, step, leaves, self._stacked()))
            self.stored = time.monotonic()
            if signals.asked():
                signals.at_stake = ""

    def _stacked(self) -> dict[str, np.ndarray]:
        return {name: np.stack([each[name] for each in self.evaluations]) for name in self.evaluations[0]}


class _CallLength:
    """How many steps a call to the device should take, learnt from those before it."""

    def __init__(self) -> None:
        self.steps = 1
        self._begun = 0.0
        self._seconds = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._begun

    def note(self, steps: int) -> None:
        """A call of so many steps took as long as it did."""
        wanted = CALL_SECONDS / max(self._seconds / steps, 1e-6)
        self.steps = int(min(max(wanted, 1), 4 * self.steps))


def _filled(group: Sequence[AdapterId], devices: int) -> tuple[AdapterId, ...]:
    """A group made as long as the devices need it by repeating its last adapter, which changes no other."""
    return (*group, *[group[-1]] * (-len(group) % devices))


def _resized(stored: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """All of a group's leaf [G, ...] that has a place in another shape, and zeros beside it."""
    resized = np.zeros((len(stored), *shape[1:]), stored.dtype)
    kept = tuple(slice(min(old, new)) for old, new in zip(stored.shape, resized.shape, strict=True))
    resized[kept] = stored[kept]
    return resized
