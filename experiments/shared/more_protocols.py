"""Protocols that are no choice among finished networks of one context: when to stop, whole runs, and seeds that contexts share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.shared.picture import SLaw
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import S_SIGNS
from ncsim.records.members import MemberRecords
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import Protocol, ProtocolLaw
from ncsim.statistics.tally import GROUPS

#: The loss of answers that are all 1/2, or all 0, of both heads.
CHANCE = {"bce": 2 * math.log(2), "cross_entropy": 2 * math.log(2), "squared_error": 2.0}
#: Halvings of the steps at which networks are looked at.
HALVINGS = 6
#: Training is at a plateau if as many steps again lower the loss by less than this share.
PLATEAU = 0.05


def rungs_of(steps: int) -> list[int]:
    """Steps at which networks are looked at: all, half of them, and so on, ascending."""
    return sorted({math.ceil(steps / 2**n) for n in range(HALVINGS + 1)})


def first_below(loss: np.ndarray, bound: float) -> np.ndarray:
    """The first rung [...] at which losses [R, ...] are below the bound; the last if none is."""
    below = loss < bound
    return np.where(below.any(axis=0), below.argmax(axis=0), len(loss) - 1)


def first_plateau(loss: np.ndarray) -> np.ndarray:
    """The first rung at which the loss is hardly lower than at the rung before; the last if there is none."""
    flat = np.concatenate([np.zeros_like(loss[:1], bool), loss[1:] > (1 - PLATEAU) * loss[:-1]])
    return np.where(flat.any(axis=0), flat.argmax(axis=0), len(loss) - 1)


#: When training of a network ends: losses [R, M, 4] at the rungs and the loss of chance to numbers of rungs [M, 4].
STOPS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "all steps": lambda loss, chance: np.full(loss.shape[1:], len(loss) - 1),
    "an eighth of the steps": lambda loss, chance: np.full(loss.shape[1:], max(len(loss) - 4, 0)),
    "loss below half of chance": lambda loss, chance: first_below(loss, chance / 2),
    "loss below a tenth": lambda loss, chance: first_below(loss, chance / 10),
    "plateau": lambda loss, chance: first_plateau(loss),
}


def stopped(rungs: Sequence[MemberRecords], loss: str, stop: str) -> MemberRecords:
    """Members whose networks each ended where the rule says: losses, counts and what diverged are of that rung."""
    losses = np.stack([each.loss for each in rungs])
    at = STOPS[stop](losses, CHANCE[loss])
    member, context = np.ogrid[: at.shape[0], : at.shape[1]]
    columns = {
        name: np.stack([getattr(each, name) for each in rungs])[at, member, context]
        for name in MemberRecords._fields
        if name not in ("member", "training_counts")
    }
    return MemberRecords(rungs[0].member, **columns)


#: A run of all four contexts is made so often, and the one with most right answers is kept.
WHOLE_RUNS = "best of 20 whole runs by accuracy"
CHOICES = (
    Protocol("single"),
    Protocol("best_loss", 20),
    Protocol("best_accuracy", 20),
    Protocol("best_accuracy_alice", 20),
    Protocol("retry_alice", 20),
    Protocol("retry", 20),
    Protocol("retry", 100),
)
LABELS = (*(choice.label for choice in CHOICES), WHOLE_RUNS)


def laws_of(records: MemberRecords, config: EnsembleConfig) -> dict[str, SLaw]:
    """The law of S under each choice, by its label: exact where contexts have their own seeds, else from simulated runs."""
    outcomes = Outcomes([records], config)
    if config.common_initialization:
        return shared_seed_laws(records, outcomes)
    found = {}
    for choice in CHOICES:
        law = ProtocolLaw(choice, outcomes)
        found[choice.label] = SLaw(law.law, law.left_out, law.networks, choice.tries)
    laws = whole_run_laws(outcomes, 20)
    found[WHOLE_RUNS] = SLaw(laws[0], laws[1:], outcomes.networks, 20)
    return found


def whole_run_laws(outcomes: Outcomes, tries: int) -> list[LatticeLaw]:
    """The law of S of the best of so many whole runs by right answers, of all members and without each group.

    Per context k (rows on which one head alone is right) and the right answers have a joint law. Sums over contexts follow the
    convolution of four such laws. The best of K has so many right answers with a difference of two powers, and S given them."""
    rows = outcomes.rows
    size = (4 * rows + 1, 8 * rows + 1)
    product: np.ndarray | float = 1.0
    for sign, tables in zip(S_SIGNS, outcomes.tally.tables, strict=True):
        cells = tables.cells(rows)
        k = cells[:, 1] + cells[:, 2] if sign > 0 else rows - cells[:, 1] - cells[:, 2]
        members = tables.members
        number = np.concatenate(
            [members.sum(axis=1, keepdims=True), members.sum(axis=1, keepdims=True) - members], axis=1
        )
        joint = np.zeros((1 + GROUPS, *size))
        share = number.T / np.maximum(number.sum(axis=0), 1)[:, None]
        for table, place in enumerate(zip(k.tolist(), (cells @ [0, 1, 1, 2]).tolist(), strict=True)):
            joint[:, place[0], place[1]] += share[:, table]
        product = product * np.fft.rfft2(joint)
    joint = np.clip(np.fft.irfft2(product, size), 0, None)
    joint[joint < 1e-14] = 0  # rounding of the transform
    right = joint.sum(axis=1)
    right /= right.sum(axis=1, keepdims=True)
    best = np.diff(np.cumsum(right, axis=1) ** tries, axis=1, prepend=0.0)
    law = np.einsum("gsr,gr->gs", joint, best / np.where(right > 0, joint.sum(axis=1), 1))
    return [LatticeLaw(rows, each[::-1] / each.sum()) for each in law]


def shared_seed_laws(records: MemberRecords, outcomes: Outcomes, runs: int = 20_000, seed: int = 0) -> dict[str, SLaw]:
    """Where the tries of all contexts have the same seeds, contexts are not independent, and runs are drawn: try t of each context
    is the same member. What is left out of a law are the runs that looked at a group's members. Up to 20 tries: of 100, no run
    would be without a group."""
    usable = np.flatnonzero(outcomes.whole)
    generator = np.random.default_rng(seed)
    counts = records.counts
    product = (counts @ np.array([1, -1, -1, 1])) * S_SIGNS
    right, alice, solved = counts @ [0, 1, 1, 2], counts @ [0, 0, 1, 1], counts[..., 3] == outcomes.rows
    scores = {
        "best_loss": -records.loss,
        "best_accuracy": right,
        "retry": solved,
        "best_accuracy_alice": alice,
        "retry_alice": alice == outcomes.rows,
    }
    single = ProtocolLaw(Protocol("single"), outcomes)
    found = {CHOICES[0].label: SLaw(single.law, single.left_out, single.networks, 1)}
    drawn = usable[generator.integers(len(usable), size=(runs, 20))]
    touched = np.zeros((runs, GROUPS), bool)
    np.put_along_axis(touched, drawn % GROUPS, True, axis=1)
    for choice in CHOICES[1:]:
        if choice.tries > drawn.shape[1]:
            continue
        score = scores[choice.kind][drawn].astype(np.float64)  # [runs, tries, context]
        kept = score.argmax(axis=1)
        if choice.kind.startswith("retry"):  # none solved: the last try
            kept = np.where(score.max(axis=1) > 0, kept, drawn.shape[1] - 1)
        s = np.take_along_axis(product[drawn], kept[:, None], axis=1)[:, 0].sum(axis=1)
        found[choice.label] = _simulated(s, touched, outcomes, choice.tries)
    best = drawn[np.arange(runs), right[drawn].sum(axis=2).argmax(axis=1)]
    found[WHOLE_RUNS] = _simulated(product[best].sum(axis=1), touched, outcomes, 20)
    return found


def _simulated(s: np.ndarray, touched: np.ndarray, outcomes: Outcomes, tries: int) -> SLaw:
    """From S of drawn runs in units of 1 / rows."""
    rows = outcomes.rows
    place = (s + 4 * rows) // 2
    laws = []
    for chosen in [np.ones(len(s), bool), *~touched.T]:
        number = np.bincount(place[chosen], minlength=4 * rows + 1)
        laws.append(LatticeLaw(rows, number / max(number.sum(), 1)))
    return SLaw(laws[0], laws[1:], outcomes.networks, tries)
