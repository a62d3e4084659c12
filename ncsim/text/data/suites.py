"""Suites: which two tasks Alice has and which two Bob has. The paper's two (its table 3), and a user's own."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncsim.config.fields import shown
from ncsim.errors import ConfigError, DataError, one_line, reason
from ncsim.text.data.datasets import DATA_SETS, PAWS_X_LANGUAGES
from ncsim.text.data.own_files import Columns, label_word

#: The four tasks of a suite, in the order in which a report has them.
PARTS = ("A1", "A2", "B1", "B2")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of two classes.

    Attributes:
        dataset: sst2, mrpc, paws_x, commonsense_qa, math_qa, or file.
        language: of paws_x: de, en, es, fr, ja, ko, zh.
        train: of file: a table (CSV, TSV, JSON, Parquet) with text, label and where wanted text2, id.
        test: of file: the same for testing; empty: a share of the training items is held out.
        text: of file: name of the column with the texts.
        text2: of file: name of the column with the second texts.
        label: of file: name of the column with the labels.
        id: of file: name of the column with the ids.
        right: of file: labels that are 1, every other is 0; empty: 0 and 1, or false and true.

    Raises:
        ConfigError: there is no such data set, or an option is not one of its.

    Example:
        >>> Task(dataset="paws_x", language="ja").name
        'paws_x-ja'
        >>> Task(dataset="file", train="nli.csv", text="premise", right=("yes",)).columns.text
        'premise'
    """

    dataset: str
    language: str = ""
    train: str = ""
    test: str = ""
    text: str = "text"
    text2: str = "text2"
    label: str = "label"
    id: str = "id"
    right: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dataset not in (*DATA_SETS, "file"):
            raise ConfigError(f"dataset={self.dataset}: allowed: {', '.join(DATA_SETS)}, file")
        if self.dataset == "paws_x" and self.language not in PAWS_X_LANGUAGES:
            raise ConfigError(f"language={self.language or 'none'}: allowed for paws_x: {', '.join(PAWS_X_LANGUAGES)}")
        if self.dataset != "paws_x" and self.language:
            raise ConfigError(f"language={self.language}: {self.dataset} has none; allowed: leave it out")
        if self.dataset == "file" and not self.train:
            raise ConfigError("dataset=file: needs train, the path of a table (CSV, TSV, JSON, Parquet)")
        if self.dataset != "file" and (self.train or self.test):
            raise ConfigError(
                f"train={self.train or self.test}: {self.dataset} has its own files; allowed: dataset=file"
            )
        changed = [name for name, usual in zip(Columns._fields, Columns(), strict=True) if getattr(self, name) != usual]
        if changed and self.dataset != "file":
            raise ConfigError(f"{changed[0]}={getattr(self, changed[0])}: allowed: dataset=file")
        empty = [name for name in ("text", "text2", "label", "id") if not getattr(self, name)]
        if empty:
            raise ConfigError(f"{empty[0]}=: allowed: the name of a column")

    @property
    def columns(self) -> Columns:
        """Where a user's own file has its items."""
        return Columns(self.text, self.text2, self.label, self.id, self.right)

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "-".join(filter(None, (self.dataset, self.language, Path(self.train).stem)))


@dataclass(frozen=True)
class Suite:
    """Two tasks for Alice and two for Bob (arXiv:2603.04451, table 3).

    Attributes:
        name: what reports call it.
        alice: her two tasks, A1 and A2.
        bob: his two tasks, B1 and B2.

    Raises:
        ConfigError: a party has not two tasks.

    Example:
        >>> {place: task.name for place, task in SUITES["mixed"].tasks.items()}
        {'A1': 'sst2', 'A2': 'commonsense_qa', 'B1': 'mrpc', 'B2': 'math_qa'}
    """

    name: str
    alice: tuple[Task, ...]
    bob: tuple[Task, ...]

    def __post_init__(self) -> None:
        for party, tasks in (("alice", self.alice), ("bob", self.bob)):
            if len(tasks) != 2:
                raise ConfigError(f"suite={self.name}: {party} has {len(tasks)} task(s); allowed: 2 for each party")

    @property
    def tasks(self) -> dict[str, Task]:
        """The four tasks by their place: A1, A2, B1, B2."""
        return dict(zip(PARTS, (*self.alice, *self.bob), strict=True))


def _paws_x(language: str) -> Task:
    return Task(dataset="paws_x", language=language)


SUITES = {
    "multilingual": Suite("multilingual", (_paws_x("en"), _paws_x("fr")), (_paws_x("ja"), _paws_x("ko"))),
    "mixed": Suite(
        "mixed",
        (Task(dataset="sst2"), Task(dataset="commonsense_qa")),
        (Task(dataset="mrpc"), Task(dataset="math_qa")),
    ),
}


def open_suite(name: str | os.PathLike[str]) -> Suite:
    """A suite by its name (arXiv:2603.04451, table 3), or from a TOML or JSON file.

    A file has a name, and two tables (objects) under `alice` and two under `bob`, each with the fields of `Task`:

        name = "film"
        alice = [{ dataset = "sst2" }, { dataset = "file", train = "mine.tsv" }]
        bob = [{ dataset = "paws_x", language = "en" }, { dataset = "mrpc" }]

    Paths are relative to the file.

    Args:
        name: "multilingual", "mixed", or the path of a .toml or .json file.

    Returns:
        The suite; its data is not read yet.

    Raises:
        ConfigError: no such suite, or one that is not whole.
        DataError: the file cannot be read or is no TOML (JSON).

    Example:
        >>> [task.language for task in open_suite("multilingual").bob]
        ['ja', 'ko']
    """
    name = os.fspath(name)
    if name in SUITES:
        return SUITES[name]
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(f"suite={name}: allowed: {', '.join(SUITES)}, or the path of a .toml or .json file")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
        described = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not {path.suffix[1:].upper()} ({one_line(error)})") from None
    if not isinstance(described, Mapping) or not set(described) <= {"name", "alice", "bob"}:
        keys = ", ".join(described) if isinstance(described, Mapping) else type(described).__name__
        raise ConfigError(f"suite={path}: has {keys or 'nothing'}; allowed: name, alice, bob")
    name = described.get("name", path.stem)
    if not isinstance(name, str):
        raise ConfigError(f"suite={path}: name is {shown(name)}; allowed: a text")
    parties = [_tasks(described.get(party), party, path) for party in ("alice", "bob")]
    return Suite(name, *parties)


def _tasks(described: Any, party: str, path: Path) -> tuple[Task, ...]:
    if not isinstance(described, Sequence) or isinstance(described, str):
        raise ConfigError(f"suite={path}: {party} is not a list; allowed: a list of two tasks")
    return tuple(_task(one, party, path) for one in described)


def _is_label(value: Any) -> bool:
    try:
        return isinstance(value, str | int | float) and label_word(value) != ""
    except ValueError:  # more digits than Python writes
        return False


def _task(described: Any, party: str, path: Path) -> Task:
    fields = tuple(Task.__dataclass_fields__)
    if not isinstance(described, Mapping) or not set(described) <= set(fields) or "dataset" not in described:
        keys = ", ".join(map(str, described)) if isinstance(described, Mapping) else shown(described)
        raise ConfigError(f"suite={path}: a task of {party} has {keys or 'nothing'}; allowed: {', '.join(fields)}")
    given = dict(described)
    if "right" in given:
        many = given["right"] if isinstance(given["right"], list) else [given["right"]]
        if not many or not all(map(_is_label, many)):
            raise ConfigError(
                f"suite={path}: right of a task of {party} is {shown(given['right'])}; allowed: a label or a list"
            )
        given["right"] = tuple(one if isinstance(one, str) else label_word(one) for one in many)
    for field, value in given.items():
        if field != "right" and not isinstance(value, str):
            raise ConfigError(f"suite={path}: {field} of a task of {party} is {shown(value)}; allowed: a text")
    files = {key: str(path.parent / given[key]) for key in ("train", "test") if given.get(key)}
    return Task(**{**given, **files})
