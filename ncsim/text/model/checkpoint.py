"""Pretrained weights: a Hugging Face folder of safetensors, or a hub's, as the tree of `bert.py`, every tensor accounted for.

The encoder is found by its names (`names.py`), whatever stands in front of them. Heads and wrappers are left out, by name.
Weights are in one file or in shards with an index. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncsim.errors import ConfigError, missing_extra
from ncsim.text.hub import backbone_folder
from ncsim.text.json_files import json_object
from ncsim.text.model.names import WORDS, Place, expected, own_names, prefixes, sizes_of
from ncsim.text.model.sizes import FAMILIES, BertConfig

try:
    import safetensors
except ImportError as error:
    raise missing_extra(error) from error

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
#: As Google's own checkpoints have it.
OLD_CONFIG_FILE = "bert_config.json"
#: Types of numbers that become float32 without more than rounding.
FLOATS = ("F64", "F32", "F16", "BF16")


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
        return as_float32(self.path, self._files[name], name)


def as_float32(where: Path, opened: Any, name: str) -> np.ndarray:
    """A tensor of an open safetensors file as float32; what float32 does not hold is infinite.

    Raises:
        ConfigError: it holds whole numbers, as quantised weights do, or floats of another type.
    """
    kind = opened.get_slice(name).get_dtype()
    if kind not in FLOATS:
        raise ConfigError(f"{where}: {name} holds {kind}; allowed: {', '.join(FLOATS)}")
    with np.errstate(over="ignore"):
        return np.asarray(opened.get_tensor(name), np.float32)


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
    return json_object(file, f"{file.parent}: holds no {file.name}; allowed: a Hugging Face folder of a BERT")


def _account_for(folder: Path, tensors: _Tensors, names: Mapping[str, str], wanted: Mapping[str, Place]) -> None:
    wrong = []
    missing = [name for name in wanted if name not in names]
    surplus = [original for name, original in names.items() if name not in wanted]
    if missing:
        wrong.append(f"missing {listed(missing)}")
    if surplus:
        wrong.append(f"surplus {listed(surplus)}")
    for name, original in names.items():
        if name in wanted and tensors.shape(original) != wanted[name][2]:
            wrong.append(f"{original} is {list(tensors.shape(original))}, {list(wanted[name][2])} by {CONFIG_FILE}")
    if wrong:
        raise ConfigError(f"{folder}: its tensors are not those of the BERT in {CONFIG_FILE}: {'; '.join(wrong)}")


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in a line, the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Encoder(NamedTuple):
    """An encoder found in a checkpoint."""

    config: BertConfig
    names: dict[str, str]  # the checkpoint's name of each tensor by its name of today
    left_out: list[str]  # tensors of heads and wrappers


def _encoder(folder: Path, tensors: _Tensors) -> _Encoder:
    """The one encoder whose tensors are those that config.json says."""
    description = _read_json(config_file(folder))
    found, wrong = [], []
    for prefix in prefixes(tensors) or [""]:
        names, left_out = own_names(tensors, prefix, folder)
        shapes = {today: tensors.shape(name) for today, name in names.items()}
        # What an old config.json lacks, the tensors say.
        shown: dict[str, Any] = dict(sizes_of(shapes))
        family = prefix.rstrip(".").split(".")[-1]
        if family in FAMILIES and FAMILIES[family] != "bert":
            shown["model_type"] = family
        try:
            config = BertConfig.from_dict(shown | description, any(name.startswith("pooler.") for name in names))
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from None
        try:
            _account_for(folder, tensors, names, expected(config))
            found.append((prefix, _Encoder(config, names, left_out)))
        except ConfigError as error:
            wrong.append(error)
    if not found:
        raise wrong[0]
    if len(found) > 1:
        fronts = ", ".join(f"{prefix}{WORDS}" for prefix, _ in found)
        raise ConfigError(
            f"{folder}: holds {len(found)} encoders of the sizes in {CONFIG_FILE} ({fronts}); allowed: one"
        )
    return found[0][1]


def tensors_left_out(folder: Path) -> list[str]:
    """Names of a checkpoint's tensors that are no part of its encoder: heads of other tasks, wrappers.

    Raises:
        ConfigError: as `load_backbone`.
    """
    with _Tensors.open(folder) as tensors:
        return _encoder(folder, tensors).left_out


def config_file(folder: Path) -> Path:
    """The file with a checkpoint's sizes: config.json, or where it is not there Google's bert_config.json."""
    old = folder / OLD_CONFIG_FILE
    return old if old.is_file() and not (folder / CONFIG_FILE).exists() else folder / CONFIG_FILE


def _tree(
    config: BertConfig, tensors: _Tensors, names: Mapping[str, str], wanted: Mapping[str, Place]
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, (path, layer, _) in wanted.items():
        *branches, leaf = path
        place = tree
        for branch in branches:
            place = place.setdefault(branch, {})
        array = tensors.array(names[name])
        if not np.isfinite(array).all():
            raise ConfigError(f"{tensors.path}: {names[name]} holds numbers that are not finite in float32")
        array = array.T if leaf == "kernel" else array
        if layer is None:
            place[leaf] = np.ascontiguousarray(array)
        else:
            # One layer at a time: a large checkpoint is never in memory twice.
            place.setdefault(leaf, np.empty((config.layers, *array.shape), np.float32))[layer] = array
    return tree


def load_backbone(source: str | os.PathLike[str], revision: str | None = None) -> tuple[BertConfig, dict[str, Any]]:
    """The sizes and the tree `params` of a pretrained encoder of BERT's family, NumPy float32 arrays.

    BERT, DistilBERT, RoBERTa, XLM-R, CamemBERT and ELECTRA, alone or under any head or wrapper, which is left out.

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
    with _Tensors.open(folder) as tensors:
        config, names, _ = _encoder(folder, tensors)
        return config, _tree(config, tensors, names, expected(config))


def backbone_fingerprint(model: Path) -> str:
    """What a checkpoint is, in sixteen digits of its files' content."""
    digest = hashlib.sha256()
    for path in [config_file(model), *weight_files(model)]:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
