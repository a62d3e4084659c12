"""Arguments of public functions: what is no number, no flag or no count is refused in one line, before anything is computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ncsim.config.fields import shown, whole_number

#: Bootstrap samples: with more, a call takes hours.
MOST_RESAMPLES = 10_000_000


def numbers(name: str, values: Any) -> np.ndarray:
    """Real numbers of any shape, as float64.

    Raises:
        ValueError: words, complex numbers, or lists of several lengths; NumPy would make numbers of some of them.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "USMmc":
            return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name}: {shown(values)}; allowed: real numbers")


def one_number(name: str, value: Any, allowed: str = "a number") -> float:
    """One real number, of Python, NumPy or JAX.

    Raises:
        ValueError: anything else, also true and false.
    """
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")
    return float(array)


def checked_level(level: Any, least: float = 0.0) -> float:
    """The probability of an interval, above `least` and below 1. Raises ValueError."""
    allowed = f"between {least:g} and 1"
    number = one_number("level", level, allowed)
    if not least < number < 1:
        raise ValueError(f"level: {level}; allowed: {allowed}")
    return number


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither true nor false: the word "False" is true to Python. Raises ValueError."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: {shown(value)}; allowed: True or False")


def whole(name: str, value: Any, least: int = 0, most: float = math.inf) -> int:
    """A whole number from `least` to `most`. Raises ValueError."""
    number = whole_number(value)
    if number is None or not least <= number <= most:
        upper = "or above" if math.isinf(most) else f"to {most:,.0f}"
        kind = "a whole number, " if number is None else ""
        raise ValueError(f"{name}: {shown(value)}; allowed: {kind}{least} {upper}")
    return number


def resamples_and_seed(resamples: Any, seed: Any, level: float) -> tuple[int, int]:
    """Both of a bootstrap. With fewer samples than one in each tail a limit would be a sample that says nothing of the tail.

    Raises:
        ValueError: either is not allowed.
    """
    fewest = math.ceil(round(2 / (1 - level), 6))
    return whole("resamples", resamples, fewest, MOST_RESAMPLES), whole("seed", seed)
