"""Populations with known numbers, and what is drawn from them: material of test_coverage.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import ncsim
from ncsim.records.members import MemberRecords
from ncsim.records.trajectories import MemberTrajectories
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.protocols import Outcomes, Protocol, law, sample_runs

ROWS = 16
PROTOCOLS = (Protocol("single"), Protocol("best_loss", 5), Protocol("retry", 5))
#: Runs that tell a probability which no law of S gives: right to 0.003.
MANY = 40_000


def records_of(counts, loss, undecided=None):
    """Records of networks without divergence; in each, `undecided` of the rows wrong for both are Alice's undecided ones."""
    zero = np.zeros(counts.shape[:2], np.int32)
    undecided = zero if undecided is None else undecided
    product = counts[..., 0] + counts[..., 3] - counts[..., 1] - counts[..., 2] - undecided
    return MemberRecords(
        member=np.arange(len(counts), dtype=np.uint64),
        counts=counts.astype(np.int32),
        loss=loss.astype(np.float32),
        margin=np.zeros(counts.shape[:2], np.float32),
        diverged=np.zeros(counts.shape[:2], bool),
        undecided_alice=undecided.astype(np.int32),
        undecided_bob=zero,
        decided_product=product.astype(np.int32),
    )


def law_of_tables(kinds, networks=400, seed=0):
    """A population of one context from (share, (wrong wrong, only Bob, only Alice, both)), in random order."""
    size = [round(share * networks) for share, _ in kinds[1:]]
    tables = [kinds[0][1]] * (networks - sum(size))
    for number, (_, table) in zip(size, kinds[1:], strict=True):
        tables += [table] * number
    return np.random.default_rng(seed).permutation(np.array(tables))


@dataclass(frozen=True)
class Population:
    """Networks of four contexts [N, 4, 4], each as likely as any other; of whole members where starts are common."""

    counts: np.ndarray
    common: bool = False

    @cached_property
    def records(self):
        wrong = self.counts[..., 1] + self.counts[..., 2] + 2 * self.counts[..., 0]
        loss = wrong + np.random.default_rng(5).random(wrong.shape)
        return records_of(self.counts, loss, np.minimum(self.counts[..., 0], 1))

    def config(self, members):
        return ncsim.EnsembleConfig(members=members, common_initialization=self.common)

    def drawn(self, members, generator, diverged=(0, 0, 0, 0)):
        """An ensemble: independent networks, or whole members, some of which have diverged."""
        size = (members, 1) if self.common else (members, 4)
        chosen = np.broadcast_to(generator.integers(0, len(self.counts), size), (members, 4))
        taken = {}
        for name in MemberRecords._fields[1:]:
            column = getattr(self.records, name)
            taken[name] = None if column is None else column[chosen, np.arange(4)]
        lost = generator.random((members, 4)) < diverged
        for name in ("counts", "undecided_alice", "undecided_bob", "decided_product"):
            taken[name][lost] = 0
        return MemberRecords(np.arange(members, dtype=np.uint64), **(taken | {"diverged": lost}))

    @cached_property
    def truth(self):
        """What intervals of a report should hold, by name."""
        everyone = self.records if self.common else self.drawn(MANY, np.random.default_rng(6))
        member = chsh_statistics(everyone.joint)
        pooled = chsh_statistics(self.counts.mean(axis=0).reshape(2, 2, 2, 2))
        outcomes = Outcomes([self.records], self.config(len(self.counts)))
        decided = ~everyone.undecided().any(axis=1)
        found = {f"pooled {name}": float(getattr(pooled, name)) for name in POOLED}
        found["pooled s as coin tosses"] = float(self.records.decided_product.mean(axis=0) / ROWS @ [1, 1, 1, -1])
        for n, name in enumerate(("11", "12", "21", "22")):
            found[f"solved {name}"] = float(np.mean(self.counts[:, n, 3] == ROWS))
        for answer, one, other in (
            ("A1", (0, 0), (0, 1)),
            ("A2", (1, 0), (1, 1)),
            ("B1", (0, 0), (1, 0)),
            ("B2", (0, 1), (1, 1)),
        ):
            accuracy = pooled.accuracy_alice if answer[0] == "A" else pooled.accuracy_bob
            found[f"difference {answer}"] = float(accuracy[one] - accuracy[other])
        found |= {
            "members above 2": float(np.mean(member.s > 2)),
            "members contextual": float(np.mean(member.contextuality > 1e-9)),
            "decided members": float(np.mean(decided)),
            "decided members' s": float(np.mean(member.s[decided])),
            "decided members above 2": float(np.mean(member.s[decided] > 2)),
        }
        for protocol in PROTOCOLS:
            exact, word = law(protocol, outcomes), protocol.kind
            runs = chsh_statistics(sample_runs(protocol, outcomes, MANY))
            found[f"{word}: mean s"] = exact.mean
            found[f"{word}: above 2"] = exact.above(2.0)
            found[f"{word}: above 2.828"] = exact.above(2 * 2**0.5)
            found[f"{word}: contextual"] = float(np.mean(runs.contextuality > 1e-9))
            for n, name in enumerate(("11", "12", "21", "22")):
                found[f"{word}: correlator {name}"] = float(runs.correlator.reshape(-1, 4)[:, n].mean())
        return found

    @cached_property
    def along(self):
        """What `trajectory_statistics` estimates, by name; of a recorded number that is 1 where a network is solved."""
        everyone = self.records if self.common else self.drawn(MANY, np.random.default_rng(7))
        member = chsh_statistics(everyone.joint)
        found = {
            name: float(np.mean(getattr(member, name))) for name in ("s", "s_factorised", "influence", "contextuality")
        }
        found |= {"above_2": float(np.mean(member.s > 2)), "contextual": float(np.mean(member.contextuality > 1e-9))}
        found["accuracy_alice"] = float(member.accuracy_alice[:, 0, 1].mean())
        found["solved"] = found["conflict"] = float(np.mean(self.counts[:, 1, 3] == ROWS))
        found["slope"] = found["s"] + 4
        return found


POOLED = ("s", "s_odd", "s_factorised", "influence", "contextuality")


def reported(cell):
    """Every estimate of a cell of summary.json by name."""
    undecided = cell["undecided"]
    found = {f"pooled {name}": cell["pooled"][name] for name in POOLED}
    found["pooled s as they fell"] = undecided["mean_s_as_they_fell"]
    found["pooled s as coin tosses"] = undecided["mean_s_as_coin_tosses"]
    found |= {f"solved {name}": context["solved"] for name, context in cell["contexts"].items()}
    found |= {f"difference {t['answer']}": t["difference"] for t in cell["tests"]["signalling_across_members"]}
    found |= {
        "members above 2": cell["members_with_s_above_2"],
        "members contextual": cell["members_contextual"],
        "decided members": undecided["decided_members"],
        "decided members' s": undecided["mean_s_of_decided_members"],
        "decided members above 2": undecided["decided_members_with_s_above_2"],
    }
    for protocol in cell["protocols"]:
        word = protocol["kind"]
        found[f"{word}: mean s"] = protocol["mean_s"]
        found[f"{word}: above 2"] = protocol["s_above_2"]
        found[f"{word}: above 2.828"] = protocol["s_above_tsirelson"]
        found[f"{word}: contextual"] = protocol["sampled_runs_contextual"]
        found |= {f"{word}: correlator {name}": each for name, each in protocol["correlators"].items()}
    return {name: each for name, each in found.items() if each is not None}


def trajectories_of(records):
    """Two recorded steps: counts with S = -4, and those of the records; a number that is 1 where a network is solved."""
    start = np.zeros_like(records.counts)
    start[:, :3, 1] = ROWS
    start[:, 3, 0] = ROWS
    start[records.diverged] = 0
    counts = np.stack([start, records.counts], axis=1).astype(np.uint16)
    solved = np.where(records.counts[..., 3] == ROWS, 1.0, 0.0)
    values = {"cosine": np.repeat(1 - 2 * solved[:, None], 2, axis=1).astype(np.float32)}
    return MemberTrajectories(records.member, np.array([0, 1000], np.int32), counts, values)
