"""Pretrained weights: a Hugging Face folder of safetensors, or a hub's, as the tree of `bert.py`, every tensor accounted for.

Both generations of names are read, with `bert.` in front or without, LayerNorm's as weight and bias or gamma and beta,
in one file or in shards with an index. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.errors import ConfigError, missing_extra
from ncsim.text.hub import backbone_folder
from ncsim.text.model.bert import BertConfig

try:
    import safetensors
except ImportError as error:
    raise missing_extra(error) from error

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
#: Tensors that a checkpoint may have and an encoder does not need: buffers, and the heads of other tasks.
HARMLESS = re.compile(r"(bert\.)?embeddings\.(position_ids|token_type_ids)|(cls|classifier|qa_outputs)\..+")
#: Types of numbers that become float32 without more than rounding.
_FLOATS = ("F64", "F32", "F16", "BF16")

# Paths in our tree by names in a checkpoint; kernels there are [outputs, inputs].
_NORM = {"LayerNorm.weight": ("norm", "scale"), "LayerNorm.bias": ("norm", "bias")}
_EMBEDDINGS = {
    "word_embeddings.weight": ("word",),
    "position_embeddings.weight": ("position",),
    "token_type_embeddings.weight": ("type",),
    **_NORM,
}
_LAYER = {
    "attention.self.query": ("attention", "query"),
    "attention.self.key": ("attention", "key"),
    "attention.self.value": ("attention", "value"),
    "attention.output.dense": ("attention", "output"),
    "intermediate.dense": ("feed_forward", "inner"),
    "output.dense": ("feed_forward", "outer"),
}
_LAYER_NORMS = {"attention.output.": ("attention",), "output.": ("feed_forward",)}


class _Tensors:
    """The tensors of one or several safetensors files by name; shapes and types without reading them."""

    def __init__(self, path: Path, files: Mapping[str, Any]) -> None:
        self.path = path
        self._files = files  # the open file of each name

    @staticmethod
    @contextlib.contextmanager
    def open(folder: Path) -> Iterator[_Tensors]:
        """All tensors of a checkpoint's folder."""
        with contextlib.ExitStack() as stack:
            by_name: dict[str, Any] = {}
            for file in weight_files(folder):
                try:
                    opened = stack.enter_context(safetensors.safe_open(file, framework="np"))
                except (safetensors.SafetensorError, OSError) as error:
                    raise ConfigError(f"{file}: does not read as safetensors ({error})") from None
                for name in list(opened.keys()):
                    if name in by_name:
                        raise ConfigError(f"{file}: {name} stands in another file of the checkpoint too")
                    by_name[name] = opened
            yield _Tensors(folder, by_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32."""
        kind = self._files[name].get_slice(name).get_dtype()
        if kind not in _FLOATS:
            raise ConfigError(f"{self.path}: {name} holds {kind}; allowed: {', '.join(_FLOATS)}")
        return np.asarray(self._files[name].get_tensor(name), np.float32)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the one, or the shards that its index names.

    Raises:
        ConfigError: there are none, or some are missing.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        places = _read_json(folder / INDEX_FILE).get("weight_map")
        shards = sorted(set(places.values())) if isinstance(places, dict) and places else []
        # A name with a folder in it could lead anywhere.
        if not shards or any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
            raise ConfigError(f"{folder / INDEX_FILE}: has no weight_map from tensors to files beside it")
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise ConfigError(f"{folder}: {', '.join(missing)} missing, which {INDEX_FILE} names")
        return [folder / shard for shard in shards]
    pickles = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
    if pickles:
        raise ConfigError(
            f"{folder}: has only {pickles[0]}, which is pickle and can run any program when read; allowed: {WEIGHTS_FILE}. "
            "Convert it where you trust it: transformers' save_pretrained writes safetensors"
        )
    raise ConfigError(f"{folder}: holds no weights; allowed: a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file.parent}: holds no {file.name}; allowed: a Hugging Face folder of a BERT") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: is no JSON object")
    return content


def _canonical_names(tensors: _Tensors) -> dict[str, str]:
    """The checkpoint's name of each tensor by its name in today's spelling without prefix; harmless ones left out."""
    wanted = [name for name in tensors if not HARMLESS.fullmatch(name)]
    prefixed = bool(wanted) and all(name.startswith("bert.") for name in wanted)
    names: dict[str, str] = {}
    for name in wanted:
        today = name.removeprefix("bert.") if prefixed else name
        today = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", today)
        today = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", today)
        if today in names:
            raise ConfigError(f"{tensors.path}: {name} and {names[today]} are the same tensor")
        names[today] = name
    return names


def _expected(config: BertConfig) -> dict[str, tuple[tuple[str, ...], int | None, tuple[int, ...]]]:
    """Path in our tree, layer, and shape in the checkpoint, by today's name."""
    size, inner = config.hidden_size, config.intermediate_size
    rows = {"word": config.vocab_size, "position": config.max_positions, "type": config.type_vocab_size}
    found: dict[str, tuple[tuple[str, ...], int | None, tuple[int, ...]]] = {}
    for name, path in _EMBEDDINGS.items():
        shape = (rows[path[0]], size) if path[0] in rows else (size,)
        found[f"embeddings.{name}"] = (("embeddings", *path), None, shape)
    shapes = {"inner": (inner, size), "outer": (size, inner)}
    for layer in range(config.layers):
        front = f"encoder.layer.{layer}."
        for name, path in _LAYER.items():
            shape = shapes.get(path[-1], (size, size))
            found[f"{front}{name}.weight"] = (("layers", *path, "kernel"), layer, shape)
            found[f"{front}{name}.bias"] = (("layers", *path, "bias"), layer, shape[:1])
        for place, block in _LAYER_NORMS.items():
            for name, path in _NORM.items():
                found[f"{front}{place}{name}"] = (("layers", *block, *path), layer, (size,))
    if config.pooler:
        found["pooler.dense.weight"] = (("pooler", "kernel"), None, (size, size))
        found["pooler.dense.bias"] = (("pooler", "bias"), None, (size,))
    return found


def _account_for(folder: Path, tensors: _Tensors, names: Mapping[str, str], expected: Mapping[str, Any]) -> None:
    wrong = []
    missing = [name for name in expected if name not in names]
    surplus = [original for name, original in names.items() if name not in expected]
    if missing:
        wrong.append(f"missing {_listed(missing)}")
    if surplus:
        wrong.append(f"surplus {_listed(surplus)}")
    for name, original in names.items():
        if name in expected and tensors.shape(original) != expected[name][2]:
            wrong.append(f"{original} is {list(tensors.shape(original))}, {list(expected[name][2])} by {CONFIG_FILE}")
    if wrong:
        raise ConfigError(f"{folder}: its tensors are not those of the BERT in {CONFIG_FILE}: {'; '.join(wrong)}")


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tree(
    config: BertConfig, tensors: _Tensors, names: Mapping[str, str], expected: Mapping[str, Any]
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, (path, layer, _) in expected.items():
        *branches, leaf = path
        place = tree
        for branch in branches:
            place = place.setdefault(branch, {})
        array = tensors.array(names[name])
        if not np.isfinite(array).all():
            raise ConfigError(f"{tensors.path}: {names[name]} holds numbers that are not finite")
        array = array.T if leaf == "kernel" else array
        if layer is None:
            place[leaf] = np.ascontiguousarray(array)
        else:
            # One layer at a time: a large checkpoint is never in memory twice.
            place.setdefault(leaf, np.empty((config.layers, *array.shape), np.float32))[layer] = array
    return tree


def load_backbone(source: str | Path, revision: str | None = None) -> tuple[BertConfig, dict[str, Any]]:
    """The sizes and the tree `params` of a pretrained BERT, NumPy float32 arrays.

    Args:
        source: a folder with config.json and model.safetensors (or its shards), or the id of a model on a Hugging Face
            hub, which is fetched into its cache.
        revision: of a hub's model: a branch, tag or commit; None for its main branch.

    Returns:
        The sizes, and arrays of L layers in front, as `ncsim/text/model/bert.py` has them (Devlin et al. 2019).

    Raises:
        ConfigError: nothing usable is there: no BERT, no safetensors, tensors missing, surplus or of a wrong shape.

    Example:
        >>> config, parameters = load_backbone("tiny-bert")  # the folder of any BERT
        >>> config.layers, config.hidden_size, sorted(parameters)
        (2, 32, ['embeddings', 'layers', 'pooler'])
    """
    folder = backbone_folder(source, revision)
    description = _read_json(folder / CONFIG_FILE)
    with _Tensors.open(folder) as tensors:
        names = _canonical_names(tensors)
        pooler = any(name.startswith("pooler.") for name in names)
        try:
            config = BertConfig.from_dict(description, pooler)
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from None
        expected = _expected(config)
        _account_for(folder, tensors, names, expected)
        return config, _tree(config, tensors, names, expected)


def backbone_fingerprint(model: Path) -> str:
    """What a checkpoint is, in sixteen digits of its files' content."""
    digest = hashlib.sha256()
    for path in [model / "config.json", *weight_files(model)]:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
