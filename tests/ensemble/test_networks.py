"""Weights and answers of chosen members: trained again, they are those that were counted, in every order and layout."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.ensemble import fingerprint
from ncsim.config.tasks import context_targets, encoded_inputs
from ncsim.ensemble.trainer import trainer
from ncsim.errors import ConfigError, StoreError
from ncsim.report.network_figure import DrawnMember, draw_member
from ncsim.storage.run_folder import RunFolder
from tests.ensemble.test_audit import change
from tests.support.cases import first_fast
from tests.support.tasks import FOUR_ROWS

pytestmark = pytest.mark.usefixtures("quickly")

#: Few rows, which compile sooner.
TASKS = ncsim.truth_tables([lambda x, y: x, lambda x, y: x ^ y], [lambda x, y: y, lambda x, y: x & y], features=2)
#: The second cell diverges: its steps are too large.
GRID = ncsim.config_grid(
    **{"hidden": 2, "steps": 30, "members": 140, "first_member": 5, "learning_rate": [0.05, 1e38], "optimizer": "sgd"},
    **{"training_rows": 3, "tasks": TASKS},
)
IDS = [144, 5, 77, 6]
KINDS = [
    {"loss": "cross_entropy"},
    {"topology": "overlap", "shared": 1, "hidden": 4},
    {"intervention": "separate_trunks"},
    {"encoding": "sign", "initialization": "normal", "optimizer": "adamw"},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Stored by the program that keeps networks, to compile one alone; `test_networks_of_every_kind` has runs as they are."""
    executors = {"executor": {fingerprint(config): "xla" for config in GRID}}
    folder = RunFolder.create(tmp_path_factory.mktemp("networks") / "run", GRID, training=lambda: executors)
    for config in GRID:
        ids = np.arange(config.first_member, config.member_ids[-1] + 1)
        folder.write_part(config, trainer(None).train_kept(config, ids, "xla")[0])
    return ncsim.open_run(folder.path)


def test_a_network_with_fewer_parameters_than_rows_trains_on_all_rows():
    """One unit of four features has nine parameters: `trained` had nine columns for sixteen rows."""
    run = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=1, members=2, steps=1), executor="xla", devices=1)
    found = ncsim.outcomes(run, [0, 1], devices=1)
    assert found.trained.shape == (2, 16)
    assert found.trained.all()
    assert found.outcomes[..., found.trained[0]].shape == found.outcomes.shape


@pytest.mark.parametrize("cell", [0, 1])
def test_outcomes_are_what_was_counted(run, cell):
    stored, found = run.members(IDS, cell), ncsim.outcomes(run, IDS, cell)
    assert found.member.tolist() == IDS
    assert np.array_equal(stored.counts, run.records(cell).counts[np.array(IDS) - 5])
    diverged = stored.diverged.reshape(-1, 2, 2)
    assert diverged.any() == (cell == 1)
    assert ((found.outcomes == 0).all(axis=(-2, -1)) == diverged).all()
    whole = ~diverged.any(axis=(1, 2))
    assert np.array_equal(ncsim.joint_counts(found.outcomes[whole]), stored.joint[whole])
    # Of the rows trained on alone, too.
    assert (found.trained.sum(axis=1) == 3).all()
    for number in np.flatnonzero(whole):
        part = found.outcomes[number][..., found.trained[number]]
        assert np.array_equal(ncsim.joint_counts(part), stored.training_joint[number])


def test_parameters_give_the_answers(run):
    """By a network written out in NumPy, and by the Flax module."""
    networks, found = ncsim.parameters(run, IDS), ncsim.outcomes(run, IDS)
    inputs, targets = encoded_inputs(GRID[0].tasks, "binary"), context_targets(GRID[0].tasks).reshape(2, 2, 4, 2)
    assert networks.hidden_kernel.shape == (4, 2, 2, 2, 2)
    assert networks.head_kernel.shape == (4, 2, 2, 2, 1, 2)
    module = ncsim.NCnet(networks.config)
    for number in range(4):
        for i in (0, 1):
            for j in (0, 1):
                hidden = np.maximum(
                    inputs @ networks.hidden_kernel[number, i, j] + networks.hidden_bias[number, i, j], 0
                )
                heads = networks.head_kernel[number, i, j, :, 0], networks.head_bias[number, i, j, :, 0]
                logits = hidden @ heads[0].T + heads[1]  # [row, party]
                assert np.allclose(logits.T, found.logits[number, i, j], atol=1e-5)
                clear = np.abs(logits) > 1e-4
                right = np.where((logits > 0) == (targets[i, j] > 0), 1, -1)
                assert (right[clear] == found.outcomes[number, i, j].T[clear]).all()
                applied = module.apply(networks.variables(number, i, j), np.asarray(inputs, np.float32))
                assert np.allclose(applied, logits, atol=1e-5)


def test_a_path_does_as_well_as_a_run_and_order_changes_nothing(run):
    one, other = ncsim.parameters(run, IDS), ncsim.parameters(run.path, sorted(IDS))
    order = np.argsort(IDS)
    for name in ("member", "hidden_kernel", "hidden_bias", "head_kernel", "head_bias"):
        assert np.array_equal(getattr(one, name)[order], getattr(other, name)), name


def test_runs_in_memory_have_them_too(run, monkeypatch):
    monkeypatch.setattr("ncsim.ensemble.trainer.Trainer.executors", lambda self, configs, _: ["xla"] * len(configs))
    here = ncsim.Run(GRID, [run.records(0), run.records(1)])
    again = ncsim.outcomes(here, [9])  # by the executor that would be taken here
    assert np.array_equal(ncsim.joint_counts(again.outcomes), here.members([9]).joint)


def test_a_run_in_memory_knows_its_executor(monkeypatch):
    """What "auto" comes to may have changed since: once the C code is built, it takes that also for small runs."""
    config = ncsim.EnsembleConfig(hidden=2, members=20, steps=50)
    here = ncsim.run_ensemble(config, executor="xla")
    assert list(here.executors) == ["xla"]
    monkeypatch.setattr("ncsim.ensemble.trainer.Trainer.executors", lambda self, configs, _: ["native"] * len(configs))
    again = ncsim.outcomes(here, [7, 11])
    assert np.array_equal(ncsim.joint_counts(again.outcomes), here.counts[[7, 11]])


@pytest.mark.parametrize(
    ("members", "cell", "words"),
    [
        ([4], 0, "members: 4 is not stored; allowed: what is, of 5 to 144"),
        ([145], 1, "members: 145 is not stored"),
        ([5, 5], 0, r"members: \[5, 5\]; allowed: ids of members, one or more, each once"),
        ([], 0, r"members: \[\]; allowed"),
        (["5"], 0, r"members: \['5'\]; allowed"),
        ([5], 2, "cell: 2; allowed: a whole number from 0 to 1"),
        ([5], True, "cell: True; allowed"),
    ],
)
def test_members_that_are_not_there_are_refused(run, members, cell, words):
    for ask in (ncsim.parameters, ncsim.outcomes):
        with pytest.raises(ConfigError, match=f"^{words}"):
            ask(run, members, cell)


def test_another_network_than_the_stored_one_is_refused(tmp_path, run):
    """Even with the same counts: a loss that is another in its last bit."""
    import shutil

    folder = Path(shutil.copytree(run.path, tmp_path / "run"))
    loss = run.records(0).loss[3].copy()
    loss[1] = np.nextafter(loss[1], np.inf)
    change(folder, 3, loss=loss)
    assert ncsim.outcomes(folder, [7]).member.tolist() == [7]
    with pytest.raises(StoreError, match=r"run: member 8 does not come out as it is stored, .*; allowed: where it was"):
        ncsim.parameters(folder, [7, 8])


def test_a_small_buffer_changes_no_bit_of_a_loss():
    """Losses of 45 of 300 members had another last bit in a buffer of one block, and their networks were refused."""
    tasks = ncsim.TruthTables(
        inputs=((0, 1), (0, 1), (1, 0), (0, 1)), alice=((1, 0, 0, 1), (1, 0, 1, 0)), bob=((1, 1, 0, 1), (1, 0, 1, 1)),
        alice_features=(0,), bob_features=(1,),
    )  # fmt: skip
    config = ncsim.EnsembleConfig(
        tasks=tasks, hidden=2, members=70, steps=200, optimizer="sm3", loss="squared_error", training_rows=3,
        initialization="lecun", bias_initialization="zeros", initialization_scale=5.0, undecided_tolerance=0.5,
        root_seed=2**64 - 1,
    )  # fmt: skip
    run = ncsim.run_ensemble(config, executor="xla")
    assert ncsim.parameters(run, range(70)).member.tolist() == list(range(70))


@pytest.mark.parametrize(
    ("executor", "fields"),
    first_fast(
        [
            ("xla", {"precision": "float64"}),
            *((executor, fields) for executor in ("native", "xla") for fields in KINDS),
        ],
        0,
        slow=5,
    ),
    ids=lambda given: given if isinstance(given, str) else next(iter(given)),
)
def test_networks_of_every_kind(executor, fields):
    config = ncsim.EnsembleConfig(members=70, steps=40, tasks=TASKS, **fields)
    run = ncsim.run_ensemble(config, executor=executor, out="run")
    networks, found = ncsim.parameters(run, [69, 0]), ncsim.outcomes(run, [69, 0])
    assert np.array_equal(ncsim.joint_counts(found.outcomes), run.members([69, 0]).joint)
    inputs = encoded_inputs(config.tasks, config.encoding).astype(np.float32)
    logits = ncsim.NCnet(config).apply(networks.variables(1, 1, 0), inputs)
    assert np.allclose(np.asarray(logits).T, found.logits[1, 1, 0], atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ show


@pytest.mark.parametrize("diverged", first_fast([True, False]))
def test_a_member_is_drawn(diverged, tmp_path):
    generator = np.random.default_rng(0)
    hidden, logits, losses = generator.normal(size=(4, 2, 3)), generator.normal(size=(4, 2, 4)), np.ones((5, 4, 2))
    signs = np.where(logits > 0, 1, -1)
    if diverged:
        hidden[1], logits[1], signs[1], losses[2:, 1] = np.inf, np.nan, 0, np.nan
    drawn = DrawnMember(7, hidden, np.zeros((4, 3)), logits, signs, np.ones(4), np.arange(5), losses)
    paths = draw_member(GRID[0], drawn, "member 7", tmp_path / "figures" / "member")
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf", ".csv"]
    with open(paths[-1], newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["context", "of", "row 00", "row 01", "row 10", "row 11"]
    assert float(rows[1][4]) == hidden[0, 0, 0]  # on row 10 a unit has the weight of x1
    assert [float(word) for word in rows[4][2:]] == logits[0, 0].tolist()
    assert ("diverged" in paths[1].read_text()) == diverged


@pytest.mark.slow
def test_show_draws_a_member(run, capsys):
    main(["show", str(run.path), "77", "--out", "drawn/member"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-4:] == [f"drawn/member.{ending}" for ending in ("png", "svg", "pdf", "csv")]
    assert all(Path(name).stat().st_size > 500 for name in printed[-4:])
    with open("drawn/member.csv", newline="") as file:
        first, *rows = csv.reader(file)
    assert first[:3] == ["context", "of", "row 00"]
    assert [row[1] for row in rows] == ["unit 1", "unit 2", "logit of Alice", "logit of Bob"] * 4
    logits = ncsim.outcomes(run, [77]).logits[0].reshape(8, 4)
    drawn = [list(map(float, row[2:])) for row in rows if row[1].startswith("logit")]
    assert np.array_equal(np.asarray(drawn, np.float32), logits)


def test_show_says_why_a_figure_cannot_be_written(run, capsys, monkeypatch):
    """Pillow's errors of a full disk have words and no number of the system's: "None" was said of them."""

    def full(*_):
        raise OSError("encoder error -2 when writing image file")

    monkeypatch.setattr("ncsim.report.network_figure.draw_member", full)
    monkeypatch.setattr("ncsim.cli.show._drawn", lambda *_: None)
    with pytest.raises(SystemExit):
        main(["show", str(run.path), "77", "--out", "drawn"])
    line = "ncsim: error: --out: drawn; cannot be written (encoder error -2 when writing image file)\n"
    assert capsys.readouterr().err == line


def test_a_member_of_a_grid_is_of_a_cell_that_is_named(tmp_path, capsys, monkeypatch):
    """An optimizer's options have a comma, or are none: the title ended with a blank."""
    config = ncsim.EnsembleConfig(hidden=1, members=2, steps=1, tasks=FOUR_ROWS)
    ncsim.run_ensemble(
        [dataclasses.replace(config, optimizer_options=options) for options in ("", "b1=0.5,b2=0.9")],
        tmp_path,
        executor="xla",
    )
    titles = []
    monkeypatch.setattr(
        "ncsim.report.network_figure.draw_member",
        lambda config, drawn, title, stem: titles.append((title, stem.name)) or [],
    )
    monkeypatch.setattr("ncsim.cli.show._drawn", lambda *_: None)
    for cell in "01":
        main(["show", str(tmp_path), "1", "--cell", cell])
    assert titles == [
        ('member 1 of the cell with optimizer_options=""', "cell-0-member-1"),
        ("member 1 of the cell with optimizer_options=b1=0.5,b2=0.9", "cell-1-member-1"),
    ]


@pytest.mark.slow
def test_show_draws_a_member_that_diverged(run, capsys):
    main(["show", str(run.path), "6", "--cell", "1", "--out", "other"])
    assert Path("other.png").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["77a"], "MEMBER: 77a; allowed: a whole number from 0 to 4294967295"),
        (["4"], "members: 4 is not stored; allowed: what is, of 5 to 144"),
        (["77", "--cell", "2"], "--cell: 2; allowed: a whole number from 0 to 1"),
        (["77", "--cell", "x"], "--cell: x; allowed: a whole number"),
        (["77", "--outt", "x"], "--outt: no such option; did you mean --out?"),
    ],
)
def test_bad_words_of_show_are_one_line(run, capsys, words, line):
    with pytest.raises(SystemExit) as end:
        main(["show", str(run.path), *words])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ncsim: error: {line}")
    assert said.count("\n") == 1
