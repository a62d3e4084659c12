"""Completion of the command line by a shell: a script that shtab makes of the parser. Nothing runs when a key is pressed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.config.ensemble import EXECUTORS, field_specs
from ncsim.config.recording import SPACINGS
from ncsim.terminal import output

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


def _describe(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Say what the words after each option may be: our own checks, which name what is allowed, leave that to no parser."""
    words = {name: spec["choices"] for name, spec in field_specs().items() if "choices" in spec}
    words |= {"executor": EXECUTORS, "record_spacing": SPACINGS}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _describe(command, shtab)
        elif action.dest in words:
            action.choices = words[action.dest]
        elif action.dest in ("out", "config", "folder", "suite", "model"):
            action.complete = shtab.FILE if action.dest == "config" else shtab.DIRECTORY  # type: ignore[attr-defined]
