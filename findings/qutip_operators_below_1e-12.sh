#!/usr/bin/env bash
# QuTiP 5.3.1: in SI units every operator is Hermitian and every sum of sparse ones is 0; printing an operator changes its `dag()`.
#
# Two tolerances are absolute, whatever the size of the operator. Elements below `auto_tidyup_atol`, 1e-14, are dropped from sums of sparse
# operators (destroy, sigmax, tensor products: all the usual ones). And two elements that differ by less than `atol`, 1e-12, are equal to
# `isherm`: an operator whose elements are all smaller is Hermitian. Everything believes isherm, so that for a dense one, which is not tidied,
# eigenenergies() are those of another matrix, real ones, decay gone; expect() drops the imaginary part; dag() returns the operator as
# it is, yet only once isherm has been asked for, which print() does: the same line is right before a print and wrong behind it. Energies
# in joules (hbar times rad/s, 1e-25), dipoles in C m and small perturbations are all there. Not a word is said: a Jaynes-Cummings
# Hamiltonian in joules has norm 0 and time evolution stands still. The settings are documented, as a way to save memory; that they decide on results
# is not. Remedy: divide by hbar first, or `with qutip.CoreOptions(auto_tidyup=False, atol=1e-40)` around all of it.
#
# Seen with qutip 5.3.1, numpy 2.4.1, scipy 1.17.1; energies divided by their unit again, in 1e9 rad/s:
#                                           in rad/ns                          in joules          in joules, both settings changed
#   two coupled modes with losses           6.010 - 0.159i, 6.556 - 0.159i     5.969, 6.597       6.010 - 0.159i, 6.556 - 0.159i
#   Jaynes-Cummings, three lowest           0, 6.183, 6.383                    0, 0, 0            0, 6.183, 6.383
#   <1| destroy(3).dag() |0>                1                                  1, printed: 0      1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check qutip==5.3.1 numpy==2.4.1 scipy==1.17.1
cat > "$work/run.py" <<'PY'
import numpy as np
import qutip
from qutip import Qobj, basis, destroy, qeye, sesolve, sigmam, sigmaz, tensor
from scipy.constants import hbar

print("qutip", qutip.__version__)
OMEGA, COUPLING = 2 * np.pi * 1e9, 1e8
LOSSY = np.array([[OMEGA - 1j * np.pi * 1e8, np.pi * 1e8], [np.pi * 1e8, OMEGA - 1j * np.pi * 1e6]])
STATE = (basis(2, 0) + basis(2, 1)).unit()


def sides(unit):
    """What one asks of operators whose rates are in rad/s times `unit`, divided by `unit` again."""
    lossy = Qobj(unit * LOSSY)
    energies = np.sort_complex(lossy.eigenenergies()) / unit
    mode, atom = tensor(destroy(3), qeye(2)), tensor(qeye(3), sigmam())
    coupled = unit * OMEGA * (mode.dag() * mode + atom.dag() * atom) + unit * COUPLING * (mode * atom.dag() + mode.dag() * atom)
    lower = unit * destroy(3)
    unprinted = lower.dag().full()[1, 0].real / unit
    repr(lower)
    printed = lower.dag().full()[1, 0].real / unit
    jump = Qobj(unit * np.array([[0, 1j], [0, 0]]))
    found = dict(
        hermitian=lossy.isherm,
        energies=energies,
        ladder=coupled.eigenenergies()[:3] / unit,
        norm=coupled.norm() / unit,
        dag=(unprinted, printed),
        jump=complex(qutip.expect(jump, STATE)) / unit,
    )
    print(unit, found)
    return found


right = np.sort_complex(np.linalg.eigvals(LOSSY))
scale = 1e9
for unit in (1.0, 1e-9):
    there = sides(unit)
    assert not there["hermitian"] and np.allclose(there["energies"], right, rtol=1e-12)
    assert np.allclose(there["ladder"], [0, OMEGA - COUPLING, OMEGA + COUPLING], rtol=1e-12, atol=1)
    assert np.allclose(there["dag"], 1) and abs(there["jump"] - 0.5j) < 1e-12
there = sides(hbar)
assert there["hermitian"], "isherm goes by the size of the operator now"
assert np.isrealobj(there["energies"]) or not there["energies"].imag.any()
assert np.abs(there["energies"].real - right.real).max() > 0.03 * scale
assert there["norm"] == 0 and not there["ladder"].any()
assert abs(there["dag"][0] - 1) < 1e-12 and there["dag"][1] == 0, "a print changes nothing any more"
assert there["jump"] == 0
with qutip.CoreOptions(auto_tidyup=False, atol=1e-40):
    there = sides(hbar)
    assert not there["hermitian"] and np.allclose(there["energies"], right, rtol=1e-12)
    assert np.allclose(there["ladder"], [0, OMEGA - COUPLING, OMEGA + COUPLING], rtol=1e-12, atol=1)
    assert np.allclose(there["dag"], 1) and abs(there["jump"] - 0.5j) < 1e-12
# A spin that should turn over; the sum is in joules, and divided by hbar afterwards.
turn = 0.5 * hbar * OMEGA * destroy(2)
turned = {}
for name, joules in {"by numpy": turn.full() + turn.full().conj().T, "by qutip": (turn + turn.dag()).full()}.items():
    turned[name] = float(sesolve(Qobj(joules / hbar), basis(2, 0), [0, np.pi / OMEGA], e_ops=[sigmaz()]).expect[0][-1])
print("spin after half a turn", turned)
assert abs(turned["by numpy"] + 1) < 1e-4 and turned["by qutip"] == 1
PY
"$work/venv/bin/python" "$work/run.py"
echo "as recorded"
