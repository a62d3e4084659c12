"""Intervals of statistics of pooled counts: one table, summed over members, of which each is a draw.

S is a linear form of twelve means, of three in each context: of Alice's outcome, of Bob's, and of their product. Direct
influence is the largest of 16 linear forms (one per choice of four signs), s_odd the largest of 8, and Delta the
largest of 8 of the smallest of 16. Where two forms are equal, as where all contexts have one law and influence is 0, an
absolute value has a kink and a jackknife of it says nothing. So each form gets an interval of its own, and the limits
are combined: an upper limit of a largest is the largest upper limit. A lower one has to hold for all forms that it is
taken of, at a level divided by their number.

References: Efron 1982 (the delete-a-group jackknife); Bonferroni's inequality.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ncsim.config.tasks import CONTEXTS, S_SIGNS
from ncsim.statistics.chsh import SIGNS
from ncsim.statistics.intervals import NO_INTERVAL, Estimate, mean_estimate, unseen_reach

#: Each statistic's smallest and largest value.
POSSIBLE = {
    "s": (-4.0, 4.0),
    "s_odd": (0.0, 4.0),
    "s_factorised": (-4.0, 4.0),
    "influence": (0.0, 8.0),
    "contextuality": (-8.0, 2.0),
}
#: Outcomes and their product in the four cells of a context: wrong wrong, only Bob, only Alice, both right.
_OUTCOMES = np.array([[-1, -1, 1], [-1, 1, -1], [1, -1, -1], [1, 1, 1]])
_METHOD = "linear forms, delete-a-group jackknife, widened for unseen outcomes"


def pooled_estimates(
    counts: Any, networks: int, common_initialization: bool = False, level: float = 0.95
) -> dict[str, Estimate]:
    """S, s_odd, s_factorised, influence and contextuality of pooled counts, each with its interval.

    Args:
        counts: joint counts summed over the members of each of G groups, [G, context, 4].
        networks: that did not diverge, in the context that has fewest.
        common_initialization: whether the four networks of a member start alike. Then a kind of member that was not
            seen may differ from the others in all four contexts.
        level: probability with which each interval should hold its number, at least.

    Returns:
        The estimates by name, within POSSIBLE. Where all networks of a context are in one group there is no interval:
        the method says so, and the limits are all that is possible.
    """
    means = GroupedMeans(np.asarray(counts) @ _OUTCOMES, np.asarray(counts).sum(axis=-1))
    together, contexts = (4, 1) if common_initialization else (1, 4)
    found = {}
    for name, forms in (("s", _s_forms(SIGNS[:1])), ("s_odd", _s_forms(SIGNS))):
        found[name] = _largest_of_smallest(name, means, forms[:, None], networks, 2 * together, contexts, level)
    t = _influence_forms()
    found["influence"] = _largest_of_smallest("influence", means, t[:, None], networks, 4 * together, contexts, level)
    delta = _s_forms(SIGNS)[:, None] - t
    found["contextuality"] = _largest_of_smallest(
        "contextuality", means, delta, networks, 4 * together, contexts, level, constant=-2.0
    )
    left_out = means.value - means.change
    found["s_factorised"] = mean_estimate(
        float(means.value[:, 0] * means.value[:, 1] @ S_SIGNS),
        left_out[..., 0] * left_out[..., 1] @ S_SIGNS,
        networks,
        level=level,
        span=4.0 * together,
        contexts=contexts,
        freedom=means.freedom,
    )
    return {name: found[name] for name in POSSIBLE}


class GroupedMeans:
    """Ratios of sums over groups of members, and how each changes where a group is left out.

    Attributes:
        value: means, [context, n].
        change: each mean less that without a group, [G, context, n]; 0 where the others have no items.
        freedom: degrees of freedom of the context whose items are in fewest groups.
    """

    def __init__(self, sums: np.ndarray, items: np.ndarray) -> None:
        """Sums [G, context, n] of items [G, context]."""
        used = items.any(axis=1)
        sums, items = sums[used], items[used]
        total, number = sums.sum(axis=0), items.sum(axis=0)
        others = (number - items)[..., None]
        self.value = total / number[:, None]
        rest = np.where(others > 0, (total - sums) / np.maximum(others, 1), self.value)
        self.change = self.value - rest
        self.freedom = int((items > 0).sum(axis=0).min()) - 1

    def form(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear forms of the means, weights [..., context, n]: their values and standard errors."""
        values = np.tensordot(weights, self.value, 2)
        changes = np.tensordot(weights, np.moveaxis(self.change, 0, -1), 2)
        groups = changes.shape[-1]
        return values, np.sqrt((groups - 1) * changes.var(axis=-1))


def pooled_s(products: np.ndarray, items: np.ndarray, networks: int, common_initialization: bool = False) -> Estimate:
    """S of sums of products over members' groups, [G, context], whatever the products are of; items [G, context]."""
    means = GroupedMeans(products[..., None], items)
    forms = np.asarray(S_SIGNS, float).reshape(1, 1, 4, 1)
    span, contexts = (8, 1) if common_initialization else (2, 4)
    return _largest_of_smallest("s", means, forms, networks, span, contexts, 0.95)


def _largest_of_smallest(
    name: str,
    means: GroupedMeans,
    forms: np.ndarray,
    networks: int,
    span: float,
    contexts: int,
    level: float,
    constant: float = 0.0,
) -> Estimate:
    """max over the first axis, min over the second, of linear forms [m, n, context, 3] plus a constant."""
    from scipy.special import stdtrit

    values, errors = means.form(forms)
    value = float(values.min(axis=1).max()) + constant
    low, high = POSSIBLE[name]
    value = min(max(value, low), high)
    if means.freedom < 1:
        return Estimate(value, low, high, NO_INTERVAL, level)
    ends = []
    for sign, number in ((-1, forms.shape[0]), (1, forms.shape[1])):
        tail = (1 - level) / 2 / number
        reach = np.hypot(
            -stdtrit(means.freedom, tail) * errors, unseen_reach(span, networks, 1, 1 - 2 * tail, contexts)
        )
        ends.append(float((values + sign * reach).min(axis=1).max()) + constant)
    return Estimate(value, min(max(ends[0], low), value), max(min(ends[1], high), value), _METHOD, level)


def _s_forms(signs: Any) -> np.ndarray:
    """The CHSH sums of sign vectors as weights of the means: [signs, context, 3]."""
    forms = np.zeros((len(signs), 4, 3))
    forms[..., 2] = signs
    return forms


def _influence_forms() -> np.ndarray:
    """The 16 signed sums of the four differences of an outcome's means, as weights of the means: [16, context, 3]."""
    forms = []
    for t in itertools.product((1, -1), repeat=4):
        # Alice's difference on task i is between contexts (i, 0) and (i, 1), Bob's on task j between (0, j) and (1, j).
        forms.append([[t[i] * (-1) ** j, t[2 + j] * (-1) ** i, 0] for i, j in CONTEXTS])
    return np.array(forms, float)
