"""The two experiments about arXiv:2601.06788: what they compute from numbers whose answer is known, and both from one small set of runs."""

import csv
import json

import numpy as np
import pytest

from experiments import artificial_entanglement, no_hair
from experiments.no_hair import Adapted, Growth, Ratio, conclusion, random_like, ratio
from experiments.shared import adaptation_runs
from experiments.shared.adaptation_runs import t_interval
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import Estimate
from ncsim.text.entanglement import Null, Profile
from ncsim.text.profiles import AdapterProfile
from ncsim.text.records import AdapterId

pytestmark = pytest.mark.usefixtures("quickly")


def test_intervals_by_students_t():
    found = t_interval([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.302652729911275 / np.sqrt(3))  # t of 0.975 with two degrees, from tables
    assert t_interval([5.0]).high == np.inf


@pytest.mark.parametrize("effect", [0.0, 2.0])
def test_the_ratio_and_its_interval(effect):
    """Normal numbers of a known ratio: between adaptations effect^2 + 1 / seeds, between seeds 1."""
    random = np.random.default_rng(0)
    truth = np.sqrt(effect**2 + 1 / 2)
    held, small = 0, 0
    for _ in range(400):
        values = random.normal(0, effect, (4, 1, 3)) + random.normal(size=(4, 2, 3))
        found = ratio(values)
        held += found.r.low <= truth <= found.r.high
        small += found.p < 0.05
    assert 0.91 < held / 400 < 0.98
    assert (0.02 < small / 400 < 0.09) if effect == 0 else small > 360


def test_accuracy_is_that_of_the_statistics():
    counts = np.random.default_rng(1).multinomial(50, [0.25] * 4, (2, 3, 2, 2)).reshape(2, 3, 2, 2, 2, 2)
    statistics = chsh_statistics(counts)
    wanted = (statistics.accuracy_alice + statistics.accuracy_bob) / 2
    np.testing.assert_allclose(no_hair._accuracy(counts), np.reshape(wanted, (2, 3, 4)))


def test_random_updates_have_the_norm_and_the_rank_of_the_trained():
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 12, 5)), random.normal(size=(2, 5, 8))
    a[..., 3:] = b[:, 3:] = 0
    a[1] *= 7
    dense = random.normal(size=(2, 12, 12))
    lora = {"layers": {"attention": {"query": {"a": a, "b": b}, "value": {"dense": dense}}}}
    drawn = random_like(lora, rank=3, seed=0)["layers"]["attention"]
    update = drawn["query"]["a"].astype(float) @ drawn["query"]["b"]
    np.testing.assert_allclose(np.linalg.norm(update, axis=(1, 2)), np.linalg.norm(a @ b, axis=(1, 2)), rtol=1e-5)
    assert np.linalg.matrix_rank(update, tol=1e-4).tolist() == [3, 3]
    assert abs((update * (a @ b)).sum()) < 0.5 * np.linalg.norm(update) * np.linalg.norm(a @ b), "and nothing else"
    norms = np.linalg.norm(drawn["value"]["dense"], axis=(1, 2))
    np.testing.assert_allclose(norms, np.linalg.norm(dense, axis=(1, 2)), rtol=1e-5)


def test_a_valley_and_its_nulls_are_the_same_mean():
    """Two adapters that are highest at different cuts, and a null that is exactly each of them."""
    entropy = np.log([[[1, 3, 1, 2, 1]], [[1, 2, 1, 4, 1]]])  # [adapter, layer, cut]
    dimension = np.array([1, 2, 4, 8, 16])
    law = np.zeros(5)
    own = [
        AdapterProfile(
            AdapterId(4, seed, 0), "query", Profile(dimension, each, 4, 4), Null(each, np.zeros((1, 5))), law + 9, law
        )
        for seed, each in enumerate(entropy)
    ]
    along = [{"epoch": 0, "entropy": [np.nan] * 5, "dimension": dimension.tolist(), "inputs": 4}]
    found = artificial_entanglement._found("LoRA, r = 4", "query", 4, own, along)
    assert found.row.valley.value == pytest.approx(np.log([3, 4]).mean())
    assert found.row.null_valley == pytest.approx(found.row.valley.value), "and not that of the mean, ln(sqrt(8))"
    np.testing.assert_allclose(found.null, found.entropy)


def test_the_file_beside_the_picture_has_its_last_panel(tmp_path):
    """Effective ranks along training are drawn, too."""
    five = np.linspace(0.0, 1.0, 5)
    row = artificial_entanglement.Row("full", "query", *[None] * (len(artificial_entanglement.Row._fields) - 2))
    found = artificial_entanglement.Found(
        row, 2 ** np.arange(5), five, five, five, five, five, [0, 2, 4], [1.0, 1.5, 3.0], []
    )
    artificial_entanglement.draw([found], tmp_path)
    with open(tmp_path / "artificial_entanglement.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))
    along = [(line["adaptation"], line["target"], line["epoch"], line["effective_rank"]) for line in lines[5:]]
    assert along == [("full", "query", epoch, rank) for epoch, rank in (("0", "1.0"), ("2", "1.5"), ("4", "3.0"))]
    assert [float(line["entropy"]) for line in lines[:5]] == five.tolist()


def growths(change):
    exact = Estimate(1.0, 1.0, 1.0, "exact")
    laws = ("rows shuffled", "Gaussian logits", "causal uniform", "uniform", "itself alone")
    plain = Growth("not adapted", [1.0], Estimate(0.3, 0.2, 0.4, ""), exact)
    return [plain, Growth("full", [1.0], exact, change), *(Growth(name, [1.0], exact) for name in laws)]


def test_words_follow_from_numbers():
    rows = [Adapted("full", n % 2, n // 2, 1.0, 0.5 + 0.01 * n, 2.0, 0.401, 1.0) for n in range(8)]
    low, high = Ratio(Estimate(0.5, 0.3, 0.9, "F"), 0.4), Ratio(Estimate(3.0, 2.0, 4.0, "F"), 1e-4)
    zero, more = Estimate(0.0, -0.1, 0.1, ""), Estimate(0.2, 0.1, 0.3, "")
    words = " ".join(conclusion(rows, 0.4, {"all": {"attention": low, "update": high}}, growths(zero)))
    for said in ("So it is not size alone", "below that of S(D)", "is not shown to differ", "1 of 1 hold 0"):
        assert said in words
    words = " ".join(conclusion(rows, 0.4, {"all": {"attention": high, "update": low}}, growths(more)))
    for said in ("not shown to be below", "S_c differs between", "0 of 1 hold 0"):
        assert said in words
    alike = [row._replace(attention=0.4 + (-1) ** n * 0.001, accuracy=0.9) for n, row in enumerate(rows)]
    words = " ".join(conclusion(alike, 0.4, {}, growths(more)))
    assert "Learning and size are not told apart" in words
    assert "not equal everywhere" in words


def test_the_file_beside_the_picture_of_no_hair_has_intervals(tmp_path):
    """R is drawn with its interval, and the model as it was as a line."""
    rows = [Adapted("full", n % 2, n // 2, 1.0, 0.5 + 0.01 * n, 2.0, 0.401, 1.0) for n in range(8)]
    low, high = Ratio(Estimate(0.5, 0.3, 0.9, "F"), 0.4), Ratio(Estimate(3.0, 2.0, 4.0, "F"), 1e-4)
    along = growths(Estimate(0.0, -0.1, 0.1, ""))
    no_hair.draw(rows, 0.4, {"all": {"attention": low, "update": high}}, [8], along, tmp_path)
    with open(tmp_path / "no_hair.csv", newline="") as handle:
        lines = [tuple(line.values()) for line in csv.DictReader(handle)]
    assert ("all", "R of S_c", "", "0.5", "0.3", "0.9") in lines
    assert ("all", "R of S(D)", "", "3.0", "2.0", "4.0") in lines
    assert ("the model as it was", "S_c", "", "0.4", "", "") in lines


def test_an_entropy_is_not_below_0():
    """Of 0.1 and 0.3 Student's t with one degree of freedom reaches 12.7 x 0.1 to either side; what may be negative keeps that."""
    free, bound = (adaptation_runs.t_interval([0.1, 0.3], *least) for least in ((), (0.0,)))
    assert free[:3] == pytest.approx((0.2, 0.2 - 1.27062, 0.2 + 1.27062), abs=1e-5)
    assert bound[:3] == pytest.approx((0.2, 0.0, free.high))
    assert adaptation_runs.t_interval([1.0, 1.0], 1.0)[:3] == (1.0, 1.0, 1.0)
    rows = [Adapted("full", n, 0, 1.0, (0.1, 0.3)[n], (0.1, 0.3)[n], (0.1, 0.3)[n], (0.1, 0.3)[n]) for n in range(2)]
    (line,) = (
        line
        for line in no_hair.printed(rows, [8], growths(None))
        if line.startswith("full  ") and "[" in line and "1.471" in line
    )
    assert line.count("[0.000, 1.471]") == 4


class FourTexts:
    """A model of 2 layers and 3 heads whose attention differs from text to text."""

    def lengths(self):
        return [8, 16, 32]

    def long_texts(self, tokens):
        return (tokens,)

    def matrices(self, adapter, scale, batch):
        logits = np.random.default_rng(5).normal(size=(4, 2, 3, 32, 32))[..., : batch[0], : batch[0]]
        weights = np.exp(np.arange(1, 5)[:, None, None, None, None] / 2 * logits)
        return weights / weights.sum(axis=-1, keepdims=True)


def test_only_what_no_text_enters_is_exact():
    """Gaussian logits have the spreads of four texts: their slope has an interval over texts, and the law at each length is the texts' mean."""
    from ncsim.text.attention_entropies import random_attention_law

    model = FourTexts()
    lengths, along = no_hair.growths(model, {})
    by = {growth.name: growth for growth in along}
    assert [name for name, each in by.items() if each.slope.method == no_hair.EXACT] == [
        "causal uniform", "uniform", "itself alone",
    ]  # fmt: skip
    slopes = []
    for text in range(4):
        spreads = [np.log(model.matrices(None, 1, (t,))[text]).std(axis=-1).mean(axis=-1).ravel() for t in lengths]
        law = [np.mean([random_attention_law(t, s) for s in each]) for t, each in zip(lengths, spreads, strict=True)]
        slopes.append(np.polyfit(np.log(lengths), law, 1)[0])
    gaussian, wanted = by["Gaussian logits"].slope, adaptation_runs.t_interval(slopes)
    np.testing.assert_allclose(gaussian[:3], wanted[:3], rtol=1e-9)
    assert gaussian.low < gaussian.value < gaussian.high
    rows = [Adapted("full", n % 2, n // 2, 1.0, 0.5, 2.0, 0.4, 1.0) for n in range(8)]
    said = no_hair.printed(rows, lengths, along)
    assert next(line for line in said if line.startswith("itself alone")).split()[-1] == "1.000"
    assert str(gaussian) in next(line for line in said if line.startswith("Gaussian logits"))


def test_one_adaptation_alone_has_no_ratio(tmp_path):
    """That is said, and no empty panel is drawn (matplotlib would warn, too)."""
    rows = [Adapted("full", n % 2, n // 2, 1.0, 0.5 + 0.01 * n, 2.0, 0.401, 1.0) for n in range(8)]
    along = growths(Estimate(0.0, -0.1, 0.1, ""))
    assert any("nothing is said of one adaptation alone" in line for line in conclusion(rows, 0.4, {}, along))
    no_hair.draw(rows, 0.4, {}, [8], along, tmp_path)


@pytest.mark.thorough
def test_both_from_one_small_set_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.shared.text_runs.SMALL_MODEL", "no_such_package")
    monkeypatch.delenv("NCSIM_DATA", raising=False)
    options = ["--arms", "lora", "full", "--ranks", "1", "--epochs", "4", "--items", "4"]
    options += [
        "--runs",
        str(tmp_path / "runs"),
        "--cache-dir",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "out"),
    ]
    artificial_entanglement.main(options)
    printed = capsys.readouterr()
    assert "What must be so is so of every update." in printed.out
    assert "training 8 adapters (full)" in printed.err
    told = json.loads((tmp_path / "out" / "artificial_entanglement.json").read_text())
    (one, *_) = (row for row in told["rows"] if row["adaptation"] == "LoRA, r = 1")
    assert [one["effective_rank"][name] for name in ("value", "low", "high")] == [1.0, 1.0, 1.0]
    no_hair.main(options)
    printed = capsys.readouterr()
    assert "training" not in printed.err, "what is stored is not trained again"
    for said in ("Learning or size", "No hair, all adaptations", "Growth: S_c has slope"):
        assert said in printed.out
    for name in ("artificial_entanglement", "no_hair"):
        for ending in ("png", "svg", "pdf", "csv"):
            assert (tmp_path / "out" / f"{name}.{ending}").stat().st_size > 500
    told = json.loads((tmp_path / "out" / "no_hair.json").read_text())
    assert len(told["rows"]) == 16
    assert told["tokens"] == [8, 16, 32]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "1"], "--seeds: 1; allowed: 2 or more"),
        (["--ranks", "2", "2"], "--ranks: 2 2; allowed: each rank once"),
        (["--epochs", "1"], "--epochs: 1; allowed: 4 or more"),
        (["--draws", "1"], "--draws: 1; allowed: 2 or more"),
    ],
)
def test_wrong_options(tmp_path, options, said, capsys):
    with pytest.raises(SystemExit):
        artificial_entanglement.main([*options, "--runs", str(tmp_path), "--out", str(tmp_path)])
    assert said in capsys.readouterr().err


def test_arms_have_names():
    class Run:
        def __init__(self, **fields):
            self.config = adaptation_runs.TextConfig(**fields)

    assert adaptation_runs.arm_name(Run(), 4) == "LoRA, r = 4"
    assert adaptation_runs.arm_name(Run(adaptation="full"), 0) == "full"
    assert adaptation_runs.arm_name(Run(adaptation="mps", bond=4), 2) == "two tensors, r = 2, bond 4"
