#!/usr/bin/env bash
# optax 0.2.8: `adam` of bfloat16 parameters has b2 = 1: its second moment never falls, and a weight once steep stays slow.
#
# The moments have the parameters' type, and b2, a Python number, takes the type of what it is multiplied by. The default 0.999 is
# 1 in bfloat16 (its neighbours are 0.99609 and 1), and so is every b2 above 0.99805. So the second moment is not a running mean but
# a sum, of which 1 - b2, computed apart, is 0.001: it goes up until an addition is below its rounding, at half of the squared
# gradient, and never comes down. The bias correction takes b2 as it was given. Gradients that fall by a hundred, as from a warm-up to
# a fit, then give steps of a sixtieth of those of float32 for ever; no number is NaN, and nothing warns. adamw, nadam, radam and lamb share
# this moment. mu_dtype is for the first moment only. The remedies: parameters in float32, cast to bfloat16 for the products; or b2 = 0.99609375
# at most. Gradients alone in bfloat16 are no trouble: moments that began as float32 stay so.
#
# Seen with optax 0.2.8, jax 0.10.2, CPU, learning rate 0.1, 1,000 gradients of 1, then 10,000 of 0.01; the last step and the
# second moment (the recurrence in Python's floats gives 0.0882 and 0.000129):
#   float32                      0.0882    0.000129
#   bfloat16                     0.0014    0.5
#   bfloat16, b2 = 0.99609375    0.0894    0.000122
#   float32, gradients bfloat16  0.0883    0.000129
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import optax

print("optax", optax.__version__, "jax", jax.__version__, "0.999 in bfloat16:", jnp.bfloat16(0.999))
gradients = jnp.concatenate([jnp.full(1000, 1.0), jnp.full(10_000, 0.01)])


def last(parameters, given, **options):
    """Length of the last step, and the second moment behind it."""
    optimizer = optax.adam(0.1, **options)

    def step(state, gradient):
        updates, state = optimizer.update(gradient.astype(given), state)
        return state, updates

    state, updates = jax.lax.scan(step, optimizer.init(jnp.zeros((), parameters)), gradients)
    return abs(float(updates[-1])), float(state[0].nu)


found = {
    "float32": last(jnp.float32, jnp.float32),
    "bfloat16": last(jnp.bfloat16, jnp.bfloat16),
    "bfloat16, b2 = 0.99609375": last(jnp.bfloat16, jnp.bfloat16, b2=0.99609375),
    "float32, gradients bfloat16": last(jnp.float32, jnp.bfloat16),
}
for name, (length, moment) in found.items():
    print(f"{name:28} step {length:.4f} second moment {moment:.6f}")

# The recurrence in Python's floats
moment = 0.0
for square in [1.0] * 1000 + [1e-4] * 10_000:
    moment = 0.999 * moment + 0.001 * square
right = 0.1 * 0.01 / (moment / (1 - 0.999**11_000)) ** 0.5
print("right", right, moment)
assert float(jnp.bfloat16(0.999)) == 1.0
for name in ("float32", "float32, gradients bfloat16"):
    assert abs(found[name][0] / right - 1) < 0.01
    assert abs(found[name][1] / moment - 1) < 0.01
assert found["bfloat16"][0] < right / 50, "bfloat16 recovers"
assert found["bfloat16"][1] == 0.5, "the second moment falls"
assert abs(found["bfloat16, b2 = 0.99609375"][0] / right - 1) < 0.05
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
