"""The tensors of an adapter that PEFT trained, as factors in the tree of `lora.py`.

The names say what is there: `base_model.model.` in front or not, the base model's name or not, an adapter's name in
`lora_A.default.weight` or not. adapter_config.json must agree with them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncsim.errors import ConfigError
from ncsim.formatting import counted
from ncsim.text.model.adapter_settings import AdapterSettings
from ncsim.text.model.lora import check_rank
from ncsim.text.model.names import dense_layers, module_name, todays_name
from ncsim.text.model.sizes import BertConfig

_FRONT = "base_model.model."
_FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.([^.]+))?\.(weight|bias)")
#: Parts of names that other kinds of adapters have.
_OTHER_KINDS = {
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "LoRA of embeddings",
    "lora_": "another kind of LoRA",
    "base_layer": "a trained base layer",
}
#: Parts of the encoder's names: a tensor of it that is no factor means that the encoder itself was trained.
_ENCODERS = re.compile(r"(?<![^.])(embeddings|embeddings_project|(encoder|transformer)\.layer|pooler)\.")
_WRAPPED = re.compile(r"\.(modules_to_save|original_module)(\.[^.]+)?(?=\.(weight|bias)$)")
#: Where target_modules may take the encoder to be, besides where the tensors have it.
_BASES = ("", "bert.", "distilbert.", "electra.", "roberta.")


class Factors(NamedTuple):
    """Factors of an adapter.

    Attributes:
        lora: the tree `lora`, with factors of the largest rank, zero-padded.
        rank: that rank.
        scales: of the dense layers, one each.
        left_out: names of tensors of no dense layer of the encoder.
        others: tensors that are no factors, by plain names: heads that were trained beside them.
    """

    lora: dict[str, Any]
    rank: int
    scales: set[float]
    left_out: list[str]
    others: dict[str, np.ndarray]


class _Module(NamedTuple):
    """A dense layer with factors."""

    name: str  # in the model that was trained
    parts: dict[str, np.ndarray]  # A [rank, inputs], B [outputs, rank], bias [outputs]


def read_factors(
    file: Path, tensors: Mapping[str, np.ndarray], settings: AdapterSettings, config: BertConfig
) -> Factors:
    """The factors in a file of tensors.

    Args:
        file: for messages.
        tensors: float32 by name.
        settings: what adapter_config.json says.
        config: the backbone's sizes.

    Raises:
        ConfigError: tensors have no place, are missing, misshapen, or not those that the settings say.
    """
    modules: dict[str, _Module] = {}
    left_out: list[str] = []
    others: dict[str, np.ndarray] = {}
    adapters: set[str] = set()
    dense = dense_layers(config)
    for key, tensor in tensors.items():
        name = key.removeprefix(_FRONT)
        found = _FACTOR.fullmatch(name)
        if found is None:
            _check_other(file, key)
            if ".original_module." not in name:
                others[_WRAPPED.sub("", name)] = tensor
            continue
        adapters.add(found[3] or "")
        place = _place(found[1], config)
        if place is None:
            left_out.append(key)
            continue
        part = "bias" if found[4] == "bias" else found[2]
        module = modules.setdefault(place, _Module(found[1], {}))
        if place not in dense or (found[2], found[4]) == ("A", "bias"):
            raise ConfigError(
                f"{file}: {key} has no place here; allowed: factors of dense layers of {config.layers} layers"
            )
        if part == "bias" and not settings.bias:
            raise ConfigError(
                f"{file}: {key} is there, and adapter_config.json does not say lora_bias; allowed: both alike"
            )
        if part in module.parts or module.name != found[1]:
            raise ConfigError(f"{file}: {key} has more than one tensor; allowed: one each")
        module.parts[part] = tensor
    if len(adapters) > 1:
        raise ConfigError(f"{file}: holds {len(adapters)} adapters ({', '.join(sorted(adapters))}); allowed: one")
    _check_agreement(file, modules, settings, config)
    return _assembled(file, modules, settings, config, sorted(left_out), others)


def _check_other(file: Path, key: str) -> None:
    for part, kind in _OTHER_KINDS.items():
        if part in key:
            raise ConfigError(f"{file}: {key} is of {kind}; allowed: lora_A and lora_B, plain LoRA is all that is read")
    if _ENCODERS.search(key):
        raise ConfigError(f"{file}: {key} is the encoder's own, which was trained too; allowed: LoRA and heads")


def _place(module: str, config: BertConfig) -> str | None:
    """BERT's name of a dense layer without prefix; None for one that is outside the encoder, or in a pooler that it lacks."""
    today = todays_name(module)
    inside = _ENCODERS.search(f"{today}.")
    if inside is None:
        return None
    place = today[inside.start() :]
    return None if place.startswith("pooler.") and not config.pooler else place


def _check_agreement(file: Path, modules: Mapping[str, _Module], settings: AdapterSettings, config: BertConfig) -> None:
    """Every dense layer that the settings name has its factors, and no other.

    Raises:
        ConfigError: naming the first.
    """
    prefixes = {todays_name(module.name).removesuffix(place) for place, module in modules.items()}
    if len(prefixes) > 1:
        fronts = ", ".join(sorted(map(repr, prefixes)))
        raise ConfigError(f"{file}: holds factors of several models, under {fronts}; allowed: one")
    # The tensors say how the family spells its layers, and only without any the backbone does.
    family = config.model_type
    if modules:
        family = "distilbert" if any(each.name != todays_name(each.name) for each in modules.values()) else "bert"
    spelled = functools.partial(_spelled, family)
    default = ("q_lin", "v_lin") if family == "distilbert" else ("query", "value")
    dense = dense_layers(config)
    wrong = ""
    for prefix in dict.fromkeys((*prefixes, *_BASES)):
        named = {place for place in dense if settings.has_factors(prefix + spelled(place), default)}
        # A pooler that nothing reads, such as a token classifier's, is often not there while training.
        if "pooler.dense" not in modules:
            named.discard("pooler.dense")
        extra = [place for place in modules if place not in named]
        missing = [
            f"{spelled(place)}.lora_{part}"
            for place in dense
            if place in named
            for part in ("A", "B", *(["B.bias"] if settings.bias else []))
            if part.removeprefix("B.") not in (modules[place].parts if place in modules else {})
        ]
        if not extra and not missing:
            break
        if extra:
            words = (
                f"{modules[extra[0]].name} has factors, which adapter_config.json does not say ({settings.targets()})"
            )
        else:
            words = f"{counted(len(missing), 'tensor')} missing, the first {missing[0]}, of what adapter_config.json says ({settings.targets()})"
        wrong = wrong or f"{file}: {words}; allowed: both alike, on a backbone of {config.layers} layers"
    else:
        raise ConfigError(wrong)
    if not modules:
        raise ConfigError(f"{file}: holds no factors of the encoder; allowed: lora_A and lora_B of its dense layers")


def _spelled(model_type: str, place: str) -> str:
    """A dense layer's name in its family, from BERT's."""
    found = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", place)
    return module_name(model_type, int(found[1]), found[2]) if found else place


def _assembled(
    file: Path,
    modules: Mapping[str, _Module],
    settings: AdapterSettings,
    config: BertConfig,
    left_out: list[str],
    others: dict[str, np.ndarray],
) -> Factors:
    """The modules as one tree, each layer's factors padded to the largest rank; layers without have zeros.

    B and bias carry what a module's scale is above or below the largest.
    """
    dense = dense_layers(config)
    scales = {place: settings.scale_of(module.name) for place, module in modules.items()}
    ranks = {place: settings.rank_of(module.name) for place, module in modules.items()}
    width, largest = max(ranks.values()), max(scales.values())
    lora: dict[str, Any] = {}
    for place, (name, parts) in modules.items():
        path, layer, (outputs, inputs) = dense[place]
        rank = ranks[place]
        check_rank(rank, config)
        shapes = {"A": (rank, inputs), "B": (outputs, rank), "bias": (outputs,)}
        for part, tensor in parts.items():
            if tensor.shape != shapes[part]:
                raise ConfigError(
                    f"{file}: {name}.lora_{part} is {list(tensor.shape)}; allowed: {list(shapes[part])}, rank {rank} "
                    f"on a backbone {config.hidden_size} wide"
                )
        tree = lora
        for branch in path:
            tree = tree.setdefault(branch, {})
        lead = () if layer is None else (config.layers,)
        whole = {"a": (*lead, inputs, width), "b": (*lead, width, outputs)}
        whole |= {"bias": (*lead, outputs)} if "bias" in parts else {}
        for leaf, shape in whole.items():
            tree.setdefault(leaf, np.zeros(shape, np.float32))
        share = np.float32(scales[place] / largest if largest else 1)
        where = ... if layer is None else layer
        tree["a"][where][:, :rank] = parts["A"].T
        tree["b"][where][:rank] = parts["B"].T * share
        if "bias" in parts:
            tree["bias"][where] = parts["bias"] * share
    return Factors(lora, width, set(scales.values()), left_out, others)
