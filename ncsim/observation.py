"""What is recorded of a network while it trains: which answers are right, losses, margin, and how its gradients compete."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ncsim.config import EnsembleConfig
from ncsim.dynamics import SCALARS, diagnostics
from ncsim.train import head_losses, record

#: The observed numbers, in the order of `Observation.values`.
OBSERVED = ("loss_alice", "loss_bob", "margin", *SCALARS)


class Observation(NamedTuple):
    """One network in one context at one step of its training. `*L`: lanes."""

    counts: Int[Array, "4 *L"]  # as in `ContextRecord`; zero once the network has diverged
    values: Float[Array, "V *L"]  # OBSERVED, float32


def observe(config: EnsembleConfig, vector: Array, targets: Array) -> Observation:
    """What is recorded of parameters [P, *L], trained on `targets` [R, 2]."""
    there = record(config, vector, targets)
    alice, bob = head_losses(config, vector, targets)
    gradients = diagnostics(config, vector, targets)
    values = [alice, bob, there.margin, *(getattr(gradients, name).astype(alice.dtype) for name in SCALARS)]
    return Observation(there.counts, jnp.stack(values).astype(jnp.float32))
