"""External entanglement: entropies of attention matrices, and what they are where nothing was learned (arXiv:2601.06788).

How the paper makes a state of attention could not be read. Here the matrix of one head and text, [T, T] with padding cut off, is taken
for the amplitudes of queries and keys. Its entropy S_c is 0 where all rows are equal and ln T where each token sees itself alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ncsim.errors import ConfigError
from ncsim.statistics.separability import schmidt_entropy


def attention_entropy(weights: Any, mask: Any = None) -> np.ndarray:
    """Entropy of the squared singular values of attention matrices, in nats (arXiv:2601.06788).

    Args:
        weights: of heads over one text, float[..., T, T], queries by keys.
        mask: 1 for tokens and 0 for padding, [T]; padding's rows and columns are cut off. None where there is none.

    Returns:
        float64[...], 0 to ln T; NaN where all weights are 0.

    Raises:
        ConfigError: the matrices are not square, or nothing is left of them.

    Example:
        >>> attention_entropy(np.eye(4)).round(9) == np.log(4).round(9)
        np.True_
        >>> attention_entropy(np.full((3, 4, 4), 0.25)).round(9).tolist()  # three heads
        [0.0, 0.0, 0.0]
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim < 2 or weights.shape[-1] != weights.shape[-2]:
        raise ConfigError(f"weights: {list(weights.shape)}; allowed: [..., T, T]")
    if mask is not None:
        there = np.flatnonzero(np.asarray(mask))
        weights = weights[..., there[:, None], there]
    if not weights.shape[-1]:
        raise ConfigError("mask: no token; allowed: one or more")
    return schmidt_entropy(weights)


def random_attention_law(tokens: Any, spread: float) -> np.ndarray:
    """S_c of attention whose logits are independent Gaussians, for many tokens, in nats (our derivation, after Page 1993).

    Weights are then near 1 / T of a lognormal number. Their mean over keys is one singular value with the share exp(-spread^2); the
    rest is a Gaussian matrix with ln T - 1/2. So S_c = h(q) + (1 - q) (ln T - 1/2), with h the entropy of (q, 1 - q), q = exp(-spread^2). It rises
    with ln T without any structure. Few tokens and wide spreads have less: 4 % at T = 128 and spread 1.

    Args:
        tokens: T, int[...].
        spread: standard deviation of the logits, 0 or above.

    Example:
        >>> random_attention_law([256, 1024], 0.5).round(3).tolist()
        [1.644, 1.951]
    """
    q = math.exp(-(spread**2))
    mixing = -sum(p * math.log(p) for p in (q, 1 - q) if p > 0)
    return np.asarray(mixing + (1 - q) * (np.log(tokens) - 0.5))


def causal_uniform(tokens: int) -> np.ndarray:
    """Attention that gives each token's predecessors and itself equal weights, float64[T, T]: causal, and nothing learned.

    Its S_c grows as ln ln T.

    Example:
        >>> attention_entropy(causal_uniform(64)).round(3)
        np.float64(1.527)
    """
    rows = np.arange(1, tokens + 1)
    return np.tril(np.ones((tokens, tokens))) / rows[:, None]


def shuffled_rows(weights: Any, seed: int = 0) -> np.ndarray:
    """Attention whose weights are shuffled among the keys of each query by itself: what single weights have, and no structure.

    Args:
        weights: float[..., T, T].
        seed: of the shuffles.

    Example:
        >>> sorted(shuffled_rows([[0.1, 0.9], [0.4, 0.6]])[1].tolist())
        [0.4, 0.6]
    """
    return np.random.default_rng(seed).permuted(np.asarray(weights, np.float64), axis=-1)
