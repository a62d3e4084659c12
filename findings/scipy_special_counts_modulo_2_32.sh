#!/usr/bin/env bash
# scipy 1.17.1: `bdtr`, `nbdtr`, `pdtri`, `smirnov`, `expn` and `yn` take a whole number modulo 2^32: 4,294,967,297 trials count as one.
#
# These functions have a loop for int64, which NumPy's integers are, and call C code with an int of 32 bits; what does not fit is cut off
# without a word. For 2^31 to 2^32 the number is negative then and NaN the answer (scipy 9454, of 2018, speaks of that). From 2^32 on the answer is a
# finite, plausible one, of another number of trials. Counts of that size are no rarity where each of some million simulated runs has some thousand
# rows. The same count as a float is cut as well, with a DeprecationWarning "non-integer arg n" that sends one back to integers, and is NaN.
# `bdtrc`, `bdtri`, `nbdtrc`, `nbdtri` and `smirnovi` are alike. Right are `scipy.stats.binom`, `nbinom` and `poisson`, `betainc`, `gammaincc`,
# and, with counts as floats by design, `bdtrik`, `pdtr` and `pdtrc`.
#
# Seen with scipy 1.17.1, numpy 2.4.0, on x86-64 (where the cut is modulo 2^32), n = 2^32 + 1; right by closed forms:
#   bdtr(0, n, 1e-9)        0.999999999     right 0.01364     no success in n trials, (1 - p)^n
#   nbdtr(0, n, 1 - 1e-10)  0.9999999999    right 0.6508      p^n
#   pdtri(n, 0.5)           1.678           right 4294967297.67
#   smirnov(n, 1e-5)        0.99999         right 0.4236      exp(-2 n d^2)
#   expn(n, 1.0)            0.2194          right 8.6e-11     exp(-x) / (x + n)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import warnings
from math import exp, isclose, log, log1p

import numpy as np
import scipy
from scipy import special, stats

print("scipy", scipy.__version__, "numpy", np.__version__)
ROUND = 2**32
N = ROUND + 1
cases = {
    "bdtr": (lambda n: special.bdtr(0, n, 1e-9), exp(N * log1p(-1e-9))),
    "bdtrc": (lambda n: special.bdtrc(0, n, 1e-9), 1 - exp(N * log1p(-1e-9))),
    "nbdtr": (lambda n: special.nbdtr(0, n, 1 - 1e-10), exp(N * log(1 - 1e-10))),
    "pdtri": (lambda n: special.pdtri(n, 0.5), N + 2 / 3),
    "smirnov": (lambda n: special.smirnov(n, 1e-5), exp(-2 * N * 1e-10)),
    "expn": (lambda n: special.expn(n, 1.0), exp(-1) / (1 + N)),
    "yn": (lambda n: special.yn(n, 1.0), -np.inf),
}
with warnings.catch_warnings(), special.errstate(all="raise"):
    warnings.simplefilter("error")
    for name, (function, right) in cases.items():
        given, of_one, array = float(function(N)), float(function(1)), function(np.array([N]))
        print(f"{name:8} given {given:.10g}, of n = 1 {of_one:.10g}, right {right:.10g}")
        assert given == of_one == array[0], f"{name} has more than 32 bits now"
        assert not isclose(given, right, rel_tol=0.1)
    # 4,294,972,296 trials, 430 expected successes: a median that becomes a certainty.
    n = ROUND + 5000
    print("bdtr(430, 2^32 + 5000, 1e-7)", special.bdtr(430, n, 1e-7), "of 5000", special.bdtr(430, 5000, 1e-7))
    assert special.bdtr(430, n, 1e-7) == special.bdtr(430, 5000, 1e-7) > 1 - 1e-12
    for alike in (
        lambda n: special.bdtri(0, n, 0.5),
        lambda n: special.nbdtrc(0, n, 0.5),
        lambda n: special.nbdtri(0, n, 0.5),
        lambda n: special.smirnovi(n, 0.5),
    ):
        assert alike(N) == alike(1)
for right in (stats.binom.cdf(430, n, 1e-7), special.betaincc(431, n - 430, 1e-7)):
    assert abs(right - 0.52249182253) < 1e-10
assert abs(special.bdtrik(right, n, 1e-7) - 430) < 1e-5
assert isclose(stats.binom.cdf(0, N, 1e-9), cases["bdtr"][1], rel_tol=1e-9)
assert isclose(stats.nbinom.cdf(0, N, 1 - 1e-10), cases["nbdtr"][1], rel_tol=1e-6)
assert isclose(special.pdtr(float(N), N + 2 / 3), 0.5, rel_tol=1e-4)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    assert np.isnan(special.bdtr(0, 2**31, 1e-9)) and not said
    as_float = special.bdtr(0, float(N), 1e-9)
    print("as a float", as_float, [str(one.message) for one in said])
    assert np.isnan(as_float) and "non-integer arg n is deprecated" in str(said[0].message)
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
