"""One member, adapter, group, file or cell that is told of is one."""

import dataclasses

import pytest

import ncsim
from ncsim.ensemble.audit import Audit, Difference
from ncsim.hub.ensemble import export_run
from ncsim.report.sentences import run_verdict
from ncsim.report.summary import summarise
from ncsim.report.training import training_lines
from ncsim.report.until import until_sentence
from ncsim.results import Run
from ncsim.statistics.intervals import clopper_pearson
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
from ncsim.text.audit import TextAudit
from tests.statistics.test_protocols import made_up

ONE = ncsim.EnsembleConfig(members=1)


def test_of_a_run_of_one_member(tmp_path):
    folder = RunFolder.create(tmp_path / "one", [ONE])
    with pytest.raises(ncsim.ConfigError, match="to_xarray: 1 member is still to be trained; allowed"):
        ncsim.open_run(folder.path).to_xarray()
    two = dataclasses.replace(ONE, members=2)
    half = RunFolder.create(tmp_path / "two", [two])
    half.write_part(two, made_up(1))
    export_run(ncsim.open_run(half.path), str(tmp_path / "hub"))
    assert "Not complete: 1 member was still to be trained." in (tmp_path / "hub" / "README.md").read_text()
    folder.write_part(ONE, made_up(1))
    assert verify(folder.path).lines() == ["1 part with 1 member: whole; nothing is missing or wrong"]
    left = dataclasses.replace(verify(folder.path), leftovers=1).lines()
    assert "1 file was begun by a worker that was killed; nothing reads it" in left


def test_of_audits():
    (_, said) = Audit(0, 1, 1, [Difference("the ensemble", 0, ("joint",))], []).lines()
    assert said == "Audit: 1 of 1 member (100.00%, seed 0) trained again: 1 differs."
    (_, said) = TextAudit(0, 1, 1, ["parts/group-001.parquet"], [], []).lines()
    assert said == "Audit: 1 of 1 group of adapters (seed 0) trained again: 1 file differs."


def test_of_a_run_that_was_to_be_precise():
    told = {"until": "mean S +- 0.1", "stopped": "members", "members": 1, "at_most": 1, "intervals": []}
    assert until_sentence(told).startswith("Stopped at 1 member, the most that were allowed,")
    assert until_sentence(told | {"stopped": "precise"}).startswith("Stopped at 1 of at most 1 member, which ")


def test_a_cell_that_has_both_the_least_and_the_most_is_told_once():
    """The interval of 3 in 4 holds that of 50 in 100: "0.500 (hidden=3) to 0.500 (hidden=3)" was said of the two."""
    configs = ncsim.config_grid(hidden=[3, 4], members=300)
    numbers = summarise(Run(configs, [made_up(300, seed=2), made_up(300, seed=3)])).numbers
    shares = [clopper_pearson(50, 100), clopper_pearson(3, 4)]
    for cell, share in zip(numbers["cells"], shares, strict=True):
        cell["members_with_s_above_2"] = share._asdict()
    assert shares[1].low < shares[0].low < shares[0].high < shares[1].high
    said = f"S is above 2 in {shares[0]} of members (hidden=3), whose interval lies within that of each other cell"
    assert run_verdict(numbers)[0].startswith(said)
    numbers["cells"][1]["members_with_s_above_2"] = clopper_pearson(90, 100)._asdict()
    said = f"S is above 2 in {shares[0]} (hidden=3) to {clopper_pearson(90, 100)} (hidden=4) of a cell's members"
    assert run_verdict(numbers)[0].startswith(said)


def test_of_one_recorded_step():
    numbers = {"recorded_steps": 1, "members_without_recording": 0, "members": [0], "step": [1]}
    numbers["mu_grad_s"] = {"value": float("nan"), "low": -1.0, "high": 1.0}
    assert training_lines(numbers) == ["Along training, 1 recorded step: every member has a diverged network at each."]
