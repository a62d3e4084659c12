"""Kinds of machine: in what this process is not of the kind that trained a run. Members may differ between kinds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ncsim.executors.devices import arithmetic_settings, device_description
from ncsim.storage.environment import differences as environment_differences
from ncsim.storage.environment import environment, recorded_environments
from ncsim.storage.run_folder import RunFolder
from ncsim.terminal import say


def kind_here(devices: int | None) -> dict[str, Any]:
    """The kind of machine that this process is, by its devices: versions, platform, kind of device, settings."""
    return environment() | {"device": device_description(devices)} | arithmetic_settings()


def processor_here(kind: dict[str, Any]) -> str:
    """Digits of the processor, where it is the device; the same for all elsewhere, or where the system does not say."""
    from ncsim.executors.native.compiler import processor_key

    return hashlib.sha256(processor_key().encode()).hexdigest()[:16] if " x cpu " in kind["device"] else ""


def say_differences(folder: RunFolder, here: dict[str, Any]) -> None:
    """Say where what trains now, a kind of machine, is not of the kind that trained the run before it, and put it on record:
    single members may then differ.

    Raises:
        StoreError: config.json cannot be written.
    """
    found = recorded_environments(folder.location)
    different = _differences(here, found[:1])
    if different:
        say(f"this process is not of the kind that began the run ({'; '.join(different)}): single members may differ")
    if found and environment_differences(here, found[-1]):
        folder.note_environment(here)


def differences(folder: RunFolder, devices: int | None) -> list[str]:
    """In what this process is not of the kinds that have trained a run, in words: versions, devices, settings."""
    return _differences(kind_here(devices), recorded_environments(folder.location))


def _differences(here: dict[str, Any], found: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(words for there in found for words in environment_differences(here, there)))
