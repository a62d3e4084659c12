"""How far one head is the other's doing: by twins, by the tangent kernel and by curvature.

Twins are networks that start a hair apart in one parameter of one head. What they come to, divided by how far they began
apart, is a column of the Jacobian of the training map. Autodiff does not give it: the square root in Adam has no derivative
at a dead unit, whose gradient is 0. In float64 twins need no more than differences.

Axes: P parameters (of a vector as `train` has it), T networks (the member, then two twins per parameter of a head),
K such parameters, R rows, L lanes; 2 heads, Alice's first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import Tasks
from ncsim.errors import ConfigError
from ncsim.training.initialization import row_tuples, vector_size
from ncsim.training.network import Architecture, Parameters, forward
from ncsim.training.optimizers import make_optimizer

#: Optimisers whose step is a sign of the gradient: the derivative between heads is 0 whatever they do to each other.
SIGN_OPTIMIZERS = ("lion", "rprop", "sign_sgd", "signum")


#: Steps of a trial of an optimiser's steps, and how far apart two may be, relative to their size, that are alike: eps is between them.
TRIAL_STEPS, ALIKE = 8, 1e-6


def steps_are_signs(config: EnsembleConfig) -> bool:
    """Whether an optimiser's steps are the same for gradients of other sizes with the same signs, as those of `SIGN_OPTIMIZERS` are, and
    Adam's without memory (b1 = b2 = 0)."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        optimizer, shape = make_optimizer(config, config.learning_rate), (Architecture.of(config).size, 1)
        vector, signs = rng.normal(size=shape), rng.choice([-1.0, 1.0], shape)
        moved = []
        for _ in range(2):
            state, steps = optimizer.init(jnp.asarray(vector)), []
            for _ in range(TRIAL_STEPS):
                gradient = jnp.asarray(signs * 10 ** rng.uniform(0, 2, shape))
                step, state = optimizer.update(gradient, state, jnp.asarray(vector))
                steps.append(np.asarray(step))
            moved.append(np.stack(steps))
    return bool(np.allclose(moved[0], moved[1], rtol=ALIKE, atol=0.0))


def head_places(config: EnsembleConfig) -> tuple[np.ndarray, np.ndarray]:
    """Where in a vector [P] each head's own parameters are, without connections that the topology leaves out."""
    architecture = Architecture.of(config)
    there = architecture.connections()
    found = []
    for head in (0, 1):
        own = Parameters(*(np.zeros(shape, bool) for shape in architecture.shapes))
        own.head_kernel[head] = there.head_kernel[head]
        own.head_bias[head] = True
        found.append(np.flatnonzero(architecture.join(own)))
    return found[0], found[1]


def twin_starts(config: EnsembleConfig, vector: Array, apart: float) -> Array:
    """A member's start [P, *L] and those of its twins, [T, P, *L]: so much above and below it in each parameter of Alice's head,
    then of Bob's."""
    places = np.concatenate(head_places(config))
    shifts = np.zeros((1 + 2 * len(places), vector_size(config)))
    number = np.arange(len(places))
    shifts[1 + 2 * number, places], shifts[2 + 2 * number, places] = apart, -apart
    return vector + jnp.asarray(shifts, vector.dtype).reshape(*shifts.shape, *[1] * (vector.ndim - 1))


def twin_response(config: EnsembleConfig, trained: Array, apart: float) -> list[list[Array]]:
    """The blocks of the Jacobian d theta(t) / d theta(0) between heads, from what twins [T, P, *L] came to: `[p][q]` is
    [K of head p, K of head q, *L], p's parameters now by q's at the start."""
    places = head_places(config)
    columns = (trained[1::2] - trained[2::2]) / (2 * apart)  # [K of both, P, *L]
    by_start = columns[: len(places[0])], columns[len(places[0]) :]
    return [[jnp.swapaxes(by_start[q][:, places[p]], 0, 1) for q in (0, 1)] for p in (0, 1)]


def squared_response(config: EnsembleConfig, trained: Array, apart: float) -> Array:
    """Squared Frobenius norms of the blocks of `twin_response`, [2, 2, *L]: the first axis is the head that responds."""
    blocks = twin_response(config, trained, apart)
    return jnp.stack([jnp.stack([jnp.sum(block * block, axis=(0, 1)) for block in row]) for row in blocks])


def foreign_part(response: np.ndarray) -> np.ndarray:
    """Of what each head remembers of both heads' starts, the share that is the other's: [..., 2] from squared norms
    [..., 2, 2]. NaN where it remembers nothing, or where a twin diverged."""
    own = np.diagonal(response, axis1=-2, axis2=-1)
    foreign = np.stack([response[..., 0, 1], response[..., 1, 0]], axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(foreign / (own + foreign))


def grid_of_rows(tasks: Tasks) -> np.ndarray:
    """Numbers of the rows as a matrix [Alice's features, Bob's features], both in binary order.

    Raises:
        ConfigError: rows are not all combinations of Alice's features with Bob's, each once.
    """
    rows = np.asarray(tasks.inputs)
    alice, bob = tasks.party_features
    keys = []
    for features in (alice, bob):
        keys.append(rows[:, list(features)] @ (1 << np.arange(len(features))[::-1]))
    sides = tuple(2 ** len(features) for features in (alice, bob))
    together = sorted((*alice, *bob))
    number = keys[0] * sides[1] + keys[1]
    if together != list(range(tasks.features)) or sorted(number) != list(range(sides[0] * sides[1])):
        raise ConfigError(
            f"tasks: {tasks.name}; its rows are not all of Alice's features times all of Bob's, so that logits are no "
            "matrix; allowed: tasks as ncsim.truth_tables makes them"
        )
    return np.argsort(number).reshape(sides)


def logit_jacobian(config: EnsembleConfig, vector: Array) -> Array:
    """Derivative of the decision logits by what is trained, [2, R, P'] of one network [P]; 0 for connections that the topology
    leaves out, and for the shared layer where it is frozen. P' are the parameters."""
    architecture = Architecture.of(config)
    rows: Sequence[Sequence[float]] = row_tuples(config)
    there = architecture.connections()
    if config.intervention == "frozen_trunk":
        there = there._replace(
            hidden_kernel=np.zeros_like(there.hidden_kernel), hidden_bias=np.zeros_like(there.hidden_bias)
        )

    def logits(parameters: Array) -> Array:
        return jnp.swapaxes(forward(architecture.split(parameters), rows)[1], 0, 1)

    return jax.jacrev(logits)(vector[: architecture.size]) * jnp.asarray(architecture.join(there), vector.dtype)


def cross_kernel(jacobian: Array) -> Array:
    """|K_AB| / sqrt(|K_AA| |K_BB|) of the tangent kernel K_pq = J_p J_q^T, from [2, R, P']: 0 where heads share nothing that is
    trained, at most 1. Frobenius norms."""
    alice, bob = jacobian
    norms = [jnp.sqrt(jnp.sum((one @ other.T) ** 2)) for one, other in ((alice, bob), (alice, alice), (bob, bob))]
    return norms[0] / jnp.sqrt(norms[1] * norms[2])


def heads_precision(jacobian: Any, config: EnsembleConfig, ridge: float) -> tuple[np.ndarray, int]:
    """Precision of both heads with the shared layer marginalised, float64[..., K, K], and how many of its rows are Alice's.

    It is of H = J^T J / R + lambda 1, J the derivative [..., 2 R, P'] of all logits; lambda is `ridge` times the mean of the
    diagonal of J^T J / R. With the shared layer held, heads would be independent whatever they are. Without the ridge H is
    singular, since a unit may be scaled up and its output weights down: what comes out depends on the ridge.

    Args:
        jacobian: of networks, [..., 2, R, P'], as `logit_jacobian` gives it.
        config: of the networks.
        ridge: above 0.
    """
    architecture = Architecture.of(config)
    there = np.flatnonzero(architecture.join(architecture.connections()))
    slopes = np.asarray(jacobian, np.float64)
    slopes = slopes.reshape(*slopes.shape[:-3], -1, slopes.shape[-1]) / np.sqrt(slopes.shape[-2])
    alice, bob = (np.searchsorted(there, places) for places in head_places(config))
    return schur_precision(slopes[..., there], np.concatenate([alice, bob]), ridge), len(alice)


def schur_precision(slopes: np.ndarray, kept: np.ndarray, ridge: float) -> np.ndarray:
    """The Schur complement that is left of the `kept` parameters once the others are marginalised, [..., K, K]: of
    H = slopes^T slopes + lambda 1, slopes [..., N, P'], lambda being `ridge` times the mean of the diagonal."""
    product = np.swapaxes(slopes, -1, -2) @ slopes
    size = product.shape[-1]
    mean = np.trace(product, axis1=-2, axis2=-1)[..., None, None] / size
    whole = product + ridge * mean * np.eye(size)
    rest = np.setdiff1d(np.arange(size), kept)
    across = whole[..., rest, :][..., kept]
    marginalised = np.swapaxes(across, -1, -2) @ np.linalg.solve(whole[..., rest, :][..., rest], across)
    return whole[..., kept, :][..., kept] - marginalised
