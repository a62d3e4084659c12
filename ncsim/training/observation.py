"""What is recorded of a network while it trains: which answers are right, losses, margin, and how its gradients compete."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

from ncsim.config.ensemble import EnsembleConfig
from ncsim.training.gradients import diagnostics
from ncsim.training.network import Architecture, forward
from ncsim.training.step import (
    has_diverged,
    head_losses_at,
    outcome_cells,
    row_tuples,
    row_weights,
    smallest_margin,
    sum_rows,
)

#: The diagnostics that are kept; the rest follows from them (`MemberTrajectories.value`).
GRADIENTS = ("alice_norm", "bob_norm", "cosine", "neurons_in_conflict")
#: The observed numbers, by name.
OBSERVED = ("loss_alice", "loss_bob", "margin", *GRADIENTS)


class Observation(NamedTuple):
    """One network in one context at one step of its training. `*L`: lanes."""

    counts: UInt16[Array, " 4 *L"]  # as in `ContextRecord`; zero once the network has diverged
    values: dict[str, Float[Array, "*L"]]  # OBSERVED, float32


def observe(config: EnsembleConfig, vector: Array, targets: Array) -> Observation:
    """What is recorded of parameters [P, *L], trained on `targets` [R, 2]."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    logits = jax.lax.optimization_barrier(logits)  # else computed again for everything that is made of them
    diverged = has_diverged(vector, logits)
    counts = [jnp.where(diverged, 0, sum_rows(cell.astype(jnp.int32))) for cell in outcome_cells(logits, targets)]
    alice, bob = head_losses_at(config, logits, targets, row_weights(config, vector))
    gradients = diagnostics(config, vector, targets)
    values = {"loss_alice": alice, "loss_bob": bob, "margin": smallest_margin(logits, targets)}
    values |= {name: getattr(gradients, name) for name in GRADIENTS}
    return Observation(
        jnp.stack(counts).astype(jnp.uint16), {name: value.astype(jnp.float32) for name, value in values.items()}
    )
