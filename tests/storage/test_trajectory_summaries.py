"""What parts of trajectories add up to lies beside them: it is believed where it is theirs, and made again where it is not."""

import shutil

import numpy as np
import pytest

import ncsim
from ncsim.errors import StoreError
from ncsim.records.trajectories import concatenated
from ncsim.statistics import trajectory_tally
from ncsim.statistics.training_curves import trajectory_statistics
from ncsim.storage import parts, summaries, trajectory_folder
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder
from ncsim.storage.verify import verify
from tests.statistics.test_trajectory_tally import STEPS, made_up
from tests.storage.test_run_folder import some_records
from tests.whole.stored_runs import FOLDER

CONFIG = ncsim.EnsembleConfig(members=150, steps=60)
WINDOWS = [(0, 60), (3, 25)]


def stored(path, trajectories, cuts=(70,)):
    """A run folder with parts of trajectories that end at these members, and made-up members that are not theirs."""
    run = RunFolder.create(path, [CONFIG])
    folder = TrajectoryFolder(run)
    run.write_part(CONFIG, some_records(0, 150))
    folder.check(ncsim.Recording(points=5), tuple(trajectories.values))
    for start, stop in zip([0, *cuts], [*cuts, len(trajectories.member)], strict=True):
        folder.write_recorded(CONFIG, trajectories.take(slice(start, stop)), ncsim.Recording(points=5))
    return ncsim.open_run(path)


def assert_same(found, expected):
    """All numbers, but for the order in which floats were added up."""
    for name, each in expected._asdict().items():
        ours = getattr(found, name)
        if name == "observed":
            for which in each:
                assert_same(ours[which], each[which])
        elif hasattr(each, "_asdict"):
            assert_same(ours, each)
        elif each is not None:
            np.testing.assert_allclose(np.array(ours, float), np.array(each, float), rtol=1e-12, atol=1e-12)


@pytest.fixture
def expected():
    return trajectory_statistics([made_up(150)], 16, WINDOWS)


@pytest.fixture
def unread(monkeypatch):
    """Gives a function after which no part may be read."""

    def refused(*_):
        raise AssertionError("a member was read")

    return lambda: monkeypatch.setattr(TrajectoryFolder, "read_part", refused)


def kept(path):
    return sorted((path / "summaries" / "trajectories").rglob("*.parquet"))


def test_no_member_is_read_again(tmp_path, expected, unread, monkeypatch):
    run = stored(tmp_path, made_up(150))
    # Of a folder of an earlier version they are made at the first ask, and those of a cell of many members as well.
    assert kept(tmp_path) == []
    monkeypatch.setattr(summaries, "MANY", 150)
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
    assert [path.name for path in kept(tmp_path)] == ["cell.parquet", "members-0000000000-150.parquet"]
    assert verify(tmp_path).findings == []
    unread()
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
    kept(tmp_path)[1].unlink()
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)


@pytest.mark.usefixtures("quickly")
def test_a_run_stores_what_each_part_of_members_adds_up_to(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))
    monkeypatch.setattr(parts, "PART_ROWS", 16 * 3)  # of trajectories of sixteen members
    config = ncsim.EnsembleConfig(hidden=2, members=150, steps=5)
    run = ncsim.run_ensemble(config, out=tmp_path, executor="xla", recording=ncsim.Recording(points=3))
    assert len(list((tmp_path / "trajectories").iterdir())) == 10
    names = [f"members-{first:010d}-{members}.parquet" for first, members in ((0, 64), (64, 64), (128, 22))]
    assert [path.name for path in kept(tmp_path)] == names
    held = {path: path.read_bytes() for path in kept(tmp_path)}
    expected = trajectory_statistics(list(run.trajectories()), 16)
    with monkeypatch.context() as patch:
        patch.setattr(TrajectoryFolder, "read_part", None)
        assert_same(run.trajectory_statistics(), expected)
    # Made again they have the same bytes.
    shutil.rmtree(tmp_path / "summaries")
    assert_same(run.trajectory_statistics(), expected)
    assert {path: path.read_bytes() for path in kept(tmp_path)} == held


def test_trajectories_of_members_that_were_stored_before_count_once(tmp_path, expected):
    """Such members may lie in other parts than what was recorded later."""
    run = RunFolder.create(tmp_path, [CONFIG])
    folder = TrajectoryFolder(run)
    for start, stop in ((0, 33), (33, 100), (100, 150)):
        run.write_part(CONFIG, some_records(start, stop - start))
    for start, stop in ((0, 70), (70, 90), (90, 150)):
        folder.write_recorded(CONFIG, made_up(150).take(slice(start, stop)), ncsim.Recording(points=5))
    opened = ncsim.open_run(tmp_path)
    for _ in range(2):
        assert_same(opened.trajectory_statistics(windows=WINDOWS), expected)
        names = ["members-0000000000-33.parquet", "members-0000000033-67.parquet"]
        assert [path.name for path in kept(tmp_path)] == names
    assert [part.member[0] for part in folder.read(CONFIG)] == [0, 70, 90]


def test_a_part_that_is_stored_between_two_looks_lacks_no_recording(tmp_path, monkeypatch):
    """Of a run that trains: its trajectories are stored before it is."""
    run = RunFolder.create(tmp_path, [CONFIG])
    folder, left = TrajectoryFolder(run), [range(70), range(70, 150)]

    def store():
        if left:
            ids = left.pop(0)
            folder.write_recorded(CONFIG, made_up(150).take(slice(ids.start, ids.stop)), ncsim.Recording(points=5))
            run.write_part(CONFIG, some_records(ids.start, len(ids)))

    def looked(self, config, ids=None, stamped=PartFolder.stamped):
        found = stamped(self, config, ids)
        store()
        return found

    store()
    monkeypatch.setattr(PartFolder, "stamped", looked)
    groups, without = folder.counted(CONFIG)
    assert ([group.members for group in groups], without) == ([70], 0)
    assert not left
    groups, without = folder.counted(CONFIG)
    assert ([group.members for group in groups], without) == ([70, 80], 0)


def test_a_first_part_that_is_stored_between_two_looks_is_not_still_to_be_recorded(tmp_path, monkeypatch):
    """Nothing is there at the first look. A report of a run that has just begun said that all its members lacked their recording."""
    run = RunFolder.create(tmp_path, [CONFIG])
    folder, counted, left = TrajectoryFolder(run), TrajectoryFolder.counted, [range(70)]
    folder.check(ncsim.Recording(points=5), tuple(made_up(1).values))

    def looked(self, config):
        found = counted(self, config)
        if left:
            folder.write_recorded(CONFIG, made_up(150).take(slice(0, len(left.pop()))), ncsim.Recording(points=5))
            run.write_part(CONFIG, some_records(0, 70))
        return found

    monkeypatch.setattr(TrajectoryFolder, "counted", looked)
    assert folder.without([CONFIG]) == 0
    run.write_part(CONFIG, some_records(70, 80))
    assert folder.without([CONFIG]) == 80


def test_in_memory_it_is_the_same(expected):
    run = ncsim.results.Run([CONFIG], [], [[made_up(150).take(slice(0, 20)), made_up(150).take(slice(20, 150))]])
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)


def test_without_a_recording_there_is_nothing_to_say(tmp_path):
    RunFolder.create(tmp_path, [CONFIG])
    for run in (ncsim.open_run(tmp_path), ncsim.results.Run([CONFIG], [])):
        with pytest.raises(ValueError, match=r"^no trajectories"):
            run.trajectory_statistics()
    with pytest.raises(ValueError, match=r"^windows: \(4, 5\); allowed: from one recorded step to a later one$"):
        stored(tmp_path, made_up(150)).trajectory_statistics(windows=[(4, 5)])


def test_what_is_torn_or_of_another_part_is_made_again(tmp_path, expected):
    run = stored(tmp_path, made_up(150))
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
    (first,) = kept(tmp_path)
    content = first.read_bytes()
    for place in (50, len(content) // 2, len(content) - 20):
        flipped = bytearray(content)
        flipped[place] ^= 8
        first.write_bytes(flipped)
        (finding,) = verify(tmp_path).findings
        assert finding.name == f"summaries/trajectories/{first.name}"
        assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
        assert first.read_bytes() == content
    # Whole, and of other members in a part of the same name.
    other = made_up(150, seed=1)
    stored(tmp_path / "other", other)
    for path in (tmp_path / "other" / "trajectories").iterdir():
        shutil.copy(path, tmp_path / "trajectories" / path.name)
    found = run.trajectory_statistics(windows=WINDOWS)
    assert_same(found, trajectory_statistics([other], 16, WINDOWS))
    assert first.read_bytes() != content


def test_a_window_that_sums_do_not_hold_is_read_from_members(tmp_path, monkeypatch):
    monkeypatch.setattr(trajectory_tally, "MOST_PAIRED", 2)
    run = stored(tmp_path, made_up(150))
    expected = trajectory_statistics([made_up(150)], 16, WINDOWS)
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
    assert_same(run.trajectory_statistics(), expected._replace(slopes=()))


def test_of_very_many_steps_no_sums_are_kept(tmp_path, monkeypatch, expected):
    monkeypatch.setattr(trajectory_folder, "MOST_SUMMED", len(STEPS) - 1)
    run = stored(tmp_path, made_up(150))
    assert_same(run.trajectory_statistics(windows=WINDOWS), expected)
    assert kept(tmp_path) == []
    with pytest.raises(ValueError, match=r"^windows: \(4, 5\); allowed: from one recorded step to a later one$"):
        run.trajectory_statistics(windows=[(4, 5)])


def test_parts_of_other_steps_are_refused_in_a_line(tmp_path):
    whole = made_up(150)
    run = RunFolder.create(tmp_path, [CONFIG])
    run.write_part(CONFIG, some_records(0, 150))
    folder = TrajectoryFolder(run)
    later = whole._replace(step=STEPS + np.arange(5, dtype=np.int32))
    for part, members in ((whole, slice(0, 70)), (later, slice(70, 150))):
        folder.write_recorded(CONFIG, part.take(members), ncsim.Recording(points=5))
    with pytest.raises(StoreError, match=r"trajectories: members were recorded otherwise$"):
        ncsim.open_run(tmp_path).trajectory_statistics()


def test_of_a_folder_of_an_earlier_version(tmp_path):
    shutil.copytree(FOLDER / "recorded", tmp_path / "run")
    run = ncsim.open_run(tmp_path / "run")
    expected = trajectory_statistics([concatenated(list(run.trajectories()))], 16, [(0, 40)])
    assert_same(run.trajectory_statistics(windows=[(0, 40)]), expected)
    assert len(kept(tmp_path / "run")) == len(list((tmp_path / "run" / "parts").rglob("*.parquet")))
