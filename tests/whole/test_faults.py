"""Whatever fails, and whenever: what was stored is whole, one line says what happened, and the same command goes on."""

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import ncsim
from ncsim import signals
from ncsim.ensemble import run as ensemble
from ncsim.errors import DeviceError
from ncsim.executors import choice
from ncsim.report.write import printed, write_report
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
from tests.support import fault_driver
from tests.support.cases import first_fast

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Members of a real run, for the runs that only store."""
    path = tmp_path_factory.mktemp("records") / "records.npz"
    run = ncsim.run_ensemble(fault_driver.CONFIG, executor="xla")
    np.savez(path, **{name: column for name, column in run.records()._asdict().items() if column is not None})
    return path


def driven(mode, folder, records, timeout=300, wrap=()):
    done = subprocess.run(
        [*wrap, sys.executable, "-m", "tests.support.fault_driver", mode, str(folder), str(records)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("mode", "tried"),
    [
        pytest.param("some-writes", 5, marks=pytest.mark.slow),
        # Two processes: 71 calls by five faults are a thousand runs each, which wait for a disk that others may use.
        pytest.param("every-write", 60, marks=pytest.mark.thorough),
        pytest.param("every-write-of-a-shard", 60, marks=pytest.mark.thorough),
    ],
)
def test_a_fault_at_calls_that_write(tmp_path, records, mode, tried):
    found = driven(mode, tmp_path / "runs", records, timeout=900)
    print(found)
    assert min(found["tried"].values()) >= tried
    assert found["statuses"]["ENOSPC: 2"] > tried // 3
    assert found["statuses"]["EIO once: 0"] > tried // 2


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        pytest.param("some-random-kills", 40, marks=pytest.mark.slow),
        pytest.param("random-kills", 200, marks=pytest.mark.thorough),
    ],
)
def test_kills_at_random_times(tmp_path, records, mode, kills):
    found = driven(mode, tmp_path / "runs", records, timeout=900)
    print(found)
    assert found["killed"] >= kills
    assert found["runs"] >= kills // 20
    # The kills were spread over the runs: some before the first part was there, some between parts, some after the last.
    assert min(found["parts there when killed"].values()) >= 1


@pytest.mark.slow
def test_asked_to_end_while_training(tmp_path, records):
    ended = driven("terminated", tmp_path / "runs", records)
    assert len(ended) == 4
    for name, (status, kept, said) in ended.items():
        term = name.startswith("SIGTERM")
        assert status == (143 if term else 130), said
        assert 1 <= kept < 4
        assert said.count("stopping once what is being stored is stored") == 1
        assert (
            f"{'terminated' if term else 'interrupted'}; what is stored is whole, and the same command resumes" in said
        )
        assert "Traceback" not in said


def test_a_signal_waits_for_the_end_of_a_call_and_a_second_one_does_not(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(signals.Stopped) as caught:  # noqa: PT012, SIM117
        with signals.handled(), signals.deferred():
            os.kill(os.getpid(), 15)
            os.kill(os.getpid(), 15)
            for _ in range(1000):
                time.sleep(0.0 if ended else 0.01)
            assert ended[0] == 143
            signals.check()
    assert caught.value.status == 143
    with pytest.raises(signals.Stopped), signals.handled():
        os.kill(os.getpid(), 2)
    with pytest.raises(signals.Stopped), signals.handled(), signals.deferred():
        os.kill(os.getpid(), 2)  # at the end, if nothing has asked
    signals.check()


def mounted(command):
    """A command that makes a file system and then runs something, and why it cannot be done here, if it cannot."""
    script = f"set -e; {command}"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.mark.parametrize("free", first_fast([2, 6, 1, 4], 0, slow=1))
def test_a_disk_that_is_full(tmp_path, records, free):
    """A small tmpfs with `free` blocks of 4 KiB. What was stored is whole, and the run goes on where there is space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        wrap = mounted(f'mount -t tmpfs -o size={free * 4}k tmpfs {disk}; "$@"; cp -r {disk}/. {tmp_path}/kept')
    except FileNotFoundError:
        pytest.skip("no file system can be mounted here: there is no unshare")
    found = driven("run", disk, records, wrap=wrap)
    assert found["status"] == 2
    assert found["said"].count("\n") == 1
    assert "No space left on device" in found["said"]
    assert "Traceback" not in found["said"]
    assert found["parts"] < 4
    kept = tmp_path / "kept"
    if (kept / "run" / "config.json").exists():
        before = fault_driver.parts(kept / "run")
        assert len(before) == found["parts"]
        assert driven("run", kept, records) == {"status": 0, "said": "", "parts": 4}
        assert before.items() <= fault_driver.parts(kept / "run").items()
        assert verify(kept / "run").right


@pytest.mark.slow
def test_a_folder_that_is_read_only(tmp_path, records):
    """Mounted so, as a disk is that the system no longer trusts."""
    place = tmp_path / "place"
    driven("run", place, records)
    part = sorted((place / "run" / "parts").iterdir())[2]
    part.unlink()
    before = fault_driver.parts(place / "run")
    run = place / "run"
    try:
        wrap = mounted(f'mount --bind {run} {run}; mount -o remount,bind,ro {run}; "$@"')
    except FileNotFoundError:
        pytest.skip("no file system can be mounted here: there is no unshare")
    found = driven("run", place, records, wrap=wrap)
    assert found["status"] == 2
    assert found["said"] == f"ncsim: error: {run}: cannot be written to (Read-only file system)\n"
    assert fault_driver.parts(run) == before
    assert verify(run).missing[0].members == range(128, 192)


# --------------------------------------------------------------------------------------------------- while training


@pytest.mark.slow
def test_training_that_overflows_is_diverged_and_said(tmp_path):
    """A learning rate of a million: networks whose numbers are no longer numbers count nowhere, and the report says so."""
    config = ncsim.EnsembleConfig(
        hidden=2, members=64, steps=60, optimizer="sgd", loss="squared_error", learning_rate=1e6
    )
    run = ncsim.run_ensemble(config, out=tmp_path, executor="xla")
    diverged = run.records().diverged
    assert diverged.all()
    assert not run.counts.any()
    assert "diverged" in printed(write_report(run))
    assert verify(tmp_path).right


class OutOfMemory:
    """A program that says of blocks above a size what XLA says of them."""

    def __init__(self, most):
        self.most, self.refused = most, 0
        self.real = choice.program

    def __call__(self, executor, config, mesh, blocks, lanes=None, points=None, kept=False):
        program = self.real(executor, config, mesh, blocks, lanes, points, kept)

        def run(*arguments):
            if program.blocks * program.lanes > self.most:
                self.refused += 1
                raise jax.errors.JaxRuntimeError(
                    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9123456 bytes."
                )
            return program.run(*arguments)

        return program._replace(run=run)


SMALL = ncsim.EnsembleConfig(hidden=2, members=300, steps=20)


@pytest.fixture
def another_trainer():
    """What a trainer learns of its devices is not for the tests that follow."""
    ensemble.trainer.cache_clear()
    yield
    ensemble.trainer.cache_clear()


@pytest.mark.slow
def test_out_of_memory_trains_in_smaller_blocks_and_says_so_once(monkeypatch, capsys, another_trainer):
    whole = ncsim.run_ensemble(SMALL, executor="xla")
    ensemble.trainer.cache_clear()
    small = OutOfMemory(most=64 * 16)
    monkeypatch.setattr(choice, "program", small)
    run = ncsim.run_ensemble(SMALL, executor="xla")
    assert small.refused == 1
    assert np.array_equal(run.counts, whole.counts)
    assert np.array_equal(run.records().loss, whole.records().loss)
    said = "ncsim: a device has no memory left: training in smaller blocks, which changes no member\n"
    assert capsys.readouterr().err == said
    ncsim.run_ensemble(SMALL, executor="xla")
    assert capsys.readouterr().err == ""


def test_half_of_a_narrow_cells_blocks_is_not_too_wide_for_a_wide_cell(monkeypatch, another_trainer):
    """On NVIDIA's GPUs wide networks have narrower blocks. After a halving for narrow ones theirs became wider than they are by themselves."""

    def program(executor, config, mesh, blocks, lanes=None, points=None, kept=False):
        return types.SimpleNamespace(lanes=lanes or {2: 262_144, 32: 16_384}[config.hidden])

    monkeypatch.setattr(choice, "program", program)
    feeder, wide = ensemble.trainer(1), dataclasses.replace(SMALL, hidden=32)
    while feeder._program("cuda", SMALL, 2).lanes == 262_144:
        feeder._make_smaller(SMALL, "cuda")
    assert feeder._program("cuda", SMALL, 2).lanes == 131_072
    assert feeder._program("cuda", wide, 2).lanes == 16_384
    feeder._make_smaller(wide, "cuda")
    assert [feeder._program("cuda", config, 2).lanes for config in (SMALL, wide)] == [8_192, 8_192]


@pytest.mark.slow
def test_out_of_memory_for_the_smallest_blocks_is_one_line(monkeypatch, tmp_path, another_trainer):
    monkeypatch.setattr(choice, "program", OutOfMemory(most=0))
    with pytest.raises(DeviceError, match="a device has no memory for 64 networks of 2 hidden units; what is stored"):
        ncsim.run_ensemble(SMALL, out=tmp_path, executor="xla")
    assert verify(tmp_path).missing[0].members == range(300)


def test_a_device_that_fails_is_one_line(monkeypatch, tmp_path, another_trainer):
    class Lost(OutOfMemory):
        def __call__(self, *arguments, **options):
            def run(*_):
                raise jax.errors.JaxRuntimeError("INTERNAL: device lost\nwith more lines")

            return self.real(*arguments, **options)._replace(run=run)

    monkeypatch.setattr(choice, "program", Lost(most=0))
    with pytest.raises(DeviceError, match=r"a device failed while training \(INTERNAL: device lost with more lines\)"):
        ncsim.run_ensemble(SMALL, out=tmp_path, executor="xla")


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["nonsense", "cuda"])
def test_a_device_that_does_not_start_is_one_line(tmp_path, platform):
    command = [sys.executable, "-m", "ncsim.cli", "ensemble", "--members", "10", "--steps", "5", "--out", "run"]
    environment = os.environ | {"JAX_PLATFORMS": platform, "PYTHONPATH": str(ROOT)}
    if platform == "cuda" and any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU here, and it starts")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ncsim: error: JAX_PLATFORMS={platform}: no device could be started (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "parts").exists()


# ------------------------------------------------------------------------------------------- on any devices, in any order

EIGHT = """
import random, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # started now: the first run would ask for as many as it uses
import ncsim.storage.parts as stored_parts
from ncsim import EnsembleConfig, run_ensemble
from ncsim.ensemble import work
stored_parts.PART_MEMBERS = (128, 128)
config = EnsembleConfig(hidden=2, members=1000, steps=60)
in_order = work.missing_parts
for devices in (1, 2, 4, 8):
    work.missing_parts = lambda *asked: random.Random(devices).sample(in_order(*asked), len(in_order(*asked)))
    run_ensemble(config, out=f"{sys.argv[1]}/{devices}", devices=devices, executor=sys.argv[2])
"""


@pytest.mark.parametrize("executor", first_fast(["native", "xla"], 0, slow=1))
def test_one_two_four_and_eight_devices_in_any_order_give_the_same_bytes(tmp_path, executor):
    done = subprocess.run(
        [sys.executable, "-c", EIGHT, str(tmp_path), executor],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=0"},
    )
    if "native cannot train" in done.stderr or "does not compile" in done.stderr:
        pytest.skip(f"native code cannot be made here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    expected = fault_driver.parts(tmp_path / "1")
    assert len(expected) == 8
    for devices in (2, 4, 8):
        assert fault_driver.parts(tmp_path / str(devices)) == expected
        assert (
            RunFolder.open(tmp_path / str(devices)).missing(ncsim.EnsembleConfig(hidden=2, members=1000, steps=60))
            == []
        )
    assert random.Random(2).sample(range(8), 8) != random.Random(4).sample(range(8), 8)
