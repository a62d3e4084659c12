"""A chain over networks whose units come from a reservoir and go back to it: birth, death and moves, for one network.

The state is n exchangeable units. Its weight is z^n / n! exp(-beta L) times the prior of n units, each standard normal times a
scale, which does not know n. A step proposes one thing, by chance: a unit of the prior is born, accepted with
min(1, z / (n + 1) exp(-beta dL)); a unit drawn at random dies, min(1, n / z exp(-beta dL)); or one moves,
w -> sqrt(1 - c^2) w + c xi, which keeps the prior, min(1, exp(-beta dL)). Each is in detailed balance (Geyer and Moller 1994; Neal
1998). Without 1 / n! units would be told apart, and without any loss n would be geometric in place of Poisson.

Axes: K slots for units, P parameters of a unit, *O outputs, T inverse temperatures, G centres, L lanes, one chain each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p
from jax.scipy.special import ndtri
from jaxtyping import Array

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import encoded_inputs
from ncsim.training.losses import LOSSES
from ncsim.training.observation import outcome_cells

#: Of proposals, a quarter are births and a quarter deaths where units are exchanged.
EXCHANGE_SHARE = 0.25


class Units(NamedTuple):
    """What a unit is. Outputs are sums over units, so that a step computes one unit anew and not the network.

    `response`: parameters [P, *L] to a unit's share of the outputs [*O, *L]. `loss`: outputs and answers to [*L]. `cells`: outputs and
    answers to how often heads were wrong and right, int32[4, *L], as 00, 01, 10, 11; None where there are no heads."""

    parameters: int
    outputs: tuple[int, ...]
    response: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]
    cells: Callable[[Array, Array], Array] | None = None


class Chain(NamedTuple):
    """Where chains are. Slots from `width` on hold nothing."""

    units: tuple[Array, ...]  # K of [P, T, L]
    width: Array  # int32[T, L]
    outputs: Array  # [*O, T, L]
    loss: Array  # [T, L]


class Sum(NamedTuple):
    """A sum of very many float32: what float32 has of it, and what it leaves. Ten million losses, each added to all before it, would
    come out wrong by percents."""

    high: Array
    low: Array

    def plus(self, term: Array) -> Sum:
        """The sum with one more term; what rounding loses is kept for the next (Knuth's two-sum)."""
        term = term + self.low
        high = self.high + term
        before = high - term
        return Sum(high, (self.high - before) + (term - (high - before)))

    def total(self) -> Array:
        """The sum, rounded once."""
        return self.high + self.low


class LogSum(NamedTuple):
    """The logarithm of a sum of exponentials: the largest exponent so far, and the sum of what is over it."""

    top: Array
    over: Sum

    def plus(self, exponent: Array) -> LogSum:
        """The sum with the exponential of one more. A logarithm that is added to stays where it is from two million terms on."""
        top = jnp.maximum(self.top, exponent)
        # Equal ones may be infinite, whose difference is no number.
        shrink = jnp.where(self.top == top, 1, jnp.exp(self.top - top))
        over = jax.lax.optimization_barrier(Sum(self.over.high * shrink, self.over.low * shrink))
        return LogSum(top, over.plus(jnp.where(exponent == top, 1, jnp.exp(exponent - top))))

    def total(self) -> Array:
        """The logarithm."""
        return self.top + jnp.log(self.over.total())


class Tally(NamedTuple):
    """What is added up along chains, at the first of the inverse temperatures. While it is, sums are `Sum`s and `LogSum`s."""

    width: Array  # int32[K + 1, L]: how often a chain had so many units
    loss: Any  # [L]: sum of losses
    cells: Array  # int32[4, L]: sums of `Units.cells`
    solved: Array  # int32[L]: how often no answer was wrong
    inserted: Any  # [G, L]: ln of the sum of 1 / (1 + exp(beta dL + c)) over units that were tried, and not kept, c being a centre
    removed: Any  # [G, L]: ln of the sum of 1 / (1 + exp(-beta dL - c)) over units that were there, dL being what each changes
    stones: Any  # [T - 1, L]: ln of the sum of exp(-(beta - beta') L) at beta', the next lower inverse temperature


@functools.lru_cache(maxsize=8)
def network_units(config: EnsembleConfig) -> Units:
    """Units of an NCnet (arXiv:2603.04451, section 4.1): weights of the features, bias, then weights to both heads; no head has a
    bias, so that a network without units has logits 0. Outputs are the decision logits, [2, R]."""
    rows = encoded_inputs(config.tasks, config.encoding)
    count, features = rows.shape
    weights = (config.alice_weight / count, config.bob_weight / count)

    def response(unit: Array) -> Array:
        lanes = [1] * (unit.ndim - 1)
        total = unit[features]
        for feature in range(features):
            total = total + jnp.asarray(rows[:, feature].reshape(-1, *lanes), unit.dtype) * unit[feature]
        active = jnp.maximum(total, 0)
        return jnp.stack([active * unit[features + 1], active * unit[features + 2]])

    def cells(outputs: Array, answers: Array) -> Array:
        found = outcome_cells(jnp.swapaxes(outputs, 0, 1), answers)
        return jnp.stack([jnp.sum(cell, axis=0, dtype=jnp.int32) for cell in found])

    def loss(outputs: Array, answers: Array) -> Array:
        alice, bob = loss_sums(config, outputs, answers)
        return alice * weights[0] + bob * weights[1]

    return Units(features + 3, (2, count), response, loss, cells)


def loss_sums(config: EnsembleConfig, logits: Array, answers: Array) -> Array:
    """Each head's loss added up over the rows, [2, *L], from decision logits [2, R, *L] and answers [R, 2]. The same as of
    `ncsim.training.losses`, with one logarithm per head in place of one per row: of a product of at most 64 factors below 2."""
    target = answers.T.reshape(*answers.T.shape, *[1] * (logits.ndim - 2))
    if config.loss == "squared_error":
        return jnp.sum(LOSSES[config.loss].value(logits, target), axis=1)
    straight = jnp.sum(jnp.maximum(logits, 0) - target * logits, axis=1)
    return straight + jnp.log(jnp.prod(1 + jnp.exp(-jnp.abs(logits)), axis=1))


def started(units: Units, key: Array, width: Array, slots: int, scale: float, answers: Array) -> Chain:
    """Chains with so many units of the prior each, `width` int32[T, L]."""

    drawn = scale * ndtri(_uniform(key, jnp.uint32(0), (slots, units.parameters, len(width))))
    chain = Chain(tuple(drawn), width, *(jnp.zeros(()),) * 2)
    return recomputed(units, chain, answers)


def recomputed(units: Units, chain: Chain, answers: Array) -> Chain:
    """The chain with outputs and loss computed from its units: sums that are kept up to date gather rounding."""
    together = jnp.stack(chain.units)
    empty = jnp.zeros((*units.outputs, *chain.width.shape), together.dtype)

    def more(slot: Array, total: Array) -> Array:
        return total + jnp.where(slot < chain.width, units.response(together[slot]), 0)

    total = jax.lax.fori_loop(0, len(chain.units), more, empty)
    return chain._replace(outputs=total, loss=units.loss(total, answers))


def _threefry(*words: Array) -> tuple[Array, Array]:
    """Two words of two words under a key of two, elementwise."""
    return threefry2x32_p.bind(*words)


def _uniform(key: Array, number: Array, shape: tuple[int, ...]) -> Array:
    """Numbers above 0 and below 1, [*shape, L]: words of Threefry-2x32 (Salmon et al. 2011) under each lane's key [2, L], counted by
    `number` and by their place. Made here with the lanes last; `jax.random` has a key's numbers side by side, and to turn them
    costs more than to draw them."""
    size, lanes = int(np.prod(shape)), key.shape[-1]
    half = (-(-size // 2), lanes)
    place = jnp.broadcast_to(jnp.arange(half[0], dtype=jnp.uint32)[:, None], half)
    words = _threefry(*(jnp.broadcast_to(part, half) for part in key), jnp.full(half, number, jnp.uint32), place)
    return open_interval(jnp.concatenate(words)[:size]).reshape(*shape, lanes)


def open_interval(words: Array) -> Array:
    """Words as float32 above 0 and below 1: 23 bits and a half. With one bit more the largest would round to 1, whose normal variate is
    infinite."""
    top = jax.lax.shift_right_logical(words, np.uint32(9))
    return (top.astype(jnp.float32) + 0.5) * np.float32(2**-23)


def _picked(units: tuple[Array, ...], slot: Array) -> Array:
    """The unit in a slot of each lane, [P, T, L]; zeros for a slot that is not there."""
    found = jnp.zeros_like(units[0])
    for number, unit in enumerate(units):
        found = jnp.where(slot == number, unit, found)
    return found


def step(
    units: Units,
    chain: Chain,
    key: Array,
    turn: Array,
    answers: Array,
    log_z: Array,
    beta: Array,
    scale: float,
    exchange: Array,
) -> Chain:
    """One proposal and its acceptance. `log_z` [L], `beta` [T, 1]; `exchange` is whether units are born and die; `turn` numbers what is drawn."""
    slots, number = len(chain.units), chain.width

    # Barriers: XLA would compute variates, units and outputs once more for everything that is made of them.
    words = jax.lax.optimization_barrier(_uniform(key, turn, (units.parameters + 4, *number.shape[:1])))
    xi, uniform = jax.lax.optimization_barrier(ndtri(words[:-4])), words[-4:]
    share = jnp.where(exchange, EXCHANGE_SHARE, 0)
    birth, death = uniform[0] < share, (uniform[0] >= share) & (uniform[0] < 2 * share)
    slot = jnp.minimum((uniform[1] * number).astype(jnp.int32), jnp.maximum(number - 1, 0))
    old, c = _picked(chain.units, slot), uniform[2]
    new = scale * jnp.where(birth, 1, c) * xi + jnp.where(birth, 0, jnp.sqrt(1 - c * c)) * old
    old, new = jax.lax.optimization_barrier((old, new))
    outputs = chain.outputs + jnp.where(death, 0, units.response(new)) - jnp.where(birth, 0, units.response(old))
    outputs = jax.lax.optimization_barrier(outputs)
    loss = units.loss(outputs, answers)
    exchanged = jnp.where(birth, log_z - jnp.log(number + 1.0), jnp.where(death, jnp.log(number * 1.0) - log_z, 0))
    possible = jnp.where(birth, number < slots, number > 0)
    accepted = possible & (jnp.log(uniform[3]) < exchanged - beta * (loss - chain.loss))
    written = jnp.where(birth, number, slot)
    value = jnp.where(death, _picked(chain.units, number - 1), new)
    accepted, loss, value = jax.lax.optimization_barrier((accepted, loss, value))
    return Chain(
        tuple(jnp.where((written == place) & accepted, value, unit) for place, unit in enumerate(chain.units)),
        number + jnp.where(accepted, birth.astype(jnp.int32) - death.astype(jnp.int32), 0),
        jnp.where(accepted, outputs, chain.outputs),
        jnp.where(accepted, loss, chain.loss),
    )


def swapped(chain: Chain, key: Array, turn: Array, beta: Array, odd: Array) -> Chain:
    """Chains at neighbouring inverse temperatures change places with min(1, exp((beta - beta') (L - L'))): parallel tempering
    (Geyer 1991). Pairs begin with the second temperature where `odd`. Width and z do not enter, since z is the same."""
    count = len(chain.width)
    if count == 1:
        return chain
    place = jnp.arange(count)
    partner = jnp.where((place + odd) % 2 == 0, place + 1, place - 1)
    partner = jnp.where((partner < 0) | (partner >= count), place, partner)
    # Both of a pair use one variate, that of the lower place.
    uniform = _uniform(key, turn, (count,))[jnp.minimum(place, partner)]
    gain = (beta - beta[partner]) * (chain.loss - chain.loss[partner])
    change = jnp.log(uniform) < gain
    return jax.tree.map(lambda leaf: jnp.where(change, jnp.take(leaf, partner, axis=-2), leaf), chain)


class Settings(NamedTuple):
    """Of a program: what is compiled in."""

    slots: int
    records: int  # how often chains are looked at after the burn-in
    burn: int  # records that are left out before
    every: int  # steps from one record to the next
    scale: float  # of the prior
    beta: float  # an argument of the program, and here for those who call it
    temperatures: int


@functools.partial(jax.jit, static_argnums=(0, 1))
def run_chains(
    units: Units,
    settings: Settings,
    root: Array,
    ids: Array,
    width: Array,
    answers: Array,
    log_z: Array,
    beta: Array,
    exchange: Array,
    centres: Array,
) -> Tally:
    """What chains do at fixed inverse temperatures.

    `root` uint32[2] is the run's key, with whatever tells routes and contexts apart; `ids` uint32[L]; `width` int32[L] at the start;
    `log_z` [L]; `beta` [T], the one that is asked for first; `exchange`, whether units are born and die; `centres` [G], guesses
    of ln (Z_{n+1} / Z_n). What is inserted and removed for a look is of use where widths stay."""
    key = jnp.stack(_threefry(*jnp.broadcast_to(root[:, None], (2, len(ids))), jnp.zeros_like(ids), ids))
    beta = beta[:, None]

    first = jnp.broadcast_to(width, (len(beta), *width.shape)).astype(jnp.int32)
    chain = started(units, key, first, settings.slots, settings.scale, answers)
    lanes = len(ids)
    shapes = [(each, lanes) for each in (len(centres), len(centres), len(beta) - 1)]
    tally = Tally(
        jnp.zeros((settings.slots + 1, lanes), jnp.int32),
        Sum(jnp.zeros(lanes), jnp.zeros(lanes)),
        jnp.zeros((4, lanes), jnp.int32),
        jnp.zeros(lanes, jnp.int32),
        *(LogSum(jnp.full(shape, -jnp.inf), Sum(jnp.zeros(shape), jnp.zeros(shape))) for shape in shapes),
    )

    def record(number: Array, carried: tuple[Chain, Tally]) -> tuple[Chain, Tally]:
        chain, tally = carried
        start = 1 + number * (settings.every + 2)

        def one(turn: Array, chain: Chain) -> Chain:
            return step(units, chain, key, start + turn, answers, log_z, beta, settings.scale, exchange)

        chain = recomputed(units, jax.lax.fori_loop(0, settings.every, one, chain), answers)
        chain = swapped(chain, key, start + settings.every, beta, number % 2)
        seen = _added(units, settings, chain, tally, key, start + settings.every + 1, answers, beta, centres)
        return chain, jax.tree.map(lambda new, old: jnp.where(number >= settings.burn, new, old), seen, tally)

    tally = jax.lax.fori_loop(0, settings.burn + settings.records, record, (chain, tally))[1]
    sums = {name: getattr(tally, name).total() for name in ("loss", "inserted", "removed", "stones")}
    return tally._replace(**sums)


def _added(
    units: Units,
    settings: Settings,
    chain: Chain,
    tally: Tally,
    key: Array,
    turn: Array,
    answers: Array,
    beta: Array,
    centres: Array,
) -> Tally:
    """The tally with one more look at the chains."""
    outputs, loss, width = chain.outputs[..., 0, :], chain.loss[0], chain.width[0]
    cells = jnp.zeros_like(tally.cells) if units.cells is None else units.cells(outputs, answers)
    words = _uniform(key, turn, (units.parameters + 1,))
    unit = settings.scale * ndtri(words[:-1])
    slot = jnp.minimum((words[-1] * width).astype(jnp.int32), jnp.maximum(width - 1, 0))
    gone = _picked(tuple(each[:, 0] for each in chain.units), slot)
    dearer = beta[0] * (units.loss(outputs + units.response(unit), answers) - loss)
    with_it = beta[0] * (loss - units.loss(outputs - units.response(gone), answers))
    centres = centres[:, None]
    return Tally(
        tally.width + (jnp.arange(settings.slots + 1)[:, None] == width),
        tally.loss.plus(loss),
        tally.cells + cells,
        tally.solved + (cells[:3].sum(axis=0) == 0),
        tally.inserted.plus(jax.nn.log_sigmoid(-(dearer + centres))),
        tally.removed.plus(jax.nn.log_sigmoid(with_it + centres)),
        tally.stones.plus(-(beta[:-1] - beta[1:]) * chain.loss[1:]),
    )
