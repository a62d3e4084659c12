"""Madelung: does the density of what an ensemble has learned obey Schroedinger's equation, and does hbar come from a chemical potential?

Question. arXiv:2012.05082 derives a Schroedinger equation for the weights of neural networks that exchange neurons with a reservoir, with
hbar = mu / 2 pi (our reading: the phase is defined modulo the chemical potential). Madelung's form of it is a fluid with
A = -W' + kappa G and kappa = hbar^2 / 2 m^2 above 0, one constant for all times and starts. Which kappa does an ensemble show that
learns by a gradient with noise, without noise, with momentum, with noise that changes, or with a neuron exchanged? And what is the
circulation of the drift, which should be quantised?

Command. `python -m experiments.madelung --out runs/madelung`

Time. 54 seconds of processor time; four minutes by the clock on two cores that many other programs used.

Expected. Derived (`ncsim/statistics/hydrodynamics.py`): gradient learning with white noise of one strength D has kappa = -2 D^2
exactly, which is Schroedinger's equation in imaginary time, and 0 without noise. So the claim should fail for independent
learners, whatever is learned. A learning rate that changes should not matter, noise that grows should: for Gaussian packets
kappa = -2 D^2 + 2 s^2 D', above 0 at a warm-up. Momentum should give a pressure of positive sign at first and -2 D^2 late.
With a neuron exchanged fast there should be one fluid with -2 D^2, and with one exchanged slowly no single fluid, at any mu.
Circulation should be 0 for the plain gradient and spread continuously where heads' gradients are stopped or projected. It should
be 0 as well for the gradient of the grand potential of networks with 0 to 4 units: a sum over the number of units is single-valued, so
nothing is defined modulo mu (holonomy).

Controls. A Schroedinger packet, whose kappa is +2 D^2, goes through the same estimator. The ensemble without noise must give 0. The
plain gradient's circulation says how far from 0 quadrature leaves it.

Writes into the folder: madelung.png, .svg, .pdf, .csv and madelung.json.
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
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.formatting import no_less, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.statistics.grand_canonical import grand_potential
from ncsim.statistics.hydrodynamics import Fluid, circulation, fitted_log_density, fluid
from ncsim.statistics.hydrodynamics import madelung as madelung_of
from ncsim.statistics.momentum import momentum_kappa

#: Grid of the trainable number, and the step between the five densities.
GRID = np.linspace(-2.6, 2.6, 261)
STEP = 0.01
#: That of densities in closed form.
SHORT = 1e-3
#: That of samples: chance moves what is fitted at each time, and its difference is divided by this. It costs 0.8 % of kappa.
WIDE = 0.1
#: Where both ensembles start: mean and variance.
STARTS = ((-0.3, 0.1), (0.8, 0.15))
#: Points around a loop, and how many times as many are taken to see what quadrature leaves.
POINTS, FINER = 500, 10
#: Drifts that are gradients of one function.
SINGLE_VALUED = ("none", "reservoir")
INTERVENTIONS = ("none", "stop_gradient_bob", "pcgrad")


class Finer(NamedTuple):
    """Largest circulation of a gradient over some loops, which is quadrature's error: with POINTS, and FINER times as many."""

    drift: str
    coarse: float
    fine: float


class Case(NamedTuple):
    """One case in numbers."""

    case: str
    scale: float  # D, or what stands for it
    kappa: float
    reach: float  # of the 95 % interval to either side, Student's t over ensembles; 0 where densities are exact
    expected: float  # kappa; NaN where none is derived
    residual: float


def loss(q: np.ndarray, neurons: int = 1) -> np.ndarray:
    """Of y = n q^2 x against y = x: (n q^2 - 1)^2 / 4, with two minima."""
    return (neurons * q**2 - 1) ** 2 / 4


def packets(spread: Any, times: Sequence[float], step: float) -> list[Fluid]:
    """Free Gaussian packets at each time on a wide grid; `spread` gives the variance."""
    found = []
    for time in times:
        variance = np.array([spread(time + k * step) for k in (-2, -1, 0, 1, 2)])[:, None]
        grid = math.sqrt(float(variance[2, 0])) * np.linspace(-6, 6, 1201)
        found.append(fluid(grid, -(grid**2) / (2 * variance), step))
    return found


def own_slope(packet: Fluid) -> float:
    """kappa of one packet where no potential is: the slope of A on G."""
    there = packet.density > 1e-3 * packet.density.max()
    force, acceleration = packet.quantum_force[there], packet.acceleration[there]
    return float(force @ acceleration / (force @ force))


def free_cases(scale: float = 0.2) -> list[Case]:
    """Packets whose kappa = 2 s^3 s'' is known in closed form, as the estimator finds it."""
    cases = []
    for name, spread, expected in (
        ("diffusion", lambda t: 1 + 2 * scale * t, -2 * scale**2),
        ("Schroedinger's equation", lambda t: 1 + (scale * t) ** 2, 2 * scale**2),
        ("no noise", lambda t: 1.0, 0.0),
    ):
        (packet,) = packets(spread, (1.0,), STEP)
        cases.append(Case(f"free packet, {name}", scale, own_slope(packet), 0.0, expected, 0.0))
    for time in (0.1, 1.0, 10.0):
        packet = packets(lambda t: 1 + 2 * (t - 1 + math.exp(-t)), (time,), STEP)[0]
        cases.append(Case(f"momentum, t = {time:g}", 1.0, own_slope(packet), 0.0, momentum_kappa(time), 0.0))
    # D(t) = D (1 + t): s^2 = 1 + 2 D (t + t^2 / 2), and kappa = -2 D(t)^2 + 2 s^2 D'.
    (packet,) = packets(lambda t: 1 + 2 * scale * (t + t**2 / 2), (0.5,), STEP)
    strength, square = scale * 1.5, 1 + 2 * scale * 0.625
    expected = -2 * strength**2 + 2 * square * scale
    cases.append(Case("noise that grows, t = 0.5", strength, own_slope(packet), 0.0, expected, 0.0))
    return cases


def rates(potentials: np.ndarray, diffusion: float, exchange: float = 0.0) -> np.ndarray:
    """Rates of a walk on the grid that has these potentials' equilibrium exactly, [n G, n G]; from the second axis to the first.
    `exchange`: of jumps between potentials, to each with the share that it has in equilibrium."""
    count, points = potentials.shape
    width = GRID[1] - GRID[0]
    found = np.zeros((count * points,) * 2)
    share = np.exp(-(potentials - potentials.min(axis=0)) / diffusion)
    share = share / share.sum(axis=0)
    place = np.arange(points)
    for number, potential in enumerate(potentials):
        here = number * points + place
        rise = np.diff(potential) / (2 * diffusion)
        found[here[1:], here[:-1]] = diffusion / width**2 * np.exp(-rise)
        found[here[:-1], here[1:]] = diffusion / width**2 * np.exp(rise)
        for other in range(count):
            if other != number:
                found[other * points + place, here] = exchange * share[other]
    return found - np.diag(found.sum(axis=0))


def exact_densities(potentials: np.ndarray, diffusion: float, time: float, exchange: float = 0.0) -> list[np.ndarray]:
    """ln p at the five times around `time`, of both starts: float64[5, G] each. Marginal over neurons."""
    from scipy.linalg import expm

    onwards = expm(rates(potentials, diffusion, exchange) * STEP)
    states = np.stack(
        [np.tile(np.exp(-((GRID - mean) ** 2) / (2 * variance)), len(potentials)) for mean, variance in STARTS], axis=1
    )
    kept = []
    for number in range(1, round(time / STEP) + 3):
        states = onwards @ states
        if number >= round(time / STEP) - 2:
            kept.append(states.T.reshape(2, len(potentials), len(GRID)).sum(axis=1))
    return [np.log(start) for start in np.stack(kept, axis=1)]


def grid_case(name: str, potentials: np.ndarray, diffusion: float, exchange: float = 0.0, time: float = 0.5) -> Case:
    """kappa of two ensembles whose densities are computed."""
    pair = [fluid(GRID, logs, STEP) for logs in exact_densities(potentials, diffusion, time, exchange)]
    found = madelung_of(pair[0], pair[1])
    return Case(name, diffusion, found.kappa, 0.0, -2 * diffusion**2, found.residual)


def flowed(q: np.ndarray, time: float) -> np.ndarray:
    """Where dq/dt = -(q^3 - q) brings q in a time, which may be below 0: u = q^2 obeys a logistic equation."""
    growth = math.exp(2 * time)
    return np.asarray(q * math.sqrt(growth) / np.sqrt(1 + q**2 * (growth - 1)))


def without_noise(time: float = 0.3) -> Case:
    """kappa of two ensembles that follow the gradient exactly: densities are carried along."""
    grid, pair = np.linspace(-1.45, 1.45, 2901), []  # which the whole line flows into
    for mean, variance in STARTS:
        logs = []
        for k in (-2, -1, 0, 1, 2):
            growth = math.exp(-2 * (time + k * SHORT))
            start = flowed(grid, -(time + k * SHORT))
            stretch = 0.5 * math.log(growth) - 1.5 * np.log(1 + grid**2 * (growth - 1))
            logs.append(-((start - mean) ** 2) / (2 * variance) + stretch)
        pair.append(fluid(grid, np.array(logs), SHORT))
    return Case("double well, no noise", 0.0, madelung_of(pair[0], pair[1]).kappa, 0.0, 0.0, math.nan)


def sampled(diffusion: float, members: int, ensembles: int, seed: int, time: float = 0.5) -> tuple[Case, list[float]]:
    """kappa of members that learn by small steps with noise, and of each ensemble alone. Chance is in the force as well as in the
    acceleration, so that few members make kappa smaller, which no interval over ensembles knows of."""
    from scipy.special import stdtrit

    rng, slopes, residuals = np.random.default_rng(seed), [], []
    kept = [round((time + k * WIDE) / STEP) for k in (-2, -1, 0, 1, 2)]
    for _ in range(ensembles):
        pair = []
        for mean, variance in STARTS:
            q = rng.normal(mean, math.sqrt(variance), members).astype(np.float32)
            logs = []
            for number in range(1, kept[-1] + 1):
                noise = rng.standard_normal(members, np.float32)
                q += (q - q**3) * np.float32(STEP) + noise * np.float32(math.sqrt(2 * diffusion * STEP))
                if number in kept:
                    logs.append(fitted_log_density(q[np.abs(q) < GRID[-1]], GRID))
            pair.append(fluid(GRID, np.array(logs), WIDE))
        found = madelung_of(pair[0], pair[1], thin=0.05)
        slopes.append(found.kappa)
        residuals.append(found.residual)
    reach = float(stdtrit(ensembles - 1, 0.975) * np.std(slopes, ddof=1) / math.sqrt(ensembles))
    name = f"double well, {ensembles} x {members:,} members"
    return Case(name, diffusion, float(np.mean(slopes)), reach, -2 * diffusion**2, float(np.mean(residuals))), slopes


def circles(size: int, loops: int, points: int, seed: int) -> np.ndarray:
    """Random circles of radius 1 in so many parameters, [loops, points, size]."""
    # Two streams, so that the first loops are the same however many there are.
    middle = np.random.default_rng([seed, 0]).normal(0, 0.5, (loops, 1, size))
    plane = np.linalg.qr(np.random.default_rng([seed, 1]).normal(size=(loops, size, 2)))[0]
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    return np.asarray(middle + np.stack([np.cos(angle), np.sin(angle)], axis=1)[None] @ np.swapaxes(plane, 1, 2))


def circulations(
    loops: int, points: int, seed: int, kinds: Sequence[str] = (*INTERVENTIONS, "adam", "reservoir")
) -> dict[str, np.ndarray]:
    """Circulation of what a network of three units is given by `sgd`, around random circles in its parameters, context 11; the loss's own
    unit is nats. Of Adam's first step, which is nearly the sign of the gradient, too; and of minus the gradient of the grand potential of
    networks that may have 0 to 4 units, at z = 1 and inverse temperature 4: its holonomy."""
    import jax
    import jax.numpy as jnp

    from ncsim.training.gradients import gradient
    from ncsim.training.network import Architecture

    answers, size = context_targets(EnsembleConfig().tasks)[0], Architecture.of(EnsembleConfig()).size
    around, found = circles(size, loops, points, seed), {}
    with jax.enable_x64(True):
        for kind in (each for each in kinds if each != "reservoir"):
            config = EnsembleConfig(intervention="none" if kind == "adam" else kind, precision="float64")
            program = jax.jit(lambda q, config=config: gradient(config, q, jnp.asarray(answers)))

            def drift(q: np.ndarray, program: Any = program, kind: str = kind) -> np.ndarray:
                towards = -np.asarray(program(q.T)).T
                return np.asarray(towards / (np.abs(towards) + 1e-8)) if kind == "adam" else towards

            found[kind] = circulation(drift, around)
        if "reservoir" in kinds:
            found["reservoir"] = circulation(reservoir_drift(4, answers), circles(28, loops, points, seed))
    return found


def reservoir_drift(most: int, answers: np.ndarray) -> Any:
    """Minus the gradient of the grand potential, of points [N, most units x 7] in float64."""
    import jax
    import jax.numpy as jnp

    from ncsim.training.reservoir import network_units

    units = network_units(EnsembleConfig())

    def potential(q: Any) -> Any:
        total = jnp.zeros((*units.outputs, 1))
        losses = [jnp.broadcast_to(units.loss(total, jnp.asarray(answers)), q.shape[1:])]
        for unit in jnp.split(q, most):
            total = total + units.response(unit)
            losses.append(units.loss(total, jnp.asarray(answers)))
        return grand_potential(jnp.stack(losses, axis=-1), 0.0, 4.0).sum()

    program = jax.jit(jax.grad(potential))
    return lambda q: -np.asarray(program(q.T)).T


def conclusion(cases: Sequence[Case], turned: dict[str, np.ndarray], finer: Sequence[Finer] = ()) -> list[str]:
    """What the numbers bear, a line per claim. `finer`: of gradients with more points."""
    wells = [case for case in cases if case.case.startswith("double well") and case.scale > 0]
    worst = max(abs(case.kappa / case.expected - 1) for case in wells if not case.reach)
    noisy = [case for case in wells if case.reach]
    exchanged = [case for case in cases if case.case.startswith("neuron")]
    zero = {kind: float(np.abs(turned[kind]).max()) for kind in SINGLE_VALUED}
    spread = {kind: float(np.std(values)) for kind, values in turned.items() if kind not in SINGLE_VALUED}
    return [
        f"Schroedinger's equation: kappa = -2 D^2 to {no_less(worst, '.1%')} where densities are exact"
        + "".join(f", and {case.kappa / case.scale**2:.2f}{_limits(case)} D^2 of samples" for case in noisy)
        + ". "
        + _of_sign(wells),
        f"hbar = mu / 2 pi: with a neuron exchanged kappa is {min(c.kappa / c.scale**2 for c in exchanged):.2f} to "
        f"{max(c.kappa / c.scale**2 for c in exchanged):.2f} D^2, "
        + ("below 0 at every mu and rate" if all(c.kappa < 0 for c in exchanged) else "NOT below 0 everywhere")
        + f"; up to {no_less(max(c.residual for c in exchanged), '.0%')} of the force is not of this form.",
        f"Circulation: at most {no_less(zero['none'], '.1e')} for the gradient and {no_less(zero['reservoir'], '.1e')} for that of the grand potential"
        + "".join(
            f"; on a fifth of the loops {FINER} times as many points make {e.coarse:.1e} into {e.fine:.1e} ({e.drift})"
            for e in finer
        )
        + "; spread "
        + ", ".join(f"{value:.3f} ({kind})" for kind, value in spread.items())
        + ", without steps.",
    ]


def _of_sign(wells: Sequence[Case]) -> str:
    """What intervals bear of kappa's sign."""
    if all(case.kappa + case.reach < 0 for case in wells):
        return "Its sign is wrong for the claim."
    if any(case.kappa - case.reach > 0 for case in wells):
        return "NOT of one sign."
    return "So few samples do not tell its sign."


def draw(cases: Sequence[Case], pair: Sequence[Fluid], turned: dict[str, np.ndarray], out: Path) -> list[Path]:
    """The slope that is kappa, kappa by case, and circulation."""
    rows: list[list[Any]] = []
    with new_figure(10.8, 3.9) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1))
        there = (pair[0].density > 0.02 * pair[0].density.max()) & (pair[1].density > 0.02 * pair[1].density.max())
        force = (pair[0].quantum_force - pair[1].quantum_force)[there]
        acceleration = (pair[0].acceleration - pair[1].acceleration)[there]
        left.plot(force, acceleration, ".", color=BLUE, markersize=4, label="double well, D = 0.3")
        reach = np.array([force.min(), force.max()])
        for sign, dash in ((-1, "-"), (0, ":"), (1, "--")):
            left.plot(
                reach,
                sign * 2 * 0.09 * reach,
                dash,
                color=BLACK,
                linewidth=1,
                label=f"slope {2 * sign:+d} D²" if sign else "slope 0",
            )
        left.set_xlabel("G, difference of two ensembles")
        left.set_ylabel("A, difference of two ensembles")
        left.set_title("acceleration against quantum force")
        left.legend(fontsize=7)
        rows += [["slope", "double well", x, y, "", ""] for x, y in zip(force, acceleration, strict=True)]
        shown = [case for case in cases if case.scale > 0]
        for place, case in enumerate(shown):
            unit = case.scale**2
            color = VERMILLION if case.kappa > 0 else BLUE
            middle.errorbar(case.kappa / unit, -place, xerr=case.reach / unit, fmt="o", color=color, markersize=4)
            ends = [(case.kappa + sign * case.reach) / unit for sign in (-1, 1)]
            rows.append(["kappa / D^2", case.case, case.kappa / unit, case.residual, *ends])
        middle.axvline(-2, color=BLACK, linewidth=1)
        middle.axvline(2, color=BLACK, linewidth=1, linestyle="--")
        middle.set_xscale("symlog", linthresh=3)
        middle.set_xticks([-2, 0, 2, 10], ["-2", "0", "2", "10"])
        middle.set_yticks([-place for place in range(len(shown))], [case.case for case in shown], fontsize=6.5)
        middle.set_xlabel("κ / D²")
        middle.set_title("by case")
        bins = np.linspace(-0.6, 0.6, 61)
        colors = {"none": BLACK, "stop_gradient_bob": GREEN, "pcgrad": ORANGE}
        for kind in INTERVENTIONS:
            count, _ = np.histogram(np.clip(turned[kind], -0.6, 0.6), bins)
            label = {"none": "gradient", "stop_gradient_bob": "Bob's stopped", "pcgrad": "PCGrad"}[kind]
            right.stairs(count / len(turned[kind]), bins, color=colors[kind], label=label)
            rows += [
                ["circulation", kind, at, share, "", ""]
                for at, share in zip(bins, count / len(turned[kind]), strict=False)
            ]
        right.set_yscale("log")
        right.set_xlabel("circulation of the drift")
        right.set_ylabel("share of loops")
        right.set_title("around circles of radius 1")
        right.legend(fontsize=7)
        return save_figure(figure, out / "madelung", ["panel", "case", "x", "y", "x_low", "x_high"], rows)


def _limits(case: Case) -> str:
    """The interval in units of D^2, where densities are of samples."""
    if not case.reach:
        return ""
    low, high = ((case.kappa + sign * case.reach) / case.scale**2 for sign in (-1, 1))
    return f" [{low:.2f}, {high:.2f}]"


def printed(cases: Sequence[Case]) -> list[str]:
    """A row per case, kappa in units of D^2 where there is a D."""
    rows = []
    for case in cases:
        unit = case.scale**2 or 1.0
        rows.append(
            [
                case.case,
                f"{case.scale:g}",
                f"{case.kappa / unit:+.4f}{_limits(case)}",
                f"{case.expected / unit:+.4f}" if math.isfinite(case.expected) else "-",
                f"{case.residual:.1%}" if math.isfinite(case.residual) else "-",
            ]
        )
    return table(["case", "D", "kappa / D^2", "expected", "residual"], rows, indent="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Estimate kappa in every case, print the table and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 200_000, "members of a sampled ensemble")
    add_number(parser, "--ensembles", 8, "sampled ensembles")
    add_number(parser, "--loops", 500, "loops per drift")
    add_number(parser, "--seed", 0, "of samples and loops")
    add_place(parser, "runs/madelung", "where the figure and the numbers go (default: {})", None)


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 1_000)
    at_least("--ensembles", parsed.ensembles, 2)
    at_least("--loops", parsed.loops, 10)
    root_seed("--seed", parsed.seed)
    out = local_folder("--out", parsed.out)
    cases = free_cases()
    cases += [grid_case(f"double well, D = {d:g}", loss(GRID)[None], d) for d in (0.1, 0.3)]
    cases.append(without_noise())
    noisy, slopes = sampled(0.3, parsed.members, parsed.ensembles, parsed.seed)
    cases.append(noisy)
    for mu in (0.0, 0.3):
        both = np.stack([loss(GRID, neurons) - mu * neurons for neurons in (1, 2)])
        for rate in (1e4, 100.0, 0.5):
            cases.append(grid_case(f"neuron exchanged, rate {rate:g}, μ = {mu:g}", both, 0.3, rate))
    turned = circulations(parsed.loops, POINTS, parsed.seed)
    fewer = max(parsed.loops // 5, 1)
    more = circulations(fewer, FINER * POINTS, parsed.seed, SINGLE_VALUED)
    finer = [
        Finer(kind, *(float(np.abs(each[kind][:fewer]).max()) for each in (turned, more))) for kind in SINGLE_VALUED
    ]
    said = conclusion(cases, turned, finer)
    pair = [fluid(GRID, logs, STEP) for logs in exact_densities(loss(GRID)[None], 0.3, 0.5)]
    print("\n".join([*printed(cases), "", *said]))
    out.mkdir(parents=True, exist_ok=True)
    spread = {kind: [float(v) for v in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])] for kind, values in turned.items()}
    write_json(
        out / "madelung.json",
        {
            "cases": cases,
            "kappa_of_each_ensemble": slopes,
            "circulation_quantiles": spread,
            "finer": finer,
            "said": said,
        },
    )
    draw(cases, pair, turned, out)


if __name__ == "__main__":
    main()
