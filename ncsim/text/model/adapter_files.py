"""Adapters on disk, in PEFT's format, their heads in a file of their own beside.

    adapter_model.safetensors   base_model.model.encoder.layer.<i>.attention.self.<query|value>.lora_<A|B>.weight
    adapter_config.json         rank, alpha, dropout, target modules, as peft.LoraConfig writes them
    heads.safetensors           <head>.weight [classes, D] and <head>.bias [classes], as torch.nn.Linear has them

`peft.PeftModel.from_pretrained` reads such a folder over the encoder, which `transformers.AutoModel` gives (of DPR it gives a wrapper);
it has no place for heads. What PEFT
itself wrote is read by `adapter_settings.py` and `adapter_tensors.py`. An adapter of `--adaptation mps` is stored as the LoRA that it is; one
of `full`, at rank 0, has no factors: see `dense_files.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ncsim.errors import ConfigError, missing_extra
from ncsim.formatting import json_text
from ncsim.storage.checksums import UNSEALED, sealed
from ncsim.storage.files import write_atomically
from ncsim.text.json_files import json_object
from ncsim.text.model.adaptations import as_lora
from ncsim.text.model.adapter_settings import AdapterSettings
from ncsim.text.model.adapter_tensors import read_factors
from ncsim.text.model.checkpoint import FLOATS, as_float32
from ncsim.text.model.dense_files import KIND, read_updates
from ncsim.text.model.lora import check_rank, pad_adapter
from ncsim.text.model.names import LAYER_DENSE, OTHER_DENSE, module_name
from ncsim.text.model.sizes import BertConfig

try:
    import safetensors
    import safetensors.numpy
except ImportError as error:
    raise missing_extra(error) from error

FRONT = "base_model.model."
WEIGHTS_FILE, CONFIG_FILE, HEADS_FILE = "adapter_model.safetensors", "adapter_config.json", "heads.safetensors"
#: Heads of one dense layer over a token or the pooler, as transformers calls them.
_HEADS = ("classifier", "score")


class StoredAdapter(NamedTuple):
    """An adapter as a folder holds it (Hu et al. 2021).

    Attributes:
        adapter: NumPy float32, as `save_adapter` takes it; without "heads" where there are none.
        rank: of the factors, 1 to the backbone's width; the largest where layers differ, and the others are zero-padded.
        alpha: LoRA's alpha, 0 or above. Where PEFT's scale is another than alpha / rank (rank-stabilised, or of several
            layers), it is such that alpha / rank is the largest scale, and B carries what another layer's is below it.
        dropout: of LoRA's inputs while it was trained, 0 or above.
        left_out: names of stored tensors that have no place here: heads of another form, factors outside the encoder.

    Example:
        >>> StoredAdapter({}, rank=2, alpha=16.0, dropout=0.0).scale
        8.0
    """

    adapter: dict[str, Any]
    rank: int
    alpha: float
    dropout: float
    left_out: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """alpha / rank, what the product of the factors is multiplied by."""
        return self.alpha / self.rank


def save_adapter(
    folder: str | os.PathLike[str],
    adapter: Mapping[str, Any],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    base_model: str | os.PathLike[str] | None = None,
    model_type: str = "bert",
) -> None:
    """Write an adapter (Hu et al. 2021), cut to its true rank. Each file is there whole or not at all, the config last.

    Args:
        folder: made if it is not there; an adapter in it is replaced.
        adapter: float32 arrays of L layers, width D and rank R: a [L, D, R], b [L, R, D], perhaps bias [L, D]; of heads
            [2, D, 2] and [2, 2].
        rank: 1 or more; beyond it the factors must be 0.
        alpha: LoRA's alpha; the factors' product is scaled by alpha / rank.
        dropout: of LoRA's inputs, for the record, 0 to 0.99.
        base_model: name or folder of the backbone, for the record.
        model_type: the backbone's family, by which PEFT names its layers.

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
    contents = adapter_contents(
        adapter, rank=rank, alpha=alpha, dropout=dropout, model_type=model_type,
        base_model=None if base_model is None else os.fspath(base_model),
    )  # fmt: skip
    for name in (WEIGHTS_FILE, HEADS_FILE, CONFIG_FILE):
        write_atomically(folder / name, contents[name])


def adapter_contents(
    adapter: Mapping[str, Any],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    base_model: str | None,
    model_type: str,
    seal: bool = False,
) -> dict[str, bytes]:
    """The files of an adapter by name, as `save_adapter` writes them; with `seal`, the heads hold checksums of all three."""
    adapter = jax.tree.map(np.asarray, pad_adapter({**adapter, "lora": as_lora(adapter["lora"])}, rank))
    factors, targets = _factors(adapter["lora"], model_type)
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
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    if not rank:
        factors = {name.removeprefix(FRONT): tensor for name, tensor in factors.items()}
        description = {"peft_type": KIND, "base_model_name_or_path": base_model, "target_modules": targets}
    if any(name.endswith(".bias") for name in factors):
        description["lora_bias"] = True
    if "output.dense" in targets and "attention.output.dense" not in targets:
        # PEFT takes ends of names, and this is the end of attention's too.
        description["exclude_modules"] = ["attention.output.dense"]
    contents = {
        WEIGHTS_FILE: safetensors.numpy.save(factors, {"format": "pt"}),
        CONFIG_FILE: (json_text(description, 2) + "\n").encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    # One entry, since safetensors writes several in any order.
    said = {"ncsim": json.dumps(digests | {"checksum": UNSEALED})} if seal else {"format": "pt"}
    stored = safetensors.numpy.save(heads, said)
    return contents | {HEADS_FILE: sealed(stored) if seal else stored}


def load_adapter(folder: str | os.PathLike[str], config: BertConfig) -> StoredAdapter:
    """An adapter for a backbone of these sizes, written by us or by PEFT (Hu et al. 2021).

    PEFT's may have factors in any dense layers of the encoder, of several ranks and scales, with biases. A classifier beside
    them becomes the one head where it is a single dense layer: of BERT's sequence classifiers it reads the pooler, of token
    classifiers a token.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors, and heads.safetensors where it has heads.
        config: the backbone's sizes, as `load_backbone` gives them.

    Returns:
        The adapter, its rank, alpha and dropout, and the names of what is left out.

    Raises:
        ConfigError: no adapter is there, it is of another kind or for another backbone, or tensors are missing or surplus.

    Example:
        >>> stored = load_adapter("tiny-adapter", BertConfig(hidden_size=32, layers=2, heads=4))  # a folder of PEFT's
        >>> stored.rank, stored.alpha, sorted(stored.adapter["lora"]["layers"]["attention"])
        (4, 6.0, ['query', 'value'])
    """
    folder = Path(folder)
    if _says_dense(folder / CONFIG_FILE):
        return _load_dense(folder, config)
    settings = AdapterSettings(folder / CONFIG_FILE)
    try:
        check_rank(settings.rank, config)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: r: {error}") from None
    found = read_factors(folder / WEIGHTS_FILE, _read(folder / WEIGHTS_FILE, "lora_"), settings, config)
    adapter: dict[str, Any] = {"lora": found.lora}
    left_out = [*found.left_out, *found.others]
    if (folder / HEADS_FILE).exists():
        adapter["heads"] = _heads(folder / HEADS_FILE, config)
    elif head := _classifier(found.others, config):
        adapter["heads"], left_out = head, found.left_out
    plain = found.rank == settings.rank and found.scales == {settings.alpha / settings.rank}
    alpha = settings.alpha if plain else max(found.scales) * found.rank
    return StoredAdapter(adapter, found.rank, alpha, settings.dropout, tuple(left_out))


def _says_dense(file: Path) -> bool:
    """Whether a folder has updates without factors, as `--adaptation full` stores them."""
    return file.exists() and json_object(file).get("peft_type") == KIND


def _load_dense(folder: Path, config: BertConfig) -> StoredAdapter:
    """Updates without factors. Their rank is the backbone's width and their scale 1."""
    lora = read_updates(folder / WEIGHTS_FILE, _read(folder / WEIGHTS_FILE), config)
    adapter = {"lora": lora, "heads": _heads(folder / HEADS_FILE, config)}
    return StoredAdapter(adapter, config.hidden_size, float(config.hidden_size), 0.0)


def _factors(lora: Mapping[str, Any], model_type: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Tensors as PEFT names them, and the targets that they are of."""
    modules = list(_dense(lora, model_type))
    factors = {
        f"{FRONT}{name}.{part}": np.ascontiguousarray(pair[leaf].T, np.float32)
        for _, name, pair in modules
        for part, leaf in (("lora_A.weight", "a"), ("lora_B.weight", "b"), ("lora_B.bias", "bias"), ("weight", "dense"))
        if leaf in pair
    }
    return factors, list(dict.fromkeys(target for target, _, _ in modules))


def _dense(lora: Mapping[str, Any], model_type: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The dense layers that have factors: the target that PEFT finds it by, its name, and its arrays without L."""
    for target, (block, product) in LAYER_DENSE.items():
        if stacked := lora.get("layers", {}).get(block, {}).get(product):
            for layer in range(len(next(iter(stacked.values())))):
                name = module_name(model_type, layer, target)
                end = target.removeprefix("attention.self.") if name.endswith(target) else name.split(".", 3)[3]
                yield end, name, {leaf: array[layer] for leaf, array in stacked.items()}
    for name, path in OTHER_DENSE.items():
        tree: Any = lora
        for branch in path:
            tree = tree.get(branch, {})
        if tree:
            yield name, name, tree


def _classifier(others: Mapping[str, np.ndarray], config: BertConfig) -> dict[str, Any] | None:
    """The head that was trained beside an adapter, where it is one dense layer [classes, D] and nothing else was trained."""
    for name in _HEADS:
        names = {part: [key for key in others if key.split(".")[-2:] == [name, part]] for part in ("weight", "bias")}
        if not names["weight"] or {*names["weight"], *names["bias"]} != set(others):
            continue
        weight = others[names["weight"][0]]
        bias = others[names["bias"][0]] if names["bias"] else np.zeros(len(weight), np.float32)
        if weight.ndim == 2 and weight.shape[1] == config.hidden_size and bias.shape == weight.shape[:1]:
            return {"kernel": weight.T[None].copy(), "bias": bias[None].copy()}
    return None


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


def _read(file: Path, needed: str = "") -> dict[str, np.ndarray]:
    """All tensors of a file as float32. One without `needed` in its name may hold anything, as the counter of a head does, and is empty
    where that is no float."""

    def array(opened: Any, name: str) -> np.ndarray:
        there = needed in name or opened.get_slice(name).get_dtype() in FLOATS
        return as_float32(file, opened, name) if there else np.zeros(0, np.float32)

    try:
        with safetensors.safe_open(file, framework="np") as opened:
            return {name: array(opened, name) for name in list(opened.keys())}
    except FileNotFoundError:
        more = "" if not list(file.parent.glob("*.bin")) else "; a .bin file is pickle and is not read"
        raise ConfigError(f"{file.parent}: holds no {file.name}{more}") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError(f"{file}: does not read as safetensors ({error})") from None
