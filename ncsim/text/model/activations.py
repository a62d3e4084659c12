"""Activations of feed-forward layers by the names that Hugging Face's config.json has for them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

_exact = functools.partial(jax.nn.gelu, approximate=False)
#: One polynomial under five names: they differ in the order of its products, which is rounding.
_tanh = functools.partial(jax.nn.gelu, approximate=True)


def _laplace(x: Array) -> Array:
    """Of Mega (arXiv:2209.10655): mean sqrt(1/2), deviation sqrt(1 / (4 pi)), as transformers rounds them."""
    return 0.5 * (1 + jax.lax.erf((x - 0.707107) / (0.282095 * 2**0.5)))


#: All of transformers' ACT2FN but "prelu" and "xielu", which have parameters of their own.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _exact,
    "gelu_10": lambda x: jnp.clip(_exact(x), -10, 10),
    "gelu_python": _exact,
    "gelu_accurate": _tanh,
    "gelu_fast": _tanh,
    "gelu_new": _tanh,
    "gelu_python_tanh": _tanh,
    "gelu_pytorch_tanh": _tanh,
    "hardswish": jax.nn.hard_swish,
    "laplace": _laplace,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "mish": jax.nn.mish,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
