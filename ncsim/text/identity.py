"""What makes a text run that run, and in what two differ."""

from __future__ import annotations

from typing import Any

from ncsim.text.config import MEANS


def seen(description: dict[str, Any]) -> dict[str, Any]:
    """A run's config, and which data and weights it saw."""
    fingerprints = {name: description.get(name, {}).get("fingerprint") for name in ("data", "backbone")}
    return {"config": description["config"], **fingerprints}


def identity(description: dict[str, Any]) -> dict[str, Any]:
    """What makes a run that run: all that is seen but options that change memory and speed, and results by rounding."""
    all_seen = seen(description)
    return all_seen | {"config": {name: value for name, value in all_seen["config"].items() if name not in MEANS}}


def difference(name: str, held: Any, wanted: Any) -> str:
    """The first difference between two descriptions, in words."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in wanted:
            if held.get(key) != wanted[key]:
                return difference(key if name == "config" else f"{name} {key}", held.get(key), wanted[key])
    there, here = (text if len(text) <= 60 else text[:57] + "..." for text in (str(held), str(wanted)))
    return f"{name} is {there} there, {here} here"
