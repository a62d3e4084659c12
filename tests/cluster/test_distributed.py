"""Several processes that a launcher started: found in the environment, brought together once, and then a shard each."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncsim.cli.command import main
from ncsim.cluster.distributed import launched_by
from tests.support.folders import parts_of

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


@pytest.mark.parametrize("option", ["--coordinator", "--processes", "--process"])
def test_options_of_the_version_before_say_what_is_there_instead(option, capsys):
    for words in ([option, "2"], [f"{option}=2"]):
        with pytest.raises(SystemExit) as caught:
            main(["ensemble", *words])
        assert caught.value.code == 2
        line = f"ncsim: error: {option}: no longer an option; allowed: --cluster ADDRESS, --shard I/N in each process, or --dis"
        assert capsys.readouterr().err.startswith(line)


def test_two_ways_of_sharing_are_one_too_many(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["ensemble", "--shard", "1/2", "--distributed", "--out", "run"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("ncsim: error: --shard: with --distributed; allowed: one of the two ways")


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


def start_together(folder, count, *options):
    """As SLURM would, on one machine."""
    slurm = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(count)}
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    places = [{"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)} for number in range(count)]
    return [start(folder, *options, environment=slurm | port | place) for place in places]


def statuses(processes):
    ended = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [error for _, error in ended]


def parts(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in parts_of(folder)}


def wait_for_parts(folder, count):
    deadline = time.monotonic() + 240
    while len(parts_of(folder, "members-*.parquet")) < count:
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


@pytest.mark.thorough
def test_two_processes_store_what_one_does_and_the_last_reports(alone, tmp_path):
    codes, errors = statuses(start_together(tmp_path / "run", 2, "--distributed"))
    assert codes == [0, 0], errors
    assert parts(tmp_path / "run") == alone
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_one_of_three_dies_and_the_same_command_does_its_work(alone, tmp_path):
    """Found in the environment, without being asked for. The others store their shares; the death of one is not theirs."""
    processes = start_together(tmp_path / "run", 3)
    wait_for_parts(tmp_path / "run", 1)
    processes[1].send_signal(signal.SIGKILL)
    codes, errors = statuses(processes)
    assert codes == [0, -signal.SIGKILL, 0], errors
    kept = parts(tmp_path / "run")
    assert kept.items() <= alone.items()
    assert len(kept) >= 7  # shares of ten parts are 3, 3 and 4
    codes, errors = statuses([start(tmp_path / "run")])
    assert codes == [0], errors
    assert parts(tmp_path / "run") == alone


@pytest.mark.slow
def test_a_process_that_nobody_joins_ends_with_one_line(tmp_path):
    code = (
        "from ncsim.cluster.distributed import join; from ncsim.executors.devices import prepare_jax; prepare_jax(1); "
        "join(seconds=4)"
    )
    slurm = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    environment = os.environ | slurm | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.count("ncsim: error: not all processes came to the address that SLURM gives within 4 s") == 1
    assert "Traceback" not in ended.stderr
    assert "Check failure" not in ended.stderr
