"""Whether stored members are what training gives: a random share of them trained again and compared bit for bit.

A checksum shows that a file is as it was written; it says nothing of a device that computed wrongly, or of a file that
was wrong when it was sealed. Members are trained again by the executor on record, in groups of consecutive ids, because
a device trains a block of them in the time of one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, network_steps
from ncsim.config.fields import checked_audit, part_of
from ncsim.config.recording import Recording
from ncsim.ensemble.kinds import differences
from ncsim.ensemble.run import run_ensemble
from ncsim.ensemble.scenarios import run_scenario
from ncsim.errors import StoreError
from ncsim.formatting import counted
from ncsim.records.trajectories import concatenated
from ncsim.storage.environment import recorded_executors, trained_as_recorded
from ncsim.storage.files import open_storage
from ncsim.storage.parts import Part
from ncsim.storage.run_folder import ConfiguredFolder
from ncsim.storage.scenario_folder import any_folder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.terminal import ProgressListener

#: Members of a group, with consecutive ids: as many as the widest block of an executor for CPUs has.
GROUP = 128
#: Members that are named; of more, the number is given.
NAMED = 20


class Difference(NamedTuple):
    """A member that is not what training it again gives."""

    cell: str  # the folder of the cell's parts
    member: int
    columns: tuple[str, ...]  # what differs of it: counts, loss, ..., trajectory counts, trajectory loss_alice, ...


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found."""

    seed: int
    members: int  # that were trained again
    stored: int  # that the run has
    differing: list[Difference]
    elsewhere: list[str]  # in what this machine is not of the kind that the run was begun with

    @property
    def right(self) -> bool:
        """Whether every member was as stored."""
        return not self.differing

    def lines(self) -> list[str]:
        """The result in words."""
        share = self.members / self.stored if self.stored else 0.0
        lines = []
        for cell, member, columns in self.differing[:NAMED]:
            lines.append(f"{cell}: member {member} differs in {', '.join(columns)}")
        if len(self.differing) > NAMED:
            lines.append(f"... and {len(self.differing) - NAMED:,} more")
        said = "all are as stored" if self.right else counted(len(self.differing), "differs", "differ")
        lines.append(
            f"Audit: {self.members:,} of {counted(self.stored, 'member')} ({share:.2%}, seed {self.seed}) trained again: {said}."
        )
        if self.elsewhere:
            there = "; ".join(self.elsewhere)
            # What says how a step is made may say it otherwise in another version; the rest of a machine is rounding.
            other_steps = any(words.startswith(("ncsim ", "optax ")) for words in self.elsewhere)
            may = "members need not be the same" if other_steps else "laws agree, and members need not"
            lines.append(f"This machine is not of the kind that the run was begun with ({there}): {may}.")
        return lines


def audit(
    path: str | os.PathLike[str],
    share: float,
    seed: int,
    devices: int | None = None,
    progress: ProgressListener | None = None,
) -> Audit:
    """Train a random share of a run's members again and compare all that is recorded of them, along training too.

    Args:
        path: the run folder.
        share: of the stored members, above 0 to 1; rounded up to whole groups of GROUP.
        seed: of the choice. The same seed chooses the same members of the same folder.
        devices, progress: as for `ncsim.run_ensemble`.

    Raises:
        StoreError: no run is there, or a part of it is torn or foreign.
        ConfigError: a share or seed out of range, or the executor on record cannot train here.
    """
    checked_audit(share, seed)
    folder = any_folder(open_storage(path))
    executors = recorded_executors(folder.location, folder.configs)
    if executors is None:
        raise StoreError(
            f"{folder.location}: has no executor on record, so that members cannot be trained as they were"
        )
    trajectories = TrajectoryFolder(folder)
    recording = trajectories.recording()
    recorded = [trajectories.parts(config) if recording else [] for config in folder.configs]
    groups = list(_groups(folder))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(groups))[: part_of(share, len(groups))])
    stored = sum(len(ids) for _, _, ids in groups)
    differing: list[Difference] = []
    audited = 0
    if len(chosen) and progress is not None:
        work = [(len(groups[n][2]), groups[n][0]) for n in chosen]
        progress.start(sum(m for m, _ in work), sum(m * network_steps(folder.configs[cell]) for m, cell in work))
    try:
        for number in map(int, chosen):
            cell, part, ids = groups[number]
            config = folder.configs[cell]
            (kept,) = folder.of_members(config, [part], ids)
            once_more = dataclasses.replace(config, first_member=ids.start, members=len(ids))
            seen = trajectories.of_members(config, recorded[cell], ids)
            all_seen = sum(len(each.member) for each in seen) == len(ids)
            again = _trained_again(folder, once_more, devices, executors[cell], recording if all_seen else None)
            columns = unequal_columns(kept._asdict(), again.records()._asdict())
            if all_seen:
                pair = map(concatenated, (seen, list(again.trajectories())))
                unequal = unequal_columns(*({"counts": each.counts} | each.values for each in pair))
                columns += [(row, f"trajectory {name}") for row, name in unequal]
            differing += _differences(folder.cell_name(config), kept, columns)
            audited += len(ids)
            if progress is not None:
                progress.advance(len(ids), len(ids) * network_steps(config))
    finally:
        if len(chosen) and progress is not None:
            progress.close()
    elsewhere = differences(folder, devices) if audited else []
    return Audit(seed, audited, stored, differing, elsewhere)


def _trained_again(
    folder: ConfiguredFolder[Any],
    config: EnsembleConfig,
    devices: int | None,
    executor: str,
    recording: Recording | None,
) -> Any:
    """A run of some members, of the kind that a folder holds."""
    with trained_as_recorded(folder.location):
        if folder.of_scenarios:
            return run_scenario(config, devices=devices, executor=executor)
        return run_ensemble(config, devices=devices, executor=executor, recording=recording)


def _groups(folder: ConfiguredFolder[Any]) -> Iterator[tuple[int, Part, range]]:
    """Cell, part and ids of every group of stored members."""
    for cell, config in enumerate(folder.configs):
        for part in folder.parts(config):
            for begin in range(0, part.members, GROUP):
                yield cell, part, part.ids[begin : begin + GROUP]


def unequal_columns(stored: Mapping[str, Any], again: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Rows and columns that are not the same, bit for bit."""
    found = []
    for name, one in stored.items():
        other = again.get(name)
        if one is None or other is None:
            continue  # what only some runs record
        unequal = _bits(one) != _bits(np.asarray(other, one.dtype))
        rows = np.flatnonzero(unequal.reshape(len(one), -1).any(axis=1))
        found += [(row, name) for row in map(int, rows)]
    return found


def _differences(cell: str, kept: Any, unequal: Sequence[tuple[int, str]]) -> Iterator[Difference]:
    columns: dict[int, list[str]] = {}
    for row, name in unequal:
        columns.setdefault(row, []).append(name)
    for row, names in sorted(columns.items()):
        yield Difference(cell, int(kept.member[row]), tuple(names))


def _bits(values: np.ndarray) -> np.ndarray:
    """Floating-point numbers as their bits: -0 is not 0. A NaN is any other, of whose bits parts of old versions have several."""
    if values.dtype.kind != "f":
        return values
    return np.where(np.isnan(values), np.asarray(np.nan, values.dtype), values).view(f"u{values.dtype.itemsize}")
