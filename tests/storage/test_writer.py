"""Parts are written beside the training, in their order, and nothing goes unheard."""

import threading
import time

import pytest

import ncsim
from ncsim.ensemble.trainer import Trainer
from ncsim.errors import StoreError
from ncsim.storage import parts
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.writer import Background

CONFIG = ncsim.EnsembleConfig(hidden=2, members=64 * 3, steps=5)


def test_things_are_done_in_their_order_and_all_of_them():
    done = []
    with Background() as background:
        for number in range(5):
            background.do(lambda number=number: (time.sleep(0.01), done.append(number)))
        background.finish()
        assert done == [0, 1, 2, 3, 4]
        background.do(lambda: (time.sleep(0.05), done.append(5)))
    assert done == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("asked", ["do", "finish", "end"])
def test_what_fails_is_raised_and_nothing_is_done_after_it(asked):
    done = []

    def fail():
        raise StoreError("no space")

    with pytest.raises(StoreError, match="no space"), Background() as background:  # noqa: PT012
        background.do(fail)
        if asked == "do":
            background.do(lambda: done.append(1))
        if asked == "finish":
            background.finish()
    assert done == []


def test_an_error_of_ones_own_comes_first_and_waits_for_what_was_begun():
    done = []
    with pytest.raises(ValueError, match="own"), Background() as background:  # noqa: PT012
        background.do(lambda: (time.sleep(0.05), done.append(1)))
        raise ValueError("own")
    assert done == [1]


def test_a_part_is_written_while_the_next_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    begun = {first: threading.Event() for first in (0, 64, 128)}
    layout, write_part, overlapped = Trainer._layout, RunFolder.write_part, []

    def issuing(self, batch, program):
        begun[batch.start].set()
        return layout(self, batch, program)

    def writing(self, config, records):
        next_one = begun.get(int(records.member[0]) + 64)
        overlapped.append(next_one is None or next_one.wait(timeout=60))
        return write_part(self, config, records)

    monkeypatch.setattr(Trainer, "_layout", issuing)
    monkeypatch.setattr(RunFolder, "write_part", writing)
    run = ncsim.run_ensemble(CONFIG, out=tmp_path / "run", executor="xla")
    assert overlapped == [True, True, True]
    assert run.records().size == CONFIG.members
