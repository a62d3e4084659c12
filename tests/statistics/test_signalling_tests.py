"""No-signalling across members: against enumeration, against scipy, and under the null."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ncsim.formatting import p_value_text
from ncsim.statistics.contextuality import CONNECTIONS
from ncsim.statistics.signalling_tests import (
    MOST_FOR_EXACT,
    AccuracyDifferences,
    dependence_p_values,
    holm,
    member_signalling_tests,
    signalling_tests,
)
from tests.statistics.test_protocols import made_up

ROWS = 16


def differences_of(values, rows=ROWS):
    """All four connections with these differences in rows."""
    tally = AccuracyDifferences(rows)
    tally.histogram[:] = np.bincount(np.asarray(values) + rows, minlength=2 * rows + 1)
    return tally


def test_histograms_against_the_records():
    records = made_up(300, seed=5, diverged=0.05)
    tally = AccuracyDifferences(ROWS)
    for part in (slice(0, 120), slice(120, None)):
        batch = records.take(part)
        tally.add(batch.counts, batch.diverged)
    for number, (answer, (first, second)) in enumerate(CONNECTIONS):
        right = records.joint.sum(axis=-1)[..., 1] if answer[0] == "A" else records.joint.sum(axis=-2)[..., 1]
        diverged = records.diverged.reshape(-1, 2, 2)
        kept = ~diverged[(slice(None), *first)] & ~diverged[(slice(None), *second)]
        difference = (right[(slice(None), *first)] - right[(slice(None), *second)])[kept]
        found = member_signalling_tests(tally)[number]
        assert (found.answer, found.members) == (answer, kept.sum())
        assert found.difference.value == pytest.approx(difference.mean() / ROWS)
        expected = stats.ttest_1samp(difference, 0).pvalue
        assert found.p_value == pytest.approx(expected, rel=1e-9)
        assert found.method == "Student's t, paired"


@pytest.mark.parametrize("values", [[3], [1, 1, -2, 4, 0, 5], [2] * 8, [0, 0, 0], [], [1, -1, 7, 16, -16, 3, 3, 3, 0]])
def test_few_members_against_all_flips_of_signs(values):
    total, as_far = abs(sum(values)), 0
    for signs in itertools.product((-1, 1), repeat=len(values)):
        as_far += abs(int(np.dot(signs, values))) >= total
    tests = member_signalling_tests(differences_of(np.array(values, int)))
    for test in tests:
        assert test.p_value == pytest.approx(as_far / 2 ** len(values), abs=1e-12)
        assert test.method == "sign flips, exact"
        assert test.p_holm == pytest.approx(min(4 * test.p_value, 1))


def test_exact_and_student_meet():
    values = np.random.default_rng(2).integers(-5, 6, 260)
    values = values[np.cumsum(values != 0) <= MOST_FOR_EXACT]
    exact = member_signalling_tests(differences_of(values))[0]
    assert exact.method == "sign flips, exact"
    assert exact.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.05)
    assert "sign flips, exact" in str(exact)


def test_equal_differences_have_no_smaller_p_value_than_flips_can_give():
    found = member_signalling_tests(differences_of([2] * 300))[0]
    assert found.p_value == 2.0**-299
    many = member_signalling_tests(differences_of([2] * 5_000))[0]
    assert p_value_text(many.p_value) == "< 1e-300"


@pytest.mark.slow
def test_null_is_no_smaller_than_uniform():
    # 400 ensembles of 60 members, of 400 for the t test, both contexts from one law. A share of p <= 0.1 above 0.15
    # has a probability below 0.001 if each is 0.1 or less.
    generator = np.random.default_rng(3)
    for members in (60, 400):
        p_values = []
        for _ in range(400):
            right = generator.choice([16, 16, 12, 8], (2, members))
            p_values.append(member_signalling_tests(differences_of(right[0] - right[1]))[0].p_value)
        assert np.mean(np.array(p_values) <= 0.1) <= 0.15


def test_holm_is_over_the_four():
    tally = AccuracyDifferences(ROWS)
    generator = np.random.default_rng(1)
    for number, shift in enumerate((0, 1, 2, 3)):
        tally.histogram[number] = np.bincount(generator.integers(-3, 4, 150) + shift + ROWS, minlength=33)
    tests = member_signalling_tests(tally)
    assert [test.p_holm for test in tests] == pytest.approx(list(holm([test.p_value for test in tests])))


def test_torn_records_are_refused():
    records = made_up(5)
    records.counts[3, 2, 0] += 1
    with pytest.raises(ValueError, match=r"17 rows at \(member, context\) = \(3, 2\); allowed: 16"):
        AccuracyDifferences(ROWS).add(records.counts, records.diverged)


def table_of(right, wrong):
    """Joint counts in which A1 is right and wrong so often in its two contexts, and everything else is right."""
    counts = np.zeros((2, 2, 2, 2), np.int64)
    for j in range(2):
        counts[0, j, :, 1] = wrong[j], right[j]
    counts[1, :, 1, 1] = 10
    return counts


def fisher_of(right, wrong):
    """Fisher's exact test in fractions: all tables with these margins that are no more probable."""
    first, second = right[0] + wrong[0], right[1] + wrong[1]
    total = sum(wrong)
    ways = {k: math.comb(first, k) * math.comb(second, total - k) for k in range(total + 1)}
    seen = ways[wrong[0]]
    return float(Fraction(sum(each for each in ways.values() if each <= seen), math.comb(first + second, total)))


def test_fisher_of_all_small_tables():
    for right, wrong in itertools.product(itertools.product(range(7), repeat=2), repeat=2):
        if right[0] + wrong[0] > 0 and right[1] + wrong[1] > 0:
            test = signalling_tests(table_of(right, wrong))[0]
            assert test.method == "Fisher exact"
            assert test.p_value == pytest.approx(fisher_of(right, wrong), rel=1e-12)


@pytest.mark.parametrize("items", [10**6, 2 * 10**9, 10**10, 10**11, 2**50])
@pytest.mark.parametrize("wrong", [(3, 8), (8, 3), (0, 5), (3, 300), (9, 9), (2, 10_000)])
def test_fisher_of_very_many_items(items, wrong):
    right = tuple(items - each for each in wrong)
    p_value = 0.0 if wrong[1] == 10_000 else fisher_of(right, wrong)
    swapped = table_of(right, wrong)[..., ::-1]  # few right ones instead of few wrong ones
    for counts in (table_of(right, wrong), swapped):
        assert signalling_tests(counts)[0].p_value == pytest.approx(p_value, rel=1e-9)


def test_fisher_sees_what_is_plain_in_tables_of_any_size():
    # SciPy gives 1 here where the contexts are rows: it multiplies in 64 bits.
    items = 10**11
    test = signalling_tests(table_of((items - 3, items - 10**8), (3, 10**8)))[0]
    assert (test.p_value, test.p_holm) == (0.0, 0.0)


def test_dependence_of_every_context_against_enumeration():
    """Four tables of their own, one with a margin of 0 and one without items; several at once are refused in one line."""
    table = np.array([[[[3, 1], [1, 9]], [[0, 0], [4, 2]]], [[[0, 0], [0, 0]], [[0, 5], [6, 1]]]])
    # Tables with the same margins by how many items are wrong for both: C(4, k) C(10, 4 - k), and C(5, k) C(7, 6 - k).
    first = sum(math.comb(4, k) * math.comb(10, 4 - k) for k in (3, 4)) / math.comb(14, 4)
    last = sum(math.comb(5, k) * math.comb(7, 6 - k) for k in (0, 5)) / math.comb(12, 6)
    np.testing.assert_allclose(dependence_p_values(table), [[first, 1], [1, last]])
    with pytest.raises(ValueError, match=r"counts: shape \(2, 2, 2, 2, 2\); allowed: one table, \(2, 2, 2, 2\)"):
        dependence_p_values(np.stack([table, table]))
