#!/usr/bin/env bash
# jax 0.10.2, scipy 1.17.1 from PyPI: `jnp.roots` says that (x - 10)(x - 20)...(x - 80) is 0 at 2.7, 5.5, ..., 21.8; `eig` of float32 is off by any factor.
#
# LAPACK's geev brings a matrix whose largest element is above 1.1e12 or below 9.1e-13 (float32; 1.5e138 and 6.7e-139 with float64) into
# that range, and afterwards brings the eigenvalues back. In the OpenBLAS of SciPy's wheels the second step is missing: what comes out are the
# eigenvalues of the matrix divided by max / 1.1e12 or by max / 9.1e-13. No warning, and vectors are right, so that A v is not w v. JAX on a
# CPU takes the routine from whatever SciPy is installed, for `jnp.linalg.eigvals`, `eig`, and `jnp.roots`, whose companion matrix holds the
# coefficients: six roots of some hundreds are enough. Small ones are met as well: a Hessian or a covariance of gradients of 1e-7 has elements of
# 1e-14. The same jax with SciPy 1.15.3 (OpenBLAS 0.3.28) is right; 1.16.3 (0.3.29) and 1.17.1 (0.3.30) are not. NumPy is right: it
# turns float32 into float64, and numpy 2.4.6 has OpenBLAS 0.3.31, in which the step is back (with numpy 2.3.5 a float64 matrix of 1e150 is wrong).
# `eigvalsh`, `eigh`, `svd`, `schur` and SciPy's generalised `eigvals(a, identity)` are right. Remedy: divide by the largest element first and multiply afterwards, or use NumPy.
#
# Seen with jax 0.10.2, numpy 2.4.6, Linux x86_64, float32; eigenvalues of s [[2, 1], [1, 3]] over s, right are 1.382 and 3.618:
#   s          scipy 1.17.1, scipy.linalg.eigvals and jnp    scipy 1.15.3, both
#   1          1.382     3.618                               1.382     3.618
#   1e13       0.0506    0.1326                              1.382     3.618
#   1e-14      41.90     109.7                               1.382     3.618
#   jnp.roots of roots 100, 200, ..., 600                    0.15 to 0.92 with scipy 1.17.1, 100 to 600 with 1.15.3
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
cat > "$work/run.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.linalg

right = sys.argv[1] == "right"
blas = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
print("jax", jax.__version__, "scipy", scipy.__version__, "its", blas["name"], blas["version"])
exact = np.array([(5 - 5**0.5) / 2, (5 + 5**0.5) / 2])
for s in (1.0, 1e10, 1e13, 1e20, 1e-10, 1e-14, 1e-20):
    a = np.float32(s) * np.array([[2, 1], [1, 3]], np.float32)
    values, vectors = scipy.linalg.eig(a)
    found = {
        "scipy eigvals": scipy.linalg.eigvals(a),
        "scipy eig": values,
        "jnp eigvals": jnp.linalg.eigvals(a),
        "jnp eig": jnp.linalg.eig(a)[0],
    }
    found = {name: np.sort(np.asarray(w).real.astype(float)) / s for name, w in found.items()}
    same = [bool(np.allclose(w, exact, rtol=1e-5)) for w in found.values()]
    print(f"s = {s:g}:", {name: w.round(4).tolist() for name, w in found.items()})
    assert same == [right or 1e-12 < s < 3e11] * 4
    assert np.allclose((a @ vectors) / (a @ vectors)[1], vectors / vectors[1], rtol=1e-5)  # the vectors are right
    for w in (np.linalg.eigvals(a), jnp.linalg.eigvalsh(a), scipy.linalg.eigvalsh(a)):
        assert np.allclose(np.sort(np.asarray(w, float)) / s, exact, rtol=1e-5)
large = scipy.linalg.eigvals(1e150 * np.array([[2.0, 1], [1, 3]])).real / 1e150
print("float64, s = 1e150:", large)
assert np.allclose(np.sort(large), exact) == right
for roots in (np.arange(100.0, 700, 100), np.arange(10.0, 90, 10)):
    polynomial = np.poly(roots).astype(np.float32)
    by_jax = np.sort(np.asarray(jnp.roots(polynomial, strip_zeros=False)).real)
    print("jnp.roots", by_jax.round(3).tolist())
    assert np.allclose(np.sort(np.roots(polynomial)), roots, rtol=1e-3)
    assert np.allclose(by_jax, roots, rtol=5e-3) == right
    if not right:
        assert (by_jax < roots / 3).all()
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py" wrong
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps scipy==1.15.3
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py" right
echo "as recorded"
