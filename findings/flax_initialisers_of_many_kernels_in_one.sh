#!/usr/bin/env bash
# flax 0.12.8: a hundred kernels in one `DenseGeneral(batch_dims=...)` or `Einsum` start ten times too small; under `nn.vmap` they do not.
#
# The default initialiser draws with variance 1 / fan_in, so that outputs keep the spread of inputs. `DenseGeneral` flattens the kernel to a
# matrix first and counts its batch dimensions among the inputs; `Einsum` hands over the shape of the kernel as it is, and the initialiser takes
# all axes but the last two for those of a convolution's window, whatever the equation says. So the fan is that of all members
# together, and every member's weights are smaller by the square root of their number: 1,000 networks side by side begin with 1/32 of
# the usual spread. Nothing fails, shapes are the same, and training merely starts near the saddle at 0. The two ways that are documented to
# hold a stack of layers, `nn.vmap(nn.Dense)` and a batch dimension, are other models. `nnx.LinearGeneral(batch_axis=...)` and `nnx.Einsum`
# do the same; `ConvLocal` counts its positions in. Attention heads by `Einsum` ('bi,iho->bho') are affected, by `DenseGeneral((heads, size))` they are not.
# The documentation gives no fan. Remedy: of `Einsum`, kernel_init=variance_scaling(1, "fan_in", "truncated_normal", batch_axis=0). Of
# `DenseGeneral` the same is wrong again (8 in place of 1 here: it sees the flat matrix); there the scale must be the number of members.
#
# Seen with flax 0.12.8, jax 0.10.2, CPU; spread of 16 outputs of 64 inputs that are normal with spread 1, right is 1:
#   nn.vmap(nn.Dense), nnx.vmap of Linear   1.00             members     1       4       100     1,000
#   DenseGeneral(batch_dims=0)              members ^ -1/2               1.00    0.50    0.10    0.03
#   Einsum, LinearGeneral, nnx.Einsum       as DenseGeneral
#   Einsum with 8 heads                     0.36             DenseGeneral((8, 16)) 1.02
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$work/run.py" <<'PY'
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import variance_scaling

print("flax", flax.__version__)


def spread(layer, x):
    variables = layer.init(jax.random.key(1), x)
    return float(layer.apply(variables, x).std())


def nnx_spread(build, members, x):
    one = nnx.split_rngs(splits=members)(nnx.vmap(lambda rngs: nnx.Linear(64, 16, use_bias=False, rngs=rngs)))
    layer = one(nnx.Rngs(1)) if build == "vmap" else build(nnx.Rngs(1))
    return float((nnx.vmap(lambda m, x: m(x))(layer, x) if build == "vmap" else layer(x)).std())


each = nn.vmap(nn.Dense, in_axes=0, out_axes=0, variable_axes={"params": 0}, split_rngs={"params": True})
for members in (1, 4, 100, 1000):
    x = jax.random.normal(jax.random.key(0), (members, 40, 64))
    shape = (members, 64, 16)
    batch = variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0)
    right = {
        "vmap Dense": spread(each(16, use_bias=False), x),
        "vmap nnx.Linear": nnx_spread("vmap", members, x),
        "Einsum, batch_axis": spread(nn.Einsum(shape, "mbi,mio->mbo", use_bias=False, kernel_init=batch), x),
        "DenseGeneral, scaled": spread(
            nn.DenseGeneral(
                16, batch_dims=0, use_bias=False, kernel_init=variance_scaling(members, "fan_in", "truncated_normal")
            ),
            x,
        ),
    }
    small = {
        "DenseGeneral": spread(nn.DenseGeneral(16, batch_dims=0, use_bias=False), x),
        "Einsum": spread(nn.Einsum(shape, "mbi,mio->mbo", use_bias=False), x),
        "nnx.LinearGeneral": nnx_spread(
            lambda rngs: nnx.LinearGeneral(64, 16, batch_axis={0: members}, use_bias=False, rngs=rngs), members, x
        ),
        "nnx.Einsum": nnx_spread(lambda rngs: nnx.Einsum("mbi,mio->mbo", shape, None, rngs=rngs), members, x),
    }
    print(members, "members:", {name: round(value, 3) for name, value in (right | small).items()})
    assert all(abs(value - 1) < 0.1 for value in right.values())
    assert all(abs(value * members**0.5 - 1) < 0.1 for value in small.values()), "the fan is that of a member now"
again = spread(nn.DenseGeneral(16, batch_dims=0, use_bias=False, kernel_init=batch), x)
print("DenseGeneral with batch_axis=0:", round(again, 2))
assert 7 < again < 9
x = jax.random.normal(jax.random.key(0), (500, 64))
heads = spread(nn.Einsum((64, 8, 16), "bi,iho->bho", use_bias=False), x), spread(nn.DenseGeneral((8, 16), use_bias=False), x)
print("eight heads, Einsum and DenseGeneral:", heads)
assert abs(heads[0] - 8**-0.5) < 0.04 and abs(heads[1] - 1) < 0.1
x = jax.random.normal(jax.random.key(0), (20, 50, 64))
local, conv = (spread(layer(16, (3,), padding="VALID", use_bias=False), x) for layer in (nn.ConvLocal, nn.Conv))
print("ConvLocal and Conv, 48 positions:", local, conv)
assert abs(local * 48**0.5 - 1) < 0.1 and abs(conv - 1) < 0.1
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
