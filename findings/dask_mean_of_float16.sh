#!/usr/bin/env bash
# dask 2026.8.0: the mean and the standard deviation of 66,000 float16 numbers are 0, of any values; NumPy's mean is right.
#
# `dask.array` takes the type of the result for everything on the way: the sum of each block, and the number of elements. In float16
# a number of 65,520 or more is inf, so more elements than that divide a finite sum by infinity, and what comes out is 0. Where the sum
# overflows alone (10,000 numbers of some 20) it is inf, and where both do NaN. NumPy's `mean` of float16 goes by float32 inside, as its
# documentation says, so the same code on the array without chunks is right. A RuntimeWarning speaks of an overflow "in reduce", from a worker. xarray
# calls dask for chunked data: `mean`, `std`, and with it a mean over members of stored float16 statistics. (Without chunks xarray
# has trouble of its own, which is NumPy's `nanmean`, issue 23075: a running float16 sum of a leading axis stops to grow; skipna=False is right there. With
# chunks skipna changes nothing.) Remedy: dtype="float32" in the call, or `.astype("float32")` before.
#
# Seen with dask 2026.8.0, xarray 2026.9.0, numpy 2.4.6; uniform numbers in 0 to 1 as float16, chunks of 1,000, right are 0.5 and 0.289:
#   65,000    dask mean 0.5, std 0.288    numpy mean 0.5
#   66,000    dask mean 0.0, std 0.0      numpy mean 0.499
#   10,000 numbers of 20 to 21: dask mean inf, var nan; numpy mean 20.5
#   xarray, 70,000 x 4, mean over the first    chunked 0.0    not chunked 0.029, with skipna=False 0.5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dask==2026.8.0 xarray==2026.9.0 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import warnings

import dask
import dask.array
import numpy as np
import xarray

warnings.simplefilter("ignore", RuntimeWarning)
dask.config.set(scheduler="sync")
print("dask", dask.__version__, "xarray", xarray.__version__, "numpy", np.__version__)
draws = np.random.default_rng(0)
for number in (65_000, 66_000, 100_000):
    x = draws.random(number).astype(np.float16)
    for chunk in (1000, number):
        d = dask.array.from_array(x, chunks=chunk)
        mean, std, wide = float(d.mean().compute()), float(d.std().compute()), float(d.mean(dtype="f4").compute())
        print(f"{number} in chunks of {chunk}: mean {mean}, std {std}, with dtype=f4 {wide}, numpy {x.mean()}")
        if number < 65_520:
            assert abs(mean - 0.5) < 0.01 and abs(std - 12**-0.5) < 0.01
        else:
            assert mean == std == 0.0, "counted in a wider type now"
        assert abs(wide - x.mean(dtype=float)) < 1e-4 and abs(x.mean() - 0.5) < 0.01
x = (20 + draws.random(10_000)).astype(np.float16)
d = dask.array.from_array(x, chunks=1000)
mean, variance = float(d.mean().compute()), float(d.var().compute())
print("20 to 21: mean", mean, "variance", variance, "numpy", x.mean())
assert mean == np.inf and np.isnan(variance) and abs(x.mean() - 20.5) < 0.02
plain = xarray.DataArray(draws.random((70_000, 4)).astype(np.float16), dims=("member", "task"))
chunked = plain.chunk(member=1000)
found = {
    "chunked": chunked.mean("member"),
    "chunked, skipna=False": chunked.mean("member", skipna=False),
    "chunked, std": chunked.std("member"),
    "plain": plain.mean("member"),
    "plain, skipna=False": plain.mean("member", skipna=False),
    "chunked, float32": chunked.astype("f4").mean("member"),
}
found = {name: value.compute().values for name, value in found.items()}
for name, value in found.items():
    print("xarray", name, value)
assert not any(found[name].any() for name in found if name.startswith("chunked") and "float32" not in name)
assert np.allclose(found["plain, skipna=False"], 0.5, atol=0.01) and np.allclose(found["chunked, float32"], 0.5, atol=0.01)
assert (found["plain"] < 0.1).all()
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
