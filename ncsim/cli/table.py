"""`ncsim table`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.formatting import json_text
from ncsim.terminal import output


def add_table_command(commands: Any) -> None:
    """Add `table` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "table",
        help="say of any table of joint outcomes what is said of an ensemble",
        description="Read a CSV file of joint counts or probabilities of two parties: columns alice,bob,a,b,count (or "
        "probability), one row per cell, or alice,bob,++,+-,-+,--, one row per pair of settings. Print S, direct influence, "
        "Delta, contextuality and what chance could do.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="the table, as CSV; lines that begin with # are comments")
    parser.add_argument(
        "--alice", metavar="NAME", nargs="+", help="Alice's settings to use, in this order (default: all)"
    )
    parser.add_argument("--bob", metavar="NAME", nargs="+", help="Bob's settings to use, in this order (default: all)")
    parser.add_argument(
        "--same-items",
        action="store_true",
        help="all pairs of settings were asked of the same items: errors add up, and counts do not test whether accuracies are alike",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Print what a table says."""
    from ncsim.tables import describe, lines, read_table

    joint = read_table(parsed.file).chosen(parsed.alice, parsed.bob)
    found = describe(joint, parsed.same_items)
    output(json_text(found) if parsed.json else "\n".join(lines(joint, found)))
