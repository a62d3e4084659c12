"""A page of a run that trains, written anew as parts are stored.

It reads what is stored and holds no lock. It asks for the lowest priority and rests most of the time, so that a run on the same
machine goes on as without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ncsim import signals
from ncsim.errors import StoreError, reason
from ncsim.formatting import page_bytes
from ncsim.report.page import report_page
from ncsim.report.summary import Summary, summarise
from ncsim.results import Run
from ncsim.storage.files import open_storage
from ncsim.storage.until_file import read_until
from ncsim.study import Study

#: Seconds between two looks at a folder, and how many times the processor seconds of the last page: also where it was let
#: through seldom, it is at work for half of the time at most.
FEWEST_SECONDS, REST = 5.0, 9.0


def _looked_at(folder: str) -> tuple[list[str], Any]:
    """What changes in a folder as its run goes on. Raises StoreError where it cannot be read."""
    storage = open_storage(folder)
    try:
        return [*storage.names("parts"), *storage.names("trajectories")], read_until(storage)
    except OSError as error:
        raise StoreError(f"{storage.location}: cannot be read ({reason(error)})") from None


def watch(
    folders: Sequence[str], opened: Callable[[], Run | Study], written: Callable[[int, int], object] | None = None
) -> Run | Study:
    """Write report.html again whenever members have been stored, until none is missing. A run that is to be precise has all the
    members of its stage again and again before it ends, and members may be recorded that were stored before.

    Args:
        folders: the run folders, which are looked at for new parts.
        opened: gives the run, or the study of these folders, as it is stored by now.
        written: told how many members are missing and how many are still to be recorded, after each page.

    Returns:
        The complete run, whose report is still to be written.

    Raises:
        StoreError: no run is there, a part is torn, or the page cannot be written.
    """
    with suppress(OSError, AttributeError):
        os.nice(19)
    shown: list[tuple[Run | Study, Summary]] = []
    try:
        return _until_complete(folders, opened, written, shown)
    except (KeyboardInterrupt, signals.Stopped):
        # Nobody writes it any more, so that it must not say so, nor be loaded again and again.
        with signals.finishing(), suppress(StoreError):
            for run, summary in shown:
                _write(run, report_page(run, summary))
        raise


def _write(run: Run | Study, page: str) -> None:
    assert run.storage is not None
    try:
        run.storage.write("report.html", page_bytes(page))
    except OSError as error:
        raise StoreError(f"{run.location}: the page cannot be written ({reason(error)})") from None


def _until_complete(
    folders: Sequence[str],
    opened: Callable[[], Run | Study],
    written: Callable[[int, int], object] | None,
    shown: list[tuple[Run | Study, Summary]],
) -> Run | Study:
    """As `watch`; `shown` has what the page that is there is of."""
    before: object = None
    rest = FEWEST_SECONDS
    while True:
        begun, used = time.monotonic(), time.process_time()
        now = list(map(_looked_at, folders))
        if now != before:
            run, before = opened(), now
            summary = summarise(run)
            missing = summary.numbers["members_missing"]
            if not (missing or {"until_goes_on", "members_unrecorded"} & summary.numbers.keys()):
                return run
            _write(run, report_page(run, summary, watching=max(round(rest), 1)))
            shown[:] = [(run, summary)]
            if written is not None:
                written(missing, summary.numbers.get("members_unrecorded", 0))
            rest = max(FEWEST_SECONDS, REST * (time.process_time() - used), time.monotonic() - begun)
        time.sleep(rest)
