"""What is said to be at most, or at least, a number is so: limits are rounded outward."""

import math
import re
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import ncsim
from experiments.random_solutions import interval
from experiments.rare_tails import interval as rare_interval
from ncsim.ensemble.until import _Stages
from ncsim.formatting import duration, no_less, no_more, share_text, significant, size, told_apart, two_apart
from ncsim.report.claims import Finding
from ncsim.report.scenarios import scenario_lines
from ncsim.report.sentences import context_rows, estimate, signalling_rows
from ncsim.report.summary import summarise
from ncsim.report.until import until_sentence
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.signalling_tests import SignallingTest
from ncsim.statistics.stopping import Look
from ncsim.statistics.undecided import UndecidedConventions
from ncsim.statistics.until import Until
from ncsim.statistics.verdicts import verdict_on_members
from tests.support.populations import records_of

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


def test_no_number_is_shown_as_a_bound_that_it_is_not():
    """An S of 2.00004 that is called above 2 is not 2.0000, and of 99,998 members of 100,000 it is not said that they are all."""
    for away in [*(10.0 ** np.arange(-8, -1)), *(10 ** np.random.default_rng(3).uniform(-8.9, -1, 300))]:
        for bound in (-1, 0, 1, 2, 100):
            for value in (bound - away, bound + away):
                shown = told_apart(value, 4, -1, 0, 1, 2, 100)
                assert float(shown) != bound
                assert abs(float(shown) - value) <= max(5e-5, 0.5 * away)
                assert (float(shown) > bound) == (value > bound)
        assert float(significant(1 - away)) < 1
    for dust in (0.0, 1e-16, -1e-16, 1e-10, -1e-10):
        assert [told_apart(dust, 4, 0), told_apart(2 + dust, 4, 2)] == ["0.0000", "2.0000"]
        assert significant(1 + dust) == "1.000"
    assert [told_apart(value, 4, 2) for value in (float("nan"), float("inf"))] == ["nan", "inf"]
    assert [told_apart(0.25, 2, 0, sign=True), told_apart(-2e-5, 2, 0, sign=True)] == ["+0.25", "-2e-05"]
    assert [share_text(1 - 1e-6, 2), share_text(1e-6, 2), share_text(1.0, 2)] == ["99.9999%", "1e-04%", "100.00%"]
    assert str(clopper_pearson(99_998, 100_000)) == "0.99998 [0.99993, 0.999998]"
    assert str(clopper_pearson(10_000, 10_000)) == "1.000 [0.9996, 1.000]"


def test_an_interval_by_a_rule_reaches_as_far_as_is_said():
    """0.00371 either way is not within 0.0037."""
    told = {"until": "mean S +- 0.1", "stopped": "precise", "members": 90, "at_most": 100}
    for reach, shown in ((0.00371, "0.0038"), (0.05, "0.05"), (0.0204, "0.021"), (0.1, "0.1")):
        interval = {"cell": {}, "reach": reach, "value": 1.25, "level": 0.95}
        assert f" +- {shown}, 95% by" in until_sentence(told | {"intervals": [interval]})
    # The value has the digits of how far it reaches, and three at least.
    for reach, shown in ((0.5, "0.123 +- 0.5"), (0.00371, "0.1235 +- 0.0038"), (1.2e-7, "0.12345679 +- 1.2e-07")):
        interval = {"cell": {}, "reach": reach, "value": 0.123456789, "level": 0.95}
        assert f" It is {shown}, 95% by" in until_sentence(told | {"intervals": [interval]})


def test_times_and_sizes_are_below_the_next_unit():
    """999,600 bytes were "1e+03 kB", and 59.97 seconds "60.0 s"."""
    for digits in range(18):
        for first in ("1", "9.994", "9.9951", "9.99999", "5.005"):
            number = float(f"{first}e{digits}")
            value, unit = size(number).split()
            assert re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?" if unit != "TB" else r"[0-9,]+(\.[0-9]{1,2})?", value)
            factor = 1000 ** ("B", "kB", "MB", "GB", "TB").index(unit)
            assert float(value.replace(",", "")) * factor == pytest.approx(number, rel=0.005)
    said = {59.94: "59.9 s", 59.95: "1:00 min", 60.4: "1:00 min", 3599.4: "59:59 min", 3599.6: "1:00:00"}
    said |= {172_799.4: "47:59:59", 172_799.6: "2.0 days", 1e8: "1,157.4 days"}
    assert {seconds: duration(seconds) for seconds in said} == said


def test_small_numbers_begin_where_three_decimals_end():
    assert [significant(value) for value in (4e-4, 4.99e-4, 5.01e-4, 6e-4, -6e-4)] == [
        "4e-04",
        "5e-04",
        "0.001",
        "0.001",
        "-0.001",
    ]
    assert [no_less(0.0), no_more(-0.0), no_less(0.0, ".1e"), no_less(0.0, ".1%")] == ["0", "0", "0.0e+00", "0.0%"]


def test_one_number_is_shown_alike_wherever_it_is_told():
    """Means of 100 members and 16 rows often end in a 5 that is rounded away. The last bit, which hangs on the order of a sum, must not
    decide how."""
    for half in (0.97375, 0.8775, 0.0625, 2.0625, -0.7875, 1.0005):
        near = [half, math.nextafter(half, 4), math.nextafter(half, -4), half + 4e-16, half - 4e-16]
        for decimals in (3, 4):
            assert len({told_apart(value, decimals) for value in near}) == 1
        assert len({significant(value) for value in near}) == 1
        assert len({share_text(value, 1) for value in near}) == 1
    for seed in range(8):
        rng = np.random.default_rng(seed)
        counts, loss = rng.multinomial(16, [0.1, 0.2, 0.1, 0.6], (100, 4)), rng.random((100, 4))
        (cell,) = summarise(Run([ncsim.EnsembleConfig(members=100)], [records_of(counts, loss)])).numbers["cells"]
        of_contexts, of_tests = context_rows(cell), signalling_rows(cell)
        beside = [(0, 1), (2, 3), (0, 2), (1, 3)]  # contexts in which A1, A2, B1 and B2 are answered
        told = [[of_contexts[n][2 if answer < 2 else 3] for n in two] for answer, two in enumerate(beside)]
        assert told == [row[1:3] for row in of_tests]
        means = [cell["protocols"][0]["mean_s"], cell["pooled"]["s"], cell["undecided"]["mean_s_as_they_fell"]]
        assert len({str(estimate(mean)).split()[0] for mean in means}) == 1


def test_a_gap_has_one_digit():
    """Not 0.99990: its last 0 is no digit that anybody asked for."""
    assert [significant(value) for value in (0.9999, 0.999904, 0.99996, 0.9996)] == [
        "0.9999",
        "0.9999",
        "0.99996",
        "0.9996",
    ]


def test_a_bound_with_more_decimals_is_told_apart_too():
    """2 sqrt 2 and what two accuracies have, which are no short decimals: 2.82843 was shown as Tsirelson's bound is."""
    generator = np.random.default_rng(4)
    for _ in range(500):
        bound = float(generator.choice([8**0.5, 6 * np.cos(np.pi / 6), generator.uniform(-1, 1)]))
        value = bound + float(generator.choice([-1, 1])) * 10 ** generator.uniform(-8.9, -2)
        shown = told_apart(value, 4, 2, bound)
        places = len(shown.partition(".")[2])
        assert shown != f"{bound:.{places}f}"
        assert abs(float(shown) - value) <= 0.5 * 10.0**-places * 1.0001
        assert places == 4 or f"{value:.4f}" == f"{bound:.4f}"
        assert told_apart(bound + 1e-12, 4, bound) == f"{bound:.4f}"
    assert told_apart(2.82843, 4, 2, 8**0.5) == "2.828430"
    assert two_apart((0.000032, 0.000034), 4) == ("0.000032", "0.000034")
    assert two_apart((0.971313, 0.971287), 4) == ("0.97131", "0.97129")
    assert two_apart((0.75, 0.75), 4) == ("0.7500", "0.7500")


def test_claims_are_told_apart_from_their_thresholds():
    """A claim that holds beside "0.500 [0.500, 0.501]" where more than 0.5 is asked for."""
    found = Finding("a claim", "single shot", Estimate(0.50041, 0.50004, 0.5008, "made up"), 0.5, "holds")
    assert found.words == "0.5004 [0.50004, 0.501]"
    assert found._replace(threshold=0.929).words == "0.500 [0.500, 0.501]"
    asked = found._replace(estimate=Estimate(0.92904, 0.92896, 0.93, "made up"), threshold=0.929, answer="open")
    assert asked.words == "0.92904 [0.92896, 0.930]"


def test_what_is_printed_of_tests_and_of_undecided_answers_is_told_apart():
    assert "0.99998 against 1.00000," in str(SignallingTest("A1", (0.99998, 1.0), math.nan, 0.01, 0.04, "made up"))
    assert "0.75002 against 0.75000" in str(SignallingTest("A1", (0.75002, 0.750001), 9.0, 1e-9, 4e-9, "made up"))
    one = Estimate(2.1, 2.0, 2.2, "made up")
    ranges = {"range_of_mean": (2.25, 2.5), "range_above_two": (2e-5, 0.99997)}
    found = UndecidedConventions(9, 0, 9, one, one, one, above_two=one, above_two_decided=one, tight=True, **ranges)
    assert str(found).splitlines()[-1] == "any answers            2.250 to 2.500            2e-05 to 0.99997"


def test_the_largest_value_of_a_member_is_told_apart_from_the_bounds_of_its_inequality():
    """With many rows a member may be above 2 by less than four digits show."""
    one = Estimate(1.5, 1.0, 2.0, "made up")._asdict()
    asked = {"name": "chained", "expression": "S", "classical": 2.0, "quantum": 8**0.5, "algebraic": 4.0}
    asked |= {"mean_of_accuracies": one, "protocols": []}
    tasks = {"name": "made up", "answers": [[], []]}
    for largest, shown in ((2.5, "2.5"), (2.00003, "2.00003"), (2.0, "2"), (1.99997, "1.99997"), (8**0.5, "2.828")):
        cell = {
            "cell": {},
            "members": 9,
            "whole": 9,
            "contexts": [],
            "inequalities": [asked | {"largest_of_a_member": largest}],
        }
        text = scenario_lines({"members_missing": 0, "tasks": tasks, "cells": [cell]})
        assert any(line.endswith(f"largest of a member {shown}") for line in text)


def test_progress_until_a_rule_says_no_smaller_reach():
    """0.0371 either way was told as +- 0.037, which it is not within."""
    stages = types.SimpleNamespace(looks=[Look(90, (0.0371, 0.02))], until=Until.parse("mean S +- 0.01"))
    assert "+- 0.038 after 90 members" in _Stages._words(stages)
