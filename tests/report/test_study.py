"""Several folders as one study: cells are told apart, each once, and what is said of them is true of all the folders together."""

import csv
import dataclasses
import json
import re
import shlex
from xml.etree import ElementTree

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.ensemble import from_dict, refusal, to_dict
from ncsim.report import figures
from ncsim.report.page import _study_command, report_page
from ncsim.report.summary import summarise
from ncsim.report.write import write_report
from ncsim.storage.run_folder import RunFolder
from ncsim.study import Study
from tests.report.test_cells import records_of
from tests.report.test_page import Page
from tests.statistics.test_protocols import made_up
from tests.support.pages import grid


def own_tasks(rows, name="custom", alice=lambda *x: x[0]):
    """Own tasks of so many rows; those of another function are other tasks."""
    features, second = rows.bit_length() - 1, lambda *x: x[0] & x[1]
    return ncsim.truth_tables([alice, second], [second, lambda *x: x[1]], features=features, name=name)


def stored(path, tasks, hidden=(2,), members=40):
    """A run of made-up records of these tasks."""
    configs = ncsim.config_grid(tasks=tasks, hidden=list(hidden), members=members)
    folder = RunFolder.create(path, configs)
    for config in configs:
        folder.write_part(config, records_of(members, tasks.rows, seed=config.hidden))
    return path


def labels_of(folder, figure):
    """What tells cells apart in the numbers of a figure."""
    with open(folder / "figures" / f"{figure}.csv", encoding="utf-8", newline="") as handle:
        return {f"{row['hidden units n']}\n{row['tasks']}" for row in csv.DictReader(handle)}


def test_tasks_of_the_same_name_are_told_apart(tmp_path):
    """Everywhere: nothing is said of a cell that may be another's. A name that others have of their own is not given."""
    xor = own_tasks(8, alice=lambda *x: x[0] ^ x[1])
    every = [own_tasks(4), own_tasks(8), own_tasks(4, "custom 2"), xor, own_tasks(4, "other")]
    paths = [stored(tmp_path / str(number), tasks) for number, tasks in enumerate(every)]
    study = Study([*paths, stored(tmp_path / "again", xor, (3,))], tmp_path / "study")
    summary = write_report(study)
    names = ["custom", "custom 3", "custom 2", "custom 4", "other"]
    found = [cell["cell"] for cell in summary.numbers["cells"]]
    assert found == [{"hidden": 2, "tasks": name} for name in names] + [{"hidden": 3, "tasks": "custom 4"}]
    assert json.loads((tmp_path / "study" / "summary.json").read_text())["cells"][1]["cell"] == found[1]
    expected = {f"{cell['hidden']}\n{cell['tasks']}" for cell in found}
    assert labels_of(tmp_path / "study", "laws") == labels_of(tmp_path / "study", "means") == expected
    page = Page((tmp_path / "study" / "report.html").read_text())
    # Under Provenance, too, which says whose cells these are.
    assert re.findall(r"tasks (\S+(?: \d)?) intervention", page.text) == [*names, "custom 4"]
    data = page.data
    assert data["axes"][1] == {"name": "tasks", "values": names}
    assert len({tuple(cell["at"]) for cell in data["cells"]}) == len({cell["label"] for cell in data["cells"]}) == 6


def drawn_s(axis, place):
    """Of a map: where S is that a column shows, and how strong each is."""
    found = {}
    for image in axis.get_images():
        shades, (_, _, low, high) = image.get_array(), image.get_extent()
        step = (high - low) / len(shades)
        found |= {round(low + (n + 0.5) * step, 6): shade for n, shade in enumerate(shades[:, place]) if shade > 0}
    return found


@pytest.mark.slow
def test_a_map_shows_each_law_on_its_own_lattice(tmp_path, monkeypatch):
    """Of tasks of 4 rows beside tasks of 8, in files and on the page."""
    made, save = [], figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, *rest: made.append(figure) or save(figure, *rest))
    paths = [stored(tmp_path / str(rows), own_tasks(rows), range(1, 8)) for rows in (4, 8)]
    summary = write_report(Study(paths, tmp_path / "study"))
    assert len(summary.laws) == 14
    assert (tmp_path / "study" / "figures" / "means.png").exists()
    assert Page((tmp_path / "study" / "report.html").read_text()).data
    for protocol, axis in enumerate(made[0].axes):
        for place, cell in enumerate(summary.laws):
            law = cell[protocol].law
            there = law.probabilities > 0
            shades = law.probabilities[there] / law.probabilities.max()
            assert drawn_s(axis, place) == pytest.approx(dict(zip(law.values[there].tolist(), shades, strict=True)))
        for image in axis.get_images():
            assert image.get_clim() == (0, 1)


@pytest.mark.parametrize(("cells", "lost"), [(18, ()), (18, (0, 1, 2)), (18, (4, 9)), (21, ())])
def test_a_map_on_the_page_has_the_numbers_of_its_cells(tmp_path, monkeypatch, cells, lost):
    """As cards and the table have them, also where cells before have no law."""
    made, write = [], figures.inline_svg
    monkeypatch.setattr(figures, "inline_svg", lambda figure, name: made.append(figure) or write(figure, name))
    run, summary = grid(tmp_path, cells)
    there = [number for number in range(cells) if number not in lost]
    for number in lost:
        summary.laws[number] = []
        note = {"note": "no network", "members": 0, "cell": summary.numbers["cells"][number]["cell"]}
        summary.numbers["cells"][number] = note
    report_page(run, summary)
    assert len(made) == 5
    for figure in made:
        (axis,) = figure.axes
        ticks = [(tick.get_loc(), tick.label1.get_text()) for tick in axis.xaxis.get_major_ticks()]
        assert all(at == int(at) for at, _ in ticks)
        shown = {int(at): text for at, text in ticks if 0 <= at < len(there)}
        assert len(shown) > 4
        assert shown == {place: str(there[place]) for place in shown}


def a_share(path, asked, held, **fields):
    """A run that was asked for some members and holds some of them, both by ids."""
    settings = {"first_member": asked.start, "members": len(asked)} | fields
    config = from_dict(to_dict(ncsim.EnsembleConfig()) | settings)
    folder = RunFolder.create(path, [config])
    if held:
        folder.write_part(config, made_up(200).take(slice(held.start, held.stop)))
    return path


@pytest.mark.parametrize(
    ("asked", "held", "missing"),
    [
        ([range(60), range(60)], [range(30), range(30, 60)], 0),  # two shards, each in a folder of its own
        ([range(60), range(60)], [range(30), range(30, 50)], 10),
        ([range(60), range(60), range(60)], [range(20), range(40, 60), range(0)], 20),
        ([range(60), range(60, 90)], [range(60), range(60, 90)], 0),
        ([range(60), range(60, 90)], [range(60), range(60, 70)], 20),
        ([range(60), range(40, 90)], [range(60), range(60, 90)], 0),  # they overlap
        ([range(40, 90), range(60)], [range(60, 90), range(50)], 10),
        ([range(90), range(30, 60)], [range(0), range(30, 60)], 60),  # one is within the other
        ([range(20), range(100, 150)], [range(20), range(100, 150)], 0),  # nobody asks for what is between
        ([range(100, 150), range(20)], [range(100, 120), range(20)], 30),
    ],
)
def test_members_that_several_folders_ask_for_are_asked_for_once(tmp_path, asked, held, missing):
    paths = [a_share(tmp_path / str(n), *each) for n, each in enumerate(zip(asked, held, strict=True))]
    study = Study(paths)
    (config,) = study.configs
    assert (config.members, config.first_member) == (len(set().union(*asked)), min(ids.start for ids in asked))
    numbers = summarise(study).numbers
    assert (numbers["members_missing"], numbers["cells"][0]["members"]) == (missing, sum(map(len, held)))


def test_a_page_of_shards_ends_with_the_last_of_them(tmp_path, monkeypatch, capsys):
    """Where each has a folder of its own; and the report says then that the run is complete."""
    monkeypatch.setattr("os.nice", lambda _: None)
    paths = [a_share(tmp_path / str(n), range(60), held) for n, held in enumerate((range(30), range(0)))]

    rests = []

    def sleep(seconds):
        rests.append(seconds)
        assert len(rests) < 3, "it does not end"
        a_share(paths[1], range(60), range(30, 60) if len(rests) == 1 else None)

    monkeypatch.setattr("ncsim.report.watch.time.sleep", sleep)
    main(["report", "--watch", *map(str, paths), "--out", str(tmp_path / "study")])
    printed = capsys.readouterr()
    assert "30 members are still to be trained" in printed.err
    assert "Not complete" not in printed.out
    assert "60 members" in printed.out


def test_a_study_reads_stored_runs_that_no_new_run_may_be_as(tmp_path):
    """As `ncsim report` reads one of them."""
    fields = {"optimizer": "lamb", "intervention": "stop_gradient_alice"}
    paths = [a_share(tmp_path / str(n), ids, ids, **fields) for n, ids in enumerate((range(30), range(30, 60)))]
    study = Study(paths)
    assert refusal(study.configs[0]) is not None
    assert summarise(study).numbers["cells"][0]["members"] == 60


def legends_of(folder):
    """How many runs the legends of laws.svg and of the page say there are."""
    svg = ElementTree.parse(folder / "figures" / "laws.svg")
    texts = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    said = re.search(
        r"in each context\. ((?:up to )?\d+ runs?) exact law", Page((folder / "report.html").read_text()).text
    )
    return {text for text in texts if text and re.search(r"\d runs?$", text)}, said[1]


@pytest.mark.slow
def test_legends_say_how_many_runs_are_drawn(tmp_path):
    """Cells may have other numbers of whole members, and under a single shot of runs; other protocols have 50 of any."""
    few, many = ncsim.config_grid(hidden=[2, 3], members=60)
    records = made_up(60)
    lost = np.arange(4) == np.arange(60)[:, None] % 4  # a context of each member, so that none is whole
    lost = records._replace(
        diverged=lost,
        counts=np.where(lost[..., None], 0, records.counts),
        decided_product=np.where(lost, 0, records.decided_product),
    )
    for name, of_few in (("lost", lost), ("whole", records)):
        folder = RunFolder.create(tmp_path / name, [few, many])
        folder.write_part(few, of_few)
        folder.write_part(many, records)
    one = RunFolder.create(tmp_path / "one", [dataclasses.replace(few, members=1)])
    one.write_part(one.configs[0], made_up(1))
    for name, expected in (("lost", "up to 50 runs"), ("whole", "50 runs"), ("one", "up to 50 runs")):
        summary = write_report(ncsim.open_run(tmp_path / name))
        assert [len(dots[0]) for dots in summary.dots] == {"lost": [0, 50], "whole": [50, 50], "one": [1]}[name]
        assert legends_of(tmp_path / name) == ({expected}, expected)
    assert figures.dots_label([[np.zeros(1)], [np.zeros(1)]]) == "1 run"


def test_the_command_of_a_study_says_where_its_page_is_stored(tmp_path):
    paths = [str(tmp_path / name) for name in ("first one", "second")]
    for path, hidden in zip(paths, (2, 3), strict=True):
        RunFolder.create(path, [ncsim.EnsembleConfig(hidden=hidden, members=4)])
    asked = ["ncsim", "report", *paths]
    assert shlex.split(_study_command(Study(paths))) == asked
    assert shlex.split(_study_command(Study(paths, tmp_path / "study"))) == [*asked, "--out", str(tmp_path / "study")]
