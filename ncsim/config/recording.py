"""When a run looks at its networks while they train. An option of a run and not of its config: who is watched trains alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ncsim.config.fields import shown, shown_word, whole_number
from ncsim.errors import ConfigError

SPACINGS = ("linear", "logarithmic", "every")
MOST_POINTS, MOST_STEPS = 10_000, 10**9


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Steps at which every network is recorded; always before the first step and after the last.

    `spacing`: "linear", about `points` steps at equal distances; "logarithmic", about `points` steps at equal ratios,
    close together at first; or "every", each `every`-th step. Steps are whole, so that fewer points may be left.
    The paper shows S along training in figure 4 (arXiv:2603.04451, section 5.3).

    Attributes:
        points: how many steps, about; 2 to 10,000. Left out where `spacing` is "every".
        spacing: "linear", "logarithmic" or "every".
        every: optimiser steps between two records, 1 or more, with `spacing` "every"; else 0.

    Raises:
        ConfigError: a value out of range, in one line.

    Example:
        >>> Recording(points=5).steps(1000).tolist()
        [0, 250, 500, 750, 1000]
        >>> Recording(spacing="every", every=400).steps(1000).tolist()
        [0, 400, 800, 1000]
        >>> Recording(points=5).to_dict()
        {'points': 5, 'spacing': 'linear', 'every': 0}
        >>> Recording.stored({'points': 5, 'spacing': 'linear', 'every': 0}).points
        5
    """

    points: int = 50
    spacing: str = "linear"
    every: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.spacing, str) or self.spacing not in SPACINGS:
            word = shown_word(self.spacing) if isinstance(self.spacing, str) else shown(self.spacing)
            raise ConfigError(f"--record-spacing: {word}; allowed: {', '.join(SPACINGS)}")
        points, every = whole_number(self.points), whole_number(self.every)
        if points is None or not 2 <= points <= MOST_POINTS:
            raise ConfigError(f"--record-points: {shown(self.points)}; allowed: a whole number from 2 to {MOST_POINTS}")
        if every is None or not (self.spacing == "every") <= every <= MOST_STEPS:
            raise ConfigError(f"--record-every: {shown(self.every)}; allowed: a whole number, 1 or above")
        if self.spacing != "every" and every:
            raise ConfigError(f"--record-every: {every} with --record-spacing {self.spacing}; allowed: with every")
        if self.spacing == "every" and points != Recording.points:
            raise ConfigError(f"--record-points: {points} with --record-spacing every; allowed: one of the two")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "every", every)

    def steps(self, total: int) -> np.ndarray:
        """The steps that are recorded.

        Args:
            total: optimiser steps of the training, 1 to 1,000,000,000.

        Returns:
            Numbers of optimiser steps taken, int32[R], ascending from 0 to `total`.

        Raises:
            ConfigError: `total` is out of range, or these are more than MOST_POINTS.
        """
        steps = whole_number(total)  # a NumPy number would wrap around below
        if steps is None or not 1 <= steps <= MOST_STEPS:
            raise ConfigError(f"--steps: {shown(total)}; allowed: a whole number from 1 to {MOST_STEPS}")
        total = steps
        if self.spacing == "every":
            if 1 - (-total // self.every) > MOST_POINTS:  # 0, each that is passed, and the last
                raise ConfigError(
                    f"--record-every: {self.every} with --steps {total}; allowed: at most {MOST_POINTS} recorded steps"
                )
            inner = np.arange(0, total, self.every)
        elif self.spacing == "linear":
            inner = np.round(np.linspace(0, total, self.points))
        else:
            inner = np.round(np.geomspace(1, total, self.points - 1))
        return np.unique(np.concatenate([[0], inner, [total]])).astype(np.int32)

    def options(self) -> str:
        """As the options of a command that ask for it.

        Example:
            >>> Recording(points=5).options(), Recording(spacing="every", every=400).options()
            ('--record-points 5 --record-spacing linear', '--record-every 400')
        """
        if self.spacing == "every":
            return f"--record-every {self.every}"
        return f"--record-points {self.points} --record-spacing {self.spacing}"

    def to_dict(self) -> dict[str, Any]:
        """The recording as JSON can hold it."""
        return asdict(self)

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Recording:
        """The recording that `to_dict` gave; `points` beside "every" meant nothing, and was once allowed.

        Args:
            values: as `to_dict` gave them.

        Returns:
            The same recording.

        Raises:
            ConfigError: a value out of range, in one line.
        """
        values = dict(values)
        return cls(**(values | {"points": cls.points} if values.get("spacing") == "every" else values))
