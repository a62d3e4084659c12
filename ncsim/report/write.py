"""A run in words, tables and pictures: what `ncsim report` prints, summary.json, figures/ and report.html.

Words follow from intervals. "Contextual" is said only where the lower bound of contextuality, or of the share of
members that have it, is above 0.
"""

from __future__ import annotations

from pathlib import Path

from ncsim.errors import StoreError, reason
from ncsim.formatting import counted, json_text, page_bytes, to_be_trained
from ncsim.report.figures import plot_means, plot_runs_and_laws, stored_figures
from ncsim.report.page import report_page
from ncsim.report.sentences import cell_label, cell_lines
from ncsim.report.summary import Summary, axis_label, summarise
from ncsim.report.training_figure import plot_training
from ncsim.report.until import not_ended, until_sentence
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
        with stored_figures(run.storage) as drawn:
            _draw(run, summary, drawn, figure_names)
        run.storage.write("report.html", page_bytes(report_page(run, summary)))
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None


def _draw(run: Run | Study, summary: Summary, folder: Path, names: tuple[str, str]) -> None:
    recorded = [cell for cell in summary.numbers["cells"] if "training" in cell]
    if recorded:
        titles, values = ([cell_label(cell["cell"], bare=bare) for cell in recorded] for bare in (False, True))
        numbers = [cell["training"] for cell in recorded]
        plot_training(numbers, titles, values, axis_label(run.swept), folder / "training")
    with_laws = [n for n, laws in enumerate(summary.laws) if laws]
    if not with_laws:
        return
    labels = [cell_label(summary.numbers["cells"][n]["cell"], bare=True) for n in with_laws]
    label = axis_label(run.swept)
    laws = [[summary.laws[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    dots = [[summary.dots[n][p] for n in with_laws] for p in range(len(STANDARD_PROTOCOLS))]
    plot_runs_and_laws(laws, dots, labels, label, folder / names[0])
    plot_means(laws, labels, label, folder / names[1])


def printed(summary: Summary) -> str:
    """The report as text for a terminal."""
    numbers = summary.numbers
    lines = []
    if numbers["members_missing"]:
        lines.append(to_be_trained(numbers["members_missing"]))
    if "members_unrecorded" in numbers:
        lines.append(to_be_trained(numbers["members_unrecorded"], left="recorded"))
    if "until_goes_on" in numbers:
        lines.append(not_ended(numbers["until_goes_on"]))
    if "until" in numbers:
        lines.append(until_sentence(numbers["until"]))
    for cell in numbers["cells"]:
        lines += [f"\n{cell_label(cell['cell'])}: {counted(cell['members'], 'member')}", *cell_lines(cell)]
    return "\n".join(lines).lstrip("\n")
