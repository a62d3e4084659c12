"""Restart protocols in a scenario: the law of an inequality's value with contexts independent, and runs drawn for all else.

As in `protocols.py`: a protocol is a weight on the stored networks of a context, and the law of a sum of correlators is the
convolution of the contexts' laws. A correlator of R rows is 1 - 2 k / R, with k the rows on which an odd number of heads was
wrong; so the value of n contexts is n - 2 index / R, with the index from 0 to n R.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.records.scenarios import ScenarioRecords
from ncsim.statistics.intervals import Estimate, fraction_estimate, mean_estimate
from ncsim.statistics.loss_order import ordered_bits
from ncsim.statistics.outcomes import ContextOutcomes, TableKinds
from ncsim.statistics.protocols import Protocol, weights
from ncsim.statistics.scenario_values import outcome_signs, parties_of
from ncsim.statistics.tally import GROUPS


class ScenarioContext(NamedTuple):
    """One context's networks that did not diverge.

    Attributes:
        outcomes: in the order of their losses.
        cells: the different tables of counts that they have, int64[T, 2^k].
        odd: of each table the rows with an odd number of heads wrong, int64[T].
    """

    outcomes: ContextOutcomes
    cells: np.ndarray
    odd: np.ndarray


class ScenarioOutcomes:
    """An ensemble's records in a scenario as protocols see them.

    Attributes:
        rows: of each context.
        size: members.
        contexts: a `ScenarioContext` for each.
        common_initialization: whether the networks of a member start alike, so that a single shot is a whole member.
    """

    def __init__(self, records: ScenarioRecords, config: EnsembleConfig) -> None:
        self.rows = config.tasks.rows
        self.size = records.size
        self.common_initialization = config.common_initialization
        self.whole = ~records.diverged.any(axis=1)
        self.contexts = [_context(records, number, self.rows) for number in range(len(config.tasks.contexts))]

    @property
    def networks(self) -> int:
        """Networks of the context that has fewest; whole members where they start alike."""
        if self.common_initialization:
            return int(self.whole.sum())
        return min(len(context.outcomes.member) for context in self.contexts)


def _context(records: ScenarioRecords, number: int, rows: int) -> ScenarioContext:
    there = np.flatnonzero(~records.diverged[:, number])
    order = there[np.argsort(records.loss[there, number], kind="stable")]
    counts = records.counts[order, number].astype(np.int64)
    cells, table = np.unique(counts, axis=0, return_inverse=True)
    signs = outcome_signs(parties_of(cells))
    right, first = cells @ (signs > 0).sum(axis=1), cells @ (signs[:, 0] > 0)
    outcomes = ContextOutcomes(
        member=order.astype(np.uint32),
        bits=ordered_bits(records.loss[order, number]),
        table=table.ravel().astype(np.int32),
        kinds=TableKinds(cells[:, -1] == rows, right, first, first == rows),
    )
    return ScenarioContext(outcomes, cells, cells @ (signs.prod(axis=1) < 0))


def table_laws(protocol: Protocol, context: ScenarioContext, groups: int) -> np.ndarray:
    """The law of a context's tables, of all networks and with each group of members left out: float64[1 + groups, T]."""
    outcomes, size = context.outcomes, len(context.cells)
    laws = [np.bincount(outcomes.table, weights(protocol, outcomes), size)]
    for group in range(groups):
        kept = outcomes.member % GROUPS != group
        if not kept.any():  # leaving these out says nothing
            laws.append(laws[0])
            continue
        rest = outcomes.take(kept)
        laws.append(np.bincount(rest.table, weights(protocol, rest), size))
    return np.stack(laws)


class ScenarioLaw:
    """A protocol in a scenario: laws of values of inequalities, and what drawn runs have.

    Args:
        protocol: how one of several networks is chosen in each context.
        outcomes: of the ensemble.

    Raises:
        ValueError: a context in which every network diverged.
    """

    def __init__(self, protocol: Protocol, outcomes: ScenarioOutcomes) -> None:
        if outcomes.networks == 0:
            raise ValueError("a context has no network that did not diverge, so there is no law")
        self.protocol, self.outcomes = protocol, outcomes
        self.groups = max(min(GROUPS, outcomes.size), 2)
        self.laws = [table_laws(protocol, context, self.groups) for context in outcomes.contexts]
        self._members = protocol.is_single_shot and outcomes.common_initialization
        used = [context.outcomes.member for context in outcomes.contexts]
        if self._members:  # a run is a whole member, and these may be in fewer groups than any context's networks
            used = [np.flatnonzero(outcomes.whole)]
        self.freedom = min(len(np.unique(member % GROUPS)) for member in used) - 1

    def law(self, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values on their lattice, ascending, float64[N], and their probabilities of the ensemble and with each group left
        out, float64[1 + groups, N].

        Args:
            signs: +1, -1 or 0 for each context.

        Raises:
            ValueError: another sign.
        """
        if not set(map(int, signs)) <= {-1, 0, 1}:
            raise ValueError(f"signs: {signs.tolist()}; allowed: -1, 0 and 1")
        used, rows = np.flatnonzero(signs), self.outcomes.rows
        lattice = (2.0 * np.arange(len(used) * rows + 1) - len(used) * rows) / rows
        found = self._of_members(signs) if self._members else self._of_contexts(signs)
        return lattice, found[:, ::-1]  # the index counts downwards

    def _of_contexts(self, signs: np.ndarray) -> np.ndarray:
        rows = self.outcomes.rows
        laws = []
        for number in np.flatnonzero(signs):
            odd, law = self.outcomes.contexts[number].odd, np.zeros((1 + self.groups, rows + 1))
            np.add.at(law.T, odd if signs[number] > 0 else rows - odd, self.laws[number].T)
            laws.append(law)
        return np.stack([functools.reduce(np.convolve, [law[n] for law in laws]) for n in range(1 + self.groups)])

    def _of_members(self, signs: np.ndarray) -> np.ndarray:
        index = np.zeros(self.outcomes.size, np.int64)
        used, rows = np.flatnonzero(signs), self.outcomes.rows
        for number in used:
            context = self.outcomes.contexts[number]
            odd = context.odd[context.outcomes.table]
            index[context.outcomes.member] += odd if signs[number] > 0 else rows - odd
        member = np.flatnonzero(self.outcomes.whole)
        found = []
        for group in range(-1, self.groups):
            kept = member[member % GROUPS != group]
            kept = kept if len(kept) else member
            found.append(np.bincount(index[kept], minlength=len(used) * rows + 1) / len(kept))
        return np.stack(found)

    def mean(self, signs: np.ndarray) -> Estimate:
        """Mean value."""
        lattice, laws = self.law(signs)
        means, most = laws @ lattice, float(np.abs(signs).sum())
        span = 2 * most if self._members else 2.0
        return mean_estimate(
            float(means[0]),
            means[1:],
            self.outcomes.networks,
            self.protocol.tries,
            support=(-most, most),
            span=span,
            contexts=1 if self._members else max(int(most), 1),
            freedom=self.freedom,
        )

    def above(self, signs: np.ndarray, bound: float) -> Estimate:
        """P(value > bound)."""
        lattice, laws = self.law(signs)
        shares = laws[:, lattice > bound].sum(axis=1)
        return fraction_estimate(
            float(shares[0]), shares[1:], self.outcomes.networks, self.protocol.tries, freedom=self.freedom
        )

    def draw(self, runs: int, seed: int = 0) -> np.ndarray:
        """Runs under the protocol, each context's network drawn by itself, as places of tables: int64[runs, contexts]. Of a
        single shot from a common initialisation, whole members."""
        generator = np.random.default_rng(seed)
        if self._members:
            member = generator.choice(np.flatnonzero(self.outcomes.whole), size=runs)
            found = []
            for context in self.outcomes.contexts:
                place = np.zeros(self.outcomes.size, np.int64)
                place[context.outcomes.member] = context.outcomes.table
                found.append(place[member])
            return np.stack(found, axis=1)
        return np.stack([generator.choice(law.shape[1], runs, p=law[0] / law[0].sum()) for law in self.laws], axis=1)

    def counts(self, drawn: np.ndarray) -> np.ndarray:
        """Counts of drawn runs, int64[runs, contexts, 2^k]."""
        return np.stack([context.cells[drawn[:, n]] for n, context in enumerate(self.outcomes.contexts)], axis=1)

    def fraction(self, event: Callable[[np.ndarray], np.ndarray], runs: int = 10_000, seed: int = 0) -> Estimate:
        """The probability of any event of a run's counts, from drawn runs.

        As `ProtocolLaw.fraction_of_runs`: what leaving a group out changes is computed to first order, and the error of
        drawing is added.

        Args:
            event: bool[runs] of counts [runs, contexts, 2^k].
            runs: how many are drawn.
            seed: of the draw.
        """
        drawn = self.draw(runs, seed)
        there = event(self.counts(drawn))
        value, left_out = float(np.mean(there)), np.zeros(self.groups)
        for number, laws in enumerate(self.laws if not self._members else ()):
            seen = np.bincount(drawn[:, number], minlength=laws.shape[1])
            beside = np.where(seen, np.bincount(drawn[:, number], there, laws.shape[1]) / np.maximum(seen, 1), value)
            left_out += (laws[1:] - laws[0]) @ beside
        return fraction_estimate(
            value, left_out, self.outcomes.networks, self.protocol.tries, runs=runs, freedom=self.freedom
        )
