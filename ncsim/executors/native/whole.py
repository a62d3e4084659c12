"""Blocks of members in one call of generated C: drawn, trained, observed along training and recorded, without a program of XLA's
around it.

What it gives are the bits that XLA gives. That is tried (`trial.py`); where a bit differs, XLA draws and records as before.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncsim import c_compiler
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS, TruthTables, context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.native import c_observed, c_whole, observed, trial
from ncsim.executors.native.c_exact import Exact
from ncsim.executors.scalarise import ScalariseError, scalars
from ncsim.training.initialization import initial_scale, vector_size
from ncsim.training.network import Architecture
from ncsim.training.observation import OBSERVED, ContextRecord, Observation, record

#: Members of a cell from which on it pays: to make and compile the C takes two seconds or three, and a member's own cost
#: comes down by five microseconds.
MANY = 2**18
#: Wider networks' records are too long as straight-line code.
MAX_HIDDEN = 8


def program(
    config: EnsembleConfig,
    mesh: Mesh,
    lanes: int,
    training: ctypes.CDLL,
    blocks: int,
    by_xla: Callable[[], xla.BlockProgram],
    points: int | None = None,
) -> xla.BlockProgram | None:
    """The program that draws, trains and records in C; None where there is no code that gives XLA's bits here.

    Args:
        config: of the networks, without what is an argument of a program.
        mesh: of the devices.
        lanes: members per block, a multiple of 16.
        training: the library of the steps.
        blocks: buffer size of a device.
        by_xla: makes the program that draws and records by XLA.
        points: how many steps are recorded along training; None records none.
    """
    if (text := source(config, points is not None)) is None:
        return None
    # One library serves one training: what it calls stands in it.
    text += f"/* Calls {Path(training._name).stem}. */\n"
    try:
        made = _block_program(config, mesh, lanes, text, training, blocks, points)
        return made if trial.has_bits_of_xla(mesh, text, made, by_xla, points) else None
    except ConfigError:  # the compiler refuses it
        return None


@functools.lru_cache(maxsize=64)
def source(config: EnsembleConfig, along: bool = False) -> str | None:
    """The C file that draws and records networks of a config, and observes them along training or not; None where there is none."""
    if config.initialization != "uniform" or config.training_rows or Architecture.of(config).hidden > MAX_HIDDEN:
        return None
    if not isinstance(config.tasks, TruthTables):
        return None
    vector = jax.ShapeDtypeStruct((vector_size(config),), jnp.float32)
    targets = jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32)
    given = int(np.prod(targets.shape))
    try:
        with jax.enable_x64(False):
            recorded = Exact(scalars(functools.partial(record, config), vector, targets), vector.size + given)
    except ScalariseError:
        return None
    seen = observed.seen(config) if along else None
    if along and seen is None:
        return None
    scale = np.asarray(initial_scale(config), np.float32)
    function = "" if seen is None else c_observed.along(*seen)
    return c_whole.source(scale, config.common_initialization, given, recorded, function)


@functools.lru_cache(maxsize=32)
def _block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    lanes: int,
    text: str,
    training: ctypes.CDLL,
    blocks: int,
    points: int | None = None,
) -> xla.BlockProgram:
    library = c_compiler.loaded(text)
    library.ncsim_trained_by(ctypes.cast(training.ncsim_train, ctypes.c_void_p))
    target = f"ncsim_whole_{Path(library._name).stem}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.ncsim_call), platform="cpu")
    targets = context_targets(config.tasks).astype(np.float32)
    contexts = len(CONTEXTS)

    def shape(kind: Any, *axes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((blocks, *axes), kind)

    number, count = shape(np.float32, lanes, contexts), shape(np.int32, lanes, contexts)
    results = [
        shape(np.int32, lanes, contexts, 4),
        number,
        number,
        shape(np.bool_, lanes, contexts),
        count,
        count,
        count,
    ]
    of_record = len(results)
    if points is not None:
        # As of one block that has all members.
        results.append(jax.ShapeDtypeStruct((1, contexts, 4, blocks * lanes, points), np.uint16))
        results += [jax.ShapeDtypeStruct((1, contexts, blocks * lanes, points), np.float32)] * len(OBSERVED)

    def on_device(root: jax.Array, ids: jax.Array, used: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        found = jax.ffi.ffi_call(target, results)(root, ids, used, jnp.asarray(targets), rate, steps)
        record = ContextRecord(*found[:of_record])
        if points is None:
            return record
        counts, *values = found[of_record:]
        return record, Observation(counts, dict(zip(OBSERVED, values, strict=True)))

    run = xla._compiled(on_device, mesh, (blocks, lanes), np.float32, points, check_varying=False)
    return xla.BlockProgram(run, lanes, blocks)
