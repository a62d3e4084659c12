"""S and what belongs beside it of every member of an ensemble, for the parts of a run: a few whole numbers per member.

All networks of one task have the same number of rows, so each statistic is one whole number over that number, or over its
square, and one division rounds: `chsh_statistics` gives the same floats. This needs no JAX.
"""

from __future__ import annotations

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.records.columns import outcome_sums
from ncsim.statistics import compiled

#: Those that are one number per member, and where `ChshStatistics` has them.
MEMBER_STATISTICS = {"S": "s", "S_factorised": "s_factorised", "influence": "influence", "Delta": "contextuality"}
#: Whether both heads are right on all rows, per context.
SOLVED = list(context_names("solved_{i}{j}"))
#: Members at a time, so that what is computed of them stays in the cache: five times as fast.
PIECE = 2**14


def member_statistics(counts: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """The statistics of members, by name; those of arXiv:2603.04451, equation 4, and of Kujala and Dzhafarov 2016.

    Args:
        counts: rows of the truth table, whole numbers [M, 4, 4]: context, then (a, b); zero where a network diverged.
        rows: the rows of the truth table.

    Returns:
        MEMBER_STATISTICS, float64[M] each, NaN where a network of the member diverged; and SOLVED, bool[M] each.
    """
    counts = np.asarray(counts).reshape(-1, 16)
    found = compiled.member_statistics(counts, rows)
    if found is not None:
        return dict(zip(MEMBER_STATISTICS, found[0], strict=True)) | dict(zip(SOLVED, found[1], strict=True))
    pieces = [_of_piece(counts[first : first + PIECE], rows) for first in range(0, max(len(counts), 1), PIECE)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _of_piece(counts: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    by_outcome = np.ascontiguousarray(counts.T, np.int32).reshape(4, 4, -1)
    a, b, c = outcome_sums(by_outcome)
    s, influence, delta = s_influence_contextuality(a, b, c, rows)
    whole = {
        "S": (s, rows),
        "S_factorised": (signed_sum(a * b), rows**2),
        "influence": (influence, rows),
        "Delta": (delta, rows),
    }
    diverged = (by_outcome.max(axis=1) == 0).any(axis=0)
    found = {name: np.where(diverged, np.nan, number / of) for name, (number, of) in whole.items()}
    return found | dict(zip(SOLVED, by_outcome[:, 3] == rows, strict=True))


def s_influence_contextuality(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S, direct influence and Delta, times the rows, of sums of outcomes and of their products, whole numbers [context, ...].

    Each of the eight sums with an odd number of minus signs is the sum of all less twice one of them, or the negative of that.
    """
    total = c[0] + c[1] + c[2] + c[3]
    s = total - 2 * c[3]
    odd = np.abs(s)
    for context in range(3):
        odd = np.maximum(odd, np.abs(total - 2 * c[context]))
    influence = np.abs(a[0] - a[1]) + np.abs(a[2] - a[3]) + np.abs(b[0] - b[2]) + np.abs(b[1] - b[3])
    return s, influence, odd - 2 * rows - influence


def signed_sum(values: np.ndarray) -> np.ndarray:
    """Those of the contexts added up as S adds correlators, [...] of [context, ...], in their own type."""
    return np.asarray(values[0] + values[1] + values[2] - values[3])
