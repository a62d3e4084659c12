"""Settings of a run in a file: TOML of a user's, or the config.json of a run that is stored. Options of the command override it.

hidden = [2, 3, 4]        # a list is an axis of the grid
learning_rate = 0.01
out = "runs/widths"       # any option of the command that has a value, with _ for -

[tasks]                   # own tasks, as ncsim.TruthTables has them
inputs = [[0, 0], [0, 1], [1, 0], [1, 1]]
...
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, checked, field_specs, from_dict, meaning
from ncsim.config.fields import option_name, shown
from ncsim.config.recording import Recording
from ncsim.config.scenarios import ScenarioTasks, shares, tasks_to_dict
from ncsim.config.tasks import Tasks, TruthTables
from ncsim.errors import ConfigError, one_line, reason
from ncsim.storage.files import Storage, open_storage
from ncsim.terminal import say

#: What no file says: where it is, what is done in place of a run, and what one command alone asks of it.
_NOT_IN_A_FILE = (
    "help",
    "config",
    "print_config",
    "json",
    "command",
    "flags",
    "given",
    "of_file",
    "at",
    "contexts",
    "ridge",
)
#: Options of `ncsim ensemble` that `ncsim plan` has not: it takes the same file, and leaves them alone.
OF_ENSEMBLE = ("cluster", "shard", "distributed", "audit", "audit_seed", "track", "quiet")
#: Options that are numbers in a file.
_NUMBERS = ("devices", "record_points", "record_every", "audit", "audit_seed", "settings", "parties")


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """--config and --print-config."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings in a TOML file, or a stored run's config.json; options that are given override it",
    )
    parser.add_argument("--print-config", action="store_true", help="print all settings as such a file, and end")


@contextlib.contextmanager
def settled(parsed: argparse.Namespace, aside: Sequence[str] = ()) -> Iterator[None]:
    """Put what the file of --config says in the place of options that are not given. Within, an error of a value of the
    file's names the file and the key.

    Args:
        parsed: what the command line says; gets `of_file`, the config's fields that the file says.
        aside: keys that a file may have and this command has no use for.

    Raises:
        ConfigError: the file cannot be read, or a key or value of it is not allowed.
    """
    file = parsed.config
    given: set[str] = getattr(parsed, "given", set())
    options = [name for name in vars(parsed) if name not in _NOT_IN_A_FILE]
    settings, stored = _settings(file, "record_points" in options) if file is not None else ({}, False)
    known = [*dict.fromkeys([*options, "tasks", *aside])]
    for key, value in settings.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            words = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
            raise ConfigError(f"{file}: {key}: {shown(value)}; no such key; {words}")
    ours = {key: value for key, value in settings.items() if key not in given}
    with _naming(file, ours):
        parsed.of_file = {key: _field(key, value) for key, value in ours.items() if key in field_specs()}
        if not stored:
            _say_what_is_the_same(file, parsed.of_file)
        for key in (ours.keys() - parsed.of_file.keys()) & set(options):
            before = getattr(parsed, key)  # a switch that is given is not on record as given, but it is on
            setattr(parsed, key, before if before is True else _option(key, ours[key], before))
        yield


def _say_what_is_the_same(file: str | None, fields: Mapping[str, Sequence[Any]]) -> None:
    """Values that differ in their text alone train the same networks, each time anew. They are allowed: --print-config writes them of a run
    that was made of a list of configs."""
    for name, values in fields.items():
        alike = len({meaning(name, value) for value in values}) < len(set(values))
        if alike:
            say(f"{file}: {name}: {shown(list(values))} has values that train the same networks; each is trained")


def _settings(file: str, recording: bool) -> tuple[dict[str, Any], bool]:
    """The keys of a file, with _ for -, and their values as they stand there; of a stored run also its recording, where asked for. And
    whether it is one of a stored run."""
    try:
        storage, name = _place(file)
        content = storage.read(name).decode("utf-8-sig")
        if content.lstrip().startswith("{"):
            return _of_stored_run(file, storage, json.loads(content), recording), True
        found: dict[str, Any] = {}
        for key, value in tomllib.loads(content).items():
            if key.replace("-", "_") in found:
                raise ConfigError(f"{file}: {key}: {shown(value)}; the key is there twice, with - and with _")
            found[key.replace("-", "_")] = value
        return found, False
    except OSError as error:
        raise ConfigError(f"--config: {file}; cannot be read ({reason(error)})") from None
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config: {file}; is no TOML ({one_line(error)}); allowed: KEY = VALUE lines") from None


def _place(file: str) -> tuple[Storage, str]:
    """The folder of a file, on this machine or in an object store, and its name there."""
    if "://" in file:
        folder, _, name = file.rpartition("/")
        return open_storage(folder), name
    return open_storage(Path(file).parent), Path(file).name


def _of_stored_run(file: str, storage: Storage, stored: dict[str, Any], recording: bool) -> dict[str, Any]:
    """What the config.json of a run says, and the recording.json beside it."""
    if stored.get("kind") == "text":
        raise ConfigError(
            f"--config: {file}; is of a text run; allowed: one of ncsim ensemble or ncsim scenario, or KEY = VALUE lines"
        )
    try:
        configs = [from_dict(cell) for cell in stored["cells"]]
        axes = {name: list(dict.fromkeys(getattr(config, name) for config in configs)) for name in field_specs()}
        if math.prod(map(len, axes.values())) != len(set(configs)):
            raise ValueError("its cells are no full grid; allowed: ncsim.run_ensemble with a list of configs")
        tasks = axes.pop("tasks")[0]
        if axes["topology"] == ["dense"] and axes["shared"] == [EnsembleConfig.shared]:
            del axes["shared"]  # says nothing there, and is refused where somebody says it
        found: dict[str, Any] = axes | {"tasks": tasks_to_dict(tasks)}
        if recording and storage.exists("recording.json"):
            found |= _of_recording(Recording.stored(json.loads(storage.read("recording.json"))["recording"]))
        return found
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ConfigError) as error:
        raise ConfigError(f"--config: {file}; does not describe a run ({one_line(error)})") from None


def _of_recording(recording: Recording) -> dict[str, Any]:
    values = {"record_spacing": recording.spacing}
    return values | ({"record_every": recording.every} if recording.every else {"record_points": recording.points})


def _field(name: str, value: Any) -> list[Any]:
    """The values of a config's field, checked, of which several are an axis."""
    if name == "tasks":
        if not isinstance(value, Mapping):
            raise ConfigError(f"--tasks: {shown(value)}; allowed: a table with inputs, alice and bob")
        return [_tasks(value)]
    values = value if isinstance(value, list) else [value]
    return [checked(name, each) for each in values]


def _tasks(table: Mapping[str, Any]) -> Tasks:
    kind = ScenarioTasks if "answers" in table or "contexts" in table else TruthTables
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"--tasks: {key} = {shown(value)}; no such key; allowed: {', '.join(known)}")
    if kind is ScenarioTasks:
        return _scenario(table)
    for key in ("inputs", "alice", "bob"):
        _check_lists(key, table.get(key), 2)
    try:
        return TruthTables(**table)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"--tasks: {one_line(error).removeprefix('tasks.')}") from None


def _scenario(table: Mapping[str, Any]) -> ScenarioTasks:
    """Own tasks of more parties, or more tasks; contexts are every combination, if not given."""
    for key, depth in (("inputs", 2), ("answers", 3)):
        _check_lists(key, table.get(key), depth)
    try:
        every = itertools.product(*(range(len(party)) for party in table["answers"]))
        sides = shares(len(table["inputs"][0]), len(table["answers"]))
        return ScenarioTasks(**{"contexts": tuple(every), "party_features": sides, **table})
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"--tasks: {one_line(error).removeprefix('tasks.')}") from None


def _check_lists(key: str, value: Any, depth: int) -> None:
    """Refuse what is no list of lists, so many of them in one another."""
    level = [value]
    for _ in range(depth):
        if not all(isinstance(each, list | tuple) for each in level):
            words = "lists of " * (depth - 1)
            raise ConfigError(f"--tasks: {key} = {shown(value)}; allowed: a list of {words}0 and 1")
        level = [inner for each in level for inner in each]


def _option(name: str, value: Any, default: Any) -> Any:
    """The value of an option that is no field, as the command line would have it: a word, or true."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{option_name(name)}: {shown(value)}; allowed: true or false")
        return value
    number = name in _NUMBERS
    if isinstance(value, bool) or not isinstance(value, int | float if number else str) or value == "":
        allowed = "a number" if number else "a text" if value != "" else "a text that is not empty"
        raise ConfigError(f"{option_name(name)}: {shown(value)}; allowed: {allowed}")
    try:
        return str(value)
    except ValueError:  # a hexadecimal number may be as long as it likes
        raise ConfigError(f"{option_name(name)}: {shown(value)}; allowed: a number of fewer digits") from None


@contextlib.contextmanager
def _naming(file: str | None, keys: Mapping[str, Any]) -> Iterator[None]:
    """Say of an error of one of these keys which file has it."""
    try:
        yield
    except ConfigError as error:
        option, _, words = str(error).partition(": ")
        key = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and key in keys:
            raise ConfigError(f"{file}: {key}: {words}") from None
        raise


# ---------------------------------------------------------------------------------------------------------- printing


def settings_text(parsed: argparse.Namespace, configs: list[EnsembleConfig]) -> str:
    """All settings as a file that --config takes: every field, then the options that are set, which have been checked, then own
    tasks."""
    lines = []
    for name in field_specs():
        values = list(dict.fromkeys(getattr(config, name) for config in configs))
        implied = name == "shared" and all(config.topology == "dense" for config in configs)
        if name != "tasks" and not implied:
            lines.append(f"{name} = {_toml(values if len(values) > 1 else values[0])}")
    fields = (*field_specs(), *_NOT_IN_A_FILE)
    set_to = {name: value for name, value in vars(parsed).items() if name not in fields and value not in (None, False)}
    for name, value in set_to.items():
        number = None if name not in _NUMBERS else float(value) if name == "audit" else int(value)
        lines.append(f"{name} = {_toml(value if number is None else number)}")
    if configs[0].tasks != EnsembleConfig.tasks:
        lines += ["", "[tasks]"]
        lines += [f"{name} = {_toml(value)}" for name, value in tasks_to_dict(configs[0].tasks).items()]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    """A value as TOML: JSON but for its lists, whose tuples are lists, too."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
