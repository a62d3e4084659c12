"""Listeners are told what is stored, by whatever trains it, and end no run. Trackers have one run per cell."""

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.ensemble import listening
from ncsim.report.summary import summarise
from ncsim.statistics.until import whole_names
from ncsim.storage import parts as stored_parts
from ncsim.tracking import trackers
from ncsim.tracking.trackers import metric_name
from tests.ensemble.test_pool import Here
from tests.support.refusals import refused_command
from tests.support.tasks import FOUR_ROWS

GRID = ncsim.config_grid(learning_rate=[0.01, 0.05], members=400, steps=10, tasks=[FOUR_ROWS])


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Parts of 64 members, looked at after each batch."""
    monkeypatch.setattr(stored_parts, "PART_MEMBERS", (64, 64))
    monkeypatch.setattr(listening, "FEWEST_SECONDS", 0.0)
    monkeypatch.setattr(listening, "REST", 0.0)


class Noting(ncsim.RunListener):
    def __init__(self, fails=""):
        self.told, self.fails = [], fails

    def began(self, configs, location):
        self._note("began", len(configs), location)

    def progressed(self, cell, members, numbers):
        self._note("progressed", cell, members, numbers)

    def ended(self, status):
        self._note("ended", status)

    def _note(self, name, *arguments):
        self.told.append((name, *arguments))
        if name == self.fails:
            raise ConnectionError("the server\nis gone")


@pytest.mark.parametrize("pool", [None, Here()], ids=["this process", "pool"])
def test_the_numbers_are_those_of_what_is_stored(tmp_path, pool):
    noting = Noting()
    options = {"executor": "xla", "devices": 4, "pool": pool}
    run = ncsim.run_ensemble(GRID, out=tmp_path / "run", listeners=[noting], **options)
    assert noting.told[0] == ("began", 2, str(tmp_path / "run"))
    assert noting.told[-1] == ("ended", "finished")
    told = [each for each in noting.told if each[0] == "progressed"]
    for cell in (0, 1):
        members = [each[2] for each in told if each[1] == cell]
        assert members == sorted(set(members))  # each number of members once
        assert pool or len(members) > 2
        assert members[-1] == 400
    cells = summarise(run).numbers["cells"]
    last = {cell: numbers for _, cell, _, numbers in told}
    for cell, numbers in last.items():
        reported = cells[cell]
        assert numbers["solved, context 22"]._asdict() == reported["contexts"]["22"]["solved"]
        for protocol in reported["protocols"]:
            assert numbers[f"mean S, {protocol['protocol']}"]._asdict() == protocol["mean_s"]
            assert numbers[f"P(S > 2), {protocol['protocol']}"]._asdict() == protocol["s_above_2"]


@pytest.mark.parametrize("pool", [None, Here()], ids=["this process", "pool"])
def test_cells_have_the_numbers_that_the_call_gives_them(tmp_path, pool):
    """A folder has them in the order in which its run was begun."""
    ncsim.run_ensemble(GRID, out=tmp_path, executor="xla")
    shutil.rmtree(tmp_path / "parts" / "learning_rate-0.05")
    noting = Noting()
    run = ncsim.run_ensemble(GRID[::-1], out=tmp_path, listeners=[noting], pool=pool)
    assert [config.learning_rate for config in run.configs] == [0.05, 0.01]
    told = [each[1:] for each in noting.told if each[0] == "progressed"]
    for cell, found in enumerate(summarise(run).numbers["cells"]):
        (last,) = (numbers for number, members, numbers in told if (number, members) == (cell, 400))
        assert last["solved, context 22"]._asdict() == found["contexts"]["22"]["solved"]


def test_a_tracked_cell_is_called_as_in_a_report():
    class Names(trackers.Tracker):
        def begin(self, name, values):
            names.append(name)

    names = []
    grid = ncsim.config_grid(optimizer_options=["", "b1=0.5"], common_initialization=[True])
    Names("widths", None).began(grid, "runs/a")
    assert names == ['a optimizer_options=""', "a optimizer_options=b1=0.5"]
    Names("widths", None).began(ncsim.config_grid(common_initialization=[False, True]), None)
    assert names[2:] == ["in memory common_initialization=false", "in memory common_initialization=true"]


class Keeping(trackers.Tracker):
    """Keeps what is told of each tracked run; the call of this number fails."""

    def __init__(self, fails=None):
        super().__init__("widths", None)
        self.kept, self.calls, self.fails = [], 0, fails

    def begin(self, name, values):
        self._call()
        self.kept.append([])
        return self.kept[-1]

    def log(self, run, step, values):
        self._call()
        run.append(values["mean_S/single_shot"])

    def end(self, run, status):
        run.append(status)
        self._call()

    def _call(self):
        self.calls += 1
        if self.calls == self.fails:
            raise ConnectionError("the server is gone")


@pytest.mark.parametrize(
    ("fails", "ends"),
    [(2, ["failed"]), (3, ["failed"] * 2), (4, ["failed"] * 2), (5, ["finished"] * 2), (6, ["finished"] * 2)],
    ids=["begins the second cell", "first numbers", "other numbers", "ends the second cell", "ends the first cell"],
)
def test_no_tracked_run_is_left_running(fails, ends, capsys):
    """Who fails is told no more, and so MLflow showed its runs as running for ever."""
    tracker = Keeping(fails)
    grid = [dataclasses.replace(config, members=64) for config in GRID]
    ncsim.run_ensemble(grid, executor="xla", listeners=[tracker])
    assert [run[-1] for run in tracker.kept] == ends
    assert [run.count(ends[0]) for run in tracker.kept] == [1] * len(ends)
    said = "ncsim: Keeping: the server is gone; it is told no more of this run, which goes on\n"
    assert capsys.readouterr().err == said


def test_a_tracker_may_be_told_of_several_runs():
    """The numbers of the second were logged to the tracked runs of the first."""
    tracker = Keeping()
    grid = [dataclasses.replace(config, members=64) for config in GRID]
    for cells in (grid, grid[::-1]):
        ncsim.run_ensemble(cells, executor="xla", listeners=[tracker])
    one, other, *turned = tracker.kept
    assert turned == [other, one]
    assert one[1:] == other[1:] == ["finished"]
    assert one != other


def test_looks_are_rare(tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "FEWEST_SECONDS", 1e6)
    noting = Noting()
    ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", listeners=[noting])
    assert [each[:3] for each in noting.told[1:-1]] == [("progressed", 0, 400), ("progressed", 1, 400)]


@pytest.mark.parametrize("method", ["began", "progressed", "ended"])
def test_what_fails_is_one_line_and_is_told_no_more(tmp_path, capsys, method):
    failing, noting = Noting(fails=method), Noting()
    run = ncsim.run_ensemble(
        [dataclasses.replace(config, members=64) for config in GRID],
        out=tmp_path / "run",
        executor="xla",
        listeners=[failing, noting],
    )
    assert run.missing() == 0
    assert failing.told[-1][0] == method
    assert noting.told[-1] == ("ended", "finished")
    said = capsys.readouterr().err
    assert said == "ncsim: Noting: the server is gone; it is told no more of this run, which goes on\n"


class Stopping:
    def start(self, members, steps): ...

    def advance(self, members, steps):
        raise self.error

    def close(self): ...


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "stopped"), (OSError("disk"), "failed")])
def test_how_a_run_ended(tmp_path, error, status):
    noting, progress = Noting(), Stopping()
    progress.error = error
    with pytest.raises(type(error)):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", listeners=[noting], progress=progress)
    assert noting.told[-1] == ("ended", status)


def test_a_run_to_a_precision_is_one_run(tmp_path):
    noting = Noting()
    run = ncsim.run_ensemble(GRID, executor="xla", until="mean S +- 0.3", listeners=[noting])
    assert [each[0] for each in noting.told] == ["began", "progressed", "progressed", "ended"]
    assert noting.told[1][2] == run.configs[0].members


def test_names_and_refusals(capsys):
    assert metric_name("P(S > 2), best of 20 by loss") == "P_S_above_2/best_of_20_by_loss"
    assert metric_name("mean S, retry until solved, at most 20") == "mean_S/retry_until_solved_at_most_20"
    names = [metric_name(name) for name in whole_names()]
    assert len(set(names)) == len(names)
    for word in ("tensorboard", "wandb:", ""):
        assert f"--track: '{word}'; allowed: trackio, wandb, mlflow" in refused_command(
            capsys, "ensemble", "--track", word
        )
    for bad in ([3], ["wandb"], "wandb", Noting):
        with pytest.raises(ncsim.ConfigError, match=r"listeners: .*; allowed: a list of objects of ncsim\.RunListener"):
            ncsim.run_ensemble(GRID, listeners=bad)


def test_a_package_that_is_not_there_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    line = refused_command(capsys, "ensemble", "--track", "wandb")
    assert (
        "--track wandb: wandb is not installed; install it from a clone of this repository with: pip install '.[wandb]'"
        in line
    )


# ------------------------------------------------------------------------------------------ the packages, without network

COMMAND = "ensemble --hidden 2 3 --members 40 --steps 5 --executor xla --out run --quiet".split()


def tracked(name, **variables):
    """Run the command in a process of its own, as trackers leave threads and services behind; what it printed."""
    code = textwrap.dedent(
        """
        import socket, sys
        real = socket.socket.connect
        def connect(self, address):
            if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
                print("OUTSIDE", address)
            return real(self, address)
        socket.socket.connect = connect
        from ncsim.cli import main
        main(sys.argv[1:])
        """
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | variables
    ended = subprocess.run(
        [sys.executable, "-c", code, *COMMAND, "--track", f"{name}:widths"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "", ended.stdout
    assert "is told no more" not in ended.stderr
    cells = ncsim.open_run("run")
    return [summarise(cells).numbers["cells"][n]["protocols"][0]["mean_s"]["value"] for n in (0, 1)]


@pytest.mark.slow
def test_trackio(tmp_path):
    pytest.importorskip("trackio")
    means = tracked("trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    with sqlite3.connect(tmp_path / "trackio" / "widths.db") as data:
        rows = data.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = dict(data.execute("SELECT run_name, config FROM configs").fetchall())
    found = {name: (step, json.loads(metrics)) for name, step, metrics in rows}
    assert sorted(found) == ["run hidden=2", "run hidden=3"]
    for (step, metrics), mean in zip(found.values(), means, strict=True):
        assert step == metrics["members"] == 40
        assert metrics["mean_S/single_shot"] == pytest.approx(mean)
        assert metrics["mean_S/single_shot_low"] < mean < metrics["mean_S/single_shot_high"]
    assert [json.loads(configs[name])["hidden"] for name in sorted(configs)] == [2, 3]


def wandb_records(path):
    """The records of an offline run: a log as LevelDB has it, in blocks of 32 KiB after seven bytes of a header."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last piece
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.slow
def test_wandb(tmp_path):
    pytest.importorskip("wandb")
    means = tracked("wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_SILENT="true")
    found = {}
    for path in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb")):
        values, name, status = {}, None, None
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            name = record.run.display_name if kind == "run" else name
            status = record.exit.exit_code if kind == "exit" else status
            for item in record.history.item:
                values["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        found[name] = values
        assert status == 0
    assert sorted(found) == ["run hidden=2", "run hidden=3"]
    for name, mean in zip(sorted(found), means, strict=True):
        assert found[name]["members"] == found[name]["_step"] == 40
        assert found[name]["mean_S/single_shot"] == pytest.approx(mean)


@pytest.mark.slow
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    place = f"file:{tmp_path / 'mlruns'}"
    # The store without a server or a database; mlflow-skinny brings no other.
    means = tracked("mlflow", MLFLOW_TRACKING_URI=place, MLFLOW_ALLOW_FILE_STORE="true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.MlflowClient(tracking_uri=place)
        runs = client.search_runs([client.get_experiment_by_name("widths").experiment_id])
        runs.sort(key=lambda run: run.info.run_name)
        assert [run.info.run_name for run in runs] == ["run hidden=2", "run hidden=3"]
        for run, mean in zip(runs, means, strict=True):
            assert run.info.status == "FINISHED"
            assert run.data.metrics["mean_S/single_shot"] == pytest.approx(mean)
            (metric,) = client.get_metric_history(run.info.run_id, "members")
            assert (metric.step, metric.value) == (40, 40.0)
        assert [run.data.params["hidden"] for run in runs] == ["2", "3"]


@pytest.mark.slow
def test_a_tracker_that_fails_ends_no_command(capsys, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setattr(trackers.WandB, "begin", lambda *_: 1 / 0)
    main([*COMMAND, "--track", "wandb"])
    assert "ncsim: WandB: division by zero; it is told no more of this run, which goes on" in capsys.readouterr().err
    assert ncsim.open_run("run").missing() == 0
