"""Fields of a frozen config: kinds, bounds and help as metadata, and the check of a value against them."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import re
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import field
from fractions import Fraction
from typing import Any

from ncsim.errors import ConfigError, one_line
from ncsim.formatting import EMPTY

#: Words that are numbers. Digits may stand in groups of three as 1_000; a comma is how lists are written elsewhere, so that
#: "2,3" is none.
_WORDS = {
    int: re.compile(r"[+-]?([0-9]+|[1-9][0-9]{0,2}(_[0-9]{3})+)"),
    float: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}

#: Smallest and largest normal number.
FLOAT32_RANGE = (1.1754943508222875e-38, 3.4028234663852886e38)


def integer(default: int, low: int, high: int, text: str) -> Any:
    """A whole number from `low` to `high`."""
    return field(default=default, metadata={"type": int, "low": low, "high": high, "help": text})


def number(default: float, low: float, high: float, text: str, open_low: bool = True) -> Any:
    """A finite number from `low`, itself left out unless `open_low` is False, to `high`."""
    return field(
        default=default, metadata={"type": float, "low": low, "high": high, "open_low": open_low, "help": text}
    )


def choice(default: str, allowed: Sequence[str], text: str) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"type": str, "choices": tuple(allowed), "help": text})


def text(default: str, words: str) -> Any:
    """Any text."""
    return field(default=default, metadata={"type": str, "help": words})


def flag(default: bool, words: str) -> Any:
    """True or false."""
    return field(default=default, metadata={"type": bool, "help": words})


def option_name(name: str) -> str:
    """A field's name as the command line spells it."""
    return "--" + name.replace("_", "-")


def allowed_values(spec: Mapping[str, Any]) -> str:
    """What a field may be, in words for help and errors."""
    if spec["type"] is bool:
        return "true or false"
    if "choices" in spec:
        return ", ".join(spec["choices"])
    if spec["type"] is int:
        return f"a whole number from {spec['low']} to {spec['high']}"
    if spec["type"] is float:
        if math.isfinite(spec["high"]):
            return f"a number {'above' if spec['open_low'] else 'from'} {spec['low']:g} to {spec['high']:g}"
        return (
            f"a finite number above {spec['low']:g}"
            if spec["open_low"]
            else f"a finite number, {spec['low']:g} or above"
        )
    return "text of one line"


def checked(name: str, value: Any, spec: Mapping[str, Any], allowed: str | None = None) -> Any:
    """One field's value in its own type.

    Raises:
        ConfigError: of one line, with what is `allowed`.
    """
    error = ConfigError(f"{option_name(name)}: {shown(value)}; allowed: {allowed or allowed_values(spec)}")
    kind = spec["type"]
    if kind is bool:
        if not isinstance(value, bool):
            raise error
        return value
    if kind is int:
        whole = whole_number(value)
        if whole is None or not spec["low"] <= whole <= spec["high"]:
            raise error
        return whole
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise error
        try:
            real = float(value) + 0.0  # -0.0 is 0.0, or one config would have two names
        except OverflowError:
            raise error from None
        outside = not spec["low"] <= real <= spec["high"] or (spec["open_low"] and real == spec["low"])
        if not math.isfinite(real) or outside:
            raise error
        return real
    if not isinstance(value, kind) or ("choices" in spec and value not in spec["choices"]):
        raise error
    return str(value) if kind is str else value


def lost_in_float32(option: str, value: float) -> str | None:
    """What is wrong with a number that would be 0 or infinite in float32, in words; None where it is there, and of 0."""
    low, high = FLOAT32_RANGE
    lost = value and not low <= abs(value) <= high
    return f"{option}: {value:g}; allowed in float32: {low:g} to {high:g}" if lost else None


def whole_number(value: Any) -> int | None:
    """A value that is a whole number, also one of NumPy's, as an int; None for any other: True, 2.0, "2"."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def list_of(values: Any, otherwise: list[Any]) -> list[Any]:
    """What a list, an array or the like holds, in order, and `otherwise` where a value is none: a word is one value and no list of
    letters, bytes are no numbers, a set has no order, and an array without axes has no length."""
    several = isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Set | Mapping)
    return list(values) if several and getattr(values, "ndim", None) != 0 else otherwise


def parsed(name: str, kind: type, word: str, allowed: str, several: bool = False) -> Any:
    """One word of the command line as a field's type; what it does not fit is left for the config to refuse.

    Raises:
        ConfigError: the word is none of that type, with what is `allowed`, and how `several` are given where they may be.
    """
    try:
        return _read(kind, word)
    except (KeyError, ValueError):
        raise ConfigError(
            f"{option_name(name)}: {shown_word(word)}; allowed: {allowed}{of_commas(word) if several else ''}"
        ) from None


def _read(kind: type, word: str) -> Any:
    """A word as a value of this type. Raises KeyError or ValueError where it is none."""
    if kind is bool:
        return {"true": True, "false": False}[word.lower()]
    if kind in _WORDS and not _WORDS[kind].fullmatch(word):
        raise ValueError
    return kind(word)


def shown_word(word: str) -> str:
    """A word of the command line in an error: in quotes where nothing, or blanks at an end, could not be seen otherwise."""
    return one_line(word) if word and word == word.strip() else shown(word)


def of_commas(word: str) -> str:
    """What to say besides of a word with commas, of an option that takes several."""
    return "; several have spaces between them, not commas" if "," in word else ""


def count(option: str, word: str | None, largest: int = 4096, smallest: int = 1) -> int | None:
    """A word of the command line as a whole number, written as those of a config's fields, for options that are none; None where not
    given.

    Raises:
        ConfigError: it is none, or not from `smallest` to `largest`.
    """
    if word is None:
        return None
    with contextlib.suppress(ValueError):
        number: int = _read(int, word)
        if smallest <= number <= largest:
            return number
    raise ConfigError(f"{option}: {shown_word(word)}; allowed: a whole number from {smallest} to {largest}")


def spelled(value: Any) -> str:
    """A value as the command line takes it: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def spelled_one_or_all(value: Any) -> str:
    """A value, or several in a list or tuple, for a reader: what has no letters is in quotes."""
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(spelled(each) or EMPTY for each in values)


def spelled_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Values of fields for a reader: what has no letters is in quotes."""
    return {name: spelled(value) or EMPTY for name, value in values.items()}


def named_values(values: Mapping[str, Any]) -> str:
    """Values beside the names of their fields, as `--until` takes those of a cell.

    >>> named_values({"hidden": 3, "common_initialization": True, "optimizer_options": ""})
    'hidden=3, common_initialization=true, optimizer_options=""'
    """
    return ", ".join(f"{name}={value}" for name, value in spelled_values(values).items())


def shown(value: Any) -> str:
    """A value in an error of one line: bounded, and without line breaks."""
    try:
        text = re.sub(r"\s*\n\s*", " ", repr(value))  # of an array
    except ValueError:  # Python writes no whole number as long as this, alone or in a list
        return f"a number of more than {sys.get_int_max_str_digits()} digits"
    return text if len(text) <= 80 else text[:77] + "..."


def checked_audit(share: Any, seed: Any) -> None:
    """Raise a ConfigError where these are no share and seed of an audit."""
    is_number = isinstance(share, numbers.Real) and not isinstance(share, bool)
    if not is_number or not 0 < share <= 1:
        raise ConfigError(f"--audit: {shown(share)}; allowed: a share of the members, above 0 to 1, as 0.01")
    if (number := whole_number(seed)) is None or number < 0:
        raise ConfigError(f"--audit-seed: {shown(seed)}; allowed: a whole number from 0")


def part_of(share: Any, things: int) -> int:
    """How many of so many things a share is, rounded up. A share is what is written: 0.07 of 100 are 7, where floats have a hair more."""
    return math.ceil(Fraction(str(share)) * things)
