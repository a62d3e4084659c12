"""What one compiled program costs on this machine: short stored runs of it, timed, and a report of them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.recording import Recording
from ncsim.ensemble.run import run_ensemble
from ncsim.report.summary import summarise
from ncsim.report.write import write_report
from ncsim.results import open_run
from ncsim.storage.environment import recorded_environment
from ncsim.storage.parts import part_size
from ncsim.storage.summaries import FOLDER as SUMMARIES
from ncsim.storage.trajectory_folder import FOLDER as TRAJECTORIES

#: Wanted length of the longest calibration run of a program.
CALIBRATION_SECONDS = 1.5
#: The same where steps are recorded: the last part is written when nothing is left to train, which counts for less in a longer run.
RECORDED_SECONDS = 5.0
#: Length from which on a run of one step tells what members cost beside their steps.
FEW_SECONDS = 0.1
#: Steps of its runs where they are recorded.
MOST_RECORDED_STEPS = 4_096


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """What one compiled program costs, in seconds and bytes. Where it records along training, a step is one that is
    recorded as often as the run's are."""

    executor: str
    members: int  # of the largest calibration run
    compile_seconds: float
    seconds_a_member: float  # initialising, recording and storing it
    seconds_a_step: float  # one step of one member, in all four contexts
    seconds_a_part: float
    bytes_a_part: float
    bytes_a_member: float
    bytes_a_trajectory_part: float
    bytes_a_point: float  # one recorded step of one member


class _Timed(NamedTuple):
    seconds: float
    bytes: int  # of the members' parts
    trajectory_bytes: int


def calibrate(
    config: EnsembleConfig, folder: Path, devices: int | None, executor: str, recording: Recording | None = None
) -> ProgramCost:
    """Costs of a config's program, from stored runs of it."""
    points = 0 if recording is None else recording.steps(config.steps).size

    def recorded(steps: int) -> Recording | None:
        """As dense as the run's, in a run of so many steps."""
        return Recording(points=max(round(points * steps / config.steps), 2)) if points else None

    def timed(members: int, steps: int) -> _Timed:
        out = folder / f"{members}-{steps}"
        if out.exists():
            shutil.rmtree(out)
        begun = time.perf_counter()
        run = little(config, members, steps)
        run_ensemble(run, out, devices=devices, executor=executor, recording=recorded(steps))
        seconds = time.perf_counter() - begun
        return _Timed(
            seconds, stored_bytes(out / "parts") + stored_bytes(out / SUMMARIES), stored_bytes(out / TRAJECTORIES)
        )

    def of_one_step(members: int, times: int) -> _Timed:
        return min((timed(members, 1) for _ in range(times)), key=lambda each: each.seconds)

    compiling = timed(1, 1).seconds
    frame = of_one_step(1, 3)
    part = min(config.members, part_size(config))
    few = min(part, 4_096)
    short = of_one_step(few, 2)
    if few < part and short.seconds - frame.seconds < FEW_SECONDS:  # too short to be told from the frame
        few = min(part, 16 * few)
        short = of_one_step(few, 2)
    # What a step costs is found by making the runs longer until they are long enough to be timed.
    members, steps = min(256, few), min(config.steps, MOST_RECORDED_STEPS if points else 64)
    compiling = max(compiling - frame.seconds, 0.0)
    if points:  # a program is of a number of recorded steps: this is another, and is compiled before runs are timed
        first, second = timed(1, steps), timed(1, steps)
        compiling = max(compiling, first.seconds - second.seconds)
    members, steps, long = _long_enough(config, timed, frame, members, steps, recorded=points > 0)
    spent = max(long.seconds - frame.seconds, 1e-6)
    a_member_short = max(short.seconds - frame.seconds, 0.0) / few
    a_member_long = spent / members
    a_step = max(a_member_long - a_member_short, 0.0) / (steps - 1) if steps > 1 else 0.0
    environment = recorded_environment(folder / "1-1") or {}
    last = recorded(steps)
    points_of_long = 1 if last is None else last.steps(steps).size
    return ProgramCost(
        executor=next(iter(dict(environment.get("executor") or {"": executor}).values())),
        members=max(members, few),
        compile_seconds=compiling,
        seconds_a_member=max(a_member_short - a_step, 0.0) if a_step else max(a_member_long, a_member_short),
        seconds_a_step=a_step,
        seconds_a_part=_seconds_a_part(folder, frame),
        bytes_a_part=frame.bytes,
        bytes_a_member=max(long.bytes - frame.bytes, 0) / max(members - 1, 1),
        bytes_a_trajectory_part=frame.trajectory_bytes,
        bytes_a_point=max(long.trajectory_bytes - frame.trajectory_bytes, 0) / (members * points_of_long),
    )


def _long_enough(
    config: EnsembleConfig,
    timed: Callable[[int, int], _Timed],
    frame: _Timed,
    members: int,
    steps: int,
    recorded: bool,
) -> tuple[int, int, _Timed]:
    """Members, from so many on, and steps of a run that is long enough to be timed, and what it took. Where steps are recorded, their
    number stays. Of a step it tells what it is when the devices are full: few members leave most of a block, or of the devices, idle."""
    wanted = RECORDED_SECONDS if recorded else CALIBRATION_SECONDS
    while True:
        long = timed(members, steps)
        spent = max(long.seconds - frame.seconds, 1e-6)
        if spent >= wanted / 2 or (members, steps) == (config.members, config.steps):
            return members, steps, long
        room = wanted / spent
        if room < 1.5:
            return members, steps, long
        # Steps first: as many as the run has, if the time is there for them.
        more = steps if recorded else min(config.steps, max(int(steps * min(room, 16)), steps))
        room /= more / steps
        most = min(config.members, 4 * part_size(config))
        wider = min(most, max(int(members * min(room, 16)), members))
        if (wider, more) == (members, steps):
            return members, steps, long
        members, steps = wider, more


def _seconds_a_part(folder: Path, frame: _Timed) -> float:
    """What writing a file and waiting for the disk takes, whatever is in it."""
    content = bytes(frame.bytes)
    begun = time.perf_counter()
    for number in range(3):
        with open(folder / f"part-{number}", "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    return (time.perf_counter() - begun) / 3


class ReportCost(NamedTuple):
    """Seconds of `write_report`."""

    once: float
    a_cell: float
    a_member: float

    @classmethod
    def measured(cls, folder: Path, cells: int, devices: int | None, executor: str) -> ReportCost:
        """From a report of the largest calibration run and summaries of it and of the smallest, and for a grid from a
        report of a few cells, which takes longer to draw."""
        runs = sorted((path for path in folder.iterdir() if path.is_dir()), key=stored_bytes)
        smallest, largest = open_run(runs[0]), open_run(runs[-1])
        whole = _seconds(lambda: write_report(largest))
        large, small = (min(_seconds(partial(summarise, run)) for _ in range(2)) for run in (largest, smallest))
        members = [sum(c.members for c in run.configs) for run in (smallest, largest)]
        a_member = max(large - small, 0.0) / max(members[1] - members[0], 1)
        once, drawing = max(whole - large, 0.0), 0.0
        if cells > 1:
            few = little(largest.configs[0], min(members[1], 256), largest.configs[0].steps)
            seeds = [dataclasses.replace(few, root_seed=seed) for seed in range(min(cells, 4))]
            grid = run_ensemble(seeds, folder / "grid", devices=devices, executor=executor)
            again = _seconds(lambda: write_report(largest)) - large  # the first has imported what draws
            grids = _seconds(lambda: write_report(grid)) - _seconds(lambda: summarise(grid))
            drawing = max(grids - again, 0.0) / (len(seeds) - 1)
            once = max(once - drawing, 0.0)
        return cls(once, small + drawing, a_member)

    def seconds(self, members: Sequence[int]) -> float:
        return self.once + sum(self.a_cell + self.a_member * count for count in members)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def little(config: EnsembleConfig, members: int, steps: int) -> EnsembleConfig:
    return dataclasses.replace(config, members=members, steps=steps)
