"""Ways to train on the real mixed suite (`text_real.py`), each alone in a process of its own (`workers.py`)."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any, ClassVar

import numpy as np

from benchmarks.native import MissingError

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
