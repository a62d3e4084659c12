"""Gradient competition: how much do the two heads' gradients conflict, and does conflict foretell a context that fails?

Question. Section 4.3 of arXiv:2603.04451 explains S > 2 by gradient competition: a shared hidden neuron receives conflicting
gradients, which "induces oscillations in the loss functions associated with the top-layer neurons, impeding convergence",
and which is inevitable where neurons are too few. How often do the gradients conflict, by context and width and along
training? Do networks with more of it end unsolved more often, and do their losses oscillate more?

Command. `python -m experiments.gradient_competition --members 4000 --out runs/gradient-competition`

Time. Four widths x 4,000 members x 4 contexts x 3,000 steps, recorded every 25: about half a minute on two
cores, most of it compiling.

Expected. If the explanation holds: conflict falls with width, is largest in context 22, networks that conflict more are
unsolved more often (AUC above 0.5, odds ratio above 1), and their losses oscillate more. None of it came out: see
docs/mechanism.md. Where the sum of both losses is stationary the heads' gradients in the layer are opposite by
necessity.

Writes into the folder: gradient_competition.png, .svg, .pdf, .csv and gradient_competition.json.
"""

from __future__ import annotations

import argparse
import math
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
from experiments.shared.figures import points
from experiments.shared.members import watched
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.config.tasks import context_names
from ncsim.formatting import counted, table
from ncsim.report.figures import BLACK, CONTEXT_MARKS, new_figure, save_figure
from ncsim.statistics.intervals import Estimate, clopper_pearson, mean_over_members, unseen_share
from ncsim.statistics.loss_traces import auc_between, oscillation

EVERY = 25
#: Where conflict is read to foretell the end, as shares of training: past the first moves, before most are done.
WINDOW = (0.05, 0.25)
CONTEXT_NAMES = context_names()
DASHES = ("-", "--", "-.", ":")
QUINTILES = 5


class Observed(NamedTuple):
    """One width: what was seen of M members' four networks."""

    step: np.ndarray  # [R]
    conflict: np.ndarray  # [R, 4]: share of networks whose gradients conflict
    neurons: np.ndarray  # [R, 4]: mean share of neurons in conflict
    overall: np.ndarray  # [M, 4]: share of all recorded steps in conflict
    share: np.ndarray  # [M, 4]: share of the window's recorded steps in conflict
    cosine: np.ndarray  # [M, 4]: mean cosine over the window
    loss: np.ndarray  # [M, 4]: both heads' loss at the end of the window
    rough: np.ndarray  # [M, 4]: share of recorded differences of the summed loss that change sign, over all of training
    unsolved: np.ndarray  # bool[M, 4]: at the end


class Row(NamedTuple):
    """One width and context in numbers."""

    width: int
    context: str
    unsolved: Estimate
    conflict: Estimate  # share of recorded steps, over all training
    foretold: Estimate  # AUC of the window's conflict for ending unsolved
    foretold_by_cosine: Estimate  # AUC of the window's mean cosine, lower for unsolved
    foretold_by_loss: Estimate  # AUC of the loss at the window's end
    odds_ratio: Estimate  # of ending unsolved, networks above against not above the median of conflict
    rough: Estimate  # Spearman's correlation of the window's conflict with sign changes of the loss


def window_of(step: np.ndarray) -> tuple[int, int]:
    """Places of the first and the last recorded step in the window, of steps that end with training."""
    begins, ends = (share * step[-1] for share in WINDOW)
    return int(np.searchsorted(step, begins, "left")), int(np.searchsorted(step, ends, "right")) - 1


def observe(config: EnsembleConfig, devices: int | None = None) -> Observed:
    """Train one width and read off what is asked."""
    per_member: dict[str, list[np.ndarray]] = {
        name: [] for name in ("overall", "share", "cosine", "loss", "rough", "unsolved")
    }
    conflict: Any = 0.0
    neurons: Any = 0.0
    step = np.zeros(0)
    for part in watched(config, Recording(spacing="every", every=EVERY), devices):
        step = part.step
        first, last = window_of(step)
        window = slice(first, last + 1)
        cosine, losses = part.value("cosine"), part.value("loss_alice") + part.value("loss_bob")
        conflict = conflict + (cosine < 0).sum(axis=0)
        neurons = neurons + part.value("neurons_in_conflict").sum(axis=0)
        even = np.moveaxis(losses[:, step % EVERY == 0], 1, -1)
        per_member["rough"].append(oscillation(even).sign_changes / (even.shape[-1] - 2))
        per_member["overall"].append((cosine < 0).mean(axis=1))
        per_member["share"].append((cosine[:, window] < 0).mean(axis=1))
        per_member["cosine"].append(cosine[:, window].mean(axis=1))
        per_member["loss"].append(losses[:, last])
        per_member["unsolved"].append(part.counts[:, -1, :, 3] < config.tasks.rows)
    joined = {name: np.concatenate(parts) for name, parts in per_member.items()}
    return Observed(step=step, conflict=conflict / config.members, neurons=neurons / config.members, **joined)


def rows_of(width: int, seen: Observed) -> list[Row]:
    """The numbers of one width, a row a context."""
    found = []
    for context, name in enumerate(CONTEXT_NAMES):
        unsolved, share = seen.unsolved[:, context], seen.share[:, context]
        members = len(unsolved)

        def auc(score: np.ndarray, unsolved: np.ndarray = unsolved) -> Estimate:
            return auc_between(score[~unsolved], score[unsolved])

        found.append(
            Row(
                width,
                name,
                clopper_pearson(int(unsolved.sum()), members),
                mean_over_members(seen.overall[:, context], (0.0, 1.0)),
                auc(share),
                auc(-seen.cosine[:, context]),
                auc(seen.loss[:, context]),
                odds_ratio(share > np.median(share), unsolved),
                spearman(share, seen.rough[:, context]),
            )
        )
    return found


def odds_ratio(exposed: np.ndarray, event: np.ndarray) -> Estimate:
    """Odds of the event where exposed over those where not; Woolf's 95 % interval, a half added to each cell (Haldane).
    NaN where all are exposed or none, or the event befalls all or none."""
    if len(np.unique(exposed)) < 2 or len(np.unique(event)) < 2:
        return Estimate(math.nan, math.nan, math.nan, "no variation")
    cells = [np.sum(e & v) + 0.5 for e in (exposed, ~exposed) for v in (event, ~event)]
    logarithm = math.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    reach = 1.96 * math.sqrt(sum(1 / cell for cell in cells))
    value, low, high = (math.exp(logarithm + sign * reach) for sign in (0, -1, 1))
    return Estimate(value, low, high, "Woolf with Haldane's correction")


def spearman(one: np.ndarray, other: np.ndarray) -> Estimate:
    """Spearman's rank correlation; Fisher's z with Bonett and Wright's error. NaN where either is constant."""
    from scipy.stats import rankdata

    if np.ptp(one) == 0 or np.ptp(other) == 0 or len(one) < 5:
        return Estimate(math.nan, -1.0, 1.0, "no variation")
    value = float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
    if abs(value) > 1 - 1e-12:
        # Without an exception among so many, one in a share of 1 - tail^(1/M) of them may have been missed.
        low = 1 - 2 * unseen_share(len(one), 1, 0.95)
        ends = (value, value * low)
        return Estimate(value, min(ends), max(ends), "no exception seen")
    z = math.atanh(value)
    reach = 1.96 * math.sqrt((1 + value**2 / 2) / (len(one) - 3))
    return Estimate(value, math.tanh(z - reach), math.tanh(z + reach), "Fisher's z, Bonett-Wright")


def quintiles(share: np.ndarray, unsolved: np.ndarray) -> list[tuple[float, Estimate]]:
    """Mean conflict and the share unsolved in fifths of the networks by conflict, least first; ties stay together."""
    edges = np.unique(np.quantile(share, np.linspace(0, 1, QUINTILES + 1)[1:-1]))
    place = np.searchsorted(edges, share, "left")
    groups = [place == group for group in range(len(edges) + 1)]
    return [
        (float(share[group].mean()), clopper_pearson(int(unsolved[group].sum()), int(group.sum())))
        for group in groups
        if group.any()
    ]


def printed(found: Sequence[Row]) -> list[str]:
    """A row a width and context."""
    header = [
        "n", "context", "unsolved", "steps in conflict", "AUC: conflict", "AUC: -cosine", "AUC: loss then",
        "odds ratio", "conflict and roughness",
    ]  # fmt: skip
    return table(header, [[str(row.width), *map(str, row[1:])] for row in found], indent="")


def conclusion(found: Sequence[Row]) -> str:
    """In how many contexts what was expected holds, by the intervals."""
    judged = [row for row in found if 0 < row.unsolved.value < 1]
    above = sum(row.foretold.low > 0.5 for row in judged)
    below = sum(row.foretold.high < 0.5 for row in judged)
    rough = [row for row in found if not math.isnan(row.rough.value)]
    return (
        f"Of {len(judged)} ensembles with both solved and unsolved networks, those with more conflict end unsolved more often "
        f"in {above}, less often in {below}; conflict foretells more than the loss at the same step in "
        f"{sum(row.foretold.low > row.foretold_by_loss.high for row in judged)}. Losses are rougher with more conflict in "
        f"{sum(row.rough.low > 0 for row in rough)} of {len(rough)}, smoother in {sum(row.rough.high < 0 for row in rough)}."
    )


def draw(seen: dict[int, Observed], stem: Path) -> list[Path]:
    """A column a width: conflict along training above, and below the share unsolved by conflict."""
    rows: list[list[Any]] = []
    with new_figure(2.6 * len(seen) + 0.8, 5.2) as figure:
        axes = figure.subplots(2, len(seen), sharey="row", squeeze=False)
        for column, (width, of) in enumerate(seen.items()):
            for context, (name, (color, mark), line) in enumerate(
                zip(CONTEXT_NAMES, CONTEXT_MARKS, DASHES, strict=True)
            ):
                axes[0, column].plot(
                    of.step, of.conflict[:, context], color=color, linestyle=line, marker=mark, markevery=15, markersize=4,
                    linewidth=1.3, label=f"context {name}", markeredgecolor=BLACK, markeredgewidth=0.4,
                )  # fmt: skip
                rows += [
                    [width, name, "share in conflict", s, v, "", ""]
                    for s, v in zip(of.step, of.conflict[:, context], strict=True)
                ]
                groups = quintiles(of.share[:, context], of.unsolved[:, context])
                places, estimates = zip(*groups, strict=True)
                points(
                    axes[1, column], places, estimates, color=color, linestyle=line, marker=mark, markersize=4.5, linewidth=1.1,
                    markeredgewidth=0.4,
                )  # fmt: skip
                rows += [[width, name, "share unsolved", p, e.value, e.low, e.high] for p, e in groups]
            axes[0, column].set_title(f"n = {width}")
            axes[0, column].set_xlabel("optimiser step")
            axes[1, column].set_xlabel("conflict in the window")
            axes[0, column].axvspan(*(of.step[place] for place in window_of(of.step)), color="0.92", zorder=0)
        axes[0, 0].set_ylabel("networks in conflict")
        axes[1, 0].set_ylabel("unsolved at the end")
        axes[0, 0].set_ylim(-0.03, 1.03)
        axes[1, 0].set_ylim(-0.03, 1.03)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return save_figure(figure, stem, ["n", "context", "quantity", "step_or_conflict", "value", "low", "high"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read off, draw and print."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 4_000, "members per width")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_widths(parser, 2, 3, 4, 6)
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/gradient-competition", "folder for what is written")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--steps", parsed.steps, 20 * EVERY)
    each_once("--widths", parsed.widths)
    out = local_folder("--out", parsed.out)
    devices = device_count(parsed.devices)
    configs = [
        EnsembleConfig(hidden=width, members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
        for width in parsed.widths
    ]
    seen = {config.hidden: observe(config, devices) for config in configs}
    found = [row for width, of in seen.items() for row in rows_of(width, of)]
    draw(seen, out / "gradient_competition")
    step = next(iter(seen.values())).step
    window = [int(step[place]) for place in window_of(step)]
    description = {
        "members": parsed.members,
        "steps": parsed.steps,
        "every": EVERY,
        "seed": parsed.seed,
        "window": window,
    }
    write_json(out / "gradient_competition.json", description | {"rows": found})
    print(
        f"Gradient competition, {counted(parsed.members, 'member')} per width, {counted(parsed.steps, 'step')}, 95 % intervals; conflict of steps "
        f"{window[0]:g} to {window[1]:g}, against what is unsolved at the end\n"
    )
    print("\n".join(printed(found)))
    print(f"\n{conclusion(found)}")


if __name__ == "__main__":
    main()
