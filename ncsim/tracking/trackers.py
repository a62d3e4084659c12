"""Trackers of experiments as listeners: Trackio, Weights & Biases and MLflow. Each cell is one tracked run, and no member is.

Where they keep what they are told, and whether anything leaves this machine, is theirs to say: `TRACKIO_DIR`, `WANDB_MODE=offline`,
`MLFLOW_TRACKING_URI` and so on.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import importlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ncsim.config.ensemble import EnsembleConfig, swept_fields
from ncsim.config.fields import named_values, shown
from ncsim.errors import ConfigError, missing_extra
from ncsim.statistics.intervals import Estimate
from ncsim.tracking.listeners import RunListener

PROJECT = "ncsim"


def metric_name(name: str) -> str:
    """A number's name as all trackers take it: "P(S > 2), single shot" is P_S_above_2/single_shot."""
    return "/".join(re.sub(r"\W+", "_", word).strip("_") for word in name.replace(" > ", " above ").split(", ", 1))


class Tracker(RunListener):
    """A listener that keeps a run per cell with one of the trackers; see `tracker`."""

    def __init__(self, project: str, package: Any) -> None:
        self._project, self._package = project, package
        self._runs: list[Any] = []

    def began(self, configs: Sequence[EnsembleConfig], location: str | None) -> None:
        """Begin a tracked run per cell, named by the folder and what tells the cell apart."""
        folder = (location or "in memory").rstrip("/").rpartition("/")[2]
        swept = swept_fields(list(configs))
        self._runs = []
        with self._telling():
            for config in configs:
                cell = named_values({name: getattr(config, name) for name in swept})
                values = dataclasses.asdict(config) | {"tasks": config.tasks.name, "location": str(location)}
                self._runs.append(self.begin(f"{folder} {cell}".strip(), values))

    def progressed(self, cell: int, members: int, numbers: Mapping[str, Estimate]) -> None:
        """Log each number with its limits; the step is how many members there are."""
        values: dict[str, float] = {"members": members}
        for name, (value, low, high, *_) in numbers.items():
            plain = metric_name(name)
            values |= {plain: value, f"{plain}_low": low, f"{plain}_high": high}
        with self._telling():
            self.log(self._runs[cell], members, values)

    def ended(self, status: str) -> None:
        """End all tracked runs, those behind one that fails too."""
        with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as all_of_them:
            for run in reversed(self._runs):
                all_of_them.callback(self.end, run, status)
        self._runs = []

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Standard output is the report's. Who fails is told no more, not even that the run has ended: its tracked runs would be running
        for ever, and so they end here."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception:
            with contextlib.suppress(Exception):
                self.ended("failed")
            raise

    def begin(self, name: str, values: dict[str, Any]) -> Any:
        """A new run of the tracker."""
        raise NotImplementedError

    def log(self, run: Any, step: int, values: dict[str, float]) -> None:
        """Numbers of a run."""
        run.log(values, step=step)

    def end(self, run: Any, status: str) -> None:
        """The end of a run."""
        run.finish()


class Trackio(Tracker):
    """Runs of Trackio. One ends where another of its context begins, so each has a context of its own."""

    def begin(self, name: str, values: dict[str, Any]) -> Any:
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        context = contextvars.Context()
        return context.run(self._package.init, project=self._project, name=name, config=values, **options)


class WandB(Tracker):
    """Runs of Weights & Biases."""

    def begin(self, name: str, values: dict[str, Any]) -> Any:
        return self._package.init(project=self._project, name=name, config=values, reinit="create_new")

    def end(self, run: Any, status: str) -> None:
        run.finish(exit_code=0 if status == "finished" else 1)


class MLflow(Tracker):
    """Runs of MLflow, of which no one is the active one of this process."""

    def begin(self, name: str, values: dict[str, Any]) -> Any:
        self._client = self._package.MlflowClient()
        experiment = self._client.get_experiment_by_name(self._project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self._project)
        run = self._client.create_run(number, run_name=name).info.run_id
        try:
            self._client.log_batch(run, params=[self._package.entities.Param(key, str(v)) for key, v in values.items()])
        except Exception:
            with contextlib.suppress(Exception):
                self.end(run, "failed")
            raise
        return run

    def log(self, run: Any, step: int, values: dict[str, float]) -> None:
        now, metric = int(1000 * time.time()), self._package.entities.Metric
        self._client.log_batch(run, [metric(name, float(value), now, step) for name, value in values.items()])

    def end(self, run: Any, status: str) -> None:
        self._client.set_terminated(run, {"finished": "FINISHED", "stopped": "KILLED"}.get(status, "FAILED"))


TRACKERS: dict[str, type[Tracker]] = {"trackio": Trackio, "wandb": WandB, "mlflow": MLflow}


def tracker(words: str) -> RunListener:
    """A tracker of experiments as a listener: `ncsim.run_ensemble(..., listeners=[ncsim.tracker("wandb")])`.

    Each cell is one tracked run. Its numbers have names such as `P_S_above_2/single_shot`, each with `_low` and `_high`; the step is how
    many members there are.

    Args:
        words: "trackio", "wandb" or "mlflow", or one of them with a project, as "wandb:widths"; else the project is "ncsim".

    Returns:
        A listener. Where it keeps what it is told is for the tracker's own variables, as `WANDB_MODE=offline`.

    Raises:
        ConfigError: another word.
        ImportError: the package is not installed; the message says what to type.

    Example:
        >>> import ncsim
        >>> try:
        ...     ncsim.tracker("tensorboard")
        ... except ncsim.ConfigError as error:
        ...     print(error)
        --track: 'tensorboard'; allowed: trackio, wandb, mlflow, or one of them with a project, as wandb:widths
    """
    name, project = name_and_project(words)
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(error, f"--track {name}", name) from None
    return TRACKERS[name](project, package)


def name_and_project(words: str) -> tuple[str, str]:
    """The tracker that is asked for, and the project in it. Raises ConfigError."""
    name, _, project = words.partition(":") if isinstance(words, str) else ("", "", "")
    if name not in TRACKERS or (":" in words and not project):
        allowed = f"{', '.join(TRACKERS)}, or one of them with a project, as wandb:widths"
        raise ConfigError(f"--track: {shown(words)}; allowed: {allowed}")
    return name, project or PROJECT
