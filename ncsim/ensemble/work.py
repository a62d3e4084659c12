"""Which parts of a run this process trains: all that are missing, or its share beside other workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ncsim.cluster import workers
from ncsim.cluster.claims import Claims
from ncsim.cluster.workers import Shard, Work
from ncsim.executors.devices import device_description
from ncsim.storage.files import LocalStorage
from ncsim.storage.parts import part_ranges
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.writer import Background

#: Of what is missing, told by the first argument, what there is to do by whomever, and what of it is for this process
#: as it goes; the second argument names the parts that it makes.
Share = Callable[..., tuple[Sequence[Work], Iterable[Work]]]


@contextlib.contextmanager
def _shares(
    folder: RunFolder, shard: tuple[int, int] | None, devices: int | None, writing: Background
) -> Iterator[Share]:
    """What of a folder's work is for this process. A local folder is one process's own, unless it is one of several
    workers; an object store, where nothing can be locked, always has workers."""
    if shard is None and isinstance(folder.storage, LocalStorage):
        with folder.exclusive():
            workers.refuse_beside_workers(folder)
            folder.discard_unfinished()

            def all_of_it(missing: Callable[[], Sequence[Work]], part_of: Any = None) -> Any:
                todo = missing()
                return todo, todo

            yield all_of_it
        return
    place = Shard(*shard) if shard else Shard(1, 1)
    with folder.shared(), Claims(folder.storage) as claims:

        def some_of_it(missing: Callable[[], Sequence[Work]], part_of: Any = None) -> Any:
            todo = missing()
            if todo:
                workers.say_differences(folder, device_description(devices))
            return todo, stored_before_the_next(workers.claimed(folder, place, claims, missing, part_of))

        def stored_before_the_next(work: Iterator[Work]) -> Iterator[Work]:
            for piece in work:
                yield piece
                writing.finish()  # a claim is given up when its part is there

        yield some_of_it


def missing_parts(folder: RunFolder) -> list[Work]:
    """What a run folder still lacks: the cell's number and the ids of each part to train."""
    gaps = ((cell, gap) for cell, config in enumerate(folder.configs) for gap in folder.missing(config))
    return [(cell, part) for cell, gap in gaps for part in part_ranges(folder.configs[cell], gap)]
