"""The numbers of a report: everything that is said of a run, as plain data for summary.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.formatting import counted
from ncsim.report.training import training_numbers
from ncsim.report.until import ended, goes_on
from ncsim.results import Run
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.cell import CONTEXTUALITY_RUNS, Cell
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson, mean_estimate
from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value
from ncsim.statistics.pooled import GroupedMeans, pooled_estimates, pooled_s
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, TSIRELSON, ProtocolLaw
from ncsim.statistics.signalling_tests import member_signalling_tests, signalling_tests
from ncsim.statistics.tally import Tally
from ncsim.statistics.training_curves import TrajectoryStatistics
from ncsim.statistics.until import Until
from ncsim.study import Study, cell_values

CONTEXT_NAMES = context_names()


class Summary(NamedTuple):
    """A run in numbers.

    `numbers` is what summary.json holds. `laws[cell]` are the laws of S under STANDARD_PROTOCOLS, and `dots[cell]` for
    each protocol the S of a few runs; both are empty for a cell without networks.
    """

    numbers: dict[str, Any]
    laws: list[list[ProtocolLaw]]
    dots: list[list[np.ndarray]]


def summarise(run: Run | Study, dots: int = 50) -> Summary:
    """One entry a cell of the grid, each number that is estimated with its interval.

    The dots of a single shot are the first members of the ensemble, as a paper with so few runs would have them; under
    the other protocols they are drawn from the exact law.

    Raises:
        StoreError: records that contradict themselves.
    """
    cells, laws, drawn, estimates = [], [], [], []
    runs = [run] if isinstance(run, Run) else [Run(folder.configs, folder) for folder in run._folders]
    rules = [each.until for each in runs]
    led_on = [
        str(rule["until"]) for rule, each in zip(rules, runs, strict=True) if rule and goes_on(rule, each.configs)
    ]
    until = rules[0] if isinstance(run, Run) else None
    if until is not None and until.get("members") != run.configs[0].members:
        until = None  # has not ended, or was extended afterwards
    for number, (cell, along) in enumerate(_read(run)):
        cell_laws = [] if cell.networks == 0 else [ProtocolLaw(p, cell) for p in STANDARD_PROTOCOLS]
        cells.append({"cell": cell_values(run, number)} | _summarise_cell(cell, cell_laws))
        if along is not None:
            cells[-1]["training"] = training_numbers(*along)
        laws.append(cell_laws)
        if until is not None:
            estimates.append(Until.parse(until["until"]).estimate(cell))
        drawn.append([_runs(law, cell, dots, seed) for seed, law in enumerate(cell_laws)])
    numbers = {
        "run": run.location,
        "swept": run.swept,
        # Not a second look at the folder, where workers may have stored parts since.
        "members_missing": sum(max(c.members - cell["members"], 0) for c, cell in zip(run.configs, cells, strict=True)),
        "cells": cells,
    }
    # What has no recording in a study may be of a run that records nothing.
    told = {n: cell["training"]["members_without_recording"] for n, cell in enumerate(cells) if "training" in cell}
    known = told if isinstance(run, Run) else {}
    if unrecorded := sum(each._unrecorded(known) for each in runs):
        numbers["members_unrecorded"] = unrecorded
    if led_on:
        numbers["until_goes_on"] = list(dict.fromkeys(led_on))
    if isinstance(run, Study):
        numbers["runs"] = run.locations
    elif until is not None:
        numbers["until"] = ended(until, run.configs, cells, estimates)
    return Summary(numbers, laws, drawn)


def _read(run: Run | Study) -> Iterator[tuple[Cell, tuple[TrajectoryStatistics, int] | None]]:
    """Each cell, with what was recorded of it along training. The next one is read meanwhile, mostly outside of Python, so that statistics
    and figures compute beside it."""

    def look(number: int) -> tuple[Cell, tuple[TrajectoryStatistics, int] | None]:
        return run._cell(number), run._along_training(number)

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(look, 0)
        for number in range(1, 1 + len(run.configs)):
            found = following.result()
            if number < len(run.configs):
                following = thread.submit(look, number)
            yield found


def axis_label(swept: Sequence[str]) -> str:
    """What tells cells apart, as the label of an axis."""
    names = {"hidden": "hidden units n"}
    return ", ".join(names.get(name, name.replace("_", " ")) for name in swept) or "ensemble"


def _runs(law: ProtocolLaw, cell: Cell, count: int, seed: int) -> np.ndarray:
    return cell.first_s[:count] if law.protocol.is_single_shot else law.law.sample(count, seed)


def _summarise_cell(cell: Cell, laws: list[ProtocolLaw]) -> dict[str, Any]:
    tally = cell.tally
    result: dict[str, Any] = {
        "members": tally.members,
        "rows": tally.rows,
        "diverged": {"networks": int(tally.diverged.sum()), "members": tally.members_diverged},
    }
    if not laws:
        return result | {"note": f"no network to report on: {_why_none(tally)}"}
    counts = tally.counts
    contextual = np.flatnonzero(tally.contextuality) - 10 * tally.rows
    result["contexts"] = {
        name: {"solved": clopper_pearson(*cell.solved_fraction(n))._asdict()} | _context(cell, counts, n)
        for n, name in enumerate(CONTEXT_NAMES)
    }
    result["members_with_s_above_2"] = cell.members_above_2()._asdict()
    result["members_contextual"] = cell.members_contextual()._asdict()
    result["largest_contextuality_of_a_member"] = float(contextual[-1] / tally.rows) if len(contextual) else -np.inf
    result["undecided"] = _undecided(cell)
    result["pooled"] = _pooled(cell, counts)
    result["tests"] = _tests(tally, counts)
    result["protocols"] = [_summarise_protocol(n, law, cell) for n, law in enumerate(laws)]
    return result


def _why_none(tally: Tally) -> str:
    """Why a cell has no law of S."""
    if not tally.members:
        return "none stored"
    lost = [name for name, networks in zip(CONTEXT_NAMES, tally.networks, strict=True) if not networks]
    # With common starts a run is a whole member.
    why = (
        f"every one of a context diverged ({', '.join(lost)})"
        if lost
        else "with common starts every member has one that diverged"
    )
    return f"{why}; {counted(int(tally.diverged.sum()), 'network')} in {tally.members_diverged:,} of {counted(tally.members, 'member')}"


def _summarise_protocol(number: int, protocol_law: ProtocolLaw, cell: Cell) -> dict[str, Any]:
    protocol, law, delta = protocol_law.protocol, protocol_law.law, cell.contextuality[number]
    contextual = protocol_law.fraction_of_runs(cell.runs[number], delta > 0)
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
        "sampled_largest_contextuality": float(delta.max() / cell.rows),
        "law": {"s": law.values.tolist(), "probability": law.probabilities.tolist()},
    } | ({"law_error": cell.law_error} if protocol.kind == "best_loss" and cell.law_error else {})


def _context(cell: Cell, counts: np.ndarray, number: int) -> dict[str, Any]:
    """Pooled accuracies and correlator of one context."""
    neither, bob, alice, both = counts[:, number].sum(axis=0).tolist()
    items = neither + bob + alice + both
    # One division: the tests have the same accuracies, and a sum of two quotients rounds otherwise.
    return {
        "accuracy_alice": (alice + both) / items,
        "accuracy_bob": (bob + both) / items,
        "correlator": (both + neither - alice - bob) / items,
        "networks_with_an_undecided_answer": int(cell.tally.undecided.networks[number]),
    }


def _undecided(cell: Cell) -> dict[str, Any]:
    """What share of answers is undecided, of all networks; and of whole members, S under the conventions for them."""
    found, networks = cell.tally.undecided, int(cell.tally.networks.sum())
    fell, tossed = _mean_s_by_convention(cell)
    return {
        "answers": float(found.answers.sum() / max(networks * cell.rows * 2, 1)),
        "networks": float(found.networks.sum() / max(networks, 1)),
        "mean_s_as_they_fell": fell,
        "mean_s_as_coin_tosses": tossed,
        "mean_s_whatever_they_are": list(found.range_of_mean) if found.members else None,
        "members_with_s_above_2_whatever_they_are": list(found.range_above_two) if found.members else None,
        "decided_members": clopper_pearson(found.decided_members, found.members)._asdict(),
        "mean_s_of_decided_members": _mean_s_of_decided_members(cell),
        "decided_members_with_s_above_2": found.above_two("decided_only")._asdict(),
    }


def _mean_s_by_convention(cell: Cell) -> list[dict[str, Any] | None]:
    """Mean S of whole members as undecided answers fell and as coin tosses; None without such a member.

    The range of S over answers is known of whole members alone, so that no other mean S may stand beside it. Where nothing
    diverged, all networks are those of whole members, and sums by context tell more of the error than members do.
    """
    found, fewest, common = cell.tally.undecided, int(cell.tally.networks.min()), cell.common_initialization
    if not found.excluded:
        sums = (found.products, found.decided_products)
        return [pooled_s(products, found.items, fewest, common)._asdict() for products in sums]
    if not found.members:
        return [None, None]
    return [bootstrap_mean(*found.law(name))._asdict() for name in ("as_they_fell", "coin_toss")]


def _mean_s_of_decided_members(cell: Cell) -> dict[str, Any] | None:
    sums, members = cell.tally.undecided.decided_s, cell.tally.undecided.decided_members
    if members == 0:
        return None
    means = GroupedMeans(sums[:, None, :1], sums[:, 1:])
    return mean_estimate(
        float(means.value[0, 0]),
        (means.value - means.change)[:, 0, 0],
        members,
        span=8.0 if cell.common_initialization else 2.0,
        contexts=1 if cell.common_initialization else 4,
        freedom=means.freedom,
    )._asdict()


def _pooled(cell: Cell, counts: np.ndarray) -> dict[str, Any]:
    """Statistics of the counts summed over members: one table, as if all members were one experiment."""
    found = pooled_estimates(counts, int(cell.tally.networks.min()), cell.common_initialization)
    # The value of a table is the same to the last bit wherever it is told.
    total = chsh_statistics(counts.sum(axis=0).reshape(2, 2, 2, 2))
    return {name: found[name]._replace(value=float(getattr(total, name)))._asdict() for name in found}


def _tests(tally: Tally, counts: np.ndarray) -> dict[str, Any]:
    """Locality and no-signalling, of the pooled rows as if they were independent, and across members."""
    pooled = counts.sum(axis=0).reshape(2, 2, 2, 2)
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
            for test in member_signalling_tests(tally.differences)
        ],
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """None in place of NaN, as summary.json has it."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}
