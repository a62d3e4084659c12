#!/usr/bin/env bash
# jax 0.10.2 on a CPU: under jit, x / n rounds twice where n is broadcast, and once where it is not.
#
# XLA rewrites a division by a broadcast number as a product with its reciprocal. IEEE 754 says that a quotient is rounded
# once; a float64 program that divides whole numbers by a common total then gives values that are one unit in the last place
# off, and equal fractions that are not equal floats. The same expression without jit, or with a divisor for every element, is
# right. No fast-math flag is set. Whoever compares such quotients with a threshold should compare the numerators.
#
# Seen with jax 0.10.2, CPU, float64: of the 7,380 quotients i / n with n = 2 to 121, i = 1 to n, 1,593 differ from
# NumPy's under jit with n broadcast along a row; none does with a divisor for every element.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
print("jax", jax.__version__)
whole = np.arange(1.0, 122.0)
broadcast = jax.jit(lambda x, n: x / n)  # n is a number
each = jax.jit(lambda x, n: x / n)  # n is an array like x
off = {"broadcast": 0, "each": 0}
for n in range(2, 122):
    x, right = whole[:n], whole[:n] / n
    off["broadcast"] += int(np.sum(np.asarray(broadcast(x, np.float64(n))) != right))
    off["each"] += int(np.sum(np.asarray(each(x, np.full(n, float(n)))) != right))
print("quotients that are not the nearest float64:", off)
assert off["each"] == 0
assert off["broadcast"] > 100, "division by a broadcast is rounded once now"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
