"""A run as a folder for the hub: the tables of the run, a card and metadata that others read, and no path of this machine."""

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import huggingface_hub
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.tasks import context_names
from ncsim.hub.dataset import HubFolder, _size
from ncsim.hub.ensemble import _described, export_run
from ncsim.report.summary import summarise
from ncsim.storage.run_folder import RunFolder
from ncsim.training.observation import OBSERVED
from tests.support.cases import first_fast
from tests.support.refusals import refused_command
from tests.support.tasks import FOUR_ROWS

FIXTURES = Path(__file__).parents[1] / "fixtures" / "stored_runs"
TABLES = {"grid": ["members", "numbers"], "recorded": ["members", "numbers", "trajectories"], "text": ["evaluations"]}


@pytest.fixture(scope="module", params=TABLES)
def exported(request, tmp_path_factory):
    """A run of each kind, its tables, and the folder that it was written to by the command."""
    place = tmp_path_factory.mktemp("hub")
    run = shutil.copytree(FIXTURES / request.param, place / "run")
    of_text = ["--base-model", "acme/tiny-bert", "--license", "cc-by-4.0"] if request.param == "text" else []
    main(["export", str(run), "--hub", str(place / "hub"), *of_text])
    return run, TABLES[request.param], place / "hub"


def test_the_card_names_each_table(exported):
    _, tables, folder = exported
    data = huggingface_hub.DatasetCard.load(folder / "README.md").data.to_dict()
    assert [config["config_name"] for config in data["configs"]] == tables
    for config in data["configs"]:
        assert (folder / config["data_files"]).is_file()
    assert data["configs"][0]["default"] is True
    assert data["size_categories"] == ["n<1K"]
    assert data.get("license") == ("cc-by-4.0" if tables == ["evaluations"] else None)


def test_columns_say_what_they_hold_where_a_network_diverged():
    """The card said it of S alone: by the others a diverged network has the correlator 0 and is wrong."""
    for column in ("S_factorised", "influence", "Delta"):
        assert _described(column).endswith("; null where a network diverged")
    assert _described("counts_12_01") == (
        "rows of context 12 on which Alice is wrong and Bob right; 0 in all four where the network diverged"
    )
    assert _described("solved_21").endswith("; false where the network diverged, in context 21")
    for name in OBSERVED:  # words of their own, and not the names of columns
        assert _described(f"{name}_11") != f"{name.replace('_', ' ')}, in context 11"


def test_the_card_spells_settings_as_the_command_line_takes_them(exported):
    """It said False, and nothing of options that are none."""
    _, tables, folder = exported
    of_text = ["| remat | false |"]
    rows = of_text if tables == ["evaluations"] else ['| optimizer_options | "" |', "| common_initialization | false |"]
    assert set(rows) <= set((folder / "README.md").read_text().splitlines())


def test_the_card_names_all_that_a_run_was_trained_with(tmp_path):
    """It said of a run that another version had gone on with that the first one had trained it."""
    run = ncsim.open_run(shutil.copytree(FIXTURES / "grid", tmp_path / "run"))
    here = {"versions": {"ncsim": "9.9", "jax": "7.7"}, "platform": "Linux riscv", "device": "3 x cpu (cpu)"}
    more = [dataclasses.replace(config, members=config.members + 1) for config in run.configs]
    card = export_run(run, str(tmp_path / "before")).path / "README.md"
    assert "Trained with ncsim " in card.read_text()
    RunFolder.create(tmp_path / "run", more).note_environment(here)
    text = (export_run(ncsim.open_run(tmp_path / "run"), str(tmp_path / "after")).path / "README.md").read_text()
    assert "\n| common_initialization | false |\n" in text  # as the command line takes it
    assert '\n| optimizer_options | "" |\n' in text
    assert "Trained with" not in text
    assert "\n\nBegun with ncsim " in text
    assert "\n\nGone on with ncsim 9.9, jax 7.7, on Linux riscv, 3 x cpu (cpu).\n" in text


def test_the_metadata_has_each_column_and_the_checksum_of_each_file(exported):
    _, tables, folder = exported
    found = json.loads((folder / "croissant.json").read_text())
    assert [record["name"] for record in found["recordSet"]] == tables
    for file, record in zip(found["distribution"], found["recordSet"], strict=True):
        content = (folder / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        schema = pq.read_schema(folder / file["contentUrl"])
        assert [field["name"] for field in record["field"]] == schema.names
        kinds = {"bool": "sc:Boolean", "string": "sc:Text", "double": "sc:Float", "float": "sc:Float"}
        for field, column in zip(record["field"], schema, strict=True):
            assert field["dataType"] == kinds.get(str(column.type), "sc:Integer")
            assert field["description"]
            assert f"| `{column.name}` | {column.type} | {field['description']} |" in (folder / "README.md").read_text()


def test_no_place_of_this_machine_is_told(exported):
    run, _, folder = exported
    for path in folder.rglob("*"):
        if path.suffix in (".md", ".json"):
            text = path.read_text()
            assert str(run.parent) not in text
            assert "text_inputs" not in text


def test_tables_are_those_of_the_run(exported):
    place, tables, folder = exported
    if tables == ["evaluations"]:
        run = ncsim.text.open_text_run(place)
        found, table = pandas.read_parquet(folder / "data" / "evaluations.parquet"), run.table().to_pandas()
        assert np.array_equal(found[["counts_00", "counts_01", "counts_10", "counts_11"]], np.stack(table["counts"]))
        assert np.array_equal(found["loss_bob"], table["loss_bob"])
        assert found["rank"].dtype == np.int64
        return
    run = ncsim.open_run(place)
    pandas.testing.assert_frame_equal(pandas.read_parquet(folder / "data" / "members.parquet"), run.to_pandas())
    numbers = pandas.read_parquet(folder / "data" / "numbers.parquet")
    for cell in summarise(run).numbers["cells"]:
        own = numbers
        for name, value in cell["cell"].items():
            own = own[own[name] == value]
        own = own.set_index("number")
        assert own["members"].unique().tolist() == [cell["members"]]
        for protocol in cell["protocols"]:
            for key in ("value", "low", "high"):
                assert own.loc[f"mean S, {protocol['protocol']}", key] == protocol["mean_s"][key]
    if "trajectories" in tables:
        recorded = pandas.read_parquet(folder / "data" / "trajectories.parquet")
        assert sorted(recorded["step"].unique()) == [0, 20, 40]
        assert len(recorded) == 3 * len(run.to_pandas())


def test_duckdb_finds_what_diverged(tmp_path):
    """It skips NaN where a file says between which numbers all others lie."""
    config = ncsim.EnsembleConfig(hidden=1, members=300, steps=4, learning_rate=1e30)
    ncsim.run_ensemble(config, tmp_path / "run", executor="xla")
    loss = ncsim.open_run(tmp_path / "run").records().loss
    table = export_run(ncsim.open_run(tmp_path / "run"), str(tmp_path / "hub")).path / "data" / "members.parquet"
    for context, name in enumerate(context_names("loss_{i}{j}")):
        found = duckdb.sql(f"select count(*) from '{table}' where isnan({name})").fetchall()
        assert found[0][0] == np.isnan(loss[:, context]).sum() > 0
        assert np.isfinite(loss[:, context]).any()


def test_adapters_name_their_backbone(exported):
    run, tables, folder = exported
    cards = sorted(folder.glob("adapters/*/README.md"))
    assert len(cards) == (4 if tables == ["evaluations"] else 0)
    for card in cards:
        data = huggingface_hub.ModelCard.load(card).data.to_dict()
        assert (data["base_model"], data["library_name"]) == ("acme/tiny-bert", "peft")
        config = json.loads((card.parent / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "acme/tiny-bert"
        rank, seed, context = card.parent.name.split("-")[1::2]
        stored = run / "adapters" / f"rank={rank}" / f"seed={seed}" / f"context={context}"
        for name in ("adapter_model.safetensors", "heads.safetensors"):
            assert (card.parent / name).read_bytes() == (stored / name).read_bytes()
        test = ncsim.text.open_text_run(run).counts[0, int(seed), -1, 1, int(context[0]) - 1, int(context[1]) - 1]
        assert f"| test | {' | '.join(map(str, test.flatten()))} |" in card.read_text()
        before = json.loads((stored / "adapter_config.json").read_text())
        assert config == before | {"base_model_name_or_path": "acme/tiny-bert"}


def test_all_tables_are_of_the_same_members_while_a_run_trains(tmp_path, monkeypatch):
    """What is stored after the first of them is in none."""
    configs = ncsim.config_grid(learning_rate=[0.01, 0.05], members=3, steps=5, tasks=[FOUR_ROWS])
    recording = ncsim.Recording(points=3)
    run = ncsim.run_ensemble(configs, out=tmp_path / "run", executor="xla", recording=recording)
    more = [dataclasses.replace(config, members=7) for config in configs]
    RunFolder.create(tmp_path / "run", more)
    add = HubFolder.add_table

    def added(folder, name, *table):
        add(folder, name, *table)
        ncsim.run_ensemble(more, out=tmp_path / "run", executor="xla")

    monkeypatch.setattr(HubFolder, "add_table", added)
    export_run(ncsim.open_run(tmp_path / "run"), str(tmp_path / "hub"))
    assert run.missing() == 0
    members, numbers, along = (
        pandas.read_parquet(tmp_path / "hub" / "data" / f"{name}.parquet")
        for name in ("members", "numbers", "trajectories")
    )
    assert len(members) == 6
    assert set(numbers["members"]) == {3}
    assert sorted(set(along["member"])) == [0, 1, 2]
    assert "Not complete: 8 members were still to be trained." in (tmp_path / "hub" / "README.md").read_text()


def test_sizes_have_the_words_of_the_hub():
    assert [_size(rows) for rows in (999, 1_000, 16_384, 10**6, 10**9)] == [
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "1M<n<10M",
        "n>1B",
    ]


def test_what_cannot_be_written_is_one_line(capsys, tmp_path):
    shutil.copytree(FIXTURES / "grid", tmp_path / "grid")
    shutil.copytree(FIXTURES / "text", tmp_path / "text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for arguments, words in (
        (["grid", "--hub", "full"], "--hub: full is not empty; allowed: a new folder"),
        (["grid", "--hub", "file"], "--hub: file; cannot be made"),
        (["grid", "--hub", "s3://bucket/x"], "--hub: s3://bucket/x; allowed: a folder on this machine"),
        (["nowhere", "--hub", "new"], "nowhere: no run is stored there"),
        (["grid"], "--hub"),
        (["grid", "--hub", "new", "--base-model", "a/b"], "--base-model: a/b; grid holds no text run"),
        (
            ["text", "--hub", "new", "--base-model", "/home/me/bert"],
            "--base-model: '/home/me/bert'; allowed: the id on the hub of text_inputs/model",
        ),
        # A relative path looks like an id.
        (["text", "--hub", "new"], "--base-model: None; allowed: the id on the hub of text_inputs/model"),
        (["grid", "--hub", ""], "--hub: ''; allowed: a name that is not empty"),
        *(
            (
                ["grid", "--hub", "new", "--license", word],
                f"--license: {word!r}; allowed: a licence as the hub calls it",
            )
            for word in ("", "MIT License", "mit\ntags: x")
        ),
    ):
        assert words in refused_command(capsys, "export", *arguments)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["notes"]
    assert not (tmp_path / "new").exists()


def test_what_is_torn_is_not_given_away(capsys, tmp_path):
    for kind, extra in (("grid", []), ("text", ["--base-model", "a/b"])):
        run = shutil.copytree(FIXTURES / kind, tmp_path / kind)
        part = max(run.glob("parts/**/*.parquet"))  # others were written by then
        part.write_bytes(part.read_bytes()[:-50])
        line = refused_command(capsys, "export", kind, "--hub", "new", *extra)
        assert part.name in line
        assert "is torn" in line
        assert not list(tmp_path.glob("new/*"))


KILLED = """
import os, signal, sys
from ncsim.cli import main
from ncsim.hub.dataset import HubFolder
write = HubFolder.write
def killed(folder, name, content):
    write(folder, name, content)
    os.kill(os.getpid(), signal.SIGKILL)
HubFolder.write = killed
main(["export", "grid", "--hub", "new"])
"""


def test_a_kill_leaves_nothing_that_looks_whole_and_the_same_command_works(capsys, tmp_path):
    shutil.copytree(FIXTURES / "grid", tmp_path / "grid")
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = (tmp_path / "new").iterdir()
    assert left.name.startswith(".unfinished-")
    assert (left / "data" / "members.parquet").exists()
    (tmp_path / "new" / "notes").write_text("mine")
    assert "new is not empty" in refused_command(capsys, "export", "grid", "--hub", "new")
    assert left.exists()
    (tmp_path / "new" / "notes").unlink()
    main(["export", "grid", "--hub", "new"])
    assert "README.md" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "croissant.json", "data"]


KILLED_AT_ITS_END = """
import os, signal, sys
from pathlib import Path

from ncsim.cli import main
rename, calls = Path.rename, []
def killed(self, target):
    if len(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(self)
    return rename(self, target)
Path.rename = killed
main(["export", "grid", "--hub", "new"])
"""


@pytest.mark.parametrize("renamed", first_fast([1, 0, 2]))
def test_a_kill_while_files_are_put_in_place(capsys, tmp_path, renamed):
    """The same command said that the folder is not empty."""
    shutil.copytree(FIXTURES / "grid", tmp_path / "grid")
    done = subprocess.run([sys.executable, "-c", KILLED_AT_ITS_END, str(renamed)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = [path.name for path in (tmp_path / "new").iterdir()]
    assert len(there) == 1 + renamed
    assert "README.md" not in there
    (tmp_path / "new" / "README.md").write_text("mine")
    assert "new is not empty" in refused_command(capsys, "export", "grid", "--hub", "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted([*there, "README.md"])
    (tmp_path / "new" / "README.md").unlink()
    main(["export", "grid", "--hub", "new"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "croissant.json", "data"]


def test_files_of_ones_own_beside_what_a_kill_left_are_kept(capsys, tmp_path):
    """Of the names that an export has, too: its hidden folder has them still."""
    shutil.copytree(FIXTURES / "grid", tmp_path / "grid")
    hidden = tmp_path / "new" / ".unfinished-x"
    (hidden / "data").mkdir(parents=True)
    (tmp_path / "new" / "data").mkdir()
    (tmp_path / "new" / "data" / "mine").write_text("mine")
    for name in ("croissant.json", "README.md"):
        assert "new is not empty" in refused_command(capsys, "export", "grid", "--hub", str(tmp_path / "new"))
        assert (tmp_path / "new" / "data" / "mine").exists()
        (hidden / name).write_text("")
    # And one that this export has not, but another kind has; nothing of the hidden folder is in place.
    (tmp_path / "new" / "data").rename(tmp_path / "new" / "adapters")
    assert "new is not empty" in refused_command(capsys, "export", "grid", "--hub", str(tmp_path / "new"))
    assert (tmp_path / "new" / "adapters" / "mine").exists()


# ---------------------------------------------------------------------------------- the packages that are to read it


@pytest.mark.slow
def test_load_dataset_gives_the_tables(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    _, tables, folder = exported
    assert sorted(datasets.get_dataset_config_names(str(folder))) == sorted(tables)
    for name in tables:
        loaded = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path))
        wanted = pandas.read_parquet(folder / "data" / f"{name}.parquet")
        pandas.testing.assert_frame_equal(loaded.to_pandas(), wanted, check_dtype=False)
    first = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert first.column_names == pq.read_schema(folder / "data" / f"{tables[0]}.parquet").names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_croissant_is_valid_and_gives_the_records(exported):
    mlcroissant = pytest.importorskip("mlcroissant")
    _, tables, folder = exported
    command = [
        str(Path(sys.executable).with_name("mlcroissant")),
        "validate",
        "--jsonld",
        str(folder / "croissant.json"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "Done." in ended.stderr
    assert "error(s)" not in ended.stderr
    warned = [line for line in ended.stderr.splitlines() if "recommended" in line]
    assert all("license" in line for line in warned)  # ours to name it is not
    data = mlcroissant.Dataset(str(folder / "croissant.json"))
    for name in tables:
        wanted = pandas.read_parquet(folder / "data" / f"{name}.parquet")
        records = list(data.records(name))
        assert len(records) == len(wanted)
        for column in wanted.columns:
            value = records[-1][f"{name}/{column}"]
            value = value.decode() if isinstance(value, bytes) else value
            assert value == wanted[column].iloc[-1] or (pandas.isna(value) and pandas.isna(wanted[column].iloc[-1]))
