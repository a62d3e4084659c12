"""Contextuality of one table by linear programme, with witnesses.

The closed forms in `chsh.py` serve ensembles. What is here solves, on the host and one table at a time, the linear
programmes that the measures are defined by; it checks the closed forms and works for tables with signalling.

Two meanings of "contextual" are kept apart. *Sheaf-theoretic*: no joint distribution of four answers A1, A2, B1, B2
has the table as its marginals (Abramsky and Brandenburger 2011; fractions: Abramsky, Barbosa and Mansfield 2017). A
table whose accuracies depend on the context is then contextual for that reason alone. *Contextuality-by-Default*: the
same answer in two contexts is two random variables, and the question is whether they can all be coupled so that the
two differ no more often than their own accuracies force them to (Kujala and Dzhafarov 2019; Dzhafarov, Kujala and
Cervantes 2020). Only the second says anything beyond direct influence.

A table is joint counts [i, j, a, b], or probabilities; each context is normalised by itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncsim.config.tasks import CONTEXTS
from ncsim.formatting import linear_text, rounded_text
from ncsim.statistics.inequalities import LinearInequality, checked_table
from ncsim.statistics.linear_programmes import InfeasibleError, least

#: Values this close to 0 can be the solver's rounding, and have no witness.
TOLERANCE = 1e-9

#: The four answers that are given in two contexts each, with those contexts as (i, j).
CONNECTIONS = (
    ("A1", ((0, 0), (0, 1))),
    ("A2", ((1, 0), (1, 1))),
    ("B1", ((0, 0), (1, 0))),
    ("B2", ((0, 1), (1, 1))),
)


@dataclass(frozen=True)
class DiscountedInequality:
    """A Contextuality-by-Default inequality that a table breaks, as the dual of the CNT2 programme gave it.

    correlator . c + alice . a + bob . b - discount . |differences of the connected means| <= bound holds for every
    noncontextual table; the coefficients are scaled so that the largest correlator coefficient is 1 (Kujala and Dzhafarov
    2019).

    Attributes:
        correlator: coefficients of <Ai Bj>, float64[2, 2].
        alice: coefficients of <Ai> in context (i, j), float64[2, 2].
        bob: coefficients of <Bj> in context (i, j), float64[2, 2].
        discount: coefficients of the four absolute differences, in the order of CONNECTIONS, float64[4].
        bound: the right-hand side.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> witness = contextuality_measures(box).discounted_witness
        >>> round(witness.excess(box), 6)
        2.0
    """

    correlator: np.ndarray
    alice: np.ndarray
    bob: np.ndarray
    discount: np.ndarray
    bound: float

    def excess(self, table: Any) -> float:
        """Left-hand side less the bound: above 0 only for a contextual table.

        Args:
            table: joint counts or probabilities, [2, 2, 2, 2] with axes (i, j, a, b).

        Raises:
            ValueError: another shape, a value that is negative or not finite, or a context without items.
        """
        a, b, c = _means(context_probabilities(table))
        value = np.sum(self.correlator * c) + np.sum(self.alice * a) + np.sum(self.bob * b)
        return float(value - self.discount @ _differences(a, b) - self.bound)

    def __str__(self) -> str:
        terms = []
        for coefficients, party in ((self.correlator, None), (self.alice, 0), (self.bob, 1)):
            for i, j in CONTEXTS:
                pair = (f"A{i + 1}", f"B{j + 1}")
                name = f"<{' '.join(pair)}>" if party is None else f"<{pair[party]}>[{' '.join(pair)}]"
                terms.append((float(coefficients[i, j]), name))
        for coefficient, (answer, contexts) in zip(self.discount, CONNECTIONS, strict=True):
            both = [f"<{answer}>[A{i + 1} B{j + 1}]" for i, j in contexts]
            terms.append((-float(coefficient), f"|{both[0]} - {both[1]}|"))
        return f"{linear_text(terms)} <= {rounded_text(self.bound)}"


@dataclass(frozen=True)
class ContextualityMeasures:
    """Measures of one table, each the value of a linear programme, right to about 1e-10.

    Attributes:
        contextual_fraction: sheaf-theoretic; the share of the table that no joint distribution of four answers can
            account for, in [0, 1]. Signalling counts as contextuality here.
        signalling_fraction: the share that no table without signalling can account for, in [0, 1].
        discounted_fraction: the contextual fraction once each answer in two contexts counts as two variables under
            their maximal coupling, in [0, 1]; max(Delta, 0) / 2 in closed form.
        cnt1: how far, in all, the couplings of the same answer must fall short of the maximal ones.
        cnt2: L1 distance of the joint probabilities from those of a noncontextual table; max(Delta, 0) / 4.
        cnt3: total variation, less 1, of the smallest quasi-probability coupling; max(Delta, 0) / 6.
        ncnt2: how far the joint probabilities are inside the noncontextual ones; 0 for a contextual table.
        witness: an inequality that holds for every joint distribution of four answers and that the table breaks by as
            much as it can; None where the contextual fraction is 1e-9 or less.
        discounted_witness: likewise, after direct influence is discounted; None where CNT2 is 1e-9 or less.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> measures = contextuality_measures(box)
        >>> round(measures.cnt2, 6), round(measures.signalling_fraction, 6), measures.witness.expression
        (0.5, 0.0, '<A1 B1> + <A1 B2> + <A2 B1> - <A2 B2> <= 2')
    """

    contextual_fraction: float
    signalling_fraction: float
    discounted_fraction: float
    cnt1: float
    cnt2: float
    cnt3: float
    ncnt2: float
    witness: LinearInequality | None
    discounted_witness: DiscountedInequality | None

    def __str__(self) -> str:
        lines = [
            f"contextual fraction   {self.contextual_fraction:.6f}  (signalling included)",
            f"signalling fraction   {self.signalling_fraction:.6f}",
            f"discounted fraction   {self.discounted_fraction:.6f}",
            f"CNT1, CNT2, CNT3      {self.cnt1:.6f}, {self.cnt2:.6f}, {self.cnt3:.6f}",
            f"NCNT2                 {self.ncnt2:.6f}",
            f"broken                {self.witness.expression if self.witness else 'no inequality'}",
            f"broken, discounted    {self.discounted_witness or 'no inequality'}",
        ]
        return "\n".join(lines)


def contextuality_measures(table: Any) -> ContextualityMeasures:
    """All measures of a table [2, 2, 2, 2] of joint counts or probabilities, by linear programme.

    Args:
        table: [2, 2, 2, 2] with axes (i, j, a, b); each context is divided by its own total.

    Returns:
        Fractions (Abramsky, Barbosa and Mansfield 2017), CNT1, CNT2, CNT3 and NCNT2 (Kujala and Dzhafarov 2019;
        Dzhafarov, Kujala and Cervantes 2020), and witnesses.

    Raises:
        ValueError: another shape, a value that is negative or not finite, or a context without items.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> round(contextuality_measures(box).contextual_fraction, 6)
        1.0
    """
    p = context_probabilities(table)
    contextual, witness = _contextual_fraction(p)
    cnt2, discounted_witness = _cnt2(p)
    return ContextualityMeasures(
        contextual_fraction=contextual,
        signalling_fraction=_signalling_fraction(p),
        discounted_fraction=_discounted_fraction(p),
        cnt1=_cnt1(p),
        cnt2=cnt2,
        cnt3=_cnt3(p),
        ncnt2=_ncnt2(p) if cnt2 <= TOLERANCE else 0.0,
        witness=witness,
        discounted_witness=discounted_witness,
    )


def context_probabilities(table: Any) -> np.ndarray:
    """float64[i, j, a, b], each context adding up to 1."""
    counts = checked_table(table, (2, 2, 2, 2))
    if counts.ndim != 4:
        raise ValueError(f"counts: shape {counts.shape}; allowed: one table, (2, 2, 2, 2)")
    items = counts.sum(axis=(2, 3), keepdims=True)
    if (items == 0).any():
        i, j = (int(index) for index in np.argwhere(items[..., 0, 0] == 0)[0])
        raise ValueError(f"counts: no items in context (i, j) = ({i}, {j}); allowed: 1 or more")
    return np.asarray(counts / items)


def _means(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """<A>, <B> and <A B> in each context, float64[i, j]."""
    a = p[..., 1, :].sum(axis=-1) - p[..., 0, :].sum(axis=-1)
    b = p[..., :, 1].sum(axis=-1) - p[..., :, 0].sum(axis=-1)
    c = p[..., 0, 0] + p[..., 1, 1] - p[..., 0, 1] - p[..., 1, 0]
    return a, b, c


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|difference of the means| of each connection, float64[4]."""
    pairs = ((b if answer.startswith("B") else a, contexts) for answer, contexts in CONNECTIONS)
    return np.array([abs(mean[first] - mean[second]) for mean, (first, second) in pairs])


# The linear programmes. A joint assignment to the eight variables (an answer in a context) is one column.


def _assignments() -> tuple[np.ndarray, np.ndarray]:
    """Outcome 0 or 1 of Alice and of Bob in each context under all 256 assignments: int[i, j, 256] twice."""
    outcomes = np.array(list(itertools.product((0, 1), repeat=8))).T
    return outcomes[:4].reshape(2, 2, 256), outcomes[4:].reshape(2, 2, 256)


def _connected(alice: np.ndarray, bob: np.ndarray) -> list[tuple[Any, Any]]:
    """The two variables of each connection, whatever is kept of a variable."""
    pairs = ((bob if answer.startswith("B") else alice, contexts) for answer, contexts in CONNECTIONS)
    return [(variable[first], variable[second]) for variable, (first, second) in pairs]


ALICE, BOB = _assignments()
#: Rows: normalisation, then P(answer is right) of Alice and of Bob in each context.
SINGLES = np.concatenate([np.ones((1, 256)), ALICE.reshape(4, 256), BOB.reshape(4, 256)])
#: Rows: P(both right) in each context.
BUNCHES = (ALICE * BOB).reshape(4, 256).astype(float)
#: Rows: P(right in both contexts) of each connection.
COUPLINGS = np.array([first * second for first, second in _connected(ALICE, BOB)], float)


def _targets(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The table's singles, bunches and maximal couplings: min(P, P') is all that two accuracies allow."""
    alice, bob = p[..., 1, :].sum(axis=-1), p[..., :, 1].sum(axis=-1)
    singles = np.concatenate([[1.0], alice.ravel(), bob.ravel()])
    return singles, p[..., 1, 1].ravel(), np.array([min(pair) for pair in _connected(alice, bob)])


def _cnt1(p: np.ndarray) -> float:
    singles, bunches, couplings = _targets(p)
    solution = least(-COUPLINGS.sum(axis=0), np.vstack([SINGLES, BUNCHES]), np.concatenate([singles, bunches]))
    return _not_negative(couplings.sum() + solution.fun)


def _cnt2(p: np.ndarray) -> tuple[float, DiscountedInequality | None]:
    singles, bunches, couplings = _targets(p)
    slack = np.vstack([np.zeros((9, 8)), np.hstack([np.eye(4), -np.eye(4)]), np.zeros((4, 8))])
    rows = np.hstack([np.vstack([SINGLES, BUNCHES, COUPLINGS]), slack])
    cost = np.concatenate([np.zeros(256), np.ones(8)])
    solution = least(cost, rows, np.concatenate([singles, bunches, couplings]))
    distance = _not_negative(solution.fun)
    return distance, _discounted_witness(solution.eqlin.marginals) if distance > TOLERANCE else None


def _discounted_witness(dual: np.ndarray) -> DiscountedInequality:
    """dual . (singles, bunches, couplings) <= 0 for noncontextual tables, in means instead of probabilities."""
    alice, bob = dual[1:5].reshape(2, 2) / 2, dual[5:9].reshape(2, 2) / 2
    bunch, coupling = dual[9:13].reshape(2, 2) / 4, dual[13:17] / 4
    # P(right) = (1 + a) / 2; P(both right) = (1 + a + b + c) / 4; a maximal coupling is (2 + a + a' - |a - a'|) / 4.
    constant = dual[0] + alice.sum() + bob.sum() + bunch.sum() + 2 * coupling.sum()
    alice, bob = alice + bunch, bob + bunch
    for (answer, contexts), weight in zip(CONNECTIONS, coupling, strict=True):
        for context in contexts:
            (bob if answer.startswith("B") else alice)[context] += weight
    scale = np.abs(bunch).max()
    return DiscountedInequality(bunch / scale, alice / scale, bob / scale, coupling / scale, float(-constant / scale))


def _cnt3(p: np.ndarray) -> float:
    rows = np.vstack([SINGLES, BUNCHES, COUPLINGS])
    solution = least(np.ones(512), np.hstack([rows, -rows]), np.concatenate(_targets(p)))
    return _not_negative(solution.fun - 1)


def _ncnt2(p: np.ndarray) -> float:
    """The least step that one joint probability may take, either way, until the table is no longer noncontextual.

    An L1 ball lies in a convex set where its corners do, and its corners are such steps. Where no step at all is possible the table
    is contextual, though by less than CNT2 could tell from 0.
    """
    singles, bunches, couplings = _targets(p)
    rows, targets = np.vstack([SINGLES, BUNCHES, COUPLINGS]), np.concatenate([singles, bunches, couplings])
    steps = []
    for context, sign in itertools.product(range(4), (1, -1)):
        step = np.zeros((17, 1))
        step[9 + context] = -sign
        try:
            steps.append(-least(np.append(np.zeros(256), -1.0), np.hstack([rows, step]), targets).fun)
        except InfeasibleError:
            return 0.0
    return _not_negative(min(steps))


def _discounted_fraction(p: np.ndarray) -> float:
    """1 less the largest weight of assignments that fits under every cell of the contexts and the maximal couplings."""
    alice, bob = p[..., 1, :].sum(axis=-1), p[..., :, 1].sum(axis=-1)
    pairs = [(ALICE[context], BOB[context]) for context in CONTEXTS] + _connected(ALICE, BOB)
    cells = [p[context] for context in CONTEXTS] + [_maximal_coupling(*pair) for pair in _connected(alice, bob)]
    rows = [(first == x) & (second == y) for first, second in pairs for x in (0, 1) for y in (0, 1)]
    solution = least(
        -np.ones(256), under=np.array(rows, float), under_targets=np.concatenate([c.ravel() for c in cells])
    )
    return _not_negative(1 + solution.fun)


def _maximal_coupling(first: float, second: float) -> np.ndarray:
    both = min(first, second)
    return np.array([[1 - max(first, second), second - both], [first - both, both]])


def _contextual_fraction(p: np.ndarray) -> tuple[float, LinearInequality | None]:
    strategies = np.array(list(itertools.product((0, 1), repeat=4)))
    rows = np.zeros((2, 2, 2, 2, 16))
    for number, strategy in enumerate(strategies):
        for i, j in CONTEXTS:
            rows[i, j, strategy[i], strategy[2 + j], number] = 1
    solution = least(-np.ones(16), under=rows.reshape(16, 16), under_targets=p.ravel())
    fraction = _not_negative(1 + solution.fun)
    if fraction <= TOLERANCE:
        return fraction, None
    # The dual y >= 0 has y . strategy >= 1 for all strategies and y . p = 1 - fraction: so -y is bounded by -1.
    dual = solution.ineqlin.marginals.reshape(2, 2, 2, 2)
    # Scaled for reading: the largest coefficient of a mean, <A>, <B> or <A B>, becomes 1.
    scale = max(float(np.abs(mean).max()) for mean in _means(dual)) / 4
    return fraction, LinearInequality("witness of the contextual fraction", dual / scale)


def _signalling_fraction(p: np.ndarray) -> float:
    """1 less the largest weight of a table without signalling that fits under every cell; variables: cells, weight."""
    rows = []
    for i, j in CONTEXTS:
        cells = np.zeros((2, 2, 2, 2))
        cells[i, j] = 1
        rows.append(np.append(cells.ravel(), -1.0))
    for answer, ((i, j), (k, m)) in CONNECTIONS:
        cells = np.zeros((2, 2, 2, 2))
        right = (slice(None), 1) if answer.startswith("B") else (1, slice(None))
        cells[(i, j, *right)] += 1
        cells[(k, m, *right)] -= 1
        rows.append(np.append(cells.ravel(), 0.0))
    under = np.hstack([np.eye(16), np.zeros((16, 1))])
    solution = least(np.append(np.zeros(16), -1.0), np.array(rows), np.zeros(8), under, p.ravel())
    return _not_negative(1 + solution.fun)


def _not_negative(value: float) -> float:
    """The solver's rounding can leave -1e-17 where a measure is 0."""
    return max(0.0, float(value))
