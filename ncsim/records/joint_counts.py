"""Joint counts: how often which pair of answers fell, the one record from which every statistic is computed.

`counts[..., i, j, a, b]` is the number of items on which, in context (i, j), Alice's outcome was a and Bob's was b;
0 stands for wrong (-1), 1 for right (+1). Leading axes are members, grid cells, ranks, epochs: whatever there is.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int, Integer

from ncsim.config.fields import shown, whole_number
from ncsim.config.tasks import CONTEXTS

#: Names of parties, in order: there are no more parties than these.
PARTY_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def array_of(name: str, values: Any) -> np.ndarray:
    """An array, of which checks then ask the rest. Raises ValueError of lists of several lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: {shown(values)}; allowed: an array, with lists of one length on each axis") from None


def joint_counts(outcomes: Any) -> Int[np.ndarray, "*batch 2 2 2 2"]:
    """Counts of outcomes +1/-1 with axes (..., i, j, party, item); party 0 is Alice.

    No items at all give zero counts, whose statistics are NaN.

    Args:
        outcomes: +1 (right) or -1 (wrong), [..., 2, 2, 2, items]: Alice's task i, Bob's task j, party, item.

    Returns:
        int32 [..., i, j, a, b], a and b being 0 (wrong) or 1 (right), as in arXiv:2603.04451, section 4.1.

    Raises:
        ValueError: another shape, or a value other than -1 and +1, named with its place.

    Example:
        >>> import numpy as np
        >>> outcomes = np.ones((2, 2, 2, 16), int)  # all right
        >>> joint_counts(outcomes)[0, 0].tolist()
        [[0, 0], [0, 16]]
    """
    outcomes = array_of("outcomes", outcomes)
    if outcomes.ndim < 4 or outcomes.shape[-4:-1] != (2, 2, 2):
        raise ValueError(f"outcomes: shape {outcomes.shape}; allowed: [..., i=2, j=2, party=2, item]")
    wrong = (outcomes != 1) & (outcomes != -1)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(f"outcomes: {outcomes[place]} at {place}; allowed: -1 or +1")
    alice, bob = outcomes[..., 0, :] > 0, outcomes[..., 1, :] > 0
    cells = [[np.sum((alice == bool(a)) & (bob == bool(b)), axis=-1) for b in (0, 1)] for a in (0, 1)]
    return np.moveaxis(np.asarray(cells, np.int32), (0, 1), (-2, -1))


def validated_counts(counts: Any) -> Any:
    """The counts as they are, once their shape and values can be counts.

    Raises:
        ValueError: the last four axes are not (2, 2, 2, 2), or a count is negative, not finite or not whole.
    """
    array = array_of("counts", counts)
    if array.ndim < 4 or array.shape[-4:] != (2, 2, 2, 2):
        raise ValueError(f"counts: shape {array.shape}; allowed: [..., i=2, j=2, a=2, b=2]")
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array < 0) | (array != np.floor(array))
    elif array.dtype.kind in "iu":
        bad = array < 0
    else:
        raise ValueError(f"counts: type {array.dtype}; allowed: whole numbers")
    if bad.any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        raise ValueError(f"counts: {array[place]} at (..., i, j, a, b) = {place}; allowed: whole numbers, 0 or above")
    return array


def merge_counts(counts: Any, axis: SupportsIndex = 0) -> Int[np.ndarray, "*batch 2 2 2 2"]:
    """Pooled counts: the sum over a leading axis, in int64.

    Args:
        counts: joint counts with at least one axis in front, [K, ..., 2, 2, 2, 2]: members, items or runs.
        axis: the axis to sum over.

    Returns:
        int64, without that axis.

    Raises:
        ValueError: counts that are none, or that add up to 2^63 in a cell.

    Example:
        >>> import numpy as np
        >>> merge_counts(np.ones((5, 2, 2, 2, 2), int))[0, 0].tolist()
        [[5, 5], [5, 5]]
    """
    array = validated_counts(counts)
    place = whole_number(axis)
    if place is None or not -array.ndim <= place < array.ndim or place % array.ndim >= array.ndim - 4:
        raise ValueError(f"axis: {shown(axis)}; allowed: an axis before (i, j, a, b), 0 to {array.ndim - 5}")
    largest = float(np.sum(array, axis=place, dtype=np.float64).max(initial=0))
    if largest >= 2.0**63:
        raise ValueError(f"counts: {largest:.6g} in a cell of the sum; allowed: below 2^63")
    return np.asarray(np.sum(array, axis=place, dtype=np.int64))


def from_context_order(counts: Any) -> Integer[np.ndarray, "*batch 2 2 2 2"]:
    """Counts stored as [..., context, 4] in joint-count axes: contexts are in row-major order of (i, j)."""
    array = np.asarray(counts)
    return array.reshape(*array.shape[:-2], 2, 2, 2, 2)


def unequal_outcomes(counts: Any) -> Int[np.ndarray, "*batch 2 2"]:
    """k, the items on which exactly one head was right; the correlator is 1 - 2 k / items."""
    array = np.asarray(counts).astype(np.int64)
    return array[..., 0, 1] + array[..., 1, 0]


assert tuple((i, j) for i in (0, 1) for j in (0, 1)) == CONTEXTS, "from_context_order relies on this order"


def joint_counts_many(outcomes: Any) -> Int[np.ndarray, "..."]:
    """Joint counts of any number of heads and settings, from outcomes +1/-1.

    The axes of `outcomes` are (..., settings of party 1, ..., settings of party k, party, item); k is read off the
    party axis. The counts' are (..., the same k settings, outcome of party 1, ..., outcome of party k), int32. For two
    heads with two settings this is `ncsim.joint_counts`. No items give zero counts.

    Args:
        outcomes: +1 (right) or -1 (wrong), with the axes above; arXiv:2603.04451, section 4.1, has two heads.

    Returns:
        Counts, with the axes above.

    Raises:
        ValueError: fewer axes than the parties need, or a value other than -1 and +1, named with its place.

    Example:
        >>> import numpy as np
        >>> joint_counts_many(np.ones((2, 2, 2, 3, 5), int)).shape  # three heads with two settings, five items
        (2, 2, 2, 2, 2, 2)
    """
    outcomes = array_of("outcomes", outcomes)
    parties = outcomes.shape[-2] if outcomes.ndim >= 2 else 0
    if not 1 <= parties <= len(PARTY_NAMES) or outcomes.ndim < parties + 2:
        raise ValueError(
            f"outcomes: shape {outcomes.shape}; allowed: [..., one axis of settings for each of k parties, party=k, item]"
        )
    wrong = (outcomes != 1) & (outcomes != -1)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(f"outcomes: {outcomes[place]} at {place}; allowed: -1 or +1")
    right = outcomes > 0
    cell = sum(right[..., party, :].astype(np.int32) << (parties - 1 - party) for party in range(parties))
    counts = np.stack([np.sum(cell == number, axis=-1, dtype=np.int32) for number in range(2**parties)], axis=-1)
    return counts.reshape(*counts.shape[:-1], *(2,) * parties)
