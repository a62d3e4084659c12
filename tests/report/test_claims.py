"""The interval of the claim that S is largest at n = 3: a difference of two means whose limits may be unlike."""

import dataclasses
import math

import numpy as np
import pytest

import ncsim
from ncsim.report.claims import PEAK, criteria, difference, findings, settings
from ncsim.statistics.intervals import Estimate, mean_estimate
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from tests.support.tasks import FOUR_ROWS


def estimated(value, low, high):
    return Estimate(value, low, high, "made up")


class Law:
    """A law with this mean, and of which no event is known."""

    def __init__(self, mean):
        self.mean = mean

    def fraction(self, probability, runs=1):
        return estimated(0.5, 0.0, 1.0)


def peak_of(**means):
    """What is found of the claim under the first protocol."""
    laws = {int(width[1:]): [Law(mean)] * len(STANDARD_PROTOCOLS) for width, mean in means.items()}
    return next(found for found in findings(laws) if found.claim == PEAK)


def test_a_difference_is_low_where_the_first_is_low_or_the_other_high():
    one, other = estimated(2.767, 0.815, 4.0), estimated(2.0, 0.05, 3.95)
    found = difference(one, other)
    assert found.value == pytest.approx(0.767)
    assert found.low == pytest.approx(0.767 - math.hypot(2.767 - 0.815, 3.95 - 2.0))
    assert found.high == pytest.approx(0.767 + math.hypot(4.0 - 2.767, 2.0 - 0.05))
    back = difference(other, one)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_the_peak_has_both_limits_of_the_difference():
    found = peak_of(n2=estimated(1.0, 0.9, 1.1), n3=estimated(2.767, 0.815, 4.0), n4=estimated(2.0, 0.05, 3.95))
    assert found.estimate[:3] == pytest.approx((0.767, -1.992, 3.074), abs=1e-3)
    assert found.answer == "open"


def test_a_width_that_is_known_badly_may_have_the_largest_mean():
    """Of n = 2 nothing is known; that its value is the smaller one does not show that it is smaller."""
    found = peak_of(n2=estimated(1.9, -4.0, 4.0), n3=estimated(2.5, 2.4, 2.6), n4=estimated(2.0, 1.9, 2.1))
    assert found.estimate.low == pytest.approx(0.6 - math.hypot(0.1, 2.1))
    assert found.estimate.value == pytest.approx(0.5)
    assert found.answer == "open"


def test_differences_of_means_that_are_cut_off_hold_their_number():
    """Members have S = 4 or, rarely, -4: the mean's upper limit is cut off at 4, and the lower one is far."""
    generator, held, samples = np.random.default_rng(20261129), 0, 2_000
    for _ in range(samples):
        each = []
        for share in (0.93, 0.85):
            s = np.where(generator.random((32, 2)) < share, 4.0, -4.0)
            left_out = (s.sum() - s.sum(axis=1)) / (s.size - 2)
            each.append(mean_estimate(float(s.mean()), left_out, s.size))
        found = difference(*each)
        held += found.low <= 8 * (0.93 - 0.85) <= found.high
    assert held / samples > 0.94


#: A law of S of each width, by the values that it has.
OF_WIDTHS = {
    2: {1.0: 0.3, 1.25: 0.25, 1.5: 0.2, 2.5: 0.25},
    3: {2.0: 0.05, 2.5: 0.93, 2.75: 0.011, 3.0: 0.004, 3.25: 0.003, 3.75: 0.0015, 4.0: 0.0005},
    4: {1.5: 0.2, 1.75: 0.25, 2.25: 0.3, 2.5: 0.25},
}


class Known(Law):
    """A law of S that is known but for `error` on either side of any probability."""

    def __init__(self, probabilities, error):
        rows = 16
        values = LatticeLaw(rows, np.zeros(4 * rows + 1)).values
        self._law = LatticeLaw(rows, np.array([probabilities.get(round(float(value), 9), 0.0) for value in values]))
        assert self._law.probabilities.sum() == pytest.approx(1)
        self._error = error
        mean = sum(value * share for value, share in probabilities.items())
        super().__init__(estimated(mean, mean - error, mean + error))

    def fraction(self, probability, runs=1):
        share = probability(self._law)
        return estimated(share, share - self._error, share + self._error)


def answers(error):
    laws = {width: [Known(law, error)] * len(STANDARD_PROTOCOLS) for width, law in OF_WIDTHS.items()}
    found = findings(laws)
    first = [each for each in found if each.protocol == found[0].protocol]
    assert len(found) == len(first) * len(STANDARD_PROTOCOLS)
    return {each.claim: each for each in first}


def test_each_claim_is_of_the_event_that_it_names():
    """By adding up the laws by hand, and 50 runs by their independence; limits that equal a threshold do not hold."""
    found = answers(1e-9)
    three = OF_WIDTHS[3]
    tsirelson = sum(share for value, share in three.items() if value > 2 * math.sqrt(2))
    at_most = sum(share for value, share in three.items() if value <= 3.75)
    less = sum(share for value, share in three.items() if value < 3.25)
    expected = {
        "n=2: in most runs S < 1.5": (0.55, 0.5, "holds", "P(S < 1.5) > 0.5"),
        "n=3: S > 2 in all 50 runs": (0.95, 0.929, "holds", "P(S > 2) > 0.929"),
        "n=3: some runs above 2 sqrt 2": (1 - (1 - tsirelson) ** 50, 0.5, "fails", "P(any of 50 > 2.828) > 0.5"),
        "n=3: the largest about 3.5": (
            at_most**50 - less**50,
            0.05,
            "holds",
            "P(largest of 50 in 3.25 .. 3.75) > 0.05",
        ),
        "n=4: stabilises around 2": (0.55, 0.5, "holds", "P(S in 1.75 .. 2.25) > 0.5"),
        PEAK: (2.5 - 2.0, 0.0, "holds", "mean S(3) - larger of S(2), S(4) > 0"),
    }
    means = {width: sum(value * share for value, share in law.items()) for width, law in OF_WIDTHS.items()}
    expected[PEAK] = (means[3] - max(means[2], means[4]), *expected[PEAK][1:])
    assert list(found) == list(expected)
    for claim, (value, threshold, answer, criterion) in expected.items():
        assert found[claim].estimate.value == pytest.approx(value, abs=1e-9), claim
        assert (found[claim].threshold, found[claim].answer) == (threshold, answer), claim
        assert criteria([found[claim]]) == {claim: criterion}


def test_an_interval_with_the_threshold_in_it_leaves_a_claim_open():
    wide = answers(0.06)
    assert wide["n=2: in most runs S < 1.5"].answer == "open"
    assert wide["n=4: stabilises around 2"].answer == "open"
    some = wide["n=3: some runs above 2 sqrt 2"].estimate
    share = sum(share for value, share in OF_WIDTHS[3].items() if value > 2 * math.sqrt(2))
    assert (some.low, some.high) == pytest.approx((1 - (1 - share + 0.06) ** 50, 1 - (1 - share - 0.06) ** 50))


def test_claims_are_about_the_papers_tasks_and_widths_a_setting_at_a_time():
    configs = ncsim.config_grid(hidden=[3, 1, 2, 4], learning_rate=[0.01, 0.1], members=[50])
    found = settings(configs)
    assert [{width: (configs[n].hidden, configs[n].learning_rate) for width, n in each.items()} for each in found] == [
        {width: (width, rate) for width in (3, 2, 4)} for rate in (0.01, 0.1)
    ]
    unlike = [dataclasses.replace(config, members=40 + n, first_member=n) for n, config in enumerate(configs[::2])]
    assert settings(unlike) == [{unlike[n].hidden: n for n in (0, 2, 3)}]
    assert settings(ncsim.config_grid(hidden=[2, 3, 4], tasks=FOUR_ROWS)) == []
