"""Capacity: what n shared ReLU units can do at all, whatever training finds; networks with exact weights for each "yes".

Question. Networks of three units never solve context 22 in 425,984 tries, and those of two units never 12 or 21 (docs/mechanism.md).
Is that training, or can no such network exist? And which S and Delta can four networks of n units have?

Command. `python -m experiments.capacity`. The certificates of "no" are in `data/capacity.json`, and tests/experiments/test_capacity.py
checks them.

Time. Ten seconds on one core. Nothing is trained.

Expected. 11 needs two units, 12 and 21 three, 22 four. We expected S of at most 3 + C22 where 22 cannot be solved, thus below 4 at
n = 3, and Delta at most 0 for networks that are nearly right. The second expectation was wrong: S asks whether the heads are right
*together*, and two units are enough for S = 4 with Delta = 2.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.shared.command import run_experiment
from ncsim.config.tasks import CONTEXTS, PAPER_TASKS, S_SIGNS, context_names

FOLDER = Path(__file__).resolve().parent
#: All rows of four bits, in the order of the tables.
ROWS = np.asarray(PAPER_TASKS.inputs)


@dataclass(frozen=True)
class Network:
    """A network in whole numbers: units [n, 5] (four weights and a bias), each head [n + 1] (weights of the units and a bias)."""

    units: tuple[tuple[int, ...], ...]
    alice: tuple[int, ...]
    bob: tuple[int, ...]

    def logits(self) -> np.ndarray:
        """Of both heads on all rows, exact: int64[16, 2]."""
        units = np.asarray(self.units)
        hidden = np.maximum(ROWS @ units[:, :4].T + units[:, 4], 0)
        return np.stack([hidden @ np.asarray(head[:-1]) + head[-1] for head in (self.alice, self.bob)], axis=1)

    def right(self, context: tuple[int, int]) -> np.ndarray:
        """Which answers are right, with a logit that is not 0: bool[16, 2]."""
        targets = np.stack([PAPER_TASKS.alice[context[0]], PAPER_TASKS.bob[context[1]]], axis=1)
        return self.logits() * (2 * targets - 1) > 0


_X1, _X3 = (1, 0, 0, 0, 0), (0, 0, 1, 0, 0)
_12 = ((1, 1, 0, 0, 0), (1, 1, 0, 0, -1))
_34 = ((0, 0, 1, 1, 0), (0, 0, 1, 1, -1))
#: The fewest units with which each context is solved. Alice's units come first and serve her alone, so these are networks of the
#: overlapping topology as well, with any number of shared units that leaves each head as many as it uses.
SOLVED = {
    (0, 0): Network((_X1, _X3), (2, 0, -1), (0, 2, -1)),
    (0, 1): Network((_X1, *_34), (2, 0, 0, -1), (0, 2, -4, -1)),
    (1, 0): Network((*_12, _X3), (2, -4, 0, -1), (0, 0, 2, -1)),
    (1, 1): Network((*_12, *_34), (2, -4, 0, 0, -1), (0, 0, 2, -4, -1)),
}
#: The best known where a context cannot be solved, by width and context.
NEARLY = {
    (1, (0, 0)): Network(((2, 0, 1, 0, 0),), (2, -3), (2, -1)),
    (2, (0, 1)): Network(((9, 0, -8, 8, -7), (2, 0, 4, -4, -3)), (34, 18, -53), (2, 20, -19)),
    (2, (1, 0)): Network(((-8, 8, 9, 0, -7), (4, -4, 2, 0, -3)), (2, 20, -19), (34, 18, -53)),
    (2, (1, 1)): Network(((31, -31, 10, 10, 3), (43, -43, 16, 16, -16)), (-144, 178, 91), (8, -6, -93)),
    (3, (1, 1)): Network(
        ((11, -11, 0, 0, 0), (7, -7, 6, 6, -5), (2, -2, -5, -5, 3)), (34, -28, -20, 21), (2, -2, -24, 3)
    ),
}
#: Four networks of two units whose joint tables are a PR box: every head is right on 8 rows, together with the other head in contexts
#: 11, 12 and 21 and never together in 22.
PR_BOX = {
    (0, 0): Network(((1, 0, 1, 0, 0), (1, 0, 1, 0, -1)), (0, 0, -1), (2, -4, -1)),
    (0, 1): Network(((1, 0, 1, 1, -1), (-2, 0, -2, -2, 3)), (-12, -6, 13), (4, -8, -3)),
    (1, 0): Network(((1, 1, 1, 0, -1), (-2, -2, -2, 0, 3)), (4, -8, -3), (-12, -6, 13)),
    (1, 1): Network(((1, 1, 1, 1, -1), (-1, -1, -1, -1, 3)), (-4, -12, 9), (6, 4, -9)),
}


def joint_table(network: Network, context: tuple[int, int]) -> np.ndarray:
    """Rows by outcome, int[2, 2]: Alice's wrong or right, Bob's wrong or right."""
    table = np.zeros((2, 2), np.int64)
    for a, b in network.right(context).astype(int):
        table[a, b] += 1
    return table


def one_unit() -> dict[tuple[int, int], tuple[set[tuple[int, ...]], set[tuple[int, ...]]]]:
    """Joint tables of networks of one unit, per context: those that some network has, and a set that holds all there are.

    A head on one unit is right where one linear form is on one side of a level. So both heads' answers are two threshold
    functions, one within the other, or their complements. Of weights up to 5 in size all are networks; any two nested
    threshold functions are a superset of what networks do."""
    powers = 1 << np.arange(16)
    flips = np.array([np.lexsort((ROWS ^ np.array(flip)).T[::-1]) for flip in itertools.product((0, 1), repeat=4)])
    chains = []
    for weights in itertools.product(range(6), repeat=4):
        sums = ROWS @ np.array(weights)
        masks = sums >= np.array([*sorted(set(sums)), 99])[:, None]
        numbers = masks[:, flips] @ powers
        inner, outer = np.triu_indices(len(numbers))
        chains.append((numbers[outer] << 16 | numbers[inner]).ravel())
    found = np.unique(np.concatenate(chains))
    pairs = np.stack([found >> 16, found & 0xFFFF], axis=1)
    known = np.unique(pairs)
    nested = known[np.argwhere((known[:, None] & ~known) == 0)]
    return {context: (_tables(pairs, context), _tables(nested, context)) for context in CONTEXTS}


def _tables(pairs: np.ndarray, context: tuple[int, int]) -> set[tuple[int, ...]]:
    """Joint tables of heads that answer as these pairs of row sets, in either order and complemented or not."""
    powers, full = 1 << np.arange(16), (1 << 16) - 1
    alice, bob = (
        int(np.asarray(table) @ powers) for table in (PAPER_TASKS.alice[context[0]], PAPER_TASKS.bob[context[1]])
    )
    found: set[tuple[int, ...]] = set()
    for order, a, b in itertools.product((pairs, pairs[:, ::-1]), (0, full), (0, full)):
        right_a, right_b = full ^ order[:, 0] ^ a ^ alice, full ^ order[:, 1] ^ b ^ bob
        sets = (full & ~(right_a | right_b), right_b & ~right_a, right_a & ~right_b, right_a & right_b)
        counts = [np.bitwise_count(rows).astype(np.int64) for rows in sets]
        packed = np.unique(sum(count << 8 * place for place, count in enumerate(counts)))
        found |= {tuple(int(number) >> 8 * place & 0xFF for place in range(4)) for number in packed}
    return found


def largest_s_and_delta(tables: dict[tuple[int, int], set[tuple[int, ...]]]) -> tuple[float, float]:
    """The largest S, and the largest Delta, of four networks with these joint tables per context; both in sixteenths, exact."""
    marginals = np.arange(-16, 17, 2)
    loss = -np.abs(np.subtract.outer(marginals, marginals))
    best_s, best_delta = -64, -99
    for signs in itertools.product((1, -1), repeat=4):
        if np.prod(signs) != -1:
            continue
        scores = []
        for sign, context in zip(signs, CONTEXTS, strict=True):
            score = np.full((17, 17), -10_000)
            for n00, n01, n10, n11 in tables[context]:
                at = (n10 + n11, n01 + n11)
                score[at] = max(score[at], sign * (n00 + n11 - n01 - n10))
            scores.append(score)
        if (np.array(signs) == S_SIGNS).all():
            best_s = sum(score.max() for score in scores)
        # Round the cycle of the four contexts: each step goes to the other head, or to the same head in the next context.
        walk = scores[0]
        for step in (loss, scores[2].T, loss, scores[3], loss, scores[1].T, loss):
            walk = (walk[:, :, None] + step[None]).max(axis=1)
        best_delta = max(best_delta, walk.diagonal().max() - 32)
    return best_s / 16, best_delta / 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each network of this file does, and what one unit can do."""
    run_experiment("What n shared ReLU units can do at all.", _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    del parser


def _run(parsed: argparse.Namespace) -> None:
    names = dict(zip(CONTEXTS, context_names("A{i} B{j}"), strict=True))
    print("context  units  right answers of 32  rows with both right")
    for (width, context), network in sorted({(len(n.units), c): n for c, n in SOLVED.items()}.items()) + sorted(
        NEARLY.items()
    ):
        right = network.right(context)
        print(f"{names[context]:7} {width:6} {right.sum():12} {right.all(axis=1).sum():19}")
    print("\nfour networks of two units:")
    s = 0.0
    for sign, context in zip(S_SIGNS, CONTEXTS, strict=True):
        table = joint_table(PR_BOX[context], context)
        s += sign * (2 * np.trace(table) - 16) / 16
        print(f"{names[context]}: both wrong, Bob, Alice, both right: {table.ravel().tolist()}")
    print(f"S = {s:g}")
    tables = one_unit()
    for what, place in (("found", 0), ("at most", 1)):
        largest = largest_s_and_delta({context: both[place] for context, both in tables.items()})
        print(f"one unit, {what}: S {largest[0]:g}, Delta {largest[1]:g}")
        for context, both in tables.items():
            counts = np.array(sorted(both[place]))
            print(
                f"  {names[context]}: {len(counts)} joint tables, {(2 * counts[:, 3] + counts[:, 1] + counts[:, 2]).max()} answers, "
                f"{counts[:, 3].max()} rows, C {(2 * (counts[:, 0] + counts[:, 3]) - 16).max() / 16:g}"
            )


if __name__ == "__main__":
    main()
