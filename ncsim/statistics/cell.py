"""A cell of a run as a report sees it: what its members add up to, the laws that hang on losses, and runs that were drawn.

None of it grows with the members, so that it can be kept beside them, and a report made again without reading one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ncsim.records.columns import outcome_sums
from ncsim.records.members import MemberRecords
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.statistics.loss_order import EXACT, NEGLIGIBLE, best_of_laws, places_that_count
from ncsim.statistics.member_statistics import s_influence_contextuality
from ncsim.statistics.outcomes import THREADS, Ensemble, LossesAndTables, Outcomes, dense_places
from ncsim.statistics.protocols import STANDARD_PROTOCOLS, ProtocolLaw, cells_of, draw_runs
from ncsim.statistics.tally import Tally

#: Gives what is asked of members for some contexts, batch by batch.
Reader = Callable[[Sequence[int]], Iterable[LossesAndTables]]
#: Runs drawn under a protocol to see how many are contextual.
CONTEXTUALITY_RUNS = 10_000
#: The first whole members whose S is kept: a paper with so few runs would have them.
FIRST = 50
#: Members of a cell whose networks are all held in their order of loss at once.
MOST_IN_ORDER = 2**22
#: Whole numbers of sorted losses, eight bytes each, that are held at once where there are more members: those that count of
#: one context of 10^8 members. Memory grows no further.
MOST_LOSSES = 9 * 2**23


class Cell(Ensemble):
    """What a report needs of a cell.

    Attributes:
        first_s: S of the first whole members, float64[FIRST] or fewer.
        runs: by protocol, the tables of drawn runs, int32[protocols, CONTEXTUALITY_RUNS, 4]; none without networks.
        contextuality: Delta of those runs times the rows, int32[protocols, CONTEXTUALITY_RUNS].
    """

    def __init__(self, tally: Tally, common_initialization: bool, first_s: np.ndarray) -> None:
        super().__init__(tally, common_initialization)
        self.first_s = first_s
        self.runs = np.zeros((0, CONTEXTUALITY_RUNS, 4), np.int32)
        self.contextuality = np.zeros((0, CONTEXTUALITY_RUNS), np.int32)
        self._laws: dict[int, list[np.ndarray]] = {}

    def members_above_2(self) -> Estimate:
        """The share of whole members with S above 2."""
        return clopper_pearson(int(self.tally.s[3 * self.rows + 1 :].sum()), self.tally.whole)  # S = -4 + 2 n / rows

    def members_contextual(self) -> Estimate:
        """The share of whole members with Delta above 0."""
        return clopper_pearson(int(self.tally.contextuality[10 * self.rows + 1 :].sum()), self.tally.whole)

    @property
    def law_error(self) -> float:
        """How far the probabilities of laws that hang on losses are from exact, at most, all of one law added up."""
        return 0.0 if self.tally.networks.max() <= EXACT else NEGLIGIBLE

    def best_of_laws(self, tries: int) -> list[np.ndarray]:
        return self._laws[tries]

    @classmethod
    def of_records(cls, batches: Iterable[MemberRecords], rows: int, common_initialization: bool) -> Cell:
        """The cell of members in memory.

        Raises:
            ValueError: records that contradict themselves.
        """
        tally, kept = Tally(rows), []
        for records in batches:
            tally.add(records)
            kept.append(LossesAndTables.of(records, rows))
        return cls.of_ordered(tally, common_initialization, kept)

    @classmethod
    def of_ordered(cls, tally: Tally, common_initialization: bool, batches: Iterable[LossesAndTables]) -> Cell:
        """The cell of members of whom all is held in memory that protocols ask for."""
        kept = list(batches)
        cell = cls(tally, common_initialization, _first_s(kept, tally.rows))
        if cell.networks == 0:
            return cell
        outcomes = Outcomes.of(tally, common_initialization, kept)
        for protocol in STANDARD_PROTOCOLS:
            if protocol.kind == "best_loss":
                cell._laws[protocol.tries] = outcomes.best_of_laws(protocol.tries)
        with ThreadPoolExecutor(THREADS) as pool:
            runs = list(pool.map(lambda each: draw_runs(each, outcomes, CONTEXTUALITY_RUNS), STANDARD_PROTOCOLS))
        cell._set_runs(np.array(runs, np.int32))
        return cell

    @classmethod
    def of_many(cls, tally: Tally, common_initialization: bool, read: Reader) -> Cell:
        """The cell of more members than are held at once; `read` gives them from the first, as often as it is called, of the
        contexts that it is called with.

        Networks are ordered by loss only as far as protocols look, and runs are drawn by the laws of tables.
        """
        first: list[LossesAndTables] = []
        for batch in read(range(4)):
            first.append(batch)
            if sum(int((~each.diverged.any(axis=0)).sum()) for each in first) >= FIRST:
                break
        cell = cls(tally, common_initialization, _first_s(first, tally.rows))
        if cell.networks == 0:
            return cell
        for protocol in STANDARD_PROTOCOLS:
            if protocol.kind == "best_loss":
                cell._laws[protocol.tries] = _streamed_laws(tally, protocol.tries, read)
        runs = []
        for protocol in STANDARD_PROTOCOLS:
            generator = np.random.default_rng(0)
            laws = ProtocolLaw(protocol, cell).table_laws
            runs.append(
                np.stack([generator.choice(len(law), CONTEXTUALITY_RUNS, p=law / law.sum()) for law in laws], axis=1)
            )
        cell._set_runs(np.array(runs, np.int32))
        if common_initialization:  # a single shot is a whole member, whose tables go together
            there = np.flatnonzero(tally.contextuality)
            drawn = np.random.default_rng(0).choice(
                there, CONTEXTUALITY_RUNS, p=tally.contextuality[there] / tally.contextuality.sum()
            )
            cell.contextuality[0] = drawn - 10 * tally.rows
        return cell

    def _set_runs(self, runs: np.ndarray) -> None:
        self.runs = runs
        cells = np.stack([cells_of(each, self.tally) for each in runs])  # [protocols, runs, context, 4]
        sums = outcome_sums(np.moveaxis(cells, (-2, -1), (0, 1)))
        self.contextuality = s_influence_contextuality(*sums, self.rows)[2].astype(np.int32)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, as `from_arrays` takes it."""
        found = {
            "common": np.array([self.common_initialization]),
            "first_s": self.first_s,
            "runs": self.runs,
            "run_contextuality": self.contextuality,
        }
        for tries, laws in self._laws.items():
            found |= {f"best_of_{tries}_{context}": law for context, law in enumerate(laws)}
        return found | self.tally.arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Cell:
        """The inverse of `arrays`."""
        cell = cls(Tally.from_arrays(arrays), bool(arrays["common"][0]), arrays["first_s"])
        cell.runs, cell.contextuality = arrays["runs"], arrays["run_contextuality"]
        for name in arrays:
            if name.startswith("best_of_") and name.endswith("_0"):
                tries = int(name.split("_")[2])
                cell._laws[tries] = [arrays[f"best_of_{tries}_{context}"] for context in range(4)]
        return cell


def _first_s(batches: Iterable[LossesAndTables], rows: int) -> np.ndarray:
    """S of the first whole members."""
    found = np.zeros(0)
    for batch in batches:
        whole = np.flatnonzero(~batch.diverged.any(axis=0))[: FIRST - len(found)]
        code = batch.code[:, whole].astype(np.int64)
        # The code is (bob, alice, both) in the base of rows + 1; k is the sum of the first two.
        k = code // (rows + 1) ** 2 + code // (rows + 1) % (rows + 1)
        found = np.append(found, (2 * rows - 2 * (k[0] + k[1] + k[2] - k[3])) / rows)
    return found[:FIRST]


def _streamed_laws(tally: Tally, tries: int, read: Reader) -> list[np.ndarray]:
    """The laws of the best by loss. Contexts are read together as far as they fit in memory, and one that does not fit is read
    as often as it takes, some losses each time."""
    spans: list[list[tuple[int, int]]] = []
    for context, networks in enumerate(tally.networks):
        limit = tally.losses.limit(context, places_that_count(tries, int(networks)))
        spans.append(tally.losses.spans(context, limit, MOST_LOSSES))
    sizes = [sum(tally.losses.within(context, span) for span in each) for context, each in enumerate(spans)]
    laws, context = [], 0
    while context < 4:
        group = [context]
        while group[-1] < 3 and sum(sizes[n] for n in [*group, group[-1] + 1]) <= MOST_LOSSES:
            group.append(group[-1] + 1)
        if len(group) == 1:
            pieces = _in_spans(tally, context, spans[context], read)
            laws.append(best_of_laws(pieces, tries, tally.tables[context].members))
        else:
            orders = _in_order(tally, {n: spans[n][0] for n in group}, read)
            laws += [best_of_laws([orders.pop(n)], tries, tally.tables[n].members) for n in group]
        context = group[-1] + 1
    return laws


def _in_spans(tally: Tally, context: int, spans: Iterable[tuple[int, int]], read: Reader) -> Iterator[np.ndarray]:
    for span in spans:
        yield _in_order(tally, {context: span}, read)[context]


def _in_order(tally: Tally, spans: Mapping[int, tuple[int, int]], read: Reader) -> dict[int, np.ndarray]:
    """The networks of some contexts whose losses are in a span of each, sorted as `packed` has them."""
    found = {n: np.empty(tally.losses.within(n, span), np.uint64) for n, span in spans.items()}
    filled = dict.fromkeys(spans, 0)
    places = {n: dense_places(tally.tables[n]) for n in spans}
    before = 0
    for batch in read(list(spans)):
        for row, (n, span) in enumerate(spans.items()):
            keys = batch.packed(row, span, places[n], before)
            found[n][filled[n] : filled[n] + len(keys)] = keys
            filled[n] += len(keys)
        before += batch.loss.shape[1]
    for keys in found.values():
        keys.sort()
    return found
