"""`ncsim export`: a stored run as a folder for the Hugging Face hub. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.errors import ConfigError
from ncsim.formatting import counted
from ncsim.terminal import output, telling


def add_export_command(commands: Any) -> None:
    """Add `export` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a stored run as a folder for the Hugging Face hub",
        description="Write a stored run as a new folder that the Hugging Face hub, datasets.load_dataset and Croissant read: "
        "tables as Parquet, a card (README.md) and metadata; of a text run also its adapters for PEFT, each with a model card. Nothing "
        "is uploaded.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="RUN", help="a run of ncsim ensemble or ncsim text, as runs/figure2 or s3://bucket/figure2"
    )
    parser.add_argument("--hub", metavar="FOLDER", required=True, help="the folder to write, new or empty")
    parser.add_argument(
        "--base-model",
        metavar="ID",
        help="the backbone's id on the hub, as google-bert/bert-base-uncased; text runs need it, and others have none",
    )
    parser.add_argument(
        "--license", metavar="ID", help="licence as the hub calls it, as cc-by-4.0 (default: none is named)"
    )
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Write the folder and say what it holds."""
    from ncsim.storage.run_folder import run_kind

    text = run_kind(parsed.folder) == "text"
    if parsed.base_model is not None and not text:
        raise ConfigError(f"--base-model: {parsed.base_model}; {parsed.folder} holds no text run; allowed: with one")
    with telling(f"writing {parsed.hub}"):
        if text:
            from ncsim.text.export import export_text
            from ncsim.text.results import open_text_run

            made = export_text(open_text_run(parsed.folder), parsed.hub, parsed.base_model, parsed.license)
        else:
            from ncsim.hub.ensemble import export_run
            from ncsim.results import open_run

            made = export_run(open_run(parsed.folder), parsed.hub, parsed.license)
    tables = ", ".join(f"{table.name} ({counted(table.rows, 'row')})" for table in made.tables)
    output(
        f"{parsed.hub}: README.md, croissant.json, {tables}\nTo upload it: hf upload USER/NAME {parsed.hub} --repo-type dataset"
    )
