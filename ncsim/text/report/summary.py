"""The numbers of a text run's report, as plain data: S as the paper defines it, and what belongs beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ncsim.config.tasks import context_names
from ncsim.statistics.chsh import chsh_statistics
from ncsim.statistics.contextuality_interval import contextuality_interval, s_interval
from ncsim.statistics.locality_tests import game_p_value
from ncsim.statistics.signalling_tests import dependence_p_values, signalling_tests
from ncsim.statistics.verdicts import verdict
from ncsim.text.records import SPLITS
from ncsim.text.results import TextRun

CONTEXT_NAMES = context_names("A{i}B{j}")
#: The paper's window of epochs for the mean slope of S (figure 4b).
SLOPE_EPOCHS = 80


class Curves(NamedTuple):
    """What changes along training: float64[ranks, seeds, epochs evaluated], on the training pairs where not said."""

    s: np.ndarray
    contextuality: np.ndarray
    accuracy: np.ndarray  # mean over the contexts and heads
    test_accuracy: np.ndarray


class TextSummary(NamedTuple):
    """A text run read once: what its report, its page and its figures are made of."""

    numbers: dict[str, Any]  # plain data, as summary.json has it
    curves: Curves


def curves(counts: np.ndarray) -> Curves:
    """S, contextuality and accuracies over epochs, from `TextRun.counts`; NaN where nothing is stored yet."""
    with np.errstate(invalid="ignore"):
        statistics = chsh_statistics(counts)
    accuracy = np.mean([statistics.accuracy_alice, statistics.accuracy_bob], axis=(0, -2, -1))
    return Curves(
        s=np.asarray(statistics.s)[..., 0],
        contextuality=np.asarray(statistics.contextuality)[..., 0],
        accuracy=accuracy[..., 0],
        test_accuracy=accuracy[..., 1],
    )


def slope_window(epochs: Any, window: int = SLOPE_EPOCHS) -> int:
    """The epoch at which the window of `mean_slope` ends: the last one of it that was evaluated."""
    return int(max(epoch for epoch in epochs if epoch <= window))


def mean_slope(epochs: Any, s: np.ndarray, window: int = SLOPE_EPOCHS) -> np.ndarray:
    """mu_gradS: the arithmetic mean of the instantaneous slopes of S over epochs 0 to `window` (figure 4b), over the
    last axis of `s` [..., epochs]. Instantaneous slopes are the differences between epochs evaluated one after another,
    each weighted by its length, so that their mean is the rise over the window; NaN with fewer than two epochs."""
    epochs = np.asarray(epochs)
    inside = epochs <= window
    if inside.sum() < 2:
        return np.full(s.shape[:-1], np.nan)
    first, last = np.flatnonzero(inside)[[0, -1]]
    return np.asarray((s[..., last] - s[..., first]) / (epochs[last] - epochs[first]))


def summarise_text(run: TextRun) -> TextSummary:
    """Everything that is said of a text run, from one reading of its parts.

    A cell of "cells" is a rank, a seed and a split, after the last epoch. Its items are a sample of what such items may
    be, its four adapters are four, of which its interval says nothing: seeds do.

    Raises:
        StoreError: nothing is stored yet, or a part is torn.
    """
    counts, missing = run.counts_and_missing()
    along = curves(counts)
    slopes = mean_slope(run.epochs, along.s)
    cells = []
    for r, rank in enumerate(run.config.ranks):
        for seed in range(run.config.seeds):
            for n, split in enumerate(SPLITS):
                table = counts[r, seed, -1, n]
                cell: dict[str, Any] = {"rank": rank, "seed": seed, "split": split}
                empty = [
                    name for name, pairs in zip(CONTEXT_NAMES, table.sum(axis=(2, 3)).flat, strict=True) if not pairs
                ]
                if empty:
                    cells.append(cell | {"note": _without_pairs(empty, missing)})
                    continue
                cells.append(cell | _table_numbers(table))
    numbers = {
        "run": run.location,
        "kind": "text",
        "model": run.config.model,
        "suite": run.config.suite,
        "pairing": run.config.pairing,
        "epochs": run.config.epochs,
        "adapters_missing": missing,
        "data": run.data,
        "cells": cells,
        "mean_slope_of_s": [
            {"rank": rank, "seeds": slopes[r].tolist(), "mean": _mean(slopes[r])}
            for r, rank in enumerate(run.config.ranks)
        ],
        "slope_epochs": slope_window(run.epochs),
    }
    return TextSummary(numbers, along)


def _without_pairs(contexts: list[str], missing: int) -> str:
    """Why contexts of a rank and seed have no counts: where every adapter is trained, they can only have diverged."""
    why = "not trained yet, or diverged" if missing else "diverged: a logit was not finite"
    return f"{', '.join(contexts)} {why}"


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).any() else float(np.mean(values))


def _table_numbers(table: np.ndarray) -> dict[str, Any]:
    """One table of joint counts [2, 2, 2, 2] in numbers."""
    # A head meets the same items in two contexts, so errors of contexts are not independent: the wider interval.
    statistics = chsh_statistics(table)
    items = table.sum(axis=(2, 3))
    interval = contextuality_interval(table, same_items=True)
    s = float(statistics.s)
    products = (2 * statistics.accuracy_alice - 1) * (2 * statistics.accuracy_bob - 1)
    excess = statistics.correlator - products
    spread = 16 * np.prod([p * (1 - p) for p in (statistics.accuracy_alice, statistics.accuracy_bob)], axis=0)
    # Few wrong answers are no normal law: with 2 and 12 of 256, one pair that shares one is three standard errors away.
    dependence = dependence_p_values(table)
    contexts = {
        name: {
            "items": int(items[i, j]),
            "accuracy_alice": float(statistics.accuracy_alice[i, j]),
            "accuracy_bob": float(statistics.accuracy_bob[i, j]),
            "correlator": float(statistics.correlator[i, j]),
            "product_of_accuracies": float(products[i, j]),
            # Standard error of the excess were the outcomes of a pair independent.
            "excess": float(excess[i, j]),
            "excess_error": float(np.sqrt(spread[i, j] / items[i, j])),
            "excess_p": float(dependence[i, j]),
        }
        for name, (i, j) in zip(CONTEXT_NAMES, np.ndindex(2, 2), strict=True)
    }
    return {
        "contexts": contexts,
        "s": s,
        "s_interval": s_interval(table, same_items=True)._asdict(),
        "s_factorised": float(statistics.s_factorised),
        "influence": float(statistics.influence),
        "contextuality": interval._asdict(),
        "cnt2": float(statistics.cnt2),
        "game_p": float(game_p_value(table)),
        "signalling": [
            {"answer": test.answer, "p_holm": float(test.p_holm)}
            for test in signalling_tests(table)
            if test.p_holm < 0.05
        ],
        "verdict": verdict(s, interval),
    }
