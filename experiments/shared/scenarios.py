"""What the two experiments on scenarios share: ensembles that are stopped early, and certain heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, run_digits
from ncsim.ensemble.scenarios import run_scenario
from ncsim.report.scenarios import summarise_scenario
from ncsim.scenarios import ScenarioRun
from ncsim.statistics.intervals import Estimate


def estimate(found: dict[str, Any]) -> Estimate:
    """An estimate as a summary holds it."""
    return Estimate(**found)


def trained(config: EnsembleConfig, out: Path, devices: int | None) -> ScenarioRun:
    """The run of a scenario, in a folder below `out` of its own: an experiment that was stopped goes on."""
    return run_scenario(config, out / "runs" / run_digits([config]), devices=devices)


def summary_of(config: EnsembleConfig, out: Path, devices: int | None) -> dict[str, Any]:
    """Train a scenario: the numbers of its one cell."""
    return dict(summarise_scenario(trained(config, out, devices))["cells"][0])


def whole_counts(config: EnsembleConfig, out: Path, devices: int | None) -> np.ndarray:
    """Counts [M, contexts, 2^k] of the members of which no network diverged."""
    records = trained(config, out, devices).records()
    return np.asarray(records.counts[~records.diverged.any(axis=1)])
