"""Float32 and float64: the same law of outcomes, and members that differ only where an answer was undecided."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import chi2_contingency

import ncsim

#: Of the two-sample test over four contexts, with Bonferroni: how often it would cry wolf.
FALSE_ALARM = 1e-3


@pytest.fixture(scope="module")
def both():
    config = ncsim.EnsembleConfig(hidden=3, members=2000, steps=1500)
    return [ncsim.run_ensemble(dataclasses.replace(config, precision=p)).records() for p in ("float32", "float64")]


@pytest.mark.slow
def test_laws_of_outcomes_are_not_told_apart(both):
    """Chi-square test on the joint tables of each context, rare ones pooled."""
    for context in range(4):
        tables, index = np.unique(
            np.concatenate([records.counts[:, context] for records in both]), axis=0, return_inverse=True
        )
        sample = np.repeat([0, 1], [records.size for records in both])
        observed = np.zeros((2, len(tables)))
        np.add.at(observed, (sample, index.reshape(-1)), 1)
        rare = observed.sum(axis=0) < 20
        observed = np.column_stack([observed[:, ~rare], observed[:, rare].sum(axis=1)])
        observed = observed[:, observed.sum(axis=0) > 0]
        assert observed.shape[1] >= 3
        assert chi2_contingency(observed).pvalue > FALSE_ALARM / 4


@pytest.mark.slow
def test_members_that_differ_were_undecided(both):
    """Rounding decides what the network leaves open. Networks with no undecided answer in either precision agree, but for
    those whose training itself was chaotic: fewer than one in fifty."""
    single, double = both
    differ = np.any(single.counts != double.counts, axis=-1)
    undecided = single.undecided() | double.undecided()
    print(f"differ: {differ.mean():.3f} of networks, of them undecided: {undecided[differ].mean():.3f}")
    assert differ.any()
    assert np.mean(undecided[differ]) > 0.5
    assert np.mean(differ[~undecided]) < 0.02


@pytest.mark.slow
def test_both_start_from_the_same_networks():
    config = ncsim.EnsembleConfig(hidden=2, members=64, steps=1, learning_rate=1e-12)
    single, double = (
        ncsim.run_ensemble(dataclasses.replace(config, precision=p)).records() for p in ("float32", "float64")
    )
    assert np.array_equal(single.counts, double.counts)
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-5)
