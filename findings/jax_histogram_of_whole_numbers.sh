#!/usr/bin/env bash
# jax 0.10.2: `jnp.histogram` of whole numbers leaves bins empty that hold thousands; `jnp.linspace(0, 41, 42, dtype=int)` is 0, 0, 1, ..., 39, 41.
#
# `jnp.linspace` is start (1 - i / n) + stop (i / n), which keeps both ends exact and nothing between them: some of its whole numbers, or
# nearly all, are a rounding beside, above or below. NumPy's is start + i (stop - start) / n, exact for whole steps. `histogram`, `histogram2d`
# and `histogramdd` take their edges from it. Whole numbers lie on edges, and fall to the left where the edge is a rounding above them:
# one bin is empty and its neighbour has both. float64 has it as well, at other numbers. With `dtype=int` linspace rounds down, so that
# what is a rounding below becomes the number before. Ranges of powers of 2 are right, and so are labels counted from 0 to n, whose
# edges are off to the harmless side. Sums of +1 and -1 (spins, votes, correlations as counts) go from -n to n, and -10 to 10 is wrong.
# What to do: edges between the numbers (`jnp.arange(-n, n + 2) - 0.5`), `jnp.bincount(x + n)`, `jnp.arange` for a grid, or NumPy.
#
# Seen with jax 0.10.2, numpy 2.4.6, CPU (0.12.0.1 gives the same counts), float32 and float64:
#   100,000 sums of ten of +1, 0 and -1, 20 bins: 2 and 3 bins empty that should hold 4,896 to 14,139
#   one of each from -n to n, 2n bins, wrong counts: n=5 2 and 2, n=10 4 and 8, n=20 12 and 10, n=50 2 and 10; n=64 0 and 0
#   linspace(-n, n, 2n + 1, dtype=int), wrong numbers: n=50 21 and 5; n=10 and n=64 0
#   linspace(0, n, n + 1, dtype=int), wrong numbers: n=41 40 and 0, n=49 0 and 48, n=107 106 and 106
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, "numpy", np.__version__)
sums = np.random.default_rng(0).integers(-1, 2, size=(100_000, 10)).sum(axis=1)
sums[:2] = -10, 10  # so that the range of the data is the whole one
# 20 bins of width 1 from -10 to 10: a bin holds the number at its left edge, the last one both 9 and 10.
right = np.bincount(sums + 10, minlength=21)
right[19] += right[20]
right = right[:20]
assert np.array_equal(np.histogram(sums, bins=20)[0], right)

for wide in (False, True):
    jax.config.update("jax_enable_x64", wide)
    kind = jnp.float64 if wide else jnp.float32
    counts, edges = jnp.histogram(jnp.asarray(sums, kind), bins=20)
    counts = np.asarray(counts).astype(int)
    empty = np.flatnonzero((counts == 0) & (right >= 1000))
    print(f"{np.dtype(kind)}: {len(empty)} empty bins, of", right[empty], "in truth")
    print("   counts", counts)
    print("   right ", right)
    print("   edges that are not whole:", [repr(float(edge)) for edge in edges if float(edge) != round(float(edge))])
    assert len(empty) >= 2, "no bin is empty now"
    assert counts.sum() == right.sum() == 100_000
    between = jnp.arange(-10, 12) - 0.5
    by_hand = np.asarray(jnp.histogram(jnp.asarray(sums, kind), bins=between)[0]).astype(int)
    assert np.array_equal(by_hand, np.bincount(sums + 10, minlength=21))
    assert np.array_equal(np.asarray(jnp.bincount(jnp.asarray(sums) + 10, length=21)), by_hand)

    wrong = {}
    for n in (5, 10, 20, 50, 64):
        each = np.arange(-n, n + 1)
        found = np.asarray(jnp.histogram(jnp.asarray(each, kind), bins=2 * n)[0])
        expected = np.histogram(each, bins=2 * n)[0]
        grid = np.asarray(jnp.linspace(-n, n, 2 * n + 1, dtype=int))
        assert np.array_equal(np.linspace(-n, n, 2 * n + 1, dtype=int), each)
        wrong[n] = int(np.sum(found != expected)), int(np.sum(grid != each)), len(np.unique(grid))
        print(f"   -{n} to {n}: {wrong[n][0]} of {2 * n} counts wrong, {wrong[n][1]} of {2 * n + 1} numbers of linspace")
    assert all(wrong[n][0] > 0 for n in (5, 10, 20, 50)), "these histograms are right now"
    assert wrong[50][1] > 0 and wrong[50][2] < 101, "the whole numbers of linspace are right now"
    assert wrong[64][:2] == (0, 0)
    grid = np.asarray(jnp.linspace(0, 107, 108, dtype=int))
    print("   0 to 107 of linspace:", grid[:4], "...", grid[-3:])
    assert np.sum(grid != np.arange(108)) > 100 and np.array_equal(np.linspace(0, 107, 108, dtype=int), np.arange(108))
    labels = jnp.asarray(np.arange(10), kind)
    assert np.array_equal(np.asarray(jnp.histogram(labels, bins=10, range=(0, 10))[0]), np.ones(10))
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
