"""Whether heads are separable: what each remembers of the other's start, and whether what it computes is a product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import shown, whole_number
from ncsim.config.tasks import context_names
from ncsim.ensemble.trainer import trainer
from ncsim.errors import ConfigError
from ncsim.executors.own_programs import own_programs


class ForeignShare(NamedTuple):
    """How heads of M members answer to where they began, in C contexts at R steps; party 0 is Alice.

    Attributes:
        member: ids, uint64[M].
        context: names, as "12": Alice's task, then Bob's.
        step: optimiser steps taken, int64[R].
        share: float64[M, C, R, party], 0 to 1: of what a head remembers of both heads' starts, the part that is the other's.
            NaN where it remembers nothing or a twin diverged.
        response: float64[M, C, R, 2, 2], squared Frobenius norms of d(head p now) / d(head q at the start); p first.
        vector: the members' parameters, float64[M, C, R, P]; after them a 1 or 0 per row where `training_rows` is given.
        config: of the members.
    """

    member: np.ndarray
    context: tuple[str, ...]
    step: np.ndarray
    share: np.ndarray
    response: np.ndarray
    vector: np.ndarray
    config: EnsembleConfig


def foreign_share(
    config: EnsembleConfig,
    steps: Sequence[int] | None = None,
    contexts: Sequence[str] = context_names(),
    devices: int | None = None,
) -> ForeignShare:
    """How much of each head is the other's doing: the share of its memory that is of the other head's start.

    With J = d theta(t) / d theta(0), the Jacobian of training, and blocks J_AA, J_AB of Alice's head by Alice's and by Bob's
    starting parameters, Alice's share is |J_AB|^2 / (|J_AA|^2 + |J_AB|^2) in Frobenius norms. J is measured by twins: per
    parameter of a head two networks start 1e-6 above and below the member and train as it does. 0 says that nothing of Bob's
    start has come to Alice's head, 1/2 that she remembers both alike.

    The share is 0 at steps 0 and 1, and exactly 0 at all steps where nothing of the other head reaches the shared layer. Of
    optimisers that take norms over a layer neither holds.

    Args:
        config: of the members, with precision "float64". A member is trained as often as both heads have parameters, twice.
        steps: optimiser steps after which to look, ascending, from 0; `config.steps` alone if not given.
        contexts: names of contexts, as `ncsim.config.tasks.context_names` gives them.
        devices: as for `run_ensemble`.

    Returns:
        `ForeignShare`. The claim that it is for is that back-propagation makes parts of a network not separable (Patrascu);
        the definition is ours.

    Raises:
        ConfigError: float32, steps that do not ascend, or a context that is not there.

    Example:
        >>> import ncsim
        >>> config = ncsim.EnsembleConfig(hidden=1, members=4, precision="float64")
        >>> found = ncsim.foreign_share(config, steps=[1, 20], contexts=["11"])
        >>> found.share.shape, float(found.share[:, :, 0].max())
        ((4, 1, 2, 2), 0.0)
    """
    from ncsim.training.separability import foreign_part

    if config.precision != "float64":
        raise ConfigError(
            f"--precision: {config.precision}; twins differ by less than it resolves; allowed here: float64"
        )
    at = _ascending((config.steps,) if steps is None else steps)
    numbers = _numbers_of(contexts)
    with own_programs():
        found = trainer(devices).train_twins(config, np.asarray(config.member_ids), at, numbers)
    names = tuple(context_names()[number] for number in numbers)
    member = np.asarray(config.member_ids, np.uint64)
    return ForeignShare(member, names, at, foreign_part(found.response), found.response, found.vector, config)


def _ascending(steps: Sequence[int]) -> np.ndarray:
    numbers = [whole_number(step) for step in steps]
    good = [number for number in numbers if number is not None and 0 <= number <= 10**9]
    if not good or len(good) < len(numbers) or any(b <= a for a, b in zip(good, good[1:], strict=False)):
        raise ConfigError(f"steps: {shown(list(steps))}; allowed: ascending whole numbers from 0 to 1,000,000,000")
    return np.asarray(good, np.int64)


def _numbers_of(contexts: Any) -> tuple[int, ...]:
    names = context_names()
    if isinstance(contexts, str) or not contexts or len(set(contexts)) < len(contexts) or set(contexts) - set(names):
        raise ConfigError(f"contexts: {shown(contexts)}; allowed: a list of {', '.join(names)}, each once")
    return tuple(map(names.index, contexts))
