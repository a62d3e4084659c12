"""The main job, small: it ends with a table of claims and a last line that says what they come to."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import figure2, figure2_settings
from ncsim.report.claims import CLAIMS, Finding
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS


@pytest.mark.thorough  # `.ci/run` runs the main job itself
def test_main_job(capsys, tmp_path):
    figure2.main(["--members", "80", "--steps", "120", "--out", "run"])
    lines = capsys.readouterr().out.strip().splitlines()
    assert any(line.startswith("n=3: S > 2 in all 50 runs") for line in lines)
    assert "Contextuality" in lines[-1] or "contextual" in lines[-1]
    for figure in ("figure2a", "figure2b"):
        for suffix in ("png", "svg", "pdf", "csv"):
            assert (tmp_path / "run" / "figures" / f"{figure}.{suffix}").stat().st_size > 500
    claims = json.loads((tmp_path / "run" / "claims.json").read_text())
    assert len(claims) == 6 * 5
    for claim in claims:
        low, high, threshold = claim["estimate"]["low"], claim["estimate"]["high"], claim["threshold"]
        assert claim["answer"] == ("holds" if low > threshold else "fails" if high <= threshold else "open")
    figure2.main(["--members", "80", "--steps", "120", "--out", "run"])
    again = capsys.readouterr()
    assert "training" not in again.err
    assert again.out.strip().splitlines() == lines


def test_settings_are_one(capsys):
    for arguments in (["--hidden", "5"], ["--learning-rate", "0.1", "0.2"]):
        with pytest.raises(SystemExit):
            figure2.main(arguments)
        assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_said_of_members_where_none_is_whole():
    """At n = 4 every member has a network that diverged: "in none of so many members" says nothing of that width, and explains no S there."""
    some, unknown = Estimate(0.3, 0.2, 0.4, ""), Estimate(float("nan"), 0.0, 1.0, "")
    none, delta = Estimate(0.0, 0.0, 0.05, ""), Estimate(-0.4, -0.6, 0.1, "")
    protocols = [protocol.label for protocol in STANDARD_PROTOCOLS]
    found = [Finding(each.text, label, some, 0.5, "fails") for each in CLAIMS for label in protocols]

    def cell(hidden, diverged):
        share, s = (unknown, unknown) if diverged == 80 else (none, some)
        runs = [
            {"protocol": label, "sampled_runs_contextual": none._asdict(), "sampled_runs": 9} for label in protocols
        ]
        return {
            "cell": {"hidden": hidden}, "members": 80, "diverged": {"members": diverged}, "protocols": runs,
            "members_contextual": share._asdict(), "members_with_s_above_2": s._asdict(),
            "pooled": {"contextuality": delta._asdict()},
        }  # fmt: skip

    said = figure2.conclusion(found, {"cells": [cell(2, 0), cell(3, 79), cell(4, 0)]})
    assert "Delta is above 0 in none of 161 members" in said
    said = figure2.conclusion(found, {"cells": [cell(2, 0), cell(3, 0), cell(4, 80)]})
    assert "n=4: Of members nothing is known, since every one has a network that diverged." in said
    assert "wherever S is above 2, direct influence" not in said


def test_members_that_diverged_are_not_counted_among_those_that_have_a_delta():
    """Of 100 members 60 are whole, and a third of these is contextual; of 50 others none is whole."""
    cells = [
        {"members": 100, "diverged": {"members": 40}, "members_contextual": {"value": 20 / 60}},
        {"members": 50, "diverged": {"members": 50}, "members_contextual": {"value": float("nan")}},
    ]
    said = figure2_settings.contextual_members(cells)
    assert said == "Members with Delta above 0, over all cells: 20 of 60"
