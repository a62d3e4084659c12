"""Interventions isolate, with every optimiser: twins that differ only in what is Bob's train Alice to the same bits.

Twins have one start and one task, but for Bob's head, his own units where he has any, or his answers. Whatever is promised to
be Alice's alone must then be bit-equal after some steps; so must what is Bob's, with the parties exchanged.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS
from ncsim.config.tasks import context_targets
from ncsim.executors.native import program as native
from ncsim.training.initialization import initial_vector
from ncsim.training.network import Architecture
from ncsim.training.step import train
from tests.support.cases import first_fast
from tests.support.tasks import FOUR_ROWS

OPTIMIZERS = ELEMENTWISE_OPTIMIZERS + LAYERWISE_OPTIMIZERS
#: What promises isolation, and the parties whose change must not be seen by the other.
PROMISES = [
    ({"intervention": "frozen_trunk"}, (0, 1)),
    ({"intervention": "separate_trunks"}, (0, 1)),
    ({"topology": "overlap", "shared": 0, "hidden": 4}, (0, 1)),
    ({"intervention": "stop_gradient_alice"}, (0,)),
    ({"intervention": "stop_gradient_bob"}, (1,)),
    ({"alice_weight": 0.0}, (0,)),
    ({"bob_weight": 0.0}, (1,)),
]
#: Those that take connections away.
APART = [PROMISES[1], PROMISES[2]]
STEPS = 4


def parts_of(config, party):
    """Where in a vector [P] a party's own parameters are: its head and, where trunks are apart, its units."""
    architecture = Architecture.of(config)
    shapes, there = architecture.shapes, architecture.connections()
    own = [np.zeros(shape, bool) for shape in shapes]
    if architecture.separate or architecture.shared == 0:
        units = there.head_kernel[party, 0]
        own[0][:, units] = own[1][units] = True
    own[2][party] = own[3][party] = True
    return architecture.join(type(shapes)(*own))


def twins(config):
    """Starts [P, 5] and targets [R, 2, 5] of one network and its twins, two a party: the first is another in the party's own
    parameters, the second in the party's answers."""
    one, other = (np.array(initial_vector(key, config)) for key in jax.random.split(jax.random.key(4)))
    targets = context_targets(config.tasks)[1]
    starts, answers = [one], [targets]
    for party in (0, 1):
        flipped = targets.copy()
        flipped[:, party] = 1 - flipped[:, party]
        starts += [np.where(parts_of(config, party), other, one), one]
        answers += [targets, flipped]
    return np.stack(starts, axis=1).astype(np.float32), np.stack(answers, axis=2).astype(np.float32)


def made(optimizer, change):
    """The config, or None where it is refused in one line."""
    try:
        return ncsim.EnsembleConfig(**{"hidden": 2, "tasks": FOUR_ROWS, "optimizer": optimizer, **change})
    except ncsim.ConfigError as error:
        said = str(error)
    assert f"--optimizer: {optimizer} with --" in said
    assert "\n" not in said
    return None


def assert_isolated(config, parties, start, trained):
    """What is not a party's is bit for bit the same in its twins, and theirs are twins: what is the party's differs."""
    for party in parties:
        kept = ~parts_of(config, party)
        assert not np.array_equal(trained[kept, 0], start[kept, 0])
        for lane in (2 * party + 1, 2 * party + 2):
            np.testing.assert_array_equal(trained[kept, lane], trained[kept, 0])
        assert not np.array_equal(trained[~kept, 2 * party + 1], trained[~kept, 0])


LEVELS = (pytest.mark.slow, pytest.mark.thorough)
#: Adam with each promise in `make test`, every other optimiser with one of them in the slow tests.
CASES = [
    pytest.param(optimizer, *promise, marks=() if optimizer == "adam" else LEVELS[n % len(PROMISES) != m])
    for n, optimizer in enumerate(ELEMENTWISE_OPTIMIZERS)
    for m, promise in enumerate(PROMISES)
    if optimizer != "yogi" or promise not in APART
]
#: The generated step is XLA's, operation by operation: each optimiser with one promise, each promise with several.
BY_C = [
    (optimizer, *(PROMISES[n % len(PROMISES)] if optimizer != "yogi" else PROMISES[0]))
    for n, optimizer in enumerate(ELEMENTWISE_OPTIMIZERS)
]
#: Every optimiser once, on the executors and in the precisions in turn; and two refusals.
PLACES = [("native", "float32"), ("xla", "float64"), ("pallas", "float32")]
TRAINED = [(optimizer, *PLACES[n % len(PLACES)]) for n, optimizer in enumerate(ELEMENTWISE_OPTIMIZERS)]
TRAINED += [(optimizer, "xla", ("float32", "float64")[n % 2]) for n, optimizer in enumerate(LAYERWISE_OPTIMIZERS)]
#: In CI the refusals, one of each executor, and two that take norms; all are compared with optax's own updates there.
TRAINED = [
    *((LAYERWISE_OPTIMIZERS[0], executor, "float32") for executor in ("native", "pallas")),
    *TRAINED[: len(PLACES)],
    *TRAINED[-2:],
    *TRAINED[len(PLACES) : -2],
]


@pytest.mark.parametrize(("optimizer", "change", "parties"), CASES, ids=str)
def test_twins_by_xla(optimizer, change, parties):
    config = made(optimizer, change)
    start, targets = twins(config)
    run = jax.jit(lambda v, t: train(config, v, t, jnp.float32(0.05), jnp.int32(STEPS)))
    # Each twin fills a vector of the processor: what is left over of one is rounded by other instructions.
    trained = np.asarray(run(np.repeat(start, 64, axis=1), np.repeat(targets, 64, axis=-1)))
    assert_isolated(config, parties, start, trained[:, ::64])


@pytest.mark.parametrize(("change", "parties"), PROMISES, ids=str)
@pytest.mark.parametrize("optimizer", LAYERWISE_OPTIMIZERS)
def test_optimizers_that_take_norms_are_refused(optimizer, change, parties):
    assert made(optimizer, change) is None


@pytest.mark.parametrize(("change", "parties"), APART, ids=str)
def test_yogi_is_refused_where_connections_are_not_there(change, parties):
    """Its mean begins at 1e-6 (optax 0.2.8): a weight whose gradient is always 0 leaves 0, and joins what is apart."""
    assert made("yogi", change) is None


@pytest.mark.parametrize("optimizer", ["adam", "lamb"])
def test_without_an_intervention_twins_are_told_apart(optimizer):
    """The control: one head is moved by the other's start and answers, or the tests above would say nothing."""
    config = made(optimizer, {})
    start, targets = twins(config)
    run = jax.jit(lambda v, t: train(config, v, t, jnp.float32(0.05), jnp.int32(STEPS)))
    with pytest.raises(AssertionError):
        assert_isolated(config, (0, 1), start, np.asarray(run(start, targets)))


@pytest.mark.parametrize(("optimizer", "change", "parties"), first_fast(BY_C, 0, slow=5), ids=str)
def test_twins_by_generated_c(optimizer, change, parties):
    config = made(optimizer, change)
    if native.unsupported(config):
        pytest.skip(str(native.unsupported(config)))
    start, targets = twins(config)
    train_by_c = native.training(native.shape(config))
    lanes = np.repeat(start, 16, axis=1)  # as many as a vector has
    trained = [
        np.asarray(
            jax.jit(lambda v, t: train_by_c(config, v, t, jnp.float32(0.05), jnp.int32(STEPS)))(
                lanes, targets[..., twin]
            )
        )
        for twin in range(5)
    ]
    assert_isolated(config, parties, start, np.stack([trained[twin][:, 16 * twin] for twin in range(5)], axis=1))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_a_loop_over_a_mesh(optimizer, precision):
    """What a step gives is of the types of what it takes, also of JAX's over devices: else nothing trains."""
    config = ncsim.EnsembleConfig(hidden=2, tasks=FOUR_ROWS, optimizer=optimizer, precision=precision)
    mesh = jax.make_mesh((1,), ("members",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    with jax.enable_x64(precision == "float64"):
        targets, rate = jnp.asarray(context_targets(FOUR_ROWS)[0], precision), jnp.asarray(0.01, precision)
        run = jax.shard_map(
            lambda v: train(config, v, targets, rate, jnp.int32(3)),
            mesh=mesh,
            in_specs=PartitionSpec(None, "members"),
            out_specs=PartitionSpec(None, "members"),
        )
        size = Architecture.of(config).size
        assert jax.eval_shape(run, jax.ShapeDtypeStruct((size, 8), precision)).shape == (size, 8)


@pytest.mark.parametrize(("optimizer", "executor", "precision"), first_fast(TRAINED, 0, slow=7))
def test_every_optimizer_trains_or_is_refused(optimizer, executor, precision):
    """A few steps of every optimiser, on each executor and in each precision in turn: losses move and are finite, or one line says why not."""
    config = ncsim.EnsembleConfig(
        hidden=1, members=4, steps=5, tasks=FOUR_ROWS, optimizer=optimizer, precision=precision, learning_rate=0.05
    )
    try:
        after = ncsim.run_ensemble(config, executor=executor, devices=1).records().loss
    except ncsim.ConfigError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert executor != "xla"
        assert said.startswith(f"--executor: {executor} cannot train")
        return
    before = ncsim.run_ensemble(dataclasses.replace(config, steps=1), executor=executor, devices=1).records().loss
    assert np.all(np.isfinite(after))
    assert np.mean(after != before) > 0.9
