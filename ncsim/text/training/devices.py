"""Devices of a text run: which are used, and what memory each has left."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from ncsim.errors import ConfigError, DeviceError
from ncsim.executors.devices import failing_in_one_line, out_of_memory
from ncsim.forks import check_not_forked
from ncsim.machine import available_memory, processor_features, vectors
from ncsim.text.training.programs import adapter_mesh


def mesh_of(devices: int | None) -> Mesh:
    """The devices to use. On a CPU one device has all cores, unless more are asked for."""
    check_not_forked()
    with contextlib.suppress(RuntimeError):  # raised once JAX has started
        if devices is not None:
            jax.config.update("jax_num_cpu_devices", devices)
    available = jax.devices()
    if devices is None:
        devices = 1 if available[0].platform == "cpu" else len(available)
    if not 1 <= devices <= len(available):
        raise ConfigError(
            f"--devices: {devices}; allowed: 1 to {len(available)}, the devices that JAX has started with"
        )
    return adapter_mesh(available[:devices])


#: The jaxlib from which XLA has AVX512-BF16 and AMX do products of bfloat16 (measured: benchmarks/notes-text.md).
BFLOAT16_SINCE = (0, 11, 2)


def slow_precision(precision: str, platform: str) -> str | None:
    """In words that bfloat16 is slower than float32 on this processor; None where it is not.

    It is said and not refused: results are those that other machines compute, and a run may move between machines.
    """
    if precision != "bfloat16" or platform != "cpu":
        return None
    features = processor_features()
    if not features or "bf16" in features:
        return None
    if not features & {"avx512_bf16", "amx_bf16"}:
        return "--precision bfloat16: this processor has no instructions for it, so that float32 is faster here"
    version = importlib.metadata.version("jaxlib")
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < BFLOAT16_SINCE:
        return (
            f"--precision bfloat16: jaxlib {version} makes no use of this processor's instructions for it, so that float32 is "
            f"faster here; jaxlib {'.'.join(map(str, BFLOAT16_SINCE))} does"
        )
    return None


def free_memory(mesh: Mesh) -> float:
    """Bytes that a program may have on each device; infinite where the platform does not say."""
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return available_memory() / mesh.devices.size
    stats = device.memory_stats() or {}
    return float(stats.get("bytes_limit", float("inf"))) - float(stats.get("bytes_in_use", 0))


@contextlib.contextmanager
def held_by_devices(what: str) -> Iterator[None]:
    """Say in one line of what all groups need that a device has no memory for it, or failed. Raises DeviceError."""
    try:
        with failing_in_one_line(unless=out_of_memory):
            yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise DeviceError(
            f"a device has no memory for {what}; allowed: a smaller model, fewer items, a device with more memory, or "
            "JAX_PLATFORMS=cpu"
        ) from None


def vectors_of(mesh: Mesh) -> dict[str, str]:
    """How wide vectors are, where processors train: with others, sums of products are added up in another order. Of the small runs of the
    tests weights differ between 256 and 512 bits (--xla_cpu_max_isa), where members of an ensemble are the same."""
    found = vectors() if mesh.devices.flat[0].platform == "cpu" else ""
    return {"vectors": found} if found else {}
