"""No-signalling across members: against enumeration, against scipy, and under the null."""

import itertools

import numpy as np
import pytest
from scipy import stats

from ncsim.formatting import p_value_text
from ncsim.statistics.contextuality import CONNECTIONS
from ncsim.statistics.signalling_tests import MOST_FOR_EXACT, AccuracyDifferences, holm, member_signalling_tests
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
