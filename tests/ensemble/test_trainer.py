"""What is on the devices while results are handed over: the next call, also of the next part and of the next cell."""

import dataclasses

import pytest

import ncsim
from ncsim import signals
from ncsim.ensemble import trainer
from ncsim.storage import parts
from ncsim.storage.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("quickly")

CONFIG = ncsim.EnsembleConfig(hidden=2, members=192, steps=5)
GRID = [dataclasses.replace(CONFIG, learning_rate=rate, members=64) for rate in (0.01, 0.1, 0.3)]


@pytest.fixture
def told(monkeypatch):
    """What happens, in order: calls that are issued, by their first member, and results that are handed over, with what would be
    lost then."""
    log = []
    layout, taken = trainer.Trainer._layout, trainer._taken

    def issuing(self, batch, program):
        log.append(f"issued {batch.start}")
        return layout(self, batch, program)

    def taking(result, used, members, recorded):
        log.append(f"taken {members}; {signals.at_stake}")
        return taken(result, used, members, recorded)

    monkeypatch.setattr(trainer.Trainer, "_layout", issuing)
    monkeypatch.setattr(trainer, "_taken", taking)
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    return log


@pytest.mark.parametrize("recording", [None, ncsim.Recording(points=3)])
def test_no_device_waits_between_two_parts(told, tmp_path, recording):
    run = ncsim.run_ensemble(CONFIG, out=tmp_path / "run", executor="xla", recording=recording)
    assert told == [
        "issued 0",
        "issued 64",
        "taken 64; the training of members 0 to 63",
        "issued 128",
        "taken 64; the training of members 64 to 127",
        "taken 64; the training of members 128 to 191",
    ]
    assert signals.at_stake == ""
    assert run.records().member.tolist() == list(range(192))


def test_no_device_waits_between_two_cells_of_one_program(told, tmp_path):
    grid = [*GRID, dataclasses.replace(CONFIG, hidden=3, members=64)]
    run = ncsim.run_ensemble(grid, out=tmp_path / "run", executor="xla")
    of_one = [line.partition(";")[0] for line in told]
    assert of_one == ["issued 0", "issued 0", "taken 64", "issued 0", "taken 64", "taken 64", "issued 0", "taken 64"]
    for cell, config in enumerate(grid):
        alone = ncsim.run_ensemble(config, executor="xla").records()
        assert run.records(cell).counts.tolist() == alone.counts.tolist()
        assert run.records(cell).loss.tobytes() == alone.loss.tobytes()


def test_what_cannot_be_stored_ends_what_was_begun(told, tmp_path, monkeypatch):
    def full(self, config, records):
        raise ncsim.StoreError("no space")

    monkeypatch.setattr(RunFolder, "write_part", full)
    with pytest.raises(ncsim.StoreError, match=r"^no space$"):
        ncsim.run_ensemble(CONFIG, out=tmp_path / "run", executor="xla")
    monkeypatch.undo()
    assert ncsim.run_ensemble(CONFIG, out=tmp_path / "run", executor="xla").records().size == 192
