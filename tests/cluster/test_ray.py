"""Ray's tasks: one Ray for the file, on this machine. Skipped where Ray is not installed (`pip install '.[ray]'`)."""

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ncsim
from ncsim import terminal
from ncsim.cli.command import main
from ncsim.cluster import ray_pool
from ncsim.errors import StoreError
from ncsim.statistics import stopping
from ncsim.storage import parts as stored_parts
from ncsim.storage.verify import verify
from ncsim.text.run import run_text
from ncsim.text.verify import verify_text
from tests.support.folders import parts_of
from tests.support.text_model import write_model_and_data
from tests.text import test_run as text

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
#: Ray leaves files and sockets to Python's garbage.
pytestmark = pytest.mark.filterwarnings("default")
CONFIG = ncsim.EnsembleConfig(hidden=2, members=64 * 24, steps=200)
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "-m ncsim.cli ensemble --hidden 2 3 --members 2000 --steps 2000 --executor xla --out run --cluster".split()


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory):
    """Ray puts a token into the home, and wants it of every client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setattr(stored_parts, "PART_MEMBERS", (64, 64))
        yield


@pytest.fixture(scope="module")
def local():
    """Two workers of a Ray that this process has started, as a user may have in Python."""
    import ray

    ray.init(address="local", num_cpus=2, object_store_memory=ray_pool.OBJECT_STORE_BYTES, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ncsim.run_ensemble(CONFIG, out=folder, executor="xla")
    return files(folder)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in parts_of(folder)}


def processes(word):
    """The numbers of the processes that have a word in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def test_without_ray_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as caught:
        main(["ensemble", "--members", "2", "--out", "run", "--cluster", "ray"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "ncsim: error: --cluster: ray; Ray is not installed; install it from a clone of this repository with: pip install "
        "'.[ray]'\n"
    )
    assert not os.path.exists("run")


@pytest.mark.parametrize("address", ["", "dask", "host:1", "RAY", "http://host:1"])
def test_addresses_that_are_none(address, capsys):
    with pytest.raises(SystemExit):
        main(["ensemble", "--members", "2", "--out", "run", f"--cluster={address}"])
    error = capsys.readouterr().err
    assert error == f"ncsim: error: --cluster: {address}; allowed: ray, auto or ray://HOST:PORT\n"


@contextlib.contextmanager
def losing_a_worker(begun, chance):
    """One of Ray's workers is killed as soon as `begun()` is true."""
    killed = []

    def kill():
        while not begun():
            time.sleep(0.001)
        killed.append(chance.choice(processes("ray::_call")))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()
    assert killed


@needs_ray
def test_a_worker_that_is_killed_changes_nothing(local, alone, tmp_path):
    """Five times, at random moments."""
    chance = random.Random(3)
    for turn in range(5):
        folder, at = tmp_path / str(turn), chance.randrange(1, 20)
        with losing_a_worker(lambda folder=folder, at=at: len(files(folder)) >= at, chance):
            run = ncsim.run_ensemble(CONFIG, out=folder, executor="xla", pool="auto")
        assert run.missing() == 0
        assert files(folder) == alone
    assert verify(folder).right
    assert local.is_initialized()  # it is not ours to stop


@needs_ray
def test_a_run_that_ends_by_a_rule_may_lose_a_worker(local, tmp_path, monkeypatch):
    """It ends with the members that one process comes to."""
    monkeypatch.setattr(stopping, "PILOT", 48)
    config = ncsim.EnsembleConfig(hidden=2, members=5_000, steps=200)
    plain = ncsim.run_ensemble(config, out=tmp_path / "alone", executor="xla", until="mean S +- 0.04")
    assert 64 * 6 < plain.configs[0].members < 5_000
    with losing_a_worker(lambda: len(files(tmp_path / "ray")) >= 3, random.Random(4)):
        run = ncsim.run_ensemble(config, out=tmp_path / "ray", executor="xla", until="mean S +- 0.04", pool="auto")
    assert run.until == plain.until
    assert files(tmp_path / "ray") == files(tmp_path / "alone")


@needs_ray
def test_an_error_of_a_task_is_one_line(local, tmp_path):
    """A part that cannot be stored: a folder that is not empty has its name."""
    place = tmp_path / "parts" / "members-0000000128-64.parquet"
    place.mkdir(parents=True)
    (place / "file").touch()
    with pytest.raises(StoreError) as caught:
        ncsim.run_ensemble(CONFIG, out=tmp_path, executor="xla", pool="auto")
    assert str(caught.value).startswith("members 128 to 191: ")
    assert "\n" not in str(caught.value)
    assert "ray" not in str(caught.value)


@needs_ray
def test_more_devices_than_a_machine_has(local):
    with pytest.raises(ncsim.ConfigError, match="--devices: 99; no machine of the Ray cluster has so many"):
        ncsim.run_ensemble(CONFIG, out="run", devices=99, pool="auto")


@needs_ray
@pytest.mark.slow
def test_a_command_starts_a_ray_and_ctrl_c_stops_it(tmp_path):
    """Interrupted half way: status 130, nothing of it is left, and another process of the user goes on. Killed half way,
    the same command trains what is missing. The bytes are those of a run without Ray."""
    before = set(processes("raylet/raylet"))
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sent = 0
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9), (None, 0)):
        process = subprocess.Popen([sys.executable, *COMMAND, "ray"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        while number and len(files(tmp_path)) <= sent and process.poll() is None:
            time.sleep(0.01)
        sent = len(files(tmp_path))
        if number:
            process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == status, errors
        assert "Traceback" not in errors
        if number == signal.SIGINT:
            assert "interrupted; what is stored is whole, and the same command resumes" in errors
        deadline = time.monotonic() + 30
        while set(processes("raylet/raylet")) - before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    subprocess.run([sys.executable, *COMMAND[:-2], "alone"], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert files(tmp_path / "run") == files(tmp_path / "alone")


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("as_by_users")
def test_a_text_run_whose_worker_is_killed_has_the_same_bytes(local, tmp_path):
    """One task per group of adapters; killed as soon as one of them is stored."""
    (tmp_path / "files").mkdir()
    inputs = write_model_and_data(tmp_path / "files")
    config = text.config(inputs, seeds=2)
    whole = run_text(config, tmp_path / "whole", inputs / "data", tmp_path / "cache")
    stored = (tmp_path / "run").glob
    with losing_a_worker(lambda: list(stored("adapters/*/*/*/heads.safetensors")), random.Random(5)):
        run = run_text(config, tmp_path / "run", inputs / "data", tmp_path / "cache", pool="auto")
    assert run.missing() == 0
    assert text.contents(run.path) == text.contents(whole.path)
    assert verify_text(run.path).right


def test_looking_for_a_cluster_is_not_silent(monkeypatch, capsys):
    """Ray looks for two minutes where nobody answers at RAY_ADDRESS."""

    class Looking:
        @staticmethod
        def init(**_):
            time.sleep(0.7)
            raise ConnectionError("nobody is there")

    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_WORDS", 0.4)
    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
    with pytest.raises(
        ncsim.ConfigError, match=r"^--cluster: auto \(RAY_ADDRESS=10.255.255.1:6379\); no Ray cluster can be reached"
    ):
        ray_pool._start(Looking, "auto")
    assert capsys.readouterr().err.startswith(
        "ncsim: --cluster: auto (RAY_ADDRESS=10.255.255.1:6379); looking for the Ray cluster, for 0:0"
    )
    with pytest.raises(ncsim.ConfigError, match=r"^--cluster: ray://somewhere:1; no Ray cluster can be reached"):
        ray_pool._start(Looking, "ray://somewhere:1")
