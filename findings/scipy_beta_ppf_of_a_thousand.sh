#!/usr/bin/env bash
# scipy 1.17.1: `stats.beta.ppf` and `special.betaincinv` give another number where one parameter is exactly 1000 and the other above 1.2e8.
#
# The exact (Clopper-Pearson) limits of k among n are quantiles of beta laws with parameters k and n - k + 1, and k + 1 and n - k. Of 999 and of
# 1001 they are right. Where a parameter is 1000, and no other number tried up to 20,000, they are off by any factor: the lower limit of 1000 among
# 1e9 is 1.9e-6, above the frequency itself, and among 1e11 or more it is 1.49e-8, the root of the machine epsilon, whatever was asked for. There is
# no warning. `beta.cdf` is right there, and says 1 of what should be the quantile of 0.025. `f.ppf` of 2000 degrees, `betainccinv` and the
# Clopper-Pearson interval of statsmodels (`proportion_confint`, method "beta") are the same numbers. A count that stops at a thousand events
# meets it. The remedy: the next float. `np.nextafter(1000, 1001)` has the same quantile to a share of 1e-12, and gets it. Or put the answer
# into `beta.cdf`.
#
# Seen with scipy 1.17.1, numpy 2.4.6, times n (the right numbers by a sum over the Poisson law, which is that of rare events):
#   q = 0.025, of k - 1, k and k + 1 = 999, 1000, 1001, n = 1e9:   938.00, 1903.15, 939.94        right 938.00, 938.97, 939.94
#   q = 0.025, k = 1000, n = 1.5e8, 1e10, 1e12:                    2285.3, 2380.7, 14901.2        right 938.97
#   q = 0.975, k + 1 = 1000, n = 1e10:                             909.0                          right 1062.9
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import math
import warnings

import numpy as np
import scipy
from scipy.special import betaincinv
from scipy.stats import beta, f

warnings.simplefilter("error")
print("scipy", scipy.__version__, "numpy", np.__version__)


def at_least(count, mean):
    """Chance of `count` events or more where `mean` are expected."""
    return 1 - math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count))


def right(count, chance):
    """The mean with which `count` events or more have that chance, by halving."""
    low, high = 0.5 * count, 1.5 * count
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(count, middle) < chance else (low, middle)
    return low


def near(found, expected):
    return abs(found / expected - 1) < 1e-5


for n in (150e6, 1e9, 1e10, 1e12):
    limits = [float(beta.ppf(0.025, k, n - k + 1)) for k in (999, 1000, 1001)]
    expected = [right(k, 0.025) for k in (999, 1000, 1001)]
    next_float = float(beta.ppf(0.025, np.nextafter(1000, 1001), n - 999))
    print(f"n {n:g}, lower limits times n:", [round(x * n, 2) for x in [*limits, next_float]], "right", [round(x, 2) for x in expected])
    assert near(limits[0] * n, expected[0]) and near(limits[2] * n, expected[2]) and near(next_float * n, expected[1])
    assert limits[1] * n > 1.5 * expected[1], "1000 is right"
    assert beta.cdf(limits[1], 1000, n - 999) > 0.999
    assert limits[1] == betaincinv(1000, n - 999, 0.025)
    assert near(1 - beta.ppf(0.975, n - 999, 1000), limits[1]), "the mirrored law is right"
    assert f.ppf(0.025, 2000, 2 * (n - 999)) > 1.5
assert beta.ppf(0.025, 1000, 1e12) == beta.ppf(0.975, 1000, 1e12) == 2.0**-26
upper = float(beta.ppf(0.975, 1000, 1e10 - 999)) * 1e10
print("n 1e10, upper limit of 999 times n:", round(upper, 2), "right", round(right(1000, 0.975), 2))
assert upper < 0.9 * right(1000, 0.975)
counts = np.arange(1.0, 20_001)
back = beta.cdf(beta.ppf(0.025, counts, 1e9 - counts), counts, 1e9 - counts)
print("of 1 to 20,000 among 1e9 wrong:", counts[abs(back / 0.025 - 1) > 1e-3])
assert counts[abs(back / 0.025 - 1) > 1e-3].tolist() == [1000]
assert near(beta.ppf(0.025, 1000, 1e8) * 1e8, right(1000, 0.025))
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
