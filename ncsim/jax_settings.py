"""JAX's settings while ncsim's own programs run: the ones that they are written for, whatever the user has set.

A member depends on its config, the root seed and its id alone. JAX reads dozens of settings from the environment: some
change random bits or arithmetic, others make an error of what is none here. Those that have a context of their own are
set for the duration of a call, in its thread alone. What has none stands in config.json where it is not as usual
(`ncsim.executors.devices.arithmetic_settings`) and is compared when a run goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

#: JAX's contexts by name, and what our programs are written for. `jax_random_seed_offset` has no context: root keys are
#: made from their data, where it has no part.
SETTINGS: dict[str, Any] = {
    # Random numbers and arithmetic.
    "threefry_partitionable": True,
    "default_prng_impl": "threefry2x32",
    "enable_x64": False,
    "default_matmul_precision": None,
    "allow_f16_reductions": True,
    "softmax_custom_jvp": False,
    # How and where programs run.
    "default_device": None,
    "disable_jit": False,
    "no_tracing": False,
    "no_execution": False,
    "remove_size_one_mesh_axis_from_type": False,
    "auto_pcast": True,
    # Errors of NaN, where a network may diverge and is counted; of shapes and copies that are meant; of Python's garbage.
    "debug_nans": False,
    "debug_infs": False,
    "numpy_rank_promotion": "allow",
    "numpy_dtype_promotion": "standard",
    "transfer_guard_host_to_device": "allow",
    "transfer_guard_device_to_device": "allow",
    "transfer_guard_device_to_host": "allow",
    "array_garbage_collection_guard": "allow",
    "check_tracer_leaks": False,
    # It takes the gradient of a scan that draws a dropout mask for a second draw.
    "debug_key_reuse": False,
}


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """JAX as ncsim's programs want it, until the context ends: `SETTINGS`. A mesh that the user has set is set aside as well."""
    import jax
    from jax.sharding import Mesh, get_abstract_mesh

    with contextlib.ExitStack() as stack:
        for name, value in SETTINGS.items():
            # Few are ever set, and to enter all costs as much as a small program.
            if getattr(jax.config, f"jax_{name}") not in (value, None if value == "allow" else value):
                stack.enter_context(getattr(jax, name)(value))
        if not get_abstract_mesh().empty:
            with contextlib.suppress(ValueError):  # within a user's jit, which no mesh can be set in
                stack.enter_context(jax.set_mesh(Mesh(np.empty((), object), ())))
        yield
