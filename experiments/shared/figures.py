"""What the figures of several experiments share. Their files, colours and style are those of `ncsim.report.figures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ncsim.report.figures import BLACK
from ncsim.statistics.intervals import Estimate

#: Of marks with intervals.
MARKS = {
    "markersize": 5,
    "markeredgecolor": BLACK,
    "markeredgewidth": 0.5,
    "ecolor": BLACK,
    "elinewidth": 0.8,
    "capsize": 2,
}


def reach(estimates: Sequence[Estimate]) -> np.ndarray:
    """How far the intervals reach below and above their values, as error bars have it: float64[2, N]."""
    return np.abs(np.array([[e.value - e.low, e.high - e.value] for e in estimates]).T)


def legend(axis: Any, **style: Any) -> None:
    """A legend where there is something to name; matplotlib warns of an empty one."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**style)


def points(axis: Any, places: Any, estimates: Sequence[Estimate], across: bool = False, **style: Any) -> None:
    """Estimates as marks with their intervals.

    Args:
        axis: where they are drawn.
        places: of the marks, [N].
        estimates: N of them.
        across: values run to the right, and places upwards.
        style: what differs from `MARKS`.
    """
    values = [e.value for e in estimates]
    x, y, error = (values, places, "xerr") if across else (places, values, "yerr")
    axis.errorbar(x, y, **{error: reach(estimates)}, **(MARKS | style))
