"""The launch scripts: right shell, and run where their scheduler is made believe."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import parts_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "experiments" / "launch").glob("*.sh"))
SMALL = "--hidden 2 --learning-rate 0.01 0.03 --members 40 --steps 5 --executor xla --devices 1".split()


def launched(script, *options, **variables):
    path = f"{variables.pop('BIN', '')}:{os.environ['PATH']}"
    environment = os.environ | {"NCSIM_PYTHON": sys.executable, "PATH": path} | variables
    command = ["bash", str(ROOT / "experiments" / "launch" / script), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_is_right(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


def test_what_is_missing_is_said():
    assert "NCSIM_OUT=FOLDER" in launched("slurm_array.sh", NCSIM_OUT="").stderr
    assert "start with sbatch" in launched("slurm_array.sh", NCSIM_OUT="x", SLURM_ARRAY_TASK_ID="").stderr
    assert "NCSIM_OUT=FOLDER" in launched("slurm_ray.sh", NCSIM_OUT="").stderr
    assert "start with sbatch" in launched("slurm_ray.sh", NCSIM_OUT="x", SLURM_JOB_NODELIST="").stderr
    assert "usage: " in launched("tpu_pod.sh", "name").stderr


def test_an_array_gives_every_task_its_share(tmp_path):
    program(tmp_path / "bin", "python", 'echo "$@"')
    array = dict(SLURM_ARRAY_TASK_COUNT="4", SLURM_ARRAY_TASK_MIN="10", SLURM_ARRAY_TASK_STEP="2")  # noqa: C408
    for task, place in (("10", "1/4"), ("12", "2/4"), ("16", "4/4")):
        said = launched(
            "slurm_array.sh", "--steps", "7", NCSIM_OUT="some where", SLURM_ARRAY_TASK_ID=task,
            NCSIM_PYTHON=str(tmp_path / "bin" / "python"), **array,
        )  # fmt: skip
        assert said.stdout == f"-m experiments.tpu_sweep --shard {place} --out some where --steps 7\n"


def test_one_share_of_an_array_is_trained_again(tmp_path):
    """An array of one task alone would train the whole run."""
    program(tmp_path / "bin", "python", 'echo "$@"')
    array = dict(SLURM_ARRAY_TASK_COUNT="2", SLURM_ARRAY_TASK_MIN="5", SLURM_ARRAY_TASK_ID="7")  # noqa: C408
    said = launched(
        "slurm_array.sh", NCSIM_SHARES="16", NCSIM_OUT="out", NCSIM_PYTHON=str(tmp_path / "bin" / "python"), **array
    )
    assert said.stdout == "-m experiments.tpu_sweep --shard 7/16 --out out\n"


def test_a_pod_gets_one_command_on_every_host(tmp_path):
    program(tmp_path / "bin", "gcloud", 'printf "%s\\n" "$@"')
    said = launched("tpu_pod.sh", "pod", "zone-a", "gs://b/a b", "--steps", "7", BIN=str(tmp_path / "bin")).stdout
    assert "--worker\nall\n" in said
    assert r"-m experiments.tpu_sweep --distributed --out gs://b/a\ b --steps 7" in said


def test_a_job_of_ray_starts_one_on_the_first_node(tmp_path):
    program(tmp_path / "bin", "scontrol", 'echo "$@" >&2; echo node7; echo node8')
    program(tmp_path / "bin", "srun", 'echo "$@"')
    job = {
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "NCSIM_PYTHON": "py",
    }
    said = launched("slurm_ray.sh", "--steps", "7", NCSIM_OUT="some where", BIN=str(tmp_path / "bin"), **job)
    assert said.stderr == "show hostnames node[7-8]\n"
    assert said.stdout == (
        "ray symmetric-run --address node7:6379 --min-nodes 2 --num-cpus 16 --object-store-memory 80000000 -- "
        "py -m experiments.tpu_sweep --cluster auto --out some where --steps 7\n"
    )


def stored(folder):
    return {p.name + p.parent.name: p.read_bytes() for p in parts_of(folder)}


@pytest.mark.slow
def test_array_tasks_store_what_one_process_does_and_the_last_reports(tmp_path):
    """With variables as SLURM sets them, one task after the other."""
    for task in ("2", "1"):
        assert not (tmp_path / "array" / "report.html").exists()
        done = launched(
            "slurm_array.sh", *SMALL, NCSIM_OUT=str(tmp_path / "array"), SLURM_ARRAY_TASK_ID=task,
            SLURM_ARRAY_TASK_COUNT="2", SLURM_ARRAY_TASK_MIN="1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "array" / "report.html").exists()
    command = [sys.executable, "-m", "experiments.tpu_sweep", *SMALL, "--out", str(tmp_path / "alone")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert stored(tmp_path / "array") == stored(tmp_path / "alone")
    assert len(stored(tmp_path / "array")) == 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_job_of_ray_on_one_node(tmp_path):
    """Ray's own command, where SLURM says that this machine is its one node."""
    home = {"HOME": str(tmp_path / "home"), "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    program(tmp_path / "bin", "scontrol", "echo 127.0.0.1")
    program(tmp_path / "bin", "srun", f'PATH={Path(sys.executable).parent}:$PATH; exec "$@"')
    job = {"SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
    done = launched("slurm_ray.sh", *SMALL, NCSIM_OUT=str(tmp_path / "run"), BIN=str(tmp_path / "bin"), **job, **home)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert len(stored(tmp_path / "run")) == 2
