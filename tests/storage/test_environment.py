"""What a run was begun with is on record."""

import subprocess
from pathlib import Path

import pytest

from ncsim.storage.environment import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this copy is no checkout")
def test_the_revision_of_the_checkout_is_on_record():
    """The checkout is found from the place of the file, which moves with the file."""
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert str(environment()["revision"]).removesuffix("-dirty") == head.stdout.strip()
