"""Figures 3, 4 and 5 of the paper, from stored text runs. Files and style as in `ncsim.report.figures`; each is also given as an
`<svg>` element for a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ncsim.report.figures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    draw_bounds,
    inline_svg,
    new_figure,
    save_figure,
)
from ncsim.text.report.summary import TextSummary, mean_slope, slope_window
from ncsim.text.results import TextRun

_LINES = ((BLUE, "-"), (GREEN, "-."), (BLACK, ":"), (PURPLE, "--"), (ORANGE, "-"), (SKY, "--"))
_MARKS = "osD^vP*X<>"


def look(number: int, ranks: int) -> tuple[str, str, str]:
    """Colour, line style and mark of a rank's line, no two of 30 alike; without marks where colours are enough."""
    color, style = _LINES[number % len(_LINES)]
    return color, style, _MARKS[number % len(_MARKS)] if ranks > len(_LINES) else ""


def _named(rank: int) -> str:
    """A rank on an axis; updates of `--adaptation full` have none, and 0 would be none at all."""
    return str(rank) if rank else "full"


def plot_s_by_rank(run: TextRun, summary: TextSummary, stem: Path) -> str:
    """Figure 3: S on the training pairs against LoRA rank after the last epoch, a mark a seed, with what the accuracies
    alone give and Delta with its 95 % interval."""
    cells = [cell for cell in summary.numbers["cells"] if cell["split"] == "train" and "s" in cell]
    place = {rank: n for n, rank in enumerate(run.config.ranks)}
    rows = []
    with new_figure(max(4.6, 0.8 * len(place) + 1.8), 4.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        draw_bounds(upper)
        spread = 0.5 / run.config.seeds
        beside = min(0.06, spread / 5)  # so that a cross is nearer to its own dot than to that of another seed
        for number, cell in enumerate(cells):
            x = place[cell["rank"]] + spread * (cell["seed"] - (run.config.seeds - 1) / 2)
            delta, label = cell["contextuality"], (lambda text, first=number == 0: text if first else None)
            s = cell["s_interval"]
            reach = [[s["value"] - s["low"]], [s["high"] - s["value"]]]
            upper.errorbar(
                x - beside, s["value"], yerr=reach, color=BLUE, marker="o", capsize=2, label=label("S (95 %, items)")
            )
            upper.plot(x + beside, cell["s_factorised"], "x", color=VERMILLION, label=label("from accuracies alone"))
            reach = [[delta["value"] - delta["low"]], [delta["high"] - delta["value"]]]
            lower.errorbar(x, delta["value"], yerr=reach, color=BLACK, marker="s", capsize=2, markersize=4)
            rows.append(
                [cell["rank"], cell["seed"], cell["s"], s["low"], s["high"], cell["s_factorised"], cell["influence"],
                 delta["value"], delta["low"], delta["high"]]
            )  # fmt: skip
        lower.axhline(0, color="0.6", linewidth=0.8)
        upper.set_ylabel("S on training pairs")
        lower.set_ylabel("Delta (95 %)")
        lower.set_xlabel("LoRA rank r")
        lower.set_xticks(range(len(place)), [_named(rank) for rank in place])
        lower.set_xlim(-0.6, len(place) - 0.4)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        columns = "rank seed s s_low s_high s_factorised influence delta delta_low delta_high".split()
        save_figure(figure, stem, columns, rows)
        return inline_svg(figure, stem.name)


def plot_s_by_epoch(run: TextRun, summary: TextSummary, stem: Path) -> str:
    """Figure 4: S over epochs, a line a rank (mean over seeds, band from lowest to highest), and its mean slope."""
    along = summary.curves.s
    epochs, ranks = run.epochs, run.config.ranks
    slopes = mean_slope(epochs, along)
    rows: list[list[Any]] = []
    with new_figure(7.6, 3.8) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        draw_bounds(left)
        for n, rank in enumerate(ranks):
            color, style, mark = look(n, len(ranks))
            mean = along[n].mean(axis=0)
            label = f"r = {rank}" if rank else "full"
            if np.isfinite(mean).sum() == 1:  # no line: what follows diverged, or is not there yet
                left.plot(epochs, mean, mark or "o", color=color, markersize=4)
            left.plot(
                epochs, mean, style, color=color, marker=mark, markevery=0.1, markersize=4, linewidth=1.4, label=label
            )
            if run.config.seeds > 1:
                left.fill_between(
                    epochs, along[n].min(axis=0), along[n].max(axis=0), color=color, alpha=0.15, linewidth=0
                )
            rows += [
                [rank, seed, e, s] for seed, line in enumerate(along[n]) for e, s in zip(epochs, line, strict=True)
            ]
        left.set_xlabel("epoch")
        left.locator_params(axis="x", integer=True)
        left.set_ylabel("S on training pairs")
        place = np.arange(len(ranks))
        right.bar(place, slopes.mean(axis=1), color=SKY, edgecolor=BLACK, linewidth=0.6)
        for seed in range(run.config.seeds):
            right.plot(place, slopes[:, seed], "o", color=BLACK, markersize=3)
        right.set_xticks(place, [_named(rank) for rank in ranks], rotation=90 if len(ranks) > len(_LINES) else 0)
        right.set_xlim(-0.6, len(ranks) - 0.4)  # of a rank without a mean, too
        right.set_xlabel("LoRA rank r")
        right.set_ylabel(f"mean slope of S per epoch,\nepochs 0 to {slope_window(epochs)}")
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5))
        save_figure(figure, stem, ["rank", "seed", "epoch", "s"], rows)
        return inline_svg(figure, stem.name)


def plot_s_and_test_accuracy(run: TextRun, summary: TextSummary, stem: Path) -> str:
    """Figure 5: S on the training pairs against mean test accuracy, a mark a seed, labelled by rank."""
    along = summary.curves
    s, accuracy = along.s[:, :, -1], along.test_accuracy[:, :, -1]
    rows = []
    with new_figure(4.6, 4.2) as figure:
        axis = figure.subplots()
        axis.axhline(2, color=VERMILLION, linestyle="--", linewidth=1.2, zorder=1, label="classical bound 2")
        for n, rank in enumerate(run.config.ranks):
            color, _ = _LINES[n % len(_LINES)]
            axis.plot(
                accuracy[n], s[n], _MARKS[n % len(_MARKS)], color=color, markeredgecolor=BLACK, markeredgewidth=0.5,
                label=f"r = {rank}" if rank else "full",
            )  # fmt: skip
            rows += [[rank, seed, a, value] for seed, (a, value) in enumerate(zip(accuracy[n], s[n], strict=True))]
        axis.set_xlabel("test accuracy, mean over contexts and heads")
        axis.set_ylabel("S on training pairs")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save_figure(figure, stem, ["rank", "seed", "test_accuracy", "s"], rows)
        return inline_svg(figure, stem.name)
