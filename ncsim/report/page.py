"""report.html: one file that holds everything, from the Jinja2 templates beside this file.

What a user named (tasks, folders, values) is escaped by the templates; only our own pictures and data are let through.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np

import ncsim
from ncsim.config.fields import spelled, spelled_values
from ncsim.formatting import EMPTY, counted, json_text, significant, to_be_trained
from ncsim.report import drawing
from ncsim.report.claims import criteria, findings, settings
from ncsim.report.pictures import MOST_PLACES, Pictures, PlottedLaw, dots_label
from ncsim.report.provenance import provenance
from ncsim.report.sentences import (
    PROTOCOL_COLUMNS,
    SIGNALLING_COLUMNS,
    cell_label,
    cell_verdict,
    context_rows,
    estimate,
    protocol_row,
    run_verdict,
    sentences,
    sentences_on_tests,
    signalling_rows,
)
from ncsim.report.summary import CONTEXT_NAMES, Summary, axis_label
from ncsim.report.training import COLUMNS, training_lines, training_rows
from ncsim.report.until import not_ended, until_sentence
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.study import Study, cell_values

CONTEXT_COLUMNS = ["context", "solved", "accuracy A", "accuracy B", "correlator"]
#: Cells with a card and with laws in the page, and of whose settings claims are asked; and cells in its table.
MOST_CARDS, MOST_ROWS = 200, 2_000
#: Unit of the probabilities that a histogram is drawn from; summary.json has all their digits.
LAW_UNIT = 1e-5
#: Answers to a claim, with their marks: told apart by shape, not by colour alone.
MARKS = {"holds": "✓", "fails": "✗", "open": "?"}


def render(template: str, **values: Any) -> str:
    """A page from one of our templates.

    Args:
        template: its file's name.
        values: what it asks for. Texts are escaped, but for `markupsafe.Markup`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ncsim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"significant": significant, "counted": counted, "to_be_trained": to_be_trained}
    return environment.get_template(template).render(values, versions=versions())


def versions() -> list[tuple[str, str]]:
    """What wrote the page."""
    libraries = [(name, importlib.metadata.version(name)) for name in ("numpy", "matplotlib")]
    return [("ncsim", ncsim.__version__), *libraries, ("python", platform.python_version())]


def report_page(run: Run | Study, summary: Summary, watching: int = 0, panels: Sequence[str] | None = None) -> str:
    """The report of a stored run as a page.

    Args:
        run: a run with a folder, or a study.
        summary: of it.
        watching: seconds after which a browser is to look again; 0 for never.
        panels: what `pictures_of` them are, where that is drawn already.

    Raises:
        StoreError: the run's folder is gone.
    """
    numbers, there = summary.numbers, [n for n, laws in enumerate(summary.laws) if laws]
    panels = drawing.panels(pictures_of(run, summary)) if panels is None else panels
    return render(
        "report.html.j2",
        title=(run.location or "study").rstrip("/").rpartition("/")[2],
        watching=watching,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        missing=numbers["members_missing"],
        unrecorded=numbers.get("members_unrecorded", 0),
        members=sum(cell["members"] for cell in numbers["cells"]),
        cells=len(numbers["cells"]),
        verdict=run_verdict(numbers),
        until=until_sentence(numbers["until"]) if "until" in numbers else None,
        goes_on=not_ended(numbers["until_goes_on"]) if "until_goes_on" in numbers else None,
        panels=list(zip([p.label for p in STANDARD_PROTOCOLS], panels, strict=False)),
        shades=len(there) > MOST_PLACES,
        wider=len(there) > 5,
        dots=dots_label([summary.dots[n] for n in there]) if there else None,
        training=_training(numbers["cells"]),
        training_of=_cells_of_training(numbers["cells"]),
        training_columns=COLUMNS,
        claims=_claims(run, summary),
        marks=MARKS,
        cards=[_card(number, cell) for number, cell in enumerate(numbers["cells"][:MOST_CARDS])],
        protocol_columns=PROTOCOL_COLUMNS,
        context_columns=CONTEXT_COLUMNS,
        signalling_columns=SIGNALLING_COLUMNS,
        swept=run.swept,
        rows=[row for number, cell in enumerate(numbers["cells"][:MOST_ROWS]) for row in _rows(number, cell)],
        listed=min(len(numbers["cells"]), MOST_ROWS),
        data=embedded(_data(run, summary)) if there else None,
        runs=_provenances(run),
        command=None if not isinstance(run, Study) else _study_command(run),
    )


def embedded(value: Any) -> str:
    """Data as JSON that no text within can end, for a `<script type="application/json">`."""
    return json_text(value, None).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _study_command(study: Study) -> str:
    import shlex

    out = [] if study.location is None else ["--out", study.location]
    return shlex.join(["ncsim", "report", *study.locations, *out])


def _provenances(run: Run | Study) -> list[dict[str, Any]]:
    """What each run is; in a study with the names that its cells have there, which tell whose cells they are."""
    if isinstance(run, Run):
        return [provenance(str(run.location))]
    found = []
    for location in run.locations:
        each = provenance(location)
        settings = dict(each["settings"]) | {"tasks": run.tasks[location]}
        found.append(each | {"settings": list(settings.items())})
    return found


def pictures_of(run: Run | Study, summary: Summary, names: tuple[str, str] = ("laws", "means")) -> Pictures:
    """What is drawn of a run's laws; `names` are of the files of the runs with their laws, and of the means."""
    there = [n for n, laws in enumerate(summary.laws) if laws]
    laws = [[PlottedLaw.of(summary.laws[n][p]) for n in there] for p in range(len(STANDARD_PROTOCOLS))]
    dots = [[summary.dots[n][p] for n in there] for p in range(len(STANDARD_PROTOCOLS))]
    labels = [cell_label(summary.numbers["cells"][n]["cell"], bare=True) for n in there]
    return Pictures(laws, dots, labels, axis_label(run.swept), there, names)


def _cells_of_training(cells: Sequence[Mapping[str, Any]]) -> str:
    """Of which cells training is shown, where not of all: those of a study that were recorded need not be its first ones."""
    recorded = sum("training" in cell for cell in cells)
    those = "" if recorded == len(cells) else " that were recorded"
    if recorded > MOST_PLACES:
        return f", of the first {MOST_PLACES} cells{those}; summary.json has all"
    return f", of {recorded} of {counted(len(cells), 'cell')}, as others were not recorded" if those else ""


def _training(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the first cells that were recorded along training: a picture, words and some rows each."""
    recorded = [cell for cell in cells if "training" in cell][:MOST_PLACES]
    if not recorded:
        return []
    from ncsim.report.training_figure import inline_training

    pictures = inline_training([cell["training"] for cell in recorded])
    return [
        {
            "label": cell_label(cell["cell"]),
            "picture": picture,
            "lines": training_lines(cell["training"]),
            "rows": training_rows(cell["training"]),
        }
        for cell, picture in zip(recorded, pictures, strict=True)
    ]


# ------------------------------------------------------------------------------------------------------------- claims


def _claims(run: Run | Study, summary: Summary) -> dict[str, Any] | None:
    """The setting that meets most claims as a table of marks, and how many each other setting meets."""
    others = [name for name in run.swept if name != "hidden"]
    result = []
    for cells in settings(run.configs[:MOST_CARDS]):
        laws = {width: summary.laws[cell] for width, cell in cells.items() if summary.laws[cell]}
        if laws:
            values = cell_values(run, next(iter(cells.values())), others)
            result.append((cell_label(values) if others else "", findings(laws)))
    if not result:
        return None
    labels = [protocol.label for protocol in STANDARD_PROTOCOLS]
    held = [
        [sum(f.protocol == label and f.answer == "holds" for f in found) for label in labels] for _, found in result
    ]
    order = sorted(range(len(result)), key=lambda n: -max(held[n]))
    label, found = result[order[0]]
    return {
        "label": label,
        "protocols": labels,
        "rows": [(t, criterion, [f for f in found if f.claim == t]) for t, criterion in criteria(found).items()],
        "held": held[order[0]],
        "others": [(result[n][0], len(criteria(result[n][1])), held[n]) for n in order[1:]],
    }


# -------------------------------------------------------------------------------------------------- cells, one by one


def _card(number: int, cell: Mapping[str, Any]) -> dict[str, Any]:
    card: dict[str, Any] = {"number": number, "label": cell_label(cell["cell"]), "members": cell["members"]}
    if "note" in cell:
        return card | {"note": cell["note"]}
    single, pooled = cell["protocols"][0], cell["pooled"]
    facts = [
        ("mean S", single["mean_s"]),
        ("S > 2, of members", cell["members_with_s_above_2"]),
        ("S from accuracies alone", pooled["s_factorised"]),
        ("direct influence", pooled["influence"]),
        ("Delta, pooled", pooled["contextuality"]),
        ("Delta > 0, of members", cell["members_contextual"]),
    ]
    return card | {
        "note": None,
        # Of members without a whole one nothing is known.
        "facts": [(name, estimate(value)) for name, value in facts if not math.isnan(value["value"])],
        "solved": [(name, estimate(cell["contexts"][name]["solved"])) for name in CONTEXT_NAMES],
        "verdict": cell_verdict(cell),
        "contexts": context_rows(cell),
        "protocols": [protocol_row(protocol) for protocol in cell["protocols"]],
        "sentences": [each for each in sentences(cell) if each != cell_verdict(cell)],
        "tests": sentences_on_tests(cell),
        "signalling": signalling_rows(cell),
        "methods": _methods(cell),
    }


def _methods(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the limits of each kind of number were found."""
    named = [
        ("members with S > 2, with Delta > 0", cell["members_with_s_above_2"]),
        ("solved", cell["contexts"][CONTEXT_NAMES[0]]["solved"]),
        *((f"pooled {name.replace('_', ' ')}", value) for name, value in cell["pooled"].items()),
    ]
    kinds = {"mean_s": "mean S", "s_above_2": "P(S > 2)", "sampled_runs_contextual": "P(Delta > 0)"}
    for name, text in kinds.items():
        several = len({protocol[name]["method"] for protocol in cell["protocols"]}) > 1
        named += [(f"{text} ({p['protocol']})" if several else text, p[name]) for p in cell["protocols"]]
    found: dict[str, dict[str, None]] = {}
    for name, values in named:
        found.setdefault(values["method"], {})[name] = None
    return [("; ".join(names), method) for method, names in found.items()]


def _rows(number: int, cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a cell in the table of all, one per protocol."""
    base = {"number": number, "values": list(spelled_values(cell["cell"]).values()), "members": cell["members"]}
    if "note" in cell:
        return [base | {"protocol": "", "numbers": [], "note": cell["note"]}]
    rows = [protocol_row(protocol) for protocol in cell["protocols"]]
    return [base | {"protocol": row[0], "numbers": row[1:], "note": None} for row in rows]


# --------------------------------------------------------------------------------------------- data for the choosers


def _data(run: Run | Study, summary: Summary) -> dict[str, Any]:
    """What maps, lines and histograms are drawn from in the reader's browser."""
    cells = summary.numbers["cells"][:MOST_ROWS]
    axes = [(name, _in_order([cell["cell"][name] for cell in cells])) for name in run.swept]
    return {
        "axes": [{"name": name, "values": [spelled(value) or EMPTY for value in values]} for name, values in axes],
        "protocols": [protocol.label for protocol in STANDARD_PROTOCOLS],
        "metrics": ["mean S", "P(S > 2)", "P(Delta > 0)", "Delta, pooled", *(f"solved, context {n}" for n in CONTEXT_NAMES)],
        "of_protocol": 3,  # so many metrics, the first ones, depend on the protocol
        "unit": LAW_UNIT,
        "cells": [
            {"at": [values.index(cell["cell"][name]) for name, values in axes], "label": cell_label(cell["cell"])}
            | ({} if "note" in cell else {"numbers": _metrics(cell)})
            | ({} if "note" in cell or number >= MOST_CARDS else {"rows": cell["rows"], "laws": _laws(cell)})
            for number, cell in enumerate(cells)
        ],
    }  # fmt: skip


def _in_order(values: Sequence[Any]) -> list[Any]:
    unique = list(dict.fromkeys(values))
    return sorted(unique) if all(isinstance(value, int | float) for value in unique) else unique


def _metrics(cell: Mapping[str, Any]) -> list[list[list[float]]]:
    """Value and limits per metric, the first ones per protocol."""
    of_protocol = [
        [_short(estimate(protocol[name])) for protocol in cell["protocols"]]
        for name in ("mean_s", "s_above_2", "sampled_runs_contextual")
    ]
    solved = [[_short(estimate(cell["contexts"][name]["solved"]))] for name in CONTEXT_NAMES]
    return [*of_protocol, [_short(estimate(cell["pooled"]["contextuality"]))], *solved]


def _short(value: Estimate) -> list[float]:
    """Numbers of few digits that page.js shows as tables do: to round twice is to round to another number."""
    found = []
    for each in value[:3]:
        text = significant(each)
        few = (float(f"{each:.6g}"), float(text))
        found.append(next((number for number in few if _shown(number) == text), each))
    return found


def _shown(value: float) -> str:
    """What `shown` of page.js makes of a number. A tie goes away from 0 there."""
    if 0 < abs(value) < 0.0005:
        return f"{value:.0e}"
    if not math.isfinite(value):
        return str(value)
    decimals = -int(f"{1 - value:.0e}".partition("e")[2]) if 0.9995 <= value < 1 else 3
    return str(Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def _laws(cell: Mapping[str, Any]) -> list[list[Any]]:
    """Per protocol where a law begins on its lattice and its probabilities in units, without the zeros at its ends."""
    result = []
    for protocol in cell["protocols"]:
        units = np.rint(np.array(protocol["law"]["probability"]) / LAW_UNIT).astype(int)
        there = np.flatnonzero(units)
        result.append([int(there[0]), units[there[0] : there[-1] + 1].tolist()] if len(there) else [0, []])
    return result
