"""What a report has drawn of a run's laws, as plain data, and where figures are put. `drawing` has who draws it, `figures` how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ncsim import signals
from ncsim.formatting import counted

if TYPE_CHECKING:  # what draws needs none of a storage's libraries, of which one starts a thread
    from ncsim.statistics.intervals import Estimate
    from ncsim.statistics.lattice_law import LatticeLaw
    from ncsim.statistics.protocols import Protocol, ProtocolLaw
    from ncsim.storage.files import Storage

#: Cells that have a place of their own on an axis; of more, a panel is a map, as wide as one of so many.
MOST_PLACES = 12


@contextlib.contextmanager
def stored_figures(storage: Storage) -> Iterator[Path]:
    """A folder to draw in. What is there at the end is stored in figures/, so that a figure is there whole or not at all, also
    in an object store. Raises OSError."""
    with signals.scratch("ncsim-") as drawn:
        yield drawn
        for path in sorted(drawn.iterdir()):
            storage.write(f"figures/{path.name}", path.read_bytes())


def dots_label(runs: Sequence[Sequence[np.ndarray]]) -> str:
    """How many runs are drawn as dots in each place of any panel. A single shot has fewer where fewer members are whole.

    Args:
        runs: [protocol][ensemble] or the other way round, S of the runs.
    """
    counts = {len(dots) for each in runs for dots in each}
    most = max(counts)
    return f"{'up to ' if len(counts) > 1 else ''}{counted(most, 'run')}"


class PlottedLaw(NamedTuple):
    """What is drawn of a protocol's law. Its numbers are made where they are told, since sums of arrays that lie elsewhere in memory may
    have other last digits."""

    protocol: Protocol
    law: LatticeLaw
    mean: Estimate
    correlators: list[Estimate]

    @classmethod
    def of(cls, law: ProtocolLaw) -> Self:
        """That of a `ProtocolLaw`."""
        return cls(law.protocol, law.law, law.mean, law.correlators)


class Pictures(NamedTuple):
    """What is drawn of laws, [protocol][cell], of the cells that have them.

    Attributes:
        laws: of S.
        dots: S of some runs.
        labels: of the cells.
        axis_label: what tells cells apart.
        numbers: of the cells, in the run.
        names: of the files: of the runs with their laws, and of the means.
    """

    laws: list[list[PlottedLaw]]
    dots: list[list[np.ndarray]]
    labels: list[str]
    axis_label: str
    numbers: list[int]
    names: tuple[str, str]

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it, with each digit of its numbers."""
        laws = [
            [
                {"protocol": [law.protocol.kind, law.protocol.tries], "rows": law.law.rows, "mean": law.mean}
                | {"probabilities": law.law.probabilities.tolist(), "correlators": law.correlators}
                for law in each
            ]
            for each in self.laws
        ]
        dots = [[np.asarray(cell).tolist() for cell in each] for each in self.dots]
        return self._asdict() | {"laws": laws, "dots": dots}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`."""
        from ncsim.statistics.intervals import Estimate
        from ncsim.statistics.lattice_law import LatticeLaw
        from ncsim.statistics.protocols import Protocol

        def law(given: Mapping[str, Any]) -> PlottedLaw:
            return PlottedLaw(
                Protocol(*given["protocol"]),
                LatticeLaw(given["rows"], np.array(given["probabilities"])),
                Estimate(*given["mean"]),
                [Estimate(*each) for each in given["correlators"]],
            )

        laws = [[law(each) for each in protocol] for protocol in plain["laws"]]
        dots = [[np.array(each, float) for each in protocol] for protocol in plain["dots"]]
        return cls(laws, dots, *(plain[name] for name in cls._fields[2:]))
