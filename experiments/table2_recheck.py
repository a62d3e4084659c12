"""The paper's Table 2, checked: what do its printed numbers say?

Question. arXiv:2603.04451, Table 2, prints two accuracies and a correlator for each of four contexts, twelve times, and
reads S > 2 as non-classical. Do those numbers go beyond what eight accuracies, differing from context to context,
already explain?

Command. `python -m experiments.table2_recheck [--items 5000] [--json FILE]`

Time. Two seconds on any machine. Trains nothing: the numbers below are all there is.

Expected. Delta is negative in all twelve configurations; docs/results.md has the rest.

What is computed from what:
* S, S_fact, influence and Delta come from the printed moments as real numbers. Accuracies are printed to 0.01 % and
  correlators to 0.0001; that leaves S uncertain by at most 0.0002, each mean by 0.0001, the influence by at most
  0.0008 and Delta by at most 0.0010.
* Tests need counts. The paper does not say how many items there were; each cell of each context's joint table
  (1 + x a + y b + x y c) / 4 is rounded to whole items, `--items` a context, none lost. Intervals and p-values are
  those of that assumed number, with independent items, and say nothing of another training run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.shared.command import local_file, run_experiment, write_json
from ncsim.errors import ConfigError
from ncsim.formatting import counted, no_less
from ncsim.statistics.chsh import SIGNS
from ncsim.statistics.contextuality_interval import contextuality_interval
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.locality_tests import game_p_value, hoeffding_p_value
from ncsim.statistics.signalling_tests import SignallingTest, holm, signalling_tests
from ncsim.statistics.verdicts import verdict

#: Suite, rank, printed S; then, for contexts A1B1, A1B2, A2B1, A2B2: accuracy of A and of B in %, correlator.
TABLE_2 = """
mixed         1 1.902  99.68 99.82 0.9899  98.92 76.16 0.5144  81.79 98.88 0.6197  79.89 68.91 0.2219
mixed         2 2.191  99.92 99.96 0.9976  99.46 93.89 0.8670  96.71 99.66 0.9299  93.33 84.58 0.6038
mixed         4 2.103  99.98 99.99 0.9996  99.94 97.38 0.9463  99.58 99.96 0.9908  97.48 93.77 0.8337
mixed         8 2.001  99.98 99.99 0.9995  99.90 99.54 0.9887  99.88 99.98 0.9971  99.86 99.34 0.9839
mixed        16 2.020  99.72 99.62 0.9867  99.96 99.86 0.9963  99.98 99.98 0.9995  99.44 98.68 0.9623
mixed        32 2.021  99.66 99.56 0.9844  99.96 99.76 0.9944  98.72 99.64 0.9671  98.78 97.38 0.9247
multilingual  1 1.502  95.44 91.31 0.7501  95.65 89.34 0.7192  93.68 91.28 0.7202  93.80 89.18 0.6871
multilingual  2 1.713  97.32 94.67 0.8453  97.26 94.41 0.8445  96.31 95.35 0.8397  96.29 93.91 0.8161
multilingual  4 1.870  98.79 97.83 0.9335  98.75 97.21 0.9205  97.97 97.64 0.9141  97.96 96.82 0.8983
multilingual  8 1.931  99.50 98.88 0.9678  99.32 98.40 0.9547  98.98 98.79 0.9557  98.87 98.50 0.9483
multilingual 16 1.938  99.51 98.90 0.9692  99.44 98.73 0.9633  98.97 98.84 0.9571  98.94 98.60 0.9515
multilingual 32 1.985  99.94 99.68 0.9931  99.96 99.66 0.9903  99.72 99.60 0.9863  99.64 99.70 0.9867
"""

CONTEXT_NAMES = ("A1B1", "A1B2", "A2B1", "A2B2")
#: Of a context, at most.
MOST_ITEMS = 10**15

#: Half a unit of the last printed digit, of a mean 2 p - 1, of a correlator and of S.
MEAN_ROUNDING, CORRELATOR_ROUNDING, S_ROUNDING = 1e-4, 5e-5, 5e-4


@dataclass(frozen=True)
class Configuration:
    """One configuration of Table 2 as printed: means a, b and correlators c are float64[2, 2]."""

    suite: str
    rank: int
    s_printed: float
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    @property
    def name(self) -> str:
        """As in the table that is printed."""
        return f"{self.suite} r={self.rank}"

    @property
    def probabilities(self) -> np.ndarray:
        """Joint tables [i, j, a, b]; rounding of the moments can leave a cell at -0.0001, which is set to 0."""
        x = np.array([-1.0, 1.0])
        a, b, c = (moment[..., None, None] for moment in (self.a, self.b, self.c))
        return np.asarray(np.maximum((1 + x[:, None] * a + x * b + x[:, None] * x * c) / 4, 0))

    def counts(self, items: int) -> np.ndarray:
        """Whole items, `items` a context: cells rounded down, the largest remainders up."""
        cells = self.probabilities.reshape(4, 4)
        cells = cells / cells.sum(axis=1, keepdims=True) * items
        whole = np.floor(cells).astype(np.int64)
        for context, missing in enumerate(items - whole.sum(axis=1)):
            largest = np.argsort(whole[context] - cells[context], kind="stable")[:missing]
            whole[context, largest] += 1
        return whole.reshape(2, 2, 2, 2)


@dataclass(frozen=True)
class Recheck:
    """What follows from one configuration. Moments as printed; tests at an assumed number of items."""

    name: str
    s: float
    s_factorised: float
    influence: float
    contextuality: float
    interval: Estimate
    game_p: float
    hoeffding_p: float
    signalling: tuple[SignallingTest, ...]
    verdict: str


def configurations() -> list[Configuration]:
    """The twelve, in the order of the paper's ranks, mixed reasoning first."""
    found = []
    for line in TABLE_2.split("\n")[1:-1]:
        suite, rank, s, *numbers = line.split()
        a, b, c = np.array(numbers, float).reshape(2, 2, 3).transpose(2, 0, 1)
        found.append(Configuration(suite, int(rank), float(s), 2 * a / 100 - 1, 2 * b / 100 - 1, c))
    return found


def recheck(configuration: Configuration, items: int = 5_000) -> Recheck:
    """All statistics and tests of one configuration."""
    # From the moments themselves, not from clipped cells, so that nothing but the printing rounds.
    a, b, c = configuration.a, configuration.b, configuration.c
    variants = np.array(SIGNS) @ c.ravel()
    influence = float(np.abs(a[:, 0] - a[:, 1]).sum() + np.abs(b[0] - b[1]).sum())
    s = float(variants[0])
    product = a * b
    counts = configuration.counts(items)
    interval = contextuality_interval(counts)
    return Recheck(
        name=configuration.name,
        s=s,
        s_factorised=float(product[0, 0] + product[0, 1] + product[1, 0] - product[1, 1]),
        influence=influence,
        contextuality=float(variants.max()) - 2 - influence,
        interval=interval,
        game_p=float(game_p_value(counts)),
        hoeffding_p=float(hoeffding_p_value(counts)),
        signalling=signalling_tests(counts),
        verdict=verdict(s, interval),
    )


def printed_slips(table: list[Configuration]) -> list[str]:
    """Printed numbers that contradict each other by more than their rounding."""
    slips = []
    for row in table:
        s = float(np.array(SIGNS[0]) @ row.c.ravel())
        if abs(s - row.s_printed) > S_ROUNDING + 4 * CORRELATOR_ROUNDING:
            slips.append(f"{row.name}: S printed {row.s_printed:.3f}; its own correlators give {s:.4f}")
        # Two accuracies leave a correlator no more room than this.
        low, high = np.abs(row.a + row.b) - 1, 1 - np.abs(row.a - row.b)
        outside = np.maximum(low - row.c, row.c - high)
        for (i, j), excess in np.ndenumerate(outside):
            if excess > 2 * MEAN_ROUNDING + CORRELATOR_ROUNDING:
                slips.append(
                    f"{row.name} {CONTEXT_NAMES[2 * i + j]}: correlator {row.c[i, j]:.4f}; "
                    f"its accuracies allow {low[i, j]:.4f} to {high[i, j]:.4f}"
                )
    return slips


def numbers_off(table: list[Configuration], items: int) -> tuple[int, int]:
    """How many printed accuracies, and how many correlators, are no count out of `items` to within their rounding."""
    percent = np.array([[50 * (row.a + 1), 50 * (row.b + 1)] for row in table])
    correlator = np.array([row.c for row in table])
    right, unequal = np.round(percent * items / 100), np.round((1 - correlator) * items / 2)
    accuracies = np.abs(right * 100 / items - percent) > 0.005 + 1e-9
    correlators = np.abs(1 - 2 * unequal / items - correlator) > CORRELATOR_ROUNDING + 1e-9
    return int(accuracies.sum()), int(correlators.sum())


def conclusion(table: list[Configuration], results: list[Recheck], items: int) -> str:
    """What may be said, in words, and no more than the numbers allow."""
    gap = np.abs(np.array([row.c - row.a * row.b for row in table]))
    above = [r for r in results if r.s > 2]
    adjusted = holm([r.game_p for r in results])
    rejected = [r for r, p in zip(results, adjusted, strict=True) if p <= 0.05]
    explained = [r for r in rejected if min(test.p_holm for test in r.signalling) <= 0.05]
    deltas = [r.contextuality for r in results]
    contextual = [r.name for r in results if r.interval.low > 0]
    settled = [r for r in results if r.interval.high < 0]
    accuracies, correlators = numbers_off(table, items)

    def listed(found: list[Recheck]) -> str:
        return ", ".join(r.name for r in found) or "none"

    because = [
        f"In {len(explained)} of these {len(rejected)} some accuracy differs between contexts at 5 % (Holm over four),"
        " which by itself rules out one joint distribution."
    ]
    return "\n".join(
        [
            f"S, from the printed correlators, is above 2 in {len(above)} of {len(results)} configurations: {listed(above)}.",
            f"Each of the {gap.size} correlators is the product of its two accuracies' means to within {no_less(gap.max(), '.4f')}"
            f" ({gap.mean():.4f} on average), and S differs from S_fact by at most"
            f" {no_less(max(abs(r.s - r.s_factorised) for r in results), '.4f')}.",
            f"With {counted(items, 'independent item')} per context, which is assumed, one joint distribution of the four answers is"
            f" rejected at 5 % (game form, Holm over {len(results)}) in {len(rejected)}: {listed(rejected)}.",
            *(because if rejected else []),
            f"Delta, S less what direct influence allows, is between {min(deltas):.4f} and {max(deltas):.4f}"
            f" (rounding of the printed numbers: 0.0010 at most); the upper 95 % limit is below 0 in {len(settled)} of"
            f" {len(results)}: {listed(settled)}.",
            f"The lower limit is above 0, so that one may say contextual, in: {', '.join(contextual) or 'none'}.",
            f"({accuracies} of the {2 * gap.size} printed accuracies and {correlators} of the {gap.size} correlators are no"
            f" counts out of {items}: the number of items is not known. With another one the tests and the limits change;"
            " S, S_fact, influence and Delta do not.)",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, the slips and the conclusion."""
    run_experiment("Recheck Table 2 of arXiv:2603.04451 from its printed numbers.", _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=int, default=5_000, help="items per context that the tests assume")
    parser.add_argument("--json", type=Path, help="also write the results here")


def _run(parsed: argparse.Namespace) -> None:
    if not 1 <= parsed.items <= MOST_ITEMS:
        raise ConfigError(f"--items: {parsed.items}; allowed: 1 to {MOST_ITEMS}, which floats count exactly")
    file = local_file("--json", parsed.json) if parsed.json else None
    table = configurations()
    results = [recheck(row, parsed.items) for row in table]

    head = f"{'configuration':16} {'S print':>8} {'S':>7} {'S_fact':>7} {'influence':>9} {'Delta':>8}  {'95 % of Delta':18}"
    print(f"{head} {'game p':>8} {'Hoeffding':>9}  {'signalling, Holm < 0.05':24} verdict")
    for row, result in zip(table, results, strict=True):
        signalling = " ".join(test.answer for test in result.signalling if test.p_holm < 0.05) or "-"
        limits = f"[{result.interval.low:.4f}, {result.interval.high:.4f}]"
        print(
            f"{row.name:16} {row.s_printed:8.3f} {result.s:7.4f} {result.s_factorised:7.4f} {result.influence:9.4f} "
            f"{result.contextuality:8.4f}  {limits:18} {result.game_p:8.2g} {result.hoeffding_p:9.2g}  {signalling:24} "
            f"{result.verdict}"
        )
    print("\nNo-signalling, mixed r=2:")
    for test in next(r for r in results if r.name == "mixed r=2").signalling:
        print(f"  {test}")
    print("\nPrinted numbers that contradict each other beyond rounding:")
    for slip in printed_slips(table):
        print(f"  {slip}")
    print(f"\n{conclusion(table, results, parsed.items)}")
    if file:
        write_json(file, {"items": parsed.items, "rows": results})


if __name__ == "__main__":
    main()
