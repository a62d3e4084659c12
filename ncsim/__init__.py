"""ncsim: very many small multi-task networks, trained at once, and the CHSH statistic S of what they get right.

Importing this package creates no arrays and starts no JAX backend; names load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ncsim import forks as forks  # from now on it watches for forks

#: The only place that says it: pyproject.toml, --version and config.json take it from here.
__version__ = "0.1.0"

if TYPE_CHECKING:
    from ncsim import text
    from ncsim.config.ensemble import EnsembleConfig, config_grid
    from ncsim.config.recording import Recording
    from ncsim.config.scenarios import ScenarioTasks, chained_tasks, one_network, scenario_tasks, three_party_tasks
    from ncsim.config.tasks import PAPER_TASKS, TruthTables, truth_tables
    from ncsim.ensemble.networks import outcomes, parameters
    from ncsim.ensemble.random_solutions import random_solutions
    from ncsim.ensemble.reservoir import reservoir
    from ncsim.ensemble.run import run_ensemble
    from ncsim.ensemble.scenarios import run_scenario
    from ncsim.ensemble.separability import foreign_share
    from ncsim.errors import ConfigError, StoreError
    from ncsim.records.joint_counts import joint_counts, joint_counts_many, merge_counts
    from ncsim.results import Run, open_run
    from ncsim.scenarios import ScenarioRun, open_scenario
    from ncsim.statistics.bootstrap import bootstrap_mean, crossed_bootstrap_mean_s, hoeffding_mean
    from ncsim.statistics.chsh import ChshStatistics, chsh_statistics
    from ncsim.statistics.contextuality import contextuality_measures
    from ncsim.statistics.contextuality_interval import contextuality_interval
    from ncsim.statistics.decisions import decision_range
    from ncsim.statistics.grand_canonical import grand_potential, two_routes, width_law
    from ncsim.statistics.hydrodynamics import circulation, entropy_balance, fitted_log_density, fluid, madelung
    from ncsim.statistics.inequalities import (
        LinearInequality,
        chained_inequality,
        chsh_inequality,
        collins_gisin_inequality,
        correlator_inequality,
        mermin_inequality,
        svetlichny_inequality,
    )
    from ncsim.statistics.intervals import Estimate, clopper_pearson
    from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value, prediction_based_ratio
    from ncsim.statistics.notations import from_collins_gisin, from_correlators, to_collins_gisin, to_correlators
    from ncsim.statistics.npa import npa_bound, npa_visibility
    from ncsim.statistics.quantum import quantum_statistics
    from ncsim.statistics.rank_frequency import held_out_likelihoods, moment_fit, rank_counts
    from ncsim.statistics.scenarios import contextual_fraction, cyclic_statistics, excess_mismatch
    from ncsim.statistics.signalling_tests import holm, paired_signalling_tests, signalling_tests
    from ncsim.statistics.training_curves import trajectory_statistics
    from ncsim.statistics.undecided import undecided_conventions
    from ncsim.tables import read_table
    from ncsim.tracking.listeners import RunListener
    from ncsim.tracking.trackers import tracker
    from ncsim.training.flax_module import NCnet


#: The public names, and the module each comes from.
_PUBLIC = {
    "EnsembleConfig": "config.ensemble",
    "ConfigError": "errors",
    "config_grid": "config.ensemble",
    "TruthTables": "config.tasks",
    "truth_tables": "config.tasks",
    "PAPER_TASKS": "config.tasks",
    "ScenarioTasks": "config.scenarios",
    "scenario_tasks": "config.scenarios",
    "chained_tasks": "config.scenarios",
    "three_party_tasks": "config.scenarios",
    "one_network": "config.scenarios",
    "run_scenario": "ensemble.scenarios",
    "open_scenario": "scenarios",
    "ScenarioRun": "scenarios",
    "NCnet": "training.flax_module",
    "run_ensemble": "ensemble.run",
    "parameters": "ensemble.networks",
    "outcomes": "ensemble.networks",
    "foreign_share": "ensemble.separability",
    "random_solutions": "ensemble.random_solutions",
    "reservoir": "ensemble.reservoir",
    "Recording": "config.recording",
    "trajectory_statistics": "statistics.training_curves",
    "open_run": "results",
    "Run": "results",
    "StoreError": "errors",
    "joint_counts": "records.joint_counts",
    "merge_counts": "records.joint_counts",
    "chsh_statistics": "statistics.chsh",
    "ChshStatistics": "statistics.chsh",
    "Estimate": "statistics.intervals",
    "clopper_pearson": "statistics.intervals",
    "bootstrap_mean": "statistics.bootstrap",
    "hoeffding_mean": "statistics.bootstrap",
    "crossed_bootstrap_mean_s": "statistics.bootstrap",
    "contextuality_measures": "statistics.contextuality",
    "contextuality_interval": "statistics.contextuality_interval",
    "undecided_conventions": "statistics.undecided",
    "decision_range": "statistics.decisions",
    "game_p_value": "statistics.locality_tests",
    "hoeffding_p_value": "statistics.locality_tests",
    "prediction_based_ratio": "statistics.locality_tests",
    "signalling_tests": "statistics.signalling_tests",
    "paired_signalling_tests": "statistics.signalling_tests",
    "holm": "statistics.signalling_tests",
    "LinearInequality": "statistics.inequalities",
    "correlator_inequality": "statistics.inequalities",
    "chsh_inequality": "statistics.inequalities",
    "chained_inequality": "statistics.inequalities",
    "mermin_inequality": "statistics.inequalities",
    "svetlichny_inequality": "statistics.inequalities",
    "joint_counts_many": "records.joint_counts",
    "collins_gisin_inequality": "statistics.inequalities",
    "to_collins_gisin": "statistics.notations",
    "from_collins_gisin": "statistics.notations",
    "to_correlators": "statistics.notations",
    "from_correlators": "statistics.notations",
    "quantum_statistics": "statistics.quantum",
    "npa_bound": "statistics.npa",
    "npa_visibility": "statistics.npa",
    "cyclic_statistics": "statistics.scenarios",
    "contextual_fraction": "statistics.scenarios",
    "excess_mismatch": "statistics.scenarios",
    "rank_counts": "statistics.rank_frequency",
    "moment_fit": "statistics.rank_frequency",
    "held_out_likelihoods": "statistics.rank_frequency",
    "width_law": "statistics.grand_canonical",
    "grand_potential": "statistics.grand_canonical",
    "two_routes": "statistics.grand_canonical",
    "fluid": "statistics.hydrodynamics",
    "madelung": "statistics.hydrodynamics",
    "fitted_log_density": "statistics.hydrodynamics",
    "entropy_balance": "statistics.hydrodynamics",
    "circulation": "statistics.hydrodynamics",
    "read_table": "tables",
    "RunListener": "tracking.listeners",
    "tracker": "tracking.trackers",
}

__all__ = list(_PUBLIC)

#: Packages that are reached as attributes: `ncsim.text.TextConfig`.
_PACKAGES = ("text",)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"ncsim.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ncsim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ncsim.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted((*__all__, *_PACKAGES))
