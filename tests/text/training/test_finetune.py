"""Many adapters at once against one at a time, and against slow references."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncsim.config.tasks import CONTEXTS
from ncsim.records.joint_counts import joint_counts
from ncsim.text.config import TextConfig
from ncsim.text.model.bert import BertConfig, initial_parameters
from ncsim.text.model.lora import head_logits
from ncsim.text.records import AdapterId
from ncsim.text.training.finetune import Setting, Tokens, adapter_key, all_adapters, grouped, learning_rate_schedule
from ncsim.text.training.programs import adapter_mesh, group_program

pytestmark = pytest.mark.usefixtures("quickly")

BERT = BertConfig(vocab_size=40, hidden_size=8, layers=2, heads=2, intermediate_size=16, max_positions=16)
CONFIG = TextConfig(ranks=(1, 2), epochs=2, batch_size=4, length=8, learning_rate=0.05, warmup=0.0, root_seed=3)
GROUP = (AdapterId(1, 0, 0), AdapterId(1, 0, 3), AdapterId(2, 0, 1), AdapterId(2, 0, 2))
ITEMS = 10


@pytest.fixture(scope="module")
def backbone():
    return jax.jit(lambda key: initial_parameters(key, BERT))(jax.random.key(0))


@pytest.fixture(scope="module")
def data():
    """Items of four tasks, Bob's longer than Alice's."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, np.repeat([7, 9], 2 * ITEMS)).astype(np.int32)
    tokens = Tokens(
        ids=generator.integers(5, 40, lengths.sum()).astype(np.int32),
        types=generator.integers(0, 2, lengths.sum()).astype(np.int8),
        begins=(np.cumsum(lengths) - lengths).astype(np.int32),
        lengths=lengths,
        heads=np.repeat([0, 1], 2 * ITEMS).astype(np.int8),
        labels=generator.integers(0, 2, len(lengths)).astype(np.int8),
    )
    pairs = np.stack([
        np.stack([i * ITEMS + generator.permutation(ITEMS), (2 + j) * ITEMS + generator.permutation(ITEMS)], axis=1)
        for i, j in CONTEXTS
    ]).astype(np.int32)  # fmt: skip
    return tokens, {"train": pairs, "test": pairs[:, :7]}


def padded(tokens):
    """The same items as a rectangle: ids, mask, types."""
    longest = tokens.lengths.max()
    mask = np.arange(longest) < tokens.lengths[:, None]
    source = np.where(mask, tokens.begins[:, None] + np.arange(longest), 0)
    return tuple(
        np.where(mask, array, 0).astype(np.int32) for array in (tokens.ids[source], mask, tokens.types[source])
    )


def program(backbone, data, group, devices, microbatch):
    setting = Setting(CONFIG, BERT, ITEMS, row=16, slots=4, microbatch=microbatch, width=max(group)[0])
    return group_program(setting, adapter_mesh(jax.devices()[:devices]), backbone, *data, group)


@pytest.fixture(scope="module")
def together(backbone, data):
    """Four adapters of two ranks, on two devices, two rows of a step at a time."""
    return program(backbone, data, GROUP, devices=2, microbatch=2)


@pytest.fixture(scope="module")
def state(together):
    """Those, trained."""
    return trained(together)


@pytest.fixture(scope="module")
def alone(backbone, data):
    """The second of them by itself."""
    return program(backbone, data, GROUP[1:2], devices=1, microbatch=3)


def trained(made, epochs=2):
    state = made.begin()
    for epoch in range(epochs):
        state, _ = made.train(state, made.order(epoch), epoch, 0, made.steps)
    return state


def close(one, other, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance, rtol=1e-4)


@pytest.mark.slow
def test_a_group_is_its_adapters_trained_by_themselves(state, alone):
    """In a group or not, on two devices or one, in small microbatches: the same to rounding; padding exactly zero."""
    close(
        jax.tree.map(lambda leaf: leaf[1], heads_of(state)),
        jax.tree.map(lambda leaf: leaf[0], heads_of(trained(alone))),
    )
    for target in ("query", "value"):
        factors = state.adapters["lora"]["layers"]["attention"][target]
        assert not np.asarray(factors["a"])[:2, :, :, 1:].any()
        assert not np.asarray(factors["b"])[:2, :, 1:].any()
        assert np.asarray(factors["b"])[2:, :, 1:].any()


def heads_of(state):
    return state.adapters["heads"]


@pytest.mark.slow
def test_steps_are_those_of_a_plain_loop(backbone, data, alone):
    """One adapter in twenty lines: the same order, loss and AdamW, without groups, rows, scans; each item padded."""
    tokens, adapter, made = data[0], GROUP[1], alone
    rectangle = padded(tokens)
    state, losses = made.train(made.begin(), made.order(0), 0, 0, 2)
    order = np.asarray(made.order(0).pairs)[0]
    scale = CONFIG.alpha / adapter.rank
    total = made.steps * CONFIG.epochs
    optimizer = optax.chain(
        optax.clip_by_global_norm(CONFIG.clip), optax.adamw(learning_rate_schedule(CONFIG, total), weight_decay=0.0)
    )

    @jax.jit
    def loss_of(tree, chosen):
        total = 0.0
        for head in (0, 1):
            own = (jnp.asarray(array)[chosen[:, head]] for array in rectangle)
            logits = head_logits(BERT, backbone, tree, scale, *own)[:, head]
            labels = jnp.asarray(tokens.labels)[chosen[:, head]]
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None].astype(int), 1)
            total -= picked.mean()
        return total

    tree = jax.tree.map(lambda leaf: leaf[0], made.begin().adapters)
    moments = optimizer.init(tree)
    seen = 0.0
    for step in range(2):
        loss, gradient = jax.value_and_grad(loss_of)(tree, order[step])
        updates, moments = optimizer.update(gradient, moments, tree)
        tree, seen = optax.apply_updates(tree, updates), seen + loss
    close(jax.tree.map(lambda leaf: leaf[0], state.adapters), tree)
    assert np.asarray(losses)[0] == pytest.approx(float(seen), abs=1e-5)


def test_every_epoch_takes_every_pair_once(together, data):
    orders = [np.asarray(together.order(epoch).pairs) for epoch in (0, 1)]
    assert together.steps == 3
    assert orders[0].shape == (4, 3, 4, 2)
    for order in orders:
        for adapter, own in zip(GROUP, order.reshape(4, -1, 2), strict=True):
            there = own[own[:, 0] >= 0]
            assert sorted(map(tuple, there)) == sorted(map(tuple, data[1]["train"][adapter.context]))
            assert (own[ITEMS:] == -1).all()
    assert (orders[0] != orders[1]).any()


@pytest.mark.slow
def test_evaluation_against_one_answer_at_a_time(together, state, backbone, data):
    tokens, pairs = data
    answers = jax.jit(lambda tree, scale: head_logits(BERT, backbone, tree, scale, *padded(tokens)))
    found = together.evaluate(state, "test")
    for n, adapter in enumerate(GROUP):
        tree = jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[n], state.adapters)
        logits = answers(tree, CONFIG.alpha / adapter.rank)
        chosen = pairs["test"][adapter.context]
        outcomes = np.zeros((2, 2, 2, len(chosen)), np.int8) + 1
        losses = []
        for head in (0, 1):
            own = np.asarray(logits)[chosen[:, head], head]
            label = tokens.labels[chosen[:, head]]
            outcomes[*CONTEXTS[adapter.context], head] = np.where((own[:, 1] > own[:, 0]) == (label == 1), 1, -1)
            losses.append(np.mean(np.logaddexp(own[:, 0], own[:, 1]) - own[np.arange(len(own)), label]))
        expected = joint_counts(outcomes)[CONTEXTS[adapter.context]]
        np.testing.assert_array_equal(np.asarray(found.counts)[n].reshape(2, 2), expected)
        assert [float(found.loss_alice[n]), float(found.loss_bob[n])] == pytest.approx(losses, abs=1e-5)
    assert not np.asarray(found.diverged).any()


@pytest.mark.slow
def test_divergence_is_no_wrong_answer(together, state):
    heads = {name: np.array(leaf) for name, leaf in heads_of(state).items()}
    heads["bias"][0] = np.nan
    found = together.evaluate(state._replace(adapters={**state.adapters, "heads": heads}), "test")
    assert np.asarray(found.diverged).tolist() == [True, False, False, False]
    assert np.asarray(found.counts).sum(axis=1).tolist() == [0, 7, 7, 7]


def test_groups_hold_every_adapter_once_and_little_padding():
    config = TextConfig(ranks=(1, 2, 4, 64), seeds=3, epochs=1)
    groups = grouped(all_adapters(config), 8)
    assert sorted(adapter for group in groups for adapter in group) == sorted(all_adapters(config))
    for group in groups:
        assert len(group) <= 8
        assert group[-1].rank <= 4 * group[0].rank
    keys = {tuple(np.asarray(jax.random.key_data(adapter_key(config, adapter)))) for adapter in all_adapters(config)}
    assert len(keys) == 4 * 3 * 4


def test_learning_rate_rises_and_falls():
    config = TextConfig(epochs=10, warmup=0.1, learning_rate=1.0)
    rates = [float(learning_rate_schedule(config, 100)(step)) for step in range(101)]
    assert 0 < rates[0] < rates[5] < 1
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0, abs=1e-6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
