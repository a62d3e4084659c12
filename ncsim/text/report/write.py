"""A text run in words, tables and pictures: what `ncsim text` prints, summary.json, figures/ and report.html."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ncsim.config.fields import option_name, spelled
from ncsim.errors import StoreError, reason
from ncsim.formatting import counted, json_text, p_value_text, page_bytes, share_text, table, to_be_trained, told_apart
from ncsim.report.page import render
from ncsim.report.pictures import stored_figures
from ncsim.report.provenance import environment_rows
from ncsim.report.sentences import estimate
from ncsim.text.config import TextConfig, field_specs
from ncsim.text.records import SPLITS
from ncsim.text.report.figures import plot_s_and_test_accuracy, plot_s_by_epoch, plot_s_by_rank
from ncsim.text.report.summary import CONTEXT_NAMES, TextSummary, summarise_text
from ncsim.text.results import TextRun

CONTEXT_COLUMNS = ["r", "seed", "context", "pairs", "accuracy A", "accuracy B", "C", "product", "C - product", "p"]
TABLE_COLUMNS = ["r", "seed", "S", "S_fact", "influence", "Delta", "game p", "verdict"]
DATA_COLUMNS = [
    "task",
    "data set",
    "items",
    "test items",
    "majority rate",
    "of test items",
    "truncated",
    "unknown",
    "notes",
]
#: A p-value below this is as rare as three standard errors of a normal law.
UNUSUAL = 0.0027
FIGURES = {
    "figure3": "S on training pairs by rank, with what accuracies alone give, and Delta with its 95 % interval",
    "figure4": "S along training, mean over seeds with a band from the lowest to the highest, as far as all of them have S, and its mean slope, a dot a seed, by rank",
    "figure5": "S and test accuracy, by rank",
}


def write_text_report(run: TextRun) -> dict[str, Any]:
    """Write summary.json, figures/ and report.html into the run's folder, and give the summary.

    Raises:
        StoreError: nothing is stored yet, a part is torn, or the folder cannot be written to.
    """
    summary = summarise_text(run)
    store_text_report(run, summary)
    return summary.numbers


def store_text_report(run: TextRun, summary: TextSummary) -> None:
    """Write a summary as `write_text_report` does. Raises as it does where the folder cannot be written to."""
    try:
        run.storage.write("summary.json", json_text(summary.numbers).encode())
        with stored_figures(run.storage) as drawn:
            plots = zip(FIGURES, (plot_s_by_rank, plot_s_by_epoch, plot_s_and_test_accuracy), strict=True)
            pictures = {name: plot(run, summary, drawn / name) for name, plot in plots}
        run.storage.write("report.html", page_bytes(_page(run, summary, pictures)))
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None


def printed_text(numbers: Mapping[str, Any]) -> str:
    """The report as text for a terminal, ending with a table as the paper's Table 2, with what belongs beside S."""
    lines = []
    if numbers["adapters_missing"]:
        lines += [to_be_trained(numbers["adapters_missing"], "adapter"), ""]
    lines += [*table(DATA_COLUMNS, data_rows(numbers)), *data_notes(numbers)]
    for split in ("test", "train"):
        if not _cells(numbers, split):  # the sentences say why
            continue
        lines += ["", f"{split.capitalize()} pairs, after {counted(numbers['epochs'], 'epoch')}:"]
        lines += table(CONTEXT_COLUMNS, context_rows(numbers, split))
        lines += ["", *table(TABLE_COLUMNS, table_rows(numbers, split))]
    return "\n".join([*lines, "", *(f"  {sentence}" for sentence in sentences(numbers))])


def data_rows(numbers: Mapping[str, Any]) -> list[list[str]]:
    """What each task was, in the order of DATA_COLUMNS."""
    return [
        [
            name,
            str(task["task"]),
            f"{task['items']['train']:,}",
            f"{task['items']['test']:,}",
            share_text(task["majority_rate"]["train"], 1),
            share_text(task["majority_rate"]["test"], 1),
            share_text(task["truncated_fraction"]["train"], 1),
            # Runs that were stored before it was counted do not say.
            share_text(task["unknown_fraction"]["train"], 1) if "unknown_fraction" in task else "",
            "; ".join(task["notes"]),
        ]
        for name, task in numbers["data"]["tasks"].items()
    ]


def data_notes(numbers: Mapping[str, Any]) -> list[str]:
    """What was noted of the suite as a whole: items that there are not, files that contradict, labels that differ."""
    data = numbers["data"]
    found = [f"{note}." for note in data.get("notes", [])]
    for split, counts in data.get("differing_labels", {}).items():
        differ = ", ".join(f"{name}: {count:,}" for name, count in counts.items() if count)
        if differ:
            found.append(f"{split}: pairs of one id whose two labels differ, by context: {differ}.")
    return found


def context_rows(numbers: Mapping[str, Any], split: str) -> list[list[str]]:
    """Accuracies and correlators in the order of CONTEXT_COLUMNS."""
    rows = []
    for cell in _cells(numbers, split):
        for name in CONTEXT_NAMES:
            context = cell["contexts"][name]
            rows.append([
                str(cell["rank"]),
                str(cell["seed"]),
                name,
                f"{context['items']:,}",
                share_text(context["accuracy_alice"], 2),
                share_text(context["accuracy_bob"], 2),
                told_apart(context["correlator"], 4, -1, 1),
                told_apart(context["product_of_accuracies"], 4, -1, 1),
                f"{context['excess']:+.4f} +- {context['excess_error']:.4f}",
                p_value_text(context["excess_p"]),
            ])  # fmt: skip
    return rows


def _s_words(interval: Mapping[str, Any]) -> str:
    """S with its limits, told apart from the bound that the verdict is about."""
    value, low, high = (told_apart(interval[name], 3, 0, 2) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def table_rows(numbers: Mapping[str, Any], split: str) -> list[list[str]]:
    """S and what belongs beside it in the order of TABLE_COLUMNS."""
    return [
        [
            str(cell["rank"]),
            str(cell["seed"]),
            _s_words(cell["s_interval"]),
            told_apart(cell["s_factorised"], 4, 2),
            told_apart(cell["influence"], 4, 0),
            str(estimate(cell["contextuality"])),
            p_value_text(cell["game_p"]),
            cell["verdict"],
        ]
        for cell in _cells(numbers, split)
    ]


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """What the numbers say, in words that they bear."""
    cells = _cells(numbers, "train")
    # Logits may be finite on the training pairs and not on those to test on, which no table has then.
    found = [
        f"r={cell['rank']} seed {cell['seed']}, {cell['split']} pairs: {cell['note']}."
        for cell in numbers["cells"]
        if "note" in cell
    ]
    if not cells:
        return found
    above = [cell for cell in cells if cell["s"] > 2]
    contextual = [cell for cell in cells if cell["contextuality"]["low"] > 0]
    contexts = [context for cell in cells for context in cell["contexts"].values()]
    correlated = [c for c in contexts if c["excess_p"] < UNUSUAL]
    found.append(
        f"S is above 2 in {len(above)} of {len(cells)} (rank, seed) on the training pairs; the largest difference between S "
        f"and what accuracies alone give is {told_apart(max(abs(cell['s'] - cell['s_factorised']) for cell in cells), 4, 0)}."
    )
    found.append(
        f"Correlators differ from the product of their accuracies, beyond what pairs put together at random give, in "
        f"{len(correlated)} of {len(contexts)} contexts (Fisher's exact test, p < {UNUSUAL}; pairing: {numbers['pairing']})."
    )
    found.append(
        f"Contextual once direct influence is discounted (lower 95 % limit of Delta above 0): {len(contextual)} of {len(cells)}."
    )
    found.append(
        "What follows +- is one standard error, were the two outcomes of a pair independent; all limits in brackets are at 95 %. "
        "Intervals are of items: another start of the adapters is another experiment, which only --seeds shows. P-values take "
        "contexts for independent, though a head answers the same items in two of them."
    )
    return found


def _cells(numbers: Mapping[str, Any], split: str) -> list[Mapping[str, Any]]:
    return [cell for cell in numbers["cells"] if cell["split"] == split and "s" in cell]


def _page(run: TextRun, summary: TextSummary, pictures: Mapping[str, str]) -> str:
    numbers, words = summary.numbers, sentences(summary.numbers)
    trained = _cells(numbers, "train")
    verdict = [words[-4], words[-2]] if trained else [_nothing(numbers["adapters_missing"])]
    return render(
        "text.html.j2",
        title=PurePath(run.location).name,
        watching=0,
        missing=numbers["adapters_missing"],
        verdict=verdict,
        sentences=[word for word in words if word not in verdict],
        about=f"{numbers['model']}, suite {numbers['suite']}, after {counted(numbers['epochs'], 'epoch')}",
        figures=[(FIGURES[name], picture) for name, picture in pictures.items()],
        columns=["split", *TABLE_COLUMNS],
        rows=[[split, *row] for split in SPLITS for row in table_rows(numbers, split)],
        splits=SPLITS,
        context_columns=CONTEXT_COLUMNS,
        contexts=[(split, context_rows(numbers, split)) for split in SPLITS],
        data_columns=DATA_COLUMNS,
        data_rows=data_rows(numbers),
        notes=data_notes(numbers),
        command=repeat_text_command(run.config, run.location),
        settings=[(name, _words(getattr(run.config, name))) for name in field_specs()],
        environments=[environment_rows(record) for record in run.environments()],
        backbone=[(str(name), str(value)) for name, value in run.backbone.items()],
    )


def _nothing(missing: int) -> str:
    """The verdict where no rank and seed has S on its training pairs."""
    if missing:
        return "No rank and seed has all four contexts yet, trained and not diverged."
    return "No rank and seed has S: of each some adapter diverged."


def _words(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return spelled(value)


def repeat_text_command(config: TextConfig, out: str) -> str:
    """The `ncsim text` command that trains this run."""
    words, default = ["ncsim", "text"], TextConfig()
    for name in field_specs():
        value = getattr(config, name)
        if value != getattr(default, name):
            words += [option_name(name), *(map(str, value) if isinstance(value, tuple) else [_words(value)])]
    return shlex.join([*words, "--out", out])
