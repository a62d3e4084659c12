"""Detection from traces: closed forms, a slow reference, coverage where the truth is known, and both kinds of controls."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import ncsim
from ncsim.config.recording import Recording
from ncsim.records.trajectories import concatenated
from ncsim.statistics.loss_traces import (
    FEATURES,
    auc_between,
    auc_estimate,
    bits_from_bins,
    bits_from_log_loss,
    detect,
    trace_features,
)
from tests.support.observers import EDGES, bits_of_normals


def test_features_of_a_wave_and_of_a_decay():
    steps = np.arange(101)
    decay, wave = 10.0 ** (-0.02 * steps), 2 + 0.5 * np.cos(2 * np.pi * 40 * steps / 101)
    named = dict(zip(FEATURES, trace_features(np.stack([decay, wave])).T, strict=True))
    assert named["log loss at 0%"][0] == pytest.approx(0)
    assert named["log loss at 100%"][0] == pytest.approx(-2)
    assert named["slope 20% to 40%"][0] == pytest.approx(-0.02)
    assert named["sign changes"][0] == 0
    assert named["peak frequency"][1] == pytest.approx(40 / 101)
    assert named["log peak power"][1] == pytest.approx(np.log10(0.125), abs=1e-3)
    assert named["log power in band 3"][1] == pytest.approx(np.log10(0.125), abs=1e-3)
    assert named["log power in band 1"][1] < -4
    assert named["sign changes"][1] > 0.7
    assert np.all(np.isfinite(trace_features(np.zeros((2, 3, 8)))))  # a loss that has vanished
    with pytest.raises(ValueError, match="7 points; allowed: 8 or more"):
        trace_features(np.zeros(7))


def test_auc_counts_pairs_with_ties():
    scores = np.random.default_rng(0).integers(0, 6, size=(40, 2)) + np.array([0.0, 1.0])
    pairs = [(b > a) + (b == a) / 2 for a in scores[:, 0] for b in scores[:, 1]]
    found = auc_estimate(scores)
    assert found.value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert found.low < found.value < found.high
    assert auc_estimate(scores[:, :1].repeat(2, axis=1)).value == 0.5
    apart = auc_estimate(np.stack([np.zeros(100), np.ones(100)], axis=1))
    assert apart.value == apart.high == 1
    assert apart.low == pytest.approx(0.025 ** (1 / 100))


def test_auc_of_two_groups():
    """DeLong's variance written out, on groups of other sizes."""
    generator = np.random.default_rng(1)
    zeros, ones = generator.integers(0, 9, 30).astype(float), generator.integers(2, 11, 50).astype(float)
    wins = (ones[:, None] > zeros) + (ones[:, None] == zeros) / 2
    found = auc_between(zeros, ones)
    assert found.value == pytest.approx(wins.mean(), abs=1e-12)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 50 + wins.mean(axis=0).var(ddof=1) / 30)
    reach = stats.norm.ppf(0.975) * error / (found.value * (1 - found.value))
    assert found.high == pytest.approx(1 / (1 + np.exp(-(np.log(found.value / (1 - found.value)) + reach))))
    assert np.isnan(auc_between(zeros[:0], ones).value)


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.9])
def test_auc_interval_covers_where_members_give_both_classes(correlation):
    """400 times 150 members, scores normal with a shift of 0.8 and a correlation within members: the true AUC is
    Phi(0.8 / sqrt 2). 95 % intervals cover it in 91 to 98.5 % of cases (binomial, false alarm below 1e-3); an interval that
    took traces for independent would be too wide or too narrow."""
    generator = np.random.default_rng(int(10 * correlation) + 20)
    truth = stats.norm.cdf(0.8 / np.sqrt(2))
    covariance = [[1, correlation], [correlation, 1]]
    hits = 0
    for _ in range(400):
        found = auc_estimate(generator.multivariate_normal([0, 0.8], covariance, size=150))
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 400 <= 0.985


def test_bits_of_a_channel_that_is_known():
    """Scores that are the log odds of a binary symmetric channel with error 0.11: 1 - H(0.11) = 0.5 bit, both ways."""
    generator = np.random.default_rng(3)
    flips = generator.random((40_000, 2)) < 0.11
    odds = np.log(0.89 / 0.11)
    scores = np.where(flips, -1, 1) * np.array([-odds, odds])
    truth = 1 + 0.11 * np.log2(0.11) + 0.89 * np.log2(0.89)
    for found in (bits_from_log_loss(scores, scores), bits_from_bins(scores, scores)):
        assert found.value == pytest.approx(truth, abs=0.01)
        assert found.low < found.value < found.high < found.low + 0.03
    noise = generator.normal(size=(2_000, 2))
    without = bits_from_bins(noise, noise)
    assert abs(without.value) < 0.004  # uncorrected the bias alone would be 19 / (8000 ln 2) = 0.0034
    repeated = [bits_from_bins(generator.normal(size=(500, 2)), noise).value for _ in range(200)]
    assert abs(np.mean(repeated)) < 0.0015  # of a bias of 0.0137 before the correction
    overconfident = bits_from_log_loss(10 * noise, 10 * noise)
    assert overconfident.value < 0  # a bound that says nothing


@pytest.mark.parametrize(("members", "apart"), [(20, 6.0), (60, 6.0), (60, 3.0)])
def test_bits_of_an_observer_that_is_nearly_always_right(members, apart):
    """What few traces show is within 95 % intervals in 93 % of cases or more. Of 60 members and 6 apart Student's t alone held it in 31 %
    by the log loss; from bins none did, by a bias of cells that no trace falls into."""
    generator = np.random.default_rng(members)
    bound, in_bins = bits_of_normals(apart, np.log(members + 1))
    by_loss = by_bins = 0
    for _ in range(300):
        scores = generator.normal(size=(members, 2)) + np.array([0, apart])
        found = bits_from_log_loss(apart * scores - apart**2 / 2, np.full((1, 2), np.inf))
        by_loss += found.low <= bound <= found.high
        found = bits_from_bins(scores, EDGES)
        by_bins += found.low <= in_bins <= found.high
    assert min(by_loss, by_bins) / 300 > 0.93


def test_a_score_is_no_more_certain_than_other_members_scores_and_their_number():
    """One trace in ten is taken for the other class with log odds of 1,000: an observer that says so has all but lost; it is heard as one
    that says 11 to 1, and by scores of 2 as one that says e^2 to 1."""
    scores = np.tile([-1000.0, 1000.0], (10, 1))
    scores[0, 0] = 1000.0
    for others, limit in ((np.full((5, 2), 1e6), np.log(11)), (np.full((5, 2), -2.0), 2.0)):
        found = bits_from_log_loss(scores, others)
        losses = (19 * np.log1p(np.exp(-limit)) + np.log1p(np.exp(limit))) / 20 / np.log(2)
        assert found.value == pytest.approx(1 - losses, rel=1e-12)
        assert found.low <= found.value - limit / np.log(2) * (1 - 0.025 ** (1 / 10))


def test_detection_tests_on_members_it_has_not_seen():
    """With as many features as members an observer learns its own members by heart, and no others."""
    generator = np.random.default_rng(5)
    noise = generator.normal(size=(2, 200, 100))
    found = detect(noise[0], noise[1], level=0.999)
    assert found.auc.low <= 0.5 <= found.auc.high
    assert (found.trained, found.tested, found.excluded) == (100, 100, 0)
    seen = detect(noise[0], noise[1] + 5)
    assert seen.auc.value == 1
    noise[0, 7, 3] = np.nan
    assert detect(noise[0], noise[1]).excluded == 1
    with pytest.raises(ValueError, match="6 with finite traces; allowed: 8"):
        detect(noise[0, :7], noise[1, :7][::-1] * np.where(np.arange(7) == 2, np.nan, 1)[:, None])


@pytest.mark.thorough
def test_controls_on_small_ensembles():
    """Bob's gradient stopped, or trunks apart: Alice's trace has nothing of Bob's task. Bob's own trace has much of it."""
    config = ncsim.EnsembleConfig(hidden=2, members=500, steps=200, learning_rate=0.03)
    for intervention in ("stop_gradient_bob", "separate_trunks"):
        run = ncsim.run_ensemble(
            dataclasses.replace(config, intervention=intervention),
            recording=Recording(spacing="every", every=10),
            executor="xla",
        )
        losses = concatenated(list(run.trajectories())).values
        alice, bob = (trace_features(np.moveaxis(losses[f"loss_{party}"], 1, -1)) for party in ("alice", "bob"))
        for task in (0, 1):
            control = detect(alice[:, 2 * task], alice[:, 2 * task + 1], level=0.999)
            assert control.auc.low <= 0.5 <= control.auc.high
            assert control.bits_from_log_loss.value < 0.02
    assert detect(bob[:, 0], bob[:, 1]).auc.low > 0.8
