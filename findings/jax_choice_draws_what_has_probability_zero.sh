#!/usr/bin/env bash
# jax 0.10.2 on a CPU: `jnp.cumsum` of numbers that are not negative goes down, and up over zeros; `jax.random.choice` draws what has p = 0.
#
# A running sum in which each term is added to the last one never falls, however it is rounded, and stays where it is over a zero. XLA sums
# in blocks instead, and adds the sum of all earlier blocks to each: up to 256 numbers nothing is seen of that, from some 300 on the result is
# no longer in order at the seams of blocks. The error itself is a rounding and no larger than NumPy's. What breaks is what relies on the order: a
# search by bisection, "the first that exceeds", and an increment of 0 for an item that weighs nothing. `jax.random.choice` with p is such
# a search. Where p has zeros (masked items, settings that were never measured, a resampling of particles of which some have died), one
# of about a million draws is of an item that cannot be drawn; NumPy's float32 running sum and its `Generator.choice` have none. `lax.cummax` puts the sum in
# order, not the zeros right. `jax.random.categorical(key, jnp.log(p))` draws no such item, nor does `choice` without replacement as long as others
# are left. float64 makes it rare, not absent.
#
# Seen with jax 0.10.2, CPU, float32 (`choice` has the same lines in 0.12.0.1), seeds 0 and 1, 10,000 weights of which half are 0, 10 million draws each:
#   steps of the running sum that fall             35, 38      NumPy's 0
#   steps over a weight of 0 that rise             35, 46      NumPy's 0
#   draws of an item whose p is 0                  16, 12
#   256 weights, 20 seeds                          all in order
# (The three counts depend on how the compiler blocks a sum; that they are not 0 is what is checked.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__)


def weights(seed, length):
    """Probabilities in float32, about half of them exactly 0."""
    generator = np.random.default_rng(seed)
    p = (generator.random(length) * (generator.random(length) < 0.5)).astype(np.float32)
    return p / p.sum()


def out_of_order(running, p):
    """How many steps fall, and how many rise over a weight of 0."""
    steps = np.diff(np.asarray(running))
    return int((steps < 0).sum()), int(((steps > 0) & (p[1:] == 0)).sum())


for seed in range(2):
    p = weights(seed, 10_000)
    assert (p >= 0).all() and p.dtype == np.float32
    falls, rises = out_of_order(jnp.cumsum(jnp.asarray(p)), p)
    exact = np.cumsum(p.astype(np.float64))
    largest = np.abs(np.asarray(jnp.cumsum(jnp.asarray(p))) - exact).max()
    drawn = np.asarray(jax.random.choice(jax.random.key(seed), len(p), (10_000_000,), p=jnp.asarray(p)))
    impossible = int((p[drawn] == 0).sum())
    print(f"seed {seed}: {falls} fall, {rises} rise over 0, {impossible} draws with p = 0, largest error of the sum {largest:.1e}")
    assert falls > 0, "never falls"
    assert rises > 0, "stays where nothing is added"
    assert impossible > 0, "choice draws only what is possible"
    assert largest < 1e-6
    assert out_of_order(np.cumsum(p), p) == (0, 0)
    frequent = np.bincount(np.random.default_rng(seed).choice(len(p), 1_000_000, p=p / p.sum(dtype=np.float64)), minlength=len(p))
    assert frequent[p == 0].sum() == 0
    some = np.asarray(jax.random.categorical(jax.random.key(seed), jnp.log(jnp.asarray(p)), shape=(1_000,)))
    assert (p[some] > 0).all()
for seed in range(20):
    p = weights(seed, 256)
    assert out_of_order(jnp.cumsum(jnp.asarray(p)), p) == (0, 0), "short sums are out of order as well"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
