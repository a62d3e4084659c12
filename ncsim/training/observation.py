"""What is recorded of a network while it trains: which answers are right, losses, margin, and how its gradients compete."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt16

from ncsim.config.ensemble import EnsembleConfig
from ncsim.training.gradients import diagnostics
from ncsim.training.initialization import row_tuples, row_weights
from ncsim.training.losses import head_losses, mean_loss, sum_rows, with_lanes
from ncsim.training.network import Architecture, forward

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
    alice, bob = head_losses(config, logits, targets, row_weights(config, vector))
    gradients = diagnostics(config, vector, targets)
    values = {"loss_alice": alice, "loss_bob": bob, "margin": smallest_margin(logits, targets)}
    values |= {name: getattr(gradients, name) for name in GRADIENTS}
    return Observation(jnp.stack(counts).astype(jnp.uint16), {name: _number(value) for name, value in values.items()})


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


class ScenarioRecord(NamedTuple):
    """As `ContextRecord`, of a network with K heads in one context of a scenario."""

    counts: Int[
        Array, " cells *L"
    ]  # rows by (first head wrong/right, ..., last head wrong/right), the last one's fastest
    loss: Float[Array, "*L"]
    margin: Float[Array, "*L"]
    diverged: Array  # bool[*L]
    undecided: Int[Array, " heads *L"]  # rows with |logit| < undecided_tolerance


#: The fields of a record that have an axis of outcomes, or of heads.
CELLS = ("counts", "training_counts", "undecided")


def outcome_cells(logits: Array, targets: Array) -> list[Array]:
    """Which rows are answered how, bool[R, *L] each: both wrong, Bob right alone, Alice right alone, both right. A logit of
    exactly 0 answers 0."""
    right = (logits > 0) == (with_lanes(targets, logits) > 0)
    alice, bob = right[:, 0], right[:, 1]
    return [~alice & ~bob, ~alice & bob, alice & ~bob, alice & bob]


def _number(value: Array) -> Array:
    """As float32. All NaN have the same bits: what arithmetic gives depends on whose NaN a compiler lets a sum have."""
    return jnp.where(jnp.isnan(value), jnp.nan, value).astype(jnp.float32)


def has_diverged(vector: Array, logits: Array) -> Array:
    """bool[*L]: a parameter or a logit is not finite."""
    return ~(jnp.all(jnp.isfinite(logits), axis=(0, 1)) & jnp.all(jnp.isfinite(vector), axis=0))


def smallest_margin(logits: Array, targets: Array) -> Array:
    """The smallest logit in favour of the right answer over rows and heads: [*L]."""
    favour = jnp.where(with_lanes(targets, logits) > 0, logits, -logits)
    # Written out, as sums are: XLA's reduction takes four times as long on a CPU.
    rows, heads = favour.shape[:2]
    return functools.reduce(jnp.minimum, [favour[row, head] for row in range(rows) for head in range(heads)])


def record_scenario(config: EnsembleConfig, vector: Array, targets: Array) -> ScenarioRecord:
    """As `record`, of any number of heads."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    diverged = has_diverged(vector, logits)

    def kept(rows: Array) -> Array:
        return jnp.where(diverged, 0, sum_rows(rows.astype(jnp.int32)))

    decided = jnp.abs(logits) >= config.undecided_tolerance
    heads = logits.shape[1]
    right = ((logits > 0) == (with_lanes(targets, logits) > 0)).astype(jnp.int32)
    code = functools.reduce(lambda before, head: 2 * before + right[:, head], range(1, heads), right[:, 0])
    # Compared as a whole: written out, the cells of six heads take a compiler longer than the step.
    cells = jnp.arange(2**heads).reshape(-1, *[1] * code.ndim)
    return ScenarioRecord(
        counts=jnp.where(diverged, 0, jnp.sum(code == cells, axis=1, dtype=jnp.int32)),
        loss=_number(mean_loss(config, logits, targets, None)),
        margin=_number(smallest_margin(logits, targets)),
        diverged=diverged,
        undecided=jnp.stack([kept(~decided[:, head]) for head in range(heads)]),
    )


def record(config: EnsembleConfig, vector: Array, targets: Array) -> ContextRecord:
    """Which answers are right, which undecided, and how the training ended."""
    _, logits = forward(Architecture.of(config).split(vector), row_tuples(config))
    return record_of_logits(config, vector, logits, targets)


def record_of_logits(config: EnsembleConfig, vector: Array, logits: Array, targets: Array) -> ContextRecord:
    """As `record`, of whatever has these parameters [P, *L] and decision logits [R, 2, *L]."""
    decided = jnp.abs(logits) >= config.undecided_tolerance  # else "undecided", whatever they answer
    diverged = has_diverged(vector, logits)
    cells = outcome_cells(logits, targets)
    product = jnp.where(cells[0] | cells[3], 1, -1) * (decided[:, 0] & decided[:, 1])
    used = row_weights(config, vector)

    def kept(rows: Array) -> Array:
        return jnp.where(diverged, 0, sum_rows(rows.astype(jnp.int32)))

    return ContextRecord(
        counts=jnp.stack([kept(cell) for cell in cells]),
        loss=_number(mean_loss(config, logits, targets, used)),
        margin=_number(smallest_margin(logits, targets)),
        diverged=diverged,
        undecided_alice=kept(~decided[:, 0]),
        undecided_bob=kept(~decided[:, 1]),
        decided_product=kept(product),
        training_counts=None if used is None else jnp.stack([kept(cell & (used > 0)) for cell in cells]),
    )
