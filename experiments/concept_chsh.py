"""Concept combinations: do people's and language models' answers about "The Animal Acts" go beyond direct influence?

Question. Aerts and others (arXiv:2511.21731; Foundations of Science 16, 95) asked for the best example of The Animal Acts
in four contexts and read S > 2 as entanglement of meaning. What is left once the influence of one choice on the other is
discounted?

Command. `python -m experiments.concept_chsh --out runs/concepts`

Time. Five seconds. Trains nothing: the tables beside this file are all there is.

Expected. Delta is far below 0 in every table, since the same question has other shares of answers in other contexts.
Critics of the first table found Delta = -3.357 (Dzhafarov, Zhang and Kujala 2016). The positive controls, a PR box and
Tsirelson's table, have Delta = 2 and 0.828.

What is printed of language models is partly marginals. Three of the four differences that make up the influence follow
from them, so that Delta is at most S_odd - 2 - their sum; S stands for S_odd there, which is as the paper has its signs.
Ten answers of a model came from one generation and are not independent: no p-value of theirs is made.

Writes into the folder: concept_chsh.png, .svg, .pdf, .csv and concept_chsh.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.controls import pr_box_counts, tsirelson_table
from experiments.shared.command import add_place, local_folder, run_experiment, write_json
from ncsim.formatting import table
from ncsim.report.figures import BLACK, BLUE, VERMILLION, new_figure, save_figure
from ncsim.statistics.chsh import chsh_statistics
from ncsim.tables import describe, read_table

FOLDER = Path(__file__).parent / "tables"
#: S, and the published shares of an answer in its two contexts: Tiger, Growls, Snorts (arXiv:2511.21731, section 2).
MARGINALS = {
    "ChatGPT, prompt 1": (2.25, ((0.617, 0.148), (0.482, 1.0), (0.951, 0.185))),
    "ChatGPT, prompt 2": (3.09, ((0.778, 0.037), (0.543, 1.0), (1.0, 0.037))),
}


class Row(NamedTuple):
    """One table: S, influence and Delta; `bound` says that the influence is the least and Delta the most there can be."""

    name: str
    s: float
    influence: float
    contextuality: float
    bound: bool = False
    limits: tuple[float, float] | None = None
    verdict: str = ""

    @property
    def cells(self) -> list[str]:
        """As printed."""
        least, most = (">= ", "<= ") if self.bound else ("", "")
        limits = "" if self.limits is None else "[{:.3f}, {:.3f}]".format(*self.limits)
        words = self.verdict or ("not contextual" if self.contextuality <= 0 else "contextual")
        return [
            self.name,
            f"{self.s:.4f}",
            f"{least}{self.influence:.4f}",
            f"{most}{self.contextuality:.4f}",
            limits,
            words,
        ]


def from_marginals(name: str, s: float, shares: Sequence[tuple[float, float]]) -> Row:
    """What S and some of the marginals leave of Delta."""
    influence = sum(2 * abs(first - second) for first, second in shares)
    return Row(name, s, influence, s - 2 - influence, bound=True)


def rows() -> list[Row]:
    """Controls, people, language models."""
    found = []
    for name, values in (("PR box", pr_box_counts()), ("Tsirelson's table", tsirelson_table())):
        statistics = chsh_statistics(values)
        found.append(Row(name, float(statistics.s), float(statistics.influence), float(statistics.contextuality)))
    people = describe(read_table(FOLDER / "animal_acts_people.csv"))
    low, high = people["contextuality_interval"]
    s, influence, delta = (people[of] for of in ("s", "influence", "contextuality"))
    found.append(Row("81 people per context", s, influence, delta, limits=(low, high), verdict=people["verdict"]))
    return found + [from_marginals(name, *published) for name, published in MARGINALS.items()]


def draw(found: list[Row], out: Path) -> list[Path]:
    """S beside Delta for each table."""
    with new_figure(7, 3.2) as figure:
        axis = figure.subplots()
        places = np.arange(len(found))[::-1]
        axis.axvline(0, color=BLACK, linewidth=0.8)
        axis.axvline(2, color=BLACK, linewidth=0.8, linestyle=":")
        axis.plot([row.s for row in found], places, "o", color=BLUE, label="S (classical bound 2, dotted)")
        axis.plot(
            [row.contextuality for row in found], places, "s", color=VERMILLION, label="Delta (contextual above 0)"
        )
        for place, row in zip(places, found, strict=True):
            if row.limits is not None:
                axis.plot(row.limits, [place, place], color=VERMILLION)
            if row.bound:
                axis.annotate("at most", (row.contextuality, place), (-8, -3), textcoords="offset points", ha="right")
        axis.set_yticks(places, [row.name for row in found])
        axis.set_ylim(-0.6, len(found) - 0.4)
        axis.set_xlabel("S, and Delta = largest CHSH sum - 2 - influence")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        lines = [[row.name, row.s, row.influence, row.contextuality, row.bound] for row in found]
        return save_figure(figure, out / "concept_chsh", ["table", "s", "influence", "contextuality", "bound"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the figure."""

    def act(parsed: argparse.Namespace) -> None:
        out = local_folder("--out", parsed.out)
        out.mkdir(parents=True, exist_ok=True)
        found = rows()
        print("\n".join(table(["table", "S", "influence", "Delta", "95 %", "verdict"], [row.cells for row in found])))
        print("\n  S above 2 in every table, and Delta below 0 in all but the controls: direct influence explains it.")
        draw(found, out)
        write_json(out / "concept_chsh.json", found)

    def options(parser: argparse.ArgumentParser) -> None:
        add_place(parser, "runs/concepts", "where the figure and the numbers go (default: {})", devices=None)

    run_experiment(__doc__, options, act, arguments)


if __name__ == "__main__":
    main()
