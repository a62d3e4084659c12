"""Many adapters trained at once over one frozen backbone. Pure functions of arrays; `trainer.py` has the devices.

An adapter is one network of the study: LoRA and two heads, of one rank and seed, in one context. Adapters of a group
are stacked along the leading axis G and vmapped, with the backbone shared, so that each frozen product is one matrix
product over (adapters x sequences x tokens). Ranks are zero-padded to the group's largest; padding stays zero, since its
gradient is.

A step's pairs are so many sequences, Alice's and Bob's, each with its own head. They are packed into rows of one length,
and some rows at a time are computed (`packing.py`): gradients add up, so that the step is the same however it is divided.

An adapter's start, its order of items and its dropout depend on (root seed, its seed, rank and context) alone. Its bits
depend on the group as well, because a wider matrix product may add in another order: groups agree to rounding.

Axes: G adapters, N pairs, B pairs a step, n sequences; 2 heads, Alice's first; classes are 0 and 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ncsim.config.tasks import CONTEXTS
from ncsim.text.config import TextConfig
from ncsim.text.model.lora import ForwardOptions, init_adapter, packed_logits
from ncsim.text.model.packing import Layout, laid_out, packed_rows, rows_of
from ncsim.text.model.sizes import BertConfig
from ncsim.text.records import AdapterId, Evaluation

# What an adapter's key is folded with, for each of its uses.
_INITIALISATION, _ORDER, _DROPOUT = range(3)


class Tokens(NamedTuple):
    """All items, Alice's and then Bob's, their tokens one behind another without padding."""

    ids: Any  # int32[all tokens]
    types: Any  # int8[all tokens]: 0 in the first text, 1 in the second
    begins: Any  # int32[items]: where an item's tokens begin
    lengths: Any  # int32[items]: how many it has, 1 or more
    heads: Any  # int8[items]: 0 for Alice's, 1 for Bob's
    labels: Any  # int8[items]: 0 or 1


class Order(NamedTuple):
    """Which pairs the steps of an epoch take, and where their sequences stand in rows; Alice's and Bob's in turns."""

    pairs: Any  # int32[G, steps, B, 2]: places among the items; -1 for none
    layout: Layout  # of [G, steps, 2 B] sequences


class GroupState(NamedTuple):
    """What training carries from step to step; every leaf has the leading axis G."""

    adapters: Any
    optimizer: Any


class Setting(NamedTuple):
    """What a compiled program is made for, besides the shapes of its arguments."""

    config: TextConfig
    bert: BertConfig
    items: int  # training pairs per context, N
    row: int  # tokens of a row
    slots: int  # sequences of a row, at most
    microbatch: int  # rows whose activations are in memory at once; a step's gradient is added up over them
    width: int  # ranks are padded to it
    attention: str = "xla"  # or "cudnn": how it is computed on these devices

    @property
    def batch(self) -> int:
        """Pairs a step, B."""
        return min(self.config.batch_size, self.items)

    @property
    def steps(self) -> int:
        """Steps an epoch; the last may have fewer pairs."""
        return -(-self.items // self.batch)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with the schedule, for one adapter."""
        config = self.config
        schedule = learning_rate_schedule(config, self.steps * config.epochs)
        adamw = optax.adamw(schedule, weight_decay=config.weight_decay)
        return optax.chain(optax.clip_by_global_norm(config.clip), adamw) if config.clip else adamw

    @property
    def options(self) -> ForwardOptions:
        """How the backbone is computed."""
        c = self.config
        return ForwardOptions(
            dtype=c.precision, remat=c.remat, pooling=c.pooling, dropout=c.dropout, attention=self.attention
        )  # fmt: skip


def all_adapters(config: TextConfig) -> list[AdapterId]:
    """Every adapter of a run, by rank, seed and context."""
    return [
        AdapterId(rank, seed, context)
        for rank in config.ranks
        for seed in range(config.seeds)
        for context in range(len(CONTEXTS))
    ]


def grouped(adapters: Sequence[AdapterId], at_once: int, waste: int = 4) -> list[tuple[AdapterId, ...]]:
    """Adapters in groups of at most `at_once`, by rank; in a group the largest rank is at most `waste` times the smallest,
    because all are padded to it."""
    groups: list[list[AdapterId]] = []
    for adapter in sorted(adapters):
        if not groups or len(groups[-1]) >= at_once or adapter.rank > waste * groups[-1][0].rank:
            groups.append([])
        groups[-1].append(adapter)
    return [tuple(group) for group in groups]


def learning_rate_schedule(config: TextConfig, steps: int) -> optax.Schedule:
    """The learning rate by step, over `steps` in all."""
    warmup = round(config.warmup * steps)
    rest = max(steps - warmup, 1)
    highest = config.learning_rate
    fall = {
        "cosine": optax.cosine_decay_schedule(highest, rest),
        "linear": optax.linear_schedule(highest, 0.0, rest),
        "constant": optax.constant_schedule(highest),
    }[config.schedule]
    # The first of the rising steps is not 0, or it would be in vain.
    rise = optax.linear_schedule(highest / (warmup + 1), highest, max(warmup, 1))
    return optax.join_schedules([rise, fall], [warmup]) if warmup else fall


def adapter_key(config: TextConfig, adapter: AdapterId) -> Array:
    """The key of one adapter: its seed, its rank and its context folded into the run's."""
    # As jax.random.key(root_seed), whatever offset JAX is told to add to seeds.
    key = jax.random.wrap_key_data(jnp.array([0, config.root_seed], jnp.uint32))
    for number in (adapter.seed, adapter.rank, adapter.context):
        key = jax.random.fold_in(key, number)
    return key


def initial_state(setting: Setting, group: Sequence[AdapterId]) -> GroupState:
    """Where a group begins: every adapter drawn at its own rank, padded to the width."""
    keys = [jax.random.fold_in(adapter_key(setting.config, adapter), _INITIALISATION) for adapter in group]
    config = setting.config
    draw = functools.partial(
        _initial, config=setting.bert, width=setting.width, targets=config.target_modules, adaptation=config.adaptation,
        bond=config.bond,
    )  # fmt: skip
    each = [draw(key, rank=adapter.rank) for key, adapter in zip(keys, group, strict=True)]
    adapters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return GroupState(adapters, jax.vmap(setting.optimizer.init)(adapters))


_initial = jax.jit(init_adapter, static_argnames=("config", "rank", "width", "targets", "adaptation", "bond"))


def epoch_order(
    setting: Setting, tokens: Tokens, keys: Array, pairs: Int[Array, "G N 2"], epoch: Array
) -> Order:  # fmt: skip
    """An epoch's steps: every pair once, in each adapter's own order."""

    def one(data: Array, own: Array) -> Array:
        shuffled = jax.random.permutation(jax.random.fold_in(_key_of(data, _ORDER), epoch), setting.items)
        padding = ((0, setting.steps * setting.batch - setting.items), (0, 0))
        return jnp.pad(jnp.take(own, shuffled, axis=0), padding, constant_values=-1)

    taken = jax.vmap(one)(keys, pairs).reshape(len(keys), setting.steps, setting.batch, 2)
    return Order(taken, jax.vmap(jax.vmap(functools.partial(_layout, setting, tokens)))(taken))


def _key_of(data: Array, use: int) -> Array:
    return jax.random.fold_in(jax.random.wrap_key_data(data), use)


def _layout(setting: Setting, tokens: Tokens, pairs: Int[Array, "N 2"]) -> Layout:
    return laid_out(_lengths(tokens, pairs.reshape(-1)), setting.row, setting.slots)


def _lengths(tokens: Tokens, items: Int[Array, " n"]) -> Int[Array, " n"]:
    """Tokens of items; 0 of an item -1."""
    return jnp.where(items >= 0, tokens.lengths[jnp.maximum(items, 0)], 0)


def _answers(
    setting: Setting, frozen: Any, tokens: Tokens, adapter: Any, scale: Array, items: Array, layout: Layout, first: Array,
    rows: int, key: Array | None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """What an adapter says to the sequences in so many rows from `first` on: logits [rows, slots, 2 classes] of each
    one's own head, its label, and its place among `items` [n], -1 for none. `key` [n] is of dropout."""
    chosen = rows_of(layout, _lengths(tokens, items), first, rows, setting.slots)
    item = items[jnp.maximum(chosen.places, 0)]
    packed = packed_rows(chosen, tokens.begins[item], tokens.ids, tokens.types.astype(jnp.int32), setting.row)
    own_key = None if key is None else key[jnp.maximum(chosen.places, 0)]
    both = packed_logits(
        setting.bert, frozen, adapter, scale, packed, options=setting.options, dropout_key=own_key
    )  # fmt: skip
    logits = jnp.take_along_axis(both, tokens.heads[item].astype(jnp.int32)[..., None, None], axis=2)[:, :, 0]
    return logits, tokens.labels[item].astype(jnp.int32), chosen.places


def _summed_loss(
    setting: Setting, frozen: Any, tokens: Tokens, adapter: Any, scale: Array, items: Array, layout: Layout, first: Array,
    key: Array | None,
) -> Array:  # fmt: skip
    """Cross-entropy added up over the sequences of a microbatch."""
    logits, labels, places = _answers(
        setting, frozen, tokens, adapter, scale, items, layout, first, setting.microbatch, key
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(jnp.where(places >= 0, losses, 0))


def train_steps(
    setting: Setting, frozen: Any, tokens: Tokens, state: GroupState, keys: Array, scales: Array, order: Order,
    epoch: Array, first: Array, stop: Array,
) -> tuple[GroupState, Array]:  # fmt: skip
    """Steps `first` to `stop - 1` of an epoch, and the sum of their losses, [G]: mean over pairs, summed over the heads."""
    optimizer, group = setting.optimizer, len(keys)

    def total(adapters: Any, items: Array, layout: Layout, row: Array, sequence_keys: Any) -> tuple[Array, Array]:
        one = functools.partial(_summed_loss, setting, frozen, tokens)
        in_axes = (0, 0, 0, 0, None, None if sequence_keys is None else 0)
        losses = jax.vmap(one, in_axes=in_axes)(adapters, scales, items, layout, row, sequence_keys)
        return jnp.sum(losses), losses

    gradient = jax.grad(total, has_aux=True)

    def sequence_keys(number: Array) -> Array | None:
        """A key [G, 2 B] for each sequence of a step: of its pair's place in the step and its head, wherever it stands."""
        if not setting.config.dropout:
            return None

        def of_sequences(data: Array) -> Array:
            of_step = jax.random.fold_in(_key_of(data, _DROPOUT), epoch * setting.steps + number)
            return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(of_step, jnp.arange(2 * setting.batch))

        return jax.vmap(of_sequences)(keys)

    def step(number: Array, carry: tuple[GroupState, Array]) -> tuple[GroupState, Array]:
        state, losses = carry
        items, layout = jax.tree.map(lambda array: array[:, number], (order.pairs, order.layout))
        count = jnp.maximum(jnp.sum(items[:, :, 0] >= 0, axis=1), 1).astype(jnp.float32)
        items, own = items.reshape(group, -1), sequence_keys(number)

        def add(part: Array, so_far: Any) -> Any:
            found = gradient(state.adapters, items, layout, part * setting.microbatch, own)
            return jax.tree.map(jnp.add, so_far, found)

        nothing = (jax.tree.map(jnp.zeros_like, state.adapters), jnp.zeros(group, jnp.float32))
        parts = -(-jnp.max(layout.count) // setting.microbatch)
        grads, loss = jax.lax.fori_loop(0, parts, add, nothing)
        grads = jax.tree.map(lambda g: g / count.reshape(-1, *[1] * (g.ndim - 1)), grads)
        updates, optimizer_state = jax.vmap(optimizer.update)(grads, state.optimizer, state.adapters)
        return GroupState(optax.apply_updates(state.adapters, updates), optimizer_state), losses + loss / count

    result: tuple[GroupState, Array] = jax.lax.fori_loop(first, stop, step, (state, jnp.zeros(group, jnp.float32)))
    return result


def evaluate(
    setting: Setting, frozen: Any, tokens: Tokens, adapters: Any, scales: Array, pairs: Int[Array, "G N 2"]
) -> Evaluation:  # fmt: skip
    """What the adapters answer on pairs; a pair of -1 is none."""
    rows = 2 * setting.microbatch
    items = pairs.reshape(len(pairs), -1)
    layout = jax.vmap(functools.partial(_layout, setting, tokens))(pairs)

    def one(adapter: Any, scale: Array, own: Array, where: Layout, so_far: Array, first: Array) -> Array:
        logits, _, places = _answers(setting, frozen, tokens, adapter, scale, own, where, first, rows, None)
        return so_far.at[jnp.where(places < 0, len(own), places)].set(logits, mode="drop")

    def more(part: Array, so_far: Array) -> Array:
        along = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, None))
        return along(adapters, scales, items, layout, so_far, part * rows)

    parts = -(-jnp.max(layout.count) // rows)
    logits = jax.lax.fori_loop(0, parts, more, jnp.zeros((*items.shape, 2), jnp.float32))
    return jax.vmap(functools.partial(_outcomes, setting, tokens))(pairs, logits.reshape(*pairs.shape, 2))


def _outcomes(setting: Setting, tokens: Tokens, pairs: Int[Array, "N 2"], logits: Array) -> Evaluation:
    """An adapter's logits [N, 2 heads, 2 classes], counted."""
    there = pairs[:, 0] >= 0
    labels = tokens.labels[pairs].astype(jnp.int32)
    decision = logits[..., 1] - logits[..., 0]
    alice, bob = (((decision > 0) == (labels > 0)) & there[:, None]).T
    decided = jnp.abs(decision) >= setting.config.undecided_tolerance
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # Not a product with 0, which would leave a NaN where it is.
    loss = jnp.sum(jnp.where(there[:, None], losses, 0), axis=0) / jnp.sum(there)
    diverged = jnp.any(~jnp.isfinite(logits) & there[:, None, None])

    def counted(true: Array) -> Array:
        return jnp.where(diverged, 0, jnp.sum(true & there)).astype(jnp.int32)

    same = jnp.where(alice == bob, 1, -1) * (decided[:, 0] & decided[:, 1] & there)
    cells = [~alice & ~bob, ~alice & bob, alice & ~bob, alice & bob]
    return Evaluation(
        counts=jnp.stack([counted(cell) for cell in cells]),
        loss_alice=loss[0],
        loss_bob=loss[1],
        diverged=diverged,
        undecided_alice=counted(~decided[:, 0]),
        undecided_bob=counted(~decided[:, 1]),
        decided_product=jnp.where(diverged, 0, jnp.sum(same)).astype(jnp.int32),
    )
