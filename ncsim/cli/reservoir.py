"""`ncsim reservoir`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from ncsim.cli.options import add_devices_option, device_count
from ncsim.config.ensemble import EnsembleConfig, allowed_values, field_specs
from ncsim.config.fields import allowed_values as allowed
from ncsim.config.fields import option_name
from ncsim.config.fields import parsed as parsed_word
from ncsim.config.tasks import context_names
from ncsim.ensemble.reservoir import OPTIONS, USED
from ncsim.formatting import json_text, table
from ncsim.terminal import output

if TYPE_CHECKING:
    from ncsim.ensemble.reservoir import Reservoir

_LETTERS = {int: "N", float: "X", str: "NAME"}


def add_reservoir_command(commands: Any) -> None:
    """Add `reservoir` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reservoir",
        help="networks that exchange hidden units with a reservoir: width as an outcome, and S at a price per unit",
        description="Sample networks with weight z^n / n! exp(-beta L) in every context, z = exp(beta mu), by birth, death and moves of "
        "units. Print the mean width by two routes, what is solved, and S at each chemical potential; where the routes do not agree, no "
        "number. Minutes on two cores at the defaults.",
        allow_abbrev=False,
    )
    for name, spec in OPTIONS.items():
        parser.add_argument(
            option_name(name),
            metavar=_LETTERS[spec.metadata["type"]],
            nargs="+" if name == "chemical_potential" else None,
            help=f"{spec.metadata['help']} ({allowed(spec.metadata)}; default: {spec.default})",
        )
    for name in (name for name in USED if "help" in field_specs()[name]):
        words = "seed of the chains" if name == "root_seed" else field_specs()[name]["help"]
        text = f"{words} ({allowed_values(name)}; default: {getattr(EnsembleConfig(), name)})"
        parser.add_argument(option_name(name), metavar=_LETTERS[field_specs()[name]["type"]], help=text)
    add_devices_option(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Sample, and print both routes."""
    from ncsim.ensemble.reservoir import reservoir

    asked: dict[str, Any] = {}
    for name, spec in OPTIONS.items():
        words = getattr(parsed, name)
        if words is not None:
            kind, may = spec.metadata["type"], allowed(spec.metadata)
            several = not isinstance(words, str)
            one = [parsed_word(name, kind, word, may, several) for word in (words if several else [words])]
            asked[name] = one if several else one[0]
    fields = {}
    for name in USED:
        if getattr(parsed, name, None) is not None:
            fields[name] = parsed_word(name, field_specs()[name]["type"], getattr(parsed, name), allowed_values(name))
    found = reservoir(**asked, config=EnsembleConfig(**fields), devices=device_count(parsed.devices))
    output(json_text(described(found)) if parsed.json else "\n".join(lines(found)))


def described(found: Reservoir) -> dict[str, Any]:
    """The numbers, as JSON can hold them; null where routes do not agree."""
    routes, solved, s = found.routes(), found.solved_share(), found.s()
    cells = []
    for place, mu in enumerate(found.chemical_potential.tolist()):
        good = all(not route.problem for route in routes[place])
        contexts = {}
        for number, name in enumerate(context_names()):
            route = routes[place][number]
            contexts[name] = {
                "mean_width": None if route.problem else route.chains._asdict(),
                "solved": None if route.problem else solved[place][number]._asdict(),
                "by_chains": route.chains.value,
                "by_fixed_widths": route.canonical._asdict(),
                "empty_less_full": route.starts,
                "problem": route.problem,
            }
        cells.append({"chemical_potential": mu, "contexts": contexts, "mean_s": s[place]._asdict() if good else None})
    free, error = (
        {name: each.tolist() for name, each in zip(context_names(), values, strict=True)}
        for values in (found.free_energy(), found.free_energy_error())
    )
    return {
        "inverse_temperature": found.inverse_temperature,
        "beta_free_energy": free,
        "beta_free_energy_error": error,
        "cells": cells,
    }


def lines(found: Reservoir) -> list[str]:
    """The numbers in words."""
    routes, solved, s = found.routes(), found.solved_share(), found.s()
    rows, said, prices = [], [], []
    for place, mu in enumerate(found.chemical_potential.tolist()):
        for number, name in enumerate(context_names()):
            route = routes[place][number]
            good = not route.problem
            shown = str(route.chains) if good else "no number"
            fixed = str(route.canonical) if math.isfinite(route.canonical.value) else "no number"
            rows.append([f"{mu:g}", name, shown, fixed, str(solved[place][number]) if good else "no number"])
            if not good:
                said.append(f"  mu {mu:g}, context {name}: {route.problem}")
        good = all(not route.problem for route in routes[place])
        prices.append([f"{mu:g}", str(s[place]) if good else "no number"])
    advice = ["", *said, "  More steps, or several --temperatures, may bring the routes together."] if said else []
    return [
        f"inverse temperature {found.inverse_temperature:g}, {found.width.shape[2]:,} chains, at most {found.width.shape[3] - 1} units",
        "",
        *table(["mu", "context", "mean width", "by fixed widths", "solved"], rows),
        "",
        *table(["mu", "mean S"], prices),
        *advice,
    ]
