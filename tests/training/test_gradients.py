"""Gradient diagnostics against a reference one row at a time; oscillation measures against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.statistics.loss_traces import oscillation
from ncsim.training.gradients import diagnostics
from ncsim.training.initialization import start_vector
from ncsim.training.network import Architecture
from tests.support import reference
from tests.support.cases import first_fast

pytestmark = pytest.mark.usefixtures("quickly")

#: The diagnostics that are one number per network.
SCALARS = ("alice_norm", "bob_norm", "cosine", "magnitude_similarity", "conflict", "neurons_in_conflict")


def reference_of(config, vector):
    p = Architecture.of(config).split(np.asarray(vector, np.float64))
    return reference.Network(*p)


@pytest.mark.parametrize(
    "fields",
    first_fast(
        [
            {"hidden": 4, "topology": "overlap", "encoding": "sign", "loss": "squared_error"},
            {"hidden": 3},
            {"hidden": 2, "loss": "cross_entropy", "intervention": "separate_trunks"},
            {"hidden": 3, "training_rows": 10},
        ]
    ),
    ids=str,
)
def test_diagnostics_are_those_of_the_reference(fields):
    """Float32 on eight networks side by side, against float64 one row and one parameter at a time, to 1e-5."""
    config = ncsim.EnsembleConfig(**fields, initialization="he")
    root, context = jax.random.key(4), 3
    start = jax.jit(jax.vmap(lambda member: start_vector(config, root, member, context), out_axes=-1))
    vectors = start(jnp.arange(8, dtype=jnp.uint32))
    targets = context_targets(config.tasks)[context]
    found = jax.jit(lambda v: diagnostics(config, v, jnp.asarray(targets, jnp.float32)))(vectors)
    architecture = Architecture.of(config)
    sees = architecture.connections().hidden_kernel
    inputs = encoded_inputs(config.tasks, config.encoding)
    for lane in range(8):
        rows = None
        if config.training_rows:
            rows = np.flatnonzero(np.asarray(vectors[architecture.size :, lane]))
            assert len(rows) == 10
        network = reference_of(config, vectors[:, lane])
        sent = reference.trunk_gradients(network, config.loss, inputs, targets.astype(int), rows)
        flat = [[*(w * sees).ravel(), *b] for w, b in sent]
        alice, bob, cosine, similarity = reference.angle(*flat)
        got = [float(getattr(found, name)[lane]) for name in SCALARS[:4]]
        np.testing.assert_allclose(got, [alice, bob, cosine, similarity], atol=1e-5)
        units = [[[*(w * sees)[:, h], b[h]] for w, b in sent] for h in range(architecture.hidden)]
        cosines = [reference.angle(*unit)[2] for unit in units]
        np.testing.assert_allclose(found.neuron_cosine[:, lane], cosines, atol=1e-5)
        assert float(found.neurons_in_conflict[lane]) == pytest.approx(np.mean(np.array(cosines) < 0))
        assert bool(found.conflict[lane]) == (cosine < 0)
    if config.intervention == "separate_trunks":
        assert not np.any(found.cosine)
    else:  # both cases were met
        assert 0 < np.sum(found.neuron_cosine < 0) < np.sum(found.neuron_cosine != 0)


def test_no_angle_with_a_zero_gradient():
    """A dead shared layer: no gradient passes, and nothing is NaN; tiny gradients keep their angle."""
    config = ncsim.EnsembleConfig(hidden=2)
    architecture = Architecture.of(config)
    dead = architecture.split(np.zeros(architecture.size, np.float32))
    dead = dead._replace(hidden_bias=np.full(2, -1, np.float32), head_kernel=np.ones((2, 1, 2), np.float32))
    # Alive, and so weakly connected that the squares of its gradients underflow in float32.
    faint = dead._replace(hidden_bias=np.ones(2, np.float32), head_kernel=np.full((2, 1, 2), 1e-30, np.float32))
    faint.head_kernel[1] *= -1
    targets = context_targets(config.tasks)[3]
    targets[:4] = 1  # unbalanced: balanced answers send gradients that cancel
    vectors = np.stack([architecture.join(p) for p in (dead, faint)], axis=-1)
    found = jax.jit(lambda v: diagnostics(config, v, jnp.asarray(targets, jnp.float32)))(vectors)
    for name in SCALARS:
        assert float(getattr(found, name)[0]) == 0
    assert not np.any(found.neuron_cosine[:, 0])
    assert 0 < float(found.alice_norm[1]) < 1e-29
    assert float(found.magnitude_similarity[1]) > 0.5
    assert float(found.cosine[1]) < -0.5
    assert bool(found.conflict[1])
    assert float(found.neurons_in_conflict[1]) == 1


def test_oscillation_has_closed_forms():
    steps = np.arange(64)
    wave = 0.5 * np.cos(2 * np.pi * 8 * steps / 64)
    found = oscillation(np.stack([3 - 0.01 * steps, wave, np.full(64, 0.7), (-1.0) ** steps]))
    assert found.sign_changes.tolist() == [0, 15, 0, 62]
    np.testing.assert_allclose(found.peak_frequency, [0, 8 / 64, 0, 0.5])
    np.testing.assert_allclose(found.detrended_variance, [0, 0.125, 0, 1], atol=2e-3)
    np.testing.assert_allclose(found.peak_power, [0, 0.125, 0, 1], atol=2e-3)
    # A trend takes nothing from the wave but what of it looks like a trend, and the spectrum adds up (Parseval).
    trended = oscillation(wave + 5 - 0.2 * steps)
    np.testing.assert_allclose([*trended[:1], *trended[2:]], [f[1] for f in (found[0], *found[2:])], atol=1e-12)
    from ncsim.statistics.loss_traces import detrended, periodogram

    noise = np.random.default_rng(0).normal(size=(3, 33))
    np.testing.assert_allclose(periodogram(detrended(noise)).sum(-1), oscillation(noise).detrended_variance)
    pauses = np.array([0.0, 1, 1, 1, 0, 0, 1, 2])  # up, rest, down, rest, up
    assert oscillation(pauses).sign_changes == 2
    with pytest.raises(ValueError, match="3 points; allowed: 4 or more"):
        oscillation(np.zeros((2, 3)))
