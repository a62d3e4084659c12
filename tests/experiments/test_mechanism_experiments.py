"""Gradient competition, implicit sensing and interventions: what they compute, on data whose answer is known, and small runs."""

import json
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import gradient_competition, implicit_sensing, interventions
from experiments.gradient_competition import Observed, odds_ratio, quintiles, rows_of, spearman
from experiments.implicit_sensing import WINDOWS, Answer
from experiments.interventions import CASES, COMMON, effects, verdicts
from ncsim.config.ensemble import EnsembleConfig
from ncsim.records.members import MemberRecords
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.loss_traces import Detection

pytestmark = pytest.mark.usefixtures("quickly")


def figure_files(stem):
    for suffix in ("png", "svg", "pdf", "csv"):
        assert stem.with_name(f"{stem.name}.{suffix}").stat().st_size > 500


def test_odds_and_ranks_by_hand():
    exposed = np.repeat([True, True, False, False], [30, 10, 15, 45])
    event = np.repeat([True, False, True, False], [30, 10, 15, 45])
    found = odds_ratio(exposed, event)
    assert found.value == pytest.approx(30.5 * 45.5 / (10.5 * 15.5))
    reach = 1.96 * np.sqrt(1 / 30.5 + 1 / 45.5 + 1 / 10.5 + 1 / 15.5)
    assert np.log(found.high / found.value) == pytest.approx(reach)
    one = np.arange(100.0)
    assert spearman(one, np.exp(one / 10)).value == pytest.approx(1)
    assert np.isnan(spearman(one, 0 * one).value)
    share = np.repeat([0.0, 1.0], [70, 30])
    groups = quintiles(share, share > 0.5)
    assert [(place, e.value) for place, e in groups] == [(0.0, 0.0), (1.0, 1.0)]


def test_competition_that_foretells(tmp_path, capsys):
    """Made up: conflict makes a network fail in contexts 12 and 22, and is nothing to the other two."""
    generator = np.random.default_rng(0)
    share = generator.random((2000, 4))
    chance = np.where([False, True, False, True], share, 0.5)
    unsolved = generator.random((2000, 4)) < chance
    curve = np.linspace(0.1, 0.9, 41)[:, None].repeat(4, axis=1)
    rough = np.where([True, True, False, False], share, generator.random((2000, 4)))
    seen = Observed(np.arange(0, 1025, 25), curve, curve, share, share, -share, 1 - share, rough, unsolved)
    rows = rows_of(3, seen)
    # Truths: AUC 0.5 or 5/6, odds ratio 1 or 9, correlation 1 or 0; errors are about 0.013, 10 % and 0.022.
    assert [row.foretold.value for row in rows] == pytest.approx([0.5, 5 / 6, 0.5, 5 / 6], abs=0.05)
    assert [row.odds_ratio.low > 5 for row in rows] == [False, True, False, True]
    assert [row.rough.value for row in rows] == pytest.approx([1, 1, 0, 0], abs=0.09)
    assert rows[3].foretold_by_loss.high < 0.5
    assert rows[0].conflict.low < share[:, 0].mean() < rows[0].conflict.high
    gradient_competition.draw({2: seen, 3: seen}, tmp_path / "drawn")
    figure_files(tmp_path / "drawn")
    told = gradient_competition.conclusion(rows)
    assert f"end unsolved more often in {sum(row.foretold.low > 0.5 for row in rows)}, less often in" in told


def test_sensing_is_drawn_and_told(tmp_path):
    def answer(cell, trace, task, window, observer, auc):
        e = Estimate(auc, auc - 0.01, auc + 0.01, "made up", 0.99)
        return Answer(cell, trace, task, window, observer, Detection(e, e, e, 8, 8, 0))

    found = []
    for cell, auc in (("n = 3", 0.7), ("stop gradient bob, n = 3", 0.5), ("separate trunks, n = 3", 0.52)):
        for task in (1, 2):
            for low, high in WINDOWS:
                window = (int(1000 * low), int(1000 * high))
                found += [answer(cell, "Alice", task, window, name, auc) for name in implicit_sensing.OBSERVERS]
                found.append(answer(cell, "Bob", task, window, "all features", 0.98))
    implicit_sensing.draw(found, tmp_path / "drawn")
    figure_files(tmp_path / "drawn")
    text = implicit_sensing.conclusion(found)
    assert "Zero controls: 16 of 32 have 0.5" in text
    assert "Of 16 AUCs of Alice's trace the largest is at n = 3, alpha_1" in text
    assert "its interval is not adjusted for being the largest of 16" in text
    assert "the trace tells 0.690 bits or more, by the lower limit" in text
    # An interval that holds values below 0 bears no "at least".
    wide = implicit_sensing.bits_said(Estimate(0.022, -0.521, 0.565, "made up", 0.99))
    assert wide == "The log loss gives 0.022 [-0.521, 0.565] bits of 1: by it the trace is not shown to tell anything."
    names = [implicit_sensing.FEATURES[n] for n in implicit_sensing.OBSERVERS["oscillation"]]
    assert names[:2] == ["log detrended variance", "sign changes"]


def records_of(tables):
    """Members with these joint counts, [4, 4] a member."""
    counts = np.array(tables, np.int32)
    zero = np.zeros((len(counts), 4), np.int32)
    loss = zero.astype(np.float32)
    product = counts[:, :, [0, 3]].sum(-1) - counts[:, :, [1, 2]].sum(-1)
    ids = np.arange(len(counts), dtype=np.uint64)
    return MemberRecords(ids, counts, loss, loss, zero > 0, zero, zero, product.astype(np.int32))


def made_up_run(common, tables):
    """Every case with the same members: joint counts [4, 4] a member."""
    records, counts = records_of(tables), np.array(tables)
    names = list(COMMON if common else CASES)
    base = EnsembleConfig(members=len(counts), common_initialization=common)
    configs = [
        EnsembleConfig(**{"members": len(counts), "common_initialization": common} | CASES[name]) for name in names
    ]
    assert base in configs
    return Run(configs, [records] * len(names)), names


@pytest.mark.slow
def test_expectations_are_judged(tmp_path):
    perfect, bob_wrong_22 = [[0, 0, 0, 16]] * 4, [[0, 0, 0, 16]] * 3 + [[0, 0, 8, 8]]
    found = [e for common in (False, True) for e in effects(*made_up_run(common, [perfect] * 30))]
    assert all(verdict.met for verdict in verdicts(found))
    assert found[0].s.value == 2
    assert found[0].s_retry.value == pytest.approx(2)
    broken = [e for common in (False, True) for e in effects(*made_up_run(common, [perfect] * 5 + [bob_wrong_22] * 45))]
    judged = verdicts(broken)
    assert [verdict.met for verdict in judged] == [False] * 4 + [True]  # Alice is right whatever Bob does
    assert broken[0].s.value == pytest.approx(2 + 0.9)
    assert broken[0].alice_on_bob.value == pytest.approx(0.9)
    assert broken[0].bob_on_alice.value == 0
    assert broken[0].solved[3].value == pytest.approx(0.1)
    interventions.draw(broken, tmp_path / "drawn")
    figure_files(tmp_path / "drawn")
    assert len(interventions.printed(broken)) > len(broken)


def test_influences_are_judged_by_an_interval_of_their_own_level(monkeypatch):
    """Thirty members alike, Alice wrong beside beta_2 on n of 16 rows of her first task. A kind of member that none of 30 is may be one of
    1 - 0.0005^(1/30) at 99.9 %, and may lie 8 away: 1.790 is not told from 0. An interval of 95 % made longer by 3.29 / 1.96 has 1.558."""
    monkeypatch.setattr(interventions, "summarise", lambda run: Mock(laws=None))
    for wrong, met in ((12, True), (13, True), (14, True), (15, False)):
        table = [[0, 0, 0, 16], [0, wrong, 0, 16 - wrong], [0, 0, 0, 16], [0, 0, 0, 16]]
        found = [e for common in (False, True) for e in effects(*made_up_run(common, [table] * 30))]
        assert found[0].bob_on_alice.value == wrong / 8
        assert (wrong / 8 <= 8 * (1 - 0.0005 ** (1 / 30))) == met
        own = [each for each in verdicts(found) if "own starts" in each.expectation]
        assert [each.met for each in own] == [met] * 2


@pytest.mark.slow
def test_an_influence_that_cancels_is_one():
    """Alice is right beside beta_1 and wrong on half of the rows beside beta_2 with her first task, and the other way round with her second."""
    half, right = [0, 8, 0, 8], [0, 0, 0, 16]
    found = [e for common in (False, True) for e in effects(*made_up_run(common, [[right, half, half, right]] * 30))]
    stopped = next(e for e in found if e.case == "stop Bob's gradient" and e.common_initialization)
    assert stopped.bob_on_alice.value == 0
    assert stopped.largest_bob_on_alice == 1
    assert not verdicts(found)[-1].met


def test_cases_are_compared_member_by_member():
    """S of members is 2, 2.25, .., 4, and PCGrad adds 1/8 to each: known better than either mean. One member has diverged in one case."""

    def tables(wrong):
        return [[[0, 0, 0, 16]] * 3 + [[0, 0, n, 16 - n]] for n in wrong]

    wrong = np.repeat(np.arange(0, 16, 2), 150)
    plain, other = records_of(tables(wrong)), records_of(tables(wrong + 1))
    lost = other.diverged.copy()
    lost[0, 2] = True
    configs = [EnsembleConfig(members=len(wrong), intervention=name) for name in ("none", "pcgrad")]
    run = Run(configs, [plain, other._replace(diverged=lost)])
    (found,) = interventions.changes(run, ["no intervention", "PCGrad"])
    assert found.members == len(wrong) - 1
    assert found.s.value == pytest.approx(1 / 8)
    assert 0 < found.s.low < 1 / 8 < found.s.high < 1 / 4
    apart = [interventions.mean_over_members(2 + w / 8, (-4, 4)) for w in (wrong, wrong + 1)]
    assert found.s.high - found.s.value < np.hypot(*(each.high - each.value for each in apart))
    assert found.member_influence.value == pytest.approx(1 / 8)
    assert found.solved[3].value == pytest.approx(-149 / 1199)
    assert found.solved[0].value == 0
    assert len(interventions.printed_changes([found])) == 3


def test_the_window_of_conflict_is_where_the_page_says():
    """Recorded steps that lie in it: of 3,000 steps both ends are recorded, of 510 neither."""
    for steps, ends in ((3000, (150, 750)), (510, (50, 125))):
        step = np.unique([*range(0, steps, 25), steps])
        assert tuple(step[list(gradient_competition.window_of(step))]) == ends
        inside = step[(step >= 0.05 * steps) & (step <= 0.25 * steps)]
        assert (inside[0], inside[-1]) == ends


@pytest.mark.thorough
def test_main_jobs(tmp_path, capsys, monkeypatch):
    """Interventions without those of which nothing is expected, and one zero control: every case is a program of its own."""
    monkeypatch.setattr(implicit_sensing, "CONTROLS", implicit_sensing.CONTROLS[:1])
    monkeypatch.setattr(interventions, "CASES", {name: CASES[name] for name in COMMON})
    interventions.main(["--members", "200", "--common-members", "64", "--steps", "200", "--out", "iv"])
    assert "5 of 5 expectations met" in capsys.readouterr().out
    interventions.main(["--members", "200", "--common-members", "64", "--steps", "200", "--out", "iv"])
    assert "training" not in capsys.readouterr().err
    figure_files(tmp_path / "iv" / "interventions")
    implicit_sensing.main(["--members", "200", "--steps", "800", "--widths", "2", "--out", "is"])
    assert "Zero controls" in capsys.readouterr().out
    answers = json.loads((tmp_path / "is" / "implicit_sensing.json").read_text())["answers"]
    assert len(answers) == 2 * 2 * 4 * 3
    gradient_competition.main(["--members", "100", "--steps", "500", "--widths", "2", "--out", "gc"])
    assert "conflict foretells" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "gc" / "gradient_competition.json").read_text())["rows"]) == 4


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (implicit_sensing, ["--members", "4"], "--members: 4; allowed: 16 or more"),
        (implicit_sensing, ["--steps", "100"], "--steps: 100; allowed: 800 or more"),
        (gradient_competition, ["--steps", "30"], "--steps: 30; allowed: 500 or more"),
        (gradient_competition, ["--widths", "3", "3"], "--widths: 3 3; allowed: each width once"),
        (interventions, ["--members", "1"], "--members: 1; allowed: 2 or more"),
        (interventions, ["--common-members", "1"], "--common-members: 1; allowed: 2 or more"),
        (interventions, ["--hidden", "0"], "--hidden: 0; allowed: a whole number from 1 to 64"),
    ],
)
def test_what_cannot_be_run_is_one_line(module, arguments, message, capsys):
    with pytest.raises(SystemExit):
        module.main(arguments)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
