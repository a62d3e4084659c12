"""One member drawn: in each context, its units' hyperplanes over the rows, its answers, and its losses along training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_names, encoded_inputs
from ncsim.report.figures import BLUE, CONTEXT_MARKS, VERMILLION, new_figure, save_figure

#: Answers right and wrong: told apart by colour and by mark.
_RIGHT, _WRONG = (BLUE, "o"), (VERMILLION, "X")


class DrawnMember(NamedTuple):
    """What is drawn of a member: its four networks, in the order of the contexts."""

    member: int
    hidden_kernel: np.ndarray  # [4, F, H]
    hidden_bias: np.ndarray  # [4, H]
    logits: np.ndarray  # [4, 2, R]
    outcomes: np.ndarray  # [4, 2, R]: +1 right, -1 wrong, 0 diverged
    loss: np.ndarray  # [4], final
    steps: np.ndarray  # [K], recorded
    losses: np.ndarray  # [K, 4, 2], of each head along training


def draw_member(config: EnsembleConfig, drawn: DrawnMember, title: str, stem: Path) -> list[Path]:
    """Draw a member and save it as `save_figure` does.

    A unit's line shows on which side of its hyperplane each row lies, and how far: filled rows pass the ReLU. A head's line
    shows its logits in favour of the answer 1, with a mark for right or wrong.
    """
    inputs = encoded_inputs(config.tasks, config.encoding)
    units = drawn.hidden_bias.shape[1]
    width = max(0.3 * config.tasks.rows, 3.2)
    table: list[list[Any]] = []
    with new_figure(2 * width + 1.6, 2 * (0.30 * (units + 2) + 1.3) + 2.6) as figure:
        figure.suptitle(
            f"{title}\npurple: above 0, where a unit is active and a head answers 1; orange: below", fontsize=9
        )
        heights = [units + 4, units + 4, 9]
        grid = figure.add_gridspec(3, 2, height_ratios=heights)
        for number, name in enumerate(context_names("A{i} with B{j}")):
            axes = figure.add_subplot(grid[number // 2, number % 2])
            with np.errstate(all="ignore"):  # of a network that diverged
                before = (inputs @ drawn.hidden_kernel[number] + drawn.hidden_bias[number]).T  # [H, R]
            lines = np.concatenate([before, drawn.logits[number]])
            _draw_lines(axes, lines, units)
            _draw_answers(axes, drawn.outcomes[number], units)
            wrong = [int((party < 0).sum()) for party in drawn.outcomes[number]]
            said = "diverged" if not drawn.outcomes[number].any() else f"wrong: Alice {wrong[0]}, Bob {wrong[1]}"
            axes.set_title(f"{name}: loss {drawn.loss[number]:.3g}, {said}", loc="left")
            axes.set_xticks(
                range(config.tasks.rows), ["".join(map(str, row)) for row in config.tasks.inputs], rotation=90
            )
            axes.set_yticks(range(units + 2), [*(f"unit {k + 1}" for k in range(units)), "Alice", "Bob"])
            names = [*(f"unit {k + 1}" for k in range(units)), "logit of Alice", "logit of Bob"]
            table += [[context_names()[number], of, *line] for of, line in zip(names, lines.tolist(), strict=True)]
        _draw_losses(figure.add_subplot(grid[2, :]), drawn.steps, drawn.losses)
    columns = ["context", "of", *("row " + "".join(map(str, row)) for row in config.tasks.inputs)]
    return save_figure(figure, stem, columns, table)


def _draw_lines(axes: Any, lines: np.ndarray, units: int) -> None:
    """Each line in shades of its own largest size; what is below 0 of a unit is only outlined, as the ReLU cuts it off."""
    finite = np.where(np.isfinite(lines), lines, 0)
    shades = finite / np.maximum(np.abs(finite).max(axis=1, keepdims=True), 1e-30)
    axes.imshow(shades, cmap="PuOr", vmin=-1.6, vmax=1.6, aspect="auto")
    for line in range(units):
        active = np.flatnonzero(finite[line] > 0)
        axes.scatter(active, np.full(len(active), line), s=10, color="black", marker="s")
        edges = np.flatnonzero(np.diff(finite[line] > 0)) + 0.5  # where neighbouring rows lie on different sides
        axes.vlines(edges, line - 0.5, line + 0.5, color="black", linewidth=1.2)
    axes.axhline(units - 0.5, color="black", linewidth=0.8)
    axes.tick_params(length=0)


def _draw_answers(axes: Any, outcomes: np.ndarray, units: int) -> None:
    for party in (0, 1):
        for value, (colour, mark) in ((1, _RIGHT), (-1, _WRONG)):
            rows = np.flatnonzero(outcomes[party] == value)
            axes.scatter(rows, np.full(len(rows), units + party), s=34, color=colour, marker=mark, edgecolors="white")


def _draw_losses(axes: Any, steps: np.ndarray, losses: np.ndarray) -> None:
    for number, (name, (colour, _)) in enumerate(zip(context_names("A{i} with B{j}"), CONTEXT_MARKS, strict=True)):
        for party, (who, dash) in enumerate((("Alice", "-"), ("Bob", "--"))):
            axes.plot(steps, losses[:, number, party], dash, color=colour, linewidth=1.3, label=f"{name}, {who}")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss of a head")
    finite = losses[np.isfinite(losses)]
    if finite.size and finite.min() > 0:
        axes.set_yscale("log")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def legend_lines() -> list[str]:
    """How to read the figure, in words."""
    return [
        "A unit's line: the rows with a square lie on the active side of its hyperplane; a bar is where sides change.",
        "Alice's and Bob's lines: the shade is the logit, a blue dot a right answer, a red cross a wrong one.",
    ]
