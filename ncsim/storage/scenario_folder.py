"""The run folder of a scenario: as a run folder has it, with parts whose columns are of the scenario's contexts and parties."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import StoreError
from ncsim.records.joint_counts import PARTY_NAMES
from ncsim.records.scenarios import ScenarioRecords
from ncsim.storage.arrow_tables import axis_columns, check_axes, dictionary_options, flat_options
from ncsim.storage.config_file import CONFIG, FLAT, description
from ncsim.storage.files import Storage
from ncsim.storage.parts import Layout, PartKind, Stamp, are_stamped
from ncsim.storage.run_folder import ConfiguredFolder, RunFolder, of_scenario


def columns(config: EnsembleConfig) -> dict[str, list[str]]:
    """The flat columns of each column of `ScenarioRecords` but member: counts_12_01, loss_12, undecided_12_A and so on."""
    contexts, parties = config.tasks.context_names, config.tasks.parties
    cells = [f"{cell:0{parties}b}" for cell in range(2**parties)]
    return {
        "counts": [f"counts_{context}_{cell}" for context in contexts for cell in cells],
        "loss": [f"loss_{context}" for context in contexts],
        "margin": [f"margin_{context}" for context in contexts],
        "diverged": [f"diverged_{context}" for context in contexts],
        "undecided": [f"undecided_{context}_{PARTY_NAMES[p]}" for context in contexts for p in range(parties)],
    }


def _to_table(records: ScenarioRecords, config: EnsembleConfig, swept: Sequence[str]) -> pa.Table:
    found = axis_columns(config, swept, records.size) | {"member": pa.array(records.member.astype(np.int64))}
    for name, flat in columns(config).items():
        values = getattr(records, name)
        by_column = np.ascontiguousarray(values.reshape(records.size, -1).T)
        found |= {each: pa.array(numbers) for each, numbers in zip(flat, by_column, strict=True)}
    return pa.table(found)


def flat_table(cells: Sequence[tuple[EnsembleConfig, ScenarioRecords]], swept: Sequence[str]) -> pa.Table:
    """The records of cells as one table, with the columns of their parts."""
    return pa.concat_tables([_to_table(records, config, swept) for config, records in cells])


def _from_table(table: pa.Table, stamp: Stamp, config: EnsembleConfig) -> ScenarioRecords:
    tasks = config.tasks
    of_context = (len(table), len(tasks.contexts))
    shapes = {"counts": (*of_context, 2**tasks.parties), "undecided": (*of_context, tasks.parties)}
    found: dict[str, Any] = {"member": table["member"].to_numpy().astype(np.uint64)}
    for name, flat in columns(config).items():
        numbers = np.stack([table[each].to_numpy() for each in flat], axis=-1)
        found[name] = numbers.reshape(shapes.get(name, of_context))
    records = ScenarioRecords(**found)
    if not are_stamped(records.member, stamp):
        raise StoreError("has members that are not those of its name")
    if np.any(records.counts < 0) or np.any(records.counts.sum(axis=2) != np.where(records.diverged, 0, tasks.rows)):
        raise StoreError("has counts that do not add up")
    check_axes(table, config)
    return records


#: Another stamp than parts of members have, so that neither is taken for the other. There were never parts with lists.
SCENARIOS = PartKind(
    "parts",
    "a scenario",
    b"ncsim-scenario",
    {},
    {FLAT: Layout(1, _to_table, dictionary_options), 4: Layout(2, _to_table, flat_options, required=True)},
    from_table=_from_table,
)


class ScenarioFolder(ConfiguredFolder[ScenarioRecords]):
    """One run folder of a scenario. Use `create` to write to it, `open` to read it."""

    kind = SCENARIOS
    of_scenarios = True


def any_folder(storage: Storage, name: str = CONFIG) -> ConfiguredFolder[Any]:
    """The run that a storage holds, of an ensemble or of a scenario.

    Raises:
        StoreError: as `ConfiguredFolder.within`.
    """
    with contextlib.suppress(OSError, ValueError):
        if of_scenario(description(storage.read(name))):
            return ScenarioFolder.within(storage, name)
    return RunFolder.within(storage, name)
