"""`ncsim scenario`: from options and from files, stored, resumed and reported; and what is refused."""

import csv
import json
import re

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.errors import StoreError
from ncsim.report import scenarios
from ncsim.report.scenarios import draw_scenario, scenario_lines, store_scenario, summarise_scenario
from ncsim.scenarios import open_scenario
from ncsim.statistics.intervals import Estimate
from ncsim.storage.run_folder import RunFolder
from tests.support.cases import first_fast
from tests.support.scenarios import THREE

SMALL = ["--hidden", "1", "--members", "40", "--steps", "3", "--executor", "xla", "--quiet"]
#: Two parties with three tasks each on four rows.
OWN = """
hidden = 1
[tasks]
inputs = [[0, 0], [0, 1], [1, 0], [1, 1]]
answers = [[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], [[0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0]]]
contexts = [[0, 1], [0, 2], [1, 0], [1, 1], [2, 0], [2, 2]]
name = "four rows"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.toml"
    path.write_text(OWN)
    return str(path)


def printed(capsys, *arguments):
    main(["scenario", *arguments])
    return capsys.readouterr().out


def test_own_tasks_from_a_file_are_trained_stored_and_reported(file, tmp_path, capsys):
    place = tmp_path / "run"
    arguments = ["--config", file, "--members", "40", "--steps", "3", "--executor", "xla", "--out", str(place)]
    text = printed(capsys, *arguments)
    assert "chained, 3 settings: <A1 B2> + <A1 B3> + <A2 B1> + <A2 B2> + <A3 B1> - <A3 B3> <= 4" in text
    assert "bounds: classical 4, quantum 5.196, algebraic 6" in text
    assert "Delta of the cycle of 6 contexts" in text
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert {"summary.json", "config.json", "figures/scenario.png", "figures/scenario.csv"} <= files
    summary = json.loads((place / "summary.json").read_text())
    assert summary["contexts"] == ["12", "13", "21", "22", "31", "33"]
    run = open_scenario(place)
    assert run.configs[0].tasks.party_features == ((0,), (1,))  # shared out in order
    assert [each["networks"] for each in summary["cells"][0]["contexts"]] == [40] * 6
    value = summary["cells"][0]["inequalities"][0]
    assert Estimate(**value["protocols"][0]["mean"]).value == pytest.approx(
        float((run.counts * [[[1, -1], [-1, 1]]]).sum(axis=(2, 3)).mean(axis=0) @ [1, 1, 1, 1, 1, -1]) / 4
    )
    before = (place / "summary.json").read_bytes()
    main(["report", str(place)])
    assert capsys.readouterr().out.replace("Stored", "\nStored").split("\nStored")[0].strip() in text
    assert (place / "summary.json").read_bytes() == before
    assert json.loads(printed(capsys, *arguments, "--json")) == summary
    main(["report", "--verify", str(place)])
    assert "whole; nothing is missing or wrong" in capsys.readouterr().out
    main(["report", "--audit", "0.5", str(place)])
    assert "all are as stored" in capsys.readouterr().out


def test_the_settings_that_it_prints_are_its_own(file, tmp_path, capsys):
    text = printed(capsys, "--settings", "4", "--steps", "7", "--print-config")
    (tmp_path / "again.toml").write_text(text)
    assert printed(capsys, "--config", str(tmp_path / "again.toml"), "--print-config") == text
    assert 'name = "chained 4"' in text


def test_three_parties_have_mermin_s_and_svetlichny_s_inequalities(capsys, tmp_path):
    config = ncsim.EnsembleConfig(hidden=1, members=10, steps=3, tasks=THREE)
    run = ncsim.run_scenario(config, tmp_path, executor="xla")
    summary = summarise_scenario(run)
    store_scenario(run, summary)
    text = "\n".join(scenario_lines(summary))
    assert "Mermin: <A1 B1 C2> + <A1 B2 C1> + <A2 B1 C1> - <A2 B2 C2> <= 2" in text
    assert "Svetlichny: " in text
    assert "(which here proves nothing)" in text
    found = summary["cells"][0]["contextuality"]
    assert found["of"] == "Mermin's four contexts"
    assert 0 <= found["pooled_excess"] < 1e-6
    rows = (tmp_path / "figures" / "scenario.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 5
    with pytest.raises(StoreError, match=r"^the run is in memory only; allowed: a run with a folder"):
        store_scenario(ncsim.scenarios.ScenarioRun([config], [run.records()]), summary)


def test_numbers_of_the_figure_have_a_column_for_each_axis(tmp_path):
    """They had "hidden 1, learning_rate 0.01" in one."""
    grid = ncsim.config_grid(
        hidden=[1], learning_rate=[0.01, 0.1], root_seed=[1, 2], members=10, steps=3, tasks=[THREE]
    )
    run = ncsim.run_scenario(grid, tmp_path, executor="xla")
    summary = summarise_scenario(run)
    store_scenario(run, summary)
    with open(tmp_path / "figures" / "scenario.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 4 * 2 * 5
    assert list(rows[0]) == ["learning rate", "root seed", "inequality", "protocol", "mean", "low", "high"]
    means = {tuple(row.values())[:-2] for row in rows}
    for cell in summary["cells"]:
        values = tuple(map(str, cell["cell"].values()))
        for found in cell["inequalities"]:
            for each in found["protocols"]:
                assert (*values, found["name"], each["protocol"], str(each["mean"]["value"])) in means


def test_shares_of_a_run(file, tmp_path, capsys):
    arguments = [
        "--config",
        file,
        "--members",
        "40",
        "--steps",
        "3",
        "--executor",
        "xla",
        "--out",
        str(tmp_path / "run"),
    ]
    main(["scenario", *arguments, "--shard", "1/1", "--quiet"])
    assert open_scenario(tmp_path / "run").missing() == 0


def test_a_context_without_networks_is_reported():
    config = ncsim.EnsembleConfig(hidden=1, members=3, tasks=ncsim.chained_tasks(2))
    flat, heads = np.zeros((3, 4), np.float32), np.zeros((3, 4, 2), np.int32)
    counts = np.full((3, 4, 4), 4, np.int32)
    counts[:, 1] = 0
    diverged = counts.sum(axis=2) == 0
    records = ncsim.records.scenarios.ScenarioRecords(
        np.arange(3, dtype=np.uint64), counts, flat, flat, diverged, heads
    )
    summary = summarise_scenario(ncsim.scenarios.ScenarioRun([config], [records]))
    (cell,) = summary["cells"]
    assert cell["whole"] == 0
    assert "contextuality" not in cell
    assert cell["inequalities"][0]["protocols"] == []
    assert "12" not in [line.split()[0] for line in scenario_lines(summary) if line.startswith("  1")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--settings", "7"], "--settings: 7; allowed: a whole number from 2 to 6"),
        (["--parties", "4"], "--parties: 4; allowed: a whole number from 2 to 3"),
        (["--parties", "3", "--settings", "3"], "--settings: 3 with --parties 3; allowed: 2, or own tasks of --config"),
        (["--shared-bit"], "--shared-bit: with two parties; allowed: with --parties 3"),
        (["--config", "OWN", "--settings", "3"], "--settings: with own tasks of --config; allowed: one of the two"),
        (["--config", "PLAIN"], "PLAIN: tasks: custom; allowed here: a table with inputs, answers and contexts"),
        (["--config", "BAD"], "BAD: tasks: answers = [[0, 1]]; allowed: a list of lists of lists of 0 and 1"),
        (["--config", "UNKNOWN"], "UNKNOWN: tasks: alice = [[0, 1]]; no such key; allowed: inputs, answers, contexts"),
        (["--config", "TWICE"], "TWICE: tasks: contexts: a context is there twice; allowed: each once"),
        (["--topology", "overlap", "--parties", "3"], "--topology: overlap with 3 parties"),
        (["--shard", "3/2"], "--shard: 3/2"),
    ],
)
def test_what_is_refused_is_one_line(arguments, words, file, tmp_path, monkeypatch, capsys):
    (tmp_path / "PLAIN").write_text("[tasks]\ninputs=[[0],[1]]\nalice=[[0,1],[1,0]]\nbob=[[0,1],[1,0]]\n")
    (tmp_path / "BAD").write_text("[tasks]\ninputs=[[0],[1]]\nanswers=[[0,1]]\n")
    (tmp_path / "UNKNOWN").write_text("[tasks]\ninputs=[[0],[1]]\nalice=[[0,1]]\nanswers=[[[0,1]],[[0,1]]]\n")
    (tmp_path / "TWICE").write_text("[tasks]\ninputs=[[0],[1]]\nanswers=[[[0,1]],[[0,1]]]\ncontexts=[[0,0],[0,0]]\n")
    with pytest.raises(SystemExit) as end:
        main(["scenario", *(file if word == "OWN" else word for word in arguments)])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(re.escape(words), said), said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("settings = 4", "--settings 4"),
        ("parties = 3", "--parties 3"),
        ("parties = 3\nshared_bit = true", "--parties 3 --shared-bit"),
    ],
)
def test_options_of_a_scenario_stand_in_a_file(text, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(text)
    main(["scenario", "--config", "study.toml", "--print-config"])
    of_file = capsys.readouterr().out
    main(["scenario", *words.split(), "--print-config"])
    assert of_file == capsys.readouterr().out


def test_the_tasks_of_a_file_are_not_left_aside(tmp_path, monkeypatch, capsys):
    """Also where they are those that an ensemble has by default, as in config.json of figure 2."""
    monkeypatch.chdir(tmp_path)
    RunFolder.create("run", [ncsim.EnsembleConfig()])
    with pytest.raises(SystemExit):
        main(["scenario", "--config", "run/config.json", "--print-config"])
    assert "run/config.json: tasks: " in capsys.readouterr().err


@pytest.mark.parametrize("command", [["ensemble"], ["plan"]])
def test_other_commands_say_which_one_trains_a_scenario(command, file, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--config", file])
    assert (
        "a scenario; allowed here: two tasks of two parties (scenarios: ncsim.run_scenario)" in capsys.readouterr().err
    )


def test_a_scenario_is_no_part_of_a_study(file, tmp_path, capsys):
    run = ncsim.run_scenario(
        ncsim.EnsembleConfig(hidden=1, members=5, steps=3, tasks=THREE), tmp_path / "a", executor="xla"
    )
    for arguments, words in (
        ([str(run.path), str(run.path)], "holds a scenario run; allowed among several: runs of ncsim ensemble"),
        ([str(run.path), "--watch"], "holds a scenario run; allowed: with a run of ncsim ensemble"),
    ):
        with pytest.raises(SystemExit):
            main(["report", *arguments])
        assert words in capsys.readouterr().err


def made_up_run(counts, cells=1):
    """Cells of the same records, at several learning rates."""
    members, contexts = counts.shape[:2]
    tasks = ncsim.chained_tasks(contexts // 2)
    configs = ncsim.config_grid(
        hidden=1, members=max(members, 1), tasks=tasks, learning_rate=[0.001 * (n + 1) for n in range(cells)]
    )
    flat, heads = np.zeros((members, contexts), np.float32), np.zeros((members, contexts, 2), np.int32)
    records = ncsim.records.scenarios.ScenarioRecords(
        np.arange(members, dtype=np.uint64), counts, flat, flat, counts.sum(axis=2) == 0, heads
    )
    return ncsim.scenarios.ScenarioRun(configs, [records] * cells)


def test_what_is_missing_is_told_first():
    summary = summarise_scenario(made_up_run(np.full((3, 4, 4), 4, np.int32)))
    whole = scenario_lines(summary)
    assert whole[0].startswith("One cell: 3 members of ")
    first, blank, *rest = scenario_lines(summary | {"members_missing": 5})
    assert first == "Not complete: 5 members are still to be trained."
    assert [blank, *rest] == ["", *whole]


def test_what_diverged_is_told():
    """Tables without a row were printed, and of how many networks were left nothing was said."""
    counts = np.full((3, 4, 4), 4, np.int32)
    assert not any("Diverged" in line for line in scenario_lines(summarise_scenario(made_up_run(counts))))
    counts[0, 2] = 0
    text = "\n".join(scenario_lines(summarise_scenario(made_up_run(counts))))
    assert "  Diverged: 1 network, in 1 of 3 members; diverged networks count nowhere here." in text
    assert "no network to report on" not in text
    counts[:, 1] = 0
    text = "\n".join(scenario_lines(summarise_scenario(made_up_run(counts))))
    assert "  Diverged: 4 networks, in 3 of 3 members; diverged networks count nowhere here." in text
    assert "  no network to report on: every one of a context diverged (12)" in text
    assert "P(above classical)" not in text
    counts[:] = 0
    text = "\n".join(scenario_lines(summarise_scenario(made_up_run(counts))))
    assert "diverged (11, 12, 21, 22)" in text
    assert "accuracy" not in text
    assert "no network to report on: none stored" in "\n".join(
        scenario_lines(summarise_scenario(made_up_run(counts[:0])))
    )


@pytest.mark.parametrize("cells", first_fast([1, 7, 2, 13, 31], 2))
def test_the_picture_of_many_cells_has_a_key_for_each(cells, tmp_path, monkeypatch):
    """Six colours and one mark were those of thirteen cells, and their legend was cut off at both sides."""
    made = []
    monkeypatch.setattr(
        "ncsim.report.scenarios.save_figure", lambda figure, stem, columns, rows: made.append((figure, rows))
    )
    summary = summarise_scenario(made_up_run(np.full((3, 4, 4), 4, np.int32), cells))
    draw_scenario(summary, tmp_path / "scenario")
    ((figure, rows),) = made
    assert len(rows) == 5 * cells
    figure.canvas.draw()
    containers = figure.axes[0].containers
    assert len(containers) == min(cells, 30)
    assert len({(each[0].get_color(), each[0].get_marker()) for each in containers}) == len(containers)
    if cells > 1:  # called as in the report of an ensemble
        assert figure.legends[0].texts[1].get_text() == "learning_rate=0.002"
        assert "learning_rate=0.002: 3 members of " in "\n".join(scenario_lines(summary))
    if cells == 1:
        assert figure.legends == []
        return
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert 0 <= box.x0 < box.x1 <= whole.x1
    assert 0 <= box.y0 < box.y1 <= figure.axes[0].get_tightbbox().y0
    assert len(figure.legends[0].texts) == len(containers)
    assert (figure.get_suptitle() == "the first 30 of 31 cells; the CSV has all") == (cells == 31)


@pytest.mark.slow
def test_a_long_legend_leaves_the_picture_its_height(tmp_path, monkeypatch):
    """Of thirty long names, one below another, half of the picture's height was left."""
    made = []
    monkeypatch.setattr(scenarios, "save_figure", lambda figure, *rest: made.append(figure))
    for cells in (2, 30):
        summary = summarise_scenario(made_up_run(np.full((3, 4, 4), 4, np.int32), cells))
        for number, cell in enumerate(summary["cells"]):
            cell["cell"] = {"optimizer_options": f"{'momentum=0.9, ' * 4}{number}"}
        draw_scenario(summary, tmp_path / "scenario")
    for figure in made:
        figure.canvas.draw()
    few, many = (figure.axes[0].bbox.height for figure in made)
    assert many == pytest.approx(few, rel=0.15)


def test_bounds_of_the_picture_have_their_names(tmp_path, monkeypatch):
    """Each at its own height, and two that are one line have one name."""
    drawn, save = [], scenarios.save_figure
    monkeypatch.setattr(scenarios, "save_figure", lambda figure, *rest: drawn.append(figure) or save(figure, *rest))
    protocol = {"protocol": "single shot", "mean": Estimate(1.5, 1.0, 2.25, "made up")._asdict()}
    bounds = [("chained", 4.0, 5.1962, 6.0), ("Mermin", 2.0, 4.0, 4.0)]
    asked = [
        {"name": name, "classical": low, "quantum": middle, "algebraic": most, "protocols": [protocol]}
        for name, low, middle, most in bounds
    ]
    draw_scenario({"cells": [{"cell": {}, "inequalities": asked}]}, tmp_path / "scenario")
    found = [{text.get_text(): text.xy[1] for text in panel.texts} for panel in drawn[0].axes]
    assert found == [
        {"classical": 4.0, "quantum": 5.1962, "algebraic": 6.0},
        {"classical": 2.0, "quantum, algebraic": 4.0},
    ]
    for panel, names in zip(drawn[0].axes, found, strict=True):
        lines = {line.get_ydata()[0] for line in panel.get_lines() if set(line.get_xdata()) == {0, 1}}
        assert lines == set(names.values())
        assert panel.get_ylim()[1] > max(lines)
        dots = panel.containers[0].lines[0].get_xdata()
        assert panel.get_xlim()[0] < min(dots) <= max(dots) < panel.get_xlim()[1]
    assert not drawn[0].legends  # of one cell
