"""Ray's tasks as an executor of `concurrent.futures`: a Ray on this machine, started and stopped, or a cluster that runs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from ncsim import signals
from ncsim.errors import ConfigError, DeviceError, one_line
from ncsim.machine import cores
from ncsim.terminal import telling

ADDRESSES = "ray, auto or ray://HOST:PORT"
#: Nothing of a run passes through Ray's object store, so it is as small as Ray allows: 75 MiB and a little.
OBJECT_STORE_BYTES = 80 * 2**20
#: Parts of one task where an accelerator trains a part in less time than a task takes to be handed out.
PARTS_OF_AN_ACCELERATOR = 16


class RayPool(Executor):
    """The tasks of a Ray that this process is connected to.

    Args:
        devices: cores or GPUs of each task; None for one. A TPU host is one task's.
    """

    def __init__(self, devices: int | None) -> None:
        import ray

        self._ray = ray
        there = ray.cluster_resources()
        needs: dict[str, Any] = {"num_cpus": devices or 1}
        if there.get("GPU"):
            # A worker keeps its GPU and what it has compiled; by default Ray ends it after every task.
            needs = {"num_gpus": devices or 1, "max_calls": 0}
        elif there.get("TPU"):
            most = max(node["Resources"].get("TPU", 0) for node in ray.nodes() if node["Alive"])
            needs = {"resources": {"TPU": most}}
        if not any(self._fits(needs, node["Resources"]) for node in ray.nodes() if node["Alive"]):
            wanted = devices or 1
            raise ConfigError(f"--devices: {wanted}; no machine of the Ray cluster has so many; allowed: fewer")
        self.parts_a_task = 1 if "num_cpus" in needs else PARTS_OF_AN_ACCELERATOR
        # What is lost is handed out again by `tasks.py`, whatever the engine: here it would be counted twice.
        self._task = ray.remote(max_retries=0, **needs)(_call)

    @staticmethod
    def _fits(needs: dict[str, Any], has: dict[str, float]) -> bool:
        return needs.get("num_cpus", 0) <= has.get("CPU", 0) and needs.get("num_gpus", 0) <= has.get("GPU", 0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call out. Cancelling its future ends the worker that does it.

        Raises:
            RuntimeError: Ray takes no more tasks.
        """
        future: Future[Any] = Future()
        try:
            task = self._task.remote(fn, *args, **kwargs)
        except Exception as error:  # of a connection that has gone
            raise RuntimeError(f"{type(error).__name__}: {one_line(error)}") from None

        def done(ended: Future[Any]) -> None:
            if future.set_running_or_notify_cancel():
                error = ended.exception()
                if error is None:
                    future.set_result(ended.result())
                else:
                    future.set_exception(error)

        def cancelled(asked: Future[Any]) -> None:
            if asked.cancelled():
                with contextlib.suppress(Exception):  # it has ended just now, or Ray has
                    self._ray.cancel(task, force=True)

        future.add_done_callback(cancelled)
        task.future().add_done_callback(done)
        return future


def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


@contextlib.contextmanager
def ray_pool(address: str, devices: int | None) -> Iterator[RayPool]:
    """Ray's tasks until the context ends. A Ray that was started here is stopped there; one that ran before goes on.

    Args:
        address: "ray" for one on this machine, started here; "auto" or "ray://HOST:PORT" for a cluster.
        devices: of each task, as for `RayPool`.

    Raises:
        ConfigError: another address, Ray is not installed, or no cluster is there.
        DeviceError: no Ray could be started here.
    """
    if address not in ("ray", "auto") and not address.startswith("ray://"):
        raise ConfigError(f"--cluster: {address}; allowed: {ADDRESSES}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and no warning of it
    with _own_handlers():
        try:
            import ray
        except ImportError:
            raise ConfigError(
                f"--cluster: {address}; Ray is not installed; install it from a clone of this repository with: "
                "pip install '.[ray]'"
            ) from None
        if ray.is_initialized():  # the user's own, in Python: theirs to stop
            yield RayPool(devices)
            return
        _start(ray, address)
    try:
        yield RayPool(devices)
    finally:
        with signals.finishing():
            ray.shutdown()


def _start(ray: Any, address: str) -> None:
    """Connect to a Ray, or start one."""
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    own = {"num_cpus": cores(), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    there = os.environ.get("RAY_ADDRESS", "") if address == "auto" else ""
    where = f"{address} (RAY_ADDRESS={there})" if there else address
    try:
        if address == "ray":
            ray.init(address="local", **own, **quiet)
        else:
            with telling(
                f"--cluster: {where}; looking for the Ray cluster"
            ):  # Ray looks for two minutes, without a word
                ray.init(address=address, **quiet)
    except Exception as error:
        if address == "ray":
            raise DeviceError(f"--cluster: ray; no Ray could be started here ({one_line(error)})") from None
        raise ConfigError(
            f"--cluster: {where}; no Ray cluster can be reached there ({one_line(error)}); allowed: {ADDRESSES}"
        ) from None


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep the handlers of signals, which Ray sets to its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
