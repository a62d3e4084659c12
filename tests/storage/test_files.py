"""Local folders and object stores keep the same promises."""

import errno
import os

import numpy as np
import obstore
import pytest
from obstore.exceptions import PreconditionError

import ncsim
from ncsim.cli.command import main
from ncsim.errors import StoreError
from ncsim.report.watch import watch
from ncsim.storage import attempts
from ncsim.storage import files as storage
from ncsim.storage.checksums import UNSEALED, is_whole, sealed, sealed_json
from ncsim.storage.files import (
    LocalStorage,
    discard_unfinished,
    is_temporary,
    open_storage,
    unfinished_files,
    write_atomically,
)
from ncsim.storage.object_storage import store_of
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.until_file import read_until, torn_until, write_until
from ncsim.storage.verify import repair, verify
from tests.storage.test_run_folder import CONFIG, same, some_records, stored


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "run")
        return
    yield f"memory://{tmp_path.name}/run"
    storage.memory_store.cache_clear()


def test_files_are_written_read_listed_moved_and_removed(place):
    files = open_storage(place)
    files.prepare()
    assert files.names("parts") == []
    files.write("parts/a/one", b"1" * 100)
    files.write("parts/b", b"2")
    files.write("parts/b", b"22")
    files.write("partsother", b"3")
    assert files.names("parts") == ["parts/a/one", "parts/b"]
    assert files.read("parts/b") == b"22"
    assert files.read_tail("parts/a/one", 7) == b"1" * 7
    assert files.read_tail("parts/b", 7) == b"22"
    assert files.exists("parts/b")
    assert not files.exists("parts/a")
    files.move("parts/b", "rejected/deep/b")
    assert files.names("parts") == ["parts/a/one"]
    assert files.read("rejected/deep/b") == b"22"
    files.remove("parts/a/one")
    files.remove("parts/a/one")
    assert files.names("parts") == []
    with pytest.raises(FileNotFoundError):
        files.read("parts/b")
    with pytest.raises(FileNotFoundError):
        files.read_tail("parts/b", 3)


@pytest.mark.parametrize("asked", ["names", "parts", "missing", "verify", "watch", "command"])
def test_a_folder_that_cannot_be_read_is_no_empty_one(asked, tmp_path, monkeypatch, capsys):
    """Else members that are there would be said to be missing, and be trained again."""
    folder = stored(tmp_path / "run")
    scan, parts = os.scandir, os.fspath(tmp_path / "run" / "parts")

    def scandir(path):
        if os.fspath(path) == parts:
            raise PermissionError(errno.EACCES, "Permission denied", parts)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "nice", lambda by: None)
    asking = {
        "names": lambda: folder.storage.names("parts"),
        "parts": lambda: folder.parts(CONFIG),
        "missing": lambda: ncsim.open_run(tmp_path / "run").missing(),
        "verify": lambda: verify(tmp_path / "run"),
        "watch": lambda: watch([str(tmp_path / "run")], lambda: None),
    }
    if asked == "command":
        with pytest.raises(SystemExit) as end:
            main(["report", str(tmp_path / "run")])
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "cannot be read (Permission denied)" in error
        return
    with pytest.raises(PermissionError if asked == "names" else StoreError, match="ermission denied"):
        asking[asked]()


def test_folders_of_others_in_a_run_folder_need_not_be_read(tmp_path, monkeypatch):
    """As lost+found, which is the administrator's, where a disk of its own is the run folder."""
    folder, scan = stored(tmp_path / "run"), os.scandir
    left = tmp_path / "run" / ".one-1.tmp"
    left.write_text("")
    (tmp_path / "run" / "lost+found").mkdir()

    def scandir(path):
        if os.fspath(path).endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = verify(tmp_path / "run")
    assert (found.members, found.findings, found.leftovers) == (20, [], 1)
    discard_unfinished(folder.storage)
    assert not left.exists()


def test_only_folders_of_a_run_are_looked_at_for_what_was_begun(tmp_path, monkeypatch):
    """Of a run in `runs` all other runs in it were listed, down to each file."""
    folder, scan, seen = stored(tmp_path / "runs"), os.scandir, []
    stored(tmp_path / "runs" / "another")
    (tmp_path / "runs" / "another" / ".one-1.tmp").write_text("")
    begun = [tmp_path / "runs" / ".one-1.tmp", tmp_path / "runs" / "parts" / ".two-2.tmp"]
    for path in begun:
        path.write_text("")

    def scandir(path):
        seen.append(os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert unfinished_files(folder.storage) == [".one-1.tmp", "parts/.two-2.tmp"]
    assert not any("another" in path for path in seen)


def test_a_storage_has_names_of_its_own(place):
    files = open_storage(place)
    files.prepare()
    assert files.own_names() == []
    for name in ("b.json", "a.json", "parts/c.parquet"):
        files.write(name, b"1")
    assert files.own_names() == ["a.json", "b.json"]


def test_what_was_begun_behind_a_link_is_found_and_removed(tmp_path):
    """Where parts/ is on another disk, files are begun there, since nothing is renamed across."""
    folder = stored(tmp_path / "run")
    (tmp_path / "run" / "parts").rename(tmp_path / "large disk")
    (tmp_path / "run" / "parts").symlink_to(tmp_path / "large disk")
    left = tmp_path / "large disk" / ".members-0000000000-20.parquet-0123456789abcdef.tmp"
    left.write_bytes(b"begun")
    assert verify(tmp_path / "run").leftovers == 1
    discard_unfinished(folder.storage)
    assert not left.exists()
    assert [path.suffix for path in (tmp_path / "large disk").iterdir()] == [".parquet"] * verify(
        tmp_path / "run"
    ).parts


def test_only_one_can_create(place):
    files = open_storage(place)
    assert files.create("claims/one", b"mine")
    assert not files.create("claims/one", b"yours")
    assert files.read("claims/one") == b"mine"
    assert files.names("claims") == ["claims/one"]


def test_only_what_was_read_is_exchanged(place):
    files = open_storage(place)
    files.write("a", b"1")
    assert files.exchange("a", b"1", b"2")
    assert not files.exchange("a", b"1", b"3")
    assert files.read("a") == b"2"
    with pytest.raises(FileNotFoundError):
        files.exchange("none", b"1", b"2")


def test_of_two_in_an_object_store_one_exchanges(monkeypatch):
    """Both had read the same, and the second wrote over the first."""
    files, other = (open_storage("memory://bucket/exchanged") for _ in range(2))
    files.write("a", b"1")
    put = files._obstore.put

    def slowly(*arguments, **options):
        monkeypatch.setattr(files._obstore, "put", put)
        assert other.exchange("a", b"1", b"theirs")
        return put(*arguments, **options)

    monkeypatch.setattr(files._obstore, "put", slowly)
    assert not files.exchange("a", b"1", b"ours")
    assert files.read("a") == b"theirs"


def test_a_run_is_the_same_wherever_it_is(place, tmp_path):
    folder = stored(place)
    here = stored(tmp_path / "here")
    assert [part.name for part in folder.parts(CONFIG)] == [part.name for part in here.parts(CONFIG)]
    for part in here.parts(CONFIG):
        assert folder.storage.read(part.name) == here.storage.read(part.name)
    run = ncsim.open_run(place)
    assert run.missing() == 0
    assert run.location == place
    assert same(run.records(), ncsim.open_run(tmp_path / "here").records())
    with pytest.raises(StoreError, match="holds another config's run"):
        RunFolder.create(place, [ncsim.EnsembleConfig(members=20, steps=6)])


def test_a_damaged_run_is_repaired_wherever_it_is(place):
    folder = stored(place)
    victim = folder.parts(CONFIG)[1].name
    before = {name: folder.storage.read(name) for name in folder.storage.names("parts")}
    folder.storage.write(victim, before[victim][:-1])
    folder.storage.write("config.json", b"{}")
    found = verify(place)
    assert [finding.name for finding in found.findings] == ["config.json", victim]
    assert [gap.members for gap in found.missing] == [range(8, 20)]
    said = []

    def train(configs):
        RunFolder.create(place, configs).write_part(CONFIG, some_records(8, 12, seed=8))

    assert repair(place, train, said.append).right
    assert {name: folder.storage.read(name) for name in folder.storage.names("parts")} == before
    assert [line.partition(":")[0] for line in said] == ["config.json", victim, "config.json", "parts"]
    assert folder.storage.names("rejected") == ["rejected/config.json", f"rejected/{victim}"]


@pytest.mark.parametrize("inside", [(), ("x",), ("sub/x", "sub/y/z")])
def test_a_folder_in_the_place_of_a_part_is_moved_out_of_the_way(tmp_path, inside):
    folder = stored(tmp_path / "run")
    victim = folder.parts(CONFIG)[1].name
    before = folder.storage.read(victim)
    folder.storage.remove(victim)
    (tmp_path / "run" / victim).mkdir()
    (tmp_path / "run" / victim / "empty" / "too").mkdir(parents=True)
    for name in inside:
        folder.storage.write(f"{victim}/{name}", b"a note")

    def train(configs):
        RunFolder.create(tmp_path / "run", configs).write_part(CONFIG, some_records(8, 12, seed=8))

    if inside:
        with pytest.raises(StoreError, match=r"cannot be written \(Directory not empty\)"):
            train([CONFIG])
    assert repair(tmp_path / "run", train, [].append).right
    assert folder.storage.read(victim) == before
    assert folder.storage.names("rejected") == [f"rejected/{victim}/{name}" for name in inside]


@pytest.mark.parametrize("name", ["config.json", "config-copy.json", "recording.json", "until.json"])
def test_a_folder_in_the_place_of_a_description_is_moved_out_of_the_way(tmp_path, name):
    """One with a file in it was "missing", and could not be put back: "Directory not empty"."""
    folder = stored(tmp_path / "run")
    before = folder.storage.read("config.json")
    folder.storage.remove(name)
    (tmp_path / "run" / name / "sub").mkdir(parents=True)
    (tmp_path / "run" / name / "sub" / "note").write_bytes(b"a note")
    assert [(each.name, each.problem) for each in verify(tmp_path / "run").findings] == [(name, "is a folder")]
    if name == "config.json":
        with pytest.raises(StoreError, match=r"config.json: cannot be read \(Is a directory\); .*--repair"):
            RunFolder.open(tmp_path / "run")
    assert repair(tmp_path / "run", pytest.fail, [].append).right
    assert folder.storage.read("config.json") == folder.storage.read("config-copy.json") == before
    assert folder.storage.names("rejected") == [f"rejected/{name}/sub/note"]


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path):
    files = open_storage(tmp_path / "run")
    files.prepare()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "summary.json").symlink_to(tmp_path / "elsewhere")
    files.write("summary.json", b"{}")
    assert files.read("summary.json") == b"{}"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_is_trained_into_an_object_store_and_resumed(place):
    config = ncsim.EnsembleConfig(hidden=2, members=70, steps=20)
    run = ncsim.run_ensemble(config, out=place, executor="xla")
    assert np.array_equal(run.counts, ncsim.run_ensemble(config, executor="xla").counts)
    more = ncsim.run_ensemble(ncsim.EnsembleConfig(hidden=2, members=80, steps=20), out=place)
    assert np.array_equal(more.counts[:70], ncsim.run_ensemble(config, executor="xla").counts)
    assert verify(place).right


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (
            "ftp://host/run",
            "ftp:// is no storage that ncsim knows; allowed: a local folder, s3://, gs://, az://, memory://",
        ),
        ("s3://", "names no folder; allowed: as s3://bucket"),
        ("memory:///", "names no folder"),
    ],
)
def test_other_addresses_are_refused(address, words):
    with pytest.raises(StoreError, match=words):
        open_storage(address)


def test_an_address_that_the_environment_says_too_little_of(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match=r"^az://bucket/run: cannot be opened \(.*Account must be specified\)$"):
        open_storage("az://bucket/run")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "somebody")
    for address in ("az://bucket/run", "gs://bucket/run", "s3://bucket/run"):
        assert open_storage(address).location == address


def test_an_endpoint_without_encryption_is_for_buckets_of_s3_alone(monkeypatch):
    """A server beside this one has no certificate; nothing else is spoken to in the clear."""
    given = {}
    monkeypatch.setattr("obstore.store.from_url", lambda bucket, **options: given.update({bucket: options}))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")  # nobody is asked for another
    for number, endpoint in enumerate(("http://127.0.0.1:9000", "https://127.0.0.1:9000", "")):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for kind in ("s3", "gs", "az"):
            store_of(f"{kind}://bucket{number}")
    assert {bucket: options.get("client_options") for bucket, options in given.items()} == {
        "s3://bucket0": {"allow_http": True},
        "s3://bucket1": {"allow_http": False},
        "s3://bucket2": {"allow_http": False},
        **{f"{kind}://bucket{number}": None for kind in ("gs", "az") for number in range(3)},
    }


def test_file_addresses_are_paths(tmp_path):
    files = open_storage(f"file://{tmp_path}/run")
    assert isinstance(files, LocalStorage)
    files.write("x", b"1")
    assert (tmp_path / "run" / "x").read_bytes() == b"1"


def test_an_object_that_is_not_read_back_as_put_is_an_error(monkeypatch):
    monkeypatch.setattr(attempts, "SECONDS_BETWEEN_ATTEMPTS", 0)
    files = open_storage("memory://bucket/run")
    puts, real = [], obstore.put

    def put(store, key, content, **options):
        puts.append(key)
        real(store, key, content[:-1] if len(puts) < wrong else content)

    monkeypatch.setattr(obstore, "put", put)
    wrong = 3
    files.write("part", b"content")
    assert len(puts) == 3
    wrong = 99
    with pytest.raises(OSError, match="not what is read back"):
        files.write("part", b"content")


@pytest.mark.parametrize(("there", "ours"), [(b"2", True), (b"3", False)])
def test_a_put_whose_answer_was_lost_is_known_by_what_is_there(monkeypatch, there, ours):
    """It is tried again below us, and then fails on the condition that it has itself changed; or another was first."""
    files = open_storage("memory://bucket/lost")
    files.write("config.json", b"1")
    real = obstore.put

    def put(store, key, content, mode=None, **options):
        real(store, key, there)
        raise PreconditionError("the condition does not hold")

    monkeypatch.setattr(obstore, "put", put)
    assert files.exchange("config.json", b"1", b"2") is ours
    assert files.read("config.json") == there


def test_what_failed_is_done_again_twice_and_a_full_disk_never(monkeypatch):
    """0.2 and 0.4 seconds later; then, or at an error that stays, the error is the action's own."""
    waited, made = [], []
    monkeypatch.setattr(attempts.time, "sleep", waited.append)

    def action(*errors):
        left = list(errors)

        def once():
            made.append(len(left))
            if left:
                raise OSError(left.pop(0), "failed")
            return "done"

        return once

    assert attempts.persistently(action()) == "done"
    assert (made, waited) == ([0], [])
    assert attempts.persistently(action(errno.EIO, errno.ESTALE)) == "done"
    assert waited == pytest.approx([0.2, 0.4])
    for errors, tries in (
        ((errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.EIO), 3),
        ((errno.ENOSPC,), 1),
        ((errno.EINTR, errno.EACCES), 2),
    ):
        made.clear()
        with pytest.raises(OSError, match="failed") as caught:
            attempts.persistently(action(*errors))
        assert caught.value.errno == errors[tries - 1]
        assert len(made) == tries


def test_no_link_where_a_file_system_has_none(monkeypatch, tmp_path):
    def link(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    files = LocalStorage(tmp_path)
    assert files.create("one", b"1")
    assert not files.create("one", b"2")
    assert files.read("one") == b"1"
    assert os.listdir(tmp_path) == ["one"]


def test_a_failure_that_passes_is_tried_again_and_others_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(attempts, "SECONDS_BETWEEN_ATTEMPTS", 0)
    failures = []
    real = os.fsync

    def fsync(handle):
        if failures:
            raise OSError(failures.pop(), "failed")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    failures[:] = [errno.EIO, errno.EIO]
    write_atomically(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    for several in ([errno.EIO] * 3, [errno.ENOSPC]):
        failures[:] = several
        with pytest.raises(OSError, match="failed"):
            write_atomically(tmp_path / "a", b"other")
        assert failures == []
        assert (tmp_path / "a").read_bytes() == b"whole"
        assert os.listdir(tmp_path) == ["a"]


def test_every_bit_of_a_sealed_file_counts():
    content = sealed(b"before " + UNSEALED.encode() + b" after")
    assert is_whole(content)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_whole(bytes(flipped))
    assert is_whole(b"nothing of the kind") is None
    for wrong in (b"", UNSEALED.encode() + b" and sha256:", UNSEALED.encode()[:-1]):
        with pytest.raises(ValueError, match="where it holds UNSEALED"):
            sealed(wrong)
    twice = sealed(2 * UNSEALED.encode())
    assert twice.startswith(UNSEALED.encode())
    assert is_whole(twice)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of an S3-compatible server on this machine."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: make test-storage")
    import boto3

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/runs"
    running.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_s3_server(bucket, tmp_path):
    """Everything that the memory file system is tried for, on keys that are reached over HTTP."""
    test_files_are_written_read_listed_moved_and_removed(f"{bucket}/files")
    test_only_one_can_create(f"{bucket}/create")
    test_only_what_was_read_is_exchanged(f"{bucket}/exchanged")
    test_a_run_is_the_same_wherever_it_is(f"{bucket}/same", tmp_path)
    test_a_damaged_run_is_repaired_wherever_it_is(f"{bucket}/damaged")
    test_a_run_is_trained_into_an_object_store_and_resumed(f"{bucket}/trained")
    with pytest.raises(
        StoreError, match=r"s3://nobody/run: cannot be written to \(The specified bucket does not exist\)"
    ):
        RunFolder.create("s3://nobody/run", [CONFIG])


@pytest.mark.parametrize(
    "name", ["parts/hidden=2/members-0.parquet", "trajectories/members-0.parquet", "claims/a.json"]
)
@pytest.mark.parametrize("call", ["write", "create"])
def test_what_is_being_written_lies_in_no_folder_of_parts(tmp_path, monkeypatch, name, call):
    """Readers of whole folders, such as polars, take any file in them for a part."""
    seen = []
    replace, link = os.replace, os.link
    files = LocalStorage(tmp_path)

    def look(action):
        def looked(source, target):
            seen.append(sorted(path.name for path in (tmp_path / name).parent.iterdir()))
            assert [is_temporary(each) for each in files.names("")] == [True]
            return action(source, target)

        return looked

    monkeypatch.setattr(os, "replace", look(replace))
    monkeypatch.setattr(os, "link", look(link))
    getattr(files, call)(name, b"whole")
    assert seen == [[]]
    assert files.names("") == [name]
    (tmp_path / name).with_name(".old-1.tmp").write_bytes(b"left by a version that wrote beside")
    discard_unfinished(files)
    assert files.names("") == [name]


def test_what_was_to_be_reached_is_read_in_its_own_format_alone(tmp_path):
    """Of another version's file the rule begins anew, as of one that is torn."""
    files = LocalStorage(tmp_path)
    assert (read_until(files), torn_until(files)) == (None, [])
    said = {"until": "mean S +- 0.01", "looks": [1, 2]}
    write_until(files, said)
    assert (read_until(files), torn_until(files)) == (said, [])
    files.write("until.json", sealed_json({"format": 2} | said))
    assert (read_until(files), torn_until(files)) == (None, ["until.json"])
