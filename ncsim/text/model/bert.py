"""BERT's encoder (Devlin et al. 2019) in Flax: any size of the family, layers scanned, parameters stacked.

The parameters of all layers are stacked, [L, ...], and kernels are [inputs, outputs]:

    embeddings   word [V, D], position [P, D], type [S, D], norm (scale, bias)
    layers       attention (query, key, value, output: kernel and bias; norm), feed_forward (inner, outer; norm)
    pooler       kernel [D, D], bias [D]

They are the variable collection `params`, frozen when adapters are trained. The collection `lora` may hold low-rank
factors of the query and value kernels (Hu et al. 2021): `lora.py` makes and trains them. What is frozen and what is
trained are therefore two trees, and mapping over adapters leaves every frozen product one matrix product.

Axes: L layers, B batch, T tokens, Q sequences of a row, H heads, D width, V vocabulary, P positions, S types, R rank.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ncsim.errors import ConfigError
from ncsim.text.model.packing import Packed, split_keys, token_keys

#: Activations of the feed-forward layers, by the names of Hugging Face's config.json.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
#: Fields of config.json that would make another network of it, with the one value that leaves it BERT.
_ONLY = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
}
#: Our names of the sizes in config.json.
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT (Devlin et al. 2019). The defaults are bert-base-uncased's.

    Attributes:
        vocab_size: tokens, 1 or more.
        hidden_size: width D of the hidden states, 1 or more.
        layers: 1 or more.
        heads: of attention, 1 or more; they divide `hidden_size`.
        intermediate_size: units of a feed-forward layer, 1 or more.
        max_positions: longest sequence in tokens, 1 or more.
        type_vocab_size: kinds of segments, 1 or more.
        layer_norm_eps: added to the variance, above 0 and below 1.
        activation: of the feed-forward layers: "gelu", "gelu_new", "gelu_pytorch_tanh" or "relu".
        pooler: False for a checkpoint without one, whose first token's hidden state can still be read.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, an unknown activation.

    Example:
        >>> BertConfig(hidden_size=32, heads=4).layers
        12
        >>> sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        >>> sizes |= {"vocab_size": 97, "max_position_embeddings": 32, "type_vocab_size": 2, "model_type": "bert"}
        >>> BertConfig.from_dict(sizes).vocab_size
        97
    """

    vocab_size: int = 30_522
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    intermediate_size: int = 3_072
    max_positions: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"
    pooler: bool = True

    def __post_init__(self) -> None:
        for name in _SIZES.values():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"BERT's {name}: {value!r}; allowed: whole numbers from 1")
        if self.hidden_size % self.heads:
            raise ConfigError(f"BERT's heads: {self.heads}; allowed: divisors of hidden_size, {self.hidden_size}")
        if not isinstance(self.layer_norm_eps, int | float) or not 0 < self.layer_norm_eps < 1:
            raise ConfigError(f"BERT's layer_norm_eps: {self.layer_norm_eps!r}; allowed: above 0, below 1")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"BERT's activation: {self.activation!r}; allowed: {', '.join(ACTIVATIONS)}")

    @staticmethod
    def from_dict(description: Mapping[str, Any], pooler: bool = True) -> BertConfig:
        """What Hugging Face's config.json says, as read from JSON. Dropout rates in it are ignored: nothing frozen drops.

        Args:
            description: the file's object.
            pooler: whether the checkpoint has a pooler.

        Raises:
            ConfigError: it describes another network than BERT's encoder, or a size is missing or out of range.
        """
        for name, allowed in _ONLY.items():
            # model_type must be said; the others are absent from older files.
            value = description.get(name, None if name == "model_type" else allowed)
            if value != allowed:
                raise ConfigError(f"config.json: {name} is {value!r}; allowed: {allowed!r}, this is no BERT encoder")
        missing = [name for name in _SIZES if name not in description]
        if missing:
            raise ConfigError(f"config.json: {', '.join(missing)} missing; a BERT's must have {', '.join(_SIZES)}")
        return BertConfig(
            **{ours: description[theirs] for theirs, ours in _SIZES.items()},
            layer_norm_eps=description.get("layer_norm_eps", 1e-12),
            activation=description.get("hidden_act", "gelu"),
            pooler=pooler,
        )


BERT_BASE_UNCASED = BertConfig()
BERT_BASE_MULTILINGUAL_CASED = BertConfig(vocab_size=119_547)


class Projection(nn.Module):
    """x W + b, and beside it scale x A B where the collection `lora` holds `a` [D, R] and `b` [R, F] for this layer."""

    features: int  # F
    dtype: Any = jnp.float32
    dropout: float = 0.0  # of x on its way to A

    @nn.compact
    def __call__(self, x: Array, scale: Array | float = 1.0, dropout_key: Array | None = None) -> Array:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        product = functools.partial(jnp.matmul, precision=_precision(self.dtype))
        out = product(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)
        if not self.has_variable("lora", "a"):
            return out
        if dropout_key is not None and self.dropout > 0:
            # A mask of each token's own: what is computed beside it, and how far it is padded, change nothing of it.
            draw = functools.partial(jax.random.bernoulli, p=1 - self.dropout, shape=x.shape[2:])
            kept = jax.vmap(jax.vmap(draw))(dropout_key)
            x = jnp.where(kept, x / (1 - self.dropout), 0).astype(x.dtype)
        # The scale is one number a member: folded into the small factor, it costs nothing per token.
        a, b = self.get_variable("lora", "a"), self.get_variable("lora", "b") * scale
        return out + product(product(x, a.astype(self.dtype)), b.astype(self.dtype))


class Attention(nn.Module):
    """Self-attention with its residual and norm; softmax in float32, no weight on other sequences and padding."""

    config: BertConfig
    dtype: Any
    dropout: float

    @nn.compact
    def __call__(
        self, x: Array, sequences: Array, firsts: Array | None, scale: Array | float, key: Array | None
    ) -> Array:
        """x [B, T, D], sequences int[B, T], keys [B, T] of this layer's dropout or None: [B, T, D], or [B, Q, D] where
        the tokens at `firsts` [B, Q] alone are wanted."""
        size, heads = self.config.hidden_size, self.config.heads
        projection = functools.partial(Projection, size, self.dtype)
        keys = (None, None) if key is None else tuple(split_keys(key, 2))
        asking, asked = x, sequences
        if firsts is not None:
            asking = jnp.take_along_axis(x, firsts[..., None], axis=1)
            asked = jnp.take_along_axis(sequences, firsts, axis=1)
            keys = (None if key is None else jnp.take_along_axis(keys[0], firsts, axis=1), keys[1])

        def by_head(array: Array) -> Array:
            return array.reshape(*array.shape[:-1], heads, size // heads)

        query = by_head(projection(self.dropout, name="query")(asking, scale, keys[0]))
        value = by_head(projection(self.dropout, name="value")(x, scale, keys[1]))
        precision = _precision(self.dtype)
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk",
            query,
            by_head(projection(name="key")(x)),
            precision=precision,
            preferred_element_type=jnp.float32,
        )
        scores = scores / np.sqrt(size // heads).astype(np.float32)
        # Padding asks the row's first sequence, and nothing asks padding. The least float and not -inf: a row of padding
        # alone gives equal weights, not NaN.
        keep = jnp.maximum(asked, 0)[:, None, :, None] == sequences[:, None, None, :]
        scores = jnp.where(keep, scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value, precision=precision).reshape(asking.shape)
        return _norm(self.config, self.dtype)(asking + projection(name="output")(mixed))


class FeedForward(nn.Module):
    """Two dense layers with their residual and norm."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inner = Projection(self.config.intermediate_size, self.dtype, name="inner")(x)
        outer = Projection(self.config.hidden_size, self.dtype, name="outer")(
            ACTIVATIONS[self.config.activation](inner)
        )
        return _norm(self.config, self.dtype)(x + outer)


class EncoderLayer(nn.Module):
    """One layer, as `nn.scan` wants it: hidden [B, T, D] to (hidden, nothing); of the tokens at `firsts` where given."""

    config: BertConfig
    dtype: Any = jnp.float32
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        hidden: Array,
        key: Array | None,
        sequences: Array,
        scale: Array | float = 1.0,
        firsts: Array | None = None,
    ) -> tuple[Array, None]:
        attention = Attention(self.config, self.dtype, self.dropout, name="attention")
        hidden = attention(hidden, sequences, firsts, scale, key)
        return FeedForward(self.config, self.dtype, name="feed_forward")(hidden), None


class Embeddings(nn.Module):
    """Sum of word, position and type embeddings, normalised: [B, T, D]. An id out of range gives NaN."""

    config: BertConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array, types: Array, positions: Array | None = None) -> Array:
        config, normal = self.config, nn.initializers.normal(0.02)
        word = self.param("word", normal, (config.vocab_size, config.hidden_size))
        position = self.param("position", normal, (config.max_positions, config.hidden_size))
        kind = self.param("type", normal, (config.type_vocab_size, config.hidden_size))
        tokens = ids.shape[-1]
        if positions is None and tokens > config.max_positions:
            raise ConfigError(f"sequence length: {tokens} tokens; allowed: at most {config.max_positions}, BERT's own")
        placed = position[:tokens] if positions is None else jnp.take(position, positions, axis=0)
        total = jnp.take(word, ids, axis=0) + placed + jnp.take(kind, types, axis=0)
        return _norm(config, self.dtype)(total).astype(self.dtype)


class Bert(nn.Module):
    """The encoder with its pooler.

    Attributes:
        config: the sizes.
        dtype: type of activations and matrix products, float32 or bfloat16. LayerNorm's statistics and softmax are
            float32 in either; parameters keep their own type.
        remat: recompute each layer in the backward pass instead of keeping its activations.
        dropout: share of each token's features that do not reach a low-rank factor, where a key is given.
        unroll: layers a turn of the loop over layers; all of them is fastest on CPUs and slowest to compile.
    """

    config: BertConfig
    dtype: Any = jnp.float32
    remat: bool = False
    dropout: float = 0.0
    unroll: int = 1

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
            types: segment of each token.
            scale: alpha / rank of the adapter in the collection `lora`, where there is one.
            dropout_key: one for each sequence, [B]; switches `dropout` on.

        Raises:
            ConfigError: more tokens than BERT has positions.
        """
        hidden = self.embeddings(ids, types)
        packed = Packed.of(ids, mask, types)
        keys = self._keys(None if dropout_key is None else dropout_key[:, None], packed)
        hidden, _ = self.layers(hidden, keys, packed.sequences, scale)
        return hidden, jnp.tanh(self.pooler(hidden[:, 0])) if self.config.pooler else None

    @nn.nowrap
    def first_tokens(
        self, variables: Mapping[str, Any], packed: Packed, scale: Array | float = 1.0, dropout_key: Array | None = None
    ) -> tuple[Float[Array, "B Q D"], Float[Array, "B Q D"] | None]:
        """Each sequence's first hidden state and pooler's output, as `apply(variables, ...)` gives them for it alone.

        In the last layer only keys and values are computed for all tokens: about 1 / L of the work is saved.

        Args:
            variables: `params`, and `lora` where there is one.
            packed: the rows. Positions must be below BERT's own: what is beyond them is NaN.
            scale: alpha / rank of the adapter.
            dropout_key: one for each sequence, [B, Q]; switches `dropout` on.
        """
        config, keys = self.config, self._keys(dropout_key, packed)

        def part(rows: slice | int) -> dict[str, Any]:
            return {name: jax.tree.map(lambda leaf: leaf[rows], tree["layers"]) for name, tree in stacked.items()}

        stacked = {name: tree for name, tree in variables.items() if "layers" in tree}
        parameters = variables["params"]
        embeddings = Embeddings(config, self.dtype)
        hidden = embeddings.apply({"params": parameters["embeddings"]}, packed.ids, packed.types, packed.positions)
        if config.layers > 1:
            below = None if keys is None else keys[:-1]
            hidden, _ = self._stack(config.layers - 1).apply(part(slice(-1)), hidden, below, packed.sequences, scale)
        last = EncoderLayer(config, self.dtype, self.dropout)
        own = None if keys is None else keys[-1]
        first, _ = last.apply(part(-1), hidden, own, packed.sequences, scale, packed.firsts)
        if not config.pooler:
            return first, None
        pooler = Projection(config.hidden_size, self.dtype)
        return first, jnp.tanh(pooler.apply({"params": parameters["pooler"]}, first))

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
        return scanned(self.config, self.dtype, self.dropout)

    @nn.nowrap
    def _keys(self, key: Array | None, packed: Packed) -> Array | None:
        """Keys [L, B, T] of the layers and tokens from those of the sequences, [B, Q]."""
        if key is None or self.dropout == 0:
            return None
        return split_keys(token_keys(key, packed), self.config.layers)


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


def _norm(config: BertConfig, dtype: Any) -> nn.LayerNorm:
    # The two-pass variance: the fast one subtracts large squares.
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name="norm")


def _precision(dtype: Any) -> jax.lax.Precision | None:
    """float32 means float32, also where an accelerator would round the factors of a product."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
