"""The numbers of a report: everything that is said of a run, as plain data for summary.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names
from ncsim.errors import StoreError
from ncsim.records.joint_counts import from_context_order
from ncsim.records.members import MemberRecords
from ncsim.results import Run
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson, mean_estimate
from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value
from ncsim.statistics.pooled import GroupedMeans, pooled_estimates, pooled_s
from ncsim.statistics.protocols import (
    GROUPS,
    STANDARD_PROTOCOLS,
    TSIRELSON,
    Outcomes,
    ProtocolLaw,
    draw_runs,
    joint_counts_of,
)
from ncsim.statistics.signalling_tests import AccuracyDifferences, member_signalling_tests, signalling_tests
from ncsim.statistics.undecided import UndecidedTally

CONTEXT_NAMES = context_names()
#: Runs drawn under a protocol to see how many are contextual.
CONTEXTUALITY_RUNS = 10_000


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
        return result | {
            "note": "no network to report on: none stored, or every one of a context diverged, or with "
            "common starts every member"
        }
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
    runs = draw_runs(protocol, outcomes, CONTEXTUALITY_RUNS)
    statistics = chsh_statistics(joint_counts_of(runs, outcomes))
    contextual = protocol_law.fraction_of_runs(outcomes, runs, np.asarray(statistics.contextuality > 0))
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
        "sampled_runs_contextual": contextual._asdict(),
        "sampled_largest_contextuality": float(np.max(statistics.contextuality)),
        "law": {"s": law.values.tolist(), "probability": law.probabilities.tolist()},
    }


class _Tally:
    """What a single pass over the records adds up. Groups are for the jackknife."""

    def __init__(self, config: EnsembleConfig) -> None:
        self._rows = config.tasks.rows
        self._common = config.common_initialization
        self.members = self.diverged = self.members_diverged = 0
        self.whole = self.above_2 = self.contextual = 0
        self.largest_contextuality = -np.inf
        self._counts = np.zeros((GROUPS, 4, 4), np.int64)
        self._differences = AccuracyDifferences(config.tasks.rows)
        self._undecided = UndecidedTally(GROUPS)
        self._networks = np.zeros(4, np.int64)

    def passing(self, batches: Any) -> Any:
        """The batches, as they are, added up on the way."""
        for batch in batches:
            self._add(batch)
            yield batch

    def _add(self, batch: MemberRecords) -> None:
        group = (np.arange(batch.size) + self.members) % GROUPS
        self.members += batch.size
        self.diverged += int(batch.diverged.sum())
        self._networks += (~batch.diverged).sum(axis=0)
        whole = np.logical_not(batch.diverged.any(axis=1))
        self.members_diverged += int((~whole).sum())
        np.add.at(self._counts, group, batch.counts)
        self._differences.add(batch.counts, batch.diverged)
        self._undecided.add(batch)
        statistics = chsh_statistics(batch.joint[whole])
        self.whole += int(whole.sum())
        if not whole.any():
            return
        self.above_2 += int(np.sum(statistics.s > 2))
        self.contextual += int(np.sum(statistics.contextuality > 0))
        self.largest_contextuality = max(self.largest_contextuality, float(np.max(statistics.contextuality)))

    def context(self, number: int) -> dict[str, Any]:
        """Pooled accuracies and correlator of one context."""
        neither, bob, alice, both = self._counts[:, number].sum(axis=0) / self._counts[:, number].sum()
        return {
            "accuracy_alice": float(alice + both),
            "accuracy_bob": float(bob + both),
            "correlator": float(both + neither - alice - bob),
            "networks_with_an_undecided_answer": int(self._undecided.networks[number]),
        }

    def undecided(self) -> dict[str, Any]:
        """What share of answers is undecided, and S under the three conventions for them."""
        networks = self.members * 4 - self.diverged
        found = self._undecided
        fewest = int(self._networks.min())
        return {
            "answers": float(found.answers.sum() / max(networks * self._rows * 2, 1)),
            "networks": float(found.networks.sum() / max(networks, 1)),
            "mean_s_as_they_fell": pooled_s(found.products, found.items, fewest, self._common)._asdict(),
            "mean_s_as_coin_tosses": pooled_s(found.decided_products, found.items, fewest, self._common)._asdict(),
            "mean_s_whatever_they_are": list(found.range_of_mean) if found.members else [0.0, 0.0],
            "members_with_s_above_2_whatever_they_are": list(found.range_above_two) if found.members else [0.0, 0.0],
            "decided_members": clopper_pearson(found.decided_members, found.members)._asdict(),
            "mean_s_of_decided_members": self._mean_s_of_decided_members(),
            "decided_members_with_s_above_2": found.above_two("decided_only")._asdict(),
        }

    def _mean_s_of_decided_members(self) -> dict[str, Any] | None:
        sums = self._undecided.decided_s
        if self._undecided.decided_members == 0:
            return None
        means = GroupedMeans(sums[:, None, :1], sums[:, 1:])
        return mean_estimate(
            float(means.value[0, 0]),
            (means.value - means.change)[:, 0, 0],
            self._undecided.decided_members,
            span=8.0 if self._common else 2.0,
            freedom=means.freedom,
        )._asdict()

    def pooled(self) -> dict[str, Any]:
        """Statistics of the counts summed over members: one table, as if all members were one experiment."""
        found = pooled_estimates(self._counts, int(self._networks.min()), self._common)
        # The value of a table is the same to the last bit wherever it is told.
        total = chsh_statistics(self._counts.sum(axis=0).reshape(2, 2, 2, 2))
        return {name: found[name]._replace(value=float(getattr(total, name)))._asdict() for name in found}

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
