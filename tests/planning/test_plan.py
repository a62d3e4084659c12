"""What is forecast, beside what a run then takes."""

import dataclasses
import json
import re
import time
import types

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.ensemble import config_grid, network_steps, program_of
from ncsim.ensemble.run import forget_programs, run_ensemble
from ncsim.executors.native import observed, whole
from ncsim.planning import plan
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from tests.executors.test_native import FOUR_ROWS, RUNS_HERE
from tests.support.cases import first_fast
from tests.support.folders import parts_of

TINY = config_grid(hidden=2, learning_rate=[0.01, 0.1], members=600, steps=[50, 200])


@pytest.fixture(scope="module")
def tiny():
    return plan.forecast(TINY, executor="xla", report=False)


def test_a_place_that_no_run_can_have_has_no_forecast(tmp_path):
    """A file, or a folder in one: the plan said how much disk is free there, and the run was refused."""
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "run"):
        for refused in (plan.forecast, lambda config, out: run_ensemble(config, out=out)):
            with pytest.raises(
                ncsim.StoreError, match=f"^{re.escape(str(place))}: cannot be written to .Not a directory.$"
            ):
                refused(TINY, place)


@pytest.mark.slow
def test_a_tiny_run_takes_what_was_forecast(tiny, tmp_path):
    forget_programs()
    begun = time.perf_counter()
    run_ensemble(TINY, tmp_path / "run", executor="xla")
    seconds = time.perf_counter() - begun
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert tiny.disk_bytes == pytest.approx(stored, rel=0.2)
    # Others may use the machine now and not then: the slow test, and benchmarks/plan.py, are closer.
    assert tiny.run_seconds / 4 < seconds < tiny.run_seconds * 4
    assert [cell.parts for cell in tiny.cells] == [1, 1, 1, 1]
    assert [cell.network_steps for cell in tiny.cells] == [600 * network_steps(config) for config in TINY]
    assert [cell.compile_seconds > 0 for cell in tiny.cells] == [True, False, False, False]
    assert 2e8 < tiny.peak_memory_bytes < 4e9


@pytest.mark.thorough
def test_what_is_recorded_is_forecast(tmp_path):
    configs, recording = config_grid(hidden=2, members=300, steps=[40, 60]), ncsim.Recording(points=9)
    found = plan.forecast(configs, executor="xla", report=False, recording=recording)
    run_ensemble(configs, tmp_path / "run", executor="xla", recording=recording)
    stored = [path.stat().st_size for path in tmp_path.rglob("*.parquet")]
    assert found.disk_bytes == pytest.approx(sum(stored), rel=0.2)
    assert sum(cell.parts for cell in found.cells) == len(parts_of(tmp_path)) == 4


@pytest.mark.skipif(not RUNS_HERE, reason="there is no C compiler")
@pytest.mark.parametrize("recording", first_fast([None, ncsim.Recording(points=2)], 0, slow=1))
def test_few_are_calibrated_as_the_many_that_will_be_trained(monkeypatch, recording):
    """Many are drawn and recorded in C, which a few are not: at 20 steps that is half of their time."""
    made = []
    monkeypatch.setattr(whole, "MANY", 20_000)
    monkeypatch.setattr(observed, "MANY", 40_000)
    program = whole.program
    monkeypatch.setattr(whole, "program", lambda *given: made.append(given[-1]) or program(*given))
    config = ncsim.EnsembleConfig(hidden=1, members=20_000, steps=3, tasks=FOUR_ROWS)
    plan.forecast([config], executor="native", report=False, recording=recording)
    assert made
    assert set(made) == {None if recording is None else 2}
    made.clear()
    plan.forecast([dataclasses.replace(config, members=19_999)], executor="native", report=False, recording=recording)
    assert not made


@pytest.mark.thorough
def test_a_stored_run_goes_on_recording_and_the_forecast_knows_it(tmp_path):
    configs, recording = config_grid(hidden=2, members=300, steps=[40, 60]), ncsim.Recording(points=9)
    run_ensemble(configs, tmp_path / "run", executor="xla", recording=recording)
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    more = [dataclasses.replace(config, members=400) for config in configs]
    again = plan.forecast(more, tmp_path / "run", executor="xla", report=False)
    assert [cell.members for cell in again.cells] == [100, 100]
    assert again.disk_bytes == pytest.approx(stored / 3, rel=0.35)


def test_it_is_told_in_words_and_as_data(tiny):
    lines = tiny.lines()
    assert lines[0].split()[:4] == ["steps", "learning_rate", "members", "network-steps"]
    assert any(line.startswith("Time: ") and "report" in line for line in lines)
    short_of_disk = dataclasses.replace(tiny, free_disk_bytes=10.0)
    assert any("Not enough disk" in line for line in short_of_disk.lines())
    numbers = json.loads(json.dumps(tiny.numbers()))
    assert len(numbers["cells"]) == 4
    assert numbers["total_seconds"] == pytest.approx(tiny.total_seconds)


def test_a_cell_is_called_as_the_command_line_takes_it(tiny):
    """It was True, and nothing where there are no options."""
    grid = config_grid(common_initialization=[True, False], optimizer_options=["", "b1=0.5"])
    cells = tuple(dataclasses.replace(cell, config=config) for cell, config in zip(tiny.cells, grid, strict=True))
    told = dataclasses.replace(tiny, cells=cells, swept=("common_initialization", "optimizer_options"))
    lines = [line.split()[:2] for line in told.lines()[2:6]]
    assert lines == [["true", '""'], ["true", "b1=0.5"], ["false", '""'], ["false", "b1=0.5"]]


def test_of_an_object_store_no_free_disk_is_told(monkeypatch, tmp_path):
    """It was that of the temporary folder, where the run would not be stored: "the run would stop when it is full"."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda place: types.SimpleNamespace(free=10))
    config = ncsim.EnsembleConfig(hidden=2, members=40, steps=5)
    found = plan.forecast([config], "memory://bucket/run", executor="xla", report=False)
    assert found.free_disk_bytes is None
    assert json.loads(json.dumps(found.numbers()))["free_disk_bytes"] is None
    said = "\n".join(found.lines())
    assert re.search(r"\nDisk: [0-9.]+ kB, in an object store\.$", said)
    assert " free" not in said
    # An address of this machine is told of its own disk.
    assert plan._disk_of(f"file://{tmp_path}/run") == tmp_path
    assert plan._on_disk(f"file://{tmp_path}/run")


def test_what_is_stored_is_not_counted(tmp_path):
    config = ncsim.EnsembleConfig(hidden=2, members=600, steps=20)
    run_ensemble(config, tmp_path / "run", executor="xla")
    more = dataclasses.replace(config, members=900)
    stored = plan._stored([more], tmp_path / "run")
    assert [sum(map(len, gaps)) for gaps in plan._to_train([more], stored, None)] == [300]
    assert [sum(map(len, gaps)) for gaps in plan._to_train([more], stored, ncsim.Recording(points=3))] == [900]
    with pytest.raises(ncsim.ConfigError, match="holds another config's run"):
        plan._stored([dataclasses.replace(config, steps=21)], tmp_path / "run")
    with pytest.raises(ncsim.StoreError, match="holds members 0 to 599, and 0 to 499 would leave some out"):
        plan._stored([dataclasses.replace(config, members=500)], tmp_path / "run")
    assert plan._stored([more], tmp_path / "none") is None
    assert [sum(map(len, gaps)) for gaps in plan._to_train([more], None, None)] == [900]


@pytest.mark.slow
def test_members_that_are_stored_are_recorded_and_not_stored_again(tmp_path):
    """Their parts were counted once more, in the bytes and in the number of files."""
    config, recording = ncsim.EnsembleConfig(hidden=2, members=600, steps=20), ncsim.Recording(points=2)
    run_ensemble(config, tmp_path / "run", executor="xla")
    before = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    more = dataclasses.replace(config, members=620)
    found = [
        plan.forecast([each], tmp_path / "run", 1, "xla", report=False, recording=recording) for each in (config, more)
    ]
    assert [(cell.members, cell.parts) for each in found for cell in each.cells] == [(600, 1), (620, 3)]
    run_ensemble(config, tmp_path / "run", executor="xla", recording=recording)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet")) - before
    assert found[0].disk_bytes == pytest.approx(written, rel=0.1)
    # Of a writer that was killed: trajectories are there, and the members that they are of are not.
    stored = RunFolder.open(tmp_path / "run")
    (part,) = stored.parts(config)
    stored.storage.remove(part.name)
    assert plan._to_train([config], stored, recording) == plan._to_store([config], stored) == [[range(600)]]


class Counting:
    """How many members a run says that it has to train, those to be recorded after the others."""

    members = 0

    def start(self, members, steps):
        self.members += members

    def advance(self, members, steps):
        pass

    def close(self):
        pass


@pytest.mark.slow
def test_what_a_killed_writer_left_beside_stored_members_is_recorded_again(tmp_path):
    """A run removes such a part with all that it holds: of 60 members 40 were forecast."""
    config, recording = ncsim.EnsembleConfig(hidden=2, members=40, steps=20), ncsim.Recording(points=2)
    run_ensemble(config, tmp_path / "run", executor="xla", devices=1)
    more = dataclasses.replace(config, members=60)
    left = run_ensemble(more, tmp_path / "left", executor="xla", recording=recording, devices=1)
    folder = RunFolder.create(tmp_path / "run", [more])
    (whole,) = TrajectoryFolder(left._source).read(more)
    TrajectoryFolder(folder).write_recorded(more, whole.take(slice(20, 60)), recording)
    forecast = plan._to_train([more], folder, recording)
    assert sorted(number for gaps in forecast for gap in gaps for number in gap) == list(range(60))
    listener = Counting()
    run_ensemble(more, tmp_path / "run", executor="xla", recording=recording, devices=1, progress=listener)
    assert listener.members == 60


def test_a_large_grid_is_calibrated_by_a_few_of_its_programs():
    shapes = [program_of(config) for config in config_grid(hidden=list(range(1, 41)), optimizer=["adam", "sgd"])]
    chosen = plan._spread(shapes, plan.MOST_PROGRAMS)
    assert len(set(chosen)) == plan.MOST_PROGRAMS
    nearest = plan._nearest(shapes[4], chosen)
    assert nearest.optimizer == shapes[4].optimizer


def test_bad_options_are_named(capsys):
    for options, words in (
        (["--hidden", "0"], "--hidden: 0; allowed"),
        (["--executor", "fast"], "--executor: fast; allowed"),
        (["--devices", "0"], "--devices: 0"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["plan", *options])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.thorough
def test_commands_take_what_was_forecast():
    """Two cases of benchmarks/plan.py, as commands; half and twice, and not in CI, whose machines are not ours alone."""
    from benchmarks.plan import CASES, case

    for name in ("one width", "rates and steps"):
        ratios = case(CASES[name].split())["run_over_forecast"]
        assert 0.5 < ratios["total_seconds"] < 2, (name, ratios)
        assert 0.6 < ratios["peak_memory_bytes"] < 1.4, (name, ratios)
        assert 0.8 < ratios["disk_bytes"] < 1.2, (name, ratios)
