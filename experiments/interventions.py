"""Interventions: what each does to S, to influence and to what is solved. The causal test of the paper's explanation.

Question. Section 4.3 of arXiv:2603.04451 says that heads communicate through gradients that compete in the shared layer. If
that is the cause of S > 2, S must change when those gradients are stopped, kept apart, or relieved of their conflict. Does it?

Command. `python -m experiments.interventions --members 10000 --out runs/interventions`

Time. Eight ensembles of 10,000 members and four of 2,000 that start their contexts alike, x 4 contexts x 3,000 steps: about
45 seconds on two cores.

Expected. With the trunk frozen, or one trunk a head, training of Alice's head has nothing of Bob's task in it, nor his of
hers. A member's start is then a local hidden variable: with a common start influence is exactly 0 and |S| <= 2 in every
member (each row has A1 (B1 + B2) + A2 (B1 - B2) = +-2); with a start for each context the same holds of the means over
members, though single members scatter. That is of single shots: under retry until solved the networks are chosen by both
heads' outcomes together (post-selection), and S may exceed 2 with no gradient exchanged at all. With only Bob's gradient
stopped, his task cannot reach Alice (that influence is 0) and hers still reaches him, so that S may exceed 2. If conflict
itself is the cause, and not that layers are too narrow, projecting it away (PCGrad) must move S towards 2.

Writes into the folder: two run folders, interventions.png, .svg, .pdf, .csv and interventions.json.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import counted, table
from ncsim.records.members import MemberRecords
from ncsim.report.figures import BLACK, BLUE, CONTEXT_MARKS, ORANGE, SKY, VERMILLION, new_figure, save_figure
from ncsim.report.summary import summarise
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import Estimate, clopper_pearson, mean_over_members
from ncsim.terminal import Progress

#: Name, and the fields that differ from an ensemble without intervention.
CASES: dict[str, dict[str, Any]] = {
    "no intervention": {},
    "PCGrad": {"intervention": "pcgrad"},
    "Bob's loss x 1/4": {"bob_weight": 0.25},
    "Bob's loss x 4": {"bob_weight": 4.0},
    "stop Bob's gradient": {"intervention": "stop_gradient_bob"},
    "stop Alice's gradient": {"intervention": "stop_gradient_alice"},
    "frozen trunk": {"intervention": "frozen_trunk"},
    "separate trunks": {"intervention": "separate_trunks"},
}
#: And those whose theory is exact where all contexts of a member start alike.
COMMON = ("no intervention", "stop Bob's gradient", "frozen trunk", "separate trunks")
RETRY = 4  # of STANDARD_PROTOCOLS: until solved, at most 100 tries


class Effect(NamedTuple):
    """One case in numbers, of single shots unless it says otherwise. Intervals of 95 %, over members."""

    case: str
    common_initialization: bool
    members: int
    s: Estimate  # mean, which is S of the mean correlators
    above_2: Estimate  # share of members
    s_retry: Estimate | None  # mean S under retry until solved, at most 100 tries; None where starts are common
    bob_on_alice: Estimate  # sum over i of mean outcome A_i beside beta_1 less beside beta_2
    alice_on_bob: Estimate
    influences: tuple[Estimate, ...]  # these two with intervals of 99.9 %, as the expectations ask
    largest_bob_on_alice: float  # of a member and a task of hers; sums over tasks and means over members may cancel
    member_influence: Estimate  # mean over members of the sum of absolute differences
    largest_influence: float  # of any member
    s_factorised: float  # of the means over members
    largest_s: float  # |S| of any member
    contextual: Estimate  # share of members with Delta above 0
    solved: tuple[Estimate, ...]  # by context
    correlators: tuple[Estimate, ...]


def effects(run: Run, names: Sequence[str]) -> list[Effect]:
    """The numbers of every cell, by the names of its cells in their order."""
    laws = None if run.configs[0].common_initialization else summarise(run).laws
    found = []
    for cell, (name, config) in enumerate(zip(names, run.configs, strict=True)):
        records = run.records(cell)
        whole = ~records.diverged.any(axis=1)
        joint = records.joint[whole]
        there: Any = chsh_statistics(joint)
        alice, bob = 2 * there.accuracy_alice - 1, 2 * there.accuracy_bob - 1  # [M, 2, 2] by (i, j)
        flat = there.correlator.reshape(-1, 4)
        pooled: Any = chsh_statistics(joint.sum(axis=0, dtype=np.int64))
        solved = records.counts[whole][:, :, 3] == config.tasks.rows
        members = len(joint)

        def share(event: np.ndarray, members: int = members) -> Estimate:
            return clopper_pearson(int(np.sum(event)), members)

        by_task = ((alice[:, :, 0] - alice[:, :, 1]).sum(axis=1), (bob[:, 0, :] - bob[:, 1, :]).sum(axis=1))
        on_alice, on_bob = (mean_over_members(each, (-4.0, 4.0)) for each in by_task)
        found.append(
            Effect(
                case=name,
                common_initialization=config.common_initialization,
                members=members,
                s=mean_over_members(there.s, (-4.0, 4.0)),
                above_2=share(there.s > 2),
                s_retry=laws[cell][RETRY].mean if laws else None,
                bob_on_alice=on_alice,
                alice_on_bob=on_bob,
                influences=tuple(mean_over_members(each, (-4.0, 4.0), 0.999) for each in by_task),
                largest_bob_on_alice=float(np.abs(alice[:, :, 0] - alice[:, :, 1]).max()),
                member_influence=mean_over_members(there.influence, (0.0, 8.0)),
                largest_influence=float(there.influence.max()),
                s_factorised=float(pooled.s_factorised),
                largest_s=float(np.abs(there.s).max()),
                contextual=share(there.contextuality > 0),
                solved=tuple(share(solved[:, context]) for context in range(4)),
                correlators=tuple(mean_over_members(flat[:, context], (-1.0, 1.0)) for context in range(4)),
            )
        )
    return found


class Change(NamedTuple):
    """What a case has more than no intervention, member by member. Both begin alike, so that their difference is known better than
    either; but with separate trunks a network has other units, and begins by itself. Means with intervals of 95 %, over members of
    which no network diverged in either case."""

    case: str
    common_initialization: bool
    members: int
    s: Estimate
    member_influence: Estimate
    solved: tuple[Estimate, ...]  # by context


def changes(run: Run, names: Sequence[str]) -> list[Change]:
    """Of every cell but the first, which is without intervention."""
    plain, found = run.records(0), []
    for cell, name in enumerate(names[1:], 1):
        records = run.records(cell)
        assert (records.member == plain.member).all()
        whole = ~(records.diverged | plain.diverged).any(axis=1)
        one, other = (_of_members(each, whole, run.configs[0].tasks.rows) for each in (records, plain))
        s, influence, solved = (a - b for a, b in zip(one, other, strict=True))
        found.append(
            Change(
                name,
                run.configs[cell].common_initialization,
                int(whole.sum()),
                mean_over_members(s, (-8.0, 8.0)),
                mean_over_members(influence, (-8.0, 8.0)),
                tuple(mean_over_members(each, (-1.0, 1.0)) for each in solved.T),
            )
        )
    return found


def _of_members(records: MemberRecords, whole: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S and influence [M], and what is solved [M, 4]."""
    there: Any = chsh_statistics(records.joint[whole])
    return there.s, there.influence, (records.counts[whole][:, :, 3] == rows).astype(float)


def printed_changes(found: Sequence[Change]) -> list[str]:
    """A row a case."""
    header = [
        "case less no intervention",
        "starts",
        "S",
        "influence of a member",
        *(f"solved {n}" for n in context_names()),
    ]
    rows = [
        [c.case, "common" if c.common_initialization else "own", *map(str, (c.s, c.member_influence, *c.solved))]
        for c in found
    ]
    return table(header, rows, indent="")


def printed(found: Sequence[Effect]) -> list[str]:
    """A row a case."""
    header = [
        "case", "starts", "S", "P(S > 2)", "S, retry 100", "Bob's task on Alice", "Alice's on Bob", "S_fact of means",
        "largest |S|", "solved 22", "C22",
    ]  # fmt: skip
    rows = [
        [
            e.case, "common" if e.common_initialization else "own", str(e.s), str(e.above_2),
            "-" if e.s_retry is None else str(e.s_retry), str(e.bob_on_alice), str(e.alice_on_bob), f"{e.s_factorised:.3f}",
            f"{e.largest_s:.3f}", str(e.solved[3]), str(e.correlators[3]),
        ]
        for e in found
    ]  # fmt: skip
    return table(header, rows, indent="")


class Verdict(NamedTuple):
    """What theory says of a case before it is run, and what came out."""

    expectation: str
    measured: str
    met: bool


def verdicts(found: Sequence[Effect]) -> list[Verdict]:
    """The expectations of the module's text, each judged."""
    by = {(e.case, e.common_initialization): e for e in found}
    result = []
    for case in ("frozen trunk", "separate trunks"):
        e = by[case, True]
        exact = e.largest_influence == 0 and e.largest_s <= 2
        result.append(
            Verdict(
                f"{case}, common starts: influence 0 and |S| <= 2 in every member",
                f"largest influence {e.largest_influence:g}, largest |S| {e.largest_s:g}",
                exact,
            )
        )
        e = by[case, False]
        result.append(
            Verdict(
                f"{case}, own starts: mean influences 0 (within 99.9 %), mean S at most 2",
                f"99.9 %: Bob's task on Alice {e.influences[0]}, Alice's on Bob {e.influences[1]}; 95 %: S {e.s}",
                all(each.low <= 0 <= each.high for each in e.influences) and e.s.low <= 2,
            )
        )
    e = by["stop Bob's gradient", True]
    result.append(
        Verdict(
            "Bob's gradient stopped, common starts: his task has no influence on Alice in any member",
            f"largest influence of his task {e.largest_bob_on_alice:g}",
            e.largest_bob_on_alice == 0,
        )
    )
    return result


def draw(found: Sequence[Effect], stem: Path) -> list[Path]:
    """A row a case: S, influences, what is solved, correlators."""
    found = [e for e in found if not e.common_initialization]
    rows: list[list[Any]] = []
    place = np.arange(len(found))[::-1]
    with new_figure(11.5, 0.42 * len(found) + 1.9) as figure:
        axes = figure.subplots(1, 4, sharey=True)

        def series(axis: Any, label: str, color: str, mark: str, estimates: Sequence[Estimate], shift: float) -> None:
            points(axis, place + shift, estimates, across=True, color=color, marker=mark, linestyle="none", label=label)
            rows.extend([e.case, label, x.value, x.low, x.high] for e, x in zip(found, estimates, strict=True))

        axes[0].axvline(2, color=VERMILLION, linestyle="--", linewidth=1.1)
        series(axes[0], "S, single shot", BLACK, "o", [e.s for e in found], 0.12)
        series(axes[0], "S, retry until solved", SKY, "s", [e.s_retry or e.s for e in found], -0.12)
        axes[1].axvline(0, color="0.6", linewidth=0.9)
        series(axes[1], "Bob's task on Alice", BLUE, "^", [e.bob_on_alice for e in found], 0.12)
        series(axes[1], "Alice's task on Bob", ORANGE, "v", [e.alice_on_bob for e in found], -0.12)
        for number, (name, (color, mark)) in enumerate(zip(context_names(), CONTEXT_MARKS, strict=True)):
            series(axes[2], f"solved {name}", color, mark, [e.solved[number] for e in found], 0.21 - 0.14 * number)
            series(axes[3], f"C{name}", color, mark, [e.correlators[number] for e in found], 0.21 - 0.14 * number)
        for axis, title in zip(
            axes, ("S", "influence (change of mean outcomes)", "share solved", "mean correlators"), strict=True
        ):
            axis.set_title(title)
            columns = len(axis.get_legend_handles_labels()[0]) // 2  # two lines under every panel
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns, fontsize=7.5, handletextpad=0.2)
            for y in place:
                axis.axhline(y - 0.5, color="0.92", linewidth=0.7, zorder=0)
        axes[0].set_yticks(place, [e.case for e in found])
        return save_figure(figure, stem, ["case", "quantity", "value", "low", "high"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, judge, draw and print."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 10_000, "members a case")
    add_number(parser, "--common-members", 2_000, "members with common starts")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--hidden", 3, "hidden units")
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/interventions", "folder for what is written")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    at_least("--common-members", parsed.common_members, 2)
    out = local_folder("--out", parsed.out)
    devices = device_count(parsed.devices)
    base = EnsembleConfig(hidden=parsed.hidden, members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
    common = dataclasses.replace(base, members=parsed.common_members, common_initialization=True)
    found: list[Effect] = []
    changed: list[Change] = []
    for folder, start, names in (("own-starts", base, list(CASES)), ("common-starts", common, list(COMMON))):
        configs = [dataclasses.replace(start, **CASES[name]) for name in names]
        run = run_ensemble(configs, out / folder, devices=devices, progress=Progress())
        found += effects(run, names)
        changed += changes(run, names)
    draw(found, out / "interventions")
    judged = verdicts(found)
    write_json(out / "interventions.json", {"effects": found, "changes": changed, "expectations": judged})
    print(f"Interventions at n = {parsed.hidden}, {counted(parsed.steps, 'step')}, 95 % intervals over members\n")
    print("\n".join([*printed(found), "", *printed_changes(changed)]))
    print()
    print(
        "\n".join(
            table(
                ["expected", "measured", "met"],
                [[v.expectation, v.measured, "yes" if v.met else "NO"] for v in judged],
                indent="",
            )
        )
    )
    print(f"\n{sum(v.met for v in judged)} of {len(judged)} expectations met. Stored in {out}.")


if __name__ == "__main__":
    main()
