"""Numbers on pages that follow from what stands beside them, computed anew: they went stale when limits were made longer."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import ncsim
from ncsim.statistics.contextuality_interval import contextuality_interval
from ncsim.tables import describe, read_table

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
NUMBER = r"-?\d+\.\d+"


def test_the_interval_of_the_table_of_people():
    found = describe(read_table(ROOT / "experiments" / "tables" / "animal_acts_people.csv"))
    low, high = found["contextuality_interval"]
    promised = re.findall(rf"-3\.358 \[({NUMBER}), ({NUMBER})\]", (ROOT / "docs" / "seeds.md").read_text())
    assert len(promised) == 2
    assert set(promised) == {(f"{low:.3f}", f"{high:.3f}")}


def counted(items, accuracy_alice, accuracy_bob, correlator):
    """The joint counts of a context from its two accuracies and its correlator, which say them."""
    alice, bob = round(accuracy_alice * items), round(accuracy_bob * items)
    one = round((1 - correlator) / 2 * items)
    assert np.allclose([alice, bob], np.multiply(items, [accuracy_alice, accuracy_bob]), atol=0.0006 * items)
    assert 1 - 2 * one / items == pytest.approx(correlator, abs=6e-5)
    both, odd = divmod(alice + bob - one, 2)
    assert not odd
    return [[items - both - one, bob - both], [alice - both, both]]


def test_the_intervals_of_the_mixed_suite_are_those_of_its_accuracies_and_correlators():
    page = (ROOT / "docs" / "results.md").read_text()
    section = page[page.index("## Real text: the mixed suite with MiniLM") :]
    rows = re.findall(rf"^\| (\d+) \| A\d B\d \| ({NUMBER}) % \| ({NUMBER}) % \| ({NUMBER}) \|", section, re.MULTILINE)
    promised = dict(
        re.findall(rf"^\| (\d+) \| ({NUMBER} \+- .* \[{NUMBER}, {NUMBER}\]) \|", section[:6_000], re.MULTILINE)
    )
    assert len(rows) == 12
    assert list(promised) == ["1", "4", "16"]
    for rank, words in promised.items():
        cells = [counted(256, float(a) / 100, float(b) / 100, float(c)) for r, a, b, c in rows if r == rank]
        counts = np.reshape(cells, (2, 2, 2, 2))
        s, interval = float(ncsim.chsh_statistics(counts).s), contextuality_interval(counts, same_items=True)
        assert words.startswith(f"{s:.3f} +- ")
        assert words.endswith(f"| {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")


def test_pages_count_the_recipes_that_there_are():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(re.findall(r"^### \d+\. ", contributing, re.MULTILINE)) == 13
    assert "\n## Thirteen recipes\n" in contributing
    for page in ("README.md", "docs/index.md"):
        assert "for thirteen common changes" in (ROOT / page).read_text()


def test_help_says_per_for_a_rate():
    """As CONTRIBUTING.md asks of pages; "networks a context" reads as a slip."""
    from ncsim.cli.command import _parser

    for command, parser in _parser()._subparsers._group_actions[0].choices.items():
        words = " ".join([parser.description or "", *(action.help or "" for action in parser._actions)])
        assert not re.search(
            r"\b(?:networks|loss|pairs|members|items|one) an? (?:context|head|step|rank|cell)\b", words
        ), command


#: Sections of arXiv:2603.04451 that have a number.
SECTIONS = {"1", "2", "2.1", "2.2", "3", "4", "4.1", "4.2", "4.3", "5", "5.1", "5.2", "5.3", "6"}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/{name}.md" for name in ("mechanism", "reading", "results", "text")),
        *sorted(f"experiments/{path.name}" for path in (ROOT / "experiments").glob("*.py")),
    ],
)
def test_sections_of_the_paper_are_there(page):
    """Pages sent their readers to section 5.4, and to an order that the paper does not give."""
    words = re.findall(r"[Ss]ections? (\d\.\d)(?: and (\d\.\d))?", (ROOT / page).read_text())
    assert {number for pair in words for number in pair if number} <= SECTIONS


def test_the_time_of_the_sweep_follows_from_the_rates_that_it_names():
    """It had said three hours at 16 cores, where 2.9e11 network-steps take them minutes."""
    from experiments.tpu_sweep import DEFAULTS, __doc__

    with open(ROOT / "benchmarks" / "results" / "scaling" / "width.csv") as file:
        rates = {int(row["hidden"]): float(row["rate"]) for row in csv.DictReader(file)}
    work = 4 * int(DEFAULTS["members"][0]) * int(DEFAULTS["steps"][0]) * len(DEFAULTS["learning_rate"])
    on_two = sum(work / np.interp(int(n), list(rates), list(rates.values())) for n in DEFAULTS["hidden"]) / 60
    assert on_two == pytest.approx(70, abs=3)
    assert on_two / 8 == pytest.approx(9, abs=0.5)
    assert "an hour and ten minutes on two cores, nine minutes on 16" in " ".join(__doc__.split())


def test_the_disk_of_a_run_of_10_to_the_9_follows_from_the_formula_above_it():
    page = (ROOT / "docs" / "scaling.md").read_text()
    per_member, per_part = re.search(r"disk   = members x (\d+) bytes \+ parts x (\d+) kB", page).groups()
    members, parts = 10**9, 10**9 / 16_384
    promised, said_parts = re.search(r"(\d+) GB in ([\d,]+) parts", page).groups()
    assert round((members * int(per_member) + parts * int(per_part) * 1e3) / 1e9) == int(promised)
    assert round(parts, -3) == int(said_parts.replace(",", ""))


def test_what_a_recording_costs_is_in_the_files_that_the_page_names():
    """A file had been measured anew, with another executor alone, and the page still named it for XLA's numbers."""

    def measured(name, executor):
        text = (ROOT / "benchmarks" / "results" / name).read_text()
        return json.loads(text)["executors"][executor]

    page = (ROOT / "docs" / "scaling.md").read_text()
    xla = measured("recording-xla.json", "xla")
    rate = 4 * xla["members"] * xla["steps"] / xla["seconds"]["memory"]
    assert f"with XLA's own code | {rate:.1e} | measured (recording-xla.json)".replace("e+0", "e") in page
    (row,) = re.findall(r"^\| recording at 50 of .*$", page, re.MULTILINE)
    natives = [
        measured(name, "native")["recorded_over_plain"]["clock"] for name in ("recording-intel.json", "recording.json")
    ]
    intel, amd = ([each[place][0] for place in ("memory", "stored")] for each in natives)
    assert "{:.2f} times the time in memory and {:.2f} times into a folder (native, Intel Xeon)".format(*intel) in row
    assert "; {:.2f} and {:.2f} (native, AMD EPYC)".format(*amd) in row
    assert "; {memory:.2f} and {stored:.2f} (XLA)".format(**xla["recorded_over_plain"]) in row


@pytest.mark.slow
def test_a_member_takes_as_many_bytes_as_the_page_says(tmp_path):
    """The page had 40, of parts that zstd compressed, when snappy's had 43."""
    ncsim.run_ensemble(ncsim.EnsembleConfig(members=16_384, steps=200), tmp_path)
    stored = sum(part.stat().st_size for part in (tmp_path / "parts").rglob("*.parquet"))
    promised = re.search(r"disk   = members x (\d+) bytes", (ROOT / "docs" / "scaling.md").read_text())
    assert stored / 16_384 == pytest.approx(int(promised[1]), rel=0.04)
