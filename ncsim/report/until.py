"""How a run ended that was to be precise: for summary.json, and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ncsim.statistics.intervals import Estimate
from ncsim.statistics.stopping import METHOD
from ncsim.statistics.until import Until


def ended(
    stored: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], estimates: Sequence[Estimate | None]
) -> dict[str, Any]:
    """What summary.json says of it: the rule, why it stopped, and its interval in each cell.

    Args:
        stored: what until.json says.
        cells: of summary.json.
        estimates: of the number, in each of them.
    """
    until, intervals = Until.parse(stored["until"]), []
    for number, reach in zip(stored["cells"], stored["reach"], strict=True):
        found = estimates[number]
        if found is not None and reach is not None:
            low, high = max(found.value - reach, until.support[0]), min(found.value + reach, until.support[1])
            rule = found._replace(low=low, high=high, method=METHOD)._asdict()
            intervals.append({"cell": cells[number]["cell"], "reach": reach} | rule)
    told = {name: stored[name] for name in ("until", "stopped", "members", "at_most", "looks")}
    return told | {"intervals": intervals}


def until_sentence(told: Mapping[str, Any]) -> str:
    """Why a run stopped, and the rule's interval: of several cells, in the least precise one."""
    members, wanted = told["members"], told["until"]
    if told["stopped"] == "precise":
        why = f"Stopped at {members:,} of at most {told['at_most']:,} members, which are enough for {wanted}."
    else:
        why = f"Stopped at {members:,} members, the most that were allowed, which are not enough for {wanted}."
    if not told["intervals"]:
        return f"{why} No network is there to compute it from."
    least = max(told["intervals"], key=lambda each: each["reach"])
    digits = max(3, 1 - math.floor(math.log10(least["reach"])))
    where = ", ".join(f"{name}={value}" for name, value in least["cell"].items())
    of = f" in the least precise cell, {where}" if len(told["intervals"]) > 1 else ""
    return f"{why} It is {least['value']:.{digits}f} +- {least['reach']:.2g}{of}, {least['level']:.0%} by {METHOD}."
