"""How many units a network has at a price: laws of the width, and two routes to its mean that must agree.

With weights z^n / n! Z_n the law of n follows from z and from ratios of neighbouring Z_n alone. A chain that exchanges units
gives the law by counting. Chains of fixed width give Z_{n+1} / Z_n = <exp(-beta (L_{n+1} - L_n))>, the mean over networks of n
units and one more of the prior (Widom 1963). That mean alone is too low in nearly every sample: much of it is of networks that are
all but never seen, bad ones that a second unit mends. So with any weight a, largest between both ensembles, it is taken as
<a exp(-beta dL)> over networks of n units and one more, by <a> over networks of n + 1 units (acceptance ratio, Bennett 1976). Where chains of fixed width are run at several inverse temperatures down to 0,
ln Z_n is a sum over them of ln <exp(-(beta - beta') L)> at beta' (stepping stones, Xie et al. 2011), which no rare unit decides.
Chains of both kinds stick in the same places, but do not err alike. So
no number is given where the routes part, where chains that began empty and full part or are not at least two each, or where errors
are too large to tell.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ncsim.formatting import told_apart
from ncsim.statistics.arguments import below_infinity, check_real, finite, numbers, one_number
from ncsim.statistics.bootstrap import bootstrap_mean
from ncsim.statistics.intervals import Estimate, jackknife_error

#: Standard errors by which two routes may differ: chance passes it once in ten thousand.
MOST_APART = 3.9
#: Routes that cannot be told apart at this distance, in units or relative to the mean, say too little.
RESOLUTION = 0.15
#: Said where `bridged` gives none.
NO_ESTIMATE = "chains of neighbouring fixed widths have too little in common"
#: Groups of chains that are left out in turn.
GROUPS = 50


@np.errstate(under="ignore")
def width_law(log_ratios: Float[np.ndarray, "*batch K"], log_z: float) -> Float[np.ndarray, "*batch K+1"]:
    """The law of the number of units, 0 to K.

    Args:
        log_ratios: ln (Z_{n+1} / Z_n), n from 0 to K - 1.
        log_z: ln z = inverse temperature times chemical potential.

    Returns:
        Probabilities, of weights z^n / n! Z_n. Units are exchangeable, hence the factorial; where Z_n does not depend on n the law is
        Poisson's, cut off at K. Grand canonical ensembles: Gibbs 1902.

    Raises:
        ValueError: ratios that have no axis, or that are no real numbers below infinity; a ln z that is none.

    Example:
        >>> import numpy as np
        >>> width_law(np.zeros(2), np.log(2.0)).round(3).tolist()
        [0.2, 0.4, 0.4]
    """
    ratios, log_z = below_infinity("log_ratios", log_ratios), float(below_infinity("log_z", one_number("log_z", log_z)))
    if ratios.ndim == 0:
        raise ValueError("log_ratios: one number; allowed: [..., K], one per unit that may be there")
    return _law(ratios, log_z)


def _law(ratios: np.ndarray, log_z: float) -> np.ndarray:
    """As `width_law`, which checks them; NaN where a ratio is."""
    count = np.arange(1, ratios.shape[-1] + 1)
    weights = np.cumsum(ratios + log_z - np.log(count), axis=-1)
    weights = np.concatenate([np.zeros((*ratios.shape[:-1], 1)), weights], axis=-1)
    weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


@np.errstate(under="ignore")
def grand_potential(losses: Any, log_z: float, beta: float) -> Any:
    """-ln Xi / beta of networks that may have 0 to K of given units, Xi = sum of z^n / n! exp(-beta L_n).

    As a function of the units' parameters it is a sum over n, hence single-valued: along any closed loop it changes by 0, and so
    does a phase made of it. Its gradient is the mean of those of L_n over the law of n, z^n / n! exp(-beta L_n) / Xi.

    Args:
        losses: L_n of the first n units, n from 0 to K, [..., K + 1]; of NumPy or JAX. A loss of infinity is no such network.
        log_z: as for `width_law`; minus infinity allows no unit.
        beta: inverse temperature, above 0.

    Returns:
        Omega, in units of the loss, [...] (arXiv:2012.05082, where it is the phase); infinity where all losses are.

    Raises:
        ValueError: losses that have no axis or are no real numbers, an inverse temperature that is not finite and above 0, or a ln z
            that is no number.

    Example:
        >>> import numpy as np
        >>> float(grand_potential(np.zeros(2), 0.0, 0.5).round(4))  # -2 ln 2
        -1.3863
    """
    check_real("losses", losses)
    if getattr(getattr(losses, "dtype", None), "kind", "O") == "O":  # lists, and Python's own numbers
        losses = numbers("losses", losses)
    xp = losses.__array_namespace__() if hasattr(losses, "__array_namespace__") else np
    # Whole numbers become floating-point ones, and float32 stays float32: ln n! is no whole number.
    losses = xp.asarray(losses) * 1.0
    if losses.ndim == 0:
        raise ValueError("losses: one number; allowed: [..., K + 1], of 0 to K units")
    beta = finite("beta", beta, above=0)
    if isinstance(losses, np.ndarray) or not hasattr(log_z, "ndim"):
        log_z = one_number("log_z", log_z)
        if math.isnan(log_z):
            raise ValueError("log_z: nan; allowed: a number")
    elif np.shape(log_z):  # an array of JAX, whose number is not known while it is traced
        raise ValueError(f"log_z: shape {np.shape(log_z)}; allowed: a number")
    if losses.shape[-1] == 0:
        raise ValueError("losses: none; allowed: [..., K + 1], of 0 to K units")
    count = np.arange(losses.shape[-1])
    # z^0 is 1 also where ln z is infinite.
    from_z = xp.where(count > 0, log_z * np.maximum(count, 1), 0.0)
    prior = from_z - np.cumsum(np.log(np.maximum(count, 1)))
    exponent = xp.asarray(prior, dtype=losses.dtype) - beta * losses
    top = xp.max(exponent, axis=-1, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)  # infinity less itself is no number
    with np.errstate(divide="ignore"):  # no weight at all: Xi = 0, and its logarithm
        return -(xp.log(xp.sum(xp.exp(exponent - top), axis=-1)) + top[..., 0]) / beta


@np.errstate(under="ignore")
def log_ratios(
    parts: Float[np.ndarray, "chains K S"],
    log_empty: float | None,
    backs: Float[np.ndarray, "chains K S"] | None = None,
) -> Float[np.ndarray, " K"]:
    """ln (Z_{n+1} / Z_n), n from 0 to K - 1, of what chains of fixed width gave.

    By insertion (S = 1, `log_empty` None) they are what chains had, averaged, less the average of what those of one unit more gave by
    removal; by stepping stones `parts` are of n = 1 to K, their sums ln Z_n, and `log_empty` is ln Z_0."""
    means = _log_means(parts) - (0.0 if backs is None else _log_means(backs))
    return np.asarray(means if log_empty is None else np.diff(means, prepend=log_empty))


def _log_means(parts: np.ndarray) -> np.ndarray:
    """ln of means over chains, added up over the last axis: [chains, K, S] to [K]."""
    top = parts.max(axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # networks of one unit more that nobody has
        return np.asarray((np.log(np.mean(np.exp(parts - top), axis=0)) + top).sum(axis=-1))


#: Guesses of a logarithm of ratios that are further from what they lead to give no estimate.
FARTHEST_CENTRE = 4.0


@np.errstate(under="ignore")
def bridged(
    inserted: Float[np.ndarray, "chains K G"],
    removed: Float[np.ndarray, "chains K G"],
    centres: Float[np.ndarray, " G"],
) -> tuple[Float[np.ndarray, "chains K 1"], Float[np.ndarray, "chains K 1"]]:
    """`parts` and `backs` of `two_routes` from chains of fixed width, by acceptance ratio.

    The weight 1 / (1 + exp(-beta dL - c)) is the best where c is the logarithm that is asked for (Bennett 1976, equations 11 and 12). It
    is estimated with each guess, and that one taken which is nearest to what it leads to. NaN where none is near: then the error is that
    of a mean which rare networks decide.

    Args:
        inserted: ln of the mean of 1 / (1 + exp(beta dL + c)) of each chain of n units, n from 0 to K - 1, and a unit of the prior.
        removed: ln of the mean of 1 / (1 + exp(-beta dL - c)) of each chain of n + 1 units, and one of these.
        centres: c.
    """
    ahead = inserted + centres
    found = np.stack([log_ratios(a[..., None], None, b[..., None]) for a, b in _by_last(ahead, removed)], axis=-1)
    off = np.abs(found - centres)  # [K, G]
    best = np.argmin(np.where(np.isnan(off), np.inf, off), axis=-1)
    place = best[None, :, None]
    near = np.take_along_axis(off, best[:, None], axis=-1) <= FARTHEST_CENTRE
    parts, backs = (
        np.take_along_axis(each, np.broadcast_to(place, (len(each), *place.shape[1:])), axis=-1)
        for each in (ahead, removed)
    )
    return np.where(near, parts, np.nan), backs


def _by_last(first: np.ndarray, second: np.ndarray) -> Any:
    return zip(np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0), strict=True)


class TwoRoutes(NamedTuple):
    """A mean width by two routes, and what may be said of it.

    Attributes:
        chains: by chains that exchange units, in units; its interval is of chains, each one value.
        canonical: by chains of fixed width.
        starts: mean of chains that began empty less that of those that began full, NaN where all began alike, and its
            standard error.
        problem: why no number is given; "" where routes agree.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> widths = np.minimum(rng.poisson(1.0, (400, 200)), 8).mean(axis=1)  # what 400 chains had in the mean, without a loss
        >>> found = two_routes(widths, np.arange(400) % 2 == 0, np.zeros((60, 8, 1)), 0.0)
        >>> found.problem, round(found.number.value)
        ('', 1)
    """

    chains: Estimate
    canonical: Estimate
    starts: tuple[float, float]
    problem: str

    @property
    def number(self) -> Estimate:
        """The mean width by chains where routes agree; NaN in 0 to K, with the reason as its method, where they do not."""
        low, high = self.chains.low, self.chains.high
        return self.chains if not self.problem else Estimate(math.nan, min(low, 0.0), high, self.problem)


@np.errstate(under="ignore")
def two_routes(
    widths: Float[np.ndarray, " chains"],
    full: Any,
    parts: Float[np.ndarray, "others K S"],
    log_z: float,
    log_empty: float | None = None,
    backs: Float[np.ndarray, "others K S"] | None = None,
) -> TwoRoutes:
    """Mean width by both routes.

    Args:
        widths: mean number of units of each chain that exchanges them.
        full: bool[chains]: it began full.
        parts: ln of the mean of exp(-beta dL) of each chain of fixed width n, n from 0 to K - 1; or, with `log_empty`, ln of the mean of
            exp(-(beta - beta') L) of chains of n from 1 to K units at S lower inverse temperatures beta'.
        log_z: as for `width_law`.
        log_empty: ln Z of no unit, for stepping stones; None for insertion.
        backs: for insertion with a weight a, whose `parts` are ln of the mean of a exp(-beta dL): ln of the mean of a of each chain of n + 1
            units. Without it a is 1, and rare networks decide.

    Returns:
        See `TwoRoutes`. Sources: Widom 1963; Bennett 1976; Efron 1982 (the jackknife, over groups of chains).

    Raises:
        ValueError: `parts` that have not three axes or nothing on one, `backs` of another shape, not one start per width, starts that are
            no bool, or what are no real numbers.

    Example:
        >>> import numpy as np
        >>> two_routes(np.full(100, 3.0), np.arange(100) % 2 == 0, np.zeros((60, 8, 1)), 0.0).problem
        'routes differ: 3.000 by chains, 1.000 by fixed widths'
    """
    from scipy.special import stdtrit

    widths, full, parts = numbers("widths", widths), np.asarray(full), numbers("parts", parts)
    log_z = float(below_infinity("log_z", one_number("log_z", log_z)))
    log_empty = None if log_empty is None else one_number("log_empty", log_empty)
    if parts.ndim != 3 or parts.size == 0 or full.shape != widths.shape:
        raise ValueError(f"parts: shape {parts.shape}; allowed: [chains, K, S], and one start per width")
    backs = None if backs is None else numbers("backs", backs)
    if backs is not None and backs.shape != parts.shape:
        raise ValueError(f"backs: shape {backs.shape}; allowed: {parts.shape}, that of parts")
    if full.dtype != bool:
        raise ValueError(f"full: type {full.dtype}; allowed: bool")
    slots = parts.shape[1]
    value, error = _by_fixed_widths(parts, backs, log_z, log_empty)
    chains = bootstrap_mean(widths, support=(0.0, float(slots)))
    reach = float(stdtrit(max(min(GROUPS, len(parts)) - 1, 1), 0.975)) * error
    canonical = Estimate(
        value, max(value - reach, 0.0), min(value + reach, float(slots)), "Student's t, jackknife over chains"
    )
    own = _error(widths)
    empty = widths[~full]
    apart = float(empty.mean() - widths[full].mean()) if len(empty) and full.any() else math.nan
    starts = (apart, math.hypot(_error(empty), _error(widths[full])))
    both = math.hypot(own, error)
    problem = ""
    if min(int(full.sum()), int((~full).sum())) < 2:
        problem = f"starts cannot be compared: {int((~full).sum())} from empty, {int(full.sum())} from full"
    elif abs(starts[0]) > MOST_APART * starts[1] + 1e-9:
        problem = f"starts differ: {told_apart(starts[0], 3, 0, sign=True)} from empty to full"
    elif abs(chains.value - value) > MOST_APART * both + 1e-3:
        problem = f"routes differ: {chains.value:.3f} by chains, {value:.3f} by fixed widths"
    elif not MOST_APART * both <= RESOLUTION * max(1.0, chains.value):
        said = f"standard error {both:.3f}" if math.isfinite(both) else NO_ESTIMATE
        problem = f"routes are too uncertain to compare: {said}"
    return TwoRoutes(chains, canonical, starts, problem)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def _by_fixed_widths(
    parts: np.ndarray, backs: np.ndarray | None, log_z: float, log_empty: float | None
) -> tuple[float, float]:
    """Mean width and its standard error."""
    number = np.arange(parts.shape[1] + 1)
    whole, left_out = left_out_ratios(parts, log_empty, backs)
    value = float(_law(whole, log_z) @ number)
    return value, jackknife_error(_law(left_out, log_z) @ number) if len(left_out) else math.inf


def left_out_ratios(
    parts: np.ndarray, log_empty: float | None, backs: np.ndarray | None
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "groups K"]]:
    """`log_ratios` of all chains, and with every so-many-th chain left out in turn at all widths at once; no group of one chain."""
    groups = min(GROUPS, len(parts))
    group = np.arange(len(parts)) % groups

    def kept(which: np.ndarray) -> np.ndarray:
        return log_ratios(parts[which], log_empty, None if backs is None else backs[which])

    left_out = [kept(group != one) for one in range(groups)] if groups > 1 else []
    return kept(group >= 0), np.array(left_out).reshape(-1, parts.shape[1])
