"""The optimisers: optax, by name, over the lanes of a block."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig, parse_optimizer_options
from ncsim.errors import ConfigError, one_line
from ncsim.terminal import say
from ncsim.training.network import Architecture

#: Optimisers whose programs for one device and for several XLA rounds otherwise, unless divisors are hidden from it.
DIVIDED_AS_WRITTEN = ("lamb", "radam")
#: Gradients of the first steps, for which options are tried. RAdam's sixth is the first that it divides; rprop wants two of one sign.
_TRIED = (1.0, 0.5, -0.25, -0.7, 0.6, 1.0, -0.3, 0.8)
#: What calls another program, which is written out, and where it has it.
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


def validate_optimizers(configs: Sequence[EnsembleConfig]) -> None:
    """Refuse an optimiser's options before anything is made or trained.

    Raises:
        ConfigError: an option that does not exist, is of another type, fails, changes nothing beside the others, trains no network
            at all, or moves what has no gradient where a config has such parameters.
    """
    alike = {
        (c.optimizer, c.optimizer_options, Architecture.of(c), c.precision, _without_gradient(c)): c for c in configs
    }
    told: dict[str, None] = {}
    for config in alike.values():
        options = parse_optimizer_options(config.optimizer_options)
        for name, value in options.items():
            default = _known_options(config.optimizer, name)[name].default
            if isinstance(default, bool) != isinstance(value, bool):
                allowed = "true or false" if isinstance(default, bool) else "a number"
                words = f"{config.optimizer} with {name}={str(value).lower()}"
                raise ConfigError(f"--optimizer-options: {words}; allowed for {name}: {allowed}")
        program = _program(config, options) if options else ""
        for name, value in options.items():
            default = _known_options(config.optimizer, name)[name].default
            if value != default and program == _program(config, {k: v for k, v in options.items() if k != name}):
                words = f"{config.optimizer} with {config.optimizer_options}"
                raise ConfigError(
                    f"--optimizer-options: {words}; {name} changes nothing there; allowed: without {name}"
                )
        if options and (problem := _trains_nothing(config)) is not None:
            words = f"{config.optimizer} with {config.optimizer_options}"
            raise ConfigError(f"--optimizer-options: {words}; {problem}; allowed: options that train")
        if options and (still := _without_gradient(config)) is not None and _moves_at_rest(config):
            words = f"{config.optimizer} with {config.optimizer_options}"
            raise ConfigError(
                f"--optimizer-options: {words}; a step from 0 with a gradient of 0 is not 0 then (0 / 0 where eps is 0), and {still} "
                "such parameters; allowed: options that leave them"
            )
        if options and _no_number_at_rest(config):
            told[f"{config.optimizer} with {config.optimizer_options}"] = None
    for words in told:
        say(
            f"--optimizer-options: {words}; a step is 0 / 0 where a gradient is 0, as of a unit that no input switches on, and such a network "
            "counts as diverged"
        )


def _trains_nothing(config: EnsembleConfig) -> str | None:
    """What options make of any network, in words, as Adam's b1=1 (0 / 0 in each step); None where they train some."""
    with jax.enable_x64(config.precision == "float64"):
        usual = jnp.linspace(0.5, 1.0, Architecture.of(config).size, dtype=config.precision)[:, None]
        optimizer, vector = make_optimizer(config, 1.0), jnp.ones_like(usual)
        state, moved = optimizer.init(vector), False
        for number, factor in enumerate(_TRIED, 1):
            updates, state = optimizer.update(usual * factor, state, vector)
            if not np.isfinite(np.asarray(updates)).all():
                return f"step {number} of usual gradients is no number, and every network would diverge"
            moved = moved or bool((np.asarray(updates) != 0).any())
    return None if moved else "no step moves anything"


def _without_gradient(config: EnsembleConfig) -> str | None:
    """The option by which some parameters never have a gradient, in words; None where none does, or where norms are over a layer."""
    if config.optimizer not in ELEMENTWISE_OPTIMIZERS:
        return None
    if Architecture.of(config).sparse:
        separate = config.intervention == "separate_trunks"
        return "--intervention separate_trunks has" if separate else f"--topology {config.topology} has"
    unheard = [party for party in ("alice", "bob") if getattr(config, f"{party}_weight") == 0]
    return f"--{unheard[0]}-weight 0 leaves" if unheard else None


def _moves_at_rest(config: EnsembleConfig) -> bool:
    """Whether parameters that are 0 and have no gradient are moved, or made no numbers: a network would diverge by them alone."""
    with jax.enable_x64(config.precision == "float64"):
        nothing = jnp.zeros((Architecture.of(config).size, 1), config.precision)
        optimizer = make_optimizer(config, config.learning_rate)
        updates, _ = optimizer.update(nothing, optimizer.init(nothing), nothing)
        return bool((np.asarray(updates) != 0).any())


def _no_number_at_rest(config: EnsembleConfig) -> bool:
    """Whether a parameter whose gradient is 0 beside others becomes no number: then a network diverges once a unit of it is dead."""
    with jax.enable_x64(config.precision == "float64"):
        gradient = jnp.zeros((Architecture.of(config).size, 1), config.precision).at[0].set(1)
        optimizer, vector = make_optimizer(config, config.learning_rate), jnp.ones_like(gradient)
        updates, _ = optimizer.update(gradient, optimizer.init(vector), vector)
        return not bool(np.isfinite(np.asarray(updates)).all())


def _known_options(optimizer: str, wanted: str = "") -> Mapping[str, inspect.Parameter]:
    """The options of an optimiser that are numbers or flags.

    Raises:
        ConfigError: it has not the wanted one.
    """
    known = {
        name: each
        for name, each in inspect.signature(getattr(optax, optimizer)).parameters.items()
        if name != "learning_rate" and not name.endswith("mask") and "dtype" not in name
    }
    if wanted and wanted not in known:
        raise ConfigError(
            f"--optimizer-options: {optimizer} has no {wanted!r}; allowed: {', '.join(known) or 'no option'}"
        )
    return known


def _program(config: EnsembleConfig, options: Mapping[str, float | bool]) -> str:
    """What an optimiser does at its start and at a step, as text: two that are the same train the same."""
    words = ",".join(f"{name}={str(value).lower()}" for name, value in options.items())
    with jax.enable_x64(config.precision == "float64"):
        vector = jax.ShapeDtypeStruct((Architecture.of(config).size, 1), config.precision)
        optimizer = make_optimizer(dataclasses.replace(config, optimizer_options=words), config.learning_rate)
        try:
            start, state = jax.make_jaxpr(optimizer.init, return_shape=True)(vector)
            step = jax.make_jaxpr(optimizer.update)(vector, state, vector)
        except Exception as error:  # whatever a library says of a number that it cannot take
            raise ConfigError(f"--optimizer-options: {words}; {config.optimizer}: {one_line(error)}") from None
    return "".join(f"{each} {[np.asarray(constant) for constant in each.consts]}" for each in (start, step))


def make_optimizer(config: EnsembleConfig, learning_rate: Any) -> optax.GradientTransformation:
    """The named optax optimiser for parameters [P, *L]; `learning_rate` may be traced.

    Raises:
        ConfigError: an option that the optimiser does not have.
    """
    options = parse_optimizer_options(config.optimizer_options)
    for name in options:
        _known_options(config.optimizer, name)
    try:
        optimizer = getattr(optax, config.optimizer)(learning_rate, **options)
    except (TypeError, ValueError, ArithmeticError) as error:  # radam divides by 1 - b2 at once
        words = f"{config.optimizer_options!r}; {config.optimizer}: {one_line(error)}"
        raise ConfigError(f"--optimizer-options: {words}") from None
    if config.optimizer in DIVIDED_AS_WRITTEN:
        optimizer = optax.GradientTransformation(optimizer.init, _dividing_as_written(optimizer.update))
    if config.optimizer in ELEMENTWISE_OPTIMIZERS:
        return optimizer
    return _one_member_at_a_time(optimizer, Architecture.of(config))


def _dividing_as_written(update: Callable[..., Any]) -> Callable[..., Any]:
    """The same update, with divisors that XLA sees nothing of: what divides by a broadcast number it else multiplies by the inverse in
    some programs and not in others."""

    def guarded(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(update, return_shape=True)(*arguments)
        found = _evaluated(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return guarded


def _evaluated(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        given = list(map(value, equation.invars))
        if (called := _CALLS.get(equation.primitive.name)) is not None:
            inner = equation.params[called]
            results = _evaluated(inner.jaxpr, inner.consts, given)
        else:
            if equation.primitive.name == "div":
                given[1] = jax.lax.optimization_barrier(jnp.broadcast_to(given[1], equation.outvars[0].aval.shape))
            results = equation.primitive.bind(*given, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        known |= zip(equation.outvars, results, strict=True)
    return list(map(value, jaxpr.outvars))


def _one_member_at_a_time(
    optimizer: optax.GradientTransformation, architecture: Architecture
) -> optax.GradientTransformation:
    """An optimiser that takes norms must see one member's four tensors, not a vector, and not its neighbours."""

    def over_lanes(function: Callable[..., Any], lanes: int) -> Callable[..., Any]:
        for _ in range(lanes):
            function = jax.vmap(function, in_axes=-1, out_axes=-1)
        return function

    def own(state: Any, vector: Array) -> Any:
        """The state as it is. JAX takes zeros to be one for all devices (novograd's first, adafactor's always), and a loop's
        carry to stay what it is: so every leaf is made of the vector, which each device has for itself."""
        there = vector[0] == vector[0]
        return jax.tree.map(lambda leaf: jnp.where(there, leaf, leaf), state)

    def init(vector: Array) -> Any:
        state = over_lanes(lambda v: optimizer.init(architecture.split(v)), vector.ndim - 1)(vector)
        return own(state, vector)

    def update(gradient: Array, state: Any, vector: Array | None = None) -> tuple[Array, Any]:
        def one(g: Array, s: Any, v: Array) -> tuple[Array, Any]:
            updates, s = optimizer.update(architecture.split(g), s, architecture.split(v))
            return architecture.join(updates), s

        assert vector is not None
        updates, state = over_lanes(one, vector.ndim - 1)(gradient, state, vector)
        return updates, own(state, vector)

    return optax.GradientTransformation(init, update)
