#!/usr/bin/env bash
# scipy 1.17.1: `linprog` and `milp` take a coefficient of 1e-9 or less for 0 and report success, with a slack of 0, for a point that breaks the constraint.
#
# HiGHS, the solver of both, leaves out matrix elements up to 1e-9 (its option small_matrix_value), whatever the other elements of the row
# are and before any scaling. On its own it says so in its log and by a warning status; SciPy has the log switched off, takes the
# warning for success, and offers no such option. `slack` and `con` are HiGHS's view of the rows, not b - A x: they are 0 for a
# violated row. So the answer depends on the unit: times in seconds, with operations of some nanoseconds, or probabilities of
# rare outcomes. A tolerance (1e-7, documented) is something else: here the violation is as large as one likes. The same numbers times 1e9 on
# both sides are right. A feasible problem may be "infeasible", a bounded one "unbounded". options={"disp": True} shows HiGHS's line.
# Coefficients of the objective are kept, however small. Check `A_ub @ x <= b_ub` oneself, and scale rows to 1.
# Right values by fractions: one resource, so that items in the order of value per second fill it.
#
# Seen with scipy 1.17.1, numpy 2.4.6: calls of 0.9 ns (value 1) and 3 ns (value 5), at most 1e9 of each, within one second:
#   unit s     x = [1e9, 3.33e8], value 2.67e9, success, slack 0; the time is 1.9 s
#   unit ns    x = [0,   3.33e8], value 1.67e9, which is right
#   maximise x with 1e-9 x <= 1: unbounded; with 1.1e-9 x <= 1: 9.09e8; 5e-10 x = 1: infeasible
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import warnings
from fractions import Fraction

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

warnings.simplefilter("error")  # there is none
print("scipy", scipy.__version__)
nanoseconds, values, most = [Fraction(9, 10), Fraction(3)], [1, 5], 10**9
best, left = Fraction(0), Fraction(10**9)
for time, value in sorted(zip(nanoseconds, values), key=lambda each: each[0] / each[1]):
    number = min(most, left / time)
    best, left = best + number * value, left - number * time
print("right value", float(best))
for unit, second in (("s", 1.0), ("ns", 1e9)):
    times = np.array([[float(t) for t in nanoseconds]]) * (second / 1e9)
    found = [
        linprog([-1, -5], A_ub=times, b_ub=[second], bounds=[(0, most)] * 2, method=method)
        for method in ("highs", "highs-ds", "highs-ipm")
    ]
    found += [
        milp([-1, -5], constraints=LinearConstraint(times, ub=second), bounds=Bounds(0, most), integrality=whole)
        for whole in (0, 1)
    ]
    for result in found:
        print(unit, result.status, result.message[:36], result.x, -result.fun, "slack", result.get("slack"), "time", times @ result.x / second)
        assert result.success and result.status == 0
        if unit == "s":
            assert times @ result.x > 1.8 and -result.fun > 1.5 * float(best), "kept now"
        else:
            assert times @ result.x < second * (1 + 1e-6) and abs(-result.fun / float(best) - 1) < 1e-6
    for result in found[:3]:
        assert abs(result.slack[0]) < 1e-6
statuses = {
    "1e-9 x <= 1": linprog([-1], A_ub=[[1e-9]], b_ub=[1]),
    "1.1e-9 x <= 1": linprog([-1], A_ub=[[1.1e-9]], b_ub=[1]),
    "5e-10 x = 1": linprog([1], A_eq=[[5e-10]], b_eq=[1]),
    "0.5 x = 1e9": linprog([1], A_eq=[[0.5]], b_eq=[1e9]),
    "objective 1e-12 x, x <= 5": linprog([-1e-12], A_ub=[[1]], b_ub=[5]),
}
for name, result in statuses.items():
    print(name, result.status, result.x)
assert [result.status for result in statuses.values()] == [3, 0, 2, 0, 0]
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
