"""Parts of members and of trajectories have one base: the same is written, read, missed and refused of both."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ncsim
from ncsim.config.ensemble import fingerprint
from ncsim.errors import StoreError
from ncsim.records.trajectories import MemberTrajectories
from ncsim.storage.parts import MEMBERS, TRAJECTORIES, Part, cut, from_bytes, gaps, stamp_of, to_bytes
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from tests.storage.test_run_folder import some_records

CONFIG = ncsim.EnsembleConfig(members=20, steps=5)
RECORDING = ncsim.Recording(points=2)


def some_trajectories(first, count):
    """Made-up trajectories of members with consecutive ids, at two steps."""
    generator = np.random.default_rng(first)
    counts = generator.multinomial(16, [0.25] * 4, size=(count, 2, 4)).astype(np.uint16)
    values = {name: generator.random((count, 2, 4)).astype(np.float32) for name in ("loss_alice", "margin")}
    return MemberTrajectories(
        np.arange(first, first + count, dtype=np.uint64), np.asarray([0, 5], np.int32), counts, values
    )


@pytest.fixture(params=["members", "trajectories"])
def folder(request, tmp_path):
    """Members 0 to 7 and 12 to 19 of a run, in the folder of one kind of parts."""
    run = RunFolder.create(tmp_path, [CONFIG])
    for first in (12, 0):
        run.write_part(CONFIG, some_records(first, 8, seed=first))
    if request.param == "members":
        return run
    trajectories = TrajectoryFolder(run)
    for first in (12, 0):
        trajectories.write_recorded(CONFIG, some_trajectories(first, 8), RECORDING)
    return trajectories


def test_parts_are_listed_in_order_and_gaps_between_them_are_missing(folder):
    parts = folder.parts(CONFIG)
    assert [(part.first, part.members, part.ids) for part in parts] == [(0, 8, range(8)), (12, 8, range(12, 20))]
    assert [part.name for part in parts] == folder.part_names(CONFIG)
    assert folder.missing(CONFIG) == [range(8, 12)]
    assert np.array_equal(np.concatenate([kept.member for kept in folder.read(CONFIG)]), [*range(8), *range(12, 20)])


@pytest.mark.parametrize("ids", [range(0, 8), range(2, 5), range(5, 14), range(8, 12), range(19, 40)])
def test_members_are_found_across_parts(folder, ids):
    """Each part that holds some of them gives those, and is read once."""
    whole = {int(member): kept.counts[row] for kept in folder.read(CONFIG) for row, member in enumerate(kept.member)}
    found = folder.of_members(CONFIG, folder.parts(CONFIG), ids)
    assert [int(member) for kept in found for member in kept.member] == [member for member in ids if member in whole]
    for kept in found:
        for row, member in enumerate(kept.member):
            assert np.array_equal(kept.counts[row], whole[int(member)])


def test_the_part_that_was_read_last_is_not_read_again(folder, monkeypatch):
    read, real = [], folder.storage.read
    monkeypatch.setattr(folder.storage, "read", lambda name: read.append(name) or real(name))
    parts = folder.parts(CONFIG)
    for ids in (range(0, 2), range(2, 4), range(13, 15), range(15, 20)):
        folder.of_members(CONFIG, parts, ids)
    assert read == [part.name for part in parts]


def test_the_same_gives_the_same_bytes(folder):
    for part in folder.parts(CONFIG):
        before, kept = folder.storage.read(part.name), folder.read_part(CONFIG, part.name)
        stamp = json.loads(pq.read_metadata(pa.BufferReader(before)).metadata[folder.kind.key])
        more = {field: stamp[field] for field in folder.kind.stamped}
        assert to_bytes(folder.kind.layout(), folder.kind.key, kept, CONFIG, (), **more) == before


#: What the footer of a part must not say, and what is said of it. A stamp that lacks fields is torn where no other file has
#: a stamp of the same name, as that of trajectories; parts of text runs have one of the name that parts of members have.
LACKING = "is not a part of an ncsim run", "is torn ("
FOREIGN = "is not a part of an ncsim run", "is not a part of ncsim trajectories"
WRONG = {
    "no JSON": (b"{", LACKING),
    "no dictionary": (b"[]", FOREIGN),
    "a text run's": ({"format": 1, "run": "a", "group": 0}, LACKING),
    "a format to come": ({"format": 9}, FOREIGN),
    "a first member that is no number": ({"first": "0"}, LACKING),
    "a count that is no whole number": ({"count": 8.0}, LACKING),
    "another config": ({"fingerprint": "0" * 16}, "is of another config"),
    "other members": ({"first": 1}, "does not hold what its name says"),
    "more members": ({"count": 9}, "does not hold what its name says"),
}
#: The same of trajectories alone.
WRONG_RECORDING = {
    "no recording": ({"recording": None}, "is torn ("),
    "a recording that cannot be": ({"recording": {"points": 1}}, "is torn (--record-points: 1; allowed"),
    "steps that are no numbers": ({"steps": ["a"]}, "is torn ("),
    "steps that are too large": ({"steps": [2**40]}, "is torn ("),
    "other steps": ({"steps": [0, 4]}, "is torn (its steps are not those of its footer)"),
}
CASES = [(MEMBERS, WRONG[case]) for case in WRONG] + [
    (TRAJECTORIES, wrong) for wrong in (WRONG | WRONG_RECORDING).values()
]


@pytest.mark.parametrize(("kind", "wrong"), CASES, ids=[*WRONG, *(WRONG | WRONG_RECORDING)])
def test_a_stamp_that_is_wrong_is_refused_in_one_line(kind, wrong):
    change, problem = wrong
    kept = some_records(0, 8) if kind is MEMBERS else some_trajectories(0, 8)
    stamp = {"format": 1, "fingerprint": fingerprint(CONFIG), "first": 0, "count": 8}
    if kind is TRAJECTORIES:
        stamp |= {"recording": RECORDING.to_dict(), "steps": [0, 5], "observed": ["loss_alice", "margin"]}
    table, name = kind.layout(1).to_table(kept, CONFIG, ()), f"{kind.folder}/members-0000000000-8.parquet"

    def part(stamp):
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({kind.key: stamp}), sink)
        return sink.getvalue().to_pybytes()

    whole, sealed = from_bytes(kind, part(json.dumps(stamp)), name, CONFIG)
    assert np.array_equal(whole.counts, kept.counts)
    assert not sealed
    if isinstance(change, dict):
        change = json.dumps(change if "run" in change else stamp | change)
    with pytest.raises(StoreError) as caught:
        from_bytes(kind, part(change), name, CONFIG)
    assert caught.value.problem.startswith(problem if isinstance(problem, str) else problem[kind is TRAJECTORIES])
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="is of another config"):
        stamp_of(kind, part(json.dumps(stamp)), name, ncsim.EnsembleConfig(hidden=2))


def test_parts_that_overlap_are_refused(folder):
    part = folder.parts(CONFIG)[0]
    kept = folder.read_part(CONFIG, part.name).take(slice(4, 8))
    more = (RECORDING,) if isinstance(folder, TrajectoryFolder) else ()
    (folder.write_recorded if more else folder.write_part)(CONFIG, kept, *more)
    with pytest.raises(
        StoreError, match=r"members-0000000004-4.parquet: overlaps members-0000000000-8.parquet; `ncsim"
    ):
        folder.parts(CONFIG)


def test_ids_are_cut_at_multiples_wherever_they_begin():
    assert list(cut(range(5, 21), 8)) == [range(5, 8), range(8, 16), range(16, 21)]
    assert list(cut(range(8, 16), 8)) == [range(8, 16)]
    assert list(cut(range(3, 3), 8)) == []


def test_gaps_are_within_the_config():
    config = ncsim.EnsembleConfig(first_member=10, members=10)
    assert gaps(config, []) == [range(10, 20)]
    assert gaps(config, [Part("a", 0, 12), Part("b", 14, 2), Part("c", 18, 10)]) == [range(12, 14), range(16, 18)]
    assert gaps(config, [Part("a", 30, 5)]) == [range(10, 20)]


def test_trajectories_of_another_recording_are_refused(tmp_path):
    """With recording.json the part is named; without it nobody knows which of them is right."""
    trajectories, observed = TrajectoryFolder(RunFolder.create(tmp_path, [CONFIG])), ("loss_alice", "margin")
    trajectories.write_recorded(CONFIG, some_trajectories(0, 8), RECORDING)
    trajectories.check(RECORDING, observed)
    trajectories.check(RECORDING, observed)  # its own again
    with pytest.raises(StoreError, match=r"trajectories: records loss_alice, margin, not margin$"):
        trajectories.check(RECORDING, ("margin",))
    trajectories.write_recorded(CONFIG, some_trajectories(12, 8), ncsim.Recording(points=3))
    with pytest.raises(StoreError, match=r"members-0000000012-8.parquet: is of another recording; "):
        trajectories.check(RECORDING, observed)
    (tmp_path / "recording.json").unlink()
    with pytest.raises(StoreError, match=r"trajectories: its parts are of several recordings: \{.*\} and \{.*\}$"):
        trajectories.check(RECORDING, observed)
    assert not (tmp_path / "recording.json").exists()
