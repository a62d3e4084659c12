"""What arXiv:2603.04451 says of S at n = 2, 3 and 4 hidden units (sections 4.2 and 4.3), held against every protocol.

The thresholds are ours; the paper has words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ncsim.config.ensemble import EnsembleConfig, field_specs
from ncsim.config.tasks import PAPER_TASKS
from ncsim.formatting import significant
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, TSIRELSON, LatticeLaw, ProtocolLaw

WIDTHS = (2, 3, 4)
RUNS = 50  # of the paper, per width


class Claim(NamedTuple):
    """A claim about one width, as an event of S and a threshold for its probability."""

    text: str
    width: int
    probability: Callable[[LatticeLaw], float]
    shown: str
    threshold: float
    runs: int = 1  # that the event is about
    once_in: int = 1  # the probability asked for is that the event happens at least once in so many runs

    def estimate(self, law: ProtocolLaw) -> Estimate:
        """The claim's probability under a protocol."""
        one = law.fraction(self.probability, self.runs)
        value, low, high = (1 - (1 - p) ** self.once_in for p in one[:3])
        return one._replace(value=value, low=low, high=high)

    @property
    def criterion(self) -> str:
        """When it holds."""
        return f"{self.shown} > {self.threshold:g}"


def _largest_about_3_5(law: LatticeLaw) -> float:
    return law.maximum_of(RUNS).between(3.25, 3.75)


#: "All 50" is what a probability of at least 0.929 gives with 97.5 % confidence (Clopper-Pearson, 50 of 50).
CLAIMS = (
    Claim("n=2: in most runs S < 1.5", 2, lambda law: law.below(1.5), "P(S < 1.5)", 0.5),
    Claim("n=3: S > 2 in all 50 runs", 3, lambda law: law.above(2.0), "P(S > 2)", 0.929),
    Claim(
        "n=3: some runs above 2 sqrt 2", 3, lambda law: law.above(TSIRELSON), "P(any of 50 > 2.828)", 0.5, once_in=RUNS
    ),
    Claim("n=3: the largest about 3.5", 3, _largest_about_3_5, "P(largest of 50 in 3.25 .. 3.75)", 0.05, RUNS),
    Claim("n=4: stabilises around 2", 4, lambda law: law.between(1.75, 2.25), "P(S in 1.75 .. 2.25)", 0.5),
)
PEAK, PEAK_CRITERION = "S is largest at n=3", "mean S(3) - larger of S(2), S(4) > 0"


class Finding(NamedTuple):
    """A claim under a protocol: "holds", "fails", or "open" where the interval has the threshold in it."""

    claim: str
    protocol: str
    estimate: Estimate
    threshold: float
    answer: str

    @property
    def words(self) -> str:
        """The estimate, told apart from the threshold that the answer is decided by."""
        value, low, high = (significant(each, self.threshold) for each in self.estimate[:3])
        return f"{value} [{low}, {high}]"


def findings(laws: Mapping[int, Sequence[ProtocolLaw]]) -> list[Finding]:
    """Every claim about these widths under every protocol.

    Args:
        laws: of some widths, in the order of STANDARD_PROTOCOLS. A claim about a width that is not there is left out.
    """
    result = []
    for number, protocol in enumerate(STANDARD_PROTOCOLS):
        for claim in CLAIMS:
            if claim.width in laws:
                estimate = claim.estimate(laws[claim.width][number])
                answer = _answer(estimate, claim.threshold)
                result.append(Finding(claim.text, protocol.label, estimate, claim.threshold, answer))
        if set(WIDTHS) <= set(laws):
            peak = _peak(laws, number)
            result.append(Finding(PEAK, protocol.label, peak, 0.0, _answer(peak, 0.0)))
    return result


def criteria(found: Iterable[Finding]) -> dict[str, str]:
    """When each claim that was asked holds, by its text."""
    every = {claim.text: claim.criterion for claim in CLAIMS} | {PEAK: PEAK_CRITERION}
    asked = {finding.claim for finding in found}
    return {text: criterion for text, criterion in every.items() if text in asked}


def settings(configs: Sequence[EnsembleConfig]) -> list[dict[int, int]]:
    """The cells that the claims are about: per setting of all other fields, the cell of each of WIDTHS. Members may differ.
    Empty for other tasks than the paper's."""
    apart = [name for name in field_specs() if name not in ("hidden", "members", "first_member")]
    found: dict[tuple[Any, ...], dict[int, int]] = {}
    for cell, config in enumerate(configs):
        if config.hidden in WIDTHS and config.tasks == PAPER_TASKS:
            found.setdefault(tuple(getattr(config, name) for name in apart), {})[config.hidden] = cell
    return list(found.values())


def _answer(estimate: Estimate, threshold: float) -> str:
    return "holds" if estimate.low > threshold else "fails" if estimate.high <= threshold else "open"


def _peak(laws: Mapping[int, Sequence[ProtocolLaw]], number: int) -> Estimate:
    """Mean S at n=3 less the larger of those at n=2 and n=4; errors add in squares. Members of one id start from one key, so that widths go
    together a little (correlations of up to 0.1 between members): limits are rather too wide than too narrow.

    The lower limit is the lowest of the two differences: a width whose mean is known badly may have the larger one.
    """
    means = {width: laws[width][number].mean for width in WIDTHS}
    each = [difference(means[3], means[width]) for width in (2, 4)]
    smaller = min(each, key=lambda found: found.value)
    return smaller._replace(low=min(found.low for found in each))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One estimate less another that is independent of it.

    Limits need not be as far from a value on both sides, as where one is cut off at what is possible: the difference is low where
    the first is low or the other is high.
    """
    low = math.hypot(one.value - one.low, other.high - other.value)
    high = math.hypot(one.high - one.value, other.value - other.low)
    value = one.value - other.value
    return one._replace(value=value, low=value - low, high=value + high)
