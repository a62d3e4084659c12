#!/usr/bin/env bash
# xarray 2026.9.0: `weighted(mask).mean()` of outcomes stored as int8 or bool is wrong: 0.0011 in place of an accuracy of 0.78.
#
# The weighted mean is a sum of products over a sum of weights, and the sum of products is `np.einsum` in the common type of the
# two. Of an int8 column and a boolean mask that is int8: the sum of +1 and -1 wraps around at 128. Of two booleans it is bool: a sum
# is at most 1. The sum of weights is right (booleans are made integers there, issue 4074 of 2020), the quotient is float64 without
# a warning, and up to 127 rows all is well, so tests on few rows find nothing. `sum()` says so by its type, int8 or bool, `mean()`
# does not; `var()` and `std()` subtract the wrong mean. `where(mask).mean()`, `mask.astype(float)` or `int` as weights, and
# `quantile` are right, and so is `mean()` of the column without weights.
#
# Seen with xarray 2026.9.0, numpy 2.4.6, 1,000 outcomes, 897 of them under the mask:
#   +1 and -1 as int8     weighted(mask).mean() -0.0056    weighted(mask.astype(float)) 0.5652    where(mask) 0.5652
#   right or wrong, bool  weighted(mask).mean()  0.0011    weighted(mask.astype(float)) 0.7826    where(mask) 0.7826
#   std of +1 and -1      1.003, right 0.825
# 127 outcomes of +1 have the mean 1, 128 of them -1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check xarray==2026.9.0 numpy==2.4.6 pandas==3.1.1
cat > "$work/run.py" <<'PY'
import warnings
from fractions import Fraction

import numpy as np
import xarray as xr

warnings.simplefilter("error")
print("xarray", xr.__version__, "numpy", np.__version__)
rng = np.random.default_rng(0)
signs = np.where(rng.random(1000) < 0.8, 1, -1)
kept = rng.random(1000) < 0.9
outcomes = xr.DataArray(signs.astype(np.int8), dims="item")
hits = outcomes > 0
mask = xr.DataArray(kept, dims="item")


def right(numbers):
    return float(Fraction(sum(int(number) for number, use in zip(numbers, kept) if use), int(kept.sum())))


for name, column, exact in (("outcomes", outcomes, right(signs)), ("hits", hits, right(signs > 0))):
    mean = column.weighted(mask).mean()
    assert mean.dtype == np.float64
    found = {
        "by the mask": float(mean),
        "of a Dataset": float(xr.Dataset({name: column}).weighted(mask).mean()[name]),
        "by numbers": float(column.weighted(mask.astype(float)).mean()),
        "by integers": float(column.weighted(mask.astype(int)).mean()),
        "where": float(column.where(mask).mean()),
        "exact": exact,
    }
    print(f"{name:9}", {how: round(value, 6) for how, value in found.items()}, "sum", column.weighted(mask).sum().dtype)
    assert found["by the mask"] == found["of a Dataset"]
    assert abs(found["by the mask"] - exact) > 0.5, "right by the mask now"
    # where() of int8 is float32, so some 1e-7
    assert all(abs(found[how] - exact) < 2e-7 for how in ("by numbers", "by integers", "where"))
spread = float(outcomes.weighted(mask).std())
print("std", spread, "right", (1 - right(signs) ** 2) ** 0.5)
assert spread > 1 > 0.83 > (1 - right(signs) ** 2) ** 0.5
assert float(outcomes.mean()) == signs.mean() and float(hits.mean()) == (signs > 0).mean()
ones = {rows: xr.DataArray(np.ones(rows, np.int8), dims="item") for rows in (127, 128)}
means = {rows: float(column.weighted(column > 0).mean()) for rows, column in ones.items()}
print("rows of +1, mean:", means)
assert means == {127: 1.0, 128: -1.0}
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
