"""Is a table quantum? For tables of two parties with two settings, over ensembles.

A table that signals is none of a quantum state, nor of any shared cause. For one that does not signal:

* It is local just where no CHSH sum exceeds 2 (Fine 1982).
* Some quantum state has its four correlators just where |c11 c12 - c21 c22| <= s11 s12 + s21 s22, with s = sqrt(1 - c c):
  Landau 1988; as sums of arcsines, |asin c11 + asin c12 + asin c21 - asin c22| <= pi and so for each place of the minus,
  Tsirelson 1987 and Masanes 2003. If all accuracies are one half, that state then has the whole table.
* With other accuracies the same condition on (c - a b) / sqrt((1 - a a)(1 - b b)) is necessary, and stronger: level 1 of
  Navascues, Pironio and Acin 2007. Higher levels (`ncsim.npa_visibility`) exclude more.

Roots are squared away, so that all is decided in whole numbers: a table of counts that is on the edge is inside.

Probabilities are rounded before they come here, so that nearly all of them signal in their last bits and none is on an edge. They are
decided to within `TOLERANCE`, by the same whole numbers of means that do not signal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ncsim.statistics.inequalities import checked_table
from ncsim.statistics.rationals import EXACT

#: How far an accuracy of probabilities may depend on the other's setting, and what share of coin tosses may bring them inside.
TOLERANCE = 1e-9
#: Means of probabilities are whole multiples of one over this: a step is far below the tolerance.
STEPS = 2**52


class QuantumStatistics(NamedTuple):
    """What kind of table each is; `*batch` are the counts' leading axes. A table with an empty context is False in all.

    Attributes:
        signalling: an accuracy depends on the other party's setting, bool[...].
        local: without signalling, and one joint distribution of four answers has it.
        quantum_correlators: some quantum state has these four correlators, whatever the accuracies and whether it signals.
        level_1: without signalling, and level 1 of the hierarchy does not exclude it. Every quantum table is among these.
        arcsine_excess: the largest |sum of three arcsines less the fourth| less pi, float64[...]: above 0 where no quantum
            state has the correlators, pi at most; of probabilities on an edge up to 2e-4, since arcsines are steep at 1. NaN where a
            context is empty.

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


@np.errstate(under="ignore")
def quantum_statistics(counts: Any) -> QuantumStatistics:
    """What kind of table each is: signalling, local, quantum in its correlators, or excluded by level 1.

    A table of whole numbers, of NumPy's integers or of floats below 2^53, is taken for counts and decided exactly. Any other is taken for
    probabilities or weights: each context is divided by its total, and its kind is decided to within 1e-9. Accuracies that differ by
    1e-9 at most do not signal, and are replaced by their mean. What then comes inside with a share of 1e-9 of coin tosses is inside: S up to
    2 + 2e-9 is local. Probabilities need about ten digits, or they signal by their rounding.

    Args:
        counts: joint counts or probabilities, [..., 2, 2, 2, 2] with axes (i, j, a, b). Each table of a batch is decided by itself.

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
    given = np.asarray(counts)
    whole = given.dtype.kind in "iu"  # which float64 would round from 2^53 on
    # Members repeat each other: each table is decided once.
    once, place = np.unique((given if whole else table).reshape(-1, 16), axis=0, return_inverse=True)
    counted = whole | ((once == np.floor(once)) & (once < EXACT)).all(axis=-1)
    cells = once.reshape(-1, 4, 4)
    found = [np.empty(len(once), bool) for _ in range(4)] + [np.empty(len(once))]
    for these, decided in ((counted, _of_counts), (~counted, _of_probabilities)):
        for each, values in zip(found, decided(cells[these]), strict=True):
            each[these] = values
    batch = table.shape[:-4]
    return QuantumStatistics(*(each[place.reshape(-1)].reshape(batch) for each in found))


#: Of the cells 00, 01, 10, 11: Alice's outcome, Bob's, and their product.
_SIGNS = ((-1, -1, 1, 1), (-1, 1, -1, 1), (1, -1, -1, 1))


def _of_counts(cells: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of `QuantumStatistics` of counts [M, 4, 4], whole numbers."""
    cells = (cells.astype(np.int64) if cells.dtype.kind == "f" else cells).astype(object)
    total = cells.sum(axis=-1)
    filled = np.asarray((total > 0).all(axis=-1), bool)
    total[~filled] = 1
    scale = np.lcm.reduce(total, axis=-1)
    a, b, c = ((cells @ np.array(signs, object)) * (scale[:, None] // total) for signs in _SIGNS)
    # Alice's accuracy with either setting of Bob, and the other way round.
    signals = (a[:, 0] != a[:, 1]) | (a[:, 2] != a[:, 3]) | (b[:, 0] != b[:, 2]) | (b[:, 1] != b[:, 3])
    return _kinds((a, b, c), scale, np.asarray(signals, bool), _excess((c / scale[:, None]).astype(float)), filled)


def _of_probabilities(cells: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same of probabilities or weights [M, 4, 4]: of whole multiples of 1 / `STEPS` that do not signal, mixed with coin tosses."""
    largest = cells.max(axis=-1, keepdims=True)  # divided by first: no total is then too large or too small for a float
    filled = (largest > 0).all(axis=(-2, -1))
    shares = cells / np.where(largest > 0, largest, 1)
    shares = shares / np.where(largest > 0, shares.sum(axis=-1, keepdims=True), 1)
    a, b, c = (np.clip(shares @ np.array(signs, float), -1, 1) for signs in _SIGNS)
    pairs = [(mean[:, one], mean[:, other]) for mean, one, other in ((a, 0, 1), (a, 2, 3), (b, 0, 2), (b, 1, 3))]
    # A mean, from -1 to 1, differs twice as much as the accuracy.
    signals = np.any([np.abs(one - other) > 2 * TOLERANCE for one, other in pairs], axis=0)
    alice, other_alice, bob, other_bob = ((one + other) / 2 for one, other in pairs)
    means = (
        np.stack([alice, alice, other_alice, other_alice], axis=-1),
        np.stack([bob, other_bob, bob, other_bob], axis=-1),
        c,
    )
    parts = round(1 / TOLERANCE)
    near = tuple(np.rint(mean * STEPS).astype(np.int64).astype(object) * (parts - 1) for mean in means)
    return _kinds(near, np.full(len(cells), STEPS * parts, object), signals, _excess(c), filled)


def _kinds(
    means: tuple[np.ndarray, ...], scale: np.ndarray, signals: np.ndarray, excess: np.ndarray, filled: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The fields, from means times `scale`, [M, 4] each in Python's integers; `filled`: no context is empty."""
    a, b, c = means
    sums = [c.sum(axis=-1) - 2 * c[:, minus] for minus in range(4)]
    largest = np.maximum.reduce([abs(each) for each in sums])
    local = np.asarray(largest <= 2 * scale, bool)
    one = scale**2
    correlators = _overlap(c, [one - c[:, n] ** 2 for n in range(4)], one * 0 + 1, one * 0 + 1)
    level_1 = _level_1(a, b, c, scale)
    return (
        signals & filled,
        local & ~signals & filled,
        correlators & filled,
        level_1 & ~signals & filled,
        np.where(filled, excess, np.nan),
    )


def _excess(correlators: np.ndarray) -> np.ndarray:
    """The largest |sum of three arcsines less the fourth| less pi, of float64[M, 4]."""
    angles = np.arcsin(correlators)
    return np.max([np.abs(angles.sum(axis=-1) - 2 * angles[:, minus]) for minus in range(4)], axis=0) - np.pi


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
