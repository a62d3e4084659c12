"""Tables and inequalities in three notations: full, correlators, and that of Collins and Gisin.

Full has an axis of settings for each of k parties and then an axis of two outcomes for each, as joint counts have. The
others have one axis of 1 + settings per party, where index 0 leaves the party out. Their entries are means of products of
outcomes -1 and +1 (correlators), or probabilities that the parties named all have outcome 0 (Collins and Gisin 2004), which
here is the wrong answer. Both describe tables without signalling alone: what a party does alone must not depend on the
others' settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ncsim.statistics.arguments import numbers
from ncsim.statistics.rationals import summable

#: Probabilities this close are equal.
TOLERANCE = 1e-9


def to_collins_gisin(table: Any) -> Float[np.ndarray, "..."]:
    """A table without signalling as probabilities of outcome 0.

    Args:
        table: probabilities or counts, k axes of settings, then k axes of two outcomes; each choice of settings is divided by
            its total.

    Returns:
        One axis of 1 + settings per party; the first entry is 1 (Collins and Gisin 2004).

    Raises:
        ValueError: other axes, a value that is negative or not finite, settings without items, or a marginal that depends on
            the others' settings by more than 1e-9.

    Example:
        >>> import numpy as np
        >>> box = np.tile(np.eye(2) / 2, (2, 2, 1, 1))
        >>> to_collins_gisin(box).tolist()
        [[1.0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    return _from_full(table, _to_zeros, _from_zeros)


def from_collins_gisin(values: Any) -> Float[np.ndarray, "..."]:
    """The full table of probabilities that `to_collins_gisin` gives these values of (Collins and Gisin 2004).

    Args:
        values: one axis of 1 + settings per party.

    Returns:
        float64, k axes of settings, then k axes of two outcomes. A probability below 0 is kept: it says that there is no
        such table.

    Raises:
        ValueError: no axis, an axis without a setting, or a value that is not finite.

    Example:
        >>> from_collins_gisin([[1, 0.5], [0.5, 0.5]])[0, 0].tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    return _along(_checked_values(values), _from_zeros)


def to_correlators(table: Any) -> Float[np.ndarray, "..."]:
    """A table without signalling as means of products of outcomes: `to_collins_gisin` in -1 and +1.

    Args:
        table: as for `to_collins_gisin`.

    Returns:
        One axis of 1 + settings per party; the first entry is 1, entries with one index above 0 are means (Werner and Wolf 2001).

    Raises:
        ValueError: as for `to_collins_gisin`.

    Example:
        >>> import numpy as np
        >>> to_correlators(np.tile(np.eye(2) / 2, (2, 2, 1, 1)))[1:, 1:].tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    return _from_full(table, _to_means, _from_means)


def from_correlators(values: Any) -> Float[np.ndarray, "..."]:
    """The full table of probabilities with these means (Werner and Wolf 2001).

    Args:
        values: one axis of 1 + settings per party.

    Returns:
        As `from_collins_gisin`.

    Raises:
        ValueError: as `from_collins_gisin`.

    Example:
        >>> from_correlators([[1, 0], [0, -1]])[0, 0].tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    return _along(_checked_values(values), _from_means)


def collins_gisin_coefficients(full: np.ndarray) -> Float[np.ndarray, "..."]:
    """Coefficients of full tables as those of probabilities of outcome 0: the same value on every table without signalling."""
    return _along(full, lambda settings: _from_zeros(settings).swapaxes(0, 1), paired=True)


def correlator_coefficients(full: np.ndarray) -> Float[np.ndarray, "..."]:
    """Coefficients of full tables as those of means of products."""
    return _along(full, lambda settings: _from_means(settings).swapaxes(0, 1), paired=True)


def full_coefficients(collins_gisin: Any) -> Float[np.ndarray, "..."]:
    """Coefficients of probabilities of outcome 0 as those of full tables; marginals are shared out over the others' settings."""
    return _along(_checked_values(collins_gisin), lambda settings: _to_zeros(settings).swapaxes(0, 1))


# What one party's axes become. Each is a matrix between the pairs (setting, outcome) and 1 + settings.


def _to_zeros(settings: int) -> np.ndarray:
    """float64[1 + settings, settings * 2]."""
    matrix = np.zeros((1 + settings, settings, 2))
    matrix[0] = 1 / settings
    matrix[1:, :, 0] = np.eye(settings)
    return matrix.reshape(1 + settings, -1)


def _from_zeros(settings: int) -> np.ndarray:
    """float64[settings * 2, 1 + settings]."""
    matrix = np.zeros((settings, 2, 1 + settings))
    matrix[:, 0, 1:] = np.eye(settings)
    matrix[:, 1, 1:] = -np.eye(settings)
    matrix[:, 1, 0] = 1
    return matrix.reshape(-1, 1 + settings)


def _to_means(settings: int) -> np.ndarray:
    matrix = _to_zeros(settings)
    matrix[1:] = np.kron(np.eye(settings), [-1.0, 1.0])
    return matrix


def _from_means(settings: int) -> np.ndarray:
    matrix = np.zeros((settings, 2, 1 + settings))
    matrix[..., 0] = 0.5
    matrix[:, 0, 1:] = -np.eye(settings) / 2
    matrix[:, 1, 1:] = np.eye(settings) / 2
    return matrix.reshape(-1, 1 + settings)


def _along(array: np.ndarray, matrix: Callable[[int], np.ndarray], paired: bool = False) -> np.ndarray:
    """Each party's axes times its matrix. Full arrays are `paired`: a party's settings and outcomes become one axis first."""
    parties = array.ndim // 2 if paired else array.ndim
    settings = array.shape[:parties] if paired else tuple(length - 1 for length in array.shape)
    if paired:
        order = [axis for party in range(parties) for axis in (party, parties + party)]
        array = array.transpose(order).reshape([2 * m for m in settings])
    for party in range(parties):
        array = np.moveaxis(np.tensordot(matrix(settings[party]), array, (1, party)), 0, party)
    if paired:
        return array
    array = array.reshape([length for m in settings for length in (m, 2)])
    return array.transpose([*range(0, 2 * parties, 2), *range(1, 2 * parties, 2)])


def _from_full(table: Any, there: Callable[[int], np.ndarray], back: Callable[[int], np.ndarray]) -> np.ndarray:
    counts = numbers("table", table)
    parties = counts.ndim // 2
    if parties == 0 or counts.ndim % 2 or counts.shape[parties:] != (2,) * parties or counts.size == 0:
        raise ValueError(f"table: shape {counts.shape}; allowed: k axes of settings, then k axes of length 2")
    outcomes = tuple(range(parties, 2 * parties))
    bad = ~np.isfinite(counts) | (counts < 0)
    if bad.any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        raise ValueError(f"table: {counts[place]} at {place}; allowed: 0 or above")
    counts = summable(counts)
    totals = counts.sum(axis=outcomes, keepdims=True)
    if (totals == 0).any():
        place = tuple(int(index) for index in np.argwhere(totals == 0)[0][:parties])
        raise ValueError(f"table: no items at settings {place}; allowed: 1 or more")
    values = _along(counts / totals, there, paired=True)
    worst = float(np.abs(_along(values, back) - counts / totals).max())
    if worst > TOLERANCE:
        raise ValueError(
            f"table: it signals (a probability is off by {worst:.2g} if marginals are to depend on no other setting); "
            "allowed: a table without signalling"
        )
    return values


def _checked_values(values: Any) -> np.ndarray:
    array = np.array(numbers("values", values))
    if array.ndim == 0 or min(array.shape) < 2:
        raise ValueError(f"values: shape {array.shape}; allowed: one axis of 1 + settings for each party")
    if not np.isfinite(array).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"values: {array[place]} at {place}; allowed: finite numbers")
    return array
