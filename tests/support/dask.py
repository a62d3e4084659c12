"""A cluster of Dask on this machine, for tests of runs that lose a worker."""

import contextlib
import importlib.util
import os
import signal
import threading
import time

import pytest

#: Before a test's fixtures train what Dask's workers are compared with.
NEEDS_DASK = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask is not installed")


@contextlib.contextmanager
def losing_a_worker(begun):
    """An executor of two workers, of which one is killed as soon as `begun()` is true."""
    import distributed

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
