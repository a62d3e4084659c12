"""Networks of the initial law that get as much right as trained ones: by guess and check, or by a walk that seeks them."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import list_of, option_name, shown, whole_number
from ncsim.config.given import one_config
from ncsim.config.scenarios import two_by_two
from ncsim.config.tasks import context_targets
from ncsim.errors import ConfigError
from ncsim.executors.own_programs import own_programs
from ncsim.executors.random_networks import Drawer
from ncsim.machine import cores
from ncsim.statistics.intervals import Estimate, clopper_pearson, log_ratio, ratio_estimate
from ncsim.statistics.tally import GROUPS, Tables
from ncsim.training.random_networks import LANES, MOST_ROWS, Keep, RandomLaw, Schedule, Walk, seeded

METHODS = ("guess", "multicanonical")
#: Generators per group that guess, and networks that one call of C draws or moves: a second at most.
STREAMS, SLICE = 1024, 2**22
#: Batches that learn the weights of a walk, the steps of each, and after how many the steps of learning shrink.
BATCHES, BATCH_STEPS, SHRINK_AFTER = 3000, 100, 400
#: Steps of each walk before it is counted: a tenth of its steps, and so many at least. Steps from one network kept to the next.
BURN_IN, KEEP_EVERY = 20_000, 101
#: Round trips that the interval of walks needs, four per walk: with fewer, where they began still shows. Standard errors by which
#: their halves may differ.
TRIPS, APART = 4 * GROUPS * LANES, 3.5


class RandomSolutions(NamedTuple):
    """Tables of counts of networks drawn from the initial law, in C = 4 contexts, with those that get most answers right.

    Attributes:
        config: of the networks. What concerns training plays no part.
        method: "guess" or "multicanonical".
        draws: networks that were drawn, or steps of the walks of each context.
        tables: of each context its different tables of counts, and the mass of each by half of the draws and group, a pair of
            int64[T] (codes) and float64[T, 2, 32]. Mass is numbers of networks, or of walks probability but for a common factor.
        vectors: of each context, parameters float32[N, P] of networks with at most `wrong` wrong answers. Those of a walk
            depend on each other.
        wrong: of the two heads together, at most.
        round_trips: of the walks of each context, from the fewest wrong answers that were found to half of all and back, int64[4].
            Among them are those of the time before networks are counted, which has a tenth as many steps or more. None where networks
            were guessed.
        language: "C" or "NumPy"; both give the same.
        fewest: by context, where a walk's range ends.
        trips_before: of the round trips those of that time, int64[4]; None where networks were guessed.

    Example:
        >>> import ncsim
        >>> found = ncsim.random_solutions(ncsim.EnsembleConfig(hidden=3), draws=100_000, wrong=2)
        >>> found.share(0).high < found.share(0, 8).low < 1
        True
        >>> cells, law = found.law(3, wrong=10)  # of networks with ten wrong answers in context 22
        >>> cells.shape[1], int((cells @ [2, 1, 1, 0]).min()), round(float(law.sum()), 9)
        (4, 10, 1.0)
        >>> found.converged(0), abs(found.halves_apart(0)) < 5  # of walks it is to be asked
        (True, True)
        >>> bool((found.records(0).counts[3] >= 14).all())  # rows that both heads have right
        True
    """

    config: EnsembleConfig
    method: str
    draws: int
    tables: tuple[tuple[np.ndarray, np.ndarray], ...]
    vectors: tuple[np.ndarray, ...]
    wrong: int
    round_trips: np.ndarray | None
    language: str
    fewest: tuple[int, ...] = (0, 0, 0, 0)
    trips_before: np.ndarray | None = None

    def share(self, context: int, wrong: int | None = None) -> Estimate:
        """The probability that a network of the initial law has at most so many wrong answers in a context; `self.wrong`
        if not given. Solved is 0.

        Guesses have an exact interval. That of walks is of the logarithm, from the 32 groups (delete-a-group jackknife, Student's t);
        where no walk has come so far it is all that is possible.

        Args:
            context: number of the context, 0 to 3.
            wrong: of both heads together.
        """
        cells, mass = self._cells(context)
        inside = _wrong(cells) <= (self.wrong if wrong is None else wrong)
        if self.method == "guess":
            return clopper_pearson(float(mass[inside].sum()), float(mass.sum()))
        return ratio_estimate(mass[inside].sum(axis=(0, 1)), mass.sum(axis=(0, 1)))

    def law(self, context: int, wrong: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tables of counts int64[T, 4], as (Alice right, Bob right) = 00, 01, 10, 11, and the probability of each, float64[T].

        Args:
            context: number of the context, 0 to 3.
            wrong: of networks with exactly so many wrong answers; of all if not given. Empty where none was found.
        """
        cells, mass = self._cells(context)
        total = mass.sum(axis=(1, 2))
        kept = total > 0 if wrong is None else (total > 0) & (_wrong(cells) == wrong)
        return cells[kept], total[kept] / max(total[kept].sum(), 1e-300)

    def converged(self, context: int) -> bool:
        """Whether the walks of a context may be relied on: four round trips per walk (2,048 in all) while networks are counted, and
        halves that agree. With fewer the interval is too narrow and mostly too low. True of guesses.

        Args:
            context: number of the context, 0 to 3.
        """
        if self.round_trips is None:
            return True
        before = 0 if self.trips_before is None else self.trips_before[context]
        return bool(self.round_trips[context] - before >= TRIPS) and abs(self.halves_apart(context)) < APART

    def halves_apart(self, context: int) -> float:
        """Difference of the logarithms of what the two halves of the draws give for `share`, in standard errors; of walks whose range
        ends before, for what they seek.

        Args:
            context: number of the context, 0 to 3.
        """
        cells, mass = self._cells(context)
        end = max(self.wrong, self.fewest[context] if self.round_trips is not None else 0)
        inside = mass[_wrong(cells) <= end].sum(axis=0), mass.sum(axis=0)
        (first, e1), (second, e2) = (log_ratio(inside[0][half], inside[1][half]) for half in (0, 1))
        if math.isinf(e1) or math.isinf(e2):
            return 0.0 if first == second else math.inf
        return (first - second) / max(math.hypot(e1, e2), 1e-300)

    def records(self, context: int) -> Any:
        """What is recorded of the networks in `vectors`, as of trained ones: `ncsim.training.observation.ContextRecord`, whose
        fields have the axis of networks last.

        Args:
            context: number of the context, 0 to 3.
        """
        import jax

        from ncsim.training.observation import record

        targets: Any = np.asarray(context_targets(self.config.tasks)[context], np.float32)
        with own_programs():
            found = jax.jit(lambda vector: record(self.config, vector, targets))(self.vectors[context].T)
            return type(found)(*(None if each is None else np.asarray(each) for each in found))

    def _cells(self, context: int) -> tuple[np.ndarray, np.ndarray]:
        code, mass = self.tables[context]
        return Tables(code, mass).cells(self.config.tasks.rows), mass


def random_solutions(
    config: EnsembleConfig,
    draws: int = 10**7,
    wrong: int = 0,
    method: str = "guess",
    keep: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    fewest: Sequence[int] = (0, 0, 0, 0),
) -> RandomSolutions:
    """How many networks of the initial law solve each context, untrained, and what these are like.

    "guess" draws networks from the law from which training starts and looks which answers are right, in all four contexts
    at once. "multicanonical" is for what guesses do not meet: walks that keep the initial law are weighted so that each number of wrong answers
    is met alike (Berg and Neuhaus 1992), with weights learned by stochastic approximation (Liang et al. 2007, after Wang and Landau
    2001). Both give the same probabilities and laws.

    Args:
        config: topology, coding, tasks, width and initialisation; what concerns training plays no part.
        draws: networks to draw, or steps of the walks per context, 1 to 10^12; rounded up to whole groups.
        wrong: wrong answers of both heads together that a network may have to be kept.
        method: "guess" or "multicanonical".
        keep: parameters that are kept, at most, per context.
        seed: 0 or above. Results depend on it, the config, draws, wrong, keep and fewest, and on no processor.
        threads: that compute; all cores if not given.
        fewest: wrong answers, by context, at which a walk's range ends: it seeks no fewer. Below, its weights are constant. To be given where
            fewer cannot be had, or are so rare that walks which seek them do not come back.

    Returns:
        `RandomSolutions`. Guess and check as a baseline of training is Chiang et al. (ICLR 2023); the networks are those of
        arXiv:2603.04451, section 4.1.

    Raises:
        ConfigError: an argument out of range, more than 32 rows, `training_rows`, or a walk where no C compiler works. Guesses are
            then NumPy's, some hundred times slower.

    Example:
        >>> import ncsim
        >>> found = ncsim.random_solutions(ncsim.EnsembleConfig(hidden=2), draws=50_000, wrong=8)
        >>> found.vectors[0].shape[1], int(found.records(0).counts.sum(axis=0)[0])
        (16, 16)
    """
    _check(config, draws, wrong, method, keep, seed, threads, fewest)
    # C takes Python's numbers alone, and negatives of NumPy's have no bits for a sign.
    draws, wrong, keep, seed = map(operator.index, (draws, wrong, keep, seed))
    threads, fewest = threads and operator.index(threads), tuple(map(operator.index, fewest))
    with own_programs():  # what the law is made of is JAX's, too
        drawer = Drawer(RandomLaw.of(config))
    if method != "guess" and drawer.language != "C":
        raise ConfigError(
            f"method: {method}; no C compiler works here, without which walks take days; allowed here: guess"
        )
    work = _Work(drawer, wrong, -(-keep // GROUPS) if keep else 0, seed, threads or cores())
    found = work.guess(draws) if method == "guess" else work.walk(draws, fewest)
    tables, vectors, (trips, before), done = found
    kept = tuple(v[:keep] for v in vectors)
    return RandomSolutions(config, method, done, tables, kept, wrong, trips, drawer.language, tuple(fewest), before)


Trips = tuple[np.ndarray | None, np.ndarray | None]
Found = tuple[tuple[tuple[np.ndarray, np.ndarray], ...], list[np.ndarray], Trips, int]


class _Work:
    """One call's work, shared out among threads; C lets others run."""

    def __init__(self, drawer: Drawer, wrong: int, keep: int, seed: int, threads: int) -> None:
        self.drawer, self.law = drawer, drawer.law
        self.rows = len(drawer.law.rows)
        self.cells = (self.rows + 1) ** 3
        self.wrong, self.keep = wrong, keep
        self.seed, self.threads = seed, threads
        self.stopped = threading.Event()

    def guess(self, draws: int) -> Found:
        streams = min(STREAMS, -(-draws // (2 * GROUPS * LANES)) * LANES)
        steps = -(-draws // (2 * GROUPS * streams))

        def group(number: int) -> tuple[np.ndarray, Keep]:
            state, kept = seeded((self.seed, 0, number), streams), self._keep()
            tables = np.zeros((2, 4, self.cells), np.int64)
            for half in (0, 1):
                for part in self._slices(steps, streams):
                    self.drawer.guess(state, part, self._limit, tables[half], kept)
            return tables, kept

        tables, kept = zip(*self._shared(group), strict=True)
        mass = np.stack(tables, axis=-1)  # [half, context, cell, group]
        vectors = [np.concatenate([each.of(context) for each in kept]) for context in range(4)]
        found = tuple(_compact(np.moveaxis(mass[:, context], 0, 1).astype(float)) for context in range(4))
        return found, vectors, (None, None), 2 * GROUPS * streams * steps

    def walk(self, draws: int, fewest: Sequence[int]) -> Found:
        steps = -(-draws // (2 * GROUPS * LANES))
        tables, vectors, trips, before = [], [], [], []
        for context in range(4):
            log_weight, bottom = self._learned(context, fewest[context])
            ends, ratio = (bottom, self.rows), _ratio(log_weight)

            def group(
                number: int, context: int = context, ends: Any = ends, ratio: Any = ratio
            ) -> tuple[Any, Keep, int, int]:
                walkers, kept = Walk(self.law, context, (self.seed, 1, context, number), LANES), self._keep()
                counted, returned = np.zeros((3, self.cells), np.int64), []
                for half, length in enumerate((max(BURN_IN, steps // 5), steps, steps)):
                    limit = self._limit if half else -1
                    for place, part in enumerate(self._slices(length, LANES)):
                        schedule = Schedule.drawn(self.law, part, (self.seed, 2, context, number, half, place))
                        self.drawer.walk(walkers, schedule, ratio, ends, counted[half], kept, limit, KEEP_EVERY)
                    returned.append(int(walkers.trips[0]))
                return counted[1:], kept, returned[-1], returned[0]

            counted, kept, returned, early = zip(*self._shared(group), strict=True)
            weight = np.exp(log_weight - log_weight.max())[_wrong_of_codes(self.cells, self.rows)]
            tables.append(_compact(np.stack(counted, axis=-1).transpose(1, 0, 2) * weight[:, None, None]))
            vectors.append(np.concatenate([each.of(context) for each in kept]))
            trips.append(sum(returned))
            before.append(sum(early))
        return tuple(tables), vectors, (np.array(trips), np.array(before)), 2 * GROUPS * LANES * steps

    def _learned(self, context: int, fewest: int) -> tuple[np.ndarray, int]:
        """The logarithm of the probability of each number of wrong answers, roughly and but for a constant, float64[2 R + 1];
        and where the range ends, the fewest that were met or are sought. From half of all answers on the weight is constant: nothing is
        sought there."""
        walkers = Walk(self.law, context, (self.seed, 3, context), 4 * LANES)
        log_weight, seen = np.zeros(2 * self.rows + 1), np.zeros(2 * self.rows + 1, bool)
        wrong = _wrong_of_codes(self.cells, self.rows)
        nothing = self._keep()
        for batch in range(BATCHES):
            if self.stopped.is_set():
                break
            schedule = Schedule.drawn(self.law, BATCH_STEPS, (self.seed, 4, context, batch))
            counted = np.zeros(self.cells, np.int64)
            ends = (max(int(np.argmax(seen)), fewest) if seen.any() else 0, self.rows)
            ratio = _ratio(_filled(log_weight, seen, self.rows, fewest))
            self.drawer.walk(walkers, schedule, ratio, ends, counted, nothing)
            met = np.bincount(wrong, counted, 2 * self.rows + 1)
            met[self.rows] = met[self.rows :].sum()
            met[fewest], met[:fewest] = met[: fewest + 1].sum(), 0
            log_weight = _filled(log_weight, seen, self.rows, fewest)
            seen |= met > 0
            there = seen[: self.rows + 1]
            step = 2.0 * SHRINK_AFTER / max(SHRINK_AFTER, batch)
            log_weight[: self.rows + 1] += step * np.where(
                there, met[: self.rows + 1] / met[: self.rows + 1].sum() - 1 / there.sum(), 0
            )
        return _filled(log_weight, seen, self.rows, fewest), max(int(np.argmax(seen)), fewest)

    @property
    def _limit(self) -> int:
        return self.wrong if self.keep else -1

    def _keep(self) -> Keep:
        return Keep(self.keep, self.law.architecture.size)

    def _slices(self, steps: int, streams: int) -> Iterator[int]:
        most = max(SLICE // streams, 1)
        for first in range(0, steps, most):
            if self.stopped.is_set():
                return
            yield min(most, steps - first)

    def _shared(self, group: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                return list(pool.map(group, range(GROUPS)))
            except BaseException:  # Ctrl-C: threads end with the slice that they are at
                self.stopped.set()
                raise


def _wrong(cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells @ [2, 1, 1, 0])


def _wrong_of_codes(cells: int, rows: int) -> np.ndarray:
    """Wrong answers of every code, int64[cells]; of codes that are no table, whatever lies in range."""
    code = np.arange(cells)
    none = np.zeros((cells, GROUPS), np.int64)
    return np.clip(_wrong(Tables(code, none).cells(rows)), 0, 2 * rows)


def _compact(mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes that were met, and their mass, from the mass of all codes [cells, 2, GROUPS]."""
    code = np.flatnonzero(mass.any(axis=(1, 2)))
    return code, mass[code]


def _filled(log_weight: np.ndarray, seen: np.ndarray, rows: int, fewest: int) -> np.ndarray:
    """With the weight of the nearest number above that was met, where one was not met; constant from `rows` on, and below `fewest`."""
    found = log_weight.copy()
    found[rows:] = log_weight[rows]
    for wrong in range(rows - 1, -1, -1):
        if wrong < fewest or not seen[wrong]:
            found[wrong] = found[wrong + 1]
    return found


def _ratio(log_weight: np.ndarray) -> np.ndarray:
    """The probability of going from so many wrong answers to so many, float32[2 R + 1, 2 R + 1]."""
    return np.exp(np.minimum(log_weight[:, None] - log_weight[None, :], 0)).astype(np.float32)


def _check(
    config: EnsembleConfig, draws: Any, wrong: Any, method: Any, keep: Any, seed: Any, threads: Any, fewest: Any
) -> None:
    two_by_two(one_config(config).tasks)
    limits = {
        "draws": (draws, 1, 10**12),
        "wrong": (wrong, 0, 2 * config.tasks.rows),
        "keep": (keep, 0, 10**6),
        "seed": (seed, 0, 2**31 - 1),
        "threads": (1 if threads is None else threads, 1, 1024),
    }
    for name, (value, low, high) in limits.items():
        number = whole_number(value)
        if number is None or not low <= number <= high:
            raise ConfigError(f"{name}: {shown(value)}; allowed: a whole number from {low:,} to {high:,}")
    most = config.tasks.rows - 1
    given = list_of(fewest, [])
    if len(given) != 4 or not all(whole_number(n) in range(most + 1) for n in given):
        raise ConfigError(f"fewest: {shown(fewest)}; allowed: four whole numbers from 0 to {most}")
    if method not in METHODS:
        raise ConfigError(f"method: {shown(method)}; allowed: {', '.join(METHODS)}")
    if config.tasks.rows > MOST_ROWS:
        raise ConfigError(f"tasks: {config.tasks.rows} rows; allowed: {MOST_ROWS} or fewer")
    if config.training_rows:
        raise ConfigError(
            f"{option_name('training_rows')}: {config.training_rows}; networks that are not trained answer all rows; allowed: 0"
        )
