"""A run in words, tables and pictures: what `ncsim report` prints, summary.json, figures/ and report.html.

Words follow from intervals. "Contextual" is said only where the lower bound of contextuality, or of the share of
members that have it, is above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ncsim.errors import StoreError, reason
from ncsim.formatting import counted, json_text, page_bytes, to_be_trained
from ncsim.report.drawing import draw
from ncsim.report.page import pictures_of, report_page
from ncsim.report.pictures import Pictures, stored_figures
from ncsim.report.sentences import cell_label, cell_lines
from ncsim.report.summary import Summary, axis_label, summarise
from ncsim.report.until import not_ended, until_sentence
from ncsim.results import Run
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


def store_report(
    run: Run | Study,
    summary: Summary,
    figure_names: tuple[str, str] = ("laws", "means"),
    draw: Callable[[Pictures, Path], list[str]] = draw,
) -> None:
    """Write a summary as `write_report` does; `draw` may be a `Drawer`'s. Raises as it does."""
    if run.storage is None:
        raise StoreError("the run is in memory only; allowed: a run with a folder, run_ensemble(..., out=PATH)")
    try:
        run.storage.write("summary.json", json_text(summary.numbers).encode())
        with stored_figures(run.storage) as drawn:
            panels = draw(pictures_of(run, summary, figure_names), drawn)
            _draw_training(run, summary, drawn)
        run.storage.write("report.html", page_bytes(report_page(run, summary, panels=panels)))
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None


def _draw_training(run: Run | Study, summary: Summary, folder: Path) -> None:
    recorded = [cell for cell in summary.numbers["cells"] if "training" in cell]
    if not recorded:
        return
    from ncsim.report.training_figure import plot_training

    titles, values = ([cell_label(cell["cell"], bare=bare) for cell in recorded] for bare in (False, True))
    numbers = [cell["training"] for cell in recorded]
    plot_training(numbers, titles, values, axis_label(run.swept), folder / "training")


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
