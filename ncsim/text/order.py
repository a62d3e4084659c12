"""What one call of `run_text` asks for, for this process or for a worker elsewhere."""

from __future__ import annotations

import os
import secrets
from typing import NamedTuple

from ncsim.machine import absolute
from ncsim.text.config import TextConfig


class TextOrder(NamedTuple):
    """A run, and how it is done. Paths are whole: a worker may be in another folder."""

    config: TextConfig
    location: str
    model: str
    suite: str
    source_dir: str | None
    cache_dir: str | None
    devices: int | None
    at_once: int | None
    call: str  # digits of the call: what a worker has read for another one may have changed since

    @classmethod
    def of(
        cls,
        config: TextConfig,
        out: str | os.PathLike[str],
        source_dir: str | os.PathLike[str] | None,
        cache_dir: str | os.PathLike[str] | None,
        devices: int | None,
        at_once: int | None,
    ) -> TextOrder:
        """An order in the words of `ncsim.text.run_text`."""
        source, cache = (None if each is None else absolute(each) for each in (source_dir, cache_dir))
        model, suite = (absolute(name) if os.path.exists(name) else name for name in (config.model, config.suite))
        return cls(config, os.fspath(out), model, suite, source, cache, devices, at_once, secrets.token_hex(8))
