"""Runs that end by a rule, trained by other processes, whose bytes are compared with this one's: so its programs are compiled as theirs are."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

import ncsim
from tests.ensemble.test_until import GRID, MEAN, _small, ended, files  # noqa: F401 - fixtures
from tests.support.dask import NEEDS_DASK, losing_a_worker


@pytest.mark.thorough  # a pool in this process is asked the same
def test_processes_come_to_the_same_members(ended, tmp_path):  # noqa: F811
    """What is asked of them, and what they give, goes from process to process."""
    run, plain = ended
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        again = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN, pool=pool)
    assert again.until == run.until
    found = files(tmp_path / "run")
    parts = [name for name in plain if name.startswith("parts/")]
    assert [found[name] for name in parts] == [plain[name] for name in parts]


@NEEDS_DASK
def test_dask_comes_to_the_same_members(ended, tmp_path):  # noqa: F811
    """And trains again what a worker had that is killed."""
    run, plain = ended
    with losing_a_worker(lambda: len(list(tmp_path.rglob("*.parquet"))) >= 4) as pool:
        again = ncsim.run_ensemble(GRID, out=tmp_path / "run", executor="xla", until=MEAN, pool=pool)
    assert again.until == run.until
    found = files(tmp_path / "run")
    parts = [name for name in plain if name.startswith("parts/")]
    assert [found[name] for name in parts] == [plain[name] for name in parts]
