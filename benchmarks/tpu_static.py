"""The kernel's step on a TPU, read from machine code, without a device: `python -m benchmarks.tpu_static`.

libtpu compiles for a v5e that is not there (`jax.experimental.topologies`) and writes the bundles it made. Counted are those
of the inner loop, which is one step of the 1,024 networks of a program: a bundle is issued per cycle at best. Nothing is
measured on a device. The library is found by TPU_LIBRARY_PATH or as the package libtpu; `make test-tpu-static` installs it.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ncsim.config.ensemble import EnsembleConfig

#: What is no operation of the four vector units: loads, stores, the unit for functions, moves of the loop.
_OTHERS = "vld vst vphi vpop vpow2 vrcp vrsqrt vsync vcmask".split()
NETWORKS = 65_536


def main() -> None:
    """Compile for each width and print a row of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--loss", default="bce")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _describe_machine(Path(folder))
        import jax

        print(f"TPU v5e, compiled by libtpu with jax {jax.__version__}; static, not measured on a device")
        print("| optimizer, loss | n | bundles per step | vector operations | fills | spills | compile, s |")
        print("|---|---|---|---|---|---|---|")
        for hidden in given.hidden:
            for old in Path(folder).iterdir():
                old.unlink()
            begun = time.perf_counter()
            compile_kernel(EnsembleConfig(hidden=hidden, optimizer=given.optimizer, loss=given.loss))
            seconds = time.perf_counter() - begun
            found = " | ".join(str(number) for number in count(Path(folder)))
            print(f"| {given.optimizer}, {given.loss} | {hidden} | {found} | {seconds:.0f} |", flush=True)


def _describe_machine(folder: Path) -> None:
    """What libtpu reads when it is loaded: where it writes, and that there is no TPU to ask."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # its lock is of a device, and none is used
    flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
    os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {flags}".strip()


def compile_kernel(config: EnsembleConfig) -> None:
    """Compile the training of a block for a TPU.

    Raises:
        jax.errors.JaxRuntimeError: libtpu refuses the kernel, or is not there.
    """
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies

    from ncsim.executors import pallas
    from ncsim.training.initialization import vector_size

    device = topologies.get_topology_desc("v5e:2x2", "tpu").devices[0]
    there = jax.sharding.SingleDeviceSharding(device)
    shapes: list[tuple[tuple[int, ...], Any]] = [((vector_size(config), NETWORKS), jnp.float32)]
    shapes += [((config.tasks.rows, 2), jnp.float32)]
    shapes += [((), jnp.float32), ((), jnp.int32)]
    like = [jax.ShapeDtypeStruct(shape, kind, sharding=there) for shape, kind in shapes]
    jax.jit(lambda *given: pallas.training("tpu")(config, *given)).lower(*like).compile()


def count(folder: Path) -> tuple[int, int, int, int]:
    """Bundles of the kernel's inner loop, and in them operations of the vector units, fills and spills of registers."""
    text = max(folder.glob("*ncsim_train*-final_bundles.txt")).read_text()
    bundles, kinds = 0, Counter[str]()
    for line in text.splitlines():
        begins = re.match(r"\s*0x[0-9a-f]+\s*(?:\w+)?\s*:\s*(>+)?\s*\{", line)
        if not begins or len(begins.group(1) or "") < 2:  # the depth of loops
            continue
        bundles += 1
        for operation in line.split(";;"):
            kind = re.search(r"=\s*(v?[a-z0-9_]+(?:\.[a-z0-9_]+)*)", operation)
            name = kind.group(1) if kind else ""
            if "_spill]" in operation:
                name = "fill" if "= vld" in operation or " vld " in operation else "spill"
            kinds[name] += 1
    units = sum(n for name, n in kinds.items() if name.startswith("v") and not name.startswith(tuple(_OTHERS)))
    return bundles, units, kinds["fill"], kinds["spill"]


if __name__ == "__main__":
    main()
