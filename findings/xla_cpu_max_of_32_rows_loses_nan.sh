#!/usr/bin/env bash
# jax 0.10.2 on a CPU: under jit, `jnp.max` over 32 or more rows is not NaN where a row is; over 31 it is.
#
# `jnp.max` gives NaN where any element is NaN, as NumPy does, and so it does on small arrays and without rows to reduce. Over the
# leading axis of an array with 32 rows or more, XLA on a CPU first reduces windows of rows, and NaN is lost on the way: a
# column of nothing but NaN gives -inf, and one that holds a single NaN gives the largest of the other rows. `jnp.min` does
# the same. No fast-math flag is set. A check by a largest absolute value then passes, and code that divides by such a maximum has 0
# where it should have NaN. To see whether something is not finite, ask `jnp.isfinite(x).all(axis=0)`; for a maximum of few rows,
# write it out with `jnp.maximum`.
#
# Seen with jax 0.10.2 and 0.12.0.1, CPU, float32, arrays [rows, 128]: all columns are NaN up to 31 rows, none from 32 on.
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
largest, smallest, finite = (
    jax.jit(f)
    for f in (
        lambda x: jnp.max(x, axis=0),
        lambda x: jnp.min(x, axis=0),
        lambda x: jnp.isfinite(x).all(axis=0),
    )
)
for rows in (2, 16, 31, 32, 40, 64):
    one = np.zeros((rows, 128), np.float32)
    one[rows // 2] = np.nan
    every = np.full((rows, 128), np.nan, np.float32)
    found = [np.asarray(f(x)) for x in (one, every) for f in (largest, smallest)]
    print(rows, "rows; largest and smallest of one NaN row, of NaN rows alone:", [float(each[0]) for each in found])
    assert np.isnan(np.max(one, axis=0)).all()  # NumPy
    assert not np.asarray(finite(one)).any()
    for each in found:
        assert np.isnan(each).all() == (rows < 32), "NaN is kept now, or lost earlier"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
