import pytest

from tests.support.quick import compiled_quickly


@pytest.fixture(scope="module")
def quickly():
    """For files of small runs whose bytes are not compared with those of other processes."""
    with compiled_quickly():
        yield
