"""A text run whose groups of adapters are trained by the tasks of an executor, as `ensemble/pool.py` has parts trained.

The driver holds the folder and the description in it, starts no device and does not import JAX. A first task reads model and data
where it runs, and plans a new run there. A group whose task is lost goes on from its last checkpoint.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import Executor
from typing import Any

from ncsim.cluster.tasks import Task, answer, check_kind, first_task, hand_out, place_for_tasks
from ncsim.ensemble.kinds import for_record, with_processor
from ncsim.storage.config_file import CONFIG
from ncsim.storage.files import open_storage
from ncsim.terminal import ProgressListener
from ncsim.text.order import TextOrder
from ncsim.text.run_folder import TextFolder

# ------------------------------------------------------------------------------------------------------- in the workers


def begin(order: TextOrder) -> tuple[str, Any]:
    """What a task finds where it runs: the model and data, its kind of machine and, of a new run, how it is to be trained."""

    def look() -> dict[str, Any]:
        trainer, sources = _opened(order)
        new = not open_storage(order.location).exists(CONFIG)
        return {"sources": sources, "kind": _kind(order), "planned": trainer.plan(order.at_once) if new else None}

    return answer(look)


def regroup(order: TextOrder) -> tuple[str, Any]:
    """Group anew what is left, in a folder that the driver holds."""
    return answer(lambda: _opened(order).trainer.regroup(TextFolder.open(order.location), order.at_once))


def train(order: TextOrder, kind: dict[str, Any], number: int) -> tuple[str, Any]:
    """Train a group of adapters from its last checkpoint, unless it is complete."""

    def do() -> None:
        check_kind(_kind(order), kind)
        folder = TextFolder.open(order.location)
        if not folder.complete(number):
            _opened(order).trainer.train(folder, [number], None)

    return answer(do)


@functools.lru_cache(maxsize=1)
def _opened(order: TextOrder) -> Any:
    """Read once in a worker, for all tasks of one call."""
    # One core per task, as an ensemble's: XLA would take all of them. It changes no bit.
    os.environ.setdefault("NPROC", "1")
    from ncsim.text.job import opened

    return opened(order)


def _kind(order: TextOrder) -> dict[str, Any]:
    return with_processor(_opened(order).trainer.kind())


# ------------------------------------------------------------------------------------------------------- in the driver


def train_by(pool: Executor, order: TextOrder, progress: ProgressListener | None) -> TextFolder:
    """Have the groups that a folder lacks trained by a pool.

    Raises:
        ConfigError, StoreError, DeviceError: as `ncsim.text.run_text`, in the words of a task where one could not train.
    """
    order = order._replace(location=place_for_tasks(pool, order.location))
    found = first_task(pool, begin, order)
    folder = TextFolder.create(order.location, order.config, found["sources"], lambda: found["planned"])
    with folder.unless_complete(), folder.exclusive():
        if order.at_once is not None:
            first_task(pool, regroup, order)
            folder = TextFolder.open(order.location)
        if work := folder.incomplete():
            folder.note_environment(for_record(found["kind"]), work)
            folder.note_means(order.config)
            items = 2 * order.config.epochs * folder.description["data"]["items"]["train"]
            sizes = [len(folder.groups[number]) for number in work]
            tasks = (
                Task(_words(folder, number), train, (order, found["kind"], number), size, size * items)
                for number, size in zip(work, sizes, strict=True)
            )
            hand_out(pool, tasks, sum(sizes), sum(sizes) * items, progress)
    return folder


def _words(folder: TextFolder, number: int) -> str:
    """A group in words: its first adapter and how many it has."""
    first = folder.groups[number][0]
    more = len(folder.groups[number]) - 1
    return f"adapter rank={first.rank}, seed={first.seed}, context={first.context_name}" + (
        f" and {more} more" if more else ""
    )
