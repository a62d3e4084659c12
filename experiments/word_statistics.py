"""Word statistics: does Bose-Einstein rather than Maxwell-Boltzmann show that a text has meaning?

Question. Aerts and others (arXiv:2511.21731, section 3) fit Bose-Einstein and Maxwell-Boltzmann to the words of stories, find
that only the first fits, and read it as a sign of meaning shared by words. Does it fit where there is no meaning? And does it
fit better than Zipf-Mandelbrot on words that neither has seen?

Command. `python -m experiments.word_statistics --out runs/words [--text FILE]`

Time. One minute on two cores.

Expected. Bose-Einstein has one parameter more and contains Maxwell-Boltzmann, so it should win everywhere: on typed noise and
on truth tables of networks that have learned nothing, too. On texts it should tie with Zipf-Mandelbrot, since 1 / (A exp(E / B) - 1)
is near B / (E + B ln A) while E / B is below 1. A text whose words are shuffled has the same counts, so the same fit.

What is scored: nats per word on the half of a text that a law was not fitted to, over twenty splits. What stands behind +- in the
table, the figure's bars and what the verdict asks for are all two spreads (standard deviations) over splits. Splits share their
words: a spread says how much the halving matters, and no more.

Writes into the folder: word_statistics.png, .svg, .pdf, .csv and word_statistics.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
from ncsim.cli.words import words_of
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.errors import DataError
from ncsim.formatting import table
from ncsim.report.figures import BLUE, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.statistics.rank_frequency import HeldOut, held_out_likelihoods, rank_counts
from ncsim.training.initialization import root_key, start_vector
from ncsim.training.network import Architecture, forward
from ncsim.training.step import train

LICENSE = Path(__file__).resolve().parents[1] / "LICENSE"
CONTEXT = 3
WORDS = 20_000
#: Over splits, which every interval reaches to either side.
SPREADS = 2


class Subject(NamedTuple):
    """What is ranked: its words' counts, and each law's scores."""

    name: str
    meaning: bool
    counts: np.ndarray
    scores: HeldOut

    def gain(self, other: str) -> tuple[float, float]:
        """Bose-Einstein's score less another law's: mean and two spreads over splits."""
        difference = self.scores.bose_einstein - getattr(self.scores, other)
        return float(difference.mean()), SPREADS * float(difference.std(ddof=1))

    def beats(self, other: str) -> bool:
        """By more than that."""
        mean, reach = self.gain(other)
        return mean > reach


Seed = int | np.random.SeedSequence


def typed_noise(letters: int, seed: Seed) -> list[str]:
    """Keys struck at random: five letters and the space, each as likely (Miller 1957)."""
    return "".join(np.random.default_rng(seed).choice(list("abcde "), letters)).split()


def drawn(weights: np.ndarray, words: int, seed: Seed) -> list[int]:
    """Words of a known law."""
    return np.random.default_rng(seed).choice(len(weights), words, p=weights / weights.sum()).tolist()


def truth_tables(networks: int, steps: int, seed: int) -> list[bytes]:
    """What networks of three units answer in context 22, row by row and head by head, after so many steps."""
    config = EnsembleConfig(hidden=3, root_seed=seed)
    targets = jnp.asarray(context_targets(config.tasks)[CONTEXT], jnp.float32)
    root = root_key(seed)

    @jax.jit
    def answers(members: jax.Array) -> jax.Array:
        vectors = jax.vmap(lambda member: start_vector(config, root, member, jnp.uint32(CONTEXT)), out_axes=-1)(members)
        vectors = train(config, vectors, targets, jnp.float32(0.01), jnp.int32(steps))
        _, logits = forward(
            Architecture.of(config).split(vectors), encoded_inputs(config.tasks, config.encoding).tolist()
        )
        return logits > 0  # [row, head, network]

    found = np.asarray(answers(jnp.arange(networks, dtype=jnp.uint32)))
    return [column.tobytes() for column in np.packbits(found.reshape(-1, networks), axis=0).T]


def scored(name: str, meaning: bool, words: Sequence[Hashable], splits: int, seed: int) -> Subject:
    """Its words counted, and every law's scores on their halves.

    Raises:
        DataError: too few words.
    """
    try:
        return Subject(name, meaning, rank_counts(words), held_out_likelihoods(words, splits, seed))
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


def subjects(texts: Sequence[Path], networks: int, splits: int, seed: int) -> list[Subject]:
    """Laws that are known, noise, networks, texts.

    Raises:
        DataError: a text that cannot be read, or has too few words.
    """
    # Texts first: what may be refused is so before networks are trained.
    read = [scored(str(text), True, words_of(str(text)), splits, seed)._replace(name=text.name) for text in texts]
    ranks = np.arange(1.0, 2_001)
    # A stream for each, so that neither another subject nor the next seed has the same uniforms.
    zipf, boltzmann, bose, typed = np.random.SeedSequence(seed).spawn(4)
    made: list[tuple[str, Sequence[Hashable]]] = [
        ("drawn from Zipf-Mandelbrot", drawn((ranks + 2.7) ** -1.1, WORDS, zipf)),
        ("drawn from Maxwell-Boltzmann", drawn(np.exp(-(ranks - 1) / 60), WORDS, boltzmann)),
        ("drawn from Bose-Einstein", drawn(1 / (1.02 * np.exp((ranks - 1) / 150) - 1), WORDS, bose)),
        ("typed noise", typed_noise(120_000, typed)),
        ("truth tables, untrained networks", truth_tables(networks, 0, seed)),
        ("truth tables, trained networks", truth_tables(networks, 3_000, seed)),
    ]
    return [*(scored(name, False, words, splits, seed) for name, words in made), *read]


def verdict(found: Sequence[Subject]) -> str:
    """What the numbers bear."""
    nothing = [s for s in found if not s.meaning and not s.name.startswith("drawn")]
    wins = [s.name for s in nothing if s.beats("maxwell_boltzmann")]
    texts = [s for s in found if s.meaning]
    better = [s.name for s in texts if s.beats("zipf_mandelbrot")]
    return (
        f"Bose-Einstein beats Maxwell-Boltzmann by more than two spreads in {len(wins)} of {len(nothing)} subjects without any "
        f"meaning: {', '.join(wins) or 'no subject'}. It beats Zipf-Mandelbrot so in {len(better)} of {len(texts)} texts."
    )


def draw(found: Sequence[Subject], out: Path) -> list[Path]:
    """Bose-Einstein's gain over the two other laws, per subject."""
    with new_figure(7, 0.45 * len(found) + 1.6) as figure:
        axis = figure.subplots()
        places = np.arange(len(found))[::-1]
        low, high = -0.1, 1.0
        for other, color, shift in (("maxwell_boltzmann", VERMILLION, 0.12), ("zipf_mandelbrot", BLUE, -0.12)):
            gains = np.array([subject.gain(other) for subject in found])
            low, high = min(low, *(gains[:, 0] - gains[:, 1])), max(high, *(gains[:, 0] + gains[:, 1]))
            label = "over " + "-".join(word.capitalize() for word in other.split("_"))
            axis.errorbar(gains[:, 0], places + shift, xerr=gains[:, 1], fmt="o", color=color, label=label)
        axis.axvline(0, color=ORANGE, linewidth=1)
        axis.set_xscale("symlog", linthresh=0.01)
        axis.set_xlim(low if low == -0.1 else 1.2 * low, high if high == 1 else 1.2 * high)
        axis.set_yticks(places, [subject.name for subject in found])
        axis.set_xlabel("gain of Bose-Einstein +- two spreads, nats per word held out\n(linear within 0.01)")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        names = list(HeldOut._fields)
        columns = ["gain_over_mb", "two_spreads_over_mb", "gain_over_zm", "two_spreads_over_zm"]
        lines = [
            [s.name, int(s.counts.sum()), len(s.counts), *(float(x.mean()) for x in s.scores), *gains]
            for s in found
            for gains in [(*s.gain("maxwell_boltzmann"), *s.gain("zipf_mandelbrot"))]
        ]
        return save_figure(figure, out / "word_statistics", ["subject", "words", "kinds", *names, *columns], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the figure."""

    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--text", metavar="FILE", nargs="+", default=[str(LICENSE)], help="texts (default: LICENSE)"
        )
        add_number(parser, "--networks", 10_000, "networks whose truth tables are words")
        add_number(parser, "--splits", 20, "how often each subject is halved")
        add_number(parser, "--seed", 0, "root of all draws")
        add_place(parser, "runs/words", "where the figure and the numbers go (default: {})", devices=None)

    def act(parsed: argparse.Namespace) -> None:
        at_least("--networks", parsed.networks, 100)
        at_least("--splits", parsed.splits, 2)
        root_seed("--seed", parsed.seed)
        out = local_folder("--out", parsed.out)
        out.mkdir(parents=True, exist_ok=True)
        found = subjects([Path(text) for text in parsed.text], parsed.networks, parsed.splits, parsed.seed)
        cells = [
            [s.name, f"{s.counts.sum():,}", f"{len(s.counts):,}", *(f"{each.mean():.4f}" for each in s.scores)]
            + ["{:+.4f} +- {:.4f}".format(*s.gain(other)) for other in ("maxwell_boltzmann", "zipf_mandelbrot")]
            for s in found
        ]
        print("\n".join(table(["subject", "words", "kinds", "BE", "MB", "ZM", "BE - MB", "BE - ZM"], cells)))
        print(f"\n  +- are two spreads over splits. {verdict(found)}")
        draw(found, out)
        numbers = [
            {"name": s.name, "words": int(s.counts.sum()), "kinds": len(s.counts), "scores": s.scores} for s in found
        ]
        write_json(out / "word_statistics.json", numbers)

    run_experiment(__doc__, options, act, arguments)


if __name__ == "__main__":
    main()
