"""What is recorded along training is what shorter trainings end with, changes no member, and is stored like members."""

import dataclasses
import errno
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pytest
from scipy import stats

import ncsim
from ncsim import c_compiler
from ncsim.config.recording import Recording
from ncsim.config.tasks import context_targets
from ncsim.ensemble import run as ensemble
from ncsim.ensemble.job import Job
from ncsim.ensemble.run import run_ensemble
from ncsim.executors import pallas
from ncsim.executors.native import program as native
from ncsim.records.trajectories import concatenated
from ncsim.statistics.training_curves import QUANTILES, trajectory_statistics
from ncsim.storage import parts
from ncsim.storage.files import LocalStorage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.verify import repair, verify
from ncsim.storage.writer import Background
from ncsim.training.gradients import diagnostics
from ncsim.training.initialization import initial_vector, member_key
from ncsim.training.observation import OBSERVED
from tests.support.cases import first_fast
from tests.support.folders import parts_of

CONFIG = ncsim.EnsembleConfig(hidden=2, members=150, steps=60)
RECORDING = Recording(spacing="every", every=20)
NATIVE = c_compiler.processor() is not None and c_compiler.compiler() is not None


def alike(a, b):
    for ours, theirs in zip(a, b, strict=True):
        if ours is not None:
            assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


def same_trajectories(a, b):
    alike([a.member, a.step, a.counts, *a.values.values()], [b.member, b.step, b.counts, *b.values.values()])
    assert list(a.values) == list(b.values)


@pytest.fixture(scope="module")
def recorded():
    return run_ensemble(CONFIG, recording=RECORDING, executor="xla")


@pytest.fixture(scope="module")
def together(recorded):
    return concatenated(list(recorded.trajectories()))


# --------------------------------------------------------------------------------------------------- which steps


def test_steps():
    assert Recording(points=4).steps(9).tolist() == [0, 3, 6, 9]
    assert Recording(spacing="every", every=4).steps(10).tolist() == [0, 4, 8, 10]
    assert Recording(points=6, spacing="logarithmic").steps(10_000).tolist() == [0, 1, 10, 100, 1000, 10_000]
    assert Recording(points=50).steps(3000).size == 50
    assert Recording(points=50).steps(1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": 1}, "--record-points: 1; allowed: a whole number from 2 to 10000"),
        ({"points": 2.5}, "--record-points: 2.5; allowed"),
        ({"spacing": "cubic"}, "--record-spacing: cubic; allowed: linear, logarithmic, every"),
        ({"spacing": "every"}, "--record-every: 0; allowed: a whole number, 1 or above"),
        ({"every": 3}, "--record-every: 3 with --record-spacing linear; allowed: with every"),
    ],
)
def test_bad_recordings_are_one_line(fields, message):
    with pytest.raises(ncsim.ConfigError) as error:
        Recording(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_too_many_steps_are_refused_before_a_folder_is_made(tmp_path):
    long = dataclasses.replace(CONFIG, steps=10**6)
    with pytest.raises(ncsim.ConfigError, match=r"^--record-every: 1 with --steps 1000000; allowed: at most 10000"):
        run_ensemble(long, out=tmp_path / "run", recording=Recording(spacing="every", every=1))
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------------------- in the executors


@pytest.mark.parametrize("executor", first_fast(["xla", *(["native"] if NATIVE else [])]))
def test_members_are_as_without_recording_and_as_after_fewer_steps(executor, recorded, together):
    """The records of every member are bit-identical; what stands at step k is what k steps of training end with."""
    if executor == "native":
        recorded = run_ensemble(CONFIG, recording=RECORDING, executor=executor)
        together = concatenated(list(recorded.trajectories()))
    alike(recorded.records(), run_ensemble(CONFIG, executor=executor).records())
    assert together.step.tolist() == [0, 20, 40, 60]
    for place, steps in enumerate(together.step[1:], 1):
        ended = run_ensemble(dataclasses.replace(CONFIG, steps=int(steps)), executor=executor).records()
        assert np.array_equal(together.counts[:, place], ended.counts)
        assert np.array_equal(together.value("margin")[:, place], ended.margin)
        losses = together.value("loss_alice")[:, place] + together.value("loss_bob")[:, place]
        assert np.abs(losses - ended.loss).max() < 1e-6
    # Before the first step the two heads are as good as each other, and their losses differ between networks.
    assert len(np.unique(together.value("loss_bob")[:, 0])) > 500


@pytest.mark.slow
def test_a_kernel_gives_what_it_gives_after_fewer_steps():
    """The interpreted kernel, between steps and all at once."""
    config = dataclasses.replace(CONFIG, tasks=ncsim.truth_tables([lambda x: x] * 2, [lambda x: 1 - x] * 2, features=1))
    keys = jax.random.split(jax.random.key(2), 64)
    vector = jax.vmap(lambda key: initial_vector(key, config), out_axes=-1)(keys)
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    train = jax.jit(lambda v, steps: pallas.training("cpu")(config, v, targets, jnp.float32(0.01), steps))
    stops = jnp.asarray([0, 1, 4, 9], jnp.int32)
    several = train(vector, stops)
    for place, stop in enumerate(stops):
        assert np.array_equal(several[place], train(vector, stop))


@pytest.mark.skipif(not NATIVE, reason="no C compiler, or no processor that code is made for")
def test_native_rows_of_uniform_values_that_are_made_in_pieces(monkeypatch):
    """More steps than there is room for at once, with stops before, at and after the end of a piece."""
    text = native.source(CONFIG)
    assert "#define MOST_ROWS 65536" in text
    monkeypatch.setattr(native, "source", lambda _: text.replace("#define MOST_ROWS 65536", "#define MOST_ROWS 7"))
    pieces = native.training.__wrapped__(CONFIG)
    monkeypatch.undo()
    whole = native.training(native.shape(CONFIG))
    keys = jax.random.split(jax.random.key(2), 128)
    vector = jax.vmap(lambda key: initial_vector(key, CONFIG), out_axes=-1)(keys)
    targets = jnp.asarray(context_targets(CONFIG.tasks)[1], jnp.float32)
    stops = jnp.asarray([0, 3, 7, 8, 20, 21, 30], jnp.int32)
    a, b = (jax.jit(lambda v, s, run=run: run(CONFIG, v, targets, jnp.float32(0.01), s)) for run in (pieces, whole))
    several = a(vector, stops)
    for place, stop in enumerate(stops):
        assert np.array_equal(several[place], b(vector, stop))


@pytest.mark.slow
def test_diverged_networks_have_no_counts_from_then_on():
    config = dataclasses.replace(CONFIG, loss="squared_error", optimizer="sgd", learning_rate=1e6, members=40)
    run = run_ensemble(config, recording=RECORDING, executor="xla")
    together = concatenated(list(run.trajectories()))
    totals = together.counts.sum(axis=-1)
    assert np.all(totals[:, 0] == 16)
    assert run.records().diverged.all()
    assert np.all(totals[:, -1] == 0)
    statistics = trajectory_statistics(run.trajectories(), 16)
    assert statistics.members[0] == 40
    assert statistics.members[-1] == 0
    assert np.isnan(statistics.s.mean[-1])


# --------------------------------------------------------------------------------------------------- on disk


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts_of(folder)} | {
        "folders": sorted(str(path.parent.relative_to(folder)) for path in parts_of(folder))
    }


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    monkeypatch.setattr(parts, "PART_ROWS", 4 * 32)


def test_stored_resumed_and_added_afterwards(recorded, together, tmp_path, small_parts):
    run = run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    parts = sorted((tmp_path / "run" / "trajectories").glob("*.parquet"))
    assert [path.name for path in parts][:2] == ["members-0000000000-32.parquet", "members-0000000032-32.parquet"]
    assert len(parts) == 5
    same_trajectories(concatenated(list(run.trajectories())), together)
    same_trajectories(concatenated(list(ncsim.open_run(tmp_path / "run").trajectories())), together)
    before = hashes(tmp_path / "run")

    # Killed between its parts, within a part, and with trajectories of members that it had not stored yet.
    parts[0].unlink()
    sorted((tmp_path / "run" / "parts").glob("*.parquet"))[1].unlink()
    run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    assert hashes(tmp_path / "run") == before

    # A run that was not recorded at first has the same members, and then the same files.
    plain = run_ensemble(CONFIG, out=tmp_path / "plain", executor="xla")
    assert list(plain.trajectories()) == []
    alike(plain.records(), recorded.records())
    run_ensemble(CONFIG, out=tmp_path / "plain", recording=RECORDING, executor="xla")
    assert hashes(tmp_path / "plain") == before


def test_a_part_is_a_table_that_others_read(tmp_path, recorded, together):
    pandas = pytest.importorskip("pandas")
    run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    table = pandas.read_parquet(tmp_path / "run" / "trajectories")
    assert len(table) == 150 * 4
    row = table[(table["member"] == 7) & (table["step"] == 40)].iloc[0]
    contexts = ("11", "12", "21", "22")
    counts = [[row[f"counts_{ij}_{a}{b}"] for a in (0, 1) for b in (0, 1)] for ij in contexts]
    assert np.array_equal(counts, together.counts[7, 2])
    assert np.array_equal([row[f"margin_{ij}"] for ij in contexts], together.value("margin")[7, 2])
    # In the words of Table 1: context 12 is Alice's first task with Bob's second.
    record = ncsim.open_run(tmp_path / "run").records()
    last = table[(table["member"] == 7) & (table["step"] == 60)].iloc[0]
    assert last["counts_12_01"] == record.joint[7, 0, 1, 0, 1]


def test_what_does_not_belong_is_refused_in_a_line(tmp_path):
    run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    with pytest.raises(
        ncsim.StoreError, match=r"has --record-every 20, and --record-every 30 is asked for; allowed: its own$"
    ):
        run_ensemble(CONFIG, out=tmp_path / "run", recording=Recording(spacing="every", every=30), executor="xla")
    (part,) = (tmp_path / "run" / "trajectories").glob("*.parquet")
    content = part.read_bytes()
    for damaged in (content[:-100], content[: len(content) // 2], b""):
        part.write_bytes(damaged)
        with pytest.raises(
            ncsim.StoreError, match=r"members-0000000000-150.parquet: is torn .*; `ncsim report --repair"
        ):
            run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    flipped = bytearray(content)
    flipped[300] ^= 4
    part.write_bytes(bytes(flipped))
    with pytest.raises(ncsim.StoreError, match=r"is torn|does not hold"):
        list(ncsim.open_run(tmp_path / "run").trajectories())
    part.write_bytes(content)
    part.rename(part.with_name("members-0000000000-149.parquet"))
    with pytest.raises(ncsim.StoreError, match="does not hold what its name says"):
        run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")


def test_members_that_come_out_otherwise_are_not_recorded(tmp_path, monkeypatch):
    """A run that was stored by another machine is not given trajectories of members that are not its own."""
    run_ensemble(CONFIG, out=tmp_path / "run", executor="xla")
    monkeypatch.setattr(ensemble.RunFolder, "read_part", lambda folder, config, name: other)
    other = run_ensemble(dataclasses.replace(CONFIG, root_seed=1), executor="xla").records()
    with pytest.raises(ncsim.StoreError, match=r"members 0 to .* do not come out as they are stored"):
        run_ensemble(CONFIG, out=tmp_path / "run", recording=RECORDING, executor="xla")
    assert not list((tmp_path / "run").rglob("trajectories/*.parquet"))


# --------------------------------------------------------------------------------------------------- shared, checked, mended


def test_workers_record_what_they_train_and_what_was_not_recorded(tmp_path, small_parts):
    """A worker of a folder that another began, and one that was killed amid its part, end with one process's files."""
    run_ensemble(CONFIG, out=tmp_path / "alone", recording=RECORDING, executor="xla")
    expected = hashes(tmp_path / "alone")
    run_ensemble(CONFIG, out=tmp_path / "shared", executor="xla")
    parts = sorted((tmp_path / "shared" / "parts").glob("*.parquet"))
    parts[1].unlink()  # members 64 to 127 are to be trained, the others only to be recorded
    stray = tmp_path / "shared" / "trajectories" / "members-0000000090-60.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"of a worker that was to train other members beside these")
    with pytest.raises(ncsim.StoreError, match=r"members-0000000090-60.parquet: is torn .*; `ncsim report --repair"):
        run_ensemble(CONFIG, out=tmp_path / "shared", recording=RECORDING, executor="xla", shard=(1, 1))
    content = (tmp_path / "alone" / "trajectories" / "members-0000000064-32.parquet").read_bytes()
    stray.unlink()
    (stray.parent / "members-0000000064-32.parquet").write_bytes(content)
    run = run_ensemble(CONFIG, out=tmp_path / "shared", recording=RECORDING, executor="xla", shard=(1, 1))
    assert hashes(tmp_path / "shared") == expected
    assert verify(run.location).right
    # Another recording is refused to a worker as well, and a run that records goes on without being asked to.
    with pytest.raises(ncsim.StoreError, match=r"has --record-every 20, and .* is asked for; allowed: its own$"):
        run_ensemble(CONFIG, out=tmp_path / "shared", recording=Recording(), executor="xla", shard=(1, 3))
    longer = dataclasses.replace(CONFIG, members=200)
    more = run_ensemble(longer, out=tmp_path / "shared", executor="xla")
    assert concatenated(list(more.trajectories())).member.size == 200


def test_a_folder_is_listed_as_often_however_many_parts_it_lacks(tmp_path, small_parts, monkeypatch):
    """Once a part, a run of ten thousand parts in an object store listed a hundred million keys."""
    listed = []
    names = LocalStorage.names
    monkeypatch.setattr(LocalStorage, "names", lambda own, folder: [listed.append(folder), *names(own, folder)][1:])

    def times(members):
        listed.clear()
        config = dataclasses.replace(CONFIG, members=members)
        run_ensemble(config, out=tmp_path / str(members), recording=RECORDING, executor="xla")
        return len(listed)

    assert times(150) == times(600)


def test_a_worker_that_records_members_reads_of_their_parts_alone(tmp_path, small_parts, monkeypatch):
    run_ensemble(CONFIG, out=tmp_path, executor="xla")
    job = Job([CONFIG], None, None, "xla", RECORDING, tmp_path)
    read = []
    tail = LocalStorage.read_tail
    monkeypatch.setattr(
        LocalStorage, "read_tail", lambda own, name, size: (read.append(name), tail(own, name, size))[1]
    )
    with Background() as writing:
        job.record(ensemble.RunFolder.open(tmp_path), [(0, range(64, 96))], writing)
    assert read == ["parts/members-0000000064-64.parquet"]
    there = [path.name for path in (tmp_path / "trajectories").iterdir()]
    assert there == ["members-0000000064-32.parquet"]


def test_in_an_object_store(together, small_parts):
    run = run_ensemble(CONFIG, out="memory://recorded/run", recording=RECORDING, executor="xla")
    same_trajectories(concatenated(list(ncsim.open_run(run.location).trajectories())), together)
    found = verify(run.location)
    assert found.right
    assert (found.parts, found.recorded) == (3, 5)
    assert found.lines() == ["3 parts with 150 members and 5 parts of trajectories: whole; nothing is missing or wrong"]


def test_what_is_damaged_is_named_and_recorded_again(tmp_path, small_parts):
    """Bits of every file of trajectories flipped; then all of it at once, mended by training exactly that."""
    run_ensemble(CONFIG, out=tmp_path, recording=RECORDING, executor="xla")
    before = hashes(tmp_path)
    files = [tmp_path / "recording.json", *sorted((tmp_path / "trajectories").glob("*.parquet"))]
    chance = np.random.default_rng(5)
    for path in files:
        content = path.read_bytes()
        for place in chance.integers(8 * len(content), size=10):
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << int(place % 8)
            path.write_bytes(flipped)
            assert [finding.name for finding in verify(tmp_path).findings] == [str(path.relative_to(tmp_path))]
        path.write_bytes(content)
    description = files[0].read_bytes()
    files[0].write_bytes(description[:-9])
    files[1].write_bytes(files[1].read_bytes()[:-1])
    files[3].unlink()
    (tmp_path / "trajectories" / "mine.txt").write_text("what is this")
    assert [gap.members for gap in verify(tmp_path).missing] == [range(32), range(64, 96)]
    trained, said = [], []

    class Listener:
        def start(self, members, network_steps):
            trained.append(members)

        def advance(self, members, network_steps): ...

        def close(self): ...

    mended = repair(tmp_path, lambda configs: run_ensemble(configs, tmp_path, progress=Listener()), said.append)
    assert mended.right
    assert trained == [64]
    assert files[0].read_bytes() == description
    assert "recording.json: put back from the parts of trajectories" in said
    rejected = {str(path.relative_to(tmp_path / "rejected")) for path in (tmp_path / "rejected").rglob("*.*")}
    assert rejected == {"recording.json", "trajectories/members-0000000000-32.parquet", "trajectories/mine.txt"}
    for path in (tmp_path / "rejected").rglob("*.parquet"):
        path.unlink()
    assert {name: before[name] for name in before if name != "folders"} == {
        name: value for name, value in hashes(tmp_path).items() if name != "folders"
    }


def test_a_lost_description_is_named_and_put_back(tmp_path, small_parts):
    """While parts say what it held: the folder was called whole, and a run that then lost its parts recorded no more."""
    run_ensemble(CONFIG, out=tmp_path, recording=RECORDING, executor="xla")
    before = (tmp_path / "recording.json").read_bytes()
    (tmp_path / "recording.json").unlink()
    found = verify(tmp_path)
    assert (found.findings, found.missing) == ([("recording.json", "is missing")], [])
    said, trained = [], []
    assert repair(tmp_path, trained.append, said.append).right
    assert said == ["recording.json: put back from the parts of trajectories"]
    assert (tmp_path / "recording.json").read_bytes() == before
    assert not trained


def test_what_cannot_be_read_is_not_to_be_moved_aside(tmp_path, monkeypatch):
    """Of a list of trajectories that could not be had just now the line said that `--repair` trains them again."""
    folder = RunFolder.create(tmp_path, [CONFIG])

    def names(folder):
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(folder.storage, "names", names)
    with pytest.raises(ncsim.StoreError) as failed:
        TrajectoryFolder(folder).discard([(0, range(10))])
    assert str(failed.value) == f"{tmp_path}/trajectories: cannot be read (Connection timed out)"


def test_what_no_part_describes_is_not_said_to_be_trained(tmp_path, small_parts):
    run_ensemble(CONFIG, out=tmp_path, recording=RECORDING, executor="xla")
    (tmp_path / "recording.json").write_text("torn")
    for part in (tmp_path / "trajectories").rglob("*.parquet"):
        part.unlink()
    said, trained = [], []
    assert repair(tmp_path, trained.append, said.append).right
    assert said[1:] == ["recording.json: no part says what was recorded; to record again, give the same command again"]
    assert said[0].startswith("recording.json: is torn")
    assert not trained


def test_files_of_a_version_without_checksums_are_read(tmp_path, together):
    """As an old version wrote them: no recording.json, no digest in a part, lists for columns."""
    run_ensemble(CONFIG, out=tmp_path, recording=RECORDING, executor="xla")
    (part,) = (tmp_path / "trajectories").glob("*.parquet")
    flat = pyarrow.parquet.read_table(part)
    columns = {"member": flat["member"], "step": flat["step"]}
    for name in ("counts", *OBSERVED):
        values = np.stack([flat[each].to_numpy() for each in flat.column_names if each.startswith(f"{name}_")], axis=-1)
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
    table = pyarrow.table(columns)
    stamp = json.loads(pyarrow.parquet.read_metadata(part).metadata[b"ncsim-trajectories"]) | {"format": 1}
    pyarrow.parquet.write_table(table.replace_schema_metadata({"ncsim-trajectories": json.dumps(stamp)}), part)
    (tmp_path / "recording.json").unlink()
    same_trajectories(concatenated(list(ncsim.open_run(tmp_path).trajectories())), together)
    found = verify(tmp_path)
    assert found.right
    assert found.unsealed == 1
    run_ensemble(CONFIG, out=tmp_path, recording=RECORDING, executor="xla")
    assert (tmp_path / "recording.json").exists()


# --------------------------------------------------------------------------------------------------- statistics


def test_statistics_against_a_slow_reference(together):
    """Members one by one in plain Python, given in uneven pieces."""
    pieces = [together.take(slice(0, 1)), together.take(slice(1, 90)), together.take(slice(90, None))]
    ours = trajectory_statistics(pieces, 16, windows=[(0, 60), (21, 39)])
    assert np.array_equal(ours.step, [0, 20, 40, 60])
    assert np.array_equal(ours.members, [150] * 4)
    s = np.zeros((150, 4))
    solved, right = np.zeros((150, 4, 4)), np.zeros((150, 4, 4))
    for member in range(150):
        for step in range(4):
            for context, sign in enumerate((1, 1, 1, -1)):
                wrong, bob, alice, both = (int(n) for n in together.counts[member, step, context])
                s[member, step] += sign * (wrong + both - alice - bob) / 16
                solved[member, step, context] = both == 16
                right[member, step, context] = (alice + both) / 16
    assert np.allclose(ours.s.mean, s.mean(axis=0), atol=1e-12)
    assert np.allclose(ours.s.quantiles, np.quantile(s, QUANTILES, axis=0, method="inverted_cdf"), atol=1e-12)
    assert np.allclose(ours.above_2.mean, (s > 2).mean(axis=0))
    assert np.allclose(ours.solved.mean, solved.mean(axis=0))
    assert np.allclose(ours.accuracy_alice.mean, right.mean(axis=0))
    for step in range(1, 4):
        interval = stats.t.interval(0.95, 149, s[:, step].mean(), stats.sem(s[:, step]))
        reach = np.hypot(interval[1] - s[:, step].mean(), 8 * (1 - 0.025 ** (1 / 150)))
        assert ours.s.high[step] == pytest.approx(s[:, step].mean() + reach)
        assert ours.s.low[step] == pytest.approx(s[:, step].mean() - reach)
    alice = together.value("loss_alice")
    assert np.allclose(ours.observed["loss_alice"].mean, alice.mean(axis=0), rtol=1e-6)
    median = np.quantile(alice, 0.5, axis=0, method="inverted_cdf")
    assert np.allclose(ours.observed["loss_alice"].quantiles[2], median, rtol=0.024)
    whole, inner = ours.slopes
    assert (whole.first, whole.last, inner.first, inner.last) == (0, 60, 20, 40)
    assert whole.mean == pytest.approx(1000 * np.mean(s[:, 3] - s[:, 0]) / 60)
    # The mean of the slopes between equally spaced steps.
    assert whole.mean == pytest.approx(1000 * np.mean(np.diff(s, axis=1) / 20))
    assert inner.low < 1000 * np.mean(s[:, 2] - s[:, 1]) / 20 < inner.high


@pytest.mark.slow
def test_gradients_of_the_start_are_those_of_the_diagnostics(together):
    """At step 0, from the initial parameters; and what follows from the recorded numbers."""
    key = jax.random.key(CONFIG.root_seed)
    targets = context_targets(CONFIG.tasks).astype(np.float32)
    for member, context in [(0, 0), (7, 3), (149, 2)]:
        vector = initial_vector(member_key(key, member, context, False), CONFIG)
        there = diagnostics(CONFIG, vector, jnp.asarray(targets[context]))
        for name in ("alice_norm", "bob_norm", "cosine", "magnitude_similarity", "conflict", "neurons_in_conflict"):
            assert together.value(name)[member, 0, context] == pytest.approx(float(getattr(there, name)), abs=1e-5)


def test_contextuality_along_training_is_never_above_0(together):
    """No table of these networks is contextual at any step; the fraction's interval says how sure that is."""
    ours = trajectory_statistics([together], 16)
    assert np.all(ours.contextual.mean == 0)
    assert np.all(ours.contextual.high > 0)
    assert np.all(ours.contextuality.quantiles <= 0)


def test_statistics_want_trajectories(together):
    with pytest.raises(ValueError, match=r"^no trajectories"):
        trajectory_statistics([], 16)
    with pytest.raises(ValueError, match=r"^windows: \(21, 22\); allowed: from one recorded step to a later one$"):
        trajectory_statistics([together], 16, windows=[(21, 22)])
    with pytest.raises(KeyError, match=r"nothing: not recorded; there are loss_alice, loss_bob, margin.*"):
        together.value("nothing")
