"""Many adapters trained at once over one frozen backbone. Pure functions of arrays; files and devices are `run.py`'s.

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
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ncsim.tasks import CONTEXTS
from ncsim.text.bert import BertConfig
from ncsim.text.config import TextConfig
from ncsim.text.lora import ForwardOptions, head_logits, init_adapter

ADAPTERS = "adapters"
# What an adapter's key is folded with, for each of its uses.
_INITIALISATION, _ORDER, _DROPOUT = range(3)


class AdapterId(NamedTuple):
    """Which adapter: its LoRA rank, its seed, and the number of its context in the order 11, 12, 21, 22."""

    rank: int
    seed: int
    context: int

    @property
    def context_name(self) -> str:
        """As 12 for Alice's first and Bob's second task."""
        return "{}{}".format(*(task + 1 for task in CONTEXTS[self.context]))


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


class Evaluation(NamedTuple):
    """What is recorded of each adapter of a group on one split. [G], counts [G, 4].

    An adapter with a logit that is not finite has diverged: its counts, undecided items and product are zero.
    """

    counts: Any  # int32: pairs by (Alice wrong/right, Bob wrong/right): 00, 01, 10, 11
    loss_alice: Any  # float32: mean cross-entropy
    loss_bob: Any
    diverged: Any  # bool
    undecided_alice: Any  # int32: pairs whose two logits differ by less than undecided_tolerance
    undecided_bob: Any
    decided_product: Any  # int32: sum of A B over the pairs that both heads decided


class GroupProgram(NamedTuple):
    """A group's compiled training."""

    begin: Callable[[], GroupState]
    order: Callable[[int], Any]  # of an epoch: which pairs its steps take, int32[G, steps, B], -1 for none
    train: Callable[
        [GroupState, Any, int, int, int], tuple[GroupState, Any]
    ]  # (state, order, epoch, from step, to step)
    evaluate: Callable[[GroupState, str], Evaluation]  # on the split "train" or "test"
    steps: int  # an epoch
    memory: int  # bytes a device needs


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


def make_optimizer(config: TextConfig, steps: int) -> optax.GradientTransformation:
    """AdamW with the schedule, for one adapter."""
    adamw = optax.adamw(learning_rate_schedule(config, steps), weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip), adamw) if config.clip else adamw


def adapter_key(config: TextConfig, adapter: AdapterId) -> jax.Array:
    """The key of one adapter: its seed, its rank and its context folded into the run's."""
    key = jax.random.key(config.root_seed)
    for number in (adapter.seed, adapter.rank, adapter.context):
        key = jax.random.fold_in(key, number)
    return key


def adapter_mesh(devices: Sequence[Any]) -> Mesh:
    """Devices over which a group's adapters are spread."""
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (ADAPTERS,), devices=devices, axis_types=kinds)


def group_program(
    config: TextConfig,
    bert: BertConfig,
    backbone: Any,
    tokens: tuple[Tokens, Tokens],
    pairs: dict[str, np.ndarray],
    group: Sequence[AdapterId],
    microbatch: int,
    mesh: Mesh,
) -> GroupProgram:
    """The program that trains and evaluates one group.

    Args:
        config: the run.
        bert: the backbone's shape.
        backbone: its parameters, on the mesh's devices, the same on each.
        tokens: Alice's items and Bob's, likewise.
        pairs: per split, int32[4, N, 2]: places of Alice's and Bob's items in each context.
        group: as many adapters as the mesh has devices, or a multiple.
        microbatch: pairs whose activations are in memory at once; the gradient of a step is added up over them.
        mesh: devices over which the adapters are spread.
    """
    devices = mesh.devices.size
    if len(group) % devices:
        raise ValueError(f"group: {len(group)} adapters; allowed: a multiple of the {devices} devices")
    width = max(adapter.rank for adapter in group)
    contexts = np.array([adapter.context for adapter in group])
    scales = np.array([config.alpha / adapter.rank for adapter in group], np.float32)
    own_pairs = {split: chosen[contexts] for split, chosen in pairs.items()}  # [G, N, 2]
    items = own_pairs["train"].shape[1]
    batch = min(config.batch_size, items)
    steps = -(-items // batch)
    microbatch = min(microbatch, batch)
    optimizer = make_optimizer(config, steps * config.epochs)
    options = ForwardOptions(dtype=config.precision, remat=config.remat, pooling=config.pooling, dropout=config.dropout)
    keys = jnp.stack([jax.random.key_data(adapter_key(config, adapter)) for adapter in group])

    spread, same = PartitionSpec(ADAPTERS), PartitionSpec()
    placed = {spec: NamedSharding(mesh, spec) for spec in (spread, same)}
    keys, scales, *placed_pairs = jax.device_put((keys, scales, *own_pairs.values()), placed[spread])
    own_pairs = dict(zip(own_pairs, placed_pairs, strict=True))

    def key_of(data: jax.Array, use: int) -> jax.Array:
        return jax.random.fold_in(jax.random.wrap_key_data(data), use)

    def forward(
        frozen: Any,
        adapter: Any,
        scale: jax.Array,
        chosen: jax.Array,
        tokens: tuple[Tokens, Tokens],
        key: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Logits and labels of some pairs [b, 2] under one adapter: [2 heads, b, 2 classes] and [2 heads, b]."""
        logits, labels = [], []
        for head, items in enumerate(tokens):
            own = Tokens(*(jnp.take(array, chosen[:, head], axis=0) for array in items))
            own_key = None if key is None else jax.random.fold_in(key, head)
            both = head_logits(
                bert, frozen, adapter, scale, own.ids, own.mask, own.types, options=options, dropout_key=own_key
            )
            logits.append(both[:, head])
            labels.append(own.labels.astype(jnp.int32))
        return jnp.stack(logits), jnp.stack(labels)

    def summed_loss(
        frozen: Any,
        adapter: Any,
        scale: jax.Array,
        chosen: jax.Array,
        tokens: tuple[Tokens, Tokens],
        key: jax.Array | None,
    ) -> jax.Array:
        """Cross-entropy of both heads, added up over pairs; a pair of -1 counts nothing."""
        there = (chosen[:, 0] >= 0).astype(jnp.float32)
        logits, labels = forward(frozen, adapter, scale, jnp.maximum(chosen, 0), tokens, key)
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels) * there)

    def begin() -> GroupState:
        each = [
            _initial(jax.random.fold_in(adapter_key(config, adapter), _INITIALISATION), bert, adapter.rank, width)
            for adapter in group
        ]
        adapters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        state = GroupState(adapters, jax.vmap(optimizer.init)(adapters))
        placed_state: GroupState = jax.device_put(state, placed[spread])
        return placed_state

    # Everything from here on sees the adapters of one device.
    def order(keys: jax.Array, pairs: jax.Array, epoch: jax.Array) -> jax.Array:
        def one(data: jax.Array, own: jax.Array) -> jax.Array:
            shuffled = jax.random.permutation(jax.random.fold_in(key_of(data, _ORDER), epoch), items)
            chosen = jnp.take(own, shuffled, axis=0)
            return jnp.pad(chosen, ((0, steps * batch - items), (0, 0)), constant_values=-1)

        return jax.vmap(one)(keys, pairs).reshape(len(keys), steps, batch, 2)

    def train(
        frozen: Any, tokens: tuple[Tokens, Tokens], state: GroupState, keys: jax.Array, scales: jax.Array, order: jax.Array,
        epoch: jax.Array, first: jax.Array, stop: jax.Array,
    ) -> tuple[GroupState, jax.Array]:  # fmt: skip
        def total(adapters: Any, chosen: jax.Array, step_keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            one = functools.partial(summed_loss, frozen)
            in_axes = (0, 0, 0, None, None if step_keys is None else 0)
            losses = jax.vmap(one, in_axes=in_axes)(adapters, scales, chosen, tokens, step_keys)
            return jnp.sum(losses), losses

        gradient = jax.grad(total, has_aux=True)

        def step(number: jax.Array, carry: tuple[GroupState, jax.Array]) -> tuple[GroupState, jax.Array]:
            state, losses = carry
            chosen = order[:, number]
            count = jnp.maximum(jnp.sum(chosen[:, :, 0] >= 0, axis=1), 1).astype(jnp.float32)
            parts = -(-batch // microbatch)
            padding = ((0, 0), (0, parts * microbatch - batch), (0, 0))
            chosen = jnp.pad(chosen, padding, constant_values=-1).reshape(len(chosen), parts, microbatch, 2)

            def part_keys(part: jax.Array) -> jax.Array | None:
                if not config.dropout:
                    return None
                where = (epoch * steps + number) * parts + part
                return jax.vmap(lambda data: jax.random.fold_in(key_of(data, _DROPOUT), where))(keys)

            if parts == 1:
                grads, loss = gradient(state.adapters, chosen[:, 0], part_keys(jnp.zeros((), jnp.int32)))
            else:

                def add(part: jax.Array, so_far: Any) -> Any:
                    return jax.tree.map(jnp.add, so_far, gradient(state.adapters, chosen[:, part], part_keys(part)))

                nothing = (jax.tree.map(jnp.zeros_like, state.adapters), jnp.zeros(len(chosen), jnp.float32))
                grads, loss = jax.lax.fori_loop(0, parts, add, nothing)
            grads = jax.tree.map(lambda g: g / count.reshape(-1, *[1] * (g.ndim - 1)), grads)
            updates, optimizer_state = jax.vmap(optimizer.update)(grads, state.optimizer, state.adapters)
            return GroupState(optax.apply_updates(state.adapters, updates), optimizer_state), losses + loss / count

        return jax.lax.fori_loop(first, stop, step, (state, jnp.zeros(len(order), jnp.float32)))

    def evaluate(
        frozen: Any, tokens: tuple[Tokens, Tokens], adapters: Any, scales: jax.Array, pairs: jax.Array
    ) -> Evaluation:
        size = min(2 * microbatch, pairs.shape[1])
        parts = -(-pairs.shape[1] // size)
        padded = jnp.pad(pairs, ((0, 0), (0, parts * size - pairs.shape[1]), (0, 0)), constant_values=-1)
        padded = jnp.moveaxis(padded.reshape(len(pairs), parts, size, 2), 1, 0)

        def one(adapter: Any, scale: jax.Array, chosen: jax.Array) -> Evaluation:
            there = chosen[:, 0] >= 0
            logits, labels = forward(frozen, adapter, scale, jnp.maximum(chosen, 0), tokens, None)
            decision = logits[..., 1] - logits[..., 0]
            alice, bob = ((decision > 0) == (labels > 0)) & there
            decided = jnp.abs(decision) >= config.undecided_tolerance
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
        found: Evaluation = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), each)
        diverged = jnp.any(each.diverged, axis=0)
        kept = {
            name: jnp.where(diverged.reshape(-1, *[1] * (value.ndim - 1)), 0, value).astype(jnp.int32)
            for name, value in found._asdict().items()
            if name not in ("loss_alice", "loss_bob", "diverged")
        }
        return found._replace(**kept, diverged=diverged)

    def on_devices(function: Callable[..., Any], specs: tuple[Any, ...], **options: Any) -> Any:
        mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)
        return jax.jit(mapped, **options)

    run_train = on_devices(train, (same, same, spread, spread, spread, spread, same, same, same), donate_argnums=(2,))
    run_evaluate = on_devices(evaluate, (same, same, spread, spread, spread))
    run_order = on_devices(order, (spread, spread, same))

    state_like = jax.eval_shape(begin)
    state_like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=placed[spread]), state_like)
    order_like = jax.ShapeDtypeStruct((len(group), steps, batch, 2), jnp.int32, sharding=placed[spread])
    whole = jax.ShapeDtypeStruct((), jnp.int32, sharding=placed[same])
    compiled = run_train.lower(backbone, tokens, state_like, keys, scales, order_like, whole, whole, whole).compile()

    def number(value: int) -> jax.Array:
        return jax.device_put(np.int32(value), placed[same])

    return GroupProgram(
        begin=begin,
        order=lambda epoch: run_order(keys, own_pairs["train"], number(epoch)),
        train=lambda state, order, epoch, first, stop: compiled(
            backbone, tokens, state, keys, scales, order, number(epoch), number(first), number(stop)
        ),
        evaluate=lambda state, split: run_evaluate(backbone, tokens, state.adapters, scales, own_pairs[split]),
        steps=steps,
        memory=_memory(compiled),
    )


#: One adapter's start, drawn at its own rank.
_initial = jax.jit(init_adapter, static_argnums=(1, 2, 3))


def _memory(compiled: Any) -> int:
    """Bytes that a compiled program needs on each device, its arguments included; 0 where the platform does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )
