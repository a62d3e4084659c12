"""Attention matrices, against torch's layers in plain NumPy and against what the encoder computes from them."""

import numpy as np
import pytest

from ncsim.text.model.attention import attention_matrices
from ncsim.text.model.checkpoint import load_backbone
from ncsim.text.model.lora import init_adapter
from tests.support.text_model import FOLDER, TINY
from tests.text.model.test_adaptations import moved, new

RANDOM = np.random.default_rng(3)
IDS = RANDOM.integers(5, 90, (2, 6))
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
TYPES = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]])


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FOLDER)[1]


def norm(x, tree):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12) * tree["scale"] + tree["bias"]


def slow(backbone, lora, scale, ids, types):
    """One text of tokens alone, layer by layer and head by head, in float64; the matrices [L, H, T, T]."""

    def erf(x):
        from math import erf as one

        return np.vectorize(one)(x)

    tables = {name: np.asarray(tree, float) for name, tree in backbone["embeddings"].items() if name != "norm"}
    x = tables["word"][ids] + tables["position"][: len(ids)] + tables["type"][types]
    x = norm(x, backbone["embeddings"]["norm"])
    found = []
    for layer in range(TINY.layers):
        attention = backbone["layers"]["attention"]

        def dense(block, name, y, layer=layer):
            tree = backbone["layers"][block][name]
            kernel = np.asarray(tree["kernel"][layer], float)
            factors = lora.get("layers", {}).get(block, {}).get(name)
            if factors and "a" in factors:
                kernel = kernel + scale * np.asarray(factors["a"][layer], float) @ np.asarray(
                    factors["b"][layer], float
                )
            elif factors:
                kernel = kernel + scale * np.asarray(factors["dense"][layer], float)
            return y @ kernel + np.asarray(tree["bias"][layer], float)

        q, k, v = (dense("attention", name, x) for name in ("query", "key", "value"))
        heads, mixed = [], []
        for head in range(TINY.heads):
            own = slice(8 * head, 8 * head + 8)
            weights = np.exp(q[:, own] @ k[:, own].T / np.sqrt(8))
            weights /= weights.sum(axis=1, keepdims=True)
            heads.append(weights)
            mixed.append(weights @ v[:, own])
        found.append(heads)
        at = lambda tree, n=layer: {name: np.asarray(leaf[n], float) for name, leaf in tree.items()}  # noqa: E731
        x = norm(x + dense("attention", "output", np.concatenate(mixed, axis=1)), at(attention["norm"]))
        inner = dense("feed_forward", "inner", x)
        active = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        x = norm(x + dense("feed_forward", "outer", active), at(backbone["layers"]["feed_forward"]["norm"]))
    return np.array(found)


@pytest.mark.parametrize("adapter", [None, "lora", "full"])
def test_they_are_those_of_a_slow_encoder(backbone, adapter):
    made = None if adapter is None else moved(new(adapter, 3 if adapter == "lora" else 0))
    lora, scale = ({}, 1.0) if made is None else (made["lora"], 1.5)
    found = np.asarray(attention_matrices(TINY, backbone, made, scale, IDS, MASK, TYPES))
    assert found.shape == (2, 2, 4, 6, 6)
    for text, tokens in ((0, 6), (1, 4)):
        wanted = slow(backbone, lora, scale, IDS[text, :tokens], TYPES[text, :tokens])
        np.testing.assert_allclose(found[text, :, :, :tokens, :tokens], wanted, atol=2e-6)
    assert not found[1, :, :, :4, 4:].any(), "padding gets nothing"
    np.testing.assert_allclose(found[1, :, :, :4].sum(axis=-1), 1, atol=1e-6)


def test_an_adapter_that_is_new_changes_nothing(backbone):
    import jax

    fresh = init_adapter(jax.random.key(0), TINY, 3)
    plain, adapted = (np.asarray(attention_matrices(TINY, backbone, a, 2.0, IDS, MASK, TYPES)) for a in (None, fresh))
    np.testing.assert_allclose(plain, adapted, atol=1e-7)
