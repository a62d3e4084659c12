"""`ncsim.reservoir` against numbers of another implementation: a long run, compiled as users' are."""

import math
import subprocess
import sys

import numpy as np
import pytest

import ncsim


@pytest.mark.thorough
def test_numbers_of_another_implementation():
    """Mean widths in contexts 11 and 22 at beta 4, s 2, at most 10 units, z = 1 and 4; and beta F(n), which are means over four million
    networks of the prior (the other implementation had 9.54 of eight units, by insertion alone)."""
    found = ncsim.reservoir([0.0, math.log(4) / 4], 4.0, 10, chains=128, steps=5_000, devices=1)
    widths = (found.width @ np.arange(11) / found.width.sum(axis=-1)).mean(axis=-1)
    np.testing.assert_allclose(widths[:, 0], [0.488, 2.216], atol=0.12)
    np.testing.assert_allclose(widths[:, 3], [0.398, 1.629], atol=0.12)
    canonical = [[route.canonical.value for route in routes] for routes in found.routes()]
    np.testing.assert_allclose(np.array(canonical)[:, [0, 3]], [[0.485, 0.395], [2.215, 1.629]], atol=0.12)
    free = found.free_energy()[[0, 3]][:, [0, 2, 4, 8]]
    np.testing.assert_allclose(free, [[5.55, 6.99, 8.13, 9.36], [5.55, 7.40, 9.16, 12.35]], atol=0.1)


@pytest.mark.slow
def test_chains_run_on_all_cores_in_a_process_of_their_own():
    """The loss of no unit was computed before JAX was told of devices: it had one, which all chains ran on in turn, and two were refused."""
    code = "import ncsim; print(ncsim.reservoir([0.0], 0.0, 1, 4, 50, devices=2).width.sum())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (found.stdout, found.returncode) == ("64\n", 0), found.stderr
