"""Text runs with other adaptations and with recorded profiles: stored, resumed exactly, told by `ncsim entanglement`."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ncsim.cli.command import main
from ncsim.errors import ConfigError, StoreError
from ncsim.text.audit import audit_text
from ncsim.text.entanglement import bound, entanglement_profile
from ncsim.text.export import export_text
from ncsim.text.model.adaptations import split
from ncsim.text.model.adapter_files import load_adapter
from ncsim.text.model.bert import BertConfig
from ncsim.text.profiles import adapter_profiles, bond_bound, recorded_profiles
from ncsim.text.report import entanglement as report
from ncsim.text.report.entanglement import COLUMNS, cut_rows, plot_profiles, printed_profiles, summary_rows
from ncsim.text.results import open_text_run
from ncsim.text.training import trainer
from tests.text.test_run import Listener, contents, files, trained

pytestmark = pytest.mark.usefixtures("quickly")

__all__ = ["files"]
STORED = Path(__file__).parents[1] / "fixtures" / "stored_runs" / "text"
MPS = {"adaptation": "mps", "bond": 4, "record_entanglement": True, "epochs": 2, "dropout": 0.0}
FULL = {"adaptation": "full", "ranks": (0,), "record_entanglement": True, "epochs": 2, "dropout": 0.1}


@pytest.fixture(scope="module")
def mps(files, tmp_path_factory):
    return trained(files, tmp_path_factory.mktemp("runs") / "mps", **MPS)


def bert_of(files):
    return BertConfig.from_dict(json.loads((files / "model" / "config.json").read_text()))


def interrupted(files, out, monkeypatch, end, **fields):
    """The same, ended in training and taken up again."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, out, Listener(end), **fields)
    assert len(list(out.glob("checkpoints/*"))) == 1
    return trained(files, out, **fields)


def check_recorded(run, targets=("query", "value")):
    """Recorded profiles: none before the first step, and at the end those of the adapters that are stored."""
    rows = recorded_profiles(run).to_pylist()
    layers = 2
    assert len(rows) == len(run.epochs) * 4 * len(targets) * layers
    assert all(np.isnan(row["entropy"]).all() for row in rows if row["epoch"] == 0)
    last = {(r["context"], r["target"], r["layer"]): r for r in rows if r["epoch"] == run.epochs[-1]}
    for each in adapter_profiles(run):
        for layer in range(layers):
            row = last[each.adapter.context_name, each.target, layer]
            np.testing.assert_allclose(row["entropy"], each.profile.entropy[layer], atol=1e-5)
            assert row["dimension"] == each.profile.dimension.tolist()
            assert row["inputs"] == 32


def test_two_tensors_are_trained_recorded_and_resumed(files, mps, tmp_path, monkeypatch):
    check_recorded(mps)
    for each in adapter_profiles(mps):
        assert (each.profile.entropy <= each.bound + 1e-9).all(), "rank and bond"
        at = int(np.flatnonzero(each.profile.dimension == 8)[0])
        assert each.bound[at] == pytest.approx(np.log(4))
    assert contents(interrupted(files, tmp_path / "run", monkeypatch, 3, **MPS).path) == contents(mps.path)
    stored = load_adapter(mps.path / "adapters/rank=2/seed=0/context=11", bert_of(files))
    assert stored.scale == 8.0


@pytest.mark.parametrize(
    ("inputs", "outputs", "bond", "rank"), [(48, 48, 2, 8), (48, 96, 1, 16), (36, 12, 3, 4), (32, 32, 8, 2)]
)
def test_rank_and_bond_allow_what_random_tensors_of_them_have(inputs, outputs, bond, rank):
    random, left = np.random.default_rng(0), split(inputs)
    first, second = random.normal(size=(left, bond)), random.normal(size=(bond, inputs // left, rank))
    update = np.einsum("px,xqr->pqr", first, second).reshape(inputs, rank) @ random.normal(size=(rank, outputs))
    profile = entanglement_profile(update)
    allowed = np.exp(np.minimum(bound(inputs, outputs, rank), bond_bound(profile, bond)))
    had = [np.linalg.matrix_rank(update.reshape(d, -1)) for d in profile.dimension]
    assert allowed.round(6).tolist() == had


@pytest.mark.slow
def test_whole_updates_are_trained_recorded_and_resumed(files, tmp_path, monkeypatch, capsys):
    run = trained(files, tmp_path / "run", **FULL)
    check_recorded(run)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    assert contents(interrupted(files, tmp_path / "again", monkeypatch, 3, **FULL).path) == contents(run.path)
    stored = load_adapter(run.path / "adapters/rank=0/seed=0/context=21", bert_of(files))
    update = stored.adapter["lora"]["layers"]["attention"]["query"]["dense"]
    assert update.any()
    (found,) = (n for n in adapter_profiles(run) if n.adapter.context_name == "21" and n.target == "query")
    np.testing.assert_allclose(found.profile.entropy, entanglement_profile(update).entropy, atol=1e-9)
    assert audit_text(run.path, 0.2, 0, files / "data", files / "cache").right
    with pytest.raises(ConfigError, match="--hub: PEFT has no adapters without factors"):
        export_text(run, str(tmp_path / "hub"), "a/b")
    main(["entanglement", str(run.path)])
    assert "full  query" in capsys.readouterr().out


def test_recording_changes_nothing_else(files, mps, tmp_path):
    """The evaluations and the adapters are those of the run without it."""
    plain = trained(files, tmp_path / "plain", **MPS | {"record_entanglement": False})
    table = mps.table()
    assert table.drop_columns(["entanglement"]).equals(plain.table())
    assert {n: c for n, c in contents(plain.path).items() if n.startswith("adapters")} == {
        n: c for n, c in contents(mps.path).items() if n.startswith("adapters")
    }
    assert recorded_profiles(plain) is None
    assert table["entanglement"].null_count == table.num_rows // 2, "an update is of no split"


@pytest.mark.slow
def test_whole_updates_need_more_memory(files, tmp_path, monkeypatch):
    """The plan asks the compiler, and the compiler knows."""
    needed = {}
    monkeypatch.setattr(trainer.Trainer, "_train_group", lambda *_: None)
    original = trainer.Trainer._program
    for name, fields in (("lora", {}), ("full", FULL)):

        def program(self, *arguments, name=name):
            made = original(self, *arguments)
            return made._replace(memory=lambda: needed.setdefault(name, made.memory()))

        monkeypatch.setattr(trainer.Trainer, "_program", program)
        trained(files, tmp_path / name, **fields)
    # Weights, two moments and the gradient, of 2 x 2 x 32 x 32 numbers of 4 bytes each instead of 2 x 2 x 2 x 32 x 2.
    assert needed["full"] - needed["lora"] > 3 * 4 * (4096 - 512)


def test_a_bond_that_is_too_large_is_one_line(files, tmp_path):
    with pytest.raises(ConfigError, match="--bond: 9; allowed: 1 to 8, "):
        trained(files, tmp_path / "run", **MPS | {"bond": 9})
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------- ncsim entanglement


def test_the_command_tells_and_stores(mps, tmp_path, capsys):
    shutil.copytree(mps.path, tmp_path / "run")
    main(["entanglement", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    for words in ("effective rank", "2     query   8", "Every profile is within its bound.", "entanglement.json"):
        assert words in printed
    main(["entanglement", str(tmp_path / "run"), "--json", "--draws", "2", "--seed", "1"])
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "run" / "entanglement.json").read_text())
    assert [(row["rank"], row["target"], row["updates"]) for row in told["rows"]] == [(2, "query", 8), (2, "value", 8)]
    lines = (tmp_path / "run" / "figures" / "entanglement.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 1 + 2 * 4 * 2 * 9 + 2 * 2, "a cut of a layer, and an epoch of a target"
    for ending in ("png", "svg", "pdf"):
        assert (tmp_path / "run" / "figures" / f"entanglement.{ending}").stat().st_size > 1000
    main(["report", str(tmp_path / "run"), "--verify"])


def test_a_run_of_an_earlier_version(tmp_path):
    """Profiles of adapters that were stored before there was any of this; nothing was recorded."""
    run = open_text_run(STORED)
    found = list(adapter_profiles(run))
    assert len(found) == 8
    assert recorded_profiles(run) is None
    for each in found:
        assert (each.profile.entropy <= bound(16, 16, 2) + 1e-12).all()
        middle = int(np.flatnonzero(each.profile.dimension == 16)[0])
        np.testing.assert_allclose(each.null.mean[:, middle], each.profile.centre, atol=1e-12)
    rows = summary_rows(found)
    assert rows[0]["effective_rank"] == pytest.approx(
        np.mean([np.exp(f.profile.centre) for f in found if f.target == "query"])
    )
    values = {row[3]: 0 for row in cut_rows(found)}
    assert list(values) == ["query", "value"]


def test_the_file_beside_the_picture_has_effective_ranks_along_training(tmp_path):
    """In the order of epochs, also where the first adapter has an update later than another."""
    found = list(adapter_profiles(open_text_run(STORED)))
    rank = found[0].adapter.rank
    rows = [
        {
            "rank": rank,
            "target": "query",
            "epoch": epoch,
            "entropy": [0.0, centre, 0.0],
            "dimension": [1, 4, 16],
            "inputs": 4,
        }
        for epoch, centre in ((1, float("nan")), (2, 0.0), (1, 0.0), (2, math.log(3.0)))
    ]
    plot_profiles(found, pa.Table.from_pylist(rows), tmp_path / "entanglement")
    with open(tmp_path / "entanglement.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))
    cuts = len(cut_rows(found))
    assert {line["epoch"] for line in lines[:cuts]} == {""}
    drawn = [(line["rank"], line["target"], line["epoch"], float(line["effective_rank"])) for line in lines[cuts:]]
    assert drawn == [(str(rank), "query", "1", 1.0), (str(rank), "query", "2", pytest.approx(2.0))]


def without_update(one):
    """A profile as that of an adapter whose update is 0."""
    gone = np.full_like(one.profile.entropy, np.nan)
    return one._replace(
        profile=one.profile._replace(entropy=gone), null=one.null._replace(mean=gone[...], spread=gone[...])
    )


def test_the_legend_is_of_all_panels(tmp_path, monkeypatch):
    """Rank 3 has no update of the first target, rank 5 of none but along training, rank 7 nowhere. Lines of six targets are not alike."""
    seen = []

    def kept(figure, *_):
        figure.canvas.draw()
        seen.extend(text.get_text() for legend in figure.legends for text in legend.get_texts())
        lines = figure.axes[-1].get_legend().get_lines()
        seen.append(len({line._unscaled_dash_pattern for line in lines if line.get_linestyle()}))

    monkeypatch.setattr(report, "save_figure", kept)
    first, second, *_ = adapter_profiles(open_text_run(STORED))
    ranked = [
        each._replace(adapter=each.adapter._replace(rank=rank))
        for rank, changes in ((1, (0, 0)), (3, (1, 0)), (5, (1, 1)), (7, (1, 1)))
        for each in (without_update(own) if gone else own for own, gone in zip((first, second), changes, strict=True))
    ]
    more = [
        first._replace(target=name) for name in ("key", "attention.output.dense", "intermediate.dense", "output.dense")
    ]
    along = [
        {"rank": 5, "target": "query", "epoch": 1, "entropy": [0.0, 1.0, 0.0], "dimension": [1, 4, 16], "inputs": 4}
    ]
    plot_profiles([*ranked, *more], pa.Table.from_pylist(along), tmp_path / "entanglement")
    rank = first.adapter.rank
    names = [f"r = {each}" for each in sorted({1, 3, 5, rank})]
    assert seen == [*names, "bound", "Gaussian law", "null, +- 2 spreads", 6]


def test_an_update_that_is_nothing_is_counted_and_left_out():
    one, _, other, *_ = adapter_profiles(open_text_run(STORED))
    nothing = without_update(one)
    (row,) = summary_rows([nothing, other])
    assert (row["updates"], row["zero"]) == (2, 1)
    (alone,) = summary_rows([other])
    assert row | {"updates": 1, "zero": 0} == alone
    assert row["centre"] == pytest.approx(other.profile.entropy[0, 3])
    assert "1 of 2" in printed_profiles([row])
    told = printed_profiles(summary_rows([nothing]))
    assert "none" in told
    assert "within its bound" not in told


def test_the_valley_of_the_null_is_of_the_same_mean_as_that_of_the_profiles():
    """Where the null is the profiles themselves, so is its valley, at whatever cut each adapter is highest."""
    found = [each for each in adapter_profiles(open_text_run(STORED)) if each.target == "query"]
    same = [each._replace(null=each.null._replace(mean=each.profile.entropy)) for each in found]
    assert len({int(each.profile.entropy.mean(axis=0).argmax()) for each in same}) > 1
    (row,) = summary_rows(same)
    assert row["valley_of_null"] == pytest.approx(row["valley"], abs=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--draws", "1"], "--draws: 1; allowed: a whole number from 2 to 1000"),
        (["--seed", "-1"], "--seed: -1; allowed: a whole number from 0"),
        ([], "holds no text run; allowed: a run of ncsim text"),
    ],
)
def test_wrong_options(words, said, capsys):
    folder = STORED if words else STORED.parent / "plain"
    with pytest.raises(SystemExit):
        main(["entanglement", str(folder), *words])
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_torn_and_missing_adapters_are_named(mps, tmp_path, capsys):
    shutil.copytree(mps.path, tmp_path / "run")
    file = tmp_path / "run" / "adapters/rank=2/seed=0/context=12/adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit):
        main(["entanglement", str(tmp_path / "run")])
    assert "context=12/adapter_model.safetensors" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run" / "adapters")
    with pytest.raises(StoreError, match="no adapter is trained yet"):
        list(adapter_profiles(open_text_run(tmp_path / "run")))
