"""Rare tails: how likely S >= 3.5 and S > 2 sqrt 2 are at n = 3, under each protocol.

Question. The paper shows S up to about 3.5 at three units. How often does a run come so far, to a tenth of the number itself, and how
many members does it take to know?

Command. `python -m experiments.rare_tails --out runs/rare-tails`; for the numbers of docs/results.md
`--members 100000 --members-22 1600000`. A run that was stopped goes on with the same command, and one with more members of
context 22 trains the further ones alone.

Time. 20,000 members x 4 contexts, and 100,000 x 4 networks of context 22, x 3,000 steps: 48 seconds of processor time; 2 min 44 s
by the clock on two cores that many other programs used as well.

Expected. (Before the run.) Four contexts are independent, so their four laws give the tail of S. S >= 3.5 needs k of at
least 12 in context 22, where k counts the rows with exactly one head right, and nearly no error in the others. So networks of
context 22 are what is short: a second run trains that context alone, four networks per member, by tasks that make all
contexts alike. If one network in a thousand has such a k, 400,000 networks give 400, and so a tenth. The claim table of docs/results.md (P(largest of 50
about 3.5) = 0.026) lets P(S >= 3.5) be a few in ten thousand for a single shot. Best of 20 by accuracy should make it vanish: all twenty
would have to fail that badly. Retry raises it, since 11, 12 and 21 are then solved and 22 cannot be.

Checked. A single shot is counted as well: members whose own S is that large, with the exact interval. The jackknife's error is compared
with that of the delta method. Both must agree.

Writes into the folder: rare_tails.png, .svg, .pdf, .csv and rare_tails.json; the runs are in `all` and `22` below it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import truth_tables
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import no_less, table
from ncsim.report.figures import BLUE, VERMILLION, new_figure, save_figure
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate, clopper_pearson, jackknife_error
from ncsim.statistics.outcomes import Ensemble, Outcomes
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, TSIRELSON, ProtocolLaw
from ncsim.statistics.rare_tails import (
    Joined,
    as_context_22,
    loss_of_a_wrong_answer,
    probability_of,
    product_error,
    tail,
)
from ncsim.terminal import Progress

#: No value of S lies at 2 sqrt 2, so that "at least" is "above".
BOUNDS = {"S > 2 sqrt 2": float(TSIRELSON), "S >= 3.5": 3.5}
#: What an interval should reach, as a part of the value.
TENTH = 0.1
#: Members of a run of context 22.
BLOCK = 800_000
QUANTILE = 1.96


class Row(NamedTuple):
    """One protocol and bound in numbers."""

    protocol: str
    event: str
    probability: Estimate
    reach: float  # half the interval over the value
    needed: float  # networks of context 22 for a tenth, if the error falls as the root of their number
    counted: Estimate | None  # single shots alone: members that have such an S
    error_ratio: float | None  # single shots alone: the jackknife's error over the delta method's
    seconds: float  # to compute it from the stored run


#: Context 22 as all four: both heads have their exclusive or, whatever the context.
TASKS_22 = truth_tables(
    alice=[lambda x1, x2, x3, x4: x1 ^ x2] * 2, bob=[lambda x1, x2, x3, x4: x3 ^ x4] * 2, name="context 22, four times"
)


def rows_of(outcomes: Ensemble, members: Outcomes, loss_of_wrong: float) -> list[Row]:
    """A row per protocol and bound, from four contexts; members are counted beside."""
    found = []
    for protocol in STANDARD_PROTOCOLS:
        begun = time.perf_counter()
        law = ProtocolLaw(protocol, outcomes)
        spent = time.perf_counter() - begun
        for event, bound in BOUNDS.items():
            begun = time.perf_counter()
            each = tail(law, outcomes, bound, loss_of_wrong)
            seconds = spent + time.perf_counter() - begun
            single = protocol.is_single_shot
            found.append(
                Row(
                    protocol.label,
                    event,
                    each.probability,
                    each.reach,
                    networks_of(outcomes)[3] * (each.reach / TENTH) ** 2,
                    counted(members, bound) if single else None,
                    error_ratio(law, outcomes, bound) if single else None,
                    seconds,
                )
            )
    return found


def counted(outcomes: Outcomes, bound: float) -> Estimate:
    """The share of members whose own S is at least the bound."""
    tally = outcomes.tally
    s = (2 * np.arange(len(tally.s)) - 4 * tally.rows) / tally.rows
    return clopper_pearson(int(tally.s[s >= bound].sum()), int(tally.s.sum()))


def networks_of(outcomes: Ensemble) -> np.ndarray:
    """Networks of each context, int64[4]."""
    return np.array([int(tables.members.sum()) for tables in outcomes.tally.tables])


def error_ratio(law: ProtocolLaw, outcomes: Ensemble, bound: float) -> float:
    """The jackknife's standard error over the delta method's."""
    left_out = [probability_of(laws, bound) for laws in np.moveaxis(law.left_out_context_laws, 0, 1)]
    error = product_error(law.context_laws, bound, networks_of(outcomes))
    return jackknife_error(np.array(left_out)) / error if error > 0 else math.nan


def precision_of(law: ProtocolLaw, bound: float, members: Sequence[int]) -> list[tuple[float, float]]:
    """Half intervals over the value at so many members: by four laws, and by counted members."""
    value = max(probability_of(law.context_laws, bound), 1e-300)
    return [
        (
            QUANTILE * product_error(law.context_laws, bound, number) / value,
            QUANTILE * float(np.sqrt((1 - value) / (value * number))),
        )
        for number in members
    ]


def conclusion(rows: Sequence[Row]) -> list[str]:
    """What the numbers bear."""
    reached = [row for row in rows if row.reach <= TENTH]
    single = [row for row in rows if row.counted is not None]
    agree = [
        row.counted is not None and row.counted.low <= row.probability.high and row.probability.low <= row.counted.high
        for row in single
    ]
    return [
        f"To a tenth or better: {len(reached)} of {len(rows)} probabilities.",
        *(f"Not: {row.event}, {row.protocol}: {interval(row.probability)}." for row in rows if row.reach > TENTH),
        f"Counted members agree with four laws in {sum(agree)} of {len(agree)} (intervals meet).",
    ]


def number(value: float) -> str:
    """Three digits, however small."""
    return f"{value:.3g}"


def interval(estimate: Estimate) -> str:
    """Value and limits to three digits; the upper limit alone where nothing is known from below."""
    if estimate.low < 1e-100:
        return f"at most {no_less(estimate.high, '.3g')}"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def printed(rows: Sequence[Row]) -> list[str]:
    """The table."""
    head = ["event", "protocol", "probability", "half interval / value", "networks of 22 for a tenth", "counted"]
    cells = [
        [
            row.event,
            row.protocol,
            interval(row.probability),
            number(row.reach) if row.reach < 100 else "",
            f"{row.needed:.2g}" if row.reach < 100 else "",
            interval(row.counted) if row.counted is not None else "",
        ]
        for row in sorted(rows, key=lambda row: row.event)
    ]
    return table(head, cells, indent="")


def wrapped(label: str) -> str:
    """A protocol's words in short lines."""
    return label.replace("until ", "until\n").replace(", ", ",\n").replace(" by ", "\nby ")


def draw(rows: Sequence[Row], law: ProtocolLaw, out: Path) -> list[Path]:
    """Probabilities by protocol, and what so many members tell of a single shot."""
    sizes = np.unique(np.round(np.logspace(4, 8, 17)).astype(int))
    lines: list[list[Any]] = []
    with new_figure(10.5, 3.9) as figure:
        left, right = figure.subplots(1, 2)
        for (event, bound), color, shift in zip(BOUNDS.items(), (BLUE, VERMILLION), (-0.1, 0.1), strict=True):
            own = [row for row in rows if row.event == event and row.probability.value > 1e-9]
            labels = [protocol.label for protocol in STANDARD_PROTOCOLS]
            places = np.array([labels.index(row.protocol) for row in own]) + shift
            points(left, places, [row.probability for row in own], color=color, fmt="o", label=event)
            by_laws, by_members = np.array(precision_of(law, bound, sizes.tolist())).T
            right.plot(sizes, by_laws, color=color, label=f"{event}, four laws")
            right.plot(sizes, by_members, color=color, linestyle=":", label=f"{event}, counted members")
            lines += [
                [event, row.protocol, "probability", outcome.value, outcome.low, outcome.high]
                for row in own
                for outcome in [row.probability]
            ]
            for how, values in (("four laws", by_laws), ("counted members", by_members)):
                lines += [
                    [event, f"{size} members", f"half interval / value, {how}", value, "", ""]
                    for size, value in zip(sizes, values, strict=True)
                ]
        left.set_yscale("log")
        left.set_xticks(range(len(STANDARD_PROTOCOLS)), [wrapped(p.label) for p in STANDARD_PROTOCOLS], fontsize=8)
        left.set_title("probability of a run (below 1e-9 not drawn)")
        left.legend()
        right.axhline(TENTH, color="0.5", linewidth=1)
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlabel("members")
        right.set_title("single shot: half the interval over the value")
        right.legend(fontsize=8)
        return save_figure(figure, out / "rare_tails", ["event", "of", "quantity", "value", "low", "high"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the table and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 20_000, "members")
    add_number(parser, "--members-22", 100_000, "members of the run whose four networks are all of context 22")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--hidden", 3, "hidden units")
    add_number(
        parser, "--seed", 20261128, "root seed, another one than that of figure 2; the run of context 22 has the next"
    )
    add_place(parser, "runs/rare-tails", "where the runs, the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 64)
    at_least("--members-22", parsed.members_22, 64)
    out = local_folder("--out", parsed.out)
    all_four = EnsembleConfig(hidden=parsed.hidden, members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
    alone = dataclasses.replace(all_four, members=parsed.members_22, root_seed=parsed.seed + 1, tasks=TASKS_22)
    begun, runs = time.perf_counter(), []
    for config, name in ((all_four, "all"), *in_blocks(alone)):
        runs.append(run_ensemble(config, out / name, devices=device_count(parsed.devices), progress=Progress()))
    told(runs, out, time.perf_counter() - begun)


def in_blocks(config: EnsembleConfig) -> list[tuple[EnsembleConfig, str]]:
    """The run of context 22 in runs of so many members, with their folders: more members than before train the further ones alone."""
    firsts = range(0, config.members, BLOCK)
    return [
        (
            dataclasses.replace(config, first_member=first, members=min(BLOCK, config.members - first)),
            f"22-{first}" if first else "22",
        )
        for first in firsts
    ]


def told(runs: Sequence[Run], out: Path, trained: float) -> None:
    """All that is said of the trained runs."""
    members = Outcomes(runs[0].batches(), runs[0].configs[0])
    outcomes = Joined(
        [members] * 3 + [as_context_22(itertools.chain.from_iterable(run.batches() for run in runs[1:]), members.rows)]
    )
    rows = rows_of(outcomes, members, loss_of_a_wrong_answer(runs[0].configs[0]))
    law = ProtocolLaw(STANDARD_PROTOCOLS[0], outcomes)
    said = conclusion(rows)
    print("\n".join([*printed(rows), "", *said, f"Trained (or read) in {trained:.0f} s."]))
    figures = draw(rows, law, out)
    found = {"networks": networks_of(outcomes), "trained_seconds": trained, "context_laws": law.context_laws}
    write_json(out / "rare_tails.json", {"rows": rows, "conclusion": said, **found})
    print(f"Figure: {figures[0]}")


if __name__ == "__main__":
    main()
