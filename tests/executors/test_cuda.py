"""The cuda executor without a GPU: its step's text by the system's C compiler against `ncsim.train`, and what it refuses.

The text is the kernel's, to the letter; functions are the C library's in place of the GPU's approximations. What XLA and
ptxas make of the kernel is tested where they are installed: `make test-gpu-static`.
"""

import ctypes
import dataclasses
import functools
import re
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from benchmarks import cuda_on_host
from ncsim import c_compiler
from ncsim.config import ensemble as configs
from ncsim.config.tasks import context_targets
from ncsim.ensemble.run import run_ensemble
from ncsim.ensemble.trainer import BLOCKS
from ncsim.executors import choice, xla
from ncsim.executors.cuda import blocks, nvrtc, source, template
from ncsim.executors.cuda import program as cuda
from ncsim.executors.cuda.folding import FoldingGraph
from ncsim.executors.native.program import shape
from ncsim.executors.scalarise import ScalariseError
from ncsim.training import step as train
from ncsim.training.gradients import gradient
from ncsim.training.initialization import start_vector
from ncsim.training.network import Architecture
from tests.support.cases import first_fast, sizes
from tests.support.scenarios import THREE
from tests.support.tasks import FOUR_ROWS

#: Two programs of one mathematics: of 99 of 100 networks, and of all, one of which may have a gradient of epsilon's size.
ONE_STEP, TEN_STEPS, MOST = 5e-7, 1e-6, 5e-6
SIX = ncsim.truth_tables(
    [lambda *x: x[0] ^ x[1] ^ x[2], lambda *x: x[0] | x[1]],
    [lambda *x: x[3] ^ x[4] ^ x[5], lambda *x: x[3] & x[4]],
    features=6,
    name="64 rows",
)
needs_compiler = pytest.mark.skipif(c_compiler.compiler() is None, reason="no C compiler")
#: Stands for a mesh of one GPU.
GPU = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="gpu")]))


def by_both(config, networks=256, context=2, first=0):
    """Initial parameters, and two functions of a number of steps: by the kernel's text, by the scan."""
    key, members = jax.random.key(5), jnp.arange(first, first + networks, dtype=jnp.uint32)
    vector = jax.jit(jax.vmap(lambda m: start_vector(config, key, m, context), out_axes=-1))(members)
    # The last network's units are exactly at 0 where all inputs are: a ReLU sends nothing back there.
    trunk = Architecture.of(config).features * Architecture.of(config).hidden
    vector = vector.astype(jnp.float32).at[trunk : trunk + Architecture.of(config).hidden, -1].set(0)
    targets = jnp.asarray(context_targets(config.tasks)[context], jnp.float32)
    # The rate is an argument, as in a run: a constant is folded by what stands around it.
    ours, theirs = (
        jax.jit(lambda rate, steps, run=run: run(config, vector, targets, rate, steps))
        for run in (cuda.training(shape(config), cuda_on_host.launched), train.train)
    )
    ours, theirs = (functools.partial(run, jnp.float32(0.01)) for run in (ours, theirs))
    return vector, ours, theirs


CONFIG = ncsim.EnsembleConfig(hidden=2)
VARIANTS = {
    "adam": CONFIG,
    "64 rows": ncsim.EnsembleConfig(hidden=1, tasks=SIX),
    "eight units": ncsim.EnsembleConfig(hidden=8, tasks=FOUR_ROWS),
    "squared error, momentum": ncsim.EnsembleConfig(
        hidden=3, loss="squared_error", optimizer="sgd", optimizer_options="momentum=0.9,nesterov=true"
    ),
    "two logits, signs": ncsim.EnsembleConfig(hidden=3, loss="cross_entropy", encoding="sign"),
    "overlap": ncsim.EnsembleConfig(hidden=3, topology="overlap", shared=1, optimizer="amsgrad", loss="squared_error"),
    "two trunks": ncsim.EnsembleConfig(hidden=2, intervention="separate_trunks", tasks=FOUR_ROWS),
    "a frozen trunk": ncsim.EnsembleConfig(hidden=2, intervention="frozen_trunk", optimizer="adamw", tasks=FOUR_ROWS),
    "a stopped gradient": ncsim.EnsembleConfig(
        hidden=2, intervention="stop_gradient_alice", alice_weight=0.3, tasks=FOUR_ROWS
    ),
    "surgery": ncsim.EnsembleConfig(hidden=2, intervention="pcgrad"),
    "some rows": ncsim.EnsembleConfig(hidden=2, training_rows=9),
    "three heads": ncsim.EnsembleConfig(hidden=2, tasks=THREE),
    "three heads on 64 rows": ncsim.EnsembleConfig(hidden=1, tasks=ncsim.three_party_tasks()),
    "a tiny epsilon": ncsim.EnsembleConfig(hidden=2, optimizer_options="eps=1e-30"),
}


@needs_compiler
@pytest.mark.parametrize("name", first_fast(VARIANTS, 0, 1))
def test_the_kernels_text_follows_the_scan(name):
    vector, ours, theirs = by_both(VARIANTS[name])
    assert np.array_equal(ours(0), vector)
    for steps, tolerance in [(1, ONE_STEP), (10, TEN_STEPS)]:
        expected = np.asarray(theirs(steps))
        errors = np.max(np.abs(np.asarray(ours(steps)) - expected), axis=0)
        assert np.quantile(errors, 0.99) <= tolerance
        # Surgery compares a product with 0, which a rounding may turn.
        assert name == "surgery" or np.max(errors) <= MOST
    assert np.max(np.abs(expected - vector)) > 1e-3


@needs_compiler
@pytest.mark.parametrize("optimizer", first_fast(configs.ELEMENTWISE_OPTIMIZERS, 1, slow=1))
def test_every_elementwise_optimizer(optimizer):
    vector, ours, theirs = by_both(ncsim.EnsembleConfig(hidden=1, optimizer=optimizer, tasks=FOUR_ROWS))
    for steps in (1, 10):
        expected = np.asarray(theirs(steps))
        errors = np.max(np.abs(np.asarray(ours(steps)) - expected), axis=0)
        assert np.quantile(errors, 0.99) <= TEN_STEPS
    assert np.max(np.abs(expected - vector)) > 1e-4


#: Of more than eight units: a team of threads has one network.
WIDE = {
    "nine, of four threads": {"hidden": 9, "tasks": FOUR_ROWS},
    "three kinds of unit": {"hidden": 12, "topology": "overlap", "shared": 5, "tasks": FOUR_ROWS},
    "three heads": {"hidden": 10, "tasks": THREE},
    "sixteen": {"hidden": 16},
    "thirty-two": {"hidden": 32},
    "sixty-four": {"hidden": 64},
    "a warp of threads": {"hidden": 64, "intervention": "separate_trunks", "tasks": FOUR_ROWS},
    "two logits": {"hidden": 16, "loss": "cross_entropy", "tasks": FOUR_ROWS},
    "squared error, signs": {"hidden": 10, "loss": "squared_error", "encoding": "sign", "tasks": FOUR_ROWS},
    "surgery": {"hidden": 13, "intervention": "pcgrad", "tasks": FOUR_ROWS},
    "a frozen trunk": {"hidden": 10, "intervention": "frozen_trunk", "optimizer": "adamw", "tasks": FOUR_ROWS},
    "some rows": {"hidden": 17, "training_rows": 5},
    "begins with the rate": {"hidden": 9, "optimizer": "rprop", "tasks": FOUR_ROWS},
    "a mark of the first step": {"hidden": 9, "optimizer": "optimistic_gradient_descent", "tasks": FOUR_ROWS},
}


@needs_compiler
@pytest.mark.parametrize("name", first_fast(WIDE, 1, 1))
def test_teams_follow_the_scan(name):
    """Units of which the last thread has fewer, kinds of unit, sums over units before and after what the network does."""
    config = ncsim.EnsembleConfig(**WIDE[name])
    vector, ours, theirs = by_both(config, 64)
    assert cuda.threads_of(cuda.kernels(shape(config))[2]) > 1
    assert np.array_equal(ours(0), vector)
    for steps, tolerance in [(1, ONE_STEP), (10, TEN_STEPS)]:
        expected = np.asarray(theirs(steps))
        errors = np.max(np.abs(np.asarray(ours(steps)) - expected), axis=0)
        assert np.quantile(errors, 0.95) <= tolerance
        assert np.max(errors) <= MOST
    assert np.max(np.abs(expected - vector)) > 1e-4


#: Wide networks with more rows than a thread keeps sums of at once, and rows a block. Of four rows the programs compile sooner.
IN_BLOCKS = {
    "four rows, one by one": ({"hidden": 9, "tasks": FOUR_ROWS}, 1),
    "surgery, which sums over units again": ({"hidden": 10, "intervention": "pcgrad", "tasks": FOUR_ROWS}, 2),
    "three kinds of unit, signs": (
        {"hidden": 12, "topology": "overlap", "shared": 5, "encoding": "sign", "tasks": FOUR_ROWS},
        2,
    ),
    "two logits, some rows": ({"hidden": 9, "loss": "cross_entropy", "training_rows": 3, "tasks": FOUR_ROWS}, 2),
    "16 rows": ({"hidden": 11, "optimizer": "rmsprop"}, 4),
    "three heads": ({"hidden": 10, "tasks": THREE}, 8),
    "64 rows": ({"hidden": 17, "tasks": SIX}, 16),
}


@needs_compiler
@pytest.mark.parametrize("name", first_fast(IN_BLOCKS, 1, 1))
def test_rows_in_blocks_follow_the_scan(name, monkeypatch):
    change, rows = IN_BLOCKS[name]
    monkeypatch.setattr(cuda, "ROWS_AT_ONCE", 0)
    monkeypatch.setattr(cuda, "BLOCK_ROWS", rows)
    config = ncsim.EnsembleConfig(**change)
    cuda.kernels.cache_clear()
    cuda.training.cache_clear()
    vector, ours, theirs = by_both(config, 64)
    (made, *_) = cuda.kernels(shape(config))
    # Logits of one block, what the network makes of them, and the loop that adds them and makes the next block's.
    phases = re.findall(r"SUM|units\d|shared\d", made.step.split("#define STEP")[1].split("network")[0])
    count, sums = config.tasks.rows // rows, ["SUM"] * config.tasks.parties * rows
    expected = ["units0"]
    for block in range(1, count + 1):
        expected += [*sums, f"shared{block}", f"units{block}"]
    assert phases[: len(expected)] == expected
    for steps, tolerance in [(1, ONE_STEP), (10, TEN_STEPS)]:
        scan = np.asarray(theirs(steps))
        errors = np.max(np.abs(np.asarray(ours(steps)) - scan), axis=0)
        assert np.quantile(errors, 0.95) <= tolerance
        assert np.max(errors) <= MOST
    assert np.max(np.abs(scan - vector)) > 1e-4
    cuda.kernels.cache_clear()
    cuda.training.cache_clear()


def test_sums_over_blocks_are_sums_of_what_is_so_far():
    """Whatever the order of the terms was, and with their signs."""
    graph, rng = FoldingGraph(), np.random.default_rng(0)
    weights = [graph.leaf("carry", number, "float32", True) for number in range(8)]
    zero = graph.constant(0, "float32")
    activations = [graph.make("max", [weight, zero], "float32") for weight in weights]
    order = rng.permutation(8)
    total = activations[order[0]]
    for number in order[1:5]:
        total = graph.make("sub" if number % 2 else "add", [total, activations[number]], "float32")
    rest = graph.make("add", [activations[order[5]], activations[order[6]]], "float32")
    total = graph.make("sub", [total, graph.make("sub", [rest, activations[order[7]]], "float32")], "float32")
    root = graph.make("sqrt", [total], "float32")
    unit = dict.fromkeys(weights, 0)
    found = blocks.blocks_of([root], unit, 2)
    assert [found[each] for each in activations] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert found[root] == 15
    (again,) = blocks.by_blocks(graph, [root], found)
    values = {weight: jnp.float32(value) for weight, value in zip(weights, rng.normal(size=8) ** 2 + 1, strict=True)}
    squares = [float(cuda.evaluated([each], dict(values))[0]) for each in (total, again.operands[0])]
    assert squares[0] == pytest.approx(squares[1], abs=1e-5)
    node, seen = again.operands[0], []
    while node.kind in ("add", "sub"):
        (inner,) = [o for o in node.operands if o not in activations] or node.operands[:1]
        seen.append(activations.index(next(o for o in node.operands if o is not inner)))
        node = inner
    assert [number // 2 for number in seen] == sorted((number // 2 for number in seen), reverse=True)
    assert set(seen) >= set(range(2, 8))  # the first block's may be one term


@pytest.mark.parametrize("optimizer", first_fast(sorted(configs.ELEMENTWISE_OPTIMIZERS), 1, 1))
def test_there_are_teams_for_every_elementwise_optimizer(optimizer):
    made = cuda.kernels(shape(ncsim.EnsembleConfig(hidden=9, optimizer=optimizer, tasks=FOUR_ROWS)))
    assert {cuda.threads_of(each) for each in made} == {4}


@pytest.mark.parametrize(
    ("change", "threads", "widths"),
    first_fast(
        [
            ({"hidden": 12, "topology": "overlap", "shared": 5}, 4, [1, 2, 1]),
            ({"hidden": 9}, 4, [3]),
            ({"hidden": 16}, 4, [4]),
            ({"hidden": 64}, 16, [4]),
            ({"hidden": 64, "intervention": "separate_trunks"}, 32, [2, 2]),
        ],
        2,
    ),
)
def test_every_unit_has_one_thread(change, threads, widths):
    """And every place of the state is loaded and stored by one of a team's, those of the network by the first."""
    config = ncsim.EnsembleConfig(tasks=FOUR_ROWS, **change)
    made = cuda.kernels(shape(config))[0]
    team = made.team
    assert cuda.lanes_of(config) * threads == 262_144  # docs/scaling.md
    assert team.threads == threads
    assert [kind.width for kind in team.local.kinds] == widths
    owners = dict(zip(team.wide.base, team.wide.unit, strict=True)).values()
    assert team.local.slots == sum(1 if owner is None else sum(widths) for owner in owners)  # registers
    reached = []
    for line in re.findall(r"MOVE\((.*?)\)", made.step.split("#define MOVES")[1]):
        _, count, base, width, own = map(int, line.split(", "))
        for thread in range(threads if own else 1):
            reached += [base + thread + threads * k for k in range(count) if thread + threads * k < width]
    assert len(set(reached)) == len(reached)
    uniform = {team.wide.base[number] for number in made.flow.scalars}
    assert set(reached) == set(range(team.wide.slots)) - uniform


@pytest.mark.thorough
@needs_compiler
def test_who_is_further_off_has_a_gradient_of_epsilons_size():
    """Adam divides by |g| + 1e-8. Where a gradient is as small, its rounding in float32, by whoever, is a part of the step."""
    config = ncsim.EnsembleConfig(hidden=12, topology="overlap", shared=5, encoding="sign")
    vector, ours, theirs = by_both(config, 256)
    with jax.enable_x64(True):
        targets = jnp.asarray(context_targets(config.tasks)[2], jnp.float64)
        exact = jax.jit(lambda v: gradient(config, v, targets))(jnp.asarray(np.asarray(vector), jnp.float64))
    size = np.abs(np.asarray(exact))
    safe = ~((size > 0) & (size < 1e-6)).any(axis=0)
    assert safe.mean() > 0.98
    errors = {steps: np.max(np.abs(np.asarray(ours(steps)) - np.asarray(theirs(steps))), axis=0) for steps in (1, 10)}
    assert np.max(errors[1][safe]) <= ONE_STEP
    assert np.quantile(errors[10], 0.99) <= TEN_STEPS


@needs_compiler
def test_recorded_steps_and_launches_of_many(monkeypatch):
    """Recording changes no bit of what follows. Where launches end, XLA may round a step's powers otherwise on a CPU."""
    config = dataclasses.replace(CONFIG, tasks=FOUR_ROWS)
    _, ours, theirs = by_both(config, 128)
    points = np.asarray([0, 1, 15, 30], np.int32)
    seen = np.asarray(ours(points))
    assert np.array_equal(seen[-1], ours(30))
    np.testing.assert_allclose(seen, theirs(points), rtol=0, atol=MOST)
    monkeypatch.setattr(cuda, "CHUNK", 16)
    cuda.training.cache_clear()
    _, in_parts, _ = by_both(config, 128)
    np.testing.assert_allclose(in_parts(points), seen, rtol=0, atol=MOST)
    cuda.training.cache_clear()


#: What the GPU's loop around a step asks of the language, by threads of a CPU that wait for each other: one warp a block.
AS_THREADS = """
#include <barrier>
#include <thread>
#include <vector>
#define __global__
#define __launch_bounds__(...)
struct float4 { float x, y, z, w; };
struct place_of { unsigned x; };
static thread_local place_of blockIdx, threadIdx;
static std::barrier<> all_here(32);
static float exchanged[32];
static float4 __ldg(const float4 *from) { return *from; }
static float __shfl_xor_sync(unsigned, float x, int apart)
{
    exchanged[threadIdx.x] = x;
    all_here.arrive_and_wait();
    const float other = exchanged[threadIdx.x ^ apart];
    all_here.arrive_and_wait();
    return other;
}
"""
LAUNCH = """
extern "C" void launch(const float *state, const float *table, const unsigned *steps, float *out, unsigned blocks)
{
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 32; number++)
        threads.emplace_back([=] {
            threadIdx.x = number;
            for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
                ncsim_train(state, reinterpret_cast<const float4 *>(table), steps, out);
        });
    for (std::thread &each : threads) each.join();
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("change", first_fast([{"hidden": 9}, {"hidden": 1}, {"hidden": 20}], 1, 1))
def test_the_loop_of_a_gpu_is_that_of_the_host(change, tmp_path):
    """Which thread has which network and unit, what is loaded and stored, shuffles: with the host's functions in the step."""
    config = shape(ncsim.EnsembleConfig(tasks=FOUR_ROWS, **change))
    made = cuda.kernels(config)[1]
    team = cuda.threads_of(made)
    blocks, networks = 2, 2 * 32 // team
    loop = (template.DEVICE_LOOP if team == 1 else template.TEAM_DEVICE_LOOP).format(
        name=source.NAME, networks=networks, threads=32, blocks=1
    )
    text = source._text(made, AS_THREADS + template.HOST_HEADER, "int", loop) + LAUNCH
    file, library = tmp_path / "loop.cpp", tmp_path / "loop.so"
    file.write_text(text)
    flags = ["-std=c++20", "-pthread", "-w", *cuda_on_host.FLAGS[:-1]]
    subprocess.run(["g++", *flags, str(file), "-o", str(library)], check=True)
    rng = np.random.default_rng(4)
    slots = len(made.lanes) if made.team is None else made.team.wide.slots
    state = np.abs(rng.normal(size=(slots, networks))).astype(np.float32)  # averages of squares are no less than 0
    table = np.ascontiguousarray(cuda.table(made, jnp.float32(0.01), jnp.int32(0)))
    steps, out = np.array([1, 3], np.uint32), np.full(state.shape, np.nan, np.float32)
    pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in (state, table, steps, out)]
    ctypes.CDLL(str(library)).launch(*pointers, ctypes.c_uint(blocks))
    expected = np.asarray(cuda_on_host.launched(config, 1, jnp.asarray(state), jnp.asarray(table), jnp.asarray(steps)))
    stored = np.isfinite(out).all(axis=1)
    assert stored.sum() == slots - (len(made.flow.scalars) if made.team else 0)
    np.testing.assert_allclose(out[stored], expected[stored], rtol=1e-5, atol=1e-6)
    assert np.abs(out[stored] - state[stored]).max() > 1e-3


@pytest.mark.parametrize(("hidden", "team"), [(1, 1), (9, 4)])
def test_a_launch_has_threads_for_every_network(hidden, team, monkeypatch):
    """What XLA is told to launch, read from the trace: how many blocks of how many threads, of which text, with which arguments."""
    monkeypatch.setattr(nvrtc, "ptx", lambda text: text)
    config, networks = shape(ncsim.EnsembleConfig(hidden=hidden, tasks=FOUR_ROWS)), 256
    made = cuda.kernels(config)
    assert made[0].step != made[1].step
    slots = len(made[1].lanes) if team == 1 else made[1].team.wide.slots
    like = [
        jax.ShapeDtypeStruct((slots, networks), jnp.float32),
        jax.ShapeDtypeStruct((cuda.CHUNK, source.row_size(made[1])), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    ]
    for threads, more in [(cuda.THREADS, 0), (64, 1)]:
        cuda.ptx.cache_clear()
        traced = jax.make_jaxpr(lambda *given, t=threads, m=more: cuda.launched(config, 1, *given, t, m))(*like).jaxpr
        (call,) = traced.eqns
        assert call.invars == traced.invars
        assert call.outvars[0].aval.shape == like[0].shape
        told = dict(call.params["attributes"])
        assert cuda.CALL in call.params.values()
        assert told["grid_x"] * told["block_x"] == networks * team
        assert told["block_x"] == threads
        assert {told[name] for name in ("grid_y", "grid_z", "block_y", "block_z")} == {1}
        assert told["name"] == source.NAME
        text = told["kernel_data"]
        assert made[1].step in text
        assert f"networks = {networks}ull;" in text
        together = int(re.search(rf"__launch_bounds__\({threads}, (\d+)\)\n{source.NAME}\(", text)[1])
        assert 2 <= together - more <= 12 * cuda.THREADS // threads
    cuda.ptx.cache_clear()


@needs_compiler
@pytest.mark.parametrize("hidden", first_fast([2, 9], 1))
def test_what_diverged_stays_so(hidden):
    config = ncsim.EnsembleConfig(hidden=hidden, optimizer="sgd", loss="squared_error", tasks=FOUR_ROWS)
    vector = jnp.asarray(np.random.default_rng(0).normal(size=(5 * hidden + 2, 128)), jnp.float32)
    targets = jnp.asarray(context_targets(config.tasks)[0], jnp.float32)
    for bad in (np.nan, np.inf):
        start = vector.at[3, ::2].set(bad)  # a weight of a hidden unit
        trained = cuda.training(shape(config), cuda_on_host.launched)(
            config, start, targets, jnp.float32(0.01), jnp.int32(5)
        )
        # The weight itself stays as bad as it was, whatever the step is: it must reach both heads, as it does in the scan.
        heads = np.asarray(trained)[3 * hidden :]
        assert np.isnan(heads[:, ::2]).all()
        assert np.isfinite(np.asarray(trained)[:, 1::2]).all()


@needs_compiler
@pytest.mark.parametrize("members", sizes(2_048, 8_192))
def test_laws_are_those_of_the_scan(members):
    """Solved networks after 3,000 steps, within three standard errors of the difference of independent samples;
    the same members start both, so that few differ."""
    config = ncsim.EnsembleConfig(hidden=3)
    targets = context_targets(config.tasks)[2]
    solved = []
    _, ours, theirs = by_both(config, members)
    for trained in (ours(3_000), theirs(3_000)):
        result = xla.record(config, trained, jnp.asarray(targets, jnp.float32))
        solved.append(np.asarray(result.counts)[-1] == config.tasks.rows)
    shares = [each.mean() for each in solved]
    assert 0.1 < shares[1] < 0.9
    assert abs(shares[0] - shares[1]) < 3 * np.sqrt(2 * shares[1] * (1 - shares[1]) / members)
    assert np.mean(solved[0] != solved[1]) < 0.04


def test_denominators_share_a_reciprocal_only_if_no_product_is_lost():
    steps = {
        eps: cuda.kernels(shape(ncsim.EnsembleConfig(hidden=1, optimizer_options=f"eps={eps}")))
        for eps in (1e-8, 1e-30)
    }
    counts = {eps: made[0].step.count("reciprocal(") for eps, made in steps.items()}
    parameters = 9
    assert counts[1e-30] == 32 + parameters
    assert counts[1e-8] == 32 + parameters - parameters // 2


def test_what_it_cannot_train_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, "library", object)
    for change, words in [
        ({"precision": "float64"}, "precision float64"),
        ({"optimizer": configs.LAYERWISE_OPTIMIZERS[0]}, f"optimizer {configs.LAYERWISE_OPTIMIZERS[0]}"),
    ]:
        assert cuda.unsupported(dataclasses.replace(CONFIG, **change)).startswith(words)
    with pytest.raises(
        ncsim.ConfigError, match=r"^--executor: cuda cannot train without a CUDA GPU; allowed here: xla$"
    ):
        run_ensemble(CONFIG, out=tmp_path / "run", executor="cuda")
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        ncsim.ConfigError, match=r"^--executor: cuda cannot train precision float64.*; allowed here: xla$"
    ):
        choice.choose("cuda", [dataclasses.replace(CONFIG, precision="float64")], GPU, BLOCKS)
    monkeypatch.setattr(nvrtc, "library", lambda: None)
    assert cuda.unsupported(CONFIG) == cuda.NO_NVRTC


def test_a_state_that_is_no_number_of_steps_is_refused(monkeypatch):
    made = cuda.kernels(shape(CONFIG))[0]
    (number,) = made.flow.scalars
    after = [*made.flow.after]
    after[number] = made.flow.begun[number]  # a number that a step leaves as it was, of the type of one that counts
    counted = made._replace(
        flow=made.flow._replace(after=[n if n is not after[number] else made.flow.carry[number] for n in after])
    )
    with pytest.raises(ScalariseError, match="has no place in the cuda executor"):
        cuda.check_uniform(counted)
    cuda.check_uniform(made)


def test_nothing_of_cuda_is_imported_on_a_cpu():
    program = (
        "import sys, ncsim; from ncsim.ensemble.run import run_ensemble; "
        "run_ensemble(ncsim.EnsembleConfig(hidden=1, members=4, steps=2), executor='xla'); "
        "print([name for name in sys.modules if 'executors.cuda' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_auto_on_a_gpu_takes_cuda_or_says_why_not(monkeypatch, capsys):
    """With stand-ins for programs: which is tried, and what is said."""
    elsewhere, made = GPU, {}
    for name in ("xla", "cuda"):
        made[name] = object()
    monkeypatch.setattr(choice, "program", lambda name, *_, **__: made[name])
    monkeypatch.setattr(choice, "_agree", lambda *_: True)
    monkeypatch.setattr(nvrtc, "library", object)
    seconds = {"xla": 3.0, "cuda": 1.0}
    monkeypatch.setattr(
        choice, "seconds_a_network", lambda _, tried, __: seconds[next(n for n in made if made[n] is tried)]
    )
    auto = functools.partial(choice.choose, "auto", [CONFIG], elsewhere, BLOCKS)
    assert auto() == "cuda"
    seconds["cuda"] = 4.0
    assert auto() == "xla"
    assert capsys.readouterr().err == ""

    def no_call(name, *_, **__):
        if name == "cuda":
            raise RuntimeError("no handler for __gpu$xla.gpu.ptx\nand more")
        return made[name]

    monkeypatch.setattr(choice, "program", no_call)
    assert auto() == "xla"
    said = capsys.readouterr().err
    assert said == "ncsim: the cuda executor fails here (no handler for __gpu$xla.gpu.ptx and more): using xla\n"
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: cuda; its kernel fails here \(no handler for"):
        choice.choose("cuda", [CONFIG], elsewhere, BLOCKS)
    monkeypatch.setattr(nvrtc, "library", lambda: None)
    assert auto() == "xla"
    assert capsys.readouterr().err == "ncsim: cuda is not taken: without NVRTC, which jax[cuda13] brings; using xla\n"


def test_a_kernel_is_run_before_it_is_taken_and_all_cells_are_timed(monkeypatch, capsys):
    """With stand-ins: what fails when it is loaded, a grid of which one cell is slow, a config that no kernel has."""
    made, other = {name: object() for name in ("xla", "cuda")}, dataclasses.replace(CONFIG, hidden=3)
    monkeypatch.setattr(choice, "program", lambda name, *_, **__: made[name])
    monkeypatch.setattr(choice, "_agree", lambda *_: True)
    monkeypatch.setattr(nvrtc, "library", object)
    # By cuda the first cell takes a tenth of xla's time, and the second ten times that.
    by_cuda = {CONFIG: 0.1, other: 10.0}
    monkeypatch.setattr(
        choice, "seconds_a_network", lambda config, tried, _: 1.0 if tried is made["xla"] else by_cuda[config]
    )
    assert choice.choose("auto", [CONFIG], GPU, BLOCKS) == "cuda"
    assert choice.choose("auto", [CONFIG, other], GPU, BLOCKS) == "xla"
    assert choice.choose("auto", [CONFIG, dataclasses.replace(CONFIG, precision="float64")], GPU, BLOCKS) == "xla"
    assert capsys.readouterr().err == ""

    def not_loaded(config, tried, *_):
        raise RuntimeError(f"ptxas: fatal, {tried is made['cuda']}")

    monkeypatch.setattr(choice, "train_block", not_loaded)
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: cuda; its kernel fails here \(ptxas: fatal, True\)$"):
        choice.choose("cuda", [CONFIG], GPU, BLOCKS)


def test_losses_agree_where_both_are_near_or_both_diverged(monkeypatch):
    """Of 99 in 100 networks, and of those alone that both programs have. An infinite loss was near to every other."""
    losses = {
        name: types.SimpleNamespace(lanes=lanes, loss=np.ones((lanes, 4))) for name, lanes in [("a", 100), ("b", 50)]
    }
    monkeypatch.setattr(choice, "train_block", lambda _, tried, *__: tried)

    def agree(bad, good):
        losses["b"].loss[:], losses["a"].loss[:] = 1, 1
        losses["b"].loss[:2], losses["a"].loss[:2] = bad, good  # 4 in 100
        losses["a"].loss[50:] = 7  # of other members
        return choice._agree(CONFIG, losses["a"], losses["b"], GPU), choice._agree(
            CONFIG, losses["b"], losses["a"], GPU
        )

    assert agree(1.0015, 1.0) == (True, True)
    assert agree(1.003, 1.0) == (False, False)
    assert agree(np.nan, np.inf) == (True, True)
    assert agree(np.nan, 1.0) == (False, False)
    assert agree(np.inf, 1.0) == (False, False)


def test_a_block_has_consecutive_members_from_the_first_that_is_asked_for():
    """On two devices, with a buffer of three blocks each."""
    mesh = types.SimpleNamespace(devices=np.zeros(2))

    class Result(tuple):
        def __new__(cls, *leaves):
            return super().__new__(cls, leaves)

    def run(root, ids, used, rate, steps):
        assert (list(used), rate, steps) == ([1, 1], CONFIG.learning_rate, 7)
        return Result(ids[:, :, None] * np.ones(4, int), None)

    (found,) = choice.train_block(CONFIG, xla.BlockProgram(run, 5, 3), mesh, 7, first_member=40)
    assert found.shape == (10, 4)
    assert list(found[:, 0]) == list(range(40, 50))


def test_seconds_are_of_a_network(monkeypatch):
    """Blocks of executors differ in width. What comes before the second call is not timed."""
    now, calls = [0.0], []

    def train_block(config, tried, mesh, steps):
        calls.append(steps)
        now[0] += 100.0 if len(calls) == 1 else 6.0

    monkeypatch.setattr(choice, "train_block", train_block)
    monkeypatch.setattr(choice.time, "perf_counter", lambda: now[0])
    mesh = types.SimpleNamespace(devices=np.zeros(2))
    assert choice.seconds_a_network(CONFIG, types.SimpleNamespace(lanes=3), mesh, steps=40) == 1.0
    assert calls == [1, 40]
