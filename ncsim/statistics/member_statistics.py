"""S and what belongs beside it of every member of an ensemble, for the parts of a run: a few whole numbers per member.

All networks of one task have the same number of rows, so each statistic is one whole number over that number, or over its
square, and one division rounds: `chsh_statistics` gives the same floats. This needs no JAX.
"""

from __future__ import annotations

import numpy as np

from ncsim.config.tasks import context_names

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
    pieces = [_of_piece(counts[first : first + PIECE], rows) for first in range(0, max(len(counts), 1), PIECE)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _of_piece(counts: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    by_outcome = np.ascontiguousarray(counts.T, np.int32).reshape(4, 4, -1)
    _, bob_right, alice_right, both_right = by_outcome.swapaxes(0, 1)  # [4, M] each
    a, b = (2 * (right + both_right) - rows for right in (alice_right, bob_right))  # rows times a mean of outcomes
    c = rows - 2 * (alice_right + bob_right)
    # The largest sum with an odd number of minus signs: of all, or with the smallest term turned where their number is even.
    size = np.abs(c)
    odd = np.logical_xor.reduce(c < 0, axis=0)
    s_odd = _sum(size) - np.where(odd, 0, 2 * size.min(axis=0))
    influence = abs(a[0] - a[1]) + abs(a[2] - a[3]) + abs(b[0] - b[2]) + abs(b[1] - b[3])
    products = a * b
    whole = {
        "S": (_sum(c) - 2 * c[3], rows),
        "S_factorised": (_sum(products) - 2 * products[3], rows**2),
        "influence": (influence, rows),
        "Delta": (s_odd - 2 * rows - influence, rows),
    }
    diverged = (by_outcome.max(axis=1) == 0).any(axis=0)
    found = {name: np.where(diverged, np.nan, number / of) for name, (number, of) in whole.items()}
    return found | dict(zip(SOLVED, both_right == rows, strict=True))


def _sum(values: np.ndarray) -> np.ndarray:
    return values[0] + values[1] + values[2] + values[3]  # in the values' own type
