"""Controls: cases whose S and Delta are known beforehand, each with what must come out and what did.

Question. Does the machinery say 4 where S is 4, and 0 where nothing is contextual? And do trained networks, built so
that theory settles the answer, come out as theory says: four heads on one network (|S| <= 2), shuffled pairs (S of the
accuracies alone), noisy labels (Delta may exceed 0 by right), a network that is told the context (a PR box)?

Command. `python -m experiments.controls --members 1000 --out runs/controls`

Time. Half a minute on two cores, a third of it compiling.

Expected. Every check passes. Noisy labels whose errors both heads share in half of the networks give Delta > 0 in 28 %
of members, which is no failure: nothing is wrong with a Delta above 0 where no head is perfect.

Writes into the folder: controls.png, .svg, .pdf, .csv and controls.json. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS, PAPER_TASKS, TruthTables, context_targets, encoded_inputs
from ncsim.ensemble.run import run_ensemble
from ncsim.errors import ConfigError
from ncsim.executors.devices import prepare_jax
from ncsim.formatting import counted, table
from ncsim.records.joint_counts import from_context_order, joint_counts, merge_counts
from ncsim.report.figures import BLACK, BLUE, ORANGE, PURPLE, VERMILLION, new_figure, save_figure
from ncsim.statistics.chsh import ChshStatistics, chsh_statistics
from ncsim.statistics.contextuality import contextuality_measures
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.locality_tests import STRATEGIES
from ncsim.statistics.protocols import TSIRELSON
from ncsim.training.initialization import initial_vector, member_key, root_key, row_tuples
from ncsim.training.network import Architecture, forward
from ncsim.training.step import train

#: What rounding in float64, and in the linear programme's solver, may change.
ROUNDING, SOLVER = 1e-9, 1e-7
#: A mean over shuffles may be off by so many of its standard errors: a false alarm with less than one seed in 1,000.
STANDARD_ERRORS = 4.0
#: How near to the PR box the mean of networks that are told the context must come.
NEAR = 0.1
SHUFFLES = 200
DOTS = 300  # members that the figure draws one by one
LANES = 64  # networks side by side, as in ncsim.executors


class Check(NamedTuple):
    """One number of a control: what it must be, what it is, and whether that is well. None: reported, not judged."""

    quantity: str
    expected: str
    measured: float | Estimate
    passed: bool | None

    @property
    def result(self) -> str:
        """In a word."""
        return {True: "pass", False: "FAIL", None: "reported"}[self.passed]


class Control(NamedTuple):
    """A control with the statistics of its M tables, for the figure, and its checks.

    `expected_s` and `expected_delta` are what theory allows, as (lowest, highest) of each separate stretch; for shuffled
    pairs and networks given the context a single value is that of the mean over members.
    """

    name: str
    statistics: ChshStatistics
    expected_s: tuple[tuple[float, float], ...]
    expected_delta: tuple[tuple[float, float], ...]
    checks: tuple[Check, ...]


def controls(members: int, seed: int) -> list[Control]:
    """All of them, the constructed ones first; `members` networks (quadruples, where contexts have their own)."""
    told = given_context_counts(members, seed)
    return [
        pr_box(pr_box_counts()),
        tsirelson(tsirelson_table()),
        local_strategies(STRATEGIES),
        four_heads(four_heads_counts(members, seed)),
        label_noise("label noise, by head", noisy_counts(members, seed, shared=0.0), shared=0.0),
        label_noise("label noise, half shared", noisy_counts(members, seed, shared=0.5), shared=0.5),
        given_context(told),
        shuffled_pairing("the same, shuffled pairs", told, seed),
        shuffled_pairing("four networks, shuffled pairs", single_shot_counts(members, seed), seed),
    ]


def equal(quantity: str, expected: float, measured: Any, tolerance: float = ROUNDING) -> Check:
    """Must be `expected` to within the tolerance; NaN is not."""
    shown = f"{expected:.4f}" if tolerance <= SOLVER else f"{expected:.4f} +- {tolerance:.2g}"
    return Check(quantity, shown, float(measured), bool(abs(measured - expected) <= tolerance))


def at_most(quantity: str, bound: float, measured: Any, tolerance: float = ROUNDING) -> Check:
    """Must not be above `bound`; NaN fails."""
    return Check(quantity, f"<= {bound:.4f}", float(measured), bool(measured <= bound + tolerance))


def reported(quantity: str, expected: str, measured: float | Estimate) -> Check:
    """Shown beside what is expected of it, not judged."""
    return Check(quantity, expected, measured, None)


# Constructed tables: nothing is trained.


def pr_box_counts() -> np.ndarray:
    """A PR box of eight items per context: fair outcomes, equal in contexts 11, 12, 21 and opposite in 22."""
    counts = np.zeros((2, 2, 2, 2), np.int64)
    for (i, j), a in itertools.product(CONTEXTS, (0, 1)):
        counts[i, j, a, a ^ (i & j)] = 4
    return counts


def pr_box(counts: np.ndarray) -> Control:
    """S = 4 without direct influence; CNT2 from its closed form and from its definition."""
    found = chsh_statistics(counts)
    checks = (
        equal("S", 4, found.s),
        equal("influence", 0, found.influence),
        equal("Delta", 2, found.contextuality),
        equal("CNT2", 0.5, found.cnt2),
        equal("CNT2, linear programme", 0.5, contextuality_measures(counts).cnt2, SOLVER),
    )
    return Control("PR box", _batched(found), ((4, 4),), ((2, 2),), checks)


def tsirelson_table() -> np.ndarray:
    """Probabilities of the quantum optimum: fair outcomes, correlators 1 / sqrt 2, negative in context 22."""
    outcome = np.array([-1, 1])
    sign = np.array([[1, 1], [1, -1]])[..., None, None]
    return np.asarray((1 + sign * outcome[:, None] * outcome / np.sqrt(2)) / 4)


def tsirelson(probabilities: np.ndarray) -> Control:
    """S = 2 sqrt 2 without direct influence."""
    found = chsh_statistics(probabilities)
    checks = (
        equal("S", TSIRELSON, found.s),
        equal("influence", 0, found.influence),
        equal("Delta", TSIRELSON - 2, found.contextuality),
        equal("CNT2, linear programme", (TSIRELSON - 2) / 4, contextuality_measures(probabilities).cnt2, SOLVER),
    )
    delta = TSIRELSON - 2
    return Control("Tsirelson table", _batched(found), ((TSIRELSON, TSIRELSON),), ((delta, delta),), checks)


def local_strategies(tables: np.ndarray) -> Control:
    """Every deterministic local strategy has |S| = 2 and Delta = 0: tables [16, 2, 2, 2, 2]."""
    found = chsh_statistics(tables)
    checks = (
        equal("strategies", 16, len(np.unique(tables.reshape(len(tables), -1), axis=0))),
        equal("smallest |S|", 2, np.abs(found.s).min()),
        equal("largest |S|", 2, np.abs(found.s).max()),
        equal("largest |Delta|", 0, np.abs(found.contextuality).max()),
    )
    return Control("16 local strategies", found, ((-2, -2), (2, 2)), ((0, 0),), checks)


# One network with four heads.


class FourHeads(nn.Module):
    """One ReLU layer that four heads share: inputs [R, F] to decision logits [R, 4] of A1, A2, B1, B2."""

    hidden: int

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        return nn.Dense(4)(nn.relu(nn.Dense(self.hidden)(inputs)))


def four_heads_counts(members: int, seed: int, hidden: int = 3, steps: int = 1_000) -> np.ndarray:
    """Joint counts [M, 2, 2, 2, 2] of networks trained on the paper's four tasks at once (Adam, learning rate 0.01).

    Context (i, j) is the same network's heads Ai and Bj on the sixteen inputs.
    """
    network, optimizer = FourHeads(hidden), optax.adam(0.01)
    inputs = jnp.asarray(encoded_inputs(PAPER_TASKS, "binary"), jnp.float32)
    targets = np.array([*PAPER_TASKS.alice, *PAPER_TASKS.bob]).T  # [R, 4]

    def loss(parameters: Any) -> Any:
        return optax.sigmoid_binary_cross_entropy(network.apply(parameters, inputs), targets).mean(axis=0).sum()

    def one_member(key: Any) -> Any:
        parameters = network.init(key, inputs)

        def step(_: Any, carry: Any) -> Any:
            parameters, state = carry
            updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
            return optax.apply_updates(parameters, updates), state

        parameters, _ = jax.lax.fori_loop(0, steps, step, (parameters, optimizer.init(parameters)))
        return network.apply(parameters, inputs)

    logits = np.asarray(jax.jit(jax.vmap(one_member))(jax.random.split(root_key(seed), members)))
    outcomes = np.where((_finite(logits) > 0) == (targets > 0), 1, -1)  # [M, R, 4]
    return joint_counts(_by_context({(i, j): outcomes[:, :, [i, 2 + j]] for i, j in CONTEXTS}))


def four_heads(counts: np.ndarray) -> Control:
    """One network answers all four tasks on every item, so one joint distribution underlies all contexts."""
    found = chsh_statistics(counts)
    checks = (
        at_most("largest |S| of a member", 2, np.abs(found.s).max()),
        equal("largest influence of a member", 0, found.influence.max()),
        at_most("largest Delta of a member", 0, found.contextuality.max()),
        reported("mean S", "-2 .. 2", float(found.s.mean())),
    )
    return Control("one network, four heads", found, ((-2, 2),), ((-2, 0),), checks)


# Shuffled pairs.


def single_shot_counts(members: int, seed: int) -> np.ndarray:
    """Joint counts [M, 2, 2, 2, 2] of the paper's networks at n = 3, a network a context."""
    return np.asarray(
        run_ensemble(EnsembleConfig(hidden=3, members=members, steps=1_000, root_seed=seed), devices=1).counts
    )


def shuffled_pairing(name: str, counts: np.ndarray, seed: int) -> Control:
    """Alice's outcome on an item beside Bob's on another, drawn anew many times: the correlator goes to a b.

    Counts say which pairs of outcomes fell, in no order, and to shuffle them no order is needed.
    """
    before = chsh_statistics(counts)
    alice, bob = _outcomes(counts)
    generator = np.random.default_rng(seed)
    correlators, merged = [], np.zeros(counts.shape, np.int64)
    for _ in range(SHUFFLES):
        table = joint_counts(np.stack([alice, generator.permuted(bob, axis=-1)], axis=-2))
        correlators.append(chsh_statistics(table).correlator.mean(axis=0))
        merged += table
    mean, error = np.mean(correlators, axis=0), np.std(correlators, axis=0, ddof=1) / np.sqrt(SHUFFLES)
    product = ((2 * before.accuracy_alice - 1) * (2 * before.accuracy_bob - 1)).mean(axis=0)
    # Where no head varies shuffling changes nothing, and there is no error to divide by.
    off = np.abs(mean - product) / np.where(error > 0, error, ROUNDING)
    sign = np.array([[1, 1], [1, -1]])
    tolerance = STANDARD_ERRORS * float(np.sqrt(np.sum(error**2))) + ROUNDING
    checks = (
        reported("mean S before", "any", float(before.s.mean())),
        equal("mean S, shuffled", float(before.s_factorised.mean()), np.sum(sign * mean), tolerance),
        at_most("correlators off a b, largest, in standard errors", STANDARD_ERRORS, off.max()),
    )
    found = chsh_statistics(merged)
    expected = float(before.s_factorised.mean())
    return Control(name, found, ((expected, expected),), ((-np.inf, 0),), checks)


# Networks trained by ncsim's own step, on targets that no truth table holds.


def trained_answers(config: EnsembleConfig, member: np.ndarray, context: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Answers bool[M, R, 2] after training of networks that each have targets of their own, [M, R, 2] of 0 and 1.

    Network n starts from the key of `member[n]` in `context[n]`.

    Raises:
        ConfigError: a network diverged.
    """
    blocks = -(-len(member) // LANES)
    padded = np.resize(np.arange(len(member)), blocks * LANES)
    ids = np.stack([member, context])[:, padded].reshape(2, blocks, LANES).astype(np.uint32)
    answers = targets[padded].reshape(blocks, LANES, *targets.shape[1:])
    logits = np.asarray(_block_logits(config, *ids, np.moveaxis(answers, 1, -1).astype(np.float32)))
    return _finite(np.moveaxis(logits, -1, 1).reshape(-1, *targets.shape[1:])[: len(member)]) > 0


@functools.partial(jax.jit, static_argnums=0)
def _block_logits(config: EnsembleConfig, member: Any, context: Any, targets: Any) -> Any:
    """Decision logits [blocks, R, 2, L] after training; ids [blocks, L], targets [blocks, R, 2, L]."""

    def start(member: Any, context: Any) -> Any:
        return initial_vector(member_key(root_key(config.root_seed), member, context, False), config)

    def block(arguments: Any) -> Any:
        member, context, targets = arguments
        vector = jax.vmap(start, out_axes=-1)(member, context)
        vector = train(config, vector, targets, jnp.float32(config.learning_rate), jnp.int32(config.steps))
        return forward(Architecture.of(config).split(vector), row_tuples(config))[1]

    return jax.lax.map(block, (member, context, targets))


def noisy_counts(members: int, seed: int, shared: float) -> np.ndarray:
    """Joint counts [M, 2, 2, 2, 2], against the true answers, of networks whose labels are wrong on one row a head.

    In a share `shared` of the networks it is the same row for both heads, as if one hand had written both labels;
    in the others each head has a row of its own, drawn at random. Wide enough to learn all labels, the wrong ones too.
    """
    config = EnsembleConfig(
        hidden=24, encoding="sign", initialization="he", learning_rate=0.02, steps=600, root_seed=seed
    )
    member, context = (ids.ravel() for ids in np.meshgrid(np.arange(members), range(4), indexing="ij"))
    truth = context_targets(PAPER_TASKS)[context]  # [4 M, R, 2]
    generator = np.random.default_rng(seed)
    rows = generator.integers(PAPER_TASKS.rows, size=(len(member), 2))
    rows[:, 1] = np.where(generator.random(len(member)) < shared, rows[:, 0], rows[:, 1])
    labels = truth.copy()
    for party in (0, 1):
        place = (np.arange(len(member)), rows[:, party], party)
        labels[place] = 1 - labels[place]
    right = np.where(trained_answers(config, member, context, labels) == (truth > 0), 1, -1)
    by_member = right.reshape(members, 4, *right.shape[1:])
    return joint_counts(_by_context({place: by_member[:, number] for number, place in enumerate(CONTEXTS)}))


def label_noise(name: str, counts: np.ndarray, shared: float) -> Control:
    """No head is perfect, and a Delta above 0 is no failure. It may not exceed 2 (1 - the largest |mean|)."""
    found = chsh_statistics(counts)
    means = np.abs(2 * np.stack([found.accuracy_alice, found.accuracy_bob]) - 1).max(axis=(0, 2, 3))
    above = int(np.sum(found.contextuality > 0))
    share, _ = noise_if_learned(shared)
    checks = (
        equal("perfect heads", 0, np.sum((found.accuracy_alice == 1) | (found.accuracy_bob == 1))),
        at_most(
            "Delta - 2 (1 - largest |mean|), largest of a member", 0, (found.contextuality - 2 * (1 - means)).max()
        ),
        reported("members with Delta > 0", f"{share:.4f} if learned", clopper_pearson(above, len(counts))),
        reported("Delta of all members pooled", "any", float(chsh_statistics(merge_counts(counts)).contextuality)),
    )
    s_range, delta_range = noise_if_learned(shared)[1]
    return Control(name, found, (s_range,), (delta_range,), checks)


def noise_if_learned(shared: float) -> tuple[float, tuple[tuple[float, float], tuple[float, float]]]:
    """Were every wrong label learned and nothing else wrong: P(Delta > 0), and the ranges of S and of Delta.

    By enumeration: in each context both heads fail on the same row, or each on a row of its own.
    """
    rows = PAPER_TASKS.rows
    same = np.array([[1, 0], [0, rows - 1]])
    different = np.array([[0, 1], [1, rows - 2]])
    probability_same = shared + (1 - shared) / rows
    patterns = list(itertools.product((True, False), repeat=4))
    tables = np.array([[same if each else different for each in pattern] for pattern in patterns])
    found = chsh_statistics(from_context_order(tables.reshape(len(patterns), 4, 4)))
    chance = np.array([np.prod([probability_same if p else 1 - probability_same for p in ps]) for ps in patterns])
    share = float(chance[found.contextuality > 0].sum())
    s, delta = found.s, found.contextuality
    return share, ((float(s.min()), float(s.max())), (float(delta.min()), float(delta.max())))


def given_context_counts(members: int, seed: int) -> np.ndarray:
    """Joint counts [M, 2, 2, 2, 2] of networks that see both tasks' numbers, a random fair bit and the item.

    Inputs i, j, r, x, y, all 32 rows, one network for all contexts. The right answers are alpha_1 = x, alpha_2 = x xor y,
    beta_1 = y, beta_2 = x xor y. Trained so that Alice is right where r = 1 and Bob where r xor (i and j) = 1: both are
    right on half of the items in every context, together in 11, 12, 21 and never together in 22.
    """
    inputs = np.array(list(itertools.product((0, 1), repeat=5)))
    i, j, r, x, y = inputs.T
    truth = np.stack([x ^ (i & y), y ^ (j & x)], axis=1)  # [R, 2]
    targets = truth ^ 1 ^ np.stack([r, r ^ (i & j)], axis=1)
    alice, bob = (tuple(column.tolist()) for column in targets.T)
    tasks = TruthTables(inputs, (alice, alice), (bob, bob), (0, 3), (1, 4), "given the context")  # type: ignore[arg-type]
    config = EnsembleConfig(
        hidden=16, tasks=tasks, encoding="sign", initialization="he", learning_rate=0.02, steps=500, root_seed=seed
    )
    ids = np.arange(members)
    answers = trained_answers(config, ids, np.zeros_like(ids), np.broadcast_to(targets, (members, *targets.shape)))
    right = np.where(answers == (truth > 0), 1, -1)
    return joint_counts(_by_context({(a, b): right[:, (i == a) & (j == b)] for a, b in CONTEXTS}))


def given_context(counts: np.ndarray) -> Control:
    """A PR box, which no influence on accuracies explains: knowing the context is what it takes."""
    found = chsh_statistics(counts)
    full = int(np.sum(found.contextuality == 2))
    checks = (
        equal("mean S", 4, found.s.mean(), NEAR),
        equal("mean influence", 0, found.influence.mean(), NEAR),
        equal("mean Delta", 2, found.contextuality.mean(), NEAR),
        reported("members with Delta = 2", "most", clopper_pearson(full, len(counts))),
    )
    return Control("network given the context", found, ((4, 4),), ((2, 2),), checks)


def _batched(found: ChshStatistics) -> ChshStatistics:
    return jax.tree.map(lambda field: np.asarray(field)[None], found)


def _by_context(outcomes: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Outcomes [M, N, party] of each context with axes [M, i, j, party, N]."""
    stacked = np.stack([np.moveaxis(outcomes[context], 1, 2) for context in CONTEXTS], axis=1)
    return stacked.reshape(len(stacked), 2, 2, *stacked.shape[2:])


def _outcomes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes +1/-1 of Alice and of Bob, [..., i, j, N], that have these counts; the order of items is of no account."""
    ends = np.cumsum(counts.reshape(*counts.shape[:-2], 4), axis=-1)
    cell = np.sum(np.arange(ends.flat[-1]) >= ends[..., :, None], axis=-2)  # of each item: 00, 01, 10, 11
    return np.where(cell >= 2, 1, -1), np.where(cell % 2 == 1, 1, -1)


def _finite(logits: np.ndarray) -> np.ndarray:
    if not np.isfinite(logits).all():
        raise ConfigError("a network of a control diverged; allowed: none, at the settings that stand in this file")
    return logits


def draw(found: Sequence[Control], stem: Path) -> list[Path]:
    """S and Delta of every control: what theory allows as bars or diamonds, members as dots, their mean as a mark."""
    rows: list[list[Any]] = []
    generator = np.random.default_rng(0)
    with new_figure(8.6, 0.42 * len(found) + 1.5) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        panels = (("S", "s", "expected_s"), ("Delta", "contextuality", "expected_delta"))
        smallest = min(float(control.statistics.contextuality.min()) for control in found)
        for axis, (label, field, expected), limits in zip(
            axes, panels, ((-2.5, 4.5), (min(smallest, -2) - 0.4, 2.4)), strict=True
        ):
            for place, control in enumerate(found):
                values = np.atleast_1d(getattr(control.statistics, field))
                for low, high in getattr(control, expected):
                    _draw_expected(axis, place, low, high, limits[0])
                    rows.append([control.name, label, "expected", low, high])
                _draw_members(axis, place, values, generator)
                rows.append([control.name, label, "mean", values.mean(), values.mean()])
                rows.append([control.name, label, "smallest and largest", values.min(), values.max()])
            axis.set_xlim(*limits)
            axis.set_xlabel(label)
        axes[0].axvline(2, color=ORANGE, linestyle="--", linewidth=1.2, zorder=0, label="S = 2, Delta = 0")
        axes[0].axvline(TSIRELSON, color=PURPLE, linestyle="-.", linewidth=1.2, zorder=0, label=r"$2\sqrt{2}$")
        axes[1].axvline(0, color=ORANGE, linestyle="--", linewidth=1.2, zorder=0)
        axes[0].set_yticks(range(len(found)), [control.name for control in found])
        axes[0].set_ylim(len(found) - 0.4, -0.6)
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
        return save_figure(figure, stem, ["control", "quantity", "kind", "low", "high"], rows)


def _draw_expected(axis: Any, place: int, low: float, high: float, edge: float) -> None:
    """A diamond for one value, a bar for a range; one without a lowest value begins at the edge of the picture."""
    if high > low:
        low = max(low, edge)
        axis.barh(place, high - low, left=low, height=0.66, color="0.87", zorder=1, label="range that theory allows")
    else:
        axis.plot(
            low, place, marker="D", markersize=11, markerfacecolor="none", markeredgecolor=VERMILLION,
            markeredgewidth=1.5, linestyle="none", zorder=3.5, label="value that theory requires",
        )  # fmt: skip


def _draw_members(axis: Any, place: int, values: np.ndarray, generator: np.random.Generator) -> None:
    """Members as dots, a line from the smallest to the largest, and their mean."""
    axis.plot(
        [values.min(), values.max()], [place] * 2, color="0.35", linewidth=1, zorder=2, label="smallest to largest"
    )
    shown = values[:DOTS]
    height = place + generator.uniform(-0.22, 0.22, len(shown)) * (len(shown) > 1)
    axis.scatter(shown, height, s=5, color=BLUE, linewidths=0, zorder=3, label=f"a member (the first {DOTS})")
    axis.plot(
        values.mean(), place, marker="|", markersize=13, markeredgewidth=2.2, color=BLACK, linestyle="none", zorder=4,
        label="mean of all members",
    )  # fmt: skip


def printed(found: Sequence[Control]) -> list[str]:
    """Every check as a row, and a last line that says what they come to."""
    rows = [
        [control.name, check.quantity, check.expected, _shown(check.measured), check.result]
        for control in found
        for check in control.checks
    ]
    judged = [check for control in found for check in control.checks if check.passed is not None]
    failed = [control.name for control in found if failures([control])]
    text = f"{len(judged) - len(failures(found))} of {len(judged)} checks pass."
    text += f" Failed: {', '.join(failed)}." if failed else ""
    return [*table(["control", "quantity", "expected", "measured", "result"], rows, indent=""), "", text]


def failures(found: Sequence[Control]) -> list[Check]:
    """The checks that failed."""
    return [check for control in found for check in control.checks if check.passed is False]


def _shown(measured: float | Estimate) -> str:
    return str(measured) if isinstance(measured, Estimate) else f"{measured:.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, check, draw, and print; exit status 1 if a check fails."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--members", 1_000, "members a control")
    add_number(parser, "--seed", 0, "seed of all controls")
    add_place(parser, "runs/controls", "folder (default: {})", devices=None)


def _run(parsed: argparse.Namespace) -> None:
    at_least("--members", parsed.members, 2)
    if not 0 <= parsed.seed < 2**31:
        raise ConfigError(f"--seed: {parsed.seed}; allowed: 0 to {2**31 - 1}")
    out = local_folder("--out", parsed.out)
    prepare_jax(devices=1)
    found = controls(parsed.members, parsed.seed)
    draw(found, out / "controls")
    checks = [{"control": control.name} | check._asdict() for control in found for check in control.checks]
    write_json(out / "controls.json", checks)
    print(f"Controls, {counted(parsed.members, 'member')} each\n")
    print("\n".join(printed(found)))
    if failures(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
