"""What is kept of a text run: which adapter, which split, and its outcomes as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ncsim.config.tasks import CONTEXTS, context_names
from ncsim.text.config import TARGET_MODULES, TextConfig

SPLITS = ("train", "test")
_COUNTED = ("undecided_alice", "undecided_bob", "decided_product")
SCHEMA = pa.schema(
    [
        ("rank", pa.uint32()),
        ("seed", pa.uint32()),
        ("context", pa.string()),  # "12": Alice's first task, Bob's second
        ("epoch", pa.uint32()),
        ("split", pa.string()),
        ("counts", pa.list_(pa.int32(), 4)),  # pairs by (Alice wrong/right, Bob wrong/right): 00, 01, 10, 11
        ("loss_alice", pa.float32()),
        ("loss_bob", pa.float32()),
        ("diverged", pa.bool_()),
        *((name, pa.int32()) for name in _COUNTED),
    ]
)
#: What the names of a group's profiles begin with: of each target an array [..., L, 3, K]: dimensions, entropies, and inputs.
PROFILE = "entropy."
#: The column of runs that record them, null in rows of the test split: an update is of no split.
PROFILES = pa.field(
    "entanglement",
    pa.list_(
        pa.struct(
            [
                ("target", pa.string()),  # as in --target-modules
                ("layer", pa.uint32()),
                ("inputs", pa.uint32()),  # d between inputs and outputs
                ("dimension", pa.list_(pa.int64())),  # d: states to the left of each cut
                ("entropy", pa.list_(pa.float64())),  # S(d) in nats; NaN of no update
            ]
        )
    ),
)


def schema_of(config: TextConfig) -> pa.Schema:
    """The columns of a run's parts."""
    return SCHEMA.append(PROFILES) if config.record_entanglement else SCHEMA


def profile_cells(evaluations: Mapping[str, np.ndarray]) -> list[list[dict[str, Any]] | None]:
    """The column `entanglement` from profiles [epochs evaluated, splits, G, L, 3, K], rows by epoch, split and adapter."""
    # A checkpoint's tensors come back in any order.
    arrays = {target: evaluations[PROFILE + target] for target in TARGET_MODULES if PROFILE + target in evaluations}
    cells: list[list[dict[str, Any]] | None] = []
    for place in np.ndindex(next(iter(arrays.values())).shape[:3]):
        layers = [
            {
                "target": target,
                "layer": layer,
                "inputs": int(inputs[0]),
                "dimension": dimension.astype(int).tolist(),
                "entropy": entropy.tolist(),
            }
            for target, array in arrays.items()
            for layer, (dimension, entropy, inputs) in enumerate(array[place])
        ]
        cells.append(None if place[1] else layers)
    return cells


def table_of(evaluations: Mapping[str, np.ndarray], config: TextConfig, adapters: Sequence[AdapterId]) -> pa.Table:
    """The rows of a part, from evaluations [epochs evaluated, splits, G, ...] of a group of adapters, and its profiles where they
    are recorded."""
    epochs = config.evaluated_epochs[: len(evaluations["counts"])]
    grid = [(e, s, g) for e in range(len(epochs)) for s in range(len(SPLITS)) for g in range(len(adapters))]
    columns: dict[str, Any] = {
        "rank": [adapters[g].rank for _, _, g in grid],
        "seed": [adapters[g].seed for _, _, g in grid],
        "context": [adapters[g].context_name for _, _, g in grid],
        "epoch": [epochs[e] for e, _, _ in grid],
        "split": [SPLITS[s] for _, s, _ in grid],
        "counts": evaluations["counts"].reshape(-1, 4).tolist(),
    }
    names = set(Evaluation._fields) - {"counts"}
    columns |= {name: values.reshape(-1) for name, values in evaluations.items() if name in names}
    if config.record_entanglement:
        columns[PROFILES.name] = profile_cells(evaluations)
    return pa.Table.from_pydict(columns, schema=schema_of(config))


def joint_counts_of(table: pa.Table, config: TextConfig, groups: Sequence[Sequence[AdapterId]]) -> np.ndarray:
    """Joint counts of evaluations, int64[ranks, seeds, epochs evaluated, splits, i, j, a, b]; zero where none are yet."""
    epochs = {epoch: n for n, epoch in enumerate(config.evaluated_epochs)}
    ranks = {rank: n for n, rank in enumerate(config.ranks)}
    contexts = {name: n for n, name in enumerate(context_names())}
    counts = np.zeros((len(ranks), config.seeds, len(epochs), len(SPLITS), len(CONTEXTS), 4), np.int64)
    columns = {name: table[name].to_pylist() for name in ("rank", "seed", "epoch", "split", "context")}
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        rank, seed, epoch, split, context = values
        place = (ranks[rank], seed, epochs[epoch], SPLITS.index(split), contexts[context])
        counts[place] = table["counts"][row].as_py()
    return counts.reshape(*counts.shape[:4], 2, 2, 2, 2)


class AdapterId(NamedTuple):
    """Which adapter it is.

    Attributes:
        rank: its LoRA rank; 0 where all of a layer's weights are updated.
        seed: its seed, from 0.
        context: the number of its context in the order 11, 12, 21, 22, from 0.

    Example:
        >>> AdapterId(rank=4, seed=0, context=1).context_name
        '12'
    """

    rank: int
    seed: int
    context: int

    @property
    def context_name(self) -> str:
        """As 12 for Alice's first and Bob's second task."""
        return context_names()[self.context]


class Evaluation(NamedTuple):
    """What is recorded of each adapter of a group on one split. [G], counts [G, 4].

    An adapter with a logit that is not finite has diverged: its counts, undecided items and product are zero.
    """

    counts: Any  # int32: pairs by (Alice wrong/right, Bob wrong/right): 00, 01, 10, 11
    loss_alice: Any  # float32: mean cross-entropy
    loss_bob: Any
    diverged: Any  # bool
    undecided_alice: Any  # int32: pairs whose two logits differ by less than undecided_tolerance
    undecided_bob: Any
    decided_product: Any  # int32: sum of A B over the pairs that both heads decided
