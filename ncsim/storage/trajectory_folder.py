"""What a run recorded along training, stored: parts of their own beside the members' parts.

    runs/figure4/
      recording.json                                          at which steps, and what; sealed
      trajectories/hidden-3/members-0000000000-4096.parquet   a row for every member and recorded step; sealed

A part is written whole or not at all, once all its members are trained and before the members' own part is: members
that no part holds have no trajectory that counts. Parts are cut where the members' parts are, and once more at the
multiples of a number that the config and the recording give, so that a few tens of megabytes are held at a time.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.errors import ConfigError, StoreError, one_line, reason, report_command
from ncsim.records.members import MemberRecords
from ncsim.records.members import concatenated as concatenated_records
from ncsim.records.trajectories import MemberTrajectories, concatenated
from ncsim.statistics.trajectory_tally import TrajectoryTally, places_of
from ncsim.storage.checksums import is_whole, sealed_json
from ncsim.storage.files import Storage
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import (
    TRAJECTORIES,
    Part,
    Stamp,
    cut,
    footer_digest,
    gaps_between,
    ids_of,
    trajectory_part_size,
)
from ncsim.storage.run_folder import ConfiguredFolder
from ncsim.storage.summaries import Place, digest_of, in_turn, kept_cell, kept_or_made, summary_name, write_summary
from ncsim.storage.writer import Background
from ncsim.terminal import say

FOLDER, RECORDING = TRAJECTORIES.folder, "recording.json"
#: Recorded steps up to which sums of parts are kept: of more, a part has so few members that it is not larger than its sums.
MOST_SUMMED = 2_048


class _Group(NamedTuple):
    """Of a part of members: their ids, and the parts of trajectories that begin among them, with what they say of themselves."""

    ids: range
    parts: list[tuple[Part, Stamp]]

    @property
    def members(self) -> int:
        """How many have one."""
        return sum(part.members for part, _ in self.parts)

    @property
    def places(self) -> list[Place]:
        """The parts as summaries know them."""
        return [(part.name, stamp["footer"], part.members) for part, stamp in self.parts]


class Recorded(NamedTuple):
    """What a cell's trajectories add up to, and how many members that are held have none."""

    tally: TrajectoryTally
    without: int


class _Together:
    """What parts of trajectories add up to, one after the other, for the summary of this name."""

    def __init__(self, config: EnsembleConfig, name: str, windows: Sequence[tuple[int, int]] = ()) -> None:
        self._rows, self._name, self._windows = config.tasks.rows, name, windows
        self._places: list[Place] = []
        self.tally: TrajectoryTally | None = None

    def add(self, trajectories: MemberTrajectories, place: Place) -> None:
        """Add a part. Raises ValueError as `TrajectoryTally.merge` and `add`."""
        if self.tally is None:
            self.tally = TrajectoryTally.like(trajectories, self._rows, self._windows)
        self.tally.add(trajectories)
        self._places.append(place)

    def write(self, storage: Storage) -> None:
        """Store the summary, unless it would be larger than what it is of."""
        if self.tally is not None and len(self.tally.step) <= MOST_SUMMED:
            write_summary(storage, self._name, digest_of(self._places), self.tally)


class TrajectoryFolder(PartFolder[MemberTrajectories]):
    """The trajectories of a run folder."""

    kind = TRAJECTORIES

    def __init__(self, folder: ConfiguredFolder[Any]) -> None:
        super().__init__(folder.storage, folder.configs, folder.form)
        self._folder = folder
        self._adding: _Together | None = None  # what is stored now, to be added up

    # -- what is recorded ---------------------------------------------------------------------------------------

    def recording(self) -> Recording | None:
        """What the run records; None where it does not.

        Raises:
            StoreError: that cannot be read, or parts differ in it.
        """
        stored = self._stored_recording()
        if stored is not None:
            return stored[0]
        with self.naming(FOLDER):
            if not self.storage.names(FOLDER):
                return None
        found = {stamp["recording"] for _, stamp in self._all_stamped()}
        if len(found) > 1:
            words = " and ".join(sorted(json.dumps(recording.to_dict()) for recording in found))
            raise StoreError(f"{self.location}/{FOLDER}: its parts are of several recordings: {words}")
        return next(iter(found), None)

    def check(self, recording: Recording, observed: tuple[str, ...]) -> None:
        """Put on record what is recorded here, and refuse to go on with anything else than the folder has.

        Raises:
            StoreError: other steps or other numbers are recorded there, or that cannot be read or written.
        """
        there = self.recording()
        if there is None or not self.storage.exists(RECORDING):
            try:
                self.storage.create(RECORDING, _described(there or recording, observed))
            except OSError as error:
                raise StoreError(f"{self.location}/{RECORDING}: cannot be written ({reason(error)})") from None
            there = self.recording()  # another worker's, where one was faster
        if there != recording:
            self.refuse(there, recording)
        place = f"{self.location}/{FOLDER}"
        stored = self._stored_recording()
        if stored is not None and stored[1] != observed:
            raise StoreError(f"{place}: records {', '.join(stored[1])}, not {', '.join(observed)}")
        for part, stamp in self._all_stamped():
            if (stamp["recording"], stamp["observed"]) != (recording, observed):
                with self.naming(part.name):
                    raise StoreError("is of another recording")

    def refuse(self, there: Recording | None, asked: Recording | None) -> NoReturn:
        """Raise the StoreError of a run that records at other steps than are asked for."""
        place = f"{self.location}/{FOLDER}"
        words = [each.options() if each else "no recording" for each in (there, asked)]
        raise StoreError(f"{place}: has {words[0]}, and {words[1]} is asked for; allowed: its own")

    def restore_description(self) -> bool:
        """Write recording.json anew, as the parts say; False where none says it. Raises as `recording`, and OSError."""
        found = next(self._all_stamped(), None)
        if found is None:
            return False
        recording = self.recording()
        if recording is not None:
            self.storage.write(RECORDING, _described(recording, found[1]["observed"]))
        return recording is not None

    def _stored_recording(self) -> tuple[Recording, tuple[str, ...]] | None:
        """The recording and the names of what is observed, as recording.json says."""
        with self.naming(RECORDING):
            if not self.storage.exists(RECORDING):
                return None
            content = self.storage.read(RECORDING)
            try:
                if not is_whole(content):
                    raise ValueError("its checksum is not that of its content")
                stored = json.loads(content)
                return Recording.stored(stored["recording"]), tuple(map(str, stored["observed"]))
            except (ValueError, KeyError, TypeError, ConfigError) as error:
                raise StoreError(f"is torn ({one_line(error)})") from None

    # -- parts --------------------------------------------------------------------------------------------------

    def discard(self, missing: Iterable[tuple[int, range]]) -> None:
        """Remove trajectories of members which no part holds: of a writer that was ended before it stored them, perhaps with other
        members beside them. A cell is listed once, however many parts it lacks.

        Args:
            missing: numbers of cells, each with ids.

        Raises:
            StoreError: they cannot be removed.
        """
        by_cell: dict[int, list[range]] = {}
        for cell, ids in sorted(missing, key=lambda each: (each[0], each[1].start)):
            by_cell.setdefault(cell, []).append(ids)
        for cell, lacking in by_cell.items():
            config = self.configs[cell]
            stops = [ids.stop for ids in lacking]
            with self.naming(self.cell_name(config)):
                for name in self.part_names(config):
                    there = ids_of(name)
                    after = bisect.bisect_right(stops, there.start)
                    if after < len(stops) and lacking[after].start < there.stop:
                        self.storage.remove(name)

    def stored(
        self,
        config: EnsembleConfig,
        recording: Recording,
        batches: Iterable[tuple[MemberRecords, MemberTrajectories]],
        writing: Background,
        members: range | None = None,
    ) -> Iterator[MemberRecords]:
        """The records of consecutive members, batch by batch, while their trajectories are stored, part by part. If these are the
        `members` of a part of members, what they add up to is stored, too."""
        self._adding = None if members is None else _Together(config, self._summary_name(config, members))
        waiting: list[MemberTrajectories] = []

        def store() -> None:
            whole = concatenated(waiting)
            waiting.clear()
            writing.do(functools.partial(self.write_recorded, config, whole, recording))

        for records, trajectories in batches:
            size, first = trajectory_part_size(trajectories.step.size), int(trajectories.member[0])
            # A part ends at the next multiple of the size, however the batches fall.
            for ids in cut(range(first, first + len(trajectories.member)), size):
                waiting.append(trajectories.take(slice(ids.start - first, ids.stop - first)))
                if ids.stop % size == 0:
                    store()
            yield records
        if waiting:
            store()
        if self._adding is not None:
            writing.do(functools.partial(self._adding.write, self.storage))

    def agreeing(
        self,
        config: EnsembleConfig,
        parts: Sequence[Part],
        batches: Iterable[tuple[MemberRecords, MemberTrajectories]],
    ) -> Iterator[tuple[MemberRecords, MemberTrajectories]]:
        """The batches as they are, of members that the run folder holds already, in these parts of the cell, and that are
        trained again to be recorded.

        Raises:
            StoreError: a member does not come out as it is stored.
        """
        for records, trajectories in batches:
            first, last = int(records.member[0]), int(records.member[-1])
            held = concatenated_records(self._folder.of_members(config, parts, range(first, last + 1)))
            if not np.array_equal(held.counts, records.counts):
                raise StoreError(
                    f"{self.location}: members {first} to {last} do not come out as they are stored, so what is "
                    "recorded now would not be theirs (another machine or version?); allowed: a new folder"
                )
            yield records, trajectories

    def write_recorded(self, config: EnsembleConfig, trajectories: MemberTrajectories, recording: Recording) -> str:
        """Store trajectories of members with consecutive ids as one part, and give its name.

        Raises:
            StoreError: it cannot be written; what was stored before it is whole.
        """
        stamp = {"steps": trajectories.step.tolist(), "observed": list(trajectories.values)}
        return self.write_part(config, trajectories, recording=recording.to_dict(), **stamp)

    # -- what counts ---------------------------------------------------------------------------------------------

    def counted(self, config: EnsembleConfig) -> tuple[list[_Group], int]:
        """The parts of members that the run folder holds, and how many members it holds that have none; none and 0 without
        trajectories. Raises as `parts`."""
        # In this order: what is stored between the two looks has its trajectories before it is held.
        held = self._folder.parts(config) if self.part_names(config) else []
        there = self.stamped(config)
        starts = [part.first for part in held]
        found: dict[int, _Group] = {}
        for each in there:
            ids = each[0].ids
            # Members that were stored before they were recorded may have other parts than their trajectories.
            first, stop = max(bisect.bisect(starts, ids.start) - 1, 0), bisect.bisect_left(starts, ids.stop)
            if not gaps_between(ids, held[first:stop]):
                found.setdefault(first, _Group(held[first].ids, [])).parts.append(each)
        groups = list(found.values())
        return groups, sum(part.members for part in held) - sum(each.members for each in groups)

    def read(self, config: EnsembleConfig) -> Iterator[MemberTrajectories]:
        """The trajectories of members that the run folder holds, part by part, in the order of their ids. Raises as `parts`."""
        for group in self.counted(config)[0]:
            for part, _ in group.parts:
                yield self.read_part(config, part.name)

    # -- what they add up to -------------------------------------------------------------------------------------

    def note_stored(self, config: EnsembleConfig, kept: MemberTrajectories, name: str, content: memoryview) -> None:
        """Add up what is stored of one part of members, to be stored beside it. With a summary for each part of trajectories they would
        take a tenth of the time that storing takes."""
        if self._adding is not None:
            self._adding.add(kept, (name, footer_digest(content), len(kept.member)))

    def without(self, configs: Iterable[EnsembleConfig]) -> int:
        """How many members of these cells the run folder holds that are still to be recorded; 0 of a run that records nothing.
        Raises as `parts`."""
        if self.recording() is None:
            return 0
        missing = 0
        for config in configs:
            groups, without = self.counted(config)
            if not groups:
                held = self._folder.parts(config)
                # Again: what was stored in the meantime has its trajectories by now.
                groups, without = self.counted(config)
            missing += without if groups else sum(part.members for part in held)
        return missing

    def tally(self, config: EnsembleConfig, windows: Sequence[tuple[int, int]] = ()) -> Recorded | None:
        """What a cell's trajectories add up to, with sums between the ends of these windows: from the summaries of its parts, which
        are made where they are missing. None without trajectories. One line says how many members have none, where others do.

        Raises:
            StoreError: a part is torn or foreign, or its members were recorded otherwise than others.
            ValueError: a window lies between two recorded steps.
        """
        groups, without = self.counted(config)
        if not groups:
            return None
        if without:
            members = without + sum(each.members for each in groups)
            say(
                f"{self.location}/{FOLDER}: {without:,} of {members:,} members have no recording, and what is said of training is of "
                f"the others; `{report_command('--verify', self.location)}` names what is missing"
            )
        steps = groups[0].parts[0][1]["steps"]
        for window in windows:
            places_of(steps, window)  # else it would be told as a fault of the folder
        if len(steps) <= MOST_SUMMED:
            places = [place for each in groups for place in each.places]
            kept = kept_cell(self, config, places, TrajectoryTally, lambda: self._merged(config, groups))
            if kept.has_windows(windows):
                return Recorded(kept, without)
        return Recorded(self._added(self._tally(config, each, windows) for each in groups), without)

    def _merged(self, config: EnsembleConfig, groups: Sequence[_Group]) -> TrajectoryTally:
        def look(group: _Group) -> TrajectoryTally:
            name, of = self._summary_name(config, group.ids), digest_of(group.places)
            return kept_or_made(self.storage, name, of, TrajectoryTally, lambda: self._tally(config, group))

        return self._added(in_turn(look, groups))

    def _tally(self, config: EnsembleConfig, group: _Group, windows: Sequence[tuple[int, int]] = ()) -> TrajectoryTally:
        tallies = _Together(config, "", windows)
        with self._of_one_recording():
            for place in group.places:
                tallies.add(self.read_part(config, place[0]), place)
        assert tallies.tally is not None
        return tallies.tally

    def _summary_name(self, config: EnsembleConfig, members: range) -> str:
        return summary_name(self.part(config, members.start, len(members)))

    def _added(self, tallies: Iterator[TrajectoryTally]) -> TrajectoryTally:
        total = next(tallies)
        with self._of_one_recording():
            for each in tallies:
                total.merge(each)
        return total

    @contextlib.contextmanager
    def _of_one_recording(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise StoreError(f"{self.location}/{FOLDER}: {error}") from None

    def _all_stamped(self) -> Iterator[tuple[Part, Stamp]]:
        return itertools.chain.from_iterable(map(self.stamped, self.configs))


def _described(recording: Recording, observed: tuple[str, ...]) -> bytes:
    return sealed_json({"recording": recording.to_dict(), "observed": observed})
