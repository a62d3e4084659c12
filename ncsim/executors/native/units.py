"""Which hidden units of a wide network do the same, and a small network that has some of each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.errors import ConfigError
from ncsim.executors.native.places import Kind, Places
from ncsim.executors.scalarise import ScalariseError
from ncsim.training.initialization import vector_size
from ncsim.training.network import Architecture

#: Units of a kind in the small network: two, so that they can be compared.
ALIKE = 2


def small(config: EnsembleConfig) -> EnsembleConfig:
    """The narrowest config whose network has each kind of unit of `config`'s, if it can ALIKE times.

    Raises:
        ScalariseError: there is none.
    """
    wanted = _units(config)
    for hidden in range(1, 4 * ALIKE):
        for shared in range(hidden + 1) if config.topology == "overlap" else [config.shared]:
            try:
                candidate = dataclasses.replace(config, hidden=hidden, shared=shared)
            except ConfigError:  # too narrow for the rest of the config
                continue
            found = _units(candidate)
            if found.keys() == wanted.keys() and all(
                len(found[kind]) >= min(len(units), ALIKE) for kind, units in wanted.items()
            ):
                return candidate
    raise ScalariseError("no small network has the same kinds of unit")


def _units(config: EnsembleConfig) -> dict[bytes, list[int]]:
    """The units by what they are connected with."""
    there = Architecture.of(config).connections()
    found: dict[bytes, list[int]] = {}
    for unit in range(Architecture.of(config).hidden):
        found.setdefault(there.hidden_kernel[:, unit].tobytes() + there.head_kernel[:, :, unit].tobytes(), []).append(
            unit
        )
    return found


def places(config: EnsembleConfig, little: EnsembleConfig, arrays: Sequence[int]) -> Places:
    """Where the carry of `little`'s step, arrays of these sizes, lies in that of `config`'s.

    Raises:
        ScalariseError: units that do the same do not stand together.
    """
    wide, narrow = Architecture.of(config), Architecture.of(little)
    unit: list[int | None] = []
    base: list[int] = []
    start = 0
    for size in arrays:
        rest = size
        if size >= narrow.size:
            for name, shape in wide.shapes._asdict().items():
                count, width = int(np.prod(shape)), wide.hidden
                if name == "head_bias":  # the one tensor of no unit
                    unit += [None] * count
                    base += range(start, start + count)
                else:
                    unit += list(range(narrow.hidden)) * (count // width)
                    base += [start + row * width for row in range(count // width) for _ in range(narrow.hidden)]
                start += count
            rest -= narrow.size
        unit += [None] * rest
        base += range(start, start + rest)
        start += rest
    kinds, few = [], _units(little)
    for pattern, units in _units(config).items():
        if units != list(range(units[0], units[0] + len(units))):
            raise ScalariseError("units of one kind do not stand together")
        kinds.append(Kind(tuple(few[pattern]), units[0], len(units)))
    array = [number for number, size in enumerate(arrays) for _ in range(size)]
    return Places(unit, base, array, vector_size(config), start, wide.hidden, kinds)
