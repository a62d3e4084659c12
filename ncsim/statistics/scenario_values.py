"""What can be asked of a scenario's joint counts: chained, Mermin's and Svetlichny's value, and Delta of a cycle of any length.

Counts are [..., contexts, 2^k]: the numbers of rows by which of the k heads were right, the first head's outcome the highest bit.
Contextuality is that of Dzhafarov and Kujala: the same task in two contexts is two random variables. In a *cycle* every context
has two tasks and every task stands in two contexts; the chained inequality's 2 m contexts are one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncsim.config.tasks import Tasks
from ncsim.statistics.inequalities import (
    LinearInequality,
    chained_inequality,
    mermin_inequality,
    svetlichny_inequality,
)
from ncsim.statistics.intervals import Estimate, mean_over_members
from ncsim.statistics.rationals import sum_of_fractions
from ncsim.statistics.scenarios import CyclicStatistics, cyclic_statistics


class Question(NamedTuple):
    """An inequality as a scenario's contexts answer it.

    Attributes:
        inequality: with its bounds.
        signs: +1, -1, or 0 where a context does not enter, int64[contexts].
    """

    inequality: LinearInequality
    signs: np.ndarray

    @property
    def name(self) -> str:
        """Of the inequality."""
        return self.inequality.name


@functools.lru_cache(maxsize=64)  # bounds of three parties take a second
def questions(tasks: Tasks) -> tuple[Question, ...]:
    """The inequalities that these contexts can be asked: chained, or Mermin's and Svetlichny's."""
    settings = tuple(map(len, tasks.answers))
    known: list[LinearInequality] = []
    if len(settings) == 2 and settings[0] == settings[1] >= 2:
        known = [chained_inequality(settings[0])]
    elif settings == (2, 2, 2):
        known = [mermin_inequality(), svetlichny_inequality()]
    found = []
    for inequality in known:
        weights = inequality.coefficients.reshape(*settings, -1)[..., -1]  # of the cell in which all are right
        if set(zip(*np.nonzero(weights), strict=True)) <= set(tasks.contexts):
            signs = [int(weights[context]) for context in tasks.contexts]
            found.append(Question(inequality, np.array(signs, np.int64)))
    return tuple(found)


def parties_of(counts: np.ndarray) -> int:
    """k, of counts [..., 2^k]."""
    return int(counts.shape[-1]).bit_length() - 1


def outcome_signs(parties: int) -> np.ndarray:
    """Outcomes -1 and +1 of each party in each cell, int64[2^k, k]."""
    return np.array(list(itertools.product((-1, 1), repeat=parties)), np.int64)


def means(counts: np.ndarray) -> np.ndarray:
    """Mean outcome of each head in each context, float64[..., contexts, k]; NaN of an empty context."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = counts @ outcome_signs(parties_of(counts))
        return np.asarray(sums / counts.sum(axis=-1)[..., None])


def correlators(counts: np.ndarray) -> np.ndarray:
    """Mean product of all heads' outcomes in each context, float64[..., contexts]; NaN of an empty context."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_products(counts) / counts.sum(axis=-1))


def _products(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts @ outcome_signs(parties_of(counts)).prod(axis=-1))


def values(counts: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Sum of the correlators with these signs, float64[...]: exact of whole counts, NaN where a context that enters is empty."""
    used = np.flatnonzero(signs)
    return sum_of_fractions(signs[used] * _products(counts)[..., used], counts.sum(axis=-1)[..., used])


def values_of_accuracies(counts: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """As `values`, with each correlator the product of its heads' means: what accuracies alone give."""
    used = np.flatnonzero(signs)
    return np.asarray((signs[used] * means(counts)[..., used, :].prod(axis=-1)).sum(axis=-1))


class Cycle(NamedTuple):
    """Contexts of two tasks in the order of a ring.

    Attributes:
        order: numbers of the contexts.
        turned: of each whether the second party's task comes first.
    """

    order: tuple[int, ...]
    turned: tuple[bool, ...]

    def ring(self, counts: np.ndarray) -> np.ndarray:
        """Counts [..., contexts, 4] as `ncsim.cyclic_statistics` takes them, [..., contexts, 2, 2]."""
        table = counts.reshape(*counts.shape[:-1], 2, 2)[..., list(self.order), :, :]
        return np.where(np.array(self.turned)[:, None, None], np.swapaxes(table, -1, -2), table)


def cycle_of(tasks: Tasks) -> Cycle | None:
    """The ring that all contexts of two parties make; None where they make none."""
    if tasks.parties != 2:
        return None
    nodes = [((0, a), (1, b)) for a, b in tasks.contexts]
    order, turned, at = [0], [False], nodes[0][1]
    while len(order) <= len(nodes):
        following = [n for n, pair in enumerate(nodes) if at in pair and n != order[-1]]
        if len(following) != 1:
            return None
        number = following[0]
        if number == 0:
            return Cycle(tuple(order), tuple(turned)) if len(order) == len(nodes) and at == nodes[0][0] else None
        if number in order:
            return None
        order.append(number)
        turned.append(nodes[number][0] != at)
        at = nodes[number][0] if turned[-1] else nodes[number][1]
    return None


def cycle_statistics(counts: np.ndarray, cycle: Cycle) -> CyclicStatistics:
    """s_odd, influence and Delta of counts [..., contexts, 4] whose contexts make a ring."""
    return cyclic_statistics(cycle.ring(counts))


def pooled_delta(counts: np.ndarray, cycle: Cycle, level: float = 0.95) -> Estimate:
    """Delta of the counts of all members together, [M, contexts, 4], with an interval over members.

    Each correlator and each mean has an interval of its own at a level divided by their number. Delta is the largest and the
    smallest that is possible within all of them: conservative, above all for long rings. Networks that diverged take no part.
    """
    ring = cycle.ring(counts)
    value = float(cyclic_statistics(ring.sum(axis=0, dtype=np.int64)).contextuality)
    size = ring.shape[1]
    each = 1 - (1 - level) / (3 * size)
    limits = np.array([[_limits(ring[:, k], signs, each) for k in range(size)] for signs in _PAIR_SIGNS])
    product, first, second = limits
    influence = np.array([0.0, 0.0])
    for k in range(size):
        (low, high), (other_low, other_high) = first[k], second[k - 1]
        influence += max(0.0, low - other_high, other_low - high), max(high - other_low, other_high - low)
    # No correlators have a largest sum below 0, and none goes with means that move by the most: Delta is never below -2 a context.
    low = max(_largest_odd(product[:, 0], -product[:, 1]), 0.0) - (size - 2) - influence[1]
    high = _largest_odd(product[:, 1], -product[:, 0]) - (size - 2) - influence[0]
    low, high = max(low, -2.0 * size), min(high, 2.0)
    return Estimate(value, min(low, value), max(high, value), "intervals of all means together", level)


#: Outcomes of a context's pair by cell 00, 01, 10, 11: their product, the first and the second.
_PAIR_SIGNS = np.array([[1, -1, -1, 1], [-1, -1, 1, 1], [-1, 1, -1, 1]])


def _limits(context: np.ndarray, signs: np.ndarray, level: float) -> tuple[float, float]:
    cells = context.reshape(-1, 4)
    total = cells.sum(axis=1)
    found = mean_over_members((cells @ signs)[total > 0] / total[total > 0], (-1.0, 1.0), level)
    return found.low, found.high


def _largest_odd(plus: np.ndarray, minus: np.ndarray) -> float:
    """The largest sum of one of the two for each, `minus` an odd number of times."""
    best = float(np.maximum(plus, minus).sum())
    odd = int((minus > plus).sum()) % 2 == 1
    return best if odd else best - float(np.abs(plus - minus).min())


def is_certain(counts: np.ndarray) -> np.ndarray:
    """Which heads gave one outcome on all rows of a context, right or wrong: bool[..., contexts, k]; False of an empty one."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(means(counts)) == 1)


def connections(contexts: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Each task that two contexts share, as (party, one context, the other).

    Raises:
        ValueError: a task stands in more than two contexts, where it is not said which pairs are to be alike.
    """
    found = []
    for party in range(len(contexts[0])):
        for task in {context[party] for context in contexts}:
            there = [number for number, context in enumerate(contexts) if context[party] == task]
            if len(there) > 2:
                raise ValueError(f"contexts: task {task} of party {party} in {len(there)}; allowed: in one or two")
            if len(there) == 2:
                found.append((party, there[0], there[1]))
    return found


def explained_by_certainty(counts: np.ndarray, contexts: Sequence[Sequence[int]]) -> np.ndarray:
    """Whether heads that are certain in some context leave no room for contextuality: bool[...] of counts [..., contexts, 2^k].

    Contexts are joined by the tasks that they share. A task that is certain in one of two contexts differs between the two as
    often as the means say, whatever else is so: that join may be cut. Joins that make no ring can all be glued at their
    means, one after another. So where no ring is left, nothing is contextual. In a cycle one certain head is enough; in Mermin's
    four contexts, each joined with each, it is not.
    """
    joins, certain = connections(contexts), is_certain(counts)
    if not joins:
        return np.ones(counts.shape[:-2], bool)
    cut = np.stack([certain[..., one, p] | certain[..., other, p] for p, one, other in joins], axis=-1)
    flat = cut.reshape(-1, len(joins))
    patterns, place = np.unique(flat, axis=0, return_inverse=True)
    good = np.array(
        [
            _has_no_ring(len(contexts), [join[1:] for join, gone in zip(joins, each, strict=True) if not gone])
            for each in patterns
        ]
    )
    return np.asarray(good[place.ravel()].reshape(cut.shape[:-1]))


def _has_no_ring(nodes: int, edges: Sequence[tuple[int, int]]) -> bool:
    group = list(range(nodes))
    for one, other in edges:
        if group[one] == group[other]:
            return False
        group = [group[one] if each == group[other] else each for each in group]
    return True
