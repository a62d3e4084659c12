"""Anybody's table of joint outcomes, from a CSV file to everything that is said of an ensemble.

Two forms are read. One row per cell: columns `alice`, `bob` (settings), `a`, `b` (outcomes), and `count` or `probability`.
Or one row per context: columns `alice`, `bob`, `++`, `+-`, `-+`, `--`. Lines that begin with # are comments. Outcomes that
are signs have theirs; of others the one that is named first is +1, and Bob's of the same names are as Alice's. S has its minus
where both have their second setting, in the order in which the file names them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.errors import DataError
from ncsim.formatting import NOTHING, decimals_of, no_less, p_value_text, significant, table
from ncsim.statistics.chsh import SIGNS, chsh_statistics
from ncsim.statistics.contextuality import contextuality_measures
from ncsim.statistics.contextuality_interval import contextuality_interval, s_interval
from ncsim.statistics.inequalities import chained_inequality
from ncsim.statistics.locality_tests import hoeffding_p_value
from ncsim.statistics.quantum import TOLERANCE, quantum_statistics
from ncsim.statistics.rationals import EXACT
from ncsim.statistics.scenarios import MAX_ASSIGNMENTS, chain_statistics, contextual_fraction, largest_difference
from ncsim.statistics.signalling_tests import signalling_tests
from ncsim.statistics.verdicts import EXPLAINED, NOT_SHOWN_TO_EXCEED, verdict

PAIRS = ("++", "+-", "-+", "--")
CELLS = ("alice", "bob", "a", "b")
#: A file is read whole.
MAX_BYTES = 10**7
#: How far published probabilities of a context may be from adding up to 1, by their rounding.
ROUNDING = 0.005
#: Names of outcomes that say themselves which is +1, wherever a file has them first.
SIGNED = (("+", "-"), ("+1", "-1"), ("1", "-1"))


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


def read_table(file: str | Path) -> JointTable:
    """A table from a CSV file.

    Args:
        file: its path; the module's docstring has the two forms.

    Returns:
        See `JointTable`.

    Raises:
        DataError: the file cannot be read or is no such table, in one line that names the row.

    Source: the outcomes' order as in arXiv:2511.21731, where the outcome named first is +1. Signs are as they are everywhere.

    Example:
        >>> from pathlib import Path
        >>> file = Path(__import__("tempfile").mkdtemp()) / "table.csv"
        >>> _ = file.write_text("alice,bob,++,+-,-+,--\\nA,B,4,0,0,4\\nA,B',4,0,0,4\\nA',B,4,0,0,4\\nA',B',0,4,4,0\\n")
        >>> read_table(file).alice
        ('A', "A'")
    """
    header, rows = _rows(Path(file))
    if header == [*CELLS, "count"] or header == [*CELLS, "probability"]:
        cells = [(n, row[:2], row[2:4], row[4]) for n, row in rows]
    elif header == ["alice", "bob", *PAIRS]:
        cells = [(n, row[:2], list(pair), value) for n, row in rows for pair, value in zip(PAIRS, row[2:], strict=True)]
    else:
        raise DataError(
            f"{file}: its first row is {','.join(header)}; allowed: {','.join(CELLS)},count or {','.join(CELLS)},probability "
            f"or alice,bob,{','.join(PAIRS)}"
        )
    return _table(file, cells, {"probability": True, "count": False}.get(header[-1]))


def _rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with the number of its line."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            text = handle.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    if len(text) > MAX_BYTES:
        raise DataError(f"{file}: more than {MAX_BYTES} characters; allowed: a table of joint outcomes")
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            rows.append((number, [cell.strip() for cell in next(csv.reader([line]))]))
    if len(rows) < 2:
        raise DataError(f"{file}: {len(rows)} rows; allowed: a first row of names and at least one other")
    (_, header), *rest = rows
    for number, row in rest:
        if len(row) != len(header):
            raise DataError(f"{file}: row {number} has {len(row)} cells; allowed: {len(header)}, as the first row")
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
    if min(shape[2:]) < 2:
        raise DataError(
            f"{file}: one outcome alone ({', '.join(names[2] | names[3])}); allowed: two or more for each party"
        )
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


def _ordered(alice: tuple[str, ...], bob: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outcomes with the one that is +1 first: signs as they are, and the same names in the same order for both parties. The order of
    a file's rows would else turn one party's answers, and with them the sign of S."""
    first, second = (next((pair for pair in SIGNED if set(pair) == set(names)), names) for names in (alice, bob))
    return first, first if set(first) == set(second) else second


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


def describe(joint: JointTable, same_items: bool = False) -> dict[str, Any]:
    """Everything that is said of a table, as numbers and words.

    Args:
        joint: the table.
        same_items: whether all contexts were asked of the same items: errors add up, and there are no `signalling_tests`.

    Returns:
        What is printed, by name; NaN nowhere.

    Raises:
        DataError: more assignments of outcomes to all settings than a linear programme takes.
    """
    m, n, a, b = joint.values.shape
    if (assignments := a**m * b**n) > MAX_ASSIGNMENTS:
        raise DataError(
            f"table: {m} x {n} settings with {a} x {b} outcomes have {assignments:,} assignments; allowed: "
            f"{MAX_ASSIGNMENTS:,}, so choose settings by --alice and --bob"
        )
    found: dict[str, Any] = {"alice": joint.alice, "bob": joint.bob, "outcomes": joint.outcomes}
    found["items"] = joint.values.sum(axis=(2, 3)).tolist() if joint.counted else None
    contexts = [(("A", i), ("B", j)) for i in range(len(joint.alice)) for j in range(len(joint.bob))]
    laws = [joint.values[i, j] for (_, i), (_, j) in contexts]
    found["contextual_fraction"] = contextual_fraction(contexts, laws)
    found["largest_difference_of_marginals"] = largest_difference(joint.values)
    if joint.values.shape[2:] != (2, 2):
        return found
    found |= _of_means(joint.joint_counts)
    if joint.values.shape[:2] == (2, 2):
        found |= _of_chsh(joint, same_items)
    elif joint.values.shape[0] == joint.values.shape[1] > 2:
        found |= _of_chain(joint.joint_counts)
    if joint.rounding > TOLERANCE and {"s", "chained"} & found.keys():
        off = 2 * len(joint.alice) * joint.rounding  # a correlator per context of the ring; means are in Delta twice
        found["rounding"] = {"decimals": joint.decimals, "s": off, "contextuality": 3 * off}
    return found


def _of_means(counts: np.ndarray) -> dict[str, Any]:
    law = counts / counts.sum(axis=(2, 3), keepdims=True)
    sign = np.array([-1.0, 1.0])
    return {
        "mean_alice": (law.sum(axis=3) @ sign).tolist(),
        "mean_bob": (law.sum(axis=2) @ sign).tolist(),
        "correlator": np.einsum("ijab,a,b->ij", law, sign, sign).tolist(),
    }


def _of_chsh(joint: JointTable, same_items: bool) -> dict[str, Any]:
    counts = joint.joint_counts
    statistics = chsh_statistics(counts)
    measures, kind = contextuality_measures(counts), quantum_statistics(counts)
    largest = int(np.argmax(statistics.s_variants))
    found: dict[str, Any] = {
        name: float(getattr(statistics, name)) for name in ("s", "s_factorised", "s_odd", "influence", "contextuality")
    }
    found["s_odd_signs"] = SIGNS[largest]
    found |= {name: bool(getattr(kind, name)) for name in ("signalling", "local", "quantum_correlators", "level_1")}
    names = ("contextual_fraction", "signalling_fraction", "discounted_fraction", "cnt1", "cnt2", "cnt3", "ncnt2")
    found |= {name: getattr(measures, name) for name in names}
    if not joint.counted:
        return found
    whole = counts.astype(np.int64)
    delta, s = contextuality_interval(whole, same_items=same_items), s_interval(whole, same_items=same_items)
    found["s_interval"], found["contextuality_interval"] = [s.low, s.high], [delta.low, delta.high]
    found["verdict"] = verdict(found["s"], delta)
    if found["s"] <= 2 < found["s_odd"] and delta.low <= 0:  # where the minus stands is a choice of names
        known = EXPLAINED if delta.high <= 0 else NOT_SHOWN_TO_EXCEED
        found["verdict"] += f"; the largest CHSH sum is: {known.removeprefix('S ')}"
    found["locality_p_value"] = float(hoeffding_p_value(whole, same_items=same_items))
    if same_items:  # accuracies on the same items go together, which counts do not tell
        return found
    found["signalling_tests"] = [
        {"answer": test.answer, "p_value": test.p_value, "p_holm": test.p_holm} for test in signalling_tests(whole)
    ]
    return found


def _of_chain(counts: np.ndarray) -> dict[str, Any]:
    """The chained inequality, and Delta of its ring."""
    chain, found = chained_inequality(len(counts)), chain_statistics(counts)
    return {
        "chained": float(chain.value(counts)),
        "chained_classical": chain.classical_bound,
        "chained_quantum": chain.quantum_bound,
        "influence": float(found.influence),
        "contextuality": float(found.contextuality),
    }


def lines(joint: JointTable, found: dict[str, Any]) -> list[str]:
    """What `describe` found, for reading."""
    first, second = (names[0] for names in joint.outcomes)
    text = [
        f"{len(joint.alice)} x {len(joint.bob)} settings, {len(joint.outcomes[0])} x {len(joint.outcomes[1])} outcomes, "
        + ("counts" if joint.counted else "probabilities, so that nothing is said of chance"),
    ]
    if "correlator" in found:
        text += ["", *table(["alice", "bob", "items", "mean A", "mean B", "correlator"], _context_rows(joint, found))]
        text += [f"  +1 is {first} of Alice's outcomes and {second} of Bob's."]
    text.append("")
    if "s" in found:
        text += _chsh_lines(joint, found)
    elif "chained" in found:
        text += [
            f"  chained inequality   {found['chained']:.4f}  (classical {found['chained_classical']:g}, quantum "
            f"{found['chained_quantum']:.4f})",
            f"  direct influence     {found['influence']:.4f}",
            f"  Delta of the ring    {found['contextuality']:.4f}  (above 0: contextual beyond direct influence)",
        ]
    if "rounding" in found:
        value, off = "S" if "s" in found else "the chained sum", found["rounding"]
        words = f"{value} may be off by {no_less(off['s'])} and Delta by {no_less(off['contextuality'])}"
        text.append(f"  decimals             {off['decimals']} at least; if rounded, {words}; kind takes them as exact")
    text.append(f"  contextual fraction  {significant(found['contextual_fraction'])}  (signalling included)")
    apart = found["largest_difference_of_marginals"]
    form = ".0e" if NOTHING < apart < 0.0005 else ".3f"
    text.append(f"  marginals differ by  {no_less(apart, form)}  at most, between contexts")
    if "verdict" in found:
        text += ["", f"  {found['verdict'][0].upper()}{found['verdict'][1:]}."]
    return text


def _context_rows(joint: JointTable, found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            other,
            f"{joint.values[i, j].sum():,.0f}" if joint.counted else "",
            *(f"{found[of][i][j]:+.4f}" for of in ("mean_alice", "mean_bob", "correlator")),
        ]
        for i, name in enumerate(joint.alice)
        for j, other in enumerate(joint.bob)
    ]


def _chsh_lines(joint: JointTable, found: dict[str, Any]) -> list[str]:
    def limits(name: str) -> str:
        return "  95 % [{:.4f}, {:.4f}]".format(*found[name]) if name in found else ""

    signs = "".join("+-"[sign < 0] for sign in found["s_odd_signs"])
    kinds = "it signals" if found["signalling"] else "local" if found["local"] else "not local"
    if not found["signalling"] and not found["local"]:
        kinds += (
            ", not excluded by level 1 of the NPA hierarchy" if found["level_1"] else ", and no quantum state has it"
        )
    correlators = "some quantum state has" if found["quantum_correlators"] else "no quantum state has"
    text = [
        f"  S                    {found['s']:.4f}{limits('s_interval')}",
        f"  from means alone     {found['s_factorised']:.4f}",
        f"  largest CHSH sum     {found['s_odd']:.4f}  (signs {signs})",
        f"  direct influence     {found['influence']:.4f}",
        f"  Delta                {found['contextuality']:.4f}{limits('contextuality_interval')}  (largest sum - 2 - influence)",
        f"  kind                 {kinds}; its four correlators {correlators}",
    ]
    if "signalling_tests" in found:
        tests = [f"{t['answer']} {p_value_text(t['p_holm'])}" for t in found["signalling_tests"]]
        text.append(f"  accuracies alike     p = {', '.join(tests)} (Holm)")
    elif "locality_p_value" in found:
        text.append(
            "  accuracies alike     not told by counts of the same items; ncsim.paired_signalling_tests takes answers"
        )
    if "locality_p_value" in found:
        text.append(f"  one joint law        p = {p_value_text(found['locality_p_value'])} (Hoeffding)")
    return text
