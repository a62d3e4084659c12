"""Whether the folder of a text run holds what was trained, bit for bit: as `storage/verify.py` asks it of an ensemble's."""

from __future__ import annotations

import dataclasses
import os
from typing import NamedTuple

from ncsim.errors import StoreError, reason
from ncsim.formatting import counted
from ncsim.storage.files import open_storage, unfinished_files
from ncsim.storage.verify import Finding, Found, described_by
from ncsim.text.run_folder import ADAPTER_FILES, TextFolder


class TextGap(NamedTuple):
    """Adapters that are not there, or of which evaluations are not."""

    cell: str  # the name of their group's part
    adapters: int

    @property
    def what(self) -> str:
        """What is missing, in words."""
        return f"adapters of its group ({self.adapters})"


@dataclasses.dataclass(frozen=True)
class TextVerification(Found):
    """What the folder of a text run holds."""

    whole: int  # groups with all their evaluations and adapters
    leftovers: int  # files that a killed process had begun; nobody reads them

    def lines(self) -> list[str]:
        """The result in words, a line for each thing that is wrong."""
        lines = self.wrong()
        if self.folder is not None:
            if not self.folder.sealed:
                lines.append("without checksums, of an old version: as far as can be seen, whole")
            groups = self.folder.groups
            adapters = sum(map(len, groups)) - sum(gap.adapters for gap in self.missing)
            lines.append(self.ended(f"{counted(self.whole, 'group')} with {counted(adapters, 'adapter')}"))
        if self.leftovers:
            files = counted(self.leftovers, "file was", "files were")
            lines.append(
                f"{files} begun by a process that was killed; nothing reads {'it' if self.leftovers == 1 else 'them'}"
            )
        return lines


def verify_text(path: str | os.PathLike[str]) -> TextVerification:
    """Read all of a text run's folder and say what it holds.

    Raises:
        StoreError: no text run is there, or the folder cannot be read.
    """
    storage = open_storage(path)
    try:
        folder, findings = described_by(storage, TextFolder.within)
        if folder is None:
            return TextVerification(None, findings, [], 0, 0)
        ours = {
            name
            for number in range(len(folder.groups))
            for name in (folder.part_name(number), folder.checkpoint_name(number))
        }
        ours |= {
            f"{folder.adapter_name(each)}/{name}" for group in folder.groups for each in group for name in ADAPTER_FILES
        }
        there = (name for kind in ("parts", "checkpoints", "adapters") for name in storage.names(kind))
        strange = [name for name in there if name not in ours]
        findings += [
            Finding(name, "is not of this run") for name in strange if not name.rpartition("/")[2].startswith(".")
        ]
        missing, leftovers = [], len(unfinished_files(storage))
        groups = [number for number, group in enumerate(folder.groups) if group]
        for number in groups:
            found = _wrong(folder, number)
            findings += found
            if any(not finding.name.startswith("checkpoints") for finding in found) or not folder.complete(number):
                missing.append(TextGap(folder.part_name(number), len(folder.groups[number])))
    except OSError as error:
        raise StoreError(f"{storage.location}: cannot be read ({reason(error)})") from None
    whole = len(groups) - len(missing)
    return TextVerification(folder, sorted(findings), missing, whole, leftovers)


def _wrong(folder: TextFolder, number: int) -> list[Finding]:
    """What is wrong with the files of a group."""
    found = []
    for name, read in (
        (folder.part_name(number), folder.checked_part),
        (folder.checkpoint_name(number), folder.checked_checkpoint),
    ):
        try:
            read(number)
        except StoreError as error:
            found.append(Finding(name, error.problem))
    for adapter in folder.groups[number]:
        if folder.has_adapter(adapter) and (torn := folder.torn_of_adapter(adapter)):
            found.append(torn)
    return found
