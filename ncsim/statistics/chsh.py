"""The CHSH kernel: joint counts to S and everything that belongs beside it, jitted, on any leading axes.

Notation, per context (i, j): p accuracies, a = 2 p_A - 1 and b = 2 p_B - 1 the means of the outcomes, c = <A B> the
correlator. The literature for the discounting of direct influence is Contextuality-by-Default; the system here is
cyclic of rank 4 (Dzhafarov, Kujala and Larsson 2015; Kujala and Dzhafarov 2016).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncsim.jax_settings import own_settings

AnyArray = Array | np.ndarray

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
    degenerate: Array


def chsh_statistics(counts: Any) -> ChshStatistics:
    """All statistics of joint counts [..., i, j, a, b].

    Called on arrays, it computes in float64, gives NumPy arrays, and is right to 1e-6 or better for counts up to 10^12
    in all. Called under a caller's own `jit` or `vmap` it follows the caller's types: with int32 counts and 64-bit types off it
    computes in float32, right to about 2e-6.

    Probabilities, each context's adding up to 1 or to anything else, are taken too.

    Args:
        counts: joint counts or probabilities, [..., 2, 2, 2, 2] with axes (i, j, a, b).

    Returns:
        `ChshStatistics`, each field [...] (or [..., 2, 2] per context); NaN where a context has no items. S is
        equation 4 of arXiv:2603.04451.

    Raises:
        ValueError: the last four axes are not (2, 2, 2, 2), or, outside `jit`, a count is negative or not finite.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> float(chsh_statistics(box).s)
        4.0
    """
    if isinstance(counts, jax.core.Tracer):
        if counts.shape[-4:] != (2, 2, 2, 2):
            raise ValueError(f"counts: shape {counts.shape}; allowed: [..., i=2, j=2, a=2, b=2]")
        # Differences of counts are taken, which unsigned and narrow types cannot hold.
        return _statistics(counts.astype(jnp.promote_types(counts.dtype, jnp.int32)))
    array = np.asarray(counts)
    if array.ndim < 4 or array.shape[-4:] != (2, 2, 2, 2):
        raise ValueError(f"counts: shape {array.shape}; allowed: [..., i=2, j=2, a=2, b=2]")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"counts: type {array.dtype}; allowed: numbers, 0 or above")
    # One comparison finds negative numbers and NaN alike; infinity is rarer and looked for only among floats.
    if array.size and not (array.min() >= 0 and (array.dtype.kind != "f" or array.max() < np.inf)):
        place = tuple(int(index) for index in np.argwhere(~((array >= 0) & (array < np.inf)))[0])
        raise ValueError(f"counts: {array[place]} at (..., i, j, a, b) = {place}; allowed: finite, 0 or above")
    # Narrow and unsigned integers would wrap around in the sums below.
    wide = np.asarray(array, np.float64 if array.dtype.kind == "f" else np.int64)
    with own_settings(), jax.enable_x64(True):
        return jax.tree.map(np.asarray, _jitted(jnp.asarray(wide)))


def _statistics(counts: Array) -> ChshStatistics:
    # Differences of whole numbers are exact; only the division rounds.
    n = jnp.sum(counts, axis=(-2, -1))
    wrong_alice = counts[..., 0, 0] + counts[..., 0, 1]
    wrong_bob = counts[..., 0, 0] + counts[..., 1, 0]
    unequal = counts[..., 0, 1] + counts[..., 1, 0]
    real = jnp.result_type(float)  # float64 where 64-bit types are on
    items = jnp.where(n > 0, n, jnp.nan).astype(real)
    a, b, c = ((n - 2 * x).astype(real) / items for x in (wrong_alice, wrong_bob, unequal))

    variants = sum_signed(c)
    influence = (
        jnp.abs(a[..., 0, 0] - a[..., 0, 1])
        + jnp.abs(a[..., 1, 0] - a[..., 1, 1])
        + jnp.abs(b[..., 0, 0] - b[..., 1, 0])
        + jnp.abs(b[..., 0, 1] - b[..., 1, 1])
    )
    s_odd = jnp.max(variants, axis=-1)
    delta = s_odd - 2 - influence
    # Distance of the correlators from the edges of their boxes: |a + b| - 1 <= c <= 1 - |a - b|.
    room = jnp.minimum(c - (jnp.abs(a + b) - 1), 1 - jnp.abs(a - b) - c)
    inside = jnp.minimum(-delta, jnp.min(room, axis=(-2, -1))) / 4

    # The correlation coefficient from the four cells: near accuracy 1 the difference c - a b would lose its digits.
    p = counts.astype(real) / items[..., None, None]
    wrong = (p[..., 0, 0] + p[..., 0, 1]) * (p[..., 0, 0] + p[..., 1, 0])
    right = (p[..., 1, 0] + p[..., 1, 1]) * (p[..., 0, 1] + p[..., 1, 1])
    degenerate = wrong * right == 0
    spread = jnp.sqrt(jnp.where(degenerate, 1, wrong * right))
    pearson = jnp.where(degenerate, 0, (p[..., 0, 0] * p[..., 1, 1] - p[..., 0, 1] * p[..., 1, 0]) / spread)
    return ChshStatistics(
        accuracy_alice=(a + 1) / 2,
        accuracy_bob=(b + 1) / 2,
        correlator=c,
        s=variants[..., 0],
        s_variants=variants,
        s_odd=s_odd,
        s_factorised=sum_signed(a * b)[..., 0],
        influence=influence,
        contextuality=delta,
        cnt2=jnp.where(jnp.isnan(delta), jnp.nan, jnp.maximum(delta, 0) / 4),
        ncnt2=jnp.where(delta >= 0, 0, inside),
        pearson=pearson,
        s_pearson=sum_signed(pearson)[..., 0],
        degenerate=degenerate,
    )


def sum_signed(c: Float[AnyArray, "*batch 2 2"]) -> Float[AnyArray, "*batch 8"]:
    """The eight CHSH sums of four numbers, in the order of SIGNS."""
    c11, c12, c21, c22 = c[..., 0, 0], c[..., 0, 1], c[..., 1, 0], c[..., 1, 1]
    return jnp.stack([s11 * c11 + s12 * c12 + s21 * c21 + s22 * c22 for s11, s12, s21, s22 in SIGNS], axis=-1)


_jitted = jax.jit(_statistics)
