"""Members that C draws, trains and records in one call: the bits are those of JAX's draws and of XLA's records."""

import dataclasses
import shutil

import numpy as np
import pytest

import ncsim
from ncsim import c_compiler
from ncsim.cli.command import main
from ncsim.config.ensemble import program_of
from ncsim.ensemble.audit import audit
from ncsim.ensemble.trainer import trainer
from ncsim.executors import xla
from ncsim.executors.native import program as native
from ncsim.executors.native import trial, whole
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from tests.executors.test_native import FOUR_ROWS, RUNS_HERE
from tests.support.cases import first_fast
from tests.support.folders import parts_of

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there is no C compiler")
VARIANTS = {
    "squared error": {"loss": "squared_error", "tasks": FOUR_ROWS},
    "paper": {"hidden": 2},
    "common start, other scale": {
        "common_initialization": True,
        "bias_initialization": "zeros",
        "initialization_scale": 1.7,
        "tasks": FOUR_ROWS,
    },
    "overlap, signs": {"topology": "overlap", "encoding": "sign", "hidden": 3},
    "two logits, weights": {"loss": "cross_entropy", "alice_weight": 0.3, "tasks": FOUR_ROWS},
    "separate trunks": {"intervention": "separate_trunks", "tasks": FOUR_ROWS},
}
#: First id, root seed, steps, learning rate: ids to the last that there is, and networks that diverge.
CASES = ((5, 3, 0, 0.05), (2**32 - 256, 2**64 - 1, 0, 0.05), (77, 2**40 + 12345, 90, 0.05), (0, 1, 4, 1e30))


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(whole, "MANY", 1)


def both(config):
    """The program in C, without asking whether it is right here, and the one whose draws and records are XLA's."""
    mesh = trainer(1)._mesh
    native.training(native.shape(config))
    library = c_compiler.loaded(native.source(config))
    text = whole.source(program_of(config))
    assert text is not None
    text += f"/* Calls {library._name}. */"
    ours = whole._block_program(program_of(config), mesh, 128, text, library, 2)
    return ours, xla.block_program(config, mesh, 2, 128, native.training(native.shape(config)))


def outcome(program, first, seed, steps, rate):
    ids = (first + np.arange(256, dtype=np.int64)).astype(np.uint32).reshape(2, 128)
    return program.run(seed, ids, np.array([2], np.int32), rate, steps)


def kinds_of_nan(leaves):
    """The bits of all NaN there are."""
    numbers = [np.asarray(leaf).reshape(-1) for leaf in leaves if leaf is not None and leaf.dtype == np.float32]
    return {int(bits) for each in numbers for bits in np.unique(each[np.isnan(each)].view(np.uint32))}


@pytest.mark.parametrize("name", first_fast(VARIANTS, 1, slow=3))
def test_records_have_the_bits_of_xla(name):
    config = ncsim.EnsembleConfig(**{"hidden": 2, **VARIANTS[name]})
    ours, theirs = both(config)
    for case in CASES:
        found = [outcome(program, *case) for program in (ours, theirs)]
        for field, a, b in zip(found[0]._fields, *found, strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.asarray(a).tobytes() == np.asarray(b).tobytes(), (name, case, field)
        if case == CASES[2]:
            assert np.unique(np.asarray(found[0].loss)).size > 100
    assert np.asarray(found[1].diverged).any()
    assert kinds_of_nan(found[1]) == {0x7FC00000}


def test_devices_take_pieces_of_one_another():
    """Whoever trains a block, it is the same: of a device that has none to do, all are done by others or by itself."""
    config = ncsim.EnsembleConfig(hidden=2, tasks=FOUR_ROWS)
    ours, _ = both(config)
    library = c_compiler.loaded(native.source(config))
    text = f"{whole.source(program_of(config))}/* Calls {library._name}. */"
    shared = whole._block_program(program_of(config), trainer(3)._mesh, 128, text, library, 2)
    ids = np.arange(768, dtype=np.uint32).reshape(6, 128)
    expected = [
        outcome(ours, first, 3, 500, 0.05).counts for first in range(0, 768, 256)
    ]  # [blocks, lanes, context, 4] of two blocks each
    for used in ([2, 0, 1], [0, 2, 0], [1, 1, 2], [0, 0, 0]):
        found = np.asarray(shared.run(3, ids, np.array(used, np.int32), 0.05, 500).counts).reshape(3, 2, 128, 4, 4)
        for device, blocks in enumerate(used):
            assert np.array_equal(found[device, :blocks], np.asarray(expected[device])[:blocks]), used


def test_what_is_not_drawn_in_c():
    """The other laws, some rows only, and wide networks are XLA's."""
    config = ncsim.EnsembleConfig(hidden=2)
    for other in ({"initialization": "he"}, {"training_rows": 3}, {"hidden": 9}):
        assert whole.source(program_of(dataclasses.replace(config, **other))) is None


#: Two parts, whose networks diverge.
DIVERGES = ncsim.EnsembleConfig(
    hidden=1, first_member=2**18 - 150, members=300, steps=4, learning_rate=1e30, tasks=FOUR_ROWS
)


@pytest.fixture(scope="module", params=first_fast([None, ncsim.Recording(spacing="every", every=2)]))
def by_xla(request, tmp_path_factory):
    """A run of the native executor that XLA drew and recorded, and its recording."""
    folder = tmp_path_factory.mktemp("by-xla") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "MANY", DIVERGES.members + 1)
        ncsim.run_ensemble(DIVERGES, folder, executor="native", recording=request.param)
    assert ncsim.open_run(folder).records().diverged.any()
    return folder, request.param


def test_parts_do_not_depend_on_who_recorded(by_xla, tmp_path, monkeypatch):
    """Nor on whether they were recorded along training as well."""
    made = []
    block_program = whole._block_program
    monkeypatch.setattr(whole, "_block_program", lambda *given: made.append(block_program(*given)) or made[-1])
    monkeypatch.setattr(trial, "has_bits_of_xla", lambda *_: True)  # else it might be XLA's
    ncsim.run_ensemble(DIVERGES, tmp_path, executor="native")
    assert made
    ours, theirs = parts_of(tmp_path / "parts"), parts_of(by_xla[0] / "parts")
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def with_other_nan(folder, values):
    """Store the last part of a folder anew, with NaN as builds before this one stored them."""
    name = folder.parts(DIVERGES)[-1].name
    before, part = folder.storage.read(name), folder.read_part(DIVERGES, name)
    for each in values(part):
        each.view(np.uint32)[np.isnan(each)] = 0xFFFFFFFF
    if isinstance(folder, RunFolder):
        folder.write_part(DIVERGES, part)
    else:
        folder.write_recorded(DIVERGES, part, folder.recording())
    assert folder.storage.read(name) != before


def test_a_run_with_other_nan_is_right_and_repaired(by_xla, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(by_xla[0], path)
    run = RunFolder.open(path)
    with_other_nan(run, lambda part: [part.loss])
    if by_xla[1]:
        with_other_nan(TrajectoryFolder(run), lambda part: part.values.values())
    assert audit(path, 1.0, seed=0).right
    assert ncsim.parameters(path, [DIVERGES.member_ids[-1]]).member.size == 1
    files = {part: part.read_bytes() for part in parts_of(path)}
    damaged = path / run.parts(DIVERGES)[0].name
    damaged.write_bytes(files[damaged].replace(b"sha256:", b"sha257:"))
    main(["report", str(path), "--repair"])
    assert len(parts_of(path / "rejected")) == 1
    assert {part: part.read_bytes() for part in files} == files
