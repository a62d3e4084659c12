"""Runs that meet a fault, each in a process of its own, forked from this one, which has imported everything but JAX.

`python -m tests.support.fault_driver MODE FOLDER RECORDS`, where RECORDS holds the members that a real run trained. The runs
here look them up instead of training: what is tried is everything from a trained part on, in the product's own run loop.
Faults are put under the functions of `os` by which files are written. Prints one line of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ncsim import signals
from ncsim.cli import command as cli
from ncsim.config.ensemble import EnsembleConfig
from ncsim.ensemble import job, kinds
from ncsim.ensemble import run as ensemble
from ncsim.records.members import MemberRecords
from ncsim.storage import attempts
from ncsim.storage import files as storage
from ncsim.storage import parts as stored_parts
from ncsim.storage.verify import verify
from ncsim.training import optimizers

CONFIG = EnsembleConfig(hidden=2, members=224, steps=20)
PART = 64
#: Functions that change a file system, or flush it.
FUNCTIONS = ("open", "write", "fsync", "replace", "link", "unlink", "mkdir")
FAULTS = ("kill", "ENOSPC", "EIO once", "EIO for ever", "kill twice")


class LookedUp:
    """In the place of the trainer: gives what a real one gave."""

    def __init__(self, records: MemberRecords, seconds: float = 0.0) -> None:
        self._records = records
        self._seconds = seconds

    def executors(self, configs, requested):
        return ["xla"] * len(configs)

    def train(self, pieces, progress, executor):
        for _, members in pieces:
            for first in range(members.start, members.stop, PART // 2):
                time.sleep(self._seconds)
                yield self._records.take(slice(first, min(first + PART // 2, members.stop)))
                signals.check()


def arrange(records: MemberRecords, seconds: float = 0.0) -> None:
    """Replace training, and only that."""
    stored_parts.PART_MEMBERS = (PART, PART)
    job.trainer = lambda devices: LookedUp(records, seconds)
    optimizers.validate_optimizers = lambda configs: None
    job.device_description = kinds.device_description = lambda devices: "1 x cpu (test)"
    attempts.SECONDS_BETWEEN_ATTEMPTS = 0.0


class Faults:
    """Counts calls that write, and lets the one of a number fail."""

    def __init__(self, kind: str = "", at: int = -1) -> None:
        self.calls = 0
        self._kind, self._at = kind, at
        for name in FUNCTIONS:
            setattr(os, name, self._faulty(name, getattr(os, name)))

    def _faulty(self, name, real):
        def call(*arguments, **options):
            if name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **options)
            turn = self.calls
            self.calls += 1
            if turn == self._at or (turn > self._at >= 0 and self._kind in ("EIO for ever", "ENOSPC for ever")):
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                if self._kind.startswith("kill"):
                    os.kill(os.getpid(), signal.SIGKILL)
                code = errno.EIO if self._kind.startswith("EIO") else errno.ENOSPC
                raise OSError(code, os.strerror(code))
            return real(*arguments, **options)

        return call


def forked(folder: Path, kind: str = "", at: int = -1, shard=None, count: Path | None = None) -> int:
    """Begin one run in a child process; its process number."""
    child = os.fork()
    if child:
        return child
    with open(_errors(), "wb") as errors:
        os.dup2(errors.fileno(), 2)
    status = 70
    try:
        faults = Faults(kind, at)
        cli.run_guarded(lambda: ensemble.run_ensemble(CONFIG, out=folder, shard=shard, executor="xla"))
        if count is not None:
            count.write_text(str(faults.calls))
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def finished(child: int) -> int:
    """Wait for a run: its exit status, or minus the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def parts(folder: Path) -> dict[str, bytes]:
    """Everything under parts/ but what a killed writer left."""
    found = {}
    for path in (folder / "parts").rglob("*"):
        if path.is_file() and not storage.is_temporary(path.name):
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def _errors() -> Path:
    """Where runs write what they say: not in the folder of the runs, whose disk may be full."""
    return Path(sys.argv[3]).with_suffix(".stderr")


def said() -> str:
    """What the last run said."""
    return _errors().read_text()


def every_write(folder: Path, stride: int, shards=(None, (1, 1))) -> dict:
    """Each fault at each of every `stride` calls that write, then the same command again: the parts of a run without faults, no more."""
    chance = random.Random(7)
    tried = dict.fromkeys(FAULTS, 0)
    statuses: dict[str, int] = {}
    for shard in shards:
        whole = folder / f"whole-{shard}"
        count = folder / "count"
        assert finished(forked(whole, shard=shard, count=count)) == 0, said()
        expected, calls = parts(whole), int(count.read_text())
        assert len(expected) == 4
        for at in range(0 if shard is None else stride // 2, calls, stride):
            for kind in FAULTS:
                run = folder / "run"
                shutil.rmtree(run, ignore_errors=True)
                status = finished(forked(run, kind, at, shard))
                text = said()
                where = (shard, kind, at, status, text)
                assert "Traceback" not in text, where
                if kind.startswith("kill"):
                    assert status == -signal.SIGKILL, where
                else:
                    # What is worth nothing, as removing a temporary file, may fail unheard.
                    assert status == 0 or (status == 2 and text.count("ncsim: error: ") == text.count("\n") == 1), where
                    assert kind != "EIO once" or status == 0 or "cannot be" in text, where
                assert all(expected[name] == content for name, content in parts(run).items()), where
                if kind == "kill twice":
                    assert finished(forked(run, "kill", chance.randrange(calls), shard)) in (0, -signal.SIGKILL), where
                    assert all(expected[name] == content for name, content in parts(run).items()), where
                assert finished(forked(run, shard=shard)) == 0, (where, said())
                assert parts(run) == expected, where
                found = verify(run)
                assert found.right, (where, found.lines())
                tried[kind] += 1
                statuses[f"{kind}: {status}"] = statuses.get(f"{kind}: {status}", 0) + 1
    return {"tried": tried, "statuses": statuses}


def random_kills(folder: Path, kills: int) -> dict:
    """SIGKILL at random times, of runs of their own and of shards in turn, each run finished before the next begins; so many kills,
    and more, up to four times as many, until each number of parts has been met: where others use the machine times are not as measured."""
    chance = random.Random(11)
    shards = (None, (1, 1))
    assert finished(forked(folder / "whole")) == 0, said()
    expected = parts(folder / "whole")
    assert verify(folder / "whole").right
    # Now that this process has imported what a run imports: how long one takes, of which the kills are to hit any moment.
    seconds = {}
    for shard in shards:
        begun = time.monotonic()
        for turn in range(5):
            assert finished(forked(folder / f"timed-{shard}-{turn}", shard=shard)) == 0, said()
        seconds[shard] = (time.monotonic() - begun) / 5
    killed, runs, kept = 0, 0, dict.fromkeys(range(len(expected) + 1), 0)

    def wanted() -> bool:
        return killed < kills or (killed < 4 * kills and not all(kept.values()))

    while wanted():
        run, shard = folder / "run", shards[runs % 2]
        shutil.rmtree(run, ignore_errors=True)
        runs += 1
        while wanted():
            child = forked(run, shard=shard)
            time.sleep(chance.random() * seconds[shard])
            os.kill(child, signal.SIGKILL)
            status = finished(child)
            if status == 0:
                break
            assert status == -signal.SIGKILL, said()
            assert "Traceback" not in said() and "error" not in said(), said()  # noqa: PT018
            killed += 1
            found = parts(run)
            kept[len(found)] += 1
            assert all(expected[name] == content for name, content in found.items())
        assert finished(forked(run, shard=shard)) == 0, said()
        assert parts(run) == expected
        assert verify(run).right
    return {"killed": killed, "runs": runs, "parts there when killed": kept}


def terminated(folder: Path) -> dict:
    """SIGTERM and SIGINT while training: what is whole is stored, and the status says which it was."""
    ended = {}
    assert finished(forked(folder / "whole")) == 0
    expected = parts(folder / "whole")
    for number in (signal.SIGTERM, signal.SIGINT):
        for shard in (None, (1, 1)):
            run = folder / f"run-{number}-{shard}"
            child = forked(run, shard=shard)
            while not parts(run):
                time.sleep(0.001)
            os.kill(child, number)
            status, text = finished(child), said()
            kept = parts(run)
            assert all(expected[name] == content for name, content in kept.items())
            assert finished(forked(run, shard=shard)) == 0
            assert parts(run) == expected
            ended[f"{signal.Signals(number).name} {shard}"] = [status, len(kept), text]
    return ended


def full_or_read_only(folder: Path) -> dict:
    """A run into a folder that is full, or becomes read-only, as the file system there says: its status and its words."""
    status = finished(forked(folder / "run"))
    return {"status": status, "said": said(), "parts": len(parts(folder / "run"))}


def main() -> None:
    mode, folder, saved = sys.argv[1], Path(sys.argv[2]), np.load(sys.argv[3])
    arrange(MemberRecords(**saved), seconds=0.05 if mode == "terminated" else 0.0)
    folder.mkdir(exist_ok=True)
    modes = {
        "every-write": lambda place: every_write(place, 1, [None]),
        "every-write-of-a-shard": lambda place: every_write(place, 1, [(1, 1)]),
        "some-writes": lambda place: every_write(place, 11),
        "some-random-kills": lambda place: random_kills(place, 40),
        "random-kills": lambda place: random_kills(place, 200),
        "terminated": terminated,
        "run": full_or_read_only,
    }
    print(json.dumps(modes[mode](folder)))


if __name__ == "__main__":
    main()
