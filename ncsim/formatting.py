"""Numbers as words: estimates, p-values, durations, sizes, tables of fixed width, and JSON."""

from __future__ import annotations

import decimal
import json
import math
from collections.abc import Sequence
from typing import Any


def json_text(value: Any, indent: int | None = 1) -> str:
    """A value as JSON, which knows neither NaN nor infinities: null.

    Args:
        value: dictionaries, lists, tuples, texts and numbers.
        indent: as of `json.dumps`.
    """
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def page_bytes(text: str) -> bytes:
    """A page or a file of words as UTF-8. Names of files may have bytes that are none, which stand there as on standard output: with
    backslashes."""
    return text.encode(errors="backslashreplace")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float) -> str:
    """A time in words, each number below where the next unit begins.

    >>> duration(7.25), duration(59.97), duration(3_599.6), duration(200_000)
    ('7.2 s', '1:00 min', '1:00:00', '2.3 days')
    """
    if float(text := f"{seconds:.1f}") < 60:
        return f"{text} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"
    return f"{hours / 24:,.1f} days"


def size(size: float) -> str:
    """Bytes in three digits, the number below 1,000 where there is a larger unit.

    >>> size(999), size(999_400), size(999_600), size(2.5e9), size(1.2345e15)
    ('999 B', '999 kB', '1 MB', '2.5 GB', '1,230 TB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if float(text := f"{size:.3g}") < 1000:
            return f"{text} {unit}"
        size /= 1000
    rounded = float(f"{size:.3g}")
    return f"{rounded:,.0f} TB" if rounded >= 1000 else f"{size:.3g} TB"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Columns of text under a header, as lines."""
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return [(indent + "  ".join(line)).rstrip() for line in lines]


def linear_text(terms: list[tuple[float, str]]) -> str:
    """`a + 2 b - c` from coefficients and names; terms that vanish to nine decimals are left out."""
    text = ""
    for coefficient, name in terms:
        if abs(coefficient) < 5e-10:
            continue
        size = rounded_text(abs(coefficient))
        sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
        text += f"{sign}{name}" if size == "1" else f"{sign}{size} {name}"
    return text or "0"


def rounded_text(value: float) -> str:
    """Up to six digits, without the rounding dust of a computation that should have ended in a whole number."""
    return f"{round(value, 9) + 0.0:.6g}"


#: Decimals of a number of which no float knows more: an exponent may say any.
MOST_DECIMALS = 400


def decimals_of(word: str) -> int:
    """How many decimals a number has as it is written, below 0 where it ends before the point.

    >>> [decimals_of(word) for word in ("0.250", "2.5e-3", "1e3", "7")]
    [3, 4, -3, 0]
    """
    digits, _, exponent = word.lower().partition("e")
    shift = min(max(float(exponent or 0), -MOST_DECIMALS), MOST_DECIMALS)
    return len(digits.strip().partition(".")[2].replace("_", "")) - int(shift)


#: How a value of no letters is shown, as optimizer options of which there are none.
EMPTY = '""'
#: A probability that is not above this is nothing but rounding.
NOTHING = 1e-9


def no_less(value: float, form: str = ".2g") -> str:
    """An upper limit in few digits, rounded up: what is at most 0.0362 is not at most 0.036.

    Args:
        value: the limit.
        form: a number of digits and "e", "f", "g" or "%", as of `format`. With "f", 1e-9 and less is nothing but rounding.

    >>> no_less(0.0362), no_less(0.05), no_less(0.0041, ".2f")
    ('0.037', '0.05', '0.01')
    """
    return _toward(value, form, decimal.ROUND_CEILING)


def no_more(value: float, form: str = ".2g") -> str:
    """A lower limit in few digits, rounded down, as `no_less`.

    >>> no_more(0.0368), no_more(0.05), no_more(0.99996, ".3f")
    ('0.036', '0.05', '0.999')
    """
    return _toward(value, form, decimal.ROUND_FLOOR)


def _toward(value: float, form: str, rounding: str) -> str:
    digits, kind = int(form[1:-1]), form[-1]
    if not math.isfinite(value) or (kind == "f" and abs(value) <= NOTHING):
        return format(value if not math.isfinite(value) else 0.0, form)
    known = decimal.Decimal(f"{value:.12g}")  # the digits behind are those of the computation
    last = {"e": known.adjusted() - digits, "g": known.adjusted() - max(digits, 1) + 1, "f": -digits, "%": -digits - 2}
    as_many = decimal.Context(prec=2 * MOST_DECIMALS)  # as a large number has before its point
    return format(float(known.quantize(decimal.Decimal(1).scaleb(last[kind]), rounding, as_many)) + 0.0, form)


def significant(value: float, *bounds: float) -> str:
    """Three decimals, or one digit where that would hide a small number, or how little a share is below 1. Below 1e-9 a probability
    is nothing.

    Args:
        value: the number.
        bounds: what else it is told apart from, as `told_apart`.

    >>> significant(0.97142), significant(0.00002), significant(0.99998), significant(1.0), significant(1.00002)
    ('0.971', '2e-05', '0.99998', '1.000', '1.000')
    >>> significant(0.50004), significant(0.50004, 0.5)
    ('0.500', '0.50004')
    """
    if NOTHING < abs(value) < 0.0005:
        return f"{value:.0e}"
    return told_apart(value, 3, *bounds, *([1] if value < 1 else []))


def told_apart(value: float, decimals: int, *bounds: float, sign: bool = False) -> str:
    """A number with so many decimals, and with more where they alone would make it look like a bound that it is not: one digit of
    what is between them. What is within 1e-9 of a bound is nothing but rounding.

    Args:
        value: the number.
        decimals: how many it has elsewhere.
        bounds: what words are decided by, as the 2 of S or the 0 of Delta. They may have more decimals, as 2 sqrt 2 has.
        sign: whether numbers above 0 have one, too.

    >>> told_apart(2.00004, 4, 2), told_apart(1.9996, 4, 2), told_apart(2.0, 4, 2), told_apart(-3e-6, 4, 0), told_apart(-1e-17, 4)
    ('2.00004', '1.9996', '2.0000', '-3e-06', '0.0000')
    >>> told_apart(2.82843, 4, 8**0.5), told_apart(0.97131, 3, 0.97129), told_apart(0.97129, 3, 0.97131)
    ('2.828430', '0.97131', '0.97129')
    """
    # The digits behind are those of a computation: 0.0625 and what is 1e-16 above it are one number, rounded alike.
    value = 0.0 if abs(value) <= NOTHING else float(f"{value:.12g}")
    form = "+" if sign else ""
    text = f"{value:{form}.{decimals}f}"
    alike = [
        bound for bound in bounds if abs(value - bound) > NOTHING and float(f"{bound:.{decimals}f}") == float(text)
    ]
    if not alike:
        return f"{float(text) + 0.0:{form}.{decimals}f}"  # no -0.0000
    bound = min(alike, key=lambda each: abs(value - each))
    if bound == 0:
        return f"{value:{form}.0e}"
    places = _places(abs(value - bound))
    places += f"{value:.{places}f}" == f"{bound:.{places}f}"  # of a bound that has digits behind, too
    return f"{value:{form}.{places}f}"


def two_apart(pair: Sequence[float], decimals: int) -> tuple[str, str]:
    """Two shares that are compared, neither of which looks like the other, or like 0 or 1, but where it is.

    >>> two_apart((0.97131, 0.97129), 3), two_apart((0.25, 0.25), 3), two_apart((1.0, 0.99996), 4)
    (('0.97131', '0.97129'), ('0.250', '0.250'), ('1.00000', '0.99996'))
    """
    one, other = pair
    return told_apart(one, decimals, 0, 1, other), told_apart(other, decimals, 0, 1, one)


def _places(gap: float) -> int:
    """Decimals of which the last is the one digit of a small gap."""
    return -int(f"{gap:.0e}".partition("e")[2])


def share_text(share: float, decimals: int) -> str:
    """A share in percent, of which neither 0 % nor 100 % is said but where it is all or nothing.

    >>> share_text(0.99998, 2), share_text(1.0, 2), share_text(4e-6, 2), share_text(0.0, 2), share_text(0.1234, 1)
    ('99.998%', '100.00%', '4e-04%', '0.00%', '12.3%')
    """
    return f"{told_apart(100 * share, decimals, 0, 100)}%"


def significant_limit(value: float) -> str:
    """An upper limit with the digits of `significant`, rounded up."""
    return no_less(value, ".0e" if NOTHING < abs(value) < 0.0005 else ".3f")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things.

    >>> counted(1, "member"), counted(2_000, "member"), counted(1, "member is", "members are")
    ('1 member', '2,000 members', '1 member is')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def to_be_trained(number: int, noun: str = "member", left: str = "trained") -> str:
    """That so many members, or others, are missing, or are there and something else is left to be done with them."""
    return f"Not complete: {counted(number, f'{noun} is', f'{noun}s are')} still to be {left}."


def p_value_text(p_value: float) -> str:
    """A p-value with two digits; "< 1e-300" where float64 has no digits left to tell it from 0.

    >>> p_value_text(0.0), p_value_text(0.04123), p_value_text(2e-15)
    ('< 1e-300', '0.041', '2e-15')
    """
    return "< 1e-300" if p_value < 1e-300 else f"{p_value:.2g}"


def p_value_of(name: str, p_value: float) -> str:
    """A p-value with its name and one sign between them.

    >>> p_value_of("p", 0.0), p_value_of("p", 0.04123)
    ('p < 1e-300', 'p = 0.041')
    """
    text = p_value_text(p_value)
    return f"{name} {text}" if text.startswith("<") else f"{name} = {text}"
