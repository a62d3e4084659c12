"""What observers know whose scores are normal around 0 and around another number: integrated, no sample."""

from __future__ import annotations

import functools
import math

import numpy as np

#: Other members' scores, of which bins are cut.
EDGES = np.linspace(-4, 7, 400).reshape(200, 2)


@functools.cache
def bits_of_normals(apart: float, limit: float) -> tuple[float, float]:
    """Bits from the log loss of the scores' log odds, none of which is further from 0 than the limit; and bits of the class and the bin."""
    width = 1e-4
    at = np.arange(-9, 9 + apart, width)
    odds = np.clip(apart * at - apart**2 / 2, -limit, limit)
    laws = np.exp(-(np.stack([at, at - apart]) ** 2) / 2) / math.sqrt(2 * math.pi) * width
    losses = (laws[0] @ np.logaddexp(0, odds) + laws[1] @ np.logaddexp(0, -odds)) / math.log(4)
    edges = np.quantile(EDGES, np.linspace(0, 1, 21)[1:-1])
    bins = np.stack([np.bincount(np.searchsorted(edges, at), law, 20) for law in laws])
    return float(1 - losses), _entropy(bins.mean(axis=0)) - (_entropy(bins[0]) + _entropy(bins[1])) / 2


def _entropy(law: np.ndarray) -> float:
    return float(-(law * np.log2(np.maximum(law, 1e-300))).sum())
