"""What XLA makes of the training of text adapters for an H100 that is not there: memory, operations, fused attention. Not measured.

Question. BERT-base, bfloat16, 128 tokens, rank 8, 32 pairs a step: how much memory does the compiled program need, how many
operations do its matrix products have, beside those that the work needs, and which does it leave to cuDNN's fused attention?

Command. `python -m benchmarks.text_static`, or `make gpu-static`, which has this table, too.

Time. Seventeen seconds of a processor per program. No GPU, no driver, no cuDNN.

How. `benchmarks/ahead.py` has the device. JAX asks cuDNN for its version and the device for its capability before it traces a
call of fused attention: both are told here. XLA compiles such a call without cuDNN, which makes its plan when a
GPU loads the program, so that its scratch memory is not in these numbers. Operations are those of all matrix products in XLA's
listing, loops over layers by the turns that XLA knows; a microbatch and a step are one turn. Those of fused attention
are the products that it stands for: two forwards, five backwards, of which one makes the weights again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too

from benchmarks import ahead
from benchmarks.text_work import SIZES, TextWork, executed_share, flops_per_token
from ncsim.formatting import json_text

WORK = TextWork(size="bert-base", batch=32, tokens=128, precision="bfloat16", adapters=16)
#: Attention, and adapters trained together.
PROGRAMS = (("xla", 1), ("cudnn", 1), ("xla", 8), ("cudnn", 8), ("xla", 16), ("cudnn", 16))
#: XLA measures on the device which of its own kernels for a product are faster than cuBLAS's. Without one it takes its own untried,
#: and has none for some sizes ("Couldn't find output tile sizes").
WITHOUT_TRITON = "--xla_gpu_enable_triton_gemm=false"
#: cuDNN's version that jax[cuda13] brings, as it writes it.
CUDNN = 91_200


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile, count, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--program", nargs=2, metavar=("ATTENTION", "ADAPTERS"), help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=SIZES, default=WORK.size, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.program:
        work = (
            WORK if parsed.size == WORK.size else TextWork(size=parsed.size, batch=4, tokens=64, precision="bfloat16")
        )
        print(json.dumps(row(work, parsed.program[0], int(parsed.program[1]))))
        return
    rows = table()
    if parsed.json:
        parsed.json.write_text(json_text({"rows": rows}))


def table() -> list[dict[str, Any]]:
    """A row for each of `PROGRAMS`, printed as they come."""
    rows = []
    print(HEADER)
    for attention, adapters in PROGRAMS:
        rows.append(compiled(attention, adapters))
        print(_line(rows[-1]), flush=True)
    return rows


def compiled(attention: str, adapters: int, size: str = WORK.size) -> dict[str, Any]:
    """`row`, by a process of its own: XLA reads its settings when it starts."""
    command = [sys.executable, "-m", "benchmarks.text_static", "--size", size, "--program", attention, str(adapters)]
    done = subprocess.run(
        command, check=True, env=ahead.environment(None, WITHOUT_TRITON), stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(work: TextWork, attention: str, adapters: int) -> dict[str, Any]:
    """What XLA compiles for adapters trained together; what they need; shares."""
    from ncsim.text.training.programs import _memory

    setting, program = _program(work, attention, adapters)
    listing = program.as_text()
    counted = operations(listing)
    config = SIZES[work.size]
    tokens = adapters * setting.microbatch * setting.row
    needed = tokens * flops_per_token(config, setting.row, work.rank)
    memory = program.memory_analysis()
    return {
        "size": work.size,
        "precision": work.precision,
        "attention": attention,
        "adapters": adapters,
        "rows_at_a_time": setting.microbatch,
        "tokens_of_a_row": setting.row,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "needed_bytes": _memory(program),
        "fused_attention_calls": counted.fused,
        "matrix_products": counted.products,
        "operations": counted.operations,
        "operations_formula": needed * executed_share(config, setting.row, work.rank),
        "operations_to_formula": round(counted.operations / needed / executed_share(config, setting.row, work.rank), 4),
    }


def _program(work: TextWork, attention: str, adapters: int) -> tuple[Any, Any]:
    """A group's setting, and its training compiled for the device that is not there."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from ncsim.text.config import TextConfig
    from ncsim.text.model.bert import parameter_shapes
    from ncsim.text.records import AdapterId
    from ncsim.text.training.programs import ADAPTERS, _Programs, adapter_mesh
    from ncsim.text.training.shapes import best_microbatch, setting_of

    bert, config = SIZES[work.size], TextConfig(ranks=(work.rank,), batch_size=work.batch, precision=work.precision)
    tokens, _ = work.tokens_without_padding()
    with _as_on_a_gpu():
        mesh = adapter_mesh([ahead.device()])
        spread, same = NamedSharding(mesh, PartitionSpec(ADAPTERS)), NamedSharding(mesh, PartitionSpec())
        setting = setting_of(config, bert, tokens.lengths, work.batch * work.steps, work.rank)
        rows = best_microbatch(setting, tokens.lengths, adapters, "gpu")
        setting = setting._replace(microbatch=rows, attention=attention)

        def like(tree: Any, sharding: Any, dtype: Any = None) -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=sharding), tree
            )

        backbone = like(parameter_shapes(bert), same, jnp.dtype(work.precision))
        group = [AdapterId(work.rank, number // 4, number % 4) for number in range(adapters)]
        keys = jax.ShapeDtypeStruct((adapters, 2), jnp.uint32, sharding=spread)
        scales = jax.ShapeDtypeStruct((adapters,), jnp.float32, sharding=spread)
        return setting, _Programs(setting, mesh).training(
            backbone, like(tokens, same), group, keys, scales, spread, same
        )


@contextlib.contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """JAX and ncsim as where the first device is an H100 with cuDNN."""
    import jax
    from jax._src.cudnn import fused_attention_stablehlo as fused

    patches: list[contextlib.AbstractContextManager[Any]] = [
        mock.patch.object(jax, "default_backend", return_value="gpu"),
        mock.patch.object(fused, "check_cudnn_version", return_value=CUDNN),
        mock.patch.object(fused, "check_compute_capability", lambda least: float(least) <= 9.0),
        mock.patch.object(fused, "is_cuda_compute_capability_equal", lambda which: which == "9.0"),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


# ------------------------------------------------------------------------------------------------------ XLA's listings


class Counted(NamedTuple):
    """What is done in a program, loops by their turns where XLA knows them."""

    operations: float  # of matrix products; a multiply-add is two
    products: float  # how many there are
    fused: float  # calls of fused attention, forwards and backwards


_COMPUTATION = re.compile(r"^(?:ENTRY )?(%[\w.\-]+) \(.*\{$", re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?(%[\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")


def operations(listing: str) -> Counted:
    """Of a compiled program's listing: `dot`, in fusions or not, products that cuBLAS does, and cuDNN's attention."""
    bodies = dict(_computations(listing))
    entry = next(name for name in bodies if re.search(rf"^ENTRY {re.escape(name)} ", listing, re.MULTILINE))

    @functools.cache
    def of(name: str) -> Counted:
        total = Counted(0.0, 0.0, 0.0)
        shapes: dict[str, str] = {}
        for line in bodies[name]:
            if (found := _INSTRUCTION.match(line)) is None:
                continue
            result, shape, kind, rest = found.groups()
            shapes[result] = shape
            own = _own(kind, shape, rest, shapes)
            turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
            for inner in re.findall(r"(?:calls|body|to_apply)=(%[\w.\-]+)", rest):
                times = int(turns[1]) if turns and kind == "while" else 1
                own = Counted(*(a + times * b for a, b in zip(own, of(inner), strict=True)))
            for branches in re.findall(r"branch_computations=\{(.*?)\}", rest):
                own = max([own, *(of(inner) for inner in re.findall(r"%[\w.\-]+", branches))])
            total = Counted(*(a + b for a, b in zip(total, own, strict=True)))
        return total

    return of(entry)


def _computations(listing: str) -> Iterator[tuple[str, list[str]]]:
    """Each function of a listing by name, and its lines."""
    for found in _COMPUTATION.finditer(listing):
        yield found[1], listing[found.end() : listing.index("\n}", found.end())].splitlines()


def _own(kind: str, shape: str, rest: str, shapes: dict[str, str]) -> Counted:
    """What one instruction does by itself."""
    if kind == "dot" or (kind == "custom-call" and ('"__cublas$' in rest or '"__triton' in rest)):
        lhs = re.findall(r"%[\w.\-]+", rest)[0]
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest) or re.search(
            r'"lhs_contracting_dimensions":\[([\d,"]*)\]', rest
        )
        assert axes is not None, f"a product of unknown axes: {kind}({rest[:80]}"
        sides = _sides(shapes[lhs])
        inner = math.prod(sides[int(axis)] for axis in re.findall(r"\d+", axes[1]))
        return Counted(2.0 * math.prod(_sides(shape)) * inner, 1, 0)
    if kind == "custom-call" and '"__cudnn$fmha' in rest:
        batch, tokens, heads, size = _sides(shapes[re.findall(r"%[\w.\-]+", rest)[0]])
        products = 5 if "Backward" in rest else 2
        return Counted(2.0 * batch * heads * tokens**2 * size * products, 0, 1)
    return Counted(0, 0, 0)


def _sides(shape: str) -> list[int]:
    """Of an array, or of a tuple's first one."""
    found = _SHAPE.search(shape)
    assert found is not None, shape
    return [int(side) for side in found[1].split(",") if side]


HEADER = "attention  adapters  rows x tokens  arguments GB  temporary GB  fused calls  products  operations  of the formula's"


def _line(found: dict[str, Any]) -> str:
    return (
        f"{found['attention']:<9} {found['adapters']:>9} {found['rows_at_a_time']:>7} x {found['tokens_of_a_row']:<4} "
        f"{found['argument_bytes'] / 1e9:>14.2f} {found['temporary_bytes'] / 1e9:>13.2f} {found['fused_attention_calls']:>12.0f} "
        f"{found['matrix_products']:>9.0f} {found['operations']:>11.3g} {found['operations_to_formula']:>17.3f}"
    )


if __name__ == "__main__":
    main()
