"""What is said of a run follows from its numbers."""

import dataclasses
import itertools
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

import ncsim
from ncsim.errors import StoreError
from ncsim.formatting import json_text, no_less
from ncsim.report import figures
from ncsim.report.page import report_page
from ncsim.report.provenance import provenance
from ncsim.report.sentences import (
    cell_label,
    cell_verdict,
    estimate,
    run_verdict,
    sentences,
    sentences_on_tests,
    signalling_rows,
)
from ncsim.report.summary import summarise
from ncsim.report.write import printed, write_report
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson
from ncsim.statistics.locality_tests import game_p_value
from ncsim.statistics.signalling_tests import signalling_tests
from ncsim.statistics.until import Until
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
from tests.statistics.test_protocols import made_up

CONFIG = ncsim.EnsembleConfig(members=300)


def a_run(path, records):
    folder = RunFolder.create(path, [CONFIG])
    half = records.size // 2
    folder.write_part(CONFIG, records.take(slice(0, half)))
    folder.write_part(CONFIG, records.take(slice(half, None)))
    return ncsim.open_run(path)


def test_summary_against_the_records(tmp_path):
    records = made_up(300, seed=2, diverged=0.01)
    # Where both heads were wrong on two rows, Alice's answer on one of them was undecided.
    doubtful = (records.counts[..., 0] > 1).astype(np.int32)
    records = records._replace(undecided_alice=doubtful, decided_product=records.decided_product - doubtful)
    numbers = summarise(a_run(tmp_path, records)).numbers
    (cell,) = numbers["cells"]
    whole = ~records.diverged.any(axis=1)
    s = chsh_statistics(records.joint[whole])
    assert cell["members"] == 300
    assert cell["diverged"] == {"networks": int(records.diverged.sum()), "members": int((~whole).sum())}
    assert cell["members_with_s_above_2"]["value"] == pytest.approx(np.mean(s.s > 2))
    assert cell["members_contextual"]["value"] == np.mean(s.contextuality > 0)
    assert cell["largest_contextuality_of_a_member"] == pytest.approx(np.max(s.contextuality))
    pooled = chsh_statistics(records.joint.sum(axis=0))
    for name in ("s", "s_factorised", "influence", "contextuality"):
        assert cell["pooled"][name]["value"] == pytest.approx(float(getattr(pooled, name)))
        assert cell["pooled"][name]["low"] < cell["pooled"][name]["value"] < cell["pooled"][name]["high"]
    solved = records.counts[:, 1, 3] == 16
    assert cell["contexts"]["12"]["solved"]["value"] == pytest.approx(np.mean(solved[~records.diverged[:, 1]]))
    assert cell["contexts"]["12"]["accuracy_bob"] == pytest.approx(float(pooled.accuracy_bob[0, 1]))
    decided = ~records.undecided()[whole].any(axis=1)
    undecided = cell["undecided"]
    assert undecided["decided_members"]["value"] == pytest.approx(decided.mean())
    assert undecided["mean_s_of_decided_members"]["value"] == pytest.approx(s.s[decided].mean())
    assert undecided["mean_s_as_they_fell"]["value"] == pytest.approx(s.s.mean())
    low, high = undecided["mean_s_whatever_they_are"]
    free = records.undecided_alice[whole].sum(axis=1) / 16  # each such row adds 1 or takes 1 away
    centre = (records.decided_product[whole] / 16) @ [1, 1, 1, -1]
    assert undecided["mean_s_as_coin_tosses"]["value"] == pytest.approx(np.mean(centre))
    assert (low, high) == pytest.approx((np.mean(centre - free), np.mean(centre + free)))
    assert undecided["networks"] == pytest.approx(records.undecided().sum() / (~records.diverged).sum())
    single = cell["protocols"][0]
    assert single["mean_s"]["value"] == pytest.approx(cell["pooled"]["s"]["value"])
    assert sum(single["law"]["probability"]) == pytest.approx(1)


def lost_networks(records, lost):
    """The same members, of which these networks [M, 4] diverged."""
    zeroed = {
        n: np.where(lost, 0, getattr(records, n)) for n in ("undecided_alice", "undecided_bob", "decided_product")
    }
    return records._replace(diverged=lost, counts=np.where(lost[..., None], 0, records.counts), **zeroed)


def half_doubtful():
    """Members of which every second has an undecided answer wherever both heads were wrong on a row."""
    records = made_up(300, seed=2)
    doubtful = (records.counts[..., 0] > 0).astype(np.int32) * (np.arange(300) % 2 == 0)[:, None]
    return records._replace(undecided_alice=doubtful, decided_product=records.decided_product - doubtful)


@pytest.mark.parametrize("number", range(4))
def test_mean_s_is_in_the_range_of_what_undecided_answers_could_make_it(number):
    """Also where networks diverged, and most of all where those that did have another S than the others."""
    records = half_doubtful()
    wrong = 16 - records.counts[..., 3]
    lost = [
        np.zeros_like(records.diverged),
        wrong > np.quantile(wrong, 0.7),
        wrong < np.quantile(wrong, 0.3),
        (np.arange(4) == 3) & (np.arange(300) % 3 > 0)[:, None],
    ][number]
    (cell,) = summarise(Run([CONFIG], [lost_networks(records, lost)])).numbers["cells"]
    found, whole = cell["undecided"], ~lost.any(axis=1)
    (low, high), (least, most) = (found[f"{n}_whatever_they_are"] for n in ("mean_s", "members_with_s_above_2"))
    assert low < high
    assert low <= found["mean_s_as_they_fell"]["value"] <= high
    assert low <= found["mean_s_as_coin_tosses"]["value"] <= high
    assert least <= cell["members_with_s_above_2"]["value"] <= most
    s = chsh_statistics(records.joint[whole]).s
    assert found["mean_s_as_they_fell"]["value"] == pytest.approx(s.mean())
    for name in ("mean_s_as_they_fell", "mean_s_as_coin_tosses"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    if not lost.any():  # all networks are those of whole members
        assert found["mean_s_as_they_fell"]["value"] == pytest.approx(cell["pooled"]["s"]["value"])
    words = sentences(cell)[1]
    assert ("Of the members without a diverged network" in words) == lost.any()
    assert not lost.any() or f"({whole.sum()}): mean S as they fell" in words


def test_of_no_whole_member_no_range_is_made_up(tmp_path):
    """Each context has networks, and each member has one that diverged."""
    one = np.arange(4) == np.arange(300)[:, None] % 4
    summary = write_report(a_run(tmp_path, lost_networks(half_doubtful(), one)))
    (cell,) = summary.numbers["cells"]
    assert cell["protocols"]
    for name in ("mean_s_as_they_fell", "mean_s_as_coin_tosses", "mean_s_of_decided_members"):
        assert cell["undecided"][name] is None
    for name in ("mean_s", "members_with_s_above_2"):
        assert cell["undecided"][f"{name}_whatever_they_are"] is None
    assert "What S they leave open is not known: every member has a network that diverged." in printed(summary)
    assert "were each free" not in printed(summary) + (tmp_path / "report.html").read_text()
    assert "without undecided answers" not in printed(summary)


def test_of_no_whole_member_no_share_is_told(tmp_path):
    """No comparison with NaN holds, and that is no answer: neither that some S is above 2, nor that none is."""
    one = np.arange(4) == np.arange(300)[:, None] % 4
    summary = write_report(a_run(tmp_path / "none", lost_networks(half_doubtful(), one)))
    (cell,) = summary.numbers["cells"]
    assert cell_verdict(cell) == (
        "Of members nothing is known, since every one has a network that diverged. Pooled over members, Delta is not above 0."
    )
    first, second = run_verdict(summary.numbers)
    assert re.fullmatch(
        r"Of members nothing is known, since every one has a network that diverged; S is above 2 in \d\S+ \[\S+ \S+\] of runs under .*\.",
        first,
    )
    assert second == "Pooled over members Delta is not above 0."
    assert "nan" not in f"{first} {printed(summary)}"
    page = (tmp_path / "none" / "report.html").read_text()
    assert f"{first} {second}" in page
    assert ">nan<" not in page
    assert "mean S" in page
    # Beside a cell with whole members, such a cell is told apart and has no part in what is said of shares.
    (other,) = summarise(Run([CONFIG], [made_up(300, seed=2)])).numbers["cells"]
    cells = [each | {"cell": {"hidden": n}} for n, each in enumerate((cell, cell, other))]
    first, second = run_verdict({"cells": cells})
    share = estimate(other["members_with_s_above_2"])
    assert first.startswith(
        f"S is above 2 in {share} of members (hidden=2) (not known of 2 of 3 cells, where every member has a network that diverged)"
    )
    assert f"(at most {no_less(clopper_pearson(0, 300).high)} of a cell's members, 95 %)" in second
    assert "every member" not in second
    assert "the other cell" in second


def test_tests_against_the_records(tmp_path):
    records = made_up(300, seed=2)
    (cell,) = summarise(a_run(tmp_path, records)).numbers["cells"]
    pooled = records.joint.sum(axis=0, dtype=np.int64)
    tests = cell["tests"]
    assert tests["pooled_rows"] == 300 * 4 * 16
    assert tests["locality_pooled"] == {"p_value": float(game_p_value(pooled)), "method": "game form"}
    for found, expected in zip(tests["signalling_pooled"], signalling_tests(pooled), strict=True):
        assert (found["answer"], found["p_value"], found["p_holm"]) == (
            expected.answer,
            expected.p_value,
            expected.p_holm,
        )
    right = records.joint[:, 0, :, 1].sum(axis=-1)  # Alice's first task beside Bob's first and second
    across = tests["signalling_across_members"][0]
    assert across["p_value"] == pytest.approx(ttest_rel(right[:, 0], right[:, 1]).pvalue)
    assert across["difference"]["value"] == pytest.approx((right[:, 0] - right[:, 1]).mean() / 16)
    # A context that lost networks has fewer rows, which the game form does not take.
    (cell,) = summarise(Run([CONFIG], [made_up(300, seed=2, diverged=0.01)])).numbers["cells"]
    assert cell["tests"]["locality_pooled"]["method"] == "Hoeffding"
    json.dumps(cell["tests"], allow_nan=False)


def test_words_on_tests(tmp_path):
    summary = summarise(a_run(tmp_path, made_up(300, seed=2)))
    (cell,) = summary.numbers["cells"]
    text = printed(summary)
    assert "rows for independent draws, which they are not: all members answer the same 16 rows" in text
    assert [row[0] for row in signalling_rows(cell)] == ["A1", "A2", "B1", "B2"]
    for test in cell["tests"]["signalling_across_members"]:
        test["p_holm"] = 0.2
    assert "no accuracy is shown to depend" in sentences_on_tests(cell)[0]
    cell["tests"]["signalling_across_members"][3]["p_holm"] = 0.0
    assert "the accuracy of B2 depends on the other head's task" in sentences_on_tests(cell)[0]
    assert signalling_rows(cell)[3][4].startswith("< 1e-300")
    write_report(ncsim.open_run(tmp_path))
    assert "Holm p across members" in (tmp_path / "report.html").read_text()


def test_keys_of_legends_are_in_their_legends(tmp_path, monkeypatch):
    """A key that is larger than that lies over the panels."""
    made = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_: made.append(figure))
    write_report(a_run(tmp_path, made_up(300, seed=2)))
    assert len(made) == 2
    for figure in made:
        figure.canvas.draw()
        (legend,) = figure.legends
        around = legend.get_window_extent()
        for key in legend.legend_handles:
            for path in key.get_paths() if hasattr(key, "get_paths") else [key.get_path()]:
                extent = path.get_extents(key.get_transform())
                assert extent.height < around.height, key
                assert extent.width < around.width / 4, key


def test_report_files(tmp_path):
    run = a_run(tmp_path, made_up(300, seed=2))
    summary = write_report(run)
    assert json.loads((tmp_path / "summary.json").read_text())["cells"][0]["members"] == 300
    page = (tmp_path / "report.html").read_text()
    assert "figures/laws.svg" not in page
    assert "retry until solved, at most 100" in page
    assert "retry until solved, at most 100" in printed(summary)
    for figure in ("laws", "means"):
        pdf = (tmp_path / "figures" / f"{figure}.pdf").read_bytes()
        assert b"/FontFile2" in pdf  # TrueType, embedded
        assert b"/Type3" not in pdf
        assert len(set(re.findall(rb"/FontName /(\S+)", pdf))) == 1  # cut down and embedded once
        svg = ElementTree.parse(tmp_path / "figures" / f"{figure}.svg")
        texts = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert "single shot" in texts
    rows = (tmp_path / "figures" / "laws.csv").read_text().splitlines()
    assert rows[0] == "protocol,ensemble,kind,run_or_probability,s"
    drawn = [row for row in rows if row.startswith("single shot,all,run")]
    assert len(drawn) == 50
    first = chsh_statistics(made_up(300, seed=2).joint[:50]).s
    assert [float(row.split(",")[-1]) for row in drawn] == pytest.approx(list(first))


def test_a_cell_without_options_is_not_called_all(tmp_path):
    """Of a grid over optimizer options, "" among them: it had the label of a run of one cell, and in the CSV, too."""
    cells = ncsim.config_grid(optimizer="sgd", optimizer_options=["", "momentum=0.9"], members=2)
    labels = [cell_label({"optimizer_options": config.optimizer_options}, bare=True) for config in cells]
    assert labels == ['""', "momentum=0.9"]
    assert [figures.cell_values(label) for label in labels] == [[""], ["momentum=0.9"]]
    assert cell_label({"optimizer": "sgd", "optimizer_options": ""}, bare=True) == 'sgd\n""'
    assert cell_label({}, bare=True) == "all"
    words = [cell_label({"optimizer_options": config.optimizer_options, "hidden": 3}) for config in cells]
    assert words == ['optimizer_options="", hidden=3', "optimizer_options=momentum=0.9, hidden=3"]
    assert Until.parse('mean S, optimizer_options="" +- 0.1').cells(cells) == [0]
    assert Until.parse("mean S, optimizer_options=momentum=0.9 +- 0.1").cells(cells) == [1]
    RunFolder.create(tmp_path, cells)
    settings = dict(provenance(str(tmp_path))["settings"])
    assert settings["optimizer_options"] == '"", momentum=0.9'
    assert settings["optimizer"] == "sgd"


def test_a_flag_is_spelled_as_the_command_line_takes_it(tmp_path):
    """--until takes common_initialization=true, and nothing takes True."""
    cells = ncsim.config_grid(common_initialization=[False, True], members=300)
    values = [{"common_initialization": config.common_initialization} for config in cells]
    assert [cell_label(value) for value in values] == ["common_initialization=false", "common_initialization=true"]
    assert [cell_label(value, bare=True) for value in values] == ["false", "true"]
    assert Until.parse("mean S, common_initialization=true +- 0.1").cells(cells) == [1]
    folder = RunFolder.create(tmp_path, cells)
    folder.write_part(cells[0], made_up(300, seed=2))
    run = ncsim.open_run(tmp_path)
    page = report_page(run, summarise(run))
    assert '["false", "true"]' in page
    found = [word for word in ("false", "False", "true", "True") if f"<td>{word}</td>" in page]
    assert found == ["false", "true"]


def test_words_follow_the_numbers(tmp_path):
    contextual = made_up(300, seed=2)
    pr_box = np.array([[8, 0, 0, 8], [8, 0, 0, 8], [8, 0, 0, 8], [0, 8, 8, 0]])
    contextual.counts[:] = pr_box
    contextual.decided_product[:] = pr_box @ [1, -1, -1, 1]
    (cell,) = summarise(a_run(tmp_path / "a", contextual)).numbers["cells"]
    assert "Contextual once direct influence is discounted: 1.000 [0.988, 1.000] of members" in cell_verdict(cell)
    assert "Delta is above 0: contextual" in cell_verdict(cell)
    (cell,) = summarise(a_run(tmp_path / "b", made_up(300, seed=2))).numbers["cells"]
    assert "explained by direct influence: no member has Delta > 0" in cell_verdict(cell)
    assert f"at most {no_less(clopper_pearson(0, 300).high)} of members" in cell_verdict(cell)
    assert "Delta is not above 0" in cell_verdict(cell)
    # A Delta above 0 whose interval has 0 in it is not shown to be above, and nobody may say that it is not.
    cell["pooled"]["contextuality"] |= {"value": 0.1, "low": -0.1, "high": 0.3}
    assert cell_verdict(cell).endswith("Pooled over members, Delta is not shown to be above 0.")
    assert run_verdict({"cells": [cell]})[1].endswith("pooled over members Delta is not shown to be above 0.")


def rare_boxes(members):
    """Each member has one table of a PR box at most, of lowest loss; the other tables are those of coins."""
    records = made_up(members, seed=2)
    box = np.array([[8, 0, 0, 8], [8, 0, 0, 8], [8, 0, 0, 8], [0, 8, 8, 0]])
    there = (np.arange(members)[:, None] % 20) == 5 * np.arange(4)
    records.counts[:] = np.where(there[..., None], box, 4)
    records.loss[:] = np.where(there, 0, 1)
    none = np.zeros_like(records.undecided_alice)
    product = (records.counts @ [1, -1, -1, 1]).astype(np.int32)
    return records._replace(undecided_alice=none, undecided_bob=none, decided_product=product)


def test_runs_that_a_protocol_makes_contextual_are_told():
    """Of twenty tries at least one is of the box with 1 - 0.95^20 in a context, and three contexts make Delta = 1."""
    (cell,) = summarise(Run([CONFIG], [rare_boxes(300)])).numbers["cells"]
    best = cell["protocols"][1]
    found = estimate(best["sampled_runs_contextual"])
    box = 1 - 0.95**20
    assert found.value == pytest.approx(box**4 + 4 * box**3 * (1 - box), abs=0.02)
    assert cell["members_contextual"]["value"] == 0
    assert cell_verdict(cell).endswith(
        f"Contextual once direct influence is discounted: {found} of runs under best of 20 by loss (Delta > 0)."
    )
    _, second = run_verdict({"cells": [cell]})
    assert second.startswith("No member has Delta > 0 (at most ")
    told = f"{found} of runs under best of 20 by loss"
    assert second.endswith(f"; but {told} have Delta > 0: contextual once direct influence is discounted.")
    other = summarise(Run([CONFIG], [made_up(300, seed=2)])).numbers["cells"][0]
    cells = [each | {"cell": {"hidden": n}} for n, each in enumerate((other, cell))]
    assert f"; but {told} (hidden=1) have Delta > 0" in run_verdict({"cells": cells})[1]
    cells[0]["members_contextual"] |= {"value": 0.5, "low": 0.4, "high": 0.6}
    assert (
        f"of members have Delta > 0 (hidden=0, the most of 2 cells), and {told} (hidden=1); "
        in run_verdict({"cells": cells})[1]
    )
    # A protocol whose lower limit is nothing is none that is shown to be contextual.
    for each in cell["protocols"]:
        each["sampled_runs_contextual"] |= {"value": 1e-4, "low": 1e-30}
    assert "contextual" not in run_verdict({"cells": [cell]})[1]


def test_cells_in_which_every_network_diverged_are_counted():
    """They have no numbers, and what is said of the others is not said of the run."""
    some, lost = made_up(300, seed=2), made_up(300, diverged=1.1)
    configs = ncsim.config_grid(learning_rate=[0.01, 1.0, 2.0], members=300)
    summary = summarise(Run(configs, [some, lost, lost]))
    first, second = run_verdict(summary.numbers)
    share = estimate(summary.numbers["cells"][0]["members_with_s_above_2"])
    assert first.startswith(
        f"S is above 2 in {share} of members (learning_rate=0.01) (not known of 2 of 3 cells, where every member has a network "
        "that diverged)"
    )
    assert "the other cell" in second
    assert run_verdict({"cells": summary.numbers["cells"][1:]}) == [
        "S of no member is known: every one that is stored has a network that diverged."
    ]
    # Of cells that are still to be trained nothing is said here, but that the others are not alone.
    empty = summary.numbers["cells"][1] | {"members": 0, "diverged": {"networks": 0, "members": 0}}
    first, _ = run_verdict({"cells": [summary.numbers["cells"][0], empty]})
    assert first.startswith(f"S is above 2 in {share} of members (learning_rate=0.01)")
    assert "not known" not in first


def test_a_delta_that_may_be_above_0_is_not_said_not_to_be():
    """One member has an interval of all that is possible, wherever its own Delta is."""
    one = ncsim.EnsembleConfig(members=1)
    (cell,) = summarise(Run([one], [made_up(1, seed=3)])).numbers["cells"]
    pooled = estimate(cell["pooled"]["contextuality"])
    assert pooled.value < 0
    assert (pooled.low, pooled.high) == (-8, 2)
    assert cell_verdict(cell).endswith("Pooled over members, Delta is not shown to be above 0.")
    assert run_verdict({"cells": [cell]})[1].endswith("pooled over members Delta is not shown to be above 0.")
    cell["pooled"]["contextuality"] |= {"high": 0.0}  # at the limit
    assert cell_verdict(cell).endswith("Pooled over members, Delta is not above 0.")
    assert run_verdict({"cells": [cell]})[1].endswith("pooled over members Delta is not above 0.")


def test_runs_with_nothing_to_report(tmp_path):
    folder = RunFolder.create(tmp_path / "empty", [CONFIG])
    summary = write_report(ncsim.open_run(folder.path))
    assert "Not complete: 300 members are still to be trained" in printed(summary)
    assert "no network to report on" in printed(summary)
    lost = made_up(300, diverged=1.1)
    assert "every one of a context diverged" in printed(write_report(a_run(tmp_path / "lost", lost)))
    one = ncsim.EnsembleConfig(members=1)
    summary = summarise(Run([one], [made_up(1)]))
    assert "one member: no interval" in json.dumps(summary.numbers)
    assert "NaN" not in json.dumps(summary.numbers).replace('"decided_members_with_s_above_2": {"value": NaN', "")
    with pytest.raises(StoreError, match="in memory only"):
        write_report(Run([one], [made_up(1)]))


def test_one_member_is_one(tmp_path):
    """And where no network is left the page says how many members there are, and how a run ended that was to be precise."""
    one = ncsim.EnsembleConfig(members=1)
    folder = RunFolder.create(tmp_path / "one", [one])
    assert "Not complete: 1 member is still to be trained." in printed(write_report(ncsim.open_run(folder.path)))
    assert "Not complete: 1 member is still to be trained." in (folder.path / "report.html").read_text()
    folder.write_part(one, made_up(1))
    text = printed(write_report(ncsim.open_run(folder.path)))
    assert text.startswith("the ensemble: 1 member\n")
    assert "Diverged: 0 networks, in 0 of 1 member; diverged networks count nowhere below." in text
    assert "1 member in 1 cell. Brackets" in (folder.path / "report.html").read_text()
    run = a_run(tmp_path / "lost", made_up(300, diverged=1.1))
    summary = summarise(run)
    told = {"until": "mean S +- 0.1", "stopped": "members", "members": 300, "at_most": 300, "intervals": []}
    page = report_page(run, summary._replace(numbers=summary.numbers | {"until": told}))
    assert "300 members in 1 cell." in page
    assert "not enough for mean S +- 0.1. No network is there to compute it from." in page


def test_summary_json_is_json(tmp_path):
    """Where no member is without undecided answers, and where every member has a diverged context."""

    def refused(word):
        raise ValueError(f"{word} is no JSON")

    records = made_up(300, seed=2)
    none = np.zeros_like(records.undecided_alice)
    undecided = records._replace(undecided_alice=none + 16, undecided_bob=none, decided_product=none)
    diverged = lost_networks(records, np.arange(4) == np.arange(300)[:, None] % 4)
    for name, each in (("undecided", undecided), ("diverged", diverged)):
        write_report(a_run(tmp_path / name, each))
        numbers = json.loads((tmp_path / name / "summary.json").read_text(), parse_constant=refused)
        assert numbers["cells"][0]["members"] == 300
    assert numbers["cells"][0]["largest_contextuality_of_a_member"] is None
    assert json.loads(json_text({"a": [float("nan"), (1.5, float("-inf"))], "b": None, "c": True})) == {
        "a": [None, [1.5, None]], "b": None, "c": True,
    }  # fmt: skip


def test_a_report_while_a_part_is_stored_counts_it_nowhere_or_once(tmp_path, monkeypatch):
    records = made_up(300, seed=2)
    folder = RunFolder.create(tmp_path, [CONFIG])
    folder.write_part(CONFIG, records.take(slice(0, 100)))
    look = Run._cell

    def stored_meanwhile(self, cell=0):
        found = look(self, cell)
        folder.write_part(CONFIG, records.take(slice(100, 300)))
        return found

    monkeypatch.setattr(Run, "_cell", stored_meanwhile)
    numbers = summarise(ncsim.open_run(tmp_path)).numbers
    assert (numbers["cells"][0]["members"], numbers["members_missing"]) == (100, 200)


def test_a_part_that_is_stored_while_files_are_verified_is_no_stranger(tmp_path, monkeypatch):
    records = made_up(300, seed=2)
    folder = RunFolder.create(tmp_path, [CONFIG])
    folder.write_part(CONFIG, records.take(slice(0, 100)))
    part_names, stored = RunFolder.part_names, []

    def stored_meanwhile(self, config):
        found = part_names(self, config)
        if not stored:
            stored.append(folder.write_part(CONFIG, records.take(slice(100, 300))))
        return found

    monkeypatch.setattr(RunFolder, "part_names", stored_meanwhile)
    assert verify(tmp_path).findings == []


class _Law:
    """A law of S on a lattice."""

    def __init__(self, probabilities, step):
        self.probabilities = np.array(probabilities)
        self.values = step * (np.arange(len(probabilities)) - len(probabilities) // 2)
        self.mean = float(self.probabilities @ self.values)


def test_a_map_has_each_law_in_its_column_and_its_mean_there():
    """Two lattices, of tasks with other numbers of rows, one after the other: a picture for each, with nothing where the other has its own."""
    laws = [_Law([0.1, 0.2, 0.7], 1.0) if n % 2 else _Law([0.0, 0.2, 0.3, 0.4, 0.1], 0.5) for n in range(14)]
    axis = Figure().add_subplot()
    figures._draw_panel(axis, [SimpleNamespace(law=law) for law in laws], [], None, "")
    coarse, fine = sorted(axis.images, key=lambda image: image.get_array().shape)
    assert coarse.get_extent() == [-0.5, 13.5, -1.5, 1.5]
    assert fine.get_extent() == [-0.5, 13.5, -1.25, 1.25]
    for image, first, shades in ((coarse, 1, [1 / 7, 2 / 7, 1]), (fine, 0, [0, 0.5, 0.75, 1, 0.25])):
        drawn = np.asarray(image.get_array())
        np.testing.assert_allclose(drawn[:, first::2], np.repeat(np.transpose([shades]), 7, axis=1))
        assert not drawn[:, 1 - first :: 2].any()
        assert image.origin == "lower"
    (means,) = (line for line in axis.lines if line.get_label() == "its mean")
    assert list(means.get_xdata()) == list(range(14))
    np.testing.assert_allclose(means.get_ydata(), [0.6 if n % 2 else 0.2 for n in range(14)])


@pytest.mark.slow
def test_the_legend_of_a_map_names_its_shades(tmp_path, monkeypatch):
    """Of more cells than have places on an axis, laws are drawn as shades."""
    made = {}
    monkeypatch.setattr(figures, "save_figure", lambda figure, stem, *_: made.setdefault(stem.name, figure))
    for cells, law in ((12, "exact law of S"), (13, "exact law of S, strongest where S is most probable")):
        made.clear()
        configs = ncsim.config_grid(hidden=list(range(1, cells + 1)), members=40)
        folder = RunFolder.create(tmp_path / str(cells), configs)
        for config in configs:
            folder.write_part(config, made_up(40, seed=config.hidden))
        write_report(ncsim.open_run(tmp_path / str(cells)))
        legend = made["laws"].legends[0]
        keys = {text.get_text(): key for text, key in zip(legend.texts, legend.legend_handles, strict=True)}
        assert {law, "its mean"} <= set(keys)
        drawn = figures.BLUE if cells == 13 else figures.SKY
        assert to_hex(keys[law].get_facecolor()).lower() == drawn.lower()


def test_why_a_cell_has_no_report(tmp_path):
    """Of no member, of a context, and of common starts, which need a whole member; the page's card says it, too."""

    def without(diverged):
        whole, nothing = made_up(30, seed=2), {"diverged": diverged}
        for name in ("counts", "undecided_alice", "undecided_bob", "decided_product"):
            nothing[name] = getattr(whole, name).copy()
            nothing[name][diverged] = 0
        return whole._replace(**nothing)

    lost, apart = np.zeros((30, 4), bool), np.zeros((30, 4), bool)
    lost[:, 3] = lost[:7, 1] = True
    apart[::2, 0] = apart[1::2, 2] = True
    common = dataclasses.replace(CONFIG, members=30, common_initialization=True)
    for name, config, records, expected in (
        ("none", CONFIG, None, "none stored"),
        ("context", CONFIG, without(lost), "every one of a context diverged (22); 37 networks in 30 of 30 members"),
        (
            "common",
            common,
            without(apart),
            "with common starts every member has one that diverged; 30 networks in 30 of 30 members",
        ),
    ):
        folder = RunFolder.create(tmp_path / name, [dataclasses.replace(config, members=30)])
        if records is not None:
            folder.write_part(folder.configs[0], records)
        run = ncsim.open_run(folder.path)
        summary = summarise(run)
        assert summary.numbers["cells"][0]["note"] == f"no network to report on: {expected}"
        assert expected in report_page(run, summary) or name == "none"
    # Where starts are not common, runs of four members that have the contexts between them are left.
    folder = RunFolder.create(tmp_path / "apart", [dataclasses.replace(CONFIG, members=30)])
    folder.write_part(folder.configs[0], without(apart))
    assert "note" not in summarise(ncsim.open_run(folder.path)).numbers["cells"][0]


def test_probabilities_that_are_not_exact_say_how_near_they_are(tmp_path):
    cell = summarise(a_run(tmp_path, made_up(300, seed=2))).numbers["cells"][0]
    assert "of exact" not in " ".join(sentences(cell))
    best = cell["protocols"][-1]
    best["law_error"] = 2.01e-7
    assert sentences(cell)[-1] == f"Probabilities under {best['protocol']} are within 3e-07 of exact."


def test_small_ranges_are_not_said_to_be_nothing(tmp_path):
    summary = summarise(a_run(tmp_path, made_up(300, seed=2)))
    cell = summary.numbers["cells"][0]
    cell["undecided"] |= {
        "answers": 3e-6,
        "networks": 0.99998,
        "mean_s_whatever_they_are": [0.25, 0.75],
        "members_with_s_above_2_whatever_they_are": [2e-5, 0.99997],
    }
    text = " ".join(sentences(cell))
    assert "Undecided: 3e-04% of answers have a logit within the tolerance of 0, in 99.998% of networks" in text
    assert "mean S would be between 0.250 and 0.750, and S above 2 in between 2e-05 and 0.99997 of members" in text


@pytest.mark.parametrize("cells", [2, 6, 12])
def test_labels_of_cells_do_not_lie_on_one_another(tmp_path, monkeypatch, cells):
    """Words as long as those of an intervention or of an optimizer's options were printed over one another."""
    laws = [[law] * cells for law in summarise(a_run(tmp_path, made_up(300, seed=2))).laws[0]]
    dots = [[np.zeros(3)] * cells] * len(laws)
    made = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_: made.append(figure))
    monkeypatch.setattr(figures, "inline_svg", lambda figure, _: made.append(figure))
    for size, level in ((3, True), (27, False)):
        made.clear()
        labels = [f"{'mw' * size}"[:size] + f"\n{number}" for number in range(cells)]
        figures.plot_runs_and_laws(laws, dots, labels, "what", tmp_path / "laws")
        figures.plot_means(laws, labels, "what", tmp_path / "means")
        figures.inline_panels(laws, dots, labels, "what", range(cells))
        assert len(made) == 2 + len(laws)
        for figure in made:
            figure.canvas.draw()
            for axis in figure.axes:
                boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
                assert len(boxes) == cells
                assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))
                below = axis.xaxis.label.get_window_extent()
                assert min(box.y0 for box in boxes) >= below.y1
                assert below.y0 >= max([0, *(legend.get_window_extent().y1 for legend in figure.legends)])
            assert ("\n" in figure.axes[0].get_xticklabels()[0].get_text()) == level
        numbered = [axis.get_xlabel() == "cell, by its number" for figure in made[2:] for axis in figure.axes]
        assert set(numbered) == {not level}


@pytest.mark.parametrize("name", ["$\\frac$", "cost $5 and $6", "a$b"])
def test_names_of_users_are_no_formulas(tmp_path, monkeypatch, name):
    """Between two dollars matplotlib reads TeX, and ended a report with a traceback where it was none."""
    laws = [[law] * 2 for law in summarise(a_run(tmp_path / "run", made_up(300, seed=2))).laws[0]]
    dots = [[np.zeros(3)] * 2] * len(laws)
    labels = [f"{name}\n3", "other\n3"]
    figures.plot_means(laws, labels, "tasks", tmp_path / "means")
    svg = ElementTree.parse(tmp_path / "means.svg")
    texts = ["".join(element.itertext()) for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert any(name in text for text in texts)
    assert "mathdefault" not in (tmp_path / "means.svg").read_text()
    assert len(figures.inline_panels(laws, dots, labels, "tasks", range(2))) == len(laws)


@pytest.mark.parametrize("name", [" ", ""])
def test_a_name_of_blanks_is_drawn(tmp_path, name):
    """Its width was asked of an outline, and a blank has none: the report ended in a traceback."""
    laws = [[law] * 2 for law in summarise(a_run(tmp_path / "run", made_up(300, seed=2))).laws[0]]
    labels = [f"{name}\n3", "other\n3"]
    assert all(path.exists() for path in figures.plot_means(laws, labels, "tasks", tmp_path / "means"))
    assert figures.widest([name, "m"]) >= figures.widest(["m"]) > figures.widest([""]) == 0


def test_widths_of_labels_are_those_that_are_drawn():
    labels = ["optimistic_gradient_descent", "cost $5 and $6", "0.003", "i", "WWW"]
    with figures.new_figure(6, 4, None) as figure:
        figure.set_dpi(1000)  # where pixels are too small to tell
        texts = [figure.text(0, 0, figures.plain(label), size=9) for label in labels]
        drawn = [text.get_window_extent().width / figure.dpi for text in texts]
    assert [figures.widest([figures.plain(label)]) for label in labels] == pytest.approx(drawn, rel=0.02)
