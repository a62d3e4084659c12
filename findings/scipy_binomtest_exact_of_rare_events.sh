#!/usr/bin/env bash
# scipy 1.17.1: `binomtest(k, n).proportion_ci()`, the exact interval, has an absolute error of 1e-12: of 5 among 1e12 its lower end is 1 in place of 1.62.
#
# The limits are roots, found by `brentq` with its usual tolerance, 2e-12 on the probability itself. What is rare is as small as that: the interval of
# no event among 1e12 ends at 3.55 in place of 3.69, so that it holds less than it says, and of 3 among 1e13 it is [0, 17.7] in place of [0.62, 8.77]. Even where the error is
# no larger than a fraction of a percent, as of 5 among 1e10, the exact interval is not exact. The p-value of the same object is right, and `wilson` has no root.
# The remedy: the limits are beta quantiles, `beta.ppf(0.025, k, n - k + 1)` and `beta.ppf(0.975, k + 1, n - k)`, right to a share of 1e-9 (but see
# scipy_beta_ppf_of_a_thousand.sh); `proportion_confint(..., method="beta")` of statsmodels is that.
#
# Seen with scipy 1.17.1, numpy 2.4.6, times n:
#   5 among 1e9:     1.62386, 11.66832     right 1.62349, 11.66833
#   5 among 1e10:    1.62564, 11.66963     right 1.62349, 11.66833
#   5 among 1e12:    1.00000, 12.18812     right 1.62349, 11.66833
#   0 among 1e12:    0, 3.54703            right 0, 3.68888
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import math

import numpy as np
import scipy
from scipy.stats import beta, binomtest

print("scipy", scipy.__version__, "numpy", np.__version__)


def at_most(count, mean):
    """Chance of at most `count` events where `mean` are expected, the law of rare ones."""
    return math.fsum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(count + 1))


errors = {}
for k, n in ((5, 10**6), (5, 10**9), (5, 10**10), (5, 10**12), (3, 10**13), (0, 10**12)):
    found = binomtest(k, n).proportion_ci(method="exact")
    low, high = beta.ppf(0.025, k, n - k + 1) if k else 0.0, beta.ppf(0.975, k + 1, n - k)
    print(f"{k} among {n:.0e}: {found.low * n:.5f}, {found.high * n:.5f}, right {low * n:.5f}, {high * n:.5f}")
    assert abs(at_most(k, high * n) - 0.025) < 1e-6
    assert k == 0 or abs(at_most(k - 1, low * n) - 0.975) < 1e-6
    errors[k, n] = max(abs(found.low / low - 1) if k else 0, abs(found.high / high - 1))
print({f"{k} among {n:.0e}": f"{error:.2g}" for (k, n), error in errors.items()})
assert errors[5, 10**6] < 1e-8
assert errors[5, 10**9] > 1e-4 and errors[5, 10**10] > 1e-3, "right at 1e9 and 1e10"
assert errors[5, 10**12] > 0.3 and errors[0, 10**12] > 0.03, "right at 1e12"
short = binomtest(0, 10**12).proportion_ci(method="exact").high * 1e12
print(f"no event among 1e12: with the upper limit as mean, none is seen with probability {at_most(0, short):.4f}, said is 0.025")
assert at_most(0, short) > 0.028
found = binomtest(5, 10**12, 1e-12).pvalue
assert abs(found / (1 - at_most(4, 1.0)) - 1) < 1e-6, "the p-value, 5 or more where 1 is expected"
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
