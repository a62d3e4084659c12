"""Where the state of a small network, which has a few units of each kind, lies in that of a wide one."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """Units that do the same: in the small network, and in the wide one."""

    small: tuple[int, ...]
    first: int
    width: int


class Places(NamedTuple):
    """Where the small network's carry lies in the wide one's.

    `unit[n]`: the unit of carry n, or None where it is of the network; `base[n]`: its place in the wide carry, of unit 0
    where it has a unit; `leaf[n]`: the array that it is an element of."""

    unit: list[int | None]
    base: list[int]
    leaf: list[int]
    size: int  # of the wide network's vector
    slots: int  # of its carry
    units: int
    kinds: list[Kind]
