"""The numbers of a report: everything that is said of a run, as plain data for summary.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import S_SIGNS, context_names
from ncsim.errors import StoreError
from ncsim.records.joint_counts import from_context_order
from ncsim.records.members import MemberRecords
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import Estimate, clopper_pearson, mean_estimate
from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value
from ncsim.statistics.protocols import GROUPS, STANDARD_PROTOCOLS, TSIRELSON, Outcomes, ProtocolLaw, sample_runs
from ncsim.statistics.signalling_tests import AccuracyDifferences, member_signalling_tests, signalling_tests
from ncsim.statistics.undecided import member_ranges

CONTEXT_NAMES = context_names()
#: Runs drawn under a protocol to see how many are contextual.
CONTEXTUALITY_RUNS = 10_000
#: Delta is a multiple of 1/8 or so; what differs from 0 by less is rounding.
ROUNDING = 1e-9


class Summary(NamedTuple):
    """A run in numbers.

    `numbers` is what summary.json holds. `laws[cell]` are the laws of S under STANDARD_PROTOCOLS, and `dots[cell]` for
    each protocol the S of a few runs; both are empty for a cell without networks.
    """

    numbers: dict[str, Any]
    laws: list[list[ProtocolLaw]]
    dots: list[list[np.ndarray]]


def summarise(run: Run, dots: int = 50) -> Summary:
    """One entry a cell of the grid, each number that is estimated with its interval.

    The dots of a single shot are the first members of the ensemble, as a paper with so few runs would have them; under
    the other protocols they are drawn from the exact law.

    Raises:
        StoreError: records that contradict themselves.
    """
    cells, laws, drawn = [], [], []
    for cell, config in enumerate(run.configs):
        tally = _Tally(config)
        try:
            outcomes = Outcomes(tally.passing(run.batches(cell)), config)
        except ValueError as error:  # records that no training gives, as of a part that was edited
            raise StoreError(f"{run.location}: {error}") from None
        cell_laws = [] if outcomes.networks == 0 else [ProtocolLaw(p, outcomes) for p in STANDARD_PROTOCOLS]
        cells.append(
            {"cell": {name: getattr(config, name) for name in run.swept}} | _summarise_cell(tally, outcomes, cell_laws)
        )
        laws.append(cell_laws)
        drawn.append([_runs(law, outcomes, dots, seed) for seed, law in enumerate(cell_laws)])
    numbers = {
        "run": run.location,
        "swept": run.swept,
        # Not a second look at the folder, where workers may have stored parts since.
        "members_missing": sum(max(c.members - cell["members"], 0) for c, cell in zip(run.configs, cells, strict=True)),
        "cells": cells,
    }
    return Summary(numbers, laws, drawn)


def _runs(law: ProtocolLaw, outcomes: Outcomes, count: int, seed: int) -> np.ndarray:
    if not law.protocol.is_single_shot:
        return law.law.sample(count, seed)
    first = np.flatnonzero(outcomes.whole)[:count]
    return np.asarray(chsh_statistics(from_context_order(outcomes.counts[first])).s)


def _summarise_cell(tally: _Tally, outcomes: Outcomes, laws: list[ProtocolLaw]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "members": tally.members,
        "rows": outcomes.rows,
        "diverged": {"networks": tally.diverged, "members": tally.members_diverged},
    }
    if not laws:
        return result | {"note": "no network to report on: none stored, or every one of a context diverged"}
    result["contexts"] = {
        name: {"solved": clopper_pearson(*outcomes.solved_fraction(n))._asdict()} | tally.context(n)
        for n, name in enumerate(CONTEXT_NAMES)
    }
    result["members_with_s_above_2"] = clopper_pearson(tally.above_2, tally.whole)._asdict()
    result["members_contextual"] = clopper_pearson(tally.contextual, tally.whole)._asdict()
    result["largest_contextuality_of_a_member"] = tally.largest_contextuality
    result["undecided"] = tally.undecided()
    result["pooled"] = tally.pooled()
    result["tests"] = tally.tests()
    result["protocols"] = [_summarise_protocol(law, outcomes) for law in laws]
    return result


def _summarise_protocol(protocol_law: ProtocolLaw, outcomes: Outcomes) -> dict[str, Any]:
    protocol, law = protocol_law.protocol, protocol_law.law
    statistics = chsh_statistics(sample_runs(protocol, outcomes, CONTEXTUALITY_RUNS))
    contextual = int(np.sum(statistics.contextuality > ROUNDING))
    return {
        "protocol": protocol.label,
        "kind": protocol.kind,
        "tries": protocol.tries,
        "mean_s": protocol_law.mean._asdict(),
        "standard_deviation_s": law.variance**0.5,
        "quantiles_s": {str(level): law.quantile(level) for level in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "s_above_2": protocol_law.above(2.0)._asdict(),
        "s_above_tsirelson": protocol_law.above(TSIRELSON)._asdict(),
        "correlators": {
            name: estimate._asdict() for name, estimate in zip(CONTEXT_NAMES, protocol_law.correlators, strict=True)
        },
        "sampled_runs": CONTEXTUALITY_RUNS,
        "sampled_runs_contextual": clopper_pearson(contextual, CONTEXTUALITY_RUNS)._asdict(),
        "sampled_largest_contextuality": float(np.max(statistics.contextuality)),
        "law": {"s": law.values.tolist(), "probability": law.probabilities.tolist()},
    }


class _Tally:
    """What a single pass over the records adds up. Groups are for the jackknife."""

    def __init__(self, config: EnsembleConfig) -> None:
        self._rows = config.tasks.rows
        self.members = self.diverged = self.members_diverged = 0
        self.whole = self.above_2 = self.contextual = 0
        self.largest_contextuality = -np.inf
        self._counts = np.zeros((GROUPS, 4, 4), np.int64)
        self._differences = AccuracyDifferences(config.tasks.rows)
        self._rows_undecided = np.zeros((4, 2), np.int64)
        self._networks_undecided = np.zeros(4, np.int64)
        self._decided_product = np.zeros((GROUPS, 4), np.int64)
        self._decided_members = self._decided_above_2 = 0
        self._decided_s = np.zeros((GROUPS, 2))
        self._free = np.zeros(4)  # sums over members: lowest and highest S, and whether each is above 2

    def passing(self, batches: Any) -> Any:
        """The batches, as they are, added up on the way."""
        for batch in batches:
            self._add(batch)
            yield batch

    def _add(self, batch: MemberRecords) -> None:
        group = (np.arange(batch.size) + self.members) % GROUPS
        self.members += batch.size
        self.diverged += int(batch.diverged.sum())
        whole = np.logical_not(batch.diverged.any(axis=1))
        self.members_diverged += int((~whole).sum())
        np.add.at(self._counts, group, batch.counts)
        self._differences.add(batch.counts, batch.diverged)
        np.add.at(self._decided_product, group, batch.decided_product)
        self._rows_undecided += np.stack([batch.undecided_alice.sum(axis=0), batch.undecided_bob.sum(axis=0)], axis=1)
        self._networks_undecided += batch.undecided().sum(axis=0)
        statistics = chsh_statistics(batch.joint[whole])
        self.whole += int(whole.sum())
        if not whole.any():
            return
        self.above_2 += int(np.sum(statistics.s > 2 + ROUNDING))
        ranges = member_ranges(batch.take(whole))
        ends = (ranges.low, ranges.high, ranges.low > 2 + ROUNDING, ranges.high > 2 + ROUNDING)
        self._free += [np.sum(end) for end in ends]
        self.contextual += int(np.sum(statistics.contextuality > ROUNDING))
        self.largest_contextuality = max(self.largest_contextuality, float(np.max(statistics.contextuality)))
        decided = ~batch.undecided()[whole].any(axis=1)
        self._decided_members += int(decided.sum())
        self._decided_above_2 += int(np.sum(statistics.s[decided] > 2 + ROUNDING))
        np.add.at(self._decided_s[:, 0], group[whole][decided], statistics.s[decided])
        np.add.at(self._decided_s[:, 1], group[whole][decided], 1)

    def context(self, number: int) -> dict[str, Any]:
        """Pooled accuracies and correlator of one context."""
        neither, bob, alice, both = self._counts[:, number].sum(axis=0) / self._counts[:, number].sum()
        return {
            "accuracy_alice": float(alice + both),
            "accuracy_bob": float(bob + both),
            "correlator": float(both + neither - alice - bob),
            "networks_with_an_undecided_answer": int(self._networks_undecided[number]),
        }

    def undecided(self) -> dict[str, Any]:
        """What share of answers is undecided, and S under the three conventions for them."""
        networks = self.members * 4 - self.diverged
        items = self._counts.sum(axis=2)
        product = self._counts @ np.array([1, -1, -1, 1])

        def mean_s(products: np.ndarray) -> Estimate:
            return _ratio_estimate(products, items, lambda c: float(c @ S_SIGNS), self.members)

        decided = self._decided_s
        return {
            "answers": float(self._rows_undecided.sum() / max(networks * self._rows * 2, 1)),
            "networks": float(self._networks_undecided.sum() / max(networks, 1)),
            "mean_s_as_they_fell": mean_s(product)._asdict(),
            "mean_s_as_coin_tosses": mean_s(self._decided_product)._asdict(),
            "mean_s_whatever_they_are": (self._free[:2] / max(self.whole, 1)).tolist(),
            "members_with_s_above_2_whatever_they_are": (self._free[2:] / max(self.whole, 1)).tolist(),
            "decided_members": clopper_pearson(self._decided_members, self.whole)._asdict(),
            "mean_s_of_decided_members": _ratio_estimate(
                decided[:, :1], decided[:, 1:], lambda m: float(m[0]), self._decided_members
            )._asdict()
            if self._decided_members
            else None,
            "decided_members_with_s_above_2": clopper_pearson(self._decided_above_2, self._decided_members)._asdict(),
        }

    def pooled(self) -> dict[str, Any]:
        """Statistics of the counts summed over members: one table, as if all members were one experiment."""
        total = chsh_statistics(self._counts.sum(axis=0).reshape(2, 2, 2, 2))
        rest = chsh_statistics((self._counts.sum(axis=0) - self._counts).reshape(-1, 2, 2, 2, 2))
        used = self._counts.sum(axis=(1, 2)) > 0

        def estimate(name: str) -> dict[str, Any]:
            value, left_out = float(getattr(total, name)), np.asarray(getattr(rest, name))[used]
            if used.sum() < 2:
                return Estimate(value, -4.0, 4.0, "one member: no interval")._asdict()
            return mean_estimate(value, left_out, self.members)._asdict()

        return {name: estimate(name) for name in ("s", "s_odd", "s_factorised", "influence", "contextuality")}

    def tests(self) -> dict[str, Any]:
        """Locality and no-signalling, of the pooled rows as if they were independent, and across members."""
        pooled = self._counts.sum(axis=0).reshape(2, 2, 2, 2)
        items = pooled.sum(axis=(2, 3))
        # The game form wants as many rows in each context, which divergence can take away.
        equal = bool((items == items[0, 0]).all())
        p_value = float(game_p_value(pooled) if equal else hoeffding_p_value(pooled))
        return {
            "pooled_rows": int(items.sum()),
            "locality_pooled": {"p_value": p_value, "method": "game form" if equal else "Hoeffding"},
            "signalling_pooled": [_plain(asdict(test)) for test in signalling_tests(pooled)],
            "signalling_across_members": [
                _plain(asdict(test) | {"difference": test.difference._asdict()})
                for test in member_signalling_tests(self._differences)
            ],
        }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """None in place of NaN, as summary.json has it."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}


def _ratio_estimate(numerator: np.ndarray, denominator: np.ndarray, statistic: Any, members: int) -> Estimate:
    """A function of ratios of sums over groups [GROUPS, n], with its jackknife interval."""
    used = denominator.sum(axis=1) > 0
    value = statistic(numerator.sum(axis=0) / denominator.sum(axis=0))
    if used.sum() < 2:
        return Estimate(value, -4.0, 4.0, "one member: no interval")
    rest = (numerator.sum(axis=0) - numerator[used]) / (denominator.sum(axis=0) - denominator[used])
    return mean_estimate(value, np.array([statistic(row) for row in rest]), members)
