"""What a run is: one frozen dataclass, checked when it is made, whose fields are also the command line's options."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ncsim.config import fields
from ncsim.config.fields import choice as _choice
from ncsim.config.fields import integer as _integer
from ncsim.config.fields import number as _number
from ncsim.config.fields import option_name, shown
from ncsim.config.scenarios import ScenarioTasks, refused_scenario, tasks_from_dict
from ncsim.config.tasks import MAX_ROWS, PAPER_TASKS, Tasks
from ncsim.errors import ConfigError

#: optax optimisers that treat every parameter by itself: they run on all members' parameters at once.
ELEMENTWISE_OPTIMIZERS = (
    "adabelief adadelta adagrad adam adamax adamaxw adamw adan amsgrad lion optimistic_adam_v2 "
    "optimistic_gradient_descent radam rmsprop rprop sgd sign_sgd signum yogi"
).split()
#: optax optimisers that look at a whole layer (norms, factored moments): they are vmapped, member by member.
LAYERWISE_OPTIMIZERS = "adafactor fromage lamb lars novograd sm3".split()

#: What can train a run: the executors, or the fastest of them that can.
EXECUTORS = ("auto", "xla", "pallas", "native", "cuda")

#: What may be done to the gradients that the heads' losses send into the shared layer.
INTERVENTIONS = (
    "none",
    "stop_gradient_alice",
    "stop_gradient_bob",
    "frozen_trunk",
    "separate_trunks",
    "pcgrad",
)
#: Cells of a grid: one more option with a few values is easily a thousand times as many.
MAX_CELLS = 100_000

MAX_MEMBER = 2**32  # jax.random.fold_in takes 32 bits of member id


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """One ensemble of NCnets: `members` quadruples of networks, one network a context.

    Every field is checked when the object is made; `dataclasses.replace` checks again. For a grid over fields see
    `config_grid`. The paper (arXiv:2603.04451, section 4) gives `hidden`, and `tasks` are its equations 2 and 3. It leaves open
    what all others were.

    Attributes:
        hidden: hidden units in the layer that both heads share, 1 to 64; n in the paper's figure 2.
        members: networks per context, 1 to 4,294,967,296.
        first_member: id of the first member, 0 to 4,294,967,295; ids lie below 4,294,967,296.
        steps: optimiser steps, each on all rows that are trained on, 1 to 1,000,000,000.
        learning_rate: of the optimiser, above 0; constant over training.
        optimizer: an optax optimiser by its name, of those that `ncsim ensemble --help` lists.
        optimizer_options: its further arguments as text, "momentum=0.9,nesterov=true"; "" for none.
        loss: "bce", "squared_error" or "cross_entropy", per head and averaged over rows.
        initialization: law of the weights, "uniform" (+-1/sqrt(fan_in)) or normal of variance 2/fan_in ("he"), 1/fan_in
            ("lecun") or 1 ("normal").
        bias_initialization: "uniform" (+-1/sqrt(fan_in)) or "zeros".
        initialization_scale: factor on every initial weight and bias, above 0.
        encoding: inputs as 0 and 1 ("binary") or as -1 and +1 ("sign").
        topology: "dense", one shared layer, or "overlap", two XORnets that share units (the paper's figure 1b).
        shared: units that both XORnets share, 0 to 64 and at most `hidden`; with "overlap" alone.
        common_initialization: whether a member's four contexts start from the same parameters.
        root_seed: seed of the run, 0 to 18,446,744,073,709,551,615 (2^64 - 1).
        precision: arithmetic of training, "float32" or "float64".
        undecided_tolerance: distance from 0, in logits, within which an answer is recorded as undecided; 0 or above.
        tasks: `TruthTables` of both parties, the paper's unless given; or `ScenarioTasks`, which `ncsim.run_scenario` trains.
        intervention: what becomes of the heads' gradients in the shared layer: "none", "stop_gradient_alice",
            "stop_gradient_bob", "frozen_trunk", "separate_trunks" or "pcgrad" (Yu et al. 2020).
        alice_weight: factor on Alice's loss, 0 or above; not 0 for both.
        bob_weight: factor on Bob's loss, likewise.
        training_rows: rows of the truth table that a member trains on, 0 to 64 and at most the tasks'; 0 is all.

    Raises:
        ConfigError: a field that is out of range, or that another one switches off or breaks, in one line.

    Example:
        >>> config = EnsembleConfig(hidden=4, members=100, first_member=50)
        >>> config.steps, config.loss, config.member_ids
        (3000, 'bce', range(50, 150))
    """

    hidden: int = _integer(3, 1, 64, "hidden units in the layer that both heads share")
    members: int = _integer(10_000, 1, MAX_MEMBER, "networks per context; a member is one network in each context")
    first_member: int = _integer(0, 0, MAX_MEMBER - 1, "id of the first member: member ids, not their number, seed")
    steps: int = _integer(3_000, 1, 10**9, "optimiser steps, each on all rows of the truth table")
    learning_rate: float = _number(0.01, 0.0, math.inf, "learning rate, constant over training")
    optimizer: str = _choice("adam", sorted(ELEMENTWISE_OPTIMIZERS + LAYERWISE_OPTIMIZERS), "optimiser, by optax name")
    # comma-separated name=number pairs for the optax optimiser, for example "momentum=0.9,nesterov=true"
    optimizer_options: str = field(
        default="", metadata={"type": str, "help": "further optax arguments, as momentum=0.9,nesterov=true"}
    )
    loss: str = _choice(
        "bce",
        ("bce", "squared_error", "cross_entropy"),
        "loss per head: binary cross-entropy of one logit; squared error of a linear output against -1 and +1; "
        "cross-entropy of two logits",
    )
    initialization: str = _choice(
        "uniform",
        ("uniform", "he", "lecun", "normal"),
        "weights: uniform in +-1/sqrt(fan_in); normal of variance 2/fan_in, 1/fan_in, or 1",
    )
    bias_initialization: str = _choice(
        "uniform", ("uniform", "zeros"), "biases: uniform in +-1/sqrt(fan_in) of their layer, or zero"
    )
    initialization_scale: float = _number(1.0, 0.0, math.inf, "factor on every initial weight and bias")
    encoding: str = _choice("binary", ("binary", "sign"), "inputs as 0 and 1, or as -1 and +1")
    topology: str = _choice(
        "dense",
        ("dense", "overlap"),
        "dense: every unit sees all inputs and feeds both heads; overlap: two XORnets that share some units (figure 1b)",
    )
    shared: int = _integer(1, 0, 64, "units that both XORnets share, with topology overlap")
    common_initialization: bool = field(
        default=False, metadata={"type": bool, "help": "start a member's four contexts from the same parameters"}
    )
    root_seed: int = _integer(0, 0, 2**64 - 1, "seed of the run; member m, context c fold their ids into it")
    precision: str = _choice("float32", ("float32", "float64"), "arithmetic of training")
    undecided_tolerance: float = _number(
        0.01, 0.0, math.inf, "an answer whose logit is closer to 0 than this is recorded as undecided", open_low=False
    )
    # truth tables of both parties' tasks; given in Python only
    tasks: Tasks = field(default=PAPER_TASKS, metadata={"type": Tasks})
    intervention: str = _choice(
        "none",
        INTERVENTIONS,
        "what becomes of the losses' gradients in the shared layer: that head's is not sent there; neither is, and the "
        "layer stays as it began; each head has a layer of --hidden units of its own; or, where the two conflict, each is "
        "projected off the other (Yu et al. 2020)",
    )
    alice_weight: float = _number(1.0, 0.0, math.inf, "factor on Alice's loss", open_low=False)
    bob_weight: float = _number(1.0, 0.0, math.inf, "factor on Bob's loss", open_low=False)
    training_rows: int = _integer(
        0, 0, MAX_ROWS, "rows of the truth table that a member trains on, drawn by its key for all its contexts; 0: all"
    )

    def __post_init__(self) -> None:
        self._check()
        problem = refusal(self)
        if problem is not None:
            raise ConfigError(problem)

    def _check(self) -> None:
        """Every field in its own type and range, also of a run that is stored."""
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            object.__setattr__(self, spec.name, checked(spec.name, value))
        if self.precision == "float32":
            self._check_float32()
        if self.first_member + self.members > MAX_MEMBER:
            raise ConfigError(
                f"--members: first member {self.first_member} + {self.members} members; allowed: ids below {MAX_MEMBER}"
            )
        if self.topology == "overlap" and self.shared > self.hidden:
            raise ConfigError(f"--shared: {self.shared}; allowed: 0 to --hidden, {self.hidden}")
        if self.topology == "overlap" and self.hidden == 1 and self.shared == 0:
            raise ConfigError("--shared: 0; allowed: 1 where --hidden is 1, or Bob would have no unit")
        if self.topology == "overlap" and self.intervention == "separate_trunks":
            raise ConfigError("--intervention: separate_trunks with --topology overlap; allowed: with --topology dense")
        if self.alice_weight == self.bob_weight == 0:
            raise ConfigError("--alice-weight: 0.0 with --bob-weight 0.0; allowed: at least one of the two above 0")
        if self.training_rows > self.tasks.rows:
            raise ConfigError(
                f"--training-rows: {self.training_rows}; allowed: 0 (all) to {self.tasks.rows}, the rows of the tasks"
            )

    def _check_float32(self) -> None:
        """Training would take such a number for 0 or infinity."""
        for name, spec in field_specs().items():
            value = getattr(self, name)
            of_training = spec["type"] is float and name != "initialization_scale"  # of starts, see `refusal`
            if of_training and (problem := fields.lost_in_float32(option_name(name), value)) is not None:
                raise ConfigError(f"{problem}, or --precision float64")

    @property
    def member_ids(self) -> range:
        """The ids that this run trains."""
        return range(self.first_member, self.first_member + self.members)


def isolating(config: EnsembleConfig) -> str | None:
    """The option that promises that a head trains without anything of the other's, in words; None where none does."""
    if config.intervention not in ("none", "pcgrad"):
        return f"--intervention {config.intervention}"
    if config.topology == "overlap" and config.shared == 0:
        return "--shared 0"
    unheard = [name for name in ("alice_weight", "bob_weight") if getattr(config, name) == 0]
    return f"{option_name(unheard[0])} 0" if unheard else None


def refusal(config: EnsembleConfig) -> str | None:
    """Why no new run has these fields together, in one line; None where one may. Stored runs of them can be read."""
    if config.topology == "dense" and config.shared != EnsembleConfig.shared:
        return f"--shared: {config.shared} with --topology dense, which all share; allowed: with --topology overlap"
    starts = fields.lost_in_float32("--initialization-scale", config.initialization_scale)
    if starts is not None:
        return f"{starts}, in either precision: networks start from float32 numbers"
    for name, value in parse_optimizer_options(config.optimizer_options).items():
        if config.precision == "float32" and (problem := fields.lost_in_float32(f"--optimizer-options: {name}", value)):
            return f"{problem}, or --precision float64"
    promise = isolating(config)
    if isinstance(config.tasks, ScenarioTasks) and (problem := refused_scenario(config)) is not None:
        return problem
    if promise is not None and config.optimizer in LAYERWISE_OPTIMIZERS:
        # Their norms span a layer, and both heads are one, as both trunks are.
        return (
            f"--optimizer: {config.optimizer} with {promise}; it takes norms over both heads, so that each moves the "
            f"other; allowed: {', '.join(ELEMENTWISE_OPTIMIZERS)}"
        )
    apart = "--topology overlap" if config.topology == "overlap" else "--intervention separate_trunks"
    if config.optimizer == "yogi" and (config.topology == "overlap" or config.intervention == "separate_trunks"):
        return (
            f"--optimizer: yogi with {apart}; its mean begins at 1e-6, which moves connections that are not there; "
            "allowed: another optimiser"
        )
    for party, weight in (("alice", config.alice_weight), ("bob", config.bob_weight)):
        if weight == 0 and config.intervention in ("pcgrad", f"stop_gradient_{party}"):
            return (
                f"--intervention: {config.intervention} with --{party}-weight 0, which leaves it nothing to do; "
                "allowed: a weight above 0"
            )
    if config.intervention == "pcgrad" and promise is not None:
        return f"--intervention: pcgrad with {promise}, where gradients cannot conflict; allowed: --shared 1 or more"
    return None


@functools.cache  # asked for every field of every cell
def field_specs() -> dict[str, Mapping[str, Any]]:
    """Each field's metadata: type, help, and either choices or low and high."""
    return {spec.name: spec.metadata for spec in dataclasses.fields(EnsembleConfig)}


def allowed_values(name: str) -> str:
    """What a field may be, in words for help and errors."""
    if name == "optimizer_options":
        return "name=number pairs with commas between, as momentum=0.9,nesterov=true"
    if name == "tasks":
        return "an ncsim.TruthTables, or an ncsim.ScenarioTasks"
    return fields.allowed_values(field_specs()[name])


def checked(name: str, value: Any) -> Any:
    """One field's value in its own type, or a ConfigError of one line."""
    if isinstance(value, list | tuple | range):
        raise ConfigError(f"{option_name(name)}: {shown(value)}; one value a config: use ncsim.config_grid for a sweep")
    value = fields.checked(name, value, field_specs()[name], allowed_values(name))
    if name == "optimizer_options":
        parse_optimizer_options(value)
    return value


def parse_optimizer_options(text: str) -> dict[str, float | bool]:
    """ "momentum=0.9,nesterov=true" as a dict; a ConfigError where it does not read as that, or names one twice."""
    options: dict[str, float | bool] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition("=")
        try:
            words: dict[str, float | bool] = {"true": True, "false": False}
            number = words.get(value.strip().lower())
            number = fields.parsed("", float, value.strip(), "") if number is None else number
            if not name.strip().isidentifier() or not math.isfinite(number) or name.strip() in options:
                raise ValueError
        except ValueError:
            allowed = allowed_values("optimizer_options")
            raise ConfigError(f"--optimizer-options: {shown(text)}; allowed: {allowed}") from None
        options[name.strip()] = number
    return options


def meaning(name: str, value: Any) -> Any:
    """A field's value, the same where only its text differs: momentum=0.9 and momentum=0.90 train the same networks."""
    return frozenset(parse_optimizer_options(value).items()) if name == "optimizer_options" else value


def config_grid(**fields: Any) -> list[EnsembleConfig]:
    """Every combination of the values given as lists, in the order of the arguments, the last varying fastest.

    Args:
        fields: fields of `EnsembleConfig` by name; a list is an axis, any other value is in every cell.

    Returns:
        One config per cell. A single cell where no value is a list.

    Raises:
        ConfigError: a field that does not exist, a value that is not allowed, or more than 100,000 cells.

    Example:
        >>> [config.hidden for config in config_grid(hidden=[2, 3, 4], members=100)]
        [2, 3, 4]
    """
    return grid_of(fields)


def grid_of(fields: Mapping[str, Any], stored: Collection[str] = ()) -> list[EnsembleConfig]:
    """As `config_grid`. Values of a `stored` field, of a file, may differ in their text alone: a run of a list of configs has such cells."""
    known = field_specs()
    for name in fields:
        if name not in known:
            raise ConfigError(f"{option_name(name)}: no such option; allowed: {', '.join(known)}")
    for name, values in fields.items():
        if isinstance(values, range) and values[MAX_CELLS:]:  # before a list is made of it
            raise ConfigError(f"{option_name(name)}: {values} has too many values; allowed: up to {MAX_CELLS:,} cells")
    axes = {name: list(v) if isinstance(v, list | tuple | range) else [v] for name, v in fields.items()}
    for name, values in axes.items():
        if not values:
            raise ConfigError(f"{option_name(name)}: no value; allowed: one or more, each {allowed_values(name)}")
        values[:] = [checked(name, value) for value in values]
        if len({value if name in stored else meaning(name, value) for value in values}) != len(values):
            raise ConfigError(f"{option_name(name)}: {shown(values)} names a value twice")
    cells = math.prod(map(len, axes.values()))
    if cells > MAX_CELLS:
        swept = ", ".join(option_name(name) for name, values in axes.items() if len(values) > 1)
        raise ConfigError(f"{swept}: a grid of {cells:,} cells; allowed: up to {MAX_CELLS:,}")
    if "shared" in axes and "overlap" not in axes.get("topology", ()):
        # Even as the default: it was asked for.
        raise ConfigError(f"--shared: {axes['shared'][0]} with --topology dense; allowed: with --topology overlap")
    return [EnsembleConfig(**dict(zip(axes, cell, strict=True))) for cell in itertools.product(*axes.values())]


def swept_fields(configs: Sequence[EnsembleConfig]) -> list[str]:
    """The fields in which these configs differ, in field order. `members` and `first_member` may not differ."""
    names = [name for name in field_specs() if len({getattr(config, name) for config in configs}) > 1]
    for name in names:
        if name in ("members", "first_member", "tasks"):
            raise ConfigError(f"{option_name(name)}: differs between the cells of a grid; allowed: one value for all")
    if len({config.root_seed >= 2**63 for config in configs}) > 1:  # a column has one type
        raise ConfigError("--root-seed: seeds below 2^63 with others; allowed in one grid: all below it, or none")
    if len({tuple(getattr(config, name) for name in names) for config in configs}) != len(configs):
        raise ConfigError("two cells of the grid are the same config; allowed: each once")
    return names


def to_dict(config: EnsembleConfig) -> dict[str, Any]:
    """A config as JSON can hold it."""
    return dataclasses.asdict(config)


#: Fields that came after runs had been stored: left out of what names a run where they have their default, so that a
#: stored run stays the same run.
LATER_FIELDS = ("intervention", "alice_weight", "bob_weight", "training_rows")


def identity(config: EnsembleConfig) -> dict[str, Any]:
    """What a member's result depends on besides its id, as JSON can hold it."""
    default = {name: spec.default for name, spec in EnsembleConfig.__dataclass_fields__.items()}
    return {
        name: value
        for name, value in to_dict(config).items()
        if name not in ("members", "first_member") and not (name in LATER_FIELDS and value == default[name])
    }


def from_dict(values: Mapping[str, Any]) -> EnsembleConfig:
    """The config that `to_dict` gave, checked again: also of a run that was begun before its fields were refused together."""
    known = field_specs()
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{option_name(unknown[0])}: no such option in this version of ncsim")
    values = dict(values)
    if isinstance(values.get("tasks"), Mapping):
        values["tasks"] = tasks_from_dict(dict(values["tasks"]))
    config = object.__new__(EnsembleConfig)
    for spec in dataclasses.fields(EnsembleConfig):
        object.__setattr__(config, spec.name, values.get(spec.name, spec.default))
    config._check()
    return config


def network_steps(config: EnsembleConfig) -> int:
    """Optimiser steps that one member takes, over its contexts."""
    return len(config.tasks.contexts) * config.steps


@functools.lru_cache(maxsize=4096)
def fingerprint(config: EnsembleConfig) -> str:
    """What a member's result depends on besides its id, as 16 hex digits."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:16]


def run_digits(configs: Sequence[EnsembleConfig]) -> str:
    """Eight hex digits of the run that a grid is, whatever its number of members: for the name of a folder."""
    together = "".join(sorted(fingerprint(config) for config in configs))
    return hashlib.sha256(together.encode()).hexdigest()[:8]


def program_of(config: EnsembleConfig) -> EnsembleConfig:
    """The config without what a compiled program takes as arguments: configs that share it share a program."""
    return dataclasses.replace(config, members=1, first_member=0, root_seed=0, learning_rate=1.0, steps=1)
