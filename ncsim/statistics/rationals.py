"""Sums of fractions of counts, right to the last bit.

S and Delta of counts are sums of fractions, and words hang on whether they are above 2 and above 0. Added up in floating
point, twelfths that make 2 come out as 2 + 4e-16. So the numerators are brought to one denominator and added up as whole
numbers, and only the quotient is rounded: equal sums are equal floats, and a comparison with 2 or 0 is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

#: Whole numbers below this are exact as float64.
EXACT = 2**53


def whole_numbers(values: Any) -> np.ndarray:
    """Whole numbers as int64 where all are below `EXACT`, else as Python's integers: a sum or product wraps around in int64."""
    array = np.asarray(values)
    if array.dtype == object or float(np.max(np.abs(array), initial=0)) < EXACT:  # which is infinite as a float16
        return array if array.dtype == object else array.astype(np.int64)
    return np.asarray(np.frompyfunc(int, 1, 1)(array), object)


def check_total(counts: np.ndarray) -> None:
    """Refuse tables [..., 2, 2, 2, 2] of 2^53 items or more, whose sums float64 rounds and int64 may wrap around. Raises ValueError."""
    with np.errstate(over="ignore"):
        most = float(counts.sum(axis=(-4, -3, -2, -1), dtype=np.float64).max(initial=0))
    if most >= EXACT:
        raise ValueError(f"counts: {most:.6g} items; allowed: fewer than 2^53 in all four contexts")


#: Binary digits that cells are made smaller by where a sum of them might be no float.
SHRUNK = 64


def too_large_to_add(table: np.ndarray) -> bool:
    return bool(table.max(initial=0) > 2.0**1000)


def summable(table: np.ndarray) -> np.ndarray:
    """A table of floats, 0 or above, or 2^-64 of it where a sum of cells might be no float: shares are the same."""
    return np.ldexp(table, -SHRUNK) if too_large_to_add(table) else table


def error_as_given(error: np.ndarray, counts: Any) -> np.ndarray:
    """A standard error that was found from `summable` counts as that of the counts: it has the root of their number, not shares alone."""
    return np.ldexp(error, -SHRUNK // 2) if too_large_to_add(np.asarray(counts, np.float64)) else error


def common_denominator(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least common multiple [...] of totals [..., K], all above 0, and what each goes into it, [..., K]: Python's integers."""
    totals = totals.astype(object)
    denominator = np.lcm.reduce(totals, axis=-1)
    return denominator, denominator[..., None] // totals


def _quotient(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if (numerator > 0) == (denominator > 0) else -math.inf


def nearest(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "..."]:
    """The quotient of arrays of Python's integers, to the nearest float64; 2 or -2 only where it is just that."""
    try:
        value = np.asarray(numerator / denominator, np.float64)
    except OverflowError:  # Python's integers have no infinite quotient
        value = np.frompyfunc(_quotient, 2, 1)(numerator, denominator).astype(np.float64)
    for bound in (-2, 2):
        over = np.asarray(numerator - bound * denominator)
        value = np.where((value == bound) & (over > 0), np.nextafter(bound, np.inf), value)
        value = np.where((value == bound) & (over < 0), np.nextafter(bound, -np.inf), value)
    return value


def sum_of_fractions(numerators: Any, totals: Any) -> Float[np.ndarray, "*batch"]:
    """The sum over the last axis of numerators [..., K] over totals [..., K], whole numbers; NaN where a total is 0, 0 of no fractions.

    Numbers of any size: floats that are whole, integers, or Python's integers in arrays of objects.
    """
    numerators, totals = np.broadcast_arrays(whole_numbers(numerators), whole_numbers(totals))
    if numerators.shape[-1] == 0:
        return np.zeros(numerators.shape[:-1])
    whole = np.asarray((totals > 0).all(axis=-1), bool)
    value, rest = np.full(whole.shape, np.nan), whole
    if numerators.dtype != object and totals.dtype != object:
        first, total = totals[..., 0], numerators.sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(whole, total / first, np.nan)
        # Of equal totals the division alone rounds; the other sums, few as a rule, are made with Python's integers.
        easy = (totals == totals[..., :1]).all(axis=-1) & (np.abs(numerators).max(axis=-1) < EXACT / 64)
        rest = whole & ~easy
    if rest.any():
        denominator, scale = common_denominator(totals[rest])
        value[rest] = nearest((numerators[rest].astype(object) * scale).sum(axis=-1), denominator)
    return np.asarray(value)


def sum_of_means(cells: Any, weights: np.ndarray) -> Float[np.ndarray, "*batch"]:
    """The sum over contexts of each one's mean weight: cells [..., K, N] and weights [K, N] are whole numbers of any size."""
    cells, weights = whole_numbers(cells), whole_numbers(weights)
    if int(np.max(cells, initial=0)) * int(np.max(np.abs(weights), initial=0)) >= EXACT:
        cells, weights = cells.astype(object), weights.astype(object)
    return sum_of_fractions((cells * weights).sum(axis=-1), cells.sum(axis=-1))
