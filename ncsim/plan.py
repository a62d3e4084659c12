"""What a run will take on this machine, before it is begun: time, memory and disk, from a short calibration.

Nothing is looked up in a table of machines. The same `run_ensemble` trains a little of every program of the grid, into
a temporary folder where the run would be stored, and the report of that is written:

    time    = start + (compiling a program) + members x (a + b x steps) + parts x (a part) + report
    disk    = parts x (a part's frame) + members x (a member's bytes), and the same of trajectories
    memory  = this process's peak + what a part in full size takes, or the report's pass over it

with a, b and the rest solved from runs of few and many members and of few and many steps. The forecast is for the next
run in a process of its own: what only the first run ever does, as to try a compiler, calibration has done by then.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ncsim.calibration import ProgramCost, ReportCost, calibrate, little, stored_bytes
from ncsim.config import ConfigError, EnsembleConfig, swept_fields
from ncsim.description import recorded_environment
from ncsim.ensemble import device_description, forget_programs, network_steps, part_ranges, part_size, run_ensemble
from ncsim.recording import Recording
from ncsim.storage import StoreError
from ncsim.store import RunFolder, fingerprint
from ncsim.trajectory_parts import part_members, part_pieces
from ncsim.trajectory_store import TrajectoryFolder

#: Programs that are calibrated; those of a larger grid take the costs of the nearest of them.
MOST_PROGRAMS = 12
#: Bytes a member while a part is put together: records as they come, in one piece, as columns, and as a file.
PART_BYTES_A_MEMBER = 500
#: Bytes a recorded step of a member while a part of trajectories is put together, and another is written.
POINT_BYTES = 900
#: Bytes a member of the part that the report passes over, and of every member of a cell in the laws.
REPORT_BYTES_A_MEMBER_OF_A_PART = 1_000
REPORT_BYTES_A_MEMBER = 160


@dataclasses.dataclass(frozen=True)
class CellForecast:
    """One cell of the grid."""

    config: EnsembleConfig
    members: int  # that are still to be trained
    parts: int  # of members, and of trajectories where the run records
    executor: str
    network_steps: int
    training_seconds: float  # storing included
    compile_seconds: float  # 0 where an earlier cell has the same program
    disk_bytes: float
    calibrated: bool  # by its own program, or by one that is like it

    @property
    def rate(self) -> float:
        """Network-steps a second while training."""
        return self.network_steps / self.training_seconds if self.training_seconds else math.nan


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a run takes, in seconds and bytes."""

    cells: tuple[CellForecast, ...]
    device: str
    swept: tuple[str, ...]
    start_seconds: float  # of a process, until it can train
    report_seconds: float
    peak_memory_bytes: float
    free_disk_bytes: float
    calibration_seconds: float

    @property
    def training_seconds(self) -> float:
        """Of all cells, storing included."""
        return sum(cell.training_seconds for cell in self.cells)

    @property
    def compile_seconds(self) -> float:
        """Of all programs."""
        return sum(cell.compile_seconds for cell in self.cells)

    @property
    def disk_bytes(self) -> float:
        """Of all parts."""
        return sum(cell.disk_bytes for cell in self.cells)

    @property
    def run_seconds(self) -> float:
        """`run_ensemble` in a process that has not compiled anything yet."""
        return self.compile_seconds + self.training_seconds

    @property
    def total_seconds(self) -> float:
        """The command `ncsim ensemble`, from its start to its end."""
        return self.start_seconds + self.run_seconds + self.report_seconds

    def numbers(self) -> dict[str, Any]:
        """The forecast as plain data, for JSON."""
        cells = [
            {name: getattr(cell.config, name) for name in self.swept}
            | {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell) if field.name != "config"}
            for cell in self.cells
        ]
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "cells"}
        totals = ("training_seconds", "compile_seconds", "run_seconds", "total_seconds", "disk_bytes")
        return own | {name: getattr(self, name) for name in totals} | {"cells": cells}

    def lines(self) -> list[str]:
        """The forecast as text for a terminal."""
        from ncsim.report import table

        header = [*(self.swept or ["cell"]), "members", "network-steps", "executor", "rate/s", "training", "compile"]
        rows = [[*self._labels(cell), *_row(cell)] for cell in self.cells]
        total = [f"{sum(c.members for c in self.cells):,}", f"{sum(c.network_steps for c in self.cells):.3g}", ""]
        steps = sum(cell.network_steps for cell in self.cells)
        total += [f"{steps / self.training_seconds:.3g}" if self.training_seconds else "-"]
        total += [_duration(self.training_seconds), _duration(self.compile_seconds)]
        total += [_bytes(self.disk_bytes), f"{sum(cell.parts for cell in self.cells):,}"]
        rows.append(["total", *[""] * (max(len(self.swept), 1) - 1), *total])
        lines = table([*header, "disk", "parts"], rows)
        pieces = {"start": self.start_seconds, "compiling": self.compile_seconds, "training": self.training_seconds}
        pieces |= {"report": self.report_seconds}
        lines += ["", f"On {self.device}; calibrated in {self.calibration_seconds:.0f} s."]
        told = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in pieces.items())
        lines.append(f"Time: {_duration(self.total_seconds)} ({told}).")
        lines.append(f"Memory: {_bytes(self.peak_memory_bytes)} at most.")
        lines.append(f"Disk: {_bytes(self.disk_bytes)}, with {_bytes(self.free_disk_bytes)} free.")
        if self.disk_bytes > self.free_disk_bytes:
            lines.append("Not enough disk: the run would stop when it is full, and resume once there is room.")
        memory = _memory_of_machine()
        if memory and self.peak_memory_bytes > memory:
            lines.append(f"Not enough memory: this machine has {_bytes(memory)}.")
        if not all(cell.calibrated for cell in self.cells):
            lines.append(f"~ costs of the most similar of {MOST_PROGRAMS} programs that were calibrated.")
        return lines

    def _labels(self, cell: CellForecast) -> list[str]:
        values = [str(getattr(cell.config, name)) for name in self.swept] or ["the ensemble"]
        return [("" if cell.calibrated else "~") + values[0], *values[1:]]


def forecast(
    configs: Sequence[EnsembleConfig],
    out: str | os.PathLike[str] | None = None,
    devices: int | None = None,
    executor: str = "auto",
    say: Callable[[str], None] | None = None,
    report: bool = True,
    command: bool = False,
    recording: Recording | None = None,
) -> Forecast:
    """What `run_ensemble` with these arguments, and the report of it, will take.

    Args:
        configs: one config, or the cells of a grid.
        out: the run folder. What it holds already is not counted; where it is on this machine, calibration is stored on
            its disk.
        devices, executor: as for `run_ensemble`.
        say: told what is being calibrated, a line each.
        report: count the report, too; without it, as for workers that write none, calibration is shorter.
        command: this process does nothing else, so that its age is part of what a command takes to start.
        recording: at which steps the run records its members; as for `run_ensemble`, None goes on as a stored run does.

    Raises:
        ConfigError, StoreError: what `run_ensemble` would raise before it trains.
    """
    begun, age = time.perf_counter(), _process_age() if command else 0.0
    swept = swept_fields(configs)
    stored = _stored(configs, out)
    if recording is None and stored is not None:
        recording = TrajectoryFolder(stored).recording()
    todo = _to_train(configs, stored, recording)
    beside = _disk_of(out)
    programs = _programs(configs)
    chosen = _spread(list(programs), MOST_PROGRAMS)
    if out is not None and executor == "auto":
        executor = _recorded(out, configs) or executor
    with _scratch(beside) as scratch:
        description = device_description(devices)
        importlib.import_module("ncsim.executors.choice")  # with optimisers and all that a run imports
        started = age + time.perf_counter() - begun
        # Compilers are tried and code is built once a machine, and kept: done before anything is timed.
        for shape in chosen:
            run_ensemble(little(shape, 1, 1), None, devices=devices, executor=executor)
        costs = {}
        forget_programs()
        for number, shape in enumerate(chosen):
            if say is not None and len(chosen) > 1:
                say(f"calibrating program {number + 1} of {len(chosen)}")
            costs[shape] = calibrate(programs[shape], Path(scratch) / str(number), devices, executor, recording)
        before_report = peak_memory()
        largest = max(chosen, key=lambda shape: stored_bytes(Path(scratch) / str(chosen.index(shape))))
        reporting = ReportCost(0, 0, 0)
        if report:
            place = Path(scratch) / str(chosen.index(largest))
            reporting = ReportCost.measured(place, len(configs), devices, executor)
    cells = []
    compiled = set()
    for config, ids in zip(configs, todo, strict=True):
        shape = _shape(config)
        cost = costs.get(shape) or costs[_nearest(shape, chosen)]
        parts = [part for gap in ids for part in part_ranges(config, gap)]
        cells.append(_cell(config, parts, recording, cost, shape not in compiled, shape in costs))
        compiled.add(shape)
    part = max(min(part_size(config), config.members) for config in configs)
    members = max(config.members for config in configs)
    # Calibration has seen runs of some size already; what larger ones take comes on top.
    seen = max(cost.members for cost in costs.values())
    wider, more = max(part - seen, 0), max(members - seen, 0)
    while_training = before_report + PART_BYTES_A_MEMBER * wider
    if recording is not None:
        points = max(recording.steps(config.steps).size for config in configs)
        while_training += POINT_BYTES * points * max(min(part_members(points), part) - seen, 0)
    while_reporting = peak_memory() + REPORT_BYTES_A_MEMBER_OF_A_PART * wider + REPORT_BYTES_A_MEMBER * more
    if not report:
        while_reporting = 0
    return Forecast(
        tuple(cells),
        description,
        tuple(swept),
        start_seconds=started,
        report_seconds=reporting.seconds([config.members for config in configs]),
        peak_memory_bytes=max(while_training, while_reporting),
        free_disk_bytes=shutil.disk_usage(beside).free,
        calibration_seconds=time.perf_counter() - begun,
    )


def _cell(
    config: EnsembleConfig,
    parts: Sequence[range],
    recording: Recording | None,
    cost: ProgramCost,
    first: bool,
    calibrated: bool,
) -> CellForecast:
    members = sum(map(len, parts))
    points = 0 if recording is None else recording.steps(config.steps).size
    trajectories = sum(len(list(part_pieces(part, points))) for part in parts) if points else 0
    files = len(parts) + trajectories
    a_member = cost.seconds_a_member + cost.seconds_a_step * config.steps
    disk = members * (cost.bytes_a_member + points * cost.bytes_a_point)
    disk += len(parts) * cost.bytes_a_part + trajectories * cost.bytes_a_trajectory_part
    return CellForecast(
        config,
        members,
        files,
        cost.executor,
        members * network_steps(config),
        members * a_member + files * cost.seconds_a_part,
        cost.compile_seconds if first and members else 0.0,
        disk,
        calibrated,
    )


# --------------------------------------------------------------------------------------------------------- programs


def _shape(config: EnsembleConfig) -> EnsembleConfig:
    """The config without what is an argument of its program."""
    return dataclasses.replace(config, members=1, first_member=0, root_seed=0, learning_rate=1.0, steps=1)


def _programs(configs: Sequence[EnsembleConfig]) -> dict[EnsembleConfig, EnsembleConfig]:
    """Each program's shape, and of the configs that share it the one with the longest training."""
    found: dict[EnsembleConfig, EnsembleConfig] = {}
    for config in configs:
        known = found.setdefault(_shape(config), config)
        if config.steps > known.steps:
            found[_shape(config)] = config
    return found


def _spread(items: list[EnsembleConfig], most: int) -> list[EnsembleConfig]:
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _nearest(shape: EnsembleConfig, calibrated: Sequence[EnsembleConfig]) -> EnsembleConfig:
    def distance(other: EnsembleConfig) -> tuple[int, float]:
        names = [field.name for field in dataclasses.fields(shape) if field.name != "hidden"]
        different = sum(getattr(shape, name) != getattr(other, name) for name in names)
        return different, abs(math.log(shape.hidden / other.hidden))

    return min(calibrated, key=distance)


# ----------------------------------------------------------------------------------------------- folder and machine


def _scratch(beside: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=".ncsim-plan-", dir=beside)
    except OSError as error:
        raise StoreError(f"{beside}: cannot be written to ({error.strerror})") from None


def _stored(configs: Sequence[EnsembleConfig], out: str | os.PathLike[str] | None) -> RunFolder | None:
    """The run that a folder holds; None where it holds none.

    Raises:
        ConfigError: it is another config's.
    """
    if out is None:
        return None
    try:
        stored = RunFolder.open(out)
    except StoreError as error:
        if "no run is stored there" in str(error):
            return None
        raise
    if {fingerprint(c) for c in stored.configs} != {fingerprint(c) for c in configs}:
        raise ConfigError(f"--out: {os.fspath(out)}; holds another config's run; allowed: its own, or a new folder")
    return stored


def _to_train(
    configs: Sequence[EnsembleConfig], stored: RunFolder | None, recording: Recording | None
) -> list[list[range]]:
    """What of each config a folder does not hold yet, or has not recorded: everything where there is none."""
    if stored is None:
        return [[config.member_ids] for config in configs]
    if recording is None:
        return [stored.missing(config) for config in configs]
    return [TrajectoryFolder(stored).missing(config) for config in configs]


def _recorded(out: str | os.PathLike[str], configs: Sequence[EnsembleConfig]) -> str | None:
    """The executor that a stored run was begun with, where all cells have one."""
    recorded = recorded_environment(out)
    by_cell = recorded.get("executor") if recorded else None
    if not isinstance(by_cell, dict):
        return None
    names = {str(by_cell.get(fingerprint(config), "xla")) for config in configs}
    return names.pop() if len(names) == 1 else None


def _disk_of(out: str | os.PathLike[str] | None) -> Path:
    """The folder above `out` that is there, whose disk the run would be stored on."""
    text = os.fspath(out) if out is not None else "."
    if "://" in text:
        return Path(tempfile.gettempdir())
    place = Path(text).absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _process_age() -> float:
    """Seconds since this process was started; 0 where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0


def peak_memory() -> int:
    """Bytes, the most that this process has had. On Linux from its own record (VmHWM): `getrusage` there gives a process
    that was started at least the peak of the process that started it."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _memory_of_machine() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _row(cell: CellForecast) -> list[str]:
    return [
        f"{cell.members:,}",
        f"{cell.network_steps:.3g}",
        cell.executor,
        f"{cell.rate:.3g}" if cell.members else "-",
        _duration(cell.training_seconds),
        _duration(cell.compile_seconds),
        _bytes(cell.disk_bytes),
        f"{cell.parts:,}",
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"
    return f"{hours / 24:,.1f} days"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
