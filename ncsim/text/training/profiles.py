"""Entanglement profiles of a group in training, as columns beside its evaluations (`--record-entanglement`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncsim.text.entanglement import entanglement_profile
from ncsim.text.model.adaptations import as_lora
from ncsim.text.model.names import LAYER_DENSE
from ncsim.text.records import PROFILE, SPLITS

#: Of entropies that are stored.
DECIMALS = 6


def group_profiles(adapters: Any, size: int) -> dict[str, np.ndarray]:
    """The profiles of the first `size` adapters of a group, [G, ...] in every leaf.

    Returns:
        By "entropy." and the target's name as in `--target-modules`: float64[splits, size, L, 3, K], at each cut its dimension, its entropy and
        the dimension of the cut between inputs and outputs. An update is of no split, and so the same in both.
    """
    lora, found = as_lora(adapters["lora"])["layers"], {}
    for name, (block, product) in LAYER_DENSE.items():
        if (tree := lora.get(block, {}).get(product)) is None:
            continue
        leaves = [np.asarray(tree[leaf])[:size] for leaf in ("dense", "a", "b") if leaf in tree]
        profile = entanglement_profile(*leaves)
        # The last bits depend on where arrays lie in memory, and a run that goes on is to be stored with the same ones.
        rounded = np.round(profile.entropy, DECIMALS)
        columns = np.stack(np.broadcast_arrays(profile.dimension, rounded, profile.inputs), axis=-2)
        found[PROFILE + name.removeprefix("attention.self.")] = np.stack([columns] * len(SPLITS))
    return found
