"""A law of S: of a sum of whole numbers over the rows, so on a lattice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class LatticeLaw:
    """A law of S on its lattice. `probabilities[n]` belongs to S = -4 + 2 n / rows, n = 0 to 4 rows."""

    rows: int
    probabilities: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        """The lattice, ascending: float64[4 rows + 1]."""
        return (2.0 * np.arange(4 * self.rows + 1) - 4 * self.rows) / self.rows

    @property
    def mean(self) -> float:
        """Mean of S."""
        return float(self.values @ self.probabilities)

    @property
    def variance(self) -> float:
        """Variance of S."""
        return float((self.values - self.mean) ** 2 @ self.probabilities)

    def quantile(self, level: float) -> float:
        """The smallest lattice value that S does not exceed with at least this probability."""
        cumulative = np.cumsum(self.probabilities)
        # The sum ends within rounding of 1, and a median of exactly one half must not move by it.
        return float(self.values[np.searchsorted(cumulative, level * cumulative[-1] - 1e-12)])

    def above(self, bound: float) -> float:
        """P(S > bound)."""
        return float(self.probabilities[self.values > bound].sum())

    def below(self, bound: float) -> float:
        """P(S < bound)."""
        return float(self.probabilities[self.values < bound].sum())

    def between(self, low: float, high: float) -> float:
        """P(low <= S <= high)."""
        return float(self.probabilities[(self.values >= low) & (self.values <= high)].sum())

    @np.errstate(under="ignore")
    def maximum_of(self, runs: int) -> LatticeLaw:
        """The law of the largest S of some independent runs."""
        cumulative = np.cumsum(self.probabilities)
        return LatticeLaw(self.rows, np.diff((cumulative / cumulative[-1]) ** runs, prepend=0.0))

    def sample(self, runs: int, seed: int = 0) -> np.ndarray:
        """S of some independent runs, float64[runs]."""
        law = self.probabilities / self.probabilities.sum()
        return np.random.default_rng(seed).choice(self.values, size=runs, p=law)
