"""A user's own tables, as other programs write them: each format gives the same rows, or one line says what is wrong."""

import csv
import decimal
import gzip
import io
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ncsim.errors import ConfigError, DataError
from ncsim.text.data import own_files
from ncsim.text.data.loading import own_rows
from ncsim.text.data.own_files import Columns, own_table
from ncsim.text.data.rows import read_own, read_rows
from ncsim.text.data.sources import SourceFile
from ncsim.text.data.suites import Task, open_suite

TEXTS = ['he said "good"', '"quoted whole"', "a, b; c", "two\nlines", "tab\there", "caf\u00e9", "plain"]
FRAME = pd.DataFrame({"text": TEXTS, "label": [n % 2 for n in range(len(TEXTS))]})


def table(delimiter, quoting=csv.QUOTE_MINIMAL, end="\n"):
    return FRAME.to_csv(index=False, sep=delimiter, quoting=quoting, lineterminator=end).encode()


def parquet(frame):
    sink = io.BytesIO()
    frame.to_parquet(sink)
    return sink.getvalue()


WRITTEN = {
    "comma": table(","),
    "comma, all quoted": table(",", csv.QUOTE_ALL),
    "comma, texts quoted": table(",", csv.QUOTE_NONNUMERIC),
    "semicolon": table(";"),
    "tab": table("\t"),
    "tab, all quoted": table("\t", csv.QUOTE_ALL),
    "tab, lines of Windows": table("\t", end="\r\n"),
    "tab, all quoted, lines of old Macs": table("\t", csv.QUOTE_ALL, end="\r"),
    "comma, byte order mark": b"\xef\xbb\xbf" + table(","),
    "tab, UTF-16": table("\t").decode().encode("utf-16"),
    "comma, gzip": gzip.compress(table(",")),
    "JSON array": FRAME.to_json(orient="records").encode(),
    "JSON array, indented": FRAME.to_json(orient="records", indent=2).encode(),
    "JSON lines": FRAME.to_json(orient="records", lines=True).encode(),
    "JSON lines, gzip": gzip.compress(FRAME.to_json(orient="records", lines=True).encode()),
    "Parquet": parquet(FRAME),
}


def test_own_files_are_read_as_the_data_sets_files_are():
    file = SourceFile("own.csv", WRITTEN["comma"])
    assert read_rows("file", file)[0] == read_own(file).rows


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_gives_the_same_rows(name):
    rows = read_own(SourceFile("own", WRITTEN[name])).rows
    assert [row.first for row in rows] == TEXTS
    assert [row.label for row in rows] == list(FRAME.label)


@pytest.mark.parametrize(
    "texts",
    [
        ['he said "good"', "plain"],  # bare marks: no program that quotes leaves them so
        ['"hello" he said', 'and she "hi"'],
        ['"begins here', 'ends there"'],
        ['it is 5" long', "plain"],
    ],
)
def test_a_table_without_quoting_keeps_its_marks(texts):
    content = "text\tlabel\n" + "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(texts))
    assert [row.first for row in read_own(SourceFile("own.tsv", content.encode())).rows] == texts


def test_a_table_that_is_quoted_in_part_is_refused():
    content = b'text\tlabel\n"he said ""good"""\t1\nshe said "bad"\t0\n'
    with pytest.raises(DataError, match=r"own.tsv: is written with quoting in part \(1 cells"):
        read_own(SourceFile("own.tsv", content))


def test_columns_are_parted_by_what_parts_the_head():
    """Of the first line that is not blank, and of no other: texts have commas."""
    for end in ("\n", "\r\n", "\r"):
        lines = ["", "\t", "text\tlabel", "a, b, c\t1", 'd; "e", f\t0', "g,,,\t1"]
        read = read_own(SourceFile("own.tsv", end.join(lines).encode()))
        assert [row.first for row in read.rows] == ["a, b, c", 'd; "e", f', "g,,,"], repr(end)
        assert read.notes == ["2 blank lines left out"]
        quoted = end.join(["text\tlabel", '"a ""b"" c"\t1', '"d, e, f, g"\t0', ""])
        both = [row.first for row in read_own(SourceFile("own.tsv", quoted.encode())).rows]
        assert both == ['a "b" c', "d, e, f, g"], repr(end)


def test_what_is_left_out_is_told():
    content = b'text\tlabel\tscore\n"a ""b"""\t1\t3\n\n  \t\t\nc\t0\t4\n'
    rows, _, notes, _ = read_own(SourceFile("own.tsv", content))
    assert len(rows) == 2
    assert notes == ["read as written with quoting", "2 blank lines left out", "columns that are not read: score"]


@pytest.mark.parametrize(
    ("labels", "right", "found"),
    [
        (["0", "1"], (), [0, 1]),
        (["False", "TRUE"], (), [0, 1]),
        (["0.0", "1.0"], (), [0, 1]),
        (["neg", "pos"], ("pos",), [0, 1]),
        (["entailment", "neutral", "contradiction"], ("entailment", "neutral"), [1, 1, 0]),
        (["1", "5", "3"], ("5",), [0, 1, 0]),
        (["1.0", "5.0", "3.0"], ("5",), [0, 1, 0]),
        (["1.0", "5.0", "3.0"], ("5.0",), [0, 1, 0]),
        (["-1.0", "2.5", "3.0"], ("-1", "2.5"), [1, 1, 0]),
        (["False", "True"], ("true",), [0, 1]),  # as the suite's `right = true` is read
    ],
)
def test_labels_as_they_are(labels, right, found):
    columns = Columns(right=right)
    as_table = "text,label\n" + "".join(f"a {n},{label}\n" for n, label in enumerate(labels))
    assert [row.label for row in read_own(SourceFile("own.csv", as_table.encode()), columns).rows] == found
    typed = pd.DataFrame({"text": list("abc")[: len(labels)], "label": labels})
    frames = [typed]
    if all(label.replace(".", "").removeprefix("-").isdigit() for label in labels):
        frames.append(typed.assign(label=typed.label.astype(float)))
    for frame in frames:
        content = frame.to_json(orient="records", lines=True).encode()
        assert [row.label for row in read_own(SourceFile("own.jsonl", content), columns).rows] == found


def test_a_class_that_no_row_has_is_not_every_row_wrong():
    """A class that is spelled otherwise had made a task of one class, on which all is right at once."""
    content = b"text,label\na,Positive\nb,Negative\nc,Neutral\n"
    with pytest.raises(DataError, match=r"own: label is never positive; .* which are Negative, Neutral, Positive$"):
        read_own(SourceFile("own", content), Columns(right=("positive",)))
    found = read_own(SourceFile("own", content), Columns(right=("Positive", "neutral")))
    assert [row.label for row in found.rows] == [1, 0, 0]
    assert found.notes == ["no row has the class neutral"]


def test_a_label_that_is_not_a_number_is_no_class():
    """As Parquet and JSON may have it where a label is missing."""
    for content in (b'{"text": "a", "label": 2}\n{"text": "b", "label": NaN}\n', parquet_of_nan()):
        with pytest.raises(DataError, match="label is empty; allowed: 2, or another class"):
            read_own(SourceFile("own", content), Columns(right=("2",)))


def parquet_of_nan():
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [2.0, float("nan")]}), sink)
    return sink.getvalue()


def test_columns_have_the_names_that_the_suite_gives(tmp_path):
    (tmp_path / "pairs.csv").write_text("uid,premise,hypothesis,gold\n7,a,b,yes\n8,c,d,no\n")
    (tmp_path / "suite.toml").write_text(
        'alice = [{dataset = "file", train = "pairs.csv", id = "uid", text = "premise", text2 = "hypothesis", '
        'label = "gold", right = "yes"}, {dataset = "sst2"}]\nbob = [{dataset = "mrpc"}, {dataset = "math_qa"}]\n'
    )
    task = open_suite(tmp_path / "suite.toml").tasks["A1"]
    rows = read_own(SourceFile("pairs.csv", (tmp_path / "pairs.csv").read_bytes()), task.columns).rows
    assert rows == [("7", "a", "b", 1), ("8", "c", "d", 0)]


def test_a_long_blank_line_before_the_head_is_passed_by_at_once():
    """Looked for from each of its spaces, the head of this file took minutes."""
    table = own_table(SourceFile("own", b" " * 100_000 + b"\ntext;label\na;1\n"), ("text", "label"))
    assert list(table.names) == ["text", "label"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\na,maybe\n", r"own, line 2: label is 'maybe'; allowed: 0, 1 \(or false, true\), or right = "),
        (b"text,label\na,0.5\n", "own, line 2: label is '0.5'"),
        (b"text,label\na,2\n", "own, line 2: label is '2'"),
        (b"texts,label\na,1\n", "own: columns are texts, label; allowed: text and label"),
        (b"text,label,label\na,1,0\n", "own, line 1: columns are text, label, label; allowed: each name once"),
        (b"text,label\na,1,0\n", r"own, line 2: has 3 columns; allowed: 2 \(text, label\)"),
        (b'text,label\n"a,1\n', "own: does not read as written with quoting"),
        (
            b"text,label\na,1\n" + b"a" * 140_000 + b",1\n",
            "own, line 3: a cell has more than 131,072 characters, or a quotation mark",
        ),
        (b'{"text": {"0": "a"}, "label": {"0": 1}}', "own, line 1: text is empty or no text"),
        (b'{\n "text": "a", "label": 1\n}', "own, line 1: is not JSON"),
        (b"[1, 2]", "own, line 1: is not an object; allowed: a CSV or TSV"),
        (b"PAR1broken", "own: is not a Parquet file that can be read"),
        (b"\x1f\x8bbroken", "own: is not a gzip file that can be read"),
        (b"\xff\xfeabc", "own: begins as UTF-16 text and is none"),
        (b"", "own: has no rows"),
    ],
)
def test_what_cannot_be_read_is_one_line(content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_own(SourceFile("own", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"text,label,id\na,1,0\nb,0,\n",
        b"text,label,id\na,1,0\nb,0, \n",
        b'{"text": "a", "label": 1, "id": 0}\n{"text": "b", "label": 0}\n',
        b'{"text": "a", "label": 1, "id": "0"}\n{"text": "b", "label": 0, "id": null}\n',
    ],
)
def test_some_rows_have_no_id_where_others_have(content):
    """The number of such a row would be an id, and pair it with a row of another file that it has nothing to do with."""
    with pytest.raises(DataError, match=r"own, line [23]: id is empty; allowed: an id in every row, or in none"):
        read_own(SourceFile("own", content))


def test_a_column_of_ids_that_is_empty_is_none():
    found = read_own(SourceFile("own", b"text,label,id\na,1,\nb,0,\n"))
    assert (found.has_ids, [row.id for row in found.rows]) == (False, ["0", "1"])
    spaced = read_own(SourceFile("own", b"text, label, id\na, 1, x7\n"))
    assert (spaced.has_ids, [row.id for row in spaced.rows]) == (True, ["x7"]), "as labels and texts, without its space"


def parquet_of_ids(ids):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, 0], "id": pa.array(ids)}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"text,label,id\na,1,7.0\nb,0,12.0\n",
        b'{"text": "a", "label": 1, "id": 7.0}\n{"text": "b", "label": 0, "id": 12}\n',
        parquet_of_ids([7.0, 12.0]),
    ],
)
def test_ids_that_a_program_wrote_as_decimals_are_the_whole_numbers_that_they_are(content):
    """As 7.0 they were no row of other files, so that what is held out there was trained on here."""
    found = read_own(SourceFile("own", content))
    assert (found.has_ids, [row.id for row in found.rows]) == (True, ["7", "12"])


def test_ids_that_are_not_all_decimals_stay_as_they_are():
    found = read_own(SourceFile("own", b"text,label,id\na,1,1.0\nb,0,1.1\nc,0,1\n"))
    assert [row.id for row in found.rows] == ["1.0", "1.1", "1"]
    for ids in ([1.0, 1.5], [1.0, 2.0**53], [1.0, float("inf")]):
        with pytest.raises(DataError, match=r"own, row 2: id is .*; allowed: a text or a whole number"):
            read_own(SourceFile("own", parquet_of_ids(ids)))


def test_a_column_of_ids_that_are_no_numbers_is_none():
    found = read_own(SourceFile("own", parquet_of_ids([float("nan")] * 2)))
    assert (found.has_ids, [row.id for row in found.rows]) == (False, ["0", "1"])
    with pytest.raises(DataError, match=r"own, row 2: id is empty; allowed: an id in every row, or in none"):
        read_own(SourceFile("own", parquet_of_ids([7.0, float("nan")])))


def test_a_file_to_test_on_may_have_one_class(tmp_path):
    """Where the file that is trained on has the other. One that is spelled otherwise is refused as before."""
    (tmp_path / "train.csv").write_text("text,label\na,yes\nb,no\n")
    (tmp_path / "test.csv").write_text("text,label\nc,no\nd,no\n")
    (tmp_path / "other.csv").write_text("text,label\nc,no\nd,Yes\n")
    train, test, other = (str(tmp_path / f"{name}.csv") for name in ("train", "test", "other"))
    found = own_rows(Task(dataset="file", train=train, test=test, right=("yes",)))
    assert [row.label for row in found.test] == [0, 0]
    assert found.notes == ["test: no row has the class yes"]
    with pytest.raises(DataError, match=r"other.csv: label is never yes"):
        own_rows(Task(dataset="file", train=train, test=other, right=("yes",)))
    with pytest.raises(DataError, match=r"test.csv: label is never yes"):
        own_rows(Task(dataset="file", train=test, test=train, right=("yes",)))


def test_labels_that_were_written_as_decimals():
    assert [row.label for row in read_own(SourceFile("own", b"text,label\na,1.00\nb,0.000\nc,-0.0\n")).rows] == [
        1,
        0,
        0,
    ]
    made = io.BytesIO()
    label = pa.array([decimal.Decimal(word) for word in ("0.00", "2.00", "1.50")])
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": label}), made)
    found = read_own(SourceFile("own", made.getvalue()), Columns(right=("2", "1.50")))
    assert [row.label for row in found.rows] == [0, 1, 1]


def test_classes_of_a_suite_may_be_numbers_of_any_kind(tmp_path):
    """As a column of floats has them; NaN and nothing are no class."""
    suite = tmp_path / "suite.toml"
    one = 'alice = [{dataset = "file", train = "own.csv", right = RIGHT}, {dataset = "sst2"}]\n'
    two = 'bob = [{dataset = "mrpc"}, {dataset = "math_qa"}]\n'
    suite.write_text(one.replace("RIGHT", '[2.0, 0.5, 3, true, "Yes"]') + two)
    assert open_suite(suite).alice[0].right == ("2", "0.5", "3", "true", "Yes")
    for nothing in ("[nan]", '["yes", " "]', "[[1]]"):
        suite.write_text(one.replace("RIGHT", nothing) + two)
        with pytest.raises(ConfigError, match="allowed: a label or a list"):
            open_suite(suite)


def test_half_a_surrogate_pair_is_a_replacement_character():
    lines = b'{"text": "cut \\ud83d", "label": 1}\n{"text": "whole \\ud83d\\ude00", "label": 0}\n'
    for content in (lines, b"[" + lines.strip().replace(b"\n", b",") + b"]"):
        rows = read_own(SourceFile("own", content)).rows
        assert [row.first for row in rows] == ["cut \ufffd", "whole \U0001f600"]


def test_options_of_a_file_are_refused_for_other_data_sets():
    with pytest.raises(ConfigError, match="label=gold: allowed: dataset=file"):
        Task(dataset="sst2", label="gold")
    with pytest.raises(ConfigError, match="text=: allowed: the name of a column"):
        Task(dataset="file", train="a.csv", text="")


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_what_is_no_items_is_not_kept(form):
    """A column that nobody asks for is 4 MB of a file of 4 MB: reading it takes little more than to hold the text once."""
    names, cells = (
        ["id", "text", "label", "notes"],
        [[str(n), f"text {n}", n % 2, f"{n} note " * 300] for n in range(2000)],
    )
    made = io.BytesIO()
    if form == "parquet":
        columns = dict(zip(names, zip(*cells, strict=True), strict=True))
        pq.write_table(
            pa.table({name: list(column) for name, column in columns.items()}),
            made,
            compression="none",
            use_dictionary=False,
        )
    else:
        text = io.TextIOWrapper(made, newline="", write_through=True)
        csv.writer(text, delimiter="," if form == "csv" else "\t").writerows([names, *cells])
    file = SourceFile("own", made.getvalue())
    assert len(file.content) > 4e6
    tracemalloc.start()
    try:
        found = read_own(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row.first for row in found.rows] == [f"text {n}" for n in range(2000)]
    assert found.notes == ["columns that are not read: notes"]
    assert peak < 1.5 * len(file.content)


def test_a_file_that_unpacks_to_too_much_is_refused_and_not_cut(monkeypatch):
    """Cut, it would be a shorter file that reads as well."""
    content = b"text,label\n" + b"a,1\n" * 10
    monkeypatch.setattr(own_files, "MAX_FILE", len(content))
    file = SourceFile("own.csv.gz", gzip.compress(content))
    assert len(list(own_table(file, ("text", "label")).rows)) == 10
    monkeypatch.setattr(own_files, "MAX_FILE", len(content) - 1)
    with pytest.raises(DataError, match=r"^own\.csv\.gz: unpacks to more than 50 bytes; allowed: at most that$"):
        own_table(file, ("text", "label"))


def test_a_head_with_as_many_commas_as_tabs_is_of_a_table_with_tabs():
    """Names and texts have commas, and nobody writes a tab into them."""
    found = own_table(
        SourceFile("own.tsv", b"text\tlabel\tsource, year, page\nOne, two, three\t1\tx\n"), ("text", "label")
    )
    assert found.names == ["text", "label", "source, year, page"]
    assert [row["text"] for _, row in found.rows] == ["One, two, three"]
