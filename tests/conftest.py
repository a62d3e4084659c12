"""All tests run on four CPU devices; shapes and types of what works on arrays are checked as it is called."""

import os
import tempfile

from jaxtyping import install_import_hook

# What an earlier version compiled, or found to be faster, is nothing to these tests, nor to the processes they start.
_CACHE = tempfile.TemporaryDirectory(prefix="ncsim-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

# Not the modules that check their arguments themselves: there a bad value must reach our own error.
CHECKED = ["network", "chsh", "counts"]
install_import_hook([f"ncsim.{name}" for name in CHECKED], "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

from ncsim.ensemble import prepare_jax  # noqa: E402

prepare_jax(devices=4)
jax.devices()  # started now: the first run of a test would ask for as many as there are cores
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch, tmp_path):
    """Relative paths of a test are its own."""
    monkeypatch.chdir(tmp_path)
