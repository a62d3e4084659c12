"""Experiments are run by XLA: to try it and generated C for each kind of network takes longer than their small runs."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _by_xla():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncsim.executors.choice._native_agrees", lambda *_: False)
        yield
