"""More than two tasks per party, and more than two parties: what each head may be asked, and together with what.

A *scenario* has k parties, each with some tasks, and contexts that ask every party one of its tasks. Each context is a
network of its own with k heads, as in arXiv:2603.04451, section 4.2, where k is 2 and each party has two tasks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ncsim.config.fields import list_of, option_name, shown, whole_number
from ncsim.config.tasks import (
    MAX_ROWS,
    BinaryFunction,
    Tasks,
    TruthTables,
    bits,
    checked_rows,
)
from ncsim.errors import ConfigError

#: Heads of one network: its joint counts have 2^6 cells.
MAX_PARTIES = 6
#: Tasks of one party.
MAX_SETTINGS = 6
MAX_CONTEXTS = 64


@dataclass(frozen=True)
class ScenarioTasks(Tasks):
    """Tasks of any number of parties, and the contexts in which they are asked.

    Attributes:
        inputs: 1 to 64 `rows`, each a tuple of 1 to 16 `features`, zeros and ones.
        answers: of each of 2 to 6 parties its 1 to 6 tasks, each a tuple of `rows` right answers 0 or 1.
        contexts: 1 to 64 different tuples of one task number per party, from 0; in the order in which networks are numbered.
        party_features: of each party the features that are its side's, numbers from 0, for the `overlap` topology.
        name: what reports call it.

    Raises:
        ValueError: another number of anything, a value that is not 0 or 1, a task or feature that is not there, or a context twice.

    Source: contexts as tuples of settings are those of Abramsky and Brandenburger 2011.

    Example:
        >>> rows = [(0, 0), (0, 1), (1, 0), (1, 1)]
        >>> one, other = (0, 0, 1, 1), (0, 1, 0, 1)
        >>> tasks = ScenarioTasks(
        ...     inputs=rows,
        ...     answers=[[one, other], [other, one], [one]],  # the third party has one task
        ...     contexts=[(0, 0, 0), (0, 1, 0), (1, 1, 0)],
        ...     party_features=[[0], [1], [0, 1]],
        ... )
        >>> tasks.parties, tasks.rows, tasks.context_names
        (3, 4, ('111', '121', '221'))
    """

    inputs: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[tuple[int, ...], ...], ...]
    contexts: tuple[tuple[int, ...], ...]
    party_features: tuple[tuple[int, ...], ...]
    name: str = "custom"

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(bits("tasks.inputs", row) for row in self.inputs))
        answers = tuple(tuple(bits("tasks.answers", table) for table in party) for party in self.answers)
        object.__setattr__(self, "answers", answers)
        if not isinstance(self.name, str):
            raise ValueError(f"tasks.name: {shown(self.name)}; allowed: a text")
        checked_rows(self.inputs)
        _between("tasks.answers", len(answers), 2, MAX_PARTIES, "parties")
        for party in answers:
            _between("tasks.answers", len(party), 1, MAX_SETTINGS, "tasks of a party")
            for table in party:
                if len(table) != len(self.inputs):
                    raise ValueError(
                        f"tasks.answers: {len(table)} answers of a task; allowed: one a row, {len(self.inputs)}"
                    )
        object.__setattr__(self, "contexts", self._checked_contexts())
        object.__setattr__(self, "party_features", self._checked_features())

    def _checked_contexts(self) -> tuple[tuple[int, ...], ...]:
        found = []
        for given in self.contexts:
            context = tuple(map(whole_number, given))
            fits = len(context) == self.parties and all(
                task is not None and 0 <= task < len(party) for task, party in zip(context, self.answers, strict=True)
            )
            if not fits:
                raise ValueError(f"tasks.contexts: {shown(tuple(given))}; allowed: one task number per party, from 0")
            found.append(tuple(task for task in context if task is not None))
        _between("tasks.contexts", len(found), 1, MAX_CONTEXTS, "contexts")
        if len(set(found)) != len(found):
            raise ValueError("tasks.contexts: a context is there twice; allowed: each once")
        return tuple(found)

    def _checked_features(self) -> tuple[tuple[int, ...], ...]:
        given = tuple(tuple(party) for party in self.party_features)
        if len(given) != self.parties:
            raise ValueError(f"tasks.party_features: {len(given)} parties; allowed: {self.parties}")
        found = []
        for party in given:
            numbers = [number for number in map(whole_number, party) if number is not None]
            if len(numbers) != len(party) or any(not 0 <= number < self.features for number in numbers):
                raise ValueError(f"tasks.party_features: {shown(party)}; allowed: 0 to {self.features - 1}")
            found.append(tuple(numbers))
        return tuple(found)


def _between(what: str, number: int, low: int, high: int, of: str) -> None:
    if not low <= number <= high:
        raise ValueError(f"{what}: {number} {of}; allowed: {low} to {high}")


def scenario_tasks(
    parties: Sequence[Sequence[BinaryFunction]],
    features: int = 4,
    contexts: Sequence[Sequence[int]] | None = None,
    party_features: Sequence[Sequence[int]] | None = None,
    name: str = "custom",
) -> ScenarioTasks:
    """All 2**features rows of some functions per party, each called with the features as positional arguments.

    Args:
        parties: of each of 2 to 6 parties its 1 to 6 functions of the features to 0 or 1.
        features: binary inputs per row, 1 to 6.
        contexts: tuples of one task number per party; every combination, the last party's fastest, if not given.
        party_features: of each party the features that are its side's; equal shares in order if not given.
        name: a name for reports.

    Returns:
        The tasks, to give to `EnsembleConfig(tasks=...)` and `ncsim.run_scenario`; in the manner of arXiv:2603.04451, section 4.1.

    Raises:
        ValueError: features out of range, or as for `ScenarioTasks`.

    Example:
        >>> tasks = scenario_tasks([[lambda x, y, z: x], [lambda x, y, z: y], [lambda x, y, z: x & z]], features=3)
        >>> tasks.contexts, tasks.party_features
        (((0, 0, 0),), ((0,), (1,), (2,)))
    """
    number, most = whole_number(features), MAX_ROWS.bit_length() - 1
    if number is None or not 1 <= number <= most:
        raise ValueError(f"features: {shown(features)}; allowed: a whole number from 1 to {most}")
    functions = [list_of(party, []) for party in list_of(parties, [])]
    if not functions or not all(party and all(map(callable, party)) for party in functions):
        raise ValueError(f"parties: {shown(parties)}; allowed: of each party a list of functions")
    rows = tuple(itertools.product((0, 1), repeat=number))
    sides = shares(number, len(functions))
    every = itertools.product(*(range(len(party)) for party in functions))
    return ScenarioTasks(
        inputs=rows,
        answers=tuple(tuple(tuple(f(*row) for row in rows) for f in party) for party in functions),
        contexts=tuple(every if contexts is None else (tuple(context) for context in contexts)),
        party_features=tuple(tuple(side) for side in (sides if party_features is None else party_features)),
        name=name,
    )


def shares(features: int, parties: int) -> tuple[range, ...]:
    """The features in order, shared out among the parties; the first ones have more where that does not come out even."""
    cuts = [-(-place * features // max(parties, 1)) for place in range(parties + 1)]
    return tuple(range(*pair) for pair in itertools.pairwise(cuts))


#: What a party may be asked of its two bits, but for complements and the exclusive or.
_EASY: tuple[BinaryFunction, ...] = (
    lambda x, y: x,
    lambda x, y: y,
    lambda x, y: x & y,
    lambda x, y: x | y,
    lambda x, y: x & (1 - y),
)


def _family(settings: int) -> list[BinaryFunction]:
    """So many tasks of two bits, no two of them alike or opposite; the last one is the exclusive or."""
    return [*_EASY[: settings - 1], lambda x, y: x ^ y]


def chained_contexts(settings: int) -> tuple[tuple[int, int], ...]:
    """The 2 m contexts of the chained inequality (`ncsim.chained_inequality`), in row-major order; of m = 2 all four."""
    last = settings - 1
    return tuple(
        (i, j) for i, j in itertools.product(range(settings), repeat=2) if i + j in (last, last - 1) or i == j == last
    )


def chained_tasks(settings: int) -> ScenarioTasks:
    """Two parties with m tasks each, in the 2 m contexts of the chained inequality.

    Alice is asked functions of x1 and x2, Bob the same of x3 and x4: first x1, last x1 xor x2, between them x2, x1 and x2,
    x1 or x2, x1 and not x2, as many as there is place for. With m = 2 they are the paper's four tasks, in its four contexts.

    Args:
        settings: m, 2 to 6: two bits have no seventh task that is not opposite to one of these, or constant.

    Returns:
        The tasks. Contexts are as in the cycle A_m B_1 A_{m-1} B_2 ... A_1 B_m A_m (Braunstein and Caves 1990).

    Raises:
        ConfigError: m is not 2 to 6.

    Example:
        >>> tasks = chained_tasks(3)
        >>> tasks.context_names, tasks.rows
        (('12', '13', '21', '22', '31', '33'), 16)
        >>> from ncsim.config.tasks import CONTEXTS, PAPER_TASKS
        >>> chained_tasks(2).answers == (PAPER_TASKS.alice, PAPER_TASKS.bob), chained_tasks(2).contexts == CONTEXTS
        (True, True)
    """
    number = whole_number(settings)
    if number is None or not 2 <= number <= MAX_SETTINGS:
        raise ConfigError(f"settings: {shown(settings)}; allowed: a whole number from 2 to {MAX_SETTINGS}")
    family = _family(number)
    parties = [
        [lambda x1, x2, x3, x4, f=f: f(x1, x2) for f in family],
        [lambda x1, x2, x3, x4, f=f: f(x3, x4) for f in family],
    ]
    return scenario_tasks(parties, 4, chained_contexts(number), name=f"chained {number}")


def three_party_tasks(shared: bool = False) -> ScenarioTasks:
    """Three parties with two tasks each, in all eight contexts.

    Each party has two bits of its own, and is asked the first and the exclusive or of both, as in the paper: 64 rows. With
    `shared` each has one bit of its own and all have the fourth in common: 16 rows, which every executor takes.

    Args:
        shared: whether the second bit is common to all.

    Returns:
        The tasks, in the manner of arXiv:2603.04451, section 4.1; `ncsim.mermin_inequality` and `ncsim.svetlichny_inequality`
        ask about them.

    Raises:
        ConfigError: `shared` is neither True nor False.

    Example:
        >>> three_party_tasks().rows, three_party_tasks(shared=True).rows
        (64, 16)
        >>> three_party_tasks().context_names
        ('111', '112', '121', '122', '211', '212', '221', '222')
    """
    if not isinstance(shared, bool):
        raise ConfigError(f"shared: {shown(shared)}; allowed: True or False")
    if shared:
        parties: list[list[BinaryFunction]] = [[lambda *x, p=p: x[p], lambda *x, p=p: x[p] ^ x[3]] for p in range(3)]
        sides = [(p, 3) for p in range(3)]
        return scenario_tasks(parties, 4, party_features=sides, name="three parties, a bit in common")
    parties = [[lambda *x, p=p: x[2 * p], lambda *x, p=p: x[2 * p] ^ x[2 * p + 1]] for p in range(3)]
    return scenario_tasks(parties, 6, name="three parties")


def one_network(tasks: Tasks) -> ScenarioTasks:
    """All tasks of all parties as the heads of one network, in one context: what has one joint distribution of all answers.

    Args:
        tasks: with 2 to 6 tasks in all. Heads are numbered party by party.

    Returns:
        Tasks of as many parties with one task each. Whatever network is trained, its joint counts obey every classical
        bound (Fine 1982).

    Raises:
        ConfigError: more than 6 tasks in all.

    Example:
        >>> one_network(chained_tasks(3)).context_names
        ('111111',)
    """
    if not isinstance(tasks, Tasks):
        raise ConfigError(f"tasks: {shown(tasks)}; allowed: tasks, as of ncsim.chained_tasks(3)")
    heads = [(table, side) for party, side in zip(tasks.answers, tasks.party_features, strict=True) for table in party]
    if len(heads) > MAX_PARTIES:
        raise ConfigError(f"tasks: {len(heads)} in all; allowed on one network: {MAX_PARTIES}")
    return ScenarioTasks(
        inputs=tasks.inputs,
        answers=tuple((table,) for table, _ in heads),
        contexts=((0,) * len(heads),),
        party_features=tuple(side for _, side in heads),
        name=f"{tasks.name}, one network",
    )


def two_by_two(tasks: Tasks) -> TruthTables:
    """The tasks, where they are two of two parties.

    Raises:
        ConfigError: they are a scenario's.
    """
    if not isinstance(tasks, TruthTables):
        raise ConfigError(
            f"--tasks: {tasks.name}, a scenario; allowed here: two tasks of two parties (scenarios: ncsim.run_scenario)"
        )
    return tasks


def refused_scenario(config: Any) -> str | None:
    """Why no run of a scenario has the fields of this `EnsembleConfig`, in one line; None where one may."""
    if config.training_rows:
        return (
            f"--training-rows: {config.training_rows} with {config.tasks.name}; allowed in a scenario: 0, which is all"
        )
    if config.tasks.parties == 2:
        return None
    for name, allowed in (("topology", ("dense",)), ("intervention", ("none", "frozen_trunk"))):
        if getattr(config, name) not in allowed:
            words = f"{option_name(name)}: {getattr(config, name)} with {config.tasks.parties} parties"
            return f"{words}, and it is about two; allowed: {', '.join(allowed)}"
    for name in ("alice_weight", "bob_weight"):
        if getattr(config, name) != 1:
            return f"{option_name(name)}: {getattr(config, name)} with {config.tasks.parties} parties; allowed: 1"
    return None


def tasks_to_dict(tasks: Tasks) -> dict[str, Any]:
    """Tasks as JSON can hold them."""
    known: Any = tasks
    return dataclasses.asdict(known)


def tasks_from_dict(values: dict[str, object]) -> Tasks:
    """The tasks that `dataclasses.asdict` gave."""
    kind = ScenarioTasks if "contexts" in values else TruthTables
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"tasks.{unknown[0]}: no such key; allowed: {', '.join(sorted(known))}")
    return kind(**values)  # type: ignore[arg-type]
