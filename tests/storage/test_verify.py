"""Every bit of a run folder that matters: seen where it changes, named, and put right by training exactly what it hit."""

import dataclasses
import errno
import functools
import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.ensemble import fingerprint
from ncsim.errors import StoreError
from ncsim.storage import parts
from ncsim.storage.arrow_tables import to_table
from ncsim.storage.checksums import is_whole
from ncsim.storage.config_file import description
from ncsim.storage.files import LocalStorage
from ncsim.storage.parts import MEMBERS, from_bytes
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import repair, verify
from tests.storage.test_run_folder import CONFIG, some_records, stored
from tests.support.cases import sizes


def content(folder):
    """Every file of a run folder that matters, by name."""
    names = ["config.json", "config-copy.json", *folder.storage.names("parts")]
    return {name: folder.storage.read(name) for name in names}


def trained_again(path, trained):
    """A `train` for `repair` that writes the records that `stored` wrote, and notes what it was asked for."""

    def train(configs):
        folder = RunFolder.create(path, configs)
        for gap in folder.missing(configs[0]):
            trained.append(gap)
            folder.write_part(configs[0], some_records(gap.start, len(gap), seed=gap.start))

    return train


def test_a_whole_run_is_right_and_an_incomplete_one_names_what_is_missing(tmp_path):
    folder = stored(tmp_path)
    found = verify(tmp_path)
    assert found.right
    assert found.lines() == ["2 parts with 20 members: whole; nothing is missing or wrong"]
    (tmp_path / folder.parts(CONFIG)[0].name).unlink()
    found = verify(tmp_path)
    assert not found.right
    assert found.lines() == ["parts: members 0 to 7 are missing", "1 part with 12 members: whole"]
    with pytest.raises(StoreError, match="no run is stored there"):
        verify(tmp_path / "nowhere")


#: A run of one part whose files are as small as they can be.
TINY = ncsim.EnsembleConfig(
    members=1,
    tasks=ncsim.truth_tables([lambda x: x, lambda x: 1 - x], [lambda x: x, lambda x: 1 - x], features=1, name="tiny"),
)


def tiny_records():
    records = some_records(0, 1)
    counts = np.tile(np.array([2, 0, 0, 0], np.int32), (1, 4, 1))
    return records._replace(counts=counts, diverged=np.zeros((1, 4), bool))


def tiny_run(place):
    folder = RunFolder.create(place, [TINY], training=lambda: {"executor": {}})
    folder.write_part(TINY, tiny_records())
    assert verify(place).right
    return folder


def test_one_flipped_bit_in_every_byte(tmp_path):
    """Each byte of a tiny run with a random bit flipped is refused by what reads it; some are verified and repaired."""
    folder = tiny_run(tmp_path / "run")
    chance = random.Random(3)
    for name, before in content(folder).items():
        for position in range(len(before)):
            flipped = bytearray(before)
            flipped[position] ^= 1 << chance.randrange(8)
            is_part = name.startswith("parts/")
            reads = functools.partial(from_bytes, MEMBERS, name=name, config=TINY) if is_part else description
            with pytest.raises((StoreError, ValueError), match=r".+"):
                reads(content=bytes(flipped))
            if chance.random() < 0.005:
                assert_named(folder, name, bytes(flipped))
                assert_repaired(folder, name, bytes(flipped), before)
        folder.storage.write(name, before)


@pytest.mark.parametrize("apart", sizes(40, 1))
def test_every_flipped_bit(apart):
    """Each bit of a tiny run, or of bytes so far apart, flipped in turn, is seen and the file named; one bit of every third of
    these bytes is repaired, too."""
    folder = tiny_run(f"memory://every-bit-{apart}/run")
    chance = random.Random(4)
    flips = 0
    for name, before in content(folder).items():
        for position in range(0, len(before), apart):
            repaired = chance.randrange(8) if position // apart % 3 == 0 else None
            for bit in range(8):
                flipped = bytearray(before)
                flipped[position] ^= 1 << bit
                assert_named(folder, name, bytes(flipped))
                flips += 1
                if bit == repaired:
                    assert_repaired(folder, name, bytes(flipped), before)
        folder.storage.write(name, before)
    print(f"{flips} flipped bits, each seen and named; one in every third byte repaired")
    assert flips > 40_000 / apart


def assert_named(folder, name, flipped):
    folder.storage.write(name, flipped)
    found = verify(folder.location)
    assert [finding.name for finding in found.findings] == [name]
    assert [gap.members for gap in found.missing] == ([range(0, 1)] if name.startswith("parts/") else [])


def assert_repaired(folder, name, flipped, before):
    others = {other: bits for other, bits in content(folder).items() if other != name}
    trained = []

    def train(configs):
        again = RunFolder.create(folder.location, configs)
        trained.extend(again.missing(TINY))
        again.write_part(TINY, tiny_records())

    assert repair(folder.location, train, lambda line: None).right
    assert trained == ([range(0, 1)] if name.startswith("parts/") else [])
    assert folder.storage.read(name) == before
    assert {other: bits for other, bits in content(folder).items() if other != name} == others
    assert folder.storage.read(f"rejected/{name}") == flipped
    folder.storage.remove(f"rejected/{name}")


def test_flipped_bits_are_trained_again_by_the_executor_on_record(tmp_path, monkeypatch, capsys):
    """From the command line, with real training."""
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    run = ncsim.run_ensemble(
        ncsim.EnsembleConfig(hidden=2, members=192, steps=30), out=tmp_path / "run", executor="xla"
    )
    folder = RunFolder.open(run.path)
    whole = content(folder)
    flip = random.Random(1)
    for name in whole:
        flipped = bytearray(whole[name])
        flipped[flip.randrange(len(flipped))] ^= 1 << flip.randrange(8)
        (run.path / name).write_bytes(flipped)
        for option, status in (("--verify", 1), ("--repair", None), ("--verify", None)):
            try:
                main(["report", option, str(run.path)])
                ended = None
            except SystemExit as end:
                ended = end.code
            assert ended == status
            printed = capsys.readouterr().out
            assert (name in printed) == (status == 1 or option == "--repair")
        assert content(folder) == whole
    assert json.loads(whole["config.json"])["environment"]["executor"] == {fingerprint(run.configs[0]): "xla"}


def test_files_that_are_not_of_this_run_are_named_and_moved_aside(tmp_path):
    folder = stored(tmp_path / "run")
    other = dataclasses.replace(CONFIG, hidden=2)
    parts = tmp_path / "run" / "parts"
    alien = stored(tmp_path / "other", other, ((0, 8),)).parts(other)[0].name
    whole = content(folder)
    first, second = (name for name in whole if name.startswith("parts/"))
    shutil.copy(tmp_path / "other" / alien, tmp_path / "run" / first)
    (parts / "notes.txt").write_text("mine")
    (parts / "members-0000000099-1.parquet").write_bytes(b"PAR1 no PAR1")
    pq.write_table(pa.table({"x": [1]}), parts / "table.parquet")
    (parts / "hidden-9").mkdir()
    shutil.copy(tmp_path / "run" / second, parts / "hidden-9" / "members-0000000008-12.parquet")
    shutil.copy(tmp_path / "run" / second, parts / "members-0000000009-12.parquet")
    (parts / ".members-0000000000-8.parquet-1-1.tmp").write_bytes(b"half")
    (parts / "_SUCCESS").write_bytes(b"")
    folder.write_part(CONFIG, some_records(10, 3))
    found = verify(tmp_path / "run")
    assert {finding.name.removeprefix("parts/"): finding.problem.partition(" (")[0] for finding in found.findings} == {
        "members-0000000000-8.parquet": "is of another config",
        "members-0000000009-12.parquet": "does not hold what its name says",
        "members-0000000010-3.parquet": "overlaps members-0000000008-12.parquet",
        "members-0000000099-1.parquet": "is torn",
        "hidden-9/members-0000000008-12.parquet": "is not a part of this run",
        "notes.txt": "is not a part of this run",
        "table.parquet": "is not a part of an ncsim run",
    }
    assert found.leftovers == 1
    trained, said = [], []
    assert repair(tmp_path / "run", trained_again(tmp_path / "run", trained), said.append).right
    assert trained == [range(0, 8)]
    moved = {path.name for path in (tmp_path / "run" / "rejected").rglob("*") if path.is_file()}
    assert len(moved) == 7
    assert (tmp_path / "run" / "rejected" / "parts" / "notes.txt").read_text() == "mine"
    assert len([line for line in said if "moved to rejected/parts/" in line]) == 7
    assert {n: c for n, c in content(folder).items() if not n.endswith("_SUCCESS")} == whole
    (parts / "notes.txt").write_text("again")
    assert repair(tmp_path / "run", trained_again(tmp_path / "run", trained), said.append).right
    assert (tmp_path / "run" / "rejected" / "parts" / "notes.txt.2").read_text() == "again"


def test_a_file_is_moved_aside_where_a_folder_of_its_name_was(tmp_path):
    """As config.json is a second time: the folder of the first time has the name among what was moved."""
    stored(tmp_path / "run")
    config, trained, said = tmp_path / "run" / "config.json", [], []
    whole = config.read_bytes()
    config.unlink()
    config.mkdir()
    (config / "inner").write_text("mine")
    assert repair(tmp_path / "run", trained_again(tmp_path / "run", trained), said.append).right
    config.write_bytes(whole[:-20])
    assert repair(tmp_path / "run", trained_again(tmp_path / "run", trained), said.append).right
    assert config.read_bytes() == whole
    assert (tmp_path / "run" / "rejected" / "config.json" / "inner").read_text() == "mine"
    assert (tmp_path / "run" / "rejected" / "config.json.2").read_bytes() == whole[:-20]


def test_a_copy_of_an_earlier_config_is_named_and_written_anew(tmp_path):
    """As where a worker was killed between the two: both are whole, and config.json, which is written first, is the run."""
    stored(tmp_path)
    earlier = (tmp_path / "config-copy.json").read_bytes()
    RunFolder.create(tmp_path, [dataclasses.replace(CONFIG, members=25)])
    later = (tmp_path / "config-copy.json").read_bytes()
    assert later == (tmp_path / "config.json").read_bytes() != earlier
    (tmp_path / "config-copy.json").write_bytes(earlier)
    found = verify(tmp_path)
    assert found.findings == [("config-copy.json", "is not the same as config.json")]
    assert [gap.members for gap in found.missing] == [range(20, 25)]
    assert repair(tmp_path, trained_again(tmp_path, []), lambda line: None).right
    assert (tmp_path / "config-copy.json").read_bytes() == (tmp_path / "config.json").read_bytes() == later


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "config-copy.json", "recording.json"])
def test_a_description_that_cannot_be_read_now_is_not_moved_aside(tmp_path, monkeypatch, name):
    """As over a network: nothing is known to be wrong with it. It was told as wrong, and another put in its place."""
    config = dataclasses.replace(CONFIG, members=2, steps=2)
    ncsim.run_ensemble(config, tmp_path, executor="xla", recording=ncsim.Recording(points=2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read = LocalStorage.read

    def refused(self, wanted):
        if wanted == name:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return read(self, wanted)

    monkeypatch.setattr(LocalStorage, "read", refused)
    for ask in (verify, functools.partial(repair, train=None)):
        with pytest.raises(StoreError, match=rf"/{name}: cannot be read \(Permission denied\)$"):
            ask(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    assert verify(tmp_path).right


def test_without_any_description_nothing_is_touched(tmp_path):
    folder = stored(tmp_path)
    for name in ("config.json", "config-copy.json"):
        (tmp_path / name).write_text("{}")
    before = content(folder)
    assert not verify(tmp_path).right
    with pytest.raises(StoreError, match=r"what the parts are of cannot be known; allowed: put a config\.json back"):
        repair(tmp_path, lambda configs: None)
    assert content(folder) == before


def test_runs_of_the_version_without_checksums_still_open_and_say_so(tmp_path):
    """As they were written: no checksum, no copy, format 1."""
    records = some_records(0, 20)
    stamp = {"format": 1, "fingerprint": fingerprint(CONFIG), "first": 0, "count": 20}
    (tmp_path / "parts").mkdir()
    table = to_table(records).replace_schema_metadata({b"ncsim": json.dumps(stamp)})
    path = tmp_path / "parts" / "members-0000000000-20.parquet"
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    cell = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    written = json.dumps({"format": 1, "swept": [], "cells": [cell], "environment": {"executor": {}}}, indent=2)
    (tmp_path / "config.json").write_text(written)
    assert np.array_equal(ncsim.open_run(tmp_path).records().counts, records.counts)
    found = verify(tmp_path)
    assert found.right
    assert found.lines()[0] == "1 part without a checksum, of an old version: as far as can be seen, whole"
    more = dataclasses.replace(CONFIG, members=25)
    folder = RunFolder.create(tmp_path, [more])
    folder.write_part(more, some_records(20, 5))
    assert verify(tmp_path).unsealed == 1
    assert ncsim.open_run(tmp_path).records().size == 25
    assert not (tmp_path / "config-copy.json").exists()


def test_a_new_part_whose_checksum_was_taken_out_is_torn(tmp_path):
    folder = stored(tmp_path)
    part = folder.parts(CONFIG)[0].name
    whole = folder.storage.read(part)
    assert is_whole(whole)
    without = whole.replace(b"sha256:", b"sha257:")
    with pytest.raises(StoreError, match="its checksum is gone"):
        from_bytes(MEMBERS, without, part, CONFIG)


def test_the_same_run_gives_the_same_bytes(tmp_path):
    one, other = stored(tmp_path / "one"), stored(tmp_path / "other")
    for part in one.parts(CONFIG):
        assert one.storage.read(part.name) == other.storage.read(part.name)
