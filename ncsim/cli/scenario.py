"""`ncsim scenario`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from ncsim.cli.options import (
    add_config_options,
    add_executor_options,
    add_place_option,
    add_worker_options,
    check_executor_word,
    configs_of,
    device_count,
    kept_place,
    kept_report,
    place_of,
    share_stored,
)
from ncsim.cli.settings import add_settings_options, settings_text, settled
from ncsim.config.ensemble import run_digits, swept_fields
from ncsim.config.fields import count
from ncsim.config.scenarios import MAX_SETTINGS, ScenarioTasks, chained_tasks, three_party_tasks
from ncsim.config.tasks import PAPER_TASKS, Tasks
from ncsim.errors import ConfigError
from ncsim.formatting import json_text
from ncsim.terminal import output, telling

if TYPE_CHECKING:
    from ncsim.scenarios import ScenarioRun


def add_scenario_command(commands: Any) -> None:
    """Add `scenario` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "scenario",
        help="train with more than two tasks per party, or three parties, and report chained and three-party inequalities",
        description="Train one network per context of a scenario: --settings M gives two parties M tasks each in the 2 M "
        "contexts of the chained inequality, --parties 3 gives three parties two tasks each in all eight contexts "
        "(Mermin, Svetlichny), and --config FILE with a [tasks] table of inputs, answers and contexts gives any other.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--settings",
        metavar="M",
        help=f"tasks of each of two parties, 2 to {MAX_SETTINGS} (default: 3, or own tasks)",
    )
    parser.add_argument("--parties", metavar="K", help="2, or 3 with two tasks each (default: 2)")
    parser.add_argument(
        "--shared-bit",
        action="store_true",
        help="with --parties 3: one bit of each party and one in common, 16 rows, in place of two of each, 64 rows",
    )
    add_config_options(parser)
    add_settings_options(parser)
    add_place_option(parser, "scenario")
    add_executor_options(parser)
    add_worker_options(parser, distributed=False)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Train, store and report."""
    with settled(parsed):
        _run(parsed)


def _run(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    tasks = _tasks(parsed, configs[0].tasks)
    configs = [dataclasses.replace(config, tasks=tasks) for config in configs]
    swept_fields(configs)
    devices = device_count(parsed.devices)
    check_executor_word(parsed.executor)
    shard = place_of(parsed, devices)
    if parsed.print_config:
        parsed.settings = parsed.parties = None  # the tasks say it
        parsed.shared_bit = False
        output(settings_text(parsed, configs))
        return
    from ncsim.ensemble.scenarios import run_scenario
    from ncsim.terminal import Progress

    folder = kept_place(parsed.out or f"runs/scenario-{run_digits(configs)}")
    progress = None if parsed.quiet or parsed.json else Progress()
    run = run_scenario(
        configs,
        folder,
        devices=devices,
        progress=progress,
        executor=parsed.executor,
        shard=None if shard is None else (shard.number, shard.of),
        pool=parsed.cluster,
    )
    if shard is None or not (missing := run.missing()):
        report_scenario(run, parsed.quiet, parsed.json)
    elif not parsed.quiet:
        output(share_stored(shard, run.location, missing))


def _tasks(parsed: argparse.Namespace, own: Tasks) -> ScenarioTasks:
    """The scenario that the options name, or that a file has.

    Raises:
        ConfigError: two are asked for, or a number that is not allowed.
    """
    settings = count("--settings", parsed.settings, MAX_SETTINGS, smallest=2)
    parties = count("--parties", parsed.parties, 3, smallest=2)
    if own != PAPER_TASKS or "tasks" in parsed.of_file:
        if settings is not None or parties is not None or parsed.shared_bit:
            raise ConfigError("--settings: with own tasks of --config; allowed: one of the two")
        if not isinstance(own, ScenarioTasks):
            raise ConfigError(f"--tasks: {own.name}; allowed here: a table with inputs, answers and contexts")
        return own
    if parties == 3:
        if settings not in (None, 2):
            raise ConfigError(f"--settings: {settings} with --parties 3; allowed: 2, or own tasks of --config")
        return three_party_tasks(parsed.shared_bit)
    if parsed.shared_bit:
        raise ConfigError("--shared-bit: with two parties; allowed: with --parties 3")
    return chained_tasks(3 if settings is None else settings)


def report_scenario(run: ScenarioRun, quiet: bool = False, as_json: bool = False) -> None:
    """Write the report of a scenario's run and print it."""
    from ncsim.report.scenarios import scenario_lines, store_scenario, summarise_scenario

    where = f"\n\nStored in {run.location}: parts/, summary.json, figures/" if run.location else ""
    with telling(None if quiet or as_json else f"reporting {run.location}"):
        summary = summarise_scenario(run)
        if run.storage is not None:
            where = kept_report(lambda: store_scenario(run, summary), where, quiet)
    if as_json:
        output(json_text(summary))
    elif not quiet:
        output("\n".join(scenario_lines(summary)) + where)
