"""The run folder: what a run is, the parts it has so far, and nothing that is torn, foreign or half-written.

    runs/figure2/
      config.json                                   every field of every cell, versions, platform, source revision
      parts/hidden=3/members-0000000000-16384.parquet   first id and number of members; hive partitions for a grid
      summary.json  report.html  figures/           made from the parts, and made again at any time

A part is written under a temporary name, flushed to disk, and renamed: a kill at any moment leaves whole parts only.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config import EnsembleConfig, from_dict, identity, swept_fields, to_dict
from ncsim.parts import from_table, part_name, schema, to_table, write_atomically
from ncsim.records import MemberRecords

FORMAT = 1
_METADATA_KEY = b"ncsim"


class StoreError(Exception):
    """A run folder, or a part of it, that cannot be used as asked. The message is one line."""


class Part(NamedTuple):
    """One whole part on disk: members `first` to `first + members - 1` of a cell."""

    path: Path
    first: int
    members: int


def fingerprint(config: EnsembleConfig) -> str:
    """What a member's result depends on besides its id, as 16 hex digits."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:16]


class RunFolder:
    """One run folder on a local disk. Use `create` to write to it, `open` to read it."""

    def __init__(self, path: Path, configs: Sequence[EnsembleConfig]) -> None:
        self.path = path
        self.configs = tuple(configs)
        self.swept = swept_fields(self.configs)

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """A run folder that exists.

        Raises:
            StoreError: no run is there, or its config.json does not read as one.
        """
        path = Path(path)
        description = path / "config.json"
        try:
            stored = json.loads(description.read_text())
            if not isinstance(stored, dict) or stored.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            configs = [from_dict(cell) for cell in stored["cells"]]
            if not configs:
                raise ValueError("it has no cells")
            return cls(path, configs)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{path}: no run is stored there (no config.json)") from None
        except OSError as error:
            raise StoreError(f"{description}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{description}: does not describe a run ({one_line(error)})") from None

    @classmethod
    def create(
        cls,
        path: str | Path,
        configs: Sequence[EnsembleConfig],
        resume: bool = True,
        training: Callable[[], dict[str, str]] | None = None,
    ) -> RunFolder:
        """The folder for these configs: made, or taken up again where it holds the same run. `training` says what trains,
        for the environment on record; it is asked only for a new run.

        The same run is one whose cells differ from these in `members` at most, and which has no member that these
        leave out: asking for more members extends a run.

        Raises:
            StoreError: the folder holds another run, or cannot be written to.
        """
        path = Path(path)
        folder = cls(path, configs)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "parts").mkdir(exist_ok=True)
            # Found out now, and not after an hour of training.
            probe = path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(f"{path}: cannot be written to ({error.strerror})") from None
        if (path / "config.json").exists():
            if not resume:
                raise StoreError(f"{path}: holds a run already; allowed with resume off: a new folder")
            folder._check_same_run(cls.open(path))
        elif any((path / "parts").rglob("*.parquet")):
            raise StoreError(f"{path}: has parts but no config.json, so what they are of cannot be known")
        folder._write_config(training)
        return folder

    def _check_same_run(self, stored: RunFolder) -> None:
        ours, theirs = (dict(_by_fingerprint(folder.configs)) for folder in (self, stored))
        if set(ours) != set(theirs):
            difference = _first_difference(self.configs, stored.configs)
            raise StoreError(
                f"{self.path}: holds another config's run ({difference}); allowed: its own, or a new folder"
            )
        for key, config in ours.items():
            held = theirs[key]
            if held.first_member < config.first_member or held.member_ids[-1] > config.member_ids[-1]:
                raise StoreError(
                    f"{self.path}: holds members {held.first_member} to {held.member_ids[-1]}, and "
                    f"{config.first_member} to {config.member_ids[-1]} would leave some out; "
                    "allowed: at least those, or a new folder"
                )

    def _write_config(self, training: Callable[[], dict[str, str]] | None) -> None:
        path = self.path / "config.json"
        cells = [to_dict(config) for config in self.configs]
        if path.exists() and [from_dict(cell) for cell in json.loads(path.read_text())["cells"]] == list(self.configs):
            return  # resumed: what it was started with stays on record
        record = environment() | (training() if training else {"device": "unknown"})
        stored = {"format": FORMAT, "swept": self.swept, "cells": cells, "environment": record}
        write_atomically(path, json.dumps(stored, indent=2).encode())

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder against a second writer. The operating system lets go of it when the process ends.

        Raises:
            StoreError: another process is writing to it.
        """
        with held_exclusively(self.path):
            for leftover in (self.path / "parts").rglob(".*.tmp"):
                leftover.unlink()  # of a writer that was killed: nobody else writes now
            yield

    # -- parts --------------------------------------------------------------------------------------------------

    def cell_folder(self, config: EnsembleConfig) -> Path:
        """Where a cell's parts are: hive partitions of the swept fields."""
        names = (f"{name}={_partition_value(getattr(config, name))}" for name in self.swept)
        return self.path.joinpath("parts", *names)

    def parts(self, config: EnsembleConfig) -> list[Part]:
        """The cell's parts by first member, from their names and footers.

        Raises:
            StoreError: a part is torn, foreign, of another config, or overlaps another.
        """
        found = []
        for path in sorted(self.cell_folder(config).glob("*.parquet")):
            with _naming(path):
                metadata = pq.read_metadata(path)
            stamp = _stamp(metadata.metadata)
            if stamp is None:
                raise StoreError(f"{path}: is not a part of an ncsim run; move it away and run the same command again")
            if stamp["fingerprint"] != fingerprint(config):
                raise StoreError(f"{path}: is of another config; move it away and run the same command again")
            first, count = stamp["first"], stamp["count"]
            if path.name != part_name(first, count) or metadata.num_rows != count:
                raise StoreError(
                    f"{path}: does not hold what its name says; move it away and run the same command again"
                )
            found.append(Part(path, first, count))
        found.sort(key=lambda part: part.first)
        for before, after in itertools.pairwise(found):
            if before.first + before.members > after.first:
                raise StoreError(f"{after.path}: overlaps {before.path.name}; move one of them away")
        return found

    def missing(self, config: EnsembleConfig) -> list[range]:
        """The config's members that no part holds yet, as ranges of ids."""
        gaps, cursor, end = [], config.first_member, config.first_member + config.members
        for part in self.parts(config):
            if part.first > cursor:
                gaps.append(range(cursor, min(part.first, end)))
            cursor = max(cursor, part.first + part.members)
        if cursor < end:
            gaps.append(range(cursor, end))
        return [gap for gap in gaps if len(gap)]

    def write_part(self, config: EnsembleConfig, records: MemberRecords) -> Path:
        """Store members with consecutive ids as one part."""
        first, count = int(records.member[0]), records.size
        stamp = {"format": FORMAT, "fingerprint": fingerprint(config), "first": first, "count": count}
        table = to_table(records).replace_schema_metadata({_METADATA_KEY: json.dumps(stamp)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        path = self.cell_folder(config) / part_name(first, count)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sink.getvalue())
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); what was stored before it is whole"
            ) from None
        return path

    def read(self, config: EnsembleConfig) -> Iterator[MemberRecords]:
        """The cell's records, part by part.

        Raises:
            StoreError: a part whose content is damaged.
        """
        for part in self.parts(config):
            with _naming(part.path):
                table = pq.read_table(
                    part.path, schema=schema(config), partitioning=None, page_checksum_verification=True
                )
            records = from_table(table)
            if not np.array_equal(records.member, np.arange(part.first, part.first + part.members, dtype=np.uint64)):
                raise StoreError(f"{part.path}: its members are not those of its name; move it away and train again")
            totals = records.counts.sum(axis=2)
            if np.any(totals != np.where(records.diverged, 0, config.tasks.rows)):
                raise StoreError(f"{part.path}: has counts that do not add up; move it away and train again")
            if records.training_counts is not None:
                trained = records.training_counts
                expected = np.where(records.diverged, 0, config.training_rows)
                if np.any(trained.sum(axis=2) != expected) or np.any(trained > records.counts):
                    raise StoreError(
                        f"{part.path}: has training counts that do not add up; move it away and train again"
                    )
            yield records


def environment() -> dict[str, Any]:
    """What besides the config shaped the bits: versions, platform, source revision."""
    versions = {}
    for package in ("ncsim", "jax", "jaxlib", "flax", "optax", "numpy", "pyarrow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    source = Path(__file__).resolve().parent.parent
    revision = None
    if (source / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
            revision = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "revision": revision,
    }


@contextlib.contextmanager
def held_exclusively(path: Path) -> Iterator[None]:
    """Hold a folder against a second writer. The operating system lets go of it when the process ends.

    Raises:
        StoreError: another process is writing to it.
    """
    import fcntl

    with open(path / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"{path}: another process is writing to it; wait for it or end it") from None
        yield


def recorded_environment(path: str | Path) -> dict[str, Any] | None:
    """What the run in a folder was begun with; None where no run is there, or none that can be read."""
    try:
        record = json.loads((Path(path) / "config.json").read_text())["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def run_kind(path: str | Path) -> str | None:
    """What kind of run a folder holds, "ensemble" or "text"; None where that cannot be read."""
    try:
        stored = json.loads((Path(path) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return str(stored.get("kind", "ensemble")) if isinstance(stored, dict) else None


def _by_fingerprint(configs: Iterable[EnsembleConfig]) -> Iterator[tuple[str, EnsembleConfig]]:
    return ((fingerprint(config), config) for config in configs)


def _first_difference(ours: Sequence[EnsembleConfig], theirs: Sequence[EnsembleConfig]) -> str:
    """One field in which two runs differ, in words."""
    for name in to_dict(ours[0]):
        if name in ("members", "first_member"):
            continue
        here, there = (list(dict.fromkeys(getattr(c, name) for c in configs)) for configs in (ours, theirs))
        if here != there:
            shown = (", ".join(map(str, values)) if name != "tasks" else values[0].name for values in (there, here))
            return "{} is {} there, {} here".format(name, *shown)
    return "its grid has other cells"


def _partition_value(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return urllib.parse.quote(text, safe="") or "none"  # an empty name would read as a null, which pandas cannot take


def _stamp(metadata: dict[bytes, bytes] | None) -> dict[str, Any] | None:
    try:
        stamp = json.loads((metadata or {})[_METADATA_KEY])
        whole = stamp["format"] == FORMAT and isinstance(stamp["fingerprint"], str)
        return stamp if whole and type(stamp["first"]) is int and type(stamp["count"]) is int else None
    except (KeyError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into one line that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = one_line(error)
        raise StoreError(f"{path}: is torn ({reason}); move it away and run the same command again") from None


def one_line(error: Exception) -> str:
    """An error's words, for the middle of a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def run_digits(configs: Sequence[EnsembleConfig]) -> str:
    """Eight hex digits of the run that a grid is, whatever its number of members: for the name of a folder."""
    together = "".join(sorted(fingerprint(config) for config in configs))
    return hashlib.sha256(together.encode()).hexdigest()[:8]
