"""Figure 4, small: the slopes it prints are those of the stored counts, and a second call trains nothing."""

import json

import numpy as np
import pytest

import ncsim
from experiments import figure4

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.mark.thorough
def test_main_job(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(figure4, "WIDTHS", (2, 3))
    arguments = ["--members", "64", "--steps", "60", "--record-points", "7", "--out", "run"]
    figure4.main(arguments)
    first = capsys.readouterr()
    assert "mu_gradS" in first.out
    assert "contextual" in first.out.strip().splitlines()[-1].lower()
    for figure in ("figure4", "figure4-underneath"):
        for suffix in ("png", "svg", "pdf", "csv"):
            assert (tmp_path / "run" / "figures" / f"{figure}.{suffix}").stat().st_size > 500
    numbers = json.loads((tmp_path / "run" / "figure4.json").read_text())
    run = ncsim.open_run("run")
    for cell, width in enumerate((2, 3)):
        (there,) = run.trajectories(cell)
        correlators = np.einsum("mrcx,x->mrc", there.counts.astype(float), [1, -1, -1, 1]) / 16
        s = correlators @ [1, 1, 1, -1]
        stored = numbers["widths"][str(width)]
        assert np.allclose(stored["s"]["mean"], s.mean(axis=0))
        last = stored["slopes"][-1]
        assert (last["first"], last["last"]) == (20, 60)
        assert last["mean"] == pytest.approx(1000 * (s[:, 6] - s[:, 2]).mean() / 40)
    figure4.main(arguments)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "training" not in again.err


def test_settings_are_one(capsys):
    for arguments in (["--hidden", "5"], ["--learning-rate", "0.1", "0.2"], ["--record-points", "x"]):
        with pytest.raises(SystemExit):
            figure4.main(arguments)
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "4"], "--steps: 4, of which 5 are recorded"),
        (["--record-points", "3"], "--steps: 3000, of which 3 are recorded (--record-points); allowed: more of either"),
        (
            ["--steps", "40", "--members", "4", "--learning-rate", "1e30"],
            "every member of n=2 has a network that diverged",
        ),
    ],
)
def test_what_has_no_slope_is_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(figure4, "WIDTHS", (2,))
    with pytest.raises(SystemExit):
        figure4.main([*arguments, "--out", "run"])
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert not any("Traceback" in line for line in said)
