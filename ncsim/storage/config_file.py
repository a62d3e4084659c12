"""config.json: what a run is, and what it was begun with. It holds a checksum of itself."""

from __future__ import annotations

import json
from typing import Any

from ncsim.config.fields import shown
from ncsim.formatting import json_text
from ncsim.storage.checksums import is_whole, sealed_json

#: Format of config.json. 1 had no checksum; parts of runs of 1 and 2 have lists for columns and hive partitions for folders;
#: those of 3 have whole numbers as dictionaries. All are read, and a run that is extended keeps its own.
FORMAT, FLAT = 4, 3
CONFIG, CONFIG_COPY = "config.json", "config-copy.json"


def described(stored: dict[str, Any]) -> bytes:
    """The content of config.json; an old run that is extended stays in its format."""
    if stored["format"] == 1:
        return json_text(stored, 2).encode()
    return sealed_json(stored)


def description(content: bytes) -> dict[str, Any]:
    """What config.json says. Raises ValueError where it is damaged, or is something else."""
    whole = is_whole(content)
    if whole is False:
        raise ValueError("its checksum is not that of its content")
    stored = json.loads(content.decode())
    if not isinstance(stored, dict) or "format" not in stored:
        raise ValueError("it has no format")
    if stored["format"] not in range(1, FORMAT + 1):  # of a newer version
        raise ValueError(f"its format is {shown(stored['format'])}; allowed in this version of ncsim: 1 to {FORMAT}")
    if whole is None and stored["format"] != 1:
        raise ValueError("its checksum is gone")
    return stored
