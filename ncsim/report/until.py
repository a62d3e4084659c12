"""How a run ended that was to be precise: for summary.json, and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.config.fields import named_values
from ncsim.formatting import counted, no_less
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.stopping import METHOD, Look, next_stage
from ncsim.statistics.until import Until
from ncsim.storage.parts import part_size


def goes_on(stored: Mapping[str, Any], configs: Sequence[EnsembleConfig]) -> bool:
    """Whether a run that is to be precise has stages before it, so that it is not at its end when it has all its members. One that
    was given more members without the rule is not one that goes on.

    Args:
        stored: what until.json says.
        configs: the cells of the run, as far as it has come.
    """
    members = configs[0].members
    if "stopped" in stored:
        return members < int(stored["members"])
    looks = [
        Look(each["members"], tuple(math.inf if r is None else r for r in each["reach"])) for each in stored["looks"]
    ]
    part = max(map(part_size, configs))
    stage = next_stage(looks, Until.parse(stored["until"]).precision, stored["at_most"], stored["first_member"], part)
    if members >= int(stored["at_most"]):
        return False
    # The rule asks for the members of its stages and for no others: of the next, or of one before where it was stopped in between.
    asked = (stage.members, *(look.members for look in looks))
    if "asked" in stored:  # of a folder that had more members before the rule, the first stage has all of them
        return members in (stored["asked"], *asked)
    return not looks or members in asked  # an earlier version did not say it


def ended(
    stored: Mapping[str, Any],
    configs: Sequence[EnsembleConfig],
    cells: Sequence[Mapping[str, Any]],
    estimates: Sequence[Estimate | None],
) -> dict[str, Any]:
    """What summary.json says of it: the rule, why it stopped, and its interval in each cell.

    Args:
        stored: what until.json says.
        configs: the cells of the run, which may be in another order by now.
        cells: of summary.json.
        estimates: of the number, in each of them.
    """
    until, intervals = Until.parse(stored["until"]), []
    numbers = {fingerprint(config): number for number, config in enumerate(configs)}
    # Earlier versions had numbers of cells alone.
    there = [numbers[each] for each in stored["fingerprints"]] if "fingerprints" in stored else stored["cells"]
    for number, reach in zip(there, stored["reach"], strict=True):
        found = estimates[number]
        if found is not None and reach is not None:
            low, high = max(found.value - reach, until.support[0]), min(found.value + reach, until.support[1])
            rule = found._replace(low=low, high=high, method=METHOD)._asdict()
            intervals.append({"cell": cells[number]["cell"], "reach": reach} | rule)
    told = {name: stored[name] for name in ("until", "stopped", "members", "at_most", "looks")}
    return told | {"intervals": intervals}


def not_ended(untils: Sequence[str]) -> str:
    """That runs are to go on until these numbers are precise."""
    return f"Not ended: members are still to be trained until {' and '.join(untils)}."


def until_sentence(told: Mapping[str, Any]) -> str:
    """Why a run stopped, and the rule's interval: of several cells, in the least precise one."""
    members, wanted = told["members"], told["until"]
    if told["stopped"] == "precise":
        why = f"Stopped at {members:,} of at most {counted(told['at_most'], 'member')}, which are enough for {wanted}."
    else:
        why = f"Stopped at {counted(members, 'member')}, the most that were allowed, which are not enough for {wanted}."
    if not told["intervals"]:
        return f"{why} No network is there to compute it from."
    least = max(told["intervals"], key=lambda each: each["reach"])
    digits = max(3, 1 - math.floor(math.log10(least["reach"])))
    of = f" in the least precise cell, {named_values(least['cell'])}" if len(told["intervals"]) > 1 else ""
    return (
        f"{why} It is {least['value']:.{digits}f} +- {no_less(least['reach'])}{of}, {least['level']:.0%} by {METHOD}."
    )
