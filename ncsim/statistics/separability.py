"""How far something of two parties is from a product: of a matrix, of a Gaussian, and of samples. NumPy in float64, nats.

A function of two arguments is a matrix, and it is a product where one singular value is left. A Gaussian is a law of two sides; its root
is a function of both, and so has either measure. Samples have no more than mutual information.

Axes: A rows, B columns, K variables, N samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ncsim.statistics.arguments import numbers, whole
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.intervals import Estimate

#: Matrices with no longer side have exact singular values; of larger ones the Gram matrix is taken, which is far faster.
SMALL = 16
#: Neighbours that the estimate of mutual information looks at.
NEIGHBOURS = 5


def schmidt_entropy(matrices: Any) -> np.ndarray:
    """Entropy of the squared singular values of matrices.

    As a pure state of two parties has it (Schmidt 1907). 0 for a product of a function of the row and one of the column, exactly so up to
    16 x 16. What is coded matters: the exclusive or of two bits is a product as +1 and -1, and is not as 0 and 1.

    Args:
        matrices: [..., A, B], taken as they are, with no mean removed.

    Returns:
        float64[...], 0 to ln min(A, B); NaN for a matrix of zeros, and for one that is not finite.

    Raises:
        ValueError: no matrices, or entries that are no real numbers.

    Example:
        >>> import numpy as np
        >>> schmidt_entropy([[[1, 1], [1, -1]], [[2, 1], [4, 2]]]).round(3).tolist()  # ln 2, and a product
        [0.693, 0.0]
    """
    matrices = numbers("matrices", matrices)
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"matrices: shape {matrices.shape}; allowed: [..., A, B], a row and a column or more")
    largest = np.max(np.abs(matrices), axis=(-2, -1), keepdims=True)
    bad = ~np.isfinite(largest) | (largest == 0)
    squares = _squares(np.where(bad, 1.0, matrices / np.where(bad, 1, largest)))
    share = squares / squares.sum(axis=-1, keepdims=True)
    terms = share * np.log(np.where(share > 0, share, 1))
    return np.where(bad[..., 0, 0], np.nan, np.abs(-terms.sum(axis=-1)))


def _squares(matrices: np.ndarray) -> np.ndarray:
    """Squared singular values."""
    if max(matrices.shape[-2:]) <= SMALL:
        squares = np.linalg.svd(matrices, compute_uv=False) ** 2
        # What is rounding alone counts as none, so that a product has exactly 0.
        return np.where(squares < 1e-28 * squares.max(axis=-1, keepdims=True), 0, squares)
    other = np.swapaxes(matrices, -1, -2)
    gram = matrices @ other if matrices.shape[-2] <= matrices.shape[-1] else other @ matrices
    return np.maximum(np.linalg.eigvalsh(gram), 0.0)


def mean_over_members(values: np.ndarray, most: float = 1.0) -> Estimate:
    """The mean of members that have a value, each in 0 to `most`, with its interval (BCa)."""
    there = values[np.isfinite(values)]
    if not there.size:
        return Estimate(math.nan, 0.0, most, "no member has a value")
    return bootstrap_mean(np.clip(there, 0, most), support=(0.0, most))


def canonical_correlations(precision: np.ndarray, first: int) -> np.ndarray:
    """Those of the first so many variables and the others of a Gaussian with this precision [..., K, K], 0 to 1, [..., fewer of both]."""
    alice, bob = (
        np.linalg.cholesky(block) for block in (precision[..., :first, :first], precision[..., first:, first:])
    )
    half = np.linalg.solve(alice, precision[..., :first, first:])
    return np.linalg.svd(np.linalg.solve(bob, np.swapaxes(half, -1, -2)), compute_uv=False)


def gaussian_information(precision: np.ndarray, first: int) -> np.ndarray:
    """Mutual information of the first so many variables and the others of a Gaussian, in nats: -1/2 sum ln(1 - rho^2) over the
    canonical correlations rho (Gelfand and Yaglom 1957).

    Args:
        precision: inverse of the covariance, positive definite, [..., K, K].
        first: 1 to K - 1.

    Example:
        >>> import numpy as np
        >>> gaussian_information(np.array([[1, -0.5], [-0.5, 1]]), 1).round(6)
        np.float64(0.143841)
    """
    rho = canonical_correlations(precision, first)
    return np.asarray(-0.5 * np.sum(np.log1p(-(rho**2)), axis=-1))


def gaussian_entanglement(precision: np.ndarray, first: int) -> np.ndarray:
    """Entropy of the singular values of the root of a Gaussian's density, a function of the first so many variables and of the others.

    With p normalised sqrt(p) is a pure state of two parties. A canonical variable of one of them has the variance 1 in place and
    1 / (4 (1 - rho^2)) in momentum. So its symplectic eigenvalue is nu = (1 - rho^2)^(-1/2) / 2, and its entropy
    (nu + 1/2) ln(nu + 1/2) - (nu - 1/2) ln(nu - 1/2) (Holevo, Sohma and Hirota 1999). For small rho it is larger than mutual information, by
    a logarithm.

    Args:
        precision: as for `gaussian_information`.
        first: likewise.

    Example:
        >>> import numpy as np
        >>> gaussian_entanglement(np.array([[1, -0.5], [-0.5, 1]]), 1).round(6)
        np.float64(0.278239)
    """
    rho = canonical_correlations(precision, first)
    # nu - 1/2 without what cancels where rho is small.
    root = np.sqrt(1 - rho**2)
    below = rho**2 / (2 * root * (1 + root))
    terms = (below + 1) * np.log1p(below) - below * np.log(np.where(below > 0, below, 1))
    return np.asarray(terms.sum(axis=-1))


def sample_information(first: Any, second: Any, neighbours: int = NEIGHBOURS) -> float:
    """Mutual information of what two parties have, estimated from samples by nearest neighbours, in nats.

    Kraskov, Stogbauer and Grassberger 2004, their first estimator. Each variable is first ranked into normal scores, which changes no
    information. It may be a little below 0 where there is none. A sample that has a value which others have as well, as bits and counts do,
    may have several neighbours at the same distance, or at none. There it is the estimator of Mesner and Shalizi (arXiv:1912.03387), given a
    constant: all neighbours up to the distance of the last are counted. Of what nobody shares the first errs less. Where all neighbours are
    at no distance, as of bits, a sample counts itself, too, which are Grassberger's entropies (2003): without, there were 0.07 nats less
    than none between seven values each of 500 samples. Of counts whose pairs often occur
    fewer than ten times it is still up to 0.3 nats too large where they tell much of one another: shuffled samples do not show that.

    Args:
        first: [N] or [N, variables], finite numbers, which may repeat.
        second: likewise, as many samples.
        neighbours: k, 1 or more and fewer than N.

    Raises:
        ValueError: samples of other numbers, too few, or not finite real numbers; neighbours that are no whole number.

    Example:
        >>> import numpy as np
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 4_000))
        >>> round(sample_information(x, x + noise), 2), round(abs(sample_information(x, noise)), 1)  # near ln(2) / 2 = 0.35, and none
        (0.36, 0.0)
        >>> round(sample_information(x > 0, x > 0), 2)  # one bit
        0.69
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    sides = [numbers(name, each) for name, each in (("first", first), ("second", second))]
    sides = [each[:, None] if each.ndim == 1 else each for each in sides]
    neighbours, number = whole("neighbours", neighbours, 1), sides[0].shape[0] if sides[0].ndim else 0
    if any(each.ndim != 2 or len(each) != number or not np.isfinite(each).all() for each in sides):
        raise ValueError("first, second: allowed: finite numbers, [N] or [N, variables], as many samples of both")
    if not 1 <= neighbours < number:
        raise ValueError(f"neighbours: {neighbours}; allowed: 1 to {number - 1}, fewer than samples")
    scored = [_normal_scores(each) for each in sides]
    joint = cKDTree(np.concatenate(scored, axis=1))
    # Largest distance in either side; strictly nearer ones are counted in each.
    reach = joint.query(joint.data, k=[neighbours + 1], p=np.inf)[0][:, 0]
    tied = np.any([_shared(each) for each in scored], axis=0)
    radius = np.where(tied, reach, np.nextafter(reach, 0))
    near = [cKDTree(each).query_ball_point(each, radius, p=np.inf, return_length=True) for each in scored]
    # Each counts itself, which is the + 1 of the first formula, and in Grassberger's entropies; in the second formula it is in nothing.
    apart = tied & (reach > 0)
    means = [float(digamma(each - apart).mean()) for each in near]
    own = joint.query_ball_point(joint.data[tied], reach[tied], p=np.inf, return_length=True) - apart[tied]
    more = np.sum(digamma(own) - digamma(neighbours)) + apart.sum() * (digamma(number - 1) - digamma(number))
    return float(digamma(neighbours) + digamma(number) - sum(means) + more / number)


def _shared(values: np.ndarray) -> np.ndarray:
    """Which samples [N] have a value in some column of [N, variables] that another has as well."""
    found = np.zeros(len(values), bool)
    for column in values.T:
        _, place, times = np.unique(column, return_inverse=True, return_counts=True)
        found |= times[place] > 1
    return found


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Each column's ranks as quantiles of a normal law."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(values, axis=0) - 0.5) / len(values)))
