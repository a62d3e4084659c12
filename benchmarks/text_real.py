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
import os
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, too
from benchmarks import machine
from benchmarks.native import MissingError
from benchmarks.workers import Worker
from ncsim.formatting import table

RANK, BATCH, LENGTH, ITEMS = 8, 32, 128, 1600
CONTEXT = 1  # Alice's first task, Bob's second: SST-2 and MathQA; the context of the most unequal lengths


class RealWork:
    """What the peers have in common: the suite, and how many steps a turn has."""

    compile_seconds = 0.0
    detail = ""
    tried: ClassVar[dict[str, float]] = {}

    def __init__(self, model: str, source_dir: str, steps: int, precision: str = "float32") -> None:
        from ncsim.text.data.prepare import prepare_suite
        from ncsim.text.model.checkpoint import load_backbone

        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.model, self.steps, self.precision = model, steps, precision
        self.bert, self.backbone = load_backbone(model)
        self.prepared = prepare_suite(
            "mixed", tokenizer=model, length=LENGTH, vocab_size=self.bert.vocab_size,
            max_positions=self.bert.max_positions, items=ITEMS, source_dir=source_dir,
        )  # fmt: skip

    def timed(self, turn: int) -> tuple[float, float, float]:
        """Processor seconds of a turn's steps, tokens computed and tokens that are there."""
        begun = time.process_time()
        computed, there = self.train(turn * self.steps, (turn + 1) * self.steps)
        return time.process_time() - begun, computed, there

    def train(self, first: int, stop: int) -> tuple[float, float]:
        """Train steps `first` to `stop - 1` of the epoch."""
        raise NotImplementedError


class NcsimReal(RealWork):
    """ncsim's programs, as `ncsim text` runs them on a CPU."""

    def __init__(self, **work: Any) -> None:
        super().__init__(**work)
        import jax

        from ncsim.text.config import TextConfig
        from ncsim.text.records import AdapterId
        from ncsim.text.training.programs import adapter_mesh, group_program
        from ncsim.text.training.shapes import best_microbatch, frozen, joined, setting_of

        tokens, pairs = joined(self.prepared)
        config = TextConfig(ranks=(RANK,), batch_size=BATCH, length=LENGTH, precision=self.precision)
        setting = setting_of(config, self.bert, tokens.lengths, ITEMS, RANK)
        self._setting = setting._replace(microbatch=best_microbatch(setting, tokens.lengths, 1, "cpu"))
        mesh = adapter_mesh(jax.devices()[:1])
        self._program = group_program(
            self._setting,
            mesh,
            jax.device_put(frozen(self.backbone, config, self.bert)),
            jax.device_put(tokens),
            pairs,
            [AdapterId(RANK, 0, CONTEXT)],
        )
        begun = time.process_time()
        self._program.memory()  # compiles
        self.compile_seconds = time.process_time() - begun
        self._state, self._order, self._lengths = self._program.begin(), self._program.order(0), tokens.lengths
        self.detail = f"rows of {setting.row} tokens, {self._setting.microbatch} at a time"

    def train(self, first: int, stop: int) -> tuple[float, float]:
        """As `RealWork` says."""
        self._state, losses = self._program.train(self._state, self._order, 0, first, stop)
        losses.block_until_ready()
        there = self._lengths[np.asarray(self._order.pairs)[0, first:stop]].sum()
        size = self._setting.microbatch
        rows = -(-np.asarray(self._order.layout.count)[0, first:stop] // size) * size
        return float(rows.sum() * self._setting.row), float(there)


class PeftReal(RealWork):
    """A plain loop: BertModel, LoRA by PEFT, two linear heads, AdamW. `grouped`: batches of items of like length."""

    def __init__(self, grouped: bool, **work: Any) -> None:
        super().__init__(**work)
        try:
            import peft
            import torch
            import transformers
        except ImportError as error:
            raise MissingError(f"{error.name} is not installed") from None
        warnings.simplefilter("ignore", FutureWarning)
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._torch = torch
        lora = peft.LoraConfig(r=RANK, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
        self._model = peft.get_peft_model(transformers.BertModel.from_pretrained(self.model), lora).eval()
        self._heads = torch.nn.ModuleList(torch.nn.Linear(self.bert.hidden_size, 2) for _ in range(2))
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW([*trained, *self._heads.parameters()], 5e-4, weight_decay=0.0)
        random = np.random.default_rng(0)
        self._items = [self.prepared.tasks[place]["train"] for place in ("A1", "B2")]
        self._orders = [random.permutation(ITEMS) for _ in range(2)]
        if grouped:
            for party, order in enumerate(self._orders):
                lengths = self._items[party].mask.sum(axis=1)
                lot = min(ITEMS // (4 * BATCH), 50) * BATCH  # as transformers has it
                parts = [order[n : n + lot] for n in range(0, ITEMS, lot)]
                parts = [part[np.argsort(-lengths[part], kind="stable")] for part in parts]
                batches = np.concatenate(parts).reshape(-1, BATCH)
                self._orders[party] = random.permutation(batches).reshape(-1)
        self.detail = f"torch {torch.__version__}, peft {peft.__version__}, eager"

    def train(self, first: int, stop: int) -> tuple[float, float]:
        """As `RealWork` says."""
        torch = self._torch
        computed = there = 0.0
        for step in range(first, stop):
            loss = torch.zeros(())
            for items, order, head in zip(self._items, self._orders, self._heads, strict=True):
                chosen = order[step * BATCH : (step + 1) * BATCH]
                longest = int(items.mask[chosen].sum(axis=1).max())
                arrays = (torch.from_numpy(array[chosen, :longest]).long() for array in items[:3])
                ids, mask, types = arrays
                labels = torch.from_numpy(items.labels[chosen]).long()
                with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
                    pooled = self._model(input_ids=ids, attention_mask=mask, token_type_ids=types).pooler_output
                    loss = loss + torch.nn.functional.cross_entropy(head(pooled), labels)
                computed, there = computed + mask.numel(), there + float(mask.sum())
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
        return computed, there


REAL_PEERS: dict[str, Any] = {
    "ncsim, its own batches": NcsimReal,
    "peft, each batch to its longest": lambda **work: PeftReal(grouped=False, **work),
    "peft, batches of like length": lambda **work: PeftReal(grouped=True, **work),
}


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
