"""NCnet: inputs, one shared ReLU layer, a head per party, which are two but in scenarios (arXiv:2603.04451, section 4.1 and
figure 1b).

The mathematics stands here once, for one network. Every array may carry trailing *lane* axes (`*L` below), one entry a
network: a ReLU layer of sixteen rows and three units is too small to be a matrix product, but a thousand of them side
by side are a few hundred elementwise vector operations, and elementwise operations give a network the same bits
whatever its neighbours are. Sums over rows, units and features are therefore written out, in one fixed order.

Axes: R rows, F features, H hidden units, K heads, Alice's first, P parameters, L lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig


class Parameters(NamedTuple):
    """One tensor a field: parameters, their shapes, or something about each. `logits` is 1, or 2 a head where each
    head has a logit a class."""

    hidden_kernel: Any  # [F, H, *L]
    hidden_bias: Any  # [H, *L]
    head_kernel: Any  # [K, logits, H, *L]
    head_bias: Any  # [K, logits, *L]


class Architecture(NamedTuple):
    """Sizes of a network, and which of its connections exist."""

    features: int
    hidden: int
    logits: int  # a head
    alice_features: tuple[int, ...]
    bob_features: tuple[int, ...]
    shared: int | None  # units that both XORnets share; None: every unit sees every feature
    separate: bool  # the first half of the units feeds Alice's head alone, the second Bob's
    heads: int

    @staticmethod
    def of(config: EnsembleConfig) -> Architecture:
        """The architecture that a config asks for."""
        separate = config.intervention == "separate_trunks"
        return Architecture(
            features=config.tasks.features,
            hidden=2 * config.hidden if separate else config.hidden,
            logits=2 if config.loss == "cross_entropy" else 1,
            alice_features=config.tasks.party_features[0],
            bob_features=config.tasks.party_features[1],
            shared=config.shared if config.topology == "overlap" else None,
            separate=separate,
            heads=config.tasks.parties,
        )

    @property
    def shapes(self) -> Parameters:
        """Shape of each tensor of one network, without lanes."""
        head = (self.heads, self.logits)
        return Parameters((self.features, self.hidden), (self.hidden,), (*head, self.hidden), head)

    @property
    def size(self) -> int:
        """Number of parameters, P."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def sparse(self) -> bool:
        """Whether some connections are left out."""
        return self.separate or self.shared is not None

    def connections(self) -> Parameters:
        """1 where a parameter exists, 0 where the topology leaves it out, in the shapes of `shapes`.

        Overlap: Alice's XORnet has the first units, Bob's the last, the shared ones stand between. A unit of one
        XORnet sees that party's features and feeds that head; a shared one sees and feeds both. Separate trunks: every
        unit sees all features and feeds one head, so that each head has as many units as it would share.
        """
        unit = np.arange(self.hidden)
        alice = bob = np.ones(self.hidden, bool)
        sees = np.ones((self.features, self.hidden), bool)
        if self.shared is not None:
            own = self.hidden - self.shared
            alice = unit < (own + 1) // 2 + self.shared
            bob = unit >= (own + 1) // 2
            feature = np.arange(self.features)[:, None]
            sees = (np.isin(feature, self.alice_features) & alice) | (np.isin(feature, self.bob_features) & bob)
        if self.separate:
            alice, bob = unit < self.hidden // 2, unit >= self.hidden // 2
        # With more heads than two every one sees all units.
        feeds = np.stack([alice, bob]) if self.heads == 2 else np.ones((self.heads, self.hidden), bool)
        heads = np.broadcast_to(feeds[:, None], self.shapes.head_kernel)
        return Parameters(sees, np.ones(self.hidden, bool), heads, np.ones(self.shapes.head_bias, bool))

    def fan_in(self) -> Parameters:
        """Connected inputs of the unit or head that each parameter belongs to, in the shapes of `shapes`."""
        there = self.connections()
        hidden = np.maximum(np.sum(there.hidden_kernel, axis=0), 1)
        heads = np.maximum(np.sum(there.head_kernel, axis=2), 1)
        return Parameters(
            np.broadcast_to(hidden, self.shapes.hidden_kernel),
            hidden,
            np.broadcast_to(heads[:, :, None], self.shapes.head_kernel),
            heads,
        )

    def split(self, vector: Any) -> Parameters:
        """A vector [P, *L] as the four tensors. NumPy in, NumPy out."""
        tensors, start = [], 0
        for shape in self.shapes:
            stop = start + int(np.prod(shape))
            tensors.append(vector[start:stop].reshape(*shape, *vector.shape[1:]))
            start = stop
        return Parameters(*tensors)

    def join(self, parameters: Parameters) -> Any:
        """The four tensors as one vector [P, *L]: the inverse of `split`. NumPy in, NumPy out."""
        numpy = all(isinstance(tensor, np.ndarray) for tensor in parameters)
        flat = [
            tensor.reshape(int(np.prod(shape)), *tensor.shape[len(shape) :])
            for tensor, shape in zip(parameters, self.shapes, strict=True)
        ]
        return np.concatenate(flat) if numpy else jnp.concatenate(flat)


def sum_pairwise(terms: Sequence[Array]) -> Array:
    """Sum of a written-out list as a balanced tree: short dependency chains, and one order for every executor. With many lanes
    `jnp.sum` of a product may come out wrong (jaxlib 0.10.2 on CPUs, findings/xla_cpu_fused_sum_of_products.sh)."""
    terms = list(terms)
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]


def _times(constant: Any, x: Array) -> Array | None:
    """`constant * x`; None for a constant 0, and no multiplication for a constant +-1 (traced values multiply)."""
    if isinstance(constant, float | int):
        if constant == 0:
            return None
        if constant == 1:
            return x
        if constant == -1:
            return -x
    return constant * x


def head_vectors(parameters: Parameters) -> tuple[Array, Array]:
    """Kernel [K, H, *L] and bias [K, *L] of each head's decision: its one logit, or the difference of its two."""
    kernel, bias = parameters.head_kernel, parameters.head_bias
    if kernel.shape[1] == 1:
        return kernel[:, 0], bias[:, 0]
    return kernel[:, 1] - kernel[:, 0], bias[:, 1] - bias[:, 0]


def forward(parameters: Parameters, rows: Sequence[Sequence[Any]]) -> tuple[Array, Array]:
    """Hidden activations [R, H, *L] and decision logits [R, K, *L] of some rows of features.

    Features that are Python numbers are compiled in: a row's pre-activation is then a subset sum of the kernel, whose
    common prefixes the compiler shares between rows.
    """
    activations = []
    for row in rows:
        total = parameters.hidden_bias
        for feature, value in enumerate(row):
            term = _times(value, parameters.hidden_kernel[feature])
            total = total if term is None else total + term
        activations.append(jnp.maximum(total, 0))
    # The barrier makes XLA store the activations once instead of recomputing them in every consumer's loop.
    hidden = jax.lax.optimization_barrier(jnp.stack(activations))
    kernel, bias = head_vectors(parameters)
    units = range(hidden.shape[1])
    heads = range(kernel.shape[0])
    logits = [sum_pairwise([kernel[head, unit] * hidden[:, unit] for unit in units]) + bias[head] for head in heads]
    return hidden, jnp.stack(logits, axis=1)


def backward(
    parameters: Parameters,
    hidden: Array,
    residuals: Array,
    rows: Sequence[Sequence[float]],
    senders: Sequence[int] | None = None,
) -> Parameters:
    """Gradient of the loss from its derivative by the decision logits, `residuals` [R, K, *L]. `senders` are the heads
    whose loss sends a gradient into the shared layer; all if not given.

    Written by hand because the sums over rows, as autodiff leaves them, compile to loops several times slower; the
    tests hold it to `jax.grad`. Connections that the topology leaves out are not masked here: see `gradients.gradient`.
    """
    residuals = jax.lax.optimization_barrier(residuals)
    count, heads = range(len(rows)), range(residuals.shape[1])
    head_bias = sum_pairwise([residuals[row] for row in count])
    head_kernel = jnp.stack([sum_pairwise([residuals[row, head] * hidden[row] for row in count]) for head in heads])
    senders = heads if senders is None else senders
    hidden_kernel, hidden_bias = trunk_gradient(parameters, hidden, residuals, rows, senders)
    if parameters.head_kernel.shape[1] == 1:
        head_kernel, head_bias = head_kernel[:, None], head_bias[:, None]
    else:
        head_kernel, head_bias = (jnp.stack([-g, g], axis=1) for g in (head_kernel, head_bias))
    return Parameters(hidden_kernel, hidden_bias, head_kernel, head_bias)


def trunk_gradient(
    parameters: Parameters, hidden: Array, residuals: Array, rows: Sequence[Sequence[float]], senders: Sequence[int]
) -> tuple[Array, Array]:
    """What these heads' losses send into the shared layer: gradients of its kernel [F, H, *L] and bias [H, *L]."""
    if not senders:
        return jnp.zeros_like(parameters.hidden_kernel), jnp.zeros_like(parameters.hidden_bias)
    kernel, _ = head_vectors(parameters)
    through = residuals[:, senders[0], None] * kernel[senders[0]]
    for head in senders[1:]:
        through = through + residuals[:, head, None] * kernel[head]
    # relu'(0) = 0, as jax.nn.relu has it.
    through = jax.lax.optimization_barrier(jnp.where(hidden > 0, through, 0))
    hidden_bias = sum_pairwise([through[row] for row in range(len(rows))])
    hidden_kernel = []
    for feature in range(len(rows[0])):
        products = [_times(row[feature], through[number]) for number, row in enumerate(rows)]
        terms = [product for product in products if product is not None]
        hidden_kernel.append(sum_pairwise(terms) if terms else jnp.zeros_like(hidden_bias))
    return jnp.stack(hidden_kernel), hidden_bias
