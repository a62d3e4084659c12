"""Scenarios of few rows for tests, and slow references for what is asked of them."""

import itertools
import math
from fractions import Fraction

import ncsim

#: Three heads on eight rows: one bit each, and the exclusive or with the next party's.
THREE = ncsim.scenario_tasks(
    [[lambda *x, p=p: x[p], lambda *x, p=p: x[p] ^ x[(p + 1) % 3]] for p in range(3)], features=3, name="eight rows"
)


def local_values(weights):
    """Values of all deterministic strategies: each party's answer -1 or +1 to each of its settings, whatever the others'."""
    shape = weights.shape
    found = []
    for answers in itertools.product(*(itertools.product((-1, 1), repeat=settings) for settings in shape)):
        total = 0
        for place in itertools.product(*map(range, shape)):
            total += int(weights[place]) * math.prod(answers[p][setting] for p, setting in enumerate(place))
        found.append(total)
    return found


def value(counts, contexts, weights):
    """Sum of correlators with these weights, of one table {context: {outcomes: rows}}, as a Fraction."""
    total = Fraction(0)
    for number, context in enumerate(contexts):
        rows = sum(counts[number].values())
        product = sum(count * math.prod(outcomes) for outcomes, count in counts[number].items())
        total += int(weights[context]) * Fraction(product, rows)
    return total


def as_dictionaries(counts, parties):
    """Counts [contexts, 2^k] as a dictionary per context, from outcomes -1 and +1."""
    outcomes = list(itertools.product((-1, 1), repeat=parties))
    return [dict(zip(outcomes, map(int, context), strict=True)) for context in counts]


def delta_of_ring(ring):
    """Delta of one cyclic system [n, 2, 2] by trying all signs, in fractions."""
    size = len(ring)
    c, first, second = [], [], []
    for context in ring:
        total = sum(int(x) for row in context for x in row)
        cell = {(a, b): Fraction(int(context[a][b]), total) for a in (0, 1) for b in (0, 1)}
        c.append(sum((2 * a - 1) * (2 * b - 1) * p for (a, b), p in cell.items()))
        first.append(sum((2 * a - 1) * p for (a, b), p in cell.items()))
        second.append(sum((2 * b - 1) * p for (a, b), p in cell.items()))
    odd = max(
        sum(s * x for s, x in zip(signs, c, strict=True))
        for signs in itertools.product((-1, 1), repeat=size)
        if math.prod(signs) == -1
    )
    return odd - (size - 2) - sum(abs(first[k] - second[k - 1]) for k in range(size))
