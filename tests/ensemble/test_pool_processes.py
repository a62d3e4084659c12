"""Parts trained by tasks of other processes, whose bytes are compared with this one's: so its programs are compiled as theirs are."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import pytest

import ncsim
from ncsim.errors import DeviceError
from ncsim.storage.files import open_storage
from ncsim.storage.verify import verify
from tests.ensemble.test_pool import GRID, RECORDING, Here, Listener, _small_parts, alone, files  # noqa: F401 - fixtures
from tests.support.dask import NEEDS_DASK, losing_a_worker


@pytest.mark.slow
def test_processes_store_what_one_does_and_a_killed_one_costs_its_parts(alone, tmp_path, monkeypatch):  # noqa: F811
    """A pool of processes is broken when one is killed: one line, and a new pool trains what is missing.

    They have as many devices as this one, whose programs they find."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(len(jax.devices())))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        pool.submit(os.getpid).result()
        (worker,) = pool._processes
        stopped = threading.Event()

        def kill():
            while len(files(tmp_path)) < 4 and not stopped.wait(0.01):
                pass
            os.kill(worker, signal.SIGKILL)

        threading.Thread(target=kill).start()
        with pytest.raises(
            DeviceError, match=r"^pool: takes no more tasks \(.*\); what is stored is whole, and the same"
        ):
            ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", recording=RECORDING, pool=pool)
        stopped.set()
    kept = files(tmp_path)
    assert 4 <= len(kept) < len(alone)
    assert kept.items() <= alone.items()
    listener = Listener()
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        run = ncsim.run_ensemble(GRID, out=tmp_path, pool=pool, progress=listener)
    assert files(tmp_path) == alone
    assert run.missing() == 0
    assert verify(tmp_path).right
    assert sum(told[1] for told in listener.told if told[0] == "start") < 600
    ncsim.run_ensemble(GRID, out=tmp_path, pool=Here(lost=9))  # complete: no task is handed out


def test_other_processes_do_not_see_this_ones_memory(alone, tmp_path):  # noqa: F811
    """A task said that no run is stored there, when the run had begun."""
    place = f"memory://{tmp_path.name}/run"
    words = rf"^out: {place}; it is in the memory of this process, and the tasks of the pool run in others; allowed: a folder"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, pytest.raises(ncsim.ConfigError, match=words):
        ncsim.run_ensemble(GRID, out=place, executor="xla", pool=pool)
    assert open_storage(place).names("") == []
    with ThreadPoolExecutor(1) as pool:
        ncsim.run_ensemble(GRID, out=place, executor="xla", recording=RECORDING, pool=pool)
    assert {name: open_storage(place).read(name) for name in alone} == alone


@NEEDS_DASK
def test_dask_stores_what_one_process_does(alone, tmp_path):  # noqa: F811
    """And trains again what a worker had that is killed."""
    with losing_a_worker(lambda: len(files(tmp_path)) >= 4) as pool:
        ncsim.run_ensemble(GRID, out=tmp_path, executor="xla", recording=RECORDING, pool=pool)
    assert files(tmp_path) == alone
