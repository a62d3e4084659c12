"""The optimisers: optax, by name, over the lanes of a block."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jaxtyping import Array

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig, parse_optimizer_options
from ncsim.errors import ConfigError
from ncsim.training.network import Architecture


def validate_optimizers(configs: Sequence[EnsembleConfig]) -> None:
    """An optimiser option that does not exist is found before anything is made or trained."""

    for config in {(config.optimizer, config.optimizer_options): config for config in configs}.values():
        try:
            make_optimizer(config, config.learning_rate)
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"--optimizer-options: {config.optimizer_options!r}; {config.optimizer}: {error}"
            ) from None


def make_optimizer(config: EnsembleConfig, learning_rate: Any) -> optax.GradientTransformation:
    """The named optax optimiser for parameters [P, *L]; `learning_rate` may be traced.

    Raises:
        ConfigError: an option that the optimiser does not have.
    """
    constructor = getattr(optax, config.optimizer)
    options = parse_optimizer_options(config.optimizer_options)
    known = [name for name in inspect.signature(constructor).parameters if name != "learning_rate"]
    for name in options:
        if name not in known:
            allowed = ", ".join(known)
            raise ConfigError(f"--optimizer-options: {config.optimizer} has no {name!r}; allowed: {allowed}")
    optimizer = constructor(learning_rate, **options)
    if config.optimizer in ELEMENTWISE_OPTIMIZERS:
        return optimizer
    return _one_member_at_a_time(optimizer, Architecture.of(config))


def _one_member_at_a_time(
    optimizer: optax.GradientTransformation, architecture: Architecture
) -> optax.GradientTransformation:
    """An optimiser that takes norms must see one member's four tensors, not a vector, and not its neighbours."""

    def over_lanes(function: Callable[..., Any], lanes: int) -> Callable[..., Any]:
        for _ in range(lanes):
            function = jax.vmap(function, in_axes=-1, out_axes=-1)
        return function

    def init(vector: Array) -> Any:
        return over_lanes(lambda v: optimizer.init(architecture.split(v)), vector.ndim - 1)(vector)

    def update(gradient: Array, state: Any, vector: Array | None = None) -> tuple[Array, Any]:
        def one(g: Array, s: Any, v: Array) -> tuple[Array, Any]:
            updates, s = optimizer.update(architecture.split(g), s, architecture.split(v))
            return architecture.join(updates), s

        assert vector is not None
        return over_lanes(one, vector.ndim - 1)(gradient, state, vector)

    return optax.GradientTransformation(init, update)
