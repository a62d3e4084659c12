"""What is trained of a dense layer's update: LoRA's two factors, the whole update, or LoRA with its first factor as two tensors.

    lora   a [L, D, R], b [L, R, F]
    full   dense [L, D, F], which starts at 0 and is not scaled by alpha / rank
    mps    g1 [L, d1, X], g2 [L, X, D / d1, R], b [L, R, F]: a[(i1, i2), k] = sum over x of g1[i1, x] g2[x, i2, k], as the paper's
           equation 84 has it (Chen et al., arXiv:2601.06788)

The chain of `entanglement.py` has a cut at d1, so that an update of `mps` has at most ln X there. X is the bond.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ncsim.errors import ConfigError
from ncsim.text.entanglement import sites


@functools.cache
def split(inputs: int) -> int:
    """d1: of the cuts among the inputs' sites the one nearest to their square root, the larger of two that are as near."""
    cuts = np.cumprod(sites(inputs), dtype=np.int64).tolist()
    return min(cuts, key=lambda d: (max(d * d, inputs) / min(d * d, inputs), -d))


def check_bond(bond: int, inputs: int) -> None:
    """A bond above the states on its smaller side would bind nothing: refused.

    Raises:
        ConfigError: naming the option and the most that is allowed.
    """
    if bond > split(inputs):
        raise ConfigError(
            f"--bond: {bond}; allowed: 1 to {split(inputs)}, the states to the left of the bond of {inputs} inputs"
        )


def initial_factors(
    key: Key[Array, ""], adaptation: str, shape: tuple[int, int, int], rank: int, width: int, bond: int
) -> dict[str, Array]:
    """An update that is 0 as yet, of `shape` (layers, inputs, outputs); ranks are zero-padded to `width`.

    A is drawn as LoRA's, U(+-1/sqrt(inputs)). Of `mps`, the second tensor is drawn so, and the first one, U(+-sqrt(3 / bond)), leaves
    A's variance as it is.

    Raises:
        ConfigError: a bond that is too large for the inputs.
    """
    layers, inputs, outputs = shape
    if adaptation == "full":
        return {"dense": jnp.zeros(shape, jnp.float32)}
    b = jnp.zeros((layers, width, outputs), jnp.float32)
    most = inputs**-0.5
    if adaptation == "lora":
        a = jax.random.uniform(key, (layers, inputs, rank), jnp.float32, -most, most)
        return {"a": jnp.pad(a, ((0, 0), (0, 0), (0, width - rank))), "b": b}
    check_bond(bond, inputs)
    left = split(inputs)
    keys = jax.random.split(key)
    first = jax.random.uniform(keys[0], (layers, left, bond), jnp.float32, -((3 / bond) ** 0.5), (3 / bond) ** 0.5)
    second = jax.random.uniform(keys[1], (layers, bond, inputs // left, rank), jnp.float32, -most, most)
    return {"g1": first, "g2": jnp.pad(second, ((0, 0), (0, 0), (0, 0), (0, width - rank))), "b": b}


def as_lora(lora: Any) -> Any:
    """A tree of updates in which tensors of `mps` have become LoRA's first factor; all else is as it was."""
    if "g1" in lora:
        return {"a": _contracted(lora["g1"], lora["g2"]), "b": lora["b"]}
    return {name: as_lora(inner) if isinstance(inner, dict) else inner for name, inner in lora.items()}


def _contracted(first: Float[Array, "... P X"], second: Float[Array, "... X Q R"]) -> Float[Array, "... D R"]:
    a = jnp.einsum("...px,...xqr->...pqr", first, second, precision=jax.lax.Precision.HIGHEST)
    return a.reshape(*a.shape[:-3], -1, a.shape[-1])
