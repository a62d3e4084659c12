"""What the cuda executor's kernel would cost on an H100, modelled from its machine code: not measured on a device.

Question. How many instructions does a training step have, what do registers allow, and what share of the multiply-add
ceiling would that be? Beside it stands XLA's own program, as it compiles it for an H100.

Command. `make gpu-static`, which installs NVRTC, ptxas and nvdisasm, and runs
`python -m benchmarks.gpu_static --xla --text --json benchmarks/results/gpu-static.json`

Time. About ten minutes on two cores. No GPU and no driver.

How. `benchmarks/sass.py` has the model. Where a team of threads shares a network, a network costs as many threads. XLA's own
program is bound by memory at these sizes, since its state does not stay on the chip: its rate is at most the bytes that the device
moves in a second, by the bytes that its kernels read and write in a step (operands and results, each once). Operations of a step are those of `benchmarks/ceilings.py`; they are known for Adam with
binary cross-entropy alone, so that other rows have no share of the ceiling. sm_80 and sm_100 are assembled to see
registers and spills; the model is of sm_90.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncsim.formatting import json_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too

from benchmarks import ahead, sass, text_static
from benchmarks.ceilings import operations

WIDTHS = (2, 3, 4, 8, 9, 16, 32, 64)
#: And with more rows than the paper's 16.
MANY_ROWS, MANY_ROWS_WIDTHS = 64, (16, 64)
#: Of an H100's memory.
BYTES_A_SECOND = 3.35e12
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
NETWORKS = 1 << 18
WHAT = "static, modelled from machine code; not measured on a device"
PACKAGES = ("jax", "nvidia-cuda-nvrtc", "nvidia-cuda-nvcc", "nvidia-cuda-nvdisasm", "jax-cuda13-plugin")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile, count, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--xla", action="store_true", help="the bytes of XLA's own program, too")
    parser.add_argument("--text", action="store_true", help="the training of text adapters as XLA compiles it, too")
    parser.add_argument("--xla-bytes", metavar="N", nargs=2, type=int, help=argparse.SUPPRESS)  # a process of its own
    parser.add_argument("--widths", metavar="N", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--brief", action="store_true", help="Adam with binary cross-entropy alone")
    parsed = parser.parse_args(arguments)
    if parsed.xla_bytes is not None:
        print(_bytes_of_xla(*parsed.xla_bytes))
        return
    from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS

    rows = []
    print(f"{WHAT}\n{HEADER}")
    for hidden in parsed.widths:
        for architecture in ARCHITECTURES:
            rows.append(_printed(row("cuda", hidden, "adam", "bce", generated(hidden), architecture, threads(hidden))))
        if parsed.xla:
            rows.append(_printed(xla(hidden)))
    for hidden in [] if parsed.brief else MANY_ROWS_WIDTHS:
        rows += [_printed(many_rows(hidden)), *([_printed(xla(hidden, MANY_ROWS))] if parsed.xla else [])]
    options = [("adam", "squared_error"), ("adam", "cross_entropy")]
    options += [(name, "bce") for name in ELEMENTWISE_OPTIMIZERS if name != "adam"]
    for optimizer, loss in [] if parsed.brief else options:
        ptx = generated(3, optimizer, loss)
        rows.append(_printed(row("cuda", 3, optimizer, loss, ptx, "sm_90")))
    text = {"text": text_static.table()} if parsed.text else {}
    if parsed.json:
        made = {"what": WHAT, "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "packages": _versions()}
        parsed.json.write_text(json_text(made | {"rows": rows} | text))


def config_of(hidden: int, optimizer: str = "adam", loss: str = "bce", rows: int = 16) -> Any:
    """The paper's tasks of 16 rows, or own ones of six bits."""
    import ncsim

    if rows == 16:
        return ncsim.EnsembleConfig(hidden=hidden, optimizer=optimizer, loss=loss)
    alice, bob = [_first_parity, lambda *x: x[0] | x[1]], [lambda *x: x[3] ^ x[4] ^ x[5], lambda *x: x[3] & x[4]]
    tasks = ncsim.truth_tables(alice, bob, features=rows.bit_length() - 1, name=f"{rows} rows")
    return ncsim.EnsembleConfig(hidden=hidden, optimizer=optimizer, loss=loss, tasks=tasks)


def _first_parity(*x: int) -> int:
    return x[0] ^ x[1] ^ x[2]


def generated(hidden: int, optimizer: str = "adam", loss: str = "bce", rows: int = 16) -> str:
    """The PTX that the cuda executor has for a config, of the second context."""
    from ncsim.executors.cuda import program
    from ncsim.executors.native.program import shape

    return program.ptx(shape(config_of(hidden, optimizer, loss, rows)), 1, NETWORKS)


def threads(hidden: int, rows: int = 16) -> int:
    """Threads that share a network of the cuda executor's kernel."""
    from ncsim.executors.cuda import program
    from ncsim.executors.native.program import shape

    return program.threads_of(program.kernels(shape(config_of(hidden, rows=rows)))[1])


def many_rows(hidden: int) -> dict[str, Any]:
    """The kernel's line for tasks of `MANY_ROWS` rows; operations of a step are not counted for them."""
    ptx, shared = generated(hidden, rows=MANY_ROWS), threads(hidden, MANY_ROWS)
    found = row("cuda", hidden, "adam", "bce", ptx, "sm_90", shared) | {"rows": MANY_ROWS}
    del found["modelled_share_of_ceiling"]
    return found


def xla(hidden: int, rows: int = 16) -> dict[str, Any]:
    """The line of XLA's own program: what memory allows at most."""
    command = [sys.executable, "-m", "benchmarks.gpu_static", "--xla-bytes", str(hidden), str(rows)]
    done = subprocess.run(command, check=True, env=ahead.environment(), stdout=subprocess.PIPE, text=True)
    moved = float(done.stdout.split()[-1])
    rate = BYTES_A_SECOND / moved
    share = {"modelled_share_of_ceiling": round(rate * operations(hidden) / sass.CEILING, 3)}
    return {
        **{"executor": "xla", "hidden": hidden, "optimizer": "adam", "loss": "bce", "architecture": "sm_90"},
        "bytes_a_network_step": round(moved, 1),
        "modelled_network_steps_a_second": float(f"{rate:.3g}"),
    } | (share if rows == 16 else {"rows": rows})


def row(
    executor: str, hidden: int, optimizer: str, loss: str, ptx: str, architecture: str, threads: int = 1
) -> dict[str, Any]:
    """A kernel's line of the table, with so many threads a network; rates and shares where the model has them."""
    kernel = sass.assembled(ptx, architecture)
    rate = kernel.rate / threads
    found: dict[str, Any] = {
        "executor": executor,
        "hidden": hidden,
        "optimizer": optimizer,
        "loss": loss,
        "architecture": architecture,
        "threads_a_network": threads,
        "registers": kernel.registers,
        "spilled_bytes": kernel.spilled,
        "warps": kernel.warps,
        "instructions": len(kernel.loop),
        "pipes": kernel.pipes,
    }
    if architecture == "sm_90":
        found["modelled_cycles"] = round(kernel.cycles, 1)
        found["modelled_network_steps_a_second"] = float(f"{rate:.3g}")
        if (optimizer, loss) == ("adam", "bce"):
            found["modelled_share_of_ceiling"] = round(rate * operations(hidden) / sass.CEILING, 3)
    return found


HEADER = (
    "executor  n  optimizer, loss                      arch    threads registers spilled warps instructions modelled rate"
    "  ceiling"
)


def _printed(found: dict[str, Any]) -> dict[str, Any]:
    rate, share = found.get("modelled_network_steps_a_second"), found.get("modelled_share_of_ceiling")
    words = f"{found['optimizer']}, {found['loss']}" + (f", {found['rows']} rows" if "rows" in found else "")
    of_kernel = ("threads_a_network", "registers", "spilled_bytes", "warps", "instructions")
    threads, registers, spilled, warps, instructions = (found.get(name, "") for name in of_kernel)
    print(
        f"{found['executor']:<8} {found['hidden']:>2}  {words:<36} {found['architecture']:<7} {threads:>7} {registers:>9} "
        f"{spilled:>7} {warps:>5} {instructions:>12} "
        f"{'' if rate is None else f'{rate:.2e}':>13} {'' if share is None else f'{share:.0%}':>8}",
        flush=True,
    )
    return found


def _bytes_of_xla(hidden: int, rows: int) -> float:
    """Bytes that a network-step of XLA's own program reads and writes on an H100: operands and results of its kernels."""
    import jax
    import jax.numpy as jnp

    from ncsim.training.network import Architecture
    from ncsim.training.step import make_step

    networks, config = 16_384, config_of(hidden, rows=rows)
    sharding = jax.sharding.SingleDeviceSharding(ahead.device())

    def step(carry: Any, targets: Any, rate: Any) -> Any:
        return make_step(config, targets, rate)[1](carry)

    def like(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    vector, targets, rate = like((Architecture.of(config).size, networks)), like((config.tasks.rows, 2)), like(())
    carry = jax.eval_shape(lambda v, t, r: make_step(config, t, r)[0](v), vector, targets, rate)
    carry = jax.tree.map(lambda leaf: like(leaf.shape, leaf.dtype), carry)
    compiled = jax.jit(step).lower(carry, targets, rate).compile()
    return bytes_of_kernels(compiled.as_text() or "") / networks


#: Of XLA's listings: an instruction's name, its result, what it does, and its operands.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?(%[\w.\-]+) = (.+?) ([\w\-]+)\((.*?)\)(?:,|$)")
_SHAPE = re.compile(r"\b(pred|[sufc]\d+|bf16)\[([\d,]*)\]")
#: What moves nothing.
_FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant"}


def bytes_of_kernels(listing: str) -> int:
    """What the kernels of a compiled program read and write: each operand and each result once, whole."""
    lines = listing[listing.index("\nENTRY ") :].split("\n}")[0].splitlines()
    found = [match.groups() for line in lines if (match := _INSTRUCTION.match(line))]
    sizes = {name: _bytes(result) for name, result, _, _ in found}
    return sum(
        sizes[name] + sum(sizes.get(operand, 0) for operand in re.findall(r"%[\w.\-]+", operands))
        for name, _, kind, operands in found
        if kind not in _FREE
    )


def _bytes(shape: str) -> int:
    """Of arrays as XLA writes their types."""
    total = 0
    for kind, lengths in _SHAPE.findall(shape):
        width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
        total += width * math.prod(int(length) for length in lengths.split(",") if length)
    return total


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


if __name__ == "__main__":
    main()
