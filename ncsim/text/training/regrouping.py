"""Other groups for what is left of a run that is taken up with another number of adapters at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ncsim.text.records import AdapterId
from ncsim.text.training.finetune import grouped


class Regrouped(NamedTuple):
    """The groups of a run, anew."""

    staying: list[tuple[AdapterId, ...]]  # those of before, empty where a group is dissolved
    new: list[tuple[AdapterId, ...]]  # their numbers come behind those
    moved: dict[int, tuple[int, Sequence[int]]]  # by new group that has begun: the old one, and places there


def regrouped(
    groups: Sequence[tuple[AdapterId, ...]], complete: Sequence[bool], begun: Sequence[bool], size: int
) -> Regrouped | None:
    """Groups of at most `size` adapters; None where they are what they were.

    Complete groups stay. Those in training are divided where they are more. All other adapters are grouped anew.

    Args:
        groups: all of them, empty where one was dissolved before.
        complete: whether each is.
        begun: whether each has a checkpoint.
        size: 1 or more.
    """
    staying: list[tuple[AdapterId, ...]] = []
    divided: list[tuple[AdapterId, ...]] = []
    moved: dict[int, tuple[int, Sequence[int]]] = {}
    waiting: list[AdapterId] = []
    for n, group in enumerate(groups):
        stays = complete[n] or (begun[n] and len(group) <= size)
        staying.append(group if stays else ())
        if begun[n] and not stays:
            for first in range(0, len(group), size):
                moved[len(groups) + len(divided)] = n, range(first, min(first + size, len(group)))
                divided.append(group[first : first + size])
        elif not stays:
            waiting += group
    new = [*divided, *grouped(waiting, size)]
    before = [group for n, group in enumerate(groups) if group and not staying[n]]
    return None if new == before else Regrouped(staying, new, moved)
