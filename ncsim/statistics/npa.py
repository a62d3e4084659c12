"""The hierarchy of Navascues, Pironio and Acin: outer bounds on what quantum states do, for any inequality and table.

A level is a set of words: products of the parties' observables with values -1 and +1. The matrix of the mean values of products of two
words, one reversed, is positive for every quantum state, and its entries are equal where the products are. Real parts are
enough, so a word and its reverse have one entry. What is largest under these conditions is a bound; the higher the level,
the closer.

Needs cvxpy and its solver Clarabel, the extra `quantum`.

Sources: Navascues, Pironio and Acin 2007, 2008; Pal and Vertesi 2009 (values of I3322 by level).
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.fields import shown
from ncsim.errors import missing_extra
from ncsim.statistics.arguments import AN_INEQUALITY, check_kind
from ncsim.statistics.inequalities import LinearInequality
from ncsim.statistics.notations import to_correlators
from ncsim.statistics.quantum_bounds import without_constant

Word = tuple[tuple[int, int], ...]
#: What the solver is asked for: less, and some programmes whose bound is the algebraic one do not end.
TOLERANCE = 1e-7

#: Products of observables in the longest words of a level.
MOST_PRODUCTS = 100_000


def npa_bound(inequality: LinearInequality, level: str | int = "1+ab") -> float:
    """An upper bound on the inequality's quantum value, by a dual solution that proves it.

    Args:
        inequality: of any number of parties and settings with two outcomes each.
        level: a number n, for all words of up to n letters, and after "+" further kinds of words: "1+ab", "2+aab+abb". For
            three parties "1+ab+ac+bc".

    Returns:
        The bound: no quantum state has a value that is larger but for rounding. It is above the level's own by some 1e-6 of the largest coefficient
        of a mean value (`inequality.correlators`; its first entry, a constant, does not count), and never above their sum.

    Raises:
        ValueError: a level that is none, or that names more parties than there are.
        ImportError: cvxpy is not installed.

    Source: Navascues, Pironio and Acin 2008 (arXiv:0803.4290).

    Example:
        >>> from ncsim import chsh_inequality
        >>> round(npa_bound(chsh_inequality()), 6)
        2.828427
    """
    check_kind("inequality", inequality, LinearInequality, AN_INEQUALITY)
    cvxpy = _cvxpy("ncsim.npa_bound")
    moments = _moments(cvxpy, inequality.settings, level)
    constant, rest, unit = without_constant(inequality.correlators)
    value = sum(float(rest[place]) * moments.means[place] for place in np.ndindex(*rest.shape))
    _solved(cvxpy, cvxpy.Maximize(value), [moments.positive])
    proved = _proved(moments, rest, np.asarray(moments.positive.dual_value))
    return constant + unit * min(proved, float(np.abs(rest).sum()))


def _proved(moments: _Moments, weights: np.ndarray, dual: np.ndarray) -> float:
    """A bound that holds, whatever the solver left undone, from its dual matrix Z of the moments' matrix M.

    Entries of Z are moved so that M . Z is z_1 less the value for every M, z_1 being what Z has where M has 1. Then the value is z_1 - M . Z,
    and M . Z is at least the lowest eigenvalue of Z, if that is below 0, times the trace of M, which is its size.
    """
    entries = moments.entries
    wanted = np.zeros(entries.max() + 1)
    for place in np.ndindex(*weights.shape):
        if any(place):
            wanted[moments.places[place]] -= weights[place]
    dual = (dual + dual.T) / 2
    excess = np.bincount(entries.ravel(), dual.ravel()) - wanted
    excess[0] = 0.0
    dual = dual - (excess / np.bincount(entries.ravel()))[entries]
    lowest = float(np.linalg.eigvalsh(dual)[0])
    return float(dual[entries == 0].sum()) + max(-lowest, 0.0) * len(dual)


def npa_visibility(table: Any, level: str | int = "1+ab") -> float:
    """How much of a table without signalling the level allows: the largest v such that v of it and 1 - v of noise is inside.

    Args:
        table: probabilities or counts, k axes of settings, then k axes of two outcomes.
        level: as for `npa_bound`.

    Returns:
        v, above 0 and at most 2, right to about 1e-6. Below 1 no quantum state gives the table. From 1 on the level does not
        exclude it; 2 x 2 tables whose answers are right half of the time are then quantum (level 1; Masanes 2003).

    Raises:
        ValueError: a table that signals, or is none; a level that is none.
        ImportError: cvxpy is not installed.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> round(npa_visibility(np.stack([[same, same], [same, other]])), 5)  # a PR box: 1 / sqrt 2
        0.70711
    """
    cvxpy = _cvxpy("ncsim.npa_visibility")
    wanted = to_correlators(table)
    moments = _moments(cvxpy, tuple(length - 1 for length in wanted.shape), level)
    share = cvxpy.Variable()
    same = [moments.means[place] == share * float(wanted[place]) for place in np.ndindex(*wanted.shape) if any(place)]
    return min(_solved(cvxpy, cvxpy.Maximize(share), [moments.positive, *same, share <= 2]), 2.0)


def _cvxpy(wanted: str) -> Any:
    try:
        import cvxpy
    except ImportError as error:
        raise missing_extra(error, wanted, "quantum") from None
    return cvxpy


def _solved(cvxpy: Any, objective: Any, conditions: list[Any]) -> float:
    problem = cvxpy.Problem(objective, conditions)
    limits = {f"{kind}tol_{of}": TOLERANCE for kind in ("", "reduced_") for of in ("gap_abs", "gap_rel", "feas")}
    limits |= {name: 10 * TOLERANCE for name in limits if name.startswith("reduced_")}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Solution may be inaccurate"
        )  # which it is by ten times the tolerance at most
        value = problem.solve(solver=cvxpy.CLARABEL, **limits)
    if problem.status not in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE):
        raise RuntimeError(f"semidefinite programme: {problem.status}")
    return float(value)


class _Moments(NamedTuple):
    """The matrix of moments as a programme has it.

    Attributes:
        means: the mean value of each product of one observable per party or none, by indices as correlators have them.
        places: their numbers among the distinct entries, by the same indices; 0 is that of 1.
        entries: which of these stands where in the matrix, int[N, N].
        positive: the condition that the matrix is positive.
    """

    means: dict[tuple[int, ...], Any]
    places: dict[tuple[int, ...], int]
    entries: np.ndarray
    positive: Any


def _moments(cvxpy: Any, settings: tuple[int, ...], level: str | int) -> _Moments:
    from scipy.sparse import csr_array

    words = _words(settings, level)
    entries: dict[Word, int] = {(): 0}
    place = [
        entries.setdefault(_canonical((*reversed(first), *second)), len(entries))
        for first, second in itertools.product(words, repeat=2)
    ]
    values = cvxpy.hstack([1.0, cvxpy.Variable(len(entries) - 1)])
    chosen = csr_array((np.ones(len(place)), (np.arange(len(place)), place)), shape=(len(place), len(entries)))
    matrix = cvxpy.reshape(chosen @ values, (len(words), len(words)), order="C")
    places = {
        indices: entries[tuple((party, index - 1) for party, index in enumerate(indices) if index)]
        for indices in np.ndindex(*(m + 1 for m in settings))
    }
    means = {indices: values[number] for indices, number in places.items()}
    return _Moments(means, places, np.reshape(place, (len(words), len(words))), matrix >> 0)


def _words(settings: tuple[int, ...], level: str | int) -> list[Word]:
    names = "abcdefghijklmnopqrstuvwxyz"[: len(settings)]
    if not re.fullmatch(rf"[1-9]\d*(\+[{names}]+)*", str(level)):
        raise ValueError(
            f"level: {shown(level)}; allowed: a number from 1 on, and kinds of words of {names}, as in 1+{names}"
        )
    number, *kinds = str(level).split("+")
    letters = [[(party, setting) for setting in range(m)] for party, m in enumerate(settings)]
    every = [letter for own in letters for letter in own]
    of_kinds = [math.prod(len(letters[names.index(party)]) for party in kind) for kind in kinds]
    if (
        len(number) > 2 or max(len(every) ** int(number), *of_kinds, 0) > MOST_PRODUCTS
    ):  # memory would end before the answer
        raise ValueError(
            f"level: {level}; allowed: one with up to {MOST_PRODUCTS:,} products of {len(every)} observables"
        )
    products = [itertools.product(every, repeat=length) for length in range(int(number) + 1)]
    products += [itertools.product(*(letters[names.index(party)] for party in kind)) for kind in kinds]
    # A word of one letter of every party must be among the products of two, or a mean would have no entry.
    found = {_reduced(word) for product in products for word in product}
    reached = {_canonical((*reversed(first), *second)) for first, second in itertools.product(found, repeat=2)}
    for word in itertools.product(*([None, *own] for own in letters)):
        if (mean := tuple(letter for letter in word if letter)) not in reached:
            raise ValueError(
                f"level: {level}; its products have no mean of {len(mean)} parties; allowed: a higher one, as 1+{names}"
            )
    return sorted(found, key=lambda word: (len(word), word))


def _reduced(word: Word) -> Word:
    """Parties in order, since observables of different parties commute; the square of one is 1."""
    left: list[tuple[int, int]] = []
    for letter in sorted(word, key=lambda letter: letter[0]):
        if left and left[-1] == letter:
            left.pop()
        else:
            left.append(letter)
    return tuple(left)


def _canonical(word: Word) -> Word:
    return min(_reduced(word), _reduced(tuple(reversed(word))))
