"""Models by folder or by hub id: the same files either way."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ncsim.errors import ConfigError, missing_extra

try:
    import huggingface_hub
except ImportError as error:
    raise missing_extra(error) from error

# Small files by their kind and not by name: which of them a tokeniser consists of, it says itself.
TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
MODEL_FILES = (*TOKENIZER_FILES, "model*.safetensors")
#: Of subfolders nothing is read, and of sharded or converted weights only safetensors.
_LEFT_OUT = ("*/*", "*.onnx*", "*.h5", "*.msgpack", "*.bin")


def backbone_folder(
    source: str | os.PathLike[str], revision: str | None = None, files: Sequence[str] = MODEL_FILES
) -> Path:
    """The folder of a model: itself, or where a hub's cache has it once it is fetched.

    Args:
        source: a folder, or the id of a model on a Hugging Face hub.
        revision: of a hub's model: a branch, tag or commit.
        files: patterns of what is fetched.

    Raises:
        ConfigError: no such folder, and no such model on the hub or no way to it.
    """
    source = os.fspath(source)
    path = Path(source)
    if path.is_dir():
        return path
    # A name that can only be a path should not be asked of a hub.
    if path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise ConfigError(f"{source}: no folder is there; allowed: a folder with config.json and model.safetensors")
    try:
        found = huggingface_hub.snapshot_download(
            source, revision=revision, allow_patterns=list(files), ignore_patterns=list(_LEFT_OUT)
        )
    except Exception as error:
        # Whatever is wrong with a hub, a proxy, a disk or an id: the first line says it.
        reason = str(error).strip().splitlines()
        why = reason[0] if reason else type(error).__name__
        raise ConfigError(f"{source}: neither a folder nor to be had from the Hugging Face hub ({why})") from error
    return Path(found)
