"""A run of ensembles as a data set for the hub."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa

from ncsim.config.ensemble import EnsembleConfig, field_specs
from ncsim.config.fields import spelled_one_or_all
from ncsim.config.tasks import PAPER_TASKS
from ncsim.errors import StoreError
from ncsim.formatting import counted, json_text
from ncsim.hub.dataset import HubFolder, new_folder
from ncsim.results import Run
from ncsim.statistics.until import numbers_of
from ncsim.storage.arrow_tables import axis_columns, to_flat_table, trajectories_to_flat_table
from ncsim.storage.environment import recorded_environments
from ncsim.storage.files import Storage
from ncsim.storage.run_folder import RunFolder

WORDS = (
    "Very many small networks, each trained on one task of Alice and one of Bob at once, and how many rows of the truth table they "
    "answer right. Counts give the CHSH statistic S."
)
_OF_CONTEXT = {
    "solved": "whether both heads are right on all rows; false where the network diverged",
    "loss": "final training loss; NaN or infinite where the network diverged",
    "margin": "smallest logit in favour of the right answer; NaN or infinite where the network diverged",
    "diverged": "whether training left the finite numbers; then counts, undecided rows and their product are 0",
    "undecided_alice": "rows on which Alice's answer is undecided",
    "undecided_bob": "rows on which Bob's answer is undecided",
    "decided_product": "sum of the product of outcomes over rows that both decided",
    "loss_alice": "loss of Alice's head",
    "loss_bob": "loss of Bob's head",
    "alice_norm": "norm of the gradient of Alice's loss in the shared layer; 0 or NaN where the network has diverged",
    "bob_norm": "norm of the gradient of Bob's loss in the shared layer; 0 or NaN where the network has diverged",
    "cosine": "cosine of both heads' gradients in the shared layer; 0 where one of them is 0, 0 or NaN where the network has diverged",
    "neurons_in_conflict": "share of hidden units whose own cosine is negative",
}
_COLUMNS = {
    "member": "id of the member",
    "step": "step of training",
    "S": "CHSH statistic; null where a network diverged",
    "S_factorised": "S as accuracies alone give it; null where a network diverged",
    "influence": "direct influence; null where a network diverged",
    "Delta": "contextuality: s_odd - 2 - influence; null where a network diverged",
    "number": "name of the number, as the report has it",
    "value": "estimate",
    "low": "lower limit of its interval",
    "high": "upper limit",
    "level": "probability with which the interval should hold the number",
    "method": "how the limits were found",
    "members": "members of the cell, with those of which a network diverged; these count in no number",
}


def export_run(run: Run, path: str | os.PathLike[str], license_id: str | None = None) -> HubFolder:
    """Write a run as a folder for the hub: its members, what was recorded along training, and the numbers of its report.

    Args:
        run: a run that is stored; it may be incomplete.
        path: a new folder.
        license_id: as the hub calls it, such as "cc-by-4.0".

    Raises:
        ConfigError: the folder is not empty or cannot be made, or no licence is called so.
        StoreError: a part is torn or foreign, no member is stored, or the folder cannot be written to.
    """
    run = run if run.storage is None else _as_it_is(run.storage)
    if run.location is None or not any(True for _ in _members(run)):
        raise StoreError(f"{run.location or 'the run'}: no member is stored; allowed: a stored run with members")
    with new_folder(path, license_id) as folder:
        folder.add_table("members", "one member: four networks, one per context", _members(run))
        folder.add_table("numbers", "one number of the report, of one cell, with its interval", [_numbers(run)])
        folder.add_table("trajectories", "one member at one step of its training", _trajectories(run))
        title = f"ncsim ensembles: {', '.join(run.swept) or run.configs[0].tasks.name}"
        folder.describe(title, WORDS, _body(run), _described)
    return folder


class _AsItIs:
    """A storage whose folders have the files that they had when they were first asked for, whatever is stored meanwhile: a training may
    go on, and all tables are to be of the same members."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self.names = storage, functools.cache(storage.names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def _as_it_is(storage: Storage) -> Run:
    folder = RunFolder.within(cast(Storage, _AsItIs(storage)))
    return Run(folder.configs, folder)


def _members(run: Run) -> Iterator[pa.Table]:
    for cell, config in enumerate(run.configs):
        for records in run.batches(cell):
            yield to_flat_table(run._alike(records), config, run.swept)


def _trajectories(run: Run) -> Iterator[pa.Table]:
    for cell, config in enumerate(run.configs):
        for trajectories in run.trajectories(cell):
            yield trajectories_to_flat_table(trajectories, config, run.swept)


def _numbers(run: Run) -> pa.Table:
    pieces = []
    for number, config in enumerate(run.configs):
        cell = run._cell(number)
        found = numbers_of(cell)
        columns: dict[str, Any] = axis_columns(config, run.swept, len(found))
        columns |= {
            "members": pa.repeat(cell.size, len(found)),
            "number": pa.array(list(found), pa.string()),
        }
        for key in ("value", "low", "high", "level", "method"):
            kind = pa.string() if key == "method" else pa.float64()
            columns[key] = pa.array([getattr(estimate, key) for estimate in found.values()], kind)
        pieces.append(pa.table(columns))
    return pa.concat_tables(pieces)


def _described(column: str) -> str:
    """What a column holds."""
    if column in _COLUMNS:
        return _COLUMNS[column]
    if column in field_specs():
        return str(field_specs()[column].get("help", column))
    name, _, context = column.rpartition("_")
    if name in _OF_CONTEXT:
        return f"{_OF_CONTEXT[name]}, in context {context}"
    counted = re.fullmatch(r"(training_)?counts_(\d\d)_(\d)(\d)", column)
    if counted:
        rows = "rows trained on" if counted[1] else "rows"
        alice, bob = (("wrong", "right")[int(answer)] for answer in counted.groups()[2:])
        return f"{rows} of context {counted[2]} on which Alice is {alice} and Bob {bob}; 0 in all four where the network diverged"
    return f"{name.replace('_', ' ')}, in context {context}"


def _body(run: Run) -> list[str]:
    first: EnsembleConfig = run.configs[0]
    axes = {name: list(dict.fromkeys(getattr(config, name) for config in run.configs)) for name in field_specs()}
    rows = [f"| {name} | {spelled_one_or_all(values)} |" for name, values in axes.items() if name != "tasks"]
    tasks = "those of the paper" if first.tasks == PAPER_TASKS else f"`{json_text(first.tasks.__dict__, None)}`"
    paragraphs = [
        "A *context* is one task of Alice with one of Bob: 11, 12, 21 and 22. An outcome is +1 where a head is right on a row.",
        "## Settings\n\n| field | value |\n|---|---|\n" + "\n".join(rows) + f"\n\nTasks: {tasks}.",
    ]
    if missing := run.missing():
        paragraphs.insert(0, f"Not complete: {counted(missing, 'member was', 'members were')} still to be trained.")
    paragraphs += _trained_with(recorded_environments(str(run.location)))
    return paragraphs


def _trained_with(records: Sequence[dict[str, Any]]) -> list[str]:
    """What a run was begun with and, a paragraph each, what it went on with."""
    found = []
    for record in records:
        if isinstance(record.get("versions"), dict):
            versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
            device = f", {record['device']}" if record.get("device") else ""
            found.append(f"{versions}, on {record.get('platform', 'an unknown platform')}{device}.")
    begun, more = ("Begun", found[1:]) if len(found) > 1 else ("Trained", [])
    return [f"{begun} with {words}" for words in found[:1]] + [f"Gone on with {words}" for words in more]
