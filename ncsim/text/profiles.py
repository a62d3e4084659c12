"""Entanglement profiles of a stored text run: of its trained adapters, with what to compare them with, and along training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ncsim.errors import StoreError, missing_extra, one_line
from ncsim.text.entanglement import Null, Profile, bound, entanglement_profile, random_law, spectrum_null
from ncsim.text.model.adaptations import split
from ncsim.text.model.names import LAYER_DENSE, todays_name
from ncsim.text.records import PROFILES, AdapterId
from ncsim.text.results import TextRun
from ncsim.text.run_folder import ADAPTER_FILES

try:
    import safetensors.numpy
except ImportError as error:
    raise missing_extra(error) from error

_PLACE = re.compile(r"(?:.*\.)?encoder\.layer\.(\d+)\.(" + "|".join(map(re.escape, LAYER_DENSE)) + r")\.(.+)")
_LEAVES = {"lora_A.weight": "a", "lora_B.weight": "b", "weight": "dense"}


class AdapterProfile(NamedTuple):
    """One target of one trained adapter, all layers (arXiv:2601.06788).

    Attributes:
        adapter: its rank, seed and context; rank 0 is an update without factors.
        target: as in `--target-modules`.
        profile: S(d), [L, K].
        null: of the same singular values with random singular vectors, [L, K].
        bound: the most that rank and bond allow, [K].
        law: mean of Gaussian factors of this rank, [K].

    Example:
        >>> import ncsim
        >>> run = ncsim.text.open_text_run("text-run")  # the folder of any text run
        >>> first = next(adapter_profiles(run))
        >>> first.adapter.rank, first.target, first.profile.entropy.shape
        (2, 'query', (1, 7))
        >>> bool((first.profile.entropy <= first.bound + 1e-12).all()), first.residual.shape
        (True, (1, 7))
    """

    adapter: AdapterId
    target: str
    profile: Profile
    null: Null
    bound: np.ndarray
    law: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """S(d) less the null's mean: what the order of neurons has to do with it, [L, K]."""
        return self.profile.entropy - self.null.mean


def adapter_profiles(run: TextRun, draws: int = 3, seed: int = 0) -> Iterator[AdapterProfile]:
    """The profiles of a run's trained adapters, one after another (arXiv:2601.06788).

    Args:
        run: a stored text run, complete or not.
        draws: of the null, 2 or more.
        seed: of the null.

    Returns:
        One for each adapter and target, by rank, seed and context.

    Raises:
        StoreError: no adapter is trained yet, or a file is torn.
        ConfigError: too few draws.

    Example:
        >>> import ncsim
        >>> run = ncsim.text.open_text_run("text-run")  # the folder of any text run
        >>> [each.target for each in adapter_profiles(run)][:2]
        ['query', 'value']
    """
    folder, any_there = run._folder, False
    for adapter in sorted(adapter for group in folder.groups for adapter in group if folder.has_adapter(adapter)):
        any_there = True
        if (torn := folder.torn_of_adapter(adapter)) is not None:
            raise StoreError(torn.problem, f"{run.location}/{torn.name}")
        for place, (target, leaves) in enumerate(_updates(run, adapter).items()):
            profile = entanglement_profile(*leaves)
            sizes = profile.inputs, profile.outputs
            limits = bound(*sizes, adapter.rank or None)
            if run.config.adaptation == "mps":
                limits = np.minimum(limits, bond_bound(profile, run.config.bond))
            # Draws of its own: those of several adapters are averaged.
            own_seed = (seed, *adapter, place)
            null = spectrum_null(leaves[0], leaves[1] if leaves[1:] else None, draws, own_seed)
            yield AdapterProfile(adapter, target, profile, null, limits, random_law(*sizes, adapter.rank or None))
    if not any_there:
        raise StoreError(f"{run.location}: no adapter is trained yet; run the same command again")


def bond_bound(profile: Profile, bond: int) -> np.ndarray:
    """The most that the bond of `--adaptation mps` allows at each cut, [K]: what crosses it, and the sites between it and the cut.

    Args:
        profile: of an update whose first factor is two tensors.
        bond: X, what these have in common.

    Example:
        >>> profile = entanglement_profile(np.eye(16))
        >>> np.exp(bond_bound(profile, 1)).round().astype(int).tolist()  # the two tensors meet at d = 4
        [2, 1, 2, 4, 8, 16, 32]
    """
    own = split(profile.inputs)
    between = np.maximum(profile.dimension, own) / np.minimum(profile.dimension, own)
    return np.asarray(np.log(bond * between))


def _updates(run: TextRun, adapter: AdapterId) -> dict[str, list[np.ndarray]]:
    """An adapter's arrays by target: [a [L, D, R], b [L, R, F]], or [dense [L, D, F]]."""
    name = f"{run._folder.adapter_name(adapter)}/{ADAPTER_FILES[0]}"
    try:
        tensors = safetensors.numpy.load(run.storage.read(name))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise StoreError(f"{run.location}/{name}: cannot be read ({one_line(error)})") from None
    found: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    for key, tensor in tensors.items():
        place = _PLACE.fullmatch(todays_name(key))
        if place is None or place[3] not in _LEAVES:
            raise StoreError(f"{run.location}/{name}: {key} is no update of a layer of the encoder")
        target = found.setdefault(place[2].removeprefix("attention.self."), {})
        target.setdefault(_LEAVES[place[3]], {})[int(place[1])] = tensor.T
    order = [each.removeprefix("attention.self.") for each in LAYER_DENSE]
    return {
        target: [np.stack([layers[n] for n in sorted(layers)]) for _, layers in sorted(found[target].items())]
        for target in sorted(found, key=order.index)
    }


def recorded_profiles(run: TextRun) -> pa.Table | None:
    """What `--record-entanglement` stored: a row per adapter, epoch, target and layer; None of a run without it.

    Returns:
        Columns rank, seed, context, epoch, target, layer, inputs, and the lists dimension and entropy.

    Raises:
        StoreError: a part is torn, or nothing is stored yet.
    """
    if not run.config.record_entanglement:
        return None
    rows: list[dict[str, Any]] = []
    for row in run.table().select(["rank", "seed", "context", "epoch", PROFILES.name]).to_pylist():
        rows += [{**row, **layer} for layer in row.pop(PROFILES.name) or []]
    return pa.Table.from_pylist(rows)
