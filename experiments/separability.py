"""Separability: does back-propagation make the two heads of a network inseparable, and in which sense?

Question. Patrascu holds that a network with forward propagation alone "would be separable", and that the gradient sent back
"makes the neural network not separable". What would be a product of what is left open. Asked here in four ways: does a head
remember where the other began (foreign share)? Is a head's function a product of one of Alice's features and one of Bob's
(entropy of its Schmidt coefficients)? May one head's loss move the other's logits (cross kernel)? And over an ensemble, do a unit's two output
weights know of each other (mutual information)? Each is asked with back-propagation into the shared layer, without it, and with a layer per head.

Command. `python -m experiments.separability --members 128 --out runs/separability`

Time. Five interventions x 128 members, each with 16 twins, x 4 contexts x 3,000 steps in float64, and one of them twice: a minute
and a half on two cores that other programs used as well. Five ensembles of 4,000 networks, each trained twice: 58 seconds of processor time.

Expected. Exactly, and so checked on every member: no foreign share at steps 0 and 1, whatever the intervention, since a head's first
gradient holds nothing of the other; none at any step where the shared layer is frozen or trunks are separate; none of Alice's
where Bob's gradient is stopped. No kernel across heads where the layer is frozen or apart.

Else, after a pilot of 100 members in contexts 11 and 22: a foreign share near 0.43 after 3,000 steps of the shared layer. That pilot's
twins began 1e-6 away, which is too far: at 1e-10 the share is lower (docs/seeds.md). So the first ensemble is trained once more with twins
ten times as far, and the networks whose share moves are counted. If
the claim were about functions, those of untrained networks would be products, and those trained with a frozen layer as well: entropy
0. The pilot had 0.15 to 0.29 ln 2 before training, less after it, and most of all with the layer frozen.

Functions: logits as they are, neither centred nor made 0 and 1; as +-1 an exclusive or is a product and a conjunction has ln 2. For scale, matrices of
independent Gaussian numbers are given as well. Curvature (mutual information of both heads' parameters with the shared layer
marginalised, and the entropy of entanglement of the root of that Gaussian) is printed for context 11 with three ridges, since both depend on
them. Intervals are of 95 %, BCa over members; two means differ where their intervals do not meet.

Ensembles: expected, after a derivation for y = w2 w1 x (tests/statistics/test_separability.py), was that mutual information is no mark of
back-propagation. Without it, with the first layer frozen, there it is a quarter of what it is with it, and not 0: both weights know the common
layer. Of heads with a layer each there must be none. Estimated by nearest neighbours from as many members as `--ensemble` says, of the first unit's weights
to both heads; beside it the mean and three spreads of twenty shuffles of the members of one head, which is what chance gives.

Writes into the folder: separability.png, .svg, .pdf, .csv and separability.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS, context_names
from ncsim.ensemble.networks import parameters
from ncsim.ensemble.run import run_ensemble
from ncsim.ensemble.separability import APART, ForeignShare, foreign_share
from ncsim.formatting import counted, no_less, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.separability import mean_over_members as mean
from ncsim.statistics.separability import sample_information, schmidt_entropy

#: Interventions, with their names in words and how they are drawn.
KINDS = {
    "none": ("shared layer", BLUE, "-"),
    "pcgrad": ("PCGrad", PURPLE, "--"),
    "stop_gradient_bob": ("Bob's gradient stopped", GREEN, "-."),
    "frozen_trunk": ("frozen layer", VERMILLION, ":"),
    "separate_trunks": ("a layer per head", ORANGE, ":"),
}
#: Those of which a foreign share of exactly 0 is promised at all steps, by party.
ISOLATED = {"frozen_trunk": (0, 1), "separate_trunks": (0, 1), "stop_gradient_bob": (0,)}
CONTEXT_NAMES = context_names()
RIDGES = (1e-4, 1e-2, 1.0)
GAUSSIANS = 10_000
#: A share that moves by more with the distance of twins is not resolved.
MOVED = 0.01
#: How often one head's members are shuffled against the other's.
SHUFFLES = 20


class Row(NamedTuple):
    """One intervention and context in numbers: means over members, of Alice and of Bob where there are two."""

    intervention: str
    context: str
    unfit: int  # members without a share at some step
    share: tuple[Estimate, ...]  # foreign, at the end
    median: tuple[float, ...]  # likewise
    entropy_before: tuple[Estimate, ...]  # of functions, in units of ln 2
    entropy: tuple[Estimate, ...]  # at the end
    kernel_before: Estimate
    kernel: Estimate


def moments(steps: int) -> list[int]:
    """Steps at which networks are looked at: 1, 2, 3, 5, 10 and so on, with the start and the end."""
    grid = {round(base * 10**power) for power in range(1, 9) for base in (1, 2, 5)} | {0, 1, 2, 3, 5}
    return sorted({step for step in grid if step < steps} | {steps})


def rows_of(kind: str, found: ForeignShare) -> list[Row]:
    """A row per context."""
    entropy, kernel = found.schmidt_entropy() / math.log(2), found.cross_kernel()
    rows = []
    for place, name in enumerate(found.context):
        parties = (0, 1)
        share = found.share[:, place]
        rows.append(
            Row(
                kind,
                name,
                int(np.isnan(share).any(axis=(1, 2)).sum()),
                tuple(mean(share[:, -1, party]) for party in parties),
                tuple(float(np.nanmedian(share[:, -1, party])) for party in parties),
                tuple(mean(entropy[:, place, 0, party], 2.0) for party in parties),
                tuple(mean(entropy[:, place, -1, party], 2.0) for party in parties),
                mean(kernel[:, place, 0]),
                mean(kernel[:, place, -1]),
            )
        )
    return rows


def broken_promises(kind: str, found: ForeignShare) -> list[str]:
    """What should be exactly 0 and is not, in words; none of these is a matter of chance."""
    said = []
    foreign = np.stack(
        [found.response[..., 0, 1], found.response[..., 1, 0]], axis=-1
    )  # also where nothing is remembered
    early = foreign[:, :, found.step <= 1]
    if np.any(early != 0):
        said.append(f"{kind}: something of the other's start by step 1, up to {np.nanmax(early):g}")
    for party in ISOLATED.get(kind, ()):
        if np.any(foreign[..., party] != 0):
            said.append(
                f"{kind}: party {party} has something of the other's start, up to {np.nanmax(foreign[..., party]):g}"
            )
    if len(ISOLATED.get(kind, ())) == 2 and np.any(found.cross_kernel() != 0):
        said.append(f"{kind}: the kernel across heads is not 0")
    return said


def conclusion(rows: Sequence[Row], broken: Sequence[str]) -> list[str]:
    """What the numbers bear, a line per sense of the word."""
    by = {(row.intervention, row.context): row for row in rows}
    shared = [by["none", name] for name in CONTEXT_NAMES]
    ends = [estimate for row in shared for estimate in row.share]
    apart = [e.value for row in rows if len(ISOLATED.get(row.intervention, ())) == 2 for e in row.share]
    before = [estimate for row in shared for estimate in row.entropy_before]
    less = sum(
        after.high < start.low for row in shared for start, after in zip(row.entropy_before, row.entropy, strict=True)
    )
    more = sum(
        after.low > start.high for row in shared for start, after in zip(row.entropy_before, row.entropy, strict=True)
    )
    frozen = sum(
        still.low > end.high
        for row in shared
        for still, end in zip(by["frozen_trunk", row.context].entropy, row.entropy, strict=True)
    )
    return [
        "What must be exactly 0 is so of every member." if not broken else f"NOT AS MUST BE: {'; '.join(broken)}",
        f"Memory: with a shared layer heads come to a mean foreign share of {min(e.value for e in ends):.3f} to "
        f"{max(e.value for e in ends):.3f}; with a frozen layer or a layer per head, of at most {no_less(np.nanmax(apart), '.3f')}.",
        f"Functions: before any training the entropy is {min(e.value for e in before):.3f} to {max(e.value for e in before):.3f} ln 2, "
        f"above 0 in {sum(e.low > 0 for e in before)} of {len(before)}. Training through a shared layer lowers it in {less} of "
        f"{len(before)} and raises it in {more}; a frozen layer ends above a trained one in {frozen}.",
    ]


def draw(found: dict[str, ForeignShare], rows: Sequence[Row], gaussian: Estimate, out: Path) -> list[Path]:
    """Alice's foreign share along training in 11, and functions before and after by context."""
    lines: list[list[Any]] = []
    with new_figure(10.5, 3.8) as figure:
        left, right = figure.subplots(1, 2)
        for kind, (label, color, dash) in KINDS.items():
            of = found[kind]
            later = of.step >= 1
            for party, width in ((0, 1.8), (1, 0.8)):
                middle = np.nanmedian(of.share[:, 0, :, party], axis=0)
                left.plot(
                    of.step[later],
                    middle[later],
                    color=color,
                    linestyle=dash,
                    linewidth=width,
                    label=label if not party else None,
                )
                lines += [
                    [kind, "11", f"foreign share, {'AB'[party]}, median", *pair, "", ""]
                    for pair in zip(of.step, middle, strict=True)
                ]
        left.plot(
            [1],
            [0],
            marker="o",
            color=BLACK,
            markersize=5,
            clip_on=False,
            linestyle="none",
            label="exactly 0 at step 1",
        )
        left.set_xscale("log")
        left.set_ylim(-0.03, 1.03)
        left.set_xlabel("optimiser step")
        left.set_title("foreign share, median, context 11 (thick Alice, thin Bob)")
        places = np.arange(len(CONTEXT_NAMES))
        for number, (kind, (_, color, _)) in enumerate(KINDS.items()):
            own = [row for row in rows if row.intervention == kind]
            at = places + (number - 2) * 0.16
            start = [row.entropy_before[0] for row in own]
            points(right, at - 0.04, start, color="white", fmt="o", markersize=4)
            points(right, at + 0.04, [row.entropy[0] for row in own], color=color, fmt="s", markersize=4.5)
            for row in own:
                lines += [
                    [kind, row.context, f"entropy before, {n}", 0, *e[:3]]
                    for n, e in zip("AB", row.entropy_before, strict=True)
                ]
                lines += [
                    [kind, row.context, f"entropy, {n}", int(found[kind].step[-1]), *e[:3]]
                    for n, e in zip("AB", row.entropy, strict=True)
                ]
        lines.append(["", "", "entropy, independent Gaussian logits", "", *gaussian[:3]])
        right.axhline(gaussian.value, color="0.5", linestyle="--", linewidth=1)
        right.annotate(
            "independent Gaussian logits",
            (1, gaussian.value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
        )
        right.set_ylim(bottom=0)
        right.set_xticks(places, CONTEXT_NAMES)
        right.set_xlabel("context (white: before training)")
        right.set_title("entropy of Alice's function, in ln 2")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return save_figure(
            figure, out / "separability", ["intervention", "context", "quantity", "step", "value", "low", "high"], lines
        )


def printed(rows: Sequence[Row]) -> list[str]:
    """Two tables: memory and kernels, then functions."""
    memory = [
        [
            row.intervention,
            row.context,
            *map(str, row.share),
            *(f"{m:.3f}" for m in row.median),
            str(row.kernel_before),
            str(row.kernel),
        ]
        for row in rows
    ]
    functions = [[row.intervention, row.context, *map(str, (*row.entropy_before, *row.entropy))] for row in rows]
    head = ["intervention", "context"]
    return [
        *table([*head, "foreign share A", "B", "median A", "B", "cross kernel before", "after"], memory, indent=""),
        "",
        *table([*head, "entropy / ln 2 before, A", "B", "after, A", "B"], functions, indent=""),
    ]


class Information(NamedTuple):
    """Mutual information over members, of one unit's weights to Alice's head and to Bob's, in nats."""

    intervention: str
    context: str
    value: float
    chance: float  # mean over shuffles
    spread: float  # their standard deviation

    @property
    def above(self) -> bool:
        """More than chance gives."""
        return self.value > self.chance + 3 * self.spread


def ensemble_information(config: EnsembleConfig, devices: int | None) -> list[Information]:
    """Per context, of members in the executors' usual precision."""
    run = run_ensemble(config, devices=devices)
    networks = parameters(run, list(config.member_ids), devices=devices)
    random, said = np.random.default_rng(config.root_seed), []
    for name, (i, j) in zip(CONTEXT_NAMES, CONTEXTS, strict=True):
        heads = networks.head_kernel[:, i, j, :, 0]  # [M, party, units]
        fed = [np.flatnonzero(np.any(heads[:, party] != 0, axis=0))[0] for party in (0, 1)]
        alice, bob = heads[:, 0, fed[0]], heads[:, 1, fed[1]]
        good = np.isfinite(alice) & np.isfinite(bob)
        alice, bob = alice[good], bob[good]
        chance = [sample_information(alice, random.permutation(bob)) for _ in range(SHUFFLES)]
        value = sample_information(alice, bob)
        said.append(
            Information(config.intervention, name, value, float(np.mean(chance)), float(np.std(chance, ddof=1)))
        )
    return said


def ensembles_say(informations: Sequence[Information]) -> str:
    """What mutual information over members bears, in words."""
    by: dict[str, list[Information]] = {}
    for each in informations:
        by.setdefault(each.intervention, []).append(each)
    words = [
        f"{KINDS[kind][0]} {min(e.value for e in own):.3f} to {max(e.value for e in own):.3f} nats, above chance in "
        f"{sum(e.above for e in own)} of {len(own)}"
        for kind, own in by.items()
    ]
    return f"Ensembles: a unit's two output weights share {'; '.join(words)}."


def curvatures(found: dict[str, ForeignShare]) -> list[dict[str, Any]]:
    """Mean mutual information and entropy of entanglement in context 11 by intervention and ridge, at the start and at the end."""
    ends = {
        kind: each._replace(context=("11",), step=each.step[[0, -1]], vector=each.vector[:, :1, [0, -1]])
        for kind, each in found.items()
    }
    said = []
    for kind, each in ends.items():
        for ridge in RIDGES:
            before, after = np.nanmean(each.curvature_information(ridge)[:, 0], axis=0)
            start, end = np.nanmean(each.curvature_entanglement(ridge)[:, 0], axis=0)
            said.append(
                {"intervention": kind, "context": "11", "ridge": ridge, "before": float(before), "after": float(after)}
                | {"entanglement_before": float(start), "entanglement_after": float(end)}
            )
    return said


def gaussian_entropy(members: int, seed: int = 0) -> Estimate:
    """Mean entropy of 4 x 4 matrices of independent Gaussian numbers, in units of ln 2."""
    return mean(schmidt_entropy(np.random.default_rng(seed).normal(size=(members, 4, 4))) / math.log(2), 2.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with twins, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 128, "members per intervention")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--hidden", 3, "hidden units")
    add_number(parser, "--ensemble", 4_000, "members of whose weights the mutual information is estimated")
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/separability", "where the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    at_least("--steps", parsed.steps, 2)
    at_least("--ensemble", parsed.ensemble, 20)
    out = local_folder("--out", parsed.out)
    devices = device_count(parsed.devices)
    found, rows, broken, informations = {}, [], [], []
    for kind in KINDS:
        config = EnsembleConfig(
            hidden=parsed.hidden,
            members=parsed.members,
            steps=parsed.steps,
            root_seed=parsed.seed,
            precision="float64",
            intervention=kind,
        )
        found[kind] = foreign_share(config, moments(parsed.steps), devices=devices)
        rows += rows_of(kind, found[kind])
        broken += broken_promises(kind, found[kind])
        many = dataclasses.replace(config, members=parsed.ensemble, precision="float32")
        informations += ensemble_information(many, devices)
    # The same with twins ten times as far away: where shares differ, twins are no derivative.
    coarse = foreign_share(found["none"].config, moments(parsed.steps), devices=devices, apart=10 * APART)
    unresolved = (np.abs(coarse.share - found["none"].share) > MOVED).any(axis=-1)  # of either head
    moved = [clopper_pearson(int(each.sum()), each.size) for each in np.moveaxis(unresolved, 2, 0)]
    gaussian, curvature = gaussian_entropy(GAUSSIANS), curvatures(found)
    print(
        f"Separability, {counted(parsed.members, 'member')}, n = {parsed.hidden}, {counted(parsed.steps, 'step')}, 95 % intervals\n"
    )
    print("\n".join(printed(rows)))
    print(
        f"\nIndependent Gaussian logits: entropy {gaussian} ln 2. Members without a share: {sum(row.unfit for row in rows)}.\n"
    )
    late = [
        f"{step:,}: {share}" for step, share in zip(coarse.step, moved, strict=True) if step >= min(100, parsed.steps)
    ]
    print(
        f"Networks whose share moves by more than {MOVED} with twins ten times as far, shared layer, by step: {'; '.join(late)}\n"
    )
    numbers = ("before", "after", "entanglement_before", "entanglement_after")
    cells = [[c["intervention"], f"{c['ridge']:g}", *(f"{c[name]:.4f}" for name in numbers)] for c in curvature]
    head = ["curvature, context 11", "ridge", "I before (nats)", "I after", "entanglement before", "after"]
    print("\n".join(table(head, cells, indent="")) + "\n")
    cells = [
        [e.intervention, e.context, f"{e.value:.4f}", f"{e.chance:.4f}", f"{3 * e.spread:.4f}"] for e in informations
    ]
    head = ["over members", "context", "I of a unit's weights (nats)", "shuffled", "three spreads"]
    print("\n".join(table(head, cells, indent="")))
    said = [*conclusion(rows, broken), ensembles_say(informations)]
    print("\n" + "\n".join(said))
    draw(found, rows, gaussian, out)
    description = {"members": parsed.members, "steps": parsed.steps, "hidden": parsed.hidden, "seed": parsed.seed}
    write_json(
        out / "separability.json",
        description
        | {"rows": rows, "gaussian_entropy": gaussian, "curvature": curvature, "informations": informations}
        | {"ensemble": parsed.ensemble, "moved": moved, "conclusion": said},
    )


if __name__ == "__main__":
    main()
