#!/usr/bin/env bash
# statsmodels 0.15.0: `confint_poisson(0, n, method="midp-c")`, the interval of a rate without an event, is a single point, and 0 is not in it.
#
# With no event the lower limit is 0 and the mid-p upper limit is where half of exp(-mean) is 0.025: log(20) / n = 3.00 / n. statsmodels looks for the lower limit
# with the same equation, whose only root is the upper one: [2.9957, 2.9957], a rate that is certain and not 0. The two are found apart, so that low may be
# above high in the tenth digit. At other levels it is the same point of that level, and the one-sided interval with alternative="smaller" says "at least 2.3"
# of a process that has never happened. One event or more is right, and of no event the methods exact-c, score and jeff are. The documentation says of all methods
# that each tail has at most half of alpha, and of this one that it inverts a test; a rate that is really 0 gives no event every time, and is never held.
# The remedy: take 0 for the lower limit of no events, or exact-c, [0, 3.69].
#
# Seen with statsmodels 0.15.0, scipy 1.17.1:
#   no event, exposure 1:      midp-c [2.9957, 2.9957]     exact-c [0, 3.6889]
#   one event, exposure 1:     midp-c [0.0500, 4.9319]     exact-c [0.0253, 5.5716]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
cat > "$work/run.py" <<'PY'
from math import exp, log

import statsmodels
from statsmodels.stats.rates import confint_poisson

print("statsmodels", statsmodels.__version__)
for exposure in (1, 100):
    for alpha in (0.05, 0.01):
        low, high = (float(x) * exposure for x in confint_poisson(0, exposure, method="midp-c", alpha=alpha))
        exact = [float(x) * exposure for x in confint_poisson(0, exposure, method="exact-c", alpha=alpha)]
        print(f"no event, exposure {exposure}, alpha {alpha}: midp-c [{low:.4f}, {high:.4f}], exact-c [{exact[0]:.4f}, {exact[1]:.4f}]")
        assert abs(high - log(1 / alpha)) < 1e-4 and abs(exp(-high) / 2 - alpha / 2) < 1e-5, "the upper limit is right"
        assert abs(low - high) < 1e-4, "the lower limit is no longer the upper one"
        assert exact[0] == 0 and abs(exp(-exact[1]) - alpha / 2) < 1e-9
low, high = confint_poisson(0, 1, method="midp-c", alternative="smaller")
print(f"one-sided: [{low:.4f}, {high}]")
assert low > 2 and high == float("inf")
low, high = (float(x) for x in confint_poisson(1, 1, method="midp-c"))
print(f"one event: [{low:.4f}, {high:.4f}]")
assert abs(1 - exp(-low) - exp(-low) * low / 2 - 0.025) < 1e-6
assert abs(exp(-high) * (1 + high / 2) - 0.025) < 1e-6
for method in ("score", "jeff", "exact-c"):
    assert confint_poisson(0, 1, method=method)[0] < 0.001 < 2 < confint_poisson(0, 1, method=method)[1]
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
