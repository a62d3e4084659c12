"""One member in one context: a step of training, and all of them. Pure functions.

As in `network.py`, arrays may carry trailing lane axes; nothing here knows how many lanes there are, or which devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig
from ncsim.training.gradients import gradient
from ncsim.training.network import Architecture
from ncsim.training.optimizers import make_optimizer


def make_step(
    config: EnsembleConfig, targets: Array, learning_rate: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How training begins and goes on: `begin(vector)` gives the carry (vector [P, *L], optimiser state), and
    `step(carry)` the next one. Every executor runs these two. Of the config only what shapes the step is used."""
    optimizer = make_optimizer(config, learning_rate)
    architecture = Architecture.of(config)
    size, trunk = architecture.size, (architecture.features + 1) * architecture.hidden

    def begin(vector: Array) -> tuple[Array, Any]:
        return vector, optimizer.init(_parameters_of(config, vector))

    def step(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        vector, state = carry
        parameters = _parameters_of(config, vector)
        updates, state = optimizer.update(gradient(config, vector, targets), state, parameters)
        if config.intervention == "frozen_trunk":  # also where an optimiser has weight decay
            updates = jnp.concatenate([jnp.zeros_like(updates[:trunk]), updates[trunk:]])
        parameters = optax.apply_updates(parameters, updates)
        return jnp.concatenate([parameters, vector[size:]]) if config.training_rows else parameters, state

    return begin, step


def _parameters_of(config: EnsembleConfig, vector: Array) -> Array:
    return vector[: Architecture.of(config).size] if config.training_rows else vector


def train(config: EnsembleConfig, vector: Array, targets: Array, learning_rate: Array, steps: Array) -> Array:
    """Parameters [P, *L] after `steps` optimiser steps from `vector`; or, with ascending `steps` [R], parameters
    [R, P, *L] after each of them. `learning_rate` and `steps` are arguments, not of the config, so that one compiled
    program serves all their values."""
    begin, step = make_step(config, targets, learning_rate)

    def between(carry: Any, first: Any, last: Array) -> Any:
        return jax.lax.fori_loop(first, last, lambda _, carry: step(carry), carry)

    if jnp.ndim(steps) == 0:
        return between(begin(vector), 0, steps)[0]

    def segment(state: tuple[Any, Array], stop: Array) -> tuple[tuple[Any, Array], Array]:
        carry = between(state[0], state[1], stop)
        return (carry, stop), carry[0]

    return jax.lax.scan(segment, (begin(vector), jnp.zeros((), steps.dtype)), steps)[1]
