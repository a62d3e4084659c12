"""The programs that train and evaluate groups of adapters on devices: compiled once a shape of group."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ncsim.text.records import AdapterId, Evaluation
from ncsim.text.training.finetune import (
    GroupState,
    Order,
    Setting,
    Tokens,
    adapter_key,
    epoch_order,
    evaluate,
    initial_state,
    train_steps,
)

ADAPTERS = "adapters"


class GroupProgram(NamedTuple):
    """A group's training."""

    begin: Callable[[], GroupState]
    order: Callable[[int], Order]  # of an epoch
    train: Callable[
        [GroupState, Order, int, int, int], tuple[GroupState, Any]
    ]  # (state, order, epoch, from step, to step)
    evaluate: Callable[[GroupState, str], Evaluation]  # on the split "train" or "test"
    steps: int  # an epoch
    memory: Callable[[], int]  # bytes a device needs; compiles


def adapter_mesh(devices: Sequence[Any]) -> Mesh:
    """Devices over which a group's adapters are spread."""
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (ADAPTERS,), devices=devices, axis_types=kinds)


def group_program(
    setting: Setting,
    mesh: Mesh,
    backbone: Any,
    tokens: Tokens,
    pairs: dict[str, np.ndarray],
    group: Sequence[AdapterId],
) -> GroupProgram:
    """The program that trains and evaluates one group.

    Args:
        setting: the run, the backbone's sizes, and how much of a step is in memory at once.
        mesh: devices over which the adapters are spread.
        backbone: its parameters, the same on each device.
        tokens: all items, likewise.
        pairs: per split, int32[4, N, 2]: places of Alice's and Bob's items in each context.
        group: as many adapters as the mesh has devices, or a multiple.

    Raises:
        ValueError: another number of adapters.
    """
    if len(group) % mesh.devices.size:
        raise ValueError(f"group: {len(group)} adapters; allowed: a multiple of the {mesh.devices.size} devices")
    spread, same = NamedSharding(mesh, PartitionSpec(ADAPTERS)), NamedSharding(mesh, PartitionSpec())
    # Both splits have one length, and so one program: pairs that are not there cost nothing.
    longest = max(chosen.shape[1] for chosen in pairs.values())
    filled = {
        split: np.pad(chosen, ((0, 0), (0, longest - chosen.shape[1]), (0, 0)), constant_values=-1)
        for split, chosen in pairs.items()
    }
    keys, scales, own_pairs = jax.device_put(
        (
            jnp.stack([jax.random.key_data(adapter_key(setting.config, adapter)) for adapter in group]),
            np.array([setting.config.scale(adapter.rank) for adapter in group], np.float32),
            {split: chosen[[adapter.context for adapter in group]] for split, chosen in filled.items()},
        ),
        spread,
    )
    programs = _Programs.of(setting, mesh)

    def number(value: int) -> jax.Array:
        return jax.device_put(np.int32(value), same)

    def train(state: GroupState, order: Order, epoch: int, first: int, stop: int) -> tuple[GroupState, Any]:
        where = (number(epoch), number(first), number(stop))
        result: tuple[GroupState, Any] = compiled()(backbone, tokens, state, keys, scales, order, *where)
        return result

    def compiled() -> Any:
        return programs.training(backbone, tokens, group, keys, scales, spread, same)

    return GroupProgram(
        begin=lambda: jax.device_put(initial_state(setting, group), spread),
        order=lambda epoch: programs.order(tokens, keys, own_pairs["train"], number(epoch)),
        train=train,
        evaluate=lambda state, split: programs.evaluate(backbone, tokens, state.adapters, scales, own_pairs[split]),
        steps=setting.steps,
        memory=lambda: _memory(compiled()),
    )


class _Programs:
    """The functions of `finetune` over a mesh, compiled for what they are called with."""

    def __init__(self, setting: Setting, mesh: Mesh) -> None:
        self._setting = setting
        self._compiled: dict[Any, Any] = {}
        spread, same = PartitionSpec(ADAPTERS), PartitionSpec()

        def on_devices(function: Callable[..., Any], *specs: Any, **options: Any) -> Any:
            local = functools.partial(function, setting)
            mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)
            return jax.jit(mapped, **options)

        where = (same, same, same)
        self._train = on_devices(train_steps, same, same, spread, spread, spread, spread, *where, donate_argnums=(2,))
        self.order = on_devices(epoch_order, same, spread, spread, same)
        self.evaluate = on_devices(evaluate, same, same, spread, spread, spread)

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def of(setting: Setting, mesh: Mesh) -> _Programs:
        """One for all groups of a run."""
        return _Programs(setting, mesh)

    def training(
        self, backbone: Any, tokens: Tokens, group: Sequence[AdapterId], keys: Any, scales: Any, spread: Any, same: Any
    ) -> Any:
        """The compiled training of groups of this size. Compiled ahead, so that its memory is known."""
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), (backbone, tokens))
        key = (len(group), str(shapes))
        if key not in self._compiled:

            def like(tree: Any) -> Any:
                return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread), tree)

            state = like(jax.eval_shape(lambda: initial_state(self._setting, group)))
            pairs = jax.ShapeDtypeStruct((len(group), self._setting.items, 2), jnp.int32)
            number = jax.ShapeDtypeStruct((), jnp.int32)
            order = like(jax.eval_shape(functools.partial(epoch_order, self._setting), tokens, keys, pairs, number))
            whole = jax.ShapeDtypeStruct((), jnp.int32, sharding=same)
            lowered = self._train.lower(backbone, tokens, state, keys, scales, order, whole, whole, whole)
            self._compiled[key] = lowered.compile()
        return self._compiled[key]


def _memory(compiled: Any) -> int:
    """Bytes that a compiled program needs on each device, its arguments included; 0 where the platform does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )
