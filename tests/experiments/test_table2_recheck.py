"""The recheck of the paper's Table 2 against an independent recomputation from the printed numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import reference_statistics as reference

SCRIPT = Path(__file__).parents[2] / "experiments" / "table2_recheck.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("table2_recheck", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_closed_forms_agree_with_the_reference(experiment):
    table = experiment.configurations()
    assert len(table) == 12
    for row in table:
        moments = ({place: float(m[place]) for place in np.ndindex(2, 2)} for m in (row.a, row.b, row.c))
        expected, found = reference.statistics_of_moments(*moments), experiment.recheck(row)
        for name in ("s", "s_factorised", "influence", "contextuality"):
            assert getattr(found, name) == pytest.approx(expected[name], abs=1e-10), (row.name, name)
        assert found.contextuality < 0, row.name
        assert found.interval.low < found.contextuality < found.interval.high, row.name
        assert "contextual beyond" not in found.verdict


def test_numbers_of_mixed_r2(experiment):
    found = next(r for r in map(experiment.recheck, experiment.configurations()) if r.name == "mixed r=2")
    # By hand from the printed row.
    assert found.s == pytest.approx(0.9976 + 0.8670 + 0.9299 - 0.6038, abs=1e-12)
    assert found.influence == pytest.approx(2 * (0.0046 + 0.0338 + 0.0030 + 0.0931), abs=1e-12)
    assert found.contextuality == pytest.approx(2.1907 - 2 - 0.2690, abs=1e-12)
    assert found.game_p == pytest.approx(1.6e-15, rel=0.25)
    assert max(abs(test.statistic) for test in found.signalling if np.isfinite(test.statistic)) == pytest.approx(
        15.0, abs=0.05
    )


def test_game_p_values_at_5000_items(experiment):
    found = {row.name: float(experiment.recheck(row).game_p) for row in experiment.configurations()}
    for name, p_value in (("mixed r=4", 1.2e-5), ("mixed r=8", 0.49), ("mixed r=16", 0.21), ("mixed r=32", 0.20)):
        # Which whole number of wins the rounded moments stand for moves these by up to 5 %.
        assert found[name] == pytest.approx(p_value, rel=0.05), name


@pytest.mark.parametrize("items", [100, 5_000])
def test_counts_keep_every_item_and_the_moments(experiment, items):
    for row in experiment.configurations():
        counts = row.counts(items)
        np.testing.assert_array_equal(counts.sum(axis=(2, 3)), items)
        c = counts[..., 0, 0] + counts[..., 1, 1] - counts[..., 0, 1] - counts[..., 1, 0]
        # Whole items, and the one cell that the printed moments make negative.
        np.testing.assert_allclose(c / items, row.c, atol=4 / items + 0.0022)


def test_slips_are_found_and_only_those(experiment):
    slips = experiment.printed_slips(experiment.configurations())
    assert len(slips) == 3
    assert [slip.split(":")[0] for slip in slips] == ["multilingual r=8", "multilingual r=32", "multilingual r=32 A1B2"]


def test_nothing_is_explained_where_nothing_is_rejected(experiment):
    """One item per context rejects nothing: no sentence on what explains it, and one item is one."""
    table = experiment.configurations()
    words = experiment.conclusion(table, [experiment.recheck(row, 1) for row in table], 1)
    assert "With 1 independent item per context" in words
    assert "in 0: none." in words
    assert "of these" not in words
    words = experiment.conclusion(table, [experiment.recheck(row) for row in table], 5_000)
    assert "With 5,000 independent items per context" in words
    assert "In 2 of these 2 some accuracy differs" in words


def test_the_experiment_prints_and_writes(experiment, tmp_path, capsys):
    experiment.main(["--items", "5000", "--json", str(tmp_path / "recheck.json")])
    printed = capsys.readouterr().out
    assert "explained by direct influence" in printed
    assert "one may say contextual, in: none" in printed
    rows = json.loads((tmp_path / "recheck.json").read_text())["rows"]
    assert [row["name"] for row in rows[:2]] == ["mixed r=1", "mixed r=2"]
    for items in ("0", "1000000000000001", "100000000000000000", "20000000000000000000"):
        with pytest.raises(SystemExit) as caught:
            experiment.main(["--items", items])
        said = capsys.readouterr()
        assert (caught.value.code, said.out) == (2, "")
        assert (
            said.err == f"ncsim: error: --items: {items}; allowed: 1 to 1000000000000000, which floats count exactly\n"
        )
    assert (experiment.configurations()[0].counts(10**15).sum(axis=(2, 3)) == 10**15).all()
