"""Restart protocols: what S would have been had each context been trained several times and one result kept.

The paper does not say which of many trained runs counts. That needs no new training: a run under a protocol ends, in
each context, with one of the networks that the ensemble holds, and the protocol only changes how likely each of them
is. A protocol is therefore a *weight* on the stored networks of a context. With contexts independent, the law of S is
the convolution of the four weighted laws of k, the number of rows on which exactly one head is right: exact, on the
lattice of step 2 / rows (1/8 and 65 points for the paper's sixteen rows).

Networks that diverged take no part: laws are given that training ended with finite numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ncsim.config import EnsembleConfig
from ncsim.counts import right_answers, unequal_outcomes
from ncsim.inference import Estimate, fraction_estimate, mean_estimate
from ncsim.records import MemberRecords

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
        if self.kind not in ("single", "best_loss", "best_accuracy", "retry"):
            raise ValueError(f"protocol: {self.kind!r}; allowed: single, best_loss, best_accuracy, retry")
        if self.tries < 1 or (self.kind == "single" and self.tries != 1):
            raise ValueError(f"tries: {self.tries}; allowed: 1 or more, and 1 for a single shot")

    @property
    def label(self) -> str:
        """The protocol in words."""
        return {
            "single": "single shot",
            "best_loss": f"best of {self.tries} by loss",
            "best_accuracy": f"best of {self.tries} by accuracy",
            "retry": f"retry until solved, at most {self.tries}",
        }[self.kind]


#: What reports and figure 2 compare.
STANDARD_PROTOCOLS = (
    Protocol("single"),
    Protocol("best_loss", 20),
    Protocol("best_accuracy", 20),
    Protocol("retry", 20),
    Protocol("retry", 100),
)


@dataclass(frozen=True)
class LatticeLaw:
    """A law of S on its lattice. `probabilities[n]` belongs to S = -4 + 2 n / rows, n = 0 to 4 rows."""

    rows: int
    probabilities: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        """The lattice, ascending: float64[4 rows + 1]."""
        return (2.0 * np.arange(4 * self.rows + 1) - 4 * self.rows) / self.rows

    @property
    def mean(self) -> float:
        """Mean of S."""
        return float(self.values @ self.probabilities)

    @property
    def variance(self) -> float:
        """Variance of S."""
        return float((self.values - self.mean) ** 2 @ self.probabilities)

    def quantile(self, level: float) -> float:
        """The smallest lattice value that S does not exceed with at least this probability."""
        cumulative = np.cumsum(self.probabilities)
        # The sum ends within rounding of 1, and a median of exactly one half must not move by it.
        return float(self.values[np.searchsorted(cumulative, level * cumulative[-1] - 1e-12)])

    def above(self, bound: float) -> float:
        """P(S > bound)."""
        return float(self.probabilities[self.values > bound].sum())

    def below(self, bound: float) -> float:
        """P(S < bound)."""
        return float(self.probabilities[self.values < bound].sum())

    def between(self, low: float, high: float) -> float:
        """P(low <= S <= high)."""
        return float(self.probabilities[(self.values >= low) & (self.values <= high)].sum())

    def maximum_of(self, runs: int) -> LatticeLaw:
        """The law of the largest S of some independent runs."""
        cumulative = np.cumsum(self.probabilities)
        return LatticeLaw(self.rows, np.diff((cumulative / cumulative[-1]) ** runs, prepend=0.0))

    def sample(self, runs: int, seed: int = 0) -> np.ndarray:
        """S of some independent runs, float64[runs]."""
        law = self.probabilities / self.probabilities.sum()
        return np.random.default_rng(seed).choice(self.values, size=runs, p=law)


class ContextOutcomes(NamedTuple):
    """The networks of one context that did not diverge."""

    position: np.ndarray  # where each stands in the records
    unequal: np.ndarray  # k
    solved: np.ndarray  # both heads right on every row
    loss: np.ndarray
    right: np.ndarray  # right answers, both heads together


class Outcomes:
    """An ensemble as protocols see it: per context, each network's k, whether it solved, its loss."""

    def __init__(self, records: MemberRecords, config: EnsembleConfig) -> None:
        self.records = records
        self.rows = config.tasks.rows
        self.common_initialization = config.common_initialization
        joint = records.joint
        unequal, right = (f(joint).reshape(-1, 4) for f in (unequal_outcomes, right_answers))
        self.contexts = []
        for context in range(4):
            position = np.flatnonzero(~records.diverged[:, context])
            k, answers = unequal[position, context], right[position, context]
            loss = records.loss[position, context].astype(np.float64)
            self.contexts.append(ContextOutcomes(position, k, answers == 2 * self.rows, loss, answers))

    @property
    def networks(self) -> int:
        """Networks in the context that has fewest."""
        return min(len(context.unequal) for context in self.contexts)

    def solved_fraction(self, context: int) -> tuple[int, int]:
        """Networks that solved a context, and all that did not diverge in it."""
        return int(self.contexts[context].solved.sum()), len(self.contexts[context].solved)


def weights(protocol: Protocol, outcomes: ContextOutcomes) -> np.ndarray:
    """The probability that a run under the protocol ends with each network of the context: float64[M], sum 1."""
    count = len(outcomes.unequal)
    if count == 0:
        return np.zeros(0)
    if protocol.kind == "single":
        return np.full(count, 1 / count)
    if protocol.kind == "retry":
        solved = int(outcomes.solved.sum())
        failed_always = ((count - solved) / count) ** protocol.tries
        return np.where(
            outcomes.solved,
            (1 - failed_always) / max(solved, 1),
            failed_always / max(count - solved, 1),
        )
    # Order statistics: the best of K draws is no better than the n-th best network with probability ((M - n) / M)^K.
    # Equals share their probability, as the first of several equal tries is each with the same probability.
    score = outcomes.loss if protocol.kind == "best_loss" else -outcomes.right
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    better = np.cumsum(size) - size
    share = ((count - better) / count) ** protocol.tries - ((count - better - size) / count) ** protocol.tries
    return (share / size)[group]


def law(protocol: Protocol, outcomes: Outcomes) -> LatticeLaw:
    """The exact law of S under a protocol, of the ensemble as it stands.

    Contexts are independent, also under a retry; a single shot from a common initialisation is not, and its law is
    then that of the members.
    """
    if protocol.kind == "single" and outcomes.common_initialization:
        return _member_law(outcomes, np.ones(outcomes.records.size, bool))
    laws = [
        np.bincount(context.unequal, weights(protocol, context), outcomes.rows + 1) for context in outcomes.contexts
    ]
    return _convolved(laws, outcomes.rows)


def _convolved(laws: list[np.ndarray], rows: int) -> LatticeLaw:
    # S = 2 - 2 (k11 + k12 + k21 - k22) / rows; index t + rows runs downwards in S.
    first, second = np.convolve(laws[0], laws[1]), np.convolve(laws[2], laws[3][::-1])
    return LatticeLaw(rows, np.convolve(first, second)[::-1])


def _member_law(outcomes: Outcomes, kept: np.ndarray) -> LatticeLaw:
    rows = outcomes.rows
    kept = kept & ~outcomes.records.diverged.any(axis=1)
    k = unequal_outcomes(outcomes.records.joint).reshape(-1, 4)[kept]
    index = 3 * rows - (k @ np.array([1, 1, 1, -1]))
    return LatticeLaw(rows, np.bincount(index, minlength=4 * rows + 1) / max(len(index), 1))


class ProtocolLaw:
    """A protocol's law of S with the uncertainty that the finite ensemble leaves in anything read off it."""

    def __init__(self, protocol: Protocol, outcomes: Outcomes) -> None:
        self.protocol = protocol
        self.networks = outcomes.networks
        self.law = law(protocol, outcomes)
        groups = max(min(GROUPS, outcomes.records.size), 2)
        self.left_out = [self._without(outcomes, group, groups) for group in range(groups)]

    def _without(self, outcomes: Outcomes, group: int, groups: int) -> LatticeLaw:
        if self.protocol.kind == "single" and outcomes.common_initialization:
            return _member_law(outcomes, np.arange(outcomes.records.size) % groups != group)
        laws = []
        for context in outcomes.contexts:
            # Groups are of members, so that contexts that share an initialisation are left out together.
            kept = context.position % groups != group
            part = ContextOutcomes(*(column[kept] for column in context))
            laws.append(np.bincount(part.unequal, weights(self.protocol, part), outcomes.rows + 1))
        return _convolved(laws, outcomes.rows)

    @property
    def mean(self) -> Estimate:
        """Mean of S."""
        return mean_estimate(self.law.mean, np.array([other.mean for other in self.left_out]))

    def above(self, bound: float) -> Estimate:
        """P(S > bound)."""
        return self._fraction(self.law.above(bound), [other.above(bound) for other in self.left_out])

    def below(self, bound: float) -> Estimate:
        """P(S < bound)."""
        return self._fraction(self.law.below(bound), [other.below(bound) for other in self.left_out])

    def between(self, low: float, high: float) -> Estimate:
        """P(low <= S <= high)."""
        return self._fraction(self.law.between(low, high), [other.between(low, high) for other in self.left_out])

    def _fraction(self, value: float, left_out: list[float]) -> Estimate:
        return fraction_estimate(value, np.array(left_out), self.networks, self.protocol.tries)


def mean_correlators(protocol: Protocol, outcomes: Outcomes) -> np.ndarray:
    """Mean correlator of each context under a protocol: float64[4]."""
    return np.array([weights(protocol, c) @ (1 - 2 * c.unequal / outcomes.rows) for c in outcomes.contexts])


def sample_runs(protocol: Protocol, outcomes: Outcomes, runs: int, seed: int = 0) -> np.ndarray:
    """Joint counts of runs under a protocol, int32[runs, 2, 2, 2, 2], each made of stored networks.

    For statistics that are no function of S alone, contextuality among them.

    Raises:
        ValueError: a context in which every network diverged.
    """
    generator = np.random.default_rng(seed)
    if outcomes.networks == 0:
        raise ValueError("a context has no network that did not diverge, so no run can be drawn")
    if protocol.kind == "single" and outcomes.common_initialization:
        whole = np.flatnonzero(~outcomes.records.diverged.any(axis=1))
        return outcomes.records.joint[generator.choice(whole, size=runs)]
    drawn = []
    for number, context in enumerate(outcomes.contexts):
        probability = weights(protocol, context)
        chosen = generator.choice(context.position, size=runs, p=probability / probability.sum())
        drawn.append(outcomes.records.counts[chosen, number])
    return np.stack(drawn, axis=1).reshape(runs, 2, 2, 2, 2)
