"""What is recorded of a network while it trains: which answers are right, losses, margin, and how its gradients compete."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

from ncsim.config import EnsembleConfig
from ncsim.dynamics import SCALARS, diagnostics
from ncsim.train import head_losses, record

#: The observed numbers, by name.
OBSERVED = ("loss_alice", "loss_bob", "margin", *SCALARS)


class Observation(NamedTuple):
    """One network in one context at one step of its training. `*L`: lanes."""

    counts: UInt16[Array, "4 *L"]  # as in `ContextRecord`; zero once the network has diverged
    values: dict[str, Float[Array, "*L"]]  # OBSERVED, float32


def observe(config: EnsembleConfig, vector: Array, targets: Array) -> Observation:
    """What is recorded of parameters [P, *L], trained on `targets` [R, 2]."""
    there = record(config, vector, targets)
    alice, bob = head_losses(config, vector, targets)
    gradients = diagnostics(config, vector, targets)
    values = {"loss_alice": alice, "loss_bob": bob, "margin": there.margin} | gradients._asdict()
    kept = {name: values[name].astype(jnp.float32) for name in OBSERVED}
    return Observation(there.counts.astype(jnp.uint16), kept)
