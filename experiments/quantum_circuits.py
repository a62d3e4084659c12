"""Quantum circuits as members: do S, Delta or the solved fraction differ from classical networks of as many parameters?

Question. NCnets have S > 2 where one of their contexts fails (docs/mechanism.md). Four-qubit variational circuits are
quantum by construction, trained in the same four contexts. Is anything of S, of Delta or of what is solved different, by
restart protocol, at the same number of parameters?

Command. `python -m experiments.quantum_circuits --members 512 --out runs/circuits`

Time. Nine ensembles of 512 members x 4 contexts x 2,000 steps: under five minutes on two cores, most of it circuits.

Expected. Delta is at most 0 again: each context is a circuit of its own, trained by itself, and what is counted is right and
wrong answers over rows. A circuit's two observables are of different qubits, so that they commute and one state gives both
expectation values; that makes no table of measured pairs, and no Bell test is done here. That much was said before any run.

After a look at one pilot (512 members, 23 parameters, 1,000 steps) it was further expected that circuits solve context 22
more often than networks of three units, which never do, since a ring of CNOTs computes parities; and that S is nearer to 2.
The first holds at each number of parameters. The second does not hold of single shots (docs/seeds.md).

Circuits rotate by RY and their amplitudes are real. Encoding by angle makes rows basis states; encoding by amplitude gives
products of two inputs. Optimiser, learning rate and steps are the same for all and were tuned for none. Each start is the
kind's own: uniform angles with scale 1, and uniform weights within 1/sqrt(fan_in). Two quantities are said to differ where
their intervals of 95 % do not meet, each compared by itself.

Writes into the folder: quantum_circuits.png, .svg, .pdf, .csv and quantum_circuits.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.command import (
    add_number,
    add_place,
    add_widths,
    at_least,
    each_once,
    local_folder,
    run_experiment,
    write_json,
)
from experiments.shared.figures import points
from ncsim.cli.options import device_count
from ncsim.config.ensemble import config_grid
from ncsim.ensemble.circuits import run_circuits
from ncsim.ensemble.run import run_ensemble
from ncsim.formatting import table
from ncsim.report.figures import BLUE, ORANGE, VERMILLION, new_figure, save_figure
from ncsim.report.summary import CONTEXT_NAMES, summarise
from ncsim.results import Run
from ncsim.statistics.intervals import Estimate

KINDS = {"network": BLUE, "circuit, angles": VERMILLION, "circuit, amplitudes": ORANGE}


class Row(NamedTuple):
    """One ensemble in numbers, with intervals of 95 % over members."""

    kind: str
    hidden: int  # of the network that has as many parameters
    parameters: int
    diverged: int  # networks or circuits
    solved: tuple[Estimate, ...]  # share, by context
    protocols: tuple[str, ...]
    s: tuple[Estimate, ...]  # mean, by protocol
    contextuality: Estimate  # Delta of the counts of all members together
    contextual: Estimate  # share of members whose own Delta is above 0
    largest: float  # Delta of any member


def rows_of(kind: str, run: Run) -> list[Row]:
    """A row per width."""
    found = []
    for config, cell in zip(run.configs, summarise(run).numbers["cells"], strict=True):
        protocols: list[dict[str, Any]] = cell["protocols"]
        found.append(
            Row(
                kind=kind,
                hidden=config.hidden,
                parameters=7 * config.hidden + 2,
                diverged=cell["diverged"]["networks"],
                solved=tuple(Estimate(**cell["contexts"][name]["solved"]) for name in CONTEXT_NAMES),
                protocols=tuple(each["protocol"] for each in protocols),
                s=tuple(Estimate(**each["mean_s"]) for each in protocols),
                contextuality=Estimate(**cell["pooled"]["contextuality"]),
                contextual=Estimate(**cell["members_contextual"]),
                largest=cell["largest_contextuality_of_a_member"],
            )
        )
    return found


def compared(one: Estimate, other: Estimate) -> str:
    """In words, whether the first is below or above the other; "not told apart" where their intervals meet."""
    if one.high < other.low:
        return "lower"
    return "higher" if one.low > other.high else "not told apart"


def verdicts(found: Sequence[Row]) -> list[str]:
    """What differs of each ensemble of circuits from the networks with as many parameters."""
    networks = {row.hidden: row for row in found if row.kind == "network"}
    said = []
    for row in found:
        if row.kind == "network":
            continue
        beside = networks[row.hidden]
        solved = [compared(*pair) for pair in zip(row.solved, beside.solved, strict=True)]
        s = [compared(*pair) for pair in zip(row.s, beside.s, strict=True)]
        said.append(
            f"{row.kind}, {row.parameters} parameters, against networks: solved "
            + ", ".join(f"{name} {word}" for name, word in zip(CONTEXT_NAMES, solved, strict=True))
            + "; S "
            + ", ".join(f"{name}: {word}" for name, word in zip(row.protocols, s, strict=True))
            + f"; Delta of all members together {compared(row.contextuality, beside.contextuality)}"
        )
    circuits = [row for row in found if row.kind != "network"]
    above = [row for row in circuits if row.contextuality.low > 0]
    undecided = [row for row in circuits if row.contextuality.low <= 0 < row.contextuality.high]
    members = sum(row.contextual.value > 0 for row in circuits)
    said.append(
        f"Delta of all members together, {len(circuits)} ensembles of circuits: above 0 in {len(above)}, at most 0 in "
        f"{len(circuits) - len(above) - len(undecided)}, open in {len(undecided)}; members whose own Delta is above 0 in {members}."
    )
    return said


def draw(found: Sequence[Row], out: Path) -> list[Path]:
    """Solved by context, S by protocol at the middle width, and Delta by number of parameters."""
    widths = sorted({row.hidden for row in found})
    middle = widths[len(widths) // 2]
    lines: list[list[Any]] = []
    with new_figure(11, 3.6) as figure:
        panels = figure.subplots(1, 3)
        for shift, (kind, color) in zip((-0.2, 0.0, 0.2), KINDS.items(), strict=True):
            own = [row for row in found if row.kind == kind]
            row = next(row for row in own if row.hidden == middle)
            style: dict[str, Any] = {"color": color, "fmt": "o", "label": kind}
            points(panels[0], np.arange(4) + shift, row.solved, **style)
            points(panels[1], np.arange(len(row.s)) + shift, row.s, **style)
            at = [widths.index(each.hidden) + shift for each in own]
            points(panels[2], at, [each.contextuality for each in own], **style)
            for each in own:
                numbers = [each.kind, each.parameters]
                lines += [[*numbers, f"solved {n}", *e[:3]] for n, e in zip(CONTEXT_NAMES, each.solved, strict=True)]
                lines += [[*numbers, f"S {n}", *e[:3]] for n, e in zip(each.protocols, each.s, strict=True)]
                lines.append([*numbers, "Delta", *each.contextuality[:3]])
        panels[0].set_xticks(range(4), CONTEXT_NAMES)
        panels[0].set_title(f"share solved, {7 * middle + 2} parameters")
        panels[0].set_xlabel("context")
        panels[1].axhline(2, color="0.5", linestyle="--", linewidth=1)
        names = next(row for row in found).protocols
        panels[1].set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=7)
        panels[1].set_title(f"mean S by protocol, {7 * middle + 2} parameters")
        panels[2].axhline(0, color="0.5", linestyle="--", linewidth=1)
        panels[2].set_xticks(range(len(widths)), [str(7 * width + 2) for width in widths])
        panels[2].set_xlabel("parameters")
        panels[2].set_title("Delta of all members together")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        return save_figure(
            figure, out / "quantum_circuits", ["kind", "parameters", "quantity", "value", "low", "high"], lines
        )


def printed(found: Sequence[Row]) -> list[str]:
    """What is solved and Delta, then S by protocol."""
    solved = [
        [row.kind, str(row.parameters), *map(str, row.solved), str(row.contextuality), str(row.contextual)]
        for row in found
    ]
    s = [[row.kind, str(row.parameters), *map(str, row.s)] for row in found]
    head = ["kind", "parameters"]
    names = [f"solved {name}" for name in CONTEXT_NAMES]
    return [
        *table([*head, *names, "Delta, all members", "members with Delta > 0"], solved),
        "",
        *table([*head, *(f"S, {name}" for name in found[0].protocols)], s),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the tables and the verdict, write the figure."""

    def options(parser: argparse.ArgumentParser) -> None:
        add_number(parser, "--members", 512, "members of each ensemble")
        add_number(parser, "--steps", 2_000, "optimiser steps")
        add_number(parser, "--seed", 0, "root seed")
        add_widths(parser, 2, 3, 4)
        add_place(parser, "runs/circuits", "where the figure and the numbers go (default: {})")

    def act(parsed: argparse.Namespace) -> None:
        at_least("--members", parsed.members, 2)
        each_once("--widths", parsed.widths)
        out = local_folder("--out", parsed.out)
        out.mkdir(parents=True, exist_ok=True)
        devices = device_count(parsed.devices)
        configs = config_grid(hidden=parsed.widths, members=parsed.members, steps=parsed.steps, root_seed=parsed.seed)
        found = rows_of("network", run_ensemble(configs, devices=devices))
        for encoding in ("angle", "amplitude"):
            found += rows_of(f"circuit, {encoding}s", run_circuits(configs, encoding, devices))
        print("\n".join(printed(found)))
        said = verdicts(found)
        print("\n" + "\n".join(said))
        draw(found, out)
        write_json(out / "quantum_circuits.json", {"ensembles": found, "verdicts": said})

    run_experiment(__doc__, options, act, arguments)


if __name__ == "__main__":
    main()
