"""The critical width and training rows, small; and where a probability passes one half, by hand."""

import json

import numpy as np
import pytest

import ncsim
from experiments import critical_width
from experiments.critical_width import Critical, critical_widths
from ncsim.statistics.intervals import Estimate

pytestmark = pytest.mark.usefixtures("quickly")


def finding(width, values):
    solved = [Estimate(value, max(value - 0.25, 0.0), min(value + 0.25, 1.0), "given") for value in values]
    return critical_width.WidthFinding(width, solved, [])


def test_where_one_half_is_passed():
    values = {2: [0.875, 0.0, 0.0, 0.5], 4: [1.0, 0.0, 0.25, 0.625], 8: [1.0, 0.125, 0.75, 0.875]}
    found = [finding(width, each) for width, each in values.items()]
    critical = critical_widths(found)
    assert critical[0] == Critical(2.0, 2.0, 2.0)
    assert critical[1] == Critical(None, None, None)
    # From 0.25 at n = 4 to 0.75 at n = 8; the upper ends reach one half at n = 4, the lower at n = 8.
    assert critical[2] == Critical(6.0, 4.0, 8.0)
    assert critical[3].value == 2.0
    assert str(critical[1]) == "none [none, none]"


@pytest.mark.thorough
def test_main_job(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(critical_width, "WIDTHS", (2, 3))
    monkeypatch.setattr(critical_width, "ROW_WIDTHS", (2,))
    monkeypatch.setattr(critical_width, "TRAINING_ROWS", (12, 13))
    arguments = ["--members", "64", "--steps", "150", "--out", "run"]
    critical_width.main(arguments)
    first = capsys.readouterr()
    assert "Assumption 1" in first.out
    for figure in ("critical-width", "training-rows"):
        for suffix in ("png", "svg", "pdf", "csv"):
            assert (tmp_path / "run" / "figures" / f"{figure}.{suffix}").stat().st_size > 500
    numbers = json.loads((tmp_path / "run" / "critical_width.json").read_text())
    widths, rows = ncsim.open_run("run/widths"), ncsim.open_run("run/rows")
    for cell, stored in enumerate(numbers["widths"]):
        solved = (widths.records(cell).counts[:, :, 3] == 16).mean(axis=0)
        assert np.allclose([each["value"] for each in stored["solved"]], solved)
    for cell, stored in enumerate(numbers["rows"]):
        records = rows.records(cell)
        trained, held_out = records.training_counts, records.counts - records.training_counts
        count = stored["rows"]
        assert np.all(trained.sum(axis=-1) == count)
        assert np.all(held_out.sum(axis=-1) == 16 - count)
        s = (trained @ [1, -1, -1, 1] / count) @ [1, 1, 1, -1]
        right = held_out @ [0, 1, 1, 2] / (2 * (16 - count))  # answers right of both heads
        assert stored["s"]["value"] == pytest.approx(s.mean())
        assert stored["test_accuracy"]["value"] == pytest.approx(right.mean())
        assert stored["within"]["value"] == pytest.approx(np.corrcoef(s, right.mean(axis=1))[0, 1])
    critical_width.main(arguments)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "training" not in again.err


@pytest.mark.parametrize("arguments", [["--members", "1"], ["--members", "x"], ["--steps", "0"], ["--devices", "0"]])
def test_bad_values_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit):
        critical_width.main(arguments)
    assert capsys.readouterr().err.count("\n") == 1
