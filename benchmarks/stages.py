"""Work that loses nothing: stages, each in a process of its own with a limit, whose results are on disk as they come.

A stage has items. Its process does those that have no result yet, one after the other, and writes the stage's file after
each. What fails is the item's result, in one line. A process that is killed, or ends of itself, costs the item that it was
at; another process goes on with the next. So a device that fails for good in one item does not take the others with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncsim.errors import ConfigError, MissingExtra
from ncsim.formatting import json_text
from ncsim.storage.files import write_atomically

#: What a process ends with where an item failed on the device: a new one is to go on.
ANEW = 75
#: Processes that end of themselves, in one stage, before the rest of it is given up.
MOST_ENDS = 4
#: What an item gives, as JSON can hold it.
Item = Callable[[], dict[str, Any]]


class RefusedError(Exception):
    """An item cannot be done here, in one line."""


def read(file: Path) -> dict[str, Any]:
    """A stage's results: `items` by name, and the one that its process is `at`."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {"items": {}, "at": None}
    return found


def do_items(file: Path, items: Mapping[str, Item]) -> int:
    """Do what has no result in the file. The status to end the process with: 0, or `ANEW` where more is left for another."""
    found = read(file)
    for name, item in items.items():
        if name in found["items"]:
            continue
        found["at"] = name
        _write(file, found)
        begun, failed = time.perf_counter(), False
        try:
            result = item()
        except (RefusedError, ConfigError, MissingExtra) as error:
            result = {"refused": _line(error)}
        except Exception as error:  # of the device, or of a compiler
            result, failed = {"failed": f"{type(error).__name__}: {_line(error)}"}, True
        found["items"][name] = result | {"seconds": round(time.perf_counter() - begun, 2)}
        found["at"] = None
        _write(file, found)
        if failed:
            return ANEW
    return 0


def run_stage(file: Path, command: Sequence[str], limit: float, environment: Mapping[str, str]) -> str:
    """Let processes do a stage for at most so many seconds; its results are in `file`, what they print beside it.

    Returns:
        "done", or what is left undone and why, in words.
    """
    end = time.monotonic() + limit
    ends = 0
    with file.with_suffix(".log").open("a") as log:
        while (left := end - time.monotonic()) > 0:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(environment), start_new_session=True)
            try:
                status = process.wait(timeout=left)
            except subprocess.TimeoutExpired:
                break
            finally:
                _end(process)
            if status == 0:
                return "done"
            if status != ANEW:
                ends += 1
                at = read(file)["at"]
                _note(file, {"failed": f"its process ended with status {status}"})
                if at is None or ends == MOST_ENDS:
                    return f"ended with status {status}; see {file.with_suffix('.log').name}"
    at = read(file)["at"]
    _note(file, None)
    return f"stopped after {limit:.0f} s{'' if at is None else f', at {at}'}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, which may hold the device."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _note(file: Path, result: dict[str, Any] | None) -> None:
    """No process is at an item any more; its result, or None where it is to be tried again another time."""
    found = read(file)
    if found["at"] is not None and result is not None:
        found["items"][found["at"]] = result
    _write(file, found | {"at": None})


def _write(file: Path, found: dict[str, Any]) -> None:
    write_atomically(file, json_text(found).encode())


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else text[:237] + "..."
