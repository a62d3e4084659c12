"""The checkpoint of a group of adapters in training: one safetensors file with a checksum of its content."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import numpy as np

from ncsim.text.records import PROFILE, Evaluation


class Checkpoint(NamedTuple):
    """A group on its way: trained up to a step of an epoch, with the evaluations of the epochs before."""

    epoch: int  # epochs that are complete
    step: int  # steps done of the next one
    leaves: list[np.ndarray]  # of the training state, in the order of its tree
    evaluations: dict[str, np.ndarray]  # fields of Evaluation, and profiles, as [epochs evaluated, splits, G, ...]

    def to_bytes(self, run: str) -> bytes:
        """As a file, with the digits of its run."""
        from safetensors.numpy import save

        tensors = {f"state.{n:04d}": np.ascontiguousarray(leaf) for n, leaf in enumerate(self.leaves)}
        tensors |= {f"evaluation.{name}": np.ascontiguousarray(v) for name, v in self.evaluations.items()}
        metadata = {"run": run, "epoch": str(self.epoch), "step": str(self.step)}
        return save(tensors, metadata | {"checksum": _checksum(metadata, tensors)})

    @classmethod
    def from_bytes(cls, content: bytes, run: str) -> Checkpoint:
        """Raises ValueError or KeyError where the file is damaged, or of another run."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors, metadata = load(content), safetensors_metadata(content)
        except SafetensorError as error:
            raise ValueError(str(error)) from None
        if metadata.pop("checksum") != _checksum(metadata, tensors) or metadata["run"] != run:
            raise ValueError("its checksum, or its run, is another")
        state = sorted(name for name in tensors if name.startswith("state."))
        prefix = "evaluation."
        evaluations = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        if {name for name in evaluations if not name.startswith(PROFILE)} != set(Evaluation._fields):
            raise ValueError("it lacks evaluations")
        return cls(int(metadata["epoch"]), int(metadata["step"]), [tensors[name] for name in state], evaluations)


def safetensors_metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says of itself: its header is JSON behind eight bytes of length."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size]).get("__metadata__", {}))


def _checksum(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
