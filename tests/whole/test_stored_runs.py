"""Runs stored by the version before the modules moved (3e01d53) still open, verify, resume, are repaired and extended.

The folders, and what they are to become, were made by tests/fixtures/make_stored_runs.py. A training's bits hold for one kind
of processor and one set of versions. Tests named `..._to_the_same_bytes` compare them where both are as they were then, and
are skipped elsewhere, saying what differs. The tests beside them hold anywhere: what was stored stays as it is, bit for bit,
and what is new has the names, columns, keys and members that it had.
"""

import contextlib
import json
import re
import shutil
import sys
from pathlib import Path

import jax
import pyarrow.parquet
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.ensemble import kinds
from ncsim.storage.run_folder import RunFolder
from tests.whole.stored_runs import (
    FOLDER,
    SUMMARY,
    array_facts,
    differences,
    facts,
    files,
    here,
    sha256,
    trajectory_facts,
)

EXPECTED = json.loads((FOLDER / "expected.json").read_text())
RUNS = EXPECTED["runs"]
MADE_WITH, HERE = EXPECTED["made_with"], here()
NATIVE = (pytest.mark.slow, pytest.mark.skipif(HERE["compiler"] is None, reason="there is no C compiler"))
#: What trains: each kind has a program of its own, which takes seconds to compile.
LEVELS = {"native": NATIVE, "grid": pytest.mark.slow, "recorded": pytest.mark.slow}
ENSEMBLES = [pytest.param(kind, marks=LEVELS.get(kind, ())) for kind in RUNS if kind != "text"]
REPORTED = ["plain", "grid", "text"]


def open_text(path):
    """A text run from Python."""
    from ncsim.text import open_text_run

    return open_text_run(path)


def as_it_was_made(kind):
    """Skip a comparison of bits that other versions or processors do not promise."""
    found = differences(MADE_WITH, HERE, kind)
    if found:
        pytest.skip(f"bits are those of another machine or version: {'; '.join(found)}")


def described_anew(kind):
    """The descriptions of a run that has gone on here: they say so where that is not of the kind that began it."""
    other = kinds.differences(RunFolder.open(FOLDER / kind), None)  # versions, platform, settings
    return {"config.json", "config-copy.json"} if other else set()


def ended(*arguments):
    """The status with which the command ends."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code or 0
    return 0


def copied(kind, folder):
    """A run as it is stored, under its own name in a folder."""
    return Path(shutil.copytree(FOLDER / kind, folder / kind))


def configs(kind, members):
    """The cells of an ensemble, from the fields that it was made with."""
    return ncsim.config_grid(**RUNS[kind]["fields"], first_member=members[0], members=members[1])


def last_part(kind):
    """The last part of the last cell."""
    return max(name for name in RUNS[kind]["stored"] if name.startswith("parts/"))


def assert_bytes(path, expected):
    """Every expected file has the bits that it had, and there is no other."""
    found = {name: sha256(file) for name, file in files(path).items()}
    assert found == {name: each["sha256"] for name, each in expected.items()}


def assert_alike(path, expected, untouched):
    """Every expected file is there, and no other; some are untouched, and others as they were but for their values."""
    present = files(path)
    assert set(present) == set(expected)
    assert untouched < set(expected)
    for name, file in present.items():
        found, wanted = facts(file), expected[name]
        if name not in untouched:
            found, wanted = found | {"sha256": None}, wanted | {"sha256": None}
        assert found == wanted, name


# ------------------------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize("kind", RUNS)
def test_the_fixture_is_as_it_was_made(kind):
    """Else what fails below would say nothing of the code."""
    assert {name: facts(file) for name, file in files(FOLDER / kind).items()} == RUNS[kind]["stored"]


@pytest.mark.parametrize("kind", [kind for kind in RUNS if kind != "text"])
def test_opens_with_the_same_counts(kind, tmp_path):
    run = ncsim.open_run(copied(kind, tmp_path))
    expected = RUNS[kind]
    assert list(run.configs) == configs(kind, expected["members"])
    assert run.missing() == 0
    assert run.counts.sum(axis=-5).tolist() == expected["counts_of_all"]
    assert array_facts(run.counts) == expected["counts"]
    trajectories = [trajectory_facts(run.trajectories(cell)) for cell in range(len(run.configs))]
    assert trajectories == expected["trajectories"]
    assert all((each is not None) == (kind == "recorded") for each in trajectories)
    first, number = expected["members"]
    members = run.table()["member"].to_pylist()
    assert members == [*range(first, first + number)] * len(run.configs)


def test_a_text_run_opens_with_the_same_counts(tmp_path):
    run = open_text(copied("text", tmp_path))
    assert run.missing() == 0
    assert run.counts.tolist() == RUNS["text"]["counts_of_all"]
    assert array_facts(run.counts) == RUNS["text"]["counts"]
    assert run.config.ranks == (2,)


@pytest.mark.parametrize("kind", [kind for kind in RUNS if kind != "text"])
def test_verifies(kind, tmp_path, capsys):
    path = copied(kind, tmp_path)
    assert ended("report", "--verify", path) == 0
    assert capsys.readouterr().out.endswith(": whole; nothing is missing or wrong\n")
    assert_bytes(path, RUNS[kind]["stored"])


@pytest.fixture(scope="module", autouse=True)
def _figures_are_empty():
    """Drawing them takes most of a report's time, and nothing here looks at them."""

    def saved(self, path, *_, **__):
        if hasattr(path, "write"):
            path.write("<svg></svg>")
        else:
            Path(path).write_bytes(b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", saved)
        yield


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The summaries of all kinds, from `ncsim report` in the folder above the runs, where it was given then."""
    folder = tmp_path_factory.mktemp("reported")
    with contextlib.chdir(folder):
        for kind in REPORTED:
            copied(kind, folder)
            Path(kind, SUMMARY).unlink()
            assert ended("report", kind) == 0
    return folder


@pytest.mark.parametrize("kind", REPORTED)
def test_reports_the_same(kind, reported):
    """Up to rounding, which is another where NumPy or SciPy adds up in another order."""
    found, expected = (json.loads((folder / kind / SUMMARY).read_text()) for folder in (reported, FOLDER))
    assert_near(found, expected, "summary")
    assert_bytes(reported / kind, RUNS[kind]["stored"])


@pytest.mark.parametrize("kind", REPORTED)
def test_reports_to_the_same_bytes(kind, reported):
    as_it_was_made("report")
    assert (reported / kind / SUMMARY).read_bytes() == (FOLDER / kind / SUMMARY).read_bytes()


def assert_near(found, expected, place):
    """The same keys in the same order and the same values, numbers up to rounding."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for name, value in expected.items():
            assert_near(found[name], value, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_near(found[number], value, f"{place}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9), place
    else:
        assert found == expected, place


# ------------------------------------------------------------------------------------------------- what goes on


class Runs:
    """What becomes of a copy of each kind, made when a test first asks for it."""

    def __init__(self, folder, change):
        self._folder, self._change, self._made = folder, change, {}

    def __call__(self, kind):
        if kind not in self._made:
            self._made[kind] = copied(kind, self._folder)
            self._change(kind, self._made[kind])
        return self._made[kind]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The last part is gone, and where the run records what was recorded of it; the same run is asked for again."""

    def change(kind, path):
        lost = [last_part(kind), *([last_part(kind).replace("parts", "trajectories")] if kind == "recorded" else [])]
        for name in lost:
            (path / name).unlink()
        assert ncsim.open_run(path).missing() == RUNS[kind]["stored"][lost[0]]["rows"]
        # The executor and the steps to record are those on record.
        ncsim.run_ensemble(configs(kind, RUNS[kind]["members"]), out=path)

    return Runs(tmp_path_factory.mktemp("resumed"), change)


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    """A bit of the last part is flipped, found, and put right."""

    def change(kind, path):
        damaged = path / last_part(kind)
        content = bytearray(damaged.read_bytes())
        content[len(content) // 3] ^= 4
        damaged.write_bytes(content)
        assert ended("report", "--verify", path) == 1
        assert ended("report", "--repair", path) == 0
        assert (path / "rejected" / last_part(kind)).read_bytes() == content
        assert ended("report", "--verify", path) == 0

    return Runs(tmp_path_factory.mktemp("repaired"), change)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """More members are asked for, before and after those that are stored."""

    def change(kind, path):
        ncsim.run_ensemble(configs(kind, RUNS[kind]["more_members"]), out=path)

    return Runs(tmp_path_factory.mktemp("extended"), change)


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_resumes(kind, resumed):
    stored = RUNS[kind]["stored"]
    new = {name for name in stored if name.endswith(Path(last_part(kind)).name) and last_cell(kind, name)}
    assert_alike(resumed(kind), stored, set(stored) - new - described_anew(kind))
    assert ncsim.open_run(resumed(kind)).missing() == 0


def last_cell(kind, name):
    """Whether a part is of the cell that lost its last."""
    return Path(name).parent.name == Path(last_part(kind)).parent.name or kind == "recorded"


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_resumes_to_the_same_bytes(kind, resumed):
    as_it_was_made(kind)
    assert_bytes(resumed(kind), RUNS[kind]["stored"])


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_is_repaired(kind, repaired):
    stored = RUNS[kind]["stored"]
    new = {name for name in stored if name.endswith(Path(last_part(kind)).name) and last_cell(kind, name)}
    assert_alike(repaired(kind), stored, set(stored) - new - described_anew(kind))


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_is_repaired_to_the_same_bytes(kind, repaired):
    as_it_was_made(kind)
    assert_bytes(repaired(kind), RUNS[kind]["stored"])


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_is_extended(kind, extended):
    """Also the description, which says anew what the run is and with what it was extended."""
    path, old, new = extended(kind), RUNS[kind]["stored"], RUNS[kind]["new"]
    described = {"config.json", "config-copy.json"}
    present = {name: facts(file) for name, file in files(path).items() if name not in described}
    assert set(present) == (set(old) | set(new)) - described
    for name in set(old) - described:
        assert present[name] == old[name], name
    assert new
    for name, expected in new.items():
        assert present[name] | {"sha256": None} == expected | {"sha256": None}, name
    assert (path / "config.json").read_bytes() == (path / "config-copy.json").read_bytes()
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (FOLDER / kind, path))
    first, number = RUNS[kind]["more_members"]
    cells = [cell | {"first_member": first, "members": number} for cell in before["cells"]]
    assert list(after) == [*before, *(["later"] if described_anew(kind) else [])]
    assert (after["format"], after["swept"]) == (before["format"], before["swept"])
    assert after["cells"] == cells
    assert set(after["environment"]) == set(before["environment"])
    # Named by the fingerprints of the cells, which have to stay what they were.
    assert after["environment"]["executor"] == before["environment"]["executor"]
    run = ncsim.open_run(path)
    assert run.missing() == 0
    assert run.table()["member"].to_pylist() == [*range(first, first + number)] * len(cells)


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_is_extended_to_the_same_bytes(kind, extended):
    as_it_was_made(kind)
    new = RUNS[kind]["new"]
    found = {name: sha256(file) for name, file in files(extended(kind)).items() if name in new}
    assert found == {name: expected["sha256"] for name, expected in new.items()}


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_a_finished_run_is_left_alone(kind, tmp_path):
    path = copied(kind, tmp_path)
    before = {name: file.stat().st_mtime_ns for name, file in files(path).items()}
    ncsim.run_ensemble(configs(kind, RUNS[kind]["members"]), out=path, executor=RUNS[kind]["executor"])
    assert {name: file.stat().st_mtime_ns for name, file in files(path).items()} == before
    assert_bytes(path, RUNS[kind]["stored"])


def test_the_command_line_takes_up_the_same_run(tmp_path):
    """Its options come to the config that is stored: the folder is not refused, and nothing is trained."""
    path = copied("plain", tmp_path)
    fields = RUNS["plain"]["fields"] | dict(zip(("first_member", "members"), RUNS["plain"]["members"], strict=True))
    options = [str(word) for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", value)]
    before = {name: file.stat().st_mtime_ns for name, file in files(path).items()}
    assert ended("ensemble", *options, "--out", path, "--quiet") == 0
    assert {name: file.stat().st_mtime_ns for name, file in files(path).items()} == before
    assert_bytes(path, RUNS["plain"]["stored"])


@pytest.mark.parametrize("kind", ["plain"])
def test_another_config_is_refused(kind, tmp_path):
    """The fingerprints of configs tell runs apart as they did."""
    path = copied(kind, tmp_path)
    fields = RUNS[kind]["fields"] | {"root_seed": 1}
    with pytest.raises(ncsim.StoreError, match="holds another config's run"):
        ncsim.run_ensemble(ncsim.config_grid(**fields, first_member=100, members=180), out=path)
    assert_bytes(path, RUNS[kind]["stored"])


def test_lost_trajectories_are_recorded_again_to_the_same_bytes(tmp_path):
    """Not elsewhere: members that do not train to the bits that are stored have no trajectories to record."""
    as_it_was_made("recorded")
    path = copied("recorded", tmp_path)
    lost = max(name for name in RUNS["recorded"]["stored"] if name.startswith("trajectories/"))
    (path / lost).unlink()
    assert ended("report", "--verify", path) == 1
    assert ended("report", "--repair", path) == 0
    assert_bytes(path, RUNS["recorded"]["stored"])


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_every_file_is_under_watch(kind, tmp_path, capsys):
    """A flipped bit of any stored file is found, and named: of its content, and of the checksum that only ncsim looks at."""
    path = copied(kind, tmp_path)
    for name in RUNS[kind]["stored"]:
        whole = (path / name).read_bytes()
        for place in (len(whole) // 2, whole.index(b"sha256:") + 10):
            flipped = bytearray(whole)
            flipped[place] ^= 1
            (path / name).write_bytes(flipped)
            assert ended("report", "--verify", path) == 1
            assert re.search(f"^{re.escape(name)}: ", capsys.readouterr().out, re.MULTILINE)
        (path / name).write_bytes(whole)
    assert ended("report", "--verify", path) == 0


# ------------------------------------------------------------------------------------------------- text runs


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """A text run that lost a part and another group's adapter, once the same command was given again, and once more."""
    folder = tmp_path_factory.mktemp("completed")
    path = copied("text", folder)
    shutil.copytree(FOLDER / "text_inputs", folder / "text_inputs")
    (path / "parts" / "group-001.parquet").unlink()
    shutil.rmtree(path / "adapters" / "rank=2" / "seed=0" / "context=22")
    assert open_text(path).missing() == 2
    # The check of keys takes the gradient of a scan that draws a dropout mask for a second draw.
    with contextlib.chdir(folder), jax.debug_key_reuse(False):
        assert ended("text", *RUNS["text"]["options"]) == 0
        before = {name: file.stat().st_mtime_ns for name, file in files(path).items()}
        assert ended("text", *RUNS["text"]["options"]) == 0
    return path, before


@pytest.mark.slow
def test_a_text_run_is_completed(completed):
    """What was stored keeps its bytes. What is trained now is this version's: other masks of dropout, other rounding."""
    path, _ = completed
    stored = RUNS["text"]["stored"]
    new = {name for name in stored if name in ("parts/group-001.parquet", "parts/group-003.parquet")}
    new |= {name for name in stored if re.search(r"context=(12|22)/.*safetensors", name)}
    assert_alike(path, stored, set(stored) - new)
    assert open_text(path).missing() == 0


@pytest.mark.slow
def test_a_finished_text_run_is_left_alone(completed):
    path, before = completed
    assert {name: file.stat().st_mtime_ns for name, file in files(path).items()} == before


# ------------------------------------------------------------------------------------------------- the public faces


@pytest.mark.parametrize("name", sorted(file.stem for file in (FOLDER / "help").iterdir()))
def test_help_is_the_same(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("NCSIM_DATA", raising=False)
    assert ended(*name.split("-")[1:], "--help") == 0
    found, expected = capsys.readouterr().out, (FOLDER / "help" / f"{name}.txt").read_text()
    if MADE_WITH["python"].split(".")[:2] == list(map(str, sys.version_info[:2])):
        assert found == expected
    else:  # another argparse may break lines elsewhere
        assert found.split() == expected.split()


def test_public_names_stay():
    assert set(EXPECTED["public_names"]) <= set(dir(ncsim))
    for name in EXPECTED["public_names"]:
        getattr(ncsim, name)


def test_what_differs_is_seen():
    """That bytes are compared at all where they can be: the facts of the machine that made the fixture differ in nothing."""
    for kind in ("ensemble", "native", "text", "report"):
        assert differences(MADE_WITH, MADE_WITH, kind) == []
    other = MADE_WITH | {"versions": MADE_WITH["versions"] | {"jaxlib": "0.1"}, "instructions": []}
    assert differences(MADE_WITH, other, "plain") == [
        "instructions",
        f"jaxlib {MADE_WITH['versions']['jaxlib']}, here 0.1",
    ]


def test_other_readers_read_the_parts():
    """A part is a table to any reader of Parquet; a grid's folders are hive partitions."""
    table = pyarrow.parquet.read_table(FOLDER / "grid" / "parts", partitioning="hive")
    assert sorted(set(map(float, table["learning_rate"].to_pylist()))) == RUNS["grid"]["fields"]["learning_rate"]
    assert table.num_rows == 2 * RUNS["grid"]["members"][1]
