"""Signals are answered wherever a command waits; forked processes and lone members of a group are told in one line."""

import fcntl
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import ncsim
from ncsim import signals
from ncsim.ensemble.trainer import trainer
from ncsim.executors import calls, choice
from ncsim.executors.native import program as native
from ncsim.statistics.chsh import chsh_statistics

CONFIG = ncsim.EnsembleConfig(hidden=2, members=64, steps=5)
EXECUTORS = ["xla", *(["native"] if native.unsupported(CONFIG) is None else [])]


def started(body, **environment):
    """A program that runs `body` as a command does, after it has said so."""
    lines = ["from ncsim.cli.command import run_guarded", "def action():", *(f"    {line}" for line in body)]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join([*lines, "run_guarded(action)"])],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def ended(process, number):
    """What a program says after a signal, and how long it took to end."""
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return said, time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_call_that_would_take_hours_is_left(tmp_path, executor, number):
    process = started(
        [
            "import ncsim, sys",
            "from ncsim.executors.calls import InFlight",
            "kept = InFlight.kept",
            "def waits(*rest): print('waits', file=sys.stderr, flush=True); return kept(*rest)",
            "config = ncsim.EnsembleConfig(hidden=2, members=8, steps=1_000_000_000)",
            "InFlight.kept = waits",
            f"ncsim.run_ensemble(config, out={str(tmp_path / 'run')!r}, executor={executor!r})",
        ]
    )
    assert "waits" in process.stderr.readline()
    time.sleep(0.5)
    said, seconds = ended(process, number)
    assert process.returncode == 128 + number
    assert "the training of members 0 to 7 is lost" in said
    assert "Traceback" not in said
    assert seconds < 10  # a second, on a machine that has nothing else to do


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_does_not_come_back_is_left_and_what_is_temporary_is_gone(tmp_path, number):
    process = started(
        [
            "import ctypes, sys, pathlib",
            "from ncsim import signals",
            f"with signals.scratch('beside-', pathlib.Path({str(tmp_path)!r})), signals.deferred():",
            "    print('waits', file=sys.stderr, flush=True)",
            "    ctypes.CDLL(None).pause()",
            "    while True: ctypes.CDLL(None).sleep(60)",
        ]
    )
    assert "waits" in process.stderr.readline()
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.2)
    said, seconds = ended(process, number)
    assert process.returncode == 128 + number
    assert ("terminated" if number == signal.SIGTERM else "interrupted") + "; what is stored is whole" in said
    assert seconds < 10
    assert list(tmp_path.iterdir()) == []


def test_what_is_being_stored_is_stored_first_and_a_second_signal_does_not_wait():
    body = [
        "import sys, time",
        "from ncsim.storage.writer import Background",
        "from ncsim import signals",
        "def store():",
        "    time.sleep(SECONDS); print('stored', file=sys.stderr, flush=True)",
        "with Background() as writing, signals.deferred():",
        "    writing.do(store)",
        "    print('waits', file=sys.stderr, flush=True)",
        "    while True: time.sleep(0.01); signals.check()",
    ]
    process = started([line.replace("SECONDS", "1.5") for line in body])
    assert "waits" in process.stderr.readline()
    said, _ = ended(process, signal.SIGTERM)
    assert "stored\n" in said.replace("being stored", "").replace("is stored", "")
    assert process.returncode == 143
    process = started([line.replace("SECONDS", "600") for line in body])
    assert "waits" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again ends at once" in process.stderr.readline() + process.stderr.readline()
    _, seconds = ended(process, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < 10


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_users_own_process_goes_on_after_ctrl_c(executor):
    """Generated C ends within a moment; XLA trains on, and the next run waits for it. Members are as ever."""
    expected = ncsim.run_ensemble(CONFIG, executor=executor).counts
    steps = 1_000_000_000 if executor == "native" else 100_000
    long = ncsim.EnsembleConfig(hidden=2, members=64, steps=steps)
    answered = threading.Event()

    def interrupt(wait=0.5):
        # Again, since a callback may swallow what is raised in it (JAX's garbage collection has one).
        while not answered.wait(wait):
            os.kill(os.getpid(), signal.SIGINT)
            wait = 10

    sender = threading.Thread(target=interrupt)
    # Python's own handler, also where a shell started the tests in the background: it has such processes ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender.start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        try:
            while True:
                ncsim.run_ensemble(long, executor=executor)
        finally:
            answered.set()
            sender.join()
    signal.signal(signal.SIGINT, before)
    assert (ncsim.run_ensemble(CONFIG, executor=executor).counts == expected).all()


class GivesUp:
    """Progress that is an error of its own."""

    def start(self, members, steps):
        pass

    def advance(self, members, steps):
        raise ZeroDivisionError

    def close(self):
        pass


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_that_is_given_up_ends_none_in_another_thread(executor):
    """Generated C had ended there, too: the flag that it looks at is one for the process."""
    long = ncsim.EnsembleConfig(hidden=2, members=600, steps=5_000)
    expected = ncsim.run_ensemble(long, executor=executor).counts
    found = []
    other = threading.Thread(target=lambda: found.append(ncsim.run_ensemble(long, executor=executor).counts))
    other.start()
    while other.is_alive():
        with pytest.raises(ZeroDivisionError):
            ncsim.run_ensemble(long, executor=executor, progress=GivesUp())
    assert len(found) == 1
    assert (found[0] == expected).all()


def give_up(*results):
    """A training that fails while these results are computed."""
    with calls.InFlight() as flight:
        for each in results:
            flight.add(each)
        raise ZeroDivisionError


def test_calls_are_asked_to_end_where_nothing_trains(monkeypatch):
    asked = []
    monkeypatch.setattr(calls, "ask_to_end", asked.append)
    with calls.InFlight():
        with pytest.raises(ZeroDivisionError):
            give_up(np.zeros(1), np.zeros(1))
        assert not any(asked)
    assert asked[-1]
    monkeypatch.setattr(calls, "_wait_for", lambda left: asked.append(len(left)))
    with calls.InFlight():
        assert asked[-2:] == [2, False]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_trial_after_a_run_that_was_given_up(executor):
    """It had failed, so that a run had another executor, or none, for an interrupted one before it."""
    mesh = trainer(1)._mesh
    program = choice.program(executor, CONFIG, mesh, 1)
    expected = choice.train_block(CONFIG, program, mesh, 5)
    with pytest.raises(ZeroDivisionError):
        give_up(program.run(0, np.zeros((1, program.lanes), np.uint32), np.ones(1, np.int32), 0.01, 10))
    assert (choice.train_block(CONFIG, program, mesh, 5).counts == expected.counts).all()


def test_what_fails_beside_the_main_thread_is_raised_in_it_and_waiting_is_told(monkeypatch):
    monkeypatch.setattr(signals, "TELL_SECONDS", 0.01)
    monkeypatch.setattr(signals, "LOOK_SECONDS", 0.01)
    told = []
    assert signals.answering(lambda: time.sleep(0.2) or 3, lambda: told.append(1)) == 3
    assert told
    with pytest.raises(ZeroDivisionError):
        signals.answering(lambda: 1 // 0)


def _runs():
    return ncsim.run_ensemble(CONFIG, executor="xla").counts.sum()


def _computes():
    return float(chsh_statistics(np.resize(_runs.counts, (40_000, 2, 2, 2, 2))).s.sum())  # more than NumPy is taken for


@pytest.mark.parametrize("work", [_runs, _computes])
@pytest.mark.filterwarnings("ignore")
def test_a_forked_process_is_refused_and_does_not_wait(work):
    _runs.counts = ncsim.run_ensemble(CONFIG, executor="xla").counts
    with multiprocessing.get_context("fork").Pool(1) as pool:
        asked = pool.apply_async(work)
        with pytest.raises(ncsim.errors.DeviceError, match=r"was forked from process .* spawn"):
            asked.get(60)


@pytest.mark.slow
def test_a_lone_process_of_a_slurm_step_says_what_it_waits_for_and_ends(tmp_path):
    slurm = {"SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ncsim.cli",
            "ensemble",
            "--members",
            "4",
            "--steps",
            "2",
            "--out",
            str(tmp_path / "run"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | slurm | {"SLURM_NTASKS": "4"},
    )
    line = process.stderr.readline()
    assert "SLURM says 4 processes: waiting" in line
    assert "--shard 1/1 runs alone" in line
    time.sleep(1)
    _, seconds = ended(process, signal.SIGTERM)
    assert process.returncode == 143
    assert seconds < 10


@pytest.mark.parametrize("loaded", ["ncsim.cli.command", "numpy"])
def test_ctrl_c_while_a_command_is_loaded_is_one_line(loaded):
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # else ignored, where a shell has it so
        "class Pressed:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {loaded!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from ncsim.cli import main\n"
        "main(['show', 'nowhere'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "\nncsim: interrupted\n")


def test_a_signal_that_a_callback_swallows_ends_the_command_all_the_same(capsys):
    """Whatever comes of it that the process is ended from outside meanwhile is no error of its own."""

    class Thing:
        pass

    def act(error):
        thing = Thing()
        kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del thing
        assert kept() is None
        assert signals.asked()
        if error is not None:
            raise error

    for error in (OSError("what was drawn is gone"), None):
        with pytest.raises(signals.Stopped) as caught, signals.handled(lambda status: None):
            act(error)
        assert caught.value.status == 143
    assert capsys.readouterr().err == ""


def test_nothing_is_begun_where_a_signal_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "_cleaning", True)
    with pytest.raises(signals.Stopped), signals.scratch("build-", tmp_path):
        raise AssertionError("it was begun")
    assert not list(tmp_path.iterdir())


def test_a_process_with_a_thousand_files_open_is_told_of_signals():
    """`select` refuses files with numbers from 1024 on."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most[1] != resource.RLIM_INFINITY and most[1] < 2048:
        pytest.skip("so many files are not allowed here")
    told, tells = socket.socketpair()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, most[1]))
        with told, tells, socket.socket(fileno=fcntl.fcntl(told, fcntl.F_DUPFD, 1500)) as high:
            assert signals._signal(high, 0.01) is None
            tells.send(bytes([signal.SIGWINCH, signal.SIGTERM]))
            assert signals._signal(high, None) == signal.SIGTERM
            tells.close()
            assert signals._signal(high, None) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
