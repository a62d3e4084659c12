"""Whether a run folder holds what was computed, bit for bit, and putting right what it does not.

Every file is read whole: its checksum, what it says it is, and whether its counts add up. Nothing is deleted: what is
wrong is moved into `rejected/`, and the members that it was to hold are trained again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import NoRunError, StoreError, reason
from ncsim.formatting import counted
from ncsim.storage.checksums import TORN
from ncsim.storage.config_file import CONFIG, CONFIG_COPY
from ncsim.storage.files import LocalStorage, Storage, discard_unfinished, open_storage, reading, unfinished_files
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import Part, gaps
from ncsim.storage.scenario_folder import any_folder
from ncsim.storage.summaries import torn_summaries
from ncsim.storage.trajectory_folder import FOLDER, RECORDING, TrajectoryFolder
from ncsim.storage.until_file import UNTIL, torn_until

REJECTED = "rejected"


class Finding(NamedTuple):
    """A file of a run folder that is wrong."""

    name: str  # relative to the run folder
    problem: str  # what is said of it: "is torn (...)", "is of another config", ...


class Gap(NamedTuple):
    """Members of a cell that no whole part holds."""

    cell: str  # the folder of its parts
    members: range

    @property
    def what(self) -> str:
        """What is missing, in words."""
        return f"members {self.members[0]} to {self.members[-1]}"


@dataclasses.dataclass(frozen=True)
class Found:
    """What the folder of a run of any kind holds."""

    folder: Any  # None where neither config.json nor its copy can be read
    findings: list[Finding]
    missing: Sequence[Any]  # with the `cell` that lacks something, and `what` in words

    @property
    def right(self) -> bool:
        """Whether everything is there, as it was written, and nothing else."""
        return not self.findings and not self.missing

    def wrong(self) -> list[str]:
        """A line for each thing that is wrong."""
        lines = [f"{finding.name}: {finding.problem}" for finding in self.findings]
        return lines + [f"{gap.cell}: {gap.what} are missing" for gap in self.missing]

    def ended(self, whole: str) -> str:
        """The line on what is whole."""
        return f"{whole}: whole; nothing is missing or wrong" if self.right else f"{whole}: whole"


@dataclasses.dataclass(frozen=True)
class Verification(Found):
    """What a run folder holds."""

    parts: int  # that are whole
    members: int  # that they hold
    unsealed: int  # parts that are whole as far as can be seen: of an old version, without a checksum
    leftovers: int  # files that a killed worker had begun; nobody reads them
    recorded: int = 0  # parts of trajectories that are whole

    def lines(self) -> list[str]:
        """The result in words, a line for each thing that is wrong."""
        lines = self.wrong()
        if self.unsealed:
            lines.append(
                f"{counted(self.unsealed, 'part')} without a checksum, of an old version: as far as can be seen, whole"
            )
        if self.leftovers:
            files = counted(self.leftovers, "file was", "files were")
            lines.append(
                f"{files} begun by a worker that was killed; nothing reads {'it' if self.leftovers == 1 else 'them'}"
            )
        if self.folder is not None:
            recorded = f" and {counted(self.recorded, 'part')} of trajectories" if self.recorded else ""
            lines.append(self.ended(f"{counted(self.parts, 'part')} with {counted(self.members, 'member')}{recorded}"))
        return lines


def verify(path: str | os.PathLike[str]) -> Verification:
    """Read all of a run folder and say what it holds.

    Raises:
        StoreError: no run is there, or the folder cannot be read.
    """
    storage = open_storage(path)
    try:
        folder, findings = described_by(storage, any_folder)
        if folder is None:
            return Verification(None, findings, [], 0, 0, 0, 0)
        trajectories = TrajectoryFolder(folder)
        # In this order: what a worker stores between the two looks is ours.
        there = [name for top in ("parts", FOLDER) for name in storage.names(top)]
        ours = {n for parts in (folder, trajectories) for config in folder.configs for n in parts.part_names(config)}
        others = [name for name in there if name not in ours]
        leftovers = len(unfinished_files(storage))
        # What begins so is a system's own, as .nfs0001 or _SUCCESS, and readers of Parquet pass it by.
        strange = [name for name in others if not name.rpartition("/")[2].startswith((".", "_"))]
        findings += [Finding(name, "is not a part of this run") for name in strange]
        findings += [Finding(name, TORN) for name in torn_summaries(storage) + torn_until(storage)]
        findings += [Finding(name, "is a folder") for name in (RECORDING, UNTIL) if _is_folder(storage, name)]
        missing, unsealed, sealed_along = [], 0, 0
        whole: dict[str, list[Part]] = {"parts": [], FOLDER: []}
        kinds = (folder, trajectories) if _records(storage, trajectories, findings) else (folder,)
        for config in folder.configs:
            for parts in kinds:
                used, without = _whole_parts(parts, config, findings)
                whole[parts.kind.folder] += used
                unsealed += without
                sealed_along += len(used) - without if parts is trajectories else 0
                missing += [Gap(parts.cell_name(config), gap) for gap in gaps(config, used)]
        # It is written before all parts that it is of. An old version, whose parts had no checksums, wrote none.
        if sealed_along > 0 and not storage.exists(RECORDING) and not _is_folder(storage, RECORDING):
            findings.append(Finding(RECORDING, "is missing"))
    except OSError as error:
        raise StoreError(f"{storage.location}: cannot be read ({reason(error)})") from None
    members, recorded = sum(part.members for part in whole["parts"]), len(whole[FOLDER])
    return Verification(folder, sorted(findings), missing, len(whole["parts"]), members, unsealed, leftovers, recorded)


def repair(
    path: str | os.PathLike[str],
    train: Callable[[Sequence[Any]], Any],
    say: Callable[[str], None] = print,
    look: Callable[[str | os.PathLike[str]], Any] = verify,
) -> Any:
    """Move what is wrong into `rejected/`, put config.json or its copy back from the other, and train what is missing.

    Args:
        path: the run folder.
        train: trains what a folder of these configs lacks, by the executor on record (`ncsim.run_ensemble`).
        say: told what is done, a line each.
        look: reads all of a folder, as `verify` does.

    Returns:
        What is found afterwards, as `look` gives it.

    Raises:
        StoreError: neither config.json nor its copy can be read, or something cannot be moved or written.
    """
    found = look(path)
    storage = open_storage(path)
    if found.folder is None:
        raise StoreError(
            f"{storage.location}: {'; '.join(f'{name} {problem}' for name, problem in found.findings)}: what the parts are of cannot be "
            f"known; allowed: put a {CONFIG} back that is whole"
        )
    try:
        with found.folder.exclusive():
            if isinstance(storage, LocalStorage):
                discard_unfinished(storage)
            for finding in found.findings:
                if storage.exists(finding.name) or _is_folder(storage, finding.name):
                    to = _free_name(storage, f"{REJECTED}/{finding.name}")
                    storage.move(finding.name, to)
                    say(f"{finding.name}: {finding.problem}; moved to {to}")
            for name, other in ((CONFIG, CONFIG_COPY), (CONFIG_COPY, CONFIG)):
                if name in (finding.name for finding in found.findings):
                    storage.write(name, storage.read(other))
                    say(f"{name}: put back from {other}")
        missing = found.missing
        if RECORDING in (finding.name for finding in found.findings):
            if TrajectoryFolder(found.folder).restore_description():
                say(f"{RECORDING}: put back from the parts of trajectories")
            else:
                say(f"{RECORDING}: no part says what was recorded; to record again, give the same command again")
                missing = [gap for gap in missing if gap.cell.partition("/")[0] != FOLDER]
    except OSError as error:
        raise StoreError(
            f"{storage.location}: cannot be repaired ({reason(error)}); what was moved is in {REJECTED}/"
        ) from None
    for gap in missing:
        say(f"{gap.cell}: training {gap.what}")
    if missing:
        train(found.folder.configs)
    return look(path)


def _is_folder(storage: Storage, name: str) -> bool:
    """Whether a folder with files has the place of a file of this machine. An object store has no folders."""
    return isinstance(storage, LocalStorage) and bool(storage.names(name)) and not storage.exists(name)


_Folder = TypeVar("_Folder", bound=Any)


def described_by(storage: Storage, within: Callable[[Storage, str], _Folder]) -> tuple[_Folder | None, list[Finding]]:
    """The run, from config.json or else from its copy, as `within` reads them, and what is wrong with the two."""
    folders: dict[str, _Folder] = {}
    findings = []
    for name in (CONFIG, CONFIG_COPY):
        if not storage.exists(name):
            findings.append(Finding(name, "is a folder" if _is_folder(storage, name) else "is missing"))
            continue
        with reading(storage, name):
            storage.read(name)
        try:
            folders[name] = within(storage, name)
        except StoreError as error:
            findings.append(Finding(name, error.problem))
    if not folders and not any(storage.exists(name) for name in (CONFIG, CONFIG_COPY)):
        raise NoRunError(f"no run is stored there (no {CONFIG})", storage.location)
    if len(folders) == 2 and storage.read(CONFIG) != storage.read(CONFIG_COPY):
        # A worker was killed between the two: the first is written first.
        findings.append(Finding(CONFIG_COPY, f"is not the same as {CONFIG}"))
    if CONFIG in folders and CONFIG_COPY not in folders and not folders[CONFIG].sealed:
        findings = []  # an old version wrote one, without a checksum
    return folders.get(CONFIG) or folders.get(CONFIG_COPY), findings


def _records(storage: Storage, trajectories: TrajectoryFolder, findings: list[Finding]) -> bool:
    """Whether the run records along training; what is wrong with its recording.json is added to the findings. Raises StoreError where
    it cannot be read now."""
    if storage.exists(RECORDING):
        with reading(storage, RECORDING):
            storage.read(RECORDING)
    try:
        return trajectories.recording() is not None or bool(storage.names(FOLDER))
    except StoreError as error:
        findings.append(Finding(RECORDING, error.problem))
        return True


def _whole_parts(folder: PartFolder[Any], config: EnsembleConfig, findings: list[Finding]) -> tuple[list[Part], int]:
    """A cell's parts that can be used, by first member, and how many of them have no checksum; what is wrong with others
    is added to the findings."""
    whole, unsealed = [], 0
    for name in folder.part_names(config):
        try:
            records, sealed = folder.checked_part(config, name)
        except StoreError as error:
            findings.append(Finding(name, error.problem))
            continue
        whole.append(Part(name, int(records.member[0]), len(records.member)))
        unsealed += not sealed
    used: list[Part] = []
    for part in sorted(whole, key=lambda part: (part.first, -part.members)):
        if used and part.first < used[-1].ids.stop:
            findings.append(Finding(part.name, f"overlaps {used[-1].name.rpartition('/')[2]}"))
        else:
            used.append(part)
    return used, unsealed


def _free_name(storage: Storage, name: str) -> str:
    free, number = name, 1
    while storage.exists(free) or _is_folder(storage, free):
        number += 1
        free = f"{name}.{number}"
    return free
