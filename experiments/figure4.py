"""Figure 4 of arXiv:2603.04451 for NCnet: S along training and mu_gradS, by the width of the shared layer.

Question. Figure 4 shows S over epochs for LoRA ranks r = 1 to 32 and reports that its mean slope over epochs 0 to 80,
mu_gradS, grows with the rank: "higher ranks lead to faster convergence of S". Does it grow with the width n of NCnet's
shared layer, and what happens underneath: when are contexts solved, and when do the two losses' gradients conflict?

Command. `python -m experiments.figure4 --members 4000 --out runs/figure4`. Any option of `ncsim ensemble` but --hidden
may be given; --record-points N and --record-spacing NAME say where training is looked at.

Time. 4,000 members x 5 widths x 4 contexts x 3,000 steps, each recorded at 50 steps: about half a minute on two cores.

Expected. mu_gradS over the first tenth of training grows from n = 2 (2.8 per thousand steps) to n = 6 (7.0), and is smaller
again at n = 8 (6.7). Mean S ends at 1.20, 1.79, 2.03, 2.04 and 2.01; at n = 6 it has passed 2.13 after 300 steps. At every
width and step S is what accuracies alone give, to 0.06 or better, and no member is contextual.

Writes into the run folder: figures/figure4.* and figures/figure4-underneath.* (PNG, SVG, PDF, CSV), figure4.json.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.command import add_place, configs_of_widths, local_folder, run_experiment, write_json
from experiments.shared.figures import reach
from ncsim.cli.options import add_config_options, add_recording_options, device_count, recording_of
from ncsim.config.recording import Recording
from ncsim.config.tasks import context_names
from ncsim.ensemble.run import run_ensemble
from ncsim.errors import ConfigError
from ncsim.formatting import counted, no_less, table
from ncsim.report.figures import BLACK, GREEN, ORANGE, PURPLE, SKY, draw_bounds, new_figure, save_figure
from ncsim.statistics.intervals import Estimate
from ncsim.statistics.training_curves import QUANTILES, Series, Slope, TrajectoryStatistics
from ncsim.statistics.trajectory_tally import places_of
from ncsim.terminal import Progress

WIDTHS = (2, 3, 4, 6, 8)
#: Windows of mu_gradS as shares of the training; the first is where S rises, as the paper's epochs 0 to 80 are.
WINDOWS = ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0))
CONTEXT_NAMES = context_names("A{i} B{j}")
#: Told apart by lightness and dashes too, for print in grey.
LINES = ((SKY, "-"), (GREEN, "--"), (ORANGE, "-."), (BLACK, ":"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and record what is missing, draw figure 4 and print the slopes."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_recording_options(parser)
    add_place(parser, "runs/figure4", "run folder (default: {})")


def _run(parsed: argparse.Namespace) -> None:
    parsed.members = parsed.members or ["4000"]
    configs, out = configs_of_widths(parsed, WIDTHS), local_folder("--out", parsed.out)
    recording = recording_of(parsed, default=Recording())
    assert recording is not None
    windows = windows_of(configs[0].steps, recording.steps(configs[0].steps))
    run = run_ensemble(configs, out, devices=device_count(parsed.devices), progress=Progress(), recording=recording)
    steps = configs[0].steps
    found = {config.hidden: run.trajectory_statistics(cell, windows) for cell, config in enumerate(run.configs)}
    for width, there in found.items():
        if not there.members.all():
            raise ConfigError(
                f"every member of n={width} has a network that diverged, so there is no S to draw; try a lower --learning-rate"
            )
    plot_s(found, out / "figures" / "figure4")
    plot_underneath(found, out / "figures" / "figure4-underneath")
    write_json(out / "figure4.json", numbers(found))
    print(
        f"S along training of {counted(configs[0].members, 'member')} per width, {counted(steps, 'step')}, 95 % intervals\n"
    )
    print("\n".join(summary_table(found)))
    print(f"\nStored in {out}: parts/, trajectories/, figure4.json, figures/figure4.* and figure4-underneath.*")
    print(f"\n{conclusion(found)}")


def windows_of(steps: int, recorded: np.ndarray) -> list[tuple[int, int]]:
    """The windows of mu_gradS in steps.

    Raises:
        ConfigError: one of them lies between two recorded steps.
    """
    windows = [(round(first * steps), round(last * steps)) for first, last in WINDOWS]
    for window, shares in zip(windows, WINDOWS, strict=True):
        try:
            places_of(recorded, window)
        except ValueError:
            raise ConfigError(
                f"--steps: {steps}, of which {len(recorded)} are recorded (--record-points); allowed: more of either, so that mu_gradS has two "
                f"recorded steps between {shares[0]:.0%} and {shares[1]:.0%} of training"
            ) from None
    return windows


def estimate(series: Series, step: int, context: int | None = None) -> Estimate:
    """One value of a series with its interval."""
    at = step if context is None else (step, context)
    return Estimate(float(series.mean[at]), float(series.low[at]), float(series.high[at]), "Student's t over members")


def summary_table(found: Mapping[int, TrajectoryStatistics]) -> list[str]:
    """A row a width: mu_gradS in each window, and how training ends."""
    first = next(iter(found.values()))
    header = ["n", *(f"mu_gradS, steps {slope.first} to {slope.last}" for slope in first.slopes)]
    header += ["mean S at the end", "P(S > 2)", "largest mean S (at step)"]
    rows = []
    for width, there in found.items():
        peak = int(np.nanargmax(there.s.mean))
        rows.append(
            [
                str(width),
                *(shown(slope) for slope in there.slopes),
                str(estimate(there.s, -1)),
                str(estimate(there.above_2, -1)),
                f"{there.s.mean[peak]:.3f} ({there.step[peak]})",
            ]
        )
    return table(header, rows, indent="")


def shown(slope: Slope) -> str:
    """mu_gradS, in units of S per 1,000 steps."""
    return f"{slope.mean:.3f} [{slope.low:.3f}, {slope.high:.3f}]"


def conclusion(found: Mapping[int, TrajectoryStatistics]) -> str:
    """Whether mu_gradS grows with the width, and what contextuality says."""
    widths = sorted(found)
    slopes = [found[width].slopes[0] for width in widths]
    grows = [after.low > before.high for before, after in itertools.pairwise(slopes)]
    window = f"steps {slopes[0].first} to {slopes[0].last}"
    if all(grows):
        text = f"mu_gradS over {window} grows with every step of the width from n={widths[0]} to n={widths[-1]}."
    else:
        where = ", ".join(f"n={a} to {b}" for a, b, up in zip(widths, widths[1:], grows, strict=False) if not up)
        text = f"mu_gradS over {window} does not clearly grow at: {where} (intervals overlap, or it falls)."
    contextual = max(float(np.nanmax(there.contextual.mean)) for there in found.values())
    bound = max(float(np.nanmax(there.contextual.high)) for there in found.values())
    if contextual > 0:
        return text + f" Contextual (Delta > 0): up to {no_less(contextual)} of members at a step."
    return text + f" No member is contextual at any recorded step (at most {no_less(bound)} of them at each, 95 %)."


def numbers(found: Mapping[int, TrajectoryStatistics]) -> dict[str, Any]:
    """All series, as they are stored."""
    return {"quantiles": QUANTILES, "slope_unit": "S per 1,000 steps", "widths": found}


def plot_s(found: Mapping[int, TrajectoryStatistics], stem: Path) -> list[Path]:
    """(a) S along training, a panel a width, with bands over members; (b) mu_gradS by width, the windows side by side."""
    rows: list[list[Any]] = []
    with new_figure(2.0 * len(found) + 3.4, 3.5) as figure:
        axes = figure.subplots(1, len(found) + 1, width_ratios=[1] * len(found) + [1.5])
        bands = np.concatenate(
            [there.s.quantiles for there in found.values() if there.s.quantiles is not None], axis=None
        )
        limits = min(-0.6, np.nanmin(bands) - 0.1), max(3.4, np.nanmax(bands) + 0.1)
        for axis, (width, there) in zip(axes, found.items(), strict=False):
            s = there.s
            assert s.quantiles is not None
            draw_bounds(axis)
            wide = f"{QUANTILES[0]:.0%} to {QUANTILES[-1]:.0%} of members"
            axis.fill_between(
                there.step, s.quantiles[0], s.quantiles[-1], color="0.88", linewidth=0, zorder=0, label=wide
            )
            axis.fill_between(
                there.step, s.quantiles[1], s.quantiles[-2], color=SKY, linewidth=0, zorder=0, label="the middle half"
            )
            axis.plot(there.step, s.mean, color=BLACK, linewidth=1.6, label="mean S")
            axis.set_title(f"n = {width}")
            axis.set_ylim(*limits)
            axis.set_xlabel("steps")
            axis.set_xticks([0, int(there.step[-1])])
            if axis is axes[0]:
                axis.set_ylabel("S")
            else:
                axis.set_yticklabels([])
            for place, step in enumerate(there.step):
                rows.append(["s", width, int(step), *(float(v[place]) for v in (*s[:3], *s.quantiles))])
        _slopes(axes[-1], found, rows)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=5)
        columns = ["quantity", "n", "step", "mean", "low", "high", *(f"quantile_{level}" for level in QUANTILES)]
        return save_figure(figure, stem, columns, rows)


def _slopes(axis: Any, found: Mapping[int, TrajectoryStatistics], rows: list[list[Any]]) -> None:
    windows = len(next(iter(found.values())).slopes)
    places = np.arange(len(found))
    for number, (color, hatch) in enumerate(zip((SKY, ORANGE, "0.8"), ("", "//", ".."), strict=True)):
        slopes = [there.slopes[number] for there in found.values()]
        values = [Estimate(slope.mean, slope.low, slope.high, "") for slope in slopes]
        shift = (number - (windows - 1) / 2) * 0.27
        axis.bar(
            places + shift, [each.value for each in values], 0.25, yerr=reach(values), color=color, hatch=hatch, edgecolor=BLACK, linewidth=0.6, capsize=2,
            error_kw={"linewidth": 1}, label=f"steps {slopes[0].first} to {slopes[0].last}",
        )  # fmt: skip
        rows += [
            ["mu_gradS", width, f"{s.first}-{s.last}", s.mean, s.low, s.high]
            for width, s in zip(found, slopes, strict=True)
        ]
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.set_xticks(places, [str(width) for width in found])
    axis.set_xlabel("n")
    axis.set_ylabel(r"$\mu_{\nabla S}$ per 1,000 steps")
    axis.set_ylim(top=1.35 * max(slope.high for there in found.values() for slope in there.slopes))
    axis.legend(loc="upper left", fontsize=7)


def plot_underneath(found: Mapping[int, TrajectoryStatistics], stem: Path) -> list[Path]:
    """By context along training, a column a width: solved networks; mean losses of both heads; conflicting gradients."""
    rows: list[list[Any]] = []
    with new_figure(2.1 * len(found) + 0.8, 6.6) as figure:
        axes = figure.subplots(3, len(found), sharex=True, sharey="row", squeeze=False)
        for column, (width, there) in enumerate(found.items()):
            quantities = {"solved": there.solved, "conflict": there.observed["conflict"]}
            for row, (name, series) in enumerate(quantities.items()):
                axis = axes[2 * row, column]
                for context, (color, dashes) in enumerate(LINES):
                    axis.plot(
                        there.step, series.mean[:, context], color=color, linestyle=dashes, linewidth=1.5,
                        label=CONTEXT_NAMES[context],
                    )  # fmt: skip
                    rows += _rows(name, width, CONTEXT_NAMES[context], there.step, series, context)
                axis.set_ylim(-0.03, 1.03)
            for head, color in (("alice", PURPLE), ("bob", BLACK)):
                series = there.observed[f"loss_{head}"]
                for context, dashes in (
                    (1, "-"),
                    (3, ":"),
                ):  # Bob at his harder task, Alice at her easy and her hard one
                    axes[1, column].plot(
                        there.step, series.mean[:, context], color=color, linestyle=dashes, linewidth=1.5,
                        label=f"{head.capitalize()} in {CONTEXT_NAMES[context]}",
                    )  # fmt: skip
                for context, name in enumerate(CONTEXT_NAMES):
                    rows += _rows(f"loss_{head}", width, name, there.step, series, context)
            axes[0, column].set_title(f"n = {width}")
            axes[2, column].set_xlabel("steps")
            axes[2, column].set_xticks([0, int(there.step[-1])])
        axes[0, 0].set_ylabel("solved")
        axes[1, 0].set_ylabel("mean loss of a head")
        axes[2, 0].set_ylabel("gradients in conflict")
        axes[0, -1].legend(fontsize=7, loc="center right")
        axes[1, -1].legend(fontsize=7, loc="upper right")
        return save_figure(figure, stem, ["quantity", "n", "context", "step", "mean", "low", "high"], rows)


def _rows(name: str, width: int, label: str, step: np.ndarray, series: Series, context: int) -> list[list[Any]]:
    values = zip(step, *(each[:, context] for each in series[:3]), strict=True)
    return [[name, width, label, int(at), *(float(value) for value in three)] for at, *three in values]


if __name__ == "__main__":
    main()
