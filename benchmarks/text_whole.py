"""What a whole run of twelve adapters costs on the real mixed suite, by ncsim and by PyTorch with PEFT, from start to table.

Question. Four contexts times three ranks are trained and evaluated on training and test pairs before the first epoch and after
each. How much processor time, wall time and memory do both take, imports, compilation and a table of accuracies included?

Command. `python -m benchmarks.text_whole --model MINILM --source-dir DATA --json benchmarks/results/text-whole.json`

Time. Twenty minutes on one core.

How. Each side is a process of its own on one core, in turns. PEFT is a plain loop with dynamic padding: each batch of Alice's
and of Bob's items is padded to its own longest, in training and in evaluation. Both read the same prepared items.
Each draws its adapters in its own way, so that only cost is compared here. ncsim runs once with no compiled program
on disk and once with those of the run before. Memory is the process's peak above what it had once its libraries were loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from benchmarks import machine
from ncsim.config.tasks import CONTEXTS
from ncsim.formatting import table

BATCH, LENGTH, RATE = 32, 128, 5e-4


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", required=True, help="a BERT's folder")
    parser.add_argument("--source-dir", metavar="FOLDER", required=True, help="the data sets' files")
    parser.add_argument("--items", metavar="N", type=int, default=64, help="pairs per context and split")
    parser.add_argument("--epochs", metavar="N", type=int, default=2, help="passes over the training pairs")
    parser.add_argument("--ranks", metavar="R", type=int, nargs="+", default=[2, 4, 8], help="of the adapters")
    parser.add_argument("--rounds", metavar="N", type=int, default=1, help="turns of each side")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured here")
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.side:
        SIDES[parsed.side](parsed)
        return
    here = machine.description()
    print("\n".join(machine.lines(here)), flush=True)
    words = list(sys.argv[1:] if arguments is None else arguments)
    found: dict[str, list[dict[str, Any]]] = {"ncsim": [], "ncsim, programs kept": [], "peft": []}
    for _ in range(parsed.rounds):
        with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as cache:
            for name, measured in found.items():
                measured.append(_measured("ncsim" if name.startswith("ncsim") else name, words, cache))
                print(f"benchmark: {name}: {measured[-1]}", file=sys.stderr, flush=True)
    rows = []
    for name, measured in found.items():
        ratios = [other["processor"] / own["processor"] for own, other in zip(measured, found["peft"], strict=True)]
        middle = {key: float(np.median([each[key] for each in measured])) for key in ("processor", "wall", "memory")}
        spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        rows.append(
            [name, f"{middle['processor']:.1f}", f"{middle['wall']:.1f}", f"{middle['memory'] / 1e6:.0f}", spread]
        )
    print("\n".join(table(["", "processor s", "wall s", "MB above the base", "times as fast"], rows, indent="")))
    if parsed.json:
        work = {name: getattr(parsed, name) for name in ("items", "epochs", "ranks")}
        parsed.json.write_text(json.dumps({"machine": here, "work": work, "measured": found}, indent=1) + "\n")


def _measured(side: str, words: Sequence[str], cache: str) -> dict[str, Any]:
    """One side's process from its start to its end: seconds of processor and wall time, and bytes above its base."""
    environment = os.environ | {"XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"}
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.text_whole", *words, "--side", side]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"benchmark: error: {side} ended with status {status}")
    answer = json.loads(said.splitlines()[-1])
    used = usage.ru_utime + usage.ru_stime
    return {"processor": used, "wall": time.perf_counter() - begun, **answer}


def _status(name: str) -> int:
    """Bytes that /proc says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def _end(base: int, accuracies: Sequence[float]) -> None:
    print(json.dumps({"memory": _status("VmHWM") - base, "mean_accuracy": float(np.mean(accuracies))}))


def _one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _ncsim(parsed: argparse.Namespace) -> None:
    _one_core()
    import jax
    import transformers  # noqa: F401

    from ncsim.text import TextConfig, run_text
    from ncsim.text.training import trainer  # noqa: F401

    jax.devices()
    base = _status("VmRSS")
    config = TextConfig(
        model=parsed.model, ranks=tuple(parsed.ranks), epochs=parsed.epochs, items=parsed.items,
        test_items=parsed.items, batch_size=BATCH, length=LENGTH, learning_rate=RATE,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = run_text(config, folder, source_dir=parsed.source_dir)
        found = run.statistics()
        _end(base, np.asarray(found.accuracy_alice).ravel().tolist())


def _peft(parsed: argparse.Namespace) -> None:
    _one_core()
    import peft
    import torch
    import transformers

    warnings.simplefilter("ignore", FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    base = _status("VmRSS")
    from ncsim.text.data.prepare import prepare_suite

    prepared = prepare_suite(
        "mixed", tokenizer=parsed.model, length=LENGTH, vocab_size=30_522, max_positions=512, items=parsed.items,
        test_items=parsed.items, source_dir=parsed.source_dir,
    )  # fmt: skip
    accuracies: list[float] = []
    for rank in parsed.ranks:
        for context, tasks in enumerate(CONTEXTS):
            lora = peft.LoraConfig(r=rank, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
            model = peft.get_peft_model(transformers.BertModel.from_pretrained(parsed.model), lora)
            heads = torch.nn.ModuleList(torch.nn.Linear(model.config.hidden_size, 2) for _ in range(2))
            trained = [*(p for p in model.parameters() if p.requires_grad), *heads.parameters()]
            optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.0)
            items = {
                split: [prepared.tasks[f"{'AB'[p]}{tasks[p] + 1}"][split] for p in (0, 1)]
                for split in ("train", "test")
            }
            pairs = {split: prepared.pairs[split][context] for split in items}

            def loss_of(
                split: str, chosen: np.ndarray, model: Any = model, heads: Any = heads, items: Any = items
            ) -> Any:
                total, right = 0.0, []
                for party, head in enumerate(heads):
                    own, places = items[split][party], chosen[:, party]
                    longest = int(own.mask[places].sum(axis=1).max())
                    ids, mask, types = (torch.from_numpy(array[places, :longest]).long() for array in own[:3])
                    labels = torch.from_numpy(own.labels[places]).long()
                    logits = head(model(input_ids=ids, attention_mask=mask, token_type_ids=types).pooler_output)
                    total = total + torch.nn.functional.cross_entropy(logits, labels)
                    right.append((logits.argmax(1) == labels).float().mean().item())
                return total, right

            def evaluate(model: Any = model, pairs: Any = pairs, loss_of: Any = loss_of) -> None:
                model.eval()
                with torch.no_grad():
                    for split, own in pairs.items():
                        found = [loss_of(split, own[n : n + BATCH])[1] for n in range(0, len(own), BATCH)]
                        accuracies.append(float(np.mean(found)))

            evaluate()
            random = np.random.default_rng(0)
            for _ in range(parsed.epochs):
                model.train()
                for chosen in np.array_split(random.permutation(pairs["train"]), -(-len(pairs["train"]) // BATCH)):
                    optimizer.zero_grad(set_to_none=True)
                    loss_of("train", chosen)[0].backward()
                    torch.nn.utils.clip_grad_norm_(trained, 1.0)
                    optimizer.step()
                evaluate()
    _end(base, accuracies)


SIDES = {"ncsim": _ncsim, "peft": _peft}


if __name__ == "__main__":
    main()
