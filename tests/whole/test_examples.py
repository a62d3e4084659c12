"""What is public says what it takes and gives, where it is from, and shows an example; the examples run and print what stands there."""

import dataclasses
import doctest
import functools
import importlib
import inspect
import re
import shutil
import sys
import types
import typing
from pathlib import Path

import pytest

import ncsim
import ncsim.text
from ncsim.config import ensemble
from ncsim.executors.devices import devices_to_use
from ncsim.text import config as text_config

FIXTURES = Path(__file__).parents[1] / "fixtures"
#: Folders that examples read, beside them: any model, adapter and run of a user's.
FOLDERS = {
    "tiny-bert": "tiny_bert",
    "tiny-adapter": "tiny_adapter",
    "grid-run": "stored_runs/grid",
    "recorded-run": "stored_runs/recorded",
    "text-run": "stored_runs/text",
}
#: What has no source because there is nothing to look up: errors, files, results as they are stored, grids, intervals as such.
NO_SOURCE = {
    *("ConfigError", "StoreError", "DataError", "open_run", "Run", "open_text_run", "TextRun"),
    *("config_grid", "merge_counts", "Estimate", "RunListener", "tracker"),
}
#: Examples that are checked for their syntax alone: training over a BERT compiles for minutes on two cores.
TOO_SLOW = {"run_text"}
#: Modules whose examples compile for many seconds.
COMPILE_LONG = {"ncsim.ensemble.networks", "ncsim.ensemble.reservoir", "ncsim.ensemble.separability"}
SOURCE = re.compile(r"arXiv:\d{4}\.\d{5}|\b(?:19|20)\d\d\b")


def public():
    """Every public function and class by its name. Values, such as PAPER_TASKS, have a comment in place of a docstring."""
    values = {name: getattr(package, name) for package in (ncsim, ncsim.text) for name in package.__all__}
    return {name: value for name, value in values.items() if inspect.isclass(value) or inspect.isroutine(value)}


def members(kind):
    """Public methods and properties of a class, as functions by name."""
    found = {}
    for name, value in vars(kind).items():
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, functools.cached_property):
            value = value.func
        value = getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(value):
            found[name] = value
    return found


def fields(kind):
    """Names of what a dataclass or a named tuple holds."""
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else kind._fields


def given(value):
    """The classes of ncsim that a function, or a method or a field of a class, gives."""
    sources = [value, *members(value).values()] if inspect.isclass(value) else [inspect.unwrap(value)]
    found, seen = set(), []
    for source in sources:
        spaces = vars(sys.modules[source.__module__])
        for name, kind in getattr(source, "__annotations__", {}).items():
            if inspect.isclass(source) or name == "return":
                words = kind.__forward_arg__ if isinstance(kind, typing.ForwardRef) else kind
                seen.append(eval(words, dict(spaces)) if isinstance(words, str) else words)
    while seen:
        kind = seen.pop()
        seen += typing.get_args(kind)
        if inspect.isclass(kind) and kind.__module__.startswith("ncsim.") and not isinstance(kind, types.GenericAlias):
            found.add(kind)
    return found


def documented():
    """What is public, and what it gives, and what that gives."""
    found = dict(public())
    waiting = list(found.values())
    while waiting:
        for kind in given(waiting.pop()):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                waiting.append(kind)
    return found


DOCUMENTED = dict(sorted(documented().items()))
FUNCTIONS = {name: value for name, value in DOCUMENTED.items() if not inspect.isclass(value)}
CLASSES = {name: value for name, value in DOCUMENTED.items() if inspect.isclass(value)}
METHODS = {f"{name}.{method}": value for name, kind in CLASSES.items() for method, value in members(kind).items()}
MODULES = sorted({inspect.unwrap(value).__module__ for value in DOCUMENTED.values()})


def section(text, title):
    """What a docstring has under a title."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    return found.group(1) if found else ""


def described(text, title):
    """The names that a docstring describes under a title, with the words of each."""
    entries = re.split(r"^    (\w+): ", section(text, title), flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in zip(entries[1::2], entries[2::2], strict=True)}


def examples(value):
    return doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


def skipped(example):
    return example.options.get(doctest.SKIP, False)


@pytest.fixture
def _folders(tmp_path):
    for name, source in FOLDERS.items():
        shutil.copytree(FIXTURES / source, tmp_path / name)


@pytest.mark.usefixtures("_folders")
@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=[pytest.mark.slow] if name in COMPILE_LONG else []) for name in MODULES]
)
def test_examples_run(module, monkeypatch):
    """Those of the reservoir on one device, since each has its programs compiled anew."""
    monkeypatch.setattr("ncsim.ensemble.reservoir_jobs.devices_to_use", lambda _: devices_to_use(1))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(module), optionflags=flags).failed == 0


def test_what_is_looked_at():
    """The walk over results finds those that no public name leads to directly."""
    assert {"MemberRecords", "Series", "SignallingTest", "DiscountedInequality", "StoredAdapter", "Task"} <= set(
        CLASSES
    )
    assert {"Run.batches", "LinearInequality.hybrid_bound", "NCnet.variables", "TextRun.missing"} <= set(METHODS)
    assert set(public()) >= NO_SOURCE | TOO_SLOW


def test_everything_has_an_example():
    for name in DOCUMENTED:
        found = examples(DOCUMENTED[name])
        assert found, f"{name} has no example"
        assert any(example.want for example in found), f"{name}: its example prints nothing"
        for example in found:
            compile(example.source, name, "single")
            assert not skipped(example) or name in TOO_SLOW, f"{name}: an example is not run"


def test_everything_has_a_source():
    for name in public().keys() - NO_SOURCE:
        assert SOURCE.search(inspect.getdoc(DOCUMENTED[name])), f"{name} does not say where it is from"


def test_every_argument_is_described():
    for name in FUNCTIONS | METHODS:
        value = (FUNCTIONS | METHODS)[name]
        text = inspect.getdoc(value) or ""
        arguments = [argument for argument in inspect.signature(value).parameters if argument not in ("self", "cls")]
        assert list(described(text, "Args")) == arguments, name
        assert text, f"{name} has no docstring"


def test_every_function_says_what_it_gives_and_raises():
    for name in FUNCTIONS:
        text = inspect.getdoc(FUNCTIONS[name])
        if inspect.signature(FUNCTIONS[name]).return_annotation not in (None, "None"):
            assert section(text, "Returns").strip(), f"{name} does not say what it gives"
        if inspect.signature(FUNCTIONS[name]).parameters:
            assert section(text, "Raises").strip(), f"{name} does not say what it raises"


def test_every_attribute_is_described():
    for name in CLASSES:
        kind = CLASSES[name]
        if issubclass(kind, tuple) or dataclasses.is_dataclass(kind):
            wanted = (
                [field for field in fields(kind) if field not in ("parent", "name")]
                if name == "NCnet"
                else fields(kind)
            )
            assert list(described(inspect.getdoc(kind), "Attributes"))[: len(wanted)] == list(wanted), name
        elif kind.__init__ is not kind.__mro__[1].__init__:
            assert section(inspect.getdoc(kind), "Attributes").strip(), name


def test_every_method_is_in_an_example():
    for method in METHODS:
        name, _, attribute = method.partition(".")
        code = "".join(example.source for value in (CLASSES[name], METHODS[method]) for example in examples(value))
        assert re.search(rf"\.{attribute}\b", code), f"no example of {name} uses {attribute}"


@pytest.mark.parametrize(
    ("config", "specs"),
    [(ncsim.EnsembleConfig, ensemble.field_specs()), (ncsim.text.TextConfig, text_config.field_specs())],
    ids=["EnsembleConfig", "TextConfig"],
)
def test_ranges_of_options_are_those_that_are_checked(config, specs):
    words = described(inspect.getdoc(config), "Attributes")
    for name, spec in specs.items():
        if spec["type"] is int:
            assert f"{spec['low']:,} to {spec['high']:,}" in words[name] or "likewise" in words[name], name
        elif spec["type"] is float:
            low, high = spec["low"], spec["high"]
            bound = (
                f"above {low:g}"
                if spec["open_low"]
                else f"{low:g} or above"
                if high == float("inf")
                else f"{low:g} to {high:g}"
            )
            assert bound in words[name] or "likewise" in words[name], name
        elif "choices" in spec and name != "optimizer":
            assert all(f'"{choice}"' in words[name] for choice in spec["choices"]), name
