"""Kinds of machine: in what this process is not of the kind that trained a run. Members may differ between kinds."""

from __future__ import annotations

import hashlib
from typing import Any

from ncsim.executors.devices import arithmetic_settings, device_description
from ncsim.storage.environment import all_differences, environment, recorded_environments
from ncsim.storage.environment import say_differences as say_environments
from ncsim.storage.run_folder import ConfiguredFolder


def kind_here(devices: int | None) -> dict[str, Any]:
    """The kind of machine that this process is, by its devices: versions, platform, kind of device, settings."""
    return environment() | {"device": device_description(devices)} | arithmetic_settings()


def with_processor(kind: dict[str, Any]) -> dict[str, Any]:
    """A kind of machine with digits of the processor, where it is the device; without any elsewhere, or where the system does
    not say. All tasks of a run need the same."""
    from ncsim.c_compiler import processor_key

    on_cpu = " x cpu " in kind["device"]
    return kind | {"processor": hashlib.sha256(processor_key().encode()).hexdigest()[:16] if on_cpu else ""}


def for_record(kind: dict[str, Any]) -> dict[str, Any]:
    """What of a kind of machine stands on record: all but the processor."""
    return {name: of for name, of in kind.items() if name != "processor"}


def say_differences(folder: ConfiguredFolder[Any], here: dict[str, Any]) -> None:
    """Say where what trains now, a kind of machine, is not of the kind that trained the run before it, and put it on record:
    single members may then differ.

    Raises:
        StoreError: config.json cannot be written.
    """
    if say_environments(here, recorded_environments(folder.location), "single members"):
        folder.note_environment(here)


def differences(folder: ConfiguredFolder[Any], devices: int | None) -> list[str]:
    """In what this process is not of the kinds that have trained a run, in words: versions, devices, settings."""
    return all_differences(kind_here(devices), recorded_environments(folder.location))
