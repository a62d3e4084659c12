"""Random networks: both languages, both samplers, a plain reference, and cases with exact answers."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import chi2, kstest

from ncsim import EnsembleConfig, TruthTables, random_solutions, truth_tables
from ncsim.c_compiler import compiler
from ncsim.config.tasks import CONTEXTS
from ncsim.ensemble import random_solutions as module
from ncsim.errors import ConfigError
from ncsim.executors.random_networks import Drawer
from ncsim.statistics.intervals import ratio_estimate
from ncsim.training import random_networks
from ncsim.training.initialization import initial_vector
from ncsim.training.random_networks import Keep, RandomLaw, Schedule, Walk, next_uniform, normal_of, seeded
from tests.support.cases import first_fast
from tests.support.random_reference import counts, solved_by_one_unit, variate

CELLS = 17**3
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")
#: Each kind of what a law may be.
KINDS = (
    {"hidden": 3},
    {"hidden": 4, "topology": "overlap", "initialization": "he"},
    {"hidden": 2, "loss": "cross_entropy", "initialization": "normal", "encoding": "sign"},
    {"hidden": 2, "bias_initialization": "zeros", "initialization": "lecun", "initialization_scale": 3.0},
    {"hidden": 2, "intervention": "separate_trunks"},
)
#: One feature, two rows: each head answers 1 on exactly one of them, in every context.
TWO_ROWS = TruthTables(
    inputs=[(0,), (1,)], alice=[(0, 1), (1, 0)], bob=[(0, 1), (1, 0)], alice_features=[0], bob_features=[0]
)


@pytest.mark.parametrize("kind", first_fast(KINDS, 3))
def test_drawn_networks_are_the_reference_s(kind):
    config = EnsembleConfig(**kind)
    law = RandomLaw.of(config)
    state, keep, tables = seeded((5,), 16), Keep(16, law.architecture.size), np.zeros((4, CELLS), np.int64)
    words = [[int(word) for word in column] for column in state.T]
    Drawer(law).guess(state, 1, 32, tables, keep)
    expected = np.zeros((4, CELLS), np.int64)
    for number, stream in enumerate(words):
        drawn = np.array([variate(stream, normal) for normal in law.normal])
        vector = law.vector(drawn[:, None].astype(np.float32))[:, 0]
        np.testing.assert_allclose(keep.vector[0, number], vector, rtol=2e-5)  # Giles's approximation
        for context, pair in enumerate(CONTEXTS):
            _, bob, alice, both = counts(config, keep.vector[0, number], pair)
            expected[context, (bob * 17 + alice) * 17 + both] += 1
    np.testing.assert_array_equal(tables, expected)
    np.testing.assert_array_equal(state.T, words)


@needs_compiler
@pytest.mark.parametrize("kind", first_fast(KINDS, 3))
def test_c_has_the_bits_of_numpy(kind):
    law = RandomLaw.of(EnsembleConfig(**kind))
    drawer = Drawer(law)
    assert drawer.language == "C"
    ratio = np.exp(np.minimum(0.3 * np.subtract.outer(np.arange(33), np.arange(33)), 0)).astype(np.float32)
    found = []
    for guess, walk in ((drawer.guess, drawer.walk), (lambda *a: random_networks.guess(law, *a), random_networks.walk)):
        state, tables, keep = seeded((1, 2), 32), np.zeros((5, CELLS), np.int64), Keep(2_000, law.architecture.size)
        guess(state, 10, 14, tables[:4], keep)
        walkers, schedule = Walk(law, 1, (3,), 32), Schedule.drawn(law, 60, (5,))
        walk(walkers, schedule, ratio, (11, 15), tables[4], keep, 12, 7)
        kept = [np.unique(keep.of(context), axis=0) for context in range(4)]
        found.append((state, tables, walkers.state, walkers.variates, walkers.deep, walkers.trips, keep.count, *kept))
    assert found[0][6].min() > 0
    assert found[0][5] > 0
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_variates_have_their_laws():
    state = seeded((7,), 100_000)
    uniform = next_uniform(state)
    assert kstest(uniform, "uniform", (-1, 2)).pvalue > 1e-3
    assert kstest(normal_of(next_uniform(state)), "norm").pvalue > 1e-3
    points = np.float32([2**-24 - 1, -0.9967, -0.9966, -0.5, 1e-6, 0.25, 0.9966, 0.9967, 1 - 2**-24])
    np.testing.assert_allclose(normal_of(points), ndtri((1 + points.astype(float)) / 2), rtol=2e-6)


@pytest.mark.parametrize("kind", first_fast(KINDS[1:3]))
def test_the_law_is_that_from_which_training_starts(kind):
    config = EnsembleConfig(**kind)
    found = random_solutions(config, 100_000, keep=0)
    law, size = RandomLaw.of(config), 20_000
    keys = jax.random.split(jax.random.key(3), size)
    vectors = np.asarray(jax.jit(jax.vmap(lambda key: initial_vector(key, config)))(keys)).T
    for context in range(4):
        _, wrong = random_networks.tables_of(law, random_networks.answers(law, vectors), context)
        started = np.bincount(wrong, minlength=33)
        cells, drawn = found.law(context)
        expected = np.bincount(cells @ [2, 1, 1, 0], drawn, 33)
        bins = expected * size > 20
        pooled = [np.append(each[bins], each[~bins].sum()) for each in (started, expected * size)]
        variance = pooled[1] * (1 + size / found.draws)  # both are samples
        statistic = ((pooled[0] - pooled[1]) ** 2 / np.maximum(variance, 1)).sum()
        assert chi2.sf(statistic, len(pooled[0]) - 1) > 1e-4


def test_a_walk_without_weights_keeps_the_law():
    config = EnsembleConfig(hidden=4, topology="overlap", initialization="he")
    law = RandomLaw.of(config)
    walkers, keep, tables = Walk(law, 3, (3,), 256), Keep(0, law.architecture.size), np.zeros(CELLS, np.int64)
    schedule = Schedule.drawn(law, 400, (4,))
    Drawer(law).walk(walkers, schedule, np.ones((33, 33), np.float32), (0, 16), tables, keep)
    uniform = walkers.variates[~law.normal].ravel()
    assert kstest(uniform, "uniform", (-1, 2)).pvalue > 1e-3
    assert kstest(walkers.variates[law.normal].ravel(), "norm").pvalue > 1e-3


def test_one_unit_has_its_exact_probability(monkeypatch):
    monkeypatch.setattr(module, "BATCHES", 100)
    monkeypatch.setattr(module, "BURN_IN", 500)
    exact = solved_by_one_unit()
    config = EnsembleConfig(hidden=1, tasks=TWO_ROWS)
    guesses = random_solutions(config, 1_000_000, keep=100)
    walks = random_solutions(config, 1_000_000, method="multicanonical", keep=100)
    for context in range(4):
        for found in (guesses, walks):
            share = found.share(context, 0)
            reach = (share.high - share.low) / 2 / share.value
            assert abs(share.value / exact - 1) < 2 * reach < 0.3  # four standard errors
        assert walks.converged(context)
        assert guesses.converged(context)
    for found in (guesses, walks):
        records = found.records(3)
        assert (records.counts[3] == 2).all()
        assert (records.margin > 0).all()
        assert records.loss.shape == (100,)
    # By symmetry under the sign of a head all answers are wrong as often as right.
    cells, law = guesses.law(0)
    assert law[(cells[:, 0] == 2)].sum() == pytest.approx(exact, rel=0.1)


def test_round_trips_before_anything_is_counted_make_no_walk_converge(monkeypatch):
    """A walk of one step per half was said to be relied on, for what it did before."""
    monkeypatch.setattr(module, "BATCHES", 100)
    monkeypatch.setattr(module, "BURN_IN", 5_000)
    config = EnsembleConfig(hidden=1, tasks=TWO_ROWS)
    walks = random_solutions(config, 1_024, method="multicanonical", keep=0)
    assert walks.draws == 1_024
    assert (walks.round_trips > module.TRIPS).all()
    assert all(abs(walks.halves_apart(context)) < module.APART for context in range(4))
    assert (walks.trips_before <= walks.round_trips).all()
    assert (walks.round_trips - walks.trips_before < module.TRIPS).all()
    assert not any(walks.converged(context) for context in range(4))


def test_an_answer_of_zero_is_counted_as_it_falls():
    # Without biases and with input 0 the logit is exactly 0, which answers 0.
    tasks = TruthTables(inputs=[(0,)], alice=[(0,), (1,)], bob=[(0,), (0,)], alice_features=[0], bob_features=[0])
    found = random_solutions(EnsembleConfig(hidden=2, tasks=tasks, bias_initialization="zeros"), 1_000)
    assert [found.share(context, 0).value for context in range(4)] == [1, 1, 0, 0]


@pytest.mark.thorough
def test_samplers_agree_where_both_are_feasible():
    config = EnsembleConfig(hidden=3)
    guesses = random_solutions(config, 10**7, keep=0)
    walks = random_solutions(config, 10**7, method="multicanonical", keep=0)
    sent = random_solutions(config, 10**7, method="multicanonical", keep=0, fewest=(8, 8, 8, 8))
    for context in range(4):
        for wrong in (6, 8, 10):
            one, other = guesses.share(context, wrong), walks.share(context, wrong)
            if one.value * guesses.draws < 100:
                continue
            error = np.hypot(np.log(one.high / one.low), np.log(other.high / other.low)) / 2 / 1.96
            assert abs(np.log(one.value / other.value)) < 4 * error, (context, wrong)
        # Walks whose range ends before seek no fewer, come back more often, and give the same where they were sent.
        one, other = walks.share(context, 8), sent.share(context, 8)
        error = np.hypot(np.log(one.high / one.low), np.log(other.high / other.low)) / 2 / 1.96
        assert abs(np.log(one.value / other.value)) < 4 * error
        assert sent.round_trips[context] > walks.round_trips[context]
        # And the laws of tables given so many wrong answers.
        (cells, law), (others, walked) = guesses.law(context, 10), walks.law(context, 10)
        k = [each[:, 1] + each[:, 2] for each in (cells, others)]
        assert law @ k[0] == pytest.approx(walked @ k[1], abs=0.15)


def test_intervals_of_ratios_hold():
    generator, held = np.random.default_rng(1), 0
    for _ in range(400):
        inside = generator.poisson(generator.gamma(2, 5, size=32)).astype(float)  # groups that differ, as walks do
        total = np.full(32, 1e6) * generator.uniform(0.9, 1.1, 32)
        found = ratio_estimate(inside, total)
        held += found.low < 1e-5 < found.high
    assert held > 400 * 0.92
    assert ratio_estimate(np.eye(32)[0], total).high == 1  # one group alone says nothing of the error
    assert ratio_estimate(np.zeros(32), total)[:3] == (0, 0, 1)


@needs_compiler
def test_the_largest_networks():
    tasks = truth_tables(
        [lambda *x: x[0], lambda *x: sum(x) % 2], [lambda *x: x[1], lambda *x: x[2] & x[4]], features=5
    )
    config = EnsembleConfig(hidden=64, tasks=tasks)
    law = RandomLaw.of(config)
    found = []
    for guess in (Drawer(law).guess, lambda *a: random_networks.guess(law, *a)):
        state, tables = seeded((1,), 16), np.zeros((4, 33**3), np.int64)
        guess(state, 2, -1, tables, Keep(0, law.architecture.size))
        found.append(tables)
    np.testing.assert_array_equal(*found)
    assert found[0].sum() == 4 * 32


def test_results_hang_on_neither_threads_nor_language(monkeypatch):
    config = EnsembleConfig(hidden=2)
    ones = random_solutions(config, 5_000, wrong=10, keep=64, threads=1)
    twos = random_solutions(config, 5_000, wrong=10, keep=64, threads=2)
    monkeypatch.setattr("ncsim.c_compiler.compiler", lambda: None)
    threes = random_solutions(config, 5_000, wrong=10, keep=64)
    assert threes.language == "NumPy"
    with pytest.raises(ConfigError, match="no C compiler works here"):
        random_solutions(config, method="multicanonical")
    for other in (twos, threes):
        assert other.draws == ones.draws
        for (code, mass), (code_2, mass_2) in zip(ones.tables, other.tables, strict=True):
            np.testing.assert_array_equal(code, code_2)
            np.testing.assert_array_equal(mass, mass_2)
    for context, (_, mass) in enumerate(ones.tables):
        assert mass.sum() == ones.draws
        assert (ones.vectors[context] == twos.vectors[context]).all()


def test_what_is_not_allowed():
    config = EnsembleConfig(hidden=2)
    for arguments, said in (
        ({"draws": 0}, "draws: 0"),
        ({"wrong": 33}, "wrong: 33"),
        ({"method": "luck"}, "method: 'luck'; allowed: guess, multicanonical"),
        ({"threads": 0}, "threads: 0"),
        ({"fewest": (0, 0, 16, 0)}, r"fewest: \(0, 0, 16, 0\); allowed: four whole numbers from 0 to 15"),
        ({"fewest": 3}, "fewest: 3; allowed: four whole numbers"),
        ({"fewest": np.array(3)}, r"fewest: array\(3\); allowed: four whole numbers"),
        ({"fewest": {0, 1, 2, 3}}, "fewest: {0, 1, 2, 3}; allowed: four whole numbers"),
    ):
        with pytest.raises(ConfigError, match=said):
            random_solutions(config, **arguments)
    with pytest.raises(ConfigError, match="--training-rows: 8"):
        random_solutions(dataclasses.replace(config, training_rows=8))


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.asarray])
def test_numbers_of_numpy_are_numbers(kind):
    """Of a call of C they were arguments that it does not know, and of uint64 the negative is no number of groups."""
    config = EnsembleConfig(hidden=2)
    found = [
        random_solutions(
            config, draws=as_(2_000), wrong=as_(8), keep=as_(3), seed=as_(1), threads=as_(1), fewest=fewest
        )
        for as_, fewest in ((int, (0, 0, 1, 0)), (kind, np.array([0, 0, 1, 0])))
    ]
    for one, other in zip(found[0].tables, found[1].tables, strict=True):
        assert all(map(np.array_equal, one, other))
    assert all(map(np.array_equal, found[0].vectors, found[1].vectors))
    assert found[0].draws == found[1].draws
