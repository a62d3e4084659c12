"""The folder of a text run: what it is, the evaluations so far, checkpoints of what is in training, trained adapters.

    runs/text-mixed/
      config.json                              config, data, backbone, groups of adapters, versions
      parts/group-000.parquet                  evaluations, a row an adapter, epoch and split
      checkpoints/group-000.safetensors        a group in training: adapters, optimiser state, evaluations so far
      adapters/rank=4/seed=0/context=11/       a trained adapter in PEFT's format, and its heads
      summary.json  report.html  figures/      made from the parts, and made again at any time

Every file is written under a temporary name outside its folders, flushed to disk and renamed. A checkpoint carries a checksum of its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.errors import NoRunError, StoreError, one_line
from ncsim.executors.devices import arithmetic_settings
from ncsim.formatting import json_text
from ncsim.storage.environment import differences, environment
from ncsim.storage.files import LocalStorage, discard_unfinished, hold, write_atomically
from ncsim.terminal import say
from ncsim.text.config import MEANS, TextConfig, from_dict, to_dict
from ncsim.text.records import SCHEMA, SPLITS, AdapterId, Evaluation

FORMAT = 1
_KEY = b"ncsim"


class Checkpoint(NamedTuple):
    """A group on its way: trained up to a step of an epoch, with the evaluations of the epochs before."""

    epoch: int  # epochs that are complete
    step: int  # steps done of the next one
    leaves: list[np.ndarray]  # of the training state, in the order of its tree
    evaluations: dict[str, np.ndarray]  # fields of Evaluation as [epochs evaluated, splits, G, ...]


class TextFolder:
    """One text run on disk."""

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path = path
        self.description = description
        self.config = from_dict(description["config"])
        self.groups = [tuple(AdapterId(*adapter) for adapter in group) for group in description["groups"]]

    @classmethod
    def open(cls, path: str | Path) -> TextFolder:
        """A text run that is stored.

        Raises:
            StoreError: no text run is there, or its config.json does not read as one.
        """
        path = Path(path)
        try:
            stored = json.loads((path / "config.json").read_text())
            if not isinstance(stored, dict) or stored.get("kind") != "text" or stored.get("format") != FORMAT:
                raise ValueError("it is not that of a text run of this version")
            return cls(path, stored)
        except (FileNotFoundError, NotADirectoryError):
            raise NoRunError("no run is stored there (no config.json)", str(path)) from None
        except OSError as error:
            raise StoreError(f"{path / 'config.json'}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path / 'config.json'}: does not describe a text run ({one_line(error)})") from None

    @classmethod
    def create(
        cls, path: str | Path, config: TextConfig, sources: dict[str, Any], plan: Callable[[], dict[str, Any]]
    ) -> TextFolder:
        """The folder of this run: made, or taken up again where it holds the same one.

        Args:
            path: the folder.
            config: the run.
            sources: what else determines it: fingerprints and descriptions of data and backbone.
            plan: asked only for a new run: "groups" of adapters, "microbatch", "device".

        Raises:
            StoreError: the folder holds something else, or cannot be written to.
        """
        path = Path(path)
        description = {"kind": "text", "format": FORMAT, "config": to_dict(config), **sources}
        if (path / "config.json").exists():
            folder = cls.open(path)
            held, wanted = (_identity(each) for each in (folder.description, json.loads(json.dumps(description))))
            for name in wanted:
                if held[name] != wanted[name]:
                    words = _difference(name, held[name], wanted[name])
                    raise StoreError(f"{path}: holds another run ({words}); allowed: its own, or a new folder")
            return folder
        planned = plan()
        try:
            for folder_name in ("parts", "checkpoints", "adapters"):
                (path / folder_name).mkdir(parents=True, exist_ok=True)
            if any((path / "parts").iterdir()):
                raise StoreError(f"{path}: has parts but no config.json, so what they are of cannot be known")
            stored = json_text(description | planned | {"environment": environment() | arithmetic_settings()})
            write_atomically(path / "config.json", stored.encode())
        except OSError as error:
            raise StoreError(f"{path}: cannot be written to ({error.strerror})") from None
        return cls.open(path)

    def replan(self, **planned: Any) -> None:
        """Change how adapters are trained from here on, such as the microbatch."""
        self.description.update(planned)
        self._write(self.path / "config.json", json_text(self.description).encode())

    def note_environment(self, device: str, incomplete: Sequence[int]) -> None:
        """Say where this process is not of the kind that trained the run before it, and put it on record with the numbers
        of the groups that are not complete: single adapters may then differ."""
        here = environment() | {"device": device} | arithmetic_settings()
        later = self.description.get("later", [])
        begun = self.description["environment"] | {"device": self.description["device"]}
        found = [begun, *(each["environment"] for each in later)]
        different = differences(here, begun)
        if different:
            say(f"this process is not of the kind that began the run ({'; '.join(different)}): adapters may differ")
        if differences(here, found[-1]):
            self.replan(later=[*later, {"environment": here, "groups": list(incomplete)}])

    def regroup(self, groups: Sequence[tuple[AdapterId, ...]], moved: Mapping[int, tuple[int, Sequence[int]]]) -> None:
        """Train adapters in other groups from here on. A kill at any moment leaves the old groups or the new ones.

        Args:
            groups: all of them; one that is dissolved is empty, and what it becomes comes behind the old ones.
            moved: for each new group of adapters that have begun, the group that they were in and their places there.
        """
        for new, (old, places) in moved.items():
            begun = self.read_checkpoint(old)
            if begun is None:
                continue
            # Ranks were padded to the old group's largest: `Trainer` cuts the state to what the new one has.
            leaves = [leaf[list(places)] for leaf in begun.leaves]
            evaluations = {name: values[:, :, list(places)] for name, values in begun.evaluations.items()}
            self.write_checkpoint(new, Checkpoint(begun.epoch, begun.step, leaves, evaluations))
        self.description.setdefault("first_groups", self.description["groups"])
        self.replan(groups=[list(map(list, group)) for group in groups])
        self.groups = list(groups)
        for old in {old for old, _ in moved.values()}:
            self.drop_checkpoint(old)
            self.part_path(old).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder against a second writer."""
        with hold(self.path):
            discard_unfinished(LocalStorage(self.path))
            yield

    # -- a group ------------------------------------------------------------------------------------------------

    def part_path(self, group: int) -> Path:
        """Evaluations of a group, as far as it is."""
        return self.path / "parts" / f"group-{group:03d}.parquet"

    def checkpoint_path(self, group: int) -> Path:
        """The state of a group in training."""
        return self.path / "checkpoints" / f"group-{group:03d}.safetensors"

    def adapter_path(self, adapter: AdapterId) -> Path:
        """Where a trained adapter is."""
        names = f"rank={adapter.rank}", f"seed={adapter.seed}", f"context={adapter.context_name}"
        return self.path.joinpath("adapters", *names)

    def write_part(self, group: int, evaluations: dict[str, np.ndarray]) -> None:
        """Store a group's evaluations [epochs evaluated, splits, G, ...]."""
        adapters = self.groups[group]
        epochs = self.config.evaluated_epochs[: len(evaluations["counts"])]
        grid = [(e, s, g) for e in range(len(epochs)) for s in range(len(SPLITS)) for g in range(len(adapters))]
        columns: dict[str, Any] = {
            "rank": [adapters[g].rank for _, _, g in grid],
            "seed": [adapters[g].seed for _, _, g in grid],
            "context": [adapters[g].context_name for _, _, g in grid],
            "epoch": [epochs[e] for e, _, _ in grid],
            "split": [SPLITS[s] for _, s, _ in grid],
            "counts": evaluations["counts"].reshape(-1, 4).tolist(),
        }
        columns |= {name: values.reshape(-1) for name, values in evaluations.items() if name != "counts"}
        table = pa.Table.from_pydict(columns, schema=SCHEMA)
        stamp = {"format": FORMAT, "run": self._digits(), "group": group, "epochs": len(epochs)}
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({_KEY: json.dumps(stamp)}), sink, compression="zstd", write_page_checksum=True
        )
        self._write(self.part_path(group), sink.getvalue())

    def read_part(self, group: int) -> pa.Table | None:
        """A group's evaluations as far as it is, or None before its first.

        Raises:
            StoreError: the part is torn, or of another run.
        """
        path = self.part_path(group)
        try:
            table = pq.read_table(path, schema=SCHEMA, partitioning=None, page_checksum_verification=True)
            stamp = json.loads((pq.read_metadata(path).metadata or {})[_KEY])
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise StoreError(
                f"{path}: is torn ({one_line(error)}); move it away and run the same command again"
            ) from None
        rows = stamp.get("epochs", 0) * len(SPLITS) * len(self.groups[group])
        if stamp.get("run") != self._digits() or stamp.get("group") != group or rows != table.num_rows:
            raise StoreError(f"{path}: is of another run; move it away and run the same command again")
        return table

    def complete(self, group: int) -> bool:
        """Whether a group has all its evaluations and its adapters are stored.

        Raises:
            StoreError: its part is torn, or of another run.
        """
        return self.completed_by(group, self.read_part(group))

    def completed_by(self, group: int, table: pa.Table | None) -> bool:
        """As `complete`, of a part that was read already."""
        if not self.groups[group]:
            return True
        wanted = len(self.config.evaluated_epochs) * len(SPLITS) * len(self.groups[group])
        stored = all((self.adapter_path(adapter) / "heads.safetensors").exists() for adapter in self.groups[group])
        return table is not None and table.num_rows == wanted and stored

    def write_checkpoint(self, group: int, checkpoint: Checkpoint) -> None:
        """Store where a group's training is."""
        from safetensors.numpy import save

        tensors = {f"state.{n:04d}": np.ascontiguousarray(leaf) for n, leaf in enumerate(checkpoint.leaves)}
        tensors |= {f"evaluation.{name}": np.ascontiguousarray(v) for name, v in checkpoint.evaluations.items()}
        metadata = {"run": self._digits(), "epoch": str(checkpoint.epoch), "step": str(checkpoint.step)}
        metadata["checksum"] = _checksum(metadata, tensors)
        self._write(self.checkpoint_path(group), save(tensors, metadata))

    def read_checkpoint(self, group: int) -> Checkpoint | None:
        """Where a group's training was; None where it has not begun.

        Raises:
            StoreError: the file is damaged or of another run.
        """
        from safetensors import SafetensorError, safe_open

        path = self.checkpoint_path(group)
        if not path.exists():
            return None
        try:
            with safe_open(path, "numpy") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if metadata.pop("checksum") != _checksum(metadata, tensors) or metadata["run"] != self._digits():
                raise ValueError("its checksum, or its run, is another")
            state = sorted(name for name in tensors if name.startswith("state."))
            prefix = "evaluation."
            evaluations = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
            if set(evaluations) != set(Evaluation._fields):
                raise ValueError("it lacks evaluations")
            return Checkpoint(
                int(metadata["epoch"]), int(metadata["step"]), [tensors[name] for name in state], evaluations
            )
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise StoreError(f"{path}: is damaged ({one_line(error)})") from None

    def drop_checkpoint(self, group: int) -> None:
        """Remove a checkpoint that is not needed any more."""
        self.checkpoint_path(group).unlink(missing_ok=True)

    def _digits(self) -> str:
        """What this run is, in sixteen digits."""
        # The groups of its beginning: those of today may have been divided since.
        groups = self.description.get("first_groups", self.description["groups"])
        same = {**_seen(self.description), "groups": groups}
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]

    def _write(self, path: Path, content: Any) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content, self.path)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); what was stored before it is whole"
            ) from None


def _checksum(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _seen(description: dict[str, Any]) -> dict[str, Any]:
    """A run's config, and which data and weights it saw."""
    seen = {name: description.get(name, {}).get("fingerprint") for name in ("data", "backbone")}
    return {"config": description["config"], **seen}


def _identity(description: dict[str, Any]) -> dict[str, Any]:
    """What makes a run that run: all that is seen but options that change memory and speed, and results by rounding."""
    seen = _seen(description)
    return seen | {"config": {name: value for name, value in seen["config"].items() if name not in MEANS}}


def _difference(name: str, held: Any, wanted: Any) -> str:
    """The first difference between two descriptions, in words."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in wanted:
            if held.get(key) != wanted[key]:
                return _difference(key if name == "config" else f"{name} {key}", held.get(key), wanted[key])
    there, here = (text if len(text) <= 60 else text[:57] + "..." for text in (str(held), str(wanted)))
    return f"{name} is {there} there, {here} here"
