"""Several processes that a launcher has started: a TPU pod, SLURM or Open MPI. They start together, then each is a shard.

Members are independent, so training needs no collective. What the processes need is how many they are and which each is,
and a TPU pod's runtime wants all of them to come. They meet, learn it, and leave JAX's group again: JAX ends every process
of a group in which one has died, which is right for a model that is spread over them and wrong here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from ncsim.cluster.shards import Shard
from ncsim.errors import ConfigError, one_line
from ncsim.terminal import say, write_line

#: How long processes wait for one another.
RENDEZVOUS_SECONDS = 300


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


def join(seconds: float = RENDEZVOUS_SECONDS) -> Shard:
    """Meet the other processes, as JAX finds them in the environment, start this one's devices, and give its place among
    them. Call it before JAX starts its backends, and once.

    Where not all processes come in time, the program ends with one line and status 2: JAX would end it with a signal.

    Raises:
        ConfigError: the environment does not say who the others are.
    """
    import jax

    say(f"{_told(os.environ)}: waiting up to {seconds:.0f} s for the others; --shard 1/1 runs alone")
    where = f"the address that {launched_by() or 'the environment'} gives"
    words = f"not all processes came to {where} within {seconds:.0f} s; start all of them together"
    with _ending_after(seconds, words):
        try:
            with contextlib.suppress(AttributeError):  # it takes SIGTERM for itself, and for ever
                jax.config.update("jax_enable_preemption_service", False)
            # Ours comes first, with a word; theirs is a crash.
            later = int(seconds) + 60
            jax.distributed.initialize(initialization_timeout=later, shutdown_timeout_seconds=later)
            jax.local_devices()  # backends exchange what they have, once and all together
            place = Shard(jax.process_index() + 1, jax.process_count())
            jax.distributed.shutdown()
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"--distributed: the processes cannot be brought together ({one_line(error)}); allowed: a start by SLURM, "
                "Open MPI or a TPU pod, or --shard I/N in each"
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
