"""Arguments of public functions: what is no number, no flag or no count is refused in one line, before anything is computed."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real
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
        # Objects are Python's own numbers, as 10**30 and fractions; float64 would make NaN of None, and numbers of words.
        if array.dtype.kind not in "USMmc" and (array.dtype != object or all(map(_is_real, array.ravel().tolist()))):
            return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name}: {shown(values)}; allowed: real numbers")


def below_infinity(name: str, values: Any) -> np.ndarray:
    """Logarithms of what may be 0: real numbers below infinity, and no NaN. Raises ValueError."""
    array = numbers(name, values)
    if not (array < np.inf).all():
        raise ValueError(f"{name}: {shown(values)}; allowed: real numbers below infinity")
    return array


def _is_real(value: Any) -> bool:
    return isinstance(value, Real | Decimal)


def check_real(name: str, values: Any) -> None:
    """Refuse what `numbers` refuses, without a copy; of what JAX is tracing nothing but the type is known. Raises ValueError."""
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind == "O":
        numbers(name, values)
    elif kind in "USMmc":
        raise ValueError(f"{name}: {shown(values)}; allowed: real numbers")


def one_number(name: str, value: Any, allowed: str = "a number") -> float:
    """One real number, of Python, NumPy or JAX.

    Raises:
        ValueError: anything else, also true and false.
    """
    try:
        array = numbers(name, value)
        if not array.ndim and np.asarray(value).dtype.kind != "b":
            return float(array)
    except ValueError:
        pass
    raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")


def finite(name: str, value: Any, above: float = -math.inf) -> float:
    """One finite number `above` a number. Raises ValueError."""
    allowed = "a finite number" + ("" if math.isinf(above) else f" above {above:g}")
    number = one_number(name, value, allowed)
    if not above < number < math.inf:
        raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")
    return number


def checked_level(level: Any, least: float = 0.0) -> float:
    """The probability of an interval, above `least` and below 1. Raises ValueError."""
    allowed = f"between {least:g} and 1"
    number = one_number("level", level, allowed)
    if not least < number < 1:
        raise ValueError(f"level: {level}; allowed: {allowed}")
    return number


#: What a function of an inequality takes.
AN_INEQUALITY = "an inequality, as of ncsim.chsh_inequality()"


def check_kind(name: str, value: Any, kind: type, allowed: str) -> None:
    """Refuse what is of another class than a function works on. Raises ValueError."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")


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
