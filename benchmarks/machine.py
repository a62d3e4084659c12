"""What a measurement was made on: the processor, the versions, the date. No names of hosts or paths."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ncsim
from benchmarks.native import compiler_version
from ncsim.machine import cores

#: Processor flags that decide how fast small networks train.
FLAGS = ("avx2", "fma", "avx512f", "avx512dq", "asimd", "sve")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "peft")

_PROBE = "import jax; d = jax.devices(); print(jax.default_backend(), len(d), d[0].device_kind, sep='|')"


def description() -> dict[str, Any]:
    """Processor, cores, flags, accelerator, versions, date and load, as JSON can hold them."""
    backend, devices, kind = accelerator()
    return {
        "processor": processor(),
        "cores": cores(),
        "flags": [flag for flag in FLAGS if flag in _cpuinfo_field("flags|Features").split()],
        "backend": backend,
        "devices": devices,
        "device_kind": kind,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"ncsim": ncsim.__version__} | {name: _version(name) for name in PACKAGES},
        "compiler": compiler_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def lines(machine: dict[str, Any]) -> list[str]:
    """The description in words, with a warning where others were using the machine."""
    device = "" if machine["backend"] == "cpu" else f"; {machine['devices']} x {machine['device_kind']}"
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["packages"].items())
    found = [
        f"{machine['processor']}, {machine['cores']} cores ({' '.join(machine['flags'])}){device}, {machine['date']}",
        f"Python {machine['python']}, {packages}; {machine['compiler']}",
    ]
    if machine["load_at_start"] > 0.5:
        found.append(
            f"WARNING: load average {machine['load_at_start']} at the start: others were computing too, rates are too low"
        )
    return found


def processor() -> str:
    """The processor's name."""
    return _cpuinfo_field("model name|Hardware|CPU part") or platform.processor() or "unknown processor"


def accelerator() -> tuple[str, int, str]:
    """JAX's default backend, its devices and their kind, asked in a process that ends: no device stays held."""
    result = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"JAX does not start: {result.stderr.strip().splitlines()[-1]}")
    backend, count, kind = result.stdout.strip().splitlines()[-1].split("|")
    return backend, int(count), kind


def _cpuinfo_field(names: str) -> str:
    try:
        found = re.search(rf"^(?:{names})\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
