"""Files as they come: what is damaged, or has more in it than is read, is told and not read in part."""

import argparse
import io
import random
import tarfile

import pytest

from ncsim.cli.text import add_text_command, source_folder
from ncsim.errors import ConfigError, DataError
from ncsim.text.data.loading import load
from ncsim.text.data.rows import read_own, read_rows
from ncsim.text.data.sources import SourceFile, members
from tests.support import text_sources


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_damaged_tar_is_never_read(tmp_path, kind):
    """A tar has no checksum of what its members hold, and what compressed it has one at its very end."""
    words = random.Random(0)
    rows = [(n, f"{words.random()} a", f"{words.random()} b", n % 2) for n in range(300)]
    content = text_sources.paws("fr", rows).encode()
    path = tmp_path / "x-final.tar"
    with tarfile.open(path, f"w:{kind}") as archive:
        for name in ("fr", "zz"):  # one that is asked for, and one behind it that is not
            info = tarfile.TarInfo(f"x-final/{name}/dev_2k.tsv")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    whole = path.read_bytes()
    assert members(path, "x-final", ["fr/dev_2k.tsv"])["fr/dev_2k.tsv"].content == content
    for place in range(len(whole) // 10, len(whole) - len(whole) // 10, len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"x-final.tar: (is not an archive that can|cannot) be read"):
            members(path, "x-final", ["fr/dev_2k.tsv"])


@pytest.mark.parametrize("behind", ["\n[]", '\n[{"text": "b", "label": 0}]', "]", ",", " x"])
def test_what_stands_behind_an_array_is_not_lost(behind):
    """Two files written one behind the other are no array: the rows of the second were none."""
    line = 3 if behind.startswith("\n") else 2
    said = rf"line {line}: is not JSON \(something stands behind the array\); allowed: one array"
    with pytest.raises(DataError, match=rf"own.json, {said}"):
        read_own(SourceFile("own.json", f'[{{"text": "a",\n"label": 1}}]{behind}'.encode()))
    with pytest.raises(DataError, match=rf"dev.json, {said.replace(str(line), '[0-9]+')}"):
        read_rows("math_qa", SourceFile("dev.json", (text_sources.math(text_sources.MATH) + behind).encode()))
    ended = (text_sources.math(text_sources.MATH) + "\r\n \t\n").encode()
    assert len(read_rows("math_qa", SourceFile("dev.json", ended))[0]) == 4


def test_a_row_of_empty_cells_is_no_blank_line():
    with pytest.raises(DataError, match=r"dev.tsv, line 3: sentence is empty"):
        read_rows("sst2", SourceFile("dev.tsv", b"sentence\tlabel\na\t1\n\t\nb\t0\n"))
    blank = SourceFile("dev.tsv", b"sentence\tlabel\n\na\t1\n \r\nb\t0\n")
    assert [row.first for row in read_rows("sst2", blank)[0]] == ["a", "b"]


def test_no_name_of_a_folder_is_not_the_folder_in_which_one_is(tmp_path, monkeypatch):
    """An empty variable, or `--source-dir "$UNSET"`, read whatever data lay there."""
    monkeypatch.chdir(text_sources.write_sources(tmp_path))
    with pytest.raises(ConfigError, match="source_dir: ''; allowed: a folder, or none at all"):
        load("mrpc", source_dir="")
    monkeypatch.setenv("NCSIM_DATA", "")
    parser = add_text_command(argparse.ArgumentParser().add_subparsers())
    assert (parser.get_default("source_dir"), source_folder()) == (None, None)
    monkeypatch.setenv("NCSIM_DATA", "data")
    assert source_folder() == "data"
