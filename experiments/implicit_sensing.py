"""Implicit sensing: does Alice's loss trace tell which task Bob trains on?

Question. Section 4.3 of arXiv:2603.04451 says that an observer of one head could infer from oscillations of its own
training loss that the other head has the harder task: "This constitutes the mechanism by which implicit communication
emerges". It measures nothing of the kind. How well does an observer, given Alice's loss trace alone, tell beta_1 from
beta_2, at which width, when in training, and by oscillation or by level?

Command. `python -m experiments.implicit_sensing --members 10000 --out runs/implicit-sensing`; with `--members 100000
--widths 3` the controls as the results quote them.

Time. Five cells x 10,000 members x 4 contexts x 1,500 steps, recorded every 10: about 50 seconds on two
cores.

Expected. Where Bob's loss sends nothing into the layer that Alice uses (his gradient stopped, or trunks apart) her
trace cannot depend on his task: AUC 0.5 and 0 bits, within their 99 % intervals but for one interval in a hundred. Bob's own
trace tells his task almost always (found: AUC 0.91 to 0.98). Alice's, with one shared layer: above 0.5, since his gradient pulls
the layer (found: 0.84 at n = 3 beside alpha_1, 0.76 beside alpha_2).

Writes into the folder: implicit_sensing.png, .svg, .pdf, .csv and implicit_sensing.json.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import (
    add_number,
    add_place,
    add_widths,
    at_least,
    each_once,
    local_folder,
    run_experiment,
    write_json,
)
from experiments.shared.figures import points
from experiments.shared.members import watched
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.formatting import counted, no_more, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.loss_traces import FEATURES, FEWEST, Detection, detect, trace_features

EVERY = 10
LEVEL = 0.99
#: Parts of a training, as shares of its steps; the last is all of it.
WINDOWS = ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0), (0.0, 1.0))
CONTROLS = ("stop_gradient_bob", "separate_trunks")
CONTROL_WIDTH = 3
#: What an observer is given: all features of a trace, or those of its oscillation alone, without level and slope.
OSCILLATION = tuple(n for n, name in enumerate(FEATURES) if not name.startswith(("log loss", "slope")))
OBSERVERS: dict[str, tuple[int, ...]] = {"all features": tuple(range(len(FEATURES))), "oscillation": OSCILLATION}


class Answer(NamedTuple):
    """What one observer makes of one head's traces in one cell, for one of Alice's tasks, in one window."""

    cell: str
    trace: str  # whose loss: "Alice", or "Bob" as the positive control
    task: int  # Alice's, 1 or 2
    window: tuple[int, int]  # steps
    observer: str
    found: Detection


def cells(widths: Sequence[int], members: int, steps: int, seed: int) -> dict[str, EnsembleConfig]:
    """The ensembles by name: every width as it is, and the zero controls at one of them."""
    config = EnsembleConfig(members=members, steps=steps, root_seed=seed)
    found = {f"n = {width}": dataclasses.replace(config, hidden=width) for width in widths}
    width = CONTROL_WIDTH if CONTROL_WIDTH in widths else widths[0]
    for control in CONTROLS:
        name = f"{control.replace('_', ' ')}, n = {width}"
        found[name] = dataclasses.replace(config, hidden=width, intervention=control)
    return found


def answers(name: str, config: EnsembleConfig, devices: int | None = None) -> list[Answer]:
    """Every observer's detections in one cell."""
    features: dict[tuple[str, tuple[int, int]], list[np.ndarray]] = {}
    for part in watched(config, Recording(spacing="every", every=EVERY), devices):
        # Evenly spaced, but for a last step that is no multiple of the others.
        even = part.step[part.step % EVERY == 0]
        for window in WINDOWS:
            first, last = (round(share * (len(even) - 1)) for share in window)
            steps = (int(even[first]), int(even[last]))
            for head in ("alice", "bob"):
                traces = np.moveaxis(part.value(f"loss_{head}")[:, first : last + 1], 1, -1)  # [M, context, step]
                finite = np.isfinite(traces).all(axis=-1, keepdims=True)
                kept = np.where(finite, trace_features(np.where(finite, traces, 1)), np.nan)
                features.setdefault((head.title(), steps), []).append(kept.astype(np.float32))
    found = []
    for (head, steps), parts in features.items():
        of = np.concatenate(parts)  # [M, context, F]
        for task in (1, 2):
            pair = of[:, 2 * task - 2], of[:, 2 * task - 1]
            for observer, columns in OBSERVERS.items():
                if head == "Bob" and observer != "all features":
                    continue
                there = detect(pair[0][:, list(columns)], pair[1][:, list(columns)], LEVEL)
                found.append(Answer(name, head, task, steps, observer, there))
    return found


def printed(found: Sequence[Answer]) -> list[str]:
    """A row a detection."""
    rows = [
        [
            a.cell, a.trace, f"alpha_{a.task}", f"{a.window[0]} to {a.window[1]}", a.observer,
            str(a.found.auc), str(a.found.bits_from_log_loss), str(a.found.bits_from_bins),
        ]
        for a in found
    ]  # fmt: skip
    header = ["ensemble", "trace", "Alice's task", "steps", "observer", "AUC", "bits, log loss", "bits, bins"]
    return table(header, rows, indent="")


def conclusion(found: Sequence[Answer]) -> str:
    """What the controls say, and the largest AUC of Alice's trace."""
    controls = [a for a in found if a.trace == "Alice" and "," in a.cell]
    within = [a for a in controls if a.found.auc.low <= 0.5 <= a.found.auc.high]
    own = [a.found.auc.value for a in found if a.trace == "Bob" and a.window[0] == 0 and "," not in a.cell]
    sensed = [a for a in found if a.trace == "Alice" and "," not in a.cell]
    best = max(sensed, key=lambda a: a.found.auc.value)
    return (
        f"Zero controls: {len(within)} of {len(controls)} have 0.5 in their 99 % interval. Positive control: Bob's own trace "
        f"from the start has AUC {min(own):.3f} to {max(own):.3f}. Of {len(sensed)} AUCs of Alice's trace the largest is at {best.cell}, "
        f"alpha_{best.task}, steps {best.window[0]} to {best.window[1]}, by {best.observer}: {best.found.auc}; its interval is not "
        f"adjusted for being the largest of {len(sensed)}. {bits_said(best.found.bits_from_log_loss)}"
    )


def bits_said(bits: Estimate) -> str:
    """What the interval of 1 less the log loss bears: the trace tells as many bits of 1 in expectation, or more."""
    found = f"The log loss gives {bits} bits of 1"
    if bits.low > 0:
        return f"{found}: the trace tells {no_more(bits.low, '.3f')} bits or more, by the lower limit."
    return f"{found}: by it the trace is not shown to tell anything."


def draw(found: Sequence[Answer], stem: Path) -> list[Path]:
    """AUC of Alice's trace by cell and window, a panel a task of hers; Bob's own trace above it."""
    names = list(dict.fromkeys(a.cell for a in found))
    windows = list(dict.fromkeys(a.window for a in found))
    series: list[tuple[str, str, str, Any, str]] = [
        (f"Alice's loss, steps {a} to {b}", color, mark, (a, b), "all features")
        for (a, b), color, mark in zip(windows, (SKY, GREEN, ORANGE, BLACK), ("o", "s", "^", "D"), strict=True)
    ]
    series.append(("its oscillation alone, all steps", VERMILLION, "x", windows[-1], "oscillation"))
    rows: list[list[Any]] = []
    with new_figure(1.5 * len(names) + 2.5, 4.6) as figure:
        axes = figure.subplots(2, 1, sharex=True, sharey=True)
        for task, axis in zip((1, 2), axes, strict=True):
            axis.axhline(0.5, color="0.6", linestyle="--", linewidth=1, zorder=0)
            drawn = [
                *((s, "Alice") for s in series),
                (("Bob's own loss, all steps", BLUE, "P", windows[-1], "all features"), "Bob"),
            ]
            for number, ((label, color, mark, window, observer), head) in enumerate(drawn):
                picked = [
                    next(
                        a.found.auc for a in found
                        if (a.cell, a.trace, a.task, a.window, a.observer) == (name, head, task, window, observer)
                    )
                    for name in names
                ]  # fmt: skip
                places = np.arange(len(names)) + 0.13 * (number - (len(drawn) - 1) / 2)
                cross: dict[str, Any] = {"markeredgecolor": color, "markeredgewidth": 1.2} if mark == "x" else {}
                points(axis, places, picked, color=color, marker=mark, linestyle="none", label=label, **cross)
                rows += [[task, name, label, e.value, e.low, e.high] for name, e in zip(names, picked, strict=True)]
            axis.set_title(f"Alice trains on $\\alpha_{task}$", loc="left")
            axis.set_ylabel(r"AUC, $\beta_1$ against $\beta_2$")
        axes[0].set_ylim(min(0.4, *(a.found.auc.low - 0.02 for a in found)), 1.03)
        axes[-1].set_xticks(range(len(names)), [name.replace(", n", "\nn") for name in names])
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return save_figure(figure, stem, ["alice_task", "ensemble", "trace", "auc", "low", "high"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, detect, draw and print."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 10_000, "members per cell")
    add_number(parser, "--steps", 1_500, "optimiser steps")
    add_widths(parser, 2, 3, 4)
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/implicit-sensing", "folder for what is written")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 16, ", half of them to train an observer on")
    at_least("--steps", parsed.steps, 10 * EVERY * FEWEST, f", for {FEWEST} points in a tenth of them")
    each_once("--widths", parsed.widths)
    out = local_folder("--out", parsed.out)
    devices = device_count(parsed.devices)
    found: list[Answer] = []
    for name, config in cells(parsed.widths, parsed.members, parsed.steps, parsed.seed).items():
        found += answers(name, config, devices)
    draw(found, out / "implicit_sensing")
    description = {
        "members": parsed.members,
        "steps": parsed.steps,
        "every": EVERY,
        "seed": parsed.seed,
        "level": LEVEL,
    }
    write_json(out / "implicit_sensing.json", description | {"answers": found})
    print(
        f"Implicit sensing, {counted(parsed.members, 'member')} per cell, {counted(parsed.steps, 'step')}, 99 % intervals\n"
    )
    print("\n".join(printed(found)))
    print(f"\n{conclusion(found)}")


if __name__ == "__main__":
    main()
