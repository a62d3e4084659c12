"""until.json: the precision that a run was to reach, what was seen on the way, and where it ended. It holds a checksum of itself.

It is written before the members that it leads to are trained, so that a run that was killed goes on to the same members.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, fingerprint
from ncsim.errors import StoreError, reason
from ncsim.storage.checksums import is_whole, sealed_json
from ncsim.storage.files import Storage

UNTIL = "until.json"
FORMAT = 1


def read_until(storage: Storage, configs: Sequence[EnsembleConfig] | None = None) -> dict[str, Any] | None:
    """What until.json says; None where there is none, or it is torn: then the rule begins anew.

    Args:
        storage: the run folder.
        configs: of its run, by whose order cells are told. A file that names cells of another run, which was killed before it had a
            config.json, says nothing of this one.

    Raises:
        StoreError: it cannot be read now, which gives up no look.
    """
    try:
        content = storage.read(UNTIL)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot be read ({reason(error)})", f"{storage.location}/{UNTIL}") from None
    with contextlib.suppress(ValueError):
        stored = json.loads(content) if is_whole(content) else None
        if isinstance(stored, dict) and stored.get("format") == FORMAT and _is_of(stored, configs):
            found = {name: value for name, value in stored.items() if name not in ("format", "checksum")}
            return found if configs is None or "fingerprints" not in found else _in_order_of(configs, found)
    return None


def _in_order_of(configs: Sequence[EnsembleConfig], found: dict[str, Any]) -> dict[str, Any]:
    """What is said of each cell, by the numbers and in the order that it has in these configs: whoever wrote it may have had its grid in
    another order than a run has now."""
    numbers = {fingerprint(config): number for number, config in enumerate(configs)}
    cells = [numbers[each] for each in found["fingerprints"]]

    def ordered(values: Sequence[Any]) -> list[Any]:
        return [value for _, value in sorted(zip(cells, values, strict=True), key=lambda pair: pair[0])]

    looks = [look | {"reach": ordered(look["reach"])} for look in found["looks"]]
    told = {name: ordered(found[name]) for name in ("fingerprints", "reach") if name in found}
    return found | told | {"looks": looks} | ({"cells": sorted(cells)} if "cells" in found else {})


def _is_of(stored: dict[str, Any], configs: Sequence[EnsembleConfig] | None) -> bool:
    return configs is None or {*stored.get("fingerprints", ())} <= {*map(fingerprint, configs)}


def torn_until(storage: Storage) -> list[str]:
    """The name of until.json where it is there and torn."""
    return [UNTIL] if storage.exists(UNTIL) and read_until(storage) is None else []


def write_until(storage: Storage, stored: dict[str, Any]) -> None:
    """Write until.json.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        storage.write(UNTIL, sealed_json({"format": FORMAT} | stored))
    except OSError as error:
        raise StoreError(f"{storage.location}/{UNTIL}: cannot be written ({reason(error)})") from None
