"""What the pages name is there: names of ncsim, and files and folders of the repository."""

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
#: A path begins with one of these, or is a file at the top.
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in (".git", ".venv", "build"))
PATH = re.compile(rf"(?:(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*{{}},-]*)")


def quoted(text):
    """What stands in backticks, and the lines of code blocks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*re.findall(r"`([^`]+)`", rest), *"\n".join(blocks).split("\n")]


def names(text):
    """Dotted names of ncsim, without a file's ending or an argument behind them."""
    return {name for words in quoted(text) for name in re.findall(r"(?<![\w./-])ncsim(?:\.[A-Za-z_]\w*)+", words)}


def paths(text):
    """Files and folders of the repository."""
    return {path.rstrip(".,") for words in quoted(text) for path in re.findall(rf"(?<![\w./:=-]){PATH.pattern}", words)}


def is_there(name):
    """Whether a dotted name leads to a module, or to something in one."""
    value = importlib.import_module("ncsim")
    for number, part in enumerate(name.split(".")[1:], start=2):
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(".".join(name.split(".")[:number]))
            except ImportError:
                return part in getattr(value, "__annotations__", {})
    return True


def parts_of_names(text):
    """Classes and constants with something of theirs, as `MEMBERS.layout`."""
    return {
        pair for words in quoted(text) for pair in re.findall(r"(?<![\w./-])([A-Z]\w+)\.([a-z_]\w*)(?![\w.]*/)", words)
    }


@functools.cache
def files_of_names():
    """The files of ncsim that define a class or a constant, by its name."""
    found = {}
    for path in sorted((ROOT / "ncsim").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names = (
                [node.name] if isinstance(node, ast.ClassDef) else [getattr(target, "id", None) for target in targets]
            )
            for name in filter(None, names):
                found.setdefault(name, []).append(path)
    return found


def has(name, part):
    """Whether something of this name has such a part, or its objects do; True of what is none of ncsim's, as `FILE.csv`."""
    files = files_of_names().get(name, [])
    for path in files:
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        of_objects = re.search(rf"^\s+(self\.{part} =|{part}:)", path.read_text(), re.MULTILINE)
        if of_objects or hasattr(getattr(module, name), part):
            return True
    return not files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parts_of_names_are_there(page):
    missing = [f"{name}.{part}" for name, part in sorted(parts_of_names(page.read_text())) if not has(name, part)]
    assert not missing, f"{page.name}: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_are_there(page):
    missing = [name for name in sorted(names(page.read_text())) if not is_there(name)]
    assert not missing, f"{page.name}: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_are_there(page):
    missing = [path for path in sorted(paths(page.read_text())) if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing, f"{page.name}: {missing}"


def test_the_tree_of_the_design_has_every_file_and_no_other():
    tree = (ROOT / "DESIGN.md").read_text().partition("## The tree")[2].split("```")[1]
    for package in (path.parent for path in sorted((ROOT / "ncsim").glob("*/__init__.py"))):
        (listed,) = re.findall(rf"^  {package.name}/ .*\n((?: {{10,}}.*\n)+)", tree, re.MULTILINE)
        names = set(re.findall(r"\w+(?:\.c)?", listed))
        files = {path.name.removesuffix(".py") for end in ("*.py", "*.c") for path in package.rglob(end)}
        folders = {path.name for path in package.rglob("*") if path.is_dir()}
        assert names - folders == files - {"__init__", "__main__"}, package.name
    top = set(re.findall(r"^  (\w+\.py) ", tree, re.MULTILINE))
    assert top == {path.name for path in (ROOT / "ncsim").glob("*.py")} - {"__init__.py"}


def test_what_is_missing_is_found():
    text = "See `Run.counts`, `Run.storage`, `Run.nothing`, `MEMBERS.layout`, `MEMBERS.flat`, `EnsembleConfig.hidden` and `FILE.csv`."
    assert [pair for pair in sorted(parts_of_names(text)) if not has(*pair)] == [
        ("MEMBERS", "flat"),
        ("Run", "nothing"),
    ]
    text = "See `ncsim.nothing`, `ncsim.Run.counts`, `ncsim.text.nothing`, `ncsim/nothing.py` and `ncsim/results.py`."
    assert [name for name in sorted(names(text)) if not is_there(name)] == ["ncsim.nothing", "ncsim.text.nothing"]
    assert [path for path in sorted(paths(text)) if not (ROOT / path).exists()] == ["ncsim/nothing.py"]
