"""Where the numbers of a report come from: settings, versions, and the command that gives them again."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, field_specs, swept_fields
from ncsim.config.fields import option_name, spelled, spelled_one_or_all
from ncsim.config.recording import Recording
from ncsim.config.tasks import PAPER_TASKS
from ncsim.storage.environment import recorded_environments, recorded_executors
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder


def provenance(location: str) -> dict[str, Any]:
    """What a stored run is: its settings by field, the environments it was trained in, and the command that repeats it.

    Args:
        location: a path or an address.

    Raises:
        StoreError: no run is there.
    """
    folder = RunFolder.open(location)
    configs, executors = folder.configs, recorded_executors(location, folder.configs) or []
    command = repeat_command(configs, location, executors, TrajectoryFolder(folder).recording())
    return {
        "location": location,
        "settings": [(name, _values(configs, name)) for name in field_specs()],
        "environments": [environment_rows(record) for record in recorded_environments(location)],
        "executors": sorted(set(executors)),
        "command": command,
        "why_not": None
        if command
        else "No command trains these cells, which are no full grid: ncsim.run_ensemble takes a list.",
    }


def _values(configs: Sequence[EnsembleConfig], name: str) -> str:
    values = dict.fromkeys(getattr(config, name) for config in configs)
    return spelled_one_or_all([value.name if name == "tasks" else value for value in values])


def environment_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions and platform of an environment on record, by name."""
    versions = record.get("versions")
    rows = [(str(name), str(version)) for name, version in versions.items()] if isinstance(versions, dict) else []
    shown = ("python", "platform", "device", "revision")
    return rows + [(name, str(record[name])) for name in shown if record.get(name) is not None]


def repeat_command(
    configs: Sequence[EnsembleConfig], out: str, executors: Sequence[str] = (), recording: Recording | None = None
) -> str | None:
    """The `ncsim ensemble` command that trains these cells; None where no command does.

    Args:
        configs: the cells of a run.
        out: its folder.
        executors: of its cells; one that all have is asked for.
        recording: what it records along training, if anything.
    """
    swept, default = swept_fields(configs), EnsembleConfig()
    grid = {name: list(dict.fromkeys(getattr(config, name) for config in configs)) for name in swept}
    cells = {tuple(getattr(config, name) for name in swept) for config in configs}
    if cells != set(itertools.product(*grid.values())):
        return None
    words, how = ["ncsim", "ensemble"], ["--executor", executors[0]] if len(set(executors)) == 1 else []
    how += [] if recording is None else recording.options().split()
    if configs[0].tasks != PAPER_TASKS:  # no option has them
        place = out.rstrip("/")
        return shlex.join([*words, "--config", f"{place}/config.json", *how, "--out", f"{place}-again"])
    for name in field_specs():
        values = grid.get(name, [getattr(configs[0], name)])
        if values != [getattr(default, name)] or name == "members":
            words += [option_name(name), *map(spelled, values)]
    return shlex.join([*words, *how, "--out", out])
