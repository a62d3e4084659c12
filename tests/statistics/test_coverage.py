"""Every interval that a report prints or a public function gives, in every regime: does it hold what it is of?

Each case draws ensembles from a population whose numbers are known. Of its intervals at least 95 % should hold them, less
what chance takes once in ten thousand cases. No interval may leave what is possible, be a point, or miss its own value.
"""

from __future__ import annotations

import collections
import functools
import math
from unittest import mock

import numpy as np
import pytest
from scipy.stats import binom

import ncsim
import ncsim.report.summary
from experiments.critical_width import WidthFinding, critical_widths
from experiments.gradient_competition import odds_ratio, spearman
from ncsim.results import Run
from ncsim.statistics import cell
from ncsim.statistics.bootstrap import bootstrap_mean, hoeffding_mean
from ncsim.statistics.contextuality_interval import contextuality_interval, s_interval
from ncsim.statistics.intervals import clopper_pearson, mean_over_members
from ncsim.statistics.loss_traces import auc_between, auc_estimate, bits_from_bins, bits_from_log_loss
from ncsim.statistics.pooled import POSSIBLE, pooled_estimates
from ncsim.statistics.training_curves import trajectory_statistics
from tests.support import reference_statistics as reference
from tests.support.cases import sizes
from tests.support.observers import EDGES, bits_of_normals
from tests.support.populations import PROTOCOLS, ROWS, Population, law_of_tables, reported, trajectories_of

SEED = 20261127
SOLVED = (0, 0, 0, ROWS)
#: Kinds of networks of each context: their share, and wrong wrong, only Bob, only Alice, both right.
MIXED = (
    ((0.6, SOLVED), (0.25, (1, 2, 3, 10)), (0.15, (4, 2, 2, 8))),
    ((0.5, SOLVED), (0.3, (0, 4, 1, 11)), (0.2, (2, 0, 0, 14))),
    ((0.7, SOLVED), (0.3, (1, 3, 3, 9))),
    ((0.1, SOLVED), (0.5, (1, 6, 5, 4)), (0.4, (2, 3, 4, 7))),
)
RARE = (
    ((0.96, SOLVED), (0.02, (0, 8, 8, 0)), (0.02, (8, 0, 0, 8))),
    ((0.97, SOLVED), (0.03, (0, 16, 0, 0))),
    ((0.97, SOLVED), (0.03, (0, 8, 8, 0))),
    ((0.95, (0, 8, 8, 0)), (0.05, SOLVED)),
)
#: Label noise: both heads fail on one row, or on two rows one each. No influence, and Delta is above 0 in a quarter of runs.
NOISE = (((0.5, (1, 0, 0, 15)), (0.5, (0, 1, 1, 14))),) * 4


def of_kinds(kinds):
    return Population(np.stack([law_of_tables(each, seed=n) for n, each in enumerate(kinds)], axis=1))


@functools.cache
def population_of(regime):
    """Once, with the numbers that it knows."""
    return REGIMES[regime][0]()


def equal_laws():
    """One law in all contexts: influence is 0, where its absolute values have their kinks."""
    right = np.random.default_rng(3).random((2, 400, ROWS)) < 0.9
    cells = 2 * right[0] + right[1]
    return Population(np.stack([np.stack([(cells == n).sum(axis=1) for n in range(4)], axis=-1)] * 4, axis=1))


def common_starts():
    """Members whose four networks hang together: 4 % have S = -4, where nearly all others have 2."""
    counts = np.tile(np.array(SOLVED), (400, 4, 1))
    counts[:16, :3], counts[16:60, 3], counts[16:40, 0] = (0, 16, 0, 0), (0, 4, 4, 8), (2, 2, 2, 10)
    return Population(counts, common=True)


#: A regime: population, members, and the share of networks of each context that diverges.
REGIMES = {
    "equal laws": (equal_laws, 60, (0, 0, 0, 0)),
    "Delta around 0": (lambda: of_kinds(NOISE), 30, (0, 0, 0, 0)),
    "2 members": (lambda: of_kinds(MIXED), 2, (0, 0, 0, 0)),
    "5 members": (lambda: of_kinds(MIXED), 5, (0, 0, 0, 0)),
    "40 members": (lambda: of_kinds(MIXED), 40, (0, 0, 0, 0)),
    "rare outcomes, 20": (lambda: of_kinds(RARE), 20, (0, 0, 0, 0)),
    "rare outcomes, 150": (lambda: of_kinds(RARE), 150, (0, 0, 0, 0)),
    "90 % diverge": (lambda: of_kinds(MIXED), 40, (0.9, 0.9, 0.9, 0.9)),
    "unequal totals": (lambda: of_kinds(MIXED), 70, (0, 0.2, 0.5, 0.95)),
    "common starts": (common_starts, 60, (0, 0, 0, 0)),
    "common starts, 40 % diverge": (common_starts, 60, (0.4, 0.4, 0.4, 0.4)),
}


class Found(collections.defaultdict):
    """By interval: how many held the truth, how many there were, and what is wrong with any of them."""

    def __init__(self):
        super().__init__(lambda: [0, 0, set()])

    def take(self, name, estimate, truth, possible=(-math.inf, math.inf)):
        value, low, high = estimate[:3]
        row = self[name]
        row[0] += bool(low - 1e-9 <= truth <= high + 1e-9)
        row[1] += 1
        if not (low >= possible[0] - 1e-9 and high <= possible[1] + 1e-9):
            row[2].add("impossible")
        if not low < high:
            row[2].add("a point, or no number")
        if not (math.isnan(value) or low <= value <= high):
            row[2].add("without its value")

    def check(self, regime):
        """Print the table, then fail for the intervals that fall short."""
        for name, (held, number, wrong) in self.items():
            print(f"{regime:28} {name:32} {held / number:7.1%} of {number:5}  {', '.join(sorted(wrong))}")
        short = [n for n, (held, number, wrong) in self.items() if wrong or held < binom.ppf(1e-4, number, 0.95)]
        assert not short, f"{regime}: {[(name, self[name]) for name in short]}"


def possible_of(name):
    """What a number of a report can be at all."""
    if name.startswith("pooled "):
        return POSSIBLE[name.split()[1]]
    if "correlator" in name or "difference" in name:
        return -1.0, 1.0
    return (-4.0, 4.0) if name.endswith((": mean s", "members' s")) else (0.0, 1.0)


def report_case(regime, samples, generator):
    _, members, diverged = REGIMES[regime]
    population, found = population_of(regime), Found()
    truth = population.truth | {"pooled s as they fell": population.truth["pooled s"]}
    for _ in range(samples):
        records = population.drawn(members, generator, diverged)
        (cell,) = ncsim.report.summary.summarise(Run([population.config(members)], [records])).numbers["cells"]
        if "note" not in cell:  # a context without networks has no numbers
            for name, each in reported(cell).items():
                found.take(name, tuple(each.values()), truth[name], possible_of(name))
    return found


def pooled_case(regime, samples, generator):
    """The pooled numbers alone, of which there can be many more samples."""
    _, members, diverged = REGIMES[regime]
    population, found = population_of(regime), Found()
    for _ in range(samples):
        records = population.drawn(members, generator, diverged)
        networks = int((~records.diverged).sum(axis=0).min())
        if networks:
            groups = np.zeros((32, 4, 4), np.int64)
            np.add.at(groups, np.arange(members) % 32, records.counts)
            for name, each in pooled_estimates(groups, networks, population.common).items():
                found.take(f"pooled {name}", each, population.truth[f"pooled {name}"], POSSIBLE[name])
    return found


def trajectory_case(regime, samples, generator):
    _, members, diverged = REGIMES[regime]
    population, found = population_of(regime), Found()
    along = POSSIBLE | dict.fromkeys(("above_2", "contextual", "solved", "accuracy_alice"), (0.0, 1.0))
    for _ in range(samples):
        records = population.drawn(members, generator, diverged)
        if not records.diverged.any(axis=1).all() and not records.diverged[:, 1].all():
            there = trajectory_statistics([trajectories_of(records)], ROWS, [(0, 1000)])
            for name, possible in along.items():
                if name != "s_odd":
                    each = getattr(there, name)
                    ends = [x[1] if x.ndim == 1 else x[1, 1] for x in each[:3]]
                    found.take(f"along: {name}", ends, population.along[name], possible)
            for name, possible in (("conflict", (0.0, 1.0)), ("cosine", (-1.0, 1.0))):
                truth = population.along["conflict"] if name == "conflict" else 1 - 2 * population.along["conflict"]
                found.take(f"along: {name}", [x[1, 1] for x in there.observed[name][:3]], truth, possible)
            found.take("along: slope", there.slopes[0][2:], population.along["slope"], (-8.0, 8.0))
    return found


#: Laws of a member's S for the functions of a sample: values and probabilities.
LAWS = {
    "one in twenty far off": ((2.0, 2.25, 1.5, -3.0), (0.45, 0.3, 0.2, 0.05)),
    "long tail": (tuple(np.arange(33) / 8), tuple(np.exp(-np.arange(33) / 6) / np.exp(-np.arange(33) / 6).sum())),
    "all but constant": ((2.0, -4.0), (0.97, 0.03)),
    "two values": ((2.0, 1.0), (0.7, 0.3)),
    "constant": ((2.0,), (1.0,)),
}


def means_case(members, samples, generator):
    found = Found()
    for law, (values, probabilities) in LAWS.items():
        for _ in range(samples):
            sample = generator.choice(values, size=members, p=probabilities)
            truth = float(np.dot(values, probabilities))
            found.take(f"bootstrap_mean: {law}", bootstrap_mean(sample, resamples=500), truth, (-4, 4))
            found.take(f"hoeffding_mean: {law}", hoeffding_mean(sample), truth, (-4, 4))
            found.take(f"mean_over_members: {law}", mean_over_members(sample, (-4.0, 4.0)), truth, (-4, 4))
            share = float(np.sum(sample > 2))
            found.take(
                f"clopper_pearson: {law}",
                clopper_pearson(share, members),
                float(np.dot(np.array(values) > 2, probabilities)),
                (0, 1),
            )
    return found


#: Tables for intervals over items.
TABLES = {
    "uniform": np.full((2, 2, 2, 2), 0.25),
    "PR box": reference.PR_BOX / 2,
    "Delta = 0": reference.table_of_moments(0, 0, [[0.5, 0.5], [0.5, -0.5]]),
    "perfect": reference.table_of_moments(1, 1, 1),
    "accuracies near 1": reference.table_of_moments(0.97, 0.97, 0.95),
}


def tables_case(items, samples, generator):
    found = Found()
    for name, table in TABLES.items():
        truth = ncsim.chsh_statistics(table)
        for counts in reference.drawn(table, items, generator, number=samples):
            for same in (False, True):  # independent items are among those that same_items allows for
                found.take(
                    f"contextuality_interval: {name}",
                    contextuality_interval(counts, same_items=same),
                    float(truth.contextuality),
                    POSSIBLE["contextuality"],
                )
                found.take(f"s_interval: {name}", s_interval(counts, same_items=same), float(truth.s), (-4, 4))
    return found


def observers_case(members, samples, generator):
    """Scores of traces: apart by as much as this, or not at all; AUC of normal scores, and information of none."""
    found = Found()
    for apart in (0.0, 1.0, 3.0):
        auc = 0.5 * (1 + math.erf(apart / 2))
        for _ in range(samples):
            shared = generator.normal(size=(members, 1))
            scores = (shared + generator.normal(size=(members, 2))) / math.sqrt(2) + [0, apart]
            found.take(f"auc_estimate: {apart}", auc_estimate(scores), auc, (0, 1))
            found.take(
                f"auc_between: {apart}", auc_between(scores[:, 0], apart + generator.normal(size=members)), auc, (0, 1)
            )
            if apart == 0.0:
                found.take(
                    "bits_from_bins: none",
                    bits_from_bins(scores, generator.normal(size=(200, 2))),
                    0.0,
                    (-math.inf, 1),
                )
                found.take(
                    "bits_from_log_loss: none",
                    bits_from_log_loss(np.zeros((members, 2)) + 1e-3 * scores, EDGES),
                    0.0,
                    (-math.inf, 1),
                )
            else:
                bits = bits_of_normals(apart, math.log(members + 1))
                odds = apart * scores - apart**2 / 2
                found.take(f"bits_from_log_loss: {apart}", bits_from_log_loss(odds, EDGES), bits[0], (-math.inf, 1))
                found.take(f"bits_from_bins: {apart}", bits_from_bins(scores, EDGES), bits[1], (-math.inf, 1))
    return found


def experiments_case(members, samples, generator):
    found = Found()
    widths, solved = (2, 3, 4, 6, 8), np.array([0.05, 0.3, 0.48, 0.6, 0.9])
    crossing = 4 + 2 * 0.02 / 0.12
    for _ in range(samples):
        shares = [clopper_pearson(int(generator.binomial(members, p)), members) for p in solved]
        critical = critical_widths([WidthFinding(w, [share] * 4, []) for w, share in zip(widths, shares, strict=True)])[
            0
        ]
        ends = (critical.low or 2.0, critical.high or math.inf)
        found.take("critical width", (math.nan, *ends), crossing)
        exposed = np.arange(members) % 2 == 0
        event = generator.random(members) < np.where(exposed, 0.3, 0.15)
        odds = odds_ratio(exposed, event)
        if not math.isnan(odds.value):
            found.take("odds ratio", odds, 0.3 / 0.7 / (0.15 / 0.85), (0, math.inf))
        one, other = generator.normal(size=(2, members))
        found.take("rank correlation: none", spearman(one, other), 0.0, (-1, 1))
        together = 6 / math.pi * math.asin(0.8 / 2)
        found.take("rank correlation: 0.8", spearman(one, 0.8 * one + 0.6 * other), together, (-1, 1))
    return found


#: Samples of each case in full.
FULL = {
    "report": 40,
    "pooled": 400,
    "trajectory": 100,
    "means": 300,
    "tables": 60,
    "observers": 150,
    "experiments": 300,
}
CASES = [
    *(("report", report_case, regime, regime) for regime in REGIMES),
    *(("pooled", pooled_case, regime, regime) for regime in REGIMES),
    *(("trajectory", trajectory_case, regime, regime) for regime in REGIMES),
    *(("means", means_case, f"{members} members", members) for members in (2, 5, 20, 50, 200)),
    *(("tables", tables_case, f"{items} items", items) for items in (1, 5, 16, 100)),
    *(("observers", observers_case, f"{members} members", members) for members in (10, 100)),
    *(("experiments", experiments_case, f"{members} members", members) for members in (20, 200)),
]
#: What takes long has few regimes in the fast part: those that broke intervals before.
FAST_REGIMES = ("equal laws", "Delta around 0", "2 members", "90 % diverge", "common starts, 40 % diverge")
FAST = [case for case in CASES if case[0] not in ("report", "trajectory") or case[2] in FAST_REGIMES]


def ids(cases):
    return [f"{kind}, {name}" for kind, _, name, _ in cases]


def covered(kind, case, name, argument, samples):
    with (
        mock.patch.object(ncsim.report.summary, "STANDARD_PROTOCOLS", PROTOCOLS),
        mock.patch.object(cell, "STANDARD_PROTOCOLS", PROTOCOLS),
        mock.patch.object(ncsim.report.summary, "CONTEXTUALITY_RUNS", 2_000),
        mock.patch.object(cell, "CONTEXTUALITY_RUNS", 2_000),
    ):
        found = case(argument, samples, np.random.default_rng([SEED, len(name), samples]))
    found.check(f"{kind}, {name}")


@pytest.mark.parametrize(("kind", "case", "name", "argument"), FAST, ids=ids(FAST))
def test_intervals_hold(kind, case, name, argument):
    covered(kind, case, name, argument, samples=max(FULL[kind] // 20, 6))


@pytest.mark.parametrize("percent", sizes(25, 100))
@pytest.mark.parametrize(("kind", "case", "name", "argument"), CASES, ids=ids(CASES))
def test_intervals_hold_in_many_samples(kind, case, name, argument, percent):
    covered(kind, case, name, argument, samples=FULL[kind] * percent // 100)
