"""How often words occur, by rank: Bose-Einstein, Maxwell-Boltzmann and Zipf-Mandelbrot side by side.

Aerts and others (arXiv:2511.21731, Entropy 28, 622) give the word of rank i the energy (i - 1)^d and fit occupation numbers
1 / (A exp(E / B) - 1) and exp(-E / D) / C so that the number of words and the total energy come out. A fair comparison
asks each law, with parameters of maximum likelihood, for words that it has not seen: ranks are those of a random half of
the text, and the score is that of the other half. Bose-Einstein contains Maxwell-Boltzmann (A to infinity), so it can
only lose to it by chance.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ncsim.config.fields import shown
from ncsim.formatting import counted
from ncsim.statistics.arguments import numbers, one_number, whole

#: Halvings of a text: with more, a call takes hours.
MOST_SPLITS = 1_000_000

#: Splits of a text into halves, and the largest exponent of the energies that is tried.
SPLITS = 20
LARGEST_EXPONENT = 3.0
#: Key of the stream that halves a text ("half" in ASCII).
HALVES = 0x68616C66


class MomentFit(NamedTuple):
    """Constants that make a law's number of words N and total energy E those of the text.

    Attributes:
        a: of Bose-Einstein, 1 / (a exp(E / b) - 1); above 1.
        b: its temperature, in units of energy.
        c: of Maxwell-Boltzmann, exp(-E / d) / c.
        d: its temperature.
        words: N.
        energy: E, the sum of count times (rank - 1)^exponent.
        log_a: ln a, about one over the words. Of a long text `a` itself has none of its digits: it is 1 and little more.

    Example:
        >>> fit = moment_fit(rank_counts("a rose is a rose is a rose".split()))
        >>> fit.words, fit.energy
        (8, 7.0)
    """

    a: float
    b: float
    c: float
    d: float
    words: int
    energy: float
    log_a: float

    @np.errstate(over="ignore", under="ignore")
    def bose_einstein(self, energy: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Occupation numbers at these energies.

        Args:
            energy: (rank - 1)^exponent, 0 or above.

        Example:
            >>> fit = moment_fit(rank_counts("a rose is a rose is a rose".split()))
            >>> float(fit.bose_einstein(np.arange(3.0)).sum().round(6))
            8.0
        """
        return np.asarray(1 / np.expm1(np.asarray(energy) / self.b + self.log_a))

    @np.errstate(under="ignore")
    def maxwell_boltzmann(self, energy: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Occupation numbers at these energies.

        Args:
            energy: as for `bose_einstein`.

        Example:
            >>> fit = moment_fit(rank_counts("a rose is a rose is a rose".split()))
            >>> float(fit.maxwell_boltzmann(np.arange(3.0)).sum().round(6))
            8.0
        """
        return np.asarray(np.exp(-np.asarray(energy) / self.d) / self.c)


def rank_counts(words: Iterable[Hashable]) -> Int[np.ndarray, " rank"]:
    """How often each word occurs, the most frequent first.

    Args:
        words: any hashable things, in any order.

    Returns:
        int64, none below 1.

    Raises:
        ValueError: no words, or a text that is not yet cut into them.

    Source: Zipf 1935; arXiv:2511.21731, section 3.

    Example:
        >>> rank_counts("a rose is a rose is a rose".split()).tolist()
        [3, 3, 2]
    """
    counts = sorted(collections.Counter(_each_word(words)).values(), reverse=True)
    if not counts:
        raise ValueError("words: there are none; allowed: one or more")
    return np.array(counts, np.int64)


def _each_word(words: Any) -> Iterator[Hashable]:
    """Words one by one. A text would be taken for its letters. Raises ValueError."""
    allowed = "words one by one, as of text.split()"
    if isinstance(words, str | bytes | bytearray) or not isinstance(words, Iterable):
        raise ValueError(f"words: {shown(words)}; allowed: {allowed}")
    try:
        for word in words:
            hash(word)
            yield word
    except TypeError:  # what has no hash, or an array without axes
        raise ValueError(f"words: {shown(words)}; allowed: {allowed}") from None


@np.errstate(under="ignore")
def moment_fit(counts: Int[np.ndarray, " rank"], exponent: float = 1.0, energy: float | None = None) -> MomentFit:
    """The constants of arXiv:2511.21731 (equations 3 to 6, 10).

    Args:
        counts: as `rank_counts` gives them.
        exponent: d of the energies (rank - 1)^d, above 0.
        energy: the total energy, where it is published and not to be computed.

    Returns:
        See `MomentFit`.

    Raises:
        ValueError: an exponent of 0 or below, or so large that energies are no floats; fewer than two kinds of words; an energy that no constants reach, since the mean must lie
            between that of the first rank and that of equal counts.

    Example:
        >>> fit = moment_fit(np.array([5, 3, 2, 1, 1]))
        >>> round(float(fit.bose_einstein(np.arange(5.0)).sum()), 6)
        12.0
    """
    counts = _whole_counts(counts)
    exponent = one_number("exponent", exponent, "above 0")
    if not (math.isfinite(exponent) and exponent > 0):
        raise ValueError(f"exponent: {exponent:g}; allowed: above 0")
    words = int(counts.sum())
    if exponent * math.log(max(len(counts) - 1, 1)) + math.log(max(words, 1)) > 709:  # of the largest float
        kinds = counted(len(counts), "kind")
        raise ValueError(
            f"exponent: {exponent:g}; allowed: above 0, and for {kinds} one with energies that a float can hold"
        )
    levels = np.arange(len(counts), dtype=float) ** exponent
    energy = float(counts @ levels) if energy is None else one_number("energy", energy)
    most = words * float(levels.mean()) if len(counts) > 1 else 0.0
    # Nearer than that it is that of equal counts but for rounding, and any large B does.
    if not 0 < energy < most * (1 - 1e-13):
        limit = f"{most:.15g}, that of equal counts" if most > 0 else "that of equal counts, of two kinds or more"
        raise ValueError(
            f"energy: {energy:.15g} for {counted(words, 'word')} of {counted(len(counts), 'kind')}; allowed: above 0 and below {limit}"
        )

    def bose(log_b: float) -> tuple[float, np.ndarray]:
        """ln A that gives N words, and the occupation numbers."""
        scaled = levels / math.exp(log_b)

        def occupied(log_a: float) -> np.ndarray:
            with np.errstate(over="ignore"):
                return np.asarray(1 / np.expm1(scaled + log_a))

        # All on the first level, and the same on all of them: the number of words lies between, but for rounding.
        least, largest = math.log1p(1 / words), math.log1p(len(levels) / words)
        log_a = _root(lambda at: float(occupied(at).sum()) / words - 1, least * (1 - 1e-9), largest * (1 + 1e-9))
        return log_a, occupied(log_a)

    low, high = -10.0, _hottest(levels, words, most - energy)
    log_b = _root(lambda at: float(bose(at)[1] @ levels) / energy - 1, low, high)
    log_a, _ = bose(log_b)

    def boltzmann(log_d: float) -> np.ndarray:
        weights = np.exp(-levels / math.exp(log_d))
        return np.asarray(weights / weights.sum() * words)

    d = math.exp(_root(lambda at: float(boltzmann(at) @ levels) / energy - 1, low, high))
    c = float(np.exp(-levels / d).sum()) / words
    return MomentFit(math.exp(log_a), math.exp(log_b), c, d, words, energy, log_a)


def _whole_counts(counts: Any) -> np.ndarray:
    """How often each rank occurs, int64[rank]. Raises ValueError."""
    found = numbers("counts", counts)
    if found.ndim != 1 or not bool(((found >= 0) & (found == np.floor(found)) & (found < 2.0**53)).all()):
        raise ValueError(f"counts: {shown(counts)}; allowed: whole numbers, 0 or above and below 2^53, on one axis")
    return found.astype(np.int64)


def _hottest(levels: np.ndarray, words: int, below: float) -> float:
    """The logarithm of a temperature above those of both laws, whose energy is so far below that of equal counts.

    There that distance is words (n + 1) variance / B with n words on each level: Bose-Einstein's, and Boltzmann's without the n + 1."""
    share = levels / levels[-1]
    distance = words * (words / len(levels) + 1) * float(share.var()) / (below / levels[-1])
    return min(math.log(levels[-1]) + max(25.0, math.log(distance) + 3), 709.0)


class HeldOut(NamedTuple):
    """Mean log-likelihood per word of text that was not ranked, in nats, one entry per split.

    Attributes:
        bose_einstein: 1 / (A exp(E / B) - 1), three parameters: A, B and the exponent of E.
        maxwell_boltzmann: exp(-E / D), two parameters: D and the exponent.
        zipf_mandelbrot: 1 / (rank + q)^s, two parameters.

    Example:
        >>> text = "the cat saw the dog and the dog saw the cat and the bird".split() * 20
        >>> held_out = held_out_likelihoods(text, splits=3)
        >>> len(held_out.bose_einstein)
        3
    """

    bose_einstein: Float[np.ndarray, " split"]
    maxwell_boltzmann: Float[np.ndarray, " split"]
    zipf_mandelbrot: Float[np.ndarray, " split"]


def held_out_likelihoods(words: Iterable[Hashable], splits: int = SPLITS, seed: int = 0) -> HeldOut:
    """Each law's score on the half of a text that it was not ranked by.

    Args:
        words: any hashable things; which half a word falls into is drawn, so that order is nothing.
        splits: how often the text is halved, 1 or more.
        seed: of the draws, a whole number, 0 or above. They have a stream of their own: words that were drawn by
            numpy.random.default_rng with the same seed do not tell which half they fall into.

    Returns:
        See `HeldOut`. Words of the other half without a rank are left out, for all laws alike.

    Raises:
        ValueError: fewer than 1 split, a seed below 0, or too few words for a rank in either half.

    Source: Mandelbrot 1953 (Zipf-Mandelbrot); arXiv:2511.21731 (the other two).

    Example:
        >>> scores = held_out_likelihoods(["a"] * 60 + ["b"] * 30 + ["c"] * 10, splits=2)
        >>> bool((scores.zipf_mandelbrot < 0).all())
        True
    """
    splits, seed = whole("splits", splits, 1, MOST_SPLITS), whole("seed", seed)
    kinds: dict[Hashable, int] = {}
    order = np.array([kinds.setdefault(word, len(kinds)) for word in _each_word(words)], np.int64)
    # A stream of its own: `choice` gives frequent words where uniforms are small, and the same uniforms below 0.5 would put
    # all of them into one half.
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(HALVES,)))
    scores, starts = [], dict(STARTS)
    for _ in range(splits):
        first = generator.random(len(order)) < 0.5
        ranked, other = (np.bincount(order[half], minlength=len(kinds)) for half in (first, ~first))
        by_rank = np.argsort(-ranked, kind="stable")[: np.count_nonzero(ranked)]
        seen = other[by_rank]
        if len(seen) < 3 or seen.sum() == 0:
            raise ValueError(
                f"words: {len(order)}, of {counted(len(kinds), 'kind')}; allowed: enough for three ranks in either half"
            )
        at: dict[str, tuple[float, ...]] = {}
        for name in ("maxwell_boltzmann", "bose_einstein", "zipf_mandelbrot"):
            # Bose-Einstein with a large A is Maxwell-Boltzmann, so it starts from there as well.
            nearby = [(*at["maxwell_boltzmann"], 3.0)] if name == "bose_einstein" else []
            at[name] = _most_likely(LAWS[name], ranked[by_rank], [*starts[name], *nearby])
        # Another split's best is not far, but may be no better than near.
        starts = {name: [where, STARTS[name][0]] for name, where in at.items()}
        scores.append([_score(LAWS[name](np.arange(len(seen)), at[name]), seen) for name in HeldOut._fields])
    return HeldOut(*np.array(scores).T)


# Logarithms of each law's weights at ranks 0, 1, ... up to a constant, from parameters that may be any numbers. A constant that is left
# in has none of the digits that differ between ranks where it is large, and a fit would seek what rounding alone gives.


def _levels(ranks: np.ndarray, raw: float) -> np.ndarray:
    return np.asarray(ranks ** (LARGEST_EXPONENT / (1 + math.exp(-raw))))


def _boltzmann(ranks: np.ndarray, at: Sequence[float]) -> np.ndarray:
    return -_levels(ranks, at[0]) * math.exp(-at[1])


def _bose(ranks: np.ndarray, at: Sequence[float]) -> np.ndarray:
    # -ln(exp(x) - 1) = -x - ln(1 - exp(-x)), which neither overflows nor loses what is small; x is E / B + ln A.
    energy = _levels(ranks, at[0]) * math.exp(-at[1])
    return np.asarray(-energy - np.log(-np.expm1(-(energy + math.exp(at[2])))))


def _zipf(ranks: np.ndarray, at: Sequence[float]) -> np.ndarray:
    return -math.exp(at[0]) * np.log1p(ranks / math.exp(at[1]))


LAWS = {"bose_einstein": _bose, "maxwell_boltzmann": _boltzmann, "zipf_mandelbrot": _zipf}
STARTS: dict[str, list[tuple[float, ...]]] = {
    "maxwell_boltzmann": [(-2.0, 1.0), (-1.0, 2.0), (-0.5, 4.0)],
    "bose_einstein": [(-1.0, 3.0, -3.0), (-0.5, 6.0, -3.0)],
    "zipf_mandelbrot": [(-0.3, 0.5), (0.3, 2.0)],
}


def _score(log_weights: np.ndarray, counts: np.ndarray) -> float:
    """Mean log-likelihood per word."""
    top = log_weights.max()
    return float(counts @ log_weights / counts.sum() - top - np.log(np.exp(log_weights - top).sum()))


def _most_likely(
    law: Callable[[np.ndarray, Sequence[float]], np.ndarray], counts: np.ndarray, starts: Iterable[tuple[float, ...]]
) -> tuple[float, ...]:
    from scipy.optimize import minimize

    ranks = np.arange(len(counts), dtype=float)

    def loss(at: np.ndarray) -> float:
        value = -_score(law(ranks, np.clip(at, -30, 30)), counts)
        return value if math.isfinite(value) else math.inf

    with np.errstate(all="ignore"):
        options = {"xatol": 1e-3, "fatol": 1e-8, "maxiter": 1_000}
        found = [minimize(loss, start, method="Nelder-Mead", options=options) for start in starts]
    best = min(found, key=lambda each: each.fun)
    return tuple(float(x) for x in np.clip(best.x, -30, 30))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    # What is sought may be far below 1: ln A of a long text is one over its words.
    return float(brentq(function, low, high, xtol=1e-15 * min(abs(low), 1), rtol=1e-14))
