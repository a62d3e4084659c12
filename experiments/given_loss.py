"""Random solutions given a loss: networks of the initial law with as small a loss as trained ones have on their way.

Question. `experiments.random_solutions` takes random networks with as many wrong answers as trained ones have. Training does not see
wrong answers, it sees the loss. Draw networks from the initial law given that their loss is below a bound, and look at trained ones when
theirs first is: have they the same S? (The question of Chiang et al., ICLR 2023, at equal loss.)

Command. `python -m experiments.given_loss --out runs/given-loss`

Time. Two initial laws at n = 3, four contexts, 8 x 256 particles each, and twice 2,000 recorded members: a minute and a half of processor
time; five minutes by the clock on two cores that many other programs used. What was found is kept, and a run that was stopped goes on.

Expected. (Before the run, after a pilot of contexts 11 and 22 at n = 3.) With the uniform law a loss of 0.9 of chance has a probability of
3e-5 in context 11, and below 0.8 nothing is found: weights of the initial size have small logits. So "equal loss" ends early in training.
Normal weights (He) go further. Given the loss, S should be nearer to that of trained networks than given nothing (0), and not equal: at one loss
a trained network has some answers sure and others undecided, and a random one all of them unsure.

Checked. Probabilities above 10^-4 against guesses of the same law.

Writes into the folder: given_loss.png, .svg, .pdf, .csv and given_loss.json; recorded runs below it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

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
from experiments.shared.given_loss import POPULATIONS, Given, Passed, guessed, kept_below, passed
from experiments.shared.random_networks import NAMES, drawn_contextuality
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import table
from ncsim.report.figures import BLUE, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate
from ncsim.terminal import Progress

CHANCE = 2 * math.log(2)
#: Bounds of the loss, as parts of chance.
PARTS = (0.99, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
LAWS = ("uniform", "he")
STYLES = {"uniform": "-", "he": ":"}
#: How far marks of one bound stand apart in the figure, so that none hides another's interval.
SHIFT = 0.002
MARKS = {2: "o", 3: "s", 4: "d"}


class Row(NamedTuple):
    """One context at one bound."""

    law: str
    hidden: int
    context: str
    part: float
    probability: Estimate
    guessed: Estimate | None
    trained: Estimate  # share that ever is below
    step: float  # of training, median
    losses: tuple[float, float]  # means over chance, trained and random
    wrong: tuple[float, float]
    unequal: tuple[float, float]


class Together(NamedTuple):
    """S at one bound, where all four contexts have networks of both kinds."""

    law: str
    hidden: int
    part: float
    trained: Estimate
    random: Estimate
    delta: tuple[float, float]
    positive: tuple[int, int]  # of 200,000 drawn quadruples each


def wrong_of(cells: np.ndarray) -> np.ndarray:
    """Wrong answers of both heads."""
    return np.asarray(cells @ [2, 1, 1, 0])


def unequal_of(cells: np.ndarray) -> np.ndarray:
    """k, the rows on which exactly one head is right."""
    return np.asarray(cells[..., 1] + cells[..., 2])


def mean_s(ks: Sequence[np.ndarray], rows: int) -> Estimate:
    """Mean S of four contexts from k of independent units, whose errors add: members [N], or populations' means [P]."""
    signs = np.array([-1, -1, -1, 1])
    value = 2 + 2 / rows * float(sum(sign * k.mean() for sign, k in zip(signs, ks, strict=True)))
    error = 2 / rows * math.sqrt(sum(k.var(ddof=1) / len(k) for k in ks))
    reach = float(stdtrit(min(map(len, ks)) - 1, 0.975)) * error
    return Estimate(value, max(value - reach, -4.0), min(value + reach, 4.0), "Student's t, errors of contexts added")


def row_of(config: EnsembleConfig, context: int, part: float, given: Given, met: Passed, guess: Estimate | None) -> Row:
    """In numbers."""
    pairs = [
        (float(f(met.cells).mean()) if len(met.cells) else math.nan, float(f(given.cells).mean()))
        for f in (wrong_of, unequal_of)
    ]
    losses = (float(met.loss.mean() / CHANCE) if len(met.loss) else math.nan, float(given.loss.mean() / CHANCE))
    name = config.initialization, config.hidden, NAMES[context], part
    return Row(*name, given.probability, guess, met.share, met.step, losses, pairs[0], pairs[1])


def together(config: EnsembleConfig, part: float, random: Sequence[Given], trained: Sequence[Passed]) -> Together:
    """S of both kinds at one bound."""
    rows = config.tasks.rows
    laws = [
        [(cells.reshape(-1, 4), np.full(cells[..., 0].size, 1 / cells[..., 0].size)) for cells in kind]
        for kind in ([each.cells for each in trained], [each.cells for each in random])
    ]
    deltas = [drawn_contextuality(law, rows)[0] for law in laws]
    return Together(
        config.initialization,
        config.hidden,
        part,
        mean_s([unequal_of(each.cells) for each in trained], rows),
        mean_s([unequal_of(each.cells).mean(axis=1) for each in random], rows),
        (float(deltas[0].mean()), float(deltas[1].mean())),
        (int((deltas[0] > 0).sum()), int((deltas[1] > 0).sum())),
    )


def number(value: float) -> str:
    """Three digits, however small."""
    return f"{value:.3g}"


def interval(estimate: Estimate | None) -> str:
    """Value and limits to three digits."""
    return "" if estimate is None else f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def printed(rows: Sequence[Row], both: Sequence[Together]) -> list[str]:
    """Two tables."""
    first = [
        [
            *map(str, row[:4]),
            interval(row.probability),
            interval(row.guessed),
            interval(row.trained),
            number(row.step),
            *(f"{pair[0]:.3f}, {pair[1]:.3f}" for pair in row[8:]),
        ]
        for row in rows
    ]
    second = [
        [
            *map(str, each[:3]),
            str(each.trained),
            str(each.random),
            f"{each.delta[0]:.3f}, {each.delta[1]:.3f}",
            f"{each.positive[0]}, {each.positive[1]}",
        ]
        for each in both
    ]
    head = ["law", "n", "context", "loss below", "random", "guesses", "trained", "step"]
    return [
        *table([*head, "loss: trained, random", "wrong answers", "k"], first, indent=""),
        "",
        *table(
            ["law", "n", "loss below", "S, trained", "S, random", "Delta", "Delta > 0 of 200,000"], second, indent=""
        ),
    ]


def conclusion(rows: Sequence[Row], both: Sequence[Together]) -> list[str]:
    """What the numbers bear."""
    compared = [row for row in rows if row.guessed is not None]
    agree = [row for row in compared if row.guessed is not None and _meet(row.guessed, row.probability)]
    told = [each for each in both if not _meet(each.trained, each.random)]
    gaps = [each.random.value - each.trained.value for each in both]
    said = [f"Subset simulation and guesses have intervals that meet in {len(agree)} of {len(compared)}."]
    if both:
        said.append(
            f"At equal loss S of random networks differs from that of trained ones by {min(gaps):+.3f} to {max(gaps):+.3f}; intervals are apart in "
            f"{len(told)} of {len(both)}."
        )
    return said


def _meet(one: Estimate, other: Estimate) -> bool:
    return one.low <= other.high and other.low <= one.high


def draw(rows: Sequence[Row], both: Sequence[Together], out: Path) -> list[Path]:
    """Probabilities of losses at the middle width, and S of both kinds by loss."""
    lines: list[list[Any]] = []
    with new_figure(11, 4) as figure:
        left, *axes = figure.subplots(1, 1 + len(LAWS))
        width = sorted({row.hidden for row in rows})[len({row.hidden for row in rows}) // 2]
        for law in LAWS:
            for context, color in (("11", BLUE), ("22", VERMILLION)):
                own = [row for row in rows if (row.law, row.hidden, row.context) == (law, width, context)]
                label = f"context {context}, {law}"
                estimates = [row.probability for row in own]
                shift = SHIFT * (2 * LAWS.index(law) + (context == "22") - 1.5)
                at = [row.part + shift for row in own]
                points(left, at, estimates, color=color, fmt=".", linestyle=STYLES[law], label=label)
                what = f"P(loss below), context {context}"
                lines += [[law, width, row.part, what, *row.probability[:3]] for row in own]
        left.set_yscale("log")
        left.set_title(f"P(loss below), initial law, n = {width}")
        figure.legend(handles=left.get_legend_handles_labels()[0], loc="outside lower left", ncols=4, fontsize=8)
        for axis, law in zip(axes, LAWS, strict=True):
            series = 0
            for hidden in sorted({each.hidden for each in both}):
                own_s = [each for each in both if (each.law, each.hidden) == (law, hidden)]
                for kind, color in (("trained", BLUE), ("random", VERMILLION)):
                    mark: dict[str, Any] = {
                        "color": color,
                        "fmt": MARKS.get(hidden, "x"),
                        "linestyle": "-",
                        "linewidth": 0.8,
                    }
                    estimates = [getattr(each, kind) for each in own_s]
                    at = [each.part + SHIFT * (series - 0.5) for each in own_s]
                    series += 1
                    points(axis, at, estimates, label=f"{kind}, n = {hidden}", **mark)
                    lines += [
                        [law, hidden, each.part, f"S, {kind}", e.value, e.low, e.high]
                        for each, e in zip(own_s, estimates, strict=True)
                    ]
            axis.set_title(f"mean S at equal loss, {law}")
            legend(axis, fontsize=8)
        for axis in (left, *axes):
            axis.set_xlabel("loss below, over chance")
            axis.invert_xaxis()
        return save_figure(
            figure, out / "given_loss", ["law", "n", "loss below", "quantity", "value", "low", "high"], lines
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, draw, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 2_000, "trained members per width and law")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--particles", 256, f"particles of each of {POPULATIONS} populations")
    add_number(parser, "--guesses", 200_000, "networks to guess, per context")
    add_widths(parser, 3)
    add_place(parser, "runs/given-loss", "where the figure, the numbers and the recorded runs go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 64)
    at_least("--particles", parsed.particles, 64)
    at_least("--guesses", parsed.guesses, 1)
    each_once("--widths", parsed.widths)
    out = local_folder("--out", parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    both: list[Together] = []
    for law in LAWS:
        for hidden in parsed.widths:
            config = EnsembleConfig(hidden=hidden, initialization=law, members=parsed.members, steps=parsed.steps)
            own, shared = compared(config, parsed, out)
            rows, both = rows + own, both + shared
    said = conclusion(rows, both)
    print("\n".join([*printed(rows, both), "", *said]))
    figures = draw(rows, both, out)
    write_json(out / "given_loss.json", {"rows": rows, "together": both, "conclusion": said})
    print(f"Figure: {figures[0]}")


def compared(config: EnsembleConfig, parsed: argparse.Namespace, out: Path) -> tuple[list[Row], list[Together]]:
    """One width and law: rows of all contexts, and S where all of them have networks of both kinds."""
    place = out / f"{config.initialization}-{config.hidden}"
    recording = Recording(points=200, spacing="logarithmic")
    run = run_ensemble(config, place, devices=device_count(parsed.devices), recording=recording, progress=Progress())
    bounds = [part * CHANCE for part in PARTS]
    random = [kept_below(place, config, context, bounds, parsed.particles) for context in range(4)]
    trained = [[passed(run, context, bound) for bound in bounds] for context in range(4)]
    rows, both = [], []
    for place_of, part in enumerate(PARTS):
        there = [context for context in range(4) if place_of < len(random[context])]
        for context in there:
            given, met = random[context][place_of], trained[context][place_of]
            guess = guessed(config, context, given.bound, parsed.guesses) if given.probability.value > 1e-4 else None
            rows.append(row_of(config, context, part, given, met, guess))
        met_by_all = [trained[context][place_of] for context in there]
        if len(there) == 4 and all(len(each.loss) > 1 for each in met_by_all):
            both.append(together(config, part, [random[context][place_of] for context in there], met_by_all))
    return rows, both


if __name__ == "__main__":
    main()
