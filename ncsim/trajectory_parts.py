"""What a run recorded along training, on disk: Parquet parts of their own beside the members' parts.

    runs/figure4/
      trajectories/hidden=3/members-0000000000-4096.parquet   a row for every member and recorded step

A part is written whole or not at all, once all its members are trained and before the members' own part is: members
that no part holds have no trajectory that counts. Parts are cut where the members' parts are, and once more at the
multiples of a number that the config and the recording give, so that a few tens of megabytes are held at a time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncsim.config import EnsembleConfig
from ncsim.counts import from_context_order
from ncsim.parts import part_name, write_atomically
from ncsim.recording import Recording
from ncsim.records import MemberRecords
from ncsim.records import concatenated as concatenated_records
from ncsim.store import RunFolder, StoreError, fingerprint

FORMAT = 1
#: Members times recorded steps in one part: about 40 MB in memory.
PART_ROWS = 2**18
_METADATA_KEY = b"ncsim-trajectories"


class MemberTrajectories(NamedTuple):
    """M members at R recorded steps, in the order of their ids. Contexts are in the order 11, 12, 21, 22."""

    member: np.ndarray  # uint64[M]
    step: np.ndarray  # int32[R]: optimiser steps taken, ascending from 0
    counts: np.ndarray  # uint16[M, R, 4, 4]: context, then (a, b); zero where the network has diverged
    values: dict[str, np.ndarray]  # float32[M, R, 4] each: the observed numbers by name

    @property
    def joint(self) -> np.ndarray:
        """Joint counts, uint16[M, R, 2, 2, 2, 2]."""
        return from_context_order(self.counts)

    def value(self, name: str) -> np.ndarray:
        """One observed number, float32[M, R, 4].

        Raises:
            KeyError: nothing of that name was observed.
        """
        if name not in self.values:
            raise KeyError(f"{name}: not recorded; there are {', '.join(self.values)}")
        return self.values[name]

    def take(self, index: slice) -> MemberTrajectories:
        """The trajectories of some members."""
        values = {name: each[index] for name, each in self.values.items()}
        return self._replace(member=self.member[index], counts=self.counts[index], values=values)


def concatenated(trajectories: Sequence[MemberTrajectories]) -> MemberTrajectories:
    """Trajectories of the same steps, one after another."""
    first = trajectories[0]
    return MemberTrajectories(
        np.concatenate([each.member for each in trajectories]),
        first.step,
        np.concatenate([each.counts for each in trajectories]),
        {name: np.concatenate([each.values[name] for each in trajectories]) for name in first.values},
    )


class TrajectoryFolder:
    """The trajectories of a run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.path = folder.path / "trajectories"

    def recording(self) -> Recording | None:
        """What the run records; None where it holds no trajectory.

        Raises:
            StoreError: parts differ in it.
        """
        found = {
            json.dumps(stamp["recording"]): stamp
            for config in self._folder.configs
            for _, stamp in self._stamped(config)
        }
        if len(found) > 1:
            raise StoreError(f"{self.path}: its parts are of several recordings: {' and '.join(sorted(found))}")
        return next((Recording(**stamp["recording"]) for stamp in found.values()), None)

    def check(self, recording: Recording, observed: tuple[str, ...]) -> None:
        """Refuse to go on with another recording than the folder has.

        Raises:
            StoreError: other steps or other numbers are recorded there, or a part is torn.
        """
        there = self.recording()
        if there not in (None, recording):
            raise StoreError(f"{self.path}: records at {there}, and {recording} is asked for; allowed: its own")
        for config in self._folder.configs:
            for path, stamp in self._stamped(config):
                if tuple(stamp["observed"]) != observed:
                    raise StoreError(f"{path}: records {', '.join(stamp['observed'])}, not {', '.join(observed)}")

    def discard_unfinished(self) -> None:
        """Remove trajectories of members that no part holds: of a writer that was ended before it stored them."""
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        for config in self._folder.configs:
            gaps = self._folder.missing(config)
            for path, stamp in self._stamped(config):
                first, last = stamp["first"], stamp["first"] + stamp["count"]
                if any(first < gap.stop and gap.start < last for gap in gaps):
                    path.unlink()

    def missing(self, config: EnsembleConfig) -> list[range]:
        """Members of the config without a trajectory, as ranges of ids.

        Raises:
            StoreError: a part is torn, foreign, of another config, or overlaps another.
        """
        gaps, cursor, end = [], config.first_member, config.first_member + config.members
        for _, stamp in self._stamped(config):
            first, count = stamp["first"], stamp["count"]
            if first > cursor:
                gaps.append(range(cursor, min(first, end)))
            cursor = max(cursor, first + count)
        if cursor < end:
            gaps.append(range(cursor, end))
        return [gap for gap in gaps if len(gap)]

    def stored(
        self,
        config: EnsembleConfig,
        recording: Recording,
        batches: Iterable[tuple[MemberRecords, MemberTrajectories]],
    ) -> Iterator[MemberRecords]:
        """The records of consecutive members, batch by batch, while their trajectories are stored, part by part."""
        waiting: list[MemberTrajectories] = []
        for records, trajectories in batches:
            size = part_members(trajectories.step.size)
            while trajectories.member.size:
                # A part ends at the next multiple of the size, however the batches fall.
                room = size - int(trajectories.member[0]) % size
                waiting.append(trajectories.take(slice(0, room)))
                if trajectories.member.size >= room:
                    self._write(config, recording, concatenated(waiting))
                    waiting = []
                trajectories = trajectories.take(slice(room, None))
            yield records
        if waiting:
            self._write(config, recording, concatenated(waiting))

    def agreeing(
        self, config: EnsembleConfig, batches: Iterable[tuple[MemberRecords, MemberTrajectories]]
    ) -> Iterator[tuple[MemberRecords, MemberTrajectories]]:
        """The batches as they are, of members that the run folder holds already and that are trained again to be recorded.

        Raises:
            StoreError: a member does not come out as it is stored.
        """
        parts: Iterator[MemberRecords] = self._folder.read(config)
        held: MemberRecords | None = None
        for records, trajectories in batches:
            first, last = records.member[0], records.member[-1]
            while held is None or held.member[-1] < last:
                kept = [] if held is None else [held.take(held.member >= first)]
                held = concatenated_records([*kept, next(parts)])
            counts = held.counts[(held.member >= first) & (held.member <= last)]
            if not np.array_equal(counts, records.counts):
                raise StoreError(
                    f"{self._folder.path}: members {first} to {last} do not come out as they are stored, so what is "
                    "recorded now would not be theirs (another machine or version?); allowed: a new folder"
                )
            yield records, trajectories

    def read(self, config: EnsembleConfig) -> Iterator[MemberTrajectories]:
        """The cell's trajectories, part by part, in the order of member ids.

        Raises:
            StoreError: a part that is torn, foreign, or does not hold what its name says.
        """
        for path, stamp in self._stamped(config):
            with _naming(path):
                table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
                trajectories = _from_table(table, stamp)
            ids = np.arange(stamp["first"], stamp["first"] + stamp["count"], dtype=np.uint64)
            totals = trajectories.counts.sum(axis=-1)
            if not np.array_equal(trajectories.member, ids) or np.any((totals != 0) & (totals != config.tasks.rows)):
                raise StoreError(f"{path}: does not hold what its name says; move it away and record again")
            yield trajectories

    def _cell_folder(self, config: EnsembleConfig) -> Path:
        return self.path / self._folder.cell_folder(config).relative_to(self._folder.path / "parts")

    def _stamped(self, config: EnsembleConfig) -> list[tuple[Path, dict[str, Any]]]:
        """The cell's parts by first member with what each says of itself."""
        found = []
        for path in sorted(self._cell_folder(config).glob("*.parquet")):
            with _naming(path):
                metadata = pq.read_metadata(path)
                stamp = json.loads((metadata.metadata or {}).get(_METADATA_KEY, b"{}"))
            if stamp.get("format") != FORMAT:
                raise StoreError(f"{path}: is not a part of ncsim trajectories; move it away and record again")
            if stamp["fingerprint"] != fingerprint(config):
                raise StoreError(f"{path}: is of another config; move it away and record again")
            name = part_name(stamp["first"], stamp["count"])
            if path.name != name or metadata.num_rows != stamp["count"] * len(stamp["steps"]):
                raise StoreError(f"{path}: does not hold what its name says; move it away and record again")
            found.append((path, stamp))
        found.sort(key=lambda part: part[1]["first"])
        for (_, before), (path, after) in itertools.pairwise(found):
            if before["first"] + before["count"] > after["first"]:
                raise StoreError(f"{path}: overlaps the part before it; move one of them away")
        return found

    def _write(self, config: EnsembleConfig, recording: Recording, trajectories: MemberTrajectories) -> None:
        first, count = int(trajectories.member[0]), trajectories.member.size
        stamp = {
            "format": FORMAT,
            "fingerprint": fingerprint(config),
            "first": first,
            "count": count,
            "recording": recording.to_dict(),
            "steps": trajectories.step.tolist(),
            "observed": list(trajectories.values),
        }
        table = _to_table(trajectories).replace_schema_metadata({_METADATA_KEY: json.dumps(stamp)})
        sink = pa.BufferOutputStream()
        # Numbers that hardly repeat are written as they are: looking for repetitions took most of the time.
        repeating = ["member", "step", "counts.list.element"]
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True, use_dictionary=repeating)
        path = self._cell_folder(config) / part_name(first, count)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sink.getvalue())
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); what was stored before it is whole"
            ) from None


def part_members(points: int) -> int:
    """Members in one part of trajectories of so many recorded steps: a power of two."""
    return 2 ** int(np.log2(max(PART_ROWS / points, 1)))


def _to_table(trajectories: MemberTrajectories) -> pa.Table:
    """A row for every member and step."""
    members, points = trajectories.counts.shape[:2]

    def lists(values: np.ndarray, kind: pa.DataType, width: int) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1), kind), width)

    columns = {
        "member": pa.array(np.repeat(trajectories.member, points), pa.uint64()),
        "step": pa.array(np.tile(trajectories.step.astype(np.uint32), members), pa.uint32()),
        "counts": lists(trajectories.counts, pa.uint16(), 16),
    }
    columns |= {name: lists(values, pa.float32(), 4) for name, values in trajectories.values.items()}
    return pa.table(columns)


def _from_table(table: pa.Table, stamp: dict[str, Any]) -> MemberTrajectories:
    points = len(stamp["steps"])

    def flat(name: str) -> np.ndarray:
        column = table[name].combine_chunks()
        return (column.flatten() if pa.types.is_fixed_size_list(column.type) else column).to_numpy(zero_copy_only=False)

    if np.any(flat("step").reshape(-1, points) != stamp["steps"]):
        raise ValueError("its steps are not those of its footer")
    return MemberTrajectories(
        member=flat("member").reshape(-1, points)[:, 0],
        step=np.asarray(stamp["steps"], np.int32),
        counts=flat("counts").reshape(-1, points, 4, 4),
        values={name: flat(name).reshape(-1, points, 4) for name in stamp["observed"]},
    )


class _naming:
    """Turns what pyarrow says of a damaged file into one line that names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if isinstance(error, pa.ArrowException | OSError | ValueError | KeyError):
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise StoreError(f"{self._path}: is torn ({reason}); move it away and record again") from None
