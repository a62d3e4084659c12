"""`ncsim words`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import math
import re
import unicodedata
from typing import Any

from ncsim.config import fields
from ncsim.errors import ConfigError, DataError, reason
from ncsim.formatting import counted, json_text, table
from ncsim.terminal import output

#: A letter. Marks that have no letter of their own with theirs, as vowels of Hindi, stand after it.
LETTER = r"[^\W\d_]"
#: Apostrophes of printed texts (U+2019), of Ukrainian and others, which Unicode has among letters (U+02BC), and of full width (U+FF07).
APOSTROPHES = "\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}\N{FULLWIDTH APOSTROPHE}"
MAX_BYTES = 10**8
#: What --exponent may be.
EXPONENTS = "a number above 0 and at most 3"


def add_words_command(commands: Any) -> None:
    """Add `words` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "words",
        help="fit laws of word frequency to a text, and score them on words held out",
        description="Rank a text's words by how often they occur. Print the constants of Bose-Einstein and "
        "Maxwell-Boltzmann as arXiv:2511.21731 fits them, and what both and Zipf-Mandelbrot score on a half of the text "
        "that they have not seen.",
        allow_abbrev=False,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="texts in UTF-8, taken as one")
    parser.add_argument(
        "--exponent", metavar="D", default="1", help=f"of the energies (rank - 1)^D ({EXPONENTS}; default: 1)"
    )
    parser.add_argument(
        "--splits", metavar="N", default="20", help="how often the text is halved (2 to 1000; default: 20)"
    )
    parser.add_argument("--seed", metavar="N", default="0", help="of the halves (0 or above; default: 0)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Print what a text's words say."""
    exponent = fields.parsed("exponent", float, parsed.exponent, EXPONENTS)
    splits = fields.count("--splits", parsed.splits, 1_000, smallest=2)
    assert splits is not None  # it has a default
    seed = fields.parsed("seed", int, parsed.seed, "a whole number, 0 or above")
    if not 0 < exponent <= 3:
        raise ConfigError(f"--exponent: {parsed.exponent}; allowed: {EXPONENTS}")
    if seed < 0:
        raise ConfigError(f"--seed: {seed}; allowed: a whole number, 0 or above")
    words = [word for file in parsed.files for word in words_of(file)]
    found = _described(words, exponent, splits, seed, ", ".join(parsed.files))
    output(json_text(found) if parsed.json else "\n".join(_lines(found)))


def words_of(file: str) -> list[str]:
    """The words of a text, in their order; the same however accents and apostrophes are written in it.

    Raises:
        DataError: it cannot be read.
    """
    text = unicodedata.normalize("NFC", _text(file).lower()).translate(dict.fromkeys(map(ord, APOSTROPHES), "'"))
    return _word(text).findall(text)


def _word(text: str) -> re.Pattern[str]:
    """What is a word: letters with their marks, and apostrophes between them. An apostrophe after a word may close a quotation."""
    marks = "".join(sorted(one for one in set(text) if unicodedata.category(one)[0] == "M"))
    letters = f"{LETTER}+(?:[{marks}]+{LETTER}*)*" if marks else f"{LETTER}+"
    return re.compile(f"{letters}(?:'{letters})*")


def _text(file: str) -> str:
    try:
        with open(file, "rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(f"{file}: more than {MAX_BYTES:,} bytes; allowed: that many")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({reason(error)})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: cannot be read (not UTF-8)") from None


def _described(words: list[str], exponent: float, splits: int, seed: int, name: str) -> dict[str, Any]:
    import numpy as np

    from ncsim.statistics.rank_frequency import held_out_likelihoods, moment_fit, rank_counts

    try:
        counts = rank_counts(words)
        fit = moment_fit(counts, exponent)
        scores = held_out_likelihoods(words, splits, seed)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    found: dict[str, Any] = {"words": len(words), "kinds": len(counts), "exponent": exponent, "moments": fit._asdict()}
    energies = np.arange(len(counts)) ** exponent
    found["at_ranks"] = {
        str(rank): {
            "count": int(counts[rank - 1]),
            "bose_einstein": float(fit.bose_einstein(energies[rank - 1])),
            "maxwell_boltzmann": float(fit.maxwell_boltzmann(energies[rank - 1])),
        }
        for rank in dict.fromkeys((1, 2, 10, 100, len(counts)))
        if rank <= len(counts)
    }
    found["splits"], found["held_out"] = splits, {law: float(score.mean()) for law, score in scores._asdict().items()}
    for other in ("maxwell_boltzmann", "zipf_mandelbrot"):
        gain = scores.bose_einstein - getattr(scores, other)
        found[f"bose_einstein_less_{other}"] = [float(gain.mean()), float(gain.std(ddof=1))]
    return found


def _above_one(log_a: float) -> str:
    """A, of which a long text has hardly more than 1: one over its words."""
    above = math.expm1(log_a)
    return f"{1 + above:.5f}" if above >= 0.001 else f"1 + {above:.3e}"


def _constant(value: float) -> str:
    """A constant with five digits that say something, however small it is: C is one over the most frequent word's count."""
    return f"{value:.3f}" if value >= 1 else f"{value:#.5g}"


def _lines(found: dict[str, Any]) -> list[str]:
    fit = found["moments"]
    rows = [
        [rank, str(at["count"]), f"{at['bose_einstein']:.2f}", f"{at['maxwell_boltzmann']:.2f}"]
        for rank, at in found["at_ranks"].items()
    ]
    scores = [[law.replace("_", "-"), f"{score:.4f}"] for law, score in found["held_out"].items()]
    text = [
        f"{counted(found['words'], 'word')} of {counted(found['kinds'], 'kind')}; energy (rank - 1)^{found['exponent']:g}, in all {fit['energy']:,.2f}",
        "",
        f"  Bose-Einstein        1 / (A exp(E / B) - 1), A = {_above_one(fit['log_a'])}, B = {_constant(fit['b'])}",
        f"  Maxwell-Boltzmann    exp(-E / D) / C, C = {_constant(fit['c'])}, D = {_constant(fit['d'])}",
        "",
        *table(["rank", "count", "Bose-Einstein", "Maxwell-Boltzmann"], rows),
        "",
        *table(["nats per word held out", f"mean of {found['splits']} splits"], scores),
        "",
    ]
    for other in ("maxwell_boltzmann", "zipf_mandelbrot"):
        mean, spread = found[f"bose_einstein_less_{other}"]
        text.append(
            f"  Bose-Einstein less {other.replace('_', '-')}: {mean:+.4f} +- {2 * spread:.4f} (two spreads over splits)"
        )
    return text
