"""Three heads and more: gradient, training and records against autodiff and the reference, and two heads as they were."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.training.flax_module import NCnet
from ncsim.training.gradients import gradient
from ncsim.training.initialization import initial_vector, vector_size
from ncsim.training.network import Architecture
from ncsim.training.observation import record_of_logits, record_scenario
from ncsim.training.step import train
from tests.support import reference
from tests.support.cases import first_fast
from tests.support.scenarios import THREE
from tests.support.tasks import FOUR_ROWS
from tests.support.training_losses import loss_value

pytestmark = pytest.mark.usefixtures("quickly")

LOSSES = first_fast(["bce", "cross_entropy", "squared_error"])


def start(config, seed=0):
    return jax.jit(lambda key: initial_vector(key, config))(jax.random.key(seed))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_three_heads_is_that_of_autodiff(loss):
    config = ncsim.EnsembleConfig(hidden=3, loss=loss, precision="float64", tasks=THREE)
    with jax.enable_x64(True):
        vector = start(config, 3).astype(jnp.float64)
        targets = jnp.asarray(context_targets(config.tasks)[5])
        by_hand, by_autodiff = jax.jit(
            lambda v: (gradient(config, v, targets), jax.grad(lambda v: loss_value(config, v, targets))(v))
        )(vector)
        np.testing.assert_allclose(by_hand, by_autodiff, atol=1e-14)
        assert np.abs(by_hand).max() > 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_three_heads_train_and_answer_as_the_reference(loss):
    """Float64, 100 steps: parameters, losses and which heads are right."""
    config = ncsim.EnsembleConfig(hidden=3, loss=loss, precision="float64", tasks=THREE)
    architecture = Architecture.of(config)
    assert architecture.size == 3 * 3 + 3 + 3 * architecture.logits * 4
    rows, targets = encoded_inputs(config.tasks, config.encoding), context_targets(config.tasks)[3]
    with jax.enable_x64(True):
        vector = np.asarray(start(config, 1), np.float64)
        trained = jax.jit(functools.partial(train, config))(vector, jnp.asarray(targets), 0.05, 100)
        found = jax.jit(record_scenario, static_argnums=0)(config, trained, jnp.asarray(targets))
    p = architecture.split(vector)
    network = reference.Network(p.hidden_kernel, p.hidden_bias, p.head_kernel, p.head_bias)
    reference.train_adam(network, loss, rows, targets.astype(int), 0.05, 100)
    for ours, theirs in zip(
        architecture.split(np.asarray(trained)), (network.w, network.b, network.v, network.c), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-9, rtol=0)
    counts, margin, near = np.zeros(8, int), np.inf, [0, 0, 0]
    for x, answers in zip(rows, targets.astype(int), strict=True):
        logits = [o[0] if len(o) == 1 else o[1] - o[0] for o in network.forward(x)[1]]
        right = [(z > 0) == bool(answer) for z, answer in zip(logits, answers, strict=True)]
        counts[int("".join(str(int(r)) for r in right), 2)] += 1
        margin = min(margin, *(z if answer else -z for z, answer in zip(logits, answers, strict=True)))
        near = [n + (abs(z) < config.undecided_tolerance) for n, z in zip(near, logits, strict=True)]
    assert found.counts.tolist() == counts.tolist()
    assert found.undecided.tolist() == near
    assert float(found.margin) == pytest.approx(margin, abs=1e-6)
    assert float(found.loss) == pytest.approx(
        reference.loss_and_gradient(network, loss, rows, targets.astype(int))[0], abs=1e-6
    )


def test_a_diverged_network_has_no_counts():
    config = ncsim.EnsembleConfig(hidden=1, tasks=THREE)
    vector = start(config).at[0].set(np.nan)
    targets = jnp.asarray(context_targets(config.tasks)[0], jnp.float32)
    found = jax.jit(record_scenario, static_argnums=0)(config, vector, targets)
    assert bool(found.diverged)
    assert not found.counts.any()
    assert not found.undecided.any()


def test_frozen_trunk_stays_where_it_began():
    config = ncsim.EnsembleConfig(hidden=2, tasks=THREE, intervention="frozen_trunk")
    vector = start(config)
    targets = jnp.asarray(context_targets(config.tasks)[0], jnp.float32)
    trained = jax.jit(functools.partial(train, config))(vector, targets, 0.05, 5)
    moved = np.asarray(trained != vector)
    assert not moved[: 2 * 4].any()
    assert moved[-3:].all()  # a unit may be dead, and its weights stay; biases do not


def test_the_module_has_a_logit_per_party():
    config = ncsim.EnsembleConfig(hidden=2, tasks=THREE)
    vector = start(config)
    logits = jax.eval_shape(NCnet(config).apply, NCnet.variables(config, vector), np.zeros((4, 2, 3), np.float32))
    assert logits.shape == (4, 2, 3)


@pytest.mark.parametrize(("tolerance", "undecided", "product"), [(0.25, (2, 1), -1), (0.0, (0, 0), -4)])
def test_an_answer_at_the_tolerance_is_decided(tolerance, undecided, product):
    """Undecided is what is below it, so that nothing is where it is 0; a logit of 0 answers 0."""
    config = ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS, undecided_tolerance=tolerance)
    logits = jnp.array([[0.25, -0.25], [0.24, 3.0], [0.0, 1.0], [-1.0, -0.2]], jnp.float32)
    # Right answers by hand, of Alice 0, 1, 0, 0 and of Bob 0, 0, 0, 1: she is wrong, right, right, right; he right, wrong, wrong, wrong.
    targets = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1]], jnp.float32)
    found = record_of_logits(config, jnp.zeros(vector_size(config)), logits, targets)
    assert (int(found.undecided_alice), int(found.undecided_bob)) == undecided
    assert found.counts.tolist() == [0, 1, 3, 0]
    assert int(found.decided_product) == product  # of the first row, or of all four
