"""Groups of chains of a reservoir, some lanes per call and calls in turn on the devices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ncsim.executors.devices import devices_to_use
from ncsim.jax_settings import own_settings

if TYPE_CHECKING:
    from ncsim.training.reservoir import Settings, Tally, Units

#: Chains of one call on a device, by platform.
LANES = {"cpu": 64, "gpu": 16_384, "tpu": 16_384}


class Job(NamedTuple):
    """A group of chains."""

    context: int
    exchange: bool  # else widths stay
    ids: np.ndarray  # uint32[N]
    start: np.ndarray  # widths, [N]
    log_z: float


def run_jobs(
    units: Units,
    settings: Settings,
    seed: int,
    answers: np.ndarray,
    jobs: Sequence[Job],
    devices: int | None,
    guesses: np.ndarray,
) -> list[Tally]:
    """A tally per group of chains, some lanes per call and calls in turn on the devices. The last call of a group is filled up with
    chains that are dropped. `answers` [context, ...], `guesses` as the centres of `run_chains`."""
    from ncsim.training.reservoir import Tally

    used = devices_to_use(devices)
    lanes = LANES.get(used[0].platform, 16_384)
    calls = [(place, first) for place, job in enumerate(jobs) for first in range(0, len(job.ids), lanes)]

    def on(device: int) -> list[Tally]:
        own = calls[device :: len(used)]
        given = units, settings, seed, answers, guesses
        return [_called(*given, jobs[job], first, lanes, used[device]) for job, first in own]

    with ThreadPoolExecutor(len(used)) as threads:
        by_device = list(threads.map(on, range(len(used))))
    in_order = [by_device[turn % len(used)][turn // len(used)] for turn in range(len(calls))]
    found = []
    for place, job in enumerate(jobs):
        parts = [tally for tally, (own, _) in zip(in_order, calls, strict=True) if own == place]
        joined: Any = (np.concatenate(leaf, axis=-1)[..., : len(job.ids)] for leaf in zip(*parts, strict=True))
        found.append(Tally(*joined))
    return found


def _called(
    units: Units,
    settings: Settings,
    seed: int,
    answers: np.ndarray,
    guesses: np.ndarray,
    job: Job,
    first: int,
    lanes: int,
    device: Any,
) -> Tally:
    import jax

    from ncsim.training.reservoir import run_chains

    chosen = np.minimum(np.arange(first, first + lanes), len(job.ids) - 1)
    with own_settings():  # of a thread
        given = (
            chains_key(seed, 2 * job.context + (not job.exchange)),
            job.ids[chosen],
            job.start[chosen].astype(np.int32),
            answers[job.context],
            np.full(lanes, job.log_z, np.float32),
            betas(settings),
            np.array(job.exchange),
            guesses.astype(np.float32),
        )
        tally = run_chains(units, settings._replace(beta=0.0), *jax.device_put(given, device))
        return jax.device_get(tally)


def chains_key(seed: int, group: int) -> np.ndarray:
    """The key of a group of chains, uint32[2]; a seed of more than one word has the group folded in."""
    if seed < 2**32:
        return np.array([seed, group], np.uint32)
    import jax

    from ncsim.training.initialization import root_key

    return np.asarray(jax.random.key_data(jax.random.fold_in(root_key(seed), group)))


def betas(settings: Settings) -> np.ndarray:
    """The inverse temperatures of chains, that of the ensemble first; nearer to each other where they are small, since losses of the prior
    differ most."""
    count = settings.temperatures
    return np.asarray(settings.beta * np.linspace(1, 0, count) ** 2 if count > 1 else [settings.beta], np.float32)
