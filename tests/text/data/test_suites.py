"""Suites: the right items on the right side, never one in both, paired as asked, and the same on every machine."""

import itertools
import json
import os
import re

import numpy as np
import pytest

from ncsim.errors import ConfigError, DataError
from ncsim.text.data.items import seen_notes, suite_items
from ncsim.text.data.prepare import CONTEXTS, prepare_suite
from ncsim.text.data.rows import read_own
from ncsim.text.data.sources import SourceFile
from ncsim.text.data.suites import PARTS, SUITES, Suite, Task, open_suite
from tests.support import text_sources


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with sources, a cache and a tokeniser, and `prepare` with those."""
    folder = tmp_path_factory.mktemp("place")
    text_sources.write_sources(folder / "source")
    size = text_sources.write_tokenizer(folder / "tokenizer")

    def prepare(suite, **changes):
        options = {"tokenizer": folder / "tokenizer", "length": 24, "vocab_size": size, "max_positions": 64}
        options |= {"source_dir": folder / "source", "cache_dir": folder / "cache"}
        return prepare_suite(suite, **(options | changes))

    prepare.folder = folder
    return prepare


def items(place, suite, form="balanced", seed=0, source="source"):
    folder = place.folder
    return suite_items(suite, form=form, seed=seed, source_dir=folder / source, cache_dir=folder / "cache")


def test_the_papers_suites_are_those_of_table_3():
    described = {name: [task.name for task in suite.tasks.values()] for name, suite in SUITES.items()}
    assert described == {
        "multilingual": ["paws_x-en", "paws_x-fr", "paws_x-ja", "paws_x-ko"],
        "mixed": ["sst2", "commonsense_qa", "mrpc", "math_qa"],
    }


def test_questions_become_balanced_items_or_one_item_an_option(place):
    mixed = SUITES["mixed"]
    balanced, every = items(place, mixed)["A2"].train, items(place, mixed, form="all-options")["A2"].train
    questions = {stem: (answer, words.split()) for answer, stem, words in text_sources.COMMONSENSE}
    for found in (balanced, every):
        for stem, option, label, key in zip(found.first, found.second, found.labels, found.ids, strict=True):
            answer, words = questions[stem]
            assert words[int(key.rsplit(":", 1)[1])] == option
            assert label == (words["ABCDE".index(answer)] == option)
    assert (len(balanced.ids), balanced.majority_rate) == (8, 0.5)
    assert (len(every.ids), every.majority_rate) == (20, 0.8)
    assert set(balanced.ids) < set(every.ids)
    wrong = [items(place, mixed, seed=seed)["A2"].train.chosen(range(8)).ids for seed in range(4)]
    assert len({tuple(sorted(ids)) for ids in wrong}) > 1  # another seed, other wrong options


def test_an_option_that_reads_as_the_right_one_is_no_wrong_option(place):
    found = items(place, SUITES["mixed"], form="all-options")["B2"]
    repeats = [i for i, text in enumerate(found.train.first) if text == "which repeats ?"]
    assert [(found.train.second[i], found.train.labels[i]) for i in repeats] == [
        ("7", 1),
        ("8", 0),
        ("9", 0),
        ("10", 0),
    ]
    assert "train: 1 wrong options left out (they read as the right one)" in found.notes


def test_nothing_is_trained_on_and_tested_on(place):
    for suite in SUITES.values():
        for seed in range(3):
            found = items(place, suite, seed=seed)
            groups = {split: set() for split in ("train", "test")}
            for one in found.values():
                groups["train"] |= set(one.train.ids)
                groups["test"] |= set(one.test.ids)
            assert not groups["train"] & groups["test"]  # over all tasks: PAWS-X has one id in four languages
            assert all(one.train.ids and one.test.ids for one in found.values())


def test_not_translated_in_one_language_is_no_item_in_any(place):
    found = items(place, SUITES["multilingual"])
    ids = {split: {getattr(one, split).ids for one in found.values()} for split in ("train", "test")}
    assert len(ids["train"]) == len(ids["test"]) == 1  # the same, in the same order, in each language
    kept = {int(one.rsplit(":", 1)[1]) for split in ids.values() for one in next(iter(split))}
    assert kept == {number for number, *_ in text_sources.PAWS} - {5, 8, 9}
    assert found["A1"].splits == {"train": "validation", "test": "validation, held out"}
    assert "train: 3 rows left out (not in every language of the suite)" in found["A1"].notes
    alone = Suite("english", (Task(dataset="paws_x", language="en"),) * 2, SUITES["mixed"].bob)
    assert len(items(place, alone)["A1"].train.ids) == 10  # of all twelve


def test_not_translated_in_one_language_is_tested_on_in_none(place):
    """With the official test files beside the others, of which one lacks a sentence, too."""
    files = {
        f"x-final/{language}/test_2k.tsv": text_sources.paws(language, text_sources.PAWS[:4])
        for language in ("en", "fr", "ja", "ko")
    }
    text_sources.write_sources(place.folder / "with tests", files)
    found = items(place, SUITES["multilingual"], source="with tests")
    for one in found.values():
        assert one.splits == {"train": "validation", "test": "test"}
        assert set(one.test.ids) == {f"paws_x:test:{number}" for number in (4, 6, 7)}
        assert set(one.train.ids) == {f"paws_x:validation:{n}" for n, *_ in text_sources.PAWS if n not in (5, 8, 9)}
    assert "test: 1 rows left out (not in every language of the suite)" in found["A1"].notes
    assert not any("held out" in note for note in found["A1"].notes)


def test_what_is_held_out_is_told_and_is_at_least_one_id(place, tmp_path):
    (tmp_path / "three.csv").write_text("text,label,id\na,0,x\nb,1,y\nc,0,z\n")
    own = Task(dataset="file", train=str(tmp_path / "three.csv"))
    sizes = set()
    for seed in range(4):
        found = items(place, Suite("three", (own, own), SUITES["mixed"].bob), seed=seed)["A1"]
        sizes.add((len(found.train.ids), len(found.test.ids)))
        assert f"no test items: 20% of {own.train} held out, by id" in found.notes
    assert sizes == {(2, 1)}


def test_a_questions_options_stand_in_their_order(place):
    """Else the right one would be the first of each question, and cut between two items more ones than zeros be left."""
    for form in ("balanced", "all-options"):
        for name in ("A2", "B2"):
            ids = items(place, SUITES["mixed"], form=form)[name].train.ids
            places = [(one.rsplit(":", 1)[0], int(one.rsplit(":", 1)[1])) for one in ids]
            for (question, place_of), (following, next_place) in itertools.pairwise(places):
                assert question != following or place_of < next_place


def test_tasks_hold_the_items_that_they_name(place):
    made = place("mixed", items=3)
    found = items(place, SUITES["mixed"])
    for part in PARTS:
        for split, number in (("train", 3), ("test", 2)):
            encoded, ids = made.tasks[part][split], made.ids[part][split]
            assert ids == getattr(found[part], split).ids[:number]
            assert np.array_equal(encoded.labels, getattr(found[part], split).labels[:number])
            assert [a.dtype for a in encoded] == [np.int32, np.int8, np.int8, np.int8]
            assert encoded.ids.shape == encoded.mask.shape == encoded.types.shape == (number, 24)
            has_second = bool(encoded.types.any())
            assert has_second == (part != "A1")  # SST-2 alone has one text


@pytest.mark.parametrize("pairing", ["aligned", "shuffled"])
def test_pairs_have_every_item_once_in_every_context(place, pairing):
    made = place("multilingual", pairing=pairing)
    for split, number in (("train", 7), ("test", 2)):
        pairs = made.pairs[split]
        assert pairs.shape == (4, number, 2)
        assert pairs.dtype == np.int32
        assert np.array_equal(np.sort(pairs, axis=1), np.broadcast_to(np.arange(number)[:, None], pairs.shape))
        for (alice, bob), pair in zip(CONTEXTS, pairs, strict=True):
            same = [made.ids[alice][split][i] == made.ids[bob][split][j] for i, j in pair]
            if pairing == "aligned" or number > 2:  # two items may be shuffled into their own order
                assert all(same) == (pairing == "aligned")
    if pairing == "aligned":
        assert made.report()["differing_labels"]["train"] == {"A1B1": 0, "A1B2": 0, "A2B1": 0, "A2B2": 0}
    else:
        assert len({context.tobytes() for context in made.pairs["train"]}) == 4


def test_aligned_needs_ids_in_common(place):
    with pytest.raises(
        ConfigError, match=r"pairing=aligned: the tasks have no ids in common \(train\); allowed: shuffled"
    ):
        place("mixed", pairing="aligned")


def test_the_report_says_what_a_reader_needs(place):
    report = place("mixed", items=100, length=10).report()
    assert report == json.loads(json.dumps(report))
    assert report["items"] == {"train": 5, "test": 2}
    assert report["notes"] == ["train: 100 items were asked for, the smallest task has 5"]
    mrpc, math = report["tasks"]["B1"], report["tasks"]["B2"]
    assert mrpc["split"] == {"train": "train", "test": "test"}
    assert (mrpc["available"], mrpc["items"]) == ({"train": 5, "test": 2}, {"train": 5, "test": 2})
    assert mrpc["majority_rate"] == {"train": 0.8, "test": 0.5}
    assert mrpc["truncated_fraction"] == {"train": 1.0, "test": 1.0}
    assert report["tasks"]["A1"]["truncated_fraction"]["test"] < 1
    assert "math_qa: no training file, so training items are of dev" in math["notes"]


def test_as_many_items_as_there_are_need_no_note(place):
    """All of them, and one alone."""
    for number in (5, 1):
        report = place("mixed", items=number, test_items=1).report()
        assert report["items"] == {"train": number, "test": 1}
        assert not report["notes"]


def test_the_fingerprint_is_of_the_pairs_too(place):
    """Tasks hold the same items, those that have ids in common being all of them."""
    shuffled, aligned = (place("multilingual", pairing=pairing) for pairing in ("shuffled", "aligned"))
    assert shuffled.ids == aligned.ids
    assert shuffled.fingerprint != aligned.fingerprint


@pytest.mark.parametrize(("known", "allowed"), [(0, False), (1, True)])
def test_texts_whose_words_a_tokeniser_lacks_are_refused(place, tmp_path, known, allowed):
    """Nine tokens in ten may be unknown, and not all of them."""
    text = " ".join(["the"] * known + ["\u6620"] * 9)
    (tmp_path / "own.csv").write_text("text,label\n" + f"{text},0\n{text},1\n" * 5)
    own = Task(dataset="file", train=str(tmp_path / "own.csv"))
    suite = Suite("foreign", SUITES["mixed"].alice, (own, own))
    if allowed:
        report = place(suite).report()
        assert report["tasks"]["B2"]["unknown_fraction"] == {"train": 0.9, "test": 0.9}
        return
    with pytest.raises(ConfigError, match=r"does not know 100% of the tokens of B1 \(train\); allowed: at most 90%"):
        place(suite)


def test_tokens_are_kept_where_they_are_to_be(place, tmp_path):
    place("multilingual", cache_dir=tmp_path / "here")
    assert len(list((tmp_path / "here" / "tokens").iterdir())) == 8, "of four tasks, train and test"


def test_the_same_again_and_not_for_another_seed_form_or_file(place):
    first = place("mixed")
    assert first.fingerprint == place("mixed").fingerprint
    fresh = place("mixed", cache_dir=place.folder / "another cache")
    assert fresh.fingerprint == first.fingerprint
    assert fresh.report() == first.report()
    others = [
        place("mixed", seed=1),
        place("mixed", form="all-options"),
        place("mixed", length=23),
        place("mixed", items=4),
    ]
    changed = text_sources.SST2.replace("dull", "bleak")
    text_sources.write_sources(place.folder / "changed", {"SST-2/train.tsv": changed})
    others.append(place("mixed", source_dir=place.folder / "changed"))
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 6
    # What is drawn is drawn by hashes: these are the same with every version of every library.
    assert first.ids["A1"]["train"] == tuple(f"sst2:train:{row}" for row in [0, 3, 5, 4, 1])
    assert first.pairs["train"][3, :, 1].tolist() == [4, 1, 2, 3, 0]


def write_own(folder, **files):
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_a_users_own_suite(place, tmp_path):
    write_own(
        tmp_path,
        a_tsv="text\ttext2\tlabel\tid\n" + "".join(f"a {i}\tb\t{i % 2}\tx{i}\n" for i in range(10)),
        b_jsonl="".join(json.dumps({"id": f"x{i}", "text": f"b {i}", "label": i % 2}) + "\n" for i in range(1, 11)),
        train_tsv="text\tlabel\nyes\t1\nno\t0\n",
        test_tsv="text\tlabel\nsure\t1\n",
        suite_toml='name = "mine"\n'
        'alice = [{ dataset = "file", train = "a.tsv" }, { dataset = "file", train = "b.jsonl" }]\n'
        'bob = [{ dataset = "sst2" }, { dataset = "file", train = "train.tsv", test = "test.tsv" }]\n',
    )
    tasks = [{"dataset": "file", "train": "a.tsv"}, {"dataset": "file", "train": "b.jsonl"}]
    (tmp_path / "both.json").write_text(json.dumps({"alice": tasks, "bob": tasks[::-1]}))
    made = place(tmp_path / "suite.toml")
    assert made.suite.name == "mine"
    assert made.report()["items"] == {"train": 2, "test": 1}
    found = items(place, made.suite)
    ids = {
        split: {one for name in ("A1", "A2") for one in getattr(found[name], split).ids} for split in ("train", "test")
    }
    assert len(ids["test"]) == 2  # a fifth of x0 to x10, in whichever of the two files they are
    assert ids["train"] | ids["test"] == {f"file:x{i}" for i in range(11)}
    assert not ids["train"] & ids["test"]
    aligned = place(tmp_path / "both.json", pairing="aligned", seed=1)
    assert set(aligned.ids["A1"]["train"]) <= {f"file:x{i}" for i in range(1, 10)}
    assert aligned.ids["A1"] == aligned.ids["A2"] == aligned.ids["B1"]


def test_what_one_task_holds_out_no_other_is_trained_on(place, tmp_path):
    """Parallel files of which one has a test file of its own, and the other none."""
    rows = [f"x{i}\tname {i}\t{i % 2}\n" for i in range(20)]
    write_own(
        tmp_path,
        a_tsv="id\ttext\tlabel\n" + "".join(rows[:15]),
        test_tsv="id\ttext\tlabel\n" + "".join(rows[15:]),
        b_tsv="id\ttext\tlabel\n" + "".join(row.replace("name", "nom") for row in rows[:15]),
    )
    one = Task(dataset="file", train=str(tmp_path / "a.tsv"), test=str(tmp_path / "test.tsv"))
    other = Task(dataset="file", train=str(tmp_path / "b.tsv"))
    found = items(place, Suite("own", (one, SUITES["mixed"].alice[1]), (other, SUITES["mixed"].bob[1])))
    held = set(found["B1"].test.ids)
    assert len(held) == 3
    assert not held & {*found["A1"].train.ids, *found["B1"].train.ids}
    assert len(found["A1"].train.ids) == 12
    assert "train: 3 rows left out (held out in another task, by id)" in found["A1"].notes


def test_test_items_that_the_other_head_is_trained_on_are_told(place, tmp_path):
    """Given so by the user: three by their ids in other words, two by their words under other ids."""
    head = "id\ttext\tlabel\n"
    write_own(
        tmp_path,
        a_tsv=head + "".join(f"x{i}\tname {i}\t{i % 2}\n" for i in range(10)),
        test_tsv=head + "".join(f"x{i}\tname {i}\t{i % 2}\n" for i in range(10, 16)),
        b_tsv=head
        + "".join(f"x{i}\tnom {i}\t{i % 2}\n" for i in (10, 11, 12, 16))
        + "y1\tname 14\t0\ny2\tname 15\t1\n",
        other_tsv=head + "".join(f"z{i}\tautre {i}\t{i % 2}\n" for i in range(4)),
    )
    one, other = (
        Task(dataset="file", train=str(tmp_path / train), test=str(tmp_path / test))
        for train, test in (("a.tsv", "test.tsv"), ("b.tsv", "other.tsv"))
    )
    suite = Suite("own", (one, SUITES["mixed"].alice[1]), (other, SUITES["mixed"].bob[1]))
    every = {name: task._asdict() for name, task in items(place, suite).items()}
    assert seen_notes(suite, "A1", every) == ["test: 5 items are among the training items of B1, by id or text"]
    assert not any(seen_notes(suite, name, every) for name in ("A2", "B1", "B2"))


def test_test_items_that_are_told_are_those_that_are_taken(place, tmp_path):
    """Of few items fewer are trained on: all that there are had been counted."""
    head, rows = "id\ttext\tlabel\n", [f"\tname {i}\t{i % 2}\n" for i in range(10)]
    write_own(
        tmp_path,
        a_tsv=head + "".join(f"a{i}{row}" for i, row in enumerate(rows)),
        test_tsv=head + "".join(f"t{i}{row}" for i, row in enumerate(rows)),
    )
    one = Task(dataset="file", train=str(tmp_path / "a.tsv"), test=str(tmp_path / "test.tsv"))
    other = Task(dataset="file", train=str(tmp_path / "test.tsv"), test=str(tmp_path / "a.tsv"))
    (tmp_path / "suite.json").write_text(json.dumps({
        "name": "own",
        "alice": [{"dataset": "file", "train": one.train, "test": one.test}, {"dataset": "commonsense_qa"}],
        "bob": [{"dataset": "file", "train": other.train, "test": other.test}, {"dataset": "math_qa"}],
    }))  # fmt: skip
    for wanted in (2, 3, 4):
        found = place(tmp_path / "suite.json", items=wanted, test_items=wanted)
        number = {
            name: {split: {one[-1] for one in ids} for split, ids in own.items()} for name, own in found.ids.items()
        }
        expected = []
        own, heads = (len(number["A1"]["test"] & number[name]["train"]) for name in ("A1", "B1"))
        expected += [f"test: {own} texts are among the training texts too"] if own else []
        expected += [f"test: {heads} items are among the training items of B1, by id or text"] if heads else []
        assert [note for note in found.report()["tasks"]["A1"]["notes"] if "among" in note] == expected, wanted


def test_broken_files_of_a_user_are_one_line(place, tmp_path):
    for text, message in (
        ("text\tlabel\nyes\t3\n", r"a.tsv, line 2: label is '3'; allowed: 0, 1"),
        ("text\tlabel\nyes\t1\t1\n", r"a.tsv, line 2: has 3 columns; allowed: 2 \(text, label\)"),
        ("text\nyes\n", r"a.tsv: columns are text; allowed: text and label"),
        ("text\tlabel\n\t1\n", r"a.tsv, line 2: text is empty"),
        ("text\tlabel\nyes\t1\n", r"has 0 rows to train on and 1 to test on"),
        (None, r"a.tsv: cannot be read \(No such file"),
    ):
        (tmp_path / "a.tsv").write_text(text) if text else (tmp_path / "a.tsv").unlink()
        suite = Suite("own", (Task(dataset="file", train=str(tmp_path / "a.tsv")),) * 2, SUITES["mixed"].bob)
        with pytest.raises(DataError, match=message) as caught:
            items(place, suite)
        assert "\n" not in str(caught.value)
    for name in ("a.tsv", "b.tsv"):
        (tmp_path / name).write_text("id\ttext\tlabel\n7\tyes\t1\n")
    own = Task(dataset="file", train=str(tmp_path / "a.tsv"), test=str(tmp_path / "b.tsv"))
    with pytest.raises(DataError, match=r"b.tsv: 1 of its rows are in .*a.tsv too, by id \(as 7\)"):
        items(place, Suite("own", (own, own), SUITES["mixed"].bob))


SUITE_FILES = [
    ('{"alice": [{"dataset": "sst2"}], "bob": []}', "json", r"alice has 1 task\(s\); allowed: 2 for each party"),
    ('{"alice": [{"dataset": "imdb"}, {}], "bob": []}', "json", r"dataset=imdb: allowed: sst2"),
    ('{"alice": [{"set": "sst2"}], "bob": []}', "json", r"a task of alice has set; allowed: dataset, language"),
    ('{"alice": [{"dataset": 3}], "bob": []}', "json", r"dataset of a task of alice is 3; allowed: a text"),
    ('{"alice": "sst2", "bob": []}', "json", r"alice is not a list; allowed: a list of two tasks"),
    ('{"alice": [', "json", r"suite.json: is not JSON"),
    ("[]", "json", r"has list; allowed: name, alice, bob"),
    ("alice = [", "toml", r"suite.toml: is not TOML"),
    ('colour = "red"', "toml", r"has colour; allowed: name, alice, bob"),
    ('alice = [{ dataset = "paws_x" }]', "toml", r"language=none: allowed for paws_x: de, en"),
    ('alice = [{ dataset = "sst2", language = "en" }]', "toml", r"language=en: sst2 has none"),
    ('alice = [{ dataset = "file" }]', "toml", r"dataset=file: needs train"),
    (f"name = 0x{'f' * 5000}", "toml", r"name is a number of more than 4300 digits; allowed: a text"),
    (f"alice = [0x{'f' * 5000}]", "toml", r"a task of alice has a number of more than 4300 digits; allowed: dataset"),
    (
        f'alice = [{{ dataset = "file", right = 0x{"f" * 5000} }}]',
        "toml",
        r"right of a task of alice is a number of more",
    ),
    (
        f'alice = [{{ dataset = "file", train = 0x{"f" * 5000} }}]',
        "toml",
        r"train of a task of alice is a number of more",
    ),
]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            'alice = [{ dataset = "sst2" }, { dataset = "mrpc" }]\nbob = [{ dataset = "mrpc" }, { dataset = "sst2" }]',
            "toml",
        ),
        (
            '{"alice": [{"dataset": "sst2"}, {"dataset": "mrpc"}], "bob": [{"dataset": "mrpc"}, {"dataset": "sst2"}]}',
            "json",
        ),
    ],
)
def test_suites_that_an_editor_began_with_a_byte_order_mark(text, kind, tmp_path):
    (tmp_path / f"mine.{kind}").write_bytes(b"\xef\xbb\xbf" + text.encode())
    suite = open_suite(tmp_path / f"mine.{kind}")
    assert (suite.name, *(task.name for task in suite.tasks.values())) == ("mine", "sst2", "mrpc", "mrpc", "sst2")


@pytest.mark.parametrize(("text", "kind", "message"), SUITE_FILES)
def test_suites_that_are_not_whole_are_one_line(text, kind, message, tmp_path):
    path = tmp_path / f"suite.{kind}"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        open_suite(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [{"id": True}, {"id": 1.5}, {"id": ["x"]}, {"id": {}}, {"text2": 0}, {"text2": False}, {"text2": []},
     {"label": "\u0660"}, {"label": 0.9}, {"label": None}, {"label": [1]}],
)  # fmt: skip
def test_values_of_own_rows_are_not_made_texts_or_labels(tmp_path, row):
    write_own(tmp_path, own_jsonl=json.dumps({"text": "a", "label": 1, "id": "x"} | row) + "\n")
    with pytest.raises(DataError, match=rf"line 1: {next(iter(row))} is "):
        read_own(SourceFile("own.jsonl", (tmp_path / "own.jsonl").read_bytes()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairing": "sorted"}, "pairing=sorted: allowed: shuffled, aligned"),
        ({"form": "five"}, "form=five: allowed: balanced, all-options"),
        ({"items": 0}, "items=0: allowed: whole numbers from 1"),
        ({"test_items": 1.5}, "test_items=1.5: allowed: whole numbers from 1"),
        ({"seed": -1}, "seed=-1: allowed: whole numbers from 0"),
        ({"suite": "mixd"}, "suite=mixd: allowed: multilingual, mixed, or the path"),
        (
            {"suite": "multilingual", "form": "all-options"},
            "form=all-options: suite=multilingual has no multiple choice",
        ),
        ({"suite": "none.toml"}, re.escape("none.toml: cannot be read (No such file or directory)")),
    ],
)
def test_options_that_cannot_be_are_one_line(place, options, message):
    with pytest.raises(ConfigError, match=message):
        place(**({"suite": "mixed"} | options))


@pytest.mark.slow
@pytest.mark.skipif("NCSIM_DATA" not in os.environ, reason="NCSIM_DATA does not name a folder with the real files")
def test_real_files_make_the_papers_suites(place, tmp_path):
    source = {"source_dir": os.environ["NCSIM_DATA"], "cache_dir": tmp_path}
    multilingual = place("multilingual", pairing="aligned", **source).report()
    assert multilingual["items"] == {"train": 1556, "test": 389}
    assert not any(sum(counts.values()) for counts in multilingual["differing_labels"].values())
    mixed = place("mixed", **source).report()
    assert mixed["items"] == {"train": 4076, "test": 872}
    rates = {part: round(task["majority_rate"]["train"], 3) for part, task in mixed["tasks"].items()}
    assert rates == {"A1": 0.553, "A2": 0.5, "B1": 0.675, "B2": 0.5}
