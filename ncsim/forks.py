"""Processes that were forked from one in which JAX runs: its threads did not come along, and its locks are held for ever."""

from __future__ import annotations

import os
import sys

from ncsim.errors import DeviceError

#: The process in which JAX was first used through this package.
_user: int | None = None


def check_not_forked() -> None:
    """Call it before JAX is used.

    Raises:
        DeviceError: this process was forked from one that had used JAX, and would wait for ever.
    """
    global _user
    if _user is None:
        _user = os.getpid()
    if _user != os.getpid():
        raise DeviceError(
            f"process {os.getpid()} was forked from process {_user}, which had started JAX, and would wait for ever; "
            "allowed: processes that are spawned, as multiprocessing.get_context('spawn').Pool()"
        )


def _forked() -> None:
    """In a child: whether its parent had started JAX by itself."""
    global _user
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if _user is None and started is not None and started():
        _user = os.getppid()


os.register_at_fork(after_in_child=_forked)
