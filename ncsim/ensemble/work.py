"""Which parts of a run this process trains: all that are missing, or its share beside other workers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from ncsim.cluster import workers
from ncsim.cluster.claims import Claims
from ncsim.cluster.workers import Shard, Work
from ncsim.config.ensemble import EnsembleConfig
from ncsim.executors.devices import device_description
from ncsim.storage.files import LocalStorage
from ncsim.storage.parts import part_ranges
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

    worker: Worker
    claims: Claims
    look: Callable[[], Sequence[Work]]
    part_of: Callable[[EnsembleConfig, int, int], str] | None

    def mine(self) -> Iterator[Work]:
        """The parts that this process has claimed, one after another, until no part is missing."""
        worker = self.worker
        for piece in workers.claimed(worker.folder, worker.place, self.claims, self.look, self.part_of):
            yield piece
            worker.writing.finish()  # a claim is given up when its part is there


@dataclasses.dataclass(frozen=True)
class Worker:
    """This process as it works on a run folder; `claims` is None where no other process may work on it."""

    folder: RunFolder
    devices: int | None
    writing: Background
    place: Shard
    claims: Claims | None

    def parts(self) -> Share:
        """The share of the parts that the run folder lacks."""
        return self.share(lambda: missing_parts(self.folder))

    def share(
        self,
        look: Callable[[], Sequence[Work]],
        part_of: Callable[[EnsembleConfig, int, int], str] | None = None,
    ) -> Share:
        """The share of some work.

        Args:
            look: lists what is missing now; a worker beside others looks again as it goes.
            part_of: the file that a piece of work makes, from its config, first member and number of members; None for
                the members' own part.
        """
        missing = look()
        if missing:
            workers.say_differences(self.folder, device_description(self.devices))
        if self.claims is None:
            return Share(missing)
        return ClaimedShare(missing, self, self.claims, look, part_of)


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
            folder.discard_unfinished()
            yield Worker(folder, devices, writing, place, None)
        return
    with folder.shared(), Claims(folder.storage) as claims:
        yield Worker(folder, devices, writing, place, claims)


def missing_parts(folder: RunFolder) -> list[Work]:
    """The parts that a run folder lacks: each with the number of its cell and the ids of its members."""
    gaps = ((cell, gap) for cell, config in enumerate(folder.configs) for gap in folder.missing(config))
    return [(cell, part) for cell, gap in gaps for part in part_ranges(folder.configs[cell], gap)]
