"""Random solutions: how much of figure 2 is training, and how much the shape of the set of networks that get so much right.

Question. Training moves a network from its initial law to few wrong answers. Take random networks of that law that have as few wrong answers,
found without training. Are their S, Delta and margins those of trained ones? What they share is the shape of the set, and what
they do not share is training (the question of Chiang et al., ICLR 2023, who guess and check).

Command. `python -m experiments.random_solutions --out runs/random-solutions`; for the numbers of docs/capacity.md
`--guesses 10000000000 --steps-of-walks 1000000000`. Each width is kept, and a run that was stopped goes on with the next.

Time. Four widths x (10,000 trained members, 10^8 guesses, 2 x 10^8 steps of walks in each of 4 contexts): 2 min 13 s of processor time, so
half of that on two free cores; 6 min 20 s by the clock where many other programs used them.

Expected. (Before the run.) (1) Guesses and walks agree wherever guesses find anything. (2) A random network solves context 11
in about one of 10^6, 12 and 21 in one of 10^9 or fewer, and 22 rarer still, at any width; so training multiplies by 10^5 at
least. Widths that cannot solve a context (docs/capacity.md) show no solution. (3) Given as many wrong answers, S should be near that of trained
networks, within 0.2, since S follows accuracies (docs/results.md: 1.79 against 1.72 from accuracies alone). What remains is where the
errors fall, on the same rows or on different ones. (4) Delta above 0 needs four imperfect contexts, so random networks with many errors
may have it, and as many errors as trained ones have leave little room. (5) Margins of random solutions are tens of times smaller, as
their weights have the initial scale; over the size of their own logits they should still be smaller, since loss pushes the
smallest logit up.

How. Both heads' wrong answers of a context are w = 0 to 32. Trained networks give the law of w under a protocol. Random ones give the
law of tables given w. "Matched" is the second weighted by the first: random networks with the trained number of wrong answers. As a control, in "scattered" the
same number of answers is wrong anywhere, as if no network had given them.
Contexts are independent, so S has the convolution of four laws. Delta and influence are of 200,000 drawn quadruples. Intervals are of 95 %: the jackknife over 32
groups of trained members and 32 of random ones, each widened for outcomes that none of its networks has, errors added as independent. Of
random ones as many count as walks made round trips, in the context with fewest.

Writes into the folder: random_solutions.png, .svg, .pdf, .csv and random_solutions.json, and random-N.npz per width.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from experiments.shared.random_networks import (
    KINDS,
    NAMES,
    PROTOCOLS,
    Margin,
    Solved,
    Statistics,
    kept,
    margins_of,
    solved_of,
    statistics_of,
)
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import no_less, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.outcomes import Outcomes
from ncsim.terminal import Progress

COLOURS = dict(zip(NAMES, (BLUE, GREEN, ORANGE, VERMILLION), strict=True))
#: How a solved share was found, and how it is drawn; and how far from the place of its context, so that no interval hides another.
LEGEND = (("trained", "s"), ("walked", "o"), ("guessed", "x"))
SHIFTS = {"trained": 0.0, "walked": -0.04, "guessed": 0.04}


def number(value: float) -> str:
    """Three digits, however small."""
    return f"{value:.3g}"


def interval(estimate: Estimate) -> str:
    """Value and limits to three digits, or the upper limit alone."""
    if estimate.value == 0:
        return f"0 (at most {no_less(estimate.high, '.3g')})" if estimate.high < 1 else "none found"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def told_apart(one: Estimate, other: Estimate) -> str:
    """Whether two intervals meet."""
    return "apart" if other.low > one.high or other.high < one.low else "not told apart"


def conclusion(solved: Sequence[Solved], rows: Sequence[Statistics]) -> list[str]:
    """What the numbers bear."""
    compared = [row for row in solved if row.compared_at >= 0 and math.isfinite(row.apart)]
    agree = [row for row in compared if abs(row.apart) < 3]
    by = {(row.hidden, row.kind, row.protocol): row for row in rows}
    said = [f"Walks and guesses agree within three standard errors in {len(agree)} of {len(compared)}."]
    for protocol in PROTOCOLS:
        for hidden in sorted({row.hidden for row in rows}):
            trained, *others = (by[hidden, kind, protocol.label].mean_s for kind in KINDS[:3])
            words = [f"{interval(each)} ({told_apart(trained, each)})" for each in others]
            said.append(
                f"n = {hidden}, {protocol.label}: mean S {interval(trained)}; of random networks with as many wrong answers {words[0]}; "
                f"with these anywhere {words[1]}."
            )
    return said


def printed(solved: Sequence[Solved], rows: Sequence[Statistics], margins: Sequence[Margin]) -> list[str]:
    """Three tables."""
    first = [
        [
            str(r.hidden),
            r.context,
            interval(r.trained),
            interval(r.guessed),
            interval(r.walked),
            "yes" if r.converged else "no",
            f"{r.round_trips:,}",
            f"{r.apart:+.1f} at w <= {r.compared_at}",
        ]
        for r in solved
    ]
    second = [
        [
            str(r.hidden),
            r.protocol,
            r.kind,
            interval(r.mean_s),
            interval(r.above_2),
            f"{r.delta:.3f}",
            interval(r.positive),
            f"{r.influence:.3f}",
            number(r.uncovered),
        ]
        for r in rows
    ]
    third = [[str(m.hidden), m.context, *map(number, m[2:6]), *map(str, m[6:])] for m in margins]
    return [
        *table(
            ["n", "context", "trained, solved", "guesses", "walks", "converged", "round trips", "walks less guesses"],
            first,
            indent="",
        ),
        "",
        *table(
            ["n", "protocol", "networks", "mean S", "P(S > 2)", "mean Delta", "P(Delta > 0)", "influence", "uncovered"],
            second,
            indent="",
        ),
        "",
        *table(
            ["n", "context", "margin, trained", "random", "relative, trained", "random", "networks", "random"],
            third,
            indent="",
        ),
    ]


def draw(solved: Sequence[Solved], rows: Sequence[Statistics], out: Path) -> list[Path]:
    """How often a context is solved, and mean S by width and kind."""
    widths = sorted({row.hidden for row in rows})
    lines: list[list[Any]] = []
    with new_figure(11, 4.2) as figure:
        left, *others = figure.subplots(1, 3)
        for (name, color), place in zip(COLOURS.items(), (-0.3, -0.1, 0.1, 0.3), strict=True):
            for kind, mark in LEGEND:
                own = [(r.hidden, getattr(r, kind)) for r in solved if r.context == name and getattr(r, kind).low > 0]
                if not own:
                    continue
                at, estimates = zip(*own, strict=True)
                style: Any = {"markeredgecolor": BLACK, "markersize": 9, "zorder": 5} if mark == "x" else {}
                points(
                    left,
                    [widths.index(h) + place + SHIFTS[kind] for h in at],
                    estimates,
                    color=color,
                    fmt=mark,
                    **style,
                )
                lines += [[h, name, kind, e.value, e.low, e.high] for h, e in own]
        left.set_yscale("log")
        left.set_title("probability that a context is solved")
        for axis, protocol in zip(others, PROTOCOLS, strict=True):
            for place, (kind, color, mark) in enumerate(zip(KINDS[:3], (BLUE, VERMILLION, ORANGE), "sod", strict=True)):
                own = [(r.hidden, r.mean_s) for r in rows if r.kind == kind and r.protocol == protocol.label]
                if own:
                    at, estimates = zip(*own, strict=True)
                    label = {"matched": "random, as many wrong", "scattered": "as many wrong, anywhere"}.get(kind, kind)
                    points(
                        axis,
                        [widths.index(h) + 0.1 * (place - 1) for h in at],
                        estimates,
                        color=color,
                        fmt=mark,
                        label=label,
                        linestyle="-",
                        linewidth=0.8,
                    )
                    lines += [[h, protocol.label, kind, e.value, e.low, e.high] for h, e in own]
            axis.axhline(2, color="0.5", linewidth=0.8, linestyle="--")
            axis.set_title(f"mean S, {protocol.label}", fontsize=9)
        for axis in (left, *others):
            axis.set_xticks(range(len(widths)), list(map(str, widths)))
            axis.set_xlim(-0.5, len(widths) - 0.5)
            axis.set_xlabel("hidden units n")
        others[0].legend(fontsize=8)
        marks = [left.plot([], [], color=BLACK, marker=mark, linestyle="none", label=kind)[0] for kind, mark in LEGEND]
        colours = [
            left.plot([], [], color=c, marker="s", linestyle="none", label=f"context {n}")[0]
            for n, c in COLOURS.items()
        ]
        figure.legend(handles=[*colours, *marks], loc="outside lower center", ncols=7, fontsize=8)
        return save_figure(figure, out / "random_solutions", ["n", "of", "kind", "value", "low", "high"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, draw, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 10_000, "trained members per width")
    add_number(parser, "--steps", 3_000, "optimiser steps")
    add_number(parser, "--guesses", 10**8, "networks to guess per width")
    add_number(parser, "--steps-of-walks", 2 * 10**8, "steps of the walks per width and context")
    add_widths(parser, 2, 3, 4, 6)
    add_place(parser, "runs/random-solutions", "where the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 64)
    for flag, value in (("--guesses", parsed.guesses), ("--steps-of-walks", parsed.steps_of_walks)):
        at_least(flag, value, 1000)
    each_once("--widths", parsed.widths)
    out = local_folder("--out", parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    solved, rows, margins = [], [], []
    for hidden in parsed.widths:
        config = EnsembleConfig(hidden=hidden, members=parsed.members, steps=parsed.steps)
        run = run_ensemble(config, out / f"trained-{hidden}", devices=device_count(parsed.devices), progress=Progress())
        outcomes = Outcomes(run.batches(), config)
        guesses, walks = (
            kept(out, config, parsed.guesses, "guess"),
            kept(out, config, parsed.steps_of_walks, "multicanonical"),
        )
        solved += solved_of(outcomes, guesses, walks)
        rows += statistics_of(outcomes, walks)
        margins += margins_of(run, walks)
    said = conclusion(solved, rows)
    print("\n".join([*printed(solved, rows, margins), "", *said]))
    figures = draw(solved, rows, out)
    write_json(
        out / "random_solutions.json", {"solved": solved, "statistics": rows, "margins": margins, "conclusion": said}
    )
    print(f"Figure: {figures[0]}")


if __name__ == "__main__":
    main()
