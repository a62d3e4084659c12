"""Whether accuracies depend on the other head's task, member by member.

All members answer the same rows, and one member's errors go together, so that rows are no independent draws. Members
are: each starts from a key of its own. What is tested here is therefore, for each of the four answers that are given in
two contexts, the difference of a member's two accuracies, over members. Histograms of whole numbers are all that has to
be kept, however many members there are, and those of two runs merge by addition.

Sources: Fisher 1935 (randomisation test); Student 1908; Holm 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ncsim.config.tasks import CONTEXTS
from ncsim.formatting import counted, p_value_of, p_value_text, two_apart
from ncsim.records.joint_counts import array_of, joint_counts, validated_counts
from ncsim.statistics.arguments import numbers
from ncsim.statistics.bootstrap import bootstrap_mean, hoeffding_mean
from ncsim.statistics.contextuality import CONNECTIONS
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.rationals import check_total

#: With at most so many members whose two accuracies differ, all flips of signs are counted instead of Student's t.
MOST_FOR_EXACT = 200
#: With fewer members the bootstrap's interval falls short (docs/statistics.md), and Hoeffding's is used.
FEWEST_FOR_BOOTSTRAP = 100


class AccuracyDifferences:
    """How many members got how many more rows right in an answer's first context than in its second.

    Attributes:
        rows: rows that a context has.
        histogram: int64[4, 2 rows + 1]; `[n, d + rows]` members have the difference d, in rows, in CONNECTIONS[n].
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.histogram = np.zeros((len(CONNECTIONS), 2 * rows + 1), np.int64)

    def add(self, counts: Any, diverged: Any) -> None:
        """Take in some members: counts [M, context, 4] as `MemberRecords` has them, and bool[M, context].

        A member takes no part in an answer one of whose two networks diverged.

        Raises:
            ValueError: a context of a network that did not diverge without `rows` rows.
        """
        cells, lost = np.moveaxis(np.asarray(counts, np.int64), 0, -1), np.asarray(diverged, bool).T
        self.add_columns(cells[:, 2] + cells[:, 3], cells[:, 1] + cells[:, 3], cells.sum(axis=1), lost)

    def add_columns(self, alice: np.ndarray, bob: np.ndarray, items: np.ndarray, diverged: np.ndarray) -> None:
        """As `add`: right answers of Alice and of Bob and rows, whole numbers [context, M], and bool[context, M]. Raises as it
        does."""
        wrong = (items != self.rows) & ~diverged
        if wrong.any():
            member, context = (int(index) for index in np.argwhere(wrong.T)[0])
            total = items[context, member]
            raise ValueError(f"counts: {total} rows at (member, context) = ({member}, {context}); allowed: {self.rows}")
        for number, (answer, contexts) in enumerate(CONNECTIONS):
            first, second = (CONTEXTS.index(context) for context in contexts)
            party = bob if answer.startswith("B") else alice
            difference = party[first] - party[second] + self.rows
            lost = diverged[first] | diverged[second]
            kept = difference[~lost] if lost.any() else difference
            self.histogram[number] += np.bincount(kept, minlength=2 * self.rows + 1)


@dataclass(frozen=True)
class MemberSignallingTest:
    """Whether members' accuracy in one answer depends on the other head's task.

    Attributes:
        answer: "A1", "A2", "B1" or "B2".
        difference: mean over members of a member's accuracy with the other head's first task less that with its
            second; NaN without members.
        members: whose two networks both have an accuracy.
        p_value: two-sided, of this comparison alone.
        p_holm: adjusted for there being four comparisons.
        method: which test.
    """

    answer: str
    difference: Estimate
    members: int
    p_value: float
    p_holm: float
    method: str

    def __str__(self) -> str:
        p_values = f"{p_value_of('p', self.p_value)}, Holm {p_value_text(self.p_holm)}"
        return f"{self.answer}: {self.difference} over {counted(self.members, 'member')}, {p_values} ({self.method})"


def member_signalling_tests(differences: AccuracyDifferences) -> tuple[MemberSignallingTest, ...]:
    """The four tests, in the order A1, A2, B1, B2, with Holm's correction for there being four.

    Where at most 200 members differ at all: the sign-flip test. It is exact for the hypothesis that the other head's task
    makes no difference to the law of a member's accuracy, for a member's two networks may then change places; laws of
    another shape and the same mean are no part of that hypothesis, and are rejected too. Otherwise Student's t for a mean
    difference of 0, no smaller than the smallest p-value that flips of signs can give. Without members p is 1.
    """
    rows = differences.rows
    accuracy = np.arange(-rows, rows + 1) / rows
    tests = [_paired_p_value(histogram, rows) for histogram in differences.histogram]
    adjusted = holm([p_value for p_value, _ in tests])
    found = []
    for number, (answer, _) in enumerate(CONNECTIONS):
        histogram, (p_value, method) = differences.histogram[number], tests[number]
        members = int(histogram.sum())
        interval = bootstrap_mean if members >= FEWEST_FOR_BOOTSTRAP else hoeffding_mean
        difference = interval(accuracy, histogram, support=(-1.0, 1.0))
        found.append(MemberSignallingTest(answer, difference, members, p_value, float(adjusted[number]), method))
    return tuple(found)


def _paired_p_value(histogram: np.ndarray, rows: int) -> tuple[float, str]:
    """Two-sided p-value of a histogram of differences -rows to rows, and the test's name."""
    from scipy.special import stdtr

    values, members = np.arange(-rows, rows + 1), int(histogram.sum())
    differing = members - int(histogram[rows])
    if differing <= MOST_FOR_EXACT:
        return _sign_flip_p_value(histogram, rows), "sign flips, exact"
    mean = float(histogram @ values / members)
    variance = float(histogram @ (values - mean) ** 2 / (members - 1))
    statistic = abs(mean) / math.sqrt(variance / members) if variance > 0 else math.inf
    # Nearly equal differences would otherwise make t as large as one likes.
    smallest = math.ldexp(1.0, 1 - differing)
    return max(float(2 * stdtr(members - 1, -statistic)), smallest), "Student's t, paired"


def _sign_flip_p_value(histogram: np.ndarray, rows: int) -> float:
    """P(|sum of +-d| >= |sum of d|), every sign a fair toss: the law of the sum by convolution, on whole numbers."""
    sizes = np.arange(1, rows + 1)
    count = histogram[rows + sizes] + histogram[rows - sizes]
    observed = abs(int((histogram[rows + sizes] - histogram[rows - sizes]) @ sizes))
    reach = int(count @ sizes)
    law = np.zeros(2 * reach + 1)
    law[reach] = 1.0
    for size in np.repeat(sizes, count):
        # The sum never wraps around: `reach` is the largest that it can be.
        law = (np.roll(law, size) + np.roll(law, -size)) / 2
    return min(float(law[np.abs(np.arange(-reach, reach + 1)) >= observed].sum()), 1.0)


#: Fewer wrong, or fewer right, answers than this: Fisher's exact test instead of the normal approximation.
FEWEST_FOR_Z = 10


@dataclass(frozen=True)
class SignallingTest:
    """Whether one head's accuracy on one task differs between the other head's tasks.

    Attributes:
        answer: "A1", "A2", "B1" or "B2".
        accuracies: in the two contexts that the answer is given in, the other head's first task first.
        statistic: z of two proportions; NaN for the exact tests.
        p_value: two-sided, of this comparison alone.
        p_holm: adjusted for there being four comparisons; a family-wise error rate is kept by comparing it with that.
        method: which test.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> print(signalling_tests(box)[0])
        A1: 0.5000 against 0.5000, p = 1, Holm 1 (Fisher exact)
    """

    answer: str
    accuracies: tuple[float, float]
    statistic: float
    p_value: float
    p_holm: float
    method: str

    def __str__(self) -> str:
        first, second = two_apart(self.accuracies, 4)
        z = "" if math.isnan(self.statistic) else f", z = {self.statistic:.1f}"
        return f"{self.answer}: {first} against {second}{z}, {p_value_of('p', self.p_value)}, Holm {p_value_text(self.p_holm)} ({self.method})"


def signalling_tests(counts: Any) -> tuple[SignallingTest, ...]:
    """The four no-signalling tests of one table of joint counts [2, 2, 2, 2], in the order A1, A2, B1, B2.

    Two proportions (pooled z), or Fisher's exact test where right or wrong answers of either context are fewer than
    10. Both take the two contexts' items for different samples; for the same items see `paired_signalling_tests`.

    Args:
        counts: [2, 2, 2, 2] with axes (i, j, a, b), whole numbers.

    Returns:
        Four tests, each with its p-value, Holm's adjustment and the two accuracies (Fisher 1935; Holm 1979).

    Raises:
        ValueError: counts that are none, another shape, 2^53 items or more, or a context without items.

    Example:
        >>> import numpy as np
        >>> same, other = np.diag([8, 8]), np.diag([8, 8])[::-1]
        >>> box = np.stack([[same, same], [same, other]])  # a PR box: S = 4, [i, j, a, b]
        >>> [float(test.p_value) for test in signalling_tests(box)]
        [1.0, 1.0, 1.0, 1.0]
    """
    from scipy.special import ndtr

    table = _one_table(counts)
    found = []
    for answer, contexts in CONNECTIONS:
        right, items = [], []
        for i, j in contexts:
            items.append(int(table[i, j].sum()))
            right.append(int(table[i, j, :, 1].sum() if answer.startswith("B") else table[i, j, 1].sum()))
            if items[-1] == 0:
                raise ValueError(f"counts: no items in context (i, j) = ({i}, {j}); allowed: 1 or more")
        wrong = [n - r for n, r in zip(items, right, strict=True)]
        first, second = (r / n for r, n in zip(right, items, strict=True))
        if min(*right, *wrong) < FEWEST_FOR_Z:
            found.append((answer, (first, second), math.nan, _fisher_p_value([right, wrong]), "Fisher exact"))
        else:
            pooled = sum(right) / sum(items)
            z = (first - second) / math.sqrt(pooled * (1 - pooled) * (1 / items[0] + 1 / items[1]))
            found.append((answer, (first, second), z, float(2 * ndtr(-abs(z))), "two proportions"))
    return _with_holm(found)


def _one_table(counts: Any) -> np.ndarray:
    """Joint counts [2, 2, 2, 2] as int64. Raises ValueError."""
    table = validated_counts(counts)
    if table.ndim != 4:
        raise ValueError(f"counts: shape {table.shape}; allowed: one table, (2, 2, 2, 2)")
    check_total(table)
    return np.asarray(table, np.int64)


def _fisher_p_value(table: Any) -> float:
    """Fisher's exact test of a table [2, 2], two-sided: the probability of all tables with the same margins that are no more
    probable than this one. 1 where a margin is 0.

    SciPy's multiplies items in 64 bits, so that of 10^10 items it gives half the p-value, after seconds
    (findings/scipy_fisher_exact_of_many.sh).
    """
    table = np.asarray(table, np.int64)
    rows, columns = (table.sum(axis=axis) for axis in (1, 0))
    row, column = int(np.argmin(rows)), int(np.argmin(columns))  # the cell that varies least
    seen, items, total, others = (int(n) for n in (table[row, column], rows[row], columns[column], rows[1 - row]))
    expected = total * items / max(items + others, 1)
    # Bernstein's bound: what is farther away is less probable than the smallest float.
    reach = 270 + math.sqrt(270**2 + 1600 * expected)
    low, high = max(0, total - others, math.floor(expected - reach)), min(total, items, math.ceil(expected + reach))
    if not low <= seen <= high:
        return 0.0
    k = np.arange(low, high, dtype=np.float64)
    logs = np.zeros(high - low + 1)  # of probabilities, over that of `low`
    np.cumsum(np.log((items - k) / (others - total + k + 1)) + np.log((total - k) / (k + 1)), out=logs[1:])
    weights = np.exp(logs - logs.max())
    # Equally probable ones differ by rounding.
    return float(weights[logs <= logs[seen - low] + 1e-7].sum() / weights.sum())


def paired_signalling_tests(outcomes: Any) -> tuple[SignallingTest, ...]:
    """The four no-signalling tests where all contexts were asked about the same items: exact McNemar.

    `outcomes` is +1/-1 with axes (i, j, party, item), item n being the same in all contexts. Only items that a head
    got right in one of the two contexts and wrong in the other count; without any the p-value is 1.

    Args:
        outcomes: +1/-1, [2, 2, 2, items] with axes (i, j, party, item).

    Returns:
        As `signalling_tests` (McNemar 1947; Holm 1979).

    Raises:
        ValueError: another shape, a value other than -1 and +1, or no items.

    Example:
        >>> import numpy as np
        >>> [float(test.p_value) for test in paired_signalling_tests(np.ones((2, 2, 2, 16), int))]
        [1.0, 1.0, 1.0, 1.0]
    """
    from scipy.stats import binomtest

    right = array_of("outcomes", outcomes)
    joint_counts(right)  # for its checks of shape and values
    if right.ndim != 4 or right.shape[-1] == 0:
        raise ValueError(f"outcomes: shape {right.shape}; allowed: (i=2, j=2, party=2, items), 1 item or more")
    right = right > 0
    found = []
    for answer, (one, other) in CONNECTIONS:
        party = int(answer.startswith("B"))
        first, second = right[(*one, party)], right[(*other, party)]
        gained, lost = int(np.sum(first & ~second)), int(np.sum(~first & second))
        p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        found.append((answer, (float(first.mean()), float(second.mean())), math.nan, p_value, "McNemar exact"))
    return _with_holm(found)


def dependence_p_values(counts: Any) -> Float[np.ndarray, "2 2"]:
    """Whether the two heads' right answers of a context go together, or avoid each other: Fisher's exact test, two-sided.

    Its hypothesis is that pairs of items were put together at random: then the correlator is the product of the outcomes' means
    but for chance, and each way to pair them is as likely, whatever the accuracies are.

    Args:
        counts: [2, 2, 2, 2] with axes (i, j, a, b), whole numbers.

    Returns:
        A p-value per context (Fisher 1935); 1 without items. It takes a second at 10^11 items, and ten times that at 10^13.

    Raises:
        ValueError: counts that are none, another shape, or 2^53 items or more.

    Example:
        >>> import numpy as np
        >>> table = np.tile([[5, 1], [1, 249]], (2, 2, 1, 1))  # two heads with six wrong answers, of which five are on the same items
        >>> bool((dependence_p_values(table) < 1e-8).all())
        True
    """
    table = _one_table(counts)
    return np.array([[_fisher_p_value(table[i, j]) for j in (0, 1)] for i in (0, 1)])


def holm(p_values: Any) -> Float[np.ndarray, " tests"]:
    """Holm's step-down adjustment: reject where the adjusted value is at most alpha, and the chance of any false
    rejection among the tests is at most alpha, whatever their dependence.

    Args:
        p_values: [tests], each between 0 and 1.

    Returns:
        The adjusted values in the same order (Holm 1979).

    Raises:
        ValueError: not one axis, or a value that is not between 0 and 1.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = numbers("p_values", p_values)
    if p.ndim != 1:
        raise ValueError(f"p_values: shape {p.shape}; allowed: one axis")
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(f"p_values: {p[place]} at {place}; allowed: 0 to 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _with_holm(found: list[tuple[str, tuple[float, float], float, float, str]]) -> tuple[SignallingTest, ...]:
    adjusted = holm([min(p_value, 1.0) for _, _, _, p_value, _ in found])
    return tuple(
        SignallingTest(answer, accuracies, statistic, min(p_value, 1.0), float(p_holm), method)
        for (answer, accuracies, statistic, p_value, method), p_holm in zip(found, adjusted, strict=True)
    )
