"""The network as a Flax module, for users who want it in a model of their own."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.given import one_config
from ncsim.errors import ConfigError
from ncsim.training.initialization import initial_vector
from ncsim.training.network import Architecture, Parameters, forward


class NCnet(nn.Module):
    """The network as a Flax module, for use outside the ensemble: inputs [..., F] to decision logits [..., 2],
    or one per party of a scenario.

    An answer is 1 where its logit is above 0. It is the network of arXiv:2603.04451, section 4.1 and figure 1. Inputs are what the
    network sees: 0 and 1, or -1 and +1 where the config's `encoding` is "sign". Connections that the topology leaves out stay out when
    the module is trained. What `intervention` does to gradients, but for "separate_trunks", and loss weights are a training's and not in it.

    Attributes:
        config: sizes, topology and initialisation. With the paper's tasks F, the inputs, is 4.
        name: of the module inside another one, as Flax has it.
        parent: the module around it, as Flax has it.

    Example:
        >>> import jax.numpy as jnp
        >>> from ncsim import EnsembleConfig
        >>> config = EnsembleConfig(hidden=3)
        >>> NCnet(config).apply(NCnet.variables(config, jnp.zeros(23)), jnp.zeros((16, 4))).shape
        (16, 2)
    """

    config: EnsembleConfig

    @nn.compact
    def __call__(self, inputs: Float[Array | np.ndarray, "*batch F"]) -> Float[Array, "*batch heads"]:
        architecture = Architecture.of(one_config(self.config))
        inputs = jnp.asarray(inputs)
        if inputs.shape[-1:] != (architecture.features,):
            raise ConfigError(
                f"inputs: shape {inputs.shape}; allowed: [..., {architecture.features}], a number per input"
            )
        # One draw for all four tensors, as in the ensemble; made only when the module is initialised.
        start = Parameters(*(jnp.zeros(shape) for shape in architecture.shapes))
        if self.is_initializing():
            start = architecture.split(initial_vector(self.make_rng("params"), self.config))
        parameters = Parameters(
            *(self.param(name, lambda _, value=value: value) for name, value in start._asdict().items())
        )
        if architecture.sparse:
            there = architecture.connections()
            # Not multiplied: what is not there has no part in outputs, whatever its parameter is.
            parameters = Parameters(*(jnp.where(c, each, 0) for c, each in zip(there, parameters, strict=True)))
        flat = jnp.reshape(inputs, (-1, architecture.features))
        logits = jax.vmap(lambda row: forward(parameters, [list(row)])[1][0])(flat)
        return logits.reshape(*inputs.shape[:-1], architecture.heads)

    @staticmethod
    def variables(config: EnsembleConfig, vector: Float[Array, " P"]) -> dict[str, Any]:
        """A parameter vector as the module's variables.

        Args:
            config: the config that the vector belongs to.
            vector: weights and biases in the order of `Parameters`, [P]; P is 23 for three hidden units and four inputs. Where
                `training_rows` is given, the 1 or 0 per row that `ncsim.foreign_share` has after them may follow.

        Returns:
            What `NCnet.apply` takes: {"params": arrays by name}.

        Raises:
            ConfigError: a vector of another length, as of a config of another width.
        """
        architecture = Architecture.of(one_config(config))
        lengths = {architecture.size: None} | (
            {architecture.size + config.tasks.rows: None} if config.training_rows else {}
        )
        if np.ndim(vector) != 1 or len(vector) not in lengths:
            allowed = " or ".join(f"[{length}]" for length in lengths)
            raise ConfigError(
                f"vector: shape {np.shape(vector)}; allowed: {allowed}, weights and biases of this config"
            )
        values = np.asarray(vector) if isinstance(vector, list | tuple) else vector
        return {"params": architecture.split(values)._asdict()}
