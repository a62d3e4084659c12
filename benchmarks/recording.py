"""What it costs to record members along training.

Question. How much longer does a run take that records at 50 steps, in memory and into a run folder? The aim is less than
half as long again.

Command. `python -m benchmarks.recording --json benchmarks/results/recording.json`

Time. About four minutes on two cores. Let nothing else run meanwhile.

How. The same members are trained four ways: in memory and into a folder, recorded and not. Programs are compiled before
anything is timed; the four take turns. Ratios are of runs in the same round: their median, lowest and highest, by the clock and by
processor time, which others on the machine disturb less.
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
        for by, ratios in measured[name]["recorded_over_plain"].items():
            words = ", ".join(
                f"{where} {ratio:.2f} ({low:.2f} .. {high:.2f})" for where, (ratio, low, high) in ratios.items()
            )
            print(f"{name}: recorded / not, by {by}: {words}", flush=True)
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text({"machine": here, "executors": measured}) + "\n")


def cost(executor: str, members: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of the four ways, and the ratios of those that record to those that do not."""
    import ncsim

    config = ncsim.EnsembleConfig(hidden=3, members=members, steps=steps)
    recording = ncsim.Recording(points=min(POINTS, steps))

    def seconds(recorded: bool, stored: bool) -> tuple[float, float]:
        with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
            out = f"{folder}/run" if stored else None
            begun = time.perf_counter(), time.process_time()
            ncsim.run_ensemble(config, out, executor=executor, recording=recording if recorded else None)
            return time.perf_counter() - begun[0], time.process_time() - begun[1]

    ways: dict[str, list[tuple[float, float]]] = {
        f"{where}{'_recorded' * recorded}": [] for recorded in (False, True) for where in ("memory", "stored")
    }
    for turn in range(rounds + 1):
        for way, times in ways.items():
            spent = seconds(way.endswith("_recorded"), way.startswith("stored"))
            if turn:  # the first compiles
                times.append(spent)

    def over(where: str, by: int) -> tuple[float, float, float]:
        pairs = zip(ways[f"{where}_recorded"], ways[where], strict=True)
        ratios = [recorded[by] / plain[by] for recorded, plain in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)

    return {
        "members": members,
        "steps": steps,
        "recorded_steps": int(recording.steps(steps).size),
        "rounds": rounds,
        "seconds": {way: statistics.median(clock for clock, _ in times) for way, times in ways.items()},
        "processor_seconds": {way: statistics.median(spent for _, spent in times) for way, times in ways.items()},
        "recorded_over_plain": {
            by: {where: over(where, place) for where in ("memory", "stored")}
            for place, by in enumerate(("clock", "processors"))
        },
    }


if __name__ == "__main__":
    main()
