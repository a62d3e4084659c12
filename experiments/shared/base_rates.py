"""Where a head at rest has a logit of exactly 0: what the rows where units are on decide, in whole numbers (docs/mechanism.md).

A unit that is on on given rows adds any affine form there, and nothing elsewhere. So a head with such units answers by a function of the
space V of 1 and of each unit's rows times 1, x1, .., x4. At rest its residuals are orthogonal to V, and since the loss is convex in the
logits, they are those of the best function of V. Some rows can be answered ever better (their logits grow without end). On the
others, the *held* rows, no function of V is better than another by much; their logits are 0 exactly if the targets, as +1 and
-1, are orthogonal to V there.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from ncsim.config.tasks import PAPER_TASKS

#: The rows with a 1 in front, [16, 5].
AFFINE = np.array([(1, *row) for row in PAPER_TASKS.inputs])
FULL = (1 << len(AFFINE)) - 1
#: Targets as +1 and -1 by name.
TARGETS = {
    "identity": 2 * np.array(PAPER_TASKS.alice[0]) - 1,
    "exclusive or": 2 * np.array(PAPER_TASKS.alice[1]) - 1,
}


def number_of(rows: np.ndarray) -> np.ndarray:
    """Sets of rows, bool[..., 16], as whole numbers; row 0 is the lowest bit."""
    return np.asarray(rows) @ (1 << np.arange(len(AFFINE)))


def rows_of(number: int) -> np.ndarray:
    """The inverse of `number_of`, of one set."""
    return np.asarray((number >> np.arange(len(AFFINE))) & 1, bool)


@functools.cache
def on_sets() -> tuple[int, ...]:
    """All 1,882 sets of rows where a unit can be on, without one where the form is 0: threshold functions, and no row at all."""
    found = set()
    for weights in itertools.product(range(-3, 4), repeat=4):
        sums = AFFINE[:, 1:] @ np.array(weights)
        found |= {int(number_of(sums >= level)) for level in [*sums, 99]}
    return tuple(sorted(found))


def space_of(on: Iterable[int]) -> np.ndarray:
    """Columns that span V, int[16, 1 + 5 units]."""
    return np.hstack([AFFINE[:, :1], *(rows_of(each)[:, None] * AFFINE for each in on)])


class Held(NamedTuple):
    """What the best function of V does.

    Attributes:
        rows: that it cannot decide, as `number_of` has them; 0 if there are none.
        at_zero: whether its logits there are exactly 0.
    """

    rows: int
    at_zero: bool


def held_rows(target: np.ndarray, on: Sequence[int]) -> Held:
    """The rows that no function of V decides, found by a linear programme and checked in fractions.

    Where targets are orthogonal to V on these rows, that itself is the proof that none of them can be decided: a function that is
    wrong on no row has a sum of target times value of 0 there, so it is 0 on each of them.

    Args:
        target: +1 or -1 per row, [16].
        on: the rows where each of the head's units is on.

    Raises:
        ArithmeticError: the function that decides the other rows is not one in fractions.
    """
    return _held(tuple(target.tolist()), tuple(sorted(set(on) - {0})))


@functools.lru_cache(maxsize=2**16)
def _held(signs: tuple[int, ...], on: tuple[int, ...]) -> Held:
    target, space = np.array(signs), space_of(on)
    rows, size = space.shape
    # Per row up to 1 of target times value; what can be above 0 comes to 1.
    found = linprog(
        np.r_[np.zeros(size), -np.ones(rows)],
        A_ub=np.hstack([-target[:, None] * space, np.eye(rows)]),
        b_ub=np.zeros(rows),
        bounds=[(None, None)] * size + [(0, 1)] * rows,
        method="highs-ds",
    )
    held = found.x[size:] < 0.5
    _check_decides(target, space, found.x[:size], held)
    return Held(int(number_of(held)), bool(held.any()) and not (target[held] @ space[held]).any())


def _check_decides(target: np.ndarray, space: np.ndarray, weights: np.ndarray, held: np.ndarray) -> None:
    exact = [Fraction(float(weight)).limit_denominator(10_000) for weight in weights]
    for sign, row, left in zip(target.tolist(), space.tolist(), held.tolist(), strict=True):
        value = sign * sum((w * x for w, x in zip(exact, row, strict=True) if x), Fraction(0))
        if value != 0 if left else value <= 0:
            raise ArithmeticError(f"a row has {value} in fractions, where it should be {'0' if left else 'above 0'}")


def is_attained(target: np.ndarray, on: Sequence[int], zero: int) -> bool:
    """Whether networks have these units on there, a head with logits of 0 on the rows `zero`, and all other answers right.

    Units are forms that are at least 1 where they are on and at most -1 elsewhere; their weights in the head are +1 or -1, as size
    can be moved into the form."""
    left = rows_of(zero)
    return any(_attained(target, on, signs, left) for signs in itertools.product((1, -1), repeat=len(on)))


def _attained(target: np.ndarray, on: Sequence[int], signs: Sequence[int], left: np.ndarray) -> bool:
    masks = [rows_of(each) for each in on]
    value = np.hstack(
        [AFFINE[:, :1], *(sign * mask[:, None] * AFFINE for sign, mask in zip(signs, masks, strict=True))]
    )
    limits = [-(target[:, None] * value)[~left]]
    for place, mask in enumerate(masks):
        form = np.zeros((len(AFFINE), value.shape[1]))
        form[:, 1 + 5 * place : 6 + 5 * place] = np.where(mask, -1, 1)[:, None] * AFFINE
        limits.append(form)
    upper = np.vstack(limits)
    found = linprog(
        np.zeros(value.shape[1]),
        A_ub=upper,
        b_ub=-np.ones(len(upper)),
        A_eq=value[left],
        b_eq=np.zeros(int(left.sum())),
        bounds=(None, None),
        method="highs-ds",
    )
    return bool(found.status == 0)


@functools.cache
def unions_of(units: int) -> np.ndarray:
    """Sets of rows on which one at least of so many units is on, ascending."""
    if units == 0:
        return np.array([0])
    there = np.zeros(FULL + 1, bool)
    lit = np.array(on_sets())
    for part in np.array_split(unions_of(units - 1), 64):
        there[part[:, None] | lit] = True
    return np.flatnonzero(there)


def dark_sets(target: np.ndarray, units: int) -> np.ndarray:
    """Sets of rows on which none of so many units is on, with as many targets of each kind, that leave all other rows to be
    answered right: rows lit only by units that raise the logit have target +1, rows lit only by others -1. Ascending numbers.

    What is asked here is necessary. `dark_pair` says whether a network has the set."""
    plus = int(number_of(target > 0))
    there = np.zeros(FULL + 1, bool)
    for raising in range(units + 1):
        lowering = unions_of(units - raising)
        for raised in unions_of(raising).tolist():
            good = ((raised & ~lowering & ~plus & FULL) == 0) & ((lowering & ~raised & plus) == 0)
            there[FULL & ~(raised | lowering[good])] = True
    dark = np.flatnonzero(there)
    balanced = np.bitwise_count(dark & plus) * 2 == np.bitwise_count(dark)
    return np.asarray(dark[balanced & (dark > 0)])


def dark_pair(target: np.ndarray, zero: int) -> tuple[int, ...] | None:
    """On-sets of at most two units of a head that is dark on exactly these rows, with as many targets of each kind, and right on all others;
    None if no network has it. As the other rows are balanced, too, one unit raises the logit and the other lowers it.

    Rows lit in one direction alone are right by that, whatever the forms are. So pairs whose lit rows never contradict are
    taken first, and a linear programme is asked of pairs of which one raises and one lowers the same row."""
    lit = np.array(on_sets())
    lit = lit[(lit & zero) == 0]
    rest, plus = FULL & ~zero, int(number_of(target > 0))
    raised, lowered = (each.ravel() for each in np.meshgrid(lit, lit))
    right = ((raised | lowered) == rest) & ((raised & ~lowered & ~plus) == 0) & ((lowered & ~raised & plus) == 0)
    pairs = np.stack([raised, lowered], axis=1)[right]
    apart = (pairs[:, 0] & pairs[:, 1]) == 0
    for on, sure in sorted(zip(map(tuple, pairs.tolist()), apart.tolist(), strict=True), key=lambda each: not each[1]):
        if sure or _attained(target, on, (1, -1), rows_of(zero)):
            return tuple(each for each in on if each)
    return None


def symmetric_images(target: np.ndarray) -> list[np.ndarray]:
    """Where the symmetries of the cube that keep the target, or turn it round, take each row: int[16] each."""
    inputs = AFFINE[:, 1:]
    place = {tuple(row): number for number, row in enumerate(inputs.tolist())}
    found = []
    for order in itertools.permutations(range(4)):
        for flips in itertools.product((0, 1), repeat=4):
            goes = np.array([place[tuple(row)] for row in (inputs[:, list(order)] ^ flips).tolist()])
            if len(set((target[goes] * target).tolist())) == 1:
                found.append(goes)
    return found


def orbits(sets: Iterable[int], target: np.ndarray) -> dict[int, int]:
    """The sets up to these symmetries: the least of each orbit, and how many of the sets are in it."""
    rows = np.array([rows_of(each) for each in sets]).reshape(-1, len(AFFINE))
    least = np.min([number_of(rows[:, goes]) for goes in symmetric_images(target)], axis=0)
    return dict(zip(*(each.tolist() for each in np.unique(least, return_counts=True)), strict=True))


def zero_rows(target: np.ndarray, on: Sequence[int]) -> tuple[int, bool]:
    """Rows with a logit of 0 under the best function of V, and whether that is proved in whole numbers. Else the logistic
    regression on the held rows was solved by Newton's method, and its logits there are within 1e-6 of 0."""
    held = held_rows(target, on)
    if held.at_zero or not held.rows:
        return held.rows, True
    there = rows_of(held.rows)
    logits = _fitted(target[there], space_of(sorted(set(on) - {0}))[there])
    zero = np.zeros(len(AFFINE), bool)
    zero[there] = np.abs(logits) < 1e-6
    return int(number_of(zero)), False


def _fitted(target: np.ndarray, space: np.ndarray) -> np.ndarray:
    """Logits of the logistic regression of targets +1 and -1 on the columns, where it has a finite optimum."""
    basis = np.linalg.svd(space.astype(float), full_matrices=False)
    columns = basis.U[:, basis.S > 1e-9]
    weights = np.zeros(columns.shape[1])
    for _ in range(100):
        right = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (right - (target > 0))
        curvature = (columns.T * (right * (1 - right))) @ columns
        weights -= np.linalg.solve(curvature, slope)
        if np.abs(slope).max() < 1e-12:
            break
    return np.asarray(columns @ weights)
