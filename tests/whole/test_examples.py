"""The examples in docstrings of what is public run, and print what stands there."""

import doctest
import importlib
import inspect
import re

import pytest

import ncsim

MODULES = sorted(set(ncsim._PUBLIC.values()))


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    result = doctest.testmod(importlib.import_module(f"ncsim.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples():
    found = [
        example
        for module in MODULES
        for test in doctest.DocTestFinder().find(importlib.import_module(f"ncsim.{module}"))
        for example in test.examples
    ]
    assert len(found) >= 10


PUBLIC = [(name, getattr(ncsim, name)) for name in ncsim.__all__]
FUNCTIONS = [(name, value) for name, value in PUBLIC if inspect.isfunction(inspect.unwrap(value))]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_every_argument_is_described(name, function):
    described = inspect.getdoc(function).partition("Args:\n")[2]
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^    {argument}: \S", described, re.MULTILINE), f"{name} does not say what {argument} is"
