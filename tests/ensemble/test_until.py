"""A run that ends when a number is precise: its folder is that of a run of so many members, whatever stopped it on the way."""

import contextlib
import dataclasses
import errno
import html
import json
import math
import os
import shutil
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.fields import named_values
from ncsim.ensemble.job import Job
from ncsim.ensemble.until import _Stages
from ncsim.report.summary import summarise
from ncsim.report.until import ended as told_of_rule
from ncsim.report.watch import watch
from ncsim.report.write import printed
from ncsim.statistics import stopping
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.until import NUMBERS, Until
from ncsim.storage import parts as stored_parts
from ncsim.storage.checksums import sealed_json
from ncsim.storage.files import LocalStorage
from ncsim.storage.verify import verify
from ncsim.study import Study
from tests.ensemble.test_pool import Here
from tests.support.cases import first_fast
from tests.support.refusals import refused_command
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")


def grid(members):
    return ncsim.config_grid(learning_rate=[0.01, 0.05], members=members, steps=20, tasks=[FOUR_ROWS])


#: Needs a thousand members or so: looks at 48 in memory, then at whole parts, which have 64.
GRID = grid(5_000)
MEAN = "mean S +- 0.06"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(stored_parts, "PART_MEMBERS", (64, 64))
    monkeypatch.setattr(stopping, "PILOT", 48)


def files(folder):
    """All that is not made by a report, and what says where a rule has led."""
    others = ("until.json", ".lock", ".config.lock")
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in others]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that ended by the rule, and the files of a run that was asked for as many members."""
    place = tmp_path_factory.mktemp("until")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_parts, "PART_MEMBERS", (64, 64))
        patch.setattr(stopping, "PILOT", 48)
        run = ncsim.run_ensemble(GRID, out=place / "ended", executor="xla", until=MEAN)
        members = run.configs[0].members
        ncsim.run_ensemble(grid(members), out=place / "plain", executor="xla")
    return run, files(place / "plain")


def test_the_folder_is_that_of_a_run_of_so_many_members(ended):
    run, plain = ended
    assert 192 < run.configs[0].members < 5_000
    assert run.configs[0].members % 64
    assert files(run.path) == plain
    assert verify(run.path).right
    looks = run.until["looks"]
    assert [look["members"] for look in looks][:2] == [48, 192]
    assert len(looks) > 2
    assert not looks[-1]["members"] % 64
    assert run.until["stopped"] == "precise"


def test_the_report_says_why_it_ended_and_what_the_rule_states(ended):
    run, _ = ended
    summary = summarise(run)
    told = summary.numbers["until"]
    members = run.configs[0].members
    assert (told["until"], told["stopped"], told["members"], told["at_most"]) == (MEAN, "precise", members, 5_000)
    for interval, cell in zip(told["intervals"], summary.numbers["cells"], strict=True):
        assert interval["value"] == cell["protocols"][0]["mean_s"]["value"]
        assert interval["high"] - interval["value"] == pytest.approx(interval["reach"])
        assert interval["reach"] <= 0.06
    assert max(interval["reach"] for interval in told["intervals"]) > 0.05
    assert f"Stopped at {members:,} of at most 5,000 members, which are enough for {MEAN}." in printed(summary)


@pytest.mark.parametrize("value", [0.004, 0.996])
@pytest.mark.parametrize("number", NUMBERS)
def test_limits_of_the_rule_are_values_that_the_number_can_have(ended, number, value):
    """Probabilities end at 0 and 1, mean S at -4 and 4."""
    run, _ = ended
    scale = 8 if number.startswith("mean S") else 1
    least = -4 if scale == 8 else 0
    stored = run.until | {"until": f"{number} +- 0.01", "reach": [0.02 * scale] * 2}
    estimate = Estimate(least + scale * value, math.nan, math.nan, "", 0.95)
    for interval in told_of_rule(stored, run.configs, [{"cell": {}}] * 2, [estimate] * 2)["intervals"]:
        limits = [least + scale * max(value - 0.02, 0), least + scale * min(value + 0.02, 1)]
        assert [interval["low"], interval["high"]] == pytest.approx(limits)


class Stops:
    """Ends a run as Ctrl-C does when so many batches are done."""

    def __init__(self, batches):
        self.left = batches

    def start(self, members, steps):
        pass

    def advance(self, members, steps):
        if members:
            self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def close(self):
        pass


@pytest.mark.parametrize(("batches", "looks"), [(1, None), (4, 1), (20, 4)])
def test_a_run_that_was_stopped_goes_on_to_the_same_members(ended, tmp_path, batches, looks):
    """In the look in memory, after which nothing is on record; in the first that is stored; and at the end."""
    _, plain = ended
    with pytest.raises(KeyboardInterrupt):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN, progress=Stops(batches))
    if looks is None:
        assert not (tmp_path / "run").exists()
    else:
        assert len(json.loads((tmp_path / "run" / "until.json").read_text())["looks"]) == looks
    assert files(tmp_path / "run") != plain
    ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN)
    assert files(tmp_path / "run") == plain
    ncsim.run_ensemble(GRID, out=tmp_path / "run", until=MEAN, progress=Stops(0))  # nothing is left to train


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["--steps", "20", "--members", "40", "--until", "mean S +- 4", "--quiet"]
    error = refused_command(capsys, "ensemble", *words, "--out", str(tmp_path / "file" / "run"))
    assert "file/run: cannot be written to (Not a directory)" in error


class Rests(Exception):
    """A watcher goes on."""


@pytest.mark.parametrize("by_study", first_fast([True, False]))
def test_a_page_is_written_until_the_rule_ends_the_run(tmp_path, monkeypatch, by_study):
    """Between two stages none of the members is missing that the folder asks for, and the run has not ended."""
    folder, seen, told = tmp_path / "run", [], []
    reach = _Stages._reach

    def opened():
        return Study([folder, tmp_path / "other"], tmp_path / "study") if by_study else ncsim.open_run(folder)

    def sleep(seconds):
        raise Rests

    def looked_at(self, run):
        if run.location is not None:
            with pytest.raises(Rests):
                watch([str(folder)], opened, lambda missing, _: told.append(missing))
            seen.append(summarise(opened()))
        return reach(self, run)

    monkeypatch.setattr(os, "nice", lambda by: None)
    # Its own, since all others sleep as well, as who waits for a compiler.
    clock = types.SimpleNamespace(monotonic=time.monotonic, process_time=time.process_time, sleep=sleep)
    monkeypatch.setattr("ncsim.report.watch.time", clock)
    monkeypatch.setattr(_Stages, "_reach", looked_at)
    if by_study:
        other = ncsim.config_grid(learning_rate=[0.02], members=2, steps=20, tasks=[FOUR_ROWS])
        ncsim.run_ensemble(other, out=tmp_path / "other", executor="xla")
    ncsim.run_ensemble(GRID, out=folder, executor="xla", until=MEAN)
    assert len(seen) >= 3
    assert told == [0] * len(seen)
    for summary in seen:
        assert summary.numbers["members_missing"] == 0
        assert f"Not ended: members are still to be trained until {MEAN}." in printed(summary)
    assert "until_goes_on" not in summarise(watch([str(folder)], opened)).numbers


def test_members_that_were_trained_without_the_rule_end_it(tmp_path):
    """A run that the rule led, stopped and given all members without it, is complete, and so is one given more than the rule would."""
    with contextlib.suppress(KeyboardInterrupt):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN, progress=Stops(4))
    run = ncsim.open_run(tmp_path / "run")
    assert summarise(run).numbers["until_goes_on"] == [MEAN]
    for members in (run.configs[0].members + 1, 2_000):
        run = ncsim.run_ensemble(grid(members), out=tmp_path / "run")
        assert json.loads((tmp_path / "run" / "until.json").read_text()).get("stopped") is None
        assert run.missing() == 0
        assert "until_goes_on" not in summarise(run).numbers


def test_a_run_that_was_stopped_in_its_first_stage_and_given_more_without_the_rule_is_complete(tmp_path, monkeypatch):
    """It was "Not ended" for ever: the first stage had shown nothing yet, so that any number of members passed for its own."""
    monkeypatch.setattr(stopping, "PILOT", 64)  # a whole part, which the folder has
    with contextlib.suppress(KeyboardInterrupt):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN, progress=Stops(1))
    run = ncsim.open_run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "until.json").read_text())["looks"] == []
    assert summarise(run).numbers["until_goes_on"] == [MEAN]
    run = ncsim.run_ensemble(grid(100), out=tmp_path / "run")
    assert "until_goes_on" not in summarise(run).numbers
    # One that has more than the first stage before the rule is looked at with all of them.
    ncsim.run_ensemble(grid(128), out=tmp_path / "more", executor="xla")
    with contextlib.suppress(KeyboardInterrupt):
        ncsim.run_ensemble(GRID, out=tmp_path / "more", executor="xla", until="mean S +- 0.001", progress=Stops(1))
    assert json.loads((tmp_path / "more" / "until.json").read_text())["asked"] >= 128
    assert "until_goes_on" in summarise(ncsim.open_run(tmp_path / "more")).numbers


@pytest.mark.slow
def test_in_memory_it_is_the_same(ended):
    stored, _ = ended
    run = ncsim.run_ensemble(GRID, executor="xla", until=MEAN)
    assert (run.counts == stored.counts).all()
    assert run.until == stored.until
    assert "until" in summarise(run).numbers
    recorded = ncsim.run_ensemble(GRID, executor="xla", until=MEAN, recording=ncsim.Recording(points=2))
    assert (recorded.counts == stored.counts).all()
    assert recorded.until == stored.until


class Elsewhere(Here):
    """Does what it is handed in another folder, as workers do; what is handed says where the run is."""

    def submit(self, fn, /, *arguments):
        asked = arguments[0]
        assert Path(asked.out if isinstance(asked, Job) else asked.location).is_absolute()
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            return super().submit(fn, *arguments)


def test_a_pool_comes_to_the_same_members(ended, tmp_path, monkeypatch):
    _, plain = ended
    monkeypatch.chdir(tmp_path)
    ncsim.run_ensemble(GRID, out="run", executor="xla", until=MEAN, pool=Elsewhere(), devices=4)
    found = files(tmp_path / "run")
    parts = {name for name in plain if name.startswith("parts/")}
    assert {name: found[name] for name in parts} == {name: plain[name] for name in parts}
    assert set(found) == set(plain)


def test_a_torn_record_is_found_and_moved_aside(ended, tmp_path, capsys):
    run, _ = ended
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "until.json").write_bytes((copy / "until.json").read_bytes().replace(b"precise", b"members"))
    assert [finding.name for finding in verify(copy).findings] == ["until.json"]
    assert ncsim.open_run(copy).until is None
    main(["report", str(copy), "--repair"])
    assert "until.json: is torn" in capsys.readouterr().out
    assert verify(copy).right


def test_a_record_that_cannot_be_read_is_not_given_up(ended, tmp_path, monkeypatch, capsys):
    """The rule began anew, with other looks, and `--repair` moved the record aside as torn."""
    copy = Path(shutil.copytree(ended[0].path, tmp_path / "copy"))
    before, read = files(copy) | {"until": (copy / "until.json").read_bytes()}, LocalStorage.read

    def refused(self, name):
        if name == "until.json":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return read(self, name)

    monkeypatch.setattr(LocalStorage, "read", refused)
    with pytest.raises(ncsim.StoreError, match=r"until.json: cannot be read \(Permission denied\)$"):
        ncsim.run_ensemble(GRID, copy, executor="xla", until=MEAN)
    for ask in ("--verify", "--repair"):
        with pytest.raises(SystemExit) as exit_:
            main(["report", ask, str(copy)])
        assert exit_.value.code == 2
        assert "torn" not in capsys.readouterr().out
    assert files(copy) | {"until": (copy / "until.json").read_bytes()} == before


def test_a_named_cell_alone_is_asked():
    words = "mean S, learning_rate=0.05 +- 0.3"
    run = ncsim.run_ensemble(GRID, executor="xla", until=words)
    assert run.until["cells"] == [1]
    (interval,) = summarise(run).numbers["until"]["intervals"]
    assert interval["cell"] == {"learning_rate": 0.05}


def test_one_member_that_was_looked_at_is_one():
    stages = types.SimpleNamespace(until=Until.parse(MEAN), looks=[stopping.Look(1, (0.5,))])
    assert "+- 0.5 after 1 member; about " in _Stages._words(stages)


def test_a_look_that_is_not_precise_yet_is_not_said_to_be():
    """0.0604 was "+- 0.06", which is what was asked for, beside more members that are needed."""
    looks = [stopping.Look(1_000, (0.05, 0.0604))]
    assert "+- 0.06: +- 0.061 after 1,000 members; about 1,01" in _Stages._words(
        types.SimpleNamespace(until=Until.parse(MEAN), looks=looks)
    )


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        ((0.05, math.inf), "no number yet"),  # of one of two cells
        ((math.inf, math.inf), "no number yet"),
        ((1e9, 0.05), "more than any run has are needed"),  # 8 (1e9 / 0.06)^2 members, which is above 2^62
    ],
)
def test_a_look_says_what_it_does_not_know(reach, words):
    stages = types.SimpleNamespace(until=Until.parse(MEAN), looks=[stopping.Look(8, reach)])
    assert f"after 8 members; {words}" in _Stages._words(stages)


@pytest.mark.parametrize("words", [MEAN.replace("0.06", "0.3"), "mean S, learning_rate=0.05 +- 0.3"])
def test_cells_asked_for_in_another_order_keep_their_intervals(tmp_path, words):
    """Without the rule, and with it: what was seen of a cell is said of it and of no other."""

    def intervals(run):
        found = summarise(run).numbers["until"]["intervals"]
        return {each["cell"]["learning_rate"]: (each["value"], each["reach"]) for each in found}

    run = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=words)
    told, members = intervals(run), run.configs[0].members
    seen = dict(zip([GRID[cell].learning_rate for cell in run.until["cells"]], run.until["reach"], strict=True))
    assert {rate: reach for rate, (_, reach) in told.items()} == seen
    assert len(set(seen.values())) == len(seen)
    assert intervals(ncsim.run_ensemble(grid(members)[::-1], out=tmp_path / "run")) == told
    again = ncsim.run_ensemble(GRID[::-1], out=tmp_path / "run", until=words)
    assert again.configs[0].learning_rate == 0.05
    assert (again.configs[0].members, intervals(again)) == (members, told)


@pytest.mark.parametrize("words", [MEAN.replace("0.06", "0.3"), "mean S, learning_rate=0.05 +- 0.3"])
def test_cells_on_record_are_numbered_as_in_the_run_that_is_read(tmp_path, monkeypatch, words):
    """They were numbered as in the call that ended last; and a complete run was written to where its grid came in another order."""
    run = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=words)

    def seen(run):
        cells, until = [config.learning_rate for config in run.configs], run.until
        told = [until["reach"], *(look["reach"] for look in until["looks"])]
        return [{cells[cell]: reach for cell, reach in zip(until["cells"], each, strict=True)} for each in told]

    assert len(set(seen(run)[0].values())) == len(run.until["cells"])
    with monkeypatch.context() as patch:
        patch.setattr("ncsim.ensemble.until.write_until", None)
        turned = ncsim.run_ensemble(GRID[::-1], out=tmp_path / "run", until=words)
    assert seen(turned) == seen(run)
    begun_turned = ncsim.run_ensemble(GRID[::-1], out=tmp_path / "turned", executor="xla", until=words)
    assert seen(begun_turned) == seen(run)
    members = run.configs[0].members
    for cells in (grid(members + 64), grid(members + 128)[::-1]):
        longer = ncsim.run_ensemble(cells, out=tmp_path / "turned", executor="xla")
        assert (longer.configs[0], seen(longer)) == (cells[0], seen(run))
        assert seen(ncsim.open_run(tmp_path / "turned")) == seen(run)


def without(record, *names):
    """until.json as an earlier version wrote it, which knew nothing of these."""
    stored = json.loads(record.read_text())
    record.write_bytes(sealed_json({name: value for name, value in stored.items() if name not in (*names, "checksum")}))


def test_a_record_of_an_earlier_version_is_not_written_again(tmp_path, monkeypatch):
    """A folder that has ended is given also where it cannot be written to; its cells are those of config.json, in their order."""
    words = MEAN.replace("0.06", "0.3")
    run = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=words)
    seen, record = run.until["reach"], tmp_path / "run" / "until.json"
    assert len(set(seen)) == 2
    without(record, "fingerprints", "asked")
    before = record.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ncsim.ensemble.until.write_until", None)
        again = ncsim.run_ensemble(GRID, out=tmp_path / "run", until=words)
    assert again.configs == run.configs
    assert record.read_bytes() == before
    assert ncsim.run_ensemble(GRID[::-1], out=tmp_path / "run", until=words).until["reach"] == seen[::-1]


@pytest.mark.parametrize("named", [True, False])
def test_what_another_run_was_to_reach_says_nothing_of_this_one(tmp_path, named):
    """until.json is written before config.json: a kill in between leaves it alone, and the folder may be given to another run. A traceback
    said that its cell is not in list, or what was seen of the other ended this one."""
    words = MEAN.replace("0.06", "0.3")
    ncsim.run_ensemble(GRID, out=tmp_path / "other", executor="xla", until=words)
    record = tmp_path / "other" / "until.json"
    if not named:
        without(record, "fingerprints", "asked")
    (tmp_path / "run").mkdir()
    shutil.copy(record, tmp_path / "run")
    cells = [dataclasses.replace(cell, steps=30) for cell in GRID]
    run = ncsim.run_ensemble(cells, out=tmp_path / "run", executor="xla", until=words)
    assert run.until == ncsim.run_ensemble(cells, executor="xla", until=words).until
    if named:
        shutil.copy(record, tmp_path / "run")
        assert ncsim.open_run(tmp_path / "run").until is None
        assert "until" not in summarise(ncsim.open_run(tmp_path / "run")).numbers


def test_the_most_members_are_no_more(tmp_path):
    cells = grid(150)
    run = ncsim.run_ensemble(cells, out=tmp_path / "run", executor="xla", until="mean S +- 0.01")
    assert (run.configs[0].members, run.until["stopped"]) == (150, "members")
    assert "the most that were allowed, which are not enough for mean S +- 0.01" in printed(summarise(run))
    # More are allowed now: it goes on from what was seen.
    more = grid(200)
    again = ncsim.run_ensemble(more, out=tmp_path / "run", executor="xla", until="mean S +- 0.01")
    assert again.configs[0].members == 200
    # And without a rule it is a run of so many members as any other.
    plain = grid(300)
    assert "until" not in summarise(ncsim.run_ensemble(plain, out=tmp_path / "run", executor="xla")).numbers
    with pytest.raises(ncsim.StoreError, match="would leave some out"):
        ncsim.run_ensemble(cells, out=tmp_path / "run", until="mean S +- 0.01")


def test_a_folder_that_has_more_is_looked_at_whole(ended, tmp_path):
    plain = grid(300)
    ncsim.run_ensemble(plain, out=tmp_path / "run", executor="xla")
    run = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN)
    assert run.until["looks"][0]["members"] == 300
    assert run.configs[0].members >= 300


def test_a_cell_is_named_by_options_of_its_optimizer():
    """As a report names it: it was no such number, and no run could be until that cell is precise."""
    options = ["", "b1=0.5", "b1=0.5,b2=0.9", "b1=0.5, b2=0.9, eps=1e-7"]
    cells = ncsim.config_grid(optimizer="adam", optimizer_options=options, hidden=[2, 3])
    for config in cells:
        named = named_values({"optimizer_options": config.optimizer_options, "hidden": config.hidden})
        turned = named_values({"hidden": config.hidden, "optimizer_options": config.optimizer_options})
        for cell in (named, turned, f"{named}, best of 20 by loss", f"best of 20 by loss, {turned}"):
            until = Until.parse(f"mean S, {cell} +- 0.1")
            assert [cells[number] for number in until.cells(cells)] == [config]
            assert Until.parse(str(until)) == until
            assert until.number == ("mean S, best of 20 by loss" if "best" in cell else "mean S")


def test_names_are_read_with_any_spaces():
    assert Until.parse("p(s>2)+-.01") == Until("P(S > 2)", 0.01)
    assert Until.parse("Delta > 0, of members ± 1e-3") == Until("Delta > 0, of members", 0.001)
    assert Until.parse("solved 22 +/- 0.01").number == "solved, context 22"
    assert Until.parse("mean S, retry until solved, at most 100, hidden=3, loss=squared +- 0.1") == Until(
        "mean S, retry until solved, at most 100", 0.1, (("hidden", "3"), ("loss", "squared"))
    )
    for name in NUMBERS:
        assert Until.parse(str(Until(name, 0.25))) == Until(name, 0.25)
    for precision in (
        0.12345678,
        1e-7,
        1.0000001e-5,
        0.1 + 0.2,
        np.float64(0.12345678),
    ):  # a run is trained for what its words say
        assert Until.parse(str(Until("mean S", precision))).precision == precision


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("P(S > 2)", 'allowed: a number and how precise it is to be, as "P(S > 2) +- 0.002"'),
        ("P(S > 3) +- 0.1", "no such number; allowed: S > 2, of members; Delta > 0, of members; P(Delta > 0)"),
        ("P(Delta > 0), best of 20 by loss +- 0.1", "no such number"),
        ("P(S > 2), best of 7 by loss +- 0.1", "single shot, best of 20 by loss"),
        ("P(S > 2) +- 0", "allowed after +-: a number above 0, and at most 0.5"),
        ("P(S > 2) +- 0.6", "allowed after +-: a number above 0, and at most 0.5"),
        ("mean S +- 5", "at most 4"),
        ("mean S +- 1.2.3", "allowed after +-: a number"),
        ("mean S +- -1", "allowed"),
        ("mean S, steps=3 +- 0.1", "steps is not swept; allowed: fields that are swept: hidden"),
        ("mean S, hidden=4 +- 0.1", "no cell is so; allowed: hidden=2, 3"),
        ("mean S, hidden=3, hidden=2 +- 0.1", "allowed: a field once, and one value of it"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(capsys, words, problem):
    for command in ("ensemble", "plan"):
        line = refused_command(capsys, command, "--hidden", "2", "3", "--until", words)
        assert "--until: " in line
        assert problem in line


def test_no_share_is_trained_by_a_rule(capsys, tmp_path):
    for share in (["--shard", "1/2"], ["--distributed"]):
        line = refused_command(capsys, "ensemble", "--until", "mean S +- 0.1", *share, "--out", "run")
        assert f"--until: mean S +- 0.1 with {share[0]}; allowed: in one process, or with --cluster" in line
    with pytest.raises(ncsim.ConfigError, match=r"--until: mean S .* with --shard; allowed"):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", until="mean S +- 0.1", shard=(1, 2))
    with pytest.raises(ncsim.ConfigError, match="--until: 3; allowed"):
        ncsim.run_ensemble(GRID, until=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_trains_reports_and_prints_its_settings(capsys):
    words = ["--members", "900", "--steps", "20", "--until", "mean S +- 0.2", "--executor", "xla"]
    main(["ensemble", *words, "--print-config"])
    assert 'until = "mean S +- 0.2"' in capsys.readouterr().out
    main(["ensemble", *words, "--out", "run"])
    shown = capsys.readouterr()
    line = shown.out.splitlines()[0]
    assert line.startswith("Stopped at ")
    assert line in html.unescape(Path("run/report.html").read_text())
    assert json.loads(Path("run/summary.json").read_text())["until"]["until"] == "mean S +- 0.2"
    assert "mean S +- 0.2: +- " in shown.err
