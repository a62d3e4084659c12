"""Experiments about claims of other papers, run small, and their p-values against scipy's."""

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from experiments import concept_chsh, five_runs, quantum_circuits, separability, word_statistics
from experiments.text_demo import tiny_model
from ncsim.cli.words import words_of
from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble.separability import ForeignShare
from ncsim.errors import DataError
from ncsim.statistics.intervals import Estimate
from ncsim.tables import describe, read_table

pytestmark = pytest.mark.usefixtures("quickly")


def test_concepts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(concept_chsh, "installed_encoder", lambda: None)
    concept_chsh.main(["--out", str(tmp_path)])
    told = json.loads((tmp_path / "concept_chsh.json").read_text())
    found = {row["name"]: row for row in told["tables"]}
    assert told["encoder"] == []
    assert found["PR box"]["contextuality"] == 2
    people = found["81 people per context"]
    assert people["contextuality"] == pytest.approx(-3.358, abs=5e-4)
    low, high = people["limits"]
    page = (Path(__file__).resolve().parents[2] / "docs/seeds.md").read_text()
    assert page.count(f"-3.358 [{low:.3f}, {high:.3f}]") == 2
    assert found["ChatGPT, prompt 1"]["contextuality"] == pytest.approx(-3.256, abs=5e-4)
    assert found["ChatGPT, prompt 2"]["contextuality"] == pytest.approx(-3.232, abs=5e-4)
    said = capsys.readouterr().out
    assert "<= -3.2560" in said
    assert "No sentence encoder" in said
    assert (tmp_path / "concept_chsh.svg").exists()


@pytest.mark.slow
def test_an_encoder_is_asked_and_its_table_is_one_that_the_command_takes(tmp_path, capsys):
    concept_chsh.main(["--out", str(tmp_path), "--model", str(tiny_model(tmp_path / "model"))])
    told = json.loads((tmp_path / "concept_chsh.json").read_text())
    assert len(told["encoder"]) == 2 * len(concept_chsh.TEMPERATURES)
    assert max(row["contextuality"] for row in told["encoder"]) < 1e-9
    assert "Delta is at most 0" in capsys.readouterr().out
    for asked in ("sentences", "words"):
        written = describe(read_table(tmp_path / f"encoder_{asked}.csv"))
        (own,) = (r for r in told["encoder"] if (r["asked"], r["temperature"]) == (asked, concept_chsh.WRITTEN))
        assert written["contextuality"] == pytest.approx(own["contextuality"], abs=1e-12)
        assert written["s"] == pytest.approx(own["s"], abs=1e-12)


def test_an_encoders_answers_become_certain_and_stay_without_contextuality():
    """By hand: in the first context both answer +, in the three others Bob has -. E = 1, -1, -1, -1 has a largest sum of 4, and Bob's answer to his
    first task depends on Alice's: his mean there moves by 2."""
    nearest = np.zeros((2, 2, 2, 2))
    nearest[..., 0, 1] = 0.1
    nearest[0, 0] = [[0.1, 0], [0, 0]]
    cold = concept_chsh.choices({"made up": nearest})[-1]
    assert cold.odd == pytest.approx(4, abs=1e-9)
    assert cold.influence == pytest.approx(2, abs=1e-9)
    assert cold.contextuality == pytest.approx(0, abs=1e-9)
    assert concept_chsh.encoder(None, Path("nowhere")) == []


def test_p_values_of_five_runs_are_scipy_s():
    generator = np.random.default_rng(1)
    differences = generator.normal(size=(40, 5))
    expected = [wilcoxon(each, alternative="greater", method="exact").pvalue for each in differences]
    np.testing.assert_allclose(five_runs.signed_rank_p_values(differences), expected)
    assert five_runs.signed_rank_p_values(np.ones((1, 5)))[0] == 1 / 32
    # Two ties leave three runs: 1/8 is the least.
    assert five_runs.signed_rank_p_values(np.array([[0.0, 1, 2, 0, 3]]))[0] == 1 / 8
    assert five_runs.signed_rank_p_values(np.zeros((1, 5)))[0] == 1


def test_choice_makes_small_p_values_common():
    values = np.random.default_rng(2).normal(size=5_000)
    found = [five_runs.best_of(values, 5, variants, 1_000, np.random.default_rng(3)).value for variants in (1, 20)]
    assert found[0] == pytest.approx(1 / 32, abs=0.02)
    assert 0.15 < found[1] < 1 - (31 / 32) ** 20


@pytest.mark.thorough
def test_small_runs_of_both(tmp_path, capsys):
    five_runs.main(["--members", "200", "--comparisons", "100", "--out", str(tmp_path)])
    assert len(json.loads((tmp_path / "five_runs.json").read_text())) == 20
    word_statistics.main(["--networks", "300", "--splits", "2", "--out", str(tmp_path)])
    assert "subjects without any meaning" in capsys.readouterr().out
    found = json.loads((tmp_path / "word_statistics.json").read_text())
    assert len(found) == 7


def refused(capsys, *arguments):
    """The one line that `word_statistics` ends with."""
    with pytest.raises(SystemExit) as caught:
        word_statistics.main([*arguments])
    told = capsys.readouterr()
    assert (caught.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    return told.err


@pytest.mark.parametrize("seed", ["-1", "18446744073709551616"])
def test_seeds_that_word_statistics_refuses(seed, tmp_path, capsys):
    said = refused(capsys, "--seed", seed, "--out", str(tmp_path / "out"))
    assert f"--seed: {seed}; allowed: a whole number from 0 to 18446744073709551615" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [("", "words: there are none; allowed: one or more"), ("two words", "words: 2, of 2 kinds; allowed: ")],
)
def test_texts_that_word_statistics_refuses_before_it_trains(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(word_statistics, "truth_tables", lambda *_: pytest.fail("trained"))
    text = tmp_path / "text.txt"
    text.write_text(words)
    assert f"{text}: {said}" in refused(capsys, "--text", str(text), "--out", str(tmp_path / "out"))


def test_networks_of_any_seed_are_its_own():
    """jax.random.key takes the largest seed for an error, and 2^32 + 5 for 5."""
    seeds = (5, 2**32 + 5, 2**64 - 1)
    assert len({tuple(word_statistics.truth_tables(40, 0, seed)) for seed in seeds}) == 3


def test_gains_of_words_are_inside_the_picture(tmp_path, monkeypatch):
    """A law may be ahead by more than 1 nat per word, or behind."""
    limits = []
    monkeypatch.setattr(word_statistics, "save_figure", lambda figure, *_: limits.append(figure.axes[0].get_xlim()))
    splits, flat = np.array([-0.1, 0.0, 0.1]), np.zeros(3)
    for gain in (0.1, 2.0, -3.0):
        scores = word_statistics.HeldOut(splits + gain, flat, flat)
        word_statistics.draw([word_statistics.Subject("one", False, np.array([2, 1]), scores)], tmp_path)
    assert limits[0][1] == 1  # as in the figure of the page
    assert limits[1][1] > 2.2
    assert limits[2][0] < -3.2


def test_intervals_of_word_statistics_are_two_spreads_everywhere(tmp_path, capsys, monkeypatch):
    """Gains of 1.9 and 2.1 spreads: the table's +- holds 0 where the verdict tells no win, and the figure's bar is the same."""
    splits = np.array([-1.0, 0.0, 1.0])  # whose spread is 1
    flat = np.zeros(3)

    def subject(name, meaning, gain):
        return word_statistics.Subject(
            name, meaning, np.array([3, 2, 1]), word_statistics.HeldOut(splits + gain, flat, flat)
        )

    found = [subject("short", False, 1.9), subject("far", False, 2.1), subject("text", True, 1.9)]
    bars = []
    monkeypatch.setattr(word_statistics, "subjects", lambda *_: found)
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda *_, xerr, **__: bars.append(xerr))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    word_statistics.main(["--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "+1.9000 +- 2.0000" in said
    assert "+2.1000 +- 2.0000" in said
    assert "in 1 of 2 subjects without any meaning: far. It beats Zipf-Mandelbrot so in 0 of 1 texts" in said
    assert "two spreads" in " ".join(word_statistics.__doc__.split())
    np.testing.assert_allclose(bars, 2.0)


def test_the_file_beside_a_picture_has_the_intervals_that_are_drawn(tmp_path):
    """Of words: gains and two spreads over splits. Of tables of judgements: limits of Delta; of an encoder: the largest sum."""
    splits, flat = np.array([-1.0, 0.0, 1.0]), np.zeros(3)
    scores = word_statistics.HeldOut(splits + 0.5, flat, splits)
    word_statistics.draw([word_statistics.Subject("one", False, np.array([2, 1]), scores)], tmp_path)
    with open(tmp_path / "word_statistics.csv", newline="") as handle:
        (line,) = csv.DictReader(handle)
    told = [line[f"{name}_over_{law}"] for law in ("mb", "zm") for name in ("gain", "two_spreads")]
    assert list(map(float, told)) == [0.5, 2.0, 0.5, 0.0]
    (people,) = (row for row in concept_chsh.rows() if row.name == "81 people per context")
    chosen = concept_chsh.choices({"made up": np.full((2, 2, 2, 2), 0.1)})
    concept_chsh.draw([people], chosen, tmp_path)
    with open(tmp_path / "concept_chsh.csv", newline="") as handle:
        first, *others = csv.DictReader(handle)
    assert (float(first["low"]), float(first["high"])) == tuple(people.limits)
    assert [float(line["largest_sum"]) for line in others] == [each.odd for each in chosen]


def test_words_are_the_same_in_quotation_marks_and_in_any_form_of_unicode(tmp_path):
    """Quoted, with a printed apostrophe, and with accents as marks of their own."""
    text = tmp_path / "text.txt"
    text.write_text("'Don't go,' he said. \u2018Don\u2019t go\u2019: \u00e9lan, e\u0301lan 4 x_y", encoding="utf-8")
    once = ["don't", "go"]
    assert words_of(str(text)) == [*once, "he", "said", *once, "\u00e9lan", "\u00e9lan", "x", "y"]


def test_of_a_file_that_is_too_large_no_more_is_read_than_is_allowed(tmp_path, monkeypatch):
    """It was read whole before its size was looked at."""
    monkeypatch.setattr("ncsim.cli.words.MAX_BYTES", 1_000)
    text = tmp_path / "text.txt"
    text.write_bytes(b"a" * 1_000)
    assert words_of(str(text)) == ["a" * 1_000]
    with open(text, "wb") as handle:
        handle.truncate(10**8)  # takes no space
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"text.txt: more than 1,000 bytes; allowed: that many$"):
            words_of(str(text))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("apostrophe", ["\u2019", "\u02bc", "\uff07"])
def test_an_apostrophe_is_no_letter_whichever_it_is(tmp_path, apostrophe):
    """U+02BC is a letter to Unicode: a quoted word was another word than the same without quotation marks."""
    text = tmp_path / "text.txt"
    text.write_text(f"{apostrophe}Don{apostrophe}t go{apostrophe} go don't", encoding="utf-8")
    assert words_of(str(text)) == ["don't", "go", "go", "don't"]


def test_marks_without_a_composed_letter_do_not_cut_words(tmp_path):
    """Vowels of Hindi, points of Hebrew, accents that Unicode has no letter with, and what Python makes of the Turkish I."""
    words = [
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
        "x\u0301y'x\u0301",
        "\u0130zmir",
    ]
    text = tmp_path / "text.txt"
    text.write_text(" ".join([*words, "4\u0301z", "\u0301q"]), encoding="utf-8")
    found = words_of(str(text))
    assert found[0] == words[0]
    assert len(found) == len(words) + 2
    assert found[2:] == [words[2], "i\u0307zmir", "z", "q"]


def test_words_of_the_command_have_the_same_interval(tmp_path, capsys):
    from ncsim.cli.command import main

    text = tmp_path / "text.txt"
    text.write_text("the cat saw the dog and the dog saw the cat and the bird " * 20)
    main(["words", str(text), "--splits", "3", "--json"])
    mean, spread = json.loads(capsys.readouterr().out)["bose_einstein_less_zipf_mandelbrot"]
    main(["words", str(text), "--splits", "3"])
    said = capsys.readouterr().out
    assert f"zipf-mandelbrot: {mean:+.4f} +- {2 * spread:.4f} (two spreads over splits)" in said


@pytest.mark.thorough
def test_small_run_of_circuits(tmp_path, capsys):
    quantum_circuits.main(["--members", "20", "--steps", "3", "--widths", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "quantum_circuits.json").read_text())
    assert [row["kind"] for row in found["ensembles"]] == ["network", "circuit, angles", "circuit, amplitudes"]
    assert {row["parameters"] for row in found["ensembles"]} == {9}
    assert len(found["verdicts"]) == 3
    assert found["verdicts"][-1] in capsys.readouterr().out
    lines = (tmp_path / "quantum_circuits.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * (4 + 5 + 1)


def test_circuits_stand_at_their_parameters_whatever_the_order_of_widths(tmp_path, monkeypatch):
    """Widths given as 4 1 2: Delta is drawn at 9, 16 and 30 parameters, as the ticks have it."""
    drawn = []
    monkeypatch.setattr(quantum_circuits, "points", lambda axis, at, estimates, **_: drawn.append((at, estimates)))
    monkeypatch.setattr(quantum_circuits, "save_figure", lambda figure, *_: figure.canvas.draw())
    some = Estimate(0.5, 0.4, 0.6, "")
    rows = [
        quantum_circuits.Row(kind, width, 7 * width + 2, 0, (some,) * 4, ("single shot",), (some,), at, some, 0.0)
        for kind in quantum_circuits.KINDS
        for width in (4, 1, 2)
        for at in [Estimate(-width, -width - 0.1, -width + 0.1, "")]
    ]
    quantum_circuits.draw(rows, tmp_path)
    for at, estimates in drawn[2::3]:
        assert [estimates[n].value for n in np.argsort(at)] == [-1, -2, -4]


def test_circuits_and_networks_differ_where_intervals_do_not_meet():
    low, high, wide = (Estimate(v, v - r, v + r, "") for v, r in ((0.1, 0.05), (0.3, 0.05), (0.2, 0.2)))
    assert quantum_circuits.compared(low, high) == "lower"
    assert quantum_circuits.compared(high, low) == "higher"
    assert quantum_circuits.compared(wide, low) == "not told apart"


def test_typed_noise_is_words_of_five_letters():
    words = word_statistics.typed_noise(3_000, 1)
    assert set("".join(words)) == set("abcde")
    assert 300 < len(words) < 600


@pytest.mark.thorough
def test_small_run_of_separability(tmp_path, capsys, monkeypatch):
    """Of a shared layer, and of one that is not trained; each kind has three programs of its own."""
    kinds = ("none", "frozen_trunk")
    monkeypatch.setattr(separability, "KINDS", {kind: separability.KINDS[kind] for kind in kinds})
    separability.main(["--members", "6", "--steps", "5", "--hidden", "1", "--ensemble", "40", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "separability.json").read_text())
    assert len(found["informations"]) == 2 * 4
    assert len(found["rows"]) == 2 * 4
    assert len(found["curvature"]) == 2 * len(separability.RIDGES)
    assert found["conclusion"][0] == "What must be exactly 0 is so of every member."
    assert found["conclusion"][-1] in capsys.readouterr().out
    assert (tmp_path / "separability.svg").exists()


def made_up(foreign):
    """Two members with these squared responses to the other's start [step, party] at steps 0, 1 and 9 in context 11, and a kernel that
    is not 0."""
    config = EnsembleConfig(hidden=1, members=2, precision="float64")
    response = np.zeros((2, 1, 3, 2, 2))
    response[..., 0, 1], response[..., 1, 0] = np.asarray(foreign, float).T[:, None, None]
    share, vector = np.full((2, 1, 3, 2), np.nan), np.ones((2, 1, 3, 9))
    return ForeignShare(np.arange(2), ("11",), np.array([0, 1, 9]), share, response, vector, config)


def test_a_broken_promise_is_told():
    kept = made_up([[0, 0], [0, 0], [0, 0.5]])
    assert separability.broken_promises("none", kept) == []
    assert separability.broken_promises("stop_gradient_bob", kept) == []
    said = separability.broken_promises("frozen_trunk", kept)
    assert said[0] == "frozen_trunk: party 1 has something of the other's start, up to 0.5"
    assert said[1:] == ["frozen_trunk: the kernel across heads is not 0"]
    assert separability.broken_promises("separate_trunks", kept)[0].startswith("separate_trunks: party 1 has")
    early = made_up([[0, 0], [1e-9, 0], [0, 0]])
    assert separability.broken_promises("none", early) == [
        "none: something of the other's start by step 1, up to 1e-09"
    ]


def test_mutual_information_over_members_is_told_against_chance():
    rows = [
        separability.Information("none", "11", 0.2, 0.0, 0.01),
        separability.Information("none", "12", 0.02, 0.0, 0.01),
        separability.Information("separate_trunks", "11", 0.01, 0.0, 0.01),
    ]
    assert separability.ensembles_say(rows) == (
        "Ensembles: a unit's two output weights share shared layer 0.020 to 0.200 nats, above chance in 1 of 2; "
        "a layer per head 0.010 to 0.010 nats, above chance in 0 of 1."
    )


def test_scale_of_entropies_and_moments():
    assert 1.2 < separability.gaussian_entropy(2_000).value < 1.3
    assert separability.moments(3_000) == [0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000]
    assert separability.moments(2) == [0, 1, 2]
