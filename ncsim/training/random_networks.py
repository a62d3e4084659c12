"""Networks drawn from the initial law and never trained: random numbers, variates, answers, and walks that keep the law.

All of it is float32 without contraction, in one fixed order, so that generated C (`ncsim.executors.native.c_random`) has the
same bits. The law is that of `initialization.initial_vector`; random numbers are others, since threefry costs more than a network.

Random numbers are xoshiro128++ (Blackman and Vigna 2021; period 2^128 - 1, no known failure in BigCrush), one generator per
stream, seeded by NumPy's SeedSequence. A uniform variate is one of 2^24 midpoints between -1 and 1. A normal one is the inverse of the
error function at it (Giles 2010), so that it is below 5.5 in size.

Axes: S streams, K variates that are drawn, P parameters, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.training.initialization import initial_scale
from ncsim.training.network import Architecture, Parameters

#: Streams are counted in vectors of this many, whatever the processor has.
LANES = 16
#: Right answers of a head are the bits of one 32-bit word.
MOST_ROWS = 32
#: Coefficients of Giles's approximation, from the highest power; the second for |x| above 0.9966.
CENTRAL = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503),
    *(-0.00417768164, 0.246640727, 1.50140941),
)
TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613),
    *(0.00943887047, 1.00167406, 2.83297682),
)
#: Of the logarithm's polynomial (Cephes, logf), from the highest power, and the two parts of ln 2.
LOGARITHM = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
LN2 = (-2.12194440e-4, 0.693359375)
ROOT_HALF, ROOT_TWO = 0.70710677, 1.41421354
Bits = np.ndarray


class RandomLaw(NamedTuple):
    """What a config says of untrained networks.

    Attributes:
        architecture: sizes.
        place: where in a vector [P] each variate goes, int64[K]; everything else is 0.
        scale: of each variate, float32[K].
        normal: whether it is normal and not uniform, bool[K].
        rows: features of each row, float32[R, F].
        targets: right answers as bits (row r is bit r) by context and party, uint32[4, 2].
    """

    architecture: Architecture
    place: np.ndarray
    scale: np.ndarray
    normal: np.ndarray
    rows: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, config: EnsembleConfig) -> RandomLaw:
        """The law of a config's networks."""
        architecture = Architecture.of(config)
        scale = initial_scale(config).astype(np.float32)
        names = architecture.shapes._asdict().items()
        bias = architecture.join(Parameters(*(np.full(shape, name.endswith("bias")) for name, shape in names)))
        place = np.flatnonzero(scale)
        normal = ~bias[place].astype(bool) & (config.initialization != "uniform")
        bits = np.uint32(1) << np.arange(config.tasks.rows, dtype=np.uint32)
        targets = np.einsum("crp,r->cp", context_targets(config.tasks).astype(np.uint32), bits)
        rows = encoded_inputs(config.tasks, config.encoding).astype(np.float32)
        return cls(architecture, place, scale[place], normal, rows, targets.astype(np.uint32))

    def vector(self, variates: np.ndarray) -> np.ndarray:
        """Parameters [P, S] of variates [K, S], float32."""
        vector = np.zeros((self.architecture.size, *variates.shape[1:]), np.float32)
        vector[self.place] = variates * self.scale.reshape(-1, *[1] * (variates.ndim - 1))
        return vector

    def moves(self) -> list[np.ndarray]:
        """Sets of variates that a walk changes at once: each alone, each unit's, all, and then Alice's head and Bob's."""
        number = np.full(self.architecture.size, -1)
        number[self.place] = np.arange(len(self.place))
        split = self.architecture.split(number)
        alone = [np.array([k]) for k in range(len(self.place))]
        units = [
            np.concatenate([split.hidden_kernel[:, h], split.hidden_bias[h : h + 1], split.head_kernel[..., h].ravel()])
            for h in range(self.architecture.hidden)
        ]
        heads = [np.concatenate([split.head_kernel[n].ravel(), split.head_bias[n].ravel()]) for n in (0, 1)]
        return [*alone, *(each[each >= 0] for each in (*units, number[self.place], *heads))]


def seeded(seed: Sequence[int], streams: int) -> Bits:
    """State of generators, uint32[4, S], from whole numbers of at least 0."""
    return np.random.SeedSequence(list(seed)).generate_state(4 * streams, np.uint32).reshape(4, streams)


def next_bits(state: Bits) -> Bits:
    """The next 32 bits of each stream, uint32[S]; the state [4, S] moves on."""
    found = _turned(state[0] + state[3], 7) + state[0]
    shifted = state[1] << np.uint32(9)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = _turned(state[3], 11)
    return np.asarray(found)


def _turned(x: Bits, by: int) -> Bits:
    return np.asarray((x << np.uint32(by)) | (x >> np.uint32(32 - by)))


def next_uniform(state: Bits) -> np.ndarray:
    """Uniform variates between -1 and 1, neither included, float32[S]."""
    whole = (next_bits(state) >> np.uint32(8)).astype(np.float32)
    return np.asarray(whole * np.float32(2**-23) + np.float32(2**-24 - 1))


def normal_of(uniform: np.ndarray) -> np.ndarray:
    """The normal variates that uniform ones between -1 and 1 stand for, float32: sqrt 2 times the inverse error function."""
    one = np.float32(1)
    w = -_logarithm((one - uniform) * (one + uniform))
    tail = np.sqrt(np.maximum(w, 0)) - np.float32(3)
    p = np.where(w < 5, _polynomial(CENTRAL, w - np.float32(2.5)), _polynomial(TAIL, tail))
    return np.asarray(p * uniform * np.float32(ROOT_TWO))


def _polynomial(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    p = np.full_like(x, coefficients[0])
    for each in coefficients[1:]:
        p = p * x + np.float32(each)
    return p


def _logarithm(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.int32)
    m = ((bits & 0x7FFFFF) | 0x3F000000).astype(np.int32).view(np.float32)
    e = ((bits >> 23) - 126).astype(np.float32)
    small = m < np.float32(ROOT_HALF)
    e = e - small.astype(np.float32)
    t = np.where(small, m + m, m) - np.float32(1)
    square = t * t
    y = _polynomial(LOGARITHM, t) * t * square
    y = y + e * np.float32(LN2[0])
    y = y - square * np.float32(0.5)
    return np.asarray(t + y + e * np.float32(LN2[1]))


def next_variates(law: RandomLaw, state: Bits) -> np.ndarray:
    """All variates of one network per stream, float32[K, S]."""
    drawn = np.stack([next_uniform(state) for _ in law.place])
    drawn[law.normal] = normal_of(drawn[law.normal])
    return drawn


def answers(law: RandomLaw, vector: np.ndarray) -> np.ndarray:
    """Answers of both heads as bits, uint32[2, S], from parameters [P, S]: bit r is 1 where the logit on row r is above 0."""
    parameters = law.architecture.split(vector)
    kernel, bias = parameters.head_kernel, parameters.head_bias
    kernel, bias = (each[:, 0] if law.architecture.logits == 1 else each[:, 1] - each[:, 0] for each in (kernel, bias))
    found = np.zeros((2, vector.shape[1]), np.uint32)
    for number, row in enumerate(law.rows):
        hidden = parameters.hidden_bias
        for feature, value in enumerate(row):
            if value:
                hidden = hidden + (1 if value > 0 else -1) * parameters.hidden_kernel[feature]
        hidden = np.maximum(hidden, np.float32(0))
        logit = bias
        for unit in range(law.architecture.hidden):
            logit = logit + kernel[:, unit] * hidden[unit]
        found |= (logit > 0).astype(np.uint32) << np.uint32(number)
    return found


def tables_of(law: RandomLaw, answered: Bits, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the tables of counts, as `statistics.tally.table_codes` has them, and numbers of wrong answers: int64[S] each."""
    rows = len(law.rows)
    full = np.uint32(2**rows - 1)
    alice, bob = (~(answered[party] ^ law.targets[context, party]) & full for party in (0, 1))
    both, a, b = (np.bitwise_count(each).astype(np.int64) for each in (alice & bob, alice, bob))
    return ((b - both) * (rows + 1) + a - both) * (rows + 1) + both, 2 * rows - a - b


def guess(law: RandomLaw, state: Bits, steps: int, limit: int, tables: Any, keep: "Keep") -> None:
    """Draw `steps` networks per stream and count their tables, int64[4, (R + 1)^3], in every context; keep parameters of those
    with at most `limit` wrong answers."""
    for _ in range(steps):
        vector = law.vector(next_variates(law, state))
        answered = answers(law, vector)
        for context in range(4):
            code, wrong = tables_of(law, answered, context)
            np.add.at(tables[context], code, 1)
            keep.add(context, vector[:, wrong <= limit].T)


class Keep:
    """Parameters that are kept, at most `most` in each context: `vector` float32[4, most, P], `count` int64[4]."""

    def __init__(self, most: int, size: int) -> None:
        self.vector = np.zeros((4, most, size), np.float32)
        self.count = np.zeros(4, np.int64)

    def add(self, context: int, vectors: np.ndarray) -> None:
        """Keep some more, [N, P], as far as there is room."""
        first = int(self.count[context])
        taken = vectors[: self.vector.shape[1] - first]
        self.vector[context, first : first + len(taken)] = taken
        self.count[context] += len(taken)

    def of(self, context: int) -> np.ndarray:
        """Those of a context, [N, P]."""
        return self.vector[context, : self.count[context]]


class Walk:
    """Networks that walk through the initial law, one per stream, in one context.

    Attributes:
        state: of the generators, uint32[4, S].
        variates: float32[K, S].
        deep: whether a stream has been at `bottom` wrong answers since it last had `top`, uint8[S].
        trips: returns from bottom to top, int64[1].
    """

    def __init__(self, law: RandomLaw, context: int, seed: Sequence[int], streams: int) -> None:
        self.law, self.context = law, context
        self.state = seeded(seed, streams)
        self.variates = np.ascontiguousarray(next_variates(law, self.state))
        self.deep = np.zeros(streams, np.uint8)
        self.trips = np.zeros(1, np.int64)


class Schedule(NamedTuple):
    """Moves of a walk: which set of variates, int32[N] (places in `RandomLaw.moves`), and how far, float32[N]: 1 draws anew,
    below 1 is a small step, below 0 changes signs."""

    move: np.ndarray
    reach: np.ndarray

    @classmethod
    def drawn(cls, law: RandomLaw, steps: int, seed: Sequence[int]) -> Schedule:
        """Moves at random, which depend on nothing that the walk does."""
        generator = np.random.default_rng(list(seed))
        alone, hidden = len(law.place), law.architecture.hidden
        kind = generator.choice(4, size=steps, p=(0.55, 0.25, 0.15, 0.05))
        first = np.array([0, alone, alone + hidden, alone + hidden + 1])[kind]
        move = first + generator.integers(0, np.array([alone, hidden, 1, 2])[kind])
        small = generator.choice(np.array([0.03, 0.1, 0.3], np.float32), size=steps)
        reach = np.where((kind < 2) & (generator.random(steps) < 0.5), np.float32(1), small)
        return cls(move.astype(np.int32), np.where(kind == 3, -1, reach).astype(np.float32))


def moved(law: RandomLaw, variates: np.ndarray, chosen: np.ndarray, reach: np.float32, state: Bits) -> np.ndarray:
    """Variates [N, S] of the `chosen` after a move that keeps the law and is as likely backwards."""
    if reach < 0:
        return -variates
    new = np.empty_like(variates)
    for n, k in enumerate(chosen):
        drawn = next_uniform(state)
        if law.normal[k]:  # preconditioned Crank-Nicolson (Cotter et al. 2013)
            stay = np.sqrt(np.float32(1) - reach * reach)
            new[n] = variates[n] * stay + normal_of(drawn) * reach
        elif reach == 1:
            new[n] = drawn
        else:  # reflected at the ends
            x = variates[n] + drawn * reach
            new[n] = np.where(x > 1, 2 - x, np.where(x < -1, -2 - x, x))
    return new


def walk(
    walkers: Walk,
    schedule: Schedule,
    ratio: np.ndarray,
    ends: tuple[int, int],
    tables: Any,
    keep: Keep,
    limit: int,
    every: int,
) -> None:
    """Walk as the schedule has it, counting the table of every network at every step, int64[(R + 1)^3].

    Args:
        walkers: which move on.
        schedule: moves.
        ratio: probability of going from so many wrong answers to so many, float32[2 R + 1, 2 R + 1]; 1 or more is always.
        ends: (bottom, top), wrong answers between which round trips are counted.
        tables: to which counts are added.
        keep: takes parameters at each `every`-th step, of those with at most `limit` wrong answers.
    """
    law, sets = walkers.law, walkers.law.moves()
    code, wrong = tables_of(law, answers(law, law.vector(walkers.variates)), walkers.context)
    for step, (move, reach) in enumerate(zip(schedule.move, schedule.reach, strict=True)):
        new = walkers.variates.copy()
        new[sets[move]] = moved(law, new[sets[move]], sets[move], reach, walkers.state)
        new_code, new_wrong = tables_of(law, answers(law, law.vector(new)), walkers.context)
        chance = (next_bits(walkers.state) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
        taken = chance < ratio[wrong, new_wrong]
        walkers.variates[:, taken] = new[:, taken]
        code, wrong = np.where(taken, new_code, code), np.where(taken, new_wrong, wrong)
        np.add.at(tables, code, 1)
        returned = (wrong >= ends[1]) & (walkers.deep == 1)
        walkers.trips += returned.sum()
        walkers.deep[returned] = 0
        walkers.deep[wrong <= ends[0]] = 1
        if (step + 1) % every == 0:
            keep.add(walkers.context, law.vector(walkers.variates[:, wrong <= limit]).T)
