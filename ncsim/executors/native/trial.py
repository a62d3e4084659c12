"""Whether generated C gives the bits that XLA gives. That rests on the processor and on XLA's version, so it is tried, once per
machine and kind of network, on thousands of networks.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncsim import c_compiler
from ncsim.executors.native.c_exact import START, functions
from ncsim.executors.native.c_template import HEADER
from ncsim.executors.xla import BlockProgram

#: Blocks of members, from these ids on, of these seeds, after so many steps at a learning rate, the last of which makes them
#: diverge.
BLOCKS, TRIED = 8, ((0, 0, 0, 0.01), (7, 2**64 - 1, 2, 0.01), (2**32 - 4096, 12345, 150, 0.1), (0, 1, 4, 1e30))
#: And where what is recorded along training is tried, of networks that have nothing left to learn.
TRIED_ALONG = (*TRIED, (3, 2, 2_000, 0.1))
NUMBERS = 2**21
_ON_ARRAYS = "".join(
    f"""
void ncsim_{name}(float *x, int64_t count)
{{
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    for (int64_t n = 0; n < count; n += LANES) store(x + n, xla_{name}(load(x + n)));
    _mm_setcsr(control);
}}
"""
    for name in ("exp", "log1p")
)


def has_bits_of_xla(
    mesh: Mesh, text: str, made: BlockProgram, by_xla: Callable[[], BlockProgram], points: int | None = None
) -> bool:
    """Whether a program gives what XLA's gives here. Tried once, and remembered beside the code.

    Args:
        mesh: of the devices of both.
        text: the C file that the program calls.
        made: the program.
        by_xla: makes the other program, of blocks of the same size.
        points: how many steps both record; None records none.
    """
    subject = f"bits-{metadata.version('jaxlib')}"
    known = c_compiler.verdict(text, subject)
    if known is None:
        theirs = by_xla()
        tried = TRIED if points is None else TRIED_ALONG
        same = functions_have_bits_of_xla() and all(_alike(mesh, made, theirs, points, *each) for each in tried)
        known = c_compiler.remember(text, same, subject)
    return known


@functools.lru_cache(maxsize=1)
def functions_have_bits_of_xla() -> bool:
    """Whether `exp` and `log1p` do, on some millions of numbers: of networks, whose numbers are few, one in a million would not show."""
    rng = np.random.default_rng(0)
    library = c_compiler.loaded(START + HEADER + functions() + _ON_ARRAYS)
    for name, function, low, high in (("exp", jnp.exp, -100, 88), ("exp", jnp.exp, -9, 1), ("log1p", jnp.log1p, 0, 1)):
        numbers = rng.uniform(low, high, NUMBERS).astype(np.float32)
        theirs, ours = np.asarray(jax.jit(function)(numbers)), numbers.copy()
        getattr(library, f"ncsim_{name}")(ours.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(ours.size))
        if ours.tobytes() != theirs.tobytes():
            return False
    return True


def _alike(
    mesh: Mesh,
    ours: BlockProgram,
    theirs: BlockProgram,
    points: int | None,
    first: int,
    seed: int,
    steps: int,
    rate: float,
) -> bool:
    devices, used = mesh.devices.size, min(ours.blocks, BLOCKS)
    ids = np.zeros((devices, ours.blocks, ours.lanes), np.uint32)
    tried = first + np.arange(devices * used * ours.lanes, dtype=np.int64)
    ids[:, :used] = tried.astype(np.uint32).reshape(devices, used, -1)
    stops = steps if points is None else np.linspace(0, steps, points).astype(np.int32)
    given = (seed, ids.reshape(-1, ours.lanes), np.full(devices, used, np.int32), rate, stops)
    both = zip(*(jax.tree.leaves(each.run(*given)) for each in (ours, theirs)), strict=True)
    return all(_filled(one, ids, used) == _filled(other, ids, used) for one, other in both)


def _filled(leaf: jax.Array, ids: np.ndarray, used: int) -> bytes:
    """The blocks of a result that were trained."""
    return by_block(leaf, ids)[:, :used].tobytes()


def by_block(leaf: jax.Array, ids: np.ndarray) -> np.ndarray:
    """A result [devices, blocks, ...] of ids [devices, blocks, lanes]; of what was recorded the members of all blocks may lie side by
    side, as of one block."""
    devices, blocks, lanes = ids.shape
    found = np.asarray(leaf).reshape(devices, -1, *leaf.shape[1:])
    if found.shape[1] == blocks:
        return found
    *columns, _, points = found.shape[2:]
    return np.moveaxis(found.reshape(devices, *columns, blocks, lanes, points), -3, 1)
