import jax
import pytest


@pytest.fixture
def key_slices():
    """The check of keys takes a slice of an array of keys for the whole of it."""
    with jax.debug_key_reuse(False):
        yield
