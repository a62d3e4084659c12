"""Blocks of members as one XLA program: a scan over steps inside a loop over blocks, the member axis in the lanes.

One program serves every number of members: a device gets a buffer of member ids and how many blocks of it to train.
A block has one fixed width, and every operation on it is elementwise over the lanes, so a member's bits do not depend
on its neighbours, on the number of blocks, or on the number of devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ncsim.config.ensemble import EnsembleConfig, program_of
from ncsim.config.scenarios import ScenarioTasks
from ncsim.config.tasks import CONTEXTS, context_targets
from ncsim.training.circuit import Circuit, circuit_logits, encoded_states, initial_circuit, train_circuit
from ncsim.training.initialization import dtype_of, member_key, row_tuples, seed_words, start_vector, vector_size
from ncsim.training.network import Architecture, forward
from ncsim.training.observation import CELLS, Observation, observe, record, record_of_logits, record_scenario
from ncsim.training.separability import squared_response, twin_starts
from ncsim.training.step import train

#: Members a block, by platform. On a CPU 64 lanes of state stay in the first-level cache; wider and narrower are slower
#: (benchmarks/README.md). Accelerators want enough lanes to fill the chip.
LANES = {"cpu": 64, "gpu": 65_536, "tpu": 65_536}
#: A circuit's state is much larger than a network's: narrower blocks on CPUs.
CIRCUIT_LANES = 16
#: Members per block that are trained with their twins, by platform. A block has as many networks, one twin after the other.
TWIN_LANES = {"cpu": 64, "gpu": 8_192, "tpu": 8_192}
MEMBERS = "members"


class Network(NamedTuple):
    """A trained network: what was trained of it, and the decision logits of which its record was made."""

    vector: Any  # [P]
    logits: Any  # [R, 2]


class BlockProgram(NamedTuple):
    """A compiled program: `run(root_seed, ids [D * B, lanes], used [D], learning_rate, steps)` gives a `ContextRecord` of
    arrays [D * B, lanes, context, ...], still being computed, of which the first `used[d]` blocks of each device are filled.

    A program that records takes `steps` [R], ascending, and gives that record and an `Observation` of arrays
    [D * B, context, ..., lanes, R]: as files have it, where a number is a column and the steps of a member follow one another. One that keeps networks gives the record and a `Network` of arrays
    [D * B, lanes, context, ...]."""

    run: Callable[..., Any]
    lanes: int
    blocks: int  # buffer size a device, B


def observed(config: EnsembleConfig, trained: jax.Array, targets: jax.Array) -> Observation:
    """What is recorded of parameters [R, P, lanes] at recorded steps: arrays [..., lanes, R]."""
    found = jax.lax.map(lambda moment: observe(config, moment, targets), trained)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), found)


#: A function such as `observed`.
Observer = Callable[[EnsembleConfig, jax.Array, jax.Array], Observation]


def block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int | None = None,
    training: Callable[..., Any] = train,
    points: int | None = None,
    kept: bool = False,
    observer: Observer = observed,
) -> BlockProgram:
    """The program that trains blocks of `config`'s members over the devices of a one-dimensional mesh.

    Configs that differ only in members, seed, learning rate or steps share one program. Of a scenario's config records are
    `ScenarioRecord`s. `training` is what runs the
    steps: `ncsim.training.step.train`, or another executor's function of the same arguments. `points`: how many steps are
    recorded, with the last, and `observer` what is recorded of them; None records none. `kept`: whether networks are given too, of a program that does not record.
    """
    platform = mesh.devices.flat[0].platform
    return _block_program(
        program_of(config), mesh, blocks, lanes or LANES.get(platform, 65_536), training, points, kept, observer
    )


@functools.lru_cache(maxsize=32)
def _block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int,
    training: Callable[..., Any],
    points: int | None,
    kept: bool,
    observer: Observer,
) -> BlockProgram:
    dtype = dtype_of(config)
    targets = context_targets(config.tasks).astype(dtype)
    size, recorded = vector_size(config), record_scenario if isinstance(config.tasks, ScenarioTasks) else record

    def one_context(root: jax.Array, members: jax.Array, context: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        # Wrapped here, once a network: every network folds other ids into the run's key, which is no reuse of it.
        key = jax.random.wrap_key_data(root)

        def start(member: jax.Array) -> jax.Array:
            return start_vector(config, key, member, context)

        vector = jax.vmap(start, out_axes=-1)(members).astype(dtype)
        answers = jnp.asarray(targets)[context]
        trained = training(config, vector, answers, rate, steps)
        vector = trained if points is None else trained[-1]
        assert vector.shape == (size, lanes)
        result: Any = recorded(config, vector, answers)
        cells_last = {
            name: jnp.moveaxis(getattr(result, name), 0, -1)
            for name in CELLS
            if getattr(result, name, None) is not None
        }
        result = result._replace(**cells_last)
        if kept:
            _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
            return result, Network(jnp.moveaxis(vector, 0, -1), jnp.moveaxis(logits, (0, 1), (-2, -1)))
        if points is None:
            return result
        return result, observer(config, trained, answers)

    # A kernel does not say how its results vary over the mesh.
    on_device = _over_blocks(one_context, blocks, points, len(targets))
    run = _compiled(on_device, mesh, (blocks, lanes), dtype, points, check_varying=training is train)
    return BlockProgram(run, lanes, blocks)


def circuit_lanes(platform: str) -> int:
    """Circuits per block."""
    return CIRCUIT_LANES if platform == "cpu" else LANES["gpu"]


@functools.lru_cache(maxsize=32)
def circuit_program(circuit: Circuit, config: EnsembleConfig, mesh: Mesh, blocks: int) -> BlockProgram:
    """As `block_program`, of circuits in place of NCnets; `config` is as `program_of` gives it."""
    dtype = dtype_of(config)
    targets = context_targets(config.tasks).astype(dtype)
    states = encoded_states(circuit, config.tasks)
    lanes = circuit_lanes(mesh.devices.flat[0].platform)

    def one_context(root: jax.Array, members: jax.Array, context: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        key = jax.random.wrap_key_data(root)

        def start(member: jax.Array) -> jax.Array:
            return initial_circuit(member_key(key, member, context, config.common_initialization), circuit)

        vector = jax.vmap(start, out_axes=-1)(members).astype(dtype)
        answers = jnp.asarray(targets)[context]
        vector = train_circuit(circuit, config, vector, answers, rate, steps)
        result = record_of_logits(config, vector, circuit_logits(circuit, vector, states), answers)
        return result._replace(counts=jnp.moveaxis(result.counts, 0, -1))

    run = _compiled(_over_blocks(one_context, blocks, None), mesh, (blocks, lanes), dtype, None, check_varying=True)
    return BlockProgram(run, lanes, blocks)


class Twins(NamedTuple):
    """A member at recorded steps, and how its heads answer to where they began (`training.separability`)."""

    response: Any  # [R, 2, 2]: squared norms, the head that responds first
    vector: Any  # [R, P]


@functools.lru_cache(maxsize=32)
def twin_program(
    config: EnsembleConfig, mesh: Mesh, points: int, chosen: tuple[int, ...], apart: float
) -> BlockProgram:
    """As `block_program`, one block per device, of members with their twins in the `chosen` contexts: `Twins` of arrays
    [D, lanes, context, ...] at `points` steps. Twins start `apart` from the member. `config` is as `program_of` gives it."""
    dtype = dtype_of(config)
    targets = context_targets(config.tasks).astype(dtype)
    lanes = TWIN_LANES.get(mesh.devices.flat[0].platform, 8_192)

    def one_context(root: jax.Array, members: jax.Array, place: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        key, context = jax.random.wrap_key_data(root), jnp.asarray(chosen)[place]

        def start(member: jax.Array) -> jax.Array:
            return start_vector(config, key, member, context)

        vector = jax.vmap(start, out_axes=-1)(members).astype(dtype)
        answers = jnp.asarray(targets)[context]
        # One after the other: each is trained as a member is, in full blocks, so that what is equal is so bit for bit.
        trained = jax.lax.map(lambda one: train(config, one, answers, rate, steps), twin_starts(config, vector, apart))
        response = jax.lax.map(lambda moment: squared_response(config, moment, apart), jnp.swapaxes(trained, 0, 1))
        return Twins(jnp.moveaxis(response, -1, 0), jnp.moveaxis(trained[0], -1, 0))

    on_device = _over_blocks(one_context, 1, None, len(chosen))
    return BlockProgram(_compiled(on_device, mesh, (1, lanes), dtype, points, check_varying=True), lanes, 1)


def _over_blocks(
    one_context: Callable[..., Any], blocks: int, points: int | None, count: int = len(CONTEXTS)
) -> Callable[..., Any]:
    """What a device does with its buffer of ids: every one of `count` contexts of every block, one after the other."""

    def on_device(root: jax.Array, ids: jax.Array, used: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        contexts = jnp.arange(count)
        abstract = jax.eval_shape(lambda: one_context(root, ids[0], contexts[0], rate, steps))
        empty = jax.tree.map(lambda leaf: jnp.zeros((blocks, count, *leaf.shape), leaf.dtype), abstract)
        empty = jax.lax.pcast(empty, MEMBERS, to="varying")

        def body(turn: jax.Array, buffers: Any) -> Any:
            block, context = turn // count, turn % count
            result = one_context(root, ids[block], context, rate, steps)
            return jax.tree.map(lambda buffer, leaf: buffer.at[block, context].set(leaf), buffers, result)

        filled = jax.lax.fori_loop(0, used[0] * count, body, empty)
        if points is None:
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 2), filled)
        records, seen = filled
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 2), records), seen

    return on_device


def _compiled(
    on_device: Callable[..., Any],
    mesh: Mesh,
    buffer: tuple[int, int],
    dtype: Any,
    points: int | None,
    check_varying: bool,
) -> Callable[..., Any]:
    """`BlockProgram.run` of what each device of the mesh does with its buffer of ids [blocks, lanes]."""
    split, same = NamedSharding(mesh, PartitionSpec(MEMBERS)), NamedSharding(mesh, PartitionSpec())
    shardings = (same, split, split, same, same)
    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=tuple(s.spec for s in shardings),
        out_specs=PartitionSpec(MEMBERS),
        check_vma=check_varying,
    )
    devices = mesh.devices.size
    blocks, lanes = buffer
    # Shapes alone, so that a program can be compiled for devices that are not here.
    like = (
        ((2,), np.uint32),
        ((devices * blocks, lanes), np.uint32),
        ((devices,), np.int32),
        ((), dtype),
        (() if points is None else (points,), np.int32),
    )
    arguments = [jax.ShapeDtypeStruct(*each, sharding=s) for each, s in zip(like, shardings, strict=True)]
    options: dict[str, bool | str] = {}
    if mesh.devices.flat[0].platform == "cpu":
        options["xla_cpu_prefer_vector_width"] = "512"
    compiled = jax.jit(mapped).lower(*arguments).compile(compiler_options=options)

    def run(root_seed: int, ids: Any, used: Any, rate: float, steps: Any) -> Any:
        given = (seed_words(root_seed), ids, used, np.asarray(rate, dtype), np.asarray(steps, np.int32))
        return compiled(*jax.device_put(given, shardings))

    return run
