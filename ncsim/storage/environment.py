"""What a run was begun with: versions, platform, revision, device and executor; and how two machines differ."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ncsim
from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.errors import ConfigError, StoreError, reason
from ncsim.storage.config_file import CONFIG, description
from ncsim.storage.files import open_storage
from ncsim.terminal import say


def environment() -> dict[str, Any]:
    """What besides the config shaped the bits: versions, platform, source revision."""
    versions, revision = _build()
    return {
        "versions": dict(versions),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "revision": revision,
    }


@functools.cache  # what this process has imported: a run of seconds would wait twice for git
def _build() -> tuple[dict[str, str], str | None]:
    """Versions of the packages that shape bits, and the revision of ncsim's source."""
    versions = {"ncsim": ncsim.__version__}
    for package in ("jax", "jaxlib", "flax", "optax", "numpy", "pyarrow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    source = Path(__file__).resolve().parents[2]
    revision = None
    if (source / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
            revision = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return versions, revision


#: Packages whose versions shape bits.
COMPARED = ("ncsim", "jax", "jaxlib", "optax")


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """In what one environment is not of the kind of another, in words: versions, platforms, kinds of devices, and
    settings that change arithmetic, and of text runs the widths of a processor's vectors. Empty where nothing is known of the other."""
    theirs = there.get("versions")
    if not isinstance(theirs, dict):
        return []
    ours = here["versions"]
    pairs = [(f"{name} {ours.get(name)}", theirs.get(name)) for name in COMPARED if ours.get(name) != theirs.get(name)]
    if here["platform"] != there.get("platform"):
        pairs.append((here["platform"], there.get("platform")))
    kinds = [str(each.get("device", "")).partition(" x ")[2] for each in (here, there)]
    if kinds[0] != kinds[1] and all(kinds):
        pairs.append((kinds[0], kinds[1]))
    settings = [" ".join(each.get("settings", ())) or "no such settings" for each in (here, there)]
    if settings[0] != settings[1]:
        pairs.append((settings[0], settings[1]))
    widths = [str(each.get("vectors", "")) for each in (here, there)]
    if widths[0] != widths[1] and all(widths):
        pairs.append((widths[0], widths[1]))
    return [f"{one} here, {other} there" for one, other in pairs]


def all_differences(here: Mapping[str, Any], found: Iterable[Mapping[str, Any]]) -> list[str]:
    """In what one environment is not of the kinds of others, as `differences` says it, each once."""
    return list(dict.fromkeys(words for there in found for words in differences(here, there)))


def say_differences(here: Mapping[str, Any], found: Sequence[Mapping[str, Any]], what: str) -> bool:
    """Say where what trains now is not of the kind that began a run: what of it may then differ, in words.

    Returns:
        Whether it is not of the kind that trained last, which is then to be put on record.
    """
    different = all_differences(here, found[:1])
    if different:
        say(f"this process is not of the kind that began the run ({'; '.join(different)}): {what} may differ")
    return bool(found) and bool(differences(here, found[-1]))


def recorded_environment(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the run in a folder was begun with; None where no run is there, or its config.json says nothing. Raises as
    `recorded_environments`."""
    return next(iter(recorded_environments(path)), None)


def recorded_environments(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What the run in a folder was begun with, and what it went on with where that was of another kind; nothing where no run is there,
    or its config.json does not say it.

    Raises:
        StoreError: config.json cannot be read now. It is no run without a record, which any executor may train.
    """
    storage = open_storage(path)
    try:
        stored = description(storage.read(CONFIG))
        records = [stored["environment"], *(each["environment"] for each in stored.get("later", ()))]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError):
        return []
    except OSError as error:
        raise StoreError(f"cannot be read ({reason(error)})", f"{storage.location}/{CONFIG}") from None
    return [record for record in records if isinstance(record, dict)]


def recorded_executors(path: str | os.PathLike[str], configs: Sequence[EnsembleConfig]) -> list[str] | None:
    """The executor that each cell of the run in a folder was begun with, one per config; None where there is no record, or where it is of
    other cells. A record that names no cell is of a run by XLA. Raises as `recorded_environments`."""
    by_cell = (recorded_environment(path) or {}).get("executor")
    cells = list(map(fingerprint, configs))
    if not isinstance(by_cell, dict) or (by_cell and not set(cells) <= set(by_cell)):
        return None  # another run's executors are none of this one, which is refused for its config
    return [str(by_cell.get(cell, "xla")) for cell in cells]


@contextlib.contextmanager
def trained_as_recorded(location: str | os.PathLike[str] | None) -> Iterator[None]:
    """Where the executor that the run in a folder was begun with cannot train here, its error says so: another executor, which it allows
    to a new run, is refused to this one. Without a folder errors are as they are."""
    try:
        yield
    except ConfigError as error:
        words, here, another = str(error).rpartition("; allowed here: ")
        if location is None or not here or not words.startswith("--executor"):
            raise
        raise ConfigError(
            f"{words}; {location} was begun with it, and members differ between executors; allowed: a machine where it trains, or a new "
            f"folder with {another}"
        ) from None
