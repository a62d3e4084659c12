"""Experiments on scenarios, run small; and the verdicts that their numbers bear."""

import json

import numpy as np
import pytest

from experiments import chained, three_parties
from experiments.shared.figures import points
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.statistics.scenario_values import cycle_of


def at(value, reach=0.1):
    return Estimate(value, value - reach, value + reach, "")


ROW = chained.Row(
    settings=3,
    hidden=2,
    members=100,
    bound=4.0,
    quantum=5.196,
    protocols=("single shot", "retry"),
    value=(at(3.0), at(4.5)),
    above=(at(0.1), at(0.9)),
    contextual_runs=(at(0.0), at(0.0)),
    accuracies=at(3.01),
    delta=at(-1.0),
    contextual=at(0.0),
    largest=0.0,
    certain=at(1.0),
)
STOPPED = chained.Stopped(3, 10, at(0.9), at(0.0), -1.0)
HARD = chained.Hard(2, 1, at(1.0), 0.24, at(-1.5), at(0.0), -0.25)
CONTROL = chained.Control(2, 100, 2.0, 0.0, 0.0)


def test_verdicts_of_chained_values_follow_from_the_intervals():
    said = chained.verdicts([ROW], [STOPPED], [HARD], [CONTROL])
    assert said[0].startswith(
        "The mean value is shown to be above 2 m - 2 under some protocol in 1 of 1 ensembles, of a single shot in 0;"
    )
    assert "to within 0.010" in said[1]
    assert "shown to be above 0 in 0 of 1 ensembles; members with Delta > 0: 0" in said[2]
    assert said[3] == "Every member has a certain head, so that a theorem says it."
    assert said[-1] == "One network with all heads obeys the bound."
    other = ROW._replace(value=(at(4.05), at(4.05)), delta=at(0.3), contextual=at(0.25), certain=at(0.5))
    said = chained.verdicts(
        [other], [STOPPED._replace(contextual=at(0.02), largest=0.25)], [], [CONTROL._replace(largest_value=2.25)]
    )
    assert (
        "shown to be above 2 m - 2 under some protocol in 0 of 1" in said[0]
    )  # 4.05 is, and its interval does not show it
    assert "above 0 in 1 of 1 ensembles; members with Delta > 0: 25" in said[2]
    assert said[3] == "Not every member has a certain head: m = 3, n = 2."
    assert "most at m = 3 after 10 steps" in said[4]
    assert said[-1] == "ONE NETWORK WITH ALL HEADS BREAKS THE BOUND"


def test_verdicts_of_three_parties_tell_what_is_shown():
    """A mean above the bound whose interval has the bound in it is counted nowhere, and the words are those of what is counted."""
    row = three_parties.Row(
        rows=16, hidden=2, steps=10, protocols=("single shot",), mermin=(at(2.05),), mermin_above=(at(0.5),),
        svetlichny=(at(4.05),), svetlichny_above=(at(0.5),), accuracies=(at(2.0), at(4.0)), largest=(3.0, 5.0),
        certain=at(1.0), explained=at(1.0), contextual=at(0.0), excess=0.0, pooled_excess=0.0,
    )  # fmt: skip
    words = "The mean of Mermin's value is shown to be above 2 under some protocol in {} of 1 ensembles, of Svetlichny's above 4 in {}."
    assert three_parties.verdicts([row], [row], (4.0, 1.0))[0] == words.format(0, 0)
    clear = row._replace(mermin=(at(2.5),), svetlichny=(at(4.5),))
    assert three_parties.verdicts([clear], [clear], (4.0, 1.0))[0] == words.format(1, 1)


def test_shares_of_three_parties_stand_beside_one_another(tmp_path, monkeypatch):
    """Members with a certain head, those explained, and contextual ones of the others: three intervals at each number of steps."""
    drawn = []

    def kept(axis, places, estimates, **style):
        drawn.append(np.array(places))
        points(axis, places, estimates, **style)

    monkeypatch.setattr(three_parties, "points", kept)
    monkeypatch.setattr(three_parties, "save_figure", lambda figure, *_: figure.canvas.draw())
    four = (at(2.0),) * 4
    row = three_parties.Row(
        rows=16, hidden=2, steps=3, protocols=("a", "b", "c", "d"), mermin=four, mermin_above=four,
        svetlichny=four, svetlichny_above=four, accuracies=(at(2.0), at(4.0)), largest=(3.0, 5.0),
        certain=at(0.2), explained=at(0.2), contextual=at(0.2), excess=0.0, pooled_excess=0.0,
    )  # fmt: skip
    three_parties.draw([row], [row, row._replace(steps=10)], tmp_path)
    for steps in np.array(drawn[-3:]).T:
        assert len({round(float(each), 3) for each in steps}) == 3


@pytest.mark.parametrize("most", [2, 6])
def test_legends_of_chained_values_hide_no_interval(most, tmp_path, monkeypatch):
    """Intervals everywhere in a panel leave no place for a legend in it: it stands below."""
    seen = []

    def kept(figure, *_):
        figure.canvas.draw()
        seen.extend((axis.get_window_extent(), axis.get_legend().get_window_extent()) for axis in figure.axes)

    monkeypatch.setattr(chained, "save_figure", kept)
    wide = Estimate(2.0, -4.0, 8.0, "")
    rows = [
        ROW._replace(settings=m, hidden=n, protocols=tuple("abcd"), value=(wide,) * 4, delta=wide)
        for m in range(2, most + 1)
        for n in (1, 2)
    ]
    chained.draw(rows, [STOPPED._replace(settings=row.settings) for row in rows], 2, tmp_path)
    assert len(seen) == 3
    assert not any(panel.overlaps(named) for panel, named in seen)


def test_figures_of_scenarios_have_every_protocol(tmp_path, monkeypatch):
    """The fifth, runs until all contexts are solved, was in the tables and neither in a picture nor in the file beside it."""
    kept = {}
    for experiment in (chained, three_parties):
        monkeypatch.setattr(
            experiment, "save_figure", lambda figure, path, header, lines: kept.update({path.name: lines})
        )
    names = tuple(protocol.label for protocol in STANDARD_PROTOCOLS)
    five = tuple(at(2.0 + n / 10) for n in range(5))
    chained.draw([ROW._replace(hidden=2, protocols=names, value=five)], [STOPPED], 2, tmp_path)
    row = three_parties.Row(
        rows=16, hidden=2, steps=3, protocols=names, mermin=five, mermin_above=five, svetlichny=five,
        svetlichny_above=five, accuracies=(at(2.0), at(4.0)), largest=(3.0, 5.0), certain=at(0.2),
        explained=at(0.2), contextual=at(0.2), excess=0.0, pooled_excess=0.0,
    )  # fmt: skip
    three_parties.draw([row], [row], tmp_path)
    assert tuple(line[2] for line in kept["chained"] if line[0] == "value - bound") == names
    for name in ("mermin", "svetlichny"):
        assert [line[2:4] for line in kept["three_parties"] if line[0] == name] == [
            [each, 2.0 + n / 10] for n, each in enumerate(names)
        ]


def test_parities_are_nobody_s_easy_tasks():
    for settings in (2, 3):
        tasks = chained.hard_tasks(settings)
        assert cycle_of(tasks) is not None
        signs = 2 * np.array(tasks.inputs) - 1
        for party in tasks.answers:
            for table in party:  # no bit and no pair of bits tells anything
                answer = 2 * np.array(table) - 1
                assert not (signs.T @ answer).any()
                assert not np.einsum("ra,rb,r->ab", signs, signs, answer)[np.triu_indices(4, 1)].any()


def test_a_ghz_state_is_the_control_of_three_parties():
    value, excess = three_parties.ghz()
    assert value == 4
    assert excess == pytest.approx(1)


@pytest.mark.thorough
def test_small_runs_of_both(tmp_path, capsys):
    chained.main(["--members", "8", "--steps", "5", "--widths", "1", "--most", "2", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "chained.json").read_text())
    assert len(found["rows"]) == len(found["parities"]) == len(found["one_network"]) == 1
    assert [each["steps"] for each in found["stopped_early"]] == [3]
    assert found["conclusion"][-1] in capsys.readouterr().out
    assert (tmp_path / "chained.svg").exists()


@pytest.mark.slow
def test_a_small_run_of_three_parties(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(three_parties, "WIDTHS", {True: (1,)})
    monkeypatch.setattr(three_parties, "EARLY", (2,))
    monkeypatch.setattr(three_parties, "EARLY_HIDDEN", 1)
    three_parties.main(["--members", "4", "--steps", "3", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "three_parties.json").read_text())
    assert [row["rows"] for row in found["rows"]] == [16]
    assert found["ghz"][0] == 4
    assert "GHZ: value 4, excess 1.0000." in capsys.readouterr().out
    assert len((tmp_path / "three_parties.csv").read_text().splitlines()) == 1 + 2 * 5 + 3
