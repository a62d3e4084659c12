"""From rows to items of two classes: which are trained on, which are tested on, and in what order.

Whatever is drawn is drawn by hashing (seed, purpose, id), so that it depends on nothing else: not on the order of a
file, the machine, or the version of a library.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8

from ncsim.errors import ConfigError, DataError
from ncsim.text.data.loading import Rows, official_rows, own_rows
from ncsim.text.data.rows import Labelled, Question, Row
from ncsim.text.data.suites import Suite, Task

FORMS = ("balanced", "all-options")
#: Share of the training items that is held out where a data set has no items to test on.
HELD_OUT = 0.2


class Items(NamedTuple):
    """Items of two classes. `second` is None where an item is one text."""

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: Int8[np.ndarray, " items"]
    ids: tuple[str, ...]

    @property
    def majority_rate(self) -> float:
        """Share of the more frequent label: what is right without reading."""
        ones = float(np.mean(self.labels))
        return max(ones, 1 - ones)

    def chosen(self, places: Sequence[int]) -> Items:
        """The items at these places, in this order."""
        second = None if self.second is None else tuple(self.second[place] for place in places)
        ids = tuple(self.ids[place] for place in places)
        return Items(tuple(self.first[place] for place in places), second, self.labels[list(places)], ids)


class TaskItems(NamedTuple):
    """A task's items to train on and to test on, each in the order in which they are taken, and what is to be told."""

    train: Items
    test: Items
    splits: dict[str, str]  # which split of the data set the items are of
    notes: tuple[str, ...]


def suite_items(
    suite: Suite,
    *,
    form: str,
    seed: int,
    source_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> dict[str, TaskItems]:
    """Items of a suite's four tasks, by place (A1, A2, B1, B2).

    Items of PAWS-X are those that every language of the suite has; where a share is held out, it is the same ids in
    every task, so that no sentence is trained on in one language and tested on in another.

    Raises:
        ConfigError, DataError: as `ncsim.text.data.loading.load`.
    """
    if form not in FORMS:
        raise ConfigError(f"form={form}: allowed: {', '.join(FORMS)}")
    rows: dict[Task, Rows] = {}
    for task in suite.tasks.values():
        if task not in rows:
            rows[task] = own_rows(task) if task.dataset == "file" else official_rows(task, source_dir, cache_dir)
    _keep_parallel(rows)
    held_out = _held_out(rows.values(), seed)
    items = {task: _divided(task, found, held_out, form, seed) for task, found in rows.items()}
    return {place: items[task] for place, task in suite.tasks.items()}


def drawn(seed: int, purpose: str, key: str) -> int:
    """64 bits that depend on these three alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{purpose}\n{key}".encode()).digest()[:8])


def _keep_parallel(rows: dict[Task, Rows]) -> None:
    """Of PAWS-X, keep what every language has: "NS" in one of them is no item in any. Splits are those all have."""
    tasks = [task for task in rows if task.dataset == "paws_x"]
    if len({tuple(rows[task].splits.items()) for task in tasks}) > 1:
        described = "; ".join(
            f"{task.language}: {rows[task].splits['train']} and {rows[task].splits['test']}" for task in tasks
        )
        raise DataError(f"paws_x: languages have different files ({described}); allowed: the same for each language")
    everywhere: dict[str, set[str]] = {}
    for part in ("train", "test"):
        ids = [{row.id for row in getattr(rows[task], part)} for task in tasks]
        everywhere[part] = set.intersection(*ids) if ids else set()
    for task in tasks:
        train = [row for row in rows[task].train if row.id in everywhere["train"]]
        test = [row for row in rows[task].test if row.id in everywhere["test"]]
        notes = list(rows[task].notes)
        for part, kept in (("train", train), ("test", test)):
            left = len(getattr(rows[task], part)) - len(kept)
            notes += [f"{part}: {left} rows left out (not in every language of the suite)"] if left else []
        rows[task] = rows[task]._replace(train=train, test=test, notes=notes)


def _held_out(rows: Iterable[Rows], seed: int) -> set[str]:
    """Ids that are tested on instead of trained on: a share of all ids of tasks without test items, a name space each."""
    spaces: dict[str, set[str]] = {}
    for found in rows:
        if not found.test:
            for row in found.train:
                spaces.setdefault(found.space, set()).add(row.id)
    held = set()
    for ids in spaces.values():
        ordered = sorted(ids, key=lambda one: (drawn(seed, "held out", one), one))
        held.update(ordered[: max(1, round(HELD_OUT * len(ordered)))])
    return held


def _divided(task: Task, rows: Rows, held_out: set[str], form: str, seed: int) -> TaskItems:
    train, test, notes, splits = rows.train, rows.test, list(rows.notes), dict(rows.splits)
    if not test:
        test = [row for row in train if row.id in held_out]
        train = [row for row in train if row.id not in held_out]
        notes.append(f"no test items: {HELD_OUT:.0%} of {splits['train']} held out, by id")
        splits["test"] = f"{splits['train']}, held out"
    elif seen := [row for row in train if row.id in held_out]:
        train = [row for row in train if row.id not in held_out]
        notes.append(f"train: {len(seen)} rows left out (held out in another task, by id)")
    if not train or not test:
        raise DataError(
            f"{task.name}: has {len(train)} rows to train on and {len(test)} to test on; allowed: at least 1"
        )
    divided = [_items(part, form, seed) for part in (train, test)]
    for part, (_, ambiguous) in zip(("train", "test"), divided, strict=True):
        if ambiguous:
            notes.append(f"{part}: {ambiguous} wrong options left out (they read as the right one)")
    (training, _), (testing, _) = divided
    return TaskItems(training, testing, splits, tuple(notes))


def seen_notes(suite: Suite, place: str, items: Mapping[str, Mapping[str, Items]]) -> list[str]:
    """What is to be told of test items that are trained on, too, by this task or by the other party's head of the same network.

    Args:
        suite: the suite.
        place: the task whose test items they are: A1, A2, B1, B2.
        items: of each place, the items that are taken to train on and to test on (`train`, `test`).
    """
    own = items[place]["test"]
    again = len(_texts(own) & _texts(items[place]["train"]))
    notes = [f"test: {again} texts are among the training texts too"] if again else []
    for other, task in suite.tasks.items():
        if other[0] == place[0] or task == suite.tasks[place]:
            continue
        training = items[other]["train"]
        texts, ids = _texts(training), set(training.ids)
        again = sum(one in ids or text in texts for one, text in zip(own.ids, _in_order(own), strict=True))
        notes += [f"test: {again} items are among the training items of {other}, by id or text"] if again else []
    return notes


def _in_order(items: Items) -> Iterable[tuple[str, str]]:
    return zip(items.first, items.second or ("",) * len(items.first), strict=True)


def _texts(items: Items) -> set[tuple[str, str]]:
    return set(_in_order(items))


def _items(rows: Sequence[Row], form: str, seed: int) -> tuple[Items, int]:
    """Rows as items of two classes, in an order drawn by id; and how many options were left out as ambiguous."""
    ordered = sorted(rows, key=lambda row: (drawn(seed, "order", row.id), row.id))
    items: list[Labelled] = []
    ambiguous = 0
    for row in ordered:
        if isinstance(row, Labelled):
            items.append(row)
            continue
        wrong = [place for place, text in enumerate(row.options) if text != row.options[row.answer]]
        ambiguous += len(row.options) - 1 - len(wrong)
        if not wrong:
            continue
        if form == "balanced":
            wrong = [wrong[drawn(seed, "wrong option", row.id) % len(wrong)]]
        items += [_option(row, place) for place in sorted([row.answer, *wrong])]
    seconds = tuple(item.second for item in items) if any(item.second for item in items) else None
    labels = np.asarray([item.label for item in items], np.int8)
    return Items(tuple(item.first for item in items), seconds, labels, tuple(item.id for item in items)), ambiguous


def _option(row: Question, place: int) -> Labelled:
    return Labelled(f"{row.id}:{place}", row.question, row.options[place], int(place == row.answer))
