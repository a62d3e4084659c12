"""Linear programmes by HiGHS, as close as it goes.

Left to itself it takes what misses a condition by 1e-7 for a solution. Answers here are shares of tables, where 1e-7 may be all that there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: By how much a solution may miss a condition: the least that HiGHS takes.
FEASIBLE = 1e-10
_NOTHING_FITS = 2  # SciPy's status


class InfeasibleError(RuntimeError):
    """No numbers meet the conditions."""


def least(
    cost: np.ndarray,
    rows: Any = None,
    targets: np.ndarray | None = None,
    under: Any = None,
    under_targets: np.ndarray | None = None,
    most: float | None = None,
) -> Any:
    """The least cost . x over x from 0 to `most` with rows x = targets and under x <= under_targets.

    Args:
        cost: [N].
        rows: [K, N], dense or sparse.
        targets: [K].
        under: [L, N].
        under_targets: [L].
        most: None: no limit.

    Returns:
        What `scipy.optimize.linprog` gives: `fun`, `x` and the dual variables.

    Raises:
        InfeasibleError: nothing meets the conditions.
        RuntimeError: HiGHS finds no solution.
    """
    from scipy.optimize import linprog

    options = {"primal_feasibility_tolerance": FEASIBLE, "dual_feasibility_tolerance": FEASIBLE}
    found = linprog(cost, under, under_targets, rows, targets, bounds=(0, most), method="highs-ds", options=options)
    if found.status != 0:
        kind = InfeasibleError if found.status == _NOTHING_FITS else RuntimeError
        raise kind(f"linear programme: {found.message}")
    return found
