"""Undecided answers: a quarter of the networks of three units have logits of 0. Which rows are these, why, and how much of S hangs on them?

Question. docs/results.md reports that 11.5 % of answers at n = 3, in a quarter of networks, are within 0.01 of a logit of 0. Is that training
that has not ended, or where it ends? Which sets of rows can be left so? And by how much could S be another, had they been decided?

Command. `python -m experiments.undecided --out runs/undecided`

Time. 1,000 members x 3 widths, each trained three times, some thousand small linear programmes, and sets of rows counted: two to three
minutes on two cores, five while other programs use them.

Expected. Derived before the run (docs/mechanism.md). A head at rest answers each group of rows that no unit of its own tells apart at the base
rate of the group. XOR has as many ones as zeros on all 16 rows and on many subsets, so the logit there is 0 exactly. So: most undecided
sets are those of rows on which no unit is on, with as many targets of each kind, in the list that is counted in whole numbers; others are
those that `held_rows` proves. A head that decides such rows all alike changes no S where the other head is right on all of them.

Shares of heads have the jackknife over members, since the two heads of a network share its units.

Predicted are rows from the on-sets of the units alone, not from weights. A unit serves a head if it moves a logit of it by more than 0.02 on some row.

Writes into the folder: widths/ (a run folder), undecided.png, .svg, .pdf, .csv and undecided.json.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.base_rates import FULL, TARGETS, dark_pair, dark_sets, number_of, orbits, zero_rows
from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import config_grid
from ncsim.config.scenarios import two_by_two
from ncsim.config.tasks import CONTEXTS, PAPER_TASKS
from ncsim.ensemble.networks import MemberParameters, outcomes, parameters
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.decisions import decision_range
from ncsim.statistics.intervals import Estimate, clopper_pearson, fraction_estimate, mean_over_members
from ncsim.statistics.tally import GROUPS
from ncsim.terminal import Progress

WIDTHS = (2, 3, 4)
#: A unit that moves no logit of a head by more does not serve it.
SERVES = 0.02
KINDS = ("no unit on", "proved, units on", "by the fit", "not predicted")


class Head(NamedTuple):
    """A head that leaves rows undecided: of which member (counted from 0), context and party, its rows as a number, the on-sets of its units,
    and how that is explained."""

    member: int
    context: int
    party: int
    rows: int
    on: tuple[int, ...]
    kind: str


class Width(NamedTuple):
    """What members of one width show.

    Attributes:
        answers: share of answers that are undecided.
        networks: share of networks with one.
        by_context: share of answers by context and party, [4, 2].
        heads: that have one.
        magnitude: |logit| of all answers.
        s: mean S as answers fell.
        coin: mean S with coin tosses.
        together: least and largest mean S if each head decides its undecided answers all alike.
        free: likewise if each is decided by itself.
        above_two: share of members with S > 2 as answers fell; least and largest if decided together, and if free.
        unmoved: share of members with an undecided answer that no deciding of heads together moves.
    """

    answers: float
    networks: Estimate
    by_context: np.ndarray
    heads: list[Head]
    magnitude: np.ndarray
    s: Estimate
    coin: float
    together: tuple[float, float]
    free: tuple[float, float]
    above_two: list[float]
    unmoved: Estimate


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, find the undecided rows, compare them with what is derived, and print what S hangs on them."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 1000, "members per width")
    add_number(parser, "--steps", 3000, "optimiser steps")
    add_number(parser, "--units", 3, "units up to which sets of rows are counted")
    add_place(parser, "runs/undecided", "default: {}")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2, ", or there is no interval")
    at_least("--units", parsed.units, 1)
    folder, devices = local_folder("--out", parsed.out), device_count(parsed.devices)
    configs = config_grid(hidden=list(WIDTHS), members=parsed.members, steps=parsed.steps)
    run = run_ensemble(configs, folder / "widths", devices=devices, progress=Progress())
    found = {config.hidden: look(run, cell, devices) for cell, config in enumerate(run.configs)}
    counted = {
        name: [dark_sets(target, units) for units in range(1, parsed.units + 1)] for name, target in TARGETS.items()
    }
    attained = {name: attained_orbits(TARGETS[name], each) for name, each in counted.items()}
    print("\n".join(counted_table(counted, attained)), "\n")
    print("\n".join(kinds_table(found)), "\n")
    print("\n".join(s_table(found)), "\n")
    listed = in_list(found, counted)
    said = conclusion(found, listed)
    print("\n".join(said))
    draw(found, folder / "undecided")
    numbers = {
        "found": {n: each._asdict() | {"heads": kinds_of(each), "magnitude": None} for n, each in found.items()},
        "counted": {name: [len(sets) for sets in each] for name, each in counted.items()},
        "attained": attained,
        "in_list": listed,
        "conclusion": said,
    }
    write_json(folder / "undecided.json", numbers)


def look(run: Run, cell: int, devices: int | None) -> Width:
    """Everything about the members of one cell."""
    config = run.configs[cell]
    members = list(config.member_ids)
    answers, networks = outcomes(run, members, cell, devices), parameters(run, members, cell, devices)
    undecided = np.abs(answers.logits) < config.undecided_tolerance
    s = chsh_statistics(run.records(cell).joint).s
    tossed = np.where(undecided, 0, answers.outcomes)
    coin = (tossed.prod(axis=3).mean(axis=3) * [[1, 1], [1, -1]]).sum(axis=(1, 2))
    free, together = (decision_range(answers.outcomes, undecided, tasks) for tasks in (None, two_by_two(config.tasks)))
    touched = undecided.any(axis=(1, 2, 3, 4))
    still = (together.low == together.high)[touched]
    return Width(
        answers=float(undecided.mean()),
        networks=clopper_pearson(float(undecided.any(axis=(3, 4)).sum()), float(4 * len(members))),
        by_context=undecided.mean(axis=(0, 4)).reshape(4, 2),
        heads=heads_of(networks, undecided),
        magnitude=np.abs(answers.logits).ravel(),
        s=mean_over_members(s, (-4.0, 4.0)),
        coin=float(coin.mean()),
        together=(float(together.low.mean()), float(together.high.mean())),
        free=(float(free.low.mean()), float(free.high.mean())),
        above_two=[float((each > 2).mean()) for each in (s, together.low, together.high, free.low, free.high)],
        unmoved=clopper_pearson(float(still.sum()), float(len(still))),
    )


def heads_of(networks: MemberParameters, undecided: np.ndarray) -> list[Head]:
    """The heads that leave a row undecided, and what explains each."""
    rows = np.asarray(PAPER_TASKS.inputs)
    before = np.einsum("rf,mijfu->mijru", rows, networks.hidden_kernel) + networks.hidden_bias[:, :, :, None]
    heads = []
    for member, i, j, party in np.argwhere(undecided.any(axis=-1)):
        moved = np.abs(networks.head_kernel[member, i, j, party, 0] * np.maximum(before[member, i, j], 0))
        serving = before[member, i, j][:, moved.max(axis=0) > SERVES]
        on = tuple(sorted(set(number_of(serving.T > 0).tolist()) - {0}))
        task = int((i, j)[party])
        left = int(number_of(undecided[member, i, j, party]))
        heads.append(Head(int(member), int(2 * i + j), int(party), left, on, kind_of(party, task, left, on)))
    return heads


def target_of(party: int, task: int) -> np.ndarray:
    """Right answers as +1 and -1."""
    return 2 * np.array((PAPER_TASKS.alice, PAPER_TASKS.bob)[party][task]) - 1


def kind_of(party: int, task: int, left: int, on: tuple[int, ...]) -> str:
    """What explains these undecided rows of a head with units that are on there."""
    rows, proved = zero_rows(target_of(party, task), on)
    if rows != left:
        return KINDS[3]
    dark = FULL
    for each in on:
        dark &= ~each
    return KINDS[2] if not proved else KINDS[0] if left == dark else KINDS[1]


def kinds_of(width: Width) -> dict[str, dict[str, int]]:
    """How many heads of each kind leave so many rows."""
    counts = Counter((head.kind, head.rows.bit_count()) for head in width.heads)
    return {kind: {str(size): counts[kind, size] for size in range(17) if counts[kind, size]} for kind in KINDS}


def share_of_heads(heads: Sequence[Head], of: Sequence[bool]) -> Estimate:
    """The share of heads that something is true of, as a ratio over members: heads of one network share its units, and are no draws of
    their own.

    The jackknife leaves out every 32nd member at a time, with all its heads. No more than the networks that have such a head count as
    independent.
    """
    number = np.zeros((2, GROUPS))
    for head, true in zip(heads, of, strict=True):
        number[:, head.member % GROUPS] += (true, 1)
    number = number[:, number[1] > 0]
    inside, total = number.sum(axis=1) if heads else (0.0, 0.0)
    rest = total - number[1]
    left_out = np.where(rest > 0, inside - number[0], inside) / np.where(rest > 0, rest, max(total, 1.0))
    networks = len({(head.member, head.context) for head in heads})
    if not networks:
        return clopper_pearson(0, 0)
    return fraction_estimate(inside / total, left_out, networks, 1)


def in_list(found: dict[int, Width], counted: dict[str, list[np.ndarray]]) -> dict[int, list[int]]:
    """Per width that was counted: heads with undecided rows on which no unit is on, and how many of their sets the list has. Bob's bits are
    Alice's with the pairs exchanged, so the list of Alice's tasks serves both."""
    lists = {task: [set(sets.tolist()) for sets in counted[name]] for task, name in enumerate(TARGETS)}
    # Row x1 x2 x3 x4 to row x3 x4 x1 x2.
    exchanged = np.array([4 * (row % 4) + row // 4 for row in range(16)])
    result = {}
    for width, each in found.items():
        dark = [head for head in each.heads if head.kind == KINDS[0]]
        inside = 0
        for head in dark:
            rows = (head.rows >> (exchanged if head.party else np.arange(16))) & 1
            number = int(number_of(rows.astype(bool)))
            task = CONTEXTS[head.context][head.party]
            inside += width <= len(lists[task]) and number in lists[task][width - 1]
        if width <= len(next(iter(counted.values()))):
            result[width] = [len(dark), inside]
    return result


def attained_orbits(target: np.ndarray, counted: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Per number of units: the sets up to symmetry; and, for two units, of how many there is a network."""
    found = []
    for units, sets in enumerate(counted, 1):
        least = orbits(list(sets), target) if len(sets) else {}
        networks = [dark_pair(target, each) for each in least] if units == 2 else []
        found.append((len(least), sum(network is not None for network in networks)))
    return found


def counted_table(counted: dict[str, list[np.ndarray]], attained: dict[str, list[tuple[int, int]]]) -> list[str]:
    """Sets of rows that can be dark and balanced, by task and units."""
    rows = []
    for name, each in counted.items():
        for units, (sets, (least, networks)) in enumerate(zip(each, attained[name], strict=True), 1):
            sizes = Counter(np.bitwise_count(sets).tolist())
            words = ", ".join(f"{size}: {number}" for size, number in sorted(sizes.items()))
            rows.append([name, str(units), str(len(sets)), str(least), str(networks) if units == 2 else "", words])
    header = ["task", "units", "sets", "up to symmetry", "of these with a network", "by number of rows"]
    return table(header, rows, indent="")


def kinds_table(found: dict[int, Width]) -> list[str]:
    """Heads with undecided rows, by what explains them."""
    rows = []
    for width, each in found.items():
        total = len(each.heads)
        sets = len({(head.context, head.party, head.rows) for head in each.heads})
        shares = [str(share_of_heads(each.heads, [head.kind == kind for head in each.heads])) for kind in KINDS]
        rows.append([str(width), f"{each.answers:.3f}", str(each.networks), str(total), str(sets), *shares])
    return table(["n", "answers", "networks", "heads", "different sets", *KINDS], rows, indent="")


def s_table(found: dict[int, Width]) -> list[str]:
    """Mean S, and members above 2, by how undecided answers are decided."""

    def ends(pair: Sequence[float]) -> str:
        return f"{pair[0]:.3f} to {pair[1]:.3f}"

    rows = [
        [
            str(width),
            str(each.s),
            f"{each.coin:.3f}",
            ends(each.together),
            ends(each.free),
            f"{each.above_two[0]:.3f}",
            ends(each.above_two[1:3]),
            ends(each.above_two[3:]),
            str(each.unmoved),
        ]
        for width, each in found.items()
    ]
    header = ["n", "mean S", "coin tosses", "heads decide", "free", "S > 2", "heads decide", "free", "unmoved by heads"]
    return table(header, rows, indent="")


def conclusion(found: dict[int, Width], listed: dict[int, list[int]]) -> list[str]:
    """What came of the expectations."""
    said = []
    for width, each in found.items():
        share = share_of_heads(each.heads, [head.kind in KINDS[:3] for head in each.heads])
        whole = sum(head.rows == FULL for head in each.heads)
        said.append(
            f"n = {width}: the rows of {share} of heads with undecided answers are those predicted, {whole} of {len(each.heads)} heads leave all 16."
        )
    for width, (dark, inside) in listed.items():
        said.append(f"n = {width}: of {dark} sets without a unit on, {inside} are in the list of {width} units.")
    three = found[3]
    said.append(
        f"n = 3: heads that decide their rows all alike leave mean S between {three.together[0]:.3f} and {three.together[1]:.3f}; free answers, between "
        f"{three.free[0]:.3f} and {three.free[1]:.3f}."
    )
    return said


def draw(found: dict[int, Width], stem: Path) -> None:
    """Sizes of logits with base rates, undecided rows by what explains them, and S."""
    rows: list[list[Any]] = []
    with new_figure(10.5, 3.3) as figure:
        first, second, third = figure.subplots(1, 3)
        rows += _draw_logits(first, found[3].magnitude)
        rows += _draw_kinds(second, found[3])
        rows += _draw_s(third, found)
        save_figure(figure, stem, ["panel", "what", "where", "value", "low", "high"], rows)


def _draw_logits(axis: Any, magnitude: np.ndarray) -> list[list[Any]]:
    edges = np.linspace(0, 2.2, 221)
    number, _ = np.histogram(magnitude, edges)
    share = number / len(magnitude)
    axis.stairs(share, edges, color=BLUE, lw=0.8)
    axis.set_yscale("log")
    top = share.max() * 6
    axis.set_ylim(share[share > 0].min() / 2, top)
    for odds in (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3), Fraction(5), Fraction(7)):
        place = math.log(odds)
        axis.axvline(place, color=VERMILLION, lw=0.6, ls=":")
        axis.text(place + 0.02, top / 1.3, f"ln {odds}" if odds > 1 else "0", fontsize=7, va="top", color=VERMILLION)
    axis.set_xlabel("size of the logit, n = 3")
    axis.set_ylabel("share of answers per 0.01")
    return [["logits", "", f"{left:.2f}", value, "", ""] for left, value in zip(edges, share, strict=False)]


def _draw_kinds(axis: Any, width: Width) -> list[list[Any]]:
    counts = Counter((head.kind, head.rows.bit_count()) for head in width.heads)
    sizes, bottom = list(range(1, 17)), np.zeros(16)
    rows: list[list[Any]] = []
    for kind, colour in zip(KINDS, (BLUE, GREEN, ORANGE, BLACK), strict=True):
        share = np.array([counts[kind, size] for size in sizes]) / max(len(width.heads), 1)
        axis.bar(sizes, share, bottom=bottom, color=colour, label=kind, width=0.8)
        bottom += share
        rows += [["rows", kind, size, value, "", ""] for size, value in zip(sizes, share.tolist(), strict=True)]
    axis.set_xlabel("undecided rows of a head, n = 3")
    axis.set_ylabel("share of heads that have any")
    axis.set_xticks([1, 2, 4, 6, 8, 10, 12, 14, 16])
    axis.legend(fontsize=7, loc="upper left")
    return rows


def _draw_s(axis: Any, found: dict[int, Width]) -> list[list[Any]]:
    places = np.arange(len(found), dtype=float)
    fell = [each.s for each in found.values()]
    ranges = {
        "as they fell": (fell, BLUE, "o"),
        "a head's all alike": ([_range(e.coin, e.together) for e in found.values()], GREEN, "s"),
        "each by itself": ([_range(e.coin, e.free) for e in found.values()], VERMILLION, "D"),
    }
    rows: list[list[Any]] = []
    for number, (name, (estimates, colour, mark)) in enumerate(ranges.items()):
        bars = "all that deciding can do" if number else "95 % interval"
        points(axis, places + 0.15 * (number - 1), estimates, fmt=mark, color=colour, label=f"{name}: {bars}")
        rows += [["S", name, n, e.value, e.low, e.high] for n, e in zip(found, estimates, strict=True)]
    axis.axhline(2, color=BLACK, lw=0.6, ls="--")
    axis.set_xticks(places, [f"n = {n}" for n in found])
    axis.set_ylabel("mean S")
    axis.legend(fontsize=7, loc="lower right")
    return rows


def _range(value: float, ends: tuple[float, float]) -> Estimate:
    return Estimate(min(max(value, ends[0]), ends[1]), *ends, "all that deciding can do")


if __name__ == "__main__":
    main()
