"""Ensembles of four-qubit circuits, in the place of NCnets: the same tasks, contexts, counts and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig, field_specs, program_of, swept_fields
from ncsim.config.fields import option_name
from ncsim.config.given import all_configs
from ncsim.config.scenarios import two_by_two
from ncsim.errors import ConfigError
from ncsim.executors.devices import checked_device_count, devices_to_use, failing_in_one_line
from ncsim.executors.own_programs import own_programs
from ncsim.jax_settings import own_settings
from ncsim.records.members import MemberRecords, concatenated
from ncsim.results import Run

#: Blocks that one call trains on a device.
BLOCKS = 8
#: Fields that are as for NCnets. `hidden` says which NCnet has as many parameters as the circuit.
USED = (
    "hidden members first_member steps learning_rate optimizer optimizer_options loss common_initialization root_seed "
    "precision undecided_tolerance tasks"
).split()


def run_circuits(
    config: EnsembleConfig | Sequence[EnsembleConfig], encoding: str = "angle", devices: int | None = None
) -> Run:
    """Train four-qubit circuits in place of NCnets, with as many parameters, and keep the records in memory.

    A circuit encodes a row of four features, has layers of RY on each qubit with a ring of CNOTs after each, and answers by
    <Z> of its first and third qubit, each times a trained scale plus a trained bias. Heads are trained together, as an NCnet's
    (arXiv:2603.04451, section 4.2). The circuit is the one known as RealAmplitudes.

    Args:
        config: of one cell or of a grid. `hidden` stands for the number of parameters, which is that of an NCnet of so many
            hidden units: 7 n + 2. Fields about the shared layer, initialisation and encoding of an NCnet must be as by default.
        encoding: "angle", RY(pi x) on qubit k for feature k, which makes rows basis states; or "amplitude",
            (1, +-1, +-1, +-1, +-1) / sqrt 5.
        devices: as for `run_ensemble`.

    Returns:
        A `Run` in memory, as `run_ensemble` gives it. The joint counts are of answers over rows; they are no measurements of
        one state, since a context is a circuit of its own.

    Raises:
        ConfigError: a field that a circuit has not, or other than four features.

    Example:
        >>> from ncsim.ensemble.circuits import run_circuits
        >>> run_circuits(EnsembleConfig(hidden=1, members=20, steps=3)).counts.shape
        (20, 2, 2, 2, 2)
    """
    configs = all_configs(config)
    _check(configs, encoding)
    devices = checked_device_count(devices)
    with failing_in_one_line(unless=lambda error: False), own_programs():
        records = [_trained(each, encoding, devices) for each in configs]
    return Run(configs, records, executors=["xla"] * len(configs))


def _check(configs: Sequence[EnsembleConfig], encoding: str) -> None:
    """Refuse what a circuit has not."""
    from ncsim.training.circuit import ENCODINGS, QUBITS
    from ncsim.training.optimizers import validate_optimizers

    if encoding not in ENCODINGS:
        raise ConfigError(f"encoding: {encoding}; allowed: {', '.join(ENCODINGS)}")
    default = EnsembleConfig()
    for config in configs:
        two_by_two(config.tasks)
        for name in field_specs():
            value, usual = getattr(config, name), getattr(default, name)
            if name not in USED and value != usual:
                raise ConfigError(f"{option_name(name)}: {value}; a circuit has no such thing; allowed: {usual}")
        if config.loss == "cross_entropy":
            raise ConfigError("--loss: cross_entropy; a circuit's head has one logit; allowed: bce, squared_error")
        if config.optimizer not in ELEMENTWISE_OPTIMIZERS:
            allowed = ", ".join(ELEMENTWISE_OPTIMIZERS)
            raise ConfigError(
                f"--optimizer: {config.optimizer}; a circuit has no layers of its kind; allowed: {allowed}"
            )
        if config.tasks.features != QUBITS:
            raise ConfigError(f"tasks: {config.tasks.features} features; allowed: {QUBITS}, one per qubit")
    swept_fields(configs)
    validate_optimizers(configs)


def _trained(config: EnsembleConfig, encoding: str, devices: int | None) -> MemberRecords:
    """Every member of a cell, some blocks per call. Each device has a program of its own and every so-many-th call: a program
    that is split over devices is compiled to other roundings, and a member may not depend on their number."""
    used = devices_to_use(devices)
    starts = range(config.first_member, config.member_ids.stop, _members_per_call(used[0].platform))
    with ThreadPoolExecutor(len(used)) as threads:
        waiting = [
            threads.submit(_on_device, config, encoding, device, starts[number :: len(used)])
            for number, device in enumerate(used)
        ]
        by_device = [each.result() for each in waiting]
    return concatenated([by_device[number % len(used)][number // len(used)] for number in range(len(starts))])


def _members_per_call(platform: str) -> int:
    from ncsim.executors import xla

    return BLOCKS * xla.circuit_lanes(platform)


def _on_device(config: EnsembleConfig, encoding: str, device: Any, starts: range) -> list[MemberRecords]:
    """The records of each call that begins with one of these members. The last one is filled up with ids that follow, which
    are dropped."""
    if not starts:
        return []
    import jax

    from ncsim.executors import xla
    from ncsim.training.circuit import Circuit

    found = []
    with own_settings(), jax.enable_x64(config.precision == "float64"):  # both are of a thread
        mesh = jax.make_mesh((1,), (xla.MEMBERS,), devices=[device])
        program = xla.circuit_program(Circuit.of(config, encoding), program_of(config), mesh, BLOCKS)
        for first in starts:
            ids = (first + np.arange(BLOCKS * program.lanes, dtype=np.int64)).astype(np.uint32).reshape(BLOCKS, -1)
            members = min(config.member_ids.stop - first, ids.size)
            blocks = np.array([-(-members // program.lanes)], np.int32)
            result = program.run(config.root_seed, ids, blocks, config.learning_rate, config.steps)
            columns = {
                name: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:members]
                for name, leaf in result._asdict().items()
                if leaf is not None
            }
            found.append(MemberRecords(first + np.arange(members, dtype=np.uint64), **columns))
    return found
