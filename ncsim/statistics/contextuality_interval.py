"""How sure the contextuality Delta of one table of counts is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ncsim.config.tasks import CONTEXTS
from ncsim.records.joint_counts import validated_counts
from ncsim.statistics.arguments import check_flag, checked_level
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.contextuality import context_probabilities
from ncsim.statistics.intervals import Estimate, beta_quantile

#: An upper limit of none that is nearer to 1 than this is as good as no limit.
ALL_BUT = 0.15


def contextuality_interval(table: Any, level: float = 0.95, same_items: bool = False) -> Estimate:
    """Conservative interval for Delta = s_odd - 2 - influence of one table of counts.

    The plug-in estimate, which is the interval's value, is biased: a maximum of eight sums pushes it up and four
    absolute values push it down. Delta is also the largest over 8 sign vectors s of the smallest over 16 sign vectors
    t of the linear forms s.c - 2 - t.d, and each of these 128 forms is -2 plus four terms +-(1 - 4 p), p being the
    probability of a single cell of a context. So each form gets an interval from the intervals of four binomials, their
    reaches combined as independent errors are (Zou and Donner 2008), which stays honest at accuracies near 1; where a
    context has a single item, or few for a level above 95 %, they are added up. The largest of the smallest limits is taken. A lower limit must hold for
    all 8 s, an upper limit for all 16 t: the levels are divided by those.

    Args:
        table: joint counts [2, 2, 2, 2].
        level: probability with which the interval should hold Delta, at least.
        same_items: whether the contexts were measured on the same items. Their errors are then not independent, and the
            reaches are added up instead of their squares.

    Returns:
        Delta and its limits. "Contextual" is said only where the lower limit is above 0.

    Raises:
        ValueError: another shape, counts that are not whole and 0 or above, a context without items, or a level that
            is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> interval = contextuality_interval(100 * box)
        >>> bool(interval.low > 0)
        True
    """
    level = checked_level(level)
    check_flag("same_items", same_items)
    counts = np.asarray(validated_counts(table), np.float64)
    probabilities = context_probabilities(counts)
    tail = (1 - level) / 2
    value = float(chsh_statistics(counts).contextuality)
    low_reach, high_reach = _binomial_reaches(counts, tail / 8), _binomial_reaches(counts, tail / 16)
    added = same_items or _too_few(counts.sum(axis=(2, 3)), tail)
    low = _largest_of_smallest(probabilities, low_reach, added, sign=-1)
    high = _largest_of_smallest(probabilities, high_reach, added, sign=1)
    return Estimate(
        value,
        max(min(low, value), -8.0),
        max(min(high, 2.0), value),
        "128 linear forms, binomial limits, conservative",
        level,
    )


def s_interval(table: Any, level: float = 0.95, same_items: bool = False) -> Estimate:
    """Conservative interval for S of one table of counts, from limits of the four shares of unequal outcomes.

    Their reaches are combined as independent errors are (Zou and Donner 2008); where a context has a single item, or
    few for a level above 95 %, they are added up. Of all tables of 2 to 12 items that were tried, item numbers alike or not, the worst held S with 95.8 %, and missed it on
    one side with 3.1 % (tests/statistics/test_contextuality_interval.py).

    Args:
        table: joint counts [2, 2, 2, 2].
        level: probability with which the interval should hold S, at least.
        same_items: whether the contexts were measured on the same items; as for `contextuality_interval`.

    Returns:
        S and its limits; never a point, also where every correlator is 1 or -1.

    Raises:
        ValueError: as for `contextuality_interval`.

    Example:
        >>> import numpy as np
        >>> print(s_interval(np.tile(np.diag([0, 100]), (2, 2, 1, 1))))
        2.000 [1.875, 2.072]
    """
    level = checked_level(level)
    counts = np.asarray(validated_counts(table), np.float64)
    context_probabilities(counts)  # for its checks of shape and items
    unequal, items = counts[..., 0, 1] + counts[..., 1, 0], counts.sum(axis=(2, 3))
    cells = np.stack([unequal, items - unequal], axis=-1)[..., None]
    below, above = 2 * _binomial_reaches(cells, (1 - level) / 2)[:, :, :, 0, 0]
    # More unequal outcomes lower S, in context 22 they raise it.
    minus = np.array([[True, True], [True, False]])
    down, up = np.where(minus, above, below), np.where(minus, below, above)
    s = float(chsh_statistics(counts).s)
    added = same_items or _too_few(items, (1 - level) / 2)
    low, high = ((float(np.sum(each)) if added else float(np.linalg.norm(each))) for each in (down, up))
    return Estimate(s, max(s - low, -4.0), min(s + high, 4.0), "binomial limits, conservative", level)


# The 128 linear forms. In context (i, j) a form takes the outcomes x, y to s x y - t_A x - t_B y, where t_A is -t for
# the connection's second context. That is -1 + 4 [one cell] where s = t_A t_B, and 1 - 4 [one cell] elsewhere.


def _largest_of_smallest(p: np.ndarray, reaches: np.ndarray, same_items: bool, sign: int) -> float:
    """max over s, min over t, of a form's value, moved by `sign` times its reach."""
    best = -math.inf
    for s in itertools.product((1, -1), repeat=4):
        if math.prod(s) == 1:
            continue
        forms = (_form(p, reaches, same_items, sign, s, t) for t in itertools.product((1, -1), repeat=4))
        best = max(best, min(forms))
    return best


def _form(
    p: np.ndarray, reaches: np.ndarray, same_items: bool, sign: int, s: tuple[int, ...], t: tuple[int, ...]
) -> float:
    value, moves = -2.0, []
    for number, (i, j) in enumerate(CONTEXTS):
        alice, bob = t[i] * (-1) ** j, t[2 + j] * (-1) ** i
        # Cell of both outcomes: x = -t_A, y = -t_B where s = t_A t_B (both terms add), x = t_A, y = t_B elsewhere.
        direction = 1 if s[number] == alice * bob else -1
        cell = (i, j, int(-direction * alice > 0), int(-direction * bob > 0))
        value += direction * (4 * float(p[cell]) - 1)
        moves.append(4 * float(reaches[(int(sign * direction > 0), *cell)]))
    return value + sign * (sum(moves) if same_items else math.hypot(*moves))


def _too_few(items: np.ndarray, tail: float) -> bool:
    """Whether limits of some context reach over nearly all that is possible, so that roots of squares fall short of what two of them
    miss: of one item at a level of 95 %, of up to four at 99.9 %."""
    return bool(items.min() == 1 or tail ** (1 / items.min()) < ALL_BUT)


def _binomial_reaches(counts: np.ndarray, tail: float) -> np.ndarray:
    """How far below and above a cell's frequency its limits are: float64[2, i, j, a, b].

    The exact ones (Clopper and Pearson 1934), or those of the normal law where they are wider. An exact limit near 0 or 1 is nearer
    than the root of the count, since there is nothing beyond: one event of a mean of 0.6 is no surprise, but one in each of two
    contexts, their reaches combined as roots of squares, would be taken for one.
    """
    from scipy.special import ndtri

    items = counts.sum(axis=(2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):
        low = np.where(counts > 0, beta_quantile(counts, items - counts + 1, tail), 0.0)
        high = np.where(counts < items, beta_quantile(counts + 1, items - counts, 1 - tail), 1.0)
    share = counts / items
    normal = -ndtri(tail) * np.sqrt(share * (1 - share) / items)
    return np.maximum(np.stack([share - low, high - share]), normal)
