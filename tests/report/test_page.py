"""report.html: what stands in it, without a browser. `test_page_in_browser.py` has what a browser makes of it."""

import argparse
import html.parser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import ncsim
from ncsim import signals
from ncsim.cli.command import main
from ncsim.cli.options import add_config_options, configs_of
from ncsim.cli.text import add_text_command, config_of
from ncsim.formatting import page_bytes
from ncsim.report import watch as watching
from ncsim.report.claims import CLAIMS, PEAK, findings, settings
from ncsim.report.page import LAW_UNIT, MARKS, report_page
from ncsim.report.provenance import provenance, repeat_command
from ncsim.report.sentences import protocol_row, run_verdict
from ncsim.report.summary import summarise
from ncsim.report.watch import watch
from ncsim.report.write import write_report
from ncsim.statistics.intervals import clopper_pearson
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.storage.run_folder import RunFolder
from ncsim.study import Study
from ncsim.text import open_text_run
from ncsim.text.report.write import repeat_text_command, write_text_report
from tests.executors.test_native import FOUR_ROWS
from tests.statistics.test_protocols import made_up
from tests.support.cases import first_fast
from tests.support.pages import MEMBERS, grid, stored

WIDTHS = ncsim.config_grid(hidden=[2, 3, 4], members=MEMBERS)
EMPTY = {"meta", "link", "input", "br", "use", "path", "image"}


def own_tasks(name):
    """Tasks of sixteen rows that are not the paper's."""
    return ncsim.truth_tables(
        features=4, alice=[lambda a, b, c, d: a & b, lambda a, b, c, d: a], bob=[lambda a, b, c, d: c, lambda a, b, c, d: d],
        name=name,
    )  # fmt: skip


class Page(html.parser.HTMLParser):
    """A page's elements, its text, and its data; that what is opened is closed, and no id is there twice."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        assert self.open == []
        ids = [given["id"] for _, given in self.elements if "id" in given]
        assert len(ids) == len(set(ids))
        self.text = " ".join(" ".join(self.texts).split())
        self.data = json.loads(self.of("data")[0]) if self.of("data") else None

    def of(self, name):
        return [text for (tag, given), text in self.inner if given.get("id") == name]

    def feed(self, text):
        self.inner = []
        super().feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.inner.append((self.open[-1], data))
            if self.open[-1][0] not in ("script", "style"):
                self.texts.append(data)


@pytest.fixture(scope="module")
def widths(tmp_path_factory):
    """A run of the paper's widths with its summary and its page."""
    run = stored(tmp_path_factory.mktemp("widths") / "run", WIDTHS)
    summary = summarise(run)
    text = report_page(run, summary)
    return run, summary, text, Page(text)


def test_one_file_holds_everything(widths):
    """Nothing is loaded, from beside the page or from the network, and a browser is told to refuse it."""
    _, _, text, page = widths
    assert "default-src 'none'" in text
    for tag, given in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            target = given.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, given)
    assert not re.search(r"@import|@font-face|url\((?!#)", text)
    drawn = [given for tag, given in page.elements if tag == "svg"]
    assert len(drawn) == len(STANDARD_PROTOCOLS)
    assert not any(tag == "text" for tag, _ in page.elements)  # letters are paths
    for given in (given for _, given in page.elements):
        for target in re.findall(r"url\(#([\w-]+)\)|^#([\w-]+)$", " ".join(map(str, given.values()))):
            assert any(each.get("id") == "".join(target) for _, each in page.elements), target


def test_the_first_screen_is_the_verdict_the_figure_and_the_claims(widths):
    _, summary, text, page = widths
    verdict = run_verdict(summary.numbers)
    assert len(verdict) == 2
    assert verdict[0].startswith("S is above 2 in ")
    assert " ".join(verdict) in page.text
    assert text.index("S is above 2 in ") < text.index("<svg") < text.index('id="claims"') < text.index('id="cells"')


def test_marks_are_those_of_the_claims(widths):
    run, summary, _, page = widths
    (cells,) = settings(run.configs)
    assert cells == {2: 0, 3: 1, 4: 2}
    found = findings({width: summary.laws[cell] for width, cell in cells.items()})
    assert [(f.claim, f.protocol) for f in found] == [
        (claim, protocol.label) for protocol in STANDARD_PROTOCOLS for claim in [*(c.text for c in CLAIMS), PEAK]
    ]
    marks = [given for tag, given in page.elements if tag == "td" and given.get("class") in MARKS]
    assert sorted((each["class"], each["title"]) for each in marks) == sorted(
        (f.answer, f"{f.protocol}: {f.estimate}") for f in found
    )
    for f in found:  # for a screen reader, too
        assert f"{MARKS[f.answer]} {f.answer} , {f.estimate}" in page.text


def test_claims_are_asked_of_what_they_are_about(tmp_path):
    tasks = own_tasks("mine")
    assert settings(ncsim.config_grid(hidden=[2, 3], tasks=tasks)) == []
    assert settings(ncsim.config_grid(hidden=[5, 3, 8])) == [{3: 1}]
    assert settings(ncsim.config_grid(loss=["bce", "squared_error"], hidden=[2, 3])) == [{2: 0, 3: 1}, {2: 2, 3: 3}]
    run = stored(tmp_path, ncsim.config_grid(hidden=3, members=40))
    texts = {f.claim for f in findings({3: summarise(run).laws[0]})}
    assert texts == {claim.text for claim in CLAIMS if claim.width == 3}


def test_cards_tables_and_laws_have_the_numbers(widths):
    _, summary, _, page = widths
    for number, cell in enumerate(summary.numbers["cells"]):
        assert f"{cell['pooled']['s_factorised']['value']:.3f}" in page.text
        assert page.data["cells"][number]["at"] == [number]
        for kept, protocol in zip(page.data["cells"][number]["laws"], cell["protocols"], strict=True):
            law = np.zeros(len(protocol["law"]["probability"]))
            law[kept[0] : kept[0] + len(kept[1])] = kept[1]
            assert np.abs(law * LAW_UNIT - protocol["law"]["probability"]).max() <= LAW_UNIT / 2 + 1e-12
        shown = page.data["cells"][number]["numbers"][1][3]
        assert shown == pytest.approx(
            [cell["protocols"][3]["s_above_2"][n] for n in ("value", "low", "high")], rel=1e-3
        )
        for protocol in cell["protocols"]:
            assert " ".join(protocol_row(protocol)) in page.text
    assert "Holm p across members" in page.text
    assert "jackknife" in page.text  # how limits were found


def test_no_interval_of_a_card_is_a_point(tmp_path):
    """None of 100,000 members is contextual, or solves a context; three decimals say that none ever will."""
    run = stored(tmp_path / "run", WIDTHS[:1])
    summary = summarise(run)
    (cell,) = summary.numbers["cells"]
    none = clopper_pearson(0, 100_000)
    cell["members_contextual"] = none._asdict()
    cell["contexts"]["22"]["solved"] = clopper_pearson(3, 100_000)._asdict()
    # A mean that is 0 but for rounding is not below 0.
    cell["pooled"]["contextuality"] |= {"value": -1e-17}
    text = report_page(run, summary)
    facts = dict(re.findall(r"<div><dt>(.*?)</dt><dd><strong>(.*?)</dd></div>", text))
    assert facts["Delta &gt; 0, of members"] == f"0.000</strong> <small>0.000 to {none.high:.0e}</small>"
    assert facts["Delta, pooled"].startswith("0.000</strong>")
    assert "<b>22</b> 3e-05</span>" in text


BAD = """</script><img src=x onerror="alert('1')"> & {{ 7 * 7 }}"""


def test_texts_of_users_are_escaped(tmp_path):
    tasks = own_tasks(BAD)
    folder = tmp_path / BAD.replace("/", "|")
    one, two = (stored(f"{folder}{n}", [config]) for n, config in enumerate(
        (ncsim.EnsembleConfig(members=40), ncsim.EnsembleConfig(members=40, tasks=tasks))
    ))  # fmt: skip
    study = Study([one.location, two.location], tmp_path / "<u>")
    text = report_page(study, summarise(study))
    page = Page(text)
    assert BAD in page.text
    assert page.data["axes"] == [{"name": "tasks", "values": ["paper", BAD]}]
    assert text.count("</script") == 2
    assert not any(tag == "img" or "onerror" in given for tag, given in page.elements)
    assert "49" not in re.findall(r"&amp; (\S+)", text)
    assert f"tasks={BAD}" in page.text


def test_numbers_that_are_not_there_break_nothing(tmp_path):
    """A run without members, a cell without any among others, one member, and members that all diverged."""
    page = Page(report_page(run := stored(tmp_path / "none", WIDTHS, without=(0, 1, 2)), summarise(run)))
    assert "No network is stored yet" in page.text
    assert "Not complete: 900 members are still to be trained" in page.text
    assert page.data is None
    page = Page(report_page(run := stored(tmp_path / "some", WIDTHS, without=(1,)), summarise(run)))
    assert "no network to report on" in page.text
    assert "numbers" not in page.data["cells"][1]
    run = stored(tmp_path / "one", [ncsim.EnsembleConfig(members=1)])
    page = Page(report_page(run, summarise(run)))
    assert "one member: no interval" in page.text
    folder = RunFolder.create(tmp_path / "lost", WIDTHS[:1])
    folder.write_part(WIDTHS[0], made_up(MEMBERS, diverged=1.1))
    page = Page(report_page(run := ncsim.open_run(tmp_path / "lost"), summarise(run)))
    assert "every one of a context diverged" in page.text


@pytest.mark.skipif(sys.platform == "darwin", reason="has no such names")
def test_a_folder_whose_name_is_no_utf8(tmp_path):
    """As of a disk of another system: its report has the name as standard output has it."""
    run = stored(tmp_path / os.fsdecode(b"caf\xe9"), [ncsim.EnsembleConfig(hidden=1, members=MEMBERS)])
    write_report(run)
    page = Page((run.storage.root / "report.html").read_text(encoding="utf-8"))
    assert page.text.startswith("ncsim: caf\\udce9 ")
    assert "The file holds all that it shows" in page.text
    assert json.loads((run.storage.root / "summary.json").read_text())["run"] == run.location
    assert page_bytes("caf\udce9, caf\u00e9") == b"caf\\udce9, caf\xc3\xa9"


def test_words_follow_the_numbers(widths):
    numbers = json.loads(json.dumps(widths[1].numbers))
    assert "Direct influence explains every member's S above 2: no member has Delta > 0" in run_verdict(numbers)[1]
    for cell in numbers["cells"]:
        cell["members_with_s_above_2"] |= {"value": 0.0, "low": 0.0}
    assert run_verdict(numbers)[1].startswith("No member has Delta > 0 (at most ")
    numbers["cells"][1]["members_contextual"] |= {"value": 0.5, "low": 0.4, "high": 0.6}
    numbers["cells"][2]["pooled"]["contextuality"] |= {"value": 0.5, "low": 0.4, "high": 0.6}
    assert run_verdict(numbers)[1] == (
        "Contextual once direct influence is discounted: 0.500 [0.400, 0.600] of members have Delta > 0 (hidden=3, the most of "
        "3 cells); pooled over members Delta is above 0 in 1 of 3 cells."
    )
    numbers["cells"] = numbers["cells"][:1]
    assert re.fullmatch(
        r"S is above 2 in 0\.000 \[\S+ \S+\] of members(, and in .* under .*)?\.", run_verdict(numbers)[0]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"hidden": [2, 3], "learning_rate": [0.1, 0.003], "members": 7, "first_member": 3},
        {"optimizer": "sgd", "optimizer_options": "momentum=0.9,nesterov=true", "common_initialization": [True, False]},
        {"loss": ["bce", "squared_error"], "root_seed": 5, "training_rows": 3, "alice_weight": 0.5},
    ],
)
def test_the_command_gives_the_run_again(fields):
    configs = ncsim.config_grid(**fields)
    command = shlex.split(repeat_command(configs, "a folder", ["xla"] * len(configs)))
    assert command[:2] == ["ncsim", "ensemble"]
    assert command[-4:] == ["--executor", "xla", "--out", "a folder"]
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    assert set(configs_of(parser.parse_args(command[2:-4]))) == set(configs)


@pytest.mark.parametrize(
    ("tasks", "options"),
    first_fast([(FOUR_ROWS, "--record-every 3"), (None, "--record-points 5 --record-spacing logarithmic")]),
    ids=["tasks that come from the stored settings", "the paper's tasks"],
)
def test_the_command_records_again(tmp_path, tasks, options, monkeypatch):
    monkeypatch.setattr("ncsim.cli.ensemble.report_run", lambda *_: None)
    words = ["--hidden", "1", "--members", "4", "--steps", "7"]
    if tasks is not None:
        ncsim.run_ensemble(ncsim.EnsembleConfig(tasks=tasks, hidden=1, members=4, steps=7), out=tmp_path / "mine")
        words = ["--config", str(tmp_path / "mine" / "config.json")]
    folder = str(tmp_path / "run")
    main(["ensemble", *words, *options.split(), "--out", folder, "--quiet"])
    command = provenance(folder)["command"]
    assert f" {options} --out " in command
    main([*shlex.split(command)[1:], "--quiet"])


def test_no_command_is_told_that_does_not_give_the_run_again():
    assert repeat_command(ncsim.config_grid(hidden=[2, 3], steps=[5, 6])[:3], "run") is None


def test_tasks_of_ones_own_come_from_the_stored_settings(tmp_path, capsys):
    run = stored(tmp_path / "mine", ncsim.config_grid(tasks=own_tasks("mine"), hidden=[2, 5], members=40))
    command = shlex.split(repeat_command(run.configs, run.location))
    assert command == ["ncsim", "ensemble", "--config", f"{run.location}/config.json", "--out", f"{run.location}-again"]
    same_program = shlex.split(repeat_command(run.configs, run.location, ["native", "native"]))
    assert same_program == [*command[:4], "--executor", "native", *command[4:]]
    main([*command[1:], "--print-config"])
    printed = capsys.readouterr().out
    assert "hidden = [2, 5]" in printed
    assert "mine" in printed


def test_stored_settings_are_read_where_a_run_is(capsys):
    """Also in an object store: the command of its page names them there."""
    config = ncsim.EnsembleConfig(tasks=own_tasks("mine"), hidden=5, members=40)
    folder = RunFolder.create("memory://settings/mine", [config])
    folder.storage.write("recording.json", b'{"recording": {"points": 7, "spacing": "linear", "every": 0}}')
    command = shlex.split(repeat_command([config], folder.location))
    main([*command[1:], "--print-config"])
    printed = capsys.readouterr().out
    assert "hidden = 5" in printed
    assert "mine" in printed
    assert "record_points = 7" in printed
    with pytest.raises(SystemExit):
        main(["ensemble", "--config", "memory://settings/none/config.json"])
    assert "--config: memory://settings/none/config.json; cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_two_hundred_cells_stay_under_two_megabytes(tmp_path):
    run, summary = grid(tmp_path, 201)
    text = report_page(run, summary)
    assert len(text.encode()) < 2e6
    page = Page(text)
    assert "of 67 settings, the one that meets most" in page.text
    assert "How many hold at 66 other settings" in page.text
    assert "The first 200 of 201 cells" in page.text
    assert sum(given.get("class") == "card" for _, given in page.elements) == 200
    assert sum("laws" in cell for cell in page.data["cells"]) == 200
    assert sum("numbers" in cell for cell in page.data["cells"]) == 201


def test_templates_are_read_when_a_page_is_written_and_not_before():
    code = "import sys, ncsim.cli.command, ncsim.cli.report; print('jinja2' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(ncsim.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"


def test_a_text_run_has_such_a_page(tmp_path):
    """Escaped, in one file, with the command that gives its config again."""
    folder = shutil.copytree(Path(__file__).parents[1] / "fixtures" / "stored_runs" / "text", tmp_path / "<b>&")
    run = open_text_run(folder)
    numbers = write_text_report(run)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.text.count("<b>&") >= 3
    assert sum(tag == "svg" for tag, _ in page.elements) == 3
    assert not any(
        (given.get("src") or given.get("href") or "#")[0] != "#" for tag, given in page.elements if tag != "link"
    )
    assert numbers["cells"][0]["verdict"] in page.text
    # Where it is, as of other runs: the name of its folder alone is another folder, and of an address no bucket.
    assert repeat_text_command(run.config, str(folder)) in page.text
    command = shlex.split(repeat_text_command(run.config, "x"))
    assert command[:2] + command[-2:] == ["ncsim", "text", "--out", "x"]
    parser = argparse.ArgumentParser()
    add_text_command(parser.add_subparsers())
    assert config_of(parser.parse_args(command[1:])) == run.config


# --------------------------------------------------------------------------------------------------------- --watch


def test_a_page_is_written_anew_while_a_run_trains(tmp_path, monkeypatch):
    """A part is stored while it rests; it does not look at members again where there is none; it ends with the run."""
    niced, told, rests, read = [], [], [], []
    monkeypatch.setattr(os, "nice", niced.append)
    records, folder = made_up(MEMBERS, seed=2), RunFolder.create(tmp_path, WIDTHS[1:2])
    parts = [slice(0, 100), slice(100, 200), None, slice(200, 300)]

    def sleep(seconds):
        rests.append(seconds)
        page = (tmp_path / "report.html").read_text()
        assert '<meta http-equiv="refresh"' in page
        assert "This page is written anew" in page
        part = parts.pop(0)
        if part is not None:
            folder.write_part(WIDTHS[1], records.take(part))

    def opened():
        read.append(len(parts))
        return ncsim.open_run(tmp_path)

    with folder.exclusive():  # as a run that trains holds it
        clock = types.SimpleNamespace(monotonic=time.monotonic, process_time=time.process_time, sleep=sleep)
        monkeypatch.setattr("ncsim.report.watch.time", clock)  # its own: all others sleep as well
        run = watch([str(tmp_path)], opened, lambda missing, _: told.append(missing))
    assert run.missing() == 0
    assert told == [300, 200, 100]
    assert read == [4, 3, 2, 0]
    assert niced == [19]
    assert min(rests) >= 5
    assert '<meta http-equiv="refresh"' not in report_page(run, summarise(run))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["run", "--watch", "--verify"], "--watch: with --verify; allowed: one after the other"),
        (["run", "--watch", "--repair"], "--watch: with --repair; allowed: one after the other"),
        (["run", "--watch", "--audit", "0.5"], "--watch: with --audit; allowed: one after the other"),
        (["run", "run", "--watch"], "--watch: with 2 folders and no --out; allowed: with --out STUDY"),
        (["nowhere", "--watch"], "no run is stored there"),
    ],
)
def test_what_cannot_be_watched_is_refused(options, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda by: None)
    RunFolder.create(tmp_path / "run", WIDTHS)
    with pytest.raises(SystemExit) as end:
        main(["report", *options])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_scrolls_is_reached_by_keys_and_has_a_name(tmp_path):
    """Also the map and the law, which are wider than a telephone."""
    run, summary = grid(tmp_path, 12)
    page = Page(report_page(run, summary))
    scrolls = [given for _, given in page.elements if {"wide", "drawn"} & set(given.get("class", "").split())]
    assert len(scrolls) > 10
    for given in scrolls:
        assert given.get("tabindex") == "0", given
        assert given.get("role") in ("region", "group"), given
        assert given.get("aria-label"), given
    # Landmarks have names that no other has; the tables of cards are groups.
    landmarks = [given["aria-label"] for _, given in page.elements if given.get("role") == "region"]
    assert len(landmarks) == len(set(landmarks))


def test_keys_have_the_colours_that_are_drawn(widths, tmp_path):
    """In the dark, too, and of many cells, whose laws are shades of another colour."""
    keys = dict(re.findall(r"\.key\.(\w+) \{([^}]*)\}", widths[2]))
    many = report_page(*grid(tmp_path, 15))
    for text, names in ((widths[2], ("law", "classical", "quantum")), (many, ("shade", "classical", "quantum"))):
        legend = text[text.index('<ul class="legend">') : text.index("</figcaption>")]
        assert [name for name in re.findall(r'class="key (\w+)"', legend) if name not in ("dot", "mean")] == list(names)
    assert [re.search(r"#(\w{6})\b(?! )|var", keys[name])[0] for name in ("law", "classical")] == ["var", "#d55e00"]
    assert "#0072b2" in keys["quantum"]
    assert "#0072b2" in keys["shade"]
    drawn = widths[2][widths[2].index("<figure>") : widths[2].index("<figcaption>")]
    assert {"#56b4e9", "#d55e00", "#0072b2"} <= set(re.findall(r"#\w{6}", drawn))
    assert set(re.findall(r"--law: (#\w{6})", widths[2])) == {"#56b4e9"}  # in both schemes


def test_one_other_setting_is_one(tmp_path):
    configs = ncsim.config_grid(hidden=[3], steps=[10, 20], members=MEMBERS)
    page = Page(report_page(run := stored(tmp_path, configs), summarise(run)))
    assert "How many hold at 1 other setting " in page.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), signals.Stopped(15)])
def test_a_page_that_is_no_longer_watched_does_not_say_so(tmp_path, monkeypatch, stop):
    """It said for ever that it is written anew, and a browser loaded it every five seconds."""
    monkeypatch.setattr(os, "nice", lambda by: None)
    folder = RunFolder.create(tmp_path, WIDTHS[1:2])
    folder.write_part(WIDTHS[1], made_up(MEMBERS, seed=2).take(slice(0, 100)))
    pages = []

    def sleep(_):
        pages.append((tmp_path / "report.html").read_text())
        raise stop

    clock = types.SimpleNamespace(monotonic=time.monotonic, process_time=time.process_time, sleep=sleep)
    monkeypatch.setattr("ncsim.report.watch.time", clock)
    with pytest.raises(type(stop)):
        watch([str(tmp_path)], lambda: ncsim.open_run(tmp_path))
    run = ncsim.open_run(tmp_path)
    last = (tmp_path / "report.html").read_text()
    assert last == report_page(run, summarise(run))
    assert "Not complete: 200 members are still to be trained." in Page(last).text
    for text, watched in ((pages[0], True), (last, False)):
        assert ('<meta http-equiv="refresh"' in text) == watched
        assert ("This page is written anew" in text) == watched
        assert (
            bool(re.search(r"Written last at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC by ncsim report --watch", text))
            == watched
        )


def test_who_watches_rests_as_long_as_it_worked_and_longer_than_it_computed(monkeypatch):
    """Five seconds at least, nine times the processor's seconds of the last page, and as long as that took by the clock."""
    now, computed, rested = [100.0], [7.0], []
    pages = [(2.0, 0.1, 5.0), (40.0, 1.0, 40.0), (3.0, 2.0, 18.0)]  # by the clock, by the processor, rest

    def page(*_, **__):
        by_clock, by_processor, _ = pages[len(rested)]
        now[0] += by_clock
        computed[0] += by_processor
        return ""

    def sleep(seconds):
        rested.append(seconds)
        now[0] += seconds
        if len(rested) == len(pages):
            raise KeyboardInterrupt

    clock = types.SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: computed[0], sleep=sleep)
    monkeypatch.setattr(watching, "time", clock)
    monkeypatch.setattr(watching, "_looked_at", lambda _: len(rested))  # something new is there each time
    monkeypatch.setattr(watching, "summarise", lambda _: types.SimpleNamespace(numbers={"members_missing": 1}))
    monkeypatch.setattr(watching, "report_page", page)
    monkeypatch.setattr(watching, "_write", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        watching._until_complete(["run"], lambda: None, None, [])
    assert rested == pytest.approx([rest for *_, rest in pages])
