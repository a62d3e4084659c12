"""How far from a product: matrices and Gaussians against closed forms and against roots of densities on a grid, samples against laws, and
an ensemble that learns y = w2 w1 x against the first order of its mutual information."""

import numpy as np
import pytest

from ncsim.statistics.separability import (
    SMALL,
    gaussian_entanglement,
    gaussian_information,
    sample_information,
    schmidt_entropy,
)

# -------------------------------------------------------------------------------------------------------------- matrices


def test_entropy_of_matrices_by_hand():
    assert schmidt_entropy(np.eye(4)) == pytest.approx(np.log(4))
    expected = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))  # 2 : 1, as squares 4 : 1
    assert schmidt_entropy(np.diag([2.0, 1, 0, 0])) == pytest.approx(expected)
    generator = np.random.default_rng(3)
    left, right = (np.linalg.qr(generator.normal(size=(4, 4)))[0] for _ in range(2))
    assert schmidt_entropy(-7e-300 * left @ np.diag([2.0, 1, 0, 0]) @ right) == pytest.approx(expected)
    assert schmidt_entropy(np.outer(generator.normal(size=4), generator.normal(size=4))) == 0
    # (x + y) of 0 and 1: [[0, 1], [1, 2]], whose singular values are 1 + sqrt 2 and sqrt 2 - 1.
    share = (1 + np.sqrt(2)) ** 2 / 6
    expected = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert schmidt_entropy([[0, 1], [1, 2]]) == pytest.approx(expected)
    bad = schmidt_entropy(np.stack([np.zeros((2, 2)), np.full((2, 2), np.nan), np.eye(2)]))
    assert np.isnan(bad).tolist() == [True, True, False]


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1, 40])
def test_small_and_large_matrices_have_the_same_entropy_by_either_way(size):
    matrix = np.random.default_rng(size).normal(size=(3, size, size - 2))
    share = np.linalg.svd(matrix, compute_uv=False) ** 2
    share /= share.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(schmidt_entropy(matrix), -(share * np.log(share)).sum(axis=-1), rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- Gaussians


def of_correlation(rho):
    return np.array([[1, -rho], [-rho, 1]])


@pytest.mark.parametrize(
    ("rho", "information", "entanglement"),
    [
        (0.1, 0.005025, 0.017595),
        (0.5, 0.143841, 0.278239),
        (0.9, 0.830366, 1.103563),
        (0.99, 1.958518, 2.262034),
        (0.2, 0.020411, 0.057529),
    ],
)
def test_two_variables(rho, information, entanglement):
    assert gaussian_information(of_correlation(rho), 1) == pytest.approx(information, abs=5e-7)
    assert gaussian_entanglement(of_correlation(rho), 1) == pytest.approx(entanglement, abs=5e-7)


@pytest.mark.parametrize(("rho", "reach"), [(0.2, 9), (0.5, 9), (0.9, 26)])
def test_entanglement_is_that_of_the_root_of_the_density_on_a_grid(rho, reach):
    """By singular values of sqrt(p), with nothing of the formula in it."""
    x = np.linspace(-reach, reach, 200)
    root = np.exp(-(x[:, None] ** 2 - 2 * rho * x[:, None] * x + x**2) / 4)  # precision [[1, -rho], [-rho, 1]]
    assert gaussian_entanglement(of_correlation(rho), 1) == pytest.approx(schmidt_entropy(root), abs=1e-10)


def test_singular_values_of_a_gaussians_root_fall_as_powers():
    """Mehler: with xi = rho / (1 + sqrt(1 - rho^2)) they are xi^k, so the entropy is -ln(1 - q) - q ln q / (1 - q), q = xi^2."""
    for rho in (1e-6, 0.3, 0.7, 0.999):
        q = (rho / (1 + np.sqrt(1 - rho**2))) ** 2
        expected = -np.log1p(-q) - q * np.log(q) / (1 - q)
        assert gaussian_entanglement(of_correlation(rho), 1) == pytest.approx(expected, rel=1e-9)


def test_of_several_pairs_each_adds_its_own():
    generator = np.random.default_rng(2)
    rhos = np.array([0.1, 0.6, 0.9])
    whole = np.block([[np.eye(3), -np.diag(rhos)], [-np.diag(rhos), np.eye(3)]])
    mixed = np.zeros((6, 6))
    for side in (slice(0, 3), slice(3, 6)):  # another basis on either side changes nothing
        mixed[side, side] = generator.normal(size=(3, 3))
    turned = mixed.T @ whole @ mixed
    for function in (gaussian_information, gaussian_entanglement):
        alone = sum(float(function(of_correlation(rho), 1)) for rho in rhos)
        assert function(turned, 3) == pytest.approx(alone, rel=1e-9)


def test_independent_sides_have_exactly_nothing():
    apart = np.diag([2.0, 3, 5])
    assert gaussian_information(apart, 1) == 0
    assert gaussian_entanglement(apart, 1) == 0


def test_information_is_that_of_determinants():
    """ln(det K_AA det K_BB / det K) / 2, for many networks at once."""
    roots = np.random.default_rng(7).normal(size=(3, 8, 5))
    precision = np.swapaxes(roots, -1, -2) @ roots
    determinants = [np.linalg.det(part) for part in (precision[:, :2, :2], precision[:, 2:, 2:], precision)]
    expected = np.log(determinants[0] * determinants[1] / determinants[2]) / 2
    np.testing.assert_allclose(gaussian_information(precision, 2), expected)


# --------------------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_samples_of_a_gaussian(rho):
    x, noise = np.random.default_rng(5).normal(size=(2, 6_000))
    found = sample_information(x, rho * x + np.sqrt(1 - rho**2) * noise)
    assert found == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.03)


def test_what_does_not_correlate_may_be_known_all_the_same():
    """A uniform phase's cosine tells its sine but for the sign: no correlation. Two variables a side add their informations; what is
    monotone changes nothing."""
    generator = np.random.default_rng(6)
    phase = generator.uniform(0, 2 * np.pi, 4_000)
    assert sample_information(np.cos(phase), np.sin(phase)) > 1.5
    x, y = generator.normal(size=(2, 4_000, 2))
    two = sample_information(x, x + y)
    assert two == pytest.approx(np.log(2), abs=0.06)
    assert sample_information(np.exp(x), (x + y) ** 3) == pytest.approx(two, abs=1e-12)


def test_the_estimate_is_that_of_its_paper_pair_by_pair():
    """Kraskov and others, equation 8, by loops."""
    from scipy.special import digamma, ndtri

    x, y = np.random.default_rng(7).normal(size=(2, 60))
    x, y = (ndtri((np.argsort(np.argsort(each)) + 0.5) / 60) for each in (x, x + y))
    total = 0.0
    for i in range(60):
        apart = [max(abs(x[i] - x[j]), abs(y[i] - y[j])) for j in range(60) if j != i]
        reach = sorted(apart)[2]
        for side in (x, y):
            total += digamma(1 + sum(abs(side[i] - side[j]) < reach for j in range(60) if j != i))
    expected = digamma(3) + digamma(60) - total / 60
    raw = np.random.default_rng(7).normal(size=(2, 60))
    assert sample_information(raw[0], raw.sum(axis=0), neighbours=3) == pytest.approx(expected, abs=1e-12)


def information_of(table):
    """Of a joint law, in nats."""
    table = np.asarray(table, float) / np.sum(table)
    sides = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    return float((table * np.log(np.where(table > 0, table / np.where(sides > 0, sides, 1), 1))).sum())


def test_bits_that_repeat_have_the_information_of_bits():
    generator = np.random.default_rng(0)
    bit, other = generator.integers(0, 2, (2, 2_000))
    assert sample_information(bit, bit) == pytest.approx(np.log(2), abs=2e-3)
    assert sample_information(-bit, bit * 7.0) == sample_information(bit, bit)
    assert sample_information(bit, other) == pytest.approx(0, abs=2e-3)
    assert sample_information(bit, bit ^ (generator.random(2_000) < 0.1)) == pytest.approx(
        information_of([[0.9, 0.1], [0.1, 0.9]]), abs=0.05
    )
    # Of two bits a side each adds its own, and a constant has none.
    assert sample_information(np.stack([bit, other], 1), np.stack([other, bit], 1)) == pytest.approx(
        np.log(4), abs=5e-3
    )
    for constant in (np.zeros(2_000), np.ones((2_000, 2))):
        assert sample_information(constant, constant) == pytest.approx(0, abs=1e-12)
        assert sample_information(constant, bit) == pytest.approx(0, abs=1e-12)


def test_counts_have_the_information_of_their_law():
    """A Poisson number and its sum with another, few values and many; and independent whole numbers, most pairs of which occur once."""
    from scipy.stats import poisson

    generator, number = np.random.default_rng(1), 2_000
    for one, two, reach in ((3, 2, 40), (30, 20, 140)):
        x = generator.poisson(one, number)
        n = np.arange(reach)
        law = poisson.pmf(n, one)[:, None] * poisson.pmf(n - n[:, None], two)
        assert sample_information(x, x + generator.poisson(two, number)) == pytest.approx(information_of(law), abs=0.05)
    for number, most in ((200, 3), (500, 6), (500, 7), (2_000, 10), (2_000, 12)):
        # Nothing is known of the other: of so many values -0.07 nats were.
        found = [sample_information(*generator.integers(0, most, (2, number))) for _ in range(8)]
        assert np.mean(found) == pytest.approx(0, abs=0.015)
    for most in (3, 5):  # each pair occurs often
        law, found = np.full((most, most), 0.4 / most) + 0.6 * np.eye(most), []
        for _ in range(6):
            x, noise = generator.integers(0, most, (2, number))
            found.append(sample_information(x, np.where(generator.random(number) < 0.6, x, noise)))
        assert np.mean(found) == pytest.approx(information_of(law), abs=0.03)
    for most in (5, 50, 1_000):
        x, y = generator.integers(0, most, (2, number))
        assert sample_information(x, y) == pytest.approx(0, abs=0.05)


def test_mixtures_have_the_information_of_their_law():
    """Of Gao and others 2017 (arXiv:1709.06212, section 4): a die of m sides and a place uniform from it to 2 above, ln m - (m - 1) ln 2 / m; a
    waiting time and a Poisson number of that mean, which is 0 instead in a share p, (1 - p) (2 ln 2 - gamma - sum of ln k / 2^k)."""
    generator, number = np.random.default_rng(2), 4_000
    die = generator.integers(0, 5, number)
    expected = np.log(5) - 4 * np.log(2) / 5
    assert sample_information(die, die + generator.uniform(0, 2, number)) == pytest.approx(expected, abs=0.03)
    wait = generator.exponential(size=number)
    calls = np.where(generator.random(number) < 0.15, 0, generator.poisson(wait))
    k = np.arange(1.0, 60)
    expected = 0.85 * (2 * np.log(2) - np.euler_gamma - np.sum(np.log(k) / 2**k))
    assert sample_information(wait, calls) == pytest.approx(expected, abs=0.05)


def test_ties_are_counted_as_in_their_paper_and_alone():
    """Mesner and Shalizi, algorithm 1 given a constant, by loops, where a value repeats; Kraskov's form where none does."""
    from scipy.special import digamma

    generator = np.random.default_rng(3)
    raw = np.stack([generator.normal(size=40).round(1), generator.normal(size=40)])
    raw[1, :3] = 0.25
    x, y = (normal_scores(each) for each in raw)
    total = 0.0
    for i in range(40):
        apart = [max(abs(x[i] - x[j]), abs(y[i] - y[j])) for j in range(40) if j != i]
        reach = sorted(apart)[2]
        tied = any(np.sum(each == each[i]) > 1 for each in raw)
        count = [sum(abs(side[i] - side[j]) <= reach for j in range(40) if j != i) for side in (x, y)]
        strict = [sum(abs(side[i] - side[j]) < reach for j in range(40) if j != i) for side in (x, y)]
        if tied:
            total += digamma(sum(each <= reach for each in apart)) + digamma(39) - sum(digamma(count))
        else:
            total += digamma(3) + digamma(40) - sum(digamma(np.array(strict) + 1))
    assert sample_information(*raw, neighbours=3) == pytest.approx(total / 40, abs=1e-12)


@pytest.mark.parametrize(
    ("matrices", "said"),
    [
        (np.array([[1, 1], [1j, -1j]]), "matrices: .*; allowed: real numbers"),  # ln 2, of which 0 was said
        ([["1", "0"], ["0", "1"]], "matrices: .*; allowed: real numbers"),
        ([1.0, 2.0], r"matrices: shape \(2,\); allowed"),
        (np.zeros((3, 0, 2)), r"matrices: shape \(3, 0, 2\); allowed"),
    ],
)
def test_matrices_that_are_none(matrices, said):
    with pytest.raises(ValueError, match=said):
        schmidt_entropy(matrices)
    assert schmidt_entropy(np.ones((0, 2, 2))).shape == (0,)


def normal_scores(values):
    """Ranks, the mean of those that tie, as quantiles."""
    from scipy.special import ndtri

    below = np.array([np.sum(values < each) + np.sum(values <= each) for each in values])
    return ndtri(below / (2 * len(values)))


@pytest.mark.parametrize(
    ("first", "second", "neighbours", "said"),
    [
        (np.zeros(5), np.zeros(4), 2, "first, second"),
        (np.array([1.0, np.nan]), np.zeros(2), 1, "first, second"),
        (np.zeros((2, 2, 2)), np.zeros(2), 1, "first, second"),
        (np.zeros(5), np.zeros(5), 5, "neighbours: 5; allowed: 1 to 4"),
        (np.zeros(5), np.zeros(5), 0, "neighbours: 0"),
        (np.arange(5), np.arange(5), 2.5, "neighbours: 2.5; allowed: a whole number, 1 or above"),
        (np.arange(5), np.arange(5), True, "neighbours: True; allowed: a whole number"),
        (np.arange(5) * 1j, np.arange(5), 2, "first: .*; allowed: real numbers"),
        (np.arange(5), ["a"] * 5, 2, "second: .*; allowed: real numbers"),
        (5, 5, 1, "first, second"),
    ],
)
def test_samples_that_are_none(first, second, neighbours, said):
    with pytest.raises(ValueError, match=said):
        sample_information(first, second, neighbours)


# --------------------------------------------------------------------------------------------------- ensembles that learn


def learned_information(goal, time, frozen, points=401, reach=6.5, steps=8):
    """Mutual information of w1 and w2 over an ensemble from N(0, 1)^2, where y = w2 w1 x learns goal x by gradient flow of
    (w2 w1 - goal)^2 / 2: the density is carried along, by going back along the flow (Runge and Kutta), and integrated on a grid."""
    axis = np.linspace(-reach, reach, points)
    start = np.stack(np.broadcast_arrays(axis[:, None], axis, 0.0))  # w1, w2, and ln of how much volume grew

    def back(state):
        one, two, _ = state
        error = one * two - goal
        growth = -(two**2) * (not frozen) - one**2
        return np.stack([error * two * (not frozen), error * one, -growth])

    state, h = start, time / steps
    with np.errstate(all="ignore"):  # what is far out comes from infinity, where there is no density
        for _ in range(steps):
            k1 = back(state)
            k2 = back(state + h / 2 * k1)
            k3 = back(state + h / 2 * k2)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + back(state + h * k3))
        density = np.nan_to_num(np.exp(-(state[0] ** 2 + state[1] ** 2) / 2 + state[2]))
    density /= density.sum()
    sides = density.sum(axis=1, keepdims=True) * density.sum(axis=0)
    return float((density * np.log(np.where(density > 0, density / np.maximum(sides, 1e-300), 1))).sum())


def first_order(goal, time, frozen):
    return ((4 + goal**2) / 2 if frozen else 8 + 2 * goal**2) * time**2


@pytest.mark.parametrize("goal", [0, 2, -3])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_ensembles_information_is_no_mark_of_back_propagation(goal, frozen):
    """I(t) = (8 + 2 goal^2) t^2 to first order, and with w1 frozen a quarter of it, not 0. Of ln p, the part at order t that is no sum of functions of
    one weight each is -2 (w1^2 - 1)(w2^2 - 1) + 2 goal w1 w2, frozen half of it; I is half the mean of its square, times t^2."""
    shares = [learned_information(goal, time, frozen) / first_order(goal, time, frozen) for time in (2e-4, 4e-4)]
    assert shares[0] < 1
    assert 2 * shares[0] - shares[1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("time", [0.0025, 0.01, 0.1])
def test_the_carried_density_is_right_where_one_integral_is_left(time):
    """Goal 0 and w1 frozen: w2 = exp(-w1^2 t) times a normal number, so I = H(w2) + t - ln(2 pi e) / 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    y = np.linspace(-9, 9, 4_001)
    spread = np.exp(-(nodes**2) * time)
    density = (weights / spread) @ np.exp(-((y / spread[:, None]) ** 2) / 2) / (2 * np.pi)
    entropy = -(density * np.log(density)).sum() * (y[1] - y[0])
    exact = entropy + time - np.log(2 * np.pi * np.e) / 2
    assert learned_information(0, time, True) == pytest.approx(exact, rel=2e-3)


def test_samples_of_that_ensemble_agree_with_its_density():
    generator, goal, time = np.random.default_rng(8), 1.0, 0.3
    one, two = generator.normal(size=(2, 20_000))
    for _ in range(300):
        error = one * two - goal
        one, two = one - time / 300 * error * two, two - time / 300 * error * one
    exact = learned_information(goal, time, False, points=201, steps=30)
    assert sample_information(one, two) == pytest.approx(exact, abs=0.03)
    assert exact > 0.1
