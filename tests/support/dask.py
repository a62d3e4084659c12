"""A cluster of Dask on this machine, for tests of runs that lose a worker."""

import contextlib
import os
import signal
import threading
import time

import pytest


@contextlib.contextmanager
def losing_a_worker(begun):
    """An executor of two workers, of which one is killed as soon as `begun()` is true. Skips where Dask is not installed."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())

        def kill():
            while not begun():
                time.sleep(0.01)
            os.kill(workers[0], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        yield client.get_executor()
        thread.join()
