"""The attention matrices of an encoder with an adapter: a function beside the forward pass, which is left as it is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ncsim.text.model.adaptations import as_lora
from ncsim.text.model.bert import Embeddings, EncoderLayer, Projection, attention_weights, check_positions
from ncsim.text.model.lora import DEFAULT_OPTIONS, DTYPES, ForwardOptions
from ncsim.text.model.packing import Packed
from ncsim.text.model.sizes import BertConfig


def attention_matrices(
    config: BertConfig,
    backbone: Any,
    adapter: Any,
    scale: Array | float,
    ids: Int[Array, "B T"],
    mask: Int[Array, "B T"],
    types: Int[Array, "B T"],
    *,
    options: ForwardOptions = DEFAULT_OPTIONS,
) -> Float[Array, "B L H T T"]:
    """How much each token attends to each, in every layer and head: queries by keys, float32 (Vaswani et al. 2017).

    Rows of tokens add up to 1 over tokens. Rows of padding mean nothing.

    Args:
        config: the backbone's sizes.
        backbone: its tree `params`, as `load_backbone` gives it.
        adapter: a tree with "lora"; None for the backbone by itself.
        scale: alpha / rank.
        ids: token ids, [B, T].
        mask: 1 for tokens and 0 for padding, [B, T].
        types: segment of each token, [B, T].
        options: how the network is computed; pooling and dropout are of no account here.

    Returns:
        float32[B, L, H, T, T].

    Raises:
        ConfigError: more tokens than the encoder has positions.

    Example:
        >>> import ncsim, numpy as np
        >>> bert, parameters = ncsim.text.load_backbone("tiny-bert")  # the folder of any BERT
        >>> ids = np.array([[5, 6, 7, 8]])
        >>> matrices = attention_matrices(bert, parameters, None, 1.0, ids, ids > 0, 0 * ids)
        >>> matrices.shape, float(matrices[0, 0, 0].sum().round(5))
        ((1, 2, 4, 4, 4), 4.0)
    """
    check_positions(ids, config)
    return _matrices(config, backbone, adapter, scale, ids, mask, types, options)


@functools.partial(jax.jit, static_argnames=("config", "options"))
def _matrices(
    config: BertConfig,
    backbone: Any,
    adapter: Any,
    scale: Any,
    ids: Any,
    mask: Any,
    types: Any,
    options: ForwardOptions,
) -> Array:
    dtype = DTYPES[options.dtype]
    packed = Packed.of(jnp.asarray(ids), jnp.asarray(mask), jnp.asarray(types))
    lora = {} if adapter is None else as_lora(adapter["lora"])
    outside = {"params": backbone["embeddings"]} | ({"lora": lora["embeddings"]} if "embeddings" in lora else {})
    hidden = Embeddings(config, dtype).apply(outside, packed, scale)
    layer = EncoderLayer(config, dtype)
    projection = Projection(config.hidden_size, dtype)
    found = []
    for number in range(config.layers):
        stacks = {"params": backbone["layers"]} | ({"lora": lora["layers"]} if "layers" in lora else {})
        own = jax.tree.map(lambda leaf, n=number: leaf[n], stacks)

        def by_head(name: str, x: Array, tree: Any = own) -> Array:
            variables = {
                kind: each["attention"][name] for kind, each in tree.items() if name in each.get("attention", {})
            }
            made = projection.apply(variables, x, scale)
            return made.reshape(*x.shape[:2], config.heads, -1)

        found.append(
            attention_weights(by_head("query", hidden), by_head("key", hidden), packed.sequences, packed.sequences)
        )
        hidden, _ = layer.apply(own, hidden, None, packed.sequences, scale)
    return jnp.stack(found, axis=1)
