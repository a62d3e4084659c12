"""XLA's compilation for an H100 that is not there. Needs jax-cuda13-plugin and -pjrt, NVIDIA's wheel of ptxas, no driver.

XLA reads its settings when it starts, so that this is for a process of its own, with `environment`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

#: What XLA asks of a device, as NVIDIA publishes it for an H100 SXM.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation" platform_version: "Compute Capability 9.0a" name: "NVIDIA H100 80GB HBM3"
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.12.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def missing() -> str | None:
    """What is not installed here, in words; None where nothing is."""
    if importlib.util.find_spec("jax_plugins") is None or importlib.util.find_spec("jax_plugins.xla_cuda13") is None:
        return "no jax-cuda13-plugin; make test-gpu-static installs it"
    if _cuda() is None:
        return "no nvidia-cuda-nvcc; make test-gpu-static installs it"
    return None


def environment(dump: Path | None = None, *flags: str) -> dict[str, str]:
    """The environment of a process that compiles; `dump`: where XLA leaves the PTX that it makes; more flags of XLA's."""
    cuda = _cuda()
    assert cuda is not None
    words = [f"--xla_gpu_cuda_data_dir={cuda}", *([] if dump is None else [f"--xla_dump_to={dump}"]), *flags]
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "XLA_FLAGS": " ".join(words),
        "PATH": f"{cuda / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }


def device() -> Any:
    """The device, for shapes and shardings."""
    from jax.experimental import topologies

    found = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    return found.devices[0]


def _cuda() -> Path | None:
    places = (Path(folder) / "nvidia" / "cu13" for folder in sys.path)
    return next((place for place in places if (place / "bin" / "ptxas").is_file()), None)
