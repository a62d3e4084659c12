"""The critical width and training rows, small; and where a probability passes one half, by hand."""

import json

import numpy as np
import pytest
from scipy import stats

import ncsim
from experiments import critical_width
from experiments.critical_width import Critical, critical_widths
from ncsim.records.members import MemberRecords
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import Protocol, ProtocolLaw

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


def law(members, wrong):
    """Under a retry: all networks are right on all rows but `wrong` of each, in which Alice's head fails."""
    zero = np.zeros((members, 4), np.int32)
    counts = np.broadcast_to(np.array([0, wrong, 0, 16 - wrong], np.int32), (members, 4, 4))
    loss, product = zero.astype(np.float32), zero + 16 - 2 * wrong
    records = MemberRecords(np.arange(members, dtype=np.uint64), counts, loss, loss, zero > 0, zero, zero, product)
    return ProtocolLaw(Protocol("retry", 20), Outcomes([records], ncsim.EnsembleConfig(members=members)))


def test_what_few_members_do_not_tell_is_not_denied():
    """Of 200 networks that all solve a context twenty tries may still meet another kind, so that the interval is long."""
    found = [critical_width.WidthFinding(64, [], [law(200, 0)])]
    assert found[0].laws[0].law.between(1.75, 2.25) == pytest.approx(1)
    assert critical_width.settling(found, 0).startswith(
        "whether it settles at 2 these members do not tell: at n=64 1.000 ["
    )
    many = [critical_width.WidthFinding(64, [], [law(20_000, 0)])]
    assert critical_width.settling(many, 0) == "within 1/4 of 2 in nine runs of ten from n=64 on."
    never = [critical_width.WidthFinding(64, [], [law(20_000, 8)])]  # S = 0
    assert critical_width.settling(never, 0) == "it does not settle at 2."


def test_correlation_over_cells_of_few_members():
    """The jackknife leaves out each of five members, and no groups in which there is none."""
    cells = np.random.default_rng(0).normal(size=(4, 5, 2)) + np.arange(4)[:, None, None]
    found = [critical_width.RowFinding(8, n, None, None, None, [], None, each) for n, each in enumerate(cells)]

    def r(members):
        return np.corrcoef(members.mean(axis=1).T)[0, 1]

    left_out = np.array([r(np.delete(cells, n, axis=1)) for n in range(5)])
    reach = stats.t.ppf(0.975, 4) * np.sqrt(4 / 5 * np.sum((left_out - left_out.mean()) ** 2))
    value = critical_width.across_cells(found)
    assert value.value == pytest.approx(r(cells))
    assert value.low == pytest.approx(max(r(cells) - reach, -1))


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--members", "1"], ["--members", "x"], ["--members", "9" * 5_000], ["--steps", "0"], ["--devices", "0"],
        ["--members", "1_000", "--devices", "0"],
    ],
)  # fmt: skip
def test_bad_values_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit):
        critical_width.main(arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{arguments[-2]}: " in error, "and 1_000 members are a whole number"
