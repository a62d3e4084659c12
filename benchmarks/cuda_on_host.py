"""The cuda executor's step by the system's C compiler: the kernel's text to the letter, on a CPU, for tests and rehearsals.

Functions are the C library's in place of the GPU's approximations. It is slow, and no rate of a kernel.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncsim import c_compiler
from ncsim.config.ensemble import EnsembleConfig
from ncsim.executors.cuda import program, source

FLAGS = ("-O1", "-ffp-contract=fast", "-march=native", "-shared", "-fPIC", "-Werror=implicit")
_folder = tempfile.TemporaryDirectory(prefix="ncsim-on-host-")


def launched(config: EnsembleConfig, context: int, state: jax.Array, table: jax.Array, steps: jax.Array) -> jax.Array:
    """As `program.launched`.

    Raises:
        RuntimeError: there is no C compiler, or it refuses the text.
    """
    function = _built(source.host_text(program.kernels(config)[context]))

    def run(*given: Any) -> np.ndarray:
        given = tuple(np.ascontiguousarray(array) for array in given)
        out = np.empty(state.shape, np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*given, out)]
        function(*pointers, ctypes.c_long(state.shape[1]))
        return out

    called: jax.Array = jax.pure_callback(
        run, jax.ShapeDtypeStruct(state.shape, jnp.float32), state, table, steps, vmap_method="sequential"
    )
    return called


@functools.lru_cache(maxsize=256)
def _built(text: str) -> Any:
    """The function of a text."""
    name = hashlib.sha256(text.encode()).hexdigest()
    library, made = Path(_folder.name) / f"{name}.so", Path(_folder.name) / f"{name}.c"
    made.write_text(text)
    found = c_compiler.compiler()
    if found is None:
        raise RuntimeError(f"no C compiler; looked for {', '.join(c_compiler.COMPILERS)}")
    done = subprocess.run([found, *FLAGS, str(made), "-o", str(library), "-lm"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the C compiler refuses the kernel's text: {done.stderr.strip().splitlines()[0]}")
    return ctypes.CDLL(str(library)).ncsim_host
