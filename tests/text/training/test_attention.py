"""Fused attention without a GPU: what it is asked for, by JAX's own function of it that any device has, and when it is not taken.

That XLA compiles cuDNN's for an H100 is tested where its plugin is installed: `make test-gpu-static`.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncsim.text.config import TextConfig
from ncsim.text.model.bert import attended
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import ForwardOptions, init_adapter, packed_logits
from ncsim.text.model.packing import Packed
from ncsim.text.training import attention
from ncsim.text.training.programs import adapter_mesh
from tests.support.quick import compiled_quickly
from tests.support.text_model import FOLDER, TINY

LOW = TextConfig(precision="bfloat16")


@pytest.fixture
def as_cudnn(monkeypatch):
    """What is asked of cuDNN is done by XLA: the same function of the same arguments, in JAX's words for it."""
    whole = jax.nn.dot_product_attention

    def install(**changes):
        asked = []

        def called(*arrays, implementation, **options):
            asked.append(implementation)
            return whole(*arrays, implementation="xla", **options | changes)

        monkeypatch.setattr(jax.nn, "dot_product_attention", called)
        attention.why_not.cache_clear()
        return asked

    with compiled_quickly():
        yield install
    attention.why_not.cache_clear()


def test_it_is_taken_where_it_gives_what_xla_gives(as_cudnn):
    """With its gradients, for several adapters on rows of several sequences, of padding, and of padding alone."""
    asked = as_cudnn()
    mesh = adapter_mesh(jax.devices()[:1])
    assert attention.why_not(2, 8, 16, mesh) is None
    assert set(asked) == {"cudnn"}


@pytest.mark.parametrize("change", [{"scale": 1.0}, {"mask": None}])
def test_other_results_are_no_results(change, as_cudnn):
    as_cudnn(**change)
    assert "of the largest value off XLA's" in attention.why_not(2, 8, 16, adapter_mesh(jax.devices()[:1]))


def test_where_it_does_not_work_the_reason_is_one_line():
    """Here there is no GPU, and perhaps no cuDNN."""
    attention.why_not.cache_clear()
    reason = attention.why_not(2, 8, 16, adapter_mesh(jax.devices("cpu")[:1]))
    assert reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("precision", "platform", "reason", "taken"),
    [
        ("bfloat16", "gpu", None, "cudnn"),
        ("bfloat16", "gpu", "cuDNN not found.", "xla"),
        ("float32", "gpu", None, "xla"),
        ("bfloat16", "cpu", None, "xla"),
        ("bfloat16", "tpu", None, "xla"),
    ],
)
def test_it_is_for_bfloat16_on_gpus(precision, platform, reason, taken, monkeypatch, capsys):
    mesh = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform=platform)]))
    monkeypatch.setattr(attention, "why_not", lambda *_: reason)
    assert attention.attention_for(TextConfig(precision=precision), TINY, 64, mesh) == taken
    said = capsys.readouterr().err
    assert said == (f"ncsim: cuDNN's attention is not taken: {reason}; using XLA's\n" if reason else "")


@pytest.mark.slow
def test_a_backbone_computes_the_same_with_it(as_cudnn):
    """Two adapters, two sequences a row, in a loop over layers; the last layer asks for first tokens, by XLA."""
    asked = as_cudnn()
    random = np.random.default_rng(0)
    _, backbone = load_backbone(FOLDER)
    backbone = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), backbone)
    adapters = [init_adapter(jax.random.key(n), TINY, 4) for n in range(2)]
    for adapter in adapters:
        for pair in adapter["lora"]["layers"]["attention"].values():
            pair["b"] = 0.3 * random.standard_normal(pair["b"].shape, np.float32)
    adapters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *adapters)
    sequences = np.repeat([[0, 1, -1], [0, 1, -1]], [6, 7, 3], axis=1)
    positions = np.concatenate([np.arange(6), np.arange(7), np.zeros(3, int)])
    ids = random.integers(5, 90, (2, 16))
    packed = Packed(ids, 0 * ids, np.stack([positions] * 2), sequences, np.array([[0, 6]] * 2))

    @functools.partial(jax.jit, static_argnames="options")
    def answers(adapters, options):
        return jax.vmap(lambda each: packed_logits(TINY, backbone, each, 0.7, packed, options=options))(adapters)

    expected = answers(adapters, ForwardOptions(dtype="bfloat16"))
    assert not asked
    found = answers(adapters, ForwardOptions(dtype="bfloat16", attention="cudnn", unroll=1))
    assert np.abs(found - expected).max() < 0.02 < np.ptp(np.asarray(expected))
    assert set(asked) == {"cudnn"}


def test_matrices_of_weights_are_the_formula():
    """Softmax over the keys of a query's own sequence; padding asks the first."""
    random = np.random.default_rng(1)
    query, key, value = random.normal(size=(3, 2, 8, 2, 8)).astype(np.float32)
    own = np.array([[0, 0, 0, 1, 1, 1, -1, -1], [0, 0, 0, 0, 0, 0, 0, 0]])
    found = np.asarray(attended(query, key, value, own, own))
    for row in range(2):
        for asks in range(8):
            seen = own[row] == max(own[row, asks], 0)
            scores = np.einsum("hd,khd->hk", query[row, asks].astype(float), key[row, seen].astype(float)) / np.sqrt(8)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            expected = np.einsum("hk,khd->hd", weights, value[row, seen].astype(float))
            np.testing.assert_allclose(found[row, asks], expected, atol=2e-6)
