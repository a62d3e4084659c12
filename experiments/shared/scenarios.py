"""What the two experiments on scenarios share: ensembles that are stopped early, and certain heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble.scenarios import run_scenario
from ncsim.report.scenarios import summarise_scenario
from ncsim.statistics.intervals import Estimate


def estimate(found: dict[str, Any]) -> Estimate:
    """An estimate as a summary holds it."""
    return Estimate(**found)


def summary_of(config: EnsembleConfig, devices: int | None) -> dict[str, Any]:
    """Train a scenario in memory: the numbers of its one cell."""
    return dict(summarise_scenario(run_scenario(config, devices=devices))["cells"][0])


def whole_counts(config: EnsembleConfig, devices: int | None) -> np.ndarray:
    """Counts [M, contexts, 2^k] of the members of which no network diverged."""
    records = run_scenario(config, devices=devices).records()
    return np.asarray(records.counts[~records.diverged.any(axis=1)])
