"""Restart protocols: what S would have been had each context been trained several times and one result kept.

The paper does not say which of many trained runs counts. That needs no new training: a run under a protocol ends, in
each context, with one of the networks that the ensemble holds, and the protocol only changes how likely each of them
is. A protocol is therefore a *weight* on the stored networks of a context. With contexts independent, the law of S is
the convolution of the four weighted laws of k, the number of rows on which exactly one head is right: exact, on the
lattice of step 2 / rows (1/8 and 65 points for the paper's sixteen rows).

Networks that diverged take no part: laws are given that training ended with finite numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ncsim.records.joint_counts import from_context_order
from ncsim.statistics import compiled
from ncsim.statistics.intervals import Estimate, fraction_estimate, mean_estimate
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.loss_order import power
from ncsim.statistics.outcomes import ContextOutcomes, Ensemble, Outcomes, TableKinds
from ncsim.statistics.tally import GROUPS, Tally

TSIRELSON = 2 * np.sqrt(2)


@dataclass(frozen=True)
class Protocol:
    """How one of several trained networks is chosen in every context.

    `kind` is "single" (the first, and only, try), "best_loss" and "best_accuracy" (of exactly `tries`, the one with the
    lowest final training loss, or the most right answers), or "retry" (until both heads are right on every row, at
    most `tries` times; the last try if none is). "best_accuracy_alice" and "retry_alice" are the last two by Alice's
    head alone, whatever Bob's answers. By Bob's head it would be the same with the parties' names exchanged.

    Raises:
        ValueError: another kind, or tries that are not 1 or more.
    """

    kind: str
    tries: int = 1

    def __post_init__(self) -> None:
        if self.kind not in PROTOCOLS:
            raise ValueError(f"protocol: {self.kind!r}; allowed: {', '.join(PROTOCOLS)}")
        if self.tries < 1 or (self.is_single_shot and self.tries != 1):
            raise ValueError(f"tries: {self.tries}; allowed: 1 or more, and 1 for a single shot")

    @property
    def label(self) -> str:
        """The protocol in words."""
        return PROTOCOLS[self.kind].label.format(tries=self.tries)

    @property
    def is_single_shot(self) -> bool:
        """Whether every context is trained once: then a member's four networks belong together."""
        return self.kind == "single"


def weights(protocol: Protocol, outcomes: ContextOutcomes) -> np.ndarray:
    """The probability that a run under the protocol ends with each network of the context: float64[M], sum 1."""
    if len(outcomes.member) == 0:
        return np.zeros(0)
    shares = _shares(protocol, outcomes)
    return _weights_by_loss(outcomes.bits, protocol.tries) if shares is None else np.asarray(shares[outcomes.table])


def _shares(protocol: Protocol, outcomes: ContextOutcomes) -> np.ndarray | None:
    """The weight of a network by its table, float64[T]; None where losses decide."""
    shares = PROTOCOLS[protocol.kind].shares
    return None if shares is None else shares(outcomes.number, outcomes.kinds, protocol.tries)


def _weights_by_loss(bits: np.ndarray, tries: int) -> np.ndarray:
    """Weights of networks in the order of their losses, of which those with one loss share theirs."""
    found = compiled.weights_by_loss(bits, tries)
    if found is not None:
        return found
    count = len(bits)
    edges = np.append(np.flatnonzero(np.concatenate([[True], bits[1:] != bits[:-1]])), count)
    behind, size = power((count - edges) / count, tries), np.diff(edges)
    return np.repeat((behind[:-1] - behind[1:]) / size, size)


def _all_alike(number: np.ndarray, kinds: TableKinds, tries: int) -> np.ndarray:
    return np.broadcast_to(1 / np.maximum(number.sum(axis=-1, keepdims=True), 1), number.shape)


def _until_solved(number: np.ndarray, kinds: TableKinds, tries: int) -> np.ndarray:
    return _until(number, kinds.solved, tries)


def _until_alice_is_right(number: np.ndarray, kinds: TableKinds, tries: int) -> np.ndarray:
    return _until(number, kinds.alice_solved, tries)


def _until(number: np.ndarray, good: np.ndarray, tries: int) -> np.ndarray:
    """The first network with a good table, bool[T], of so many draws, or the last draw."""
    total, right = number.sum(axis=-1, keepdims=True), number[..., good].sum(axis=-1, keepdims=True)
    failed_always = ((total - right) / np.maximum(total, 1)) ** tries
    return np.where(good, (1 - failed_always) / np.maximum(right, 1), failed_always / np.maximum(total - right, 1))


def _most_right(number: np.ndarray, kinds: TableKinds, tries: int) -> np.ndarray:
    return _best_of(number, kinds.right, tries)


def _most_right_of_alice(number: np.ndarray, kinds: TableKinds, tries: int) -> np.ndarray:
    return _best_of(number, kinds.alice_right, tries)


def _best_of(number: np.ndarray, score: np.ndarray, tries: int) -> np.ndarray:
    """The best of so many draws by the score of its table, [T].

    Order statistics: the best of K draws is no better than the n-th best network with probability ((M - n) / M)^K.
    Equals share their probability, as the first of several equal tries is each with the same probability.
    """
    _, rank = np.unique(-score, return_inverse=True)
    total = np.maximum(number.sum(axis=-1, keepdims=True), 1)
    size = np.stack([number[..., rank == n].sum(axis=-1) for n in range(rank.max(initial=-1) + 1)], axis=-1)
    better = np.cumsum(size, axis=-1) - size
    share = ((total - better) / total) ** tries - ((total - better - size) / total) ** tries
    return np.asarray((share / np.maximum(size, 1))[..., rank])


class Choice(NamedTuple):
    """A kind of protocol: in words; and the weight of a network by its table, from how many networks have each [..., T], what the
    tables say, and the tries. None where losses decide."""

    label: str
    shares: Callable[[np.ndarray, TableKinds, int], np.ndarray] | None


#: Every kind of protocol by its word. One that ties the contexts together is no set of weights and has no row here.
PROTOCOLS = {
    "single": Choice("single shot", _all_alike),
    "best_loss": Choice("best of {tries} by loss", None),
    "best_accuracy": Choice("best of {tries} by accuracy", _most_right),
    "retry": Choice("retry until solved, at most {tries}", _until_solved),
    "best_accuracy_alice": Choice("best of {tries} by Alice's accuracy", _most_right_of_alice),
    "retry_alice": Choice("retry until Alice is right, at most {tries}", _until_alice_is_right),
}

#: What reports and figure 2 compare.
STANDARD_PROTOCOLS = (
    Protocol("single"),
    Protocol("best_loss", 20),
    Protocol("best_accuracy", 20),
    Protocol("retry", 20),
    Protocol("retry", 100),
)


def law(protocol: Protocol, outcomes: Ensemble) -> LatticeLaw:
    """The exact law of S under a protocol, of the ensemble as it stands.

    Contexts are independent, also under a retry; a single shot from a common initialisation is not, and its law is
    then that of the members.
    """
    return ProtocolLaw(protocol, outcomes).law


def _table_laws(protocol: Protocol, outcomes: Ensemble) -> list[np.ndarray]:
    """The laws of each context's tables, of the ensemble and with each group of members left out: four of float64[1 + GROUPS, T].

    Where none of a context's networks is outside of a group, the law is that of all: leaving them out says nothing.
    """
    shares = PROTOCOLS[protocol.kind].shares
    if shares is None:
        return outcomes.best_of_laws(protocol.tries)
    found = []
    for tables in outcomes.tally.tables:
        number = _left_out(tables.members)
        total = number.sum(axis=1, keepdims=True)
        if protocol.is_single_shot:  # a share of all is rounded once
            laws = number / np.maximum(total, 1)
        else:
            laws = number * shares(number, TableKinds.of(tables.cells(outcomes.rows), outcomes.rows), protocol.tries)
        laws[total[:, 0] == 0] = laws[0]
        found.append(laws)
    return found


def _left_out(number: np.ndarray) -> np.ndarray:
    """Numbers by group [N, GROUPS] as those of all and without each group, [1 + GROUPS, N]."""
    return np.asarray(number.sum(axis=1) - np.concatenate([np.zeros((1, len(number)), np.int64), number.T]))


def _unequal_laws(outcomes: Ensemble, table_laws: list[np.ndarray]) -> np.ndarray:
    """The laws of k in each context: float64[4, 1 + GROUPS, rows + 1]."""
    found = np.zeros((4, 1 + GROUPS, outcomes.rows + 1))
    for context, (unequal, laws) in enumerate(zip(outcomes.unequal, table_laws, strict=True)):
        for k in np.unique(unequal):
            found[context, :, k] = laws[:, unequal == k].sum(axis=1)
    return found


def _laws_of_s(protocol: Protocol, outcomes: Ensemble, context_laws: np.ndarray) -> list[LatticeLaw]:
    """The law of S of the ensemble and with each group left out."""
    rows = outcomes.rows
    if protocol.is_single_shot and outcomes.common_initialization:
        members = _left_out(outcomes.tally.s)
        members[members.sum(axis=1) == 0] = members[0]
        return [LatticeLaw(rows, number / max(number.sum(), 1)) for number in members]
    # S = 2 - 2 (k11 + k12 + k21 - k22) / rows; the convolution's index is that sum plus rows, so S runs downwards.
    return [
        LatticeLaw(rows, np.convolve(np.convolve(k11, k12), np.convolve(k21, k22[::-1]))[::-1])
        for k11, k12, k21, k22 in np.moveaxis(context_laws, 0, 1)
    ]


class ProtocolLaw:
    """A protocol's law of S with the uncertainty that the finite ensemble leaves in anything read off it."""

    def __init__(self, protocol: Protocol, outcomes: Ensemble) -> None:
        self.protocol = protocol
        self.networks = outcomes.networks
        self.rows = outcomes.rows
        # Groups are of members, so that contexts that share an initialisation are left out together.
        groups = max(min(GROUPS, outcomes.size), 2)
        table_laws = _table_laws(protocol, outcomes)
        self._table_laws = [laws[: 1 + groups] for laws in table_laws]
        context_laws = _unequal_laws(outcomes, table_laws)[:, : 1 + groups]
        self.context_laws, self._left_out_context_laws = context_laws[:, 0], context_laws[:, 1:]
        self.law, *self.left_out = _laws_of_s(protocol, outcomes, context_laws)[: 1 + groups]
        # Divergence can leave a context networks in a few groups only, and its error has no more than those tell.
        there = [tables.members.any(axis=0) for tables in outcomes.tally.tables]
        self._members = protocol.is_single_shot and outcomes.common_initialization
        if self._members:
            there = [outcomes.tally.s.any(axis=0)] * 4
        self.freedoms = [int(each.sum()) - 1 for each in there]

    @property
    def table_laws(self) -> list[np.ndarray]:
        """The law of each context's tables, four of float64[T]."""
        return [laws[0] for laws in self._table_laws]

    @property
    def left_out_table_laws(self) -> list[np.ndarray]:
        """The law of each context's tables, of all networks and with each group left out, four of float64[1 + groups, T]."""
        return self._table_laws

    @property
    def left_out_context_laws(self) -> np.ndarray:
        """The laws of k in each context with each group of members left out, float64[4, groups, rows + 1]."""
        return self._left_out_context_laws

    @property
    def mean(self) -> Estimate:
        """Mean of S."""
        left_out = np.array([other.mean for other in self.left_out])
        # A kind of member that was not seen has another outcome in all four contexts, where those hang together.
        span, contexts = (8.0, 1) if self._members else (2.0, 4)
        return mean_estimate(
            self.law.mean,
            left_out,
            self.networks,
            self.protocol.tries,
            span=span,
            contexts=contexts,
            freedom=min(self.freedoms),
        )

    @property
    def correlators(self) -> list[Estimate]:
        """Mean correlator of each context."""
        values = 1 - 2 * np.arange(self.rows + 1) / self.rows
        left_out = self._left_out_context_laws @ values
        return [
            mean_estimate(
                float(law @ values),
                left_out[n],
                self.networks,
                self.protocol.tries,
                support=(-1.0, 1.0),
                freedom=self.freedoms[n],
            )
            for n, law in enumerate(self.context_laws)
        ]

    def above(self, bound: float) -> Estimate:
        """P(S > bound)."""
        return self.fraction(lambda law: law.above(bound))

    def below(self, bound: float) -> Estimate:
        """P(S < bound)."""
        return self.fraction(lambda law: law.below(bound))

    def between(self, low: float, high: float) -> Estimate:
        """P(low <= S <= high)."""
        return self.fraction(lambda law: law.between(low, high))

    def fraction(self, probability: Callable[[LatticeLaw], float], runs: int = 1) -> Estimate:
        """The probability of any event of S of one run, or of several runs, as a function of its law."""
        left_out = np.array([probability(other) for other in self.left_out])
        return fraction_estimate(
            probability(self.law), left_out, self.networks, runs * self.protocol.tries, freedom=min(self.freedoms)
        )

    def fraction_of_runs(self, runs: np.ndarray, event: np.ndarray) -> Estimate:
        """The probability of an event that is no function of S, from runs drawn with `draw_runs` and whether it befell each.

        What leaving a group of members out changes is computed to first order: each context's law of tables changes, and
        the drawn runs say how likely the event is beside each table. The error of drawing so many runs is added.

        Args:
            runs: which of its contexts' tables each run has, [runs, 4].
            event: bool[runs].

        Returns:
            The share of runs, with an interval for a new ensemble and not for these networks alone.
        """
        value, left_out = float(np.mean(event)), np.zeros(len(self.left_out))
        # Where a run is a member, it is as good as a draw from the population: there is nothing to add up.
        for number, laws in enumerate(self._table_laws if not self._members else ()):
            drawn = np.bincount(runs[:, number], minlength=laws.shape[1])
            beside = np.where(drawn, np.bincount(runs[:, number], event, len(drawn)) / np.maximum(drawn, 1), value)
            left_out += (laws[1:] - laws[0]) @ beside
        return fraction_estimate(
            value, left_out, self.networks, self.protocol.tries, runs=len(event), freedom=min(self.freedoms)
        )


def draw_runs(protocol: Protocol, outcomes: Outcomes, runs: int, seed: int = 0) -> np.ndarray:
    """Runs under a protocol as the tables of their networks, int64[runs, 4]: places in `Tally.tables`.

    Under a single shot from a common initialisation a run is a whole member.

    Raises:
        ValueError: a context in which every network diverged.
    """
    generator = np.random.default_rng(seed)
    if outcomes.networks == 0:
        raise ValueError("a context has no network that did not diverge, so no run can be drawn")
    drawn = []
    if protocol.is_single_shot and outcomes.common_initialization:
        chosen = generator.choice(np.flatnonzero(outcomes.whole), size=runs)
        for context in outcomes.contexts:
            place = np.zeros(outcomes.size, np.int64)
            place[context.member] = context.table
            drawn.append(place[chosen])
        return np.stack(drawn, axis=1)
    for context in outcomes.contexts:
        drawn.append(_drawn_tables(protocol, context, generator.random(runs)))
    return np.stack(drawn, axis=1)


def _drawn_tables(protocol: Protocol, context: ContextOutcomes, uniform: np.ndarray) -> np.ndarray:
    """The tables of drawn networks, int64[runs], from uniform numbers."""
    shares = _shares(protocol, context)
    of = _weights_by_loss(context.bits, protocol.tries) if shares is None else np.ascontiguousarray(shares)
    found = compiled.drawn(context.table, of, shares is not None, uniform)
    if found is not None:
        return found
    cumulative = np.cumsum(of if shares is None else of[context.table])
    place = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return np.asarray(context.table[place].astype(np.int64))


def cells_of(runs: np.ndarray, tally: Tally) -> np.ndarray:
    """Counts of drawn runs [runs, 4], int64[runs, context, 4]."""
    return np.stack([tables.cells(tally.rows)[runs[:, n]] for n, tables in enumerate(tally.tables)], axis=1)


def sample_runs(protocol: Protocol, outcomes: Outcomes, runs: int, seed: int = 0) -> np.ndarray:
    """Joint counts of runs under a protocol, int32[runs, 2, 2, 2, 2], each made of stored networks.

    For statistics that are no function of S alone, contextuality among them.

    Raises:
        ValueError: a context in which every network diverged.
    """
    return from_context_order(cells_of(draw_runs(protocol, outcomes, runs, seed), outcomes.tally)).astype(np.int32)
