#!/usr/bin/env bash
# jax 0.10.2: `jax.scipy.special.betaln` is off by up to 1.3e-6 where an argument is 8 to some 100, in float64 as in float32.
#
# For a larger argument of 8 or more it takes an expansion that SciPy has as well (ALGDIV). That needs two numbers of
# h = a / b: h / (1 + h) and 1 / (1 + h). Both are set to h / (1 + h). The two are equal where a = b, so a check of such a pair
# finds nothing, and the error falls as b^-3, so a check at large arguments (for which the branch was made) does not either.
# What is built on it has the error: `stats.beta.pdf` and `logpdf`, `special.beta`, and `stats.betabinom`. In float32 that is
# some ulp; in float64, which one switches on for a reason, it is seven digits where there should be fifteen, and a step at 8:
# a posterior's density jumps by 1e-6 as counts go from 7 to 8. lgamma(a) + lgamma(b) - lgamma(a + b) is right there.
# Right values by fractions: B(a, b) of whole numbers is (a - 1)! (b - 1)! / (a + b - 1)!.
#
# Seen with jax 0.10.2, CPU, float64 (the line is the same in 0.12.0.1); the difference of betaln to the logarithm of the fraction:
#   (3, 7)     0            (3, 8)     1.3e-06      (8, 8)     less than 1e-14
#   (1, 10)    4.1e-07      (20, 30)   1.6e-08      (100, 100) less than 1e-13
# stats.beta.pdf(0.1, 1, 10) = 3.8742032975825564, where 10 * 0.9^9 = 3.8742048900000003
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0 scipy==1.17.1
cat > "$work/run.py" <<'PY'
from fractions import Fraction
from math import factorial, log

import jax
import jax.numpy as jnp
import scipy.special
from jax.scipy.special import betaln, gammaln
from jax.scipy.stats import beta

jax.config.update("jax_enable_x64", True)
print("jax", jax.__version__)


def right(a, b):
    return log(Fraction(factorial(a - 1) * factorial(b - 1), factorial(a + b - 1)))


off = {}
for a, b in ((3, 7), (3, 8), (8, 8), (1, 10), (20, 30), (100, 100)):
    given = betaln(jnp.float64(a), jnp.float64(b))
    assert given.dtype == jnp.float64
    off[a, b] = float(given) - right(a, b)
    print((a, b), "jax", float(given), "right", right(a, b), "difference", off[a, b])
    assert abs(scipy.special.betaln(a, b) - right(a, b)) < 1e-12
    assert abs(float(gammaln(1.0 * a) + gammaln(1.0 * b) - gammaln(1.0 * (a + b))) - right(a, b)) < 1e-12
for pair in ((3, 7), (8, 8), (100, 100)):
    assert abs(off[pair]) < 1e-12
assert 1.2e-6 < off[3, 8] < 1.4e-6, "right from 8 on, or wrong by another number"
assert 4e-7 < off[1, 10] < 4.2e-7
assert 1.6e-8 < off[20, 30] < 1.7e-8
density = float(beta.pdf(0.1, 1.0, 10.0))
print("density", density, "right", 10 * 0.9**9)
assert 1.5e-6 < 10 * 0.9**9 - density < 1.7e-6
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
