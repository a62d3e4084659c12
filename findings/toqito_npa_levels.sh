#!/usr/bin/env bash
# toqito 1.1.8: `bell_inequality_max(..., "quantum", k)` is looser than level k of the NPA hierarchy from "1+ab" on.
#
# The moment matrix is real and symmetric there, so that the moment of a word and that of the word read backwards are one
# number. The constraints take two entries as equal only if their words are equal: A1 A2 B1 B2 and A2 A1 B2 B1 stay apart, as
# the entries above the diagonal are visited once. What comes out is an upper bound still, but not the level's. Level 1 has
# no such words and is right. A reader of a paper who checks a table of levels finds other numbers.
#
# I3322 in the notation of Collins and Gisin, largest quantum value (published: Pal and Vertesi, Phys. Rev. A 82, 022116):
#   level    toqito 1.1.8   words read both ways   published
#   1        0.37500        0.37500                0.37500
#   1+ab     0.36201        0.25147                0.25147
#   2        0.26065        0.25094                0.25094
# Seen with toqito 1.1.8, cvxpy 1.9.0, clarabel 0.11.1, scs 3.2.11, Python 3.11.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check toqito==1.1.8 cvxpy==1.9.0 clarabel==0.11.1 scs==3.2.11
cat > "$work/run.py" <<'PY'
import importlib.metadata
import itertools
import warnings

import cvxpy
import numpy as np
from toqito.state_opt.bell_inequality_max import bell_inequality_max

warnings.simplefilter("ignore")
I3322 = np.array([[0, -1, 0, 0], [-2, 1, 1, 1], [-1, 1, 1, -1], [0, 1, -1, 0]], float)


def short(word):
    """Alice's projectors first, then Bob's; one that stands twice in a row is one."""
    parts = [[letter for letter in word if letter[0] == party] for party in "AB"]
    return tuple(letter for part in parts for letter, _ in itertools.groupby(part))


def both_ways(word):
    return min(short(word), short(word[::-1]))


def level(number, mixed):
    letters = [(party, setting) for party in "AB" for setting in range(3)]
    words = {short(word) for length in range(number + 1) for word in itertools.product(letters, repeat=length)}
    words |= {(a, b) for a in letters[:3] for b in letters[3:]} if mixed else set()
    words = sorted(words)
    moments = {}
    place = [[moments.setdefault(both_ways(u[::-1] + v), len(moments)) for v in words] for u in words]
    values = cvxpy.Variable(len(moments))
    matrix = cvxpy.bmat([[values[n] for n in row] for row in place])
    names = [[()] + [((party, setting),) for setting in range(3)] for party in "AB"]
    total = sum(I3322[i, j] * values[moments[a + b]] for i, a in enumerate(names[0]) for j, b in enumerate(names[1]))
    problem = cvxpy.Problem(cvxpy.Maximize(total), [matrix >> 0, values[moments[()]] == 1])
    return problem.solve(solver=cvxpy.CLARABEL)


print("toqito", importlib.metadata.version("toqito"))
found = {}
for k, reference in [(1, (1, False)), ("1+ab", (1, True)), (2, (2, False))]:
    found[k] = bell_inequality_max(I3322, [2, 2, 3, 3], "cg", "quantum", k=k), level(*reference)
    print(f"{k!s:6} {found[k][0]:.5f} {found[k][1]:.5f}")
assert all(abs(a - b) < 2e-5 for a, b in zip(found[1], (0.375, 0.375)))
assert all(abs(a - b) < 2e-5 for a, b in zip(found["1+ab"], (0.36201, 0.25147)))
assert all(abs(a - b) < 2e-5 for a, b in zip(found[2], (0.26065, 0.25094)))
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
