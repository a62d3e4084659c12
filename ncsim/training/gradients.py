"""What happens in the shared layer while two heads train on it: whose gradient pulls where, and how losses oscillate.

Section 4.3 of arXiv:2603.04451 explains S > 2 by "gradient competition": a hidden neuron receives conflicting gradients
from the two heads, which makes their losses oscillate. It measures neither; these are the measurements. The gradients
are those of each head's own mean loss over all rows it trains on, full batch and exact, before loss weights and before
what `intervention` does to them: they say what the heads ask for, not what the layer is given.

Reference for magnitude similarity and conflict: Yu et al. 2020, "Gradient surgery for multi-task learning".
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig
from ncsim.training.initialization import row_tuples, row_weights
from ncsim.training.losses import LOSSES, sum_rows, with_lanes
from ncsim.training.network import Architecture, Parameters, backward, forward, sum_pairwise, trunk_gradient


class GradientDiagnostics(NamedTuple):
    """Of one network's shared layer, by the gradients of Alice's and Bob's loss there (kernel and bias as one vector,
    or one neuron's share of them). `*L`: lanes. Where one of two gradients is zero (a dead neuron, a loss at its
    minimum) they have no angle: their cosine and their magnitude similarity are 0, and they are in no conflict."""

    alice_norm: Array  # [*L]: loss per unit of parameter
    bob_norm: Array  # [*L]
    cosine: Array  # [*L], -1 to 1
    magnitude_similarity: Array  # [*L]: 2 |a| |b| / (|a|^2 + |b|^2), 0 to 1
    conflict: Array  # bool[*L]: the cosine is negative
    neurons_in_conflict: Array  # [*L]: share of all neurons whose own cosine is negative
    neuron_cosine: Array  # [H, *L]


def diagnostics(config: EnsembleConfig, vector: Array, targets: Array) -> GradientDiagnostics:
    """Diagnostics at `vector` [P, *L], as `train` has it; `targets` [R, 2] or [R, 2, *L] of 0 and 1. Elementwise over
    lanes. A network that is not finite has NaN, and no conflict; where entries of the layer times lanes are 4,096 or more, its cosine may
    be 0 on a CPU, where XLA's maximum loses NaN (findings/xla_cpu_max_of_4096_numbers_loses_nan.sh)."""
    at = evaluated(config, vector, targets)
    gradients = [sent_to_trunk(config, at, head) for head in (0, 1)]
    neurons = _compared(*gradients)  # sums over features and bias
    whole = _compared(*(g.reshape(-1, *g.shape[2:]) for g in gradients))
    negative = (neurons.cosine < 0).astype(whole.cosine.dtype)
    return GradientDiagnostics(
        alice_norm=whole.alice_norm,
        bob_norm=whole.bob_norm,
        cosine=whole.cosine,
        magnitude_similarity=whole.similarity,
        conflict=whole.cosine < 0,
        neurons_in_conflict=sum_rows(negative) / len(negative),
        neuron_cosine=neurons.cosine,
    )


class _Compared(NamedTuple):
    alice_norm: Array
    bob_norm: Array
    cosine: Array
    similarity: Array


def _compared(alice: Array, bob: Array) -> _Compared:
    """Norms and angle over the leading axis. Scaled first: squares of a converged network's gradient underflow."""
    scales = [jnp.max(jnp.abs(g), axis=0) for g in (alice, bob)]
    units = [g / jnp.where(scale == 0, 1, scale) for g, scale in zip((alice, bob), scales, strict=True)]
    lengths = [jnp.sqrt(sum_rows(unit * unit)) for unit in units]
    norms = [length * scale for length, scale in zip(lengths, scales, strict=True)]
    both = (scales[0] != 0) & (scales[1] != 0)
    product = jnp.where(both, lengths[0] * lengths[1], 1)
    cosine = jnp.where(both, sum_rows(units[0] * units[1]) / product, 0)
    larger = jnp.maximum(*norms)
    ratio = jnp.minimum(*norms) / jnp.where(larger == 0, 1, larger)
    return _Compared(norms[0], norms[1], jnp.clip(cosine, -1, 1), 2 * ratio / (1 + ratio * ratio))


#: The heads whose loss sends its gradient as it is into the shared layer; None is all. PCGrad sends what is left of both.
_SENDERS: dict[str, tuple[int, ...] | None] = {
    "none": None,
    "stop_gradient_alice": (1,),
    "stop_gradient_bob": (0,),
    "frozen_trunk": (),
    "separate_trunks": None,
    "pcgrad": (),
}


class NetworkAtWork(NamedTuple):
    """A network at work on all rows, and what its losses ask of its logits."""

    parameters: Parameters
    hidden: Array  # [R, H, *L]
    residuals: Array  # [R, K, *L]: derivative of each head's mean loss by its decision logits, without loss weights


def evaluated(config: EnsembleConfig, vector: Array, targets: Array) -> NetworkAtWork:
    """The network `vector` [P, *L] on the rows it trains on; `targets` [R, K] or [R, K, *L] of 0 and 1."""
    parameters = Architecture.of(config).split(vector)
    hidden, logits = forward(parameters, row_tuples(config))
    residuals = LOSSES[config.loss].residual(logits, with_lanes(targets, logits))
    weights = row_weights(config, vector)
    if weights is None:
        return NetworkAtWork(parameters, hidden, residuals * (1 / len(logits)))
    return NetworkAtWork(parameters, hidden, residuals * (weights * (1 / config.training_rows))[:, None])


def gradient(config: EnsembleConfig, vector: Array, targets: Array) -> Array:
    """What the optimiser is given at `vector` [P, *L], one entry a parameter: the full-batch gradient of the loss, or
    what the config's intervention makes of it; `targets` [R, K] or [R, K, *L] of 0 and 1."""
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


def sent_to_trunk(config: EnsembleConfig, at: NetworkAtWork, head: int) -> Array:
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
