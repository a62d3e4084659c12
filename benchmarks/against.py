"""How fast this build is beside another one of ncsim, on the same work in turns.

Question. How many times as fast as the build in a folder (a git worktree of an earlier commit, say) are wide networks;
and what do recording along training and a member's own cost (drawing, recording, storing) come to in both?

Command. `python -m benchmarks.against FOLDER --json FILE`; --work names what is measured.

Time. Fifteen minutes on two cores, ten of them for the runs of ten million members. Let nothing else run meanwhile.

How. Each build lives in a process of its own and takes its turn in every round; the first turn compiles and is not
counted. Ratios are of runs in the same round: their median, lowest and highest. Seconds are of the clock and of the
processor, which others on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from ncsim.formatting import json_text, table

ROOT = Path(__file__).resolve().parent.parent
#: What is measured: fields of the config, recorded points (0: none), and whether it is stored.
WORK: dict[str, dict[str, Any]] = {
    "n = 3": {"hidden": 3, "members": 32_768, "steps": 1_000},
    "n = 9": {"hidden": 9, "members": 4_096, "steps": 500},
    "n = 16": {"hidden": 16, "members": 4_096, "steps": 1_000},
    "n = 32": {"hidden": 32, "members": 2_048, "steps": 300},
    "n = 64": {"hidden": 64, "members": 1_024, "steps": 300},
    "n = 3, stored": {"hidden": 3, "members": 16_384, "steps": 3_000, "stored": True},
    "n = 3, 50 steps recorded, stored": {"hidden": 3, "members": 16_384, "steps": 3_000, "points": 50, "stored": True},
    "1 step": {"hidden": 3, "members": 1_000_000, "steps": 1},
    "1 step, stored": {"hidden": 3, "members": 400_000, "steps": 1, "stored": True},
    "20 steps, stored": {"hidden": 3, "members": 1_000_000, "steps": 20, "stored": True},
    "1 step of 10^7, stored": {"hidden": 3, "members": 10_000_000, "steps": 1, "stored": True},
    "20 steps of 10^7, stored": {"hidden": 3, "members": 10_000_000, "steps": 20, "stored": True},
}
#: What a build's process does: one run for each line of JSON, answered with its seconds.
CHILD = """
import json, sys, tempfile, time
import ncsim
for line in sys.stdin:
    work = json.loads(line)
    points, stored = work.pop("points", 0), work.pop("stored", False)
    with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
        wall, processor = time.perf_counter(), time.process_time()
        recording = ncsim.Recording(points=points) if points else None
        ncsim.run_ensemble(ncsim.EnsembleConfig(**work), folder + "/run" if stored else None, recording=recording)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]), flush=True)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", metavar="FOLDER", type=Path, help="of the other build: the folder that has ncsim/")
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--rounds", metavar="N", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parsed = parser.parse_args(arguments)
    from benchmarks import machine

    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    found = {}
    for name in parsed.work:
        found[name] = compared(WORK[name], parsed.other, parsed.rounds)
        print(f"{name}: {_words(found[name]['ratio'])}", flush=True)
    rows = [
        [
            name,
            f"{each['seconds'][0]:.2f}",
            f"{each['seconds'][1]:.2f}",
            _words(each["ratio"]),
            _words(each["processor"]),
        ]
        for name, each in found.items()
    ]
    print("\n".join(table(["", "other, s", "this, s", "times as fast", "by processor time"], rows)))
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text({"machine": here, "rounds": parsed.rounds, "work": found}) + "\n")


def compared(work: dict[str, Any], other: Path, rounds: int) -> dict[str, Any]:
    """Median seconds of the other build and of this one, and how many times as fast this one is, round by round."""
    builds = [_build(other.resolve()), _build(ROOT)]
    turns: list[list[list[float]]] = []
    for _ in range(rounds + 1):
        turns.append([_seconds(build, work) for build in builds])
    for build in builds:
        assert build.stdin is not None
        build.stdin.close()
        build.wait()
    counted = turns[1:]  # the first compiles
    ratios = {
        key: [theirs[place] / ours[place] for theirs, ours in counted]
        for place, key in enumerate(("ratio", "processor"))
    }
    seconds = [statistics.median(turn[build][0] for turn in counted) for build in (0, 1)]
    return {"of": work, "seconds": seconds, "first": [turns[0][build][0] for build in (0, 1)]} | {
        key: [statistics.median(each), min(each), max(each)] for key, each in ratios.items()
    }


def _build(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )


def _seconds(build: subprocess.Popen[str], work: dict[str, Any]) -> list[float]:
    assert build.stdin is not None
    assert build.stdout is not None
    build.stdin.write(json.dumps(work) + "\n")
    build.stdin.flush()
    line = build.stdout.readline()
    if not line:
        sys.exit("benchmark: error: a build ended; its words are above")
    found: list[float] = json.loads(line)
    return found


def _words(ratio: Sequence[float]) -> str:
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} .. {ratio[2]:.2f})"


if __name__ == "__main__":
    main()
