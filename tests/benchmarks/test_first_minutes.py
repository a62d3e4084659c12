"""Stages lose nothing that was found, and the first minutes on a GPU can be rehearsed on a CPU. No rate is tested here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import first_minutes, first_stages, stages

ROOT = Path(__file__).resolve().parents[2]
#: A stage of four items: the third ends its process, or does not end.
STAGE = """
import os, sys, time
from pathlib import Path
from benchmarks import stages

def refused():
    raise stages.RefusedError("hidden 16 is\\nnothing for it")

def failed():
    raise ValueError("a device\\nis lost")

def third():
    os._exit(9) if sys.argv[2] == "ends" else time.sleep(60)

items = {"refused": refused, "failed": failed, "third": third, "fourth": lambda: {"pid": os.getpid()}}
sys.exit(stages.do_items(Path(sys.argv[1]), items))
"""


def run(file, what, limit):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return stages.run_stage(file, [sys.executable, "-c", STAGE, str(file), what], limit, environment)


def test_what_fails_or_ends_a_process_costs_itself_alone(tmp_path):
    file = tmp_path / "stage.json"
    assert run(file, "ends", 60) == "done"
    found = stages.read(file)
    assert found["at"] is None
    assert found["items"]["refused"].pop("seconds") >= 0
    assert found["items"]["refused"] == {"refused": "hidden 16 is nothing for it"}
    assert found["items"]["failed"]["failed"] == "ValueError: a device is lost"
    assert found["items"]["third"] == {"failed": "its process ended with status 9"}
    assert found["items"]["fourth"]["pid"] > 0
    # What is done is not done again.
    before = file.read_bytes()
    assert run(file, "ends", 60) == "done"
    assert file.read_bytes() == before


@pytest.mark.slow
def test_a_limit_keeps_what_was_found_and_the_next_call_goes_on(tmp_path):
    file = tmp_path / "stage.json"
    for _ in range(20):  # on a busy machine imports take long
        assert run(file, "sleeps", 3).startswith("stopped after 3 s")
        if list(stages.read(file)["items"]) == ["refused", "failed"]:
            break
    assert stages.read(file)["at"] is None
    assert run(file, "ends", 60) == "done"
    assert list(stages.read(file)["items"]) == ["refused", "failed", "third", "fourth"]


def test_a_process_that_ends_before_its_first_item_is_not_begun_for_ever(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    found = stages.run_stage(tmp_path / "stage.json", command, 60, os.environ)
    assert found == "ended with status 3; see stage.log"


def test_the_table_has_every_stage_and_says_what_is_missing(tmp_path):
    rate = {
        "hidden": 3,
        "executor": "cuda",
        "compile_seconds": 1.0,
        "apart_99": 1e-7,
        "apart_most": 1e-6,
        "right": True,
    }
    rate |= {"rate": 2e10, "slowest": 1e10, "steps": 5, "members": 128, "operations": 2e10 * 1259}
    rates = {"n = 3, cuda": rate, "n = 3, xla": rate | {"right": False}, "n = 64, cuda": {"refused": "hidden 64"}}
    (tmp_path / "rates.json").write_text(json.dumps({"items": rates, "at": None}))
    (tmp_path / "ceilings.json").write_text(
        json.dumps({"items": {"it": {"multiply_add_operations": 5e13, "copy_bytes": 3e12}}, "at": None})
    )
    lines = first_minutes.report(tmp_path, False, {"rates": "stopped after 9 s, at n = 8, xla"})
    text = "\n".join(lines)
    assert "rates: stopped after 9 s, at n = 8, xla" in lines
    assert "members: not run" in lines
    assert "ceilings: of an earlier call" in lines
    assert "  n = 64, cuda: refused: hidden 64" in lines
    assert "50.4%" in text  # 2e10 * 1259 / 5e13
    (wrong,) = [line for line in lines if "WRONG" in line]
    assert "2e+10" not in wrong


def test_limits_fit_the_time_but_for_the_last_stages():
    limits = [limit for _, limit in first_stages.STAGES.values()]
    assert sum(limits[:5]) <= 480
    assert set(first_stages.STAGES) == set(first_minutes.HEADERS)


def rehearsed(tmp_path, *only):
    command = [sys.executable, "-m", "benchmarks.first_minutes", "--rehearse", "--out", str(tmp_path)]
    command += ["--only", *only, "--seconds", "900"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "REHEARSAL on a CPU" in done.stdout
    assert "WRONG" not in done.stdout
    assert "failed:" not in done.stdout
    found = {}
    for name in only:
        assert f"{name}: done" in done.stdout
        found[name] = stages.read(tmp_path / "rehearsal" / f"{name}.json")["items"]
        assert found[name]
    return found


@pytest.mark.slow
def test_can_be_rehearsed(tmp_path):
    found = rehearsed(tmp_path, "device", "rates")
    assert list(found["rates"]) == ["n = 1, cuda", "n = 1, xla"]
    assert all(each["right"] and each["rate"] > 0 for each in found["rates"].values())
    assert found["rates"]["n = 1, xla"]["apart_most"] == 0  # the same program on the same device
    assert found["rates"]["n = 1, cuda"]["apart_most"] < 1e-5


@pytest.mark.thorough
def test_can_be_rehearsed_whole(tmp_path):
    found = rehearsed(tmp_path, *first_stages.STAGES)
    assert found["members"]["cuda"]["alarms"] == 0
