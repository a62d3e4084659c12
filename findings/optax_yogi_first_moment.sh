#!/usr/bin/env bash
# optax 0.2.8: `yogi` moves a weight whose gradient is always 0.
#
# Both moments start at `initial_accumulator_value`, 1e-6, where Adam's start at 0. For the second moment that tames the first
# quotients. The first moment is a mean of gradients: what it starts with is no gradient that was ever seen, and points the same
# way for every weight. A weight without any gradient (a pruned connection, a masked parameter, an embedding row that is not
# used) therefore drifts. Adam, Adabelief and AMSGrad, given the same gradients, leave it where it is. A mask that multiplies
# gradients is no mask under yogi: multiply the updates.
#
# Seen with optax 0.2.8, jax 0.10.2, CPU, learning rate 0.01, gradient 0 from the first of 20 steps on:
#   adam, adabelief, amsgrad   0.0
#   yogi                       -1.4053894119570032e-05
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
cat > "$work/run.py" <<'PY'
import jax.numpy as jnp
import optax

print("optax", optax.__version__)
moved = {}
for name in ("adam", "adabelief", "amsgrad", "yogi"):
    optimizer = getattr(optax, name)(0.01)
    weight = jnp.zeros(())
    state = optimizer.init(weight)
    for _ in range(20):
        updates, state = optimizer.update(jnp.zeros(()), state, weight)
        weight = optax.apply_updates(weight, updates)
    moved[name] = float(weight)
    print(f"{name:10} {moved[name]}")
assert moved["adam"] == moved["adabelief"] == moved["amsgrad"] == 0.0
assert -2e-5 < moved["yogi"] < -1e-5, "yogi no longer moves it"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
