"""The distribution is ncsim-jax and the import ncsim: on the public package index the name ncsim is another project's."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.statistics import compiled
from ncsim.storage.environment import environment

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("ncsim", "docs", "examples", "experiments", "benchmarks", "tests", "findings", ".ci", ".github")
ENDINGS = {".py", ".md", ".sh", ".toml", ".txt", ".cff", ".yml", ".yaml", ".ipynb", ".sbatch"}
#: What would fetch the other project: an install by that name, a requirement with extras, its version or its files.
FOREIGN = {
    "an install": re.compile(r"pip3? (?:install|download|wheel) [^\n`]*(?<![\w./-])ncsim(?![\w/.-])"),
    "a requirement": re.compile(r"(?<![\w./-])ncsim(?:\[[a-z0-9, ]+\]|\s*(?:==|>=|~=)\s*\d)"),
    "a look-up": re.compile(r"(?:version|distribution|metadata|requires|files)\(['\"]ncsim['\"]\)"),
}


def texts():
    """Every file of ours that somebody reads: pages, code with its messages, tests, and what make and CI run."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    found = [*ROOT.glob("*"), *inside]
    return [path for path in found if path.is_file() and (path.suffix in ENDINGS or path.name in ("Makefile", "run"))]


def sent_elsewhere(text):
    return [name for name, pattern in FOREIGN.items() if pattern.search(text)]


def test_nobody_is_sent_to_another_project():
    looked_at = [path for path in texts() if path != Path(__file__).resolve()]
    assert {"README.md", "Makefile", "run", "errors.py", "tpu_pod.sh"} <= {path.name for path in looked_at}
    found = {str(path.relative_to(ROOT)): sent_elsewhere(path.read_text()) for path in looked_at}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run `pip install ncsim` first", ["an install"]),
        ("pip install --upgrade 'ncsim[text]'", ["an install", "a requirement"]),
        ("it needs ncsim[cuda]", ["a requirement"]),
        ("ncsim==0.1.0", ["a requirement"]),
        ('importlib.metadata.version("ncsim")', ["a look-up"]),
        ("git clone ADDRESS ncsim && cd ncsim && pip install '.[text]'", []),
        ("pip install /tmp/ncsim/", []),
        ("ncsim-jax[text]", []),
    ],
)
def test_what_sends_elsewhere_is_seen(text, found):
    assert sent_elsewhere(text) == found


def test_the_name_is_ours():
    project = PROJECT["project"]
    assert project["name"] == "ncsim-jax"
    assert project["scripts"] == {"ncsim": "ncsim.cli:main"}
    # pip would take an extra of its own by any other name from the index.
    own = [word for words in project["optional-dependencies"].values() for word in words if word.startswith("ncsim")]
    assert own
    assert all(word.startswith("ncsim-jax[") for word in own)


def wanted_extras(text):
    """The extras that a text tells to install from a clone."""
    return {extra for found in re.findall(r"""['"]\.\[([a-z0-9,]+)\]""", text) for extra in found.split(",")}


def test_every_extra_that_is_named_exists():
    """pip only warns of another, and installs without it."""
    named = {path: wanted_extras(path.read_text()) for path in texts()}
    assert {"text", "tpu", "s3", "ray"} <= set.union(*named.values())
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert {str(path.relative_to(ROOT)): found - extras for path, found in named.items() if found - extras} == {}


def test_ray_comes_with_its_client():
    """Without it no cluster is reached from outside (`--cluster ray://HOST:PORT`)."""
    (wanted,) = PROJECT["project"]["optional-dependencies"]["ray"]
    assert wanted.startswith("ray[client]")


def test_the_version_is_in_one_place(capsys):
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ncsim.__version__"}
    # setuptools reads it without importing jax only where it is a plain word.
    tree = ast.parse((ROOT / "ncsim" / "__init__.py").read_text())
    words = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and target(node)]
    assert words == [ncsim.__version__]
    assert f"\nversion: {ncsim.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert environment()["versions"]["ncsim"] == ncsim.__version__
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"ncsim {ncsim.__version__}\n"


def target(node):
    return getattr(node.targets[0], "id", None) == "__version__"


def test_types_are_shipped():
    assert (ROOT / "ncsim" / "py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["ncsim"]
    for path in (ROOT / "ncsim").rglob("*.c"):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert path.name in PROJECT["tool"]["setuptools"]["package-data"][package]
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


@pytest.mark.skipif(compiled._library() is None, reason="there is no C compiler")
def test_files_beside_the_code_are_found_in_a_zip(tmp_path):
    """As of zipapp, pex, and clusters that send a package as one file."""
    with zipfile.ZipFile(tmp_path / "ncsim.zip", "w") as packed:
        for path in (ROOT / "ncsim").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                packed.write(path, path.relative_to(ROOT))
    script = (
        "import ncsim; from ncsim.report.page import render; from ncsim.statistics.compiled import _library\n"
        "assert '.zip' in ncsim.__file__ and _library() is not None\n"
        "render('base.html.j2', title='a zip', watching=None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(tmp_path / "ncsim.zip")}, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
