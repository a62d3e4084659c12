"""What the two heads are asked: truth tables, and the four contexts in which they are asked it.

Alice and Bob each have two tasks; a *context* is a pair (Alice's task i, Bob's task j), and each context is a network
of its own, trained on that pair alone (arXiv:2603.04451, section 4.2).
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncsim.config.fields import list_of, shown, whole_number
from ncsim.formatting import counted

#: The contexts (i, j) in the order in which they are trained, stored and printed: 11, 12, 21, 22.
CONTEXTS: tuple[tuple[int, int], ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
#: The signs with which the contexts' correlators enter S, in the order of CONTEXTS.
S_SIGNS = np.array([1, 1, 1, -1])

#: Rows are unrolled in the compiled training step, so a table may not be arbitrarily long.
MAX_ROWS = 64
MAX_FEATURES = 16

BinaryFunction = Callable[..., int]


def bits(what: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Values that are 0 or 1, as True and 1.0 are; 0.9 and "0" are neither.

    Raises:
        ValueError: another value.
    """
    found = tuple(values)
    for value in found:
        kind = isinstance(value, numbers.Real | np.bool_) or whole_number(value) is not None
        if not kind or value not in (0, 1):
            raise ValueError(f"{what}: {shown(value)}; allowed: 0 or 1")
    return tuple(map(int, found))


def context_names(style: str = "{i}{j}") -> tuple[str, ...]:
    """The contexts' names in the order of CONTEXTS; `style` has Alice's task as {i} and Bob's as {j}: "A{i}B{j}"."""
    return tuple(style.format(i=i + 1, j=j + 1) for i, j in CONTEXTS)


def checked_rows(inputs: Sequence[Sequence[int]]) -> None:
    """Refuse inputs that are no rows.

    Raises:
        ValueError: too many rows or features, or a row of another length.
    """
    if not 1 <= len(inputs) <= MAX_ROWS:
        raise ValueError(f"tasks.inputs: {len(inputs)} rows; allowed: 1 to {MAX_ROWS}")
    features = len(inputs[0])
    if not 1 <= features <= MAX_FEATURES:
        raise ValueError(f"tasks.inputs: {features} features; allowed: 1 to {MAX_FEATURES}")
    for number, row in enumerate(inputs):
        if len(row) != features:
            raise ValueError(f"tasks.inputs: row {number} has {len(row)} features, row 0 has {features}")


class Tasks:
    """What networks are asked: two tasks of two parties (`TruthTables`), or more (`ncsim.ScenarioTasks`).

    Attributes:
        inputs: rows, each a tuple of features, zeros and ones.
        answers: of each party its tasks, each a tuple of a right answer per row.
        contexts: one task number per party, from 0, in the order in which networks are numbered; arXiv:2603.04451, section 4.2,
            has four.
        party_features: of each party the features that are its side's.
        name: what reports call it.

    Example:
        >>> from ncsim import PAPER_TASKS
        >>> PAPER_TASKS.rows, PAPER_TASKS.features, PAPER_TASKS.parties, PAPER_TASKS.context_names
        (16, 4, 2, ('11', '12', '21', '22'))
        >>> PAPER_TASKS.party_features
        ((0, 1), (2, 3))
    """

    inputs: tuple[tuple[int, ...], ...]
    name: str
    answers: tuple[tuple[tuple[int, ...], ...], ...]  # right answers by party and task
    contexts: tuple[tuple[int, ...], ...]  # one task number per party, in the order in which networks are numbered
    party_features: tuple[tuple[int, ...], ...]  # the features of each party's side

    @property
    def rows(self) -> int:
        """Number of rows, the items over which a correlator is averaged."""
        return len(self.inputs)

    @property
    def features(self) -> int:
        """Number of binary inputs."""
        return len(self.inputs[0])

    @property
    def parties(self) -> int:
        """Heads of a network."""
        return len(self.answers)

    @property
    def context_names(self) -> tuple[str, ...]:
        """The contexts as words: the numbers of their tasks, from 1, as 12."""
        return tuple("".join(str(task + 1) for task in context) for context in self.contexts)


@dataclass(frozen=True)
class TruthTables(Tasks):
    """Two binary tasks a party over the same binary inputs (arXiv:2603.04451, section 4.1, equations 2 and 3).

    Attributes:
        inputs: 1 to 64 `rows`, each a tuple of 1 to 16 `features`, zeros and ones. Every row weighs the same in training
            and in S.
        alice: the right answers of Alice's tasks alpha_1 and alpha_2, two tuples of `rows` zeros and ones.
        bob: the right answers of Bob's tasks beta_1 and beta_2, likewise.
        alice_features: the features that belong to Alice's side, for the `overlap` topology; numbers from 0. The first half, if not
            given.
        bob_features: the features that belong to Bob's side, likewise; the second half, if not given.
        name: what reports call it.

    Raises:
        ValueError: a row of another length, a value that is not 0 or 1, a feature out of range, or a name that is no text.

    Example:
        >>> tables = TruthTables(
        ...     inputs=[(0, 0), (0, 1), (1, 0), (1, 1)],
        ...     alice=[(0, 0, 1, 1), (0, 1, 1, 0)],  # x, and x xor y
        ...     bob=[(0, 1, 0, 1), (0, 0, 0, 1)],  # y, and x and y
        ...     alice_features=[0],
        ...     bob_features=[1],
        ... )
        >>> tables.rows, tables.features
        (4, 2)
        >>> tables.contexts == ((0, 0), (0, 1), (1, 0), (1, 1)), tables.answers == (tables.alice, tables.bob)
        (True, True)
        >>> tables.party_features
        ((0,), (1,))
    """

    inputs: tuple[tuple[int, ...], ...]
    alice: tuple[tuple[int, ...], tuple[int, ...]]
    bob: tuple[tuple[int, ...], tuple[int, ...]]
    alice_features: tuple[int, ...] = None  # type: ignore[assignment]  # `__post_init__` has tuples
    bob_features: tuple[int, ...] = None  # type: ignore[assignment]
    name: str = "custom"

    def __post_init__(self) -> None:
        # Lists and arrays are taken too; tuples are what keeps the table hashable and safe to compare.
        for what in ("inputs", "alice", "bob"):
            object.__setattr__(self, what, tuple(bits(f"tasks.{what}", row) for row in getattr(self, what)))
        if not isinstance(self.name, str):
            raise ValueError(f"tasks.name: {shown(self.name)}; allowed: a text")
        checked_rows(self.inputs)
        features = self.features
        half = (features + 1) // 2
        for what, side in (("alice_features", range(half)), ("bob_features", range(half, features))):
            given = getattr(self, what)
            object.__setattr__(self, what, tuple(side if given is None else given))
        for party in ("alice", "bob"):
            tables = getattr(self, party)
            if len(tables) != 2:
                raise ValueError(f"tasks.{party}: {len(tables)} tables; allowed: 2")
            for number, table in enumerate(tables):
                if len(table) != len(self.inputs):
                    raise ValueError(
                        f"tasks.{party}: table {number} has {len(table)} answers; allowed: one a row, {len(self.inputs)}"
                    )
            numbered = tuple(map(whole_number, getattr(self, f"{party}_features")))
            for given, feature in zip(getattr(self, f"{party}_features"), numbered, strict=True):
                if feature is None or not 0 <= feature < features:
                    raise ValueError(f"tasks.{party}_features: {shown(given)}; allowed: 0 to {features - 1}")
            object.__setattr__(self, f"{party}_features", numbered)

    @property
    def answers(self) -> tuple[tuple[tuple[int, ...], ...], ...]:  # type: ignore[override]
        """Right answers by party and task."""
        return (self.alice, self.bob)

    @property
    def contexts(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        """CONTEXTS."""
        return CONTEXTS

    @property
    def party_features(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        """The features of each party's side."""
        return (self.alice_features, self.bob_features)


def truth_tables(
    alice: Sequence[BinaryFunction],
    bob: Sequence[BinaryFunction],
    features: int = 4,
    alice_features: Sequence[int] | None = None,
    bob_features: Sequence[int] | None = None,
    name: str = "custom",
) -> TruthTables:
    """All 2**features rows of two functions a party, each called with the features as positional arguments.

    By default the first half of the features is Alice's and the second half Bob's.

    Args:
        alice: two functions of the features to 0 or 1: the tasks alpha_1 and alpha_2.
        bob: likewise beta_1 and beta_2.
        features: binary inputs per row, 1 to 6 (there are 2**features rows, 64 at most).
        alice_features: numbers of the inputs that Alice's half of an overlapping network sees; the first half if
            not given.
        bob_features: likewise Bob's; the second half if not given.
        name: a name for reports.

    Returns:
        The tables, to give to `EnsembleConfig(tasks=...)`. The paper's are equations 2 and 3 of arXiv:2603.04451.

    Raises:
        ValueError: features out of range, not two functions a party, or as for `TruthTables`.

    Example:
        >>> truth_tables([lambda x, y: x, lambda x, y: 1 - x], [lambda x, y: y, lambda x, y: x & y], features=2).rows
        4
    """
    number, most = whole_number(features), MAX_ROWS.bit_length() - 1
    if number is None or not 1 <= number <= most:
        raise ValueError(f"features: {shown(features)}; allowed: a whole number from 1 to {most}")
    for party, given in (("alice", alice), ("bob", bob)):
        functions = list_of(given, [])
        if not functions or not all(map(callable, functions)):
            raise ValueError(f"{party}: {shown(given)}; allowed: a list of 2 functions")
        if len(functions) != 2:
            raise ValueError(f"{party}: {counted(len(functions), 'function')}; allowed: 2")
    rows = tuple(itertools.product((0, 1), repeat=number))
    return TruthTables(
        inputs=rows,
        alice=tuple(tuple(function(*row) for row in rows) for function in alice),  # type: ignore[arg-type]
        bob=tuple(tuple(function(*row) for row in rows) for function in bob),  # type: ignore[arg-type]
        alice_features=alice_features,  # type: ignore[arg-type]
        bob_features=bob_features,  # type: ignore[arg-type]
        name=name,
    )


#: Equations (2) and (3): alpha_1 = X1, alpha_2 = X1 xor X2, beta_1 = X3, beta_2 = X3 xor X4.
PAPER_TASKS = truth_tables(
    alice=[lambda x1, x2, x3, x4: x1, lambda x1, x2, x3, x4: x1 ^ x2],
    bob=[lambda x1, x2, x3, x4: x3, lambda x1, x2, x3, x4: x3 ^ x4],
    name="paper",
)


def encoded_inputs(tasks: Tasks, encoding: str) -> np.ndarray:
    """The rows as the network sees them: float64[rows, features], {0, 1} for "binary", {-1, +1} for "sign"."""
    inputs = np.asarray(tasks.inputs, np.float64)
    return inputs if encoding == "binary" else 2.0 * inputs - 1.0


def context_targets(tasks: Tasks) -> np.ndarray:
    """Right answers of all heads in every context: float64[context, rows, party] of 0 and 1."""
    return np.asarray(
        [np.stack([tasks.answers[p][task] for p, task in enumerate(each)], axis=1) for each in tasks.contexts],
        np.float64,
    )
