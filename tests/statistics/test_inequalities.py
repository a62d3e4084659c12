"""Inequalities beyond CHSH: bounds by another enumeration, quantum values, evaluation on counts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ncsim.records.joint_counts import joint_counts, joint_counts_many
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.inequalities import (
    LinearInequality,
    chained_inequality,
    chsh_inequality,
    correlator_inequality,
    mermin_inequality,
    svetlichny_inequality,
)
from tests.support import reference_statistics as reference


def every_strategy_value(inequality):
    """Values of all assignments of fixed answers, by the definition."""
    settings = inequality.settings
    for answers in itertools.product(*(itertools.product((0, 1), repeat=m) for m in settings)):
        yield sum(
            inequality.coefficients[(*choice, *(answers[p][s] for p, s in enumerate(choice)))]
            for choice in np.ndindex(*settings)
        )


def table_of_correlators(correlators):
    """Conditional probabilities with these full correlators and no other means."""
    product = np.ones(())
    for _ in range(correlators.ndim):
        product = np.multiply.outer(product, np.array([-1.0, 1.0]))
    return (1 + np.multiply.outer(correlators, product)) / 2**correlators.ndim


@pytest.mark.parametrize(
    ("inequality", "classical", "algebraic"),
    [
        (chsh_inequality(), 2, 4),
        (chained_inequality(2), 2, 4),
        (chained_inequality(3), 4, 6),
        (chained_inequality(4), 6, 8),
        (mermin_inequality(), 2, 4),
        (svetlichny_inequality(), 4, 8),
    ],
    ids=lambda value: value.name if isinstance(value, LinearInequality) else None,
)
def test_named_bounds(inequality, classical, algebraic):
    assert inequality.classical_bound == classical
    assert max(every_strategy_value(inequality)) == classical
    assert inequality.algebraic_bound == algebraic
    assert classical < inequality.quantum_bound <= algebraic


def test_bounds_of_random_inequalities_agree_with_every_strategy():
    generator = np.random.default_rng(0)
    for shape in ((2, 2, 2, 2), (3, 2, 2, 2), (2, 4, 2, 2), (2, 2, 2, 2, 2, 2), (1, 3, 2, 2, 2, 2), (3, 2)):
        inequality = LinearInequality("random", generator.normal(size=shape))
        assert inequality.classical_bound == pytest.approx(max(every_strategy_value(inequality)), abs=1e-12)


def test_hybrid_bounds():
    # Mermin's 4 is reached by two parties that coordinate; Svetlichny's was made so that it is not.
    assert mermin_inequality().hybrid_bound == 4
    assert svetlichny_inequality().hybrid_bound == 4
    assert chsh_inequality().hybrid_bound == chsh_inequality().classical_bound


def test_hybrid_bound_by_another_enumeration():
    inequality = svetlichny_inequality()
    best = -math.inf
    for lone in range(3):
        pair = [p for p in range(3) if p != lone]
        # The pair's joint answer is a function of both its settings: 4 answers to each of 4 choices.
        for together in itertools.product(range(4), repeat=4):
            for alone in itertools.product((0, 1), repeat=2):
                value = 0.0
                for choice in np.ndindex(2, 2, 2):
                    both = together[2 * choice[pair[0]] + choice[pair[1]]]
                    answer = [0, 0, 0]
                    answer[lone], answer[pair[0]], answer[pair[1]] = alone[choice[lone]], both // 2, both % 2
                    value += inequality.coefficients[(*choice, *answer)]
                best = max(best, value)
    assert inequality.hybrid_bound == best == 4


@pytest.mark.parametrize("settings", [2, 3, 5])
def test_chained_quantum_value_is_reached_by_a_singlet(settings):
    # <A B> = cos(angle between), the angles going round the cycle A_m B_1 A_{m-1} ... A_m in equal steps.
    step = math.pi / (2 * settings)
    alice = np.array([2 * step * (settings - 1 - i) for i in range(settings)])
    bob = np.array([2 * step * j + step for j in range(settings)])
    inequality = chained_inequality(settings)
    value = inequality.value(table_of_correlators(np.cos(alice[:, None] - bob)))
    assert value == pytest.approx(inequality.quantum_bound, abs=1e-12)


@pytest.mark.parametrize(
    ("inequality", "angles"),
    [
        (mermin_inequality(), (-math.pi / 2, math.pi)),
        (svetlichny_inequality(), (-math.pi / 12, -math.pi / 12 + math.pi / 2)),
    ],
    ids=["Mermin", "Svetlichny"],
)
def test_three_party_quantum_values_are_reached_by_a_ghz_state(inequality, angles):
    # Measured in the equator, a GHZ state has <A B C> = cos(sum of the angles).
    angle = np.array(angles)
    correlators = np.cos(angle[:, None, None] + angle[:, None] + angle)
    assert inequality.value(table_of_correlators(correlators)) == pytest.approx(inequality.quantum_bound, abs=1e-12)


def test_chsh_value_is_the_kernel_s():
    counts = np.random.default_rng(1).integers(1, 30, (5, 2, 2, 2, 2))
    np.testing.assert_allclose(chsh_inequality().value(counts), chsh_statistics(counts).s, atol=1e-12)


def test_value_of_a_strategy_on_counts_is_its_value():
    inequality = LinearInequality("random", np.random.default_rng(2).normal(size=(2, 2, 2, 2)))
    values = [float(inequality.value(17 * table)) for table in reference.local_strategies()]
    np.testing.assert_allclose(values, list(every_strategy_value(inequality)), atol=1e-12)


def test_missing_contexts_are_nan_only_where_they_matter():
    counts = np.ones((2, 2, 2, 2, 2, 2), int)
    counts[0, 0, 0] = 0  # not in Mermin's inequality
    assert mermin_inequality().value(counts) == 0
    assert np.isnan(svetlichny_inequality().value(counts))
    assert np.isnan(svetlichny_inequality().standard_error(counts))


def test_standard_error_is_the_spread_of_repeated_draws():
    generator = np.random.default_rng(3)
    counts = reference.drawn(reference.MIXED_R2, 200, generator, number=4_000)
    inequality = chsh_inequality()
    spread = np.std(inequality.value(counts))
    # The standard error of a spread from 4,000 draws is 1.1 %; four of them.
    assert np.mean(inequality.standard_error(counts)) == pytest.approx(spread, rel=0.045)


def test_joint_counts_many_is_joint_counts_for_two_heads():
    outcomes = np.random.default_rng(4).choice([-1, 1], size=(3, 2, 2, 2, 11))
    np.testing.assert_array_equal(joint_counts_many(outcomes), joint_counts(outcomes))
    assert joint_counts_many(outcomes).dtype == joint_counts(outcomes).dtype


def test_joint_counts_many_item_by_item():
    outcomes = np.random.default_rng(5).choice([-1, 1], size=(2, 3, 2, 3, 7))  # three heads with 2, 3 and 2 tasks
    expected = np.zeros((2, 3, 2, 2, 2, 2), int)
    for i, j, k in np.ndindex(2, 3, 2):
        for item in range(7):
            a, b, c = (int(outcomes[i, j, k, party, item] > 0) for party in range(3))
            expected[i, j, k, a, b, c] += 1
    np.testing.assert_array_equal(joint_counts_many(outcomes), expected)
    np.testing.assert_array_equal(joint_counts_many(np.stack([outcomes] * 2)), np.stack([expected] * 2))
    assert joint_counts_many(np.zeros((4, 4, 2, 0))).sum() == 0


def test_an_inequality_prints_itself():
    assert str(chsh_inequality()) == "CHSH: <A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2"
    assert "<A2 B2 C2>" in mermin_inequality().expression
    clauser_horne = np.zeros((2, 2, 2, 2))  # P(1 1 | 11) + P(1 1 | 12) + P(1 1 | 21) - P(1 1 | 22) - P(A1) - P(B1) <= 0
    clauser_horne[:, :, 1, 1] = [[1, 1], [1, -1]]
    clauser_horne[0, 0, 1, :] -= 1
    clauser_horne[0, 0, :, 1] -= 1
    inequality = LinearInequality("Clauser-Horne", clauser_horne)
    assert inequality.classical_bound == 0
    assert "0.25 <A1 B1>" in str(inequality)
    assert "<A1>[A1 B1]" in str(inequality)


def test_refusals():
    with pytest.raises(ValueError, match=r"coefficients: shape \(2, 2, 3\)"):
        LinearInequality("odd", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"nan at \(0, 1\)"):
        LinearInequality("nan", np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="settings: 1"):
        chained_inequality(1)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\)"):
        chsh_inequality().value(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"-1 at \(\.\.\., settings, outcomes\) = \(0, 0, 0, 0\)"):
        chsh_inequality().value(-np.ones((2, 2, 2, 2), int))
    with pytest.raises(ValueError, match=r"outcomes: 0\.0 at \(0, 0, 0, 0\)"):
        joint_counts_many(np.zeros((2, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"outcomes: shape \(3, 5\)"):
        joint_counts_many(np.ones((3, 5)))
    with pytest.raises(ValueError, match="1 party"):
        correlator_inequality("one", [1.0, 1.0]).hybrid_bound
    with pytest.raises(ValueError, match="strategies"):
        correlator_inequality("large", np.ones((30, 30))).classical_bound


def test_a_value_beyond_the_largest_float_is_infinite():
    counts = np.full((2, 2, 2, 2), 5)
    assert LinearInequality("large", np.full((2, 2, 2, 2), 1.7e308)).value(counts) == np.inf
    assert LinearInequality("large", np.full((2, 2, 2, 2), -1.7e308)).value(counts) == -np.inf


def test_the_standard_error_of_very_many_is_by_their_root():
    """Cells are made smaller where their sum is no float: shares are the same then, and the number of items is not."""
    counts = np.random.default_rng(3).integers(1, 50, (2, 2, 2, 2)).astype(float)
    for inequality in (chsh_inequality(), chained_inequality(2)):
        own = inequality.standard_error(counts)
        for power in (900, 990, 1000, 1016):
            found = inequality.standard_error(counts * 2.0**power)
            assert found == pytest.approx(own * 2.0 ** (-power / 2), rel=1e-9, abs=0)
