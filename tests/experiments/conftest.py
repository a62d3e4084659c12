"""Experiments are run by XLA: to try it and generated C for each kind of network takes longer than their small runs."""

import pytest

from tests.support.quick import compiled_quickly


@pytest.fixture(autouse=True, scope="module")
def _by_xla():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncsim.executors.choice._native_is_worth_it", lambda *_: False)
        yield


@pytest.fixture(scope="module")
def quickly():
    """For files whose runs are small, and not trained again by another program."""
    with compiled_quickly():
        yield
