"""Figure 2 (a) of arXiv:2603.04451 as an event, and how likely laws of S make it.

The paper prints 50 values of S per width, and says of them: at n = 2 most are below 1.5; at n = 3 all 50 are above 2, the largest about
3.5; at n = 4 they are around 2. No values are given. So the picture is what of this can be read off, with a tolerance that is stated.
Widths are trained apart, and runs of one width are independent. The probability of the picture is a product of three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp, xlogy
from scipy.stats import binom

from ncsim.statistics.intervals import jackknife_error
from ncsim.statistics.lattice_law import LatticeLaw

RUNS = 50
WIDTHS = (2, 3, 4)


@dataclass(frozen=True)
class Picture:
    """The event, of 50 runs per width.

    Attributes:
        name: of the tolerance.
        most: runs at least with a low S at n = 2; low is S < 1.5, or S <= 1.5 where `or_equal`.
        above: runs at least with S > 2 at n = 3.
        reach: the largest S at n = 3 is within so much of 3.5.
        near: runs at least within `around` of 2 at n = 4.
    """

    name: str
    most: int = 26
    or_equal: bool = False
    above: int = RUNS
    reach: float = 0.25
    near: int = 26
    around: float = 0.25

    def shares(self, width: int, law: LatticeLaw) -> np.ndarray:
        """Probabilities of one run that the event asks for, which add up to 1. At n = 2: low or not. At n = 3: not above 2, below the
        largest, where the largest is to be, beyond. At n = 4: near 2 or not."""
        if width == 2:
            low = law.between(-4, 1.5) if self.or_equal else law.below(1.5)
            found = [low]
        elif width == 3:
            top = law.between(3.5 - self.reach, 3.5 + self.reach)
            found = [law.between(-4, 2), law.above(2) - law.between(3.5 - self.reach, 4), top]
        else:
            found = [law.between(2 - self.around, 2 + self.around)]
        shares = np.clip([*found, 1 - sum(found)], 0, 1)
        return np.asarray(shares / shares.sum())

    def log_probability(self, width: int, shares: np.ndarray) -> np.ndarray:
        """Natural logarithm of the event's probability at this width, [...], from `shares` [..., K]."""
        if width == 3:
            return _log_of_largest(shares[..., 0], shares[..., 1], shares[..., 2], self.above)
        fewest = self.most if width == 2 else self.near
        return np.asarray(binom.logsf(fewest - 1, RUNS, shares[..., 0]))


#: The tolerance that results are stated with, and two others.
STATED = Picture("stated")
PICTURES = (
    STATED,
    Picture("strict", most=38, reach=0.125, near=45),
    Picture("loose", or_equal=True, above=45, reach=0.5, around=0.5),
)


def _log_of_largest(below: np.ndarray, middle: np.ndarray, top: np.ndarray, fewest: int) -> np.ndarray:
    """Of 50 runs at least so many are above 2, none is beyond the top, and one at least is in it."""
    terms = []
    for j in range(fewest, RUNS + 1):
        count = gammaln(RUNS + 1) - gammaln(j + 1) - gammaln(RUNS - j + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            no_top = np.where(middle + top > 0, middle / (middle + top), 1.0)
            one = np.where(no_top < 1, np.log(-np.expm1(xlogy(j, np.clip(no_top, 0, 1)))), -np.inf)
        terms.append(count + xlogy(RUNS - j, below) + xlogy(j, middle + top) + one)
    return np.asarray(logsumexp(terms, axis=0))


class SLaw(NamedTuple):
    """A law of S, with what the error of anything read off it is computed from.

    Attributes:
        law: of all members.
        left_out: without each group of members.
        networks: per context.
        tries: networks per context that a run looks at.
    """

    law: LatticeLaw
    left_out: Sequence[LatticeLaw]
    networks: int
    tries: int

    def drawn(
        self, function: Callable[[LatticeLaw], np.ndarray], draws: int, generator: np.random.Generator
    ) -> np.ndarray:
        """Shares [1 + draws, K]: those of the law, then as they may be in truth. These follow a Dirichlet law, with one half in front
        for each share, worth as many networks as the jackknife's error is; where each share is 0 or 1, as many as the
        networks divided by the tries."""
        value = function(self.law)
        others = np.array([function(law) for law in self.left_out])
        worth = [
            share * (1 - share) / error**2
            for share, error in zip(value, map(jackknife_error, others.T), strict=True)
            if error > 0 and 0 < share < 1
        ]
        effective = min([*worth, self.networks]) if worth else self.networks / self.tries
        return np.vstack([value, generator.dirichlet(value * max(effective, 1.0) + 0.5 / (len(value) - 1), draws)])


def log_likelihood(
    picture: Picture, laws: Mapping[int, SLaw], draws: int, generator: np.random.Generator
) -> np.ndarray:
    """log10 of the picture's probability, [1 + draws]: by the laws, then by laws as they may be in truth."""
    found = np.zeros(1 + draws)
    for width in WIDTHS:
        shares = laws[width].drawn(lambda law, width=width: picture.shares(width, law), draws, generator)  # type: ignore[misc]
        found = found + picture.log_probability(width, shares)
    return np.asarray(found / np.log(10))
