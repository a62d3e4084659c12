"""JAX's devices in a process of a user's own, where nothing has started them."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_to_try_an_optimizers_options_starts_no_devices():
    """One step is tried where some parameters have no gradient: JAX had one device for all cores then."""
    code = """if True:
        import ncsim
        config = ncsim.EnsembleConfig(hidden=1, members=4, steps=2, bob_weight=0.0, optimizer_options="eps=1e-6")
        print(len(ncsim.run_ensemble(config, executor="xla", devices=2).counts))"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (found.stdout, found.returncode) == ("4\n", 0), found.stderr
