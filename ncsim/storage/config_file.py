"""config.json: what a run is, and what it was begun with. It holds a checksum of itself."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ncsim.storage.checksums import UNSEALED, is_whole, sealed
from ncsim.storage.files import open_storage

#: Format of config.json: 1 had no checksum, and is still read.
FORMAT = 2
CONFIG, CONFIG_COPY = "config.json", "config-copy.json"


def described(stored: dict[str, Any]) -> bytes:
    """The content of config.json; an old run that is extended stays in its format."""
    if stored["format"] == 1:
        return json.dumps(stored, indent=2).encode()
    return sealed(json.dumps(stored | {"checksum": UNSEALED}, indent=2).encode())


def description(content: bytes) -> dict[str, Any]:
    """What config.json says. Raises ValueError where it is damaged, or is something else."""
    whole = is_whole(content)
    if whole is False:
        raise ValueError("its checksum is not that of its content")
    stored = json.loads(content.decode())
    if not isinstance(stored, dict) or stored.get("format") not in (1, FORMAT):
        raise ValueError(f"its format is not {FORMAT}")
    if whole is None and stored["format"] == FORMAT:
        raise ValueError("its checksum is gone")
    return stored


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
