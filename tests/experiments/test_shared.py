"""What experiments share: their command line, what is refused, and results as JSON."""

import argparse
import dataclasses
import importlib
import json
import math
from typing import NamedTuple

import numpy as np
import pytest

from experiments import five_runs, given_loss, random_solutions
from experiments.shared import command
from experiments.shared.figures import legend, reach
from experiments.shared.index import FOLDER
from ncsim.cli.options import add_config_options
from ncsim.errors import ConfigError
from ncsim.report.figures import new_figure
from ncsim.statistics.intervals import Estimate

EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
#: Those that write where --out or --runs says, and only on this machine.
LOCAL = "controls critical_width figure3 figure4 gradient_competition implicit_sensing interventions text_demo".split()


def ended(name, words):
    with pytest.raises(SystemExit) as found:
        importlib.import_module(f"experiments.{name}").main(words)
    return found.value.code


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_unknown_option_is_one_line(name, capsys):
    assert ended(name, ["--no-such-option"]) == 2
    assert capsys.readouterr().err == "ncsim: error: unrecognized arguments: --no-such-option\n"


@pytest.mark.parametrize("name", LOCAL)
def test_figures_are_not_written_into_an_object_store(name, capsys, tmp_path):
    flag = "--runs" if name == "figure3" else "--out"
    assert ended(name, [flag, "memory://somewhere"]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"ncsim: error: {flag}: memory://somewhere; allowed: a folder of this machine, which is where figures are written\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words", "error"),
    [
        ("concept_chsh", ["--out", "file"], "--out: file; allowed: a folder that can be written to (Not a directory)"),
        (
            "controls",
            ["--out", "file/in"],
            "--out: file/in; allowed: a folder that can be written to (Not a directory)",
        ),
        ("table4", ["--json", "folder"], "--json: folder; allowed: a file, and this is a folder"),
        (
            "table2_recheck",
            ["--json", "file/numbers.json"],
            "--json: file; allowed: a folder that can be written to (Not a directory)",
        ),
    ],
)
def test_what_cannot_be_written_to_is_refused_before_anything_is_done(name, words, error, capsys, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder" / "in").mkdir(parents=True)
    assert ended(name, words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"ncsim: error: {error}\n")
    assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "folder" / "in").is_dir()


@pytest.mark.parametrize(
    ("name", "words", "error"),
    [
        ("five_runs", ["--seed", "-1"], "--seed: -1; allowed: a whole number from 0 to 18446744073709551615"),
        ("chained", ["--widths", "0"], "--widths: 0; allowed: a whole number from 1 to 64"),
        ("figure4", ["--root-seed", "-1"], "--root-seed: -1; allowed: a whole number from 0 to 18446744073709551615"),
    ],
)
def test_errors_name_the_option_that_was_given(name, words, error, capsys):
    assert ended(name, words) == 2
    assert capsys.readouterr().err == f"ncsim: error: {error}\n"


def test_where_results_are_written(tmp_path):
    assert command.local_folder("--out", "runs/one") == command.Path("runs/one")
    assert command.local_folder("--out", f"file://{tmp_path}") == tmp_path


class Inner(NamedTuple):
    found: Estimate
    needed: float | None
    extra: float | None = None


@dataclasses.dataclass
class Outer:
    inner: Inner
    counts: np.ndarray


def test_results_as_json(tmp_path):
    outer = Outer(Inner(Estimate(math.nan, 0.0, math.inf, "made up"), None), np.array([[1, 2], [3, 4]]))
    command.write_json(tmp_path / "folder" / "found.json", {3: [outer, np.float32(0.5), (True, "word")]})
    assert json.loads((tmp_path / "folder" / "found.json").read_text()) == {
        "3": [
            {
                "inner": {
                    "found": {"value": None, "low": 0.0, "high": None, "method": "made up", "level": 0.95},
                    "needed": None,  # and nothing of `extra`, which is not given
                },
                "counts": [[1, 2], [3, 4]],
            },
            0.5,
            [True, "word"],
        ]
    }


def test_one_setting_at_the_widths_of_a_figure():
    def configs(*words):
        parser = argparse.ArgumentParser()
        add_config_options(parser)
        return command.configs_of_widths(parser.parse_args(words), (2, 5))

    assert [(config.hidden, config.steps) for config in configs("--steps", "7")] == [(2, 7), (5, 7)]
    with pytest.raises(ConfigError, match=r"--hidden: 3; allowed: none here, the figure is of n = 2, 5"):
        configs("--hidden", "3")
    with pytest.raises(ConfigError, match=r"--learning-rate: 2 values; allowed: one"):
        configs("--learning-rate", "0.1", "0.2")


def test_what_is_too_little_or_twice():
    command.at_least("--members", 2, 2)
    with pytest.raises(ConfigError, match=r"^--members: 1; allowed: 2 or more, or there is no interval$"):
        command.at_least("--members", 1, 2, ", or there is no interval")
    command.each_once("--widths", [2, 3])
    with pytest.raises(ConfigError, match=r"^--widths: 3 2 3; allowed: each width once$"):
        command.each_once("--widths", [3, 2, 3])


def test_error_bars_reach_from_the_values():
    estimates = [Estimate(1.0, 0.5, 3.0, "made up"), Estimate(2.0, 2.0, 2.25, "made up")]
    np.testing.assert_array_equal(reach(estimates), [[0.5, 0.0], [2.0, 0.25]])


def test_a_legend_of_nothing_is_none():
    with new_figure(2, 2) as figure:
        axis = figure.subplots()
        legend(axis)  # matplotlib's warning would be an error here
        assert axis.get_legend() is None
        axis.plot([0], [0], label="one")
        legend(axis)
        assert axis.get_legend() is not None


def test_no_interval_is_drawn_over_another(monkeypatch, tmp_path):
    """Series of one panel that have the same place stand beside one another."""
    one = Estimate(0.5, 0.25, 0.75, "made up")
    drawn: dict[int, list[float]] = {}

    def points(axis, places, estimates, **style):
        drawn.setdefault(id(axis), []).extend(round(float(place), 9) for place in places)
        axis.plot([], [], label=style.get("label"))  # for legends

    for module in (five_runs, random_solutions, given_loss):
        monkeypatch.setattr(module, "points", points)
    rows = [five_runs.Row(m, r, v, one) for m in ("accuracy", "S") for r in five_runs.RUNS for v in five_runs.VARIANTS]
    five_runs.draw(rows, tmp_path)
    kinds = [
        random_solutions.Statistics(n, kind, protocol.label, one, one, 0.0, one, 0.0, 0.0)
        for n in (2, 3)
        for kind in random_solutions.KINDS[:3]
        for protocol in random_solutions.PROTOCOLS
    ]
    random_solutions.draw([], kinds, tmp_path)
    pair = (0.0, 0.0)
    losses = [
        given_loss.Row(law, 3, context, part, one, None, one, 1.0, pair, pair, pair)
        for law in given_loss.LAWS
        for context in ("11", "22")
        for part in given_loss.PARTS
    ]
    both = [
        given_loss.Together(law, n, part, one, one, pair, (0, 0))
        for law in given_loss.LAWS
        for n in (3, 4)
        for part in given_loss.PARTS
    ]
    given_loss.draw(losses, both, tmp_path)
    assert len(drawn) == 2 + 2 + 3
    assert all(len(set(places)) == len(places) > 0 for places in drawn.values())
