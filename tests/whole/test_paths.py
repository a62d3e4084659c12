"""Whatever has a path takes a text and any `os.PathLike` alike, and names it as the text that it is."""

import os
import shutil

import numpy as np
import pytest

import ncsim
from ncsim.ensemble.audit import audit
from ncsim.ensemble.networks import parameters
from ncsim.ensemble.scenarios import run_scenario
from ncsim.hub.ensemble import export_run
from ncsim.planning import plan
from ncsim.scenarios import open_scenario
from ncsim.storage.run_folder import run_kind
from ncsim.storage.verify import repair, verify
from ncsim.study import Study
from ncsim.text.config import TextConfig
from ncsim.text.data.suites import open_suite
from ncsim.text.model.adapter_files import load_adapter, save_adapter
from ncsim.text.model.checkpoint import load_backbone
from tests.support.tasks import FOUR_ROWS
from tests.support.text_model import FOLDER

pytestmark = pytest.mark.usefixtures("quickly")
CONFIG = ncsim.EnsembleConfig(members=6, steps=5, tasks=FOUR_ROWS)


class Place(os.PathLike):
    """A path that is no `pathlib.Path`, and no text either."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("paths") / "run"
    ncsim.run_ensemble(CONFIG, Place(place), executor="xla", devices=1)
    return place


def test_of_runs(run, tmp_path):
    opened = ncsim.open_run(Place(run))
    assert opened.location == str(run)
    assert verify(Place(run)).right
    assert repair(Place(run), print).right
    assert run_kind(Place(run)) == "ensemble"
    assert audit(Place(run), 1.0, 0, devices=1).right
    assert parameters(Place(run), [0], devices=1).head_kernel.shape[0] == 1
    assert plan._stored([CONFIG], Place(run)) is not None
    shutil.copytree(run, tmp_path / "other" / "run")
    assert Study([Place(run), Place(tmp_path / "other" / "run")]).locations[0] == str(run)
    for path in (Place(tmp_path / "hub"), tmp_path / "hub-path", str(tmp_path / "hub-text")):
        assert export_run(opened, path).path.is_dir()
    with pytest.raises(ncsim.ConfigError, match=f"^--hub: {tmp_path}/hub is not empty"):
        export_run(opened, Place(tmp_path / "hub"))
    with pytest.raises(ncsim.StoreError, match=f"^{run}: holds a run already"):
        ncsim.run_ensemble(CONFIG, Place(run), executor="xla", devices=1, resume=False)


def test_of_scenarios(tmp_path):
    config = ncsim.EnsembleConfig(members=4, steps=4, tasks=ncsim.three_party_tasks(shared=True))
    run_scenario(config, Place(tmp_path / "run"), executor="xla", devices=1)
    assert open_scenario(Place(tmp_path / "run")).missing() == 0


def test_of_files(tmp_path):
    (tmp_path / "table.csv").write_text("alice,bob,++,+-,-+,--\nA,B,4,0,0,4\n")
    assert ncsim.read_table(Place(tmp_path / "table.csv")).alice == ("A",)
    with pytest.raises(ncsim.text.DataError, match=f"^{tmp_path}/none.csv"):
        ncsim.read_table(Place(tmp_path / "none.csv"))


def test_of_text(tmp_path):
    config, _ = load_backbone(Place(FOLDER))
    stored = load_adapter(Place(FOLDER.parent / "tiny_adapter"), config)
    whole = stored.adapter | {"heads": {"kernel": np.zeros((2, config.hidden_size, 2)), "bias": np.zeros((2, 2))}}
    save_adapter(Place(tmp_path / "saved"), whole, rank=stored.rank, alpha=stored.alpha, base_model=Place(FOLDER))
    assert load_adapter(tmp_path / "saved", config).rank == stored.rank
    (tmp_path / "suite.toml").write_text(
        'name = "film"\nalice = [{ dataset = "sst2" }, { dataset = "mrpc" }]\n'
        'bob = [{ dataset = "sst2" }, { dataset = "mrpc" }]\n'
    )
    assert open_suite(Place(tmp_path / "suite.toml")).name == "film"
    with pytest.raises(ncsim.ConfigError, match=f"^suite={tmp_path}/none: allowed"):
        open_suite(Place(tmp_path / "none"))
    with pytest.raises(ncsim.ConfigError, match=f"^{tmp_path}/none: no folder is there"):
        load_backbone(Place(tmp_path / "none"))
    asked = TextConfig(model=Place(FOLDER), suite=Place(tmp_path / "suite.toml"))
    assert (asked.model, asked.suite) == (str(FOLDER), str(tmp_path / "suite.toml"))
