"""Adapters: what they compute, what they leave alone, and that several at once are each as if alone."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from ncsim.errors import ConfigError
from ncsim.text.model.adapter_files import load_adapter
from ncsim.text.model.bert import BERT_BASE_UNCASED, Bert
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import ForwardOptions, head_logits, init_adapter, pad_adapter, trainable_parameters
from tests.support.quick import QUICK
from tests.support.text_model import TINY

pytestmark = pytest.mark.usefixtures("quickly")

FIXTURES = Path(__file__).parents[2] / "fixtures"
RANKS, WIDTH, ALPHA, STEPS = (1, 4), 4, 8.0, 3


@pytest.fixture(scope="module")
def recorded():
    return load_file(FIXTURES / "tiny_bert" / "reference.safetensors")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FIXTURES / "tiny_bert")[1]


#: Compiling is all that these tests take: half of it is LLVM's optimisation.


@functools.partial(jax.jit, static_argnames=("options", "config"), compiler_options=QUICK)
def logits(backbone, adapter, scale, batch, key=None, options=ForwardOptions(), config=TINY):  # noqa: B008
    return head_logits(config, backbone, adapter, scale, *batch, options=options, dropout_key=key)


@functools.partial(jax.jit, compiler_options=QUICK)
def features(variables, scale, batch):
    return Bert(TINY).apply(variables, *batch, scale)


def batch_of(recorded):
    return tuple(jnp.asarray(recorded[name]) for name in ("ids", "mask", "types"))


def new(seed, rank, *shape, **more):
    return init_adapter(jax.random.key(seed), TINY, rank, *shape, **more)


def drawn(seed, rank):
    """An adapter that does something: B is drawn too."""
    adapter, random = new(seed, rank), np.random.default_rng(seed)
    for pair in adapter["lora"]["layers"]["attention"].values():
        pair["b"] = 0.1 * random.standard_normal(pair["b"].shape, np.float32)
    return adapter


# ------------------------------------------------------------------------------------------------- one adapter


def test_a_new_adapter_changes_nothing(backbone, recorded):
    adapter = new(0, 4)
    batch = batch_of(recorded)
    base = features({"params": backbone}, 1.0, batch)
    adapted = features({"params": backbone, "lora": adapter["lora"]}, 2.0, batch)
    jax.tree.map(np.testing.assert_array_equal, base, adapted)
    drawn_adapter = drawn(0, 4)
    moved, _ = features({"params": backbone, "lora": drawn_adapter["lora"]}, 2.0, batch)
    assert np.abs(moved - base[0]).max() > 0.01, "the adapter is applied at all"


def test_how_an_adapter_starts():
    adapter = new(5, 3, heads=4, classes=3)
    bound = TINY.hidden_size**-0.5
    for pair in adapter["lora"]["layers"]["attention"].values():
        assert pair["a"].shape == (2, 32, 3)
        assert pair["b"].shape == (2, 3, 32)
        assert np.abs(pair["a"]).max() <= bound
        # Uniform: variance bound^2 / 3, of 192 draws, to five standard errors.
        assert np.var(pair["a"]) == pytest.approx(bound**2 / 3, rel=5 * np.sqrt(0.8 / 192))
        np.testing.assert_array_equal(pair["b"], 0)
    assert adapter["heads"]["kernel"].shape == (4, 32, 3)
    assert adapter["heads"]["bias"].shape == (4, 3)
    assert 0.9 * bound < np.abs(adapter["heads"]["kernel"]).max() <= bound
    query, value = adapter["lora"]["layers"]["attention"].values()
    assert not np.array_equal(query["a"], value["a"])
    wide = new(5, 3, width=8, heads=4, classes=3)
    jax.tree.map(np.testing.assert_array_equal, pad_adapter(wide, 3), adapter)
    np.testing.assert_array_equal(wide["lora"]["layers"]["attention"]["value"]["a"][..., 3:], 0)


EVERY = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


@pytest.mark.thorough
def test_other_targets(backbone, recorded):
    adapter = new(5, 3, 4, targets=EVERY)
    layers = adapter["lora"]["layers"]
    assert sorted(layers["attention"]) == ["key", "output", "query", "value"]
    assert layers["feed_forward"]["inner"]["b"].shape == (2, 4, 64)
    assert layers["feed_forward"]["outer"]["a"].shape == (2, 64, 4)
    # A is drawn over the inputs that it has.
    assert 0.9 * 64**-0.5 < np.abs(layers["feed_forward"]["outer"]["a"]).max() <= 64**-0.5
    jax.tree.map(np.testing.assert_array_equal, pad_adapter(adapter, 3), new(5, 3, targets=EVERY))
    # As PEFT reads it, attention's output ends so too.
    assert sorted(new(5, 3, targets=("output.dense",))["lora"]["layers"]) == ["attention", "feed_forward"]
    batch = batch_of(recorded)
    plain = logits(backbone, adapter, 1.0, batch)
    gradient = jax.jit(
        jax.grad(lambda tree: jnp.sum(head_logits(TINY, backbone, tree, 1.0, *batch) ** 2)), compiler_options=QUICK
    )(adapter)
    for block in gradient["lora"]["layers"].values():
        for pair in block.values():
            assert np.abs(pair["b"][:, :3]).max(axis=(1, 2)).all(), "every product learns"
    for block in layers.values():
        for pair in block.values():
            pair["b"] = pair["b"].at[:, :3].set(0.1)
    options = ForwardOptions(dropout=0.5)
    moved = logits(backbone, adapter, 1.0, batch)
    assert np.abs(moved - plain).max() > 1e-2
    assert (
        np.abs(logits(backbone, adapter, 1.0, batch, jax.random.split(jax.random.key(1), 4), options) - moved).max()
        > 1e-3
    )


def test_pefts_adapter_computes_what_peft_did(backbone, recorded):
    stored = load_adapter(FIXTURES / "tiny_adapter", TINY)
    assert (stored.rank, stored.alpha, stored.scale) == (4, 6.0, 1.5)
    variables = {"params": backbone, "lora": stored.adapter["lora"]}
    hidden, pooled = features(variables, stored.scale, batch_of(recorded))
    np.testing.assert_allclose(hidden, recorded["adapted_hidden"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, recorded["adapted_pooled"], atol=1e-5, rtol=0)
    assert np.abs(recorded["adapted_hidden"] - recorded["hidden"]).max() > 0.1


def merge(backbone, adapter, scale):
    """The backbone with scale A B added to its query and value kernels: the same function without an adapter."""
    attention = dict(backbone["layers"]["attention"])
    for target, factors in adapter["lora"]["layers"]["attention"].items():
        change = jnp.einsum("lir,lro->lio", factors["a"], factors["b"], precision=jax.lax.Precision.HIGHEST)
        attention[target] = {**attention[target], "kernel": attention[target]["kernel"] + scale * change}
    return {**backbone, "layers": {**backbone["layers"], "attention": attention}}


def test_merged_weights_agree(backbone, recorded):
    adapter = drawn(2, 4)
    merged = merge(backbone, adapter, 2.0)
    batch = batch_of(recorded)
    hidden, pooled = features({"params": backbone, "lora": adapter["lora"]}, 2.0, batch)
    hidden_merged, pooled_merged = features({"params": merged}, 1.0, batch)
    np.testing.assert_allclose(hidden_merged, hidden, atol=2e-5)
    np.testing.assert_allclose(pooled_merged, pooled, atol=1e-5)
    np.testing.assert_array_equal(
        merged["layers"]["attention"]["key"]["kernel"], backbone["layers"]["attention"]["key"]["kernel"]
    )


@pytest.mark.slow
def test_heads_read_the_pooler_or_the_first_token(backbone, recorded):
    adapter, batch = drawn(3, 4), batch_of(recorded)
    hidden, pooled = features({"params": backbone, "lora": adapter["lora"]}, 1.0, batch)
    for pooling, source in (("pooler", pooled), ("cls", hidden[:, 0])):
        found = logits(backbone, adapter, 1.0, batch, options=ForwardOptions(pooling=pooling))
        expected = np.einsum("bd,hdc->bhc", source, adapter["heads"]["kernel"]) + adapter["heads"]["bias"]
        np.testing.assert_allclose(found, expected, atol=2e-5)
    bare = dataclasses.replace(TINY, pooler=False)
    with pytest.raises(ConfigError, match="--pooling: 'pooler', but the checkpoint has no pooler; allowed: cls"):
        head_logits(bare, backbone, adapter, 1.0, *batch)


@pytest.mark.slow
def test_dropout_is_of_the_adapters_input_and_only_with_a_key(backbone, recorded):
    options, batch = ForwardOptions(dropout=0.5), batch_of(recorded)
    adapter = drawn(4, 4)
    plain = logits(backbone, adapter, 1.0, batch)
    dropped = logits(backbone, adapter, 1.0, batch, jax.random.split(jax.random.key(9), 4), options=options)
    assert np.abs(dropped - plain).max() > 1e-3
    np.testing.assert_array_equal(
        dropped, logits(backbone, adapter, 1.0, batch, jax.random.split(jax.random.key(9), 4), options=options)
    )
    # Nothing but the adapter's input is dropped: an adapter that is zero computes the base.
    none = new(4, 4)
    np.testing.assert_array_equal(
        logits(backbone, none, 1.0, batch, jax.random.split(jax.random.key(9), 4), options=options),
        logits(backbone, none, 1.0, batch),
    )


@pytest.mark.slow
def test_bfloat16_backbone_keeps_float32_adapters(backbone, recorded):
    adapter, batch = drawn(3, 4), batch_of(recorded)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), backbone)
    options = ForwardOptions(dtype="bfloat16")
    found = logits(low, adapter, 1.0, batch, options=options)
    assert found.dtype == jnp.float32
    # Logits are of order 1 here; bfloat16 keeps 8 bits.
    assert np.abs(found - logits(backbone, adapter, 1.0, batch)).max() < 0.05
    total = functools.partial(head_logits, TINY, low, options=options)
    gradient = jax.eval_shape(jax.grad(lambda adapter: jnp.sum(total(adapter, 1.0, *batch))), adapter)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: new(0, 33),
            "--rank: 33; allowed: whole numbers from 1 to the backbone's width, 32",
        ),
        (lambda: new(0, 0), "--rank: 0; allowed"),
        (lambda: new(0, 4, width=2), "adapter width: 2; allowed: the rank, 4, or more"),
        (lambda: pad_adapter(new(0, 4), 2), "adapter width: 2; allowed"),
        (lambda: ForwardOptions(dtype="float16"), "--dtype: 'float16'; allowed: float32, bfloat16"),
        (lambda: ForwardOptions(pooling="mean"), "--pooling: 'mean'; allowed: pooler, cls"),
        (lambda: ForwardOptions(dropout=1.0), "--dropout: 1.0; allowed"),
        (lambda: ForwardOptions(unroll=-1), "--unroll: -1; allowed"),
    ],
)
def test_bad_values_are_refused_in_one_line(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(message)


def test_padding_of_an_adapter_that_diverged_is_dropped_with_it():
    """Its gradient is NaN everywhere, so its padding is, too; NaN behind numbers is no padding."""
    small = new(0, 2)
    nowhere = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), pad_adapter(small, 4))
    cut = pad_adapter(nowhere, 2)
    assert jax.tree.map(jnp.shape, cut) == jax.tree.map(jnp.shape, small)
    assert all(bool(jnp.isnan(leaf).all()) for leaf in jax.tree.leaves(cut))
    pair = {"a": jnp.ones((2, 32, 4)).at[:, :, 2:].set(jnp.nan), "b": jnp.zeros((2, 4, 32))}
    with pytest.raises(ConfigError, match="adapter width: 2"):
        pad_adapter({"lora": {"layers": {"attention": {"query": pair}}}}, 2)


def test_trainable_parameters():
    assert [trainable_parameters(BERT_BASE_UNCASED, rank) for rank in (1, 512)] == [39_940, 36_864 * 512 + 3_076]
    assert trainable_parameters(TINY, 3, targets=("query",)) == 2 * 2 * 32 * 3 + 2 * (32 * 2 + 2)
    assert trainable_parameters(TINY, 3, targets=("intermediate.dense",)) == 2 * (32 + 64) * 3 + 2 * (32 * 2 + 2)
    assert trainable_parameters(TINY, 3, heads=3, classes=4) == 2 * 2 * 2 * 32 * 3 + 3 * (32 * 4 + 4)


# ------------------------------------------------------------------------------------- training, alone and together


def loss(backbone, adapter, scale, batch, labels):
    answers = head_logits(TINY, backbone, adapter, scale, *batch)
    return optax.softmax_cross_entropy_with_integer_labels(answers, labels).mean()


OPTIMIZER = optax.adam(1e-2)


def step(backbone, adapter, state, scale, batch, labels):
    value, gradient = jax.value_and_grad(loss, argnums=1)(backbone, adapter, scale, batch, labels)
    updates, state = OPTIMIZER.update(gradient, state, adapter)
    return optax.apply_updates(adapter, updates), state, value, gradient


def trained(run, backbone, adapter, scale, batch, labels):
    state, values = jax.vmap(OPTIMIZER.init)(adapter) if np.ndim(scale) else OPTIMIZER.init(adapter), []
    for _ in range(STEPS):
        adapter, state, value, gradient = run(backbone, adapter, state, scale, batch, labels)
        values.append(value)
    return adapter, np.asarray(values), gradient


@pytest.fixture(scope="module")
def together(backbone, recorded):
    """Two adapters, ranks 1 and 4, each with data of its own: trained one at a time and at once."""
    batch = batch_of(recorded)
    batches = tuple(jnp.stack([part, part[::-1]]) for part in batch)
    labels = jnp.asarray([[[0, 1], [1, 1], [1, 0], [0, 0]], [[1, 1], [0, 1], [0, 0], [1, 0]]])
    scales = jnp.asarray([ALPHA / rank for rank in RANKS])
    single = jax.jit(step, compiler_options=QUICK)
    alone = [
        trained(single, backbone, new(n, rank), scale, [part[n] for part in batches], labels[n])
        for n, (rank, scale) in enumerate(zip(RANKS, scales, strict=True))
    ]
    padded = [new(n, rank, WIDTH) for n, rank in enumerate(RANKS)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    ensemble = jax.vmap(step, in_axes=(None, 0, 0, 0, 0, 0))
    frozen = jax.tree.map(jnp.asarray, backbone)
    before = jax.tree.map(np.array, frozen)
    at_once = trained(jax.jit(ensemble, compiler_options=QUICK), frozen, stacked, scales, batches, labels)
    jaxpr = jax.make_jaxpr(ensemble)(frozen, stacked, jax.vmap(OPTIMIZER.init)(stacked), scales, batches, labels)
    return alone, at_once, (before, frozen), jaxpr


@pytest.mark.slow
def test_an_ensemble_trains_each_adapter_as_if_alone(together):
    alone, (adapters, values, _), _, _ = together
    for member, (rank, (adapter, losses, _)) in enumerate(zip(RANKS, alone, strict=True)):
        assert losses[-1] < losses[0] - 0.01
        np.testing.assert_allclose(values[:, member], losses, atol=1e-5, rtol=0)
        same = pad_adapter(jax.tree.map(lambda leaf, member=member: leaf[member], adapters), rank)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=0), same, adapter)


@pytest.mark.slow
def test_padding_of_ranks_stays_exactly_zero(together):
    _, (adapters, _, gradient), _, _ = together
    for tree in (adapters, gradient):
        for pair in tree["lora"]["layers"]["attention"].values():
            np.testing.assert_array_equal(pair["a"][0, ..., 1:], 0)
            np.testing.assert_array_equal(pair["b"][0, :, 1:], 0)
            assert np.abs(pair["b"][1]).min(axis=(0, 2)).all(), "the wider adapter uses its whole rank"


@pytest.mark.slow
def test_training_leaves_the_frozen_weights_bit_for_bit(together):
    _, _, (before, after), _ = together
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, after))


@pytest.mark.slow
def test_frozen_products_are_one_matrix_product_for_all_adapters(together):
    """Nowhere does a product with a frozen kernel have a batch of kernels, and none gives a frozen kernel's gradient."""
    _, _, _, jaxpr = together
    frozen = {(TINY.hidden_size, TINY.intermediate_size), (TINY.intermediate_size, TINY.hidden_size)}
    seen = 0
    for equation in equations(jaxpr.jaxpr):
        if equation.primitive.name != "dot_general":
            continue
        shapes = [tuple(operand.aval.shape) for operand in equation.invars]
        (_, _), (left_batch, _) = equation.params["dimension_numbers"]
        assert not any(len(shape) > 2 and shape[-2:] in frozen for shape in shapes), shapes
        assert tuple(equation.outvars[0].aval.shape[-2:]) not in frozen
        if frozen & set(shapes):
            assert left_batch == ()
            seen += 1
    assert seen >= 8  # inner and outer, forwards and backwards, below and in the last layer


def equations(jaxpr):
    """All equations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inners(equation):
            yield from equations(inner)


def inners(equation):
    for value in equation.params.values():
        for candidate in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(candidate, "jaxpr", candidate)
            if hasattr(inner, "eqns"):
                yield inner
