"""`ncsim report`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ncsim.cli.options import add_audit_options, audit_of, kept_report
from ncsim.cli.text import report_text, source_folder, text_progress
from ncsim.config.ensemble import refusal
from ncsim.errors import ConfigError, report_command
from ncsim.formatting import counted
from ncsim.machine import cores
from ncsim.terminal import output, say, telling

#: Members from which on figures are drawn by processes of their own.
MANY = 2**16
#: New objects after which Python looks for cycles while a report is made.
NEW_OBJECTS = 50_000


def add_report_command(commands: Any) -> None:
    """Add `report` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="print what a run folder holds; write summary.json, figures and report.html",
        description="Read a run folder, print its table and write summary.json, figures/ and report.html into it. Several run "
        "folders are one study: members of the same cell are added up.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="+",
        help="a run folder, as runs/figure2 or s3://bucket/figure2; several: a study",
    )
    parser.add_argument(
        "--out", metavar="STUDY", help="of several folders, the folder for summary.json, figures/ and report.html"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read every file, name what is missing, torn or not of this run, and end with status 1 if anything is",
    )
    parser.add_argument(
        "--repair", action="store_true", help="as --verify, move what is wrong into rejected/ and train what is missing"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="while the run trains, write report.html anew as members are stored; ends with the run, or with Ctrl-C",
    )
    add_audit_options(parser)
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Print a stored run and write its report; or verify, repair or audit it."""
    from ncsim.results import open_run
    from ncsim.storage.run_folder import run_kind

    share, seed = audit_of(parsed)
    if len(parsed.folders) > 1:
        _report_study(parsed, share)
        return
    if parsed.out is not None:
        raise ConfigError("--out: with one folder, which has its report; allowed: with several")
    parsed.folder = parsed.folders[0]
    kind = run_kind(parsed.folder)
    asked = next((name for name in ("audit", "repair", "verify", "watch") if getattr(parsed, name)), None)
    if parsed.verify and parsed.repair:
        raise ConfigError("--verify: with --repair, which verifies too; allowed: one of the two")
    if kind in ("text", "scenario") and parsed.watch:
        raise ConfigError(f"--watch: {parsed.folder} holds a {kind} run; allowed: with a run of ncsim ensemble")
    if parsed.watch and (parsed.verify or parsed.repair or share is not None):
        raise ConfigError(f"--watch: with --{asked}; allowed: one after the other")
    if share is not None:
        if parsed.verify or parsed.repair:
            raise ConfigError("--audit: with --verify or --repair; allowed: one after the other")
        if kind == "text":
            from ncsim.text.audit import audit_text

            _say_found(audit_text(parsed.folder, share, seed, source_folder(), progress=text_progress()))
        else:
            audit_run(parsed.folder, share, seed, None)
        return
    if parsed.verify or parsed.repair:
        _verify(parsed.folder, kind, parsed.repair)
        return
    if kind == "scenario":
        from ncsim.cli.scenario import report_scenario
        from ncsim.scenarios import open_scenario

        report_scenario(open_scenario(parsed.folder))
        return
    if kind == "text":
        from ncsim.text.results import open_text_run

        report_text(open_text_run(parsed.folder))
        return
    run = _watched(parsed, lambda: open_run(parsed.folder)) if parsed.watch else open_run(parsed.folder)
    refused = next(filter(None, map(refusal, run.configs)), None)
    if refused is not None:
        say(f"no new run may be as this one ({refused})")
    report_run(run, quiet=False)


def _report_study(parsed: argparse.Namespace, share: float | None) -> None:
    from ncsim.storage.run_folder import run_kind
    from ncsim.study import Study

    asked = [name for name in ("verify", "repair") if getattr(parsed, name)] + (["audit"] if share is not None else [])
    if asked:
        raise ConfigError(f"--{asked[0]}: with {len(parsed.folders)} folders; allowed: with one")
    for folder in parsed.folders:
        if (kind := run_kind(folder)) in ("text", "scenario"):
            raise ConfigError(f"FOLDER: {folder} holds a {kind} run; allowed among several: runs of ncsim ensemble")
    if parsed.watch and parsed.out is None:
        raise ConfigError(f"--watch: with {len(parsed.folders)} folders and no --out; allowed: with --out STUDY")
    opened = functools.partial(Study, parsed.folders, parsed.out)
    report_run(_watched(parsed, opened) if parsed.watch else opened(), quiet=False)


def _watched(parsed: argparse.Namespace, opened: Callable[[], Any]) -> Any:
    """The run, once it is complete; until then its page is written."""
    from ncsim.report.watch import watch

    place = f"{str(parsed.out or parsed.folder).rstrip('/')}/report.html"

    def written(missing: int, unrecorded: int) -> None:
        # A run with --until has none missing between two of its stages.
        left = (
            f"{counted(missing, 'member is', 'members are')} still to be trained"
            if missing
            else "all members are stored so far"
        )
        if unrecorded:
            left += f", {counted(unrecorded, 'is', 'are')} still to be recorded"
        say(f"{place}: {left}")

    return watch(parsed.folders, opened, written)


def _verify(folder: str, kind: str | None, mend: bool) -> None:
    from ncsim.storage.verify import repair, verify

    look: Callable[[Any], Any] = verify
    if kind == "text":
        from ncsim.text.verify import verify_text

        look = verify_text
    with telling(f"reading every file of {folder}"):
        found = repair(folder, functools.partial(_train, folder, kind), look=look) if mend else look(folder)
    _say_found(found, None if mend else f"{report_command('--repair', folder)} puts this right")


def _train(folder: str, kind: str | None, configs: Sequence[Any]) -> None:
    """Train what a folder lacks."""
    if kind == "text":
        from ncsim.text.run import run_text

        run_text(configs[0], folder, source_folder(), progress=text_progress())
        return
    from ncsim.ensemble.run import run_ensemble
    from ncsim.ensemble.scenarios import run_scenario
    from ncsim.terminal import Progress

    train: Callable[..., Any] = run_scenario if kind == "scenario" else run_ensemble
    train(configs, folder, progress=Progress())


def _say_found(found: Any, remedy: str | None = None) -> None:
    """Print what was found, and what puts it right; status 1 if something is wrong."""
    output("\n".join(found.lines()))
    if not found.right:
        if remedy is not None:
            output(remedy)
        raise SystemExit(1)


def audit_run(folder: str, share: float, seed: int, devices: int | None) -> None:
    """Train a share of a stored run's members again and print what was found; status 1 if one is not as stored."""
    from ncsim.ensemble.audit import audit
    from ncsim.terminal import Progress

    _say_found(audit(folder, share, seed, devices, Progress()))


def _load(*modules: str) -> None:
    with contextlib.suppress(Exception):  # whoever needs it is told
        for module in modules:
            importlib.import_module(module)


def report_run(run: Any, quiet: bool) -> None:
    """Write the report of an ensemble's run and print it."""
    from ncsim.report.drawing import Drawer, draw
    from ncsim.report.summary import summarise
    from ncsim.study import Study

    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    # Members are read and put in order outside of Python: what is needed afterwards is loaded beside that, figures for a third of a second.
    many = run.storage is not None and cores() > 1 and sum(config.members for config in run.configs) >= MANY
    later = ("ncsim.report.write", "jinja2")
    # No daemon: a process must not end in the middle of an import.
    threading.Thread(target=_load, args=later if many else ("ncsim.report.figures", *later)).start()
    held = "" if isinstance(run, Study) else "parts/, "
    where = f"\n\nStored in {run.location}: {held}summary.json, report.html, figures/" if run.location else ""
    name = f"{len(run.locations)} runs" if isinstance(run, Study) else run.location
    with Drawer() if many else contextlib.nullcontext() as drawer, telling(None if quiet else f"reporting {name}"):
        summary = summarise(run)
        from ncsim.report.write import printed, store_report

        if run.storage is not None:
            by = draw if drawer is None else drawer.draw
            where = kept_report(lambda: store_report(run, summary, draw=by), where, quiet)
    if not quiet:
        output(printed(summary) + where)
