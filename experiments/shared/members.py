"""Members of an ensemble along training, as several experiments take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.ensemble.run import run_ensemble
from ncsim.records.trajectories import MemberTrajectories, concatenated

#: Members whose trajectories are held at a time.
CHUNK = 4096


def watched(
    config: EnsembleConfig, recording: Recording, devices: int | None = None, chunk: int = CHUNK
) -> Iterator[MemberTrajectories]:
    """The config's members and what they did along training, some thousand at a time; nothing is stored."""
    for first in range(0, config.members, chunk):
        members = min(chunk, config.members - first)
        part = dataclasses.replace(config, first_member=config.first_member + first, members=members)
        yield concatenated(list(run_ensemble(part, recording=recording, devices=devices).trajectories()))
