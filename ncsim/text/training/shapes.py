"""What programs are made for: all items in one table, and rows, microbatches and ranks of sizes that suit them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ncsim.config.tasks import CONTEXTS
from ncsim.text.config import TextConfig
from ncsim.text.model.lora import ForwardOptions
from ncsim.text.model.sizes import BertConfig
from ncsim.text.records import SPLITS
from ncsim.text.training.finetune import Setting, Tokens

if TYPE_CHECKING:  # what reads data sets is not needed to compile
    from ncsim.text.data.prepare import PreparedSuite

#: Tokens that a row has at least: in shorter ones short items leave too much over.
SHORTEST_ROW = 64
#: What a microbatch costs beside its tokens, in tokens: weights are read again. (On CPUs from benchmarks/notes-text.md: two
#: rows of 128 tokens took 0.85 of one row's time per token, and four as much as two. Elsewhere a guess.)
PART_TOKENS = {"cpu": 20}
PART_TOKENS_ELSEWHERE = 2048
#: Ranks are padded to the run's largest, so that all groups have one program, up to this share of 2 D. Forward, factors of query and
#: value are then at most a thirtieth of a layer's products, 4 D r of 12 D^2 at r = D / 10, and those of all six dense layers 15 %. To
#: train is half as much again, 5 % and 23 %: factors have three products, forward and two gradients, and what is frozen has two.
WIDTH_SHARE = 0.05


def frozen(parameters: Any, config: TextConfig, bert: BertConfig) -> Any:
    """A backbone as the programs take it: `by_layer`, in the config's precision."""
    dtype = jax.numpy.dtype(config.precision)
    return jax.tree.map(lambda leaf: leaf.astype(dtype, copy=False), by_layer(parameters, config, bert))


def by_layer(parameters: Any, config: TextConfig, bert: BertConfig) -> Any:
    """A backbone whose layers are apart, where the program has no loop over them: it would copy each out of the stack for
    every microbatch. Leaves are views."""
    options = ForwardOptions(remat=config.remat)
    if options.unrolled(bert.layers) < bert.layers:
        return parameters
    apart = tuple(jax.tree.map(lambda leaf, n=n: leaf[n], parameters["layers"]) for n in range(bert.layers))
    return {**parameters, "layers": apart}


def joined(prepared: PreparedSuite) -> tuple[Tokens, dict[str, np.ndarray]]:
    """Alice's and Bob's items, of both tasks and splits one after another, and per split the pairs [4, N, 2] as places
    among them."""
    pairs = {split: np.array(prepared.pairs[split], np.int32) for split in SPLITS}
    found, heads, total = [], [], 0
    for party, name in enumerate("AB"):
        for task in (0, 1):
            for split in SPLITS:
                each = prepared.tasks[f"{name}{task + 1}"][split]
                for context, tasks in enumerate(CONTEXTS):
                    if tasks[party] == task:
                        pairs[split][context, :, party] += total
                found.append(each)
                heads.append(np.full(len(each.labels), party, np.int8))
                total += len(each.labels)
    lengths = np.concatenate([each.mask.sum(axis=1, dtype=np.int32) for each in found])
    return (
        Tokens(
            ids=np.concatenate([each.ids[each.mask > 0] for each in found]).astype(np.int32),
            types=np.concatenate([each.types[each.mask > 0] for each in found]).astype(np.int8),
            begins=(np.cumsum(lengths) - lengths).astype(np.int32),
            lengths=lengths,
            heads=np.concatenate(heads),
            labels=np.concatenate([each.labels for each in found]).astype(np.int8),
        ),
        pairs,
    )


def setting_of(config: TextConfig, bert: BertConfig, lengths: np.ndarray, items: int, width: int) -> Setting:
    """The sizes of programs for items of these lengths, with a microbatch of one row.

    Args:
        config: the run.
        bert: the backbone's sizes.
        lengths: tokens of all items, int32[items].
        items: training pairs per context.
        width: the largest rank beside which an adapter is trained.
    """
    row = max(-(-int(lengths.max()) // 8) * 8, SHORTEST_ROW)
    # Three times what a row holds in the mean: the last rows are filled with the shortest items.
    slots = min(row // int(lengths.min()), math.ceil(3 * row / float(lengths.mean())))
    widest = max(config.ranks)
    shared = widest <= WIDTH_SHARE * 2 * bert.hidden_size
    return Setting(config, bert, items, row, slots, microbatch=1, width=widest if shared else width)


def best_microbatch(setting: Setting, lengths: np.ndarray, at_once: int, platform: str) -> int:
    """Rows at a time that cost the least: more leave more of a step's last microbatch empty, half of it in the mean, and
    fewer are begun more often.

    Args:
        setting: as `setting_of` gives it.
        lengths: tokens of all items.
        at_once: adapters that one device trains at once.
        platform: of the device, as JAX names it.
    """
    rows = max(2 * setting.batch * float(lengths.mean()) / setting.row, 1.0)
    beside = PART_TOKENS.get(platform, PART_TOKENS_ELSEWHERE) / (setting.row * at_once)
    return round(min(max(math.sqrt(2 * rows * beside), 1), math.ceil(rows)))
