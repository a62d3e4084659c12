"""Folders of format 3, whose counts are dictionaries, are read, verified and gone on with in their format.

`tests/fixtures/stored_in_format_3` was made by commit 61d5672, with jax 0.10.2 and pyarrow 26.0.1, its summaries left out:

    grid = ncsim.config_grid(hidden=3, steps=30, learning_rate=[0.01, 1e30], training_rows=3, members=24)
    ncsim.run_ensemble(grid, out="grid", executor="xla")
    scenario = ncsim.EnsembleConfig(hidden=2, steps=30, members=24, tasks=ncsim.chained_tasks(2))
    ncsim.run_scenario(scenario, "scenario", executor="xla")
    steps = ncsim.Recording(spacing="every", every=20)
    ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, steps=40, members=24), "recorded", executor="xla", recording=steps)

Those of formats 1 and 2 are in tests/whole/test_stored_runs.py.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ncsim.cli.command import main
from ncsim.storage.files import LocalStorage
from ncsim.storage.parts import to_bytes
from ncsim.storage.scenario_folder import any_folder
from ncsim.storage.trajectory_folder import TrajectoryFolder

FIXTURE = Path(__file__).parents[1] / "fixtures" / "stored_in_format_3"
#: Joint counts added up over members and rows of all contexts, as the version that stored them printed them.
COUNTS = {
    "grid": [
        [[81, 97, 102, 104], [90, 90, 100, 104], [90, 100, 96, 98], [91, 102, 101, 90]],
        [[28, 28, 28, 28], [16, 16, 16, 16], [20, 20, 20, 20], [20, 20, 20, 20]],
    ],
    "recorded": [[[33, 110, 72, 169], [42, 42, 137, 163], [42, 133, 59, 150], [74, 99, 97, 114]]],
    "scenario": [[[51, 108, 71, 154], [56, 49, 133, 146], [57, 121, 67, 139], [77, 105, 103, 99]]],
}


@pytest.fixture(params=sorted(COUNTS))
def folder(request, tmp_path):
    shutil.copytree(FIXTURE / request.param, tmp_path / request.param)
    return any_folder(LocalStorage(tmp_path / request.param))


def records_of(folder):
    """The records of each cell, of which each has one part."""
    return [folder.read_part(config, folder.parts(config)[0].name) for config in folder.configs]


def test_it_holds_what_was_stored(folder):
    found = [records.counts.sum(axis=0).reshape(4, 4).tolist() for records in records_of(folder)]
    assert found == COUNTS[folder.path.name]


def test_it_is_whole(folder, capsys):
    main(["report", "--verify", str(folder.path)])
    assert capsys.readouterr().out.endswith(": whole; nothing is missing or wrong\n")


def test_parts_are_written_to_the_same_bytes(folder):
    if pyarrow_of(folder) != pa.__version__:
        pytest.skip(f"parts are those of pyarrow {pyarrow_of(folder)}, here {pa.__version__}")
    for config, records in zip(folder.configs, records_of(folder), strict=True):
        part = folder.path / folder.parts(config)[0].name
        layout = folder.kind.layout(folder.form)
        assert to_bytes(layout, folder.kind.key, records, config, folder.swept) == part.read_bytes()
        # A new folder's parts have the same columns, and other encodings.
        new = to_bytes(folder.kind.layout(), folder.kind.key, records, config, folder.swept)
        assert encodings(new) != encodings(part.read_bytes())
        # As words: a loss that is not a number is not equal to itself.
        assert repr(pq.read_table(pa.BufferReader(new)).to_pylist()) == repr(pq.ParquetFile(part).read().to_pylist())


def pyarrow_of(folder):
    """The version that wrote a folder's parts."""
    return json.loads(folder.storage.read("config.json"))["environment"]["versions"]["pyarrow"]


def test_trajectories_are_written_to_the_same_bytes(tmp_path):
    shutil.copytree(FIXTURE / "recorded", tmp_path / "recorded")
    folder = TrajectoryFolder(any_folder(LocalStorage(tmp_path / "recorded")))
    if pyarrow_of(folder) != pa.__version__:
        pytest.skip(f"parts are those of pyarrow {pyarrow_of(folder)}, here {pa.__version__}")
    (config,), recording = folder.configs, folder.recording()
    name = folder.parts(config)[0].name
    trajectories, before = folder.read_part(config, name), (folder.storage.root / name).read_bytes()
    assert folder.write_recorded(config, trajectories, recording) == name
    assert (folder.storage.root / name).read_bytes() == before
    # A new folder's say that no number is missing.
    new = folder.kind.layout().table(trajectories, config, ())
    assert not any(field.nullable for field in new.schema)
    assert all(field.nullable for field in pq.read_schema(pa.BufferReader(before)))
    assert repr(new.to_pylist()) == repr(pq.ParquetFile(pa.BufferReader(before)).read().to_pylist())


def encodings(content):
    """The encodings of each column of a part."""
    group = pq.read_metadata(pa.BufferReader(content)).row_group(0)
    return [(group.column(n).path_in_schema, group.column(n).encodings) for n in range(group.num_columns)]


def test_it_is_gone_on_with_in_its_format(folder):
    longer = [dataclasses.replace(config, members=30) for config in folder.configs]
    again = type(folder).create(folder.path, longer)
    assert again.form == 3
    assert json.loads((folder.path / "config.json").read_text())["format"] == 3
    old = folder.parts(folder.configs[0])[0]
    records = folder.read_part(folder.configs[0], old.name).take(slice(0, 6))
    records = records._replace(member=records.member + 24)
    name = again.write_part(longer[0], records)
    assert Path(name).parent == Path(old.name).parent
    found, expected = ((folder.path / each).read_bytes() for each in (name, old.name))
    assert encodings(found) == encodings(expected)
    stamps = [
        json.loads(pq.read_metadata(pa.BufferReader(each)).metadata[folder.kind.key]) for each in (found, expected)
    ]
    assert stamps[0]["format"] == stamps[1]["format"]
    # Not until the folder is described as a new one does it write as a new one.
    assert again.kind.layout(again.form) is not again.kind.layout()


def test_what_is_new_in_format_4(folder):
    """Whole numbers are in as few bits as their differences take, and say that none is missing."""
    records = records_of(folder)[0]
    new = to_bytes(folder.kind.layout(), folder.kind.key, records, folder.configs[0], folder.swept)
    found, schema = dict(encodings(new)), pq.read_schema(pa.BufferReader(new))
    packed = [field.name for field in schema if field.name == "member" or pa.types.is_int32(field.type)]
    assert len(packed) > 20
    assert all("DELTA_BINARY_PACKED" in found[name] for name in packed)
    statistics = [] if folder.path.name == "scenario" else ["S", "S_factorised", "influence", "Delta"]
    assert [field.name for field in schema if field.nullable] == statistics
