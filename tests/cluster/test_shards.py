"""Static shares: together they are everything, whenever each begins; folders of the scheme before; more members."""

import dataclasses
import itertools
import json
import os
import threading

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.cluster import distributed
from ncsim.cluster.shards import Shard
from ncsim.ensemble.kinds import say_differences
from ncsim.ensemble.work import missing_parts
from ncsim.errors import StoreError
from ncsim.storage import parts
from ncsim.storage.config_change import copy_description
from ncsim.storage.files import LocalStorage, open_storage
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.verify import verify
from tests.storage.test_run_folder import CONFIG, some_records
from tests.support.cases import first_fast
from tests.support.folders import parts_of

SMALL = ncsim.EnsembleConfig(hidden=2, members=64 * 5, first_member=30, steps=10)


@pytest.fixture(autouse=True)
def _parts_of_64(monkeypatch):
    monkeypatch.setattr(parts, "PART_MEMBERS", (64, 64))


@pytest.mark.parametrize(
    "word", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2", "1/9999999", "²/3", " 1/2"]
)
def test_shards_that_are_none(word):
    with pytest.raises(ncsim.ConfigError, match=r"--shard: .*; allowed: I/N with I from 1 to N, as 3/16"):
        Shard.parse(word)


def test_a_share_says_what_is_missing_and_who_trains_it(tmp_path, capsys):
    """A share that died, or one that another version has shared out otherwise, leaves parts to nobody."""
    options = [
        "ensemble",
        "--hidden",
        "2",
        "--members",
        "320",
        "--steps",
        "10",
        "--devices",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    for number, left in ((1, 256), (4, 128)):  # parts of 64: one of five, and then two
        main([*options, "--shard", f"{number}/4"])
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(f"{left} members are still to be trained. ")
        assert last.endswith("the same command without --shard trains.")
    main(options)
    assert "still to be trained" not in capsys.readouterr().out


def test_a_share_of_what_a_launcher_started_has_no_option_to_leave_out(tmp_path, capsys, monkeypatch):
    """There the same command without --shard is the same command, which would be a share again."""
    monkeypatch.setattr(distributed, "launched_by", lambda: "SLURM")
    monkeypatch.setattr(distributed, "join", lambda: Shard(1, 4))
    main(f"ensemble --hidden 2 --members 320 --steps 10 --devices 1 --out {tmp_path / 'run'}".split())
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "256 members are still to be trained. What shares have left at their end, the same command as a single process trains."
    )


@pytest.mark.parametrize(("things", "of"), [(0, 3), (1, 16), (11, 3), (12, 12), (7, 10)])
def test_shares_are_everything_once_and_of_equal_length(things, of):
    shares = [Shard(number, of).of_many(things) for number in range(1, of + 1)]
    assert [each for share in shares for each in share] == list(range(things))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_does_not_depend_on_what_is_there_already(tmp_path):
    """Shares are of the run: a shard that begins when others have ended has the parts that it had before."""
    configs = ncsim.config_grid(hidden=[2, 3], members=300, first_member=40, steps=5)
    folder = RunFolder.create(tmp_path, configs)
    whole = missing_parts(folder, None, None)
    assert [ids.start for _, ids in whole] == [40, 64, 128, 192, 256, 320] * 2
    before = [missing_parts(folder, None, Shard(number, 5)) for number in range(1, 6)]
    assert [part for share in before for part in share] == whole
    for cell, ids in before[0] + before[3][:1]:
        folder.write_part(configs[cell], some_records(ids.start, len(ids)))
    after = [missing_parts(folder, None, Shard(number, 5)) for number in range(1, 6)]
    assert after == [[], before[1], before[2], before[3][1:], before[4]]


@pytest.mark.parametrize("recording", first_fast([None, ncsim.Recording(points=4)]))
def test_three_shards_store_what_one_process_does(tmp_path, recording):
    whole = ncsim.run_ensemble(SMALL, out=tmp_path / "alone", executor="xla", recording=recording)
    missing = []
    for number in (3, 1, 2):
        run = ncsim.run_ensemble(
            SMALL, out=tmp_path / "run", executor="xla", shard=(number, 3), recording=recording if number == 3 else None
        )
        missing.append(run.missing())
    assert missing == [320 - 64 - 30, 64 + 64, 0]  # six parts: of 34, four times 64, and 30
    for path in parts_of(tmp_path / "alone"):
        assert (tmp_path / "run" / path.relative_to(tmp_path / "alone")).read_bytes() == path.read_bytes()
    assert np.array_equal(run.counts, whole.counts)
    assert verify(tmp_path / "run").right


def test_a_folder_with_claims_of_the_version_before_is_read_and_cleaned_up(tmp_path):
    """Files by which workers shared out parts: of a part that is there, of one that is missing, and one half written."""
    ncsim.run_ensemble(SMALL, out=tmp_path, executor="xla", shard=(1, 2))
    claim = {"owner": "c0ffee", "machine": "elsewhere", "process": 7, "began": "12", "beats": 3}
    claims = tmp_path / "claims" / "hidden=2"
    claims.mkdir(parents=True)
    for name in ("members-0000000030-34.parquet.json", "members-0000000256-64.parquet.json"):
        (claims / name).write_text(json.dumps(claim))
    (claims / "members-0000000320-64.parquet.json").write_bytes(b"\xff{")
    assert ncsim.open_run(tmp_path).missing() > 0
    assert not verify(tmp_path).findings
    run = ncsim.run_ensemble(dataclasses.replace(SMALL, members=400), out=tmp_path)
    assert run.missing() == 0
    assert not (tmp_path / "claims").exists()
    assert verify(tmp_path).right


def test_more_members_are_asked_for_beside_no_other_writer(tmp_path, monkeypatch):
    """The last part of fewer members would overlap with that of more."""
    monkeypatch.setattr("ncsim.storage.run_folder.SECONDS_BETWEEN_ATTEMPTS", 0.01)
    folder = RunFolder.create(tmp_path, [CONFIG])
    more = dataclasses.replace(CONFIG, members=30)
    with folder.shared():
        with pytest.raises(StoreError, match="another process is writing to it"):
            RunFolder.create(tmp_path, [more])
        RunFolder.create(tmp_path, [CONFIG])
    RunFolder.create(tmp_path, [more])
    # A shard that comes when another has asked for them finds it done, though that one is writing by now.
    held = RunFolder.within(folder.storage)
    with folder.shared():
        RunFolder(folder.storage, [more])._extend([])
        RunFolder.create(tmp_path, [more])
    assert held.configs == (more,)


def test_shards_that_were_given_the_grid_in_another_order_train_everything(tmp_path):
    """Each had the share of its own order, so that parts of a cell were two shards' and those of another nobody's."""
    configs = ncsim.config_grid(hidden=[4, 2, 3], members=150, steps=5)
    folder = RunFolder.create(tmp_path, configs)
    for number, order in ((1, (0, 1, 2)), (2, (2, 0, 1)), (3, (1, 0, 2)), (4, (0, 1, 2))):
        given = [configs[place] for place in order]
        shard = RunFolder.create(tmp_path, given)
        for cell, ids in missing_parts(shard, None, Shard(number, 4)):
            folder.write_part(given[cell], some_records(ids.start, len(ids)))
    assert missing_parts(RunFolder.within(folder.storage), None, None) == []


def test_a_shard_with_the_grid_in_another_order_begins_beside_others(tmp_path):
    """The run on record has an order already: to write another one needed the folder alone."""
    configs = ncsim.config_grid(hidden=[2, 3], members=20, steps=5)
    folder = RunFolder.create(tmp_path, configs)
    with folder.shared():
        RunFolder.create(tmp_path, configs[::-1])
    assert RunFolder.within(folder.storage).configs == tuple(configs)


def test_one_process_and_shards_are_not_on_one_folder_together(tmp_path):
    folder = RunFolder.create(tmp_path, [SMALL])
    with folder.shared(), folder.shared(), pytest.raises(StoreError, match="another process is writing"):
        ncsim.run_ensemble(SMALL, out=tmp_path, executor="xla")
    with folder.exclusive(), pytest.raises(StoreError, match="another process is writing"):
        ncsim.run_ensemble(SMALL, out=tmp_path, executor="xla", shard=(1, 2))


def test_a_machine_of_another_kind_is_said(tmp_path, capsys):
    folder = RunFolder.create(tmp_path, [SMALL], training=lambda: {"device": "8 x tpu (TPU v5e)", "executor": {}})
    here = json.loads((tmp_path / "config.json").read_text())["environment"]
    say_differences(folder, here | {"device": "2 x cpu (cpu)"})
    assert "(cpu (cpu) here, tpu (TPU v5e) there): single members may differ" in capsys.readouterr().err
    say_differences(folder, here | {"device": "4 x tpu (TPU v5e)"})
    assert capsys.readouterr().err == ""


def test_shards_that_begin_a_run_at_the_same_moment(tmp_path, monkeypatch):
    """Sixteen of them, with one process number, as first processes of containers have."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    for turn in range(10):
        at_once, failed = threading.Barrier(16), []

        def begin(place=tmp_path / f"run{turn}", at_once=at_once, failed=failed):
            at_once.wait(timeout=60)
            try:
                RunFolder.create(place, [SMALL])
            except StoreError as error:
                failed.append(error)

        threads = [threading.Thread(target=begin) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        left = sorted(path.name for path in (tmp_path / f"run{turn}").iterdir())
        assert left == ["config-copy.json", "config.json"]


def at_the_same_moment(actions):
    at_once, failed = threading.Barrier(len(actions)), []

    def begin(action):
        at_once.wait(timeout=60)
        try:
            action()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=begin, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("where", ["memory://shards", ""])
def test_shards_of_other_kinds_that_go_on_at_the_same_moment_are_all_on_record(tmp_path, where):
    """Each read the description, added itself and wrote it: records were lost, and the copy was of another than the description."""
    for turn in range(5):
        place = f"{where}{tmp_path}/run{turn}"
        here = {"versions": {"ncsim": "1"}, "platform": "Linux x86_64", "device": "8 x tpu (TPU v5e)"}
        RunFolder.create(place, [SMALL], training=lambda here=here: here | {"executor": {}})
        kinds = [here | {"device": f"2 x cpu (of kind {number % 4})"} for number in range(8)]
        at_the_same_moment(
            [lambda kind=kind, place=place: RunFolder.open(place).note_environment(kind) for kind in kinds]
        )
        content = open_storage(place).read("config.json")
        assert open_storage(place).read("config-copy.json") == content
        later = [each["environment"] for each in json.loads(content)["later"]]
        assert all(kind in later for kind in kinds)
        assert all(one != other for one, other in itertools.pairwise(later))
        assert not verify(place).findings
    # Those of one kind are one record.
    at_the_same_moment([lambda: RunFolder.open(place).note_environment(kinds[0] | {"device": "gpu x gpu (new)"})] * 8)
    assert len(json.loads(open_storage(place).read("config.json"))["later"]) == len(later) + 1


def test_a_copy_is_not_put_back_to_what_it_was_by_a_shard_that_begins(tmp_path, monkeypatch):
    """It has read the description before another shard changed both."""
    folder = RunFolder.create(tmp_path, [SMALL])
    before = folder.storage.read("config.json")
    folder.note_environment(json.loads(before)["environment"] | {"platform": "Plan9 mips"})
    after = folder.storage.read("config.json")
    assert after != before
    read = LocalStorage.read
    stale = [before]
    monkeypatch.setattr(LocalStorage, "read", lambda self, name: stale.pop() if stale else read(self, name))
    copy_description(folder.storage)
    assert not stale
    assert folder.storage.read("config-copy.json") == after


@pytest.mark.parametrize("place", ["memory://shards{}", "{}"])
def test_who_extends_a_run_leaves_what_another_has_put_on_record(tmp_path, monkeypatch, place):
    """It wrote what it had read before, with more members: the other's record was lost, and in an object store either's."""
    place = place.format(tmp_path / "run")
    folder = RunFolder.create(place, [SMALL])
    here = json.loads(folder.storage.read("config.json"))["environment"] | {"platform": "Plan9 mips"}
    exchange, beside = type(folder.storage).exchange, [lambda: RunFolder.open(place).note_environment(here)]

    def later(self, *arguments):
        if beside:
            beside.pop()()
        return exchange(self, *arguments)

    monkeypatch.setattr(type(folder.storage), "exchange", later)
    monkeypatch.setattr("ncsim.storage.run_folder.SECONDS_BETWEEN_ATTEMPTS", 0.01)
    more = dataclasses.replace(SMALL, members=SMALL.members + 64)
    RunFolder.create(place, [more])
    stored = json.loads(folder.storage.read("config.json"))
    assert [each["environment"]["platform"] for each in stored["later"]] == ["Plan9 mips"]
    assert stored["cells"][0]["members"] == more.members
    assert folder.storage.read("config-copy.json") == folder.storage.read("config.json")
