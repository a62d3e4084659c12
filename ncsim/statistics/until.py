"""What a run is to reach: a number of the report, by the name that it has there, and how precise it is to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ncsim.config.ensemble import EnsembleConfig, field_specs, swept_fields
from ncsim.config.fields import shown, spelled_values
from ncsim.config.tasks import context_names
from ncsim.errors import ConfigError
from ncsim.statistics.cell import Cell
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, TSIRELSON, Protocol, ProtocolLaw

_Number = Callable[[Cell], Estimate]


def _numbers() -> dict[str, _Number]:
    """The numbers that can be asked for, by the name that a report gives them."""
    found: dict[str, _Number] = {
        "S > 2, of members": Cell.members_above_2,
        "Delta > 0, of members": Cell.members_contextual,
        "P(Delta > 0)": Cell.members_contextual,
    }
    found |= {f"solved, context {name}": _solved(number) for number, name in enumerate(context_names())}
    of_law: dict[str, Callable[[ProtocolLaw], Estimate]] = {
        "mean S": lambda law: law.mean,
        "P(S > 2)": lambda law: law.above(2.0),
        "P(S > 2.828)": lambda law: law.above(TSIRELSON),
    }
    for protocol in STANDARD_PROTOCOLS:
        for name, number in of_law.items():
            found[f"{name}, {protocol.label}"] = _of_law(protocol, number)
            if protocol.is_single_shot:
                found[name] = found[f"{name}, {protocol.label}"]
    return found


def _solved(context: int) -> _Number:
    return lambda cell: clopper_pearson(*cell.solved_fraction(context))


def _of_law(protocol: Protocol, number: Callable[[ProtocolLaw], Estimate]) -> _Number:
    return lambda cell: number(ProtocolLaw(protocol, cell))


def whole_names() -> list[str]:
    """The names of all numbers, each once and with its protocol."""
    short = {name.rpartition(", ")[0] for name in NUMBERS if name.endswith(f", {STANDARD_PROTOCOLS[0].label}")}
    return [name for name in NUMBERS if name not in short and name != "P(Delta > 0)"]


def numbers_of(cell: Cell) -> dict[str, Estimate]:
    """All numbers of a cell by their whole names; none where no network is left."""
    return {name: NUMBERS[name](cell) for name in whole_names()} if cell.networks else {}


def _plain(name: str) -> str:
    return re.sub(r"[\s,]|context", "", name).lower()


NUMBERS = _numbers()
_BY_PLAIN = {_plain(name): name for name in NUMBERS}
_PRECISION = re.compile(r"(.+?)(?:\+-|\+/-|±)\s*([0-9.]+(?:[eE]-?[0-9]+)?)\s*")
# A value is a word, or options of an optimizer: pairs with commas between, up to what is a field again.
_OPTION = rf"(?!(?:{'|'.join(field_specs())})\b)\w+\s*=\s*[^,=\s]+"
_CELL = re.compile(rf",\s*(\w+)\s*=\s*({_OPTION}(?:\s*,\s*{_OPTION})*|[^,=]+?)\s*(?=,|$)")


@dataclass(frozen=True)
class Until:
    """A number of the report, and how precise it is to be.

    Attributes:
        number: its name, one of NUMBERS.
        precision: how far its interval may reach from it.
        cell: values of swept fields, as words; every cell that has them is to be precise.

    Example:
        >>> Until.parse("P(S>2), best of 20 by loss, hidden=3 +- 0.002")
        Until(number='P(S > 2), best of 20 by loss', precision=0.002, cell=(('hidden', '3'),))
        >>> str(Until.parse("solved 22 +- 0.01"))
        'solved, context 22 +- 0.01'
    """

    number: str
    precision: float
    cell: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, words: str) -> Until:
        """What words ask for: NUMBER[, PROTOCOL][, FIELD=VALUE ...] +- PRECISION.

        Raises:
            ConfigError: they ask for nothing that can be had.
        """
        problem = f"--until: {shown(words)}"
        found = _PRECISION.fullmatch(words.strip()) if isinstance(words, str) else None
        if found is None:
            raise ConfigError(f'{problem}; allowed: a number and how precise it is to be, as "P(S > 2) +- 0.002"')
        cell = tuple(_CELL.findall(found[1].strip()))
        if len(dict(cell)) != len(cell):
            raise ConfigError(f"{problem}; allowed: a field once, and one value of it")
        number = _BY_PLAIN.get(_plain(_CELL.sub("", found[1].strip())))
        if number is None:
            names = [name for name in NUMBERS if not name.endswith(tuple(f", {p.label}" for p in STANDARD_PROTOCOLS))]
            labels = ", ".join(protocol.label for protocol in STANDARD_PROTOCOLS)
            raise ConfigError(
                f"{problem}; no such number; allowed: {'; '.join(names)}; after mean S and P(S > ...) also a comma and a "
                f"protocol: {labels}"
            )
        largest = 4.0 if number.startswith("mean S") else 0.5
        try:
            precision = float(found[2])
        except ValueError:
            precision = 0.0
        if not 0 < precision <= largest:
            raise ConfigError(f"{problem}; allowed after +-: a number above 0, and at most {largest:g}")
        return cls(number, precision, cell)

    def __str__(self) -> str:
        cell = "".join(f", {name}={value}" for name, value in self.cell)
        short = f"{self.precision:g}"
        # What is trained for is read from these words again: more than six digits are not to be rounded.
        return f"{self.number}{cell} +- {short if float(short) == self.precision else repr(float(self.precision))}"

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest value that the number can have."""
        return (-4.0, 4.0) if self.number.startswith("mean S") else (0.0, 1.0)

    def refuse_shares(self, option: str) -> None:
        """Raise a ConfigError: one of several processes that train a run does not see how precise it is by then."""
        raise ConfigError(f"--until: {self} with {option}; allowed: in one process, or with --cluster (pool=)")

    def cells(self, configs: Sequence[EnsembleConfig]) -> list[int]:
        """The cells that are to be precise.

        Raises:
            ConfigError: a field is not swept, or no cell has these values.
        """
        swept, problem = swept_fields(list(configs)), f"--until: {shown(str(self))}"
        for name, _ in self.cell:
            if name not in swept:
                words = f"fields that are swept: {', '.join(swept)}" if swept else "no FIELD=VALUE, as nothing is swept"
                raise ConfigError(f"{problem}; {name} is not swept; allowed: {words}")
        values = [spelled_values({name: getattr(config, name) for name, _ in self.cell}) for config in configs]
        found = [n for n, each in enumerate(values) if each == dict(self.cell)]
        if not found:
            there = "; ".join(f"{name}={', '.join(dict.fromkeys(v[name] for v in values))}" for name, _ in self.cell)
            raise ConfigError(f"{problem}; no cell is so; allowed: {there}")
        return found

    def estimate(self, cell: Cell) -> Estimate | None:
        """The number of a cell; None where no network is there."""
        return NUMBERS[self.number](cell) if cell.networks else None
