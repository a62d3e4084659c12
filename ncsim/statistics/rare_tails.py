"""How likely a rare value of S is: from the laws of four contexts, which say far more of it than the members that show it.

Contexts are independent, so P(event) is a sum over four tables of a product of four probabilities. It is a U-statistic of the
networks (Hoeffding 1948): its error is that of the mean of h(k), the probability of the event given one context's k, over the networks of
that context. An event of four ordinary values is known well from few members, though no member may show it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.records.columns import Columns, by_context
from ncsim.records.members import MemberRecords
from ncsim.statistics.intervals import Estimate, fraction_estimate, jackknife_error, unseen_share
from ncsim.statistics.outcomes import Ensemble, LossesAndTables, Outcomes
from ncsim.statistics.protocols import Protocol, ProtocolLaw
from ncsim.statistics.tally import Tally

#: In the place of the number of members where the jackknife's error is not to be held to theirs.
_MANY = 10**15
#: Values for which that number is too small as well.
TINY = 1e-10
#: Losses are sums of float32 over some tens of rows.
ROUNDING = 1e-5
METHOD = "four laws, delete-a-group jackknife, widened for unseen outcomes"


class Joined(Ensemble):
    """Contexts of different ensembles as one, where more networks of one context are wanted than of the others.

    Args:
        contexts: for 11, 12, 21 and 22 the ensemble that it is taken from, under the same number.
    """

    def __init__(self, contexts: Sequence[Ensemble]) -> None:
        tally = Tally(contexts[0].rows)
        tally.tables = [each.tally.tables[number] for number, each in enumerate(contexts)]
        networks = np.array([int(tables.members.sum()) for tables in tally.tables])
        tally.members = int(networks.max())
        tally.diverged = tally.members - networks
        super().__init__(tally, common_initialization=False)
        self._contexts = contexts

    def best_of_laws(self, tries: int) -> list[np.ndarray]:
        laws = {id(each): each.best_of_laws(tries) for each in self._contexts}
        return [laws[id(each)][number] for number, each in enumerate(self._contexts)]

    def share_with_loss(self, context: int, least: np.ndarray) -> np.ndarray:
        return self._contexts[context].share_with_loss(context, least)


def as_context_22(batches: Iterable[MemberRecords], rows: int) -> Outcomes:
    """Networks of all four contexts as so many networks of context 22, for an ensemble whose tasks make all contexts that one.

    Args:
        batches: as `Run.batches` gives them; contexts must not start alike.
        rows: of a context.

    Returns:
        Outcomes with four networks per member in context 22, and none in the others.
    """
    tally, kept = Tally(rows), []
    for batch in batches:
        found, codes = by_context(batch), LossesAndTables.of(batch, rows)
        tally.add_networks(
            Columns(
                _in_22(found.counts),
                _in_22(found.undecided_alice),
                _in_22(found.undecided_bob),
                _in_22(found.decided_product),
                _in_22(found.diverged, empty=True),
            )
        )
        kept.append(LossesAndTables(_in_22(codes.code), _in_22(codes.diverged, empty=True), _in_22(codes.loss)))
    return Outcomes.of(tally, False, kept)


def _in_22(values: np.ndarray, empty: Any = 0) -> np.ndarray:
    """Columns [4, ..., M] one after the other in the last context, [4, ..., 4 M]; `empty` in the others."""
    flat = np.concatenate(list(values), axis=-1)
    return np.stack([np.full_like(flat, empty)] * 3 + [flat])


class Tail(NamedTuple):
    """P(S >= bound) under a protocol.

    Attributes:
        bound: of S.
        probability: with its 95 % interval.
        reach: half the interval over the value; infinite where the value is 0.
        given: P(S >= bound given k) by context and k, the rows on which exactly one head is right, float64[4, rows + 1].
    """

    bound: float
    probability: Estimate
    reach: float
    given: np.ndarray


def probability_given(context_laws: np.ndarray, bound: float) -> np.ndarray:
    """P(S >= bound given k) by context, from the laws of k: float64[4, rows + 1] to float64[4, rows + 1].

    Args:
        context_laws: of contexts 11, 12, 21 and 22, each with sum 1.
        bound: of S; a value of the lattice within 1e-9 counts as reached.

    Example:
        >>> laws = np.array([[1.0, 0, 0], [1.0, 0, 0], [0.5, 0.5, 0], [0.75, 0, 0.25]])  # two rows
        >>> probability_given(laws, 4.0)[3].tolist()  # S is 4 where 22 has k = 2 and the others 0
        [0.0, 0.0, 0.5]
    """
    rows, signed = context_laws.shape[1] - 1, _signed(context_laws)
    found = np.zeros((4, rows + 1))
    for context in range(4):
        rest = np.ones(1)
        for law in np.delete(signed, context, axis=0):
            rest = np.convolve(rest, law)
        at_least = np.append(np.cumsum(rest[::-1])[::-1], 0)  # from a sum of -3 rows on
        own = np.arange(rows + 1) * (1 if context == 3 else -1)
        found[context] = at_least[np.clip(_least(bound, rows) - own + 3 * rows, 0, len(rest))]
    return found


def probability_of(context_laws: np.ndarray, bound: float) -> float:
    """P(S >= bound) from the laws of k, float64[4, rows + 1]."""
    rows, signed = context_laws.shape[1] - 1, _signed(context_laws)
    law = np.convolve(np.convolve(signed[0], signed[1]), np.convolve(signed[2], signed[3]))
    return min(float(law[np.arange(-4 * rows, 4 * rows + 1) >= _least(bound, rows)].sum()), 1.0)  # sums round


def _least(bound: float, rows: int) -> int:
    """S = 2 - 2 (k11 + k12 + k21 - k22) / rows is at least the bound where k22 - k11 - k12 - k21 is at least this."""
    return math.ceil((bound - 2) * rows / 2 - 1e-9)


def _signed(context_laws: np.ndarray) -> np.ndarray:
    """Laws of -k11, -k12, -k21 and k22, each from -rows to rows: float64[4, 2 rows + 1]."""
    nothing = np.zeros(context_laws.shape[1] - 1)
    less = [np.concatenate([law[::-1], nothing]) for law in context_laws[:3]]
    return np.stack([*less, np.concatenate([nothing, context_laws[3]])])


def loss_of_a_wrong_answer(config: EnsembleConfig) -> float:
    """What each wrong answer adds to the training loss of all rows, at least: a head's loss at the threshold, from which it only grows.

    Returns:
        That over the number of rows, times the smaller weight of the heads: ln 2 / 16 for the paper's. 0 where a network is not
        trained on all rows, since its loss then says nothing of the others.

    Example:
        >>> import ncsim
        >>> round(16 * loss_of_a_wrong_answer(ncsim.EnsembleConfig()), 6), loss_of_a_wrong_answer(ncsim.EnsembleConfig(loss="squared_error"))
        (0.693147, 0.0625)
    """
    if config.training_rows:
        return 0.0
    at_the_threshold = 1.0 if config.loss == "squared_error" else math.log(2)
    return min(config.alice_weight, config.bob_weight) * at_the_threshold / config.tasks.rows


def tail(law: ProtocolLaw, outcomes: Ensemble, bound: float, loss_of_wrong: float = 0.0) -> Tail:
    """P(S >= bound) of one run under a protocol, with an interval that no count of members limits.

    Korn-Graubard's interval with the jackknife's error, as `ProtocolLaw.above` has it, but not held to the number of members.
    Then it is widened by what outcomes that no network has could add, in one context or in several: `unseen_probability`.

    Args:
        law: of the protocol, from `outcomes`.
        outcomes: an ensemble whose contexts do not start alike.
        bound: of S.
        loss_of_wrong: what a wrong answer adds to a network's loss at least, as `loss_of_a_wrong_answer` has it. With 0 the best of so
            many by loss may be anything that was not seen.

    Raises:
        ValueError: a single shot from a common initialisation, where contexts hang together.
    """
    if law.protocol.is_single_shot and outcomes.common_initialization:
        raise ValueError(
            "rare tails: of a single shot from a common initialisation; allowed: contexts that start apart"
        )
    given = probability_given(law.context_laws, bound)
    value = probability_of(law.context_laws, bound)
    left_out = np.array([probability_of(laws, bound) for laws in np.moveaxis(law.left_out_context_laws, 0, 1)])
    found = _interval(value, left_out, min(law.freedoms))
    if not law.protocol.is_single_shot:
        found = _as_power(found, left_out, min(law.freedoms))
    weights = np.stack([unseen_weight(law.protocol, outcomes, c, loss_of_wrong) for c in range(4)])
    extra = unseen_probability(law.context_laws, weights, bound)
    low = found.low * max(1 - sum(_unseen_at_all(law.protocol, outcomes, c, found.level) for c in range(4)), 0.0)
    probability = Estimate(value, low, min(found.high + extra, 1.0), METHOD, found.level)
    reach = (probability.high - probability.low) / 2 / value if value > 0 else math.inf
    return Tail(bound, probability, reach, given)


def _interval(value: float, left_out: np.ndarray, freedom: int) -> Estimate:
    """Korn-Graubard's interval; of tiny values its limit, Poisson's (Garwood 1936), since a beta law of 10^20 runs is beyond float64."""
    from scipy.special import gammaincinv, stdtrit

    error = jackknife_error(left_out)
    if not 0 < value < TINY or error == 0 or freedom < 1:
        return fraction_estimate(value, left_out, _MANY, 1, freedom=freedom)
    number = (value / error * stdtrit(_MANY, 0.975) / stdtrit(freedom, 0.975)) ** 2
    low, high = gammaincinv(number, 0.025) / number, gammaincinv(number + 1, 0.975) / number
    return Estimate(value, value * float(low), value * float(high), METHOD)


def _as_power(found: Estimate, left_out: np.ndarray, freedom: int) -> Estimate:
    """Wider, where some group of members makes more than half of the value, which is a power of a share that the error is nearly linear
    in: Student's t on the scale of the logarithm. The lower limit is 0 where that group makes all of it. Under retry it is the share of
    networks that do not solve a context, to the power of all tries."""
    from scipy.special import stdtrit

    if freedom < 1 or not left_out.min() < found.value / 2:
        return found
    if left_out.min() == 0:
        return found._replace(low=0.0)
    reach = float(stdtrit(freedom, (1 + found.level) / 2)) * jackknife_error(np.log(left_out))
    return found._replace(
        low=min(found.low, found.value * math.exp(-reach)),
        high=max(found.high, math.exp(min(math.log(found.value) + reach, 0.0))),
    )


def unseen_weight(
    protocol: Protocol, outcomes: Ensemble, context: int, loss_of_wrong: float = 0.0, level: float = 0.95
) -> np.ndarray:
    """The probability, at most, with which a run ends in a context with an outcome of each k that no network has,
    float64[rows + 1].

    A single shot ends with it as often as it is drawn. So does retry with one that is not solved. Where no network has solved the
    context, a solved one is unseen as well: retry ends with it as soon as any try is, and its k is 0. The best of so many by accuracy
    ends with it if all tries have as few right answers: of k rows with one head right, 2 rows - k answers at most are right. The best by
    loss ends with it if all tries have as large a loss: k wrong answers add `loss_of_wrong` each, at least. By any other choice it may be
    the best.
    """
    tables = outcomes.tally.tables[context]
    rows, networks = outcomes.rows, int(tables.members.sum())
    once = unseen_share(networks, 1, level)
    if protocol.kind in ("single", "retry"):
        found = np.full(rows + 1, once)
        if protocol.kind == "retry":
            found[0] = _unseen_at_all(protocol, outcomes, context, level)
        return found
    k = np.arange(rows + 1)
    if protocol.kind == "best_accuracy":
        right, number = tables.cells(rows) @ [0, 1, 1, 2], tables.members.sum(axis=1)
        as_bad = np.array([number[right <= 2 * rows - each].sum() for each in k]) / max(number.sum(), 1)
    elif protocol.kind == "best_loss" and loss_of_wrong > 0:
        as_bad = outcomes.share_with_loss(context, k * loss_of_wrong * (1 - ROUNDING))
    else:
        return np.full(rows + 1, unseen_share(networks, protocol.tries, level))
    return np.asarray(np.minimum(protocol.tries * once * (as_bad + once) ** (protocol.tries - 1), 1.0))


def unseen_probability(context_laws: np.ndarray, weights: np.ndarray, bound: float) -> float:
    """The probability, at most, of a run with S >= bound that ends with an outcome that no network has in one context or in several.

    An event may need rare outcomes of two contexts of which the networks show neither. Given an unseen one in either alone its
    probability is then 0.

    Args:
        context_laws: laws of k, float64[4, rows + 1].
        weights: by context the probability, at most, of an unseen outcome of each k, float64[4, rows + 1].
        bound: of S.

    Returns:
        The sum over all sets of contexts of the largest that one unseen outcome in each of these gives, the others by their laws. Where one
        would do, those of two count it once more, so that it is a little too much.

    Example:
        >>> solved = np.array([1.0, 0, 0])  # all networks of all contexts, on two rows; S is 2
        >>> round(unseen_probability(np.stack([solved] * 4), np.full((4, 3), 0.01), 4.0), 4)  # an unseen k of 2 in context 22
        0.0103
        >>> failed = np.array([0, 0, 1.0])  # and if no network of 11 has k = 0, two contexts have to be unseen
        >>> round(unseen_probability(np.stack([failed, solved, solved, solved]), np.full((4, 3), 0.01), 4.0), 6)
        0.000102
    """
    rows, signed, own = context_laws.shape[1] - 1, _signed(context_laws), _signed(weights)
    found = 0.0
    for chosen in itertools.product((False, True), repeat=4):
        if not any(chosen):
            continue
        met, rest = np.ones(1), np.ones(1)
        for unseen, weight, law in zip(chosen, own, signed, strict=True):
            met, rest = (_largest_products(met, weight), rest) if unseen else (met, np.convolve(rest, law))
        at_least = np.append(np.cumsum(rest[::-1])[::-1], 0)
        place = np.clip(_least(bound, rows) + 4 * rows - np.arange(len(met)), 0, len(rest))
        found += float((met * at_least[place]).max())
    return found


def _largest_products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each sum of two places, the largest product of what is there."""
    found = np.zeros(len(one) + len(other) - 1)
    for place, value in enumerate(other):
        there = slice(place, place + len(one))
        found[there] = np.maximum(found[there], one * value)
    return found


def _unseen_at_all(protocol: Protocol, outcomes: Ensemble, context: int, level: float) -> float:
    """As `unseen_weight`, of whatever outcome: one that is solved is no longer unseen where a network has solved the context."""
    tables = outcomes.tally.tables[context]
    solved = bool((tables.cells(outcomes.rows)[:, 3] == outcomes.rows).any())
    tries = 1 if solved and protocol.kind in ("retry", "best_accuracy") else protocol.tries
    return unseen_share(int(tables.members.sum()), tries, level)


def product_error(context_laws: np.ndarray, bound: float, networks: float | np.ndarray) -> float:
    """Standard error of P(S >= bound) that was computed from the laws of so many networks of each context (delta method).

    The error is the root of the sum over contexts of Var h(k) / networks. For single shots: the laws of other protocols are no means
    over networks.

    Args:
        context_laws: laws of k, float64[4, rows + 1].
        bound: of S.
        networks: of each context, one number or float64[4].

    Example:
        >>> laws = np.array([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [0.99, 0, 0.01]])
        >>> round(product_error(laws, 4.0, 10_000), 6)  # here it is that of a share of 0.01
        0.000995
    """
    given = probability_given(context_laws, bound)
    means = (context_laws * given).sum(axis=1, keepdims=True)
    return math.sqrt(float(((context_laws * (given - means) ** 2).sum(axis=1) / networks).sum()))
