"""When a run has members enough: a number's interval is to reach no further than a precision that was stated before.

The rule has stages, and looks after each but the last at the report's interval: after n members its longer side reaches h. For the
precision d that is r = h / d times too far. The first look is at PILOT members. While r is above NEAR, the next is at r n
members, and at GROWTH n at most. Where it is not, one more look at r n measures the error, and n r^2 members end the run, with r of
that look. The number that all of them give is then stated +- h (n / N)^(1/2): the precision, or less where fewer would have done.
The last look decides whatever it shows; its error is not chosen among several for being small.

This is Stein's two-stage rule (Stein 1945, "A two-sample test for a linear hypothesis whose power is independent of the
variance", Annals of Mathematical Statistics 16), with a pilot that is led near to the end as in triple sampling (Hall 1981,
"Asymptotic theory of triple sampling for sequential estimation of a mean", Annals of Statistics 9). Stein's argument holds where h
is of Student's t: the last number's distance from the truth, over the error that an earlier stage has estimated, follows t with the
degrees of freedom of that estimate. A look at r n members goes too far for no interval: h falls as n^(-1/2) where members are many,
and as 1 / n at most, where the interval is of what no member has shown yet.

Why no other rule. A confidence sequence may be looked at after each member. Its price is its width: that of the normal mixture is
at its narrowest 1.5 times that of a fixed size at 95 %, for 2.4 times the members (Robbins 1970, "Statistical methods related to
the law of the iterated logarithm"; Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). To
stop once the interval is short enough (Chow and Robbins 1965) stops where the jackknife's error, of 31 degrees of freedom, happens
to be small, and holds less often than 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: Members of the first look: 32 for each group of the jackknife.
PILOT = 1_024
#: How many times the members of one look the next has, at most: of a rare outcome the first members say little.
GROWTH = 4
#: Where the interval reaches so many times too far at most, the next look is the last.
NEAR = 2.0
METHOD = "Stein's two-stage rule, its pilot in stages"


class Look(NamedTuple):
    """What was seen after a stage.

    Attributes:
        members: that were looked at.
        reach: how far each cell's interval reaches to its longer side, in the unit of the number.
    """

    members: int
    reach: tuple[float, ...]

    def too_far(self, precision: float) -> float:
        """How many times as far as the precision the longest interval reaches."""
        return max(self.reach) / precision

    def needed(self, precision: float) -> float:
        """Members at which no interval is predicted to reach further than the precision; not fewer than were looked at."""
        far = self.too_far(precision)
        need = self.members * (far * far)  # of a precision that no run reaches infinite, where a power would raise
        return max(math.ceil(need - 1e-9), self.members) if math.isfinite(need) else math.inf

    def reach_at(self, members: int) -> tuple[float, ...]:
        """How far the rule's intervals reach with so many members."""
        return tuple(reach * math.sqrt(self.members / members) for reach in self.reach)


class Stage(NamedTuple):
    """Members to train until the next look, or in all."""

    members: int
    last: bool


def next_stage(looks: Sequence[Look], precision: float, most: int, first: int = 0, part: int = 1) -> Stage:
    """What is trained next. Stages that are looked at end with a whole part, where they hold one.

    Args:
        looks: the stages so far, in order.
        precision: how far an interval is to reach, above 0.
        most: members at most.
        first: id of the first member.
        part: members of a part.

    Example:
        >>> next_stage([], 0.01, 1_000_000)
        Stage(members=1024, last=False)
        >>> next_stage([Look(1024, (0.031,))], 0.01, 1_000_000)
        Stage(members=3174, last=False)
        >>> next_stage([Look(1024, (0.031,)), Look(3174, (0.0176,))], 0.01, 1_000_000)
        Stage(members=5586, last=False)
        >>> next_stage([Look(1024, (0.031,)), Look(3174, (0.0176,)), Look(5586, (0.0131,))], 0.01, 1_000_000)
        Stage(members=9587, last=True)
    """
    if not looks:
        return Stage(min(PILOT, most), False)
    seen = looks[-1]
    need = int(min(seen.needed(precision), most))
    if len(looks) > 1 and looks[-2].too_far(precision) <= NEAR:
        return Stage(need, True)
    members = int(min(seen.members * min(seen.too_far(precision), GROWTH), most))
    whole = (first + members) // part * part - first
    members = whole if whole > 0 else members
    return Stage(members, False) if members > seen.members else Stage(need, True)
