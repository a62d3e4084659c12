"""Ensembles as fluids: the kappas of closed forms, the theorem kappa = -2 D^2 on a grid, entropy, circulation and the action."""

import math
from fractions import Fraction

import numpy as np
import pytest

import ncsim
from ncsim.statistics.momentum import action_hbar_squared, momentum_kappa

GRID = np.linspace(-9, 9, 1201)
AROUND = np.array([-2, -1, 0, 1, 2])


def gauss(mean, variance):
    """ln p at five times, from means and variances [5]."""
    mean, variance = np.broadcast_to(mean, 5)[:, None], np.broadcast_to(variance, 5)[:, None]
    return -((GRID - mean) ** 2) / (2 * variance)


def kappa_of_free_packets(spread, time=1.0, step=1e-3, starts=(0.0, 1.0)):
    """Two packets that differ in variance at the start, by the estimator."""
    pair = [ncsim.fluid(GRID, gauss(0, spread(time + step * AROUND, start)), step) for start in starts]
    return ncsim.madelung(*pair).kappa


def test_kappas_of_free_packets():
    noise = 0.2
    assert kappa_of_free_packets(lambda t, s: 1 + s + 2 * noise * t) == pytest.approx(-0.08, abs=2e-4)
    schroedinger = kappa_of_free_packets(lambda t, s: (1 + s) + (noise * t) ** 2 / (1 + s))
    assert schroedinger == pytest.approx(0.08, abs=2e-4)
    assert kappa_of_free_packets(lambda t, s: 1 + s + 0 * t) == 0
    moving = [ncsim.fluid(GRID, gauss(speed * 1e-3 * AROUND, variance), 1e-3) for speed, variance in ((1, 1), (-1, 2))]
    assert ncsim.madelung(*moving).kappa == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("time", "kappa"), [(0.01, 1.98), (1, 0.48), (10, -2.00)])
def test_kappas_with_momentum(time, kappa):
    assert round(momentum_kappa(time), 2) == kappa
    if time == 1:

        def variance(t):
            return 1 + 2 * (t - 1 + np.exp(-t))

        found = ncsim.fluid(GRID, gauss(0, variance(1 + 1e-3 * AROUND)), 1e-3)
        there = abs(GRID) < 2
        assert np.polyfit(found.quantum_force[there], found.acceleration[there], 1)[0] == pytest.approx(
            momentum_kappa(1), abs=2e-3
        )


def exact_kappa(time, variance, heat, friction, terms=60):
    """2 s^3 s'' = s^2 (s^2)'' - (s^2)'^2 / 2 as published, in whole fractions: exp(-x) by its series, to far below rounding for x up to 5."""
    time, variance, heat, friction = map(Fraction, (time, variance, heat, friction))
    x, decay, term = friction * time, Fraction(0), Fraction(1)
    for k in range(1, terms):
        decay, term = decay + term, term * -x / k
    square = variance + 2 * heat / friction**2 * (x - 1 + decay)
    return float(square * 2 * heat * decay - (2 * heat / friction * (1 - decay)) ** 2 / 2)


@pytest.mark.parametrize("time", [1e-3, 1.0, 3.0])
@pytest.mark.parametrize("friction", [1e-12, 1e-9, 1e-8, 1e-7, 1e-3, 0.1, 0.3, 0.999, 1.0, 1.001, 1.6])
@pytest.mark.parametrize(("variance", "heat"), [(1.0, 1.0), (0.5, 3.0)])
def test_kappas_with_little_friction(time, friction, variance, heat):
    expected = exact_kappa(time, variance, heat, friction)
    # Where kappa goes through 0 its two terms are what rounding is of.
    assert momentum_kappa(time, variance, heat, friction) == pytest.approx(
        expected, rel=1e-12, abs=1e-14 * heat * variance
    )


def test_kappas_with_hardly_any_friction_and_with_much():
    for friction in (1e-300, 1e-100, 1e-20, 1e-15, 1e-12):
        assert momentum_kappa(1.0, friction=friction) == pytest.approx(2, rel=1e-11)
    for friction in (100.0, 1e4, 1e100):  # -2 D^2
        assert momentum_kappa(1.0, friction=friction) == pytest.approx(-2 / friction**2, rel=0.001 + 100 / friction)
    assert momentum_kappa(1.0, friction=1e300) == 0
    assert momentum_kappa(1e300, friction=1e20) == pytest.approx(-2e-40, rel=1e-12)
    assert momentum_kappa(math.inf, heat=3.0, friction=0.5) == pytest.approx(-2 * 6.0**2, rel=1e-12)
    assert momentum_kappa(0.0, 0.7, 3.0, 0.2) == pytest.approx(2 * 3 * 0.7, rel=1e-15)


@pytest.mark.parametrize("turn", [1, -1])
def test_share_is_that_of_the_ensemble_with_more_of_it_left_out(turn):
    """Where both densities of normal laws are above a tenth of their largest, which is within 2.146 of the narrower one's deviations."""
    narrow, wide = 1.0, 1.5
    pair = [ncsim.fluid(GRID, gauss(0, deviation**2 + 0.1 * AROUND), 0.01) for deviation in (narrow, wide)][::turn]
    ends = math.sqrt(2 * math.log(10)) * narrow
    assert ncsim.madelung(*pair, thin=0.1).weight == pytest.approx(math.erf(ends / wide / math.sqrt(2)), abs=0.01)


@pytest.mark.parametrize("stiffness", [0.5, -0.5])
def test_packets_in_a_parabola(stiffness):
    """Own case: dq = -k q dt + sqrt(2 D) dB, also down from a hilltop: the potential W of both cancels."""
    noise, step, time = 0.3, 1e-3, 0.3
    pair = []
    for mean, start in ((-1.0, 0.5), (0.8, 1.2)):
        t = time + step * AROUND
        decay = np.exp(-stiffness * t)
        variance = noise / stiffness + (start - noise / stiffness) * decay**2
        pair.append(ncsim.fluid(GRID, gauss(mean * decay, variance), step))
    found = ncsim.madelung(*pair, thin=0.02)
    assert found.kappa == pytest.approx(-2 * noise**2, rel=5e-3)
    assert found.residual < 0.01


def test_a_learning_rate_that_changes_does_not_matter_and_noise_that_grows_does():
    """Own cases: means and variances of dq = -k(t) q dt + sqrt(2 D(t)) dB by fine steps. kappa = -2 D^2 + 2 s^2 D' of free packets."""

    def moments(pull, noise, mean, variance, until, fine=1e-4):
        for n in range(round(until / fine)):
            t = (n + 0.5) * fine
            middle = variance + fine / 2 * (2 * noise(t) - 2 * pull(t) * variance)
            mean, variance = mean * (1 - fine * pull(t)), variance + fine * (2 * noise(t) - 2 * pull(t) * middle)
        return mean, variance

    def pair(pull, noise):
        found = []
        for mean, variance in ((-1.0, 0.5), (0.8, 1.2)):
            by_time = [moments(pull, noise, mean, variance, 0.5 + 0.01 * k) for k in AROUND]
            found.append(ncsim.fluid(GRID, gauss(*map(np.array, zip(*by_time, strict=True))), 0.01))
        return found

    steady = ncsim.madelung(*pair(lambda t: 0.5 + t, lambda t: 0.3))
    assert steady.kappa == pytest.approx(-0.18, rel=0.01)
    growing = pair(lambda t: 0.0, lambda t: 0.3 * (1 + t))
    own = [
        np.polyfit(each.quantum_force[there], each.acceleration[there], 1)[0]
        for each in growing
        for there in [each.density > 0.1 * each.density.max()]
    ]
    spreads = [start + 2 * 0.3 * (0.5 + 0.125) for start in (0.5, 1.2)]
    np.testing.assert_allclose(own, [-2 * 0.45**2 + 2 * s * 0.3 for s in spreads], rtol=0.01)
    assert min(own) > 0


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_a_double_well(noise):
    """The densities of (q^2 - 1)^2 / 4 with noise, computed; kappa = -2 D^2 and the potential W of the theorem."""
    from experiments import madelung

    pair = [
        ncsim.fluid(madelung.GRID, logs, madelung.STEP)
        for logs in madelung.exact_densities(madelung.loss(madelung.GRID)[None], noise, 0.5)
    ]
    assert ncsim.madelung(*pair).kappa / noise**2 == pytest.approx(-2, abs=0.01)
    q = madelung.GRID
    slope = (q**3 - q) * (3 * q**2 - 1) - 6 * noise * q  # of |b|^2 / 2 + D b', which is -W
    for each in pair:
        there = each.density > 0.05 * each.density.max()
        expected = slope - 2 * noise**2 * each.quantum_force
        parts = np.sqrt(np.mean(slope[there] ** 2)) + 2 * noise**2 * np.sqrt(np.mean(each.quantum_force[there] ** 2))
        assert np.sqrt(np.mean((each.acceleration - expected)[there] ** 2)) < 0.006 * parts


def test_without_noise_and_with_a_neuron_exchanged():
    from experiments import madelung

    assert madelung.without_noise().kappa == pytest.approx(0, abs=1e-4)
    both = np.stack([madelung.loss(madelung.GRID, neurons) for neurons in (1, 2)])
    fast = madelung.grid_case("", both, 0.3, 1e4)
    assert fast.kappa / 0.09 == pytest.approx(-2, abs=0.01)
    assert fast.residual < 0.01


def test_kappa_of_samples_has_its_interval_in_the_table_and_in_words():
    """Student's t over three ensembles: 4.30 standard errors, and not 1.96."""
    from experiments import madelung

    found, slopes = madelung.sampled(0.3, 4_000, 3, seed=0)
    reach = 4.302652729911275 * np.std(slopes, ddof=1) / np.sqrt(3)  # t of 0.975 with two degrees, from tables
    assert found.reach == pytest.approx(reach)
    limits = "[{:.2f}, {:.2f}]".format(*((found.kappa + sign * reach) / 0.09 for sign in (-1, 1)))
    exact = [madelung.Case(name, 0.3, -0.18, 0.0, -0.18, 0.0) for name in ("double well", "neuron exchanged")]
    rows = madelung.printed([found, *exact, madelung.Case("no noise", 0.0, 0.0, 0.0, 0.0, math.nan)])
    assert limits in rows[2]
    assert "[" not in "".join(rows[3:])
    turned = {kind: np.zeros(2) for kind in ("none", "reservoir", "pcgrad")}
    assert f"{limits} D^2 of samples" in madelung.conclusion([found, *exact], turned)[0]
    for kappa, words in (
        (-0.3, "Its sign is wrong"),
        (-0.1, "do not tell its sign"),
        (0.1, "do not tell"),
        (0.3, "NOT of one sign"),
    ):
        few = found._replace(kappa=kappa, reach=0.2)
        assert words in madelung.conclusion([few, *exact], turned)[0]


@pytest.mark.parametrize(
    ("members", "degree", "seed"),
    [(50, 2, 55), (50, 8, 42), (1_000, 4, 0), (1_000, 8, 26), (5_000, 8, 25), (5_000, 4, 81)],
)
def test_a_fit_does_not_stop_for_the_rounding_of_what_it_minimises(members, degree, seed):
    """There is such a density. Steps had been halved for ever, a little beside it."""
    rng, grid = np.random.default_rng(seed), np.linspace(-2.6, 2.6, 261)
    sample = rng.normal(rng.normal(0, 0.4), rng.uniform(0.2, 0.9), members)
    sample = sample[abs(sample) < 2.6]
    share = np.exp(ncsim.fitted_log_density(sample, grid, degree)) * (grid[1] - grid[0])
    for power in range(degree + 1):
        assert share @ grid**power == pytest.approx(np.mean(sample**power), rel=1e-7, abs=1e-8)


def test_members_that_are_sampled():
    """Two humps: the density nearly, the moments exactly."""
    rng = np.random.default_rng(0)
    sample = np.concatenate([rng.normal(-0.7, 0.6, 60_000), rng.normal(0.7, 0.6, 40_000)])
    found = ncsim.fitted_log_density(sample, GRID)
    true = 0.6 * np.exp(-((GRID + 0.7) ** 2) / 0.72) + 0.4 * np.exp(-((GRID - 0.7) ** 2) / 0.72)
    true /= true.sum() * (GRID[1] - GRID[0])
    assert np.exp(found).sum() * (GRID[1] - GRID[0]) == pytest.approx(1)
    there = abs(GRID) < 2
    np.testing.assert_allclose(np.exp(found)[there], true[there], atol=0.025)
    for power in (1, 2, 5, 8):
        assert np.exp(found) @ GRID**power * (GRID[1] - GRID[0]) == pytest.approx(np.mean(sample**power), rel=1e-6)


@pytest.mark.parametrize(
    ("time", "production", "rate"), [(0.5, 0.1459, -0.3541), (2, 0.3244, -0.1756), (8, 0.4993, -0.0007)]
)
def test_entropy_of_a_parabola(time, production, rate):
    from experiments.learning_equilibrium import parabola

    variance = 0.4 + 1.6 * math.exp(-time)
    found = ncsim.entropy_balance(GRID, -(GRID**2) / (2 * variance), np.ones_like(GRID), diffusion=0.2, speed=0.5)
    for balance in (found, parabola(time)):
        assert round(balance.production, 4) == production
        assert round(balance.rate, 4) == rate
    # dS/dt of a Gaussian is half of d ln(variance) / dt.
    assert rate == pytest.approx(0.5 * (2 * 0.2 - 2 * 0.5 * variance) / variance, abs=1e-4)


def test_an_equilibrium_in_any_potential_balances():
    """Own case: p = exp(-F / D) / Z, F = q^4 / 4 + q / 3, gamma = 1."""
    potential = GRID**4 / 4 + GRID / 3
    found = ncsim.entropy_balance(GRID, -potential / 0.7, 3 * GRID**2, diffusion=0.7, speed=1.0)
    assert found.rate == pytest.approx(0, abs=2e-3)
    assert found.production > 0.5


def test_circulation_of_gradients_and_of_what_is_none():
    angle = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    loops = np.stack([circle, 0.5 * circle[:, [2, 0, 1]] + 0.3])
    falling = ncsim.circulation(lambda q: np.stack([q[:, 1], q[:, 0], 3 * q[:, 2] ** 2], axis=1), loops)
    np.testing.assert_allclose(falling, 0, atol=1e-9)
    turning = ncsim.circulation(lambda q: np.stack([-q[:, 1], q[:, 0], 0 * q[:, 0]], axis=1), loops)
    np.testing.assert_allclose(turning, [2 * np.pi, 0], atol=1e-3)


def test_the_action_is_madelungs():
    """Terms of arXiv:2008.01540, section 5, on a density and a phase of our own against (D - gamma / 4 lambda) I
    + lambda <Phi_t + gamma |Phi'|^2 + V>; V is 0."""
    noise, speed, multiplier, step = 0.2, 0.5, 0.7, 1e-4
    q = np.linspace(-10, 10, 4_001)
    width = q[1] - q[0]

    def logs(t):
        density = np.exp(-((q - 0.3 - t) ** 2) / 2 / (1 + t)) + 0.5 * np.exp(-((q + 1) ** 2) / 2)
        return np.log(density / density.sum() / width)

    def phase(t):
        return 0.2 * q**2 * (1 + t) + 0.1 * np.sin(q)

    def free(t):
        return phase(t) + logs(t) / (2 * multiplier)

    def slope(values):
        return np.gradient(values, width)

    density, root = np.exp(logs(0)), np.exp(logs(0) / 2)
    terms = -4 * noise * root * slope(slope(root))
    change = (free(step) - free(-step)) / (2 * step)
    terms += density * (speed * slope(slope(free(0))) + multiplier * (change + speed * slope(free(0)) ** 2))
    fisher = density @ slope(logs(0)) ** 2 * width
    drift = (phase(step) - phase(-step)) / (2 * step) + speed * slope(phase(0)) ** 2
    expected = (noise - speed / (4 * multiplier)) * fisher + multiplier * (density @ drift) * width
    assert terms.sum() * width == pytest.approx(expected, abs=2e-3)
    # Madelung's action divided by lambda: (hbar^2 / 8 m) I with m = 1 / (2 gamma).
    assert (noise - speed / (4 * multiplier)) / multiplier == pytest.approx(
        action_hbar_squared(noise, speed, multiplier) * 2 * speed / 8
    )
    assert (
        action_hbar_squared(0.2, 0.5, 0.7) > 0 > action_hbar_squared(0.2, 0.7, 0.7)
    )  # gamma / lambda below and above 4 D


def test_an_action_of_small_numbers_has_its_sign():
    """The square of lambda, or its product with gamma, may be no float: it was a division by zero."""
    assert action_hbar_squared(1.0, 1e-200, 1e-200) == math.inf
    assert action_hbar_squared(1.0, 1.0, 1e-170) == -math.inf


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, -2.9), (-6.0, 5.0)])
def test_of_degree_one_the_logarithm_is_a_line(low, high):
    """The normal law that the search began with stayed in it: of 0 to 1 the slope was from -30 to 43, and is 0.17."""
    grid = np.linspace(-6, 6, 1201)
    samples = np.random.default_rng(3).uniform(low, high, 500)
    found = ncsim.fitted_log_density(samples, grid, degree=1)
    slope = np.diff(found) / 0.01
    np.testing.assert_allclose(slope, slope[0], rtol=1e-6, atol=1e-9)
    share = np.exp(found) * 0.01
    assert share.sum() == pytest.approx(1)
    assert share @ grid == pytest.approx(samples.mean(), abs=1e-8)


def test_a_density_may_be_zero():
    """Walls, and bins of a histogram that nobody is in: all rates were NaN."""
    curved = np.ones_like(GRID)
    with np.errstate(divide="ignore"):
        smooth = 4 * np.log(np.clip(1 - GRID**2 / 9, 0, None))  # 16 <(w' / w)^2>, w = 1 - q^2 / 9: 4 / 3
    found = ncsim.entropy_balance(GRID, smooth, curved, diffusion=0.2, speed=0.5)
    assert found.production == pytest.approx(0.2 * 4 / 3, rel=1e-3)
    walls = np.where(abs(GRID) < 5, -0.5 * GRID**2, -math.inf)
    whole = ncsim.entropy_balance(GRID, -0.5 * GRID**2, curved, diffusion=0.2, speed=0.5)
    assert ncsim.entropy_balance(GRID, walls, curved, diffusion=0.2, speed=0.5) == pytest.approx(whole, rel=1e-4)
    holes = np.where(np.arange(len(GRID)) % 7 == 3, -math.inf, -0.5 * GRID**2)
    with_holes = ncsim.entropy_balance(GRID, holes, curved, diffusion=0.2, speed=0.5)
    assert with_holes == pytest.approx(whole, rel=1e-2)
    alone = np.where(abs(GRID) < 1e-9, 0.0, -math.inf)
    assert ncsim.entropy_balance(GRID, alone, curved, diffusion=0.2, speed=0.5).production == 0
    cut = [np.where(abs(GRID) < 5, gauss(mean, 1 + 0.4 * (1 + AROUND * 0.01)), -math.inf) for mean in (0.0, 0.5)]
    fluids = [ncsim.fluid(GRID, logs, 0.01) for logs in cut]
    assert all(np.isfinite(each.quantum_force).all() for each in fluids)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ncsim.fluid(GRID, np.zeros((3, 1201)), 0.1), "log_density: shape"),
        (lambda: ncsim.fluid(GRID**3, np.zeros((5, 1201)), 0.1), "grid: "),
        (lambda: ncsim.fluid(GRID, np.zeros((5, 1201)), 0.0), "step: 0.0"),
        (lambda: ncsim.madelung(*[ncsim.fluid(GRID, gauss(0, 1), 0.1)] * 2), "second: nothing in common"),
        (
            lambda: ncsim.madelung(*(ncsim.fluid(g, -(g**2) * np.ones((5, 1)), 0.1) for g in (GRID, GRID / 2))),
            "second: another grid",
        ),
        (lambda: ncsim.fitted_log_density(np.array([100.0] * 20), GRID), "samples: "),
        (lambda: ncsim.fitted_log_density(np.zeros(3), GRID), "samples: "),
        (lambda: ncsim.fitted_log_density(np.zeros(20), GRID), "samples: all the same, or not all finite"),
        (
            lambda: ncsim.fitted_log_density(np.full(20, 0.1), GRID, 4),
            "samples: all the same, or not all finite",
        ),
        (
            lambda: ncsim.fitted_log_density(np.append(np.arange(-3.0, 3, 0.1), math.nan), GRID, 2),
            "samples: all the same, or not all finite",
        ),
        (
            lambda: ncsim.fitted_log_density(np.append(np.zeros(99), 1.0), np.linspace(-3, 3, 601), 4),
            "samples: no exponential polynomial of degree 4",
        ),
        (lambda: momentum_kappa(-1.0), "time: -1.0; allowed: 0 or above"),
        (lambda: momentum_kappa(1.0, friction=0.0), "friction: 0.0; allowed: a finite number above 0"),
        (lambda: momentum_kappa(1.0, friction=math.nan), "friction: nan"),
        (lambda: momentum_kappa(0.0, friction=math.inf), "friction: inf"),
        (lambda: momentum_kappa(1.0, variance=-1.0), "variance: -1.0; allowed: 0 or above"),
        (lambda: momentum_kappa(1.0, heat=-1.0), "heat: -1.0; allowed: 0 or above"),
        (lambda: ncsim.fluid(GRID, np.full((5, 1201), -math.inf), 0.1), "log_density: minus infinity everywhere"),
        (
            lambda: ncsim.entropy_balance(GRID, np.full(1201, -math.inf), np.ones(1201), 0.1, 0.1),
            "log_density: minus infinity everywhere",
        ),
        (
            lambda: ncsim.circulation(lambda q: q.T, np.ones((2, 5, 2))),
            r"drift: gives shape \(2, 10\); allowed: \(10, 2\)",
        ),
        (lambda: action_hbar_squared(0.2, 0.0, 1.0), "speed: 0.0; allowed: another number than 0"),
        (lambda: action_hbar_squared(0.2, 0.5, 0), "multiplier: 0; allowed"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_circulation_is_zero_to_the_bit_where_the_rule_is_exact():
    """A linear drift on loops of even whole numbers: the midpoint rule is exact, and so is every sum. A symmetric matrix has nothing; what is
    antisymmetric has twice the area of each plane, by the shoelace formula."""
    random = np.random.default_rng(4)
    loops = 2.0 * random.integers(-40, 40, (50, 7, 3))
    half = random.integers(-9, 9, (3, 3))
    assert np.all(ncsim.circulation(lambda q: q @ (half + half.T), loops) == 0)
    turned = ncsim.circulation(lambda q: q @ (half - half.T), loops)
    after = np.roll(loops, -1, axis=1)
    areas = np.einsum("lpi,lpj->lij", loops, after)
    areas = (areas - np.swapaxes(areas, 1, 2)) / 2
    assert np.all(turned == np.einsum("lij,ij->l", areas, half - half.T))
    assert np.abs(turned).min() > 0


def test_a_vortex_turns_by_whole_quanta_and_only_around_its_middle():
    """Grad of the angle is locally a gradient and has 2 pi per turn: what a phase that is defined modulo mu would show."""
    angle = np.linspace(0, 4 * np.pi, 2_000, endpoint=False)  # twice around
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    loops = np.stack([circle, circle + np.array([3.0, 0.0])])

    def vortex(q):
        return np.stack([-q[:, 1], q[:, 0]], axis=1) / np.sum(q**2, axis=1, keepdims=True)

    np.testing.assert_allclose(ncsim.circulation(vortex, loops), [4 * np.pi, 0], atol=1e-4)
