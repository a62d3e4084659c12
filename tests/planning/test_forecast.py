"""The words and sums of a forecast, of numbers that are written down here."""

import math
import types

import pytest

import ncsim
from ncsim.config.recording import Recording
from ncsim.planning import forecast, plan
from ncsim.planning.forecast import CellForecast, Forecast

GRID = ncsim.config_grid(hidden=[2, 30], members=5_000, steps=[100])


def cell(config, **changes):
    known = {
        "config": config, "members": 5_000, "parts": 2, "executor": "native", "network_steps": 2_000_000,
        "training_seconds": 4.0, "compile_seconds": 3.0, "disk_bytes": 250_000.0, "calibrated": True,
    }  # fmt: skip
    return CellForecast(**(known | changes))


def made(*cells, **changes):
    known = {
        "cells": cells, "device": "4 x cpu (cpu)", "swept": ("hidden",), "start_seconds": 2.0, "report_seconds": 5.0,
        "peak_memory_bytes": 3e8, "free_disk_bytes": 1e9, "calibration_seconds": 7.0,
    }  # fmt: skip
    return Forecast(**(known | changes))


TWO = (
    cell(GRID[0]),
    cell(GRID[1], parts=3, executor="xla", training_seconds=16.0, compile_seconds=0.0, calibrated=False),
)


@pytest.fixture(autouse=True)
def _memory(monkeypatch):
    """Of a machine with 16 GB."""
    monkeypatch.setattr(forecast, "memory", lambda: 16e9)


def words(line):
    return line.split()


def test_the_table_has_each_cell_and_the_sums_of_all():
    lines = made(*TWO).lines()
    head = "hidden members network-steps executor rate/s training compile disk parts".split()
    assert words(lines[0]) == head
    rows = [words(line) for line in lines[1:] if line.strip() and not set(line) <= set(" -")][:3]
    assert rows[0] == "2 5,000 2e+06 native 5e+05 4.0 s 3.0 s 250 kB 2".split()
    assert rows[1] == "~30 5,000 2e+06 xla 1.25e+05 16.0 s 0.0 s 250 kB 3".split()
    assert rows[2] == "total 10,000 4e+06 2e+05 20.0 s 3.0 s 500 kB 5".split()


@pytest.mark.parametrize(("swept", "values"), [(("hidden", "steps"), ["~2", "100"]), ((), ["~the", "ensemble"])])
def test_columns_stand_below_their_names(swept, values):
    """A cell has all swept values, the first one marked where it is not calibrated; below stands the sum of each column."""
    lines = made(cell(GRID[0], calibrated=False), swept=swept).lines()
    at = lines[0].index("members")
    assert lines[0][:at].split() == list(swept or ["cell"])
    assert lines[2][:at].split() == values
    assert (lines[2][at:].split()[0], lines[3][:at].split(), lines[3][at:].split()[0]) == ("5,000", ["total"], "5,000")


def test_values_are_spelled_as_the_command_line_takes_them():
    """They were True, and nothing of options that are none."""
    grid = ncsim.config_grid(common_initialization=[True], optimizer_options=["", "b1=0.8"])
    lines = made(*map(cell, grid), swept=("common_initialization", "optimizer_options")).lines()
    assert [line.split()[:2] for line in lines[2:4]] == [["true", '""'], ["true", "b1=0.8"]]


def test_the_lines_below_it_tell_what_the_command_takes():
    told = made(*TWO).lines()
    assert "On 4 x cpu (cpu); calibrated in 7 s." in told
    assert "Time: 30.0 s (start 2.0 s, compiling 3.0 s, training 20.0 s, report 5.0 s)." in told
    assert "Memory: 300 MB at most." in told
    assert "Memory: 1.24 GB at most." in made(*TWO, peak_memory_bytes=1.2345e9).lines()  # what is at most is rounded up
    assert "Disk: 500 kB, with 1 GB free." in told
    assert told[-1] == "~ not calibrated itself: with the costs of the most similar program that was."
    assert not any(line.startswith("Not enough") for line in told)


def test_sums():
    found = made(*TWO)
    assert (found.training_seconds, found.compile_seconds, found.disk_bytes) == (20.0, 3.0, 500_000.0)
    assert (found.run_seconds, found.total_seconds) == (23.0, 30.0)
    assert (TWO[0].rate, TWO[1].rate) == (500_000.0, 125_000.0)
    assert math.isnan(cell(GRID[0], members=0, network_steps=0, training_seconds=0.0).rate)


@pytest.mark.parametrize("short", [False, True])
def test_what_there_is_not_enough_of_is_told_and_what_is_just_enough_is_not(short):
    more = 1.0 if short else 0.0
    told = made(*TWO, free_disk_bytes=500_000.0 - more, peak_memory_bytes=16e9 + more).lines()
    assert any(line.startswith("Not enough disk: ") for line in told) == short
    assert ("Not enough memory: this machine has 16 GB." in told) == short


def test_a_run_with_nothing_left_to_train_has_no_rate():
    done = cell(GRID[0], members=0, parts=0, network_steps=0, training_seconds=0.0, compile_seconds=0.0, disk_bytes=0.0)
    told = made(done, swept=()).lines()
    rows = [words(line) for line in told[2:4]]
    assert rows[0] == "the ensemble 0 0 native - 0.0 s 0.0 s 0 B 0".split()
    assert rows[1] == "total 0 0 - 0.0 s 0.0 s 0 B 0".split()
    assert not any("not calibrated" in line for line in told)


def test_a_stored_run_goes_on_recording_at_its_own_steps():
    """Where it recorded, whether or not that is asked for again; else as is asked for."""
    refused = []

    def stored(recording):
        return types.SimpleNamespace(recording=lambda: recording, refuse=lambda *both: refused.append(both))

    nine, ten = Recording(points=9), Recording(points=10)
    assert plan._recording(stored(None), None) is None
    assert plan._recording(stored(None), nine) == nine
    assert plan._recording(stored(nine), None) == nine
    assert plan._recording(stored(nine), Recording(points=9)) == nine
    assert refused == []
    plan._recording(stored(nine), ten)
    assert refused == [(nine, ten)]
