"""An error of a run folder has fields; its one line is made from them."""

import pickle
import re
import shlex

import pytest

from ncsim.cli.command import main
from ncsim.errors import NoRunError, StoreError
from ncsim.storage.run_folder import RunFolder
from tests.storage.test_run_folder import CONFIG, stored


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


def test_a_command_in_an_error_is_one_for_a_shell(tmp_path, capsys):
    """Names of folders have spaces: pasted as it was, the command was about two other folders."""
    folder = stored(tmp_path / "my run's")
    part = tmp_path / "my run's" / folder.parts(CONFIG)[0].name
    part.write_bytes(part.read_bytes()[:-1])
    for ask in ([], ["--verify"]):
        with pytest.raises(SystemExit):
            main(["report", *ask, str(folder.path)])
        said = capsys.readouterr()
        command = re.search(r"(ncsim report --repair .*?)(`| puts this right)", said.out + said.err)[1]
        assert shlex.split(command) == ["ncsim", "report", "--repair", str(folder.path)]
    (folder.path / "config.json").unlink()
    with pytest.raises(NoRunError) as caught:
        RunFolder.open(folder.path)
    assert shlex.split(caught.value.remedy.split("`")[1])[-1] == str(folder.path)
