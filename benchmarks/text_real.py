"""How much processor time training takes on the real mixed suite, by ncsim and by PyTorch with PEFT as its users run it.

Question. Items have many lengths (SST-2's phrases 14 tokens in the mean, MathQA's questions 44, the longest 128). How much
processor time does a token take while one adapter (rank 8) trains on them by ncsim, and by a plain loop of PyTorch with
PEFT that pads each batch to its own longest item, or that also takes items of like length together?

Command. `python -m benchmarks.text_real --model MINILM --source-dir DATA --json benchmarks/results/text-real.json`

Time. Fifteen minutes on one core of a busy machine.

How. Each peer lives in a process of its own on one core and takes its turn in every round; ratios are of runs in the same
round. Processor time is counted, because other work on the machine changes it least. Alice's and Bob's items are two
batches in PyTorch, each padded to its own longest. Batches of like length are those of transformers' `group_by_length`:
this changes which items a step has, ncsim's packing does not. Times are per token that is there, as such batches differ in
length from turn to turn. `--precision bfloat16` has ncsim's frozen backbone in bfloat16, as `ncsim text --precision` has
it, and PyTorch under `torch.autocast`, as transformers' `bf16=True` has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from benchmarks import machine
from benchmarks.text_real_peers import REAL_PEERS
from benchmarks.workers import Worker
from ncsim.formatting import table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", required=True, help="a BERT's folder")
    parser.add_argument("--source-dir", metavar="FOLDER", required=True, help="the data sets' files")
    parser.add_argument("--rounds", metavar="N", type=int, default=4, choices=range(1, 6), help="turns of each peer")
    parser.add_argument("--steps", metavar="N", type=int, default=8, choices=range(1, 9), help="steps of a turn")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured here")
    parsed = parser.parse_args(arguments)
    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    work = {
        "model": parsed.model, "source_dir": parsed.source_dir, "steps": parsed.steps, "precision": parsed.precision
    }  # fmt: skip
    try:
        workers = [Worker(name, **work) for name in REAL_PEERS]
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in REAL_PEERS}
        for turn in range(parsed.rounds + 1):
            for worker in (worker for worker in workers if worker.missing is None):
                measured = worker.call("timed", turn)[0]
                if turn:  # the first round only warms up
                    found[worker.name].append(measured)
            print(f"benchmark: round {turn} of {parsed.rounds}", file=sys.stderr, flush=True)
    except (RuntimeError, OSError, ValueError) as error:
        sys.exit(f"benchmark: error: {error}")
    rows, stored = [], []
    ours = [seconds / there for seconds, _, there in found[workers[0].name]]
    for worker in workers:
        own = found[worker.name]
        per_token = [seconds / there for seconds, _, there in own]
        ratios = [seconds / first for seconds, first in zip(per_token, ours, strict=False)]
        padding = sum(one[1] for one in own) / max(sum(one[2] for one in own), 1)
        numbers = [f"{1000 * statistics.median(per_token):.3f}", f"{padding:.2f}"] if own else ["missing", ""]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})" if own else ""
        rows.append([worker.name, *numbers, spread, f"{worker.compile_seconds:.1f}", worker.missing or worker.detail])
        stored.append({
            "name": worker.name, "missing": worker.missing, "seconds_per_token": per_token, "computed_over_there": padding,
            "over_ncsim": ratios, "tokens": [list(one[1:]) for one in own], "compile_seconds": worker.compile_seconds, "detail": worker.detail,
        })  # fmt: skip
        worker.close()
    header = ["", "processor ms per token", "tokens computed per token", "times ncsim's", "compile s", "how"]
    print("\n".join(table(header, rows, indent="")))
    if parsed.json:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(
            json.dumps({"machine": here, "precision": parsed.precision, "measured": stored}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
