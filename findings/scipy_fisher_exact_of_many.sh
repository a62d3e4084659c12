#!/usr/bin/env bash
# scipy 1.17.1: `scipy.stats.fisher_exact` of some thousand million items gives a wrong p-value, with a RuntimeWarning at most.
#
# It takes the table as 64-bit integers and looks for the most probable table at (column sum + 1) (row sum + 1) / (total + 2). The
# product of two sums is beyond 2^63 where a column has more than some 2 * 10^9 items and a row twice as many, and wraps around.
# What is then taken for the most probable table is not on the right side of the one that was seen: one tail is left out, or all
# comparisons are with NaN and the answer is 1. A comment in the function says that 32 bits are not enough.
# Right values by whole numbers (Fisher's test is a sum of products of binomial coefficients).
#
# Seen with scipy 1.17.1, numpy 2.4.6, contexts as columns; 3 of n against 8 of n:
#   n = 10^8    0.22656248995   right 0.22656248711
#   n = 10^10   0.11328125027   right 0.22656249987
# and, contexts as rows, 3 of n against n / 1000 of n:
#   n = 10^11   1.0             right 0 (below 1e-300)
# Few wrong answers among very many are the case for Fisher's test, so that a normal approximation does not save who meets this.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import warnings
from fractions import Fraction
from math import comb

import scipy
from scipy.stats import fisher_exact

print("scipy", scipy.__version__)
warnings.simplefilter("ignore")


def right(first, second, items):
    """Fisher's two-sided p-value of first and second of `items` each, in fractions."""
    total = first + second
    ways = [comb(items, k) * comb(items, total - k) for k in range(total + 1)]
    return float(Fraction(sum(each for each in ways if each <= ways[first]), comb(2 * items, total)))


def given(first, second, items):
    return float(fisher_exact([[items - first, items - second], [first, second]]).pvalue)


few, many = given(3, 8, 10**8), given(3, 8, 10**10)
print("10^8: ", few, "right", right(3, 8, 10**8))
print("10^10:", many, "right", right(3, 8, 10**10))
plain = float(fisher_exact([[3, 10**11 - 3], [10**8, 10**11 - 10**8]]).pvalue)
print("10^11, 3 against 10^8:", plain)
assert abs(few / right(3, 8, 10**8) - 1) < 1e-6
assert abs(many / right(3, 8, 10**10) - 0.5) < 1e-6, "no longer half of the right value"
assert plain == 1.0, "no longer 1"
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
