"""What else could give figure 2? Settings, stops and protocols compared by how likely each makes the printed picture.

Question. The paper states neither loss, coding, topology, initialisation, when training ended nor which of several trained networks a run
keeps. Claims met or missed (`figure2_settings`) say little of how far a miss is. Here the picture is one event (experiments/shared/picture.py),
and each setting with each protocol gives it a probability. What do these say together, and does more that the paper leaves open matter:
early stops, a choice by one head, whole runs, seeds that contexts share, mini-batches, another activation?

Command. `python -m experiments.figure2_comparison --out runs/figure2-comparison`; `--grid fine` for 576 settings in place of 16.

Time. 16 settings x 3 widths x 256 members, each at seven numbers of steps, four settings more with shared seeds, and six other networks:
eleven minutes on two cores that many other programs used. Resumable; `--grid fine` has 36 times as many settings.

Expected. Before the run: retry until solved has nearly all of the posterior, mostly with the overlapping topology, since only these meet the claim
at n = 2. Early stops should change little. Activations that are not piecewise linear should lower the likelihood, since the limits of
capacity at n = 3 are those of ReLU.

The picture. 50 runs per width. n = 2: at least 26 have S < 1.5. n = 3: all 50 have S > 2, and the largest is within 0.25 of 3.5. n = 4: at least
26 are within 0.25 of 2. "Strict" and "loose" are other tolerances, printed with their numbers. The prior is uniform over settings (each
combination of the grid alike), choices and stops. Laws are exact for the trained ensembles. Their error is drawn:
a Dirichlet law for the shares that the event asks for, worth as many networks as the jackknife's error. Intervals hold 95 % of the draws.
With shared seeds contexts are not independent, and 20,000 runs are simulated.

Writes into the folder: grid/ and shared/ (run folders), other/ (networks of other kinds), figures/figure2-comparison.* and
figure2_comparison.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.more_protocols import LABELS, STOPS, laws_of, rungs_of, stopped
from experiments.shared.other_networks import Variant, stored_variant
from experiments.shared.picture import PICTURES, WIDTHS, log_likelihood
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig, config_grid
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import no_more, table
from ncsim.records.members import MemberRecords
from ncsim.report.figures import BLUE, GREEN, VERMILLION, new_figure, save_figure
from ncsim.terminal import Progress

COARSE: dict[str, list[Any]] = {
    "topology": ["dense", "overlap"],
    "loss": ["bce", "squared_error"],
    "encoding": ["binary", "sign"],
    "initialization": ["uniform", "he"],
}
FINE = COARSE | {
    "loss": ["bce", "squared_error", "cross_entropy"],
    "initialization": ["uniform", "he", "lecun", "normal"],
    "bias_initialization": ["uniform", "zeros"],
    "learning_rate": [0.003, 0.01, 0.03],
    "optimizer": ["adam", "rmsprop"],
}
GRIDS = {"coarse": COARSE, "fine": FINE}
#: Settings with which shared seeds are tried.
SHARED = {"topology": ["dense", "overlap"], "initialization": ["uniform", "he"]}
#: Other networks, each with these two settings.
VARIANTS = (Variant("tanh"), Variant("leaky_relu"), Variant("relu", 4))
BASES = (("dense", "uniform"), ("overlap", "he"))
DRAWS = 400

#: Protocols: each choice with each stop.
PROTOCOLS = [(choice, stop) for choice in LABELS for stop in STOPS]


class Cells(NamedTuple):
    """log10 of the likelihood of each picture, [picture, setting, protocol, 1 + DRAWS]; -inf for a protocol that was not tried."""

    settings: list[dict[str, Any]]
    likelihood: np.ndarray


class Share(NamedTuple):
    """What a level of a factor has: log10 of its likelihood, the others averaged by the prior; and its share of the posterior. Each with its
    interval."""

    factor: str
    level: str
    likelihood: tuple[float, float, float]
    posterior: list[tuple[float, float, float]]  # by picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, compare, print the tables and draw the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 256, "members per width and setting")
    add_number(parser, "--other-members", 128, "members of networks of other kinds")
    add_number(parser, "--steps", 3000, "optimiser steps")
    add_number(parser, "--rows", 12, "rows of the first table to print")
    parser.add_argument("--grid", choices=GRIDS, default="coarse", help="settings (default: coarse)")
    add_place(parser, "runs/figure2-comparison", "default: {}")


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 32, ", or a group of the jackknife is empty")
    at_least("--other-members", parsed.other_members, 32, ", or a group of the jackknife is empty")
    at_least("--rows", parsed.rows, 1)
    folder, devices = local_folder("--out", parsed.out), device_count(parsed.devices)
    sizes = {"members": parsed.members, "steps": rungs_of(parsed.steps), "hidden": list(WIDTHS)}
    grid = trained(config_grid(**GRIDS[parsed.grid], **sizes), folder / "grid", devices)
    shared = trained(config_grid(**SHARED, **sizes, common_initialization=True), folder / "shared", devices)
    cells, alike = compared(grid), compared(shared)
    others = {variant: compared(variant_groups(folder / "other", variant, parsed)) for variant in VARIANTS}
    shares = shares_of(cells, GRIDS[parsed.grid])
    changes = changes_of(cells, alike, others)
    best = best_cells(cells)
    print("\n".join(best_table(best[: parsed.rows])), "\n")
    print("\n".join(share_table(shares)), "\n")
    print("\n".join(change_table(changes)), "\n")
    for picture in PICTURES:
        print(f"{picture.name}: {picture}")
    said = conclusion(shares, best, changes)
    print(f"\n{said}")
    draw(cells, shares, folder / "figures" / "figure2-comparison")
    options = {name: getattr(parsed, name) for name in ("grid", "members", "other_members", "steps")}
    content = {"options": options, "best": best, "shares": shares, "changes": changes, "conclusion": said}
    write_json(folder / "figure2_comparison.json", content)


class Group(NamedTuple):
    """One setting: its config at the last step (of some width), and records by width and rung."""

    config: EnsembleConfig
    rungs: dict[int, list[MemberRecords]]


def trained(configs: list[EnsembleConfig], folder: Path, devices: int | None) -> list[Group]:
    """Train what is missing of the grid, and its settings with all widths and rungs of each."""
    run = run_ensemble(configs, folder, devices=devices, progress=Progress())
    found: dict[tuple[Any, ...], Group] = {}
    for cell, config in enumerate(run.configs):
        group = found.setdefault(_setting(config), Group(config, {width: [] for width in WIDTHS}))
        group.rungs[config.hidden].append(run.records(cell))
    return list(found.values())


def _setting(config: EnsembleConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in FINE)


def variant_groups(folder: Path, variant: Variant, parsed: argparse.Namespace) -> list[Group]:
    """Networks of another kind, in both settings of BASES."""
    groups = []
    for topology, initialization in BASES:
        rungs = {}
        for width in WIDTHS:
            config = EnsembleConfig(
                hidden=width, members=parsed.other_members, topology=topology, initialization=initialization
            )
            rungs[width] = stored_variant(folder, config, variant, rungs_of(parsed.steps))
        groups.append(Group(config, rungs))
    return groups


def compared(groups: Sequence[Group]) -> Cells:
    """The likelihood of each picture under each setting and protocol."""
    found = np.full((len(PICTURES), len(groups), len(PROTOCOLS), 1 + DRAWS), -np.inf)
    generator = np.random.default_rng(0)
    for number, group in enumerate(groups):
        for stop in STOPS:
            laws = {n: laws_of(stopped(r, group.config.loss, stop), group.config) for n, r in group.rungs.items()}
            for choice in LABELS:
                if all(choice in each for each in laws.values()):
                    of_choice = {width: each[choice] for width, each in laws.items()}
                    for place, picture in enumerate(PICTURES):
                        log10 = log_likelihood(picture, of_choice, DRAWS, generator)
                        found[place, number, PROTOCOLS.index((choice, stop))] = log10
    settings = [{name: getattr(group.config, name) for name in FINE} for group in groups]
    return Cells(settings, found)


def mean_likelihood(log10: np.ndarray) -> np.ndarray:
    """log10 of the mean over all axes but the last: the likelihood where the prior is uniform."""
    flat = log10.reshape(-1, log10.shape[-1])
    return np.asarray(logsumexp(flat * math.log(10), axis=0) / math.log(10) - math.log10(len(flat)))


def less(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of two logarithms; NaN where both likelihoods are 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(one - other)


def with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The first value, and where 95 % of the others are; both widened to hold the first."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(min(low, values[0])), float(max(high, values[0]))


def shares_of(cells: Cells, factors: dict[str, list[Any]]) -> list[Share]:
    """The likelihood and posterior share of each level of each factor of the grid, of choices and of stops."""
    levels: list[tuple[str, str, Any]] = []
    for name, values in factors.items():
        for value in values:
            levels.append((name, str(value), np.array([s[name] == value for s in cells.settings])))
    masks = [(f, level, np.repeat(m[:, None], len(PROTOCOLS), axis=1)) for f, level, m in levels]
    for place, factor, names in ((0, "choice", LABELS), (1, "stop", STOPS)):
        for name in names:
            mask = np.array([protocol[place] == name for protocol in PROTOCOLS])
            masks.append((factor, name, np.repeat(mask[None], len(cells.settings), axis=0)))
    whole = [mean_likelihood(each) for each in cells.likelihood]
    found = []
    for factor, level, mask in masks:
        likelihoods = [mean_likelihood(each[mask]) for each in cells.likelihood]
        prior = mask.mean()
        posterior = [with_interval(prior * 10 ** less(one, all_)) for one, all_ in zip(likelihoods, whole, strict=True)]
        found.append(Share(factor, level, with_interval(likelihoods[0]), posterior))
    return found


def best_cells(cells: Cells) -> list[dict[str, Any]]:
    """Every setting with every protocol, the likeliest first."""
    log10 = cells.likelihood[0]
    order = np.argsort(-log10[..., 0], axis=None, kind="stable")
    found = []
    for setting, protocol in zip(*np.unravel_index(order, log10.shape[:2]), strict=True):
        if log10[setting, protocol, 0] > -np.inf:
            choice, stop = PROTOCOLS[protocol]
            likelihood = with_interval(log10[setting, protocol])
            found.append(cells.settings[setting] | {"choice": choice, "stop": stop, "log10_likelihood": likelihood})
    return found


class Change(NamedTuple):
    """What one thing that is otherwise does: log10 of the Bayes factor over the same settings and protocols without it; and both
    likelihoods of the best protocol."""

    what: str
    topology: str
    factor: tuple[float, float, float]
    best: float
    best_without: float
    best_protocol: str


def changes_of(cells: Cells, alike: Cells, others: dict[Variant, Cells]) -> list[Change]:
    """Shared seeds and other networks, each against the grid's networks of the same settings."""
    found = []
    for what, other in [("seeds shared by contexts", alike), *((str(v), each) for v, each in others.items())]:
        for topology in COARSE["topology"]:
            mine = [n for n, setting in enumerate(other.settings) if setting["topology"] == topology]
            if not mine:
                continue
            base = [cells.settings.index(other.settings[n]) for n in mine]
            tried = ~np.isneginf(other.likelihood[0][mine]).all(axis=(0, 2))
            one, without = other.likelihood[0][mine][:, tried], cells.likelihood[0][base][:, tried]
            factor = with_interval(less(mean_likelihood(one), mean_likelihood(without)))
            best = np.flatnonzero(tried)[one[..., 0].max(axis=0).argmax()]
            found.append(
                Change(what, topology, factor, one[..., 0].max(), without[..., 0].max(), ", ".join(PROTOCOLS[best]))
            )
    return found


def shown(value: tuple[float, float, float], digits: int = 2) -> str:
    """A number with its interval; what is below -300 as that."""
    words = [f"{max(each, -300.0):.{digits}f}" for each in value]
    return f"{words[0]} [{words[1]}, {words[2]}]"


def best_table(best: Sequence[dict[str, Any]]) -> list[str]:
    """The likeliest first."""
    names = [name for name in FINE if len({str(row[name]) for row in best}) > 1 or name in COARSE]
    rows = [
        [*(str(row[name]) for name in names), row["choice"], row["stop"], shown(row["log10_likelihood"])]
        for row in best
    ]
    return table([*names, "choice", "stop", "log10 of the likelihood"], rows, indent="")


def share_table(shares: Sequence[Share]) -> list[str]:
    """Factors and their levels."""
    rows = [
        [each.factor, each.level, shown(each.likelihood), *(shown(p, 3) for p in each.posterior)] for each in shares
    ]
    header = ["factor", "level", "log10 of the likelihood", *(f"posterior, {picture.name}" for picture in PICTURES)]
    return table(header, rows, indent="")


def change_table(changes: Sequence[Change]) -> list[str]:
    """What is otherwise."""
    rows = [
        [each.what, each.topology, shown(each.factor), f"{each.best:.2f}", f"{each.best_without:.2f}"]
        for each in changes
    ]
    return table(["otherwise", "topology", "log10 of the Bayes factor", "best", "best without"], rows, indent="")


def conclusion(shares: Sequence[Share], best: Sequence[dict[str, Any]], changes: Sequence[Change]) -> str:
    """One sentence, as the numbers have it."""
    if not best:
        return "By no law of the grid's members can the picture be: every likelihood is 0."
    choices = [each for each in shares if each.factor == "choice"]
    retry = [each for each in choices if each.level.startswith("retry until solved")]
    others = [each for each in choices if each not in retry]
    least = [sum(each.posterior[n][0] for each in retry) for n in range(len(PICTURES))]
    distance = min(each.likelihood[0] for each in retry) - max(each.likelihood[0] for each in others)
    at_least = min(each.likelihood[1] for each in retry) - max(each.likelihood[2] for each in others)
    top, other = best[0], max(changes, key=lambda each: each.best)
    setting = ", ".join(str(top[name]) for name in COARSE)
    return (
        f"Retry until solved has a posterior of {', '.join(f'{v:.4f} ({p.name})' for p, v in zip(PICTURES, least, strict=True))}, and is "
        f"10^{distance:.1f} times as likely as any other choice (at least 10^{no_more(at_least, '.1f')}); the best of the grid ({setting}, {top['choice']}, "
        f"{top['stop']}) gives the picture with probability {10 ** top['log10_likelihood'][0]:.2f}, and the best of what is otherwise "
        f"({other.what}, {other.topology}, {other.best_protocol}) with {10**other.best:.2f}."
    )


def draw(cells: Cells, shares: Sequence[Share], stem: Path) -> None:
    """Likelihood by choice and stop in both topologies, and posterior shares under three tolerances."""
    factors = [each for each in shares if each.factor in ("choice", "stop", *COARSE) and each.posterior[0][2] > 0.001]
    rows: list[list[Any]] = []
    with new_figure(12.4, 4.6) as figure:
        axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
        for axis, topology in zip(axes, COARSE["topology"], strict=False):
            mine = [n for n, setting in enumerate(cells.settings) if setting["topology"] == topology]
            values = [mean_likelihood(cells.likelihood[0][mine, n])[0] for n in range(len(PROTOCOLS))]
            grid = np.maximum(np.array(values).reshape(len(LABELS), len(STOPS)), -300)
            _draw_map(axis, grid, f"{topology}: log10 likelihood", topology == "dense")
            rows += [["likelihood", topology, *PROTOCOLS[n], value, "", ""] for n, value in enumerate(values)]
        _draw_shares(axes[2], factors)
        rows += [
            ["posterior", p.name, e.factor, e.level, *e.posterior[n]] for n, p in enumerate(PICTURES) for e in factors
        ]
        save_figure(figure, stem, ["what", "where", "choice_or_factor", "stop_or_level", "value", "low", "high"], rows)


def _draw_map(axis: Any, grid: np.ndarray, title: str, labelled: bool) -> None:
    axis.imshow(np.maximum(grid, -40), cmap="viridis", vmin=-40, vmax=0, aspect="auto")
    for (y, x), value in np.ndenumerate(grid):
        words = f"{value:.1f}" if value > -100 else "< -100"
        axis.text(x, y, words, ha="center", va="center", fontsize=7, color="black" if value > -14 else "white")
    axis.set_xticks(
        range(len(STOPS)), [stop.replace(" of ", "\nof ").replace("below ", "below\n") for stop in STOPS], fontsize=7
    )
    axis.tick_params(axis="x", rotation=45)
    axis.set_yticks(range(len(LABELS)), LABELS if labelled else [""] * len(LABELS), fontsize=8)
    axis.set_title(title, fontsize=9)


def _draw_shares(axis: Any, factors: Sequence[Share]) -> None:
    places = np.arange(len(factors), dtype=float)[::-1]
    for n, (picture, colour, mark) in enumerate(zip(PICTURES, (BLUE, VERMILLION, GREEN), "osD", strict=True)):
        values = np.array([each.posterior[n] for each in factors]).reshape(-1, 3)
        error = np.abs(values[:, 1:] - values[:, :1]).T
        axis.errorbar(
            values[:, 0],
            places + 0.2 * (1 - n),
            xerr=error,
            fmt=mark,
            color=colour,
            markersize=4,
            lw=0.8,
            label=picture.name,
        )
    axis.set_yticks(places, [each.level for each in factors], fontsize=7)
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel("posterior share")
    axis.set_title("posterior by tolerance", fontsize=9)
    axis.legend(fontsize=7, loc="lower right")


if __name__ == "__main__":
    main()
