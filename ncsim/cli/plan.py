"""`ncsim plan`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.cli.options import (
    add_config_options,
    add_devices_option,
    add_recording_options,
    add_until_option,
    check_executor_word,
    configs_of,
    device_count,
    kept_place,
    recording_of,
    until_of,
)
from ncsim.cli.settings import OF_ENSEMBLE, add_settings_options, settings_text, settled
from ncsim.config.ensemble import swept_fields
from ncsim.formatting import counted, json_text
from ncsim.terminal import output, say, telling


def add_plan_command(commands: Any) -> None:
    """Add `plan` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what a run would take in time, memory and disk, from a short calibration",
        description="Forecast `ncsim ensemble` with the same options on this machine: a little of every program of the "
        "grid is trained and stored in a temporary folder. Nothing is kept.",
        allow_abbrev=False,
    )
    add_config_options(parser)
    parser.add_argument(
        "--out", metavar="FOLDER", help="run folder that the run would have; what it holds already is not counted"
    )
    add_devices_option(parser)
    parser.add_argument("--executor", metavar="NAME", default="auto", help="as for ncsim ensemble (default: auto)")
    add_recording_options(parser)
    add_until_option(parser)
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print the forecast as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Forecast a run and print what it would take."""
    with settled(parsed, aside=OF_ENSEMBLE):
        _forecast(parsed)


def _forecast(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices, recording = device_count(parsed.devices), recording_of(parsed)
    until = until_of(parsed, configs)
    check_executor_word(parsed.executor)
    if parsed.out is not None:
        kept_place(parsed.out)
    if parsed.print_config:
        output(settings_text(parsed, configs))
        return
    from ncsim.planning.plan import forecast

    with telling("calibrating"):
        found = forecast(configs, parsed.out, devices, parsed.executor, say, command=True, recording=recording)
    at_most = [
        f"With --until {until} it may end sooner: this is for all {counted(configs[0].members, 'member')} per cell."
    ]
    lines = found.lines() + (at_most if until else [])
    output(json_text(found.numbers()) if parsed.json else "\n".join(lines))
