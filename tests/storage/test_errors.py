"""An error of a run folder has fields; its one line is made from them."""

import dataclasses
import pickle
import re
import shlex

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.errors import NoRunError, StoreError
from ncsim.hub.ensemble import export_run
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
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


def test_one_thing_is_one(tmp_path, capsys):
    """One member, file or adapter was "1 members", "1 files"."""
    config = ncsim.EnsembleConfig(hidden=1, members=4, steps=1)
    ncsim.run_ensemble(config, tmp_path / "run", executor="xla")
    RunFolder.create(tmp_path / "run", [dataclasses.replace(config, members=5)])
    (tmp_path / "run" / ".part-1.tmp").write_text("")
    assert "1 file was begun by a worker that was killed; nothing reads it" in verify(tmp_path / "run").lines()
    run = ncsim.open_run(tmp_path / "run")
    with pytest.raises(ncsim.ConfigError, match=r"^to_xarray: 1 member is still to be trained"):
        run.to_xarray()
    card = export_run(run, str(tmp_path / "hub")).path / "README.md"
    assert "Not complete: 1 member was still to be trained." in card.read_text()
    ncsim.run_ensemble(dataclasses.replace(config, members=1), tmp_path / "one", executor="xla")
    main(["export", str(tmp_path / "one"), "--hub", str(tmp_path / "hub of one")])
    assert "members (1 row)" in capsys.readouterr().out


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
