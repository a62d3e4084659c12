"""Runs of scenarios: two settings are the runs of the paper's tasks, folders resume, and one network obeys every bound."""

import dataclasses
import errno
import os
import re
from concurrent.futures import Executor, Future

import numpy as np
import pytest

import ncsim
from ncsim import c_compiler
from ncsim.ensemble.audit import audit
from ncsim.errors import StoreError
from ncsim.results import open_run
from ncsim.scenarios import open_scenario
from ncsim.statistics.scenario_values import cycle_of, cycle_statistics, questions, values
from ncsim.storage import parts
from ncsim.storage.scenario_folder import ScenarioFolder
from ncsim.storage.verify import repair, verify
from tests.support.cases import first_fast
from tests.support.scenarios import THREE

pytestmark = pytest.mark.usefixtures("quickly")

#: Few rows, so that it compiles fast; three parties, so that nothing of two is there.
CONFIG = ncsim.EnsembleConfig(hidden=2, members=200, steps=30, learning_rate=0.05, tasks=THREE)
EXECUTORS = ["xla", "native"] if c_compiler.compiler() and c_compiler.processor() else ["xla"]


def same(one, other):
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def run():
    return ncsim.run_scenario(CONFIG, executor="xla")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_two_settings_are_the_paper_s_run_bit_for_bit(executor):
    plain = ncsim.EnsembleConfig(hidden=2, members=300, steps=40, learning_rate=0.05)
    ours = ncsim.run_ensemble(plain, executor=executor).records()
    scenario = ncsim.run_scenario(dataclasses.replace(plain, tasks=ncsim.chained_tasks(2)), executor=executor)
    theirs = scenario.records()
    assert scenario.executors == [executor]
    for name in ("member", "counts", "loss", "margin", "diverged"):
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes(), name
    assert np.array_equal(theirs.undecided[..., 0], ours.undecided_alice)
    assert np.array_equal(theirs.undecided[..., 1], ours.undecided_bob)
    assert np.array_equal(scenario.counts.reshape(300, 2, 2, 2, 2), ours.joint)


def test_counts_have_an_axis_per_party(run):
    assert run.counts.shape == (200, 8, 2, 2, 2)
    assert (run.counts.sum(axis=(2, 3, 4)) == 8).all()
    assert len(np.unique(run.records().loss[:, 0])) > 190
    assert run.missing() == 0
    assert run.path is None


def test_a_context_of_a_longer_list_starts_as_it_does_alone(run):
    """Context c of a member is the same network whatever follows it, and a member whatever stands beside it."""
    fewer = dataclasses.replace(CONFIG, tasks=dataclasses.replace(THREE, contexts=THREE.contexts[:2]), members=3)
    found = ncsim.run_scenario(dataclasses.replace(fewer, first_member=7), executor="xla").records()
    assert np.array_equal(found.counts, run.records().counts[7:10, :2])
    assert np.array_equal(found.loss, run.records().loss[7:10, :2])


@pytest.mark.parametrize("devices", first_fast([3, 1]))
def test_devices_change_nothing(run, devices):
    assert same(ncsim.run_scenario(CONFIG, executor="xla", devices=devices).records(), run.records())


def test_a_folder_goes_on_and_is_verified_repaired_and_audited(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    few = ncsim.run_scenario(dataclasses.replace(CONFIG, members=70), tmp_path / "run", executor="xla")
    assert few.records().size == 70
    begun = {path: path.read_bytes() for path in (tmp_path / "run" / "parts").rglob("*.parquet")}
    whole = ncsim.run_scenario(CONFIG, tmp_path / "run")
    assert whole.executors == ["xla"]
    assert same(whole.records(), run.records())
    assert all(path.read_bytes() == content for path, content in begun.items())
    assert same(open_scenario(tmp_path / "run").records(), run.records())
    assert verify(tmp_path / "run").right
    again = audit(tmp_path / "run", 0.5, 1)
    assert again.right
    assert again.members > 50
    gone, torn = sorted((tmp_path / "run" / "parts").rglob("*.parquet"))[:2]
    expected = torn.read_bytes()
    gone.unlink()
    torn.write_bytes(expected[:-100] + bytes([expected[-100] ^ 1]) + expected[-99:])
    found = verify(tmp_path / "run")
    assert [finding.name for finding in found.findings] == [str(torn.relative_to(tmp_path / "run"))]
    assert repair(tmp_path / "run", lambda configs: ncsim.run_scenario(configs, tmp_path / "run"), lambda _: None).right
    assert torn.read_bytes() == expected
    assert same(open_scenario(tmp_path / "run").records(), run.records())


def test_a_complete_run_is_given_from_a_folder_that_is_only_read(run, tmp_path, monkeypatch):
    """As of an ensemble. It was an error, of a run of which nothing was to be trained."""
    place = tmp_path / "run"
    folder = ScenarioFolder.create(place, [CONFIG], training=lambda: {"executor": {}, "device": "1 x cpu (cpu)"})
    folder.write_part(CONFIG, run.records())
    opened = os.open

    def refusing(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(place)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    assert same(ncsim.run_scenario(CONFIG, place).records(), run.records())
    for other, resume in ((dataclasses.replace(CONFIG, members=201), True), (CONFIG, False)):
        with pytest.raises(StoreError, match=r"cannot be written to \(Read-only file system\)$"):
            ncsim.run_scenario(other, place, resume=resume)


def test_an_audit_finds_what_is_not_as_it_was_trained(run, tmp_path, monkeypatch):
    folder = ScenarioFolder.create(tmp_path, [CONFIG], training=lambda: {"executor": {}, "device": "1 x cpu (cpu)"})
    records = run.records()
    counts = records.counts.copy()
    counts[3, 0] = counts[3, 0][::-1]
    folder.write_part(CONFIG, records._replace(counts=counts))
    found = audit(tmp_path, 1.0, 0)
    assert [(each.member, each.columns) for each in found.differing] == [(3, ("counts",))]


def test_shards_make_the_same_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    for number in (2, 1):
        part = ncsim.run_scenario(CONFIG, tmp_path, executor="xla", shard=(number, 2))
    assert part.missing() == 0
    assert same(part.records(), run.records())


def test_a_grid_has_a_cell_for_each_value(tmp_path):
    configs = [dataclasses.replace(CONFIG, members=5, learning_rate=rate) for rate in (0.05, 0.1)]
    found = ncsim.run_scenario(configs, tmp_path, executor="xla")
    assert found.swept == ["learning_rate"]
    assert open_scenario(tmp_path).counts.shape == (5, 8, 2, 2, 2)
    assert not same(found.records(0), found.records(1))


def test_kinds_of_folders_are_not_taken_for_one_another(tmp_path):
    ncsim.run_scenario(dataclasses.replace(CONFIG, members=5), tmp_path / "scenario", executor="xla")
    with pytest.raises(ncsim.StoreError, match=r"holds a scenario; ncsim.open_scenario and `ncsim report` read it$"):
        open_run(tmp_path / "scenario")
    from tests.support.tasks import FOUR_ROWS

    ncsim.run_ensemble(
        ncsim.EnsembleConfig(hidden=1, members=5, steps=3, tasks=FOUR_ROWS), tmp_path / "plain", executor="xla"
    )
    with pytest.raises(ncsim.StoreError, match=r"holds an ensemble; ncsim.open_run and `ncsim report` read it$"):
        open_scenario(tmp_path / "plain")


def test_a_grid_of_large_seeds_is_one_table(tmp_path):
    """Of an ensemble: pandas, and what its parts say."""
    from tests.support.tasks import FOUR_ROWS

    seeds = [2**63, 2**64 - 1]
    run = ncsim.run_ensemble(
        ncsim.config_grid(hidden=1, members=4, steps=3, tasks=FOUR_ROWS, root_seed=seeds), tmp_path, executor="xla"
    )
    assert run.to_pandas().root_seed.unique().tolist() == seeds
    assert open_run(tmp_path).to_xarray().root_seed.values.tolist() == seeds
    assert verify(tmp_path).right


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"config": []}, "config: no config; allowed: one or more"),
        ({"config": ["x"]}, "config: 'x'; allowed: an ncsim.EnsembleConfig, or several"),
        ({"executor": "abacus"}, "--executor: abacus; allowed: auto, xla, pallas, native, cuda"),
        ({"shard": (1, 2)}, "--shard: needs a run folder that the shards have in common; allowed: with out=FOLDER"),
        ({"resume": 1}, "resume: 1; allowed: True or False"),
        ({"devices": 0}, "--devices: 0; allowed: a whole number from 1 to 4096"),
    ],
)
def test_what_no_scenario_is_run_with(arguments, words):
    with pytest.raises(ncsim.ConfigError, match="^" + re.escape(words)):
        ncsim.run_scenario(**({"config": CONFIG} | arguments))


def test_one_network_with_all_heads_obeys_the_local_bound():
    """Of every member: all tasks of two parties with three tasks each are six heads of one network."""
    functions = [lambda x, y: x, lambda x, y: y, lambda x, y: x ^ y]
    tasks = ncsim.scenario_tasks([functions, functions], 2, ncsim.chained_tasks(3).contexts)
    config = dataclasses.replace(CONFIG, tasks=ncsim.one_network(tasks), members=300, steps=100)
    joint = ncsim.run_scenario(config, executor="xla").counts[:, 0]
    pairs = []
    for i, j in tasks.contexts:
        others = tuple(1 + head for head in range(6) if head not in (i, 3 + j))
        pairs.append(joint.sum(axis=others).reshape(300, 4))
    counts = np.stack(pairs, axis=1)
    (question,) = questions(tasks)
    found = cycle_statistics(counts, cycle_of(tasks))
    assert values(counts, question.signs).max() == question.inequality.classical_bound == 4
    assert not found.influence.any()
    assert found.contextuality.max() == 0
    assert found.contextuality.min() < -1


def test_seeds_up_to_64_bits(tmp_path):
    """The key is that of JAX with 64 bits; two seeds that differ in the upper half alone differ, and a folder keeps them."""
    import jax

    small = dataclasses.replace(CONFIG, members=5, steps=3)
    seeds = [5, 5 + 2**32, 2**63, 2**64 - 1]
    losses = []
    for pair in (seeds[:2], seeds[2:]):
        configs = [dataclasses.replace(small, root_seed=seed) for seed in pair]
        run = ncsim.run_scenario(configs, tmp_path / str(pair[0]), executor="xla")
        losses += [run.records(cell).loss.tobytes() for cell in (0, 1)]
        reopened = open_scenario(tmp_path / str(pair[0]))
        assert [config.root_seed for config in reopened.configs] == pair
        assert [reopened.records(cell).loss.tobytes() for cell in (0, 1)] == losses[-2:]
    assert len(set(losses)) == len(seeds)
    with pytest.raises(ncsim.ConfigError, match=r"^--root-seed: seeds below 2\^63 with others; allowed in one grid"):
        ncsim.run_scenario([configs[0], dataclasses.replace(small, root_seed=5)])
    with jax.enable_x64(True):
        for seed in seeds:
            expected = np.array([seed >> 32, seed & (2**32 - 1)], np.uint32)
            assert np.array_equal(jax.random.key_data(jax.random.key(np.uint64(seed), impl="threefry2x32")), expected)


class Tasks(Executor):
    """Runs each task where it is handed in, and keeps its function's name."""

    def __init__(self):
        self.handed = []

    def submit(self, fn, /, *arguments, **named):
        self.handed.append(fn.__name__)
        future = Future()
        future.set_result(fn(*arguments, **named))
        return future


def test_a_pool_trains_the_same_parts(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "part_size", lambda config: 64)
    monkeypatch.setattr("ncsim.ensemble.work.part_size", lambda config: 64)
    tasks = Tasks()
    found = ncsim.run_scenario(CONFIG, tmp_path / "run", executor="xla", pool=tasks)
    assert tasks.handed == ["begin", *["train"] * 4]  # 200 members in parts of 64
    assert same(found.records(), run.records())
    nothing = Tasks()
    again = ncsim.run_scenario(CONFIG, tmp_path / "run", pool=nothing)
    assert "train" not in nothing.handed
    assert same(again.records(), run.records())


def test_a_table_of_pandas_has_the_columns_of_the_parts(run, tmp_path):
    found = run.to_pandas()
    records = run.records()
    assert found["member"].tolist() == list(range(200))
    for place, context in enumerate(THREE.context_names):
        for cell in range(8):
            assert found[f"counts_{context}_{cell:03b}"].tolist() == records.counts[:, place, cell].tolist()
        assert found[f"undecided_{context}_C"].tolist() == records.undecided[:, place, 2].tolist()
    grid = [dataclasses.replace(CONFIG, members=20, hidden=hidden) for hidden in (1, 2)]
    stored = ncsim.run_scenario(grid, tmp_path / "grid", executor="xla").to_pandas()
    assert stored["hidden"].tolist() == [1] * 20 + [2] * 20
    assert (stored["loss_111"][20:].to_numpy() == records.loss[:20, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": Tasks()}, "^pool: needs a run folder"),
        ({"pool": Tasks(), "out": "run", "shard": (1, 2)}, "^pool: needs a run folder"),
        ({"pool": 3, "out": "run"}, "^pool: int; allowed: a concurrent.futures.Executor"),
        ({"pool": "dask", "out": "run"}, "^--cluster: dask; allowed: ray, auto or ray://HOST:PORT"),
    ],
)
def test_pools_that_are_refused(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ncsim.ConfigError, match=words):
        ncsim.run_scenario(CONFIG, **arguments)
    assert not (tmp_path / "run").exists()
