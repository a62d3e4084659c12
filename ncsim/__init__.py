"""ncsim: very many small multi-task networks, trained at once, and the CHSH statistic S of what they get right.

Importing this package creates no arrays and starts no JAX backend; names load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncsim.chsh import ChshStatistics, chsh_statistics
    from ncsim.config import ConfigError, EnsembleConfig, config_grid
    from ncsim.counts import joint_counts, merge_counts
    from ncsim.ensemble import run_ensemble
    from ncsim.network import NCnet
    from ncsim.runs import Run, open_run
    from ncsim.store import StoreError
    from ncsim.tasks import PAPER_TASKS, TruthTables, truth_tables

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
    "open_run": "runs",
    "Run": "runs",
    "StoreError": "store",
    "joint_counts": "counts",
    "merge_counts": "counts",
    "chsh_statistics": "chsh",
    "ChshStatistics": "chsh",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ncsim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ncsim.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
