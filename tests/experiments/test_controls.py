"""The controls, run small: every check passes, and a control that is broken on purpose is reported as failed."""

import json

import numpy as np
import pytest

from experiments import controls
from ncsim.statistics.chsh import chsh_statistics

pytestmark = pytest.mark.usefixtures("quickly")

MEMBERS = 48


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the command gives and what it prints, with a few members."""
    out = tmp_path_factory.mktemp("controls")
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda text, **_: lines.extend(text.splitlines()))
        controls.main(["--members", str(MEMBERS), "--out", str(out)])
    return out, lines


@pytest.mark.slow
def test_every_control_passes(run):
    out, lines = run
    checks = json.loads((out / "controls.json").read_text())
    judged = [check for check in checks if check["passed"] is not None]
    assert all(check["passed"] for check in judged)
    assert lines[-1] == f"{len(judged)} of {len(judged)} checks pass."
    assert len({check["control"] for check in checks}) == 9
    assert not any("FAIL" in line for line in lines)
    for suffix in ("png", "svg", "pdf", "csv"):
        assert (out / f"controls.{suffix}").stat().st_size > 500
    assert sum("expected" in line for line in (out / "controls.csv").read_text().splitlines()) == 2 * 9 + 1


@pytest.mark.slow
def test_delta_above_0_under_label_noise_is_reported_and_no_failure(run):
    checks = json.loads((run[0] / "controls.json").read_text())
    (share,) = [
        check
        for check in checks
        if check["control"] == "label noise, half shared" and check["quantity"] == "members with Delta > 0"
    ]
    assert share["passed"] is None
    assert share["measured"]["low"] > 0
    assert share["measured"]["low"] < controls.noise_if_learned(0.5)[0] < share["measured"]["high"]


def test_share_of_noise_by_hand():
    # Delta = 1/4 where exactly one context has its two errors on different rows, and no more than 0 elsewhere.
    for shared in (0.0, 0.5, 1.0):
        same = shared + (1 - shared) / 16
        share, (s, delta) = controls.noise_if_learned(shared)
        assert share == pytest.approx(4 * same**3 * (1 - same))
        assert (*s, *delta) == (1.25, 2.25, -0.5, 0.25)


def failed(control):
    return [check.quantity for check in controls.failures([control])]


def test_broken_tables_are_found():
    box = controls.pr_box_counts()
    assert failed(controls.pr_box(box)) == []
    box[1, 1] = box[0, 0]
    assert {"S", "Delta", "CNT2"} <= set(failed(controls.pr_box(box)))
    assert failed(controls.tsirelson(controls.pr_box_counts() / 8)) == ["S", "Delta", "CNT2, linear programme"]
    strategies = controls.STRATEGIES.copy()
    strategies[3, 1, 1] = strategies[3, 1, 1, ::-1]
    assert "largest |S|" in failed(controls.local_strategies(strategies))
    nothing = np.zeros((2, 2, 2, 2), np.int64)  # NaN is no pass
    assert all(check.passed is False for check in (controls.equal("S", 4, chsh_statistics(nothing).s),))


def test_broken_networks_are_found():
    # Context 22 of another network than the others: the four heads are one network no longer.
    four = np.stack([controls.pr_box_counts() * 0] * 2)
    four[:, :, :, 1, 1] = 16
    assert failed(controls.four_heads(four)) == []
    four[1, 1, 1] = [[0, 16], [0, 0]]
    assert failed(controls.four_heads(four)) == [
        "largest |S| of a member",
        "largest influence of a member",
    ]
    # All heads perfect, although labels were wrong; and a network that was not told the context.
    perfect = np.stack([controls.pr_box_counts() * 0] * 2)
    perfect[..., 1, 1] = 16
    assert failed(controls.label_noise("noise", perfect, shared=0.0)) == ["perfect heads"]
    assert failed(controls.given_context(perfect)) == ["mean S", "mean Delta"]


def test_shuffling_that_keeps_pairs_is_found(monkeypatch):
    box = np.stack([controls.pr_box_counts()] * 20)
    assert failed(controls.shuffled_pairing("shuffled", box, 0)) == []

    class Lazy:
        def permuted(self, values, axis):
            return values

    monkeypatch.setattr(controls.np.random, "default_rng", lambda seed: Lazy())
    assert failed(controls.shuffled_pairing("shuffled", box, 0)) == [
        "mean S, shuffled",
        "correlators off a b, largest, in standard errors",
    ]


def test_a_failed_check_is_said_and_is_the_exit_status(monkeypatch, capsys, tmp_path):
    box = controls.pr_box_counts()
    broken = controls.pr_box(box[::-1] + box)
    sound = controls.tsirelson(controls.tsirelson_table())
    monkeypatch.setattr(controls, "controls", lambda members, seed: [broken, sound])
    with pytest.raises(SystemExit) as ended:
        controls.main(["--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert printed.splitlines()[-1].endswith("checks pass. Failed: PR box.")


def test_what_cannot_be_is_refused(capsys):
    for arguments in (["--members", "1"], ["--seed", "-1"]):
        with pytest.raises(SystemExit) as ended:
            controls.main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
