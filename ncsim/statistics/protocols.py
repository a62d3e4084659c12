"""Restart protocols: what S would have been had each context been trained several times and one result kept.

The paper does not say which of many trained runs counts. That needs no new training: a run under a protocol ends, in
each context, with one of the networks that the ensemble holds, and the protocol only changes how likely each of them
is. A protocol is therefore a *weight* on the stored networks of a context. With contexts independent, the law of S is
the convolution of the four weighted laws of k, the number of rows on which exactly one head is right: exact, on the
lattice of step 2 / rows (1/8 and 65 points for the paper's sixteen rows).

Networks that diverged take no part: laws are given that training ended with finite numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import S_SIGNS
from ncsim.records.joint_counts import from_context_order, unequal_outcomes
from ncsim.records.members import MemberRecords
from ncsim.statistics.intervals import Estimate, fraction_estimate, mean_estimate
from ncsim.statistics.lattice_law import LatticeLaw

GROUPS = 32  # of the jackknife: enough for a stable error, few enough to recompute a law for each
TSIRELSON = 2 * np.sqrt(2)


@dataclass(frozen=True)
class Protocol:
    """How one of several trained networks is chosen in every context.

    `kind` is "single" (the first, and only, try), "best_loss" and "best_accuracy" (of exactly `tries`, the one with the
    lowest final training loss, or the most right answers), or "retry" (until both heads are right on every row, at
    most `tries` times; the last try if none is).

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


class ContextOutcomes(NamedTuple):
    """The networks of one context that did not diverge, in the order of their losses."""

    member: np.ndarray  # uint32: where each stands in the ensemble
    table: np.ndarray  # int32: which of the context's distinct tables of counts
    solved: np.ndarray  # bool: both heads right on every row
    loss: np.ndarray  # float32, ascending
    right: np.ndarray  # uint8: right answers, both heads together


class Outcomes:
    """An ensemble as protocols see it, some sixty bytes a member. Takes `Run.batches`, however long they are.

    Attributes:
        size: number of members.
        counts: uint8[size, 4, 4], as in `MemberRecords`.
        whole: bool[size], no context diverged.
        contexts: four `ContextOutcomes`.
        unequal: of each context, k of its distinct tables, uint8[tables].
    """

    def __init__(self, batches: Iterable[MemberRecords], config: EnsembleConfig) -> None:
        self.rows = config.tasks.rows
        self.common_initialization = config.common_initialization
        kept = [(b.counts.astype(np.uint8), b.diverged, b.loss) for b in batches]
        kept = kept or [(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4), bool), np.zeros((0, 4), np.float32))]
        self.counts, diverged, loss = (np.concatenate(columns) for columns in zip(*kept, strict=True))
        self.size = len(self.counts)
        self.whole = ~diverged.any(axis=1)
        self.unequal: list[np.ndarray] = []
        self.contexts = [self._context(context, ~diverged[:, context], loss[:, context]) for context in range(4)]

    def _context(self, context: int, kept: np.ndarray, loss: np.ndarray) -> ContextOutcomes:
        member = np.flatnonzero(kept).astype(np.uint32)
        member = member[np.argsort(loss[member], kind="stable")]
        _, bob, alice, both = np.moveaxis(self.counts[member, context], -1, 0)
        # Three of the four counts tell a table: they add up to the rows.
        code = (bob.astype(np.int32) * 256 + alice) * 256 + both
        _, first, table = np.unique(code, return_index=True, return_inverse=True)
        self.unequal.append((bob + alice)[first])
        return ContextOutcomes(member, table.astype(np.int32), both == self.rows, loss[member], 2 * both + bob + alice)

    @property
    def networks(self) -> int:
        """Networks in the context that has fewest; whole members where all contexts of a member start alike."""
        if self.common_initialization:
            return int(self.whole.sum())
        return min(len(context.member) for context in self.contexts)

    def solved_fraction(self, context: int) -> tuple[int, int]:
        """Networks that solved a context, and all that did not diverge in it."""
        return int(self.contexts[context].solved.sum()), len(self.contexts[context].solved)


def weights(protocol: Protocol, outcomes: ContextOutcomes) -> np.ndarray:
    """The probability that a run under the protocol ends with each network of the context: float64[M], sum 1."""
    if len(outcomes.member) == 0:
        return np.zeros(0)
    return PROTOCOLS[protocol.kind].weights(outcomes, protocol.tries)


def _all_alike(outcomes: ContextOutcomes, tries: int) -> np.ndarray:
    count = len(outcomes.member)
    return np.full(count, 1 / count)


def _until_solved(outcomes: ContextOutcomes, tries: int) -> np.ndarray:
    count, solved = len(outcomes.member), int(outcomes.solved.sum())
    failed_always = ((count - solved) / count) ** tries
    return np.where(
        outcomes.solved,
        (1 - failed_always) / max(solved, 1),
        failed_always / max(count - solved, 1),
    )


def _lowest_loss(outcomes: ContextOutcomes, tries: int) -> np.ndarray:
    return _best_of(np.concatenate([[0], np.cumsum(np.diff(outcomes.loss) > 0)]), tries)


def _most_right(outcomes: ContextOutcomes, tries: int) -> np.ndarray:
    return _best_of(outcomes.right.max() - outcomes.right, tries)


def _best_of(rank: np.ndarray, tries: int) -> np.ndarray:
    """Weights of the best of so many draws; `rank` [M] is 0 for the best networks, and equal for equally good ones.

    Order statistics: the best of K draws is no better than the n-th best network with probability ((M - n) / M)^K.
    Equals share their probability, as the first of several equal tries is each with the same probability.
    """
    count, size = len(rank), np.bincount(rank)
    better = np.cumsum(size) - size
    share = ((count - better) / count) ** tries - ((count - better - size) / count) ** tries
    return (share / np.maximum(size, 1))[rank]


class Choice(NamedTuple):
    """A kind of protocol: in words, and as weights on the networks of a context, from their outcomes and the tries."""

    label: str
    weights: Callable[[ContextOutcomes, int], np.ndarray]


#: Every kind of protocol by its word. One that ties the contexts together is no set of weights and has no row here.
PROTOCOLS = {
    "single": Choice("single shot", _all_alike),
    "best_loss": Choice("best of {tries} by loss", _lowest_loss),
    "best_accuracy": Choice("best of {tries} by accuracy", _most_right),
    "retry": Choice("retry until solved, at most {tries}", _until_solved),
}

#: What reports and figure 2 compare.
STANDARD_PROTOCOLS = (
    Protocol("single"),
    Protocol("best_loss", 20),
    Protocol("best_accuracy", 20),
    Protocol("retry", 20),
    Protocol("retry", 100),
)


def law(protocol: Protocol, outcomes: Outcomes) -> LatticeLaw:
    """The exact law of S under a protocol, of the ensemble as it stands.

    Contexts are independent, also under a retry; a single shot from a common initialisation is not, and its law is
    then that of the members.
    """
    return _law(protocol, outcomes, _unequal_laws(outcomes, _table_laws(protocol, outcomes)))


def _table_laws(protocol: Protocol, outcomes: Outcomes, kept: np.ndarray | None = None) -> list[np.ndarray]:
    """The law of each context's table of counts, of the ensemble or of the members kept: four float64[tables].

    Where none of a context's networks is kept its law is that of all: leaving them out says nothing.
    """
    laws = []
    for context, unequal in zip(outcomes.contexts, outcomes.unequal, strict=True):
        part = context
        if kept is not None:
            there = kept[context.member]
            part = ContextOutcomes(*(column[there] for column in context)) if there.any() else context
        laws.append(np.bincount(part.table, weights(protocol, part), len(unequal)))
    return laws


def _unequal_laws(outcomes: Outcomes, table_laws: list[np.ndarray]) -> np.ndarray:
    """The law of k in each context: float64[4, rows + 1]."""
    pairs = zip(outcomes.unequal, table_laws, strict=True)
    return np.array([np.bincount(unequal, law, outcomes.rows + 1) for unequal, law in pairs])


def _law(
    protocol: Protocol, outcomes: Outcomes, context_laws: np.ndarray, kept: np.ndarray | None = None
) -> LatticeLaw:
    rows = outcomes.rows
    if protocol.is_single_shot and outcomes.common_initialization:
        whole = outcomes.whole if kept is None else outcomes.whole & kept
        k = unequal_outcomes(from_context_order(outcomes.counts[whole])).reshape(-1, 4)
        index = 3 * rows - (k @ S_SIGNS)
        if len(index) == 0 and kept is not None:
            return _law(protocol, outcomes, context_laws)
        return LatticeLaw(rows, np.bincount(index, minlength=4 * rows + 1) / max(len(index), 1))
    # S = 2 - 2 (k11 + k12 + k21 - k22) / rows; the convolution's index is that sum plus rows, so S runs downwards.
    k11, k12, k21, k22 = context_laws
    return LatticeLaw(rows, np.convolve(np.convolve(k11, k12), np.convolve(k21, k22[::-1]))[::-1])


class ProtocolLaw:
    """A protocol's law of S with the uncertainty that the finite ensemble leaves in anything read off it."""

    def __init__(self, protocol: Protocol, outcomes: Outcomes) -> None:
        self.protocol = protocol
        self.networks = outcomes.networks
        self.rows = outcomes.rows
        self.table_laws = _table_laws(protocol, outcomes)
        self.context_laws = _unequal_laws(outcomes, self.table_laws)
        self.law = _law(protocol, outcomes, self.context_laws)
        groups = max(min(GROUPS, outcomes.size), 2)
        # Groups are of members, so that contexts that share an initialisation are left out together.
        group_of = np.arange(outcomes.size) % groups
        # Divergence can leave a context networks in a few groups only, and its error has no more than those tell.
        self.freedoms = [len(np.unique(group_of[context.member])) - 1 for context in outcomes.contexts]
        self._members = protocol.is_single_shot and outcomes.common_initialization
        if self._members:
            self.freedoms = [len(np.unique(group_of[outcomes.whole])) - 1] * 4
        self.left_out_table_laws, self.left_out_context_laws, self.left_out = [], [], []
        for group in range(groups):
            kept = group_of != group
            tables = _table_laws(protocol, outcomes, kept)
            laws = _unequal_laws(outcomes, tables)
            self.left_out_table_laws.append(tables)
            self.left_out_context_laws.append(laws)
            self.left_out.append(_law(protocol, outcomes, laws, kept))

    @property
    def mean(self) -> Estimate:
        """Mean of S."""
        left_out = np.array([other.mean for other in self.left_out])
        # A kind of member that was not seen has another outcome in all four contexts, where those hang together.
        span = 8.0 if self._members else 2.0
        return mean_estimate(
            self.law.mean, left_out, self.networks, self.protocol.tries, span=span, freedom=min(self.freedoms)
        )

    @property
    def correlators(self) -> list[Estimate]:
        """Mean correlator of each context."""
        values = 1 - 2 * np.arange(self.rows + 1) / self.rows
        left_out = np.array([laws @ values for laws in self.left_out_context_laws])
        return [
            mean_estimate(
                float(law @ values),
                left_out[:, n],
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

    def fraction_of_runs(self, outcomes: Outcomes, runs: np.ndarray, event: np.ndarray) -> Estimate:
        """The probability of an event that is no function of S, from runs drawn with `draw_runs` and whether it befell each.

        What leaving a group of members out changes is computed to first order: each context's law of tables changes, and
        the drawn runs say how likely the event is beside each table. The error of drawing so many runs is added.

        Args:
            outcomes: the ensemble that the law is of.
            runs: places of networks in their contexts, [runs, 4].
            event: bool[runs].

        Returns:
            The share of runs, with an interval for a new ensemble and not for these networks alone.
        """
        value, left_out = float(np.mean(event)), np.zeros(len(self.left_out))
        # Where a run is a member, it is as good as a draw from the population: there is nothing to add up.
        for number, context in enumerate(outcomes.contexts if not self._members else ()):
            table = context.table[runs[:, number]]
            drawn = np.bincount(table, minlength=len(self.table_laws[number]))
            beside = np.where(drawn, np.bincount(table, event, len(drawn)) / np.maximum(drawn, 1), value)
            left_out += [(laws[number] - self.table_laws[number]) @ beside for laws in self.left_out_table_laws]
        return fraction_estimate(
            value, left_out, self.networks, self.protocol.tries, runs=len(event), freedom=min(self.freedoms)
        )


def draw_runs(protocol: Protocol, outcomes: Outcomes, runs: int, seed: int = 0) -> np.ndarray:
    """Runs under a protocol as places of their networks in `Outcomes.contexts`, int64[runs, 4].

    Under a single shot from a common initialisation a run is a whole member.

    Raises:
        ValueError: a context in which every network diverged.
    """
    generator = np.random.default_rng(seed)
    if outcomes.networks == 0:
        raise ValueError("a context has no network that did not diverge, so no run can be drawn")
    if protocol.is_single_shot and outcomes.common_initialization:
        chosen = generator.choice(np.flatnonzero(outcomes.whole), size=runs)
        place = np.zeros((4, outcomes.size), np.int64)
        for number, context in enumerate(outcomes.contexts):
            place[number, context.member] = np.arange(len(context.member))
        return place[:, chosen].T
    drawn = []
    for context in outcomes.contexts:
        cumulative = np.cumsum(weights(protocol, context))
        drawn.append(np.searchsorted(cumulative, generator.random(runs) * cumulative[-1], side="right"))
    return np.stack(drawn, axis=1)


def joint_counts_of(runs: np.ndarray, outcomes: Outcomes) -> np.ndarray:
    """Joint counts of drawn runs [runs, 4], int32[runs, 2, 2, 2, 2]."""
    counts = [outcomes.counts[context.member[runs[:, n]], n] for n, context in enumerate(outcomes.contexts)]
    return from_context_order(np.stack(counts, axis=1)).astype(np.int32)


def sample_runs(protocol: Protocol, outcomes: Outcomes, runs: int, seed: int = 0) -> np.ndarray:
    """Joint counts of runs under a protocol, int32[runs, 2, 2, 2, 2], each made of stored networks.

    For statistics that are no function of S alone, contextuality among them.

    Raises:
        ValueError: a context in which every network diverged.
    """
    return joint_counts_of(draw_runs(protocol, outcomes, runs, seed), outcomes)
