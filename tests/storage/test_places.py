"""Folders that are moved, that lie on several file systems, or that fail for a moment."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import math
import os
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ncsim.errors import StoreError
from ncsim.storage import attempts, lock
from ncsim.storage import files as storage
from ncsim.storage.config_change import describing
from ncsim.storage.files import LocalStorage, open_storage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import repair, verify
from tests.storage.test_run_folder import CONFIG, some_records, stored


@pytest.mark.parametrize("opened", [False, True])
def test_a_folder_that_is_moved_while_it_trains_is_not_made_anew(tmp_path, opened):
    """Else each place had a part of the run, and nothing was said."""
    folder = RunFolder.create(tmp_path / "run", [CONFIG])
    folder.write_part(CONFIG, some_records(0, 8))
    if opened:  # as a worker does
        folder = RunFolder.open(tmp_path / "run")
    os.rename(tmp_path / "run", tmp_path / "moved")
    with pytest.raises(StoreError, match=r"cannot be written \(its run folder is not there any more: was it moved\?\)"):
        folder.write_part(CONFIG, some_records(8, 12))
    with pytest.raises(FileNotFoundError, match="not there any more"):
        folder.storage.create("recording.json", b"{}")
    assert os.listdir(tmp_path) == ["moved"]
    moved = RunFolder.create(tmp_path / "moved", [CONFIG])
    moved.write_part(CONFIG, some_records(8, 12))
    assert verify(tmp_path / "moved").right


@pytest.mark.parametrize("call", ["write", "create", "move"])
@pytest.mark.parametrize("when", ["mkdir", "open"])
def test_a_folder_that_is_moved_between_the_look_and_the_write_is_not_made_anew(tmp_path, monkeypatch, call, when):
    """The look came first, and then the folder was made for the file that was to be written."""
    folder = RunFolder.create(tmp_path / "run", [CONFIG])
    name = "parts/new/file" if when == "mkdir" else "file"
    real = getattr(os, when)

    def moved(*arguments, **options):
        if (tmp_path / "run").is_dir():
            os.rename(tmp_path / "run", tmp_path / "moved")
        return real(*arguments, **options)

    monkeypatch.setattr(os, when, moved)
    if call == "move" and when == "open":
        os.rename(tmp_path / "run", tmp_path / "moved")
    calls = {
        "write": lambda: folder.storage.write(name, b"1"),
        "create": lambda: folder.storage.create(name, b"1"),
        "move": lambda: folder.storage.move("config.json", f"rejected/{name}"),
    }
    with pytest.raises(FileNotFoundError, match=r"its run folder is not there any more: was it moved\?"):
        calls[call]()
    assert os.listdir(tmp_path) == ["moved"]


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """A run folder whose parts are mounted from elsewhere on the same disk: nothing is renamed or linked into it or out of it, and
    it has the number of the file system around it."""
    calls = []

    def refused(real):
        def call(source, target):
            inside = [str(each).startswith(str(tmp_path / "run" / "parts")) for each in (source, target)]
            calls.append(inside)
            if inside[0] != inside[1]:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
            return real(source, target)

        return call

    monkeypatch.setattr(os, "replace", refused(os.replace))
    monkeypatch.setattr(os, "link", refused(os.link))
    yield tmp_path / "run"
    assert [False, True] in calls


def test_parts_are_written_where_nothing_can_be_renamed_to(apart):
    folder = stored(apart)
    assert folder.storage.create("parts/once", b"1")
    assert not folder.storage.create("parts/once", b"2")
    assert folder.storage.read("parts/once") == b"1"
    folder.storage.remove("parts/once")
    assert verify(apart).right
    assert verify(apart).leftovers == 0


@pytest.mark.parametrize("inside", [None, (), ("x", "sub/y")])
def test_what_is_wrong_is_moved_to_another_file_system(apart, inside):
    folder = stored(apart)
    victim = folder.parts(CONFIG)[1].name
    before = folder.storage.read(victim)
    wrong = [f"rejected/{victim}"]
    if inside is None:
        folder.storage.write(victim, before[:-1])
    else:
        folder.storage.remove(victim)
        (apart / victim / "empty").mkdir(parents=True)
        for name in inside:
            folder.storage.write(f"{victim}/{name}", name.encode())
        wrong = [f"rejected/{victim}/{name}" for name in sorted(inside)]

    def train(configs):
        RunFolder.create(apart, configs).write_part(CONFIG, some_records(8, 12, seed=8))

    assert repair(apart, train, [].append).right
    assert folder.storage.read(victim) == before
    assert folder.storage.names("rejected") == wrong
    kept = [folder.storage.read(name) for name in wrong]
    assert kept == ([before[:-1]] if inside is None else [name.encode() for name in sorted(inside)])


@pytest.mark.parametrize("address", ["run", "memory://empty-object/run"])
def test_an_empty_file_in_the_place_of_a_part_is_torn(address, tmp_path):
    """As a copy that was broken off leaves it."""
    place = address if "://" in address else str(tmp_path / address)
    folder = stored(place)
    name = folder.parts(CONFIG)[1].name
    folder.storage.write(name, b"")
    try:
        assert open_storage(place).read_tail(name, 8) == b""
        with pytest.raises(StoreError, match=r"is torn \(.*--repair"):
            RunFolder.open(place).parts(CONFIG)
        assert [finding.name for finding in verify(place).findings] == [name]
    finally:
        storage.memory_store.cache_clear()


def test_what_cannot_be_looked_at_for_a_moment_is_not_gone(tmp_path, monkeypatch):
    """Python 3.14 takes it so: a run ended with "was it moved?", or had no config.json."""
    monkeypatch.setattr(attempts, "SECONDS_BETWEEN_ATTEMPTS", 0)
    monkeypatch.setattr(Path, "is_file", lambda self: os.path.isfile(self))
    monkeypatch.setattr(Path, "is_dir", lambda self: os.path.isdir(self))
    files, stat, fail = stored(tmp_path / "run").storage, os.stat, []

    def once(*arguments, **options):
        if fail:
            raise OSError(fail.pop(), "failed")
        return stat(*arguments, **options)

    monkeypatch.setattr(os, "stat", once)
    for look in (
        lambda: files.exists("config.json"),
        lambda: files.write("new", b"1") is None,
        lambda: not files.create("new", b"2"),
    ):
        fail[:] = [errno.ESTALE, errno.EIO]
        assert look()
        assert fail == []
    (tmp_path / "run" / "loop").symlink_to("loop")
    assert [files.exists(name) for name in ("loop", "none", "new/none", "parts", "new")] == [False] * 4 + [True]


@pytest.mark.parametrize("name", ["stat", "open", "unlink", "flock", "close"])
def test_what_fails_for_a_moment_ends_no_run(tmp_path, monkeypatch, name):
    monkeypatch.setattr(attempts, "SECONDS_BETWEEN_ATTEMPTS", 0)
    module = fcntl if name == "flock" else os
    real, fail = getattr(module, name), []

    def once(*arguments, **options):
        if fail:
            raise OSError(fail.pop(), "failed")
        return real(*arguments, **options)

    folder = stored(tmp_path / "run")
    files = LocalStorage(tmp_path / "run")
    files.write("old", b"1")
    monkeypatch.setattr(module, name, once)
    actions = {
        "stat": lambda: files.exists("config.json"),
        "open": files.prepare,
        "unlink": lambda: files.remove("old"),
    }
    fail[:] = [errno.EIO]
    if name in actions:
        assert actions[name]() in (None, True)
        assert files.exists("old") == (name != "unlink")
    else:
        with folder.exclusive():
            if name == "close":
                fail[:] = [errno.EIO]
            else:
                with (
                    pytest.raises(StoreError, match="another process is writing"),
                    RunFolder.open(tmp_path / "run").shared(),
                ):
                    pass
    assert fail == []
    fail[:] = [errno.EACCES]
    if name != "close":
        with pytest.raises((OSError, StoreError), match="failed"):
            (actions[name]() if name in actions else folder.exclusive().__enter__())


def test_who_waits_for_minutes_is_told_which_process_it_is(tmp_path, monkeypatch):
    """It went on waiting, and the line did not say for whom."""
    folder = stored(tmp_path / "run")
    monkeypatch.setattr(lock, "MOST_SECONDS", 0.1)
    here = f"process {os.getpid()} of {platform.node()}"
    words = (
        rf"{re.escape(str(folder.path))}: {re.escape(here)} has held .config.lock for 0.1 s; let it go on, or end it"
    )
    with describing(folder.storage), pytest.raises(StoreError, match=f"^{words}$"), describing(folder.storage):
        pass
    with describing(folder.storage):
        pass  # it is let go of
    for content in (b"\xff\n", b"process \x1b[2J of here", b"of this run", b""):  # of no process of ours
        (folder.path / ".config.lock").write_bytes(content)
        with (
            lock.hold(folder.path, name=".config.lock"),
            pytest.raises(StoreError, match=": another process has held"),
            describing(folder.storage),
        ):
            pass


def test_who_waits_for_a_description_that_another_holds_says_so(tmp_path, monkeypatch):
    """It waited for ever without a word where a process was stopped in the middle."""
    folder, said = stored(tmp_path / "run"), []
    monkeypatch.setattr(lock, "MOMENT_SECONDS", 0.0)
    record = json.loads(folder.storage.read("config.json"))["environment"] | {"platform": "Plan9 mips"}
    bigger = RunFolder.open(folder.path)
    bigger.configs = (dataclasses.replace(CONFIG, members=CONFIG.members + 1),)  # one is missing
    with contextlib.ExitStack() as held:
        held.enter_context(describing(folder.storage))

        def told(line):
            said.append(line)
            held.close()

        monkeypatch.setattr(lock, "say", told)
        bigger.note_environment(record)
    assert said == [f"{folder.path}: waiting for another process, which holds .config.lock; was it stopped?"]
    assert json.loads(folder.storage.read("config.json"))["later"][0]["environment"] == record


def test_who_holds_a_folder_for_a_moment_is_waited_for_said_once_and_named(tmp_path, monkeypatch, capsys):
    """Ten seconds without a word, then one; after five minutes an error that says who. Waiting ends with the holder."""
    now, until = [0.0], [math.inf]
    held = contextlib.ExitStack()

    def sleep(seconds):
        now[0] += seconds
        if now[0] >= until[0]:
            held.close()

    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    said = f"ncsim: {tmp_path}: waiting for another process, which holds .lock; was it stopped?\n"
    for seconds, words in ((9.9, ""), (10.1, said), (299.9, said)):
        until[0] = now[0] + seconds
        held.enter_context(lock.hold(tmp_path, waiting=True))
        with lock.hold(tmp_path, waiting=True):
            assert now[0] == pytest.approx(until[0], abs=0.03)
        assert capsys.readouterr().err == words
    until[0] = math.inf
    (tmp_path / ".lock").write_text("process 4194304 of a machine with a long name, which held it before")
    held.enter_context(lock.hold(tmp_path, waiting=True))
    begun = now[0]
    with held, pytest.raises(StoreError) as caught, lock.hold(tmp_path, waiting=True):
        pass
    assert now[0] - begun == pytest.approx(300, abs=0.03)
    who = f"process {os.getpid()} of {platform.node()}"
    assert str(caught.value) == f"{tmp_path}: {who} has held .lock for 5:00 min; let it go on, or end it"
    assert capsys.readouterr().err == said
