"""Updates of dense layers that have no factors, on disk: files of an adapter's names that PEFT refuses to take for one.

adapter_model.safetensors   encoder.layer.<i>.attention.self.query.weight [outputs, inputs]: what is added to the kernel
adapter_config.json         "peft_type": "NCSIM_FULL", the targets, the base model
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.errors import ConfigError
from ncsim.text.model.names import dense_layers, todays_name
from ncsim.text.model.sizes import BertConfig

#: In place of PEFT's kind of adapter.
KIND = "NCSIM_FULL"


def read_updates(file: Path, tensors: Mapping[str, np.ndarray], config: BertConfig) -> dict[str, Any]:
    """The tree `lora` of `adaptations.py`, with `dense` [L, D, F], from a file's tensors.

    Raises:
        ConfigError: a tensor has no place in the backbone, or a layer lacks its own.
    """
    places = {f"{name}.weight": place for name, place in dense_layers(config).items() if place[1] is not None}
    found: dict[str, Any] = {}
    layers: dict[tuple[str, ...], set[int]] = {}
    for name, tensor in tensors.items():
        path, layer, shape = places.get(todays_name(name), ((), None, ()))
        if layer is None or tensor.shape != shape:
            raise ConfigError(
                f"{file}: {name} {list(tensor.shape)} has no place here; allowed: updates of dense layers of {config.layers} "
                f"layers, {config.hidden_size} wide"
            )
        tree = found
        for branch in path:
            tree = tree.setdefault(branch, {})
        tree.setdefault("dense", np.zeros((config.layers, *shape[::-1]), np.float32))[layer] = tensor.T
        layers.setdefault(path, set()).add(layer)
    lacking = [path for path, there in layers.items() if len(there) < config.layers]
    if lacking or not layers:
        what = ".".join(lacking[0]) if lacking else "everything"
        raise ConfigError(f"{file}: lacks updates of {what}; allowed: one for each of {config.layers} layers")
    return found
