"""Names of an encoder's tensors in a checkpoint, and where they are in the tree of `bert.py`.

Every family is read by BERT's names of today: LayerNorm's weight and bias were gamma and beta, and DistilBERT calls its
layers otherwise. What stands in front of the names is found, not known: `bert.`, `model.roberta.`, `0.auto_model.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ncsim.errors import ConfigError
from ncsim.text.model.sizes import BertConfig

#: A place in the tree, the layer it is in or None, and the shape in the checkpoint.
Place = tuple[tuple[str, ...], int | None, tuple[int, ...]]

_NORM = {"LayerNorm.weight": ("norm", "scale"), "LayerNorm.bias": ("norm", "bias")}
_EMBEDDINGS = {
    "word_embeddings.weight": ("word",),
    "position_embeddings.weight": ("position",),
    "token_type_embeddings.weight": ("type",),
    **_NORM,
}
#: Dense layers of a layer, and of the rest of the encoder, by BERT's names.
LAYER_DENSE = {
    "attention.self.query": ("attention", "query"),
    "attention.self.key": ("attention", "key"),
    "attention.self.value": ("attention", "value"),
    "attention.output.dense": ("attention", "output"),
    "intermediate.dense": ("feed_forward", "inner"),
    "output.dense": ("feed_forward", "outer"),
}
OTHER_DENSE = {"embeddings_project": ("embeddings", "project"), "pooler.dense": ("pooler",)}
_LAYER_NORMS = {"attention.output.": ("attention",), "output.": ("feed_forward",)}
#: DistilBERT's names of the parts of a layer, by BERT's.
_DISTILBERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
_BERT = {theirs: ours for ours, theirs in _DISTILBERT.items()}
_DISTILBERT_LAYER = re.compile(
    r"(?<![^.])transformer\.(layer\.\d+\.)(" + "|".join(map(re.escape, _BERT)) + r")(?![^.])"
)

#: Where the encoder's own part of a name may begin.
_START = re.compile(r"(?<![^.])(?:embeddings\.|encoder\.layer\.|embeddings_project\.|pooler\.dense\.)")
_OWN = re.compile(
    r"embeddings\.((word|position|token_type)_embeddings\.weight|LayerNorm\.(weight|bias))"
    r"|(embeddings_project|pooler\.dense)\.(weight|bias)|encoder\.layer\.\d+\.[\w.]+"
)
#: What stands beside an encoder's tensors and is none of them: counters that transformers once stored.
_BUFFER = re.compile(r"embeddings\.(position_ids|token_type_ids)")
#: What belongs to an encoder if it is there: a name that is not expected here means another network.
_INSIDE = re.compile(r"(embeddings|encoder|transformer|embeddings_project|pooler\.dense)(\.|$)")
#: The tensor that every encoder has.
WORDS = "embeddings.word_embeddings.weight"


def todays_name(name: str) -> str:
    """A tensor's or module's name as BERT's checkpoints of today have it, with what stands in front of it."""
    name = _DISTILBERT_LAYER.sub(lambda found: f"encoder.{found[1]}{_BERT[found[2]]}", name)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def module_name(model_type: str, layer: int | None, name: str) -> str:
    """The name that a family gives to a dense layer: `name` is a key of LAYER_DENSE, or of OTHER_DENSE without a layer."""
    if layer is None:
        return name
    if model_type == "distilbert":
        return f"transformer.layer.{layer}.{_DISTILBERT[name]}"
    return f"encoder.layer.{layer}.{name}"


def prefixes(names: Iterable[str]) -> list[str]:
    """What stands in front of the encoders that are there, the one with most tensors first.

    Only where none has a table of words, an incomplete one is given, so that what it lacks can be told.
    """
    today = [todays_name(name) for name in names]
    found: dict[str, int] = {}
    for name in today:
        for start in _START.finditer(name):
            if _OWN.fullmatch(name[start.start() :]):
                front = name[: start.start()]
                found[front] = found.get(front, 0) + 1
    ordered = sorted(found, key=lambda front: (-found[front], front))
    there = set(today)
    return [front for front in ordered if front + WORDS in there] or ordered[:1]


def own_names(names: Iterable[str], prefix: str, where: object) -> tuple[dict[str, str], list[str]]:
    """The encoder's tensors and all others.

    Args:
        names: of all tensors.
        prefix: what stands in front of the encoder's.
        where: the checkpoint, for messages.

    Returns:
        The checkpoint's name of each tensor of the encoder by its name of today without prefix; the names left out, which
        are heads and wrappers.

    Raises:
        ConfigError: one tensor has two names.
    """
    own: dict[str, str] = {}
    left_out = []
    for name in names:
        full = todays_name(name)
        today = full.removeprefix(prefix)
        if not full.startswith(prefix) or not _INSIDE.match(today):
            left_out.append(name)
        elif today in own:
            raise ConfigError(f"{where}: {name} and {own[today]} are the same tensor")
        elif not _BUFFER.fullmatch(today):
            own[today] = name
    return own, left_out


def expected(config: BertConfig) -> dict[str, Place]:
    """Where each tensor belongs, and its shape in the checkpoint, [outputs, inputs], by its name of today."""
    size, width = config.hidden_size, config.embedding_width
    rows = {"word": config.vocab_size, "position": config.position_rows, "type": config.type_vocab_size}
    found: dict[str, Place] = {}
    for name, path in _EMBEDDINGS.items():
        if path != ("type",) or config.type_vocab_size:
            shape: tuple[int, ...] = (rows[path[0]], width) if path[0] in rows else (width,)
            found[f"embeddings.{name}"] = (("embeddings", *path), None, shape)
    for name, (path, layer, shape) in dense_layers(config).items():
        found[f"{name}.weight"] = ((*path, "kernel"), layer, shape)
        found[f"{name}.bias"] = ((*path, "bias"), layer, shape[:1])
    for layer in range(config.layers):
        for place, block in _LAYER_NORMS.items():
            for name, path in _NORM.items():
                found[f"encoder.layer.{layer}.{place}{name}"] = (("layers", *block, *path), layer, (size,))
    return found


def dense_layers(config: BertConfig) -> dict[str, Place]:
    """The dense layers of an encoder: their place in the tree, layer and shape [outputs, inputs], by BERT's name."""
    size, inner = config.hidden_size, config.intermediate_size
    shapes = {"inner": (inner, size), "outer": (size, inner)}
    found: dict[str, Place] = {}
    for layer in range(config.layers):
        for name, path in LAYER_DENSE.items():
            found[f"encoder.layer.{layer}.{name}"] = (("layers", *path), layer, shapes.get(path[-1], (size, size)))
    if config.embedding_width != size:
        found["embeddings_project"] = (OTHER_DENSE["embeddings_project"], None, (size, config.embedding_width))
    if config.pooler:
        found["pooler.dense"] = (OTHER_DENSE["pooler.dense"], None, (size, size))
    return found


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """What the shapes of an encoder's tensors say of its sizes, by the names of BERT's config.json.

    Args:
        shapes: by names of today without prefix.
    """
    places = {
        "vocab_size": (WORDS, 0),
        "embedding_size": (WORDS, 1),
        "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
        "hidden_size": ("encoder.layer.0.attention.self.query.weight", 0),
        "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
    }
    found = {size: shapes[name][axis] for size, (name, axis) in places.items() if len(shapes.get(name, ())) == 2}
    layers = {int(match[1]) for name in shapes if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    return found | ({"num_hidden_layers": max(layers) + 1} if layers else {})
