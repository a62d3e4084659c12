#!/usr/bin/env bash
# optax 0.2.8: `contrib.prodigy` and `contrib.dadapt_adamw` make every parameter NaN where the learning rate starts at 0.
#
# Both estimate a step from a quotient whose denominator is a sum of learning rate times gradient. At the first step of a warm-up that begins with 0
# (`warmup_cosine_decay_schedule(0.0, 1.0, ...)`, `linear_schedule(0.0, ...)`, as optax writes them) numerator and denominator are 0, and the
# estimate, kept as a maximum, is NaN from then on: prodigy's first update is NaN, dadapt_adamw's second. It needs no schedule either: a first
# gradient that is 0 everywhere does the same (a batch without a label, a dead unit of a small network, one member of a vmapped ensemble), and so
# does one of 1e-30, whose product is below float32. A gradient of 0 later on is no trouble. The authors' own PyTorch code (prodigyopt 1.1.2,
# dadaptation 3.2) leaves the step out where the denominator is 0. adamw, dowg, cocob and schedule_free_adamw take both, and so does prodigy with safeguard_warmup=True for the schedule, not for the gradient.
# The remedy is a warm-up that begins above 0 (init_value=1e-3). `optax.apply_if_finite` is none: it looks at the gradients, which are finite.
#
# Seen with optax 0.2.8, jax 0.10.2, CPU; four steps from weights of 1 with gradients of 1, how far the first weight came:
#                                    warm-up from 0    warm-up from 0.001    rate 1, first gradient 0
#   prodigy                          NaN               -6e-07                NaN
#   prodigy, safeguard_warmup        -6e-07            -6e-07                NaN
#   dadapt_adamw                     NaN               -4e-07                NaN
#   adamw, a thousandth of the rate  -6e-04            -6e-04                -3e-03
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import optax

print("optax", optax.__version__, "jax", jax.__version__)
ones = jnp.ones((4, 3))
late, early = ones.at[2].set(0), ones.at[0].set(0)


def moved(optimizer, gradients):
    """How far the first weight went from 1."""

    def step(carried, gradient):
        weights, state = carried
        updates, state = optimizer.update(gradient, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    weights = jnp.ones(3)
    (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), gradients)
    return weights[0] - 1


def warmup(start):
    return optax.warmup_cosine_decay_schedule(start, 1.0, 10, 100)


optimizers = {
    "prodigy": lambda rate: optax.contrib.prodigy(rate),
    "prodigy, safeguard_warmup": lambda rate: optax.contrib.prodigy(rate, safeguard_warmup=True),
    "dadapt_adamw": lambda rate: optax.contrib.dadapt_adamw(rate),
    "adamw": lambda rate: optax.adamw((lambda count: 1e-3 * rate(count)) if callable(rate) else 1e-3 * rate),
}
found = {}
for name, made in optimizers.items():
    found[name] = [
        float(moved(made(warmup(0.0)), ones)),
        float(moved(made(warmup(1e-3)), ones)),
        float(moved(made(1.0), early)),
        float(moved(made(1.0), late)),
        float(moved(made(1.0), 1e-30 * ones)),
    ]
    print(f"{name:26}", *(f"{each:12.2e}" for each in found[name]))
finite = {name: [each == each for each in values] for name, values in found.items()}
assert finite["prodigy"] == [False, True, False, True, False], "prodigy stays finite"
assert finite["dadapt_adamw"] == [False, True, False, True, False], "dadapt_adamw stays finite"
assert finite["prodigy, safeguard_warmup"] == [True, True, False, True, False]
assert all(finite["adamw"])
for name in ("dowg", "cocob", "schedule_free_adamw"):
    assert moved(getattr(optax.contrib, name)(), early) < 0
members = jax.vmap(lambda gradients: moved(optax.contrib.prodigy(), gradients))(jnp.stack([ones, early]))
print("two members", members)
assert members[0] < 0 and jnp.isnan(members[1])
assert jnp.isnan(moved(optax.apply_if_finite(optax.contrib.prodigy(), 10), early)), "apply_if_finite is a guard"
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
