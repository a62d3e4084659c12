"""Adapters on disk, in PEFT's format, their heads in a file of their own beside.

    adapter_model.safetensors   base_model.model.encoder.layer.<i>.attention.self.<query|value>.lora_<A|B>.weight
    adapter_config.json         rank, alpha, dropout, target modules, as peft.LoraConfig writes them
    heads.safetensors           <head>.weight [classes, D] and <head>.bias [classes], as torch.nn.Linear has them

`peft.PeftModel.from_pretrained` reads such a folder over `transformers.BertModel`; it has no place for heads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ncsim.errors import ConfigError, missing_extra
from ncsim.formatting import json_text
from ncsim.storage.files import write_atomically
from ncsim.text.model.bert import BertConfig
from ncsim.text.model.lora import TARGETS, check_rank, pad_adapter

try:
    import safetensors
    import safetensors.numpy
except ImportError as error:
    raise missing_extra(error) from error

WEIGHTS_FILE, CONFIG_FILE, HEADS_FILE = "adapter_model.safetensors", "adapter_config.json", "heads.safetensors"

_FACTOR = re.compile(
    r"base_model\.model\.(?:bert\.)?encoder\.layer\.(\d+)\.attention\.self\.(\w+)\.lora_([AB])\.weight"
)
#: Fields that say nothing about what the adapter computes.
_SILENT = (
    "peft_version base_model_name_or_path revision task_type inference_mode auto_mapping megatron_core qalora_group_size"
).split()
#: Fields that we read, or whose value must be one of these. Every other field must be unset: null, false or empty.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # How the factors were drawn; other ways change the backbone's weights as well.
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
_READ = ("r", "lora_alpha", "lora_dropout", "target_modules")


class StoredAdapter(NamedTuple):
    """An adapter as a folder holds it (Hu et al. 2021).

    Attributes:
        adapter: NumPy float32, as `save_adapter` takes it; without "heads" where there is no such file.
        rank: of the factors, 1 to the backbone's width.
        alpha: LoRA's alpha, 0 or above.
        dropout: of LoRA's inputs while it was trained, 0 or above.

    Example:
        >>> StoredAdapter({}, rank=2, alpha=16.0, dropout=0.0).scale
        8.0
    """

    adapter: dict[str, Any]
    rank: int
    alpha: float
    dropout: float

    @property
    def scale(self) -> float:
        """alpha / rank, what the product of the factors is multiplied by."""
        return self.alpha / self.rank


def save_adapter(
    folder: str | Path,
    adapter: Mapping[str, Any],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    base_model: str | None = None,
) -> None:
    """Write an adapter (Hu et al. 2021), cut to its true rank. Each file is there whole or not at all, the config last.

    Args:
        folder: made if it is not there; an adapter in it is replaced.
        adapter: float32 arrays of L layers, width D and rank R: a [L, D, R], b [L, R, D]; of heads [2, D, 2] and [2, 2].
        rank: 1 or more; beyond it the factors must be 0.
        alpha: LoRA's alpha; the factors' product is scaled by alpha / rank.
        dropout: of LoRA's inputs, for the record, 0 to 0.99.
        base_model: name or folder of the backbone, for the record.

    Raises:
        ConfigError: the adapter has more than `rank` in it.

    Example:
        >>> pair = {"a": np.ones((2, 32, 4)), "b": np.zeros((2, 4, 32))}
        >>> lora = {"layers": {"attention": {"query": pair, "value": pair}}}
        >>> heads = {"kernel": np.zeros((2, 32, 2)), "bias": np.zeros((2, 2))}
        >>> save_adapter("adapter", {"lora": lora, "heads": heads}, rank=4, alpha=16.0)
        >>> load_adapter("adapter", BertConfig(hidden_size=32, layers=2, heads=4)).scale
        4.0
    """
    folder = Path(folder)
    adapter = jax.tree.map(np.asarray, pad_adapter(adapter, rank))
    factors = {}
    for target, pair in adapter["lora"]["layers"]["attention"].items():
        for name, stacked in (("A", pair["a"]), ("B", pair["b"])):
            for layer, matrix in enumerate(stacked):
                key = f"base_model.model.encoder.layer.{layer}.attention.self.{target}.lora_{name}.weight"
                factors[key] = np.ascontiguousarray(matrix.T, np.float32)
    heads = {}
    for head, (kernel, bias) in enumerate(zip(adapter["heads"]["kernel"], adapter["heads"]["bias"], strict=True)):
        heads[f"{head}.weight"] = np.ascontiguousarray(kernel.T, np.float32)
        heads[f"{head}.bias"] = np.ascontiguousarray(bias, np.float32)
    description: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": list(TARGETS),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS_FILE, safetensors.numpy.save(factors, {"format": "pt"}))
    write_atomically(folder / HEADS_FILE, safetensors.numpy.save(heads, {"format": "pt"}))
    write_atomically(folder / CONFIG_FILE, (json_text(description, 2) + "\n").encode())


def load_adapter(folder: str | Path, config: BertConfig) -> StoredAdapter:
    """An adapter for a backbone of these sizes, written by us or by PEFT (Hu et al. 2021).

    Args:
        folder: with adapter_config.json and adapter_model.safetensors, and heads.safetensors where it has heads.
        config: the backbone's sizes, as `load_backbone` gives them.

    Returns:
        The adapter, its rank, alpha and dropout.

    Raises:
        ConfigError: no adapter is there, it is of another kind or for another backbone, or tensors are missing or surplus.

    Example:
        >>> stored = load_adapter("tiny-adapter", BertConfig(hidden_size=32, layers=2, heads=4))  # a folder of PEFT's
        >>> stored.rank, stored.alpha, sorted(stored.adapter["lora"]["layers"]["attention"])
        (4, 6.0, ['query', 'value'])
    """
    folder = Path(folder)
    description = _description(folder)
    rank, alpha, dropout = (
        description.get(name, default) for name, default in (("r", 8), ("lora_alpha", 8), ("lora_dropout", 0))
    )
    for name, value in (("lora_alpha", alpha), ("lora_dropout", dropout)):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"{folder / CONFIG_FILE}: {name} is {value!r}; allowed: numbers from 0")
    try:
        check_rank(rank, config)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: r: {error}") from None
    adapter: dict[str, Any] = {"lora": {"layers": {"attention": _factors(folder / WEIGHTS_FILE, config, rank)}}}
    if (folder / HEADS_FILE).exists():
        adapter["heads"] = _heads(folder / HEADS_FILE, config)
    return StoredAdapter(adapter, rank, alpha, dropout)


def _description(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{folder}: no adapter is there (no {CONFIG_FILE})") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON ({error})") from None
    if not isinstance(description, dict):
        raise ConfigError(f"{file}: is no JSON object")
    targets = description.get("target_modules")
    if not isinstance(targets, list) or sorted(map(str, targets)) != sorted(TARGETS):
        raise ConfigError(f"{file}: target_modules is {targets!r}; allowed: {', '.join(TARGETS)}")
    for name, value in description.items():
        if name in _SILENT or name in _READ:
            continue
        if name in _ALLOWED:
            if value not in _ALLOWED[name]:
                allowed = ", ".join(map(repr, _ALLOWED[name]))
                raise ConfigError(f"{file}: {name} is {value!r}; allowed: {allowed}")
        elif value:
            raise ConfigError(f"{file}: {name} is {value!r}; allowed: unset, plain LoRA is all that is read")
    if "peft_type" not in description:
        raise ConfigError(f"{file}: has no peft_type; allowed: 'LORA'")
    return description


def _factors(file: Path, config: BertConfig, rank: int) -> dict[str, Any]:
    size, layers = config.hidden_size, config.layers
    shapes = {"A": (rank, size), "B": (size, rank)}
    tensors = _read(file)
    found: dict[str, Any] = {
        target: {"a": np.empty((layers, size, rank), np.float32), "b": np.empty((layers, rank, size), np.float32)}
        for target in TARGETS
    }
    missing = {(layer, target, name) for layer in range(layers) for target in TARGETS for name in shapes}
    for key, matrix in tensors.items():
        match = _FACTOR.fullmatch(key)
        place = (int(match[1]), match[2], match[3]) if match else None
        if place not in missing:
            what = "more than once" if place and place[0] < layers and place[1] in TARGETS else "no place here"
            raise ConfigError(
                f"{file}: {key} has {what}; allowed: lora_A and lora_B of {layers} layers' query and value"
            )
        assert place is not None
        layer, target, name = place
        if matrix.shape != shapes[name]:
            raise ConfigError(
                f"{file}: {key} is {list(matrix.shape)}; allowed: {list(shapes[name])}, rank {rank} on a backbone {size} wide"
            )
        found[target][name.lower()][layer] = matrix.T
        missing.remove(place)
    if missing:
        layer, target, name = min(missing)
        raise ConfigError(
            f"{file}: {len(missing)} tensors missing, the first layer {layer}'s {target}.lora_{name}; the backbone has {layers} layers"
        )
    return found


def _heads(file: Path, config: BertConfig) -> dict[str, Any]:
    tensors = _read(file)
    count = len(tensors) // 2
    names = {f"{head}.{part}" for head in range(count) for part in ("weight", "bias")}
    if not count or names != set(tensors):
        raise ConfigError(
            f"{file}: holds {', '.join(sorted(tensors)[:4]) or 'nothing'}; allowed: 0.weight, 0.bias, 1.weight, ..."
        )
    classes = tensors["0.bias"].shape[0] if tensors["0.bias"].ndim else 0
    for head in range(count):
        for part, shape in (("weight", (classes, config.hidden_size)), ("bias", (classes,))):
            found = tensors[f"{head}.{part}"].shape
            if found != shape:
                raise ConfigError(f"{file}: {head}.{part} is {list(found)}; allowed: {list(shape)}")
    return {
        "kernel": np.stack([tensors[f"{head}.weight"].T for head in range(count)]),
        "bias": np.stack([tensors[f"{head}.bias"] for head in range(count)]),
    }


def _read(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a file as float32."""
    try:
        tensors = safetensors.numpy.load_file(file)
    except FileNotFoundError:
        more = "" if not list(file.parent.glob("*.bin")) else "; a .bin file is pickle and is not read"
        raise ConfigError(f"{file.parent}: holds no {file.name}{more}") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError(f"{file}: does not read as safetensors ({error})") from None
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
