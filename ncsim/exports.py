"""A run's results as other packages hold them: pandas and polars tables, xarray data sets and trees.

Each package is imported when it is asked for. Tables have the flat columns of a part. Data sets have the grid's axes as
dimensions, and coordinates with names, so that a selection says what it means: `sel(learning_rate=0.01, i=1, j=2)`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import shown
from ncsim.errors import ConfigError
from ncsim.records.joint_counts import from_context_order
from ncsim.records.members import MemberRecords
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.member_statistics import MEMBER_STATISTICS, SOLVED, member_statistics

CONTEXT, OUTCOMES = ("i", "j"), ("a", "b")
#: Coordinates of what every data set has: the tasks by their numbers in the paper, the outcomes as +1 (right) and -1.
COORDINATES = {"i": [1, 2], "j": [1, 2], "a": [-1, 1], "b": [-1, 1]}
INCOMPLETE = ("refuse", "nan")


def package(name: str, method: str) -> Any:
    """An optional package.

    Raises:
        ConfigError: it is not installed; says what to type.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{method}: {name} is not installed; allowed after: pip install {name}") from None


class Variable(NamedTuple):
    """One variable of a cell: its dimensions after those of the grid, and its values."""

    dimensions: tuple[str, ...]
    values: np.ndarray


def _by_context(values: np.ndarray, *before: str) -> Variable:
    return Variable((*before, *CONTEXT), values.reshape(*values.shape[:-1], 2, 2))


def _counts(values: np.ndarray, *before: str) -> Variable:
    return Variable((*before, *CONTEXT, *OUTCOMES), from_context_order(values))


def of_records(records: MemberRecords, config: EnsembleConfig) -> dict[str, Variable]:
    """The variables of a cell's records. The final loss is `training_loss`: `loss` is an axis of some grids."""
    found = {"counts": _counts(records.counts, "member")}
    if records.training_counts is not None:
        found["training_counts"] = _counts(records.training_counts, "member")
    names = {"loss": "training_loss"} | {name: name for name in ("margin", "diverged")}
    names |= {name: name for name in ("undecided_alice", "undecided_bob", "decided_product")}
    return found | {name: _by_context(getattr(records, field), "member") for field, name in names.items()}


def of_statistics(records: MemberRecords, config: EnsembleConfig) -> dict[str, Variable]:
    """The variables of a cell's statistics: S, S_factorised, influence, Delta, and which contexts are solved."""
    statistics = member_statistics(records.counts, config.tasks.rows)
    found = {name: Variable(("member",), statistics[name]) for name in MEMBER_STATISTICS}
    return found | {"solved": _by_context(np.stack([statistics[name] for name in SOLVED], axis=-1), "member")}


def of_trajectories(trajectories: MemberTrajectories) -> dict[str, Variable]:
    """The variables of what was recorded of a cell along training."""
    found = {"counts": _counts(trajectories.counts.astype(np.int32), "member", "step")}  # differences are taken
    return found | {name: _by_context(values, "member", "step") for name, values in trajectories.values.items()}


class CellArrays(NamedTuple):
    """What a data set takes of one cell: its variables, and its own coordinates, such as member ids."""

    config: EnsembleConfig
    variables: dict[str, Variable]
    coordinates: dict[str, np.ndarray]


def data_set(cells: Sequence[CellArrays], incomplete: str, method: str) -> Any:
    """An xarray Dataset of all cells: the swept fields, then each variable's own dimensions.

    Args:
        cells: in the order of the run's configs.
        incomplete: "refuse" or "nan": what to do where the cells are no full grid, or have not the same coordinates.
        method: who asks, for errors.

    Raises:
        ConfigError: the grid is not full and "refuse" is asked for; xarray is missing; or a word that is not allowed.
    """
    if incomplete not in INCOMPLETE:
        raise ConfigError(f"{method}: incomplete: {shown(incomplete)}; allowed: {', '.join(INCOMPLETE)}")
    xarray = package("xarray", method)
    swept = swept_fields([cell.config for cell in cells])
    axes = {name: list(dict.fromkeys(getattr(cell.config, name) for cell in cells)) for name in swept}
    own = {name: np.unique(np.concatenate([cell.coordinates[name] for cell in cells])) for name in cells[0].coordinates}
    full = len(cells) == math.prod(map(len, axes.values()))
    alike = all(np.array_equal(cell.coordinates[name], own[name]) for cell in cells for name in own)
    if not (full and alike) and incomplete == "refuse":
        what = "its cells have other members or steps" if full else f"it has {len(cells)} cells and no full grid"
        raise ConfigError(f"{method}: {what}; allowed: incomplete='nan', or a complete run")
    variables = {}
    for name, (dimensions, first) in cells[0].variables.items():
        sizes = [len((own | COORDINATES)[dimension]) for dimension in dimensions]
        # What may be missing is NaN, which whole numbers and booleans do not have.
        dtype = first.dtype if (full and alike) or first.dtype.kind == "f" else np.dtype(np.float64)
        together = np.full((*map(len, axes.values()), *sizes), 0 if full and alike else np.nan, dtype)
        for cell in cells:
            place = tuple(values.index(getattr(cell.config, axis)) for axis, values in axes.items())
            rows = [np.searchsorted(own[d], cell.coordinates[d]) for d in dimensions if d in own]
            together[place][np.ix_(*rows)] = cell.variables[name].values
        variables[name] = ((*swept, *dimensions), together)
    used = {dimension for dimensions, _ in variables.values() for dimension in dimensions}
    fixed = {name: values for name, values in COORDINATES.items() if name in used}
    return xarray.Dataset(variables, coords=_coordinates(axes) | own | fixed, attrs=_attributes(cells))


def _coordinates(axes: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Words as objects, which xarray selects by; all else in its own type."""
    return {name: np.asarray(values, object if isinstance(values[0], str) else None) for name, values in axes.items()}


def _attributes(cells: Sequence[CellArrays]) -> dict[str, Any]:
    config = cells[0].config
    return {"tasks": config.tasks.name, "rows": config.tasks.rows, "source": "ncsim"}
