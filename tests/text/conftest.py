import pytest

from tests.support.quick import compiled_quickly


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with compiled_quickly():
        yield
