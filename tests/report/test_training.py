"""What a report says of a run that was recorded along training, and that it says nothing else of one that was not."""

import csv
import dataclasses
import json
import os
import re
import time
import types

import numpy as np
import pandas
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.formatting import json_text
from ncsim.report import figures, training, training_figure
from ncsim.report.page import report_page
from ncsim.report.summary import summarise
from ncsim.report.training import training_lines, training_numbers, training_rows
from ncsim.report.watch import watch
from ncsim.report.write import printed, write_report
from ncsim.storage.files import LocalStorage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.study import Study
from tests.report.test_page import Page
from tests.statistics import test_trajectory_tally
from tests.statistics.test_protocols import made_up
from tests.statistics.test_trajectory_tally import STEPS

RECORDING = ncsim.Recording(points=5)


def recorded(members=90, **more):
    """Trajectories in which no member is contextual; S is 0 at first, and then 1.5, 2, 2.5 and 2 for all."""
    trajectories = test_trajectory_tally.made_up(members, **more)
    trajectories.counts[:] = [0, 0, 0, 16]
    trajectories.counts[:, 0] = [4, 4, 4, 4]
    for step, wrong in ((1, 4), (2, 8), (3, 12), (4, 8)):
        # In context 22 Alice is wrong on some rows, so that S = 2 + 2 wrong / 16 if the others are solved.
        trajectories.counts[:, step, 3] = [0, wrong, 0, 16 - wrong]
    trajectories.counts[:, 1, 0] = [0, 8, 0, 8]
    trajectories.counts[:, 2, 0] = [0, 8, 0, 8]
    return trajectories


def a_grid(path, cells=2, members=90):
    """A run of so many widths."""
    configs = ncsim.config_grid(hidden=list(range(2, 2 + cells)), members=members, steps=60)
    folder = RunFolder.create(path, configs)
    for config in configs:
        folder.write_part(config, made_up(members, seed=config.hidden))
    return folder


def record(folder, trajectories):
    for config in folder.configs:
        TrajectoryFolder(folder).write_recorded(config, trajectories, RECORDING)


def files(folder):
    there = [*(folder / "figures").iterdir(), folder / "report.html", folder / "summary.json"]
    return {path.name: path.read_bytes() for path in there}


def a_part_of(path, trajectories, members, recording=RECORDING):
    """A run of some of 90 members, by ids, and what was recorded of them; None for nothing."""
    config = dataclasses.replace(
        ncsim.EnsembleConfig(hidden=2, steps=60), first_member=members.start, members=len(members)
    )
    folder = RunFolder.create(path, [config])
    there = slice(members.start, members.stop)
    folder.write_part(config, made_up(90, seed=2).take(there))
    if trajectories is not None:
        TrajectoryFolder(folder).write_recorded(config, trajectories.take(there), recording)


def test_several_folders_have_the_training_of_all_their_members(tmp_path, capsys):
    whole = recorded()
    a_part_of(tmp_path / "whole", whole, range(90))
    a_part_of(tmp_path / "a", whole, range(33))
    a_part_of(tmp_path / "b", whole, range(33, 70))
    a_part_of(tmp_path / "c", whole, range(70, 90))
    expected = summarise(ncsim.open_run(tmp_path / "whole")).numbers["cells"][0]["training"]
    study = summarise(Study([tmp_path / name for name in "abc"])).numbers["cells"][0]
    assert study["members"] == 90
    assert_alike(study["training"], expected)
    main(["report", *(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "study")])
    assert "Along training" in capsys.readouterr().out
    assert (tmp_path / "study" / "figures" / "training.svg").exists()


def test_folders_that_recorded_nothing_or_otherwise(tmp_path, capsys):
    """What was recorded is told of those members; of two recordings, nothing, and why in one line."""
    whole = recorded()
    a_part_of(tmp_path / "a", None, range(33))
    a_part_of(tmp_path / "b", whole, range(33, 70))
    training = summarise(Study([tmp_path / "a", tmp_path / "b"])).numbers["cells"][0]["training"]
    assert training["members"] == [37] * 5
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"/a: 33 of 70 members have no recording, and what is said of training is of the others$", line)
    fewer = whole._replace(
        step=whole.step[::2], counts=whole.counts[:, ::2], values={k: v[:, ::2] for k, v in whole.values.items()}
    )
    a_part_of(tmp_path / "c", fewer, range(70, 90), ncsim.Recording(points=3))
    assert "training" not in summarise(Study([tmp_path / "b", tmp_path / "c"])).numbers["cells"][0]
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "recorded members differently" in error


def test_members_in_folders_without_a_recording_are_counted_by_cell(tmp_path, capsys):
    """One line for each cell of which others were recorded, of all folders that did not; none of a folder without its members."""
    folder = a_grid(tmp_path / "a", members=30)
    record(folder, recorded(30))
    a_part_of(tmp_path / "b", None, range(30, 61))
    more = [dataclasses.replace(config, first_member=61, members=32) for config in folder.configs]
    without = RunFolder.create(tmp_path / "c", more)
    for config in more:
        without.write_part(config, made_up(93).take(slice(61, 93)))
    RunFolder.create(tmp_path / "d", [dataclasses.replace(more[0], first_member=93)])
    study = Study([tmp_path / name for name in "abcd"])
    numbers = summarise(study).numbers
    cells = numbers["cells"]
    assert [(cell["members"], cell["training"]["members"][0]) for cell in cells] == [(93, 30), (62, 30)]
    assert [cell["training"]["members_without_recording"] for cell in cells] == [63, 32]
    words, *_ = training_lines(cells[0]["training"])
    assert "recorded steps of all but 63 members, which have no recording: mean S" in words
    assert "members_unrecorded" not in numbers  # what nobody asked for is not still to be done
    first, second = capsys.readouterr().err.splitlines()
    assert re.search(r'/b, \S+/c: 63 of 93 members of {"hidden": 2} have no recording', first)
    assert re.search(r'/c: 32 of 62 members of {"hidden": 3} have no recording', second)
    assert "/b" not in second


def test_a_recording_without_its_members_does_not_count(tmp_path, capsys):
    """Of a run that was ended before it stored the members themselves: another folder may have them."""
    whole = recorded()
    a_part_of(tmp_path / "a", whole, range(40))
    a_part_of(tmp_path / "b", whole, range(30, 70))
    for part in (tmp_path / "a" / "parts").iterdir():
        part.unlink()
    for names in ("ab", "ba"):
        (cell,) = summarise(Study([tmp_path / name for name in names])).numbers["cells"]
        assert cell["training"]["members"][0] == cell["members"] == 40
    alone = ncsim.open_run(tmp_path / "a")
    assert list(alone.trajectories()) == []
    with pytest.raises(ValueError, match="a: no member that is stored has a recording; resume the run"):
        alone.trajectory_statistics()
    assert capsys.readouterr().err == ""


def test_a_report_looks_at_what_was_recorded_once(tmp_path, monkeypatch):
    """Every file was opened again to count what is still to be recorded, and a worker may have stored more meanwhile."""
    folder, whole = a_grid(tmp_path, members=30), recorded(30)
    record(folder, whole)
    read, looked = LocalStorage.read_tail, []
    monkeypatch.setattr(
        LocalStorage, "read_tail", lambda self, name, *size: looked.append(name) or read(self, name, *size)
    )
    counted, counts = TrajectoryFolder.counted, []
    monkeypatch.setattr(
        TrajectoryFolder, "counted", lambda self, config: counts.append(config) or counted(self, config)
    )
    assert "members_unrecorded" not in summarise(ncsim.open_run(tmp_path)).numbers
    assert counts == list(folder.configs)
    along = [name for name in looked if name.startswith("trajectories/")]
    assert len(along) == len(set(along)) == len(folder.configs)


def test_members_whose_recording_is_lost_are_counted(tmp_path, capsys):
    config, whole = ncsim.EnsembleConfig(hidden=2, steps=60, members=70), recorded()
    folder = RunFolder.create(tmp_path, [config])
    for ids in (slice(0, 40), slice(40, 70)):
        folder.write_part(config, made_up(90, seed=2).take(ids))
        TrajectoryFolder(folder).write_recorded(config, whole.take(ids), RECORDING)
    (tmp_path / "trajectories" / "members-0000000040-30.parquet").unlink()
    summary = summarise(ncsim.open_run(tmp_path))
    (cell,) = summary.numbers["cells"]
    assert (cell["training"]["members"][0], cell["members"]) == (40, 70)
    told = "Not complete: 30 members are still to be recorded."
    assert told in printed(summary)
    assert told in report_page(ncsim.open_run(tmp_path), summary)
    (line,) = capsys.readouterr().err.splitlines()
    assert "30 of 70 members have no recording" in line
    assert "--verify" in line


def test_members_that_are_recorded_later_are_waited_for(tmp_path, monkeypatch):
    """Also before the first of them is."""
    told, parts, whole = [], [slice(0, 30), slice(30, 90)], recorded()
    folder = a_grid(tmp_path, cells=1)
    along = TrajectoryFolder(folder)
    along.check(RECORDING, tuple(whole.values))

    def sleep(_):
        assert "still to be recorded. This page is written anew as they are." in (tmp_path / "report.html").read_text()
        along.write_recorded(folder.configs[0], whole.take(parts.pop(0)), RECORDING)

    clock = types.SimpleNamespace(monotonic=time.monotonic, process_time=time.process_time, sleep=sleep)
    monkeypatch.setattr("ncsim.report.watch.time", clock)  # its own: all others sleep as well
    monkeypatch.setattr(os, "nice", lambda by: None)
    watch([str(tmp_path)], lambda: ncsim.open_run(tmp_path), lambda *numbers: told.append(numbers))
    assert told == [(0, 90), (0, 60)]


def assert_alike(one, other):
    """Numbers in nested lists and mappings, but for the order in which floats were added."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_alike(value, other[key])
    elif isinstance(one, str):
        assert one == other
    else:
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_recording_adds_to_a_report_and_changes_nothing_else(tmp_path, monkeypatch):
    """Byte by byte: without what is said of training, files are those of the same members without a recording."""
    monkeypatch.setattr(figures, "_FILES", figures._FILES[1:2])  # the SVG has all
    folder = a_grid(tmp_path, cells=1)
    plain_summary = write_report(ncsim.open_run(tmp_path))
    plain = files(tmp_path)
    assert "raining" not in "".join(plain)
    record(folder, recorded())
    summary = write_report(ncsim.open_run(tmp_path))
    there = files(tmp_path)
    assert set(there) - set(plain) == {f"training.{kind}" for kind in ("svg", "csv")}
    page = there["report.html"].decode()
    page, sections = re.subn(r'<section id="training">.*?</section>\n', "", page, flags=re.DOTALL)
    page, links = re.subn(r'<a href="#training">.*?</a>\n', "", page)
    assert (sections, links) == (1, 1)
    assert f" {RECORDING.options()} " in page  # in the command that gives the run again
    page = page.replace(f" {RECORDING.options()}", "")
    assert page.encode() == plain.pop("report.html")
    numbers = json.loads(there["summary.json"])
    for cell in numbers["cells"]:
        del cell["training"]
    assert json_text(numbers).encode() == plain.pop("summary.json")
    assert {name: there[name] for name in plain} == plain
    text = printed(summary)
    for cell in summary.numbers["cells"]:
        for line in training_lines(cell["training"]):
            assert line in text
            text = text.replace(f"\n  {line}", "", 1)
    assert text.rstrip("\n") == printed(plain_summary)


def test_numbers_are_those_of_the_statistics(tmp_path):
    record(a_grid(tmp_path), recorded())
    run = ncsim.open_run(tmp_path)
    cell, found = summarise(run).numbers["cells"][1], run.trajectory_statistics(1, [(0, 60)])
    there = cell["training"]
    assert (there["step"], there["members"], there["recorded_steps"]) == (STEPS.tolist(), [90] * 5, 5)
    assert there["mean_s"]["value"] == found.s.mean.tolist() == [0.0, 1.5, 2.0, 3.5, 3.0]
    assert there["s_above_2"]["low"] == found.above_2.low.tolist()
    assert there["solved"]["12"]["value"] == found.solved.mean[:, 1].tolist() == [0, 1, 1, 1, 1]
    assert there["loss_alice"]["22"]["high"] == found.observed["loss_alice"].high[:, 3].tolist()
    assert there["mu_grad_s"]["value"] == found.slopes[0].mean == 50
    json.loads(json_text(there), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    with open(write_figure(tmp_path, [there]), encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    drawn = [float(row["value"]) for row in rows if row["quantity"] == "mean_s"]
    assert drawn == there["mean_s"]["value"]
    assert {row["quantity"] for row in rows} >= {"s_above_2", "contextual", "solved", "loss_alice", "quantile_0.5_s"}


def test_numbers_of_figures_have_a_column_for_each_axis(tmp_path):
    """They had one for all, "0.003\\nbce" in two lines of the file, and "learning_rate=0.003, loss=bce" along training."""
    grid = ncsim.config_grid(learning_rate=[0.003, 0.01], loss=["bce", "squared_error"], members=90, steps=60)
    folder = RunFolder.create(tmp_path, grid)
    for seed, config in enumerate(grid):
        folder.write_part(config, made_up(90, seed=seed))
    record(folder, recorded())
    summary = write_report(ncsim.open_run(tmp_path))
    for name in ("laws", "means", "training"):
        frame = pandas.read_csv(tmp_path / "figures" / f"{name}.csv")
        assert set(zip(frame["learning rate"], frame["loss"], strict=True)) == {(c.learning_rate, c.loss) for c in grid}
        text = (tmp_path / "figures" / f"{name}.csv").read_text()
        assert len(text.splitlines()) == len(frame) + 1
    frame = pandas.read_csv(tmp_path / "figures" / "means.csv")
    for cell in summary.numbers["cells"]:
        at = cell["cell"]
        own = frame[(frame["learning rate"] == at["learning_rate"]) & (frame["loss"] == at["loss"])]
        own = own[(own["protocol"] == "best of 20 by loss") & (own["quantity"] == "S")]
        assert own["mean"].tolist() == pytest.approx([cell["protocols"][1]["mean_s"]["value"]], rel=1e-15)


def write_figure(folder, cells):
    labels = [f"hidden={n}" for n in range(len(cells))]
    values = [str(n) for n in range(len(cells))]
    return training_figure.plot_training(cells, labels, values, "hidden units n", folder / "training")[-1]


def numbers_of(trajectories):
    found = ncsim.trajectory_statistics([trajectories], 16, [(0, 60)])
    return training_numbers(found, 0)


def test_words_follow_the_numbers():
    first, second = training_lines(numbers_of(recorded()))
    assert "mean S is 0.000 [-0.321, 0.321] at step 0 and 3.000 [2.679, 3.321] at step 60" in first
    assert "S is above 2 in 1.000 [0.960, 1.000] of 90 members" in first
    assert "larger before" not in first  # their intervals overlap
    assert "S changes by 50.000 [" in first
    assert second == "No member has Delta > 0 at any of 5 steps (at most 0.041 of them at each, 95 %)."
    many = recorded(2_000)
    assert "it was larger before, 3.500 [" in training_lines(numbers_of(many))[0]
    many.counts[:, 2] = [[8, 0, 0, 8]] * 3 + [[0, 8, 8, 0]]  # a PR box
    (_, second) = training_lines(numbers_of(many))
    assert second.startswith("Contextual once direct influence is discounted: 1.000 [")
    assert second.endswith("of members have Delta > 0 at step 10, and some at 1 of 5 steps.")
    lost = recorded()
    lost.counts[:, 3:] = 0
    first, second = training_lines(numbers_of(lost))
    assert "and 2.000 [1.679, 2.321] at step 10" in first
    assert first.endswith("of 90 members. Later every member has a diverged network.")
    assert "mu_gradS" not in first  # nobody is whole at both ends
    assert "any of 3 steps" in second
    lost.counts[:, 1:] = 0
    first, second = training_lines(numbers_of(lost))
    assert "5 recorded steps: mean S is 0.000 [-0.321, 0.321] at step 0, where S is above 2 in " in first
    assert "at any of 1 step (at most" in second
    lost.counts[:] = 0
    assert training_lines(numbers_of(lost)) == [
        "Along training, 5 recorded steps: every member has a diverged network at each."
    ]
    assert [row[:2] for row in training_rows(numbers_of(lost), 3)] == [["0", "0"], ["10", "0"], ["60", "0"]]


def test_of_many_steps_some_are_told(monkeypatch):
    monkeypatch.setattr(training, "MOST_TOLD", 3)
    there = numbers_of(recorded())
    assert (there["step"], there["recorded_steps"], len(there["solved"]["11"]["low"])) == ([0, 10, 60], 5, 3)
    assert "5 recorded steps" in training_lines(there)[0]


def test_the_page_shows_the_first_cells(tmp_path, monkeypatch):
    folder = a_grid(tmp_path, cells=3, members=40)
    record(folder, recorded(40))
    monkeypatch.setattr(ncsim.report.page, "MOST_PLACES", 2)
    run = ncsim.open_run(tmp_path)
    page = Page(report_page(run, summarise(run)))
    assert "of the first 2 cells; summary.json has all" in page.text
    assert page.text.count("Some of the steps") == 2
    assert "No member has Delta > 0 at any of 5 steps" in page.text


def test_a_cell_that_is_not_recorded_yet_has_no_training(tmp_path):
    folder = a_grid(tmp_path)
    TrajectoryFolder(folder).write_recorded(folder.configs[1], recorded(), RECORDING)
    summary = summarise(ncsim.open_run(tmp_path))
    assert ["training" in cell for cell in summary.numbers["cells"]] == [False, True]
    assert printed(summary).count("Along training") == 1


def test_cells_that_were_recorded_at_other_steps_are_drawn_beside_one_another(tmp_path, monkeypatch):
    """As of a grid over --steps, or a study; of a cell in which every member has diverged there is nothing to see."""
    made = []
    monkeypatch.setattr(training_figure, "save_figure", lambda figure, *_: made.append(figure) or ["x"])
    whole = recorded()
    fewer = whole._replace(
        step=whole.step[:4], counts=whole.counts[:, :4], values={k: v[:, :4] for k, v in whole.values.items()}
    )
    lost = whole._replace(counts=np.zeros_like(whole.counts))
    cells = [numbers_of(each) for each in (whole, fewer, lost)]
    write_figure(tmp_path, cells)
    assert [axis.get_xlim()[1] for axis in made[0].axes[:3]] == [60, 25, 60]
    assert len(training_figure.inline_training(cells)) == 3


def test_nothing_is_drawn_where_every_member_has_diverged():
    """A share of no members is from 0 to 1, which is no band that grows from the step before."""
    lost = recorded()
    lost.counts[:, 3:] = 0
    numbers = numbers_of(lost)
    assert numbers["s_above_2"]["high"][3:] == [1.0, 1.0]
    with figures.new_figure(4, 4) as figure:
        upper, lower = figure.subplots(2)
        training_figure._draw(upper, lower, numbers, [numbers])
    for axis, names in ((upper, 3), (lower, 1)):
        bands = [path.vertices for band in axis.collections for path in band.get_paths()]
        assert len(bands) == names
        assert max(band[:, 0].max() for band in bands) == numbers["step"][2]


def test_losses_that_are_told_are_those_that_are_finite():
    lost = recorded()
    lost.values["loss_alice"][1:, -1, 0] = np.inf
    numbers = numbers_of(lost)
    assert numbers["members"][-1] == 90
    assert numbers["loss_alice"]["11"]["value"][-1] == lost.values["loss_alice"][0, -1, 0]
    assert numbers["methods"]["losses"] == "of networks whose loss is a finite number"


def test_nothing_of_the_figure_is_cut(tmp_path, monkeypatch):
    """Legends and labels lie within the figure, for one cell and for seven, at linear and logarithmic steps."""
    made = []
    monkeypatch.setattr(training_figure, "save_figure", lambda figure, *_: made.append(figure) or ["x"])
    there = numbers_of(recorded())
    for cells in (1, 7):
        write_figure(tmp_path, [there] * cells)
    write_figure(tmp_path, [there | {"step": [0, 1, 10, 100, 1000]}])
    for figure in made:
        figure.canvas.draw()
        whole = figure.bbox
        for part in (figure.legends[0], *figure.axes):
            box = part.get_tightbbox()
            assert box.x0 >= whole.x0 - 1
            assert box.x1 <= whole.x1 + 1
            assert box.y0 >= whole.y0 - 1
            assert box.y1 <= whole.y1 + 1
    assert [len(figure.axes) for figure in made] == [2, 14, 2]
    assert made[-1].axes[0].get_xscale() == "symlog"
    assert np.all(np.diff(made[-1].axes[0].get_ylim()) > 3)


def test_the_page_says_which_cells_of_a_study_were_recorded(tmp_path):
    """The second of two: it was called the first one."""
    first, second = (ncsim.EnsembleConfig(hidden=hidden, members=40, steps=60) for hidden in (2, 3))
    RunFolder.create(tmp_path / "a", [first]).write_part(first, made_up(40, seed=2))
    folder = RunFolder.create(tmp_path / "b", [second])
    folder.write_part(second, made_up(40, seed=3))
    record(folder, recorded(40))
    study = Study([tmp_path / "a", tmp_path / "b"])
    page = Page(report_page(study, summarise(study)))
    assert "at the recorded steps, of 1 of 2 cells, as others were not recorded." in page.text
    assert "of the first" not in page.text
    alone = ncsim.open_run(tmp_path / "b")
    assert "at the recorded steps." in Page(report_page(alone, summarise(alone))).text


def test_legends_name_the_bands(tmp_path, monkeypatch):
    """The interval has a colour of its own, and so a key."""
    made = []
    monkeypatch.setattr(training_figure, "save_figure", lambda figure, *_: made.append(figure))
    numbers = numbers_of(recorded())
    training_figure.plot_training([numbers], [""], [""], "ensemble", tmp_path / "training")
    (figure,) = made
    keys = {
        text.get_text(): key
        for text, key in zip(figure.legends[0].texts, figure.legends[0].legend_handles, strict=True)
    }
    bands = {tuple(each.get_facecolor()[0]) for each in figure.axes[0].collections}
    assert {tuple(keys[name].get_facecolor()) for name in keys if hasattr(keys[name], "get_facecolor")} == bands
    assert "its 95 % interval" in keys


def drawn_of(numbers, tmp_path, monkeypatch):
    """The upper and the lower panel of a recording, drawn."""
    made = []
    monkeypatch.setattr(training_figure, "save_figure", lambda figure, *_: made.append(figure))
    training_figure.plot_training([numbers], [""], [""], "ensemble", tmp_path / "training")
    return made[0].axes


def test_a_step_without_neighbours_is_drawn(tmp_path, monkeypatch):
    """Where every member diverges after the first step its line and its bands are of no width."""
    lost = recorded()
    lost.counts[:, 1:] = 0
    numbers = numbers_of(lost)
    for axis, name in zip(drawn_of(numbers, tmp_path, monkeypatch), ("mean_s", "s_above_2"), strict=True):
        marks = [line for line in axis.lines if line.get_marker() == "o"]
        assert [line.get_xydata().tolist() for line in marks] == [[[0.0, numbers[name]["value"][0]]]]
        reaches = [each.get_segments() for each in axis.collections if hasattr(each, "get_segments")]
        ((segment,),) = reaches
        assert segment.tolist() == [[0.0, numbers[name]["low"][0]], [0.0, numbers[name]["high"][0]]]
    for axis in drawn_of(numbers_of(recorded()), tmp_path, monkeypatch):
        assert [line for line in axis.lines if line.get_marker() == "o"] == []


def test_intervals_along_training_are_not_cut_off(tmp_path, monkeypatch):
    """Of one member a mean is anything from -4 to 4, and was drawn from -0.2 on."""
    for members in (1, 3, 90):
        numbers = numbers_of(recorded(members))
        low, high = drawn_of(numbers, tmp_path, monkeypatch)[0].get_ylim()
        assert low < min(numbers["mean_s"]["low"])
        assert high > max(numbers["mean_s"]["high"])
