"""Optimisers step by step against their laws in plain Python, as PyTorch 2.13 has them, in float64; and where optax has another law."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.training.network import Architecture
from ncsim.training.optimizers import make_optimizer

#: Of one weight, with changes of sign, a zero and very different sizes.
GRADIENTS = (1.0, 0.5, -2.0, 1e-3, 0.0, -0.3, 7.0, 7.0, -1e-5, 0.2)
START, RATE = 0.7, 0.05


def moved(optimizer, options):
    """Where one weight is after each step."""
    config = ncsim.EnsembleConfig(hidden=1, optimizer=optimizer, optimizer_options=options, precision="float64")
    with jax.enable_x64(True):
        rule = make_optimizer(config, RATE)
        vector = jnp.full((Architecture.of(config).size, 1), START)
        state, found = rule.init(vector), []
        for gradient in GRADIENTS:
            updates, state = rule.update(jnp.full_like(vector, gradient), state, vector)
            vector = vector + updates
            found.append(float(vector[0, 0]))
    return found


def sgd(x, momentum, nesterov):
    velocity = 0.0
    for g in GRADIENTS:
        velocity = momentum * velocity + g
        x -= RATE * (g + momentum * velocity if nesterov else velocity)
        yield x


def adam(x, b1, b2, eps, decay=0.0, largest=False):
    m = v = 0.0
    for t, g in enumerate(GRADIENTS, 1):
        x -= RATE * decay * x
        m = b1 * m + (1 - b1) * g
        v = max(b2 * v, abs(g) + eps) if largest else b2 * v + (1 - b2) * g * g
        below = v if largest else math.sqrt(v / (1 - b2**t)) + eps
        x -= RATE * m / (1 - b1**t) / below
        yield x


def rmsprop(x, decay, eps, centered, momentum):
    v = mean = velocity = 0.0
    for g in GRADIENTS:
        v = decay * v + (1 - decay) * g * g
        mean = decay * mean + (1 - decay) * g
        velocity = momentum * velocity + g / (math.sqrt(v - mean * mean if centered else v) + eps)
        x -= RATE * velocity
        yield x


def adadelta(x, rho, eps, decay):
    v = u = 0.0
    for g in GRADIENTS:
        g += decay * x
        v = rho * v + (1 - rho) * g * g
        change = math.sqrt(u + eps) / math.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * change * change
        x -= RATE * change
        yield x


def rprop(x, shrink, grow, least, most, late):
    """Of Riedmiller and Braun (1993), and with every step one late, left out where the sign changes."""
    size, before, waiting = RATE, 0.0, 0.0
    for g in GRADIENTS:
        if g * before != 0:
            size = min(max(size * (grow if g * before > 0 else shrink), least), most)
        turned, now = g * before < 0, size * np.sign(g)
        before = 0.0 if turned else g
        x -= 0.0 if turned else (waiting if late else now)
        waiting = 0.0 if turned else now
        yield x


def adan(x, b1, b2, b3, eps, decay, weight):
    """Of Xie et al. (2022), where `weight` is b2: their betas are 1 minus these. They divide by 1 + RATE * decay at the end."""
    m = v = n = 0.0
    before = GRADIENTS[0]
    for t, g in enumerate(GRADIENTS, 1):
        change, before = g - before, g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * change
        n = b3 * n + (1 - b3) * (g + weight * change) ** 2
        step = (m / (1 - b1**t) + weight * v / (1 - b2**t)) / (math.sqrt(n / (1 - b3**t)) + eps)
        x -= RATE * (step + decay * x)
        yield x


@pytest.mark.parametrize(
    ("optimizer", "options", "law"),
    [
        ("sgd", "momentum=0.9", lambda: sgd(START, 0.9, False)),
        ("sgd", "momentum=0.8,nesterov=true", lambda: sgd(START, 0.8, True)),
        ("adam", "b1=0.8,b2=0.95,eps=0.001", lambda: adam(START, 0.8, 0.95, 1e-3)),
        ("adamw", "weight_decay=0.3", lambda: adam(START, 0.9, 0.999, 1e-8, decay=0.3)),
        ("adamax", "b1=0.8,b2=0.9,eps=0.001", lambda: adam(START, 0.8, 0.9, 1e-3, largest=True)),
        ("rmsprop", "decay=0.8,eps=0.001,eps_in_sqrt=false", lambda: rmsprop(START, 0.8, 1e-3, False, 0.0)),
        (
            "rmsprop",
            "decay=0.8,eps=0.001,eps_in_sqrt=false,centered=true,momentum=0.9",
            lambda: rmsprop(START, 0.8, 1e-3, True, 0.9),
        ),
        ("adadelta", "rho=0.8,eps=0.001,weight_decay=0.1", lambda: adadelta(START, 0.8, 1e-3, 0.1)),
    ],
)
def test_laws_that_others_have_too(optimizer, options, law):
    assert moved(optimizer, options) == pytest.approx(list(law()), rel=1e-12)


def test_rprop_is_one_step_late():
    """As optax 0.2.8 has it, and docs/how-to.md says. Where this fails, optax has mended it: members of runs with rprop are others then."""
    options = "eta_minus=0.4,eta_plus=1.3,min_step_size=0.001,max_step_size=0.2"
    found = moved("rprop", options)
    assert found == pytest.approx(list(rprop(START, 0.4, 1.3, 0.001, 0.2, late=True)), rel=1e-12)
    assert found[0] == START != next(rprop(START, 0.4, 1.3, 0.001, 0.2, late=False))


def test_adan_weighs_changes_by_what_the_paper_takes_off():
    """As optax 0.2.8 has it, and docs/how-to.md says. Where this fails, optax has mended it: members of runs with adan are others then."""
    found = moved("adan", "b1=0.9,b2=0.8,b3=0.95,eps_root=0,weight_decay=0.3")
    given = (START, 0.9, 0.8, 0.95, 1e-8, 0.3)
    assert found == pytest.approx(list(adan(*given, weight=1 - 0.8)), rel=1e-12)
    assert found != pytest.approx(list(adan(*given, weight=0.8)), rel=0.01)
