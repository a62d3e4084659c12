"""Table 2 of arXiv:2603.04451 from runs of our own, beside the printed one: accuracies, correlators and S by LoRA rank.

Question. Section 5.2 trains a BERT with LoRA of ranks 1 to 32 on two suites of four tasks and prints S between 1.50 and
2.19, above 2 from r = 2 on of the mixed suite, most at 2 and 4. What do S and its accuracies come to in a run with
everything stated, and is anything left of S once accuracies and direct influence are discounted?

Command. `python -m experiments.table2 --size small` (MiniLM on two cores), or `--size paper` (BERT-base on an accelerator).
`--source-dir FOLDER` takes data files that are on disk.

Time. See experiments/shared/text_runs.py: minutes on two cores for `small`, hours on an accelerator for `paper`.

Expected. C is the product of the two accuracies' means wherever a pair's items are unrelated, so that S is S_fact to within
a few standard errors; Delta is not above 0. With a few hundred pairs every rank ends near accuracy 1 and S near 2: the
under-fitted regime of the paper's low ranks takes thousands of pairs.

Writes into each suite's run folder: what `ncsim report` writes, and table2.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from experiments.shared.command import run_experiment, write_json
from experiments.shared.text_runs import add_options, text_runs
from experiments.table2_recheck import configurations
from ncsim.formatting import counted, table
from ncsim.text.report.summary import summarise_text
from ncsim.text.report.write import CONTEXT_COLUMNS, TABLE_COLUMNS, context_rows, sentences, table_rows


def beside_the_paper(numbers: dict[str, Any]) -> list[list[str]]:
    """Rank, S of each seed, the paper's S printed for that rank and suite."""
    printed = {row.rank: row.s_printed for row in configurations() if row.suite == numbers["suite"]}
    rows = []
    for rank in dict.fromkeys(cell["rank"] for cell in numbers["cells"]):
        own = [cell for cell in numbers["cells"] if cell["rank"] == rank and cell["split"] == "train" and "s" in cell]
        shown = f"{printed[rank]:.3f}" if rank in printed else "-"
        rows.append([str(rank), ", ".join(f"{cell['s']:.3f}" for cell in own), shown])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    run_experiment(__doc__, add_options, _run, arguments)


def _run(parsed: argparse.Namespace) -> None:
    for suite, run in text_runs(parsed).items():
        numbers = summarise_text(run).numbers
        write_json(run.path / "table2.json", numbers["cells"])
        print(f"\n{suite}: {run.config.model}, {counted(run.config.epochs, 'epoch')}, training pairs")
        print("\n".join(table(CONTEXT_COLUMNS, context_rows(numbers, "train"))))
        print("\n" + "\n".join(table(TABLE_COLUMNS, table_rows(numbers, "train"))))
        print("\n" + "\n".join(table(["r", "S here", "S in the paper"], beside_the_paper(numbers))))
        print("\n" + "\n".join(f"  {sentence}" for sentence in sentences(numbers)))


if __name__ == "__main__":
    main()
