"""Low-rank adapters of dense layers (Hu et al. 2021) with a classification head a task, over one frozen BERT.

An adapter is a tree of float32 arrays, the only thing that is trained:

    lora    layers/attention/{query, key, value, output}, layers/feed_forward/{inner, outer}, as far as they have factors:
            a [L, inputs, R], b [L, R, outputs]; or other arrays of an update, see `adaptations.py`
    heads   kernel [heads, D, classes], bias [heads, classes]

Adapters that are read and not trained may also have factors in `pooler` and `embeddings/project`, without L, and beside
them a `bias` [outputs].

Everything here is written for one adapter. Several over one backbone are

    jax.vmap(partial(head_logits, config, backbone, options=options), in_axes=0)(adapters, scales, ids, mask, types)

with the ranks zero-padded to one width (`init_adapter`): the padding of `a` meets the padding of `b`, both gradients
are exactly zero there, and so are both after any step of an optimiser without noise.

Axes as in `bert.py`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ncsim.errors import ConfigError
from ncsim.text.model.adaptations import as_lora, initial_factors
from ncsim.text.model.bert import Bert, check_positions
from ncsim.text.model.names import LAYER_DENSE, dense_layers
from ncsim.text.model.packing import Packed
from ncsim.text.model.sizes import BertConfig

#: The dense layers that have factors, as the paper and PEFT's default for BERT have it.
TARGETS = ("query", "value")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
POOLINGS = ("pooler", "cls")
ATTENTIONS = ("xla", "cudnn")


@dataclasses.dataclass(frozen=True)
class ForwardOptions:
    """How the network is computed, as far as it may change with the machine or by taste.

    Raises:
        ConfigError: an unknown name, or a dropout outside [0, 1).
    """

    dtype: str = "float32"  # of activations and products: float32 or bfloat16; adapters and heads stay float32
    remat: bool = False  # recompute layers in the backward pass: a third more work, far less memory
    pooling: str = "pooler"  # what heads read: BERT's pooler, or the first token's hidden state ("cls")
    dropout: float = 0.0  # of the adapters' input, in training
    unroll: int = 0  # layers a turn of the loop over layers; 0: all of them on CPUs, elsewhere one
    attention: str = "xla"  # "cudnn": NVIDIA's fused kernels, in bfloat16 (ncsim/text/training/attention.py tries them)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"--dtype: {self.dtype!r}; allowed: {', '.join(DTYPES)}")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"--pooling: {self.pooling!r}; allowed: {', '.join(POOLINGS)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout: {self.dropout}; allowed: from 0, below 1")
        if self.unroll < 0:
            raise ConfigError(f"--unroll: {self.unroll}; allowed: 0 or more")
        if self.attention not in ATTENTIONS:
            raise ConfigError(f"--attention: {self.attention!r}; allowed: {', '.join(ATTENTIONS)}")

    def unrolled(self, layers: int) -> int:
        """Layers a turn, of so many. A loop on a CPU copies each layer's weights out of their stack at every turn; without
        a loop the compiler would undo `remat`."""
        if self.unroll:
            return self.unroll
        return layers if jax.default_backend() == "cpu" and not self.remat else 1


DEFAULT_OPTIONS = ForwardOptions()


def init_adapter(
    key: Key[Array, ""],
    config: BertConfig,
    rank: int,
    width: int | None = None,
    heads: int = 2,
    classes: int = 2,
    targets: Sequence[str] = TARGETS,
    adaptation: str = "lora",
    bond: int = 0,
) -> dict[str, Any]:
    """An adapter that changes nothing yet: B = 0, A ~ U(+-1/sqrt(inputs)), heads as torch.nn.Linear draws them, U(+-1/sqrt(D)).

    A is drawn at its true rank and then zero-padded to `width`, so that an adapter does not depend on what it is
    trained beside. `targets` are PEFT's target_modules: ends of BERT's names of a layer's dense layers. `adaptation` "full" has a
    rank of 0, and "mps" a `bond` (`adaptations.py`).

    Raises:
        ConfigError: a rank outside 1..D, a width below it, or a bond that is too large.
    """
    width = rank if width is None else width
    if adaptation != "full":
        check_rank(rank, config)
    if width < rank:
        raise ConfigError(f"adapter width: {width}; allowed: the rank, {rank}, or more")
    layers, dense = config.layers, dense_layers(config)
    names = [name for name in LAYER_DENSE if any(f".{name}".endswith(f".{target}") for target in targets)]

    def uniform(key: Array, inputs: int, *shape: int) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -(inputs**-0.5), inputs**-0.5)

    kernel_key, bias_key, *target_keys = jax.random.split(key, 2 + len(names))
    factors: dict[str, Any] = {}
    for name, target_key in zip(names, target_keys, strict=True):
        (_, block, product), _, (outputs, inputs) = dense[f"encoder.layer.0.{name}"]
        shape = (layers, inputs, outputs)
        factors.setdefault(block, {})[product] = initial_factors(target_key, adaptation, shape, rank, width, bond)
    size = config.hidden_size
    kernel, bias = uniform(kernel_key, size, heads, size, classes), uniform(bias_key, size, heads, classes)
    return {"lora": {"layers": factors}, "heads": {"kernel": kernel, "bias": bias}}


def head_logits(
    config: BertConfig,
    backbone: Any,
    adapter: Any,
    scale: Array | float,
    ids: Int[Array, "B T"],
    mask: Int[Array, "B T"],
    types: Int[Array, "B T"],
    *,
    options: ForwardOptions = DEFAULT_OPTIONS,
    dropout_key: Key[Array, " B"] | None = None,
) -> Float[Array, "B heads classes"]:
    """Logits of every head for every sequence, float32.

    Args:
        config: the backbone's sizes.
        backbone: its tree `params`, in any floating-point type.
        adapter: as `init_adapter` makes them.
        scale: alpha / rank, at the true rank.
        ids: token ids; `mask`, 1 for tokens and 0 for padding; `types`, segments.
        dropout_key: one for each sequence, given in training; switches `options.dropout` on.

    Raises:
        ConfigError: pooling by a pooler that the backbone lacks, or sequences longer than it can take.
    """
    check_positions(jnp.asarray(ids), config)
    packed = Packed.of(jnp.asarray(ids), jnp.asarray(mask), jnp.asarray(types))
    keys = None if dropout_key is None else dropout_key[:, None]
    return packed_logits(config, backbone, adapter, scale, packed, options=options, dropout_key=keys)[:, 0]


def packed_logits(
    config: BertConfig,
    backbone: Any,
    adapter: Any,
    scale: Array | float,
    packed: Packed,
    *,
    options: ForwardOptions = DEFAULT_OPTIONS,
    dropout_key: Key[Array, "B Q"] | None = None,
) -> Float[Array, "B Q heads classes"]:
    """As `head_logits`, of rows that hold several sequences each, with a key for each sequence.

    Raises:
        ConfigError: pooling by a pooler that the backbone lacks.
    """
    check_pooling(options.pooling, config)
    bert = Bert(
        config, DTYPES[options.dtype], options.remat, options.dropout, options.unrolled(config.layers), options.attention
    )  # fmt: skip
    variables = {"params": backbone, "lora": as_lora(adapter["lora"])}
    first, pooled = bert.first_tokens(variables, packed, scale, dropout_key)
    features = (first if pooled is None or options.pooling == "cls" else pooled).astype(jnp.float32)
    kernel, bias = adapter["heads"]["kernel"], adapter["heads"]["bias"]
    return jnp.einsum("bqd,hdc->bqhc", features, kernel, precision=jax.lax.Precision.HIGHEST) + bias


def pad_adapter(adapter: Any, width: int) -> Any:
    """The same adapter at another width, wider or narrower: zeros are added or dropped. Give the true rank to undo.

    Raises:
        ConfigError: what would be dropped is not zero, unless the adapter has diverged: its padding is NaN then, as all else.
    """

    def resized(tree: Any) -> Any:
        if "dense" in tree:
            return tree
        if "a" not in tree:
            return {name: resized(inner) for name, inner in tree.items()}
        a, b = tree["a"], tree["b"]
        kept, dropped = (a[..., :width], b[..., :width, :]), (a[..., width:], b[..., width:, :])
        diverged = not all(bool(jnp.all(jnp.isfinite(part))) for part in kept)
        if any(bool(jnp.any((part != 0) & ~(diverged & jnp.isnan(part)))) for part in dropped):
            raise ConfigError(f"adapter width: {width}; allowed: its rank or more, and this one has more than {width}")
        extra = max(width - a.shape[-1], 0)
        lead = [(0, 0)] * (a.ndim - 1)
        return tree | {
            "a": jnp.pad(kept[0], [*lead, (0, extra)]),
            "b": jnp.pad(kept[1], [*lead[:-1], (0, extra), (0, 0)]),
        }

    return {**adapter, "lora": resized(adapter["lora"])}


def trainable_parameters(
    config: BertConfig,
    rank: int,
    heads: int = 2,
    classes: int = 2,
    targets: Sequence[str] = TARGETS,
    adaptation: str = "lora",
    bond: int = 0,
) -> int:
    """Number of parameters that training changes, counted in the built adapter (paper, table 4)."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    draw = functools.partial(
        init_adapter, config=config, rank=rank, heads=heads, classes=classes, targets=targets, adaptation=adaptation,
        bond=bond,
    )  # fmt: skip
    adapter = jax.eval_shape(draw, key)
    return sum(leaf.size for leaf in jax.tree.leaves(adapter))


def check_pooling(pooling: str, config: BertConfig) -> None:
    """Heads cannot read a pooler that is not there.

    Raises:
        ConfigError: naming the option and the other choice.
    """
    if pooling == "pooler" and not config.pooler:
        raise ConfigError("--pooling: 'pooler', but the checkpoint has no pooler; allowed: cls")


def check_rank(rank: int, config: BertConfig, option: str = "--rank") -> None:
    """A rank above the width would be no low rank: refused.

    Args:
        rank: of an adapter.
        config: the backbone's sizes.
        option: what the rank was asked for by.

    Raises:
        ConfigError: naming the option, the rank and the width.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= config.hidden_size:
        raise ConfigError(
            f"{option}: {rank!r}; allowed: whole numbers from 1 to the backbone's width, {config.hidden_size}"
        )
