"""The first minutes on a GPU, from nothing to a table: is every executor right, how fast is each, how near the limits.

Question. On this GPU: do the executors agree with the CPU after ten steps, and have the laws of joint counts of the CPU? How many
network-steps a second has each at each width, and which share of the measured float32 rate is that? Which launch of the CUDA
kernel is fastest? How long do 10^6 members of three widths take from command to report? How many sequences a second do
adapters over BERT-base train?

Command. `make gpu`, which installs the extras `cuda` and `text` and runs
`python -m benchmarks.first_minutes --out runs/gpu`

Time. At most `--seconds` (480), whatever happens: each stage is a process with a limit of its own, and what it has found is in
the folder at once. The same command goes on where an earlier one was ended; `--anew` begins with nothing. What is refused or
fails is one line of the table. Without a GPU, or with `--rehearse`, every stage runs small on the CPU: to see that it works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too

from benchmarks import first_stages, machine, stages
from ncsim.formatting import table
from ncsim.machine import cores

#: A stage is not begun with less time than this.
LEAST_SECONDS = 5.0
#: Words of an item that has no numbers, with the reason.
NOT_DONE = {"refused", "failed"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what has no result yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--seconds", metavar="S", type=float, default=480.0, help="for all stages (default: 480)")
    parser.add_argument("--since", metavar="TIME", type=float, help="when these seconds began, as date +%%s says")
    parser.add_argument("--only", metavar="STAGE", nargs="+", choices=first_stages.STAGES, help="these stages alone")
    parser.add_argument("--rehearse", action="store_true", help="every stage small, on the CPU")
    parser.add_argument("--anew", action="store_true", help="forget what the folder holds")
    parser.add_argument("--stage", choices=first_stages.STAGES, help=argparse.SUPPRESS)  # a process of its own
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.stage:
        sys.exit(_stage(parsed))
    end = (parsed.since or time.time()) + parsed.seconds
    rehearsal = parsed.rehearse or not _gpu_is_here()
    out = parsed.out / "rehearsal" if rehearsal else parsed.out
    if parsed.anew:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in first_stages.STAGES if parsed.only is None or name in parsed.only]
    ended = {name: _run(name, out, rehearsal, end) for name in chosen}
    print("\n".join(report(out, rehearsal, ended)), flush=True)


def _gpu_is_here() -> bool:
    try:
        backend = machine.accelerator()[0]
    except RuntimeError as error:
        sys.exit(f"first minutes: error: {error}; to rehearse on the CPU: JAX_PLATFORMS=cpu and --rehearse")
    if backend != "gpu":
        _say(f"JAX has no GPU here ({backend}): a rehearsal on the CPU")
    return backend == "gpu"


def _run(name: str, out: Path, rehearsal: bool, end: float) -> str:
    """Run one stage in a process; how it ended, in words."""
    left = end - time.time()
    limit = left if rehearsal else min(first_stages.STAGES[name][1], left)
    if limit < LEAST_SECONDS:
        return "not begun: no time was left"
    _say(f"{name}: at most {limit:.0f} s")
    command = [sys.executable, "-m", "benchmarks.first_minutes", "--stage", name, "--out", str(out)]
    command += ["--limit", str(limit), *(["--rehearse"] if rehearsal else [])]
    here = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    if rehearsal:
        environment["JAX_PLATFORMS"] = "cpu"
    how = stages.run_stage(out / f"{name}.json", command, limit, environment)
    _say(f"{name}: {how}")
    return how


def _stage(parsed: argparse.Namespace) -> int:
    """What a stage's process does. Its end comes by itself where nobody is left to end it."""
    signal.setitimer(signal.ITIMER_REAL, parsed.limit + 5)
    from ncsim.executors.devices import prepare_jax
    from ncsim.executors.own_programs import own_programs

    prepare_jax(1 if parsed.rehearse else cores())
    make = first_stages.STAGES[parsed.stage][0]
    sizes = first_stages.SMALL if parsed.rehearse else first_stages.FULL
    items = make(first_stages.Here(sizes, parsed.out, parsed.rehearse))
    with own_programs():  # a program that a stage has made is there for the next
        return stages.do_items(parsed.out / f"{parsed.stage}.json", items)


# ---------------------------------------------------------------------------------------------------------------- table


def report(out: Path, rehearsal: bool, ended: dict[str, str]) -> list[str]:
    """The table, as lines, of what a folder holds. `ended`: how stages ended, of those that ran."""
    lines = ["", "REHEARSAL on a CPU, small: no number here is of a GPU" if rehearsal else "Measured on this GPU"]
    ceiling = _ceiling(out)
    for name in first_stages.STAGES:
        found = stages.read(out / f"{name}.json")["items"]
        lines += ["", f"{name}: {ended.get(name, 'of an earlier call' if found else 'not run')}"]
        rows = [
            [item, *cells]
            for item, result in found.items()
            if not NOT_DONE & result.keys()
            for cells in _CELLS[name](result, ceiling)
        ]
        lines += table(HEADERS[name], rows) if rows else []
        for item, result in found.items():
            lines += [f"  {item}: {word}: {result[word]}" for word in sorted(NOT_DONE & result.keys())]
    return [*lines, "", f"everything: {out}"]


def _ceiling(out: Path) -> float | None:
    """Measured float32 operations a second."""
    found = stages.read(out / "ceilings.json")["items"].values()
    return next((each["multiply_add_operations"] for each in found if "multiply_add_operations" in each), None)


def _share(result: dict[str, Any], ceiling: float | None) -> str:
    return "" if ceiling is None else f"{result['operations'] / ceiling:.1%}"


def _device_cells(result: dict[str, Any], _: float | None) -> Iterator[list[str]]:
    nvrtc = "NVRTC" if result["nvrtc"] else "no NVRTC"
    yield [result["device"], result["card"] or "-", f"jax {result['jax']}, {nvrtc}"]


def _ceiling_cells(result: dict[str, Any], _: float | None) -> Iterator[list[str]]:
    yield [f"{result['multiply_add_operations']:.3g}", f"{result['copy_bytes']:.3g}"]


def _rate_cells(result: dict[str, Any], ceiling: float | None) -> Iterator[list[str]]:
    right = "as the CPU" if result["right"] else "WRONG"
    rate = f"{result['rate']:.3g}" if result["right"] else "-"
    apart = f"{result['apart_99']:.0e}, {result['apart_most']:.0e}"
    yield [right, apart, rate, _share(result, ceiling), f"{result['compile_seconds']:.1f}"]


def _member_cells(result: dict[str, Any], _: float | None) -> Iterator[list[str]]:
    for law, member in zip(result["laws"], result["members"], strict=True):
        cpu, here = member["solved"]
        differ = f"{member['differ']:,} ({member['differ_undecided']:,})"
        yield [law["context"], f"{law['p']:.4f}", f"{cpu:,}", f"{here:,}", differ, f"{member['members']:,}"]


def _large_cells(result: dict[str, Any], _: float | None) -> Iterator[list[str]]:
    by = ", ".join(result["executors"])
    yield [f"{result['wall_seconds']:.1f}", f"{result['rate']:.3g}", by, "; ".join(result["said"]) or "-"]


def _text_cells(result: dict[str, Any], _: float | None) -> Iterator[list[str]]:
    for one in result["measured"]:
        rate = sorted(one["rates"])[len(one["rates"]) // 2] if one["rates"] else 0.0
        yield [
            one["detail"] or one["name"],
            f"{rate:,.1f}",
            f"{one['utilisation']:.3f}",
            f"{result['matrix_products']:.3g}",
        ]


HEADERS: dict[str, list[str]] = {
    "device": ["", "device", "card", "versions"],
    "ceilings": ["", "float32 operations/s", "bytes copied/s"],
    "rates": ["", "losses after 10 steps", "apart: 99 %, most", "network-steps/s", "of float32", "first call, s"],
    "members": ["", "context", "p of equal laws", "solved, CPU", "solved, here", "differ (undecided)", "of"],
    "large": ["", "s from command to report", "network-steps/s", "executor", "said"],
    "tuning": ["", "losses after 10 steps", "apart: 99 %, most", "network-steps/s", "of float32", "first call, s"],
    "text": ["", "adapters", "sequences/s", "model-flops utilisation", "matrix products, operations/s"],
}
_CELLS: dict[str, Callable[[dict[str, Any], float | None], Iterator[list[str]]]] = {
    "device": _device_cells,
    "ceilings": _ceiling_cells,
    "rates": _rate_cells,
    "members": _member_cells,
    "large": _large_cells,
    "tuning": _rate_cells,
    "text": _text_cells,
}


def _say(text: str) -> None:
    print(f"first minutes: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
