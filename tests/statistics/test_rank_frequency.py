"""Laws of word frequency: published constants to all printed digits, and the right law winning where it is known."""

import decimal
import math

import numpy as np
import pytest

import ncsim
from ncsim.statistics.rank_frequency import LARGEST_EXPONENT, LAWS, STARTS, _most_likely, _score


def any_counts(words, kinds):
    counts = np.ones(kinds, int)
    counts[0] += words - kinds
    return counts


@pytest.mark.parametrize(
    ("words", "kinds", "energy", "exponent", "constants", "bose", "boltzmann"),
    [
        # A story by Gemini (arXiv:2511.21731, table 6) and one of Piglet (Aerts and Beltran 2020).
        (
            2861,
            822,
            145_694.86,
            0.8,
            (1.00539, 235.554, 0.04305, 42.814),
            (185.36, 103.39, 6.46, 0.67),
            (23.23, 22.69, 10.84, 0.15),
        ),
        (
            2655,
            543,
            242_891,
            1.0,
            (1.00775, 593.509, 0.03535, 93.634),
            (129.05, 105.84, 6.70, 0.66),
            (28.29, None, None, None),
        ),
    ],
)
def test_published_constants(words, kinds, energy, exponent, constants, bose, boltzmann):
    """From the number of words, of kinds and the energy alone: the counts themselves do not enter."""
    fit = ncsim.moment_fit(any_counts(words, kinds), exponent, energy)
    places = (5, 3, 5, 3)
    assert tuple(round(each, n) for each, n in zip(fit[:4], places, strict=True)) == constants
    at = np.array([0, 1, 78, kinds - 1.0]) ** exponent
    assert [round(x, 2) for x in fit.bose_einstein(at).tolist()] == list(bose)
    for value, expected in zip(fit.maxwell_boltzmann(at).tolist(), boltzmann, strict=True):
        assert expected is None or round(value, 2) == expected


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7])
def test_moments_come_out(exponent):
    counts = ncsim.rank_counts(np.random.default_rng(1).zipf(1.6, 5_000).tolist())
    fit = ncsim.moment_fit(counts, exponent)
    levels = np.arange(len(counts)) ** exponent
    for numbers in (fit.bose_einstein(levels), fit.maxwell_boltzmann(levels)):
        assert numbers.sum() == pytest.approx(counts.sum(), rel=1e-9)
        assert numbers @ levels == pytest.approx(counts @ levels, rel=1e-9)
    assert fit.energy == counts @ levels


def assert_moments_come_out(counts, exponent=1.0):
    """However near to 1 A is."""
    counts = np.array(counts)
    fit, levels = ncsim.moment_fit(counts, exponent), np.arange(len(counts)) ** exponent
    near = 1e-12
    for numbers in (fit.bose_einstein(levels), fit.maxwell_boltzmann(levels)):
        assert numbers.sum() == pytest.approx(counts.sum(), rel=near)
        assert numbers @ levels == pytest.approx(counts @ levels, rel=near)


def test_texts_of_any_length_are_fitted():
    """In 60 of 1,000 texts nearly all words on the first level were too few for the bracket, by rounding."""
    lengths = [*range(3, 120), *(10**k for k in range(3, 8)), *range(99_990, 100_010), *range(7, 10**7, 98_765)]
    for words in lengths:
        assert_moments_come_out([words - 1, 1])
        assert_moments_come_out([words - min(words // 2, 50), *[1] * min(words // 2, 50)])


@pytest.mark.parametrize("kinds", [2, 3, 50, 2_000])
@pytest.mark.parametrize("exponent", [0.01, 1.0, 3.0])
def test_counts_that_are_nearly_equal_are_fitted(kinds, exponent):
    """The hotter the nearer they are: B is n^2 levels and more."""
    for each in 10 ** np.arange(9):
        assert_moments_come_out([each + 1, *[each] * (kinds - 1)], exponent)


def test_counts_of_any_steepness_are_fitted():
    generator = np.random.default_rng(4)
    for _ in range(200):
        share = generator.dirichlet(np.full(generator.integers(2, 40), 10 ** generator.uniform(-2, 4)))
        counts = np.sort(np.maximum(1, 10 ** generator.uniform(1, 9) * share).astype(np.int64))[::-1]
        if counts[0] > counts[-1]:
            assert_moments_come_out(counts, 10 ** generator.uniform(-2, 1))


def test_the_license_s_words():
    """1,588 words of 440 kinds; constants found by another program."""
    import re
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "LICENSE").read_text().lower()
    counts = ncsim.rank_counts(re.findall("[a-z']+", text))
    assert (counts.sum(), len(counts)) == (1588, 440)
    fit = ncsim.moment_fit(counts)
    assert (round(fit.a, 4), round(fit.b, 2), round(fit.d, 2)) == (1.0175, 429.77, 87.11)


def test_a_text_of_a_trillion_words_keeps_its_digits():
    """A was 1 and 1e-12, of which a float has four digits: 10^12 words came out as 0.99991 times as many."""
    for words in (10**10, 10**12, 10**14):
        counts = np.array([words // 2, words // 4, words // 8, words // 8])
        fit, levels = ncsim.moment_fit(counts), np.arange(4.0)
        numbers = fit.bose_einstein(levels)
        assert numbers.sum() == pytest.approx(counts.sum(), rel=1e-11)
        assert numbers @ levels == pytest.approx(fit.energy, rel=1e-11)
        assert math.exp(fit.log_a) == fit.a
        # 1 / (A exp(E / B) - 1) of the first rank, in whole numbers: ln(1 + 1 / n).
        assert fit.log_a == pytest.approx(math.log1p(1 / numbers[0]), rel=1e-11)


def drawn(weights, words=12_000, seed=2):
    return np.random.default_rng(seed).choice(len(weights), words, p=weights / weights.sum()).tolist()


RANKS = np.arange(1.0, 801)


@pytest.mark.parametrize(
    ("law", "weights"),
    [
        ("zipf_mandelbrot", (RANKS + 2.7) ** -1.1),
        ("bose_einstein", 1 / (1.02 * np.exp((RANKS - 1) / 150) - 1)),
        ("maxwell_boltzmann", np.exp(-(RANKS - 1) / 60)),
    ],
)
def test_the_law_that_words_are_drawn_from_wins(law, weights):
    """Held out; Bose-Einstein, which contains Maxwell-Boltzmann, may tie with it."""
    scores = ncsim.held_out_likelihoods(drawn(weights), splits=2)
    means = {name: float(score.mean()) for name, score in scores._asdict().items()}
    assert max(means.values()) - means[law] < (5e-4 if law == "maxwell_boltzmann" else 1e-12)
    best = weights / weights.sum()
    assert means[law] == pytest.approx(float(best @ np.log(best)), abs=0.2)  # of the words that have a rank
    assert means["bose_einstein"] >= means["maxwell_boltzmann"] - 5e-4


def score_in_decimals(law, at, counts):
    """Mean log-likelihood per word in 60 digits, of the weights as their law has them."""
    with decimal.localcontext(prec=60):
        one, two, three = (decimal.Decimal(float(x)).exp() for x in (*at, 0.0)[:3])
        exponent = decimal.Decimal(LARGEST_EXPONENT / (1 + math.exp(-at[0])))
        logs = []
        for rank in map(decimal.Decimal, range(len(counts))):
            if law == "zipf_mandelbrot":
                logs.append(-one * (rank + two).ln())
            else:
                x = rank**exponent / two + three
                logs.append(-x - (1 - (-x).exp()).ln())
        logs = [log - max(logs) for log in logs]
        shares = sum(int(count) * log for count, log in zip(counts, logs, strict=True)) / int(counts.sum())
        return float(shares - sum(log.exp() for log in logs).ln())


@pytest.mark.parametrize("law", ["zipf_mandelbrot", "bose_einstein"])
@pytest.mark.parametrize("reach", [6, 9, 12])
def test_a_law_whose_fit_has_no_end_has_the_score_of_its_weights(law, reach):
    """Words whose numbers fall faster than any power: Zipf-Mandelbrot goes towards s = q / B without an end, and Bose-Einstein of nearly equal
    counts towards A without one. There a large constant left a score nothing but rounding, of which the fit took the best: up to 0.03
    nats per word that neither law has."""
    ranks = np.arange(3 * reach)
    falling = np.rint(1e5 * np.exp(-((ranks / reach) ** 2))) if law == "zipf_mandelbrot" else 100 - ranks
    counts = falling[falling > 0].astype(np.int64)
    fitted = _most_likely(LAWS[law], counts, STARTS[law])
    far = (28.0, 29.9) if law == "zipf_mandelbrot" else (-0.9, 3.6, 29.0)
    for at in (fitted, far):
        found = _score(LAWS[law](np.arange(len(counts), dtype=float), at), counts)
        assert found == pytest.approx(score_in_decimals(law, at, counts), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 3])
def test_words_drawn_with_the_seed_of_the_halves_are_halved_by_other_uniforms(seed):
    """`choice` inverts the law on default_rng(seed).random(): with the same uniforms the first half has all of the frequent words."""
    words = drawn((RANKS + 2.7) ** -1.1, 6_000, seed)
    scores = ncsim.held_out_likelihoods(words, splits=6, seed=seed).zipf_mandelbrot
    others = ncsim.held_out_likelihoods(words, splits=6, seed=seed + 1).zipf_mandelbrot
    assert abs(scores[0] - others.mean()) < 6 * others.std(ddof=1)
    assert np.std(scores) < 3 * np.std(others)


def test_order_is_nothing():
    words = drawn((RANKS[:50] + 1) ** -1.0, 1_000)
    assert np.array_equal(ncsim.rank_counts(words), ncsim.rank_counts(words[::-1]))


def test_refusals():
    with pytest.raises(ValueError, match="there are none"):
        ncsim.rank_counts([])
    with pytest.raises(
        ValueError, match=r"^exponent: 110; allowed: above 0, and for 900 kinds one with energies that a float"
    ):
        ncsim.moment_fit([3, 2, 1] * 300, 110)
    assert_moments_come_out([3, 2, 1] * 300, 100.0)
    with pytest.raises(ValueError, match=r"^exponent: 0; allowed"):
        ncsim.moment_fit(np.array([3, 2, 1]), 0)
    nearly = np.nextafter(6.0, 0)
    for counts, energy in [
        ([5], None),
        ([3, 2, 1], 6.0),
        ([3, 2, 1], nearly),
        ([3, 2, 1], 0.0),
        ([1, 1, 1], None),
        ([], 1),
    ]:
        with pytest.raises(ValueError, match=r"^energy: .*allowed: above 0 and below"):
            ncsim.moment_fit(np.array(counts), energy=energy)
    for words, splits in [(["a"] * 50, 1), (["a", "b"] * 40, 1)]:
        with pytest.raises(ValueError, match="three ranks"):
            ncsim.held_out_likelihoods(words, splits)
    with pytest.raises(ValueError, match="splits: 0"):
        ncsim.held_out_likelihoods(["a", "b", "c"] * 9, 0)
    with pytest.raises(ValueError, match=r"^seed: -1; allowed: 0 or above$"):
        ncsim.held_out_likelihoods(["a", "b", "c"] * 9, 1, -1)
