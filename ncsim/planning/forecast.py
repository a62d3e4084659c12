"""What a run will take: the numbers of a forecast, and the same in words. `ncsim.planning.plan` makes one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import spelled_values
from ncsim.formatting import duration, no_less, size, table
from ncsim.machine import memory


@dataclasses.dataclass(frozen=True)
class CellForecast:
    """One cell of the grid."""

    config: EnsembleConfig
    members: int  # that are still to be trained
    parts: int  # of members, and of trajectories where the run records
    executor: str
    network_steps: int
    training_seconds: float  # storing included
    compile_seconds: float  # 0 where an earlier cell has the same program
    disk_bytes: float
    calibrated: bool  # by its own program, or by one that is like it

    @property
    def rate(self) -> float:
        """Network-steps a second while training."""
        return self.network_steps / self.training_seconds if self.training_seconds else math.nan


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a run takes, in seconds and bytes."""

    cells: tuple[CellForecast, ...]
    device: str
    swept: tuple[str, ...]
    start_seconds: float  # of a process, until it can train
    report_seconds: float
    peak_memory_bytes: float
    free_disk_bytes: float | None  # None of an object store, which does not say
    calibration_seconds: float

    @property
    def training_seconds(self) -> float:
        """Of all cells, storing included."""
        return sum(cell.training_seconds for cell in self.cells)

    @property
    def compile_seconds(self) -> float:
        """Of all programs."""
        return sum(cell.compile_seconds for cell in self.cells)

    @property
    def disk_bytes(self) -> float:
        """Of all parts."""
        return sum(cell.disk_bytes for cell in self.cells)

    @property
    def run_seconds(self) -> float:
        """`run_ensemble` in a process that has not compiled anything yet."""
        return self.compile_seconds + self.training_seconds

    @property
    def total_seconds(self) -> float:
        """The command `ncsim ensemble`, from its start to its end."""
        return self.start_seconds + self.run_seconds + self.report_seconds

    def numbers(self) -> dict[str, Any]:
        """The forecast as plain data, for JSON."""
        cells = [
            {name: getattr(cell.config, name) for name in self.swept}
            | {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell) if field.name != "config"}
            for cell in self.cells
        ]
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "cells"}
        totals = ("training_seconds", "compile_seconds", "run_seconds", "total_seconds", "disk_bytes")
        return own | {name: getattr(self, name) for name in totals} | {"cells": cells}

    def lines(self) -> list[str]:
        """The forecast as text for a terminal."""
        header = [*(self.swept or ["cell"]), "members", "network-steps", "executor", "rate/s", "training", "compile"]
        rows = [[*self._labels(cell), *_row(cell)] for cell in self.cells]
        total = [f"{sum(c.members for c in self.cells):,}", f"{sum(c.network_steps for c in self.cells):.3g}", ""]
        steps = sum(cell.network_steps for cell in self.cells)
        total += [f"{steps / self.training_seconds:.3g}" if self.training_seconds else "-"]
        total += [duration(self.training_seconds), duration(self.compile_seconds)]
        total += [size(self.disk_bytes), f"{sum(cell.parts for cell in self.cells):,}"]
        rows.append(["total", *[""] * (max(len(self.swept), 1) - 1), *total])
        lines = table([*header, "disk", "parts"], rows)
        pieces = {"start": self.start_seconds, "compiling": self.compile_seconds, "training": self.training_seconds}
        pieces |= {"report": self.report_seconds}
        lines += ["", f"On {self.device}; calibrated in {self.calibration_seconds:.0f} s."]
        told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in pieces.items())
        lines.append(f"Time: {duration(self.total_seconds)} ({told}).")
        lines.append(f"Memory: {size(float(no_less(self.peak_memory_bytes, '.3g')))} at most.")
        free = self.free_disk_bytes
        place = "in an object store" if free is None else f"with {size(free)} free"
        lines.append(f"Disk: {size(self.disk_bytes)}, {place}.")
        if free is not None and self.disk_bytes > free:
            lines.append("Not enough disk: the run would stop when it is full, and resume once there is room.")
        most = memory()
        if most and self.peak_memory_bytes > most:
            lines.append(f"Not enough memory: this machine has {size(most)}.")
        if not all(cell.calibrated for cell in self.cells):
            lines.append("~ not calibrated itself: with the costs of the most similar program that was.")
        return lines

    def _labels(self, cell: CellForecast) -> list[str]:
        swept = {name: getattr(cell.config, name) for name in self.swept}
        values = list(spelled_values(swept).values()) or ["the ensemble"]
        return [("" if cell.calibrated else "~") + values[0], *values[1:]]


def _row(cell: CellForecast) -> list[str]:
    return [
        f"{cell.members:,}",
        f"{cell.network_steps:.3g}",
        cell.executor,
        f"{cell.rate:.3g}" if cell.members else "-",
        duration(cell.training_seconds),
        duration(cell.compile_seconds),
        size(cell.disk_bytes),
        f"{cell.parts:,}",
    ]
