"""A text run's results as a user holds them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from ncsim.errors import StoreError
from ncsim.statistics.chsh import chsh_statistics
from ncsim.storage.arrow_tables import signed
from ncsim.text.records import joint_counts_of
from ncsim.text.run_folder import TextFolder


class TextRun:
    """A text run's results. `run_text` and `open_text_run` make it.

    Args:
        folder: where it is stored.

    Attributes:
        config: the run.
        location: where it is stored, a path or an address.
        path: the folder on this machine; None in an object store.
        data: what it was trained on: per task the data set, split, items, majority rate and truncated fraction.
        backbone: "fingerprint", 16 hex digits of the frozen model's files.

    Example:
        >>> run = open_text_run("text-run")  # the folder of any text run; this one has one rank and one seed
        >>> run.epochs, run.counts.shape, run.missing(), run.table().num_rows
        ([0, 1, 2], (1, 1, 3, 2, 2, 2, 2, 2), 0, 24)
        >>> counts, missing = run.counts_and_missing()
        >>> run.statistics().s.shape
        (1, 1, 3, 2)
        >>> run.environments()[0]["platform"]
        'Linux x86_64'
    """

    def __init__(self, folder: TextFolder) -> None:
        self._folder = folder
        self.config, self.path, self.location = folder.config, folder.path, folder.location
        self.storage = folder.storage
        self.data: dict[str, Any] = folder.description["data"]
        self.backbone: dict[str, Any] = folder.description["backbone"]

    def table(self) -> pa.Table:
        """Evaluations, a row per adapter, epoch and split; pandas takes it where it is installed (Arrow's own method).

        Returns:
            The columns of `ncsim.text.records.SCHEMA`, signed: counts per pair of answers, losses, undecided answers.

        Raises:
            StoreError: a part is torn, or nothing is stored yet.
        """
        return signed(self._joined(self._parts()))

    def _parts(self) -> list[pa.Table | None]:
        return [self._folder.read_part(group) for group in range(len(self._folder.groups))]

    def _joined(self, parts: list[pa.Table | None]) -> pa.Table:
        tables = [table for table in parts if table is not None]
        if not tables:
            raise StoreError(f"{self.location}: nothing has been evaluated yet; run the same command again")
        return pa.concat_tables(tables)

    def missing(self) -> int:
        """Adapters that are still to be trained."""
        return self._missing_from(self._parts())

    def _missing_from(self, parts: list[pa.Table | None]) -> int:
        groups = self._folder.groups
        return sum(len(groups[n]) for n, table in enumerate(parts) if not self._folder.completed_by(n, table))

    def environments(self) -> list[dict[str, Any]]:
        """What the run was begun with, and what it went on with where that was of another kind."""
        return self._folder.environments()

    def counts_and_missing(self) -> tuple[np.ndarray, int]:
        """`counts` and `missing()` from one reading of the parts, so that both speak of the same moment."""
        parts = self._parts()
        return joint_counts_of(self._joined(parts), self.config, self._folder.groups), self._missing_from(parts)

    @property
    def epochs(self) -> list[int]:
        """Epochs after which adapters were evaluated."""
        return self.config.evaluated_epochs

    @property
    def counts(self) -> np.ndarray:
        """Joint counts, int64[ranks, seeds, epochs evaluated, splits (train, test), i, j, a, b]; zero where none are yet."""
        return joint_counts_of(self.table(), self.config, self._folder.groups)

    def statistics(self) -> Any:
        """`ChshStatistics` of `counts`; NaN where a context has none yet, or its adapter diverged."""
        return chsh_statistics(self.counts)


def open_text_run(path: str | os.PathLike[str]) -> TextRun:
    """The text run stored in a folder, complete or not.

    Args:
        path: a folder on this machine, or an address in an object store, as `run_text` was given.

    Returns:
        The run; its parts are read when they are asked for.

    Raises:
        StoreError: no text run is there.

    Example:
        >>> open_text_run("text-run").missing()  # the folder of any text run
        0
    """
    return TextRun(TextFolder.open(path))
