"""The picture as an event, protocols that are no choice among finished networks, and networks of other kinds: each against a slow reference."""

import csv
import functools
import itertools
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import figure2_comparison
from experiments.shared import more_protocols
from experiments.shared.more_protocols import WHOLE_RUNS, first_below, first_plateau, laws_of, rungs_of, stopped
from experiments.shared.other_networks import Variant, logits_of, train_variant
from experiments.shared.picture import PICTURES, RUNS, STATED, SLaw, log_likelihood
from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble.run import run_ensemble
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import _best_of
from tests.statistics.test_protocols import made_up

pytestmark = pytest.mark.usefixtures("quickly")


def law_at(**points):
    """S as text, with underscores for points: its probability."""
    law = LatticeLaw(16, np.zeros(65))
    for s, probability in points.items():
        law.probabilities[int(np.flatnonzero(law.values == float(s[1:].replace("_", ".")))[0])] = probability
    return law


def test_closed_forms_of_the_picture():
    def of(picture, width, law):
        return np.exp(picture.log_probability(width, picture.shares(width, law)))

    assert of(STATED, 2, law_at(s1=1)) == pytest.approx(1)
    assert of(STATED, 2, law_at(s1_5=1)) == 0  # 1.5 is not below 1.5
    assert of(PICTURES[2], 2, law_at(s1_5=1)) == pytest.approx(1)
    assert of(STATED, 2, law_at(s1=0.5, s2=0.5)) == pytest.approx(binom.sf(25, 50, 0.5))
    assert of(STATED, 3, law_at(s2_5=0.9, s3_5=0.1)) == pytest.approx(1 - 0.9**50)
    assert of(STATED, 3, law_at(s2_5=0.9, s3_5=0.05, s4=0.05)) == pytest.approx(0.95**50 - 0.9**50)
    assert of(STATED, 3, law_at(s2=0.02, s3_5=0.98)) == pytest.approx(0.98**50)
    assert of(STATED, 3, law_at(s3=1)) == 0
    assert of(STATED, 4, law_at(s2=0.7, s3=0.3)) == pytest.approx(binom.sf(25, 50, 0.7))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_the_picture_against_runs_that_are_drawn(picture):
    generator = np.random.default_rng(1)
    near = {2: 1.3, 3: 2.9, 4: 2.05}
    for width, centre in near.items():
        weight = np.exp(-(((LatticeLaw(16, np.zeros(65)).values - centre) / 0.3) ** 2))
        law = LatticeLaw(16, weight / weight.sum())
        s = generator.choice(law.values, size=(20_000, RUNS), p=law.probabilities)
        if width == 2:
            event = ((s <= 1.5) if picture.or_equal else (s < 1.5)).sum(axis=1) >= picture.most
        elif width == 3:
            event = ((s > 2).sum(axis=1) >= picture.above) & (abs(s.max(axis=1) - 3.5) <= picture.reach)
        else:
            event = (abs(s - 2) <= picture.around).sum(axis=1) >= picture.near
        exact = float(np.exp(picture.log_probability(width, picture.shares(width, law))))
        assert abs(event.mean() - exact) < 4.5 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-9


def test_likelihood_and_its_draws():
    """Three shares with known errors: the draws are about the value, as wide as the networks allow."""
    laws = {2: law_at(s1=0.9, s2=0.1), 3: law_at(s2_5=0.9, s3_5=0.1), 4: law_at(s2=1)}
    known = {n: SLaw(law, [law] * 32, 400, 1) for n, law in laws.items()}
    found = log_likelihood(STATED, known, 2_000, np.random.default_rng(0))
    assert found[0] == pytest.approx(np.log10(binom.sf(25, 50, 0.9) * (1 - 0.9**50)))
    assert abs(np.median(found[1:]) - found[0]) < 0.02
    # At n = 3 all 50 are to be above 2: 400 networks without one below leave 50 x 0.6 / 400 of doubt.
    assert -0.3 < np.quantile(found[1:], 0.025) < -0.02
    few = {n: law._replace(networks=40) for n, law in known.items()}
    assert np.quantile(log_likelihood(STATED, few, 2_000, np.random.default_rng(0)), 0.025) < -0.3


def test_likelihoods_of_0_have_no_ratio():
    none, some = np.array([-np.inf, -np.inf, -1.0]), np.array([-np.inf, -1.0, -2.0])
    assert np.isnan(figure2_comparison.less(none, some)[0])
    assert figure2_comparison.less(none, some)[1:].tolist() == [-np.inf, 1]
    assert figure2_comparison.mean_likelihood(np.array([[-1.0], [-np.inf]]))[0] == pytest.approx(np.log10(0.05))


def test_stops_by_hand():
    loss = np.array([[1.0, 0.9, 0.5], [0.6, 0.89, 0.4], [0.2, 0.88, 0.1], [0.19, 0.5, np.nan]])
    assert first_below(loss, 0.55).tolist() == [2, 3, 0]
    assert first_below(loss, 0.01).tolist() == [3, 3, 3]
    assert first_plateau(loss).tolist() == [3, 1, 3]
    assert rungs_of(3000) == [47, 94, 188, 375, 750, 1500, 3000]
    assert rungs_of(1) == [1]


def test_stopped_members_are_those_of_the_rung():
    rungs = [made_up(40, seed=seed) for seed in range(4)]
    losses = np.stack([each.loss for each in rungs])
    for stop, rule in more_protocols.STOPS.items():
        at = rule(losses, 2.0)
        found = stopped(rungs, "squared_error", stop)
        for member, context in itertools.product(range(40), range(4)):
            rung = rungs[at[member, context]]
            assert found.loss[member, context] == rung.loss[member, context]
            assert (found.counts[member, context] == rung.counts[member, context]).all()


def test_whole_runs_against_all_runs():
    """All 5^4 runs of five networks per context, each alike; the best of three by right answers, equals alike."""
    records = made_up(5, seed=4)
    runs = np.array(list(itertools.product(range(5), repeat=4)))
    counts = records.counts[runs, np.arange(4)]
    right = (counts @ [0, 1, 1, 2]).sum(axis=1)
    weights = _best_of(np.ones(len(right), int), right, 3)
    s = chsh_statistics(counts.reshape(-1, 2, 2, 2, 2)).s
    law = more_protocols.whole_run_laws(Outcomes([records], EnsembleConfig()), 3)[0]
    expected = [weights[np.isclose(s, value)].sum() for value in law.values]
    np.testing.assert_allclose(law.probabilities, expected, atol=1e-9)


def test_shared_seeds_against_playing_it_out():
    """200 runs by hand of each protocol; mean S within 4.5 standard errors."""
    records = made_up(300, seed=5)
    config = EnsembleConfig(common_initialization=True)
    found = laws_of(records, config)
    assert set(found) == set(more_protocols.LABELS) - {"retry until solved, at most 100"}
    generator = np.random.default_rng(3)
    right, solved = records.counts @ [0, 1, 1, 2], records.counts[..., 3] == 16
    by_hand = {"best of 20 by loss": [], "retry until solved, at most 20": [], WHOLE_RUNS: []}
    for _ in range(200):
        tries = generator.integers(300, size=20)
        first = [next((t for t in tries if solved[t, c]), tries[-1]) for c in range(4)]
        best = tries[right[tries].sum(axis=1).argmax()]
        kept = {
            "best of 20 by loss": [tries[records.loss[tries, c].argmin()] for c in range(4)],
            "retry until solved, at most 20": first,
            WHOLE_RUNS: [best] * 4,
        }
        for label, members in kept.items():
            joint = records.counts[members, np.arange(4)].reshape(1, 2, 2, 2, 2)
            by_hand[label].append(float(chsh_statistics(joint).s[0]))
    for label, s in by_hand.items():
        law = found[label].law
        assert abs(np.mean(s) - law.mean) < 4.5 * np.sqrt(max(law.variance, 1e-6) / 200)
        assert len(found[label].left_out) == 32
        assert all(other.probabilities.sum() == pytest.approx(1) for other in found[label].left_out)


def test_logits_of_many_networks_are_those_of_few():
    """A sum that XLA fuses may be wrong for many lanes (findings/xla_cpu_fused_sum_of_products.sh)."""
    config = EnsembleConfig(hidden=4)
    vector = np.random.default_rng(0).normal(size=(30, 1600)).astype(np.float32)
    logits = jax.jit(functools.partial(logits_of, config, Variant()))
    few = np.concatenate([logits(each) for each in np.split(vector, 10, axis=1)], axis=2)
    np.testing.assert_allclose(logits(vector), few, rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_other_networks_are_the_ensembles_where_nothing_is_other():
    many = EnsembleConfig(hidden=4, members=150, steps=100)  # in three blocks
    (trained,) = train_variant(many, Variant(), [100])
    ensemble = run_ensemble(many, executor="xla").records()
    np.testing.assert_allclose(trained.loss, ensemble.loss, rtol=1e-3)
    assert (trained.member == ensemble.member).all()
    config = EnsembleConfig(hidden=2, members=8, steps=48, topology="overlap")
    (trained,) = train_variant(config, Variant(), [48])
    ensemble = run_ensemble(config, executor="xla").records()
    np.testing.assert_allclose(trained.loss, ensemble.loss, rtol=1e-4)
    assert (trained.counts == ensemble.counts).all()
    # An epoch of one batch of all rows is a step; four batches are four steps that see other rows.
    (whole,) = train_variant(config, Variant("relu", 16), [48])
    np.testing.assert_allclose(whole.loss, trained.loss, rtol=1e-4)
    batches = train_variant(config, Variant("relu", 4), [24, 48])
    assert abs(batches[1].loss - trained.loss).max() > 1e-3
    assert np.median(abs(batches[1].loss - trained.loss)) < 0.2
    assert (train_variant(config, Variant("tanh"), [48])[0].loss != trained.loss).all()


@pytest.mark.thorough
def test_small_run(tmp_path, capsys, monkeypatch):
    grid = {"topology": ["dense", "overlap"], "loss": ["bce"], "encoding": ["binary"], "initialization": ["he"]}
    monkeypatch.setitem(figure2_comparison.GRIDS, "coarse", grid)
    monkeypatch.setattr(figure2_comparison, "SHARED", {"topology": ["dense"], "initialization": ["he"]})
    monkeypatch.setattr(figure2_comparison, "VARIANTS", ())
    figure2_comparison.main(["--members", "32", "--steps", "600", "--out", str(tmp_path)])
    assert "Retry until solved has" in capsys.readouterr().out.strip().splitlines()[-1]
    found = json.loads((tmp_path / "figure2_comparison.json").read_text())
    assert {share["factor"] for share in found["shares"]} == {*grid, "choice", "stop"}
    assert (tmp_path / "figures" / "figure2-comparison.svg").exists()


def test_what_cannot_be_run_is_one_line(capsys):
    for arguments in (["--members", "31"], ["--other-members", "2"], ["--grid", "finest"], ["--rows", "0"]):
        with pytest.raises(SystemExit):
            figure2_comparison.main(arguments)
        assert capsys.readouterr().err.strip()


def test_a_picture_that_no_law_gives_is_said_to_be_none(tmp_path):
    """As after one step of training: no member has S above 2, and drawn laws alone have a chance of it."""
    setting = {name: values[0] for name, values in figure2_comparison.FINE.items()}
    settings = [setting | {"topology": topology} for topology in ("dense", "overlap")]
    number = (len(PICTURES), 2, len(figure2_comparison.PROTOCOLS), 1 + figure2_comparison.DRAWS)
    likelihood = np.random.default_rng(0).normal(-20, 0.1, number)
    likelihood[..., 0] = -np.inf
    cells = figure2_comparison.Cells(settings, likelihood)
    shares = figure2_comparison.shares_of(cells, {"topology": ["dense", "overlap"]})
    best, changes = figure2_comparison.best_cells(cells), figure2_comparison.changes_of(cells, cells, {})
    assert best == []
    for lines in (figure2_comparison.best_table(best), figure2_comparison.change_table(changes)):
        assert lines
    said = figure2_comparison.conclusion(shares, best, changes)
    assert said == "By no law of the grid's members can the picture be: every likelihood is 0."
    figure2_comparison.draw(cells, shares, tmp_path / "picture")
    assert (tmp_path / "picture.png").exists()


def test_the_file_beside_the_picture_has_the_intervals_that_are_drawn(tmp_path):
    setting = {name: values[0] for name, values in figure2_comparison.FINE.items()}
    settings = [setting | {"topology": topology} for topology in ("dense", "overlap")]
    number = (len(PICTURES), 2, len(figure2_comparison.PROTOCOLS), 1 + figure2_comparison.DRAWS)
    cells = figure2_comparison.Cells(settings, np.random.default_rng(0).normal(-2, 0.1, number))
    shares = figure2_comparison.shares_of(cells, {"topology": ["dense", "overlap"]})
    figure2_comparison.draw(cells, shares, tmp_path / "picture")
    with open(tmp_path / "picture.csv", newline="") as handle:
        lines = [row for row in csv.DictReader(handle) if row["what"] == "posterior" and row["where"] == STATED.name]
    found = {row["stop_or_level"]: tuple(float(row[name]) for name in ("value", "low", "high")) for row in lines}
    assert found == {each.level: each.posterior[0] for each in shares}
