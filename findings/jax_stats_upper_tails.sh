#!/usr/bin/env bash
# jax 0.10.2: `stats.norm.isf` and `stats.gumbel_r.sf` go through 1 minus the small number that they are there for.
#
# An inverse survival function is asked for rather than `ppf(1 - q)` because 1 - q rounds; `norm.isf` is ppf(1 - q). In float32 the threshold of
# q = 1e-6 is off in the fourth digit, and from q = 2.98e-8 down it is inf, in float64 from some 1e-16. `norm.sf` and `logsf` are right there, so
# isf(sf(6)) is inf, and a p-value turned into a z-score to be added to others (Stouffer) makes the sum inf. `-norm.ppf(q)` is right to the last digits.
# `gumbel_r.sf`, the chance of a larger maximum, is 1 - exp(-exp(-x)): 44 % too large at 17 and 0 from 20 on (float32); `exp(gumbel_r.logsf(x))`
# and the mirrored `gumbel_l.cdf(-x)` are right. SciPy's are right everywhere. 0.12.0.1 has repaired isf, gumbel_r.sf not.
#
# Seen with jax 0.10.2, CPU:                      float32              right
#   norm.isf(1e-4), isf(1e-6)                     3.71897, 4.75076     3.71902, 4.75342
#   norm.isf(1e-10)                               inf                  6.36134
#   norm.isf(norm.sf(6))                          inf                  6
#   gumbel_r.sf(10), sf(17), sf(20)               4.5419e-05, 5.96e-08, 0    4.5399e-05, 4.14e-08, 2.06e-09
#   in float64: norm.isf(1e-17), gumbel_r.sf(40)  inf, 0               8.49379, 4.25e-18
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0 scipy==1.17.1 mpmath==1.3.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
from jax.scipy.stats import gumbel_l, gumbel_r, norm
from mpmath import erfinv, exp, expm1, mp, mpf, sqrt

mp.dps = 40
print("jax", jax.__version__)


def threshold(q):
    """The z whose upper tail is q."""
    return float(sqrt(2) * erfinv(1 - 2 * mpf(q)))


def larger(x):
    """Chance that a Gumbel number is larger than x."""
    return float(-expm1(-exp(-mpf(x))))


def near(found, right, share):
    return abs(float(found) / right - 1) < share


for q in (1e-4, 1e-6, 1e-7, 1e-10):
    q = float(jnp.float32(q))
    print("q", q, "isf", norm.isf(jnp.float32(q)), "-ppf", -norm.ppf(jnp.float32(q)), "right", threshold(q))
    assert near(-norm.ppf(jnp.float32(q)), threshold(q), 1e-6)
for x in (2.0, 10.0, 17.0, 20.0):
    print("x", x, "sf", gumbel_r.sf(jnp.float32(x)), "exp(logsf)", jnp.exp(gumbel_r.logsf(jnp.float32(x))), "right", larger(x))
    assert near(jnp.exp(gumbel_r.logsf(jnp.float32(x))), larger(x), 1e-6)
    assert near(gumbel_l.cdf(jnp.float32(-x)), larger(x), 1e-6)
assert near(norm.sf(jnp.float32(6)), 9.865876450376946e-10, 1e-5)
assert jnp.isinf(norm.isf(norm.sf(jnp.float32(6)))), "isf undoes sf"
assert jnp.isinf(norm.isf(jnp.float32(1e-10)))
assert 5e-4 < 1 - float(norm.isf(jnp.float32(1e-6))) / threshold(1e-6) < 6e-4
assert near(gumbel_r.sf(jnp.float32(2)), larger(2), 1e-6)
assert 4e-4 < float(gumbel_r.sf(jnp.float32(10))) / larger(10) - 1 < 5e-4
assert float(gumbel_r.sf(jnp.float32(17))) > 1.4 * larger(17)
assert float(gumbel_r.sf(jnp.float32(20))) == 0, "sf(20) is no longer 0"

jax.config.update("jax_enable_x64", True)
print("float64:", norm.isf(jnp.float64(1e-17)), threshold(1e-17), gumbel_r.sf(jnp.float64(40)), larger(40))
assert jnp.isinf(norm.isf(jnp.float64(1e-17))) and near(-norm.ppf(jnp.float64(1e-17)), threshold(1e-17), 1e-14)
assert float(gumbel_r.sf(jnp.float64(40))) == 0 and near(jnp.exp(gumbel_r.logsf(jnp.float64(40))), larger(40), 1e-13)
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
