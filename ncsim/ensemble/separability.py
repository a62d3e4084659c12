"""Whether heads are separable: what each remembers of the other's start, and whether what it computes is a product."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import list_of, shown, whole_number
from ncsim.config.given import one_config
from ncsim.config.scenarios import two_by_two
from ncsim.config.tasks import context_names
from ncsim.ensemble.trainer import trainer
from ncsim.errors import ConfigError
from ncsim.executors.devices import checked_device_count, prepare_jax
from ncsim.executors.own_programs import own_programs

#: Networks whose logits and kernels are computed at a time.
BATCH = 1024
#: How far a twin starts from its member. Training of ReLU units has kinks: where twins pass one at another step than the member,
#: their difference is no derivative any more. Of 128 networks (n = 3, context 11, 3,000 steps of Adam) three quarters have another share at
#: 1e-6 than at 1e-8, and a sixth at 1e-9 than at 1e-10. Rounding is 1e-16 over it.
APART = 1e-10


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

    Example:
        >>> import ncsim
        >>> config = ncsim.EnsembleConfig(hidden=1, members=4, precision="float64")
        >>> found = ncsim.foreign_share(config, steps=[1, 20], contexts=["11"])
        >>> found.schmidt_entropy().shape, found.cross_kernel().shape, found.curvature_information(0.01).shape
        ((4, 1, 2, 2), (4, 1, 2), (4, 1, 2))
        >>> bool((found.curvature_entanglement(0.01) >= found.curvature_information(0.01) - 1e-12).all())
        True
    """

    member: np.ndarray
    context: tuple[str, ...]
    step: np.ndarray
    share: np.ndarray
    response: np.ndarray
    vector: np.ndarray
    config: EnsembleConfig

    def schmidt_entropy(self) -> np.ndarray:
        """How far the members' functions are from products: entropy in nats, float64[M, C, R, party].

        A head's logits are a matrix over (Alice's features) x (Bob's features); the entropy is of its squared singular values,
        as a pure state of two parties has it (Schmidt). 0 for a function of one party's features, and for +-1 times +-1.
        Logits of 0 and 1 would give other values. NaN where a network diverged.

        Raises:
            ConfigError: rows that are not all of Alice's features times all of Bob's.
        """
        from ncsim.statistics.separability import schmidt_entropy
        from ncsim.training.initialization import row_tuples
        from ncsim.training.network import Architecture, forward
        from ncsim.training.separability import grid_of_rows

        grid, architecture = grid_of_rows(self.config.tasks), Architecture.of(self.config)
        rows = row_tuples(self.config)
        logits = self._of_each(lambda vector: forward(architecture.split(vector[: architecture.size]), rows)[1])
        return schmidt_entropy(
            np.moveaxis(logits[..., grid.reshape(-1), :], -1, -2).reshape(*logits.shape[:3], 2, *grid.shape)
        )

    def cross_kernel(self) -> np.ndarray:
        """What one head's loss may move of the other's logits at once, by the tangent kernel: float64[M, C, R], 0 to 1.

        |K_AB| / sqrt(|K_AA| |K_BB|) in Frobenius norms, K_pq = J_p J_q^T over rows, J the derivative of the logits by all that is
        trained (Jacot et al. 2018). 0 where the shared layer is frozen and where trunks are separate. Gradients that are stopped
        or projected are not in it.
        """
        from ncsim.training.separability import cross_kernel, logit_jacobian

        return self._of_each(lambda vector: cross_kernel(logit_jacobian(self.config, vector)))

    def curvature_information(self, ridge: float) -> np.ndarray:
        """Mutual information of both heads' parameters in nats, float64[M, C, R], in a Gaussian whose precision is the
        Gauss-Newton matrix of the logits plus a ridge, with the shared layer marginalised.

        It says what heads could share, not what they do: it is blind to stopped gradients, and it depends on the ridge a
        hundredfold. Print it with its ridge or not at all. NaN where a network diverged.

        Args:
            ridge: added to the diagonal, in units of its mean; above 1e-10 and below 1e6.

        Raises:
            ConfigError: another ridge.
        """
        from ncsim.statistics.separability import gaussian_information

        return self._of_precisions(ridge, gaussian_information)

    def curvature_entanglement(self, ridge: float) -> np.ndarray:
        """Entropy of entanglement of both heads' parameters in nats, float64[M, C, R]: of the root of the density that
        `curvature_information` takes the mutual information of. It has the same limits.

        Args:
            ridge: as there.

        Raises:
            ConfigError: another ridge.
        """
        from ncsim.statistics.separability import gaussian_entanglement

        return self._of_precisions(ridge, gaussian_entanglement)

    def _of_precisions(self, ridge: float, function: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        """A function of both heads' precision, [M, C, R]."""
        from ncsim.training.separability import heads_precision, logit_jacobian

        ridge = checked_ridge(ridge)
        slopes = self._of_each(lambda vector: logit_jacobian(self.config, vector))
        found = np.full(slopes.shape[:3], np.nan)
        good = np.isfinite(slopes).all(axis=(-3, -2, -1))
        found[good] = function(*heads_precision(slopes[good], self.config, ridge))
        return found

    def _of_each(self, function: Callable[[Any], Any]) -> np.ndarray:
        """A function of one network's vector [P], of every network: [M, C, R, ...]."""
        import jax

        with own_programs(), jax.enable_x64(True):
            flat = self.vector.reshape(-1, self.vector.shape[-1])
            found = np.asarray(jax.jit(lambda all_: jax.lax.map(function, all_, batch_size=BATCH))(flat))
        return found.reshape(*self.vector.shape[:3], *found.shape[1:])


def foreign_share(
    config: EnsembleConfig,
    steps: Sequence[int] | None = None,
    contexts: Sequence[str] = context_names(),
    devices: int | None = None,
    apart: float = APART,
) -> ForeignShare:
    """How much of each head is the other's doing: the share of its memory that is of the other head's start.

    With J = d theta(t) / d theta(0), the Jacobian of training, and blocks J_AA, J_AB of Alice's head by Alice's and by Bob's
    starting parameters, Alice's share is |J_AB|^2 / (|J_AA|^2 + |J_AB|^2) in Frobenius norms. J is measured by twins: per
    parameter of a head two networks start `apart` above and below the member and train as it does. 0 says that nothing of Bob's
    start has come to Alice's head, 1/2 that she remembers both alike. All are trained by XLA, the one executor that has float64.

    The share is 0 at steps 0 and 1, and exactly 0 at all steps where nothing of the other head reaches the shared layer. Of
    optimisers that take norms over a layer neither holds.

    Args:
        config: of the members, with precision "float64". A member is trained as often as both heads have parameters, twice.
        steps: optimiser steps after which to look, ascending, from 0; `config.steps` alone if not given.
        contexts: names of contexts, as `ncsim.config.tasks.context_names` gives them.
        devices: as for `run_ensemble`.
        apart: how far a twin starts from its member, above 0 and below 1. Too far, and twins come to other sides of a ReLU's kink; too
            near, and rounding (1e-16 / apart) shows. Compare two values where single members matter.

    Returns:
        `ForeignShare`. The claim that it is for is that back-propagation makes parts of a network not separable (Patrascu);
        the definition is ours, and the networks are those of arXiv:2603.04451, section 4.1.

    Raises:
        ConfigError: float32, an optimiser whose steps are signs, steps that do not ascend, or a context that is not there.

    Example:
        >>> import ncsim
        >>> config = ncsim.EnsembleConfig(hidden=1, members=4, precision="float64")
        >>> found = ncsim.foreign_share(config, steps=[1, 20], contexts=["11"])
        >>> found.share.shape, float(found.share[:, :, 0].max())
        ((4, 1, 2, 2), 0.0)
    """
    from ncsim.training.optimizers import validate_optimizers
    from ncsim.training.separability import foreign_part, steps_are_signs

    two_by_two(one_config(config).tasks)
    if config.precision != "float64":
        raise ConfigError(
            f"--precision: {config.precision}; twins differ by less than it resolves; allowed here: float64"
        )
    prepare_jax(used := checked_device_count(devices))  # the optimiser's steps are tried
    validate_optimizers([config])
    if steps_are_signs(config):
        named = " with ".join(filter(None, (config.optimizer, config.optimizer_options)))
        raise ConfigError(
            f"--optimizer: {named}; its steps are signs, whose derivative is 0 whatever heads do to each other; "
            "allowed here: another optimiser"
        )
    at = _ascending((config.steps,) if steps is None else steps)
    chosen = _numbers_of(contexts)
    distance = _between("apart", apart, 0, 1)
    with own_programs():
        found = trainer(used).train_twins(config, np.asarray(config.member_ids), at, chosen, distance)
    names = tuple(context_names()[number] for number in chosen)
    member = np.asarray(config.member_ids, np.uint64)
    return ForeignShare(member, names, at, foreign_part(found.response), found.response, found.vector, config)


def checked_ridge(ridge: Any, name: str = "ridge") -> float:
    """A ridge in Python's own type; a ConfigError where it is none: below, what rounding leaves is no precision of anything."""
    return _between(name, ridge, 1e-10, 1e6)


def _between(name: str, value: Any, low: float, high: float) -> float:
    real: Any = value if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    if not low < real < high:
        raise ConfigError(f"{name}: {shown(value)}; allowed: a number above {low:g} and below {high:g}")
    return float(real)


def _ascending(steps: Any) -> np.ndarray:
    given = list_of(steps, [None])
    good = [number for number in map(whole_number, given) if number is not None and 0 <= number <= 10**9]
    if not good or len(good) < len(given) or any(b <= a for a, b in itertools.pairwise(good)):
        raise ConfigError(f"steps: {shown(steps)}; allowed: ascending whole numbers from 0 to 1,000,000,000")
    return np.asarray(good, np.int64)


def _numbers_of(contexts: Any) -> tuple[int, ...]:
    names = context_names()
    given = list_of(contexts, [None])
    if not given or not all(isinstance(each, str) and each in names for each in given) or len(set(given)) < len(given):
        raise ConfigError(f"contexts: {shown(contexts)}; allowed: a list of {', '.join(names)}, each once")
    return tuple(names.index(each) for each in given)
