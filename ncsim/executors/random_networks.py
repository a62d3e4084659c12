"""What draws random networks: generated C where there is a compiler, else NumPy, with the same bits."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ncsim.errors import ConfigError
from ncsim.training import random_networks
from ncsim.training.random_networks import Keep, RandomLaw, Schedule, Walk


class Drawer:
    """`guess` and `walk` of `ncsim.training.random_networks` for one law, by whatever is fastest here.

    Attributes:
        law: what is drawn.
        language: "C" or "NumPy".
    """

    def __init__(self, law: RandomLaw) -> None:
        self.law, self._library = law, _library(law)
        self.language = "NumPy" if self._library is None else "C"

    def guess(self, state: np.ndarray, steps: int, limit: int, tables: np.ndarray, keep: Keep) -> None:
        """As `random_networks.guess`."""
        if self._library is None:
            random_networks.guess(self.law, state, steps, limit, tables, keep)
            return
        most = keep.vector.shape[1]
        _call(
            self._library.ncsim_guess, state, state.shape[1], steps, _int(limit), tables, keep.vector, keep.count, most
        )

    def walk(
        self,
        walkers: Walk,
        schedule: Schedule,
        ratio: np.ndarray,
        ends: tuple[int, int],
        tables: np.ndarray,
        keep: Keep,
        limit: int = -1,
        every: int = 1,
    ) -> None:
        """As `random_networks.walk`."""
        if self._library is None:
            random_networks.walk(walkers, schedule, ratio, ends, tables, keep, limit, every)
            return
        state, context = walkers.state, walkers.context
        _call(
            self._library.ncsim_walk,
            *(state, walkers.variates, walkers.deep, walkers.trips, state.shape[1], len(schedule.move)),
            *(schedule.move, schedule.reach, _int(context), ratio, _int(ends[0]), _int(ends[1]), tables),
            *(keep.vector[context], keep.count[context : context + 1], keep.vector.shape[1], _int(limit), every),
        )


def _library(law: RandomLaw) -> Any | None:
    from ncsim.c_compiler import compiler, loaded
    from ncsim.executors.native.c_random import source

    if compiler() is None:
        return None
    try:
        return loaded(source(law))
    except ConfigError:  # a compiler that does not know these vectors, or a folder that runs nothing
        return None


_int = ctypes.c_int32


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call C: arrays as their addresses, whole numbers as 64 bits."""
    function.restype = None  # type: ignore[attr-defined]
    function(*map(_argument, arguments))


@functools.singledispatch
def _argument(value: Any) -> Any:
    return value


@_argument.register
def _(value: int) -> Any:
    return ctypes.c_int64(value)


@_argument.register
def _(value: np.ndarray) -> Any:
    assert value.flags.c_contiguous
    return value.ctypes.data_as(ctypes.c_void_p)
