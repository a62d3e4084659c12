#!/usr/bin/env bash
# scipy 1.17.1: `scipy.stats.ttest_rel` of unsigned counts gives another p-value, and `hypergeom` of them is 0: polars counts are unsigned.
#
# `ttest_rel` subtracts the two columns as they are stored, and then tests the differences. Of two unsigned integers a difference below 0
# is some 4 * 10^9 (some 10^19 with 64 bits). There is no warning and p is an ordinary number. The neighbours `ttest_ind`,
# `ttest_1samp`, `wilcoxon`, `mannwhitneyu` and `pearsonr` make floats first, so a check of them says nothing here. `hypergeom` takes
# drawn - (total - special) for the least possible count where that is above 0. Unsigned it is never below, so where fewer are drawn than
# are not special, pmf and cdf are 0 and sf is 1 of everything, for arrays without a warning.
# In polars the sum of a boolean column and `pl.len()` are UInt32, so that counts of right answers arrive like this by themselves.
# Right values by fractions and by the same numbers as int64. The remedy: `.astype(float)` or `.cast(pl.Int64)` first.
#
# Seen with scipy 1.17.1, numpy 2.4.6, polars 2.1.0; counts of right answers of 50 networks in two contexts, no difference in law:
#   ttest_rel    uint32 statistic 7.29, p = 2.4e-09     int64 statistic -0.57, p = 0.57     uint8 and uint64 likewise
#   hypergeom    3 of 10 drawn, 20 of 100 special: uint32 pmf 0.0, sf 1.0     int64 pmf 0.2092, sf 0.1096
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6 polars==2.1.0
cat > "$work/run.py" <<'PY'
import warnings
from fractions import Fraction
from math import comb

import numpy as np
import polars as pl
import scipy
from scipy.stats import hypergeom, ttest_ind, ttest_rel, wilcoxon

warnings.simplefilter("error")
print("scipy", scipy.__version__, "numpy", np.__version__, "polars", pl.__version__)
rng = np.random.default_rng(0)
answers = pl.DataFrame({"network": np.repeat(np.arange(50), 40), "one": rng.random(2000) < 0.7, "two": rng.random(2000) < 0.7})
counts = answers.group_by("network", maintain_order=True).agg(pl.col("one", "two").sum(), items=pl.len())
assert counts.dtypes[1:] == [pl.UInt32] * 3, "polars counts in another type"
one, two = counts["one"].to_numpy(), counts["two"].to_numpy()
assert one.dtype == np.uint32

differences = [int(a) - int(b) for a, b in zip(one, two)]
mean = Fraction(sum(differences), len(differences))
variance = sum((each - mean) ** 2 for each in differences) / (len(differences) - 1)
exact = float(mean) / float(variance / len(differences)) ** 0.5
found = {kind: ttest_rel(one.astype(kind), two.astype(kind)) for kind in ("uint8", "uint32", "uint64", "int64", "float64")}
for kind, result in found.items():
    print(f"ttest_rel {kind:8} statistic {float(result.statistic):.4f} p {float(result.pvalue):.3g}")
print(f"by fractions, statistic {exact:.4f}")
for kind in ("int64", "float64"):
    assert abs(float(found[kind].statistic) - exact) < 1e-10 and found[kind].pvalue > 0.4
for kind in ("uint8", "uint32", "uint64"):
    assert found[kind].statistic > 3 and found[kind].pvalue < 1e-3, "unsigned counts are tested right now"
for test in (ttest_ind, wilcoxon):
    assert abs(test(one, two).pvalue - test(one.astype(int), two.astype(int)).pvalue) < 1e-12, test.__name__

at = np.arange(11)
for kind in (np.uint16, np.uint32, np.uint64, np.int64):
    total, special, drawn = (np.full(11, number, kind) for number in (100, 20, 10))
    pmf, sf = hypergeom.pmf(at, total, special, drawn), hypergeom.sf(at, total, special, drawn)
    print("hypergeom", np.dtype(kind).name, "pmf(3)", pmf[3], "sf(3)", sf[3], "all of pmf", round(float(pmf.sum()), 12))
    if kind is np.int64:
        assert all(abs(p - comb(20, k) * comb(80, 10 - k) / comb(100, 10)) < 1e-12 for k, p in enumerate(pmf))
    else:
        assert not pmf.any() and (sf == 1).all(), "hypergeom takes unsigned numbers now"
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
