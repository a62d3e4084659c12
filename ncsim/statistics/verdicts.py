"""What may be said of S and Delta, in words: of one table, and of the members of an ensemble.

"Contextual" is said only where the lower limit is above 0; an S above 2 without that is explained by direct influence
where the upper limit is not above 0, and else not shown to exceed it.
"""

from __future__ import annotations

import math

from ncsim.formatting import no_less
from ncsim.statistics.intervals import Estimate

EXPLAINED = "S above 2, explained by direct influence"
NOT_SHOWN_TO_EXCEED = "S above 2, not shown to exceed direct influence"
#: Of Delta, where 0 is below the upper limit and the lower one is not above it.
NOT_SHOWN = "is not shown to be above 0"
#: Said where each context has networks and no member has all four.
NO_MEMBER = "Of members nothing is known, since every one has a network that diverged"


def verdict(s: float, contextuality: Estimate) -> str:
    """What may be said of one table's S and the interval of its Delta.

    Args:
        s: S; NaN where a context has no items.
        contextuality: Delta with its interval, as `contextuality_interval` gives it.

    Returns:
        A few words.
    """
    if math.isnan(s) or math.isnan(contextuality.value):
        return "no verdict: a context has no items"
    if contextuality.low > 0:
        return "contextual beyond direct influence"
    if s <= 2:
        return "S not above 2"
    return EXPLAINED if contextuality.high <= 0 else NOT_SHOWN_TO_EXCEED


def verdict_on_members(above: Estimate, contextual: Estimate, pooled: Estimate) -> str:
    """The same of an ensemble, member by member and pooled.

    Args:
        above: share of members with S > 2; NaN where no member is whole, as after divergence.
        contextual: share of members with Delta > 0; likewise.
        pooled: Delta of all members' counts as one table.

    Returns:
        Two or three sentences.
    """
    at_most = f"(at most {no_less(contextual.high)} of members, 95 %)"
    text = f"S is above 2 in {above} of members. "
    if math.isnan(above.value):  # no comparison with NaN holds, and none may be taken for an answer
        text = f"{NO_MEMBER}."
    elif contextual.low > 0:
        text += f"Contextual once direct influence is discounted: {contextual} of members (Delta > 0)."
    elif above.value == 0:
        text += f"No member has Delta > 0 {at_most}."
    else:
        text += f"{EXPLAINED}: no member has Delta > 0 {at_most}."
    found = "is above 0: contextual" if pooled.low > 0 else "is not above 0" if pooled.high <= 0 else NOT_SHOWN
    return f"{text} Pooled over members, Delta {found}."
