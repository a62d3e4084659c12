#!/usr/bin/env bash
# flax 0.12.8: `to_bytes` and `from_bytes` bring big-endian arrays back as other numbers; .npz, pickle and safetensors do not.
#
# `flax.serialization` writes an array as its shape, its type's name and its bytes. NumPy's name of ">f4" is "float32", as that of "<f4" is, so the byte
# order is lost and the bytes are read as little-endian ones: 1.0 becomes 4.6e-41, the count 1 becomes 16777216. Shapes and types are right, no
# error, and both halves of a round trip are flax's own. Arrays of the other byte order are ordinary in NumPy, where no operation tells:
# netCDF 3 by scipy.io, FITS, IDX (MNIST), HDF5 from other machines, .npy files from such data. They come into a state as constants, means and
# standard deviations of the inputs, embeddings, data kept beside the weights; jax.numpy refuses them, so only what has stayed in NumPy is hit.
# With a target `from_bytes` does not compare either. The legacy `flax.training.checkpoints` is the same; Orbax
# (0.12.8, its StandardCheckpointer, not run here) is right. A NumPy scalar is right (scalars have
# no byte order), a 0-d array wrong. Remedy: jax.tree.map(lambda x: x.astype(x.dtype.newbyteorder("=")), state) first.
#
# Seen with flax 0.12.8, msgpack 1.2.4, numpy 2.4.0, a netCDF 3 file by scipy 1.17.1; 0, 1, 2, 3 come back as
#   >f4   0, 4.6e-41, 9.0e-44, 2.3e-41    >i4   0, 16777216, 33554432, 50331648    >f2   0, 3.6e-06, 3.8e-06, 3.9e-06
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 msgpack==1.2.4 \
    numpy==2.4.0 scipy==1.17.1 safetensors==0.8.0
cat > "$work/run.py" <<'PY'
import io
import pickle
import sys

import flax
import numpy as np
import safetensors.numpy
from flax.serialization import from_bytes, msgpack_restore, to_bytes
from scipy.io import netcdf_file

print("flax", flax.__version__)
COUNTS = np.arange(4)


def by_npz(state):
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return dict(np.load(file))


WAYS = {
    "flax": lambda state: msgpack_restore(to_bytes(state)),
    "flax, target": lambda state: from_bytes({name: np.zeros_like(x) for name, x in state.items()}, to_bytes(state)),
    "npz": by_npz,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    "safetensors": lambda state: safetensors.numpy.load(safetensors.numpy.save(state)),
}
for kind in ("f2", "f4", "f8", "i2", "i4", "i8", "u4"):
    for order in "<>":
        state = {"x": COUNTS.astype(order + kind)}
        back = {way: round_trip(state)["x"] for way, round_trip in WAYS.items()}
        print(order + kind, back["flax"].tolist())
        for way, x in back.items():
            assert x.dtype.newbyteorder("=") == np.dtype(kind) and x.shape == (4,)
            right = np.array_equal(x, COUNTS)
            assert right == (order == "<" or not way.startswith("flax")), f"{way} of {order}{kind}"
            if not right:
                assert np.array_equal(x.view(x.dtype.newbyteorder(">")), COUNTS), "wrong by more than the order of bytes"
whole = np.array(3, ">f4")
print("0-d", msgpack_restore(to_bytes({"x": whole}))["x"], "scalar", msgpack_restore(to_bytes({"x": whole[()]}))["x"])
assert msgpack_restore(to_bytes({"x": whole}))["x"] < 1e-40 and msgpack_restore(to_bytes({"x": whole[()]}))["x"] == 3

with netcdf_file(sys.argv[1], "w") as file:
    file.createDimension("unit", 4)
    file.createVariable("mean", "f4", ("unit",))[:] = COUNTS
with netcdf_file(sys.argv[1], mmap=False) as file:
    mean = file.variables["mean"][:].copy()
back = from_bytes({"mean": mean}, to_bytes({"mean": mean}))["mean"]
print("netCDF 3:", mean.dtype, mean, "from flax", back)
assert mean.dtype == np.dtype(">f4") and (mean == COUNTS).all() and (back < 1e-40).all()
native = mean.astype(mean.dtype.newbyteorder("="))
assert (from_bytes({"mean": native}, to_bytes({"mean": native}))["mean"] == COUNTS).all()
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" -W ignore "$work/run.py" "$work/means.nc"
echo "as recorded"
