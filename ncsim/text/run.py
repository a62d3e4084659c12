"""A text run from its config to stored evaluations and adapters: which groups, on which devices, resumed where it was."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Executor

from ncsim.cluster.ray_pool import ray_pool
from ncsim.cluster.shards import Shard
from ncsim.cluster.tasks import checked_pool
from ncsim.config.fields import checked, integer
from ncsim.errors import ConfigError
from ncsim.executors.devices import checked_device_count
from ncsim.machine import check_system
from ncsim.storage.files import open_storage
from ncsim.terminal import ProgressListener
from ncsim.text.config import TextConfig
from ncsim.text.data.suites import open_suite
from ncsim.text.order import TextOrder
from ncsim.text.pool import train_by
from ncsim.text.results import TextRun


def run_text(
    config: TextConfig,
    out: str | os.PathLike[str],
    source_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    devices: int | None = None,
    at_once: int | None = None,
    progress: ProgressListener | None = None,
    shard: tuple[int, int] | None = None,
    pool: Executor | str | None = None,
) -> TextRun:
    """Train every adapter of a run and evaluate it on the way (arXiv:2603.04451, section 5).

    Killed at any moment and called again, it goes on from its last checkpoint and ends with the same evaluations, bit for
    bit on one machine with as many devices. Ctrl-C and SIGTERM, where `ncsim.signals` handles them, let the call that is
    on the devices end and store a checkpoint.

    Args:
        config: the run.
        out: its folder, or an address in an object store; one that holds this run is resumed.
        source_dir: data files that are on disk already; None downloads them from their official addresses.
        cache_dir: where prepared data is kept (default: $XDG_CACHE_HOME/ncsim/text).
        devices: how many to use, 1 or more; None uses all accelerators, or the CPU as one device that uses all cores. With
            `pool`: devices of each task; None uses all accelerators that it sees, or one core.
        at_once: adapters trained at once, 1 or more; None leaves it to the program. A run that is taken up again with
            another number is grouped anew, which changes results by rounding only; not with `shard`, where it counts for a
            new run alone.
        progress: told how it goes on; `ncsim.terminal.Progress` prints it.
        shard: (number, shards), with number from 1 to shards. (3, 16) trains the third sixteenth of the groups of adapters, and
            leaves the others to the other shards.
        pool: who trains, as for `ncsim.run_ensemble`: a `concurrent.futures.Executor` whose tasks are processes, or the address
            of Ray. A task trains a group of adapters. Its process must see `out`, the model and the data files.

    Returns:
        The run, opened from its folder. One of several shards gives the run as it is when its own groups are stored.

    Raises:
        ConfigError: an option that does not fit the model, the data or the machine.
        StoreError: the folder holds another run or cannot be written to; the data or the model cannot be read.
        DeviceError: a device failed, or has no memory for one row of a step. Of a pool: a task was lost too often, or it
            takes no more.

    Example:
        >>> config = TextConfig(model="model", suite="multilingual", ranks=(2,), epochs=1, batch_size=2, length=12)
        >>> run = run_text(config, "run", source_dir="data")  # doctest: +SKIP
        >>> run.counts.shape, run.missing()  # doctest: +SKIP
        ((1, 1, 2, 2, 2, 2, 2, 2), 0)
    """
    check_system()
    place = None if shard is None else Shard.checked(shard)
    devices = checked_device_count(devices)
    at_once = None if at_once is None else checked("at_once", at_once, integer(1, 1, 4096, "").metadata)
    if pool is not None and shard is not None:
        raise ConfigError("pool: shares out all of a run; allowed: without shard")
    if not (pool is None or isinstance(pool, str)):
        checked_pool(pool)
    open_storage(out)  # an address that is none is refused before model and data are read, which may be downloads
    open_suite(config.suite)
    order = TextOrder.of(config, out, source_dir, cache_dir, devices, at_once)
    with ray_pool(pool, devices) if isinstance(pool, str) else contextlib.nullcontext(pool) as executors:
        if executors is not None:
            return TextRun(train_by(executors, order, progress))
    from ncsim.text.job import train_here

    return TextRun(train_here(order, place, progress))
