"""How far an inequality's value goes: what quantum states reach, and what any table without signalling does.

For two parties, correlators of a quantum state are products of unit vectors (Tsirelson 1987), so that the quantum bound of
an inequality in correlators alone is a semidefinite programme. It is solved here by moving one vector at a time, and what
is found is proved by the dual programme. For any number of parties with two settings each the bound is that of GHZ states
(Werner and Wolf 2001). Other inequalities have `npa_bound` (`npa.py`).

Solvers stop at differences of a fixed size, so every bound is found for coefficients of about 1 and multiplied afterwards (`in_units`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ncsim.statistics.linear_programmes import least

#: How far a value that is found may be from its proof.
PROVED = 1e-9
STARTS = 5
ROUNDS = 5_000


def in_units(coefficients: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients over the power of two that leaves the largest between 1 and 2, and that power: no digit is lost.

    Args:
        coefficients: [...], finite; all 0 stay as they are.
    """
    largest = float(np.abs(coefficients).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - 1 if largest > 0 else 0
    return np.ldexp(coefficients, -exponent), float(np.ldexp(1.0, exponent))


def without_constant(coefficients: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The first entry, which every table has whole, and the others by `in_units`: a large constant must not make them look small.

    Args:
        coefficients: of probabilities or of means, one axis of 1 + settings per party.
    """
    rest = np.array(coefficients, np.float64)
    constant, rest.flat[0] = float(rest.flat[0]), 0.0
    return constant, *in_units(rest)


def correlator_bound(weights: Float[np.ndarray, "..."]) -> float | None:
    """The largest quantum value of `sum of weights[settings] * <A B ...>`; None where no method here finds it.

    For two parties it is right to `PROVED`, in units of the largest weight or of the bound. For more with two settings each it is
    the best of many starts, which quantum states do reach; in theory a start could miss a larger one.
    """
    if not np.isfinite(weights).all() or weights.ndim == 0 or weights.size == 0:
        return None
    if not weights.any():
        return 0.0
    weights, unit = in_units(weights)
    if weights.ndim == 1:
        found: float | None = float(np.abs(weights).sum())
    elif weights.ndim == 2:
        found = _bound_of_vectors(weights)
    else:
        found = _bound_of_phases(weights) if max(weights.shape) <= 2 else None
    return None if found is None else unit * found


def no_signalling_bound(collins_gisin: Float[np.ndarray, "..."]) -> float:
    """The largest value of a table without signalling, by linear programme over its probabilities of outcome 0.

    Args:
        collins_gisin: coefficients, one axis of 1 + settings per party.

    Returns:
        The value, right to about 1e-9 of the largest coefficient.
    """
    from ncsim.statistics.notations import from_collins_gisin

    units = np.eye(collins_gisin.size).reshape(collins_gisin.size, *collins_gisin.shape)
    cells = np.stack([from_collins_gisin(unit).ravel() for unit in units], axis=1)
    first = units[0].reshape(1, -1)
    constant, rest, unit = without_constant(collins_gisin)
    found = least(-rest.ravel(), first, np.ones(1), -cells, np.zeros(len(cells)), most=1.0)
    return constant - unit * float(found.fun)


def _bound_of_vectors(weights: np.ndarray) -> float | None:
    """max of sum w_ij u_i . v_j over unit vectors; None if no start gives a value that the dual proves."""
    generator = np.random.default_rng(0)
    # Few dimensions first: with more than it takes, the way to the largest value is flat and slow.
    for dimensions in [d for d in range(1, sum(weights.shape) + 1) for _ in range(STARTS)]:
        v = _unit(generator.normal(size=(weights.shape[1], dimensions)))
        for _ in range(ROUNDS):
            before, u = v, _unit(weights @ v)
            v = _unit(weights.T @ u)
            if np.abs(v - before).max() < 1e-14:
                break
        value = float(np.linalg.norm(weights.T @ u, axis=1).sum())
        if _dual_value(weights, u, v) - value <= PROVED * max(1.0, value):
            return value
    return None


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def _dual_value(weights: np.ndarray, u: np.ndarray, v: np.ndarray) -> float:
    """An upper bound on every value: half the sum of any numbers on the diagonal that make the matrix below positive."""
    diagonal = np.concatenate([np.linalg.norm(weights @ v, axis=1), np.linalg.norm(weights.T @ u, axis=1)])
    zeros = [np.zeros((len(w), len(w))) for w in (weights, weights.T)]
    matrix = np.diag(diagonal) - np.block([[zeros[0], weights], [weights.T, zeros[1]]])
    missing = max(0.0, -float(np.linalg.eigvalsh(matrix)[0]))
    return float(diagonal.sum() + len(diagonal) * missing) / 2


def _bound_of_phases(weights: np.ndarray) -> float:
    """max of |sum of w(s) exp(i (phases of each party's setting))| (Werner and Wolf 2001, equation 21)."""
    generator = np.random.default_rng(0)
    best = 0.0
    for _ in range(40 * STARTS):
        phases = [np.exp(2j * np.pi * generator.random(settings)) for settings in weights.shape]
        value = 0.0
        for _ in range(ROUNDS):
            for party in range(weights.ndim):
                parts = np.moveaxis(weights.astype(complex), party, -1)
                for other in (p for p in range(weights.ndim) if p != party):
                    parts = np.tensordot(phases[other], parts, (0, 0))
                size = np.abs(parts)
                phases[party] = np.where(size > 0, parts.conj() / np.where(size > 0, size, 1.0), 1.0)
            before, value = value, float(size.sum())
            if value - before < 1e-15 * value:
                break
        best = max(best, value)
    return min(best, float(np.abs(weights).sum()))  # which rounding can pass
