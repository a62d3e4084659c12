"""Figures from stored records. Each is saved as PNG, SVG and PDF, with the plotted numbers as CSV beside it.

Colours are Okabe and Ito's, told apart by the colour-blind; lightness and marks differ too, for print in grey.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.statistics.protocols import TSIRELSON, ProtocolLaw

# Only files are drawn. A backend that the user has asked for, as Jupyter's, may not be installed here, and even to import
# matplotlib would fail; where it is, it is the user's for figures of their own.
_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
if _backend is not None and "matplotlib.pyplot" not in sys.modules:
    with suppress(ValueError):
        mpl.rcParams["backend"] = _backend

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
#: Fonts are embedded as text, so that figures can be searched and edited; ids in SVG do not change from run to run.
STYLE = {
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "ncsim",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
#: Of the contexts 11, 12, 21, 22.
CONTEXT_MARKS = ((SKY, "o"), (GREEN, "s"), (ORANGE, "^"), (VERMILLION, "D"))


def save_figure(figure: Figure, stem: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Path]:
    """Write stem.png, .svg, .pdf and .csv; the CSV holds the numbers that the figure shows."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with _style():
        figure.canvas.draw()  # places everything; the three files need not do it again
        figure.set_layout_engine("none")
        for suffix, metadata in (("png", {}), ("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
            path = stem.with_name(f"{stem.name}.{suffix}")
            figure.savefig(path, dpi=200, metadata=metadata)
            paths.append(path)
    path = stem.with_name(f"{stem.name}.csv")
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)
    return [*paths, path]


def _panel_width(labels: Sequence[str]) -> float:
    return max(2.5, 0.75 * len(labels))  # inches


@contextmanager
def _style() -> Iterator[None]:
    """Our style alone: a user's own may ask for what is not there, as LaTeX."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in our style that needs no display and is no global state."""
    with _style():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def plot_runs_and_laws(
    laws: Sequence[Sequence[ProtocolLaw]],
    runs: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    axis_label: str,
    stem: Path,
) -> list[Path]:
    """Figure 2 (a): a panel a protocol; in it, per ensemble, some runs as dots and the exact law of S beside them.

    Args:
        laws: [protocol][ensemble].
        runs: [protocol][ensemble], S of the runs to draw as dots.
        labels: of the ensembles, in the order of the axis.
    """
    rows: list[list[Any]] = []
    with new_figure(_panel_width(labels) * len(laws) + 0.6, 4.3) as figure:
        axes = figure.subplots(1, len(laws), sharey=True, squeeze=False)[0]
        generator = np.random.default_rng(0)
        for panel, (axis, protocol_laws, protocol_runs) in enumerate(zip(axes, laws, runs, strict=True)):
            draw_bounds(axis)
            for place, (law, dots) in enumerate(zip(protocol_laws, protocol_runs, strict=True)):
                jitter = generator.uniform(-0.32, -0.06, len(dots))
                axis.scatter(
                    place + jitter, dots, s=9, color=BLACK, alpha=0.55, linewidths=0, zorder=3,
                    label=f"{len(dots)} runs" if place == 0 else None,
                )  # fmt: skip
                _draw_law(axis, law, place, first=place == 0)
                name = law.protocol.label
                rows += [[name, labels[place], "run", number, s] for number, s in enumerate(dots)]
                shown = law.law.probabilities > 0
                rows += [
                    [name, labels[place], "law", p, s]
                    for s, p in zip(law.law.values[shown], law.law.probabilities[shown], strict=True)
                ]
            axis.set_title(protocol_laws[0].protocol.label)
            axis.set_xticks(range(len(labels)), labels)
            axis.set_xlim(-0.5, len(labels) - 0.4)
            axis.set_xlabel(axis_label)
            if panel == 0:
                axis.set_ylabel("S")
        axes[0].set_ylim(*_limits(laws, runs))
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        return save_figure(figure, stem, ["protocol", axis_label, "kind", "run_or_probability", "s"], rows)


def _draw_law(axis: Any, law: ProtocolLaw, place: int, first: bool) -> None:
    """The law as bars to the right of its place, the widest 0.45 wide, with its mean as a short line."""
    probabilities, values = law.law.probabilities, law.law.values
    shown = probabilities > 1e-4 * probabilities.max()  # thinner than a hair otherwise
    axis.barh(
        values[shown], 0.45 * probabilities[shown] / probabilities.max(), left=place, height=0.8 * (values[1] - values[0]),
        color=SKY, linewidth=0, zorder=2, label="exact law of S" if first else None,
    )  # fmt: skip
    axis.plot(
        [place, place + 0.47],
        [law.law.mean] * 2,
        color=BLACK,
        linewidth=1.4,
        zorder=4,
        label="its mean" if first else None,
    )


def draw_bounds(axis: Any) -> None:
    """The classical and the quantum bound on S as lines."""
    axis.axhline(2, color=VERMILLION, linestyle="--", linewidth=1.2, zorder=1, label="classical bound 2")
    axis.axhline(TSIRELSON, color=BLUE, linestyle="-.", linewidth=1.2, zorder=1, label=r"Tsirelson's bound $2\sqrt{2}$")


def _limits(laws: Sequence[Sequence[ProtocolLaw]], runs: Sequence[Sequence[np.ndarray]]) -> tuple[float, float]:
    """Where all dots are, and all of a law but its last thousandth at either end."""
    low = min(
        min(law.law.quantile(0.001) for panel in laws for law in panel), min(r.min(initial=2) for p in runs for r in p)
    )
    high = max(
        max(law.law.quantile(0.999) for panel in laws for law in panel), max(r.max(initial=2) for p in runs for r in p)
    )
    return min(low, 1.5) - 0.2, max(high, 3.0) + 0.2


def plot_means(laws: Sequence[Sequence[ProtocolLaw]], labels: Sequence[str], axis_label: str, stem: Path) -> list[Path]:
    """Figure 2 (b): mean correlators and mean S per ensemble, with 95 % intervals, a panel a protocol."""
    rows: list[list[Any]] = []
    with new_figure(_panel_width(labels) * len(laws) + 0.6, 4.3) as figure:
        axes = figure.subplots(1, len(laws), sharey=True, squeeze=False)[0]
        for axis, protocol_laws in zip(axes, laws, strict=True):
            draw_bounds(axis)
            axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            place = np.arange(len(labels))
            series = [("S", BLACK, "P", [law.mean for law in protocol_laws], 0.28)]
            for context, (name, (color, mark)) in enumerate(
                zip(context_names("A{i}, B{j}"), CONTEXT_MARKS, strict=True)
            ):
                estimates = [law.correlators[context] for law in protocol_laws]
                series.append((f"C({name})", color, mark, estimates, -0.28 + 0.14 * context))
            for name, color, mark, estimates, shift in series:
                values = np.array([e.value for e in estimates])
                reach = np.array([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]])
                axis.errorbar(
                    place + shift, values, yerr=reach, color=color, marker=mark, linestyle="none", markersize=6,
                    markeredgecolor=BLACK, markeredgewidth=0.5, capsize=2.5, ecolor=BLACK, elinewidth=1, label=name,
                )  # fmt: skip
                rows += [
                    [protocol_laws[0].protocol.label, labels[n], name, e.value, e.low, e.high]
                    for n, e in enumerate(estimates)
                ]
            axis.set_title(protocol_laws[0].protocol.label)
            axis.set_xticks(place, labels)
            axis.set_xlim(-0.5, len(labels) - 0.4)
            axis.set_xlabel(axis_label)
        axes[0].set_ylabel("mean over runs")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        return save_figure(figure, stem, ["protocol", axis_label, "quantity", "mean", "low", "high"], rows)
