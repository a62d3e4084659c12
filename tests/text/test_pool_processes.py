"""Text runs by tasks of other processes, whose bytes are compared with this one's: so its programs are compiled as theirs are."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.support.dask import NEEDS_DASK, losing_a_worker
from tests.support.quick import compiled_as_by_users
from tests.text.test_pool import _fresh, by  # noqa: F401 - a fixture
from tests.text.test_run import contents, files, whole  # noqa: F401 - fixtures


@pytest.fixture(autouse=True, scope="module")
def _as_in_other_processes():
    with compiled_as_by_users():
        yield


@pytest.mark.thorough
def test_other_processes_store_what_one_does(files, whole, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert contents(by(pool, files, tmp_path / "processes").path) == contents(whole.path)


@NEEDS_DASK
@pytest.mark.slow
def test_dask_stores_what_one_process_does_though_a_worker_is_killed(files, whole, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with losing_a_worker(lambda: list((tmp_path / "dask").glob("parts/*"))) as pool:
        run = by(pool, files, tmp_path / "dask")
    assert contents(run.path) == contents(whole.path)
