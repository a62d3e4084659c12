"""Entanglement profiles of updates and entropies of attention, against matrices whose answer is known and against a slow reference."""

import itertools
import math

import numpy as np
import pytest

from ncsim.errors import ConfigError
from ncsim.text.attention_entropies import attention_entropy, causal_uniform, random_attention_law, shuffled_rows
from ncsim.text.entanglement import bound, cuts, entanglement_profile, random_law, sites, spectrum_null

LN2 = math.log(2)
EXACT = {"rtol": 0, "atol": 1e-12}


def slow(update):
    """The definition: the tensor of all sites, cut after each, one SVD each."""
    tensor = update.reshape([*sites(update.shape[0]), *reversed(sites(update.shape[1]))])
    found = []
    for left in range(1, tensor.ndim):
        p = np.linalg.svd(tensor.reshape(math.prod(tensor.shape[:left]), -1), compute_uv=False) ** 2
        p = p[p > 0] / p.sum()
        found.append(-(p * np.log(p)).sum())
    return np.array(found)


def gaussian(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def entropy(*p):
    p = np.array(p, float) / np.sum(p)
    return -(p[p > 0] * np.log(p[p > 0])).sum()


def corners(width):
    found = np.zeros(width)
    found[[0, -1]] = 1
    return found


# ------------------------------------------------------------------------------------------------- chains


def test_sites_and_cuts():
    assert sites(384) == (2,) * 7 + (3,)
    assert [sites(n) for n in (1, 2, 7, 12, 35, 49)] == [(), (2,), (7,), (2, 2, 3), (5, 7), (7, 7)]
    assert all(math.prod(sites(n)) == n for n in range(1, 300))
    whole = cuts(384, 384)
    assert whole[:8].tolist() == [2, 4, 8, 16, 32, 64, 128, 384]
    assert (384**2 // whole).tolist() == whole[::-1].tolist(), "its own mirror image"
    assert {3 * 384, 6 * 384, 12 * 384} <= set(whole.tolist()), "heads of MiniLM"
    assert {3 * 768, 6 * 768, 12 * 768} <= set(cuts(768, 768).tolist()), "heads of BERT"
    with pytest.raises(ConfigError, match="width: 0; allowed"):
        sites(0)


@pytest.mark.parametrize(("inputs", "outputs", "rank"), [(12, 12, 3), (8, 24, 2), (30, 6, 6), (6, 7, 9), (1, 4, 1)])
def test_factors_and_the_update_itself_agree_with_the_definition(inputs, outputs, rank):
    a, b = gaussian(0, inputs, rank), gaussian(1, rank, outputs)
    wanted = slow(a @ b)
    profile = entanglement_profile(a, b)
    np.testing.assert_allclose(profile.entropy, wanted, **EXACT)
    np.testing.assert_allclose(entanglement_profile(a @ b).entropy, wanted, **EXACT)
    np.testing.assert_allclose(entanglement_profile(-1e200 * a, 1e-290 * b).entropy, wanted, **EXACT)  # scales drop out
    assert profile.dimension.tolist() == cuts(inputs, outputs).tolist()


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 8), (8, 1), (1, 1)])
def test_one_neuron_on_a_side_is_a_product(inputs, outputs):
    profile = entanglement_profile(gaussian(0, 3, inputs, outputs))
    assert profile.centre.tolist() == [0, 0, 0]
    assert profile.effective_rank.tolist() == [1, 1, 1]
    np.testing.assert_allclose(profile.valley_depth, profile.entropy.max(axis=-1, initial=0))
    if profile.dimension.size:
        assert np.isnan(entanglement_profile(np.zeros((inputs, outputs))).centre)


def test_many_updates_at_once_are_each_as_alone():
    a, b = gaussian(0, 2, 3, 12, 2), gaussian(1, 2, 3, 2, 8)
    b[1, 2] = 0
    a[0, 1, 0, 0] = np.nan
    profile = entanglement_profile(a, b)
    assert profile.entropy.shape == (2, 3, 5)
    assert np.isnan(profile.entropy[1, 2]).all(), "no update: not a number, never 0"
    assert np.isnan(profile.entropy[0, 1]).all()
    for n, m in itertools.product(range(2), range(3)):
        if (n, m) not in ((1, 2), (0, 1)):
            np.testing.assert_allclose(profile.entropy[n, m], slow(a[n, m] @ b[n, m]), **EXACT)
    assert np.isnan(spectrum_null(a, b).mean[1, 2]).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"factors: \[4, 2\] and \[3, 4\]; allowed"):
        entanglement_profile(np.ones((4, 2)), np.ones((3, 4)))
    with pytest.raises(ConfigError, match=r"update: \[4\]; allowed: matrices"):
        entanglement_profile(np.ones(4))
    with pytest.raises(ConfigError, match="draws: 1; allowed: 2"):
        spectrum_null(np.eye(4), draws=1)


# ------------------------------------------------------------------------------------------------- closed forms


def product(*factors):
    vector = np.ones(1)
    for factor in factors:
        vector = np.kron(vector, factor)
    return vector


PRODUCT = product([1, 2], [3, -1], [0.5, 4])
HADAMARD = product([1]) * np.array([[(-1) ** bin(i & j).count("1") for j in range(8)] for i in range(8)])


@pytest.mark.parametrize(
    ("update", "wanted"),
    [
        (np.outer(PRODUCT, PRODUCT[::-1]), [0, 0, 0, 0, 0]),
        (np.diag([1, 0, 0, 0, 0, 0, 0, 1]), [1, 1, 1, 1, 1]),  # two opposite corners
        (np.eye(8), [1, 2, 3, 2, 1]),
        (HADAMARD, [1, 2, 3, 2, 1]),
        (np.outer(corners(8), PRODUCT), [1, 1, 0, 0, 0]),
        # Our own: correlations inside of either side alone; any permutation, as any orthogonal matrix, has all there is;
        # what is in one head only is flat over the head's sites.
        (np.outer(corners(8), corners(8)), [1, 1, 0, 1, 1]),
        (np.roll(np.eye(8), 3, axis=1), [1, 2, 3, 2, 1]),
        (np.linalg.qr(gaussian(3, 8, 8))[0], [1, 2, 3, 2, 1]),
        (np.kron([[0, 1, 0, 0]], np.eye(4)), [1, 2, 2, 2, 1]),
    ],
)
def test_entropies_in_units_of_ln_2(update, wanted):
    np.testing.assert_allclose(entanglement_profile(update).entropy / LN2, wanted, **EXACT)


def test_interleaved_sites_would_say_otherwise():
    """The identity is then three pairs: the order of sites is part of the definition."""
    tensor = np.eye(8).reshape([2] * 6).transpose(0, 3, 1, 4, 2, 5)
    np.testing.assert_allclose(slow(tensor.reshape(8, 8)) / LN2, [1, 0, 1, 0, 1], **EXACT)


def test_one_bit_in_many():
    """Our own: the sum over all entries whose indices have one bit set in all (a W state). k of n sites have it with k / n."""
    update = np.array([[bin(i).count("1") + bin(j).count("1") == 1 for j in range(16)] for i in range(16)], float)
    wanted = [entropy(k, 8 - k) for k in range(1, 8)]
    np.testing.assert_allclose(entanglement_profile(update).entropy, wanted, **EXACT)


def test_the_centre_is_the_spectrums_entropy():
    """Our own: s^2 falling geometrically by 1/4 has a mean number of 1/3 and (4/3) ln (4/3) + (1/3) ln 3 nats, as a thermal mode."""
    left, right = (np.linalg.qr(gaussian(seed, 64, 64))[0] for seed in (0, 1))
    profile = entanglement_profile(left * 0.5 ** np.arange(64), right.T)
    wanted = 4 / 3 * math.log(4 / 3) + 1 / 3 * math.log(3)
    assert profile.centre == pytest.approx(wanted, abs=1e-12)
    assert profile.effective_rank == pytest.approx(math.exp(wanted), abs=1e-11)
    assert profile.valley_depth == pytest.approx(profile.entropy.max() - wanted, abs=1e-12)


def test_rank_one_has_no_centre():
    assert entanglement_profile(gaussian(0, 384, 1), gaussian(1, 1, 384)).centre == 0


def test_permuting_rows_moves_all_but_the_centre():
    a, b = gaussian(0, 384, 4) * np.repeat([3.0, 0.1], 192)[:, None], gaussian(1, 4, 384)
    one, other = entanglement_profile(a, b), entanglement_profile(np.random.default_rng(2).permutation(a), b)
    assert abs(one.centre - other.centre) < 1e-12
    assert np.abs(one.entropy - other.entropy)[:6].max() > 0.1
    np.testing.assert_allclose(one.entropy[8:], other.entropy[8:], **EXACT)  # columns stay where they were


# ------------------------------------------------------------------------------------------------- what rank forces


def test_what_a_rank_allows():
    found = bound(384, 384, 4)
    d = cuts(384, 384)
    e = np.minimum(d, 384**2 // d)
    np.testing.assert_allclose(found, np.log(np.minimum(e, 384 // e * 4)), **EXACT)
    assert found[d == 384] == pytest.approx(math.log(4))
    np.testing.assert_allclose(bound(384, 384), np.log(e), **EXACT)
    for seed, rank in enumerate((1, 2, 5, 24)):
        profile = entanglement_profile(gaussian(seed, 24, rank), gaussian(seed + 9, rank, 36))
        assert (profile.entropy <= bound(24, 36, rank) + 1e-12).all()
        np.testing.assert_allclose(np.exp(profile.largest), np.minimum(profile.dimension, 864 // profile.dimension))
    # At sqrt(D r) it is (1/2) ln (D r), and the valley below it (1/2) ln (D / r).
    whole = bound(1024, 1024, 4)
    assert whole.max() == pytest.approx(math.log(64))
    assert whole.max() - whole[9] == pytest.approx(math.log(16))


def leading(width, rank):
    """The law to leading order: ln m - m / 2n, and less r / 2D where the side with the rank's index is the smaller one."""
    found = []
    for d in cuts(width, width)[: len(sites(width))]:
        m, n = sorted((int(d), width // int(d) * rank))
        found.append(math.log(m) - m / (2 * n) - (rank / (2 * width) if width // d * rank < d else 0))
    return found


def test_the_law_of_gaussian_factors():
    printed = [0.6918, 1.3811, 2.0586, 2.6893, 3.1324, 2.9853, 2.4328, 1.3759]
    np.testing.assert_allclose(leading(384, 4), printed, atol=5.1e-5)
    assert leading(384, 16)[-1] == pytest.approx(2.7309, abs=5.1e-5)
    law = random_law(384, 384, 4)
    np.testing.assert_allclose(law[:8], printed, atol=0.01)
    np.testing.assert_allclose(law, law[::-1], **EXACT)
    draws = np.array([entanglement_profile(gaussian(n, 384, 4), gaussian(99 + n, 4, 384)).entropy for n in range(40)])
    one_draw = [0.6905, 1.3794, 2.0555, 2.6831, 3.1200, 2.9772, 2.4277, 1.3748]  # of another generator
    spread = draws.std(axis=0, ddof=1)[:8]
    assert (np.abs(draws.mean(axis=0)[:8] - one_draw) < 4 * spread).all()
    # The next order halves what the leading one is off.
    off = np.abs(draws.mean(axis=0) - law)[:8]
    assert off.max() < 0.005
    assert off.max() < np.abs(draws.mean(axis=0)[:8] - printed).max() / 2


@pytest.mark.parametrize(
    ("width", "rank", "place", "peak", "centre"),
    [(384, 1, 16, 2.427, 0.0), (384, 16, 64, 3.812, 2.7293), (768, 8, 64, 3.82, 2.0683), (64, 4, 16, 2.2398, 1.3118)],
)
def test_gaussian_factors_of_other_sizes(width, rank, place, peak, centre):
    pairs = [(gaussian(n, width, rank), gaussian(99 + n, rank, width)) for n in range(8)]
    draws = np.array([entanglement_profile(*pair).entropy for pair in pairs])
    mean, spread, d = draws.mean(axis=0), draws.std(axis=0, ddof=1), cuts(width, width)
    high, middle = int(np.flatnonzero(d == place)[0]), int(np.flatnonzero(d == width)[0])
    assert mean[: middle + 1].argmax() == high
    assert abs(mean[high] - peak) < 4 * spread[high]
    assert abs(mean[middle] - centre) <= 4 * spread[middle]
    assert np.abs(mean - random_law(width, width, rank)).max() < 0.03
    assert random_law(width, width, rank)[middle] == pytest.approx(centre, abs=0.01)


def test_a_gaussian_update_of_full_rank_has_no_valley():
    profile, law = entanglement_profile(gaussian(0, 384, 384)), random_law(384, 384)
    assert profile.centre == pytest.approx(5.4505, abs=2e-3)
    assert math.log(384) - 0.5 == pytest.approx(5.4506, abs=5e-5)
    assert profile.valley_depth == 0
    assert (np.diff(profile.entropy[:8]) > 0).all()
    np.testing.assert_allclose(profile.entropy, law, atol=2e-3)


def test_the_null_has_the_spectrum_and_nothing_else():
    left, right = (np.linalg.qr(gaussian(seed, 48, 3))[0] for seed in (0, 1))
    random = left * [3, 2, 1], right.T
    sparse = np.zeros((48, 3)), right.T
    sparse[0][:3] = np.diag([3, 2, 1])  # three input neurons alone, and random outputs
    for draws, (a, b) in ((60, random), (10, sparse)):
        profile, null = entanglement_profile(a, b), spectrum_null(a, b, draws)
        middle = int(np.flatnonzero(profile.dimension == 48)[0])
        assert null.mean[middle] == pytest.approx(profile.centre, abs=1e-12)
        assert null.spread[middle] < 1e-12
        residual = np.delete((profile.entropy - null.mean) / np.where(null.spread > 0, null.spread, 1), middle)
        if draws == 60:
            assert np.abs(residual).max() < 4, "one draw among others"
        else:
            assert residual[:4].max() < -10, "few neurons: far below"
            assert np.abs(residual[4:]).max() < 5
            # The update itself has the same null, of other draws.
            dense = spectrum_null(a @ b, draws=10, seed=5)
            assert (np.abs(dense.mean - null.mean) <= 3 * (dense.spread + null.spread) + 1e-9).all()
    assert (spectrum_null(*random, seed=1).mean != spectrum_null(*random, seed=2).mean).any()


# ------------------------------------------------------------------------------------------------- attention


def test_attention_whose_entropy_is_known():
    uniform, identity = np.full((6, 6), 1 / 6), np.eye(6)
    np.testing.assert_allclose(attention_entropy(np.stack([uniform, identity])), [0, math.log(6)], **EXACT)
    # Our own: blocks of tokens that see each other alike; and a share x of the own token above uniform.
    blocks = np.kron(np.eye(3), np.full((4, 4), 1 / 4))
    assert attention_entropy(blocks) == pytest.approx(math.log(3), abs=1e-12)
    x = 0.3
    mixed = attention_entropy((1 - x) * uniform + x * identity)
    assert mixed == pytest.approx(entropy(1, *[x**2] * 5), abs=1e-12)


def test_padding_is_cut_off():
    attention = np.full((6, 6), 1 / 6)
    attention[:4, :4] = np.eye(4)
    assert attention_entropy(attention, [1, 1, 1, 1, 0, 0]) == pytest.approx(math.log(4), abs=1e-12)
    assert abs(attention_entropy(attention) - math.log(4)) > 0.005
    with pytest.raises(ConfigError, match="mask: no token"):
        attention_entropy(attention, np.zeros(6))
    with pytest.raises(ConfigError, match=r"weights: \[2, 3\]"):
        attention_entropy(np.ones((2, 3)))


def test_causal_attention_that_learned_nothing_grows_as_ln_ln():
    tokens = (4, 16, 64, 256, 1024)
    found = [attention_entropy(causal_uniform(t)) for t in tokens]
    np.testing.assert_allclose(found, [0.698, 1.181, 1.527, 1.788, 1.996], atol=5.1e-4)
    # The sum of squares is H_T, the harmonic number.
    harmonic = [np.log((1 / np.arange(1, t + 1)).sum()) for t in tokens]
    assert all(-0.05 < s - h < -0.01 for s, h in zip(found, harmonic, strict=True))


def test_gaussian_logits_rise_with_ln_t_by_themselves():
    def drawn(tokens, spread, seed):
        weights = np.exp(spread * gaussian(seed, tokens, tokens))
        return attention_entropy(weights / weights.sum(axis=1, keepdims=True))

    assert random_attention_law(256, 0.5) == pytest.approx(1.644, abs=5e-4)
    found = [drawn(256, 0.5, seed) for seed in range(4)]
    assert abs(np.mean(found) - 1.642) < 4 * np.std(found)
    assert np.mean(found) == pytest.approx(float(random_attention_law(256, 0.5)), abs=0.02)
    less = [float(random_attention_law(t, 1.0)) - np.mean([drawn(t, 1.0, n) for n in range(4)]) for t in (32, 128)]
    assert 0.05 < less[1] < less[0], "wide spreads are below the law where tokens are few"
    slope = np.diff(random_attention_law(np.array([100, 100 * math.e]), 0.5))
    assert slope == pytest.approx(1 - math.exp(-0.25), abs=1e-12)
    assert random_attention_law(64, 0.0) == 0


def test_shuffled_rows_keep_their_weights_and_lose_structure():
    blocks = np.kron(np.eye(3), np.full((20, 20), 1 / 20))
    shuffled = shuffled_rows(blocks, seed=1)
    np.testing.assert_array_equal(np.sort(shuffled, axis=-1), np.sort(blocks, axis=-1))
    assert attention_entropy(shuffled) > attention_entropy(blocks) + 1
    # Where all weights are equal, to shuffle changes nothing.
    assert attention_entropy(shuffled_rows(np.full((5, 5), 0.2))) == pytest.approx(0, abs=1e-12)
