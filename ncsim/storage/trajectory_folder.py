"""What a run recorded along training, stored: parts of their own beside the members' parts.

    runs/figure4/
      recording.json                                          at which steps, and what; sealed
      trajectories/hidden-3/members-0000000000-4096.parquet   a row for every member and recorded step; sealed

A part is written whole or not at all, once all its members are trained and before the members' own part is: members
that no part holds have no trajectory that counts. Parts are cut where the members' parts are, and once more at the
multiples of a number that the config and the recording give, so that a few tens of megabytes are held at a time.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.errors import ConfigError, StoreError, one_line, reason
from ncsim.records.members import MemberRecords
from ncsim.records.members import concatenated as concatenated_records
from ncsim.records.trajectories import MemberTrajectories, concatenated
from ncsim.statistics.trajectory_tally import TrajectoryTally
from ncsim.storage.checksums import is_whole, sealed_json
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import TRAJECTORIES, Part, Stamp, cut, footer_digest, gaps_between, trajectory_part_size
from ncsim.storage.run_folder import ConfiguredFolder
from ncsim.storage.summaries import in_turn, kept_cell, kept_or_made, summary_name, write_summary
from ncsim.storage.writer import Background
from ncsim.terminal import say

FOLDER, RECORDING = TRAJECTORIES.folder, "recording.json"
#: Recorded steps up to which sums of parts are kept: of more, a part has so few members that it is not larger than its sums.
MOST_SUMMED = 2_048
_NAME = re.compile(r"members-(\d{10})-(\d{1,10})\.parquet")


class TrajectoryFolder(PartFolder[MemberTrajectories]):
    """The trajectories of a run folder."""

    kind = TRAJECTORIES

    def __init__(self, folder: ConfiguredFolder[Any]) -> None:
        super().__init__(folder.storage, folder.configs, folder.form)
        self._folder = folder

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

    def discard(self, config: EnsembleConfig, members: range) -> None:
        """Remove trajectories of some of these members, which no part holds: of a writer that was ended before it stored
        them, perhaps with other members beside them.

        Raises:
            StoreError: they cannot be removed.
        """
        with self.naming(self.cell_name(config)):
            for name in self.part_names(config):
                if there := _NAME.fullmatch(name.rpartition("/")[2]):
                    first, count = map(int, there.groups())
                    if first < members.stop and members.start < first + count:
                        self.storage.remove(name)

    def stored(
        self,
        config: EnsembleConfig,
        recording: Recording,
        batches: Iterable[tuple[MemberRecords, MemberTrajectories]],
        writing: Background,
    ) -> Iterator[MemberRecords]:
        """The records of consecutive members, batch by batch, while their trajectories are stored, part by part."""

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

    def counted(self, config: EnsembleConfig) -> tuple[list[tuple[Part, Stamp]], int]:
        """The parts of members that the run folder holds, with what they say of themselves, and how many members it holds that have
        none; 0 without trajectories. Raises as `parts`."""
        there = self.stamped(config)
        held = self._folder.parts(config) if there else []
        found = [each for each in there if not gaps_between(each[0].ids, held)]
        return found, sum(part.members for part in held) - sum(part.members for part, _ in found)

    def read(self, config: EnsembleConfig) -> Iterator[MemberTrajectories]:
        """The trajectories of members that the run folder holds, part by part, in the order of their ids. Raises as `parts`."""
        for part, _ in self.counted(config)[0]:
            yield self.read_part(config, part.name)

    # -- what they add up to -------------------------------------------------------------------------------------

    def note_stored(self, config: EnsembleConfig, kept: MemberTrajectories, name: str, content: bytes) -> None:
        """Store what a part adds up to, beside it."""
        if len(kept.step) <= MOST_SUMMED:
            tally = _tally(kept, config)
            write_summary(self.storage, summary_name(name), footer_digest(content), tally)

    def tally(self, config: EnsembleConfig, windows: Sequence[tuple[int, int]] = ()) -> TrajectoryTally | None:
        """What a cell's trajectories add up to, with sums between the ends of these windows: from the summaries of its parts, which
        are made where they are missing. None without trajectories. One line says how many members have none, where others do.

        Raises:
            StoreError: a part is torn or foreign, or its members were recorded otherwise than others.
            ValueError: a window lies between two recorded steps.
        """
        parts, without = self.counted(config)
        if not parts:
            return None
        if without:
            members = without + sum(part.members for part, _ in parts)
            say(
                f"{self.location}/{FOLDER}: {without:,} of {members:,} members have no recording, and what is said of training is of "
                f"the others; `ncsim report --verify {self.location}` names what is missing"
            )
        if len(parts[0][1]["steps"]) <= MOST_SUMMED:
            places = [(part.name, stamp["footer"], part.members) for part, stamp in parts]
            kept = kept_cell(self, config, places, TrajectoryTally, lambda: self._merged(config, places))
            if kept.has_windows(windows):
                return kept
        tallies = (_tally(self.read_part(config, part.name), config, windows) for part, _ in parts)
        return self._added(tallies)

    def _merged(self, config: EnsembleConfig, places: Sequence[tuple[str, str, int]]) -> TrajectoryTally:
        def look(place: tuple[str, str, int]) -> TrajectoryTally:
            name, footer, _ = place
            return kept_or_made(
                self.storage,
                summary_name(name),
                footer,
                TrajectoryTally,
                lambda: _tally(self.read_part(config, name), config),
            )

        return self._added(in_turn(look, places))

    def _added(self, tallies: Iterator[TrajectoryTally]) -> TrajectoryTally:
        total = next(tallies)
        try:
            for each in tallies:
                total.merge(each)
        except ValueError as error:
            raise StoreError(f"{self.location}/{FOLDER}: {error}") from None
        return total

    def _all_stamped(self) -> Iterator[tuple[Part, Stamp]]:
        return itertools.chain.from_iterable(map(self.stamped, self.configs))


def _tally(
    trajectories: MemberTrajectories, config: EnsembleConfig, windows: Sequence[tuple[int, int]] = ()
) -> TrajectoryTally:
    tally = TrajectoryTally.like(trajectories, config.tasks.rows, windows)
    tally.add(trajectories)
    return tally


def _described(recording: Recording, observed: tuple[str, ...]) -> bytes:
    return sealed_json({"recording": recording.to_dict(), "observed": observed})
