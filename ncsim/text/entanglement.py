"""Artificial entanglement of weight updates and of attention (Chen et al., arXiv:2601.06788): numbers from matrices, NumPy in float64.

An update dW [inputs, outputs] is taken for the amplitudes of a chain. Its sites are the prime factors of the two widths: those of
the inputs with the most significant first and the smallest factors first, then those of the outputs, the largest first. So a
square update's chain is its own mirror image, and the cuts 3, 6 and 12 from the end of a MiniLM's outputs are between heads. At a cut with d
states to its left, dW is reshaped to [d, D F / d]. With its singular values s and p = s^2 / sum s^2, the entropy is S(d) = -sum p ln p,
in nats. The paper's own order of sites could not be read, so this one is ours. Permuting neurons changes S(d) at all cuts but the
one between inputs and outputs.

Axes: D inputs, F outputs, R rank, K cuts, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.errors import ConfigError
from ncsim.statistics.separability import schmidt_entropy


class Profile(NamedTuple):
    """Entropy by cut (arXiv:2601.06788).

    Attributes:
        dimension: states to the left of each cut, d, int64[K], ascending.
        entropy: S(d) in nats, float64[..., K]; NaN of an update that is 0 everywhere, or not finite.
        inputs: D, which is d at the cut between inputs and outputs.
        outputs: F.

    Example:
        >>> profile = entanglement_profile(np.eye(8))
        >>> profile.dimension.tolist(), (profile.entropy / np.log(2)).round(9).tolist()
        ([2, 4, 8, 16, 32], [1.0, 2.0, 3.0, 2.0, 1.0])
        >>> profile.effective_rank.round(9), profile.valley_depth.round(9), profile.centre.round(3)
        (np.float64(8.0), np.float64(0.0), np.float64(2.079))
        >>> bool((profile.entropy <= profile.largest + 1e-9).all())
        True
    """

    dimension: np.ndarray
    entropy: np.ndarray
    inputs: int
    outputs: int

    @property
    def centre(self) -> np.ndarray:
        """S at the cut between inputs and outputs, the only one that no order of neurons changes, [...]; 0 where either has one neuron."""
        if 1 in (self.inputs, self.outputs):  # no cut of the chain is there
            return np.where(np.isnan(self.entropy).any(axis=-1), np.nan, 0.0)
        return self.entropy[..., int(np.flatnonzero(self.dimension == self.inputs)[0])]

    @property
    def effective_rank(self) -> np.ndarray:
        """exp S between inputs and outputs, 1 to the rank, [...]."""
        return np.exp(self.centre)

    @property
    def valley_depth(self) -> np.ndarray:
        """How far the centre is below the highest cut, in nats, [...]."""
        return self.entropy.max(axis=-1, initial=0.0) - self.centre

    @property
    def largest(self) -> np.ndarray:
        """What any matrix may have, ln min(d, D F / d), [K]."""
        return np.log(np.minimum(self.dimension, self.inputs * self.outputs // self.dimension))


class Null(NamedTuple):
    """What the singular values alone give (`spectrum_null`).

    Attributes:
        mean: of S(d) over draws, float64[..., K].
        spread: its standard deviation over draws, likewise.

    Example:
        >>> spectrum_null(np.ones((4, 1)), np.ones((1, 4))).mean.shape
        (3,)
    """

    mean: np.ndarray
    spread: np.ndarray


def sites(width: int) -> tuple[int, ...]:
    """The prime factors of a width, smallest first (arXiv:2601.06788).

    Args:
        width: 1 or more; 1 has none.

    Raises:
        ConfigError: it is below 1.

    Example:
        >>> sites(384)
        (2, 2, 2, 2, 2, 2, 2, 3)
    """
    if width < 1:
        raise ConfigError(f"width: {width}; allowed: whole numbers from 1")
    found, factor = [], 2
    while width > 1:
        while width % factor == 0:
            found.append(factor)
            width //= factor
        # What is left has no factor below this one.
        factor = factor + 1 if factor * factor <= width else width
    return tuple(found)


def cuts(inputs: int, outputs: int) -> np.ndarray:
    """States to the left of each cut of an update's chain, int64[K]: inputs' sites, then outputs' from the largest."""
    chain = [*sites(inputs), *reversed(sites(outputs))]
    return np.cumprod(chain, dtype=np.int64)[:-1]


def entanglement_profile(a: Any, b: Any = None) -> Profile:
    """The entanglement profile of an update (arXiv:2601.06788), without ever forming it where it is given by factors.

    With a b = L Q^T (QR of b's transpose) its cuts among the inputs are those of L, reshaped to [d, D R / d]. With a b = Q M they are among the
    outputs those of M, reshaped to [R d / D, D F / d].

    Args:
        a: LoRA's first factor, float[..., D, R]; without `b` the update itself, float[..., D, F].
        b: LoRA's second factor, float[..., R, F]. What the product is scaled by changes nothing.

    Returns:
        Entropies of all cuts, [..., K]; NaN where the update is 0, or not finite.

    Raises:
        ConfigError: the shapes are no matrices, or do not fit each other.

    Example:
        >>> product = np.kron([1.0, 2.0], [3.0, 1.0])  # of two sites, so a product over all four
        >>> entanglement_profile(product[:, None], product[None]).entropy.round(9).tolist()
        [0.0, 0.0, 0.0]
    """
    a, b = _checked(a, b)
    if b is None:
        inputs, outputs = a.shape[-2:]
        entropies = [_entropy_at(a, int(d)) for d in cuts(inputs, outputs)]
    else:
        inputs, outputs = a.shape[-2], b.shape[-1]
        rows = a @ np.swapaxes(np.linalg.qr(np.swapaxes(b, -1, -2), mode="r"), -1, -2)
        entropies = _entropies(rows, np.linalg.qr(a, mode="r") @ b)
    lead = a.shape[:-2]
    stacked = np.stack(entropies, axis=-1) if entropies else np.zeros((*lead, 0))
    return Profile(cuts(inputs, outputs), stacked, inputs, outputs)


def _entropies(rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """Entropies by cut of an update Q columns = rows Q^T, with orthonormal columns in either Q: [..., D, k] and [..., k, F]."""
    inputs, outputs, states = rows.shape[-2], columns.shape[-1], columns.shape[-2]
    return [
        _entropy_at(rows, d) if d <= inputs else _entropy_at(columns, states * d // inputs)
        for d in cuts(inputs, outputs).tolist()
    ]


def _checked(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Factors in float64, each adapter's of order one; all 0 where one is not finite."""
    matrices = [np.asarray(each, np.float64) for each in (a, b) if each is not None]
    if any(each.ndim < 2 or 0 in each.shape for each in matrices):
        raise ConfigError(f"update: {' and '.join(str(list(each.shape)) for each in matrices)}; allowed: matrices")
    fitting = len(matrices) == 1 or (
        matrices[0].shape[:-2] == matrices[1].shape[:-2] and matrices[0].shape[-1] == matrices[1].shape[-2]
    )
    if not fitting:
        raise ConfigError(
            f"factors: {list(matrices[0].shape)} and {list(matrices[1].shape)}; allowed: [..., D, R] and [..., R, F]"
        )
    finite = np.all([np.isfinite(each).all(axis=(-2, -1)) for each in matrices], axis=0)[..., None, None]
    scaled = []
    for each in matrices:
        clean = np.where(finite, each, 0.0)
        most = np.abs(clean).max(axis=(-2, -1), keepdims=True)
        scaled.append(clean / np.where(most > 0, most, 1.0))
    return scaled[0], scaled[1] if len(scaled) > 1 else None


def _entropy_at(matrix: np.ndarray, d: int) -> np.ndarray:
    """Entropy of matrices [...] reshaped to [d, rest]."""
    return schmidt_entropy(matrix.reshape(*matrix.shape[:-2], d, -1))


def bound(inputs: int, outputs: int, rank: int | None = None) -> np.ndarray:
    """The most that a rank allows at each cut, float64[K]: ln min(e, R width / e) with e the smaller side (arXiv:2601.06788).

    It rises as ln e, is highest at e = sqrt(width R), and falls to ln R at the centre. So a valley there is no sign of training.

    Args:
        inputs, outputs: widths.
        rank: of the update; None for no limit.

    Example:
        >>> np.exp(bound(16, 16, 2)).round().astype(int).tolist()
        [2, 4, 4, 2, 4, 4, 2]
    """
    rank = min(inputs, outputs, rank or inputs)
    return np.log([min(_sides(int(d), inputs, outputs, rank)) for d in cuts(inputs, outputs)])


def random_law(inputs: int, outputs: int, rank: int | None = None) -> np.ndarray:
    """Mean entropy of the product of two Gaussian factors at each cut, float64[K] (Page 1993, for real numbers).

    A Gaussian matrix [m, n], m <= n, has ln m - m / 2n and, since it is real, a correction of order 1 / n (`_page`). Where the side that has the
    rank's index is the smaller one, the other factor's spectrum takes off as much again as it lacks to ln R. Ranks are to be well
    below the widths.

    Args:
        inputs, outputs: widths.
        rank: of the factors; None for a Gaussian update of full rank.

    Example:
        >>> random_law(384, 384, 4)[[0, 7]].round(3).tolist()  # the first cut and the centre
        [0.692, 1.375]
    """
    found = []
    for d in map(int, cuts(inputs, outputs)):
        if rank is None:
            found.append(_page(d, inputs * outputs // d))
            continue
        alone, shared = _sides(d, inputs, outputs, rank)
        lacking = math.log(rank) - _page(rank, outputs if d <= inputs else inputs)
        share = 1.0 if shared < alone else 0.5 if shared == alone else 0.0
        found.append(max(_page(alone, shared) - share * lacking, 0.0))
    return np.array(found)


def _sides(d: int, inputs: int, outputs: int, rank: int) -> tuple[int, int]:
    """Sizes of the factor that a cut reshapes: the side without the rank's index, and the one with it."""
    if d <= inputs:
        return d, inputs // d * rank
    return inputs * outputs // d, d // inputs * rank


def _page(m: int, n: int) -> float:
    """Mean entropy of a real Gaussian matrix [m, n], to order 1 / n.

    The mean of x ln x over Marchenko and Pastur's law is m / 2n. For real matrices the density has a correction of order 1 / m: a quarter at either edge,
    and less one half of the arcsine law (Dumitriu and Edelman 2006).
    """
    m, n = min(m, n), max(m, n)
    ratio = m / n
    root = math.sqrt(ratio)
    lower = (1 - root) ** 2 * math.log(1 - root) if root < 1 else 0.0
    edges = 0.5 * (lower + (1 + root) ** 2 * math.log(1 + root)) - ratio
    return max(math.log(m) + 1 / (m * n) - ratio / 2 - edges / m, 0.0)


def spectrum_null(a: Any, b: Any = None, draws: int = 3, seed: int | Sequence[int] = 0) -> Null:
    """S(d) of updates with the same singular values and random singular vectors (arXiv:2601.06788; Haar 1933).

    What a profile has above or below it is of the order of neurons, heads included, and not of the spectrum. The centre is the same.

    Args:
        a: LoRA's first factor, float[..., D, R]; without `b` the update itself.
        b: LoRA's second factor, float[..., R, F].
        draws: 2 or more.
        seed: of the draws, one number or several, 0 or above.

    Returns:
        Mean and spread of S(d) over the draws, [..., K] each.

    Raises:
        ConfigError: the shapes do not fit, or there are too few draws.

    Example:
        >>> update = np.diag([1.0, 1.0, 0.0, 0.0])  # two directions, aligned with neurons
        >>> null = spectrum_null(update, draws=20)
        >>> bool((null.mean - null.spread > entanglement_profile(update).entropy)[0])
        True
    """
    if draws < 2:
        raise ConfigError(f"draws: {draws}; allowed: 2 or more")
    a, b = _checked(a, b)
    inputs, outputs = a.shape[-2], (a if b is None else b).shape[-1]
    if b is None:
        singular = np.linalg.svd(a, compute_uv=False)
    else:
        inner = np.linalg.qr(a, mode="r") @ np.swapaxes(np.linalg.qr(np.swapaxes(b, -1, -2), mode="r"), -1, -2)
        singular = np.linalg.svd(inner, compute_uv=False)
    random = np.random.default_rng(seed)
    lead, rank = singular.shape[:-1], singular.shape[-1]
    found = []
    for _ in range(draws):
        left, right = (_orthonormal(random, lead, width, rank) for width in (inputs, outputs))
        rows, columns = left * singular[..., None, :], singular[..., None] * np.swapaxes(right, -1, -2)
        found.append(np.stack(_entropies(rows, columns), axis=-1))
    return Null(np.mean(found, axis=0), np.std(found, axis=0, ddof=1))


def _orthonormal(random: np.random.Generator, lead: tuple[int, ...], width: int, rank: int) -> np.ndarray:
    """Haar-random orthonormal columns [..., width, rank]."""
    q, r = np.linalg.qr(random.standard_normal((*lead, width, rank)))
    # LAPACK's signs are not random.
    return np.asarray(q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :])
