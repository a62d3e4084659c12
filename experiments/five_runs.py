"""Five runs: what is a one-sided Wilcoxon p-value of 1/32 worth, once the best of several variants was chosen?

Question. A study compares a new variant with a baseline in five paired runs and reports p = 0.03125, the least that a
one-sided signed-rank test of five pairs can give. How often do networks that do not differ at all give it, if the best of
several variants is the one that is reported? And with fifty runs, as in figure 2?

Command. `python -m experiments.five_runs --members 20000 --out runs/five-runs`

Time. 15 seconds of processor time.

Expected. One variant: 1/32 of comparisons of five runs without ties. The variants share their baseline, so that
20 of them give it less often than 1 - (31/32)^20 = 0.47, but far more often than 1/20. Fifty runs do not help
against choice: of one variant 0.05 of p-values are below 0.05, of the best of 20 about as many as with five runs, or more.

Every "variant" is the same configuration (three units, the paper's tasks), and its runs are members of one ensemble: all
that differs is the seed. What is compared is a member's accuracy over contexts and heads, and its S. Runs that tie are
left out by the test, as is usual.

Writes into the folder: five_runs.png, .svg, .pdf, .csv and five_runs.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import table
from ncsim.report.figures import BLACK, BLUE, VERMILLION, new_figure, save_figure
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import Estimate, clopper_pearson

VARIANTS = (1, 2, 5, 10, 20)
RUNS = (5, 50)
LEVEL = 0.05


class Row(NamedTuple):
    """How often the best of some variants has p <= 0.05 although nothing differs."""

    measure: str
    runs: int
    variants: int
    found: Estimate


def signed_rank_p_values(differences: np.ndarray) -> np.ndarray:
    """One-sided p-values [C] of differences [C, runs]: exact up to ten runs, with ties and without zeros, else scipy's normal law."""
    from scipy.stats import wilcoxon

    if differences.shape[1] > 10:
        with np.errstate(invalid="ignore"):
            p_values = wilcoxon(differences, alternative="greater", axis=1, method="approx").pvalue
        return np.nan_to_num(p_values, nan=1.0)
    # Few runs: every choice of signs of what is left after zeros, with middle ranks of ties.
    from scipy.stats import rankdata

    there = differences != 0
    ranks = rankdata(np.where(there, np.abs(differences), np.inf), axis=1) * there
    observed = (ranks * (differences > 0)).sum(axis=1)
    signs = np.array(list(np.ndindex(*(2,) * differences.shape[1])))
    return np.asarray((ranks @ signs.T >= observed[:, None] - 1e-9).mean(axis=1))


def best_of(values: np.ndarray, runs: int, variants: int, comparisons: int, generator: np.random.Generator) -> Estimate:
    """Members drawn for a baseline and each variant; the least p-value of the variants against the baseline they share."""
    drawn = values[generator.integers(0, len(values), (comparisons, variants + 1, runs))]
    differences = drawn[:, 1:] - drawn[:, :1]
    p_values = signed_rank_p_values(differences.reshape(-1, runs)).reshape(comparisons, variants)
    return clopper_pearson(int((p_values.min(axis=1) <= LEVEL).sum()), comparisons)


def rows(members: int, comparisons: int, seed: int, devices: int | None) -> list[Row]:
    """Train once, compare often."""
    records = run_ensemble(EnsembleConfig(hidden=3, members=members, root_seed=seed), devices=devices).records()
    joint = records.joint[~records.diverged.any(axis=1)]
    right = joint.sum(axis=(1, 2))
    accuracy = (right[:, 1, 0] + right[:, 0, 1] + 2 * right[:, 1, 1]) / (2 * right.sum(axis=(1, 2)))
    generator = np.random.default_rng(seed)
    return [
        Row(measure, runs, variants, best_of(values, runs, variants, comparisons, generator))
        for measure, values in (("accuracy", accuracy), ("S", np.asarray(chsh_statistics(joint).s)))
        for runs in RUNS
        for variants in VARIANTS
    ]


def draw(found: Sequence[Row], out: Path) -> list[Path]:
    """False findings by the number of variants."""
    with new_figure(7, 3.2) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axis, measure in zip(panels, ("accuracy", "S"), strict=True):
            for runs, color, shift in zip(RUNS, (VERMILLION, BLUE), (-0.12, 0.12), strict=True):
                own = [row for row in found if (row.measure, row.runs) == (measure, runs)]
                places = np.array([row.variants for row in own]) + shift
                points(axis, places, [row.found for row in own], color=color, fmt="o-", label=f"{runs} runs")
            axis.axhline(LEVEL, color=BLACK, linestyle=":", linewidth=1)
            axis.set_title(f"compared by {measure}")
            axis.set_xlabel("variants, the best of which is reported")
        panels[0].set_ylabel("share with p <= 0.05")
        panels[0].set_ylim(0)
        panels[0].legend(frameon=False)
        lines = [[*row[:3], row.found.value, row.found.low, row.found.high] for row in found]
        return save_figure(figure, out / "five_runs", ["measure", "runs", "variants", "share", "low", "high"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the figure."""

    def options(parser: argparse.ArgumentParser) -> None:
        add_number(parser, "--members", 20_000, "networks that runs are drawn from")
        add_number(parser, "--comparisons", 4_000, "studies that are simulated per row")
        add_number(parser, "--seed", 0, "root of members and draws")
        add_place(parser, "runs/five-runs", "where the figure and the numbers go (default: {})")

    def act(parsed: argparse.Namespace) -> None:
        at_least("--members", parsed.members, 100)
        at_least("--comparisons", parsed.comparisons, 100)
        out = local_folder("--out", parsed.out)
        out.mkdir(parents=True, exist_ok=True)
        found = rows(parsed.members, parsed.comparisons, parsed.seed, device_count(parsed.devices))
        cells = [[row.measure, str(row.runs), str(row.variants), str(row.found)] for row in found]
        print("\n".join(table(["compared by", "runs", "best of", "share with p <= 0.05"], cells)))
        draw(found, out)
        write_json(out / "five_runs.json", found)

    run_experiment(__doc__, options, act, arguments)


if __name__ == "__main__":
    main()
