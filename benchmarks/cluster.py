"""What many machines cost: a run by tasks beside the same run by one process, and the driver's time and memory per part.

Command. `python -m benchmarks.cluster --json benchmarks/results/cluster.json`

The same run is done in turns by `ncsim ensemble`, by a `ProcessPoolExecutor` of two processes and by a Ray that the command starts,
where Ray is installed. Clock is from a command's start to its end, report included. Processor time is that of all its processes, the
engine's too: they are known by a word in their environment, since an engine's processes outlive their parents. On a machine that
others use, processor time is the number to look at.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import ncsim
from benchmarks.machine import description
from ncsim.ensemble import pool as pools
from ncsim.formatting import json_text, table
from ncsim.storage.parts import part_size
from ncsim.storage.run_folder import RunFolder

WORD = "NCSIM_BENCHMARK"
POOLED = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import ncsim
from ncsim.cli.report import report_run
from ncsim.terminal import Progress
if __name__ == "__main__":
    config = ncsim.EnsembleConfig(hidden=3, members=int(sys.argv[1]), steps=3000)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        run = ncsim.run_ensemble(config, out=sys.argv[2], devices=None, progress=Progress(), pool=pool)
    report_run(run, quiet=False)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and store where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument(
        "--members", type=int, default=1_000_000, help="of the run (n = 3, 3,000 steps; default: 1,000,000)"
    )
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--parts", type=int, default=10_000, help="handed out by a driver (default: 10,000)")
    parsed = parser.parse_args(arguments)
    found = {"machine": description(), "members": parsed.members, "driver": driver(parsed.parts)}
    print(json_text(found["driver"]))
    found["runs"] = runs(parsed.members, parsed.turns)
    rows = [[name, *(f"{each[key]:.1f}" for key in ("clock", "processor"))] for name, each in found["runs"].items()]
    print("\n".join(table(["by", "seconds", "of processors"], rows)))
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text(found) + "\n")


def driver(parts: int) -> dict[str, float]:
    """Seconds of the driver per part, and by how many bytes it grows while it hands out the second half of them, to tasks that do
    nothing."""
    sizes: list[int] = []

    class Nothing(Executor):
        def submit(self, fn: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(fn(*arguments) if fn is pools.begin else ("", None))
            if len(sizes) == parts // 2:
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            sizes.append(1)
            return future

    peaks: list[int] = []
    one = ncsim.EnsembleConfig(hidden=3, members=1, steps=3000)
    config = ncsim.EnsembleConfig(hidden=3, members=part_size(one) * parts, steps=3000)
    with tempfile.TemporaryDirectory() as place:
        RunFolder.create(place, [config], training=lambda: {"executor": {}})
        begun = time.process_time()
        ncsim.run_ensemble(config, out=place, pool=Nothing())
        seconds = time.process_time() - begun
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peaks[0]
    return {"parts": parts, "seconds_per_part": seconds / parts, "grown_bytes": grown}


def runs(members: int, turns: int) -> dict[str, dict[str, Any]]:
    """Medians of clock and processor time of each way, and its turns."""
    command = [sys.executable, "-m", "ncsim.cli", "ensemble", "--hidden", "3", "--steps", "3000"]
    command += ["--members", str(members), "--out", "run"]
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "pooled.py"
        script.write_text(POOLED)
        ways = {"ncsim ensemble": command, "ProcessPoolExecutor": [sys.executable, str(script), str(members), "run"]}
        if importlib.util.find_spec("ray") is not None:
            ways["Ray, started and stopped"] = [*command, "--cluster", "ray"]
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(turns):
            for name, way in ways.items():
                measured[name].append(cost(way, Path(place) / f"{turn}-{len(name)}"))
                print(f"{name}: {measured[name][-1][0]:.1f} s, {measured[name][-1][1]:.1f} s of processors", flush=True)
    found = {}
    for name, each in measured.items():
        clock, processor = (statistics.median(numbers) for numbers in zip(*each, strict=True))
        found[name] = {"clock": clock, "processor": processor, "turns": each}
    return found


def cost(command: Sequence[str], place: Path) -> tuple[float, float]:
    """Seconds by the clock, and of all processes that a command has started."""
    place.mkdir()
    word = secrets.token_hex(8)
    surroundings = os.environ | {WORD: word, "HOME": str(place), "RAY_AUTH_MODE": "disabled"}
    surroundings["XDG_CACHE_HOME"] = str(place.parent / "cache")  # of all turns, as a user has one
    surroundings["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    used: dict[int, float] = {}
    begun = time.monotonic()
    process = subprocess.Popen(
        command, cwd=place, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        time.sleep(0.2)
        _look(f"{WORD}={word}".encode(), used)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}")
    return time.monotonic() - begun, sum(used.values())


def _look(word: bytes, used: dict[int, float]) -> None:
    """Note the seconds of each process with this word, by its number."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if word in (place / "environ").read_bytes():
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                used[int(place.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue


if __name__ == "__main__":
    main()
