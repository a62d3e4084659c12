"""ncsim: very many small multi-task networks, trained at once, and the CHSH statistic S of what they get right.

Importing this package creates no arrays and starts no JAX backend; names load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncsim.bootstrap import bootstrap_mean, crossed_bootstrap_mean_s, hoeffding_mean
    from ncsim.chsh import ChshStatistics, chsh_statistics
    from ncsim.config import ConfigError, EnsembleConfig, config_grid
    from ncsim.contextuality import contextuality_measures
    from ncsim.counts import joint_counts, merge_counts
    from ncsim.delta_interval import contextuality_interval
    from ncsim.ensemble import run_ensemble
    from ncsim.hypothesis_tests import (
        game_p_value,
        hoeffding_p_value,
        holm,
        paired_signalling_tests,
        prediction_based_ratio,
        signalling_tests,
    )
    from ncsim.inequalities import (
        LinearInequality,
        chained_inequality,
        chsh_inequality,
        correlator_inequality,
        joint_counts_many,
        mermin_inequality,
        svetlichny_inequality,
    )
    from ncsim.inference import Estimate, clopper_pearson
    from ncsim.network import NCnet
    from ncsim.recording import Recording
    from ncsim.runs import Run, open_run
    from ncsim.store import StoreError
    from ncsim.tasks import PAPER_TASKS, TruthTables, truth_tables
    from ncsim.trajectories import trajectory_statistics
    from ncsim.undecided import undecided_conventions

#: The public names, and the module each comes from.
_PUBLIC = {
    "EnsembleConfig": "config",
    "ConfigError": "config",
    "config_grid": "config",
    "TruthTables": "tasks",
    "truth_tables": "tasks",
    "PAPER_TASKS": "tasks",
    "NCnet": "network",
    "run_ensemble": "ensemble",
    "Recording": "recording",
    "trajectory_statistics": "trajectories",
    "open_run": "runs",
    "Run": "runs",
    "StoreError": "store",
    "joint_counts": "counts",
    "merge_counts": "counts",
    "chsh_statistics": "chsh",
    "ChshStatistics": "chsh",
    "Estimate": "inference",
    "clopper_pearson": "inference",
    "bootstrap_mean": "bootstrap",
    "hoeffding_mean": "bootstrap",
    "crossed_bootstrap_mean_s": "bootstrap",
    "contextuality_measures": "contextuality",
    "contextuality_interval": "delta_interval",
    "undecided_conventions": "undecided",
    "game_p_value": "hypothesis_tests",
    "hoeffding_p_value": "hypothesis_tests",
    "prediction_based_ratio": "hypothesis_tests",
    "signalling_tests": "hypothesis_tests",
    "paired_signalling_tests": "hypothesis_tests",
    "holm": "hypothesis_tests",
    "LinearInequality": "inequalities",
    "correlator_inequality": "inequalities",
    "chsh_inequality": "inequalities",
    "chained_inequality": "inequalities",
    "mermin_inequality": "inequalities",
    "svetlichny_inequality": "inequalities",
    "joint_counts_many": "inequalities",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ncsim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ncsim.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
