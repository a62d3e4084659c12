"""Several processes that JAX's own runtime brings together: TPU pods, SLURM, Open MPI, or addresses given by hand.

Members are independent, so training needs no collective: what the processes need of each other is how many they are and
which each is (and a TPU pod's runtime, that all have come). They meet at the coordinator, learn it, and leave again:
JAX ends every process of a group in which one has died, which is right for a model that is spread over them and wrong
here. From then on they are workers that share a run folder (`ncsim.cluster.workers`): each begins with its share, and
what a dead one leaves is taken by the others, or by the same command later with any number of processes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from ncsim.cluster.workers import Shard
from ncsim.config.fields import count
from ncsim.errors import ConfigError, one_line
from ncsim.terminal import say, write_line

#: How long processes wait for one another.
RENDEZVOUS_SECONDS = 300
MOST_PROCESSES = 1_000_000


def launched_by(environment: Mapping[str, str] = os.environ) -> str | None:
    """What has started this process as one of several, where JAX can find the others by it; None for a single one."""

    def several(name: str) -> bool:
        count = environment.get(name, "")
        return count.isascii() and count.isdigit() and int(count[:9]) > 1

    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if several("SLURM_NTASKS") and all(name in environment for name in slurm):
        return "SLURM"
    if several("OMPI_COMM_WORLD_SIZE") and "OMPI_MCA_orte_hnp_uri" in environment:
        return "Open MPI"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "").strip(","):
        return "TPU pod"
    return None


def _told(environment: Mapping[str, str]) -> str:
    """How many processes the launcher says there are, in words."""
    launcher = launched_by(environment)
    if launcher == "TPU pod":
        return f"TPU pod says {len(environment['TPU_WORKER_HOSTNAMES'].strip(',').split(','))} processes"
    names = {"SLURM": "SLURM_NTASKS", "Open MPI": "OMPI_COMM_WORLD_SIZE"}
    return f"{launcher} says {environment[names[launcher]]} processes" if launcher else "several processes"


def checked(
    coordinator: str | None, processes: str | None, process: str | None
) -> tuple[str | None, int | None, int | None]:
    """The options --coordinator, --processes and --process, as numbers where they are.

    Raises:
        ConfigError: an address without a port, a number out of range, or one of the three without the others.
    """
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        digits = port.isascii() and port.isdigit() and len(port) < 10
        if not host or not digits or not 1 <= int(port) <= 65_535 or any(c.isspace() for c in host):
            raise ConfigError(f"--coordinator: {coordinator}; allowed: HOST:PORT of process 0, as node1:6000")
    several = count("--processes", processes, MOST_PROCESSES)
    number = count("--process", process, (several or MOST_PROCESSES) - 1, smallest=0)
    if len({value is None for value in (coordinator, processes, process)}) > 1:
        raise ConfigError("--coordinator, --processes and --process: go together; allowed: all three or none")
    return coordinator, several, number


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    seconds: float = RENDEZVOUS_SECONDS,
) -> Shard:
    """Meet the other processes, start this one's devices, and give its place among them. Call it before JAX starts its
    backends, and once. Without arguments everything is what JAX finds in the environment.

    Where not all processes come in time, the program ends with one line and status 2: JAX would end it with a signal.

    Raises:
        ConfigError: the environment does not say who the others are, or the coordinator cannot be one.
    """
    import jax

    if processes == 1:
        return Shard(1, 1)
    where = coordinator or f"the address that {launched_by() or 'the environment'} gives"
    count = f"{processes} processes" if processes else _told(os.environ)
    say(f"{count}: waiting up to {seconds:.0f} s for the others; --shard 1/1 runs alone")
    with _ending_after(
        seconds, f"not all processes came to {where} within {seconds:.0f} s; start all of them together"
    ):
        try:
            with contextlib.suppress(AttributeError):  # it takes SIGTERM for itself, and for ever
                jax.config.update("jax_enable_preemption_service", False)
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                cluster_detection_method=None if coordinator is None else "deactivate",
                # Ours comes first, with a word; theirs is a crash.
                initialization_timeout=int(seconds) + 60,
                shutdown_timeout_seconds=int(seconds) + 60,
            )
            jax.local_devices()  # backends exchange what they have, once and all together
            place = Shard(jax.process_index() + 1, jax.process_count())
            jax.distributed.shutdown()
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"the processes cannot be brought together ({one_line(error)}); allowed: a start by SLURM, Open MPI or a "
                "TPU pod, or --coordinator HOST:PORT --processes N --process I"
            ) from None
    return place


@contextlib.contextmanager
def _ending_after(seconds: float, words: str) -> Iterator[None]:
    """End the process with one line and status 2 unless the block is left in time."""
    left = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + seconds
        while not left.wait(max(deadline - time.monotonic(), 0)):
            write_line(f"ncsim: error: {words}", sys.stderr)
            os._exit(2)

    threading.Thread(target=watch, name="ncsim-rendezvous", daemon=True).start()
    try:
        yield
    finally:
        left.set()
