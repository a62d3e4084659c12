"""Random networks one by one, in plain Python: generator, variates and answers from their definitions."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

MASK = 2**32 - 1


def xoshiro(state: list[int]) -> int:
    """The next 32 bits of xoshiro128++ (Blackman and Vigna 2021) of four words, which move on."""

    def turned(x: int, by: int) -> int:
        return ((x << by) | (x >> (32 - by))) & MASK

    found = (turned((state[0] + state[3]) & MASK, 7) + state[0]) & MASK
    shifted = (state[1] << 9) & MASK
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = turned(state[3], 11)
    return found


def variate(state: list[int], normal: bool) -> float:
    """A uniform variate between -1 and 1, or the normal one with the same distribution function."""
    uniform = (2 * (xoshiro(state) >> 8) + 1) / 2**24 - 1
    return float(ndtri((1 + uniform) / 2)) if normal else uniform


def counts(config, vector, context: tuple[int, int]) -> list[int]:
    """Rows by (Alice right, Bob right) = 00, 01, 10, 11 of one network with parameters [P], row by row and unit by unit."""
    tasks, hidden, logits = config.tasks, config.hidden, 2 if config.loss == "cross_entropy" else 1
    features, hidden = tasks.features, 2 * hidden if config.intervention == "separate_trunks" else hidden
    kernel = np.reshape(vector[: features * hidden], (features, hidden))
    bias = vector[features * hidden : (features + 1) * hidden]
    head = np.reshape(vector[(features + 1) * hidden :][: 2 * logits * hidden], (2, logits, hidden))
    head_bias = np.reshape(vector[(features + 1) * hidden + 2 * logits * hidden :], (2, logits))
    found = [0, 0, 0, 0]
    for number, row in enumerate(tasks.inputs):
        seen = [2 * x - 1 if config.encoding == "sign" else x for x in row]
        units = [max(0.0, bias[h] + sum(seen[f] * kernel[f, h] for f in range(features))) for h in range(hidden)]
        right = []
        for party, answers in enumerate((tasks.alice[context[0]], tasks.bob[context[1]])):
            both = [
                head_bias[party, n] + sum(head[party, n, h] * units[h] for h in range(hidden)) for n in range(logits)
            ]
            logit = both[-1] - both[0] if logits == 2 else both[0]
            right.append((1 if logit > 0 else 0) == answers[number])
        found[2 * right[0] + right[1]] += 1
    return found


def solved_by_one_unit() -> float:
    """P(all answers right) of one unit on rows x = 0 and x = 1 where each head must answer 1 on exactly one of them, uniform law.

    With units h0 = relu(b), h1 = relu(b + k) a head is right with probability |I(h1) - I(h0)| / 4, where I(h) is the
    integral of min(1, a h) over a from 0 to 1: output weight a and bias c are uniform, and -c must lie between a h0 and a h1. Heads are
    independent given the unit, and b and k are uniform on (-1, 1).
    """
    from scipy.integrate import dblquad

    def inner(h: float) -> float:
        return h / 2 if h <= 1 else 1 - 1 / (2 * h)

    def squared(k: float, b: float) -> float:
        return (inner(max(b + k, 0.0)) - inner(max(b, 0.0))) ** 2 / 16 / 4

    # In pieces, so that kinks lie on borders.
    parts = [
        (-1, 0, lambda b: -b, lambda b: 1.0),
        (0, 1, lambda b: -1.0, lambda b: -b),
        (0, 1, lambda b: -b, lambda b: 1 - b),
    ]
    parts.append((0, 1, lambda b: 1 - b, lambda b: 1.0))
    total = math.fsum(dblquad(squared, low, high, first, last)[0] for low, high, first, last in parts)
    return total
