"""The run folder: whole parts only, and nothing torn, foreign or of another config."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import ncsim
from ncsim.config.ensemble import fingerprint, run_digits
from ncsim.ensemble.work import working_on
from ncsim.errors import StoreError
from ncsim.records.members import MemberRecords, concatenated
from ncsim.results import Run
from ncsim.storage.checksums import sealed_json
from ncsim.storage.config_change import change_description
from ncsim.storage.config_file import FORMAT, described, description
from ncsim.storage.files import discard_unfinished
from ncsim.storage.losses import losses_and_tables
from ncsim.storage.parts import MEMBERS, from_bytes, to_bytes
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify

CONFIG = ncsim.EnsembleConfig(members=20, steps=5)


def some_records(first, count, seed=0):
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(16, [0.25] * 4, size=(count, 4)).astype(np.int32)
    diverged = np.zeros((count, 4), bool)
    diverged[0, 2] = True
    counts[0, 2] = 0
    loss = generator.random((count, 4)).astype(np.float32)
    few = generator.integers(0, 5, size=(3, count, 4)).astype(np.int32)
    member = np.arange(first, first + count, dtype=np.uint64)
    return MemberRecords(member, counts, loss, -loss, diverged, few[0], few[1], few[2] - 2)


def stored(path, config=CONFIG, parts=((0, 8), (8, 12))):
    folder = RunFolder.create(path, [config])
    for first, count in parts:
        folder.write_part(config, some_records(first, count, seed=first))
    return folder


def same(a, b):
    present = [(x, y) for x, y in zip(a, b, strict=True) if x is not None or y is not None]
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in present)


def test_what_is_written_is_read_back(tmp_path):
    folder = stored(tmp_path / "run")
    assert folder.missing(CONFIG) == []
    run = ncsim.open_run(tmp_path / "run")
    assert run.configs == (CONFIG,)
    assert same(run.records(), concatenated([some_records(0, 8, 0), some_records(8, 12, 8)]))
    assert run.counts.shape == (20, 2, 2, 2, 2)
    assert np.isnan(run.statistics().s[0])  # its third context diverged
    assert run.table().num_rows == 20
    frame = pandas.read_parquet(tmp_path / "run" / "parts")
    assert list(frame["member"]) == list(range(20))
    assert np.array_equal(frame.filter(regex=r"^counts_"), run.counts.reshape(20, 16))


def test_missing_members_are_found_between_parts(tmp_path):
    folder = stored(tmp_path, parts=((3, 4), (10, 5)))
    assert folder.missing(CONFIG) == [range(0, 3), range(7, 10), range(15, 20)]
    assert ncsim.open_run(tmp_path).missing() == 11


def test_swept_fields_are_columns_of_their_own_types(tmp_path):
    grid = ncsim.config_grid(learning_rate=[0.003, 0.01], optimizer_options=["", "b1=0.8,b2=0.9"], members=3)
    folder = RunFolder.create(tmp_path, grid)
    for cell, config in enumerate(grid):
        folder.write_part(config, some_records(0, 3, seed=cell))
    run = ncsim.open_run(tmp_path)
    assert run.counts.shape == (4, 3, 2, 2, 2, 2)
    frame = pandas.read_parquet(tmp_path / "parts")
    assert set(frame["learning_rate"]) == {0.003, 0.01}
    assert set(frame["optimizer_options"]) == {"", "b1=0.8,b2=0.9"}
    assert run.table().column_names[:2] == ["learning_rate", "optimizer_options"]


def test_another_configs_folder_is_refused_and_nothing_lost(tmp_path):
    stored(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = dataclasses.replace(CONFIG, learning_rate=0.5)
    with pytest.raises(StoreError, match=r"holds another config's run \(learning_rate is 0.01 there, 0.5 here\)"):
        RunFolder.create(tmp_path, [other])
    with pytest.raises(StoreError, match="holds a run already"):
        RunFolder.create(tmp_path, [CONFIG], resume=False)
    with pytest.raises(StoreError, match="holds a run already"):  # though nothing of it is missing
        ncsim.run_ensemble(CONFIG, tmp_path, resume=False)
    with pytest.raises(StoreError, match="would leave some out"):
        RunFolder.create(tmp_path, [dataclasses.replace(CONFIG, members=10)])
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_difference_that_is_told_is_one_of_values_and_not_of_their_order(tmp_path):
    RunFolder.create(tmp_path, ncsim.config_grid(hidden=[2, 3], members=20))
    for other, words in (
        ({"learning_rate": 0.5}, "learning_rate is 0.01 there, 0.5 here"),
        ({"common_initialization": True}, "common_initialization is false there, true here"),
        ({"optimizer_options": "b1=0.5"}, 'optimizer_options is "" there, b1=0.5 here'),
    ):
        with pytest.raises(StoreError) as caught:
            RunFolder.create(tmp_path, ncsim.config_grid(hidden=[3, 2], members=20, **other))
        assert f"holds another config's run ({words})" in str(caught.value)


def test_a_run_can_be_extended(tmp_path):
    stored(tmp_path)
    longer = dataclasses.replace(CONFIG, members=30)
    folder = RunFolder.create(tmp_path, [longer])
    assert folder.missing(longer) == [range(20, 30)]
    assert ncsim.open_run(tmp_path).configs[0].members == 30


def test_truncated_parts_are_torn_wherever_they_are_cut(tmp_path):
    folder = stored(tmp_path)
    victim = folder.path / folder.parts(CONFIG)[1].name
    whole = victim.read_bytes()
    for length in (0, 1, 7, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        victim.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="is torn") as caught:
            ncsim.open_run(tmp_path)
        assert "\n" not in str(caught.value)
    victim.write_bytes(whole)
    assert ncsim.open_run(tmp_path).records().size == 20


def test_flipped_bytes_in_a_parts_data_are_found_when_it_is_read(tmp_path):
    folder = stored(tmp_path)
    path = folder.path / folder.parts(CONFIG)[0].name
    whole = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path).row_group(0)
    found = 0
    for column in range(metadata.num_columns):
        chunk = metadata.column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        broken = bytearray(whole)
        broken[start + chunk.total_compressed_size - 3] ^= 0x10  # inside the page's data
        path.write_bytes(broken)
        with pytest.raises(StoreError, match=path.name):
            ncsim.open_run(tmp_path).records()
        found += 1
    assert found == len(metadata.to_dict()["columns"])


def test_foreign_and_misplaced_parts_are_refused(tmp_path):
    folder = stored(tmp_path / "a")
    first, second = (folder.path / part.name for part in folder.parts(CONFIG))
    other = dataclasses.replace(CONFIG, hidden=2)
    alien = stored(tmp_path / "b", other).parts(other)[0].name
    whole = first.read_bytes()
    first.write_bytes((tmp_path / "b" / alien).read_bytes())
    with pytest.raises(StoreError, match="is of another config"):
        ncsim.open_run(tmp_path / "a")
    first.write_bytes(second.read_bytes())
    with pytest.raises(StoreError, match="does not hold what its name says"):
        ncsim.open_run(tmp_path / "a")
    pq.write_table(pa.table({"member": [1, 2]}), first)
    with pytest.raises(StoreError, match="is not a part of an ncsim run"):
        ncsim.open_run(tmp_path / "a")
    first.write_bytes(whole)
    folder.write_part(CONFIG, some_records(5, 9))
    with pytest.raises(StoreError, match="overlaps"):
        ncsim.open_run(tmp_path / "a")


def test_counts_that_do_not_add_up_are_refused(tmp_path):
    folder = RunFolder.create(tmp_path, [CONFIG])
    records = some_records(0, 20)
    records.counts[4, 1, 0] += 1
    folder.write_part(CONFIG, records)
    with pytest.raises(StoreError, match="counts that do not add up"):
        ncsim.open_run(tmp_path).records()


def test_ids_within_a_part_are_those_of_its_name(tmp_path):
    folder = RunFolder.create(tmp_path, [CONFIG])
    records = some_records(0, 20)
    records.member[19] = 20  # its stamp and its name have the first one and how many there are
    name = folder.write_part(CONFIG, records)
    with pytest.raises(StoreError, match=f"{name}: has members that are not those of its name"):
        ncsim.open_run(tmp_path).records()


def test_a_swept_field_of_a_part_is_that_of_its_cell(tmp_path):
    """Readers of Parquet take the column for it, and never ask config.json."""
    cells = ncsim.config_grid(hidden=[2, 3], members=20, steps=5)
    folder = RunFolder.create(tmp_path, cells)
    names = [folder.write_part(config, some_records(0, 20)) for config in cells]
    table = MEMBERS.layout().table(some_records(0, 20), cells[1], ["hidden"])
    layout = dataclasses.replace(MEMBERS.layout(), to_table=lambda *_: table)
    (tmp_path / names[0]).write_bytes(to_bytes(layout, MEMBERS.key, some_records(0, 20), cells[0], ["hidden"]))
    with pytest.raises(StoreError, match=f"{names[0]}: has another hidden than its config"):
        ncsim.open_run(tmp_path).records(0)
    assert same(ncsim.open_run(tmp_path).records(1), some_records(0, 20))


@pytest.mark.parametrize(
    ("form", "name"),
    [(4, "hidden"), (4, "loss_12"), (4, "diverged_22"), (4, "counts_11_00"), (2, "loss"), (2, "margin")],
)
def test_no_cell_of_a_part_is_empty(tmp_path, form, name):
    """A comparison leaves such a cell out, and NumPy reads it as NaN or 0: the part passed, with a loss that nobody had."""
    cells = ncsim.config_grid(hidden=[2, 3], members=20, steps=5)
    part = RunFolder.create(tmp_path, cells).write_part(cells[0], some_records(0, 20))

    def emptied(*given):
        table = MEMBERS.layout(form).to_table(*given)
        place, rows = table.column_names.index(name), np.arange(20)
        if name == "margin":  # one of the four of a row
            flat = pa.array(np.arange(80, dtype=np.float32), mask=np.arange(80) == 7)
            return table.set_column(place, name, pa.FixedSizeListArray.from_arrays(flat, 4))
        return table.set_column(place, name, pc.if_else(rows == 7, None, table[name]))

    layout = dataclasses.replace(MEMBERS.layout(form), to_table=emptied, required=False)
    content = bytes(to_bytes(layout, MEMBERS.key, some_records(0, 20), cells[0], ["hidden"]))
    with pytest.raises(StoreError, match=f"^has no {name} in some row$"):
        from_bytes(MEMBERS, content, part, cells[0])


@pytest.mark.parametrize("form", [2, 3, 4])
def test_what_laws_ask_of_a_part_is_read_alone(form):
    """Of parts with lists, too, as old versions wrote them: codes of tables of 16 rows are numbers of three digits at base 17."""
    records = some_records(0, 20)
    content = to_bytes(MEMBERS.layout(form), MEMBERS.key, records, CONFIG, [])
    found = losses_and_tables(bytes(content), CONFIG, [2, 0])
    for place, context in enumerate((2, 0)):
        tables = [(bob * 17 + alice) * 17 + both for _, bob, alice, both in records.counts[:, context].tolist()]
        assert found.code[place].tolist() == tables
        assert found.loss[place].tolist() == records.loss[:, context].tolist()
        assert found.diverged[place].tolist() == records.diverged[:, context].tolist()
    assert found.diverged.any()


def test_in_what_another_run_differs_is_said(tmp_path):
    cells = ncsim.config_grid(hidden=[2, 3], steps=[5, 6], members=20)
    RunFolder.create(tmp_path / "grid", cells)
    with pytest.raises(StoreError, match=r"holds another config's run \(its grid has other cells\)"):
        RunFolder.create(tmp_path / "grid", cells[:3])
    RunFolder.create(tmp_path / "one", [CONFIG])
    for other, words in (
        ({"common_initialization": True}, "common_initialization is false there, true here"),
        ({"optimizer_options": "b1=0.5"}, 'optimizer_options is "" there, b1=0.5 here'),
    ):
        with pytest.raises(StoreError, match=rf"holds another config's run \({words}\)"):
            RunFolder.create(tmp_path / "one", [dataclasses.replace(CONFIG, **other)])
    tables = [
        ncsim.truth_tables([one] * 2, [one] * 2, features=2, name="own") for one in (lambda a, b: a, lambda a, b: b)
    ]
    here, there = (dataclasses.replace(CONFIG, tasks=each) for each in tables)
    RunFolder.create(tmp_path / "own", [there])
    with pytest.raises(StoreError, match="its tasks have other tables, under the same name own"):
        RunFolder.create(tmp_path / "own", [here])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 9}',
        '{"format": 1, "cells": [{"hidden": 99}]}',
        '{"format": 1}',
        '{"format": 1, "cells": []}',
    ],
)
def test_a_broken_config_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(StoreError, match=r"config\.json: does not describe a run") as caught:
        ncsim.open_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_of_a_newer_version_is_called_so(tmp_path):
    """Its format "is not 4" was said of a run that any of 1 to 4 might have, and that its copy would help, which says the same."""
    newer = sealed_json(json.loads((stored(tmp_path).path / "config.json").read_text()) | {"format": FORMAT + 1})
    for name in ("config-copy.json", "config.json"):
        (tmp_path / name).write_bytes(newer)
    words = f"its format is {FORMAT + 1}; allowed in this version of ncsim: 1 to {FORMAT}"
    line = f"^{re.escape(f'{tmp_path}/config.json: does not describe a run ({words})')}$"
    for refused in (RunFolder.open, lambda path: RunFolder.create(path, [CONFIG])):
        with pytest.raises(StoreError, match=line):
            refused(tmp_path)
    (tmp_path / "config-copy.json").write_bytes(newer + b" ")
    with pytest.raises(StoreError, match=r"puts its copy there$"):
        RunFolder.open(tmp_path)


def test_a_text_run_is_called_so(tmp_path):
    """It was "does not describe a run ('cells')", of `ncsim show`, and of a run into its folder."""
    folder = tmp_path / "run"
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "stored_runs" / "text", folder)
    words = r"run: holds a text run; ncsim.text.open_text_run and `ncsim report` read it$"
    with pytest.raises(StoreError, match=words):
        ncsim.open_run(folder)
    with pytest.raises(StoreError, match=words):
        RunFolder.create(folder, [CONFIG])
    with pytest.raises(StoreError, match=words):
        ncsim.open_scenario(folder)


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(StoreError, match="no run is stored there"):
        ncsim.open_run(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="no run is stored there"):
        ncsim.open_run(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be written to"):
        RunFolder.create(tmp_path / "file" / "below", [CONFIG])
    stored(tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    remedy = "; `ncsim report --repair .*run` puts its copy there$"
    with pytest.raises(StoreError, match=r"has a run's config-copy\.json but no config\.json" + remedy):
        RunFolder.create(tmp_path / "run", [CONFIG])
    with pytest.raises(StoreError, match=r"no run is stored there \(no config\.json\)" + remedy):
        ncsim.open_run(tmp_path / "run")
    (tmp_path / "run" / "config-copy.json").unlink()
    with pytest.raises(StoreError, match=r"has parts but no config\.json"):
        RunFolder.create(tmp_path / "run", [CONFIG])


def test_a_second_writer_is_refused_and_leftovers_of_a_killed_one_go(tmp_path):
    folder = stored(tmp_path)
    leftover = folder.path / folder.cell_name(CONFIG) / ".members-0000000000-8.parquet-1.tmp"
    leftover.write_bytes(b"half")
    assert len(folder.parts(CONFIG)) == 2
    with folder.exclusive():
        discard_unfinished(folder.storage)
        assert not leftover.exists()
        assert len(folder.parts(CONFIG)) == 2
        with pytest.raises(StoreError, match="another process is writing"), RunFolder.open(tmp_path).exclusive():
            pass
    with folder.exclusive():
        pass


@pytest.mark.parametrize(
    "name",
    [
        ".draft.tmp",  # of the user's, by its name
        "notes/.a-0123456789abcdef.tmp",  # in a folder that no run has
        "widths/.config.json-0123456789abcdef.tmp",  # of a run that trains now, in a folder of its own
        "widths/parts/.members-0000000000-8.parquet-0123456789abcdef.tmp",
        "claims/2026/fire.json",
        "claims/open.csv",
    ],
)
def test_a_run_in_a_folder_that_holds_more_leaves_what_is_not_its_own(tmp_path, name):
    """As `--out .` or `--out runs`."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"mine")
    folder = stored(tmp_path)
    with working_on(folder, None):
        assert file.read_bytes() == b"mine"
    assert verify(tmp_path).leftovers == 0


def test_config_file_says_what_made_the_bits(tmp_path):
    RunFolder.create(tmp_path, [CONFIG], training=lambda: {"device": "2 x test", "executor": "xla"})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["cells"][0]["learning_rate"] == 0.01
    assert {"jax", "jaxlib", "numpy", "ncsim"} <= set(written["environment"]["versions"])
    assert written["environment"]["device"] == "2 x test"


def test_identity_is_of_what_shapes_a_member():
    assert fingerprint(CONFIG) == fingerprint(dataclasses.replace(CONFIG, members=5, first_member=3))
    assert fingerprint(CONFIG) != fingerprint(dataclasses.replace(CONFIG, root_seed=1))
    grid = ncsim.config_grid(hidden=[2, 3])
    assert run_digits(grid) == run_digits(grid[::-1]) != run_digits(grid[:1])
    both = "".join(sorted(map(fingerprint, grid))).encode()
    assert run_digits(grid) == f"{int(hashlib.sha256(both).hexdigest(), 16) >> 224:08x}"  # the first 32 of 256 bits


@pytest.mark.parametrize("place", ["run", "memory://changes/run"])
def test_a_change_is_made_from_what_is_there_and_the_copy_follows(tmp_path, monkeypatch, place):
    """Of two who change config.json at once, in a store that nothing holds, neither loses the other's change."""
    storage = RunFolder.create(place if "://" in place else tmp_path / place, [CONFIG]).storage
    monkeypatch.setattr("ncsim.storage.config_change.SECONDS_BETWEEN", 0.0)

    def noting(word):
        return lambda stored: described(stored | {"words": [*stored.get("words", ()), word]})

    def words():
        found = description(storage.read("config.json"))["words"]
        assert storage.read("config-copy.json") == storage.read("config.json")
        return found

    change_description(storage, noting("one"))
    assert words() == ["one"]
    exchange = type(storage).exchange

    def another_is_first(self, name, held, content):
        monkeypatch.setattr(type(storage), "exchange", exchange)
        self.write(name, noting("other")(description(held)))
        return exchange(self, name, held, content)

    monkeypatch.setattr(type(storage), "exchange", another_is_first)
    change_description(storage, noting("two"))
    assert words() == ["one", "other", "two"]
    storage.write("config-copy.json", b"an earlier one")
    change_description(storage, lambda stored: None)
    assert words() == ["one", "other", "two"]


def test_runs_in_memory_and_incomplete_grids(tmp_path):
    run = Run([CONFIG], [some_records(0, 20)])
    assert run.path is None
    assert run.missing() == 0
    assert run.counts.shape[0] == 20
    grid = ncsim.config_grid(hidden=[2, 3], members=20)
    folder = RunFolder.create(tmp_path, grid)
    folder.write_part(grid[0], some_records(0, 20))
    with pytest.raises(StoreError, match="cells hold different members"):
        ncsim.open_run(tmp_path).counts
