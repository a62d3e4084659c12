"""The command line: `ncsim ensemble`, `ncsim text` and `ncsim report`. An option is a field of the config, under the same name.

argparse, and nothing heavier, so that `--help` answers at once; jax is imported after the arguments are parsed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ncsim.cli.options import (
    add_audit_options,
    add_config_options,
    add_recording_options,
    add_worker_options,
    audit_of,
    configs_of,
    device_count,
    place_of,
    recording_of,
)
from ncsim.cli.text import add_text_command
from ncsim.config.ensemble import EXECUTORS, swept_fields
from ncsim.errors import ConfigError
from ncsim.terminal import PROGRAM

#: Characters of an error: what a user gave may be a whole file.
LONGEST_ERROR = 1_500


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(message: str) -> NoReturn:
    """End the program with one line on standard error and exit status 2."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    print(f"{PROGRAM}: error: {line if len(line) <= LONGEST_ERROR else line[:LONGEST_ERROR] + '...'}", file=sys.stderr)
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
    """Run something and end as a command should: one line and status 2 for what the user can mend, 130 for Ctrl-C, 143 for
    SIGTERM, and nothing lost by either."""
    from ncsim import signals
    from ncsim.errors import DeviceError, StoreError

    try:
        with signals.handled():
            action()
        sys.stdout.flush()
    except (ConfigError, StoreError, DeviceError) as error:
        fail(str(error))
    except (KeyboardInterrupt, signals.Stopped) as stopped:
        word = "terminated" if getattr(stopped, "status", 130) == 143 else "interrupted"
        print(
            f"\n{PROGRAM}: {word}; what is stored is whole, and the same command resumes", file=sys.stderr, flush=True
        )
        # Calls that are still on the devices are nobody's any more: do not wait for them.
        os._exit(getattr(stopped, "status", 130))
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
        "--out",
        metavar="FOLDER",
        help="run folder, or s3://... or gs://...; one that holds this run is resumed (default: runs/ensemble-DIGITS)",
    )
    ensemble.add_argument("--devices", metavar="N", help="devices to use; on a CPU, cores (default: all)")
    ensemble.add_argument(
        "--executor",
        metavar="NAME",
        default="auto",
        help=f"what trains ({', '.join(EXECUTORS)}; default: auto, the fastest here; a stored run keeps its own)",
    )
    add_recording_options(ensemble)
    add_worker_options(ensemble)
    add_audit_options(ensemble)
    ensemble.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    ensemble.set_defaults(command=_ensemble, flags=list(ensemble._option_string_actions))

    add_text_command(commands)

    plan = commands.add_parser(
        "plan",
        help="say what a run would take in time, memory and disk, from a short calibration",
        description="Forecast `ncsim ensemble` with the same options on this machine: a little of every program of the "
        "grid is trained and stored in a temporary folder. Nothing is kept.",
        allow_abbrev=False,
    )
    add_config_options(plan)
    plan.add_argument(
        "--out", metavar="FOLDER", help="run folder that the run would have; what it holds already is not counted"
    )
    plan.add_argument("--devices", metavar="N", help="devices to use; on a CPU, cores (default: all)")
    plan.add_argument("--executor", metavar="NAME", default="auto", help="as for ncsim ensemble (default: auto)")
    add_recording_options(plan)
    plan.add_argument("--json", action="store_true", help="print the forecast as JSON")
    plan.set_defaults(command=_plan, flags=list(plan._option_string_actions))

    report = commands.add_parser(
        "report",
        help="print what a run folder holds; write summary.json, figures and report.html",
        description="Read a run folder, print its table and write summary.json, figures/ and report.html into it.",
        allow_abbrev=False,
    )
    report.add_argument("folder", metavar="FOLDER", help="a run folder, as runs/figure2 or s3://bucket/figure2")
    report.add_argument(
        "--verify",
        action="store_true",
        help="read every file, name what is missing, torn or not of this run, and end with status 1 if anything is",
    )
    report.add_argument(
        "--repair", action="store_true", help="as --verify, move what is wrong into rejected/ and train what is missing"
    )
    add_audit_options(report)
    report.set_defaults(command=_report, flags=list(report._option_string_actions))
    return parser


def _ensemble(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices, recording = device_count(parsed.devices), recording_of(parsed)
    from ncsim.config.ensemble import run_digits
    from ncsim.ensemble.run import run_ensemble
    from ncsim.terminal import Progress

    share, seed = audit_of(parsed)
    shard, reports = place_of(parsed, devices)
    folder = parsed.out or f"runs/ensemble-{run_digits(configs)}"
    progress = None if parsed.quiet else Progress()
    run = run_ensemble(
        configs,
        out=folder,
        devices=devices,
        progress=progress,
        executor=parsed.executor,
        shard=shard,
        recording=recording,
    )
    if reports:
        _write_report(run, parsed.quiet)
        if share is not None:
            _audit(folder, share, seed, devices)
    elif not parsed.quiet:
        print(f"Everything is stored in {run.location}; its report: {PROGRAM} report {run.location}")


def _plan(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices, recording = device_count(parsed.devices), recording_of(parsed)
    from ncsim.planning.plan import forecast

    def say(text: str) -> None:
        print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

    found = forecast(configs, parsed.out, devices, parsed.executor, say, command=True, recording=recording)
    print(json.dumps(found.numbers(), indent=1) if parsed.json else "\n".join(found.lines()))


def _audit(folder: str, share: float, seed: int, devices: int | None) -> None:
    from ncsim.ensemble.audit import audit
    from ncsim.terminal import Progress

    found = audit(folder, share, seed, devices, Progress())
    print("\n".join(found.lines()))
    if not found.right:
        raise SystemExit(1)


def _report(parsed: argparse.Namespace) -> None:
    from ncsim.results import open_run
    from ncsim.storage.run_folder import run_kind

    share, seed = audit_of(parsed)
    kind = run_kind(parsed.folder)
    asked = next((name for name in ("audit", "repair", "verify") if getattr(parsed, name)), None)
    if kind == "text" and asked is not None:
        raise ConfigError(f"--{asked}: {parsed.folder} holds a text run; allowed: with a run of ncsim ensemble")
    if share is not None:
        if parsed.verify or parsed.repair:
            raise ConfigError("--audit: with --verify or --repair; allowed: one after the other")
        _audit(parsed.folder, share, seed, None)
        return
    if kind == "text":
        from ncsim.cli.text import report_text
        from ncsim.text.results import open_text_run

        report_text(open_text_run(parsed.folder))
        return
    if parsed.verify or parsed.repair:
        _verify(parsed.folder, parsed.repair)
        return
    _write_report(open_run(parsed.folder), quiet=False)


def _verify(folder: str, mend: bool) -> None:
    from ncsim.ensemble.run import run_ensemble
    from ncsim.storage.verify import repair, verify
    from ncsim.terminal import Progress

    found = (
        repair(folder, lambda configs: run_ensemble(configs, folder, progress=Progress())) if mend else verify(folder)
    )
    print("\n".join(found.lines()))
    if not found.right:
        if not mend:
            print(f"{PROGRAM} report --repair {folder} puts this right")
        raise SystemExit(1)


def _write_report(run: Any, quiet: bool) -> None:
    from ncsim.report.write import printed, write_report

    summary = write_report(run)
    if not quiet:
        print(printed(summary))
        print(f"\nStored in {run.location}: parts/, summary.json, report.html, figures/")


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version(PROGRAM)
