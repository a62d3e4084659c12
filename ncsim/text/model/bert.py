"""BERT's encoder (Devlin et al. 2019) in Flax: any size of the family, layers scanned, parameters stacked.

The parameters of all layers are stacked, [L, ...], and kernels are [inputs, outputs]:

    embeddings   word [V, E], position [P, E], type [S, E], norm (scale, bias); project: kernel [E, D], bias [D]
    layers       attention (query, key, value, output: kernel and bias; norm), feed_forward (inner, outer; norm)
    pooler       kernel [D, D], bias [D]

DistilBERT has no `type` and no pooler. ELECTRA has no pooler, and `project` where its embeddings are narrower. RoBERTa,
XLM-R and CamemBERT count positions from behind the id of the padding. All else is the same network.

The arrays are the variable collection `params`, frozen when adapters are trained. The collection `lora` may hold low-rank
factors of any kernel but the tables' (Hu et al. 2021): `lora.py` makes and trains them. What is frozen and what is
trained are therefore two trees, and mapping over adapters leaves every frozen product one matrix product.

Axes: L layers, B batch, T tokens, Q sequences of a row, H heads, D width, E width of embeddings, V vocabulary, P positions,
S types, R rank.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ncsim.errors import ConfigError
from ncsim.text.model.activations import ACTIVATIONS
from ncsim.text.model.packing import Packed, fold_in_each, token_keys
from ncsim.text.model.sizes import BertConfig

BERT_BASE_UNCASED = BertConfig()
BERT_BASE_MULTILINGUAL_CASED = BertConfig(vocab_size=119_547)


class Projection(nn.Module):
    """x W + b, and beside it scale (x A B + c) where the collection `lora` holds `a` [D, R], `b` [R, F] and perhaps
    `bias` [F], which is c, for this layer; or scale x dW where it holds `dense` [D, F]."""

    features: int  # F
    dtype: Any = jnp.float32
    dropout: float = 0.0  # of x on its way to A

    @nn.compact
    def __call__(self, x: Array, scale: Array | float = 1.0, dropout_key: Array | None = None) -> Array:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        product = functools.partial(jnp.matmul, precision=_precision(self.dtype))
        out = product(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)
        if not (self.has_variable("lora", "a") or self.has_variable("lora", "dense")):
            return out
        if dropout_key is not None and self.dropout > 0:
            # A mask of each token's own: what is computed beside it, and how far it is padded, change nothing of it.
            draw = functools.partial(jax.random.bernoulli, p=1 - self.dropout, shape=x.shape[2:])
            kept = jax.vmap(jax.vmap(draw))(dropout_key)
            x = jnp.where(kept, x / (1 - self.dropout), 0).astype(x.dtype)
        if self.has_variable("lora", "dense"):
            # Not added to the kernel: bfloat16 would round what is small beside it to nothing.
            return out + product(x, (self.get_variable("lora", "dense") * scale).astype(self.dtype))
        # The scale is one number a member: folded into the small factor, it costs nothing per token.
        a, b = self.get_variable("lora", "a"), self.get_variable("lora", "b") * scale
        out = out + product(product(x, a.astype(self.dtype)), b.astype(self.dtype))
        if self.has_variable("lora", "bias"):
            out = out + (self.get_variable("lora", "bias") * scale).astype(self.dtype)
        return out


class Attention(nn.Module):
    """Self-attention with its residual and norm; softmax in float32, no weight on other sequences and padding."""

    config: BertConfig
    dtype: Any
    dropout: float
    attention: str = "xla"

    @nn.compact
    def __call__(
        self, x: Array, sequences: Array, firsts: Array | None, scale: Array | float, key: Array | None
    ) -> Array:
        """x [B, T, D], sequences int[B, T], keys [B, T] of this layer's dropout or None: [B, T, D], or [B, Q, D] where
        the tokens at `firsts` [B, Q] alone are wanted."""
        size, heads = self.config.hidden_size, self.config.heads
        projection = functools.partial(Projection, size, self.dtype, self.dropout)
        asking, asked, asking_key = (_at(each, firsts) for each in (x, sequences, key))

        def by_head(array: Array) -> Array:
            return array.reshape(*array.shape[:-1], heads, size // heads)

        query = by_head(projection(name="query")(asking, scale, _own_key(asking_key, "query")))
        value = by_head(projection(name="value")(x, scale, _own_key(key, "value")))
        asked_keys = by_head(projection(name="key")(x, scale, _own_key(key, "key")))
        how = self.attention if firsts is None else "xla"
        mixed = attended(query, asked_keys, value, asked, sequences, how).reshape(asking.shape)
        output = projection(name="output")(mixed, scale, _own_key(asking_key, "output"))
        return _norm(self.config, self.dtype)(asking + output)


def attention_weights(
    query: Float[Array, "B Q H E"], key: Float[Array, "B T H E"], asked: Int[Array, "B Q"], sequences: Int[Array, "B T"]
) -> Float[Array, "B H Q T"]:
    """How much each query gives to each key of its own sequence: softmax of their products, float32."""
    scores = jnp.einsum(
        "bqhd,bkhd->bhqk", query, key, precision=_precision(query.dtype), preferred_element_type=jnp.float32
    )
    scores = scores / np.sqrt(query.shape[-1]).astype(np.float32)
    # The least float and not -inf: a row of padding alone gives equal weights, not NaN.
    scores = jnp.where(_own_sequence(asked, sequences), scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)


def _own_sequence(asked: Int[Array, "B Q"], sequences: Int[Array, "B T"]) -> Bool[Array, "B 1 Q T"]:
    """Which keys a query sees. Padding asks the row's first sequence, and nothing asks padding."""
    return jnp.maximum(asked, 0)[:, None, :, None] == sequences[:, None, None, :]


def attended(
    query: Float[Array, "B Q H E"],
    key: Float[Array, "B T H E"],
    value: Float[Array, "B T H E"],
    asked: Int[Array, "B Q"],
    sequences: Int[Array, "B T"],
    attention: str = "xla",
) -> Float[Array, "B Q H E"]:
    """The values, weighted by `attention_weights`. With "cudnn" no weights go through memory, and none are rounded to bfloat16,
    which is the one type that it has.

    Raises:
        RuntimeError: there is no cuDNN.
        NotImplementedError: it has nothing for this device or these sizes.
    """
    if attention == "xla":
        weights = attention_weights(query, key, asked, sequences).astype(value.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value, precision=_precision(value.dtype))
    # A mask for each head: JAX's rule for `vmap` over cuDNN's takes no other (jax 0.10 to 0.12).
    batch, tokens, heads, _ = query.shape
    mask = jnp.broadcast_to(_own_sequence(asked, sequences), (batch, heads, tokens, key.shape[1]))
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="cudnn")


class FeedForward(nn.Module):
    """Two dense layers with their residual and norm."""

    config: BertConfig
    dtype: Any
    dropout: float

    @nn.compact
    def __call__(self, x: Array, scale: Array | float, key: Array | None) -> Array:
        """x [B, T, D], keys [B, T] of this layer's dropout or None: [B, T, D]."""
        config, dtype, dropout = self.config, self.dtype, self.dropout
        inner = Projection(config.intermediate_size, dtype, dropout, name="inner")(x, scale, _own_key(key, "inner"))
        active = ACTIVATIONS[config.activation](inner)
        outer = Projection(config.hidden_size, dtype, dropout, name="outer")(active, scale, _own_key(key, "outer"))
        return _norm(self.config, self.dtype)(x + outer)


class EncoderLayer(nn.Module):
    """One layer, as `nn.scan` wants it: hidden [B, T, D] to (hidden, nothing); of the tokens at `firsts` where given."""

    config: BertConfig
    dtype: Any = jnp.float32
    dropout: float = 0.0
    attention: str = "xla"

    @nn.compact
    def __call__(
        self,
        hidden: Array,
        key: Array | None,
        sequences: Array,
        scale: Array | float = 1.0,
        firsts: Array | None = None,
    ) -> tuple[Array, None]:
        attention = Attention(self.config, self.dtype, self.dropout, self.attention, name="attention")
        hidden = attention(hidden, sequences, firsts, scale, key)
        feed_forward = FeedForward(self.config, self.dtype, self.dropout, name="feed_forward")
        return feed_forward(hidden, scale, _at(key, firsts)), None


class Embeddings(nn.Module):
    """Sum of word, position and type embeddings, normalised, and as wide as the layers: [B, T, D]. An id out of range gives
    NaN."""

    config: BertConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, packed: Packed, scale: Array | float = 1.0) -> Array:
        ids, types, positions = packed.ids, packed.types, packed.positions
        config, normal, width = self.config, nn.initializers.normal(0.02), self.config.embedding_width
        word = self.param("word", normal, (config.vocab_size, width))
        position = self.param("position", normal, (config.position_rows, width))
        if config.pad_id is not None:
            # transformers counts the ids that are not the padding's, and gives the padding its own row.
            there = ((ids != config.pad_id) & (packed.sequences >= 0)).astype(jnp.int32)
            counted = jnp.cumsum(there, axis=-1)
            before = jnp.take_along_axis(counted - there, packed.begins, axis=1)
            positions = (counted - before) * there + config.pad_id
        total = jnp.take(word, ids, axis=0) + jnp.take(position, positions, axis=0)
        if config.type_vocab_size:
            kind = self.param("type", normal, (config.type_vocab_size, width))
            total = total + (jnp.take(kind, types, axis=0) if config.reads_segments else kind[0])
        out = _norm(config, self.dtype)(total).astype(self.dtype)
        if width == config.hidden_size:
            return out
        return Projection(config.hidden_size, self.dtype, name="project")(out, scale)


class Bert(nn.Module):
    """The encoder with its pooler.

    Attributes:
        config: the sizes.
        dtype: type of activations and matrix products, float32 or bfloat16. LayerNorm's statistics and softmax are
            float32 in either; parameters keep their own type.
        remat: recompute each layer in the backward pass instead of keeping its activations.
        dropout: share of each token's features that do not reach a low-rank factor, where a key is given.
        unroll: layers a turn of the loop over layers; all of them is fastest on CPUs and slowest to compile.
        attention: "xla", or "cudnn" for NVIDIA's fused kernels where all tokens ask. The last layer of `first_tokens` asks
            for few, by XLA.
    """

    config: BertConfig
    dtype: Any = jnp.float32
    remat: bool = False
    dropout: float = 0.0
    unroll: int = 1
    attention: str = "xla"

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.dtype)
        self.layers = self._stack(self.config.layers)
        if self.config.pooler:
            self.pooler = Projection(self.config.hidden_size, self.dtype)

    def __call__(
        self,
        ids: Int[Array | np.ndarray, "B T"],
        mask: Int[Array | np.ndarray, "B T"],
        types: Int[Array | np.ndarray, "B T"],
        scale: Array | float = 1.0,
        dropout_key: Array | None = None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B D"] | None]:
        """Hidden states of the last layer, and the pooler's output, None without a pooler.

        Args:
            ids: token ids.
            mask: 1 for tokens, 0 for padding. Hidden states at padding mean nothing.
            types: segment of each token; not read where the model has no segments.
            scale: alpha / rank of the adapter in the collection `lora`, where there is one.
            dropout_key: one for each sequence, [B]; switches `dropout` on.

        Raises:
            ConfigError: more tokens than BERT has positions.
        """
        check_positions(ids, self.config)
        packed = Packed.of(ids, mask, types)
        keys = self._keys(None if dropout_key is None else dropout_key[:, None], packed)
        hidden = self.embeddings(packed, scale)
        hidden, _ = self.layers(hidden, keys, packed.sequences, scale)
        return hidden, jnp.tanh(self.pooler(hidden[:, 0], scale)) if self.config.pooler else None

    @nn.nowrap
    def first_tokens(
        self, variables: Mapping[str, Any], packed: Packed, scale: Array | float = 1.0, dropout_key: Array | None = None
    ) -> tuple[Float[Array, "B Q D"], Float[Array, "B Q D"] | None]:
        """Each sequence's first hidden state and pooler's output, as `apply(variables, ...)` gives them for it alone.

        In the last layer only keys and values are computed for all tokens: about 1 / L of the work is saved.

        Args:
            variables: `params`, and `lora` where there is one. Layers of `params` in a tuple, one tree each, are computed
                without a loop, and none of them is copied out of the stack.
            packed: the rows. Positions must be below BERT's own: what is beyond them is NaN.
            scale: alpha / rank of the adapter.
            dropout_key: one for each sequence, [B, Q]; switches `dropout` on.
        """
        config, keys = self.config, self._keys(dropout_key, packed)

        def part(rows: slice | int) -> dict[str, Any]:
            return {name: _layers(tree["layers"], rows) for name, tree in stacked.items()}

        def outside(place: str) -> dict[str, Any]:
            return {name: tree[place] for name, tree in variables.items() if place in tree}

        stacked = {name: tree for name, tree in variables.items() if "layers" in tree}
        hidden = Embeddings(config, self.dtype).apply(outside("embeddings"), packed, scale)
        layer = EncoderLayer(config, self.dtype, self.dropout, self.attention)
        if isinstance(variables["params"]["layers"], tuple):
            for number in range(config.layers - 1):
                own = None if keys is None else keys[number]
                hidden, _ = layer.apply(part(number), hidden, own, packed.sequences, scale)
        elif config.layers > 1:
            below = None if keys is None else keys[:-1]
            hidden, _ = self._stack(config.layers - 1).apply(part(slice(-1)), hidden, below, packed.sequences, scale)
        above = None if keys is None else keys[-1]
        first, _ = layer.apply(part(-1), hidden, above, packed.sequences, scale, packed.firsts)
        if not config.pooler:
            return first, None
        pooler = Projection(config.hidden_size, self.dtype)
        return first, jnp.tanh(pooler.apply(outside("pooler"), first, scale))

    @nn.nowrap
    def _stack(self, layers: int) -> Any:
        layer: Any = nn.remat(EncoderLayer, prevent_cse=False) if self.remat else EncoderLayer
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=layers,
            unroll=min(self.unroll, layers),
        )
        return scanned(self.config, self.dtype, self.dropout, self.attention)

    @nn.nowrap
    def _keys(self, key: Array | None, packed: Packed) -> Array | None:
        """Keys [L, B, T] of the layers and tokens from those of the sequences, [B, Q]."""
        if key is None or self.dropout == 0:
            return None
        return jax.vmap(functools.partial(fold_in_each, token_keys(key, packed)))(jnp.arange(self.config.layers))


def check_positions(ids: Any, config: BertConfig) -> None:
    """Refuse sequences [B, T] that are longer than the model has positions.

    Raises:
        ConfigError: naming both.
    """
    tokens = ids.shape[-1]
    if tokens > config.max_positions:
        raise ConfigError(f"sequence length: {tokens} tokens; allowed: at most {config.max_positions}, BERT's own")


def parameter_shapes(config: BertConfig) -> Any:
    """The tree `params` with a `jax.ShapeDtypeStruct` for every array: the built model, without its weights."""
    one = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(Bert(config).init, key, one, one, one)["params"]


@functools.cache
def parameters(config: BertConfig) -> int:
    """Number of parameters of the encoder and its pooler, counted in the built model."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameter_shapes(config)))


def initial_parameters(key: Array, config: BertConfig) -> Any:
    """Random weights as BERT's authors drew them, N(0, 0.02^2), biases 0: for tests and speed, not for results."""
    one = jnp.zeros((1, 1), jnp.int32)
    return Bert(config).init(key, one, one, one)["params"]


#: Projections of a layer, each with a key of its own for dropout. The order is part of every run's bits.
_KEYS = ("query", "value", "key", "output", "inner", "outer")


def _own_key(key: Array | None, projection: str) -> Array | None:
    """Keys [B, T] of one projection's dropout from its layer's."""
    return None if key is None else fold_in_each(key, _KEYS.index(projection))


def _layers(tree: Any, rows: slice | int) -> Any:
    """Some layers of a stack, or one of a tuple of layers."""
    return tree[rows] if isinstance(tree, tuple) else jax.tree.map(lambda leaf: leaf[rows], tree)


def _at(array: Array | None, firsts: Array | None) -> Any:
    """What an array [B, T] or [B, T, D] has at some tokens [B, Q]; all of it where they are not given."""
    if array is None or firsts is None:
        return array
    return jnp.take_along_axis(array, firsts.reshape(*firsts.shape, *[1] * (array.ndim - 2)), axis=1)


def _norm(config: BertConfig, dtype: Any) -> nn.LayerNorm:
    # The two-pass variance: the fast one subtracts large squares.
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name="norm")


def _precision(dtype: Any) -> jax.lax.Precision | None:
    """float32 means float32, also where an accelerator would round the factors of a product."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
