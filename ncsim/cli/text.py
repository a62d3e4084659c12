"""`ncsim text`: options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from typing import Any

from ncsim.cli.options import add_place_option, add_worker_options, kept_place, kept_report, place_of, share_stored
from ncsim.config import fields
from ncsim.config.fields import option_name
from ncsim.terminal import output
from ncsim.text.config import SEVERAL, TextConfig, field_specs, to_dict

#: Where data files are looked for when --source-dir is not given.
SOURCE_VARIABLE = "NCSIM_DATA"


def source_folder() -> str | None:
    """The folder that the environment names; an empty variable names none, and not the folder in which one is."""
    return os.environ.get(SOURCE_VARIABLE) or None


def add_text_command(commands: Any) -> argparse.ArgumentParser:
    """Add `text` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "text",
        help="train LoRA adapters on real text in all four contexts and report S (needs the extra text)",
        description="Train LoRA adapters of a frozen BERT, one per rank, seed and context of a suite of four tasks, many at "
        "once, and report S on training and test pairs. Killed and given again, the same command goes on where it was.",
        allow_abbrev=False,
    )
    defaults = TextConfig()
    for name, spec in field_specs().items():
        default = getattr(defaults, name)
        many: str | None
        if spec["type"] is tuple:
            words, many = SEVERAL[name], "+"
            shown = " ".join(map(str, default))
        else:
            words, many = fields.allowed_values(spec), "?" if spec["type"] is bool else None
            shown = fields.spelled(default)
        bounds = "" if spec["type"] is str and "choices" not in spec else f"{words}; "
        parser.add_argument(
            option_name(name),
            nargs=many,
            const="true" if many == "?" else None,
            metavar={int: "N", float: "X", bool: "BOOL", str: "NAME"}[
                type(default[0]) if many == "+" else spec["type"]
            ],
            help=f"{spec['help']} ({bounds}default: {shown})".replace("%", "%%"),
        )
    parser.add_argument(
        "--source-dir",
        metavar="FOLDER",
        default=source_folder(),
        help=f"data files that are on disk (default: ${SOURCE_VARIABLE}; without it they are downloaded from their official "
        "addresses)",
    )
    parser.add_argument(
        "--cache-dir", metavar="FOLDER", help="where prepared data is kept (default: ~/.cache/ncsim/text)"
    )
    add_place_option(parser, "text")
    parser.add_argument("--devices", metavar="N", help="devices to use (default: all accelerators, or the CPU as one)")
    parser.add_argument(
        "--at-once", metavar="N", help="adapters trained at once (default: what is fast and fits memory)"
    )
    add_worker_options(parser, "groups of adapters", distributed=False)
    parser.add_argument("--quiet", action="store_true", help="no progress, no report on the terminal")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))
    return parser


def config_of(parsed: argparse.Namespace) -> TextConfig:
    """The config that the options ask for.

    Raises:
        ConfigError: a value that is not allowed.
    """
    values: dict[str, Any] = {}
    for name, spec in field_specs().items():
        words = getattr(parsed, name)
        if words is not None:
            values[name] = (
                tuple(_value(name, spec, word) for word in words)
                if spec["type"] is tuple
                else _value(name, spec, words)
            )
    return TextConfig(**values)


def _value(name: str, spec: Any, word: str) -> Any:
    if name == "ranks":
        return fields.parsed(name, int, word, SEVERAL[name], several=True)
    if spec["type"] is tuple:
        return word
    return fields.parsed(name, spec["type"], word, fields.allowed_values(spec))


def run_command(parsed: argparse.Namespace) -> None:
    """Train, store and report."""
    config = config_of(parsed)
    devices, at_once = fields.count("--devices", parsed.devices), fields.count("--at-once", parsed.at_once)
    shard = place_of(parsed, devices)
    digits = hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:8]
    folder = kept_place(parsed.out or f"runs/text-{digits}")
    from ncsim.text.run import run_text

    progress = None if parsed.quiet else text_progress()
    run = run_text(
        config, folder, source_dir=parsed.source_dir, cache_dir=parsed.cache_dir, devices=devices, at_once=at_once,
        progress=progress, shard=shard, pool=parsed.cluster,
    )  # fmt: skip
    if shard is None or not (missing := run.missing()):
        report_text(run, parsed.quiet)
    elif not parsed.quiet:
        output(share_stored(shard, run.location, missing, "adapter"))


def text_progress() -> Any:
    """The progress of a text run on the terminal."""
    from ncsim.terminal import Progress

    return Progress(things="adapters", work="items")


def report_text(run: Any, quiet: bool = False) -> None:
    """Write a text run's report and print it."""
    from ncsim.text.report.summary import summarise_text
    from ncsim.text.report.write import printed_text, store_text_report

    summary = summarise_text(run)
    where = f"\n\nStored in {run.location}: parts/, adapters/, summary.json, report.html, figures/"
    where = kept_report(lambda: store_text_report(run, summary), where, quiet)
    if not quiet:
        output(printed_text(summary.numbers) + where)
