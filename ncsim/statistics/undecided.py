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
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ncsim.config.tasks import S_SIGNS
from ncsim.records.members import MemberRecords
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.intervals import Estimate, clopper_pearson


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
        low, high = self.range_of_mean
        least, most = self.range_above_two
        return "\n".join(
            [
                f"undecided answers      mean S                    S > 2             ({self.members} members, {self.excluded} excluded)",
                f"as they fell           {self.as_they_fell!s:24}  {self.above_two}",
                f"coin tosses            {self.coin_toss!s:24}",
                f"decided members only   {self.decided_only!s:24}  {self.above_two_decided} ({self.decided_members} members)",
                f"any answers            {low:.3f} to {high:.3f}            {least:.3f} to {most:.3f}"
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
    ranges = member_ranges(records)
    whole = ~np.isnan(ranges.as_they_fell)
    decided = whole & ranges.decided
    members = int(whole.sum())

    def mean(s: np.ndarray) -> Estimate:
        return bootstrap_mean(np.clip(s, -4, 4), level=level, seed=seed)

    def fraction(s: np.ndarray) -> Estimate:
        return clopper_pearson(float(np.sum(s > 2)), float(len(s)), level)

    low, high = ranges.low[whole], ranges.high[whole]
    return UndecidedConventions(
        members=members,
        excluded=records.size - members,
        decided_members=int(decided.sum()),
        as_they_fell=mean(ranges.as_they_fell[whole]),
        coin_toss=mean(ranges.coin_toss[whole]),
        decided_only=mean(ranges.as_they_fell[decided]),
        range_of_mean=(_mean(low), _mean(high)),
        above_two=fraction(ranges.as_they_fell[whole]),
        above_two_decided=fraction(ranges.as_they_fell[decided]),
        range_above_two=(_mean(low > 2), _mean(high > 2)),
        tight=bool(ranges.tight[whole].all()),
    )


def member_ranges(records: MemberRecords) -> MemberRanges:
    """S of each member as its undecided answers fell, tossed, and at the two ends of what they could make it.

    Raises:
        ValueError: records in which the undecided rows and products cannot have come from the counts.
    """
    counts = records.counts.astype(np.int64)
    rows = counts.sum(axis=2)
    fallen = counts[:, :, 0] + counts[:, :, 3] - counts[:, :, 1] - counts[:, :, 2]
    decided = records.decided_product.astype(np.int64)
    least, most = undecided_rows(records)
    n = np.where(rows > 0, rows, np.nan)
    # S as a sum of whole numbers over n stays on its lattice, so that S > 2 is decided without rounding.
    coin = _on_lattice((decided / n) @ S_SIGNS, rows)
    reach = (most / n).sum(axis=1)
    return MemberRanges(
        as_they_fell=_on_lattice((fallen / n) @ S_SIGNS, rows),
        coin_toss=coin,
        low=_on_lattice(coin - reach, rows),
        high=_on_lattice(coin + reach, rows),
        tight=(least == most).all(axis=1),
        decided=np.asarray(~records.undecided().any(axis=1)),
    )


def undecided_rows(records: MemberRecords) -> tuple[Int[np.ndarray, "M 4"], Int[np.ndarray, "M 4"]]:
    """The least and the most rows of each context that can have an undecided answer of either head or both.

    Raises:
        ValueError: no number of rows fits the records; the member and the context are named.
    """
    counts = records.counts.astype(np.int64)
    rows = counts.sum(axis=2)
    fallen = counts[:, :, 0] + counts[:, :, 3] - counts[:, :, 1] - counts[:, :, 2]
    alice, bob = records.undecided_alice.astype(np.int64), records.undecided_bob.astype(np.int64)
    decided = records.decided_product.astype(np.int64)
    # Rows with an undecided answer made up the difference of the two sums, one sign each.
    least = np.maximum(np.maximum(alice, bob), np.abs(fallen - decided))
    most = np.minimum(alice + bob, rows - np.abs(decided))
    # The other rows' signs add up to D, so that their number has D's parity.
    least += (least + rows - decided) % 2
    most -= (most + rows - decided) % 2
    bad = (least > most) | (alice < 0) | (bob < 0)
    if bad.any():
        member, context = (int(index) for index in np.argwhere(bad)[0])
        raise ValueError(
            f"records: member {int(records.member[member])}, context {'11 12 21 22'.split()[context]}: "
            f"{alice[member, context]} and {bob[member, context]} undecided rows and a decided product of "
            f"{decided[member, context]} contradict the counts {counts[member, context].tolist()}"
        )
    return least, most


def _on_lattice(s: Float[np.ndarray, " M"], rows: Int[np.ndarray, "M 4"]) -> Float[np.ndarray, " M"]:
    """S rounded to the nearest value that whole numbers over equal rows can give; unequal rows are left as they are."""
    equal = (rows == rows[:, :1]).all(axis=1) & (rows[:, 0] > 0)
    scale = np.where(equal, rows[:, 0], 1)
    return np.where(equal, np.round(s * scale) / scale, s)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
