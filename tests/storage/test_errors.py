"""An error of a run folder has fields; its one line is made from them."""

import pickle

import pytest

from ncsim.errors import NoRunError, StoreError
from ncsim.storage.run_folder import RunFolder


def test_the_line_is_made_from_the_fields():
    assert str(StoreError("is torn", "run/part", "train again")) == "run/part: is torn; train again"
    assert str(StoreError("is torn", "run/part")) == "run/part: is torn"
    assert str(StoreError("is torn")) == "is torn"


def test_another_process_reads_the_same_line():
    error = StoreError("is torn", "run/part", "train again")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_run_is_an_error_of_its_own(tmp_path):
    with pytest.raises(NoRunError) as caught:
        RunFolder.open(tmp_path)
    assert caught.value.place == str(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no run is stored there (no config.json)"
