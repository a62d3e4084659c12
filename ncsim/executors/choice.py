"""Which executor trains a run: the one asked for, or the faster one. On CPUs that is known beforehand; elsewhere both are tried.

A run has one executor. Two programs of equal mathematics round differently, and a network that sits where an answer is
undecided then answers by the program it ran in: laws agree between executors, members do not.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ncsim.c_compiler import remember, verdict
from ncsim.config.ensemble import EnsembleConfig, program_of
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.calls import InFlight
from ncsim.executors.native import program as native
from ncsim.terminal import say

#: Steps that a trial takes, long enough that starting a kernel is nothing; compiling comes before it.
TRIAL_STEPS = 300
#: What is remembered of a C file: that its losses are XLA's.
AGREES = "agrees"
#: The two must agree on final losses after so few steps, within the tolerance, for this share of the networks. Roundings
#: have not grown then; a program that a compiler got wrong shows.
AGREEMENT_STEPS, AGREEMENT_TOLERANCE, AGREEMENT_SHARE = 10, 1e-3, 0.99


def program(
    executor: str,
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int | None = None,
    points: int | None = None,
    kept: bool = False,
) -> xla.BlockProgram:
    """The named executor's program for a config, which records `points` steps of the training if it is given, or gives the
    networks, too, if they are to be `kept`; `lanes` is None for the executor's own width of a block."""
    with jax.enable_x64(config.precision == "float64"):
        if executor == "xla":
            return xla.block_program(config, mesh, blocks, lanes, points=points, kept=kept)
        if executor == "native":
            return native.block_program(config, mesh, blocks, lanes, points=points, kept=kept)
        return _kernels(executor).block_program(config, mesh, blocks, lanes, points=points, kept=kept)


def _kernels(executor: str) -> ModuleType:
    """The executor whose training is one kernel; imported here, so that CPUs do without it."""
    if executor == "cuda":
        from ncsim.executors.cuda import program as cuda

        return cuda
    from ncsim.executors import pallas

    return pallas


def choose(requested: str, configs: Sequence[EnsembleConfig], mesh: Mesh, blocks: int) -> str:
    """ "xla", "cuda", "pallas" or "native", for all of these configs.

    "auto" on CPUs is native where that trains all of them, else XLA: it was the faster of the two at each size and with each optimiser
    that was measured (benchmarks/notes-native.md), so that no clock decides. On accelerators it is XLA where some
    config is nothing for the kernel, otherwise the faster of XLA and the kernel (cuda on a GPU, pallas on a TPU) over all
    cells of the grid together. What fails is named in one line on standard error.

    Raises:
        ConfigError: "cuda", "pallas" or "native" is requested and cannot train one of the configs, or does not compile.
    """
    platform = mesh.devices.flat[0].platform
    if requested == "xla":
        return "xla"
    if requested == "native":
        for config in configs:
            native.training_here(config, mesh)
        return "native"
    if requested in ("cuda", "pallas"):
        for config in configs:
            _try_kernel(requested, config, mesh, blocks)
        if requested == "pallas" and platform == "cpu":
            say("no TPU here, so the pallas executor is interpreted: slower than xla, and meant for tests")
        return requested
    if platform == "cpu":
        return "native" if all(_native_agrees(config, mesh, blocks) for config in _alike(configs)) else "xla"
    name = "cuda" if platform == "gpu" else "pallas"
    reasons = [reason for config in configs if (reason := _kernels(name).unsupported(config))]
    if reasons:
        if "NVRTC" in reasons[0]:
            _say_not_taken(name, reasons[0])
        return "xla"
    why, faster = _compared_with_xla(name, configs, mesh, blocks)
    if why is not None:
        say(f"the {name} executor{why}: using xla")
    return name if faster else "xla"


def _try_kernel(name: str, config: EnsembleConfig, mesh: Mesh, blocks: int) -> None:
    """Make a kernel's program. A CUDA kernel is assembled when it is loaded, so that one is run, too.

    Raises:
        ConfigError: it cannot train the config, or fails.
    """
    try:
        made = program(name, config, mesh, blocks)
        if name == "cuda":
            train_block(config, made, mesh, 1)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--executor: {name}; its kernel fails here ({_first_line(error)})") from error


def _compared_with_xla(
    name: str, configs: Sequence[EnsembleConfig], mesh: Mesh, blocks: int
) -> tuple[str | None, bool]:
    """Why a kernel is not to be taken, in words, or None; and whether it is faster than XLA."""
    seconds = np.zeros(2)
    for config in _alike(configs):
        by_xla = program("xla", config, mesh, blocks)
        try:
            kernel = program(name, config, mesh, blocks)
            if not _agree(config, by_xla, kernel, mesh):
                return "'s losses are not those of xla here", False
            seconds += [seconds_a_network(config, each, mesh) for each in (by_xla, kernel)]
        except Exception as error:
            return f" fails here ({_first_line(error)})", False
    return None, bool(seconds[1] < seconds[0])


def _alike(configs: Sequence[EnsembleConfig]) -> list[EnsembleConfig]:
    """One config of each program."""
    return list({program_of(config): config for config in configs}.values())


def _native_agrees(config: EnsembleConfig, mesh: Mesh, blocks: int) -> bool:
    """Whether C can be made and compiled for this config, and has XLA's losses. It is not timed: by a clock, another run of the same
    command could go by the other executor, whose members differ. Tried once a machine and remembered."""
    reason = native.unsupported(config)
    if reason:
        if reason.startswith(native.NO_COMPILER):
            _say_not_taken("native", reason)
        return False
    try:
        text = native.source(config)
        known = verdict(text, AGREES)
        if known is None:
            # What is tried is the training, whoever draws and records, and it is tried as what the code is of alone. Where a config's own
            # rate throws networks about, ten steps differ by rounding, and that was remembered for every rate.
            alone = native.shape(config)
            tried, by_xla = (program(name, program_of(alone), mesh, blocks) for name in ("native", "xla"))
            known = remember(text, _agree(alone, by_xla, tried, mesh), AGREES)
        if not known:
            _say_not_taken("native", "its losses are not those of xla here")
        return known
    except Exception as error:  # no compiler that works, no folder to build in: nothing that a run needs
        reason = _first_line(error).removeprefix("--executor: native; ").removesuffix("; allowed here: xla")
        _say_not_taken("native", reason)
        return False


@functools.lru_cache(maxsize=64)
def _say_not_taken(executor: str, reason: str) -> None:
    """One line for one reason, however many cells of a grid it is true of."""
    say(f"{executor} is not taken: {reason}; using xla")


def seconds_a_network(
    config: EnsembleConfig,
    tried: xla.BlockProgram,
    mesh: Mesh,
    steps: int = TRIAL_STEPS,
) -> float:
    """Seconds for one network's steps, from one block on every device of the mesh."""
    train_block(config, tried, mesh, 1)
    begun = time.perf_counter()
    train_block(config, tried, mesh, steps)
    return (time.perf_counter() - begun) / (tried.lanes * mesh.devices.size)


def train_block(config: EnsembleConfig, tried: xla.BlockProgram, mesh: Mesh, steps: int, first_member: int = 0) -> Any:
    """One block of members on every device: records [D * lanes, context, ...], of consecutive ids."""
    devices = mesh.devices.size
    ids = np.zeros((devices, tried.blocks, tried.lanes), np.uint32)
    ids[:, 0] = first_member + np.arange(devices * tried.lanes).reshape(devices, tried.lanes)
    used = np.ones(devices, np.int32)
    with jax.enable_x64(config.precision == "float64"), InFlight():  # which waits for what was interrupted
        result = tried.run(config.root_seed, ids.reshape(-1, tried.lanes), used, config.learning_rate, steps)
        jax.block_until_ready(result)
    leaves: list[Any] = [
        np.asarray(leaf)[:: tried.blocks].reshape(-1, *leaf.shape[2:]) for leaf in result if leaf is not None
    ]
    return type(result)(*leaves)


def _agree(config: EnsembleConfig, one: xla.BlockProgram, other: xla.BlockProgram, mesh: Mesh) -> bool:
    members = min(one.lanes, other.lanes)  # the first device's block has the members from 0 on
    a, b = (train_block(config, each, mesh, AGREEMENT_STEPS).loss[:members] for each in (one, other))
    finite, alike = np.isfinite(a), np.isfinite(a) == np.isfinite(b)
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= AGREEMENT_TOLERANCE * (1 + np.abs(a))  # true of any number where a is infinite
    return bool(np.mean(alike & (close | ~finite)) >= AGREEMENT_SHARE)


def forget_programs() -> None:
    """Forget what was compiled in this process; what is built and kept on disk stays."""
    for kept in (xla._block_program, native.training, native._source, native.whole._block_program, _say_not_taken):
        kept.cache_clear()
    if (cuda := sys.modules.get("ncsim.executors.cuda.program")) is not None:
        for kept in (cuda.training, cuda.kernels, cuda.ptx):
            kept.cache_clear()


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
