"""Who trains what, among workers that share a run folder and nothing else.

A worker claims a part before it trains it: it creates a file in `claims/`, which only one can. While it trains, it
counts the claim up every few seconds. A claim that another worker has seen unchanged for EXPIRY_SECONDS, by its own clock
that only goes forward, is that of a worker that is gone, and may be taken over; wall clocks are never compared. A worker
of this machine whose process has ended is gone at once.

Claims save time and nothing else. A worker that was only slow, or two that take over one claim at once, train the same
part and write the same bytes: the result does not change.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ncsim import signals
from ncsim.formatting import json_text
from ncsim.storage.files import Storage, is_temporary

HEARTBEAT_SECONDS = 10.0
#: Several heartbeats, and more than network file systems keep what they have read (60 s).
EXPIRY_SECONDS = 120.0
FOLDER = "claims"


class Claims:
    """One worker's claims on the parts of a run. Use it as a context: the claims held are counted up until its end, and
    given up there.

    Args:
        storage: of the run folder.
        clock: seconds that only go forward, for judging how long a claim has not changed.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._began = _began(os.getpid())
        self._held: dict[str, int] = {}  # part: how often its claim was counted up
        self._seen: dict[str, tuple[bytes, float]] = {}  # part: a claim of another, and when it was first seen so
        #: Whether a claim of another was seen to change, which only a worker that is alive does.
        self.has_changed = False
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ncsim-claims", daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with signals.finishing():
            self._ending.set()
            self._thread.join()
            with contextlib.suppress(OSError):  # what is left expires
                for part in list(self._held):
                    self.release(part)

    def take(self, part: str) -> bool:
        """Claim a part; False where a worker that may be alive has it. Raises OSError as the storage does."""
        if self._storage.create(_claim(part), self._content(0)):
            self._held[part] = 0
            return True
        try:
            content = self._storage.read(_claim(part))
        except FileNotFoundError:
            return False  # given up just now: the next look finds it free, or done
        if not self._is_gone(part, content):
            return False
        self._storage.write(_claim(part), self._content(0))
        if self._storage.read(_claim(part)) != self._content(0):
            return False
        with self._lock:
            self._held[part] = 0
        return True

    def release(self, part: str) -> None:
        """Give a claim up, because the part is there or will not be trained."""
        with self._lock:
            if self._held.pop(part, None) is not None and self._is_ours(part):
                self._storage.remove(_claim(part))

    def of_others(self) -> list[str]:
        """The parts that have a claim which is not ours, dead or alive."""
        whole = (name for name in self._storage.names(FOLDER) if not is_temporary(name))
        claimed = (name.removeprefix(f"{FOLDER}/").removesuffix(".json") for name in whole)
        parts = (name if name.startswith("trajectories/") else f"parts/{name}" for name in claimed)
        return [part for part in parts if part not in self._held]

    def alive(self, part: str) -> bool:
        """Whether the worker that has claimed a part may be alive. Asked again and again, it knows at last."""
        try:
            return not self._is_gone(part, self._storage.read(_claim(part)))
        except FileNotFoundError:
            return False

    def forget(self, part: str) -> None:
        """Remove anybody's claim on a part that is there, or whose worker is gone."""
        self._storage.remove(_claim(part))

    def _is_gone(self, part: str, content: bytes) -> bool:
        if _ended_here(content):
            return True
        now = self._clock()
        before = self._seen.get(part)
        if before is None or before[0] != content:
            self.has_changed |= before is not None
            self._seen[part] = (content, now)
            return False
        return now - before[1] >= EXPIRY_SECONDS

    def _beat(self) -> None:
        while not self._ending.wait(HEARTBEAT_SECONDS):
            with self._lock:
                for part in list(self._held):
                    # A folder that cannot be reached for a while costs the claim, and the part is trained twice.
                    with contextlib.suppress(OSError):
                        if self._is_ours(part):
                            self._held[part] += 1
                            self._storage.write(_claim(part), self._content(self._held[part]))

    def _is_ours(self, part: str) -> bool:
        try:
            return _read(self._storage.read(_claim(part))).get("owner") == self._owner
        except FileNotFoundError:
            return False

    def _content(self, beats: int) -> bytes:
        claim = {
            "owner": self._owner,
            "machine": _machine(),
            "process": os.getpid(),
            "began": self._began,
            "beats": beats,
        }
        return json_text(claim, None).encode()


def _claim(part: str) -> str:
    return f"{FOLDER}/{part.removeprefix('parts/')}.json"


def _read(content: bytes) -> dict[str, Any]:
    """A claim; nothing of one that is torn, which then expires by not changing."""
    try:
        claim = json.loads(content)
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}


def _ended_here(content: bytes) -> bool:
    """Whether a claim is of a process of this machine that has ended."""
    claim = _read(content)
    process = claim.get("process")
    if claim.get("machine") != _machine() or type(process) is not int or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # another user's, or no number of a process
    began = _began(process)
    return began is not None and began != claim.get("began", began)


def _began(process: int) -> str | None:
    """When a process of this machine began, which tells it from a later one of the same number; "ended" where it has and
    its parent has not yet asked how; None where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "ended" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def _machine() -> str:
    """Where process numbers mean the same: one start of one system, and one container in it. Empty where unknown."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return secrets.token_hex(8)  # equal to no other
