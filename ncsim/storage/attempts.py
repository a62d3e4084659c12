"""What failed in a way that may pass is done again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

#: Errors that may be gone at the next attempt, as of a network file system; a full disk is not among them.
TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ECONNRESET}
ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 3, 0.2

_Result = TypeVar("_Result")


def persistently(action: Callable[[], _Result]) -> _Result:
    """Do it again where it failed in a way that may pass. After a failed flush nothing is known of what was written,
    so the whole of it is done again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except OSError as error:
            if attempt == ATTEMPTS or error.errno not in TRANSIENT:
                raise
            time.sleep(SECONDS_BETWEEN_ATTEMPTS * attempt)
    raise AssertionError
