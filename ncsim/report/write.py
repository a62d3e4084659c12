"""A run in words, tables and pictures: what `ncsim report` prints, summary.json, figures/ and report.html.

Words follow from intervals. "Contextual" is said only where the lower bound of contextuality, or of the share of
members that have it, is above 0.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from ncsim import signals
from ncsim.errors import StoreError, reason
from ncsim.formatting import json_text
from ncsim.report.figures import plot_means, plot_runs_and_laws
from ncsim.report.page import html_page, html_table
from ncsim.report.sentences import (
    PROTOCOL_COLUMNS,
    SIGNALLING_COLUMNS,
    cell_label,
    cell_lines,
    context_rows,
    protocol_row,
    sentences,
    sentences_on_tests,
    signalling_rows,
)
from ncsim.report.summary import Summary, summarise
from ncsim.results import Run
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.study import Study


def write_report(run: Run | Study, figure_names: tuple[str, str] = ("laws", "means")) -> Summary:
    """Write summary.json, figures/ and report.html into the run's folder, and give the summary.

    The figures are S of some runs with its exact law, and the means; `figure_names` are their files' names.

    Raises:
        StoreError: the run is in memory, or its folder cannot be written to.
    """
    summary = summarise(run)
    store_report(run, summary, figure_names)
    return summary


def store_report(run: Run | Study, summary: Summary, figure_names: tuple[str, str] = ("laws", "means")) -> None:
    """Write a summary as `write_report` does. Raises as it does."""
    if run.storage is None:
        raise StoreError("the run is in memory only; allowed: a run with a folder, run_ensemble(..., out=PATH)")
    try:
        run.storage.write("summary.json", json_text(summary.numbers).encode())
        # Drawn elsewhere and then stored, so that a figure is there whole or not at all, also in an object store.
        with signals.scratch("ncsim-") as drawn:
            for path in _draw(run, summary, drawn, figure_names):
                run.storage.write(f"figures/{path.name}", path.read_bytes())
        run.storage.write("report.html", _page(run, summary, figure_names).encode())
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None


def _draw(run: Run | Study, summary: Summary, folder: Path, names: tuple[str, str]) -> list[Path]:
    with_laws = [n for n, laws in enumerate(summary.laws) if laws]
    if not with_laws:
        return []
    labels = [cell_label(summary.numbers["cells"][n]["cell"], bare=True) for n in with_laws]
    axis_label = _axis_label(run.swept)
    laws = [[summary.laws[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    dots = [[summary.dots[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    return [
        *plot_runs_and_laws(laws, dots, labels, axis_label, folder / names[0]),
        *plot_means(laws, labels, axis_label, folder / names[1]),
    ]


def _axis_label(swept: Sequence[str]) -> str:
    names = {"hidden": "hidden units n"}
    return ", ".join(names.get(name, name.replace("_", " ")) for name in swept) or "ensemble"


def printed(summary: Summary) -> str:
    """The report as text for a terminal."""
    numbers = summary.numbers
    lines = []
    if numbers["members_missing"]:
        lines.append(f"Not complete: {numbers['members_missing']:,} members are still to be trained.")
    for cell in numbers["cells"]:
        lines += [f"\n{cell_label(cell['cell'])}: {cell['members']:,} members", *cell_lines(cell)]
    return "\n".join(lines).lstrip("\n")


def _page(run: Run | Study, summary: Summary, figure_names: tuple[str, str]) -> str:
    """The report as one HTML page that shows the figures beside it."""
    title = html.escape(f"ncsim: {run.location.rpartition('/')[2]}" if run.location else "ncsim")
    body = [f"<h1>{title}</h1>"]
    if any(summary.laws):
        texts = ("S of 50 runs and its exact law, by protocol", "Mean S and mean correlators, by protocol")
        for name, text in zip(figure_names, texts, strict=True):
            body.append(f'<figure><img src="figures/{name}.svg" alt="{text}"><figcaption>{text}</figcaption></figure>')
    if summary.numbers["members_missing"]:
        body.append(f"<p>Not complete: {summary.numbers['members_missing']:,} members are still to be trained.</p>")
    for cell in summary.numbers["cells"]:
        body.append(f"<h2>{html.escape(cell_label(cell['cell']))}: {cell['members']:,} members</h2>")
        if "note" in cell:
            body.append(f"<p>{html.escape(cell['note'])}</p>")
            continue
        body.append(html_table(["context", "solved", "accuracy A", "accuracy B", "correlator"], context_rows(cell)))
        body.append(html_table(PROTOCOL_COLUMNS, [protocol_row(p) for p in cell["protocols"]]))
        body += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences(cell)]
        body.append(html_table(SIGNALLING_COLUMNS, signalling_rows(cell)))
        body += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences_on_tests(cell)]
    return html_page(title, body)
