"""Whether `ncsim plan` is right: its forecast beside what the run then took.

Question. Is the forecast of time, memory and disk within 20 % of what `ncsim ensemble` with the same options takes?

Command. `python -m benchmarks.plan --json benchmarks/results/plan.json`

Time. About six minutes on two cores. Let nothing else run meanwhile: what another process takes during the calibration
or during the run is in the ratio.

How. For each case `ncsim plan` and then `ncsim ensemble` run as commands, each a process of its own; the time is from the
start of the process to its end, the memory the highest that the kernel saw of it, the disk the bytes of its parts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too

from ncsim.formatting import json_text

#: The largest error that counts as right.
WITHIN = 0.2
CASES = {
    "one width": "--hidden 3 --members 50000 --steps 1000",
    "figure 2, smaller": "--hidden 2 3 4 --members 4000 --steps 3000",
    "few steps, many members": "--hidden 3 --members 500000 --steps 20",
    "rates and steps": "--hidden 3 --learning-rate 0.003 0.01 0.03 --steps 500 2000 --members 5000",
    "wide": "--hidden 16 --members 2000 --steps 1000",
    "recorded": "--hidden 3 --members 40000 --steps 3000 --record-points 50",
    "XLA, two optimisers": "--executor xla --optimizer adam sgd --members 10000 --steps 1000",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Forecast and run every case, print the ratios, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--cases", metavar="NAME", nargs="+", choices=list(CASES), default=list(CASES))
    parsed = parser.parse_args(arguments)
    from benchmarks import machine

    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    measured = {}
    for name in parsed.cases:
        measured[name] = case(CASES[name].split())
        ratios = ", ".join(f"{what} {value:.2f}" for what, value in measured[name]["run_over_forecast"].items())
        print(f"{name}: run / forecast: {ratios}", flush=True)
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text({"machine": here, "cases": measured}) + "\n")


def case(options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
        out = ["--out", f"{folder}/run"]
        planned = _command(["plan", *options, *out, "--json"])
        forecast = json.loads(planned["stdout"])
        ran = _command(["ensemble", *options, *out, "--quiet"])
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    took = {"total_seconds": ran["seconds"], "peak_memory_bytes": ran["peak_bytes"], "disk_bytes": disk}
    return {
        "options": " ".join(options),
        "plan_seconds": planned["seconds"],
        "forecast": forecast,
        "run": took,
        "run_over_forecast": {name: value / forecast[name] for name, value in took.items()},
        "load": os.getloadavg()[0],
    }


#: A command of ncsim that says at its end, last on standard error, how much memory it has had at most.
_WITH_PEAK = """
import sys
from ncsim.cli import main
from ncsim.planning.memory import peak_memory
main(sys.argv[1:])
print(peak_memory(), file=sys.stderr)
"""


def _command(arguments: list[str]) -> dict[str, Any]:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _WITH_PEAK, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()[-300:]}")
    return {"seconds": seconds, "peak_bytes": int(done.stderr.split()[-1]), "stdout": done.stdout}


if __name__ == "__main__":
    main()
