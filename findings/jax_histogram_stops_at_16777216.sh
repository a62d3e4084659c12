#!/usr/bin/env bash
# jax 0.10.2: a bin of `jnp.histogram` never holds more than 16,777,216, however many numbers fall into it; `density=True` is then another density.
#
# It counts by adding ones of float32, one after another, and 16,777,216 + 1 is 16,777,216 in float32. Of 40 million numbers of which 28 million lie in the
# first of four bins, 11.5 million are lost, without a word, for booleans as well; the density is divided by the number that is left, so that its
# integral is 1 and each of its heights is wrong. `histogram2d` and `histogramdd`, also of one column, and `bincount` count in int32 and are
# right; NumPy's histogram, too. The remedy: `histogramdd(x[:, None], ...)`, or parts that are added in int.
#
# Seen with jax 0.10.2, CPU, 40 million numbers i^4 with i even from 0 to 1, four bins:
#   jnp.histogram             16777216, 5351583, 3588341, 2775805     density 2.355, 0.751, 0.504, 0.390
#   np.histogram, bincount    28284271, 5351583, 3588341, 2775805     density 2.828, 0.535, 0.359, 0.278
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
MOST = 2**24
x = jnp.linspace(0, 1, 40_000_000, dtype=jnp.float32) ** 4
settings = {"bins": 4, "range": (0, 1)}
right, _ = np.histogram(np.asarray(x), **settings)
found, edges = jnp.histogram(x, **settings)
print("jnp.histogram", np.asarray(found).astype(int), "np.histogram", right)
assert right[0] > 28_000_000
assert found[0] == MOST, "counts go on"
assert np.array_equal(found[1:], right[1:])
several, _ = jnp.histogramdd(x[:, None], bins=4, range=((0, 1),))
bins = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, 3)
assert np.array_equal(several, right) and np.array_equal(jnp.bincount(bins, length=4), right)
rare, _ = jnp.histogram(jnp.arange(len(x)) % 4 == 0, bins=2)
print("bool, 30 million of 0, 10 million of 1:", np.asarray(rare).astype(int))
assert rare.tolist() == [MOST, 10_000_000]
heights, _ = jnp.histogram(x, density=True, **settings)
expected, _ = np.histogram(np.asarray(x), density=True, **settings)
print("density", heights, "right", expected)
assert abs(float(heights.sum()) / 4 - 1) < 1e-5 and float(heights[1]) > 1.4 * expected[1]
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
