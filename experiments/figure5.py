"""Figure 5 of arXiv:2603.04451: S on the training items against accuracy on test items, by LoRA rank.

Question. Section 5.3 finds S and test accuracy to rise together from rank 1 to 32 on the multilingual suite, and no
relation on the mixed one, and reads the rank at which S first comes near 2 as that of good generalisation. Do they?

Command. `python -m experiments.figure5 --size small`, or `--size paper --seeds 3` on an accelerator.

Time. That of the runs (experiments/shared/text_runs.py), which table 2 and figures 3 and 4 share; seconds where they are stored.

Expected. S on training items is a function of training accuracies (table2.py); whether test accuracy follows them is a
matter of over-fitting. Spearman's rank correlation over (rank, seed) is printed with its exact permutation p-value where
there are few; a handful of points show little.

Writes figures/figure5.* (PNG, SVG, PDF, CSV) into each suite's run folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.stats import permutation_test, spearmanr

from experiments.shared.command import run_experiment
from experiments.shared.text_runs import add_options, text_runs
from ncsim.formatting import table
from ncsim.text.report.summary import curves


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Spearman's rho and its permutation p-value; None with fewer than three points or where one does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result = permutation_test(
        (x,), lambda shuffled: spearmanr(shuffled, y).statistic, permutation_type="pairings", n_resamples=9_999, rng=0
    )
    return float(result.statistic), float(result.pvalue)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, draw the figure and print its numbers."""
    run_experiment(__doc__, add_options, _run, arguments)


def _run(parsed: argparse.Namespace) -> None:
    for suite, run in text_runs(parsed).items():  # which draws the figure
        along = curves(run.counts)
        s, test, train = (values[:, :, -1] for values in (along.s, along.test_accuracy, along.accuracy))
        rows = [
            [str(rank), str(seed), f"{train[n, seed]:.2%}", f"{test[n, seed]:.2%}", f"{s[n, seed]:.4f}"]
            for n, rank in enumerate(run.config.ranks)
            for seed in range(run.config.seeds)
        ]
        columns = ["r", "seed", "training accuracy", "test accuracy", "S on training pairs"]
        print(f"\n{suite}:\n" + "\n".join(table(columns, rows)))
        there = ~(np.isnan(s) | np.isnan(test))
        found = rank_correlation(test[there], s[there])
        if found is None:
            print("\n  Rank correlation of S and test accuracy: too few points, or none of them differ.")
        else:
            print(
                f"\n  Rank correlation of S and test accuracy: {found[0]:+.2f} over {there.sum()} points, permutation p = "
                f"{found[1]:.2g}."
            )
        print(f"\nStored: {run.path / 'figures' / 'figure5'}.png, .svg, .pdf, .csv")


if __name__ == "__main__":
    main()
