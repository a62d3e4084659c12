"""The kernel at its reference points, and against plain Python."""

import itertools

import jax
import numpy as np
import pytest

import ncsim
from ncsim.statistics.chsh import SIGNS
from tests.support import reference


def counts_of(correlators, alice=(0, 0, 0, 0), bob=(0, 0, 0, 0), n=4):
    """Counts with these means of A, B and A B in the four contexts, n a context where that comes out whole."""
    table = np.zeros((4, 2, 2))
    for context, (c, a, b) in enumerate(zip(correlators, alice, bob, strict=True)):
        for x, y in itertools.product((0, 1), repeat=2):
            sx, sy = 2 * x - 1, 2 * y - 1
            table[context, x, y] = n * (1 + sx * a + sy * b + sx * sy * c) / 4
    return np.round(table).astype(np.int64).reshape(2, 2, 2, 2)


def test_pr_box():
    s = ncsim.chsh_statistics(counts_of([1, 1, 1, -1]))
    assert (s.s, s.s_odd, s.influence, s.contextuality, s.cnt2, s.ncnt2) == (4, 4, 0, 2, 0.5, 0)
    assert s.s_factorised == 0
    assert not s.degenerate.any()


def test_tsirelson_table():
    r = np.sqrt(0.5)
    s = ncsim.chsh_statistics(counts_of([r, r, r, -r], n=4 * 10**11))
    assert s.s == pytest.approx(2 * np.sqrt(2), abs=1e-9)
    assert s.contextuality == pytest.approx(0.8284, abs=1e-4)
    assert s.cnt2 == pytest.approx(0.2071, abs=1e-4)


def test_local_deterministic_strategies():
    """All 16: |S| = 2 and Delta = 0, or with Pearson all cells degenerate and S_pearson = 0."""
    for a1, a2, b1, b2 in itertools.product((-1, 1), repeat=4):
        products = [a1 * b1, a1 * b2, a2 * b1, a2 * b2]
        s = ncsim.chsh_statistics(counts_of(products, (a1, a1, a2, a2), (b1, b2, b1, b2)))
        assert abs(s.s) == 2
        assert s.contextuality == 0
        assert s.degenerate.all()
        assert s.s_pearson == 0


def test_signs():
    assert len(set(SIGNS)) == 8
    assert SIGNS[0] == (1, 1, 1, -1)
    assert all(np.prod(signs) == -1 for signs in SIGNS)


def test_against_plain_python_on_random_tables_of_any_shape():
    counts = np.random.default_rng(0).integers(0, 50, size=(3, 5, 2, 2, 2, 2))
    counts[0, 0, 0, 0] = [[0, 0], [7, 3]]  # Alice always right: degenerate
    s = ncsim.chsh_statistics(counts)
    assert s.s.shape == (3, 5)
    assert s.s_variants.shape == (3, 5, 8)
    assert s.correlator.shape == (3, 5, 2, 2)
    assert s.degenerate.sum() == 1
    for place in np.ndindex(3, 5):
        for name, value in reference.chsh(counts[place].tolist()).items():
            assert getattr(s, name)[place] == pytest.approx(value, abs=1e-12), name


def test_huge_counts_are_exact():
    """10^12 items in all, one answer away from S = 2 exactly."""
    counts = counts_of([1, 1, 1, 1], n=25 * 10**10)
    counts[0, 0, 0, 0] -= 1
    counts[0, 0, 0, 1] += 1
    s = ncsim.chsh_statistics(counts)
    assert s.s == pytest.approx(2 - 2 / (25 * 10**10), abs=1e-15)
    assert s.s < 2


def test_unsigned_and_narrow_counts_do_not_wrap_around():
    counts = np.random.default_rng(1).integers(0, 60, size=(2, 2, 2, 2))
    for dtype in (np.uint8, np.int8, np.uint16, np.uint64):
        assert ncsim.chsh_statistics(counts.astype(dtype)).s == ncsim.chsh_statistics(counts).s
        assert jax.jit(ncsim.chsh_statistics)(counts.astype(dtype)).s == pytest.approx(
            float(ncsim.chsh_statistics(counts).s), abs=2e-6
        )


def test_many_members_at_once_have_what_few_have():
    """What XLA makes of a sum may be wrong for long arrays alone (findings/xla_cpu_fused_sum_of_products.sh)."""
    counts = np.random.default_rng(5).multinomial(16, [0.25] * 4, size=(1000, 2, 2)).reshape(-1, 2, 2, 2, 2)
    few, many = ncsim.chsh_statistics(counts), ncsim.chsh_statistics(np.tile(counts, (200, 1, 1, 1, 1)))
    for name, expected in few._asdict().items():
        found = np.asarray(getattr(many, name)).reshape(200, *np.shape(expected))
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=0, atol=1e-14, err_msg=name)


def test_a_context_without_items_is_nan_and_the_rest_is_not():
    counts = np.ones((2, 2, 2, 2, 2), int)
    counts[1, 0, 1] = 0
    s = ncsim.chsh_statistics(counts)
    assert not np.isnan(s.s[0])
    for name in ("s", "s_odd", "influence", "contextuality", "cnt2", "ncnt2", "s_factorised", "s_pearson"):
        assert np.isnan(getattr(s, name)[1]), name
    assert np.isnan(s.correlator[1, 0, 1])
    assert s.correlator[1, 0, 0] == 0


def test_under_a_callers_jit():
    counts = np.random.default_rng(2).integers(0, 10**6, size=(4, 2, 2, 2, 2)).astype(np.int32)
    inside = jax.jit(ncsim.chsh_statistics)(counts)
    outside = ncsim.chsh_statistics(counts)
    for name in ("s", "contextuality", "s_factorised"):
        np.testing.assert_allclose(getattr(inside, name), getattr(outside, name), atol=2e-6)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\)"):
        ncsim.chsh_statistics(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"shape \(3, 2, 2, 4\)"):
        jax.jit(ncsim.chsh_statistics)(np.ones((3, 2, 2, 4), int))
