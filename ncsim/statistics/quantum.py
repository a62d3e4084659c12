"""Is a table quantum? For tables of two parties with two settings, over ensembles, decided from the counts themselves.

A table that signals is none of a quantum state, nor of any shared cause. For one that does not signal:

* It is local just where no CHSH sum exceeds 2 (Fine 1982).
* Some quantum state has its four correlators just where |c11 c12 - c21 c22| <= s11 s12 + s21 s22, with s = sqrt(1 - c c):
  Landau 1988; as sums of arcsines, |asin c11 + asin c12 + asin c21 - asin c22| <= pi and so for each place of the minus,
  Tsirelson 1987 and Masanes 2003. If all accuracies are one half, that state then has the whole table.
* With other accuracies the same condition on (c - a b) / sqrt((1 - a a)(1 - b b)) is necessary, and stronger: level 1 of
  Navascues, Pironio and Acin 2007. Higher levels (`ncsim.npa_visibility`) exclude more.

Roots are squared away, so that all is decided in whole numbers: a table on the edge is inside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ncsim.statistics.inequalities import checked_table
from ncsim.statistics.rationals import EXACT


class QuantumStatistics(NamedTuple):
    """What kind of table each is; `*batch` are the counts' leading axes. A table with an empty context is False in all.

    Attributes:
        signalling: an accuracy depends on the other party's setting, bool[...].
        local: without signalling, and one joint distribution of four answers has it.
        quantum_correlators: some quantum state has these four correlators, whatever the accuracies and whether it signals.
        level_1: without signalling, and level 1 of the hierarchy does not exclude it. Every quantum table is among these.
        arcsine_excess: the largest |sum of three arcsines less the fourth| less pi, float64[...]: above 0 where no quantum
            state has the correlators, pi at most. NaN where a context is empty.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = quantum_statistics(np.stack([[same, same], [same, other]]))  # a PR box
        >>> bool(box.signalling), bool(box.local), bool(box.quantum_correlators)
        (False, False, False)
        >>> float(box.arcsine_excess) == np.pi
        True
    """

    signalling: Bool[np.ndarray, "*batch"]
    local: Bool[np.ndarray, "*batch"]
    quantum_correlators: Bool[np.ndarray, "*batch"]
    level_1: Bool[np.ndarray, "*batch"]
    arcsine_excess: Float[np.ndarray, "*batch"]


def quantum_statistics(counts: Any) -> QuantumStatistics:
    """What kind of table each is: signalling, local, quantum in its correlators, or excluded by level 1.

    Args:
        counts: joint counts [..., 2, 2, 2, 2] with axes (i, j, a, b), whole numbers. Tables of probabilities are multiplied
            by 10^9 and rounded, so that an edge is met to 1e-9 only.

    Returns:
        See `QuantumStatistics` (Landau 1988; Masanes 2003).

    Raises:
        ValueError: another shape, a count that is negative or not finite.

    Example:
        >>> import numpy as np
        >>> kinds = quantum_statistics(np.full((3, 2, 2, 2, 2), 4))  # three tables of coin tosses
        >>> kinds.local.tolist(), kinds.level_1.tolist()
        ([True, True, True], [True, True, True])
    """
    table = checked_table(counts, (2, 2, 2, 2))
    if not np.all((table == np.floor(table)) & (table < EXACT)):
        table = np.round(table * 1e9)
    cells = table.reshape(-1, 4, 4)
    # Members repeat each other: each table is decided once.
    once, place = np.unique(cells.reshape(-1, 16), axis=0, return_inverse=True)
    found = _decided(once.reshape(-1, 4, 4).astype(np.int64).astype(object))
    batch = table.shape[:-4]
    return QuantumStatistics(*(each[place.reshape(-1)].reshape(batch) for each in found))


def _decided(cells: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of `QuantumStatistics` of tables [M, 4, 4], Python's integers."""
    total = cells.sum(axis=-1)
    whole = np.asarray((total > 0).all(axis=-1), bool)
    total[~whole] = 1
    scale = np.lcm.reduce(total, axis=-1)
    a, b, c = (
        (cells @ np.array(signs, object)) * (scale[:, None] // total)
        for signs in ((-1, -1, 1, 1), (-1, 1, -1, 1), (1, -1, -1, 1))
    )
    # Alice's accuracy with either setting of Bob, and the other way round.
    signals = (a[:, 0] != a[:, 1]) | (a[:, 2] != a[:, 3]) | (b[:, 0] != b[:, 2]) | (b[:, 1] != b[:, 3])
    signals = np.asarray(signals, bool)
    sums = [c.sum(axis=-1) - 2 * c[:, minus] for minus in range(4)]
    largest = np.maximum.reduce([abs(each) for each in sums])
    local = np.asarray(largest <= 2 * scale, bool)
    one = scale**2
    correlators = _overlap(c, [one - c[:, n] ** 2 for n in range(4)], one * 0 + 1, one * 0 + 1)
    level_1 = _level_1(a, b, c, scale)
    angles = np.arcsin((c / scale[:, None]).astype(float))
    excess = np.max([np.abs(angles.sum(axis=-1) - 2 * angles[:, minus]) for minus in range(4)], axis=0) - np.pi
    return (
        signals & whole,
        local & ~signals & whole,
        correlators & whole,
        level_1 & ~signals & whole,
        np.where(whole, excess, np.nan),
    )


def _level_1(a: np.ndarray, b: np.ndarray, c: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The same condition on covariances, multiplied through by what the means leave of the variances."""
    means = (a[:, [0, 0, 2, 2]], b[:, [0, 1, 0, 1]])  # of a table without signalling; of others nothing is said
    covariance = c * scale[:, None] - means[0] * means[1]
    left = [scale[:, None] ** 2 - mean**2 for mean in means]
    rest = left[0] * left[1] - covariance**2
    return _overlap(covariance, [rest[:, n] for n in range(4)], left[0][:, 2], left[0][:, 0])


def _overlap(c: np.ndarray, rest: list[np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|c11 c12 first - c21 c22 second| <= first sqrt(rest11 rest12) + second sqrt(rest21 rest22), in whole numbers.

    Between Bob's two vectors lies an angle. Each of Alice's settings leaves an interval for it: do the two meet?
    """
    difference = (c[:, 0] * c[:, 1] * first - c[:, 2] * c[:, 3] * second) ** 2
    one, other = rest[0] * rest[1] * first**2, rest[2] * rest[3] * second**2
    missing = difference - one - other
    possible = np.asarray(np.logical_and.reduce([each >= 0 for each in rest]), bool)
    return possible & np.asarray((missing <= 0) | (missing**2 <= 4 * one * other), bool)
