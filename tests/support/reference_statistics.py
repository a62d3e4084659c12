"""Slow and obvious statistics of one table, in exact fractions, from the definitions and not from the kernel."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

OUTCOMES = (-1, 1)


def moments(counts):
    """Means a, b and correlators c of each context, dictionaries from (i, j) to a Fraction."""
    a, b, c = {}, {}, {}
    for i, j in itertools.product((0, 1), repeat=2):
        items = sum(int(counts[i][j][x][y]) for x in (0, 1) for y in (0, 1))
        a[i, j] = b[i, j] = c[i, j] = Fraction(0)
        for x, y in itertools.product((0, 1), repeat=2):
            share = Fraction(int(counts[i][j][x][y]), items)
            a[i, j] += share * OUTCOMES[x]
            b[i, j] += share * OUTCOMES[y]
            c[i, j] += share * OUTCOMES[x] * OUTCOMES[y]
    return a, b, c


def statistics_of_moments(a, b, c):
    """Every closed form of chsh.py but Pearson's, from dictionaries of means; exact where they are Fractions."""
    contexts = list(itertools.product((0, 1), repeat=2))
    odd = [s for s in itertools.product((1, -1), repeat=4) if math.prod(s) == -1]
    variants = sorted(sum(sign * c[context] for sign, context in zip(s, contexts, strict=True)) for s in odd)
    influence = sum(abs(a[i, 0] - a[i, 1]) for i in (0, 1)) + sum(abs(b[0, j] - b[1, j]) for j in (0, 1))
    delta = variants[-1] - 2 - influence
    edges = []
    for context in contexts:
        edges.append(c[context] - (abs(a[context] + b[context]) - 1))
        edges.append(1 - abs(a[context] - b[context]) - c[context])
    product = {context: a[context] * b[context] for context in contexts}
    return {
        "s": c[0, 0] + c[0, 1] + c[1, 0] - c[1, 1],
        "s_variants": variants,
        "s_odd": variants[-1],
        "s_factorised": product[0, 0] + product[0, 1] + product[1, 0] - product[1, 1],
        "influence": influence,
        "contextuality": delta,
        "cnt2": max(delta, 0) / 4,
        "ncnt2": min(-delta, min(edges)) / 4 if delta < 0 else 0,
    }


def pearson(cells):
    """Correlation coefficient of one context's four counts; 0 where a head has no variance."""
    (n00, n01), (n10, n11) = ((int(x) for x in row) for row in cells)
    n = n00 + n01 + n10 + n11
    a, b = Fraction(n00 + n01, n), Fraction(n00 + n10, n)
    if a in (0, 1) or b in (0, 1):
        return 0.0
    covariance = Fraction(n00, n) - a * b
    return float(covariance) / (math.sqrt(a * (1 - a)) * math.sqrt(b * (1 - b)))


def table_of_moments(a, b, c):
    """Joint probabilities [i, j, a, b] = (1 + x a + y b + x y c) / 4; each argument a number or [2, 2]."""
    a, b, c = (np.broadcast_to(np.asarray(m, float), (2, 2))[..., None, None] for m in (a, b, c))
    x = np.array([-1.0, 1.0])
    cells = (1 + x[:, None] * a + x * b + x[:, None] * x * c) / 4
    return np.where(np.abs(cells) < 1e-15, 0.0, cells)  # rounding dust, of either sign


PR_BOX = table_of_moments(0, 0, [[1, 1], [1, -1]])
TSIRELSON_TABLE = table_of_moments(0, 0, np.array([[1, 1], [1, -1]]) / math.sqrt(2))

#: Table 2 of arXiv:2603.04451, mixed reasoning, r = 2.
MIXED_R2 = table_of_moments(
    2 * np.array([[0.9992, 0.9946], [0.9671, 0.9333]]) - 1,
    2 * np.array([[0.9996, 0.9389], [0.9966, 0.8458]]) - 1,
    [[0.9976, 0.8670], [0.9299, 0.6038]],
)


def local_strategies():
    """The 16 tables of fixed answers (A1, A2, B1, B2), each 0 or 1."""
    for a1, a2, b1, b2 in itertools.product((0, 1), repeat=4):
        table = np.zeros((2, 2, 2, 2))
        for i, j in itertools.product((0, 1), repeat=2):
            table[i, j, (a1, a2)[i], (b1, b2)[j]] = 1
        yield table


def random_systems(number, seed):
    """Tables of three kinds, with signalling: spread out, near contextual boxes, and counts of sixteen items."""
    generator = np.random.default_rng(seed)
    for n in range(number):
        if n % 3 == 0:
            yield generator.dirichlet(np.full(4, 0.5), size=(2, 2)).reshape(2, 2, 2, 2)
        elif n % 3 == 1:
            noise = generator.dirichlet(np.ones(4), size=(2, 2)).reshape(2, 2, 2, 2)
            yield 0.3 * noise + 0.7 * (PR_BOX, TSIRELSON_TABLE)[n // 3 % 2]
        else:
            law = generator.dirichlet(np.full(4, 0.4))
            yield generator.multinomial(16, law, size=(2, 2)).reshape(2, 2, 2, 2).astype(float)


def drawn(table, items, generator, number=None):
    """Counts of independent items a context from a table [2, 2, 2, 2]; `number` tables if given."""
    law = np.maximum(table.reshape(2, 2, 4), 0)
    law = law / law.sum(axis=-1, keepdims=True)
    size = (2, 2) if number is None else (number, 2, 2)
    return generator.multinomial(items, law, size=size).reshape(*size, 2, 2)
