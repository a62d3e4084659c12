"""Blocks of members in one call of generated C: drawn, trained and recorded, without a program of XLA's around it.

What it gives are the bits that XLA gives. That rests on the processor and on XLA's version, so it is tried, once per machine and
kind of network, on thousands of networks; where a bit differs, XLA draws and records as before.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS, context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.native import c_whole, compiler
from ncsim.executors.scalarise import ScalariseError, scalars
from ncsim.training.initialization import initial_scale, vector_size
from ncsim.training.network import Architecture
from ncsim.training.observation import OBSERVED, ContextRecord, Observation, observe, record

#: Wider networks' records are too long as straight-line code.
MAX_HIDDEN = 8
#: What is tried: blocks of members, from these ids on, of these seeds, after so many steps at a
#: learning rate, the last of which makes them diverge.
TRIED_BLOCKS, TRIED = 8, ((0, 0, 0, 0.01), (7, 2**31 - 1, 2, 0.01), (2**32 - 4096, 12345, 150, 0.1), (0, 1, 4, 1e30))


#: Gives the program of so many blocks, which records so many steps.
Maker = Callable[[int, int | None], xla.BlockProgram]


def program(
    config: EnsembleConfig, mesh: Mesh, lanes: int, training: ctypes.CDLL, points: int | None, by_xla: Maker
) -> Maker | None:
    """What makes the programs that draw, train and record in C; None where there is no code that gives XLA's bits here.

    Args:
        config: of the networks, without what is an argument of a program.
        mesh: of the devices.
        lanes: members per block, a multiple of 16.
        training: the library of the steps.
        points: how many steps are recorded; None records none.
        by_xla: makes the programs that draw and record by XLA.
    """
    if (text := source(config, points is not None)) is None:
        return None
    # One library serves one training: what it calls stands in it.
    text += f"/* Calls {Path(training._name).stem}. */\n"
    made = functools.partial(_block_program, config, mesh, lanes, text, training)
    try:
        return made if _has_bits_of_xla(config, mesh, text, made, by_xla, points is not None) else None
    except ConfigError:  # the compiler refuses it
        return None


@functools.lru_cache(maxsize=64)
def source(config: EnsembleConfig, recorded: bool) -> str | None:
    """The C file that draws and records networks of a config; None where there is none."""
    if config.initialization != "uniform" or config.training_rows or Architecture.of(config).hidden > MAX_HIDDEN:
        return None
    like = (
        jax.ShapeDtypeStruct((vector_size(config),), jnp.float32),
        jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32),
    )
    given = int(np.prod(like[1].shape))

    def along(vector: jax.Array, targets: jax.Array) -> Any:
        seen = observe(config, vector, targets)
        return seen.counts, [seen.values[name] for name in OBSERVED]

    try:
        with jax.enable_x64(False):
            final, seen = (
                c_whole.Exact(scalars(function, *like), vector_size(config) + given) if wanted else None
                for function, wanted in ((functools.partial(record, config), True), (along, recorded))
            )
    except ScalariseError:
        return None
    assert final is not None
    scale = np.asarray(initial_scale(config), np.float32)
    return c_whole.source(scale, config.common_initialization, given, final, seen, len(OBSERVED))


@functools.lru_cache(maxsize=32)
def _block_program(
    config: EnsembleConfig, mesh: Mesh, lanes: int, text: str, training: ctypes.CDLL, blocks: int, points: int | None
) -> xla.BlockProgram:
    library = compiler.loaded(text)
    library.ncsim_trained_by(ctypes.cast(training.ncsim_train, ctypes.c_void_p))
    target = f"ncsim_whole_{Path(library._name).stem}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.ncsim_call), platform="cpu")
    targets = context_targets(config.tasks).astype(np.float32)
    contexts = len(CONTEXTS)

    def shape(kind: Any, *axes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((blocks, lanes, *axes), kind)

    number, count = shape(np.float32, contexts), shape(np.int32, contexts)
    results = [shape(np.int32, contexts, 4), number, number, shape(np.bool_, contexts), count, count, count]
    if points is not None:
        results += [shape(np.uint16, points, contexts, 4), *[shape(np.float32, points, contexts)] * len(OBSERVED)]

    def on_device(root: jax.Array, ids: jax.Array, used: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
        found = jax.ffi.ffi_call(target, results)(root, ids, used, jnp.asarray(targets), rate, steps)
        if points is None:
            return ContextRecord(*found)
        return ContextRecord(*found[:7]), Observation(found[7], dict(zip(OBSERVED, found[8:], strict=True)))

    run = xla._compiled(on_device, mesh, (blocks, lanes), np.float32, points, check_varying=False)
    return xla.BlockProgram(run, lanes, blocks)


def _has_bits_of_xla(config: EnsembleConfig, mesh: Mesh, text: str, made: Maker, by_xla: Maker, recorded: bool) -> bool:
    """Whether the C file draws and records as XLA does here. Tried once, and remembered beside the code."""
    subject = f"bits-{metadata.version('jaxlib')}"
    known = compiler.verdict(text, subject)
    if known is None:
        ours, theirs = (make(TRIED_BLOCKS, 2 if recorded else None) for make in (made, by_xla))
        same = all(_alike(mesh, ours, theirs, recorded, *tried) for tried in TRIED)
        known = compiler.remember(text, same, subject)
    return known


def _alike(
    mesh: Mesh,
    ours: xla.BlockProgram,
    theirs: xla.BlockProgram,
    recorded: bool,
    first: int,
    seed: int,
    steps: int,
    rate: float,
) -> bool:
    devices = mesh.devices.size
    ids = (first + np.arange(devices * ours.blocks * ours.lanes, dtype=np.int64)).astype(np.uint32)
    given = (seed, ids.reshape(-1, ours.lanes), np.full(devices, ours.blocks, np.int32), rate)
    stops = np.array([steps // 2, steps], np.int32) if recorded else steps
    found = []
    for each in (ours, theirs):
        found.append([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(each.run(*given, stops))])
    return bool(found[0] == found[1])
