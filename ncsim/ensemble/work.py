"""Which parts of a run this process trains: all that are missing, or its share; and that no other process writes beside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ncsim.cluster.shards import Shard
from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.recording import Recording
from ncsim.storage.files import LocalStorage, discard_unfinished
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.parts import cut, part_size, trajectory_part_size
from ncsim.storage.run_folder import ConfiguredFolder

#: A cell's number, and consecutive ids of it that make one part.
Work = tuple[int, range]


@contextlib.contextmanager
def working_on(folder: ConfiguredFolder[Any], shard: Shard | None) -> Iterator[None]:
    """Work on a folder until the context ends. A local folder belongs to one process, unless it is one of several shards.
    An object store cannot be locked: two processes there train the same parts and write the same bytes."""
    with folder.exclusive() if shard is None else folder.shared():
        if shard is None and isinstance(folder.storage, LocalStorage):
            discard_unfinished(folder.storage)
        folder.discard_claims()
        yield


def missing_parts(parts: PartFolder[Any], recording: Recording | None, shard: Shard | None) -> list[Work]:
    """The parts that a run folder lacks: each with the number of its cell and the ids of its members.

    Args:
        parts: those of members, or of trajectories.
        recording: of the trajectories; None for parts of members.
        shard: whose parts; None for all.
    """
    found = []
    for cell, config in enumerate(parts.configs):
        size = part_size(config)
        if recording is not None:  # both are powers of two: trajectories are cut where members are, too
            size = min(size, trajectory_part_size(recording.steps(config.steps).size))
        found += [(cell, ids) for gap in parts.missing(config) for ids in cut(gap, size)]
    return found if shard is None else _of_shard(found, parts.configs, shard)


def _of_shard(work: Sequence[Work], configs: Sequence[EnsembleConfig], shard: Shard) -> list[Work]:
    """A shard's share of the work, by the parts of the whole run and not by what is missing: whenever each shard begins,
    all of them together train everything. Cells are ordered by their values: shards may have been given the grid in any order."""
    sizes = [part_size(config) for config in configs]
    ends = [config.member_ids[-1] // size + 1 for config, size in zip(configs, sizes, strict=True)]
    begins = [config.first_member // size for config, size in zip(configs, sizes, strict=True)]
    swept = swept_fields(configs)
    in_order = sorted(range(len(configs)), key=lambda cell: [getattr(configs[cell], name) for name in swept])
    parts = [ends[cell] - begins[cell] for cell in in_order]
    before = dict(zip(in_order, itertools.accumulate(parts, initial=0), strict=False))
    ours = shard.of_many(sum(parts))
    return [(cell, ids) for cell, ids in work if before[cell] + ids.start // sizes[cell] - begins[cell] in ours]
