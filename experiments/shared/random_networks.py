"""Random and trained networks side by side: what `experiments/random_solutions.py` computes of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, stdtrit

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names
from ncsim.ensemble.networks import outcomes as outcomes_of
from ncsim.ensemble.random_solutions import RandomSolutions, random_solutions
from ncsim.records.columns import outcome_sums
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate, clopper_pearson, jackknife_error
from ncsim.statistics.member_statistics import s_influence_contextuality
from ncsim.statistics.outcomes import Outcomes
from ncsim.statistics.protocols import Protocol, ProtocolLaw
from ncsim.statistics.rare_tails import probability_of
from ncsim.statistics.tally import GROUPS, Tables
from ncsim.training.initialization import row_tuples
from ncsim.training.network import Architecture, forward

NAMES = context_names()
PROTOCOLS = (Protocol("single"), Protocol("retry", 100))
RUNS = 200_000
#: Members that are trained again for their logits.
MARGIN_MEMBERS = 256
KINDS = ("trained", "matched", "scattered", "random")
#: By context: cells [T, 4], and probabilities of all and with each group left out, [1 + GROUPS, T].
Laws = list[tuple[np.ndarray, np.ndarray]]


class Solved(NamedTuple):
    """How often a context is solved at one width."""

    hidden: int
    context: str
    trained: Estimate
    guessed: Estimate
    walked: Estimate
    converged: bool
    round_trips: int
    apart: float  # walks' logarithm less guesses', in standard errors of both, at the fewest wrong answers with 100 guesses
    compared_at: int  # those wrong answers


class Statistics(NamedTuple):
    """S of one kind of network at one width under a protocol."""

    hidden: int
    kind: str
    protocol: str
    mean_s: Estimate
    above_2: Estimate
    delta: float  # mean of drawn quadruples
    positive: Estimate  # share of drawn quadruples with Delta > 0
    influence: float
    uncovered: float  # weight of wrong answers that no random network was found with


class Margin(NamedTuple):
    """Margins of networks that solve a context: medians, of the smallest logit in favour and of it over the logits' root mean square."""

    hidden: int
    context: str
    trained: float
    random: float
    trained_relative: float
    random_relative: float
    trained_networks: int
    random_networks: int


def wrong_of(cells: np.ndarray) -> np.ndarray:
    """Wrong answers of tables of counts [T, 4], both heads together."""
    return np.asarray(cells @ [2, 1, 1, 0])


def trained_laws(outcomes: Outcomes, protocol: Protocol) -> Laws:
    """Laws of tables under a protocol, of all members and with each group left out."""
    law = ProtocolLaw(protocol, outcomes)
    return [
        (tables.cells(outcomes.rows), laws)
        for tables, laws in zip(outcomes.tally.tables, law.left_out_table_laws, strict=True)
    ]


def random_laws(found: RandomSolutions) -> Laws:
    """Laws of tables of random networks, of all and with each group left out."""
    laws = []
    for code, mass in found.tables:
        by_group = mass.sum(axis=1)
        left = np.concatenate(
            [by_group.sum(axis=1, keepdims=True), by_group.sum(axis=1, keepdims=True) - by_group], axis=1
        ).T
        laws.append((Tables(code, by_group).cells(found.config.tasks.rows), left / left.sum(axis=1, keepdims=True)))
    return laws


def matched(
    trained: tuple[np.ndarray, np.ndarray], law: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Random tables with the trained number of wrong answers: cells [T, 4], probabilities [T], and the weight of numbers that no random network
    has, for which trained tables stand.

    Args:
        trained: cells and the law of trained networks.
        law: those of random ones, one law each.
    """
    (cells, probability), (random_cells, random) = trained, law
    most = int(max(wrong_of(cells).max(), wrong_of(random_cells).max())) + 1
    wanted = np.bincount(wrong_of(cells), probability, most)
    there = np.bincount(wrong_of(random_cells), random, most)
    factor = np.divide(wanted, there, out=np.zeros(most), where=there > 0)
    stand_in = np.where(there[wrong_of(cells)] > 0, 0, probability)
    both = np.concatenate([random_cells, cells]), np.concatenate([random * factor[wrong_of(random_cells)], stand_in])
    return *both, float(stand_in.sum())


def scattered_laws(rows: int) -> Laws:
    """Laws of tables where each answer is right or wrong by chance, alike in all contexts and groups: given their number, wrong
    answers then lie anywhere."""
    cells = np.array([(d, a, b, rows - d - a - b) for d, a, b in np.ndindex(*[rows + 1] * 3) if d + a + b <= rows])
    law = np.exp(gammaln(rows + 1) - gammaln(cells + 1).sum(axis=1) - rows * math.log(4))
    return [(cells, np.repeat(law[None], 1 + GROUPS, axis=0))] * 4


def k_laws(laws: Sequence[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """Laws of k, on how many rows exactly one head is right, float64[4, rows + 1]."""
    return np.stack([np.bincount(cells[:, 1] + cells[:, 2], law, rows + 1) for cells, law in laws])


def mean_s(laws: np.ndarray) -> float:
    """Mean of S from laws of k."""
    c = laws @ (1 - 2 * np.arange(laws.shape[1]) / (laws.shape[1] - 1))
    return float(c[0] + c[1] + c[2] - c[3])


def above_2(laws: np.ndarray) -> float:
    """P(S > 2) from laws of k."""
    rows = laws.shape[1] - 1
    return probability_of(laws, 2 + 2 / rows)


def estimated(
    function: Callable[[np.ndarray], float],
    trained: Laws | None,
    law: Laws | None,
    rows: int,
    support: tuple[float, float],
) -> Estimate:
    """A function of the laws of k, of trained networks, of random ones, or (both given) of matched ones."""

    def value(first: int, second: int) -> float:
        ones = [] if trained is None else [(cells, laws[first]) for cells, laws in trained]
        others = [] if law is None else [(cells, laws[second]) for cells, laws in law]
        if ones and others:
            return function(k_laws([matched(a, b)[:2] for a, b in zip(ones, others, strict=True)], rows))
        return function(k_laws(ones or others, rows))

    middle = value(0, 0)
    errors = [
        jackknife_error(np.array([value(n, 0) for n in range(1, GROUPS + 1)])) if trained is not None else 0.0,
        jackknife_error(np.array([value(0, n) for n in range(1, GROUPS + 1)])) if law is not None else 0.0,
    ]
    reach = float(stdtrit(GROUPS - 1, 0.975)) * math.hypot(*errors)
    low, high = max(middle - reach, support[0]), min(middle + reach, support[1])
    return Estimate(middle, min(low, middle), max(high, middle), "delete-a-group jackknife of both")


def drawn_contextuality(
    laws: Sequence[tuple[np.ndarray, np.ndarray]], rows: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Delta and direct influence of quadruples drawn from four laws of tables, float64[RUNS] each."""
    generator = np.random.default_rng(seed)
    counts = np.stack(
        [cells[generator.choice(len(law), RUNS, p=law / law.sum())] for cells, law in laws]
    )  # [4, RUNS, 4]
    _, influence, delta = s_influence_contextuality(*outcome_sums(np.moveaxis(counts, -1, 1)), rows)
    return delta / rows, influence / rows


def statistics_of(outcomes: Outcomes, walks: RandomSolutions) -> list[Statistics]:
    """All kinds of network under all protocols, at one width."""
    rows, law, found = outcomes.rows, random_laws(walks), []
    by_kind = {"trained": None, "matched": law, "scattered": scattered_laws(rows), "random": law}
    for protocol in PROTOCOLS:
        trained = trained_laws(outcomes, protocol)
        for kind in KINDS if protocol.is_single_shot else KINDS[:3]:
            given = (trained if kind != "random" else None), by_kind[kind]
            uncovered = 0.0
            if kind in ("matched", "scattered"):
                others = given[1] or []
                each = [matched((c, t[0]), (d, r[0])) for (c, t), (d, r) in zip(trained, others, strict=True)]
                first, uncovered = [pair[:2] for pair in each], max(pair[2] for pair in each)
            else:
                first = [(cells, laws[0]) for cells, laws in (trained if kind == "trained" else law)]
            delta, influence = drawn_contextuality(first, rows)
            found.append(
                Statistics(
                    walks.config.hidden,
                    kind,
                    protocol.label,
                    estimated(mean_s, *given, rows, (-4.0, 4.0)),
                    estimated(above_2, *given, rows, (0.0, 1.0)),
                    float(delta.mean()),
                    clopper_pearson(int((delta > 0).sum()), RUNS),
                    float(influence.mean()),
                    uncovered,
                )
            )
    return found


def solved_of(outcomes: Outcomes, guesses: RandomSolutions, walks: RandomSolutions) -> list[Solved]:
    """A row per context."""
    found = []
    for context, name in enumerate(NAMES):
        apart, at = agreement(guesses, walks, context)
        trips = walks.round_trips
        found.append(
            Solved(
                walks.config.hidden,
                name,
                clopper_pearson(*outcomes.solved_fraction(context)),
                guesses.share(context, 0),
                walks.share(context, 0),
                walks.converged(context),
                int(trips[context]) if trips is not None else 0,
                apart,
                at,
            )
        )
    return found


def agreement(guesses: RandomSolutions, walks: RandomSolutions, context: int, fewest: int = 100) -> tuple[float, int]:
    """How far walks are from guesses where guesses find a hundred networks: in standard errors, and at how many wrong answers."""
    networks = sum(int(mass.sum()) for mass in (guesses.tables[context][1],))
    for wrong in range(2 * guesses.config.tasks.rows + 1):
        share = guesses.share(context, wrong)
        if share.value * networks >= fewest:
            walked = walks.share(context, wrong)
            quantile = float(stdtrit(GROUPS - 1, 0.975))
            error = math.hypot(1 / math.sqrt(share.value * networks), math.log(walked.high / walked.value) / quantile)
            return math.log(walked.value / share.value) / error, wrong
    return math.nan, -1


def margins_of(run: Run, walks: RandomSolutions) -> list[Margin]:
    """A row per context that both trained and random networks solve."""
    config = run.configs[0]
    members = np.asarray(config.member_ids)[: min(MARGIN_MEMBERS, config.members)]
    answered = outcomes_of(run, members.tolist())
    rows, found = row_tuples(config), []
    for context, name in enumerate(NAMES):
        i, j = divmod(context, 2)
        favour = np.abs(answered.logits[:, i, j])[(answered.outcomes[:, i, j] == 1).all(axis=(1, 2))]  # [M, party, row]
        vectors = walks.vectors[context]
        if not len(favour) or not len(vectors):
            continue
        logits = np.abs(np.asarray(forward(Architecture.of(config).split(vectors.T), rows)[1]))  # [row, party, N]
        sides = [each.reshape(len(each), -1) for each in (favour, np.moveaxis(logits, -1, 0))]
        smallest = [each.min(axis=1) for each in sides]
        relative = [small / np.sqrt((each**2).mean(axis=1)) for small, each in zip(smallest, sides, strict=True)]
        medians: Any = [float(np.median(each)) for each in (*smallest, *relative)]
        found.append(Margin(config.hidden, name, *medians, *map(len, sides)))
    return found


#: Networks that one file of guesses holds; more are drawn in parts, with a seed each, so that a run that was stopped goes on.
PART = 10**9
#: Where the range of walks ends by width, where it is not as far as they get: at n = 2 context 22 has networks with three wrong answers,
#: so rare that walks which seek them do not come back.
FEWEST = {2: (0, 0, 0, 4)}


def kept(place: Path, config: EnsembleConfig, draws: int, method: str) -> RandomSolutions:
    """Random networks of one width: drawn, or read where they were drawn before."""
    if method == "guess" and draws > PART:
        parts = -(-draws // PART)
        return joined([kept_part(place, config, PART, method, seed) for seed in range(parts)])
    return kept_part(place, config, draws, method, 0)


def joined(parts: Sequence[RandomSolutions]) -> RandomSolutions:
    """Guesses with different seeds as one."""
    tables = []
    for context in range(4):
        codes = np.unique(np.concatenate([part.tables[context][0] for part in parts]))
        mass = np.zeros((len(codes), *parts[0].tables[context][1].shape[1:]))
        for part in parts:
            code, own = part.tables[context]
            mass[np.searchsorted(codes, code)] += own
        tables.append((codes, mass))
    vectors = tuple(np.concatenate([part.vectors[context] for part in parts]) for context in range(4))
    return parts[0]._replace(draws=sum(part.draws for part in parts), tables=tuple(tables), vectors=vectors)


def kept_part(place: Path, config: EnsembleConfig, draws: int, method: str, seed: int) -> RandomSolutions:
    """As `kept`, of one file."""
    fewest = FEWEST.get(config.hidden, (0, 0, 0, 0)) if method != "guess" else (0, 0, 0, 0)
    name = "-".join(map(str, ("random", config.hidden, method, draws, *([f"seed-{seed}"] if seed else []))))
    path = place / f"{name}{'-from-' + str(max(fewest)) if any(fewest) else ''}.npz"
    if not path.exists():
        found = random_solutions(config, draws, method=method, seed=seed, fewest=fewest)
        arrays: Any = {f"code_{n}": code for n, (code, _) in enumerate(found.tables)}
        arrays |= {f"mass_{n}": mass for n, (_, mass) in enumerate(found.tables)}
        arrays |= {f"vectors_{n}": each for n, each in enumerate(found.vectors)}
        trips = found.round_trips if found.round_trips is not None else np.zeros(0, np.int64)
        half = path.with_suffix(".part.npz")
        np.savez_compressed(half, trips=trips, draws=found.draws, language=found.language, **arrays)
        half.replace(path)
    read = np.load(path)
    return RandomSolutions(
        config,
        method,
        int(read["draws"]),
        tuple((read[f"code_{n}"], read[f"mass_{n}"]) for n in range(4)),
        tuple(read[f"vectors_{n}"] for n in range(4)),
        0,
        read["trips"] if len(read["trips"]) else None,
        str(read["language"]),
        fewest,
    )
