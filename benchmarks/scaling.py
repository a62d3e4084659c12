"""How ncsim's cost and memory grow: with members, width, steps and devices; what starting and compiling take.

Question. Does the cost grow no faster than members x steps and does memory stay what it is, up to a hundred million members
streamed to disk, and the report of them? How do the rate and the compile time depend on the width, and the rate on devices?

Command. `make benchmark-scaling`, or `python -m benchmarks.scaling --out FOLDER`; --quick for a small version.

Time. About ten minutes on two cores; --quick a minute and a half. Let nothing else run meanwhile.

How. Each point is a process of its own that stores its run to disk, so that devices, compilation and peak memory are its
own; the memory is the highest that the kernel saw of that process. Of the curve of members each run is reported twice, by two
more processes: the first orders networks by loss and keeps what it found, the second reads that. Every member trains in four
contexts: there is no other number of them to vary. Writes scaling.json and, for each curve, a picture with its numbers as CSV.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ncsim.formatting import json_text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, too

MEMORY_LIMIT = 1.5e9  # bytes, of the largest run that is streamed to disk
PROPORTIONAL = 0.15  # the exponent of cost by work may be this far above 1; below, what a run costs at all still shows
#: Of a point's reports, the first and the second: seconds, and peak memory in bytes.
REPORTS = (("report_seconds", "report_peak_bytes"), ("second_report_seconds", "second_report_peak_bytes"))
REPORT_LIMITS = (60.0, 5.0)  # seconds, of the first and the second report of the largest run
COMPILE_LIMIT = 10.0  # seconds, of any width
MEMORY_GROWTH = 1.25  # of peak memory from a tenth of the members to all of them


class Curve(NamedTuple):
    """One thing varied, the others held."""

    title: str
    axis: str  # label
    vary: str  # a field of the config, or "devices"
    values: tuple[int, ...]
    quick: tuple[int, ...]
    fixed: dict[str, int]


CURVES = {
    "members": Curve(
        "Many members, few steps, streamed to disk", "members", "members",
        (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000), (1_000, 10_000, 100_000), {"steps": 20, "reports": 2},
    ),
    "steps": Curve(
        "Longer training", "steps", "steps", (30, 100, 300, 1_000, 3_000, 10_000), (100, 1_000), {"members": 4_096},
    ),
    "width": Curve(
        "Wider networks", "hidden units", "hidden", (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64), (3, 16, 64), {"steps": 200},
    ),
    "devices": Curve(
        "More devices", "devices", "devices", (1, 2, 4), (1, 2), {"members": 16_384, "steps": 1_000},
    ),
}  # fmt: skip
#: Work of a point of the width curve, network-steps x hidden units: some seconds at every width.
WIDTH_WORK = 2.0e8


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every point, check growth, write JSON and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("benchmarks/results/scaling"))
    parser.add_argument("--quick", action="store_true", help="fewer and smaller points")
    parser.add_argument("--curves", metavar="NAME", nargs="+", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--point", metavar="JSON", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.point is not None:
        print(json_text(_measure_here(json.loads(parsed.point)), None))
        return
    try:
        sys.exit(_run(parsed))
    except (RuntimeError, OSError) as error:
        sys.exit(f"benchmark: error: {error}")


def _run(parsed: argparse.Namespace) -> int:
    from benchmarks import machine

    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    measured = {name: _points(CURVES[name], parsed.quick) for name in parsed.curves}
    checks = growth_checks(measured)
    parsed.out.mkdir(parents=True, exist_ok=True)
    result = {"machine": here, "curves": measured, "checks": checks}
    (parsed.out / "scaling.json").write_text(json_text(result) + "\n")
    # After the points: a parent with matplotlib in it is a heavier one to start processes from.
    for name, points in measured.items():
        _draw(CURVES[name], points, parsed.out / name)
    _print(measured, checks)
    return 0 if all(check["holds"] for check in checks) else 1


# ---------------------------------------------------------------------------------------------------------- a point


def _points(curve: Curve, quick: bool) -> list[dict[str, Any]]:
    points = []
    for value in curve.quick if quick else curve.values:
        point: dict[str, Any] = {"hidden": 3, "devices": None, **curve.fixed, curve.vary: value}
        if "members" not in point:
            point["members"] = max(int(WIDTH_WORK / (4 * point["steps"] * point["hidden"])), 512)
        points.append(_measure(point))
        _say(f"{curve.axis} {value}: {points[-1]['rate']:.3g} network-steps/s, {points[-1]['peak_bytes'] / 1e6:.0f} MB")
    return points


def _measure(point: dict[str, Any]) -> dict[str, Any]:
    """A point, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", json.dumps(point)]
    begun = time.time()
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if result.returncode != 0:
        said = (result.stderr.strip().splitlines() or ["no word"])[-1]
        raise RuntimeError(f"{json.dumps(point)}: ended with status {result.returncode}: {said}")
    measured = json.loads(result.stdout.splitlines()[-1])
    return point | measured | {"start_seconds": measured["ready_at"] - begun}


def _measure_here(point: dict[str, Any]) -> dict[str, Any]:
    """The point's numbers: seconds of the run, of compiling before it, and this process's peak memory."""
    from benchmarks.reports import reported
    from ncsim.executors.devices import prepare_jax
    from ncsim.planning.memory import peak_memory

    prepare_jax(point["devices"])
    import jax

    devices = len(jax.devices())
    ready_at = time.time()
    fields = {name: point[name] for name in ("hidden", "steps", "members")}
    with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
        # Twice the same little work, the first with compilation.
        little = [_seconds(f"{folder}/little{turn}", fields | {"members": 64, "steps": 1}, point) for turn in range(2)]
        seconds = _seconds(f"{folder}/run", fields, point)
        took = [reported(ROOT, Path(folder) / "run") for _ in range(point.get("reports", 0))]
    steps = 4 * fields["members"] * fields["steps"]
    return {
        "seconds": seconds,
        "compile_seconds": max(little[0] - little[1], 0.0),
        "network_steps": steps,
        "rate": steps / seconds,
        "peak_bytes": peak_memory(),
        "devices_there": devices,
        "ready_at": ready_at,
    } | {
        name: each[key]
        for each, names in zip(took, REPORTS, strict=False)
        for name, key in zip(names, ("wall", "memory"), strict=True)
    }


def _seconds(out: str, fields: dict[str, Any], point: dict[str, Any]) -> float:
    import ncsim

    begun = time.perf_counter()
    ncsim.run_ensemble(ncsim.EnsembleConfig(**fields), out=out, devices=point["devices"])
    return time.perf_counter() - begun


# ----------------------------------------------------------------------------------------------------------- checks


def growth_checks(measured: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """what is promised of growth, each with what was found: cost at most in proportion, memory bounded."""
    checks = []
    for name, least in (("members", 100_000), ("steps", 300)):
        points = [point for point in measured.get(name, []) if point[name] >= least]
        if len(points) >= 2:
            exponent = _exponent(points)
            checks.append({
                "check": f"cost grows no faster than {name} (exponent below {1 + PROPORTIONAL}, from {least:,} on)",
                "found": round(exponent, 3),
                "holds": exponent <= 1 + PROPORTIONAL,
            })  # fmt: skip
    members = measured.get("members", [])
    if len(members) >= 2 and members[-2]["members"] >= 1_000_000:  # below, parts are not yet full
        growth = members[-1]["peak_bytes"] / members[-2]["peak_bytes"]
        text = f"peak memory at {members[-1]['members']:,} members over that at {members[-2]['members']:,}"
        checks.append({
            "check": f"{text} is below {MEMORY_GROWTH}",
            "found": round(growth, 3),
            "holds": growth <= MEMORY_GROWTH,
        })  # fmt: skip
        checks.append({
            "check": f"{members[-1]['members']:,} members stream to disk in under {MEMORY_LIMIT / 1e9} GB",
            "found": round(members[-1]["peak_bytes"] / 1e9, 3),
            "holds": members[-1]["peak_bytes"] < MEMORY_LIMIT,
        })  # fmt: skip
        if "report_peak_bytes" in members[-1]:
            checks += _report_checks(members[-1])
    if "width" in measured:
        slowest = max(measured["width"], key=lambda point: point["compile_seconds"])
        checks.append({
            "check": f"every width compiles in under {COMPILE_LIMIT} s; slowest {slowest['hidden']} units",
            "found": round(slowest["compile_seconds"], 2),
            "holds": slowest["compile_seconds"] < COMPILE_LIMIT,
        })  # fmt: skip
    return checks


def _report_checks(point: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the two reports of the largest run: their time, and the memory of the first, which takes more."""
    text, found = f"of {point['members']:,} members", round(point["report_peak_bytes"] / 1e9, 3)
    checks = [
        {
            "check": f"a report {text} takes less than {MEMORY_LIMIT / 1e9} GB",
            "found": found,
            "holds": found < MEMORY_LIMIT / 1e9,
        }
    ]
    for which, limit, (name, _) in zip(("first", "second"), REPORT_LIMITS, REPORTS, strict=True):
        seconds = round(point[name], 1)
        checks.append(
            {
                "check": f"the {which} report {text} takes less than {limit:g} s",
                "found": seconds,
                "holds": seconds < limit,
            }
        )
    return checks


def _exponent(points: Sequence[dict[str, Any]]) -> float:
    """Of seconds as a power of network-steps: the slope of a least-squares line through the logarithms."""
    x = [math.log(point["network_steps"]) for point in points]
    y = [math.log(point["seconds"]) for point in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def _print(measured: dict[str, list[dict[str, Any]]], checks: Sequence[dict[str, Any]]) -> None:
    from ncsim.formatting import table

    for name, points in measured.items():
        curve, header = (
            CURVES[name],
            ["", "members", "steps", "network-steps/s", "seconds", "start s", "compile s", "peak MB"],
        )
        told = [each for names in REPORTS for each in names if each in points[0]]
        header += ["report s", "MB", "again s", "MB"][: len(told)]
        rows = [
            [
                f"{curve.axis} {point[curve.vary]:,}", f"{point['members']:,}", f"{point['steps']:,}",
                f"{point['rate']:.3g}", f"{point['seconds']:.2f}", f"{point['start_seconds']:.1f}",
                f"{point['compile_seconds']:.1f}", f"{point['peak_bytes'] / 1e6:.0f}",
                *(f"{point[each] / 1e6:.0f}" if each.endswith("bytes") else f"{point[each]:.1f}" for each in told),
            ]
            for point in points
        ]  # fmt: skip
        print(f"\n{curve.title}\n" + "\n".join(table(header, rows)))
    print()
    for check in checks:
        print(f"{'holds' if check['holds'] else 'FAILS'}: {check['check']}: {check['found']}")


def _draw(curve: Curve, points: Sequence[dict[str, Any]], stem: Path) -> None:
    """Rate and peak memory, and for widths the compile time, against what was varied."""

    from ncsim.report.figures import BLUE, GREEN, VERMILLION, new_figure, save_figure

    third = (
        ("compile_seconds", 1, "compile time, s") if curve.vary == "hidden" else ("peak_bytes", 1e6, "peak memory, MB")
    )
    panels = (("rate", 1, "network-steps a second"), third)
    x = [point[curve.vary] for point in points]
    with new_figure(7.2, 3.0) as figure:
        axes = figure.subplots(1, len(panels))
        for axis, (column, unit, label), color, mark in zip(axes, panels, (BLUE, VERMILLION), "os", strict=True):
            axis.plot(x, [point[column] / unit for point in points], color=color, marker=mark, label="training")
            if column == "peak_bytes" and "report_peak_bytes" in points[0]:
                reporting = [point["report_peak_bytes"] / unit for point in points]
                axis.plot(x, reporting, color=GREEN, marker="^", label="its first report")
                axis.legend()
            axis.set_xscale("log", base=2 if x[-1] <= 64 else 10)
            axis.set_ylim(0, 1.06 * axis.get_ylim()[1])  # room for the highest mark
            axis.set_xlabel(curve.axis)
            axis.set_ylabel(label)
            if x[-1] <= 64:
                axis.set_xticks(x, [str(value) for value in x])
                axis.minorticks_off()
        figure.suptitle(curve.title)
        columns = ["hidden", "members", "steps", "devices_there", "rate", "seconds", "start_seconds", "compile_seconds"]
        columns += ["peak_bytes", *(each for names in REPORTS for each in names if each in points[0])]
        save_figure(figure, stem, columns, [[point[column] for column in columns] for point in points])


def _say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
