"""p-values: printed reference values, exact small cases, and no false alarms beyond their level."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact

from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.inequalities import LinearInequality, chsh_inequality, correlator_inequality, mermin_inequality
from ncsim.statistics.locality_tests import _betting_ratio, game_p_value, hoeffding_p_value, prediction_based_ratio
from ncsim.statistics.signalling_tests import dependence_p_values, holm, paired_signalling_tests, signalling_tests
from tests.support import reference_statistics as reference
from tests.support.cases import sizes

#: Every correlator at half: on a face of the local polytope; the null is true and as near to false as it gets.
EDGE = reference.table_of_moments(0, 0, [[0.5, 0.5], [0.5, -0.5]])

#: Likewise, with accuracies as heads have them, from three strategies that win three contexts of four.
SKEWED_EDGE = sum(
    weight * table
    for weight, table in zip(
        (0.8, 0.1, 0.1), [t for t in reference.local_strategies() if chsh_inequality().value(t) == 2][-3:], strict=True
    )
)


def test_game_form_is_the_binomial_of_wins():
    counts = np.zeros((2, 2, 2, 2), int)
    counts[..., 1, 1], counts[..., 0, 1], counts[..., 1, 0], counts[..., 0, 0] = 3, 1, 0, 1
    # Wins: 4 of 5 where equal answers win, 1 of 5 in context 22.
    expected = sum(math.comb(20, w) * Fraction(3, 4) ** w * Fraction(1, 4) ** (20 - w) for w in range(13, 21))
    assert game_p_value(counts) == pytest.approx(float(expected), rel=1e-12)
    assert game_p_value(np.stack([counts, 2 * counts])).shape == (2,)
    assert np.isnan(game_p_value(np.zeros((2, 2, 2, 2), int)))


def test_nothing_is_bet_against_what_a_local_model_has():
    """The nearest local model is then what was seen, and odds are 1; accuracies and totals differ between contexts."""
    alice, bob = np.array([0.9, 0.6]), np.array([0.7, 0.2])
    law = np.einsum("ia,jb->ijab", np.stack([1 - alice, alice], axis=1), np.stack([1 - bob, bob], axis=1))
    totals = np.array([[10**6, 2 * 10**6], [3 * 10**6, 10**6]])
    odds = _betting_ratio(totals[..., None, None] * law, totals / totals.sum())
    np.testing.assert_allclose(odds, 1, atol=1e-3)


def test_game_form_of_one_trial():
    """It is won with 3/4 by the best strategy; a lost one says nothing. Equal outcomes win, but in context 22."""
    trial = np.eye(16, dtype=int).reshape(2, 2, 2, 2, 2, 2, 2, 2)  # [i, j, a, b], and the table of that trial alone
    won = np.tile(np.eye(2, dtype=bool), (2, 2, 1, 1))
    won[1, 1] = ~won[1, 1]
    assert np.array_equal(game_p_value(trial, random_settings=True), np.where(won, 0.75, 1.0))


def test_game_form_refuses_unequal_totals_and_names_them():
    counts = np.full((2, 2, 2, 2, 2), 5)
    counts[1, 0, 1, 0, 0] = 6
    with pytest.raises(ValueError, match=r"20, 21, 20, 20 items in contexts 11, 12, 21, 22 at \(1,\)"):
        game_p_value(counts)


@pytest.mark.parametrize("items", [2**53, 10**18, 1e19, 1e20])
def test_game_form_says_how_many_items_it_takes(items):
    """Beyond, SciPy's incomplete beta function is NaN, and sums of int64 wrap around."""
    counts = np.zeros((2, 2, 2, 2), type(items))
    counts[..., 0, 0] = items
    with pytest.raises(ValueError, match=r"^counts: .* items; allowed: fewer than 2\^53 in all four contexts$"):
        game_p_value(counts)
    for test in (signalling_tests, dependence_p_values):  # of 2^62 a context had "no items", 1e19 wrapped around
        with pytest.raises(ValueError, match=r"^counts: .* items; allowed: fewer than 2\^53 in all four contexts$"):
            test(counts)
    counts[..., 0, 0] = 2**50
    assert 0 <= game_p_value(counts) <= 1


def test_hoeffding_is_the_formula_for_chsh_and_takes_unequal_totals():
    counts = (400 * reference.PR_BOX).astype(int)
    assert hoeffding_p_value(counts) == pytest.approx(math.exp(-400 * 2**2 / 8), rel=1e-9)
    counts[0, 0] *= 3
    assert hoeffding_p_value(counts) == pytest.approx(math.exp(-2 * 4 / (4 / 1200 + 3 * 4 / 400)), rel=1e-9)
    assert hoeffding_p_value((400 * EDGE).astype(int)) == 1
    counts[1, 1] = 0
    assert np.isnan(hoeffding_p_value(counts))


@pytest.mark.parametrize("items", [8, 16, 60])
def test_hoeffding_holds_where_contexts_share_their_items(items):
    """Each item is as a PR box or as its opposite in all four contexts, with 3/4 and 1/4: marginals of a joint law, and S is 2."""
    won = np.array([np.diag([k // 2, k - k // 2]) for k in range(items + 1)])
    won = won + won[::-1, ::-1]
    tables = np.stack([won, won, won, won[::-1]], axis=1).reshape(-1, 2, 2, 2, 2)
    law = binom.pmf(np.arange(items + 1), items, 0.75)
    p_values = hoeffding_p_value(tables, same_items=True)
    for level in (0.5, 0.1, 0.05, 0.01, 1e-3, *p_values):
        assert law[p_values <= level].sum() <= level + 1e-12
    apart = hoeffding_p_value(tables)
    assert law[apart <= 0.02].sum() > 0.02  # items of their own have other errors
    assert hoeffding_p_value(tables[-1], same_items=True) == pytest.approx(math.exp(-items * 4 / 32))


def test_hoeffding_takes_other_inequalities():
    counts = np.zeros((2,) * 6, int)
    counts[..., 1, 1, 1] = 10
    counts[1, 1, 1] = 0
    counts[1, 1, 1, 0, 0, 0] = 10
    assert hoeffding_p_value(counts, mermin_inequality()) == pytest.approx(math.exp(-2 * 2**2 / (4 * 4 / 10)), rel=1e-9)


@pytest.mark.parametrize("size", [1e-200, 1e-9, 3.0, 2.0**40, 1e20, 1e200])
def test_hoeffding_does_not_depend_on_the_size_of_coefficients(size):
    counts = (40 * reference.PR_BOX).astype(int)
    scaled = correlator_inequality("CHSH", size * np.array([[1, 1], [1, -1]]))
    assert hoeffding_p_value(counts, scaled) == pytest.approx(math.exp(-40 * 2**2 / 8), rel=1e-9)


@pytest.mark.parametrize("items", [10**3, 10**9, 10**15, 2**52])
@pytest.mark.parametrize("there", [*itertools.combinations(range(4), 2), *itertools.combinations(range(4), 3)])
def test_few_contexts_of_many_items_are_no_evidence(items, there):
    """Without all four contexts one joint law always has what was seen. Neither NaN nor what rounding adds up to may come out."""
    box = (items * reference.PR_BOX).astype(np.int64).reshape(4, 2, 2)
    box[[context for context in range(4) if context not in there]] = 0
    alike, ones = box.copy(), np.zeros((4, 2, 2), np.int64)
    ones[list(there), 0, 1] = items
    for counts in (alike, ones):
        found = prediction_based_ratio(np.stack([counts.reshape(2, 2, 2, 2)] * 3))
        assert (found.log_evidence <= 0).all()
        assert "-0.00" not in str(found)
        assert found.p_value == 1


@pytest.mark.parametrize("coefficient", [0.0, 1.0, 0.3])
def test_an_inequality_whose_value_no_outcome_changes_refutes_nothing(coefficient):
    constant = LinearInequality("constant", np.full((2, 2, 2, 2), coefficient))
    counts = np.stack([np.asarray(40 * reference.PR_BOX, int), np.ones((2, 2, 2, 2), int)])
    np.testing.assert_allclose(constant.value(counts), 4 * coefficient, rtol=1e-15)
    assert hoeffding_p_value(counts, constant).tolist() == [1, 1]
    assert constant.standard_error(counts).tolist() == [0, 0]
    counts[0, 0, 1] = 0
    # Where all coefficients are 0, no context needs items.
    assert np.isnan(hoeffding_p_value(counts, constant)).tolist() == [coefficient > 0, False]


def test_no_signalling_of_table_2():
    counts = np.round(5_000 * reference.MIXED_R2).astype(int)
    a1, a2, b1, b2 = signalling_tests(counts)
    assert b2.answer == "B2"
    assert abs(b2.statistic) == pytest.approx(15.0, abs=0.05)
    assert abs(a2.statistic) == pytest.approx(7.8, abs=0.05)
    assert a1.method == b1.method == "Fisher exact"
    # Rounding the cells gives context 12 one item more.
    assert a1.p_value == pytest.approx(fisher_exact([[4996, 4974], [4, 27]]).pvalue, rel=1e-9)
    assert max(test.p_holm for test in (a1, a2, b1, b2)) < 0.001
    assert "z = 15.0" in str(b2)


def test_z_by_hand():
    counts = np.zeros((2, 2, 2, 2), int)
    counts[..., 1, 1], counts[..., 0, 0] = 60, 40
    counts[0, 1] = [[20, 0], [0, 80]]
    first = signalling_tests(counts)[0]
    z = -0.2 / math.sqrt(0.7 * 0.3 * 2 / 100)
    assert first.statistic == pytest.approx(z, abs=1e-12)
    assert first.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), rel=1e-9)


def test_no_errors_anywhere_are_no_signalling():
    counts = np.zeros((2, 2, 2, 2), int)
    counts[..., 1, 1] = 50
    assert [test.p_value for test in signalling_tests(counts)] == [1.0] * 4


def test_mcnemar_counts_only_items_that_changed():
    outcomes = np.ones((2, 2, 2, 40), int)
    outcomes[0, 1, 0, :9] = -1  # A1 loses nine items beside B2
    outcomes[0, 0, 0, 8:10] = -1  # and had two wrong beside B1, one of them the same
    a1, *others = paired_signalling_tests(outcomes)
    # Eight lost, one gained: 2 P[Bin(9, 1/2) <= 1].
    assert a1.p_value == pytest.approx(2 * (1 + 9) / 2**9, rel=1e-12)
    assert a1.accuracies == (38 / 40, 31 / 40)
    assert [test.p_value for test in others] == [1.0] * 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_the_closed_test_by_bonferroni(p_values):
    # The adjusted value of a test is the largest Bonferroni value of all sets of tests that it belongs to.
    adjusted = holm(p_values)
    for n in range(len(p_values)):
        sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(range(len(p_values)), size)]
        expected = max(min(1.0, len(s) * min(p_values[m] for m in s)) for s in sets if n in s)
        assert adjusted[n] == pytest.approx(expected, abs=1e-12)


def test_bets_are_fair_to_every_local_strategy():
    generator = np.random.default_rng(0)
    for table in reference.random_systems(20, seed=2):
        share = generator.dirichlet(np.ones(4)).reshape(2, 2)
        ratio = _betting_ratio(reference.drawn(table, 50, generator).astype(float), share)
        means = [np.sum(strategy * ratio * share[..., None, None]) for strategy in reference.local_strategies()]
        assert (ratio > 0).all()
        assert max(means) <= 1 + 1e-12
        assert max(means) > 0.99, "and no more cautious than that"


def test_ratio_gathers_evidence_against_local_models_where_there_is_some():
    generator = np.random.default_rng(1)
    blocks = reference.drawn(reference.TSIRELSON_TABLE, 50, generator, number=10)
    found = prediction_based_ratio(blocks)
    assert found.log_evidence.shape == (10,)
    assert found.log_evidence[0] == 0, "the first block is learned from"
    assert found.p_value < 1e-6
    assert "evidence" in str(found)
    assert prediction_based_ratio(blocks[:1]).p_value == 1
    assert prediction_based_ratio(blocks[:0]).p_value == 1


def assert_no_smaller_than_uniform(p_values):
    # Each check alarms falsely once in 10^4 choices of the seed at most.
    for level in (0.001, 0.01, 0.05, 0.1, 0.25):
        alarms = int(np.sum(np.asarray(p_values) <= level))
        assert alarms <= binom.ppf(1 - 1e-4, len(p_values), level), f"{alarms} of {len(p_values)} at {level}"


@pytest.mark.parametrize("table", [EDGE, SKEWED_EDGE], ids=["even", "skewed"])
def test_p_values_are_no_smaller_than_uniform_where_the_null_is_true(table):
    assert chsh_inequality().value(table) == pytest.approx(2)
    generator = np.random.default_rng(2)
    for items in (5, 40, 400):
        counts = reference.drawn(table, items, generator, number=4_000)
        assert_no_smaller_than_uniform(game_p_value(counts))
        assert_no_smaller_than_uniform(hoeffding_p_value(counts))


def test_ratio_is_valid_at_any_time():
    generator = np.random.default_rng(3)
    found = [prediction_based_ratio(reference.drawn(EDGE, 20, generator, number=5)).p_value for _ in range(80)]
    assert_no_smaller_than_uniform(found)


@pytest.mark.parametrize("runs", sizes(100, 400))
@pytest.mark.parametrize("table", [EDGE, SKEWED_EDGE], ids=["even", "skewed"])
def test_ratio_is_valid_at_any_time_in_many_runs(table, runs):
    generator = np.random.default_rng(4)
    found = [prediction_based_ratio(reference.drawn(table, 30, generator, number=8)).p_value for _ in range(runs)]
    assert_no_smaller_than_uniform(found)


@pytest.mark.parametrize(("items", "accuracy"), [(60, 0.7), (200, 0.98), (30, 0.97)])
def test_signalling_tests_keep_their_level(items, accuracy):
    mean = 2 * accuracy - 1
    table = reference.table_of_moments(mean, mean, mean**2 + 0.5 * (1 - mean**2))
    generator = np.random.default_rng(5)
    smallest = [
        min(test.p_holm for test in signalling_tests(counts))
        for counts in reference.drawn(table, items, generator, number=400)
    ]
    # The normal approximation is one: at 5 % it is allowed 7 %; false alarms of this check once in 10^4 seeds.
    assert np.sum(np.array(smallest) <= 0.05) <= binom.ppf(1 - 1e-4, 400, 0.07)


def test_refusals():
    with pytest.raises(ValueError, match=r"p_values: 1\.5 at 1"):
        holm([0.1, 1.5])
    with pytest.raises(ValueError, match="nan at 0"):
        holm([float("nan")])
    with pytest.raises(ValueError, match="whole numbers"):
        hoeffding_p_value(reference.TSIRELSON_TABLE)
    with pytest.raises(ValueError, match=r"no items in context \(i, j\) = \(0, 0\)"):
        signalling_tests(np.zeros((2, 2, 2, 2), int))
    with pytest.raises(ValueError, match="one table"):
        signalling_tests(np.ones((2, 2, 2, 2, 2), int))
    with pytest.raises(ValueError, match="blocks: shape"):
        prediction_based_ratio(np.ones((2, 2, 2, 2), int))
    with pytest.raises(ValueError, match=r"outcomes: 0\.0 at"):
        paired_signalling_tests(np.zeros((2, 2, 2, 3)))
    with pytest.raises(ValueError, match="1 item or more"):
        paired_signalling_tests(np.zeros((2, 2, 2, 0)))


def bell_test(*contexts):
    """Joint counts from N(++), N(+-), N(-+), N(--) by context."""
    return np.array([[[mm, mp], [pm, pp]] for pp, pm, mp, mm in contexts]).reshape(2, 2, 2, 2)


#: Hensen et al. 2015, as Gill tabulates them (arXiv:2209.00702).
DELFT = bell_test((23, 3, 4, 23), (33, 11, 5, 30), (22, 10, 6, 24), (4, 20, 21, 6))
#: Giustina et al. 2015, likewise; + is a detection.
VIENNA = bell_test(
    (141439, 73391, 76224, 875392736),
    (146831, 67941, 326768, 874976534),
    (158338, 425067, 58742, 875239860),
    (8392, 576445, 463985, 874651457),
)


def test_game_form_gives_delft_its_published_numbers():
    """Nature 526, 682: 245 trials, S = 2.42 +- 0.20, p = 0.039."""
    found = chsh_statistics(DELFT)
    assert DELFT.sum() == 245
    assert f"{found.s:.2f}" == "2.42"
    assert f"{np.sqrt(np.sum((1 - found.correlator**2) / DELFT.sum(axis=(2, 3)))):.2f}" == "0.20"
    p_value = game_p_value(DELFT, random_settings=True)
    wins = sum(math.comb(245, w) * Fraction(3, 4) ** w * Fraction(1, 4) ** (245 - w) for w in range(196, 246))
    assert p_value == pytest.approx(float(wins), rel=1e-9)
    assert round(float(p_value), 3) == 0.039


def test_totals_that_fair_settings_do_not_give_are_named():
    with pytest.warns(UserWarning, match=r"875683790, 875518074, 875882007, 875700279 items .* not valid"):
        game_p_value(VIENNA, random_settings=True)


def test_with_random_settings_no_local_strategy_is_rejected_too_often():
    """The best strategy wins three contexts of four: the p-value is exact, and at most alpha as often as alpha."""
    generator = np.random.default_rng(5)
    totals = generator.multinomial(245, [0.25] * 4, size=4_000).reshape(-1, 2, 2)
    counts = np.zeros((4_000, 2, 2, 2, 2), int)
    counts[..., 1, 1] = totals
    p_values = game_p_value(counts, random_settings=True)
    assert np.mean(p_values <= 0.05) <= binom.ppf(1 - 1e-4, 4_000, 0.05) / 4_000
    assert np.mean(p_values <= 0.05) > 0.02
