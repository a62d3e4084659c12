"""Figure 4 of arXiv:2603.04451 on real text: S over epochs and its mean slope mu_gradS, by LoRA rank.

Question. The paper's figure 4 shows S of the mixed suite over epochs for ranks 1 to 32 and finds its mean slope over epochs
0 to 80 to grow with rank (0.0208 at r = 1): "higher ranks lead to faster convergence of S". Does it, and does S pass 2 on
the way? (`experiments/figure4.py` asks the same of NCnet and its width.)

Command. `python -m experiments.figure4_text --size small --suites mixed`, or `--size paper --seeds 3` on an accelerator.

Time. That of the runs (experiments/shared/text_runs.py), which table 2 and figures 3 and 5 share; seconds where they are stored.

Expected. S rises from about 0, the value of heads that know nothing, and higher ranks rise sooner. mu_gradS is (S at the
end - S at the start) / epochs: over a window in which every rank comes near 2 it is the same for all, so that the window says
as much as the rank does.

Writes figures/figure4.* (PNG, SVG, PDF, CSV) into each suite's run folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from experiments.shared.command import run_experiment
from experiments.shared.text_runs import add_options, text_runs
from ncsim.formatting import table
from ncsim.text.report.summary import curves, mean_slope, slope_window


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, draw the figure and print its numbers."""
    run_experiment(__doc__, add_options, _run, arguments)


def _run(parsed: argparse.Namespace) -> None:
    for suite, run in text_runs(parsed).items():  # which draws the figure
        s, epochs = curves(run.counts).s, run.epochs
        window = slope_window(epochs)
        rows = []
        for n, rank in enumerate(run.config.ranks):
            for seed in range(run.config.seeds):
                along = s[n, seed]
                highest = int(np.nanargmax(along)) if not np.isnan(along).all() else 0
                rows.append([
                    str(rank), str(seed), f"{mean_slope(epochs, along):.4f}", f"{along[0]:.3f}", f"{along[-1]:.3f}",
                    f"{along[highest]:.3f} at {epochs[highest]}",
                ])  # fmt: skip
        columns = ["r", "seed", f"mean slope, epochs 0 to {window}", "S at first", "S at last", "largest S, at epoch"]
        print(f"\n{suite}:\n" + "\n".join(table(columns, rows)))
        print(f"\nStored: {run.path / 'figures' / 'figure4'}.png, .svg, .pdf, .csv")


if __name__ == "__main__":
    main()
