#!/usr/bin/env bash
# jax 0.10.2: `x.at[i].set(v)` behind `with_sharding_constraint` changes one element more in every other device's part; all indices are in range.
#
# A scatter with one index along the divided axis becomes, on each device, "the new value if i is mine, else what stood there", written by
# a dynamic_update_slice at i less the device's first row. For all but one device that is out of range, which is meant to clamp, in the read as
# in the write. Where the part comes out of a larger local array by a dynamic_slice (a replicated array that the constraint divides, a length that
# does not divide, a roll), XLA's simplifier puts both slices into one and loses the clamp of the second: the read takes
# x[i] itself from the whole array, the write still goes to the first or the last row of the part. So x[i] overwrites a row of each device, or 0
# does, where the read fell into padding. That the two slices merge so is reported for indices out of range (openxla 49121, jax 40849, 2026); here the
# user's index is in range, and the partitioner makes the other ones. Right are: outside of jit, one device, an array that lies divided already (and
# evenly), two indices or a slice, in_shardings and out_shardings in place of the constraint, and `jnp.where(jnp.arange(n) == i, v, x)`.
#
# Seen with jax 0.10.2, four CPU devices (0.11.2 is the same, 0.12.0.1 is right), x = 0 .. 11, a replicated array:
#   at[0].set(-1)   right -1 1 2 3 4 5 6 7 8 9 10 11       jit with the constraint -1 1 2 0 4 5 0 7 8 0 10 11
#   at[7].add(1)    right  0 1 2 3 4 5 6 8 8 9 10 11       jit with the constraint  0 1 7 3 4 7 6 8 8 7 10 11
#   10 rows from any array on one device, at[9].set(-1):   0 1 0 3 4 0 6 7 9 -1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.0
cat > "$work/run.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

DEVICES = 4
assert jax.device_count() == DEVICES
print("jax", jax.__version__)
mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
divided, whole = NamedSharding(mesh, PartitionSpec("d")), NamedSharding(mesh, PartitionSpec())


def constrained(change):
    return jax.jit(lambda x: change(jax.lax.with_sharding_constraint(x, divided)))


def wrong_rows(name, x, program, change):
    """The rows in which `program` gives something else than the same change without jit and devices."""
    given, right = np.asarray(program(x)), np.asarray(change(jnp.asarray(np.asarray(x))))
    rows = np.flatnonzero((given != right).reshape(len(right), -1).any(1)).tolist()
    print(f"{name:34}", rows, given.tolist() if given.ndim == 1 else "")
    return rows


x = jax.device_put(np.arange(12, dtype=np.float32), whole)
for i in (0, 4, 7, 11):
    change = {"set": lambda x: x.at[i].set(-1.0), "add": lambda x: x.at[i].add(1.0), "where": lambda x: jnp.where(jnp.arange(12) == i, -1.0, x)}
    # Devices before i's have their last row changed, those after it their first one.
    expected = [3 * d + (2 if d < i // 3 else 0) for d in range(DEVICES) if d != i // 3]
    for name in ("set", "add"):
        assert wrong_rows(f"{name} at {i}, constraint", x, constrained(change[name]), change[name]) == expected
    assert not wrong_rows(f"where at {i}, constraint", x, constrained(change["where"]), change["where"])
    for name, program in {
        "no jit": lambda x: change["set"](jax.device_put(x, divided)),
        "jit without": jax.jit(change["set"]),
        "out_shardings": jax.jit(change["set"], out_shardings=divided),
        "in_shardings": jax.jit(change["set"], in_shardings=divided, out_shardings=divided),
    }.items():
        assert not wrong_rows(f"set at {i}, {name}", np.asarray(x), program, change["set"])
    assert not wrong_rows(f"set at {i}, divided already", jax.device_put(x, divided), constrained(change["set"]), change["set"])
traced = jax.jit(lambda x, i: jax.lax.with_sharding_constraint(x, divided).at[i].set(-1.0))
assert len(wrong_rows("set at a traced 7", x, lambda x: traced(x, 7), lambda x: x.at[7].set(-1.0))) == 3
for two in (lambda x: x.at[jnp.array([1, 7])].set(-1.0), lambda x: x.at[4:6].set(-1.0)):
    assert not wrong_rows("two rows", x, constrained(two), two)
table = jax.device_put(np.arange(36, dtype=np.float32).reshape(12, 3), whole)
for name, change in {"row": lambda x: x.at[7].set(-1.0), "element": lambda x: x.at[7, 1].set(-1.0)}.items():
    assert wrong_rows(f"{name} of a table", table, constrained(change), change) == [2, 5, 9]
last = lambda x: x.at[9].set(-1.0)  # noqa: E731
assert wrong_rows("ten rows on one device", jnp.arange(10.0), constrained(last), last) == [2, 5, 8]
PY
JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=4 "$work/venv/bin/python" "$work/run.py"
echo "as recorded"
