"""What a run recorded along training, stored: parts of their own beside the members' parts.

    runs/figure4/
      recording.json                                          at which steps, and what; sealed
      trajectories/hidden=3/members-0000000000-4096.parquet   a row for every member and recorded step; sealed

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
from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.config.recording import Recording
from ncsim.errors import ConfigError, StoreError, one_line, reason
from ncsim.formatting import json_text
from ncsim.records.members import MemberRecords
from ncsim.records.members import concatenated as concatenated_records
from ncsim.records.trajectories import MemberTrajectories, concatenated
from ncsim.storage.checksums import UNSEALED, is_whole, sealed
from ncsim.storage.parts import FOOTER_BYTES, Part, gaps, part_name
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_parts import from_bytes, part_members, stamp_of, to_bytes
from ncsim.storage.writer import Background

FOLDER, RECORDING = "trajectories", "recording.json"
_NAME = re.compile(r"members-(\d{10})-(\d{1,10})\.parquet")


class TrajectoryFolder:
    """The trajectories of a run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._storage = folder.storage
        self._held: tuple[str, MemberRecords] | None = None  # the members' part that was read last

    # -- what is recorded ---------------------------------------------------------------------------------------

    def recording(self) -> Recording | None:
        """What the run records; None where it does not.

        Raises:
            StoreError: that cannot be read, or parts differ in it.
        """
        stored = self._stored_recording()
        if stored is not None:
            return stored[0]
        with self._folder.naming(FOLDER):
            if not self._storage.names(FOLDER):
                return None
        found = {json.dumps(stamp["recording"]): stamp for _, stamp in self._all_stamped()}
        if len(found) > 1:
            raise StoreError(
                f"{self._folder.location}/{FOLDER}: its parts are of several recordings: {' and '.join(sorted(found))}"
            )
        return next((Recording(**stamp["recording"]) for stamp in found.values()), None)

    def check(self, recording: Recording, observed: tuple[str, ...]) -> None:
        """Put on record what is recorded here, and refuse to go on with anything else than the folder has.

        Raises:
            StoreError: other steps or other numbers are recorded there, or that cannot be read or written.
        """
        there = self.recording()
        if there is None or not self._storage.exists(RECORDING):
            try:
                self._storage.create(RECORDING, _described(there or recording, observed))
            except OSError as error:
                raise StoreError(f"{self._folder.location}/{RECORDING}: cannot be written ({reason(error)})") from None
            there = self.recording()  # another worker's, where one was faster
        place = f"{self._folder.location}/{FOLDER}"
        if there != recording:
            raise StoreError(f"{place}: records at {there}, and {recording} is asked for; allowed: its own")
        stored = self._stored_recording()
        if stored is not None and stored[1] != observed:
            raise StoreError(f"{place}: records {', '.join(stored[1])}, not {', '.join(observed)}")
        for name, stamp in self._all_stamped():
            if tuple(stamp["observed"]) != observed or Recording(**stamp["recording"]) != recording:
                with self._folder.naming(name):
                    raise StoreError("is of another recording")

    def restore_description(self) -> bool:
        """Write recording.json anew, as the parts say; False where none says it. Raises as `recording`, and OSError."""
        found = next(iter(self._all_stamped()), None)
        if found is None:
            return False
        recording = self.recording()
        if recording is not None:
            self._storage.write(RECORDING, _described(recording, tuple(found[1]["observed"])))
        return recording is not None

    def _stored_recording(self) -> tuple[Recording, tuple[str, ...]] | None:
        """The recording and the names of what is observed, as recording.json says."""
        with self._folder.naming(RECORDING):
            if not self._storage.exists(RECORDING):
                return None
            content = self._storage.read(RECORDING)
            try:
                if not is_whole(content):
                    raise ValueError("its checksum is not that of its content")
                stored = json.loads(content)
                return Recording(**stored["recording"]), tuple(map(str, stored["observed"]))
            except (ValueError, KeyError, TypeError, ConfigError) as error:
                raise StoreError(f"is torn ({one_line(error)})") from None

    # -- parts --------------------------------------------------------------------------------------------------

    def cell_name(self, config: EnsembleConfig) -> str:
        """Where a cell's trajectories are, relative to the run folder."""
        return FOLDER + self._folder.cell_name(config).removeprefix("parts")

    def part(self, config: EnsembleConfig, first: int, members: int) -> str:
        """The name of a part, relative to the run folder, whether it is there or not."""
        return f"{self.cell_name(config)}/{part_name(first, members)}"

    def part_names(self, config: EnsembleConfig) -> list[str]:
        """The names of the files in a cell's folder that are called as parts are, whatever they hold."""
        return self._folder.part_names(config, self.cell_name(config))

    def discard(self, config: EnsembleConfig, members: range) -> None:
        """Remove trajectories of some of these members, which no part holds: of a writer that was ended before it stored
        them, perhaps with other members beside them.

        Raises:
            StoreError: they cannot be removed.
        """
        with self._folder.naming(self.cell_name(config)):
            for name in self.part_names(config):
                there = _NAME.fullmatch(name.rpartition("/")[2])
                if there is not None:
                    first, count = map(int, there.groups())
                    if first < members.stop and members.start < first + count:
                        self._storage.remove(name)

    def missing(self, config: EnsembleConfig) -> list[range]:
        """Members of the config without a trajectory, as ranges of ids.

        Raises:
            StoreError: a part is torn, foreign, of another config, or overlaps another.
        """
        return gaps(config, [range(part.first, part.first + part.members) for part in self.parts(config)])

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
            nonlocal waiting
            whole, waiting = concatenated(waiting), []
            writing.do(functools.partial(self._write, config, recording, whole))

        for records, trajectories in batches:
            size = part_members(trajectories.step.size)
            while trajectories.member.size:
                # A part ends at the next multiple of the size, however the batches fall.
                room = size - int(trajectories.member[0]) % size
                waiting.append(trajectories.take(slice(0, room)))
                if trajectories.member.size >= room:
                    store()
                trajectories = trajectories.take(slice(room, None))
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
            needed = [part for part in parts if part.first <= last and first < part.first + part.members]
            held = concatenated_records([self._members(config, part.name) for part in needed])
            counts = held.counts[(held.member >= first) & (held.member <= last)]
            if not np.array_equal(counts, records.counts):
                raise StoreError(
                    f"{self._folder.location}: members {first} to {last} do not come out as they are stored, so what is "
                    "recorded now would not be theirs (another machine or version?); allowed: a new folder"
                )
            yield records, trajectories

    def _members(self, config: EnsembleConfig, name: str) -> MemberRecords:
        if self._held is None or self._held[0] != name:
            self._held = name, self._folder.read_part(config, name)
        return self._held[1]

    def read(self, config: EnsembleConfig) -> Iterator[MemberTrajectories]:
        """The cell's trajectories, part by part, in the order of member ids.

        Raises:
            StoreError: a part that is torn, foreign, or does not hold what its name says.
        """
        for part in self.parts(config):
            yield self.read_part(config, part.name)

    def read_part(self, config: EnsembleConfig, name: str) -> MemberTrajectories:
        """The trajectories of one part. Raises as `read`."""
        with self._folder.naming(name):
            trajectories, _ = self.checked_part(config, name)
        return trajectories

    def parts(self, config: EnsembleConfig) -> list[Part]:
        """The cell's parts, by first member, as far as names and footers tell. Raises as `missing`."""
        return [Part(name, stamp["first"], stamp["count"]) for name, stamp in self._stamped(config)]

    def checked_part(self, config: EnsembleConfig, name: str) -> tuple[MemberTrajectories, bool]:
        """A part's trajectories, and whether it has a checksum.

        Raises:
            StoreError: what is wrong with it, without its name.
            OSError: it cannot be read.
        """
        return from_bytes(self._storage.read(name), name, fingerprint(config), config)

    def _all_stamped(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for config in self._folder.configs:
            yield from self._stamped(config)

    def _stamped(self, config: EnsembleConfig) -> list[tuple[str, dict[str, Any]]]:
        """The cell's parts by first member with what each says of itself."""
        found = []
        for name in self.part_names(config):
            with self._folder.naming(name):
                tail = self._storage.read_tail(name, FOOTER_BYTES)
                size = int.from_bytes(tail[-8:-4], "little") + 8
                if size > len(tail):  # thousands of steps are more than the footer of a members' part
                    tail = self._storage.read_tail(name, size)
                found.append((name, stamp_of(tail, name, fingerprint(config))))
        found.sort(key=lambda part: part[1]["first"])
        for (before_name, before), (name, after) in itertools.pairwise(found):
            if before["first"] + before["count"] > after["first"]:
                with self._folder.naming(name):
                    raise StoreError(f"overlaps {before_name.rpartition('/')[2]}")
        return found

    def _write(self, config: EnsembleConfig, recording: Recording, trajectories: MemberTrajectories) -> None:
        first, count = int(trajectories.member[0]), trajectories.member.size
        name = self.part(config, first, count)
        try:
            self._storage.write(name, to_bytes(trajectories, recording, fingerprint(config)))
        except OSError as error:
            raise StoreError(
                f"{self._folder.location}/{name}: cannot be written ({reason(error)}); what was stored before it is whole, "
                "and the same command resumes"
            ) from None


def _described(recording: Recording, observed: tuple[str, ...]) -> bytes:
    stored = {"recording": recording.to_dict(), "observed": observed, "checksum": UNSEALED}
    return sealed(json_text(stored, 2).encode())
