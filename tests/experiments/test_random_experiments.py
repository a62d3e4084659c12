"""Random networks beside trained ones, and rare tails, run small; what they compute against enumerations."""

import csv
import itertools
import json
import math

import jax
import numpy as np
import pytest
from scipy.stats import kstest

from experiments import given_loss as given_loss_experiment
from experiments import random_solutions, rare_tails
from experiments.shared import given_loss, random_networks
from experiments.shared.figures import points
from experiments.shared.random_networks import (
    KINDS,
    Source,
    above_2,
    estimated,
    k_laws,
    matched,
    mean_s,
    scattered_laws,
)
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.ensemble import random_solutions as module
from ncsim.statistics.intervals import Estimate, clopper_pearson, unseen_share
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import Protocol, ProtocolLaw
from ncsim.training.random_networks import RandomLaw
from tests.statistics.test_protocols import made_up


def tables(*rows):
    """Cells and probabilities from (wrong both, Bob right, Alice right, both right, probability), with each group left out."""
    given = np.array(rows, float)
    return given[:, :4].astype(int), np.repeat(given[None, :, 4], 33, axis=0)


TRAINED = tables((0, 0, 0, 4, 0.5), (0, 1, 1, 2, 0.3), (1, 0, 0, 3, 0.1), (3, 0, 0, 1, 0.1))
RANDOM = tables((0, 0, 0, 4, 0.01), (0, 2, 0, 2, 0.09), (1, 0, 0, 3, 0.03), (2, 1, 0, 1, 0.87))


def test_matched_networks_have_the_trained_number_of_wrong_answers():
    cells, law, uncovered = matched(*((c, laws[0]) for c, laws in (TRAINED, RANDOM)))
    assert law.sum() == pytest.approx(1)
    wrong = random_networks.wrong_of(cells)
    by_wrong = np.bincount(wrong, law)
    # 0 and 2 wrong answers as trained; 5 are of no random network with 6, and keep the trained table.
    np.testing.assert_allclose(by_wrong[[0, 2, 6]], [0.5, 0.4, 0.1])
    assert uncovered == pytest.approx(0.1)
    found = {tuple(cell): p for cell, p in zip(cells.tolist(), law, strict=True) if p > 0}
    assert found == pytest.approx({(0, 0, 0, 4): 0.5, (0, 2, 0, 2): 0.3, (1, 0, 0, 3): 0.1, (3, 0, 0, 1): 0.1})


def test_no_interval_of_random_solutions_hides_another(tmp_path, monkeypatch):
    """All twelve intervals of a width (four contexts, each trained, walked and guessed) have places of their own, nearest to their own width."""
    drawn = []

    def kept(axis, at, estimates, **style):
        drawn.append(np.array(at))
        points(axis, at, estimates, **style)

    monkeypatch.setattr(random_solutions, "points", kept)
    monkeypatch.setattr(random_solutions, "save_figure", lambda figure, *_: figure.canvas.draw())
    one = Estimate(0.5, 0.4, 0.6, "")
    solved = [
        random_networks.Solved(hidden, name, one, one, one, True, 9, 0.0, 0)
        for hidden in (2, 3)
        for name in random_networks.NAMES
    ]
    rows = [
        random_networks.Statistics(hidden, kind, protocol.label, one, one, 0.0, one, 0.0, 0.0)
        for hidden in (2, 3)
        for kind in KINDS
        for protocol in random_networks.PROTOCOLS
    ]
    random_solutions.draw(solved, rows, tmp_path)
    left = np.sort(np.concatenate(drawn[:12]))
    assert np.diff(left).min() > 0.03
    assert (np.round(left) == np.repeat([0, 1], 12)).all()


def test_no_more_random_networks_are_independent_than_were_counted():
    """Walks of one step each after 20,000 that are not counted: their round trips are of before."""
    code, mass = np.array([0]), np.ones((1, 2, 32))
    found = module.RandomSolutions(
        EnsembleConfig(hidden=1),
        "multicanonical",
        1024,
        ((code, mass),) * 4,
        (),
        0,
        np.array([2700, 2800, 9000, 2750]),
        "C",
    )
    assert random_networks.random_networks_of(found).networks == 1024
    assert random_networks.random_networks_of(found._replace(draws=10**9)).networks == 2700
    assert random_networks.random_networks_of(found._replace(round_trips=None)).networks == 1024


@pytest.mark.slow
def test_networks_of_walks_are_independent_by_the_trips_of_the_time_that_is_counted(tmp_path):
    """Trips of the burn-in were counted too, a tenth of all, and files that keep walks did not know them."""
    code, mass = np.array([0]), np.ones((1, 2, 32))
    trips, before = np.array([2700, 2800, 9000, 2750]), np.array([100, 900, 1000, 50])
    config = EnsembleConfig(hidden=1)
    found = module.RandomSolutions(
        config, "multicanonical", 10**9, ((code, mass),) * 4, (), 0, trips, "C", (0, 0, 0, 0), before
    )
    assert random_networks.random_networks_of(found).networks == 1900
    kept = [random_networks.kept(tmp_path, config, 2_000, "multicanonical") for _ in range(2)]
    walks = module.random_solutions(config, 2_000, method="multicanonical")
    for each in kept:
        np.testing.assert_array_equal(each.trips_before, walks.trips_before)
        np.testing.assert_array_equal(each.round_trips, walks.round_trips)
    assert random_networks.kept(tmp_path, config, 2_000, "guess").trips_before is None


def test_s_of_four_laws_is_that_of_an_enumeration():
    laws = k_laws([(cells, p[0]) for cells, p in (TRAINED, RANDOM, RANDOM, RANDOM)], 4)
    mean, share = 0.0, 0.0
    for ks in itertools.product(range(5), repeat=4):
        p = np.prod([law[k] for law, k in zip(laws, ks, strict=True)])
        s = sum(sign * (1 - k / 2) for sign, k in zip((1, 1, 1, -1), ks, strict=True))
        mean, share = mean + p * s, share + p * (s > 2)
    assert mean_s(laws) == pytest.approx(mean)
    assert above_2(laws) == pytest.approx(share)
    trained, others = Source([TRAINED] * 4, 100), Source([RANDOM] * 4, 5_000)
    found = mean_s_of(trained, others)
    # Groups do not differ: what is left is what so many networks cannot show, of either kind.
    reach = math.hypot(2 * unseen_share(100, 1, 0.95), 2 * unseen_share(5_000, 1, 0.95))
    assert (found.value - found.low, found.high - found.value) == pytest.approx((reach, reach))
    assert mean_s_of(trained, None).value == pytest.approx(2 * (1 - 0.3))


def mean_s_of(trained, other, rows=4):
    return random_networks.estimated_mean_s(trained, other, rows)


def test_few_networks_exclude_little_however_many_quadruples_are_drawn():
    """A hundred networks per context, none of which gives a Delta above 0: 3.6 % of others still may."""
    records = made_up(100, seed=2)
    outcomes = Outcomes([records], EnsembleConfig(members=100))
    for protocol in random_networks.PROTOCOLS:
        law, trained = ProtocolLaw(protocol, outcomes), random_networks.trained_networks(outcomes, protocol)
        laws = random_networks.laws_at(trained, None)
        drawn = random_networks.drawn_tables(laws)
        delta, _ = random_networks.contextuality_of(laws, drawn, 16)
        for event in (delta > 0, delta > -1, delta > 9):
            found = random_networks.share_of_drawn(drawn, event, trained, None)
            expected = law.fraction_of_runs(drawn, event)
            assert found[:3] == pytest.approx(expected[:3], abs=1e-9)
        assert found.high >= clopper_pearson(0, 100).high
        # Mean S and P(S > 2) of trained networks are those of any report.
        assert mean_s_of(trained, None, 16)[:3] == pytest.approx(law.mean[:3])
        above = estimated(lambda laws: above_2(k_laws(laws, 16)), trained, None)
        assert above[:3] == pytest.approx(law.above(2)[:3], abs=1e-9)


def test_what_matched_networks_leave_open_is_at_least_what_the_trained_ones_do():
    """Under retry nearly all is solved, so that nothing differs between groups, and a rare network may still be another."""
    records = made_up(100, seed=2)
    outcomes = Outcomes([records], EnsembleConfig(members=100))
    retry = random_networks.PROTOCOLS[1]
    trained = random_networks.trained_networks(outcomes, retry)
    exact = Source(scattered_laws(16), None)
    few, many = (exact._replace(networks=number) for number in (20, 10**6))
    share = [estimated(lambda laws: above_2(k_laws(laws, 16)), trained, other) for other in (exact, many, few)]
    means = [mean_s_of(trained, other, 16) for other in (exact, many, few)]
    unseen = unseen_share(100, 100, 0.95)
    assert share[0].low <= share[0].value * (1 - unseen)
    assert means[0].high >= means[0].value + 2 * unseen - 1e-12
    for one, other in itertools.pairwise(share):
        assert other.low <= one.low <= one.value <= one.high <= other.high
    for one, other in itertools.pairwise(means):
        assert other.low <= one.low < one.value < one.high <= other.high
    assert "both kinds" in share[2].method


def test_random_networks_differ_by_their_groups_and_walks_by_their_round_trips():
    config = EnsembleConfig(hidden=2)
    guesses = module.random_solutions(config, 20_000, seed=1)
    source = random_networks.random_networks_of(guesses)
    assert source.networks == guesses.draws
    found = mean_s_of(None, source, 16)
    assert found.low < 0 < found.high < 0.1  # half of all answers of random networks are right
    walks = guesses._replace(method="multicanonical", round_trips=np.array([900, 40, 3_000, 70]))
    assert random_networks.random_networks_of(walks).networks == 40
    wider = mean_s_of(None, random_networks.random_networks_of(walks), 16)
    assert wider.high > found.high
    # A context to which no walk came back says nothing.
    lost = random_networks.random_networks_of(walks._replace(round_trips=np.array([9, 9, 0, 9])))
    event = np.zeros(random_networks.RUNS, bool)
    drawn = random_networks.drawn_tables(random_networks.laws_at(None, lost))
    assert random_networks.share_of_drawn(drawn, event, None, lost).high == 1


def test_walks_whose_error_is_not_known_agree_with_nothing():
    config = EnsembleConfig(hidden=2)
    guesses = module.random_solutions(config, 20_000, seed=1)
    apart, wrong = random_networks.agreement(guesses, guesses._replace(method="multicanonical"), 0)
    assert abs(apart) < 1e-9
    tables = [(code, mass * (np.arange(32) == 3)) for code, mass in guesses.tables]  # all in one group
    lost = guesses._replace(method="multicanonical", tables=tuple(tables))
    apart, at = random_networks.agreement(guesses, lost, 0)
    assert math.isnan(apart)
    assert at == wrong


def test_scattered_answers_lie_anywhere():
    cells, laws = scattered_laws(2)[3]
    counted = {}
    for wrong in itertools.product((0, 1), repeat=4):  # Alice's two rows, Bob's two
        pairs = [(wrong[row], wrong[2 + row]) for row in (0, 1)]
        key = tuple(pairs.count(pair) for pair in ((1, 1), (1, 0), (0, 1), (0, 0)))
        counted[key] = counted.get(key, 0) + 1 / 16
    assert {tuple(cell): p for cell, p in zip(cells.tolist(), laws[7], strict=True)} == pytest.approx(counted)


def test_words_and_numbers():
    few, none = Estimate(1e-12, 5e-13, 2e-12, ""), Estimate(0.0, 0.0, 3e-8, "")
    assert random_solutions.interval(few) == "1e-12 [5e-13, 2e-12]"
    assert random_solutions.interval(none) == "0 (at most 3e-08)"
    assert random_solutions.interval(none._replace(high=1.0)) == "none found"
    assert rare_tails.interval(none) == "at most 3e-08"
    assert rare_tails.wrapped("retry until solved, at most 20") == "retry until\nsolved,\nat most 20"


@pytest.mark.slow
def test_small_run_of_random_solutions(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ncsim.ensemble.random_solutions.BATCHES", 200)
    monkeypatch.setattr("ncsim.ensemble.random_solutions.BURN_IN", 500)
    arguments = [
        "--members",
        "64",
        "--steps",
        "40",
        "--guesses",
        "200000",
        "--steps-of-walks",
        "200000",
        "--widths",
        "1",
    ]
    random_solutions.main([*arguments, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "random_solutions.json").read_text())
    assert [row["context"] for row in found["solved"]] == ["11", "12", "21", "22"]
    assert {row["walked"]["value"] for row in found["solved"]} == {0}  # one unit solves none (docs/capacity.md)
    assert [row["kind"] for row in found["statistics"]] == [*KINDS, *KINDS[:3]]
    said = capsys.readouterr().out
    assert found["conclusion"][0] in said
    assert (tmp_path / "random_solutions.svg").exists()
    random_solutions.main([*arguments, "--out", str(tmp_path)])  # from what is kept
    assert json.loads((tmp_path / "random_solutions.json").read_text()) == found


@pytest.mark.slow
def test_small_run_of_rare_tails(tmp_path, capsys):
    rare_tails.main(["--members", "64", "--members-22", "96", "--steps", "40", "--hidden", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "rare_tails.json").read_text())
    assert found["networks"] == [64, 64, 64, 384]
    assert len(found["rows"]) == 10
    assert found["conclusion"][-1] in capsys.readouterr().out
    assert (tmp_path / "rare_tails.svg").exists()


def test_chains_below_no_bound_keep_the_law():
    config = EnsembleConfig(hidden=1, initialization="he", bias_initialization="uniform")
    law, rng = RandomLaw.of(config), np.random.default_rng(0)
    start = rng.uniform(-1, 1, (len(law.place), 2, 500)).astype(np.float32)
    start[law.normal] = rng.normal(size=(law.normal.sum(), 2, 500))
    targets = np.asarray(context_targets(config.tasks)[1], np.float32)
    bound = np.full((2, 1), np.inf, np.float32)
    moved, _ = given_loss._programs(config)[1](start, bound, targets, jax.random.key(3))
    moved = np.asarray(moved)
    assert np.abs(np.corrcoef(moved.ravel(), start.ravel())[0, 1]) < 0.2
    assert kstest(moved[~law.normal].ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    assert kstest(moved[law.normal].ravel(), "norm").pvalue > 1e-3


def test_probabilities_of_populations_are_averaged():
    found = given_loss._over_populations(np.log([1e-9, 3e-9, 2e-9, 2e-9]))
    assert found.value == pytest.approx(2e-9)
    # A quarter of the standard deviation to half of it: 0.408 / 2 standard errors of the mean, times Student's t with three degrees.
    assert math.log(found.high / found.value) == pytest.approx(3.1824 * math.sqrt(2 / 3) / 2 / 2, rel=1e-3)


def test_joined_guesses_are_those_of_their_parts():
    config = EnsembleConfig(hidden=2)
    parts = [module.random_solutions(config, 4_000, keep=8, wrong=12, seed=seed) for seed in (0, 1)]
    both = random_networks.joined(parts)
    assert both.draws == sum(part.draws for part in parts)
    for context in range(4):
        assert sum(mass.sum() for mass in [both.tables[context][1]]) == both.draws
        for wrong in (10, 14, 16):
            hits = sum(part.share(context, wrong).value * part.draws for part in parts)
            assert both.share(context, wrong).value == pytest.approx(hits / both.draws)
        assert len(both.vectors[context]) == sum(len(part.vectors[context]) for part in parts)


@pytest.mark.thorough
def test_small_run_given_a_loss(tmp_path, capsys, monkeypatch):
    """One unit: what subset simulation finds is what guesses find, and trained networks pass the same bounds."""
    monkeypatch.setattr(given_loss_experiment, "LAWS", ("he",))
    monkeypatch.setattr(given_loss_experiment, "PARTS", (0.97, 0.9))
    arguments = ["--members", "64", "--steps", "40", "--particles", "64", "--guesses", "20000", "--widths", "1"]
    given_loss_experiment.main([*arguments, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "given_loss.json").read_text())
    compared = [row for row in found["rows"] if row["guessed"] is not None]
    assert len(compared) >= 4
    for row in compared:
        guessed, random = row["guessed"], row["probability"]
        reach = 2 * max(guessed["high"] - guessed["low"], random["high"] - random["low"])
        assert abs(guessed["value"] - random["value"]) < reach
        assert row["losses"][1] < row["part"]
    assert found["conclusion"][0] in capsys.readouterr().out
    assert (tmp_path / "given_loss.svg").exists()


def csv_of(place):
    with open(place, newline="") as handle:
        return list(csv.DictReader(handle))


def test_files_beside_pictures_hold_all_that_is_drawn(tmp_path):
    """Every mark of every panel, with its interval."""
    low, high = Estimate(0.02, 0.01, 0.03, ""), Estimate(1.5, 1.25, 1.75, "")
    rows = [
        given_loss_experiment.Row("he", 3, context, 0.9, low, None, low, 1.0, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
        for context in ("11", "22")
    ]
    both = [given_loss_experiment.Together("he", 3, 0.9, high, high, (0.0, 0.0), (0, 0))]
    given_loss_experiment.draw(rows, both, tmp_path)
    found = [(row["quantity"], row["value"], row["low"], row["high"]) for row in csv_of(tmp_path / "given_loss.csv")]
    drawn = [(f"P(loss below), context {name}", "0.02", "0.01", "0.03") for name in ("11", "22")]
    assert sorted(found) == drawn + [(f"S, {kind}", "1.5", "1.25", "1.75") for kind in ("random", "trained")]

    records = made_up(64, seed=3)
    law = ProtocolLaw(Protocol("single"), Outcomes([records], EnsembleConfig()))
    rare_tails.draw([rare_tails.Row("single shot", "S >= 3.5", low, 0.5, 1.0, None, None, 0.0)], law, tmp_path)
    lines = [row for row in csv_of(tmp_path / "rare_tails.csv") if row["of"] == "10000 members"]
    expected = [
        value for bound in rare_tails.BOUNDS.values() for value in rare_tails.precision_of(law, bound, [10_000])[0]
    ]
    assert [float(row["value"]) for row in lines] == pytest.approx(expected)
    assert [row["quantity"].rpartition(", ")[2] for row in lines] == ["four laws", "counted members"] * 2


@pytest.mark.parametrize(
    ("module_of", "words", "error"),
    [
        (given_loss_experiment, ["--guesses", "-1"], "--guesses: -1; allowed: 1 or more"),
        (given_loss_experiment, ["--widths", "3", "3"], "--widths: 3 3; allowed: each width once"),
        (random_solutions, ["--widths", "2", "2"], "--widths: 2 2; allowed: each width once"),
    ],
)
def test_what_cannot_be_asked_is_one_line(module_of, words, error, capsys):
    with pytest.raises(SystemExit):
        module_of.main(words)
    assert capsys.readouterr().err == f"ncsim: error: {error}\n"
