"""What is recorded along training, computed in one call of generated C per block of networks and context.

What it gives are the bits that XLA gives. That is tried (`trial.py`); where a bit differs, XLA observes as before.
"""

from __future__ import annotations

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
from ncsim.config.scenarios import ScenarioTasks
from ncsim.config.tasks import context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.native import c_observed, trial
from ncsim.executors.native.c_exact import Exact
from ncsim.executors.scalarise import ScalariseError, scalars
from ncsim.training.initialization import vector_size
from ncsim.training.network import Architecture
from ncsim.training.observation import OBSERVED, Observation, observe

#: Members of a cell times recorded steps from which on it pays: to make and compile the C takes two seconds, and a row of what is
#: recorded comes down by half a microsecond to a whole one.
MANY = 2**20
#: Of wider networks that have diverged XLA's cosine is 0 and not NaN (`ncsim.training.gradients.diagnostics`).
MAX_HIDDEN = 6


def program(
    config: EnsembleConfig,
    mesh: Mesh,
    points: int,
    with_observer: Callable[[xla.Observer], xla.BlockProgram],
) -> xla.BlockProgram:
    """The program that observes in C; that which does so by XLA where there is no code that gives its bits here.

    Args:
        config: of the networks, without what is an argument of a program.
        mesh: of the devices.
        points: how many steps are recorded.
        with_observer: makes the program that observes so.
    """

    def by_xla() -> xla.BlockProgram:
        return with_observer(xla.observed)

    if (text := source(config)) is None:
        return by_xla()
    try:
        made = with_observer(observer(text))
        return made if trial.has_bits_of_xla(mesh, text, made, by_xla, points) else by_xla()
    except ConfigError:  # the compiler refuses it
        return by_xla()


@functools.lru_cache(maxsize=64)
def source(config: EnsembleConfig) -> str | None:
    """The C file that observes networks of a config; None where there is none."""
    given = seen(config)
    return None if given is None else c_observed.source(*given)


@functools.lru_cache(maxsize=64)
def seen(config: EnsembleConfig) -> tuple[int, int, int, Exact] | None:
    """What networks of a config are observed by, as `c_observed.along` takes it; None where there is no code for it."""
    if Architecture.of(config).hidden > MAX_HIDDEN or isinstance(config.tasks, ScenarioTasks):
        return None
    vector = jax.ShapeDtypeStruct((vector_size(config),), jnp.float32)
    targets = jax.ShapeDtypeStruct(context_targets(config.tasks)[0].shape, jnp.float32)
    given = int(np.prod(targets.shape))

    def along(vector: jax.Array, targets: jax.Array) -> Any:
        found = observe(config, vector, targets)
        return found.counts, [found.values[name] for name in OBSERVED]

    try:
        with jax.enable_x64(False):
            observation = Exact(scalars(along, vector, targets), vector.size + given)
    except ScalariseError:
        return None
    return vector.size, given, len(OBSERVED), observation


@functools.lru_cache(maxsize=32)
def observer(text: str) -> xla.Observer:
    """The function of a C file.

    Raises:
        ConfigError: it does not compile.
    """
    library = c_compiler.loaded(text)
    target = f"ncsim_observed_{Path(library._name).stem}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.ncsim_call), platform="cpu")

    def along(_: EnsembleConfig, trained: jax.Array, targets: jax.Array) -> Observation:
        points, lanes = trained.shape[0], trained.shape[2]
        number = jax.ShapeDtypeStruct((lanes, points), np.float32)
        results = [jax.ShapeDtypeStruct((4, lanes, points), np.uint16), *[number] * len(OBSERVED)]
        counts, *values = jax.ffi.ffi_call(target, results)(trained, targets)
        return Observation(counts, dict(zip(OBSERVED, values, strict=True)))

    return along
