"""A run whose parts are trained by the tasks of an executor (`concurrent.futures`): other processes, on other machines.

A task opens the folder, trains its part and stores it. Nothing passes between it and the driver but names and words. The
driver holds the folder and starts no device: a first task says what trains there and on what kind of machine. It shows one
progress for all, and hands out again what is lost with a process or a machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, NamedTuple

from ncsim import signals
from ncsim.config.ensemble import swept_fields
from ncsim.config.recording import Recording
from ncsim.ensemble.job import Job
from ncsim.ensemble.kinds import kind_here, processor_here, say_differences
from ncsim.ensemble.work import Work, missing_parts, working_on
from ncsim.errors import ConfigError, DeviceError, StoreError, one_line
from ncsim.jax_settings import own_settings
from ncsim.storage.environment import differences
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.writer import Background
from ncsim.terminal import ProgressListener

#: Tasks handed out and not done: more than any cluster works on at once, and few enough for a driver's memory.
IN_FLIGHT = 4_096
#: How often a part is handed out again whose task was lost.
RETRIES = 3
RESUMES = "what is stored is whole, and the same command resumes"
_ERRORS = (ConfigError, StoreError, DeviceError)


# ------------------------------------------------------------------------------------------------------- in the workers

#: Of the threads of a worker, one trains at a time.
_training = threading.Lock()


class Order(NamedTuple):
    """What every task of a run is told."""

    location: str
    executor: str
    devices: int | None
    recording: Recording | None
    kind: dict[str, Any]


def begin(job: Job) -> tuple[str, Any]:
    """What trains where a task runs, by cell, and its kind of machine; or an error, as `_answer`."""

    def look() -> dict[str, Any]:
        _prepare(job.devices)
        from ncsim.training.observation import OBSERVED
        from ncsim.training.optimizers import validate_optimizers

        validate_optimizers(job.configs)
        return {"environment": job.environment(), "kind": _kind(job.devices), "observed": OBSERVED}

    return _answer(look)


def train(order: Order, work: Sequence[Work], again: bool) -> tuple[str, Any]:
    """Train parts and store them, unless they are there: those of members, or those of trajectories of members that are
    trained again. An error is given as by `_answer`, since not every engine brings exceptions home."""
    return _answer(functools.partial(_train, order, work, again))


def _train(order: Order, work: Sequence[Work], again: bool) -> None:
    _prepare(order.devices)
    here = _kind(order.devices)
    different = differences(here, order.kind)
    if here["processor"] != order.kind["processor"]:
        different.append("the processor is another one")
    if different:
        raise StoreError(
            f"{platform.node()} is not of the kind of machine that the first task ran on ({'; '.join(different)}), and "
            "members may differ; allowed: machines of one kind"
        )
    folder = RunFolder.open(order.location)
    job = Job(list(folder.configs), order.devices, None, order.executor, order.recording, order.location)
    parts: Any = TrajectoryFolder(folder) if again else folder
    for cell, ids in work:
        if not folder.storage.exists(parts.part(folder.configs[cell], ids.start, len(ids))):
            with Background() as writing:
                (job.record if again else job.store)(folder, [(cell, ids)], writing)


def _answer(action: Callable[[], Any]) -> tuple[str, Any]:
    """The result of an action in this worker, beside ""; or its error as words, beside the name of its class."""
    try:
        with _training, own_settings():
            return "", action()
    except _ERRORS as error:
        return next(kind.__name__ for kind in _ERRORS if isinstance(error, kind)), str(error)


@functools.cache
def _prepare(devices: int | None) -> None:
    """One core a task, unless more are asked for; on accelerators all that the engine lets the task see."""
    from ncsim.executors.devices import devices_to_use, prepare_jax

    prepare_jax(devices or 1)
    with contextlib.suppress(RuntimeError):  # a plug-in that is broken is named when it is used
        import jax

        jax.local_devices()
    devices_to_use(devices)


@functools.cache
def _kind(devices: int | None) -> dict[str, Any]:
    kind = kind_here(devices)
    return kind | {"processor": processor_here(kind)}


# ------------------------------------------------------------------------------------------------------- in the driver


def checked_pool(pool: Any) -> None:
    """Raise a ConfigError where a pool cannot be handed tasks."""
    if not callable(getattr(pool, "submit", None)):
        raise ConfigError(
            f"pool: {type(pool).__name__}; allowed: a concurrent.futures.Executor, or an address as 'ray'"
        )


def store_by(pool: Executor, job: Job) -> RunFolder:
    """Have the parts that a folder lacks trained by a pool.

    Raises:
        ConfigError, StoreError, DeviceError: as `ncsim.run_ensemble`, in the words of a task where one could not train.
    """
    assert job.out is not None
    location = os.fspath(job.out)
    there = dataclasses.replace(job, progress=None, out=location if "://" in location else os.path.abspath(location))
    first = functools.cache(lambda: _first(pool, there))
    if job.recorded_executors() is None:
        first()  # what cannot be trained there is refused before a folder is made
    folder = RunFolder.create(job.out, job.configs, job.resume, lambda: first()["environment"])
    trajectories = TrajectoryFolder(folder)
    recording = job.recording or trajectories.recording()
    with working_on(folder, None):
        for again in (False, True) if recording else (False,):
            missing = missing_parts(trajectories if again else folder, recording if again else None, None)
            if not missing:
                continue
            say_differences(folder, {name: of for name, of in first()["kind"].items() if name != "processor"})
            if recording is not None:
                trajectories.check(recording, tuple(first()["observed"]))
            order = Order(str(there.out), job.executor, job.devices, recording, first()["kind"])
            _hand_out(pool, job, order, missing, again)
    return folder


def _first(pool: Executor, job: Job) -> dict[str, Any]:
    """What a first task finds where it runs."""
    return next(_results(pool, [Task("the first task", begin, (job,))]))[1]


def _hand_out(pool: Executor, job: Job, order: Order, missing: Sequence[Work], again: bool) -> None:
    """Have parts trained, with one progress for all of them."""
    together = getattr(pool, "parts_a_task", 1)
    tasks = (
        Task(_words(job, missing[at : at + together]), train, (order, missing[at : at + together], again))
        for at in range(0, len(missing), together)
    )
    if job.progress is not None:
        job.progress.start(sum(len(ids) for _, ids in missing), job.steps(missing))
    signals.at_stake = "what the tasks were training"
    try:
        for task, _ in _results(pool, tasks, job.progress):
            if job.progress is not None:
                work = task.arguments[1]
                job.progress.advance(sum(len(ids) for _, ids in work), job.steps(work))
    finally:
        if job.progress is not None:
            job.progress.close()
    signals.at_stake = ""


def _words(job: Job, work: Sequence[Work]) -> str:
    """Parts in words: the first of them and, of a grid, its cell."""
    cell, ids = work[0]
    swept = swept_fields(job.configs)
    where = "".join(f", {name}={getattr(job.configs[cell], name)}" for name in swept)
    return f"members {ids.start:,} to {ids.stop - 1:,}{where}"


class Task(NamedTuple):
    """A call in a worker, and what it is of, in words."""

    words: str
    action: Callable[..., tuple[str, Any]]
    arguments: tuple[Any, ...]


def _results(
    pool: Executor, tasks: Iterable[Task], progress: ProgressListener | None = None
) -> Iterator[tuple[Task, Any]]:
    """The tasks and what they come to, as they end. Those that are not done when the iteration ends, as by a signal, are
    cancelled.

    Raises:
        ConfigError, StoreError, DeviceError: a task's own error; or a task was lost too often, or the pool takes no more.
    """
    left, lost = iter(tasks), Counter[str]()
    flying: dict[Future[tuple[str, Any]], Task] = {}
    done: queue.SimpleQueue[Future[tuple[str, Any]]] = queue.SimpleQueue()

    def submit(task: Task) -> None:
        try:
            future = pool.submit(task.action, *task.arguments)
        except RuntimeError as error:  # of a pool that is broken or shut down
            raise DeviceError(f"pool: takes no more tasks ({one_line(error)}); {RESUMES} with a new one") from None
        flying[future] = task
        future.add_done_callback(done.put)

    try:
        with signals.deferred():
            while True:
                while len(flying) < IN_FLIGHT and (task := next(left, None)) is not None:
                    submit(task)
                if not flying:
                    return
                future = _waited(done, progress)
                task = flying.pop(future)
                problem = CancelledError("cancelled") if future.cancelled() else future.exception()
                if problem is None:
                    yield task, _value(task, *future.result())
                elif lost[task.words] == RETRIES:
                    words = f"{type(problem).__name__}: {one_line(problem)}"
                    raise DeviceError(f"{task.words}: lost {RETRIES + 1} times, the last time by {words}; {RESUMES}")
                else:
                    lost[task.words] += 1
                    submit(task)
    finally:
        for future in list(flying):
            future.cancel()


def _waited(done: queue.SimpleQueue[Future[Any]], progress: ProgressListener | None) -> Future[Any]:
    """The next future that is done. Signals are answered meanwhile, and a listener told now and then."""
    told = time.monotonic()
    while True:
        signals.check()
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=signals.LOOK_SECONDS)
        if progress is not None and time.monotonic() - told >= signals.TELL_SECONDS:
            told = time.monotonic()
            progress.advance(0, 0)


def _value(task: Task, kind: str, value: Any) -> Any:
    """What a task came to. Raises its error, which names the task."""
    for error in _ERRORS:
        if error.__name__ == kind:
            raise error(value if task.action is begin else f"{task.words}: {value}")
    return value
