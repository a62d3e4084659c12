"""Grand canonical: how many hidden units does a pair of tasks buy at a price, and what is S then?

Question. arXiv:2012.05082 gives neurons a chemical potential: networks exchange them with a reservoir. Here `hidden` is then no option
but an outcome. How wide are networks in each context at a chemical potential mu, how many of them are solved, and what is S?

Command. `python -m experiments.grand_canonical --out runs/grand-canonical`

Time. Four minutes and 18 seconds of processor time, so under three minutes on two free cores; a quarter of an hour by the clock where many
other programs used them. With a quarter of the proposals chains have not forgotten their start (docs/seeds.md).

Expected. Without a loss the width is Poisson's. At inverse temperature 4, by a reference of another implementation: 0.49 units in context 11
and 0.40 in 22 at mu = 0, 2.2 and 1.6 at z = 4; a unit of the reservoir costs more than it gains, and more where tasks are harder,
and nearly nothing is solved, so S is near 0. At 16 chains without tempering do not reach equilibrium. With it, 11 should be wide and often
solved, 22 narrow and not. Mean width must rise with mu in each context, for its slope is a variance.

Rule. A width is printed only where two routes agree: chains that exchange units, and chains of fixed widths (by acceptance ratio, or by stepping
stones where they are tempered). Chains begin empty and full in turn, and must not differ by it. Where a rule fails for a context, there is
no number of it, and none of S.

Control. The free energy of hidden states of a feed-forward network is ln Z = (N / 2) ln(2 pi / beta), whatever its weights
(`hidden_free_energy`, by quadrature). So a chemical potential of hidden states would have nothing of learning in it. Here the energy is
the loss.

Writes into the folder: grand_canonical.png, .svg, .pdf, .csv and grand_canonical.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.cli.reservoir import described, lines
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names
from ncsim.ensemble.reservoir import Reservoir, reservoir
from ncsim.report.figures import BLACK, CONTEXT_MARKS, new_figure, save_figure

#: ln z at which both ensembles are looked at.
PRICES = (-1.0, 0.0, math.log(4))
#: Inverse temperature, temperatures of tempering.
ENSEMBLES = ((4.0, 1), (16.0, 8))


def hidden_free_energy(kernel: np.ndarray, bias: np.ndarray, beta: float, points: int = 121) -> float:
    """Z of the hidden states x of a feed-forward network, H = |x - tanh(w x + b)|^2 / 2 with strictly triangular w: (2 pi / beta)^(N/2),
    since x -> x - tanh(w x + b) has Jacobian 1. By the trapezium rule, which is exact to rounding for such functions."""
    reach = 1 + 7 / math.sqrt(beta)
    axis = np.linspace(-reach, reach, points)
    states = np.stack(np.meshgrid(*[axis] * len(bias), indexing="ij"), axis=-1)
    energy = ((states - np.tanh(states @ kernel.T + bias)) ** 2).sum(axis=-1) / 2
    return float(np.exp(-beta * energy).sum() * (axis[1] - axis[0]) ** len(bias))


def conclusion(found: Sequence[Reservoir]) -> list[str]:
    """What the numbers bear, a line per ensemble."""
    said = []
    for each in found:
        routes, s = each.routes(), each.s()
        good = [all(not route.problem for route in contexts) for contexts in routes]
        agreed = sum(not route.problem for contexts in routes for route in contexts)
        narrower = [
            contexts[3].chains.high < contexts[0].chains.low
            for contexts in routes
            if not (contexts[0].problem or contexts[3].problem)
        ]
        free = each.free_energy()
        values = [s[place] for place, fine in enumerate(good) if fine]
        worth = ", ".join(
            f"{name} has no number"
            if math.isnan(row[1])
            else f"{name} {'gains' if row[1] < row[0] else 'costs'} {abs(row[1] - row[0]):.2f}"
            for name, row in zip(context_names(), free, strict=True)
        )
        said.append(
            f"beta {each.inverse_temperature:g}: routes agree in {agreed} of {4 * len(routes)}. The first unit: {worth} nats. Context 22 is "
            f"narrower than 11 at {sum(narrower)} of {len(narrower)} prices. "
            + (
                f"Mean S is {min(e.value for e in values):.3f} to {max(e.value for e in values):.3f}."
                if values
                else "No S."
            )
        )
    return said


def draw(found: Sequence[Reservoir], out: Path) -> list[Path]:
    """Mean width, share solved and S against the price, where routes agree."""
    rows: list[list[Any]] = []
    with new_figure(10.8, 5.6) as figure:
        axes = figure.subplots(len(found), 3, squeeze=False)
        for each, (wide, solved, s) in zip(found, axes, strict=True):
            beta, routes, shares = each.inverse_temperature, each.routes(), each.solved_share()
            at = beta * each.chemical_potential
            for number, (name, (color, mark)) in enumerate(zip(context_names(), CONTEXT_MARKS, strict=True)):
                fine = [place for place in range(len(at)) if not routes[place][number].problem]
                for axis, values in (
                    (wide, [routes[place][number].chains for place in fine]),
                    (solved, [shares[place][number] for place in fine]),
                ):
                    points(axis, at[fine] + (number - 1.5) * 0.04, values, color=color, fmt=mark, label=name)
                    rows += [
                        [
                            beta,
                            "width" if axis is wide else "solved",
                            name,
                            at[place],
                            value.value,
                            value.low,
                            value.high,
                        ]
                        for place, value in zip(fine, values, strict=True)
                    ]
            good = [place for place in range(len(at)) if all(not route.problem for route in routes[place])]
            found_s = {place: each.s()[place] for place in good}
            points(s, at[good], list(found_s.values()), color=BLACK, fmt="o")
            rows += [[beta, "S", "all", at[place], *e[:3]] for place, e in found_s.items()]
            s.axhline(2, color="0.6", linestyle="--", linewidth=1)
            bottom, top = (e.low - 0.1 for e in found_s.values()), (e.high + 0.1 for e in found_s.values())
            s.set_ylim(min([-0.5, *bottom]), max([2.3, *top]))
            for axis, title in ((wide, "mean width"), (solved, "share solved"), (s, "mean S")):
                axis.set_title(f"{title}, β = {beta:g}")
                axis.set_xlim(at.min() - 0.3, at.max() + 0.3)
                axis.set_xlabel("ln z = β μ")
        axes[0][0].legend(title="context", fontsize=7, title_fontsize=7)
        return save_figure(
            figure, out / "grand_canonical", ["beta", "quantity", "context", "ln_z", "value", "low", "high"], rows
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Sample both ensembles, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--chains", 128, "chains per context and price")
    add_number(parser, "--steps", 16_000, "proposals per chain")
    add_number(parser, "--max-hidden", 10, "units at most")
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/grand-canonical", "where the figure and the numbers go (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--chains", parsed.chains, 8)
    at_least("--steps", parsed.steps, 100)
    out = local_folder("--out", parsed.out)
    devices = device_count(parsed.devices)
    found = [
        reservoir(
            [price / beta for price in PRICES],
            beta,
            parsed.max_hidden,
            parsed.chains,
            parsed.steps,
            temperatures=temperatures,
            config=EnsembleConfig(root_seed=parsed.seed),
            devices=devices,
        )
        for beta, temperatures in ENSEMBLES
    ]
    said = conclusion(found)
    print("\n".join([line for each in found for line in [*lines(each), ""]] + said))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "grand_canonical.json", {"ensembles": [described(each) for each in found], "said": said})
    draw(found, out)


if __name__ == "__main__":
    main()
