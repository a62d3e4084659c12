"""What happens in the shared layer while two heads train on it: whose gradient pulls where, and how losses oscillate.

Section 4.3 of arXiv:2603.04451 explains S > 2 by "gradient competition": a hidden neuron receives conflicting gradients
from the two heads, which makes their losses oscillate. It measures neither; these are the measurements. The gradients
are those of each head's own mean loss over all rows it trains on, full batch and exact, before loss weights and before
what `intervention` does to them: they say what the heads ask for, not what the layer is given.

Reference for magnitude similarity and conflict: Yu et al. 2020, "Gradient surgery for multi-task learning".
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncsim.config.ensemble import EnsembleConfig
from ncsim.training.step import evaluated, sent_to_trunk, sum_rows


class GradientDiagnostics(NamedTuple):
    """Of one network's shared layer, by the gradients of Alice's and Bob's loss there (kernel and bias as one vector,
    or one neuron's share of them). `*L`: lanes. Where one of two gradients is zero (a dead neuron, a loss at its
    minimum) they have no angle: their cosine and their magnitude similarity are 0, and they are in no conflict."""

    alice_norm: Array  # [*L]: loss per unit of parameter
    bob_norm: Array  # [*L]
    cosine: Array  # [*L], -1 to 1
    magnitude_similarity: Array  # [*L]: 2 |a| |b| / (|a|^2 + |b|^2), 0 to 1
    conflict: Array  # bool[*L]: the cosine is negative
    neurons_in_conflict: Array  # [*L]: share of all neurons whose own cosine is negative
    neuron_cosine: Array  # [H, *L]


#: The fields that are one number a network: what a recording along training keeps.
SCALARS = ("alice_norm", "bob_norm", "cosine", "magnitude_similarity", "conflict", "neurons_in_conflict")


def diagnostics(config: EnsembleConfig, vector: Array, targets: Array) -> GradientDiagnostics:
    """Diagnostics at `vector` [P, *L], as `train` has it; `targets` [R, 2] or [R, 2, *L] of 0 and 1. Elementwise over
    lanes. A network that is not finite has NaN, and no conflict."""
    at = evaluated(config, vector, targets)
    gradients = [sent_to_trunk(config, at, head) for head in (0, 1)]
    neurons = _compared(*gradients)  # sums over features and bias
    whole = _compared(*(g.reshape(-1, *g.shape[2:]) for g in gradients))
    negative = (neurons.cosine < 0).astype(whole.cosine.dtype)
    return GradientDiagnostics(
        alice_norm=whole.alice_norm,
        bob_norm=whole.bob_norm,
        cosine=whole.cosine,
        magnitude_similarity=whole.similarity,
        conflict=whole.cosine < 0,
        neurons_in_conflict=sum_rows(negative) / len(negative),
        neuron_cosine=neurons.cosine,
    )


class _Compared(NamedTuple):
    alice_norm: Array
    bob_norm: Array
    cosine: Array
    similarity: Array


def _compared(alice: Array, bob: Array) -> _Compared:
    """Norms and angle over the leading axis. Scaled first: squares of a converged network's gradient underflow."""
    scales = [jnp.max(jnp.abs(g), axis=0) for g in (alice, bob)]
    units = [g / jnp.where(scale == 0, 1, scale) for g, scale in zip((alice, bob), scales, strict=True)]
    lengths = [jnp.sqrt(sum_rows(unit * unit)) for unit in units]
    norms = [length * scale for length, scale in zip(lengths, scales, strict=True)]
    both = (scales[0] != 0) & (scales[1] != 0)
    product = jnp.where(both, lengths[0] * lengths[1], 1)
    cosine = jnp.where(both, sum_rows(units[0] * units[1]) / product, 0)
    larger = jnp.maximum(*norms)
    ratio = jnp.minimum(*norms) / jnp.where(larger == 0, 1, larger)
    return _Compared(norms[0], norms[1], jnp.clip(cosine, -1, 1), 2 * ratio / (1 + ratio * ratio))


class Oscillation(NamedTuple):
    """How a trace oscillates about its trend. Leading axes are the traces'; a straight line has zeros everywhere."""

    detrended_variance: np.ndarray  # mean square about the least-squares line, in squares of the trace's unit
    sign_changes: np.ndarray  # int: of successive differences; a difference of 0 keeps the sign before it
    peak_frequency: np.ndarray  # of the detrended trace's periodogram, cycles a recorded point, above 0 to 0.5
    peak_power: np.ndarray  # the detrended variance that lies at that frequency


def oscillation(traces: Float[np.ndarray, "*axes steps"]) -> Oscillation:
    """Oscillation of loss traces at evenly spaced steps, in float64. The periodogram has no window, so that its sum is
    the detrended variance (Parseval).

    Raises:
        ValueError: fewer than four points.
    """
    traces = np.asarray(traces, np.float64)
    if traces.shape[-1] < 4:
        raise ValueError(f"traces: {traces.shape[-1]} points; allowed: 4 or more")
    residual = detrended(traces)
    power = periodogram(residual)
    peak = np.argmax(power, axis=-1)
    height = np.take_along_axis(power, peak[..., None], -1)[..., 0]
    # What rounding leaves of a straight line is no oscillation.
    flat = height <= (1e-12 * np.max(np.abs(traces), axis=-1)) ** 2
    return Oscillation(
        detrended_variance=np.where(flat, 0.0, np.mean(residual**2, axis=-1)),
        sign_changes=sign_changes(traces),
        peak_frequency=np.where(flat, 0.0, (peak + 1) / traces.shape[-1]),
        peak_power=np.where(flat, 0.0, height),
    )


def detrended(traces: np.ndarray) -> np.ndarray:
    """Traces [..., steps] less their least-squares lines."""
    steps = traces.shape[-1]
    time = np.arange(steps) - (steps - 1) / 2
    slope = traces @ time / (time @ time)
    return traces - traces.mean(axis=-1, keepdims=True) - slope[..., None] * time


def periodogram(residual: np.ndarray) -> np.ndarray:
    """Mean square of [..., steps] at frequencies 1/steps, 2/steps, ... to one half: [..., steps // 2]."""
    steps = residual.shape[-1]
    power = 2 * np.abs(np.fft.rfft(residual, axis=-1)[..., 1:]) ** 2 / steps**2
    if steps % 2 == 0:
        power[..., -1] /= 2
    return power


def sign_changes(traces: np.ndarray) -> np.ndarray:
    """How often the differences of [..., steps] change sign; a difference of 0 keeps the sign before it."""
    signs = np.sign(np.diff(traces, axis=-1))
    place = np.where(signs != 0, np.arange(signs.shape[-1]), 0)
    kept = np.take_along_axis(signs, np.maximum.accumulate(place, axis=-1), -1)
    return np.sum(kept[..., 1:] * kept[..., :-1] < 0, axis=-1)
