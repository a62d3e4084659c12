"""`ncsim entanglement`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import Any

from ncsim.config.fields import count
from ncsim.errors import ConfigError, StoreError, reason
from ncsim.formatting import json_text
from ncsim.terminal import output, telling


def add_entanglement_command(commands: Any) -> None:
    """Add `entanglement` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "entanglement",
        help="say of a text run's adapters how many directions they use, and where",
        description="Read the adapters of a text run and give the entanglement profile of each update as arXiv:2601.06788 defines "
        "it, with what its rank allows, what Gaussian factors have, and what random singular vectors with the same singular values have. "
        "Writes entanglement.json and figures/entanglement.* into the run's folder; the .csv has every cut.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="RUN", help="a run of ncsim text, as runs/text-mixed or s3://bucket/text-mixed"
    )
    parser.add_argument("--draws", metavar="N", help="of random singular vectors (2 to 1000; default: 3)")
    parser.add_argument("--seed", metavar="N", help="of these draws (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Print the profiles' table, and store the numbers and the figure in the run's folder."""
    draws = count("--draws", parsed.draws, 1_000, 2) or 3
    seed = count("--seed", parsed.seed, 2**31 - 1, 0) or 0
    from ncsim.storage.run_folder import run_kind

    if run_kind(parsed.folder) != "text":
        raise ConfigError(f"{parsed.folder}: holds no text run; allowed: a run of ncsim text")
    from ncsim.report.pictures import stored_figures
    from ncsim.text.profiles import adapter_profiles, recorded_profiles
    from ncsim.text.report.entanglement import plot_profiles, printed_profiles, summary_rows
    from ncsim.text.results import open_text_run

    run = open_text_run(parsed.folder)
    with telling("reading adapters and drawing their nulls"):
        found = list(adapter_profiles(run, draws, seed))
    rows = summary_rows(found)
    numbers = {"run": run.location, "draws": draws, "seed": seed, "adapters_missing": run.missing(), "rows": rows}
    try:
        run.storage.write("entanglement.json", json_text(numbers).encode())
        with stored_figures(run.storage) as drawn:
            plot_profiles(found, recorded_profiles(run), drawn / "entanglement")
    except OSError as error:
        raise StoreError(f"{run.location}: the figure cannot be written ({reason(error)})") from None
    where = f"\n\nStored in {run.location}: entanglement.json, figures/entanglement.png, .svg, .pdf, .csv"
    output(json_text(numbers) if parsed.json else printed_profiles(rows) + where)
