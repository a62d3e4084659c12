"""The interval of the claim that S is largest at n = 3: a difference of two means whose limits may be unlike."""

import math

import numpy as np
import pytest

from ncsim.report.claims import PEAK, difference, findings
from ncsim.statistics.intervals import Estimate, mean_estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS


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
