"""Many adapters trained at once over one frozen backbone. Pure functions of arrays; `trainer.py` has the devices.

An adapter is one network of the study: LoRA and two heads, of one rank and seed, in one context. Adapters of a group
are stacked along the leading axis G and vmapped, with the backbone shared, so that each frozen product is one matrix
product over (adapters x sequences x tokens). Ranks are zero-padded to the group's largest; padding stays zero, since its
gradient is.

An adapter's start, its order of items and its dropout depend on (root seed, its seed, rank and context) alone. Its bits
depend on the group as well, because a wider matrix product may add in another order: groups agree to rounding.

Axes: G adapters, N pairs, T tokens, B pairs a step; 2 heads, Alice's first; classes are 0 and 1.
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
from ncsim.text.model.lora import ForwardOptions, head_logits, init_adapter
from ncsim.text.model.sizes import BertConfig
from ncsim.text.records import AdapterId, Evaluation

# What an adapter's key is folded with, for each of its uses.
_INITIALISATION, _ORDER, _DROPOUT = range(3)


class Tokens(NamedTuple):
    """One party's items, of its two tasks one after another. Each party's are as long as its own longest."""

    ids: Any  # int32[items, T]
    mask: Any  # int8[items, T]: 1 where there is a token
    types: Any  # int8[items, T]: 0 in the first text, 1 in the second
    labels: Any  # int8[items]: 0 or 1


class GroupState(NamedTuple):
    """What training carries from step to step; every leaf has the leading axis G."""

    adapters: Any
    optimizer: Any


class Setting(NamedTuple):
    """What a compiled program is made for, besides the shapes of its arguments."""

    config: TextConfig
    bert: BertConfig
    items: int  # training pairs a context, N
    microbatch: int  # pairs whose activations are in memory at once; a step's gradient is added up over them

    @property
    def batch(self) -> int:
        """Pairs a step, B."""
        return min(self.config.batch_size, self.items)

    @property
    def steps(self) -> int:
        """Steps an epoch; the last may have fewer pairs."""
        return -(-self.items // self.batch)

    @property
    def parts(self) -> int:
        """Microbatches a step."""
        return -(-self.batch // self.microbatch)

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
        return ForwardOptions(dtype=c.precision, remat=c.remat, pooling=c.pooling, dropout=c.dropout)


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
    """Where a group begins: every adapter drawn at its own rank, padded to the largest."""
    width = max(adapter.rank for adapter in group)
    keys = [jax.random.fold_in(adapter_key(setting.config, adapter), _INITIALISATION) for adapter in group]
    draw = functools.partial(_initial, config=setting.bert, width=width, targets=setting.config.target_modules)
    each = [draw(key, rank=adapter.rank) for key, adapter in zip(keys, group, strict=True)]
    adapters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return GroupState(adapters, jax.vmap(setting.optimizer.init)(adapters))


_initial = jax.jit(init_adapter, static_argnames=("config", "rank", "width", "targets"))


def epoch_order(setting: Setting, keys: Array, pairs: Int[Array, "G N 2"], epoch: Array) -> Int[Array, "G steps B 2"]:
    """Which pairs the steps of an epoch take: every pair once, in each adapter's own order; -1 fills the last step."""

    def one(data: Array, own: Array) -> Array:
        shuffled = jax.random.permutation(jax.random.fold_in(_key_of(data, _ORDER), epoch), setting.items)
        padding = ((0, setting.steps * setting.batch - setting.items), (0, 0))
        return jnp.pad(jnp.take(own, shuffled, axis=0), padding, constant_values=-1)

    return jax.vmap(one)(keys, pairs).reshape(len(keys), setting.steps, setting.batch, 2)


def _key_of(data: Array, use: int) -> Array:
    return jax.random.fold_in(jax.random.wrap_key_data(data), use)


def _forward(
    setting: Setting, frozen: Any, tokens: tuple[Tokens, Tokens], adapter: Any, scale: Array, chosen: Array, key: Array | None
) -> tuple[Array, Array]:  # fmt: skip
    """Logits and labels of some pairs [b, 2] under one adapter: [2 heads, b, 2 classes] and [2 heads, b]."""
    logits, labels = [], []
    for head, items in enumerate(tokens):
        own = Tokens(*(jnp.take(array, chosen[:, head], axis=0) for array in items))
        own_key = None if key is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, head)
        both = head_logits(
            setting.bert, frozen, adapter, scale, own.ids, own.mask, own.types, options=setting.options, dropout_key=own_key
        )  # fmt: skip
        logits.append(both[:, head])
        labels.append(own.labels.astype(jnp.int32))
    return jnp.stack(logits), jnp.stack(labels)


def _summed_loss(
    setting: Setting, frozen: Any, tokens: tuple[Tokens, Tokens], adapter: Any, scale: Array, chosen: Array, key: Array | None
) -> Array:  # fmt: skip
    """Cross-entropy of both heads, added up over pairs; a pair of -1 counts nothing."""
    logits, labels = _forward(setting, frozen, tokens, adapter, scale, jnp.maximum(chosen, 0), key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(losses * (chosen[:, 0] >= 0).astype(jnp.float32))


def train_steps(
    setting: Setting, frozen: Any, tokens: tuple[Tokens, Tokens], state: GroupState, keys: Array, scales: Array,
    order: Array, epoch: Array, first: Array, stop: Array,
) -> tuple[GroupState, Array]:  # fmt: skip
    """Steps `first` to `stop - 1` of an epoch, and the sum of their losses, [G]: mean over pairs, summed over the heads."""
    optimizer, parts, steps = setting.optimizer, setting.parts, setting.steps

    def total(adapters: Any, chosen: Array, step_keys: Array | None) -> tuple[Array, Array]:
        one = functools.partial(_summed_loss, setting, frozen, tokens)
        in_axes = (0, 0, 0, None if step_keys is None else 0)
        losses = jax.vmap(one, in_axes=in_axes)(adapters, scales, chosen, step_keys)
        return jnp.sum(losses), losses

    gradient = jax.grad(total, has_aux=True)

    def part_keys(number: Array, part: Any) -> Array | None:
        """A key [G, b] for each pair of a part of step `number`: of the pair's place in the step, whatever the parts."""
        if not setting.config.dropout:
            return None
        places = part * setting.microbatch + jnp.arange(setting.microbatch)

        def of_pairs(data: Array) -> Array:
            of_step = jax.random.fold_in(_key_of(data, _DROPOUT), epoch * steps + number)
            return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(of_step, places)

        return jax.vmap(of_pairs)(keys)

    def step(number: Array, carry: tuple[GroupState, Array]) -> tuple[GroupState, Array]:
        state, losses = carry
        chosen = order[:, number]
        count = jnp.maximum(jnp.sum(chosen[:, :, 0] >= 0, axis=1), 1).astype(jnp.float32)
        padding = ((0, 0), (0, parts * setting.microbatch - setting.batch), (0, 0))
        chosen = jnp.pad(chosen, padding, constant_values=-1).reshape(len(chosen), parts, setting.microbatch, 2)
        if parts == 1:
            grads, loss = gradient(state.adapters, chosen[:, 0], part_keys(number, 0))
        else:

            def add(part: Array, so_far: Any) -> Any:
                return jax.tree.map(jnp.add, so_far, gradient(state.adapters, chosen[:, part], part_keys(number, part)))

            nothing = (jax.tree.map(jnp.zeros_like, state.adapters), jnp.zeros(len(chosen), jnp.float32))
            grads, loss = jax.lax.fori_loop(0, parts, add, nothing)
        grads = jax.tree.map(lambda g: g / count.reshape(-1, *[1] * (g.ndim - 1)), grads)
        updates, optimizer_state = jax.vmap(optimizer.update)(grads, state.optimizer, state.adapters)
        return GroupState(optax.apply_updates(state.adapters, updates), optimizer_state), losses + loss / count

    result: tuple[GroupState, Array] = jax.lax.fori_loop(first, stop, step, (state, jnp.zeros(len(order), jnp.float32)))
    return result


def evaluate(
    setting: Setting, frozen: Any, tokens: tuple[Tokens, Tokens], adapters: Any, scales: Array, pairs: Int[Array, "G N 2"]
) -> Evaluation:  # fmt: skip
    """What the adapters answer on pairs, each on its own."""
    size = min(2 * setting.microbatch, pairs.shape[1])
    parts = -(-pairs.shape[1] // size)
    padded = jnp.pad(pairs, ((0, 0), (0, parts * size - pairs.shape[1]), (0, 0)), constant_values=-1)
    padded = jnp.moveaxis(padded.reshape(len(pairs), parts, size, 2), 1, 0)

    def one(adapter: Any, scale: Array, chosen: Array) -> Evaluation:
        there = chosen[:, 0] >= 0
        logits, labels = _forward(setting, frozen, tokens, adapter, scale, jnp.maximum(chosen, 0), None)
        decision = logits[..., 1] - logits[..., 0]
        alice, bob = ((decision > 0) == (labels > 0)) & there
        decided = jnp.abs(decision) >= setting.config.undecided_tolerance
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        # Not a product with 0, which would leave a NaN where it is.
        loss = jnp.sum(jnp.where(there, losses, 0), axis=1) / pairs.shape[1]
        cells = [~alice & ~bob & there, ~alice & bob, alice & ~bob, alice & bob]
        product = jnp.where(alice == bob, 1, -1) * (decided[0] & decided[1] & there)
        return Evaluation(
            counts=jnp.stack([jnp.sum(cell) for cell in cells]),
            loss_alice=loss[0],
            loss_bob=loss[1],
            diverged=jnp.any(~jnp.isfinite(logits) & there[:, None]),
            undecided_alice=jnp.sum(~decided[0] & there),
            undecided_bob=jnp.sum(~decided[1] & there),
            decided_product=jnp.sum(product),
        )

    each = jax.lax.map(lambda chosen: jax.vmap(one)(adapters, scales, chosen), padded)
    diverged = jnp.any(each.diverged, axis=0)

    def added_up(name: str, values: Array) -> Array:
        total = jnp.sum(values, axis=0)
        if name.startswith("loss"):
            return total
        return jnp.where(diverged.reshape(-1, *[1] * (total.ndim - 1)), 0, total).astype(jnp.int32)

    fields = {name: added_up(name, values) for name, values in each._asdict().items() if name != "diverged"}
    return Evaluation(**fields, diverged=diverged)
