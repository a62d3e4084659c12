"""The report of a cell as it was before tallies: from members, one by one or sorted, slow and obvious.

`numbers_of_cell` gives what summary.json has of a cell. It shares intervals, pooled statistics and tests with the package, and
nothing of what adds members up or of the laws of protocols.
"""

from collections import Counter
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from ncsim.config.tasks import S_SIGNS, context_names
from ncsim.records.joint_counts import from_context_order, unequal_outcomes
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.intervals import clopper_pearson, fraction_estimate, mean_estimate
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value
from ncsim.statistics.pooled import GroupedMeans, pooled_estimates, pooled_s
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, TSIRELSON
from ncsim.statistics.signalling_tests import AccuracyDifferences, member_signalling_tests, signalling_tests
from ncsim.statistics.undecided import member_ranges

GROUPS = 32
CONTEXT_NAMES = context_names()
CONTEXTUALITY_RUNS = 10_000


def numbers_of_cell(batches, config):
    """The numbers of a cell, without its name."""
    tally = Tally(config)
    outcomes = Outcomes(tally.passing(batches), config)
    laws = [] if outcomes.networks == 0 else [ProtocolLaw(p, outcomes) for p in STANDARD_PROTOCOLS]
    return _summarise_cell(tally, outcomes, laws)


def _summarise_cell(tally, outcomes, laws):
    result = {
        "members": tally.members,
        "rows": outcomes.rows,
        "diverged": {"networks": tally.diverged, "members": tally.members_diverged},
    }
    if not laws:
        lost = [name for n, name in enumerate(CONTEXT_NAMES) if outcomes.solved_fraction(n)[1] == 0]
        why = (
            f"every one of a context diverged ({', '.join(lost)})"
            if lost
            else "with common starts every member has one that diverged"
        )
        members = "1 member" if tally.members == 1 else f"{tally.members:,} members"
        networks = "1 network" if tally.diverged == 1 else f"{tally.diverged:,} networks"
        why += f"; {networks} in {tally.members_diverged:,} of {members}"
        return result | {"note": f"no network to report on: {why if tally.members else 'none stored'}"}
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


def _summarise_protocol(protocol_law, outcomes):
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


class Tally:
    """What a single pass over the records adds up. Groups are for the jackknife."""

    def __init__(self, config):
        self._rows = config.tasks.rows
        self._common = config.common_initialization
        self.members = self.diverged = self.members_diverged = 0
        self.whole = self.above_2 = self.contextual = 0
        self.largest_contextuality = -np.inf
        self._counts = np.zeros((GROUPS, 4, 4), np.int64)
        self._differences = AccuracyDifferences(config.tasks.rows)
        self._undecided = Undecided(GROUPS)
        self._networks = np.zeros(4, np.int64)

    def passing(self, batches):
        """The batches, as they are, added up on the way."""
        for batch in batches:
            self._add(batch)
            yield batch

    def _add(self, batch):
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

    def context(self, number):
        """Pooled accuracies and correlator of one context."""
        neither, bob, alice, both = self._counts[:, number].sum(axis=0) / self._counts[:, number].sum()
        return {
            "accuracy_alice": float(alice + both),
            "accuracy_bob": float(bob + both),
            "correlator": float(both + neither - alice - bob),
            "networks_with_an_undecided_answer": int(self._undecided.networks[number]),
        }

    def undecided(self):
        """What share of answers is undecided, and S under the three conventions for them."""
        networks = self.members * 4 - self.diverged
        found = self._undecided
        fewest = int(self._networks.min())
        if not found.excluded:
            fell = pooled_s(found.products, found.items, fewest, self._common)._asdict()
            tossed = pooled_s(found.decided_products, found.items, fewest, self._common)._asdict()
        elif found.members:
            fell, tossed = (bootstrap_mean(*found.law(name))._asdict() for name in ("as_they_fell", "coin_toss"))
        else:
            fell = tossed = None
        return {
            "answers": float(found.answers.sum() / max(networks * self._rows * 2, 1)),
            "networks": float(found.networks.sum() / max(networks, 1)),
            "mean_s_as_they_fell": fell,
            "mean_s_as_coin_tosses": tossed,
            "mean_s_whatever_they_are": list(found.range_of_mean) if found.members else None,
            "members_with_s_above_2_whatever_they_are": list(found.range_above_two) if found.members else None,
            "decided_members": clopper_pearson(found.decided_members, found.members)._asdict(),
            "mean_s_of_decided_members": self._mean_s_of_decided_members(),
            "decided_members_with_s_above_2": found.above_two("decided_only")._asdict(),
        }

    def _mean_s_of_decided_members(self):
        sums = self._undecided.decided_s
        if self._undecided.decided_members == 0:
            return None
        means = GroupedMeans(sums[:, None, :1], sums[:, 1:])
        return mean_estimate(
            float(means.value[0, 0]),
            (means.value - means.change)[:, 0, 0],
            self._undecided.decided_members,
            span=8.0 if self._common else 2.0,
            contexts=1 if self._common else 4,
            freedom=means.freedom,
        )._asdict()

    def pooled(self):
        """Statistics of the counts summed over members: one table, as if all members were one experiment."""
        found = pooled_estimates(self._counts, int(self._networks.min()), self._common)
        # The value of a table is the same to the last bit wherever it is told.
        total = chsh_statistics(self._counts.sum(axis=0).reshape(2, 2, 2, 2))
        return {name: found[name]._replace(value=float(getattr(total, name)))._asdict() for name in found}

    def tests(self):
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


def _plain(values):
    """None in place of NaN, as summary.json has it."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}


class ContextOutcomes(NamedTuple):
    """The networks of one context that did not diverge, in the order of their losses."""

    member: np.ndarray  # uint32: where each stands in the ensemble
    table: np.ndarray  # int32: which of the context's distinct tables of counts
    solved: np.ndarray  # bool: both heads right on every row
    loss: np.ndarray  # float32, ascending
    right: np.ndarray  # uint8: right answers, both heads together


class Outcomes:
    """An ensemble as protocols see it, some sixty bytes a member. Takes `Run.batches`, however long they are."""

    def __init__(self, batches, config):
        self.rows = config.tasks.rows
        self.common_initialization = config.common_initialization
        kept = [(b.counts.astype(np.uint8), b.diverged, b.loss) for b in batches]
        kept = kept or [(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4), bool), np.zeros((0, 4), np.float32))]
        self.counts, diverged, loss = (np.concatenate(columns) for columns in zip(*kept, strict=True))
        self.size = len(self.counts)
        self.whole = ~diverged.any(axis=1)
        self.unequal: list[np.ndarray] = []
        self.contexts = [self._context(context, ~diverged[:, context], loss[:, context]) for context in range(4)]

    def _context(self, context, kept, loss):
        member = np.flatnonzero(kept).astype(np.uint32)
        member = member[np.argsort(loss[member], kind="stable")]
        _, bob, alice, both = np.moveaxis(self.counts[member, context], -1, 0)
        # Three of the four counts tell a table: they add up to the rows.
        code = (bob.astype(np.int32) * 256 + alice) * 256 + both
        _, first, table = np.unique(code, return_index=True, return_inverse=True)
        self.unequal.append((bob + alice)[first])
        return ContextOutcomes(member, table.astype(np.int32), both == self.rows, loss[member], 2 * both + bob + alice)

    @property
    def networks(self):
        """Networks in the context that has fewest; whole members where all contexts of a member start alike."""
        if self.common_initialization:
            return int(self.whole.sum())
        return min(len(context.member) for context in self.contexts)

    def solved_fraction(self, context):
        """Networks that solved a context, and all that did not diverge in it."""
        return int(self.contexts[context].solved.sum()), len(self.contexts[context].solved)


def weights(protocol, outcomes):
    """The probability that a run ends with each network of the context."""
    if len(outcomes.member) == 0:
        return np.zeros(0)
    kinds = {"single": _all_alike, "best_loss": _lowest_loss, "best_accuracy": _most_right, "retry": _until_solved}
    return kinds[protocol.kind](outcomes, protocol.tries)


def _all_alike(outcomes, tries):
    count = len(outcomes.member)
    return np.full(count, 1 / count)


def _until_solved(outcomes, tries):
    count, solved = len(outcomes.member), int(outcomes.solved.sum())
    failed_always = ((count - solved) / count) ** tries
    return np.where(
        outcomes.solved,
        (1 - failed_always) / max(solved, 1),
        failed_always / max(count - solved, 1),
    )


def _lowest_loss(outcomes, tries):
    return _best_of(np.concatenate([[0], np.cumsum(np.diff(outcomes.loss) > 0)]), tries)


def _most_right(outcomes, tries):
    return _best_of(outcomes.right.max() - outcomes.right, tries)


def _best_of(rank, tries):
    """Weights of the best of so many draws; `rank` [M] is 0 for the best networks, and equal for equally good ones.

    Order statistics: the best of K draws is no better than the n-th best network with probability ((M - n) / M)^K.
    Equals share their probability, as the first of several equal tries is each with the same probability.
    """
    count, size = len(rank), np.bincount(rank)
    better = np.cumsum(size) - size
    share = ((count - better) / count) ** tries - ((count - better - size) / count) ** tries
    return (share / np.maximum(size, 1))[rank]


def _table_laws(protocol, outcomes, kept=None):
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


def _unequal_laws(outcomes, table_laws):
    """The law of k in each context: float64[4, rows + 1]."""
    pairs = zip(outcomes.unequal, table_laws, strict=True)
    return np.array([np.bincount(unequal, law, outcomes.rows + 1) for unequal, law in pairs])


def _law(protocol, outcomes, context_laws, kept=None):
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

    def __init__(self, protocol, outcomes):
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
    def mean(self):
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
    def correlators(self):
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

    def above(self, bound):
        """P(S > bound)."""
        return self.fraction(lambda law: law.above(bound))

    def below(self, bound):
        """P(S < bound)."""
        return self.fraction(lambda law: law.below(bound))

    def between(self, low, high):
        """P(low <= S <= high)."""
        return self.fraction(lambda law: law.between(low, high))

    def fraction(self, probability, runs=1):
        """The probability of any event of S of one run, or of several runs, as a function of its law."""
        left_out = np.array([probability(other) for other in self.left_out])
        return fraction_estimate(
            probability(self.law), left_out, self.networks, runs * self.protocol.tries, freedom=min(self.freedoms)
        )

    def fraction_of_runs(self, outcomes, runs, event):
        """The probability of an event that is no function of S, from runs drawn with `draw_runs` and whether it befell each.

        What leaving a group of members out changes is computed to first order: each context's law of tables changes, and
        the drawn runs say how likely the event is beside each table. The error of drawing so many runs is added.
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


def draw_runs(protocol, outcomes, runs, seed=0):
    """Runs under a protocol as places of their networks in `Outcomes.contexts`, int64[runs, 4].

    Under a single shot from a common initialisation a run is a whole member.
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


def joint_counts_of(runs, outcomes):
    """Joint counts of drawn runs [runs, 4], int32[runs, 2, 2, 2, 2]."""
    counts = [outcomes.counts[context.member[runs[:, n]], n] for n, context in enumerate(outcomes.contexts)]
    return from_context_order(np.stack(counts, axis=1)).astype(np.int32)


class Undecided:
    """Sums over members under every convention for undecided answers, by their floats."""

    def __init__(self, groups=1):
        self.members = self.excluded = self.decided_members = 0
        self.tight = True
        self.answers, self.networks = np.zeros((4, 2), np.int64), np.zeros(4, np.int64)
        self.items, self.products, self.decided_products = np.zeros((3, groups, 4), np.int64)
        self.decided_s = np.zeros((groups, 2))
        self._laws: dict[str, Counter[float]] = {
            name: Counter() for name in ("as_they_fell", "coin_toss", "decided_only", "low", "high")
        }

    def add(self, records):
        """Add a batch of members."""
        ranges = member_ranges(records)
        group = (np.arange(records.size) + self.members + self.excluded) % len(self.items)
        whole = ~np.isnan(ranges.as_they_fell)
        decided = whole & ranges.decided
        self.members += int(whole.sum())
        self.excluded += int((~whole).sum())
        self.decided_members += int(decided.sum())
        self.tight &= bool(ranges.tight[whole].all())
        self.answers += np.stack([records.undecided_alice.sum(axis=0), records.undecided_bob.sum(axis=0)], axis=1)
        self.networks += records.undecided().sum(axis=0)
        np.add.at(self.items, group, _rows(records))
        np.add.at(self.products, group, _products(records))
        np.add.at(self.decided_products, group, records.decided_product)
        s = ranges.as_they_fell[decided]
        np.add.at(self.decided_s, group[decided], np.stack([s, np.ones_like(s)], axis=1))
        for name, law in self._laws.items():
            values = s if name == "decided_only" else getattr(ranges, name)[whole]
            bins, count = np.unique(values, return_counts=True)
            law.update(dict(zip(bins.tolist(), count.tolist(), strict=True)))

    def law(self, name):
        """Values of S, ascending, and how many members have each; `name` is a convention or an end of the range."""
        values = sorted(self._laws[name])
        return np.array(values, np.float64), np.array([self._laws[name][value] for value in values], np.int64)

    def above_two(self, name, level=0.95):
        """Fraction of members with S > 2."""
        values, members = self.law(name)
        return clopper_pearson(float(members[values > 2].sum()), float(members.sum()), level)

    @property
    def range_of_mean(self):
        """As in `UndecidedConventions`; NaN without members."""
        return _mean(*self.law("low")), _mean(*self.law("high"))

    @property
    def range_above_two(self):
        """As in `UndecidedConventions`; NaN without members."""
        return self.above_two("low").value, self.above_two("high").value


def _rows(records):
    return np.asarray(records.counts.sum(axis=2, dtype=np.int64))


def _products(records):
    """Sums over a context's rows of the product of the outcomes."""
    return np.asarray(records.counts.astype(np.int64) @ np.array([1, -1, -1, 1]))


def _mean(values, members):
    return float(values @ members / members.sum()) if len(values) else np.nan
