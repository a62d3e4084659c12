"""Contextuality beyond two parties with two tasks: cyclic systems of any rank, and any scenario at all.

A *cyclic system* of rank n has n answers in a ring and n contexts, each of two neighbours; CHSH is rank 4, the pentagon of
Klyachko and others rank 5. Delta has a closed form (Dzhafarov, Kujala and Larsson 2015; Kujala and Dzhafarov 2016). In a
*scenario* any sets of measurements are contexts (Abramsky and Brandenburger 2011), and the contextual fraction is a linear
programme over all assignments of outcomes (Abramsky, Barbosa and Mansfield 2017).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ncsim.config.fields import shown
from ncsim.records.joint_counts import array_of
from ncsim.statistics.arguments import numbers
from ncsim.statistics.inequalities import checked_table
from ncsim.statistics.linear_programmes import least
from ncsim.statistics.rationals import common_denominator, sum_of_fractions, summable, whole_numbers

#: Assignments of outcomes to all measurements that a linear programme has, at most.
MAX_ASSIGNMENTS = 2**16


class CyclicStatistics(NamedTuple):
    """Statistics of cyclic systems of rank n; `*batch` are the counts' leading axes. NaN where a context is empty.

    Attributes:
        correlator: mean of the product of each context's two answers, [..., n].
        s_odd: the largest sum of the correlators with an odd number of minus signs, at most n.
        influence: sum over the answers of |difference of their means in their two contexts|, direct influence, at most 2 n.
        contextuality: Delta = s_odd - (n - 2) - influence, at most 2; contextual if and only if above 0.

    Example:
        >>> import numpy as np
        >>> ring = np.tile([[1, 0], [0, 1]], (3, 1, 1))
        >>> ring[2] = [[0, 1], [1, 0]]  # equal, equal, different
        >>> float(cyclic_statistics(ring).contextuality)
        2.0
    """

    correlator: Float[np.ndarray, "*batch n"]
    s_odd: Float[np.ndarray, "*batch"]
    influence: Float[np.ndarray, "*batch"]
    contextuality: Float[np.ndarray, "*batch"]


def cyclic_statistics(counts: Any) -> CyclicStatistics:
    """Delta of cyclic systems of any rank, exact where counts are whole numbers.

    Args:
        counts: [..., n, 2, 2]: in context k the joint outcomes of answer k and answer k + 1 (the last with answer 0), outcome
            0 being -1 and 1 being +1; n is 2 or more. Counts or probabilities.

    Returns:
        See `CyclicStatistics` (Kujala and Dzhafarov 2016).

    Raises:
        ValueError: another shape, or a value that is negative or not finite.

    Example:
        >>> import numpy as np
        >>> table = np.full((2, 2, 2, 2), 4)
        >>> ring = np.stack([table[0, 0], table[1, 0].T, table[1, 1], table[0, 1].T])  # A1 B1 A2 B2, CHSH as rank 4
        >>> float(cyclic_statistics(ring).contextuality)
        -2.0
    """
    shape = array_of("counts", counts).shape[-3:]
    if len(shape) != 3 or shape[0] < 2:
        raise ValueError(f"counts: shape {np.shape(counts)}; allowed: [..., contexts = 2 or more, 2, 2]")
    table: np.ndarray = checked_table(counts, (shape[0], 2, 2))
    # Each table by itself: beside probabilities counts are exact, too.
    whole = np.asarray((table == np.floor(table)).all(axis=(-3, -2, -1)), bool)
    found = CyclicStatistics(*(np.empty((*whole.shape, *each)) for each in (shape[:1], (), (), ())))
    for these, values, add in (
        (whole, whole_numbers(np.asarray(counts)[whole]), sum_of_fractions),
        (~whole, table[~whole], _add),
    ):
        for field, each in zip(found, _cyclic(values, add), strict=True):
            field[these] = each
    return found


def _cyclic(table: np.ndarray, add: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> CyclicStatistics:
    """`cyclic_statistics` of tables [M, n, 2, 2], with what adds up fractions."""
    first, second = (table.sum(axis=axis)[..., 1] - table.sum(axis=axis)[..., 0] for axis in (-1, -2))
    product = table[..., 0, 0] + table[..., 1, 1] - table[..., 0, 1] - table[..., 1, 0]
    total = table.sum(axis=(-1, -2))
    # All signs as they make the sums largest; if that is an even number of minus signs, the least loses.
    signs = np.where(product < 0, -1, 1)
    least = np.argmin(np.where(total > 0, np.abs(_to_compare(product, total)), np.inf), axis=-1)
    flip = np.where((signs < 0).sum(axis=-1) % 2 == 0, -1, 1)
    np.put_along_axis(signs, least[..., None], np.take_along_axis(signs, least[..., None], -1) * flip[..., None], -1)
    # Answer k stands first in context k and second in context k - 1.
    gap = _to_compare(first, total) - np.roll(_to_compare(second, total), 1, axis=-1)
    ahead = np.where(gap < 0, -1, 1)
    own, other = ahead * first, -np.roll(ahead, -1, axis=-1) * second
    s_odd, influence = add(signs * product, total), add(own + other, total)
    delta = add(signs * product - own - other - _of_each(table.shape[-3], total), total)
    return CyclicStatistics(add(product[..., None], total[..., None]), s_odd, influence, delta)


def _to_compare(numerators: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Numbers [M, n] that are equal, or greater, just where the fractions of one table are. Of large totals different fractions may be
    one float: these are whole numbers over a common denominator."""
    there = np.maximum(totals, 1) if totals.dtype.kind != "f" else np.where(totals > 0, totals, 1)
    if totals.dtype.kind == "f" or there.max(initial=1) < 2**26:
        return np.asarray(numerators / there)
    return np.asarray(numerators.astype(object) * common_denominator(there)[1])


def _of_each(rank: int, total: np.ndarray) -> np.ndarray:
    """(n - 2) in one context's total, the first."""
    share = np.zeros(total.shape, total.dtype)
    share[..., 0] = (rank - 2) * total[..., 0]
    return share


def _add(numerators: np.ndarray, totals: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((numerators / totals).sum(axis=-1))


def chain_statistics(counts: np.ndarray) -> CyclicStatistics:
    """Of tables [m, m, 2, 2] the ring of the chained inequality, A_m B_1 A_{m-1} B_2 ... A_1 B_m."""
    m = len(counts)
    ring = []
    for n in range(m):
        ring.append(counts[m - 1 - n, n])
        ring.append(counts[m - 2 - n, n].T if n < m - 1 else counts[m - 1, m - 1].T)
    return cyclic_statistics(np.stack(ring))


def largest_difference(values: np.ndarray) -> float:
    """How far a party's law of outcomes depends on the other's setting, of tables [alice setting, bob setting, outcome, outcome]."""
    laws = values / values.sum(axis=(2, 3), keepdims=True)
    alice, bob = laws.sum(axis=3), laws.sum(axis=2)
    return float(max(np.ptp(alice, axis=1).max(), np.ptp(bob, axis=0).max()))


def contextual_fraction(contexts: Iterable[Iterable[Hashable]], tables: Iterable[Any]) -> float:
    """How much of the tables no joint distribution of all outcomes accounts for, in any scenario.

    Args:
        contexts: the measurements of each context, by name; a name has the same number of outcomes wherever it stands.
        tables: of each context counts or probabilities with one axis per measurement, in that order.

    Returns:
        From 0 (noncontextual) to 1 (strongly contextual), right to about 1e-9 (Abramsky, Barbosa and Mansfield 2017). As everywhere in this definition, marginals
        that differ between contexts count as contextual, too.

    Raises:
        ValueError: as many contexts as tables are not there, a name twice in a context, axes that do not fit, a value that is
            negative or not finite, a context without items, or more than 2^16 assignments.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> pairs = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
        >>> contextual_fraction(pairs, [same, same, same, other])  # a PR box
        1.0
    """
    contexts, laws, outcomes = _checked(contexts, tables)
    names = list(outcomes)
    if math.prod(outcomes.values()) > MAX_ASSIGNMENTS:
        raise ValueError(f"contexts: {math.prod(outcomes.values())} assignments; allowed: {MAX_ASSIGNMENTS}")
    assignments = np.array(list(itertools.product(*(range(outcomes[name]) for name in names))))
    rows = []
    for context, law in zip(contexts, laws, strict=True):
        columns = assignments[:, [names.index(name) for name in context]]
        cell = np.ravel_multi_index(tuple(columns.T), law.shape)
        rows.append(np.arange(law.size)[:, None] == cell)
    limits = np.concatenate([law.ravel() for law in laws])
    found = least(-np.ones(len(assignments)), under=np.concatenate(rows).astype(float), under_targets=limits)
    return min(1.0, max(0.0, 1.0 + float(found.fun)))


def excess_mismatch(contexts: Iterable[Iterable[Hashable]], tables: Iterable[Any]) -> float:
    """How much more often than their own means force them to, at least, the same measurements differ between contexts.

    All measurements of all contexts are put into one joint distribution that has each context's table. Over the pairs of a
    measurement in two contexts, the probabilities that the two differ are added up, and the same with each pair by itself at its
    least is taken off. 0 if and only if nothing is contextual in the sense of Contextuality-by-Default. In a cyclic system
    it is max(Delta, 0) / 2.

    Args:
        contexts: the measurements of each context, by name; each in at most two contexts.
        tables: of each context counts or probabilities with one axis of two outcomes per measurement, in that order.

    Returns:
        0 or above, right to about 1e-9 (CNT1 of Kujala, Dzhafarov and Larsson 2015).

    Raises:
        ValueError: a measurement in more than two contexts, more outcomes than two, or as for `contextual_fraction`.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> pairs = [("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")]
        >>> excess_mismatch(pairs, [same, same, same, other])  # a PR box
        1.0
    """
    from scipy.sparse import csr_array

    contexts, laws, outcomes = _checked(contexts, tables)
    places: dict[Hashable, list[tuple[int, int]]] = {}
    variables = [(n, axis) for n, context in enumerate(contexts) for axis in range(len(context))]
    for n, axis in variables:
        places.setdefault(contexts[n][axis], []).append((n, axis))
    if any(number != 2 for number in outcomes.values()) or any(len(each) > 2 for each in places.values()):
        raise ValueError("contexts: a measurement in more than two contexts, or with other than two outcomes")
    if 2 ** len(variables) > MAX_ASSIGNMENTS:
        raise ValueError(f"contexts: {2 ** len(variables)} assignments; allowed: {MAX_ASSIGNMENTS}")
    values = np.array(list(itertools.product((0, 1), repeat=len(variables))), np.int8)
    cost, forced = np.zeros(len(values)), 0.0
    for pair in places.values():
        if len(pair) == 2:
            one, other = (variables.index(each) for each in pair)
            cost += values[:, one] != values[:, other]
            shares = [np.moveaxis(laws[n], axis, 0)[1].sum() for n, axis in pair]
            forced += abs(float(shares[0] - shares[1]))
    cells, before, column = [], 0, 0
    for law in laws:
        own = values[:, column : column + law.ndim]
        cells.append(before + np.ravel_multi_index(tuple(own.T), law.shape))
        before, column = before + law.size, column + law.ndim
    rows, columns = np.concatenate(cells), np.tile(np.arange(len(values)), len(laws))
    matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(before, len(values)))
    limits = np.concatenate([law.ravel() for law in laws])
    return max(0.0, float(least(cost, matrix, limits).fun) - forced)


def _checked(
    contexts: Iterable[Iterable[Hashable]], tables: Iterable[Any]
) -> tuple[list[tuple[Hashable, ...]], list[np.ndarray], dict[Hashable, int]]:
    """The contexts, of which each may be given by what is read once, their probabilities, and how many outcomes each measurement has."""
    contexts, tables = _names(contexts), _listed("tables", tables, "one table for each context")
    if len(contexts) != len(tables) or not contexts:
        raise ValueError(f"tables: {len(tables)} for {len(contexts)} contexts; allowed: one for each, and at least one")
    laws: list[np.ndarray] = []
    outcomes: dict[Hashable, int] = {}
    for number, (context, table) in enumerate(zip(contexts, tables, strict=True)):
        counts = numbers("tables", table)
        if counts.ndim != len(context) or len(set(context)) < len(context) or counts.size == 0:
            raise ValueError(
                f"contexts: {context} with a table of shape {counts.shape}; allowed: different names, an axis for each"
            )
        if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
            raise ValueError(f"tables: number {number} has a value that is no count, or no items; allowed: 0 or above")
        for name, length in zip(context, counts.shape, strict=True):
            if outcomes.setdefault(name, length) != length:
                raise ValueError(f"contexts: {name} has {outcomes[name]} outcomes and {length}; allowed: one number")
        counts = summable(counts)
        laws.append(counts / counts.sum())
    return contexts, laws, outcomes


def _names(contexts: Any) -> list[tuple[Hashable, ...]]:
    allowed = "for each context the names of its measurements"
    found = [tuple(_listed("contexts", context, allowed)) for context in _listed("contexts", contexts, allowed)]
    for name in itertools.chain(*found):
        try:
            hash(name)
        except TypeError:
            raise ValueError(
                f"contexts: {shown(name)} as a name; allowed: what can be the key of a dictionary"
            ) from None
    return found


def _listed(name: str, values: Any, allowed: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise ValueError(f"{name}: {shown(values)}; allowed: {allowed}") from None
