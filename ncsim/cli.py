"""The command line: `ncsim ensemble` and `ncsim report`. An option is a field of the config, under the same name.

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

PROGRAM = "ncsim"
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
    from ncsim.devices import DeviceError
    from ncsim.storage import StoreError

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
    ensemble.add_argument(
        "--shard",
        metavar="I/N",
        help="be one of N workers that share the folder, as 3/16: begin with that share, help with what is left, write no "
        "report (default: the only one)",
    )
    for flag, metavar, text in (
        ("--coordinator", "HOST:PORT", "where the processes meet, an address of process 0 (default: found by JAX"),
        ("--processes", "N", "how many there are (default: found"),
        ("--process", "I", "which this one is, from 0 (default: found"),
    ):
        text += " where SLURM, Open MPI or a TPU pod started them)"
        ensemble.add_argument(flag, metavar=metavar, help=f"of several processes that share the folder: {text}")
    ensemble.add_argument(
        "--distributed", action="store_true", help="be one of several processes, as JAX finds them in the environment"
    )
    add_audit_options(ensemble)
    ensemble.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    ensemble.set_defaults(command=_ensemble, flags=list(ensemble._option_string_actions))

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


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """--audit and --audit-seed."""
    parser.add_argument(
        "--audit",
        metavar="SHARE",
        help="train a random share of the members again, as 0.01, and end with status 1 if one is not as stored",
    )
    parser.add_argument("--audit-seed", metavar="N", help="seed of the choice of members (default: a new one, stated)")


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """One option a config field, each taking one or more values."""
    defaults = EnsembleConfig()
    for name, spec in field_specs().items():
        if "help" not in spec:
            continue  # given in Python only
        default = getattr(defaults, name)
        shown = str(default).lower() if isinstance(default, bool) else default if default != "" else "none"
        bounds = allowed_values(name) if "choices" in spec or spec["type"] in (int, bool) else None
        text = f"{spec['help']} ({bounds}; default: {shown})" if bounds else f"{spec['help']} (default: {shown})"
        parser.add_argument(
            option_name(name),
            nargs="*" if spec["type"] is bool else "+",
            metavar={int: "N", float: "X", bool: "BOOL", str: "NAME"}[spec["type"]],
            help=text.replace("%", "%%"),
        )


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
    devices = device_count(parsed.devices)
    from ncsim.ensemble import run_ensemble
    from ncsim.progress import Progress
    from ncsim.store import run_digits

    share, seed = audit_of(parsed)
    shard, reports = place_of(parsed, devices)
    folder = parsed.out or f"runs/ensemble-{run_digits(configs)}"
    progress = None if parsed.quiet else Progress()
    run = run_ensemble(configs, out=folder, devices=devices, progress=progress, executor=parsed.executor, shard=shard)
    if reports:
        _write_report(run, parsed.quiet)
        if share is not None:
            _audit(folder, share, seed, devices)
    elif not parsed.quiet:
        print(f"Everything is stored in {run.location}; its report: {PROGRAM} report {run.location}")


def place_of(parsed: argparse.Namespace, devices: int | None) -> tuple[tuple[int, int] | None, bool]:
    """Which of several workers this process is, None for the only one, and whether it is the one that writes the report.

    Raises:
        ConfigError: an option that is not allowed, or processes that do not find one another.
    """
    from ncsim.distributed import checked, join, launched_by
    from ncsim.workers import Shard

    given = checked(parsed.coordinator, parsed.processes, parsed.process)
    if parsed.shard is not None:
        if given[0] is not None or parsed.distributed:
            raise ConfigError("--shard: with --coordinator or --distributed; allowed: one of the two ways")
        return Shard.parse(parsed.shard), False
    if given[0] is None and not parsed.distributed and launched_by() is None:
        return None, True
    from ncsim.ensemble import prepare_jax

    prepare_jax(devices)
    shard = join(*given)
    return (shard if shard.of > 1 else None), shard.number == 1


def _plan(parsed: argparse.Namespace) -> None:
    configs = configs_of(parsed)
    swept_fields(configs)
    devices = device_count(parsed.devices)
    from ncsim.plan import forecast

    def say(text: str) -> None:
        print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

    found = forecast(configs, parsed.out, devices, parsed.executor, say)
    print(json.dumps(found.numbers(), indent=1) if parsed.json else "\n".join(found.lines()))


def audit_of(parsed: argparse.Namespace) -> tuple[float | None, int]:
    """The share of members to audit, None for no audit, and the seed of their choice.

    Raises:
        ConfigError: an option that is not allowed.
    """
    if parsed.audit is None and parsed.audit_seed is None:
        return None, 0
    from ncsim.audit import checked_seed, checked_share

    if parsed.audit is None:
        raise ConfigError("--audit-seed: without --audit; allowed: with --audit SHARE")
    return checked_share(parsed.audit), checked_seed(parsed.audit_seed)


def _audit(folder: str, share: float, seed: int, devices: int | None) -> None:
    from ncsim.audit import audit
    from ncsim.progress import Progress

    found = audit(folder, share, seed, devices, Progress())
    print("\n".join(found.lines()))
    if not found.right:
        raise SystemExit(1)


def _report(parsed: argparse.Namespace) -> None:
    from ncsim.runs import open_run

    share, seed = audit_of(parsed)
    if share is not None:
        if parsed.verify or parsed.repair:
            raise ConfigError("--audit: with --verify or --repair; allowed: one after the other")
        _audit(parsed.folder, share, seed, None)
        return
    if parsed.verify or parsed.repair:
        _verify(parsed.folder, parsed.repair)
        return
    _write_report(open_run(parsed.folder), quiet=False)


def _verify(folder: str, mend: bool) -> None:
    from ncsim.ensemble import run_ensemble
    from ncsim.progress import Progress
    from ncsim.verify import repair, verify

    found = (
        repair(folder, lambda configs: run_ensemble(configs, folder, progress=Progress())) if mend else verify(folder)
    )
    print("\n".join(found.lines()))
    if not found.right:
        if not mend:
            print(f"{PROGRAM} report --repair {folder} puts this right")
        raise SystemExit(1)


def _write_report(run: Any, quiet: bool) -> None:
    from ncsim.report import printed, write_report

    summary = write_report(run)
    if not quiet:
        print(printed(summary))
        print(f"\nStored in {run.location}: parts/, summary.json, report.html, figures/")


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version(PROGRAM)


if __name__ == "__main__":
    main()
