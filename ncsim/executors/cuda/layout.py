"""How a wide network lies in the threads that share it."""

from __future__ import annotations

from typing import NamedTuple

from ncsim.executors.native.places import Kind, Places
from ncsim.executors.scalarise import ScalariseError

#: Units of a thread, at most: what is kept of so many, and of the rows, fits its registers.
UNITS = 4
#: Threads of a team, at most: those of a warp, which can shuffle.
MOST_THREADS = 32


class Team(NamedTuple):
    """How a network lies in the threads that share it."""

    threads: int  # a power of two
    wide: Places  # in the state in memory
    local: Places  # in what one thread has


def team(wide: Places) -> Team:
    """The smallest team for a network.

    Raises:
        ScalariseError: it has more units than a warp has places for.
    """
    threads = 1
    while sum(-(-kind.width // threads) for kind in wide.kinds) > UNITS:
        threads *= 2
        if threads > MOST_THREADS:
            raise ScalariseError(f"{wide.units} units are more than {MOST_THREADS} threads have registers for")
    return Team(threads, wide, _local(wide, threads))


def _local(wide: Places, threads: int) -> Places:
    """The places of one thread's share: unit u of a kind is thread u % threads' unit u // threads."""
    kinds, first = [], 0
    for kind in wide.kinds:
        width = -(-kind.width // threads)
        kinds.append(Kind(kind.small, first, width))
        first += width
    found: dict[int, int] = {}
    slots = size = 0
    for unit, base in zip(wide.unit, wide.base, strict=True):
        if base not in found:
            found[base] = slots
            slots += 1 if unit is None else first
        if base < wide.size:
            size = slots
    return Places(wide.unit, [found[base] for base in wide.base], wide.leaf, size, slots, first, kinds)
