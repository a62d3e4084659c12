"""Sums of fractions of counts, right to the last bit.

S and Delta of counts are sums of fractions, and words hang on whether they are above 2 and above 0. Added up in floating
point, twelfths that make 2 come out as 2 + 4e-16. So the numerators are brought to one denominator and added up as whole
numbers, and only the quotient is rounded: equal sums are equal floats, and a comparison with 2 or 0 is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

#: Whole numbers below this are exact as float64.
EXACT = 2**53


def common_denominator(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least common multiple [...] of totals [..., K], all above 0, and what each goes into it, [..., K]: Python's integers."""
    totals = totals.astype(object)
    denominator = np.lcm.reduce(totals, axis=-1)
    return denominator, denominator[..., None] // totals


def nearest(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "..."]:
    """The quotient of arrays of Python's integers, to the nearest float64; 2 or -2 only where it is just that."""
    value = np.asarray(numerator / denominator, np.float64)
    for bound in (-2, 2):
        over = np.asarray(numerator - bound * denominator)
        value = np.where((value == bound) & (over > 0), np.nextafter(bound, np.inf), value)
        value = np.where((value == bound) & (over < 0), np.nextafter(bound, -np.inf), value)
    return value


def sum_of_fractions(numerators: Any, totals: Any) -> Float[np.ndarray, "*batch"]:
    """The sum over the last axis of numerators [..., K] over totals [..., K], whole numbers; NaN where a total is 0."""
    numerators, totals = np.broadcast_arrays(np.asarray(numerators, np.int64), np.asarray(totals, np.int64))
    first, whole = totals[..., 0], (totals > 0).all(axis=-1)
    total = numerators.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(whole, total / first, np.nan)
    # Of equal totals the division alone rounds; the other sums, few as a rule, are made with Python's integers.
    easy = (totals == totals[..., :1]).all(axis=-1) & (np.abs(numerators).max(axis=-1, initial=0) < EXACT / 64)
    rest = whole & ~(easy & (first < EXACT))
    if rest.any():
        denominator, scale = common_denominator(totals[rest])
        value[rest] = nearest((numerators[rest].astype(object) * scale).sum(axis=-1), denominator)
    return np.asarray(value)
