"""Members trained again: what was changed under a right checksum is found and named."""

import dataclasses
import json

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.fields import part_of
from ncsim.ensemble.audit import GROUP, Audit, audit, unequal_columns
from ncsim.storage import parts
from ncsim.storage.checksums import UNSEALED, sealed
from ncsim.storage.parts import MEMBERS, to_bytes
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder

CONFIG = ncsim.EnsembleConfig(hidden=2, members=3 * GROUP, steps=4)
GRID = [dataclasses.replace(CONFIG, learning_rate=rate) for rate in (0.01, 1e38)]


@pytest.fixture
def folder(tmp_path):
    ncsim.run_ensemble(GRID, tmp_path / "run", executor="xla")
    return tmp_path / "run"


def change(folder, member, **columns):
    """Store a member of the first cell with other values, sealed as every part is."""
    run = RunFolder.open(folder)
    config = run.configs[0]
    (part,) = run.parts(config)
    records = run.read_part(config, part.name)
    for name, value in columns.items():
        getattr(records, name)[member] = value
    (folder / part.name).write_bytes(to_bytes(MEMBERS.layout(), MEMBERS.key, records, config, run.swept))


def test_what_is_right_is_right_and_a_share_is_a_share(folder):
    everything = audit(folder, 1.0, seed=3)
    assert everything.right
    assert everything.members == everything.stored == 6 * GROUP
    assert not np.isfinite(
        RunFolder.open(folder).read_part(GRID[1], RunFolder.open(folder).parts(GRID[1])[0].name).loss
    ).all()
    some = audit(folder, 0.4, seed=3)
    assert some.members == 3 * GROUP  # rounded up to groups
    assert "384 of 768 members (50.00%, seed 3) trained again: all are as stored" in some.lines()[-1]


def test_a_changed_member_is_named(folder, capsys):
    records = ncsim.open_run(folder).records(0)
    swapped = records.counts[200][::-1].copy()
    change(folder, 200, counts=swapped, loss=np.nextafter(records.loss[200], np.float32(9)))
    with pytest.raises(SystemExit) as caught:
        main(["report", str(folder), "--audit", "1", "--audit-seed", "5"])
    assert caught.value.code == 1
    said = capsys.readouterr().out
    assert "parts/learning_rate-0.01: member 200 differs in counts, loss" in said
    assert "(100.00%, seed 5) trained again: 1 differ" in said
    # Of two seeds, one may choose the group and the other not: the same seed always chooses alike.
    found = [audit(folder, 0.1, seed).right for seed in range(12)]
    assert found == [audit(folder, 0.1, seed).right for seed in range(12)]
    assert 0 < sum(found) < 12


def test_numbers_are_compared_by_their_bits_and_a_nan_is_any_other():
    """As IEEE 754 has them: -0 is another number than 0, the last bit counts, and a NaN may have any of its many bits."""
    nans = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    stored = {"loss": np.array([[0.0, 1.0], [nans[0], np.inf]], np.float32), "solved": np.array([3, 4]), "gone": None}
    assert unequal_columns(stored, {"loss": np.where(np.isnan(stored["loss"]), nans[1], stored["loss"])}) == []
    other = {"loss": np.array([[-0.0, 1.0], [nans[0], np.inf]], np.float32), "solved": np.array([3, 5])}
    other["gone"] = np.zeros(2)  # what is not stored cannot differ
    assert unequal_columns(stored, other) == [(0, "loss"), (1, "solved")]
    other["loss"] = np.array([[0.0, np.nextafter(np.float32(1), 2)], [nans[0], nans[1]]], np.float32)
    assert unequal_columns(stored, other) == [(0, "loss"), (1, "loss"), (1, "solved")]


def test_another_kind_of_machine_is_said(folder):
    for name in ("config.json", "config-copy.json"):
        content = json.loads((folder / name).read_text())
        content["environment"]["versions"]["jaxlib"] = "0.0.1"
        (folder / name).write_bytes(sealed(json.dumps(content | {"checksum": UNSEALED}).encode()))
    found = audit(folder, 0.1, seed=0)
    assert found.right
    assert found.lines()[-1].startswith("This machine is not of the kind that the run was begun with (jaxlib ")


def test_laws_agree_where_nothing_but_rounding_is_other():
    """A step of rprop of another optax may come at another time (docs/how-to.md): its law is another one, too."""

    def said(*elsewhere):
        return Audit(1, 128, 256, [], list(elsewhere)).lines()[-1].rpartition("): ")[2]

    assert said("jaxlib 2 here, 1 there", "gpu (H200) here, cpu there") == "laws agree, and members need not."
    assert said("jaxlib 2 here, 1 there", "optax 2 here, 1 there") == "members need not be the same."
    assert said("ncsim 2 here, 1 there") == "members need not be the same."


@pytest.mark.parametrize("things", [1, 7, 25, 100, 300, 10_000])
def test_a_share_is_what_is_written(things):
    """Of 100 groups 0.07 were 8, since as floats 0.07 * 100 is above 7. Hundredths by whole numbers."""
    for hundredths in range(1, 101):
        assert part_of(hundredths / 100, things) == -(-hundredths * things // 100)
    assert part_of(np.float32(0.07), 100) == 7
    assert part_of(1e-300, things) == part_of(5e-324, things) == 1


@pytest.mark.slow
def test_after_a_run(capsys):
    options = ["--hidden", "2", "--members", "20", "--steps", "3", "--executor", "xla", "--out", "run"]
    main(["ensemble", *options, "--audit", "0.01", "--quiet"])
    assert "trained again: all are as stored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--audit", "0"], "--audit: 0; allowed: a share of the members, above 0 to 1"),
        (["--audit", "nan"], "--audit: nan"),
        (["--audit", "1 %"], "--audit: 1 %"),
        (["--audit-seed", "1"], "--audit-seed: without --audit"),
        (["--audit", "1", "--audit-seed", "-1"], "--audit-seed"),
        (["--audit", "1", "--verify"], "--audit: with --verify"),
        (["--audit", "1"], "nothing-here: no run is stored there"),
    ],
)
def test_bad_options_are_named(options, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["report", "nothing-here", *options])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_recorded_along_training_is_compared_too(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 3 * 100)  # groups of members do not end where parts do
    recording = ncsim.Recording(points=3)
    ncsim.run_ensemble(CONFIG, tmp_path / "run", executor="xla", recording=recording)
    assert audit(tmp_path / "run", 1.0, seed=1).right
    run = RunFolder.open(tmp_path / "run")
    stored = TrajectoryFolder(run)
    part = stored.parts(CONFIG)[2]
    recorded = stored.read_part(CONFIG, part.name)
    recorded.values["cosine"][5, 1, 3] += np.float32(1e-6)
    stored.write_recorded(CONFIG, recorded, recording)
    found = audit(tmp_path / "run", 1.0, seed=1)
    assert found.differing == [("parts", part.first + 5, ("trajectory cosine",))]
    # Where a part of it is not recorded, members are compared by what is there.
    (tmp_path / "run" / part.name).unlink()
    assert audit(tmp_path / "run", 1.0, seed=1).right
