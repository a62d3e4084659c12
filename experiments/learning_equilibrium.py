"""Learning equilibrium: is the entropy that noise produces the entropy that learning destroys, and where is that no identity?

Question. arXiv:2004.09280 (section 8) calls it learning equilibrium when production, D <|grad ln p|^2>, and destruction,
gamma <lap F>, are equal. For a stationary density of gradient learning with white noise that is an identity. Does it hold of sampled
members, does it hold for Adam with the same noise, and how much entropy do ncsim's own networks lose under plain `sgd`, where
nothing produces any?

Command. `python -m experiments.learning_equilibrium --out runs/learning-equilibrium`

Time. Three quarters of a minute of processor time.

Expected. A parabola follows its closed form. In a double well with noise both rates agree once the density is stationary. For Adam they
do not, since what destroys there is not gamma lap F. For networks of ReLU units the Laplacian of the loss, where it
exists, is a sum of squares (`smooth_laplacian`): it can only destroy. But the gradient of ReLU units jumps where a unit switches on or off
for a row. There the Laplacian has a delta function, so that <lap L> over members is not all of dS/dt. Where the flow points to a kink
from both sides, it stays on it: what was a volume becomes a surface, and entropy is lost without bound. So there should be no number
for all of it. How many members meet such a kink was not known before a pilot of 64, where nearly all did.

What cannot be simulated. An ensemble whose members are constrained to a stationary production of entropy, as arXiv:2008.01540 asks, is
a postulate about members that know of each other. No learning algorithm of single networks does it, so nothing here measures it.

Limits. Destruction of networks is by the gradient flow's formulas along steps of `sgd`; a step is short where results do not change when it
is doubled, and both are printed. Kinks are looked for between steps. For Adam no such count is given: its state has moments besides the parameters.

Writes into the folder: learning_equilibrium.png, .svg, .pdf, .csv and learning_equilibrium.json.
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
    at_least,
    local_folder,
    root_seed,
    run_experiment,
    write_json,
)
from experiments.shared.figures import points
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names, context_targets, encoded_inputs
from ncsim.executors.own_programs import own_programs
from ncsim.formatting import table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.statistics.bootstrap import FEWEST_MEMBERS, bootstrap_mean
from ncsim.statistics.hydrodynamics import EntropyBalance, entropy_balance, fitted_log_density
from ncsim.statistics.intervals import Estimate, clopper_pearson, mean_reach

GRID = np.linspace(-3.2, 3.2, 641)
#: Noise of the double well, and its step of time.
NOISE, STEP = 0.3, 0.01
#: Times at which the parabola is looked at, and its setting: gamma k, D and the variance at the start.
TIMES, PARABOLA = (0.5, 2.0, 8.0), (0.5, 0.2, 2.0)
#: Learning time of the networks: steps times learning rate.
LEARNT = 100.0


def parabola(time: float) -> EntropyBalance:
    """Rates of a Gaussian in F = k q^2 / 2 in closed form."""
    pull, noise, start = PARABOLA
    variance = noise / pull + (start - noise / pull) * math.exp(-2 * pull * time)
    return EntropyBalance(noise / variance, -pull, noise / variance - pull)


class Balance(NamedTuple):
    """A stationary ensemble in one trainable number: rates over ensembles of members."""

    optimizer: str
    production: Estimate
    destruction: Estimate
    share: Estimate  # production over destruction, 1 in equilibrium


def stationary(optimizer: str, members: int, ensembles: int, seed: int) -> Balance:
    """Members in the double well (q^2 - 1)^2 / 4 after a long time; "adam" has Adam's step and the same noise."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(ensembles):
        q = rng.normal(0, 1, members)
        first, second = np.zeros(members), np.zeros(members)
        for number in range(1, 1_501):
            slope = q**3 - q
            if optimizer == "adam":
                first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
                slope = first / (1 - 0.9**number) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
            q = q - STEP * slope + math.sqrt(2 * NOISE * STEP) * rng.standard_normal(members)
        grid = np.linspace(min(q.min(), GRID[0]), max(q.max(), GRID[-1]), len(GRID))
        balance = entropy_balance(grid, fitted_log_density(q, grid), 3 * grid**2 - 1, NOISE, 1.0)
        found.append((balance.production, -balance.destruction, -balance.production / balance.destruction))
    return Balance(optimizer, *(_over_ensembles(np.array(column)) for column in zip(*found, strict=True)))


def _over_ensembles(values: np.ndarray) -> Estimate:
    from scipy.special import stdtrit

    reach = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(
        float(values.mean()), float(values.mean()) - reach, float(values.mean()) + reach, "t over ensembles"
    )


def smooth_laplacian(q: Any, rows: np.ndarray, answers: np.ndarray, hidden: int, xp: Any) -> tuple[Any, Any, Any, Any]:
    """Of one network q [P, *L]: the gradient of the loss, its Laplacian where it exists, and for each unit and row the pre-activation
    [H, R, *L] and its speed without and with that row's own term, [2, H, R, *L].

    A logit is linear in each parameter alone, so its own Laplacian is 0 but at kinks; what is left is
    sum of sigma' |grad logit|^2 / R over rows and heads."""
    count, features = rows.shape
    lanes = q.shape[1:]
    ends = np.cumsum([features * hidden, hidden, 2 * hidden])
    kernel, bias = q[: ends[0]].reshape(features, hidden, *lanes), q[ends[0] : ends[1]]
    heads, offsets = q[ends[1] : ends[2]].reshape(2, hidden, *lanes), q[ends[2] :]
    before = xp.einsum("rf,fh...->hr...", rows, kernel) + bias[:, None]
    on = before > 0
    active = xp.where(on, before, 0)
    logit = xp.einsum("kh...,hr...->kr...", heads, active) + offsets[:, None]
    right = 1 / (1 + xp.exp(-logit))
    pull = (right - answers.T.reshape(2, count, *[1] * len(lanes))) / count  # of each logit
    back = xp.einsum("kr...,kh...->hr...", pull, heads)
    through = xp.where(on, back, 0)
    gradient = xp.concatenate(
        [
            xp.einsum("hr...,rf->fh...", through, rows).reshape(features * hidden, *lanes),
            through.sum(axis=1),
            xp.einsum("kr...,hr...->kh...", pull, active).reshape(2 * hidden, *lanes),
            pull.sum(axis=1),
        ]
    )
    size = (rows**2).sum(axis=1) + 1  # |x|^2 + 1
    sizes = size.reshape(1, count, *[1] * len(lanes))
    squares = 1 + (active**2).sum(axis=0) + xp.einsum("kh...,hr...->kr...", heads**2, xp.where(on, sizes, 0.0))
    laplacian = (right * (1 - right) / count * squares).sum(axis=(0, 1))
    overlap = rows @ rows.T + 1
    speed = -xp.einsum("rs,hs...->hr...", overlap, through)
    own = -sizes * back
    without = xp.where(on, speed - own, speed)
    return gradient, laplacian, before, xp.stack([without, without + own])


def destroyed(config: EnsembleConfig, context: int, rate: float, marks: Sequence[int]) -> dict[str, np.ndarray]:
    """Along plain `sgd`, by the number of steps, float64[mark, M]: "smooth", the entropy destroyed in nats where the loss is smooth, and
    "stuck", how often a kink was met that the flow does not cross, since both sides push to it."""
    import jax
    import jax.numpy as jnp

    from ncsim.training.initialization import root_key, start_vector

    rows = encoded_inputs(config.tasks, config.encoding)
    answers = context_targets(config.tasks)[context]
    with own_programs(), jax.enable_x64(True):
        root = root_key(config.root_seed)
        members = jnp.arange(config.members, dtype=jnp.uint32)
        start = jax.vmap(lambda m: start_vector(config, root, m, jnp.uint32(context)), out_axes=-1)(members)

        def one(_: Any, carried: tuple[Any, ...]) -> tuple[Any, ...]:
            q, smooth, stuck = carried
            gradient, laplacian, before, speed = smooth_laplacian(q, rows, answers, config.hidden, jnp)
            q = q - rate * gradient
            features = rows.shape[1]
            kernel = q[: features * config.hidden].reshape(features, config.hidden, -1)
            behind = jnp.einsum("rf,fh...->hr...", rows, kernel) + q[features * config.hidden :][: config.hidden, None]
            crossed = (before > 0) != (behind > 0)
            stops = (
                crossed & (speed[0] > 0) & (speed[1] < 0)
            )  # towards the kink where the unit is off, and where it is on
            return q, smooth + rate * laplacian, stuck + stops.sum(axis=(0, 1))

        run = jax.jit(lambda carried, steps: jax.lax.fori_loop(0, steps, one, carried))
        zero = jnp.zeros(config.members)
        carried, done, found = (start.astype(jnp.float64), zero, zero), 0, []
        for mark in marks:
            carried, done = run(carried, mark - done), mark
            found.append([np.asarray(each) for each in carried[1:]])
    return {name: np.array([each[place] for each in found]) for place, name in enumerate(("smooth", "stuck"))}


def mean(values: np.ndarray) -> Estimate:
    """Mean over members of what is at least 0, and nobody knows how large at most. A bootstrap of few members reaches no further than the
    values that they have, so that their interval holds Student's, too."""
    found = bootstrap_mean(values, support=(max(float(values.min()) - 1e-9, 0.0), float(values.max()) + 1e-9))
    if len(values) >= FEWEST_MEMBERS:
        return found
    reach = float(mean_reach(values.std(ddof=1) / math.sqrt(len(values)), len(values)))
    low, high = min(found.low, max(found.value - reach, 0.0)), max(found.high, found.value + reach)
    return Estimate(found.value, low, high, "bootstrap and Student's t over members, the wider limits")


def met(stuck: np.ndarray) -> Estimate:
    """Share of members that met a kink which the flow does not cross."""
    return clopper_pearson(int((stuck > 0).sum()), len(stuck))


def conclusion(balances: Sequence[Balance], lost: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """What the numbers bear."""
    said = []
    for balance in balances:
        holds = balance.share.low <= 1 <= balance.share.high
        close = abs(balance.share.value - 1) < 0.02
        said.append(
            f"Production over destruction, {balance.optimizer}: {balance.share}; "
            + (
                "equal within the interval."
                if holds
                else "equal to 2 %, not within the interval."
                if close
                else "NOT equal."
            )
        )
    for name, each in lost.items():
        smooth, stuck = mean(each["smooth"][-1]), met(each["stuck"][-1])
        bound = "a number of what is lost in all is not given" if stuck.low > 0 else "NONE met"
        said.append(
            f"Networks, context {name}: {smooth} nats destroyed where the loss is smooth. A share of {stuck} of members met a kink that "
            f"the flow does not cross; {bound}."
        )
    return said


def draw(lost: dict[str, dict[str, np.ndarray]], marks: Sequence[int], rate: float, out: Path) -> list[Path]:
    """Balance of the parabola against time, and entropy destroyed along training."""
    rows: list[list[Any]] = []
    with new_figure(10.8, 3.5) as figure:
        left, right, last = figure.subplots(1, 3)
        time = np.linspace(0, 8, 161)
        balance = [parabola(t) for t in time]
        for label, color, dash, values in (
            ("production", BLUE, "-", [b.production for b in balance]),
            ("destruction", VERMILLION, "--", [b.destruction for b in balance]),
            ("dS/dt", BLACK, ":", [b.rate for b in balance]),
        ):
            left.plot(time, values, dash, color=color, label=label)
            rows += [["parabola", label, t, v, "", ""] for t, v in zip(time, values, strict=True)]
        left.set_xlabel("time")
        left.set_ylabel("nats per unit of time")
        left.set_title("parabola with noise")
        left.legend()
        for (name, each), color in zip(lost.items(), (BLUE, GREEN, ORANGE, VERMILLION), strict=False):
            at = rate * np.array(marks)
            smooth, stuck = [mean(v) for v in each["smooth"]], [met(v) for v in each["stuck"]]
            style: dict[str, Any] = {"color": color, "fmt": "o-", "markersize": 4}
            points(right, at, smooth, label=f"context {name}", **style)
            points(last, at, stuck, **style)
            for quantity, found in (("smooth", smooth), ("met a kink", stuck)):
                rows += [[name, quantity, t, *e[:3]] for t, e in zip(at, found, strict=True)]
        for axis in (right, last):
            axis.set_ylim(bottom=0)
            axis.set_xlabel("steps times learning rate")
        right.set_title("nats destroyed where smooth, sgd")
        right.legend()
        last.set_title("met a kink that the flow does not cross")
        return save_figure(
            figure, out / "learning_equilibrium", ["panel", "quantity", "time", "value", "low", "high"], rows
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the balances and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 128, "networks")
    add_number(parser, "--samples", 20_000, "members of an ensemble in the double well")
    add_number(parser, "--ensembles", 6, "such ensembles")
    add_number(parser, "--seed", 0, "root seed")
    add_place(parser, "runs/learning-equilibrium", "where the figure and the numbers go (default: {})", None)


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    at_least("--samples", parsed.samples, 100)
    at_least("--ensembles", parsed.ensembles, 2)
    root_seed("--seed", parsed.seed)
    out = local_folder("--out", parsed.out)
    balances = [stationary(name, parsed.samples, parsed.ensembles, parsed.seed) for name in ("gradient", "adam")]
    config = EnsembleConfig(members=parsed.members, root_seed=parsed.seed, precision="float64", optimizer="sgd")
    rate, names = 0.02, context_names()
    marks = [round(part * LEARNT / rate) for part in (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]
    lost = {names[context]: destroyed(config, context, rate, marks) for context in (0, 3)}
    coarse = destroyed(config, 0, 2 * rate, [marks[-1] // 2])
    said = conclusion(balances, lost)
    rows = [[f"parabola, t = {time:g}", *(f"{value:.4f}" for value in parabola(time))] for time in TIMES]
    rows += [
        [f"double well, {b.optimizer}", str(b.production), f"-({b.destruction})", f"ratio {b.share}"] for b in balances
    ]
    print("\n".join(table(["ensemble", "production", "destruction", "dS/dt"], rows, indent="")))
    twice = {
        "nats where smooth": (mean(coarse["smooth"][-1]), mean(lost["11"]["smooth"][-1])),
        "met a kink": (met(coarse["stuck"][-1]), met(lost["11"]["stuck"][-1])),
    }
    print("", *said, sep="\n")
    for kind, (long, short) in twice.items():
        print(f"With steps twice as long, context 11, {kind}: {long} in place of {short}.")
    out.mkdir(parents=True, exist_ok=True)
    numbers = {
        name: {"smooth": [mean(v) for v in each["smooth"]], "met": [met(v) for v in each["stuck"]]}
        for name, each in lost.items()
    }
    write_json(
        out / "learning_equilibrium.json",
        {
            "balances": balances,
            "marks": marks,
            "rate": rate,
            "destroyed": numbers,
            "twice_as_long": twice,
            "said": said,
        },
    )
    draw(lost, marks, rate, out)


if __name__ == "__main__":
    main()
