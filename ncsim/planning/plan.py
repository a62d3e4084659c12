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

import contextlib
import dataclasses
import errno
import importlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ncsim import signals
from ncsim.config.ensemble import EnsembleConfig, fingerprint, network_steps, program_of, swept_fields
from ncsim.config.recording import Recording
from ncsim.config.scenarios import two_by_two
from ncsim.ensemble.run import Job, forget_programs, run_ensemble
from ncsim.ensemble.trainer import RECORDED_POINTS
from ncsim.errors import ConfigError, NoRunError, StoreError, reason
from ncsim.executors.devices import device_description, devices_to_use
from ncsim.machine import absolute
from ncsim.planning.calibration import ProgramCost, ReportCost, calibrate, little, stored_bytes
from ncsim.planning.forecast import CellForecast, Forecast
from ncsim.planning.memory import peak_memory
from ncsim.statistics.cell import MOST_IN_ORDER
from ncsim.storage.files import LocalStorage, open_storage
from ncsim.storage.parts import Part, cut, gaps, gaps_between, part_size, trajectory_part_size
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder

#: Programs that are calibrated; those of a larger grid take the costs of the nearest of them.
MOST_PROGRAMS = 12
#: Bytes a member while a part is put together: records as they come, in one piece, as columns, and as a file.
PART_BYTES_A_MEMBER = 500
#: Bytes a recorded step of a member while a part of trajectories is put together, and another is written.
POINT_BYTES = 900
#: Bytes a recorded step of a member of a call that is in work while another is handed over: calibration has one call at a time.
CALL_POINT_BYTES = 600
#: Bytes a member of the parts that the report passes over, a few at once, and of every member of a cell in the laws, up to
#: as many as are held.
REPORT_BYTES_A_MEMBER_OF_A_PART = 2_000
REPORT_BYTES_A_MEMBER = 160


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
    for config in configs:
        two_by_two(config.tasks)
    swept = swept_fields(configs)
    stored = _stored(configs, out)
    if stored is not None:
        recording = _recording(TrajectoryFolder(stored), recording)
    begun_with = Job(list(configs), devices, None, executor, recording, out, True, None).recorded_executors()
    todo = list(map(_Todo, _to_train(configs, stored, recording), _to_store(configs, stored)))
    beside = _disk_of(out)
    programs = _programs(configs)
    chosen = _spread(list(programs), MOST_PROGRAMS)
    if begun_with is not None and len(set(begun_with)) == 1:
        executor = begun_with[0]
    with _scratch(beside) as scratch:
        description = device_description(devices)
        importlib.import_module("ncsim.executors.choice")  # with optimisers and all that a run imports
        started = age + time.perf_counter() - begun
        places = {shape: scratch / str(number) for number, shape in enumerate(chosen)}
        costs = _calibrated(programs, places, devices, executor, recording, say)
        before_report = peak_memory()
        reporting = ReportCost(0, 0, 0)
        if report:
            largest = max(places.values(), key=stored_bytes)
            reporting = ReportCost.measured(largest, len(configs), devices, executor)
    seen = max(cost.members for cost in costs.values())
    memory = _training_memory(configs, recording, before_report, seen, len(devices_to_use(devices)))
    if report:
        memory = max(memory, _report_memory(configs, peak_memory(), seen))
    return Forecast(
        _cells(configs, todo, recording, costs),
        description,
        tuple(swept),
        start_seconds=started,
        report_seconds=reporting.seconds([config.members for config in configs]),
        peak_memory_bytes=memory,
        free_disk_bytes=shutil.disk_usage(beside).free if _on_disk(out) else None,
        calibration_seconds=time.perf_counter() - begun,
    )


def _calibrated(
    programs: Mapping[EnsembleConfig, EnsembleConfig],
    places: Mapping[EnsembleConfig, Path],
    devices: int | None,
    executor: str,
    recording: Recording | None,
    say: Callable[[str], None] | None,
) -> dict[EnsembleConfig, ProgramCost]:
    """What each program that has a place costs; its little runs are stored there."""
    from ncsim.executors.native.program import as_of

    # Compilers are tried and code is built once a machine, and kept: done before anything is timed.
    least = None if recording is None else Recording(points=2)
    for shape in places:
        with as_of(programs[shape].members):
            run_ensemble(little(shape, 1, 1), None, devices=devices, executor=executor, recording=least)
    costs = {}
    forget_programs()
    for number, (shape, place) in enumerate(places.items()):
        if say is not None and len(places) > 1:
            say(f"calibrating program {number + 1} of {len(places)}")
        with as_of(programs[shape].members):
            costs[shape] = calibrate(programs[shape], place, devices, executor, recording)
    return costs


# ------------------------------------------------------------------------------------------------------------ memory


def _largest_part(configs: Sequence[EnsembleConfig]) -> int:
    return max(min(part_size(config), config.members) for config in configs)


def _training_memory(
    configs: Sequence[EnsembleConfig], recording: Recording | None, before: int, seen: int, devices: int
) -> int:
    """Peak while training. Calibration, of `seen` members, has taken `before`; what larger runs take comes on top."""
    from ncsim.executors.native.program import LANES  # of a processor; what accelerators hold is not in this process

    part = _largest_part(configs)
    memory = before + PART_BYTES_A_MEMBER * max(part - seen, 0)
    if recording is not None:
        points = max(recording.steps(config.steps).size for config in configs)
        memory += POINT_BYTES * points * max(min(trajectory_part_size(points), part) - seen, 0)
        call = max(RECORDED_POINTS // points, 1) * LANES * devices
        memory += CALL_POINT_BYTES * points * min(call, max(config.members for config in configs))
    return memory


def _report_memory(configs: Sequence[EnsembleConfig], before: int, seen: int) -> int:
    """Peak while reporting. The calibrated report, of `seen` members, has taken `before`; larger ones come on top."""
    members = max(config.members for config in configs)
    wider, more = max(_largest_part(configs) - seen, 0), max(min(members, MOST_IN_ORDER) - seen, 0)
    return before + REPORT_BYTES_A_MEMBER_OF_A_PART * wider + REPORT_BYTES_A_MEMBER * more


# ------------------------------------------------------------------------------------------------------------- cells


def _cells(
    configs: Sequence[EnsembleConfig],
    todo: Sequence[_Todo],
    recording: Recording | None,
    costs: Mapping[EnsembleConfig, ProgramCost],
) -> tuple[CellForecast, ...]:
    """A forecast for what is left `todo` of each config. The first cell of a program takes its compilation."""
    cells = []
    compiled = set()
    for config, left in zip(configs, todo, strict=True):
        shape = program_of(config)
        cost = costs.get(shape) or costs[_nearest(shape, list(costs))]
        cells.append(_cell(config, left, recording, cost, shape not in compiled, shape in costs))
        compiled.add(shape)
    return tuple(cells)


def _cell(
    config: EnsembleConfig,
    left: _Todo,
    recording: Recording | None,
    cost: ProgramCost,
    first: bool,
    calibrated: bool,
) -> CellForecast:
    members = sum(map(len, left.train))
    parts, trained = (
        [part for gap in gaps for part in cut(gap, part_size(config))] for gaps in (left.store, left.train)
    )
    points = 0 if recording is None else recording.steps(config.steps).size
    trajectories = sum(len(list(cut(part, trajectory_part_size(points)))) for part in trained) if points else 0
    files = len(parts) + trajectories
    a_member = cost.seconds_a_member + cost.seconds_a_step * config.steps
    disk = sum(map(len, parts)) * cost.bytes_a_member + members * points * cost.bytes_a_point
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


def _programs(configs: Sequence[EnsembleConfig]) -> dict[EnsembleConfig, EnsembleConfig]:
    """Each program's shape, and of the configs that share it the one with the longest training."""
    found: dict[EnsembleConfig, EnsembleConfig] = {}
    for config in configs:
        known = found.setdefault(program_of(config), config)
        if config.steps > known.steps:
            found[program_of(config)] = config
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


@contextlib.contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(signals.scratch(".ncsim-plan-", beside))
        except OSError as error:
            raise StoreError(f"{beside}: cannot be written to ({reason(error)})") from None
        yield made


def _stored(configs: Sequence[EnsembleConfig], out: str | os.PathLike[str] | None) -> RunFolder | None:
    """The run that a folder holds; None where it holds none.

    Raises:
        ConfigError: it is another config's.
        StoreError: it has members that these configs leave out.
    """
    if out is None:
        return None
    try:
        stored = RunFolder.open(out)
    except NoRunError:
        _check_place(out)
        return None
    if {fingerprint(c) for c in stored.configs} != {fingerprint(c) for c in configs}:
        raise ConfigError(f"--out: {os.fspath(out)}; holds another config's run; allowed: its own, or a new folder")
    RunFolder(stored.storage, configs).check_same_run(stored)
    return stored


def _check_place(out: str | os.PathLike[str]) -> None:
    """Refuse a place that is, or lies within, a file. Raises StoreError, as a run does."""
    storage = open_storage(out)
    if isinstance(storage, LocalStorage):
        for place in (storage.root, *storage.root.parents):
            if place.exists():
                if not place.is_dir():
                    raise StoreError(f"{storage.location}: cannot be written to ({os.strerror(errno.ENOTDIR)})")
                return


def _recording(trajectories: TrajectoryFolder, asked: Recording | None) -> Recording | None:
    """At which steps a stored run goes on recording.

    Raises:
        StoreError: at other ones than are asked for.
    """
    there = trajectories.recording()
    if there is not None and asked not in (None, there):
        trajectories.refuse(there, asked)
    return there or asked


class _Todo(NamedTuple):
    """What is left of a config: the ids to train, and those of them that are to be stored as members."""

    train: list[range]
    store: list[range]


def _to_train(
    configs: Sequence[EnsembleConfig], stored: RunFolder | None, recording: Recording | None
) -> list[list[range]]:
    """What of each config a folder does not hold yet, or has not recorded: everything where there is none. What it does
    not hold comes first, as in a run."""
    missing = _to_store(configs, stored)
    if stored is None or recording is None:
        return missing
    found, trajectories = [], TrajectoryFolder(stored)
    for config, ids in zip(configs, missing, strict=True):
        stores = [Part("", each.start, len(each)) for each in ids]
        # A run removes what a killed writer left of members that are missing, with what it holds of others (`TrajectoryFolder.discard`).
        kept = [
            part for part in trajectories.parts(config) if sum(map(len, gaps_between(part.ids, stores))) == part.members
        ]
        found.append([*ids, *(gap for along in gaps(config, kept) for gap in gaps_between(along, stores))])
    return found


def _to_store(configs: Sequence[EnsembleConfig], stored: RunFolder | None) -> list[list[range]]:
    """What of each config a folder does not hold yet. Members that it holds are trained again to be recorded, and not stored again."""
    return [[config.member_ids] if stored is None else stored.missing(config) for config in configs]


def _on_disk(out: str | os.PathLike[str] | None) -> bool:
    return out is None or isinstance(open_storage(out), LocalStorage)


def _disk_of(out: str | os.PathLike[str] | None) -> Path:
    """The folder above `out` that is there, whose disk the run would be stored on."""
    storage = open_storage("." if out is None else out)
    if not isinstance(storage, LocalStorage):
        return Path(tempfile.gettempdir())
    place = Path(absolute(storage.root))
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
