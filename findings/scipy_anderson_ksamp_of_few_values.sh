#!/usr/bin/env bash
# scipy 1.17.1: `scipy.stats.anderson_ksamp` of few values rejects equal laws more than twice too often at 5 %, four times at 1 %.
#
# Its midrank statistic, the default, "is applicable to continuous and discrete data". It is right as a statistic; the p-value is
# read from a table after a division by the standard deviation that the statistic has where no numbers repeat (a variance of some
# 0.58 for two samples). Of two values it is all but a chi-square of one degree of freedom, whose variance is 2. More numbers do not
# help, more values do: of ten alike it is 7 % at 5 %. `method=PermutationMethod()` is right. `variant="right"`, the other one for
# discrete data, is no way out: it looks at x from one side, and of 0 and 1 for wrong and right other p-values come out than of 1 and 0.
# Whether the right answers or the small counts of two groups have one law is asked of such values.
# Right values by whole numbers: given the total, the ones in a sample are hypergeometric, so that all cases can be summed.
#
# Seen with scipy 1.17.1, numpy 2.4.6; two samples of 500 with 150 ones among the 1,000; chance of p below a level, all cases summed:
#                    5 %      1 %     p of 65 and 85 ones
#   midrank          13.2 %   4.1 %   0.023
#   right             9.2 %   2.7 %   0.041
#   right of 1 - x    0.0 %   0.0 %   0.25 (the largest that it gives)
#   all cases         4.1 %   0.6 %   0.092
# and 2,000 pairs of 100 numbers, midrank p < 0.05: from 0, 1, 2 with 1/4, 1/2, 1/4 in 8.6 %, from a normal law in 4.5 %
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import warnings
from fractions import Fraction
from math import comb

import numpy as np
import scipy
from scipy.stats import PermutationMethod, anderson_ksamp

warnings.simplefilter("ignore")  # p-values are cut at 0.001 and 0.25, which it says
print("scipy", scipy.__version__, "numpy", np.__version__)
ITEMS, ONES = 500, 150


def pair(k):
    return [np.repeat([0, 1], [ITEMS - ones, ones]) for ones in (k, ONES - k)]


def chance(k):
    return Fraction(comb(ITEMS, k) * comb(ITEMS, ONES - k), comb(2 * ITEMS, ONES))


cases = range(ONES + 1)
assert sum(chance(k) for k in cases) == 1
found, sizes = {}, {}
for name, variant, turned in (("midrank", "midrank", False), ("right", "right", False), ("right of 1 - x", "right", True)):
    results = [anderson_ksamp([1 - x if turned else x for x in pair(k)], variant=variant) for k in cases]
    found[name] = results
    sizes[name] = [float(sum(chance(k) for k in cases if results[k].pvalue < level)) for level in (0.05, 0.01)]
    print(f"{name:15} chance of p < 0.05: {sizes[name][0]:.2%}, of p < 0.01: {sizes[name][1]:.2%}, at 65 and 85: {results[65].pvalue:.3f}")
statistics = [result.statistic for result in found["midrank"]]
exact = [float(sum(chance(j) for j in cases if statistics[j] >= statistics[k] - 1e-9)) for k in cases]
right = [float(sum(chance(k) for k in cases if exact[k] < level)) for level in (0.05, 0.01)]
print(f"{'all cases':15} chance of p < 0.05: {right[0]:.2%}, of p < 0.01: {right[1]:.2%}, at 65 and 85: {exact[65]:.3f}")
shuffled = anderson_ksamp(pair(65), variant="midrank", method=PermutationMethod(n_resamples=4000, rng=0)).pvalue
print(f"PermutationMethod at 65 and 85: {shuffled:.3f}")
assert right[0] < 0.05 and right[1] < 0.01 and abs(shuffled - exact[65]) < 0.02
assert sizes["midrank"][0] > 0.12 and sizes["midrank"][1] > 0.04, "no longer too often"
assert sizes["right"][0] > 0.09 and sizes["right of 1 - x"][0] < 0.001
assert found["midrank"][65].pvalue < 0.03 < 0.08 < exact[65]

mean = sum(chance(k) * Fraction(float(statistics[k])) for k in cases)
variance = float(sum(chance(k) * (Fraction(float(statistics[k])) - mean) ** 2 for k in cases))
print(f"variance of the statistic, which should be near 1 after the division: {variance:.2f}")
assert 3 < variance < 4

rng = np.random.default_rng(0)
shares = {}
for name, draw in (("0, 1, 2", lambda: rng.choice(3, (2, 100), p=[0.25, 0.5, 0.25])), ("normal", lambda: rng.normal(size=(2, 100)))):
    shares[name] = np.mean([anderson_ksamp(list(draw()), variant="midrank").pvalue < 0.05 for _ in range(2000)])
    print(f"{name:8} p < 0.05: {shares[name]:.1%}")
assert shares["0, 1, 2"] > 0.075 and shares["normal"] < 0.065
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
