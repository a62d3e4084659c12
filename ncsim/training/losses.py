"""The losses: value and derivative of each, per row and head, and their means over the rows that are trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig


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


def head_losses(config: EnsembleConfig, logits: Array, targets: Array, rows_used: Array | None) -> Array:
    """Each head's own mean loss over the rows trained on, without loss weights: [K, *L], from decision logits [R, K, *L]."""
    values = LOSSES[config.loss].value(logits, with_lanes(targets, logits))
    if rows_used is None:
        return sum_rows(values) / len(values)
    return sum_rows(jnp.where(rows_used[:, None] > 0, values, 0)) / config.training_rows


def mean_loss(config: EnsembleConfig, logits: Array, targets: Array, rows_used: Array | None) -> Array:
    """The training loss, [*L]: each head's mean over the rows trained on, times its weight, summed over the heads."""
    values = LOSSES[config.loss].value(logits, with_lanes(targets, logits))
    heads = [values[:, head] for head in range(values.shape[1])]
    if (config.alice_weight, config.bob_weight) != (1.0, 1.0):
        weighted = zip(heads, (config.alice_weight, config.bob_weight), strict=True)
        # What does not count is left out: 0 times a loss that is infinite would be NaN.
        heads = [head * weight for head, weight in weighted if weight]
    total = functools.reduce(jnp.add, heads)
    if rows_used is None:
        return sum_rows(total) / len(values)
    return sum_rows(jnp.where(rows_used > 0, total, 0)) / config.training_rows


def sum_rows(values: Array) -> Array:
    """Sum over the leading axis, written out in one order."""
    total = values[0]
    for row in range(1, len(values)):
        total = total + values[row]
    return total


def with_lanes(targets: Array, logits: Array) -> Array:
    return targets.reshape(targets.shape + (1,) * (logits.ndim - targets.ndim))
