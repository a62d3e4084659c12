#!/usr/bin/env bash
# numpy 2.4.6: percentiles of int8 lie outside the data: `describe()` of pandas then shows a median above the maximum.
#
# `np.percentile` and `np.quantile` interpolate by a + (b - a) t between two neighbours in order. These stay as they are stored, so b - a of
# two int8 wraps around where they are more than 127 apart. int16 to int64 do the same at their widths. The result is float64,
# so its type does not tell; of one row there is a RuntimeWarning, of several along an axis, and through pandas and xarray, there
# is none. `np.median`, by definition the same number, is right, and so are unsigned numbers (b - a is never below 0), polars, and
# the same values as float64. Weights quantised to int8 have such gaps where few are looked at, as groups of a group-by are.
# (numpy's tracker has the cause as 29315, and a remedy proposed as 30376, both open in 2026.)
#
# Seen with numpy 2.4.6, pandas 3.1.1, xarray 2026.9.0, polars 2.1.0, of -100, -90, 90, 100 as int8; the median is 0:
#   np.percentile 128.0   np.median 0.0   xarray 128.0   polars 0.0   np.percentile of float64 0.0
#   pandas describe()     25% -92.5   50% 128.0   75% 92.5   max 100.0        pandas median() 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 pandas==3.1.1 xarray==2026.9.0 polars==2.1.0
cat > "$work/run.py" <<'PY'
import warnings

import numpy as np
import pandas as pd
import polars as pl
import xarray as xr

print("numpy", np.__version__, "pandas", pd.__version__, "xarray", xr.__version__, "polars", pl.__version__)
few = np.array([-100, -90, 90, 100], np.int8)
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    rows = np.percentile(np.stack([few, few]), 50, axis=1)
    shown = pd.DataFrame({"x": few}).describe()["x"]
    labelled = float(xr.DataArray(few, dims="member").quantile(0.5))
assert not heard, heard
found = {
    "np.percentile along rows": float(rows[0]),
    "np.percentile of float64": float(np.percentile(few.astype(np.float64), 50)),
    "np.median": float(np.median(few)),
    "pandas describe, 50%": float(shown["50%"]),
    "pandas median": float(pd.Series(few).median()),
    "xarray quantile": labelled,
    "polars quantile": pl.Series(few).quantile(0.5, "linear"),
}
for name, value in found.items():
    print(f"{name:26} {value}")
print("describe:", shown.to_dict())
wrong = ("np.percentile along rows", "pandas describe, 50%", "xarray quantile")
assert all(found[name] == 128.0 for name in wrong), "inside the data now"
assert all(value == 0.0 for name, value in found.items() if name not in wrong)
assert shown["50%"] > shown["max"] > shown["75%"]
for kind in (np.int16, np.int32, np.int64):
    ends = np.iinfo(kind)
    pair = np.array([[ends.min, ends.max]], kind)
    middle = float(np.quantile(pair, 0.5, axis=1)[0])
    print(np.dtype(kind).name, "middle of the smallest and the largest:", middle, "by np.median", float(np.median(pair)))
    assert middle > 32767
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
