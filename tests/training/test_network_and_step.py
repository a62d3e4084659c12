"""The network's mathematics against autodiff, against Flax, and against a reference written from the paper."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.errors import ConfigError
from ncsim.training.flax_module import NCnet
from ncsim.training.gradients import gradient
from ncsim.training.initialization import initial_vector, member_key, root_key, row_tuples
from ncsim.training.network import Architecture
from ncsim.training.observation import record
from ncsim.training.optimizers import make_optimizer, validate_optimizers
from ncsim.training.step import train
from tests.support import reference
from tests.support.cases import first_fast
from tests.support.training_losses import loss_value

pytestmark = pytest.mark.usefixtures("quickly")

LOSSES = ("bce", "squared_error", "cross_entropy")
INITIALIZATIONS = ("uniform", "he", "lecun", "normal")


@functools.partial(jax.jit, static_argnums=0)
def start_vector(config, seed=0):
    return initial_vector(jax.random.key(seed), config)


RECORD = jax.jit(record, static_argnums=0)


def as_reference(config, vector):
    p = Architecture.of(config).split(np.asarray(vector, np.float64))
    return reference.Network(p.hidden_kernel, p.hidden_bias, p.head_kernel, p.head_bias)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("topology", "encoding"), first_fast([("overlap", "sign"), ("dense", "binary")]))
def test_gradient_is_that_of_autodiff(loss, topology, encoding):
    config = ncsim.EnsembleConfig(hidden=5, loss=loss, topology=topology, encoding=encoding, precision="float64")
    with jax.enable_x64(True):
        vector = start_vector(config, 3).astype(jnp.float64)
        targets = jnp.asarray(context_targets(config.tasks)[3])
        by_hand, by_autodiff = jax.jit(
            lambda v: (gradient(config, v, targets), jax.grad(lambda v: loss_value(config, v, targets))(v))
        )(vector)
        architecture = Architecture.of(config)
        there = architecture.join(architecture.connections())
        np.testing.assert_allclose(by_hand, np.where(there, by_autodiff, 0), atol=1e-14)


def test_flax_module_is_the_same_network():
    config = ncsim.EnsembleConfig(hidden=4, encoding="sign")
    inputs = encoded_inputs(config.tasks, config.encoding).astype(np.float32)
    module = NCnet(config)
    variables = jax.jit(module.init)(jax.random.key(5), inputs)
    assert set(variables["params"]) == {"hidden_kernel", "hidden_bias", "head_kernel", "head_bias"}
    p = variables["params"]
    hidden = np.maximum(inputs @ p["hidden_kernel"] + p["hidden_bias"], 0)
    expected = hidden @ np.asarray(p["head_kernel"])[:, 0].T + np.asarray(p["head_bias"])[:, 0]
    apply = jax.jit(module.apply)
    np.testing.assert_allclose(apply(variables, inputs), expected, atol=1e-6)
    vector = start_vector(config, 8)
    logits = apply(NCnet.variables(config, vector), inputs)
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    right = (np.asarray(logits) > 0) == (targets > 0)
    counts = RECORD(config, vector, targets).counts
    assert counts[3] == np.sum(right.all(axis=1))


@pytest.mark.parametrize(
    "change", [{"topology": "overlap", "shared": 1}, {"intervention": "separate_trunks"}], ids=["overlap", "separate"]
)
def test_flax_module_trained_by_its_user_is_trained_as_a_member(change):
    """Also connections that are not there: they had got a gradient, so that the network grew into a dense one."""
    config = ncsim.EnsembleConfig(hidden=3, optimizer="sgd", **change)
    inputs = encoded_inputs(config.tasks, config.encoding).astype(np.float32)
    targets = jnp.asarray(context_targets(config.tasks)[3], jnp.float32)
    module, vector = NCnet(config), start_vector(config, 8)

    def loss(variables):
        logits = module.apply(variables, inputs)
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=0).sum()

    slope = jax.jit(jax.grad(loss))
    variables = NCnet.variables(config, vector)
    for _ in range(5):
        variables = jax.tree.map(lambda p, g: p - 0.5 * g, variables, slope(variables))
    expected = jax.jit(lambda v: train(config, v, targets, 0.5, 5))(vector)
    architecture = Architecture.of(config)
    for name, tensor in architecture.split(expected)._asdict().items():
        np.testing.assert_allclose(variables["params"][name], tensor, atol=1e-5)
    left_out = ~architecture.join(architecture.connections())
    assert left_out.any()
    assert not np.asarray(architecture.join(architecture.split(expected)))[left_out].any()


@pytest.mark.parametrize("loss", first_fast(LOSSES))
def test_training_follows_the_reference_for_every_loss_and_initialization(loss):
    """Float64, 200 Adam steps from the same start, one network a loss and initialisation: parameters to 1e-9."""
    base = ncsim.EnsembleConfig(hidden=3, loss=loss, precision="float64", topology="dense")
    rows = encoded_inputs(base.tasks, base.encoding)
    with jax.enable_x64(True):
        run = jax.jit(functools.partial(train, base))
        for number, initialization in enumerate(INITIALIZATIONS):
            config = dataclasses.replace(base, initialization=initialization)
            targets = context_targets(config.tasks)[number]
            vector = np.asarray(start_vector(config, number), np.float64)
            trained = run(vector, jnp.asarray(targets), 0.01, 200)
            network = reference.train_adam(as_reference(config, vector), loss, rows, targets.astype(int), 0.01, 200)
            p = Architecture.of(config).split(np.asarray(trained))
            for ours, theirs in zip(p, (network.w, network.b, network.v, network.c), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-9, rtol=0)
            assert np.max(np.abs(np.asarray(trained) - vector)) > 0.1  # it did move
            reference_loss, _ = reference.loss_and_gradient(network, loss, rows, targets.astype(int))
            assert abs(float(loss_value(config, trained, jnp.asarray(targets))) - reference_loss) < 1e-9


def test_initializations_have_their_scales():
    """Standard deviations over 4,000 networks, each within 3 % (its own error is below 1 %)."""
    for name, weight, bias in (
        ("uniform", 1 / np.sqrt(3 * 4), 1 / np.sqrt(3 * 4)),
        ("he", np.sqrt(2 / 4), 1 / np.sqrt(3 * 4)),
        ("lecun", np.sqrt(1 / 4), 1 / np.sqrt(3 * 4)),
        ("normal", 1.0, 1 / np.sqrt(3 * 4)),
    ):
        config = ncsim.EnsembleConfig(hidden=3, initialization=name)
        keys = jax.random.split(jax.random.key(1), 4000)
        start = jax.jit(jax.vmap(lambda k, c=config: initial_vector(k, c), out_axes=-1))
        p = Architecture.of(config).split(np.asarray(start(keys)))
        assert np.std(p.hidden_kernel) == pytest.approx(weight, rel=0.03)
        assert np.std(p.hidden_bias) == pytest.approx(bias, rel=0.03)
        if name == "uniform":
            assert np.max(np.abs(p.hidden_kernel)) <= 0.5
            assert np.std(p.head_kernel) == pytest.approx(1 / 3, rel=0.03)
    config = ncsim.EnsembleConfig(bias_initialization="zeros", initialization_scale=2.0)
    p = Architecture.of(config).split(np.asarray(start_vector(config)))
    assert not np.any(p.hidden_bias)
    assert np.max(np.abs(p.hidden_kernel)) > 0.5


def test_a_root_key_has_all_64_bits_of_its_seed():
    for seed in (0, 5, 2**32 - 1):
        assert jax.random.key_data(root_key(seed)).tolist() == jax.random.key_data(jax.random.key(seed)).tolist()
    with jax.enable_x64(True):
        wide = [jax.random.key_data(jax.random.key(seed)).tolist() for seed in (5 + 2**32, 2**63 - 1)]
    assert [jax.random.key_data(root_key(seed)).tolist() for seed in (5 + 2**32, 2**63 - 1)] == wide
    assert jax.random.key_data(root_key(2**64 - 1)).tolist() == [2**32 - 1] * 2
    with jax.default_prng_impl("rbg"):
        assert jax.random.key_data(root_key(5)).tolist() == [0, 5]


def test_overlap_is_two_xornets_that_share_units():
    config = ncsim.EnsembleConfig(hidden=3, topology="overlap", shared=1)
    there = Architecture.of(config).connections()
    assert there.hidden_kernel.astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1]]
    assert there.head_kernel[:, 0].astype(int).tolist() == [[1, 1, 0], [0, 1, 1]]
    vector = start_vector(config)
    trained = train(config, vector, jnp.asarray(context_targets(config.tasks)[3], jnp.float32), 0.01, 20)
    mask = Architecture.of(config).join(there)
    assert not np.any(np.asarray(trained)[~mask])
    assert np.mean(np.asarray(trained)[mask] != np.asarray(vector)[mask]) > 0.5  # all but dead units
    # No unit shared: neither head's answer depends on the other party's features.
    apart = Architecture.of(ncsim.EnsembleConfig(hidden=4, topology="overlap", shared=0)).connections()
    assert not np.any(apart.hidden_kernel[:2] & apart.hidden_kernel[2:])


@pytest.mark.parametrize(
    "optimizer",
    first_fast(
        ["adam", "lamb", *sorted({*ELEMENTWISE_OPTIMIZERS, *LAYERWISE_OPTIMIZERS} - {"adam", "lamb"})], 2, slow=4
    ),
)
def test_every_optimizer_treats_lanes_as_networks_of_their_own(optimizer):
    """Three steps of two networks side by side, against optax on each network's own four tensors."""
    config = ncsim.EnsembleConfig(hidden=2, optimizer=optimizer)
    architecture = Architecture.of(config)
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    vectors = jnp.stack([start_vector(config, seed) for seed in range(2)], axis=-1)
    gradients = jax.jit(lambda v: gradient(config, v, targets))(vectors)

    @jax.jit
    def run():
        transform, alone = make_optimizer(config, 0.01), getattr(optax, optimizer)(0.01)
        side_by_side, state = vectors, transform.init(vectors)
        trees = [architecture.split(vectors[:, lane]) for lane in range(2)]
        states = [alone.init(tree) for tree in trees]
        for step in range(3):
            g = gradients * (1 + step)
            updates, state = transform.update(g, state, side_by_side)
            side_by_side = optax.apply_updates(side_by_side, updates)
            for lane in range(2):
                updates, states[lane] = alone.update(architecture.split(g[:, lane]), states[lane], trees[lane])
                trees[lane] = optax.apply_updates(trees[lane], updates)
        return side_by_side, jnp.stack([architecture.join(tree) for tree in trees], axis=-1)

    side_by_side, one_by_one = run()
    np.testing.assert_allclose(side_by_side, one_by_one, atol=2e-6)
    assert not np.allclose(side_by_side, vectors, atol=1e-6)


def test_optimizer_options():
    config = ncsim.EnsembleConfig(optimizer="sgd", optimizer_options="momentum=0.9, nesterov=true")
    vector = jnp.ones(3)
    state = make_optimizer(config, 0.1).init(vector)
    assert any(np.shape(leaf) == (3,) for leaf in jax.tree.leaves(state))  # a momentum buffer
    with pytest.raises(ncsim.ConfigError, match="sgd has no 'momentm'; allowed: momentum"):
        make_optimizer(ncsim.EnsembleConfig(optimizer="sgd", optimizer_options="momentm=0.9"), 0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"topology": "overlap", "hidden": 3, "shared": 1},
        {"intervention": "separate_trunks"},
        {"bob_weight": 0.0, "precision": "float64"},
    ],
)
def test_what_has_no_gradient_is_left_where_it_is(fields):
    """Every network diverged by 0 / 0 of connections that are not there, or of the head that is not trained."""
    for optimizer in ("adam", "rmsprop", "adamax"):
        config = ncsim.EnsembleConfig(optimizer=optimizer, optimizer_options="eps=0", **fields)
        with pytest.raises(ncsim.ConfigError, match=f"{optimizer} with eps=0; a step from 0 with a gradient of 0"):
            validate_optimizers([config])
        validate_optimizers([dataclasses.replace(config, optimizer_options="eps=1e-6")])
    validate_optimizers([ncsim.EnsembleConfig(optimizer_options="eps=0")])
    validate_optimizers([ncsim.EnsembleConfig(optimizer="adamw", optimizer_options="weight_decay=0.1", **fields)])
    validate_optimizers([ncsim.EnsembleConfig(optimizer="sgd", optimizer_options="momentum=0.9", **fields)])


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("lamb", marks=pytest.mark.slow)])
def test_what_makes_dead_units_no_numbers_is_said_once(optimizer, capsys):
    """Networks diverged by it, and nothing said why."""
    grid = {"hidden": [2, 3], "learning_rate": [0.01, 0.1], "optimizer": optimizer}
    validate_optimizers(ncsim.config_grid(**grid, optimizer_options="eps=0"))
    assert capsys.readouterr().err == (
        f"ncsim: --optimizer-options: {optimizer} with eps=0; a step is 0 / 0 where a gradient is 0, as of a unit that no input switches "
        "on, and such a network counts as diverged\n"
    )
    validate_optimizers(ncsim.config_grid(**grid, optimizer_options="eps=1e-4"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("optimizer", "options", "problem"),
    [
        ("adam", "b1=1", "step 1 of usual gradients is no number"),
        ("amsgrad", "b1=-1", "step 2 of usual gradients is no number"),
        ("radam", "threshold=1", "step 3 of usual gradients is no number"),
        ("radam", "eps_root=-1", "step 6 of usual gradients is no number"),
        ("radam", "b2=1", "float division by zero"),
        ("signum", "beta=1", "no step moves anything"),
        ("adadelta", "eps=0", "no step moves anything"),
        ("lars", "trust_coefficient=0", "no step moves anything"),
    ],
)
def test_options_that_train_no_network_are_refused(optimizer, options, problem):
    """Every network diverged, stayed where it began, or was a traceback; of Adam's b1=1 it was said that dead units do that."""
    with pytest.raises(ncsim.ConfigError, match=rf"^--optimizer-options: .*{optimizer}.*{problem}.*$"):
        validate_optimizers([ncsim.EnsembleConfig(optimizer=optimizer, optimizer_options=options)])


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", "b1=0,b2=0"),
        ("adabelief", "b1=0.5,eps_root=0"),
        ("optimistic_gradient_descent", "alpha=0"),
        ("rprop", "eta_plus=1"),
        ("rmsprop", "decay=0,centered=true"),
        ("sgd", "momentum=1"),
        ("adafactor", "min_dim_size_to_factor=1,weight_decay_rate=0.01"),
    ],
)
def test_options_at_the_edge_that_train_are_taken(optimizer, options):
    validate_optimizers([ncsim.EnsembleConfig(optimizer=optimizer, optimizer_options=options)])


@pytest.mark.parametrize("weights", [[0.0, 1.0], [1.0, 0.0]])
def test_of_a_grid_each_cell_is_looked_at_for_what_has_no_gradient(weights):
    """Of cells that differ in their weights alone the last was looked at: before one of 1, that of 0 trained and every network diverged."""
    with pytest.raises(ncsim.ConfigError, match="--alice-weight 0 leaves"):
        validate_optimizers(ncsim.config_grid(alice_weight=weights, optimizer_options=["eps=0"]))


def test_an_optimizer_without_options_says_so():
    with pytest.raises(ncsim.ConfigError, match=r"sign_sgd has no 'momentum'; allowed: no option$"):
        make_optimizer(ncsim.EnsembleConfig(optimizer="sign_sgd", optimizer_options="momentum=0.9"), 0.1)


def test_keys_fold_member_then_context():
    root = jax.random.key(7)
    expected = jax.random.fold_in(jax.random.fold_in(root, 12), 3)
    assert jax.random.key_data(member_key(root, 12, 3, False)).tolist() == jax.random.key_data(expected).tolist()
    common = jax.random.fold_in(jax.random.key(7), 12)
    assert jax.random.key_data(member_key(root, 12, 3, True)).tolist() == jax.random.key_data(common).tolist()


def test_record_by_hand():
    """A network whose logits are chosen: units copy X1 and X3, so that heads answer X1 and X3."""
    config = ncsim.EnsembleConfig(hidden=2)
    architecture = Architecture.of(config)
    kernel = np.zeros((4, 2), np.float32)
    kernel[0, 0] = kernel[2, 1] = 1.0
    heads = np.zeros((2, 1, 2), np.float32)
    heads[0, 0, 0] = heads[1, 0, 1] = 2.0
    p = architecture.split(jnp.zeros(architecture.size))._replace(hidden_kernel=kernel, head_kernel=heads)
    bias = np.array([[-1.0], [-0.005]], np.float32)  # Bob's answer is undecided where X3 is 0
    vector = jnp.asarray(architecture.join(p._replace(hidden_bias=np.zeros(2, np.float32), head_bias=bias)))
    solved = RECORD(config, vector, context_targets(config.tasks)[0])
    assert solved.counts.tolist() == [0, 0, 0, 16]
    assert (int(solved.undecided_alice), int(solved.undecided_bob), int(solved.decided_product)) == (0, 8, 8)
    assert float(solved.margin) == pytest.approx(0.005)
    half = RECORD(config, vector, context_targets(config.tasks)[3])  # X1 for X1 xor X2: right on half of the rows
    assert half.counts.tolist() == [4, 4, 4, 4]
    assert not bool(half.diverged)
    broken = RECORD(config, vector.at[0].set(jnp.nan), context_targets(config.tasks)[0])
    assert bool(broken.diverged)
    assert broken.counts.tolist() == [0, 0, 0, 0]
    assert int(broken.undecided_bob) == 0


def test_rows_are_python_numbers():
    assert all(type(value) is float for row in row_tuples(ncsim.EnsembleConfig()) for value in row)


@pytest.mark.parametrize("length", [0, 22, 24, 30, 23 + 16])
def test_a_vector_of_another_config_is_no_network(length):
    """One of four units was taken for one of three, and its first 23 numbers were read in the wrong places."""
    with pytest.raises(ConfigError, match=rf"^vector: shape \({length},\); allowed: \[23\], weights and biases"):
        NCnet.variables(ncsim.EnsembleConfig(hidden=3), np.zeros(length))
    assert NCnet.variables(ncsim.EnsembleConfig(hidden=3, training_rows=8), np.zeros(39))["params"][
        "head_bias"
    ].shape == (
        2,
        1,
    )
    with pytest.raises(ConfigError, match=r"allowed: \[23\] or \[39\], weights"):
        NCnet.variables(ncsim.EnsembleConfig(hidden=3, training_rows=8), np.zeros(24))


@pytest.mark.parametrize("shape", [(16, 3), (2, 8), (8, 2), (0, 7), (1, 0), ()], ids=str)
def test_inputs_of_other_features_are_one_line(shape):
    config = ncsim.EnsembleConfig(hidden=3)
    with pytest.raises(ConfigError) as caught:
        NCnet(config).apply(NCnet.variables(config, np.zeros(23)), np.zeros(shape, np.float32))
    assert str(caught.value) == f"inputs: shape {shape}; allowed: [..., 4], a number per input"
    with pytest.raises(ConfigError) as caught:
        NCnet(3).apply({}, np.zeros((1, 4), np.float32))
    assert str(caught.value) == "config: 3; allowed: an ncsim.EnsembleConfig"
