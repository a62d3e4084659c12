"""The least and the largest S that deciding undecided answers can give, where it is known which answers these are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncsim.config.tasks import S_SIGNS, TruthTables
from ncsim.records.joint_counts import array_of
from ncsim.statistics.arguments import check_kind, numbers


class DecisionRange(NamedTuple):
    """The least and the largest S of each of M members, over what its undecided answers could be; NaN after divergence.

    Attributes:
        low: the least S, float64[M].
        high: the largest S, float64[M].

    Example:
        >>> import ncsim
        >>> right = np.ones((1, 2, 2, 2, 16), int)  # one member that solves everything, and is sure of it
        >>> found = ncsim.decision_range(right, np.zeros(right.shape, bool))
        >>> float(found.low[0]), float(found.high[0])
        (2.0, 2.0)
    """

    low: np.ndarray
    high: np.ndarray


def decision_range(outcomes: np.ndarray, undecided: np.ndarray, tasks: TruthTables | None = None) -> DecisionRange:
    """The least and the largest S that deciding undecided answers can give, exact, from answers row by row.

    Records hold how many rows a head left undecided, and not which; then there are outer limits only (`undecided_conventions`).

    Args:
        outcomes: +1 where an answer is right, -1 where it is wrong, [M, i, j, party, row], as `ncsim.outcomes` gives them; 0
            where the network diverged.
        undecided: which answers are, bool of the same shape.
        tasks: where given, a head answers its undecided rows of a context all with 1 or all with 0, as a threshold a little
            below or above 0 has it. Else each answer is right or wrong by itself.

    Returns:
        `DecisionRange`. Both ends are attained: contexts are independent, and so each takes its own least or largest product.
        S is that of arXiv:2603.04451, equation 4.

    Raises:
        ValueError: shapes that differ, outcomes that are no +1 and -1 and no context of zeros, undecided that is no bool, or tasks
            with another number of rows.

    Example:
        >>> import ncsim
        >>> right = np.ones((1, 2, 2, 2, 16), int)  # one member that solves everything
        >>> undecided = np.zeros(right.shape, bool)
        >>> undecided[0, 1, 1, 0] = True  # but Alice's answers to context 22 are coin tosses
        >>> ncsim.decision_range(right, undecided)
        DecisionRange(low=array([2.]), high=array([4.]))
        >>> ncsim.decision_range(right, undecided, ncsim.PAPER_TASKS)
        DecisionRange(low=array([3.]), high=array([3.]))
    """
    outcomes, undecided = numbers("outcomes", outcomes), array_of("undecided", undecided)
    if tasks is not None:
        check_kind("tasks", tasks, TruthTables, "None, or tasks as of ncsim.truth_tables")
    rows = outcomes.shape[-1] if outcomes.ndim == 5 else 0
    if undecided.shape != outcomes.shape or outcomes.ndim != 5 or outcomes.shape[1:4] != (2, 2, 2):
        raise ValueError(f"outcomes: {outcomes.shape}, undecided: {undecided.shape}; allowed: [M, 2, 2, 2, rows] both")
    diverged = (outcomes == 0).all(axis=(3, 4))[..., None, None]
    wrong = np.argwhere(~(diverged | (np.abs(outcomes) == 1)))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise ValueError(f"outcomes: {outcomes[place]} at {place}; allowed: -1 or +1, or 0 in all of a context")
    if undecided.dtype != bool:
        raise ValueError(f"undecided: type {undecided.dtype}; allowed: bool")
    outcomes = outcomes.astype(np.int64)
    if tasks is not None and tasks.rows != rows:
        raise ValueError(f"tasks: {tasks.rows} rows; allowed: {rows}, as outcomes have")
    if tasks is None:
        sure = np.where(undecided.any(axis=3), 0, outcomes.prod(axis=3)).sum(axis=-1)
        reach = undecided.any(axis=3).sum(axis=-1)
        least, most = sure - reach, sure + reach
    else:
        products = _products_decided_together(outcomes, undecided, tasks)
        least, most = products.min(axis=0), products.max(axis=0)
    # Context 22 enters with a minus.
    signs = S_SIGNS.reshape(2, 2)
    low, high = (np.where(signs > 0, one, -other).sum(axis=(1, 2)) for one, other in ((least, most), (most, least)))
    whole = (outcomes != 0).all(axis=(1, 2, 3, 4))
    return DecisionRange(*(np.where(whole, each / max(rows, 1), np.nan) for each in (low, high)))


def _products_decided_together(outcomes: np.ndarray, undecided: np.ndarray, tasks: TruthTables) -> np.ndarray:
    """Sums of products, int64[4, M, i, j]: both heads answer 0, Bob 1, Alice 1, both 1 where they are undecided."""
    alice, bob = (2 * np.asarray(targets, np.int64) - 1 for targets in (tasks.alice, tasks.bob))
    of_ones = np.stack(
        np.broadcast_arrays(alice[:, None], bob[None]), axis=2
    )  # i, j, party, row: what answers of 1 are
    decided = [np.where(undecided, sign * of_ones, outcomes) for sign in (-1, 1)]
    return np.stack([(a[..., 0, :] * b[..., 1, :]).sum(axis=-1) for a in decided for b in decided])
