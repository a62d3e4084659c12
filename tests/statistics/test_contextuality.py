"""Linear programmes against closed forms, witnesses, and the interval for Delta."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.contextuality import contextuality_measures
from ncsim.statistics.contextuality_interval import contextuality_interval
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.verdicts import verdict
from tests.support import reference_statistics as reference
from tests.support.cases import sizes

TO_9_DIGITS = 1e-9


def assert_closed_forms(table):
    measures, closed = contextuality_measures(table), chsh_statistics(table)
    delta = max(float(closed.contextuality), 0)
    assert measures.cnt1 == pytest.approx(float(closed.cnt2), abs=TO_9_DIGITS)
    assert measures.cnt2 == pytest.approx(float(closed.cnt2), abs=TO_9_DIGITS)
    assert measures.cnt3 == pytest.approx(delta / 6, abs=TO_9_DIGITS)
    assert measures.discounted_fraction == pytest.approx(delta / 2, abs=TO_9_DIGITS)
    assert measures.ncnt2 == pytest.approx(float(closed.ncnt2), abs=TO_9_DIGITS)
    return measures, float(closed.contextuality)


def assert_witnesses(table, measures, delta):
    if measures.witness is not None:
        assert measures.witness.value(table) > measures.witness.classical_bound + TO_9_DIGITS
        values = [float(measures.witness.value(strategy)) for strategy in reference.local_strategies()]
        assert max(values) == pytest.approx(measures.witness.classical_bound, abs=1e-8)
    else:
        assert measures.contextual_fraction <= TO_9_DIGITS
    if measures.discounted_witness is not None:
        # In units of the largest correlator coefficient the dual is the cyclic inequality, broken by Delta.
        assert measures.discounted_witness.excess(table) == pytest.approx(delta, abs=1e-7)
    else:
        assert delta <= 4 * TO_9_DIGITS


def check_systems(number, seed):
    contextual = 0
    for table in reference.random_systems(number, seed):
        measures, delta = assert_closed_forms(table)
        assert_witnesses(table, measures, delta)
        contextual += delta > 0
    assert 0.05 * number < contextual < 0.95 * number, "both kinds are among the systems"


@pytest.mark.parametrize("systems", sizes(100, 1_000))
def test_closed_forms_are_the_linear_programmes_values(systems):
    check_systems(systems, seed=systems)


def test_pr_box():
    measures = contextuality_measures(reference.PR_BOX)
    assert measures.contextual_fraction == pytest.approx(1, abs=1e-9)
    assert measures.signalling_fraction == pytest.approx(0, abs=1e-9)
    assert measures.discounted_fraction == pytest.approx(1, abs=1e-9)
    assert (measures.cnt1, measures.cnt2, measures.cnt3) == pytest.approx((1 / 2, 1 / 2, 1 / 3), abs=1e-9)
    assert measures.witness.expression == "<A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2"
    assert str(measures.discounted_witness).startswith("<A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> - |<A1>[A1 B1]")
    assert "<A1 B1>" in str(measures)


def test_tsirelson_table():
    measures = contextuality_measures(reference.TSIRELSON_TABLE)
    assert measures.contextual_fraction == pytest.approx(np.sqrt(2) - 1, abs=1e-9)
    assert measures.cnt2 == pytest.approx((np.sqrt(2) - 1) / 2, abs=1e-9)


def test_local_strategies_have_no_contextuality_of_any_kind():
    for table in reference.local_strategies():
        measures, _ = assert_closed_forms(table)
        assert measures.contextual_fraction == pytest.approx(0, abs=1e-9)
        assert measures.signalling_fraction == pytest.approx(0, abs=1e-9)
        assert measures.witness is None
        assert measures.discounted_witness is None
        assert "no inequality" in str(measures)


@pytest.mark.parametrize("size", [10**8, 10**9, 2 * 10**9, 10**10, 10**12])
def test_tables_that_are_barely_contextual_have_measures(size):
    """Delta is 2 / size. Where CNT2 is nearly the solver's tolerance, no step that NCNT2 could take is possible."""
    same = np.array([[3 * size + 1, size - 1], [size - 1, 3 * size + 1]])
    table = np.stack([np.stack([same, same]), np.stack([same, same[::-1]])])
    measures = contextuality_measures(table)
    assert chsh_statistics(table).contextuality == 2 / size
    assert measures.discounted_fraction == pytest.approx(1 / size, abs=2e-10)
    assert (measures.cnt1, measures.cnt2) == pytest.approx((1 / 2 / size, 1 / 2 / size), abs=2e-10)
    assert measures.cnt3 == pytest.approx(1 / 3 / size, abs=2e-10)
    assert measures.ncnt2 == pytest.approx(0, abs=2e-10)
    assert (measures.discounted_witness is None) == (size >= 10**9)


def test_signalling_alone_makes_the_sheaf_fraction_and_not_the_discounted_one():
    measures = contextuality_measures(reference.MIXED_R2)
    assert measures.contextual_fraction == pytest.approx(0.1157, abs=5e-5)
    assert measures.signalling_fraction == pytest.approx(0.1157, abs=5e-5)
    assert measures.discounted_fraction == 0
    assert measures.cnt2 == 0


def test_contextual_fraction_is_at_least_the_signalling_fraction():
    # A joint distribution of four answers has no signalling, so less of a table fits under one.
    for table in reference.random_systems(30, seed=5):
        measures = contextuality_measures(table)
        assert measures.contextual_fraction >= measures.signalling_fraction - TO_9_DIGITS


def test_witness_of_one_table_holds_for_other_noncontextual_ones():
    witness = contextuality_measures(0.8 * reference.PR_BOX + 0.05).discounted_witness
    others = [table for table in reference.random_systems(90, seed=6) if chsh_statistics(table).contextuality <= 0]
    assert len(others) > 30
    assert max(witness.excess(table) for table in others) <= TO_9_DIGITS


def test_interval_is_around_the_plug_in_estimate():
    generator = np.random.default_rng(2)
    for table in (*reference.random_systems(20, seed=3), reference.PR_BOX, reference.MIXED_R2):
        counts = reference.drawn(table, 40, generator)
        for same_items in (False, True):
            estimate = contextuality_interval(counts, same_items=same_items)
            assert estimate.value == pytest.approx(float(chsh_statistics(counts).contextuality), abs=1e-12)
            assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low <= contextuality_interval(counts).low


def test_interval_of_an_all_right_table_is_no_certainty():
    table = np.zeros((2, 2, 2, 2), int)
    table[..., 1, 1] = 5_000
    estimate = contextuality_interval(table)
    assert estimate.value == 0
    assert -0.02 < estimate.low < 0 < estimate.high < 0.02


def test_interval_shrinks_with_items_and_grows_with_the_level():
    few, many = (contextuality_interval((reference.PR_BOX * n).astype(int)) for n in (100, 10_000))
    assert many.high - many.low < (few.high - few.low) / 5
    assert contextuality_interval((reference.PR_BOX * 100).astype(int), level=0.99).low < few.low


#: Tables where Delta has kinks (ties of the largest, differences of 0), is 0, or whose accuracies are near 1.
HARD_TABLES = {
    "Tsirelson": reference.TSIRELSON_TABLE,
    "PR box": reference.PR_BOX,
    "edge of local, no influence": reference.table_of_moments(0, 0, [[0.5, 0.5], [0.5, -0.5]]),
    "all kinks": reference.table_of_moments(0, 0, 0),
    "Delta 0 with influence": reference.table_of_moments([[0.2, 0.1], [0, 0]], 0, [[0.525, 0.525], [0.525, -0.525]]),
    "accuracies near 1": reference.table_of_moments(0.998, 0.998, 0.998**2),
    "mixed r=2": reference.MIXED_R2,
}


def check_interval_coverage(name, items, tables, seed):
    table, generator = HARD_TABLES[name], np.random.default_rng(seed)
    law = np.maximum(table, 0) / np.maximum(table, 0).sum(axis=(2, 3), keepdims=True)
    delta = float(chsh_statistics(law).contextuality)
    estimates = [contextuality_interval(counts) for counts in reference.drawn(table, items, generator, tables)]
    held = sum(e.low - 1e-9 <= delta <= e.high + 1e-9 for e in estimates)
    # False alarms: with a coverage of 94 % or more, once in 10^4 choices of the seed.
    assert held >= binom.ppf(1e-4, tables, 0.94), f"{name}, {items} items: {held} of {tables}"


@pytest.mark.parametrize("name", ["edge of local, no influence", "accuracies near 1"])
def test_interval_holds_delta(name):
    check_interval_coverage(name, items=50, tables=150, seed=8)


@pytest.mark.parametrize("tables", sizes(200, 1_000))
@pytest.mark.parametrize("items", [16, 50, 500])
@pytest.mark.parametrize("name", sorted(HARD_TABLES))
def test_interval_holds_delta_in_every_hard_case(name, items, tables):
    check_interval_coverage(name, items, tables, seed=9)


@pytest.mark.parametrize("samples", sizes(200, 1_000))
def test_interval_holds_delta_where_the_contexts_share_their_items(samples):
    # One draw of four answers serves all contexts, so that there is no influence and their errors are not independent.
    generator = np.random.default_rng(10)
    strategies = np.stack(list(reference.local_strategies()))
    weights = np.linspace(0.2, 1.8, 16) / 16
    delta = float(chsh_statistics(np.tensordot(weights, strategies, 1)).contextuality)
    chosen = generator.multinomial(60, weights, size=samples)
    estimates = [contextuality_interval(np.tensordot(w, strategies, 1), same_items=True) for w in chosen]
    held = sum(e.low - 1e-9 <= delta <= e.high + 1e-9 for e in estimates)
    assert held >= binom.ppf(1e-4, samples, 0.94)


def test_verdict_says_contextual_only_above_0():
    def delta(value, low, high):
        return Estimate(value, low, high, "test")

    assert verdict(2.5, delta(0.2, 0.1, 0.3)) == "contextual beyond direct influence"
    assert verdict(2.5, delta(-0.2, -0.3, -0.1)) == "S above 2, explained by direct influence"
    assert verdict(2.5, delta(0.1, -0.1, 0.3)) == "S above 2, not shown to exceed direct influence"
    assert verdict(2.5, delta(-0.01, -0.2, 0.2)) == "S above 2, not shown to exceed direct influence"
    assert verdict(2.5, delta(-0.1, -0.2, 0.0)) == "S above 2, explained by direct influence"
    assert verdict(1.9, delta(-0.1, -0.2, 0.0)) == "S not above 2"
    assert verdict(float("nan"), delta(0, -1, 1)).startswith("no verdict")


def test_refusals():
    with pytest.raises(ValueError, match="one table"):
        contextuality_measures(np.ones((3, 2, 2, 2, 2)))
    empty = np.ones((2, 2, 2, 2), int)
    empty[1, 0] = 0
    for function in (contextuality_measures, contextuality_interval):
        with pytest.raises(ValueError, match=r"no items in context \(i, j\) = \(1, 0\)"):
            function(empty)
    with pytest.raises(ValueError, match=r"-1 at"):
        contextuality_measures(empty - 1)
    with pytest.raises(ValueError, match="whole numbers"):
        contextuality_interval(reference.PR_BOX)
    with pytest.raises(ValueError, match=r"level: 1\.5"):
        contextuality_interval(np.ones((2, 2, 2, 2), int), level=1.5)
