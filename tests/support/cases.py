"""How much of a table of cases, or of a simulation, runs at which level.

`make test` runs what tells most per second, `.ci/run` also what is marked slow, and `make test-thorough`, before a release,
also what is marked thorough: the same questions with more cases and larger samples.
"""

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(cases: Iterable[Any], fast: int = 1, slow: int | None = None) -> list[Any]:
    """The cases of a parametrised test, the most unlike first: `fast` of them as they are, the next `slow` (None: all)
    marked slow, those that are left thorough. A tuple is a case of several values."""
    cases = list(cases)
    end = len(cases) if slow is None else fast + slow
    marks = [(pytest.mark.slow if n < end else pytest.mark.thorough) for n in range(fast, len(cases))]
    later = (case if isinstance(case, tuple) else (case,) for case in cases[fast:])
    return [*cases[:fast], *(pytest.param(*values, marks=mark) for values, mark in zip(later, marks, strict=True))]


def sizes(slow: int, thorough: int) -> list[Any]:
    """How many samples a simulation has in the slow tests, and how many before a release."""
    return [pytest.param(slow, marks=pytest.mark.slow), pytest.param(thorough, marks=pytest.mark.thorough)]
