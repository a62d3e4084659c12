"""The command line: its entry, its frame and how it ends. Each command has a file of its own beside this one.

argparse, and nothing heavier, so that `--help` answers at once; jax is imported after the arguments are parsed.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ncsim
from ncsim.cli.completion import SHELLS, PrintCompletion
from ncsim.cli.ensemble import add_ensemble_command
from ncsim.cli.entanglement import add_entanglement_command
from ncsim.cli.export import add_export_command
from ncsim.cli.options import GONE
from ncsim.cli.plan import add_plan_command
from ncsim.cli.report import add_report_command
from ncsim.cli.reservoir import add_reservoir_command
from ncsim.cli.scenario import add_scenario_command
from ncsim.cli.separability import add_separability_command
from ncsim.cli.show import add_show_command
from ncsim.cli.table import add_table_command
from ncsim.cli.text import add_text_command
from ncsim.cli.words import add_words_command
from ncsim.config import fields
from ncsim.errors import ConfigError
from ncsim.machine import check_system
from ncsim.terminal import PROGRAM, fill_standard_streams, settle_standard_streams, write_line

#: Characters of an error: what a user gave may be a whole file.
LONGEST_ERROR = 1_500


#: What options and arguments are called that name a file or a folder.
PLACES = ("FOLDER", "FILE", "RUN", "STEM", "STUDY")


#: What argparse says of `--quiet=1`.
_SWITCH = re.compile(r"argument (.+): ignored explicit argument (.+)", re.DOTALL)


class _Once(argparse._StoreAction):
    """An option that is given once: argparse would take the last one and say nothing."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = namespace.__dict__.setdefault("given", set())
        if self.dest in given:
            several = "" if self.nargs is None else ", several values after one another"
            parser.error(f"{option_string}: given twice; allowed: once{several}")
        given.add(self.dest)
        if values == [] and self.nargs in (None, "+"):  # `--out=--`: argparse takes the two dashes away
            parser.error(f"{option_string or self.metavar}: no value; allowed: one{' or more' if self.nargs else ''}")
        if (
            "" in (values if isinstance(values, list) else [values]) and self.metavar in PLACES
        ):  # a shell's variable that is not set
            parser.error(f"{option_string or self.metavar}: ''; allowed: a name that is not empty")
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options are given once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register("action", None, _Once)
        for kind in (int, float):  # of experiments: int would read 1_0 as 10
            self.register("type", kind, lambda word, kind=kind: fields.parsed("", kind, word, ""))

    def error(self, message: str) -> NoReturn:
        if switch := _SWITCH.fullmatch(message):  # argparse says that what it refuses is ignored
            message = f"{switch[1]}: {switch[2]}; allowed: no value"
        fail(message)


def fail(message: str) -> NoReturn:
    """End the program with one line on standard error and exit status 2."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    line = line if len(line) <= LONGEST_ERROR else line[:LONGEST_ERROR] + "..."
    write_line(f"{PROGRAM}: error: {line}", sys.stderr)
    raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `ncsim` command."""
    fill_standard_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(arguments)
    try:
        parsed, unknown = parser.parse_known_args(arguments)
    except BrokenPipeError:
        return  # of --print-completion
    except ConfigError as error:
        fail(str(error))
    finally:
        settle_standard_streams()  # --help and --version have printed
    if unknown:
        if (name := unknown[0].split("=")[0]) in GONE:
            fail(f"{name}: {GONE[name]}")
        known = [flag for flag in parsed.flags if flag.startswith("--")]
        close = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
        fail(f"{unknown[0]}: no such option; " + (f"did you mean {close[0]}?" if close else "see --help"))
    run_guarded(lambda: parsed.command(parsed))


def run_guarded(action: Any) -> None:
    """Run something and end as a command should: one line and status 2 for what the user can mend, 130 for Ctrl-C, 143 for
    SIGTERM, and nothing lost by either."""
    from ncsim import signals
    from ncsim.errors import DeviceError, MissingExtra, StoreError

    def end(status: int) -> None:
        word = "terminated" if status == 143 else "interrupted"
        lost = f"; {signals.at_stake} is lost" if signals.at_stake else ""
        words = f"\n{PROGRAM}: {word}; what is stored is whole, and the same command resumes{lost}"
        write_line(words, sys.stderr)
        # Calls that are still on the devices are nobody's any more: do not wait for them.
        os._exit(status)

    fill_standard_streams()
    try:
        check_system()
        with signals.handled(end):
            action()
    except (ConfigError, StoreError, DeviceError, MissingExtra) as error:
        fail(str(error))
    except (KeyboardInterrupt, signals.Stopped) as stopped:
        end(getattr(stopped, "status", 130))
    except BrokenPipeError:
        pass  # the reader of our output has gone, as `head` does; that is no error of ours
    finally:
        settle_standard_streams()


#: Each adds itself, in the order of `--help`.
COMMANDS: dict[str, Callable[[Any], object]] = {
    "ensemble": add_ensemble_command,
    "scenario": add_scenario_command,
    "text": add_text_command,
    "plan": add_plan_command,
    "report": add_report_command,
    "show": add_show_command,
    "export": add_export_command,
    "table": add_table_command,
    "words": add_words_command,
    "reservoir": add_reservoir_command,
    "separability": add_separability_command,
    "entanglement": add_entanglement_command,
}


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Of the command that is asked for, which must be the first word; of all where none is. Options of all take five times as long."""
    parser = Parser(
        prog=PROGRAM,
        description="Train very many small multi-task networks and measure the CHSH statistic S of what they get right.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {ncsim.__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        metavar="SHELL",
        default=argparse.SUPPRESS,
        help=f"print the completion of this command for a shell ({', '.join(SHELLS)}), and end",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    asked = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, add in COMMANDS.items():
        if asked in (None, name):
            add(commands)
    return parser
