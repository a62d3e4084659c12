"""Completion of the command line by a shell: a script that shtab makes of the parser. Nothing runs when a key is pressed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.config.ensemble import EXECUTORS, field_specs
from ncsim.config.recording import SPACINGS
from ncsim.terminal import output
from ncsim.text.config import TARGET_MODULES
from ncsim.text.config import field_specs as text_specs

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """--print-completion SHELL: print the script and end."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if values not in SHELLS:
            parser.error(f"--print-completion: {values}; allowed: {', '.join(SHELLS)}")
        try:
            import shtab
        except ImportError:
            parser.error(
                "--print-completion: shtab is not installed; allowed after: pip install '.[completion]' in a clone of this repository",
            )
        _describe(parser, shtab)
        output(shtab.complete(parser, values))
        parser.exit()


#: Arguments that are files, and those that are folders.
FILES = ("config", "file", "files", "suite")
FOLDERS = ("out", "folder", "folders", "hub", "model", "source_dir", "cache_dir")


def _describe(parser: argparse.ArgumentParser, shtab: Any, command: str = "") -> None:
    """Say what the words after each option may be: our own checks, which name what is allowed, leave that to no parser."""
    from ncsim.tracking.trackers import TRACKERS

    specs = text_specs() if command == "text" else field_specs()
    words = {name: spec["choices"] for name, spec in specs.items() if "choices" in spec}
    words |= {name: ("true", "false") for name, spec in specs.items() if spec["type"] is bool}
    words |= {
        "executor": EXECUTORS,
        "record_spacing": SPACINGS,
        "track": tuple(TRACKERS),
        "target_modules": TARGET_MODULES,
    }
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, of_command in action.choices.items():
                _describe(of_command, shtab, name)
        elif action.dest in words:
            action.choices = words[action.dest]
        elif action.dest in (*FILES, *FOLDERS):
            action.complete = shtab.FILE if action.dest in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
