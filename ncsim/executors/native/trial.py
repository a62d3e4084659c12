"""Whether generated C gives the bits that XLA gives. That rests on the processor and on XLA's version, so it is tried, once per
machine and kind of network, on thousands of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import jax
import numpy as np
from jax.sharding import Mesh

from ncsim.executors.native import compiler
from ncsim.executors.xla import BlockProgram

#: Blocks of members, from these ids on, of these seeds, after so many steps at a learning rate, the last of which makes them
#: diverge.
BLOCKS, TRIED = 8, ((0, 0, 0, 0.01), (7, 2**64 - 1, 2, 0.01), (2**32 - 4096, 12345, 150, 0.1), (0, 1, 4, 1e30))
#: And where what is recorded along training is tried, of networks that have nothing left to learn.
TRIED_ALONG = (*TRIED, (3, 2, 2_000, 0.1))


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
    known = compiler.verdict(text, subject)
    if known is None:
        theirs = by_xla()
        tried = TRIED if points is None else TRIED_ALONG
        known = compiler.remember(text, all(_alike(mesh, made, theirs, points, *each) for each in tried), subject)
    return known


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
    return np.asarray(leaf).reshape(*ids.shape[:2], *leaf.shape[1:])[:, :used].tobytes()
