"""The kernel executor: its step is the one of `ncsim.train`, and its programs lower for TPUs that are not here.

Interpret mode runs what the kernel computes, compiled for the CPU; only its speed is not the kernel's.
"""

import dataclasses
import functools
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS
from ncsim.config.tasks import context_targets
from ncsim.ensemble.run import run_ensemble
from ncsim.ensemble.trainer import BLOCKS
from ncsim.executors import choice, pallas, xla
from ncsim.executors.lane_program import LaneProgram
from ncsim.executors.native import program as native
from ncsim.executors.scalarise import ScalariseError, as_elements, element_array, scalarise
from ncsim.training import optimizers
from ncsim.training import step as train
from ncsim.training.initialization import initial_vector
from ncsim.training.network import Architecture
from tests.support.cases import first_fast
from tests.support.scenarios import THREE
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

#: Two programs of one mathematics: a rounding or two a step, at parameters of order 1 (ten steps of Adam move by 0.1).
ONE_STEP, TEN_STEPS = 5e-7, 5e-6
ENSEMBLE = ncsim.EnsembleConfig(hidden=4, members=256, steps=200, learning_rate=0.03)


def starts(config, networks):
    keys = jax.random.split(jax.random.key(2), networks)
    return jax.vmap(lambda key: initial_vector(key, config), out_axes=-1)(keys)


def on_elements(function, *arrays):
    """`function` through `scalarise`, with the last axis of every array as lanes."""

    @jax.jit
    def run(*arrays):
        like = [jax.ShapeDtypeStruct(array.shape[:-1], array.dtype) for array in arrays]
        given = [
            element_array([array[index] for index in np.ndindex(array.shape[:-1])], array.shape[:-1])
            for array in arrays
        ]
        result = scalarise(function, *like)(*given)
        lanes = arrays[0].shape[-1]
        return jax.tree.map(
            lambda leaf: jnp.stack([jnp.broadcast_to(e, lanes) for e in leaf.reshape(-1)]).reshape(*leaf.shape, lanes),
            result,
        )

    return run(*arrays)


def test_every_rearrangement_and_reduction():
    """Against the same function under vmap."""

    def function(a, b):  # [2, 3], [3]
        joined = jnp.concatenate([a, b[None]])
        moved = jnp.flip(joined.T, 0).reshape(9)[1:8:2]
        left, right = jnp.split(a, [1], axis=1)
        parts = jnp.stack([left[:, 0], right[:, 1]], axis=1) * jnp.arange(2.0)
        reduced = a.sum(0) * a.prod(0) + a.max(0) - a.min(0)
        flags = jnp.where((a > 0).all(0), jnp.sign(b), jnp.where((a < 0.5).any(0), jnp.float32(7), jnp.float32(8)))
        first, second = jnp.unstack(a)
        numbered = jax.lax.broadcasted_iota(jnp.float32, (2, 3), 0) + a
        deep = (a[:, :, None] * jnp.arange(1.0, 3.0)).sum(1)  # two axes stay, in their order
        rest = first / second, numbered, deep, jax.nn.relu(b), jnp.expand_dims(b, 1)
        return moved, parts, jax.lax.optimization_barrier(reduced), flags, *rest

    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in [(2, 3, 5), (3, 5)])
    expected = jax.vmap(function, in_axes=-1, out_axes=-1)(a, b)
    for ours, theirs in zip(on_elements(function, a, b), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_what_is_the_same_for_all_is_computed_once():
    calls = []

    def function(a, scalar):
        return a * jnp.exp(scalar), jnp.where(jnp.array([True, False]), a, 0)

    def run(a, scalar):
        scaled, masked = scalarise(function, jax.ShapeDtypeStruct((2,), jnp.float32), scalar)(
            element_array([a, a], (2,)), as_elements(scalar)
        )
        calls.append((scaled[0] is scaled[1], masked[0] is a, masked[1]))
        return scaled[0]

    jaxpr = jax.make_jaxpr(run)(jnp.ones(8), jnp.float32(1))
    assert [e.primitive.name for e in jaxpr.eqns].count("mul") == 1
    assert next(e for e in jaxpr.eqns if e.primitive.name == "exp").outvars[0].aval.shape == ()
    assert calls == [(True, True, 0)]


def test_other_operations_are_named():
    with pytest.raises(ScalariseError, match="'dot_general'"):
        on_elements(lambda a: a @ a, jnp.ones((3, 2)))
    with pytest.raises(ScalariseError, match="'sort'"):
        on_elements(jnp.sort, jnp.ones((3, 2)))


@pytest.mark.parametrize("optimizer", ELEMENTWISE_OPTIMIZERS)
def test_every_optimizer_updates_as_it_does_on_arrays(optimizer):
    """Two updates of four parameters, evaluated element by element and as optax has them. Whole steps are below."""
    config = ncsim.EnsembleConfig(optimizer=optimizer)

    def two_updates(vector, first, second):
        transform = optimizers.make_optimizer(config, 0.01)
        state = transform.init(vector)
        for gradient in (first, second):
            updates, state = transform.update(gradient, state, vector)
            vector = vector + updates
        return vector

    vector, *gradients = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 8)), jnp.float32)
    gradients[0] = gradients[0].at[0].set(0)  # a unit that is off
    ours, theirs = (run(vector, *gradients) for run in (functools.partial(on_elements, two_updates), two_updates))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ONE_STEP)
    assert np.max(np.abs(theirs - vector)) > 1e-5


VARIANTS = {
    "adam": ncsim.EnsembleConfig(hidden=2, tasks=FOUR_ROWS),
    "two logits, overlap, amsgrad": ncsim.EnsembleConfig(
        hidden=2, loss="cross_entropy", topology="overlap", encoding="sign", optimizer="amsgrad"
    ),
    "squared error, momentum": ncsim.EnsembleConfig(
        hidden=2, loss="squared_error", optimizer="sgd", optimizer_options="momentum=0.9,nesterov=true"
    ),
    "a mark of the first step": ncsim.EnsembleConfig(
        hidden=1, optimizer="optimistic_gradient_descent", tasks=FOUR_ROWS
    ),
    "three heads": ncsim.EnsembleConfig(hidden=1, tasks=THREE),
}


@pytest.mark.parametrize("name", first_fast(VARIANTS, 1, slow=0))
def test_interpreted_kernel_follows_the_scan(name):
    config = VARIANTS[name]
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    vector = starts(config, 128)
    kernel = jax.jit(lambda v, rate, steps: pallas.training("cpu")(config, v, targets, rate, steps))
    scan = jax.jit(lambda v, rate, steps: train.train(config, v, targets, rate, steps))
    assert np.array_equal(kernel(vector, 0.01, 0), vector)
    for steps, tolerance in [(1, ONE_STEP), (10, TEN_STEPS)]:
        theirs = scan(vector, 0.01, steps)
        np.testing.assert_allclose(kernel(vector, 0.01, steps), theirs, rtol=0, atol=tolerance)
    assert np.max(np.abs(theirs - vector)) > 1e-3


@pytest.fixture(scope="module")
def by_both():
    return [run_ensemble(ENSEMBLE, executor=executor).records() for executor in ("xla", "pallas")]


@pytest.mark.slow
def test_an_ensemble_has_the_same_counts_of_solved_members(by_both):
    """Exactly, context by context; few members differ at all."""
    scan, kernel = by_both
    rows = ENSEMBLE.tasks.rows
    solved = [(records.counts[:, :, 3] == rows).sum(axis=0).tolist() for records in by_both]
    assert solved[0] == solved[1]
    assert solved[0][0] > 50
    assert np.mean((scan.counts != kernel.counts).any(axis=-1)) < 0.02


@pytest.mark.parametrize("optimizer", first_fast(ELEMENTWISE_OPTIMIZERS, 2, slow=1))
def test_lowers_for_a_tpu(optimizer):
    """On a machine without."""
    device = AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu")
    config = ncsim.EnsembleConfig(hidden=1, optimizer=optimizer, tasks=FOUR_ROWS)
    if optimizer == "adam":
        config = ncsim.EnsembleConfig(topology="overlap")
    like = (
        jax.ShapeDtypeStruct((Architecture.of(config).size, 2048), jnp.float32),
        jax.ShapeDtypeStruct((config.tasks.rows, 2), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    function = jax.jit(lambda *given: pallas.training("tpu")(config, *given))
    with use_abstract_mesh(AbstractMesh((1,), ("device",), abstract_device=device)):
        module = export.export(function, platforms=["tpu"])(*like).mlir_module()
    assert module.count("custom_call @tpu_custom_call") == 1
    outside = re.sub('"(?:[^"\\\\]|\\\\.)*"', "", module)
    assert "stablehlo.maximum" not in outside  # the ReLU of every step is inside


def test_what_a_kernel_cannot_train_is_one_line(tmp_path, capsys):
    for change, words in [
        ({"precision": "float64"}, "precision float64"),
        ({"hidden": 9}, "hidden 9; the kernel has 1 to 8 units"),
        (
            {"hidden": 5, "intervention": "separate_trunks"},
            "hidden 5 in each of two trunks, 10 units; the kernel has 1 to 8 units",
        ),
        ({"optimizer": LAYERWISE_OPTIMIZERS[0]}, f"optimizer {LAYERWISE_OPTIMIZERS[0]}"),
    ]:
        config = dataclasses.replace(ENSEMBLE, **change)
        with pytest.raises(ncsim.ConfigError, match=f"^--executor: pallas cannot train {words}.*; allowed here: xla$"):
            run_ensemble(config, out=tmp_path / "run", executor="pallas")
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == ""
    assert pallas.unsupported(dataclasses.replace(ENSEMBLE, hidden=8)) is None
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: pallas cannot train on a GPU; allowed here: xla$"):
        pallas.block_program(ENSEMBLE, Elsewhere("gpu", 1), BLOCKS)
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: gpu; allowed: auto, xla, pallas, native, cuda$"):
        run_ensemble(ENSEMBLE, executor="gpu")


def test_operation_that_no_kernel_has_is_one_line(monkeypatch):
    def sorting(config, targets, rate):
        return lambda vector: vector, lambda vector: jnp.sort(vector) * rate

    monkeypatch.setattr(native, "make_step", sorting)
    assert "'sort'" in pallas.unsupported(dataclasses.replace(ENSEMBLE, alice_weight=0.5))  # a shape of its own


def test_a_lane_program_is_its_step(monkeypatch):
    """Signs in short and in long sums, conditions, powers, and who keeps what, of a step that no optimiser has."""

    def made_up(config, targets, rate):
        def begin(v):
            return v, (jnp.zeros(()), 2 * v[0], rate, jnp.int32(0))

        def step(carry):
            v, (grown, twice, kept, count) = carry  # twice stays as it was, by network
            power = jnp.float32(0.9) ** (count + 1)
            few = -(v[0] + v[2]) - v[1]
            many = -(v[0] * v[1]) - v[2] - v[3] * power + v[4] - v[5] * v[6] - targets[1, 0] * v[1] - twice
            on = v > 0
            chosen = jnp.where((on[0] & on[1]) | (on[2] ^ ~on[3]), few, many / power)
            grown = jnp.where(count == 1, chosen, grown - rate * chosen)
            v = jnp.concatenate([v[1:], chosen[None]]) - kept * jnp.minimum(grown, on[5].astype(jnp.float32))
            return v, (grown, twice, kept * power, count + 1)

        return begin, step

    monkeypatch.setattr(native, "make_step", made_up)
    config = ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS)
    program = LaneProgram(native.scalar_step(config))
    assert program.lanes == [*range(7), 7, 8]
    targets, rate = jnp.asarray(context_targets(FOUR_ROWS)[1], jnp.float32), jnp.float32(0.1)
    given = [*targets.reshape(-1), rate]
    vector = jnp.asarray(np.random.default_rng(3).normal(size=(7, 64)), jnp.float32)

    @jax.jit
    def by_lanes(vector):
        lanes, fixed, scalars = program.begin(vector, given)
        for _ in range(3):
            row = program.row(scalars, given)
            lanes = program.step(lanes, fixed.__getitem__, row.__getitem__)
            scalars = program.advance(scalars, given)
        return jnp.stack(lanes)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=1, out_axes=1)
    def by_network(vector):
        begin, step = made_up(config, targets, rate)
        v, (grown, twice, _, _) = step(step(step(begin(vector))))
        return jnp.concatenate([v, grown[None], twice[None]])

    np.testing.assert_allclose(by_lanes(vector), by_network(vector), rtol=2e-5, atol=2e-5)

    def marked(config, targets, rate):
        return lambda v: (v, v[0] > 0), lambda carry: (carry[0] - rate, carry[0][0] > 0)

    monkeypatch.setattr(native, "make_step", marked)
    with pytest.raises(ScalariseError, match="state by network that is no float32"):
        LaneProgram(native.scalar_step(config))


@pytest.mark.slow
def test_more_steps_than_a_call_takes(monkeypatch):
    """In calls of a few steps, between points that are recorded: the bits of one call."""
    config = ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS)
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)

    def trained(steps):
        return np.asarray(jax.jit(lambda v: pallas.training("cpu")(config, v, targets, 0.1, steps))(starts(config, 64)))

    points = jnp.asarray([1, 3, 4, 12])
    whole = [trained(int(stop)) for stop in points]
    monkeypatch.setattr(pallas, "CHUNK_STEPS", 3)
    assert np.array_equal(trained(12), whole[-1])
    assert np.array_equal(trained(points), np.stack(whole))


class Elsewhere:
    """Stands for a mesh of devices of another platform."""

    def __init__(self, platform, devices):
        self.devices = np.array([types.SimpleNamespace(platform=platform)] * devices)


@pytest.fixture(scope="module")
def mesh():
    """The one that `run_ensemble` has here, so that its compiled programs are used again."""
    return jax.make_mesh((len(jax.devices()),), (xla.MEMBERS,), devices=jax.devices())


@pytest.mark.slow
def test_on_a_cpu_auto_is_no_kernel_and_a_kernel_is_interpreted(mesh, capsys):
    assert choice.choose("auto", [ENSEMBLE], mesh, BLOCKS) in ("xla", "native")
    assert capsys.readouterr().err == ""
    assert choice.choose("pallas", [ENSEMBLE], mesh, BLOCKS) == "pallas"
    assert "interpreted" in capsys.readouterr().err
    fast, other = (
        choice.seconds_a_network(ENSEMBLE, choice.program(name, ENSEMBLE, mesh, BLOCKS), mesh, steps=50)
        for name in ("xla", "pallas")
    )
    assert 0 < fast < 1
    assert 0 < other < 1


@pytest.mark.slow
def test_auto_takes_the_faster_and_falls_back(mesh, monkeypatch, capsys):
    config, elsewhere = ENSEMBLE, Elsewhere("tpu", mesh.devices.size)  # where there is no other kernel
    real = {"xla": xla.block_program(config, mesh, BLOCKS), "pallas": pallas.block_program(config, mesh, BLOCKS)}
    monkeypatch.setattr(xla, "block_program", lambda *_, **__: real["xla"])
    monkeypatch.setattr(pallas, "block_program", lambda *_, **__: real["pallas"])
    for seconds, winner in [({"xla": 2.0, "pallas": 1.0}, "pallas"), ({"xla": 1.0, "pallas": 2.0}, "xla")]:
        monkeypatch.setattr(
            choice, "seconds_a_network", lambda _, tried, __, s=seconds: s["xla" if tried is real["xla"] else "pallas"]
        )
        assert choice.choose("auto", [config], elsewhere, BLOCKS) == winner
    assert choice.choose("auto", [config, dataclasses.replace(config, hidden=64)], elsewhere, BLOCKS) == "xla"
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(choice, "AGREEMENT_TOLERANCE", -1.0)
    assert choice.choose("auto", [config], elsewhere, BLOCKS) == "xla"
    assert "losses are not those of xla" in capsys.readouterr().err

    def fails(*_, **__):
        raise RuntimeError("out of registers\nand more")

    monkeypatch.setattr(pallas, "block_program", fails)
    assert choice.choose("auto", [config], elsewhere, BLOCKS) == "xla"
    printed = capsys.readouterr().err
    assert printed == "ncsim: the pallas executor fails here (out of registers and more): using xla\n"
    with pytest.raises(ncsim.ConfigError, match=r"--executor: pallas; its kernel fails here \(out of registers"):
        choice.choose("pallas", [config], elsewhere, BLOCKS)


@pytest.mark.slow
def test_a_stored_run_keeps_its_executor(by_both, tmp_path):
    shorter = dataclasses.replace(ENSEMBLE, members=64)
    run_ensemble(shorter, out=tmp_path / "run", executor="pallas")
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["environment"]["executor"].popitem()[1] == "pallas"
    )
    with pytest.raises(ncsim.ConfigError, match="was begun with pallas, and members differ"):
        run_ensemble(ENSEMBLE, out=tmp_path / "run", executor="xla")
    extended = run_ensemble(ENSEMBLE, out=tmp_path / "run")  # auto, which would not be pallas here
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["environment"]["executor"].popitem()[1] == "pallas"
    )
    for ours, theirs in zip(extended.records(), by_both[1], strict=True):
        assert (ours is None and theirs is None) or np.array_equal(ours, theirs)
