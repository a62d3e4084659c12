"""The five builders: rows as in their files, whatever they come from, and nothing taken on trust."""

import csv
import dataclasses
import functools
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from ncsim.errors import ConfigError, DataError
from ncsim.text.data import datasets, loading, rows, sources
from ncsim.text.data.loading import BUILDERS, load
from ncsim.text.data.rows import READERS, Labelled, Question, read_rows
from ncsim.text.data.sources import SourceFile
from tests.support import text_sources

ALL = [("sst2", ""), ("mrpc", ""), ("commonsense_qa", ""), ("math_qa", ""), ("paws_x", "fr")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A source folder, a cache, and all five data sets prepared from the one in the other."""
    source, cache = (tmp_path_factory.mktemp(name) for name in ("source", "cache"))
    text_sources.write_sources(source)
    return source, cache, {one: load(one[0], language=one[1], source_dir=source, cache_dir=cache) for one in ALL}


def test_rows_are_those_of_the_files(prepared):
    found = {name: one for (name, _), one in prepared[2].items()}
    assert {name: {split: len(part) for split, part in one.splits.items()} for name, one in found.items()} == {
        "sst2": {"train": 6, "validation": 3},
        "mrpc": {"train": 5, "test": 2},
        "commonsense_qa": {"train": 4, "validation": 1},
        "math_qa": {"validation": 4, "test": 1},
        "paws_x": {"validation": 11},
    }
    assert found["sst2"].splits["train"][2:4] == [
        Labelled("2", "a line\u2028separator is a character", "", 1),
        Labelled("3", 'a "quotation mark', "", 0),
    ]
    assert found["mrpc"].splits["train"][0] == Labelled("11-12", 'He said "1" on Monday.', "On Monday, he said 1.", 1)
    assert found["mrpc"].splits["test"][1] == Labelled("93-94", "Shares fell.", "It rained.", 0)
    options = ("nest", "sea", "cave", "oven", "moon")
    assert found["commonsense_qa"].splits["train"][0] == Question("0" * 32, "where do birds live?", options, 0)
    math = {row.id: row for row in found["math_qa"].splits["validation"]}
    assert math["0"] == Question("0", "what is 1 + 2 ?", ("3", "4", "5", "1,200", "none"), 0)
    assert math["1"].options == ("4 cm", "4 π", "16", "o'clock", "16")
    assert math["2"].options == ("3", "2", "5", "21", "28")
    french = {row.id: row for row in found["paws_x"].splits["validation"]}
    assert set(french) == {str(number) for number, *_ in text_sources.PAWS} - {"5"}
    assert french["7"] == Labelled("7", "fr 7 river council", "fr council of river 7", 1)


def test_what_was_left_out_and_what_stands_in_for_training_is_said(prepared):
    found = {name: one.notes for (name, _), one in prepared[2].items()}
    assert found["sst2"] == found["mrpc"] == found["commonsense_qa"] == ()
    assert found["math_qa"] == (
        "math_qa: no training file, so training items are of dev",
        "validation: 1 rows left out (not five options)",
    )
    assert found["paws_x"][1] == "validation: 1 rows left out (not translated)"


def test_builders_are_those_of_tfds_and_write_array_records(prepared, tmp_path):
    built = {}
    for name, builder in BUILDERS.items():
        config = {"config": "ko"} if name == "paws_x" else {}
        one = builder(source_dir=prepared[0], data_dir=str(tmp_path), file_format="array_record", **config)
        one.download_and_prepare()
        (written, *_) = list(tmp_path.rglob(f"{builder.name}-*.array_record-*"))
        info = json.loads((written.parent / "dataset_info.json").read_text())
        assert info["citation"].startswith("@inproceedings")
        assert info["version"] == ("1.1.0" if name == "paws_x" else "1.0.0")
        assert info["redistributionInfo"]["license"] == datasets.DATA_SETS[name].licence
        assert info["fileFormat"] == "array_record"
        built[name] = one
    korean = built["paws_x"]
    assert (korean.info.full_name, korean.info.splits["validation"].num_examples) == ("ncsim_paws_x/ko/1.1.0", 10)
    assert korean.info.features["label"].names == ["different_meaning", "paraphrase"]
    example = korean.as_data_source(split="validation")[0]
    assert example["first"].decode() == f"ko {example['id'].decode()} river council"


def test_archives_give_the_same_rows(prepared, tmp_path):
    source, _, found = prepared
    packed = text_sources.pack(source, tmp_path / "packed")
    for name, language in (("sst2", ""), ("math_qa", ""), ("paws_x", "fr")):
        assert load(name, language=language, source_dir=packed, cache_dir=tmp_path / "cache") == found[name, language]


def test_a_changed_file_is_never_served_stale(prepared, tmp_path):
    source = text_sources.write_sources(tmp_path / "source")
    assert load("mrpc", source_dir=source, cache_dir=tmp_path / "cache") == prepared[2]["mrpc", ""]
    changed = text_sources.MRPC.replace("Monday", "Friday")
    text_sources.write_sources(source, {"mrpc/msr_paraphrase_train.txt": changed})
    after = load("mrpc", source_dir=source, cache_dir=tmp_path / "cache")
    assert "Friday" in after.splits["train"][0].first
    assert not (tmp_path / "cache").exists()


#: How many rows the files of `text_sources` have.
ROWS = {"mrpc": {"train": 5, "test": 2}, "commonsense_qa": {"train": 4, "validation": 1}}


def _serve(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def served(prepared, tmp_path, monkeypatch):
    """The official addresses of two data sets, and one of a third that is not there, on a server of this machine."""
    source = prepared[0]
    packed = text_sources.pack(source, tmp_path / "packed")
    for name in ("mrpc", "commonsense_qa"):
        (packed / name).symlink_to(source / name)
    server, address = _serve(packed)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    here = {"paws_x": {"x-final.tar.gz": f"{address}/x-final.tar.gz"}}
    for name in ("mrpc", "commonsense_qa"):
        here[name] = {file: f"{address}/{name}/{file}" for file in datasets.DATA_SETS[name].addresses}
    here["sst2"] = {"SST-2.zip": f"{address}/is-not-there.zip"}
    for name, addresses in here.items():
        rows = {split: ROWS[name][split] for split in datasets.DATA_SETS[name].rows}
        one = dataclasses.replace(datasets.DATA_SETS[name], addresses=addresses, rows=rows)
        monkeypatch.setitem(loading.DATA_SETS, name, one)
        monkeypatch.setattr(BUILDERS[name], "data_set", one)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("served")
def test_downloads_are_prepared_as_array_record_and_give_the_same_rows(prepared, tmp_path):
    for name, language in (("paws_x", "fr"), ("mrpc", ""), ("commonsense_qa", "")):
        for _ in range(2):  # prepared, then read back
            assert load(name, language=language, cache_dir=tmp_path / "cache") == prepared[2][name, language]
    assert list((tmp_path / "cache" / "prepared").rglob("*.array_record*"))
    with pytest.raises(
        DataError, match=r"is-not-there.zip: cannot be downloaded \(.*404.*allowed: source_dir"
    ) as caught:
        load("sst2", cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", ["mrpc", "commonsense_qa"])
def test_a_download_is_read_once(tmp_path, monkeypatch, name):
    read = []
    monkeypatch.setattr(loading, "read_rows", lambda name, file: read.append(file.shown) or read_rows(name, file))
    load(name, cache_dir=tmp_path / "cache")
    assert sorted(read) == sorted(loading.DATA_SETS[name].addresses.values())


@pytest.mark.usefixtures("served")
def test_what_was_downloaded_and_is_no_such_file_is_not_kept(prepared, tmp_path):
    """The page on which a network wants a login was kept and read for ever."""
    served = (tmp_path / "packed" / "x-final.tar.gz", tmp_path / "packed" / "mrpc" / "msr_paraphrase_test.txt")
    served[1].parent.unlink()  # a link to what other tests read
    text_sources.write_sources(tmp_path / "packed")
    for (name, language), path in zip((("paws_x", "fr"), ("mrpc", "")), served, strict=True):
        whole = path.read_bytes()
        path.write_bytes(b"<html>Who are you?</html>")
        with pytest.raises(DataError, match=r"removed, and downloaded again next time$") as caught:
            load(name, language=language, cache_dir=tmp_path / "cache")
        assert "\n" not in str(caught.value)
        path.write_bytes(whole)
        assert load(name, language=language, cache_dir=tmp_path / "cache") == prepared[2][name, language]


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "file"), [("mrpc", "msr_paraphrase_train.txt"), ("commonsense_qa", "train_rand_split.jsonl")]
)
def test_a_download_that_ends_where_a_row_ends_is_not_taken_for_whole(prepared, tmp_path, name, file):
    folder = tmp_path / "packed" / name
    folder.unlink()  # a link to what other tests read
    text_sources.write_sources(tmp_path / "packed")
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    known = ROWS[name]["train"]
    with pytest.raises(DataError, match=rf"/{file}: has {known - 1} rows of {known}; .* downloaded again next time$"):
        load(name, cache_dir=tmp_path / "cache")
    (folder / file).write_bytes(whole)
    assert load(name, cache_dir=tmp_path / "cache") == prepared[2][name, ""]


def test_every_file_without_a_checksum_has_a_known_number_of_rows():
    plain = {name: one for name, one in datasets.DATA_SETS.items() if not one.archive}
    assert {name: set(one.rows) for name, one in plain.items()} == {name: set(one.files) for name, one in plain.items()}
    assert sum(datasets.DATA_SETS["mrpc"].rows.values()) == 5_801  # pairs, of Dolan and Brockett 2005


@pytest.mark.usefixtures("served")
def test_a_damaged_copy_is_never_served(prepared, tmp_path):
    damage = [
        ("*train.array_record*", lambda whole: whole[:-20]),
        ("*train.array_record*", lambda whole: whole[:500] + bytes([whole[500] ^ 16]) + whole[501:]),
        ("dataset_info.json", lambda whole: whole[:50]),
        ("metadata.json", lambda whole: b"[]"),
    ]
    before = load("mrpc", cache_dir=tmp_path / "cache")
    assert before == prepared[2]["mrpc", ""]
    for name, change in damage:
        for path in (tmp_path / "cache" / "prepared").rglob(name):
            path.write_bytes(change(path.read_bytes()))
        again = load("mrpc", cache_dir=tmp_path / "cache")
        assert again.splits == before.splits
        assert again.notes == ("what had been prepared was damaged and was made anew",), name


BROKEN = [
    ("sst2", "", "SST-2/train.tsv", "sentence\tlabel\na\t1\nb 0\n", r"train.tsv, line 3: has 1 columns; allowed: 2"),
    ("sst2", "", "SST-2/dev.tsv", "sentence\tlabel\na\t2\n", r"dev.tsv, line 2: label is '2'; allowed: 0, 1"),
    ("sst2", "", "SST-2/dev.tsv", "text\tlabel\na\t1\n", r"line 1: columns are text, label; allowed: sentence, label"),
    ("sst2", "", "SST-2/dev.tsv", "sentence\tlabel\n", r"dev.tsv: has no rows"),
    ("sst2", "", "SST-2/dev.tsv", b"sentence\tlabel\n\xff\t1\n", r"dev.tsv, line 2: is not UTF-8"),
    ("mrpc", "", "mrpc/msr_paraphrase_test.txt", None, r"mrpc: msr_paraphrase_test.txt is not there; mrpc needs"),
    (
        "paws_x",
        "en",
        "x-final/en/dev_2k.tsv",
        None,
        r"en/dev_2k.tsv is not there; .* takes en/train.tsv, en/test_2k.tsv",
    ),
    (
        "paws_x",
        "en",
        "x-final/en/dev_2k.tsv",
        text_sources.paws("en", text_sources.PAWS[:1] * 2),
        r"two rows have the id",
    ),
    ("commonsense_qa", "", "commonsense_qa/train_rand_split.jsonl", '{"id": \n', r"jsonl, line 1: is not JSON"),
    ("commonsense_qa", "", "commonsense_qa/train_rand_split.jsonl", "[1]\n", r"line 1: is not a question with id"),
    (
        "commonsense_qa",
        "",
        "commonsense_qa/dev_rand_split.jsonl",
        text_sources.commonsense([("F", "x?", "a b c d e")]),
        r"line 1: answerKey is 'F'; allowed: A, B, C, D, E",
    ),
    (
        "commonsense_qa",
        "",
        "commonsense_qa/dev_rand_split.jsonl",
        # Of two choices with one label the second was taken in silence.
        text_sources.commonsense([("A", "x?", "a b c d e")]).replace("[{", '[{"label": "A", "text": "f"}, {'),
        r"line 1: its choices are labelled A, A, B, C, D, E; allowed: A, B, C, D, E",
    ),
    (
        "commonsense_qa",
        "",
        "commonsense_qa/dev_rand_split.jsonl",
        text_sources.commonsense([("A", "x?", "a b c d e")]).replace('"a"', "1"),
        r"line 1: id, stem and choices are not all texts",
    ),
    ("math_qa", "", "MathQA/dev.json", text_sources.math(text_sources.MATH)[:-5], r"dev.json, line \d+: is not JSON"),
    ("math_qa", "", "MathQA/dev.json", '[\n{"Problem": "x"}\n]', r"dev.json, line 2: is not a problem with"),
    ("math_qa", "", "MathQA/dev.json", text_sources.math([("x", "", "f")]), r"dev.json, line 2: correct is 'f'"),
]


@pytest.mark.parametrize(("name", "language", "path", "content", "message"), BROKEN)
def test_broken_files_are_named_by_line(name, language, path, content, message, tmp_path):
    source = text_sources.write_sources(tmp_path / "source", {path: content})
    with pytest.raises(DataError, match=message) as caught:
        load(name, language=language, source_dir=source, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_wrong_folders_and_names_are_one_line(tmp_path):
    with pytest.raises(DataError, match=r"source_dir=.*nowhere: no such folder; allowed: the folder that holds SST-2/"):
        load("sst2", source_dir=tmp_path / "nowhere", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"does not hold MathQA/ or MathQA.zip with train.json, dev.json, test.json"):
        load("math_qa", source_dir=tmp_path, cache_dir=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"prepared/\S+: cannot be written to \(Not a directory\)"):
        load("mrpc", cache_dir=tmp_path / "file")
    with pytest.raises(ConfigError, match="dataset=imdb: allowed: sst2, mrpc"):
        load("imdb", cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="language=xx: allowed for paws_x: de, en"):
        load("paws_x", language="xx", cache_dir=tmp_path)


def _zip(path, name="SST-2/train.tsv", content=b"x", mode=0o100644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
        archive.writestr(info, content)


def _tar(path, name, **fields):
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(b""))


HOSTILE = {
    "zip-up": (lambda path: _zip(path, "../../evil"), "points outside"),
    "zip-absolute": (lambda path: _zip(path, "/etc/evil"), "points outside"),
    "zip-drive": (lambda path: _zip(path, "C:\\evil"), "points outside"),
    "zip-link": (lambda path: _zip(path, mode=0o120777), "link or no plain file"),
    "zip-bomb": (lambda path: _zip(path, content=bytes(8 * 2**20)), "unpacks to more than 200 times"),
    "tar-up": (lambda path: _tar(path, "../evil"), "points outside"),
    "tar-absolute": (lambda path: _tar(path, "/evil"), "points outside"),
    "tar-link": (lambda path: _tar(path, "a", type=tarfile.SYMTYPE, linkname="b"), "link or no plain file"),
    "tar-link-out": (lambda path: _tar(path, "a", type=tarfile.SYMTYPE, linkname="../../b"), "outside"),
    "tar-hardlink": (lambda path: _tar(path, "a", type=tarfile.LNKTYPE, linkname="b"), "link or no plain file"),
    "tar-device": (lambda path: _tar(path, "a", type=tarfile.CHRTYPE), "special file"),
    "no-archive": (lambda path: path.write_bytes(b"hello" * 99), "is not an archive"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(kind, tmp_path):
    make, message = HOSTILE[kind]
    make(tmp_path / "archive")
    with pytest.raises(DataError, match=message) as caught:
        sources.members(tmp_path / "archive", "SST-2", ["train.tsv"])
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_sizes_are_bounded_whatever_a_header_says(tmp_path, monkeypatch):
    text = SourceFile("x", text_sources.SST2.encode() * 40)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train.tsv", text.content)
    assert sources.members(tmp_path / "a.zip", "SST-2", ["train.tsv"])["train.tsv"].content == text.content
    monkeypatch.setattr(sources, "MAX_FILE", 100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        sources.members(tmp_path / "a.zip", "SST-2", ["train.tsv"])
    monkeypatch.setattr(sources, "MAX_ARCHIVE", 100)
    with pytest.raises(DataError, match="none is read"):
        sources.members(tmp_path / "a.zip", "SST-2", ["train.tsv"])


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none", "38|27.675|30|data inadequate|none"),
        (
            "a ) rs . 1,200 , b ) rs . 2,400 , c ) 1 : 2 , d ) a and b , e ) c ) 3",
            "rs . 1,200|rs . 2,400|1 : 2|a and b|c ) 3",
        ),
        ("['a ) 4', 'b ) 8', \"c ) it's\", 'd ) 1, 2', 'e ) 5']", "4|8|it's|1, 2|5"),
        ("a ) 3 , b ) 4.5 , c ) 4 , d ) d ) 12 , e ) e ) 5", "3|4.5|4|12|5"),
        ("a)1,b)2,c)3,d)4,e)5", "1|2|3|4|5"),
        ("a ) 1 , b ) 2 , c ) 3 , d ) 4", None),
        ("a ) 1 , c ) 2 , b ) 3 , d ) 4 , e ) 5", None),
        ("a ) 1 , b ) , c ) 3 , d ) 4 , e ) 5", None),
        ("__import__('os').abort()", None),
        ("", None),
    ],
)
def test_math_options_are_taken_apart_by_their_letters(text, options):
    assert rows.math_options(text) == (None if options is None else tuple(options.split("|")))


def test_neither_tensorflow_nor_noise(tmp_path):
    """Nothing asks for tensorflow, be it installed or not, and nothing is announced. Files of a folder are read each time, so
    that nothing is kept."""
    text_sources.write_sources(tmp_path)
    program = (
        "import sys\n"
        "class Asked:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'tensorflow': print('asked for', name)\n"
        "sys.meta_path.insert(0, Asked)\n"
        "from ncsim.text.data.loading import load\n"
        f"print(len(load('mrpc', source_dir={str(tmp_path)!r}).splits['train']))\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    root = str(Path(loading.__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.skipif("NCSIM_DATA" not in os.environ, reason="NCSIM_DATA does not name a folder with the real files")
def test_real_files_have_the_rows_that_are_known_of_them(tmp_path):
    found = {
        (name, language): {
            split: len(part)
            for split, part in load(
                name, language=language, source_dir=os.environ["NCSIM_DATA"], cache_dir=tmp_path
            ).splits.items()
        }
        for name, language in [*ALL, ("paws_x", "en"), ("paws_x", "ja"), ("paws_x", "ko")]
    }
    assert found["sst2", ""] == {"train": 67349, "validation": 872}
    assert found["mrpc", ""] == {"train": 4076, "test": 1725}
    assert found["commonsense_qa", ""] == {"train": 9741, "validation": 1221}
    assert {split: found["math_qa", ""][split] for split in ("validation", "test")} == {
        "validation": 4475,
        "test": 2985,
    }
    translated = {language: found["paws_x", language]["validation"] for language in ("en", "fr", "ja", "ko")}
    assert translated == {"en": 2000, "fr": 1992, "ja": 1980, "ko": 1965}


def test_cells_of_paws_x_are_unquoted_and_marks_that_are_text_stay():
    """As csv writes them; a cell that is wrapped, or has marks, without having been quoted was written so."""
    rows = [
        ("4", 'Il a dit "non" .', '"Non" dit-il .', "1"),
        ("5", '"', '"Tout"', "0"),
        ("6", "Sans rien .", 'Un "" vide .', "0"),
    ]
    made = io.StringIO(newline="")
    csv.writer(made, delimiter="\t", lineterminator="\n").writerows([("id", "sentence1", "sentence2", "label"), *rows])
    read = list(READERS["paws_x"](SourceFile("fr/dev_2k.tsv", made.getvalue().encode())))
    assert [(row.id, row.first, row.second, str(row.label)) for row in read] == rows
    bare = ['A 7 " disc .', '"One" and "two"', '"All of it ."', '"Not ""closed', 'a ""b""']
    for text in bare:
        file = SourceFile("en/train.tsv", f"id\tsentence1\tsentence2\tlabel\n1\t{text}\tThe end\t1\n".encode())
        assert [row.first for row in READERS["paws_x"](file)] == [text]


def test_a_row_of_paws_x_without_one_of_its_sentences_is_left_out():
    """Without the second it would be a single text with the label of a pair."""
    rows = ("1\tOne\tTwo\t1", "2\t\tTwo\t0", "3\tOne\t \t1", "4\tNS\tTwo\t0", "5\tOne\t\t0", "6\tNS one\tTwo\t0")
    file = SourceFile("fr/dev_2k.tsv", "\n".join(["id\tsentence1\tsentence2\tlabel", *rows, ""]).encode())
    kept, left_out = read_rows("paws_x", file)
    assert kept == [("1", "One", "Two", 1), ("6", "NS one", "Two", 0)]
    assert left_out == {"not translated": 4}
