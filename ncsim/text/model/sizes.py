"""What an encoder of BERT's family is: its sizes, and the few ways in which the families differ from BERT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ncsim.errors import ConfigError
from ncsim.text.model.activations import ACTIVATIONS

#: The families by the model_type that their config.json says. DPR's encoders are BERTs in a wrapper.
FAMILIES = {
    "bert": "bert",
    "dpr": "bert",
    "distilbert": "distilbert",
    "electra": "electra",
    "roberta": "roberta",
    "xlm-roberta": "xlm-roberta",
    "camembert": "camembert",
}
#: Families that count positions from behind the id of their padding.
_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
#: Fields of config.json that would make another network of it, with the one value that leaves it an encoder.
_ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
}
#: Our names of the sizes in config.json, and DistilBERT's names of BERT's fields.
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
}
_DISTILBERT = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder of BERT's family (Devlin et al. 2019). The defaults are bert-base-uncased's.

    Attributes:
        vocab_size: tokens, 1 or more.
        hidden_size: width D of the hidden states, 1 or more.
        layers: 1 or more.
        heads: of attention, 1 or more; they divide `hidden_size`.
        intermediate_size: units of a feed-forward layer, 1 or more.
        max_positions: longest sequence in tokens, 1 or more.
        type_vocab_size: kinds of segments, 0 or more; 0 for a model that has none (DistilBERT).
        layer_norm_eps: added to the variance, above 0 and below 1.
        activation: of the feed-forward layers, a name in `ncsim/text/model/activations.py`.
        pooler: False for a checkpoint without one, whose first token's hidden state can still be read.
        embedding_size: width of the embeddings where it is not `hidden_size` (ELECTRA), 1 or more; 0 is `hidden_size`.
        pad_id: where positions start behind the id of the padding, that id (RoBERTa), 0 or more; None where they start at 0.
        model_type: the family: "bert", "distilbert", "electra", "roberta", "xlm-roberta" or "camembert".

    Raises:
        ConfigError: a size out of its range, a width that the heads do not divide, an unknown activation or family.

    Example:
        >>> BertConfig(hidden_size=32, heads=4).layers
        12
        >>> sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        >>> sizes |= {"vocab_size": 97, "max_position_embeddings": 34, "model_type": "roberta"}
        >>> roberta = BertConfig.from_dict(sizes)
        >>> roberta.max_positions, roberta.position_rows, roberta.embedding_width, roberta.reads_segments
        (32, 34, 32, True)
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
    embedding_size: int = 0
    pad_id: int | None = None
    model_type: str = "bert"

    def __post_init__(self) -> None:
        for name in (*_SIZES.values(), "embedding_size"):
            value, least = getattr(self, name), 0 if name in ("type_vocab_size", "embedding_size") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"BERT's {name}: {value!r}; allowed: whole numbers from {least}")
        if self.hidden_size % self.heads:
            raise ConfigError(f"BERT's heads: {self.heads}; allowed: divisors of hidden_size, {self.hidden_size}")
        if not isinstance(self.layer_norm_eps, int | float) or not 0 < self.layer_norm_eps < 1:
            raise ConfigError(f"BERT's layer_norm_eps: {self.layer_norm_eps!r}; allowed: above 0, below 1")
        # Whatever JSON can hold may stand there, a list too.
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise ConfigError(f"BERT's activation: {self.activation!r}; allowed: {', '.join(ACTIVATIONS)}")
        if self.model_type not in FAMILIES.values():
            families = ", ".join(dict.fromkeys(FAMILIES.values()))
            raise ConfigError(f"BERT's model_type: {self.model_type!r}; allowed: {families}")

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def position_rows(self) -> int:
        """Rows of the table of positions; RoBERTa's first `pad_id` + 1 belong to no token."""
        return self.max_positions + (0 if self.pad_id is None else self.pad_id + 1)

    @property
    def reads_segments(self) -> bool:
        """Whether a token's segment matters. RoBERTa has one kind, which all tokens get; DistilBERT none."""
        return self.type_vocab_size > 1 or (self.type_vocab_size == 1 and self.pad_id is None)

    @staticmethod
    def from_dict(description: Mapping[str, Any], pooler: bool = True) -> BertConfig:
        """What Hugging Face's config.json or Google's bert_config.json says, as read from JSON.

        Dropout rates in it are ignored: nothing frozen drops. Old files lack some fields, which then have their old values.

        Args:
            description: the file's object.
            pooler: whether the checkpoint has a pooler.

        Raises:
            ConfigError: it describes another network than an encoder of BERT's family, or a size is missing or out of range.
        """
        family = _family(description)
        for name, allowed in _ONLY.items():
            value = description.get(name, allowed)
            if value != allowed:
                raise ConfigError(f"config.json: {name} is {value!r}; allowed: {allowed!r}, this is no BERT encoder")
        fields = dict(description)
        if family == "distilbert":
            fields = {_DISTILBERT.get(name, name): value for name, value in fields.items()}
            fields |= {"type_vocab_size": 0, "layer_norm_eps": 1e-12}
        fields.setdefault("type_vocab_size", 2)
        missing = [name for name in _SIZES if name not in fields]
        if missing:
            raise ConfigError(f"config.json: {', '.join(missing)} missing; a BERT's must have {', '.join(_SIZES)}")
        options: dict[str, Any] = {}
        sizes = {ours: fields[theirs] for theirs, ours in _SIZES.items()}
        if family in _BEHIND_PADDING:
            pad = fields.get("pad_token_id", 1)
            if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
                raise ConfigError(f"config.json: pad_token_id is {pad!r}; allowed: whole numbers from 0")
            options["pad_id"] = pad
            rows = sizes["max_positions"]
            if isinstance(rows, int) and not isinstance(rows, bool):
                if rows <= pad + 1:
                    raise ConfigError(
                        f"config.json: max_position_embeddings is {rows!r}; allowed: above {pad + 1}, "
                        "since positions start behind the padding's id"
                    )
                sizes["max_positions"] = rows - pad - 1
        if family == "electra" and fields.get("embedding_size", 128) != sizes["hidden_size"]:
            options["embedding_size"] = fields.get("embedding_size", 128)
        return BertConfig(
            **sizes,
            layer_norm_eps=fields.get("layer_norm_eps", 1e-12),
            activation=fields.get("hidden_act", "gelu"),
            pooler=pooler,
            model_type=family,
            **options,
        )


def _family(description: Mapping[str, Any]) -> str:
    """The family that a config.json says, or shows where it is older than model_type."""
    said = description.get("model_type")
    allowed = ", ".join(map(repr, FAMILIES))
    if said is not None:
        if not isinstance(said, str) or said not in FAMILIES:
            raise ConfigError(f"config.json: model_type is {said!r}; allowed: {allowed}, this is no BERT encoder")
        return FAMILIES[said]
    architectures = description.get("architectures")
    for name in architectures if isinstance(architectures, list) else ():
        plain = str(name).lower().removeprefix("tf").removeprefix("flax")
        # The longest first: XLMRobertaModel is no RobertaModel.
        for family in sorted(FAMILIES, key=len, reverse=True):
            if plain.startswith(family.replace("-", "")):
                return FAMILIES[family]
    if "dim" in description and "n_layers" in description:
        return "distilbert"
    if description.get("pad_token_id") or description.get("max_position_embeddings") == 514:
        raise ConfigError(
            "config.json: has no model_type, and its padding or its 514 positions are RoBERTa's and not BERT's; "
            f"allowed: a model_type, one of {allowed}"
        )
    return "bert"
