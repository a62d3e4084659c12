"""What a recorded run's members do along training, as summary.json has it, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.formatting import counted, no_less
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.training_curves import QUANTILES, Series, TrajectoryStatistics

#: Recorded steps that a report tells of; of more, so many that are spread evenly. `Run.trajectory_statistics` has all.
MOST_TOLD = 100
#: What has one number per step, by its name in summary.json, and where `TrajectoryStatistics` has it.
OF_MEMBERS = {
    "mean_s": "s",
    "s_above_2": "above_2",
    "mean_contextuality": "contextuality",
    "contextual": "contextual",
}
COLUMNS = ["step", "members", "mean S", "P(S > 2)", "mean Delta", "P(Delta > 0)"]


def training_numbers(found: TrajectoryStatistics, without: int) -> dict[str, Any]:
    """A cell's recording as summary.json has it: the steps, and lists over them of values and limits; `without` is how many of its
    members have none. Losses are of each head."""
    points = len(found.step)
    told = np.unique(np.rint(np.linspace(0, points - 1, min(points, MOST_TOLD))).astype(int))
    assert found.s.quantiles is not None
    by_context = {"solved": found.solved} | {
        name: series for name, series in found.observed.items() if name.startswith("loss")
    }
    slope = found.slopes[0]
    return {
        "recorded_steps": points,
        "members_without_recording": without,
        "step": found.step[told].tolist(),
        "members": found.members[told].tolist(),
        "quantiles_s": {
            str(level): values[told].tolist() for level, values in zip(QUANTILES, found.s.quantiles, strict=True)
        },
        **{name: _over_steps(getattr(found, field), told) for name, field in OF_MEMBERS.items()},
        **{
            name: {context: _over_steps(series, (told, n)) for n, context in enumerate(context_names())}
            for name, series in by_context.items()
        },
        "mu_grad_s": {"first": slope.first, "last": slope.last, "value": slope.mean, "low": slope.low, "high": slope.high},
        "methods": {
            "fractions (s_above_2, contextual, solved)": "Clopper-Pearson",
            "means": "Student's t over members, widened for unseen members where the range is known",
            "losses": "of networks whose loss is a finite number",
            "mu_grad_s": "S per 1,000 steps, of members whole at both ends; as means",
        },
    }  # fmt: skip


def _over_steps(series: Series, at: Any) -> dict[str, list[float]]:
    return {name: each[at].tolist() for name, each in zip(("value", "low", "high"), series[:3], strict=True)}


def at_step(numbers: Mapping[str, Any], name: str, place: int) -> Estimate:
    """One of OF_MEMBERS at a recorded step that is told of."""
    value, low, high = (numbers[name][field][place] for field in ("value", "low", "high"))
    return Estimate(value, low, high, "see methods")


def training_lines(numbers: Mapping[str, Any]) -> list[str]:
    """What a recording says, in words that its intervals bear."""
    there = [place for place, members in enumerate(numbers["members"]) if members]
    step, recorded = numbers["step"], counted(numbers["recorded_steps"], "recorded step")
    if without := numbers["members_without_recording"]:
        recorded += f" of all but {'one member, which has' if without == 1 else f'{without:,} members, which have'} no recording"
    if not there:
        return [f"Along training, {recorded}: every member has a diverged network at each."]
    first, last = there[0], there[-1]
    begin, end = (at_step(numbers, "mean_s", place) for place in (first, last))
    peak = max(there, key=lambda place: at_step(numbers, "mean_s", place).low)
    largest = at_step(numbers, "mean_s", peak)
    value, low, high = (numbers["mu_grad_s"][field] for field in ("value", "low", "high"))
    slope = Estimate(value, low, high, "see methods")
    before = "" if first == last else f"{begin} at step {step[first]:,} and "
    text = (
        f"Along training, {recorded}: mean S is {before}{end} at step {step[last]:,}, where S is above 2 "
        f"in {at_step(numbers, 's_above_2', last)} of {counted(numbers['members'][last], 'member')}"
    )
    if largest.low > end.high:
        text += f"; it was larger before, {largest} at step {step[peak]:,}"
    if not np.isnan(slope.value):
        text += f". Over all of it S changes by {slope} per 1,000 steps (mu_gradS)"
    if last < len(step) - 1:
        text += ". Later every member has a diverged network"
    return [f"{text}.", _on_contextuality(numbers, there)]


def _on_contextuality(numbers: Mapping[str, Any], there: Sequence[int]) -> str:
    shares = [at_step(numbers, "contextual", place) for place in there]
    above = sum(each.low > 0 for each in shares)
    if above:
        most = max(range(len(shares)), key=lambda n: shares[n].low)
        return (
            f"Contextual once direct influence is discounted: {shares[most]} of members have Delta > 0 at step "
            f"{numbers['step'][there[most]]:,}, and some at {above} of {counted(len(shares), 'step')}."
        )
    return f"No member has Delta > 0 at any of {counted(len(shares), 'step')} (at most {no_less(max(each.high for each in shares))} of them at each, 95 %)."


def training_rows(numbers: Mapping[str, Any], most: int = 11) -> list[list[str]]:
    """Some steps in the order of COLUMNS, spread evenly."""
    places = np.unique(np.rint(np.linspace(0, len(numbers["step"]) - 1, most)).astype(int))
    return [
        [
            f"{numbers['step'][place]:,}",
            f"{numbers['members'][place]:,}",
            *(str(at_step(numbers, name, place)) for name in OF_MEMBERS),
        ]
        for place in places
    ]
