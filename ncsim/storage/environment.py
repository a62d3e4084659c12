"""What a run was begun with: versions, platform, revision, device and executor; and how two machines differ."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.storage.config_file import CONFIG, description
from ncsim.storage.files import open_storage


def environment() -> dict[str, Any]:
    """What besides the config shaped the bits: versions, platform, source revision."""
    versions = {}
    for package in ("ncsim", "jax", "jaxlib", "flax", "optax", "numpy", "pyarrow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    source = Path(__file__).resolve().parents[2]
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


def recorded_environment(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the run in a folder was begun with; None where no run is there, or none that can be read."""
    try:
        record = description(open_storage(path).read(CONFIG))["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def recorded_executors(path: str | os.PathLike[str], configs: Sequence[EnsembleConfig]) -> list[str] | None:
    """The executor that each cell of the run in a folder was begun with, one per config; None where there is no record."""
    by_cell = (recorded_environment(path) or {}).get("executor")
    if not isinstance(by_cell, dict):
        return None
    return [str(by_cell.get(fingerprint(config), "xla")) for config in configs]
