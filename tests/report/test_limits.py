"""What is said to be at most, or at least, a number is so: limits are rounded outward."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from experiments.random_solutions import interval
from experiments.rare_tails import interval as rare_interval
from ncsim.formatting import no_less, no_more
from ncsim.statistics.intervals import clopper_pearson
from ncsim.statistics.verdicts import verdict_on_members

SOURCE = Path(__file__).parents[2]
DUST = Fraction(1, 10**11)


@pytest.mark.parametrize("form", [".1g", ".2g", ".3g", ".0e", ".1e", ".0f", ".3f", ".1%"])
def test_limits_are_rounded_outward_and_by_less_than_a_unit(form):
    rng = np.random.default_rng(5)
    values = [*(10 ** rng.uniform(-7, 7, 300)), 1.0, 0.05, 999.99, 0.0996, 12.0, 0.5]
    for value in [*values, *(-np.array(values))]:
        up, down = (
            Fraction(text.rstrip("%")) / (100 if "%" in text else 1)
            for text in (no_less(value, form), no_more(value, form))
        )
        exact, near = Fraction(value), Fraction(format(value, form).rstrip("%")) / (100 if "%" in form else 1)
        slack = abs(exact) * DUST
        assert down - slack <= exact <= up + slack
        assert near in (up, down)  # the one of the two that is nearer
    assert no_less(0.05) == no_more(0.05) == "0.05"
    assert [no_less(float("nan")), no_less(float("inf")), no_less(0.0, ".3f")] == ["nan", "inf", "0.000"]
    assert no_less(1e-12, ".3f") == "0.000"  # rounding of a computation
    assert [float(no_less(size, form)) for size in (1e30, 1e300) for form in (".3f", ".2g")] == [1e30] * 2 + [1e300] * 2


@pytest.mark.parametrize("members", [15, 90, 300, 500, 512, 4_096, 100_000])
def test_no_upper_limit_is_said_to_be_smaller_than_it_is(members):
    none = clopper_pearson(0, members)
    said = [interval(none), rare_interval(none), verdict_on_members(none, none, none._replace(low=-1.0))]
    for text in said:
        (shown,) = re.findall(r"at most ([0-9.e-]+)", text)
        assert none.high <= float(shown) <= none.high * 1.1


def test_no_sentence_rounds_a_limit_to_the_nearest():
    rounded = re.compile(r"(at most|at least|up to|to within|within) \{[^{}]*:\.(?:[1-9][efg%]|0e)\}")
    files = [file for top in ("ncsim", "experiments") for file in (SOURCE / top).rglob("*.py")]
    assert len(files) > 200
    assert [f"{file.name}: {found[0]}" for file in files for found in rounded.finditer(file.read_text())] == []
