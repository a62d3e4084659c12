#!/usr/bin/env bash
# jax 0.10.2: of bfloat16 logits, `jax.random.categorical` draws from the first few hundred tokens only, and never a rare one.
#
# The noise takes the type of the logits, and a uniform number of bfloat16 has 128 values: Gumbel noise then has 128 as well, between -4.5 and
# 4.8. Of 30,000 equal logits many have the largest noise, and the first of these is taken: the drawn index is geometric with mean 127, whatever
# the size of the vocabulary, where it should be uniform. What is ten nats below the top is never drawn, however many such tokens there are:
# one token with probability 1/2 against 30,000 that share the other half comes every time. mode="high" is no cure (it errs the other way). float16, with 1,024 values,
# does the same later. `jax.random.bernoulli` takes the type of p in the same way: every p below 1/128 happens once in 128 times (float16: 1,024), and
# `choice` with p in bfloat16 reaches 128 of 1,000 equal items. The documentation gives the limit for float32, 1e-7; a report of draws that
# differ with the type (jax issue 30879) is closed. No warning. The remedy is one cast: logits.astype(float32) before the draw.
#
# Seen with jax 0.10.2, CPU, key(0):                            float32    float16    bfloat16    right
#   30,000 equal logits, 500 draws: mean index                  15,340     932        135         14,999.5
#                                   largest index               29,890     5,887      1,066       29,999
#   one of 1/2, 30,000 of 1/60,000: share of the one, 400       0.47       1.00       1.00        0.50
#   the same with mode="high"                                   0.52       0.94       0.14        0.50
#   bernoulli(0.001): frequency in a million                    0.0010     0.0020     0.0077      0.0010
#   choice of 1,000 equal p, 200,000 draws: different items     1,000      993        128         1,000
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
key = jax.random.key(0)
keys = jax.random.split(key, 400)
skewed = np.log(np.concatenate([[0.5], np.full(30_000, 0.5 / 30_000)]))


def tokens(logits, mode):
    return np.asarray(jax.lax.map(lambda key: jax.random.categorical(key, logits, mode=mode), keys, batch_size=50))


found = {}
for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
    equal = np.asarray(jax.random.categorical(key, jnp.zeros(30_000, dtype), shape=(500,)))
    logits = jnp.asarray(skewed, dtype)
    one = (tokens(logits, "low") == 0).mean(), (tokens(logits, "high") == 0).mean()
    happened = float(jnp.mean(jax.random.bernoulli(key, dtype(0.001), (1_000_000,)), dtype=jnp.float32))
    items = len(np.unique(jax.random.choice(key, 1_000, (200_000,), p=jnp.full(1_000, 1e-3, dtype))))
    found[jnp.dtype(dtype).name] = equal.mean(), one[0], one[1], happened, items
    print(
        f"{jnp.dtype(dtype).name:9} mean index {equal.mean():8.1f} largest {equal.max():6d}  share of the one {one[0]:.3f},"
        f" with mode high {one[1]:.3f}  bernoulli(0.001) {happened:.5f}  different items {items}"
    )
# The rounding of the logits themselves is no cause: in float32 they draw as they should
rounded = np.asarray(jnp.asarray(skewed, jnp.bfloat16).astype(jnp.float32), np.float64)
share = 1 / (1 + 30_000 * np.exp(rounded[1] - rounded[0]))
cast = (tokens(jnp.asarray(rounded, jnp.float32), "low") == 0).mean()
print(f"bfloat16 logits, cast to float32 before the draw: {cast:.3f}, right {share:.3f}")
assert abs(cast - share) < 0.1
single, half, brain = found["float32"], found["float16"], found["bfloat16"]
assert abs(single[0] - 14_999.5) < 1_600 and abs(single[1] - 0.5) < 0.1 and abs(single[2] - 0.5) < 0.1
assert abs(single[3] - 0.001) < 2e-4 and single[4] == 1_000
assert brain[0] < 200, "reaches the whole vocabulary"
assert brain[1] == 1, "rare tokens are drawn"
assert brain[2] < 0.3, "mode='high' is right"
assert 0.006 < brain[3] < 0.009, "a rare event is as rare as it should be"
assert brain[4] == 128, "reaches all items"
assert half[0] < 2_000 and half[1] == 1
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
