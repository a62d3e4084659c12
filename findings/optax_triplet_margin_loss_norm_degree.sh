#!/usr/bin/env bash
# optax 0.2.8: `triplet_margin_loss(norm_degree=1)` lets differences of opposite sign cancel, and norm_degree=3 is NaN.
#
# A distance of degree p is the sum of |a - b|^p to the power 1/p. The absolute value is left out. An even degree does not need it, so the
# default, 2, is right (and so are tests with it). With 1, the other common choice, the "distance" is the sum of signed
# differences: far points can be at distance 0, or at a negative one, and all that is learned is the sum of an embedding's coordinates. The
# number looks like a loss and falls. With 3 a sum below 0 has no real root, with 1.5 a difference below 0 has no power: NaN, for more than half
# of all triplets. The documentation has "the norm degree for distance calculation". The function of that name in PyTorch takes absolute values.
# In the same place, eps is added under the root: with degree 2 equal points are at distance 0.001.
# Right values by the definition in float64.
#
# Seen with optax 0.2.8, jax 0.10.2, CPU; anchor (0, 0), positive (3, -3), negative (1, 0), margin 1:
#   norm_degree   1      2         3        4
#   optax         2.0    4.2426    nan      3.5676
#   right         6.0    4.2426    3.7798   3.5676
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax

print("optax", optax.__version__)


def distance(a, b, degree):
    return (np.abs(np.subtract(a, b, dtype=float)) ** degree).sum(-1) ** (1 / degree)


def right(anchor, positive, negative, degree):
    return np.maximum(distance(anchor, positive, degree) - distance(anchor, negative, degree) + 1, 0)


one = [[[0.0, 0.0]], [[3.0, -3.0]], [[1.0, 0.0]]]
found = {}
for degree in (1, 2, 3, 4):
    found[degree] = float(optax.losses.triplet_margin_loss(*map(jnp.array, one), norm_degree=degree)[0])
    print("degree", degree, "optax", found[degree], "right", right(*one, degree)[0])
assert abs(found[1] - 2) < 1e-5 and right(*one, 1)[0] == 6 and np.isnan(found[3]), "absolute values are taken now"
assert all(abs(found[degree] - right(*one, degree)[0]) < 1e-3 for degree in (2, 4))
draws = np.random.default_rng(0).standard_normal((3, 10_000, 8)).astype(np.float32)
for degree in (1, 2, 3, 1.5):
    loss = np.asarray(optax.losses.triplet_margin_loss(*map(jnp.asarray, draws), norm_degree=degree))
    wanted = right(*draws, degree)
    print("degree", degree, "share of NaN", np.isnan(loss).mean(), "mean", loss.mean(), "right", wanted.mean())
    if degree == 2:
        assert np.allclose(loss, wanted, atol=1e-3)
    elif degree == 1:
        assert loss.mean() > 1.2 * wanted.mean() and abs(np.corrcoef(loss, wanted)[0, 1]) < 0.1
    else:
        assert np.isnan(loss).mean() > 0.5
gradient = jax.grad(lambda p: optax.losses.triplet_margin_loss(jnp.zeros(2), p, jnp.ones(2), norm_degree=1, margin=9.0))
print("gradient at the positive (3, -3):", gradient(jnp.array([3.0, -3.0])))
assert (np.asarray(gradient(jnp.array([3.0, -3.0]))) == -1).all()  # right is (1, -1): both towards the anchor, here one goes away
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
