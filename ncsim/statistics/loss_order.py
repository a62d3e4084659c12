"""Best of several by loss: the law of a context's tables, of all networks and with each group of members left out.

With n of M networks before it in the order of losses, and E up to its end, a stretch of networks is where the best of K draws
is with probability ((M - n) / M)^K - ((M - E) / M)^K. Of a stretch with one table nothing else need be known. Where networks
with equal losses have several tables, each network has the same share.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ncsim.statistics import compiled

#: Of `packed` networks, the table and the group.
_LOWER = np.int64(2**32 - 1)
#: Stretches that are looked at together: with all groups, as much as a processor's cache holds.
_BLOCK = 2**9
#: Networks that are looked at together where there are more than EXACT, in whole numbers of neighbours: their arrays stay in the
#: cache, and memory does not grow with their number.
_PIECE = 2**16
#: Probability of what is not looked at in its order: an error of laws, at most.
NEGLIGIBLE = 1e-10
#: Networks of a context up to which all is exact.
EXACT = 2**17
#: Networks that are neighbours, where there are more; of some millions there are more neighbours as well.
NEIGHBOURS = 32


class Networks(NamedTuple):
    """Some networks of one context in the order of their losses.

    Attributes:
        loss: as `ordered_bits`, ascending, uint32[N].
        table: which of the context's tables each has, uint32[N].
        group: of the jackknife, uint32[N].
    """

    loss: np.ndarray
    table: np.ndarray
    group: np.ndarray


def packed(loss: np.ndarray, table: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Networks as whole numbers, uint64, that sort by loss, given as `ordered_bits`: nothing has to be looked up then."""
    upper, middle = loss.astype(np.uint64) << np.uint64(32), table.astype(np.uint64) << np.uint64(8)
    return np.asarray(upper | middle | group.astype(np.uint64))


def _unpacked(numbers: np.ndarray) -> Networks:
    lower = numbers.astype(np.uint32)
    return Networks((numbers >> np.uint64(32)).astype(np.uint32), lower >> np.uint32(8), lower & np.uint32(255))


def first_of(order: np.ndarray, tries: int, total: int) -> np.ndarray:
    """Sorted `packed` networks without those behind which the best of so many tries is next to never, of a total of them."""
    kept = places_that_count(tries, total)
    if kept >= len(order):
        return order
    # Networks with one loss stay together, and none is left out that counts.
    last = (order[kept] >> np.uint64(32)) + np.uint64(1)
    return order if last > _LOWER else order[: int(np.searchsorted(order, last << np.uint64(32)))]


def places_that_count(tries: int, total: int) -> int:
    """How many of so many networks have to be in order by loss: what is behind them is best with a probability of NEGLIGIBLE."""
    return min(math.ceil(total * (1 - NEGLIGIBLE ** (1 / tries))) + 1, total)


def ordered_bits(loss: np.ndarray) -> np.ndarray:
    """float32 as uint32 in the same order, 0 and -0 as one."""
    bits = (np.asarray(loss, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def best_of_laws(order: Iterable[np.ndarray], tries: int, members: np.ndarray) -> np.ndarray:
    """The laws of the tables under the best of so many tries by loss, float64[1 + groups, T].

    Of all networks the law is exact. Without a group it is for up to EXACT networks; of more, a network's place among those
    of the other groups is taken at the middle of some neighbours, which moves limits of intervals by less than 1e-6.

    Args:
        order: sorted `packed` networks: all, or those without which the rest weighs nothing worth to count; in pieces that
            follow one another, each with all networks of its losses. Only one is held at a time.
        tries: K, 1 or more.
        members: networks with each table by group, of all M, [T, groups].

    Returns:
        The law of all networks, and of those outside of each group; where a group has all, that of all. What is not in the
        order shares what is left by its number.
    """
    total = members.sum() - np.concatenate([[0], members.sum(axis=0)])
    law, left, seen = (_laws_one_by_one if total[0] <= EXACT else _laws_by_neighbours)(order, tries, members, total)
    rest = members - seen
    rest = np.concatenate([rest.sum(axis=1, keepdims=True), rest.sum(axis=1, keepdims=True) - rest], axis=1)
    law += rest / np.maximum(rest.sum(axis=0), 1) * left
    laws = np.ascontiguousarray(law.T)
    laws[total == 0] = laws[0]
    return laws


def _laws_one_by_one(
    pieces: Iterable[np.ndarray], tries: int, members: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The laws [T, 1 + groups] of what is in the order, the probability of what is behind it, [1 + groups], and networks in the
    order with each table by group, [T, groups]."""
    order, groups = np.concatenate([np.zeros(0, np.uint64), *pieces]), members.shape[1]
    seen = _by_table_and_group(order.view(np.int64) & _LOWER, None, members.shape)
    law = np.zeros((len(members), 1 + groups))
    scale, left = 1 / np.maximum(total, 1), np.ones(1 + groups)
    share = np.ones((1, 1 + groups))
    for part in _blocks(order):
        table, size, number, tied = _stretches(part, groups)
        # The share of networks that are behind a stretch, in all and outside of each group.
        behind = (np.cumsum(number, axis=0) - np.cumsum(size)[:, None]) * scale
        behind += left
        left = behind[-1].copy()
        share = np.concatenate([share[-1:], power(behind, tries)])
        weight = share[:-1] - share[1:]
        if len(tied):
            _share_ties(weight, size[:, None] - number, tied)
        _add_rows(law, table, weight)
    return law, share[-1], seen


def _laws_by_neighbours(
    pieces: Iterable[np.ndarray], tries: int, members: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_laws_one_by_one`. Each network's own weight is exact; how leaving out a group changes it is told for neighbours
    together, and that is the same for all of them but for a few places in millions."""
    tables, groups = members.shape
    size = max(NEIGHBOURS, int(total[0]) >> 12)
    law, before = np.zeros((tables, 1 + groups)), np.zeros(1 + groups, np.int64)
    own, seen = np.zeros((tables, groups)), np.zeros((tables, groups), np.int64)
    sums = {"before": before, "law": law, "own": own, "seen": seen}
    used = compiled.library(int(total[0]))
    for keys in itertools.chain.from_iterable(_cuts(piece, size * max(_PIECE // size, 1)) for piece in pieces):
        if used is not None:
            compiled.add_laws(used, keys, size, tries, total, sums)
        else:
            _add_laws(keys, size, tries, total, sums)
    law[:, 1:] -= own
    left = power(1 - before / np.maximum(total, 1), tries)
    with np.errstate(invalid="ignore", divide="ignore"):
        law *= np.where(total > 0, (1 - left) / law.sum(axis=0), 1)
    return law, left, seen


def _add_laws(keys: np.ndarray, size: int, tries: int, total: np.ndarray, sums: dict[str, np.ndarray]) -> None:
    """Add sorted networks to the sums: before [1 + groups], law [T, 1 + groups], own and seen [T, groups]. Each network's own weight
    goes into `own` with what leaving out its group changes, which `law` has of all networks."""
    before, law, own, seen = (sums[name] for name in ("before", "law", "own", "seen"))
    tables, groups = own.shape
    count = len(keys)
    loss, lower = (keys >> np.uint64(32)).astype(np.uint32), keys.view(np.int64) & _LOWER
    edges = np.append(np.flatnonzero(np.concatenate([[True], loss[1:] != loss[:-1]])), count)
    share = power(1 - (before[0] + edges) / total[0], tries)
    weight = share[:-1] - share[1:]
    if len(weight) < count:
        sizes = np.diff(edges)
        weight = np.repeat(weight / sizes, sizes)
    block, blocks = np.arange(count) // size, (count - 1) // size + 1
    there = (lower & 255) + block * (groups + 1) + 1
    number = np.bincount(there, minlength=blocks * (groups + 1)).reshape(blocks, -1)
    ends = before + np.cumsum(number.sum(axis=1, keepdims=True) - number, axis=0)
    middle = (np.concatenate([before[None], ends[:-1]]) + ends) / 2 / np.maximum(total, 1)
    change = ((1 - middle) / (1 - middle[:, :1])) ** (tries - 1) * (total[0] / np.maximum(total, 1))
    law += np.bincount((lower >> 8) + block * tables, weight, blocks * tables).reshape(blocks, tables).T @ change
    seen += _by_table_and_group(lower, None, seen.shape)
    weight *= change.reshape(-1)[there]
    own += _by_table_and_group(lower, weight, own.shape)
    before[:] = ends[-1]


def _by_table_and_group(lower: np.ndarray, weight: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """How many networks, or what weight, each table [T, groups] has; `lower` is the lower half of `packed` networks."""
    return np.bincount(lower, weight, shape[0] << 8).reshape(-1, 256)[:, : shape[1]]


@np.errstate(under="ignore")
def power(base: np.ndarray, exponent: int) -> np.ndarray:
    """A whole power, 1 or more, by repeated squares; the base is used up."""
    found: np.ndarray | None = None
    while True:
        if exponent & 1:
            found = base.copy() if found is None else np.multiply(found, base, out=found)
        exponent >>= 1
        if not exponent:
            assert found is not None
            return found
        base *= base


def _share_ties(weight: np.ndarray, kept: np.ndarray, tied: np.ndarray) -> None:
    """Share out the weights [S, 1 + groups] of stretches of one loss by how many networks each has; `tied` has one number per
    loss for the stretches that have another of the same loss beside them, and -1 for others."""
    rows = np.flatnonzero(tied >= 0)
    first = np.flatnonzero(np.diff(tied[rows], prepend=-1))
    sizes = np.diff(first, append=len(rows))
    together = np.add.reduceat(weight[rows], first, axis=0) / np.maximum(np.add.reduceat(kept[rows], first, axis=0), 1)
    weight[rows] = np.repeat(together, sizes, axis=0) * kept[rows]


def _blocks(order: np.ndarray) -> Iterator[Networks]:
    return map(_unpacked, _cuts(order, _BLOCK))


def _cuts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut where the loss changes, so many networks each, and more where losses are equal."""
    starts = order[size::size] >> np.uint64(32) << np.uint64(32)
    found = np.unique(np.searchsorted(order, starts))
    for start, stop in itertools.pairwise([0, *found[found > 0].tolist(), len(order)]):
        if stop > start:
            yield order[start:stop]


def _stretches(part: Networks, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stretches of networks with one table: the table, how many networks, and by group [S, 1 + groups], with 0 in front; then
    what `_share_ties` takes, or nothing where no loss has two tables."""
    table, group = part.table, part.group
    other = np.concatenate([[True], table[1:] != table[:-1]])
    new_loss = np.concatenate([[True], part.loss[1:] != part.loss[:-1]])
    mixed_at = np.flatnonzero(other & ~new_loss)
    tied = np.zeros(0, np.int64)
    if len(mixed_at):
        tie = np.cumsum(new_loss) - 1
        mixed = np.zeros(tie[-1] + 1, bool)
        mixed[tie[mixed_at]] = True
        inside = mixed[tie]
        place = np.flatnonzero(inside)
        ordered = place[np.lexsort((table[place], tie[place]))]
        table, group = table.copy(), group.copy()
        table[place], group[place] = table[ordered], group[ordered]
        # Such networks are in stretches of their own, whatever is beside them.
        other = np.concatenate([[True], table[1:] != table[:-1]])
        other |= new_loss & (inside | np.concatenate([[False], inside[:-1]]))
        tied = np.where(inside, tie, -1)[other]
    start = np.flatnonzero(other)
    place = (np.cumsum(other) - 1) * (groups + 1) + group + 1
    number = np.bincount(place, minlength=len(start) * (groups + 1)).reshape(-1, groups + 1)
    return table[start], np.diff(start, append=len(table)), number, tied


def _add_rows(sums: np.ndarray, place: np.ndarray, rows: np.ndarray) -> None:
    """Add rows to the rows of these places, of which several may be the same."""
    order = np.argsort(place, kind="stable")
    sorted_place = place[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_place[1:] != sorted_place[:-1]]))
    sums[sorted_place[first]] += np.add.reduceat(rows[order], first, axis=0)
