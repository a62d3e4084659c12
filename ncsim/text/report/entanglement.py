"""Entanglement profiles of a text run in a table, in numbers and in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.formatting import table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_figure, save_figure
from ncsim.text.profiles import AdapterProfile

#: Columns of the numbers behind the figure, a row a cut; the last two are of the effective ranks along training, a row an epoch.
COLUMNS = "rank seed context target layer dimension entropy bound law null null_spread epoch effective_rank".split()
_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
#: More than colours, so that the seventh rank does not look as the first.
_MARKS = "osD^vP*X<>"
#: Of the lines along training, one for each kind of dense layer that may have an update.
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 5)))


def cut_rows(found: Sequence[AdapterProfile]) -> list[list[Any]]:
    """Every cut of every layer, in the order of COLUMNS."""
    rows: list[list[Any]] = []
    for each in found:
        name = [each.adapter.rank, each.adapter.seed, each.adapter.context_name, each.target]
        for layer, entropies in enumerate(each.profile.entropy):
            columns = (
                each.profile.dimension, entropies, each.bound, each.law, each.null.mean[layer], each.null.spread[layer],
            )  # fmt: skip
            rows += [
                [*name, layer, *(value.item() for value in values), "", ""] for values in zip(*columns, strict=True)
            ]
    return rows


def summary_rows(found: Sequence[AdapterProfile]) -> list[dict[str, Any]]:
    """A row a rank and target: means over layers, seeds and contexts, of those that have an update.

    Residuals are of the cut, among the inputs and among the outputs, where their mean is furthest from 0; beside them stands the mean spread of the null there.
    """
    rows = []
    for rank, target in sorted({(each.adapter.rank, each.target) for each in found}):
        own = [each for each in found if (each.adapter.rank, each.target) == (rank, target)]
        entropy = np.concatenate([each.profile.entropy for each in own])
        there = np.isfinite(entropy).all(axis=-1)
        first = own[0].profile
        row: dict[str, Any] = {"rank": rank, "target": target, "updates": len(entropy), "zero": int((~there).sum())}
        if there.any():
            mean = first._replace(entropy=entropy[there].mean(axis=0))
            null = np.concatenate([each.null.mean for each in own])[there].mean(axis=0)
            residual = mean.entropy - null
            spread = np.concatenate([each.null.spread for each in own])[there].mean(axis=0)
            effective = np.exp(np.concatenate([each.profile.centre for each in own])[there])
            row |= {
                "effective_rank": float(effective.mean()),
                "peak": float(mean.entropy.max()),
                "centre": float(mean.centre),
                "valley": float(mean.valley_depth),
                "valley_of_bound": float(mean._replace(entropy=own[0].bound).valley_depth),
                "valley_of_law": float(mean._replace(entropy=own[0].law).valley_depth),
                "valley_of_null": float(mean._replace(entropy=null).valley_depth),
                "within_bound": bool(all((n.profile.entropy <= n.bound + 1e-9)[there_of(n)].all() for n in own)),
            }
            for side, where in (
                ("inputs", first.dimension < first.inputs),
                ("outputs", first.dimension > first.inputs),
            ):
                if where.any():
                    at = int(np.flatnonzero(where)[np.abs(residual[where]).argmax()])
                    row[side] = {
                        "dimension": int(first.dimension[at]),
                        "residual": float(residual[at]),
                        "spread": float(spread[at]),
                    }
        rows.append(row)
    return rows


def there_of(each: AdapterProfile) -> np.ndarray:
    """Which layers have an update at all, bool[L]."""
    return np.isfinite(each.profile.entropy).all(axis=-1)


def printed_profiles(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as a table for a terminal."""
    header = [
        "rank",
        "target",
        "updates",
        "effective rank",
        "peak",
        "centre",
        "valley",
        "of bound",
        "of law",
        "of null",
    ]
    header += ["residual inputs (at d)", "residual outputs (at d)"]
    cells = []
    for row in rows:
        there = f"{row['updates'] - row['zero']} of {row['updates']}" if row["zero"] else str(row["updates"])
        cell = ["full" if row["rank"] == 0 else str(row["rank"]), row["target"], there]
        if "centre" in row:
            names = ("peak", "centre", "valley", "valley_of_bound", "valley_of_law", "valley_of_null")
            cell += [f"{row['effective_rank']:.2f}", *(f"{row[name]:.3f}" for name in names)]
            for side in ("inputs", "outputs"):
                at = row.get(side)
                cell.append(f"{at['residual']:+.3f} +- {at['spread']:.3f} ({at['dimension']:,})" if at else "")
        cells.append([*cell, *["none"] * (len(header) - len(cell))])
    broken = [row for row in rows if not row.get("within_bound", True)]
    said = "Every profile is within its bound." if not broken else f"NOT WITHIN THE BOUND: {len(broken)} rows"
    if not any("centre" in row for row in rows):
        said = "There is none: no adapter has an update that is finite and not 0."
    words = "Entropies in nats, means over layers, seeds and contexts; residuals are S less the null's, +- the spread of its draws."
    return "\n".join([*table(header, cells), "", f"  {words} {said}"])


def plot_profiles(found: Sequence[AdapterProfile], along: Any, stem: Path) -> list[Path]:
    """S against d by target, a line a rank with its bound, law and null; and effective ranks along training where recorded.

    Args:
        found: of one run or of several.
        along: as `ncsim.text.profiles.recorded_profiles` gives it, or None.
        stem: of the files.
    """
    targets = list(dict.fromkeys(each.target for each in found))
    ranks = sorted({each.adapter.rank for each in found})
    panels, shown = len(targets) + (along is not None), set()
    with new_figure(3.6 * panels + 0.4, 4.2) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        for axis, target in zip(axes, targets, strict=False):
            for n, rank in enumerate(ranks):
                own = [each for each in found if (each.adapter.rank, each.target) == (rank, target)]
                if any(there_of(each).any() for each in own):
                    _draw_rank(axis, own, _COLORS[n % len(_COLORS)], _MARKS[n % len(_MARKS)])
                    shown.add(rank)
            axis.set_xscale("log")
            axis.set_title(target)
            axis.set_xlabel("states left of the cut, d")
        axes[0].set_ylabel("S(d), nats")
        rows = cut_rows(found)
        if along is not None:
            more = _draw_along(axes[-1], along, targets, ranks)
            rows, shown = rows + more, shown | {row[0] for row in more}
        # Of all panels: a rank may have an update of one target and none of another.
        for n, rank in enumerate(ranks):
            if rank in shown:
                style: dict[str, Any] = {
                    "color": _COLORS[n % len(_COLORS)],
                    "marker": _MARKS[n % len(_MARKS)],
                    "linewidth": 1.2,
                }
                axes[0].plot([], [], markersize=3.5, label=f"r = {rank}" if rank else "full", **style)
        for name, line in (("bound", ":"), ("Gaussian law", "--")):
            axes[0].plot([], [], line, color="0.3", linewidth=1, label=name)
        axes[0].fill_between([], [], [], color="0.7", alpha=0.6, label="null, +- 2 spreads")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return save_figure(figure, stem, COLUMNS, rows)


def _draw_rank(axis: Any, own: Sequence[AdapterProfile], color: str, mark: str) -> None:
    d = own[0].profile.dimension
    entropy, null, spread = (
        np.nanmean(np.concatenate(each), axis=0)
        for each in ([n.profile.entropy for n in own], [n.null.mean for n in own], [n.null.spread for n in own])
    )
    axis.fill_between(d, null - 2 * spread, null + 2 * spread, color=color, alpha=0.25, linewidth=0)
    axis.plot(d, own[0].bound, ":", color=color, linewidth=1)
    axis.plot(d, own[0].law, "--", color=color, linewidth=1)
    axis.plot(d, entropy, mark, linestyle="-", color=color, markersize=3.5, linewidth=1.2)
    axis.axvline(own[0].profile.inputs, color="0.8", linewidth=0.8, zorder=0)


def _draw_along(axis: Any, along: Any, targets: Sequence[str], ranks: Sequence[int]) -> list[list[Any]]:
    """Effective ranks by epoch, and a row of the file for each that is drawn."""
    rows, drawn = along.to_pylist(), []
    for target, line in zip(targets, _LINES, strict=False):
        for n, rank in enumerate(ranks):
            epochs: dict[int, list[float]] = {}
            for row in rows:
                if (row["rank"], row["target"]) == (rank, target) and np.isfinite(row["entropy"]).all():
                    epochs.setdefault(row["epoch"], []).append(row["entropy"][row["dimension"].index(row["inputs"])])
            # In their order: the first adapter may have no update yet where others have one.
            order = sorted(epochs)
            mean = [float(np.exp(epochs[epoch]).mean()) for epoch in order]
            drawn += [
                [rank, "", "", target, *[""] * (len(COLUMNS) - 6), *pair] for pair in zip(order, mean, strict=True)
            ]
            style: dict[str, Any] = {"color": _COLORS[n % len(_COLORS)], "marker": _MARKS[n % len(_MARKS)]}
            axis.plot(order, mean, linestyle=line, markersize=3, **style)
        axis.plot([], [], linestyle=line, color=BLACK, linewidth=1, label=target)
    axis.set_title("effective rank along training")
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    return drawn
