"""What PEFT's adapter_config.json says of a LoRA adapter: which dense layers have factors, of which rank and scale.

The rules are those of PEFT 0.21.2 (`tuners_utils.check_target_module_exists`, `other.get_pattern_key`, `lora.layer`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ncsim.config.fields import shown
from ncsim.errors import ConfigError
from ncsim.text.json_files import json_object

#: Fields that say nothing about what a trained adapter computes.
_SILENT = (
    "peft_version base_model_name_or_path revision task_type inference_mode auto_mapping megatron_core qalora_group_size "
    "eva_config runtime_config"
).split()
#: Fields whose value must be one of these.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # How the factors were drawn; other ways change the backbone's weights as well.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _names_or_pattern(value: Any) -> bool:
    return value is None or isinstance(value, str) or _names(value)


def _table(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, dict) and all(map(check, value.values())))


#: Fields that are read, what they must be, and in words. Every other field must be unset: null, false or empty.
_READ: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (lambda value: _whole(value, 1), "whole numbers from 1"),
    "lora_alpha": (_number, "numbers from 0"),
    "lora_dropout": (_number, "numbers from 0"),
    "target_modules": (_names_or_pattern, "a list of names, or a regular expression"),
    "exclude_modules": (_names_or_pattern, "a list of names, or a regular expression"),
    "modules_to_save": (lambda value: value is None or _names(value), "a list of names"),
    "layers_pattern": (_names_or_pattern, "a list of names, or a regular expression"),
    "layers_to_transform": (
        lambda value: value is None or _whole(value) or (isinstance(value, list) and all(map(_whole, value))),
        "a layer, or a list of layers",
    ),
    "rank_pattern": (_table(lambda value: _whole(value, 1)), "names with whole numbers from 1"),
    "alpha_pattern": (_table(_number), "names with numbers from 0"),
    "use_rslora": (lambda value: value in (None, True, False), "true or false"),
    "lora_bias": (lambda value: value in (None, True, False), "true or false"),
}


class AdapterSettings:
    """One adapter_config.json. Modules are named as in the model that was trained, such as "bert.encoder.layer.0.output.dense".

    Raises:
        ConfigError: it does not read, or is of another kind of adapter.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._fields = _description(file)
        self.rank: int = self._fields.get("r", 8)
        self.alpha: float = self._fields.get("lora_alpha", 8)
        self.dropout: float = self._fields.get("lora_dropout", 0)
        self.bias = bool(self._fields.get("lora_bias"))

    def has_factors(self, module: str, default: tuple[str, ...]) -> bool:
        """Whether a dense layer of the encoder is a target; `default` are the targets where none are said."""
        if self._named(module, self._fields.get("exclude_modules") or []):
            return False
        saved = self._fields.get("modules_to_save") or []
        if any(self._match(re.match, rf"(^|.*\.){name}($|\..*)", module) for name in saved):
            return False
        targets = self._fields.get("target_modules")
        targets = list(default) if targets is None else targets
        if isinstance(targets, str) and targets.lower() == "all-linear":
            return True
        found = self._named(module, targets)
        # PEFT reads layers_to_transform beside ends of names only.
        if found and not isinstance(targets, str) and module not in targets:
            return self._in_layers(module)
        return found

    def rank_of(self, module: str) -> int:
        """Rank of a dense layer's factors."""
        found: int = self._by_pattern("rank_pattern", module, self.rank)
        return found

    def scale_of(self, module: str) -> float:
        """What the product of a dense layer's factors is multiplied by."""
        rank, alpha = self.rank_of(module), self._by_pattern("alpha_pattern", module, self.alpha)
        return float(alpha / math.sqrt(rank) if self._fields.get("use_rslora") else alpha / rank)

    def targets(self) -> str:
        """The targets in words, for messages."""
        said = {name: self._fields.get(name) for name in ("target_modules", "exclude_modules", "layers_to_transform")}
        return ", ".join(f"{name} {shown(value)}" for name, value in said.items() if value not in (None, []))

    def _named(self, module: str, names: str | list[str]) -> bool:
        if isinstance(names, str):
            return self._match(re.fullmatch, names, module)
        return any(module == name or module.endswith(f".{name}") for name in names)

    def _in_layers(self, module: str) -> bool:
        layers, patterns = self._fields.get("layers_to_transform"), self._fields.get("layers_pattern")
        if layers is None or layers == []:
            return True
        expressions = [r".*?\.[^.]*\.(?P<idx>\d+)\."]
        if patterns:
            patterns = [patterns] if isinstance(patterns, str) else patterns
            expressions = [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in patterns]
        for expression in expressions:
            try:
                found = re.match(expression, module)
            except re.error as error:
                raise self._wrong(expression, error) from None
            if found:
                return int(found["idx"]) in (layers if isinstance(layers, list) else [layers])
        return False

    def _by_pattern(self, field: str, module: str, default: Any) -> Any:
        for name, value in (self._fields.get(field) or {}).items():
            if self._match(re.match, rf"(.*\.)?({name})$", module):
                return value
        return default

    def _match(self, how: Callable[[str, str], Any], expression: str, module: str) -> bool:
        try:
            return bool(how(expression, module))
        except re.error as error:
            raise self._wrong(expression, error) from None

    def _wrong(self, expression: str, error: re.error) -> ConfigError:
        return ConfigError(f"{self._file}: {expression!r} is no regular expression ({error})")


def _description(file: Path) -> Mapping[str, Any]:
    description = json_object(file, f"{file.parent}: no adapter is there (no {file.name})")
    if "peft_type" not in description:
        raise ConfigError(f"{file}: has no peft_type; allowed: 'LORA'")
    for name, value in description.items():
        if name in _READ:
            check, allowed = _READ[name]
            if not check(value):
                raise ConfigError(f"{file}: {name} is {value!r}; allowed: {allowed}")
        elif name in _ALLOWED:
            if value not in _ALLOWED[name]:
                raise ConfigError(f"{file}: {name} is {value!r}; allowed: {', '.join(map(repr, _ALLOWED[name]))}")
        elif value and name not in _SILENT:
            raise ConfigError(f"{file}: {name} is {value!r}; allowed: unset, plain LoRA is all that is read")
    return description
