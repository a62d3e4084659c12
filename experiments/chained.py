"""More than two tasks per party: do longer chained inequalities show what CHSH does not, and is Delta of the longer cycle above 0?

Question. With m tasks per party there are 2 m contexts in a ring, and a chained inequality with bound 2 m - 2. What values do
ensembles have under each protocol, what do accuracies alone give, and is the ring ever contextual?

Command. `python -m experiments.chained --members 1000 --out runs/chained`

Time. Fifteen ensembles of 1,000 members, 3,000 steps, and twenty-five that are stopped early: under five minutes on two cores that do
nothing else.

Expected. Said before any run. Values rise above 2 m - 2 as S rises above 2: the context that is reversed asks both parties for their
exclusive or, which networks of three units cannot do, and the others are learned. So retry until solved comes nearest to
2 m, and one unit to nothing. The excess over the bound does not grow with m, since one context makes it. Accuracies alone give
the values, to a few hundredths.

Delta is at most 0 in every ensemble that is trained to its end, whatever m. The reason is a theorem: a head that is right
on all rows of one context, or wrong on all, cuts the ring, and a chain of contexts can always be glued together. A longer ring has
more heads that may be certain (4 m), and the family has easy tasks in it. So the reason holds the better the longer the ring is.

Where it ends: where no head of any of the 2 m contexts is certain. That is so early in training. There Delta may be
above 0, as nothing forbids it; it was expected to be rare, since outcomes of untrained heads are hardly correlated while
Delta > 0 needs 2 m correlators that sum to more than 2 m - 2. So it should be rarer the longer the ring is.

A second place where it ends: tasks that no network of one or two units can do. With parities of three and four bits for both
parties (m = 2 and 3, "hard") no head is ever certain, and heads fail together: neither theorem says anything. Delta was
expected to stay below 0 even there, since S rises by contexts that are learned.

Control: all tasks of both parties as heads of one network (m = 2 and 3). The chained value of every member is at most 2 m - 2, its
influence 0, its Delta at most 0: by arithmetic.

Members with Delta > 0 have an exact interval (Clopper and Pearson). Delta of all members together has a conservative one, from
an interval of each mean.

Writes into the folder: chained.png, .svg, .pdf, .csv and chained.json, and runs/, from which it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import (
    add_number,
    add_place,
    add_widths,
    at_least,
    each_once,
    local_folder,
    run_experiment,
    write_json,
)
from experiments.shared.figures import legend, points
from experiments.shared.scenarios import estimate, summary_of, trained, whole_counts
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.scenarios import (
    MAX_SETTINGS,
    ScenarioTasks,
    chained_contexts,
    chained_tasks,
    one_network,
    scenario_tasks,
)
from ncsim.errors import ConfigError
from ncsim.formatting import counted, no_less, table
from ncsim.report.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.scenario_values import (
    correlators,
    cycle_of,
    cycle_statistics,
    is_certain,
    means,
    pooled_delta,
    questions,
    values,
)

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE)
#: Steps at which other members are stopped, of ensembles of their own.
EARLY = (3, 10, 30, 100, 300)
#: As many times more members are stopped early: they cost little.
MORE = 4


class Row(NamedTuple):
    """One ensemble, trained to its end."""

    settings: int
    hidden: int
    members: int  # of which no network diverged
    bound: float
    quantum: float
    protocols: tuple[str, ...]
    value: tuple[Estimate, ...]  # mean, by protocol
    above: tuple[Estimate, ...]  # P(value > bound)
    contextual_runs: tuple[Estimate, ...]  # P(Delta > 0)
    accuracies: Estimate  # mean value from accuracies alone, single shot
    delta: Estimate  # of all members together
    contextual: Estimate  # members with Delta > 0
    largest: float  # Delta of a member
    certain: Estimate  # members with a certain head


class Stopped(NamedTuple):
    """One ensemble that is stopped early."""

    settings: int
    steps: int
    uncertain: Estimate  # members without a certain head
    contextual: Estimate  # members with Delta > 0
    largest: float


class Hard(NamedTuple):
    """One ensemble whose tasks are parities."""

    settings: int
    hidden: int
    uncertain: Estimate  # members without a certain head
    apart: float  # mean distance of a correlator from the product of its means, in a member
    delta: Estimate  # of all members together
    contextual: Estimate  # members with Delta > 0
    largest: float


class Control(NamedTuple):
    """All tasks on one network."""

    settings: int
    members: int
    largest_value: float
    largest_influence: float
    largest_delta: float


def row_of(config: EnsembleConfig, settings: int, out: Path, devices: int | None) -> Row:
    """An ensemble's numbers."""
    cell = summary_of(dataclasses.replace(config, tasks=chained_tasks(settings)), out, devices)
    (asked,), ring = cell["inequalities"], cell["contextuality"]
    return Row(
        settings=settings,
        hidden=config.hidden,
        members=cell["whole"],
        bound=asked["classical"],
        quantum=asked["quantum"],
        protocols=tuple(each["protocol"] for each in asked["protocols"]),
        value=tuple(estimate(each["mean"]) for each in asked["protocols"]),
        above=tuple(estimate(each["above_classical"]) for each in asked["protocols"]),
        contextual_runs=tuple(estimate(each["contextual"]) for each in ring["protocols"]),
        accuracies=estimate(asked["mean_of_accuracies"]),
        delta=estimate(ring["pooled_delta"]),
        contextual=estimate(ring["members_contextual"]),
        largest=ring["largest_delta_of_a_member"],
        certain=estimate(ring["members_with_a_certain_head"]),
    )


def stopped_of(config: EnsembleConfig, settings: int, steps: int, out: Path, devices: int | None) -> Stopped:
    """An ensemble that is stopped after so many steps."""
    tasks = chained_tasks(settings)
    cycle = cycle_of(tasks)
    assert cycle is not None
    counts = whole_counts(dataclasses.replace(config, tasks=tasks, steps=steps), out, devices)
    delta = cycle_statistics(counts, cycle).contextuality
    certain = np.asarray(is_certain(counts).any(axis=(1, 2)))
    assert not (delta[certain] > 0).any(), "a theorem is broken"
    return Stopped(
        settings,
        steps,
        clopper_pearson(int((~certain).sum()), len(certain)),
        clopper_pearson(int((delta > 0).sum()), len(delta)),
        float(delta.max()),
    )


def hard_tasks(settings: int) -> ScenarioTasks:
    """Parities of all four bits, or of three of them; with m = 2 or 3."""
    chosen = (((0, 1, 2, 3), (0, 1, 2), (0, 1, 3)), ((0, 1, 2, 3), (1, 2, 3), (0, 2, 3)))
    parties = [[lambda *x, own=own: sum(x[n] for n in own) % 2 for own in party[:settings]] for party in chosen]
    return scenario_tasks(parties, 4, chained_contexts(settings), name=f"parities {settings}")


def hard_of(config: EnsembleConfig, settings: int, out: Path, devices: int | None) -> Hard:
    """An ensemble whose tasks are parities."""
    tasks = hard_tasks(settings)
    cycle = cycle_of(tasks)
    assert cycle is not None
    counts = whole_counts(dataclasses.replace(config, tasks=tasks), out, devices)
    delta = cycle_statistics(counts, cycle).contextuality
    certain = np.asarray(is_certain(counts).any(axis=(1, 2)))
    return Hard(
        settings=settings,
        hidden=config.hidden,
        uncertain=clopper_pearson(int((~certain).sum()), len(certain)),
        apart=float(np.abs(correlators(counts) - means(counts).prod(axis=-1)).mean()),
        delta=pooled_delta(counts, cycle),
        contextual=clopper_pearson(int((delta > 0).sum()), len(delta)),
        largest=float(delta.max()),
    )


def control_of(config: EnsembleConfig, settings: int, out: Path, devices: int | None) -> Control:
    """All tasks of both parties as heads of one network."""
    tasks = chained_tasks(settings)
    joint = trained(dataclasses.replace(config, tasks=one_network(tasks)), out, devices).counts[:, 0]
    pairs = []
    for i, j in tasks.contexts:
        others = tuple(1 + head for head in range(2 * settings) if head not in (i, settings + j))
        pairs.append(joint.sum(axis=others).reshape(len(joint), 4))
    counts, cycle = np.stack(pairs, axis=1), cycle_of(tasks)
    assert cycle is not None
    found = cycle_statistics(counts, cycle)
    largest = float(np.nanmax(values(counts, questions(tasks)[0].signs)))
    return Control(
        settings, len(joint), largest, float(np.nanmax(found.influence)), float(np.nanmax(found.contextuality))
    )


def verdicts(
    rows: Sequence[Row], stopped: Sequence[Stopped], hard: Sequence[Hard], controls: Sequence[Control]
) -> list[str]:
    """What the numbers bear, and where the reason ends."""
    above = [row for row in rows if any(value.low > row.bound for value in row.value)]
    single = [row for row in rows if row.value[0].low > row.bound]
    quantum = [row for row in rows if any(value.low > row.quantum for value in row.value)]
    pooled = [row for row in rows if row.delta.low > 0]
    members = sum(round(row.contextual.value * row.members) for row in rows)
    runs = max(each.value for row in rows for each in row.contextual_runs)
    away = max(abs(row.value[0].value - row.accuracies.value) for row in rows)
    held = [f"m = {row.settings}, n = {row.hidden}" for row in rows if row.certain.value < 1]
    found = [each for each in stopped if each.contextual.value > 0]
    broken = [each for each in controls if each.largest_value > 2 * each.settings - 2 or each.largest_delta > 0]
    said = [
        f"The mean value is shown to be above 2 m - 2 under some protocol in {len(above)} of {len(rows)} ensembles, of a single shot in "
        f"{len(single)}; above the quantum bound in {len(quantum)}.",
        f"Accuracies alone give the mean value of a single shot to within {no_less(away, '.3f')}.",
        f"Delta of all members together is shown to be above 0 in {len(pooled)} of {len(rows)} ensembles; members with Delta > 0: {members}; "
        f"the largest share of runs under a protocol is {runs:g}.",
        "Every member has a certain head, so that a theorem says it."
        if not held
        else f"Not every member has a certain head: {'; '.join(held)}.",
    ]
    if found:
        most = max(found, key=lambda each: each.contextual.value)
        said.append(
            f"Stopped early, Delta is above 0 of some member in {len(found)} of {len(stopped)} ensembles; most at m = {most.settings} "
            f"after {most.steps} steps: {most.contextual} of members, up to {most.largest:g}."
        )
    elif stopped:
        said.append(f"Stopped early, no member of {len(stopped)} ensembles has Delta > 0.")
    else:
        said.append(f"No ensemble is stopped early with so few steps: the first would be after {EARLY[0]}.")
    if hard:
        open_ = [each for each in hard if each.uncertain.value == 1]
        said.append(
            f"With parities as tasks {len(open_)} of {len(hard)} ensembles have no certain head in any member, and correlators are up to "
            f"{no_less(max(each.apart for each in hard), '.2f')} off the product of means; members with Delta > 0 in "
            f"{sum(each.contextual.value > 0 for each in hard)}, the largest Delta {max(each.largest for each in hard):g}; of all members "
            f"together shown to be below 0 in {sum(each.delta.high < 0 for each in hard)}."
        )
    said.append(
        "One network with all heads obeys the bound." if not broken else "ONE NETWORK WITH ALL HEADS BREAKS THE BOUND"
    )
    return said


def printed(
    rows: Sequence[Row], stopped: Sequence[Stopped], hard: Sequence[Hard], controls: Sequence[Control]
) -> list[str]:
    """Six tables."""
    head = ["m", "n"]
    cells = [
        [str(row.settings), str(row.hidden), f"{row.bound:g}", *map(str, row.value), str(row.accuracies)]
        for row in rows
    ]
    chances = [[str(row.settings), str(row.hidden), *map(str, row.above)] for row in rows]
    rings = [
        [*map(str, (row.settings, row.hidden, row.delta, row.contextual)), f"{row.largest:g}", str(row.certain)]
        for row in rows
    ]
    early = [
        [str(each.settings), str(each.steps), str(each.uncertain), str(each.contextual), f"{each.largest:g}"]
        for each in stopped
    ]
    one = [
        [
            str(each.settings),
            str(each.members),
            f"{each.largest_value:g}",
            f"{each.largest_influence:g}",
            f"{each.largest_delta:g}",
        ]
        for each in controls
    ]
    return [
        *table(
            [*head, "2 m - 2", *(f"value, {name}" for name in rows[0].protocols), "accuracies alone"], cells, indent=""
        ),
        "",
        *table([*head, *(f"P(above), {name}" for name in rows[0].protocols)], chances, indent=""),
        "",
        *table(
            [*head, "Delta, all members", "members with Delta > 0", "largest", "members with a certain head"],
            rings,
            indent="",
        ),
        "",
        *table(["m", "steps", "members without a certain head", "with Delta > 0", "largest Delta"], early, indent=""),
        "",
        *table(
            [
                "m, parities",
                "n",
                "members without a certain head",
                "mean |C - a b|",
                "Delta, all members",
                "Delta > 0",
                "largest",
            ],
            [
                [
                    *map(str, (each.settings, each.hidden, each.uncertain)),
                    f"{each.apart:.3f}",
                    *map(str, (each.delta, each.contextual)),
                    f"{each.largest:g}",
                ]
                for each in hard
            ],
            indent="",
        ),
        "",
        *table(["m, one network", "members", "largest value", "influence", "Delta"], one, indent=""),
    ]


def draw(rows: Sequence[Row], stopped: Sequence[Stopped], middle: int, out: Path) -> list[Path]:
    """What values exceed the bound by, by protocol; Delta by width; and ensembles that are stopped early."""
    lines: list[list[Any]] = []
    with new_figure(11.5, 4.0) as figure:
        excess, delta, early = figure.subplots(1, 3)
        own = [row for row in rows if row.hidden == middle]
        at = np.array([row.settings for row in own])
        for number, name in enumerate(protocols := own[0].protocols):
            over = [_less(row.value[number], row.bound) for row in own]
            points(
                excess,
                at + (number - (len(protocols) - 1) / 2) * 0.12,
                over,
                color=COLOURS[number],
                fmt="o",
                label=name,
                markersize=4,
            )
            lines += [["value - bound", row.settings, name, *e[:3]] for row, e in zip(own, over, strict=True)]
        grid = np.linspace(at.min(), at.max(), 50)
        excess.plot(
            grid, 2 * grid * np.cos(np.pi / (2 * grid)) - 2 * grid + 2, "k:", linewidth=1, label="quantum bound"
        )
        excess.axhline(0, color="0.5", linestyle="--", linewidth=1)
        excess.set_title(f"mean value less 2 m - 2, n = {middle}")
        widths = sorted({row.hidden for row in rows})
        for place, width in enumerate(widths):
            of = [row for row in rows if row.hidden == width]
            shift = (place - (len(widths) - 1) / 2) * 0.15
            style: dict[str, Any] = {"color": COLOURS[place % 5], "fmt": "s", "markersize": 4, "label": f"n = {width}"}
            points(delta, np.array([row.settings for row in of]) + shift, [row.delta for row in of], **style)
            lines += [["Delta, all members", row.settings, f"n = {width}", *row.delta[:3]] for row in of]
        delta.axhline(0, color="0.5", linestyle="--", linewidth=1)
        delta.set_title("Delta of all members together")
        for place, settings in enumerate(sorted({each.settings for each in stopped})):
            kept = [each for each in stopped if each.settings == settings]
            steps = [each.steps for each in kept]
            style = {"color": COLOURS[place], "label": f"m = {settings}", "linewidth": 1}
            early.plot(steps, [each.uncertain.value for each in kept], "--", **(style | {"label": None}))
            spread = np.array(steps) * 1.06 ** (place - 2)
            points(early, spread, [each.contextual for each in kept], fmt="o-", markersize=4, **style)
            for name in ("uncertain", "contextual"):
                lines += [[f"stopped early: {name}", settings, each.steps, *getattr(each, name)[:3]] for each in kept]
        early.set_xscale("log")
        early.set_ylim(-0.03, 1.03)
        early.set_xlabel("optimiser steps")
        early.set_title("stopped early: members without a certain\nhead (dashed), with Delta > 0 (dots)")
        for panel in (excess, delta):
            panel.set_xlabel("m, tasks per party")
            panel.set_xticks(at)
        for panel in (excess, delta, early):
            legend(panel, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        return save_figure(figure, out / "chained", ["panel", "m", "of", "value", "low", "high"], lines)


def _less(one: Estimate, by: float) -> Estimate:
    return one._replace(value=one.value - by, low=one.low - by, high=one.high - by)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 1_000, "members of each ensemble")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--most", MAX_SETTINGS, "tasks per party, from 2 up to")
    add_number(parser, "--seed", 0, "root seed")
    add_widths(parser, 1, 2, 3)
    add_place(parser, "runs/chained", "where the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    at_least("--steps", parsed.steps, 1)
    each_once("--widths", parsed.widths)
    if not 2 <= parsed.most <= MAX_SETTINGS:
        raise ConfigError(f"--most: {parsed.most}; allowed: 2 to {MAX_SETTINGS}")
    out, devices = local_folder("--out", parsed.out), device_count(parsed.devices)
    base = EnsembleConfig(members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
    configs = [dataclasses.replace(base, hidden=width) for width in parsed.widths]
    middle = configs[-1]
    every = range(2, parsed.most + 1)
    rows = [row_of(config, settings, out, devices) for config in configs for settings in every]
    more = dataclasses.replace(middle, members=MORE * parsed.members)
    stopped = [
        stopped_of(more, settings, steps, out, devices) for settings in every for steps in EARLY if steps < parsed.steps
    ]
    controls = [control_of(middle, settings, out, devices) for settings in every if settings <= 3]
    hard = [hard_of(config, settings, out, devices) for settings in every if settings <= 3 for config in configs]
    print(
        f"Chained inequalities, {counted(parsed.members, 'member')}, {counted(parsed.steps, 'step')}, 95 % intervals\n"
    )
    print("\n".join(printed(rows, stopped, hard, controls)))
    said = verdicts(rows, stopped, hard, controls)
    print("\n" + "\n".join(said))
    draw(rows, stopped, middle.hidden, out)
    description = {"members": parsed.members, "steps": parsed.steps, "seed": parsed.seed}
    write_json(
        out / "chained.json",
        description
        | {"rows": rows, "stopped_early": stopped, "parities": hard, "one_network": controls, "conclusion": said},
    )


if __name__ == "__main__":
    main()
