#!/usr/bin/env bash
# jax 0.10.2: `jax.random.poisson` and `binomial` draw from another law where counts are many; for `poisson` float64 does not help.
#
# Both accept or reject a candidate by a log-probability that is a difference of large terms: k log(rate) - rate - lgamma(k + 1),
# some 1.6e8 each at a rate of 1e7. In float32 these are rounded to multiples of 16, and the difference decides little. The mean
# stays right, so that a check of means passes. Tails are heavier than they should be from a rate of some 3e6 on, and the
# spread a fifth too wide at 1e8. With 64-bit numbers, a rate of float64 and dtype int64, the draws are the same: `poisson` turns
# the rate into float32 without a word, whatever it is given. NumPy's is right.
# `binomial` goes another way up to n p = 10, which is right; above, with n from some 2e7, it has the same trouble: 20 expected of
# 1e9 come with twice their variance and a mean 4 % low. There p in float64, with 64-bit numbers, is the remedy. A null model of
# many trials with few events is drawn that way.
#
# Seen with jax 0.10.2, CPU, 100,000 draws of key(0) (the conversion is the same in 0.12.0.1). Right are 1, 1 and 3:
#                           mean / rate   variance / rate   kurtosis
#   poisson 1e5             1.000         0.995             2.96
#   poisson 1e7             1.000         0.978             4.66
#   poisson 1e8             1.000         1.463             6.38
#   poisson 1e8, float64    the same draws
#   binomial 1e9, 2e-8      0.961         2.288             19.68
#   the same, float64       1.000         1.000             3.02
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__)
draws, key = (100_000,), jax.random.key(0)


def told(name, counts, rate):
    """Mean over rate, variance over rate and kurtosis of `counts`; a Poisson law has 1, 1 and 3 (and 1 / rate)."""
    counts = np.asarray(counts).astype(np.float64)
    z = (counts - counts.mean()) / counts.std()
    found = counts.mean() / rate, counts.var() / rate, (z**4).mean()
    print(f"{name:24} mean {found[0]:.3f} of the rate, spread {found[1] ** 0.5:.3f}, variance {found[1]:.3f}, kurtosis {found[2]:.2f}")
    return found


single = {rate: jax.random.poisson(key, rate, draws) for rate in (1e5, 1e7, 1e8)}
found = {rate: told(f"poisson {rate:g}", counts, rate) for rate, counts in single.items()}
few = told("binomial 1e9, 2e-8", jax.random.binomial(key, 1e9, 2e-8, draws), 20)
numpy_counts = told("NumPy's poisson 1e8", np.random.default_rng(0).poisson(1e8, draws), 1e8)

jax.config.update("jax_enable_x64", True)
double = jax.random.poisson(key, jnp.float64(1e8), draws, jnp.int64)
told("poisson 1e8, float64", double, 1e8)
few_double = told("binomial, float64", jax.random.binomial(key, jnp.float64(1e9), jnp.float64(2e-8), draws), 20)

assert abs(found[1e5][1] - 1) < 0.02 and abs(found[1e5][2] - 3) < 0.1
assert abs(numpy_counts[1] - 1) < 0.02 and abs(numpy_counts[2] - 3) < 0.1
assert all(abs(each[0] - 1) < 1e-4 for each in found.values())
assert found[1e7][2] > 4, "tails at 1e7 are right"
assert found[1e8][1] > 1.3 and found[1e8][2] > 5, "the spread at 1e8 is right"
assert double.dtype == jnp.int64 and np.array_equal(double, single[1e8]), "float64 makes a difference"
assert few[1] > 1.9 and few[0] < 0.98, "binomial is right"
assert abs(few_double[1] - 1) < 0.02 and abs(few_double[0] - 1) < 0.005
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
