"""Linear inequalities over joint outcomes: CHSH is one of many, and a user may ask an ensemble another.

An inequality is an array of coefficients, one for each choice of settings and each joint outcome: for k parties the
axes are (setting of party 1, ..., setting of party k, outcome of party 1, ..., outcome of party k), outcome 0 being
wrong (-1) and 1 right (+1), as in joint counts. Its value on a table is the sum of coefficient times conditional
probability. Its classical bound is the largest value of any assignment of fixed answers to settings, found by trying
them: no mixture of such assignments, so no joint distribution of all answers, exceeds it.

Sources: Clauser, Horne, Shimony and Holt 1969; Braunstein and Caves 1990 (chained); Mermin 1990; Svetlichny 1987.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from ncsim.formatting import linear_text, rounded_text
from ncsim.records.joint_counts import PARTY_NAMES, array_of
from ncsim.statistics.arguments import finite, numbers, whole
from ncsim.statistics.notations import collins_gisin_coefficients, correlator_coefficients, full_coefficients
from ncsim.statistics.quantum_bounds import correlator_bound, in_units, no_signalling_bound
from ncsim.statistics.rationals import error_as_given, sum_of_means, summable

#: Deterministic strategies that are tried, at most, for one bound.
MAX_STRATEGIES = 2**20


@dataclass(frozen=True, eq=False)
class LinearInequality:
    """`sum of coefficients * P(outcomes | settings) <= classical_bound` for every joint distribution of the answers.

    Attributes:
        name: what it is called when printed.
        coefficients: float64[settings of party 1, ..., settings of party k, 2, ..., 2].
        quantum_bound: the largest value that measurements of a quantum state reach, where it is known.

    Raises:
        ValueError: coefficients whose axes are not k axes of settings and k axes of length 2, or a number that is not finite.

    Sources: Clauser, Horne, Shimony and Holt 1969 (CHSH); Svetlichny 1987 (hybrid bound).

    Example:
        >>> import numpy as np
        >>> wins = np.zeros((2, 2, 2, 2))  # the CHSH game: equal answers win, in context 22 different ones
        >>> wins[..., [0, 1], [0, 1]] = 1 / 4
        >>> wins[1, 1] = wins[0, 0][::-1]
        >>> game = LinearInequality("CHSH game", wins)
        >>> game.parties, game.settings
        (2, (2, 2))
        >>> game.classical_bound, game.hybrid_bound, game.algebraic_bound
        (0.75, 0.75, 1.0)
        >>> print(game.expression)
        0.125 <A1 B1> + 0.125 <A1 B2> + 0.125 <A2 B1> - 0.125 <A2 B2> <= 0.25
        >>> game.no_signalling_bound, float(game.correlators[1, 1]), float(game.collins_gisin[1, 1])
        (1.0, 0.125, 0.5)
        >>> fair = np.full((2, 2, 2, 2), 4)
        >>> float(game.value(fair)), float(game.standard_error(fair))
        (0.5, 0.0625)
    """

    name: str
    coefficients: np.ndarray
    quantum_bound: float | None = None

    def __post_init__(self) -> None:
        table = np.array(numbers("coefficients", self.coefficients))
        parties = table.ndim // 2
        if table.ndim % 2 or not 1 <= parties <= len(PARTY_NAMES) or table.shape[parties:] != (2,) * parties:
            raise ValueError(f"coefficients: shape {table.shape}; allowed: k axes of settings, then k axes of length 2")
        if table.size == 0:
            raise ValueError(f"coefficients: shape {table.shape}; allowed: one setting a party or more")
        if not np.isfinite(table).all():
            place = tuple(int(index) for index in np.argwhere(~np.isfinite(table))[0])
            raise ValueError(f"coefficients: {table[place]} at {place}; allowed: finite numbers")
        if self.quantum_bound is not None:
            object.__setattr__(self, "quantum_bound", finite("quantum_bound", self.quantum_bound))
        table.flags.writeable = False
        object.__setattr__(self, "coefficients", table)

    @property
    def parties(self) -> int:
        """Number of parties, k: heads of the network."""
        return self.coefficients.ndim // 2

    @property
    def settings(self) -> tuple[int, ...]:
        """Number of settings (tasks) of each party."""
        return self.coefficients.shape[: self.parties]

    @cached_property
    def classical_bound(self) -> float:
        """Largest value of any deterministic strategy, by enumeration.

        Raises:
            ValueError: more than MAX_STRATEGIES to try.
        """
        return _best_strategy(self.coefficients)

    @cached_property
    def hybrid_bound(self) -> float:
        """Largest value where the parties fall into two groups and each group may coordinate freely within itself.

        Exceeding it takes all parties at once (Svetlichny 1987). For two parties it is the classical bound.

        Raises:
            ValueError: one party, or more than MAX_STRATEGIES to try.
        """
        if self.parties < 2:
            raise ValueError(f"hybrid bound: {self.parties} party; allowed: 2 or more")
        others = range(1, self.parties)
        groups = [(0, *rest) for size in range(self.parties - 1) for rest in itertools.combinations(others, size)]
        return max(_best_strategy(_in_two_groups(self.coefficients, group)) for group in groups)

    @cached_property
    def no_signalling_bound(self) -> float:
        """Largest value of a table whose marginals do not depend on the others' settings, by linear programme."""
        return no_signalling_bound(self.collins_gisin)

    @property
    def collins_gisin(self) -> Float[np.ndarray, "..."]:
        """Coefficients of P(outcome 0) of any of the parties, one axis of 1 + settings per party (Collins and Gisin 2004).

        The value is the same on tables without signalling, which alone this notation can describe.
        """
        return collins_gisin_coefficients(self.coefficients)

    @property
    def correlators(self) -> Float[np.ndarray, "..."]:
        """Coefficients of means of products of outcomes -1 and +1, one axis of 1 + settings per party, on such tables."""
        return correlator_coefficients(self.coefficients)

    @property
    def algebraic_bound(self) -> float:
        """Largest value of any table at all: the best outcome of each choice of settings by itself."""
        return float(self._by_context.max(axis=-1).sum())

    def value(self, counts: Any) -> Float[np.ndarray, "*batch"]:
        """The value on joint counts [..., settings, outcomes], or on conditional probabilities.

        Settings whose coefficients are all 0 need no items. NaN where settings that matter have none. With whole
        coefficients and counts it is the float nearest to the value, so that it is above a bound just where the counts are.

        Args:
            counts: joint counts, each 0 or above, with the axes of `coefficients` last.

        Returns:
            [...], from the least to the `algebraic_bound` that the coefficients allow.

        Raises:
            ValueError: axes that are not those of the coefficients; a count that is negative or not finite.
        """
        table, used = checked_table(counts, self.coefficients.shape), (self._by_context != 0).any(axis=-1)
        weights, batch = self._by_context[used], table.shape[: table.ndim - self.coefficients.ndim]
        # As they were given: float64 rounds integers from 2^53 on.
        cells = np.asarray(counts).reshape(*batch, *self._by_context.shape)[..., used, :]
        # Of each table by itself: with whole coefficients and counts the sum is a fraction, and a comparison with a bound is exact.
        whole = (cells == np.floor(cells)).all(axis=(-2, -1)) & np.all(weights == np.round(weights))
        found = np.empty(batch)
        found[whole] = sum_of_means(cells[whole], weights)
        found[~whole] = self._moments(table[~whole])[0].sum(axis=-1)
        return found

    def standard_error(self, counts: Any) -> Float[np.ndarray, "*batch"]:
        """Standard error of `value`, the items of each choice of settings being a sample of their own.

        It is 0 where every item of each choice gave the same coefficient, which is no certainty about further items.

        Args:
            counts: as for `value`; counts alone, since probabilities do not say how many items there are.

        Returns:
            [...], in the unit of `value`.

        Raises:
            ValueError: as for `value`.
        """
        units, unit = in_units(self.coefficients)  # whose squares a float can hold
        _, variance = replace(self, coefficients=units)._moments(counts)
        return np.asarray(error_as_given(unit * np.sqrt(variance.sum(axis=-1)), counts))

    def __str__(self) -> str:
        return f"{self.name}: {self.expression}"

    @property
    def expression(self) -> str:
        """The inequality in correlators, `<A1 B2>`, and, where it has any, means of fewer answers, `<A1>[A1 B2]`.

        A mean of fewer answers names the settings it was taken at, because it may depend on all of them.
        """
        terms, constant = [], 0.0
        signs = [
            np.array((-1.0, 1.0)).reshape([2 if p == q else 1 for q in range(self.parties)])
            for p in range(self.parties)
        ]
        for settings in np.ndindex(*self.settings):
            labels = [f"{PARTY_NAMES[p]}{setting + 1}" for p, setting in enumerate(settings)]
            for size in range(self.parties, -1, -1):
                for group in itertools.combinations(range(self.parties), size):
                    product = math.prod((signs[p] for p in group), start=np.ones((1,) * self.parties))
                    coefficient = float(np.mean(self.coefficients[settings] * product))
                    if size == 0:
                        constant += coefficient
                        continue
                    mean = f"<{' '.join(labels[p] for p in group)}>"
                    terms.append((coefficient, mean if size == self.parties else f"{mean}[{' '.join(labels)}]"))
        return f"{linear_text(terms)} <= {rounded_text(self.classical_bound - constant)}"

    @property
    def _by_context(self) -> np.ndarray:
        """float64[context, joint outcome]."""
        return self.coefficients.reshape(math.prod(self.settings), 2**self.parties)

    @np.errstate(under="ignore")
    def _moments(self, counts: Any) -> tuple[np.ndarray, np.ndarray]:
        """Each context's mean coefficient and that mean's variance: float64[..., context] twice."""
        table = checked_table(counts, self.coefficients.shape)
        cells = table.reshape(*table.shape[: table.ndim - self.coefficients.ndim], *self._by_context.shape)
        items = cells.sum(axis=-1)
        items = np.where(items > 0, items, np.nan)
        mean = (cells * self._by_context).sum(axis=-1) / items
        variance = (cells * (self._by_context - mean[..., None]) ** 2).sum(axis=-1) / items / items
        used = (self._by_context != 0).any(axis=-1)
        return np.where(used, mean, 0.0), np.where(used, variance, 0.0)


def correlator_inequality(name: str, coefficients: Any, quantum_bound: float | None = None) -> LinearInequality:
    """An inequality in full correlators alone, `sum of coefficients[settings] * <A B ...>`; one axis per party.

    Args:
        name: what reports call it.
        coefficients: one axis per party, one entry per setting.
        quantum_bound: where it is known; else it is computed for two parties (Tsirelson 1987), and for more with one or
            two settings each (Werner and Wolf 2001).

    Returns:
        The inequality; its classical bound is found by enumeration (Werner and Wolf 2001).

    Raises:
        ValueError: coefficients without an axis, or that are not finite.

    Example:
        >>> print(correlator_inequality("CHSH", [[1, 1], [1, -1]]))
        CHSH: <A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2
    """
    weights = numbers("coefficients", coefficients)
    product = np.ones(())
    for _ in range(weights.ndim):
        product = np.multiply.outer(product, np.array([-1.0, 1.0]))
    inequality = LinearInequality(name, np.multiply.outer(weights, product), quantum_bound)
    return inequality if quantum_bound is not None else replace(inequality, quantum_bound=correlator_bound(weights))


def collins_gisin_inequality(name: str, coefficients: Any) -> LinearInequality:
    """An inequality in the notation of Collins and Gisin 2004: coefficients of P(outcome 0), and of 1.

    Args:
        name: what reports call it.
        coefficients: one axis of 1 + settings per party; index 0 of an axis leaves its party out, so that the first entry is
            a constant.

    Returns:
        The inequality over full tables, its quantum bound not computed (`ncsim.npa_bound` does).

    Raises:
        ValueError: no axis, an axis without a setting, or a value that is not finite.

    Example:
        >>> i3322 = collins_gisin_inequality("I3322", [[0, -1, 0, 0], [-2, 1, 1, 1], [-1, 1, 1, -1], [0, 1, -1, 0]])
        >>> round(i3322.classical_bound, 9), round(i3322.no_signalling_bound, 9)
        (0.0, 1.0)
    """
    return LinearInequality(name, full_coefficients(coefficients))


def chsh_inequality() -> LinearInequality:
    """The paper's S = <A1 B1> + <A1 B2> + <A2 B1> - <A2 B2>: classical 2, quantum 2 sqrt 2, algebraic 4.

    Returns:
        Equation 4 of arXiv:2603.04451 (Clauser, Horne, Shimony and Holt 1969), two parties with two settings.

    Example:
        >>> print(chsh_inequality())
        CHSH: <A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2
    """
    return correlator_inequality("CHSH", [[1, 1], [1, -1]])


def chained_inequality(settings: int) -> LinearInequality:
    """The chained Bell inequality of m settings a side: a cycle of 2 m correlators, one of them reversed.

    Classical 2 m - 2, quantum 2 m cos(pi / 2 m), algebraic 2 m (Braunstein and Caves 1990). The cycle is
    A_m B_1 A_{m-1} B_2 ... A_1 B_m A_m, so that m = 2 is the paper's CHSH with A2 B2 reversed.

    Args:
        settings: m, 2 to 1,000.

    Returns:
        The inequality, with its quantum bound.

    Raises:
        ValueError: another number of settings.

    Example:
        >>> print(chained_inequality(2))
        chained, 2 settings: <A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2
    """
    settings = whole("settings", settings, 2, 1_000)
    weights = np.zeros((settings, settings))
    for i, j in np.ndindex(settings, settings):
        weights[i, j] = 1.0 if i + j in (settings - 1, settings - 2) else 0.0
    weights[-1, -1] = -1.0
    return correlator_inequality(f"chained, {settings} settings", weights)


def mermin_inequality() -> LinearInequality:
    """<A1 B1 C2> + <A1 B2 C1> + <A2 B1 C1> - <A2 B2 C2>: classical 2, quantum 4, which is also algebraic.

    Returns:
        The inequality of three parties with two settings (Mermin 1990).

    Example:
        >>> print(mermin_inequality())
        Mermin: <A1 B1 C2> + <A1 B2 C1> + <A2 B1 C1> - <A2 B2 C2> <= 2
    """
    weights = np.zeros((2, 2, 2))
    weights[0, 0, 1] = weights[0, 1, 0] = weights[1, 0, 0] = 1.0
    weights[1, 1, 1] = -1.0
    return correlator_inequality("Mermin", weights)


def svetlichny_inequality() -> LinearInequality:
    """Plus where at most one party has its second setting, else minus: classical and hybrid 4, quantum 4 sqrt 2.

    Returns:
        The inequality of three parties with two settings (Svetlichny 1987).

    Example:
        >>> svetlichny_inequality().classical_bound
        4.0
    """
    weights = np.ones((2, 2, 2))
    weights[np.indices((2, 2, 2)).sum(axis=0) >= 2] = -1.0
    return correlator_inequality("Svetlichny", weights)


def checked_table(counts: Any, axes: tuple[int, ...]) -> np.ndarray:
    """Joint counts, or probabilities, as float64 with the given last axes: settings, then outcomes; `summable`.

    Raises:
        ValueError: other last axes; a value that is negative or not finite, named with its place.
    """
    table = array_of("counts", counts)
    if table.dtype.kind not in "iuf":
        raise ValueError(f"counts: type {table.dtype}; allowed: numbers, 0 or above")
    if table.ndim < len(axes) or table.shape[table.ndim - len(axes) :] != axes:
        raise ValueError(f"counts: shape {table.shape}; allowed: [..., settings then outcomes = {axes}]")
    bad = ~np.isfinite(table) | (table < 0)
    if bad.any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        raise ValueError(f"counts: {table[place]} at (..., settings, outcomes) = {place}; allowed: 0 or above")
    return summable(table.astype(np.float64))


def _best_strategy(table: np.ndarray) -> float:
    """Largest value of deterministic strategies: table [settings of each party, outcomes of each party]."""
    parties = table.ndim // 2
    # The party with most strategies goes last: its best reply is found setting by setting and need not be tried out.
    strategies = [table.shape[parties + p] ** table.shape[p] for p in range(parties)]
    order = sorted(range(parties), key=lambda p: strategies[p])
    tried = math.prod(strategies[p] for p in order[:-1])
    if tried > MAX_STRATEGIES:
        raise ValueError(f"bound by enumeration: {tried} strategies; allowed: {MAX_STRATEGIES}")
    return _best_reply(table.transpose(*order, *(parties + p for p in order)))


def _best_reply(table: np.ndarray) -> float:
    parties = table.ndim // 2
    if parties == 1:
        return float(table.max(axis=1).sum())
    best = -math.inf
    for answers in itertools.product(range(table.shape[parties]), repeat=table.shape[0]):
        rest = sum(np.take(table[setting], answer, axis=parties - 1) for setting, answer in enumerate(answers))
        best = max(best, _best_reply(np.asarray(rest)))
    return best


def _in_two_groups(table: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    """The table as of two parties, each a group that knows the settings of all its members."""
    parties = table.ndim // 2
    other = tuple(p for p in range(parties) if p not in group)
    order = (*group, *other, *(parties + p for p in group), *(parties + p for p in other))
    settings = [math.prod(table.shape[p] for p in side) for side in (group, other)]
    outcomes = [2 ** len(side) for side in (group, other)]
    return table.transpose(order).reshape(*settings, *outcomes)
