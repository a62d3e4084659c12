"""What it costs to record members along training.

Question. How much longer does a run take that records at 50 steps, in memory and into a run folder? The aim is less than
half as long again.

Command. `python -m benchmarks.recording --json benchmarks/results/recording.json`

Time. About four minutes on two cores. Let nothing else run meanwhile.

How. The same members are trained four ways: in memory and into a folder, recorded and not. Programs are compiled before
anything is timed; the four take turns, and the medians of the rounds are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncsim.formatting import json_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too

#: Members that take some seconds, by executor.
MEMBERS = {"native": 65_536, "xla": 32_768}
STEPS, POINTS = 3_000, 50


def main(arguments: Sequence[str] | None = None) -> None:
    """Time every executor, print the ratios, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--executors", nargs="+", choices=list(MEMBERS), default=list(MEMBERS))
    parser.add_argument("--members", metavar="N", type=int, help="members to train (default: some seconds' worth)")
    parser.add_argument("--steps", metavar="N", type=int, default=STEPS)
    parser.add_argument("--rounds", metavar="N", type=int, default=5)
    parsed = parser.parse_args(arguments)
    from benchmarks import machine

    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    measured = {}
    for name in parsed.executors:
        measured[name] = cost(name, parsed.members or MEMBERS[name], parsed.steps, parsed.rounds)
        ratios = measured[name]["recorded_over_plain"]
        print(f"{name}: recorded / not: in memory {ratios['memory']:.2f}, stored {ratios['stored']:.2f}", flush=True)
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text({"machine": here, "executors": measured}) + "\n")


def cost(executor: str, members: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of the four ways, and the ratios of those that record to those that do not."""
    import ncsim

    config = ncsim.EnsembleConfig(hidden=3, members=members, steps=steps)
    recording = ncsim.Recording(points=min(POINTS, steps))

    def seconds(recorded: bool, stored: bool) -> float:
        with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
            out = f"{folder}/run" if stored else None
            begun = time.perf_counter()
            ncsim.run_ensemble(config, out, executor=executor, recording=recording if recorded else None)
            return time.perf_counter() - begun

    ways: dict[tuple[bool, bool], list[float]] = {
        (recorded, stored): [] for recorded in (False, True) for stored in (False, True)
    }
    for turn in range(rounds + 1):
        for way, times in ways.items():
            spent = seconds(*way)
            if turn:  # the first compiles
                times.append(spent)
    median = {way: statistics.median(times) for way, times in ways.items()}
    return {
        "members": members,
        "steps": steps,
        "recorded_steps": int(recording.steps(steps).size),
        "seconds": {
            "memory": median[False, False],
            "stored": median[False, True],
            "memory_recorded": median[True, False],
            "stored_recorded": median[True, True],
        },
        "recorded_over_plain": {
            "memory": median[True, False] / median[False, False],
            "stored": median[True, True] / median[False, True],
        },
    }


if __name__ == "__main__":
    main()
