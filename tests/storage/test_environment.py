"""What a run was begun with is on record."""

import dataclasses
import errno
import subprocess
from pathlib import Path

import pytest

import ncsim
from ncsim.errors import StoreError
from ncsim.storage.environment import all_differences, differences, environment, recorded_executors, say_differences
from ncsim.storage.files import LocalStorage
from tests.support.tasks import FOUR_ROWS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this copy is no checkout")
def test_the_revision_of_the_checkout_is_on_record():
    """The checkout is found from the place of the file, which moves with the file."""
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert str(environment()["revision"]).removesuffix("-dirty") == head.stdout.strip()


def test_a_record_that_cannot_be_read_is_not_missing(tmp_path, monkeypatch):
    """Else the rest of a run would be trained by whatever executor is the fastest here, and nothing would say so."""
    config = ncsim.EnsembleConfig(members=2, steps=3, tasks=FOUR_ROWS)
    folder = ncsim.run_ensemble(config, out=tmp_path / "run", executor="xla").path
    assert recorded_executors(folder, [config]) == ["xla"]
    assert recorded_executors(tmp_path / "none", [config]) is None
    # Of a cell that is none of the run's nothing is known: it was not begun with xla.
    assert recorded_executors(folder, [config, dataclasses.replace(config, steps=4)]) is None
    read = LocalStorage.read

    def failing(self, name):
        if name == "config.json":
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, name)

    monkeypatch.setattr(LocalStorage, "read", failing)
    with pytest.raises(StoreError, match=r"run/config.json: cannot be read \(Stale file handle\)"):
        recorded_executors(folder, [config])


HERE = {
    "versions": {"ncsim": "1.0", "jax": "0.10.2", "jaxlib": "0.10.2", "optax": "0.2", "numpy": "2.4", "pyarrow": "25"},
    "platform": "Linux x86_64",
    "device": "2 x cpu (cpu)",
    "settings": [],
    "vectors": "8 numbers",
}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, []),
        ({"device": "16 x cpu (cpu)"}, []),  # a member does not depend on their number
        ({"versions": HERE["versions"] | {"numpy": "1.0", "pyarrow": "1"}}, []),  # shape no bits
        ({"versions": HERE["versions"] | {"optax": "0.1"}}, ["optax 0.2 here, 0.1 there"]),
        ({"versions": {"ncsim": "1.0", "jax": "0.10.2", "jaxlib": "0.10.2"}}, ["optax 0.2 here, None there"]),
        ({"platform": "Darwin arm64"}, ["Linux x86_64 here, Darwin arm64 there"]),
        ({"device": "1 x gpu (H200)"}, ["cpu (cpu) here, gpu (H200) there"]),
        ({"device": None}, []),  # of which nothing is known
        ({"settings": ["x=1", "y=2"]}, ["no such settings here, x=1 y=2 there"]),
        ({"vectors": "16 numbers"}, ["8 numbers here, 16 numbers there"]),
        ({"vectors": ""}, []),
        ({"versions": None, "platform": "Darwin arm64"}, []),
    ],
)
def test_what_may_change_a_member_is_told_and_nothing_else(other, words):
    there = {name: value for name, value in (HERE | other).items() if value is not None}
    assert differences(HERE, there) == words
    assert all_differences(HERE, [there, HERE, there]) == words


def test_what_is_said_is_of_who_began_and_what_is_put_on_record_of_who_trained_last(capsys):
    """A run of one kind that another went on with is of the first kind again for what follows, and that is to be known."""
    one, other = ({"versions": {"jax": "1"}, "platform": platform} for platform in ("Linux x86_64", "Linux aarch64"))
    said = "ncsim: this process is not of the kind that began the run (Linux aarch64 here, Linux x86_64 there): members may differ\n"
    for here, found, recorded, words in (
        (one, [], False, ""),
        (one, [one], False, ""),
        (other, [one], True, said),
        (other, [one, other], False, said),
        (one, [one, other], True, ""),
        (one, [one, other, one], False, ""),
    ):
        assert say_differences(here, found, "members") is recorded
        assert capsys.readouterr().err == words
