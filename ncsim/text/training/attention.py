"""Who computes attention: cuDNN's fused kernels on a GPU where they work, tried once, else XLA's matrices of weights.

Fused, the weights of a row, [H, T, T], do not go through memory, forwards or backwards. JAX has it as
`jax.nn.dot_product_attention(..., implementation="cudnn")`, for bfloat16 and NVIDIA's GPUs of the compute capability 8.0 on. Not
measured: no GPU was at hand (`benchmarks/text_static.py` has what XLA compiles).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ncsim.errors import one_line
from ncsim.terminal import say
from ncsim.text.config import TextConfig
from ncsim.text.model.bert import attended
from ncsim.text.model.sizes import BertConfig
from ncsim.text.training.programs import ADAPTERS

#: How far results and gradients may be apart, of their largest: bfloat16 keeps 8 bits, and weights are rounded to it by one alone.
TOLERANCE = 0.03


def attention_for(config: TextConfig, bert: BertConfig, row: int, mesh: Mesh) -> str:
    """ "cudnn" where it works on these devices for rows of so many tokens, else "xla"; why not is said, once."""
    if config.precision != "bfloat16" or mesh.devices.flat[0].platform != "gpu":
        return "xla"
    reason = why_not(bert.heads, bert.hidden_size // bert.heads, row, mesh)
    if reason is None:
        return "cudnn"
    say(f"cuDNN's attention is not taken: {reason}; using XLA's")
    return "xla"


@functools.lru_cache(maxsize=16)
def why_not(heads: int, size: int, row: int, mesh: Mesh) -> str | None:
    """Why cuDNN's cannot be used on these devices, in words; None where it gives what XLA's gives, and its gradients. Tried as
    a run has it: for several adapters at once, on rows of several sequences.

    Args:
        heads: of attention; `size`: features of each.
        row: tokens of a row.
        mesh: devices over which adapters are spread.
    """
    try:
        found, expected = (_tried(heads, size, row, mesh, name) for name in ("cudnn", "xla"))
    except Exception as error:  # no cuDNN, an old one, or nothing for this device or these sizes
        return one_line(error)
    apart = max(
        float(np.max(np.abs(one - other)) / np.max(np.abs(other))) for one, other in zip(found, expected, strict=True)
    )
    return None if apart <= TOLERANCE else f"it is {apart:.1g} of the largest value off XLA's"


def _tried(heads: int, size: int, row: int, mesh: Mesh, attention: str) -> list[np.ndarray]:
    """Attention to tokens drawn at random, and its gradients by queries, keys and values, for two adapters a device."""
    adapters, rows = 2 * mesh.devices.size, 2
    shape = (adapters, rows, row, heads, size)
    drawn = np.random.default_rng(0).normal(size=(3, *shape)).astype(jnp.bfloat16)
    # Two sequences and padding; and a row of padding alone, as the last of a step may be.
    place = np.arange(row)
    first = np.where(place < row // 2, 0, np.where(place < row - 3, 1, -1))
    sequences = np.broadcast_to(np.stack([first, np.full(row, -1)]), (adapters, rows, row)).astype(np.int32)

    def total(query: jax.Array, key: jax.Array, value: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = jnp.where(own[..., None, None] >= 0, attended(query, key, value, own, own, attention), 0)
        weights = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
        return jnp.sum(out.astype(jnp.float32) * weights), out

    one = jax.vmap(jax.grad(total, argnums=(0, 1, 2), has_aux=True))
    spread = PartitionSpec(ADAPTERS)
    mapped = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False))
    gradients, out = mapped(*drawn, sequences)
    return [np.asarray(each, np.float32) for each in (out, *gradients)]
