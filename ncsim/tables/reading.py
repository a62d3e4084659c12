"""Anybody's table of joint outcomes, from a CSV file.

Two forms are read. One row per cell: columns `alice`, `bob` (settings), `a`, `b` (outcomes), and `count` or `probability`.
Or one row per context: columns `alice`, `bob`, `++`, `+-`, `-+`, `--`. Lines that begin with # are comments. Of outcomes that are
signs, numbers or truth values the larger is +1; of others the one that is named first, and Bob's of the same names are as Alice's. Names
are the same where they are written differently alone: 1 and 1.0, True and TRUE. S has its minus where both have their second setting, in
the order in which the file names them.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.errors import DataError, reason
from ncsim.formatting import counted as number_of
from ncsim.formatting import decimals_of
from ncsim.statistics.rationals import EXACT

PAIRS = ("++", "+-", "-+", "--")
CELLS = ("alice", "bob", "a", "b")
#: The first rows of the two forms.
FORMS = ([*CELLS, "count"], [*CELLS, "probability"], ["alice", "bob", *PAIRS])
#: A file is read whole.
MAX_BYTES = 10**7
#: How far published probabilities of a context may be from adding up to 1, by their rounding.
ROUNDING = 0.005
#: What outcomes are called that are numbers in other words. U+2212 and U+2013 are signs of minus that word processors write.
WORDS = {"+": 1.0, "-": -1.0, "true": 1.0, "false": 0.0}
MINUS = str.maketrans("\u2212\u2013", "--")


@dataclass(frozen=True, eq=False)
class JointTable:
    """Joint outcomes of two parties: how often, or how probable, in each pair of settings.

    Attributes:
        alice: names of Alice's settings, m of them.
        bob: names of Bob's settings.
        outcomes: names of Alice's and of Bob's outcomes; the first is +1 where there are two.
        values: counts or probabilities, [alice setting, bob setting, alice outcome, bob outcome], outcomes as named.
        counted: whether they are counts.
        decimals: of probabilities from a file, how many stand there at least; None: nothing was rounded.
        rounding: how far a mean or a correlator may be off if each cell was rounded to the decimals that it has.

    Example:
        >>> import numpy as np
        >>> table = JointTable(("A1", "A2"), ("B1", "B2"), (("+", "-"), ("+", "-")), np.full((2, 2, 2, 2), 5), True)
        >>> float(table.joint_counts.sum())
        80.0
        >>> table.chosen(["A2", "A1"], None).alice
        ('A2', 'A1')
    """

    alice: tuple[str, ...]
    bob: tuple[str, ...]
    outcomes: tuple[tuple[str, ...], tuple[str, ...]]
    values: np.ndarray
    counted: bool
    decimals: int | None = None
    rounding: float = 0.0

    @property
    def joint_counts(self) -> np.ndarray:
        """The table as ncsim's functions take it: outcome 1 is the one named first.

        Raises:
            ValueError: not two outcomes each.
        """
        if self.values.shape[2:] != (2, 2):
            raise ValueError(f"outcomes: {self.values.shape[2]} and {self.values.shape[3]}; allowed: two each")
        return self.values[..., ::-1, ::-1]

    def chosen(self, alice: Sequence[str] | None, bob: Sequence[str] | None) -> JointTable:
        """Some settings alone, in this order, which decides where S has its minus.

        Args:
            alice: names of Alice's settings; None: all, as they are.
            bob: names of Bob's.

        Raises:
            DataError: a name that is no setting, or twice.
        """
        places = []
        for party, names, wanted in (("alice", self.alice, alice), ("bob", self.bob, bob)):
            wanted = names if wanted is None else tuple(wanted)
            for name in wanted:
                if name not in names or wanted.count(name) > 1:
                    raise DataError(f"--{party}: {name}; allowed: each of {', '.join(names)} once")
            places.append([names.index(name) for name in wanted])
        kept = [tuple(own[n] for n in chosen) for own, chosen in zip((self.alice, self.bob), places, strict=True)]
        return replace(self, alice=kept[0], bob=kept[1], values=self.values[np.ix_(*places)])


def read_table(file: str | os.PathLike[str]) -> JointTable:
    """A table from a CSV file.

    Args:
        file: its path; the module's docstring has the two forms.

    Returns:
        See `JointTable`.

    Raises:
        DataError: the file cannot be read or is no such table, in one line that names the row.

    Source: the outcomes' order as in arXiv:2511.21731, where the outcome named first is +1. Signs and numbers are as they are everywhere.

    Example:
        >>> from pathlib import Path
        >>> file = Path(__import__("tempfile").mkdtemp()) / "table.csv"
        >>> _ = file.write_text("alice,bob,++,+-,-+,--\\nA,B,4,0,0,4\\nA,B',4,0,0,4\\nA',B,4,0,0,4\\nA',B',0,4,4,0\\n")
        >>> read_table(file).alice
        ('A', "A'")
    """
    header, rows = _rows(file := Path(file))
    if header == FORMS[2]:
        cells = [(n, row[:2], list(pair), value) for n, row in rows for pair, value in zip(PAIRS, row[2:], strict=True)]
    else:
        cells = [(n, row[:2], row[2:4], row[4]) for n, row in rows]
    return _table(file, cells, {"probability": True, "count": False}.get(header[-1]))


def _rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with the number of its line."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            text = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({reason(error)})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: cannot be read (not UTF-8)") from None
    if len(text) > MAX_BYTES:
        raise DataError(f"{file}: more than {MAX_BYTES} characters; allowed: a table of joint outcomes")
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                rows.append((number, [cell.strip() for cell in next(csv.reader([line]))]))
            except csv.Error:
                words = f"a cell of more than {csv.field_size_limit():,} characters; allowed: names and numbers"
                raise DataError(f"{file}: row {number} has {words}") from None
    if len(rows) < 2:
        raise DataError(f"{file}: {number_of(len(rows), 'row')}; allowed: a first row of names and at least one other")
    (_, header), *rest = rows
    if header not in FORMS:  # before rows are counted: with semicolons, decimal commas are cells
        allowed = " or ".join(map(",".join, FORMS))
        raise DataError(f"{file}: its first row is {','.join(header)}; allowed: {allowed}")
    for number, row in rest:
        if len(row) != len(header):
            raise DataError(
                f"{file}: row {number} has {number_of(len(row), 'cell')}; allowed: {len(header)}, as the first row"
            )
    return header, rest


def _table(file: Any, cells: list[tuple[int, list[str], list[str], str]], probable: bool | None) -> JointTable:
    names: list[dict[str, int]] = [{}, {}, {}, {}]
    found: dict[tuple[int, ...], tuple[float, int]] = {}
    for number, settings, outcomes, word in cells:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"{file}: row {number}: {word!r}; allowed: a number, 0 or above")
        cell = (*settings, *outcomes)
        if "" in cell:
            raise DataError(
                f"{file}: row {number}: a setting or outcome without a name; allowed: a name in each column"
            )
        place = tuple(known.setdefault(name, len(known)) for known, name in zip(names, cell, strict=True))
        if place in found:
            raise DataError(f"{file}: row {number}: {', '.join(cell)} stands there twice; allowed: once")
        found[place] = (value, number)
    shape = tuple(map(len, names))
    for party, known in (("Alice", names[2]), ("Bob", names[3])):
        if len(known) < 2:
            raise DataError(f"{file}: {party} has one outcome alone ({', '.join(known)}); allowed: two or more")
    values = np.full(shape, np.nan)
    for place, (value, _) in found.items():
        values[place] = value
    labels = tuple(tuple(known) for known in names)
    missing = np.argwhere(np.isnan(values))
    if len(missing):
        lacking = ", ".join(labels[axis][n] for axis, n in enumerate(missing[0]))
        raise DataError(f"{file}: no row of {lacking}; allowed: every outcome in every pair of settings")
    joint = _adding_up(file, values, labels, found, probable)
    decimals = dict(zip(found, (decimals_of(word) for *_, word in cells), strict=True))
    return joint if joint.counted else _rounded(joint, decimals, values)


def _rounded(joint: JointTable, decimals: dict[Any, int], values: np.ndarray) -> JointTable:
    """What the decimals of probabilities leave open: half of the last one that each cell has, and what a context lacks of 1."""
    fewest = min((number for number in decimals.values() if number > 0), default=0)
    if not fewest:
        return joint  # fixed answers: nobody rounds a probability to 0 or 1
    off = np.abs(1 - values.sum(axis=(2, 3)))
    for place, number in decimals.items():  # beside others, 0 and 1 may be rounded, too
        off[place[:2]] += 0.5 * 10.0 ** -(number if number > 0 else fewest)
    return replace(joint, decimals=fewest, rounding=float(off.max()))


def _meanings(names: tuple[str, ...]) -> dict[float | str, str]:
    """A party's outcomes by what they say, in their order: numbers as numbers, words in small letters. Tables of pandas, polars and R
    write one outcome as 1, 1.0, True, true and TRUE. Where two would say the same, each is what is written."""
    found: dict[float | str, str] = {}
    for name in names:
        plain = name.translate(MINUS).casefold()
        try:
            number = WORDS[plain] if plain in WORDS else float(plain)
        except ValueError:
            number = math.nan
        found[number if math.isfinite(number) else plain] = name
    return found if len(found) == len(names) else {name: name for name in names}


def _ordered(alice: tuple[str, ...], bob: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outcomes with the one that is +1 first: numbers as they are, and the same names in the same order for both parties. The order of
    a file's rows would else turn one party's answers, and with them the sign of S."""
    first, second = _meanings(alice), _meanings(bob)
    order = _order(first)
    other = order if first.keys() == second.keys() else _order(second)
    return tuple(first[each] for each in order), tuple(second[each] for each in other)


def _order(names: dict[float | str, str]) -> list[float | str]:
    """Of two numbers the larger first, whatever the order of rows; else as the file has them."""
    numbers = [each for each in names if isinstance(each, float)]
    return sorted(numbers, reverse=True) if len(names) == len(numbers) == 2 else list(names)


def _adding_up(file: Any, values: np.ndarray, labels: Any, found: Any, probable: bool | None) -> JointTable:
    """Counts are whole numbers, probabilities add up to 1 in each context. Columns that do not say which they are (None) are
    probabilities where each context adds up to 1."""
    totals = values.sum(axis=(2, 3))
    whole = bool(np.all(values == np.floor(values)))
    counted = whole and not probable and not (probable is None and np.all(totals == 1))
    for i, j in np.ndindex(*totals.shape):
        number = min(n for place, (_, n) in found.items() if place[:2] == (i, j))
        where = f"{file}: row {number}: {labels[0][i]}, {labels[1][j]}"
        if totals[i, j] == 0:
            raise DataError(f"{where} has no items; allowed: 1 or more")
        if not counted and abs(totals[i, j] - 1) > ROUNDING + 1e-9:
            raise DataError(
                f"{where} adds up to {totals[i, j]:g}; allowed: whole counts, or probabilities that add up to 1"
            )
    if counted and values.sum() >= EXACT:
        raise DataError(f"{file}: {values.sum():.6g} items; allowed: fewer than 2^53 in all, or probabilities")
    if not counted:
        values = values / totals[..., None, None]
    outcomes = _ordered(labels[2], labels[3])
    order = [[labels[2 + party].index(name) for name in outcomes[party]] for party in (0, 1)]
    return JointTable(labels[0], labels[1], outcomes, values[:, :, order[0]][..., order[1]], counted)
