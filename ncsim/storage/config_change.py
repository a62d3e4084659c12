"""Changes of config.json and its copy, by processes that may do so at once: each reads what the one before has written.

A local folder is held for the moment by `.config.lock`. Nothing holds an object store: there a change is put on the condition that
what it was made from is still there, and made again from what is there now where it is not.
"""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable
from typing import Any

from ncsim.errors import StoreError, one_line
from ncsim.storage.checksums import is_whole
from ncsim.storage.config_file import CONFIG, CONFIG_COPY, description
from ncsim.storage.files import LocalStorage, Storage
from ncsim.storage.lock import hold

#: How often a change is made again, and for how many seconds another process is let go first, at most.
ATTEMPTS, SECONDS_BETWEEN = 100, 0.2


def change_description(storage: Storage, change: Callable[[dict[str, Any]], bytes | None]) -> None:
    """Change config.json, and its copy where it has one.

    Args:
        storage: the run folder.
        change: the new content from what config.json says; None to leave it as it is. It may be asked several times.

    Raises:
        StoreError: the folder cannot be held, or config.json is damaged or cannot be read or written.
    """
    try:
        with describing(storage):
            _changed(storage, change)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot be written to ({one_line(error)})", f"{storage.location}/{CONFIG}") from None


def _changed(storage: Storage, change: Callable[[dict[str, Any]], bytes | None]) -> None:
    """As `change_description`, of a folder that is held."""
    for _ in range(ATTEMPTS):
        held = storage.read(CONFIG)
        content = change(description(held))
        if content is None or storage.exchange(CONFIG, held, content):
            return _copied(storage)
        time.sleep(random.uniform(0, SECONDS_BETWEEN))
    raise OSError(errno.EBUSY, f"others write to it all the time, {ATTEMPTS} attempts")


def copy_description(storage: Storage) -> None:
    """Have the copy of config.json be one. Raises OSError, and StoreError where the folder cannot be held."""
    content = storage.read(CONFIG)
    if not is_whole(content):
        return  # of an old version, which has no checksum and no copy
    if not storage.exists(CONFIG_COPY) and storage.create(CONFIG_COPY, content):
        return
    if storage.read(CONFIG_COPY) != content:
        with describing(storage):  # another shard may just have changed both
            _copied(storage)


def _copied(storage: Storage) -> None:
    """As `copy_description`, of a folder that is held."""
    for _ in range(ATTEMPTS):
        content = storage.read(CONFIG)
        if not is_whole(content):
            return
        if not storage.exists(CONFIG_COPY):
            storage.create(CONFIG_COPY, content)
        held = storage.read(CONFIG_COPY)
        # Asked last: whoever has changed config.json since changes the copy after it.
        if (held == content or storage.exchange(CONFIG_COPY, held, content)) and storage.read(CONFIG) == content:
            return
    raise OSError(errno.EBUSY, f"others write to it all the time, {ATTEMPTS} attempts")


def describing(storage: Storage) -> contextlib.AbstractContextManager[None]:
    """Change a description beside no other shard on this file system that does. Raises StoreError."""
    if isinstance(storage, LocalStorage):
        return hold(storage.root, name=".config.lock", waiting=True)
    return contextlib.nullcontext()
