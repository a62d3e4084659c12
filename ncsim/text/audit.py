"""Whether stored adapters are what training gives: a random share of their groups trained again and compared bit for bit."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from ncsim import signals
from ncsim.config.fields import checked_audit, option_name, part_of
from ncsim.errors import StoreError
from ncsim.executors.own_programs import own_programs
from ncsim.formatting import counted
from ncsim.storage.config_file import CONFIG
from ncsim.storage.environment import all_differences
from ncsim.storage.files import LocalStorage
from ncsim.terminal import ProgressListener
from ncsim.text.config import MEANS
from ncsim.text.job import opened
from ncsim.text.order import TextOrder
from ncsim.text.run_folder import ADAPTER_FILES, TextFolder


@dataclasses.dataclass(frozen=True)
class TextAudit:
    """What an audit found."""

    seed: int
    groups: int  # that were trained again
    stored: int  # that are complete
    differing: list[str]  # the names of the files that are others
    elsewhere: list[str]  # in what this machine is not of the kinds that trained the run
    changed: list[str]  # what the run was trained with that changed on the way, and so rounding

    @property
    def right(self) -> bool:
        """Whether every group was as stored."""
        return not self.differing

    def lines(self) -> list[str]:
        """The result in words."""
        said = "all are as stored" if self.right else counted(len(self.differing), "file differs", "files differ")
        again = f"Audit: {self.groups:,} of {counted(self.stored, 'group')} of adapters (seed {self.seed}) trained again: {said}."
        lines = [*(f"{name}: differs" for name in self.differing), again]
        if self.elsewhere:
            there = "; ".join(self.elsewhere)
            lines.append(f"This machine is not of the kind that trained the run ({there}): adapters may differ.")
        if self.differing and self.changed:
            how = "; ".join(self.changed)
            lines.append(f"How the run was trained changed on the way ({how}): adapters may differ by rounding.")
        return lines


def audit_text(
    path: str | os.PathLike[str],
    share: float,
    seed: int,
    source_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: ProgressListener | None = None,
) -> TextAudit:
    """Train a random share of a run's groups of adapters again, with as many devices, and compare evaluations and weights.

    Args:
        path: the run folder.
        share: of the groups that are complete, above 0 to 1; rounded up.
        seed: of the choice.
        source_dir, cache_dir, progress: as for `ncsim.text.run_text`.

    Raises:
        StoreError: no text run is there, a part is torn, or model or data are others than the run's.
        ConfigError: a share or seed out of range, or model or data cannot be read.
    """
    checked_audit(share, seed)
    folder = TextFolder.open(path)
    missing = folder.incomplete()
    complete = [number for number, group in enumerate(folder.groups) if group and number not in missing]
    count = part_of(share, len(complete))
    chosen = sorted(map(int, np.random.default_rng(seed).permutation(complete)[:count]))
    if not chosen:
        raise StoreError(f"{folder.location}: no group of adapters is complete yet; run the same command again")
    devices = int(folder.description["device"].partition(" ")[0])
    order = TextOrder.of(folder.config, folder.location, source_dir, cache_dir, devices, None)

    with own_programs():
        trainer, sources = opened(order, progress)
        folder.check(folder.config, sources)
        with signals.scratch("ncsim-") as place:
            LocalStorage(place).write(CONFIG, folder.storage.read(CONFIG))
            trainer.train(fresh := TextFolder.open(place), chosen, progress)
            differing = [name for number in chosen for name in _differing(folder, fresh, number)]
        elsewhere = all_differences(trainer.kind(), folder.environments())
        return TextAudit(seed, len(chosen), len(complete), differing, elsewhere, changes(folder))


def changes(folder: TextFolder) -> list[str]:
    """What changed on a run's way that changes results by rounding, in words, as far as it is on record."""
    words = {
        "first_groups": "groups of adapters (--at-once)",
        "first_microbatch": "rows of a step at a time",
        "other_means": ", ".join(map(option_name, MEANS)),
    }
    return [said for name, said in words.items() if name in folder.description]


def _differing(folder: TextFolder, fresh: TextFolder, number: int) -> list[str]:
    """The names of a group's files that do not hold the same. Parts are compared as tables: pyarrow may write others."""
    # Rows in words, in which a NaN is equal to itself and -0 is not 0.
    one, other = (repr(table.to_pylist()) for each in (folder, fresh) if (table := each.read_part(number)) is not None)
    found = [] if one == other else [folder.part_name(number)]
    names = [f"{folder.adapter_name(each)}/{name}" for each in folder.groups[number] for name in ADAPTER_FILES]
    return found + [name for name in names if folder.storage.read(name) != fresh.storage.read(name)]
