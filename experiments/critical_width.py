"""Resource competition: from which width is each context solved, where does S peak, and does S predict test accuracy?

Question. Section 5.3 of arXiv:2603.04451 assumes that (1) task pairs demand different amounts of resources, (2) with few
resources the two tasks compete, which lowers their correlator, and (3) with many they do not, and every correlator comes
to 1, so that S >> 2 marks a critical point before S settles at 2. Figure 5 adds that S on training items goes with test
accuracy as the rank grows. Measured here on NCnet, with the width n of the shared layer as the resource: the probability
that a context is solved, the critical width where it passes one half, the law of S by width; and, for members trained on
some rows of the truth table and tested on the others, S on the rows trained on against accuracy on the others. A critical
width lies on the line between two neighbouring widths; its interval is where the lines through the ends of the
probabilities' Clopper-Pearson intervals pass one half.

Command. `python -m experiments.critical_width --members 1000 --out runs/critical-width`

Time. 1,000 members x 4 contexts x 3,000 steps at 12 widths from 2 to 64, then at 6 widths from 1 to 16 with 8, 10, 12 and
14 of 16 rows: about two minutes on two cores, more than half of it compiling.

Expected. Assumption 1: critical widths are in the order 11 (below 2), 12 and 21 (3.6, alike by symmetry), 22 (5.2). Under a
retry mean S peaks at n = 3 with 2.75 and is at 2 from n = 4 on; in a single shot it peaks at n = 5 with 2.07 and settles
at 2 from n = 8 on. Figure 5: across widths S on training rows and test accuracy rise together (r above 0.9 for each number
of rows), between members of one width hardly (r at most 0.41, about 0 at n = 8); test accuracy goes on rising with the
width once S is at 2, to 0.96 with 14 rows.

Writes into the folder: widths/ and rows/ (run folders), figures/critical-width.* and figures/training-rows.* (PNG, SVG,
PDF, CSV), critical_width.json.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata, t

from experiments.shared.command import add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points, reach
from ncsim.cli.options import device_count
from ncsim.config import fields
from ncsim.config.ensemble import config_grid
from ncsim.config.tasks import context_names
from ncsim.ensemble.run import run_ensemble
from ncsim.errors import ConfigError
from ncsim.formatting import counted, table
from ncsim.report.figures import BLACK, CONTEXT_MARKS, VERMILLION, draw_bounds, new_figure, save_figure
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import Estimate, clopper_pearson, jackknife_error, mean_over_members
from ncsim.statistics.protocols import Outcomes, Protocol, ProtocolLaw
from ncsim.terminal import Progress

WIDTHS = (2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
ROW_WIDTHS = (1, 2, 3, 4, 8, 16)
TRAINING_ROWS = (8, 10, 12, 14)
PROTOCOLS = (Protocol("single"), Protocol("retry", 20))
CONTEXT_NAMES = context_names("A{i} B{j}")
GROUPS = 32  # of the jackknife over members


class WidthFinding(NamedTuple):
    """What the ensemble of one width shows."""

    width: int
    solved: list[Estimate]  # by context
    laws: list[ProtocolLaw]  # by protocol


class Critical(NamedTuple):
    """The width at which a context's solved probability passes one half, on lines between the widths tried; the ends are
    where those through the ends of the Clopper-Pearson intervals do. None: not within the widths tried. The smallest width tried stands for all
    below it."""

    value: float | None
    low: float | None  # where the upper ends of the intervals pass it
    high: float | None  # where the lower ends do

    def __str__(self) -> str:
        shown = ["none" if each is None else f"{each:.2f}" for each in self]
        return f"{shown[0]} [{shown[1]}, {shown[2]}]"


class RowFinding(NamedTuple):
    """Members of one width that trained on so many rows: means, and both numbers of each member."""

    rows: int
    width: int
    s: Estimate  # on the rows trained on
    train_accuracy: Estimate
    test_accuracy: Estimate  # over contexts and heads, Acc_comb_avg of figure 5
    test_by_context: list[Estimate]
    within: Estimate | None  # correlation of S and test accuracy over these members; None where one does not vary
    members: np.ndarray  # float64[M, 2]: S on training rows, test accuracy


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, draw both figures and print the tables."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", metavar="N", default="1000", help="members per width (default: 1000)")
    parser.add_argument("--steps", metavar="N", default="3000", help="optimiser steps (default: 3000)")
    add_place(parser, "runs/critical-width", "default: {}")


def _run(parsed: argparse.Namespace) -> None:
    sizes: dict[str, int] = {}
    for name in ("members", "steps"):
        number = fields.count(f"--{name}", getattr(parsed, name), 10**9)
        assert number is not None  # it has a default
        sizes[name] = number
    at_least("--members", sizes["members"], 2, ", or there is no interval")
    folder, devices = local_folder("--out", parsed.out), device_count(parsed.devices)
    grids = {
        "widths": config_grid(hidden=list(WIDTHS), **sizes),
        "rows": config_grid(hidden=list(ROW_WIDTHS), training_rows=list(TRAINING_ROWS), **sizes),
    }
    runs = {
        name: run_ensemble(grid, folder / name, devices=devices, progress=Progress()) for name, grid in grids.items()
    }
    found = width_findings(runs["widths"])
    critical = critical_widths(found)
    rows = row_findings(runs["rows"])
    plot_widths(found, critical, folder / "figures" / "critical-width")
    plot_rows(rows, folder / "figures" / "training-rows")
    write_json(folder / "critical_width.json", numbers(found, critical, rows))
    print(f"{counted(sizes['members'], 'member')} per width, {counted(sizes['steps'], 'step')}, 95 % intervals\n")
    print("\n".join(width_table(found)))
    print("\nCritical width (solved with probability one half):")
    print("\n".join(f"  {name}: {each}" for name, each in zip(CONTEXT_NAMES, critical, strict=True)))
    print("\nTrained on some of 16 rows, tested on the others\n")
    print("\n".join(row_table(rows)))
    print(
        f"\nStored in {folder}: widths/, rows/, critical_width.json, figures/critical-width.*, figures/training-rows.*\n"
    )
    print("\n".join(conclusions(found, critical, rows)))


# ------------------------------------------------------------------------------------------------- what is solved, S(n)


def width_findings(run: Run) -> list[WidthFinding]:
    """Solved probabilities and laws of S, width by width."""
    found = []
    for cell, config in enumerate(run.configs):
        outcomes = Outcomes(run.batches(cell), config)
        if outcomes.networks == 0:
            raise ConfigError(f"--steps: every network of a context diverged at n={config.hidden}, so there is no S")
        solved = [clopper_pearson(*outcomes.solved_fraction(context)) for context in range(4)]
        found.append(WidthFinding(config.hidden, solved, [ProtocolLaw(each, outcomes) for each in PROTOCOLS]))
    return found


def critical_widths(found: Sequence[WidthFinding]) -> list[Critical]:
    """Of each context: where the solved probability passes one half, on a line between neighbouring widths."""
    widths = [each.width for each in found]
    return [
        Critical(
            _passes(widths, [each.solved[context].value for each in found]),
            _passes(widths, [each.solved[context].high for each in found]),
            _passes(widths, [each.solved[context].low for each in found]),
        )
        for context in range(4)
    ]


def _passes(widths: Sequence[int], values: Sequence[float]) -> float | None:
    """Where values first reach one half; the first width where they begin there; None where they never do."""
    if values[0] >= 0.5:
        return float(widths[0])
    for (a, b), (p, q) in zip(itertools.pairwise(widths), itertools.pairwise(values), strict=True):
        if p < 0.5 <= q:
            return a + (0.5 - p) / (q - p) * (b - a)
    return None


def settled(found: Sequence[WidthFinding], protocol: int) -> int | None:
    """The width from which on, up to the largest tried, S is within 1/4 of 2 in nine runs of ten, with its whole interval."""
    width = None
    for each in reversed(found):
        if each.laws[protocol].between(1.75, 2.25).low <= 0.9:
            break
        width = each.width
    return width


def settling(found: Sequence[WidthFinding], protocol: int) -> str:
    """In words: from which width on S is near 2, that it is not, or that these members do not tell."""
    width = settled(found, protocol)
    if width is not None:
        return f"within 1/4 of 2 in nine runs of ten from n={width} on."
    last = found[-1].laws[protocol].between(1.75, 2.25)
    if last.high <= 0.9:
        return "it does not settle at 2."
    return f"whether it settles at 2 these members do not tell: at n={found[-1].width} {last} of runs are within 1/4 of it."


def _peak(found: Sequence[WidthFinding], protocol: int) -> int:
    return max(range(len(found)), key=lambda number: found[number].laws[protocol].law.mean)


def width_table(found: Sequence[WidthFinding]) -> list[str]:
    """A row a width."""
    header = ["n", *(f"solved {name}" for name in CONTEXT_NAMES)]
    for protocol in PROTOCOLS:
        header += [f"{protocol.label}: mean S", "5 / 50 / 95 %", "P(S > 2)"]
    rows = []
    for each in found:
        row = [str(each.width), *map(str, each.solved)]
        for law in each.laws:
            bands = " / ".join(f"{law.law.quantile(level):g}" for level in (0.05, 0.5, 0.95))
            row += [str(law.mean), bands, str(law.above(2.0))]
        rows.append(row)
    return table(header, rows, indent="")


def plot_widths(found: Sequence[WidthFinding], critical: Sequence[Critical], stem: Path) -> list[Path]:
    """Solved probability of each context by width; beside it S by width under each protocol, with its quantiles."""
    rows: list[list[Any]] = []
    widths = np.array([each.width for each in found])
    with new_figure(3.9 * (1 + len(PROTOCOLS)), 3.8) as figure:
        axes = figure.subplots(1, 1 + len(PROTOCOLS))
        axes[0].axhline(0.5, color="0.7", linewidth=0.8)
        for context, (name, (color, mark)) in enumerate(zip(CONTEXT_NAMES, CONTEXT_MARKS, strict=True)):
            there = [each.solved[context] for each in found]
            where = critical[context].value
            label = f"{name}: never" if where is None else f"{name}: passes 1/2 at n = {where:.1f}"
            if where == widths[0]:
                label = f"{name}: above 1/2 throughout"
            points(axes[0], widths, there, color=color, marker=mark, linewidth=1.3, label=label)
            rows += [
                ["solved", name, int(n), e.value, e.low, e.high, "", ""] for n, e in zip(widths, there, strict=True)
            ]
        axes[0].set_ylim(-0.03, 1.03)
        axes[0].set_ylabel("solved")
        axes[0].legend(fontsize=7.5, loc="lower right")
        for number, protocol in enumerate(PROTOCOLS):
            axis, laws = axes[1 + number], [each.laws[number] for each in found]
            draw_bounds(axis)
            low, middle, high = ([law.law.quantile(level) for law in laws] for level in (0.05, 0.5, 0.95))
            axis.fill_between(widths, low, high, color="0.88", linewidth=0, zorder=0, label="5 % to 95 % of runs")
            axis.plot(widths, middle, color="0.45", linestyle=":", linewidth=1.4, label="median")
            means = [law.mean for law in laws]
            points(axis, widths, means, color=BLACK, marker="P", linewidth=1.3, label="mean S")
            axis.set_ylim(0, 4)
            axis.set_ylabel("S")
            axis.set_title(protocol.label)
            rows += [
                ["s", protocol.label, int(n), e.value, e.low, e.high, a, b]
                for n, e, a, b in zip(widths, means, low, high, strict=True)
            ]
        axes[1].legend(fontsize=7.5, loc="upper right")
        for axis in axes:
            _width_axis(axis, widths)
        return save_figure(figure, stem, ["quantity", "of", "n", "mean", "low", "high", "5 %", "95 %"], rows)


def _width_axis(axis: Any, widths: np.ndarray) -> None:
    axis.set_xscale("log", base=2)
    shown = [n for n in widths if math.log2(n) % 1 == 0 or n == 3]
    axis.set_xticks(shown, [str(n) for n in shown])
    axis.minorticks_off()
    axis.set_xlabel("n, units in the shared layer")


# --------------------------------------------------------------------------------- training rows and test accuracy


def row_findings(run: Run) -> list[RowFinding]:
    """S on the rows trained on and accuracy on the others, width by width. Members with a diverged context are left out."""
    found = []
    for cell, config in enumerate(run.configs):
        records = run.records(cell)
        records = records.take(np.flatnonzero(~records.diverged.any(axis=1)))
        if records.size < 2:
            raise ConfigError(f"--steps: hardly a member at n={config.hidden} did not diverge, so there is no S")
        trained, held_out = chsh_statistics(records.training_joint), chsh_statistics(records.held_out_joint)
        by_context = (np.asarray(held_out.accuracy_alice) + np.asarray(held_out.accuracy_bob)).reshape(-1, 4) / 2
        accuracy = (np.asarray(trained.accuracy_alice) + np.asarray(trained.accuracy_bob)).mean(axis=(1, 2)) / 2
        members = np.stack([np.asarray(trained.s), by_context.mean(axis=1)], axis=1)
        found.append(
            RowFinding(
                config.training_rows,
                config.hidden,
                mean_over_members(members[:, 0], (-4.0, 4.0)),
                mean_over_members(accuracy, (0.0, 1.0)),
                mean_over_members(members[:, 1], (0.0, 1.0)),
                [mean_over_members(by_context[:, context], (0.0, 1.0)) for context in range(4)],
                _correlation(members),
                members,
            )
        )
    return found


def _correlation(pairs: np.ndarray) -> Estimate | None:
    """Pearson's coefficient with Fisher's interval; None where a column is constant."""
    if len(pairs) < 4 or np.any(np.ptp(pairs, axis=0) == 0):
        return None
    r = float(np.corrcoef(pairs.T)[0, 1])
    if abs(r) > 1 - 1e-12:
        return Estimate(r, r, r, "exact")
    reach = 1.959964 / math.sqrt(len(pairs) - 3)
    return Estimate(r, math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach), "Fisher z")


def across_cells(found: Sequence[RowFinding], rank: bool = False) -> Estimate | None:
    """Correlation over cells (widths, numbers of rows) of mean S on training rows and mean test accuracy: Pearson's, or
    Spearman's of ranks, with a jackknife over groups of members; None where one does not vary.

    The interval is for these cells, which are chosen and not drawn: it says what more members would change.
    """

    groups = min(GROUPS, *(len(each.members) for each in found))  # none is without a member

    def coefficient(left_out: int | None) -> float:
        means = []
        for each in found:
            chosen = np.arange(len(each.members)) % groups != left_out
            means.append(each.members[chosen].mean(axis=0))
        pairs = np.array(means)
        if np.any(np.ptp(pairs, axis=0) == 0):
            return math.nan
        return float(np.corrcoef((rankdata(pairs, axis=0) if rank else pairs).T)[0, 1])

    value, left_out = coefficient(None), np.array([coefficient(group) for group in range(groups)])
    if not np.isfinite([value, *left_out]).all():
        return None
    reach = float(t.ppf(0.975, groups - 1)) * jackknife_error(left_out)
    return Estimate(value, max(value - reach, -1.0), min(value + reach, 1.0), "delete-a-group jackknife over members")


def row_table(found: Sequence[RowFinding]) -> list[str]:
    """A row a number of rows and width."""
    header = ["rows", "n", "S on training rows", "training accuracy", "test accuracy", "r(S, test) over members"]
    rows = []
    for each in found:
        values = [each.s, each.train_accuracy, each.test_accuracy]
        within = "undefined" if each.within is None else str(each.within)
        rows.append([str(each.rows), str(each.width), *map(str, values), within])
    return table(header, rows, indent="")


def plot_rows(found: Sequence[RowFinding], stem: Path) -> list[Path]:
    """Figure 5 for NCnet, a panel a number of rows: bars of test accuracy by context and width, their mean, and S on the
    rows trained on."""
    rows: list[list[Any]] = []
    counts = sorted({each.rows for each in found})
    with new_figure(3.3 * len(counts) + 0.6, 4.0) as figure:
        axes = figure.subplots(1, len(counts), squeeze=False)[0]
        for number, (axis, count) in enumerate(zip(axes, counts, strict=True)):
            right = axis.twinx()
            _row_panel(axis, right, [each for each in found if each.rows == count])
            axis.set_title(f"trained on {count} of 16 rows")
            # All panels have the same axes, named at the two ends.
            if number == 0:
                axis.set_ylabel("accuracy on rows not trained on")
            else:
                axis.set_yticklabels([])
            if number == len(counts) - 1:
                right.set_ylabel("S on the rows trained on")
            else:
                right.set_yticklabels([])
        for each in found:
            cell = [each.rows, each.width]
            for name, value in zip(CONTEXT_NAMES, each.test_by_context, strict=True):
                rows.append(["test accuracy", name, *cell, *value[:3]])
            rows.append(["test accuracy", "mean", *cell, *each.test_accuracy[:3]])
            rows.append(["training accuracy", "mean", *cell, *each.train_accuracy[:3]])
            rows.append(["s", "training rows", *cell, *each.s[:3]])
        handles = [h for a in (axes[0], right) for h in a.get_legend_handles_labels()[0]]
        names = [n for a in (axes[0], right) for n in a.get_legend_handles_labels()[1]]
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
        return save_figure(figure, stem, ["quantity", "of", "rows", "n", "mean", "low", "high"], rows)


def _row_panel(axis: Any, right: Any, found: Sequence[RowFinding]) -> None:
    place = np.arange(len(found))
    hatches = ("", "//", "..", "xx")
    for context, (name, (color, _), hatch) in enumerate(zip(CONTEXT_NAMES, CONTEXT_MARKS, hatches, strict=True)):
        axis.bar(
            place + 0.19 * (context - 1.5), [each.test_by_context[context].value for each in found], 0.18, color=color,
            hatch=hatch, edgecolor=BLACK, linewidth=0.5, label=f"test accuracy, {name}",
        )  # fmt: skip
    mean = [each.test_accuracy.value for each in found]
    axis.plot(
        place, mean, color="0.35", marker="s", markersize=4, linewidth=1.4, label="test accuracy, mean over contexts"
    )
    axis.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":", label="accuracy of guessing")
    axis.set_ylim(0, 1)
    axis.set_xticks(place, [str(each.width) for each in found])
    axis.set_xlabel("n, units in the shared layer")
    right.spines["right"].set_visible(True)
    s = [each.s for each in found]
    right.errorbar(
        place, [each.value for each in s], yerr=reach(s), color=BLACK, marker="D", linewidth=1.8, capsize=2.5,
        label="S on the rows trained on",
    )  # fmt: skip
    right.axhline(2, color=VERMILLION, linestyle="--", linewidth=1.2, label="classical bound 2")
    right.set_ylim(0, 2.6)


# ------------------------------------------------------------------------------------------------------------ in words


def conclusions(found: Sequence[WidthFinding], critical: Sequence[Critical], rows: Sequence[RowFinding]) -> list[str]:
    """What it comes to for assumptions 1 to 3 and figure 5, a sentence a line."""
    lines = []
    easy, hard = critical[0], critical[3]
    apart = easy.high is not None and (hard.low is None or hard.low > easy.high)
    lines.append(
        f"Assumption 1, different demands: critical widths {', '.join(map(str, critical))}: "
        + ("the easiest and the hardest context differ clearly." if apart else "no clear difference.")
    )
    for number, protocol in enumerate(PROTOCOLS):
        peak = found[_peak(found, number)]
        lines.append(
            f"{protocol.label.capitalize()}: mean S is largest at n={peak.width}, {peak.laws[number].mean}; "
            + settling(found, number)
        )
    within = [each.within.value for each in rows if each.within is not None]
    lines.append(
        f"Figure 5: over {len(rows)} cells, S on training rows and test accuracy have r = {across_cells(rows)}, "
        f"rank correlation {across_cells(rows, rank=True)}"
        + (f"; over members of one cell r is {min(within):.2f} to {max(within):.2f}." if within else ".")
    )
    for count in sorted({each.rows for each in rows}):
        cells = [each for each in rows if each.rows == count]
        lines.append(f"  with {count} rows, over {len(cells)} widths: r = {across_cells(cells)}")
    return lines


def numbers(
    found: Sequence[WidthFinding], critical: Sequence[Critical], rows: Sequence[RowFinding]
) -> Mapping[str, Any]:
    """All numbers, as they are stored."""
    widths = []
    for each in found:
        laws = {}
        for law in each.laws:
            laws[law.protocol.label] = {
                "mean": law.mean,
                "above_2": law.above(2.0),
                "quantiles": {str(level): law.law.quantile(level) for level in (0.05, 0.25, 0.5, 0.75, 0.95)},
                "correlators": law.correlators,
            }
        widths.append({"n": each.width, "solved": each.solved, "s": laws})
    shown = [
        {"rows": e.rows, "n": e.width, "s": e.s, "train_accuracy": e.train_accuracy, "test_accuracy": e.test_accuracy}
        | {"within": e.within, "test_by_context": e.test_by_context}
        for e in rows
    ]
    return {
        "widths": widths,
        "critical_width": critical,
        "settled": {protocol.label: settled(found, number) for number, protocol in enumerate(PROTOCOLS)},
        "rows": shown,
        "across_cells": {"pearson": across_cells(rows), "spearman": across_cells(rows, rank=True)},
    }


if __name__ == "__main__":
    main()
