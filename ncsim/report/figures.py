"""Figures from stored records. Each is saved as PNG, SVG and PDF, with the plotted numbers as CSV beside it.

Colours are Okabe and Ito's, told apart by the colour-blind; lightness and marks differ too, for print in grey.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.formatting import EMPTY
from ncsim.report.pictures import MOST_PLACES, PlottedLaw, dots_label
from ncsim.statistics.protocols import TSIRELSON

# Only files are drawn. A backend that the user has asked for, as Jupyter's, may not be installed here, and even to import
# matplotlib would fail; where it is, it is the user's for figures of their own.
_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path as Path2D
    from matplotlib.textpath import text_to_path
    from matplotlib.ticker import MaxNLocator
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
if _backend is not None and "matplotlib.pyplot" not in sys.modules:
    with suppress(ValueError):
        mpl.rcParams["backend"] = _backend

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
_FONT_SIZE = 9
#: Fonts are embedded as text, so that figures can be searched and edited; ids in SVG do not change from run to run.
STYLE = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,  # a PDF, too, looks there: else the minus sign has a font of its own (findings/matplotlib_pdf_fonts_by_ps_fonttype.sh)
    "svg.fonttype": "none",
    "svg.hashsalt": "ncsim",
    "font.size": _FONT_SIZE,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # else every drawing looks whether something is above the axes
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
#: Of the contexts 11, 12, 21, 22.
CONTEXT_MARKS = ((SKY, "o"), (GREEN, "s"), (ORANGE, "^"), (VERMILLION, "D"))

#: The kinds of files, without dates; the best compression of a PNG takes four times as long for a tenth less.
_FILES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("png", {"pil_kwargs": {"compress_level": 3}}),
    ("svg", {"metadata": {"Date": None}}),
    ("pdf", {"metadata": {"CreationDate": None}}),
)
#: Margins of our figures in inches: left, right, above, and below without labels. Fixed ones need no second drawing.
_LEFT, _RIGHT, _ABOVE, _BELOW, _LINE = 0.6, 0.1, 0.3, 0.85, 0.16


def save_figure(figure: Figure, stem: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Path]:
    """Write stem.png, .svg, .pdf and .csv; the CSV holds the numbers that the figure shows."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with _style():
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)  # places everything; the three files need not do it again
            figure.set_layout_engine(None)  # with "none" each would be drawn once more, to place nothing
        for suffix, options in _FILES:
            path = stem.with_name(f"{stem.name}.{suffix}")
            figure.savefig(path, dpi=200, **options)
            paths.append(path)
    path = stem.with_name(f"{stem.name}.csv")
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)
    return [*paths, path]


@contextmanager
def _style() -> Iterator[None]:
    """Our style alone: a user's own may ask for what is not there, as LaTeX."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


@contextmanager
def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Iterator[Figure]:
    """A figure in our style that needs no display and is no global state; without a layout its margins are the caller's."""
    with _style():
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def cell_columns(axis_label: str) -> list[str]:
    """The columns of a CSV that tell cells apart: one for each field that the label of the axis names."""
    return axis_label.split(", ")


def cell_values(label: str) -> list[str]:
    """What a cell has in these columns: in a figure its values stand below one another."""
    return ["" if value == EMPTY else value for value in label.split("\n")]


def plain(text: str) -> str:
    """A user's words as matplotlib draws them as they are: between two dollars it would read formulas, of which few are any."""
    return text.replace("$", r"\$")


def widest(labels: Sequence[str]) -> float:
    """Inches of the longest line of labels."""
    lines = {line.replace(r"\$", "$") for label in labels for line in label.split("\n")}
    with _style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks, which drawing tells
        font = FontProperties(size=_FONT_SIZE)
        # Advances of letters: no outline is made, which is dear, and which blanks do not have.
        return max((text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines), default=0) / 72


def _fit(labels: Sequence[str], inches: float) -> bool:
    """Whether labels stand beside one another in so many inches."""
    return (widest(labels) + 0.08) * len(labels) <= inches


@contextmanager
def _panels(laws: Sequence[Sequence[PlottedLaw]], labels: Sequence[str], axis_label: str) -> Iterator[tuple[Any, Any]]:
    """A figure with a panel per protocol, each with the cells as its horizontal axis: beside one another, or below where there
    are many cells. The legend is of the first one."""
    few, labels = len(labels) <= MOST_PLACES, list(map(plain, labels))
    wide = max(2.5, 0.75 * len(labels)) if few else 12.0
    level = few and _fit(labels, wide)
    ticks = range(0, len(labels), 1 if few else -(-len(labels) // (4 * MOST_PLACES)))
    shown = [labels[n] if level else labels[n].replace("\n", ", ") for n in ticks]
    below = _BELOW + (_LINE * max(label.count("\n") for label in shown) if level else widest(shown))
    across, down = (len(laws), 1) if few else (1, len(laws))
    width = wide * across + _LEFT + _RIGHT
    height = (3.2 if few else 2.0) * down + _ABOVE + below
    with new_figure(width, height, None) as figure:
        axes = figure.subplots(down, across, sharex=not few, sharey=True, squeeze=False).reshape(-1)
        figure.subplots_adjust(
            _LEFT / width, below / height, 1 - _RIGHT / width, 1 - _ABOVE / height, wspace=0.04, hspace=0.16
        )
        for axis, protocol_laws in zip(axes, laws, strict=True):
            axis.set_title(protocol_laws[0].protocol.label)
            axis.set_xticks(ticks, shown, rotation=0 if level else 90)
            axis.set_xlim(-0.5, len(labels) - (0.4 if few else 0.5))
            if few or axis is axes[-1]:
                axis.set_xlabel(axis_label)
        yield figure, axes
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower center", ncols=len(names))


def plot_runs_and_laws(
    laws: Sequence[Sequence[PlottedLaw]],
    runs: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    axis_label: str,
    stem: Path,
) -> list[Path]:
    """Figure 2 (a): a panel per protocol; in it, per ensemble, some runs as dots and the exact law of S beside them. Of more than
    MOST_PLACES ensembles, the laws as shades.

    Args:
        laws: [protocol][ensemble].
        runs: [protocol][ensemble], S of the runs to draw as dots.
        labels: of the ensembles, in the order of the axis.
    """
    rows: list[list[Any]] = []
    for protocol_laws, protocol_runs in zip(laws, runs, strict=True):
        for place, (law, dots) in enumerate(zip(protocol_laws, protocol_runs, strict=True)):
            name, shown = law.protocol.label, law.law.probabilities > 0
            cell = cell_values(labels[place])
            rows += [[name, *cell, "run", number, s] for number, s in enumerate(dots)]
            pairs = zip(law.law.probabilities[shown].tolist(), law.law.values[shown].tolist(), strict=True)
            rows += [[name, *cell, "law", p, s] for p, s in pairs]
    with _panels(laws, labels, axis_label) as (figure, axes):
        generator = np.random.default_rng(0)
        for axis, protocol_laws, protocol_runs in zip(axes, laws, runs, strict=True):
            _draw_panel(axis, protocol_laws, protocol_runs, generator, dots_label(runs))
        axes[0].set_ylim(*_limits(laws, runs))
        for axis in axes if len(labels) > MOST_PLACES else axes[:1]:
            axis.set_ylabel("S")
    return save_figure(figure, stem, ["protocol", *cell_columns(axis_label), "kind", "run_or_probability", "s"], rows)


def _draw_panel(
    axis: Any, laws: Sequence[PlottedLaw], runs: Sequence[np.ndarray], generator: np.random.Generator, label: str
) -> None:
    """One protocol: dots, of which the legend says `label`, and laws, or shades where there are many ensembles; and the bounds."""
    draw_bounds(axis)
    if len(laws) > MOST_PLACES:
        _draw_map(axis, laws)
        return
    places = np.concatenate([np.full(len(dots), n) for n, dots in enumerate(runs)])
    axis.scatter(
        places + generator.uniform(-0.32, -0.06, len(places)), np.concatenate(runs), s=9, color=BLACK,
        alpha=0.55, linewidths=0, zorder=3, label=label,
    )  # fmt: skip
    _draw_laws(axis, laws)


def _draw_laws(axis: Any, laws: Sequence[PlottedLaw]) -> None:
    """Laws as bars to the right of their places, the widest 0.45 wide, with their means as short lines."""
    bars = []
    for place, law in enumerate(laws):
        probabilities, values = law.law.probabilities, law.law.values
        shown = probabilities > 1e-4 * probabilities.max()  # thinner than a hair otherwise
        reach = place + 0.45 * probabilities[shown] / probabilities.max()
        s, half, foot = values[shown], 0.4 * (values[1] - values[0]), np.full(shown.sum(), place)
        corners = [(foot, s - half), (reach, s - half), (reach, s + half), (foot, s + half)]
        bars.append(np.moveaxis(np.array(corners), 2, 0))
    # A patch: the legend's key of a collection has the shape of its first path, in inches where S is meant.
    outlines = Path2D.make_compound_path_from_polys(np.concatenate(bars))
    # An artist: as a patch, limits that are not asked for would be looked for in each of its curves.
    axis.add_artist(PathPatch(outlines, color=SKY, linewidth=0, zorder=2, label="exact law of S"))
    means, places = [law.law.mean for law in laws], np.arange(len(laws))
    axis.hlines(means, places, places + 0.47, color=BLACK, linewidth=1.4, zorder=4, label="its mean")


def _draw_map(axis: Any, laws: Sequence[PlottedLaw]) -> None:
    """Laws as columns of shades, each relative to its most probable S, with their means as short lines."""
    # Tasks of other numbers of rows have other lattices: a picture for each, which lets the columns of others through.
    shades: dict[tuple[float, ...], np.ndarray] = {}
    for place, law in enumerate(laws):
        lattice = tuple(law.law.values)
        columns = shades.setdefault(lattice, np.zeros((len(lattice), len(laws))))
        columns[:, place] = law.law.probabilities / law.law.probabilities.max()
    for lattice, columns in shades.items():
        half = (lattice[1] - lattice[0]) / 2
        axis.imshow(
            columns,
            cmap=LinearSegmentedColormap.from_list("law", [BLUE + "00", BLUE + "ff"]),
            vmin=0,
            vmax=1,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, len(laws) - 0.5, lattice[0] - half, lattice[-1] + half),
            zorder=0,
        )
    # Nothing that is drawn: a picture has no key of its own.
    axis.add_artist(
        Rectangle((0, 0), 0, 0, color=BLUE, linewidth=0, label="exact law of S, strongest where S is most probable")
    )
    means = [law.law.mean for law in laws]
    axis.plot(range(len(laws)), means, "_", color=BLACK, markersize=5, zorder=4, label="its mean")


def draw_bounds(axis: Any) -> None:
    """The classical and the quantum bound on S as lines."""
    axis.axhline(2, color=VERMILLION, linestyle="--", linewidth=1.2, zorder=1, label="classical bound 2")
    axis.axhline(TSIRELSON, color=BLUE, linestyle="-.", linewidth=1.2, zorder=1, label="Tsirelson's bound 2.828")


def _limits(laws: Sequence[Sequence[PlottedLaw]], runs: Sequence[Sequence[np.ndarray]]) -> tuple[float, float]:
    """Where all dots are, and all of a law but its last thousandth at either end."""
    low = min(
        min(law.law.quantile(0.001) for panel in laws for law in panel), min(r.min(initial=2) for p in runs for r in p)
    )
    high = max(
        max(law.law.quantile(0.999) for panel in laws for law in panel), max(r.max(initial=2) for p in runs for r in p)
    )
    return min(low, 1.5) - 0.2, max(high, 3.0) + 0.2


def inline_panels(
    laws: Sequence[Sequence[PlottedLaw]],
    runs: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    axis_label: str,
    numbers: Sequence[int],
) -> list[str]:
    """The panels of `plot_runs_and_laws`, each as an `<svg>` element for a page of HTML. Of more than MOST_PLACES ensembles, and
    where labels are long, the axis has their `numbers`, by which the page calls them: not all cells have a law."""
    many, generator, panels = len(labels) > MOST_PLACES, np.random.default_rng(0), []
    labels = list(map(plain, labels))
    width = 6.0 if many else max(2.6, 0.62 * len(labels) + 0.6)
    numbered = many or not _fit(labels, width - 0.55)
    lines = 0 if numbered else max(label.count("\n") for label in labels)
    height = 2.2 + _LINE * lines
    limits = _limits(laws, runs)
    for number, (protocol_laws, protocol_runs) in enumerate(zip(laws, runs, strict=True)):
        with new_figure(width, height, None) as figure:
            axis = figure.subplots()
            figure.subplots_adjust(0.5 / width, (0.45 + _LINE * lines) / height, 1 - 0.05 / width, 1 - 0.1 / height)
            _draw_panel(axis, protocol_laws, protocol_runs, generator, dots_label(runs))
            axis.set(xlabel="cell, by its number" if numbered else axis_label, ylabel="S", ylim=limits)
            axis.set_xlim(-0.5, len(labels) - (0.5 if many else 0.4))
            if many:
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
                axis.xaxis.set_major_formatter(lambda at, _: str(numbers[round(at)]) if 0 <= at < len(numbers) else "")
            else:
                axis.set_xticks(range(len(labels)), list(map(str, numbers)) if numbered else labels)
            panels.append(inline_svg(figure, f"law{number}"))
    return panels


def inline_svg(figure: Figure, prefix: str) -> str:
    """A figure as an `<svg>` element for a page of HTML: text is paths, black is the colour of the page's text, nothing is
    behind it, and its ids begin with `prefix`."""
    sink = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path"}):
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#)', rf"\1{prefix}-", text)
    text = text.replace("url(#", f"url(#{prefix}-").replace("#000000", "currentColor")
    # Decoration to a screen reader: the page says in words and tables what is drawn.
    return re.sub(r"\s*\n\s*", "\n", text.replace("<svg ", '<svg aria-hidden="true" ', 1))


def plot_means(laws: Sequence[Sequence[PlottedLaw]], labels: Sequence[str], axis_label: str, stem: Path) -> list[Path]:
    """Figure 2 (b): mean correlators and mean S per ensemble, with 95 % intervals, a panel a protocol."""
    rows: list[list[Any]] = []
    many = len(labels) > MOST_PLACES
    with _panels(laws, labels, axis_label) as (figure, axes):
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
                values, low, high = (np.array(each) for each in zip(*(e[:3] for e in estimates), strict=True))
                axis.vlines(place + shift, low, high, color=BLACK, linewidth=0.6 if many else 1)
                axis.plot(
                    place + shift, values, color=color, marker=mark, linestyle="none", markersize=3 if many else 6,
                    markeredgecolor=BLACK, markeredgewidth=0.2 if many else 0.5, label=name,
                )  # fmt: skip
                rows += [
                    [protocol_laws[0].protocol.label, *cell_values(labels[n]), name, e.value, e.low, e.high]
                    for n, e in enumerate(estimates)
                ]
        for axis in axes if many else axes[:1]:
            axis.set_ylabel("mean over runs")
    return save_figure(figure, stem, ["protocol", *cell_columns(axis_label), "quantity", "mean", "low", "high"], rows)
