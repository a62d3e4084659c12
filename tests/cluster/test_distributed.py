"""Several processes: found in the environment or told, brought together once, and then nobody's death is another's."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncsim.cli.command import main
from ncsim.cluster.distributed import checked, launched_by
from ncsim.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
RATES = [str(round(0.01 + 0.002 * k, 3)) for k in range(10)]
RUN = [
    "--learning-rate",
    *RATES,
    "--members",
    "300",
    "--steps",
    "600",
    "--executor",
    "xla",
    "--devices",
    "1",
    "--quiet",
]


def test_who_started_us():
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    assert launched_by(slurm | {"SLURM_NTASKS": "2"}) == "SLURM"
    assert launched_by(slurm | {"SLURM_NTASKS": "1"}) is None
    assert launched_by({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}) is None  # a batch script, before srun
    assert launched_by({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:34911"}) == "Open MPI"
    assert launched_by({"TPU_WORKER_HOSTNAMES": "t0,t1,t2,t3"}) == "TPU pod"
    assert launched_by({"TPU_WORKER_HOSTNAMES": "localhost"}) is None
    assert launched_by({"SLURM_NTASKS": "two"}) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("node1", "2", "0"), "--coordinator: node1; allowed: HOST:PORT"),
        (("node1:0", "2", "0"), "--coordinator: node1:0"),
        (("node1:66000", "2", "0"), "--coordinator"),
        ((":6000", "2", "0"), "--coordinator"),
        (("node1:6000", "0", "0"), "--processes: 0; allowed: a whole number from 1"),
        (("node1:6000", "2", "2"), "--process: 2; allowed: a whole number from 0 to 1"),
        (("node1:6000", "2", "-1"), "--process: -1"),
        (("node1:6000", None, "1"), "go together"),
        ((None, "2", "1"), "go together"),
        ((None, "2", "\u0663"), "--process"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        checked(*options)


def test_two_ways_of_sharing_are_one_too_many(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["ensemble", "--shard", "1/2", "--distributed", "--out", "run"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("ncsim: error: --shard: with --coordinator or --distributed")


# ------------------------------------------------------------------------------------------------ processes, for real


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *options, environment=None):
    return subprocess.Popen(
        [sys.executable, "-m", "ncsim.cli", "ensemble", *RUN, "--out", str(folder), *options],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stderr=subprocess.PIPE,
        text=True,
    )


def start_together(folder, count):
    port = free_port()
    there = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count)]
    return [start(folder, *there, "--process", str(number)) for number in range(count)]


def statuses(processes):
    ended = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [error for _, error in ended]


def parts(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def wait_for_parts(folder, count):
    deadline = time.monotonic() + 240
    while len(list(folder.rglob("members-*.parquet"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The parts of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = start(folder)
    assert statuses([process])[0] == [0]
    found = parts(folder)
    assert len(found) == len(RATES)
    return found


@pytest.mark.slow
def test_two_processes_store_what_one_does_and_the_first_reports(alone, tmp_path):
    codes, errors = statuses(start_together(tmp_path / "run", 2))
    assert codes == [0, 0], errors
    assert parts(tmp_path / "run") == alone
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_one_of_four_dies_and_the_others_do_its_work(alone, tmp_path):
    processes = start_together(tmp_path / "run", 4)
    wait_for_parts(tmp_path / "run", 1)
    victim = random.Random(os.getpid()).randrange(4)
    processes[victim].send_signal(signal.SIGKILL)
    processes[victim].wait()  # until then its number is taken, and its claims are as if it lived
    codes, errors = statuses(processes)
    assert codes == [-signal.SIGKILL if number == victim else 0 for number in range(4)], (victim, errors)
    assert parts(tmp_path / "run") == alone


@pytest.mark.slow
def test_all_die_and_another_number_of_processes_goes_on(alone, tmp_path):
    processes = start_together(tmp_path / "run", 2)
    wait_for_parts(tmp_path / "run", 2)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    statuses(processes)
    assert 2 <= len(parts(tmp_path / "run")) < len(alone)
    codes, errors = statuses(start_together(tmp_path / "run", 3))
    assert codes == [0, 0, 0], errors
    assert parts(tmp_path / "run") == alone


@pytest.mark.slow
def test_slurm_is_found_in_the_environment(alone, tmp_path):
    slurm = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    port = str(free_port())
    processes = [
        start(
            tmp_path / "run",
            environment=slurm | {"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k), "JAX_COORDINATOR_PORT": port},
        )
        for k in range(2)
    ]
    codes, errors = statuses(processes)
    assert codes == [0, 0], errors
    assert parts(tmp_path / "run") == alone


@pytest.mark.slow
def test_a_process_that_nobody_joins_ends_with_one_line(tmp_path):
    code = (
        "from ncsim.cluster.distributed import join; from ncsim.executors.devices import prepare_jax; prepare_jax(1); "
        f"join('127.0.0.1:{free_port()}', 2, 0, seconds=4)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.count("ncsim: error: not all processes came to 127.0.0.1:") == 1
    assert "Traceback" not in ended.stderr
    assert "Check failure" not in ended.stderr
