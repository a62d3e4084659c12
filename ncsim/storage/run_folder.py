"""The run folder: what a run is, the parts it has so far, and nothing that is torn, foreign or half-written.

    runs/figure2/
      config.json  config-copy.json                 every field of every cell, versions, platform, source revision; twice
      parts/hidden-3/members-0000000000-16384.parquet   first id and number of members; a folder per cell of a grid
      recording.json  trajectories/                 of members recorded along training (`trajectory_folder.py`)
      until.json                                    of a run with --until: what was to be reached, and was (`until_file.py`)
      summaries/                                    what each part adds up to, for reports (`summaries.py`); sealed
      rejected/                                     what `ncsim report --repair` moved out of the way
      summary.json  report.html  figures/           made from the parts, and made again at any time

Every file is there whole or not at all (`files.py`), and config.json and the parts hold checksums of themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from ncsim.config.ensemble import EnsembleConfig, fingerprint, from_dict, to_dict
from ncsim.config.fields import spelled_one_or_all
from ncsim.config.scenarios import ScenarioTasks
from ncsim.errors import NoRunError, StoreError, one_line, reason, report_command
from ncsim.records.members import MemberRecords
from ncsim.statistics.tally import Tally
from ncsim.storage.config_change import change_description, copy_description
from ncsim.storage.config_file import CONFIG, CONFIG_COPY, FORMAT, described, description
from ncsim.storage.environment import differences, environment
from ncsim.storage.files import LocalStorage, Storage, open_storage
from ncsim.storage.lock import hold
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import MEMBERS, Kept, footer_digest
from ncsim.storage.summaries import summary_name, write_summary

#: How often, and how long after one another, more members are asked for where shards are beginning at the same time.
ATTEMPTS_TO_EXTEND, SECONDS_BETWEEN_ATTEMPTS = 10, 0.2
#: Files by which workers of an earlier version shared out the parts.
CLAIM = re.compile(r"claims/(.+/)?members-\d+-\d+\.parquet\.json")


class ConfiguredFolder(PartFolder[Kept]):
    """A run folder with its config.json, on a disk or in an object store. Use `create` to write to it, `open` to read it."""

    #: Whether its members are of scenarios.
    of_scenarios = False

    @property
    def sealed(self) -> bool:
        """Whether config.json has a checksum, which an old version did not write."""
        return self.form != 1

    @property
    def path(self) -> Path:
        """The folder on this machine.

        Raises:
            StoreError: it is in an object store.
        """
        if not isinstance(self.storage, LocalStorage):
            raise StoreError(f"{self.location}: is in an object store; allowed here: a local folder")
        return self.storage.root

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """A run folder that exists.

        Raises:
            StoreError: no run is there, or its config.json does not read as one.
        """
        return cls.within(open_storage(path))

    @classmethod
    def within(cls, storage: Storage, name: str = CONFIG) -> Self:
        """The run that a storage holds, as its config.json or the copy of it says. Raises as `open`."""
        try:
            stored = description(storage.read(name))
            if stored.get("kind") == "text":
                raise StoreError(
                    "holds a text run", storage.location, "ncsim.text.open_text_run and `ncsim report` read it"
                )
            configs = [from_dict(cell) for cell in stored["cells"]]
            if not configs:
                raise ValueError("it has no cells")
            cls._check_kind(configs[0], storage)
            return cls(storage, configs, stored["format"])
        except (FileNotFoundError, NotADirectoryError):
            raise NoRunError(
                f"no run is stored there (no {name})", storage.location, from_copy(storage, name)
            ) from None
        except OSError as error:
            remedy = from_copy(storage, name) if isinstance(error, IsADirectoryError) else ""
            raise StoreError(f"cannot be read ({reason(error)})", f"{storage.location}/{name}", remedy) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problem = f"does not describe a run ({one_line(error)})"
            raise StoreError(problem, f"{storage.location}/{name}", from_copy(storage, name)) from None

    @classmethod
    def _check_kind(cls, config: EnsembleConfig, storage: Storage) -> None:
        """Raise StoreError where a run is of another kind than this folder is for."""
        if isinstance(config.tasks, ScenarioTasks) != cls.of_scenarios:
            words = (
                ("holds an ensemble", "ncsim.open_run")
                if cls.of_scenarios
                else ("holds a scenario", "ncsim.open_scenario")
            )
            raise StoreError(words[0], storage.location, f"{words[1]} and `ncsim report` read it")

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        configs: Sequence[EnsembleConfig],
        resume: bool = True,
        training: Callable[[], dict[str, Any]] | None = None,
    ) -> Self:
        """The folder for these configs: made, or taken up again where it holds the same run. `training` says what trains,
        for the environment on record; it is asked only for a new run.

        The same run is one whose cells differ from these in `members` at most, and which has no member that these
        leave out: asking for more members extends a run.

        Raises:
            StoreError: the folder holds another run, or cannot be written to.
        """
        folder = cls(open_storage(path), configs)
        try:
            folder.storage.prepare()
            if folder.storage.exists(CONFIG):
                if not resume:
                    raise StoreError(f"{folder.location}: holds a run already; allowed with resume off: a new folder")
                folder._take_up(cls.within(folder.storage))
            else:
                check_no_run(folder.storage)
            folder._write_config(training)
        except OSError as error:
            raise StoreError(f"{folder.location}: cannot be written to ({reason(error)})") from None
        return folder

    def _take_up(self, stored: Self) -> None:
        """Go on with a run in its own format. Raises StoreError where it is another one."""
        self.check_same_run(stored)
        self.form = stored.form

    def check_same_run(self, stored: Self) -> None:
        """Raise StoreError where a stored run is another one than this, or has members that this leaves out."""
        ours, theirs = ({fingerprint(config): config for config in folder.configs} for folder in (self, stored))
        if set(ours) != set(theirs):
            difference = _first_difference(self.configs, stored.configs)
            raise StoreError(
                f"{self.location}: holds another config's run ({difference}); allowed: its own, or a new folder"
            )
        for key, config in ours.items():
            held = theirs[key]
            if held.first_member < config.first_member or held.member_ids[-1] > config.member_ids[-1]:
                raise StoreError(
                    f"{self.location}: holds members {held.first_member} to {held.member_ids[-1]}, and "
                    f"{config.first_member} to {config.member_ids[-1]} would leave some out; "
                    "allowed: at least those, or a new folder"
                )

    def _write_config(self, training: Callable[[], dict[str, Any]] | None) -> None:
        """Both descriptions, as the config asks; a run that is resumed keeps on record what it was started with."""
        cells = json.loads(json.dumps([to_dict(config) for config in self.configs]))
        if self.storage.exists(CONFIG):
            self._extend(cells)
        else:
            record = environment() | (training() if training else {"device": "unknown"})
            content = described({"format": FORMAT, "swept": self.swept, "cells": cells, "environment": record})
            if not self.storage.create(CONFIG, content):  # another worker began the run just now
                self._take_up(type(self).within(self.storage))
        copy_description(self.storage)

    def _extend(self, cells: list[Any]) -> None:
        """Describe more members where more are asked for: beside no writer on this file system, whose last parts would overlap with
        those of more members. Shards that begin at once find that one has done it."""
        for attempt in range(ATTEMPTS_TO_EXTEND):
            held = self.storage.read(CONFIG)
            if {from_dict(cell) for cell in json.loads(held)["cells"]} == set(self.configs):
                return  # in whatever order the run was begun with
            if attempt:  # another process may have changed it meanwhile
                self.check_same_run(type(self).within(self.storage))
                time.sleep(SECONDS_BETWEEN_ATTEMPTS)
            try:
                with self.exclusive():
                    content = described(json.loads(held) | {"swept": self.swept, "cells": cells})
                    if self.storage.exchange(CONFIG, held, content):
                        return
            except StoreError:
                if attempt == ATTEMPTS_TO_EXTEND - 1:
                    raise
        raise StoreError(f"is written to by others all the time ({ATTEMPTS_TO_EXTEND} attempts)", self.location)

    def note_environment(self, record: dict[str, Any]) -> None:
        """Put on record that the run goes on in another environment than the last one, which made no member that was not
        missing then: [first, number] of these, by fingerprint of their cell.

        Raises:
            StoreError: config.json cannot be written.
        """
        missing = {
            fingerprint(config): [[gap.start, len(gap)] for gap in self.missing(config)] for config in self.configs
        }
        missing = {cell: gaps for cell, gaps in missing.items() if gaps}
        if not missing:
            return

        def noted(stored: dict[str, Any]) -> bytes | None:
            later: list[Any] = list(stored.get("later", ()))
            if stored["format"] == 1:  # has no place for it
                return None
            if later and not differences(record, later[-1]["environment"]):
                return None  # another shard of this kind has put it on record just now
            return described(stored | {"later": [*later, {"environment": record, "members": missing}]})

        change_description(self.storage, noted)

    # -- writers ------------------------------------------------------------------------------------------------

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Hold a local folder against any other writer. The operating system lets go of it when the process ends. Nothing
        holds an object store.

        Raises:
            StoreError: another process is writing to it, or it cannot be written to.
        """
        return hold(self.path) if isinstance(self.storage, LocalStorage) else contextlib.nullcontext()

    def shared(self) -> contextlib.AbstractContextManager[None]:
        """Write beside other shards, and not beside a process that holds the folder for itself.

        Raises:
            StoreError: a process of this machine holds the folder for itself, or it cannot be written to.
        """
        local = isinstance(self.storage, LocalStorage)
        return hold(self.path, exclusively=False) if local else contextlib.nullcontext()

    def discard_claims(self) -> None:
        """Remove the files by which workers of an earlier version shared out the parts. Nothing reads them. A folder `claims` of the
        user's, where they run in a folder of their own, stays.

        Raises:
            StoreError: one cannot be removed.
        """
        try:
            claims = list(filter(CLAIM.fullmatch, self.storage.names("claims")))
            for name in claims:
                self.storage.remove(name)
        except OSError as error:
            raise StoreError(f"{self.location}: cannot be written to ({reason(error)})") from None
        if claims and isinstance(self.storage, LocalStorage):
            for folder, *_ in os.walk(self.path / "claims", topdown=False):
                with contextlib.suppress(OSError):  # it holds something else
                    os.rmdir(folder)


class RunFolder(ConfiguredFolder[MemberRecords]):
    """The run folder of an ensemble: contexts are four, parties two."""

    kind = MEMBERS

    def note_stored(self, config: EnsembleConfig, kept: MemberRecords, name: str, content: memoryview) -> None:
        """Store what the members of a part add up to, beside it."""
        tally = Tally(config.tasks.rows)
        with contextlib.suppress(ValueError):  # records that no training gives: a report says what is wrong with them
            tally.add(kept)
            write_summary(self.storage, summary_name(name), footer_digest(content), tally)


def run_kind(path: str | os.PathLike[str]) -> str | None:
    """What kind of run a folder holds, "ensemble", "scenario" or "text"; None where that cannot be read."""
    try:
        storage = open_storage(path)
    except StoreError:
        return None
    for name in (CONFIG, CONFIG_COPY):
        with contextlib.suppress(OSError, ValueError):
            stored = json.loads(storage.read(name).decode())
            if isinstance(stored, dict):
                return "scenario" if of_scenario(stored) else str(stored.get("kind", "ensemble"))
    return None


def of_scenario(stored: dict[str, Any]) -> bool:
    """Whether a description is of a scenario."""
    try:
        return "contexts" in stored["cells"][0]["tasks"]
    except (KeyError, IndexError, TypeError):
        return False


def from_copy(storage: Storage, name: str) -> str:
    """What puts config.json right where its copy is there; "" where that is not there, is what is wrong, or says the same, as both of
    a run that a newer version began do."""
    with contextlib.suppress(OSError):
        if name == CONFIG and storage.exists(CONFIG_COPY):
            with contextlib.suppress(OSError):
                if storage.read(CONFIG) == storage.read(CONFIG_COPY):
                    return ""
            return f"`{report_command('--repair', storage.location)}` puts its copy there"
    return ""


def check_no_run(storage: Storage) -> None:
    """Raise StoreError where a folder without config.json has of a run what a new one would take for its own, or write over. Raises
    OSError."""
    if (remedy := from_copy(storage, CONFIG)) and not storage.exists(CONFIG):
        # Asked again: a worker that begins the run just now writes the copy second.
        raise StoreError(f"has a run's {CONFIG_COPY} but no {CONFIG}", storage.location, remedy)
    if any(name.endswith(".parquet") for name in storage.names("parts")) and not storage.exists(CONFIG):
        raise StoreError(f"has parts but no {CONFIG}, so what they are of cannot be known", storage.location)


def _first_difference(ours: Sequence[EnsembleConfig], theirs: Sequence[EnsembleConfig]) -> str:
    """One field in which two runs differ, in words."""
    for name in to_dict(ours[0]):
        if name in ("members", "first_member"):
            continue
        here, there = (list(dict.fromkeys(getattr(c, name) for c in configs)) for configs in (ours, theirs))
        if set(here) != set(there):  # in whatever order grids have them
            if name == "tasks" and [each.name for each in here] == [each.name for each in there]:
                return f"its tasks have other tables, under the same name {here[0].name}"
            shown = (values[0].name if name == "tasks" else spelled_one_or_all(values) for values in (there, here))
            return "{} is {} there, {} here".format(name, *shown)
    return "its grid has other cells"
