"""Table 4 from the built models, without weights."""

import json

import pytest

from experiments import table4


def test_every_count_but_one_rows_is_the_papers():
    paper = table4.printed()
    assert len(paper) == 12
    off = [
        row.name
        for row in paper
        if (ours := table4.counted(row.suite, row.rank)).total != row.total or ours.trainable != row.trainable
    ]
    assert off == ["multilingual r=32"]
    assert table4.slips(paper) == [
        "multilingual r=32: trainable printed 1,183,492, counted 1,182,724 (+768)",
        "multilingual r=32: total printed 179,036,932, counted 179,036,164 (+768)",
        "mixed r=32: ratio printed 1.070 %, its own row gives 1.069 %",
    ]


def test_trainable_is_linear_in_the_rank_up_to_512():
    for suite, base in (("multilingual", 177_853_440), ("mixed", 109_482_240)):
        for rank in (64, 512):
            found = table4.counted(suite, rank)
            assert found.trainable == 36_864 * rank + 3_076
            assert found.total == base + found.trainable


def test_the_experiment_prints_and_writes(tmp_path, capsys):
    table4.main(["--ranks", "1", "512", "--json", str(tmp_path / "table4.json")])
    printed = capsys.readouterr().out
    assert "mixed r=1           109,522,180      39,940    0.036   the same" in printed
    assert "mixed r=512         128,359,684  18,877,444   14.707   not in the table" in printed
    rows = json.loads((tmp_path / "table4.json").read_text())["rows"]
    assert [(row["suite"], row["rank"]) for row in rows] == [
        (suite, rank) for suite in ("multilingual", "mixed") for rank in (1, 512)
    ]
    with pytest.raises(SystemExit):
        table4.main(["--ranks", "769"])
    assert "--ranks: 769; allowed: whole numbers from 1 to the backbone's width, 768" in capsys.readouterr().err
