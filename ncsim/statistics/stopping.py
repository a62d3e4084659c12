"""When a run has members enough: a number's interval is to reach no further than a precision that was stated before.

The rule has stages. After a pilot of PILOT members, and after each later stage of n members, the interval of the report reaches h
to its longer side, and need = n (h / d)^2 members are predicted for the precision d. While half of that is above n, the next stage
goes to half of it, but to no more than GROWTH times n. Then all that are needed are trained, and the rule ends: the number that
they give is stated +- h (n / N)^(1/2), which is d, or less where fewer would have done.

This is Stein's two-stage rule (Stein 1945, "A two-sample test for a linear hypothesis whose power is independent of the
variance") with a pilot that grows as in Hall's triple sampling (Hall 1981, "Asymptotic theory of triple sampling for sequential
estimation of a mean"). Stein's argument holds with h the Student's t interval of group means: the last number's distance from the
truth, over the error that the stage before it estimated, follows t with the degrees of freedom of that estimate.

Why no other rule. A confidence sequence may be looked at after each member; its price is a width that is at its best, for a
normal mixture, 1.5 times that of a fixed size, and so 2.4 times the members (Robbins 1970; Howard et al. 2021). To stop when the
report's interval is short enough (Chow and Robbins 1965) stops where the jackknife's error, of 31 degrees of freedom, happens to
be small, and then holds less often than 95 %. Here the size is set by an estimate that is never chosen among several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: Members of the first look: 32 for each group of the jackknife. And how many times the members of one stage the next has, at most:
#: of a rare outcome the first members say little, and that mostly too much.
PILOT, GROWTH = 1_024, 4
#: The share of the members that are thought to be needed which are looked at before the last stage.
LAST_LOOK = 0.5
METHOD = "Stein's two-stage rule, pilot in stages (Hall 1981)"


class Look(NamedTuple):
    """What was seen after a stage.

    Attributes:
        members: that were looked at.
        reach: how far each cell's interval reaches to its longer side, in the unit of the number.
    """

    members: int
    reach: tuple[float, ...]

    def needed(self, precision: float) -> int:
        """Members at which no interval is predicted to reach further than the precision."""
        need = self.members * (max(self.reach) / precision) ** 2
        return math.ceil(need) if math.isfinite(need) else 2**63

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
        >>> next_stage([Look(1024, (0.03,))], 0.01, 1_000_000)
        Stage(members=4096, last=False)
        >>> next_stage([Look(1024, (0.03,)), Look(4096, (0.0145,))], 0.01, 1_000_000)
        Stage(members=8613, last=True)
    """
    if not looks:
        return Stage(min(PILOT, most), False)
    seen = looks[-1]
    need = min(max(seen.needed(precision), seen.members), most)
    members = min(int(LAST_LOOK * need), GROWTH * seen.members)
    whole = (first + members) // part * part - first
    members = whole if whole > 0 else members
    return Stage(members, False) if members > seen.members else Stage(need, True)
