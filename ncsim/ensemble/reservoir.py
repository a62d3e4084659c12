"""Networks that exchange units with a reservoir: how many units a pair of tasks buys at a price, and S at that price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, field_specs
from ncsim.config.fields import checked, integer, list_of, number, option_name
from ncsim.config.scenarios import two_by_two
from ncsim.config.tasks import CONTEXTS, context_targets
from ncsim.ensemble.given import one_config
from ncsim.errors import ConfigError
from ncsim.executors.devices import checked_device_count, devices_to_use, failing_in_one_line
from ncsim.executors.own_programs import own_programs
from ncsim.jax_settings import own_settings
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.grand_canonical import TwoRoutes, log_ratios, two_routes
from ncsim.statistics.intervals import Estimate

if TYPE_CHECKING:
    from ncsim.training.reservoir import Settings, Tally, Units

#: Chains of one call on a device, by platform.
LANES = {"cpu": 64, "gpu": 16_384, "tpu": 16_384}
#: Steps from one look at the chains to the next, and of all looks the share that is left out at the start.
EVERY, BURN = 10, 0.2
#: Chains of fixed width, at each width, that units are inserted into: at least so many.
FEWEST_CANONICAL = 32
#: Fields of a config that a reservoir uses. Width is an outcome, and nothing is trained.
USED = "loss encoding tasks alice_weight bob_weight root_seed".split()
#: What a reservoir may be asked, as options of the command.
OPTIONS: dict[str, Any] = {
    "chemical_potential": number(
        0.0, -100.0, 100.0, "price that a unit pays, in units of the loss; several make a curve"
    ),
    "inverse_temperature": number(4.0, 0.0, 1e4, "beta, per unit of the loss", open_low=False),
    "max_hidden": integer(16, 1, 64, "units at most"),
    "chains": integer(4096, 4, 2**22, "chains per context and chemical potential"),
    "steps": integer(10_000, 50, 10**8, "proposals per chain"),
    "prior_scale": number(2.0, 0.0, 1e3, "standard deviation of every weight and bias of a unit in the prior"),
    "temperatures": integer(
        1,
        1,
        64,
        "inverse temperatures of parallel tempering, from beta to 0, with chains of fixed width by stepping stones; 1: none, and by insertion",
    ),
}


class Reservoir(NamedTuple):
    """What Z chemical potentials gave in C = 4 contexts (11, 12, 21, 22), with N chains each and at most K units.

    Attributes:
        chemical_potential: mu, float64[Z]; ln z = inverse temperature times mu.
        width: how often a chain had so many units, int64[Z, C, N, K + 1].
        loss: mean loss of each chain, float64[Z, C, N].
        solved: share of looks at which no answer was wrong, float64[Z, C, N].
        counts: joint counts of each chain over all looks, int64[Z, N, 2, 2, 2, 2]; `ncsim.chsh_statistics` takes them.
        parts: what chains of fixed width gave, float64[C, chains, K, S], as `ncsim.two_routes` takes it: by insertion, or by stepping
            stones where there are several temperatures.
        full: whether a chain began with K units, bool[N]; the others began with none.
        inverse_temperature: beta.
        empty_loss: loss of a network without units.
        stepping: whether `parts` are of stepping stones.

    Example:
        >>> import ncsim
        >>> found = ncsim.reservoir(chemical_potential=[-99.0], max_hidden=2, chains=8, steps=100)
        >>> found.width[0, 0, 0].tolist(), found.counts.shape  # a unit that costs 99 is not bought
        ([8, 0, 0], (1, 8, 2, 2, 2, 2))
        >>> found.routes()[0][0].chains.value, found.s()[0].value, found.solved_share()[0][0].value
        (0.0, 0.0, 0.0)
        >>> found.free_energy().shape, round(float(found.free_energy()[0, 0]), 3)  # 8 ln 2, of no unit
        ((4, 3), 5.545)
    """

    chemical_potential: np.ndarray
    width: np.ndarray
    loss: np.ndarray
    solved: np.ndarray
    counts: np.ndarray
    parts: np.ndarray
    full: np.ndarray
    inverse_temperature: float
    empty_loss: float
    stepping: bool

    def routes(self) -> list[list[TwoRoutes]]:
        """Mean width by chains and by fixed widths, per chemical potential and context, and whether both agree."""
        widths = self.width @ np.arange(self.width.shape[-1]) / self.width.sum(axis=-1)
        return [
            [
                two_routes(
                    widths[place, context],
                    self.full,
                    self.parts[context],
                    self.inverse_temperature * mu,
                    self._log_empty,
                )
                for context in range(len(CONTEXTS))
            ]
            for place, mu in enumerate(self.chemical_potential.tolist())
        ]

    @property
    def _log_empty(self) -> float | None:
        """ln Z of no unit where stepping stones are used."""
        return -self.inverse_temperature * self.empty_loss if self.stepping else None

    def free_energy(self) -> np.ndarray:
        """beta F(n) = -ln <exp(-beta L)> over the prior of n units, by fixed widths: float64[C, K + 1]."""
        empty = self.inverse_temperature * self.empty_loss
        steps = np.stack([log_ratios(parts, self._log_empty) for parts in self.parts])
        return empty - np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)

    def s(self) -> list[Estimate]:
        """Mean S of the networks at each chemical potential; its interval is of chains."""
        from ncsim.statistics.chsh import chsh_statistics

        return [bootstrap_mean(chsh_statistics(counts).s, support=(-4.0, 4.0)) for counts in self.counts]

    def solved_share(self) -> list[list[Estimate]]:
        """Share of networks without a wrong answer, per chemical potential and context; intervals are of chains."""
        return [[bootstrap_mean(chains, support=(0.0, 1.0)) for chains in contexts] for contexts in self.solved]


def reservoir(
    chemical_potential: Sequence[float] = (0.0,),
    inverse_temperature: float = 4.0,
    max_hidden: int = 16,
    chains: int = 4096,
    steps: int = 10_000,
    prior_scale: float = 2.0,
    temperatures: int = 1,
    config: EnsembleConfig | None = None,
    devices: int | None = None,
) -> Reservoir:
    """Networks whose hidden units come from a reservoir at a chemical potential, in all four contexts.

    The weight of a network of n units is z^n / n! exp(-beta L) times its prior, z = exp(beta mu); see
    `ncsim.training.reservoir` for the chains. L is the training loss of an NCnet whose heads have no bias (arXiv:2603.04451,
    section 4.1). Width is not given but found. That neurons have a chemical potential is from arXiv:2012.05082. Chains
    with even numbers begin empty, the others full. Chains of fixed width are run besides, as the second route.

    Args:
        chemical_potential: mu, one or more, each once. The same random numbers are used at each.
        inverse_temperature: beta; at 0 the width is Poisson's, cut off.
        max_hidden: units at most, K.
        chains: per context and chemical potential.
        steps: proposals per chain; a fifth is left out at the start.
        prior_scale: standard deviation of weights and biases in the prior.
        temperatures: of parallel tempering; chains stick where beta is large.
        config: loss, encoding, tasks, weights of the heads and root seed are used; all else must be as by default.
        devices: as for `run_ensemble`.

    Returns:
        See `Reservoir`. Ask its `routes` before you use a number.

    Raises:
        ConfigError: a value that is not allowed.

    Example:
        >>> import ncsim
        >>> found = ncsim.reservoir([0.0], inverse_temperature=0.0, max_hidden=4, chains=64, steps=400)
        >>> found.routes()[0][0].canonical.value.__round__(3)  # 64 / 65 of a Poisson law with mean 1, cut off at 4
        0.985
    """
    config = EnsembleConfig() if config is None else one_config(config)
    asked = _asked(locals())
    potentials = _potentials(chemical_potential)
    _check_config(config)
    devices = checked_device_count(devices)
    from ncsim.training.reservoir import Settings, network_units

    looks = asked["steps"] // EVERY
    burn = int(BURN * looks)
    settings = Settings(
        asked["max_hidden"],
        looks - burn,
        burn,
        EVERY,
        asked["prior_scale"],
        asked["inverse_temperature"],
        asked["temperatures"],
    )
    with failing_in_one_line(unless=lambda error: False), own_programs():
        return _sampled(network_units(_program_of(config)), config, potentials, settings, asked["chains"], devices)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """The options but for chemical potentials, each in its own type."""
    return {
        name: checked(name, given[name], spec.metadata)
        for name, spec in OPTIONS.items()
        if name != "chemical_potential"
    }


def _potentials(given: Any) -> np.ndarray:
    values = list_of(given, [given])
    found = [checked("chemical_potential", value, OPTIONS["chemical_potential"].metadata) for value in values]
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--chemical-potential: {values}; allowed: one or more numbers, each once")
    return np.array(found)


def _check_config(config: EnsembleConfig) -> None:
    two_by_two(config.tasks)
    default = EnsembleConfig()
    for name in field_specs():
        value, usual = getattr(config, name), getattr(default, name)
        if name not in USED and value != usual:
            raise ConfigError(f"{option_name(name)}: {value}; a reservoir has no such thing; allowed: {usual}")


def _program_of(config: EnsembleConfig) -> EnsembleConfig:
    return EnsembleConfig(**{name: getattr(config, name) for name in USED if name != "root_seed"})


def _sampled(
    units: Units, config: EnsembleConfig, potentials: np.ndarray, settings: Settings, chains: int, devices: int | None
) -> Reservoir:
    """Both routes in every context."""
    answers = context_targets(config.tasks).astype(np.float32)
    ids = np.arange(chains, dtype=np.uint32)
    full = ids % 2 == 1
    start = np.where(full, settings.slots, 0)
    log_z = settings.beta * potentials
    others = max(FEWEST_CANONICAL, chains // settings.slots)
    stepping = settings.temperatures > 1
    fixed = np.repeat(np.arange(settings.slots) + stepping, others)
    own = (fixed * 2**24 + np.tile(np.arange(others), settings.slots)).astype(np.uint32)
    jobs = [Job(context, True, ids, start, float(one)) for context in range(len(CONTEXTS)) for one in log_z]
    jobs += [Job(context, False, own, fixed, 0.0) for context in range(len(CONTEXTS))]
    found = run_jobs(units, settings, config.root_seed, answers, jobs, devices)
    by = [
        found[place : place + len(potentials)] for place in range(0, len(CONTEXTS) * len(potentials), len(potentials))
    ]
    looks = settings.records

    def gathered(take: Any) -> np.ndarray:
        return np.stack([[take(tally) for tally in context] for context in by], axis=1)

    cells = gathered(lambda tally: tally.cells.T).astype(np.int64)  # [Z, C, N, 4]
    fixed_widths = found[len(CONTEXTS) * len(potentials) :]
    parts = [tally.stones if stepping else tally.insertion[None] for tally in fixed_widths]
    return Reservoir(
        chemical_potential=potentials,
        width=gathered(lambda tally: tally.width.T).astype(np.int64),
        loss=gathered(lambda tally: tally.loss).astype(np.float64) / looks,
        solved=gathered(lambda tally: tally.solved) / looks,
        counts=np.moveaxis(cells, 1, 2).reshape(len(potentials), chains, 2, 2, 2, 2),
        parts=np.stack([each.reshape(-1, settings.slots, others).T for each in parts]).astype(np.float64)
        - math.log(looks),
        full=full,
        inverse_temperature=settings.beta,
        empty_loss=_empty_loss(units, answers[0]),
        stepping=stepping,
    )


def _empty_loss(units: Units, answers: np.ndarray) -> float:
    import jax.numpy as jnp

    return float(units.loss(jnp.zeros((*units.outputs, 1)), jnp.asarray(answers))[0])


class Job(NamedTuple):
    """A group of chains."""

    context: int
    exchange: bool  # else widths stay
    ids: np.ndarray  # uint32[N]
    start: np.ndarray  # widths, [N]
    log_z: float


def run_jobs(
    units: Units, settings: Settings, seed: int, answers: np.ndarray, jobs: Sequence[Job], devices: int | None
) -> list[Tally]:
    """A tally per group of chains, some lanes per call and calls in turn on the devices. The last call of a group is filled up with
    chains that are dropped. `answers` [context, ...]."""
    from ncsim.training.reservoir import Tally

    used = devices_to_use(devices)
    lanes = LANES.get(used[0].platform, 16_384)
    calls = [(place, first) for place, job in enumerate(jobs) for first in range(0, len(job.ids), lanes)]

    def on(device: int) -> list[Tally]:
        own = calls[device :: len(used)]
        return [_called(units, settings, seed, answers, jobs[job], first, lanes, used[device]) for job, first in own]

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
    units: Units, settings: Settings, seed: int, answers: np.ndarray, job: Job, first: int, lanes: int, device: Any
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
