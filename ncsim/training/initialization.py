"""What a network starts from: its key, its parameters, and the rows that it trains on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import encoded_inputs
from ncsim.training.network import Architecture, Parameters


def initial_scale(config: EnsembleConfig) -> np.ndarray:
    """What each parameter's variate is multiplied with, [P]; 0 where the topology leaves a weight out."""
    architecture = Architecture.of(config)
    fan_in = architecture.fan_in()
    gains = {"uniform": 1.0, "he": 2.0, "lecun": 1.0}
    if config.initialization == "normal":
        weight_scale = Parameters(*(np.ones(f.shape) for f in fan_in))
    else:
        weight_scale = Parameters(*(np.sqrt(gains[config.initialization] / f) for f in fan_in))
    bias_gain = 1.0 if config.bias_initialization == "uniform" else 0.0
    bias_scale = Parameters(*(bias_gain / np.sqrt(f) for f in fan_in))
    scale = Parameters(
        weight_scale.hidden_kernel, bias_scale.hidden_bias, weight_scale.head_kernel, bias_scale.head_bias
    )
    scale_vector = architecture.join(scale) * architecture.join(architecture.connections())
    return np.asarray(scale_vector * config.initialization_scale)


def seed_words(seed: int) -> np.ndarray:
    """The data of a root seed's key, uint32[2]: as of `jax.random.key` where JAX has 64 bits, whatever its default and offset are.
    Without them, that takes no seed from 2^63, and but 32 bits of any other. `seed` is 0 to 2^64 - 1."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def root_key(seed: int) -> Key[Array, ""]:
    """The key of a root seed, 0 to 2^64 - 1."""
    return jax.random.wrap_key_data(jnp.asarray(seed_words(seed)), impl="threefry2x32")


def initial_vector(key: Key[Array, ""], config: EnsembleConfig) -> Float[Array, " P"]:
    """One network's initial parameters, float32 [P].

    Variates are drawn in float32 whatever `config.precision` is, so that both precisions start from the same network.
    Weights that the topology leaves out are zero, and stay zero because their gradient is.
    """
    architecture = Architecture.of(config)
    uniform_key, normal_key = jax.random.split(key)
    variate = jax.random.uniform(uniform_key, (architecture.size,), jnp.float32, -1.0, 1.0)
    if config.initialization != "uniform":
        is_bias = architecture.join(
            Parameters(
                *(np.full(shape, name.endswith("bias")) for name, shape in architecture.shapes._asdict().items())
            )
        )
        normal = jax.random.normal(normal_key, (architecture.size,), jnp.float32)
        variate = jnp.where(is_bias, variate, normal)
    return variate * jnp.asarray(initial_scale(config), jnp.float32)


#: Folded into a member's key for the rows it trains on: no context's number, so that its networks start as without.
_ROWS_KEY = np.uint32(0x726F7773)


def row_tuples(config: EnsembleConfig) -> tuple[tuple[float, ...], ...]:
    """The encoded truth table as Python numbers, which are compiled into the step."""
    return tuple(tuple(row) for row in encoded_inputs(config.tasks, config.encoding).tolist())


def member_key(root: Key[Array, ""], member: Array, context: Array | np.uint32, common: bool) -> Key[Array, ""]:
    """The key of one network: its member's id, then its context's number, folded into the run's."""
    key = jax.random.fold_in(root, member)
    return key if common else jax.random.fold_in(key, context)


def vector_size(config: EnsembleConfig) -> int:
    """Length of what is trained of one network, P: its parameters and, where it trains on some rows only, a 1 or 0 a row
    after them, which no step changes. Functions of a vector take this one."""
    return Architecture.of(config).size + (config.tasks.rows if config.training_rows else 0)


def start_vector(config: EnsembleConfig, root: Key[Array, ""], member: Array, context: Array) -> Float[Array, " P"]:
    """What one network starts from, float32 [P]. A member trains on the same rows in all its contexts."""
    if not config.training_rows:
        return initial_vector(member_key(root, member, context, config.common_initialization), config)
    # Wrapped again: another number is folded into the same keys, which is no reuse of them.
    again = jax.random.wrap_key_data(jax.random.key_data(root))
    vector = initial_vector(member_key(root, member, context, config.common_initialization), config)
    key = member_key(again, member, _ROWS_KEY, common=False)
    chosen = jax.random.permutation(key, jnp.arange(config.tasks.rows) < config.training_rows)
    return jnp.concatenate([vector, chosen.astype(vector.dtype)])


def row_weights(config: EnsembleConfig, vector: Array) -> Array | None:
    """1 for a row that is trained on, else 0, [R, *L]; None where all rows are."""
    return vector[Architecture.of(config).size :] if config.training_rows else None


def dtype_of(config: EnsembleConfig) -> Any:
    """The floating-point type of training."""
    return np.float64 if config.precision == "float64" else np.float32
