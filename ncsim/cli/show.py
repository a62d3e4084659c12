"""`ncsim show`: one member of a run, drawn. Imports nothing heavy before the options are parsed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ncsim.config.fields import count
from ncsim.errors import ConfigError, reason
from ncsim.terminal import output, telling

if TYPE_CHECKING:
    from ncsim.report.network_figure import DrawnMember
    from ncsim.results import Run

MOST = 2**32 - 1
#: Steps at which losses are recorded, about.
LOSS_POINTS = 200


def add_show_command(commands: Any) -> None:
    """Add `show` to the subcommands of `ncsim`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "show",
        help="train one member again and draw its networks: hyperplanes over the rows, answers, losses",
        description="Train one member of a stored run again, compare it with what is stored, and draw its four networks.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="FOLDER", help="a run folder, as runs/figure2 or s3://bucket/figure2")
    parser.add_argument("member", metavar="MEMBER", help="id of the member")
    parser.add_argument("--cell", metavar="N", help="cell of a grid, from 0 in the order of the report (default: 0)")
    parser.add_argument(
        "--out",
        metavar="STEM",
        help="where the figure goes, without an ending (default: FOLDER/figures/member-MEMBER, or of a grid cell-N-member-MEMBER)",
    )
    parser.set_defaults(command=run_command, flags=list(parser._option_string_actions))


def run_command(parsed: argparse.Namespace) -> None:
    """Draw a member, and say where the files are."""
    member = count("MEMBER", parsed.member, MOST, smallest=0)
    cell = count("--cell", parsed.cell, 100_000, smallest=0) or 0
    from ncsim.results import open_run

    run = open_run(parsed.folder)
    if cell >= len(run.configs):
        raise ConfigError(f"--cell: {cell}; allowed: a whole number from 0 to {len(run.configs) - 1}")
    if parsed.out is None and run.path is None:
        raise ConfigError(f"--out: none, with {parsed.folder} in an object store; allowed: a place on this machine")
    from pathlib import Path

    from ncsim.report.network_figure import draw_member, legend_lines
    from ncsim.report.sentences import cell_label

    assert member is not None
    with telling("training the member again"):
        drawn = _drawn(run, member, cell)
    of_cell = f"cell-{cell}-" if run.swept else ""
    stem = Path(parsed.out) if parsed.out else Path(run.path or "") / "figures" / f"{of_cell}member-{member}"
    values = cell_label({name: getattr(run.configs[cell], name) for name in run.swept})
    title = f"member {member}" + (f" of the cell with {values}" if run.swept else "")
    try:
        paths = draw_member(run.configs[cell], drawn, title, stem)
    except OSError as error:
        raise ConfigError(f"--out: {stem}; cannot be written ({reason(error)})") from None
    output("\n".join([*legend_lines(), *map(str, paths)]))


def _drawn(run: Run, member: int, cell: int) -> DrawnMember:
    """What is drawn of one member. Raises as `ncsim.parameters`."""
    import numpy as np

    from ncsim.config.recording import Recording
    from ncsim.ensemble.networks import executor_of, parameters_of, signed_outcomes, trained_again
    from ncsim.ensemble.trainer import trainer
    from ncsim.executors.own_programs import own_programs
    from ncsim.report.network_figure import DrawnMember

    config, records, networks = trained_again(run, [member], cell, None)
    whole = parameters_of(config, records, networks)
    recording = Recording(points=min(LOSS_POINTS, config.steps + 1) if config.steps > 1 else 2)
    with own_programs():
        feeder = trainer(None)
        executor = executor_of(run, cell, feeder)
        (_, seen), *_ = feeder.train_recorded([(config, range(member, member + 1))], None, executor, recording)
    losses = np.stack([seen.values["loss_alice"][0], seen.values["loss_bob"][0]], axis=-1)
    return DrawnMember(
        member,
        whole.hidden_kernel[0].reshape(4, *whole.hidden_kernel.shape[-2:]),
        whole.hidden_bias[0].reshape(4, -1),
        np.swapaxes(networks.logits[0], -1, -2),
        signed_outcomes(config, records, networks)[0].reshape(4, 2, -1),
        records.loss[0],
        seen.step,
        losses,
    )
