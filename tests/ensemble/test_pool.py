"""Parts trained by tasks of an executor: the same bytes, whatever is lost; one line for what fails for good."""

import dataclasses
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import weakref
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

import ncsim
from ncsim import signals
from ncsim.cluster import tasks
from ncsim.ensemble import pool as pools
from ncsim.errors import DeviceError, StoreError
from ncsim.storage import parts as stored_parts
from ncsim.storage.run_folder import RunFolder
from tests.support.folders import parts_of
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

GRID = ncsim.config_grid(hidden=[2, 3], members=300, steps=20, tasks=[FOUR_ROWS])
RECORDING = ncsim.Recording(points=4)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """The driver cuts the run, so that processes of a pool train parts of this size as well."""
    monkeypatch.setattr(stored_parts, "PART_MEMBERS", (64, 64))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files of one process, recorded along training."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_parts, "PART_MEMBERS", (64, 64))
        ncsim.run_ensemble(GRID, out=folder, executor="xla", recording=RECORDING)
    return files(folder)


def files(folder, kinds=("parts", "trajectories")):
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in parts_of(folder)}
    return {name: content for name, content in found.items() if name.split("/")[0] in kinds}


class Here(Executor):
    """Does what it is handed in this process, at once; the first `lost` of each task, as a machine that goes away does."""

    def __init__(self, lost=0):
        self.lost, self.handed = lost, {}

    def submit(self, fn, /, *arguments):
        future = Future()
        key = (fn.__name__, str(arguments[1:]))
        self.handed[key] = self.handed.get(key, 0) + 1
        if self.handed[key] <= self.lost:
            future.set_exception(ConnectionResetError("the machine is gone\nwith a trace of many lines"))
        else:
            future.set_result(fn(*arguments))
        return future


class Elsewhere(Here):
    """Does the first task here; what becomes of one of a part, `part` says: its future."""

    def submit(self, fn, /, *arguments):
        return super().submit(fn, *arguments) if fn is pools.begin else self.part(arguments[1])


class Listener:
    def __init__(self):
        self.told = []

    def start(self, members, steps):
        self.told.append(("start", members, steps))

    def advance(self, members, steps):
        self.told.append(("advance", members, steps))

    def close(self):
        self.told.append(("close",))


def test_what_is_lost_is_handed_out_again(alone, tmp_path):
    pool, listener = Here(lost=tasks.RETRIES), Listener()
    ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", recording=RECORDING, pool=pool, progress=listener)
    assert files(tmp_path) == alone
    assert set(pool.handed.values()) == {tasks.RETRIES + 1}
    assert len(pool.handed) == 1 + 10  # a first task, and one of each part
    steps = 600 * 4 * 20
    assert listener.told[0] == ("start", 600, steps)
    assert [sum(told[n] for told in listener.told[1:-1]) for n in (1, 2)] == [600, steps]
    assert listener.told[-1] == ("close",)


def test_what_is_lost_too_often_is_one_line_that_names_the_part(tmp_path):
    class Losing(Here):
        def submit(self, fn, /, *arguments):
            self.lost = 99 if fn is pools.train and arguments[1][0] == (GRID[1], range(64, 128)) else 0
            return super().submit(fn, *arguments)

    with pytest.raises(DeviceError) as caught:
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", pool=Losing())
    assert str(caught.value) == (
        "members 64 to 127, hidden=3: lost 4 times, the last time by ConnectionResetError: the machine is gone with a trace "
        "of many lines; what is stored is whole, and the same command resumes"
    )


def test_members_that_were_stored_without_trajectories_are_recorded(alone, tmp_path):
    ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", pool=Here())
    assert files(tmp_path) == {name: content for name, content in alone.items() if name.startswith("parts/")}
    ncsim.run_ensemble(GRID, out=tmp_path, recording=RECORDING, pool=Here())
    assert files(tmp_path) == alone
    more = [dataclasses.replace(config, members=301) for config in GRID]
    with pytest.raises(
        StoreError, match=r"has --record-points 4 .* and --record-points 50 .* is asked for; allowed: its own"
    ):
        ncsim.run_ensemble(more, out=tmp_path, pool=Here(), recording=ncsim.Recording())


def test_a_grid_in_another_order_than_the_folder_has_it(alone, tmp_path):
    """A task opens the folder, whose cells are in the order in which the run was begun."""
    ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", recording=RECORDING, pool=Here())
    for kind in ("parts", "trajectories"):
        shutil.rmtree(tmp_path / kind / "hidden-3")
    run = ncsim.run_ensemble(GRID[::-1], out=tmp_path, pool=Here())
    assert [config.hidden for config in run.configs] == [3, 2]
    assert files(tmp_path) == alone
    shutil.rmtree(tmp_path / "trajectories" / "hidden-3")
    ncsim.run_ensemble(GRID[::-1], out=tmp_path, recording=RECORDING, pool=Here())
    assert files(tmp_path) == alone


@pytest.mark.parametrize("pool", [None, Here()], ids=["this process", "pool"])
def test_a_complete_run_is_given_in_whatever_order_its_grid_is(tmp_path, pool):
    """While another process holds the folder, too. In another order than it was begun with, that was an error."""
    begun = ncsim.run_ensemble(GRID, out=tmp_path, executor="xla")
    with RunFolder.open(tmp_path).exclusive():
        for grid in (GRID, GRID[::-1]):
            run = ncsim.run_ensemble(grid, out=tmp_path, pool=pool)
            assert list(run.configs) == grid
            for cell, config in enumerate(grid):
                assert (run.records(cell).counts == begun.records(GRID.index(config)).counts).all()
        with pytest.raises(StoreError, match="another process is writing to it"):
            ncsim.run_ensemble([dataclasses.replace(each, members=301) for each in GRID], out=tmp_path, pool=pool)


def test_an_error_of_a_task_is_one_line_that_names_the_part(tmp_path, monkeypatch):
    def full(folder, config, records):
        raise StoreError("place/part: cannot be written (No space left on device)")

    monkeypatch.setattr(RunFolder, "write_part", full)
    with pytest.raises(StoreError, match=r"^members 0 to 63, hidden=2: place/part: cannot be written \(No space left"):
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", pool=Here())


def test_what_cannot_be_trained_there_is_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("ncsim.executors.native.program.unsupported", lambda config: "this")
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: native cannot train this; allowed"):
        ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="native", pool=Here())
    wrong = dataclasses.replace(GRID[0], optimizer_options="momentum=0.9")
    with pytest.raises(ncsim.ConfigError, match="adam has no 'momentum'"):
        ncsim.run_ensemble(wrong, out=tmp_path / "run", pool=Here())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"processor": "another"}, "the processor is another one"),
        ({"device": "1 x gpu (NVIDIA H100)"}, r"gpu \(NVIDIA H100\) here, cpu \(cpu\) there"),
        ({"versions": {"jax": "0.9.99"}}, "jax 0.9.99 here"),
    ],
)
def test_machines_of_two_kinds_are_refused(tmp_path, monkeypatch, changed, words):
    real, asked = pools._kind, []

    def kind(devices):
        asked.append(devices)
        return real(devices) | (changed if len(asked) > 2 else {})

    monkeypatch.setattr(pools, "_kind", kind)
    with pytest.raises(StoreError, match=rf"^members 64 to 127, .* is not of the kind of machine that .*{words}"):
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", pool=Here())


def test_a_second_driver_gets_one_line(tmp_path):
    folder = RunFolder.create(tmp_path, GRID)
    with (
        folder.exclusive(),
        pytest.raises(StoreError, match=r"another process is writing to it; wait for it or end it$"),
    ):
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", pool=Here())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": 3, "out": "run"}, "^pool: int; allowed: a concurrent.futures.Executor"),
        ({"pool": Here()}, "^pool: needs a run folder"),
        ({"pool": Here(), "out": "run", "shard": (1, 2)}, "^pool: needs a run folder"),
        ({"pool": "dask", "out": "run"}, "^--cluster: dask; allowed: ray, auto or ray://HOST:PORT"),
    ],
)
def test_pools_that_are_refused(arguments, words):
    with pytest.raises(ncsim.ConfigError, match=words):
        ncsim.run_ensemble(GRID, executor="xla", **arguments)
    assert not os.path.exists("run")


def test_a_signal_cancels_the_tasks(tmp_path):
    """Those that were handed out here, of an executor that has others."""
    handed, other = [], Future()

    class Never(Elsewhere):
        def part(self, work):
            handed.append(Future())
            if len(handed) == 5:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            return handed[-1]

        def shutdown(self, wait=True, *, cancel_futures=False):
            other.cancel()

    with pytest.raises(signals.Stopped) as caught, signals.handled():
        ncsim.run_ensemble(GRID[0], out=tmp_path, executor="xla", pool=Never())
    assert caught.value.status == 130
    assert len(handed) == 5
    assert all(future.cancelled() for future in handed)
    assert not other.cancelled()
    with RunFolder.open(tmp_path).exclusive():  # it is held no more
        pass


def test_a_signal_is_answered_where_handlers_are_slow(tmp_path):
    """A wait whose time is up before the handler has ended goes on to look for signals (CPython's SimpleQueue does not)."""
    future = Future()

    class Waiting(Elsewhere):
        def part(self, work):
            signal.setitimer(signal.ITIMER_REAL, signals.LOOK_SECONDS / 2)
            for seconds, action in [(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)), (9, late)]:
                timer = threading.Timer(seconds, action)
                timer.daemon = True
                timer.start()
            return future

    def late():
        if not future.done():  # cancelled
            future.set_result(("", None))

    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(2 * signals.LOOK_SECONDS))
    try:
        with pytest.raises(signals.Stopped), signals.handled():
            ncsim.run_ensemble(dataclasses.replace(GRID[0], members=64), out=tmp_path, executor="xla", pool=Waiting())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert future.cancelled()


def test_where_no_task_ends_that_is_said(monkeypatch, capsys):
    """A worker that hangs was waited for without a word; and where tasks have taken long already, longer is waited with it. The clock
    is one that waits alone move on: by the machine's, which others use, a line too many was said now and then."""
    now, due = 0.0, []

    class Waited(queue.Queue):
        def get(self, block=True, timeout=None):
            nonlocal now
            now += timeout
            if due and now >= due[0][0]:
                due.pop(0)[1].set_result(("", None))
            return super().get(block=False)

    class Slow(Executor):
        def submit(self, fn, /, seconds):
            due.append((now + seconds, Future()))
            return due[-1][1]

    monkeypatch.setattr(tasks, "queue", types.SimpleNamespace(Queue=Waited, Empty=queue.Empty))
    monkeypatch.setattr(tasks, "time", types.SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(tasks, "IN_FLIGHT", 1)
    lasting = {"members 0": 400.0, "members 1": 0.0, "members 2": 1_500.0, "members 3": 6_500.0}
    work = [tasks.Task(words, None, (seconds,)) for words, seconds in lasting.items()]
    assert [task.words for task, _ in tasks.results(Slow(), work)] == list(lasting)
    end = ". Where workers hang or none is free, Ctrl-C: what is stored is whole, and the same command resumes"
    assert capsys.readouterr().err.splitlines() == [
        f"ncsim: no task has ended for {long}; waiting for 1 task, the oldest: members {number}{end}"
        for long, number in [("2:00 min", 0), ("4:00 min", 0), ("1:40:00", 3)]
    ]


def test_of_the_threads_of_a_worker_one_is_at_work_and_an_error_lets_the_next_begin():
    """Settings of JAX that training changes are of the process."""
    within, most = [], []

    def action(number):
        within.append(number)
        most.append(len(within))
        time.sleep(0.01)
        within.remove(number)
        if number % 3 == 0:
            raise ncsim.ConfigError(f"--{number}: no")
        return number

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: tasks.answer(lambda: action(number)), range(8)))
    assert most == [1] * 8
    assert found == [("ConfigError", f"--{n}: no") if n % 3 == 0 else ("", n) for n in range(8)]


def test_threads_of_a_worker_train_one_after_another(alone, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", recording=RECORDING, pool=pool)
    assert files(tmp_path) == alone


def test_ten_thousand_parts_are_handed_out_in_no_time_and_a_bounded_number_at_once(tmp_path, monkeypatch):
    """Under 5 ms of the driver for a part, with tasks that do nothing; and what is done is forgotten."""
    flying, most, alive, kept = set(), [], weakref.WeakSet(), []

    class Nothing(Elsewhere):
        def part(self, work):
            future = Future()
            flying.add(future)
            alive.add(future)
            kept.append(len(alive))
            most.append(len(flying))
            if len(flying) >= tasks.IN_FLIGHT or work[0][1].stop == config.members:
                for each in list(flying):
                    flying.remove(each)
                    each.set_result(("", None))
            return future

    config = ncsim.EnsembleConfig(hidden=2, members=64 * 10_000, steps=20)
    folder = RunFolder.create(tmp_path, [config], training=lambda: {"executor": {}})
    begun = time.process_time()
    ncsim.run_ensemble(config, out=folder.path, pool=Nothing())
    assert (time.process_time() - begun) / 10_000 < 0.005
    assert len(most) == 10_000
    assert max(most) <= tasks.IN_FLIGHT
    assert max(kept) <= tasks.IN_FLIGHT + 1  # one is being looked at


def test_a_driver_imports_neither_jax_nor_ray(tmp_path):
    """JAX would take a TPU of its machine from the tasks."""
    code = """
        import sys
        from concurrent.futures import Executor, Future
        import ncsim
        from ncsim.ensemble import pool as pools

        class Elsewhere(Executor):
            def submit(self, fn, /, *arguments):
                future = Future()
                kind = {"versions": {}, "platform": "x", "device": "1 x tpu (TPU v5e)", "processor": ""}
                found = {"environment": {"device": "x", "executor": {}}, "kind": kind, "observed": ("margin",)}
                future.set_result(("", found if fn is pools.begin else None))
                return future

        ncsim.run_ensemble(ncsim.EnsembleConfig(members=2_000), out="run", recording=ncsim.Recording(points=3), pool=Elsewhere())
        print(sorted({"jax", "jaxlib", "optax", "ray"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
