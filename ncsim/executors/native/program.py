"""Blocks of members with the training loop as C, made from `ncsim.training.step` and compiled on this machine.

XLA writes every operation's result to memory and reads it back, and on a CPU that is what a step's time goes into. Here
the step, evaluated element by element (`scalarise.py`), becomes one piece of straight-line vector code
(`c_expressions.py`, `c_program.py`) whose temporary values stay in registers. The system's C compiler builds
it once for a processor and a shape of network; XLA calls it in place of its own loop. Many networks are drawn and recorded
in C, too, where that gives XLA's bits (`whole.py`, and along training `observed.py`), and else by the XLA executor's programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncsim import c_compiler
from ncsim.config.ensemble import EnsembleConfig, program_of
from ncsim.config.tasks import context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.native import c_program, c_rolled, observed, units, whole
from ncsim.executors.scalarise import ScalariseError, out_of_reach, scalars
from ncsim.training.initialization import vector_size
from ncsim.training.network import Architecture
from ncsim.training.step import make_step

#: Members a block. What is the same for all networks is computed once a block, so that more are better; few members
#: fill a block in vain.
LANES = 128
#: Wider networks take compilers too long as straight-line code, which grows with the width times the rows, and compile
#: time faster: they have loops over their units.
MAX_STRAIGHT = 8
#: Both heads' units where trunks are separate.
MAX_HIDDEN = 128
MAX_ROWS = 16
NO_COMPILER = "without a C compiler"


_members: ContextVar[int] = ContextVar("members", default=0)


@contextlib.contextmanager
def as_of(members: int) -> Iterator[None]:
    """Make programs as cells of so many members have them, to see of a few what many will take."""
    token = _members.set(members)
    try:
        yield
    finally:
        _members.reset(token)


def unsupported(config: EnsembleConfig) -> str | None:
    """Why this config cannot be trained in C on this machine, in words; None where it can. Compiles nothing."""
    if (reason := out_of_reach(config, "the generated code", MAX_HIDDEN, MAX_ROWS)) is not None:
        return reason
    if c_compiler.processor() is None:
        return "on this processor; the generated code wants AVX2 or AVX-512 under Linux"
    if c_compiler.compiler() is None:
        return f"{NO_COMPILER}; looked for {', '.join(c_compiler.COMPILERS)}"
    try:
        source(config)
    except ScalariseError as error:
        return f"optimizer {config.optimizer}: {error}"
    return None


def block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int | None = None,
    points: int | None = None,
    kept: bool = False,
) -> xla.BlockProgram:
    """As `xla.block_program`, with the training loop in C. `lanes`: a multiple of 16.

    Raises:
        ConfigError: the config cannot be trained here, or its code does not compile.
    """
    here, lanes = training_here(config, mesh), lanes or LANES

    def by_xla(observer: xla.Observer = xla.observed) -> xla.BlockProgram:
        return xla.block_program(config, mesh, blocks, lanes, here, points, kept, observer)

    members = max(config.members, _members.get())
    many = members >= whole.MANY if points is None else members * points >= observed.MANY
    if kept or not many:
        return by_xla()
    networks, library = program_of(config), c_compiler.loaded(source(config))
    made = whole.program(networks, mesh, lanes, library, blocks, by_xla, points)
    if made is None and points is not None:
        made = observed.program(networks, mesh, points, by_xla)
    return made or by_xla()


def training_here(config: EnsembleConfig, mesh: Mesh) -> Callable[..., jax.Array]:
    """`training`, on the devices of a mesh. Raises as `block_program`."""
    reason = unsupported(config)
    if mesh.devices.flat[0].platform != "cpu":
        reason = "on an accelerator"
    if reason is not None:
        raise ConfigError(f"--executor: native cannot train {reason}; allowed here: xla")
    return training(shape(config))


#: Every library that this process has loaded.
_libraries: list[ctypes.CDLL] = []


def ask_to_end(asked: bool) -> None:
    """Ask the calls that are running, and those that follow, to end without a result; or no longer."""
    for library in _libraries:
        ctypes.c_int.in_dll(library, "ncsim_ending").value = asked


@functools.lru_cache(maxsize=64)
def training(config: EnsembleConfig) -> Callable[..., jax.Array]:
    """A function as `ncsim.training.step.train`, for parameters [P, N], that calls the code compiled for this config.

    Raises:
        ConfigError: the code does not compile.
    """
    library = c_compiler.loaded(source(config))
    target = f"ncsim_{Path(library._name).stem}"
    _libraries.append(library)
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.ncsim_call), platform="cpu")

    def train(_: EnsembleConfig, vector: jax.Array, targets: jax.Array, rate: jax.Array, steps: jax.Array) -> jax.Array:
        given = jnp.append(targets.reshape(-1), rate).astype(jnp.float32)
        call = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((*jnp.shape(steps), *vector.shape), vector.dtype))
        result: jax.Array = call(vector, given, jnp.asarray(steps, jnp.int32))
        return result

    return train


def shape(config: EnsembleConfig) -> EnsembleConfig:
    """The config without what is an argument, or concerns only how networks start and what is recorded of them."""
    fields = {"hidden", "optimizer", "optimizer_options", "loss", "encoding", "topology", "shared", "tasks"}
    fields |= {"intervention", "alice_weight", "bob_weight", "training_rows"}
    return EnsembleConfig(**{name: getattr(config, name) for name in fields})


# ------------------------------------------------------------------------------------------------- from step to source


def source(config: EnsembleConfig) -> str:
    """The C file of a config's training.

    Raises:
        ScalariseError: its step has an operation that there is no C for.
    """
    return _source(shape(config))


@functools.lru_cache(maxsize=64)
def _source(config: EnsembleConfig) -> str:
    with jax.enable_x64(False):
        if Architecture.of(config).hidden <= MAX_STRAIGHT:
            return c_program.source(scalar_step(config))
        little = units.small(config)
        step = scalar_step(little)
        return c_rolled.source(step, units.places(config, little, step.arrays))


def scalar_step(config: EnsembleConfig) -> c_program.Step:
    """`ncsim.training.step.make_step` as jaxprs of scalars."""
    vector = jax.ShapeDtypeStruct((vector_size(config),), jnp.float32)
    targets = jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)

    def begin(vector: jax.Array, targets: jax.Array, rate: jax.Array) -> Any:
        return make_step(config, targets, rate)[0](vector)

    def step(carry: Any, targets: jax.Array, rate: jax.Array) -> Any:
        return make_step(config, targets, rate)[1](carry)

    carry = jax.eval_shape(begin, vector, targets, rate)
    given = int(np.prod(targets.shape)) + 1
    return c_program.Step(
        scalars(begin, vector, targets, rate),
        scalars(step, carry, targets, rate),
        vector.shape[0],
        given,
        [leaf.size for leaf in jax.tree.leaves(carry)],
    )
