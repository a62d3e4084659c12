"""Workers without a coordinator: what they claim, when a claim is over, and that overlapping changes nothing."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import ncsim
from ncsim.cluster import claims, workers
from ncsim.cluster.claims import Claims
from ncsim.cluster.workers import Shard, in_order, refuse_beside_workers
from ncsim.ensemble import work
from ncsim.errors import StoreError
from ncsim.storage import parts
from ncsim.storage.files import LocalStorage, is_temporary, open_storage
from ncsim.storage.run_folder import RunFolder
from tests.storage.test_run_folder import CONFIG, some_records

PART = "parts/hidden=3/members-0000000000-512.parquet"


class Clock:
    """A clock that goes when it is told."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["local", "memory"])
def files(request, tmp_path):
    if request.param == "local":
        yield LocalStorage(tmp_path)
        return
    import fsspec

    yield open_storage(f"memory://{tmp_path.name}/run")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def elsewhere(monkeypatch):
    """Claims that are made from now on are of another machine, as far as claims say."""
    monkeypatch.setattr(claims, "_machine", lambda: "another machine")
    yield
    monkeypatch.undo()


def test_one_worker_has_a_part_until_it_gives_it_up(files):
    one, other = Claims(files), Claims(files)
    assert one.take(PART)
    assert not other.take(PART)
    assert other.of_others() == [PART]
    assert one.of_others() == []
    one.release(PART)
    assert other.take(PART)
    one.release(PART)  # it is not ours any more
    assert one.of_others() == [PART]


def test_a_claim_expires_by_not_changing_on_the_observers_own_clock(files, monkeypatch):
    """Whatever wall clocks say, and whatever another's clock shows."""
    monkeypatch.setattr(time, "time", lambda: pytest.fail("a wall clock was looked at"))
    clock = Clock()
    gone, observer = Claims(files, clock=lambda: 1e12), Claims(files, clock=clock)
    assert gone.take(PART)
    assert not observer.take(PART)
    clock.now = claims.EXPIRY_SECONDS - 1
    assert not observer.take(PART)
    clock.now = claims.EXPIRY_SECONDS
    assert observer.take(PART)
    gone.release(PART)  # not its own any more
    assert gone.of_others() == [PART]


def test_a_claim_that_is_counted_up_does_not_expire(files, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    clock = Clock()
    observer = Claims(files, clock=clock)
    with Claims(files) as alive:
        assert alive.take(PART)
        for _ in range(3):
            before = files.read(f"claims/hidden=3/{PART.rpartition('/')[2]}.json")
            assert not observer.take(PART)
            deadline = time.monotonic() + 10
            while files.read(f"claims/hidden=3/{PART.rpartition('/')[2]}.json") == before:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            clock.now += 10 * claims.EXPIRY_SECONDS
        assert not observer.take(PART)
        assert observer.has_changed
    assert files.names("claims") == []  # given up at the end
    assert observer.take(PART)


def test_a_worker_that_was_taken_for_gone_does_not_take_its_claim_back(files, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    clock = Clock()
    observer = Claims(files, clock=clock)
    stopped = Claims(files)
    assert stopped.take(PART)
    assert not observer.take(PART)
    clock.now = claims.EXPIRY_SECONDS
    assert observer.take(PART)
    with stopped:  # it goes on, and its heart beats
        time.sleep(0.1)
    assert not Claims(files).take(PART)
    assert observer.of_others() == []


def test_a_process_of_this_machine_that_has_ended_is_gone_at_once(files):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    worker = Claims(files)
    assert worker.take(PART)
    name = files.names("claims")[0]
    claim = json.loads(files.read(name))
    files.write(name, json.dumps(claim | {"owner": "x", "process": ended.pid}).encode())
    assert Claims(files).take(PART)
    # Its number may be another's by now, or its parent not have asked yet how it ended.
    files.write(name, json.dumps(claim | {"owner": "x", "began": "12"}).encode())
    assert Claims(files).take(PART) == (sys.platform == "linux")
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as unasked:
        unasked.stdout.read()
        time.sleep(0.5)
        files.write(name, json.dumps(claim | {"owner": "x", "process": unasked.pid, "began": "12"}).encode())
        assert Claims(files).take(PART) == (sys.platform == "linux")
    files.write(name, json.dumps(claim | {"owner": "x", "process": ended.pid, "machine": "other"}).encode())
    assert not Claims(files).take(PART)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": "x"}', b"\xff\xfe", b'{"process": -1}'])
def test_a_claim_that_is_torn_expires(files, content):
    clock = Clock()
    observer = Claims(files, clock=clock)
    files.write(f"claims/{PART.removeprefix('parts/')}.json", content)
    assert not observer.take(PART)
    clock.now = claims.EXPIRY_SECONDS
    assert observer.take(PART)


def test_every_worker_has_its_share_first_and_everything_in_the_end():
    work = [(0, range(n, n + 1)) for n in range(11)]
    orders = [in_order(work, Shard(number, 3)) for number in (1, 2, 3)]
    assert [[ids.start for _, ids in order] for order in orders] == [
        [0, 1, 2, 6, 5, 4, 3, 10, 9, 8, 7],
        [3, 4, 5, 6, 10, 9, 8, 7, 2, 1, 0],
        [7, 8, 9, 10, 2, 1, 0, 6, 5, 4, 3],
    ]
    assert in_order(work[:1], Shard(2, 16)) == work[:1]


@pytest.mark.parametrize(
    "word", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2", "1/9999999", "²/3", " 1/2"]
)
def test_shards_that_are_none(word):
    with pytest.raises(ncsim.ConfigError, match=r"--shard: .*; allowed: I/N with I from 1 to N, as 3/16"):
        Shard.parse(word)


SMALL = ncsim.EnsembleConfig(hidden=2, members=64 * 6, steps=40)


def test_two_workers_that_overlap_on_purpose_change_nothing(tmp_path, monkeypatch):
    """No claim holds: both train every part that is not there yet, at the same time."""
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    whole = ncsim.run_ensemble(SMALL, out=tmp_path / "alone", executor="xla")
    written = []
    real = RunFolder.write_part

    def write_part(folder, config, records):
        written.append(int(records.member[0]))
        return real(folder, config, records)

    monkeypatch.setattr(RunFolder, "write_part", write_part)
    monkeypatch.setattr(Claims, "take", lambda self, part: True)
    both = threading.Barrier(2)
    listings = []
    missing = work.missing_parts

    def missing_parts(*asked):
        found = missing(*asked)
        if len(listings) < 4:  # both have looked before either writes
            listings.append(found)
            both.wait(timeout=60)
        return found

    monkeypatch.setattr(work, "missing_parts", missing_parts)
    threads = [
        threading.Thread(
            target=ncsim.run_ensemble, args=(SMALL, tmp_path / "run"), kwargs={"executor": "xla", "shard": (n, 2)}
        )
        for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(written) == {64 * n for n in range(6)}
    names = [path.relative_to(tmp_path / "run") for path in sorted((tmp_path / "run" / "parts").rglob("*.parquet"))]
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert np.array_equal(ncsim.open_run(tmp_path / "run").counts, whole.counts)


def test_a_worker_helps_one_that_is_gone(tmp_path, monkeypatch, elsewhere, capsys):
    """Claims of a worker elsewhere that never comes back: waited for, then trained."""
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.2)
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.02)
    folder = RunFolder.create(tmp_path, [SMALL], training=lambda: {"executor": {}})
    gone = Claims(folder.storage)
    for first in range(0, 384, 64):
        assert gone.take(folder.part(SMALL, first, 64))
    run = ncsim.run_ensemble(SMALL, out=tmp_path, shard=(1, 2))
    assert run.missing() == 0
    assert "waiting for 6 parts that other workers are training" in capsys.readouterr().err
    assert folder.storage.names("claims") == []


def test_a_run_of_ones_own_beside_workers_says_so(tmp_path, monkeypatch, elsewhere, capsys):
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.2)
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.02)
    folder = RunFolder.create(tmp_path, [SMALL])
    with Claims(folder.storage) as worker:
        assert worker.take(folder.part(SMALL, 0, 64))
        with pytest.raises(StoreError, match="other workers are writing to it; --shard I/N lets this one help"):
            refuse_beside_workers(folder)
    gone = Claims(folder.storage)
    assert gone.take(folder.part(SMALL, 0, 64))
    refuse_beside_workers(folder)
    assert folder.storage.names("claims") == []
    with (
        folder.shared(),
        folder.shared(),
        pytest.raises(StoreError, match="another process is writing"),
        folder.exclusive(),
    ):
        pass
    with folder.exclusive(), pytest.raises(StoreError, match="another process is writing"), folder.shared():
        pass


def test_workers_of_other_members_wait_for_each_other(tmp_path):
    folder = RunFolder.create(tmp_path, [CONFIG])
    Claims(folder.storage).take(folder.part(CONFIG, 0, 20))
    more = ncsim.EnsembleConfig(members=30, steps=5)
    with pytest.raises(StoreError, match="workers are, or were, training members 0 to 19 of it"):
        RunFolder.create(tmp_path, [more])
    folder.write_part(CONFIG, some_records(0, 20))
    folder.storage.remove(folder.storage.names("claims")[0])
    RunFolder.create(tmp_path, [more])


def test_a_worker_of_another_kind_is_said(tmp_path, capsys):
    folder = RunFolder.create(tmp_path, [SMALL], training=lambda: {"device": "8 x tpu (TPU v5e)", "executor": {}})
    workers.say_differences(folder, "2 x cpu (cpu)")
    assert "(cpu (cpu) here, tpu (TPU v5e) there): single members may differ" in capsys.readouterr().err
    workers.say_differences(folder, "4 x tpu (TPU v5e)")
    assert capsys.readouterr().err == ""


WORKER = textwrap.dedent(
    """
    import sys
    import ncsim.storage.parts as stored_parts
    stored_parts.PART_MEMBERS = (512, 512)
    from ncsim.cli import main
    main(["ensemble", "--members", "10000", "--steps", "300", "--executor", "xla", "--quiet", *sys.argv[1:]])
    """
)


@pytest.mark.slow
def test_three_processes_one_of_them_killed(tmp_path):
    """Shards 1 and 3 of 3 work, 2 is killed; what it had claimed is trained by the others at once, as it was of this machine."""
    command = [sys.executable, "-c", WORKER, "--out", str(tmp_path / "run"), "--shard"]
    processes = [subprocess.Popen([*command, f"{n}/3"], stderr=subprocess.PIPE, text=True) for n in (1, 2, 3)]
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "run" / "parts").glob("members-*.parquet"))) < 3:
        assert time.monotonic() < deadline
        assert all(process.poll() in (None, 0) for process in processes), [
            p.stderr.read() for p in processes if p.poll()
        ]
        time.sleep(0.01)
    processes[1].kill()
    for n, process in enumerate(processes):
        _, errors = process.communicate(timeout=200)
        assert process.returncode in ((-9, 0) if n == 1 else (0,)), errors
    subprocess.run([sys.executable, "-c", WORKER, "--out", str(tmp_path / "alone")], check=True, timeout=200)
    names = sorted(path.name for path in (tmp_path / "alone" / "parts").iterdir())
    assert len(names) == 20
    for name in names:
        assert (tmp_path / "run" / "parts" / name).read_bytes() == (tmp_path / "alone" / "parts" / name).read_bytes()
    kept = {path.name for path in (tmp_path / "run" / "parts").iterdir() if not path.name.startswith(".")}
    assert kept == set(names)
    # But for what the killed one may have begun to write: the others cannot know whose it is.
    left = [path.name for path in (tmp_path / "run" / "claims").rglob("*") if path.is_file()]
    assert len(left) <= 1
    assert all(is_temporary(name) for name in left), left
    subprocess.run([sys.executable, "-c", WORKER, "--out", str(tmp_path / "run")], check=True, timeout=200)
    assert not any(path.is_file() for path in (tmp_path / "run" / "claims").rglob("*"))


def test_workers_that_begin_a_run_at_the_same_moment(tmp_path, monkeypatch):
    """Sixteen of them, with one process number, as first processes of containers have."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    for turn in range(10):
        at_once, failed = threading.Barrier(16), []

        def begin(place=tmp_path / f"run{turn}", at_once=at_once, failed=failed):
            at_once.wait(timeout=60)
            try:
                RunFolder.create(place, [SMALL])
            except StoreError as error:
                failed.append(error)

        threads = [threading.Thread(target=begin) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        left = sorted(path.name for path in (tmp_path / f"run{turn}").iterdir())
        assert left == ["config-copy.json", "config.json"]
