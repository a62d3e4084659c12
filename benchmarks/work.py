"""The work that every peer of a benchmark does, and a slow reference step to hold the peers to.

A *network-step* is one optimiser step of one network on all sixteen rows of the paper's tasks: a forward pass, the
gradient of the two heads' mean binary cross-entropies, and Adam (arXiv:2603.04451, sections 4.1 and 4.2). A member is
four networks, one a context. NumPy alone: no peer's library is imported here.

Axes: P parameters (input weights [feature, unit], hidden biases, head weights [head, unit], head biases), N networks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncsim.config.tasks import CONTEXTS, PAPER_TASKS, context_targets

LEARNING_RATE = 0.01
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
INPUTS = np.asarray(PAPER_TASKS.inputs, np.float32)  # [rows, features]
TARGETS = context_targets(PAPER_TASKS).astype(np.float32)  # [contexts, rows, heads]
CONTEXT_COUNT = len(CONTEXTS)


class Outcome(NamedTuple):
    """How trained networks ended, over all networks of one context."""

    solved: float  # fraction that answers every row of both heads right
    loss: float  # mean over networks of the final training loss
    loss_error: float  # standard error of that mean
    networks: int


def parameter_count(hidden: int) -> int:
    """P of a dense network with `hidden` units, four inputs and two heads of one logit."""
    return 4 * hidden + hidden + 2 * hidden + 2


def starts(hidden: int, networks: int, seed: int) -> np.ndarray:
    """Initial parameters, float32 [P, N]: weights and biases uniform in +-1/sqrt(fan_in)."""
    fan_in = np.r_[np.full(5 * hidden, 4.0), np.full(2 * hidden + 2, float(hidden))]
    draws = np.random.default_rng(seed).uniform(-1, 1, (parameter_count(hidden), networks))
    return (draws / np.sqrt(fan_in)[:, None]).astype(np.float32)


def forward(parameters: np.ndarray, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """Hidden activations [rows, H, N] and logits [rows, 2, N] of parameters [P, N]."""
    kernel, bias, heads, head_bias = _split(parameters, hidden)
    active = np.maximum(np.einsum("rf,fhn->rhn", INPUTS, kernel) + bias, 0)
    return active, np.einsum("khn,rhn->rkn", heads, active) + head_bias


def trained(start: np.ndarray, targets: np.ndarray, hidden: int, steps: int) -> np.ndarray:
    """Parameters [P, N] after Adam steps from `start`, in float64: Kingma and Ba 2015, algorithm 1, slowly."""
    parameters = start.astype(np.float64)
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(1, steps + 1):
        gradient = _gradient(parameters, targets, hidden)
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient**2
        root = np.sqrt(second / (1 - BETA_2**step))
        parameters -= LEARNING_RATE * first / (1 - BETA_1**step) / (root + EPSILON)
    return parameters


def outcome(parameters: np.ndarray, targets: np.ndarray, hidden: int) -> Outcome:
    """How networks with parameters [P, N] do on targets [rows, heads]."""
    _, logits = forward(parameters.astype(np.float64), hidden)
    answers = targets[:, :, None]
    right = (logits > 0) == (answers > 0)
    losses = np.mean(np.logaddexp(0, logits) - answers * logits, axis=0).sum(axis=0)
    networks = parameters.shape[1]
    return Outcome(
        solved=float(np.mean(np.all(right, axis=(0, 1)))),
        loss=float(np.mean(losses)),
        loss_error=float(np.std(losses) / np.sqrt(networks)),
        networks=networks,
    )


def disagreements(ours: Outcome, theirs: Outcome, sigmas: float = 5.0) -> list[str]:
    """What two samples of networks cannot have in common, in words; nothing where the same law explains both.

    Five standard errors: a false alarm once in a million comparisons.
    """
    found = []
    pooled = (ours.solved * ours.networks + theirs.solved * theirs.networks) / (ours.networks + theirs.networks)
    error = np.sqrt(pooled * (1 - pooled) * (1 / ours.networks + 1 / theirs.networks))
    if abs(ours.solved - theirs.solved) > sigmas * error:
        found.append(f"solved {ours.solved:.4f} and {theirs.solved:.4f}, standard error {error:.4f}")
    error = np.hypot(ours.loss_error, theirs.loss_error)
    if abs(ours.loss - theirs.loss) > sigmas * error:
        found.append(f"mean loss {ours.loss:.4f} and {theirs.loss:.4f}, standard error {error:.4f}")
    return found


def _split(parameters: np.ndarray, hidden: int) -> tuple[np.ndarray, ...]:
    kernel, bias, heads, head_bias = np.split(parameters, np.cumsum([4 * hidden, hidden, 2 * hidden]))
    return kernel.reshape(4, hidden, -1), bias, heads.reshape(2, hidden, -1), head_bias


def _gradient(parameters: np.ndarray, targets: np.ndarray, hidden: int) -> np.ndarray:
    active, logits = forward(parameters, hidden)
    _, _, heads, _ = _split(parameters, hidden)
    residuals = (1 / (1 + np.exp(-logits)) - targets[:, :, None]) / len(INPUTS)
    through = np.einsum("rkn,khn->rhn", residuals, heads) * (active > 0)
    pieces = (
        np.einsum("rf,rhn->fhn", INPUTS, through),
        through.sum(axis=0),
        np.einsum("rkn,rhn->khn", residuals, active),
        residuals.sum(axis=0),
    )
    return np.concatenate([piece.reshape(-1, parameters.shape[1]) for piece in pieces])
