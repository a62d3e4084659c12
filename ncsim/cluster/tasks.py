"""Tasks handed out to an executor (`concurrent.futures`) until all are done: what is lost is handed out again, and what fails
for good is one line."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, NamedTuple

from ncsim import signals
from ncsim.errors import ConfigError, DeviceError, StoreError, one_line
from ncsim.executors.own_programs import own_programs
from ncsim.formatting import counted, duration
from ncsim.machine import absolute
from ncsim.storage.environment import differences
from ncsim.terminal import ProgressListener, say

#: Tasks handed out and not done: more than any cluster works on at once, and few enough for a driver's memory.
IN_FLIGHT = 4_096
#: How often a part is handed out again whose task was lost.
RETRIES = 3
#: How long no task may end until it is said, if none has taken a fourth of it; and said again after twice that, and so on.
QUIET_SECONDS = 120.0
RESUMES = "what is stored is whole, and the same command resumes"
_ERRORS = (ConfigError, StoreError, DeviceError)
#: Of the threads of a worker, one trains at a time.
_training = threading.Lock()


def checked_pool(pool: Any) -> None:
    """Raise a ConfigError where a pool cannot be handed tasks."""
    if not callable(getattr(pool, "submit", None)):
        raise ConfigError(
            f"pool: {type(pool).__name__}; allowed: a concurrent.futures.Executor, or an address as 'ray'"
        )


def whole_location(location: str | os.PathLike[str]) -> str:
    """A path that means the same to a worker, which may be in another folder; an address as it is."""
    text = os.fspath(location)
    return text if "://" in text else absolute(text)


def place_for_tasks(pool: Executor, location: str | os.PathLike[str]) -> str:
    """As `whole_location`, of a place that tasks of this pool see.

    Raises:
        ConfigError: it is this process's memory, and they run in others.
    """
    text = whole_location(location)
    if text.startswith("memory://") and tuple(first_task(pool, process)) != _process():
        raise ConfigError(
            f"out: {text}; it is in the memory of this process, and the tasks of the pool run in others; allowed: a folder that all of "
            "them see, or s3://, gs://, az://"
        )
    return text


def process() -> tuple[str, Any]:
    """In which process a task runs, as `answer` gives it."""
    return answer(_process)


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def answer(action: Callable[[], Any]) -> tuple[str, Any]:
    """The result of an action in this worker, beside ""; or its error as words, beside the name of its class."""
    try:
        with _training, own_programs():
            return "", action()
    except _ERRORS as error:
        return next(kind.__name__ for kind in _ERRORS if isinstance(error, kind)), str(error)


def check_kind(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raise a StoreError where a task runs on another kind of machine than the first one did."""
    different = differences(here, there)
    if here["processor"] != there["processor"]:
        different.append("the processor is another one")
    if different:
        raise StoreError(
            f"{platform.node()} is not of the kind of machine that the first task ran on ({'; '.join(different)}), and "
            "members may differ; allowed: machines of one kind"
        )


class Task(NamedTuple):
    """A call in a worker, and what it is of: in words, and as a listener is told that it is done."""

    words: str
    action: Callable[..., tuple[str, Any]]
    arguments: tuple[Any, ...]
    things: int = 0
    work: int = 0


FIRST = "the first task"


def first_task(pool: Executor, action: Callable[..., tuple[str, Any]], *arguments: Any) -> Any:
    """What one task comes to, which is of no part. Raises as `results`."""
    return next(results(pool, [Task(FIRST, action, arguments)]))[1]


def hand_out(pool: Executor, tasks: Iterable[Task], things: int, work: int, progress: ProgressListener | None) -> None:
    """Have tasks done, with one progress for all of them. Raises as `results`."""
    if progress is not None:
        progress.start(things, work)
    signals.at_stake = "what the tasks were training"
    try:
        for task, _ in results(pool, tasks, progress):
            if progress is not None:
                progress.advance(task.things, task.work)
    finally:
        if progress is not None:
            progress.close()
    signals.at_stake = ""


def results(
    pool: Executor, tasks: Iterable[Task], progress: ProgressListener | None = None
) -> Iterator[tuple[Task, Any]]:
    """The tasks and what they come to, as they end. Those that are not done when the iteration ends, as by a signal, are
    cancelled.

    Raises:
        ConfigError, StoreError, DeviceError: a task's own error; or a task was lost too often, or the pool takes no more.
    """
    left, lost, longest = iter(tasks), Counter[str](), 0.0
    flying: dict[Future[tuple[str, Any]], Task] = {}
    # No SimpleQueue: before Python 3.13 its get() waits for ever where a signal comes as its time runs out.
    done: queue.Queue[Future[tuple[str, Any]]] = queue.Queue()

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
                begun = time.monotonic()
                future = _waited(done, flying, progress, longest)
                longest = max(longest, time.monotonic() - begun)
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


def _waited(
    done: queue.Queue[Future[Any]],
    flying: Mapping[Future[Any], Task],
    progress: ProgressListener | None,
    longest: float,
) -> Future[Any]:
    """The next future that is done. Signals are answered meanwhile, and a listener told now and then. A worker that hangs, or a cluster
    without a free processor, is waited for without end, so that is said; `longest` is how long none had ended before."""
    begun = told = time.monotonic()
    quiet = max(QUIET_SECONDS, 4 * longest)
    while True:
        signals.check()
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=signals.LOOK_SECONDS)
        now = time.monotonic()
        if progress is not None and now - told >= signals.TELL_SECONDS:
            told = now
            progress.advance(0, 0)
        if now - begun >= quiet:
            say(
                f"no task has ended for {duration(now - begun)}; waiting for {counted(len(flying), 'task')}, the oldest: "
                f"{next(iter(flying.values())).words}. Where workers hang or none is free, Ctrl-C: {RESUMES}"
            )
            quiet *= 2


def _value(task: Task, kind: str, value: Any) -> Any:
    """What a task came to. Raises its error, which names the task."""
    for error in _ERRORS:
        if error.__name__ == kind:
            raise error(value if task.words == FIRST else f"{task.words}: {value}")
    return value
