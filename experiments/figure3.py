"""Figure 3 of arXiv:2603.04451: S against LoRA rank on both suites, with what accuracies alone give, and Delta.

Question. The paper's figure 3 shows S rising to 2 with the rank on one suite, and above 2 at low ranks of the mixed one (2 and
4), then back to 2. Does S do so in a run with everything stated, and what of it is more than accuracies?

Command. `python -m experiments.figure3 --size small`, or `--size paper --ranks 1 2 4 8 16 32 64 128 256 512` on an
accelerator.

Time. That of the runs (experiments/shared/text_runs.py), which table 2 and figures 4 and 5 share; seconds where they are stored.

Expected. S and S_fact fall together within their errors at every rank; Delta's interval does not lie above 0.

Writes figures/figure3.* (PNG, SVG, PDF, CSV) into each suite's run folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments.shared.command import run_experiment
from experiments.shared.text_runs import add_options, text_runs
from ncsim.formatting import table
from ncsim.text.report.summary import summarise_text
from ncsim.text.report.write import TABLE_COLUMNS, table_rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, draw the figure and print its numbers."""
    run_experiment(__doc__, add_options, _run, arguments)


def _run(parsed: argparse.Namespace) -> None:
    for suite, run in text_runs(parsed).items():  # which draws the figure
        print(f"\n{suite}:\n" + "\n".join(table(TABLE_COLUMNS, table_rows(summarise_text(run).numbers, "train"))))
        print(f"\nStored: {run.path / 'figures' / 'figure3'}.png, .svg, .pdf, .csv")


if __name__ == "__main__":
    main()
