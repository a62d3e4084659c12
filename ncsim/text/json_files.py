"""The JSON files beside weights: config.json of a model, adapter_config.json of an adapter, what a tokeniser is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ncsim.errors import ConfigError, reason


def json_object(file: Path, missing: str | None = None) -> dict[str, Any]:
    """What a file's JSON object holds.

    Args:
        file: the file.
        missing: what to say where there is no such file; None: such an object is empty.

    Raises:
        ConfigError: there is none, it cannot be read, or it is no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if missing is None:
            return {}
        raise ConfigError(missing) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({reason(error)})") from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: is no JSON object")
    return content
