"""Circuits against dense matrices made of Kronecker products, against closed forms, and their gradient against differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncsim.config.tasks import PAPER_TASKS, context_targets
from ncsim.training.circuit import (
    ENCODINGS,
    MEASURED,
    Circuit,
    circuit_gradient,
    circuit_logits,
    encoded_states,
    expectations,
    final_states,
    ring_order,
)

SLOW = pytest.mark.slow
X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])


@pytest.fixture(autouse=True)
def in_float64():
    """And operation by operation: a compiled scan takes seconds to make, for each number of angles."""
    with jax.enable_x64(True), jax.disable_jit():
        yield


def on(matrix, qubit):
    """A gate of one qubit on four."""
    return functools.reduce(np.kron, [matrix if number == qubit else np.eye(2) for number in range(4)])


def cnot(control, target):
    return on(np.diag([1, 0]), control) + on(np.diag([0, 1]), control) @ on(X, target)


RING = cnot(3, 0) @ cnot(2, 3) @ cnot(1, 2) @ cnot(0, 1)


def unitary(angles):
    """The whole circuit, [16, 16]: RY as exp(-i theta Y / 2), a ring after every layer."""
    whole = np.eye(16)
    for start in range(0, len(angles), 4):
        for qubit, angle in enumerate(angles[start : start + 4]):
            whole = on(np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * Y, qubit) @ whole
        whole = RING @ whole
    return whole


def states_after(angles, states):
    vector = jnp.asarray([*angles, 1, 1, 0, 0], jnp.float64)
    return np.array(final_states(Circuit("angle", len(angles)), vector, states)[0])


@pytest.mark.parametrize(
    ("encoding", "angles"),
    [
        ("amplitude", 2),
        *(pytest.param(*case, marks=SLOW) for case in (("amplitude", 5), ("angle", 1), ("angle", 4), ("angle", 11))),
    ],
)
def test_states_and_logits_are_those_of_dense_matrices(encoding, angles):
    circuit = Circuit(encoding, angles)
    vectors = np.random.default_rng(angles).normal(size=(circuit.size, 3)) * 2
    states = encoded_states(circuit, PAPER_TASKS)
    logits = circuit_logits(circuit, jnp.asarray(vectors), states)
    for lane, vector in enumerate(vectors.T):
        psi = unitary(vector[:angles]) @ states
        np.testing.assert_allclose(states_after(vector[:angles], states), psi, atol=1e-12)
        for head, qubit in enumerate(MEASURED):
            expected = np.einsum("vr,vw,wr->r", psi.conj(), on(Z, qubit), psi).real
            expected = vector[angles + head] * expected + vector[angles + 2 + head]
            np.testing.assert_allclose(logits[:, head, lane], expected, atol=1e-12)


@SLOW
def test_float32_is_close_to_dense_matrices():
    circuit = Circuit("amplitude", 19)
    vector = np.random.default_rng(5).normal(size=circuit.size)
    states = encoded_states(circuit, PAPER_TASKS)
    psi = unitary(vector[:19]) @ states
    found, _ = final_states(circuit, jnp.asarray(vector, jnp.float32), states)
    np.testing.assert_allclose(np.array(found), psi, atol=1e-6)


@SLOW
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoded_states_are_made_by_gates_and_norms_stay_1(encoding):
    states = encoded_states(Circuit(encoding, 1), PAPER_TASKS)
    np.testing.assert_allclose((states**2).sum(axis=0), 1, atol=1e-15)
    after = states_after(np.linspace(-3, 3, 23), states)
    np.testing.assert_allclose((after**2).sum(axis=0), 1, atol=1e-12)
    for row, bits in enumerate(PAPER_TASKS.inputs):
        if encoding == "angle":
            turned = [np.array([np.cos(np.pi * bit / 2), np.sin(np.pi * bit / 2)]) for bit in bits]
            np.testing.assert_allclose(states[:, row], functools.reduce(np.kron, turned), atol=1e-15)
        else:
            # Overlaps are those of five signs: 1 - 2 (bits that differ) / 5.
            differ = (np.array(PAPER_TASKS.inputs) != bits).sum(axis=1)
            np.testing.assert_allclose(states.T @ states[:, row], 1 - 2 * differ / 5, atol=1e-15)


def test_the_ring_computes_parities():
    """By hand: qubits 1, 2, 3 hold the parities of all before them and their own; then qubit 0 takes that of all: x1^x2^x3."""
    for number in range(16):
        a, b, c, d = ((number >> (3 - qubit)) & 1 for qubit in range(4))
        expected = (b ^ c ^ d, a ^ b, a ^ b ^ c, a ^ b ^ c ^ d)
        assert ring_order()[int("".join(map(str, expected)), 2)] == number
    np.testing.assert_array_equal(np.eye(16)[:, ring_order()].T, RING)


def layered(angles, places):
    """One layer, as expectation values of both measured qubits from |0000>."""
    vector = np.zeros(4)
    vector[list(places)] = angles
    state = states_after(vector, np.eye(16)[:, :1])
    return np.asarray(expectations(list(jnp.asarray(state))))[0]


@pytest.mark.parametrize("theta", [1.9, *(pytest.param(theta, marks=SLOW) for theta in (0.0, 0.4, -2.6))])
def test_closed_forms_of_one_layer(theta):
    """Before the ring <Z_q> = cos theta of qubit q alone. After it qubit 0 has the parity of qubits 1, 2, 3 and qubit 2 that
    of 0, 1, 2; of a product state a parity is a product of cosines."""
    phi, chi = 0.7, 2.2
    cos = np.cos
    np.testing.assert_allclose(layered([theta], [0]), [1, cos(theta)], atol=1e-12)
    np.testing.assert_allclose(layered([theta], [3]), [cos(theta), 1], atol=1e-12)
    np.testing.assert_allclose(layered([theta, phi], [1, 2]), [cos(theta) * cos(phi)] * 2, atol=1e-12)
    expected = [cos(phi) * cos(chi) * cos(0.3), cos(theta) * cos(phi) * cos(chi)]
    np.testing.assert_allclose(layered([theta, phi, chi, 0.3], range(4)), expected, atol=1e-12)


@pytest.mark.parametrize("theta", [2.0, *(pytest.param(theta, marks=SLOW) for theta in (0.3, np.pi / 2))])
def test_what_the_ring_entangles(theta):
    """RY on qubit 0 and a ring: cos |0000> + sin |0111>, a product of |0> and a state of GHZ's kind. So qubit 0 has no
    entropy, and each other qubit that of (cos^2, sin^2): ln 2 at pi / 2."""
    state = states_after([theta], np.eye(16)[:, :1])[:, 0].reshape(2, 2, 2, 2)
    assert abs(state[0, 0, 0, 0] - np.cos(theta / 2)) < 1e-12
    assert abs(state[0, 1, 1, 1] - np.sin(theta / 2)) < 1e-12
    weights = np.array([np.cos(theta / 2) ** 2, np.sin(theta / 2) ** 2])
    for qubit in range(4):
        squares = np.linalg.svd(np.moveaxis(state, qubit, 0).reshape(2, 8), compute_uv=False) ** 2
        entropy = -sum(p * np.log(p) for p in squares if p > 1e-15)
        assert entropy == pytest.approx(0 if qubit == 0 else -(weights * np.log(weights)).sum(), abs=1e-12)


@SLOW
def test_rings_alone_permute_rows():
    """Without rotations a row stays a basis state, of which the dense ring says which."""
    bits = np.array(PAPER_TASKS.inputs)
    for rings in (1, 2, 3, 5):
        circuit = Circuit("angle", 4 * rings)
        vector = jnp.asarray(np.r_[np.zeros(4 * rings), 1, 1, 0, 0])
        logits = np.asarray(circuit_logits(circuit, vector, encoded_states(circuit, PAPER_TASKS)))
        states = np.linalg.matrix_power(RING, rings)[:, bits @ (8, 4, 2, 1)].argmax(axis=0)
        for head, qubit in enumerate(MEASURED):
            np.testing.assert_array_equal(logits[:, head], 1 - 2 * (states >> (3 - qubit) & 1))


@SLOW
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradient_against_parameter_shift_and_differences(encoding):
    """d<Z>/d theta = (<Z>(theta + pi/2) - <Z>(theta - pi/2)) / 2 exactly; and central differences of the loss. Every shifted
    circuit is a lane of one call."""
    circuit = Circuit(encoding, 6)
    size = circuit.size
    states = encoded_states(circuit, PAPER_TASKS)
    targets = context_targets(PAPER_TASKS)[1][..., None]
    vector = np.random.default_rng(2).normal(size=(size, 1)) * 1.5
    shifts = np.concatenate([step * np.eye(size) for step in (np.pi / 2, -np.pi / 2, 1e-5, -1e-5)], axis=1)

    def residual(values):
        return (1 / (1 + jnp.exp(-values)) - targets) / 16

    found = np.asarray(circuit_gradient(circuit, jnp.asarray(vector), states, residual))[:, 0]
    logits = np.asarray(circuit_logits(circuit, jnp.asarray(np.c_[vector, vector + shifts]), states))
    asked = np.asarray(residual(logits[..., :1]))
    up, down, above, below = np.split(logits[..., 1:], 4, axis=-1)
    by_shift = (asked * (up - down) / 2).sum(axis=(0, 1))
    np.testing.assert_allclose(found[: circuit.angles], by_shift[: circuit.angles], atol=1e-12)
    losses = [(np.logaddexp(0, values) - targets * values).sum(axis=(0, 1)) / 16 for values in (above, below)]
    np.testing.assert_allclose(found, (losses[0] - losses[1]) / 2e-5, atol=1e-8)


def test_a_row_is_encoded_as_its_basis_state_or_as_five_signs():
    """Row 1011: |1011> is number 11; and of amplitudes a feature that is 1 is +1."""
    tasks = PAPER_TASKS
    row = list(map(list, tasks.inputs)).index([1, 0, 1, 1])
    assert np.flatnonzero(encoded_states(Circuit("angle", 4), tasks)[:, row]).tolist() == [11]
    amplitudes = encoded_states(Circuit("amplitude", 4), tasks)[:, row]
    np.testing.assert_allclose(amplitudes, np.array([1, 1, -1, 1, 1, *[0] * 11]) / np.sqrt(5), rtol=1e-15)
