"""The command line: `ncsim ensemble`, `ncsim text` and `ncsim report`. An option is a field of the config, under the same name.

argparse, and nothing heavier, so that `--help` answers at once; jax is imported after the arguments are parsed.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ncsim.config import (
    EXECUTORS,
    ConfigError,
    EnsembleConfig,
    allowed_values,
    config_grid,
    field_specs,
    option_name,
    swept_fields,
)
from ncsim.recording import SPACINGS, Recording
from ncsim.text.command import add_text_command

PROGRAM = "ncsim"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(message: str) -> NoReturn:
    """End the program with one line on standard error and exit status 2."""
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `ncsim` command."""
    parser = _parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [flag for flag in parsed.flags if flag.startswith("--")]
        close = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
        fail(f"{unknown[0]}: no such option; " + (f"did you mean {close[0]}?" if close else "see --help"))
    run_guarded(lambda: parsed.command(parsed))


def run_guarded(action: Any) -> None:
    """Run something and end as a command should: one line and status 2 for what the user can mend, 130 for Ctrl-C."""
    from ncsim.store import StoreError

    try:
        action()
        sys.stdout.flush()
    except (ConfigError, StoreError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; what is stored is whole, and the same command resumes", file=sys.stderr)
        # Calls that are still on the devices are nobody's any more: do not wait for them.
        os._exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Train very many small multi-task networks and measure the CHSH statistic S of what they get right.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    ensemble = commands.add_parser(
        "ensemble",
        help="train an ensemble, or a grid of them, into a run folder and report it",
        description="Train NCnets in all four contexts. An option with several values is an axis of a grid: "
        "--hidden 2 3 4 trains three ensembles.",
        allow_abbrev=False,
    )
    add_config_options(ensemble)
    ensemble.add_argument(
        "--out", metavar="FOLDER", help="run folder; one that holds this run is resumed (default: runs/ensemble-DIGITS)"
    )
    ensemble.add_argument("--devices", metavar="N", help="devices to use; on a CPU, cores (default: all)")
    ensemble.add_argument(
        "--executor",
        metavar="NAME",
        default="auto",
        help=f"what trains ({', '.join(EXECUTORS)}; default: auto, the fastest here; a stored run keeps its own)",
    )
    add_recording_options(ensemble)
    ensemble.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    ensemble.set_defaults(command=_ensemble, flags=list(ensemble._option_string_actions))

    add_text_command(commands)

    report = commands.add_parser(
        "report",
        help="print what a run folder holds; write summary.json, figures and report.html",
        description="Read a run folder, print its table and write summary.json, figures/ and report.html into it.",
        allow_abbrev=False,
    )
    report.add_argument("folder", metavar="FOLDER", help="a run folder, as runs/figure2")
    report.set_defaults(command=_report, flags=list(report._option_string_actions))
    return parser


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """One option a config field, each taking one or more values."""
    for name, spec in field_specs().items():
        if "help" not in spec:
            continue  # given in Python only
        default = getattr(EnsembleConfig(), name)
        shown = str(default).lower() if isinstance(default, bool) else default if default != "" else "none"
        bounds = allowed_values(name) if "choices" in spec or spec["type"] in (int, bool) else None
        text = f"{spec['help']} ({bounds}; default: {shown})" if bounds else f"{spec['help']} (default: {shown})"
        parser.add_argument(
            option_name(name),
            nargs="*" if spec["type"] is bool else "+",
            metavar={int: "N", float: "X", bool: "BOOL", str: "NAME"}[spec["type"]],
            help=text.replace("%", "%%"),
        )


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """When members are recorded as they train; not at all where none of the options is given."""
    parser.add_argument(
        "--record-points",
        metavar="N",
        help="record every member at about N steps of its training, into trajectories/ (default: no recording)",
    )
    parser.add_argument(
        "--record-spacing",
        metavar="NAME",
        help=f"how recorded steps lie ({', '.join(SPACINGS)}; default: linear, or every with --record-every)",
    )
    parser.add_argument("--record-every", metavar="K", help="record each K-th step")


def recording_of(parsed: argparse.Namespace, default: Recording | None = None) -> Recording | None:
    """The recording that the options ask for, else the default.

    Raises:
        ConfigError: a value that is not allowed.
    """
    given: dict[str, Any] = {"spacing": parsed.record_spacing}
    for name in ("points", "every"):
        word = getattr(parsed, f"record_{name}")
        if word is not None and not word.isdecimal():
            raise ConfigError(f"--record-{name}: {word}; allowed: a whole number, 1 or above")
        given[name] = None if word is None else int(word)
    given = {name: value for name, value in given.items() if value is not None}
    if "points" in given and "every" in given:
        raise ConfigError(f"--record-every: {given['every']} with --record-points; allowed: one of them")
    if "every" in given:
        given.setdefault("spacing", "every")
    return Recording(**given) if given else default


def configs_of(parsed: argparse.Namespace) -> list[EnsembleConfig]:
    """The grid that the options ask for.

    Raises:
        ConfigError: a value that is not allowed.
    """
    fields: dict[str, Any] = {}
    for name, spec in field_specs().items():
        words = getattr(parsed, name, None)
        if words is not None:
            fields[name] = [_value(name, spec["type"], word) for word in words or ["true"]]
    for name in ("members", "first_member"):
        if len(fields.get(name, ())) > 1:
            raise ConfigError(
                f"{option_name(name)}: {' '.join(map(str, fields[name]))}; allowed: one value for all cells"
            )
    return config_grid(**fields)


def _value(name: str, kind: type, word: str) -> Any:
    """One word of the command line as a field's type; what it does not fit is left for the config to refuse."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[word.lower()]
        if kind is int:
            return int(word.replace("_", "").replace(",", ""))
        return kind(word)
    except (KeyError, ValueError):
        raise ConfigError(f"{option_name(name)}: {word}; allowed: {allowed_values(name)}") from None


def device_count(word: str | None) -> int | None:
    """The --devices option as a number."""
    if word is None:
        return None
    if not word.isdecimal() or not 1 <= int(word) <= 4096:
        raise ConfigError(f"--devices: {word}; allowed: a whole number from 1 to 4096")
    return int(word)


def _ensemble(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices, recording = device_count(parsed.devices), recording_of(parsed)
    from ncsim.ensemble import run_ensemble
    from ncsim.progress import Progress
    from ncsim.store import run_digits

    folder = parsed.out or f"runs/ensemble-{run_digits(configs)}"
    progress = None if parsed.quiet else Progress()
    run = run_ensemble(
        configs, out=folder, devices=devices, progress=progress, executor=parsed.executor, recording=recording
    )
    _write_report(run, parsed.quiet)


def _report(parsed: argparse.Namespace) -> None:
    from ncsim.runs import open_run
    from ncsim.store import run_kind

    if run_kind(parsed.folder) == "text":
        from ncsim.text.command import report_text
        from ncsim.text.results import open_text_run

        report_text(open_text_run(parsed.folder))
        return
    _write_report(open_run(parsed.folder), quiet=False)


def _write_report(run: Any, quiet: bool) -> None:
    from ncsim.report import printed, write_report

    summary = write_report(run)
    if not quiet:
        print(printed(summary))
        print(f"\nStored in {run.path}: parts/, summary.json, report.html, figures/")


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version(PROGRAM)


if __name__ == "__main__":
    main()
