"""`ncsim separability`: its options, and what they start. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ncsim.cli.options import add_config_options, add_devices_option, configs_of, device_count
from ncsim.cli.settings import add_settings_options, settings_text, settled
from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import count, of_commas, shown_word
from ncsim.config.fields import parsed as parsed_word
from ncsim.config.tasks import context_names
from ncsim.errors import ConfigError
from ncsim.formatting import counted, json_text, table
from ncsim.terminal import output, telling

if TYPE_CHECKING:
    import numpy as np

    from ncsim.ensemble.separability import ForeignShare

MOST_STEPS = 10**9
#: What `checked_ridge` takes, in its words.
RIDGES = "a number above 1e-10 and below 1e+06"


def add_separability_command(commands: Any) -> None:
    """Add `separability` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "separability",
        help="how much of each head is the other's doing, by twins, and how far functions are from products",
        description="Train members and, per parameter of a head, two twins that start a hair apart, in float64. Print per context and "
        "step: the share of what a head remembers that is of the other head's start, the entropy of each head's function, and what the "
        "tangent kernel couples, as means over members. 10,000 members take four minutes on two cores, --members 200 a few seconds.",
        allow_abbrev=False,
    )
    add_config_options(parser)
    add_settings_options(parser)
    parser.add_argument(
        "--at",
        metavar="STEP",
        nargs="+",
        help="optimiser steps after which to look, ascending (default: 0 and --steps)",
    )
    parser.add_argument(
        "--contexts",
        metavar="IJ",
        nargs="+",
        default=list(context_names()),
        help=f"contexts to train (default: {' '.join(context_names())})",
    )
    parser.add_argument(
        "--ridge",
        metavar="X",
        help="print what curvature lets heads share, too, with this ridge, on which it depends much (default: none)",
    )
    add_devices_option(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Train with twins, and print what heads have of each other."""
    with settled(parsed):
        _run(parsed)


def _run(parsed: argparse.Namespace) -> None:
    config = _config(parsed)
    steps = [0, config.steps] if parsed.at is None else _ascending(parsed.at)
    _check_contexts(parsed.contexts)
    ridge = None if parsed.ridge is None else parsed_word("ridge", float, parsed.ridge, RIDGES)
    devices = device_count(parsed.devices)
    if parsed.print_config:
        output(settings_text(parsed, [config]))
        return
    from ncsim.ensemble.separability import checked_ridge, foreign_share

    if ridge is not None:
        checked_ridge(ridge, "--ridge")
    with telling(None if parsed.json else "training members and their twins"):
        rows = described(foreign_share(config, steps, parsed.contexts, devices), ridge)
    if parsed.json:
        output(json_text({"members": config.members, "ridge": ridge, "rows": rows}))
    else:
        output("\n".join(lines(config, rows, ridge)))


def _config(parsed: argparse.Namespace) -> EnsembleConfig:
    """The one config that the options say, in float64 unless they say otherwise."""
    configs = configs_of(parsed)
    if len(configs) > 1:
        raise ConfigError(f"a grid of {len(configs)} cells; allowed here: one value per option")
    if parsed.precision is None and "precision" not in parsed.of_file:
        return dataclasses.replace(configs[0], precision="float64")
    return configs[0]


def _ascending(words: Sequence[str]) -> list[int]:
    for word in words:
        if "," in word:
            raise ConfigError(f"--at: {shown_word(word)}; allowed: ascending whole numbers{of_commas(word)}")
    steps = [count("--at", word, MOST_STEPS, smallest=0) or 0 for word in words]
    if any(later <= step for step, later in itertools.pairwise(steps)):
        raise ConfigError(f"--at: {' '.join(words)}; allowed: ascending whole numbers from 0 to {MOST_STEPS:,}")
    return steps


def _check_contexts(words: Sequence[str]) -> None:
    if not set(words) <= set(context_names()) or len(set(words)) < len(words):
        given = " ".join(map(shown_word, words))
        raise ConfigError(f"--contexts: {given}; allowed: {', '.join(context_names())}, each once{of_commas(given)}")


def described(found: ForeignShare, ridge: float | None) -> list[dict[str, Any]]:
    """A row per context and step: means over members that have a value, as JSON can hold them."""
    import numpy as np

    from ncsim.statistics.separability import mean_over_members
    from ncsim.training.separability import grid_of_rows

    entropy = found.schmidt_entropy() / np.log(2)
    numbers = {"cross_kernel": found.cross_kernel()}
    for party, name in enumerate(("alice", "bob")):
        numbers |= {f"foreign_share_{name}": found.share[..., party], f"entropy_{name}": entropy[..., party]}
    if ridge is not None:
        numbers |= {
            "information": found.curvature_information(ridge),
            "entanglement": found.curvature_entanglement(ridge),
        }
    # Of a matrix the entropy is at most the logarithm of its shorter side, whatever members have.
    bits = math.log2(min(grid_of_rows(found.config.tasks).shape))
    most = {key: bits if key.startswith("entropy_") else _largest(key, values) for key, values in numbers.items()}
    return [
        {"context": name, "step": int(step)}
        | {key: mean_over_members(values[:, place, at], most[key])._asdict() for key, values in sorted(numbers.items())}
        | {"members_without_share": int(np.isnan(found.share[:, place, at]).any(axis=-1).sum())}
        for place, name in enumerate(found.context)
        for at, step in enumerate(found.step)
    ]


def _largest(key: str, values: np.ndarray) -> float:
    """What a member can have, for an interval: 1 of shares and kernels; of information and entanglement, which have no limit, twice
    the largest that was met, and at least 1."""
    if key == "cross_kernel" or key.startswith("foreign_share"):
        return 1.0
    return max(1.0, 2 * float(max(filter(math.isfinite, values.flat), default=0.0)))


def lines(config: EnsembleConfig, rows: Sequence[dict[str, Any]], ridge: float | None) -> list[str]:
    """The numbers in words."""
    from ncsim.statistics.intervals import Estimate

    shown = ["foreign_share_alice", "foreign_share_bob", "entropy_alice", "entropy_bob", "cross_kernel"]
    names = ["context", "step", "foreign share A", "B", "entropy / ln 2 A", "B", "cross kernel"]
    cells = [[row["context"], f"{row['step']:,}", *(str(Estimate(**row[key])) for key in shown)] for row in rows]
    said = [f"{counted(config.members, 'member')}, intervention {config.intervention}; means over members, 95 %", ""]
    said += table(names, cells)
    if without := max(row["members_without_share"] for row in rows):
        said += [
            "",
            f"  Up to {counted(without, 'member has', 'members have')} no share at some step: a head remembers nothing, or a twin diverged.",
        ]
    if ridge is not None:
        curved = [
            [
                row["context"],
                f"{row['step']:,}",
                *(str(Estimate(**row[key])) for key in ("information", "entanglement")),
            ]
            for row in rows
        ]
        said += ["", f"With a ridge of {ridge:g}, in nats:", ""]
        said += table(["context", "step", "mutual information", "entropy of entanglement"], curved)
    return said
