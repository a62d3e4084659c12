"""Separability of one network: twins against autodiff, against the chain rule by hand and against exact zeros; entropies, kernels and
curvature against closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS
from ncsim.config.tasks import PAPER_TASKS, context_targets
from ncsim.statistics.separability import gaussian_entanglement, gaussian_information, schmidt_entropy
from ncsim.training.initialization import initial_vector
from ncsim.training.losses import mean_loss
from ncsim.training.network import Architecture, forward
from ncsim.training.separability import (
    SIGN_OPTIMIZERS,
    cross_kernel,
    foreign_part,
    grid_of_rows,
    head_places,
    heads_precision,
    logit_jacobian,
    schur_precision,
    squared_response,
    steps_are_signs,
    twin_response,
    twin_starts,
)
from ncsim.training.step import train
from tests.support.cases import first_fast
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

#: Alice's and Bob's head, one unit, one row.
ONE_ROW = ncsim.TruthTables(
    inputs=[(1,)], alice=[(1,), (0,)], bob=[(0,), (1,)], alice_features=[0], bob_features=[], name="one row"
)
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def config_of(**changes):
    return ncsim.EnsembleConfig(**({"hidden": 2, "tasks": FOUR_ROWS, "precision": "float64"} | changes))


def started(config, seed=4):
    return np.array(initial_vector(jax.random.key(seed), config), np.float64)


#: Over some steps no kink is near, and rounding is what limits: farther apart than over thousands.
FAR = 1e-6


def trained_twins(config, start, steps, rate=0.05):
    """[T, P, 8], each twin as eight equal lanes: full vectors of the processor."""
    targets = context_targets(config.tasks)[1]
    starts = twin_starts(config, jnp.asarray(np.repeat(start[:, None], 8, axis=1)), FAR)
    run = jax.jit(lambda all_: jax.lax.map(lambda one: train(config, one, targets, rate, jnp.int32(steps)), all_))
    return run(starts)


def share_after(config, steps, start=None):
    """Foreign shares of one network: [2]."""
    return shares(config, trained_twins(config, started(config) if start is None else start, steps))


def shares(config, trained):
    return foreign_part(np.moveaxis(np.asarray(squared_response(config, trained, FAR)), -1, 0))[0]


def blocks_of(config, trained):
    return twin_response(config, trained[..., 0], FAR)


# ------------------------------------------------------------------------------------------------------------------ twins


def test_twins_differ_from_the_member_in_one_parameter_of_one_head():
    config = config_of(topology="overlap", shared=0, hidden=4)
    alice, bob = head_places(config)
    assert (len(alice), len(bob)) == (3, 3)  # two units of its own and a bias each
    starts = np.asarray(twin_starts(config, jnp.asarray(started(config)), FAR))
    assert starts.shape == (13, Architecture.of(config).size)
    changed = starts[1:] != starts[0]
    assert changed.sum(axis=1).tolist() == [1] * 12
    assert np.nonzero(changed)[1].tolist() == np.repeat([*alice, *bob], 2).tolist()


@SLOW
@pytest.mark.parametrize(("optimizer", "steps", "rate"), [("sgd", 15, 0.2), ("adam", 30, 0.05)])
def test_twins_are_autodiff_where_that_exists(optimizer, steps, rate):
    """Plain gradient descent has no root, and Adam none of 0 while no unit is dead: forward mode gives their Jacobians."""
    config = config_of(optimizer=optimizer)
    start, targets = jnp.asarray(started(config)), context_targets(FOUR_ROWS)[1]
    whole = jax.jit(jax.jacfwd(lambda v: train(config, v, targets, rate, jnp.int32(steps))))(start)
    blocks = blocks_of(config, trained_twins(config, np.asarray(start), steps, rate))
    for p, q in itertools.product((0, 1), repeat=2):
        places = head_places(config)
        expected = np.asarray(whole)[np.ix_(places[p], places[q])]
        np.testing.assert_allclose(blocks[p][q], expected, atol=1e-7)
        assert np.abs(expected).max() > 1e-4


@SLOW
def test_autodiff_of_adam_has_no_number_at_a_dead_unit_and_twins_have():
    config = config_of()
    start, targets = started(config), context_targets(FOUR_ROWS)[1]
    tensors = Architecture.of(config).split(start)
    tensors.hidden_kernel[:, 0], tensors.hidden_bias[0] = -1.0, -1.0
    start = Architecture.of(config).join(tensors)
    whole = jax.jit(jax.jacfwd(lambda v: train(config, v, targets, 0.05, jnp.int32(3))))(jnp.asarray(start))
    assert np.isnan(whole).any()
    assert np.isfinite(share_after(config, 3, start)).all()


@SLOW
def test_two_steps_of_descent_are_a_product_of_two_hessian_blocks():
    """J_AB(2) = eta^2 H_AS(theta_1) H_SB(theta_0): from Bob's head to the shared layer, then from there to Alice's."""
    config, rate = config_of(optimizer="sgd"), 0.3
    architecture, targets = Architecture.of(config), jnp.asarray(context_targets(FOUR_ROWS)[1])
    rows = [tuple(map(float, row)) for row in FOUR_ROWS.inputs]
    start = jnp.asarray(started(config))

    def loss(vector):
        return mean_loss(config, forward(architecture.split(vector), rows)[1], targets, None)

    @jax.jit
    def both(start):
        next_ = start - rate * jax.grad(loss)(start)
        return jax.lax.map(jax.hessian(loss), jnp.stack([next_, start]))

    alice, bob = head_places(config)
    trunk = np.arange((architecture.features + 1) * architecture.hidden)
    later, first = np.asarray(both(start))
    expected = rate**2 * later[np.ix_(alice, trunk)] @ first[np.ix_(trunk, bob)]
    blocks = blocks_of(config, trained_twins(config, np.asarray(start), 2, rate))
    np.testing.assert_allclose(blocks[0][1], expected, atol=1e-9)
    assert np.abs(expected).max() > 1e-4


def test_one_unit_and_one_row_by_hand():
    """Logits a s + d and b s + e, s = w + c, squared errors against +1. Two steps of descent, by the chain rule on
    paper."""
    config = config_of(hidden=1, tasks=ONE_ROW, optimizer="sgd", loss="squared_error")
    a, b, w, c, d, e, rate, goal = 0.7, -0.4, 0.8, 0.4, 0.1, -0.2, 0.1, 1.0
    s = w + c
    alice, bob = a * s + d - goal, b * s + e - goal
    a1, d1, s1 = a - 2 * rate * alice * s, d - 2 * rate * alice, s - 4 * rate * (alice * a + bob * b)
    # By a, d, b, e at the start.
    by_a1 = np.array([1 - 2 * rate * s * s, -2 * rate * s, 0, 0])
    by_d1 = np.array([-2 * rate * s, 1 - 2 * rate, 0, 0])
    by_s1 = -4 * rate * np.array([s * a + alice, a, s * b + bob, b])
    error = a1 * s1 + d1 - goal
    by_error = s1 * by_a1 + a1 * by_s1 + by_d1
    rows = np.array([by_a1 - 2 * rate * (by_error * s1 + error * by_s1), by_d1 - 2 * rate * by_error])
    trained = trained_twins(config, np.array([w, c, a, b, d, e]), 2, rate)
    blocks = blocks_of(config, trained)
    np.testing.assert_allclose(np.hstack(blocks[0]), rows, atol=1e-9)
    share = (rows[:, 2:] ** 2).sum() / (rows**2).sum()
    assert share > 1e-3
    assert shares(config, trained)[0] == pytest.approx(share, abs=1e-9)


def test_shares_of_norms():
    np.testing.assert_allclose(foreign_part(np.array([[3.0, 1.0], [0.5, 1.5]])), [0.25, 0.25])
    assert np.isnan(foreign_part(np.zeros((2, 2)))).all()
    assert np.isnan(foreign_part(np.full((2, 2), np.inf))).all()


# ------------------------------------------------------------------------------------------------------------ exact zeros

CONES = [
    ({"optimizer": name, "loss": loss, "hidden": hidden})
    for name, loss, hidden in zip(
        ["adam", *(name for name in ELEMENTWISE_OPTIMIZERS if name != "adam" and name not in SIGN_OPTIMIZERS)],
        itertools.cycle(("bce", "cross_entropy", "squared_error")),
        itertools.cycle((2, 1, 3)),
        strict=False,
    )
]


@pytest.mark.parametrize("change", first_fast(CONES, 1), ids=str)
def test_heads_meet_after_two_steps_and_not_before(change):
    config = config_of(**change)
    assert share_after(config, 0).tolist() == [0, 0]
    assert share_after(config, 1).tolist() == [0, 0]
    assert share_after(config, 4).max() > 0


@SLOW
@pytest.mark.parametrize("optimizer", SIGN_OPTIMIZERS)
def test_steps_of_signs_have_no_derivative_between_heads(optimizer):
    """Heads do move each other there, but not by little: that is why such configs are refused."""
    config = config_of(optimizer=optimizer)
    start, targets = started(config), context_targets(FOUR_ROWS)[1]
    assert share_after(config, 4, start).tolist() == [0, 0]
    alice, bob = head_places(config)
    other = start.copy()
    other[bob] *= -2
    run = jax.jit(lambda all_: jax.lax.map(lambda v: train(config, v, targets, 0.05, jnp.int32(20)), all_))
    trained = np.asarray(run(jnp.stack([start, other])))
    assert not np.array_equal(trained[0, alice], trained[1, alice])


#: Options that leave nothing of a gradient but its sign, and such that do not.
OPTIONS = {
    ("adam", "b1=0,b2=0"): True, ("rmsprop", "decay=0"): True, ("adamax", "b1=0,b2=0"): True,
    ("adam", "b1=0"): False, ("adam", "b1=0,b2=0.01"): False, ("adam", "b1=0,b2=0,eps=1"): False, ("sgd", "momentum=0.9"): False,
}  # fmt: skip


@pytest.mark.parametrize(("optimizer", "options"), OPTIONS)
def test_options_that_leave_signs_alone(optimizer, options):
    """A first step by Adam is always a sign; what tells is later ones."""
    config = config_of(optimizer=optimizer, optimizer_options=options)
    assert steps_are_signs(config) is OPTIONS[optimizer, options]
    if OPTIONS[optimizer, options]:
        with pytest.raises(ncsim.ConfigError, match=rf"^--optimizer: {optimizer} with {options}; its steps are signs"):
            ncsim.foreign_share(config, steps=[1])


@SLOW
def test_optimizers_whose_steps_are_signs():
    names = [*ELEMENTWISE_OPTIMIZERS, *LAYERWISE_OPTIMIZERS]
    assert tuple(name for name in names if steps_are_signs(config_of(optimizer=name))) == SIGN_OPTIMIZERS


@SLOW
@pytest.mark.parametrize("optimizer", ["lamb", "lars", "fromage"])
def test_optimizers_that_take_norms_join_heads_at_once(optimizer):
    assert optimizer in LAYERWISE_OPTIMIZERS
    assert share_after(config_of(optimizer=optimizer), 1).min() > 0


APART = [
    ({"intervention": "frozen_trunk"}, (0, 1)),
    ({"intervention": "stop_gradient_bob"}, (0,)),
    ({"intervention": "stop_gradient_alice"}, (1,)),
    ({"intervention": "separate_trunks"}, (0, 1)),
    ({"topology": "overlap", "shared": 0, "hidden": 4}, (0, 1)),
    ({"bob_weight": 0.0}, (0, 1)),  # nor does Bob's head train
]


@pytest.mark.parametrize(("change", "parties"), first_fast(APART, 2), ids=str)
def test_what_isolates_leaves_exactly_nothing(change, parties):
    share = share_after(config_of(**change), 30)
    for party in (0, 1):
        assert (share[party] == 0) == (party in parties)


# ------------------------------------------------------------------------------------------------- functions as matrices


def entropy_of(function, code=(-1, 1)):
    """Of a function of x1 ... x4 on the paper's rows."""
    values = np.array([code[function(*row)] for row in PAPER_TASKS.inputs])
    return schmidt_entropy(values[grid_of_rows(PAPER_TASKS)])


@pytest.mark.parametrize(
    ("function", "signs", "bits"),
    [
        (lambda a, b, c, d: a, 0, 0),
        (lambda a, b, c, d: a & c, np.log(2), 0),
        (lambda a, b, c, d: a ^ c, 0, np.log(2)),
        (lambda a, b, c, d: a ^ b ^ c ^ d, 0, np.log(2)),
        (lambda a, b, c, d: (a ^ b) | c, np.log(2), None),
    ],
    ids=["X1", "and", "xor", "parity", "or"],
)
def test_entropy_depends_on_the_coding(function, signs, bits):
    """A function of one bit per side is [[p, q], [r, s]] times ones: signs of a conjunction are two orthogonal rows of one
    length; those of a parity a product."""
    assert entropy_of(function) == pytest.approx(signs, abs=1e-12)
    if bits is not None:
        assert entropy_of(function, (0, 1)) == pytest.approx(bits, abs=1e-12)


def test_rows_that_are_no_grid_are_refused():
    assert grid_of_rows(PAPER_TASKS).tolist() == np.arange(16).reshape(4, 4).tolist()
    three = ncsim.TruthTables(
        inputs=[(0, 0), (0, 1), (1, 0)],
        alice=[(0, 0, 1)] * 2,
        bob=[(0, 1, 0)] * 2,
        alice_features=[0],
        bob_features=[1],
    )
    with pytest.raises(ncsim.ConfigError, match="tasks: custom; its rows are not all") as caught:
        grid_of_rows(three)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- kernels and curvature


def test_kernel_of_one_unit_and_one_row_by_hand():
    """Logits a h + d and b h + e of a unit that is on: K_AB = 2 a b (kernel and bias of the unit), K_AA = 2 a^2 + h^2 + 1."""
    config = config_of(hidden=1, tasks=ONE_ROW)
    a, b, h = 0.7, -0.4, 1.2
    kernel = jax.jit(lambda vector: cross_kernel(logit_jacobian(config, vector)))
    found = kernel(jnp.array([0.8, 0.4, a, b, 0.1, -0.2]))
    expected = 2 * abs(a * b) / np.sqrt((2 * a * a + h * h + 1) * (2 * b * b + h * h + 1))
    assert float(found) == pytest.approx(expected)
    # A unit that is off hands nothing on.
    assert float(kernel(jnp.array([-0.8, 0.4, a, b, 0.1, -0.2]))) == 0


@pytest.mark.parametrize("change", [{"intervention": "frozen_trunk"}, {"intervention": "separate_trunks"}], ids=str)
def test_no_kernel_and_no_information_across_what_is_apart(change):
    config = config_of(**change)
    jacobian = jax.jit(lambda vector: logit_jacobian(config, vector))(jnp.asarray(started(config)))
    assert float(cross_kernel(jacobian)) == 0
    assert gaussian_information(*heads_precision(jacobian, config, 0.01)) == 0
    assert gaussian_entanglement(*heads_precision(jacobian, config, 0.01)) == 0


def test_curvature_of_three_scalars():
    """Logits a s and b s at 1, ridge 1: H = [[2, 0, 1], [0, 2, 1], [1, 1, 3]], whose complement is [[5, -1], [-1, 5]] / 3."""
    slopes = np.array([[1.0, 0, 1], [0, 1, 1]])
    precision = schur_precision(slopes, np.array([0, 1]), 3 / 4)  # the mean of the diagonal (1, 1, 2) is 4/3
    np.testing.assert_allclose(precision, np.array([[5, -1], [-1, 5]]) / 3, atol=1e-15)
    assert gaussian_information(precision, 1) == pytest.approx(0.020411, abs=5e-7)
    assert gaussian_entanglement(precision, 1) == pytest.approx(0.057529, abs=5e-7)
