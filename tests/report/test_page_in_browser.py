"""What a real browser makes of report.html: a headless Chromium. Skipped where none is installed."""

import copy
import shutil
import subprocess
from pathlib import Path

import pytest

import ncsim
from ncsim.report.page import report_page
from ncsim.report.summary import summarise
from ncsim.text import open_text_run
from ncsim.text.report.write import write_text_report
from tests.support.browser import browser, browser_path
from tests.support.pages import MEMBERS, grid, stored

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="there is no Chromium or Chrome"),
]
STORED = Path(__file__).parents[1] / "fixtures" / "stored_runs"
SIZES, SCHEMES = (400, 1400), (False, True)
#: Text that is cut off: wider than its box, which neither scrolls nor lies in one that does.
CLIPPED = """[...document.querySelectorAll('body *')].filter(each => {
  const style = getComputedStyle(each);
  const cut = each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0 && style.overflowX === 'hidden';
  const out = each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.wide, .drawing, .drawn, svg');
  return (cut && !each.matches('.unseen')) || (out && each.textContent.trim() && style.display !== 'inline' && each.offsetParent);
}).map(each => each.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def tab():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of three cells, of a grid of sixty, of one cell, of nothing stored, and of a text run."""
    folder = tmp_path_factory.mktemp("pages")
    widths = ncsim.config_grid(hidden=[2, 3, 4], members=MEMBERS)
    found = {
        "three": (run := stored(folder / "three-run", widths), summarise(run)),
        "sixty": grid(folder, 60),
        "one": (run := stored(folder / "one-run", widths[:1]), summarise(run)),
        "some": (run := stored(folder / "some-run", widths, without=(1,)), summarise(run)),
        "none": (run := stored(folder / "none-run", widths, without=(0, 1, 2)), summarise(run)),
    }
    for name, (run, summary) in found.items():
        (folder / f"{name}.html").write_text(report_page(run, summary))
    text = shutil.copytree(STORED / "text", folder / "text-run")
    write_text_report(open_text_run(text))
    (text / "report.html").rename(folder / "text.html")
    return folder


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which axe-core comes from")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "axe-core@4"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("axe-core could not be installed")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


NAMES = ("three", "sixty", "one", "some", "none", "text")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_readable_and_asks_for_nothing(tab, pages, name):
    for width in SIZES:
        for dark in SCHEMES:
            tab.open(pages / f"{name}.html", width=width, dark=dark)
            # Also what is folded, and a filter that is used.
            tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run(CLIPPED) == []
            assert tab.complaints == []
            assert [url for url in tab.requests if not url.startswith("data:")] == [(pages / f"{name}.html").as_uri()]
            light = tab.run("getComputedStyle(document.body).backgroundColor")
            assert light == ("rgb(20, 22, 26)" if dark else "rgb(255, 255, 255)")


def test_texts_and_pictures_are_there_without_scripts(tab, pages):
    tab.open(pages / "three.html", javascript=False)
    words = tab.run("document.body.innerText")
    for expected in (
        "S is above 2 in",
        "retry until solved, at most 100",
        "What is chosen here needs JavaScript",
        "ncsim ensemble",
    ):
        assert expected in words
    assert tab.run("document.querySelectorAll('figure svg').length") == 5
    assert tab.run("[...document.querySelectorAll('form')].every(form => form.offsetParent === null)")


ROWS = "[...document.querySelector('#table').tBodies[0].rows].filter(row => !row.hidden).map(row => [...row.cells].map(cell => cell.textContent))"


def choose(tab, place, value):
    """What a reader does with a field."""
    kind = "input" if place == "find" else "change"
    tab.run(f"""(() => {{ const field = document.getElementById({place!r}); field.value = {value!r};
    field.dispatchEvent(new Event({kind!r}, {{ bubbles: true }})); }})()""")


def test_sorting_and_finding(tab, pages):
    tab.open(pages / "sixty.html")
    heads = tab.run("[...document.querySelectorAll('#table thead th')].map(head => head.textContent)")
    assert heads[:5] == ["cell", "hidden", "learning_rate", "members", "protocol"]
    assert len(tab.run(ROWS)) == 300
    choose(tab, "row-protocol", "best of 20 by loss")
    rows = tab.run(ROWS)
    assert len(rows) == 60
    assert {row[4] for row in rows} == {"best of 20 by loss"}
    choose(tab, "find", "hidden=3 learning_rate=0.01")
    assert [row[1:3] for row in tab.run(ROWS)] == [["3", "0.01"]]
    assert tab.run("document.getElementById('found').textContent") == "1 of 300 rows"
    choose(tab, "find", "hidden=3")
    column = heads.index("mean S")
    click = f"document.querySelectorAll('#table thead button')[{column}].click()"
    orders = []
    for direction in ("ascending", "descending"):
        tab.run(click)
        values = [float(row[column].split()[0]) for row in tab.run(ROWS)]
        assert values == sorted(values, reverse=direction == "descending")
        assert len(set(values)) > 1
        assert tab.run(f"document.querySelectorAll('#table thead th')[{column}].ariaSort") == direction
        orders.append(values)
    assert orders[0] == orders[1][::-1]
    # A word that stands in a heading, and in all rows there, is asked of values alone.
    choose(tab, "row-protocol", "")
    for word, count in (("loss", 60), ("protocol", 0), ("hidden", 0), ("LOSS learning_rate=0.01", 3)):
        choose(tab, "find", word)
        assert len(tab.run(ROWS)) == count
    choose(tab, "find", "no such cell")
    assert tab.run(ROWS) == []


def test_maps_lines_and_laws(tab, pages):
    tab.open(pages / "sixty.html")
    cells = tab.run("JSON.parse(document.getElementById('data').textContent)")["cells"]
    shown = "[...document.querySelectorAll('#map tbody tr')].map(row => [...row.cells].slice(1).map(cell => cell.textContent))"
    assert len(tab.run(shown)) == 20
    for metric, protocol, number in ((1, 3, 3), (3, 0, 0), (4, 0, 0)):
        choose(tab, "map-metric", str(metric))
        choose(tab, "map-protocol", str(protocol))
        found = tab.run(shown)
        for cell in cells:
            value = cell["numbers"][metric][number][0]
            i, j = cell["at"]
            text = found[j][i]
            assert float(text) == pytest.approx(value, abs=5e-4)
    assert tab.run("document.getElementById('map-protocol').disabled")  # solved is of no protocol
    assert tab.run("document.getElementById('map-at-0').offsetParent === null")
    choose(tab, "map-down", "2")
    assert tab.run("document.querySelectorAll('#map circle').length") == 3
    choose(tab, "map-across", "1")
    choose(tab, "map-at-0", "2")
    assert tab.run("document.querySelectorAll('#map circle').length") == 20
    assert "hidden=4" in tab.run("document.querySelector('#map .said').textContent")
    for cell, protocol in ((0, 0), (7, 4), (59, 2)):
        choose(tab, "law-cell", str(cell))
        choose(tab, "law-protocol", str(protocol))
        _, units = cells[cell]["laws"][protocol]
        assert tab.run("document.querySelectorAll('#law rect').length") == sum(unit > 0 for unit in units)
        assert cells[cell]["label"] in tab.run("document.querySelector('#law svg').getAttribute('aria-label')")
    assert tab.complaints == []


def test_maps_and_captions_show_what_tables_show(tab, tmp_path):
    """0.17951 is 0.180, also where four of its digits would be 0.1795; 1/16 is a tie, and 1e-12 is nothing."""
    numbers = [0.17951, 0.0625, 1.0625, 0.0005, 0.00049999999, 4.449e-5, 9.6e-7, 1e-12, -1e-17, 0.49951, 0.9996, 0.0]
    run, summary = grid(tmp_path, 12)
    cells = summary.numbers["cells"] = [copy.deepcopy(cell) for cell in summary.numbers["cells"]]
    for cell, number in zip(cells, numbers, strict=True):
        for each in cell["protocols"]:
            each["s_above_2"] |= {"value": number, "low": number, "high": number}
    (tmp_path / "shown.html").write_text(report_page(run, summary))
    tab.open(tmp_path / "shown.html")
    column = tab.run(
        "[...document.querySelectorAll('#table thead th')].findIndex(head => head.textContent === 'P(S > 2)')"
    )
    choose(tab, "row-protocol", "single shot")
    listed = [row[column] for row in tab.run(ROWS)]
    assert listed[:2] == ["0.180 [0.180, 0.180]", "0.062 [0.062, 0.062]"]
    choose(tab, "map-metric", "1")
    titles = tab.run("[...document.querySelectorAll('#map tbody td')].map(cell => [cell.textContent, cell.title])")
    # The table goes through widths first, the map through learning rates.
    there = [listed[4 * width + rate] for rate in range(4) for width in range(3)]
    assert titles == [[text.split()[0], text] for text in there]
    choose(tab, "law-cell", "0")
    assert "P(S > 2) 0.180 [0.180, 0.180]" in tab.run("document.querySelector('#law .said').textContent")


def test_maps_are_drawn_where_no_cell_with_a_card_has_a_law(tab, tmp_path, monkeypatch):
    """Those cells are the first ones, in which all may have diverged."""
    monkeypatch.setattr("ncsim.report.page.MOST_CARDS", 1)
    run, summary = grid(tmp_path, 6)
    whole = summary.numbers["cells"][0]
    summary.numbers["cells"][0] = {name: whole[name] for name in ("cell", "members", "rows", "diverged")} | {
        "note": "none"
    }
    summary.laws[0] = []
    (tmp_path / "first.html").write_text(report_page(run, summary))
    tab.open(tmp_path / "first.html")
    assert tab.complaints == []
    assert tab.run("document.querySelector('#law .said').textContent") == "None of the cells with a card has a law."
    drawn = "document.querySelector('#map tbody td').textContent"
    assert tab.run(drawn) == "\u2013"
    choose(tab, "map-metric", "1")
    assert len(tab.run("[...document.querySelectorAll('#map tbody td')].map(cell => cell.textContent)")) == 6
    # What comes after the drawings is done, too: they are drawn anew in a window of another width.
    choose(tab, "map-down", "2")
    before = tab.run("document.querySelector('#map svg').getAttribute('width')")
    tab.call("Emulation.setDeviceMetricsOverride", width=420, height=800, deviceScaleFactor=1, mobile=False)
    tab.run("dispatchEvent(new Event('resize'))")
    assert tab.run("document.querySelector('#map svg').getAttribute('width')") != before
    tab.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_serious(tab, pages, axe, name):
    for dark in SCHEMES if name != "sixty" else SCHEMES[1:]:
        tab.open(pages / f"{name}.html", dark=dark)
        # Of many cards the first one stands for all.
        tab.run("document.querySelectorAll('details:not(.card ~ .card details)').forEach(each => { each.open = true })")
        tab.run(f"{axe}; 0")
        found = tab.run(
            "axe.run().then(found => found.violations.map(each => [each.impact, each.id, each.nodes[0].html.slice(0, 200)]))"
        )
        assert [each for each in found if each[0] in ("serious", "critical")] == []


def test_two_hundred_cells_open_within_a_second(tab, tmp_path):
    """By the processor's time, since other work on a machine delays; the best of three."""
    run, summary = grid(tmp_path, 201)
    (tmp_path / "page.html").write_text(report_page(run, summary))
    tab.call("Performance.enable", timeDomain="threadTicks")
    seconds = []
    for _ in range(3):
        tab.open(tmp_path / "page.html")
        seconds.append(
            {each["name"]: each["value"] for each in tab.call("Performance.getMetrics")["metrics"]}["TaskDuration"]
        )
    assert min(seconds) < 1
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert len(tab.run(ROWS)) == 1005


def test_it_prints(tab, pages):
    tab.open(pages / "three.html", dark=True)
    assert len(tab.call("Page.printToPDF")["data"]) > 10_000
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("[...document.querySelectorAll('form, nav')].every(each => each.offsetParent === null)")
