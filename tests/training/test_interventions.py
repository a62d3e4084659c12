"""Interventions on the gradient, loss weights and training rows: against a reference, and against what theory says."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.ensemble import INTERVENTIONS, LATER_FIELDS, fingerprint, from_dict, to_dict
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.errors import StoreError
from ncsim.executors import pallas
from ncsim.executors.native import program as native
from ncsim.storage.config_file import CONFIG, CONFIG_COPY, FORMAT, described, description
from ncsim.storage.run_folder import RunFolder
from ncsim.training.gradients import gradient
from ncsim.training.initialization import initial_vector, member_key, row_tuples, row_weights, start_vector, vector_size
from ncsim.training.losses import LOSSES, head_losses, mean_loss
from ncsim.training.network import Architecture, backward, forward
from ncsim.training.observation import record
from ncsim.training.step import train
from tests.support import reference
from tests.support.cases import first_fast
from tests.support.training_losses import loss_of_heads, loss_value

pytestmark = pytest.mark.usefixtures("quickly")

CHANGES = [
    *({"intervention": name} for name in INTERVENTIONS if name != "none"),
    {"alice_weight": 0.25, "bob_weight": 2.0},
    {"bob_weight": 0.0},
    {"training_rows": 9, "intervention": "pcgrad", "alice_weight": 3.0},
    {"topology": "overlap", "hidden": 4, "intervention": "pcgrad", "encoding": "sign"},
]
CONTEXT = 3


@functools.partial(jax.jit, static_argnums=(0, 1))
def starts(config, lanes, seed=1, context=CONTEXT):
    root = jax.random.key(seed)
    start = jax.vmap(lambda member: start_vector(config, root, member, context), out_axes=-1)
    return start(jnp.arange(lanes, dtype=jnp.uint32))


def as_reference(config, vector):
    return reference.Network(*Architecture.of(config).split(np.asarray(vector, np.float64)))


def reference_options(config, vector):
    rows = row_weights(config, vector)
    return {
        "intervention": "none" if config.intervention == "separate_trunks" else config.intervention,
        "weights": (config.alice_weight, config.bob_weight),
        "rows": None if rows is None else np.flatnonzero(np.asarray(rows)),
    }


def masked(config, network):
    there = Architecture.of(config).connections()
    tensors = (network.w, network.b, network.v, network.c)
    return Architecture.of(config).join(there._make(np.where(m, t, 0.0) for m, t in zip(there, tensors, strict=True)))


@pytest.mark.parametrize(
    ("change", "loss"),
    first_fast([(CHANGES[4], "cross_entropy"), *((c, "bce") for c in CHANGES[:-1])], 1, slow=2),
    ids=str,
)
def test_gradient_is_the_reference_s(change, loss):
    """Eight networks side by side in float32, to 1e-5; conflicts among them, or PCGrad would have nothing to do."""
    config = ncsim.EnsembleConfig(**({"hidden": 3, "loss": loss, "initialization": "he"} | change))
    targets = context_targets(config.tasks)[CONTEXT]
    vectors = starts(config, 8, seed=3)
    found = jax.jit(lambda v: gradient(config, v, jnp.asarray(targets, jnp.float32)))(vectors)
    inputs = encoded_inputs(config.tasks, config.encoding)
    conflicts = 0
    for lane in range(8):
        network = as_reference(config, vectors[:, lane])
        options = reference_options(config, vectors[:, lane])
        expected = reference.intervened_gradient(network, loss, inputs, targets, **options)
        plain = reference.intervened_gradient(network, loss, inputs, targets, **(options | {"intervention": "none"}))
        conflicts += not np.allclose(plain.w, expected.w)
        np.testing.assert_allclose(found[:, lane], masked(config, expected), atol=1e-5)
    if config.intervention == "pcgrad":
        assert 0 < conflicts < 8


@pytest.mark.slow
def test_surgery_is_of_the_connections_that_exist():
    """Overlap: projected as if the parameters left out were not there at all, which a vector of theirs alone shows."""
    config = ncsim.EnsembleConfig(hidden=4, topology="overlap", intervention="pcgrad", shared=2, initialization="he")
    architecture = Architecture.of(config)
    targets = jnp.asarray(context_targets(config.tasks)[CONTEXT], jnp.float32)
    vectors = starts(config, 16, seed=5)
    there = architecture.join(architecture.connections())
    trunk = np.arange(len(there)) < 5 * 4

    def one_sided(intervention):
        return np.asarray(
            gradient(dataclasses.replace(config, intervention=intervention), vectors, targets), np.float64
        )

    alice, bob = (np.where(there & trunk, one_sided(f"stop_gradient_{p}").T, 0) for p in ("bob", "alice"))
    products = np.sum(alice * bob, axis=1, keepdims=True)
    assert 0 < np.sum(products < 0) < 16
    off = [np.where(products < 0, products / np.sum(g * g, axis=1, keepdims=True), 0) for g in (bob, alice)]
    expected = alice - off[0] * bob + bob - off[1] * alice
    np.testing.assert_allclose(one_sided("pcgrad").T * trunk, expected, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    first_fast([CHANGES[0], {"intervention": "separate_trunks"}, *CHANGES[1:3], *CHANGES[4:-1]], 1, slow=1),
    ids=str,
)
def test_training_follows_the_reference(change):
    """Float64, 200 Adam steps: parameters to 1e-5, most to far less. Every change has its gradient compared above."""
    config = ncsim.EnsembleConfig(**({"hidden": 3, "precision": "float64", "initialization": "he"} | change))
    inputs, targets = encoded_inputs(config.tasks, config.encoding), context_targets(config.tasks)[CONTEXT]
    with jax.enable_x64(True):
        vector = np.asarray(starts(config, 1, seed=2)[:, 0], np.float64)
        trained = np.asarray(jax.jit(lambda v: train(config, v, jnp.asarray(targets), 0.01, 200))(vector))
    start, options = as_reference(config, vector), reference_options(config, vector)
    if config.intervention == "separate_trunks":
        # Each head with its half of the units is a network of its own, which no other head trains.
        ours = Architecture.of(config).split(trained)
        for head, units in enumerate((slice(0, 3), slice(3, 6))):
            weights = (1.0 - head, float(head))
            alone = reference.Network(start.w[:, units], start.b[units], start.v[:, :, units], start.c)
            reference.train_intervened(alone, 200, 0.01, "bce", inputs, targets, weights=weights)
            np.testing.assert_allclose(ours.hidden_kernel[:, units], alone.w, atol=1e-5)
            np.testing.assert_allclose(ours.head_kernel[head][:, units], alone.v[head], atol=1e-5)
        return
    network = reference.train_intervened(start, 200, 0.01, "bce", inputs, targets, **options)
    np.testing.assert_allclose(trained[: Architecture.of(config).size], masked(config, network), atol=1e-5)
    assert np.max(np.abs(trained - vector)) > 0.1
    np.testing.assert_array_equal(trained[Architecture.of(config).size :], vector[Architecture.of(config).size :])


def test_a_config_without_interventions_is_what_it_was():
    """The gradient bit for bit as forward and backward give it, and the names of runs stored before the fields came."""
    config = ncsim.EnsembleConfig()
    targets = jnp.asarray(context_targets(config.tasks)[CONTEXT], jnp.float32)
    vectors = starts(config, 64)
    assert vector_size(config) == Architecture.of(config).size == len(vectors)
    expected = jax.jit(lambda root: initial_vector(member_key(root, 5, CONTEXT, False), config))(jax.random.key(1))
    np.testing.assert_array_equal(vectors[:, 5], expected)

    def directly(v):
        parameters, rows = Architecture.of(config).split(v), row_tuples(config)
        hidden, logits = forward(parameters, rows)
        residuals = LOSSES["bce"].residual(logits, targets[..., None]) * (1 / 16)
        return Architecture.of(config).join(backward(parameters, hidden, residuals, rows))

    by_gradient = jax.jit(lambda v: gradient(config, v, targets))(vectors)
    np.testing.assert_array_equal(by_gradient, jax.jit(directly)(vectors))
    assert fingerprint(config) == "c68b50e4e07f39fd"
    assert fingerprint(ncsim.EnsembleConfig(topology="overlap", hidden=4)) == "28bfb85e84a6484e"
    assert fingerprint(ncsim.EnsembleConfig(intervention="pcgrad")) != fingerprint(config)
    stored = {name: value for name, value in to_dict(config).items() if name not in LATER_FIELDS}
    assert from_dict(json.loads(json.dumps(stored))) == config


@pytest.mark.parametrize("form", [1, FORMAT])
def test_a_run_stored_before_the_fields_came_is_taken_up_again(tmp_path, form):
    """Also one from before config.json had a checksum and a copy."""
    config = ncsim.EnsembleConfig(members=4, steps=2)
    RunFolder.create(tmp_path, [config], training=lambda: {"device": "one of then"})
    stored = description((tmp_path / CONFIG).read_bytes()) | {"format": form}
    del stored["checksum"]
    for name in LATER_FIELDS:
        del stored["cells"][0][name]
    content = described(stored)
    (tmp_path / CONFIG).write_bytes(content)
    (tmp_path / CONFIG_COPY).unlink()
    RunFolder.create(tmp_path, [config], training=lambda: {"device": "another"})
    assert (tmp_path / CONFIG).read_bytes() == content
    assert (tmp_path / CONFIG_COPY).exists() == (form == FORMAT)


def test_frozen_trunk_stays_also_under_weight_decay():
    config = ncsim.EnsembleConfig(optimizer="adamw", optimizer_options="weight_decay=0.1", intervention="frozen_trunk")
    vector = starts(config, 1)[:, 0]
    before = Architecture.of(config).split(vector)
    targets = jnp.asarray(context_targets(config.tasks)[0], jnp.float32)
    after = Architecture.of(config).split(jax.jit(lambda v: train(config, v, targets, 0.01, 5))(vector))
    np.testing.assert_array_equal(after.hidden_kernel, before.hidden_kernel)
    np.testing.assert_array_equal(after.hidden_bias, before.hidden_bias)
    assert np.all(after.head_kernel != before.head_kernel)


@pytest.mark.parametrize(
    "changes", [{"training_rows": 5}, {"alice_weight": 0.0}, {"training_rows": 5, "alice_weight": 0.0}], ids=str
)
def test_what_does_not_count_makes_no_loss_nan(changes):
    """The square of a logit above 1.8e19 is infinite in float32, and 0 times it is NaN: the network was the worst of all by its loss."""
    config = ncsim.EnsembleConfig(loss="squared_error", **changes)
    targets = jnp.asarray(context_targets(config.tasks)[CONTEXT], jnp.float32)
    used = jnp.asarray(np.arange(16) < 5, jnp.float32) if config.training_rows else None
    logits = np.full((16, 2), 3.0, np.float32)  # of rows and heads that are trained on
    if config.training_rows:
        logits[5:] = 1e30
    if config.alice_weight == 0:
        logits[:, 0] = -1e30
    counted, answers = slice(0, config.training_rows or 16), 2 * np.asarray(targets) - 1
    squares = (logits.astype(np.float64)[counted] - answers[counted]) ** 2
    weights = [config.alice_weight, config.bob_weight]
    expected = sum(weight * squares[:, head].mean() for head, weight in enumerate(weights) if weight)
    assert float(mean_loss(config, logits, targets, used)) == pytest.approx(expected, rel=1e-6)
    if config.training_rows:
        np.testing.assert_allclose(head_losses(config, logits, targets, used)[1], squares[:, 1].mean(), rtol=1e-6)


def test_losses_count_weights_and_rows():
    config = ncsim.EnsembleConfig(training_rows=5, alice_weight=2.0, bob_weight=0.5, loss="squared_error")
    vectors = starts(config, 6)
    targets = context_targets(config.tasks)[CONTEXT]
    rows = np.asarray(row_weights(config, vectors))
    assert np.all(rows.sum(axis=0) == 5)
    assert len({tuple(lane) for lane in rows.T}) > 1  # each member its own
    other_context = starts(config, 6, context=0)[:, 2]
    np.testing.assert_array_equal(row_weights(config, other_context), rows[:, 2])  # and one for all contexts
    inputs = encoded_inputs(config.tasks, config.encoding)
    answers = jnp.asarray(targets, jnp.float32)
    measured = jax.jit(
        lambda v: (record(config, v, answers), loss_of_heads(config, v, answers), loss_value(config, v, answers))
    )
    kept, heads, value = measured(vectors)
    for lane in range(6):
        network = as_reference(config, vectors[:, lane])
        expected, right = np.zeros(2), np.zeros(4, int)
        for row in np.flatnonzero(rows[:, lane]):
            _, outputs = network.forward(inputs[row])
            expected += [reference.loss_and_slope("squared_error", outputs[h], targets[row][h])[0] / 5 for h in (0, 1)]
            alice, bob = ((outputs[h][0] > 0) == bool(targets[row][h]) for h in (0, 1))
            right[2 * alice + bob] += 1
        np.testing.assert_allclose(heads[:, lane], expected, rtol=1e-5)
        assert float(kept.loss[lane]) == pytest.approx(2 * expected[0] + 0.5 * expected[1], rel=1e-5)
        assert kept.training_counts[:, lane].tolist() == right.tolist()
    assert np.all(np.asarray(kept.counts).sum(axis=0) == 16)
    np.testing.assert_allclose(value, kept.loss, rtol=1e-6)


def losses_after(training, config, vectors, steps=20):
    targets = jnp.asarray(context_targets(config.tasks)[CONTEXT], jnp.float32)

    def run(v):
        v = training(config, v, targets, jnp.float32(0.01), jnp.int32(steps))
        return loss_value(config, v, targets)

    return np.asarray(jax.jit(run)(vectors))


@pytest.mark.parametrize(
    "change", first_fast([CHANGES[-2], *(c for c in CHANGES if c != CHANGES[-2])], 0, slow=1), ids=str
)
def test_generated_c_trains_the_same(change):
    config = ncsim.EnsembleConfig(**({"hidden": 2} | change))
    if native.unsupported(config):
        pytest.skip(str(native.unsupported(config)))
    vectors = starts(config, 16)
    generated = losses_after(native.training(native.shape(config)), config, vectors)
    by_xla = losses_after(train, config, vectors)
    np.testing.assert_allclose(generated, by_xla, atol=1e-4)
    assert np.all(np.abs(by_xla - losses_after(train, config, vectors, 0)) > 1e-4)


@pytest.mark.parametrize("change", first_fast(CHANGES[::2], 0, slow=1), ids=str)
def test_the_kernel_trains_the_same(change):
    config = ncsim.EnsembleConfig(**({"hidden": 2} | change))
    vectors = starts(config, 64)
    kernel = losses_after(pallas.training("cpu"), config, vectors, 5)
    np.testing.assert_allclose(kernel, losses_after(train, config, vectors, 5), atol=1e-5)


@pytest.mark.slow
def test_training_rows_are_stored_and_read(tmp_path):
    config = ncsim.EnsembleConfig(hidden=2, members=70, steps=30, training_rows=6)
    run = ncsim.run_ensemble(config, out=tmp_path / "run", executor="xla")
    records = ncsim.open_run(tmp_path / "run").records()
    in_memory = ncsim.run_ensemble(dataclasses.replace(config, first_member=30, members=8), executor="xla").records()
    np.testing.assert_array_equal(in_memory.training_counts, records.training_counts[30:38])
    assert np.all(records.training_joint.sum((-1, -2)) == 6)
    assert np.all(records.held_out_joint.sum((-1, -2)) == 10)
    assert np.all(records.held_out_joint >= 0)
    assert run.table().column_names[-1] == "training_counts"
    part = next((tmp_path / "run" / "parts").glob("*.parquet"))
    broken = records._replace(training_counts=records.training_counts[:, :, ::-1] * 0)
    part.unlink()
    RunFolder.open(tmp_path / "run").write_part(config, broken)
    with pytest.raises(StoreError, match="training counts that do not add up"):
        ncsim.open_run(tmp_path / "run").records()


@pytest.mark.slow
def test_frozen_trunk_leaves_no_influence():
    """Given the trunk, a head's training has nothing of the other's task in it. From a common start: influence 0 and
    accuracies equal, exactly. Control: without intervention they are not."""
    config = ncsim.EnsembleConfig(hidden=2, members=64, steps=60, common_initialization=True, learning_rate=0.05)
    for intervention in ("frozen_trunk", "separate_trunks"):
        run = ncsim.run_ensemble(dataclasses.replace(config, intervention=intervention), executor="xla")
        found = run.statistics()
        assert not np.any(found.influence)
        assert np.max(found.s_factorised) <= 2
    assert np.mean(ncsim.run_ensemble(config, executor="xla").statistics().influence > 0) > 0.2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"intervention": "pc_grad"}, "--intervention: 'pc_grad'; allowed: none, stop_gradient_alice"),
        ({"alice_weight": 0.0, "bob_weight": 0.0}, "--alice-weight: 0.0 with --bob-weight 0.0; allowed: at least one"),
        ({"bob_weight": -1.0}, "--bob-weight: -1.0; allowed: a finite number, 0 or above"),
        ({"alice_weight": float("inf")}, "--alice-weight: inf; allowed"),
        ({"training_rows": 17}, r"--training-rows: 17; allowed: 0 \(all\) to 16"),
        ({"training_rows": -1}, "--training-rows: -1; allowed: a whole number from 0 to 64"),
        (
            {"intervention": "separate_trunks", "topology": "overlap"},
            "separate_trunks with --topology overlap; allowed",
        ),
    ],
)
def test_what_no_run_can_have(fields, message):
    with pytest.raises(ncsim.ConfigError, match=message):
        ncsim.EnsembleConfig(**fields)
