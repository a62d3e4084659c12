"""Trained networks of chosen members: their weights and their answers row by row. A run keeps counts and no weights, so that
they are trained again, which a member's id makes possible, and compared with what is stored.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.ensemble.audit import unequal_columns
from ncsim.ensemble.trainer import Trainer, trainer
from ncsim.errors import StoreError
from ncsim.executors.devices import checked_device_count
from ncsim.executors.own_programs import own_programs
from ncsim.forks import check_not_forked
from ncsim.records.joint_counts import joint_counts
from ncsim.records.members import MemberRecords
from ncsim.results import Run, open_run
from ncsim.storage.environment import trained_as_recorded


class MemberParameters(NamedTuple):
    """Trained parameters of M members. i and j are Alice's and Bob's task, each 0 or 1; Alice's head is the first.

    A logit of a head is the inner product of its kernel with max(0, inputs @ hidden_kernel + hidden_bias), plus its bias.

    Attributes:
        member: ids, uint64[M].
        hidden_kernel: weights of the shared layer, [M, i, j, features, units].
        hidden_bias: [M, i, j, units].
        head_kernel: weights of the heads, [M, i, j, 2, logits, units]; a head has 1 logit, or 2 with the loss cross_entropy.
        head_bias: [M, i, j, 2, logits].
        config: of the cell.

    Example:
        >>> import ncsim
        >>> run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, members=20, steps=50), executor="xla")
        >>> networks = ncsim.parameters(run, [7, 11])
        >>> networks.hidden_kernel.shape, networks.head_bias.shape
        ((2, 2, 2, 4, 2), (2, 2, 2, 2, 1))
        >>> variables = networks.variables(1, i=0, j=1)  # of member 11 in context 12
        >>> ncsim.NCnet(networks.config).apply(variables, np.zeros((16, 4))).shape
        (16, 2)
    """

    member: np.ndarray
    hidden_kernel: np.ndarray
    hidden_bias: np.ndarray
    head_kernel: np.ndarray
    head_bias: np.ndarray
    config: EnsembleConfig

    def variables(self, number: int, i: int, j: int) -> dict[str, Any]:
        """One network as variables of the Flax module `ncsim.NCnet`.

        Args:
            number: place of the member in `member`, from 0.
            i: Alice's task, 0 or 1.
            j: Bob's task, 0 or 1.
        """
        import jax.numpy as jnp

        tensors = ("hidden_kernel", "hidden_bias", "head_kernel", "head_bias")
        return {"params": {name: jnp.asarray(getattr(self, name)[number, i, j]) for name in tensors}}


class MemberOutcomes(NamedTuple):
    """What M members answer, row by row. i and j are Alice's and Bob's task, each 0 or 1; party 0 is Alice.

    Attributes:
        member: ids, uint64[M].
        outcomes: +1 where an answer is right and -1 where it is wrong, int8[M, i, j, party, row]; 0 where the network diverged.
        logits: decision logits, [M, i, j, party, row]; an answer is 1 where its logit is above 0.
        trained: rows that the member trained on, bool[M, row].

    Example:
        >>> import ncsim
        >>> run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, members=20, steps=50), executor="xla")
        >>> found = ncsim.outcomes(run, [7, 11])
        >>> bool((ncsim.joint_counts(found.outcomes) == run.counts[[7, 11]]).all())
        True
    """

    member: np.ndarray
    outcomes: np.ndarray
    logits: np.ndarray
    trained: np.ndarray


def parameters(
    run: Run | str | os.PathLike[str], members: Sequence[int], cell: int = 0, devices: int | None = None
) -> MemberParameters:
    """The trained parameters of chosen members, which are trained again and compared bit for bit with what is stored.

    Args:
        run: a run, or where it is stored.
        members: ids of members.
        cell: number of the cell in `run.configs`, from 0.
        devices: as for `run_ensemble`.

    Returns:
        `MemberParameters`, in the order of `members`: the network of arXiv:2603.04451, section 4.1.

    Raises:
        ConfigError: a member or a cell that is not there, or an executor that cannot train here.
        StoreError: a member does not come out as it is stored: another machine, version or executor.

    Example:
        >>> import ncsim
        >>> run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, members=20, steps=50), executor="xla")
        >>> ncsim.parameters(run, [0]).hidden_bias.shape
        (1, 2, 2, 2)
    """
    return parameters_of(*trained_again(run, members, cell, devices))


def parameters_of(config: EnsembleConfig, records: MemberRecords, networks: Any) -> MemberParameters:
    """The parameters of networks that were trained again."""
    from ncsim.training.network import Architecture

    architecture = Architecture.of(config)
    split = architecture.split(np.moveaxis(networks.vector[..., : architecture.size], -1, 0))
    last = split._replace(**{name: np.moveaxis(tensor, (-2, -1), (0, 1)) for name, tensor in split._asdict().items()})
    tensors = {name: tensor.reshape(records.size, 2, 2, *tensor.shape[2:]) for name, tensor in last._asdict().items()}
    return MemberParameters(member=records.member, **tensors, config=config)


def outcomes(
    run: Run | str | os.PathLike[str], members: Sequence[int], cell: int = 0, devices: int | None = None
) -> MemberOutcomes:
    """What chosen members answer on each row. They are trained again, and compared bit for bit with what is stored.

    Args:
        run: a run, or where it is stored.
        members: ids of members.
        cell: number of the cell in `run.configs`, from 0.
        devices: as for `run_ensemble`.

    Returns:
        `MemberOutcomes`, in the order of `members`; `joint_counts` of its outcomes are the stored ones
        (arXiv:2603.04451, section 4.1).

    Raises:
        ConfigError: a member or a cell that is not there, or an executor that cannot train here.
        StoreError: a member does not come out as it is stored: another machine, version or executor.

    Example:
        >>> import ncsim
        >>> run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, members=20, steps=50), executor="xla")
        >>> ncsim.outcomes(run, [3, 0]).outcomes.shape  # member, i, j, party, row
        (2, 2, 2, 2, 16)
    """
    config, records, networks = trained_again(run, members, cell, devices)
    logits = np.swapaxes(networks.logits, -1, -2).reshape(records.size, 2, 2, 2, config.tasks.rows)
    trained = np.ones((records.size, config.tasks.rows), bool)
    if config.training_rows:
        trained = networks.vector[:, 0, -config.tasks.rows :] > 0
    return MemberOutcomes(records.member, signed_outcomes(config, records, networks), logits, trained)


def signed_outcomes(config: EnsembleConfig, records: MemberRecords, networks: Any) -> np.ndarray:
    """int8[M, i, j, party, row], 0 where a network diverged."""
    right = (networks.logits > 0) == (context_targets(config.tasks) > 0)  # [M, context, row, party]
    signs = np.where(records.diverged[..., None, None], 0, np.where(right, 1, -1)).astype(np.int8)
    return np.swapaxes(signs, -1, -2).reshape(records.size, 2, 2, 2, -1)


def executor_of(run: Run, cell: int, feeder: Trainer) -> str:
    """What trained a cell; what "auto" comes to here where there is no record."""
    begun = run.executors
    return begun[cell] if begun else feeder.executors([run.configs[cell]], "auto")[0]


def trained_again(
    run: Run | str | os.PathLike[str], members: Sequence[int], cell: int, devices: int | None
) -> tuple[EnsembleConfig, MemberRecords, Any]:
    """The cell's config, the stored records of the members, and their networks."""
    run = run if isinstance(run, Run) else open_run(run)
    stored = run.members(members, cell)
    check_not_forked()
    config = run.configs[cell]
    with own_programs(), trained_as_recorded(run.location):
        feeder = trainer(checked_device_count(devices))
        records, networks = feeder.train_kept(config, stored.member, executor_of(run, cell, feeder))
    # Losses and margins, too: networks that solve everything have the same counts, whatever their weights are.
    same = np.ones(stored.size, bool)
    same[[row for row, _ in unequal_columns(stored._asdict(), records._asdict())]] = False
    answered = signed_outcomes(config, records, networks)
    counted = joint_counts(np.where(answered == 0, 1, answered))
    same &= ((counted == records.joint) | records.diverged.reshape(-1, 2, 2, 1, 1)).all(axis=(1, 2, 3, 4))
    if not same.all():
        raise StoreError(
            f"{run.location or 'this run'}: member {stored.member[~same][0]} does not come out as it is stored, so that this "
            "would be another network (another machine, version or executor?); allowed: where it was trained"
        )
    return config, stored, networks
