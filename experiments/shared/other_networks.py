"""Networks that `EnsembleConfig` does not have: another activation, or mini-batches. Trained by XLA with a gradient from JAX.

They begin where the ensemble's members begin, and what is recorded of them is what is recorded there. With ReLU and all rows in
each step they are the ensemble's networks, but for rounding.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.config.tasks import CONTEXTS, context_targets, encoded_inputs
from ncsim.executors.own_programs import own_programs
from ncsim.records.members import MemberRecords
from ncsim.storage.files import write_atomically
from ncsim.training.initialization import root_key, start_vector
from ncsim.training.losses import LOSSES
from ncsim.training.network import Architecture, head_vectors, sum_pairwise
from ncsim.training.observation import record_of_logits

#: Members that are trained at a time.
BLOCK = 64
ACTIVATIONS = {
    "relu": lambda x: jnp.maximum(x, 0),
    "leaky_relu": lambda x: jnp.maximum(x, 0.1 * x),
    "tanh": jnp.tanh,
}


class Variant(NamedTuple):
    """What is different: the activation, by its name, and how many rows a step sees; 0 is all."""

    activation: str = "relu"
    batch: int = 0

    def __str__(self) -> str:
        return self.activation if not self.batch else f"{self.activation}, {self.batch} rows per step"


def logits_of(config: EnsembleConfig, variant: Variant, vector: Array) -> Array:
    """Decision logits [R, 2, L] of parameters [P, L]."""
    parameters = Architecture.of(config).split(vector)
    # Written out, as in `ncsim.training.network`.
    columns = jnp.asarray(encoded_inputs(config.tasks, config.encoding), vector.dtype).T[:, :, None, None]
    before = sum_pairwise([column * row for column, row in zip(columns, parameters.hidden_kernel, strict=True)])
    before = before + parameters.hidden_bias
    after = ACTIVATIONS[variant.activation](before)
    kernel, bias = head_vectors(parameters)
    # Not `jnp.sum` of the product: see findings/xla_cpu_fused_sum_of_products.sh.
    heads = [sum_pairwise([row * after[:, unit] for unit, row in enumerate(head)]) for head in kernel]
    return jnp.stack(heads, axis=1) + bias


def train_variant(config: EnsembleConfig, variant: Variant, rungs: Sequence[int]) -> list[MemberRecords]:
    """Records of all members after each of these steps, ascending. Mini-batches go through all rows in an order of the network's
    own, anew in each epoch; the end of an epoch stands for the steps in it."""
    per_epoch = config.tasks.rows // variant.batch if variant.batch else 1
    epochs = [max(round(rung / per_epoch), 1) for rung in rungs]
    found: list[list[MemberRecords]] = []
    for first in range(0, config.members, BLOCK):
        members = min(BLOCK, config.members - first)
        block = dataclasses.replace(config, first_member=config.first_member + first, members=members)
        with own_programs():
            recorded = _program(block, variant, tuple(epochs))(*_lanes(block))
        found.append([_members(block, recorded, n) for n in range(len(rungs))])
    return [_together(each) for each in zip(*found, strict=True)]


def _together(blocks: Sequence[MemberRecords]) -> MemberRecords:
    return MemberRecords(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in _KEPT})


def stored_variant(folder: Path, config: EnsembleConfig, variant: Variant, rungs: Sequence[int]) -> list[MemberRecords]:
    """As `train_variant`; what the folder has is not trained again."""
    name = f"{fingerprint(config)}-{variant.activation}-{variant.batch}-{config.members}-{max(rungs)}.npz"
    path = folder / name
    if not path.exists():
        found = train_variant(config, variant, rungs)
        stacked = {field: np.stack([getattr(each, field) for each in found]) for field in _KEPT}
        content = io.BytesIO()
        np.savez_compressed(content, **stacked)  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    with np.load(path) as stored:
        columns = {field: stored[field] for field in _KEPT}
    return [MemberRecords(**{field: column[n] for field, column in columns.items()}) for n in range(len(rungs))]


_KEPT = [field for field in MemberRecords._fields if field != "training_counts"]


def _lanes(config: EnsembleConfig) -> tuple[Array, Array, Array]:
    """Starting parameters [P, L], targets [R, 2, L] and a key per network [L]; a context's members stand together."""
    root = root_key(config.root_seed)
    member = jnp.tile(jnp.asarray(config.member_ids, jnp.uint32), len(CONTEXTS))
    context = jnp.repeat(jnp.arange(len(CONTEXTS), dtype=jnp.uint32), config.members)
    vector = jax.vmap(functools.partial(start_vector, config, root))(member, context).T
    targets = jnp.repeat(
        jnp.moveaxis(jnp.asarray(context_targets(config.tasks), vector.dtype), 0, -1), config.members, -1
    )
    order = jax.random.fold_in(root, np.uint32(0x6F726472))  # no member's key
    keys = jax.vmap(lambda m, c: jax.random.fold_in(jax.random.fold_in(order, m), c))(member, context)
    return vector, targets, keys


def _program(config: EnsembleConfig, variant: Variant, epochs: tuple[int, ...]) -> Any:
    optimizer = optax.adam(config.learning_rate)
    architecture = Architecture.of(config)
    there = jnp.asarray(architecture.join(architecture.connections()), jnp.float32)[:, None]
    rows, batch = config.tasks.rows, variant.batch or config.tasks.rows

    def loss(vector: Array, targets: Array, used: Array) -> Array:
        values = LOSSES[config.loss].value(logits_of(config, variant, vector), targets)
        return jnp.sum(values * used[:, None]) / batch  # of all networks; each has a gradient of its own

    def step(carry: Any, used: Array, targets: Array) -> Any:
        vector, state = carry
        updates, state = optimizer.update(jax.grad(loss)(vector, targets, used) * there, state)
        return optax.apply_updates(vector, updates), state

    def epoch(number: Array, carry: Any, targets: Array, keys: Array) -> Any:
        if batch == rows:
            return step(carry, jnp.ones((rows, 1)), targets)
        draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, number), (rows,)))(keys).T
        rank = jnp.sum(draw[:, None] > draw, axis=1)
        for first in range(0, rows, batch):
            carry = step(carry, ((rank >= first) & (rank < first + batch)).astype(jnp.float32), targets)
        return carry

    @jax.jit
    def train(vector: Array, targets: Array, keys: Array) -> Any:
        def rung(state: Any, stop: Array) -> Any:
            carry = jax.lax.fori_loop(state[1], stop, lambda n, c: epoch(n, c, targets, keys), state[0])
            return (carry, stop), record_of_logits(config, carry[0], logits_of(config, variant, carry[0]), targets)

        first = (vector, optimizer.init(vector)), jnp.int32(0)
        return jax.lax.scan(rung, first, jnp.asarray(epochs, jnp.int32))[1]

    return train


def _members(config: EnsembleConfig, recorded: Any, rung: int) -> MemberRecords:
    """Records of networks [rungs, *, L] at one rung as those of members, [M, 4, *]."""

    def folded(name: str) -> np.ndarray:
        column = np.asarray(getattr(recorded, name))[rung]
        return np.moveaxis(column.reshape(*column.shape[:-1], len(CONTEXTS), config.members), (-1, -2), (0, 1))

    member = np.asarray(config.member_ids, np.uint64)
    return MemberRecords(member, *(folded(name) for name in _KEPT if name != "member"))
