"""Which parts of a run this process trains: all that are missing, or its share beside other workers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ncsim.cluster import workers
from ncsim.cluster.claims import Claims
from ncsim.cluster.workers import Shard, Work
from ncsim.config.recording import Recording
from ncsim.executors.devices import device_description
from ncsim.storage.files import LocalStorage, discard_unfinished
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import cut, part_size, trajectory_part_size
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.writer import Background


@dataclasses.dataclass(frozen=True)
class Share:
    """The work of a process that is alone: all that is missing.

    `missing` has every part that is still to be trained when the share is made, whichever worker will train it.
    """

    missing: Sequence[Work]

    def mine(self) -> Iterable[Work]:
        """The parts that this process trains, one after another."""
        return self.missing


@dataclasses.dataclass(frozen=True)
class ClaimedShare(Share):
    """The work of one of several workers: it claims each part before it trains it."""

    claimed: Iterable[Work]
    writing: Background

    def mine(self) -> Iterator[Work]:
        """The parts that this process has claimed, one after another, until no part is missing."""
        for piece in self.claimed:
            yield piece
            self.writing.finish()  # a claim is given up when its part is there


@dataclasses.dataclass(frozen=True)
class Worker:
    """This process as it works on a run folder; `claims` is None where no other process may work on it."""

    folder: RunFolder
    devices: int | None
    writing: Background
    place: Shard
    claims: Claims | None

    def share(self, parts: PartFolder[Any], recording: Recording | None = None) -> Share:
        """The share of the parts that are missing; beside others, a worker looks for them again as it goes. Arguments as
        for `missing_parts`."""
        missing = missing_parts(parts, recording)
        if missing:
            workers.say_differences(self.folder, device_description(self.devices))
        if self.claims is None:
            return Share(missing)
        claimed = workers.claimed(parts, self.place, self.claims, lambda: missing_parts(parts, recording))
        return ClaimedShare(missing, claimed, self.writing)


@contextlib.contextmanager
def working_on(
    folder: RunFolder, shard: tuple[int, int] | None, devices: int | None, writing: Background
) -> Iterator[Worker]:
    """Work on a folder until the context ends. A local folder belongs to one process, unless `shard` says that it is one
    of several workers. In an object store nothing can be locked, so that a process there always claims its parts."""
    place = Shard(*shard) if shard else Shard(1, 1)
    if shard is None and isinstance(folder.storage, LocalStorage):
        with folder.exclusive():
            workers.refuse_beside_workers(folder)
            discard_unfinished(folder.storage)
            yield Worker(folder, devices, writing, place, None)
        return
    with folder.shared(), Claims(folder.storage) as claims:
        yield Worker(folder, devices, writing, place, claims)


def missing_parts(parts: PartFolder[Any], recording: Recording | None = None) -> list[Work]:
    """The parts that a run folder lacks: each with the number of its cell and the ids of its members.

    Args:
        parts: those of members, or of trajectories.
        recording: of the trajectories; None for parts of members.
    """
    found = []
    for cell, config in enumerate(parts.configs):
        size = part_size(config)
        if recording is not None:  # both are powers of two: trajectories are cut where members are, too
            size = min(size, trajectory_part_size(recording.steps(config.steps).size))
        found += [(cell, ids) for gap in parts.missing(config) for ids in cut(gap, size)]
    return found
