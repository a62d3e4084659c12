"""Laws of a number of units against closed forms and enumeration, and when two routes to its mean give no number."""

import math
from fractions import Fraction

import numpy as np
import pytest

import ncsim
from ncsim.statistics.grand_canonical import log_ratios

NUMBER = np.arange(201)


def moments(law):
    number = np.arange(len(law))
    mean = law @ number
    return mean, law @ number**2 - mean**2


def linear_log_z(n, beta=4.0, y=2.0):
    """Z_n of L = (y - sum a)^2 / 2 with n weights a ~ N(0, 1): their sum is N(0, n)."""
    return -0.5 * np.log1p(beta * n) - beta * y**2 / 2 / (1 + beta * n)


def test_without_a_loss_the_law_is_poisson():
    law = ncsim.width_law(np.zeros(60), math.log(3.0))
    assert moments(law) == pytest.approx((3.0, 3.0), abs=1e-9)


def test_units_that_are_told_apart_would_be_geometric():
    # Weights z^n without 1 / n!: the factorial is put back by ln n of the ratios.
    law = ncsim.width_law(np.log(np.arange(1, 201)), math.log(0.5))
    assert moments(law) == pytest.approx((1.0, 2.0), abs=1e-9)


@pytest.mark.parametrize(
    ("z", "mean", "variance", "log_xi"),
    [
        (0.5, 1.3687, 0.3812, -2.7155),
        (1.0, 1.7465, 0.7544, -1.6507),
        (2.0, 2.5119, 1.5616, -0.2068),
        (4.0, 4.1518, 3.4347, 2.0286),
    ],
)
def test_a_linear_network(z, mean, variance, log_xi):
    log_z = linear_log_z(NUMBER)
    law = ncsim.width_law(np.diff(log_z), math.log(z))
    assert np.round(moments(law), 4).tolist() == [mean, variance]
    # ln Xi, from the weight of no unit.
    assert round(float(log_z[0] - np.log(law[0])), 4) == log_xi
    up, down = (moments(ncsim.width_law(np.diff(log_z), math.log(z) + shift))[0] for shift in (1e-5, -1e-5))
    assert (up - down) / 2e-5 == pytest.approx(variance, abs=1e-4)


@pytest.mark.parametrize(("z", "most"), [(0.7, 1), (3.0, 4), (20.0, 16)])
def test_a_law_that_is_cut_off_is_erlangs(z, most):
    """Own case: the mean of Poisson's law up to K is z (1 - B), B being the share of calls that K lines lose (Erlang)."""
    blocked = 1.0
    for n in range(1, most + 1):
        blocked = z * blocked / (n + z * blocked)
    assert moments(ncsim.width_law(np.zeros(most), math.log(z)))[0] == pytest.approx(z * (1 - blocked), rel=1e-12)


def test_ratios_of_both_kinds_of_parts():
    logs = np.log(np.array([[1.0, 2.0], [3.0, 2.0]]))[..., None]
    np.testing.assert_allclose(np.exp(log_ratios(logs, None)), [2.0, 2.0])
    stones = np.log(np.array([[[0.5, 0.5], [0.5, 0.25]]] * 3))  # ln Z_1 = ln 1/4, ln Z_2 = ln 1/8
    np.testing.assert_allclose(np.exp(log_ratios(stones, math.log(0.1))), [2.5, 0.5])
    assert np.isfinite(log_ratios(np.full((4, 2, 1), -3_000.0), None)).all()


def two(widths, parts, log_z=0.0):
    return ncsim.two_routes(widths, np.arange(len(widths)) % 2 == 0, parts, log_z)


def test_routes_that_agree_give_a_number():
    rng = np.random.default_rng(1)
    widths = rng.normal(1.0, 0.2, 400)
    found = two(widths, rng.normal(0, 0.02, (64, 8, 1)))
    assert found.problem == ""
    assert found.number == found.chains
    assert found.chains.value == pytest.approx(widths.mean())
    assert found.canonical.low < 1 < found.canonical.high


def test_the_interval_by_fixed_widths_holds_with_few_chains():
    """Four chains of fixed width whose parts have a known mean: 95 % of intervals hold the mean width, and 1.96 standard errors hold it in 86 %."""
    rng, spread = np.random.default_rng(3), 0.3
    widths = np.full(8, 1.0)
    truth = float(ncsim.width_law(np.zeros(4), 0.0) @ np.arange(5))
    held = []
    for _ in range(600):
        found = two(widths, rng.normal(-(spread**2) / 2, spread, (4, 4, 1))).canonical
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.92


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda widths, parts: (widths + 0.5, parts), "routes differ: "),
        (lambda widths, parts: (widths, parts + 0.4), "routes differ: "),
        (lambda widths, parts: (widths + 0.4 * (np.arange(400) % 2), parts), "starts differ: +0.4"),
        (lambda widths, parts: (widths[:8], parts), "routes are too uncertain"),
        (lambda widths, parts: (widths, parts * 60), "routes "),
        (
            lambda widths, parts: (widths, parts * np.nan),
            "routes are too uncertain to compare: chains of neighbouring fixed widths",
        ),
    ],
)
def test_routes_that_part_give_none(change, words):
    rng = np.random.default_rng(1)
    found = two(*change(rng.normal(1.0, 0.2, 400), rng.normal(0, 0.02, (64, 8, 1))))
    assert found.problem.startswith(words)
    assert math.isnan(found.number.value)
    assert found.number.method == found.problem


@pytest.mark.slow
def test_of_true_ensembles_hardly_any_is_refused():
    rng = np.random.default_rng(0)
    refused = [two(rng.normal(1.0, 0.2, 300), rng.normal(0, 0.05, (64, 8, 1))).problem for _ in range(30)]
    assert not any(refused)


def omega_of_circles(q, beta=3.0, log_z=0.4):
    """Of losses L_n = (n |q|^2 - 1)^2 / 4 + n q_1 q_2, n = 0, 1, 2, and minus the mean of their gradients over the law of n."""
    square, n = np.sum(q**2, axis=1)[:, None], np.arange(3)
    losses = (n * square - 1) ** 2 / 4 + n * q[:, :1] * q[:, 1:]
    weights = np.exp(log_z * n - np.log([1, 1, 2]) - beta * losses)
    share = weights / weights.sum(axis=1, keepdims=True)
    slopes = (n * square - 1)[..., None] * n[:, None] * q[:, None] + n[:, None] * q[:, None, ::-1]
    return losses, -np.einsum("pn,pni->pi", share, slopes), -np.log(weights.sum(axis=1)) / beta


def test_the_grand_potential_is_single_valued():
    """Its drift is minus its gradient, and around a smooth circle it changes by nothing: the rule of equal steps converges at once. Weights of n
    that turn with the place and are not its law leave a circulation."""
    q = np.random.default_rng(1).normal(size=(20, 2))
    losses, drift, exact = omega_of_circles(q)
    np.testing.assert_allclose(ncsim.grand_potential(losses, 0.4, 3.0), exact, rtol=1e-13)
    for axis in (0, 1):
        apart = 1e-5 * np.eye(2)[axis]
        ends = [ncsim.grand_potential(omega_of_circles(q + sign * apart)[0], 0.4, 3.0) for sign in (1, -1)]
        np.testing.assert_allclose((ends[1] - ends[0]) / 2e-5, drift[:, axis], atol=1e-8)
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([0.3 + np.cos(angle), np.sin(angle) - 0.2], axis=1)[None]
    assert abs(ncsim.circulation(lambda q: omega_of_circles(q)[1], circle)[0]) < 1e-6


def test_the_grand_potential_of_few_units_by_hand():
    # Losses that do not depend on n, and any number of units: -ln e^z / beta.
    assert ncsim.grand_potential(np.zeros(60), np.log(3.0), 2.0) == pytest.approx(-1.5, rel=1e-12)
    # One unit that costs a loss of 1 at z = 1 and beta ln 4: 1 + 1/4.
    assert ncsim.grand_potential([0.0, 1.0], 0.0, np.log(4.0)) == pytest.approx(-np.log(1.25) / np.log(4.0), rel=1e-14)
    # mu is its slope: -d Omega / d mu is the mean width.
    losses, beta = np.array([0.5, 0.2, 0.1, 0.4]), 4.0
    low, high = (ncsim.grand_potential(losses, beta * mu, beta) for mu in (0.1 - 1e-6, 0.1 + 1e-6))
    law = ncsim.width_law(-beta * np.diff(losses), beta * 0.1)
    assert -(high - low) / 2e-6 == pytest.approx(law @ np.arange(4), rel=1e-8)


def test_whole_numbers_are_the_numbers_that_they_are():
    """1 + 1 + 1/2 without a loss: ln n! is no whole number, whatever the losses are kept as."""
    import jax.numpy as jnp

    for losses in ([0, 0, 0], np.zeros(3, np.int8), np.zeros(3, bool), np.zeros(3, object), [Fraction(0)] * 3):
        assert ncsim.grand_potential(losses, 0.0, 1.0) == pytest.approx(-math.log(2.5), rel=1e-14)
    assert float(ncsim.grand_potential(jnp.zeros(3, int), 0.0, 1.0)) == pytest.approx(-math.log(2.5), rel=1e-6)
    assert ncsim.grand_potential(np.float32([0, 0, 0]), 0.0, 1.0).dtype == np.float32
    np.testing.assert_array_equal(ncsim.width_law([0, 1], 1), ncsim.width_law([0.0, 1.0], 1.0))
    ones = np.ones((3, 2, 1), int)
    np.testing.assert_array_equal(log_ratios(ones, None), log_ratios(ones * 1.0, None))
    widths, full = np.arange(400) % 3, np.arange(400) % 2 == 0
    assert ncsim.two_routes(widths, full, ones, 0) == ncsim.two_routes(widths * 1.0, full, ones * 1.0, 0.0)


@pytest.mark.filterwarnings("error")
def test_what_is_infinite_is_no_network():
    """No unit is allowed at z = 0, so Omega is L_0; where no network has a finite loss there is nothing to add up."""
    nobody, grand = -math.inf, ncsim.grand_potential
    assert grand([0.3, 0.1, 0.2], nobody, 2.0) == pytest.approx(0.3, rel=1e-14)
    np.testing.assert_array_equal(ncsim.width_law(np.array([1.0, -2.0]), nobody), [1, 0, 0])
    assert grand([math.inf] * 3, 0.4, 2.0) == math.inf
    assert grand([math.inf, 0.0], nobody, 2.0) == math.inf
    rows = grand(np.array([[math.inf, math.inf], [math.inf, 0.5], [0.5, math.inf]]), 0.0, 2.0)
    np.testing.assert_allclose(rows, [math.inf, 0.5, 0.5], rtol=1e-14)
    assert grand([0.0, 1.0], math.inf, 2.0) == -math.inf
    assert math.isnan(grand([0.0, math.nan], 0.0, 2.0))
    # Chains of fixed width likewise: nobody has one unit more.
    parts = np.zeros((4, 2, 1))
    parts[:, 1] = nobody
    np.testing.assert_array_equal(log_ratios(parts, None), [0, nobody])


@pytest.mark.parametrize(
    ("losses", "beta", "said"),
    [(1.0, 2.0, "losses: one number"), (Fraction(1, 3), 2.0, "losses: one number"), ([0.0], 0.0, "beta: 0.0; allowed")],
)
def test_a_grand_potential_of_nothing_is_refused(losses, beta, said):
    with pytest.raises(ValueError, match=said):
        ncsim.grand_potential(losses, 0.0, beta)


@pytest.mark.parametrize("full", [[], [0], list(range(100)), list(range(1, 100))])
def test_chains_that_began_alike_cannot_tell_whether_they_stuck(full):
    """No difference of starts was NaN, which no comparison holds of, so that the mean was given as if they agreed."""
    widths = np.minimum(np.random.default_rng(3).poisson(1.0, (100, 200)), 8).mean(axis=1)
    found = ncsim.two_routes(widths, np.isin(np.arange(100), full), np.zeros((60, 8, 1)), 0.0)
    assert found.problem == f"starts cannot be compared: {100 - len(full)} from empty, {len(full)} from full"
    assert np.isnan(found.number.value)
    assert found.number.low <= found.number.high
