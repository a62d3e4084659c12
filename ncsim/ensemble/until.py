"""A run that trains until a number of its report is precise enough, in the stages of `ncsim.statistics.stopping`.

Stages of less than a part stay in memory; longer ones are whole parts in the run folder. So a folder is what it would be had
the run been asked for as many members from the beginning.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from ncsim.config.ensemble import fingerprint
from ncsim.config.fields import shown
from ncsim.ensemble.job import Job
from ncsim.errors import ConfigError, NoRunError, StoreError, reason
from ncsim.formatting import counted, json_text, no_less
from ncsim.records.members import MemberRecords, concatenated
from ncsim.results import Run
from ncsim.statistics.stopping import Look, next_stage
from ncsim.statistics.until import Until
from ncsim.storage.files import Storage, open_storage
from ncsim.storage.parts import part_size
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.until_file import read_until, write_until
from ncsim.terminal import say

#: Trains all that a job asks for: into its folder, or in memory.
Training = Callable[[Job], Run]


def checked_until(until: Any, job: Job) -> Until:
    """What a run is to reach.

    Raises:
        ConfigError: it is nothing that this run can be asked for.
    """
    if not isinstance(until, str | Until):
        raise ConfigError(f"--until: {shown(until)}; allowed: a number and its precision, as 'P(S > 2) +- 0.002'")
    found = Until.parse(str(until))
    found.cells(job.configs)
    if job.shard is not None:
        found.refuse_shares("--shard")
    return found


def train_until(job: Job, until: Until, train: Training, look: Training) -> Run:
    """Train in stages until the number is precise enough, or there are as many members as the job asks for.

    Args:
        job: all of the run; its members are the most.
        until: what is to be reached.
        train: of a job with fewer members.
        look: the same in memory, without recording.

    Raises:
        As `ncsim.run_ensemble`.
    """
    return _Stages(job, until, train, look).run()


class _Stages:
    """The stages of one run."""

    def __init__(self, job: Job, until: Until, train: Training, look: Training) -> None:
        self.job, self.until, self.train, self.look = job, until, train, look
        self.cells = until.cells(job.configs)
        self.fingerprints = [fingerprint(job.configs[number]) for number in self.cells]
        self.first, self.most = job.configs[0].first_member, job.configs[0].members
        self.part = max(map(part_size, job.configs))
        self.held: list[MemberRecords] = []  # of the members that were looked at and that no folder has
        self.executors: Sequence[str] | None = None
        self.looks: list[Look] = []
        self.storage: Storage | None = None
        self.stored: Sequence[str] = ()  # the cells that are looked at, in the order of a stored run

    def run(self) -> Run:
        """All stages. Raises as `train_until`."""
        stored = self._stored_members()
        if stored and not self.job.resume:
            return self.train(self.job)  # says that there is a run
        self._take_up()
        while True:
            stage = next_stage(self.looks, self.until.precision, self.most, self.first, self.part)
            # No stored member is left out: a folder that has more is looked at with all that it has.
            stage = stage._replace(members=max(stage.members, stored))
            if stage.last:
                return self._ended(stage.members)
            whole = (self.first + stage.members) % self.part == 0 or stage.members == stored
            run = self._stored(stage.members) if self.storage and whole else self._in_memory(stage.members)
            self.looks.append(Look(stage.members, self._reach(run)))
            if self.job.progress is not None:
                say(self._words())

    def _stored_members(self) -> int:
        """How many members, from our first, a folder asks for that has this run."""
        if self.job.out is None:
            return 0
        self.storage = open_storage(self.job.out)
        try:
            stored = RunFolder.within(self.storage)
        except NoRunError:
            return 0
        RunFolder(self.storage, self.job.configs).check_same_run(stored)
        self.stored = [fingerprint(stored.configs[number]) for number in self.until.cells(stored.configs)]
        return int(stored.configs[0].member_ids[-1]) + 1 - self.first

    def _take_up(self) -> None:
        """Go on where the same rule was ended."""
        known = None if self.storage is None else read_until(self.storage, self.job.configs)
        if known is not None and known["until"] == str(self.until) and known["first_member"] == self.first:
            # The cells of a grid may be asked for in another order than they were looked at in. Earlier versions did not name them:
            # where no run is stored, such a file may be of any.
            order = known.get("fingerprints", self.stored)
            if set(order) != set(self.fingerprints):
                return
            places = [order.index(each) for each in self.fingerprints]
            for look in known["looks"]:
                reach = [math.inf if each is None else each for each in look["reach"]]
                self.looks.append(Look(look["members"], tuple(reach[place] for place in places)))

    def _job(self, members: int, seen: int = 0) -> Job:
        """Of the first members, without those that were seen."""
        first, left = self.first + seen, members - seen
        configs = [dataclasses.replace(config, members=left, first_member=first) for config in self.job.configs]
        return dataclasses.replace(self.job, configs=configs)

    def _in_memory(self, members: int) -> Run:
        """The run with so many members, of which those that are held are not trained again."""
        seen = self.held[0].size if self.held else 0
        if members > seen:
            more = self.look(dataclasses.replace(self._job(members, seen), recording=None))
            fresh = [more.records(cell) for cell in range(len(self.job.configs))]
            self.held = [concatenated(pair) for pair in zip(self.held, fresh, strict=True)] if self.held else fresh
            self.executors = more.executors
        return Run(self._job(members).configs, self.held, executors=self.executors, until=self._told(members))

    def _stored(self, members: int) -> Run:
        """The run with so many members in the folder. What is known is on record before any of them is trained."""
        assert self.storage is not None
        told = self._told(members)
        known = read_until(self.storage, self.job.configs) or {}
        if "stopped" in known:  # an earlier version did not name the cells, and how many members it asked for
            known = {"fingerprints": self.stored, "asked": known["members"]} | known
        if known != told:  # a folder that is complete may be one that cannot be written to
            try:
                self.storage.prepare()
            except OSError as error:
                raise StoreError(f"{self.storage.location}: cannot be written to ({reason(error)})") from None
            write_until(self.storage, told)
        run = self.train(dataclasses.replace(self._job(members), held=self.held))
        self.job, self.held = dataclasses.replace(self.job, resume=True), []
        return run

    def _ended(self, members: int) -> Run:
        """The run with all its members."""
        if self.storage is not None:
            return self._stored(members)
        if self.job.recording is None:
            return self._in_memory(members)
        run = self.train(self._job(members))
        run._until = self._told(members)
        return run

    def _told(self, members: int) -> dict[str, Any]:
        """What until.json says before so many members are trained."""
        told: dict[str, Any] = {
            "until": str(self.until),
            "first_member": self.first,
            "at_most": self.most,
            "asked": members,
            "fingerprints": self.fingerprints,  # of the cells that are looked at, in the order of each reach
            "looks": [look._asdict() for look in self.looks],
        }
        if next_stage(self.looks, self.until.precision, self.most, self.first, self.part).last:
            enough = self.looks[-1].needed(self.until.precision) <= members
            told |= {"members": members, "stopped": "precise" if enough else "members"}
            told |= {"cells": self.cells, "reach": self.looks[-1].reach_at(members)}
        return json.loads(json_text(told))  # as it is read again

    def _reach(self, run: Run) -> tuple[float, ...]:
        found = [self.until.estimate(run._cell(number)) for number in self.cells]
        return tuple(math.inf if e is None else max(e.high - e.value, e.value - e.low) for e in found)

    def _words(self) -> str:
        """What the last look has shown."""
        seen = self.looks[-1]
        need = seen.needed(self.until.precision)
        least = f"about {need:,} are needed" if need < 2**62 else "more than any run has are needed"
        least = least if math.isfinite(max(seen.reach)) else "no number yet"
        return f"{self.until}: +- {no_less(max(seen.reach))} after {counted(seen.members, 'member')}; {least}"
