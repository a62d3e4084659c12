"""The precision that a run is to reach: read from words, looked up in a report's numbers, and told in words again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import shown
from ncsim.config.tasks import context_names
from ncsim.errors import ConfigError
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.protocols import STANDARD_PROTOCOLS
from ncsim.statistics.stopping import METHOD
from ncsim.study import cell_values

_Number = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _numbers() -> dict[str, _Number]:
    """The numbers that can be asked for, by the name that a report gives them: each of a cell of summary.json."""
    found: dict[str, _Number] = {
        "S > 2, of members": lambda cell: cell["members_with_s_above_2"],
        "Delta > 0, of members": lambda cell: cell["members_contextual"],
        "P(Delta > 0)": lambda cell: cell["members_contextual"],
    }
    found |= {f"solved, context {name}": _solved(name) for name in context_names()}
    for number, protocol in enumerate(STANDARD_PROTOCOLS):
        of_protocol = {"mean S": "mean_s", "P(S > 2)": "s_above_2", "P(S > 2.828)": "s_above_tsirelson"}
        for name, key in of_protocol.items():
            found[f"{name}, {protocol.label}"] = _of_protocol(number, key)
            if protocol.is_single_shot:
                found[name] = found[f"{name}, {protocol.label}"]
    return found


def _solved(context: str) -> _Number:
    return lambda cell: cell["contexts"][context]["solved"]


def _of_protocol(number: int, key: str) -> _Number:
    return lambda cell: cell["protocols"][number][key]


def _plain(name: str) -> str:
    return re.sub(r"[\s,]|context", "", name).lower()


NUMBERS = _numbers()
_BY_PLAIN = {_plain(name): name for name in NUMBERS}
_PRECISION = re.compile(r"(.+?)(?:\+-|\+/-|±)\s*([0-9.]+(?:[eE]-?[0-9]+)?)\s*")
_CELL = re.compile(r",\s*(\w+)\s*=\s*([^,=]+?)\s*(?=,|$)")


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
        return f"{self.number}{cell} +- {self.precision:g}"

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest value that the number can have."""
        return (-4.0, 4.0) if self.number.startswith("mean S") else (0.0, 1.0)

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
        values = [cell_values(config, swept) for config in configs]
        found = [n for n, each in enumerate(values) if all(_word(each[name]) == value for name, value in self.cell)]
        if not found:
            there = "; ".join(
                f"{name}={', '.join(dict.fromkeys(_word(v[name]) for v in values))}" for name, _ in self.cell
            )
            raise ConfigError(f"{problem}; no cell is so; allowed: {there}")
        return found

    def estimate(self, cell: Mapping[str, Any]) -> Estimate | None:
        """The number in a cell of summary.json; None where no network is there."""
        return None if "note" in cell else Estimate(**NUMBERS[self.number](cell))


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def reached(stored: Mapping[str, Any] | None, cells: Sequence[Mapping[str, Any]], members: int) -> dict[str, Any] | None:
    """What summary.json says of how a run ended: the rule, why it stopped, and its interval in each cell.

    Args:
        stored: what until.json says.
        cells: of summary.json.
        members: that the run asks for in each cell.

    Returns:
        None of a run without a rule, one that has not ended, and one that was extended afterwards.
    """
    if stored is None or stored.get("members") != members:
        return None
    until, intervals = Until.parse(stored["until"]), []
    for number, reach in zip(stored["cells"], stored["reach"], strict=True):
        found = until.estimate(cells[number])
        if found is not None and reach is not None:
            low, high = max(found.value - reach, until.support[0]), min(found.value + reach, until.support[1])
            rule = found._replace(low=low, high=high, method=METHOD)._asdict()
            intervals.append({"cell": cells[number]["cell"], "reach": reach} | rule)
    told = {name: stored[name] for name in ("until", "stopped", "members", "at_most", "looks")}
    return told | {"intervals": intervals}


def until_sentence(told: Mapping[str, Any]) -> str:
    """Why a run stopped, and the rule's interval: of several cells, in the least precise one."""
    members, wanted = told["members"], told["until"]
    if told["stopped"] == "precise":
        why = f"Stopped at {members:,} of at most {told['at_most']:,} members, which are enough for {wanted}."
    else:
        why = f"Stopped at {members:,} members, the most that were allowed, which are not enough for {wanted}."
    if not told["intervals"]:
        return f"{why} No network is there to compute it from."
    least = max(told["intervals"], key=lambda each: each["reach"])
    digits = max(3, 1 - math.floor(math.log10(least["reach"])))
    where = ", ".join(f"{name}={value}" for name, value in least["cell"].items())
    of = f" in the least precise cell, {where}" if len(told["intervals"]) > 1 else ""
    return f"{why} It is {least['value']:.{digits}f} +- {least['reach']:.2g}{of}, {least['level']:.0%} by {METHOD}."
