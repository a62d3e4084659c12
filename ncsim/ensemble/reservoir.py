"""Networks that exchange units with a reservoir: how many units a pair of tasks buys at a price, and S at that price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig, field_specs
from ncsim.config.fields import checked, integer, list_of, number, option_name
from ncsim.config.given import one_config
from ncsim.config.scenarios import two_by_two
from ncsim.config.tasks import CONTEXTS, context_targets
from ncsim.ensemble.reservoir_jobs import Job, run_jobs
from ncsim.errors import ConfigError
from ncsim.executors.devices import checked_device_count, devices_to_use, failing_in_one_line
from ncsim.executors.own_programs import own_programs
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.grand_canonical import TwoRoutes, bridged, left_out_ratios, two_routes
from ncsim.statistics.intervals import Estimate, jackknife_error

if TYPE_CHECKING:
    from ncsim.training.reservoir import Settings, Tally, Units

#: Steps from one look at the chains to the next, and of all looks the share that is left out at the start.
EVERY, BURN = 10, 0.2
#: Chains of fixed width, at each width, that units are inserted into and removed from: at least so many.
FEWEST_CANONICAL = 32
#: Guesses of ln (Z_{n+1} / Z_n), evenly from `LOWEST_CENTRE` to the gain of a loss of 0, and how large that is at least. A unit that no
#: input moves changes nothing, and so many are such that no ratio is far below.
CENTRES, LOWEST_CENTRE, LEAST_GAIN = 24, -6.0, 6.0
#: Standard error of a free energy, in nats, above which it is no number.
FREE_ENERGY_ERROR = 0.5
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
        "inverse temperatures of parallel tempering, from beta to 0, with chains of fixed width by stepping stones; 1: none, and by acceptance ratio",
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
        parts: what chains of fixed width gave, float64[C, chains, K, S], as `ncsim.two_routes` takes it: by insertion with the weights of
            an acceptance ratio, or by stepping stones where there are several temperatures.
        full: whether a chain began with K units, bool[N]; the others began with none.
        inverse_temperature: beta.
        empty_loss: loss of a network without units.
        stepping: whether `parts` are of stepping stones.
        backs: what chains of one unit more gave by removal, of the same shape; None with stepping stones.

    Example:
        >>> import ncsim
        >>> found = ncsim.reservoir(chemical_potential=[-99.0], max_hidden=2, chains=8, steps=100)
        >>> found.width[0, 0, 0].tolist(), found.counts.shape  # a unit that costs 99 is not bought
        ([8, 0, 0], (1, 8, 2, 2, 2, 2))
        >>> found.routes()[0][0].chains.value, found.s()[0].value, found.solved_share()[0][0].value
        (0.0, 0.0, 0.0)
        >>> found.free_energy().shape, round(float(found.free_energy()[0, 0]), 3)  # 8 ln 2, of no unit
        ((4, 3), 5.545)
        >>> found.free_energy_error()[:, 0].tolist()
        [0.0, 0.0, 0.0, 0.0]
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
    backs: np.ndarray | None = None

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
                    None if self.backs is None else self.backs[context],
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
        """beta F(n) = -ln <exp(-beta L)> over the prior of n units, by fixed widths: float64[C, K + 1].

        NaN where `free_energy_error` is not known or above 0.5, and of all n above 0 in a context whose routes agree at no chemical
        potential: chains that stick have small errors."""
        values, errors = self._free_energies()
        agreed = np.array([any(not route.problem for route in context) for context in zip(*self.routes(), strict=True)])
        known = (errors <= FREE_ENERGY_ERROR) & agreed[:, None]
        known[:, 0] = True  # of one network
        return np.where(known, values, np.nan)

    def free_energy_error(self) -> np.ndarray:
        """Standard error of `free_energy`, by the jackknife over chains: float64[C, K + 1]; infinity where it is not known."""
        return self._free_energies()[1]

    def _free_energies(self) -> tuple[np.ndarray, np.ndarray]:
        """beta F(n) of each context and its standard error, float64[C, K + 1] each."""
        empty, values, errors = self.inverse_temperature * self.empty_loss, [], []
        for context, parts in enumerate(self.parts):
            backs = None if self.backs is None else self.backs[context]
            whole, left_out = left_out_ratios(parts, self._log_empty, backs)
            values.append(empty - np.cumsum([0.0, *whole]))
            sums = np.cumsum(left_out, axis=1).T
            error = [jackknife_error(one) if len(one) and np.isfinite(one).all() else np.inf for one in sums]
            errors.append([0.0, *error])
        return np.array(values), np.array(errors)

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
        devices_to_use(devices)  # before anything is computed: JAX has one device for all cores else
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
    widths = np.arange(1 if stepping else 0, settings.slots + 1)
    fixed = np.repeat(widths, others)
    own = (fixed * 2**24 + np.tile(np.arange(others), len(widths))).astype(np.uint32)
    jobs = [Job(context, True, ids, start, float(one)) for context in range(len(CONTEXTS)) for one in log_z]
    jobs += [Job(context, False, own, fixed, 0.0) for context in range(len(CONTEXTS))]
    empty = _empty_loss(units, answers[0])
    guesses = np.linspace(LOWEST_CENTRE, max(settings.beta * empty, LEAST_GAIN), CENTRES)
    found = run_jobs(units, settings, config.root_seed, answers, jobs, devices, guesses)
    by = [
        found[place : place + len(potentials)] for place in range(0, len(CONTEXTS) * len(potentials), len(potentials))
    ]
    looks = settings.records

    def gathered(take: Any) -> np.ndarray:
        return np.stack([[take(tally) for tally in context] for context in by], axis=1)

    cells = gathered(lambda tally: tally.cells.T).astype(np.int64)  # [Z, C, N, 4]
    fixed_widths = found[len(CONTEXTS) * len(potentials) :]
    parts, backs = _of_fixed_widths(fixed_widths, others, looks, guesses, stepping)
    return Reservoir(
        chemical_potential=potentials,
        width=gathered(lambda tally: tally.width.T).astype(np.int64),
        loss=gathered(lambda tally: tally.loss).astype(np.float64) / looks,
        solved=gathered(lambda tally: tally.solved) / looks,
        counts=np.moveaxis(cells, 1, 2).reshape(len(potentials), chains, 2, 2, 2, 2),
        parts=parts,
        backs=backs,
        full=full,
        inverse_temperature=settings.beta,
        empty_loss=empty,
        stepping=stepping,
    )


def _of_fixed_widths(
    tallies: Sequence[Tally], others: int, looks: int, guesses: np.ndarray, stepping: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """`parts` and `backs` of a `Reservoir`, from a tally per context of so many chains at each width."""

    def means(sums: Any) -> np.ndarray:
        return np.asarray(
            sums.reshape(len(sums), -1, others).T.astype(np.float64) - math.log(looks)
        )  # [chains, widths, ...]

    if stepping:
        return np.stack([means(tally.stones) for tally in tallies]), None
    both = [bridged(means(tally.inserted)[:, :-1], means(tally.removed)[:, 1:], guesses) for tally in tallies]
    return np.stack([parts for parts, _ in both]), np.stack([backs for _, backs in both])


def _empty_loss(units: Units, answers: np.ndarray) -> float:
    import jax.numpy as jnp

    return float(units.loss(jnp.zeros((*units.outputs, 1)), jnp.asarray(answers))[0])
