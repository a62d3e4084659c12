"""Networks of the initial law given that their loss is below a bound, by subset simulation; and trained ones when they first are.

Subset simulation (Au and Beck 2001): particles of the law; the bound falls to the quartile of their losses; those above it become copies of
those below; Markov chains that keep the law, held below the bound, move all of them; and so on. The probability is the product of the
shares that stayed. Populations are independent, and intervals are over them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.executors.own_programs import own_programs
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate, clopper_pearson
from ncsim.training.initialization import root_key, row_tuples
from ncsim.training.losses import mean_loss
from ncsim.training.network import Architecture, forward
from ncsim.training.observation import outcome_cells
from ncsim.training.random_networks import RandomLaw

POPULATIONS, STAYING = 8, 0.25
#: Steps of the chains at each bound, and bounds after which what is rarer is given up: a probability of 10^-27.
STEPS, MOST_BOUNDS = 200, 45


METHOD = "Student's t over populations, on the scale of the logarithm"


class Given(NamedTuple):
    """Random networks of one context given that their loss is below a bound.

    Attributes:
        bound: of the training loss.
        probability: that a network of the initial law is below it, with its interval over populations.
        cells: tables of counts, int64[populations, N, 4], as (Alice right, Bob right) = 00, 01, 10, 11.
        loss: of these networks, float32[populations, N].
    """

    bound: float
    probability: Estimate
    cells: np.ndarray
    loss: np.ndarray


def below(config: EnsembleConfig, context: int, bounds: Sequence[float], size: int, seed: int = 0) -> list[Given]:
    """Random networks below each of these bounds, as far as they are reached.

    Args:
        config: whose initial law it is.
        context: number of the context, 0 to 3.
        bounds: of the loss, falling.
        size: particles of each of the populations.
        seed: 0 or above.
    """
    with own_programs():
        law = RandomLaw.of(config)
        targets = jnp.asarray(context_targets(config.tasks)[context], jnp.float32)
        rng, key = np.random.default_rng([seed, context]), root_key((1000 * seed + context) % 2**64)
        z = rng.normal(size=(len(law.place), POPULATIONS, size)).astype(np.float32)
        z = np.where(law.normal[:, None, None], z, rng.uniform(-1, 1, z.shape)).astype(np.float32)
        measured, moved = _programs(config)
        loss = np.asarray(measured(z, targets)[0])
        log_p, found, left = np.zeros(POPULATIONS), [], list(bounds)
        for step in range(MOST_BOUNDS):
            bound = np.quantile(loss, STAYING, axis=1)
            bound = np.maximum(bound, left[0])
            stays = loss < bound[:, None]
            if not stays.any(axis=1).all():
                break
            log_p += np.log(stays.mean(axis=1))
            pick = np.stack([rng.choice(np.flatnonzero(row), size) for row in stays])
            z = np.take_along_axis(np.asarray(z), pick[None], axis=2)
            z, loss = moved(z, jnp.asarray(bound, jnp.float32)[:, None], targets, jax.random.fold_in(key, step))
            loss = np.asarray(loss)
            if (bound == left[0]).all():
                counts = np.moveaxis(np.asarray(measured(z, targets)[1]), 0, -1)
                found.append(Given(left.pop(0), _over_populations(log_p), counts.astype(np.int64), loss))
                if not left:
                    break
    return found


def guessed(config: EnsembleConfig, context: int, bound: float, draws: int, seed: int = 0) -> Estimate:
    """The same probability, counted in networks that are drawn one by one."""
    with own_programs():
        law = RandomLaw.of(config)
        targets = jnp.asarray(context_targets(config.tasks)[context], jnp.float32)
        rng = np.random.default_rng([1, seed, context])
        z = rng.normal(size=(len(law.place), 1, draws)).astype(np.float32)
        z = np.where(law.normal[:, None, None], z, rng.uniform(-1, 1, z.shape)).astype(np.float32)
        hits = int((np.asarray(_programs(config)[0](z, targets)[0]) < bound).sum())
    return clopper_pearson(hits, draws)


def kept_below(
    place: Path, config: EnsembleConfig, context: int, bounds: Sequence[float], size: int, seed: int = 0
) -> list[Given]:
    """As `below`, or read where it was found before."""
    path = place / f"below-{context}-{size}-{seed}.npz"
    if not path.exists():
        found = below(config, context, bounds, size, seed)
        arrays = {f"{name}_{n}": getattr(each, name) for n, each in enumerate(found) for name in ("cells", "loss")}
        numbers = np.array([(each.bound, *each.probability[:3]) for each in found]).reshape(-1, 4)
        half = path.with_suffix(".part.npz")
        np.savez_compressed(half, numbers=numbers, **arrays)
        half.replace(path)
    with np.load(path) as read:
        return [
            Given(
                float(bound),
                Estimate(float(value), float(low), float(high), METHOD),
                read[f"cells_{n}"],
                read[f"loss_{n}"],
            )
            for n, (bound, value, low, high) in enumerate(read["numbers"])
        ]


def _over_populations(log_p: np.ndarray) -> Estimate:
    """The probability from those of independent populations: their mean, with Student's t on the scale of its logarithm."""
    from scipy.special import stdtrit

    value = float(np.exp(log_p).mean())
    error = float(np.std(np.exp(log_p), ddof=1)) / value / math.sqrt(len(log_p))
    reach = float(stdtrit(len(log_p) - 1, 0.975)) * error
    return Estimate(value, value * math.exp(-reach), min(value * math.exp(reach), 1.0), METHOD)


@functools.lru_cache(maxsize=8)
def _programs(config: EnsembleConfig) -> tuple[Any, Any]:
    """Losses [..] and counts [4, ..] of variates [K, ..]; and variates moved below a bound, with their losses."""
    law, architecture, rows = RandomLaw.of(config), Architecture.of(config), row_tuples(config)
    normal = jnp.asarray(law.normal)[:, None, None]
    sets = np.zeros((len(law.moves()), len(law.place)), bool)
    for number, chosen in enumerate(law.moves()):
        sets[number, chosen] = True

    def logits_of(z: Any) -> Any:
        scaled = z * jnp.asarray(law.scale)[:, None, None]
        vector = jnp.zeros((architecture.size, *z.shape[1:]), jnp.float32).at[law.place].set(scaled)
        return forward(architecture.split(vector), rows)[1]

    def measured(z: Any, targets: Any) -> Any:
        logits = logits_of(z)
        cells = outcome_cells(logits, targets)
        return mean_loss(config, logits, targets, None), jnp.stack([each.sum(axis=0) for each in cells])

    def moved(z: Any, bound: Any, targets: Any, key: Any) -> Any:
        def step(state: Any, key: Any) -> Any:
            z, loss = state
            which, size, draw, other = jax.random.split(key, 4)
            there = jnp.asarray(sets)[jax.random.randint(which, (), 0, len(sets))][:, None, None]
            reach = 10 ** jax.random.uniform(size, (), minval=-2.0, maxval=0.0)
            walked = z + reach * jax.random.uniform(draw, z.shape, minval=-1.0, maxval=1.0)
            walked = jnp.where(walked > 1, 2 - walked, jnp.where(walked < -1, -2 - walked, walked))
            turned = z * jnp.sqrt(1 - reach**2) + reach * jax.random.normal(other, z.shape)
            new = jnp.where(there, jnp.where(normal, turned, walked), z)
            new_loss = mean_loss(config, logits_of(new), targets, None)
            taken = new_loss < bound
            return (jnp.where(taken, new, z), jnp.where(taken, new_loss, loss)), None

        loss = mean_loss(config, logits_of(z), targets, None)
        return jax.lax.scan(step, (z, loss), jax.random.split(key, STEPS))[0]

    return jax.jit(measured), jax.jit(moved)


class Passed(NamedTuple):
    """Trained networks of one context when their loss was first recorded below a bound.

    Attributes:
        share: of all networks that ever are, with its exact interval.
        step: median of the steps.
        cells: their tables then, int64[N, 4].
        loss: then, float32[N].
    """

    share: Estimate
    step: float
    cells: np.ndarray
    loss: np.ndarray


def passed(run: Run, context: int, bound: float) -> Passed:
    """Of a run that was recorded."""
    cells, losses, steps, members = [], [], [], 0
    for part in run.trajectories():
        loss = (part.value("loss_alice") + part.value("loss_bob"))[:, :, context]
        under = loss < bound
        reached = np.flatnonzero(under.any(axis=1))
        first = under.argmax(axis=1)[reached]
        members += len(loss)
        cells.append(part.counts[reached, first, context].astype(np.int64))
        losses.append(loss[reached, first])
        steps.append(part.step[first])
    found = np.concatenate(cells)
    step = float(np.median(np.concatenate(steps))) if len(found) else math.nan
    return Passed(clopper_pearson(len(found), members), step, found, np.concatenate(losses))
