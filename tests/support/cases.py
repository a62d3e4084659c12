"""Which cases of a table `make test` runs: the first ones, chosen as the most unlike; `make test-slow` runs the others."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(cases: Iterable[Any], fast: int = 1) -> list[Any]:
    """The cases of a parametrised test, those after the first `fast` marked slow. A tuple is a case of several values."""
    cases = list(cases)
    later = (case if isinstance(case, tuple) else (case,) for case in cases[fast:])
    return [*cases[:fast], *(pytest.param(*values, marks=pytest.mark.slow) for values in later)]
