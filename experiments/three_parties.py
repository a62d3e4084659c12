"""Three heads: do Mermin's and Svetlichny's inequalities show what CHSH does not, and does the reason against contextuality still hold?

Question. Three parties with two tasks each make eight contexts, each a network with three heads. What values do ensembles have
under each protocol, what do accuracies alone give, and is Mermin's scenario ever contextual?

Command. `python -m experiments.three_parties --members 500 --out runs/three_parties`

Time. Three ensembles on 16 rows, two on 64, 500 members with 2,000 steps, and four that are stopped early: under five
minutes on two cores, a third of it compilers.

Expected. Said before any run. Mermin's value exceeds 2 where context 222, whose sign is reversed, fails and 112, 121 and 211 are
learned; each of these has one exclusive or, so that it takes more units than with two parties. Svetlichny's value exceeds 4 in no
ensemble whose networks learn: four of its eight contexts are reversed, and networks that learn one learn easier others as
well. All contexts solved have Mermin's value 2 and Svetlichny's 0. Accuracies alone give the values.

No ensemble is contextual, but here the reason is weaker. In Mermin's four contexts each shares a task with each of the other three.
A certain head (right on all rows of a context, or wrong on all) cuts one of six joins, and four contexts stay tied
together unless three joins at least are cut: joins without a ring can be glued one after another, and rings cannot. So a share
of members is explained by certain heads, less than in a ring of contexts. Of the others a linear programme says whether they
are contextual: the least that the same tasks must differ between contexts, beyond what their means say (CNT1).

Svetlichny's eight contexts have each task in four, where pairs to be alike must first be chosen; that is not asked here.

Control: three answers of a GHZ state in the same programme have 4 in Mermin's inequality and an excess of 1.

Writes into the folder: three_parties.png, .svg, .pdf, .csv and three_parties.json, and runs/, from which it goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from experiments.shared.scenarios import estimate, summary_of
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.scenarios import three_party_tasks
from ncsim.formatting import counted, no_less, no_more, table
from ncsim.report.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, new_figure, save_figure
from ncsim.report.scenarios import mismatch
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.scenario_values import questions, values

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE)
#: Hidden units, by whether the second bit is shared by all parties (16 rows) or each has its own (64).
WIDTHS = {True: (2, 4, 8), False: (4, 8)}
#: Steps at which other members are stopped, with the shared bit.
EARLY = (3, 10, 30, 100)
EARLY_HIDDEN = 4


class Row(NamedTuple):
    """One ensemble."""

    rows: int
    hidden: int
    steps: int
    protocols: tuple[str, ...]
    mermin: tuple[Estimate, ...]  # mean, by protocol
    mermin_above: tuple[Estimate, ...]  # P(value > 2)
    svetlichny: tuple[Estimate, ...]
    svetlichny_above: tuple[Estimate, ...]  # P(value > 4)
    accuracies: tuple[Estimate, Estimate]  # mean values from accuracies alone, single shot
    largest: tuple[float, float]  # of a member
    certain: Estimate  # members with a certain head in one of Mermin's contexts
    explained: Estimate  # members whose certain heads leave no ring
    contextual: Estimate  # of the others that were asked
    excess: float  # largest of a member
    pooled_excess: float  # of all members together


def row_of(config: EnsembleConfig, shared: bool, out: Path, devices: int | None) -> Row:
    """An ensemble's numbers."""
    config = dataclasses.replace(config, tasks=three_party_tasks(shared))
    cell = summary_of(config, out, devices)
    mermin, svetlichny = cell["inequalities"]
    found = cell["contextuality"]
    return Row(
        rows=config.tasks.rows,
        hidden=config.hidden,
        steps=config.steps,
        protocols=tuple(each["protocol"] for each in mermin["protocols"]),
        mermin=tuple(estimate(each["mean"]) for each in mermin["protocols"]),
        mermin_above=tuple(estimate(each["above_classical"]) for each in mermin["protocols"]),
        svetlichny=tuple(estimate(each["mean"]) for each in svetlichny["protocols"]),
        svetlichny_above=tuple(estimate(each["above_classical"]) for each in svetlichny["protocols"]),
        accuracies=(estimate(mermin["mean_of_accuracies"]), estimate(svetlichny["mean_of_accuracies"])),
        largest=(mermin["largest_of_a_member"], svetlichny["largest_of_a_member"]),
        certain=estimate(found["members_with_a_certain_head"]),
        explained=estimate(found["members_explained_by_certain_heads"]),
        contextual=estimate(found["of_the_others_contextual"]),
        excess=found["largest_excess_of_a_member"],
        pooled_excess=found["pooled_excess"],
    )


def ghz() -> tuple[float, float]:
    """Mermin's value of the correlations of a GHZ state, and their excess."""
    tasks = three_party_tasks()
    mermin = questions(tasks)[0]
    parity = np.prod(list(itertools.product((-1, 1), repeat=3)), axis=1)
    counts = np.array([4 * (parity == (sign or 1)) for sign in mermin.signs])
    used = np.flatnonzero(mermin.signs)
    return float(values(counts, mermin.signs)), mismatch(counts[used], [tasks.contexts[n] for n in used])


def verdicts(rows: Sequence[Row], early: Sequence[Row], control: tuple[float, float]) -> list[str]:
    """What the numbers bear."""
    mermin = [row for row in rows if any(value.low > 2 for value in row.mermin)]
    svetlichny = [row for row in rows if any(value.low > 4 for value in row.svetlichny)]
    away = max(
        abs(value.value - alone.value)
        for row in rows
        for value, alone in zip((row.mermin[0], row.svetlichny[0]), row.accuracies, strict=True)
    )
    least = min(row.explained.value for row in rows)
    said = [
        f"The mean of Mermin's value is shown to be above 2 under some protocol in {len(mermin)} of {len(rows)} ensembles, of "
        f"Svetlichny's above 4 in {len(svetlichny)}.",
        f"Accuracies alone give the means of single shots to within {no_less(away, '.3f')}.",
        f"Certain heads explain {no_more(least, '.3f')} of the members or more; of the others that were asked, some are contextual in "
        f"{sum(row.excess > 1e-7 for row in rows)} of {len(rows)} ensembles.",
        f"Of all members together the excess is at most {no_less(max(row.pooled_excess for row in rows), '.4f')}.",
    ]
    found = [row for row in early if row.excess > 1e-7]
    if found:
        most = max(found, key=lambda row: row.contextual.value * (1 - row.explained.value))
        said.append(
            f"Stopped early, contextual members were found in {len(found)} of {len(early)} ensembles; most after {most.steps} steps: "
            f"{most.contextual} of those that certain heads do not explain ({1 - most.explained.value:.3f} of all), up to an excess of "
            f"{no_less(most.excess, '.4f')}."
        )
    else:
        said.append(f"Stopped early, no contextual member was found in {len(early)} ensembles.")
    return [*said, f"GHZ: value {control[0]:g}, excess {control[1]:.4f}."]


def printed(rows: Sequence[Row], early: Sequence[Row]) -> list[str]:
    """Values, chances and contextuality."""
    head = ["rows", "n"]
    cells = [
        [str(row.rows), str(row.hidden), name, *map(str, found), str(alone), f"{largest:g}"]
        for row in rows
        for name, found, alone, largest in zip(
            ("Mermin", "Svetlichny"), (row.mermin, row.svetlichny), row.accuracies, row.largest, strict=True
        )
    ]
    chances = [
        [str(row.rows), str(row.hidden), name, *map(str, found)]
        for row in rows
        for name, found in (("Mermin > 2", row.mermin_above), ("Svetlichny > 4", row.svetlichny_above))
    ]
    rings = [
        [
            *map(str, (row.rows, row.hidden, row.steps, row.certain, row.explained)),
            "there are none" if math.isnan(row.contextual.value) else str(row.contextual),
            f"{row.excess:.4f}",
            f"{row.pooled_excess:.4f}",
        ]
        for row in (*rows, *early)
    ]
    names = rows[0].protocols
    of_rings = ["steps", "members with a certain head", "explained by them", "of the others contextual"]
    return [
        *table([*head, "inequality", *names, "accuracies alone", "largest of a member"], cells, indent=""),
        "",
        *table([*head, "event", *names], chances, indent=""),
        "",
        *table([*head, *of_rings, "largest excess", "all members together"], rings, indent=""),
    ]


def draw(rows: Sequence[Row], early: Sequence[Row], out: Path) -> list[Path]:
    """Both values by protocol, and what certain heads explain along training."""
    lines: list[list[Any]] = []
    with new_figure(11.5, 4.2) as figure:
        panels = figure.subplots(1, 3)
        for panel, name, bound in zip(panels, ("mermin", "svetlichny"), (2, 4), strict=False):
            for place, row in enumerate(rows):
                at = np.arange(len(row.protocols)) + (place - (len(rows) - 1) / 2) * 0.14
                label = f"{row.rows} rows, n = {row.hidden}"
                found = getattr(row, name)
                points(panel, at, found, color=COLOURS[place], fmt="o", markersize=4, label=label)
                lines += [[name, label, p, *e[:3]] for p, e in zip(row.protocols, found, strict=True)]
            panel.axhline(bound, color="0.5", linestyle="--", linewidth=1)
            panel.set_xticks(range(len(rows[0].protocols)), rows[0].protocols, rotation=25, ha="right", fontsize=7)
            panel.set_title(f"mean of {name.capitalize()}'s value (dashed: its bound)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        style: dict[str, Any] = {"markersize": 4, "linewidth": 1, "fmt": "o-"}
        for name, words, colour, apart in (  # beside one another, so that no interval hides another
            ("certain", "with a certain head", BLUE, 1 / 1.08),
            ("explained", "explained by certain heads", GREEN, 1.0),
            ("contextual", "of the others, contextual", VERMILLION, 1.08),
        ):
            at = np.array([row.steps for row in early]) * apart
            points(panels[2], at, [getattr(row, name) for row in early], color=colour, label=words, **style)
            lines += [[words, "stopped early", row.steps, *getattr(row, name)[:3]] for row in early]
        panels[2].set_xscale("log")
        panels[2].set_ylim(-0.03, 1.03)
        panels[2].set_xlabel("optimiser steps")
        panels[2].set_title(f"share of members, stopped early, n = {early[0].hidden}")
        panels[2].legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        return save_figure(figure, out / "three_parties", ["quantity", "ensemble", "of", "value", "low", "high"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 500, "members of each ensemble")
    add_number(parser, "--steps", 2_000, "optimiser steps")
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/three_parties", "where the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    at_least("--steps", parsed.steps, 1)
    out, devices = local_folder("--out", parsed.out), device_count(parsed.devices)
    base = EnsembleConfig(members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
    rows = [
        row_of(dataclasses.replace(base, hidden=width), shared, out, devices)
        for shared, widths in WIDTHS.items()
        for width in widths
    ]
    early = [row_of(dataclasses.replace(base, hidden=EARLY_HIDDEN, steps=steps), True, out, devices) for steps in EARLY]
    control = ghz()
    print(f"Three parties, {counted(parsed.members, 'member')}, {counted(parsed.steps, 'step')}, 95 % intervals\n")
    print("\n".join(printed(rows, early)))
    said = verdicts(rows, early, control)
    print("\n" + "\n".join(said))
    draw(rows, early, out)
    description = {"members": parsed.members, "steps": parsed.steps, "seed": parsed.seed}
    write_json(
        out / "three_parties.json",
        description | {"rows": rows, "stopped_early": early, "ghz": control, "conclusion": said},
    )


if __name__ == "__main__":
    main()
