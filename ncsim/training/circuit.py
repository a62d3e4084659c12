"""A four-qubit circuit in place of an NCnet: encoded inputs, trained rotations between rings of CNOTs, two observables.

State vectors are exact: 16 amplitudes per row, as 16 arrays, so that a CNOT is another order of them and costs nothing. The
trained gates are RY, as in the circuit known as RealAmplitudes: amplitudes stay real. Arrays may carry trailing lane axes
`*L`, as in `network.py`.

Gradients are by the adjoint method (Jones and Gacon 2020, arXiv:2009.02823): the derivative of the loss by the state runs
backwards through the layers. States at the ends of layers are kept, which suffices, since the rotations of a layer commute.

Axes: R rows, A angles, P parameters, L lanes; 2 heads, Alice's first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import Tasks
from ncsim.training.losses import LOSSES, with_lanes
from ncsim.training.network import Architecture, sum_pairwise
from ncsim.training.optimizers import make_optimizer

QUBITS = 4
STATES = 2**QUBITS
#: The qubits whose Z is Alice's and Bob's observable. Qubit 0 is the highest bit of a state's number.
MEASURED = (0, 2)
#: How a row becomes a state: RY(pi x) on qubit k for feature k, or (1, +-1, +-1, +-1, +-1) / sqrt 5 as amplitudes.
ENCODINGS = ("angle", "amplitude")

State = list[Array]  # 16 amplitudes [R, *L]


class Circuit(NamedTuple):
    """A circuit: layers of a rotation on each qubit and a ring of CNOTs. The last layer may lack rotations, so that any number
    of parameters can be had."""

    encoding: str  # of ENCODINGS
    angles: int  # trained rotations, 1 or more

    @staticmethod
    def of(config: EnsembleConfig, encoding: str) -> Circuit:
        """The circuit with as many parameters as the NCnet of the config has."""
        return Circuit(encoding, Architecture.of(config).size - 4)

    @property
    def size(self) -> int:
        """Number of parameters, P: the angles, then a scale for each head's expectation value, then a bias."""
        return self.angles + 4

    @property
    def layers(self) -> int:
        """Number of layers."""
        return -(-self.angles // QUBITS)

    def heads(self, vector: Array) -> tuple[Array, Array]:
        """Scale and bias of both heads, [2, *L] each."""
        return vector[self.angles : self.angles + 2], vector[self.angles + 2 :]


def encoded_states(circuit: Circuit, tasks: Tasks) -> np.ndarray:
    """The state that each row is encoded as, float64[16, R]."""
    inputs = np.asarray(tasks.inputs)
    states = np.zeros((STATES, len(inputs)))
    if circuit.encoding == "angle":  # RY(pi x)|0> = |x>, without rounding
        states[inputs @ (1 << np.arange(QUBITS)[::-1]), np.arange(len(inputs))] = 1
    else:
        states[0] = 1
        states[1 : 1 + QUBITS] = 2 * inputs.T - 1
        states /= np.sqrt(1 + QUBITS)
    return states


def initial_circuit(key: Key[Array, ""], circuit: Circuit) -> Float[Array, " P"]:
    """Angles uniform in -pi to pi, scales 1, biases 0: float32 [P]."""
    angles = jax.random.uniform(key, (circuit.angles,), jnp.float32, -np.pi, np.pi)
    return jnp.concatenate([angles, jnp.ones(2, jnp.float32), jnp.zeros(2, jnp.float32)])


def sign_of(qubit: int) -> list[int]:
    """The diagonal of Z on a qubit: +1 where its bit is 0, else -1."""
    return [1 - 2 * (index >> (QUBITS - 1 - qubit) & 1) for index in range(STATES)]


def ring_order() -> list[int]:
    """Where each amplitude comes from in a ring of CNOTs from each qubit to the next, at last from the last to the first:
    new[v] is old[order[v]]."""
    order = np.arange(STATES)
    for control in reversed(range(QUBITS)):  # the last gate is the first to ask where its amplitudes come from
        controlled = np.array(sign_of(control))[order] < 0
        order = np.where(controlled, order ^ (1 << (QUBITS - 1 - (control + 1) % QUBITS)), order)
    return order.tolist()


def _turned(qubit: int, state: State) -> State:
    """-i Y of a qubit times a state. RY(theta) is the exponential of theta / 2 times it."""
    other = [state[index ^ (1 << (QUBITS - 1 - qubit))] for index in range(STATES)]
    return [-part if sign > 0 else part for part, sign in zip(other, sign_of(qubit), strict=True)]


def _rotated(turns: Array, state: State) -> State:
    """RY of each qubit times a state; `turns` [qubit, 2, *L] are cosines and sines of half the angles."""
    for qubit in range(QUBITS):
        pairs = zip(state, _turned(qubit, state), strict=True)
        # Without the barrier XLA computes every gate again in all that is made of it.
        state = jax.lax.optimization_barrier(
            [turns[qubit, 0] * part + turns[qubit, 1] * other for part, other in pairs]
        )
    return state


def _turns(circuit: Circuit, vector: Array) -> Array:
    """Cosine and sine of half of each angle, [layer, qubit, 2, *L]; missing rotations are by 0."""
    lanes = vector.shape[1:]
    missing = jnp.zeros((circuit.layers * QUBITS - circuit.angles, *lanes), vector.dtype)
    half = jnp.concatenate([vector[: circuit.angles], missing]) / 2
    return jnp.stack([jnp.cos(half), jnp.sin(half)], axis=1).reshape(circuit.layers, QUBITS, 2, *lanes)


def final_states(circuit: Circuit, vector: Array, states: np.ndarray) -> tuple[State, State]:
    """What encoded states [16, R] become, 16 amplitudes [R, *L]; and what the rotations of each layer left, [layer, R, *L]."""
    given = jnp.asarray(states, vector.dtype).reshape(*states.shape, *[1] * (vector.ndim - 1))
    # Made of the vector, so that JAX takes it to be each device's own.
    start = list(jnp.where(vector[0] == vector[0], given, given))
    order = ring_order()

    def layer(state: State, turns: Array) -> tuple[State, State]:
        left = _rotated(turns, state)
        return [left[index] for index in order], left

    return jax.lax.scan(layer, start, _turns(circuit, vector))


def expectations(state: State) -> Array:
    """<Z> of both measured qubits, [R, 2, *L]."""
    found = []
    for qubit in MEASURED:
        pairs = zip(state, sign_of(qubit), strict=True)
        found.append(sum_pairwise([part * part if sign > 0 else -part * part for part, sign in pairs]))
    return jax.lax.optimization_barrier(jnp.stack(found, axis=1))


def circuit_logits(circuit: Circuit, vector: Array, states: np.ndarray) -> Array:
    """Decision logits [R, 2, *L] of encoded rows [16, R]: scale times <Z>, plus bias, of each head."""
    scale, bias = circuit.heads(vector)
    return scale * expectations(final_states(circuit, vector, states)[0]) + bias


def circuit_gradient(circuit: Circuit, vector: Array, states: np.ndarray, residual: Callable[[Array], Array]) -> Array:
    """Gradient [P, *L] of a loss at `vector` [P, *L], given encoded rows [16, R]. `residual` gives the derivative of the loss
    by the logits, from the logits: [R, 2, *L]."""
    scale, bias = circuit.heads(vector)
    final, left = final_states(circuit, vector, states)
    observed = expectations(final)
    residuals = jax.lax.optimization_barrier(residual(scale * observed + bias))
    weights = residuals * scale
    # Half the derivative by the amplitudes: both observables are diagonal.
    signs = zip(*map(sign_of, MEASURED), final, strict=True)
    costate = [(weights[:, 0] * alice + weights[:, 1] * bob) * part for alice, bob, part in signs]
    turns = _turns(circuit, vector)
    back = jnp.stack([turns[:, :, 0], -turns[:, :, 1]], axis=2)
    order = np.argsort(ring_order()).tolist()

    def layer(costate: State, at: tuple[Array, State]) -> tuple[State, Array]:
        costate = [costate[index] for index in order]
        products = [
            sum_pairwise([one * other for one, other in zip(costate, _turned(qubit, at[1]), strict=True)])
            for qubit in range(QUBITS)
        ]
        return _rotated(at[0], costate), _sum_rows(jnp.stack(products, axis=1))

    _, slopes = jax.lax.scan(layer, jax.lax.optimization_barrier(costate), (back, left), reverse=True)
    angles = slopes.reshape(-1, *vector.shape[1:])[: circuit.angles]
    return jnp.concatenate([angles, _sum_rows(residuals * observed), _sum_rows(residuals)])


def _sum_rows(values: Array) -> Array:
    values = jax.lax.optimization_barrier(values)
    return sum_pairwise([values[row] for row in range(len(values))])


def train_circuit(
    circuit: Circuit, config: EnsembleConfig, vector: Array, targets: Array, learning_rate: Array, steps: Array
) -> Array:
    """Parameters [P, *L] after `steps` optimiser steps from `vector`, as `ncsim.training.step.train` of an NCnet. Of the
    config the optimiser, the loss and the tasks are used."""
    optimizer = make_optimizer(config, learning_rate)
    states = encoded_states(circuit, config.tasks)

    def residual(logits: Array) -> Array:
        return LOSSES[config.loss].residual(logits, with_lanes(targets, logits)) * (1 / len(logits))

    def step(_: Array, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        vector, state = carry
        updates, state = optimizer.update(circuit_gradient(circuit, vector, states, residual), state, vector)
        return optax.apply_updates(vector, updates), state

    return jax.lax.fori_loop(0, steps, step, (vector, optimizer.init(vector)))[0]
