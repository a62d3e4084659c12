"""The launch scripts: right shell, and run where their scheduler is made believe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_pod_gets_one_command_on_every_host(tmp_path):
    program(tmp_path / "bin", "gcloud", 'printf "%s\\n" "$@"')
    said = launched("tpu_pod.sh", "pod", "zone-a", "gs://b/a b", "--steps", "7", BIN=str(tmp_path / "bin")).stdout
    assert "--worker\nall\n" in said
    assert r"-m experiments.tpu_sweep --distributed --out gs://b/a\ b --steps 7" in said


@pytest.mark.slow
def test_array_tasks_and_processes_store_the_same(tmp_path):
    """Both ways of SLURM, with variables as it sets them: array tasks one after the other, processes at once."""
    for task in ("1", "2"):
        done = launched(
            "slurm_array.sh", *SMALL, NCSIM_OUT=str(tmp_path / "array"), SLURM_ARRAY_TASK_ID=task,
            SLURM_ARRAY_TASK_COUNT="2", SLURM_ARRAY_TASK_MIN="1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    step = "export SLURM_JOB_ID=$$ SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2\nshift\n"
    each = 'for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & ids="$ids $!"; done\n'
    program(tmp_path / "bin", "srun", f"{step}ids=\n{each}for id in $ids; do wait $id || exit 1; done")
    done = launched("slurm_processes.sh", *SMALL, NCSIM_OUT=str(tmp_path / "processes"), BIN=str(tmp_path / "bin"))
    assert done.returncode == 0, done.stderr
    stored = [
        {p.name + p.parent.name: p.read_bytes() for p in (tmp_path / way).rglob("*.parquet")}
        for way in ("array", "processes")
    ]
    assert stored[0] == stored[1]
    assert len(stored[0]) == 2
    assert (tmp_path / "processes" / "report.html").exists()
