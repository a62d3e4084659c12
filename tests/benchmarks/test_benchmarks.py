"""The benchmarks' peers do the same work as ncsim, and what is missing is named. No rate is tested here."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import ncsim
from benchmarks import ceilings, laws, native, recording, scaling, throughput, work
from benchmarks.native import MissingError, NativeReference
from benchmarks.peers import ObviousFlax, TorchBatched, TorchLoop
from benchmarks.throughput import Measurement, check_steps
from ncsim.executors import choice, xla
from ncsim.training.network import Architecture
from ncsim.training.step import train
from tests.support.cases import first_fast
from tests.support.tasks import FOUR_ROWS

HAS_COMPILER = True
try:
    native.compiler()
except MissingError:
    HAS_COMPILER = False


@pytest.mark.parametrize("hidden", [2, 3])
def test_reference_steps_are_ncsims(hidden):
    """What every peer is held to is what ncsim does: parameters in the same order, ten Adam steps."""
    config = ncsim.EnsembleConfig(hidden=hidden)
    assert Architecture.of(config).size == work.parameter_count(hidden)
    start, targets = work.starts(hidden, 32, 1), work.TARGETS[3]
    ours = jax.jit(lambda v: train(config, v, jnp.asarray(targets), work.LEARNING_RATE, 10))(start)
    np.testing.assert_allclose(ours, work.trained(start, targets, hidden, 10), atol=1e-5)


@pytest.mark.parametrize("hidden", first_fast([3, 1, 10]))
def test_native_reference_does_the_same_work(hidden):
    if not HAS_COMPILER:
        with pytest.raises(MissingError, match="no C compiler"):
            NativeReference(hidden)
        return
    reference = NativeReference(hidden, threads=2)
    check_steps(reference.train, "native reference", hidden, networks=40)  # not a multiple of its lanes
    trained = reference.train(work.starts(hidden, 512, 3), work.TARGETS[0], 400)
    expected = work.trained(work.starts(hidden, 512, 4), work.TARGETS[0], hidden, 400)
    ends = [work.outcome(parameters, work.TARGETS[0], hidden) for parameters in (trained, expected)]
    assert work.disagreements(*ends) == []


@pytest.mark.parametrize("training_rows", first_fast([3, 0], 0, slow=1))
def test_tuning_joins_blocks_of_records(training_rows):
    """With a field that is not there, as counts of the rows trained on where those are all."""
    config = ncsim.EnsembleConfig(hidden=1, training_rows=training_rows, tasks=FOUR_ROWS)
    mesh = jax.make_mesh((1,), (xla.MEMBERS,), devices=jax.devices()[:1])
    program = xla.block_program(config, mesh, 1, 16)
    records = laws.records(config, program, mesh, 20, 3, 5)
    whole = choice.train_block(config, xla.block_program(config, mesh, 1, 32), mesh, 3, 5)
    assert (records.training_counts is None) == (training_rows == 0)
    for ours, theirs in zip(records, whole, strict=True):
        assert (ours is None and theirs is None) or np.array_equal(ours, theirs[:20])


def test_native_reference_without_a_compiler_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MissingError, match=r"^no C compiler \(looked for cc, gcc, clang\)$"):
        NativeReference(3)
    assert native.compiler_version().startswith("no C compiler")


def test_native_reference_saturates():
    """Logits far outside of what an exponential can hold move no parameter to something that is not a number."""
    if not HAS_COMPILER:
        pytest.skip("no C compiler")
    trained = NativeReference(3).train(1000 * work.starts(3, 64, 0), work.TARGETS[3], 20)
    assert np.all(np.isfinite(trained))


@pytest.mark.slow
def test_obvious_flax_does_the_same_work():
    check_steps(ObviousFlax(3, batches=(8,)).train, "flax + optax, vmap", 3)


def test_torch_does_the_same_work():
    pytest.importorskip("torch", reason="PyTorch is a peer of `make benchmark`, not a dependency")
    check_steps(TorchBatched(3, batches=(8,)).train, "torch, batched", 3)
    check_steps(TorchLoop(3).train, "torch, a loop", 3, networks=4)


def test_other_work_is_refused():
    with pytest.raises(RuntimeError, match=r"^idle: parameters after 1 steps differ"):
        check_steps(lambda start, targets, steps: start, "idle", 3)
    ends = work.Outcome(0.5, 0.2, 0.001, 4000), work.Outcome(0.6, 0.2, 0.001, 4000)
    assert "solved 0.5000 and 0.6000" in work.disagreements(*ends)[0]


def test_table_names_what_is_missing():
    measured = {
        "ncsim": Measurement("ncsim", "in memory", None, 2.0, 1_000_000, [0.5, 0.4, 0.6]),
        "torch, batched": Measurement("torch, batched", missing="PyTorch is not installed (pip install torch)"),
        "torch, a loop": Measurement("torch, a loop", "one", None, 0.0, 1_000, [1.0, 1.0, 1.0]),
    }
    lines = throughput.peer_table(measured)
    (batched,) = (line for line in lines if line.startswith("PyTorch, batched"))
    assert "missing" in batched
    assert "PyTorch is not installed" in batched
    (loop,) = (line for line in lines if line.startswith("PyTorch, one network"))
    assert "2,000 (1,667 .. 2,500)" in loop
    options = {"n = 2": None}
    measured |= {
        "n = 2": measured["ncsim"],
        "against n = 2": Measurement("against n = 2", missing="no C compiler (looked for cc)"),
    }
    assert "missing: no C compiler" in throughput.option_table("width", "ratio", options, measured)[-1]


def test_ceilings():
    assert ceilings.operations(3) == 249 * 3 + 190 + 14 * 23
    assert ceilings.bytes_through_memory(3) == 552
    assert ceilings.lines(3, None, None) == ["Fraction of an accelerator's ceilings: not measured: no accelerator"]
    measured = {"multiply_add_operations": 1e13, "copy_bytes": 1e12}
    assert "12.6% of the measured ceiling" in ceilings.lines(3, 1e9, measured)[0]


def test_growth_checks():
    def point(members, seconds, peak):
        return {"members": members, "network_steps": 80 * members, "seconds": seconds, "peak_bytes": peak}

    good = [point(10**5, 1.0, 5e8), point(10**6, 9.5, 5.1e8), point(10**7, 96.0, 5.2e8)]
    assert [check["holds"] for check in scaling.growth_checks({"members": good})] == [True, True, True]
    bad = [point(10**5, 1.0, 5e8), point(10**6, 20.0, 1e9), point(10**7, 400.0, 4e9)]
    assert [check["holds"] for check in scaling.growth_checks({"members": bad})] == [False, False, False]
    for took, holds in (((59.0, 1.4e9, 4.9, 3e8), [True] * 3), ((61.0, 1.6e9, 5.1, 3e8), [False] * 3)):
        names = [name for names in scaling.REPORTS for name in names]
        reported = [*good[:2], good[2] | dict(zip(names, took, strict=True))]
        assert [check["holds"] for check in scaling.growth_checks({"members": reported})] == [True, True, True, *holds]


def test_a_bad_value_is_one_line(capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--rounds", "0"])
    assert "argument --rounds: 0; allowed: a number above 0" in capsys.readouterr().err


@pytest.mark.thorough  # it compiles all peers, and checks no number
def test_throughput_in_one_run(capsys, tmp_path):
    throughput.main(["--rounds", "1", "--seconds", "0.2", "--json", str(tmp_path / "out" / "throughput.json")])
    said = capsys.readouterr().out
    for label in throughput.PEER_LABELS.values():
        assert label in said
    found = json.loads((tmp_path / "out" / "throughput.json").read_text())
    assert set(found["peers"]) == set(throughput.PEER_LABELS)
    assert found["peers"]["ncsim"]["rate_median"] > 0
    assert found["machine"]["cores"] >= 1


@pytest.mark.thorough
def test_recording_in_one_run(tmp_path):
    options = ["--executors", "xla", "--members", "512", "--steps", "100", "--rounds", "3"]
    recording.main([*options, "--json", str(tmp_path / "recording.json")])
    found = json.loads((tmp_path / "recording.json").read_text())["executors"]["xla"]
    assert found["recorded_steps"] == 50
    for by in ("clock", "processors"):
        for middle, low, high in found["recorded_over_plain"][by].values():
            assert 0.2 < low <= middle <= high < 50


@pytest.mark.thorough
def test_scaling_in_one_run(tmp_path):
    with pytest.raises(SystemExit) as ended:
        scaling.main(["--quick", "--curves", "devices", "--out", str(tmp_path / "scaling")])
    assert ended.value.code == 0
    points = json.loads((tmp_path / "scaling" / "scaling.json").read_text())["curves"]["devices"]
    assert [point["devices_there"] for point in points] == [1, 2]
    for suffix in ("png", "svg", "csv"):
        assert (tmp_path / "scaling" / f"devices.{suffix}").stat().st_size > 100
