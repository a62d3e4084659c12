"""Arguments of public functions: a number of NumPy or JAX is the number that it is, and what is none is refused in one line."""

from decimal import Decimal
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.fields import shown

COUNTS = np.random.default_rng(1).multinomial(400, [0.3, 0.2, 0.2, 0.3], size=(2, 2)).reshape(2, 2, 2, 2)
OUTCOMES = np.random.default_rng(2).choice([-1, 1], size=(4, 2, 2, 2, 30))
VALUES = np.random.default_rng(3).normal(size=120).clip(-4, 4)
WORDS = "the cat sat on the mat and the dog sat on the log with a cat and a hat".split() * 4
RANKS = ncsim.rank_counts(WORDS)
PAIRS = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
GRID = np.linspace(-5, 5, 41)
MOVING = -0.5 * (GRID - np.arange(5)[:, None] / 100) ** 2
STARTS = np.arange(8) % 2 == 0

#: A function of one argument, and a value of it that is right.
CALLS = {
    "level of clopper_pearson": (lambda x: ncsim.clopper_pearson(3, 10, x), 0.5),
    "successes": (lambda x: ncsim.clopper_pearson(x, 10), 3),
    "trials": (lambda x: ncsim.clopper_pearson(3, x), 10),
    "level of bootstrap_mean": (lambda x: ncsim.bootstrap_mean(VALUES, level=x, resamples=100), 0.75),
    "resamples": (lambda x: ncsim.bootstrap_mean(VALUES, resamples=x), 100),
    "seed": (lambda x: ncsim.bootstrap_mean(VALUES, resamples=100, seed=x), 7),
    "level of hoeffding_mean": (lambda x: ncsim.hoeffding_mean(VALUES, level=x), 0.75),
    "resamples of crossed": (lambda x: ncsim.crossed_bootstrap_mean_s(OUTCOMES, resamples=x), 100),
    "seed of crossed": (lambda x: ncsim.crossed_bootstrap_mean_s(OUTCOMES, resamples=100, seed=x), 7),
    "level of contextuality_interval": (lambda x: ncsim.contextuality_interval(COUNTS, x), 0.5),
    "settings": (ncsim.chained_inequality, 3),
    "exponent": (lambda x: ncsim.moment_fit(RANKS, x)[2:], 1.0),
    "energy": (lambda x: ncsim.moment_fit(RANKS, 1.0, x)[2:], 200.0),
    "splits": (lambda x: ncsim.held_out_likelihoods(WORDS, x), 2),
    "seed of held_out_likelihoods": (lambda x: ncsim.held_out_likelihoods(WORDS, 2, x), 7),
    "log_z of width_law": (lambda x: ncsim.width_law([0.0, 1.0], x), 0.5),
    "log_z of grand_potential": (lambda x: ncsim.grand_potential([0.0, 1.0], x, 1.0), 0.5),
    "beta": (lambda x: ncsim.grand_potential([0.0, 1.0], 0.0, x), 0.5),
    "log_z of two_routes": (lambda x: ncsim.two_routes(np.ones(8), STARTS, np.zeros((8, 2, 1)), x).canonical, 0.5),
    "step": (lambda x: ncsim.fluid(GRID, MOVING, x).velocity, 0.5),
    "diffusion": (lambda x: ncsim.entropy_balance(GRID, MOVING[0], np.ones(41), x, 1.0), 0.5),
    "speed": (lambda x: ncsim.entropy_balance(GRID, MOVING[0], np.ones(41), 1.0, x), 0.5),
    "degree": (lambda x: ncsim.fitted_log_density(VALUES, GRID, x), 2),
    "quantum_bound": (lambda x: ncsim.LinearInequality("", np.ones((2, 2)), x).quantum_bound, 2.5),
    "level of npa_bound": (lambda x: ncsim.npa_bound(ncsim.chsh_inequality(), x), 1),
}


def leaves(found):
    if isinstance(found, ncsim.LinearInequality):
        return [found.coefficients]
    return [np.asarray(each) for each in found if not isinstance(each, str)] if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", CALLS)
def test_a_number_is_the_same_whatever_library_it_is_of(name):
    call, right = CALLS[name]
    expected = leaves(call(right))
    whole = isinstance(right, int)
    for kind in (
        [np.int64, np.uint8, np.asarray, jnp.asarray] if whole else [np.float64, np.float32, np.asarray, jnp.asarray]
    ):
        if name.startswith("level of npa") and kind in (np.asarray, jnp.asarray):
            continue  # a word there
        assert all(map(np.array_equal, leaves(call(kind(right))), expected)), kind


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_one_line(name):
    call, right = CALLS[name]
    wrong = ["word", [right], (), 2j, float("nan"), float("inf"), {}, np.ones((20, 20)), b"3"]
    if name == "log_z of grand_potential":
        wrong.remove(float("inf"))  # minus infinity there
    wrong += [None] if name not in ("energy", "quantum_bound") else []
    wrong += [] if name.startswith("level of npa") else [str(right)]
    for value in wrong:
        with pytest.raises(ValueError, match=r"allowed: ") as refused:
            call(value)
        assert "\n" not in str(refused.value), value


@pytest.mark.parametrize("name", ["resamples", "resamples of crossed"])
@pytest.mark.parametrize("value", [True, -1, 0, 1, 39, 100.0, 10**30])
def test_a_bootstrap_has_a_sample_in_each_tail(name, value):
    """Of one resample both limits were that one."""
    with pytest.raises(ValueError, match=r"resamples: .*; allowed: (a whole number, )?40 to 10,000,000$"):
        CALLS[name][0](value)


def test_the_type_of_a_count_is_not_the_type_of_the_interval():
    """255 + 1 is 0 in eight bits."""
    assert ncsim.clopper_pearson(np.uint8(255), np.int64(400)) == ncsim.clopper_pearson(255, 400)
    assert ncsim.clopper_pearson(np.int8(3), np.int8(127)) == ncsim.clopper_pearson(3, 127)
    assert ncsim.clopper_pearson(np.float32(0.1), np.float32(16_777_216)).high < 1e-6


def test_an_axis_is_a_whole_number():
    many = np.stack([COUNTS[None], 2 * COUNTS[None]], axis=1)
    for axis in (1, np.int8(1), np.asarray(1), jnp.asarray(1), -5):
        assert np.array_equal(ncsim.merge_counts(many, axis), 3 * COUNTS[None])
    for axis in (True, 2, -1):
        with pytest.raises(ValueError, match=f"axis: {axis}; allowed: an axis before"):
            ncsim.merge_counts(many, axis)


def test_a_level_needs_resamples_of_its_own():
    with pytest.raises(ValueError, match=r"allowed: 2000 to"):
        ncsim.bootstrap_mean(VALUES, level=0.999, resamples=1_999)
    assert ncsim.bootstrap_mean(VALUES, level=0.999, resamples=2_000).level == 0.999


@pytest.mark.parametrize("value", ["False", None, 0, 1, [True]])
def test_a_word_is_no_flag(value):
    for call in (
        lambda: ncsim.contextuality_interval(COUNTS, same_items=value),
        lambda: ncsim.crossed_bootstrap_mean_s(OUTCOMES, same_items=value),
        lambda: ncsim.game_p_value(COUNTS, random_settings=value),
        lambda: ncsim.hoeffding_p_value(COUNTS, same_items=value),
    ):
        with pytest.raises(ValueError, match=r"; allowed: True or False"):
            call()
    assert ncsim.contextuality_interval(COUNTS, same_items=np.True_) == ncsim.contextuality_interval(
        COUNTS, same_items=True
    )


@pytest.mark.parametrize("members", [[np.inf, 1], [2.0**62, 1], [2**61, 2**61], [0.5, 1], ["1", "2"]])
def test_members_that_cannot_be_added_up(members):
    """Infinitely many became a number below 0, and were left out."""
    with pytest.raises(ValueError, match=r"members: .*; allowed: whole numbers, 0 or above, below 2\^62 in all"):
        ncsim.hoeffding_mean([1.0, 2.0], members)


@pytest.mark.parametrize("support", [(4, -4), (1, 1), (-np.inf, np.inf), (0, np.nan), 3, "ab", (0, 1, 2), None])
def test_a_support_is_two_numbers_in_order(support):
    with pytest.raises(ValueError, match=r"support: .*; allowed: "):
        ncsim.bootstrap_mean([1.0, 1.0], support=support)


@pytest.mark.parametrize("change", [lambda x: (x + 1) // 2, lambda x: 5 * x, lambda x: 1.5 * x, lambda x: x * np.nan])
def test_decisions_are_of_answers(change):
    """Of 0 for wrong and 1 for right the range was 0 to 0 where all were wrong, and a fraction was cut off."""
    undecided = np.zeros(OUTCOMES.shape, bool)
    with pytest.raises(ValueError, match=r"outcomes: .* at \(.*; allowed: -1 or \+1"):
        ncsim.decision_range(change(OUTCOMES), undecided)
    with pytest.raises(ValueError, match=r"undecided: type .*; allowed: bool"):
        ncsim.decision_range(OUTCOMES, np.full(OUTCOMES.shape, "False"))
    diverged = OUTCOMES.copy()
    diverged[1, 0, 1] = 0
    assert np.isnan(ncsim.decision_range(diverged, undecided).low).tolist() == [False, True, False, False]


@pytest.mark.parametrize("counts", [[3, -1], [3.5, 1], [np.nan, 2], [[3, 1]], ["3", "1"], 3, None])
def test_ranks_have_counts(counts):
    with pytest.raises(ValueError, match=r"counts: .*; allowed: "):
        ncsim.moment_fit(counts)


@pytest.mark.parametrize("level", [9, 10**30, "1+" + "a" * 30])
def test_a_level_that_no_memory_has(level):
    with pytest.raises(ValueError, match=r"allowed: one with up to 100,000 products of 4 observables"):
        ncsim.npa_bound(ncsim.chsh_inequality(), level)


@pytest.mark.parametrize("number", [10**30, Fraction(10**30), Decimal(10**30)])
def test_pythons_own_numbers_are_numbers(number):
    """Beyond 64 bits they are objects to NumPy, and were refused as none."""
    assert ncsim.clopper_pearson(3, number) == ncsim.clopper_pearson(3, 1e30)
    assert ncsim.holm([number / 10**31, 0]).tolist() == [0.1, 0.0]


@pytest.mark.parametrize(
    "values", [[0.1, None], [[0.1], [0.1, 0.2]], np.array(["0.1", 0.2], object), [0.1, 10**400], [0.1, 1j]]
)
def test_objects_that_are_no_numbers(values):
    for call in (ncsim.holm, lambda x: ncsim.width_law(x, 0.0), lambda x: ncsim.grand_potential(x, 0.0, 1.0)):
        with pytest.raises(ValueError, match=r"(p_values|log_ratios|losses): .*; allowed: real numbers$"):
            call(values)
    with pytest.raises(ValueError, match=r"successes: .*; allowed: real numbers$"):
        ncsim.clopper_pearson([[1], [1, 2]], 3)


@pytest.mark.parametrize("ratios", [[1.0, np.nan], [-np.inf, np.inf], [np.inf, 1.0]])
def test_ratios_of_which_no_law_follows(ratios):
    with pytest.raises(ValueError, match=r"log_ratios: .*; allowed: real numbers below infinity"):
        ncsim.width_law(ratios, 0.0)
    with pytest.raises(ValueError, match=r"log_density: .*; allowed: real numbers below infinity"):
        ncsim.entropy_balance(GRID, np.append(MOVING[0][:39], ratios), np.ones(41), 1.0, 1.0)


def test_entropy_is_of_an_even_grid():
    """An uneven one gave another rate, of densities that were weighted as if it were even."""
    uneven = np.sort(np.append(GRID[:-1], 4.9))
    for call in (
        lambda: ncsim.entropy_balance(uneven, -0.5 * uneven**2, np.ones(41), 1.0, 1.0),
        lambda: ncsim.fitted_log_density(VALUES, uneven, 2),
    ):
        with pytest.raises(ValueError, match=r"grid: its points are not evenly spaced upwards"):
            call()


@pytest.mark.parametrize("full", [np.array(["False"] * 8), np.zeros(8, int), ["True"] * 8])
def test_starts_are_flags(full):
    with pytest.raises(ValueError, match=r"full: type .*; allowed: bool"):
        ncsim.two_routes(np.ones(8), full, np.zeros((8, 2, 1)), 0.0)


def test_a_potential_is_differentiated_by_its_ln_z():
    """Its derivative is minus the mean number of units over beta; while JAX traces it, it is no number yet."""
    losses, beta = jnp.array([0.0, 0.5, 0.2]), 2.0
    slope = jax.grad(lambda log_z: ncsim.grand_potential(losses, log_z, beta))(0.3)
    law = ncsim.width_law(-beta * np.diff(np.float64(losses)), 0.3)
    assert float(slope) == pytest.approx(-(law @ np.arange(3)) / beta, rel=1e-5)


def test_contexts_and_tables_may_be_read_once():
    """Of a generator there was a TypeError, as of None."""
    same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
    tables = [same, same, same, other]
    for call in (ncsim.contextual_fraction, ncsim.excess_mismatch):
        assert call((iter(pair) for pair in PAIRS), iter(tables)) == call(PAIRS, tables) == pytest.approx(1)
        for contexts, given in [(None, tables), (PAIRS, None), ([3] * 4, tables), ([(["a"], "b")] * 4, tables)]:
            with pytest.raises(ValueError, match=r"^(contexts|tables): .*; allowed: "):
                call(contexts, given)


@pytest.mark.parametrize(
    "call",
    [ncsim.from_correlators, ncsim.from_collins_gisin, ncsim.holm, lambda x: ncsim.contextual_fraction(PAIRS, x)],
)
def test_an_imaginary_part_is_not_left_away(call):
    with pytest.raises(ValueError, match=r"allowed: real numbers"):
        call(np.full((4, 2, 2), 0.25j))


def test_an_array_is_shown_on_one_line():
    assert "\n" not in shown(np.zeros((3, 3)))
    with pytest.raises(ncsim.ConfigError) as refused:
        ncsim.EnsembleConfig(hidden=np.ones((3, 3)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [None, "chsh", b"3", 3, [], {}, [[1], [1, 2]], np.array(["a"])])
def test_what_is_of_another_kind_is_one_line(value):
    """They ended in an AttributeError or a TypeError. Of a text the letters were counted."""
    right = np.ones((1, 2, 2, 2, 16), int)
    calls = [
        ("inequality", lambda x: ncsim.npa_bound(x)),
        ("records", ncsim.undecided_conventions),
        ("tasks", ncsim.one_network),
        ("parties", ncsim.scenario_tasks),
    ]
    if value is not None:
        calls.append(("inequality", lambda x: ncsim.hoeffding_p_value(COUNTS, x)))
        calls.append(("tasks", lambda x: ncsim.decision_range(right, right < 0, x)))
    if not isinstance(value, list | dict | np.ndarray):
        calls += [("words", ncsim.rank_counts), ("words", ncsim.held_out_likelihoods)]
    for name, call in calls:
        with pytest.raises(ValueError, match=rf"^{name}: .*; allowed: ") as refused:
            call(value)
        assert "\n" not in str(refused.value)


def test_lists_of_several_lengths_are_no_array():
    uneven = [[1], [1, 2]]
    calls = {
        "outcomes": (
            ncsim.joint_counts,
            ncsim.joint_counts_many,
            ncsim.crossed_bootstrap_mean_s,
            ncsim.paired_signalling_tests,
        ),
        "counts": (
            ncsim.merge_counts,
            ncsim.chsh_statistics,
            ncsim.contextuality_interval,
            ncsim.game_p_value,
            ncsim.contextuality_measures,
            ncsim.hoeffding_p_value,
            ncsim.prediction_based_ratio,
            ncsim.signalling_tests,
            ncsim.quantum_statistics,
            ncsim.cyclic_statistics,
        ),
        "members": (lambda x: ncsim.bootstrap_mean([1.0, 2.0], x), lambda x: ncsim.hoeffding_mean([1.0, 2.0], x)),
        "undecided": (lambda x: ncsim.decision_range(OUTCOMES, x),),
        "words": (ncsim.rank_counts, ncsim.held_out_likelihoods),
    }
    for name, functions in calls.items():
        for call in functions:
            with pytest.raises(ValueError, match=rf"^{name}: \[\[1\], \[1, 2\]\]; allowed: "):
                call(uneven)
