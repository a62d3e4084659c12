"""Tests of two hypotheses that S > 2 is said to refute, and of a third that usually explains it.

*Local*: in every context the items are independent draws, and one joint distribution of four answers A1, A2, B1, B2,
the same in all contexts, has what was seen as its marginals. S <= 2 follows. Rejecting it says that the four answers
have no common distribution; it does not say why. *No signalling*: a head's accuracy on a task does not depend on the
other head's task. It follows from locality, so whatever rejects it explains a rejection of locality.

A p-value speaks of items drawn from a larger stock, as real data are. A truth table has no larger stock: all its rows
were asked, S is what it is, and none of these tests applies to one network on it.

Sources: Hoeffding 1956 and 1963; Elkouss and Wehner 2016 (game form); Zhang, Glancy and Knill 2011
(prediction-based ratio); Ville 1939 (its anytime validity); Holm 1979; Fisher 1935; McNemar 1947.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ncsim.config.tasks import CONTEXTS
from ncsim.formatting import p_value_of
from ncsim.records.joint_counts import validated_counts
from ncsim.statistics.arguments import AN_INEQUALITY, check_flag, check_kind
from ncsim.statistics.inequalities import LinearInequality, chsh_inequality
from ncsim.statistics.quantum_bounds import in_units
from ncsim.statistics.rationals import check_total

#: Totals less probable than this are not what fair settings give.
UNFAIR = 1e-6


def game_p_value(counts: Any, random_settings: bool = False) -> Float[np.ndarray, "*batch"]:
    """P[Bin(n, 3/4) >= wins], the CHSH game's p-value for locality, from joint counts [..., 2, 2, 2, 2].

    A trial is won where A B = +1, or -1 in context 22; the rate of wins is 1/2 + S/8, and no local strategy wins
    more than 3/4 of n trials on average. With as many trials in each context the number of wins is a sum of
    independent trials, whose upper tail beyond its mean is at most the binomial's (Hoeffding 1956): below about 1/2
    the p-value is valid without contexts having been drawn at random. NaN without any items.

    A Bell test draws the settings anew for every trial, so that totals differ. Then no strategy wins a trial with
    more than 3/4, whatever happened before, and the p-value is valid even if the devices have a memory; with the best
    strategy it is exact (Elkouss and Wehner 2016). It takes for granted that each trial's four contexts had
    probability 1/4, unknown to either party's device, and that the number of trials was not chosen by the outcomes. A
    warning names totals that fair settings hardly give.

    Args:
        counts: joint counts, [..., 2, 2, 2, 2], whole numbers; equal totals in all contexts unless settings are random.
        random_settings: whether each trial's settings were drawn fairly and independently of all else.

    Returns:
        [...], each in [0, 1].

    Raises:
        ValueError: counts that are none, 2^53 items or more in a table, or contexts with unequal totals where settings are
            not random (`hoeffding_p_value` takes those).

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> bool(game_p_value(box) < 1e-6)
        True
    """
    from scipy.special import betainc

    check_flag("random_settings", random_settings)
    table = validated_counts(counts)
    check_total(table)
    table = table.astype(np.int64)
    items = table.sum(axis=(-2, -1))
    unequal = (items != items[..., :1, :1]).any(axis=(-2, -1))
    if unequal.any() and not random_settings:
        place = tuple(int(index) for index in np.argwhere(unequal)[0])
        totals = ", ".join(str(n) for n in items[place].ravel())
        raise ValueError(
            f"counts: {totals} items in contexts 11, 12, 21, 22 at {place}; allowed: equal totals, or "
            "random_settings=True if settings were drawn fairly at every trial"
        )
    if random_settings:
        _warn_of_unfair(items)
    equal = table[..., 0, 0] + table[..., 1, 1]
    wins = equal.sum(axis=(-2, -1)) - 2 * equal[..., 1, 1] + items[..., 1, 1]
    trials = items.sum(axis=(-2, -1))
    # The upper tail of a binomial law is an incomplete beta function; all of it has no such parameter.
    tail = np.where(wins > 0, betainc(np.maximum(wins, 1), trials - wins + 1.0, 0.75), 1.0)
    return np.asarray(np.where(trials > 0, tail, np.nan))


def _warn_of_unfair(items: np.ndarray) -> None:
    """Totals [..., 2, 2] that fair settings hardly give favour the strategy that loses in the rarest context."""
    from scipy.special import chdtrc

    expected = np.maximum(items.mean(axis=(-2, -1), keepdims=True), 0.25)
    p_value = chdtrc(3, ((items - expected) ** 2 / expected).sum(axis=(-2, -1)))
    if (p_value < UNFAIR).any():
        place = tuple(int(index) for index in np.argwhere(p_value < UNFAIR)[0])
        totals = ", ".join(str(n) for n in items[place].ravel())
        warnings.warn(
            f"counts: {totals} items in contexts 11, 12, 21, 22 at {place}; fair settings give totals so different with "
            f"{p_value_of('p', float(p_value[place]))}, and without them the p-value for locality is not valid",
            stacklevel=3,
        )


def hoeffding_p_value(
    counts: Any, inequality: LinearInequality | None = None, same_items: bool = False
) -> Float[np.ndarray, "*batch"]:
    """Hoeffding's bound on the p-value for locality, from any inequality; CHSH unless another is given.

    exp(-2 t^2 / sum of (range of the coefficients)^2 / items, over contexts), t being the excess over the classical
    bound; for CHSH with n items a context exp(-n t^2 / 8). Valid for any totals, and larger than need be. 1 where the
    bound is kept, so wherever no outcome changes the value; NaN where a context that matters has no items.

    Contexts' errors are independent there. Of contexts that were asked of the same items they need not be: the roots are
    then added up before they are squared, and it is exp(-n t^2 / 32).

    Args:
        counts: joint counts with the axes of the inequality, [..., settings..., outcomes...].
        inequality: any `LinearInequality`; CHSH if not given.
        same_items: whether the contexts were asked of the same items, in whatever way their outcomes hang together (by
            Hoelder's inequality, for the contexts' moment generating functions).

    Returns:
        [...], each in [0, 1] (Hoeffding 1963).

    Raises:
        ValueError: counts whose axes are not those of the inequality, or that are not whole numbers, 0 or above; a flag that is none.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> round(float(hoeffding_p_value(box)), 6)
        0.000335
    """
    check_flag("same_items", same_items)
    inequality = chsh_inequality() if inequality is None else inequality
    check_kind("inequality", inequality, LinearInequality, AN_INEQUALITY)
    excess = inequality.value(counts) - inequality.classical_bound
    table = _whole(counts)
    outcomes = tuple(range(-inequality.parties, 0))
    spread = inequality.coefficients.max(axis=outcomes) - inequality.coefficients.min(axis=outcomes)
    spread, unit = in_units(spread)  # whose squares a float can hold
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(spread > 0, spread**2 / table.sum(axis=outcomes), 0.0)
        scale = np.sqrt(each).sum(axis=outcomes) ** 2 if same_items else each.sum(axis=outcomes)
        # Without any range the excess is 0, up to its rounding.
        p_value = np.where(scale > 0, np.exp(-2 * np.maximum(excess / unit, 0) ** 2 / scale), 1.0)
        return np.asarray(np.where(np.isnan(excess), np.nan, p_value))


@dataclass(frozen=True)
class RatioTest:
    """Evidence against locality as it grew, block by block.

    Attributes:
        log_evidence: natural logarithm of the e-value after each block, float64[blocks]. Under locality the e-value's
            mean is at most 1, whenever one stops.
        p_value: anytime-valid: at most alpha with probability at most alpha, however often one looks.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> print(prediction_based_ratio(np.stack([box] * 4)))
        prediction-based ratio: evidence 10^21.01 after 4 blocks, p = 9.8e-22
    """

    log_evidence: np.ndarray
    p_value: float

    def __str__(self) -> str:
        last = self.log_evidence[-1] / math.log(10) if len(self.log_evidence) else 0.0
        # Without evidence it is a little below 0: not "-0.00".
        return f"prediction-based ratio: evidence 10^{round(last, 2) + 0.0:.2f} after {len(self.log_evidence)} blocks, {p_value_of('p', self.p_value)}"


def prediction_based_ratio(blocks: Any) -> RatioTest:
    """Prediction-based ratio of Zhang, Glancy and Knill, as an e-process over blocks of counts [blocks, 2, 2, 2, 2].

    Each trial of a block is a bet at odds R(context, outcomes), fixed by the blocks before it: their frequencies over
    those of the nearest local model (in Kullback-Leibler divergence), scaled so that no deterministic strategy, hence
    no local model, has a mean above 1. The first block is only learned from. The blocks must be in the order of
    collection, or in an order drawn without looking at the outcomes; one table alone gives p = 1.

    Contexts need not have equal totals, nor be drawn at random, if the totals were fixed beforehand: by the inequality
    of the arithmetic and geometric means the product of the contexts' means is then at most 1 as well.

    Args:
        blocks: [blocks, 2, 2, 2, 2], in the order of collection.

    Returns:
        `RatioTest`: the e-value after every block, and the p-value (Zhang, Glancy and Knill 2011).

    Raises:
        ValueError: counts that are none, or axes other than [blocks, 2, 2, 2, 2].

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> bool(prediction_based_ratio(np.stack([box] * 4)).p_value < 1e-6)
        True
    """
    table = validated_counts(blocks).astype(np.float64)
    if table.ndim != 5:
        raise ValueError(f"blocks: shape {table.shape}; allowed: [blocks, i=2, j=2, a=2, b=2]")
    evidence, steps = 0.0, []
    for number, block in enumerate(table):
        seen = table[:number].sum(axis=0)
        if number and seen.sum() > 0 and block.sum() > 0:
            share = block.sum(axis=(2, 3)) / block.sum()
            evidence += float(np.sum(block * np.log(_betting_ratio(seen, share))))
        steps.append(evidence)
    log_evidence = np.array(steps)
    largest = float(max(log_evidence.max(initial=0.0), 0.0))
    return RatioTest(log_evidence, min(1.0, math.exp(-largest)))


def _whole(counts: Any) -> np.ndarray:
    table = np.asarray(counts, np.float64)
    broken = table != np.floor(table)
    if broken.any():
        place = tuple(int(index) for index in np.argwhere(broken)[0])
        raise ValueError(
            f"counts: {table[place]} at {place}; allowed: whole numbers, for probabilities have no p-value"
        )
    return table


def _strategy_tables() -> np.ndarray:
    """The 16 deterministic strategies as conditional probabilities: float64[16, i, j, a, b]."""
    tables = np.zeros((16, 2, 2, 2, 2))
    for number, strategy in enumerate(itertools.product((0, 1), repeat=4)):
        for i, j in CONTEXTS:
            tables[number, i, j, strategy[i], strategy[2 + j]] = 1
    return tables


STRATEGIES = _strategy_tables()

#: Steps of expectation maximisation towards the nearest local model. What they leave undone costs power, not validity.
PROJECTION_STEPS = 300
#: No strategy's weight falls below this: in a context without items cells would be 0 of 0.
LEAST_WEIGHT = 1e-200
#: What rounding may add to the odds, taken off them: of 10^15 items it would add up to evidence that is none.
ROUNDED = 16 * np.finfo(np.float64).eps


def _betting_ratio(seen: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Odds R[i, j, a, b] > 0, sum of share * R <= 1 for every strategy; `share` is each context's part of the bets."""
    # Half an item in every cell: odds that are never 0, so that no outcome loses everything.
    smoothed = seen + 0.5
    frequency = smoothed / smoothed.sum(axis=(2, 3), keepdims=True)
    goal = frequency * share[..., None, None]
    weight = np.full(16, 1 / 16)
    for _ in range(PROJECTION_STEPS):
        model = np.tensordot(weight, STRATEGIES, 1)
        weight = np.maximum(weight * np.tensordot(STRATEGIES, goal / model, 4), LEAST_WEIGHT)
    ratio = frequency / np.tensordot(weight, STRATEGIES, 1)
    largest = np.tensordot(STRATEGIES, ratio * share[..., None, None], 4).max()
    return np.asarray(ratio / largest * (1 - ROUNDED))
