"""Closed forms beside the fluid of learning: kappa of packets with momentum, and hbar of an action.

`ncsim.statistics.hydrodynamics` has the equation that both are of.
"""

from __future__ import annotations

import math

from ncsim.statistics.arguments import finite, one_number


def action_hbar_squared(diffusion: float, speed: float, multiplier: float) -> float:
    """hbar^2 in the action of arXiv:2008.01540, section 5, with m = 1 / (2 gamma): 4 D / (gamma lambda) - 1 / lambda^2.

    With F = Phi + ln p / (2 lambda) the terms of that action between sqrt(p) are (D - gamma / 4 lambda) I
    + lambda <dPhi/dt + gamma |grad Phi|^2 + V>, I = <|grad ln p|^2>. That is Madelung's action. It is above 0 only for
    0 < gamma / lambda < 4 D. A chemical potential does not occur in it.

    Args:
        diffusion: D.
        speed: gamma.
        multiplier: lambda, of the constraint on free-energy production; not 0.

    Raises:
        ValueError: a speed or a multiplier of 0, or what is no finite number.

    Example:
        >>> action_hbar_squared(diffusion=0.25, speed=0.5, multiplier=1.0)
        1.0
    """
    finite("diffusion", diffusion)
    for name, value in (("speed", speed), ("multiplier", multiplier)):
        if finite(name, value) == 0:
            raise ValueError(f"{name}: {value}; allowed: another number than 0")
    return (4 * diffusion * multiplier / speed - 1) / multiplier / multiplier  # whose square may be no float


def momentum_kappa(time: float, variance: float = 1.0, heat: float = 1.0, friction: float = 1.0) -> float:
    """kappa that free packets with momentum show at one time: 2 s^3 s'' of their width s.

    Positions start with a variance and velocities in equilibrium, of variance T / m = `heat`; the friction is per unit of time. It
    is pressure at first, of the sign of Schroedinger's equation, and -2 D^2, D = heat / friction, in the end (Uhlenbeck and
    Ornstein 1930).

    Args:
        time: 0 or above.
        variance: of positions at the start, 0 or above.
        heat: T / m, of velocities, 0 or above.
        friction: finite and above 0; right to rounding however small, 2 T / m times the variance in the end.

    Raises:
        ValueError: a time, a variance or a heat below 0, or a friction that is not finite and above 0.

    Example:
        >>> [round(momentum_kappa(time), 2) for time in (0.01, 1.0, 10.0)]
        [1.98, 0.48, -2.0]
    """
    if not one_number("time", time) >= 0:
        raise ValueError(f"time: {time}; allowed: 0 or above")
    for name, value in (("variance", variance), ("heat", heat)):
        if finite(name, value) < 0:
            raise ValueError(f"{name}: {value}; allowed: 0 or above")
    finite("friction", friction, above=0)
    # s^2 = variance + 2 heat (x - 1 + e^-x) / friction^2, x = friction times time. In 2 s^3 s'' the terms that cancel leave this.
    decay = math.exp(-friction * time)
    return 2 * heat * (variance * decay - 2 * heat * _spared(time, friction))


def _spared(time: float, friction: float) -> float:
    """e^-x (sinh x - x) / friction^2, x = friction times time, of which the difference cancels where x is small."""
    x = min(friction * time, 1e3)  # e^-x is 0 from there on, and infinity times 0 is no number
    if x > 1:
        return (-math.expm1(-2 * x) / 2 - x * math.exp(-x)) / friction / friction
    series = sum(x ** (2 * k + 1) / math.factorial(2 * k + 3) for k in range(9))  # (sinh x - x) / x^2
    return math.exp(-x) * series * time * time
