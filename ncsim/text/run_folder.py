"""The folder of a text run: what it is, the evaluations so far, checkpoints of what is in training, trained adapters.

    runs/text-mixed/
      config.json  config-copy.json            config, data, backbone, groups of adapters, versions; twice
      parts/group-000.parquet                  evaluations, a row per adapter, epoch and split
      checkpoints/group-000.safetensors        a group in training: adapters, optimiser state, evaluations so far
      adapters/rank=4/seed=0/context=11/       a trained adapter in PEFT's format, and its heads
      rejected/                                what `ncsim report --repair` moved out of the way
      summary.json  report.html  figures/      made from the parts, and made again at any time

Every file is there whole or not at all (`storage/files.py`). The description, parts, checkpoints and an adapter's heads hold checksums
of themselves, and the heads those of the adapter's other files, which are as PEFT writes them. Runs of earlier versions have none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.errors import NoRunError, StoreError, one_line, reason, report_command
from ncsim.formatting import json_text
from ncsim.storage.arrow_tables import bounded
from ncsim.storage.checksums import TORN, UNSEALED, is_whole, sealed, sealed_json
from ncsim.storage.config_change import change_description, copy_description
from ncsim.storage.config_file import CONFIG, CONFIG_COPY, description
from ncsim.storage.environment import differences, say_differences
from ncsim.storage.files import LocalStorage, Storage, discard_unfinished, open_storage, reading
from ncsim.storage.lock import hold
from ncsim.storage.run_folder import check_no_run, from_copy
from ncsim.storage.verify import Finding
from ncsim.text.checkpoint_file import Checkpoint, safetensors_metadata
from ncsim.text.config import MEANS, TextConfig, from_dict, to_dict
from ncsim.text.identity import difference, identity, seen
from ncsim.text.records import SPLITS, AdapterId, schema_of, table_of

FORMAT = 1
_KEY = b"ncsim"
#: An adapter's files in the order in which they are written; the last one seals them.
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "heads.safetensors")


class TextFolder:
    """One text run on a disk or in an object store."""

    def __init__(self, storage: Storage, stored: dict[str, Any]) -> None:
        self.storage, self.location = storage, storage.location
        self.sealed = stored.get("checksum") is not None
        self.description = {name: value for name, value in stored.items() if name != "checksum"}
        self.config = from_dict(stored["config"])
        self.configs = (self.config,)
        self.groups = [tuple(AdapterId(*adapter) for adapter in group) for group in stored["groups"]]

    @property
    def path(self) -> Path | None:
        """The folder on this machine; None for one in an object store."""
        return self.storage.root if isinstance(self.storage, LocalStorage) else None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TextFolder:
        """A text run that is stored.

        Raises:
            StoreError: no text run is there, or its config.json does not read as one.
        """
        return cls.within(open_storage(path))

    @classmethod
    def within(cls, storage: Storage, name: str = CONFIG) -> TextFolder:
        """The text run that a storage holds, as its config.json or the copy of it says. Raises as `open`."""
        place = f"{storage.location}/{name}"
        try:
            stored = description(storage.read(name))
            if stored.get("kind") != "text" or stored.get("format") != FORMAT:
                raise ValueError("it is not that of a text run of this version")
            return cls(storage, stored)
        except (FileNotFoundError, NotADirectoryError):
            problem = f"no run is stored there (no {name})"
            raise NoRunError(problem, storage.location, from_copy(storage, name)) from None
        except OSError as error:
            raise StoreError(f"cannot be read ({reason(error)})", place) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"does not describe a text run ({one_line(error)})"
            raise StoreError(problem, place, from_copy(storage, name)) from None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: TextConfig,
        sources: dict[str, Any],
        plan: Callable[[], dict[str, Any]],
    ) -> TextFolder:
        """The folder of this run: made, or taken up again where it holds the same one.

        Args:
            path: a folder of this machine, or an address in an object store.
            config: the run.
            sources: what else determines it: fingerprints and descriptions of data and backbone.
            plan: asked only for a new run: "groups" of adapters, "microbatch", "device", "environment".

        Raises:
            StoreError: the folder holds something else, or cannot be written to.
        """
        storage = open_storage(path)
        try:
            if not storage.exists(CONFIG):
                check_no_run(storage)
                planned = plan()
                storage.prepare()
                stored = {"kind": "text", "format": FORMAT, "config": to_dict(config), **sources, **planned}
                content = sealed_json(stored)
                if storage.create(CONFIG, content):  # else another shard began the run just now
                    storage.write(CONFIG_COPY, content)
        except OSError as error:
            raise StoreError(f"{storage.location}: cannot be written to ({reason(error)})") from None
        folder = cls.within(storage)
        folder.check(config, sources)
        if folder.sealed:
            with contextlib.suppress(OSError, StoreError):  # it may be read only
                copy_description(storage)  # whoever began or changed the run was killed before it
        return folder

    def check(self, config: TextConfig, sources: dict[str, Any]) -> None:
        """Raise a StoreError where the folder holds another run."""
        wanted = identity(json.loads(json.dumps({"config": to_dict(config), **sources})))
        held = identity(self.description)
        for name in wanted:
            if held[name] != wanted[name]:
                words = difference(name, held[name], wanted[name])
                raise StoreError(f"{self.location}: holds another run ({words}); allowed: its own, or a new folder")

    def replan(self, **planned: Any) -> None:
        """Change how adapters are trained from here on, such as the microbatch, and put it on record. Raises StoreError."""
        self._describe(lambda stored: planned)

    def halve(self, microbatch: int) -> None:
        """Half as many rows at a time, or as few as another shard has put on record meanwhile. Raises as `replan`."""
        self._describe(lambda stored: {"microbatch": min(-(-microbatch // 2), stored["microbatch"])})

    def _describe(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change the description beside other shards that do: `change` gives what of it is to be otherwise. Raises StoreError."""

        def changed(stored: dict[str, Any]) -> bytes | None:
            before = {name: value for name, value in stored.items() if name != "checksum"}
            new = before | change(before)
            if new["microbatch"] != before["microbatch"]:
                new.setdefault("first_microbatch", before["microbatch"])
            self.description = new
            content = sealed_json(new) if self.sealed else json_text(new).encode()
            return None if new == before else content

        change_description(self.storage, changed)

    def note_environment(self, here: dict[str, Any], incomplete: Sequence[int]) -> None:
        """Say where what trains now is not of the kind that trained the run before it, and put it on record with the numbers
        of the groups that are not complete: single adapters may then differ."""
        if say_differences(here, self.environments(), "adapters"):

            def noted(stored: dict[str, Any]) -> dict[str, Any]:
                later = stored.get("later", [])  # another shard of this kind may have put it on record just now
                there = later and not differences(here, later[-1]["environment"])
                return {} if there else {"later": [*later, {"environment": here, "groups": list(incomplete)}]}

            self._describe(noted)

    def note_means(self, config: TextConfig) -> None:
        """Put on record that the run goes on with other means than its config says."""
        if any(getattr(config, name) != getattr(self.config, name) for name in MEANS):
            self.replan(other_means=True)

    def environments(self) -> list[dict[str, Any]]:
        """What the run was begun with, and what it went on with where that was of another kind."""
        begun = self.description["environment"] | {"device": self.description["device"]}
        return [begun, *(each["environment"] for each in self.description.get("later", []))]

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
        first = self.description.get("first_groups", self.description["groups"])
        self.replan(groups=[list(map(list, group)) for group in groups], first_groups=first)
        dissolved = [old for old, group in enumerate(self.groups) if group and not groups[old]]
        self.groups = list(groups)
        for old in dissolved:
            self.drop_checkpoint(old)
            self._remove(self.part_name(old))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder against a second writer."""
        if self.path is None:  # nothing holds an object store
            yield
            return
        with hold(self.path):
            discard_unfinished(self.storage)
            yield

    def shared(self) -> contextlib.AbstractContextManager[None]:
        """Write beside other shards, and not beside a process that holds the folder for itself. Raises as `exclusive`."""
        return contextlib.nullcontext() if self.path is None else hold(self.path, exclusively=False)

    @contextlib.contextmanager
    def unless_complete(self) -> Iterator[None]:
        """A run that is complete is given also from a folder that cannot be written to."""
        try:
            yield
        except StoreError:
            if self.incomplete():
                raise

    # -- a group ------------------------------------------------------------------------------------------------

    @staticmethod
    def part_name(group: int) -> str:
        """Evaluations of a group, as far as it is."""
        return f"parts/group-{group:03d}.parquet"

    @staticmethod
    def checkpoint_name(group: int) -> str:
        """The state of a group in training."""
        return f"checkpoints/group-{group:03d}.safetensors"

    @staticmethod
    def adapter_name(adapter: AdapterId) -> str:
        """The folder of a trained adapter."""
        return f"adapters/rank={adapter.rank}/seed={adapter.seed}/context={adapter.context_name}"

    def write_part(self, group: int, evaluations: dict[str, np.ndarray]) -> None:
        """Store a group's evaluations [epochs evaluated, splits, G, ...], and its profiles where they are recorded."""
        table = table_of(evaluations, self.config, self.groups[group])
        stamp = {"format": FORMAT, "run": self._digits(), "group": group, "epochs": len(evaluations["counts"])}
        stamp |= {"checksum": UNSEALED} if self.sealed else {}
        table, sink = table.replace_schema_metadata({_KEY: json.dumps(stamp)}), pa.BufferOutputStream()
        told = bounded(table.schema)
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True, write_statistics=told)
        content = sink.getvalue().to_pybytes()
        self._write(self.part_name(group), sealed(content) if self.sealed else content)

    def read_part(self, group: int) -> pa.Table | None:
        """A group's evaluations as far as it is, or None before its first.

        Raises:
            StoreError: the part is torn, or of another run, or cannot be read.
        """
        with self.reading(self.part_name(group)):
            return self.checked_part(group)

    def reading(self, name: str) -> contextlib.AbstractContextManager[None]:
        """As `storage.files.reading`, of a file of this run."""
        return reading(self.storage, name)

    def checked_part(self, group: int) -> pa.Table | None:
        """As `read_part`; one that cannot be read raises OSError."""
        if not self.groups[group]:  # dissolved: a kill may have left the part of what its adapters were in
            return None
        place, remedy = f"{self.location}/{self.part_name(group)}", self._remedy
        content = self._content(self.part_name(group))
        if content is None:
            return None
        try:
            self._check_seal(content)
            reader, wanted = pa.BufferReader(content), schema_of(self.config)
            table = pq.read_table(reader, schema=wanted, partitioning=None, page_checksum_verification=True)
            stamp = json.loads((pq.read_metadata(pa.BufferReader(content)).metadata or {})[_KEY])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise StoreError(f"is torn ({one_line(error)})", place, remedy) from None
        rows = stamp.get("epochs", 0) * len(SPLITS) * len(self.groups[group])
        if stamp.get("run") != self._digits() or stamp.get("group") != group or rows != table.num_rows:
            raise StoreError("is of another run", place, remedy)
        return table

    def _content(self, name: str) -> bytes | None:
        """What a file holds; None where there is none. Raises OSError."""
        try:
            return self.storage.read(name)
        except (FileNotFoundError, IsADirectoryError):  # files in a folder of its name are not of this run
            return None

    @property
    def _remedy(self) -> str:
        return f"`{report_command('--repair', self.location)}` moves it aside and trains it again"

    def _check_seal(self, content: bytes) -> None:
        """Raise a ValueError where a file that has a checksum is not as it was written."""
        if is_whole(content) is False or (self.sealed and is_whole(content) is None):
            raise ValueError("its checksum is not that of its content")

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
        stored = all(self.has_adapter(adapter) for adapter in self.groups[group])
        return table is not None and table.num_rows == wanted and stored

    def incomplete(self) -> list[int]:
        """The numbers of the groups that are not complete. Raises as `complete`."""
        return [number for number in range(len(self.groups)) if not self.complete(number)]

    def has_adapter(self, adapter: AdapterId) -> bool:
        """Whether all files of a trained adapter are there, whatever they hold."""
        with self.reading(self.adapter_name(adapter)):
            names = self.storage.names(self.adapter_name(adapter))
        return {name.rpartition("/")[2] for name in names} >= set(ADAPTER_FILES)

    def write_adapter(self, adapter: AdapterId, contents: Mapping[str, bytes]) -> None:
        """Store the files of a trained adapter, by their names."""
        for name, content in contents.items():
            self._write(f"{self.adapter_name(adapter)}/{name}", content)

    def torn_of_adapter(self, adapter: AdapterId) -> Finding | None:
        """A file of a trained adapter that is not as it was written; None where all are, as far as can be seen. Raises as `reading`."""
        if not self.sealed:
            return None
        names = [f"{self.adapter_name(adapter)}/{name}" for name in ADAPTER_FILES]
        with self.reading(self.adapter_name(adapter)):
            *contents, heads = map(self.storage.read, names)
        if not is_whole(heads):
            return Finding(names[-1], TORN)
        digests = json.loads(safetensors_metadata(heads)["ncsim"])
        for name, content in zip(names, contents, strict=False):
            if hashlib.sha256(content).hexdigest() != digests[name.rpartition("/")[2]]:
                return Finding(name, TORN)
        return None

    def write_checkpoint(self, group: int, checkpoint: Checkpoint) -> None:
        """Store where a group's training is."""
        self._write(self.checkpoint_name(group), checkpoint.to_bytes(self._digits()))

    def read_checkpoint(self, group: int) -> Checkpoint | None:
        """Where a group's training was; None where it has not begun.

        Raises:
            StoreError: the file is damaged or of another run, or cannot be read.
        """
        with self.reading(self.checkpoint_name(group)):
            return self.checked_checkpoint(group)

    def checked_checkpoint(self, group: int) -> Checkpoint | None:
        """As `read_checkpoint`; one that cannot be read raises OSError."""
        name = self.checkpoint_name(group)
        content = self._content(name)
        try:
            return None if content is None else Checkpoint.from_bytes(content, self._digits())
        except (ValueError, KeyError) as error:
            raise StoreError(f"is damaged ({one_line(error)})", f"{self.location}/{name}") from None

    def drop_checkpoint(self, group: int) -> None:
        """Remove a checkpoint that is not needed any more."""
        self._remove(self.checkpoint_name(group))

    def _digits(self) -> str:
        """What this run is, in sixteen digits."""
        # The groups of its beginning: those of today may have been divided since.
        groups = self.description.get("first_groups", self.description["groups"])
        same = {**seen(self.description), "groups": groups}
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]

    def _write(self, name: str, content: bytes) -> None:
        try:
            self.storage.write(name, content)
        except OSError as error:
            raise StoreError(
                f"{self.location}/{name}: cannot be written ({reason(error)}); what was stored before it is whole"
            ) from None

    def _remove(self, name: str) -> None:
        try:
            self.storage.remove(name)
        except OSError as error:
            raise StoreError(f"{self.location}/{name}: cannot be removed ({reason(error)})") from None
