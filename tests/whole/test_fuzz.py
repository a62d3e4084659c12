# ruff: noqa: PT017 - a property is about the error where there is one, and about the result where there is none
"""Thousands of made-up command lines, configs and damaged run folders: one clear line or a right result, nothing else.

The cases are the same in every run. `make test` has a few hundred of them, `make test-slow` the rest; each prints how
many there were.
"""

import contextlib
import io
import json
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import ncsim
from ncsim.cli import command as cli
from ncsim.config.ensemble import EnsembleConfig, field_specs, parse_optimizer_options
from ncsim.errors import ConfigError, StoreError
from ncsim.storage.checksums import UNSEALED, sealed
from ncsim.storage.verify import verify

# ------------------------------------------------------------------------------------------------------ command lines

OPTIONS = ["--" + name.replace("_", "-") for name, spec in field_specs().items() if "help" in spec]
# Not --distributed: it waits for other processes, and a process that has started JAX cannot meet them.
OTHERS = "--out --devices --executor --quiet --shard --cluster --json --verify --repair".split()
WORDS = (
    "0 1 2 3 -1 -0 64 65 1e400 -1e400 nan inf 0.01 1e-320 1_000 1,000 0x10 4294967295 4294967296 9223372036854775808 "
    "true false TRUE maybe adam sgd lamb adamm bce dense overlap float32 float64 binary sign uniform zeros auto xla 1/2 "
    "0/0 3/2 host:1 momentum=0.9 nesterov=true b1=nan =1 a=b,, -- - / . .. ../.. ~ $HOME \u0663 \u00b2 \ud800 \u2028 \x1b[31m \x7f"
).split(" ")
words = st.one_of(
    st.sampled_from([*WORDS, "", " ", "\n", "a\nb", "9" * 5_000, "x" * 500]),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)
flags = st.one_of(
    st.sampled_from(OPTIONS + OTHERS),
    st.sampled_from(OPTIONS).map(lambda flag: flag[:-1]),
    st.text(string.ascii_lowercase + "-=", max_size=10).map(lambda text: "--" + text),
)
options = st.lists(st.tuples(flags, st.lists(words, max_size=3)), max_size=4)


def ends(arguments):
    """How a command ends: its status and what it printed on standard error."""
    said, shown = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        try:
            cli.main(arguments)
        except SystemExit as ended:
            status = ended.code or 0
    return status, said.getvalue()


def check_refused(arguments):
    status, said = ends(arguments)
    if status == 0 and {"--help", "-h", "--version"} & {word.split("=")[0] for word in arguments}:
        return
    assert status == 2, (arguments, status)
    assert said.startswith("ncsim: error: "), said
    assert said.endswith("\n")
    assert len(said.splitlines()) == 1, said  # in the sense of Unicode, too
    assert len(said) < 2_000, len(said)


@pytest.mark.parametrize("cases", [60, pytest.param(1_500, marks=pytest.mark.slow)])
def test_command_lines(fuzz, cases, tmp_path):
    """A folder that cannot be made ends what is asked for rightly, after every option has been looked at."""
    (tmp_path / "file").write_text("")

    @fuzz(
        cases,
        command=st.sampled_from(["ensemble", "ensemble", "ensemble", "plan", "report", "ensembl", ""]),
        given=options,
    )
    def _(command, given):
        arguments = [command]
        for flag, values in given:
            arguments += [flag, *values]
        if command == "ensemble":
            arguments += ["--out", "file/run", "--executor", "xla"]
        if command == "plan":
            arguments += ["--executor", "nonsense"]
        if command == "report":
            arguments += ["file/run"]
        check_refused(arguments)


@pytest.mark.parametrize("cases", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_one_option_at_a_time(fuzz, cases, tmp_path):
    """What the parser gives is a config, or is refused with the option's name."""
    (tmp_path / "file").write_text("")

    @fuzz(cases, flag=st.sampled_from(OPTIONS), values=st.lists(words, min_size=1, max_size=3))
    def _(flag, values):
        values = [word for word in values if not word.startswith("-")] or ["1"]
        status, said = ends(["ensemble", flag, *values, "--out", "file/run"])
        assert status == 2
        assert len(said.splitlines()) == 1
        assert said.startswith((f"ncsim: error: {flag}: ", "ncsim: error: file/run: cannot be written to")) or flag in (
            "--first-member", "--hidden", "--shared", "--topology", "--optimizer", "--members",
        ), said  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- configs

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3), st.just(10**400),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.sampled_from(WORDS), st.complex_numbers(), st.just(np.float32(0.5)), st.just(np.int64(3)), st.just(np.zeros(2)),
)  # fmt: skip


@pytest.mark.parametrize("cases", [100, pytest.param(1_500, marks=pytest.mark.slow)])
def test_values_of_fields(fuzz, cases):
    @fuzz(cases, name=st.sampled_from(list(field_specs())), value=values)
    def _(name, value):
        try:
            config = EnsembleConfig(**{name: value})
        except ConfigError as error:
            assert "\n" not in str(error)
            return
        kept = getattr(config, name)
        assert kept == value
        assert type(kept) is field_specs()[name]["type"]


@pytest.mark.parametrize("cases", [60, pytest.param(700, marks=pytest.mark.slow)])
def test_optimizer_options(fuzz, cases):
    pairs = st.lists(st.one_of(st.text("ab1=,. \n-", max_size=8), st.sampled_from(WORDS)), max_size=4).map(",".join)

    @fuzz(cases, text=st.one_of(pairs, st.text(max_size=20)))
    def _(text):
        try:
            options = parse_optimizer_options(text)
        except ConfigError as error:
            assert "\n" not in str(error)
            return
        assert all(name.isidentifier() and np.isfinite(value) for name, value in options.items())


# --------------------------------------------------------------------------------------------------- runs that train

trained = {
    "learning_rate": st.one_of(st.sampled_from([1.2e-38, 1e-3, 1.0, 1e6, 1e38, 3.4e38]), st.floats(1e-9, 1e9)),
    "members": st.integers(1, 130),
    "first_member": st.sampled_from([0, 1, 63, 64, 2**31 - 1, 2**32 - 130]),
    "steps": st.integers(1, 12),
    "root_seed": st.sampled_from([0, 1, 2**31 - 1, 2**64 - 1]),
}


@pytest.mark.parametrize("cases", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_runs_that_train(fuzz, cases):
    """Whatever the numbers, a network is counted whole or has diverged, and trained again it is the same."""

    @fuzz(cases, fields=st.fixed_dictionaries(trained))
    def _(fields):
        config = EnsembleConfig(hidden=2, **fields)
        run = ncsim.run_ensemble(config, executor="xla")
        records = run.records()
        assert records.size == config.members
        assert records.member[0] == config.first_member
        totals = records.counts.sum(axis=2)
        assert np.array_equal(totals, np.where(records.diverged, 0, 16))
        last = EnsembleConfig(hidden=2, **fields | {"members": 1, "first_member": int(records.member[-1])})
        again = ncsim.run_ensemble(last, executor="xla").records()
        assert np.array_equal(again.counts[0], records.counts[-1])


# ------------------------------------------------------------------------------------------------------- run folders

STORED = EnsembleConfig(hidden=2, members=40, steps=3)
FILES = ["config.json", "config-copy.json", "parts/members-0000000000-40.parquet"]
places = st.floats(0, 1, exclude_max=True)
damage = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("overwrite"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("replace"), st.none(), st.binary(max_size=60)),
    st.tuples(st.just("remove"), st.none(), st.none()),
    st.tuples(st.just("swap"), st.none(), st.sampled_from(FILES)),
    st.tuples(st.just("folder"), st.none(), st.none()),
)


def damaged(folder, name, kind, place, what):
    path = folder / name
    content = path.read_bytes()
    at = int((place or 0) * len(content))
    if kind == "flip":
        content = content[:at] + bytes([content[at] ^ 1 << what]) + content[at + 1 :]
    elif kind == "cut":
        content = content[:at]
    elif kind == "insert":
        content = content[:at] + what + content[at:]
    elif kind == "overwrite":
        content = content[:at] + what + content[at + len(what) :]
    elif kind == "replace":
        content = what
    elif kind == "swap":
        content = (folder / what).read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "remove":
        path.write_bytes(content)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "run"
    run = ncsim.run_ensemble(STORED, folder, executor="xla")
    return folder, run.counts


@pytest.fixture
def copied(stored, tmp_path):
    """A function that gives a fresh copy of a small run folder, and its right counts."""

    def copy():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(stored[0], tmp_path / "run")
        return tmp_path / "run", stored[1]

    return copy


def check_right_or_refused(folder, counts):
    """Reading a folder gives its own counts, as far as they are there, or one line."""
    try:
        run = ncsim.open_run(folder)
        found = run.records()
    except (StoreError, ConfigError) as error:
        assert len(str(error).splitlines()) == 1, str(error)
        return False
    kept = found.member < 40
    assert kept.all()
    assert np.array_equal(found.joint, counts[found.member.astype(int)])
    return run.missing() == 0


@pytest.mark.parametrize("cases", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_damaged_files(fuzz, cases, copied):
    @fuzz(cases, name=st.sampled_from(FILES), harm=damage)
    def _(name, harm):
        folder, counts = copied()
        before = (folder / name).read_bytes()
        damaged(folder, name, *harm)
        path = folder / name
        changed = not path.is_file() or path.read_bytes() != before
        check_right_or_refused(folder, counts)
        try:
            right = verify(folder).right
        except StoreError as error:
            right = False
            assert len(str(error).splitlines()) == 1, str(error)
        assert right != changed, "what is damaged is found, and what is not is not"


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.integers(), st.floats(), st.text(max_size=6),
              st.sampled_from(["../../x", "/etc/passwd", "parts", "a/b", "\x00", "." * 300])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip


def places_in(value, path=()):
    """Every place in a JSON value, as a path of keys."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places_in(inner, (*path, key))


@pytest.mark.parametrize("cases", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_descriptions_that_say_something_else(fuzz, cases, copied, tmp_path):
    """config.json with a right checksum over wrong content: a path in it leads nowhere, a number in it misleads nobody."""

    @fuzz(cases, place=places, value=json_values, drop=st.booleans())
    def _(place, value, drop):
        folder, counts = copied()
        content = json.loads((folder / "config.json").read_text()) | {"checksum": UNSEALED}
        paths = [path for path in places_in(content) if path and path != ("checksum",)]
        *above, key = paths[int(place * len(paths))]
        inner = content
        for step in above:
            inner = inner[step]
        if drop and isinstance(inner, dict):
            del inner[key]
        else:
            inner[key] = value
        text = sealed(json.dumps(content).encode())
        for name in ("config.json", "config-copy.json"):
            (folder / name).write_bytes(text)
        check_right_or_refused(folder, counts)
        with contextlib.suppress(StoreError):
            verify(folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("cases", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_damaged_runs_are_repaired(fuzz, cases, copied):
    @fuzz(cases, name=st.sampled_from(FILES), harm=damage)
    def _(name, harm):
        folder, counts = copied()
        damaged(folder, name, *harm)
        status, said = ends(["report", "--repair", str(folder)])
        if harm[0] == "folder" and status == 2:  # whatever is in a folder is not ours to move
            assert said.splitlines()[-1].startswith("ncsim: error: ")
            assert "Traceback" not in said
            return
        assert status == 0, said
        assert np.array_equal(ncsim.open_run(folder).counts, counts)
        assert verify(folder).right


# ----------------------------------------------------------------------------------------------------------- sources


def test_nothing_runs_what_it_reads():
    """No pickle, no eval, no shell, no loader that runs what a file says."""
    import ast

    refused = {"eval", "exec", "compile", "__import__", "system", "popen"}
    loaders = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}
    for path in sorted(Path(ncsim.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not {name.split(".")[0] for name in names} & loaders, where
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else ""
                assert name not in refused, where
                if isinstance(called, ast.Attribute):
                    owner = called.value.id if isinstance(called.value, ast.Name) else ""
                    assert not (owner == "os" and called.attr in refused), where
                for keyword in node.keywords:
                    wrong = (
                        keyword.arg in ("allow_pickle", "shell") and getattr(keyword.value, "value", True) is not False
                    )
                    assert not wrong, where


def test_there_are_enough_cases():
    """Over `make test` and `make test-slow`, counted in the parametrisations above."""
    import re

    source = Path(__file__).read_text()
    cases = [
        int(number.replace("_", ""))
        for pair in re.findall(r"\[(\d+), pytest\.param\(([\d_]+)", source)
        for number in pair
    ]
    assert sum(cases) >= 5_000, cases
