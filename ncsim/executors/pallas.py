"""Blocks of members with the whole training loop as one Pallas kernel: parameters and optimiser state stay in registers.

The XLA executor on an accelerator writes the state to memory and reads it back at every step. Here a program of the
kernel loads the initial parameters of its lanes, runs all steps on them and stores the final ones; nothing else touches
memory. The step is `ncsim.training.step`'s, evaluated element by element (`scalarise.py`); initialisation and what is
recorded are the XLA executor's. CUDA GPUs go through Triton, TPUs through Mosaic; elsewhere the kernel is interpreted,
which is slow and there to be tested. (JAX 0.11 still lowers through Triton and announces that it will stop: Mosaic GPU
is then the way. What reaches it are elementwise operations on arrays of one shape.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu, triton
from jax.sharding import Mesh

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.scalarise import ScalariseError, as_elements, broadcast_element, element_array, scalarise
from ncsim.training.initialization import vector_size
from ncsim.training.network import Architecture
from ncsim.training.step import make_step

#: Lanes of one program of the kernel, by platform, as the shape of the array that holds one parameter of each. Triton
#: wants a power of two; a TPU register holds 8 x 128. Untuned: no accelerator was at hand (benchmarks/tune_pallas.py).
PROGRAM_LANES: dict[str, tuple[int, ...]] = {"gpu": (128,), "tpu": (8, 128), "cpu": (64,)}
#: Warps of one program on a GPU; with 32 threads a warp, 128 lanes on 4 warps are one lane a thread. Untuned.
NUM_WARPS = 4
#: Members a block, by platform. On a CPU, where kernels are interpreted, few.
LANES = {"cpu": 64, "gpu": 65_536, "tpu": 65_536}
#: Wider networks have more state than a thread has registers.
MAX_HIDDEN = 8


def unsupported(config: EnsembleConfig) -> str | None:
    """Why a kernel cannot train this config, in words; None where it can."""
    if config.precision != "float32":
        return f"precision {config.precision}; the kernel has float32"
    if config.optimizer not in ELEMENTWISE_OPTIMIZERS:
        return f"optimizer {config.optimizer}, which takes norms over a layer; the kernel has elementwise ones"
    hidden = Architecture.of(config).hidden
    if hidden > MAX_HIDDEN:
        return f"hidden {hidden}; the kernel has 1 to {MAX_HIDDEN}"
    try:
        jax.eval_shape(lambda: _one_step(config))
    except ScalariseError as error:
        return str(error)
    return None


def block_program(
    config: EnsembleConfig, mesh: Mesh, blocks: int, lanes: int | None = None, points: int | None = None
) -> xla.BlockProgram:
    """As `xla.block_program`, with the training loop as one kernel.

    Raises:
        ConfigError: the config is not one that the kernel can train.
    """
    reason = unsupported(config)
    if reason is not None:
        raise ConfigError(f"--executor: pallas cannot train {reason}; allowed here: xla")
    platform = mesh.devices.flat[0].platform
    return xla.block_program(config, mesh, blocks, lanes or LANES.get(platform, 65_536), training(platform), points)


@functools.lru_cache(maxsize=32)
def training(platform: str, lanes: tuple[int, ...] | None = None, warps: int | None = None) -> Callable[..., jax.Array]:
    """A function as `ncsim.training.step.train`, for parameters [P, N], that is one kernel on this platform.

    Args:
        platform: "gpu", "tpu", or "cpu", where the kernel is interpreted.
        lanes: lanes of one program, in the form of `PROGRAM_LANES`; N must be a multiple of how many they are.
        warps: of one program, on a GPU.
    """
    lanes = lanes or PROGRAM_LANES[platform]

    def train(
        config: EnsembleConfig, vector: jax.Array, targets: jax.Array, learning_rate: jax.Array, steps: jax.Array
    ) -> jax.Array:
        size, networks = vector.shape
        programs, rest = divmod(networks, math.prod(lanes))
        assert not rest, f"{networks} lanes do not fill programs of {lanes}"
        # [P, N], or on a TPU [P, N / 128, 128], of which a program has a slice of the second axis.
        shape = (size, programs * lanes[0], *lanes[1:])
        points = jnp.shape(steps)  # () or (R,)
        block = pl.BlockSpec((size, *lanes), lambda program: (0, program, *(0 for _ in lanes[1:])))
        moments = pl.BlockSpec(
            (*points, size, *lanes), lambda program: (*(0 for _ in points), 0, program, *(0 for _ in lanes[1:]))
        )
        scalars = pl.BlockSpec(memory_space=tpu.SMEM) if platform == "tpu" else pl.BlockSpec()
        kernel = pl.pallas_call(
            functools.partial(_kernel, config, lanes),
            out_shape=jax.ShapeDtypeStruct((*points, *shape), vector.dtype),
            grid=(programs,),
            in_specs=[block, scalars, scalars, scalars],
            out_specs=moments,
            compiler_params=triton.CompilerParams(num_warps=warps or NUM_WARPS) if platform == "gpu" else None,
            interpret=platform == "cpu",
            name="ncsim_train",
        )
        rate = jnp.asarray(learning_rate, vector.dtype).reshape(1)
        trained = kernel(vector.reshape(shape), targets, rate, jnp.asarray(steps, jnp.int32).reshape(-1))
        return trained.reshape(*points, size, networks)

    return train


def _kernel(
    config: EnsembleConfig, lanes: tuple[int, ...], start: Any, targets: Any, rate: Any, steps: Any, trained: Any
) -> None:
    """One program: references to [P, *lanes] parameters, [R, 2] targets, learning rate [1] and numbers of steps in;
    parameters [P, *lanes] out, or as many times that as there are numbers of steps."""
    begin, step = _on_elements(config)
    size, rows = start.shape[0], targets.shape[0]
    answers = element_array([targets[row, head] for row in range(rows) for head in (0, 1)], (rows, 2))
    learning_rate = as_elements(rate[0])
    carry = begin(element_array([start[number] for number in range(size)], (size,)), learning_rate)
    leaves, structure = jax.tree.flatten(carry)

    def flat_step(elements: tuple[Any, ...]) -> tuple[Any, ...]:
        following = step(jax.tree.unflatten(structure, _regrouped(elements, leaves)), answers, learning_rate)
        return _elements(following)

    first = tuple(jnp.asarray(element) for element in _elements(carry))
    first = _loop_invariant(flat_step, first, lanes)

    def body(_: jax.Array, elements: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_carried(*pair) for pair in zip(elements, flat_step(elements), strict=True))

    def store(elements: tuple[Any, ...], place: Any) -> None:
        for number in range(size):  # the vector is the first leaf of the carry
            trained[(*place, number)] = broadcast_element(elements[number], lanes)

    if len(trained.shape) == len(start.shape):
        store(jax.lax.fori_loop(0, steps[0], body, first), ())
        return

    def segment(point: jax.Array, state: tuple[jax.Array, tuple[Any, ...]]) -> tuple[jax.Array, tuple[Any, ...]]:
        done, elements = state
        elements = jax.lax.fori_loop(done, steps[point], body, elements)
        store(elements, (point,))
        return steps[point], elements

    jax.lax.fori_loop(0, trained.shape[0], segment, (jnp.zeros((), jnp.int32), first))


def _on_elements(config: EnsembleConfig) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`training.step.make_step` on elements: begin(vector, learning rate), and step(carry, targets, learning rate)."""
    vector = jax.ShapeDtypeStruct((vector_size(config),), jnp.float32)
    targets = jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)

    def begin(vector: jax.Array, learning_rate: jax.Array) -> Any:
        return make_step(config, jnp.zeros(targets.shape), learning_rate)[0](vector)

    def step(carry: Any, targets: jax.Array, learning_rate: jax.Array) -> Any:
        return make_step(config, targets, learning_rate)[1](carry)

    carry = jax.eval_shape(begin, vector, rate)
    return scalarise(begin, vector, rate), scalarise(step, carry, targets, rate)


def _loop_invariant(step: Callable[..., Any], elements: tuple[Any, ...], lanes: tuple[int, ...]) -> tuple[Any, ...]:
    """The elements with those as lane arrays that a step makes such: a moment starts as one 0 for all networks and then
    differs, while the number of the step stays a scalar."""
    while True:
        after = jax.eval_shape(step, elements)
        grown = tuple(
            broadcast_element(element, lanes) if result.shape else element
            for element, result in zip(elements, after, strict=True)
        )
        if all(a.shape == b.shape for a, b in zip(elements, grown, strict=True)):
            return elements
        elements = grown


def _carried(before: jax.Array, after: Any) -> jax.Array:
    """An element after a step, in the shape it had before."""
    if not isinstance(after, jax.Array) and not before.shape:
        # A constant, as a mark that the first step is past. Triton's loops carry values on, not literals.
        return jnp.where(before == before, after, after)
    return broadcast_element(after, before.shape)


def _elements(tree: Any) -> tuple[Any, ...]:
    """All elements of a tree of element arrays, one after another."""
    return tuple(element for leaf in jax.tree.leaves(tree) for element in leaf.reshape(-1))


def _regrouped(elements: tuple[Any, ...], like: list[np.ndarray]) -> list[np.ndarray]:
    """Elements as arrays in the shapes of these."""
    grouped, start = [], 0
    for leaf in like:
        grouped.append(element_array(elements[start : start + leaf.size], leaf.shape))
        start += leaf.size
    return grouped


def _one_step(config: EnsembleConfig) -> Any:
    """One step on scalars: finds an operation that a kernel cannot run without compiling anything."""
    begin, step = _on_elements(config)
    zeros = [as_elements(np.zeros(shape, np.float32)) for shape in (vector_size(config), (), ())]
    targets = as_elements(context_targets(config.tasks)[0].astype(np.float32))
    return [jnp.asarray(element) for element in _elements(step(begin(*zeros[:2]), targets, zeros[2]))]
