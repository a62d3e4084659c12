"""Wide networks in the native executor: C with loops over units that do the same."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim import c_compiler
from ncsim.config import ensemble as configs
from ncsim.config.tasks import context_targets
from ncsim.ensemble.run import run_ensemble
from ncsim.executors.native import program as native
from ncsim.executors.native import units
from ncsim.training import step as train
from ncsim.training.initialization import start_vector
from tests.executors.test_native import FOUR_ROWS, ONE_STEP, RUNS_HERE, TEN_STEPS, alike
from tests.support.cases import first_fast

#: A sum over 64 units is of another order there than here, and one network's error in it shows after one step.
WIDE_STEP = 4 * ONE_STEP
WIDE = ncsim.EnsembleConfig(hidden=9, tasks=FOUR_ROWS, members=200, steps=60)
VARIANTS = {
    # The one that has all there is in loops: sums of one loop that a later one needs, and what a unit keeps between them.
    "pcgrad, overlap": {"hidden": 13, "intervention": "pcgrad", "topology": "overlap", "shared": 5, "tasks": FOUR_ROWS},
    "adam, four rows": {"hidden": 9, "tasks": FOUR_ROWS},
    "overlap, three kinds of unit": {"hidden": 12, "topology": "overlap", "shared": 5, "tasks": FOUR_ROWS},
    "widest": {"hidden": 64},
    "squared error, signs": {"hidden": 10, "loss": "squared_error", "encoding": "sign", "tasks": FOUR_ROWS},
    "two logits": {"hidden": 16, "loss": "cross_entropy", "tasks": FOUR_ROWS},
    "overlap, signs": {"hidden": 11, "topology": "overlap", "shared": 4, "encoding": "sign"},
    "overlap, nothing shared": {"hidden": 12, "topology": "overlap", "shared": 0, "tasks": FOUR_ROWS},
    "overlap, all shared": {"hidden": 9, "topology": "overlap", "shared": 9, "tasks": FOUR_ROWS},
    "overlap, one unit of a kind": {"hidden": 10, "topology": "overlap", "shared": 9, "tasks": FOUR_ROWS},
    "pcgrad": {"hidden": 13, "intervention": "pcgrad"},
    "separate trunks": {"hidden": 7, "intervention": "separate_trunks", "tasks": FOUR_ROWS},
    "frozen trunk": {"hidden": 10, "intervention": "frozen_trunk", "optimizer": "adamw", "tasks": FOUR_ROWS},
    "stopped gradient": {"hidden": 10, "intervention": "stop_gradient_bob", "tasks": FOUR_ROWS},
    "loss weights": {"hidden": 10, "alice_weight": 0.3, "tasks": FOUR_ROWS},
    "some rows": {"hidden": 17, "training_rows": 5},
    "a mark of the first step": {"hidden": 9, "optimizer": "optimistic_gradient_descent", "tasks": FOUR_ROWS},
    "rprop": {"hidden": 9, "optimizer": "rprop", "tasks": FOUR_ROWS},
}


@pytest.mark.skipif(not RUNS_HERE, reason="no C compiler or vector unit here")
@pytest.mark.parametrize("name", first_fast(VARIANTS, 1, 3))
def test_follows_the_scan(name):
    config = ncsim.EnsembleConfig(**VARIANTS[name])
    start = jax.vmap(lambda member: start_vector(config, jax.random.key(2), member, jnp.uint32(1)), out_axes=-1)
    vector = start(jnp.arange(64, dtype=jnp.uint32))
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    by_c, by_xla = (
        jax.jit(lambda v, steps, run=run: run(config, v, targets, jnp.float32(0.01), steps))
        for run in (native.training(native.shape(config)), train.train)
    )
    for steps, tolerance in [(0, 0), (1, WIDE_STEP), (10, TEN_STEPS)]:
        ours, theirs = by_c(vector, jnp.int32(steps)), by_xla(vector, jnp.int32(steps))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    assert np.max(np.abs(theirs - vector)) > 1e-4


@pytest.mark.parametrize("optimizer", first_fast(sorted(configs.ELEMENTWISE_OPTIMIZERS), 1, 1))
def test_there_are_loops_for_every_elementwise_optimizer(optimizer):
    text = native.source(dataclasses.replace(WIDE, optimizer=optimizer))
    assert "for (int u = 0; u < 9; u += 1) {" in text


def test_code_does_not_grow_with_the_width_and_narrow_networks_have_no_loops():
    wide = [native.source(dataclasses.replace(WIDE, hidden=hidden)) for hidden in (10, 64)]
    assert len({text.count("\n") for text in wide}) == 1
    assert "(int u" not in native.source(dataclasses.replace(WIDE, hidden=8))


def test_every_parameter_has_one_place():
    config = dataclasses.replace(WIDE, hidden=12, topology="overlap", shared=5)
    little = units.small(config)
    places = units.places(config, little, [native.vector_size(little)])
    assert [kind.width for kind in places.kinds] == [4, 5, 3]
    reached = set()
    for base, unit in zip(places.base, places.unit, strict=True):
        reached |= {base} if unit is None else set(range(base, base + 12))
    assert reached == set(range(places.size))


@pytest.mark.skipif(not RUNS_HERE, reason="no C compiler or vector unit here")
def test_alone_and_among_others():
    whole = run_ensemble(WIDE, executor="native")
    for first, members in [(0, 1), (13, 100)]:
        part = run_ensemble(dataclasses.replace(WIDE, first_member=first, members=members), executor="native")
        alike(part.records(), whole.records().take(slice(first, first + members)))


@pytest.mark.skipif(not RUNS_HERE, reason="no C compiler or vector unit here")
def test_answers_are_those_of_xla():
    ours, theirs = (run_ensemble(WIDE, executor=name).records().counts for name in ("native", "xla"))
    assert np.mean((ours == theirs).all(axis=-1)) > 0.95
    assert len(np.unique(ours.reshape(-1, 4), axis=0)) > 2


def test_what_has_no_loop_is_one_line(monkeypatch):
    monkeypatch.setattr(c_compiler, "processor", lambda: "avx2")
    monkeypatch.setattr(c_compiler, "compiler", lambda: "cc")

    def neighbours(config, targets, rate):
        return lambda vector: vector, lambda vector: vector * vector[::-1]

    def not_alike(config, targets, rate):
        return lambda vector: vector, lambda vector: vector * jnp.arange(1.0, 1 + len(vector))

    for step, words in [(neighbours, "of values of several units"), (not_alike, "do not do the same")]:
        monkeypatch.setattr(native, "make_step", step)
        native._source.cache_clear()
        assert re.search(words, native.unsupported(WIDE))
    native._source.cache_clear()
