"""A member's result depends on its config, the root seed and its id alone, bit for bit."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, LAYERWISE_OPTIMIZERS, EnsembleConfig
from ncsim.ensemble.circuits import run_circuits
from ncsim.ensemble.run import run_ensemble
from ncsim.statistics.protocols import Outcomes
from ncsim.storage import parts as stored_parts
from ncsim.storage.parts import cut, part_size
from tests.support.tasks import FOUR_ROWS

CONFIG = ncsim.EnsembleConfig(hidden=2, members=700, steps=120)


@pytest.fixture(scope="module")
def whole():
    """The 700 members in one go on four devices, in memory."""
    return run_ensemble(CONFIG)


def alike(a, b):
    for ours, theirs in zip(a, b, strict=True):
        if ours is None or theirs is None:  # what a run does not record
            assert ours is theirs
            continue
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


def test_members_differ_and_have_all_rows(whole):
    counts = whole.counts
    assert counts.shape == (700, 2, 2, 2, 2)
    assert np.all(counts.sum(axis=(-2, -1)) == 16)
    assert len(np.unique(counts.reshape(700, -1), axis=0)) > 300


@pytest.mark.parametrize(("first", "members"), [(0, 1), (13, 100), (699, 1), (300, 257)])
def test_alone_and_among_others(whole, first, members):
    part = run_ensemble(dataclasses.replace(CONFIG, first_member=first, members=members))
    alike(part.records(), whole.records().take(slice(first, first + members)))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_on_other_numbers_of_devices(whole, devices):
    part = run_ensemble(dataclasses.replace(CONFIG, first_member=37, members=200), devices=devices)
    alike(part.records(), whole.records().take(slice(37, 237)))


EVERY = [*ELEMENTWISE_OPTIMIZERS, *LAYERWISE_OPTIMIZERS]
#: XLA had rounded it otherwise in a program for one device than in one for several, and radam.
APART = "lamb"
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in EVERY if name != APART]


@pytest.mark.usefixtures("as_by_users")
@pytest.mark.parametrize("optimizer", [APART, *OTHERS])
def test_devices_change_no_bit_whatever_the_optimizer(optimizer):
    config = EnsembleConfig(tasks=FOUR_ROWS, hidden=2, members=300, steps=300, learning_rate=0.05, optimizer=optimizer)
    one, two = (run_ensemble(config, devices=devices, executor="xla").records() for devices in (1, 2))
    alike(one, two)
    assert one.loss.tobytes() == two.loss.tobytes()
    assert one.margin.tobytes() == two.margin.tobytes()


def test_stored_in_parts_and_resumed(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_parts, "PART_MEMBERS", (64, 128))
    run = run_ensemble(CONFIG, out=tmp_path / "run")
    alike(run.records(), whole.records())
    parts = sorted((tmp_path / "run" / "parts").rglob("*.parquet"))
    assert len(parts) == 6
    before = {path: path.read_bytes() for path in parts}
    parts[0].unlink()
    parts[3].unlink()
    trained = []

    class Listener:
        def start(self, members, network_steps):
            trained.append((members, network_steps))

        def advance(self, members, network_steps):
            trained.append(members)

        def close(self):
            trained.append("closed")

    again = run_ensemble(CONFIG, out=tmp_path / "run", progress=Listener())
    assert trained[0] == (256, 256 * 4 * 120)
    assert sum(trained[1:-1]) == 256
    assert trained[-1] == "closed"
    alike(again.records(), whole.records())
    assert before == {path: path.read_bytes() for path in parts}  # the same bytes, not only the same counts
    trained.clear()
    run_ensemble(CONFIG, out=tmp_path / "run", progress=Listener())
    assert trained == []


def test_grid_is_its_cells(whole, tmp_path):
    grid = ncsim.config_grid(hidden=2, members=90, steps=120, learning_rate=[0.01, 0.03])
    run = run_ensemble(grid, out=tmp_path / "grid")
    assert run.counts.shape == (2, 90, 2, 2, 2, 2)
    assert np.array_equal(run.counts[0], whole.counts[:90])
    assert not np.array_equal(run.counts[1], whole.counts[:90])


@pytest.mark.slow
def test_a_member_does_not_depend_on_the_grid_that_it_stands_in(whole, tmp_path):
    """Nine units are more than one of the executors takes: the cell beside it keeps its own."""
    run = run_ensemble(ncsim.config_grid(hidden=[9, 2], members=70, steps=120), out=tmp_path / "grid")
    nine, two = run.counts  # read now: the folder is about to hold more members
    assert np.array_equal(two, whole.counts[:70])
    again = run_ensemble(ncsim.config_grid(hidden=[2, 9], members=80, steps=120), out=tmp_path / "grid")
    assert np.array_equal(again.counts[0], whole.counts[:80])
    assert np.array_equal(again.counts[1][:70], nine)


def test_common_initialization_shares_the_start():
    """With no training to speak of, a member's contexts answer alike where the start is common."""
    config = ncsim.EnsembleConfig(hidden=2, members=64, steps=1, learning_rate=1e-9, tasks=FOUR_ROWS)
    common = run_ensemble(dataclasses.replace(config, common_initialization=True), executor="xla").records()
    apart = run_ensemble(config, executor="xla").records()
    # Bob's task is the same in contexts 11 and 21, so his accuracy is that of the same network.
    bob = common.counts[:, :, 1] + common.counts[:, :, 3]
    assert np.array_equal(bob[:, 0], bob[:, 2])
    bob = apart.counts[:, :, 1] + apart.counts[:, :, 3]
    assert not np.array_equal(bob[:, 0], bob[:, 2])


def test_networks_that_diverge_are_counted_apart():
    config = ncsim.EnsembleConfig(members=64, optimizer="sgd", learning_rate=1e30, tasks=FOUR_ROWS)
    records = run_ensemble(config, executor="xla").records()  # the program that test_native compares with
    assert records.diverged.any()
    assert not records.counts[records.diverged].any()
    assert np.all(records.counts[~records.diverged].sum(axis=-1) == 4)
    assert Outcomes([records], config).networks == int((~records.diverged).sum(axis=0).min())


@pytest.mark.slow
def test_other_truth_tables():
    """Tasks that are linearly separable: two hidden units solve nearly all of them."""
    tasks = ncsim.truth_tables(
        [lambda x, y: x, lambda x, y: x | y], [lambda x, y: y, lambda x, y: x & y], features=2, name="separable"
    )
    config = ncsim.EnsembleConfig(hidden=4, members=64, steps=600, learning_rate=0.03, tasks=tasks)
    run = run_ensemble(config)
    assert np.all(run.counts.sum(axis=(-2, -1)) == 4)
    assert np.mean(run.counts[..., 1, 1] == 4) > 0.8


def test_parts_are_cut_by_the_config_alone():
    assert part_size(ncsim.EnsembleConfig()) == 16_384
    assert part_size(ncsim.EnsembleConfig(steps=10**9)) == 512
    assert part_size(ncsim.EnsembleConfig(steps=1)) == 262_144
    assert list(cut(range(10_000, 40_000), part_size(ncsim.EnsembleConfig()))) == [
        range(10_000, 16_384),
        range(16_384, 32_768),
        range(32_768, 40_000),
    ]


def test_more_devices_than_there_are():
    with pytest.raises(ncsim.ConfigError, match="--devices: 5; allowed: 1 to 4"):
        run_ensemble(CONFIG, devices=5)
    with pytest.raises(ncsim.ConfigError, match="--devices: 0; allowed"):
        run_ensemble(CONFIG, devices=0)
    with pytest.raises(ncsim.ConfigError, match=r"^--devices: array\(\[\[.*; allowed: a whole number from 1 to 4096$"):
        run_ensemble(CONFIG, devices=np.ones((2, 2)))
    with pytest.raises(ncsim.ConfigError, match="no config"):
        run_ensemble([])
    with pytest.raises(ncsim.ConfigError, match="adam has no 'momentum'"):
        run_ensemble(dataclasses.replace(CONFIG, optimizer_options="momentum=0.9"))


KILLED = textwrap.dedent(
    """
    import sys
    import ncsim.storage.parts as stored_parts
    import ncsim.ensemble.trainer as trainer
    stored_parts.PART_MEMBERS = (64, 64)
    trainer.CALL_SECONDS = 0.02
    from ncsim.cli import main
    main(["ensemble", "--hidden", "2", "--members", "700", "--steps", "120", "--out", sys.argv[1], "--quiet"])
    """
)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(whole, tmp_path):
    """SIGKILL at random moments after the first part of each attempt, while any is missing; then left to finish."""
    out = tmp_path / "run"
    moment = random.Random(5)
    killed_half_way = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for attempt in range(3):
            there = len(list((out / "parts").rglob("members-*.parquet")))
            if there == 11:
                break
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stderr=subprocess.PIPE)
            deadline = time.monotonic() + 60
            while len(list((out / "parts").rglob("members-*.parquet"))) <= there and time.monotonic() < deadline:
                if process.poll() is not None:
                    break
                time.sleep(0.002)
            time.sleep(moment.random() * 0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            now = len(list((out / "parts").rglob("members-*.parquet")))
            assert there < now, f"attempt {attempt} stored nothing"
            killed_half_way += now < 11
        finished = subprocess.run([sys.executable, "-c", KILLED, str(out)], capture_output=True, text=True, timeout=120)
    assert killed_half_way >= 1
    assert finished.returncode == 0, finished.stderr
    alike(ncsim.open_run(out).records(), whole.records())
    assert not list(out.rglob("*.tmp"))


@pytest.mark.thorough
def test_killed_twenty_times_and_on_other_devices(tmp_path):
    """The command line at its own sizes, killed at twenty random moments, resumed on 1 and 2 devices in turn. Each fourth kill comes
    as the process starts, the others once it has stored one, two or three parts more: by a clock alone a fast machine has finished."""
    config = ncsim.EnsembleConfig(hidden=3, members=80_000, steps=400)
    out = tmp_path / "run"
    moment = random.Random(1)
    command = [sys.executable, "-m", "ncsim.cli", "ensemble", "--members", "80000", "--steps", "400", "--out", str(out)]
    script = "import ncsim.storage.parts as e; e.PART_MEMBERS = (512, 512); from ncsim.cli import main; import sys; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, *command[3:], "--quiet"]

    def stored():
        return len(list((out / "parts").rglob("members-*.parquet")))

    for attempt in range(20):
        wanted = stored() + attempt % 4
        process = subprocess.Popen([*command, "--devices", str(1 + attempt % 2)], stderr=subprocess.DEVNULL)
        while stored() < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moment.random() * (0.2 if attempt % 4 else 3.0))
        assert process.poll() is None, f"attempt {attempt} ended before it was killed"
        process.kill()
        process.wait()
    assert 15 <= stored() < 157
    subprocess.run(command, check=True, timeout=300)
    assert stored() == 157
    alike(ncsim.open_run(out).records(), run_ensemble(config).records())


@pytest.mark.slow
def test_a_hundred_thousand_members_stream_in_bounded_memory(tmp_path):
    """`ncsim ensemble --hidden 2 3 4 --members 100000`, report included: under 1.5 GB at its peak, whatever the steps."""
    command = [
        "ensemble",
        "--hidden",
        "2",
        "3",
        "4",
        "--members",
        "100000",
        "--steps",
        "60",
        "--out",
        str(tmp_path / "run"),
    ]
    script = (
        "import sys; from ncsim.cli import main; from ncsim.planning.memory import peak_memory; main(sys.argv[1:]);"
        "print('PEAK', peak_memory())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=900, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split("PEAK")[1]) / 1024**3
    print(f"peak {peak:.2f} GiB")
    assert peak < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("devices", [np.int64(2), np.uint8(2), np.array(2)], ids=repr)
def test_devices_may_be_counted_by_numpy(devices):
    """JAX's settings take Python's numbers alone, and an array is no key: each call was a traceback."""
    small = dataclasses.replace(CONFIG, members=8, steps=2)
    expected = run_ensemble(small, devices=2).counts
    run = run_ensemble(small, devices=devices)
    np.testing.assert_array_equal(run.counts, expected)
    assert ncsim.outcomes(run, [3], devices=devices).outcomes.shape[0] == 1


@pytest.mark.parametrize("given", [3, None, "hidden", np.array(3), [ncsim.EnsembleConfig(), 3], []], ids=str)
def test_what_is_no_config_is_one_line(given):
    """Of all that trains or draws; some had ended in a traceback, and no circuit at all was a run."""
    for trains in (ncsim.run_ensemble, ncsim.run_scenario, run_circuits):
        with pytest.raises(
            ncsim.ConfigError, match=r"^config: .*; allowed: (an ncsim.EnsembleConfig, or several|one or more)$"
        ):
            trains(given)
    for draws in (ncsim.random_solutions, ncsim.foreign_share, lambda config: ncsim.reservoir(config=config)):
        if given is not None:
            with pytest.raises(ncsim.ConfigError, match=r"^config: .*; allowed: an ncsim.EnsembleConfig$"):
                draws(given)


def test_circuits_of_a_grid_differ():
    config = ncsim.EnsembleConfig(hidden=1, members=2, steps=1)
    with pytest.raises(ncsim.ConfigError, match="two cells of the grid are the same config"):
        run_circuits([config, config])
    with pytest.raises(ncsim.ConfigError, match="--members: differs between the cells"):
        run_circuits([config, dataclasses.replace(config, members=3)])
