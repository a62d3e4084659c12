"""What the `main` of every experiment does: read its options, refuse what cannot be, end as a command should, write results."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.cli.command import Parser, run_guarded
from ncsim.cli.options import configs_of
from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import option_name
from ncsim.errors import ConfigError, reason
from ncsim.storage.files import LocalStorage, open_storage, write_atomically

AddOptions = Callable[[argparse.ArgumentParser], None]


def run_experiment(
    document: str | None,
    add_options: AddOptions,
    action: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None,
) -> None:
    """Read the options, with the experiment's own words as help, and do it; one line and status 2 for what the user can mend.

    Args:
        document: the `__doc__` of the experiment.
        add_options: adds its options to the parser.
        action: what it does, given the parsed options.
        arguments: the words of the command line; None for those of the process.
    """
    parser = Parser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parsed = parser.parse_args(arguments)
    known = {flag for action in parser._actions for flag in action.option_strings}

    def act() -> None:
        try:
            action(parsed)
        except ConfigError as error:
            raise ConfigError(as_given(str(error), known)) from None

    run_guarded(act)


#: Fields of a config that experiments take under other names.
OTHER_NAMES = {"--root-seed": "--seed", "--hidden": "--widths"}


def as_given(message: str, known: Collection[str]) -> str:
    """An error of a config, which names the options of `ncsim ensemble`, by the option that the experiment has for it."""
    flag, colon, rest = message.partition(":")
    other = OTHER_NAMES.get(flag)
    return f"{other}{colon}{rest}" if flag not in known and other in known else message


def add_number(parser: argparse.ArgumentParser, flag: str, default: int, text: str) -> None:
    """An option that takes a whole number and says its default."""
    parser.add_argument(flag, metavar="N", type=int, default=default, help=f"{text} (default: {default})")


def add_widths(parser: argparse.ArgumentParser, *default: int) -> None:
    """--widths."""
    text = f"hidden units (default: {' '.join(map(str, default))})"
    parser.add_argument("--widths", metavar="N", type=int, nargs="+", default=list(default), help=text)


def add_place(
    parser: argparse.ArgumentParser, folder: str, text: str, devices: str | None = "devices to use (default: all)"
) -> None:
    """--out, where results are written, and --devices unless its text is None."""
    parser.add_argument("--out", metavar="FOLDER", default=folder, help=text.format(folder))
    if devices is not None:
        parser.add_argument("--devices", metavar="N", help=devices)


def at_least(flag: str, value: int, fewest: int, why: str = "") -> None:
    """Refuse fewer.

    Raises:
        ConfigError: `value` is below `fewest`.
    """
    if value < fewest:
        raise ConfigError(f"{flag}: {value}; allowed: {fewest} or more{why}")


def root_seed(flag: str, value: int) -> None:
    """Refuse what is no root seed.

    Raises:
        ConfigError: it is below 0 or above 2^64 - 1.
    """
    if not 0 <= value < 2**64:
        raise ConfigError(f"{flag}: {value}; allowed: a whole number from 0 to {2**64 - 1}")


def each_once(flag: str, values: Sequence[int]) -> None:
    """Refuse a value that is there twice.

    Raises:
        ConfigError: it is.
    """
    if len(set(values)) != len(values):
        raise ConfigError(f"{flag}: {' '.join(map(str, values))}; allowed: each {flag.strip('-').rstrip('s')} once")


def configs_of_widths(parsed: argparse.Namespace, widths: Sequence[int]) -> list[EnsembleConfig]:
    """The one setting that the options ask for, at each width of the figure.

    Raises:
        ConfigError: a value that is not allowed, --hidden, or more than one setting.
    """
    shown = [str(width) for width in widths]
    if parsed.hidden is not None:
        raise ConfigError(
            f"--hidden: {' '.join(parsed.hidden)}; allowed: none here, the figure is of n = {', '.join(shown)}"
        )
    parsed.hidden = shown
    configs = configs_of(parsed)
    swept = [name for name in swept_fields(configs) if name != "hidden"]
    if swept:
        raise ConfigError(
            f"{option_name(swept[0])}: {len(getattr(parsed, swept[0]))} values; allowed: one, the figure is of one "
            "setting (ncsim ensemble takes grids)"
        )
    return configs


def local_folder(flag: str, location: str) -> Path:
    """Where figures and JSON are written, which is on this machine. It is made, so that what cannot be written to is refused before
    anything is trained.

    Raises:
        ConfigError: the address of an object store, or a folder that cannot be written to.
        StoreError: an address of no kind that ncsim knows.
    """
    storage = open_storage(location)
    if not isinstance(storage, LocalStorage):
        raise ConfigError(f"{flag}: {location}; allowed: a folder of this machine, which is where figures are written")
    try:
        storage.prepare()
    except OSError as error:
        raise ConfigError(f"{flag}: {location}; allowed: a folder that can be written to ({reason(error)})") from None
    return storage.root


def local_file(flag: str, path: Path) -> Path:
    """A file of results, in a folder that is made.

    Raises:
        ConfigError: a folder, or a file in one that cannot be written to.
    """
    if path.is_dir():
        raise ConfigError(f"{flag}: {path}; allowed: a file, and this is a folder")
    return local_folder(flag, str(path.parent)) / path.name


def write_json(path: Path, value: Any) -> None:
    """Results as JSON, whole or not at all."""
    write_atomically(path, as_json(value))


def as_json(value: Any) -> bytes:
    """The content of a file of results."""
    return json.dumps(plain(value), indent=1, allow_nan=False).encode()


def plain(value: Any) -> Any:
    """Results as JSON can hold them: named tuples as dictionaries, arrays as lists, what is not finite as null."""
    if hasattr(value, "_asdict"):  # but for fields that need not be given and are not
        defaults = value._field_defaults
        value = {name: each for name, each in value._asdict().items() if each is not None or name not in defaults}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
