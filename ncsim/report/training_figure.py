"""S along the training of a recorded run, and how often it is above 2: a column per cell."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.report.figures import (
    BLACK,
    SKY,
    VERMILLION,
    cell_columns,
    cell_values,
    draw_bounds,
    inline_svg,
    new_figure,
    plain,
    save_figure,
)
from ncsim.report.pictures import MOST_PLACES
from ncsim.report.training import OF_MEMBERS

#: Cells beside one another.
_ACROSS = 6
_BAND = {"color": SKY, "linewidth": 0, "zorder": 0}


def plot_training(
    recorded: Sequence[Mapping[str, Any]], labels: Sequence[str], values: Sequence[str], axis_label: str, stem: Path
) -> list[Path]:
    """Draw cells of which there is a recording, MOST_PLACES at most; the CSV has all.

    Args:
        recorded: of each cell, as summary.json has it.
        labels: of the cells, as titles.
        values: of the cells, as labels of an axis.
        axis_label: what tells them apart.
    """
    drawn = recorded[:MOST_PLACES]
    across = min(len(drawn), _ACROSS)
    down = -(-len(drawn) // across)
    with new_figure(2.1 * across + 1.1, 3.9 * down + 0.4) as figure:
        axes = figure.subplots(2 * down, across, sharey="row", squeeze=False, height_ratios=[5, 3] * down)
        for number, (numbers, label) in enumerate(zip(drawn, labels, strict=False)):
            row, column = divmod(number, across)
            upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
            _draw(upper, lower, numbers, drawn)
            upper.set_title(plain(textwrap.fill(label, 28)) if len(labels) > 1 else "")
            if column:
                upper.set_ylabel("")
                lower.set_ylabel("")
        for unused in range(len(drawn), across * down):
            row, column = divmod(unused, across)
            axes[2 * row, column].remove()
            axes[2 * row + 1, column].remove()
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(across, 3))
        rows = [row for numbers, label in zip(recorded, values, strict=True) for row in _rows(numbers, label)]
        columns = ["quantity", *cell_columns(axis_label), "context", "step", "value", "low", "high"]
        return save_figure(figure, stem, columns, rows)


def inline_training(recorded: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same cells, each as an `<svg>` element for a page of HTML."""
    found, drawn = [], recorded[:MOST_PLACES]
    for number, numbers in enumerate(drawn):
        with new_figure(3.6, 3.1, None) as figure:
            upper, lower = figure.subplots(2, 1, height_ratios=[5, 3])
            figure.subplots_adjust(0.17, 0.14, 0.98, 0.97, hspace=0.16)
            _draw(upper, lower, numbers, drawn)
            found.append(inline_svg(figure, f"training{number}"))
    return found


def _draw(upper: Any, lower: Any, numbers: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> None:
    step = np.array(numbers["step"])
    bands = {float(level): np.array(values, float) for level, values in numbers["quantiles_s"].items()}
    draw_bounds(upper)
    upper.fill_between(step, bands[0.05], bands[0.95], alpha=0.3, label="5 to 95 % of members", **_BAND)
    upper.fill_between(step, bands[0.25], bands[0.75], alpha=0.6, label="the middle half", **_BAND)
    _line(upper, step, numbers["mean_s"], "mean S")
    upper.set(ylabel="S", ylim=_limits(beside))
    _line(lower, step, numbers["s_above_2"], "P(S > 2)")
    lower.set(ylabel="P(S > 2)", xlabel="step", ylim=(-0.04, 1.04))
    for axis in (upper, lower):
        if len(step) > 2 and step[len(step) // 2] < 0.2 * step[-1]:  # recorded at steps of equal ratio
            axis.set_xscale("symlog", linthresh=max(int(step[1]), 1))
        else:
            axis.locator_params(axis="x", nbins=4)
        axis.set_xlim(0, max(step[-1], 1))
    upper.tick_params(labelbottom=False)


def _line(axis: Any, step: np.ndarray, series: Mapping[str, Sequence[float]], label: str) -> None:
    value, low, high = (np.array(series[name], float) for name in ("value", "low", "high"))
    axis.plot(step, value, color=BLACK, linewidth=1.4, zorder=3, label=label)
    # Where every member has diverged a share has no value, and its limits are all that is possible: nothing is drawn.
    axis.fill_between(
        step,
        low,
        high,
        where=~np.isnan(value),
        color=VERMILLION,
        alpha=0.35,
        linewidth=0,
        zorder=2,
        label="its 95 % interval",
    )
    # A step without neighbours has neither line nor band.
    there = np.concatenate([[False], ~np.isnan(value), [False]])
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    if alone.any():
        axis.vlines(
            step[alone], low[alone], high[alone], color=VERMILLION, alpha=0.35, linewidth=4, zorder=2, clip_on=False
        )
        axis.plot(step[alone], value[alone], "o", color=BLACK, markersize=3, zorder=3, clip_on=False)


def _limits(beside: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Where all bands and intervals are, and the bounds."""
    # Cells of one picture may have been recorded at other numbers of steps; None where all members have diverged.
    found = [s for each in beside for level in ("0.05", "0.95") for s in each["quantiles_s"][level]]
    for mean in (each["mean_s"] for each in beside):
        known = ~np.isnan(np.array(mean["value"], float))
        found += [s for limit in ("low", "high") for s in np.array(mean[limit], float)[known]]
    ends = np.array(found, float)
    return min(float(np.nanmin(ends, initial=0)), 0) - 0.2, max(float(np.nanmax(ends, initial=3)), 3) + 0.2


def _rows(numbers: Mapping[str, Any], label: str) -> list[list[Any]]:
    """What is drawn and what stands beside it in summary.json."""
    rows: list[list[Any]] = []
    cell = cell_values(label)
    named = [(name, "", numbers[name]) for name in OF_MEMBERS]
    named += [(n, c, each) for n in ("solved", "loss_alice", "loss_bob") for c, each in numbers.get(n, {}).items()]
    for name, context, series in named:
        limits = zip(series["value"], series["low"], series["high"], strict=True)
        rows += [[name, *cell, context, step, *each] for step, each in zip(numbers["step"], limits, strict=True)]
    for level, values in numbers["quantiles_s"].items():
        rows += [
            [f"quantile_{level}_s", *cell, "", step, s, "", ""] for step, s in zip(numbers["step"], values, strict=True)
        ]
    return rows
