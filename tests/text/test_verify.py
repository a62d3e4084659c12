"""`ncsim report --verify`, `--repair` and `--audit` of text runs: every flipped bit is named, and put right to the same bytes."""

import dataclasses
import errno
import os
import shutil

import pytest

from ncsim.cli.command import main
from ncsim.errors import ConfigError, StoreError
from ncsim.storage.files import LocalStorage
from ncsim.text import audit, job
from ncsim.text.run_folder import ADAPTER_FILES, TextFolder
from ncsim.text.verify import verify_text
from tests.text.test_run import Listener, contents, files, trained, whole  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture
def copy(whole, files, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("NCSIM_DATA", str(files / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(files / "xdg"))
    return shutil.copytree(whole.path, tmp_path / "copy")


def ended(*arguments):
    try:
        main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code or 0
    return 0


def flip(path, place=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def everything(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def test_every_file_is_under_watch(copy, capsys):
    """A flipped bit of any file, also of a checksum that only ncsim looks at."""
    assert ended("report", "--verify", copy) == 0
    assert capsys.readouterr().out == "4 groups with 4 adapters: whole; nothing is missing or wrong\n"
    names = [name for name in everything(copy) if name.split("/")[0] in ("parts", "adapters") or "config" in name]
    assert len(names) == 2 + 4 * (1 + 3)
    for name in names:
        stored = (copy / name).read_bytes()
        for place in {len(stored) // 2, stored.find(b"sha256:") + 10}:
            flip(copy / name, place)
            found = verify_text(copy)
            assert not found.right
            assert name in [finding.name for finding in found.findings], (name, place)
            (copy / name).write_bytes(stored)
    assert verify_text(copy).right


def test_what_is_wrong_is_moved_aside_and_trained_again_to_the_same_bytes(copy, whole, capsys):  # noqa: F811
    flip(copy / "config.json")
    flip(copy / "parts" / "group-001.parquet")
    flip(copy / "adapters" / "rank=2" / "seed=0" / "context=21" / "adapter_model.safetensors")
    (copy / "adapters" / "rank=2" / "seed=0" / "context=22" / "adapter_config.json").unlink()
    (copy / "parts" / "stranger.parquet").write_bytes(b"")
    assert ended("report", "--verify", copy) == 1
    said = capsys.readouterr().out
    for words in (
        "config.json: does not describe a text run (its checksum",
        "parts/group-001.parquet: is torn (its checksum",
        "context=21/adapter_model.safetensors: is torn",
        "parts/stranger.parquet: is not of this run",
        "parts/group-003.parquet: adapters of its group (1) are missing",
        "1 group with 1 adapter: whole\n",
        "puts this right",
    ):
        assert words in said
    assert ended("report", "--repair", copy) == 0
    said = capsys.readouterr().out
    assert "config.json: put back from config-copy.json" in said
    assert "4 groups with 4 adapters: whole; nothing is missing or wrong" in said
    assert contents(copy) == contents(whole.path)
    assert (copy / "config.json").read_bytes() == (whole.path / "config.json").read_bytes()
    assert (copy / "rejected" / "parts" / "stranger.parquet").exists()


def stopped(files, out, monkeypatch):  # noqa: F811
    """The checkpoint of a run that was ended in the middle of a group."""
    monkeypatch.setattr("ncsim.text.training.trainer.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("ncsim.text.training.trainer.CALL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, out, Listener(3))
    (checkpoint,) = (out / "checkpoints").iterdir()
    return checkpoint


def test_a_damaged_checkpoint_is_moved_aside(files, whole, copy, tmp_path, monkeypatch, capsys):  # noqa: F811
    checkpoint = stopped(files, tmp_path / "run", monkeypatch)
    assert verify_text(tmp_path / "run").findings == []
    flip(checkpoint, -5)
    assert ended("report", "--repair", tmp_path / "run") == 0
    assert f"checkpoints/{checkpoint.name}: is damaged" in capsys.readouterr().out
    assert contents(tmp_path / "run") == contents(whole.path)


def test_an_empty_folder_in_the_place_of_a_part_is_put_right(copy, whole, capsys):  # noqa: F811
    """As a copy that was broken off leaves it. It was torn, and nothing could be moved."""
    (copy / "parts" / "group-001.parquet").unlink()
    (copy / "parts" / "group-001.parquet").mkdir()
    assert ended("report", "--verify", copy) == 1
    assert "parts/group-001.parquet: adapters of its group (1) are missing" in capsys.readouterr().out
    assert ended("report", "--repair", copy) == 0
    assert contents(copy) == contents(whole.path)


@pytest.fixture
def unreadable(monkeypatch):
    """Names that cannot be read or listed now, as over a network."""
    names, read, listed = [], LocalStorage.read, LocalStorage.names

    def failing(real):
        def call(self, name):
            if any(each in name for each in names):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return real(self, name)

        return call

    monkeypatch.setattr(LocalStorage, "read", failing(read))
    monkeypatch.setattr(LocalStorage, "names", failing(listed))
    return names


@pytest.mark.parametrize("name", ["parts/group-001.parquet", "adapters/rank=2/seed=0/context=12", "config-copy.json"])
def test_what_cannot_be_read_is_not_moved_aside(copy, unreadable, name, capsys):
    """It was told as torn, and `--repair` trained it again; an adapter's folder ended with a traceback."""
    before = everything(copy)
    unreadable.append(name)
    asked = [["report", "--verify", copy], ["report", "--repair", copy]]
    for ask in asked if name == "config-copy.json" else [*asked, ["report", copy]]:  # a report reads no copy
        assert ended(*ask) == 2
        said = capsys.readouterr()
        assert said.err.count("ncsim: error: ") == said.err.count("\n") == 1
        assert "cannot be read (Permission denied)" in said.err
        assert "torn" not in said.out + said.err
    assert everything(copy) == before
    unreadable.clear()
    assert verify_text(copy).right


def test_a_checkpoint_that_cannot_be_read_is_not_given_up(files, whole, tmp_path, monkeypatch, unreadable, capsys):  # noqa: F811
    """Hours of training may be in it."""
    checkpoint = stopped(files, tmp_path / "run", monkeypatch)
    stored = checkpoint.read_bytes()
    unreadable.append("checkpoints/")
    with pytest.raises(StoreError, match=r"checkpoints/group-00\d.safetensors: cannot be read \(Permission denied\)"):
        trained(files, tmp_path / "run")
    with pytest.raises(StoreError, match="cannot be read"):
        verify_text(tmp_path / "run")
    assert checkpoint.read_bytes() == stored
    unreadable.clear()
    trained(files, tmp_path / "run")
    assert "begin anew" not in capsys.readouterr().err
    assert contents(tmp_path / "run") == contents(whole.path)


def test_a_copy_of_the_description_that_was_not_written_is_written(files, copy):  # noqa: F811
    """Whoever began the run may have been killed between the two; the run itself is whole."""
    description = (copy / "config-copy.json").read_bytes()
    (copy / "config-copy.json").unlink()
    trained(files, copy)
    assert (copy / "config-copy.json").read_bytes() == description
    assert verify_text(copy).right


def test_an_audit_finds_what_no_checksum_can(copy, capsys, monkeypatch):
    assert ended("report", "--audit", "0.3", "--audit-seed", "5", copy) == 0
    assert "Audit: 2 of 4 groups of adapters (seed 5) trained again: all are as stored." in capsys.readouterr().out
    # Another adapter's, whole and sealed: as of a device that computed wrongly.
    for name in ("adapter_model.safetensors", "heads.safetensors"):
        adapters = copy / "adapters" / "rank=2" / "seed=0"
        shutil.copy(adapters / "context=11" / name, adapters / "context=22" / name)
    assert verify_text(copy).right
    assert ended("report", "--audit", "1", copy) == 1
    said = capsys.readouterr().out
    assert "adapters/rank=2/seed=0/context=22/adapter_model.safetensors: differs" in said
    assert "2 files differ" in said
    assert "changed on the way" not in said
    monkeypatch.setattr(job, "backbone_fingerprint", lambda model: "0123456789abcdef")
    assert ended("report", "--audit", "1", copy) == 2
    assert "holds another run (backbone is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "seed", "said"),
    [(0, 1, "--audit: 0;"), (float("nan"), 1, "--audit: nan;"), (2, 1, "--audit: 2;"), (1, -1, "--audit-seed: -1;")],
)
def test_no_share_is_an_error_before_the_folder_is_looked_at(share, seed, said):
    """It was "no group is complete yet" of 0, a traceback of nan, and everything of 2."""
    with pytest.raises(ConfigError, match=f"^{said} allowed: "):
        audit.audit_text("nothing-here", share, seed)


def test_a_file_that_differs_is_one():
    found = audit.TextAudit(0, 1, 3, ["parts/group-000.parquet"], [], [])
    assert "trained again: 1 file differs." in found.lines()[1]


def test_an_audit_says_what_changed_on_the_way(copy, capsys, monkeypatch):
    """Other groups, rows at a time or --remat change rounding, so that files differ and no device is wrong."""
    folder = TextFolder.open(copy)
    folder.note_means(folder.config)
    folder.replan(microbatch=folder.description["microbatch"])
    assert audit.changes(TextFolder.open(copy)) == []
    folder.note_means(dataclasses.replace(folder.config, remat=True))
    folder.replan(microbatch=7)
    folder.replan(microbatch=1)
    folder.regroup([*folder.groups[:3], (), folder.groups[3]], {})
    assert ended("report", "--audit", "0.2", copy) == 0
    assert "changed on the way" not in capsys.readouterr().out
    monkeypatch.setattr(audit, "_differing", lambda folder, fresh, number: [folder.part_name(number)])
    assert ended("report", "--audit", "0.2", copy) == 1
    told = "changed on the way (groups of adapters (--at-once); rows of a step at a time; --remat): adapters may differ"
    assert told in capsys.readouterr().out


def test_an_exported_adapter_holds_the_checksums_of_its_files(copy, tmp_path):
    """Also of the config, which names another backbone than the run's: put in the place of the run's it is whole."""
    assert ended("export", copy, "--hub", tmp_path / "hub", "--base-model", "acme/tiny-bert") == 0
    for place in sorted((tmp_path / "hub" / "adapters").iterdir()):
        rank, seed, context = place.name.split("-")[1::2]
        stored = copy / "adapters" / f"rank={rank}" / f"seed={seed}" / f"context={context}"
        for name in ADAPTER_FILES:
            alike = (place / name).read_bytes() == (stored / name).read_bytes()
            assert alike == (name == "adapter_model.safetensors")
            shutil.copy(place / name, stored)
        flip(place / "adapter_config.json")
    assert verify_text(copy).right
    shutil.copy(place / "adapter_config.json", stored)
    assert not verify_text(copy).right
