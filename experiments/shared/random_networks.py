"""Random and trained networks side by side: what `experiments/random_solutions.py` computes of both."""

from __future__ import annotations

import functools
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
from ncsim.statistics.intervals import Estimate, clopper_pearson, fraction_estimate, mean_estimate
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
#: By context: cells [T, 4], and probabilities [T].
Tabled = list[tuple[np.ndarray, np.ndarray]]
#: Makes an interval, as `fraction_estimate` does.
Interval = Callable[..., Estimate]


class Source(NamedTuple):
    """Networks that laws were computed from.

    Attributes:
        laws: of tables, of all networks and with each group left out.
        networks: that are independent, in the context that has fewest. None where the laws are exact.
        tries: networks that a run looks at.
        freedom: degrees of freedom of the jackknife; one less than the groups if None.
    """

    laws: Laws
    networks: int | None
    tries: int = 1
    freedom: int | None = None


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
    positive: Estimate  # P(Delta > 0), of drawn quadruples and for new networks
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


def trained_networks(outcomes: Outcomes, protocol: Protocol) -> Source:
    """Trained networks under a protocol."""
    law = ProtocolLaw(protocol, outcomes)
    tables = zip(outcomes.tally.tables, law.left_out_table_laws, strict=True)
    laws = [(each.cells(outcomes.rows), left_out) for each, left_out in tables]
    return Source(laws, outcomes.networks, protocol.tries, min(law.freedoms))


def random_networks_of(found: RandomSolutions) -> Source:
    """Random networks. Of walks those are taken for independent that a round trip lies between, which the interval of walks rests on, too:
    trips of the time before, of which no network is counted, are left out where they are known. Never more than were counted."""
    trips = found.round_trips
    if trips is None:
        return Source(random_laws(found), found.draws)
    counted = trips if found.trips_before is None else trips - found.trips_before
    return Source(random_laws(found), min(int(counted.min()), found.draws))


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


def laws_at(trained: Source | None, other: Source | None, first: int = 0, second: int = 0) -> Tabled:
    """Laws of trained networks, of others, or (both given) of others matched to the trained: of all of either kind, or with a group
    of it left out, by its number from 1."""
    ones = [] if trained is None else [(cells, laws[first]) for cells, laws in trained.laws]
    others = [] if other is None else [(cells, laws[second]) for cells, laws in other.laws]
    if ones and others:
        return [matched(a, b)[:2] for a, b in zip(ones, others, strict=True)]
    return ones or others


def estimated(
    function: Callable[[Tabled], float],
    trained: Source | None,
    other: Source | None,
    interval: Interval = fraction_estimate,
    possible: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """A number of the laws of `laws_at`, with what either kind of network leaves open.

    Each kind has an interval of its own: the jackknife over its groups, widened for outcomes that none of its networks has. Kinds are
    independent, so that errors add in squares, on each side by itself.

    Args:
        function: of laws of tables.
        trained: trained networks.
        other: random ones, or scattered answers.
        interval: `fraction_estimate`, or another of the same arguments.
        possible: the smallest and the largest that the number can be.
    """
    value, found = function(laws_at(trained, other)), []
    for number, source in enumerate((trained, other)):
        if source is not None and source.networks is not None:
            groups = range(1, len(source.laws[0][1]))
            places = [(0, group) if number else (group, 0) for group in groups]
            left_out = np.array([function(laws_at(trained, other, *place)) for place in places])
            found.append(interval(value, left_out, source.networks, source.tries, freedom=source.freedom))
    if len(found) == 1:
        return found[0]
    low = max(value - math.hypot(*(value - each.low for each in found)), possible[0])
    high = min(value + math.hypot(*(each.high - value for each in found)), possible[1])
    return Estimate(value, low, high, f"{found[0].method}, of both kinds of network")


def estimated_mean_s(trained: Source | None, other: Source | None, rows: int) -> Estimate:
    """Mean S under the laws of `laws_at`, a sum over four contexts; as `estimated`."""
    interval = functools.partial(mean_estimate, contexts=4)
    return estimated(lambda laws: mean_s(k_laws(laws, rows)), trained, other, interval, (-4.0, 4.0))


def drawn_tables(laws: Tabled, seed: int = 0) -> np.ndarray:
    """Quadruples drawn from four laws of tables, as places in these, int64[RUNS, 4]."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.choice(len(law), RUNS, p=law / law.sum()) for _, law in laws], axis=1)


def contextuality_of(laws: Tabled, drawn: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Delta and direct influence of drawn quadruples [RUNS, 4], float64[RUNS] each."""
    counts = np.stack([cells[drawn[:, n]] for n, (cells, _) in enumerate(laws)])  # [4, RUNS, 4]
    _, influence, delta = s_influence_contextuality(*outcome_sums(np.moveaxis(counts, -1, 1)), rows)
    return delta / rows, influence / rows


def drawn_contextuality(laws: Tabled, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Delta and direct influence of quadruples drawn from four laws of tables, float64[RUNS] each."""
    return contextuality_of(laws, drawn_tables(laws, seed), rows)


def share_of_drawn(drawn: np.ndarray, event: np.ndarray, trained: Source | None, other: Source | None) -> Estimate:
    """The share of quadruples [RUNS, 4], drawn from the laws of `laws_at`, that an event bool[RUNS] befell: of new networks, and not
    of these alone.

    A hundred thousand drawn quadruples of a hundred networks show no more than these do. What leaving a group out changes is computed to
    first order, as in `ProtocolLaw.fraction_of_runs`.
    """
    value, whole = float(np.mean(event)), laws_at(trained, other)
    beside = []
    for number, (_, law) in enumerate(whole):
        times = np.bincount(drawn[:, number], minlength=len(law))
        hits = np.bincount(drawn[:, number], event, len(law))
        beside.append(np.where(times, hits / np.maximum(times, 1), value))

    def changed(laws: Tabled) -> float:
        return value + sum(
            float((new - law) @ share) for (_, new), (_, law), share in zip(laws, whole, beside, strict=True)
        )

    return estimated(changed, trained, other, functools.partial(fraction_estimate, runs=len(event)))


def statistics_of(outcomes: Outcomes, walks: RandomSolutions) -> list[Statistics]:
    """All kinds of network under all protocols, at one width."""
    random = random_networks_of(walks)
    others = {
        "trained": None,
        "matched": random,
        "scattered": Source(scattered_laws(outcomes.rows), None),
        "random": random,
    }
    found = []
    for protocol in PROTOCOLS:
        trained = trained_networks(outcomes, protocol)
        for kind in KINDS if protocol.is_single_shot else KINDS[:3]:
            given = (trained if kind != "random" else None), others[kind]
            found.append(_statistics((walks.config.hidden, kind, protocol.label), *given, outcomes.rows))
    return found


def _statistics(name: tuple[int, str, str], trained: Source | None, other: Source | None, rows: int) -> Statistics:
    """One kind of network under one protocol."""
    laws, uncovered = laws_at(trained, other), 0.0
    if trained is not None and other is not None:
        pairs = zip(trained.laws, other.laws, strict=True)
        uncovered = max(matched((c, t[0]), (d, r[0]))[2] for (c, t), (d, r) in pairs)
    drawn = drawn_tables(laws)
    delta, influence = contextuality_of(laws, drawn, rows)
    return Statistics(
        *name,
        estimated_mean_s(trained, other, rows),
        estimated(lambda of: above_2(k_laws(of, rows)), trained, other),
        float(delta.mean()),
        share_of_drawn(drawn, delta > 0, trained, other),
        float(influence.mean()),
        uncovered,
    )


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
            if walked.low == 0:  # their error is not known
                return math.nan, wrong
            # From the lower limit: the upper one may be cut off at 1.
            error = math.hypot(1 / math.sqrt(share.value * networks), math.log(walked.value / walked.low) / quantile)
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
        trips, before = (
            np.zeros(0, np.int64) if each is None else each for each in (found.round_trips, found.trips_before)
        )
        half = path.with_suffix(".part.npz")
        np.savez_compressed(half, trips=trips, before=before, draws=found.draws, language=found.language, **arrays)
        half.replace(path)
    read = np.load(path)
    before = read["before"] if "before" in read else np.zeros(0, np.int64)  # files that were kept earlier lack it
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
        before if len(before) else None,
    )
