"""One member in one context: initialise, step, train, and read off which answers are right. Pure functions.

As in `network.py`, arrays may carry trailing lane axes; nothing here knows how many lanes there are, or which devices.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig, parse_optimizer_options
from ncsim.config.fields import ConfigError
from ncsim.config.tasks import encoded_inputs
from ncsim.training.network import (
    Architecture,
    Parameters,
    backward,
    forward,
    initial_vector,
    sum_pairwise,
    trunk_gradient,
)


class Loss(NamedTuple):
    """A loss of one decision logit against an answer 0 or 1, and its derivative by the logit."""

    value: Callable[[Array, Array], Array]
    residual: Callable[[Array, Array], Array]


def _cross_entropy(logit: Array, target: Array) -> Array:
    return jnp.maximum(logit, 0) - target * logit + jnp.log1p(jnp.exp(-jnp.abs(logit)))


_BCE = Loss(_cross_entropy, lambda logit, target: 1 / (1 + jnp.exp(-logit)) - target)

#: The softmax cross-entropy of two logits is the binary one of their difference.
LOSSES = {
    "bce": _BCE,
    "cross_entropy": _BCE,
    "squared_error": Loss(
        lambda logit, target: (logit - (2 * target - 1)) ** 2, lambda logit, target: 2 * (logit - (2 * target - 1))
    ),
}


class ContextRecord(NamedTuple):
    """What is kept of one network, trained in one context. `*L`: lanes.

    A network whose parameters or logits are not finite has diverged: its counts, undecided rows and product are zero.
    """

    counts: Int[Array, " 4 *L"]  # rows by (Alice wrong/right, Bob wrong/right): 00, 01, 10, 11
    loss: Float[Array, "*L"]  # final training loss: weighted mean over the rows trained on, summed over the heads
    margin: Float[
        Array, "*L"
    ]  # smallest logit in favour of the right answer over rows and heads: below 0 unless solved
    diverged: Array  # bool[*L]
    undecided_alice: Int[Array, "*L"]  # rows with |logit| < undecided_tolerance
    undecided_bob: Int[Array, "*L"]
    decided_product: Int[Array, "*L"]  # sum of A B over the rows that both heads decided
    training_counts: Int[Array, " 4 *L"] | None = None  # as counts, of the rows trained on; None where those are all


#: The fields of a record that have an axis of outcomes.
CELLS = ("counts", "training_counts")

#: The heads whose loss sends its gradient as it is into the shared layer. PCGrad sends what is left of both.
_SENDERS: dict[str, tuple[int, ...]] = {
    "none": (0, 1),
    "stop_gradient_alice": (1,),
    "stop_gradient_bob": (0,),
    "frozen_trunk": (),
    "separate_trunks": (0, 1),
    "pcgrad": (),
}
#: Folded into a member's key for the rows it trains on: no context's number, so that its networks start as without.
_ROWS_KEY = np.uint32(0x726F7773)


def row_tuples(config: EnsembleConfig) -> tuple[tuple[float, ...], ...]:
    """The encoded truth table as Python numbers, which are compiled into the step."""
    return tuple(tuple(row) for row in encoded_inputs(config.tasks, config.encoding).tolist())


def member_key(root: Key[Array, ""], member: Array, context: Array | np.uint32, common: bool) -> Key[Array, ""]:
    """The key of one network: its member's id, then its context's number, folded into the run's."""
    key = jax.random.fold_in(root, member)
    return key if common else jax.random.fold_in(key, context)


def vector_size(config: EnsembleConfig) -> int:
    """Length of what is trained of one network, P: its parameters and, where it trains on some rows only, a 1 or 0 a row
    after them, which no step changes. Functions of a vector take this one."""
    return Architecture.of(config).size + (config.tasks.rows if config.training_rows else 0)


def start_vector(config: EnsembleConfig, root: Key[Array, ""], member: Array, context: Array) -> Float[Array, " P"]:
    """What one network starts from, float32 [P]. A member trains on the same rows in all its contexts."""
    if not config.training_rows:
        return initial_vector(member_key(root, member, context, config.common_initialization), config)
    # Wrapped again: another number is folded into the same keys, which is no reuse of them.
    again = jax.random.wrap_key_data(jax.random.key_data(root))
    vector = initial_vector(member_key(root, member, context, config.common_initialization), config)
    key = member_key(again, member, _ROWS_KEY, common=False)
    chosen = jax.random.permutation(key, jnp.arange(config.tasks.rows) < config.training_rows)
    return jnp.concatenate([vector, chosen.astype(vector.dtype)])


def row_weights(config: EnsembleConfig, vector: Array) -> Array | None:
    """1 for a row that is trained on, else 0, [R, *L]; None where all rows are."""
    return vector[Architecture.of(config).size :] if config.training_rows else None


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


class Evaluation(NamedTuple):
    """A network at work on all rows, and what its losses ask of its logits."""

    parameters: Parameters
    hidden: Array  # [R, H, *L]
    residuals: Array  # [R, 2, *L]: derivative of each head's mean loss by its decision logits, without loss weights


def evaluated(config: EnsembleConfig, vector: Array, targets: Array) -> Evaluation:
    """The network `vector` [P, *L] on the rows it trains on; `targets` [R, 2] or [R, 2, *L] of 0 and 1."""
    parameters = Architecture.of(config).split(vector)
    hidden, logits = forward(parameters, row_tuples(config))
    residuals = LOSSES[config.loss].residual(logits, _with_lanes(targets, logits))
    weights = row_weights(config, vector)
    if weights is None:
        return Evaluation(parameters, hidden, residuals * (1 / len(logits)))
    return Evaluation(parameters, hidden, residuals * (weights * (1 / config.training_rows))[:, None])


def gradient(config: EnsembleConfig, vector: Array, targets: Array) -> Array:
    """What the optimiser is given at `vector` [P, *L], one entry a parameter: the full-batch gradient of the loss, or
    what the config's intervention makes of it; `targets` [R, 2] or [R, 2, *L] of 0 and 1."""
    architecture = Architecture.of(config)
    at = evaluated(config, vector, targets)
    if (config.alice_weight, config.bob_weight) != (1.0, 1.0):
        weighted = [at.residuals[:, 0] * config.alice_weight, at.residuals[:, 1] * config.bob_weight]
        at = at._replace(residuals=jnp.stack(weighted, axis=1))
    senders = _SENDERS[config.intervention]
    tensors = backward(at.parameters, at.hidden, at.residuals, row_tuples(config), senders)
    if config.intervention == "pcgrad":
        surgery = _surgery(*(sent_to_trunk(config, at, head) for head in (0, 1)))
        tensors = tensors._replace(hidden_kernel=surgery[:-1], hidden_bias=surgery[-1])
    result = architecture.join(tensors)
    if architecture.sparse:
        there = architecture.join(architecture.connections())
        result = jnp.where(there.reshape(-1, *[1] * (vector.ndim - 1)), result, 0)
    return result


def sent_to_trunk(config: EnsembleConfig, at: Evaluation, head: int) -> Array:
    """Gradient of one head's loss by the shared layer, [F + 1, H, *L]: the kernel's, then the bias's."""
    kernel, bias = trunk_gradient(at.parameters, at.hidden, at.residuals, row_tuples(config), (head,))
    architecture = Architecture.of(config)
    if architecture.sparse:
        sees = architecture.connections().hidden_kernel
        kernel = jnp.where(sees.reshape(*sees.shape, *[1] * (kernel.ndim - 2)), kernel, 0)
    return jnp.concatenate([kernel, bias[None]])


def _surgery(alice: Array, bob: Array) -> Array:
    """PCGrad (Yu et al. 2020, algorithm 1) of two tasks, [F + 1, H, *L]: where the gradients' product is negative, each
    loses its part along the other as that was. With two tasks the order, random there, does not matter."""

    def product(one: Array, other: Array) -> Array:
        terms = (one * other).reshape(-1, *one.shape[2:])
        return sum_pairwise([terms[number] for number in range(len(terms))])

    along = product(alice, bob)
    squares = [product(alice, alice), product(bob, bob)]
    conflict = (along < 0) & (squares[0] > 0) & (squares[1] > 0)
    off_alice, off_bob = (jnp.where(conflict, along / jnp.where(conflict, s, 1), 0) for s in squares)
    return alice * (1 - off_alice) + bob * (1 - off_bob)


def loss_value(config: EnsembleConfig, vector: Array, targets: Array) -> Array:
    """The training loss, [*L]: each head's mean over the rows trained on, times its weight, summed over both heads."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    return _mean_loss(config, logits, targets, row_weights(config, vector))


def head_losses(config: EnsembleConfig, vector: Array, targets: Array) -> Array:
    """Each head's own mean loss over the rows trained on, without loss weights: [2, *L]."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    return head_losses_at(config, logits, targets, row_weights(config, vector))


def head_losses_at(config: EnsembleConfig, logits: Array, targets: Array, rows_used: Array | None) -> Array:
    """As `head_losses`, from the decision logits [R, 2, *L]."""
    values = LOSSES[config.loss].value(logits, _with_lanes(targets, logits))
    if rows_used is None:
        return sum_rows(values) / len(values)
    return sum_rows(values * rows_used[:, None]) / config.training_rows


def _mean_loss(config: EnsembleConfig, logits: Array, targets: Array, rows_used: Array | None) -> Array:
    values = LOSSES[config.loss].value(logits, _with_lanes(targets, logits))
    alice, bob = values[:, 0], values[:, 1]
    if (config.alice_weight, config.bob_weight) != (1.0, 1.0):
        alice, bob = alice * config.alice_weight, bob * config.bob_weight
    if rows_used is None:
        return sum_rows(alice + bob) / len(values)
    return sum_rows((alice + bob) * rows_used) / config.training_rows


def sum_rows(values: Array) -> Array:
    """Sum over the leading axis, written out in one order."""
    total = values[0]
    for row in range(1, len(values)):
        total = total + values[row]
    return total


def _with_lanes(targets: Array, logits: Array) -> Array:
    return targets.reshape(targets.shape + (1,) * (logits.ndim - targets.ndim))


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


def outcome_cells(logits: Array, targets: Array) -> list[Array]:
    """Which rows are answered how, bool[R, *L] each: both wrong, Bob right alone, Alice right alone, both right. A logit of
    exactly 0 answers 0."""
    right = (logits > 0) == (_with_lanes(targets, logits) > 0)
    alice, bob = right[:, 0], right[:, 1]
    return [~alice & ~bob, ~alice & bob, alice & ~bob, alice & bob]


def has_diverged(vector: Array, logits: Array) -> Array:
    """bool[*L]: a parameter or a logit is not finite."""
    return ~(jnp.all(jnp.isfinite(logits), axis=(0, 1)) & jnp.all(jnp.isfinite(vector), axis=0))


def smallest_margin(logits: Array, targets: Array) -> Array:
    """The smallest logit in favour of the right answer over rows and heads: [*L]."""
    favour = jnp.where(_with_lanes(targets, logits) > 0, logits, -logits)
    # Written out, as sums are: XLA's reduction takes four times as long on a CPU.
    return functools.reduce(jnp.minimum, [favour[row, head] for row in range(len(favour)) for head in (0, 1)])


def record(config: EnsembleConfig, vector: Array, targets: Array) -> ContextRecord:
    """Which answers are right, which undecided, and how the training ended."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    decided = jnp.abs(logits) >= config.undecided_tolerance  # else "undecided", whatever they answer
    diverged = has_diverged(vector, logits)
    cells = outcome_cells(logits, targets)
    product = jnp.where(cells[0] | cells[3], 1, -1) * (decided[:, 0] & decided[:, 1])
    used = row_weights(config, vector)

    def kept(rows: Array) -> Array:
        return jnp.where(diverged, 0, sum_rows(rows.astype(jnp.int32)))

    return ContextRecord(
        counts=jnp.stack([kept(cell) for cell in cells]),
        loss=_mean_loss(config, logits, targets, used).astype(jnp.float32),
        margin=smallest_margin(logits, targets).astype(jnp.float32),
        diverged=diverged,
        undecided_alice=kept(~decided[:, 0]),
        undecided_bob=kept(~decided[:, 1]),
        decided_product=kept(product),
        training_counts=None if used is None else jnp.stack([kept(cell & (used > 0)) for cell in cells]),
    )


def dtype_of(config: EnsembleConfig) -> Any:
    """The floating-point type of training."""
    return np.float64 if config.precision == "float64" else np.float32
