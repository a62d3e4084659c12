"""Chains over networks that exchange units, against exact laws: closed forms, enumeration and quadrature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.statistics.grand_canonical import bridged, left_out_ratios
from ncsim.statistics.intervals import jackknife_error
from ncsim.training.losses import mean_loss
from ncsim.training.network import Parameters, forward
from ncsim.training.reservoir import (
    Chain,
    LogSum,
    Settings,
    Sum,
    Units,
    loss_sums,
    network_units,
    open_interval,
    recomputed,
    run_chains,
    swapped,
)
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

SLOTS, LOOKS = 6, 200
#: Z_n is known of all three: (1 + beta n)^(-1/2) exp(-beta y^2 / 2 (1 + beta n)); exp(-beta |n - 2|); 1.
LINEAR = Units(1, (1,), lambda unit: unit, lambda outputs, answers: (answers[0] - outputs[0]) ** 2 / 2)
COUNTING = Units(1, (1,), jnp.ones_like, lambda outputs, answers: jnp.abs(outputs[0] - answers[0]))
FREE = Units(1, (1,), lambda unit: unit, lambda outputs, answers: 0 * outputs[0])
#: The last is so far above every ratio that the mean is that of insertion alone.
CENTRES = np.append(np.linspace(-6, 12, 10), 60.0)
ONE_ROW = ncsim.TruthTables([(1, 0)], [(1,), (0,)], [(1,), (0,)], [0], [1])


def log_z_linear(beta, y=2.0):
    n = np.arange(SLOTS + 1)
    return -0.5 * np.log1p(beta * n) - beta * y**2 / 2 / (1 + beta * n)


def tally(units, beta, log_z, start, answers=(2.0,), exchange=True, scale=1.0, looks=LOOKS, seed=0, slots=SLOTS):
    beta = np.atleast_1d(np.asarray(beta, np.float32))
    settings = Settings(slots, looks, looks // 4, 5, scale, 0.0, len(beta))
    ids = np.arange(len(log_z), dtype=np.uint32)
    given = (np.array([seed, 0], np.uint32), ids, np.asarray(start, np.int32), np.asarray(answers, np.float32))
    given += (np.asarray(log_z, np.float32), beta, np.array(exchange), CENTRES.astype(np.float32))
    return jax.device_get(run_chains(units, settings, *given))


def check_law(widths, log_ratios, log_z):
    """The shares of widths over chains with the same ln z, within five standard errors of the exact law."""
    for one in np.unique(log_z):
        shares = widths[:, log_z == one] / widths[:, log_z == one].sum(axis=0)
        expected = ncsim.width_law(log_ratios, float(one))
        error = shares.std(axis=1, ddof=1) / math.sqrt(shares.shape[1])
        assert (np.abs(shares.mean(axis=1) - expected) < 5 * error + 2e-4).all(), (one, shares.mean(axis=1), expected)


@pytest.mark.parametrize("kind", ["linear", "counting", "free"])
def test_widths_follow_the_exact_law(kind):
    """The linear network of a reference; own case: a loss that counts units; and none, which is Poisson's law."""
    log_z = np.log(np.repeat([0.5, 1.0, 2.0, 4.0], 64))
    units = {"linear": LINEAR, "counting": COUNTING, "free": FREE}[kind]
    found = tally(units, 4.0 if kind == "linear" else 1.5, log_z, np.arange(256) % 2 * SLOTS)
    exact = {"linear": log_z_linear(4.0), "counting": -1.5 * abs(np.arange(SLOTS + 1) - 2), "free": np.zeros(SLOTS + 1)}
    check_law(found.width, np.diff(exact[kind]), log_z)
    assert (found.width.sum(axis=0) == LOOKS).all()


def test_the_check_would_find_units_that_are_told_apart():
    log_z = np.log(np.full(64, 2.0))
    found = tally(FREE, 1.5, np.repeat(log_z, 4), np.arange(256) % 2 * SLOTS)
    with pytest.raises(AssertionError):
        check_law(found.width, np.log(np.arange(1, SLOTS + 1)), np.repeat(log_z, 4))


def test_a_unit_that_costs_too_much_is_not_bought():
    found = tally(LINEAR, 4.0, np.full(256, -80.0), np.zeros(256))
    assert (found.width[0] == LOOKS).all()
    np.testing.assert_allclose(found.loss / LOOKS, 2.0, rtol=1e-5)


def test_insertion_gives_ratios():
    start = np.repeat(np.arange(4), 64)
    found = tally(LINEAR, 4.0, np.zeros(256), start, exchange=False)
    assert (found.width[start, np.arange(256)] == LOOKS).all()  # widths stay
    means = np.exp(found.inserted[-1] + CENTRES[-1]).reshape(4, 64) / LOOKS
    error = means.std(axis=1, ddof=1) / 8
    assert (np.abs(means.mean(axis=1) - np.exp(np.diff(log_z_linear(4.0)))[:4]) < 5 * error).all()


def test_insertion_and_removal_together_are_right_where_insertion_is_low():
    """Units whose sum is to be 1/2 at inverse temperature 64: two that are far off and mend each other are much of Z_2, and hardly ever is one
    of them seen alone. Insertion is low by half, and its own errors do not tell."""
    start = np.repeat(np.arange(4), 64)
    found = tally(LINEAR, 64.0, np.zeros(256), start, answers=(0.5,), exchange=False, looks=400)
    inserted, removed = (each.reshape(-1, 4, 64).T - math.log(400) for each in (found.inserted, found.removed))
    exact = np.diff(log_z_linear(64.0, 0.5))[:3]
    parts, backs = bridged(inserted[:, :-1], removed[:, 1:], CENTRES)
    whole, left_out = left_out_ratios(parts, None, backs)
    error = np.array([jackknife_error(each) for each in left_out.T])
    assert (error < 0.1).all()
    assert (np.abs(whole - exact) < 4 * error).all(), (whole, exact, error)
    alone, left_out = left_out_ratios(inserted[:, :-1, -1:] + CENTRES[-1], None, None)
    error = np.array([jackknife_error(each) for each in left_out.T])
    assert ((alone - exact)[1:] < -4 * error[1:]).all(), (alone, exact, error)


@pytest.mark.slow
def test_tempering_keeps_the_law_and_gives_steps_of_temperature():
    betas = np.array([8.0, 2.0, 0.0])
    log_z = np.log(np.repeat([1.0, 4.0], 128))
    found = tally(LINEAR, betas, log_z, np.arange(256) % 2 * SLOTS)
    check_law(found.width, np.diff(log_z_linear(8.0)), log_z)
    start = np.repeat(np.arange(4), 64)
    fixed = tally(LINEAR, betas, np.zeros(256), start, exchange=False)
    means = np.exp(fixed.stones).reshape(2, 4, 64) / LOOKS
    error = means.std(axis=-1, ddof=1) / 8
    exact = np.array([log_z_linear(beta)[:4] for beta in betas])
    assert (np.abs(means.mean(axis=-1) - np.exp(exact[:-1] - exact[1:])) < 5 * error + 1e-6).all()


def test_sums_over_very_many_looks_keep_their_digits():
    """Of a million looks at the same losses: the mean was wrong by 0.6 % and the logarithms by 0.02."""
    looks, loss = 1_000_000, float(np.float32(2 * math.log(2)))
    same = Units(1, (1,), lambda unit: 0 * unit, lambda outputs, answers: 0 * outputs[0] + loss)
    betas = np.array([1.0, 0.5], np.float32)
    settings = Settings(1, looks, 0, 0, 1.0, 0.0, 2)
    given = (np.array([0, 0], np.uint32), np.arange(2, dtype=np.uint32), np.zeros(2, np.int32))
    centre = np.zeros(1, np.float32)
    found = run_chains(same, settings, *given, centre, np.zeros(2, np.float32), betas, np.array(False), centre)
    np.testing.assert_allclose(found.loss / looks, loss, rtol=2e-7)
    np.testing.assert_allclose(found.inserted, math.log(looks / 2), atol=2e-6)
    np.testing.assert_allclose(found.stones, [[math.log(looks) - 0.5 * loss] * 2], atol=2e-6)


def test_logarithms_of_sums_are_those_of_float64():
    """Exponents far apart, rising and falling, and infinite ones."""
    exponents = np.float32(
        [[-np.inf] * 3, [-300, -np.inf, 2], [5, -np.inf, -90], [200, -np.inf, 2.5], [198, -np.inf, 1]]
    )
    nothing = jnp.zeros(3)
    total = LogSum(jnp.full(3, -jnp.inf), Sum(nothing, nothing))
    for each in exponents:
        total = total.plus(jnp.asarray(each))
    np.testing.assert_allclose(total.total(), np.logaddexp.reduce(exponents.astype(float)), rtol=2e-7)


def test_variates_are_finite():
    found = np.asarray(open_interval(np.array([0, 2**31, 2**32 - 1], np.uint32)))
    assert found.tolist() == [2.0**-24, 0.5 + 2.0**-24, 1 - 2.0**-24]
    assert np.isfinite(jax.scipy.special.ndtri(found)).all()


def test_chains_depend_on_their_id_alone():
    log_z = np.zeros(256)
    many = tally(FREE, 1.5, log_z, np.arange(256) % 2 * SLOTS)
    other = tally(FREE, 1.5, np.where(np.arange(256) < 8, 0.0, 1.0), np.arange(256) % 2 * SLOTS)
    np.testing.assert_array_equal(many.width[:, :8], other.width[:, :8])
    seed = tally(FREE, 1.5, log_z, np.arange(256) % 2 * SLOTS, seed=1)
    assert (many.width[:, :8] != seed.width[:, :8]).any()


def exact_one_row(beta, scale, most):
    """ln Z_n of networks on one row with one feature that is 1, whose answers are both 1. A pre-activation is N(0, 2 s^2). Given the
    activations h both logits are N(0, s^2 |h|^2), independent of each other. The law of |h|^2 is a mixture: of n units k are active with
    chance C(n, k) / 2^n, and |h|^2 / 2 s^2 is then chi-squared with k degrees of freedom."""
    from scipy.special import comb, roots_hermitenorm
    from scipy.stats import chi2

    nodes, weights = roots_hermitenorm(80)
    weights = weights / weights.sum()

    def both(square):
        logit = scale * np.sqrt(square)[:, None] * nodes
        return (np.exp(-beta * np.logaddexp(0, -logit)) @ weights) ** 2

    share = (np.arange(4_000) + 0.5) / 4_000  # of the law's mass, by the midpoint rule
    given = [both(np.zeros(1))[0], *(both(2 * scale**2 * chi2.ppf(share, k)).mean() for k in range(1, most + 1))]
    return np.log([sum(comb(n, k) * given[k] for k in range(n + 1)) / 2**n for n in range(most + 1)])


def test_networks_on_one_row():
    """Own case, by quadrature."""
    units = network_units(ncsim.EnsembleConfig(tasks=ONE_ROW))
    log_z = np.log(np.repeat([0.5, 2.0], 128))
    answers = context_targets(ONE_ROW)[0]
    found = tally(units, 3.0, log_z, np.arange(256) % 2 * 4, answers, scale=1.5, slots=4)
    check_law(found.width, np.diff(exact_one_row(3.0, 1.5, 4)), log_z)
    assert (found.cells.sum(axis=0) == LOOKS).all()


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "squared_error"])
def test_losses_are_those_of_training(loss):
    config = ncsim.EnsembleConfig(tasks=FOUR_ROWS, loss=loss, alice_weight=0.5, bob_weight=2.0)
    logits = np.random.default_rng(0).normal(0, 6, (4, 2, 7)).astype(np.float32)
    answers = context_targets(FOUR_ROWS)[1].astype(np.float32)
    found = network_units(config).loss(np.swapaxes(logits, 0, 1), answers)
    np.testing.assert_allclose(found, mean_loss(config, logits, answers, None), rtol=1e-5, atol=1e-6)
    assert loss_sums(config, np.swapaxes(logits, 0, 1), answers).shape == (2, 7)


@pytest.mark.parametrize("encoding", ["binary", "sign"])
def test_a_chains_outputs_are_those_of_a_network(encoding):
    """Slots beyond the width hold nothing."""
    config = ncsim.EnsembleConfig(encoding=encoding)
    rng = np.random.default_rng(0)
    units = network_units(config)
    weights = rng.normal(size=(5, 7, 1, 3)).astype(np.float32)
    width = np.array([[0, 2, 5]], np.int32)
    answers = context_targets(config.tasks)[0].astype(np.float32)
    chain = recomputed(units, Chain(tuple(map(jnp.asarray, weights)), width, None, None), answers)
    for lane, n in enumerate(width[0]):
        own = weights[:n, :, 0, lane]
        tensors = own[:, :4].T, own[:, 4], own[:, 5:].T[:, None], np.zeros((2, 1), np.float32)
        network = Parameters(*map(jnp.asarray, tensors))
        if n:
            logits = forward(network, encoded_inputs(config.tasks, encoding).tolist())[1]
            np.testing.assert_allclose(chain.outputs[..., 0, lane], np.asarray(logits).T, atol=1e-5)
        else:
            assert (chain.outputs[..., 0, lane] == 0).all()
            assert float(chain.loss[0, lane]) == pytest.approx(2 * math.log(2))


def test_neighbours_change_places_with_the_probability_of_parallel_tempering():
    """min(1, exp((beta - beta') (L - L'))): always where the colder one has the larger loss, else at betas 4 and 1 and losses 0.1 and 0.2 in
    exp(-0.3) of lanes; all that a chain is goes along."""
    lanes = 40_000
    for losses, share in (((0.2, 0.1), 1.0), ((0.1, 0.2), np.exp(-0.3))):
        loss = jnp.broadcast_to(jnp.array(losses)[:, None], (2, lanes))
        chain = Chain((jnp.stack([loss, -loss]),), jnp.round(10 * loss).astype(jnp.int32), loss[None], loss)
        key = jnp.stack([jnp.arange(lanes, dtype=jnp.uint32), jnp.full(lanes, 7, jnp.uint32)])
        found = swapped(chain, key, jnp.uint32(1), jnp.array([[4.0], [1.0]]), jnp.array(0))
        changed = np.asarray(found.loss[0] != loss[0])
        assert abs(changed.mean() - share) <= 5 * np.sqrt(share * (1 - share) / lanes)
        for own, one in (
            (found.loss, loss),
            (found.units[0][0], loss),
            (-found.units[0][1], loss),
            (found.outputs[0], loss),
        ):
            np.testing.assert_array_equal(own, np.where(changed, one[::-1], one))
        np.testing.assert_array_equal(found.width, np.round(10 * np.asarray(found.loss)))
