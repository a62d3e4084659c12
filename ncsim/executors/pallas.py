"""Blocks of members with the training loop as a Pallas kernel: parameters and optimiser state stay in registers.

The XLA executor on an accelerator writes the state to memory and reads it back at every step. Here a program of the
kernel loads the state of its lanes, runs up to `CHUNK_STEPS` steps on it and stores it; nothing else touches memory. The
step is `ncsim.training.step`'s, as operations on lane arrays (`lane_program.py`). What is the same for all networks, as
Adam's bias corrections, XLA computes beforehand: a table with a row per step. A TPU's compiler has no power of scalars.
Initialisation and what is recorded are the XLA executor's. It is for TPUs, through Mosaic; on a CPU the kernel is interpreted,
which is slow and there to be tested. GPUs have the cuda executor.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu
from jax.sharding import AbstractMesh, Mesh, use_abstract_mesh

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.lane_program import LaneProgram
from ncsim.executors.native import program as native
from ncsim.executors.scalarise import ScalariseError, out_of_reach

#: Lanes of one program of the kernel, by platform, as the shape of the array that holds one parameter of each. A TPU
#: register holds 8 x 128. Untuned: no TPU was at hand (benchmarks/tune_pallas.py).
PROGRAM_LANES: dict[str, tuple[int, ...]] = {"tpu": (8, 128), "cpu": (64,)}
#: Members a block, by platform. On a CPU, where kernels are interpreted, few.
LANES = {"cpu": 64, "tpu": 65_536}
#: Steps that a call of the kernel takes at most: rows of the table of what changes from step to step.
CHUNK_STEPS = 1024
#: Wider networks have more state than a thread has registers.
MAX_HIDDEN = 8


def unsupported(config: EnsembleConfig) -> str | None:
    """Why a kernel cannot train this config, in words; None where it can."""
    if (reason := out_of_reach(config, "the kernel", MAX_HIDDEN)) is not None:
        return reason
    try:
        lane_program(config)
    except ScalariseError as error:
        return str(error)
    return None


def block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int | None = None,
    points: int | None = None,
    kept: bool = False,
) -> xla.BlockProgram:
    """As `xla.block_program`, with the training loop as one kernel.

    Raises:
        ConfigError: the config is not one that the kernel can train.
    """
    platform = mesh.devices.flat[0].platform
    reason = unsupported(config) if platform in PROGRAM_LANES else "on a GPU"
    if reason is not None:
        raise ConfigError(f"--executor: pallas cannot train {reason}; allowed here: xla")
    return xla.block_program(config, mesh, blocks, lanes or LANES[platform], training(platform), points, kept)


@functools.lru_cache(maxsize=32)
def training(platform: str, lanes: tuple[int, ...] | None = None) -> Callable[..., jax.Array]:
    """A function as `ncsim.training.step.train`, for parameters [P, N], whose steps are one kernel on this platform.

    Args:
        platform: "tpu", or "cpu", where the kernel is interpreted.
        lanes: lanes of one program, in the form of `PROGRAM_LANES`; N must be a multiple of how many they are.
    """
    lanes = lanes or PROGRAM_LANES[platform]

    def train(
        config: EnsembleConfig, vector: jax.Array, targets: jax.Array, learning_rate: jax.Array, steps: jax.Array
    ) -> jax.Array:
        networks = vector.shape[1]
        programs, rest = divmod(networks, math.prod(lanes))
        assert not rest, f"{networks} lanes do not fill programs of {lanes}"
        step = lane_program(config)
        kernel = _kernel_call(step, platform, lanes, programs)
        given = [*jnp.asarray(targets, vector.dtype).reshape(-1), jnp.asarray(learning_rate, vector.dtype)]
        begun, fixed, scalars = step.begin(vector, given)
        state = jnp.stack(begun).reshape(len(begun), programs * lanes[0], *lanes[1:])

        def chunk(at: tuple[jax.Array, jax.Array, Any], stop: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
            """The next steps, as many as the table has rows, or up to `stop`."""
            done, state, scalars = at
            count = jnp.minimum(stop - done, CHUNK_STEPS)
            last, before = jax.lax.scan(
                lambda now, _: (step.advance(now, given), now), scalars, length=CHUNK_STEPS, unroll=32
            )
            table = jax.vmap(lambda now: step.row(now, given))(before) if scalars else jnp.zeros((CHUNK_STEPS, 1))
            state = kernel(state, fixed, table.reshape(-1), count.reshape(1))
            after = jax.tree.map(lambda many, end: jnp.concatenate([many, end[None]])[count], before, last)
            return done + count, state, after

        def between(at: Any, stop: jax.Array) -> Any:
            return jax.lax.while_loop(lambda at: at[0] < stop, lambda at: chunk(at, stop), at)

        def parameters(at: Any) -> jax.Array:
            return at[1].reshape(len(begun), networks)[: vector.shape[0]]

        def segment(at: Any, stop: jax.Array) -> tuple[Any, jax.Array]:
            at = between(at, stop)
            return at, parameters(at)

        first = (jnp.zeros((), jnp.int32), state, scalars)
        steps = jnp.asarray(steps, jnp.int32)
        if jnp.ndim(steps) == 0:
            return parameters(between(first, steps))
        return jax.lax.scan(segment, first, steps)[1]

    return train


def _kernel_call(step: LaneProgram, platform: str, lanes: tuple[int, ...], programs: int) -> Callable[..., jax.Array]:
    """kernel(state [S, N], uniform values that stay [F], those that change [CHUNK_STEPS * K], number of steps [1]) gives
    the state [S, N] after these steps. On a TPU N is [N / 128, 128]; a program has a slice of the state's second axis."""
    shape = (len(step.lanes), programs * lanes[0], *lanes[1:])
    block = pl.BlockSpec((shape[0], *lanes), lambda program: (0, program, *(0 for _ in lanes[1:])))
    scalars = pl.BlockSpec(memory_space=tpu.SMEM) if platform == "tpu" else pl.BlockSpec()

    def kernel(start: Any, fixed: Any, table: Any, count: Any, trained: Any) -> None:
        def body(number: jax.Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(step.step(state, lambda k: fixed[k], lambda k: table[number * step.rows + k]))

        first = tuple(start[number] for number in range(shape[0]))
        for number, value in enumerate(jax.lax.fori_loop(0, count[0], body, first)):
            trained[number] = value

    call: Callable[..., jax.Array] = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct(shape, jnp.float32),
        grid=(programs,),
        in_specs=[block, scalars, scalars, scalars],
        out_specs=block,
        input_output_aliases={0: 0},
        interpret=platform == "cpu",
        name="ncsim_train",
    )
    return call


def lane_program(config: EnsembleConfig) -> LaneProgram:
    """A config's step for lane arrays.

    Raises:
        ScalariseError: it has an operation that no kernel has.
    """
    return _lane_program(native.shape(config))


@functools.lru_cache(maxsize=64)
def _lane_program(config: EnsembleConfig) -> LaneProgram:
    # Traced alike whatever the mesh that it is lowered for.
    with jax.enable_x64(False), use_abstract_mesh(AbstractMesh((), ())):
        return LaneProgram(native.scalar_step(config))
