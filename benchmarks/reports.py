"""How long does `ncsim report` take, beside another build of ncsim?

    python -m benchmarks.reports --build ../ncsim-before --run runs/widths --run runs/million

Each run folder is copied and reported in processes of their own: by the other build (a checkout, run by the same Python), and by this
one three times: without `summaries/`, as a folder of an earlier version; with what parts add up to, and without what is kept of
cells; and once more. Seconds of the wall and of processors, and peaks of memory: of the report's process and of the largest that it
starts, added up. Medians of --repeats. Processor seconds are the ones to compare where others use the machine. With --training it is
statistics along training of recorded runs that are timed, with mu_gradS of two windows, in place of reports. The result goes to
benchmarks/results/reports.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.machine import lines as machine_lines
from ncsim.formatting import json_text, table

RESULTS = Path(__file__).parent / "results"
HERE = Path(__file__).parents[1]
COLUMNS = ["run", "members", "build", "wall", "processors", "memory", "processors, ratio"]
#: What is timed, in a process of its own.
_REPORT = """
import sys
from ncsim.cli import main
main(["report", sys.argv[1]])
"""
_TRAINING = """
import sys, ncsim
run = ncsim.open_run(sys.argv[1])
for cell, config in enumerate(run.configs):
    windows = [(0, config.steps), (config.steps // 10, config.steps // 3)]
    if hasattr(run, "trajectory_statistics"):
        run.trajectory_statistics(cell, windows)
    else:
        ncsim.trajectory_statistics(run.trajectories(cell), config.tasks.rows, windows)
"""
_SAID = """
import resource
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
peak = sum(each.ru_maxrss for each in used) * (1 if sys.platform == "darwin" else 1024)  # not by ncsim: a build may have no function for it
print(sum(each.ru_utime + each.ru_stime for each in used), peak, file=open(sys.argv[2], "w"))
"""


def reported(build: Path, run: Path, code: str = _REPORT) -> dict[str, float]:
    """Seconds, processor seconds and bytes of one report, or of what the code does, by a build."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", f"{code}\n{_SAID}", str(run.resolve()), str(said)],
            cwd=build, env=os.environ | {"PYTHONPATH": str(build.resolve())}, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        wall = time.perf_counter() - start
        processors, memory = said.read_text().split()
    return {"wall": wall, "processors": float(processors), "memory": float(memory)}


def measured(run: Path, other: Path | None, repeats: int, code: str) -> dict[str, Any]:
    """Medians of every kind of report of one run folder."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        copy = Path(shutil.copytree(run, Path(folder) / run.name, ignore=shutil.ignore_patterns("summaries")))
        for _ in range(repeats):
            if other is not None:
                found.setdefault("other build", []).append(reported(other, copy, code))
            shutil.rmtree(copy / "summaries", ignore_errors=True)
            found.setdefault("without summaries", []).append(reported(HERE, copy, code))
            for kept in copy.glob("summaries/**/cell.parquet"):
                kept.unlink()
            found.setdefault("with those of parts", []).append(reported(HERE, copy, code))
            found.setdefault("once more", []).append(reported(HERE, copy, code))
        cells = [cell["members"] for cell in json.loads((copy / "config.json").read_text())["cells"]]
    medians = {
        kind: {name: statistics.median(each[name] for each in times) for name in times[0]}
        for kind, times in found.items()
    }
    return {"run": run.name, "cells": cells, "reports": medians}


def rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """The results in the order of COLUMNS."""
    found = []
    for result in results:
        before = result["reports"].get("other build", {}).get("processors")
        for kind, took in result["reports"].items():
            ratio = f"{before / took['processors']:.1f}" if before and kind != "other build" else ""
            numbers = [f"{took['wall']:.1f} s", f"{took['processors']:.1f} s", f"{took['memory'] / 1e6:,.0f} MB"]
            members = " + ".join(f"{count:,}" for count in result["cells"])
            found.append([result["run"], members, kind, *numbers, ratio])
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--build", type=Path, help="a checkout of the other build; without it this one is measured alone"
    )
    parser.add_argument(
        "--run", type=Path, action="append", required=True, help="a run folder; may be given several times"
    )
    parser.add_argument("--training", action="store_true", help="time statistics along training and not reports")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "reports.json")
    asked = parser.parse_args(argv)
    machine = description()
    code = _TRAINING if asked.training else _REPORT
    results = [measured(run, asked.build, asked.repeats, code) for run in asked.run]
    print("\n".join([*machine_lines(machine), "", *table(COLUMNS, rows(results))]))
    asked.out.write_text(json_text({"machine": machine, "repeats": asked.repeats, "results": results}, 2) + "\n")


if __name__ == "__main__":
    main()
