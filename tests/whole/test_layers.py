"""A unit imports only from units before it, so that each can be read without those above it (`tests/support/layers.py`)."""

import ast
import graphlib
import re

import pytest

from tests.support.layers import NEVER, PACKAGE, THIRD_PARTY, UNITS, heights, inner, modules, outer, unit, unit_imports

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 70


def test_every_unit_has_its_place():
    assert {unit(name) for name in modules()} == set(UNITS)


def test_imports_go_down():
    for name in modules():
        for target in inner(name):
            assert target in modules(), f"ncsim/{name} imports ncsim.{target}, which is no file"
            if unit(target) != unit(name):
                below = UNITS[: UNITS.index(unit(name))]
                assert unit(target) in below, f"{name} imports {target}, but {unit(target)} is not below {unit(name)}"
                assert unit(target) not in NEVER.get(unit(name), ()), f"{name} may not see {target}"


def test_third_parties_stay_where_they_belong():
    for name in modules():
        wrong = outer(name) - THIRD_PARTY.get(unit(name), set())
        assert not wrong, f"ncsim/{name} imports {wrong}"


def test_files_of_a_unit_do_not_import_each_other_in_a_circle():
    for each in UNITS:
        files = [name for name in modules() if unit(name) == each]
        heights({name: {target for target in inner(name) if unit(target) == each} - {name} for name in files})


def test_a_circle_would_be_seen():
    with pytest.raises(graphlib.CycleError):
        heights({"one": {"other"}, "other": {"one"}})


def test_units_stand_on_few_layers():
    assert max(heights(unit_imports()).values()) <= 9


def test_files_stay_about_one_thing():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, f"{path.name} has grown past {MOST_LINES} lines"


def test_functions_stay_short():
    long = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_the_design_page_has_every_unit():
    page = (PACKAGE.parent / "DESIGN.md").read_text()
    for each in UNITS:
        assert re.search(rf"^  {each}(\.py|/) ", page, re.MULTILINE), f"DESIGN.md's tree has no {each}"


@pytest.mark.parametrize("folder", ["ncsim", "tests", "experiments", "benchmarks"])
def test_programs_in_strings_import_files_that_are_there(folder):
    """Tests and benchmarks start processes with a program in a string, which no linter reads."""
    for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
        for target in re.findall(r"\b(?:from|import) ncsim\.([\w.]+\w)", path.read_text()):
            assert target in modules(), f"{path.name} imports ncsim.{target}, which is no file"
