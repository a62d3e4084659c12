"""The CHSH kernel: joint counts to S and everything that belongs beside it, jitted, on any leading axes.

Notation, per context (i, j): p accuracies, a = 2 p_A - 1 and b = 2 p_B - 1 the means of the outcomes, c = <A B> the
correlator. The literature for the discounting of direct influence is Contextuality-by-Default; the system here is
cyclic of rank 4 (Dzhafarov, Kujala and Larsson 2015; Kujala and Dzhafarov 2016).

Sums over contexts are made of whole numbers over a common denominator (`rationals.py`), so that S > 2 and Delta > 0 are
decided by counts and not by rounding.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ncsim.forks import check_not_forked
from ncsim.records.joint_counts import array_of
from ncsim.statistics.rationals import EXACT, common_denominator, nearest, summable, whole_numbers

#: NumPy's or JAX's arrays: neither is imported for the other's sake.
AnyArray = Any
#: Up to so many tables are computed by NumPy before a program for them would be compiled.
SMALL = 2**15

#: Sign vectors over the contexts 11, 12, 21, 22 whose product is -1. The first is the paper's S.
SIGNS = tuple((s11, s12, s21, -s11 * s12 * s21) for s11 in (1, -1) for s12 in (1, -1) for s21 in (1, -1))


class ChshStatistics(NamedTuple):
    """Statistics of joint counts, as NumPy arrays outside `jit` and JAX arrays inside; `*batch` are the counts' leading axes.

    A context without any item makes its own entries, and whatever uses them, NaN.

    Attributes:
        accuracy_alice: fraction of items that Alice's head got right, [..., 2, 2] per context, 0 to 1.
        accuracy_bob: likewise of Bob's head.
        correlator: c = <A B> per context, [..., 2, 2], -1 to 1.
        s: c11 + c12 + c21 - c22, -4 to 4 (arXiv:2603.04451, equation 4).
        s_variants: the eight CHSH sums, [..., 8] in the order of SIGNS; the first is `s`.
        s_odd: the largest of the variants, 0 to 4.
        s_factorised: S had every correlator been the product of its outcomes' means, a b.
        influence: |a11-a12| + |a21-a22| + |b11-b21| + |b12-b22|, direct influence, 0 to 8.
        contextuality: Delta = s_odd - 2 - influence, at most 2; contextual if and only if above 0 (Kujala and Dzhafarov 2016).
        cnt2: max(Delta, 0) / 4.
        ncnt2: how deep inside the noncontextual polytope, 0 where Delta >= 0.
        pearson: correlation coefficient per context, [..., 2, 2], -1 to 1; 0 where a head has no variance.
        s_pearson: S of the Pearson coefficients; its classical bound is 5/2, not 2.
        degenerate: bool[..., 2, 2]: a head was always right, or always wrong, so Pearson is undefined.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = chsh_statistics(np.stack([[same, same], [same, other]]))  # a PR box
        >>> box.correlator.tolist(), float(box.s), float(box.influence), float(box.contextuality)
        ([[1.0, 1.0], [1.0, -1.0]], 4.0, 0.0, 2.0)
    """

    accuracy_alice: Float[AnyArray, "*batch 2 2"]
    accuracy_bob: Float[AnyArray, "*batch 2 2"]
    correlator: Float[AnyArray, "*batch 2 2"]
    s: Float[AnyArray, "*batch"]
    s_variants: Float[AnyArray, "*batch 8"]
    s_odd: Float[AnyArray, "*batch"]
    s_factorised: Float[AnyArray, "*batch"]
    influence: Float[AnyArray, "*batch"]
    contextuality: Float[AnyArray, "*batch"]
    cnt2: Float[AnyArray, "*batch"]
    ncnt2: Float[AnyArray, "*batch"]
    pearson: Float[AnyArray, "*batch 2 2"]
    s_pearson: Float[AnyArray, "*batch"]
    degenerate: Bool[AnyArray, "*batch 2 2"]


def chsh_statistics(counts: Any) -> ChshStatistics:
    """All statistics of joint counts [..., i, j, a, b].

    Called on arrays, it computes in float64, gives NumPy arrays, and is right to 1e-6 or better for counts up to 10^12
    in all. S, its variants, influence and Delta of counts are the floats nearest to what they are: `s > 2` and
    `contextuality > 0` are exact, whatever the contexts' totals, and equal fractions are equal floats.

    Called under a caller's own `jit` or `vmap` it follows the caller's types: with int32 counts and 64-bit types off it
    computes in float32, right to about 2e-6. The comparisons are then exact where the contexts' totals are equal, or 16 times
    their product is below 2^31 (2^63 with 64-bit types).

    Probabilities, each context's adding up to 1 or to anything else, are taken too. They are rounded before they come
    here: compare what is computed from them with a tolerance.

    Args:
        counts: joint counts or probabilities, [..., 2, 2, 2, 2] with axes (i, j, a, b).

    Returns:
        `ChshStatistics`, each field [...] (or [..., 2, 2] per context); NaN where a context has no items. S is
        equation 4 of arXiv:2603.04451.

    Raises:
        ValueError: the last four axes are not (2, 2, 2, 2), or, outside `jit`, a count is negative or not finite.
        DeviceError: outside `jit`, in a process that was forked from one that had started JAX.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> float(chsh_statistics(box).s)
        4.0
    """
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(counts, jax.core.Tracer):
        import jax.numpy as jnp

        if counts.shape[-4:] != (2, 2, 2, 2):
            raise ValueError(f"counts: shape {counts.shape}; allowed: [..., i=2, j=2, a=2, b=2]")
        # Differences of counts are taken, which unsigned and narrow types cannot hold.
        return _statistics(counts.astype(jnp.promote_types(counts.dtype, jnp.int32)), jnp)
    array = array_of("counts", counts)
    if array.ndim < 4 or array.shape[-4:] != (2, 2, 2, 2):
        raise ValueError(f"counts: shape {array.shape}; allowed: [..., i=2, j=2, a=2, b=2]")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"counts: type {array.dtype}; allowed: numbers, 0 or above")
    # One comparison finds negative numbers and NaN alike; infinity is rarer and looked for only among floats.
    if array.size and not (array.min() >= 0 and (array.dtype.kind != "f" or array.max() < np.inf)):
        place = tuple(int(index) for index in np.argwhere(~((array >= 0) & (array < np.inf)))[0])
        raise ValueError(f"counts: {array[place]} at (..., i, j, a, b) = {place}; allowed: finite, 0 or above")
    # Narrow and unsigned integers would wrap around in the sums below.
    narrow = array.dtype.kind in "iu" and array.max(initial=0) < EXACT
    wide = np.asarray(array, np.int64) if narrow else summable(np.asarray(array, np.float64))
    if wide.size <= 16 * SMALL:
        with np.errstate(all="ignore"):
            found = ChshStatistics(*map(np.asarray, _statistics(wide, np)))
    else:
        found = _by_compiled_program(wide)
    return _with_large_denominators(found, wide, array)


def _by_compiled_program(counts: np.ndarray) -> ChshStatistics:
    """In float64, whatever the caller's settings are."""
    import jax

    from ncsim.jax_settings import own_settings

    check_not_forked()
    with own_settings(), jax.enable_x64(True):
        return ChshStatistics(*map(np.asarray, _program()(counts)))


@functools.cache
def _program() -> Callable[[Any], ChshStatistics]:
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda counts: _statistics(counts, jnp))


def _statistics(counts: Any, xp: Any) -> ChshStatistics:
    """The statistics by NumPy or by JAX, as `xp` says."""
    # Differences of whole numbers are exact; only the division rounds.
    n = xp.sum(counts, axis=(-2, -1))
    real = xp.result_type(float)  # float64 where 64-bit types are on
    items = xp.where(n > 0, n, xp.nan).astype(real)
    p = counts.astype(real) / items[..., None, None]
    sums = _outcome_sums(counts)
    a, b, c = (x.astype(real) / items for x in sums)
    denominator, scale, exact = _common_denominator(counts, n, xp)
    scaled = tuple(x.astype(scale.dtype) * scale for x in sums)

    def divided(whole: Any, rounded: Any) -> Any:
        return xp.where(exact, whole.astype(real) / denominator.astype(real), rounded)

    whole, rounded = _chsh(scaled, 2 * denominator), _chsh((a, b, c), 2)
    # One by one: XLA takes a division by what it broadcasts for a product with the reciprocal, which rounds twice.
    variants = xp.stack([divided(whole[0][..., k], rounded[0][..., k]) for k in range(8)], axis=-1)
    influence, delta = divided(whole[1], rounded[1]), divided(whole[2], rounded[2])
    # Products have the denominator squared, which must fit as well.
    square = denominator**2
    fits = exact & (denominator < (xp.iinfo(square.dtype).max // 16) ** 0.5)
    products = sum_signed(scaled[0] * scaled[1])[..., 0].astype(real) / square.astype(real)
    cnt2, ncnt2 = _degrees(delta, xp.min(xp.min(counts, axis=(-2, -1)).astype(real) / items, axis=(-2, -1)), xp)

    # The correlation coefficient from the four cells: near accuracy 1 the difference c - a b would lose its digits.
    wrong = (p[..., 0, 0] + p[..., 0, 1]) * (p[..., 0, 0] + p[..., 1, 0])
    right = (p[..., 1, 0] + p[..., 1, 1]) * (p[..., 0, 1] + p[..., 1, 1])
    degenerate = wrong * right == 0
    spread = xp.sqrt(xp.where(degenerate, 1, wrong * right))
    pearson = xp.where(degenerate, 0, (p[..., 0, 0] * p[..., 1, 1] - p[..., 0, 1] * p[..., 1, 0]) / spread)
    return ChshStatistics(
        accuracy_alice=xp.sum(counts[..., 1, :], axis=-1).astype(real) / items,
        accuracy_bob=xp.sum(counts[..., :, 1], axis=-1).astype(real) / items,
        correlator=c,
        s=variants[..., 0],
        s_variants=variants,
        s_odd=xp.max(variants, axis=-1),
        s_factorised=xp.where(fits, products, sum_signed(a * b)[..., 0]),
        influence=influence,
        contextuality=delta,
        cnt2=cnt2,
        ncnt2=ncnt2,
        pearson=pearson,
        s_pearson=sum_signed(pearson)[..., 0],
        degenerate=degenerate,
    )


def _outcome_sums(counts: Any) -> tuple[Any, Any, Any]:
    """Sums over a context's items of A, B and A B, [..., 2, 2] each: the means times the items."""
    n = counts.sum(axis=(-2, -1))
    wrong_alice = counts[..., 0, 0] + counts[..., 0, 1]
    wrong_bob = counts[..., 0, 0] + counts[..., 1, 0]
    unequal = counts[..., 0, 1] + counts[..., 1, 0]
    return n - 2 * wrong_alice, n - 2 * wrong_bob, n - 2 * unequal


def _common_denominator(counts: Any, n: Any, xp: Any) -> tuple[Any, Any, Any]:
    """The total where all are equal, else their product; what each goes into it; whether sums over it are exact."""
    totals = n.astype(xp.result_type(int))
    first = totals[..., :1, :1]
    equal = xp.all(totals == first, axis=(-2, -1))
    size = xp.where(equal, first[..., 0, 0], xp.prod(totals.astype(xp.result_type(float)), axis=(-2, -1)))
    denominator = xp.where(equal, first[..., 0, 0], xp.prod(totals, axis=(-2, -1)))
    # Delta's numerator is at most 14 denominators.
    fits = (size > 0) & (size < xp.iinfo(totals.dtype).max / 16)
    exact = fits & xp.all(xp.floor(counts) == counts, axis=(-4, -3, -2, -1))
    return denominator, denominator[..., None, None] // xp.maximum(totals, 1), exact


def _chsh(means: tuple[Any, ...], bound: Any) -> tuple[Any, Any, Any]:
    """The variants of S, influence and Delta of means; or of means times a denominator, `bound` being twice that."""
    a, b, c = means
    variants = sum_signed(c)
    influence = (
        abs(a[..., 0, 0] - a[..., 0, 1])
        + abs(a[..., 1, 0] - a[..., 1, 1])
        + abs(b[..., 0, 0] - b[..., 1, 0])
        + abs(b[..., 0, 1] - b[..., 1, 1])
    )
    return variants, influence, variants.max(axis=-1) - bound - influence


def _degrees(delta: Any, smallest: Any, xp: Any) -> tuple[Any, Any]:
    """CNT2 and NCNT2 of Delta and the smallest of the sixteen probabilities.

    A correlator is four such probabilities away from the edges of its box, |a + b| - 1 <= c <= 1 - |a - b|.
    """
    cnt2 = xp.where(xp.isnan(delta), xp.nan, xp.maximum(delta, 0) / 4)
    return cnt2, xp.where(delta >= 0, 0, xp.minimum(-delta / 4, smallest))


def _with_large_denominators(found: ChshStatistics, counts: np.ndarray, given: np.ndarray) -> ChshStatistics:
    """The statistics, those of tables whose common denominator may be too large for float64 with Python's integers.

    Args:
        counts: the counts, float64 where int64 might wrap around.
        given: the counts as they were given, which float64 rounds from 2^53 on.
    """
    totals = counts.sum(axis=(-2, -1)).reshape(*counts.shape[:-4], 4)
    with np.errstate(over="ignore"):
        equal = (totals == totals[..., :1]).all(axis=-1)
        largest = np.where(equal, totals[..., 0], np.prod(totals, axis=-1, dtype=np.float64))
    large = (totals > 0).all(axis=-1) & (16 * largest >= EXACT)
    if large.any():
        large &= (counts == np.floor(counts)).all(axis=(-4, -3, -2, -1))
    if not large.any():
        return found
    table = whole_numbers(given[large]).astype(object)
    denominator, scale = common_denominator(table.sum(axis=(-2, -1)).reshape(-1, 4))
    a, b, c = (x * scale.reshape(-1, 2, 2) for x in _outcome_sums(table))
    variants, influence, delta = _chsh((a, b, c), 2 * denominator)
    exact: dict[str, np.ndarray] = {
        "s_variants": nearest(variants, denominator[:, None]),
        "influence": nearest(influence, denominator),
        "contextuality": nearest(delta, denominator),
        "s_factorised": nearest(sum_signed(a * b)[:, 0], denominator**2),
    }
    exact["s"], exact["s_odd"] = exact["s_variants"][:, 0], exact["s_variants"].max(axis=-1)
    p = counts[large] / totals[large].reshape(-1, 2, 2, 1, 1)
    degrees = _degrees(exact["contextuality"], p.min(axis=(-4, -3, -2, -1)), np)
    exact["cnt2"], exact["ncnt2"] = (np.asarray(degree, np.float64) for degree in degrees)
    fields = found._asdict()
    for name, values in exact.items():
        fields[name] = fields[name].copy()
        fields[name][large] = values
    return ChshStatistics(**fields)


def sum_signed(c: Any) -> Any:
    """The eight CHSH sums [..., 8] of four numbers [..., 2, 2], in the order of SIGNS."""
    c11, c12, c21, c22 = c[..., 0, 0], c[..., 0, 1], c[..., 1, 0], c[..., 1, 1]
    sums = [s11 * c11 + s12 * c12 + s21 * c21 + s22 * c22 for s11, s12, s21, s22 in SIGNS]
    if isinstance(c, np.ndarray):
        return np.stack(sums, axis=-1)
    import jax.numpy as jnp

    return jnp.stack(sums, axis=-1)
