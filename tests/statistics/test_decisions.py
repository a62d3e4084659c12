"""The range of S over decisions of undecided answers: against every decision there is, and its closed forms."""

import itertools

import numpy as np
import pytest

import ncsim
from ncsim.config.tasks import PAPER_TASKS, truth_tables

SMALL = truth_tables(
    [lambda x, y: x, lambda x, y: x ^ y], [lambda x, y: y, lambda x, y: x & y], features=2, alice_features=[0]
)


def s_of(outcomes):
    c = (outcomes[:, :, 0] * outcomes[:, :, 1]).mean(axis=-1)
    return c[0, 0] + c[0, 1] + c[1, 0] - c[1, 1]


def made_up(seed):
    generator = np.random.default_rng(seed)
    shape = (2, 2, 2, 4)
    return generator.choice([-1, 1], size=shape), generator.random(shape) < 0.25


@pytest.mark.parametrize("seed", range(6))
def test_free_answers_against_every_way_to_decide_them(seed):
    outcomes, undecided = made_up(seed)
    places = np.argwhere(undecided)[:9]
    undecided = np.zeros_like(undecided)
    undecided[tuple(places.T)] = True
    found = []
    for answers in itertools.product((-1, 1), repeat=len(places)):
        outcomes[tuple(places.T)] = answers
        found.append(s_of(outcomes))
    ours = ncsim.decision_range(outcomes[None], undecided[None])
    assert (ours.low[0], ours.high[0]) == (min(found), max(found))


@pytest.mark.parametrize("seed", range(6))
def test_heads_that_decide_against_every_way(seed):
    """Eight heads, two answers each."""
    outcomes, undecided = made_up(seed)
    targets = [np.array(SMALL.alice), np.array(SMALL.bob)]
    found = []
    for answers in itertools.product((0, 1), repeat=8):
        decided = outcomes.copy()
        for answer, (i, j, party) in zip(answers, itertools.product((0, 1), repeat=3), strict=True):
            right = np.where(targets[party][(i, j)[party]] == answer, 1, -1)
            decided[i, j, party] = np.where(undecided[i, j, party], right, outcomes[i, j, party])
        found.append(s_of(decided))
    ours = ncsim.decision_range(outcomes[None], undecided[None], SMALL)
    assert (ours.low[0], ours.high[0]) == (min(found), max(found))
    free = ncsim.decision_range(outcomes[None], undecided[None])
    assert free.low[0] <= ours.low[0] <= ours.high[0] <= free.high[0]


def test_a_balanced_group_beside_a_head_that_is_right_moves_nothing():
    """The products of a group add up to the targets' sum, with one sign or the other: 0 if it is balanced."""
    right = np.ones((1, 2, 2, 2, 16), int)
    for left in (range(16), [0, 1, 4, 5], [0, 4]):
        undecided = np.zeros(right.shape, bool)
        undecided[0, 1, 1, 0, list(left)] = True
        assert sum(2 * PAPER_TASKS.alice[1][row] - 1 for row in left) == 0
        low, high = (each[0] for each in ncsim.decision_range(right, undecided, PAPER_TASKS))
        assert low == high == 2 + len(left) / 16
        assert [each[0] for each in ncsim.decision_range(right, undecided)] == [2, 2 + 2 * len(left) / 16]


def test_what_cannot_be_decided():
    right = np.ones((2, 2, 2, 2, 16), int)
    right[1, 0, 0] = 0  # diverged
    undecided = np.zeros(right.shape, bool)
    for tasks in (None, PAPER_TASKS):
        low, high = ncsim.decision_range(right, undecided, tasks)
        assert low[0] == high[0] == 2
        assert np.isnan([low[1], high[1]]).all()
    with pytest.raises(ValueError, match="allowed: \\[M, 2, 2, 2, rows\\] both"):
        ncsim.decision_range(right, undecided[:1])
    with pytest.raises(ValueError, match="allowed: \\[M, 2, 2, 2, rows\\] both"):
        ncsim.decision_range(np.ones((5, 2, 2, 2)), np.zeros((5, 2, 2, 2), bool))  # rows have no axis
    with pytest.raises(ValueError, match="tasks: 4 rows; allowed: 16"):
        ncsim.decision_range(right, undecided, SMALL)
