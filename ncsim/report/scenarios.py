"""A scenario in words, tables and a picture: what `ncsim scenario` prints, summary.json and figures/."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.config.scenarios import tasks_to_dict
from ncsim.config.tasks import Tasks
from ncsim.errors import StoreError, reason
from ncsim.formatting import counted, json_text, table, to_be_trained, told_apart
from ncsim.records.joint_counts import PARTY_NAMES
from ncsim.records.scenarios import ScenarioRecords
from ncsim.report.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    cell_columns,
    cell_values,
    new_figure,
    plain,
    save_figure,
    widest,
)
from ncsim.report.pictures import MOST_PLACES, stored_figures
from ncsim.report.sentences import cell_label
from ncsim.report.summary import axis_label
from ncsim.scenarios import ScenarioRun
from ncsim.statistics.intervals import Estimate, clopper_pearson, mean_over_members
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.statistics.scenario_laws import ScenarioLaw, ScenarioOutcomes
from ncsim.statistics.scenario_values import (
    Cycle,
    Question,
    cycle_of,
    cycle_statistics,
    explained_by_certainty,
    is_certain,
    means,
    pooled_delta,
    questions,
    values,
    values_of_accuracies,
)
from ncsim.statistics.scenarios import excess_mismatch

#: Members whose contextuality a linear programme is asked for, at most: a tenth of a second each.
MOST_PROGRAMMES = 50
#: Cells that a picture has; no two of them are alike in colour and mark.
MOST_DRAWN = 30
_COLOURS, _MARKS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY), "osD^vP*X<>"
#: What a linear programme leaves of rounding.
NOTHING = 1e-7
#: Runs that are drawn under a protocol for what is no function of one value.
RUNS = 10_000


def summarise_scenario(run: ScenarioRun) -> dict[str, Any]:
    """All numbers of a run, as JSON can hold them.

    Raises:
        StoreError: a part is torn or foreign.
    """
    tasks = run.configs[0].tasks
    return {
        "kind": "scenario",
        "tasks": tasks_to_dict(tasks),
        "contexts": tasks.context_names,
        "swept": list(run.swept),
        "members_missing": run.missing(),
        "cells": [_cell(run, cell) for cell in range(len(run.configs))],
    }


def _cell(run: ScenarioRun, cell: int) -> dict[str, Any]:
    config, records = run.configs[cell], run.records(cell)
    found: dict[str, Any] = {
        "cell": {name: getattr(config, name) for name in run.swept},
        "members": records.size,
        "contexts": [_context(records, number, config.tasks) for number in range(len(config.tasks.contexts))],
    }
    outcomes = ScenarioOutcomes(records, config)
    laws = [ScenarioLaw(protocol, outcomes) for protocol in STANDARD_PROTOCOLS] if outcomes.networks else []
    whole = records.counts[outcomes.whole]
    found["whole"] = len(whole)  # members of which no network diverged
    found["inequalities"] = [_inequality(question, whole, laws) for question in questions(config.tasks)]
    cycle = cycle_of(config.tasks)
    if len(whole):
        if cycle is not None:
            found["contextuality"] = _of_cycle(records, whole, cycle, laws, config.tasks)
        elif (mermin := _mermin_contexts(config.tasks)) is not None:
            found["contextuality"] = _of_programmes(whole[:, mermin], [config.tasks.contexts[n] for n in mermin])
    return found


def _context(records: ScenarioRecords, number: int, tasks: Tasks) -> dict[str, Any]:
    counts = records.counts[:, number]
    there = ~records.diverged[:, number]
    accuracy = (means(counts[there]) + 1) / 2
    return {
        "name": tasks.context_names[number],
        "networks": int(there.sum()),
        "accuracy": [float(each) for each in accuracy.mean(axis=0)] if there.any() else [],
        "solved": clopper_pearson(int((counts[there, -1] == tasks.rows).sum()), int(there.sum()))._asdict(),
    }


def _inequality(question: Question, whole: np.ndarray, laws: list[ScenarioLaw]) -> dict[str, Any]:
    inequality, signs = question.inequality, question.signs
    found: dict[str, Any] = {
        "name": inequality.name,
        "expression": inequality.expression,
        "classical": inequality.classical_bound,
        "hybrid": inequality.hybrid_bound,
        "quantum": inequality.quantum_bound,
        "algebraic": inequality.algebraic_bound,
    }
    if len(whole):
        own, most = values(whole, signs), float(np.abs(signs).sum())
        found["members_above_classical"] = clopper_pearson(
            int((own > inequality.classical_bound).sum()), len(own)
        )._asdict()
        found["largest_of_a_member"] = float(own.max())
        found["mean_of_accuracies"] = mean_over_members(values_of_accuracies(whole, signs), (-most, most))._asdict()
    found["protocols"] = [
        {
            "protocol": law.protocol.label,
            "mean": law.mean(signs)._asdict(),
            "above_classical": law.above(signs, inequality.classical_bound)._asdict(),
            "above_quantum": law.above(signs, _quantum(question))._asdict(),
        }
        for law in laws
    ]
    return found


def _quantum(question: Question) -> float:
    """The quantum bound; a value that reaches it exactly is not above it, whatever its rounding."""
    bound = question.inequality.quantum_bound
    return float(question.inequality.algebraic_bound if bound is None else bound) + 1e-9


def _of_cycle(
    records: ScenarioRecords, whole: np.ndarray, cycle: Cycle, laws: list[ScenarioLaw], tasks: Tasks
) -> dict[str, Any]:
    delta = cycle_statistics(whole, cycle).contextuality
    certain = np.asarray(is_certain(whole).any(axis=(1, 2)))

    def above(counts: np.ndarray) -> np.ndarray:
        return np.asarray(cycle_statistics(counts, cycle).contextuality > 0)

    return {
        "of": "cycle",
        "rank": len(cycle.order),
        "pooled_delta": pooled_delta(records.counts, cycle)._asdict(),
        "members_contextual": clopper_pearson(int((delta > 0).sum()), len(delta))._asdict(),
        "largest_delta_of_a_member": float(delta.max()),
        "members_with_a_certain_head": clopper_pearson(int(certain.sum()), len(certain))._asdict(),
        "largest_delta_without": float(delta[~certain].max()) if (~certain).any() else None,
        "protocols": [
            {"protocol": law.protocol.label, "contextual": law.fraction(above, RUNS)._asdict()} for law in laws
        ],
    }


def _mermin_contexts(tasks: Tasks) -> list[int] | None:
    """The four contexts of Mermin's inequality, where they are there."""
    asked = [question for question in questions(tasks) if question.name == "Mermin"]
    return [int(number) for number in np.flatnonzero(asked[0].signs)] if asked else None


def _of_programmes(counts: np.ndarray, contexts: list[tuple[int, ...]]) -> dict[str, Any]:
    """Of Mermin's four contexts: which members certain heads explain, and what a linear programme says of the others."""
    explained = explained_by_certainty(counts, contexts)
    rest = np.flatnonzero(~explained)
    tried = rest[:MOST_PROGRAMMES]
    found = [mismatch(counts[member], contexts) for member in tried]
    contextual = sum(excess > NOTHING for excess in found)
    pooled = mismatch(counts.sum(axis=0, dtype=np.int64), contexts)
    return {
        "of": "Mermin's four contexts",
        "pooled_excess": pooled,
        "members_with_a_certain_head": clopper_pearson(
            int(is_certain(counts).any(axis=(1, 2)).sum()), len(counts)
        )._asdict(),
        "members_explained_by_certain_heads": clopper_pearson(int(explained.sum()), len(explained))._asdict(),
        "of_the_others_contextual": clopper_pearson(contextual, len(tried))._asdict(),
        "largest_excess_of_a_member": max(found, default=0.0),
    }


def mismatch(counts: np.ndarray, contexts: list[tuple[int, ...]]) -> float:
    """`excess_mismatch` of one table [contexts, 2^k]."""
    parties = len(contexts[0])
    names = [[f"{PARTY_NAMES[p]}{task + 1}" for p, task in enumerate(context)] for context in contexts]
    return excess_mismatch(names, list(counts.reshape(-1, *(2,) * parties)))


# --------------------------------------------------------------------------------------------------------- in words


def scenario_lines(summary: dict[str, Any]) -> list[str]:
    """The report as text for a terminal."""
    lines = []
    if summary["members_missing"]:
        lines.append(to_be_trained(summary["members_missing"]))
    for cell in summary["cells"]:
        lines += [
            "",
            f"{_label(cell) or 'One cell'}: {counted(cell['members'], 'member')} of {summary['tasks']['name']}",
        ]
        heads = [f"accuracy {PARTY_NAMES[p]}" for p in range(len(summary["tasks"]["answers"]))]
        rows = [
            [each["name"], *(told_apart(share, 3, 1) for share in each["accuracy"]), _words(each["solved"])]
            for each in cell["contexts"]
            if each["accuracy"]
        ]
        lines += ["", *table(["context", *heads, "solved"], rows)] if rows else []
        lines += _on_divergence(cell)
        for asked in cell["inequalities"]:
            lines += _inequality_lines(asked)
        if "contextuality" in cell:
            lines += ["", *contextuality_lines(cell["contextuality"])]
    return lines[1:] if lines and not lines[0] else lines


def _label(cell: dict[str, Any]) -> str:
    return cell_label(cell["cell"]) if cell["cell"] else ""


def _on_divergence(cell: dict[str, Any]) -> list[str]:
    """How many networks diverged, where any did, and why there is no law where there is none."""
    members, each = cell["members"], [context["networks"] for context in cell["contexts"]]
    lost = members * len(each) - sum(each)
    lines = []
    if lost:
        of = f"{members - cell['whole']:,} of {counted(members, 'member')}"
        lines += ["", f"  Diverged: {counted(lost, 'network')}, in {of}; diverged networks count nowhere here."]
    if not any(asked["protocols"] for asked in cell["inequalities"]):
        gone = [context["name"] for context in cell["contexts"] if not context["networks"]]
        why = f"every one of a context diverged ({', '.join(gone)})" if gone else "every member has one that diverged"
        if cell["inequalities"] or not members:
            lines += ["", f"  no network to report on: {why if members else 'none stored'}"]
    return lines


def _words(estimate: dict[str, Any]) -> str:
    return str(Estimate(**estimate))


def _inequality_lines(asked: dict[str, Any]) -> list[str]:
    bounds = f"classical {asked['classical']:g}, quantum {asked['quantum']:.4g}, algebraic {asked['algebraic']:g}"
    rows = [
        [each["protocol"], *(_words(each[name]) for name in ("mean", "above_classical", "above_quantum"))]
        for each in asked["protocols"]
    ]
    lines = ["", f"  {asked['name']}: {asked['expression']}", f"  bounds: {bounds}"]
    if "mean_of_accuracies" in asked:
        lines.append(
            f"  mean from accuracies alone {_words(asked['mean_of_accuracies'])}; largest of a member "
            f"{_beside_bounds(asked['largest_of_a_member'], asked)}"
        )
    if not rows:  # of which it has been said that there is nothing
        return lines
    return [*lines, *table(["protocol", "mean", "P(above classical)", "P(above quantum)"], rows)]


def _beside_bounds(value: float, asked: dict[str, Any]) -> str:
    """A value in four digits, and with more where it would look like one of the inequality's bounds without being it."""
    alike = [asked[name] for name in ("classical", "quantum", "algebraic") if f"{asked[name]:.4g}" == f"{value:.4g}"]
    return told_apart(value, 3, *alike) if any(abs(value - bound) > NOTHING for bound in alike) else f"{value:.4g}"


def contextuality_lines(found: dict[str, Any]) -> list[str]:
    """The verdict, in words that follow from the intervals."""
    certain = f"  members with a head that is certain in some context: {_words(found['members_with_a_certain_head'])}"
    if found["of"] == "cycle":
        members, pooled = Estimate(**found["members_contextual"]), Estimate(**found["pooled_delta"])
        said = (
            "contextual"
            if pooled.low > 0
            else "not contextual"
            if pooled.high <= 0
            else "not told apart from 0 by this interval"
        )
        drawn = "; ".join(f"{each['protocol']}: {_words(each['contextual'])}" for each in found["protocols"])
        return [
            f"  Delta of the cycle of {found['rank']} contexts, all members together: {pooled}: {said}",
            f"  members with Delta > 0: {members}; the largest is {found['largest_delta_of_a_member']:.4g}",
            certain + " (these have Delta <= 0 by a theorem)",
            f"  runs with Delta > 0: {drawn}",
        ]
    share, others = found["members_explained_by_certain_heads"], Estimate(**found["of_the_others_contextual"])
    rest = (
        "  others: none"
        if math.isnan(others.value)
        else f"  of the others, by linear programme, contextual: {others}; the largest excess is "
        f"{told_apart(found['largest_excess_of_a_member'], 4, 0)}"
    )
    return [
        f"  Contextuality of {found['of']}: excess mismatch of all members together {told_apart(found['pooled_excess'], 4, 0)}",
        certain + " (which here proves nothing)",
        f"  members that certain heads leave no ring: {_words(share)} (these are not contextual by a theorem)",
        rest,
    ]


# ---------------------------------------------------------------------------------------------------------- drawing


def store_scenario(run: ScenarioRun, summary: dict[str, Any]) -> None:
    """Write summary.json and figures/ into the run's folder.

    Raises:
        StoreError: the run is in memory, or its folder cannot be written to.
    """
    if run.storage is None:
        raise StoreError("the run is in memory only; allowed: a run with a folder, run_scenario(..., out=PATH)")
    try:
        run.storage.write("summary.json", json_text(summary).encode())
        with stored_figures(run.storage) as drawn:
            draw_scenario(summary, drawn / "scenario")
    except OSError as error:
        raise StoreError(f"{run.location}: the report cannot be written ({reason(error)})") from None


def draw_scenario(summary: dict[str, Any], stem: Path) -> list[Path]:
    """Mean values by protocol of each inequality, a panel each, with its bounds; nothing where no inequality is asked."""
    asked = summary["cells"][0]["inequalities"]
    drawable = [cell for cell in summary["cells"] if all(each["protocols"] for each in cell["inequalities"])]
    if not asked or not drawable:
        return []
    lines: list[list[Any]] = []
    shown, labels = drawable[:MOST_DRAWN], [plain(_label(cell) or "mean") for cell in drawable[:MOST_DRAWN]]
    width = max(5.2 * len(asked), widest(labels) + 0.8)
    across = min(int((width - 0.2) // (widest(labels) + 0.6)), len(shown), 6)
    below = 0.19 * -(-len(shown) // across) if len(drawable) > 1 else 0.0
    with new_figure(width, 4.0 + below) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(asked)))
        for number, panel in enumerate(panels):
            for place, cell in enumerate(shown):
                found = cell["inequalities"][number]
                means_of = [Estimate(**each["mean"]) for each in found["protocols"]]
                at = np.arange(len(means_of)) + (place - (len(shown) - 1) / 2) * min(0.8 / len(shown), 0.15)
                reach = np.abs([[e.value - e.low, e.high - e.value] for e in means_of]).T
                panel.errorbar(
                    at,
                    [e.value for e in means_of],
                    yerr=reach,
                    fmt=_MARKS[place % len(_MARKS)],
                    markersize=4,
                    capsize=2,
                    elinewidth=1.5 if len(shown) <= MOST_PLACES else 0.7,
                    color=_COLOURS[place % len(_COLOURS)],
                    label=labels[place],
                )
            for cell in drawable:
                found = cell["inequalities"][number]
                values = cell_values(cell_label(cell["cell"], bare=True))
                lines += [
                    [*values, found["name"], each["protocol"], *list(each["mean"].values())[:3]]
                    for each in found["protocols"]
                ]
            _draw_bounds(panel, asked[number])
            panel.set_xlim(-0.75, len(asked[number]["protocols"]) - 0.5)
            panel.set_ylim(top=asked[number]["algebraic"] * 1.06)
            protocols = [each["protocol"] for each in drawable[0]["inequalities"][number]["protocols"]]
            panel.set_xticks(range(len(protocols)), protocols, rotation=25, ha="right", fontsize=7)
            panel.set_ylabel("mean value")
            panel.set_title(asked[number]["name"])
        if len(drawable) > 1:
            handles, names = panels[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=across)
        if len(drawable) > len(shown):
            figure.suptitle(f"the first {len(shown)} of {len(drawable)} cells; the CSV has all", fontsize=9)
        columns = cell_columns(axis_label(list(drawable[0]["cell"])))
        return save_figure(figure, stem, [*columns, "inequality", "protocol", "mean", "low", "high"], lines)


def _draw_bounds(panel: Any, found: dict[str, Any]) -> None:
    """A line for each bound, with its name; bounds that are one line have one name."""
    dashes = {"classical": "--", "quantum": ":", "algebraic": "-"}
    for value in dict.fromkeys(round(found[name], 6) for name in dashes):
        names = [name for name in dashes if round(found[name], 6) == value]
        panel.axhline(value, color="0.5", linestyle=dashes[names[0]], linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (2, 2), "textcoords": "offset points", "fontsize": 7}
        panel.annotate(", ".join(names), (0.0, value), **place)
