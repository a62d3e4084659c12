"""S under the conventions for undecided answers: an ensemble's missed detections.

An answer whose logit is within a tolerance of the threshold is a decision that training never took. A Bell test that
drops its missed detections can be fooled by them, and one that keeps them must say how it counts them. Four ways:

* *as they fell*: by the sign of the logit, as the paper does;
* *coin tosses*: every undecided answer replaced by a fair toss, so that a row with one has a product of mean 0;
* *decided members only*: members without any undecided answer, which selects members and can do so in favour of any S;
* *the range*: what S could be, were every undecided answer free to be right or wrong.

With n rows in a context, products summing to D over the rows that both heads decided, and r rows with an undecided
answer, the four are: the counts' own correlator, D / n, the former again, and (D - r) / n to (D + r) / n. Records
hold how many rows each head left undecided, u_A and u_B, and not how many both did, so r is known within limits: at
least the larger of u_A and u_B, at most their sum and n - |D|, and of the same parity as n - D. The range reported
takes the largest such r. It therefore holds every value that S could take, and is exactly the set's two ends unless
some row was left undecided by both heads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ncsim.config.tasks import S_SIGNS
from ncsim.formatting import significant
from ncsim.records.columns import Columns, by_context, group_sums
from ncsim.records.members import MemberRecords
from ncsim.statistics import compiled
from ncsim.statistics.arguments import check_kind
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.member_statistics import signed_sum
from ncsim.statistics.rationals import sum_of_fractions


@dataclass(frozen=True)
class MemberRanges:
    """S of each of M members under each convention; NaN where a context has no items, as after divergence.

    Attributes:
        as_they_fell: S of the counts, float64[M].
        coin_toss: expected S with undecided answers tossed, float64[M].
        low: no re-answering of the undecided answers gives an S below, float64[M].
        high: nor one above, float64[M].
        tight: whether `low` and `high` can both be attained for certain, the number of rows with an undecided answer
            being known, bool[M].
        decided: whether the member has no undecided answer, bool[M].
    """

    as_they_fell: np.ndarray
    coin_toss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    tight: np.ndarray
    decided: np.ndarray


@dataclass(frozen=True)
class UndecidedConventions:
    """Mean S of an ensemble, and the fraction of members with S above 2, under each convention.

    Attributes:
        members: with items in all four contexts; the others take no part.
        excluded: the others: a context diverged.
        decided_members: members without any undecided answer.
        as_they_fell: mean S.
        coin_toss: mean of the expected S.
        decided_only: mean S of the decided members; NaN, in [-4, 4], where there are none.
        range_of_mean: mean of the lowest, and of the highest, S of each member: the mean S under any convention that
            re-answers undecided answers is in between, whichever way and even if it differs by member. No interval for
            further members.
        above_two: fraction of members with S > 2, as they fell.
        above_two_decided: likewise, of the decided members.
        range_above_two: fraction of members with S > 2 whatever the undecided answers are, and with some choice.
        tight: whether every member's range is known to be attained.

    Example:
        >>> from ncsim import open_run
        >>> run = open_run("recorded-run")  # the folder of any run
        >>> found = undecided_conventions(run.records())
        >>> found.members, found.excluded
        (64, 0)
    """

    members: int
    excluded: int
    decided_members: int
    as_they_fell: Estimate
    coin_toss: Estimate
    decided_only: Estimate
    range_of_mean: tuple[float, float]
    above_two: Estimate
    above_two_decided: Estimate
    range_above_two: tuple[float, float]
    tight: bool

    def __str__(self) -> str:
        low, high = (significant(each) for each in self.range_of_mean)
        least, most = (significant(each) for each in self.range_above_two)
        return "\n".join(
            [
                f"undecided answers      mean S                    S > 2             ({self.members} members, {self.excluded} excluded)",
                f"as they fell           {self.as_they_fell!s:24}  {self.above_two}",
                f"coin tosses            {self.coin_toss!s:24}",
                f"decided members only   {self.decided_only!s:24}  {self.above_two_decided} ({self.decided_members} members)",
                f"any answers            {f'{low} to {high}':24}  {least} to {most}"
                + ("" if self.tight else "  (outer limits)"),
            ]
        )


def undecided_conventions(records: MemberRecords, level: float = 0.95, seed: int = 0) -> UndecidedConventions:
    """Mean S, and the fraction of members above 2, under every convention for undecided answers.

    Args:
        records: members, as `Run.records` gives them.
        level: probability with which each interval should hold its number.
        seed: of the resampling.

    Returns:
        Mean S and the fraction of members above 2 per convention, each with its interval. "As they fell" is what
        arXiv:2603.04451, section 4.1, does.

    Raises:
        ValueError: records that contradict themselves, as for `member_ranges`.

    Example:
        >>> from ncsim import open_run
        >>> run = open_run("recorded-run")  # the folder of any run
        >>> found = undecided_conventions(run.records())
        >>> found.range_of_mean[0] <= found.as_they_fell.value <= found.range_of_mean[1]
        True
    """
    check_kind("records", records, MemberRecords, "records of members, as of ncsim.open_run(FOLDER).records()")
    tally = UndecidedTally()
    tally.add(records)

    def mean(name: str) -> Estimate:
        return bootstrap_mean(*tally.law(name), level=level, seed=seed)

    return UndecidedConventions(
        members=tally.members,
        excluded=tally.excluded,
        decided_members=tally.decided_members,
        as_they_fell=mean("as_they_fell"),
        coin_toss=mean("coin_toss"),
        decided_only=mean("decided_only"),
        range_of_mean=tally.range_of_mean,
        above_two=tally.above_two("as_they_fell", level),
        above_two_decided=tally.above_two("decided_only", level),
        range_above_two=tally.range_above_two,
        tight=tally.tight,
    )


class UndecidedTally:
    """What records add up to under every convention, batch by batch; its memory does not grow with the members.

    Attributes:
        members: with items in all four contexts.
        excluded: the others: a context diverged.
        decided_members: members without any undecided answer.
        tight: whether every member's range is known to be attained.
        answers: undecided answers of each context and party, int64[4, 2].
        networks: networks with an undecided answer by context, int64[4].
        items: rows by group and context, int64[groups, 4], of all networks that have an outcome. Member n of all that
            were added is in group n modulo `groups`, for the jackknife.
        products: sums of products as they fell, int64[groups, 4].
        decided_products: the same with coin tosses, int64[groups, 4].
        decided_s: sum of S and number of the decided members, float64[groups, 2].
    """

    _ARRAYS = ("answers", "networks", "items", "products", "decided_products", "decided_s")

    def __init__(self, groups: int = 1) -> None:
        self.members = self.excluded = self.decided_members = 0
        self.tight = True
        self.answers, self.networks = np.zeros((4, 2), np.int64), np.zeros(4, np.int64)
        self.items, self.products, self.decided_products = np.zeros((3, groups, 4), np.int64)
        self.decided_s = np.zeros((groups, 2))
        self._laws: dict[str, Counter[float]] = {
            name: Counter() for name in ("as_they_fell", "coin_toss", "decided_only", "low", "high")
        }

    def add(self, records: MemberRecords) -> None:
        """Add a batch of members.

        Raises:
            ValueError: records that contradict themselves, as for `member_ranges`.
        """
        self.add_columns(by_context(records), records)

    def add_columns(self, columns: Columns, records: MemberRecords) -> None:
        """As `add`, with the columns of the same records. Raises as it does."""
        items, fallen, decided = columns.items, columns.outcome_sums[2], columns.decided_product
        least, most = _undecided_rows(columns, records)
        without = ~((columns.undecided_alice > 0) | (columns.undecided_bob > 0))
        whole, sure = (items > 0).all(axis=0), without.all(axis=0)
        first, groups = self.members + self.excluded, len(self.items)
        self.members += int(whole.sum())
        self.excluded += int((~whole).sum())
        self.decided_members += int((whole & sure).sum())
        self.tight &= bool((least == most)[:, whole].all())
        self.answers += np.stack(
            [each.sum(axis=1, dtype=np.int64) for each in (columns.undecided_alice, columns.undecided_bob)], axis=1
        )
        self.networks += (~without).sum(axis=1)
        for sums, values in ((self.items, items), (self.products, fallen), (self.decided_products, decided)):
            sums += group_sums(values, groups, first).T
        tossed, reach = signed_sum(decided), most.sum(axis=0, dtype=most.dtype)
        numerators = {
            "as_they_fell": signed_sum(fallen),
            "coin_toss": tossed,
            "low": tossed - reach,
            "high": tossed + reach,
        }
        equal = whole & (items == items[0]).all(axis=0)
        for rows in np.unique(items[0, equal]).tolist():
            these = equal & (items[0] == rows)
            s = np.where(these & sure, numerators["as_they_fell"], 0)
            self.decided_s[:, 0] += group_sums(s, groups, first) / rows
            self.decided_s[:, 1] += group_sums((these & sure).astype(np.int64), groups, first)
            for name, values in numerators.items():
                self._count(name, values[these], rows)
            self._count("decided_only", numerators["as_they_fell"][these & sure], rows)
        if not np.array_equal(equal, whole):
            self._add_unequal(records, whole & ~equal, first)

    def add_compiled(self, found: Mapping[str, np.ndarray], rows: int) -> None:
        """As `add`, of what `compiled.tally` found, of contexts with so many rows each."""
        _, whole, excluded, decided, loose = found["numbers"][:5].tolist()
        self.members += whole
        self.excluded += excluded
        self.decided_members += decided
        self.tight &= loose == 0
        for name in ("answers", "networks", "items", "products", "decided_products"):
            sums = getattr(self, name)
            sums += found[name]
        for s, number in found["decided_s"]:
            self.decided_s[:, 0] += s / rows
            self.decided_s[:, 1] += number
        for name, law in zip(compiled.LAWS, found["laws"], strict=True):
            self._add_law(name, law, rows)

    def _count(self, name: str, numerators: np.ndarray, rows: int) -> None:
        """Count members by S, whole numbers over the rows of each context, which are all the same."""
        self._add_law(name, np.bincount(numerators + 4 * rows, minlength=8 * rows + 1), rows)

    def _add_law(self, name: str, count: np.ndarray, rows: int) -> None:
        """Add members by S = -4 + n / rows, int64[8 rows + 1]."""
        there = np.flatnonzero(count)
        self._laws[name].update(dict(zip(((there - 4 * rows) / rows).tolist(), count[there].tolist(), strict=True)))

    def _add_unequal(self, records: MemberRecords, there: np.ndarray, first: int) -> None:
        """Members whose contexts have different numbers of rows, as no training gives them."""
        ranges = member_ranges(records.take(there))
        group = (np.flatnonzero(there) + first) % len(self.items)
        s = ranges.as_they_fell[ranges.decided]
        np.add.at(self.decided_s, group[ranges.decided], np.stack([s, np.ones_like(s)], axis=1))
        for name, law in self._laws.items():
            law.update((s if name == "decided_only" else getattr(ranges, name)).tolist())

    def merge(self, other: UndecidedTally) -> None:
        """Add what other members, which come after these, add up to; with as many groups."""
        shift = (self.members + self.excluded) % len(self.items)
        for name in ("members", "excluded", "decided_members", "answers", "networks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.tight &= other.tight
        for name in ("items", "products", "decided_products", "decided_s"):
            setattr(self, name, getattr(self, name) + np.roll(getattr(other, name), shift, axis=0))
        for name, law in self._laws.items():
            law.update(other._laws[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, as `from_arrays` takes it."""
        numbers = np.array([self.members, self.excluded, self.decided_members, self.tight], np.int64)
        found = {"numbers": numbers} | {name: getattr(self, name) for name in self._ARRAYS}
        for name in self._laws:
            found[f"{name}_s"], found[f"{name}_members"] = self.law(name)
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> UndecidedTally:
        """The inverse of `arrays`."""
        tally = cls(len(arrays["items"]))
        tally.members, tally.excluded, tally.decided_members = map(int, arrays["numbers"][:3])
        tally.tight = bool(arrays["numbers"][3])
        for name in cls._ARRAYS:
            setattr(tally, name, arrays[name])
        for name, law in tally._laws.items():
            law.update(dict(zip(arrays[f"{name}_s"].tolist(), arrays[f"{name}_members"].tolist(), strict=True)))
        return tally

    def law(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values of S, ascending, and how many members have each; `name` is a convention or an end of the range."""
        values = sorted(self._laws[name])
        return np.array(values, np.float64), np.array([self._laws[name][value] for value in values], np.int64)

    def above_two(self, name: str, level: float = 0.95) -> Estimate:
        """Fraction of members with S > 2."""
        values, members = self.law(name)
        return clopper_pearson(float(members[values > 2].sum()), float(members.sum()), level)

    @property
    def range_of_mean(self) -> tuple[float, float]:
        """As in `UndecidedConventions`; NaN without members."""
        return _mean(*self.law("low")), _mean(*self.law("high"))

    @property
    def range_above_two(self) -> tuple[float, float]:
        """As in `UndecidedConventions`; NaN without members."""
        return self.above_two("low").value, self.above_two("high").value


def member_ranges(records: MemberRecords) -> MemberRanges:
    """S of each member as its undecided answers fell, tossed, and at the two ends of what they could make it.

    Raises:
        ValueError: records in which the undecided rows and products cannot have come from the counts.
    """
    rows, tossed = _rows(records), records.decided_product.astype(np.int64) * S_SIGNS
    least, most = undecided_rows(records)
    return MemberRanges(
        as_they_fell=sum_of_fractions(_products(records) * S_SIGNS, rows),
        coin_toss=sum_of_fractions(tossed, rows),
        low=sum_of_fractions(tossed - most, rows),
        high=sum_of_fractions(tossed + most, rows),
        tight=(least == most).all(axis=1),
        decided=np.asarray(~records.undecided().any(axis=1)),
    )


def undecided_rows(records: MemberRecords) -> tuple[Int[np.ndarray, "M 4"], Int[np.ndarray, "M 4"]]:
    """The least and the most rows of each context that can have an undecided answer of either head or both.

    Raises:
        ValueError: no number of rows fits the records; the member and the context are named.
    """
    least, most = _undecided_rows(by_context(records), records)
    return least.T.astype(np.int64), most.T.astype(np.int64)


def _undecided_rows(columns: Columns, records: MemberRecords) -> tuple[np.ndarray, np.ndarray]:
    """As `undecided_rows`, [context, M] each."""
    rows, fallen = columns.items, columns.outcome_sums[2]
    alice, bob, decided = columns.undecided_alice, columns.undecided_bob, columns.decided_product
    # Rows with an undecided answer made up the difference of the two sums, one sign each.
    least = np.maximum(np.maximum(alice, bob), np.abs(fallen - decided))
    most = np.minimum(alice + bob, rows - np.abs(decided))
    # The other rows' signs add up to D, so that their number has D's parity.
    least += (least + rows - decided) & 1
    most -= (most + rows - decided) & 1
    bad = (least > most) | (alice < 0) | (bob < 0)
    if bad.any():
        member, context = (int(index) for index in np.argwhere(bad.T)[0])
        raise ValueError(
            f"records: member {int(records.member[member])}, context {'11 12 21 22'.split()[context]}: "
            f"{alice[context, member]} and {bob[context, member]} undecided rows and a decided product of "
            f"{decided[context, member]} contradict the counts {records.counts[member, context].tolist()}"
        )
    return least, most


def _rows(records: MemberRecords) -> Int[np.ndarray, "M 4"]:
    return np.asarray(records.counts.sum(axis=2, dtype=np.int64))


def _products(records: MemberRecords) -> Int[np.ndarray, "M 4"]:
    """Sums over a context's rows of the product of the outcomes."""
    return np.asarray(records.counts.astype(np.int64) @ np.array([1, -1, -1, 1]))


def _mean(values: np.ndarray, members: np.ndarray) -> float:
    return float(values @ members / members.sum()) if len(values) else math.nan
