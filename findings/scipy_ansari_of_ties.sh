#!/usr/bin/env bash
# scipy 1.17.1: `scipy.stats.ansari` of numbers that repeat finds that a sample differs in spread from itself, p = 6e-26.
#
# The Ansari-Bradley test scores each number by its rank from the nearer end. Equal numbers get the mean of their ranks, and the
# score of that mean. For a group of equal numbers that holds the median this is more than the mean of their scores (the score
# goes up and down again within the group), so the scores no longer add up to what the test's mean takes for granted. The variance is
# adapted to ties, the mean is not. Every such sample then seems to be narrower than the other one, whichever is given first: without
# a difference p goes to 0 as the samples grow, and a real difference may vanish, or not, by the order of the two. The documentation
# says that ties mean a normal approximation. Numbers that take few values, as the statistics of small networks or counts do, have
# half of them at the median. `mood`, `fligner` and `levene` of the same numbers are right, and so is `permutation_test` with the
# statistic of ansari.
# Right values by all ways to divide the numbers, or by the mean and variance of the scores under permutation (both in this file).
#
# Seen with scipy 1.17.1, numpy 2.4.6:
#   a sample against itself, a quarter each 0 and 2, half of it 1:   of 40: p = 0.037   of 200: 2.6e-06   of 1000: 5.9e-26   right 1
#   3, 3, 3, 5, 3, 2, 3, 5 and 3, 5, 0, 1:   p = 0.042, in the other order 0.659   right 0.174
#   20, 60, 20 and 30, 40, 30 of 0, 1, 2:    p = 1.1e-07, in the other order 0.184   right 0.0048
#   two samples of 100 from one law (0, 1, 2 with 1/4, 1/2, 1/4), 500 times: p < 0.05 in 91 % with ansari, in 5 % with mood
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
from itertools import combinations

import numpy as np
import scipy
from scipy.stats import ansari, fligner, levene, mood, norm, permutation_test, rankdata

print("scipy", scipy.__version__, "numpy", np.__version__)


def scores(x, y):
    ranks = rankdata(np.concatenate([x, y]))
    return np.minimum(ranks, len(ranks) + 1 - ranks)


def by_all_ways(x, y):
    """Share of the ways to choose len(x) of all scores whose sum is as far from the middle as the one seen."""
    each, few = scores(x, y), len(x)
    middle = few * each.mean()
    seen = abs(each[:few].sum() - middle)
    sums = np.array([each[list(chosen)].sum() for chosen in combinations(range(len(each)), few)])
    return float(np.mean(np.abs(sums - middle) >= seen - 1e-9))


def by_moments(x, y):
    """The normal approximation with the mean and the variance that the scores have."""
    each, n, m = scores(x, y), len(x), len(y)
    off = each[:n].sum() - n * each.mean()
    return float(2 * norm.sf(abs(off) / np.sqrt(n * m / (n + m - 1) * each.var())))


for quarter, bound in ((10, 0.05), (50, 1e-5), (250, 1e-24)):
    same = np.repeat([0.0, 1.0, 2.0], [quarter, 2 * quarter, quarter])
    p = float(ansari(same, same).pvalue)
    print(f"{4 * quarter} numbers against themselves: ansari {p:.2g}, by moments {by_moments(same, same):.2g}")
    assert p < bound, "a sample no longer differs from itself"
    assert by_moments(same, same) == mood(same, same).pvalue == fligner(same, same).pvalue == levene(same, same).pvalue == 1

one, other = np.array([3.0, 3, 3, 5, 3, 2, 3, 5]), np.array([3.0, 5, 0, 1])
there, back = float(ansari(one, other).pvalue), float(ansari(other, one).pvalue)
right = by_all_ways(one, other)
print(f"8 and 4 numbers: ansari {there:.3f}, in the other order {back:.3f}, all 495 ways {right:.3f}")
assert there < 0.05 < 0.6 < back
assert abs(right - by_all_ways(other, one)) < 1e-12 and 0.17 < right < 0.18

narrow, wide = np.repeat([0.0, 1, 2], [20, 60, 20]), np.repeat([0.0, 1, 2], [30, 40, 30])
there, back = float(ansari(narrow, wide).pvalue), float(ansari(wide, narrow).pvalue)
shuffled = float(permutation_test((narrow, wide), lambda x, y: ansari(x, y).statistic, n_resamples=1000, rng=0).pvalue)
right = by_moments(narrow, wide)
print(f"100 and 100: ansari {there:.2g}, in the other order {back:.3f}, by moments {right:.4f}, shuffled {shuffled:.3f}")
assert there < 2e-7 and 0.18 < back < 0.19
assert 0.0047 < right < 0.0049 and shuffled < 0.02

rng = np.random.default_rng(0)
pairs = rng.choice([0.0, 1.0, 2.0], (500, 2, 100), p=[0.25, 0.5, 0.25])
rejected = {test.__name__: np.mean([test(x, y).pvalue < 0.05 for x, y in pairs]) for test in (ansari, mood)}
print("no difference, p < 0.05:", {name: f"{share:.1%}" for name, share in rejected.items()})
assert rejected["ansari"] > 0.8 and rejected["mood"] < 0.08
spread = rng.normal(size=(200, 2, 100))
free = np.mean([ansari(x, y).pvalue < 0.05 for x, y in spread])
print(f"the same of numbers that do not repeat: {free:.1%}")
assert free < 0.1
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
