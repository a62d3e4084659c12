"""The paper's Table 4, counted: how many parameters has each model, and how many of them train?

Question. arXiv:2603.04451, Table 4, prints total and trainable parameters and their ratio for two backbones at six ranks.
Do the models that it names (bert-base-multilingual-cased and bert-base-uncased, low-rank factors on query and value of all
twelve layers, two heads of two classes) have those numbers?

Command. `python -m experiments.table4 [--ranks 1 2 4 ...] [--json FILE]`

Time. Ten seconds on any machine. The models are built without their weights, which need not be there.

Expected. Every count but those of one row, multilingual r=32, which prints 768 parameters too many, trainable and in total;
and every ratio but mixed r=32's, printed 1.070 where its own row gives 1.069. Trainable is 36,864 r + 3,076 throughout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.shared.command import local_file, run_experiment, write_json
from ncsim.text.model.bert import BERT_BASE_MULTILINGUAL_CASED, BERT_BASE_UNCASED, BertConfig, parameters
from ncsim.text.model.lora import check_rank, trainable_parameters

#: Rank; then, for multilingual training and for mixed reasoning: total, trainable, ratio in %. As printed.
TABLE_4 = """
 1  177,893,380  39,940     0.022  109,522,180  39,940     0.036
 2  177,930,244  76,804     0.043  109,559,044  76,804     0.070
 4  178,003,972  150,532    0.085  109,632,772  150,532    0.137
 8  178,151,428  297,988    0.167  109,780,228  297,988    0.271
16  178,446,340  592,900    0.332  110,075,140  592,900    0.539
32  179,036,932  1183,492   0.661  110,664,964  1,182,724  1.070
"""
BACKBONES: dict[str, BertConfig] = {"multilingual": BERT_BASE_MULTILINGUAL_CASED, "mixed": BERT_BASE_UNCASED}
#: Section 5.2 trains ranks up to 512.
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Counts:
    """One row of the table for one suite; `ratio` is trainable in % of total, to three decimals."""

    suite: str
    rank: int
    total: int
    trainable: int
    ratio: float

    @property
    def name(self) -> str:
        """As in the text that is printed."""
        return f"{self.suite} r={self.rank}"


def printed() -> list[Counts]:
    """The paper's twelve."""
    found = []
    for line in TABLE_4.split("\n")[1:-1]:
        rank, *numbers = line.replace(",", "").split()
        for suite, (total, trainable, ratio) in zip(BACKBONES, (numbers[:3], numbers[3:]), strict=True):
            found.append(Counts(suite, int(rank), int(total), int(trainable), float(ratio)))
    return found


def counted(suite: str, rank: int) -> Counts:
    """The same numbers from the built models.

    Raises:
        ConfigError: a rank outside 1..768.
    """
    config = BACKBONES[suite]
    check_rank(rank, config, "--ranks")
    trainable = trainable_parameters(config, rank)
    total = parameters(config) + trainable
    return Counts(suite, rank, total, trainable, round(100 * trainable / total, 3))


def slips(table: list[Counts]) -> list[str]:
    """What is printed otherwise than counted, row by row; and ratios that are not those of their own row."""
    found = []
    for row in table:
        ours = counted(row.suite, row.rank)
        for what in ("trainable", "total"):
            there, here = getattr(row, what), getattr(ours, what)
            if there != here:
                found.append(f"{row.name}: {what} printed {there:,}, counted {here:,} ({there - here:+,})")
        own = round(100 * row.trainable / row.total, 3)
        if own != row.ratio:
            found.append(f"{row.name}: ratio printed {row.ratio:.3f} %, its own row gives {own:.3f} %")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table as counted, beside what is printed, and the slips."""
    run_experiment("Count the parameters of Table 4 of arXiv:2603.04451.", _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS), help="ranks to count")
    parser.add_argument("--json", type=Path, help="also write the counts here")


def _run(parsed: argparse.Namespace) -> None:
    file = local_file("--json", parsed.json) if parsed.json else None
    paper = {(row.suite, row.rank): row for row in printed()}
    rows = [counted(suite, rank) for suite in BACKBONES for rank in parsed.ranks]

    print(f"{'':18} {'total':>12} {'trainable':>11} {'ratio %':>8}   printed in the paper")
    for row in rows:
        beside = paper.get((row.suite, row.rank))
        if beside is None:
            verdict = "not in the table"
        elif (beside.total, beside.trainable, beside.ratio) == (row.total, row.trainable, row.ratio):
            verdict = "the same"
        else:
            verdict = f"{beside.total:,} {beside.trainable:,} {beside.ratio:.3f}"
        print(f"{row.name:18} {row.total:12,} {row.trainable:11,} {row.ratio:8.3f}   {verdict}")
    found = slips(printed())
    print("\nPrinted otherwise than counted:")
    for slip in found:
        print(f"  {slip}")
    if file:
        write_json(file, {"rows": rows, "slips": found})


if __name__ == "__main__":
    main()
