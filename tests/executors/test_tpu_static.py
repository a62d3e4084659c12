"""The kernel compiled for a TPU that is not here, by libtpu (`make test-tpu-static`): lowering alone does not show what it refuses."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Bundles of a step of 1,024 networks, fills and spills in it, as read on 2026-11-27 (benchmarks/results/tpu-static.md),
#: with a tenth to spare: another libtpu places them otherwise.
BOUNDS = {2: (561, 193, 148), 3: (733, 347, 263), 4: (904, 533, 402), 8: (1718, 1303, 828)}

pytestmark = pytest.mark.skipif(
    "TPU_LIBRARY_PATH" not in os.environ and importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed; `make test-tpu-static` installs it",
)


@pytest.mark.parametrize("hidden", BOUNDS)
def test_libtpu_compiles_it(hidden):
    """In a process of its own: the library's flags are read once. The step stays as short as it was measured to be."""
    command = [sys.executable, "-m", "benchmarks.tpu_static", "--hidden", str(hidden)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    bundles, _, fills, spills = (int(word) for word in done.stdout.splitlines()[-1].split("|")[3:7])
    assert 100 < bundles <= BOUNDS[hidden][0]
    assert fills <= BOUNDS[hidden][1]
    assert spills <= BOUNDS[hidden][2]
