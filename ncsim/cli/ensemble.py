"""`ncsim ensemble`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.cli.options import (
    add_audit_options,
    add_config_options,
    add_executor_options,
    add_place_option,
    add_recording_options,
    add_until_option,
    add_worker_options,
    audit_of,
    check_executor_word,
    configs_of,
    device_count,
    kept_place,
    place_of,
    recording_of,
    share_stored,
    until_of,
)
from ncsim.cli.report import audit_run, report_run
from ncsim.cli.settings import add_settings_options, settings_text, settled
from ncsim.config.ensemble import swept_fields
from ncsim.errors import ConfigError
from ncsim.terminal import PROGRAM, output

#: How a run of several shards is audited: no one of them knows when the last has ended.
_LATER = f"allowed: when the run is stored, {PROGRAM} report FOLDER --audit SHARE"


def add_ensemble_command(commands: Any) -> None:
    """Add `ensemble` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ensemble",
        help="train an ensemble, or a grid of them, into a run folder and report it",
        description="Train NCnets in all four contexts. An option with several values is an axis of a grid: "
        "--hidden 2 3 4 trains three ensembles.",
        allow_abbrev=False,
    )
    add_config_options(parser)
    add_settings_options(parser)
    add_place_option(parser, "ensemble")
    add_executor_options(parser)
    add_recording_options(parser)
    add_until_option(parser)
    parser.add_argument(
        "--track",
        metavar="NAME",
        help="log the numbers of each cell to a tracker of experiments while it trains (trackio, wandb, mlflow, or with a project, "
        "as wandb:widths; default: none)",
    )
    add_worker_options(parser)
    add_audit_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Train, store and report."""
    with settled(parsed):
        _run(parsed)


def _run(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices, recording = device_count(parsed.devices), recording_of(parsed)
    until_of(parsed, configs)
    share, seed = _checked_words(parsed)
    if parsed.print_config:
        output(settings_text(parsed, configs))
        return
    from ncsim.config.ensemble import run_digits
    from ncsim.ensemble.run import run_ensemble
    from ncsim.terminal import Progress
    from ncsim.tracking.trackers import tracker

    listeners = [tracker(parsed.track)] if parsed.track is not None else []
    shard = place_of(parsed, devices)
    if share is not None and shard is not None:
        raise ConfigError(f"--audit: as one of {shard.of} processes; {_LATER}")
    folder = kept_place(parsed.out or f"runs/ensemble-{run_digits(configs)}")
    progress = None if parsed.quiet else Progress()
    run = run_ensemble(
        configs,
        out=folder,
        devices=devices,
        progress=progress,
        executor=parsed.executor,
        shard=shard,
        recording=recording,
        pool=parsed.cluster,
        until=parsed.until,
        listeners=listeners,
    )
    if shard is None or not (missing := run.missing()):
        report_run(run, parsed.quiet)
        if share is not None:
            audit_run(folder, share, seed, devices)
    elif not parsed.quiet:
        output(share_stored(shard, run.location, missing, asked=parsed.shard is not None))


def _checked_words(parsed: argparse.Namespace) -> tuple[float | None, int]:
    """The share of an audit and its seed, as `audit_of`. What --print-config prints is checked as what is trained."""
    from ncsim.cluster.shards import Shard
    from ncsim.tracking.trackers import name_and_project

    check_executor_word(parsed.executor)
    if parsed.track is not None:
        name_and_project(parsed.track)
    if parsed.shard is not None:
        Shard.parse(parsed.shard)
    share, seed = audit_of(parsed)
    if share is not None and parsed.shard is not None:
        raise ConfigError(f"--audit: with --shard; {_LATER}")
    return share, seed
