#!/usr/bin/env bash
# jax 0.10.2 on a CPU: under jit, `jnp.max` over the rows of 4,096 numbers or more is not NaN where a row is; of fewer it is.
#
# `jnp.max` gives NaN where any element is NaN, as NumPy does, and so it does on small arrays and without rows to reduce. Over the
# leading axis of an array of 4,096 numbers or more, as 32 x 128 or 4 x 1024, XLA on a CPU first reduces windows of rows, and NaN is lost on the way: a
# column of nothing but NaN gives -inf, and one that holds a single NaN gives the largest of the other rows. `jnp.min` does
# the same. No fast-math flag is set. A check by a largest absolute value then passes, and code that divides by such a maximum has 0
# where it should have NaN. To see whether something is not finite, ask `jnp.isfinite(x).all(axis=0)`; for a maximum of few rows,
# write it out with `jnp.maximum`.
#
# Seen with jax 0.10.2, CPU, float32, of 3 to 64 rows and 64 to 1,024 columns: all columns are NaN of 4,095 numbers at most, none from 4,096
# on. With 0.12.0.1 the same was seen of 128 columns.
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
for rows, columns in ((2, 128), (31, 128), (32, 128), (40, 128), (63, 64), (64, 64), (3, 1024), (4, 1024)):
    one = np.zeros((rows, columns), np.float32)
    one[rows // 2] = np.nan
    every = np.full((rows, columns), np.nan, np.float32)
    found = [np.asarray(f(x)) for x in (one, every) for f in (largest, smallest)]
    print(rows, "rows of", columns, "numbers; largest and smallest of one NaN row, of NaN rows alone:", [float(each[0]) for each in found])
    assert np.isnan(np.max(one, axis=0)).all()  # NumPy
    assert not np.asarray(finite(one)).any()
    for each in found:
        assert np.isnan(each).all() == (rows * columns < 4096), "NaN is kept now, or lost earlier"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
